//! Usage above a quota, and workloads whose pods a quota on compute resources refuses.
//!
//! Source: kubernetes v1.35 pkg/quota/v1/evaluator/core/pods.go (`Constraints`, `podComputeUsageHelper`,
//! `QuotaV1Pod`), services.go (`Usage`), persistent_volume_claims.go (`Usage`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::containers::{Amounts, containers, of_the_pod, read, shown, sum};
use super::enforcement::{Namespace, Planned};
use super::workload::{LISTS, not_listed, pods, workloads};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

/// The resources of which every container must say how much it wants once there is a quota on them.
const DEMANDED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// Returns the bounds that are new or tighter than they are: resource and billionths.
fn tighter(planned: &Planned) -> BTreeMap<&str, i128> {
    let (before, after) = planned.both("/spec/hard");
    let all = after.as_object().into_iter().flatten();
    all.filter_map(|(name, bound)| {
        let bound = read(bound)?;
        let was = before.get(name).and_then(read);
        was.is_none_or(|was| bound < was)
            .then_some((name.as_str(), bound))
    })
    .collect()
}

/// Returns what containers must say from now on.
fn demanded(planned: &Planned) -> BTreeSet<&str> {
    let (before, after) = planned.both("/spec/hard");
    let is_new = |name: &&str| after.get(name).is_some() && before.get(name).is_none();
    DEMANDED.into_iter().filter(is_new).collect()
}

fn changes<'p>(namespace: &Namespace<'p>) -> Vec<&'p Planned> {
    let all = namespace.of("ResourceQuota");
    all.filter(|one| !tighter(one).is_empty()).collect()
}

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    !changes(namespace).is_empty()
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    let mut lists = BTreeSet::new();
    for planned in changes(namespace) {
        for name in tighter(planned).into_keys() {
            lists.extend(source(name).filter(|_| used(planned, name).is_none()));
        }
        if !demanded(planned).is_empty() {
            lists.extend(LISTS);
            lists.insert(ObjectList::LimitRanges);
        }
    }
    lists.into_iter().collect()
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    for planned in changes(namespace) {
        above(namespace, planned, facts, found);
        silent(namespace, planned, facts, found);
    }
}

/// What is used above its bound.
fn above(namespace: &Namespace<'_>, planned: &Planned, facts: &ImpactFacts, found: &mut Found) {
    let (mut over, mut names) = (Vec::new(), Vec::new());
    for (name, bound) in tighter(planned) {
        match usage(planned, name, &namespace.name, facts) {
            Ok(used) if used > bound => {
                let (used, bound) = (shown(name, used), shown(name, bound));
                over.push(format!("{name}: {used} used, {bound} allowed"));
                names.push(name);
            }
            Ok(_) => {}
            Err(why) => {
                let why = format!("how much of {name} is used: {why}");
                found.unknown(HitKind::Quota, &namespace.name, why);
            }
        }
    }
    found.hit(
        planned,
        (HitKind::Quota, Effect::AboveQuota),
        "resource(s) used above the quota",
        over,
        [],
    );
    if !names.is_empty() {
        found.because_of(&names);
    }
}

/// Workloads that do not say how much they want of what the quota counts.
fn silent(namespace: &Namespace<'_>, planned: &Planned, facts: &ImpactFacts, found: &mut Found) {
    let demanded = demanded(planned);
    if demanded.is_empty() {
        return;
    }
    let kind = HitKind::Quota;
    let whose = "whose pods the quota refuses for not saying what they want";
    let listed = facts.of(ObjectList::LimitRanges, &namespace.name);
    if let Err(why) = &listed {
        let why = not_listed(ObjectList::LimitRanges, why);
        let why = format!("{whose}, since a LimitRange may say it for them: {why}");
        found.unknown(kind, &namespace.name, why);
    }
    let ranges = namespace.after("LimitRange", listed.unwrap_or_default());
    let workloads = workloads(facts, &namespace.name);
    for why in &workloads.unknown {
        found.unknown(kind, &namespace.name, format!("{whose}: {why}"));
    }
    let mut lacking = BTreeSet::new();
    let mut evidence = Vec::new();
    let mut who = Vec::new();
    for workload in workloads.all {
        // A pod that says it as a whole need not say it for each container.
        let of_pod = |field| of_the_pod(workload.spec, field);
        if !of_pod("requests").is_empty() || !of_pod("limits").is_empty() {
            continue;
        }
        let mut lacks = Vec::new();
        for container in containers(workload.spec, &ranges) {
            for name in &demanded {
                let says = match name.strip_prefix("limits.") {
                    Some(resource) => container.limits.contains_key(resource),
                    None => {
                        let resource = name.strip_prefix("requests.").unwrap_or(name);
                        container.requests.contains_key(resource)
                    }
                };
                if !says {
                    lacking.insert(*name);
                    lacks.push(format!("{name} of container {}", container.name));
                }
            }
        }
        if !lacks.is_empty() {
            evidence.push(format!("{} lacks {}", workload.name, lacks.join(", ")));
            who.push(workload.name);
        }
    }
    let lacking: Vec<&str> = lacking.into_iter().collect();
    let is_any = !who.is_empty();
    found.hit(
        planned,
        (kind, Effect::RefusedAtNextStart),
        format!(
            "workload(s) that do not say how much they want of {}",
            lacking.join(", ")
        ),
        who,
        evidence,
    );
    if is_any {
        found.because_of(&lacking);
    }
}

