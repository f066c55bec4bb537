//! etcd's data: snapshots of it, and what is done with them.
//!
//! All of it goes by one constant script (`etcd.sh`) and etcd's own programs, which the node has in etcd's
//! image. A snapshot stays on its node, readable by root only; it holds every Secret.

use crate::fact::snapshot::{Reason, Snapshot};
use crate::host::{Host, HostError};

use super::ApplyError;
use super::node::NodeError;
use node::EtcdNode;

mod before;
mod defragment;
mod node;
mod open;
mod restore;

pub use defragment::{Defragmented, scan};
pub use open::{OpenRestore, open_restore};
pub use restore::Restored;

/// Why something of etcd's data could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A node could not be used, or refused.
    #[error(transparent)]
    Node(NodeError),
    /// Before anything was done: a lock is held, or an apply was interrupted.
    #[error(transparent)]
    Apply(Box<ApplyError>),
    /// Anything else: what happened, and in which state things are.
    #[error("{what}")]
    Other {
        /// What happened.
        what: String,
        /// What to do about it.
        remedy: String,
    },
}

impl From<NodeError> for EtcdError {
    fn from(error: NodeError) -> Self {
        EtcdError::Node(error)
    }
}

impl From<HostError> for EtcdError {
    fn from(error: HostError) -> Self {
        EtcdError::Node(NodeError::Host(error))
    }
}

impl From<ApplyError> for EtcdError {
    fn from(error: ApplyError) -> Self {
        EtcdError::Apply(Box::new(error))
    }
}

impl EtcdError {
    fn other(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        EtcdError::Other {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// Returns what to do about it.
    pub fn remedy(&self) -> String {
        match self {
            EtcdError::Node(error) => node::remedy(error),
            EtcdError::Apply(error) => error.remedy(),
            EtcdError::Other { remedy, .. } => remedy.clone(),
        }
    }
}

/// Takes a snapshot of etcd on a control-plane node and verifies it: its pages are read, its revision is not
/// older than etcd's before, and it is opened as it would be after a disaster. It becomes visible only then.
/// Of those with the same reason the newest `keep` stay; without a number all do.
///
/// # Errors
/// When there is no room, etcd gives none, or what it gave is not whole; nothing of it is left then.
pub fn snapshot(
    host: &mut dyn Host,
    reason: Reason,
    keep: Option<u32>,
) -> Result<Snapshot, EtcdError> {
    Ok(EtcdNode::new(host).snapshot(reason, keep)?)
}

/// Lists the snapshots that were made on a node, the oldest first.
///
/// # Errors
/// When the node cannot be asked.
pub fn snapshots(host: &mut dyn Host) -> Result<Vec<Snapshot>, EtcdError> {
    Ok(EtcdNode::new(host).list()?)
}

/// Fetches a snapshot part by part, so that never all of it is in memory. Whether what came is whole is for the
/// caller to compare with [`Snapshot::sha256`].
///
/// # Errors
/// When the node cannot be used, has another size of it than was listed, or `take` refuses a part.
pub fn fetch(
    host: &mut dyn Host,
    snapshot: &Snapshot,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), EtcdError> {
    Ok(EtcdNode::new(host).fetch(snapshot, take)?)
}
