//! Pods that get no token any more, because the service account `default` mounts none by itself.

use super::enforcement::{Namespace, Planned};
use super::workload::{LISTS, workloads};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

/// The planned change that takes the token away. Where nothing is said, it is mounted.
fn change<'p>(namespace: &Namespace<'p>) -> Option<&'p Planned> {
    namespace.of("ServiceAccount").find(|one| {
        let (before, after) = one.both("/automountServiceAccountToken");
        *before != false && *after == false && one.before.is_some()
    })
}

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    change(namespace).is_some()
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => LISTS.to_vec(),
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let Some(planned) = change(namespace) else {
        return;
    };
    let account = &planned.reference.name;
    let kind = HitKind::Token;
    let workloads = workloads(facts, &namespace.name);
    for why in &workloads.unknown {
        let why = format!("whose token of the service account {account} goes: {why}");
        found.unknown(kind, &namespace.name, why);
    }
    let runs_as_it = |spec: &serde_json::Value| {
        let name = spec["serviceAccountName"].as_str();
        name.filter(|name| !name.is_empty()).unwrap_or("default") == account
            && spec["automountServiceAccountToken"].is_null()
    };
    let who = workloads.all.into_iter().filter(|one| runs_as_it(one.spec));
    found.hit(
        planned,
        (kind, Effect::LosesAccessAtNextStart),
        format!(
            "workload(s) that run as {account:?} and do not say whether they want a token (whether they use it cannot be seen)"
        ),
        who.map(|one| one.name),
        [],
    );
}
