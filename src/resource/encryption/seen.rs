//! What was seen of encryption on every control plane.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::{Plane, Rows, View};
use super::place;
use crate::distribution::Component;
use crate::distribution::kubeadm::{Manifest, argv, manifest_path};
use crate::fact::encryption::{EncryptionFile, EtcdPrefix, Form, Loaded, Stored};
use crate::fact::{Answer, ApiQuery, Fact, Facts, Node, NodePath, Query};

/// The flag that names the configuration. Source: kubernetes v1.35
/// staging/src/k8s.io/apiserver/pkg/server/options/etcd.go (`EtcdOptions.AddFlags`).
pub const CONFIG_FLAG: &str = "encryption-provider-config";

/// The flag by which the server looks every minute whether it has changed.
pub const RELOAD_FLAG: &str = "encryption-provider-config-automatic-reload";

/// Where harden puts the configuration: in a directory of its own, which is mounted as a whole, because
/// the mount of a single file keeps the old content when the file is replaced.
pub const OWN_DIR: &str = "/etc/kubernetes/encryption";

/// What is counted where no file names anything.
const SECRETS: &str = "secrets";

/// The configuration's path where harden begins encryption.
pub fn own_path() -> NodePath {
    NodePath::new(format!("{OWN_DIR}/config.yaml"))
        .unwrap_or_else(|_| unreachable!("a constant path"))
}

/// Everything about encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The control planes by name.
    pub planes: BTreeMap<String, SeenPlane>,
    /// What is stored, by resource as the files name it.
    pub resources: BTreeMap<String, Counted>,
}

/// One control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPlane {
    /// How its API server runs.
    pub server: Fact<Server>,
    /// Whether it is known that none runs there: nothing is read or written by it.
    pub stopped: bool,
    /// The file that the server was started with; absent also where it was started with none.
    pub file: Fact<EncryptionFile>,
    /// What lies at [`own_path`] where the server was started with none: one that was prepared, or left.
    pub idle: Fact<EncryptionFile>,
    /// What the server says that it has loaded.
    pub loaded: Fact<Loaded>,
}

/// How an API server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its configuration's path on the node; `None` where it runs without one.
    pub config: Option<NodePath>,
    /// Whether it loads the file again when that changes.
    pub reloads: bool,
    /// What its keys in etcd begin with.
    pub root: String,
}

/// In which forms the objects of a resource are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// As the etcd member of each node has them.
    pub members: BTreeMap<String, Fact<Stored>>,
}

impl Counted {
    /// Returns the most that any member has of each form. No member of a healthy etcd has another count;
    /// one that lags behind must not make a form disappear.
    pub fn most(&self) -> Fact<Stored> {
        let mut most = Stored::new();
        let mut asked = false;
        for (node, fact) in &self.members {
            match fact {
                Fact::Value(stored) => {
                    asked = true;
                    for (form, count) in stored {
                        let known = most.entry(form.clone()).or_insert(0);
                        *known = (*known).max(*count);
                    }
                }
                Fact::Absent => {}
                Fact::Unreadable(why) => return Fact::Unreadable(format!("{node}: {why}")),
            }
        }
        match asked {
            true => Fact::Value(most),
            false => Fact::Unreadable(
                "no control plane runs an etcd member: where etcd is elsewhere, harden cannot count"
                    .into(),
            ),
        }
    }
}

/// What to ask of every control plane first.
pub fn first_queries() -> Vec<Query> {
    let component = Component::KubeApiserver;
    vec![
        Query::File(manifest_path(component)),
        Query::Process(component.program()),
    ]
}

/// Reads how the API server of a node runs.
pub fn server(node: &Node) -> Fact<Server> {
    let component = Component::KubeApiserver;
    let process = match node.get(&Query::Process(component.program())) {
        Fact::Value(Answer::Process(all)) => match all.as_slice() {
            [one] => one,
            _ => return Fact::Unreadable("more than one API server runs".into()),
        },
        Fact::Absent => return Fact::Unreadable("no API server runs".into()),
        Fact::Value(_) => return Fact::Unreadable("the probe answered something else".into()),
        Fact::Unreadable(why) => return Fact::Unreadable(why),
    };
    let last = |name: &str| argv::values(&process.argv, name).pop();
    let reloads = last(RELOAD_FLAG).is_some_and(|value| value == "true");
    let root = last("etcd-prefix").unwrap_or_else(|| place::DEFAULT_ROOT.to_owned());
    let config = match last(CONFIG_FLAG).filter(|path| !path.is_empty()) {
        None => None,
        Some(inside) => match on_node(node, &inside) {
            Ok(path) => Some(path),
            Err(why) => return Fact::Unreadable(why),
        },
    };
    Fact::Value(Server {
        config,
        reloads,
        root,
    })
}

