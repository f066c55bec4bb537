//! Why an apply did not do what it was to do, and in which state it left the cluster.

use crate::cluster::{ApiError, Holder};
use crate::generation::{Outcome, Record};
use crate::host::HostError;
use crate::plan::Step;

use super::node::{Code, NodeError};

/// What to do about a lock that this program did not write.
const FOREIGN: &str = "find out who wrote it (`kubectl -n kube-system get lease harden -o yaml`); \
                       when nobody needs it, delete it, or `--take-over` takes it";

/// What to do about a restore of etcd that is open.
const RESTORING: &str = "wait until it has ended; where the node has restarted meanwhile it does not end by itself: \
                         `harden etcd restore` ends it first, or see docs/etcd.md, \"By hand\"";

/// Why an apply ended other than applied. Every one says what state things are in.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Before anything was changed: a node cannot be used.
    #[error("{0}; nothing was changed")]
    Host(#[from] HostError),
    /// Before anything was changed: a node's script refused.
    #[error("{0}; nothing was changed")]
    Node(#[from] NodeError),
    /// Before anything was changed: the API cannot be used.
    #[error("{0}; nothing was changed")]
    Api(#[from] ApiError),
    /// The plan is for another cluster.
    #[error(
        "the plan is for the cluster with the id {planned}, this one is {found}; nothing was changed"
    )]
    Cluster {
        /// The uid of kube-system in the plan.
        planned: String,
        /// The uid of kube-system here.
        found: String,
    },
    /// Before anything was changed: a control plane is not well.
    #[error("{what}; nothing was changed")]
    Unwell {
        /// Which, and what it answered.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// Before anything was changed: no snapshot of etcd could be taken and verified.
    #[error("no snapshot of etcd could be taken: {what}; nothing was changed")]
    NoSnapshot {
        /// Where, and what happened.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// Somebody else applies, or a run that cannot be told dead left its lock.
    #[error("{} holds the lock of {node} for {age} s (process {}); nothing was changed", holder.who, holder.pid)]
    Locked {
        /// The node.
        node: String,
        /// Who.
        holder: Holder,
        /// Since how many seconds.
        age: u64,
    },
    /// An earlier apply was interrupted and must be finished or put back first.
    #[error("generation {0} was interrupted; nothing was changed")]
    Interrupted(u64),
    /// The plan is stale: this has moved since it was made.
    #[error("{what}; the plan is stale and nothing was changed")]
    Stale {
        /// What moved, with its node.
        what: String,
        /// The record of the attempt.
        record: Box<Record>,
        /// Whatever else should be known.
        notes: Vec<String>,
    },
    /// A step failed. The record says what was put back and what stays.
    #[error("{}", failed(*generation, message, outcome.as_ref()))]
    Failed {
        /// The generation.
        generation: u64,
        /// What failed, and in which state its node is.
        message: String,
        /// How the generation ended; `None` when a later run has to finish or revert it.
        outcome: Option<Outcome>,
        /// The record as it is now.
        record: Box<Record>,
        /// Whatever else should be known.
        notes: Vec<String>,
    },
}

impl ApplyError {
    /// Returns what to do about it.
    pub fn remedy(&self) -> String {
        match self {
            ApplyError::Host(error) | ApplyError::Node(NodeError::Host(error)) => {
                error.remedy().to_owned()
            }
            ApplyError::Node(NodeError::Refused {
                code: Code::Restoring,
                ..
            }) => RESTORING.into(),
            ApplyError::Node(_) => "repair what the node reports, then apply again".into(),
            ApplyError::Api(ApiError::Config { remedy, .. }) => remedy.clone(),
            ApplyError::Api(ApiError::Locked { .. }) => {
                "wait until the other run has ended, then apply again; when it is surely gone, \
                 `--take-over` takes its locks"
                    .into()
            }
            ApplyError::Api(ApiError::Foreign { .. }) => FOREIGN.into(),
            ApplyError::Api(_) => "apply again when the API server answers".into(),
            ApplyError::Cluster { .. } => {
                "choose the context of the plan's cluster, or make a new plan".into()
            }
            ApplyError::Unwell { remedy, .. } | ApplyError::NoSnapshot { remedy, .. } => {
                remedy.clone()
            }
            ApplyError::Locked { .. } => {
                "wait until that run has ended; when it is surely gone, `harden apply --take-over` \
                 takes its locks, and finishes or reverts what it left"
                    .into()
            }
            ApplyError::Interrupted(_) => {
                "run `harden apply`: it finishes or reverts that generation first".into()
            }
            ApplyError::Stale { .. } => "make a new plan".into(),
            ApplyError::Failed {
                outcome: Some(Outcome::Stopped(_)),
                record,
                ..
            } if stopped_at_encryption(record) => {
                "run `harden apply` again: it goes on from what is there; `harden encryption disable` is \
                 the way back, and a rollback is not"
                    .into()
            }
            ApplyError::Failed {
                outcome: Some(Outcome::Stopped(_)),
                generation,
                ..
            } => format!(
                "`harden rollback {generation}` puts the steps back that stay; or correct the \
                 profile and apply again"
            ),
            ApplyError::Failed {
                outcome: Some(_), ..
            } => "correct what failed, then plan and apply again".into(),
            ApplyError::Failed { outcome: None, .. } => {
                "run `harden apply` when the node answers: it finishes or reverts this generation"
                    .into()
            }
        }
    }
}

/// Whether the first step that is not done is one of encryption, which no rollback undoes.
fn stopped_at_encryption(record: &Record) -> bool {
    let done = record.done();
    let mut steps = (1..).zip(record.plan.steps());
    let first = steps.find(|(number, _)| !done.contains(number));
    first.is_some_and(|(_, (_, step))| matches!(step, Step::Encryption(_)))
}

fn failed(generation: u64, message: &str, outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::Applied) => message.to_owned(),
        Some(Outcome::Reverted(_)) => {
            format!("{message}\neverything that generation {generation} did was put back")
        }
        // The reason in the record begins with the same words.
        Some(Outcome::Stopped(why)) => {
            let stays = why.strip_prefix(message).unwrap_or(why).trim_start();
            format!("{message}\ngeneration {generation} stopped; {stays}")
        }
        None => format!("{message}\ngeneration {generation} is not finished"),
    }
}
