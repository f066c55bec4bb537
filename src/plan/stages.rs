//! Stages and steps: which effects go together, in which order, behind which gate.

use std::collections::{BTreeMap, BTreeSet};

use super::object_order::{is_namespace, rank};
use super::{
    ConfigMapStep, EndsLater, FieldValue, FileAction, FileState, FileTarget, Gate, NodeStep,
    ObjectAction, ObjectStep, ServingCertificateStep, Stage, StageName, Step, leader_last, servers,
};
use crate::distribution::kubeadm::certificates::KubeadmCertificate;
use crate::distribution::kubeadm::fields::{FieldEdit, edit_fields, field, parse_document};
use crate::distribution::kubeadm::{
    CONFIG_KEY, CONFIG_NAME, CONFIG_NAMESPACE, ClusterConfiguration, KUBE_PROXY_NAME,
    KUBELET_CONFIG_KIND, KubeadmError, Manifest, edit_cluster_configuration, edit_manifest,
    kubelet_config_path, manifest_path,
};
use crate::distribution::{Component, ComponentEdit, Distribution};
use crate::fact::{
    Answer, ApiQuery, Fact, Facts, FieldConflict, File, Ids, Meta, Node, NodePath, ObjectRef,
    ProgramName, Query, sha256,
};
use crate::resource::component_file::unified_diff;
use crate::resource::encryption::{EncryptionPart, EncryptionWork};
use crate::resource::kubelet::kubelet_program;
use crate::resource::renewal::Renewal;
use crate::resource::stray::Stray;
use crate::resource::{ConfigMapRef, Draft, Effect, Place, Problem, SettingCopy, Severity};

/// Whole files, modes and objects by where they go.
#[derive(Default)]
struct Effects {
    /// By node and path.
    files: BTreeMap<(String, NodePath), (String, Permissions)>,
    /// By node and path.
    modes: BTreeMap<(String, NodePath), Permissions>,
    /// By node and directory.
    owners: BTreeMap<(String, NodePath), Ids>,
    /// The timers that are started with the files of a node.
    timers: BTreeMap<String, BTreeSet<ProgramName>>,
    /// The files, modes and owners that go in the transaction of their node's manifests.
    together: BTreeSet<(String, NodePath)>,
    manifests: BTreeMap<(String, Component), Vec<ComponentEdit>>,
    /// By node.
    renewals: BTreeMap<String, Vec<Renewal>>,
    /// By node.
    servers: BTreeMap<String, BTreeMap<Component, Vec<ComponentEdit>>>,
    config: BTreeMap<Component, Vec<ComponentEdit>>,
    /// The nodes whose kubelet needs a certificate.
    certificates: BTreeSet<String>,
    /// By node.
    kubelets: BTreeMap<String, Vec<FieldEdit>>,
    maps: BTreeMap<ConfigMapRef, Vec<FieldEdit>>,
    objects: BTreeMap<ObjectRef, (serde_json::Value, Vec<FieldConflict>, Vec<Stray>)>,
    encryption: Vec<EncryptionWork>,
    /// Nodes whose static pods have a change that all nodes must share.
    uniform: BTreeSet<String>,
    /// The same of kubelets.
    uniform_kubelets: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Permissions {
    mode: u32,
    owner: String,
    group: String,
}

/// Makes the stages of a draft. Changes whose file turns out not to be editable leave the draft as
/// problems; the first change of each file gets the file's whole diff.
/// `leader` is the node whose etcd member leads, where that is known; in each stage it comes last.
pub(super) fn stages(
    draft: &mut Draft,
    on: Distribution,
    leader: Option<&str>,
    facts: &Facts,
) -> Vec<Stage> {
    let mut effects = Effects::collect(draft);
    let config = effects.config_step(draft, facts);
    let order = ArgsOrder::of(config.as_ref(), facts);
    let control_plane = match on.layout() {
        None => effects.control_plane_steps(&order, draft, facts),
        Some(layout) => servers::steps(layout, &effects.servers, &effects.uniform, draft, facts),
    };
    let kubelets = effects.kubelet_steps(draft, facts);
    let certificates = effects.certificate_steps();
    // What is folded into a manifest or the kubelet's file is gone from the modes by now.
    let node_files = effects.node_file_steps(facts);
    let (permit, enforce) = effects.object_steps(facts);
    let (read_at_start, kept): (Vec<_>, Vec<_>) = effects
        .map_steps(draft, facts)
        .into_iter()
        .partition(|step| step.rollout.is_some());
    let (prepare, finish): (Vec<_>, Vec<_>) = std::mem::take(&mut effects.encryption)
        .into_iter()
        .partition(|work| work.part == EncryptionPart::Prepare);
    let work = |all: Vec<EncryptionWork>| all.into_iter().map(Step::Encryption).collect();
    let (prepare, finish) = (work(prepare), work(finish));
    let keys = |steps: Vec<ConfigMapStep>| steps.into_iter().map(Step::ConfigMapKey).collect();
    let mut stages: Vec<Stage> = [
        (StageName::NodeFiles, node_files),
        (StageName::ObjectsPermit, permit),
        (StageName::Kubelets, kubelets),
        (StageName::ServingCertificates, certificates),
        (StageName::EncryptionFiles, prepare),
        (StageName::ControlPlane, control_plane),
        (StageName::KubeProxy, keys(read_at_start)),
        (StageName::ObjectsEnforce, enforce),
        (
            StageName::KubeadmConfig,
            keys(config.into_iter().chain(kept).collect()),
        ),
        (StageName::Encryption, finish),
    ]
    .into_iter()
    .filter(|(_, steps)| !steps.is_empty())
    .map(|(name, steps)| Stage { name, steps })
    .collect();
    leader_last(&mut stages, leader);
    stages
}

impl Effects {
    fn collect(draft: &Draft) -> Self {
        let mut all = Effects::default();
        for (change, effects) in &draft.changes {
            all.join(effects);
            for effect in effects {
                match effect {
                    Effect::Manifest { node, .. } | Effect::ServerConfig { node, .. }
                        if change.uniform =>
                    {
                        all.uniform.insert(node.clone());
                    }
                    Effect::Kubelet { node, .. } if change.uniform => {
                        all.uniform_kubelets.insert(node.clone());
                    }
                    _ => {}
                }
                all.add(effect.clone());
            }
        }
        for edits in all.manifests.values_mut() {
            // Any other edit restarts the component anyway.
            let is_restart = |edit: &ComponentEdit| matches!(edit, ComponentEdit::Restart(_));
            if !edits.iter().all(is_restart) {
                edits.retain(|edit| !is_restart(edit));
            }
        }
        all
    }

