//! Facts: what was observed on a node or in the API.
//!
//! A fact is a value, absent, or unreadable with the reason. An unreadable fact is never taken
//! for a good one. What to look at on a node is a [`Query`]: plain validated data, so that one
//! constant probe script (`probe.sh`) serves every read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use certificate::Certificates;
use encryption::{EncryptionFile, EtcdPrefix, Stored};

pub mod certificate;
pub mod clear_text;
mod deletion;
pub mod encryption;
mod impact;
pub mod ledger;
mod pod_security;
pub mod probe;
pub(crate) mod shared;
mod signing;
pub mod snapshot;
pub mod standards;
mod warning;

use self::ledger::LedgerFacts;
pub use deletion::held_by;
pub use impact::{ImpactFacts, ImpactQuery, LevelTold, ListedKind, ObjectList};
pub use pod_security::{
    BEYOND_LATEST, ENFORCE_LABEL, ENFORCE_VERSION_LABEL, PodLevel, PodsBelow, Told, is_dns_name,
};
pub use signing::{
    KUBELET_SERVING_SIGNER, KubeletEndpoint, NodeAddress, ServingCertificate, SigningRequest,
    SigningState,
};
pub use warning::Warnings;

/// What is known of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    /// It is there, and this is its value.
    Value(T),
    /// It is not there.
    Absent,
    /// It could not be read, and this is why.
    Unreadable(String),
}

impl<T> Fact<T> {
    /// Returns the value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Fact::Value(v) => Some(v),
            _ => None,
        }
    }

    /// Converts the value and keeps the two other states.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Fact::Value(v) => Fact::Value(f(v)),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        }
    }

    /// Borrows the value and keeps the two other states.
    pub fn as_ref(&self) -> Fact<&T> {
        match self {
            Fact::Value(v) => Fact::Value(v),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why.clone()),
        }
    }
}

/// An absolute path on a node: no `.` or `..` component, no empty component, no control character,
/// at most 1024 bytes. It travels to the node as a line of data, never as part of a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath(String);

/// Why a text is no [`NodePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not a usable path on a node: {why}")]
pub struct PathError {
    /// The offending text.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl NodePath {
    /// Checks and wraps a path.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        let why = if !path.starts_with('/') {
            "it must be absolute"
        } else if path.len() > 1024 {
            "it is longer than 1024 bytes"
        } else if path.chars().any(char::is_control) {
            "it holds a control character"
        } else if path.len() > 1
            && path[1..]
                .split('/')
                .any(|part| matches!(part, "" | "." | ".."))
        {
            "it has an empty, `.` or `..` component"
        } else {
            return Ok(NodePath(path));
        };
        Err(PathError { path, why })
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory that it is in, and its name there; `None` for `/`.
    pub fn split(&self) -> Option<(NodePath, &str)> {
        let (dir, name) = self
            .0
            .rsplit_once('/')
            .filter(|(_, name)| !name.is_empty())?;
        let dir = if dir.is_empty() { "/" } else { dir };
        Some((NodePath(dir.to_owned()), name))
    }
}

