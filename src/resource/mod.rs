//! Resources: the things that can be observed, compared and changed; one file a kind.
//!
//! A kind says what to look at ([`Behaviour::queries`], [`Behaviour::object`]) and how the facts
//! differ from what is wanted ([`Behaviour::diff`]). It knows nothing of SSH or kube. A new kind is
//! one new file and one line in [`kinds!`](crate::resource).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use self::precondition::Precondition;
use crate::distribution::k3s::Layout;
use crate::distribution::kubeadm::fields::FieldEdit;
use crate::distribution::{Component, ComponentEdit, Distribution};
use crate::fact::{
    ApiQuery, Facts, FieldConflict, Ids, Node, NodeInfo, NodePath, ObjectRef, ProgramName, Query,
};

pub mod allowance;
pub mod audit_policy;
pub mod certificate;
pub mod component_file;
mod control_plane;
pub mod convergence;
mod defaults;
mod elsewhere;
pub mod encryption;
pub mod etcd_snapshots;
pub mod etcd_urls;
pub mod etcd_user;
mod field;
pub mod flag;
pub mod kube_proxy;
pub mod kubelet;
pub mod leaving;
pub mod mode;
pub mod object;
pub mod precondition;
mod quantity;
pub mod renewal;
mod servers;
pub mod serving_certificate;
pub mod stray;
pub mod sysctl;
mod unite;
mod wanted;

pub use field::is_effective;
pub use unite::{Disagreement, unite};
pub use wanted::wanted_value;

/// Declares the kinds: the name of the table in a module, and the type that a table becomes.
macro_rules! kinds {
    ($($table:literal => $variant:ident($type:ty)),+ $(,)?) => {
        /// One wanted thing, by kind.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Kind {
            $(#[doc = concat!("`[[", $table, "]]`")] $variant($type),)+
        }

        /// The names of the tables by which modules declare resources.
        pub const TABLES: &[&str] = &[$($table),+];

        impl Kind {
            /// Reads the evaluated table of a module. `value` has no interpolation left in it.
            ///
            /// # Errors
            /// What is wrong with the table, with the field's path.
            pub fn from_table(table: &str, value: serde_json::Value) -> Result<Self, String> {
                match table {
                    $($table => <$type>::from_table(value).map(Kind::$variant),)+
                    other => Err(format!("there is no resource kind {other:?}")),
                }
            }

            /// Returns what the kind does.
            pub fn behaviour(&self) -> &dyn Behaviour {
                match self {
                    $(Kind::$variant(kind) => kind,)+
                }
            }
        }
    };
}

kinds! {
    "flag" => Flag(flag::Flag),
    "component-file" => ComponentFile(component_file::ComponentFile),
    "mode" => Mode(mode::Mode),
    "object" => Object(object::Object),
    "allowance" => Allowance(allowance::Allowance),
    "kubelet" => Kubelet(kubelet::Kubelet),
    "kube-proxy" => KubeProxy(kube_proxy::KubeProxy),
    "sysctl" => Sysctl(sysctl::Sysctl),
    "serving-certificate" => ServingCertificate(serving_certificate::ServingCertificate),
    "etcd-user" => EtcdUser(etcd_user::EtcdUser),
    "etcd-urls" => EtcdUrls(etcd_urls::EtcdUrls),
    "certificate" => Certificate(certificate::Certificate),
    "etcd-snapshots" => EtcdSnapshots(etcd_snapshots::EtcdSnapshots),
    "encryption" => Encryption(encryption::Encryption),
}

/// The path of no field: a plan that asks for an answer does not rest on what it is.
fn nothing_counts() -> Vec<String> {
    vec![String::new()]
}

/// What every kind does.
pub trait Behaviour {
    /// Names the resource for a reader, for example `kube-apiserver --profiling`. Unique among the
    /// resources of one scope, but for those that share it.
    fn name(&self) -> String;

    /// Whether this and another resource of the same name can both be had, as two items of one list.
    fn shares_with(&self, _other: &Kind) -> bool {
        false
    }

    /// Lists what must be looked at on each node in scope.
    fn queries(&self) -> Vec<Query>;

    /// Lists what must be asked besides about a node in scope, and which fields of each answer count,
    /// by path; an empty path is the whole answer.
    fn api_queries(&self, _node: &str) -> Vec<(ApiQuery, Vec<String>)> {
        Vec::new()
    }

    /// Returns what evaluation alone says of it, for a reader who has no cluster at hand.
    fn parts(&self) -> Vec<Part>;