    /// Notes what must not be done without the manifest that its change edits.
    fn join(&mut self, effects: &[Effect]) {
        let any = |is: fn(&Effect) -> bool| effects.iter().any(is);
        if !any(|e| matches!(e, Effect::Manifest { .. }))
            || !any(|e| matches!(e, Effect::Owner { .. }))
        {
            return;
        }
        for effect in effects {
            if let Effect::File { node, path, .. }
            | Effect::Mode { node, path, .. }
            | Effect::Owner { node, path, .. } = effect
            {
                self.together.insert((node.clone(), path.clone()));
            }
        }
    }

    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Manifest {
                node,
                component,
                edit,
            } => push_once(self.manifests.entry((node, component)).or_default(), edit),
            Effect::ServerConfig {
                node,
                component,
                edit,
            } => {
                let of_node = self.servers.entry(node).or_default();
                push_once(of_node.entry(component).or_default(), edit);
            }
            Effect::ClusterConfiguration { component, edit } => {
                push_once(self.config.entry(component).or_default(), edit);
            }
            Effect::Kubelet { node, edit } => {
                let edits = self.kubelets.entry(node).or_default();
                if !edits.contains(&edit) {
                    edits.push(edit);
                }
            }
            Effect::ConfigMapField { map, edit } => {
                let edits = self.maps.entry(map).or_default();
                if !edits.contains(&edit) {
                    edits.push(edit);
                }
            }
            Effect::ServingCertificate { node } => {
                self.certificates.insert(node);
            }
            Effect::File {
                node,
                path,
                content,
                mode,
                owner: (owner, group),
            } => {
                let permissions = Permissions { mode, owner, group };
                self.files.insert((node, path), (content, permissions));
            }
            Effect::Mode {
                node,
                path,
                mode,
                owner: (owner, group),
            } => {
                let new = Permissions { mode, owner, group };
                // The stricter of two modes satisfies both.
                self.modes
                    .entry((node, path))
                    .and_modify(|old| old.mode &= mode)
                    .or_insert(new);
            }
            Effect::Timer { node, unit } => {
                self.timers.entry(node).or_default().insert(unit);
            }
            Effect::Renew(renewal) => {
                let of_node = self.renewals.entry(renewal.node.clone());
                of_node.or_default().push(renewal);
            }
            Effect::Owner { node, path, owner } => {
                self.owners.insert((node, path), owner);
            }
            Effect::Encryption(work) => self.encryption.push(work),
            Effect::Object {
                reference,
                wanted,
                taken,
                strays,
            } => {
                self.objects.insert(reference, (wanted, taken, strays));
            }
        }
    }

    /// Edits `ClusterConfiguration`.
    fn config_step(&self, draft: &mut Draft, facts: &Facts) -> Option<ConfigMapStep> {
        let before = facts.api.cluster_configuration.value()?;
        let mut after = before.clone();
        for (component, edits) in &self.config {
            match edit_cluster_configuration(&after, *component, edits) {
                Ok(edited) => after = edited,
                Err(error) => fail(
                    draft,
                    &Place::Api,
                    CONFIG_KEY,
                    &error,
                    |effect| matches!(effect, Effect::ClusterConfiguration { component: c, .. } if c == component),
                ),
            }
        }
        let subject = format!("{CONFIG_NAMESPACE}/{CONFIG_NAME} {CONFIG_KEY}");
        let diff = unified_diff(&subject, Some(before), &after)?;
        attach(draft, diff, |effect| {
            matches!(effect, Effect::ClusterConfiguration { .. })
        });
        Some(ConfigMapStep {
            namespace: CONFIG_NAMESPACE.to_owned(),
            name: CONFIG_NAME.to_owned(),
            key: CONFIG_KEY.to_owned(),
            before: before.clone(),
            after,
            rollout: None,
        })
    }

    /// Edits the configurations that lie in ConfigMaps of their own.
    fn map_steps(&self, draft: &mut Draft, facts: &Facts) -> Vec<ConfigMapStep> {
        let mut steps = Vec::new();
        for (map, edits) in &self.maps {
            let ours = |effect: &Effect| matches!(effect, Effect::ConfigMapField { map: m, .. } if m == map);
            let Fact::Value(before) = facts.api.text(&map.query()) else {
                continue;
            };
            let after = match edit_fields(before, map.kind, edits) {
                Ok(after) => after,
                Err(error) => {
                    fail(draft, &Place::Api, map.key, &error, ours);
                    continue;
                }
            };
            let rollout =
                (map.copy == SettingCopy::KubeProxyConfig).then(|| KUBE_PROXY_NAME.to_owned());
            let subject = format!("{}/{} {}", map.namespace, map.name, map.key);
            match unified_diff(&subject, Some(before), &after) {
                Some(diff) => attach(draft, diff, ours),
                None if rollout.is_none() => continue,
                None => {}
            }
            steps.push(ConfigMapStep {
                namespace: map.namespace.to_owned(),
                name: map.name.to_owned(),
                key: map.key.to_owned(),
                before: before.to_owned(),
                after,
                rollout,
            });
        }
        steps
    }

    /// Edits the kubelets' files and restarts them: one step a node, workers first, so that what
    /// cannot work is found where it hurts least, and etcd's leader last of all.
    fn kubelet_steps(&mut self, draft: &mut Draft, facts: &Facts) -> Vec<Step> {
        let path = kubelet_config_path();
        let mut steps = Vec::new();
        for (name, edits) in std::mem::take(&mut self.kubelets) {
            let Some(node) = facts.nodes.get(&name) else {
                continue;
            };
            let ours =
                |effect: &Effect| matches!(effect, Effect::Kubelet { node, .. } if *node == name);
            let Some((file, before)) = text_file(node, &path) else {
                continue;
            };
            let place = Place::Node(name.clone());
            let after = match edit_fields(before, KUBELET_CONFIG_KIND, &edits) {
                Ok(after) => after,
                Err(error) => {
                    fail(draft, &place, path.as_str(), &error, ours);
                    continue;
                }
            };
            // It answers nobody before its request is approved, whether it asks because of this step or
            // has been waiting since it joined.
            let certificate = self.certificates.contains(&name) && bootstraps(&after);
            let mut files = Vec::new();
            if let Some(diff) = unified_diff(path.as_str(), Some(before), &after) {
                attach(draft, diff, ours);
                let wanted = self.modes.remove(&(name.clone(), path.clone()));
                let Permissions { mode, owner, group } =
                    wanted.unwrap_or_else(|| permissions(&file.meta));
                files.push(FileAction {
                    path: path.clone(),
                    before: state_of(file),
                    after: FileTarget::Text {
                        text: after,
                        mode,
                        owner,
                        group,
                    },
                });
            }
            let running = facts.api.answer(&ApiQuery::KubeletConfig(name.clone()));
            let gate = |value: &dyn Fn(&FieldEdit) -> serde_json::Value| Gate {
                kubelet: edits
                    .iter()
                    .map(|edit| FieldValue {
                        path: edit.path.clone(),
                        value: value(edit),
                    })
                    .collect(),
                ..Gate::default()
            };
            let written = parse_document(before, KUBELET_CONFIG_KIND).unwrap_or_default();
            let old = |edit: &FieldEdit| {
                let in_file = field(&written, &edit.path);
                // Where the file has it already, only the process is old, and what is put back is read
                // as it stands.
                if in_file == Some(&edit.value) {
                    return edit.value.clone();
                }
                let running = running.value().copied();
                running
                    .and_then(|value| field(value, &edit.path))
                    .or(in_file)
                    .cloned()
                    .unwrap_or_default()
            };
            steps.push(NodeStep {
                files,
                units: vec![kubelet_program()],
                gate: Some(Gate {
                    serving_certificate: certificate,
                    ..gate(&|edit| edit.value.clone())
                }),
                // One that waited for its certificate answered nobody, and need not when it is put back.
                undo_gate: Some(if certificate && bootstraps(before) {
                    Gate::default()
                } else {
                    gate(&old)
                }),
                uniform: self.uniform_kubelets.contains(&name),
                node: name,
            });
        }
        steps.sort_by_key(|step| {
            let node = facts.nodes.get(&step.node);
            (
                node.is_some_and(|node| node.info.control_plane),
                step.node.clone(),
            )
        });
        steps.into_iter().map(Step::Node).collect()
    }

    /// One step a node, in the order of their names.
    fn certificate_steps(&self) -> Vec<Step> {
        let step = |node: &String| ServingCertificateStep { node: node.clone() };
        let steps = self.certificates.iter().map(step);
        steps.map(Step::ServingCertificate).collect()
    }

    /// Edits the manifests: one step a node, in the order of the nodes' names; etcd's leader is put last
    /// afterwards.
    fn control_plane_steps(
        &mut self,
        order: &ArgsOrder,
        draft: &mut Draft,
        facts: &Facts,
    ) -> Vec<Step> {
        let mut by_node: BTreeMap<String, BTreeMap<Component, Vec<ComponentEdit>>> =
            BTreeMap::new();
        for ((node, component), edits) in std::mem::take(&mut self.manifests) {
            by_node.entry(node).or_default().insert(component, edits);
        }
        for node in self.renewals.keys() {
            by_node.entry(node.clone()).or_default();
        }
        let mut steps = Vec::new();
        for (name, components) in by_node {
            let Some(node) = facts.nodes.get(&name) else {
                continue;
            };
            let place = Place::Node(name.clone());
            let handover = self.take_together(&name, node);
            let mut files = Vec::new();
            let mut texts = BTreeMap::new();
            let mut old_texts = BTreeMap::new();
            for (component, edits) in &components {
                let ours = |effect: &Effect| {
                    matches!(effect, Effect::Manifest { node, component: c, .. }
                        if *node == name && c == component)
                };
                let path = manifest_path(*component);
                let Some((file, before)) = text_file(node, &path) else {
                    continue;
                };
                let after = match edit_manifest(before, *component, edits, order.get(*component)) {
                    Ok(after) => after,
                    Err(error) => {
                        fail(draft, &place, path.as_str(), &error, ours);
                        continue;
                    }
                };
                let Some(diff) = unified_diff(path.as_str(), Some(before), &after) else {
                    not_restarted(draft, &place, *component, ours);
                    continue;
                };
                attach(draft, diff, ours);
                // A mode that is wanted of the file goes with it: one action a path.
                let wanted = self.modes.get(&(name.clone(), path.clone())).cloned();
                let Permissions { mode, owner, group } =
                    wanted.unwrap_or_else(|| permissions(&file.meta));
                files.push(FileAction {
                    path,
                    before: state_of(file),
                    after: FileTarget::Text {
                        text: after.clone(),
                        mode,
                        owner,
                        group,
                    },
                });
                texts.insert(*component, after);
                old_texts.insert(*component, before.to_owned());
            }
            let mut renewals = self.renewals.remove(&name).unwrap_or_default();
            // One whose reader cannot be restarted is a problem by now.
            renewals.retain(|one| {
                let reader = one.certificate.reader();
                reader.is_none_or(|reader| texts.contains_key(&reader))
            });
            // The new process must find everything as it needs it; only then comes its manifest.
            if texts.contains_key(&Component::Etcd) {
                files.splice(0..0, handover);
            }
            let renewed: Vec<FileAction> = renewals
                .iter()
                .flat_map(|one| one.files.iter().map(|file| (one.certificate, file)))
                .map(|(certificate, (path, meta))| {
                    let key = (name.clone(), path.clone());
                    renewal_action(certificate, path, meta, self.modes.get(&key))
                })
                .collect();
            files.splice(0..0, renewed);
            if files.is_empty() {
                continue;
            }
            let gates =
                gate_for(node, &texts).and_then(|new| Ok((new, gate_for(node, &old_texts)?)));
            match gates {
                Ok((mut gate, undo_gate)) => {
                    let of = |one: &Renewal| EndsLater {
                        path: one.certificate.file(),
                        than: one.until,
                    };
                    gate.certificates = renewals.iter().map(of).collect();
                    for action in &files {
                        self.modes.remove(&(name.clone(), action.path.clone()));
                    }
                    steps.push(Step::Node(NodeStep {
                        uniform: self.uniform.contains(&name),
                        node: name,
                        files,
                        units: Vec::new(),
                        gate: Some(gate),
                        undo_gate: Some(undo_gate),
                    }));
                }
                Err(error) => {
                    fail(draft, &place, "gate", &error, |effect| match effect {
                        Effect::Manifest { node, .. } => *node == name,
                        Effect::Renew(renewal) => renewal.node == name,
                        _ => false,
                    });
                }
            }
        }
        steps
    }

    /// Takes out what goes with a node's manifests: owners first, then modes and files.
    fn take_together(&mut self, name: &str, node: &Node) -> Vec<FileAction> {
        let paths: Vec<NodePath> = self
            .together
            .iter()
            .filter(|(node, _)| node == name)
            .map(|(_, path)| path.clone())
            .collect();
        let (mut owners, mut others) = (Vec::new(), Vec::new());
        for path in paths {
            let key = (name.to_owned(), path.clone());
            if let Some(owner) = self.owners.remove(&key) {
                owners.extend(owner_action(node, &path, owner));
                continue;
            }
            let mode = self.modes.remove(&key);
            others.extend(match self.files.remove(&key) {
                Some((text, wanted)) => Some(text_action(Some(node), path, text, wanted, mode)),
                None => mode.and_then(|wanted| mode_action(node, &path, wanted)),
            });
        }
        owners.into_iter().chain(others).collect()
    }

    /// Writes files and modes: one step a node, without a gate.
    fn node_file_steps(&mut self, facts: &Facts) -> Vec<Step> {
        let mut by_node: BTreeMap<String, Vec<FileAction>> = BTreeMap::new();
        let mut timers = std::mem::take(&mut self.timers);
        for ((name, path), (text, wanted)) in std::mem::take(&mut self.files) {
            let mode = self.modes.remove(&(name.clone(), path.clone()));
            let action = text_action(facts.nodes.get(&name), path, text, wanted, mode);
            by_node.entry(name).or_default().push(action);
        }
        for ((name, path), wanted) in std::mem::take(&mut self.modes) {
            let node = facts.nodes.get(&name);
            if let Some(action) = node.and_then(|node| mode_action(node, &path, wanted)) {
                by_node.entry(name).or_default().push(action);
            }
        }
        // After the modes: both may be wanted of one directory, and a step has one action a path.
        let mut trees: BTreeMap<String, Vec<FileAction>> = BTreeMap::new();
        for ((name, path), owner) in std::mem::take(&mut self.owners) {
            let node = facts.nodes.get(&name);
            if let Some(action) = node.and_then(|node| owner_action(node, &path, owner)) {
                trees.entry(name).or_default().push(action);
            }
        }
        let by_node = by_node.into_iter().chain(trees);
        by_node
            .into_iter()
            .map(|(node, mut files)| {
                files.sort_by(|a, b| a.path.cmp(&b.path));
                let units = timers.remove(&node).into_iter().flatten().collect();
                Step::Node(NodeStep {
                    node,
                    files,
                    units,
                    gate: None,
                    undo_gate: None,
                    uniform: false,
                })
            })
            .collect()
    }

    /// Applies objects: namespaces that do not exist yet, and the rest, in the order of [`rank`].
    fn object_steps(&self, facts: &Facts) -> (Vec<Step>, Vec<Step>) {
        let mut sorted: Vec<_> = self.objects.iter().collect();
        sorted.sort_by_key(|(reference, (wanted, ..))| rank(reference, wanted));
        let (mut permit, mut enforce) = (Vec::new(), Vec::new());
        for (reference, (wanted, taken, strays)) in sorted {
            let live = facts
                .api
                .objects
                .get(reference)
                .and_then(|f| f.live.value());
            let step = Step::Object(ObjectStep {
                reference: reference.clone(),
                before: live.cloned(),
                action: ObjectAction::Apply(wanted.clone()),
                taken: taken.clone(),
                strays: strays.clone(),
            });
            if is_namespace(reference) && live.is_none() {
                permit.push(step);
            } else {
                enforce.push(step);
            }
        }
        (permit, enforce)
    }
}

