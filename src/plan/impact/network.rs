//! Pods that get a default deny for the first time, and the ways in that it closes.
//!
//! The first NetworkPolicy that selects a pod ends all traffic of its direction that none allows.
//! Source: kubernetes v1.35 staging/src/k8s.io/api/networking/v1/types.go, `NetworkPolicySpec`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::enforcement::{Namespace, Planned};
use super::selector::{selects, service_selects};
use super::workload::{maker, not_listed, pods};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList, canonical_json};

const LISTS: [ObjectList; 4] = [
    ObjectList::NetworkPolicies,
    ObjectList::Pods,
    ObjectList::Services,
    ObjectList::Ingresses,
];

/// A direction of traffic, as policies name it, with its rules.
pub(super) const DIRECTIONS: [(&str, &str); 2] = [("Ingress", "ingress"), ("Egress", "egress")];

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    // Only a new policy, or one that selects others or looks the other way too, can be a pod's first.
    namespace.of("NetworkPolicy").any(|one| {
        let (before, after) = one.both("/spec");
        !after.is_null()
            && (before.is_null()
                || before["podSelector"] != after["podSelector"]
                || DIRECTIONS
                    .iter()
                    .any(|(direction, _)| has(after, direction) && !has(before, direction)))
    })
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => LISTS.to_vec(),
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let kind = HitKind::Network;
    let mut say = |what: &str, why: &str| {
        found.unknown(kind, &namespace.name, format!("{what}: {why}"));
    };
    let listed = |listing| {
        facts
            .of(listing, &namespace.name)
            .map_err(|why| not_listed(listing, &why))
    };
    let whose = "whose traffic ends";
    let (policies, pods) = match (
        listed(ObjectList::NetworkPolicies),
        pods(facts, &namespace.name),
    ) {
        (Ok(policies), Ok(pods)) => (policies, pods),
        (policies, pods) => {
            for why in [policies.err(), pods.err()].into_iter().flatten() {
                say(whose, &why);
            }
            return;
        }
    };
    let mut open = |listing, what: &str| {
        listed(listing).unwrap_or_else(|why| {
            say(what, &why);
            &[]
        })
    };
    let ways = "which ways in from outside are closed";
    let (services, ingresses) = (
        open(ObjectList::Services, ways),
        open(ObjectList::Ingresses, ways),
    );

    let after = namespace.after("NetworkPolicy", policies);
    // Policies do not hold for pods in the node's network (networking/v1 leaves it to the plugin, and
    // plugins leave them alone).
    let fenced: Vec<Fenced<'_>> = pods
        .into_iter()
        .filter(|pod| pod["spec"]["hostNetwork"] != true)
        .filter_map(|pod| Fenced::of(pod, policies, &after))
        .collect();
    let Some(planned) = cause(namespace, &fenced) else {
        return;
    };
    let directions: BTreeSet<&str> = fenced
        .iter()
        .flat_map(|one| one.directions.clone())
        .collect();
    let directions: Vec<&str> = directions.into_iter().collect();
    let names: BTreeSet<String> = fenced
        .iter()
        .map(|one| maker(one.pod, &BTreeSet::new()))
        .collect();
    found.hit(
        planned,
        (kind, Effect::CutOff),
        format!(
            "workload(s) with {} pod(s) that get a default deny for the first time ({}); who uses their Services from other namespaces cannot be known",
            fenced.len(),
            directions.join(" and ")
        ),
        names,
        [],
    );
    let mut who = BTreeSet::new();
    let mut evidence = Vec::new();
    let mut closed_services: Vec<(&str, bool)> = Vec::new();
    for service in services {
        let behind = |one: &&Fenced<'_>| {
            let labels = &one.pod["metadata"]["labels"];
            one.directions.contains("Ingress")
                && service_selects(&service["spec"]["selector"], labels)
        };
        let behind: Vec<&Fenced<'_>> = fenced.iter().filter(behind).collect();
        let Some(name) = service["metadata"]["name"].as_str() else {
            continue;
        };
        let Some(opening) = behind.iter().map(|one| one.opening(&after)).min() else {
            continue;
        };
        if opening == Opening::All {
            continue;
        }
        closed_services.push((name, opening == Opening::Some));
        if let Some(entrance) = entrance(service) {
            who.insert(format!("Service {name}"));
            evidence.push(format!("Service {name} ({entrance}): {}", opening.words()));
        }
    }
    for ingress in ingresses {
        let Some(name) = ingress["metadata"]["name"].as_str() else {
            continue;
        };
        for service in backends(&ingress["spec"]) {
            let Some((_, some)) = closed_services.iter().find(|(one, _)| *one == service) else {
                continue;
            };
            let opening = if *some { Opening::Some } else { Opening::None };
            who.insert(format!("Ingress {name}"));
            evidence.push(format!(
                "Ingress {name} to Service {service}: {}",
                opening.words()
            ));
        }
    }
    found.hit(
        planned,
        (kind, Effect::CutOff),
        "way(s) in from outside that lead to these pods, closed unless `ingress` opens them",
        who,
        evidence,
    );
}

