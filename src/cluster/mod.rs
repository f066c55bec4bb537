//! The Kubernetes API, as far as this program needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::fact::ledger::{Ledger, LedgerEdit};
use crate::fact::{
    Fact, FieldConflict, ImpactFacts, ImpactQuery, KubeletEndpoint, NodeInfo, ObjectFact,
    ObjectRef, PodLevel, PodsBelow, SigningRequest,
};
use crate::resource::stray::Stray;

mod begun;
mod certificates;
pub mod client;
mod content;
mod endpoint;
#[cfg(test)]
mod fake;
mod holder;
mod impact;
mod lease;
mod ledger;
mod objects;
mod observation;
mod pages;
mod parallel;
mod pod_security;
mod readable;
mod refusal;
mod rewrite;
mod served;
mod throttle;

pub use client::Client;
pub use observation::SINGLY;
pub use parallel::{Count, each};
pub use readable::ReadBack;
pub use rewrite::{Pace, Rewritten};
pub use served::Served;

/// The name under which the API server records the fields that this program sets.
pub const FIELD_MANAGER: &str = "harden";

/// What the API is asked for. Calls block. The one implementation is [`client::Client`]; tests wrap
/// it to inject faults.
pub trait Api: Send + Sync {
    /// Returns the uid of namespace kube-system.
    fn cluster_id(&self) -> Result<String, ApiError>;

    /// Returns the API server's major and minor version, for example `1.35`.
    fn kubernetes_minor(&self) -> Result<String, ApiError>;

    /// Lists the nodes by name.
    fn nodes(&self) -> Result<BTreeMap<String, FoundNode>, ApiError>;

    /// Returns the text under a key of a ConfigMap.
    fn config_map_key(&self, namespace: &str, name: &str, key: &str) -> Fact<String>;

    /// Replaces the text under a key of a ConfigMap if it still is `before`.
    fn replace_config_map_key(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        before: &str,
        after: &str,
    ) -> Result<(), ApiError>;

