//! What others added to an object that must have nothing but what is wanted.
//!
//! A server-side apply leaves alone what other managers added. For most objects that is right: unset means
//! unmanaged. But a policy of admission with one condition more, `matchConditions: [{expression: "false"}]`,
//! has every wanted field and refuses nobody. So of some objects harden answers for parts as a whole, and what
//! is not wanted there is a difference:
//!
//! - `spec` of a ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding or NetworkPolicy that bears the
//!   label `app.kubernetes.io/managed-by: harden`: one rule more, and a default deny denies nothing;
//! - of a namespace with labels or annotations `harden.dev/…`: all such, and
//!   `pod-security.kubernetes.io/MODE-version` where the level of that mode is wanted.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::fact::below;

/// What belongs to harden alone.
const FAMILY: &str = "harden.dev/";

/// A field that is not wanted and no default.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stray {
    /// The field, with items of a list by name: `spec.matchConditions`, `spec.variables[more]`.
    pub field: String,
    /// What is there.
    pub value: Value,
    /// Where that is, as a JSON pointer. It moves when a list does, so that no plan keeps it.
    #[serde(skip)]
    pub pointer: String,
}

impl PartialEq for Stray {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field && self.value == other.value
    }
}

/// Lists what an object has that is not wanted and that harden answers for, in the object's order.
pub fn strays(wanted: &Value, live: &Value) -> Vec<Stray> {
    let mut found = Vec::new();
    if is_whole(wanted) {
        if let (Some(wanted), Some(live)) = (wanted.get("spec"), live.get("spec")) {
            let spec = Way {
                up: None,
                step: Step::Key("spec"),
            };
            compare(wanted, live, &spec, &mut found);
        }
    } else if is_namespace(wanted) {
        of_namespace(wanted, live, &mut found);
    }
    found
}

/// Whether harden answers for a field as a whole, so that it is put right whoever changed it. The field is
/// written as the server does in a conflict: `.spec.matchConstraints`.
pub fn answers_for(wanted: &Value, field: &str) -> bool {
    match is_whole(wanted) {
        true => field == ".spec" || field.starts_with(".spec."),
        false => {
            let label = field
                .strip_prefix(".metadata.labels.")
                .or_else(|| field.strip_prefix(".metadata.annotations."));
            is_namespace(wanted) && label.is_some_and(|label| label.starts_with(FAMILY))
        }
    }
}

/// Whether `spec` is harden's as a whole.
fn is_whole(wanted: &Value) -> bool {
    let text = |keys: &[&str]| below(wanted, keys).and_then(Value::as_str);
    let is_of_fence = matches!(
        (text(&["apiVersion"]), text(&["kind"])),
        (
            Some("admissionregistration.k8s.io/v1"),
            Some("ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding"),
        ) | (Some("networking.k8s.io/v1"), Some("NetworkPolicy"))
    );
    is_of_fence && text(&["metadata", "labels", "app.kubernetes.io/managed-by"]) == Some("harden")
}

fn is_namespace(wanted: &Value) -> bool {
    wanted["apiVersion"] == "v1" && wanted["kind"] == "Namespace"
}

/// Returns the object as it is once these are gone.
pub fn without(live: &Value, strays: &[Stray]) -> Value {
    let mut object = live.clone();
    // From the end, so that the places of the others stay right.
    for stray in strays.iter().rev() {
        let Some((parent, key)) = stray.pointer.rsplit_once('/') else {
            continue;
        };
        match object.pointer_mut(parent) {
            Some(Value::Object(fields)) => {
                fields.remove(&unescaped(key));
            }
            Some(Value::Array(items)) => {
                if let Some(at) = key.parse().ok().filter(|at| *at < items.len()) {
                    items.remove(at);
                }
            }
            _ => {}
        }
    }
    object
}

/// Returns the operations of a JSON patch that takes these away, if the object still is of the version in which
/// they were seen. Their values are no test: the API server compares texts as they are escaped, and `<` is
/// written in two ways (gopkg.in/evanphx/json-patch.v4 `patch.go`, `lazyNode.equal`; seen with 1.35).
pub fn removal(version: &Value, strays: &[Stray]) -> Value {
    let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    let remove = |one: &Stray| json!({"op": "remove", "path": one.pointer});
    std::iter::once(test)
        .chain(strays.iter().rev().map(remove))
        .collect()
}