/// Whether the node answers and no API server runs on it.
fn is_stopped(node: &Node) -> bool {
    let program = Component::KubeApiserver.program();
    matches!(node.get(&Query::Process(program)), Fact::Absent)
}

/// Where a path in the API server's container is on the node.
fn on_node(node: &Node, inside: &str) -> Result<NodePath, String> {
    let path = manifest_path(Component::KubeApiserver);
    let text = match node.text(&path) {
        Fact::Value(text) => text,
        Fact::Absent => return Err(format!("{path} is not there")),
        Fact::Unreadable(why) => return Err(format!("{path}: {why}")),
    };
    let manifest =
        Manifest::parse(text, Component::KubeApiserver).map_err(|e| format!("{path}: {e}"))?;
    let outside = manifest
        .on_node(inside)
        .ok_or_else(|| format!("{path} mounts no directory of the node at {inside}"))?;
    NodePath::new(outside).map_err(|e| e.to_string())
}

/// The file to ask a node for: the one that its server was started with, or else the one that it would be
/// started with; also where none runs.
pub fn file_query(node: &Node) -> Option<Query> {
    let config = match server(node) {
        Fact::Value(server) => server.config,
        _ if is_stopped(node) => None,
        _ => return None,
    };
    Some(Query::Encryption(config.unwrap_or_else(own_path)))
}

/// The resources that the files name; Secrets where they name none.
pub fn named(facts: &Facts) -> BTreeSet<String> {
    let files = facts
        .nodes
        .values()
        .filter_map(|node| on_disk(node).value().cloned());
    let mut named: BTreeSet<String> = files
        .flat_map(|file| file.groups)
        .flat_map(|group| group.resources)
        .collect();
    if named.is_empty() {
        named.insert(SECRETS.to_owned());
    }
    named
}

/// The file that a server was started with, and the one that it was not.
fn files(node: &Node) -> (Fact<EncryptionFile>, Fact<EncryptionFile>) {
    let is_on = |server: &Server| server.config.is_some();
    match server(node).value().is_some_and(is_on) {
        true => (on_disk(node), Fact::Absent),
        false => (Fact::Absent, on_disk(node)),
    }
}

fn on_disk(node: &Node) -> Fact<EncryptionFile> {
    let Some(query) = file_query(node) else {
        return Fact::Absent;
    };
    match node.get(&query) {
        Fact::Value(Answer::Encryption(file)) => Fact::Value(file.clone()),
        Fact::Value(_) => Fact::Unreadable("the probe answered something else".into()),
        Fact::Absent => Fact::Absent,
        Fact::Unreadable(why) => Fact::Unreadable(why),
    }
}

/// Where the objects of each named resource lie: those of one with `*` wherever the objects of the
/// resources lie for which no other rule counts. `served` are all resources that the API serves, as
/// `RESOURCE.GROUP`.
pub type Places = BTreeMap<String, Result<BTreeSet<EtcdPrefix>, String>>;

/// Finds the places of the resources that the files name, and of others. What the API serves is among the
/// facts where one of them stands for many.
pub fn places_of(facts: &Facts, also: &BTreeSet<String>) -> Places {
    let mut named = named(facts);
    named.extend(also.iter().cloned());
    let served = match facts.api.answer(&ApiQuery::ServedResources) {
        Fact::Value(value) => serde_json::from_value(value.clone()).map_err(|e| e.to_string()),
        Fact::Absent => Err("what the API serves was not asked".into()),
        Fact::Unreadable(why) => Err(why),
    };
    let servers = facts
        .nodes
        .values()
        .filter(|node| node.info.control_plane)
        .map(server);
    let roots: BTreeSet<String> = servers
        .filter_map(|server| Some(server.value()?.root.clone()))
        .collect();
    match roots.into_iter().collect::<Vec<_>>().as_slice() {
        [root] => places(&named, root, &served),
        _ => {
            let why = "the API servers have different values of --etcd-prefix, or none runs";
            let unknown = |name| (name, Err(why.to_owned()));
            named.into_iter().map(unknown).collect()
        }
    }
}

/// Whether one of the resources that the files name, or of others, stands for many.
pub fn names_many(facts: &Facts, also: &BTreeSet<String>) -> bool {
    let is_many = |name: &String| name.contains('*');
    named(facts).iter().any(is_many) || also.iter().any(is_many)
}

