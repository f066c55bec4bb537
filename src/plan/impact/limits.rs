//! Workloads whose containers are outside of a LimitRange's bounds.
//!
//! Source: kubernetes v1.35 plugin/pkg/admission/limitranger/admission.go, `PodValidateLimitFunc`,
//! `minConstraint`, `maxConstraint` and `limitRequestRatioConstraint`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{Amounts, Container, amounts, containers, items, shown, sum};
use super::enforcement::Namespace;
use super::workload::{LISTS, not_listed, workloads};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

/// Whether a LimitRange gets bounds that it does not have. Its defaults alone refuse nothing.
pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    let bounds = |limits: &Value| -> Vec<Value> {
        let items = limits.as_array().into_iter().flatten();
        items
            .filter(|item| item["type"] != "PersistentVolumeClaim")
            .flat_map(|item| {
                ["min", "max", "maxLimitRequestRatio"].map(|field| match item[field].is_null() {
                    true => Value::Null,
                    false => serde_json::json!([item["type"], field, item[field]]),
                })
            })
            .filter(|bound| !bound.is_null())
            .collect()
    };
    namespace.of("LimitRange").any(|one| {
        let (before, after) = one.both("/spec/limits");
        let known = bounds(before);
        bounds(after).iter().any(|bound| !known.contains(bound))
    })
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => [&LISTS[..], &[ObjectList::LimitRanges]].concat(),
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let Some(planned) = namespace.of("LimitRange").next() else {
        return;
    };
    let kind = HitKind::Limits;
    let whose = "whose containers are outside of the limits";
    let listed = facts.of(ObjectList::LimitRanges, &namespace.name);
    if let Err(why) = &listed {
        let why = format!("{whose}: {}", not_listed(ObjectList::LimitRanges, why));
        found.unknown(kind, &namespace.name, why);
    }
    let now = listed.unwrap_or_default();
    let before: Vec<&Value> = now.iter().collect();
    let after = namespace.after("LimitRange", now);
    let workloads = workloads(facts, &namespace.name);
    for why in &workloads.unknown {
        found.unknown(kind, &namespace.name, format!("{whose}: {why}"));
    }
    let mut who = Vec::new();
    let mut evidence = Vec::new();
    for workload in workloads.all {
        let known = faults(workload.spec, &before);
        let new = faults(workload.spec, &after);
        let new: Vec<&String> = new.difference(&known).collect();
        for fault in &new {
            evidence.push(format!("{}: {fault}", workload.name));
        }
        if !new.is_empty() {
            who.push(workload.name);
        }
    }
    found.hit(
        planned,
        (kind, Effect::RefusedAtNextStart),
        "workload(s) outside of the limits",
        who,
        evidence,
    );
}

/// Lists what is wrong with a PodSpec under these LimitRanges, one line each.
fn faults(spec: &Value, ranges: &[&Value]) -> BTreeSet<String> {
    let all = containers(spec, ranges);
    let mut faults = BTreeSet::new();
    for item in items(ranges, "Container") {
        for Container {
            name,
            requests,
            limits,
            ..
        } in &all
        {
            let whose = format!("container {name}");
            faults.extend(broken(item, &whose, requests, limits));
        }
    }
    for item in items(ranges, "Pod") {
        let requests = sum(&all, |one| &one.requests);
        let limits = sum(&all, |one| &one.limits);
        faults.extend(broken(item, "the pod", &requests, &limits));
    }
    faults
}

fn broken(item: &Value, whose: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut broken = Vec::new();
    let write = |name: &str, amount: i128| shown(name, amount);
    for (name, bound) in amounts(&item["min"]) {
        let least = format!("at least {} is wanted", write(&name, bound));
        match requests.get(&name) {
            None => broken.push(format!("{whose} requests no {name}, and {least}")),
            Some(request) if *request < bound => {
                let request = write(&name, *request);
                broken.push(format!("{whose} requests {request} {name}, and {least}"));
            }
            _ => {}
        }
        if let Some(limit) = limits.get(&name).filter(|limit| **limit < bound) {
            let limit = write(&name, *limit);
            broken.push(format!("{whose} limits {name} to {limit}, and {least}"));
        }
    }
    for (name, bound) in amounts(&item["max"]) {
        let most = format!("at most {} is allowed", write(&name, bound));
        match limits.get(&name) {
            None => broken.push(format!("{whose} has no limit of {name}, and {most}")),
            Some(limit) if *limit > bound => {
                let limit = write(&name, *limit);
                broken.push(format!("{whose} limits {name} to {limit}, and {most}"));
            }
            _ => {}
        }
        if let Some(request) = requests.get(&name).filter(|request| **request > bound) {
            let request = write(&name, *request);
            broken.push(format!("{whose} requests {request} {name}, and {most}"));
        }
    }
    for (name, ratio) in amounts(&item["maxLimitRequestRatio"]) {
        let of = |amounts: &Amounts| amounts.get(&name).copied().filter(|amount| *amount > 0);
        let most = format!(
            "at most {} times the request is allowed as limit",
            write("", ratio)
        );
        let is_good = match (of(limits), of(requests)) {
            // In hundreds of billionths, so that the product has room.
            (Some(limit), Some(request)) => {
                limit <= (request / 1000).saturating_mul(ratio / 1_000_000)
            }
            _ => false,
        };
        if !is_good {
            broken.push(format!("{whose} has another ratio of {name}, and {most}"));
        }
    }
    broken
}
