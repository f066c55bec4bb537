//! What the desired state asks of a cluster that is yet to be made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::distribution::{Component, ComponentEdit, Volume};
use crate::fact::NodePath;
use crate::report::render::clash;
use crate::resource::{Desired, Part, Resource, Scope, wanted_value};

use super::left::Left;

/// Nodes that have the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    ControlPlane,
    Every,
    Worker,
}

impl Role {
    /// The word in paths, in `files.tsv` and on the command line of the script.
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::ControlPlane => "control-plane",
            Role::Every => "every",
            Role::Worker => "worker",
        }
    }

    /// `None` for the API, which is no node.
    fn of(scope: Scope) -> Option<Self> {
        match scope {
            Scope::ControlPlane => Some(Role::ControlPlane),
            Scope::Workers => Some(Role::Worker),
            Scope::Nodes => Some(Role::Every),
            Scope::Api => None,
        }
    }
}

/// The settings by where they go; lists keep the order of the desired state, as a plan does.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) flags: Vec<(Component, String, Map<String, Value>)>,
    pub(super) volumes: Vec<(Component, Volume)>,
    pub(super) files: BTreeMap<(Role, NodePath), String>,
    /// Fields of KubeletConfiguration.
    pub(super) kubelet: Map<String, Value>,
    /// Fields of KubeProxyConfiguration.
    pub(super) kube_proxy: Map<String, Value>,
    /// The names of kernel parameters that are among the files.
    pub(super) sysctls: BTreeSet<String>,
}

impl Wants {
    /// Gathers what can be set before there is a cluster; the rest goes to `left`.
    ///
    /// Options that need `accept` are among it: in a cluster that does not exist yet nothing runs
    /// that they could break.
    ///
    /// # Errors
    /// That two resources want different things of one setting.
    pub(super) fn of(desired: &Desired, left: &mut Left) -> Result<Self, String> {
        let mut wants = Wants::default();
        for resource in &desired.resources {
            let behaviour = resource.kind.behaviour();
            if let Some(node) = &resource.only {
                left.node(node, &behaviour.name());
                continue;
            }
            for part in behaviour.parts() {
                wants.add(resource, part, left)?;
            }
        }
        Ok(wants)
    }

