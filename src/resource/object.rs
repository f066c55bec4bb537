//! `[[object]]`: an API object, applied server-side by field manager `harden`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::leaving::{bears, is_free};
use super::stray::{Stray, strays, without};
use super::{
    Behaviour, Difference, Draft, Effect, Kind, Part, Place, Problem, Resource, Risk, Severity,
    Subject,
};
use crate::distribution::k3s::Layout;
use crate::fact::ledger::{LEDGER_NAMESPACE, LEDGER_PREFIX};
use crate::fact::{
    DryRun, Fact, Facts, FieldConflict, ObjectFact, ObjectRef, Query, Untried, below, held_by,
};

/// Those fields of an object that the profile sets; all others belong to others.
///
/// A dry run of the server-side apply says what would change. An object that is as wanted and of which
/// harden owns nothing is adopted, once: fields that leave the profile one day would stay otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Object {
    #[serde(skip)]
    reference: ObjectRef,
    #[serde(serialize_with = "crate::fact::shared::serialize")]
    manifest: Arc<Value>,
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
        let manifest = match value {
            // There are thousands: what the table holds is taken as it is.
            Value::Object(mut table) if table.len() == 1 && table.contains_key("manifest") => {
                table.remove("manifest").unwrap_or_default()
            }
            value => {
                let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
                table.manifest
            }
        };
        let reference = ObjectRef::of(&manifest)
            .ok_or("manifest: it needs apiVersion, kind and metadata.name as text")?;
        for field in [
            &["status"][..],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ] {
            if below(&manifest, field).is_some() {
                let field = field.join(".");
                return Err(format!("manifest.{field}: only the server sets it"));
            }
        }
        if reference.namespace == LEDGER_NAMESPACE && reference.name.starts_with(LEDGER_PREFIX) {
            return Err("manifest.metadata.name: the ledger is harden's own".into());
        }
        // Evaluation, plans and records would all hold it in the clear.
        if reference.api_version == "v1" && reference.kind == "Secret" {
            return Err("manifest.kind: a Secret does not belong in a profile".into());
        }
        Ok(Object {
            reference,
            manifest: Arc::new(manifest),
        })
    }

    /// Returns the fields that are wanted.
    pub(super) fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Returns the fields that are wanted, to add to them.
    pub(super) fn manifest_mut(&mut self) -> &mut Value {
        Arc::make_mut(&mut self.manifest)
    }

    fn create(&self, resource: &Resource, draft: &mut Draft) {
        let identity = ["apiVersion", "kind", "metadata.name", "metadata.namespace"];
        let mut lines: Vec<(String, String)> = fields(&self.manifest).into_iter().collect();
        lines.sort_by(|(a, _), (b, _)| by_number(a, b));
        let lines: Vec<String> = lines
            .into_iter()
            .filter(|(path, _)| !identity.contains(&path.as_str()))
            .map(|(path, value)| format!("{path}: {value}"))
            .collect();
        let found = Difference {
            after: Some(format!("new {}", self.reference)),
            diff: (!lines.is_empty()).then(|| lines.join("\n")),
            ..Difference::default()
        };
        draft.change(resource, found, vec![self.effect(&[], Vec::new())]);
    }

    fn update(
        &self,
        resource: &Resource,
        lines: Vec<String>,
        taken: &[FieldConflict],
        strays: Vec<Stray>,
        draft: &mut Draft,
    ) {
        let fields = count(lines.len());
        let managers: BTreeSet<&str> = theirs(taken).map(|one| one.manager.as_str()).collect();
        let managers: Vec<String> = managers.iter().map(|name| format!("{name:?}")).collect();
        let after = match managers.as_slice() {
            [] => format!("{fields} changed"),
            managers => format!(
                "{} taken from {}",
                count(theirs(taken).count()),
                managers.join(", ")
            ),
        };
        let found = Difference {
            before: Some(self.reference.to_string()),
            after: Some(after),
            diff: Some(lines.join("\n")),
            ..Difference::default()
        };
        draft.change(resource, found, vec![self.effect(taken, strays)]);
    }

    /// The fields that change, and those of them that an apply alone would leave.
    fn changed(&self, live: &Value, would: &Value) -> (Vec<String>, Vec<Stray>) {
        let strays = strays(&self.manifest, would);
        let after = without(would, &strays);
        (changed_fields(&stripped(live), &stripped(&after)), strays)
    }

    /// The fields that change besides those that belong to others. The server does not say, since it refuses
    /// the whole; so these are the wanted values and the strays.
    fn beside(&self, conflicts: &[FieldConflict], live: Option<&Value>) -> Vec<String> {
        let Some(live) = live else { return Vec::new() };
        let (lines, _) = self.changed(live, &self.overlaid(live));
        // The server writes `.spec.hard.requests.cpu` where a line here has `spec.hard["requests.cpu"]`.
        let plain = |path: &str| path.replace(['[', ']', '"', '.'], "");
        let known: Vec<String> = theirs(conflicts).map(|one| plain(&one.field)).collect();
        let path = |line: &String| plain(line.split(": ").next().unwrap_or_default());
        let is_other = |line: &String| !known.iter().any(|one| path(line).starts_with(one));
        lines.into_iter().filter(is_other).collect()
    }

    /// The live object with the wanted values in their places, as far as that can be told here.
    fn overlaid(&self, live: &Value) -> Value {
        let managers = live.pointer("/metadata/managedFields");
        let managers = managers.and_then(Value::as_array).into_iter().flatten();
        let owned: Vec<&Value> = managers.filter_map(|one| one.get("fieldsV1")).collect();
        overlaid(live, &self.manifest, &owned)
    }

    /// What is as wanted and was made by somebody else: unless harden owns the fields, one that leaves the
    /// profile would stay.
    fn adopt(&self, resource: &Resource, draft: &mut Draft) {
        let found = Difference {
            before: Some("as wanted, and not managed by harden".into()),
            after: Some("managed by harden as well".into()),
            risk: Some(Risk::Safe),
            ..Difference::default()
        };
        draft.change(resource, found, vec![self.effect(&[], Vec::new())]);
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

    fn effect(&self, taken: &[FieldConflict], strays: Vec<Stray>) -> Effect {
        Effect::Object {
            reference: self.reference.clone(),
            wanted: Value::clone(&self.manifest),
            taken: taken.to_vec(),
            strays,
        }
    }
}