/// A pod that gets its first policy of a direction.
struct Fenced<'f> {
    pod: &'f Value,
    directions: BTreeSet<&'static str>,
}

/// Whom the policies of a pod let in, the closest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Opening {
    /// Nobody but the tenant.
    None,
    /// Some from elsewhere.
    Some,
    /// Everybody.
    All,
}

impl Opening {
    fn words(self) -> &'static str {
        match self {
            Opening::None => "nothing in the profile lets it in",
            Opening::Some => {
                "the profile lets some in from elsewhere; whether these are among them cannot be told"
            }
            Opening::All => "the profile lets it in",
        }
    }
}

impl<'f> Fenced<'f> {
    fn of(pod: &'f Value, before: &[Value], after: &[&Value]) -> Option<Self> {
        let labels = &pod["metadata"]["labels"];
        let holds = |policy: &Value, direction: &str| {
            has(&policy["spec"], direction) && selects(&policy["spec"]["podSelector"], labels)
        };
        let directions: BTreeSet<&str> = DIRECTIONS
            .into_iter()
            .map(|(direction, _)| direction)
            .filter(|direction| {
                after.iter().any(|policy| holds(policy, direction))
                    && !before.iter().any(|policy| holds(policy, direction))
            })
            .collect();
        (!directions.is_empty()).then_some(Fenced { pod, directions })
    }

    /// Whom the policies let in to this pod.
    fn opening(&self, policies: &[&Value]) -> Opening {
        let labels = &self.pod["metadata"]["labels"];
        let mut widest = Opening::None;
        for policy in policies {
            if !selects(&policy["spec"]["podSelector"], labels) {
                continue;
            }
            let own = policy["metadata"]["namespace"].as_str().unwrap_or_default();
            for rule in policy["spec"]["ingress"].as_array().into_iter().flatten() {
                widest = widest.max(of_rule(rule, own));
            }
        }
        widest
    }
}

/// Whom one rule lets in.
fn of_rule(rule: &Value, own: &str) -> Opening {
    let peers = rule["from"].as_array().map_or(&[][..], Vec::as_slice);
    let ports = rule["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let of_peer = |peer: &Value| match peer["ipBlock"]["cidr"].as_str() {
        Some("0.0.0.0/0" | "::/0") if peer["ipBlock"]["except"].is_null() => Opening::All,
        Some(_) => Opening::Some,
        None if peer["namespaceSelector"].is_null() => Opening::None,
        // The policy that lets a tenant's own namespaces in names them all, this one too.
        None => {
            let expressions = peer["namespaceSelector"]["matchExpressions"].as_array();
            let names_own = expressions.into_iter().flatten().any(|one| {
                one["key"] == "kubernetes.io/metadata.name"
                    && one["operator"] == "In"
                    && one["values"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|v| v == own))
            });
            if names_own {
                Opening::None
            } else {
                Opening::Some
            }
        }
    };
    let widest = match peers {
        [] => Opening::All,
        peers => peers.iter().map(of_peer).max().unwrap_or(Opening::None),
    };
    // On some ports only.
    match ports.is_empty() {
        true => widest,
        false => widest.min(Opening::Some),
    }
}

