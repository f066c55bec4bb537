//! What a plan changes in namespaces that exist, and everything that follows from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Found, HitKind, Impact, MAX_WHO, TENANT_LABEL, Unknown, access, by_tenant, guarded, images,
    limits, narrowed, network, pod_security, quota, token,
};
use crate::fact::{
    DryRun, Fact, Facts, ImpactFacts, ImpactQuery, ObjectFact, ObjectList, ObjectRef,
};
use crate::plan::{ObjectAction, Plan, Step};
use crate::resource::stray::{strays, without};
use crate::resource::{Desired, Draft, Origin, Problem, Severity};

/// An object that a plan changes, or would change with consent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) reference: ObjectRef,
    /// As it is; `None` where there is none.
    pub(super) before: Option<Value>,
    /// As it will be; `None` where it will be deleted.
    pub(super) after: Option<Value>,
    pub(super) origins: Vec<Origin>,
    /// Whether the plan does it; otherwise it waits for consent.
    pub(super) planned: bool,
}

impl Planned {
    /// The namespace that it concerns: its own, or itself where it is one; empty for none.
    pub(super) fn namespace(&self) -> &str {
        match self.reference.kind.as_str() {
            "Namespace" => &self.reference.name,
            _ => &self.reference.namespace,
        }
    }

    /// Returns a part of the object before and after; null where it is not there.
    pub(super) fn both(&self, pointer: &str) -> (&Value, &Value) {
        (at(&self.before, pointer), at(&self.after, pointer))
    }
}

fn at<'v>(object: &'v Option<Value>, pointer: &str) -> &'v Value {
    let part = object.as_ref().and_then(|object| object.pointer(pointer));
    part.unwrap_or(&Value::Null)
}

/// The changes of a plan that can hit somebody in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Enforcement {
    planned: Vec<Planned>,
    tenant_of: BTreeMap<String, String>,
    unseen: Vec<Unseen>,
}

/// An object that could not be read, so that it is not known what a change of it would do.
#[derive(Debug, Clone)]
struct Unseen {
    kind: HitKind,
    namespace: String,
    message: String,
}

impl Unseen {
    fn of(reference: &ObjectRef, why: &str) -> Self {
        let kind = match reference.kind.as_str() {
            "Namespace" => HitKind::PodSecurity,
            "ResourceQuota" => HitKind::Quota,
            "LimitRange" => HitKind::Limits,
            "NetworkPolicy" => HitKind::Network,
            "ServiceAccount" => HitKind::Token,
            _ => HitKind::Access,
        };
        let ObjectRef {
            kind: object,
            namespace,
            name,
            ..
        } = reference;
        Unseen {
            kind,
            namespace: match object.as_str() {
                "Namespace" => name.clone(),
                _ => namespace.clone(),
            },
            message: format!("what is there now of {object} {name:?} could not be read: {why}"),
        }
    }
}

