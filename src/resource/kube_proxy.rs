//! `[[kube-proxy]]`: a field of `KubeProxyConfiguration`.
//!
//! kube-proxy reads it from ConfigMap kube-system/kube-proxy when it starts, and kubeadm keeps that
//! ConfigMap at an upgrade, so there are two copies: the ConfigMap, and what each kube-proxy says it
//! runs with (`/configz` beside its metrics). There is no file of it on a kubeadm node; a scanner that
//! looks for one finds nothing and passes (kube-bench 4.3.1).

use serde::Serialize;
use serde_json::Value;

use super::field::{Field, is_effective, show_found};
use super::{
    Behaviour, ConfigMapRef, Difference, Draft, Effect, Part, Place, Resource, SettingCopy, Subject,
};
use crate::distribution::kubeadm::fields::FieldPath;
use crate::distribution::kubeadm::{
    CONFIG_NAMESPACE, KUBE_PROXY_CONFIG_KEY, KUBE_PROXY_CONFIG_KIND, KUBE_PROXY_NAME,
};
use crate::fact::{ApiQuery, Fact, Facts, Query};

/// A field of kube-proxy's configuration, the same on every node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KubeProxy(Field);

/// Where kube-proxy reads it.
pub(crate) const MAP: ConfigMapRef = ConfigMapRef {
    namespace: CONFIG_NAMESPACE,
    name: KUBE_PROXY_NAME,
    key: KUBE_PROXY_CONFIG_KEY,
    kind: KUBE_PROXY_CONFIG_KIND,
    copy: SettingCopy::KubeProxyConfig,
};

impl KubeProxy {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[kube-proxy]]
    /// field = "metricsBindAddress"
    /// value = "127.0.0.1:10249"
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        Field::from_table(value).map(KubeProxy)
    }

    /// Where the field is in what kube-proxy says it runs with; see [`ApiQuery::KubeProxyConfig`].
    fn running_path(&self) -> FieldPath {
        self.0.path.iter().map(|key| key.to_lowercase()).collect()
    }
}

impl Behaviour for KubeProxy {
    fn name(&self) -> String {
        format!("kube-proxy {}", self.0.name())
    }

    fn queries(&self) -> Vec<Query> {
        Vec::new()
    }

    fn api_queries(&self, node: &str) -> Vec<(ApiQuery, Vec<String>)> {
        vec![
            (MAP.query(), Vec::new()),
            (
                ApiQuery::KubeProxyConfig(node.to_owned()),
                self.running_path(),
            ),
        ]
    }

    fn parts(&self) -> Vec<Part> {
        let wanted = [("value".to_owned(), self.0.value.clone())];
        vec![Part::Setting {
            list: "kube-proxy",
            name: self.0.path.clone(),
            wanted: wanted.into_iter().collect(),
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        let seen = serde_json::json!({"value": self.0.value});
        vec![(Subject::KubeProxy(self.0.name()), seen)]
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let KubeProxy(field) = self;
        // There is a default for every field that a module sets, and it is not zero.
        if !field.compare_map(resource, &MAP, facts, |_| false, draft) {
            return;
        }
        for node in resource.nodes(facts) {
            let name = &node.info.name;
            let place = Place::Node(name.clone());
            match facts.api.answer(&ApiQuery::KubeProxyConfig(name.clone())) {
                Fact::Value(running) if is_effective(running, &self.running_path(), &field.value) => {}
                Fact::Value(running) => {
                    let found = Difference {
                        place,
                        copy: Some(SettingCopy::Process),
                        before: show_found(running, &self.running_path()),
                        after: Some(field.show_wanted()),
                        restarts: Some("kube-proxy".into()),
                        ..Difference::default()
                    };
                    let effect = Effect::ConfigMapField {
                        map: MAP,
                        edit: field.edit(),
                    };
                    draft.change(resource, found, vec![effect]);
                }
                Fact::Absent => draft.error(
                    resource,
                    place,
                    "kube-proxy does not tell what it runs with",
                    "check that its pod on this node is up: `kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide`",
                ),
                Fact::Unreadable(why) if node.facts.value().is_some() => draft.error(
                    resource,
                    place,
                    format!("what kube-proxy runs with could not be read: {why}"),
                    "check that its pod on this node is up and that metricsBindAddress answers on the node's loopback address",
                ),
                // The plan reports a node that was not reached once.
                Fact::Unreadable(_) => {}
            }
        }
    }
}
