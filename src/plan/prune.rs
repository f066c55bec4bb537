//! What has left the profile: it is deleted, or it stays and harden lets go of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

mod lost;
mod noted;

use self::lost::lost;
use self::noted::note;
use super::object_order::{is_namespace, rank};
use super::{ObjectAction, ObjectStep, Stage, StageName, Step};
use crate::fact::ledger::{Ledger, LeftFact};
use crate::fact::{Fact, Facts, ObjectRef};
use crate::resource::leaving::{Fate, fate};
use crate::resource::{Change, Desired, Draft, Place, Problem, Risk, Severity};

/// How many names of a namespace's contents a change shows.
const SHOWN: usize = 50;

/// Adds to a plan what has left the profile, and what the ledger lacks.
pub(super) fn add(desired: &Desired, facts: &Facts, draft: &mut Draft, stages: &mut Vec<Stage>) {
    let ledger = match &facts.api.ledger.ledger {
        Fact::Absent => return,
        Fact::Unreadable(why) => {
            let wants = desired.resources.iter().any(wants_object);
            draft.problems.push(Problem {
                // Without the right to read it, a profile without objects misses nothing of its own.
                severity: if wants { Severity::Error } else { Severity::Warning },
                place: Place::Api,
                subject: "ledger".into(),
                message: format!("which objects have left the profile is not known: {why}"),
                remedy: "see what `kubectl -n kube-system get configmaps -l harden.dev/ledger` says: the kubeconfig's user needs the right to list ConfigMaps there, and the API server must answer; and plan again".into(),
            });
            return;
        }
        Fact::Value(ledger) => ledger,
    };
    if !ledger.damaged.is_empty() {
        draft.problems.extend(ledger.damaged.iter().map(damage));
        return;
    }
    let mut leaving = Leaving {
        desired,
        facts,
        going: BTreeMap::new(),
        kept: Vec::new(),
        problems: Vec::new(),
    };
    leaving.sort_out(ledger);
    leaving.what_goes_with_a_namespace(ledger);
    leaving.stale_consent();
    leaving.what_opens();
    let mut steps = leaving.steps(draft);
    steps.extend(note(ledger, desired, facts, draft));
    draft.problems.append(&mut leaving.problems);
    // What is only struck out waits for something to do.
    if steps.is_empty() || draft.changes.is_empty() {
        return;
    }
    let (first, rest): (Vec<Step>, Vec<Step>) = steps
        .into_iter()
        .partition(|step| comes_first(step, stages));
    for (name, steps) in [
        (StageName::BindingsLeft, first),
        (StageName::ObjectsLeft, rest),
    ] {
        if !steps.is_empty() {
            let at = stages.iter().take_while(|other| other.name < name).count();
            stages.insert(at, Stage { name, steps });
        }
    }
}

/// Whether it takes away a RoleBinding from a namespace that changes: the change may end what bounds those
/// whom the binding lets in, as the guard bounds owners that may write network policies.
fn comes_first(step: &Step, stages: &[Stage]) -> bool {
    let Step::Object(step) = step else {
        return false;
    };
    let goes = matches!(step.action, ObjectAction::Prune { .. });
    let its_namespace = |other: &Step| match other {
        Step::Object(other) => {
            is_namespace(&other.reference) && other.reference.name == step.reference.namespace
        }
        _ => false,
    };
    goes && step.reference.kind == "RoleBinding"
        && stages
            .iter()
            .flat_map(|stage| &stage.steps)
            .any(its_namespace)
}

fn wants_object(resource: &crate::resource::Resource) -> bool {
    resource.kind.behaviour().object().is_some()
}

fn damage((name, why): (&String, &String)) -> Problem {
    Problem {
        severity: Severity::Error,
        place: Place::Api,
        subject: format!("ConfigMap kube-system/{name}"),
        message: format!("this part of the ledger is damaged, so nothing is deleted: {why}"),
        remedy: "restore it from a backup; or delete it: harden then notes anew what the profile wants, and what had left the profile before stays where it is".into(),
    }
}

struct Leaving<'f> {
    desired: &'f Desired,
    facts: &'f Facts,
    /// What is deleted, with how much that can hurt.
    going: BTreeMap<&'f ObjectRef, (Risk, &'f Value, &'f [String])>,
    /// What stays or is gone already, with what is to be done about it.
    kept: Vec<(&'f ObjectRef, Option<&'f Value>, ObjectAction)>,
    problems: Vec<Problem>,
}

impl<'f> Leaving<'f> {
    fn problem(&mut self, severity: Severity, subject: String, message: String, remedy: String) {
        self.problems.push(Problem {
            severity,
            place: Place::Api,
            subject,
            message,
            remedy,
        });
    }

