//! Comparing the three copies of a control-plane setting; what [`flag`](super::flag) and
//! [`component_file`](super::component_file) share.
//!
//! The copies are `ClusterConfiguration` (what the next upgrade or join brings), the manifest (what
//! the next restart brings) and the running process (what holds now). Each is compared on its own:
//! a setting that stands in the manifest alone vanishes at the next upgrade (kubeadm#541).

use serde::Serialize;
use serde_json::Value;

use super::{Difference, Draft, Effect, Part, Place, Resource, Risk, SettingCopy};
use crate::distribution::kubeadm::cluster_configuration::volume_text;
use crate::distribution::kubeadm::{
    CONFIG_NAME, CONFIG_NAMESPACE, ClusterConfiguration, Manifest, argv, manifest_path,
};
use crate::distribution::{Component, ComponentEdit, Volume};
use crate::fact::{Answer, Fact, Facts, Node, Process, Query};

/// What is wanted of a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wanted {
    /// Exactly this value.
    Exact(String),
    /// At least these items of a list. An item `KEY=VALUE` replaces one with the same key.
    Additive(Vec<String>),
    /// No such flag.
    Absent,
}

impl Wanted {
    /// Returns it for a reader who has no cluster at hand.
    pub(super) fn part(&self, component: Component, flag: &str) -> Part {
        let (merge, value) = match self {
            Wanted::Exact(value) => ("exact", Some(value.as_str().into())),
            Wanted::Additive(items) => ("additive", Some(items.as_slice().into())),
            Wanted::Absent => ("absent", None),
        };
        let merge = [("merge".to_owned(), merge.into())].into_iter();
        let value = value.map(|value: Value| ("value".to_owned(), value));
        Part::Setting {
            list: "flags",
            name: vec![component.to_string(), flag.to_owned()],
            wanted: merge.chain(value).collect(),
        }
    }
}

/// Every copy of a component's settings that could be read. What could not is in the draft already.
pub(super) struct Copies<'a> {
    resource: &'a Resource,
    component: Component,
    config: Option<ClusterConfiguration>,
    nodes: Vec<NodeCopies<'a>>,
}

struct NodeCopies<'a> {
    node: &'a str,
    manifest: Option<Manifest>,
    process: Option<&'a Process>,
}

impl<'a> Copies<'a> {
    /// Reads the copies, and adds an error to the draft for each that cannot be read. Nodes that
    /// were not reached are left out: the plan reports them once.
    pub(super) fn read(
        resource: &'a Resource,
        component: Component,
        facts: &'a Facts,
        draft: &mut Draft,
    ) -> Self {
        let config = read_config(resource, facts, draft);
        let nodes = resource
            .nodes(facts)
            .filter(|node| node.facts.value().is_some())
            .map(|node| NodeCopies {
                node: &node.info.name,
                manifest: read_manifest(resource, component, node, draft),
                process: read_process(resource, component, node, draft),
            })
            .collect();
        Copies {
            resource,
            component,
            config,
            nodes,
        }
    }

    /// Leaves a node out of what is compared next.
    pub(super) fn without(mut self, node: &str) -> Self {
        self.nodes.retain(|copies| copies.node != node);
        self
    }

    /// Compares a flag; `show` writes one of its values for a reader.
    pub(super) fn compare_flag(
        &self,
        name: &str,
        wanted: &Wanted,
        show: impl Fn(&str) -> String,
        draft: &mut Draft,
    ) {
        let config = self
            .config
            .as_ref()
            .map(|config| config.values(self.component, name));
        let manifests: Vec<Option<Vec<String>>> = self
            .nodes
            .iter()
            .map(|node| node.manifest.as_ref().map(|manifest| manifest.values(name)))
            .collect();
        let target = target(wanted, config.iter().chain(manifests.iter().flatten()));
        let edit = match &target {
            Some(value) => ComponentEdit::SetFlag {
                name: name.to_owned(),
                value: value.clone(),
            },
            None => ComponentEdit::RemoveFlag {
                name: name.to_owned(),
            },
        };
        let difference = |place: Place, copy: SettingCopy, values: &[String]| Difference {
            place,
            copy: Some(copy),
            before: show_values(values, &show),
            after: target.as_deref().map(&show),
            ..Difference::default()
        };
        if let Some(values) = config.filter(|values| !satisfied(wanted, values)) {
            self.change_config(
                difference(Place::Api, SettingCopy::KubeadmConfig, &values),
                edit.clone(),
                draft,
            );
        }
        for (node, manifest) in self.nodes.iter().zip(&manifests) {
            let place = || Place::Node(node.node.to_owned());
            let wrong = manifest
                .as_ref()
                .filter(|values| !satisfied(wanted, values));
            if let Some(values) = wrong {
                let found = difference(place(), SettingCopy::Manifest, values);
                self.change_manifest(node, found, edit.clone(), draft);
            }
            // Without a manifest nothing can be done about the process; the draft says why already.
            let (Some(process), Some(_)) = (node.process, manifest) else {
                continue;
            };
            let values = argv::values(&process.argv, name);
            if satisfied(wanted, &values) {
                continue;
            }
            let found = difference(place(), SettingCopy::Process, &values);
            if wrong.is_none() {
                // The manifest is right and the kubelet has not acted on it: it must be told again.
                // The mark names the process that is to go, so that it is new exactly once.
                let mark = format!("{}-{}", process.start, process.pid);
                self.change_manifest(node, found, ComponentEdit::Restart(mark), draft);
            } else {
                // The change of the manifest brings it, and says that it restarts the component.
                let effect = self.manifest_effect(node, edit.clone());
                draft.change(self.resource, found, vec![effect]);
            }
        }
    }

