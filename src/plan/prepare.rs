//! Nodes that are yet to join: what must lie on them before `kubeadm join`.
//!
//! A joining control plane gets its flags from the cluster, and the files that they name from nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::basis::basis_of_node;
use super::consent::{decide, withhold};
use super::{Cluster, Plan, Purpose, SCHEMA, build, stages};
use crate::distribution::k3s::Layout;
use crate::fact::{Fact, Facts, Node, NodeInfo, Query};
use crate::resource::{Change, Desired, Draft, Effect, Place, Problem, Risk, Severity};

/// Lists what must be looked at on a node that is yet to join. Sorted, nothing twice.
pub fn queries_to_prepare(desired: &Desired, node: &NodeInfo) -> Vec<Query> {
    if !desired.distribution.is_kubeadm() {
        return Vec::new();
    }
    let resources = desired.resources.iter().filter(|r| r.concerns(node));
    let queries: BTreeSet<Query> = resources
        .flat_map(|resource| resource.kind.behaviour().queries_to_prepare())
        .collect();
    queries.into_iter().collect()
}

/// Plans what must lie on a node before it joins, and nothing else.
///
/// `members` are the nodes of the cluster: its control planes keep the record. `facts` need hold no
/// more than the API's identity and the node with the answers to [`queries_to_prepare`]. What needs
/// `accept` needs it here too, apart from files that nothing reads yet.
pub fn prepare(
    desired: &Desired,
    members: &BTreeMap<String, NodeInfo>,
    facts: &Facts,
    node: &str,
) -> Plan {
    let mut draft = Draft::default();
    let id = build::identity(facts, &mut draft);
    let mut basis = Vec::new();
    let mut nodes: BTreeMap<String, bool> = members
        .values()
        .map(|info| (info.name.clone(), info.control_plane))
        .collect();
    match facts.nodes.get(node) {
        Some(node) => {
            nodes.insert(node.info.name.clone(), node.info.control_plane);
            build::unreachable_node(node, &mut draft);
            draft_of(desired, node, facts, &mut draft);
            basis = queries_to_prepare(desired, &node.info)
                .iter()
                .filter(|query| !matches!(node.get(query), Fact::Unreadable(_)))
                .map(|query| basis_of_node(node, query))
                .collect();
        }
        None => draft.problems.push(Problem {
            severity: Severity::Error,
            place: Place::Node(node.to_owned()),
            subject: "node".into(),
            message: "nothing is known of it: it was not observed".into(),
            remedy: "plan again".into(),
        }),
    }
    let stages = stages::stages(&mut draft, desired.distribution, None, facts);
    Plan {
        schema: SCHEMA.to_owned(),
        version: crate::VERSION.to_owned(),
        cluster: Cluster {
            name: desired.cluster.clone(),
            id,
            distribution: desired.distribution,
        },
        desired: desired.sha256(),
        purpose: Purpose::Bootstrap(node.to_owned()),
        nodes,
        etcd_leader: None,
        impact: Default::default(),
        changes: draft
            .changes
            .into_iter()
            .map(|(change, _)| change)
            .collect(),
        stages,
        problems: draft.problems,
        basis,
    }
}

/// Warns of nodes that are yet to join and lack what they need.
pub fn not_ready(
    desired: &Desired,
    joining: &BTreeMap<String, Node>,
    facts: &Facts,
) -> Vec<Problem> {
    joining
        .values()
        .filter_map(|node| {
            let name = &node.info.name;
            if let Some(layout) = desired.distribution.layout() {
                return Some(from_no_cluster(layout, node));
            }
            let mut draft = Draft::default();
            draft_of(desired, node, facts, &mut draft);
            let prepares = format!("run `harden bootstrap --on {name}`");
            let (message, remedy) = if let Fact::Unreadable(why) = &node.facts {
                if queries_to_prepare(desired, &node.info).is_empty() {
                    return None;
                }
                let why = format!("whether it is ready to join is not known: {why}");
                (why, format!("when it can be reached, {prepares}"))
            } else if let Some(problem) = draft.problems.first() {
                let why = format!(
                    "whether it is ready to join is not known: {}",
                    problem.message
                );
                (why, problem.remedy.clone())
            } else if draft.changes.is_empty() {
                return None;
            } else {
                let what = match node.info.control_plane {
                    true => "a control plane that joins from here would not start",
                    false => "a node that joins from here may not start",
                };
                let lacking: BTreeSet<&str> = draft
                    .changes
                    .iter()
                    .map(|(Change { resource, .. }, _)| resource.as_str())
                    .collect();
                let lacking: Vec<&str> = lacking.into_iter().collect();
                (format!("{what}: it lacks {}", lacking.join(", ")), prepares)
            };
            Some(Problem {
                severity: Severity::Warning,
                place: Place::Node(name.clone()),
                subject: "not joined yet".into(),
                message,
                remedy,
            })
        })
        .collect()
}

/// A node that joins k3s or RKE2 reads its own files, and gets no setting from the cluster.
fn from_no_cluster(layout: &Layout, node: &Node) -> Problem {
    Problem {
        severity: Severity::Warning,
        place: Place::Node(node.info.name.clone()),
        subject: "not joined yet".into(),
        message: format!(
            "whether it is ready to join is not known: with {} a node gets no setting from the cluster",
            layout.name
        ),
        remedy: format!(
            "before it is started, place what `harden bootstrap {} DIR` writes",
            layout.distribution.name()
        ),
    }
}

fn draft_of(desired: &Desired, node: &Node, facts: &Facts, draft: &mut Draft) {
    if node.facts.value().is_none() || !desired.distribution.is_kubeadm() {
        return;
    }
    for resource in desired.resources.iter().filter(|r| r.concerns(&node.info)) {
        let mut own = Draft::default();
        resource.kind.behaviour().prepare(resource, node, &mut own);
        draft.problems.append(&mut own.problems);
        let is_safe = |(change, _): &(Change, Vec<Effect>)| change.risk == Risk::Safe;
        let (safe, others): (Vec<_>, Vec<_>) = own.changes.into_iter().partition(is_safe);
        draft.changes.extend(safe);
        match decide(resource, &others, desired, facts, draft).withheld {
            Some((why, remedy)) => withhold(resource, &others, &why, &remedy, draft),
            None => draft.changes.extend(others),
        }
    }
}
