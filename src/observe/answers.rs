//! Questions that the probe cannot answer: to the API, and to components on a node's loopback address.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::{Api, ApiError};
use crate::distribution::Component;
use crate::distribution::kubeadm::etcd::{EtcdMember, metrics_port};
use crate::distribution::kubeadm::{Manifest, manifest_path};
use crate::fact::{Answer, ApiQuery, Fact, NodeFacts, NodePath, Query, ServingCertificate};
use crate::host::{Host, HostError};
use crate::resource::precondition::Found;

use super::metrics;

/// Where kube-proxy serves metrics and its configuration, unless told otherwise (kubernetes v1.35
/// pkg/cluster/ports/ports.go: `ProxyStatusPort`).
const KUBE_PROXY_PORT: u16 = 10249;

/// Whether a question is about one node, and so is asked beside that node's probe.
pub(super) fn node_of(query: &ApiQuery) -> Option<&str> {
    match query {
        ApiQuery::ConfigMapKey { .. }
        | ApiQuery::ServingRequests
        | ApiQuery::ExternalIps
        | ApiQuery::NeverPulled
        | ApiQuery::FenceRights
        | ApiQuery::ServedResources
        | ApiQuery::ControlPlanes
        | ApiQuery::PodsBelow(_) => None,
        ApiQuery::KubeletConfig(node)
        | ApiQuery::KubeProxyConfig(node)
        | ApiQuery::EtcdMember(node)
        | ApiQuery::ServingCertificate(node)
        | ApiQuery::StaleTokens(node)
        | ApiQuery::LoadedEncryption(node) => Some(node),
    }
}

/// Asks what is about no node.
pub(super) fn ask_api(api: &dyn Api, query: &ApiQuery) -> Fact<Value> {
    match query {
        ApiQuery::ConfigMapKey {
            namespace,
            name,
            key,
        } => api.config_map_key(namespace, name, key).map(Value::from),
        ApiQuery::ServingRequests => told(api.serving_requests()),
        ApiQuery::ExternalIps => told(api.external_ips().map(Found::of)),
        ApiQuery::NeverPulled => told(api.never_pulled().map(Found::of)),
        ApiQuery::PodsBelow(level) => told(api.pods_below(level)),
        ApiQuery::FenceRights => told(fence_rights(api)),
        ApiQuery::ServedResources => told(api.served_resources()),
        ApiQuery::ControlPlanes => told(api.nodes().map(|found| {
            let planes = found
                .into_iter()
                .filter(|(_, node)| node.info.control_plane);
            planes.map(|(name, _)| name).collect::<Vec<String>>()
        })),
        ApiQuery::KubeletConfig(_)
        | ApiQuery::KubeProxyConfig(_)
        | ApiQuery::EtcdMember(_)
        | ApiQuery::ServingCertificate(_)
        | ApiQuery::StaleTokens(_)
        | ApiQuery::LoadedEncryption(_) => Fact::Unreadable("it is a question about a node".into()),
    }
}

/// The verbs on `fences` that the fence asks for, and that this user lacks.
fn fence_rights(api: &dyn Api) -> Result<Vec<&'static str>, ApiError> {
    let mut missing = Vec::new();
    for verb in ["update", "delete"] {
        if !api.may(verb, "harden.dev", "fences")? {
            missing.push(verb);
        }
    }
    Ok(missing)
}

