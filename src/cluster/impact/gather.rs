//! The lists and dry runs that tell whom a plan would hit in namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::api::{Api as KubeApi, ApiResource, DynamicObject, ListParams, ObjectMeta};
use serde_json::{Value, json};

use crate::cluster::client::Client;
use crate::cluster::pod_security::{Silence, level_told, plugin_works};
use crate::cluster::{ApiError, pages};
use crate::fact::{Fact, ImpactFacts, ImpactQuery, LevelTold, ListedKind, ObjectList, Told};

/// Up to how many namespaces each is listed by itself. That takes fewer rights; for more of them one
/// list of the whole cluster is cheaper.
const FEW: usize = 3;

/// How many namespaces are tried at the same time.
const PARALLEL: usize = 8;

/// How long all dry runs together may take.
const TIME: Duration = Duration::from_secs(120);

/// Asks for everything. What is not answered is said in its place.
pub(in crate::cluster) fn gather(client: &Client, query: &ImpactQuery) -> ImpactFacts {
    let lists = query.lists.iter().map(|(listing, namespaces)| {
        let fact = match list(client, *listing, namespaces) {
            Ok(objects) => Fact::Value(objects),
            Err(error) => Fact::Unreadable(error.to_string()),
        };
        (*listing, fact)
    });
    ImpactFacts {
        lists: lists.collect(),
        levels: levels(client, &query.levels),
    }
}

type ByNamespace = BTreeMap<String, Vec<Value>>;

fn list(
    client: &Client,
    listing: ObjectList,
    namespaces: &BTreeSet<String>,
) -> Result<ByNamespace, ApiError> {
    let mut kept = ByNamespace::new();
    let listed = listing.listed();
    let one = |within: Option<&str>, kept: &mut ByNamespace| {
        let take = |object: &Value| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            if !listed.namespaced || namespaces.contains(namespace) {
                let all = kept.entry(namespace.to_owned()).or_default();
                all.push(listing.keep(object));
            }
        };
        page_by_page(client, &listed, within, take)
    };
    if listed.namespaced && namespaces.len() <= FEW {
        for namespace in namespaces {
            one(Some(namespace), &mut kept)?;
        }
    } else {
        one(None, &mut kept)?;
    }
    Ok(kept)
}

fn page_by_page(
    client: &Client,
    listed: &ListedKind,
    within: Option<&str>,
    mut take: impl FnMut(&Value),
) -> Result<(), ApiError> {
    let (group, version) = listed
        .api_version
        .split_once('/')
        .unwrap_or(("", listed.api_version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: listed.api_version.to_owned(),
        kind: listed.kind.to_owned(),
        plural: listed.plural.to_owned(),
    };
    let api: KubeApi<DynamicObject> = match within {
        Some(namespace) => KubeApi::namespaced_with(client.kube().clone(), namespace, &resource),
        None => KubeApi::all_with(client.kube().clone(), &resource),
    };
    let what = format!("list {}", listed.plural);
    let all = ListParams::default();
    if listed.names_only {
        return names(client, &what, &api, take);
    }
    pages::each(client, &what, &api, &all, |object: DynamicObject| {
        take(&serde_json::to_value(object).unwrap_or_default());
    })
}

/// Names of a list on a page, and pages of it.
const NAMES: u32 = 1000;
const MAX_PAGES: usize = 400;

/// Calls `take` with name and namespace of every object; the rest of it is not even sent.
fn names(
    client: &Client,
    what: &str,
    api: &KubeApi<DynamicObject>,
    mut take: impl FnMut(&Value),
) -> Result<(), ApiError> {
    let mut params = ListParams::default().limit(NAMES);
    for _ in 0..MAX_PAGES {
        let page = client.call(what, || async { api.list_metadata(&params).await })?;
        for ObjectMeta {
            name, namespace, ..
        } in page.items.into_iter().map(|object| object.metadata)
        {
            take(&json!({"metadata": {"name": name, "namespace": namespace}}));
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params.continue_token = Some(token),
            _ => return Ok(()),
        }
    }
    Err(ApiError::Refused {
        what: what.to_owned(),
        why: format!("there are more than {} objects", MAX_PAGES * NAMES as usize),
    })
}

/// Tries each namespace with its new labels. Nothing is changed.
fn levels(
    client: &Client,
    wanted: &BTreeMap<String, BTreeMap<String, String>>,
) -> BTreeMap<String, LevelTold> {
    let Some((first, labels)) = wanted.first_key_value() else {
        return BTreeMap::new();
    };
    let nothing = |why: &str| LevelTold {
        told: Told::nothing(why),
        ..LevelTold::default()
    };
    // Where the plugin is off, no answer means anything. Where it cannot be told, each says so itself.
    if let Err(Silence::PluginOff) = plugin_works(client, first, labels) {
        let why = "the API server's admission plugin PodSecurity looks at no namespace; is it off?";
        let all = wanted.keys();
        return all.map(|name| (name.clone(), nothing(why))).collect();
    }
    let begun = Instant::now();
    let queue = Mutex::new(wanted.iter());
    let told = Mutex::new(BTreeMap::new());
    let is_silent = AtomicBool::new(false);
    let next = || queue.lock().ok()?.next();
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(wanted.len()) {
            scope.spawn(|| {
                while let Some((name, labels)) = next() {
                    let answer = if is_silent.load(Ordering::Relaxed) {
                        nothing("the API server had stopped answering")
                    } else if begun.elapsed() > TIME {
                        nothing("asking for all takes too long")
                    } else {
                        match level_told(client, name, labels) {
                            Ok(told) => told,
                            Err(Silence::Server(why)) => {
                                is_silent.store(true, Ordering::Relaxed);
                                nothing(&why)
                            }
                            Err(Silence::Namespace(why)) => nothing(&why),
                            // There is nobody in it any more.
                            Err(Silence::Gone) => LevelTold::default(),
                            Err(Silence::PluginOff) => nothing("the plugin PodSecurity is off"),
                        }
                    };
                    if let Ok(mut told) = told.lock() {
                        told.insert(name.clone(), answer);
                    }
                }
            });
        }
    });
    told.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests;