impl TryFrom<String> for NodePath {
    type Error = PathError;
    fn try_from(path: String) -> Result<Self, PathError> {
        NodePath::new(path)
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> String {
        path.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing to look at on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// Content and metadata of a regular file of at most [`probe::MAX_FILE`] bytes.
    File(NodePath),
    /// Metadata of whatever is at the path; a symlink is not followed.
    Stat(NodePath),
    /// Names and metadata of what a directory holds, dot files included.
    Dir(NodePath),
    /// The same of what the directories in a directory hold, as `DIRECTORY/NAME`; a symlink to a
    /// directory is not followed.
    Below(NodePath),
    /// The owners of a directory and of everything below it, each once.
    Owners(NodePath),
    /// User and group of an account that the node knows.
    Account(AccountName),
    /// The running processes of this program that share the node's network namespace, as the
    /// control plane's static pods do. A tenant's pod cannot pose as one by its name alone.
    Process(ProgramName),
    /// The last lines that the newest container of this kube-system static pod logged.
    Log(ProgramName),
    /// The last lines that this systemd unit logged.
    Journal(ProgramName),
    /// The file at the path and its drop-ins: the files `*.yaml` and `*.yml` in the directory of the same
    /// name with `.d`, as k3s reads them. Absent where there is none of them.
    Config(NodePath),
    /// What systemd says of this unit: the timer where its name begins with `harden-`, else the service.
    Unit(ProgramName),
    /// What an EncryptionConfiguration says, without its keys. Only block style with one thing a line is
    /// understood, as people and programs write it; anything else is unreadable.
    Encryption(NodePath),
    /// The certificates in a file: in PEM, or a kubeconfig's `client-certificate-data`. A symlink is
    /// followed, as the kubelet's is one.
    Certificates(NodePath),
    /// In which forms the objects below this prefix lie in the etcd member of this node: how many are in
    /// clear, and under which key. Absent where the node runs no etcd.
    Stored(EtcdPrefix),
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Query::File(p) => write!(f, "file {p}"),
            Query::Stat(p) => write!(f, "mode and owner of {p}"),
            Query::Dir(p) => write!(f, "directory {p}"),
            Query::Below(p) => write!(f, "directories in {p}"),
            Query::Owners(p) => write!(f, "owners of what is in {p}"),
            Query::Account(name) => write!(f, "account {name}"),
            Query::Process(p) => write!(f, "command line of {p}"),
            Query::Log(p) => write!(f, "log of {p}"),
            Query::Journal(p) => write!(f, "journal of {p}"),
            Query::Config(p) => write!(f, "arguments in {p} and its drop-ins"),
            Query::Unit(p) => write!(f, "unit {p}"),
            Query::Encryption(p) => write!(f, "encryption configuration {p}"),
            Query::Certificates(p) => write!(f, "certificates in {p}"),
            Query::Stored(p) => write!(f, "forms of the objects below {p} in etcd"),
        }
    }
}

/// The name of a program: lower-case letters, digits and `-`, at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProgramName(String);

impl ProgramName {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        let good = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(ProgramName(name))
        } else {
            Err(format!("{name:?} is not a program name"))
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProgramName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        ProgramName::new(name)
    }
}

impl From<ProgramName> for String {
    fn from(name: ProgramName) -> String {
        name.0
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an account as useradd(8) takes it: a lower-case letter or `_`, then lower-case letters,
/// digits, `_` and `-`, at most 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

impl AccountName {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        let first = |b: u8| b.is_ascii_lowercase() || b == b'_';
        let good = (1..=32).contains(&name.len())
            && name.bytes().next().is_some_and(first)
            && name
                .bytes()
                .all(|b| first(b) || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(AccountName(name))
        } else {
            Err(format!("{name:?} is not the name of an account"))
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AccountName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        AccountName::new(name)
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> String {
        name.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// User and group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// What a [`Query`] brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Of [`Query::File`].
    File(File),
    /// Of [`Query::Stat`].
    Stat(Meta),
    /// Of [`Query::Dir`] and [`Query::Below`], by name.
    Dir(BTreeMap<String, Meta>),
    /// Of [`Query::Owners`]; never empty.
    Owners(BTreeSet<Ids>),
    /// Of [`Query::Account`].
    Account(Ids),
    /// Of [`Query::Process`], by pid; never empty (no process is [`Fact::Absent`]).
    Process(Vec<Process>),
    /// Of [`Query::Log`] and [`Query::Journal`]: text without terminal escapes, oldest line first.
    Log(String),
    /// Of [`Query::Config`]: the file itself under an empty name, its drop-ins under theirs; never empty.
    Config(BTreeMap<String, File>),
    /// Of [`Query::Unit`].
    Unit(Unit),
    /// Of [`Query::Encryption`].
    Encryption(EncryptionFile),
    /// Of [`Query::Certificates`].
    Certificates(Certificates),
    /// Of [`Query::Stored`].
    Stored(Stored),
}

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unit {
    /// `active`, `activating`, `failed` …: org.freedesktop.systemd1(5), ActiveState.
    pub active: String,
    /// Process id and start time of its main process, as in [`Process`]; `None` when none runs.
    pub main: Option<(u32, u64)>,
    /// How often systemd has started it again by itself since somebody started it.
    pub restarts: u32,
    /// The names of the options on its command line, with dashes and without values.
    pub options: BTreeSet<String>,
    /// The configuration that its environment names: the value of `K3S_CONFIG_FILE` and the like.
    pub config: Option<String>,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Mode and owner.
    pub meta: Meta,
    /// Every byte of it.
    pub content: Vec<u8>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or FIFO.
    Other,
}

/// Mode and owner of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// What it is.
    pub kind: FileKind,
    /// The twelve permission bits, `0o0000` to `0o7777`.
    pub mode: u32,
    /// Name of the owner, or the number where the node knows no name.
    pub owner: String,
    /// Name of the group, or the number where the node knows no name.
    pub group: String,
    /// Size in bytes.
    pub size: u64,
}

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the node's pid namespace.
    pub pid: u32,
    /// Start time in clock ticks since the node booted (field 22 of proc_pid_stat(5)); with the
    /// pid it tells one process from its successor.
    pub start: u64,
    /// The command line, program first.
    pub argv: Vec<String>,
}

/// Everything observed on one node.
pub type NodeFacts = BTreeMap<Query, Fact<Answer>>;

/// A node as the inventory and the API know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The Node object's name.
    pub name: String,
    /// Whether it carries `node-role.kubernetes.io/control-plane`.
    pub control_plane: bool,
}

/// One node and what was observed on it; [`Fact::Unreadable`] when it could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which node.
    pub info: NodeInfo,
    /// What was seen.
    pub facts: Fact<NodeFacts>,
    /// What to do where it could not be reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Node {
    /// Returns what the query brought, [`Fact::Unreadable`] when the node was not reached or the
    /// query was never asked.
    pub fn get(&self, query: &Query) -> Fact<&Answer> {
        match &self.facts {
            Fact::Value(all) => match all.get(query) {
                Some(fact) => fact.as_ref(),
                None => Fact::Unreadable("it was not asked for".into()),
            },
            Fact::Absent => Fact::Unreadable("the node was not observed".into()),
            Fact::Unreadable(why) => Fact::Unreadable(why.clone()),
        }
    }