    /// Returns the copies that have a flag, each once.
    pub(super) fn with_flag(&self, name: &str) -> Vec<(Place, SettingCopy)> {
        let config = self.config.as_ref();
        let config = config.is_some_and(|c| !c.values(self.component, name).is_empty());
        let mut found = Vec::new();
        found.extend(config.then_some((Place::Api, SettingCopy::KubeadmConfig)));
        for node in &self.nodes {
            let place = || Place::Node(node.node.to_owned());
            let manifest = node.manifest.as_ref();
            if manifest.is_some_and(|manifest| !manifest.values(name).is_empty()) {
                found.push((place(), SettingCopy::Manifest));
            }
            let process = node.process;
            if process.is_some_and(|process| !argv::values(&process.argv, name).is_empty()) {
                found.push((place(), SettingCopy::Process));
            }
        }
        found
    }

    /// Compares a volume that the component's pod must mount.
    pub(super) fn compare_volume(&self, volume: &Volume, draft: &mut Draft) {
        let difference = |place: Place, copy: SettingCopy, before: Option<String>| Difference {
            place,
            copy: Some(copy),
            before,
            after: Some(volume_text(volume)),
            ..Difference::default()
        };
        let edit = || ComponentEdit::SetVolume(volume.clone());
        if let Some(config) = &self.config
            && !config.mounts(self.component, volume)
        {
            let before = config.describe_volume(self.component, &volume.name);
            let found = difference(Place::Api, SettingCopy::KubeadmConfig, before);
            self.change_config(found, edit(), draft);
        }
        for node in &self.nodes {
            if let Some(manifest) = &node.manifest
                && !manifest.mounts(volume)
            {
                let place = Place::Node(node.node.to_owned());
                let before = manifest.describe_volume(&volume.name);
                let found = difference(place, SettingCopy::Manifest, before);
                self.change_manifest(node, found, edit(), draft);
            }
        }
    }

    fn change_config(&self, mut found: Difference, edit: ComponentEdit, draft: &mut Draft) {
        // Nothing reads it before the next upgrade.
        found.risk = Some(Risk::Safe);
        let effect = Effect::ClusterConfiguration {
            component: self.component,
            edit,
        };
        draft.change(self.resource, found, vec![effect]);
    }

    fn change_manifest(
        &self,
        node: &NodeCopies<'_>,
        mut found: Difference,
        edit: ComponentEdit,
        draft: &mut Draft,
    ) {
        found.restarts = Some(self.component.name().to_owned());
        let effect = self.manifest_effect(node, edit);
        draft.change(self.resource, found, vec![effect]);
    }

    fn manifest_effect(&self, node: &NodeCopies<'_>, edit: ComponentEdit) -> Effect {
        Effect::Manifest {
            node: node.node.to_owned(),
            component: self.component,
            edit,
        }
    }
}

/// Returns the value that the flag shall have; `None` for no flag. `copies` are the values that it
/// has, first those of `ClusterConfiguration`, then those of the manifests by node.
fn target<'v>(wanted: &Wanted, copies: impl Iterator<Item = &'v Vec<String>>) -> Option<String> {
    let wanted = match wanted {
        Wanted::Absent => return None,
        Wanted::Exact(value) => return Some(value.clone()),
        Wanted::Additive(wanted) => wanted,
    };
    let mut items: Vec<&str> = Vec::new();
    for item in copies.flat_map(|values| list(values)) {
        // Where copies disagree on a key, the first one holds.
        if !items.iter().any(|known| same_item(known, item)) {
            items.push(item);
        }
    }
    for item in wanted {
        match items.iter_mut().find(|known| same_item(known, item)) {
            Some(known) => *known = item,
            None => items.push(item),
        }
    }
    Some(items.join(","))
}

