//! A session: the open hosts, the locks, and what is told to the user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::cluster::{ApiError, Holder};
use crate::fact::ledger::Ledger;
use crate::fact::{NodeFacts, Query};
use crate::generation::now;
use crate::host::{Host, HostError};

use super::node::{Client, Code, NodeError};
use super::planes::Planes;
use super::{Apply, ApplyError, Notice};

/// How a node's lock is taken: for the holder of this line, and from the holder of that one.
type TakeLock = fn(&mut Client<'_>, &str, Option<&str>) -> Result<(), NodeError>;

/// What a run holds open.
pub(super) struct Session<'s, 'a> {
    pub(super) apply: &'s mut Apply<'a>,
    hosts: BTreeMap<String, Box<dyn Host>>,
    /// The line under which the locks are held.
    holder: String,
    /// The nodes whose lock is held.
    pub(super) locked: BTreeSet<String>,
    api_locked: bool,
    /// When the lease was taken or last tried to be renewed.
    renewed: Instant,
    pub(super) notes: Vec<String>,
    pub(super) planes: Planes,
    /// The ledger, as it was before the first step with what the steps add.
    pub(super) ledger: Ledger,
}

impl<'s, 'a> Session<'s, 'a> {
    pub(super) fn new(apply: &'s mut Apply<'a>) -> Self {
        let holder = serde_json::to_string(&apply.holder).unwrap_or_default();
        Session {
            apply,
            hosts: BTreeMap::new(),
            holder,
            locked: BTreeSet::new(),
            api_locked: false,
            renewed: Instant::now(),
            notes: Vec::new(),
            planes: Planes::default(),
            ledger: Ledger::default(),
        }
    }

    /// Returns the host of a node; opened once.
    pub(super) fn host(&mut self, name: &str) -> Result<&mut dyn Host, HostError> {
        if !self.hosts.contains_key(name) {
            let host = (self.apply.hosts)(name)?;
            self.hosts.insert(name.to_owned(), host);
        }
        match self.hosts.get_mut(name) {
            Some(host) => Ok(host.as_mut()),
            None => unreachable!("it was inserted above"),
        }
    }

    pub(super) fn node(&mut self, name: &str) -> Result<Client<'_>, NodeError> {
        let holder = self.holder.clone();
        Ok(Client::new(self.host(name)?, &holder))
    }

    /// Asks the probe.
    pub(super) fn look(&mut self, name: &str, queries: &[Query]) -> Result<NodeFacts, String> {
        let look = self.apply.look;
        let host = self.host(name).map_err(|e| e.to_string())?;
        look(host, queries)
    }

    /// Drops the connection of a node, so that the next call proves that it lets people in.
    pub(super) fn disconnect(&mut self, name: &str) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.disconnect();
        }
    }

    pub(super) fn interrupted(&self) -> bool {
        self.apply.interrupted.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&mut self, notice: Notice<'_>) {
        self.apply.progress.tell(notice);
    }

    pub(super) fn note(&mut self, text: String) {
        self.tell(Notice::Note(&text));
        self.notes.push(text);
    }

    pub(super) fn nap(&self) {
        std::thread::sleep(self.apply.settings.poll);
    }

    /// Takes the lease in the API.
    pub(super) fn lock_api(&mut self) -> Result<(), ApiError> {
        let result = {
            let settings = &self.apply.settings;
            self.apply.api.lock(&self.apply.holder, settings.take_over)
        };
        self.api_locked = result.is_ok();
        self.renewed = Instant::now();
        result
    }

    /// Renews the lease, so that it outlasts a long run. An API that does not answer changes
    /// nothing: the lease lasts, and so do the locks on the nodes.
    pub(super) fn renew(&mut self) {
        if !self.api_locked {
            return;
        }
        self.renewed = Instant::now();
        let renewed = self.apply.api.renew(&self.apply.holder);
        if let Err(error @ (ApiError::Locked { .. } | ApiError::Foreign { .. })) = renewed {
            // Stopping halfway would be worse, and no other run gets the locks of the nodes.
            self.api_locked = false;
            self.note(format!(
                "the lock in the API is lost: {error}; the locks on the nodes still hold"
            ));
        }
    }

    /// The same while something is waited for, now and then.
    pub(super) fn renew_in_time(&mut self) {
        if self.renewed.elapsed() >= self.apply.settings.renew_after {
            self.renew();
        }
    }

    /// Takes a node's lock, also from a holder that is known to be dead.
    pub(super) fn lock(&mut self, name: &str) -> Result<(), ApplyError> {
        self.take_lock(name, |node, line, from| node.lock(line, from))
    }

    /// The same for who ends a restore of etcd that is open on the node; nobody else gets the lock meanwhile.
    pub(super) fn lock_to_end_restore(&mut self, name: &str) -> Result<(), ApplyError> {
        self.take_lock(name, |node, line, from| {
            node.lock_to_end_restore(line, from)
        })
    }

    fn take_lock(&mut self, name: &str, take: TakeLock) -> Result<(), ApplyError> {
        let line = self.holder.clone();
        let taken = match take(&mut self.node(name)?, &line, None) {
            Err(NodeError::Refused {
                code: Code::Locked,
                message,
                ..
            }) => {
                let other = self.displaced(name, &message)?;
                self.note(format!(
                    "the lock of {name} was taken over from {}, whose process {} is gone",
                    other.who, other.pid
                ));
                take(&mut self.node(name)?, &line, Some(&message))
            }
            other => other,
        };
        taken?;
        self.locked.insert(name.to_owned());
        Ok(())
    }

    /// Decides whether a lock may be taken over from this holder.
    fn displaced(&self, node: &str, line: &str) -> Result<Holder, ApplyError> {
        // A line that is no holder was not written by this program: nobody can be told dead.
        let other: Holder = serde_json::from_str(line).unwrap_or(Holder {
            who: "somebody unknown".into(),
            machine: String::new(),
            pid: 0,
            start: 0,
            since: 0,
        });
        if other.is_gone() || self.apply.settings.take_over {
            return Ok(other);
        }
        Err(ApplyError::Locked {
            node: node.to_owned(),
            age: now().saturating_sub(other.since),
            holder: other,
        })
    }

    /// Gives every lock back; what cannot be given back is told.
    pub(super) fn unlock(&mut self) {
        for name in std::mem::take(&mut self.locked) {
            let result = self.node(&name).and_then(|mut node| node.unlock());
            if let Err(error) = result {
                self.note(format!(
                    "the lock of {name} could not be given back: {error}; the next run from this \
                     machine takes it over"
                ));
            }
        }
        if !std::mem::take(&mut self.api_locked) {
            return;
        }
        for attempt in 1.. {
            match self.apply.api.unlock(&self.apply.holder) {
                Ok(()) => return,
                Err(error) if attempt == 5 => {
                    self.note(format!(
                        "the lock in the API could not be given back: {error}; it expires by itself"
                    ));
                    return;
                }
                Err(_) => self.nap(),
            }
        }
    }
}
