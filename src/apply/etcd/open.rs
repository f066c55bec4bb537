//! A restore that is open: that has begun on a node and not ended.

use super::EtcdError;
use super::node::{EtcdNode, RestoreState, Restoring};
use crate::host::Host;

/// A restore that has begun on a node and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRestore {
    /// Whether the run on the node lives that works on it; it ends by itself then.
    pub alive: bool,
    /// What is so, what would be put back and what would be lost by it: sentences for a person.
    pub what: String,
}

/// Asks a control-plane node whether a restore is open there; `None` where there is none.
///
/// # Errors
/// When the node cannot be asked.
pub fn open_restore(host: &mut dyn Host) -> Result<Option<OpenRestore>, EtcdError> {
    let seen = EtcdNode::new(host).restoring()?;
    Ok(seen.state.is_open().then(|| OpenRestore {
        alive: seen.alive,
        what: open_words(&seen),
    }))
}

fn open_words(seen: &Restoring) -> String {
    let begun = format!("a restore of {} has begun and not ended", seen.snapshot);
    if seen.alive {
        return format!("{begun}; the node works on it");
    }
    let dead = format!("{begun}, and nothing on the node works on it any more (did it restart?)");
    match seen.state {
        // The manifests are there, or some of them: etcd may run on the new data since then.
        RestoreState::Starting | RestoreState::Waiting => format!(
            "{dead}. etcd runs on the restored data since. The data from before that restore ({}) would be put \
             back, and whatever was written in the cluster since would be lost to it; it would be kept on the \
             node, beside, as member.undone-TIME. To keep it instead: docs/etcd.md, \"By hand\"",
            seen.old
        ),
        _ => format!("{dead}. The data from before that restore would be put back"),
    }
}