    /// Decides about each object of this workspace that the profile does not want any more.
    fn sort_out(&mut self, ledger: &'f Ledger) {
        let wanted: HashSet<_> = wanted(self.desired).map(ObjectRef::identity).collect();
        for (reference, entry) in &ledger.entries {
            let ours = &self.desired.cluster;
            if !entry.workspaces.contains(ours) || wanted.contains(&reference.identity()) {
                continue;
            }
            if entry.workspaces.len() > 1 {
                let live = self.facts.api.ledger.left.get(reference);
                let live = live.and_then(|fact| fact.live.value());
                self.kept.push((reference, live, ObjectAction::Forget));
                continue;
            }
            let Some(LeftFact {
                live,
                no_kind,
                contents,
            }) = self.facts.api.ledger.left.get(reference)
            else {
                continue;
            };
            let live = match live {
                Fact::Unreadable(why) if *no_kind => {
                    self.problem(
                        Severity::Warning,
                        reference.to_string(),
                        format!("it has left the profile, and whether it is still there cannot be told: {why}"),
                        "if its CustomResourceDefinition was deleted, the object went with it and nothing needs to be done; the ledger keeps it for the day the kind is back".into(),
                    );
                    continue;
                }
                Fact::Unreadable(why) => {
                    self.problem(
                        Severity::Error,
                        reference.to_string(),
                        format!("it has left the profile, and could not be read: {why}"),
                        "give the kubeconfig's user the right to get it, and plan again".into(),
                    );
                    continue;
                }
                live => live.value(),
            };
            let short = reference.short_name();
            let allowed = self.desired.allow_delete.contains(&short);
            match (fate(reference, entry.how, live, allowed), live) {
                (Fate::Deleted(risk), Some(live)) => {
                    let contents = match contents {
                        Fact::Value(contents) => contents.as_slice(),
                        Fact::Absent if !is_namespace(reference) => &[],
                        other => {
                            let why = match other {
                                Fact::Unreadable(why) => why.as_str(),
                                _ => "it was not asked",
                            };
                            self.problem(
                                Severity::Error,
                                reference.to_string(),
                                format!("what would be lost with it is not known: {why}"),
                                "give the kubeconfig's user the right to list everything in it, and plan again".into(),
                            );
                            continue;
                        }
                    };
                    self.going.insert(reference, (risk, live, contents));
                }
                (Fate::Kept(why, may_be_allowed), live) => {
                    let remedy = match may_be_allowed {
                        true => format!(
                            "nothing needs to be done; to have it deleted instead, put {short:?} into `allow-delete` under [apply] before you apply"
                        ),
                        false => "nothing needs to be done".to_owned(),
                    };
                    self.problem(
                        Severity::Warning,
                        reference.to_string(),
                        format!(
                            "it has left the profile and stays as it is: {why}; harden does not look after it any more"
                        ),
                        remedy,
                    );
                    self.kept.push((reference, live, ObjectAction::Release));
                }
                (Fate::Forgotten | Fate::Deleted(_), live) => {
                    self.kept.push((reference, live, ObjectAction::Forget));
                }
            }
        }
    }

    /// A namespace does not go while anything in it shall stay.
    fn what_goes_with_a_namespace(&mut self, ledger: &Ledger) {
        let namespaces = self.going.keys().copied().filter(|r| is_namespace(r));
        let mut problems = Vec::new();
        for namespace in namespaces {
            let inside = |r: &ObjectRef| r.namespace == namespace.name;
            let mut refuse = |one: String, why: &str, remedy: String| {
                problems.push((namespace.to_string(), format!("{one} in it {why}"), remedy));
            };
            for one in wanted(self.desired).filter(|one| inside(one)) {
                let remedy =
                    "take the namespace out of `allow-delete`, or the object out of the profile";
                refuse(one.to_string(), "is wanted by the profile", remedy.into());
            }
            for (one, entry) in ledger.entries.iter().filter(|(one, _)| inside(one)) {
                let mut others = entry.workspaces.iter();
                if let Some(other) = others.find(|name| **name != self.desired.cluster) {
                    let why = format!("is wanted by the workspace {other:?}");
                    let remedy = "take the namespace out of `allow-delete`, or the object out of that profile";
                    refuse(one.to_string(), &why, remedy.into());
                }
            }
            // The account `default` is part of every namespace.
            let is_furniture = |r: &ObjectRef| r.kind == "ServiceAccount" && r.name == "default";
            for (one, _, action) in &self.kept {
                if *action == ObjectAction::Release && inside(one) && !is_furniture(one) {
                    let remedy = format!("put {:?} into `allow-delete` as well", one.short_name());
                    refuse(one.to_string(), "would be lost with it", remedy);
                }
            }
        }
        for (subject, message, remedy) in problems {
            self.problem(Severity::Error, subject, message, remedy);
        }
    }

    /// Tells of names in `allow-delete` that allow nothing now, and one day too much.
    fn stale_consent(&mut self) {
        if self.desired.allow_delete.is_empty() {
            return;
        }
        let wanted: BTreeSet<String> = wanted(self.desired).map(ObjectRef::short_name).collect();
        let left = &self.facts.api.ledger.left;
        let left: BTreeSet<String> = left.keys().map(ObjectRef::short_name).collect();
        for name in &self.desired.allow_delete {
            let message = if wanted.contains(name) {
                "`allow-delete` names it, and the profile wants it"
            } else if left.contains(name) {
                continue;
            } else {
                "`allow-delete` names it, and harden does not manage it"
            };
            self.problem(
                Severity::Warning,
                name.clone(),
                message.into(),
                "take the name out, so that it allows nothing later".into(),
            );
        }
    }