/// Whether a kubelet with this file asks the API for its serving certificate.
fn bootstraps(text: &str) -> bool {
    let document = parse_document(text, KUBELET_CONFIG_KIND).unwrap_or_default();
    field(&document, &["serverTLSBootstrap".to_owned()]) == Some(&serde_json::Value::Bool(true))
}

/// The action that writes a file; the stricter of its own mode and one that is wanted besides.
fn text_action(
    node: Option<&Node>,
    path: NodePath,
    text: String,
    mut wanted: Permissions,
    mode: Option<Permissions>,
) -> FileAction {
    if let Some(mode) = mode {
        wanted.mode &= mode.mode;
    }
    let before = match node.map(|node| file(node, &path)) {
        Some(Some(file)) => state_of(file),
        _ => FileState::Absent,
    };
    let Permissions { mode, owner, group } = wanted;
    FileAction {
        path,
        before,
        after: FileTarget::Text {
            text,
            mode,
            owner,
            group,
        },
    }
}

fn mode_action(node: &Node, path: &NodePath, wanted: Permissions) -> Option<FileAction> {
    let before = permissions(node.meta(path)?);
    Some(FileAction {
        path: path.clone(),
        before: FileState::Mode {
            mode: before.mode,
            owner: before.owner,
            group: before.group,
        },
        after: FileTarget::Mode {
            mode: wanted.mode,
            owner: wanted.owner,
            group: wanted.group,
        },
    })
}

