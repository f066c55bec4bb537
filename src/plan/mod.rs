//! The plan: ordered changes, the steps that make them, what they rest on, and what cannot be done.
//!
//! [`build`] is pure: the same desired state and facts give the same plan, byte for byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::distribution::kubeadm::certificates::KubeadmCertificate;
use crate::distribution::kubeadm::fields::FieldPath;
use crate::distribution::{Component, Distribution};
use crate::fact::{ApiQuery, FieldConflict, Ids, NodePath, ObjectRef, ProgramName, Query};
use crate::resource::encryption::EncryptionWork;
use crate::resource::mode::Mode;
use crate::resource::stray::Stray;
use crate::resource::{Change, Place, Problem};

mod basis;
mod build;
mod clash;
mod consent;
mod fence;
pub mod impact;
mod left_out;
mod members;
mod object_order;
mod prepare;
mod prune;
mod saved;
mod servers;
mod stages;

pub use basis::{
    Comparison, api_queries, basis_of_answer, basis_of_cluster_configuration, basis_of_entries,
    basis_of_left, basis_of_node, basis_of_object, compare, queries, sha256_of_converged,
    sha256_of_object, wanted_objects,
};
pub use build::{build, build_without};
pub use fence::query as fence_query;
pub use impact::{
    Effect as HitEffect, Enforcement, Guard, Hit, HitKind, Impact, TenantImpact, Unknown, Verdict,
};
pub(crate) use members::leader_last;
pub use members::{etcd_leader, member_queries};
pub(crate) use object_order::rank as object_rank;
pub use prepare::{not_ready, prepare, queries_to_prepare};
pub use saved::{SavedError, from_saved, to_saved};
pub use stages::gate_for;

/// The `schema` field of a plan file.
pub const SCHEMA: &str = "harden.dev/plan/v2";

/// What `harden plan` prints and `harden apply` executes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The version of the program that made it.
    pub version: String,
    /// Which cluster.
    pub cluster: Cluster,
    /// SHA-256 of the desired state.
    pub desired: String,
    /// What the plan is for.
    pub purpose: Purpose,
    /// The nodes in the inventory, by name: whether they are control planes.
    pub nodes: BTreeMap<String, bool>,
    /// The node whose etcd member led when the plan was made; its steps are the last of their stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_leader: Option<String>,
    /// The differences.
    pub changes: Vec<Change>,
    /// What apply does, in this order.
    pub stages: Vec<Stage>,
    /// What cannot be done, and what should be known.
    pub problems: Vec<Problem>,
    /// Whom it would hit, as far as that can be told.
    #[serde(
        default,
        skip_serializing_if = "Impact::is_empty",
        deserialize_with = "impact::of_any_schema"
    )]
    pub impact: Impact,
    /// What the plan rests on.
    pub basis: Vec<Basis>,
}

/// The cluster that a plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The name in the workspace.
    pub name: String,
    /// The uid of namespace kube-system.
    pub id: String,
    /// What made it.
    #[serde(default, skip_serializing_if = "Distribution::is_kubeadm")]
    pub distribution: Distribution,
}

/// What a plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To reach the profile's desired state.
    Converge,
    /// To undo the generation of this number.
    Rollback(u64),
    /// To prepare the node of this name for joining the cluster.
    Bootstrap(String),
}

/// Steps that go together, and when they are done. Stages run in order; a stage starts only when
/// the one before has passed every gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stage {
    /// Which of the fixed stages.
    pub name: StageName,
    /// Done one after the other.
    pub steps: Vec<Step>,
}

