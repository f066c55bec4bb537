//! Mirror pods: what the API shows of the static pods that a step changes.
//!
//! The process stays the truth. The mirror pod is what everybody else sees, and a gate opens only when
//! that is true again: the pod is there, it is of the new manifest, and it is Ready where its program
//! could not be asked directly.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::ApiError;
use crate::distribution::Component;
use crate::distribution::kubeadm::read_yaml;
use crate::fact::ObjectRef;
use crate::generation::covers;
use crate::plan::{FileAction, FileTarget, Gate, NodeStep};

use super::gate::Seen;
use super::session::Session;

/// The hash of the manifest that a mirror pod is of, as the kubelet notes it (kubernetes v1.35
/// pkg/kubelet/types/pod_update.go: `ConfigHashAnnotationKey`).
const HASH: &str = "/metadata/annotations/kubernetes.io~1config.hash";

/// What was known of a mirror pod before its manifest was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mirror {
    /// It was there.
    Was {
        /// The hash of the manifest that it was of.
        hash: String,
        /// The manifest that the step writes, where its text is known. A pod that has the old hash may
        /// be of it already: a kubelet whose API server was away when somebody edited the file has
        /// never shown that edit, and has nothing to renew when the step takes it back.
        manifest: Option<Value>,
    },
    /// The API did not tell.
    Unknown,
    /// There was none, or it may not be read: nothing is asked of it.
    Unseen,
}

/// Mirror pods by component.
pub(super) type Mirrors = BTreeMap<Component, Mirror>;

fn reference(component: Component, node: &str) -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: "kube-system".into(),
        name: format!("{component}-{node}"),
    }
}

fn hash(pod: &Value) -> &str {
    let hash = pod.pointer(HASH).and_then(Value::as_str);
    hash.unwrap_or_default()
}

/// The manifest that an action writes, where its text is known here.
fn written(file: &FileAction) -> Option<Value> {
    match &file.after {
        FileTarget::Text { text, .. } => read_yaml(text).ok(),
        _ => None,
    }
}

/// Whether a pod is what a manifest says, as far as that goes: the API server adds defaults.
fn is_of(pod: &Value, manifest: &Value) -> bool {
    let agrees = |part: &str, wanted| pod.pointer(part).is_some_and(|live| covers(live, wanted));
    let (spec, annotations) = ("/spec", "/metadata/annotations");
    manifest.pointer(spec).is_some_and(|s| agrees(spec, s))
        && manifest
            .pointer(annotations)
            .is_none_or(|a| agrees(annotations, a))
}

