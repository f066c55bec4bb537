//! What the API server's refusals mean. Most tell themselves apart only by their words.

use kube::core::Status;

use crate::fact::probe::clean_text;
use crate::fact::{DryRun, FieldConflict, Untried};

/// Whether a 404 is for the kind and not for an object of it: an unknown group answers with a page and
/// no status, an unknown resource of a known group with a status that names nothing.
/// Source: apiserver v0.35 `pkg/endpoints/filters` and `pkg/server/handler.go`; asked of a real server.
pub(super) fn is_no_such_kind(status: &Status) -> bool {
    let names_something = |d: &kube::core::response::StatusDetails| !d.name.is_empty();
    status.code == 404 && !status.details.as_ref().is_some_and(names_something)
}

/// Reads the managers out of a 409 answer. The manager's name stands only in the message:
/// `conflict with "kubectl-edit" using v1`.
/// Source: apimachinery v0.35 `pkg/util/managedfields/internal/conflict.go`.
pub(super) fn conflicts(status: &Status) -> Vec<FieldConflict> {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| FieldConflict {
            field: clean_text(&cause.field),
            manager: clean_text(cause.message.split('"').nth(1).unwrap_or(&cause.message)),
        })
        .collect()
}

/// Says what the refusal of a dry run means; `None` when its own words say it best.
pub(super) fn of_dry_run(status: &Status) -> Option<DryRun> {
    let words = || clean_text(&status.message);
    let message = &status.message;
    match status.code {
        404 if is_no_such_kind(status) => Some(DryRun::NoSuchKind),
        409 => Some(DryRun::Conflict(conflicts(status))),
        // Source: apiserver v0.35 `pkg/admission/plugin/namespace/lifecycle/admission.go`.
        403 if has_cause(status, "NamespaceTerminating") => Some(DryRun::NamespaceEnds),
        // Source: apiserver v0.35 `pkg/endpoints/handlers/responsewriters/errors.go`, forbiddenMessage.
        // An admission plugin that forbids, as that of quotas, does not say so.
        403 if message.contains(" cannot patch resource ")
            || message.contains(" cannot create resource ") =>
        {
            Some(DryRun::Untried(Untried::NoRight, words()))
        }
        // Source: apiserver v0.35 `pkg/admission/plugin/webhook/errors/statuserror.go`.
        400 if message.contains("does not support dry run") => {
            Some(DryRun::Untried(Untried::Webhook, words()))
        }
        _ => None,
    }
}

fn has_cause(status: &Status, reason: &str) -> bool {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes.into_iter().any(|cause| cause.reason == reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn status(value: Value) -> Status {
        serde_json::from_value(value).unwrap()
    }

    fn told(value: Value) -> Option<DryRun> {
        of_dry_run(&status(value))
    }

    /// The answers of a real API server of v1.35, shortened.
    #[test]
    fn a_missing_kind_is_not_a_missing_object() {
        for missing in [
            json!({"status": "Failure", "message": "404 page not found\n", "reason": "Failed to parse error data", "code": 404}),
            json!({"status": "Failure", "message": "the server could not find the requested resource", "reason": "NotFound", "details": {}, "code": 404}),
        ] {
            assert_eq!(told(missing), Some(DryRun::NoSuchKind));
        }
        for (name, kind) in [("sc-none", "namespaces"), ("x", "configmaps")] {
            let missing = json!({"status": "Failure", "message": format!("{kind} \"{name}\" not found"),
                "reason": "NotFound", "details": {"name": name, "kind": kind}, "code": 404});
            assert_eq!(told(missing), None);
        }
    }

    #[test]
    fn no_right_a_namespace_that_ends_and_a_quota_are_three_things() {
        let no_right = json!({"status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "resourcequotas \"harden\" is forbidden: User \"auditor\" cannot patch resource \"resourcequotas\" in API group \"\" in the namespace \"pay\"",
            "details": {"name": "harden", "kind": "resourcequotas"}});
        assert!(matches!(
            told(no_right),
            Some(DryRun::Untried(Untried::NoRight, words)) if words.contains("auditor")
        ));
        let ends = json!({"status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "configmaps \"x\" is forbidden: unable to create new content in namespace pay because it is being terminated",
            "details": {"name": "x", "kind": "configmaps", "causes": [{"reason": "NamespaceTerminating",
                "message": "namespace pay is being terminated", "field": "metadata.namespace"}]}});
        assert_eq!(told(ends), Some(DryRun::NamespaceEnds));
        let quota = json!({"status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "services \"x\" is forbidden: exceeded quota: harden, requested: services=1, used: services=1, limited: services=1",
            "details": {"name": "x", "kind": "services"}});
        assert_eq!(told(quota), None);
    }

    #[test]
    fn a_webhook_that_refuses_dry_runs_is_known_by_its_words() {
        let refused = json!({"status": "Failure", "reason": "BadRequest", "code": 400,
            "message": "admission webhook \"check.example.org\" does not support dry run"});
        assert!(matches!(
            told(refused),
            Some(DryRun::Untried(Untried::Webhook, words)) if words.contains("check.example.org")
        ));
        let other = json!({"status": "Failure", "reason": "BadRequest", "code": 400,
            "message": "strict decoding error: unknown field \"spec.hrad\""});
        assert_eq!(told(other), None);
    }

    #[test]
    fn a_conflict_names_the_manager_and_the_field() {
        let conflict = json!({"status": "Failure", "reason": "Conflict", "code": 409,
            "message": "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .spec.hard.pods",
            "details": {"causes": [{"reason": "FieldManagerConflict",
                "message": "conflict with \"kubectl-edit\" using v1", "field": ".spec.hard.pods"}]}});
        let expected = FieldConflict {
            field: ".spec.hard.pods".into(),
            manager: "kubectl-edit".into(),
        };
        assert_eq!(told(conflict), Some(DryRun::Conflict(vec![expected])));
    }
}
