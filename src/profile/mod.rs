//! Profiles: TOML files with option values, merged with their provenance.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod builtin;
mod diagnostic;
pub(crate) mod layer;
mod lock;
pub(crate) mod merge;
mod modules;
mod policy_file;
mod read;
pub(crate) mod section;
mod source;
mod values;
mod workspace;

pub(crate) use diagnostic::harmless;
pub use diagnostic::{Diagnostic, Failure, Source, Text};
pub use lock::{ClusterIdentity, LOCK_FILE, Lock};
pub use modules::modules;
#[cfg(test)]
pub(crate) use read::plain;
pub use values::{Content, Definition, Value, Values};
pub use workspace::is_node_name;

use crate::distribution::Distribution;
use crate::fact::sha256;
use crate::module::Modules;
use crate::module::check::Checked;
use layer::Layer;

/// Reads the workspace in `dir`: `harden.toml` and everything it imports, merged and checked
/// against the options of `modules`.
///
/// A path in `imports` is relative to the file that has it and stays inside the workspace;
/// `builtin:NAME` is a profile that is part of the program.
///
/// # Errors
/// Everything that is wrong with any of the files.
pub fn load(dir: &Path, modules: &Modules) -> Result<Workspace, Failure> {
    let mut loader = source::Loader::load(dir, modules)?;
    let (values, disagreements) = merge::merge(&loader.layers, modules);
    loader.faults.extend(disagreements);
    let own = loader
        .settings
        .as_ref()
        .map(|settings| &settings.node_values);
    let node_values = own
        .into_iter()
        .flatten()
        .map(|(node, own)| {
            let values = merge::merge(&with_node(&loader.layers, own), modules).0;
            (node.clone(), values)
        })
        .collect();
    let profiles = loader.layers.iter().map(|layer| &layer.file);
    let files = profiles
        .chain(modules.files())
        .map(|file| (file.name.clone(), sha256(&*file.text)))
        .collect();
    let imports = imports(&loader.layers);
    match loader.settings {
        Some(settings) if loader.faults.is_empty() => Ok(Workspace {
            dir: dir.to_owned(),
            cluster: settings.cluster,
            nodes: settings.nodes,
            apply: settings.apply,
            accept: settings.accept,
            values,
            node_values,
            files,
            imports,
        }),
        // Without settings there is a fault that says why.
        _ => Err(Failure(in_order(loader.faults))),
    }
}

/// Lists by name what each file imports, directly or not.
fn imports(layers: &[Layer]) -> BTreeMap<String, BTreeSet<String>> {
    let name = |at: &usize| layers.get(*at).map(|layer| layer.file.name.clone());
    let below = |layer: &Layer| layer.below.iter().filter_map(name).collect();
    layers
        .iter()
        .map(|layer| (layer.file.name.clone(), below(layer)))
        .collect()
}

/// Puts the values that a node has of its own above all files.
fn with_node(layers: &[Layer], own: &BTreeMap<String, Checked>) -> Vec<Layer> {
    let mut layers = layers.to_vec();
    // harden.toml is finished last, after everything that it imports.
    if let Some(file) = layers.last().map(|root| root.file.clone()) {
        layers.push(Layer {
            file,
            own: own.clone(),
            unset: BTreeMap::new(),
            imports: [layers.len() - 1].into(),
            below: (0..layers.len()).collect(),
        });
    }
    layers
}

/// Reads the lock file of the workspace in `dir`; `None` when there is none.
///
/// # Errors
/// What is wrong with the file.
pub fn load_lock(dir: &Path) -> Result<Option<Lock>, Failure> {
    let found = read::read_if_there(&dir.join(LOCK_FILE), LOCK_FILE);
    found.map(Lock::from_read).transpose()
}

