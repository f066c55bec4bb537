//! The flags that kubeadm sets by itself, as far as they do not depend on the cluster.

use crate::distribution::Component;
use Component::{KubeApiserver, KubeControllerManager, KubeScheduler};

/// Component, flag and value (kubernetes v1.35 cmd/kubeadm/app/phases/controlplane/manifests.go:
/// `getAPIServerCommand`, `getControllerManagerCommand`, `getSchedulerCommand`). A flag of
/// `extraArgs` replaces kubeadm's own of the same name.
const OWN: [(Component, &str, &str); 18] = [
    (KubeApiserver, "allow-privileged", "true"),
    (KubeApiserver, "authorization-mode", "Node,RBAC"),
    (KubeApiserver, "enable-admission-plugins", "NodeRestriction"),
    (KubeApiserver, "enable-bootstrap-token-auth", "true"),
    (
        KubeApiserver,
        "kubelet-preferred-address-types",
        "InternalIP,ExternalIP,Hostname",
    ),
    (
        KubeApiserver,
        "requestheader-allowed-names",
        "front-proxy-client",
    ),
    (
        KubeApiserver,
        "requestheader-extra-headers-prefix",
        "X-Remote-Extra-",
    ),
    (
        KubeApiserver,
        "requestheader-group-headers",
        "X-Remote-Group",
    ),
    (
        KubeApiserver,
        "requestheader-username-headers",
        "X-Remote-User",
    ),
    (KubeApiserver, "secure-port", "6443"),
    (KubeControllerManager, "bind-address", "127.0.0.1"),
    (
        KubeControllerManager,
        "controllers",
        "*,bootstrapsigner,tokencleaner",
    ),
    (KubeControllerManager, "leader-elect", "true"),
    (
        KubeControllerManager,
        "use-service-account-credentials",
        "true",
    ),
    (
        KubeControllerManager,
        "kubeconfig",
        "/etc/kubernetes/controller-manager.conf",
    ),
    (KubeScheduler, "bind-address", "127.0.0.1"),
    (KubeScheduler, "leader-elect", "true"),
    (
        KubeScheduler,
        "kubeconfig",
        "/etc/kubernetes/scheduler.conf",
    ),
];

/// Returns the value that kubeadm gives to a flag by itself.
pub fn own_flag(component: Component, name: &str) -> Option<&'static str> {
    OWN.iter()
        .find(|(of, flag, _)| *of == component && super::argv::same_name(flag, name))
        .map(|(_, _, value)| *value)
}