    /// Returns the mode whose wrong entries are all that counts of its queries' answers. A plan does
    /// not rest on the rest of such a directory, so that a new file in it matters only when it is
    /// wrong too.
    fn entries(&self) -> Option<&mode::Mode> {
        None
    }

    /// Returns the permission bits that files must have besides what their own modes allow.
    fn keeps(&self) -> Vec<(NodePath, u32)> {
        Vec::new()
    }

    /// Returns the API object that is wanted, for kinds that are one.
    fn object(&self) -> Option<&serde_json::Value> {
        None
    }

    /// Returns which object that is.
    fn reference(&self) -> Option<&ObjectRef> {
        None
    }

    /// The object, to be kept without a copy.
    fn shared_object(&self) -> Option<&std::sync::Arc<serde_json::Value>> {
        None
    }

    /// Returns what a check sees where the resource is as it is wanted.
    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)>;

    /// Lists what must be looked at for [`Behaviour::prepare`] on a node that is yet to join.
    fn queries_to_prepare(&self) -> Vec<Query> {
        Vec::new()
    }

    /// Drafts what must lie on a node before it joins, because what `kubeadm join` starts there would
    /// not start without it.
    fn prepare(&self, _resource: &Resource, _node: &Node, _draft: &mut Draft) {}

    /// Returns this and another one as one, for kinds of which several may contribute to one thing:
    /// items of a flag, parts of a file. `None` when the two are nothing of that kind.
    ///
    /// # Errors
    /// What they want differently.
    fn unite(&self, _other: &Kind) -> Option<Result<Kind, String>> {
        None
    }

    /// Returns what must be as it is wanted where this one changes anything. Where it is held back, so is
    /// this.
    fn needs(&self) -> Vec<Subject> {
        Vec::new()
    }

    /// Says what a person does about a difference that only a person can mend ([`Risk::Manual`]).
    fn by_hand(&self) -> String {
        "do it by hand: nothing here can do it safely".into()
    }

    /// Compares with the facts and drafts what to change.
    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft);

    /// Lists what must be looked at on each node in scope where k3s or RKE2 made the cluster; `None`
    /// where the kind knows its place on kubeadm's nodes only.
    fn queries_on_k3s(&self, _layout: &'static Layout) -> Option<Vec<Query>> {
        None
    }

    /// Compares with the facts of a cluster of k3s or RKE2. Called only where
    /// [`Behaviour::queries_on_k3s`] says that there is a place; it is the same as everywhere unless a kind
    /// says otherwise.
    fn diff_on_k3s(
        &self,
        _layout: &'static Layout,
        resource: &Resource,
        facts: &Facts,
        draft: &mut Draft,
    ) {
        self.diff(resource, facts, draft);
    }
}

/// What a check of a control looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A flag of a component; seen as `{"value": TEXT}`, null when it is not set.
    Flag {
        /// Whose.
        component: Component,
        /// Without dashes.
        name: String,
    },
    /// The file that a flag of a component names; seen as `{"content": YAML, "flags": {NAME: TEXT}}` with
    /// all flags of the component that are known. The content is null when it is not known.
    File {
        /// Whose.
        component: Component,
        /// The flag that names the file, without dashes.
        flag: String,
    },
    /// Mode and owner of the file at a path; seen as `{"mode": "0600", "owner": NAME, "group": NAME}`.
    /// The path may end in a pattern as [`mode::Pattern`] has it: then each such file is seen.
    Mode(String),
    /// The API objects of a kind; each seen as `{"object": OBJECT}`.
    Object(String),
    /// A field of the kubelet's configuration, keys joined by dots; seen as `{"value": VALUE}`, null
    /// when it is not set.
    Kubelet(String),
    /// A field of kube-proxy's configuration, likewise.
    KubeProxy(String),
    /// A kernel parameter; seen as `{"value": TEXT}`.
    Sysctl(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Flag { component, name } => write!(f, "{component} --{name}"),
            Subject::File { component, flag } => write!(f, "{component} file of --{flag}"),
            Subject::Mode(path) => write!(f, "{path}"),
            Subject::Object(kind) => write!(f, "each {kind}"),
            Subject::Kubelet(field) => write!(f, "kubelet {field}"),
            Subject::KubeProxy(field) => write!(f, "kube-proxy {field}"),
            Subject::Sysctl(name) => write!(f, "sysctl {name}"),
        }
    }
}