/// Brings faults into the order in which a reader meets them: `harden.toml` first, and each file
/// from top to bottom.
fn in_order(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let file = |d: &Diagnostic| d.place.as_ref().map_or("", |p| p.file.as_str()).to_owned();
    let mut files = vec!["harden.toml".to_owned()];
    for fault in &faults {
        if !files.contains(&file(fault)) {
            files.push(file(fault));
        }
    }
    faults.sort_by_cached_key(|fault| {
        let rank = files.iter().position(|f| *f == file(fault));
        (rank, fault.place.as_ref().map(|p| p.span.start))
    });
    faults
}

/// A workspace: the directory with `harden.toml`, read and merged.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where it is.
    pub dir: PathBuf,
    /// `[cluster]`.
    pub cluster: ClusterSettings,
    /// `[nodes]`.
    pub nodes: NodesSettings,
    /// `[apply]`.
    pub apply: ApplySettings,
    /// Top-level `accept`.
    pub accept: Vec<String>,
    /// The merged values of all options.
    pub values: Values,
    /// The same for each node that has values of its own, by name.
    pub node_values: BTreeMap<String, Values>,
    /// The SHA-256 of every file that was read, by name: a path inside the workspace,
    /// `builtin:NAME` for a profile and `builtin:modules/NAME.toml` for a module of the program.
    pub files: BTreeMap<String, String>,
    /// What each profile imports, directly or not, by name; a definition in one of these is
    /// overridden by one in the profile itself.
    pub imports: BTreeMap<String, BTreeSet<String>>,
}

/// `[cluster]`: which cluster, and how its API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// For people, plans and records.
    pub name: String,
    /// What made it.
    pub distribution: Distribution,
    /// A kubeconfig file, relative to the workspace; the usual search (`KUBECONFIG`, `~/.kube/config`) without it.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; the current one without it.
    pub context: Option<String>,
}

/// `[nodes]`: the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesSettings {
    /// Whether the nodes are those of the API's Node objects; otherwise those under `host`.
    pub discover: bool,
    /// For all nodes.
    pub defaults: HostSettings,
    /// `[nodes.host.NAME]`, over the defaults.
    pub hosts: BTreeMap<String, HostSettings>,
}

/// How a node is reached; every field may be left out and then comes from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// `ssh` (default), `docker` or `local`.
    pub transport: Option<TransportName>,
    /// Name or address to connect to; the Node object's InternalIP without it.
    pub address: Option<String>,
    /// SSH port; 22 without it.
    pub port: Option<u16>,
    /// SSH user; the local user's name without it.
    pub user: Option<String>,
    /// `sudo` (default) or `none`, when the user is root.
    pub become_root: Option<Become>,
    /// A private key file, relative to the workspace; the SSH agent's keys without it.
    pub identity: Option<PathBuf>,
    /// A known_hosts file, relative to the workspace. Keys are looked up by the node's NAME.
    pub known_hosts: Option<PathBuf>,
    /// `docker` (default), `podman` or `nerdctl`, for transport `docker`.
    pub engine: Option<String>,
    /// `control-plane` or `worker`; needed with `discover = false`, and for a node that is yet to join.
    pub role: Option<Role>,
}

/// The value of `transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportName {
    /// SSH.
    Ssh,
    /// A container of the node's name.
    Docker,
    /// This machine.
    Local,
}

/// The value of `become`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Become {
    /// `sudo -n`.
    Sudo,
    /// The user is root already.
    None,
}

/// The value of `role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Carries the control plane.
    ControlPlane,
    /// Does not.
    Worker,
}

/// `[apply]`: how patient apply is, and what it may delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplySettings {
    /// How long a gate may take before the node is put back; 240 s unless set. The node's own
    /// dead-man timer is this plus 30 s.
    pub gate_timeout: Duration,
    /// Objects that may be deleted with all that they hold when they have left the profile, by their
    /// [short names](crate::fact::ObjectRef::short_name).
    pub allow_delete: BTreeSet<String>,
}

impl Default for ApplySettings {
    fn default() -> Self {
        ApplySettings {
            gate_timeout: Duration::from_secs(240),
            allow_delete: BTreeSet::new(),
        }
    }
}
