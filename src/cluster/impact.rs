//! Who a guarded change would hit: objects by a property, and what an API server counts.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client as KubeClient;
use kube::api::{Api as KubeApi, ListParams};

use super::client::{Client, explain};
use super::{ApiError, endpoint, pages};

mod gather;

pub(super) use gather::gather;

/// The annotation of the API's copy of a static pod, which the kubelet reads from a file (kubernetes
/// v1.35 staging/src/k8s.io/api/core/v1/annotation_key_constants.go: `MirrorPodAnnotationKey`).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Names the Services that have external addresses.
pub(super) fn external_ips(client: &Client) -> Result<Vec<String>, ApiError> {
    let api: KubeApi<Service> = KubeApi::all(client.kube().clone());
    let mut names = Vec::new();
    let all = ListParams::default();
    pages::each(client, "list Services", &api, &all, |service: Service| {
        let addresses = service.spec.and_then(|spec| spec.external_ips);
        if addresses.is_some_and(|addresses| !addresses.is_empty()) {
            names.push(name(service.metadata));
        }
    })?;
    Ok(names)
}

/// Names the pods that have not ended and never pull one of their images.
pub(super) fn never_pulled(client: &Client) -> Result<Vec<String>, ApiError> {
    let api: KubeApi<Pod> = KubeApi::all(client.kube().clone());
    let mut names = Vec::new();
    let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    pages::each(client, "list Pods", &api, &running, |pod: Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        if annotations.is_some_and(|all| all.contains_key(MIRROR)) {
            return;
        }
        let Some(spec) = pod.spec else { return };
        let first = spec.init_containers.unwrap_or_default();
        let policies = first.iter().chain(&spec.containers);
        if policies
            .map(|container| container.image_pull_policy.as_deref())
            .any(|policy| policy == Some("Never"))
        {
            names.push(name(pod.metadata));
        }
    })?;
    Ok(names)
}

fn name(meta: kube::core::ObjectMeta) -> String {
    let namespace = meta.namespace.unwrap_or_default();
    format!("{namespace}/{}", meta.name.unwrap_or_default())
}

/// Fetches the metrics of the API server behind a tunnel, with the kubeconfig's credentials; its
/// certificate is checked.
pub(super) fn metrics(client: &Client, through: SocketAddr) -> Result<String, ApiError> {
    let config = client.behind(through)?;
    let asked = client.once(async {
        let kube = KubeClient::try_from(config)?;
        endpoint::get(kube, "/metrics").await
    });
    asked.map_err(|error| explain("get /metrics", error))
}
