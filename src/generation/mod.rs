//! Generations: the records of applies, and the way back to one.
//!
//! A record lives on every control-plane node under `/var/lib/harden/generations/NUMBER/` (eight
//! digits), so that no admin's workstation is needed to finish, revert or roll back. Pre-images of
//! files stay on the node they came from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::apply::Read;
use crate::cluster::Holder;
use crate::host::Opener;
use crate::plan::{Plan, Step};

mod content;
mod file_state;
mod rollback;

pub use content::{covers, same_content};
pub use rollback::{
    Current, EncryptionFlag, Lookup, encryption_flag, rollback_lookup, rollback_plan,
};

/// The `schema` field of a record.
pub const SCHEMA: &str = "harden.dev/generation/v1";

/// The record of one apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// From 1, one more than the last.
    pub number: u64,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// What was to be done.
    pub plan: Plan,
    /// Who did it.
    pub holder: Holder,
    /// Unix seconds.
    pub started: u64,
    /// What happened, in order.
    pub journal: Vec<Entry>,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Unix seconds.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

/// What a journal tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The step of this number (from 1, in the order of [`Plan::steps`]) is about to be done.
    Begin(usize),
    /// It is done and its gate has passed.
    Done(usize),
    /// It was put back, and why.
    Reverted(usize, String),
    /// The whole apply ended.
    End(Outcome),
}

/// How an apply ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every step is done.
    Applied,
    /// It failed, and everything it did was put back.
    Reverted(String),
    /// It failed; the steps that are done stay, those that failed were put back.
    Stopped(String),
}

/// Returns the time as records have it: Unix seconds.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

impl Record {
    /// Returns how it ended; `None` while it runs or when it was interrupted.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.journal.iter().rev().find_map(|e| match &e.event {
            Event::End(outcome) => Some(outcome),
            _ => None,
        })
    }
}

impl Record {
    /// Returns the numbers of the steps that are done and were not put back, in their order.
    pub fn done(&self) -> Vec<usize> {
        let mut done = std::collections::BTreeSet::new();
        for entry in &self.journal {
            match &entry.event {
                Event::Done(number) => {
                    done.insert(*number);
                }
                Event::Reverted(number, _) => {
                    done.remove(number);
                }
                Event::Begin(_) | Event::End(_) => {}
            }
        }
        done.into_iter().collect()
    }
}

/// Returns the number of a step's first file among all files of the plan's transactions on that
/// node: the first index of its pre-images. 0 for a step that is not on a node.
pub fn first_index(plan: &Plan, number: usize) -> usize {
    let steps: Vec<&Step> = plan.steps().map(|(_, step)| step).collect();
    let Some(Step::Node(this)) = number.checked_sub(1).and_then(|at| steps.get(at)) else {
        return 0;
    };
    let earlier = steps.iter().take(number - 1).filter_map(|step| match step {
        Step::Node(step) if step.node == this.node => Some(step.files.len()),
        _ => None,
    });
    earlier.sum()
}

/// The generations that some nodes know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generations {
    /// The newest copy of each record, oldest generation first.
    pub records: Vec<Record>,
    /// The records of which no node has a usable copy: why, by number and node.
    pub unreadable: BTreeMap<u64, BTreeMap<String, String>>,
    /// The nodes that could not be asked, and why.
    pub unread: BTreeMap<String, String>,
}

impl Generations {
    /// Returns the generation that has not ended: it runs, or it was interrupted.
    pub fn unfinished(&self) -> Option<&Record> {
        self.records.iter().find(|r| r.outcome().is_none())
    }

    /// Returns the newest generation that left something to roll back.
    pub fn last_applied(&self) -> Option<&Record> {
        let mut newest_first = self.records.iter().rev();
        newest_first.find(|record| !record.done().is_empty())
    }

    /// Returns the newest generation whose record cannot be read, and why, if it may have left
    /// something after [`Generations::last_applied`].
    pub fn unreadable_after_last_applied(&self) -> Option<(u64, String)> {
        let number = *self.unreadable.keys().next_back()?;
        let last = self.last_applied().map_or(0, |record| record.number);
        Some((number, self.why_unreadable(number)?)).filter(|_| number > last)
    }

    /// Returns why no copy of a record can be read; `None` when there is no such record.
    pub fn why_unreadable(&self, number: u64) -> Option<String> {
        let copies = self.unreadable.get(&number)?.iter();
        let copies: Vec<String> = copies.map(|(node, why)| format!("{node}: {why}")).collect();
        Some(copies.join("; "))
    }
}

/// Reads the generations from the control-plane nodes. Takes no lock and writes nothing.
pub fn list(hosts: &Opener<'_>, control_planes: &[String]) -> Generations {
    read(hosts, control_planes, Read::All)
}

/// The same, of those only that have not ended. The record of a large apply is long, and nobody needs the
/// others to know what is going on.
pub fn list_open(hosts: &Opener<'_>, control_planes: &[String]) -> Generations {
    read(hosts, control_planes, Read::Open)
}

fn read(hosts: &Opener<'_>, control_planes: &[String], which: Read) -> Generations {
    let names = control_planes.iter().cloned();
    let (past, failed) = crate::apply::read_all(hosts, names, |_| true, which);
    Generations {
        records: past.records.into_values().collect(),
        unreadable: past.unreadable,
        unread: failed
            .into_iter()
            .map(|(name, error)| (name, error.to_string()))
            .collect(),
    }
}