/// Finds the places of the named resources.
fn places(
    named: &BTreeSet<String>,
    root: &str,
    served: &Result<BTreeSet<String>, String>,
) -> Places {
    let place = |name: &String| -> Result<BTreeSet<EtcdPrefix>, String> {
        if !name.contains('*') {
            return Ok([place::prefix(root, name)?].into());
        }
        let rules = named.iter().map(String::as_str);
        served
            .as_ref()
            .map_err(Clone::clone)?
            .iter()
            .filter(|resource| place::rule(rules.clone(), resource) == Some(name.as_str()))
            .map(|resource| place::prefix(root, resource))
            .collect()
    };
    named
        .iter()
        .map(|name| (name.clone(), place(name)))
        .collect()
}

/// What stands for the control planes where the API does not tell them.
const UNTOLD: &str = "(control planes of the API)";

/// The control planes that the API knows and nobody looked at, each with why nothing is known of it.
fn strangers(facts: &Facts) -> Vec<(String, String)> {
    let untold = |why: String| {
        let why = format!("the API does not tell which control planes there are: {why}");
        vec![(UNTOLD.to_owned(), why)]
    };
    let is_seen = |name: &String| {
        let node = facts.nodes.get(name);
        node.is_some_and(|node| node.info.control_plane)
    };
    match facts.api.answer(&ApiQuery::ControlPlanes) {
        Fact::Value(value) => {
            let names: Vec<String> = match serde_json::from_value(value.clone()) {
                Ok(names) => names,
                Err(error) => return untold(error.to_string()),
            };
            let why =
                "it is a control plane of the cluster, and not one of the nodes of harden.toml";
            let unseen = names.into_iter().filter(|name| !is_seen(name));
            unseen.map(|name| (name, why.to_owned())).collect()
        }
        Fact::Unreadable(why) => untold(why),
        Fact::Absent => Vec::new(),
    }
}

impl Seen {
    /// Puts together what was observed of the control planes.
    pub fn of(facts: &Facts, places: &Places) -> Self {
        let planes = facts
            .nodes
            .iter()
            .filter(|(_, node)| node.info.control_plane);
        let planes = planes.map(|(name, node)| {
            let loaded = facts
                .api
                .answer(&ApiQuery::LoadedEncryption(name.clone()))
                .map(Clone::clone);
            let loaded = match loaded {
                Fact::Value(value) => match serde_json::from_value(value) {
                    Ok(loaded) => Fact::Value(loaded),
                    Err(error) => Fact::Unreadable(error.to_string()),
                },
                Fact::Absent => Fact::Absent,
                Fact::Unreadable(why) => Fact::Unreadable(why),
            };
            let (file, idle) = files(node);
            let plane = SeenPlane {
                server: server(node),
                stopped: is_stopped(node),
                file,
                idle,
                loaded,
            };
            (name.clone(), plane)
        });
        let mut planes: BTreeMap<String, SeenPlane> = planes.collect();
        for (name, why) in strangers(facts) {
            planes.insert(
                name,
                SeenPlane {
                    server: Fact::Unreadable(why),
                    stopped: false,
                    file: Fact::Absent,
                    idle: Fact::Absent,
                    loaded: Fact::Absent,
                },
            );
        }
        let resources = places
            .iter()
            .map(|(name, place)| (name.clone(), counted(facts, place)));
        Seen {
            planes,
            resources: resources.collect(),
        }
    }

    /// Returns what the next step is decided by.
    pub fn view(&self) -> View {
        let planes = self.planes.iter().map(|(node, plane)| {
            let twin = self.twin(plane);
            let known = match twin {
                Some(other) => Err(format!(
                    "its file names the same keys as that of {other} and is another one"
                )),
                None => plane
                    .plane()
                    .map_err(|why| self.of_stopped(plane).unwrap_or(why)),
            };
            (node.clone(), known)
        });
        let resources = self.resources.iter();
        View {
            planes: planes.collect(),
            stored: resources
                .map(|(name, counted)| (name.clone(), counted.most()))
                .collect(),
        }
    }

    /// What is to be said of a control plane where no API server runs and a file lies: a run that was stopped
    /// there may have written it, and nothing has proved it.
    pub(super) fn of_stopped(&self, plane: &SeenPlane) -> Option<String> {
        let file = plane.idle.value().filter(|_| plane.stopped)?;
        let has_loaded = |other: &&String| {
            let loaded = self.planes.get(*other).and_then(|p| p.loaded.value());
            loaded.is_some_and(|loaded| loaded.sha256 == file.sha256)
        };
        Some(match self.planes.keys().find(has_loaded) {
            Some(other) => format!(
                "no API server runs; the encryption configuration that lies there is the one that {other} has loaded"
            ),
            None => {
                "no API server runs; the encryption configuration that lies there is loaded by none"
                    .into()
            }
        })
    }

