//! Puts a draft into stages and steps.

use std::collections::BTreeSet;

use super::consent::{decide, withhold};
use super::{
    Cluster, Impact, Plan, Purpose, SCHEMA, Step, basis, clash, fence, left_out, members, prune,
    servers, stages,
};
use crate::distribution::kubeadm::MANIFESTS_DIR;
use crate::fact::{Answer, Fact, Facts, FileKind, Node, NodePath, Query};
use crate::resource::{Desired, Draft, Place, Problem, Resource, Severity, Subject};

/// Compares the desired state with the facts.
///
/// The same inputs give the same plan, byte for byte. What cannot be read, compared or done is among
/// the plan's problems; everything else is planned all the same.
pub fn build(desired: &Desired, facts: &Facts) -> Plan {
    build_without(desired, facts, &BTreeSet::new())
}

/// Does the same as [`build`] and leaves these objects of the API as they are, whatever is wrong with them. They
/// are named as [`ObjectRef::short_name`](crate::fact::ObjectRef::short_name) does; a name of no wanted object is
/// a problem.
pub fn build_without(desired: &Desired, facts: &Facts, left_out: &BTreeSet<String>) -> Plan {
    std::thread::scope(|scope| {
        // Of thousands of objects the hash takes as long as comparing them.
        let sha256 = scope.spawn(|| desired.sha256());
        let plan = compare(desired, facts, left_out);
        let sha256 = sha256.join();
        Plan {
            desired: sha256.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            ..plan
        }
    })
}

/// Everything but the hash of the desired state.
fn compare(desired: &Desired, facts: &Facts, left_out: &BTreeSet<String>) -> Plan {
    let mut draft = Draft::default();
    let is_out = |resource: &Resource| left_out::names(left_out, resource);
    let id = identity(facts, &mut draft);
    for node in facts.nodes.values() {
        if !basis::queries(desired, &node.info).is_empty() {
            unreachable_node(node, &mut draft);
        }
        stray_manifests(node, &mut draft);
    }
    let mut held = BTreeSet::new();
    let mut preconditions = Vec::new();
    // What establishes something comes before what requires it, and what is needed before what needs it.
    let mut resources: Vec<&Resource> = desired.resources.iter().collect();
    resources.sort_by_cached_key(|resource| {
        let needs = !resource.kind.behaviour().needs().is_empty();
        (needs, resource.preconditions().next().is_some())
    });
    for resource in resources {
        let mut own = Draft::default();
        let kind = resource.kind.behaviour();
        resource.diff(desired.distribution, facts, &mut own);
        if is_out(resource) {
            let is_well = left_out::tell(&resource.kind, own, &mut draft);
            if !is_well {
                held.extend(kind.as_wanted().into_iter().map(|(subject, _)| subject));
            }
            continue;
        }
        let is_error = |problem: &Problem| problem.severity == Severity::Error;
        let mut is_held = own.problems.iter().any(is_error);
        draft.problems.append(&mut own.problems);
        let mut decision = decide(resource, &own.changes, desired, facts, &mut draft);
        preconditions.append(&mut decision.impact);
        let why = decision
            .withheld
            .or_else(|| needs_held(kind.needs(), &held));
        match why {
            Some((why, remedy)) => {
                is_held |= !own.changes.is_empty();
                withhold(resource, &own.changes, &why, &remedy, &mut draft);
            }
            None => draft.changes.append(&mut own.changes),
        }
        if is_held {
            held.extend(kind.as_wanted().into_iter().map(|(subject, _)| subject));
        }
    }
    draft.problems.extend(left_out::unknown(desired, left_out));
    clash::join_lists(&mut draft);
    clash::drop_clashes(&mut draft);
    let leader = members::etcd_leader(facts.api.answers.iter());
    let mut stages = stages::stages(&mut draft, desired.distribution, leader, facts);
    prune::add(desired, facts, &mut draft, &mut stages);
    let is_plane = |name: &String| facts.nodes.get(name).is_some_and(|n| n.info.control_plane);
    let restarts = stages
        .iter()
        .flat_map(|stage| &stage.steps)
        .any(|step| matches!(step, Step::Node(step) if step.restarts() && is_plane(&step.node)));
    draft.problems.extend(members::problems(facts, restarts));
    draft.problems.extend(fence::problem(desired, facts));
    if let Some(layout) = desired.distribution.layout() {
        draft
            .problems
            .extend(servers::caveats(layout, desired, restarts));
    }
    let mut basis = basis::all(desired, facts, &is_out);
    basis.extend(basis::of_contents(&stages));
    Plan {
        schema: SCHEMA.to_owned(),
        version: crate::VERSION.to_owned(),
        cluster: Cluster {
            name: desired.cluster.clone(),
            id,
            distribution: desired.distribution,
        },
        desired: String::new(),
        purpose: Purpose::Converge,
        nodes: facts
            .nodes
            .iter()
            .map(|(name, node)| (name.clone(), node.info.control_plane))
            .collect(),
        etcd_leader: leader.map(str::to_owned),
        changes: draft
            .changes
            .into_iter()
            .map(|(change, _)| change)
            .collect(),
        stages,
        problems: draft.problems,
        impact: Impact {
            preconditions,
            ..Impact::default()
        },
        basis,
    }
}

