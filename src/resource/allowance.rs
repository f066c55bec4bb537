//! `[[allowance]]`: annotations of a namespace that admission policies compare its requests with.
//!
//! The expressions of a ValidatingAdmissionPolicy read no JSON, and an annotation is a text, so that
//! what a tenant may is written as lines, sorted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::object::Object;
use super::{Behaviour, Draft, Kind, Part, Resource, Subject};
use crate::distribution::k3s::Layout;
use crate::fact::{Facts, ObjectRef, Query};

/// The label that the API server itself sets on a namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What begins the annotations' names.
const PREFIX: &str = "harden.dev/";

/// The annotations that hold lines.
const LISTS: &[&str] = &["registries", "namespaces", "accounts", "ingress", "egress"];

/// What is allowed in one namespace. It becomes one with others of the same namespace, whose lines are
/// added, and with the `[[object]]` that is the namespace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Allowance(Object);

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    namespace: String,
    network: Option<String>,
    image_digests: Option<bool>,
    image_latest: Option<bool>,
    /// An empty list allows none, and no list any.
    registries: Option<BTreeSet<String>>,
    #[serde(default)]
    namespaces: BTreeSet<String>,
    /// Lists of RBAC subjects, of which the service accounts count.
    #[serde(default)]
    subjects: Vec<Vec<Value>>,
    /// NetworkPolicyIngressRules.
    #[serde(default)]
    ingress: Vec<Value>,
    /// NetworkPolicyEgressRules.
    #[serde(default)]
    egress: Vec<Value>,
    #[serde(default)]
    ingress_namespaces: BTreeSet<String>,
    #[serde(default)]
    egress_namespaces: BTreeSet<String>,
}

impl Allowance {
    /// Reads a module's table. The annotations, behind `harden.dev/`:
    ///
    /// - `network`, `image-digests`, `image-latest`: as they are;
    /// - `registries`, `namespaces`: one a line;
    /// - `accounts`: service accounts by their user names, `system:serviceaccount:ci:deployer`;
    /// - `ingress`, `egress`: what the rules allow, a peer and a port a line, as six words: `cidr` or
    ///   `namespace`; the network, or the namespace's name; networks left out, with commas; the
    ///   protocol; the first and the last port. `-` is none, `*` is any. A port with a name has it
    ///   as first and the word `name` as last.
    ///
    /// Peers that are narrowed by labels of pods or namespaces are in no line: what allows less than
    /// them cannot be told.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let mut lines: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        let mut add = |key, more: BTreeSet<String>| {
            if !more.is_empty() {
                lines.entry(key).or_default().extend(more);
            }
        };
        add("namespaces", table.namespaces);
        add("accounts", accounts(&table.subjects));
        add("ingress", rules("ingress", &table.ingress, "from")?);
        add("egress", rules("egress", &table.egress, "to")?);
        let whole = |name: String| format!("namespace {name} - * - -");
        let all = |names: BTreeSet<String>| names.into_iter().map(whole).collect();
        add("ingress", all(table.ingress_namespaces));
        add("egress", all(table.egress_namespaces));
        if let Some(registries) = table.registries {
            lines.entry("registries").or_default().extend(registries);
        }
        for line in lines.values().flatten() {
            if line.chars().any(|c| c.is_control()) {
                return Err(format!("{line:?} holds a control character"));
            }
        }
        let words = [
            ("network", table.network),
            ("image-digests", table.image_digests.map(|b| b.to_string())),
            ("image-latest", table.image_latest.map(|b| b.to_string())),
        ];
        let words = words
            .into_iter()
            .filter_map(|(key, word)| Some((key, word?)));
        let texts = lines.into_iter().map(|(key, all)| {
            let all: Vec<String> = all.into_iter().collect();
            (key, all.join("\n"))
        });
        let annotation = |(key, text)| (format!("{PREFIX}{key}"), Value::String(text));
        let annotations: Map<String, Value> = words.chain(texts).map(annotation).collect();
        let object = Object::from_table(json!({ "manifest": {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": table.namespace, "annotations": annotations },
        }}))?;
        Ok(Allowance(object))
    }

    /// Adds these annotations to those of an object.
    ///
    /// # Errors
    /// What is wanted in two ways.
    pub(super) fn added_to(&self, object: &Object) -> Result<Object, String> {
        let mut object = object.clone();
        let pointer = "/metadata/annotations";
        let ours = self
            .0
            .manifest()
            .pointer(pointer)
            .and_then(Value::as_object);
        let metadata = object.manifest_mut().get_mut("metadata");
        let Some(metadata) = metadata.and_then(Value::as_object_mut) else {
            return Err("it has no metadata".into());
        };
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        let Some(annotations) = annotations.as_object_mut() else {
            return Err("metadata.annotations is no table".into());
        };
        for (key, text) in ours.into_iter().flatten() {
            let both = match (annotations.get(key), text) {
                (Some(Value::String(known)), Value::String(text)) => united(key, known, text)?,
                (Some(_), _) => return Err(format!("{key} is no text")),
                (None, _) => text.clone(),
            };
            annotations.insert(key.clone(), both);
        }
        Ok(object)
    }
}

/// One annotation of two: the same, or the lines of both.
fn united(key: &str, one: &str, other: &str) -> Result<Value, String> {
    if one == other {
        return Ok(one.into());
    }
    let list = key
        .strip_prefix(PREFIX)
        .is_some_and(|key| LISTS.contains(&key));
    if !list {
        return Err(format!("{key} is {one} and {other}"));
    }
    let lines: BTreeSet<&str> = one.split('\n').chain(other.split('\n')).collect();
    let lines: Vec<&str> = lines.into_iter().collect();
    Ok(lines.join("\n").into())
}

