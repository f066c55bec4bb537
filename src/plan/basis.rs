//! What a plan rests on, and whether that still holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::object_order::is_namespace;
use super::{Basis, ObjectAction, ObjectStep, Plan, Stage, Step, Subject};
use crate::distribution::Component;
use crate::distribution::k3s::{ServerConfig, layout_of};
use crate::distribution::kubeadm::fields::{FieldPath, field};
use crate::distribution::kubeadm::{
    CONFIG_NAME, CONFIG_NAMESPACE, MANIFESTS_DIR, kubelet_config_path, manifest_path,
};
use crate::fact::ledger::{Ledger, LeftFact};
use crate::fact::{
    Answer, ApiQuery, DryRun, Fact, Facts, File, Meta, Node, NodeInfo, NodePath, ObjectFact,
    ObjectRef, Query, canonical_json, canonical_sha256, sha256, write_canonical, write_text,
};
use crate::resource::leaving::{bears, beyond};
use crate::resource::mode::Mode;
use crate::resource::object::stripped;
use crate::resource::precondition::Precondition;
use crate::resource::stray::{Stray, strays};
use crate::resource::{Desired, Kind, Place, Resource};

/// How many names of what came into a namespace are told.
const NAMED: usize = 10;

/// Lists what must be looked at on a node: what its resources ask for, and on a control-plane node
/// the directory of static pods, where a stray file can win over a manifest, and where something may
/// restart, etcd's manifest. Sorted, nothing twice.
pub fn queries(desired: &Desired, node: &NodeInfo) -> Vec<Query> {
    let mut queries = whole_queries(desired, node);
    queries.extend(wanted(desired, node).flat_map(|resource| queries_of(desired, resource)));
    if !desired.distribution.is_kubeadm() {
        return queries.into_iter().collect();
    }
    if node.control_plane
        && let Ok(path) = NodePath::new(MANIFESTS_DIR)
    {
        queries.insert(Query::Dir(path));
    }
    if may_restart(desired, node) {
        // It tells where the etcd member can be asked how it is.
        queries.insert(Query::File(manifest_path(Component::Etcd)));
    }
    queries.into_iter().collect()
}

/// Whether something is wanted that may restart a static pod of a control-plane node, or its kubelet.
pub(super) fn may_restart(desired: &Desired, node: &NodeInfo) -> bool {
    let queries = whole_queries(desired, node);
    let wants = |path| queries.contains(&Query::File(path));
    let pods = Component::ALL.into_iter().map(manifest_path);
    node.control_plane && (pods.into_iter().any(wants) || wants(kubelet_config_path()))
}

/// Lists the API objects that are wanted, by reference, each once.
pub fn wanted_objects(desired: &Desired) -> Vec<Arc<Value>> {
    referenced_objects(desired)
        .into_iter()
        .map(|(_, object)| object.clone())
        .collect()
}

fn referenced_objects(desired: &Desired) -> Vec<(&ObjectRef, &Arc<Value>)> {
    let kinds = desired.resources.iter().map(|r| r.kind.behaviour());
    let mut objects: Vec<(&ObjectRef, &Arc<Value>)> = kinds
        .filter_map(|kind| Some((kind.reference()?, kind.shared_object()?)))
        .collect();
    objects.sort_by_key(|(reference, _)| *reference);
    objects.dedup_by(|(a, _), (b, _)| a == b);
    objects
}

/// The resources of a node.
fn wanted<'d>(desired: &'d Desired, node: &NodeInfo) -> impl Iterator<Item = &'d Resource> {
    desired.resources.iter().filter(|r| r.concerns(node))
}

/// What a resource looks at on a node of this distribution.
fn queries_of(desired: &Desired, resource: &Resource) -> Vec<Query> {
    let queries = resource.queries(desired.distribution);
    queries.unwrap_or_default()
}

