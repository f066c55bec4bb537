//! Whether the server takes what an object says, asked in a namespace that exists, where its own does not
//! yet: an apply would stop there else, with the namespaces made.
//!
//! The dry run goes to the namespace `default` under a name of its own, and of the answer only that counts
//! which is about the object itself. Who may make it, quotas and policies are those of another namespace.

use std::sync::atomic::AtomicBool;

use kube::core::Status;
use serde_json::Value;

use super::client::Client;
use super::objects::{Way, refused, send};
use crate::fact::probe::clean_text;
use crate::fact::{DryRun, ObjectRef, canonical_sha256};

/// It is in every cluster.
const NAMESPACE: &str = "default";

/// What the name begins with, so that whoever reads it in an audit log knows.
const PREFIX: &str = "harden-dry-run-";

/// Returns the object as it is tried: in the other namespace, and under a name that nobody has. Two that say
/// the same are the same.
pub(super) fn tried(wanted: &Value) -> Value {
    let mut object = wanted.clone();
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    // A name that may be wrong is itself what is asked.
    let is_sure = name.is_some_and(is_label);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".into(), NAMESPACE.into());
        if is_sure {
            metadata.remove("name");
        }
    }
    if is_sure {
        let hash = canonical_sha256(&object);
        object["metadata"]["name"] = format!("{PREFIX}{}", &hash[..16]).into();
    }
    object
}

/// Asks whether the server takes what an object says. `None` when nothing speaks against it, or nothing about
/// the object itself.
pub(super) fn fault(client: &Client, tried: &Value, gone: &AtomicBool) -> Option<DryRun> {
    let reference = ObjectRef::of(tried)?;
    match send(client, &reference, tried, Way::Try) {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => {
            is_of_content(&status).then(|| DryRun::Refused(clean_text(&status.message)))
        }
        Err(error) => Some(refused(&reference, error, gone)),
    }
}

/// Puts the object's own name and namespace into what the server said.
pub(super) fn told(would: &DryRun, wanted: &Value, tried: &Value) -> DryRun {
    let text = |object: &Value, key: &str| {
        let text = object.pointer(&format!("/metadata/{key}"));
        text.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match would {
        DryRun::Refused(words) => {
            let (name, namespace) = (text(wanted, "name"), text(wanted, "namespace"));
            let other = text(tried, "name");
            let words = words.replace(
                &format!("({NAMESPACE}/{other};"),
                &format!("({namespace}/{name};"),
            );
            DryRun::Refused(words.replace(&format!("{other:?}"), &format!("{name:?}")))
        }
        other => other.clone(),
    }
}

/// Whether a refusal is about the object and not about the place. What admission refuses has no field among
/// its causes, whatever its code.
/// Source: apimachinery v0.35 `pkg/api/errors/errors.go`, NewInvalid; apiserver v0.35
/// `pkg/endpoints/handlers/patch.go` (strict decoding) and apimachinery v0.35
/// `pkg/util/managedfields/internal/structuredmerge.go` (a patch of another shape, which is a 500).
fn is_of_content(status: &Status) -> bool {
    let message = &status.message;
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let names_field = causes.into_iter().any(|cause| !cause.field.is_empty());
    match status.code {
        422 => status.reason == "Invalid" && names_field && message.contains(" is invalid: "),
        400 => message.contains("strict decoding error"),
        500 => [
            "failed to create typed patch object (",
            "failed to convert new object (",
        ]
        .iter()
        .any(|begin| message.starts_with(begin)),
        _ => false,
    }
}

/// RFC 1123: every kind takes such a name.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.chars().all(|c| plain(c) || c == '-')
        && name.starts_with(plain)
        && name.ends_with(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn counts(status: Value) -> bool {
        is_of_content(&serde_json::from_value(status).unwrap())
    }

    /// The answers of a real API server of v1.35, shortened.
    #[test]
    fn what_is_wrong_with_the_object_counts_and_what_admission_refuses_does_not() {
        for status in [
            json!({"status": "Failure", "code": 500,
                "message": "failed to create typed patch object (default/x; /v1, Kind=ResourceQuota): .spec.hrad: field not declared in schema"}),
            json!({"status": "Failure", "code": 500,
                "message": "failed to convert new object (default/x; /v1, Kind=ResourceQuota) to proper version: quantities must match the regular expression"}),
            json!({"status": "Failure", "code": 400, "message": "strict decoding error: unknown field \"spec.hrad\""}),
            json!({"status": "Failure", "code": 422, "reason": "Invalid",
                "message": "NetworkPolicy.networking.k8s.io \"x\" is invalid: spec.egress[0].to[0].ipBlock.cidr: Invalid value",
                "details": {"causes": [{"reason": "FieldValueInvalid", "message": "Invalid value", "field": "spec.egress[0].to[0].ipBlock.cidr"}]}}),
        ] {
            assert!(counts(status.clone()), "{status}");
        }
        for status in [
            json!({"status": "Failure", "code": 422, "reason": "Invalid",
                "message": "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                "details": {"causes": [{"message": "no"}]}}),
            json!({"status": "Failure", "code": 400, "message": "admission webhook \"check.example.org\" denied the request: no"}),
            json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "exceeded quota: harden"}),
            json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "no such kind"}),
            json!({"status": "Failure", "code": 500, "message": "Internal error occurred: failed calling webhook"}),
        ] {
            assert!(!counts(status.clone()), "{status}");
        }
    }

    #[test]
    fn it_is_tried_under_a_name_of_its_own_unless_that_is_what_may_be_wrong() {
        let quota = |namespace: &str, name: &str| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": namespace}});
        let one = tried(&quota("a", "q"));
        assert_eq!(one, tried(&quota("b", "q")));
        assert_eq!(one["metadata"]["namespace"], "default");
        let name = one["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with(PREFIX) && is_label(name), "{name}");
        for name in ["Q", "q_", "-q", &"q".repeat(64)] {
            assert_eq!(tried(&quota("a", name))["metadata"]["name"], name);
        }
        let words = format!("ResourceQuota {name:?} is invalid; (default/{name}; /v1)");
        assert_eq!(
            told(&DryRun::Refused(words), &quota("a", "q"), &one),
            DryRun::Refused("ResourceQuota \"q\" is invalid; (a/q; /v1)".into())
        );
    }
}