/// Something that a resource wants, as far as it is known without looking at the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A whole file on a node.
    File {
        /// Where.
        path: NodePath,
        /// UTF-8 text.
        content: String,
    },
    /// A setting inside something that is not known as a whole.
    Setting {
        /// The list that it belongs to: `flags`, `modes`, `volumes`.
        list: &'static str,
        /// Its name in the list, outermost first: the component and the flag.
        name: Vec<String>,
        /// What is wanted: a table.
        wanted: serde_json::Map<String, serde_json::Value>,
    },
    /// An API object.
    Object {
        /// Which.
        reference: ObjectRef,
        /// The fields that are wanted.
        manifest: serde_json::Value,
    },
}

/// Which nodes a resource concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The nodes labelled `node-role.kubernetes.io/control-plane`.
    ControlPlane,
    /// All other nodes.
    Workers,
    /// Every node.
    Nodes,
    /// No node: the API.
    Api,
}

impl Scope {
    /// Whether the node is in scope.
    pub fn holds(self, node: &NodeInfo) -> bool {
        match self {
            Scope::ControlPlane => node.control_plane,
            Scope::Workers => !node.control_plane,
            Scope::Nodes => true,
            Scope::Api => false,
        }
    }
}

/// How much a change can hurt. The order is that of danger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Nothing running notices.
    Safe,
    /// A program reads its configuration again.
    Reload,
    /// A program restarts, behind a gate.
    Restart,
    /// It can break workloads or lock out; needs the option's name in `accept`.
    Guarded,
    /// It cannot be undone; needs the option's name in `accept`.
    Irreversible,
    /// It is only reported; a person must do it.
    Manual,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The option's full name, for example `apiserver.profiling`.
    pub option: String,
    /// The file as the user names it: relative to the workspace, or `builtin:baseline`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}:{}", self.option, self.file, self.line)
    }
}

/// One wanted thing with its scope and provenance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// What is wanted.
    pub kind: Kind,
    /// On which nodes.
    pub scope: Scope,
    /// On no other node of the scope than this one: it has a value of its own.
    pub only: Option<String>,
    /// The nodes of the scope that have a resource of their own instead.
    pub except: BTreeSet<String>,
    /// How dangerous a change of it is.
    pub risk: Risk,
    /// Whether all nodes in scope must have the same (a failure then reverts all of them).
    pub uniform: bool,
    /// Why it is wanted: the titles of its controls, or else `option: ` and what the option behind it
    /// says of itself.
    pub reason: String,
    /// The controls that it serves, by stable name.
    pub controls: Vec<String>,
    /// The option values that it was made of, sorted.
    pub origins: Vec<Origin>,
    /// Of one that was united of several: the options of each part that needs consent, of which one
    /// must be accepted. Empty where all options stand for the whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consent: Vec<GuardedPart>,
    /// What must be so before it is changed without being accepted; see [`Resource::preconditions`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub requires: BTreeSet<Precondition>,
}

/// A part of a resource that needs consent, or else its preconditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuardedPart {
    /// The options behind it, of which one must be accepted.
    pub options: BTreeSet<String>,
    /// What must be so instead; where nothing is named, only consent will do.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub requires: BTreeSet<Precondition>,
}

impl Resource {
    /// Returns the nodes in scope.
    pub fn nodes<'f>(&'f self, facts: &'f Facts) -> impl Iterator<Item = &'f Node> {
        facts.nodes.values().filter(|n| self.concerns(&n.info))
    }

    /// Returns the options behind each part that needs consent: one of each must be accepted.
    pub fn parts_to_accept(&self) -> Vec<GuardedPart> {
        match self.risk {
            Risk::Guarded | Risk::Irreversible if self.consent.is_empty() => vec![GuardedPart {
                options: self.origins.iter().map(|o| o.option.clone()).collect(),
                // What cannot be undone needs consent, whatever is so.
                requires: match self.risk {
                    Risk::Irreversible => BTreeSet::new(),
                    _ => self.requires.clone(),
                },
            }],
            _ => self.consent.clone(),
        }
    }

    /// Returns every precondition of one of its parts.
    pub fn preconditions(&self) -> impl Iterator<Item = Precondition> {
        // Those of `parts_to_accept`, whose options nobody asks for here.
        let is_whole = self.risk == Risk::Guarded && self.consent.is_empty();
        let whole = is_whole.then_some(&self.requires);
        let parts = self.consent.iter().map(|part| &part.requires);
        whole.into_iter().chain(parts).flatten().copied()
    }