/// The planned policy that is named as the reason: of those that select one of these pods the one of most
/// directions, and of these the one with the fewest rules.
fn cause<'p>(namespace: &Namespace<'p>, fenced: &[Fenced<'_>]) -> Option<&'p Planned> {
    let directions = |spec: &Value| DIRECTIONS.iter().filter(|(one, _)| has(spec, one)).count();
    let rules = |spec: &Value| -> usize {
        let lists = DIRECTIONS
            .iter()
            .filter_map(|(_, rules)| spec[*rules].as_array());
        lists.map(Vec::len).sum()
    };
    let selecting = namespace.of("NetworkPolicy").filter(|one| {
        let (_, spec) = one.both("/spec");
        fenced.iter().any(|fenced| {
            let labels = &fenced.pod["metadata"]["labels"];
            let mut directions = fenced.directions.iter();
            selects(&spec["podSelector"], labels) && directions.any(|one| has(spec, one))
        })
    });
    selecting.min_by_key(|one| {
        let (_, spec) = one.both("/spec");
        (DIRECTIONS.len() - directions(spec), rules(spec))
    })
}

/// Whether a policy is about a direction. Where it does not say, it is about what comes in, and about
/// what goes out where it has rules for that.
pub(super) fn has(spec: &Value, direction: &str) -> bool {
    match spec["policyTypes"].as_array() {
        Some(types) if !types.is_empty() => types.iter().any(|one| one == direction),
        _ => !spec.is_null() && (direction == "Ingress" || !spec["egress"].is_null()),
    }
}

/// Writes a rule as people read it: `203.0.113.0/24 on TCP/443`. `peers` is the field that has them, `from` or
/// `to`. Defaults are written out, so that two rules that differ by these alone are one text.
pub(super) fn peers_and_ports(rule: &Value, peers: &str) -> String {
    let list = |field: &str| rule[field].as_array().map_or(&[][..], Vec::as_slice);
    let mut whom: Vec<String> = list(peers).iter().map(peer).collect();
    if whom.is_empty() {
        whom.push("everybody".into());
    }
    let ports: Vec<String> = list("ports").iter().map(port).collect();
    match ports.is_empty() {
        true => whom.join(" or "),
        false => format!("{} on {}", whom.join(" or "), ports.join(", ")),
    }
}

fn peer(peer: &Value) -> String {
    if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
        let except = peer["ipBlock"]["except"].as_array().into_iter().flatten();
        let except: Vec<&str> = except.filter_map(Value::as_str).collect();
        return match except.is_empty() {
            true => cidr.to_owned(),
            false => format!("{cidr} without {}", except.join(", ")),
        };
    }
    let selected = |what: &str, selector: &Value| match selector.as_object() {
        None => None,
        Some(all) if all.is_empty() => Some(format!("all {what}")),
        Some(_) => Some(format!("{what} {}", canonical_json(selector))),
    };
    let both = [
        selected("pods", &peer["podSelector"]),
        selected("namespaces", &peer["namespaceSelector"]),
    ];
    both.into_iter().flatten().collect::<Vec<_>>().join(" of ")
}

fn port(port: &Value) -> String {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let number = match &port["port"] {
        Value::String(name) => name.clone(),
        Value::Null => "any".to_owned(),
        number => number.to_string(),
    };
    match port["endPort"].as_i64() {
        Some(end) => format!("{protocol}/{number}-{end}"),
        None => format!("{protocol}/{number}"),
    }
}

/// How a Service is reached from outside of the cluster.
fn entrance(service: &Value) -> Option<String> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports: Vec<String> = ports
        .filter_map(|port| port["nodePort"].as_i64())
        .filter(|port| *port != 0)
        .map(|port| port.to_string())
        .collect();
    match spec["type"].as_str() {
        Some(kind @ ("NodePort" | "LoadBalancer")) => Some(match ports.is_empty() {
            true => kind.to_owned(),
            false => format!("{kind} {}", ports.join(", ")),
        }),
        _ => {
            let addresses = spec["externalIPs"].as_array();
            let has_some = addresses.is_some_and(|all| !all.is_empty());
            has_some.then(|| "externalIPs".to_owned())
        }
    }
}

/// The names of the Services to which an Ingress leads.
fn backends(spec: &Value) -> BTreeSet<&str> {
    let rules = spec["rules"].as_array().into_iter().flatten();
    let paths = rules.flat_map(|rule| rule["http"]["paths"].as_array().into_iter().flatten());
    let backends = paths.map(|path| &path["backend"]);
    backends
        .chain([&spec["defaultBackend"]])
        .filter_map(|backend| backend["service"]["name"].as_str())
        .collect()
}
