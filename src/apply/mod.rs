//! Apply: executes a plan, stage by stage, behind gates, and puts back what fails.
//!
//! The order of a run: locks (the API's lease, then every node's) → the record on every
//! control-plane node → every node step staged, which proves before-states, room and permission
//! before anything is changed → step by step: journal, activate, gate, commit over a fresh
//! connection, journal.
//!
//! When a step fails, its node is put back, and so are the nodes that did the same `uniform` step
//! in the same stage, each behind the gate of its old command line. What earlier stages did stays:
//! it passed its own gate, and a rollback is a plan of its own that a person can look at first.
//! [`Outcome::Stopped`](crate::generation::Outcome::Stopped) lists it; when nothing stays, the
//! outcome is [`Outcome::Reverted`](crate::generation::Outcome::Reverted).
//!
//! A node that cannot be reached reverts itself: the watchdog started by the activation runs on it
//! and only [`Client::commit`](node::Client::commit) over a fresh connection ends it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::cluster::{Api, Holder};
use crate::fact::{NodeFacts, Query};
use crate::generation::Record;
use crate::host::{Host, Opener};
use crate::plan::{Plan, StageName};

mod certificate;
mod encryption;
mod error;
mod etcd;
mod gate;
mod health;
mod journal;
mod keys;
mod ledger;
mod mirror;
pub mod node;
mod planes;
mod recover;
mod run;
mod session;
mod step;
mod together;

pub use encryption::{Course, NewKey, Reached, Trouble, Until, Workstation, new_form};
pub use error::ApplyError;
pub use etcd::{
    Defragmented, EtcdError, OpenRestore, Restored, fetch, open_restore, scan, snapshot, snapshots,
};
pub(crate) use journal::{Read, read_all};
pub use keys::KeyError;

/// Asks a node: the probe. The reason is one line for a reader.
pub type Look<'a> = dyn Fn(&mut dyn Host, &[Query]) -> Result<NodeFacts, String> + 'a;

/// Bounds and choices of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a changed node may take to pass its gate.
    pub gate_timeout: Duration,
    /// How long a gate must hold before it counts as passed.
    pub gate_hold: Duration,
    /// The pause between two looks.
    pub poll: Duration,
    /// How long an API that does not answer is waited for, when a step needs it.
    pub api_timeout: Duration,
    /// How long the watchdog waits beyond the gate's time before it puts a node back.
    pub watchdog_margin: Duration,
    /// After how long a wait the lease in the API is renewed.
    pub renew_after: Duration,
    /// Whether to take locks over from holders that cannot be told dead.
    pub take_over: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            gate_timeout: Duration::from_secs(180),
            gate_hold: Duration::from_secs(3),
            poll: Duration::from_secs(1),
            api_timeout: Duration::from_secs(60),
            watchdog_margin: Duration::from_secs(60),
            renew_after: Duration::from_secs(60),
            take_over: false,
        }
    }
}

/// What a run tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice<'n> {
    /// A stage begins.
    Stage {
        /// Which.
        name: StageName,
        /// How many steps it has.
        steps: usize,
    },
    /// A step begins.
    Step {
        /// Its number, from 1.
        number: usize,
        /// The number of steps of the plan.
        total: usize,
        /// Its title.
        title: &'n str,
    },
    /// Steps that are done several at a time have come so far.
    Together {
        /// The number of the first of them, from 1.
        first: usize,
        /// The number of the last.
        last: usize,
        /// The number of steps of the plan.
        total: usize,
        /// How many of them are done.
        done: usize,
    },
    /// A gate is waited for.
    Gate {
        /// On which node.
        node: &'n str,
        /// For what.
        what: &'n str,
        /// Since when.
        elapsed: Duration,
    },
    /// A step is done and its gate has passed.
    Done {
        /// Its number.
        number: usize,
    },
    /// A step is being put back.
    Reverting {
        /// Its number.
        number: usize,
        /// Its title.
        title: &'n str,
        /// Why.
        why: &'n str,
    },
    /// Something worth knowing.
    Note(&'n str),
}

/// Hears what a run tells.
pub trait Progress {
    /// Is told something. Called often; must return quickly.
    fn tell(&mut self, notice: Notice<'_>);
}

/// How an apply ended that did everything it was to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The record.
    pub record: Record,
    /// In a line: what was done, also of a run that was interrupted before.
    pub summary: String,
    /// Whatever else should be known.
    pub notes: Vec<String>,
}

/// Executes plans.
pub struct Apply<'a> {
    /// How to reach the nodes.
    pub hosts: &'a Opener<'a>,
    /// The API.
    pub api: &'a dyn Api,
    /// The probe.
    pub look: &'a Look<'a>,
    /// In whose name the locks are taken; see [`Holder::current`].
    pub holder: Holder,
    /// Bounds and choices.
    pub settings: Settings,
    /// Set when the user interrupts.
    pub interrupted: &'a AtomicBool,
    /// Hears what happens.
    pub progress: &'a mut dyn Progress,
    /// What encryption needs; without it no step of it can be done.
    pub workstation: Option<&'a mut dyn Workstation>,
}

impl Apply<'_> {
    /// Executes a plan, and nothing else.
    ///
    /// # Errors
    /// Whatever kept it from being applied whole; the error says what state things are in.
    pub fn run(&mut self, plan: &Plan) -> Result<Report, ApplyError> {
        run::run(self, plan)
    }

    /// Finishes or reverts an apply that was interrupted; `None` when there is none. `nodes` is the
    /// inventory: name, and whether it is a control plane.
    ///
    /// It finishes when the steps that are left still find what the plan found. It reverts when a
    /// gate fails, when the interrupted run was reverting itself, and when nothing was begun.
    ///
    /// # Errors
    /// When a node that is concerned cannot be used, or when it was reverted or stopped.
    pub fn recover(
        &mut self,
        nodes: &BTreeMap<String, bool>,
    ) -> Result<Option<Report>, ApplyError> {
        recover::recover(self, nodes)
    }
}