impl Enforcement {
    /// Finds them: what the plan does to objects in namespaces that exist, and what it would do if it
    /// had consent. What is as it is wanted is not among them, and so has no impact.
    pub fn of(desired: &Desired, facts: &Facts, plan: &Plan) -> Self {
        let is_error = |problem: &Problem| problem.severity == Severity::Error;
        if plan.changes.is_empty() && !plan.problems.iter().any(is_error) {
            return Enforcement::default();
        }
        // Of what is only noted in the ledger nothing changes.
        let noted = plan.steps().filter_map(|(_, step)| match step {
            Step::Object(step) if step.action == ObjectAction::Note => {
                Some(step.reference.to_string())
            }
            _ => None,
        });
        let noted: BTreeSet<String> = noted.collect();
        let done = plan.changes.iter().map(|c| c.resource.as_str());
        let done: BTreeSet<&str> = done.filter(|name| !noted.contains(*name)).collect();
        let errors = plan.problems.iter();
        let withheld: BTreeSet<&str> = errors
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| problem.subject.as_str())
            .collect();
        let mut planned = Vec::new();
        let mut tenant_of = BTreeMap::new();
        let mut unseen = Vec::new();
        for resource in &desired.resources {
            let kind = resource.kind.behaviour();
            let (Some(object), Some(reference)) = (kind.object(), kind.reference()) else {
                continue;
            };
            if reference.kind == "Namespace"
                && let Some(tenant) = object["metadata"]["labels"][TENANT_LABEL].as_str()
            {
                tenant_of.insert(reference.name.clone(), tenant.to_owned());
            }
            let name = reference.to_string();
            let is_done = done.contains(name.as_str());
            if !is_of_interest(reference) || !(is_done || withheld.contains(name.as_str())) {
                continue;
            }
            let Some(ObjectFact { live, would }) = facts.api.objects.get(reference) else {
                continue;
            };
            let after = match (live, would) {
                (Fact::Unreadable(why), _) => {
                    unseen.push(Unseen::of(reference, why));
                    continue;
                }
                // Nothing changes but the ledger, and the object is not known whole.
                (_, DryRun::Same { .. }) => continue,
                (_, DryRun::Object(would) | DryRun::Taken { object: would, .. }) => {
                    let mut draft = Draft::default();
                    resource.diff(desired.distribution, facts, &mut draft);
                    if draft.changes.is_empty() {
                        continue;
                    }
                    without(would, &strays(object, would))
                }
                (Fact::Absent, _) => object.clone(),
                // Whoever may not try it can still see what it would come to.
                (Fact::Value(live), _) => {
                    let after = merged(live, object);
                    if after == *live {
                        continue;
                    }
                    after
                }
            };
            planned.push(Planned {
                before: live.value().cloned(),
                after: Some(after),
                origins: resource.origins.clone(),
                planned: is_done,
                reference: reference.clone(),
            });
        }
        planned.extend(deleted(plan));
        planned.retain(|one| namespace_exists(one, facts));
        planned.sort_by(|a, b| a.reference.cmp(&b.reference));
        Enforcement {
            planned,
            tenant_of,
            unseen,
        }
    }

    /// Whether nobody in a namespace can be hit.
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty() && self.unseen.is_empty()
    }

    /// Returns what must be asked to tell whom they hit; empty where they can hit nobody.
    pub fn query(&self) -> ImpactQuery {
        let mut query = ImpactQuery::default();
        for namespace in self.namespaces() {
            for judge in JUDGES {
                for listing in (judge.lists)(&namespace) {
                    let namespaces = query.lists.entry(listing).or_default();
                    if listing.listed().namespaced {
                        namespaces.insert(namespace.name.clone());
                    }
                }
            }
            if let Some(labels) = pod_security::labels(&namespace) {
                query.levels.insert(namespace.name.clone(), labels);
            }
        }
        query
    }

    /// Judges what was answered.
    pub fn judge(&self, facts: &ImpactFacts) -> Impact {
        let mut found = Found::default();
        let mut asked = BTreeSet::new();
        for one in &self.unseen {
            asked.insert(one.kind);
            found.unknown(one.kind, &one.namespace, &one.message);
        }
        for namespace in self.namespaces() {
            for judge in JUDGES {
                if (judge.concerns)(&namespace) {
                    asked.insert(judge.kind);
                    (judge.judge)(&namespace, facts, &mut found);
                }
            }
        }
        let unknown = found.unknown.into_iter();
        Impact {
            preconditions: Vec::new(),
            asked,
            tenants: by_tenant(found.hits, &self.tenant_of),
            unknown: unknown
                .map(|((kind, message), namespaces)| Unknown {
                    kind,
                    message,
                    count: namespaces.len(),
                    namespaces: namespaces.into_iter().take(MAX_WHO).collect(),
                })
                .collect(),
        }
    }

    /// The namespaces with what is planned in each.
    fn namespaces(&self) -> Vec<Namespace<'_>> {
        let mut all: BTreeMap<String, Namespace<'_>> = BTreeMap::new();
        for one in &self.planned {
            let namespace = all.entry(one.namespace().to_owned()).or_default();
            namespace.planned.push(one);
        }
        all.into_iter()
            .map(|(name, namespace)| Namespace { name, ..namespace })
            .collect()
    }
}

/// One namespace, and what is planned in it.
#[derive(Debug, Default)]
pub(super) struct Namespace<'p> {
    pub(super) name: String,
    pub(super) planned: Vec<&'p Planned>,
}