/// What a mirror pod has yet to be. One whose program is well, as it said itself, need not be Ready.
fn lacks(pod: &Value, before: Option<&Mirror>, well: bool) -> Option<&'static str> {
    match before {
        Some(Mirror::Was {
            hash: old,
            manifest,
        }) if old == hash(pod) && !manifest.as_ref().is_some_and(|new| is_of(pod, new)) => {
            Some("of the new manifest")
        }
        _ if well || is_ready(pod) => None,
        _ => Some("Ready"),
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| {
        all.iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
}

impl Session<'_, '_> {
    /// Looks at the mirror pods of what a step changes.
    pub(super) fn mirrors(&mut self, step: &NodeStep) -> Mirrors {
        let node = step.node.as_str();
        let components = step.gate.iter().flat_map(|gate| gate.processes.keys());
        let mut mirrors = Mirrors::new();
        for component in components.copied() {
            let manifest = format!("/{component}.yaml");
            let changed = |path: &str| path.ends_with(&manifest);
            let mut files = step.files.iter();
            let Some(file) = files.find(|file| changed(file.path.as_str())) else {
                continue;
            };
            let pod = reference(component, node);
            let (mirror, unseen) = match self.apply.api.get(&pod) {
                Ok(Some(pod)) => {
                    let hash = hash(&pod).to_owned();
                    let manifest = written(file);
                    (Mirror::Was { hash, manifest }, None)
                }
                Ok(None) => (Mirror::Unseen, Some("the API has no such pod".to_owned())),
                Err(ApiError::Unreachable { .. }) => (Mirror::Unknown, None),
                Err(error) => (Mirror::Unseen, Some(error.to_string())),
            };
            if let Some(why) = unseen {
                self.note(format!(
                    "{node}: {pod} is not waited for: {why}; the process itself is"
                ));
            }
            mirrors.insert(component, mirror);
        }
        mirrors
    }

    /// Says what the mirror pods are not yet; `None` when they show what runs. `well` are those whose
    /// programs were asked directly.
    pub(super) fn mirror_waits(
        &self,
        node: &str,
        gate: &Gate,
        before: Option<&Seen>,
        well: &BTreeSet<Component>,
    ) -> Option<(String, Component)> {
        gate.processes.keys().copied().find_map(|component| {
            let known = before.and_then(|seen| seen.mirrors.get(&component));
            if known == Some(&Mirror::Unseen) {
                return None;
            }
            let pod = reference(component, node);
            let waits = match self.apply.api.get(&pod) {
                Ok(Some(found)) => match lacks(&found, known, well.contains(&component)) {
                    Some(what) => format!("{pod} to be {what}"),
                    None => return None,
                },
                Ok(None) => match known {
                    Some(Mirror::Was { .. }) => format!("{pod} to be there"),
                    // Nobody knows whether there was one.
                    _ => return None,
                },
                Err(ApiError::Unreachable { why }) => {
                    format!("the API to show {pod} ({why})")
                }
                Err(error) => match known {
                    Some(Mirror::Was { .. }) => format!("the API to show {pod} ({error})"),
                    _ => return None,
                },
            };
            Some((waits, component))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {annotations: {harden.dev/restart: '1'}, name: kube-scheduler}
spec:
  containers:
  - command: [kube-scheduler, --profiling=false]
    resources: {requests: {cpu: 1000m}}
  hostNetwork: true
status: {}
";

    fn pod() -> Value {
        json!({
            "metadata": {
                "name": "kube-scheduler-cp1",
                "annotations": {"harden.dev/restart": "1", "kubernetes.io/config.hash": "5a"},
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            "spec": {
                "containers": [{
                    "command": ["kube-scheduler", "--profiling=false"],
                    "resources": {"requests": {"cpu": "1"}},
                    "terminationMessagePath": "/dev/termination-log",
                }],
                "hostNetwork": true,
                "nodeName": "cp1",
            },
        })
    }

    #[test]
    fn a_pod_is_of_a_manifest_when_all_that_it_says_is_there() {
        let manifest = read_yaml(MANIFEST).unwrap();
        assert!(is_of(&pod(), &manifest));
        for (pointer, other) in [
            ("/spec/containers/0/command/1", json!("--profiling=true")),
            ("/spec/hostNetwork", json!(false)),
            ("/metadata/annotations/harden.dev~1restart", json!("2")),
        ] {
            let mut pod = pod();
            *pod.pointer_mut(pointer).unwrap() = other;
            assert!(!is_of(&pod, &manifest), "{pointer}");
        }
        // What is no pod is no evidence.
        assert!(!is_of(&pod(), &json!("kube-scheduler")));
        assert!(!is_of(&pod(), &json!({})));
    }

    /// A flag was edited by hand, the API server's among them: it was away, and the kubelet has never
    /// renewed the mirror pod. Nor does it when the edit is taken back.
    #[test]
    fn a_pod_that_never_showed_the_edit_is_of_the_manifest_that_takes_it_back() {
        let before = |hash: &str, manifest| Mirror::Was {
            hash: hash.into(),
            manifest,
        };
        let back = read_yaml(MANIFEST).ok();
        assert_eq!(
            lacks(&pod(), Some(&before("5a", back.clone())), false),
            None
        );
        let other = read_yaml(&MANIFEST.replace("=false", "=true")).ok();
        let stale = Some("of the new manifest");
        assert_eq!(
            lacks(&pod(), Some(&before("5a", other.clone())), false),
            stale
        );
        assert_eq!(lacks(&pod(), Some(&before("5a", None)), false), stale);
        assert_eq!(lacks(&pod(), Some(&before("4b", other)), false), None);

        let mut unready = pod();
        unready["status"] = json!({});
        assert_eq!(
            lacks(&unready, Some(&before("5a", back)), false),
            Some("Ready")
        );
        assert_eq!(lacks(&unready, None, false), Some("Ready"));
        // Its program says that it is well; what it is of counts all the same.
        assert_eq!(lacks(&unready, None, true), None);
        assert_eq!(lacks(&unready, Some(&before("5a", None)), true), stale);
    }
}
