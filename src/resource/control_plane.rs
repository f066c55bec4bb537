//! Comparing the three copies of a control-plane setting; what [`flag`](super::flag) and
//! [`component_file`](super::component_file) share.
//!
//! The copies are `ClusterConfiguration` (what the next upgrade or join brings), the manifest (what
//! the next restart brings) and the running process (what holds now). Each is compared on its own:
//! a setting that stands in the manifest alone vanishes at the next upgrade (kubeadm#541).

use super::servers::only_process;
use super::wanted::Wanted;
use super::{Difference, Draft, Effect, Place, Resource, Risk, SettingCopy};
use crate::distribution::kubeadm::cluster_configuration::volume_text;
use crate::distribution::kubeadm::own_flags::CERTIFICATES_DIR;
use crate::distribution::kubeadm::{
    CONFIG_NAME, CONFIG_NAMESPACE, ClusterConfiguration, KubeadmError, Manifest, argv,
    manifest_path,
};
use crate::distribution::{Component, ComponentEdit, Volume};
use crate::fact::{Fact, Facts, Node, Process};

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
        let is_elsewhere =
            component == Component::Etcd && config.as_ref().is_some_and(|c| c.etcd_is_external());
        if is_elsewhere {
            let error = KubeadmError::ExternalEtcd;
            draft.error(resource, Place::Api, error.to_string(), error.remedy());
            return Copies {
                resource,
                component,
                config: None,
                nodes: Vec::new(),
            };
        }
        let nodes = resource
            .nodes(facts)
            .filter(|node| node.facts.value().is_some())
            .filter_map(|node| {
                let is_there = component != Component::Etcd || has_etcd(resource, node, draft);
                is_there.then(|| NodeCopies {
                    node: &node.info.name,
                    manifest: read_manifest(resource, component, node, draft),
                    process: read_process(resource, component, node, draft),
                })
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
        let config = self.config.as_ref().map(|config| match wanted {
            // What kubeadm writes by itself it cannot be told to leave out.
            Wanted::Absent => config.values(self.component, name),
            _ => config.effective(self.component, name),
        });
        let manifests: Vec<Option<Vec<String>>> = self
            .nodes
            .iter()
            .map(|node| node.manifest.as_ref().map(|manifest| manifest.values(name)))
            .collect();
        let wanted = &self.in_certificates_dir(wanted);
        let copies: Vec<&[String]> = config
            .iter()
            .chain(manifests.iter().flatten())
            .map(Vec::as_slice)
            .collect();
        let judge = |_: Option<&str>, own: &[String]| {
            let edit = || wanted.edit(name, own, &copies);
            (!wanted.satisfied(own)).then(edit)
        };
        self.compare(name, config.clone(), judge, show, draft);
    }

    /// Compares a flag copy by copy. `judge` is given the node, or `None` for `ClusterConfiguration`, with
    /// the values there, and returns the edit by which they become what is wanted; `None` where they are.
    pub(super) fn compare(
        &self,
        name: &str,
        config: Option<Vec<String>>,
        judge: impl Fn(Option<&str>, &[String]) -> Option<ComponentEdit>,
        show: impl Fn(&str) -> String,
        draft: &mut Draft,
    ) {
        let difference = |place, copy, values: &[String], after: Option<String>| Difference {
            place,
            copy: Some(copy),
            before: show_values(values, &show),
            after: after.map(|value| show(&value)),
            ..Difference::default()
        };
        let becomes = |edit: &ComponentEdit| match edit.clone().settled() {
            ComponentEdit::SetFlag { value, .. } => Some(value),
            _ => None,
        };
        let of_config = |values: Vec<String>| judge(None, &values).map(|edit| (values, edit));
        if let Some((values, edit)) = config.and_then(of_config) {
            let copy = SettingCopy::KubeadmConfig;
            let found = difference(Place::Api, copy, &values, becomes(&edit));
            self.change_config(found, edit, draft);
        }
        for node in &self.nodes {
            let place = || Place::Node(node.node.to_owned());
            let manifest = node.manifest.as_ref().map(|manifest| manifest.values(name));
            let wrong = manifest
                .as_ref()
                .and_then(|own| judge(Some(node.node), own));
            if let (Some(own), Some(edit)) = (&manifest, &wrong) {
                let found = difference(place(), SettingCopy::Manifest, own, becomes(edit));
                self.change_manifest(node, found, edit.clone(), draft);
            }
            // Without a manifest nothing can be done about the process; the draft says why already.
            let (Some(process), Some(own)) = (node.process, manifest) else {
                continue;
            };
            let values = argv::values(&process.argv, name);
            if judge(Some(node.node), &values).is_none() {
                continue;
            }
            let after = match &wrong {
                Some(edit) => becomes(edit),
                None => own.last().cloned(),
            };
            let found = difference(place(), SettingCopy::Process, &values, after);
            match wrong {
                // The change of the manifest brings it, and says that it restarts the component.
                Some(edit) => {
                    let effect = self.manifest_effect(node, edit);
                    draft.change(self.resource, found, vec![effect]);
                }
                // The manifest is right and the kubelet has not acted on it: it must be told again.
                // The mark names the process that is to go, so that it is new exactly once.
                None => {
                    let mark = format!("{}-{}", process.start, process.pid);
                    self.change_manifest(node, found, ComponentEdit::Restart(mark), draft);
                }
            }
        }
    }

    /// Returns the values of a flag in `ClusterConfiguration`'s extra arguments; `None` where it could
    /// not be read.
    pub(super) fn config_values(&self, name: &str) -> Option<Vec<String>> {
        let config = self.config.as_ref()?;
        Some(config.values(self.component, name))
    }

    /// Returns the manifests that could be read, by node.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (&str, &Manifest)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|node| Some((node.node, node.manifest.as_ref()?)))
    }

    /// Returns the values that a flag has in the manifest and in the process of a node, of each that
    /// could be read.
    pub(super) fn on_node(&self, node: &str, name: &str) -> Vec<Vec<String>> {
        let copies = self.nodes.iter().filter(|copies| copies.node == node);
        let both = copies.flat_map(|copies| {
            let manifest = copies.manifest.as_ref().map(|m| m.values(name));
            let process = copies.process.map(|p| argv::values(&p.argv, name));
            [manifest, process]
        });
        both.flatten().collect()
    }

    /// Returns the copies that have a flag, each with its values.
    pub(super) fn with_flag(&self, name: &str) -> Vec<(Place, SettingCopy, Vec<String>)> {
        let config = self.config.as_ref();
        let config = config.map(|config| config.values(self.component, name));
        let config = config.map(|values| (Place::Api, SettingCopy::KubeadmConfig, values));
        let of_nodes = self.nodes.iter().flat_map(|node| {
            let manifest = node.manifest.as_ref().map(|manifest| manifest.values(name));
            let process = node
                .process
                .map(|running| argv::values(&running.argv, name));
            [
                (SettingCopy::Manifest, manifest),
                (SettingCopy::Process, process),
            ]
            .into_iter()
            .filter_map(|(copy, values)| Some((Place::Node(node.node.to_owned()), copy, values?)))
        });
        let all = config.into_iter().chain(of_nodes);
        all.filter(|(.., values)| !values.is_empty()).collect()
    }

    /// Puts a path in kubeadm's usual directory of certificates into the one that this cluster has.
    fn in_certificates_dir(&self, wanted: &Wanted) -> Wanted {
        let dir = self.config.as_ref().map(|config| config.certificates_dir());
        match (wanted, dir) {
            (Wanted::Present(path), Some(dir)) => match path.strip_prefix(CERTIFICATES_DIR) {
                Some(file) => Wanted::Present(format!("{dir}{file}")),
                None => wanted.clone(),
            },
            _ => wanted.clone(),
        }
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

/// Whether etcd runs as a static pod on a node. Where it does not, the draft says so.
fn has_etcd(resource: &Resource, node: &Node, draft: &mut Draft) -> bool {
    let path = manifest_path(Component::Etcd);
    if !matches!(node.text(&path), Fact::Absent) {
        return true;
    }
    draft.error(
        resource,
        Place::Node(node.info.name.clone()),
        format!("etcd is external: {path} is not there"),
        "harden etcd where it runs; leave the options of `etcd` unset, and name in `unset` those that an import sets",
    );
    false
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
    match only_process("kubelet", component, node) {
        Ok(process) => Some(process),
        Err((message, remedy)) => {
            let place = Place::Node(node.info.name.clone());
            draft.error(resource, place, message, remedy);
            None
        }
    }
}
