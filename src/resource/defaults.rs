//! What the API server fills in where a manifest says nothing, in tables and lists that are owned as a
//! whole: there, what is filled in cannot be told from what was wanted.

use serde_json::{Map, Value};

/// Fills in what the server does, for the kinds of which it is known. What is not filled in here is a
/// doubt and no more.
pub(super) fn fill_in(wanted: &mut Value) {
    let text = |key: &str| wanted.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => {
            items(wanted.get_mut("subjects"), subject);
        }
        ("v1", "LimitRange") => items(wanted.pointer_mut("/spec/limits"), limits),
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            for rules in ["/spec/ingress", "/spec/egress"] {
                items(wanted.pointer_mut(rules), |rule| {
                    items(rule.get_mut("ports"), |port| {
                        port.entry("protocol").or_insert_with(|| "TCP".into());
                    });
                });
            }
        }
        _ => {}
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
    use serde_json::json;

    use super::*;

    fn filled(mut wanted: Value) -> Value {
        fill_in(&mut wanted);
        wanted
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
}
