//! kubeadm (and kind): static pods, and the kubeadm-config ConfigMap.
//!
//! A flag of the control plane has three copies. The running process holds now. The static pod's
//! manifest holds at the next restart. `ClusterConfiguration` in ConfigMap `kube-system/kubeadm-config`
//! holds at the next upgrade or join: `kubeadm upgrade` makes the manifests anew from it, and what
//! was edited into a manifest only is lost (kubeadm#541, #950, #2157).
//!
//! Everything here is text in, text out. Edits keep comments, order and quoting of what they do not
//! concern; each edited text is read again and compared with what was intended.

use crate::distribution::Component;
use crate::fact::NodePath;

pub mod argv;
pub mod certificates;
pub mod cluster_configuration;
pub mod etcd;
pub mod etcd_url;
pub mod fields;
pub mod manifest;
pub mod own_flags;
mod yaml;

pub use cluster_configuration::{ClusterConfiguration, edit_cluster_configuration};
pub use manifest::{Manifest, edit_manifest};
pub use yaml::{document, read as read_yaml, read_or_line as read_yaml_or_line, scalar};

/// The kubelet's `staticPodPath` on a kubeadm node (kubernetes v1.35
/// cmd/kubeadm/app/constants/constants.go: `ManifestsSubDirName`).
pub const MANIFESTS_DIR: &str = "/etc/kubernetes/manifests";

/// The directory of the files that static pods read; mounted into them at the same path.
pub const HARDEN_DIR: &str = "/etc/kubernetes/harden";

/// The namespace of the ConfigMap that kubeadm keeps its configuration in.
pub const CONFIG_NAMESPACE: &str = "kube-system";

/// The name of that ConfigMap (kubernetes v1.35 cmd/kubeadm/app/constants/constants.go:
/// `KubeadmConfigConfigMap`).
pub const CONFIG_NAME: &str = "kubeadm-config";

/// The key of that ConfigMap under which `ClusterConfiguration` lies (same file:
/// `ClusterConfigurationConfigMapKey`).
pub const CONFIG_KEY: &str = "ClusterConfiguration";

/// The kubelet's configuration on a node; `kubeadm upgrade node` writes it anew from the ConfigMap
/// (kubernetes v1.35 cmd/kubeadm/app/constants/constants.go: `KubeletConfigurationFileName`).
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The ConfigMap from which it is written at the next upgrade or join (same file:
/// `KubeletBaseConfigurationConfigMap`).
pub const KUBELET_CONFIG_NAME: &str = "kubelet-config";

/// Its key (same file: `KubeletBaseConfigurationConfigMapKey`).
pub const KUBELET_CONFIG_KEY: &str = "kubelet";

/// The kind of both (kubernetes v1.35 staging/src/k8s.io/kubelet/config/v1beta1/types.go).
pub const KUBELET_CONFIG_KIND: &str = "KubeletConfiguration";

/// The ConfigMap and the DaemonSet of kube-proxy (kubernetes v1.35
/// cmd/kubeadm/app/constants/constants.go: `KubeProxyConfigMap`).
pub const KUBE_PROXY_NAME: &str = "kube-proxy";

/// The ConfigMap's key (same file: `KubeProxyConfigMapKey`).
pub const KUBE_PROXY_CONFIG_KEY: &str = "config.conf";

/// The kind of what is under it (kubernetes v1.35
/// staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go).
pub const KUBE_PROXY_CONFIG_KIND: &str = "KubeProxyConfiguration";

/// The pod annotation that is changed to make the kubelet restart a static pod.
pub const RESTART_ANNOTATION: &str = "harden.dev/restart";

/// Returns the path of a component's manifest.
pub fn manifest_path(component: Component) -> NodePath {
    NodePath::new(format!("{MANIFESTS_DIR}/{component}.yaml"))
        .unwrap_or_else(|_| unreachable!("a constant path"))
}

/// Returns the path of the kubelet's configuration.
pub fn kubelet_config_path() -> NodePath {
    NodePath::new(KUBELET_CONFIG).unwrap_or_else(|_| unreachable!("a constant path"))
}

/// What a manifest of a static pod holds.
const POD: &str = "a v1 Pod";

/// Why a manifest or a `ClusterConfiguration` cannot be understood or edited.
///
/// The display says what is wrong; [`KubeadmError::remedy`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeadmError {
    /// No YAML, several documents, or a key that stands twice.
    #[error("it is not one readable YAML document: {0}")]
    Yaml(String),
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// Another kind of object.
    #[error("it is not {wanted} but {found}")]
    Kind {
        /// What was expected.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// A field has another shape than Kubernetes gives it.
    #[error("{field} is not {wanted}")]
    Shape {
        /// The field's path.
        field: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// The pod has no container of the component's name.
    #[error("it has no container named {0}")]
    NoContainer(Component),
    /// The container does not start the component itself, so that its words are not the flags.
    #[error("its container starts {found:?} instead of {component}")]
    OtherProgram {
        /// The component.
        component: Component,
        /// The first word of the command.
        found: String,
    },
    /// The command line depends on what only the kubelet knows.
    #[error("its command line refers to $({0}), which only the kubelet can resolve")]
    Variable(String),
    /// kubeadm does not run etcd here.
    #[error("etcd is external: ClusterConfiguration names etcd.external")]
    ExternalEtcd,
    /// `etcd.local` has no `extraVolumes` (kubernetes v1.35
    /// cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go: `LocalEtcd`).
    #[error("kubeadm can mount nothing more into etcd")]
    NoVolumes,
    /// The text was edited and then did not read back as intended.
    #[error("it cannot be edited without changing something else: {0}")]
    Unfaithful(String),
}

impl KubeadmError {
    /// Returns what to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            KubeadmError::Empty | KubeadmError::Yaml(_) | KubeadmError::Shape { .. } => {
                "repair it by hand; `kubeadm init phase control-plane all --config FILE` writes fresh manifests"
            }
            KubeadmError::Kind { wanted: POD, .. } => {
                "put back what kubeadm wrote; `kubeadm init phase control-plane all --config FILE` writes fresh manifests"
            }
            KubeadmError::Kind { .. } => {
                "put back what kubeadm wrote; `kubeadm config migrate` converts old configuration versions"
            }
            KubeadmError::NoContainer(_) | KubeadmError::OtherProgram { .. } => {
                "let kubeadm write the manifest, or leave this component out of the profile"
            }
            KubeadmError::Variable(_) => {
                "write the value itself in the manifest instead of the reference"
            }
            KubeadmError::ExternalEtcd => {
                "harden etcd where it runs; leave the options of `etcd` unset, and name in `unset` those that an import sets"
            }
            KubeadmError::NoVolumes => {
                "put the file below /etc/kubernetes/pki/etcd, which etcd has mounted, and name it there"
            }
            KubeadmError::Unfaithful(_) => {
                "write the file in plain block style, without anchors, aliases and tags, and try again"
            }
        }
    }
}
