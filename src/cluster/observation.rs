//! How many objects are looked at: by paged lists, and the server is asked only about those that do not
//! prove by themselves that an apply would change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kube::Resource;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Request};
use serde_json::Value;

use super::begun::Begun;
use super::client::{Client, explain};
use super::objects::try_apply;
use super::pages::{self, Ended};
use super::refusal::is_no_such_kind;
use super::{FIELD_MANAGER, content, parallel};
use crate::fact::{DryRun, Fact, ObjectFact, ObjectRef, below, canonical_json};
use crate::plan::{sha256_of_converged, sha256_of_object};
use crate::resource::convergence::prove_converged;

/// So many objects of a kind are asked for one by one; more than that by lists of 500, of their
/// namespace if all are in one, else of the whole cluster. A list may hold many others, but it takes one
/// request where these would take more than this.
pub const SINGLY: usize = 20;

/// What was seen of a wanted object.
enum Seen {
    Absent,
    NoSuchKind,
    Unreadable(String),
    /// It proves that nothing would change. Its metadata, and the SHA-256 that a plan rests on: thousands of
    /// whole objects would fill the memory.
    Same(Value, String),
    /// The server must be asked.
    Live(Value),
}

type Wanted<'w> = BTreeMap<&'w ObjectRef, &'w Value>;