/// The labels or annotations of an object.
fn table<'v>(object: &'v Value, name: &str) -> Option<&'v Map<String, Value>> {
    below(object, &["metadata", name])?.as_object()
}

fn of_namespace(wanted: &Value, live: &Value, found: &mut Vec<Stray>) {
    let tables = ["annotations", "labels"];
    let is_ours = |key: &String| key.starts_with(FAMILY);
    let ours = |name: &&str| table(wanted, name).is_some_and(|all| all.keys().any(is_ours));
    if !tables.iter().any(ours) {
        return;
    }
    for name in tables {
        let wanted = table(wanted, name);
        let is_wanted = |key: &str| wanted.is_some_and(|all| all.contains_key(key));
        let counts = |key: &String| match key.strip_prefix("pod-security.kubernetes.io/") {
            Some(mode) => mode
                .strip_suffix("-version")
                .is_some_and(|_| is_wanted(key.trim_end_matches("-version"))),
            None => is_ours(key),
        };
        for (key, value) in table(live, name).into_iter().flatten() {
            if !is_wanted(key) && counts(key) {
                found.push(Stray {
                    field: format!("metadata.{name}[{}]", json!(key)),
                    pointer: format!("/metadata/{name}/{}", escaped(key)),
                    value: value.clone(),
                });
            }
        }
    }
}

/// The way from an object to a part of it. It is only written where something is found.
struct Way<'w> {
    up: Option<&'w Way<'w>>,
    step: Step<'w>,
}

enum Step<'w> {
    Key(&'w str),
    /// An item by its name, and where it stands.
    Item(&'w str, usize),
}

impl Way<'_> {
    fn stray(&self, value: &Value) -> Stray {
        Stray {
            field: self.field(),
            pointer: self.pointer(),
            value: value.clone(),
        }
    }

    fn field(&self) -> String {
        let up = self.up.map(Way::field);
        match (up, &self.step) {
            (None, Step::Key(key)) => (*key).to_owned(),
            (Some(up), Step::Key(key)) => format!("{up}.{key}"),
            (up, Step::Item(name, _)) => format!("{}[{name}]", up.unwrap_or_default()),
        }
    }

    fn pointer(&self) -> String {
        let up = self.up.map(Way::pointer).unwrap_or_default();
        match &self.step {
            Step::Key(key) => format!("{up}/{}", escaped(key)),
            Step::Item(_, at) => format!("{up}/{at}"),
        }
    }
}

/// Goes through both. Lists without names are owned as a whole: an apply settles them.
fn compare(wanted: &Value, live: &Value, way: &Way<'_>, found: &mut Vec<Stray>) {
    let below = |step| Way {
        up: Some(way),
        step,
    };
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (key, value) in live {
                let way = below(Step::Key(key));
                match wanted.get(key) {
                    Some(wanted) => compare(wanted, value, &way, found),
                    None if is_default(key, value) => {}
                    None => found.push(way.stray(value)),
                }
            }
        }
        (Value::Array(wanted), Value::Array(live)) => {
            for (at, item) in live.iter().enumerate() {
                let Some(name) = name_of(item) else { continue };
                let way = below(Step::Item(name, at));
                match wanted.iter().find(|one| name_of(one) == Some(name)) {
                    Some(wanted) => compare(wanted, item, &way, found),
                    None => found.push(way.stray(item)),
                }
            }
        }
        _ => {}
    }
}

/// What tells an item from the others: its name, or itself where it is a text.
fn name_of(item: &Value) -> Option<&str> {
    item.as_str().or_else(|| item.get("name")?.as_str())
}

/// Whether the server fills this in where nothing is wanted.
/// Source: kubernetes v1.35 `pkg/apis/admissionregistration/v1/defaults.go`.
fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "failurePolicy" => value == "Fail",
        "matchPolicy" => value == "Equivalent",
        "scope" => value == "*",
        "namespaceSelector" | "objectSelector" => value == &json!({}),
        _ => value.is_null() || value == &json!([]),
    }
}

