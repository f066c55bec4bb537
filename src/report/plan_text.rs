//! A plan as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::crowd;
use super::problems::problems_text;
use crate::plan::{Impact, Plan, Purpose, Stage, StageName, Step, Verdict};
use crate::resource::encryption::EncryptionPart;
use crate::resource::{Change, Origin, Place, Problem, Risk, Severity};

pub(super) const HEADING: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
const ADD: Style = AnsiColor::Green.on_default();
const REMOVE: Style = AnsiColor::Red.on_default();
const EDIT: Style = AnsiColor::Yellow.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// How much of a plan to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanText {
    /// Show diffs, reasons and provenance; otherwise one line a change.
    pub details: bool,
}

/// Writes a plan: the changes by place, what cannot be done, the order of work, and a summary.
pub fn plan_text(plan: &Plan, show: PlanText) -> String {
    let mut out = String::new();
    let head = match &plan.purpose {
        Purpose::Converge => format!("Plan for cluster {}", plan.cluster.name),
        Purpose::Rollback(n) => {
            format!(
                "Plan to roll back generation {n} of cluster {}",
                plan.cluster.name
            )
        }
        Purpose::Bootstrap(node) => {
            format!(
                "Plan to prepare {node} for joining cluster {}",
                plan.cluster.name
            )
        }
    };
    line(&mut out, format_args!("{HEADING}{head}{HEADING:#}"));
    for (place, changes) in by_place(&plan.changes) {
        let title = match place {
            Place::Api => "API".to_owned(),
            Place::Node(name) => match plan.nodes.get(name) {
                Some(true) => format!("{name} (control plane)"),
                _ => name.clone(),
            },
        };
        line(&mut out, format_args!("\n{HEADING}{title}{HEADING:#}"));
        let (many, changes) = match show.details {
            true => (Vec::new(), changes),
            false => crowd::take(changes),
        };
        for group in by_resource(&changes) {
            resource(&mut out, &group, show);
        }
        for crowd in many {
            line(&mut out, format_args!("  {ADD}+ {}{ADD:#}", crowd.text()));
        }
    }
    problems(&mut out, plan, Severity::Error, "Cannot be done", ERROR);
    problems(&mut out, plan, Severity::Warning, "Worth knowing", WARNING);
    impact(&mut out, plan);
    if !plan.stages.is_empty() {
        order(&mut out, plan);
    }
    line(&mut out, format_args!("\n{}", summary(plan)));
    out
}

/// Writing to a String cannot fail.
pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn by_place(changes: &[Change]) -> Vec<(&Place, Vec<&Change>)> {
    let mut groups: BTreeMap<&Place, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        groups.entry(&change.place).or_default().push(change);
    }
    groups.into_iter().collect()
}

/// The copies of one setting stand together, and their reason is told once.
fn by_resource<'c>(changes: &[&'c Change]) -> Vec<Vec<&'c Change>> {
    let mut groups: Vec<Vec<&Change>> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for change in changes {
        match places.get(change.resource.as_str()) {
            Some(at) => groups[*at].push(change),
            None => {
                places.insert(&change.resource, groups.len());
                groups.push(vec![change]);
            }
        }
    }
    groups
}