/// The fixed stages, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// Files, modes and owners on nodes; nothing restarts.
    NodeFiles,
    /// API objects that take nothing away: namespaces that do not exist yet.
    ObjectsPermit,
    /// Kubelets, one node at a time, each behind its gate. Before the control plane, which may be
    /// told to trust what they only have afterwards.
    Kubelets,
    /// Certificates that kubelets serve, by approving their requests.
    ServingCertificates,
    /// Files with keys, before API servers are started with them.
    EncryptionFiles,
    /// Static pods, or servers of k3s and RKE2, one control-plane node at a time, each behind its gate.
    ControlPlane,
    /// kube-proxy, by its ConfigMap and a rolling restart.
    KubeProxy,
    /// RoleBindings that have left the profile, in namespaces that change: before what bounds those whom
    /// they let in goes.
    BindingsLeft,
    /// API objects that restrict.
    ObjectsEnforce,
    /// API objects that have left the profile: only when what stands in their place is there.
    ObjectsLeft,
    /// The ConfigMaps from which kubeadm upgrades and joins: only after the last gate has passed.
    KubeadmConfig,
    /// Objects come under a key: only when everything knows of the files.
    Encryption,
}

/// One thing that apply does, whole or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A transaction on a node: files and modes together, then the gate.
    Node(NodeStep),
    /// Make an API object what it should be.
    Object(ObjectStep),
    /// Replace the text of a ConfigMap's key, if it still is what it was.
    ConfigMapKey(ConfigMapStep),
    /// Approve a kubelet's request for a serving certificate, and wait until it serves it.
    ServingCertificate(ServingCertificateStep),
    /// Do a part of what brings objects under a key. What comes next in it follows from what is seen then,
    /// and doing it again is no harm.
    Encryption(EncryptionWork),
}

impl Step {
    /// Names the step for a reader and for the journal.
    pub fn title(&self) -> String {
        match self {
            Step::Node(step) => {
                let files = step.files.iter().map(|f| f.path.to_string());
                let units = step.units.iter().map(|unit| format!("restart {unit}"));
                let what: Vec<String> = files.chain(units).collect();
                format!("{}: {}", step.node, what.join(", "))
            }
            Step::Object(step) => {
                let what = match step.action {
                    ObjectAction::Prune { .. } => "delete ",
                    ObjectAction::Release => "let go of ",
                    ObjectAction::Forget => "forget ",
                    ObjectAction::Note => "note ",
                    ObjectAction::Apply(_) | ObjectAction::Restore(_) | ObjectAction::Delete => "",
                };
                format!("API: {what}{}", step.reference)
            }
            Step::ServingCertificate(step) => {
                format!("{}: approve the kubelet's serving certificate", step.node)
            }
            Step::Encryption(work) => work.words.join("; "),
            Step::ConfigMapKey(step) => {
                let restart = match &step.rollout {
                    Some(daemon_set) => format!(", restart DaemonSet {daemon_set}"),
                    None => String::new(),
                };
                format!(
                    "API: ConfigMap {}/{} {}{restart}",
                    step.namespace, step.name, step.key
                )
            }
        }
    }
}

/// A transaction on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeStep {
    /// The node.
    pub node: String,
    /// In the order in which they are activated.
    pub files: Vec<FileAction>,
    /// The systemd units that are restarted once the files are in place, and again once they were
    /// put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<ProgramName>,
    /// What must hold before the transaction is committed; `None` when nothing restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What must hold after the files were put back: the gate of their state before. Present when
    /// `gate` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_gate: Option<Gate>,
    /// Whether every node must have the same, so that a failure reverts this node as well.
    pub uniform: bool,
}

impl NodeStep {
    /// Whether something on the node restarts: a static pod or a unit.
    pub fn restarts(&self) -> bool {
        self.gate.is_some() || !self.units.is_empty()
    }

    /// Whether it restarts etcd, and so takes a member from the quorum for a while.
    pub fn restarts_etcd(&self) -> bool {
        let of_etcd = |path: &str| path.ends_with("/manifests/etcd.yaml");
        self.restarts() && self.files.iter().any(|file| of_etcd(file.path.as_str()))
    }
}

/// One file of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileAction {
    /// Where.
    pub path: NodePath,
    /// What is there now; the node itself checks it at the last moment.
    pub before: FileState,
    /// What shall be there.
    pub after: FileTarget,
}