/// The user names of the service accounts among subjects.
fn accounts(subjects: &[Vec<Value>]) -> BTreeSet<String> {
    let text = |subject: &Value, key: &str| Some(subject.get(key)?.as_str()?.to_owned());
    let of_account = |subject: &Value| {
        let (name, namespace) = (text(subject, "name")?, text(subject, "namespace")?);
        (text(subject, "kind")? == "ServiceAccount")
            .then(|| format!("system:serviceaccount:{namespace}:{name}"))
    };
    subjects.iter().flatten().filter_map(of_account).collect()
}

/// Writes rules as lines. `peers` is the key that has them.
fn rules(option: &str, rules: &[Value], peers: &str) -> Result<BTreeSet<String>, String> {
    let mut lines = BTreeSet::new();
    for rule in rules {
        let list = |key: &str| rule.get(key).and_then(Value::as_array);
        let to = match list(peers).filter(|peers| !peers.is_empty()) {
            None => ["cidr 0.0.0.0/0 -", "cidr ::/0 -", "namespace * -"]
                .map(str::to_owned)
                .to_vec(),
            Some(peers) => peers.iter().flat_map(peer).collect(),
        };
        let ports = match list("ports").filter(|ports| !ports.is_empty()) {
            None => vec!["* - -".to_owned()],
            Some(ports) => ports.iter().filter_map(port).collect(),
        };
        for (to, port) in to.iter().flat_map(|to| ports.iter().map(move |p| (to, p))) {
            let line = format!("{to} {port}");
            if line.split(' ').count() != 6 || line.chars().any(char::is_control) {
                return Err(format!(
                    "{option}: {line:?} holds a blank or a control character"
                ));
            }
            lines.insert(line);
        }
    }
    Ok(lines)
}

/// The first three words of a peer.
fn peer(peer: &Value) -> Vec<String> {
    if let Some(block) = peer.get("ipBlock") {
        let except = block.get("except").and_then(Value::as_array);
        let except: Vec<&str> = except
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let except = match except.is_empty() {
            true => "-".to_owned(),
            false => except.join(","),
        };
        let cidr = block.get("cidr").and_then(Value::as_str);
        let line = |cidr| format!("cidr {cidr} {except}");
        return cidr.map(line).into_iter().collect();
    }
    let is_empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    let narrowed = peer.get("podSelector").is_some_and(|pods| !is_empty(pods));
    let Some(selector) = peer.get("namespaceSelector").filter(|_| !narrowed) else {
        return Vec::new();
    };
    let names = if is_empty(selector) {
        vec!["*"]
    } else {
        names(selector)
    };
    let line = |name| format!("namespace {name} -");
    names.into_iter().map(line).collect()
}

/// The namespaces that a selector means by their names and by nothing else.
fn names(selector: &Value) -> Vec<&str> {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let labels = labels.filter(|labels| !labels.is_empty());
    let wants = selector.get("matchExpressions").and_then(Value::as_array);
    let wants = wants.filter(|wants| !wants.is_empty());
    match (labels, wants.map(Vec::as_slice)) {
        (Some(labels), None) if labels.len() == 1 => {
            let name = labels.get(NAMESPACE_NAME).and_then(Value::as_str);
            name.into_iter().collect()
        }
        (None, Some([want])) => {
            let is = |key: &str, word: &str| want.get(key).and_then(Value::as_str) == Some(word);
            let values = want.get("values").and_then(Value::as_array);
            let values = values.filter(|_| is("key", NAMESPACE_NAME) && is("operator", "In"));
            values
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The last three words, of a port. Without a protocol it is TCP.
/// Source: kubernetes v1.35 `pkg/apis/networking/v1/defaults.go`.
fn port(port: &Value) -> Option<String> {
    let protocol = port.get("protocol").and_then(Value::as_str);
    let protocol = protocol.unwrap_or("TCP");
    match port.get("port") {
        None => Some(format!("{protocol} - -")),
        Some(Value::String(name)) => Some(format!("{protocol} {name} name")),
        Some(first) => {
            let first = first.as_u64()?;
            let last = port.get("endPort").and_then(Value::as_u64);
            Some(format!("{protocol} {first} {}", last.unwrap_or(first)))
        }
    }
}

impl Behaviour for Allowance {
    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        self.0.as_wanted()
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn parts(&self) -> Vec<Part> {
        self.0.parts()
    }

    fn queries(&self) -> Vec<Query> {
        self.0.queries()
    }

    fn object(&self) -> Option<&Value> {
        self.0.object()
    }

    fn reference(&self) -> Option<&ObjectRef> {
        self.0.reference()
    }

    fn unite(&self, other: &Kind) -> Option<Result<Kind, String>> {
        match other {
            Kind::Allowance(other) => {
                let both = self.added_to(&other.0);
                Some(both.map(|both| Kind::Allowance(Allowance(both))))
            }
            Kind::Object(namespace) => Some(self.added_to(namespace).map(Kind::Object)),
            _ => None,
        }
    }

    fn queries_on_k3s(&self, layout: &'static Layout) -> Option<Vec<Query>> {
        self.0.queries_on_k3s(layout)
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        self.0.diff(resource, facts, draft);
    }
}
