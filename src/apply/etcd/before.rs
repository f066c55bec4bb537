//! The snapshot before a change.

use super::EtcdError;
use super::node::EtcdNode;
use crate::apply::session::Session;
use crate::apply::{Apply, ApplyError};
use crate::fact::snapshot::{Reason, Snapshot};
use crate::plan::{Plan, Purpose};

/// How many of those stay that are taken before changes.
pub(in crate::apply) const KEPT: u32 = 5;

impl Apply<'_> {
    /// Takes a snapshot before a change that is no plan's, as those of encryption are: on the first of these
    /// control planes that gives one. It takes no lock. Returns where it is.
    ///
    /// # Errors
    /// When none of them gives one; the reason is the first one's, and the change must not be made.
    pub fn snapshot_first(
        &mut self,
        planes: Vec<String>,
        reason: Reason,
    ) -> Result<(String, Snapshot), EtcdError> {
        Session::new(self).snapshot_of_any(planes, reason)
    }
}

impl Session<'_, '_> {
    /// Takes a snapshot before the first step of a plan that touches etcd. A rollback may be what makes etcd
    /// well again, so it goes on without one.
    pub(in crate::apply) fn snapshot_before(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        if !plan.touches_etcd() {
            return Ok(());
        }
        let planes = plan.nodes.iter().filter(|(_, plane)| **plane);
        let planes = planes.map(|(name, _)| name.clone()).collect();
        match self.snapshot_of_any(planes, Reason::Apply) {
            Ok((node, taken)) => {
                self.note(format!(
                    "{node}: snapshot {} of etcd, revision {}, is taken and verified",
                    taken.name, taken.revision
                ));
                Ok(())
            }
            Err(error) if matches!(plan.purpose, Purpose::Rollback(_)) => {
                self.note(format!(
                    "no snapshot of etcd could be taken ({error}); the rollback goes on"
                ));
                Ok(())
            }
            Err(error) => Err(ApplyError::NoSnapshot {
                what: error.to_string(),
                remedy: error.remedy(),
            }),
        }
    }

    /// Takes a snapshot on the first of these nodes that gives one.
    pub(in crate::apply) fn snapshot_of_any(
        &mut self,
        nodes: Vec<String>,
        reason: Reason,
    ) -> Result<(String, Snapshot), EtcdError> {
        let mut first = None;
        for node in nodes {
            let taken = self
                .host(&node)
                .map_err(EtcdError::from)
                .and_then(|host| Ok(EtcdNode::new(host).snapshot(reason, Some(KEPT))?));
            match taken {
                Ok(taken) => return Ok((node, taken)),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| {
            EtcdError::other(
                "no control plane is known",
                "look at [nodes] in harden.toml",
            )
        }))
    }
}
