//! What is in a tenant's namespaces already when `guard` begins. The guard judges requests, so it stays and opens
//! what it opens.
//!
//! Of bindings this is what the policy `harden-tenant-bindings` would refuse (`modules/tenant-fence.toml`). Of
//! network policies it is every rule that leaves the tenant's own namespaces: whether the profile's `ingress` or
//! `egress` would allow that, the API server alone can tell.

use serde_json::Value;

use super::enforcement::Namespace;
use super::network::peers_and_ports;
use super::workload::not_listed;
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

/// How a namespace is guarded.
const LABEL: &str = "/metadata/labels/harden.dev~1guard";

/// The label that the API server itself sets on a namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    let begins = |one: &super::enforcement::Planned| {
        let (before, after) = one.both(LABEL);
        one.before.is_some() && before.is_null() && !after.is_null()
    };
    namespace.of("Namespace").any(begins)
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => vec![ObjectList::NetworkPolicies, ObjectList::RoleBindings],
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let Some(planned) = namespace.of("Namespace").next() else {
        return;
    };
    let kind = HitKind::Guard;
    let mut listed = |listing| {
        let all = facts.of(listing, &namespace.name);
        all.unwrap_or_else(|why| {
            let why = not_listed(listing, &why);
            let why = format!("what is there already that the guard would refuse: {why}");
            found.unknown(kind, &namespace.name, why);
            &[]
        })
    };
    let policies = listed(ObjectList::NetworkPolicies);
    let bindings = listed(ObjectList::RoleBindings);
    let annotation = |name: &str| {
        let (_, after) = planned.both("/metadata/annotations");
        let lines = after[format!("harden.dev/{name}")].as_str();
        let lines: Vec<&str> = lines
            .into_iter()
            .flat_map(|text| text.split('\n'))
            .collect();
        (lines, after[format!("harden.dev/{name}")].is_string())
    };
    let (own, _) = annotation("namespaces");
    let (accounts, _) = annotation("accounts");
    let (_, is_isolated) = annotation("network");
    let theirs = |object: &&Value| {
        object.pointer("/metadata/labels/app.kubernetes.io~1managed-by") != Some(&"harden".into())
    };
    let mut evidence = Vec::new();
    let mut who = Vec::new();
    for policy in policies.iter().filter(theirs).filter(|_| is_isolated) {
        let wide = wide_rules(&policy["spec"], &own);
        if let (Some(name), false) = (policy["metadata"]["name"].as_str(), wide.is_empty()) {
            let name = format!("NetworkPolicy {name}");
            evidence.push(format!("{name}: {}", wide.join("; ")));
            who.push(name);
        }
    }
    let how = (kind, Effect::StaysAsItIs);
    let what = "network policy(s) that open more than the tenant to itself";
    found.hit(planned, how, what, who, evidence);

    let mut evidence = Vec::new();
    let mut who = Vec::new();
    for binding in bindings.iter().filter(theirs) {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let strangers: Vec<String> = subjects
            .map(subject)
            .filter(|name| is_stranger(name, &own, &accounts))
            .collect();
        if let (Some(name), false) = (binding["metadata"]["name"].as_str(), strangers.is_empty()) {
            let name = format!("RoleBinding {name}");
            evidence.push(format!("{name}: {}", strangers.join(", ")));
            who.push(name);
        }
    }
    let what = "binding(s) that let in others than the tenant's people and accounts";
    found.hit(planned, how, what, who, evidence);
}

/// The rules with a peer outside of the tenant's namespaces.
fn wide_rules(spec: &Value, own: &[&str]) -> Vec<String> {
    let mut wide = Vec::new();
    for (field, peers, way) in [("ingress", "from", "in"), ("egress", "to", "out")] {
        for rule in spec[field].as_array().into_iter().flatten() {
            let all = rule[peers].as_array().map_or(&[][..], Vec::as_slice);
            if all.is_empty() || !all.iter().all(|peer| is_own(peer, own)) {
                wide.push(format!("{way}: {}", peers_and_ports(rule, peers)));
            }
        }
    }
    wide
}

/// Whether a peer is surely within the tenant.
fn is_own(peer: &Value, own: &[&str]) -> bool {
    if !peer["ipBlock"].is_null() {
        return false;
    }
    let selector = &peer["namespaceSelector"];
    if selector.is_null() {
        return true;
    }
    let is_own = |name: &Value| name.as_str().is_some_and(|name| own.contains(&name));
    let expressions = selector["matchExpressions"].as_array();
    let named = expressions.into_iter().flatten().any(|one| {
        let values = one["values"].as_array();
        one["key"] == NAMESPACE_NAME
            && one["operator"] == "In"
            && values.is_some_and(|all| all.iter().all(is_own))
    });
    named || is_own(&selector["matchLabels"][NAMESPACE_NAME])
}

/// A subject's name as the API server sees who it is.
fn subject(subject: &Value) -> String {
    let text = |field: &str| subject[field].as_str().unwrap_or_default();
    match text("kind") {
        "ServiceAccount" => {
            let (namespace, name) = (text("namespace"), text("name"));
            format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => text("name").to_owned(),
    }
}

fn is_stranger(name: &str, own: &[&str], accounts: &[&str]) -> bool {
    let of_own = || {
        let rest = ["system:serviceaccount:", "system:serviceaccounts:"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        let namespace = rest.and_then(|rest| rest.split(':').next());
        namespace.is_some_and(|namespace| own.contains(&namespace))
    };
    name.starts_with("system:") && !accounts.contains(&name) && !of_own()
}
