//! Checks objects of the user's own in a profile, each with its place.

use std::collections::BTreeMap;

use serde_json::json;

use super::check::{Body, Checked, json as plain};
use crate::fact::{ObjectRef, is_dns_name};
use crate::profile::section::{Complaints, Node, quoted};
use crate::resource::object::Object;

/// The kinds of Kubernetes itself that are in a namespace, by group. Of others the server knows.
/// Source: kubernetes v1.35 `pkg/registry`, NamespaceScoped of each strategy.
const NAMESPACED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "apps",
        &[
            "ControllerRevision",
            "DaemonSet",
            "Deployment",
            "ReplicaSet",
            "StatefulSet",
        ],
    ),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    ("coordination.k8s.io", &["Lease"]),
    ("discovery.k8s.io", &["EndpointSlice"]),
    ("networking.k8s.io", &["Ingress", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding"]),
];

/// The kinds of Kubernetes itself that are in no namespace, likewise.
const CLUSTER_SCOPED: &[(&str, &[&str])] = &[
    ("", &["Namespace", "Node", "PersistentVolume"]),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    (
        "certificates.k8s.io",
        &["CertificateSigningRequest", "ClusterTrustBundle"],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        &["FlowSchema", "PriorityLevelConfiguration"],
    ),
    (
        "networking.k8s.io",
        &["IPAddress", "IngressClass", "ServiceCIDR"],
    ),
    ("node.k8s.io", &["RuntimeClass"]),
    (
        "rbac.authorization.k8s.io",
        &["ClusterRole", "ClusterRoleBinding"],
    ),
    ("resource.k8s.io", &["DeviceClass", "ResourceSlice"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    (
        "storage.k8s.io",
        &[
            "CSIDriver",
            "CSINode",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
];

fn is_among(list: &[(&str, &[&str])], reference: &ObjectRef) -> bool {
    let (group, kind, ..) = reference.identity();
    let kinds = list.iter().find(|(one, _)| *one == group);
    kinds.is_some_and(|(_, kinds)| kinds.contains(&kind))
}

/// Says what is wrong with the words that an object is known by: they become a part of paths, of the ledger and
/// of what is shown.
///
/// Source: kubernetes v1.35 `pkg/apis/*/validation`: most names are DNS names; those of RBAC and certificates may be
/// any part of a path, of which the ledger takes letters, digits and `-.:_`.
fn misnamed(reference: &ObjectRef) -> Option<(&'static str, &'static str)> {
    let (group, kind, namespace, name) = reference.identity();
    let word = |text: &str, more: &str| {
        let is_known = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        (1..=253).contains(&text.len()) && text.chars().all(is_known)
    };
    let is_label = |text: &str| is_dns_name(text) && text.len() <= 63 && !text.contains('.');
    let version = reference.api_version.rsplit('/').next();
    let is_version = version.is_some_and(|version| word(version, ""))
        && (group.is_empty() || is_dns_name(group))
        && reference.api_version.matches('/').count() <= 1;
    if !is_version {
        return Some(("apiVersion", "it is a version, or GROUP/VERSION"));
    }
    if !word(kind, "") {
        return Some(("kind", "it has letters and digits only"));
    }
    if !namespace.is_empty() && !is_label(namespace) {
        return Some((
            "metadata.namespace",
            "it has up to 63 small letters, digits and `-`, and begins and ends with a letter or digit",
        ));
    }
    let is_good = match (group, kind) {
        ("rbac.authorization.k8s.io" | "certificates.k8s.io", _) => {
            word(name, "-.:_") && !matches!(name, "." | "..")
        }
        ("", "Namespace" | "Service") => is_label(name),
        _ => is_dns_name(name),
    };
    (!is_good).then_some((
        "metadata.name",
        "Kubernetes takes small letters, digits, `-` and `.`, with a letter or digit at both ends; of a Namespace or Service up to 63, without `.`",
    ))
}

/// Reads a list of objects, by their short names.
pub(super) fn check(
    items: &[Node<'_>],
    path: &str,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Checked> {
    let mut checked: BTreeMap<String, Checked> = BTreeMap::new();
    for item in items {
        let Some(manifest) = plain(item, path, out) else {
            continue;
        };
        // What a module's table is refused for is refused here, where its author wrote it.
        if let Err(why) = Object::from_table(json!({"manifest": manifest})) {
            let why = why
                .replacen("manifest.", "", 1)
                .replacen("manifest: ", "", 1);
            let is_secret = ObjectRef::of(&manifest).is_some_and(|one| one.kind == "Secret");
            let help = match is_secret {
                true => {
                    "make it with what keeps your secrets (External Secrets, Sealed Secrets, SOPS), and leave it out here: plans and records would hold it in the clear"
                }
                false => "write it as `kubectl get -o yaml` shows it, without what the server adds",
            };
            out.at(
                item.span(),
                format!("this is no object that harden can apply: {why}"),
                "this object",
                help,
            );
            continue;
        }
        let Some(reference) = ObjectRef::of(&manifest) else {
            continue;
        };
        if let Some((field, help)) = misnamed(&reference) {
            let (_, kind, namespace, name) = reference.identity();
            let value = match field {
                "apiVersion" => &reference.api_version,
                "kind" => kind,
                "metadata.namespace" => namespace,
                _ => name,
            };
            out.at(
                item.span(),
                format!("{field}: no object can have {}", quoted(value)),
                "this object",
                help,
            );
            continue;
        }
        if !reference.namespace.is_empty() && is_among(CLUSTER_SCOPED, &reference) {
            out.at(
                item.span(),
                format!(
                    "{} {} has the namespace {}, and a {} is in none",
                    reference.kind,
                    quoted(&reference.name),
                    quoted(&reference.namespace),
                    reference.kind
                ),
                "this object",
                "leave `namespace` out of its metadata: the kind is cluster-scoped",
            );
            continue;
        }
        if reference.namespace.is_empty() && is_among(NAMESPACED, &reference) {
            out.at(
                item.span(),
                format!(
                    "{} {} has no namespace, and every {} is in one",
                    reference.kind,
                    quoted(&reference.name),
                    reference.kind
                ),
                "this object",
                "add `namespace` to its metadata: nothing here is put into `default` unsaid",
            );
            continue;
        }
        let name = reference.short_name();
        if let Some(first) = checked.get(&name) {
            let first = out.file.place(first.span.clone(), "").line();
            out.at(
                item.span(),
                format!("{} is here twice", quoted(&name)),
                format!("it stands at line {first} already"),
                "leave one of them, or give it another name",
            );
            continue;
        }
        checked.insert(
            name,
            Checked {
                span: item.span(),
                body: Body::Leaf(manifest),
                rank: None,
            },
        );
    }
    checked
}