/// The action on one file of a certificate; `wanted` is the mode that it shall have besides.
fn renewal_action(
    certificate: KubeadmCertificate,
    path: &NodePath,
    meta: &Meta,
    wanted: Option<&Permissions>,
) -> FileAction {
    let before = permissions(meta);
    let Permissions { mode, owner, group } = wanted.unwrap_or(&before).clone();
    FileAction {
        path: path.clone(),
        before: FileState::Kept {
            mode: before.mode,
            owner: before.owner,
            group: before.group,
        },
        after: FileTarget::Renewed {
            certificate,
            mode,
            owner,
            group,
        },
    }
}

fn owner_action(node: &Node, path: &NodePath, owner: Ids) -> Option<FileAction> {
    let Fact::Value(Answer::Owners(owners)) = node.get(&Query::Owners(path.clone())) else {
        return None;
    };
    Some(FileAction {
        path: path.clone(),
        before: FileState::Owners {
            owners: owners.iter().copied().collect(),
        },
        after: FileTarget::Owner(owner),
    })
}

/// The order of the extra arguments after the edit, by component.
struct ArgsOrder(BTreeMap<Component, Vec<String>>);

impl ArgsOrder {
    fn of(config: Option<&ConfigMapStep>, facts: &Facts) -> Self {
        let text = match config {
            Some(step) => Some(&step.after),
            None => facts.api.cluster_configuration.value(),
        };
        let config = text.and_then(|text| ClusterConfiguration::parse(text).ok());
        let names = |component| match &config {
            Some(config) => config.args(component).into_iter().map(|(n, _)| n).collect(),
            None => Vec::new(),
        };
        ArgsOrder(Component::ALL.into_iter().map(|c| (c, names(c))).collect())
    }