    fn add(&mut self, resource: &Resource, part: Part, left: &mut Left) -> Result<(), String> {
        let name = resource.kind.behaviour().name();
        match (part, Role::of(resource.scope)) {
            (Part::Object { reference, .. }, _) => left.object(&reference.to_string()),
            (Part::File { path, content }, Some(role)) => {
                let known = self.files.entry((role, path.clone()));
                if *known.or_insert_with(|| content.clone()) != content {
                    return Err(clash(path.as_str()));
                }
            }
            (Part::Setting { list, name, wanted }, Some(role)) => {
                return self.set(role, list, &name, wanted, left);
            }
            (Part::File { .. } | Part::Setting { .. }, None) => {
                left.no_place(&name, "it belongs to no node");
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        role: Role,
        list: &str,
        name: &[String],
        mut wanted: Map<String, Value>,
        left: &mut Left,
    ) -> Result<(), String> {
        let shown = name.join(" ");
        let clash = || Err(clash(&format!("{shown} in {list}")));
        match (list, name) {
            ("flags", [component, flag]) => {
                let component = read_component(component)?;
                // Several may have a share in one list, and evaluation has found what contradicts.
                let is_list = |wanted: &Map<String, Value>| wanted["merge"] == "additive";
                let mut known = self
                    .flags
                    .iter()
                    .filter(|(c, n, _)| *c == component && n == flag);
                if known
                    .any(|(.., other)| !(is_list(other) && is_list(&wanted)) && *other != wanted)
                {
                    return clash();
                }
                let flag = (component, flag.clone(), wanted);
                if !self.flags.contains(&flag) {
                    self.flags.push(flag);
                }
            }
            ("volumes", [component, volume]) => {
                wanted.insert("name".into(), json!(volume));
                let volume: Volume = serde_json::from_value(wanted.into())
                    .map_err(|error| format!("the volume {shown}: {error}"))?;
                let component = read_component(component)?;
                let known = self
                    .volumes
                    .iter()
                    .find(|(c, v)| *c == component && v.name == volume.name);
                match known {
                    Some((_, other)) if *other != volume => return clash(),
                    Some(_) => {}
                    None => self.volumes.push((component, volume)),
                }
            }
            ("modes", _) => left.mode(&shown),
            // One configuration serves all kubelets, and one all instances of kube-proxy.
            ("kubelet" | "kube-proxy", _) if role != Role::Every => {
                left.no_place(
                    &format!("{list} {}", name.join(".")),
                    "one configuration is for all nodes, and this is wanted on some",
                );
            }
            ("kubelet", _) if !put(&mut self.kubelet, name, &wanted) => return clash(),
            ("kube-proxy", _) if !put(&mut self.kube_proxy, name, &wanted) => return clash(),
            ("kubelet" | "kube-proxy", _) => {}
            // The file for the next boot says the same.
            ("sysctls", _) => {
                self.sysctls.insert(shown);
            }
            ("serving-certificates", _) => left.no_place(
                "kubelet serving certificate",
                "a kubelet asks for it when it starts, and its request waits until `harden apply` approves it; logs and exec fail until then",
            ),
            ("encryption", _) => left.no_place(
                &format!("encryption {shown}"),
                "its key is made, and backed up, when the cluster is there: `harden apply` begins it",
            ),
            // What makes the cluster lets etcd listen just so.
            ("listeners", _) => {}
            ("users", _) => left.no_place(
                &format!("user of {shown}"),
                "what makes the cluster has no place for it",
            ),
            _ => left.no_place(
                &format!("{list} {shown}"),
                "a new cluster has no place for it",
            ),
        }
        Ok(())
    }

    /// Returns the edits by which a component gets its flags and volumes. `own` are the flags that it
    /// has without them.
    ///
    /// # Errors
    /// When a flag does not say what it wants.
    pub(super) fn edits(
        &self,
        component: Component,
        own: impl Fn(&str) -> Option<String>,
        left: &mut Left,
    ) -> Result<Vec<ComponentEdit>, String> {
        // Several resources may have a share in one list.
        let mut values: BTreeMap<&String, Option<String>> = BTreeMap::new();
        for (_, name, wanted) in self.flags.iter().filter(|(of, ..)| *of == component) {
            let known = values.entry(name).or_insert_with(|| own(name));
            let given: Vec<String> = known.iter().cloned().collect();
            *known = wanted_value(wanted, &given)?;
        }
        let mut edits = Vec::new();
        for (name, value) in values {
            let given = own(name);
            match value {
                // What it has without being told need not be told.
                value if value == given => {}
                Some(value) => edits.push(ComponentEdit::SetFlag {
                    name: name.clone(),
                    value,
                }),
                None => left.no_place(
                    &format!("{component} --{name}"),
                    "what makes the cluster sets this flag by itself; it is wanted away",
                ),
            }
        }
        let volumes = self.volumes.iter().filter(|(of, _)| *of == component);
        edits.extend(volumes.map(|(_, volume)| ComponentEdit::SetVolume(volume.clone())));
        Ok(edits)
    }
}

fn read_component(name: &str) -> Result<Component, String> {
    serde_json::from_value(json!(name)).map_err(|_| format!("there is no component {name:?}"))
}

/// Sets a field by its path; `false` when something else is there.
fn put(table: &mut Map<String, Value>, path: &[String], wanted: &Map<String, Value>) -> bool {
    let value = wanted.get("value").cloned().unwrap_or_default();
    match path {
        [] => false,
        [last] => *table.entry(last.clone()).or_insert_with(|| value.clone()) == value,
        [first, rest @ ..] => table
            .entry(first.clone())
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .is_some_and(|inner| put(inner, rest, wanted)),
    }
}