    /// Returns the file at a path that [`Query::File`] asked for.
    pub fn file(&self, path: &NodePath) -> Fact<&File> {
        match self.get(&Query::File(path.clone())) {
            Fact::Value(Answer::File(file)) => Fact::Value(file),
            Fact::Value(_) => Fact::Unreadable("the probe answered something else".into()),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        }
    }

    /// Returns mode and owner of what is at a path, whichever query told of it.
    pub fn meta(&self, path: &NodePath) -> Option<&Meta> {
        if let Fact::Value(Answer::Stat(meta)) = self.get(&Query::Stat(path.clone())) {
            return Some(meta);
        }
        if let Fact::Value(Answer::File(file)) = self.get(&Query::File(path.clone())) {
            return Some(&file.meta);
        }
        let (dir, name) = path.split()?;
        if let Fact::Value(Answer::Dir(entries)) = self.get(&Query::Dir(dir.clone()))
            && let Some(meta) = entries.get(name)
        {
            return Some(meta);
        }
        let (above, sub) = dir.split()?;
        match self.get(&Query::Below(above)) {
            Fact::Value(Answer::Dir(entries)) => entries.get(&format!("{sub}/{name}")),
            _ => None,
        }
    }

    /// Returns what is known of a file's content as UTF-8 text.
    pub fn text(&self, path: &NodePath) -> Fact<&str> {
        match self.file(path) {
            Fact::Value(file) => match std::str::from_utf8(&file.content) {
                Ok(text) => Fact::Value(text),
                Err(_) => Fact::Unreadable("it is not UTF-8 text".into()),
            },
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        }
    }
}

