//! `[[object]]`: an API object, applied server-side by field manager `harden`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Behaviour, Difference, Draft, Effect, Kind, Part, Place, Resource, Subject};
use crate::distribution::k3s::Layout;
use crate::fact::{DryRun, Fact, Facts, ObjectFact, ObjectRef, Query};

/// Those fields of an object that the profile sets; all others belong to others.
///
/// A dry run of the server-side apply says what would change. When nothing would but the ownership
/// of the fields (another manager set them to the same values), that is no change: the object is as
/// wanted, and an apply that only writes managedFields would be noise in every plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Object {
    #[serde(skip)]
    reference: ObjectRef,
    manifest: Value,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    manifest: Value,
}

impl Object {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[object]]
    /// manifest = { apiVersion = "v1", kind = "Namespace", metadata = { name = "payments" } }
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let manifest = table.manifest;
        let reference = ObjectRef::of(&manifest)
            .ok_or("manifest: it needs apiVersion, kind and metadata.name as text")?;
        for field in [
            "status",
            "metadata.managedFields",
            "metadata.resourceVersion",
        ] {
            let pointer = format!("/{}", field.replace('.', "/"));
            if manifest.pointer(&pointer).is_some() {
                return Err(format!("manifest.{field}: only the server sets it"));
            }
        }
        // Evaluation, plans and records would all hold it in the clear.
        if reference.api_version == "v1" && reference.kind == "Secret" {
            return Err("manifest.kind: a Secret does not belong in a profile".into());
        }
        Ok(Object {
            reference,
            manifest,
        })
    }

    /// Returns the fields that are wanted.
    pub(super) fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Returns the fields that are wanted, to add to them.
    pub(super) fn manifest_mut(&mut self) -> &mut Value {
        &mut self.manifest
    }

    fn create(&self, resource: &Resource, draft: &mut Draft) {
        let identity = ["apiVersion", "kind", "metadata.name", "metadata.namespace"];
        let lines: Vec<String> = fields(&self.manifest)
            .into_iter()
            .filter(|(path, _)| !identity.contains(&path.as_str()))
            .map(|(path, value)| format!("{path}: {value}"))
            .collect();
        let found = Difference {
            after: Some(format!("new {}", self.reference)),
            diff: (!lines.is_empty()).then(|| lines.join("\n")),
            ..Difference::default()
        };
        draft.change(resource, found, vec![self.effect()]);
    }

    fn update(&self, resource: &Resource, lines: Vec<String>, draft: &mut Draft) {
        let fields = match lines.len() {
            1 => "1 field".to_owned(),
            n => format!("{n} fields"),
        };
        let found = Difference {
            before: Some(self.reference.to_string()),
            after: Some(format!("{fields} changed")),
            diff: Some(lines.join("\n")),
            ..Difference::default()
        };
        draft.change(resource, found, vec![self.effect()]);
    }

    /// Whether the object has no namespace, or the profile makes it.
    fn namespace_is_wanted(&self, facts: &Facts) -> bool {
        let namespace = ObjectRef {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            namespace: String::new(),
            name: self.reference.namespace.clone(),
        };
        self.reference.namespace.is_empty() || facts.api.objects.contains_key(&namespace)
    }

    fn effect(&self) -> Effect {
        Effect::Object {
            reference: self.reference.clone(),
            wanted: self.manifest.clone(),
        }
    }
}