/// The queries of whose answers all counts.
fn whole_queries(desired: &Desired, node: &NodeInfo) -> BTreeSet<Query> {
    let mut queries: BTreeSet<Query> = wanted(desired, node)
        .filter(|resource| resource.kind.behaviour().entries().is_none())
        .flat_map(|resource| queries_of(desired, resource))
        .collect();
    // The gate of every component asks the API server of that node, whose manifest tells the port.
    let manifest = |component| Query::File(manifest_path(component));
    if Component::ALL
        .iter()
        .any(|c| queries.contains(&manifest(*c)))
    {
        queries.insert(manifest(Component::KubeApiserver));
    }
    queries
}

/// Lists what must be asked besides, with the fields of each answer that count. `nodes` are the nodes
/// of the inventory.
pub fn api_queries<'n>(
    desired: &Desired,
    nodes: impl Iterator<Item = &'n NodeInfo>,
) -> BTreeMap<ApiQuery, BTreeSet<FieldPath>> {
    let mut queries: BTreeMap<ApiQuery, BTreeSet<FieldPath>> = BTreeMap::new();
    let required: Vec<(Precondition, &Kind)> = desired
        .resources
        .iter()
        .flat_map(|resource| resource.preconditions().map(|one| (one, &resource.kind)))
        .collect();
    for node in nodes {
        let about = |(one, kind): &(Precondition, &Kind)| one.api_queries(kind, node);
        for (query, path) in required.iter().flat_map(about) {
            queries.entry(query).or_default().insert(path);
        }
        for resource in wanted(desired, node) {
            if resource.queries(desired.distribution).is_none() {
                continue;
            }
            for (query, path) in resource.kind.behaviour().api_queries(&node.name) {
                queries.entry(query).or_default().insert(path);
            }
        }
    }
    queries
}

/// Whether a resource has a copy in `ClusterConfiguration`.
fn rests_on_kubeadm_config(desired: &Desired) -> bool {
    let is_of_component = |r: &Resource| {
        matches!(
            r.kind,
            Kind::Flag(_) | Kind::ComponentFile(_) | Kind::Encryption(_)
        )
    };
    desired.distribution.is_kubeadm() && desired.resources.iter().any(is_of_component)
}

/// Lists everything that a plan for this desired state rests on. What could not be read is not
/// among it: nothing rests on that, and the plan names it as a problem. Neither is what `is_out` says is left out.
pub(super) fn all(
    desired: &Desired,
    facts: &Facts,
    is_out: &dyn Fn(&Resource) -> bool,
) -> Vec<Basis> {
    let mut basis = Vec::new();
    for node in facts.nodes.values() {
        for query in whole_queries(desired, &node.info) {
            if !matches!(node.get(&query), Fact::Unreadable(_)) {
                basis.push(basis_of_node(node, &query));
            }
        }
        // Which file it is tells only what was looked at before.
        if let Fact::Value(answers) = &node.facts
            && desired.encrypts().is_some()
        {
            let is_one = |query: &&Query| matches!(query, Query::Encryption(_));
            let known = |query: &&Query| !matches!(node.get(query), Fact::Unreadable(_));
            let queries = answers.keys().filter(is_one).filter(known);
            basis.extend(queries.map(|query| basis_of_node(node, query)));
        }
        for mode in wanted(desired, &node.info).filter_map(|r| r.kind.behaviour().entries()) {
            let listing = mode.listing().map(|query| node.get(&query));
            if !matches!(listing, None | Some(Fact::Unreadable(_))) {
                basis.push(basis_of_entries(node, mode));
            }
        }
    }
    let config = &facts.api.cluster_configuration;
    if rests_on_kubeadm_config(desired) && !matches!(config, Fact::Unreadable(_)) {
        basis.push(basis_of_cluster_configuration(config));
    }
    let infos = facts.nodes.values().map(|node| &node.info);
    for (query, fields) in api_queries(desired, infos) {
        let answer = facts.api.answer(&query);
        if !matches!(answer, Fact::Unreadable(_)) {
            basis.push(basis_of_answer(&query, &fields, answer));
        }
    }
    let out = desired.resources.iter().filter(|r| is_out(r));
    let out: BTreeSet<&ObjectRef> = out.filter_map(|r| r.kind.behaviour().reference()).collect();
    for (reference, wanted) in referenced_objects(desired) {
        if out.contains(reference) {
            continue;
        }
        if let Some(fact) = facts.api.objects.get(reference)
            && !matches!(fact.live, Fact::Unreadable(_))
        {
            basis.push(basis_of_object(wanted, fact));
        }
    }
    for (reference, fact) in &facts.api.ledger.left {
        if !matches!(fact.live, Fact::Unreadable(_)) {
            basis.push(basis_of_left(reference, fact, &facts.api.ledger.ledger));
        }
    }
    basis
}