    fn get(&self, component: Component) -> &[String] {
        self.0.get(&component).map_or(&[], Vec::as_slice)
    }
}

/// Returns what must hold on a node once these manifests lie there: each component runs with its
/// whole new command line, and the API server of the node answers.
///
/// # Errors
/// When a manifest, or the one of the API server that tells the port, cannot be understood.
pub fn gate_for(
    node: &Node,
    manifests: &BTreeMap<Component, String>,
) -> Result<Gate, KubeadmError> {
    let mut processes = BTreeMap::new();
    for (component, text) in manifests {
        let manifest = Manifest::parse(text, *component)?;
        processes.insert(*component, manifest.process()?);
    }
    let api = Component::KubeApiserver;
    let text = match manifests.get(&api) {
        Some(text) => text.clone(),
        None => match node.text(&manifest_path(api)) {
            Fact::Value(text) => text.to_owned(),
            Fact::Absent => return Err(KubeadmError::NoContainer(api)),
            Fact::Unreadable(why) => return Err(KubeadmError::Yaml(why)),
        },
    };
    Ok(Gate {
        processes,
        readyz_port: Some(Manifest::parse(&text, api)?.secure_port()),
        ..Gate::default()
    })
}

fn push_once(edits: &mut Vec<ComponentEdit>, edit: ComponentEdit) {
    if !edits.contains(&edit) {
        edits.push(edit);
    }
}

