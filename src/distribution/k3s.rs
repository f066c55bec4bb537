//! k3s and RKE2: settings live in drop-ins of a configuration file, and in files that its entries
//! name. Written from their documentation (docs.k3s.io/installation/configuration,
//! docs.rke2.io/install/configuration, docs.k3s.io/cli/server); nothing here was run on a real k3s or
//! RKE2.

use super::kubeadm::HARDEN_DIR;
use super::{Component, Distribution, Volume};
use crate::fact::{NodePath, ProgramName};

pub mod drop_in;
pub mod server_config;

pub use drop_in::edit_drop_in;
pub use server_config::{ConfigError, Given, ServerConfig};

/// Where one of the two keeps its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// What people call it.
    pub name: &'static str,
    /// Which of the two.
    pub distribution: Distribution,
    /// The configuration of a server; its drop-ins are in a directory of the same name with `.d`.
    pub main: &'static str,
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
    /// The names of volumes that the static pods have mounted without being asked; a second mount at
    /// one path would be refused.
    pub own_mounts: &'static [&'static str],
    /// The systemd unit of a server.
    pub service: &'static str,
}

/// k3s. Its control plane runs inside its own process and reads the node's files as they are.
pub const K3S: Layout = Layout {
    name: "k3s",
    distribution: Distribution::K3s,
    main: "/etc/rancher/k3s/config.yaml",
    config: "/etc/rancher/k3s/config.yaml.d/90-harden.yaml",
    files: "/var/lib/rancher/k3s/server/harden",
    kubelet: "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d/90-harden.conf",
    mounts: false,
    own_keys: &[],
    own_mounts: &[],
    service: "k3s",
};

/// RKE2. It generates the manifests of its static pods; nothing may edit them.
pub const RKE2: Layout = Layout {
    name: "RKE2",
    distribution: Distribution::Rke2,
    main: "/etc/rancher/rke2/config.yaml",
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
    // The directory of --audit-log-path (rke2 pkg/podexecutor/staticpod.go: `APIServer`, `dirs`).
    own_mounts: &["harden-audit-log"],
    service: "rke2-server",
};

/// Returns where the distribution keeps its settings whose configuration is at this path.
pub fn layout_of(main: &NodePath) -> Option<&'static Layout> {
    [&K3S, &RKE2]
        .into_iter()
        .find(|layout| layout.main == main.as_str())
}

/// An item of a list, or a value, in the configuration of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, without `+`.
    pub key: String,
    /// What is under it.
    pub value: String,
    /// Whether the key holds a list, to which a drop-in adds with `+`.
    pub is_list: bool,
}

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

    /// Returns the path of the configuration of a server.
    pub fn main_path(&self) -> NodePath {
        NodePath::new(self.main).unwrap_or_else(|_| unreachable!("a constant path"))
    }

    /// Returns the path of the drop-in that is ours.
    pub fn config_path(&self) -> NodePath {
        NodePath::new(self.config).unwrap_or_else(|_| unreachable!("a constant path"))
    }

    /// Returns the name of the drop-in that is ours, in its directory.
    pub fn config_name(&self) -> &'static str {
        self.config.rsplit('/').next().unwrap_or(self.config)
    }

    /// Returns the systemd unit of a server, without `.service`.
    pub fn unit(&self) -> ProgramName {
        ProgramName::new(self.service).unwrap_or_else(|_| unreachable!("a constant name"))
    }

    /// Returns the key under which a component's arguments stand (docs.k3s.io/cli/server: customized
    /// flags).
    pub fn args_key(component: Component) -> String {
        format!("{component}-arg")
    }

    /// Returns the key of a flag that has one of its own.
    pub fn own_key(&self, component: Component, name: &str) -> Option<&'static str> {
        let own = self.own_keys.iter().find(|(flag, _)| *flag == name);
        own.filter(|_| component == Component::KubeApiserver)
            .map(|(_, key)| *key)
    }

    /// Returns how a flag is written. The value's path is the one that it has here already.
    pub fn flag_entry(&self, component: Component, name: &str, value: &str) -> Entry {
        match self.own_key(component, name) {
            Some(key) => Entry {
                key: key.to_owned(),
                value: value.to_owned(),
                is_list: false,
            },
            None => Entry {
                key: Self::args_key(component),
                value: format!("{name}={value}"),
                is_list: true,
            },
        }
    }

    /// Returns how a volume is written; `None` where nothing needs to be. Its paths are those that it has
    /// here already.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn mount_entry(
        &self,
        component: Component,
        volume: &Volume,
    ) -> Result<Option<Entry>, &'static str> {
        let (host, inside) = (&volume.host_path, &volume.mount_path);
        if !self.mounts {
            return match host == inside {
                true => Ok(None),
                false => Err("the component runs in no container, so paths cannot differ"),
            };
        }
        if self.own_mounts.contains(&volume.name.as_str()) && host == inside {
            return Ok(None);
        }
        if format!("{host}{inside}").contains(':') {
            return Err("a path with a colon cannot be written as a mount");
        }
        let access = if volume.read_only { ":ro" } else { "" };
        Ok(Some(Entry {
            key: format!("{component}-extra-mount"),
            value: format!("{host}:{inside}{access}"),
            is_list: true,
        }))
    }

    /// Returns a volume with the paths that it has here; `None` for one of kubeadm's.
    pub fn volume(&self, volume: &Volume) -> Option<Volume> {
        let path = |path: &NodePath| NodePath::new(self.path(path.as_str())?).ok();
        Some(Volume {
            host_path: path(&volume.host_path)?,
            mount_path: path(&volume.mount_path)?,
            ..volume.clone()
        })
    }

    /// Returns the value that a server gives to a list-valued flag by itself, so that what is added
    /// takes nothing away (k3s pkg/daemons/control/server.go: `apiServer`).
    pub fn own_flag(&self, component: Component, name: &str) -> Option<&'static str> {
        let plugins = component == Component::KubeApiserver && name == "enable-admission-plugins";
        plugins.then_some("NodeRestriction")
    }

    /// Whether a server gives a flag that names a file by itself, with a file of its own (k3s
    /// pkg/daemons/control/server.go: `apiServer`, `controllerManager`). Those for etcd are not among them: it gives them
    /// where the datastore wants them only.
    pub fn names_file(&self, component: Component, name: &str) -> bool {
        let names: &[&str] = match component {
            Component::KubeApiserver => &[
                "client-ca-file",
                "kubelet-certificate-authority",
                "kubelet-client-certificate",
                "kubelet-client-key",
                "service-account-key-file",
                "tls-cert-file",
                "tls-private-key-file",
            ],
            Component::KubeControllerManager => {
                &["root-ca-file", "service-account-private-key-file"]
            }
            Component::KubeScheduler | Component::Etcd => &[],
        };
        names.contains(&name)
    }
}
