//! What is asked to tell whom a plan would hit: a list for each kind of object, and a dry run for each
//! namespace whose Pod Security level changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::standards::faults;
use super::{Fact, Told};

/// A kind of object of which all are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum ObjectList {
    Pods,
    Deployments,
    StatefulSets,
    DaemonSets,
    CronJobs,
    Services,
    Ingresses,
    NetworkPolicies,
    LimitRanges,
    Roles,
    RoleBindings,
    ClusterRoles,
    ClusterRoleBindings,
    PersistentVolumeClaims,
    ConfigMaps,
    Secrets,
    ServiceAccounts,
    ReplicationControllers,
    ReplicaSets,
    Jobs,
    ResourceQuotas,
    /// Those Jobs that wait until somebody lets them run.
    SuspendedJobs,
}

/// How the API calls the objects of a [`ObjectList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedKind {
    /// `v1`, `apps/v1`.
    pub api_version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// Whether they are in namespaces.
    pub namespaced: bool,
    /// Whether they are only counted: what is in them is not even read.
    pub names_only: bool,
}

impl ObjectList {
    /// All of them.
    pub const ALL: [ObjectList; 22] = [
        ObjectList::Pods,
        ObjectList::Deployments,
        ObjectList::StatefulSets,
        ObjectList::DaemonSets,
        ObjectList::CronJobs,
        ObjectList::Services,
        ObjectList::Ingresses,
        ObjectList::NetworkPolicies,
        ObjectList::LimitRanges,
        ObjectList::Roles,
        ObjectList::RoleBindings,
        ObjectList::ClusterRoles,
        ObjectList::ClusterRoleBindings,
        ObjectList::PersistentVolumeClaims,
        ObjectList::ConfigMaps,
        ObjectList::Secrets,
        ObjectList::ServiceAccounts,
        ObjectList::ReplicationControllers,
        ObjectList::ReplicaSets,
        ObjectList::Jobs,
        ObjectList::ResourceQuotas,
        ObjectList::SuspendedJobs,
    ];