    /// Tells which namespaces are left without the NetworkPolicies that went.
    fn what_opens(&mut self) {
        let is_policy =
            |r: &ObjectRef| r.identity().0 == "networking.k8s.io" && r.kind == "NetworkPolicy";
        let going: Vec<&ObjectRef> = self
            .going
            .keys()
            .copied()
            .filter(|r| is_policy(r))
            .collect();
        let mut namespaces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for policy in going {
            let of_namespace = namespaces.entry(&policy.namespace).or_default();
            of_namespace.insert(&policy.name);
        }
        let kept = wanted(self.desired).filter(|one| is_policy(one));
        let kept: Vec<&ObjectRef> = match namespaces.is_empty() {
            true => Vec::new(),
            false => kept.collect(),
        };
        for (namespace, going) in namespaces {
            let is_gone = |r: &&ObjectRef| is_namespace(r) && r.name == namespace;
            if self.going.keys().any(is_gone) {
                continue;
            }
            let names = kept.iter().filter(|r| r.namespace == namespace);
            let mut stay: BTreeSet<&str> = names.map(|r| r.name.as_str()).collect();
            let message = match self.facts.api.ledger.policies.get(namespace) {
                Some(Fact::Value(live)) => {
                    let live = live.iter().map(String::as_str);
                    stay.extend(live.filter(|name| !going.contains(name)));
                    if stay.is_empty() {
                        "it will have no NetworkPolicy: everybody may connect to its pods, and they to everything".to_owned()
                    } else {
                        let names = |names: &BTreeSet<&str>| {
                            names.iter().copied().collect::<Vec<_>>().join(", ")
                        };
                        format!(
                            "it loses the NetworkPolicies {}, and keeps {}",
                            names(&going),
                            names(&stay)
                        )
                    }
                }
                Some(Fact::Unreadable(why)) => {
                    format!("whether it keeps any NetworkPolicy is not known: {why}")
                }
                _ => "whether it keeps any NetworkPolicy is not known".to_owned(),
            };
            self.problem(
                Severity::Warning,
                format!("Namespace {namespace}"),
                message,
                "if that is not meant, keep its tenant or its policies in the profile".into(),
            );
        }
    }

    /// Makes the steps, and tells of each as a change: those that let people in go first, and what
    /// allows something goes after what only refuses, so that nothing is cut off on the way.
    fn steps(&self, draft: &mut Draft) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut going: Vec<_> = self.going.iter().collect();
        going.sort_by_key(|(reference, (_, live, _))| {
            std::cmp::Reverse((rank(reference, live), **reference))
        });
        for (reference, (risk, live, contents)) in going {
            let before = match contents.len() {
                0 => "there".to_owned(),
                1 => "there, with 1 object in it".to_owned(),
                n => format!("there, with {n} objects in it"),
            };
            let lost: Vec<String> = lost(reference, live)
                .into_iter()
                .chain(
                    contents
                        .iter()
                        .take(SHOWN)
                        .map(|one| format!("lost with it: {one}")),
                )
                .chain(
                    (contents.len() > SHOWN)
                        .then(|| format!("lost with it: {} more", contents.len() - SHOWN)),
                )
                .collect();
            draft.changes.push((
                Change {
                    before: Some(before),
                    diff: (!lost.is_empty()).then(|| lost.join("\n")),
                    ..change(reference, "it has left the profile", *risk)
                },
                Vec::new(),
            ));
            let contents = contents.to_vec();
            steps.push(step(
                reference,
                Some(live),
                ObjectAction::Prune { contents },
            ));
        }
        for (reference, live, action) in &self.kept {
            if *action == ObjectAction::Release {
                draft.changes.push((
                    Change {
                        before: Some("managed by harden".into()),
                        after: Some("let go, and left as it is".into()),
                        ..change(reference, "it has left the profile", Risk::Safe)
                    },
                    Vec::new(),
                ));
            }
            steps.push(step(reference, *live, action.clone()));
        }
        steps
    }
}

/// The objects that the profile wants.
fn wanted(desired: &Desired) -> impl Iterator<Item = &ObjectRef> {
    let objects = desired.resources.iter();
    objects.filter_map(|r| r.kind.behaviour().reference())
}

fn change(reference: &ObjectRef, reason: &str, risk: Risk) -> Change {
    Change {
        resource: reference.to_string(),
        place: Place::Api,
        copy: None,
        before: None,
        after: None,
        diff: None,
        reason: reason.into(),
        controls: Vec::new(),
        origins: Vec::new(),
        risk,
        uniform: false,
        restarts: None,
    }
}

fn step(reference: &ObjectRef, live: Option<&Value>, action: ObjectAction) -> Step {
    Step::Object(ObjectStep {
        reference: reference.clone(),
        before: live.cloned(),
        action,
        taken: Vec::new(),
        strays: Vec::new(),
    })
}