    /// Another control plane whose file says the same and is not the same: its keys may differ.
    pub(super) fn twin(&self, plane: &SeenPlane) -> Option<&String> {
        let file = plane.on_disk()?;
        let is_twin =
            |other: &EncryptionFile| other.sha256 != file.sha256 && rows(other) == rows(file);
        self.planes
            .iter()
            .find(|(_, other)| other.on_disk().is_some_and(is_twin))
            .map(|(name, _)| name)
    }

    /// Returns the forms that the files themselves ask for: of each resource the one that every file has
    /// first, or where they differ the one that is first in some and read by all. `None` where there is
    /// no such form.
    pub fn wanted(&self) -> Option<BTreeMap<String, Form>> {
        let files: Vec<Rows> = self
            .planes
            .values()
            .filter_map(|plane| plane.file.value())
            .map(rows)
            .collect();
        let names: BTreeSet<&String> = files.iter().flat_map(Rows::keys).collect();
        let clear = [Form::Clear];
        let mut wanted = BTreeMap::new();
        for name in names {
            let row = |rows: &'_ Rows| rows.get(name).cloned().unwrap_or(clear.to_vec());
            let all: Vec<Vec<Form>> = files.iter().map(row).collect();
            let first: BTreeSet<&Form> = all.iter().filter_map(|row| row.first()).collect();
            let everywhere = |form: &&&Form| all.iter().all(|row| row.contains(form));
            let candidates: Vec<&&Form> = match first.len() {
                1 => first.iter().collect(),
                // What writes in clear on one side and under a key on the other is on its way to the key.
                _ => first
                    .iter()
                    .filter(everywhere)
                    .filter(|form| !form.is_clear())
                    .collect(),
            };
            let [form] = candidates[..] else { return None };
            wanted.insert(name.clone(), (*form).clone());
        }
        Some(wanted)
    }
}

impl SeenPlane {
    /// The file that the server reads, or would read if it were started with one.
    pub fn on_disk(&self) -> Option<&EncryptionFile> {
        self.file.value().or(self.idle.value())
    }

    /// What the machine knows of it.
    fn plane(&self) -> Result<Plane, String> {
        let server = match &self.server {
            Fact::Value(server) => server,
            Fact::Absent => return Err("nothing is known of its API server".into()),
            Fact::Unreadable(why) => return Err(why.clone()),
        };
        if server.config.is_none() {
            return match &self.idle {
                Fact::Value(file) => Ok(Plane::Off {
                    file: Some(rows(file)),
                }),
                Fact::Absent => Ok(Plane::Off { file: None }),
                Fact::Unreadable(why) => Err(format!("{}: {why}", own_path())),
            };
        }
        let file = match &self.file {
            Fact::Value(file) => file,
            Fact::Absent => return Err("its encryption configuration is not there".into()),
            Fact::Unreadable(why) => return Err(format!("its encryption configuration: {why}")),
        };
        let loaded = match &self.loaded {
            Fact::Value(loaded) => loaded,
            Fact::Absent => return Err("its API server does not say what it has loaded".into()),
            Fact::Unreadable(why) => return Err(format!("its API server cannot be asked: {why}")),
        };
        Ok(Plane::On {
            file: rows(file),
            loaded: loaded.sha256 == file.sha256,
        })
    }
}

/// What a file comes to: of a resource that several groups name, all forms in their order.
pub fn rows(file: &EncryptionFile) -> Rows {
    let mut rows = Rows::new();
    for group in &file.groups {
        for resource in &group.resources {
            let row = rows.entry(resource.clone()).or_default();
            row.extend(group.forms.iter().cloned());
        }
    }
    rows
}

fn counted(facts: &Facts, place: &Result<BTreeSet<EtcdPrefix>, String>) -> Counted {
    let planes = facts
        .nodes
        .iter()
        .filter(|(_, node)| node.info.control_plane);
    let members = planes.map(|(name, node)| {
        let fact = match place {
            Ok(prefixes) => sum(node, prefixes),
            Err(why) => Fact::Unreadable(why.clone()),
        };
        (name.clone(), fact)
    });
    Counted {
        members: members.collect(),
    }
}

fn sum(node: &Node, prefixes: &BTreeSet<EtcdPrefix>) -> Fact<Stored> {
    let mut sum = Stored::new();
    for prefix in prefixes {
        match node.get(&Query::Stored(prefix.clone())) {
            Fact::Value(Answer::Stored(stored)) => {
                for (form, count) in stored {
                    let all = sum.entry(form.clone()).or_insert(0);
                    *all = all.saturating_add(*count);
                }
            }
            Fact::Value(_) => return Fact::Unreadable("the probe answered something else".into()),
            Fact::Absent => return Fact::Absent,
            Fact::Unreadable(why) => return Fact::Unreadable(why),
        }
    }
    Fact::Value(sum)
}