fn resource(out: &mut String, group: &[&Change], show: PlanText) {
    for change in group {
        let (sign, style) = match (&change.before, &change.after) {
            (None, _) => ("+", ADD),
            (_, None) => ("-", REMOVE),
            _ => ("~", EDIT),
        };
        let copy = change.copy.map(|c| format!(" [{c}]")).unwrap_or_default();
        let before = change.before.as_deref().unwrap_or("(absent)");
        let after = change.after.as_deref().unwrap_or("(absent)");
        let risk = match (change.risk, &change.restarts) {
            (Risk::Restart, Some(what)) => format!("restarts {what}"),
            (other, Some(what)) => format!("{}, restarts {what}", risk(other)),
            (other, None) => risk(other).to_owned(),
        };
        line(
            out,
            format_args!(
                "  {style}{sign} {}{copy}{style:#}: {before} → {after}  {DIM}({risk}){DIM:#}",
                change.resource,
            ),
        );
    }
    if !show.details {
        return;
    }
    let first = group[0];
    let controls = match first.controls.as_slice() {
        [] => String::new(),
        names => format!(" [{}]", names.join(", ")),
    };
    line(
        out,
        format_args!("      {DIM}why:{DIM:#}  {}{controls}", first.reason),
    );
    let origins: BTreeSet<&Origin> = group.iter().flat_map(|c| &c.origins).collect();
    for origin in origins {
        line(out, format_args!("      {DIM}from:{DIM:#} {origin}"));
    }
    for diff in group.iter().filter_map(|c| c.diff.as_deref()) {
        for text in diff.lines() {
            let style = match text.as_bytes().first() {
                Some(b'+') => ADD,
                Some(b'-') => REMOVE,
                _ => Style::new(),
            };
            line(out, format_args!("      {style}{text}{style:#}"));
        }
    }
}

/// The word that profiles and JSON use.
pub(super) fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Safe => "safe",
        Risk::Reload => "reload",
        Risk::Restart => "restart",
        Risk::Guarded => "guarded",
        Risk::Irreversible => "irreversible",
        Risk::Manual => "manual",
    }
}

fn problems(out: &mut String, plan: &Plan, severity: Severity, title: &str, style: Style) {
    let some: Vec<&Problem> = plan
        .problems
        .iter()
        .filter(|p| p.severity == severity)
        .collect();
    if some.is_empty() {
        return;
    }
    line(out, format_args!("\n{style}{title}{style:#}"));
    out.push_str(&problems_text(&some));
}

/// How many names of one precondition a reader gets; JSON has more.
const MAX_WHO: usize = 10;

/// Whom the plan would hit.
fn impact(out: &mut String, plan: &Plan) {
    if plan.impact.is_empty() {
        return;
    }
    line(out, format_args!("\n{HEADING}Impact{HEADING:#}"));
    preconditions(out, &plan.impact);
    super::impact_text::tenants(out, &plan.impact);
}

/// What guarded changes require, and what is known of it.
pub(super) fn preconditions(out: &mut String, impact: &Impact) {
    for impact in &impact.preconditions {
        let (verdict, style) = match (impact.verdict, impact.accepted) {
            (Verdict::Holds, _) => ("holds", ADD),
            (Verdict::ByThisPlan, _) => ("will hold", ADD),
            (Verdict::Fails, true) => ("does NOT hold, accepted", WARNING),
            (Verdict::Fails, false) => ("does NOT hold", ERROR),
            (Verdict::Unknown, true) => ("is unknown, accepted", WARNING),
            (Verdict::Unknown, false) => ("is unknown", ERROR),
        };
        let count = match impact.verdict {
            Verdict::Fails => format!("{} ", impact.count),
            _ => String::new(),
        };
        let most = &impact.who[..impact.who.len().min(MAX_WHO)];
        let who = match impact.count.saturating_sub(most.len()) {
            _ if most.is_empty() => String::new(),
            0 => format!(": {}", most.join(", ")),
            more => format!(": {} and {more} more", most.join(", ")),
        };
        line(
            out,
            format_args!(
                "  {}: {style}{} {verdict}{style:#}: {count}{}{who}",
                impact.resource, impact.precondition, impact.message
            ),
        );
    }
}

