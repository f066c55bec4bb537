//! Comparing API objects: what the server writes by itself does not count.

use serde_json::Value;

/// Whether two objects are the same apart from what the server writes: versions, times, managers
/// and status.
pub fn same_content(one: &Value, two: &Value) -> bool {
    essence(one) == essence(two)
}

fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in [
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            meta.remove(field);
        }
    }
    object
}

/// Whether every field that was wanted is still so. The server adds defaults, and writes quantities
/// its own way (`1000m` becomes `1`). It leaves out many a list that is empty.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => covers(live, wanted),
                None => wanted.as_array().is_some_and(Vec::is_empty),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers(l, w))
        }
        (live, wanted) => live == wanted || same_quantity(live, wanted),
    }
}

/// Returns an object without the fields that were wanted of it, but for what says which object it is.
pub(super) fn without(live: &Value, wanted: &Value) -> Value {
    let mut left = live.clone();
    take_out(&mut left, wanted, &["apiVersion", "kind", "metadata"]);
    let metadata = (left.get_mut("metadata"), wanted.get("metadata"));
    if let (Some(left), Some(wanted)) = metadata {
        take_out(left, wanted, &["name", "namespace"]);
    }
    left
}

fn take_out(left: &mut Value, wanted: &Value, keep: &[&str]) {
    let (Value::Object(left), Value::Object(wanted)) = (left, wanted) else {
        return;
    };
    for (key, wanted) in wanted
        .iter()
        .filter(|(key, _)| !keep.contains(&key.as_str()))
    {
        match (left.get_mut(key), wanted) {
            (Some(inner @ Value::Object(_)), Value::Object(_)) => take_out(inner, wanted, &[]),
            _ => {
                left.remove(key);
            }
        }
    }
}

fn same_quantity(one: &Value, two: &Value) -> bool {
    match (quantity(one), quantity(two)) {
        (Some(one), Some(two)) => (one - two).abs() <= one.abs() * 1e-9,
        _ => false,
    }
}

fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_writes_does_not_count() {
        let one = json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "5"}, "spec": 1});
        let two = json!({"metadata": {"name": "a"}, "spec": 1, "status": {"ready": true}});
        assert!(same_content(&one, &two));
        assert!(!same_content(
            &one,
            &json!({"metadata": {"name": "a"}, "spec": 2})
        ));
    }

    #[test]
    fn what_was_wanted_is_taken_out_and_nothing_else() {
        let live = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "uid": "1", "labels": {"a": "1", "b": "2"}},
            "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "registry"}],
        });
        let wanted = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "labels": {"a": "1"}},
            "automountServiceAccountToken": false,
        });
        let left = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "uid": "1", "labels": {"b": "2"}},
            "imagePullSecrets": [{"name": "registry"}],
        });
        assert_eq!(without(&live, &wanted), left);
    }

    #[test]
    fn wanted_fields_are_found_among_defaults_and_in_other_words() {
        let live = json!({"hard": {"cpu": "1", "memory": "1Gi", "pods": "5"}, "more": []});
        assert!(covers(
            &live,
            &json!({"hard": {"cpu": "1000m", "memory": "1024Mi", "pods": 5}})
        ));
        assert!(!covers(&live, &json!({"hard": {"cpu": "2"}})));
        assert!(!covers(&live, &json!({"more": ["x"]})));
        assert!(covers(&live, &json!({"subjects": []})));
        assert!(!covers(&live, &json!({"subjects": ["x"]})));
        assert!(!covers(&live, &json!({"hard": {"pods": "5 "}})));
    }
}
