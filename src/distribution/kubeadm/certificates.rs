//! The certificates that `kubeadm certs renew` renews, and who reads each.

use serde::{Deserialize, Serialize};

use crate::distribution::Component;
use crate::fact::NodePath;

/// A certificate by the name that kubeadm has for it (kubernetes v1.35
/// cmd/kubeadm/app/phases/certs/certlist.go: `GetDefaultCertList`;
/// cmd/kubeadm/app/phases/certs/renewal/manager.go: `NewManager`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeadmCertificate {
    /// What the API server serves.
    Apiserver,
    /// What it shows etcd.
    ApiserverEtcdClient,
    /// What it shows kubelets.
    ApiserverKubeletClient,
    /// What it shows extension servers.
    FrontProxyClient,
    /// What etcd serves.
    EtcdServer,
    /// What etcd shows other members.
    EtcdPeer,
    /// What probes and people show etcd.
    EtcdHealthcheckClient,
    /// The administrator's kubeconfig.
    #[serde(rename = "admin.conf")]
    Admin,
    /// The one that no authorization concerns.
    #[serde(rename = "super-admin.conf")]
    SuperAdmin,
    /// The controller manager's.
    #[serde(rename = "controller-manager.conf")]
    ControllerManager,
    /// The scheduler's.
    #[serde(rename = "scheduler.conf")]
    Scheduler,
}

use KubeadmCertificate::{
    Admin, Apiserver, ApiserverEtcdClient, ApiserverKubeletClient, ControllerManager,
    EtcdHealthcheckClient, EtcdPeer, EtcdServer, FrontProxyClient, Scheduler, SuperAdmin,
};

impl KubeadmCertificate {
    /// Every one.
    pub const ALL: [KubeadmCertificate; 11] = [
        Apiserver,
        ApiserverEtcdClient,
        ApiserverKubeletClient,
        FrontProxyClient,
        EtcdServer,
        EtcdPeer,
        EtcdHealthcheckClient,
        Admin,
        SuperAdmin,
        ControllerManager,
        Scheduler,
    ];

    /// Returns the name as the command takes it.
    pub fn name(self) -> &'static str {
        match self {
            Apiserver => "apiserver",
            ApiserverEtcdClient => "apiserver-etcd-client",
            ApiserverKubeletClient => "apiserver-kubelet-client",
            FrontProxyClient => "front-proxy-client",
            EtcdServer => "etcd-server",
            EtcdPeer => "etcd-peer",
            EtcdHealthcheckClient => "etcd-healthcheck-client",
            Admin => "admin.conf",
            SuperAdmin => "super-admin.conf",
            ControllerManager => "controller-manager.conf",
            Scheduler => "scheduler.conf",
        }
    }

    /// Returns the one of a file; `None` where kubeadm renews nothing there.
    pub fn of_file(path: &NodePath) -> Option<Self> {
        let all = KubeadmCertificate::ALL.into_iter();
        all.into_iter().find(|one| one.file() == *path)
    }

    /// Returns the file that holds it, where kubeadm keeps certificates if nobody told it otherwise.
    pub fn file(self) -> NodePath {
        match self {
            Admin | SuperAdmin | ControllerManager | Scheduler => constant(self.name().to_owned()),
            EtcdServer | EtcdPeer | EtcdHealthcheckClient => {
                let name = self.name().strip_prefix("etcd-").unwrap_or_default();
                constant(format!("pki/etcd/{name}.crt"))
            }
            _ => constant(format!("pki/{}.crt", self.name())),
        }
    }

    /// Returns all files that its renewal writes: the one that holds it, and the key beside it.
    pub fn files(self) -> Vec<NodePath> {
        let file = self.file();
        let key = file.as_str().strip_suffix(".crt");
        let key = key.and_then(|stem| NodePath::new(format!("{stem}.key")).ok());
        std::iter::once(file).chain(key).collect()
    }

    /// Returns the key of the authority that signs it. Where it is not on the node, kubeadm cannot renew
    /// (cmd/kubeadm/app/phases/certs/renewal/manager.go: `IsExternallyManaged`).
    pub fn authority_key(self) -> NodePath {
        match self {
            FrontProxyClient => constant("pki/front-proxy-ca.key".into()),
            ApiserverEtcdClient | EtcdServer | EtcdPeer | EtcdHealthcheckClient => {
                constant("pki/etcd/ca.key".into())
            }
            _ => constant("pki/ca.key".into()),
        }
    }

    /// Returns the component that must restart to show the new one for sure; `None` where none keeps it.
    pub fn reader(self) -> Option<Component> {
        match self {
            Apiserver | ApiserverEtcdClient | ApiserverKubeletClient | FrontProxyClient => {
                Some(Component::KubeApiserver)
            }
            EtcdServer | EtcdPeer => Some(Component::Etcd),
            ControllerManager => Some(Component::KubeControllerManager),
            Scheduler => Some(Component::KubeScheduler),
            EtcdHealthcheckClient | Admin | SuperAdmin => None,
        }
    }
}

fn constant(name: String) -> NodePath {
    NodePath::new(format!("/etc/kubernetes/{name}"))
        .unwrap_or_else(|_| unreachable!("a constant path"))
}

impl std::fmt::Display for KubeadmCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_has_its_name_and_its_files() {
        for one in KubeadmCertificate::ALL {
            let name = serde_json::to_value(one).unwrap();
            assert_eq!(name, one.name());
            assert_eq!(KubeadmCertificate::of_file(&one.file()), Some(one));
        }
        let files: Vec<String> = [EtcdPeer, Apiserver, Admin]
            .into_iter()
            .flat_map(KubeadmCertificate::files)
            .map(|path| path.to_string())
            .collect();
        assert_eq!(
            files,
            [
                "/etc/kubernetes/pki/etcd/peer.crt",
                "/etc/kubernetes/pki/etcd/peer.key",
                "/etc/kubernetes/pki/apiserver.crt",
                "/etc/kubernetes/pki/apiserver.key",
                "/etc/kubernetes/admin.conf",
            ]
        );
    }
}