impl Behaviour for Object {
    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        let kind = self.manifest.get("kind").and_then(Value::as_str);
        let subject = Subject::Object(kind.unwrap_or_default().to_owned());
        vec![(subject, serde_json::json!({"object": *self.manifest}))]
    }

    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::Object {
            reference: self.reference.clone(),
            manifest: Value::clone(&self.manifest),
        }]
    }

    fn queries(&self) -> Vec<Query> {
        Vec::new()
    }

    fn object(&self) -> Option<&Value> {
        Some(&self.manifest)
    }

    fn reference(&self) -> Option<&ObjectRef> {
        Some(&self.reference)
    }

    fn shared_object(&self) -> Option<&Arc<Value>> {
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
            // The server looks for a kind with its scope: one of the other scope it does not find.
            (_, DryRun::NoSuchKind) => match self.reference.namespace.is_empty() {
                true => error(
                    format!(
                        "the cluster has no kind {} in {} that is in no namespace",
                        self.reference.kind, self.reference.api_version
                    ),
                    "install its CustomResourceDefinition first, correct apiVersion and kind, or give it its namespace if the kind needs one, and plan again",
                ),
                false => error(
                    format!(
                        "the cluster has no kind {} in {} that is in namespaces",
                        self.reference.kind, self.reference.api_version
                    ),
                    "install its CustomResourceDefinition first, correct apiVersion and kind, or leave its namespace out if the kind is cluster-scoped, and plan again",
                ),
            },
            (_, DryRun::NamespaceEnds) => error(
                format!(
                    "its namespace {} is being deleted",
                    self.reference.namespace
                ),
                "wait until the namespace is gone (`kubectl get namespace -o yaml` shows what it waits for), and plan again",
            ),
            (Fact::Value(live), _) if is_being_deleted(live) => error(
                format!("it is being deleted{}", held_by(live)),
                "wait until it is gone, or have whoever set what holds it finish, and plan again",
            ),
            (_, DryRun::Refused(words)) if cannot_change(words) => error(
                format!("the API server refuses it: {words}"),
                &format!(
                    "Kubernetes does not let it change once it is there: `{}` first, and the next apply makes it anew; what it gave is not there in between. Or give the new one another name ({})",
                    deletion(&self.reference),
                    places(resource)
                ),
            ),
            (_, DryRun::Refused(words)) => error(
                format!("the API server refuses it: {words}"),
                &format!(
                    "correct {}, or what the server objects to, and plan again",
                    places(resource)
                ),
            ),
            (_, DryRun::Conflict(conflicts)) => {
                for conflict in theirs(conflicts) {
                    error(
                        format!("{} belongs to {:?}", conflict.field, conflict.manager),
                        "leave the field to that manager and unset the option, have the manager give it up, or take it with `--take-from MANAGER`; `--except KIND/NAMESPACE/NAME` leaves the object as it is and lets the rest be applied",
                    );
                }
                if theirs(conflicts).next().is_none() {
                    error(
                        "the API server reports a conflict without saying of what".into(),
                        "look at `kubectl get --show-managed-fields`, and plan again",
                    );
                }
                let others = self.beside(conflicts, live.value());
                if theirs(conflicts).next().is_some() && !others.is_empty() {
                    error(
                        format!(
                            "what else differs is left undone with it: {}",
                            others.join("; ")
                        ),
                        "settle whose the fields above are, and plan again",
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
            (Fact::Value(_), DryRun::Same { .. }) => {}
            (Fact::Absent, DryRun::Same { .. } | DryRun::Taken { .. })
            | (Fact::Value(_), DryRun::NotAsked) => error(
                "the API server was not asked what would change".into(),
                "plan again",
            ),
            (Fact::Value(live), DryRun::Object(would)) => {
                let (lines, strays) = self.changed(live, would);
                if !lines.is_empty() {
                    self.update(resource, lines, &[], strays, draft);
                } else if !bears(live) && bears(would) {
                    self.adopt(resource, draft);
                }
            }
            (Fact::Value(live), DryRun::Taken { object, from }) => {
                let (mut lines, strays) = self.changed(live, object);
                lines.extend(
                    theirs(from).map(|one| format!("{}: taken from {:?}", one.field, one.manager)),
                );
                self.update(resource, lines, from, strays, draft);
            }
            (live, DryRun::Untried(why, words)) => {
                draft.problems.push(untried(self.name(), *why, words));
                let Fact::Value(live) = live else {
                    return self.create(resource, draft);
                };
                let (lines, strays) = self.changed(live, &self.overlaid(live));
                if !lines.is_empty() {
                    self.update(resource, lines, &[], strays, draft);
                }
            }
        }
    }
}

/// Whether the server says that a field can only be set when an object is made.
/// Source: kubernetes v1.35 `pkg/apis/rbac/validation/validation.go` (roleRef), and apimachinery v0.35
/// `pkg/api/validation/objectmeta.go`, `FieldImmutableErrorMsg`.
fn cannot_change(words: &str) -> bool {
    words.contains("cannot change roleRef") || words.contains("field is immutable")
}

/// The command that deletes an object.
fn deletion(reference: &ObjectRef) -> String {
    let (group, kind, namespace, name) = reference.identity();
    let kind = match group {
        "" => kind.to_lowercase(),
        group => format!("{}.{group}", kind.to_lowercase()),
    };
    match namespace {
        "" => format!("kubectl delete {kind} {name}"),
        _ => format!("kubectl delete -n {namespace} {kind} {name}"),
    }
}

/// Where what an object says stands in the profile.
fn places(resource: &Resource) -> String {
    let origins: BTreeSet<String> = resource.origins.iter().map(ToString::to_string).collect();
    let origins: Vec<String> = origins.into_iter().collect();
    match origins.as_slice() {
        [] => "the option".into(),
        [last] => last.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The conflicts with somebody who may want the field otherwise.
fn theirs(conflicts: &[FieldConflict]) -> impl Iterator<Item = &FieldConflict> {
    conflicts.iter().filter(|one| !is_free(&one.manager))
}

fn count(fields: usize) -> String {
    match fields {
        1 => "1 field".to_owned(),
        n => format!("{n} fields"),
    }
}

fn is_being_deleted(live: &Value) -> bool {
    below(live, &["metadata", "deletionTimestamp"]).is_some()
}

/// Says that an object could only be compared here, and why. A comparison here sees the values of the
/// fields that are wanted; it does not see what the server fills in, refuses or removes.
fn untried(subject: String, why: Untried, words: &str) -> Problem {
    let remedy = match why {
        Untried::NoRight => {
            "for the server's own word, give the kubeconfig's user the right to patch and create it; apply needs that too"
        }
        Untried::Webhook => {
            "have the webhook's owner declare sideEffects None or NoneOnDryRun; apply works without it"
        }
    };
    Problem {
        severity: Severity::Warning,
        place: Place::Api,
        subject,
        message: format!(
            "the API server could not be asked what would change, so only the wanted values were compared: {words}"
        ),
        remedy: remedy.into(),
    }
}

/// Returns a live object with the wanted values in their places. Items of a list are found by their name
/// where the field managers show that the server finds them so; other lists are replaced. `owned` is what
/// managers own at this place, as fieldsV1.
fn overlaid(live: &Value, wanted: &Value, owned: &[&Value]) -> Value {
    let below = |key: &str| -> Vec<&Value> { owned.iter().filter_map(|o| o.get(key)).collect() };
    let by_key = |owned: &&Value| {
        let fields = owned.as_object();
        fields.is_some_and(|all| all.keys().any(|key| key.starts_with("k:")))
    };
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let mut all = live.clone();
            for (key, value) in wanted {
                let under = live.get(key).unwrap_or(&Value::Null);
                let owned = below(&format!("f:{key}"));
                all.insert(key.clone(), overlaid(under, value, &owned));
            }
            Value::Object(all)
        }
        (Value::Array(live), Value::Array(wanted))
            if owned.iter().any(by_key)
                && !wanted.is_empty()
                && wanted.iter().chain(live).all(|i| item_name(i).is_some()) =>
        {
            let mut all = live.clone();
            for item in wanted {
                let key = item_name(item).map(|name| serde_json::json!({"name": name}));
                let owned = key.map_or_else(Vec::new, |key| below(&format!("k:{key}")));
                match all.iter_mut().find(|one| item_name(one) == item_name(item)) {
                    Some(one) => *one = overlaid(one, item, &owned),
                    None => all.push(item.clone()),
                }
            }
            Value::Array(all)
        }
        // The server does not keep an empty list.
        (Value::Null, Value::Array(wanted)) if wanted.is_empty() => Value::Null,
        // Nor does it take the defaults out that it filled in.
        (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => {
            let pairs = live.iter().zip(wanted);
            Value::Array(
                pairs
                    .map(|(live, item)| overlaid(live, item, &[]))
                    .collect(),
            )
        }
        _ => wanted.clone(),
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

/// Lists the fields that differ between two objects, sorted by path and in lists by number, as
/// `spec.hard.pods: "10" → "20"`.
pub fn changed_fields(before: &Value, after: &Value) -> Vec<String> {
    let (before, after) = (fields(before), fields(after));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut paths: Vec<&String> = paths.into_iter().collect();
    paths.sort_by(|a, b| by_number(a, b));
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

/// Compares two paths, the numbers in them as numbers: `rules[2]` comes before `rules[10]`.
fn by_number(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (of_a, of_b) = (digits(a), digits(b));
        if of_a > 0 && of_b > 0 {
            let number = |text: &str, end| text[..end].trim_start_matches('0').to_owned();
            let (one, other) = (number(a, of_a), number(b, of_b));
            let order = one.len().cmp(&other.len()).then(one.cmp(&other));
            // The same number may be written in two ways.
            let order = order.then(of_a.cmp(&of_b));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[of_a..], &b[of_b..]);
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (Some(one), Some(other)) if one == other => {
                (a, b) = (rest_a.as_str(), rest_b.as_str());
            }
            (one, other) => return one.cmp(&other),
        }
    }
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
            let names: BTreeSet<&str> = items.iter().filter_map(item_name).collect();
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