    /// Looks at objects, and asks the server what applying the wanted ones would do.
    fn objects(&self, wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact>;

    /// Looks at objects, and asks nothing else: [`ObjectFact::would`] is of no use.
    fn live(&self, wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact> {
        self.objects(wanted)
    }

    /// Returns an object as it is, in another version of its kind where the server does not have this one;
    /// [`ApiError::NoKind`] where it has none.
    fn get(&self, reference: &ObjectRef) -> Result<Option<Value>, ApiError>;

    /// Applies an object server-side as field manager `harden`, without force.
    fn apply(&self, wanted: &Value) -> Result<Value, ApiError>;

    /// The same, and takes these fields from their managers: no other, and from nobody else.
    fn apply_taking(&self, wanted: &Value, _taken: &[FieldConflict]) -> Result<Value, ApiError> {
        self.apply(wanted)
    }

    /// Takes those of these fields out of an object that are there, are not wanted and still are what they were.
    fn remove(&self, wanted: &Value, strays: &[Stray]) -> Result<(), ApiError>;

    /// Replaces an object, or makes it, so that it is as it was.
    fn restore(&self, object: &Value) -> Result<(), ApiError>;

    /// Deletes the object with this uid and waits until it is gone; a missing one is no error, and another
    /// one of the same name is [`ApiError::Moved`]. One that is not gone after a minute is
    /// [`ApiError::Ending`].
    fn delete(&self, reference: &ObjectRef, uid: &str) -> Result<(), ApiError>;

    /// Returns what a namespace holds that makes deleting it a loss, for example `Pod web-1`.
    fn contents(&self, namespace: &str) -> Result<Vec<String>, ApiError>;

    /// Returns the names of all objects that are of the same kind and namespace as this one.
    fn names_beside(&self, reference: &ObjectRef) -> Result<Vec<String>, ApiError>;

    /// Gives up all fields of an object, and leaves their values as they are.
    fn release(&self, reference: &ObjectRef) -> Result<(), ApiError>;

    /// Reads the ledger. One that is not there yet is empty.
    fn ledger(&self) -> Result<Ledger, ApiError>;

    /// Edits the ledger. What others wrote meanwhile stays; a part that is damaged is not written.
    fn edit_ledger(&self, edit: &LedgerEdit) -> Result<(), ApiError>;

    /// Takes the cluster's apply lock (Lease kube-system/harden) for this holder; with `take_over`
    /// also from one that may be alive.
    fn lock(&self, holder: &Holder, take_over: bool) -> Result<(), ApiError>;

    /// Renews the lock, so that it does not expire under a long apply. Asks once and waits for
    /// nothing: the API may be down, and the lock outlasts that.
    fn renew(&self, holder: &Holder) -> Result<(), ApiError>;

    /// Gives the lock back, if this holder has it.
    fn unlock(&self, holder: &Holder) -> Result<(), ApiError>;

    /// Asks for the configuration that a kubelet runs with; `None` where there is no such node.
    fn kubelet_config(&self, node: &str) -> Result<Option<Value>, ApiError>;

    /// Whether the Node's condition Ready is true.
    fn node_ready(&self, node: &str) -> Result<bool, ApiError>;

    /// Returns the addresses and the port of a node's kubelet; `None` where there is no such Node.
    fn kubelet_endpoint(&self, node: &str) -> Result<Option<KubeletEndpoint>, ApiError>;

    /// Shakes hands with a kubelet behind a local address (a tunnel), and checks its certificate against
    /// the cluster's CA and this name. Returns why it did not pass; `None` when it did.
    fn kubelet_handshake(
        &self,
        through: std::net::SocketAddr,
        server_name: &str,
    ) -> Result<Option<String>, ApiError>;

    /// Lists every request for a kubelet's serving certificate.
    fn serving_requests(&self) -> Result<Vec<SigningRequest>, ApiError>;

    /// Approves a request for a certificate if it still is exactly this one and nobody has decided;
    /// one that is approved already is no error.
    fn approve(&self, request: &SigningRequest, message: &str) -> Result<(), ApiError>;

    /// Whether the kubeconfig's user may use a verb on a resource in the whole cluster, by the API server's own
    /// word.
    fn may(&self, verb: &str, group: &str, resource: &str) -> Result<bool, ApiError>;

    /// Names the Services that have `spec.externalIPs`, as `NAMESPACE/NAME`.
    fn external_ips(&self) -> Result<Vec<String>, ApiError>;

    /// Names the pods with a container whose `imagePullPolicy` is `Never`, likewise.
    fn never_pulled(&self) -> Result<Vec<String>, ApiError>;

    /// Names every resource that can be listed and patched, as an EncryptionConfiguration does.
    fn served_resources(&self) -> Result<BTreeSet<String>, ApiError>;

    /// Asks the API server which pods a Pod Security level would refuse when they are made again: a dry
    /// run for each namespace for which it would count. Nothing is changed. What is not known of a
    /// single namespace is no error but part of the answer.
    fn pods_below(&self, level: &PodLevel) -> Result<PodsBelow, ApiError>;

    /// Asks for what tells whom a plan would hit in namespaces: lists, and a dry run for each namespace
    /// whose Pod Security level changes. Nothing is changed. What is not answered is part of the answer.
    fn impact(&self, query: &ImpactQuery) -> ImpactFacts;

    /// Fetches the metrics of the API server behind a local address (a tunnel), with the kubeconfig's
    /// credentials; its certificate is checked against the cluster's CA.
    fn metrics(&self, through: std::net::SocketAddr) -> Result<String, ApiError>;

    /// Fetches a page by plain HTTP, without credentials, from behind a local address (a tunnel).
    fn fetch(&self, through: std::net::SocketAddr, path: &str) -> Result<String, ApiError>;

    /// Asks a program of the control plane behind a local address (a tunnel) for `/healthz`, over TLS and
    /// without credentials: `Ok(true)` for 200. Its certificate is its own and vouches for nothing.
    fn healthz(&self, through: std::net::SocketAddr) -> Result<bool, ApiError>;

    /// Restarts a DaemonSet's pods, one after the other; the same mark twice is once.
    fn restart_daemon_set(&self, namespace: &str, name: &str, mark: &str) -> Result<(), ApiError>;

    /// Says what a DaemonSet's restart still waits for; `None` when it is done.
    fn daemon_set_waits(&self, namespace: &str, name: &str) -> Result<Option<String>, ApiError>;

    /// Asks the API server behind a local address (a tunnel) for `/readyz`: `Ok(true)` for 200.
    /// The server's certificate is checked against the cluster's CA.
    fn readyz(&self, through: std::net::SocketAddr) -> Result<bool, ApiError>;
}

/// A Node object, as far as it says how to reach the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNode {
    /// Name and role.
    pub info: NodeInfo,
    /// The first InternalIP.
    pub address: Option<String>,
    /// `status.nodeInfo.machineID`.
    pub machine_id: Option<String>,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// `user@host`.
    pub who: String,
    /// SHA-256 of the workstation's machine id and boot id: tells whether `pid` can be looked up here.
    pub machine: String,
    /// The process.
    pub pid: u32,
    /// The process's start time in clock ticks since boot, so that a reused pid is not mistaken.
    pub start: u64,
    /// Unix seconds when it was taken.
    pub since: u64,
}

/// Why the API could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No kubeconfig, no such context.
    #[error("{why}")]
    Config {
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Nothing answers.
    #[error("the API server does not answer: {why}")]
    Unreachable {
        /// The system's words.
        why: String,
    },
    /// Not allowed.
    #[error("the API server refuses: {why}")]
    Forbidden {
        /// The server's words.
        why: String,
    },
    /// The cluster has no such kind in any version.
    #[error("the cluster has no kind {kind} of {api_version} any more")]
    NoKind {
        /// The kind.
        kind: String,
        /// As it was noted.
        api_version: String,
    },
    /// Other field managers own fields.
    #[error("{reference}: {}", owners(fields))]
    Conflict {
        /// The object.
        reference: String,
        /// The fields.
        fields: Vec<FieldConflict>,
    },
    /// The object or key is not what it was when the plan was made.
    #[error("{what} has changed since the plan was made")]
    Moved {
        /// The object or key.
        what: String,
    },
    /// Somebody else applies.
    #[error("{who} is applying to this cluster since {} (process {pid})", time_of(*since))]
    Locked {
        /// `user@host`.
        who: String,
        /// Unix seconds.
        since: u64,
        /// On that host.
        pid: u32,
    },
    /// The lock is there, and this program did not write it.
    #[error("{who} holds Lease kube-system/harden, which harden did not write")]
    Foreign {
        /// What the Lease calls its holder.
        who: String,
    },
    /// It was told to go, and takes its time: that cannot be taken back.
    #[error("{what} is being deleted: {why}")]
    Ending {
        /// The object.
        what: String,
        /// What holds it.
        why: String,
    },
    /// The server refused the content, or anything else.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// The server's words.
        why: String,
    },
}

/// Says whose the fields are; the first of them are enough.
fn owners(fields: &[FieldConflict]) -> String {
    let named = fields.iter().take(5);
    let named: Vec<String> = named
        .map(|one| format!("{} belongs to {:?}", one.field, one.manager))
        .collect();
    match fields.len().saturating_sub(named.len()) {
        0 if named.is_empty() => "a field belongs to another manager".into(),
        0 => named.join(", "),
        more => format!("{}, and {more} more", named.join(", ")),
    }
}

/// RFC 3339, UTC.
fn time_of(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}
