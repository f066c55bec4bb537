//! What becomes of an object that has left the profile.

use serde_json::Value;

use super::Risk;
use crate::fact::ObjectRef;
use crate::fact::ledger::How;

/// The name of the field manager as which harden applies.
pub const MANAGER: &str = "harden";

/// The manager to whom the API server gives all fields of an object that has no managers yet, when somebody
/// applies it for the first time: one that was made before managers were noted, or of which harden, its only
/// one, let go.
/// Source: apimachinery v0.35 `pkg/util/managedfields/internal/skipnonapplied.go`.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Whether nobody else answers for a field of this manager's: it stands for nobody, or for harden itself, which
/// owns by `Update` what it replaced.
pub fn is_free(manager: &str) -> bool {
    [MANAGER, BEFORE_FIRST_APPLY].contains(&manager)
}

/// The kinds that hold nothing but what their manifest says, by group: deleting one loses nothing that
/// applying it again does not bring back. Whatever is not here stays unless `allow-delete` names it.
const REPLACEABLE: &[(&str, &str)] = &[
    ("", "ConfigMap"),
    ("", "LimitRange"),
    ("", "ResourceQuota"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    (
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicyBinding",
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    (
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicyBinding",
    ),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("scheduling.k8s.io", "PriorityClass"),
];

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is deleted; the risk says whether a rollback brings all of it back.
    Deleted(Risk),
    /// It stays as it is, and harden gives up its fields. Why, and whether `allow-delete` would change
    /// that.
    Kept(&'static str, bool),
    /// harden has no part in it, so there is nothing to do.
    Forgotten,
}

/// Decides what becomes of an object that has left the profile. `allowed` says whether `allow-delete`
/// names it.
pub fn fate(reference: &ObjectRef, how: How, live: Option<&Value>, allowed: bool) -> Fate {
    let Some(live) = live else {
        return Fate::Forgotten;
    };
    if !bears(live) {
        return Fate::Forgotten;
    }
    let (group, kind, _, name) = reference.identity();
    if (group, kind) == ("", "Namespace") && (name == "default" || name.starts_with("kube-")) {
        return Fate::Kept("the cluster itself needs it", false);
    }
    if (group, kind, name) == ("", "ServiceAccount", "default") {
        return Fate::Kept("Kubernetes makes it in every namespace", false);
    }
    if allowed {
        return Fate::Deleted(match REPLACEABLE.contains(&(group, kind)) {
            true => Risk::Guarded,
            false => Risk::Irreversible,
        });
    }
    if !REPLACEABLE.contains(&(group, kind)) {
        let why = match kind {
            "Namespace" if group.is_empty() => "everything in it would be lost with it",
            _ => "it may hold data, or others may rest on it",
        };
        return Fate::Kept(why, true);
    }
    if how == How::Adopted {
        return Fate::Kept("it is not known that harden made it", true);
    }
    let others = others(live);
    if kind == "ConfigMap" && !others.is_empty() {
        return Fate::Kept("others keep data in it", true);
    }
    if others.iter().any(|(_, operation)| *operation == "Apply") {
        return Fate::Kept("another manager applies it as well", true);
    }
    Fate::Deleted(Risk::Guarded)
}

/// Lists what a namespace holds beyond what a plan names. Pods and ReplicaSets do not count: they come and go
/// by themselves. Both lists are of words as in `ConfigMap settings`.
pub fn beyond<'h>(held: &'h [String], named: &[String]) -> Vec<&'h str> {
    let passes = |one: &String| ["Pod ", "ReplicaSet "].iter().any(|k| one.starts_with(k));
    let new = held
        .iter()
        .filter(|one| !passes(one) && !named.contains(one));
    new.map(String::as_str).collect()
}

/// Whether harden is among the field managers of an object.
pub fn bears(live: &Value) -> bool {
    managers(live).any(|(manager, _)| manager == MANAGER)
}

/// Returns an object without what says that harden manages fields of it.
pub fn without_us(live: &Value) -> Value {
    let mut left = live.clone();
    let fields = left
        .pointer_mut("/metadata/managedFields")
        .and_then(Value::as_array_mut);
    if let Some(fields) = fields {
        fields.retain(|one| one.get("manager").and_then(Value::as_str) != Some(MANAGER));
    }
    left
}

/// The managers that are not harden.
fn others(live: &Value) -> Vec<(&str, &str)> {
    managers(live)
        .filter(|(manager, _)| *manager != MANAGER)
        .collect()
}

/// The managers of an object's fields with what they did, without those of its status.
fn managers(live: &Value) -> impl Iterator<Item = (&str, &str)> {
    let fields = live.pointer("/metadata/managedFields");
    let fields = fields.and_then(Value::as_array).into_iter().flatten();
    let of_status = |one: &&Value| {
        let subresource = one.get("subresource").and_then(Value::as_str);
        subresource.is_some_and(|name| !name.is_empty())
    };
    fields.filter(move |one| !of_status(one)).filter_map(|one| {
        let manager = one.get("manager")?.as_str()?;
        let operation = one.get("operation").and_then(Value::as_str);
        Some((manager, operation.unwrap_or_default()))
    })
}