    /// Returns how the API calls them.
    pub fn listed(self) -> ListedKind {
        const RBAC: &str = "rbac.authorization.k8s.io/v1";
        let (api_version, kind, plural) = match self {
            ObjectList::Pods => ("v1", "Pod", "pods"),
            ObjectList::Deployments => ("apps/v1", "Deployment", "deployments"),
            ObjectList::StatefulSets => ("apps/v1", "StatefulSet", "statefulsets"),
            ObjectList::DaemonSets => ("apps/v1", "DaemonSet", "daemonsets"),
            ObjectList::CronJobs => ("batch/v1", "CronJob", "cronjobs"),
            ObjectList::Services => ("v1", "Service", "services"),
            ObjectList::Ingresses => ("networking.k8s.io/v1", "Ingress", "ingresses"),
            ObjectList::NetworkPolicies => {
                ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
            }
            ObjectList::LimitRanges => ("v1", "LimitRange", "limitranges"),
            ObjectList::Roles => (RBAC, "Role", "roles"),
            ObjectList::RoleBindings => (RBAC, "RoleBinding", "rolebindings"),
            ObjectList::ClusterRoles => (RBAC, "ClusterRole", "clusterroles"),
            ObjectList::ClusterRoleBindings => (RBAC, "ClusterRoleBinding", "clusterrolebindings"),
            ObjectList::PersistentVolumeClaims => {
                ("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            }
            ObjectList::ConfigMaps => ("v1", "ConfigMap", "configmaps"),
            ObjectList::Secrets => ("v1", "Secret", "secrets"),
            ObjectList::ServiceAccounts => ("v1", "ServiceAccount", "serviceaccounts"),
            ObjectList::ReplicationControllers => {
                ("v1", "ReplicationController", "replicationcontrollers")
            }
            ObjectList::ReplicaSets => ("apps/v1", "ReplicaSet", "replicasets"),
            ObjectList::Jobs | ObjectList::SuspendedJobs => ("batch/v1", "Job", "jobs"),
            ObjectList::ResourceQuotas => ("v1", "ResourceQuota", "resourcequotas"),
        };
        ListedKind {
            api_version,
            kind,
            plural,
            namespaced: !matches!(
                self,
                ObjectList::ClusterRoles | ObjectList::ClusterRoleBindings
            ),
            names_only: matches!(
                self,
                ObjectList::ConfigMaps
                    | ObjectList::Secrets
                    | ObjectList::ServiceAccounts
                    | ObjectList::ReplicationControllers
                    | ObjectList::ReplicaSets
                    | ObjectList::Jobs
                    | ObjectList::ResourceQuotas
            ),
        }
    }

    /// Finds the one that a quota counts under `count/` with this name: `pods`, `deployments.apps`.
    pub fn of_count(name: &str) -> Option<ObjectList> {
        ObjectList::ALL.into_iter().find(|listing| {
            let listed = listing.listed();
            let group = listed.api_version.split_once('/').map(|(group, _)| group);
            listed.namespaced
                && match group {
                    Some(group) => name
                        .strip_prefix(listed.plural)
                        .and_then(|rest| rest.strip_prefix('.'))
                        .is_some_and(|rest| rest == group),
                    None => name == listed.plural,
                }
        })
    }

    /// Returns what is kept of an object: a cluster may have a hundred thousand of them.
    pub fn keep(self, object: &Value) -> Value {
        let mut kept = Map::new();
        let mut metadata = Map::new();
        for field in ["name", "namespace", "labels", "deletionTimestamp"] {
            if let Some(value) = object["metadata"].get(field) {
                metadata.insert(field.into(), value.clone());
            }
        }
        let owners = object["metadata"]["ownerReferences"].as_array();
        let controller = owners.and_then(|all| all.iter().find(|one| one["controller"] == true));
        if let Some(owner) = controller {
            let owner = json!({"kind": owner["kind"], "name": owner["name"]});
            metadata.insert("controller".into(), owner);
        }
        kept.insert("metadata".into(), metadata.into());
        match self {
            ObjectList::Pods => {
                kept.insert("spec".into(), pod_spec(&object["spec"]));
                kept.insert("status".into(), json!({"phase": object["status"]["phase"]}));
            }
            ObjectList::Deployments | ObjectList::StatefulSets | ObjectList::DaemonSets => {
                keep_template(&mut kept, &object["spec"]["template"]);
            }
            ObjectList::CronJobs => {
                let job = &object["spec"]["jobTemplate"]["spec"];
                keep_template(&mut kept, &job["template"]);
            }
            // Of the others nothing is kept: what they were to do, their pods do or have done.
            ObjectList::SuspendedJobs => {
                if object["spec"]["suspend"] == true {
                    keep_template(&mut kept, &object["spec"]["template"]);
                }
            }
            ObjectList::Roles | ObjectList::ClusterRoles => {
                kept.insert("rules".into(), object["rules"].clone());
            }
            ObjectList::RoleBindings | ObjectList::ClusterRoleBindings => {
                kept.insert("subjects".into(), object["subjects"].clone());
                kept.insert("roleRef".into(), object["roleRef"].clone());
            }
            _ if self.listed().names_only => {}
            _ => {
                kept.insert("spec".into(), object["spec"].clone());
            }
        }
        kept.into()
    }
}

/// Keeps what counts of a template, and what is wrong with it by the Pod Security Standards.
fn keep_template(kept: &mut Map<String, Value>, template: &Value) {
    let counts = json!({
        "metadata": {"labels": template["metadata"]["labels"]},
        "spec": pod_spec(&template["spec"]),
    });
    kept.insert("template".into(), counts);
    kept.insert("faults".into(), faults(template));
}

/// What counts of a pod's specification; commands and environment, where secrets may be, do not.
fn pod_spec(spec: &Value) -> Value {
    let mut kept = Map::new();
    for field in [
        "serviceAccountName",
        "automountServiceAccountToken",
        "hostNetwork",
        "resources",
        "overhead",
    ] {
        if let Some(value) = spec.get(field) {
            kept.insert(field.into(), value.clone());
        }
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        if let Some(containers) = spec[field].as_array() {
            let containers = containers.iter().map(|one| {
                json!({"name": one["name"], "image": one["image"], "resources": one["resources"],
                    "restartPolicy": one["restartPolicy"]})
            });
            kept.insert(field.into(), containers.collect());
        }
    }
    if let Some(volumes) = spec["volumes"].as_array() {
        let references = volumes
            .iter()
            .filter_map(|one| one["image"].get("reference"));
        let images = references.map(|one| json!({"image": {"reference": one}}));
        kept.insert("volumes".into(), images.collect());
    }
    kept.into()
}

/// What is to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImpactQuery {
    /// The lists, each with the namespaces that count. For what is in no namespace they are empty.
    pub lists: BTreeMap<ObjectList, BTreeSet<String>>,
    /// The namespaces to be tried with labels, by which their Pod Security level changes.
    pub levels: BTreeMap<String, BTreeMap<String, String>>,
}

impl ImpactQuery {
    /// Whether nothing is to be asked.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.levels.is_empty()
    }
}

