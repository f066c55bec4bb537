//! Rules of network policies that go, so that traffic ends which they alone allowed.
//!
//! Policies add up: what another one still allows goes on. Whether a rule that is written otherwise allows the
//! same is not told; then its new form stands beside it in the evidence.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::enforcement::{Namespace, Planned};
use super::network::{DIRECTIONS, has, peers_and_ports};
use super::selector::selects;
use super::workload::{maker, not_listed, pods};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

/// A rule that goes: of which direction, and as text.
type Rule = (&'static str, String);

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    let mut policies = namespace.of("NetworkPolicy");
    policies.any(|one| !lost(one).is_empty())
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => vec![ObjectList::NetworkPolicies, ObjectList::Pods],
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let kind = HitKind::Network;
    let policies = facts.of(ObjectList::NetworkPolicies, &namespace.name);
    let policies = policies.map_err(|why| not_listed(ObjectList::NetworkPolicies, &why));
    let (policies, pods) = match (policies, pods(facts, &namespace.name)) {
        (Ok(policies), Ok(pods)) => (policies, pods),
        (policies, pods) => {
            for why in [policies.err(), pods.err()].into_iter().flatten() {
                let why = format!("whose traffic ends with a rule: {why}");
                found.unknown(kind, &namespace.name, why);
            }
            return;
        }
    };
    let after = namespace.after("NetworkPolicy", policies);
    for one in namespace.of("NetworkPolicy") {
        let mut hit: BTreeMap<Rule, BTreeSet<String>> = BTreeMap::new();
        let (before, _) = one.both("/spec");
        for pod in &pods {
            let labels = &pod["metadata"]["labels"];
            if pod["spec"]["hostNetwork"] == true || !selects(&before["podSelector"], labels) {
                continue;
            }
            let of_pod = |policy: &&&Value| selects(&policy["spec"]["podSelector"], labels);
            let left: Vec<&&Value> = after.iter().filter(of_pod).collect();
            for rule in lost(one) {
                let direction = rule.0;
                // Without any policy of the direction everything is allowed.
                let is_closed = left.iter().any(|policy| has(&policy["spec"], direction));
                let mut rules = left.iter().flat_map(|p| rules(&p["spec"], direction));
                if is_closed && !rules.any(|other| other == rule.1 || is_all(&other)) {
                    let users = hit.entry(rule).or_default();
                    users.insert(maker(pod, &BTreeSet::new()));
                }
            }
        }
        let who: BTreeSet<String> = hit.values().flatten().cloned().collect();
        let evidence = hit.keys().map(|(direction, rule)| {
            let way = if *direction == "Egress" { "out" } else { "in" };
            format!("{way}: {rule}: no other policy has this rule")
        });
        found.hit(
            one,
            (kind, Effect::CutOff),
            "workload(s) that lose what a rule of this policy allowed",
            who,
            evidence,
        );
    }
}

/// The rules that a policy has and will not have.
fn lost(one: &Planned) -> Vec<Rule> {
    let (before, after) = one.both("/spec");
    let mut lost = Vec::new();
    for (direction, _) in DIRECTIONS {
        let kept = rules(after, direction);
        let gone = rules(before, direction).into_iter();
        let gone = gone.filter(|rule| !kept.contains(rule) && !kept.iter().any(|one| is_all(one)));
        lost.extend(gone.map(|rule| (direction, rule)));
    }
    lost
}

/// The rules of a direction as texts, so that defaults make no difference.
fn rules(spec: &Value, direction: &str) -> Vec<String> {
    let (field, peers) = match direction {
        "Egress" => ("egress", "to"),
        _ => ("ingress", "from"),
    };
    let rules = spec[field].as_array().into_iter().flatten();
    rules.map(|rule| peers_and_ports(rule, peers)).collect()
}

/// Whether a rule allows everything.
fn is_all(rule: &str) -> bool {
    rule == peers_and_ports(&Value::Null, "to")
}
