//! The way back: the plan that undoes a generation.
//!
//! Stages run in reverse, and the nodes within them, except that etcd's leader of now is the last of
//! its stage: API objects that restrict, the control plane,
//! objects that permit, files. Only the kubeadm ConfigMap stays last: it must describe what runs, so
//! here too it is written after the last gate has passed.
//!
//! What somebody changed since is not overwritten. It becomes a [`Problem`], and its node is left
//! alone as a whole, since the files of a node refer to each other; every node is, when the steps
//! are uniform.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::distribution::Component;
use crate::distribution::kubeadm::{
    ClusterConfiguration, KUBE_PROXY_NAME, KUBELET_CONFIG_NAME, manifest_path,
};
use crate::fact::{Answer, ApiQuery, Fact, FileKind, Node, NodePath, ObjectRef, Query, sha256};
use crate::plan::{
    ConfigMapStep, FileAction, FileState, FileTarget, Gate, NodeStep, ObjectAction, ObjectStep,
    Plan, Purpose, ServingCertificateStep, Stage, StageName, Step, etcd_leader, leader_last,
};
use crate::resource::encryption::seen::CONFIG_FLAG;
use crate::resource::encryption::{EncryptionPart, EncryptionWork};
use crate::resource::object::{changed_fields, stripped};
use crate::resource::{Change, Place, Problem, Risk, SettingCopy, Severity};

use super::content::{covers, same_content, without};
use super::file_state::{after, is_undone, loosens, permissions, shown, words};
use super::{Record, first_index};

/// What must be looked at before [`rollback_plan`] can be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The queries of each node.
    pub nodes: BTreeMap<String, Vec<Query>>,
    /// The objects.
    pub objects: Vec<ObjectRef>,
    /// Namespaces that might be deleted: what do they hold?
    pub namespaces: Vec<String>,
    /// ConfigMap keys: namespace, name, key.
    pub keys: Vec<(String, String, String)>,
    /// The etcd members whose node is one of `nodes` and restarts something; the leader comes last.
    pub members: BTreeSet<ApiQuery>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Current {
    /// The nodes with the answers to [`Lookup::nodes`].
    pub nodes: BTreeMap<String, Node>,
    /// The objects as they are.
    pub objects: BTreeMap<ObjectRef, Fact<Value>>,
    /// What the namespaces hold that makes deleting them a loss.
    pub namespaces: BTreeMap<String, Fact<Vec<String>>>,
    /// The texts of the keys.
    pub keys: BTreeMap<(String, String, String), Fact<String>>,
    /// What the etcd members said.
    pub answers: BTreeMap<ApiQuery, Fact<Value>>,
}

/// Lists what must be looked at to undo a generation.
pub fn rollback_lookup(record: &Record) -> Lookup {
    let mut lookup = Lookup::default();
    for (_, _, step) in undone(record) {
        match step {
            Step::Node(step) => {
                let queries = lookup.nodes.entry(step.node.clone()).or_default();
                queries.extend(step.files.iter().map(query));
                if step.restarts() && record.plan.nodes.get(&step.node) == Some(&true) {
                    // It tells where the member can be asked.
                    queries.push(Query::File(manifest_path(Component::Etcd)));
                    let member = ApiQuery::EtcdMember(step.node.clone());
                    lookup.members.insert(member);
                }
                queries.sort();
                queries.dedup();
            }
            Step::Object(step) if only_listed(&step.action) => {}
            Step::Object(step) => {
                lookup.objects.push(step.reference.clone());
                if step.reference.kind == "Namespace" && step.before.is_none() {
                    lookup.namespaces.push(step.reference.name.clone());
                }
            }
            Step::ConfigMapKey(step) => lookup.keys.push(key_of(step)),
            Step::ServingCertificate(_) | Step::Encryption(_) => {}
        }
    }
    lookup
}

/// What a rollback does to the flag that names an API server's encryption configuration, in any copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncryptionFlag {
    /// It is taken away somewhere.
    pub goes: bool,
    /// It comes back somewhere.
    pub comes: bool,
}

