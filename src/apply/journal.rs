//! The journal: written to every control-plane node that answers, read from all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Holder;
use crate::generation::{Entry, Event, Record};
use crate::host::Opener;

use super::node::{Client, Listed, NodeError, plain};
use super::session::Session;
use crate::generation::now;

/// Beyond every number that has its place in eight digits.
const MAX_GENERATION: u64 = 99_999_999;

/// What all nodes know of the past.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The newest copy of each record, by number.
    pub(crate) records: BTreeMap<u64, Record>,
    /// Why no node has a usable copy of a record, by number and node.
    pub(crate) unreadable: BTreeMap<u64, BTreeMap<String, String>>,
    /// The generations that were not read, since some node knows that they have ended.
    ended: BTreeSet<u64>,
    /// The transactions on each node.
    pub(crate) steps: BTreeMap<String, Vec<Listed>>,
}

/// Which records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// All.
    All,
    /// Those of runs that have not ended: a record can be large, and there may be many.
    Open,
}

impl Past {
    /// The number of the next generation.
    pub(super) fn next(&self) -> u64 {
        let steps = self.steps.values().flatten().map(|s| s.generation);
        // A number that no run can have come to is not believed.
        let steps = steps.filter(|number| *number < MAX_GENERATION).max();
        // The number of a record that cannot be read is taken too, or that record would be lost.
        let records = self.records.keys().next_back().copied();
        let unreadable = self.unreadable.keys().next_back().copied();
        let ended = self.ended.last().copied();
        steps.max(records).max(unreadable).max(ended).unwrap_or(0) + 1
    }

    /// The newest generation that was begun and has not ended.
    pub(super) fn interrupted(&self) -> Option<&Record> {
        let open = |r: &&Record| r.outcome().is_none() && !self.ended.contains(&r.number);
        self.records.values().rev().find(open)
    }

    /// Drops what another node knows to have ended.
    fn forget_ended(&mut self) {
        let Past {
            records,
            unreadable,
            ended,
            ..
        } = self;
        records.retain(|number, _| !ended.contains(number));
        unreadable.retain(|number, _| !ended.contains(number));
    }

    /// Adds what one node knows. Records count where they are kept only: what a worker says was
    /// interrupted must not be executed on a control plane.
    fn add(
        &mut self,
        name: &str,
        client: &mut Client<'_>,
        keeps: bool,
        read: Read,
    ) -> Result<(), NodeError> {
        let (generations, steps) = client.list()?;
        self.steps.insert(name.to_owned(), steps);
        for (number, has_ended) in generations.into_iter().filter(|_| keeps) {
            if has_ended && read == Read::Open {
                self.ended.insert(number);
                self.unreadable.remove(&number);
            }
            if self.ended.contains(&number) {
                continue;
            }
            // A copy that was cut off or edited must not hide the good ones of other nodes.
            let record = match read_record(client, number) {
                Ok(record) => record,
                Err(why) => {
                    if !self.records.contains_key(&number) {
                        let copies = self.unreadable.entry(number).or_default();
                        copies.insert(name.to_owned(), plain(&why));
                    }
                    continue;
                }
            };
            self.unreadable.remove(&number);
            let newest = match self.records.get(&number) {
                Some(known) => age(&record) > age(known),
                None => true,
            };
            if newest {
                self.records.insert(number, record);
            }
        }
        Ok(())
    }
}

/// The newer of two copies is the one that was written last, and then the longer.
fn age(record: &Record) -> (u64, usize) {
    let last = record.journal.last().map_or(record.started, |e| e.at);
    (last, record.journal.len())
}