/// Puts the diff of a whole file on the first change that edits it.
pub(super) fn attach(draft: &mut Draft, diff: String, ours: impl Fn(&Effect) -> bool) {
    let first = draft
        .changes
        .iter_mut()
        .find(|(_, effects)| effects.iter().any(&ours));
    if let Some((change, _)) = first {
        change.diff = Some(diff);
    }
}

/// Turns the changes of a file that cannot be edited into a problem.
fn fail(
    draft: &mut Draft,
    place: &Place,
    subject: &str,
    error: &KubeadmError,
    ours: impl Fn(&Effect) -> bool,
) {
    drop_changes(draft, ours);
    draft.problems.push(Problem {
        severity: Severity::Error,
        place: place.clone(),
        subject: subject.to_owned(),
        message: error.to_string(),
        remedy: error.remedy().to_owned(),
    });
}

fn not_restarted(
    draft: &mut Draft,
    place: &Place,
    component: Component,
    ours: impl Fn(&Effect) -> bool,
) {
    drop_changes(draft, ours);
    draft.problems.push(Problem {
        severity: Severity::Error,
        place: place.clone(),
        subject: component.to_string(),
        message: "its manifest is right and asks for a restart that the kubelet has not made"
            .into(),
        remedy: "look at `journalctl -u kubelet` on the node".into(),
    });
}

pub(super) fn drop_changes(draft: &mut Draft, ours: impl Fn(&Effect) -> bool) {
    draft
        .changes
        .retain(|(_, effects)| !effects.iter().any(&ours));
}

fn file<'n>(node: &'n Node, path: &NodePath) -> Option<&'n File> {
    match node.get(&Query::File(path.clone())) {
        Fact::Value(Answer::File(file)) => Some(file),
        _ => None,
    }
}

fn text_file<'n>(node: &'n Node, path: &NodePath) -> Option<(&'n File, &'n str)> {
    let file = file(node, path)?;
    Some((file, std::str::from_utf8(&file.content).ok()?))
}

fn permissions(meta: &Meta) -> Permissions {
    Permissions {
        mode: meta.mode,
        owner: meta.owner.clone(),
        group: meta.group.clone(),
    }
}

pub(super) fn state_of(file: &File) -> FileState {
    let Permissions { mode, owner, group } = permissions(&file.meta);
    FileState::File {
        sha256: sha256(&file.content),
        mode,
        owner,
        group,
    }
}
