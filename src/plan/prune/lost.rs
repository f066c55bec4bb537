//! What ends with an object that is deleted.

use serde_json::Value;

use crate::fact::ObjectRef;

/// Says what ends with an object.
pub(super) fn lost(reference: &ObjectRef, live: &Value) -> Option<String> {
    Some(match reference.kind.as_str() {
        "ResourceQuota" => format!(
            "nothing of it bounds namespace {} any more",
            reference.namespace
        ),
        "LimitRange" => format!(
            "new pods of namespace {} get no defaults and bounds of it",
            reference.namespace
        ),
        "RoleBinding" | "ClusterRoleBinding" => {
            let role = live.pointer("/roleRef/name").and_then(Value::as_str);
            let subjects = live.get("subjects").and_then(Value::as_array);
            let text =
                |one: &Value, key: &str| one.get(key).and_then(Value::as_str).map(str::to_owned);
            let names: Vec<String> = subjects
                .into_iter()
                .flatten()
                .filter_map(|one| {
                    let (kind, name) = (text(one, "kind")?, text(one, "name")?);
                    Some(match text(one, "namespace") {
                        Some(namespace) => format!("{kind} {namespace}/{name}"),
                        None => format!("{kind} {name}"),
                    })
                })
                .collect();
            let names = match names.is_empty() {
                true => "nobody".to_owned(),
                false => names.join(", "),
            };
            format!("who loses {}: {names}", role.unwrap_or("its role"))
        }
        "Role" | "ClusterRole" => "whoever is bound to it loses its rights".to_owned(),
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => {
            "what it refuses is let in".to_owned()
        }
        "PriorityClass" => "new pods that name it are refused".to_owned(),
        "CustomResourceDefinition" => "every object of this kind is lost with it".to_owned(),
        _ => return None,
    })
}