impl Behaviour for Object {
    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        let kind = self.manifest.get("kind").and_then(Value::as_str);
        let subject = Subject::Object(kind.unwrap_or_default().to_owned());
        vec![(subject, serde_json::json!({"object": self.manifest}))]
    }

    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::Object {
            reference: self.reference.clone(),
            manifest: self.manifest.clone(),
        }]
    }

    fn queries(&self) -> Vec<Query> {
        Vec::new()
    }

    fn object(&self) -> Option<&Value> {
        Some(&self.manifest)
    }

    fn unite(&self, other: &Kind) -> Option<Result<Kind, String>> {
        match other {
            Kind::Allowance(more) => Some(more.added_to(self).map(Kind::Object)),
            _ => None,
        }
    }

    fn queries_on_k3s(&self, _: &'static Layout) -> Option<Vec<Query>> {
        Some(self.queries())
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let fact = facts.api.objects.get(&self.reference);
        let mut error = |message: String, remedy: &str| {
            draft.error(resource, Place::Api, message, remedy);
        };
        let Some(ObjectFact { live, would }) = fact else {
            return error("it was not looked at".into(), "plan again");
        };
        match (live, would) {
            (Fact::Unreadable(why), _) => error(
                format!("it could not be read: {why}"),
                "give the kubeconfig's user the right to get it, and plan again",
            ),
            (_, DryRun::Refused(words)) => error(
                format!("the API server refuses it: {words}"),
                "correct the option, or what the server objects to, and plan again",
            ),
            (_, DryRun::Conflict(conflicts)) => {
                for conflict in conflicts {
                    error(
                        format!("{} belongs to {:?}", conflict.field, conflict.manager),
                        "leave the field to that manager and unset the option, or have the manager give it up",
                    );
                }
                if conflicts.is_empty() {
                    error(
                        "the API server reports a conflict without saying of what".into(),
                        "look at `kubectl get --show-managed-fields`, and plan again",
                    );
                }
            }
            (Fact::Absent, DryRun::NotAsked) if !self.namespace_is_wanted(facts) => error(
                format!(
                    "its namespace {} does not exist, and the profile does not make it",
                    self.reference.namespace
                ),
                "create the namespace, or have the profile make it",
            ),
            (Fact::Absent, DryRun::NotAsked | DryRun::Object(_)) => self.create(resource, draft),
            (Fact::Value(_), DryRun::NotAsked) => error(
                "the API server was not asked what would change".into(),
                "plan again",
            ),
            (Fact::Value(live), DryRun::Object(would)) => {
                let lines = changed_fields(&stripped(live), &stripped(would));
                if !lines.is_empty() {
                    self.update(resource, lines, draft);
                }
            }
        }
    }
}

/// Returns an object without what the server alone keeps.
pub(crate) fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "managedFields",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "uid",
            ] {
                metadata.remove(field);
            }
        }
    }
    object
}

/// Lists the fields that differ between two objects, sorted by path, as
/// `spec.hard.pods: "10" → "20"`.
pub fn changed_fields(before: &Value, after: &Value) -> Vec<String> {
    let (before, after) = (fields(before), fields(after));
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let show = |value: Option<&String>| value.map_or_else(|| "nothing".into(), Clone::clone);
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| {
            let (old, new) = (show(before.get(path)), show(after.get(path)));
            format!("{path}: {old} → {new}")
        })
        .collect()
}

/// Lists the leaves of an object by path. Items of a list go by their name where each has its own,
/// by their number otherwise.
fn fields(object: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(object, String::new(), &mut found);
    found
}

fn collect(value: &Value, path: String, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let plain = !key.is_empty() && !key.contains(['.', '[', ']', '"', ' ']);
                let path = match (plain, path.is_empty()) {
                    (true, true) => key.clone(),
                    (true, false) => format!("{path}.{key}"),
                    (false, _) => format!("{path}[{}]", Value::from(key.as_str())),
                };
                collect(value, path, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let names: std::collections::BTreeSet<&str> =
                items.iter().filter_map(item_name).collect();
            for (number, item) in items.iter().enumerate() {
                let key = match item_name(item) {
                    Some(name) if names.len() == items.len() => name.to_owned(),
                    _ => number.to_string(),
                };
                collect(item, format!("{path}[{key}]"), found);
            }
        }
        leaf => {
            found.insert(path, crate::fact::canonical_json(leaf));
        }
    }
}

fn item_name(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}
