//! Pods below a Pod Security level that a namespace gets, by the API server's own word; and workloads of which no
//! pod lives, by what their templates say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::enforcement::{Namespace, Planned};
use super::workload::{LISTS, at_rest};
use super::{Effect, Found, HitKind};
use crate::fact::standards::is_judged;
use crate::fact::{ENFORCE_LABEL, ENFORCE_VERSION_LABEL, ImpactFacts, ObjectList};

/// Returns the labels to try: where the level of a namespace that exists changes, and is one that
/// refuses something. What relaxes it is tried as well; the server then warns of nothing.
pub(super) fn labels(namespace: &Namespace<'_>) -> Option<BTreeMap<String, String>> {
    let planned = namespace.of("Namespace").next()?;
    planned.before.as_ref()?;
    let (before, after) = planned.both("/metadata/labels");
    let text = |labels: &Value, label: &str| labels[label].as_str().map(str::to_owned);
    let level = text(after, ENFORCE_LABEL).filter(|level| level != "privileged")?;
    let version = text(after, ENFORCE_VERSION_LABEL).unwrap_or_else(|| "latest".into());
    let was = text(before, ENFORCE_VERSION_LABEL).unwrap_or_else(|| "latest".into());
    let is_same = text(before, ENFORCE_LABEL).as_ref() == Some(&level) && was == version;
    (!is_same).then(|| {
        [
            (ENFORCE_LABEL.to_owned(), level),
            (ENFORCE_VERSION_LABEL.to_owned(), version),
        ]
        .into()
    })
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match labels(namespace) {
        Some(_) => LISTS.to_vec(),
        None => Vec::new(),
    }
}

/// What runs, the server judges; what rests has no pod that it could look at.
fn judge_at_rest(
    planned: &Planned,
    (level, version, shown): (&str, &str, &str),
    facts: &ImpactFacts,
    found: &mut Found,
) {
    let kind = HitKind::PodSecurity;
    let namespace = planned.namespace();
    let (resting, unknown) = at_rest(facts, namespace);
    for why in unknown {
        let why = format!("which workloads at rest are below {shown}: {why}");
        found.unknown(kind, namespace, why);
    }
    if !is_judged(version) && !resting.is_empty() {
        let why =
            format!("which workloads at rest are below {shown}: harden knows no standards as old");
        return found.unknown(kind, namespace, why);
    }
    let (was, _) = planned.both("/metadata/labels");
    let was = was[ENFORCE_LABEL].as_str().unwrap_or_default();
    let mut who = Vec::new();
    let mut evidence = Vec::new();
    for (name, faults) in resting {
        let is_refused_already = faults[was].as_array().is_some_and(|all| !all.is_empty());
        let faults = faults[level].as_array().into_iter().flatten();
        let faults: Vec<&str> = faults.filter_map(Value::as_str).collect();
        if !faults.is_empty() && !is_refused_already {
            evidence.push(format!("{name}: {}", faults.join(", ")));
            who.push(name);
        }
    }
    let how = (kind, Effect::RefusedWhenStarted);
    let what = format!("workload(s) without a pod, of a template below {shown}");
    found.hit(planned, how, what, who, evidence);
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let (Some(labels), Some(planned)) = (labels(namespace), namespace.of("Namespace").next())
    else {
        return;
    };
    let level = match labels[ENFORCE_VERSION_LABEL].as_str() {
        "latest" => labels[ENFORCE_LABEL].clone(),
        version => format!("{} of {version}", labels[ENFORCE_LABEL]),
    };
    let by = (
        &*labels[ENFORCE_LABEL],
        &*labels[ENFORCE_VERSION_LABEL],
        &*level,
    );
    judge_at_rest(planned, by, facts, found);
    let kind = HitKind::PodSecurity;
    let Some(answer) = facts.levels.get(&namespace.name) else {
        let why = format!("which pods are below {level}: it was not asked");
        return found.unknown(kind, &namespace.name, why);
    };
    if let Some(why) = &answer.told.untold {
        let why = format!("which pods are below {level}: {why}");
        found.unknown(kind, &namespace.name, why);
    }
    let pods = &answer.told.pods;
    let count = pods.iter().map(|(_, count)| count).sum();
    // The first line only says what the others are about.
    let words = answer.words.iter();
    let words = words.filter(|line| !line.starts_with("existing pods in namespace "));
    let words: Vec<String> = words.cloned().collect();
    found.hit_of_many(
        planned,
        (kind, Effect::RefusedAtNextStart),
        format!("pod(s) below {level}"),
        count,
        pods.iter().map(|(name, _)| name.clone()),
        words,
    );
}
