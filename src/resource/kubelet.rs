//! `[[kubelet]]`: a field of `KubeletConfiguration`, in its three copies.
//!
//! The copies are ConfigMap kube-system/kubelet-config (what the next upgrade or join brings:
//! `kubeadm upgrade node` writes the file anew from it), `/var/lib/kubelet/config.yaml` (what the next
//! restart brings) and what the kubelet itself says it runs with (`/configz`). That last one is the
//! truth: drop-in files of `--config-dir` and flags win over the file, and a scanner that reads the
//! file alone is wrong in both directions (kube-bench#948, kube-bench#1256).

use serde::Serialize;
use serde_json::Value;

use super::field::Field;
use super::{
    Behaviour, ConfigMapRef, Difference, Draft, Effect, Part, Place, Problem, Resource,
    SettingCopy, Severity, Subject,
};
use crate::distribution::kubeadm::fields::parse_document;
use crate::distribution::kubeadm::{
    CONFIG_NAMESPACE, KUBELET_CONFIG_KEY, KUBELET_CONFIG_KIND, KUBELET_CONFIG_NAME,
    kubelet_config_path,
};
use crate::fact::{ApiQuery, Fact, Facts, Node, ProgramName, Query};

/// A field of the kubelet's configuration, and its value on every node in scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kubelet(Field);

/// Where kubeadm keeps what kubelets get.
const MAP: ConfigMapRef = ConfigMapRef {
    namespace: CONFIG_NAMESPACE,
    name: KUBELET_CONFIG_NAME,
    key: KUBELET_CONFIG_KEY,
    kind: KUBELET_CONFIG_KIND,
    copy: SettingCopy::KubeletConfig,
};

/// Returns the name of the kubelet's program and systemd unit.
pub fn kubelet_program() -> ProgramName {
    ProgramName::new("kubelet").unwrap_or_else(|_| unreachable!("a constant name"))
}

impl Kubelet {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[kubelet]]
    /// field = "authentication.anonymous.enabled"   # or a list of keys, where a key holds a dot
    /// value = false                                # as in KubeletConfiguration
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        Field::from_table(value).map(Kubelet)
    }

    fn diff_node(&self, resource: &Resource, node: &Node, facts: &Facts, draft: &mut Draft) {
        let path = kubelet_config_path();
        let (message, remedy) = match node.text(&path) {
            Fact::Value(text) => match parse_document(text, KUBELET_CONFIG_KIND) {
                Ok(document) => {
                    self.diff_copies(resource, node, &document, facts, draft);
                    return;
                }
                Err(error) => (format!("{path}: {error}"), error.remedy()),
            },
            Fact::Absent => (
                format!("{path} is not there"),
                "check that kubeadm made this node; a kubelet without a file runs with defaults of old (k3s#12309)",
            ),
            Fact::Unreadable(why) => (
                format!("{path} could not be read: {why}"),
                "check that the login may read it as root, and plan again",
            ),
        };
        let place = Place::Node(node.info.name.clone());
        draft.error(resource, place, message, remedy);
    }

    /// Compares the file and what runs.
    fn diff_copies(
        &self,
        resource: &Resource,
        node: &Node,
        document: &Value,
        facts: &Facts,
        draft: &mut Draft,
    ) {
        let Kubelet(field) = self;
        let name = &node.info.name;
        let effect = || Effect::Kubelet {
            node: name.clone(),
            edit: field.edit(),
        };
        let difference = |copy: SettingCopy, found: &Value| Difference {
            place: Place::Node(name.clone()),
            copy: Some(copy),
            before: field.show_found(found),
            after: Some(field.show_wanted()),
            ..Difference::default()
        };
        let running = facts.api.answer(&ApiQuery::KubeletConfig(name.clone()));
        let runs_with = |field: &Field| running.value().is_some_and(|r| field.is_effective(r));
        let written = field.is_written(document, runs_with);
        if !written {
            let found = Difference {
                restarts: Some("kubelet".into()),
                ..difference(SettingCopy::File, document)
            };
            draft.change(resource, found, vec![effect()]);
        }
        let (message, remedy) = match running {
            Fact::Value(running) => {
                if !field.is_effective(running) {
                    let found = Difference {
                        // The change of the file says it already.
                        restarts: written.then(|| "kubelet".into()),
                        ..difference(SettingCopy::Process, running)
                    };
                    draft.change(resource, found, vec![effect()]);
                }
                return;
            }
            // Its file may be what keeps it from answering; whether it then runs with what is wanted is
            // for the gate to see.
            Fact::Absent if !written => return,
            // Without a certificate it answers nobody; the approval is in this plan, and its own gate.
            Fact::Absent if waits_for_certificate(facts, name) => {
                draft.problems.push(Problem {
                    severity: Severity::Warning,
                    place: Place::Node(name.clone()),
                    subject: self.name(),
                    message: "what the kubelet runs with cannot be told before its serving certificate is approved".into(),
                    remedy: "plan again after the apply".into(),
                });
                return;
            }
            Fact::Absent => (
                "the kubelet does not answer what it runs with".to_owned(),
                "find out why: `systemctl status kubelet` on the node; one whose request for a serving certificate waits (`kubectl get csr`) answers nobody until it is approved, as `kubelet.serving-certificates` does",
            ),
            Fact::Unreadable(why) => (
                format!("what the kubelet runs with could not be read: {why}"),
                "allow the kubeconfig's user `get` on nodes/proxy (nodes/configz from Kubernetes 1.33 on), and plan again",
            ),
        };
        draft.error(resource, Place::Node(name.clone()), message, remedy);
    }
}

/// Whether a kubelet serves no certificate that the API server could check, and one is wanted.
fn waits_for_certificate(facts: &Facts, node: &str) -> bool {
    let query = ApiQuery::ServingCertificate(node.to_owned());
    let answer = facts.api.answer(&query);
    answer
        .value()
        .is_some_and(|served| served["trusted"] == false)
}

impl Behaviour for Kubelet {
    fn name(&self) -> String {
        format!("kubelet {}", self.0.name())
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query::File(kubelet_config_path()),
            Query::Process(kubelet_program()),
        ]
    }

    fn api_queries(&self, node: &str) -> Vec<(ApiQuery, Vec<String>)> {
        vec![
            (MAP.query(), Vec::new()),
            (
                ApiQuery::KubeletConfig(node.to_owned()),
                self.0.path.clone(),
            ),
        ]
    }

    fn parts(&self) -> Vec<Part> {
        let wanted = [("value".to_owned(), self.0.value.clone())];
        vec![Part::Setting {
            list: "kubelet",
            name: self.0.path.clone(),
            wanted: wanted.into_iter().collect(),
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        let seen = serde_json::json!({"value": self.0.value});
        vec![(Subject::Kubelet(self.0.name()), seen)]
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let all_run_with = |field: &Field| {
            let mut nodes = resource.nodes(facts).map(|node| &node.info.name);
            nodes.all(|name| {
                let query = ApiQuery::KubeletConfig(name.clone());
                matches!(facts.api.answer(&query), Fact::Value(running) if field.is_effective(running))
            })
        };
        self.0
            .compare_map(resource, &MAP, facts, all_run_with, draft);
        for node in resource.nodes(facts) {
            if node.facts.value().is_some() {
                self.diff_node(resource, node, facts, draft);
            }
        }
    }
}