/// Returns the basis of what a query brought from a node: of a file the content, mode and owner; of
/// a stat the kind, mode and owner; of a process the command line, so that a mere restart counts for
/// nothing.
pub fn basis_of_node(node: &Node, query: &Query) -> Basis {
    let value = match node.get(query) {
        Fact::Value(Answer::Config(files)) => of_config(query, files),
        Fact::Value(answer) => of_answer(answer),
        Fact::Absent => json!("absent"),
        Fact::Unreadable(_) => json!("unreadable"),
    };
    Basis {
        place: Place::Node(node.info.name.clone()),
        subject: Subject::Query(query.clone()),
        sha256: canonical_sha256(&value),
    }
}

/// What counts of a server's configuration: the arguments and mounts. What else is in it may be secret,
/// and a hash of it would let a weak secret be guessed.
fn of_config(query: &Query, files: &BTreeMap<String, File>) -> Value {
    let layout = match query {
        Query::Config(path) => layout_of(path),
        _ => None,
    };
    match layout.map(|layout| ServerConfig::read(layout, files)) {
        Some(Ok(config)) => json!({"config": config.counted()}),
        Some(Err(error)) => json!({"config": error.to_string()}),
        None => json!({"config": null}),
    }
}

fn of_answer(answer: &Answer) -> Value {
    match answer {
        Answer::Config(_) => json!({"config": null}),
        // It may restart by itself.
        Answer::Unit(unit) => json!({"unit": [unit.options, unit.config]}),
        Answer::File(file) => json!({"file": of_meta(&file.meta), "sha256": sha256(&file.content)}),
        Answer::Stat(stat) => json!({"stat": of_meta(stat)}),
        Answer::Dir(entries) => {
            let entries = entries.iter().map(|(n, m)| json!([n, of_meta(m)]));
            json!({"dir": entries.collect::<Vec<Value>>()})
        }
        Answer::Owners(owners) => json!({"owners": owners}),
        Answer::Account(ids) => json!({"account": ids}),
        Answer::Process(running) => {
            let mut argv: Vec<&Vec<String>> = running.iter().map(|p| &p.argv).collect();
            argv.sort();
            json!({"process": argv})
        }
        Answer::Log(text) => json!({"log": sha256(text)}),
        Answer::Encryption(file) => json!({"encryption": file.sha256, "meta": of_meta(&file.meta)}),
        // The time goes on.
        Answer::Certificates(found) => json!({"certificates": found.list}),
        // Objects come and go.
        Answer::Stored(stored) => json!({"stored": stored.keys().collect::<Vec<_>>()}),
    }
}

/// Returns the basis of the entries of a directory: those that are not as the mode wants them, each
/// with kind, mode and owner. So a plan stands while others come and go, and falls when one that it
/// changes does, or when one comes that it would have changed.
pub fn basis_of_entries(node: &Node, mode: &Mode) -> Basis {
    let entries = match mode.listing().map(|query| node.get(&query)) {
        Some(Fact::Value(Answer::Dir(entries))) => Some(entries),
        _ => None,
    };
    let wrong: Vec<Value> = entries
        .map(|entries| mode.wrong_entries(entries))
        .unwrap_or_default()
        .into_iter()
        .map(|(name, meta, _)| json!([name, of_meta(meta)]))
        .collect();
    Basis {
        place: Place::Node(node.info.name.clone()),
        subject: Subject::Entries(mode.clone()),
        sha256: canonical_sha256(&json!({"entries": wrong})),
    }
}

