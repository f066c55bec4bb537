//! k3s and RKE2: settings live in drop-ins of a configuration file, and in files that its entries
//! name. Written from their documentation (docs.k3s.io/installation/configuration,
//! docs.rke2.io/install/configuration, docs.k3s.io/cli/server); nothing here was run on a real k3s or
//! RKE2.

use super::Component;
use super::kubeadm::HARDEN_DIR;

/// Where one of the two keeps its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// What people call it.
    pub name: &'static str,
    /// The drop-in of a server's configuration. Keys that end in `+` add to lists; every later
    /// drop-in must use the `+` too, or it replaces them.
    pub config: &'static str,
    /// The directory of the files that components read.
    pub files: &'static str,
    /// The kubelet's drop-in, on every node (since Kubernetes 1.32).
    pub kubelet: &'static str,
    /// Whether the control plane runs as static pods, which must mount what they read.
    pub mounts: bool,
    /// Flags of the API server that have a key of their own, which mounts the file too.
    pub own_keys: &'static [(&'static str, &'static str)],
    /// The service of a server.
    pub service: &'static str,
}

/// k3s. Its control plane runs inside its own process and reads the node's files as they are.
pub const K3S: Layout = Layout {
    name: "k3s",
    config: "/etc/rancher/k3s/config.yaml.d/90-harden.yaml",
    files: "/var/lib/rancher/k3s/server/harden",
    kubelet: "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d/90-harden.conf",
    mounts: false,
    own_keys: &[],
    service: "k3s",
};

/// RKE2. It generates the manifests of its static pods; nothing may edit them.
pub const RKE2: Layout = Layout {
    name: "RKE2",
    config: "/etc/rancher/rke2/config.yaml.d/90-harden.yaml",
    files: "/etc/rancher/rke2/harden",
    kubelet: "/var/lib/rancher/rke2/agent/etc/kubelet.conf.d/90-harden.conf",
    mounts: true,
    own_keys: &[
        ("audit-policy-file", "audit-policy-file"),
        (
            "admission-control-config-file",
            "pod-security-admission-config-file",
        ),
    ],
    service: "rke2-server",
};

impl Layout {
    /// Returns where a file or directory lies that a profile for kubeadm puts at `path`. `None` for
    /// what kubeadm alone has, such as its certificates.
    pub fn path(&self, path: &str) -> Option<String> {
        if let Some(rest) = path.strip_prefix(HARDEN_DIR)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return Some(format!("{}{rest}", self.files));
        }
        let kubeadm = path == "/etc/kubernetes" || path.starts_with("/etc/kubernetes/");
        (!kubeadm).then(|| path.to_owned())
    }

    /// Returns the value that a server gives to a list-valued flag by itself, so that what is added
    /// takes nothing away (k3s pkg/daemons/control/server.go: `apiServer`).
    pub fn own_flag(&self, component: Component, name: &str) -> Option<&'static str> {
        let plugins = component == Component::KubeApiserver && name == "enable-admission-plugins";
        plugins.then_some("NodeRestriction")
    }
}
