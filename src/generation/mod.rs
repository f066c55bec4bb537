//! Generations: the records of applies, and the way back to one.
//!
//! A record lives on every control-plane node under `/var/lib/harden/generations/NUMBER/`, so that
//! no admin's workstation is needed to finish, revert or roll back. Pre-images of files stay on the
//! node they came from.

use serde::{Deserialize, Serialize};

use crate::cluster::Holder;
use crate::plan::Plan;

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

impl Record {
    /// Returns how it ended; `None` while it runs or when it was interrupted.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.journal.iter().rev().find_map(|e| match &e.event {
            Event::End(outcome) => Some(outcome),
            _ => None,
        })
    }
}
