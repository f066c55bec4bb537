//! kind: its own configuration, with patches of the kubeadm configuration that it makes.

use crate::distribution::kubeadm::scalar;

use super::kubeadm::{cluster_configuration, kube_proxy, kubelet};
use super::left::Left;
use super::place::{Places, SYSCTLS};
use super::wants::Wants;

/// Where the merge patch of each version begins. kind v0.33 makes v1beta3 below Kubernetes 1.36, where
/// `extraArgs` is a map, and v1beta4 from there on, where it is a list; a patch of another version than
/// it makes counts for nothing (pkg/cluster/internal/kubeadm/config.go: `Config`;
/// pkg/internal/patch/kubeyaml.go). A list of a merge patch takes the place of the one that is there,
/// so kind's own arguments stand in it too (same file: `ConfigTemplateBetaV4`).
const BASES: [&str; 2] = [
    "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n",
    "apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  extraArgs:
  - name: runtime-config
    value: \"\"
controllerManager:
  extraArgs:
  - name: enable-hostpath-provisioner
    value: \"true\"
",
];

/// Writes what `kind create cluster --config` takes. `nodes` are the numbers of control planes and
/// of workers.
pub(super) fn configuration(
    wants: &Wants,
    nodes: (usize, usize),
    places: &Places,
    left: &mut Left,
) -> Result<String, String> {
    let mut text =
        "apiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\nkubeadmConfigPatches:\n".to_owned();
    let mut patches = Vec::new();
    for base in BASES {
        patches.push(cluster_configuration(base, wants, left)?);
    }
    patches.extend(kubelet(&wants.kubelet));
    patches.extend(kube_proxy(&wants.kube_proxy));
    for patch in patches {
        text.push_str("- |\n");
        for line in patch.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str("nodes:\n");
    let (control_planes, workers) = nodes;
    for _ in 0..control_planes {
        text.push_str("- role: control-plane\n");
        let files = places.of_control_planes();
        if !files.is_empty() {
            text.push_str("  extraMounts:\n");
        }
        // One by one: the directory stays the node's own, so that `harden apply` can add to it.
        for (source, target) in files {
            let (source, target) = (scalar(&source), scalar(target));
            text.push_str(&format!(
                "  - containerPath: {target}\n    hostPath: {source}\n"
            ));
        }
    }
    for _ in 0..workers {
        text.push_str("- role: worker\n");
    }
    for name in &wants.sysctls {
        let why = format!(
            "nodes of kind have the kernel of this machine; where the kubelet insists on it, set it here \
             first, as the files below {SYSCTLS} say"
        );
        left.no_place(&format!("sysctl {name}"), &why);
    }
    Ok(text)
}