/// What the API server told of a namespace that would get another Pod Security level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LevelTold {
    /// The pods below it.
    pub told: Told,
    /// The server's own words, cleaned.
    pub words: Vec<String>,
}

/// What was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImpactFacts {
    /// What was kept of the objects of a list, by namespace.
    pub lists: BTreeMap<ObjectList, Fact<BTreeMap<String, Vec<Value>>>>,
    /// By namespace.
    pub levels: BTreeMap<String, LevelTold>,
}

impl ImpactFacts {
    /// Returns the objects of a namespace (an empty name for those that are in none).
    ///
    /// # Errors
    /// Why they are not known.
    pub fn of(&self, listing: ObjectList, namespace: &str) -> Result<&[Value], String> {
        match self.lists.get(&listing) {
            Some(Fact::Value(all)) => Ok(all.get(namespace).map_or(&[], Vec::as_slice)),
            Some(Fact::Absent) => Ok(&[]),
            Some(Fact::Unreadable(why)) => Err(why.clone()),
            None => Err("it was not asked for".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_s_names_find_their_lists() {
        for (name, listing) in [
            ("pods", Some(ObjectList::Pods)),
            ("secrets", Some(ObjectList::Secrets)),
            ("deployments.apps", Some(ObjectList::Deployments)),
            ("jobs.batch", Some(ObjectList::Jobs)),
            ("ingresses.networking.k8s.io", Some(ObjectList::Ingresses)),
            ("deployments", None),
            ("pods.apps", None),
            ("clusterroles.rbac.authorization.k8s.io", None),
            ("widgets.example.com", None),
        ] {
            assert_eq!(ObjectList::of_count(name), listing, "{name}");
        }
    }

    #[test]
    fn of_a_pod_nothing_is_kept_that_may_be_secret() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "n", "annotations": {"x": "secret"},
                "ownerReferences": [{"kind": "X", "name": "no"}, {"kind": "Job", "name": "j", "controller": true, "uid": "1"}]},
            "spec": {"serviceAccountName": "sa", "volumes": [{"name": "secret"}], "containers": [
                {"name": "c", "image": "i", "env": [{"name": "A", "value": "secret"}], "command": ["secret"]}]},
            "status": {"phase": "Running", "message": "secret"},
        });
        let kept = ObjectList::Pods.keep(&pod);
        assert!(!kept.to_string().contains("secret"), "{kept}");
        assert_eq!(kept["metadata"]["controller"]["name"], "j");
        assert_eq!(kept["spec"]["containers"][0]["image"], "i");
        assert_eq!(kept["status"]["phase"], "Running");
        let secret = json!({"metadata": {"name": "a"}, "data": {"x": "secret"}, "spec": "secret"});
        assert_eq!(
            ObjectList::Secrets.keep(&secret),
            json!({"metadata": {"name": "a"}})
        );
    }
}
