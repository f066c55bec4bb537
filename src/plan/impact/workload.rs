//! What makes pods in a namespace: the templates of its workloads, and pods that nothing listed made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::fact::{ImpactFacts, ObjectList};

/// The kinds of workloads that have a template.
const TEMPLATES: [ObjectList; 5] = [
    ObjectList::Deployments,
    ObjectList::StatefulSets,
    ObjectList::DaemonSets,
    ObjectList::CronJobs,
    ObjectList::SuspendedJobs,
];

/// What must be listed to see every workload.
pub(super) const LISTS: [ObjectList; 6] = [
    ObjectList::Pods,
    ObjectList::Deployments,
    ObjectList::StatefulSets,
    ObjectList::DaemonSets,
    ObjectList::CronJobs,
    ObjectList::SuspendedJobs,
];

/// Something of which pods are made.
#[derive(Debug, Clone)]
pub(super) struct Workload<'f> {
    /// `Deployment web`, `Pod agent`.
    pub(super) name: String,
    /// A PodSpec.
    pub(super) spec: &'f Value,
}

/// What is known of the workloads of a namespace.
#[derive(Debug)]
pub(super) struct Workloads<'f> {
    /// By name, each once.
    pub(super) all: Vec<Workload<'f>>,
    /// Why there may be others, one line each.
    pub(super) unknown: Vec<String>,
}

/// Lists the workloads: a pod whose template is known counts as that, since the next one is made of it.
pub(super) fn workloads<'f>(facts: &'f ImpactFacts, namespace: &str) -> Workloads<'f> {
    let mut all: Vec<Workload<'f>> = Vec::new();
    let mut unknown = Vec::new();
    let mut names = BTreeSet::new();
    for listing in TEMPLATES {
        let kind = listing.listed().kind;
        match facts.of(listing, namespace) {
            Ok(objects) => all.extend(objects.iter().filter_map(|object| {
                let name = format!("{kind} {}", object["metadata"]["name"].as_str()?);
                let has_template = object["template"].is_object();
                (has_template && names.insert(name.clone())).then(|| Workload {
                    name,
                    spec: &object["template"]["spec"],
                })
            })),
            Err(why) => unknown.push(not_listed(listing, &why)),
        }
    }
    match pods(facts, namespace) {
        Ok(pods) => {
            for pod in pods {
                let name = maker(pod, &names);
                if names.insert(name.clone()) {
                    all.push(Workload {
                        name,
                        spec: &pod["spec"],
                    });
                }
            }
        }
        Err(why) => unknown.push(why),
    }
    Workloads { all, unknown }
}

/// Lists the workloads with a template of which no pod lives, each with what is wrong with it by the Pod Security
/// Standards (see [`crate::fact::standards::faults`]); and why there may be others, one line each.
pub(super) fn at_rest<'f>(
    facts: &'f ImpactFacts,
    namespace: &str,
) -> (Vec<(String, &'f Value)>, Vec<String>) {
    let pods = match pods(facts, namespace) {
        Ok(pods) => pods,
        // Then nobody knows which of them rest.
        Err(why) => return (Vec::new(), vec![why]),
    };
    let mut all = BTreeMap::new();
    let mut unknown = Vec::new();
    for listing in TEMPLATES {
        let kind = listing.listed().kind;
        match facts.of(listing, namespace) {
            Ok(objects) => all.extend(objects.iter().filter_map(|object| {
                let name = object["metadata"]["name"].as_str()?;
                Some((format!("{kind} {name}"), object.get("faults")?))
            })),
            Err(why) => unknown.push(not_listed(listing, &why)),
        }
    }
    let names: BTreeSet<String> = all.keys().cloned().collect();
    for pod in pods {
        all.remove(&maker(pod, &names));
    }
    (all.into_iter().collect(), unknown)
}

/// Says that a list is not known.
pub(super) fn not_listed(listing: ObjectList, why: &str) -> String {
    format!("the {} could not be listed: {why}", listing.listed().plural)
}

/// Lists the pods that have not ended and are not on their way out.
///
/// # Errors
/// Why they are not known, in a sentence.
pub(super) fn pods<'f>(facts: &'f ImpactFacts, namespace: &str) -> Result<Vec<&'f Value>, String> {
    let pods = facts.of(ObjectList::Pods, namespace);
    let pods = pods.map_err(|why| not_listed(ObjectList::Pods, &why))?;
    let lives = |pod: &&Value| {
        !matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        ) && pod["metadata"]["deletionTimestamp"].is_null()
    };
    Ok(pods.iter().filter(lives).collect())
}

/// Names what makes a pod: where it is known by name, the workload above a ReplicaSet or a Job.
///
/// A ReplicaSet of a Deployment ends in the pod's label `pod-template-hash` (kubernetes v1.35
/// pkg/controller/deployment/sync.go: `getNewReplicaSet`), a Job of a CronJob in a number of minutes
/// (pkg/controller/cronjob/utils.go: `getJobName`).
pub(super) fn maker(pod: &Value, known: &BTreeSet<String>) -> String {
    let metadata = &pod["metadata"];
    let owner = &metadata["controller"];
    let (Some(kind), Some(name)) = (owner["kind"].as_str(), owner["name"].as_str()) else {
        return format!("Pod {}", metadata["name"].as_str().unwrap_or_default());
    };
    let hash = metadata["labels"]["pod-template-hash"].as_str();
    let above = match (kind, hash) {
        ("ReplicaSet", Some(hash)) => name
            .strip_suffix(hash)
            .and_then(|name| name.strip_suffix('-'))
            .map(|name| format!("Deployment {name}")),
        ("Job", _) => name
            .rsplit_once('-')
            .map(|(name, _)| format!("CronJob {name}"))
            .filter(|name| known.contains(name)),
        _ => None,
    };
    above.unwrap_or_else(|| format!("{kind} {name}"))
}