/// Reads a record with its journal from one node.
pub(super) fn read_record(client: &mut Client<'_>, number: u64) -> Result<Record, String> {
    let text = client.read(number).map_err(|e| e.to_string())?;
    let mut lines = text.lines();
    let mut record: Record = serde_json::from_str(lines.next().unwrap_or_default())
        .map_err(|e| format!("`record` is damaged: {e}"))?;
    if record.number != number {
        return Err(format!("it says that it is number {}", record.number));
    }
    record.journal = lines
        .map(|line| {
            serde_json::from_str::<Entry>(line).map_err(|e| format!("`journal` is damaged: {e}"))
        })
        .collect::<Result<_, _>>()?;
    Ok(record)
}

/// Reads the past from nodes through fresh hosts, without any lock. Nodes that cannot be used are
/// returned with the reason.
pub(crate) fn read_all(
    hosts: &Opener<'_>,
    nodes: impl Iterator<Item = String>,
    keeps: impl Fn(&str) -> bool,
    read: Read,
) -> (Past, BTreeMap<String, NodeError>) {
    let (mut past, mut failed) = (Past::default(), BTreeMap::new());
    for name in nodes {
        let result = hosts(&name).map_err(NodeError::from).and_then(|mut host| {
            // Reading needs no lock, so no holder.
            past.add(
                &name,
                &mut Client::new(host.as_mut(), ""),
                keeps(&name),
                read,
            )
        });
        if let Err(error) = result {
            failed.insert(name, error);
        }
    }
    past.forget_ended();
    (past, failed)
}

impl Session<'_, '_> {
    /// Reads the past from every node that is locked; `keeps` says which of them keep records.
    pub(super) fn past(&mut self, keeps: impl Fn(&str) -> bool) -> Result<Past, NodeError> {
        let mut past = Past::default();
        for name in self.locked.clone() {
            past.add(&name, &mut self.node(&name)?, keeps(&name), Read::Open)?;
        }
        past.forget_ended();
        Ok(past)
    }

    /// Writes a record and its journal to every locked control-plane node.
    ///
    /// # Errors
    /// When one of them fails: at the start all of them must have it.
    pub(super) fn write_record(&mut self, record: &Record) -> Result<(), NodeError> {
        let head = Record {
            journal: Vec::new(),
            ..record.clone()
        };
        let mut line = serde_json::to_vec(&head).unwrap_or_default();
        line.push(b'\n');
        let journal = lines(record);
        for name in self.keepers(record) {
            let mut node = self.node(&name)?;
            // The journal first: a record without one would count as interrupted.
            node.put(record.number, "journal", &journal)?;
            node.put(record.number, "record", &line)?;
        }
        Ok(())
    }

    /// Adds to the journal on every control-plane node that answers. The whole journal is written,
    /// so a node that missed an entry has it after the next.
    ///
    /// # Errors
    /// When none takes it.
    pub(super) fn journal(
        &mut self,
        record: &mut Record,
        events: impl Iterator<Item = Event>,
    ) -> Result<(), String> {
        let at = now();
        record
            .journal
            .extend(events.map(|event| Entry { at, event }));
        let journal = lines(record);
        let (mut kept, mut failed) = (0, Vec::new());
        for name in self.keepers(record) {
            let result = self
                .node(&name)
                .and_then(|mut node| node.put(record.number, "journal", &journal));
            match result {
                Ok(()) => kept += 1,
                Err(error) => failed.push(error.to_string()),
            }
        }
        if kept > 0 {
            return Ok(());
        }
        Err(format!(
            "no control-plane node takes the journal: {}",
            failed.join("; ")
        ))
    }

    /// The control-plane nodes of the plan whose lock is held.
    fn keepers(&self, record: &Record) -> Vec<String> {
        let planes = record.plan.nodes.iter().filter(|(_, plane)| **plane);
        planes
            .map(|(name, _)| name.clone())
            .filter(|name| self.locked.contains(name))
            .collect()
    }

    pub(super) fn holder(&self) -> Holder {
        self.apply.holder.clone()
    }
}

fn lines(record: &Record) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in &record.journal {
        text.extend(serde_json::to_vec(entry).unwrap_or_default());
        text.push(b'\n');
    }
    text
}
