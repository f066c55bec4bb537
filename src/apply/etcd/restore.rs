//! A restore of etcd from a snapshot, on a cluster with one control plane.
//!
//! The node does it, in a run of its own that outlives the connection: the new data is made and checked beside
//! the old, the control plane's manifests go, the two change places, the manifests come back. Then it waits
//! for a word that all is well, and brings the old data back when none comes in time. What is said here is
//! that word. Nothing is lost by it: the old data stays beside the new, and the snapshot where it is.

use std::time::{Duration, Instant};

use super::EtcdError;
use super::node::{EtcdNode, RestoreState, Restoring, SEVERAL};
use crate::apply::node::NodeError;
use crate::apply::session::Session;
use crate::apply::{Apply, ApplyError, Notice};
use crate::cluster::ApiError;
use crate::fact::snapshot::SnapshotName;

/// By how much the revision is raised. Clients that watch have seen revisions beyond the snapshot's: were they
/// given again, with other content, nobody would notice. Now every older one is gone, all lists are made anew.
/// Source: <https://etcd.io/docs/v3.6/op-guide/recovery/>, "Restoring with revision bump".
const BUMP: u64 = 1_000_000_000;

/// How long the node may take to end the control plane, to move the data and to start it again, in each
/// direction, beside what a gate waits.
const SWAPPING: Duration = Duration::from_secs(360);

/// How often a node is asked again that does not answer.
const TRIES: u32 = 30;

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where the data lies that was there before, on the node.
    pub old: String,
    /// Whatever else should be known.
    pub notes: Vec<String>,
}

impl Apply<'_> {
    /// Restores etcd on the only control plane from a snapshot that was made there.
    ///
    /// # Errors
    /// When nothing was begun, or it was put back: says which.
    pub fn restore(&mut self, node: &str, name: &SnapshotName) -> Result<Restored, EtcdError> {
        let mut session = Session::new(self);
        let result = locked(&mut session, node).and_then(|()| restore(&mut session, node, name));
        session.unlock();
        result.map(|old| Restored {
            old,
            notes: session.notes,
        })
    }

    /// Brings back what was there before a restore whose run on the node is dead; what was written since is kept
    /// on the node and lost to the cluster, so ask first: [`open_restore`]. `None` where there is none.
    ///
    /// # Errors
    /// When the node cannot be used.
    pub fn end_restore(&mut self, node: &str) -> Result<Option<String>, EtcdError> {
        let mut session = Session::new(self);
        let result = session.lock_to_end_restore(node);
        let result = result.map_err(EtcdError::from).and_then(|()| {
            let seen = ask(&mut session, node)?;
            if !seen.state.is_open() {
                return Ok(None);
            }
            if !seen.alive {
                etcd(&mut session, node)?.resume()?;
            }
            let ended = until_ended(&mut session, node)?;
            Ok(Some(match ended.state {
                RestoreState::Committed => format!("the restore of {} stays", ended.snapshot),
                _ => format!(
                    "the restore of {} was put back: {}{}",
                    ended.snapshot,
                    ended.why,
                    undone(&ended)
                ),
            }))
        });
        session.unlock();
        result
    }
}

/// Takes the locks. The API may be what is broken.
fn locked(session: &mut Session<'_, '_>, node: &str) -> Result<(), EtcdError> {
    match session.lock_api() {
        Ok(()) => {}
        Err(error @ (ApiError::Unreachable { .. } | ApiError::Refused { .. })) => {
            session.note(format!("{error}; the restore goes on without its lock"));
        }
        Err(error) => return Err(ApplyError::from(error).into()),
    }
    session.lock(node)?;
    match session.past(|_| true)?.interrupted() {
        Some(record) => Err(ApplyError::Interrupted(record.number).into()),
        None => Ok(()),
    }
}

