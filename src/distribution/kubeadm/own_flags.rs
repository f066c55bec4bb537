//! The flags that kubeadm writes itself, with values that follow from nothing but
//! `certificatesDir`.
//!
//! A flag that is not among the extra arguments has this value after the next upgrade, so that
//! nothing need be written there for it. Flags whose value depends on the node or on more of the
//! configuration are left out: for them the extra arguments decide alone.

use crate::distribution::Component;

/// `certificatesDir`, where `ClusterConfiguration` does not say otherwise.
pub const CERTIFICATES_DIR: &str = "/etc/kubernetes/pki";

/// What kubeadm gives to a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Always this.
    Value(&'static str),
    /// This file in `certificatesDir`.
    File(&'static str),
}

use Own::{File, Value};

impl Own {
    /// Returns the value, with `certificatesDir` where `ClusterConfiguration` does not set it.
    pub fn text(self) -> String {
        match self {
            Value(value) => value.to_owned(),
            File(file) => format!("{CERTIFICATES_DIR}/{file}"),
        }
    }
}

/// kubernetes v1.35 cmd/kubeadm/app/phases/controlplane/manifests.go: `getAPIServerCommand`.
const APISERVER: &[(&str, Own)] = &[
    ("allow-privileged", Value("true")),
    ("authorization-mode", Value("Node,RBAC")),
    ("client-ca-file", File("ca.crt")),
    ("enable-admission-plugins", Value("NodeRestriction")),
    ("enable-bootstrap-token-auth", Value("true")),
    ("etcd-cafile", File("etcd/ca.crt")),
    ("etcd-certfile", File("apiserver-etcd-client.crt")),
    ("etcd-keyfile", File("apiserver-etcd-client.key")),
    (
        "kubelet-client-certificate",
        File("apiserver-kubelet-client.crt"),
    ),
    ("kubelet-client-key", File("apiserver-kubelet-client.key")),
    ("service-account-key-file", File("sa.pub")),
    ("service-account-signing-key-file", File("sa.key")),
    ("tls-cert-file", File("apiserver.crt")),
    ("tls-private-key-file", File("apiserver.key")),
];

/// The same file: `getControllerManagerCommand`.
const CONTROLLER_MANAGER: &[(&str, Own)] = &[
    ("bind-address", Value("127.0.0.1")),
    ("client-ca-file", File("ca.crt")),
    ("leader-elect", Value("true")),
    ("root-ca-file", File("ca.crt")),
    ("service-account-private-key-file", File("sa.key")),
    ("use-service-account-credentials", Value("true")),
];

/// The same file: `getSchedulerCommand`.
const SCHEDULER: &[(&str, Own)] = &[
    ("bind-address", Value("127.0.0.1")),
    ("leader-elect", Value("true")),
];

/// cmd/kubeadm/app/phases/etcd/local.go: `getEtcdCommand`.
const ETCD: &[(&str, Own)] = &[
    ("cert-file", File("etcd/server.crt")),
    ("client-cert-auth", Value("true")),
    ("key-file", File("etcd/server.key")),
    ("peer-cert-file", File("etcd/peer.crt")),
    ("peer-client-cert-auth", Value("true")),
    ("peer-key-file", File("etcd/peer.key")),
    ("peer-trusted-ca-file", File("etcd/ca.crt")),
    ("trusted-ca-file", File("etcd/ca.crt")),
];

/// Returns what kubeadm gives to a flag of a component; `None` where the extra arguments decide
/// alone.
pub fn own_flag(component: Component, name: &str) -> Option<Own> {
    let flags = match component {
        Component::KubeApiserver => APISERVER,
        Component::KubeControllerManager => CONTROLLER_MANAGER,
        Component::KubeScheduler => SCHEDULER,
        Component::Etcd => ETCD,
    };
    let own = flags.iter().find(|(known, _)| *known == name);
    own.map(|(_, own)| *own)
}