fn of_meta(meta: &Meta) -> Value {
    json!([meta.kind, meta.mode, meta.owner, meta.group])
}

/// Returns the basis of the text of `ClusterConfiguration`.
pub fn basis_of_cluster_configuration(text: &Fact<String>) -> Basis {
    Basis {
        place: Place::Api,
        subject: Subject::ClusterConfiguration,
        sha256: canonical_sha256(&match text {
            Fact::Value(text) => json!({"text": text}),
            Fact::Absent => json!("absent"),
            Fact::Unreadable(_) => json!("unreadable"),
        }),
    }
}

/// Returns the basis of an answer: of those fields that count. What is not there counts as null.
pub fn basis_of_answer(
    query: &ApiQuery,
    fields: &BTreeSet<FieldPath>,
    answer: Fact<&Value>,
) -> Basis {
    Basis {
        place: Place::Api,
        subject: Subject::Answer {
            query: query.clone(),
            fields: fields.clone(),
        },
        sha256: canonical_sha256(&match answer {
            Fact::Value(value) => fields
                .iter()
                .map(|path| field(value, path).cloned().unwrap_or_default())
                .collect(),
            Fact::Absent => json!("absent"),
            Fact::Unreadable(_) => json!("unreadable"),
        }),
    }
}

/// Returns the basis of an object: whether it exists, and its values of those fields that the wanted
/// object sets. What others change beside them counts for nothing.
pub fn basis_of_object(wanted: &Arc<Value>, fact: &ObjectFact) -> Basis {
    Basis {
        place: Place::Api,
        subject: Subject::Object {
            wanted: wanted.clone(),
        },
        sha256: match (&fact.live, &fact.would) {
            (_, DryRun::Same { sha256 }) => sha256.clone(),
            (Fact::Value(live), _) => sha256_of_object(wanted, live),
            (Fact::Absent, _) => canonical_sha256(&json!("absent")),
            (Fact::Unreadable(_), _) => canonical_sha256(&json!("unreadable")),
        },
    }
}

/// Returns the basis of an object that has left the profile: all of it but what the server counts,
/// whether harden manages it, and what the ledger says of it.
pub fn basis_of_left(reference: &ObjectRef, fact: &LeftFact, ledger: &Fact<Ledger>) -> Basis {
    let entry = ledger.value().and_then(|l| l.entries.get(reference));
    let live = match &fact.live {
        Fact::Value(live) => json!({"object": stripped(live), "ours": bears(live)}),
        Fact::Absent => json!("absent"),
        Fact::Unreadable(_) => json!("unreadable"),
    };
    Basis {
        place: Place::Api,
        subject: Subject::Left {
            reference: reference.clone(),
        },
        sha256: canonical_sha256(&json!({"entry": entry, "live": live})),
    }
}

/// Lists the basis of what the namespaces that are deleted hold: nothing but what the plan names.
pub(super) fn of_contents(stages: &[Stage]) -> Vec<Basis> {
    let steps = stages.iter().flat_map(|stage| &stage.steps);
    let pruned = steps.filter_map(|step| match step {
        Step::Object(ObjectStep {
            reference,
            action: ObjectAction::Prune { contents },
            ..
        }) if is_namespace(reference) => Some((reference, contents)),
        _ => None,
    });
    let basis = pruned.map(|(reference, named)| basis_of_contents(reference, named, &[]));
    basis.collect()
}