/// Asks what is about one node. A node that was not reached can still be asked by the API. `seen` is
/// what the probe brought.
pub(super) fn ask_node(
    api: &dyn Api,
    mut host: Option<&mut (dyn Host + '_)>,
    seen: Option<&NodeFacts>,
    queries: &[&ApiQuery],
) -> BTreeMap<ApiQuery, Fact<Value>> {
    let mut answers = BTreeMap::new();
    for query in queries {
        let answer = match query {
            ApiQuery::ConfigMapKey { .. }
            | ApiQuery::ServingRequests
            | ApiQuery::ExternalIps
            | ApiQuery::NeverPulled
            | ApiQuery::FenceRights
            | ApiQuery::ServedResources
            | ApiQuery::ControlPlanes
            | ApiQuery::PodsBelow(_) => continue,
            ApiQuery::StaleTokens(_) => match host.as_deref_mut() {
                Some(host) => match server_metrics(api, host) {
                    Ok(page) => stale_tokens(&page),
                    Err(why) => Fact::Unreadable(why),
                },
                None => Fact::Unreadable("the node was not reached".into()),
            },
            ApiQuery::LoadedEncryption(_) => match host.as_deref_mut() {
                Some(host) => match server_metrics(api, host) {
                    Ok(page) => metrics::loaded_encryption(&page)
                        .map(|loaded| serde_json::to_value(loaded).unwrap_or_default()),
                    Err(why) => Fact::Unreadable(why),
                },
                None => Fact::Unreadable("the node was not reached".into()),
            },
            ApiQuery::KubeletConfig(node) => match api.kubelet_config(node) {
                Ok(Some(config)) => Fact::Value(config),
                Ok(None) => Fact::Absent,
                // The API server answers, and cannot reach the kubelet.
                Err(ApiError::Refused { why, .. }) => {
                    tracing::info!("{node}: the kubelet does not answer: {why}");
                    Fact::Absent
                }
                Err(error) => Fact::Unreadable(error.to_string()),
            },
            ApiQuery::KubeProxyConfig(_) => match host.as_deref_mut() {
                Some(host) => kube_proxy_config(api, host),
                None => Fact::Unreadable("the node was not reached".into()),
            },
            ApiQuery::EtcdMember(_) => match host.as_deref_mut() {
                Some(host) => etcd_answer(api, host, seen),
                None => Fact::Unreadable("the node was not reached".into()),
            },
            ApiQuery::ServingCertificate(node) => match host.as_deref_mut() {
                Some(host) => serving_certificate(api, host, node),
                None => Fact::Unreadable("the node was not reached".into()),
            },
        };
        answers.insert((*query).clone(), answer);
    }
    answers
}

fn etcd_answer(api: &dyn Api, host: &mut dyn Host, seen: Option<&NodeFacts>) -> Fact<Value> {
    let Some(port) = metrics_port(manifest_text(seen, &manifest_path(Component::Etcd))) else {
        return Fact::Absent;
    };
    match etcd_member(api, host, port) {
        Ok(member) => match serde_json::to_value(&member) {
            Ok(answer) => Fact::Value(answer),
            Err(error) => Fact::Unreadable(error.to_string()),
        },
        Err(why) => Fact::Unreadable(why),
    }
}

/// Returns the text of a file that the probe was asked for.
pub(crate) fn manifest_text<'f>(seen: Option<&'f NodeFacts>, path: &NodePath) -> Fact<&'f str> {
    match seen.and_then(|seen| seen.get(&Query::File(path.clone()))) {
        Some(Fact::Value(Answer::File(file))) => match std::str::from_utf8(&file.content) {
            Ok(text) => Fact::Value(text),
            Err(_) => Fact::Unreadable("it is not UTF-8 text".into()),
        },
        Some(Fact::Absent) => Fact::Absent,
        Some(Fact::Unreadable(why)) => Fact::Unreadable(why.clone()),
        _ => Fact::Unreadable("it was not looked at".into()),
    }
}

/// Asks the etcd member of a node how it is, at this port of the node's loopback address.
///
/// # Errors
/// Why it does not answer.
pub(crate) fn etcd_member(
    api: &dyn Api,
    host: &mut dyn Host,
    port: u16,
) -> Result<EtcdMember, String> {
    let pages = through(host, port, |local| {
        // The metrics first: who does not answer there is not asked twice.
        let metrics = api.fetch(local, "/metrics")?;
        Ok((metrics, api.fetch(local, "/health")))
    });
    let (metrics, health) = pages
        .map_err(|error| error.to_string())?
        .map_err(|error: ApiError| words(&error))?;
    let health = health.map_err(|error| words(&error));
    EtcdMember::of_pages(health.as_deref().map_err(String::as_str), &metrics)
}

