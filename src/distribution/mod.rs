//! Distributions: where the copies of each setting live.

use serde::{Deserialize, Serialize};

use crate::fact::{NodePath, ProgramName};

pub mod k3s;
pub mod kubeadm;

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
}

impl Component {
    /// Every component.
    pub const ALL: [Component; 3] = [
        Component::KubeApiserver,
        Component::KubeControllerManager,
        Component::KubeScheduler,
    ];

    /// Returns the name of the program, the static pod and its container.
    pub fn name(self) -> &'static str {
        match self {
            Component::KubeApiserver => "kube-apiserver",
            Component::KubeControllerManager => "kube-controller-manager",
            Component::KubeScheduler => "kube-scheduler",
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
    /// Mount the volume, replacing one of the same name.
    SetVolume(Volume),
    /// Restart the component although its manifest needs no other change: set the pod annotation
    /// `harden.dev/restart` to this text. Means nothing to ClusterConfiguration.
    Restart(String),
}