/// Looks at objects, and asks what applying the wanted ones would do.
pub(super) fn observe(client: &Client, wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact> {
    let wanted = by_reference(wanted);
    let seen = look(client, &wanted, true, client.take_begun());
    let no_namespace: BTreeSet<&str> = seen
        .iter()
        .filter(|(one, seen)| one.kind == "Namespace" && matches!(seen, Seen::Absent))
        .map(|(one, _)| one.name.as_str())
        .collect();
    let in_none = |one: &ObjectRef| no_namespace.contains(one.namespace.as_str());
    let to_try: Vec<(&ObjectRef, bool)> = seen
        .iter()
        .filter_map(|(one, seen)| match seen {
            Seen::Absent if !in_none(one) => Some((one, true)),
            Seen::Live(_) => Some((one, false)),
            _ => None,
        })
        .collect();
    tracing::info!(
        "API: {} objects are wanted; the server is asked what would become of {}",
        wanted.len(),
        to_try.len()
    );
    // In a namespace that is yet to be made nothing can be tried; but what they say can be asked.
    let mut contents: BTreeMap<String, (Value, Vec<&ObjectRef>)> = BTreeMap::new();
    for (one, seen) in &seen {
        if matches!(seen, Seen::Absent) && in_none(one) {
            let tried = content::tried(wanted[one]);
            let same = contents.entry(canonical_json(&tried));
            same.or_insert((tried, Vec::new())).1.push(one);
        }
    }
    let count = client.count();
    count.begin(to_try.len() + contents.len());
    let gone = AtomicBool::new(false);
    let tried = parallel::each(to_try, |(reference, is_new)| {
        let would = match gone.load(Ordering::Relaxed) {
            true => DryRun::Refused("the API server has stopped to answer".into()),
            false => try_apply(client, reference, wanted[reference], is_new, &gone),
        };
        count.one_done();
        (reference.clone(), would)
    });
    let faults = parallel::each(contents.into_values().collect(), |(tried, same)| {
        let fault = match gone.load(Ordering::Relaxed) {
            true => None,
            false => content::fault(client, &tried, &gone),
        };
        count.one_done();
        let told = |one: &&ObjectRef| {
            let would = content::told(fault.as_ref()?, wanted[*one], &tried);
            Some(((*one).clone(), would))
        };
        same.iter().filter_map(told).collect::<Vec<_>>()
    });
    count.end();
    let faults = faults.into_iter().flatten();
    let mut tried: BTreeMap<ObjectRef, DryRun> = tried.into_iter().chain(faults).collect();
    seen.into_iter()
        .map(|(reference, seen)| {
            let would = tried.remove(&reference).unwrap_or(DryRun::NotAsked);
            let fact = match seen {
                Seen::Absent => ObjectFact {
                    live: Fact::Absent,
                    would,
                },
                Seen::NoSuchKind => ObjectFact {
                    live: Fact::Absent,
                    would: DryRun::NoSuchKind,
                },
                Seen::Unreadable(why) => ObjectFact {
                    live: Fact::Unreadable(why),
                    would,
                },
                Seen::Same(live, sha256) => ObjectFact {
                    live: Fact::Value(live),
                    would: DryRun::Same { sha256 },
                },
                Seen::Live(live) => ObjectFact {
                    live: Fact::Value(live),
                    would,
                },
            };
            (reference, fact)
        })
        .collect()
}

/// Looks at objects, and asks nothing else.
pub(super) fn live(client: &Client, wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact> {
    let wanted = by_reference(wanted);
    look(client, &wanted, false, Begun::default())
        .into_iter()
        .map(|(reference, seen)| {
            let (live, would) = match seen {
                Seen::Absent | Seen::NoSuchKind => (Fact::Absent, DryRun::NotAsked),
                Seen::Unreadable(why) => (Fact::Unreadable(why), DryRun::NotAsked),
                Seen::Same(live, sha256) => (Fact::Value(live), DryRun::Same { sha256 }),
                Seen::Live(live) => (Fact::Value(live), DryRun::NotAsked),
            };
            (reference, ObjectFact { live, would })
        })
        .collect()
}

fn by_reference(wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, &Value> {
    wanted
        .iter()
        .filter_map(|object| Some((ObjectRef::of(object)?, &**object)))
        .collect()
}

/// What is asked in one go.
enum Task<'w> {
    /// A list, in this namespace or in all.
    List(Option<&'w str>, Wanted<'w>),
    One(&'w ObjectRef, &'w Value),
}

/// Returns the paths of the lists by which these objects would be looked at.
pub(super) fn lists(wanted: &[Arc<Value>]) -> Vec<String> {
    let path = |task| match task {
        Task::List(namespace, some) => {
            let (first, _) = some.first_key_value()?;
            Some(DynamicObject::url_path(&resource_of(first), namespace))
        }
        Task::One(..) => None,
    };
    let wanted = by_reference(wanted);
    tasks(&wanted).into_iter().filter_map(path).collect()
}

/// Divides objects into what is asked for one by one and what by lists.
fn tasks<'w>(wanted: &'w BTreeMap<ObjectRef, &'w Value>) -> Vec<Task<'w>> {
    let mut kinds: BTreeMap<(&str, &str), Wanted<'_>> = BTreeMap::new();
    for (reference, object) in wanted {
        let object: &Value = object;
        let kind = (reference.api_version.as_str(), reference.kind.as_str());
        kinds.entry(kind).or_default().insert(reference, object);
    }
    let mut tasks = Vec::new();
    for some in kinds.into_values() {
        if some.len() <= SINGLY {
            tasks.extend(some.into_iter().map(|(one, object)| Task::One(one, object)));
            continue;
        }
        let namespaces: BTreeSet<&str> = some.keys().map(|one| one.namespace.as_str()).collect();
        let namespace = match (namespaces.len(), namespaces.first()) {
            (1, Some(namespace)) if !namespace.is_empty() => Some(*namespace),
            _ => None,
        };
        tasks.push(Task::List(namespace, some));
    }
    tasks
}

/// Looks at objects. `prove` is for those of which more is asked afterwards; lists that are begun already are
/// not asked for again.
fn look(
    client: &Client,
    wanted: &BTreeMap<ObjectRef, &Value>,
    prove: bool,
    begun: Begun,
) -> BTreeMap<ObjectRef, Seen> {
    let begun = Mutex::new(begun);
    let (mut seen, mut singly) = (BTreeMap::new(), Vec::new());
    let parts = parallel::each(tasks(wanted), |task| match task {
        Task::One(reference, object) => {
            let one = get(client, reference, object, prove);
            (vec![(reference.clone(), one)], Vec::new())
        }
        Task::List(namespace, some) => match list(client, namespace, &some, prove, &begun) {
            Some(found) => (found, Vec::new()),
            None => (Vec::new(), some.into_iter().collect()),
        },
    });
    for (found, rest) in parts {
        seen.extend(found);
        singly.extend(rest);
    }
    seen.extend(parallel::each(singly, |(reference, object)| {
        let one = get(client, reference, object, prove);
        (reference.clone(), one)
    }));
    seen
}

fn resource_of(reference: &ObjectRef) -> ApiResource {
    let (group, version) = reference
        .api_version
        .split_once('/')
        .unwrap_or(("", &reference.api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &reference.kind))
}

/// Takes what is wanted out of a list. `None` when they should be asked for one by one, because they may
/// not be listed, or the list is endless.
fn list(
    client: &Client,
    namespace: Option<&str>,
    wanted: &Wanted<'_>,
    prove: bool,
    begun: &Mutex<Begun>,
) -> Option<Vec<(ObjectRef, Seen)>> {
    let (first, _) = wanted.first_key_value()?;
    let resource = resource_of(first);
    let request = Request::new(DynamicObject::url_path(&resource, namespace));
    let what = format!("list {}", resource.plural);
    let names: BTreeMap<(&str, &str), (&ObjectRef, &Value)> = wanted
        .iter()
        .map(|(one, object)| ((one.namespace.as_str(), one.name.as_str()), (*one, *object)))
        .collect();
    let mut found: BTreeMap<&ObjectRef, Seen> = BTreeMap::new();
    let all = |seen: &dyn Fn() -> Seen| {
        let some = wanted.keys().map(|one| ((*one).clone(), seen()));
        Some(some.collect())
    };
    let mut take = |mut live: Value| {
        let text = |key: &str| below(&live, &["metadata", key]).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let namespace = text("namespace").unwrap_or_default();
        let Some((reference, object)) = names.get(&(namespace, name)).copied() else {
            return;
        };
        // In a list, the items do not say what they are.
        live["apiVersion"] = reference.api_version.clone().into();
        live["kind"] = reference.kind.clone().into();
        client.note_managers(&live);
        found.insert(reference, judged(object, live, prove));
    };
    let begun = begun.lock().ok();
    let begun = begun.and_then(|mut begun| begun.take(&request.url_path));
    let ended = match begun.is_some_and(|pages| pages::begun(&what, pages, &mut take)) {
        true => Ok(()),
        false => pages::raw(client, &what, &request, &mut take),
    };
    match ended {
        Ok(()) => {
            let seen = |one: &&ObjectRef| found.remove(*one).unwrap_or(Seen::Absent);
            let mut seen = seen;
            Some(
                wanted
                    .keys()
                    .map(|one| ((*one).clone(), seen(one)))
                    .collect(),
            )
        }
        Err(Ended::Refused(status)) if is_no_such_kind(&status) => all(&|| Seen::NoSuchKind),
        Err(Ended::Refused(_) | Ended::TooLong) => None,
        Err(Ended::Failed(error)) => {
            let why = error.to_string();
            all(&|| Seen::Unreadable(why.clone()))
        }
    }
}

fn get(client: &Client, reference: &ObjectRef, object: &Value, prove: bool) -> Seen {
    let resource = resource_of(reference);
    let namespace = Some(reference.namespace.as_str()).filter(|name| !name.is_empty());
    let request = Request::new(DynamicObject::url_path(&resource, namespace));
    let asked = client.try_call(|| async {
        let request = request
            .get(&reference.name, &Default::default())
            .map_err(kube::Error::BuildRequest)?;
        client.kube().request::<Value>(request).await
    });
    match asked {
        Ok(live) => {
            client.note_managers(&live);
            judged(object, live, prove)
        }
        Err(kube::Error::Api(status)) if is_no_such_kind(&status) => Seen::NoSuchKind,
        Err(kube::Error::Api(status)) if status.code == 404 => Seen::Absent,
        Err(error) => Seen::Unreadable(explain(&format!("get {reference}"), error).to_string()),
    }
}

/// Whether an object proves that nothing would change.
fn judged(wanted: &Value, mut live: Value, prove: bool) -> Seen {
    let proved = match prove {
        true => prove_converged(wanted, &live, FIELD_MANAGER),
        false => Ok(()),
    };
    match proved {
        Ok(()) => {
            let sha256 = match prove {
                true => sha256_of_converged(wanted, &live),
                false => sha256_of_object(wanted, &live),
            };
            if let Some(whole) = live.as_object_mut() {
                whole.retain(|key, _| ["apiVersion", "kind", "metadata"].contains(&key.as_str()));
            }
            if let Some(metadata) = live.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
            Seen::Same(live, sha256)
        }
        Err(doubt) => {
            let one = ObjectRef::of(wanted).map(|one| one.to_string());
            let one = one.unwrap_or_default();
            tracing::debug!("API: {one}: the server is asked: {doubt}");
            Seen::Live(live)
        }
    }
}

#[cfg(test)]
mod tests;
