//! What the API server fills in where a manifest says nothing, in tables and lists that are owned as a
//! whole: there, what is filled in cannot be told from what was wanted.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Returns a manifest with what the server fills in, for the kinds of which it is known. What is not
/// filled in here is a doubt and no more.
pub(super) fn filled_in(wanted: &Value) -> Cow<'_, Value> {
    let text = |key: &str| wanted.get(key).and_then(Value::as_str).unwrap_or_default();
    let fill: fn(&mut Value) = match (text("apiVersion"), text("kind")) {
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => {
            |binding| items(binding.get_mut("subjects"), subject)
        }
        ("v1", "LimitRange") => |range| items(range.pointer_mut("/spec/limits"), limits),
        ("networking.k8s.io/v1", "NetworkPolicy") if lacks_protocol(wanted) => protocols,
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
            |policy| match_resources(policy.pointer_mut("/spec/matchConstraints"))
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            |binding| match_resources(binding.pointer_mut("/spec/matchResources"))
        }
        _ => return Cow::Borrowed(wanted),
    };
    let mut filled = wanted.clone();
    fill(&mut filled);
    Cow::Owned(filled)
}

/// Where a NetworkPolicy has its rules.
const RULES: [&str; 2] = ["ingress", "egress"];

/// Whether a port of a NetworkPolicy says no protocol. Most policies need no copy.
fn lacks_protocol(policy: &Value) -> bool {
    fn each<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
        value
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }
    let spec = policy.get("spec").into_iter();
    let rules = spec.flat_map(|spec| RULES.into_iter().flat_map(|key| each(spec, key)));
    rules
        .flat_map(|rule| each(rule, "ports"))
        .any(|port| port.get("protocol").is_none())
}

/// Source: kubernetes v1.35 `pkg/apis/networking/v1/defaults.go`, `SetDefaults_NetworkPolicyPort`.
fn protocols(policy: &mut Value) {
    for key in RULES {
        let rules = policy.get_mut("spec").and_then(|spec| spec.get_mut(key));
        items(rules, |rule| {
            items(rule.get_mut("ports"), |port| {
                port.entry("protocol").or_insert_with(|| "TCP".into());
            });
        });
    }
}

/// Source: kubernetes v1.35 `pkg/apis/admissionregistration/v1/defaults.go`, `SetDefaults_MatchResources` and
/// `SetDefaults_Rule`, and `zz_generated.defaults.go` there. The table is owned as a whole (`+structType=atomic`).
fn match_resources(table: Option<&mut Value>) {
    let Some(Value::Object(table)) = table else {
        return;
    };
    for rules in ["resourceRules", "excludeResourceRules"] {
        items(table.get_mut(rules), |rule| {
            rule.entry("scope").or_insert_with(|| "*".into());
        });
    }
    let policy = || "Equivalent".into();
    table.entry("matchPolicy").or_insert_with(policy);
    for selector in ["namespaceSelector", "objectSelector"] {
        let all = || Map::new().into();
        table.entry(selector).or_insert_with(all);
    }
}

fn items(list: Option<&mut Value>, fill: impl Fn(&mut Map<String, Value>)) {
    let items = list.and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut).for_each(fill);
}

/// Source: kubernetes v1.35 `pkg/apis/rbac/v1/defaults.go`, `SetDefaults_Subject`.
fn subject(subject: &mut Map<String, Value>) {
    if matches!(subject.get("kind"), Some(kind) if kind == "User" || kind == "Group") {
        let group = || "rbac.authorization.k8s.io".into();
        subject.entry("apiGroup").or_insert_with(group);
    }
}

/// Source: kubernetes v1.35 `pkg/apis/core/v1/defaults.go`, `SetDefaults_LimitRangeItem`.
fn limits(item: &mut Map<String, Value>) {
    if item.get("type").is_none_or(|kind| kind != "Container") {
        return;
    }
    for (from, to) in [
        ("max", "default"),
        ("default", "defaultRequest"),
        ("min", "defaultRequest"),
    ] {
        let Some(Value::Object(from)) = item.get(from).cloned() else {
            continue;
        };
        let to = item.entry(to).or_insert_with(|| Map::new().into());
        for (name, amount) in from {
            if let Some(to) = to.as_object_mut() {
                to.entry(name).or_insert(amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn filled(wanted: Value) -> Value {
        filled_in(&wanted).into_owned()
    }

    #[test]
    fn limits_and_requests_come_from_each_other_in_this_order() {
        let range = |items: Value| json!({"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": items}});
        let given = json!([
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"}, "default": {"x": "5"}},
            {"type": "Pod", "max": {"cpu": "2"}},
            {"type": "Container", "defaultRequest": {"cpu": "1"}},
        ]);
        let expected = json!([
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"},
             "default": {"x": "5", "cpu": "2"}, "defaultRequest": {"x": "5", "cpu": "2", "memory": "1Mi"}},
            {"type": "Pod", "max": {"cpu": "2"}},
            {"type": "Container", "defaultRequest": {"cpu": "1"}},
        ]);
        assert_eq!(filled(range(given)), range(expected));
    }

    #[test]
    fn subjects_get_their_group_and_ports_their_protocol() {
        let binding = |subjects: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "subjects": subjects});
        let given = json!([{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "name": "b"}]);
        let expected = json!([{"kind": "User", "name": "a", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "ServiceAccount", "name": "b"}]);
        assert_eq!(filled(binding(given)), binding(expected));
        let policy = |ports: Value| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "spec": {"egress": [{"ports": ports}]}})
        };
        let given = json!([{"port": 53, "protocol": "UDP"}, {"port": 443}]);
        let expected = json!([{"port": 53, "protocol": "UDP"}, {"port": 443, "protocol": "TCP"}]);
        assert_eq!(filled(policy(given)), policy(expected));
        assert_eq!(filled(json!([])), json!([]));
    }

    #[test]
    fn what_an_admission_policy_matches_gets_its_scope_and_selectors() {
        let rule = |more: Value| {
            let mut rule = json!({"resources": ["pods"]});
            rule.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            rule
        };
        for (kind, field) in [
            ("ValidatingAdmissionPolicy", "matchConstraints"),
            ("ValidatingAdmissionPolicyBinding", "matchResources"),
        ] {
            let object = |matches: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "spec": {field: matches}});
            let given = json!({
                "resourceRules": [rule(json!({})), rule(json!({"scope": "Namespaced"}))],
                "excludeResourceRules": [rule(json!({}))],
                "objectSelector": {"matchLabels": {"a": "b"}},
            });
            let expected = json!({
                "resourceRules": [rule(json!({"scope": "*"})), rule(json!({"scope": "Namespaced"}))],
                "excludeResourceRules": [rule(json!({"scope": "*"}))],
                "objectSelector": {"matchLabels": {"a": "b"}},
                "namespaceSelector": {}, "matchPolicy": "Equivalent",
            });
            assert_eq!(filled(object(given)), object(expected));
            let without =
                json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "spec": {}});
            assert_eq!(filled(without.clone()), without);
        }
    }
}