fn restore(
    session: &mut Session<'_, '_>,
    node: &str,
    name: &SnapshotName,
) -> Result<String, EtcdError> {
    session.planes.only(&[node.to_owned()]);
    // A member that has no quorum is not well, and the others may live.
    if let Ok(Some(member)) = session.plane_member(node)
        && member.members > 1
    {
        return Err(EtcdError::other(
            format!("etcd has {} members; nothing was changed", member.members),
            SEVERAL,
        ));
    }
    let cluster = session.apply.api.cluster_id().ok();
    if cluster.is_some()
        && let Ok(nodes) = session.apply.api.nodes()
    {
        let planes: Vec<String> = nodes
            .into_iter()
            .filter(|(_, found)| found.info.control_plane)
            .map(|(name, _)| name)
            .collect();
        if planes.len() > 1 {
            return Err(EtcdError::other(
                format!(
                    "the cluster has {} control planes ({}); nothing was changed",
                    planes.len(),
                    planes.join(", ")
                ),
                SEVERAL,
            ));
        }
    }
    let settings = session.apply.settings.clone();
    let deadline = settings.gate_timeout + settings.gate_hold + settings.watchdog_margin;
    let before = ask(session, node).map_err(nothing_changed)?;
    match etcd(session, node).and_then(|mut etcd| etcd.restore(name, deadline, BUMP)) {
        Ok(()) => {}
        Err(error @ NodeError::Refused { .. }) => return Err(nothing_changed(error)),
        Err(error) => return Err(perhaps_begun(session, node, &before, &error)),
    }
    session.planes.forget(node);
    let begun = Instant::now();
    let mut seen = match ask(session, node) {
        Ok(seen) => seen,
        Err(error) => return Err(put_back(session, node, &error.to_string())),
    };
    while !matches!(seen.state, RestoreState::Waiting) {
        if !seen.state.is_open() || !seen.alive {
            return Err(put_back(session, node, "the node could not do it"));
        }
        if session.interrupted() {
            return Err(put_back(session, node, "it was interrupted"));
        }
        if begun.elapsed() > SWAPPING {
            return Err(put_back(
                session,
                node,
                "the control plane did not end and start",
            ));
        }
        waits(session, node, seen.state.words(), begun);
        session.nap();
        seen = match ask(session, node) {
            Ok(seen) => seen,
            Err(error) => return Err(put_back(session, node, &error.to_string())),
        };
    }
    if let Err(why) = gate(session, node, cluster.as_deref()) {
        return Err(put_back(session, node, &why));
    }
    session.disconnect(node);
    let stays = etcd(session, node).and_then(|mut etcd| etcd.decide(true, ""));
    match stays {
        Ok(()) => {
            // It stays from here on, whatever the node says next.
            if let Err(error) = until_ended(session, node) {
                session.note(format!("{node}: {error}"));
            }
            Ok(seen.old)
        }
        Err(error) => Err(put_back(session, node, &error.to_string())),
    }
}

/// Waits until the control plane is well with the new data, and stays so for a moment.
fn gate(session: &mut Session<'_, '_>, node: &str, cluster: Option<&str>) -> Result<(), String> {
    let begun = Instant::now();
    let settings = session.apply.settings.clone();
    let mut well_since = None;
    loop {
        let well = session
            .plane_readyz(node)
            .and_then(|()| session.plane_etcd(node))
            .and_then(|_| session.apply.api.cluster_id().map_err(|e| e.to_string()));
        let why = match well {
            Ok(found) => {
                // Every object of it has owners and uids of another cluster.
                if cluster.is_some_and(|before| before != found) {
                    return Err("the snapshot is of another cluster".into());
                }
                let since = *well_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= settings.gate_hold {
                    return Ok(());
                }
                "it to stay well".to_owned()
            }
            Err(why) => {
                well_since = None;
                format!("it to be well with the restored data ({why})")
            }
        };
        if session.interrupted() {
            return Err("it was interrupted".into());
        }
        if begun.elapsed() >= settings.gate_timeout {
            return Err(format!(
                "after {} s this was still waited for: {why}",
                begun.elapsed().as_secs()
            ));
        }
        waits(session, node, &why, begun);
        session.nap();
    }
}