/// The identity of an API object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// For example `v1` or `networking.k8s.io/v1`.
    pub api_version: String,
    /// For example `NetworkPolicy`.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectRef {
    /// Reads the identity out of a manifest; `None` when one of the fields is missing.
    pub fn of(object: &serde_json::Value) -> Option<Self> {
        let text = |value: Option<&serde_json::Value>| value?.as_str().map(str::to_owned);
        let metadata = object.get("metadata")?;
        Some(ObjectRef {
            api_version: text(object.get("apiVersion"))?,
            kind: text(object.get("kind"))?,
            namespace: text(metadata.get("namespace")).unwrap_or_default(),
            name: text(metadata.get("name"))?,
        })
    }

    /// Returns what tells one object from another: the group of its API, kind, namespace and name. The
    /// version of the API does not count.
    pub fn identity(&self) -> (&str, &str, &str, &str) {
        let group = self.api_version.split_once('/').map_or("", |(g, _)| g);
        (group, &self.kind, &self.namespace, &self.name)
    }

    /// Returns the name by which a profile names it: `KIND/NAME` or `KIND/NAMESPACE/NAME`, with the
    /// group behind the kind, as kubectl has it, where Kubernetes itself does not have the kind.
    pub fn short_name(&self) -> String {
        let (group, kind, namespace, name) = self.identity();
        let is_own = !group.contains('.') || group.ends_with(".k8s.io");
        let kind = match is_own {
            true => kind.to_owned(),
            false => format!("{kind}.{group}"),
        };
        match namespace {
            "" => format!("{kind}/{name}"),
            _ => format!("{kind}/{namespace}/{name}"),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// What the API said of one object that the profile wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFact {
    /// The object as it is.
    pub live: Fact<serde_json::Value>,
    /// What a server-side apply of the wanted object would do, as a dry run told.
    pub would: DryRun,
}

/// The outcome of a server-side apply that was only tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DryRun {
    /// It was not asked: the object's namespace does not exist yet, or the live object is unreadable.
    NotAsked,
    /// It was not asked: the object itself proves that nothing would change. Of the live object only the
    /// metadata is kept.
    Same {
        /// SHA-256 of those of its values that the wanted object names, as a plan rests on it.
        sha256: String,
    },
    /// The object as it would be.
    Object(serde_json::Value),
    /// The object as it would be once fields are taken from the managers that the user named.
    Taken {
        /// The object.
        object: serde_json::Value,
        /// What is taken, and from whom.
        from: Vec<FieldConflict>,
    },
    /// Other field managers own fields that the profile sets.
    Conflict(Vec<FieldConflict>),
    /// The server refused it, in its own words.
    Refused(String),
    /// The server has no such kind.
    NoSuchKind,
    /// The object's namespace is being deleted, so nothing new comes into it.
    NamespaceEnds,
    /// The server does not let this user try, or a webhook refuses dry runs: in its own words. The object
    /// can only be compared here.
    Untried(Untried, String),
}

/// Why an apply could not be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Untried {
    /// The kubeconfig's user may read and not write.
    NoRight,
    /// An admission webhook does not support dry runs.
    Webhook,
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldConflict {
    /// The field's path as the server writes it, for example `.spec.hard.pods`.
    pub field: String,
    /// The other manager's name.
    pub manager: String,
}

/// One thing to ask: of the API, or of a component's own endpoint on a node, which is reached through
/// a tunnel to the node's loopback address. Every answer is JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiQuery {
    /// The text under a key of a ConfigMap, as a string.
    ConfigMapKey {
        /// Namespace of the ConfigMap.
        namespace: String,
        /// Its name.
        name: String,
        /// Under `data`.
        key: String,
    },
    /// The configuration that the kubelet of this node runs with: `/configz`, which has drop-in files
    /// and flags in it (kubernetes v1.35 pkg/kubelet/server/server.go: `InstallAuthRequiredHandlers`).
    /// Absent where the API has no such node, or its kubelet does not answer.
    KubeletConfig(String),
    /// The configuration that kube-proxy on this node runs with: `/configz` beside its metrics
    /// (kubernetes v1.35 cmd/kube-proxy/app/server.go: `serveMetrics`). It is the internal type, whose
    /// keys are those of the Go fields (`MetricsBindAddress`), so here they are all in lower case.
    KubeProxyConfig(String),
    /// What the etcd member on this node says of itself on its metrics address. The answer is an
    /// [`EtcdMember`](crate::distribution::kubeadm::etcd::EtcdMember); absent where the node runs no
    /// etcd of kubeadm's, or one without a metrics address: then nothing is known of its health.
    EtcdMember(String),
    /// Whether the kubelet of this node serves a certificate of the cluster's CA: [`ServingCertificate`].
    ServingCertificate(String),
    /// Every request for a kubelet's serving certificate: a list of [`SigningRequest`].
    ServingRequests,
    /// The Services that have `spec.externalIPs`: `any`, `count` and the first `names`.
    ExternalIps,
    /// The pods with a container whose `imagePullPolicy` is `Never`, likewise.
    NeverPulled,
    /// How many stale tokens the API server on this node has counted since it started: `count` and
    /// `any`.
    StaleTokens(String),
    /// What the API server on this node says of the encryption configuration that it has loaded:
    /// [`Loaded`](encryption::Loaded). Absent where it says nothing of one.
    LoadedEncryption(String),
    /// The names of all nodes that are labelled as control planes, as a list.
    ControlPlanes,
    /// Every resource that the API serves and that can be listed and patched, as a list of
    /// `RESOURCE.GROUP`.
    ServedResources,
    /// The pods that this Pod Security level would refuse when they are made again, in the namespaces
    /// for which it would count: [`PodsBelow`].
    PodsBelow(PodLevel),
    /// Which of the verbs `update` and `delete` the kubeconfig's user may not use on `fences` of the group
    /// `harden.dev` in the whole cluster: a list of them.
    FenceRights,
}

