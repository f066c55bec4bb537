//! etcd's members, as far as a plan depends on them: which node comes last, and what should be known.
//! None of it is part of a plan's basis, for leadership moves by itself.

use std::collections::BTreeSet;

use super::Stage;
use crate::distribution::kubeadm::etcd::EtcdMember;
use crate::fact::{ApiQuery, Fact, Facts, NodeInfo};
use crate::plan::{Step, basis};
use crate::resource::{Desired, Place, Problem, Severity};

/// Lists the members to ask: those of all control-plane nodes, when something that may restart on one
/// of them is wanted.
pub fn member_queries<'n>(
    desired: &Desired,
    nodes: impl Iterator<Item = &'n NodeInfo>,
) -> BTreeSet<ApiQuery> {
    let planes: Vec<&NodeInfo> = nodes.filter(|node| node.control_plane).collect();
    if !planes.iter().any(|node| basis::may_restart(desired, node)) {
        return BTreeSet::new();
    }
    planes
        .into_iter()
        .map(|node| ApiQuery::EtcdMember(node.name.clone()))
        .collect()
}

/// Returns the node whose etcd member leads; `None` where that is not known of exactly one.
pub fn etcd_leader<'f>(
    answers: impl Iterator<Item = (&'f ApiQuery, &'f Fact<serde_json::Value>)>,
) -> Option<&'f str> {
    let mut leaders = answers.filter_map(|(query, answer)| match (query, answer) {
        (ApiQuery::EtcdMember(node), Fact::Value(answer)) => {
            let leads = EtcdMember::of_answer(answer)?.leader;
            leads.then_some(node.as_str())
        }
        _ => None,
    });
    let leader = leaders.next();
    // Two of them believe it while one is being replaced.
    leader.filter(|_| leaders.next().is_none())
}

/// Puts what restarts something on the leader's node last in its stage; the rest keeps its order. That
/// restart makes the members choose another leader, which should happen once and to one that is done.
pub(crate) fn leader_last(stages: &mut [Stage], leader: Option<&str>) {
    let Some(leader) = leader else { return };
    for stage in stages {
        stage.steps.sort_by_key(
            |step| matches!(step, Step::Node(step) if step.node == leader && step.restarts()),
        );
    }
}

/// Says which members are not healthy, and of which that is not known although the plan restarts
/// something beside them.
pub(super) fn problems(facts: &Facts, restarts: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unknown = Vec::new();
    for (query, answer) in &facts.api.answers {
        let ApiQuery::EtcdMember(name) = query else {
            continue;
        };
        let reached = facts
            .nodes
            .get(name)
            .is_some_and(|n| n.facts.value().is_some());
        let message = match answer {
            Fact::Value(answer) => match EtcdMember::of_answer(answer) {
                Some(member) if member.healthy => continue,
                Some(member) => format!("this member is not healthy: {}", member.why),
                None => "what this member says of itself cannot be understood".into(),
            },
            Fact::Absent => {
                unknown.push(name.as_str());
                continue;
            }
            Fact::Unreadable(_) if !reached => continue,
            Fact::Unreadable(why) => format!("this member does not answer: {why}"),
        };
        problems.push(Problem {
            severity: Severity::Warning,
            place: Place::Node(name.clone()),
            subject: "etcd".into(),
            message: format!("{message}; apply does not begin like this"),
            remedy: format!(
                "look at its log (`crictl ps -a --name etcd` and `crictl logs` on {name})"
            ),
        });
    }
    if restarts && !unknown.is_empty() {
        problems.push(Problem {
            severity: Severity::Warning,
            place: Place::Api,
            subject: "etcd".into(),
            message: format!(
                "it is external or without a metrics address on {}; its health is not known, and apply looks at /readyz alone",
                unknown.join(", ")
            ),
            remedy: "look at its members yourself before you apply (`etcdctl endpoint health --cluster`)".into(),
        });
    }
    problems
}
