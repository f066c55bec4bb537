//! The order in which API objects are applied.

use serde_json::Value;

use crate::fact::ObjectRef;

/// Whether it is a namespace.
pub(super) fn is_namespace(reference: &ObjectRef) -> bool {
    reference.api_version == "v1" && reference.kind == "Namespace"
}

/// Where an object comes; the smaller first. An apply that stops half way must neither refuse what
/// the whole allows, nor let anybody in before the fence stands:
///
/// 1. namespaces, in which the others live, and what is in none;
/// 2. NetworkPolicies with a rule, which allow something;
/// 3. NetworkPolicies without one, which only refuse, and all the rest;
/// 4. bindings of admission policies, which bound what people do;
/// 5. RoleBindings, which let people in.
pub(crate) fn rank(reference: &ObjectRef, wanted: &Value) -> u8 {
    let has_rules = |direction: &str| {
        let rules = wanted.pointer(direction).and_then(Value::as_array);
        rules.is_some_and(|rules| !rules.is_empty())
    };
    match reference.kind.as_str() {
        _ if is_namespace(reference) => 0,
        "ValidatingAdmissionPolicyBinding" => 4,
        _ if reference.namespace.is_empty() => 1,
        "NetworkPolicy" if has_rules("/spec/ingress") || has_rules("/spec/egress") => 2,
        "RoleBinding" => 5,
        _ => 3,
    }
}
