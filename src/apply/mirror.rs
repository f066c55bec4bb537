//! Mirror pods: what the API shows of the static pods that a step changes.
//!
//! The process stays the truth. The mirror pod is what everybody else sees, and a gate opens only when
//! that is true again: the pod is there, it is Ready, and it is of the new manifest.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::ApiError;
use crate::distribution::Component;
use crate::fact::ObjectRef;
use crate::plan::{Gate, NodeStep};

use super::gate::Seen;
use super::session::Session;

/// The hash of the manifest that a mirror pod is of, as the kubelet notes it (kubernetes v1.35
/// pkg/kubelet/types/pod_update.go: `ConfigHashAnnotationKey`).
const HASH: &str = "/metadata/annotations/kubernetes.io~1config.hash";

/// What was known of a mirror pod before its manifest was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mirror {
    /// It was there, and of the manifest with this hash.
    Of(String),
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
            if !step.files.iter().any(|file| changed(file.path.as_str())) {
                continue;
            }
            let pod = reference(component, node);
            let (mirror, unseen) = match self.apply.api.get(&pod) {
                Ok(Some(pod)) => (Mirror::Of(hash(&pod).to_owned()), None),
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

    /// Says what the mirror pods are not yet; `None` when they show what runs.
    pub(super) fn mirror_waits(
        &self,
        node: &str,
        gate: &Gate,
        before: Option<&Seen>,
    ) -> Option<(String, Component)> {
        gate.processes.keys().copied().find_map(|component| {
            let known = before.and_then(|seen| seen.mirrors.get(&component));
            if known == Some(&Mirror::Unseen) {
                return None;
            }
            let pod = reference(component, node);
            let waits = match self.apply.api.get(&pod) {
                Ok(Some(found)) => match known {
                    Some(Mirror::Of(old)) if old == hash(&found) => {
                        format!("{pod} to be of the new manifest")
                    }
                    _ if is_ready(&found) => return None,
                    _ => format!("{pod} to be Ready"),
                },
                Ok(None) => match known {
                    Some(Mirror::Of(_)) => format!("{pod} to be there"),
                    // Nobody knows whether there was one.
                    _ => return None,
                },
                Err(ApiError::Unreachable { why }) => {
                    format!("the API to show {pod} ({why})")
                }
                Err(error) => match known {
                    Some(Mirror::Of(_)) => format!("the API to show {pod} ({error})"),
                    _ => return None,
                },
            };
            Some((waits, component))
        })
    }
}