    /// Whether it is wanted on a node.
    pub fn concerns(&self, node: &NodeInfo) -> bool {
        self.scope.holds(node)
            && self.only.as_ref().is_none_or(|only| *only == node.name)
            && !self.except.contains(&node.name)
    }
}

/// Something about the profile that a reader should know, and that hinders nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What it is, in one sentence.
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// The control that says why it matters, by stable name.
    pub control: Option<String>,
    /// Which values it is about.
    pub origins: Vec<Origin>,
}

/// Leaves to each file the permission bits that another resource needs of it, and tells for which
/// option that means less than it says.
pub fn reconcile(resources: &mut [Resource]) -> Vec<Finding> {
    let needed: Vec<(NodePath, u32, Vec<Origin>)> = resources
        .iter()
        .flat_map(|resource| {
            let kept = resource.kind.behaviour().keeps().into_iter();
            kept.map(|(path, bits)| (path, bits, resource.origins.clone()))
        })
        .collect();
    let mut findings = std::collections::BTreeSet::new();
    for resource in resources {
        let Kind::Mode(mode) = &mut resource.kind else {
            continue;
        };
        for (path, bits, by) in &needed {
            let (true, Some(most)) = (mode.keep(path, *bits), mode.at_most()) else {
                continue;
            };
            let names = |origins: &[Origin]| {
                let names: Vec<&str> = origins.iter().map(|o| o.option.as_str()).collect();
                names.join(", ")
            };
            let mut origins = [&resource.origins[..], by].concat();
            origins.sort();
            origins.dedup();
            // A built-in profile that sets both says so on its own page.
            if origins
                .iter()
                .all(|origin| origin.file.starts_with("builtin:"))
            {
                continue;
            }
            findings.insert(Finding {
                message: format!(
                    "{path} may have mode {:04o}, not {most:04o}: {} needs it",
                    most | bits,
                    names(by)
                ),
                help: format!(
                    "leave {} unset if {} matters more",
                    names(by),
                    names(&resource.origins)
                ),
                control: None,
                origins,
            });
        }
    }
    findings.into_iter().collect()
}

/// All resources after evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Desired {
    /// The cluster's name in the workspace.
    pub cluster: String,
    /// What made the cluster.
    #[serde(skip_serializing_if = "Distribution::is_kubeadm")]
    pub distribution: Distribution,
    /// Sorted by scope and name.
    pub resources: Vec<Resource>,
    /// Options whose guarded or irreversible changes the profile accepts.
    pub accept: Vec<String>,
    /// Objects that may be deleted with all that they hold when they have left the profile, by their
    /// [short names](ObjectRef::short_name).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow_delete: BTreeSet<String>,
    /// What should be known about the profile, sorted.
    pub findings: Vec<Finding>,
}

impl Desired {
    /// Returns what shall be encrypted and by what; `None` where no option wants that.
    pub fn encryption(&self) -> Option<&encryption::Encryption> {
        self.resources.iter().find_map(|r| match &r.kind {
            Kind::Encryption(wanted) => Some(wanted),
            _ => None,
        })
    }

    /// Returns the resources whose objects shall be encrypted; `None` where no option wants that.
    pub fn encrypts(&self) -> Option<BTreeSet<String>> {
        Some(self.encryption()?.resources().clone())
    }

    /// Returns the SHA-256 of the desired state. Where values came from does not count, so that
    /// moving a line changes nothing.
    pub fn sha256(&self) -> String {
        use crate::fact::{canonical_json, write_canonical};
        // Canonical JSON, one resource at a time: of thousands, the whole would be many times as large.
        let mut hash = sha2::Sha256::new();
        let accept = canonical_json(&serde_json::json!(self.accept));
        let cluster = canonical_json(&serde_json::json!(self.cluster));
        hash.update(format!("{{\"accept\":{accept},"));
        if !self.allow_delete.is_empty() {
            let allowed = canonical_json(&serde_json::json!(self.allow_delete));
            hash.update(format!("\"allow-delete\":{allowed},"));
        }
        hash.update(format!("\"cluster\":{cluster},"));
        if !self.distribution.is_kubeadm() {
            let name = canonical_json(&serde_json::json!(self.distribution.name()));
            hash.update(format!("\"distribution\":{name},"));
        }
        hash.update("\"resources\":[");
        for (at, r) in self.resources.iter().enumerate() {
            let mut text = String::from(if at == 0 { "{" } else { ",{" });
            let add = |name: &str, value: &serde_json::Value, text: &mut String| {
                text.push_str(name);
                write_canonical(value, text);
            };
            add("\"except\":", &serde_json::json!(r.except), &mut text);
            match &r.kind {
                // Of these there are thousands, and what they want is JSON already.
                Kind::Object(object) => {
                    let name = ",\"kind\":{\"object\":{\"manifest\":";
                    add(name, object.manifest(), &mut text);
                    text.push_str("}}");
                }
                kind => add(",\"kind\":", &serde_json::json!(kind), &mut text),
            }
            add(",\"only\":", &serde_json::json!(r.only), &mut text);
            add(",\"scope\":", &serde_json::json!(r.scope), &mut text);
            add(",\"uniform\":", &serde_json::json!(r.uniform), &mut text);
            text.push('}');
            hash.update(text);
        }
        hash.update("]}");
        crate::fact::hex(&hash.finalize())
    }
}