/// The state of a path, as far as a transaction depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// Nothing is there.
    Absent,
    /// A regular file with this content.
    File {
        /// SHA-256 of the content.
        sha256: String,
        /// Permission bits.
        mode: u32,
        /// Owner by name.
        owner: String,
        /// Group by name.
        group: String,
    },
    /// A file or directory whose content does not matter.
    Mode {
        /// Permission bits.
        mode: u32,
        /// Owner by name.
        owner: String,
        /// Group by name.
        group: String,
    },
    /// A regular file whose content nobody but its node knows, since it holds a private key.
    Kept {
        /// Permission bits.
        mode: u32,
        /// Owner by name.
        owner: String,
        /// Group by name.
        group: String,
    },
    /// A directory: whom it and everything below it belong to.
    Owners {
        /// Each once, sorted.
        owners: Vec<Ids>,
    },
}

/// What a transaction makes of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileTarget {
    /// Remove it.
    Absent,
    /// This text, mode and owner. Missing parent directories are made with mode 0700.
    Text {
        /// UTF-8.
        text: String,
        /// Permission bits.
        mode: u32,
        /// Owner by name.
        owner: String,
        /// Group by name.
        group: String,
    },
    /// The pre-image that an earlier generation recorded on this node. Its content never leaves the
    /// node; it is known here by its hash.
    PreImage {
        /// The generation that recorded it.
        generation: u64,
        /// Which of the files of that generation's transactions on this node, from 0.
        index: usize,
        /// What it is.
        state: FileState,
    },
    /// Same content, this mode and owner.
    Mode {
        /// Permission bits.
        mode: u32,
        /// Owner by name.
        owner: String,
        /// Group by name.
        group: String,
    },
    /// What `kubeadm certs renew` writes there, with this mode and owner. The content never leaves the
    /// node.
    Renewed {
        /// As kubeadm calls the certificate.
        certificate: KubeadmCertificate,
        /// Permission bits.
        mode: u32,
        /// Owner by name.
        owner: String,
        /// Group by name.
        group: String,
    },
    /// This owner of a directory and of everything below it, also of what is added until the
    /// transaction is committed. Who owned each path before stays on the node.
    Owner(Ids),
}

/// What must hold on a node after its static pods or its kubelet were changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gate {
    /// The command line, program first, that each changed component must run with, as a new process.
    pub processes: BTreeMap<Component, Vec<String>>,
    /// The port on the node's loopback address where its API server must answer `/readyz` with 200;
    /// `None` where no API server is concerned.
    pub readyz_port: Option<u16>,
    /// The systemd unit that must be active, with a new main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ProgramName>,
    /// Flags that components must run with: for those whose whole command line is not known before they
    /// run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<FlagValue>,
    /// What the kubelet must run with, as a new process; its Node must be Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubelet: Vec<FieldValue>,
    /// Certificates that must end later than they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<EndsLater>,
    /// Whether the kubelet has no certificate before its request is approved: without one nobody
    /// can ask it anything, so the gate approves the request while it waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serving_certificate: bool,
}

/// A file on the node all of whose certificates must be valid for longer than the first of them was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EndsLater {
    /// Where.
    pub path: NodePath,
    /// The last second at which it was valid, since 1970.
    pub than: i64,
}

/// A flag of a component, and one of the values that it must be given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FlagValue {
    /// Whose.
    pub component: Component,
    /// Without dashes.
    pub name: String,
    /// As after the `=`.
    pub value: String,
}

/// A field of a configuration and its value; null where the field is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldValue {
    /// The keys, outermost first.
    pub path: FieldPath,
    /// As in JSON.
    pub value: serde_json::Value,
}

/// An API object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ObjectStep {
    /// Which.
    pub reference: ObjectRef,
    /// The whole object as it is now; `None` when there is none. It is the pre-image.
    pub before: Option<serde_json::Value>,
    /// What to do.
    pub action: ObjectAction,
    /// The fields that an apply takes from other managers, since the user asked for it. With any other
    /// conflict it stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<FieldConflict>,
    /// What others added to an object that harden makes whole: an apply takes it away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
}

