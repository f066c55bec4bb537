//! Label selectors. Source: kubernetes v1.35 staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/helpers.go,
//! `LabelSelectorAsSelector`.

use serde_json::Value;

/// Whether a LabelSelector selects what has these labels. An empty one selects everything.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let all = selector["matchLabels"].as_object();
    let mut all = all.into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array();
    let mut expressions = expressions.into_iter().flatten();
    all.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|one| holds(one, labels))
}

/// Whether a plain map of labels, as a Service has it, selects; an empty one selects nothing.
pub(super) fn service_selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|all| {
        !all.is_empty()
            && all
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    })
}

fn holds(expression: &Value, labels: &Value) -> bool {
    let value = expression["key"].as_str().and_then(|key| labels.get(key));
    let is_listed = || {
        let values = expression["values"].as_array();
        values.into_iter().flatten().any(|one| Some(one) == value)
    };
    match expression["operator"].as_str() {
        Some("In") => is_listed(),
        Some("NotIn") => !is_listed(),
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select_as_kubernetes_reads_them() {
        let labels = json!({"app": "web", "tier": "front"});
        let one = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, selected) in [
            (json!({}), true),
            (Value::Null, true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (
                json!({"matchLabels": {"app": "web", "tier": "back"}}),
                false,
            ),
            (one("In", "app", &["a", "web"]), true),
            (one("In", "none", &["web"]), false),
            (one("NotIn", "app", &["web"]), false),
            (one("NotIn", "none", &["web"]), true),
            (one("Exists", "tier", &[]), true),
            (one("DoesNotExist", "tier", &[]), false),
            (one("Like", "tier", &[]), false),
        ] {
            assert_eq!(selects(&selector, &labels), selected, "{selector}");
        }
        assert!(!service_selects(&json!({}), &labels));
        assert!(!service_selects(&Value::Null, &labels));
        assert!(service_selects(&json!({"app": "web"}), &labels));
    }
}