/// Where a difference is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On the node of this name.
    Node(String),
    /// In the API.
    #[default]
    Api,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Node(name) => f.write_str(name),
            Place::Api => f.write_str("API"),
        }
    }
}

/// Which of the copies of a setting differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingCopy {
    /// The kubeadm-config ConfigMap: what the next upgrade or join brings.
    KubeadmConfig,
    /// The kubelet-config ConfigMap: what the next upgrade or join brings to a kubelet.
    KubeletConfig,
    /// The kube-proxy ConfigMap: what the next start of kube-proxy brings.
    KubeProxyConfig,
    /// The static pod's manifest: what the next restart brings.
    Manifest,
    /// The file on the node: what the next restart brings.
    File,
    /// The configuration of k3s or RKE2 on a server, with its drop-ins: what the next restart brings.
    ServerConfig,
    /// What the running process has: what holds now.
    Process,
}

impl std::fmt::Display for SettingCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SettingCopy::KubeadmConfig => "kubeadm-config",
            SettingCopy::KubeletConfig => "kubelet-config",
            SettingCopy::KubeProxyConfig => "kube-proxy config",
            SettingCopy::Manifest => "manifest",
            SettingCopy::File => "file",
            SettingCopy::ServerConfig => "server config",
            SettingCopy::Process => "process",
        })
    }
}

/// One difference between a resource and the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The resource's name.
    pub resource: String,
    /// Where it differs.
    pub place: Place,
    /// Which copy differs, for control-plane settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<SettingCopy>,
    /// What is there, in one line; `None` for nothing.
    pub before: Option<String>,
    /// What will be there, in one line; `None` for nothing.
    pub after: Option<String>,
    /// The difference in detail: a unified diff of a file, or one line a field of an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// Why it is wanted.
    pub reason: String,
    /// The controls that it serves.
    pub controls: Vec<String>,
    /// Where the wanted value came from.
    pub origins: Vec<Origin>,
    /// How dangerous it is.
    pub risk: Risk,
    /// Whether all nodes must have the same.
    pub uniform: bool,
    /// What it restarts, for example `kube-apiserver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<String>,
}

/// What a problem means for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; nothing asked for is missing.
    Warning,
    /// Something asked for could not be compared or cannot be done: the plan is incomplete.
    Error,
}

/// Something that was asked for and cannot be compared or done, or that should be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What it concerns: a resource's name, a path.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// A ConfigMap with one configuration under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigMapRef {
    /// Namespace of the ConfigMap.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Under `data`.
    pub key: &'static str,
    /// The kind of the document.
    pub kind: &'static str,
    /// Which copy of a setting it is.
    pub copy: SettingCopy,
}

impl ConfigMapRef {
    /// Returns what must be asked to see it.
    pub fn query(&self) -> ApiQuery {
        ApiQuery::ConfigMapKey {
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            key: self.key.to_owned(),
        }
    }
}

impl std::fmt::Display for ConfigMapRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConfigMapRef {
            namespace,
            name,
            key,
            ..
        } = self;
        write!(f, "{key} in ConfigMap {namespace}/{name}")
    }
}