/// Finds out what a plan does to the flag of encryption.
pub fn encryption_flag(plan: &Plan) -> EncryptionFlag {
    let mut found = EncryptionFlag::default();
    let component = Component::KubeApiserver;
    let in_argv = |gate: &Option<Gate>| {
        let argv = gate
            .as_ref()
            .and_then(|gate| gate.processes.get(&component));
        argv.map(|argv| flag_map(argv).contains_key(CONFIG_FLAG))
    };
    let in_config = |text: &str| {
        let config = ClusterConfiguration::parse(text).ok()?;
        Some(!config.values(component, CONFIG_FLAG).is_empty())
    };
    for (_, step) in plan.steps() {
        let (before, after) = match step {
            Step::Node(step) => (in_argv(&step.undo_gate), in_argv(&step.gate)),
            Step::ConfigMapKey(step) => (in_config(&step.before), in_config(&step.after)),
            _ => continue,
        };
        found.goes |= before == Some(true) && after == Some(false);
        found.comes |= before == Some(false) && after == Some(true);
    }
    found
}

/// Makes the plan that undoes the steps of a generation that are done and were not put back.
///
/// Its [`Plan::basis`] is empty: every file's before-state is checked by the node itself when the
/// step is staged, and every object's and key's when its step runs.
pub fn rollback_plan(record: &Record, current: &Current) -> Plan {
    let mut undo = Undo {
        record,
        current,
        changes: Vec::new(),
        problems: Vec::new(),
        settled: BTreeSet::new(),
    };
    let steps = undone(record);
    let left_alone = undo.left_alone(&steps);
    let mut stages: Vec<Stage> = Vec::new();
    for (number, name, step) in steps.iter().rev() {
        let step = match step {
            Step::Node(step) if left_alone.contains(&step.node) => None,
            Step::Node(step) => undo.node(*number, step).map(Step::Node),
            Step::Object(step) => undo.object(step).map(Step::Object),
            // The ConfigMap describes what runs; it must not run ahead of nodes left alone.
            Step::ConfigMapKey(_) if !left_alone.is_empty() => None,
            Step::ConfigMapKey(step) => undo.key(step).map(Step::ConfigMapKey),
            Step::ServingCertificate(step) => {
                undo.certificate(step);
                None
            }
            Step::Encryption(work) => {
                undo.encryption(work);
                None
            }
        };
        let Some(step) = step else { continue };
        match stages.last_mut() {
            Some(stage) if stage.name == *name => stage.steps.push(step),
            _ => stages.push(Stage {
                name: *name,
                steps: vec![step],
            }),
        }
    }
    stages.sort_by_key(|stage| stage.name == StageName::KubeadmConfig);
    let leader = etcd_leader(current.answers.iter());
    leader_last(&mut stages, leader);
    Plan {
        schema: crate::plan::SCHEMA.into(),
        version: crate::VERSION.into(),
        cluster: record.plan.cluster.clone(),
        desired: record.plan.desired.clone(),
        purpose: Purpose::Rollback(record.number),
        nodes: record.plan.nodes.clone(),
        etcd_leader: leader.map(str::to_owned),
        changes: undo.changes,
        stages,
        problems: undo.problems,
        impact: Default::default(),
        basis: Vec::new(),
    }
}

/// The steps to undo, with number and stage, in the order in which they were done.
fn undone(record: &Record) -> Vec<(usize, StageName, &Step)> {
    let done = record.done();
    let steps = record.plan.steps().zip(1..);
    steps
        .filter(|(_, number)| done.contains(number))
        .map(|((stage, step), number)| (number, stage.name, step))
        .collect()
}

struct Undo<'r> {
    record: &'r Record,
    current: &'r Current,
    changes: Vec<Change>,
    problems: Vec<Problem>,
    /// The files of nodes that are as they were already.
    settled: BTreeSet<(String, NodePath)>,
}