/// Returns the cluster's identity; says so in the draft when it is not known.
pub(super) fn identity(facts: &Facts, draft: &mut Draft) -> String {
    match &facts.api.cluster_id {
        Fact::Value(id) => id.clone(),
        Fact::Absent => no_identity(draft, "namespace kube-system is not there"),
        Fact::Unreadable(why) => no_identity(draft, why),
    }
}

fn no_identity(draft: &mut Draft, why: &str) -> String {
    draft.problems.push(Problem {
        severity: Severity::Error,
        place: Place::Api,
        subject: "cluster identity".into(),
        message: format!("the uid of namespace kube-system could not be read: {why}"),
        remedy: "check the kubeconfig and its context, and plan again".into(),
    });
    String::new()
}

/// Says so in the draft when a node was not reached.
pub(super) fn unreachable_node(node: &Node, draft: &mut Draft) {
    let why = match &node.facts {
        Fact::Value(_) => return,
        Fact::Absent => "it was not observed",
        Fact::Unreadable(why) => why,
    };
    draft.problems.push(Problem {
        severity: Severity::Error,
        place: Place::Node(node.info.name.clone()),
        subject: "node".into(),
        message: format!("nothing is known of it: {why}"),
        remedy: match node.remedy.as_str() {
            "" => "run the same login by hand to see what it prints, and plan again".into(),
            remedy => remedy.to_owned(),
        },
    });
}

/// Names what lies in the directory of static pods beside the manifests.
///
/// The kubelet reads every file there whose name does not start with a dot, whatever it ends in, and
/// of two pods of one name the later file wins, so `kube-apiserver.yaml.bak` beats
/// `kube-apiserver.yaml` (kubernetes v1.35 pkg/kubelet/config/file_linux.go and file.go:
/// `extractFromDir`; kubernetes#136962). Directories are skipped.
fn stray_manifests(node: &Node, draft: &mut Draft) {
    const KNOWN: [&str; 4] = [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "etcd",
    ];
    let Ok(dir) = NodePath::new(MANIFESTS_DIR) else {
        return;
    };
    let Fact::Value(Answer::Dir(entries)) = node.get(&Query::Dir(dir)) else {
        return;
    };
    for (name, meta) in entries {
        let known = KNOWN.iter().any(|pod| *name == format!("{pod}.yaml"));
        if known || name.starts_with('.') || meta.kind == FileKind::Directory {
            continue;
        }
        let likeness = KNOWN.iter().find(|pod| name.starts_with(**pod));
        let (message, remedy) = match likeness {
            Some(pod) => (
                format!(
                    "the kubelet reads it too, whatever its name ends in, and it can win over {pod}.yaml"
                ),
                "move it out of the directory",
            ),
            None => (
                "the kubelet runs it as a static pod; no profile knows it".to_owned(),
                "move it out of the directory unless it is meant to run",
            ),
        };
        draft.problems.push(Problem {
            severity: Severity::Warning,
            place: Place::Node(node.info.name.clone()),
            subject: format!("{MANIFESTS_DIR}/{name}"),
            message,
            remedy: remedy.into(),
        });
    }
}

/// Says that something must not be changed because what it needs is not. A component that is told to
/// use a file which is not there would not start.
fn needs_held(needs: Vec<Subject>, held: &BTreeSet<Subject>) -> Option<(String, String)> {
    let held = needs.into_iter().find(|subject| held.contains(subject))?;
    Some((
        format!("it needs {held}, which is left undone"),
        format!("see the problem of {held}"),
    ))
}