/// A key as it stands in a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(strays: &[Stray]) -> Vec<&str> {
        strays.iter().map(|one| one.field.as_str()).collect()
    }

    fn policy(spec: Value) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "harden-x", "labels": {"app.kubernetes.io/managed-by": "harden"}},
            "spec": spec,
        })
    }

    #[test]
    fn a_policy_has_nothing_but_what_is_wanted_and_defaults() {
        let wanted = policy(json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]},
            "variables": [{"name": "a", "expression": "1"}],
            "validations": [{"expression": "true"}],
        }));
        let mut live = wanted.clone();
        live["spec"]["matchConstraints"] = json!({
            "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
            "resourceRules": [{"resources": ["pods"], "scope": "*"}],
        });
        assert_eq!(strays(&wanted, &live), []);
        live["spec"]["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
        live["spec"]["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        live["spec"]["variables"] = json!([
            {"name": "more", "expression": "0"}, {"name": "a", "expression": "1"}, {"name": "most", "expression": "2"},
        ]);
        let found = strays(&wanted, &live);
        assert_eq!(
            fields(&found),
            [
                "spec.matchConditions",
                "spec.matchConstraints.namespaceSelector",
                "spec.variables[more]",
                "spec.variables[most]"
            ]
        );
        let clean = without(&live, &found);
        assert_eq!(strays(&wanted, &clean), []);
        assert_eq!(clean["spec"]["variables"], wanted["spec"]["variables"]);
        live["metadata"]["resourceVersion"] = "7".into();
        let clean = without(&live, &found);
        let patch = |version: &str| -> json_patch::Patch {
            serde_json::from_value(removal(&version.into(), &found)).unwrap_or_default()
        };
        let mut patched = live.clone();
        assert!(json_patch::patch(&mut patched, &patch("6")).is_err());
        let patch = patch("7");
        assert!(json_patch::patch(&mut patched, &patch).is_ok());
        assert_eq!(patched, clean);
        // Somebody else's policy is theirs.
        let mut others = wanted.clone();
        others["metadata"] = json!({"name": "x"});
        assert_eq!(strays(&others, &live), []);
    }

    #[test]
    fn a_default_deny_has_no_rule_and_no_selector() {
        let mut wanted = policy(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        wanted["apiVersion"] = "networking.k8s.io/v1".into();
        wanted["kind"] = "NetworkPolicy".into();
        assert_eq!(strays(&wanted, &wanted), []);
        let mut live = wanted.clone();
        live["spec"]["ingress"] = json!([{}]);
        live["spec"]["podSelector"] = json!({"matchLabels": {"app": "none"}});
        let found = strays(&wanted, &live);
        assert_eq!(
            fields(&found),
            ["spec.ingress", "spec.podSelector.matchLabels"]
        );
        assert_eq!(strays(&wanted, &without(&live, &found)), []);
    }

    #[test]
    fn a_binding_has_no_action_and_no_selector_more() {
        let mut wanted = policy(json!({"policyName": "harden-x", "validationActions": ["Deny"]}));
        wanted["kind"] = "ValidatingAdmissionPolicyBinding".into();
        let mut live = wanted.clone();
        live["spec"]["validationActions"] = json!(["Deny", "Audit"]);
        live["spec"]["matchResources"] = json!({"objectSelector": {"matchLabels": {"a": "b"}}});
        let found = strays(&wanted, &live);
        assert_eq!(
            fields(&found),
            ["spec.matchResources", "spec.validationActions[Audit]"]
        );
        assert_eq!(without(&live, &found), wanted);
    }

    #[test]
    fn a_namespace_has_no_labels_more_of_what_is_hardens() {
        let namespace = |labels: Value, annotations: Value| {
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "a", "labels": labels, "annotations": annotations}})
        };
        let wanted = namespace(
            json!({"harden.dev/tenant": "a", "pod-security.kubernetes.io/enforce": "restricted"}),
            json!({}),
        );
        let live = namespace(
            json!({
                "harden.dev/tenant": "a", "team": "a", "harden.dev/guard": "warn",
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "v1.0",
                "pod-security.kubernetes.io/warn": "baseline",
                "pod-security.kubernetes.io/warn-version": "v1.0",
            }),
            json!({"harden.dev/accounts": "system:serviceaccount:b:c", "note": "x"}),
        );
        let found = strays(&wanted, &live);
        assert_eq!(
            fields(&found),
            [
                "metadata.annotations[\"harden.dev/accounts\"]",
                "metadata.labels[\"harden.dev/guard\"]",
                "metadata.labels[\"pod-security.kubernetes.io/enforce-version\"]"
            ]
        );
        assert_eq!(strays(&wanted, &without(&live, &found)), []);
        // Of a namespace that is not a tenant's, nothing is known.
        assert_eq!(
            strays(&namespace(json!({"team": "a"}), json!({})), &live),
            []
        );
    }
}