/// An error's own words: it is not the API server that speaks.
fn words(error: &ApiError) -> String {
    match error {
        ApiError::Unreachable { why }
        | ApiError::Forbidden { why }
        | ApiError::Refused { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

/// An answer as JSON.
fn told<T: Serialize>(answer: Result<T, ApiError>) -> Fact<Value> {
    match answer.map(serde_json::to_value) {
        Ok(Ok(value)) => Fact::Value(value),
        Ok(Err(error)) => Fact::Unreadable(error.to_string()),
        Err(error) => Fact::Unreadable(error.to_string()),
    }
}

fn serving_certificate(api: &dyn Api, host: &mut dyn Host, node: &str) -> Fact<Value> {
    let endpoint = match api.kubelet_endpoint(node) {
        Ok(Some(endpoint)) => endpoint,
        Ok(None) => return Fact::Absent,
        Err(error) => return Fact::Unreadable(error.to_string()),
    };
    let Some(name) = endpoint.server_name().map(str::to_owned) else {
        return Fact::Unreadable("the Node object has no address".into());
    };
    let shaken = through(host, endpoint.port, |local| {
        api.kubelet_handshake(local, &name)
    });
    match shaken {
        Ok(answer) => told(answer.map(|why| ServingCertificate {
            trusted: why.is_none(),
            why: why.unwrap_or_default(),
            endpoint,
        })),
        Err(error) => Fact::Unreadable(error.to_string()),
    }
}

/// The name of the metric. Source: kubernetes v1.35 pkg/serviceaccount/metrics.go,
/// `staleTokensCounter`.
const STALE_TOKENS: &str = "serviceaccount_stale_tokens_total";

/// The port of an API server that no manifest tells.
const API_PORT: u16 = 6443;

fn stale_tokens(page: &str) -> Fact<Value> {
    match metrics::counter(page, STALE_TOKENS) {
        Some(count) => Fact::Value(json!({"count": count, "any": count > 0.0})),
        None => Fact::Absent,
    }
}

/// Fetches the metrics of the API server on a node, through a tunnel to that very server.
fn server_metrics(api: &dyn Api, host: &mut dyn Host) -> Result<String, String> {
    let port = api_port(host)?;
    match through(host, port, |local| api.metrics(local)) {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Finds the port of a node's API server: its manifest tells.
///
/// # Errors
/// Why it does not.
pub fn api_port(host: &mut dyn Host) -> Result<u16, String> {
    let manifest = manifest_path(Component::KubeApiserver);
    let query = Query::File(manifest.clone());
    let seen = super::look(host, std::slice::from_ref(&query))?;
    let port = match seen.get(&query) {
        Some(Fact::Value(Answer::File(file))) => std::str::from_utf8(&file.content)
            .ok()
            .and_then(|text| Manifest::parse(text, Component::KubeApiserver).ok())
            .map(|manifest| manifest.secure_port()),
        // Servers of k3s and RKE2 have none there.
        Some(Fact::Absent) => Some(API_PORT),
        _ => None,
    };
    port.ok_or_else(|| format!("{manifest} does not tell the API server's port"))
}

fn kube_proxy_config(api: &dyn Api, host: &mut dyn Host) -> Fact<Value> {
    let text = match through(host, KUBE_PROXY_PORT, |local| api.fetch(local, "/configz")) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Fact::Unreadable(error.to_string()),
        Err(error) => return Fact::Unreadable(error.to_string()),
    };
    let answer: Result<Value, _> = serde_json::from_str(&text);
    // The key is the configuration's group (kubernetes v1.35 pkg/proxy/apis/config/register.go).
    match answer.ok().and_then(|mut answer| {
        let config = answer.get_mut("kubeproxy.config.k8s.io")?;
        Some(config.take())
    }) {
        Some(config @ Value::Object(_)) => Fact::Value(lower_case_keys(config)),
        _ => Fact::Unreadable("its answer has no configuration in it".into()),
    }
}

fn lower_case_keys(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| (key.to_lowercase(), lower_case_keys(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(lower_case_keys).collect(),
        other => other,
    }
}

fn through<T>(
    host: &mut dyn Host,
    port: u16,
    ask: impl FnOnce(std::net::SocketAddr) -> T,
) -> Result<T, HostError> {
    let tunnel = host.tunnel(port)?;
    Ok(ask(tunnel.local))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::cluster::Client;
    use crate::fact::{File, FileKind, Meta};
    use crate::host::{Limits, Output, Script, Tunnel, TunnelGuard};

    /// A node whose every tunnel leads to one port of this machine.
    struct Node(u16);

    impl Host for Node {
        fn name(&self) -> &str {
            "cp1"
        }
        fn run(&mut self, _: Script, _: &[u8], _: Limits) -> Result<Output, HostError> {
            unreachable!("a member is asked through a tunnel")
        }
        fn disconnect(&mut self) {}
        fn tunnel(&mut self, _: u16) -> Result<Tunnel, HostError> {
            Ok(Tunnel {
                local: ([127, 0, 0, 1], self.0).into(),
                guard: TunnelGuard::default(),
            })
        }
    }

    /// Serves etcd's metrics, and `/health` with this status and text. Returns the port.
    fn member(health: &'static str, page: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut request = [0; 4096];
                let read = connection.read(&mut request).unwrap();
                let (status, body) = if request[..read].starts_with(b"GET /metrics ") {
                    (
                        "200 OK",
                        "etcd_server_is_leader 1\netcd_server_has_leader 1\n",
                    )
                } else {
                    (health, page)
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n");
                let answer = format!("{head}connection: close\r\n\r\n{body}");
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        port
    }

    fn seen(manifest: Option<&str>) -> NodeFacts {
        let file = manifest.map(|text| {
            Answer::File(File {
                meta: Meta {
                    kind: FileKind::Regular,
                    mode: 0o600,
                    owner: "root".into(),
                    group: "root".into(),
                    size: 1,
                },
                content: text.into(),
            })
        });
        let fact = file.map_or(Fact::Absent, Fact::Value);
        [(Query::File(manifest_path(Component::Etcd)), fact)].into()
    }

    fn asked(port: u16, manifest: Option<&str>) -> Fact<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}]});
        std::fs::write(&path, text.to_string()).unwrap();
        let client = Client::new(Some(&path), None, Duration::ZERO).unwrap();
        let query = ApiQuery::EtcdMember("cp1".into());
        let mut node = Node(port);
        let seen = seen(manifest);
        let mut answers = ask_node(&client, Some(&mut node), Some(&seen), &[&query]);
        answers.remove(&query).unwrap()
    }

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: etcd\n    command:\n    - etcd\n    - --listen-metrics-urls=http://127.0.0.1:2381\n";

    #[test]
    fn a_member_tells_its_health_over_plain_http() {
        let well = member("200 OK", r#"{"health":"true","reason":""}"#);
        let told = EtcdMember::of_answer(asked(well, Some(MANIFEST)).value().unwrap()).unwrap();
        assert!(told.healthy && told.leader, "{told:?}");
        // etcd answers 503 with a reason, which is JSON and no Status of Kubernetes'.
        let sick = member(
            "503 Service Unavailable",
            r#"{"health":"false","reason":"RAFT NO LEADER"}"#,
        );
        let told = EtcdMember::of_answer(asked(sick, Some(MANIFEST)).value().unwrap()).unwrap();
        assert_eq!((told.healthy, told.why.as_str()), (false, "RAFT NO LEADER"));
    }

    #[test]
    fn a_member_that_cannot_be_asked_is_not_taken_for_healthy() {
        let well = member("200 OK", r#"{"health":"true","reason":""}"#);
        assert_eq!(asked(well, None), Fact::Absent);
        assert_eq!(
            asked(
                well,
                Some("apiVersion: v1\nspec:\n  containers:\n  - name: etcd\n    command: [etcd]\n")
            ),
            Fact::Absent
        );
        assert!(matches!(asked(1, Some(MANIFEST)), Fact::Unreadable(_)));
    }
}