/// What a step does to an API object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectAction {
    /// Server-side apply of these fields by field manager `harden`.
    Apply(serde_json::Value),
    /// Replace by this whole object: a pre-image, on rollback.
    Restore(serde_json::Value),
    /// Delete it, on rollback of its creation.
    Delete,
    /// Delete it, since it has left the profile, if it still is as it was and harden manages it.
    Prune {
        /// What a namespace holds that is lost with it.
        contents: Vec<String>,
    },
    /// Leave it as it is, and give up harden's fields, since it has left the profile.
    Release,
    /// Do nothing but strike it out of the ledger: it has left the profile, and harden has no part in
    /// it any more.
    Forget,
    /// Do nothing but note it in the ledger, which lacks it.
    Note,
}

/// One key of a ConfigMap, and what reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigMapStep {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Name of the ConfigMap.
    pub name: String,
    /// Key under `data`.
    pub key: String,
    /// The text that must be there.
    pub before: String,
    /// The text to put there; it may be the same, where only the restart is wanted.
    pub after: String,
    /// The DaemonSet of the same namespace that reads it at its start, and is restarted pod by pod;
    /// when it does not come back, the text is put back and it is restarted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
}

/// The certificate that one kubelet serves. Which request is approved is decided when the step runs:
/// the kubelet makes it only then, and each is checked as strictly as a plan does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServingCertificateStep {
    /// The node.
    pub node: String,
}

/// One fact that a plan rests on, and the hash of exactly the fields that count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Basis {
    /// Where it was observed.
    pub place: Place,
    /// What was looked at.
    pub subject: Subject,
    /// SHA-256 of the fields that count.
    pub sha256: String,
}

/// What a [`Basis`] was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A query on a node.
    Query(Query),
    /// The entries of a directory that are not as this mode wants them.
    Entries(Mode),
    /// The text of ClusterConfiguration in ConfigMap kube-system/kubeadm-config.
    ClusterConfiguration,
    /// What else was asked.
    Answer {
        /// What.
        query: ApiQuery,
        /// The fields of the answer that count, by path; an empty path is the whole.
        fields: std::collections::BTreeSet<FieldPath>,
    },
    /// Those fields of an object that the wanted object sets.
    Object {
        /// The wanted object: which object, and which fields count.
        #[serde(with = "crate::fact::shared")]
        wanted: std::sync::Arc<serde_json::Value>,
    },
    /// An object that has left the profile, and what the ledger says of it.
    Left {
        /// Which.
        reference: ObjectRef,
    },
    /// What a namespace that is deleted holds beyond what the plan says is lost with it.
    Contents {
        /// The Namespace.
        reference: ObjectRef,
        /// What the plan names, as [`crate::fact::ledger::LeftFact::contents`] does.
        named: Vec<String>,
    },
}

impl Eq for Subject {}

impl Plan {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether something asked for could not be compared or cannot be done.
    pub fn is_incomplete(&self) -> bool {
        self.problems
            .iter()
            .any(|p| p.severity == crate::resource::Severity::Error)
    }

    /// Whether a step restarts etcd, or has objects written there in another form. A snapshot is taken and
    /// verified then, before the first step.
    pub fn touches_etcd(&self) -> bool {
        self.steps().any(|(_, step)| match step {
            Step::Node(step) => step.restarts_etcd(),
            Step::Encryption(_) => true,
            _ => false,
        })
    }

    /// Returns the SHA-256 of the plan's canonical JSON.
    pub fn sha256(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        crate::fact::canonical_sha256(&value)
    }

    /// Returns every step in the order in which apply does them; a step's number in this list,
    /// from 1, is its number in the journal.
    pub fn steps(&self) -> impl Iterator<Item = (&Stage, &Step)> {
        self.stages
            .iter()
            .flat_map(|stage| stage.steps.iter().map(move |step| (stage, step)))
    }
}