impl Undo<'_> {
    /// Finds the nodes on which something is not what the generation left there.
    fn left_alone(&mut self, steps: &[(usize, StageName, &Step)]) -> BTreeSet<String> {
        let mut alone = BTreeSet::new();
        let mut seen: BTreeSet<(&str, &NodePath)> = BTreeSet::new();
        // Only the last change of a path can be compared with what is there.
        for (_, _, step) in steps.iter().rev() {
            let Step::Node(step) = step else { continue };
            for action in step.files.iter().rev() {
                if !seen.insert((&step.node, &action.path)) {
                    continue;
                }
                let place = Place::Node(step.node.clone());
                let now = self.now(&step.node, action);
                // What is gone has no mode that could be set back.
                if matches!(action.after, FileTarget::Mode { .. }) && now == Ok(FileState::Absent) {
                    self.settled
                        .insert((step.node.clone(), action.path.clone()));
                    continue;
                }
                match now {
                    // Somebody was faster.
                    Ok(now) if is_undone(action, &now) && now != after(action) => {
                        self.settled
                            .insert((step.node.clone(), action.path.clone()));
                        self.problems.push(Problem {
                            severity: Severity::Warning,
                            place,
                            subject: action.path.to_string(),
                            message: format!(
                                "it is already as it was before generation {}",
                                self.record.number
                            ),
                            remedy: String::new(),
                        });
                    }
                    now => {
                        let Some(message) = now.map_or_else(Some, |n| self.moved(action, &n))
                        else {
                            continue;
                        };
                        alone.insert(step.node.clone());
                        self.problem(
                            place,
                            action.path.to_string(),
                            message,
                            "the node is left as it is; settle the file by hand, then roll back again",
                        );
                    }
                }
            }
        }
        let uniform = steps
            .iter()
            .any(|(_, _, step)| matches!(step, Step::Node(step) if step.uniform));
        if uniform && !alone.is_empty() {
            alone.extend(steps.iter().filter_map(|(_, _, step)| match step {
                Step::Node(step) => Some(step.node.clone()),
                _ => None,
            }));
        }
        alone
    }

    /// Returns the state of the file that an action is about, or why it cannot be compared.
    fn now(&self, node: &str, action: &FileAction) -> Result<FileState, String> {
        let fact = match self.current.nodes.get(node) {
            Some(node) => node.get(&query(action)),
            None => Fact::Unreadable("the node was not observed".into()),
        };
        match fact {
            Fact::Absent => Ok(FileState::Absent),
            Fact::Unreadable(why) => Err(format!("it cannot be compared: {why}")),
            Fact::Value(Answer::File(file)) => Ok(FileState::File {
                sha256: sha256(&file.content),
                mode: file.meta.mode,
                owner: file.meta.owner.clone(),
                group: file.meta.group.clone(),
            }),
            // Whether the content is still what it left, the node itself knows.
            Fact::Value(Answer::Stat(meta)) if is_kept(action) => match meta.kind {
                FileKind::Regular => Ok(FileState::Kept {
                    mode: meta.mode,
                    owner: meta.owner.clone(),
                    group: meta.group.clone(),
                }),
                _ => Err("it is no regular file".into()),
            },
            Fact::Value(Answer::Stat(meta)) => Ok(FileState::Mode {
                mode: meta.mode,
                owner: meta.owner.clone(),
                group: meta.group.clone(),
            }),
            Fact::Value(Answer::Owners(owners)) => Ok(FileState::Owners {
                owners: owners.iter().copied().collect(),
            }),
            Fact::Value(_) => Err("it cannot be compared".into()),
        }
    }

    /// Says what a file is when that is not what the generation left.
    fn moved(&self, action: &FileAction, now: &FileState) -> Option<String> {
        let left = after(action);
        let same = match (&left, &action.after) {
            (_, FileTarget::Mode { .. }) => permissions(&left) == permissions(now),
            _ => left == *now,
        };
        (!same).then(|| {
            format!(
                "it is {}, but generation {} left {}",
                words(now),
                self.record.number,
                words(&left)
            )
        })
    }

    /// Undoes a step of a node; `None` when nothing is left to be done.
    fn node(&mut self, number: usize, step: &NodeStep) -> Option<NodeStep> {
        let settled = |action: &FileAction| {
            let file = (step.node.clone(), action.path.clone());
            self.settled.contains(&file)
        };
        let (done, open): (Vec<_>, Vec<_>) = step.files.iter().partition(|f| settled(f));
        // A mere restart has no way back: the same file would be read again.
        if open.is_empty() {
            return None;
        }
        // What is as it was does not restart, so no gate may wait for it.
        let done: BTreeSet<Component> = done.iter().filter_map(|f| component(step, f)).collect();
        let without = |gate: &Option<Gate>| {
            let mut gate = gate.clone()?;
            gate.processes
                .retain(|component, _| !done.contains(component));
            let asks = gate.unit.is_some() || !gate.kubelet.is_empty();
            (asks || !gate.processes.is_empty()).then_some(gate)
        };
        let (gate, undo_gate) = (without(&step.gate), without(&step.undo_gate));
        let place = Place::Node(step.node.clone());
        let first = first_index(&self.record.plan, number);
        let mut files = Vec::new();
        for (offset, action) in step.files.iter().enumerate().rev() {
            if !open.contains(&action) {
                continue;
            }
            let target = match (&action.before, &action.after) {
                (before, FileTarget::Mode { .. }) => match permissions(before) {
                    Some((mode, owner, group)) => FileTarget::Mode {
                        mode,
                        owner: owner.to_owned(),
                        group: group.to_owned(),
                    },
                    // Nothing was there whose mode could have been set.
                    None => continue,
                },
                (before, _) => FileTarget::PreImage {
                    generation: self.record.number,
                    index: first + offset,
                    state: before.clone(),
                },
            };
            let undo = FileAction {
                path: action.path.clone(),
                before: match (&target, permissions(&after(action))) {
                    // Where only the mode is set back, the content is nobody's business.
                    (FileTarget::Mode { .. }, Some((mode, owner, group))) => FileState::Mode {
                        mode,
                        owner: owner.to_owned(),
                        group: group.to_owned(),
                    },
                    _ => after(action),
                },
                after: target,
            };
            let restarts = component(step, action)
                .map(|component| component.to_string())
                .or_else(|| step.units.first().map(ToString::to_string));
            let mut risk = match restarts {
                Some(_) => Risk::Restart,
                None => Risk::Safe,
            };
            if loosens(&undo.before, &action.before) {
                risk = risk.max(Risk::Guarded);
            }
            self.changes.push(Change {
                before: shown(&undo.before),
                after: shown(&action.before),
                risk,
                restarts,
                ..self.change(action.path.to_string(), place.clone())
            });
            files.push(undo);
        }
        self.flags(step, gate.as_ref(), undo_gate.as_ref());
        if gate.is_some() && undo_gate.is_none() {
            self.problem(
                place,
                "gate".into(),
                "the record does not say with which command line the components ran before".into(),
                "roll this generation back with the version of harden that applied it",
            );
        }
        Some(NodeStep {
            node: step.node.clone(),
            files,
            units: step.units.clone(),
            gate: undo_gate,
            undo_gate: gate,
            uniform: step.uniform,
        })
    }

    /// Shows what happens to the command lines; that of the manifest says what restarts.
    fn flags(&mut self, step: &NodeStep, now: Option<&Gate>, then: Option<&Gate>) {
        let (Some(now), Some(then)) = (now, then) else {
            return;
        };
        for (component, new) in &now.processes {
            let old = then.processes.get(component).map_or(&[][..], Vec::as_slice);
            let (new, old) = (flag_map(new), flag_map(old));
            let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
            for name in names {
                if new.get(name) == old.get(name) {
                    continue;
                }
                let name_and_place = self.change(
                    format!("{component} --{name}"),
                    Place::Node(step.node.clone()),
                );
                self.changes.push(Change {
                    before: new.get(name).cloned(),
                    after: old.get(name).cloned(),
                    copy: Some(SettingCopy::Process),
                    risk: name_and_place.risk.max(Risk::Restart),
                    uniform: step.uniform,
                    ..name_and_place
                });
            }
        }
    }

    /// What is under a key stays there, and its files with it.
    fn encryption(&mut self, work: &EncryptionWork) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            place: Place::Api,
            subject: "encryption at rest".into(),
            message: match work.part {
                EncryptionPart::Prepare => {
                    "the files with the key stay on the control planes".to_owned()
                }
                EncryptionPart::Finish => "what was written under a key stays so".to_owned(),
            },
            remedy: "`harden encryption disable` brings it back into clear".into(),
        });
    }

    fn object(&mut self, step: &ObjectStep) -> Option<ObjectStep> {
        let reference = &step.reference;
        if only_listed(&step.action) {
            return None;
        }
        let live = match self.current.objects.get(reference) {
            Some(Fact::Value(live)) => Some(live.clone()),
            Some(Fact::Absent) => None,
            Some(Fact::Unreadable(why)) => {
                return self.refuse(reference, format!("it cannot be compared: {why}"));
            }
            None => return self.refuse(reference, "it was not observed".into()),
        };
        // What this generation left, and whether that is what is there.
        let left = match (&step.action, &live) {
            (ObjectAction::Delete | ObjectAction::Prune { .. }, None) => true,
            // Somebody made it again.
            (ObjectAction::Prune { .. }, Some(live))
                if step.before.as_ref().is_some_and(|b| same_content(live, b)) =>
            {
                return None;
            }
            (ObjectAction::Delete | ObjectAction::Prune { .. }, Some(_)) => false,
            (ObjectAction::Release | ObjectAction::Forget | ObjectAction::Note, _) => return None,
            (ObjectAction::Apply(_), None) if step.before.is_none() => return None,
            (ObjectAction::Apply(wanted), Some(live)) => covers(live, wanted),
            (ObjectAction::Restore(whole), Some(live)) => same_content(live, whole),
            (ObjectAction::Apply(_) | ObjectAction::Restore(_), None) => false,
        };
        if !left {
            return self.refuse(
                reference,
                format!(
                    "it is not what generation {} left; somebody changed it since",
                    self.record.number
                ),
            );
        }
        if step.before.is_none() && reference.kind == "Namespace" {
            match self.current.namespaces.get(&reference.name) {
                Some(Fact::Value(held)) if held.is_empty() => {}
                Some(Fact::Value(held)) => {
                    // Nothing is wrong with that, and the rest can be undone.
                    self.problems.push(Problem {
                        severity: Severity::Warning,
                        place: Place::Api,
                        subject: reference.to_string(),
                        message: format!("it is kept: it holds {}", held.join(", ")),
                        remedy: "delete it yourself when nothing in it is needed".into(),
                    });
                    return None;
                }
                Some(Fact::Absent) => return None,
                Some(Fact::Unreadable(why)) => {
                    return self.refuse(
                        reference,
                        format!("it is kept: what it holds is unknown: {why}"),
                    );
                }
                None => {
                    return self.refuse(reference, "it is kept: what it holds is unknown".into());
                }
            }
        }
        if let ObjectAction::Prune { contents } = &step.action
            && !contents.is_empty()
        {
            self.problems.push(Problem {
                severity: Severity::Warning,
                place: Place::Api,
                subject: reference.to_string(),
                message: format!(
                    "it is made again, but the {} objects that were in it are lost",
                    contents.len()
                ),
                remedy: "restore them from a backup".into(),
            });
        }
        let action = match (&step.before, &step.action, &live) {
            (Some(before), ..) => ObjectAction::Restore(before.clone()),
            (None, ObjectAction::Apply(wanted), Some(live)) if comes_by_itself(reference) => {
                ObjectAction::Restore(without(live, wanted))
            }
            (None, ..) => ObjectAction::Delete,
        };
        let (before, after) = match (&live, &action) {
            (None, _) => (None, Some("as it was".into())),
            (_, ObjectAction::Delete) => (Some("there".into()), None),
            _ => (
                Some(format!("as generation {} left it", self.record.number)),
                Some("as it was".into()),
            ),
        };
        let values = match (&live, &action) {
            (Some(live), ObjectAction::Restore(whole)) => {
                changed_fields(&stripped(live), &stripped(whole))
            }
            _ => Vec::new(),
        };
        self.changes.push(Change {
            before,
            after,
            diff: (!values.is_empty()).then(|| values.join("\n")),
            ..self.change(reference.to_string(), Place::Api)
        });
        Some(ObjectStep {
            reference: reference.clone(),
            before: live,
            action,
            taken: Vec::new(),
            strays: Vec::new(),
        })
    }

    fn refuse(&mut self, reference: &ObjectRef, message: String) -> Option<ObjectStep> {
        self.problem(
            Place::Api,
            reference.to_string(),
            message,
            "it is left as it is; settle it by hand",
        );
        None
    }

    fn key(&mut self, step: &ConfigMapStep) -> Option<ConfigMapStep> {
        if step.before == step.after {
            return None;
        }
        let subject = format!("ConfigMap {}/{} {}", step.namespace, step.name, step.key);
        let message = match self.current.keys.get(&key_of(step)) {
            Some(Fact::Value(text)) if *text == step.after => {
                self.changes.push(Change {
                    before: Some(format!("as generation {} left it", self.record.number)),
                    after: Some("as it was".into()),
                    copy: Some(match step.name.as_str() {
                        KUBELET_CONFIG_NAME => SettingCopy::KubeletConfig,
                        KUBE_PROXY_NAME => SettingCopy::KubeProxyConfig,
                        _ => SettingCopy::KubeadmConfig,
                    }),
                    risk: match step.rollout {
                        Some(_) => Risk::Restart,
                        None => Risk::Safe,
                    },
                    restarts: step.rollout.clone(),
                    ..self.change(subject, Place::Api)
                });
                return Some(ConfigMapStep {
                    before: step.after.clone(),
                    after: step.before.clone(),
                    ..step.clone()
                });
            }
            Some(Fact::Value(text)) if *text == step.before => return None,
            Some(Fact::Unreadable(why)) => format!("it cannot be compared: {why}"),
            _ => format!(
                "it is not what generation {} left; somebody changed it since",
                self.record.number
            ),
        };
        self.problem(
            Place::Api,
            subject,
            message,
            "it is left as it is; settle it by hand, or the next `kubeadm upgrade` brings it back",
        );
        None
    }

    /// An approval cannot be taken back. A kubelet that no longer bootstraps does not use what it got.
    fn certificate(&mut self, step: &ServingCertificateStep) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            place: Place::Node(step.node.clone()),
            subject: "kubelet serving certificate".into(),
            message: "the certificate that was approved stays valid until it expires".into(),
            remedy: "nothing needs to be done: its key has not left the node".into(),
        });
    }

    /// A change that is as dangerous as that of the generation was. None of them needs `accept`:
    /// whoever rolls back asks for just that.
    fn change(&self, resource: String, place: Place) -> Change {
        let theirs = self.record.plan.changes.iter();
        let theirs = theirs.filter(|c| c.resource == resource && c.place == place);
        Change {
            risk: theirs.map(|c| c.risk).max().unwrap_or(Risk::Safe),
            resource,
            place,
            copy: None,
            before: None,
            after: None,
            diff: None,
            reason: format!("undo generation {}", self.record.number),
            controls: Vec::new(),
            origins: Vec::new(),
            uniform: false,
            restarts: None,
        }
    }

    fn problem(&mut self, place: Place, subject: String, message: String, remedy: &str) {
        self.problems.push(Problem {
            severity: Severity::Error,
            place,
            subject,
            message,
            remedy: remedy.into(),
        });
    }
}