/// Returns the basis of what a namespace holds beyond what a plan names. What is gone by now counts for nothing.
fn basis_of_contents(reference: &ObjectRef, named: &[String], more: &[&str]) -> Basis {
    Basis {
        place: Place::Api,
        subject: Subject::Contents {
            reference: reference.clone(),
            named: named.to_vec(),
        },
        sha256: canonical_sha256(&json!({"more": more})),
    }
}

/// Returns the SHA-256 of those parts of a live object that the wanted one names, and of what others added
/// where nothing may be added.
pub fn sha256_of_object(wanted: &Value, live: &Value) -> String {
    sha256_with(wanted, live, &strays(wanted, live))
}

/// The same of an object to which nobody added anything, as one is that proves itself: there are thousands.
pub fn sha256_of_converged(wanted: &Value, live: &Value) -> String {
    sha256_with(wanted, live, &[])
}

fn sha256_with(wanted: &Value, live: &Value, strays: &[Stray]) -> String {
    let mut text = String::from("{\"object\":");
    write_projection(wanted, live, &mut text);
    if !strays.is_empty() {
        text.push_str(",\"strays\":");
        text.push_str(&canonical_json(&json!(strays)));
    }
    text.push('}');
    sha256(text)
}

/// Writes, as canonical JSON, those parts of the live value that the wanted one names. Items of a list
/// are found by name where they have one; other lists count as a whole.
fn write_projection(wanted: &Value, live: &Value, text: &mut String) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let mut both: Vec<_> = wanted
                .iter()
                .filter_map(|(key, value)| Some((key, value, live.get(key)?)))
                .collect();
            both.sort_by_key(|(key, _, _)| *key);
            text.push('{');
            for (at, (key, wanted, live)) in both.into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write_text(key, text);
                text.push(':');
                write_projection(wanted, live, text);
            }
            text.push('}');
        }
        (Value::Array(wanted), Value::Array(items)) => {
            let name = |item: &Value| item.get("name")?.as_str().map(str::to_owned);
            if wanted.is_empty() || wanted.iter().any(|item| name(item).is_none()) {
                return write_canonical(live, text);
            }
            text.push('[');
            for (at, item) in wanted.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                match items.iter().find(|other| name(other) == name(item)) {
                    Some(other) => write_projection(item, other, text),
                    None => text.push_str("null"),
                }
            }
            text.push(']');
        }
        _ => write_canonical(live, text),
    }
}

/// What became of the facts that a plan rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The facts that have moved since.
    pub moved: Vec<String>,
    /// What could not be asked or read, and why: whether it has moved is not known.
    pub unread: Vec<String>,
}

/// Compares what a plan rests on with fresh facts.
pub fn compare(plan: &Plan, facts: &Facts) -> Comparison {
    let mut found = Comparison::default();
    match &facts.api.cluster_id {
        Fact::Unreadable(why) => found.unread.push(format!("API: {why}")),
        id if id.value() != Some(&plan.cluster.id) => found
            .moved
            .push("API: this is another cluster, by the uid of namespace kube-system".to_owned()),
        _ => {}
    }
    for old in &plan.basis {
        match now(old, facts) {
            Err(why) if !found.unread.contains(&why) => found.unread.push(why),
            Err(_) => {}
            Ok(new) if new.as_ref().map(|new| &new.sha256) == Some(&old.sha256) => {}
            Ok(_) => found.moved.push(format!(
                "{}: {}{}",
                old.place,
                old.subject,
                more(old, facts)
            )),
        }
    }
    found
}

/// What a namespace holds by now that the plan does not name.
fn more(old: &Basis, facts: &Facts) -> String {
    let Subject::Contents { reference, named } = &old.subject else {
        return String::new();
    };
    let fact = facts.api.ledger.left.get(reference);
    let held = fact.and_then(|fact| fact.contents.value());
    let new = held.map_or_else(Vec::new, |held| beyond(held, named));
    match new.len().saturating_sub(NAMED) {
        0 if new.is_empty() => String::new(),
        0 => format!(", by now also {}", new.join(", ")),
        more => format!(", by now also {} and {more} more", new[..NAMED].join(", ")),
    }
}

