//! What keeps an object from being gone that is being deleted.

use serde_json::Value;

use super::probe::clean_text;

/// How many words of a list a reader gets.
const NAMED: usize = 5;

/// Says what holds an object that is being deleted, as the end of a sentence: its finalizers, and of
/// a namespace what is still in it. Empty when it does not say.
///
/// Source: kubernetes v1.35 `pkg/controller/namespace/deletion/status_condition_utils.go`, the conditions
/// of a namespace.
pub fn held_by(object: &Value) -> String {
    let of_spec = match object["kind"] == "Namespace" {
        true => object.pointer("/spec/finalizers"),
        false => None,
    };
    let finalizers: Vec<String> = [object.pointer("/metadata/finalizers"), of_spec]
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(Value::as_str)
        // Every namespace has it; its conditions tell what it stands for.
        .filter(|name| *name != "kubernetes")
        .map(clean_text)
        .take(NAMED)
        .collect();
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let remaining = conditions
        .into_iter()
        .flatten()
        .filter(|one| object["kind"] == "Namespace" && one["status"] == "True")
        .filter_map(|one| one["message"].as_str())
        .map(clean_text)
        .take(NAMED);
    let mut waits: Vec<String> = Vec::new();
    if !finalizers.is_empty() {
        waits.push(format!("finalizers {}", finalizers.join(", ")));
    }
    waits.extend(remaining);
    match waits.as_slice() {
        [] => String::new(),
        waits => format!("; what holds it: {}", waits.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finalizers_and_what_is_left_in_a_namespace_are_named() {
        assert_eq!(held_by(&json!({"kind": "ConfigMap"})), "");
        let held = json!({"kind": "ConfigMap", "metadata": {"finalizers": ["example.org/hold", "b\u{1b}[1m"]}});
        assert_eq!(
            held_by(&held),
            "; what holds it: finalizers example.org/hold, b"
        );
        let namespace = json!({"kind": "Namespace", "spec": {"finalizers": ["kubernetes"]}, "status": {"conditions": [
            {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All resources successfully discovered"},
            {"type": "NamespaceFinalizersRemaining", "status": "True",
             "message": "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances"},
        ]}});
        assert_eq!(
            held_by(&namespace),
            "; what holds it: Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances"
        );
    }
}