/// What the quota itself counts, where it is there already.
fn used(planned: &Planned, name: &str) -> Option<i128> {
    let (used, _) = planned.both("/status/used");
    used.get(name).and_then(read)
}

/// The list by which the usage of a resource is told.
fn source(name: &str) -> Option<ObjectList> {
    if let Some(counted) = name.strip_prefix("count/") {
        return ObjectList::of_count(counted);
    }
    Some(match name {
        "pods" | "cpu" | "memory" | "ephemeral-storage" => ObjectList::Pods,
        "services" | "services.nodeports" | "services.loadbalancers" => ObjectList::Services,
        "persistentvolumeclaims" | "requests.storage" => ObjectList::PersistentVolumeClaims,
        "configmaps" => ObjectList::ConfigMaps,
        "secrets" => ObjectList::Secrets,
        "replicationcontrollers" => ObjectList::ReplicationControllers,
        "resourcequotas" => ObjectList::ResourceQuotas,
        _ if name.contains(".storageclass.storage.k8s.io/") => ObjectList::PersistentVolumeClaims,
        _ if name.starts_with("requests.") || name.starts_with("limits.") => ObjectList::Pods,
        _ => return None,
    })
}

/// Tells how much of a resource is used, in billionths.
fn usage(
    planned: &Planned,
    name: &str,
    namespace: &str,
    facts: &ImpactFacts,
) -> Result<i128, String> {
    if let Some(used) = used(planned, name) {
        return Ok(used);
    }
    let (_, after) = planned.both("/spec");
    if !after["scopes"].is_null() || !after["scopeSelector"].is_null() {
        return Err("the quota has scopes, and harden does not count by scope".into());
    }
    let listing = source(name).ok_or("harden cannot count it")?;
    let objects = facts.of(listing, namespace);
    let objects = objects.map_err(|why| not_listed(listing, &why))?;
    let class = name.split_once(".storageclass.storage.k8s.io/");
    let of_class =
        |claim: &&Value| class.is_none_or(|(class, _)| claim["spec"]["storageClassName"] == *class);
    let bare = class.map_or(name, |(_, name)| name);
    let one = 1_000_000_000;
    Ok(match (listing, bare) {
        (ObjectList::Pods, "pods") => pods(facts, namespace)?.len() as i128 * one,
        (ObjectList::Pods, name) if !name.starts_with("count/") => pods(facts, namespace)?
            .into_iter()
            .map(|pod| of_pod(&pod["spec"], name))
            .fold(0, i128::saturating_add),
        (ObjectList::Services, "services.loadbalancers") => {
            let balanced = |one: &&Value| one["spec"]["type"] == "LoadBalancer";
            objects.iter().filter(balanced).count() as i128 * one
        }
        (ObjectList::Services, "services.nodeports") => {
            objects.iter().map(node_ports).sum::<i128>() * one
        }
        (ObjectList::PersistentVolumeClaims, "requests.storage") => objects
            .iter()
            .filter(of_class)
            .filter_map(|claim| read(&claim["spec"]["resources"]["requests"]["storage"]))
            .fold(0, i128::saturating_add),
        (ObjectList::PersistentVolumeClaims, "persistentvolumeclaims") => {
            objects.iter().filter(of_class).count() as i128 * one
        }
        _ => objects.len() as i128 * one,
    })
}

/// How much of a compute resource a pod counts for.
fn of_pod(spec: &Value, name: &str) -> i128 {
    let all = containers(spec, &[]);
    let (field, resource): (_, &str) = match name.strip_prefix("limits.") {
        Some(resource) => ("limits", resource),
        None => ("requests", name.strip_prefix("requests.").unwrap_or(name)),
    };
    let total: Amounts = match field {
        "limits" => sum(&all, |one| &one.limits),
        _ => sum(&all, |one| &one.requests),
    };
    // What a pod says as a whole counts before what its containers say.
    let whole = of_the_pod(spec, field).get(resource).copied();
    let total = whole.or_else(|| total.get(resource).copied());
    let overhead = spec["overhead"].get(resource).and_then(read);
    match (total, overhead) {
        (Some(total), Some(overhead)) => total.saturating_add(overhead),
        (None, Some(overhead)) if field == "requests" => overhead,
        (total, _) => total.unwrap_or(0),
    }
}

/// How many ports of the nodes a Service takes.
fn node_ports(service: &Value) -> i128 {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let given = ports
        .iter()
        .filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
    match spec["type"].as_str() {
        Some("NodePort") => ports.len() as i128,
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            given.count() as i128
        }
        Some("LoadBalancer") => ports.len() as i128,
        _ => 0,
    }
}