/// Puts a restore back of whose beginning the node's answer was lost, if it has begun.
fn perhaps_begun(
    session: &mut Session<'_, '_>,
    node: &str,
    before: &Restoring,
    error: &NodeError,
) -> EtcdError {
    match ask(session, node) {
        // Each restore puts the old data into a directory of its own name.
        Ok(seen) if seen.old.is_empty() || seen.old == before.old => EtcdError::other(
            format!(
                "{error}; when the node was asked again, the restore had not begun. If it still begins, nobody \
                 confirms it, and the node brings the old data back by itself"
            ),
            "run `harden etcd restore` again: it says what became of it, and ends it first",
        ),
        Ok(_) | Err(_) => put_back(session, node, &error.to_string()),
    }
}

/// Where the data is that was put back, behind a semicolon; nothing where etcd had made none.
fn undone(seen: &Restoring) -> String {
    match seen.undone.is_empty() {
        true => String::new(),
        false => format!(
            "; what etcd made of the snapshot, with all that was written meanwhile, is {}",
            seen.undone
        ),
    }
}

fn put_back(session: &mut Session<'_, '_>, node: &str, why: &str) -> EtcdError {
    session.tell(Notice::Reverting {
        number: 1,
        title: node,
        why,
    });
    session.disconnect(node);
    // The node may have decided by itself already.
    let _ = etcd(session, node).and_then(|mut etcd| etcd.decide(false, why));
    match until_ended(session, node) {
        Ok(seen) if seen.state == RestoreState::Committed => EtcdError::other(
            format!("{why}; but the restore had been committed before, and stays"),
            "look at the cluster; the old data lies beside the new",
        ),
        Ok(seen) => EtcdError::other(
            format!(
                "{node}: {}; the data that was there before is back{}",
                if seen.why.is_empty() { why } else { &seen.why },
                undone(&seen)
            ),
            "look at the reason, and at the log of etcd (`crictl logs`), before it is tried again",
        ),
        Err(error) => EtcdError::other(
            format!(
                "{node}: {why}; and then: {error}; the node brings the old data back by itself, unless it has \
                 restarted since: then it stays as it is, and the cluster may run on the restored data"
            ),
            "run `harden etcd restore` again as soon as the node answers: it says how it is, and what would be lost \
             by bringing the old data back; until then change nothing in the cluster",
        ),
    }
}

/// Waits until a restore has ended, and helps where the run on the node is dead.
fn until_ended(session: &mut Session<'_, '_>, node: &str) -> Result<Restoring, EtcdError> {
    let begun = Instant::now();
    loop {
        let seen = ask(session, node)?;
        if !seen.state.is_open() {
            return Ok(seen);
        }
        if !seen.alive {
            etcd(session, node)?.resume()?;
        }
        if begun.elapsed() > SWAPPING + session.apply.settings.gate_timeout {
            return Err(EtcdError::other(
                format!("{node} still waits for {}", seen.state.words()),
                "look at the node: /var/lib/harden/etcd/restore says how far it is, docs/etcd.md what to do",
            ));
        }
        waits(session, node, seen.state.words(), begun);
        session.nap();
    }
}

/// Asks how far it is, more than once: the node has much to do.
fn ask(session: &mut Session<'_, '_>, node: &str) -> Result<Restoring, NodeError> {
    let mut attempt = 1;
    loop {
        match etcd(session, node).and_then(|mut etcd| etcd.restoring()) {
            Err(NodeError::Host(_) | NodeError::Protocol { .. }) if attempt < TRIES => {}
            result => return result,
        }
        attempt += 1;
        session.disconnect(node);
        session.nap();
    }
}

fn waits(session: &mut Session<'_, '_>, node: &str, what: &str, begun: Instant) {
    let elapsed = begun.elapsed();
    session.tell(Notice::Gate {
        node,
        what,
        elapsed,
    });
}

fn etcd<'s>(session: &'s mut Session<'_, '_>, node: &str) -> Result<EtcdNode<'s>, NodeError> {
    Ok(EtcdNode::new(session.host(node)?))
}

fn nothing_changed(error: NodeError) -> EtcdError {
    let remedy = super::node::remedy(&error);
    EtcdError::other(format!("{error}; nothing was changed"), remedy)
}