/// Whether the values that a flag has are what is wanted. A flag that is given several times with
/// different values is not.
fn satisfied(wanted: &Wanted, values: &[String]) -> bool {
    match wanted {
        Wanted::Absent => values.is_empty(),
        Wanted::Exact(wanted) => !values.is_empty() && values.iter().all(|value| value == wanted),
        Wanted::Additive(wanted) => {
            let all_equal = values.windows(2).all(|pair| pair[0] == pair[1]);
            let items: Vec<&str> = list(values).collect();
            all_equal
                && wanted.iter().all(|item| {
                    items.contains(&item.as_str())
                        && items
                            .iter()
                            .all(|other| *other == item || !same_item(other, item))
                })
        }
    }
}

fn list(values: &[String]) -> impl Iterator<Item = &str> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .filter(|item| !item.is_empty())
}

/// Whether two items are equal, or two values of one key as in `--feature-gates=A=true`.
pub(super) fn same_item(a: &str, b: &str) -> bool {
    match (a.split_once('='), b.split_once('=')) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => a == b,
    }
}

fn show_values(values: &[String], show: impl Fn(&str) -> String) -> Option<String> {
    let mut shown: Vec<String> = values.iter().map(|value| show(value)).collect();
    shown.dedup();
    (!shown.is_empty()).then(|| shown.join(" and "))
}

fn read_config(
    resource: &Resource,
    facts: &Facts,
    draft: &mut Draft,
) -> Option<ClusterConfiguration> {
    let what = format!("ClusterConfiguration in ConfigMap {CONFIG_NAMESPACE}/{CONFIG_NAME}");
    let (message, remedy) = match &facts.api.cluster_configuration {
        Fact::Value(text) => match ClusterConfiguration::parse(text) {
            Ok(config) => return Some(config),
            Err(error) => (format!("{what}: {error}"), error.remedy()),
        },
        Fact::Absent => (
            format!("{what} is not there, so the next upgrade would undo the change"),
            "write it with `kubeadm init phase upload-config kubeadm --config FILE`",
        ),
        Fact::Unreadable(why) => (
            format!("{what} could not be read: {why}"),
            "make it readable for the kubeconfig in use, and plan again",
        ),
    };
    draft.error(resource, Place::Api, message, remedy);
    None
}

fn read_manifest(
    resource: &Resource,
    component: Component,
    node: &Node,
    draft: &mut Draft,
) -> Option<Manifest> {
    let path = manifest_path(component);
    let (message, remedy) = match node.text(&path) {
        Fact::Value(text) => match Manifest::parse(text, component) {
            Ok(manifest) => return Some(manifest),
            Err(error) => (format!("{path}: {error}"), error.remedy()),
        },
        Fact::Absent => (
            format!("{path} is not there"),
            "check that kubeadm made this node, or take its control-plane label away",
        ),
        Fact::Unreadable(why) => (
            format!("{path} could not be read: {why}"),
            "check that the login may read it as root, and plan again",
        ),
    };
    let place = Place::Node(node.info.name.clone());
    draft.error(resource, place, message, remedy);
    None
}

fn read_process<'a>(
    resource: &Resource,
    component: Component,
    node: &'a Node,
    draft: &mut Draft,
) -> Option<&'a Process> {
    let (message, remedy) = match node.get(&Query::Process(component.program())) {
        Fact::Value(Answer::Process(running)) => match running.as_slice() {
            [process] => return Some(process),
            several => (
                format!("{} processes of {component} run", several.len()),
                "wait until the old one has ended, or end the stray one, and plan again",
            ),
        },
        Fact::Value(_) => (
            format!("the probe answered something else for {component}"),
            "plan again",
        ),
        Fact::Absent => (
            format!("{component} does not run"),
            "find out why: `crictl ps -a` and `journalctl -u kubelet` on the node",
        ),
        Fact::Unreadable(why) => (
            format!("the command line of {component} could not be read: {why}"),
            "check that the login may read it as root, and plan again",
        ),
    };
    let place = Place::Node(node.info.name.clone());
    draft.error(resource, place, message, remedy);
    None
}