/// Returns the basis as it is now; `None` when what it was looked at is gone, an error when it could
/// not be looked at.
fn now(old: &Basis, facts: &Facts) -> Result<Option<Basis>, String> {
    let unread = |why: &str| Err(format!("{}: {}: {why}", old.place, old.subject));
    let of_node = |name: &str, query: &Query, basis: &dyn Fn(&Node) -> Basis| {
        let Some(node) = facts.nodes.get(name) else {
            return Ok(None);
        };
        match (&node.facts, node.get(query)) {
            (Fact::Unreadable(why), _) => Err(format!("{name} could not be asked: {why}")),
            (_, Fact::Unreadable(why)) => unread(&why),
            _ => Ok(Some(basis(node))),
        }
    };
    Ok(match (&old.place, &old.subject) {
        (Place::Node(name), Subject::Query(query)) => {
            of_node(name, query, &|node| basis_of_node(node, query))?
        }
        (Place::Node(name), Subject::Entries(mode)) => match mode.listing() {
            Some(listing) => of_node(name, &listing, &|node| basis_of_entries(node, mode))?,
            None => None,
        },
        (Place::Api, Subject::ClusterConfiguration) => match &facts.api.cluster_configuration {
            Fact::Unreadable(why) => return unread(why),
            text => Some(basis_of_cluster_configuration(text)),
        },
        (Place::Api, Subject::Answer { query, fields }) => match facts.api.answer(query) {
            Fact::Unreadable(why) => return unread(&why),
            answer => Some(basis_of_answer(query, fields, answer)),
        },
        (Place::Api, Subject::Object { wanted }) => {
            match ObjectRef::of(wanted).and_then(|reference| facts.api.objects.get(&reference)) {
                None => None,
                Some(fact) => match &fact.live {
                    Fact::Unreadable(why) => return unread(why),
                    _ => Some(basis_of_object(wanted, fact)),
                },
            }
        }
        (Place::Api, Subject::Left { reference }) => {
            let seen = &facts.api.ledger;
            match (&seen.ledger, seen.left.get(reference)) {
                (Fact::Unreadable(why), _) => return unread(why),
                (_, None) => None,
                (_, Some(fact)) => match &fact.live {
                    Fact::Unreadable(why) => return unread(why),
                    _ => Some(basis_of_left(reference, fact, &seen.ledger)),
                },
            }
        }
        (Place::Api, Subject::Contents { reference, named }) => {
            let fact = facts.api.ledger.left.get(reference);
            match fact.map(|fact| (&fact.live, &fact.contents)) {
                // That it is gone, its own basis tells.
                None | Some((Fact::Absent, _)) => Some(basis_of_contents(reference, named, &[])),
                Some((Fact::Unreadable(why), _) | (_, Fact::Unreadable(why))) => {
                    return unread(why);
                }
                Some((_, Fact::Absent)) => return unread("it was not asked"),
                Some((_, Fact::Value(held))) => {
                    Some(basis_of_contents(reference, named, &beyond(held, named)))
                }
            }
        }
        _ => None,
    })
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Query(query) => query.fmt(f),
            Subject::Entries(mode) => mode.fmt(f),
            Subject::ClusterConfiguration => write!(
                f,
                "ClusterConfiguration in ConfigMap {CONFIG_NAMESPACE}/{CONFIG_NAME}"
            ),
            Subject::Answer { query, .. } => query.fmt(f),
            Subject::Contents { reference, .. } => write!(f, "what {reference} holds"),
            Subject::Left { reference } => write!(f, "{reference}, which has left the profile"),
            Subject::Object { wanted } => match ObjectRef::of(wanted) {
                Some(reference) => reference.fmt(f),
                None => f.write_str("an object without a name"),
            },
        }
    }
}
