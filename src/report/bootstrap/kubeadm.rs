//! kubeadm: one file with the configuration of cluster, kubelet and kube-proxy.

use serde_json::{Map, Value};

use crate::distribution::Component;
use crate::distribution::kubeadm::own_flags::{Own, own_flag};
use crate::distribution::kubeadm::{document, edit_cluster_configuration, scalar};

use super::left::Left;
use super::wants::Wants;

/// Kubernetes v1.35 staging/src/k8s.io/kubelet/config/v1beta1/register.go.
const KUBELET: [&str; 2] = ["kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"];
/// Kubernetes v1.35 staging/src/k8s.io/kube-proxy/config/v1alpha1/register.go.
const KUBE_PROXY: [&str; 2] = ["kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"];

/// Writes what `kubeadm init --config` takes. kubeadm since 1.31 writes v1beta4 itself.
pub(super) fn configuration(
    wants: &Wants,
    version: Option<&str>,
    left: &mut Left,
) -> Result<String, String> {
    let version = version.map_or(String::new(), |version| {
        format!("kubernetesVersion: {}\n", scalar(version))
    });
    let base = format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n{version}");
    let mut documents = vec![cluster_configuration(&base, wants, left)?];
    documents.extend(kubelet(&wants.kubelet));
    documents.extend(kube_proxy(&wants.kube_proxy));
    Ok(documents.join("---\n"))
}

/// Puts flags and volumes into a ClusterConfiguration, by the edits that a plan makes in a live one.
pub(super) fn cluster_configuration(
    base: &str,
    wants: &Wants,
    left: &mut Left,
) -> Result<String, String> {
    let mut text = base.to_owned();
    for component in Component::ALL {
        let edits = wants.edits(
            component,
            |name| own_flag(component, name).map(Own::text),
            left,
        )?;
        text = edit_cluster_configuration(&text, component, &edits)
            .map_err(|error| format!("ClusterConfiguration for {component}: {error}"))?;
    }
    Ok(text)
}

/// Writes KubeletConfiguration; `None` when no field is wanted.
pub(super) fn kubelet(wanted: &Map<String, Value>) -> Option<String> {
    fields(KUBELET, wanted)
}

/// Writes KubeProxyConfiguration; `None` when no field is wanted.
pub(super) fn kube_proxy(wanted: &Map<String, Value>) -> Option<String> {
    fields(KUBE_PROXY, wanted)
}

fn fields([version, kind]: [&str; 2], fields: &Map<String, Value>) -> Option<String> {
    let mut whole = fields.clone();
    whole.insert("apiVersion".into(), version.into());
    whole.insert("kind".into(), kind.into());
    (!fields.is_empty()).then(|| document(&Value::Object(whole)))
}
