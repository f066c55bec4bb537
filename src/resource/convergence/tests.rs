#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What was applied to a real API server of v1.35 as `harden`, and what it then had.
fn recorded() -> Vec<(Value, Value)> {
    let text = include_str!("../../../tests/fixtures/applied-objects.json");
    let all: Vec<Value> = serde_json::from_str(text).unwrap();
    all.into_iter()
        .map(|pair| (pair["wanted"].clone(), pair["live"].clone()))
        .collect()
}

fn find(kind: &str, name: &str) -> (Value, Value) {
    let is =
        |(wanted, _): &(Value, Value)| wanted["kind"] == kind && wanted["metadata"]["name"] == name;
    recorded().into_iter().find(is).unwrap()
}

/// Empty when it is proved.
fn doubt(wanted: &Value, live: &Value) -> String {
    match prove_converged(wanted, live, "harden") {
        Ok(()) => String::new(),
        Err(doubt) => doubt.to_string(),
    }
}

#[test]
fn what_a_real_server_has_after_an_apply_is_proved_or_the_doubt_is_named() {
    let told: Vec<String> = recorded()
        .iter()
        .map(|(wanted, live)| {
            let doubt = match doubt(wanted, live) {
                none if none.is_empty() => "proved".into(),
                doubt => doubt,
            };
            format!(
                "{} {}: {doubt}",
                wanted["kind"].as_str().unwrap(),
                wanted["metadata"]["name"].as_str().unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    Namespace sc-a: proved
    NetworkPolicy n1: proved
    NetworkPolicy n2: proved
    ResourceQuota q: proved
    LimitRange l: proved
    Role r: proved
    RoleBinding r: proved
    ServiceAccount default: proved
    ConfigMap c: .data: it is not there
    Service s: proved
    ValidatingAdmissionPolicy sc-v: proved
    ValidatingAdmissionPolicyBinding sc-v: proved
    ");
}

/// An object with a map, a set, items with keys, and a list that is never merged.
fn pair() -> (Value, Value) {
    let wanted = json!({
        "apiVersion": "example.org/v1", "kind": "Widget",
        "metadata": {"name": "w", "namespace": "n", "labels": {"a": "1", "b": "2"}},
        "spec": {
            "set": ["x", "y"], "none": [],
            "items": [{"name": "one", "size": 1}, {"name": "two", "size": 2}],
            "ports": [{"port": 80}],
            "whole": [{"a": 1}, {"a": 2}],
        },
    });
    let mut live = wanted.clone();
    live["metadata"]["labels"]["other"] = "theirs".into();
    live["spec"]["set"] = json!(["x", "theirs", "y"]);
    live["spec"]["items"] = json!([{"name": "one", "size": 1, "extra": true}, {"name": "theirs"}, {"name": "two", "size": 2}]);
    live["spec"]["ports"] = json!([{"port": 80, "protocol": "TCP"}]);
    live["spec"]["theirs"] = "x".into();
    live["spec"].as_object_mut().unwrap().remove("none");
    live["metadata"]["managedFields"] = json!([
        {"manager": "harden", "operation": "Update", "apiVersion": "v0", "fieldsType": "FieldsV1", "fieldsV1": {}},
        {"manager": "harden", "operation": "Apply", "subresource": "status", "apiVersion": "v0"},
        {"manager": "harden", "operation": "Apply", "apiVersion": "example.org/v1", "fieldsType": "FieldsV1",
         "fieldsV1": {
            "f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}},
            "f:spec": {
                "f:none": {},
                "f:set": {"v:\"x\"": {}, "v:\"y\"": {}},
                "f:items": {
                    "k:{\"name\":\"one\"}": {".": {}, "f:name": {}, "f:size": {}},
                    "k:{\"name\":\"two\"}": {".": {}, "f:name": {}, "f:size": {}},
                },
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                "f:whole": {},
            },
        }},
    ]);
    (wanted, live)
}

#[test]
fn what_others_added_beside_does_not_matter() {
    let (wanted, live) = pair();
    assert_eq!(doubt(&wanted, &live), "");
}

#[test]
fn each_of_these_is_a_doubt() {
    let ours = "/metadata/managedFields/2/fieldsV1";
    type Change = fn(&mut Value, &mut Value, &str);
    let changes: Vec<(Change, &str)> = vec![
        (
            |_, live, _| live["metadata"]["labels"]["a"] = "3".into(),
            ".metadata.labels.a: it has another value",
        ),
        (
            |_, live, _| {
                live["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("b");
            },
            ".metadata.labels.b: it is not there",
        ),
        (
            |wanted, _, _| {
                wanted["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("b");
            },
            ".metadata.labels: a field in it is ours that is not wanted any more",
        ),
        (
            |wanted, _, _| {
                wanted["metadata"].as_object_mut().unwrap().remove("labels");
            },
            "a field is ours that is not wanted any more",
        ),
        (
            |wanted, live, _| {
                wanted["metadata"]["labels"]["c"] = "3".into();
                live["metadata"]["labels"]["c"] = "3".into();
            },
            ".metadata.labels.c: it is wanted and not ours",
        ),
        (
            |_, live, _| live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            "it is being deleted",
        ),
        (
            |_, live, _| {
                live["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .remove("managedFields");
            },
            "it was not applied by us",
        ),
        (
            |_, live, _| live["metadata"]["managedFields"][2]["manager"] = "kubectl".into(),
            "it was not applied by us",
        ),
        (
            |_, live, _| {
                let ours = live["metadata"]["managedFields"][2].clone();
                live["metadata"]["managedFields"][0] = ours;
            },
            "it was not applied by us",
        ),
        (
            |_, live, _| {
                live["metadata"]["managedFields"][2]["apiVersion"] = "example.org/v1beta1".into()
            },
            "it was applied in another version",
        ),
        (
            |_, live, _| live["spec"]["set"] = json!(["x"]),
            ".spec.set.v:\"y\": the item is not both wanted and there, once each",
        ),
        (
            |_, live, _| live["spec"]["set"] = json!(["y", "x"]),
            ".spec.set: its items stand in another order",
        ),
        (
            |wanted, _, _| wanted["spec"]["set"] = json!(["x", "y", "z"]),
            ".spec.set: an item is wanted and not ours",
        ),
        (
            |wanted, _, _| wanted["spec"]["set"] = json!(["x"]),
            ".spec.set.v:\"y\": the item is not both wanted and there, once each",
        ),
        (
            |wanted, _, _| wanted["spec"]["set"] = json!({"x": 1}),
            ".spec.set: it is of another shape than what is ours",
        ),
        (
            |_, live, _| live["spec"]["items"][2]["size"] = 3.into(),
            ".spec.items.k:{\"name\":\"two\"}.size: it has another value",
        ),
        (
            |wanted, _, _| {
                wanted["spec"]["items"][1]
                    .as_object_mut()
                    .unwrap()
                    .remove("size");
            },
            ".spec.items.k:{\"name\":\"two\"}: a field in it is ours that is not wanted any more",
        ),
        (
            |_, live, ours| live.pointer_mut(ours).unwrap()["f:spec"]["f:items"]["i:0"] = json!({}),
            ".spec.items: its items have no names",
        ),
        (
            |wanted, _, _| wanted["spec"]["ports"][0]["protocol"] = "TCP".into(),
            ".spec.ports.k:{\"port\":80,\"protocol\":\"TCP\"}.protocol: it is wanted and not ours",
        ),
        (
            |_, live, _| live["spec"]["whole"][0]["b"] = 1.into(),
            ".spec.whole: it has another value",
        ),
        (
            |_, live, _| live["spec"]["whole"] = json!([{"a": 2}, {"a": 1}]),
            ".spec.whole: it has another value",
        ),
        (
            |_, live, _| live["spec"]["none"] = json!(["theirs"]),
            ".spec.none: it has another value",
        ),
        (
            |wanted, live, ours| {
                wanted["spec"]["null"] = Value::Null;
                live["spec"]["null"] = Value::Null;
                live.pointer_mut(ours).unwrap()["f:spec"]["f:null"] = json!({});
            },
            ".spec.null: it has another value",
        ),
        (
            |_, live, ours| live.pointer_mut(ours).unwrap()["f:status"] = json!({}),
            "a field is ours that is not wanted any more",
        ),
        (
            |_, live, _| live["spec"]["set"] = json!(["x", "y", "y"]),
            ".spec.set.v:\"y\": the item is not both wanted and there, once each",
        ),
    ];
    for (change, expected) in changes {
        let (mut wanted, mut live) = pair();
        change(&mut wanted, &mut live, ours);
        assert_eq!(doubt(&wanted, &live), expected, "{wanted} {live}");
    }
}

#[test]
fn a_quantity_counts_in_the_form_that_the_server_keeps_and_only_where_there_is_one() {
    let (wanted, live) = find("ResourceQuota", "q");
    assert_eq!(wanted["spec"]["hard"]["requests.cpu"], "1000m");
    assert_eq!(live["spec"]["hard"]["requests.cpu"], "1");
    // The same amount in another form would be written anew.
    let mut other = wanted.clone();
    other["spec"]["hard"]["requests.memory"] = "1073741824".into();
    assert_eq!(
        doubt(&other, &live),
        ".spec.hard.requests.memory: it has another value"
    );
    let (wanted, mut live) = find("ConfigMap", "c");
    let mut other = wanted;
    other["data"] = json!({"hard": "1000m"});
    live["data"] = json!({"hard": "1"});
    live["metadata"]["managedFields"][0]["fieldsV1"]["f:data"] = json!({"f:hard": {}});
    assert_eq!(doubt(&other, &live), ".data.hard: it has another value");
}

/// The ways to every leaf, as JSON pointers.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            leaves(value, format!("{at}/{key}"), found);
        }),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .enumerate()
            .for_each(|(n, value)| leaves(value, format!("{at}/{n}"), found)),
        _ => found.push(at),
    }
}

fn is_identity(pointer: &str) -> bool {
    matches!(
        pointer,
        "/apiVersion" | "/kind" | "/metadata/name" | "/metadata/namespace"
    )
}

proptest! {
    #[test]
    fn any_other_value_of_a_wanted_field_is_a_doubt(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let pairs: Vec<_> = recorded().into_iter().filter(|(w, l)| doubt(w, l).is_empty()).collect();
        let (wanted, mut live) = which.get(&pairs).clone();
        let mut paths = Vec::new();
        leaves(&wanted, String::new(), &mut paths);
        paths.retain(|path| !is_identity(path) && live.pointer(path).is_some());
        prop_assume!(!paths.is_empty());
        let path = at.get(&paths);
        *live.pointer_mut(path).unwrap() = "something else".into();
        prop_assert!(!doubt(&wanted, &live).is_empty(), "{}", path);
    }

    #[test]
    fn a_field_that_is_not_wanted_any_more_is_a_doubt(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let pairs: Vec<_> = recorded().into_iter().filter(|(w, l)| doubt(w, l).is_empty()).collect();
        let (mut wanted, live) = which.get(&pairs).clone();
        let mut paths = Vec::new();
        leaves(&wanted, String::new(), &mut paths);
        paths.retain(|path| !is_identity(path));
        prop_assume!(!paths.is_empty());
        let path = at.get(&paths).clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        match wanted.pointer_mut(parent).unwrap() {
            Value::Object(fields) => { fields.remove(&key.replace("~1", "/").replace("~0", "~")); }
            Value::Array(items) => { items.remove(key.parse().unwrap()); }
            _ => unreachable!(),
        }
        // What the server would fill in again is no change.
        let (mut before, mut after) = (which.get(&pairs).0.clone(), wanted.clone());
        before = filled_in(&before).into_owned();
        after = filled_in(&after).into_owned();
        prop_assume!(before != after);
        prop_assert!(!doubt(&wanted, &live).is_empty(), "{}", path);
    }

    #[test]
    fn hostile_managed_fields_are_only_a_doubt(text in "[fkvi.]:[{}\"a-z0-9:,]{0,12}", value in prop_oneof![Just(json!({})), Just(json!(1)), Just(json!({"f:x": []}))]) {
        let (wanted, mut live) = pair();
        live["metadata"]["managedFields"][2]["fieldsV1"]["f:spec"]["f:items"][&text] = value;
        let _ = doubt(&wanted, &live);
    }
}