fn order(out: &mut String, plan: &Plan) {
    line(out, format_args!("\n{HEADING}Order of work{HEADING:#}"));
    let width = plan.steps().count().to_string().len();
    let mut number = 0;
    if plan.touches_etcd() {
        line(
            out,
            format_args!(
                "  {:>width$}  before the first step a snapshot of etcd, verified; without one nothing is changed",
                ""
            ),
        );
    }
    for stage in &plan.stages {
        let mut steps = stage.steps.iter();
        while let Some(step) = steps.next() {
            number += 1;
            let more = crowd::objects(&stage.steps[stage.steps.len() - steps.len() - 1..]);
            if let Some((count, kinds)) = more {
                let last = number + count - 1;
                line(
                    out,
                    format_args!(
                        "  {number:>width$}-{last}. {DIM}{}{DIM:#} API: {kinds}",
                        stage_name(stage.name)
                    ),
                );
                number = last;
                steps.nth(count - 2);
                continue;
            }
            let gate = match step {
                Step::Node(node) if node.gate.as_ref().is_some_and(|g| g.serving_certificate) => {
                    ", approves its request for a certificate, then waits for what it says it runs with, and for its Node to be Ready"
                }
                Step::Node(node) if node.gate.as_ref().is_some_and(|g| !g.flags.is_empty()) => {
                    ", then waits for the unit to be active with a new process, the flags of its pods, and /readyz of this node"
                }
                Step::Node(node) if node.gate.as_ref().is_some_and(|g| g.unit.is_some()) => {
                    ", then waits for the unit to be active with a new process, and for /readyz of this node"
                }
                Step::Node(node) if !node.units.is_empty() && node.gate.is_some() => {
                    ", then waits for what it says it runs with, and for its Node to be Ready"
                }
                Step::Node(node) if node.gate.is_some() => {
                    ", then waits for the new processes, /readyz and etcd of this node"
                }
                Step::ServingCertificate(_) => ", then waits until the kubelet serves it",
                Step::Encryption(work) if work.part == EncryptionPart::Finish => {
                    "; each only when every API server has loaded its file"
                }
                Step::ConfigMapKey(key) if key.rollout.is_some() => {
                    ", then waits for every pod to be new and ready"
                }
                _ => "",
            };
            let last = match step {
                Step::Node(node) if is_leader(plan, stage, &node.node) => " (etcd's leader last)",
                _ => "",
            };
            line(
                out,
                format_args!(
                    "  {number:>width$}. {DIM}{}{DIM:#} {}{last}{gate}",
                    stage_name(stage.name),
                    step.title()
                ),
            );
        }
    }
}

/// Whether a node comes last of several for being etcd's leader.
fn is_leader(plan: &Plan, stage: &Stage, node: &str) -> bool {
    let others = stage.steps.iter().any(|step| match step {
        Step::Node(step) => step.node != node && plan.nodes.get(&step.node) == Some(&true),
        _ => false,
    });
    plan.etcd_leader.as_deref() == Some(node) && others
}

/// What people call a stage.
pub(crate) fn stage_name(name: StageName) -> &'static str {
    match name {
        StageName::NodeFiles => "node files",
        StageName::ObjectsPermit => "new namespaces",
        StageName::Kubelets => "kubelets",
        StageName::ServingCertificates => "serving certificates",
        StageName::ControlPlane => "control plane",
        StageName::KubeProxy => "kube-proxy",
        StageName::ObjectsEnforce => "API objects",
        StageName::BindingsLeft | StageName::ObjectsLeft => "left the profile",
        StageName::KubeadmConfig => "kubeadm-config",
        StageName::EncryptionFiles => "encryption files",
        StageName::Encryption => "encryption",
    }
}

