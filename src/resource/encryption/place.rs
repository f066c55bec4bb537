//! Where the objects of a resource lie in etcd.

use crate::fact::encryption::EtcdPrefix;

/// What every key begins with unless `--etcd-prefix` says otherwise (kubernetes v1.35
/// cmd/kube-apiserver/app/options/options.go: `NewServerRunOptions`, `DefaultEtcdPathPrefix`).
pub const DEFAULT_ROOT: &str = "/registry";

/// The groups that the API server itself stores; of these a key has no group. Source: kubernetes v1.35
/// pkg/controlplane/instance.go (`GenericStorageProviders` and `CompletedConfig.StorageProviders`).
const BUILT_IN: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Those whose place has another name. Source: kubernetes v1.35
/// pkg/kubeapiserver/default_storage_factory_builder.go: `SpecialDefaultResourcePrefixes`.
const SPECIAL: &[(&str, &str, &str)] = &[
    ("replicationcontrollers", "", "controllers"),
    ("endpoints", "", "services/endpoints"),
    ("nodes", "", "minions"),
    ("services", "", "services/specs"),
    ("ingresses", "networking.k8s.io", "ingress"),
];

/// A resource as an EncryptionConfiguration names it: `RESOURCE` or `RESOURCE.GROUP`, either of which may
/// be `*`. Source: kubernetes v1.35 staging/src/k8s.io/apimachinery/pkg/runtime/schema/group_version.go
/// (`ParseGroupResource`).
pub fn split(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

/// Returns where the objects of a resource without `*` lie, `root` being `--etcd-prefix`. Objects of
/// other groups than Kubernetes' own have the group in their key (apiextensions-apiserver
/// pkg/apiserver/customresource_handler.go: `CRDRESTOptionsGetter.GetRESTOptions`).
///
/// # Errors
/// That it has no such place.
pub fn prefix(root: &str, name: &str) -> Result<EtcdPrefix, String> {
    let (resource, group) = split(name);
    if name.contains('*') {
        return Err(format!("{name} stands for many resources"));
    }
    let special = SPECIAL
        .iter()
        .find(|(r, g, _)| (*r, *g) == (resource, group));
    let place = match special {
        Some((_, _, place)) => (*place).to_owned(),
        None if BUILT_IN.contains(&group) => resource.to_owned(),
        None => format!("{group}/{resource}"),
    };
    EtcdPrefix::new(format!("{}/{place}/", root.trim_end_matches('/')))
}

/// Finds the rule that counts for a resource: its own, or else that of all resources of its group, or
/// else that of all (encryptionconfig/config.go: `transformerFromOverrides`).
pub fn rule<'r>(rules: impl Iterator<Item = &'r str> + Clone, name: &str) -> Option<&'r str> {
    let (_, group) = split(name);
    let wildcard = format!("*.{group}");
    let find = |wanted: &str| rules.clone().find(|rule| *rule == wanted);
    find(name)
        .or_else(|| find(&wildcard))
        .or_else(|| find("*.*"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn objects_lie_where_kubernetes_puts_them() {
        for (name, place) in [
            ("secrets", "/registry/secrets/"),
            ("services", "/registry/services/specs/"),
            ("deployments.apps", "/registry/deployments/"),
            ("ingresses.networking.k8s.io", "/registry/ingress/"),
            ("leases.coordination.k8s.io", "/registry/leases/"),
            (
                "apiservices.apiregistration.k8s.io",
                "/registry/apiregistration.k8s.io/apiservices/",
            ),
            (
                "pandas.awesome.bears.example",
                "/registry/awesome.bears.example/pandas/",
            ),
        ] {
            assert_eq!(prefix("/registry", name).unwrap().as_str(), place);
        }
        assert_eq!(prefix("/x/", "secrets").unwrap().as_str(), "/x/secrets/");
        for bad in ["*.*", "*.apps", "Secrets", "a/../b"] {
            assert!(prefix("/registry", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_rule_counts() {
        let rules = ["secrets", "*.apps", "*.*"];
        let found = |name| rule(rules.into_iter(), name);
        assert_eq!(found("secrets"), Some("secrets"));
        assert_eq!(found("deployments.apps"), Some("*.apps"));
        assert_eq!(found("configmaps"), Some("*.*"));
        assert_eq!(rule(["*."].into_iter(), "configmaps"), Some("*."));
        assert_eq!(rule(["secrets"].into_iter(), "configmaps"), None);
    }
}
