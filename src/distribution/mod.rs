//! Distributions: where the copies of each setting live.

use serde::{Deserialize, Serialize};

use crate::fact::{NodePath, ProgramName};

pub mod k3s;
pub mod kubeadm;
pub mod list;

pub use list::ListEdit;

/// What made the cluster, and so decides where its settings live.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// kubeadm, and kind, which is kubeadm.
    #[default]
    Kubeadm,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
}

impl Distribution {
    /// Returns the name as profiles and modules write it.
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Kubeadm => "kubeadm",
            Distribution::K3s => "k3s",
            Distribution::Rke2 => "rke2",
        }
    }

    /// Returns where k3s or RKE2 keeps its settings; `None` for kubeadm.
    pub fn layout(self) -> Option<&'static k3s::Layout> {
        match self {
            Distribution::Kubeadm => None,
            Distribution::K3s => Some(&k3s::K3S),
            Distribution::Rke2 => Some(&k3s::RKE2),
        }
    }

    /// Whether it is kubeadm: what is not said in a plan or a desired state.
    pub fn is_kubeadm(&self) -> bool {
        *self == Distribution::Kubeadm
    }
}

/// A component of the control plane that takes flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The API server.
    KubeApiserver,
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// etcd, where it runs as a static pod beside the API server.
    Etcd,
}

impl Component {
    /// Every component.
    pub const ALL: [Component; 4] = [
        Component::KubeApiserver,
        Component::KubeControllerManager,
        Component::KubeScheduler,
        Component::Etcd,
    ];

    /// Returns the name of the program, the static pod and its container.
    pub fn name(self) -> &'static str {
        match self {
            Component::KubeApiserver => "kube-apiserver",
            Component::KubeControllerManager => "kube-controller-manager",
            Component::KubeScheduler => "kube-scheduler",
            Component::Etcd => "etcd",
        }
    }

    /// Returns the name as the probe takes it.
    pub fn program(self) -> ProgramName {
        ProgramName::new(self.name()).unwrap_or_else(|_| unreachable!("a constant name"))
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A host directory or file that a static pod mounts, as kubeadm's `extraVolumes` describe it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Name in the pod.
    pub name: String,
    /// Path on the node.
    pub host_path: NodePath,
    /// Path in the container.
    pub mount_path: NodePath,
    /// Whether the container may only read.
    #[serde(default)]
    pub read_only: bool,
    /// `DirectoryOrCreate`, `Directory`, `File` …: core/v1 HostPathType.
    pub path_type: String,
}

/// As whom a static pod runs, by number: `runAsUser`, `runAsGroup` and `supplementalGroups` of core/v1
/// PodSecurityContext.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunAs {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
    /// More groups of the process.
    pub supplementary: Vec<u32>,
}

impl std::fmt::Display for RunAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.group)?;
        for (at, group) in self.supplementary.iter().enumerate() {
            let before = if at == 0 { " with group " } else { ", " };
            write!(f, "{before}{group}")?;
        }
        Ok(())
    }
}

/// One edit of a component's configuration, the same for its manifest and for ClusterConfiguration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComponentEdit {
    /// Give the flag this value, replacing every earlier occurrence.
    SetFlag {
        /// Without dashes.
        name: String,
        /// As after the `=`.
        value: String,
    },
    /// Remove every occurrence of the flag.
    RemoveFlag {
        /// Without dashes.
        name: String,
    },
    /// Change items of a flag that is a list. What else is in it stays; a flag without an item is
    /// removed.
    EditList {
        /// Without dashes.
        name: String,
        /// Which items.
        list: ListEdit,
    },
    /// Mount the volume, replacing one of the same name.
    SetVolume(Volume),
    /// Run the pod as this user. Means nothing to ClusterConfiguration, which has no place for it.
    RunAs(RunAs),
    /// Restart the component although its manifest needs no other change: set the pod annotation
    /// `harden.dev/restart` to this text. Means nothing to ClusterConfiguration.
    Restart(String),
}

impl ComponentEdit {
    /// Returns the edit with what it comes to: a list as one value.
    #[must_use]
    pub fn settled(self) -> Self {
        match self {
            ComponentEdit::EditList { name, list } => match list.value() {
                Some(value) => ComponentEdit::SetFlag { name, value },
                None => ComponentEdit::RemoveFlag { name },
            },
            other => other,
        }
    }
}