fn summary(plan: &Plan) -> String {
    let incomplete = plan
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    let unfinished = match incomplete {
        0 => String::new(),
        1 => "; INCOMPLETE: 1 thing could not be compared or cannot be done".into(),
        n => format!("; INCOMPLETE: {n} things could not be compared or cannot be done"),
    };
    if plan.changes.is_empty() {
        return match incomplete {
            0 => match &plan.purpose {
                Purpose::Bootstrap(node) => {
                    format!("No changes: {node} has what it needs to join.")
                }
                _ => "No changes: the cluster is as the profile says.".into(),
            },
            _ => format!("No changes among what could be compared{unfinished}."),
        };
    }
    let mut risks: BTreeMap<Risk, usize> = BTreeMap::new();
    for change in &plan.changes {
        *risks.entry(change.risk).or_default() += 1;
    }
    let risks: Vec<String> = risks
        .iter()
        .map(|(r, n)| format!("{n} {}", risk(*r)))
        .collect();
    // Whichever node differs, a DaemonSet restarts on all of them.
    let rolled_out: BTreeSet<&str> = plan
        .steps()
        .filter_map(|(_, step)| match step {
            Step::ConfigMapKey(key) => key.rollout.as_deref(),
            _ => None,
        })
        .collect();
    let everywhere = rolled_out
        .iter()
        .map(|what| format!("{what} on every node"));
    let restarts: BTreeSet<String> = plan
        .changes
        .iter()
        .filter_map(|c| match (&c.place, c.restarts.as_deref()) {
            (Place::Node(node), Some(what)) if !rolled_out.contains(what) => {
                Some(format!("{what} on {node}"))
            }
            _ => None,
        })
        .chain(everywhere)
        .collect();
    let restarts = match restarts.len() {
        0 => "nothing restarts".to_owned(),
        _ => format!(
            "restarts {}",
            restarts.into_iter().collect::<Vec<_>>().join(", ")
        ),
    };
    let plural = if plan.changes.len() == 1 { "" } else { "s" };
    format!(
        "{} change{plural} ({}); {restarts}{unfinished}.",
        plan.changes.len(),
        risks.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::{Cluster, ConfigMapStep, SCHEMA, Stage};

    fn plan(steps: usize) -> Plan {
        let step = |number: usize| {
            Step::ConfigMapKey(ConfigMapStep {
                namespace: "a".into(),
                name: "b".into(),
                key: number.to_string(),
                before: String::new(),
                after: String::new(),
                rollout: None,
            })
        };
        let change = |risk, restarts: Option<&str>| Change {
            resource: "kube-apiserver --v".into(),
            place: Place::Node("cp1".into()),
            copy: None,
            before: None,
            after: Some("2".into()),
            diff: None,
            reason: String::new(),
            controls: Vec::new(),
            origins: Vec::new(),
            risk,
            uniform: false,
            restarts: restarts.map(str::to_owned),
        };
        Plan {
            schema: SCHEMA.into(),
            version: String::new(),
            cluster: Cluster {
                name: "c".into(),
                id: String::new(),
                distribution: Default::default(),
            },
            desired: String::new(),
            etcd_leader: None,
            purpose: Purpose::Converge,
            nodes: BTreeMap::from([("cp1".to_owned(), true)]),
            changes: vec![
                change(Risk::Restart, Some("kube-apiserver")),
                change(Risk::Guarded, Some("kube-apiserver")),
                change(Risk::Restart, None),
            ],
            stages: vec![Stage {
                name: StageName::KubeadmConfig,
                steps: (1..=steps).map(step).collect(),
            }],
            problems: Vec::new(),
            impact: Default::default(),
            basis: Vec::new(),
        }
    }

    #[test]
    fn steps_stay_aligned_and_a_restart_is_said_once() {
        let text = plan_text(&plan(10), PlanText { details: false });
        let text = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(text, @"
        Plan for cluster c

        cp1 (control plane)
          + kube-apiserver --v: (absent) → 2  (restarts kube-apiserver)
          + kube-apiserver --v: (absent) → 2  (guarded, restarts kube-apiserver)
          + kube-apiserver --v: (absent) → 2  (restart)

        Order of work
           1. kubeadm-config API: ConfigMap a/b 1
           2. kubeadm-config API: ConfigMap a/b 2
           3. kubeadm-config API: ConfigMap a/b 3
           4. kubeadm-config API: ConfigMap a/b 4
           5. kubeadm-config API: ConfigMap a/b 5
           6. kubeadm-config API: ConfigMap a/b 6
           7. kubeadm-config API: ConfigMap a/b 7
           8. kubeadm-config API: ConfigMap a/b 8
           9. kubeadm-config API: ConfigMap a/b 9
          10. kubeadm-config API: ConfigMap a/b 10

        3 changes (2 restart, 1 guarded); restarts kube-apiserver on cp1.
        ");
    }
}
