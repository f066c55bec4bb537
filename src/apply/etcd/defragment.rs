//! Compaction and defragmentation, and what still lies in clear afterwards.
//!
//! What an object was before lies in the database as an old revision until it is compacted, and then in free
//! pages until the member is defragmented. A member serves nothing while it is, so it is done one at a time,
//! each only when all are well, the leader last.

use std::collections::BTreeMap;

use super::EtcdError;
use super::node::EtcdNode;
use crate::apply::session::Session;
use crate::apply::{Apply, ApplyError, Notice};
use crate::fact::clear_text::Scanned;
use crate::fact::encryption::EtcdPrefix;
use crate::host::Host;
use crate::plan::Purpose;

/// A member before and after: bytes of its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defragmented {
    /// The node.
    pub node: String,
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// Looks through etcd's files of a control-plane node for objects below these prefixes that lie in clear.
/// It reads all of them, about 100 MB a second, and changes nothing.
///
/// # Errors
/// When the node cannot be used, or runs no etcd.
pub fn scan(
    host: &mut dyn Host,
    prefixes: impl IntoIterator<Item = EtcdPrefix>,
) -> Result<Vec<Scanned>, EtcdError> {
    Ok(EtcdNode::new(host).scan(prefixes)?)
}

impl Apply<'_> {
    /// Compacts etcd to its present revision, and defragments these control planes' members one after the
    /// other.
    ///
    /// # Errors
    /// When a member is not well or refuses; what is done stays, and hurts nothing.
    pub fn defragment(&mut self, planes: &[String]) -> Result<Vec<Defragmented>, EtcdError> {
        let mut session = Session::new(self);
        let result = defragment(&mut session, planes);
        session.unlock();
        result
    }
}

fn defragment(
    session: &mut Session<'_, '_>,
    planes: &[String],
) -> Result<Vec<Defragmented>, EtcdError> {
    session.lock_api().map_err(ApplyError::from)?;
    for node in planes {
        session.lock(node)?;
    }
    if let Some(record) = session.past(|_| true)?.interrupted() {
        return Err(ApplyError::Interrupted(record.number).into());
    }
    session.planes.only(planes);
    let mut order: BTreeMap<bool, Vec<&String>> = BTreeMap::new();
    for node in planes {
        let member = session
            .plane_etcd(node)
            .map_err(|why| unwell(format!("{node}: {why}; nothing was changed")))?;
        let leads = member.is_some_and(|member| member.leader);
        order.entry(leads).or_default().push(node);
    }
    let order: Vec<&String> = order.into_values().flatten().collect();
    let Some(first) = order.first() else {
        return Ok(Vec::new());
    };
    wait(session, first)?;
    let revision = EtcdNode::new(session.host(first)?).member()?.revision;
    session.note(format!("compaction to revision {revision}"));
    EtcdNode::new(session.host(first)?).compact(revision)?;
    let mut done = Vec::new();
    for (at, node) in order.iter().enumerate() {
        if session.interrupted() {
            return Err(unwell(format!("{node} was not begun: it was interrupted")));
        }
        session.renew();
        wait(session, node)?;
        let title = format!("{node}: defragment");
        session.tell(Notice::Step {
            number: at + 1,
            total: order.len(),
            title: &title,
        });
        let mut etcd = EtcdNode::new(session.host(node)?);
        let before = etcd.member()?.size;
        let after = etcd.defragment()?.size;
        done.push(Defragmented {
            node: (*node).clone(),
            before,
            after,
        });
    }
    if let Some(last) = order.last() {
        wait(session, last)?;
    }
    Ok(done)
}

/// Waits until every member and every API server is well.
fn wait(session: &mut Session<'_, '_>, node: &str) -> Result<(), EtcdError> {
    let well = session.await_planes(node, &Purpose::Converge);
    well.map_err(|failure| unwell(failure.message))
}

fn unwell(what: String) -> EtcdError {
    EtcdError::other(
        what,
        "look at the member on that node (`crictl ps -a`, `etcdctl endpoint health`), then run it again",
    )
}