impl fmt::Display for ApiQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiQuery::ConfigMapKey {
                namespace,
                name,
                key,
            } => write!(f, "{key} in ConfigMap {namespace}/{name}"),
            ApiQuery::KubeletConfig(node) => {
                write!(f, "configuration of the kubelet of {node}")
            }
            ApiQuery::KubeProxyConfig(node) => {
                write!(f, "configuration of kube-proxy on {node}")
            }
            ApiQuery::EtcdMember(node) => write!(f, "etcd member of {node}"),
            ApiQuery::ServingCertificate(node) => {
                write!(f, "serving certificate of the kubelet of {node}")
            }
            ApiQuery::ExternalIps => f.write_str("Services with externalIPs"),
            ApiQuery::NeverPulled => f.write_str("pods with imagePullPolicy Never"),
            ApiQuery::StaleTokens(node) => {
                write!(f, "stale tokens that the API server of {node} counted")
            }
            ApiQuery::LoadedEncryption(node) => {
                write!(
                    f,
                    "encryption configuration that the API server of {node} has loaded"
                )
            }
            ApiQuery::FenceRights => f.write_str("rights on fences.harden.dev"),
            ApiQuery::ServingRequests => f.write_str("requests for serving certificates"),
            ApiQuery::ControlPlanes => f.write_str("control planes of the cluster"),
            ApiQuery::ServedResources => f.write_str("resources that the API serves"),
            ApiQuery::PodsBelow(level) => write!(f, "pods below the Pod Security level {level}"),
        }
    }
}

/// Everything observed in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFacts {
    /// The uid of namespace kube-system: the customary identity of a cluster.
    pub cluster_id: Fact<String>,
    /// The text under `ClusterConfiguration` in ConfigMap kube-system/kubeadm-config.
    pub cluster_configuration: Fact<String>,
    /// The objects that the profile wants.
    pub objects: BTreeMap<ObjectRef, ObjectFact>,
    /// What harden manages there, and what of it has left the profile.
    #[serde(default)]
    pub ledger: LedgerFacts,
    /// What else was asked.
    #[serde(default)]
    pub answers: BTreeMap<ApiQuery, Fact<serde_json::Value>>,
}

impl ApiFacts {
    /// Returns what was answered, [`Fact::Unreadable`] when it was never asked.
    pub fn answer(&self, query: &ApiQuery) -> Fact<&serde_json::Value> {
        match self.answers.get(query) {
            Some(fact) => fact.as_ref(),
            None => Fact::Unreadable("it was not asked for".into()),
        }
    }

    /// Returns the answer as text.
    pub fn text(&self, query: &ApiQuery) -> Fact<&str> {
        match self.answer(query) {
            Fact::Value(value) => match value.as_str() {
                Some(text) => Fact::Value(text),
                None => Fact::Unreadable("it is not text".into()),
            },
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        }
    }
}

/// Everything observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// The API.
    pub api: ApiFacts,
}

/// Returns what stands below these keys, from the outermost on. Unlike a JSON pointer there is nothing to unescape,
/// which counts where thousands of objects are looked at.
pub(crate) fn below<'v>(
    value: &'v serde_json::Value,
    keys: &[&str],
) -> Option<&'v serde_json::Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

/// Returns the SHA-256 of some bytes as 64 hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes.as_ref()))
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

/// Returns the SHA-256 of a value's canonical JSON: keys sorted, no white space.
pub fn canonical_sha256(value: &serde_json::Value) -> String {
    sha256(canonical_json(value))
}

/// Writes JSON with sorted keys and no white space, so that equal values give equal bytes.
pub fn canonical_json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// Writes canonical JSON behind what `text` holds already.
pub(crate) fn write_canonical(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            if !entries.is_sorted_by_key(|(key, _)| *key) {
                entries.sort_by_key(|(key, _)| *key);
            }
            text.push('{');
            for (at, (key, value)) in entries.into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write_text(key, text);
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        serde_json::Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write_canonical(item, text);
            }
            text.push(']');
        }
        serde_json::Value::String(string) => write_text(string, text),
        other => text.push_str(&other.to_string()),
    }
}

/// Writes a text as JSON has it.
pub(crate) fn write_text(string: &str, text: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if string.bytes().all(plain) {
        text.push('"');
        text.push_str(string);
        text.push('"');
    } else {
        text.push_str(&serde_json::Value::from(string).to_string());
    }
}
