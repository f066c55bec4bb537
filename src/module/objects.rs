//! Checks objects of the user's own in a profile, each with its place.

use std::collections::BTreeMap;

use serde_json::json;

use super::check::{Body, Checked, json as plain};
use crate::fact::ObjectRef;
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

fn is_namespaced(reference: &ObjectRef) -> bool {
    let (group, kind, ..) = reference.identity();
    let kinds = NAMESPACED.iter().find(|(one, _)| *one == group);
    kinds.is_some_and(|(_, kinds)| kinds.contains(&kind))
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
        if reference.namespace.is_empty() && is_namespaced(&reference) {
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