/// What has to be done, before the plan puts it into steps.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Edit a static pod's manifest on a node.
    Manifest {
        /// The node.
        node: String,
        /// The component.
        component: Component,
        /// What to edit.
        edit: ComponentEdit,
    },
    /// Edit the component's part of ClusterConfiguration in the kubeadm-config ConfigMap.
    ClusterConfiguration {
        /// The component.
        component: Component,
        /// What to edit.
        edit: ComponentEdit,
    },
    /// Edit our drop-in of a server's configuration, and restart the server.
    ServerConfig {
        /// The node.
        node: String,
        /// The component.
        component: Component,
        /// What to edit.
        edit: ComponentEdit,
    },
    /// Set a field of the kubelet's configuration on a node, and restart the kubelet. Where the file
    /// has it already, the restart is all.
    Kubelet {
        /// The node.
        node: String,
        /// What to set.
        edit: FieldEdit,
    },
    /// Set a field of the configuration that is the text under a ConfigMap's key.
    ConfigMapField {
        /// Which.
        map: ConfigMapRef,
        /// What to set.
        edit: FieldEdit,
    },
    /// Approve the kubelet's request for a serving certificate, when it passes, and wait until the
    /// certificate is served.
    ServingCertificate {
        /// The node.
        node: String,
    },
    /// Write a whole file on a node.
    File {
        /// The node.
        node: String,
        /// Where.
        path: NodePath,
        /// UTF-8 text.
        content: String,
        /// Permission bits.
        mode: u32,
        /// Owner and group by name.
        owner: (String, String),
    },
    /// Start a timer of systemd with the files of the same change, in one transaction with them.
    Timer {
        /// The node.
        node: String,
        /// The unit's name, without `.timer`; it begins with `harden-`.
        unit: ProgramName,
    },
    /// Set mode and owner of what is at a path.
    Mode {
        /// The node.
        node: String,
        /// Where.
        path: NodePath,
        /// Permission bits.
        mode: u32,
        /// Owner and group by name.
        owner: (String, String),
    },
    /// Have kubeadm renew a certificate, in the transaction of its node's manifests.
    Renew(renewal::Renewal),
    /// Give a directory and everything below it to a user and group, in the transaction of the same
    /// change's manifest, if there is one; so it is then with its files and modes as well.
    Owner {
        /// The node.
        node: String,
        /// The directory.
        path: NodePath,
        /// The new owner.
        owner: Ids,
    },
    /// Do a part of what brings objects under a key.
    Encryption(encryption::EncryptionWork),
    /// Apply an object server-side.
    Object {
        /// Which.
        reference: ObjectRef,
        /// The fields that the profile sets.
        wanted: serde_json::Value,
        /// The fields that are taken from other managers, as the user asked.
        taken: Vec<FieldConflict>,
        /// What others added that must not be there.
        strays: Vec<stray::Stray>,
    },
}

/// What the kinds find; the plan makes steps of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The differences, each with what to do. Several changes of one file carry several effects.
    pub changes: Vec<(Change, Vec<Effect>)>,
    /// What cannot be done.
    pub problems: Vec<Problem>,
}

impl Draft {
    /// Adds a change of a resource; the resource gives reason, controls, origins and risk.
    pub fn change(&mut self, resource: &Resource, found: Difference, effects: Vec<Effect>) {
        self.changes.push((
            Change {
                resource: found
                    .resource
                    .unwrap_or_else(|| resource.kind.behaviour().name()),
                place: found.place,
                copy: found.copy,
                before: found.before,
                after: found.after,
                diff: found.diff,
                reason: resource.reason.clone(),
                controls: resource.controls.clone(),
                origins: resource.origins.clone(),
                risk: found.risk.unwrap_or(resource.risk),
                uniform: resource.uniform,
                restarts: found.restarts,
            },
            effects,
        ));
    }

    /// Adds something that was asked for and cannot be compared or done.
    pub fn error(
        &mut self,
        resource: &Resource,
        place: Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem {
            severity: Severity::Error,
            place,
            subject: resource.kind.behaviour().name(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }
}

/// The part of a [`Change`] that a kind knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// Instead of the resource's name, for one that concerns several things.
    pub resource: Option<String>,
    /// See [`Change::place`].
    pub place: Place,
    /// See [`Change::copy`].
    pub copy: Option<SettingCopy>,
    /// See [`Change::before`].
    pub before: Option<String>,
    /// See [`Change::after`].
    pub after: Option<String>,
    /// See [`Change::diff`].
    pub diff: Option<String>,
    /// See [`Change::restarts`].
    pub restarts: Option<String>,
    /// Overrides the resource's risk: the ConfigMap's copy of a flag restarts nothing.
    pub risk: Option<Risk>,
}
