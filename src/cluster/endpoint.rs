//! What components say of themselves over HTTP, and the restart of a DaemonSet.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api as KubeApi, Patch, PatchParams};
use kube::{Client as KubeClient, Config};
use serde_json::{Value, json};

use super::client::{Client, config_error, explain};
use super::{ApiError, FIELD_MANAGER};

/// The most that is read of one answer, in bytes. The metrics of an API server come to about 5 MB.
const MAX_ANSWER: usize = 32 << 20;

/// How long one answer may take.
const WAIT: Duration = Duration::from_secs(15);

/// The annotation of a pod template by which a DaemonSet is restarted.
const MARK: &str = "harden.dev/config";

/// Asks for the configuration that a kubelet runs with; `None` where the API knows no such node.
pub(super) fn kubelet_config(client: &Client, node: &str) -> Result<Option<Value>, ApiError> {
    // A node's name is a DNS name (apimachinery validation: `IsDNS1123Subdomain`), so that it needs no
    // escaping; anything else is refused by the request's own check.
    let path = format!("/api/v1/nodes/{node}/proxy/configz");
    let what = format!("ask the kubelet of {node} for its configuration");
    let answer = client.call(&what, || get(client.kube().clone(), &path));
    let text = match answer {
        Ok(text) => text,
        Err(ApiError::Refused { why, .. }) if why.contains("not found") => return Ok(None),
        Err(error) => return Err(error),
    };
    let refused = |why: String| ApiError::Refused {
        what: what.clone(),
        why,
    };
    let mut answer: Value = serde_json::from_str(&text).map_err(|e| refused(e.to_string()))?;
    match answer.get_mut("kubeletconfig").map(Value::take) {
        Some(config @ Value::Object(_)) => Ok(Some(config)),
        _ => Err(refused("its answer has no `kubeletconfig`".into())),
    }
}

/// Whether the Node's condition Ready is true.
pub(super) fn node_ready(client: &Client, node: &str) -> Result<bool, ApiError> {
    let api: KubeApi<Node> = KubeApi::all(client.kube().clone());
    let node = client.call(&format!("get Node {node}"), || api.get(node))?;
    let conditions = node.status.and_then(|status| status.conditions);
    let mut conditions = conditions.unwrap_or_default().into_iter();
    Ok(conditions.any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Fetches a page without credentials and without TLS, as components serve it on the loopback
/// address of their node, behind a tunnel.
pub(super) fn fetch(client: &Client, through: SocketAddr, path: &str) -> Result<String, ApiError> {
    let config = nameless("http", through)?;
    let asked = client.once(async {
        let kube = KubeClient::try_from(config)?;
        get(kube, path).await
    });
    asked.map_err(|error| explain(&format!("get {path}"), error))
}

/// Asks for `/healthz` over TLS, likewise without credentials. The certificate is not checked: by default
/// the program has made it itself, and the kubelet's own probe does not look at it either (kubernetes
/// v1.35 pkg/probe/http/http.go: `New`).
pub(super) fn healthz(client: &Client, through: SocketAddr) -> Result<bool, ApiError> {
    let mut config = nameless("https", through)?;
    config.accept_invalid_certs = true;
    let asked = client.once(async {
        let kube = KubeClient::try_from(config)?;
        get(kube, "/healthz").await
    });
    match asked {
        Ok(text) => Ok(text.trim() == "ok"),
        Err(kube::Error::Api(status)) if status.code >= 500 => Ok(false),
        Err(error) => Err(explain("get /healthz", error)),
    }
}

/// How to ask a local address as nobody.
fn nameless(scheme: &str, through: SocketAddr) -> Result<Config, ApiError> {
    let url = format!("{scheme}://{through}")
        .parse()
        .map_err(|e| config_error(e, "report this as a fault of harden"))?;
    let mut config = Config::new(url);
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(WAIT);
    Ok(config)
}

pub(super) async fn get(kube: KubeClient, path: &str) -> Result<String, kube::Error> {
    let request = http::Request::get(path)
        .body(kube::client::Body::empty())
        .map_err(kube::Error::HttpError)?;
    Ok(send(kube, request).await?.1)
}

/// Sends a request, and returns headers and text of its answer.
pub(super) async fn send(
    kube: KubeClient,
    request: http::Request<kube::client::Body>,
) -> Result<(http::HeaderMap, String), kube::Error> {
    let answer = async {
        let response = kube.send(request).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(kube::Error::Service)?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() {
            return Ok((headers, text));
        }
        // Others than the API server answer in JSON too, and then it is no Status.
        let answer = serde_json::from_str(&text).ok();
        let answer = answer.filter(|answer: &Value| answer["kind"] == "Status");
        let status = answer
            .and_then(|answer| serde_json::from_value(answer).ok())
            .unwrap_or_else(|| {
                let mut other = kube::core::Status::failure(text.trim(), "Unknown");
                other.code = status.as_u16();
                other
            });
        Err(kube::Error::Api(Box::new(status)))
    };
    match tokio::time::timeout(WAIT, answer).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

/// Restarts the pods of a DaemonSet by an annotation of their template. With the same mark nothing
/// happens, so that an interrupted run can ask again.
pub(super) fn restart_daemon_set(
    client: &Client,
    namespace: &str,
    name: &str,
    mark: &str,
) -> Result<(), ApiError> {
    let api: KubeApi<DaemonSet> = KubeApi::namespaced(client.kube().clone(), namespace);
    let patch = Patch::Merge(json!({
        "spec": {"template": {"metadata": {"annotations": {MARK: mark}}}},
    }));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let what = format!("restart DaemonSet {namespace}/{name}");
    client
        .call(&what, || api.patch(name, &params, &patch))
        .map(drop)
}

/// Says what a DaemonSet's restart still waits for; `None` when every pod is new and ready.
/// Source: kubernetes v1.35 staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go.
pub(super) fn daemon_set_waits(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, ApiError> {
    let api: KubeApi<DaemonSet> = KubeApi::namespaced(client.kube().clone(), namespace);
    let found = client.call(&format!("get DaemonSet {namespace}/{name}"), || {
        api.get(name)
    })?;
    let status = found.status.unwrap_or_default();
    if status.observed_generation < found.metadata.generation {
        return Ok(Some("the controller manager to notice it".into()));
    }
    let wanted = status.desired_number_scheduled;
    let new = status.updated_number_scheduled.unwrap_or_default();
    let ready = status.number_available.unwrap_or_default();
    Ok(if new < wanted {
        Some(format!("{} of {wanted} pods to be new", wanted - new))
    } else if ready < wanted {
        Some(format!("{} of {wanted} pods to be ready", wanted - ready))
    } else {
        None
    })
}