impl<'p> Namespace<'p> {
    /// What is planned of a kind.
    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = &'p Planned> {
        let of_kind = move |one: &&&Planned| one.reference.kind == kind;
        let all: Vec<&'p Planned> = self.planned.iter().filter(of_kind).copied().collect();
        all.into_iter()
    }

    /// The objects of a kind as they will be, where these are there now.
    pub(super) fn after<'v>(&'v self, kind: &str, now: &'v [Value]) -> Vec<&'v Value>
    where
        'p: 'v,
    {
        let planned: Vec<&'p Planned> = self.of(kind).collect();
        let is_planned = |object: &&Value| {
            let name = &object["metadata"]["name"];
            planned.iter().any(|one| *name == *one.reference.name)
        };
        let others = now.iter().filter(|object| !is_planned(object));
        let new = planned.iter().filter_map(|one| one.after.as_ref());
        others.chain(new).collect()
    }
}

/// One kind of hit.
struct Judge {
    kind: HitKind,
    /// Whether something planned in the namespace can hit in this way.
    concerns: fn(&Namespace<'_>) -> bool,
    /// What must be listed for it; empty where it does not concern.
    lists: fn(&Namespace<'_>) -> Vec<ObjectList>,
    judge: fn(&Namespace<'_>, &ImpactFacts, &mut Found),
}

const JUDGES: &[Judge] = &[
    Judge {
        kind: HitKind::PodSecurity,
        concerns: |namespace| pod_security::labels(namespace).is_some(),
        lists: pod_security::lists,
        judge: pod_security::judge,
    },
    Judge {
        kind: HitKind::Quota,
        concerns: quota::concerns,
        lists: quota::lists,
        judge: quota::judge,
    },
    Judge {
        kind: HitKind::Limits,
        concerns: limits::concerns,
        lists: limits::lists,
        judge: limits::judge,
    },
    Judge {
        kind: HitKind::Images,
        concerns: images::concerns,
        lists: images::lists,
        judge: images::judge,
    },
    Judge {
        kind: HitKind::Access,
        concerns: access::concerns,
        lists: access::lists,
        judge: access::judge,
    },
    Judge {
        kind: HitKind::Token,
        concerns: token::concerns,
        lists: token::lists,
        judge: token::judge,
    },
    Judge {
        kind: HitKind::Network,
        concerns: network::concerns,
        lists: network::lists,
        judge: network::judge,
    },
    Judge {
        kind: HitKind::Network,
        concerns: narrowed::concerns,
        lists: narrowed::lists,
        judge: narrowed::judge,
    },
    Judge {
        kind: HitKind::Guard,
        concerns: guarded::concerns,
        lists: guarded::lists,
        judge: guarded::judge,
    },
];

/// The kinds of which a change can hit somebody.
fn is_of_interest(reference: &ObjectRef) -> bool {
    matches!(
        reference.kind.as_str(),
        "Namespace"
            | "ResourceQuota"
            | "LimitRange"
            | "NetworkPolicy"
            | "Role"
            | "RoleBinding"
            | "ServiceAccount"
    )
}

/// An object with what is wanted of it: what an apply comes to, as far as fields are merged by key.
fn merged(live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let mut all = live.clone();
            for (key, wanted) in wanted {
                let live = live.get(key).unwrap_or(&Value::Null);
                all.insert(key.clone(), merged(live, wanted));
            }
            all.into()
        }
        _ => wanted.clone(),
    }
}

/// What the plan deletes.
fn deleted(plan: &Plan) -> impl Iterator<Item = Planned> {
    plan.steps().filter_map(|(_, step)| match step {
        Step::Object(step) if is_deleted(&step.action) && is_of_interest(&step.reference) => {
            let name = step.reference.to_string();
            let change = plan.changes.iter().find(|change| change.resource == name);
            Some(Planned {
                reference: step.reference.clone(),
                before: step.before.clone(),
                after: None,
                origins: change.map(|c| c.origins.clone()).unwrap_or_default(),
                planned: true,
            })
        }
        _ => None,
    })
}

/// Whether an object is gone after this.
fn is_deleted(action: &ObjectAction) -> bool {
    matches!(action, ObjectAction::Delete | ObjectAction::Prune { .. })
}

/// In a namespace that the plan makes nobody is yet.
fn namespace_exists(one: &Planned, facts: &Facts) -> bool {
    let reference = ObjectRef {
        api_version: "v1".into(),
        kind: "Namespace".into(),
        namespace: String::new(),
        name: one.namespace().to_owned(),
    };
    let known = facts.api.objects.get(&reference);
    !known.is_some_and(|fact| fact.live == Fact::Absent)
}