/// Returns the component whose manifest an action of a step writes.
fn component(step: &NodeStep, action: &FileAction) -> Option<Component> {
    let file = action.path.as_str().rsplit('/').next()?;
    let mut changed = step.gate.iter().flat_map(|gate| gate.processes.keys());
    let name = |component: &Component| file.strip_suffix(".yaml") == Some(component.name());
    changed.find(|component| name(component)).copied()
}

fn key_of(step: &ConfigMapStep) -> (String, String, String) {
    (step.namespace.clone(), step.name.clone(), step.key.clone())
}

/// Whether Kubernetes makes the object in every namespace, and anew when it is deleted. What others
/// added to it since, and every token that is bound to it, would be lost with it.
/// Source: kubernetes v1.35 `pkg/controller/serviceaccount/serviceaccounts_controller.go`.
fn comes_by_itself(reference: &ObjectRef) -> bool {
    (reference.kind.as_str(), reference.name.as_str()) == ("ServiceAccount", "default")
}

/// Whether an action only lets go of an object, or concerns the ledger only: nothing is lost by it, and
/// the profile itself takes it up again.
fn only_listed(action: &ObjectAction) -> bool {
    matches!(
        action,
        ObjectAction::Release | ObjectAction::Forget | ObjectAction::Note
    )
}

/// Whether an action leaves a file that only its node knows.
fn is_kept(action: &FileAction) -> bool {
    matches!(
        action.after,
        FileTarget::Renewed { .. }
            | FileTarget::PreImage {
                state: FileState::Kept { .. },
                ..
            }
    )
}

/// What to look at to see whether an action's result is still there.
fn query(action: &FileAction) -> Query {
    match action.after {
        _ if is_kept(action) => Query::Stat(action.path.clone()),
        FileTarget::Mode { .. } => Query::Stat(action.path.clone()),
        FileTarget::Owner(_)
        | FileTarget::PreImage {
            state: FileState::Owners { .. },
            ..
        } => Query::Owners(action.path.clone()),
        _ => Query::File(action.path.clone()),
    }
}

fn flag_map(argv: &[String]) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::<String, String>::new();
    for word in argv.iter().filter_map(|word| word.strip_prefix("--")) {
        let (name, value) = word.split_once('=').unwrap_or((word, "true"));
        flags
            .entry(name.to_owned())
            .and_modify(|all| {
                all.push(' ');
                all.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    flags
}
