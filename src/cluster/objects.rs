//! Objects of any kind: looking, trying, applying, restoring, deleting.

use std::sync::atomic::{AtomicBool, Ordering};

use kube::api::{
    Api as KubeApi, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams, Preconditions,
};
use kube::core::PartialObjectMeta;
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::{Value, json};

use super::client::{Client, config_error, explain};
use super::{ApiError, FIELD_MANAGER, refusal};
use crate::fact::probe::clean_text;
use crate::fact::{DryRun, FieldConflict, ObjectRef, held_by};
use crate::resource::leaving::is_free;
use crate::resource::stray::{Stray, answers_for, removal, strays};

/// How often an object that somebody else keeps writing is tried again.
const TRIES: usize = 5;

/// Returns the dynamic API for an object's kind and namespace.
pub(super) fn api_for(kube: &kube::Client, reference: &ObjectRef) -> KubeApi<DynamicObject> {
    let (group, version) = reference
        .api_version
        .split_once('/')
        .unwrap_or(("", &reference.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &reference.kind));
    if reference.namespace.is_empty() {
        KubeApi::all_with(kube.clone(), &resource)
    } else {
        KubeApi::namespaced_with(kube.clone(), &reference.namespace, &resource)
    }
}

/// Returns an object as plain JSON.
pub(super) fn to_value(object: DynamicObject) -> Result<Value, ApiError> {
    serde_json::to_value(object).map_err(|e| ApiError::Refused {
        what: "read an object".into(),
        why: e.to_string(),
    })
}

/// Asks the server what applying an object would do. When no server answers, `gone` is set, so that
/// nobody waits for the others too.
pub(super) fn try_apply(
    client: &Client,
    reference: &ObjectRef,
    wanted: &Value,
    new: bool,
    gone: &AtomicBool,
) -> DryRun {
    let would = match send(client, reference, wanted, Way::Try) {
        Ok(object) => return of_object(object, DryRun::Object),
        // In a namespace that does not exist yet, a dry run answers 404 for the namespace.
        Err(kube::Error::Api(status))
            if status.code == 404
                && new
                && !reference.namespace.is_empty()
                && !refusal::is_no_such_kind(&status) =>
        {
            return DryRun::NotAsked;
        }
        Err(error) => refused(reference, error, gone),
    };
    let DryRun::Conflict(from) = would else {
        return would;
    };
    let may_take = |one: &FieldConflict| {
        client.may_take(&one.manager) || is_free(&one.manager) || answers_for(wanted, &one.field)
    };
    if from.is_empty() || !from.iter().all(may_take) {
        return DryRun::Conflict(from);
    }
    match send(client, reference, wanted, Way::TryTaking) {
        Ok(object) => of_object(object, |object| DryRun::Taken { object, from }),
        Err(error) => refused(reference, error, gone),
    }
}

fn of_object(object: DynamicObject, dry_run: impl FnOnce(Value) -> DryRun) -> DryRun {
    match to_value(object) {
        Ok(value) => dry_run(value),
        Err(error) => DryRun::Refused(error.to_string()),
    }
}

pub(super) fn refused(reference: &ObjectRef, error: kube::Error, gone: &AtomicBool) -> DryRun {
    if let kube::Error::Api(status) = &error
        && let Some(would) = refusal::of_dry_run(status)
    {
        return would;
    }
    let error = explain(&format!("try {reference}"), error);
    if matches!(error, ApiError::Unreachable { .. }) {
        gone.store(true, Ordering::Relaxed);
    }
    DryRun::Refused(error.to_string())
}

/// How a server-side apply is sent. Without force, another manager's field is a conflict to show.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    Try,
    TryTaking,
    Do,
    DoTaking,
}

pub(super) fn send(
    client: &Client,
    reference: &ObjectRef,
    wanted: &Value,
    way: Way,
) -> Result<DynamicObject, kube::Error> {
    let api = api_for(client.kube(), reference);
    let mut params = PatchParams::apply(FIELD_MANAGER).validation_strict();
    params.dry_run = matches!(way, Way::Try | Way::TryTaking);
    params.force = matches!(way, Way::TryTaking | Way::DoTaking);
    let patch = Patch::Apply(wanted);
    client.try_call(|| api.patch(&reference.name, &params, &patch))
}

/// Applies server-side as field manager `harden`. Only what the plan says is taken from others: the
/// server is first asked without force, and a conflict with another manager, or of another field, stays one.
pub(super) fn apply(
    client: &Client,
    wanted: &Value,
    taken: &[FieldConflict],
) -> Result<Value, ApiError> {
    let reference = identity(wanted, "apply")?;
    let refused = match send(client, &reference, wanted, Way::Do) {
        Ok(object) => return to_value(object),
        Err(kube::Error::Api(status)) if status.code == 409 => refusal::conflicts(&status),
        Err(error) => return Err(explain(&format!("apply {reference}"), error)),
    };
    if refused.is_empty() || !refused.iter().all(|one| taken.contains(one)) {
        return Err(ApiError::Conflict {
            reference: reference.to_string(),
            fields: refused,
        });
    }
    match send(client, &reference, wanted, Way::DoTaking) {
        Ok(object) => to_value(object),
        Err(error) => Err(explain(&format!("apply {reference}"), error)),
    }
}

fn identity(object: &Value, verb: &str) -> Result<ObjectRef, ApiError> {
    ObjectRef::of(object).ok_or_else(|| ApiError::Refused {
        what: format!("{verb} an object"),
        why: "it lacks apiVersion, kind or metadata.name".into(),
    })
}

/// Takes fields out of an object. An apply cannot: it leaves alone what other managers own.
pub(super) fn remove(client: &Client, wanted: &Value, planned: &[Stray]) -> Result<(), ApiError> {
    let reference = identity(wanted, "take fields out of")?;
    let what = format!("take fields out of {reference}");
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    edit(client, &reference, &what, &params, |live| {
        let mut left = strays(wanted, live);
        left.retain(|one| planned.contains(one));
        (!left.is_empty()).then(|| removal(&live["metadata"]["resourceVersion"], &left))
    })
}

/// Edits an object by a JSON patch. `operations` makes it of the object as it is, with a test of its version, and
/// is asked anew when somebody wrote in between; `None` when there is nothing to do, as where there is no object.
pub(super) fn edit(
    client: &Client,
    reference: &ObjectRef,
    what: &str,
    params: &PatchParams,
    operations: impl Fn(&Value) -> Option<Value>,
) -> Result<(), ApiError> {
    let api = api_for(client.kube(), reference);
    for _ in 0..TRIES {
        let Some(live) = client.call(what, || api.get_opt(&reference.name))? else {
            return Ok(());
        };
        let Some(operations) = operations(&to_value(live)?) else {
            return Ok(());
        };
        let operations: json_patch::Patch = serde_json::from_value(operations)
            .map_err(|e| config_error(e, "report this as a fault of harden"))?;
        let patch = Patch::Json::<()>(operations);
        match client.try_call(|| api.patch(&reference.name, params, &patch)) {
            Ok(_) => return Ok(()),
            // The test failed (422), or somebody wrote in between: look again.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {}
            Err(error) => return Err(explain(what, error)),
        }
    }
    Err(ApiError::Refused {
        what: what.to_owned(),
        why: "somebody else keeps writing it; try again".into(),
    })
}

/// Makes an object what it was: replaces it, or creates it anew when it is gone.
pub(super) fn restore(client: &Client, object: &Value) -> Result<(), ApiError> {
    let reference = identity(object, "restore")?;
    let mut wanted: DynamicObject =
        serde_json::from_value(object.clone()).map_err(|e| ApiError::Refused {
            what: format!("restore {reference}"),
            why: e.to_string(),
        })?;
    let api = api_for(client.kube(), &reference);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let what = format!("restore {reference}");
    match client.call(&what, || api.get_opt(&reference.name))? {
        Some(live) => {
            // The present version: nobody writes in between unnoticed. managedFields of the
            // pre-image travel along, so that the fields' owners are again who they were.
            wanted.metadata.resource_version = live.metadata.resource_version;
            let now = client.call(&what, || api.replace(&reference.name, &params, &wanted))?;
            // But what the replacing changed is ours by `Update` now, and no more theirs from whom we had
            // taken it. Without managers before, there are none again: that takes an empty entry.
            let before = object.pointer("/metadata/managedFields");
            let before = before.filter(|all| all.as_array().is_some_and(|all| !all.is_empty()));
            let before = before.cloned().unwrap_or_else(|| json!([{}]));
            if to_value(now)?.pointer("/metadata/managedFields") != Some(&before) {
                super::ledger::set_managers(client, &reference, &what, &before)?;
            }
        }
        None => {
            wanted.metadata.resource_version = None;
            wanted.metadata.uid = None;
            client.call(&what, || api.create(&params, &wanted))?;
            // Whoever creates an object owns all of it, and as a manager of its own: one that updates is
            // another than one of the same name that applies.
            if let Some(managers) = object.pointer("/metadata/managedFields") {
                super::ledger::set_managers(client, &reference, &what, managers)?;
            }
        }
    }
    Ok(())
}

/// Deletes an object and waits until it is gone. The server compares the uid with that of the object that was
/// looked at, so that one that was made anew in between stays.
pub(super) fn delete(client: &Client, reference: &ObjectRef, uid: &str) -> Result<(), ApiError> {
    let what = format!("delete {reference}");
    let Some(reference) = &in_served_version(client, reference)? else {
        return Ok(());
    };
    let api = api_for(client.kube(), reference);
    let params = DeleteParams::foreground().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    let deleted = client.try_call(|| async {
        match api.delete(&reference.name, &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    });
    match deleted {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            return Err(ApiError::Moved {
                what: reference.to_string(),
            });
        }
        Err(error) => return Err(explain(&what, error)),
    }
    let mut holds = String::new();
    for _ in 0..240 {
        match client.call(&what, || api.get_opt(&reference.name))? {
            Some(still) if still.metadata.uid.as_deref() == Some(uid) => {
                holds = held_by(&to_value(still)?);
                std::thread::sleep(std::time::Duration::from_millis(250));
            }
            _ => return Ok(()),
        }
    }
    Err(ApiError::Ending {
        what: reference.to_string(),
        why: format!("it is still there after 60 s{holds}"),
    })
}

/// Looks for an object that may have been noted long ago: in its version, and where the server does not have
/// that any more, in the one that it has. `None` when it is not there.
///
/// # Errors
/// [`ApiError::NoKind`] where the server has no such kind in any version: then nothing is known of it.
pub(super) fn get(client: &Client, reference: &ObjectRef) -> Result<Option<Value>, ApiError> {
    let what = format!("get {reference}");
    let api = api_for(client.kube(), reference);
    let missing = match client.try_call(|| api.get(&reference.name)) {
        Ok(object) => return to_value(object).map(Some),
        Err(kube::Error::Api(status)) if status.code == 404 => status,
        Err(error) => return Err(explain(&what, error)),
    };
    if !refusal::is_no_such_kind(&missing) {
        return Ok(None);
    }
    let Some(served) = client.served_reference(reference)? else {
        return Err(ApiError::NoKind {
            kind: reference.kind.clone(),
            api_version: reference.api_version.clone(),
        });
    };
    let api = api_for(client.kube(), &served);
    let found = client.call(&what, || api.get_opt(&reference.name))?;
    found.map(to_value).transpose()
}

/// The object's reference in a version that the server has; `None` when it is not there.
pub(super) fn in_served_version(
    client: &Client,
    reference: &ObjectRef,
) -> Result<Option<ObjectRef>, ApiError> {
    Ok(get(client, reference)?.as_ref().and_then(ObjectRef::of))
}

/// What every namespace holds without anybody having put it there, and what only reports.
fn is_furniture(kind: &str, name: &str) -> bool {
    matches!(
        (kind, name),
        ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt")
    ) || matches!(kind, "Event" | "EndpointSlice" | "Endpoints" | "PodMetrics")
}

/// Lists what would be lost with a namespace: everything that can be listed, except what
/// Kubernetes itself puts there and what harden manages.
pub(super) fn contents(client: &Client, namespace: &str) -> Result<Vec<String>, ApiError> {
    let discovery = client.call("discover the API's resources", || {
        Discovery::new(client.kube().clone()).run_aggregated()
    })?;
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.scope != Scope::Namespaced
                || !capabilities.supports_operation(verbs::LIST)
            {
                continue;
            }
            let api: KubeApi<DynamicObject> =
                KubeApi::namespaced_with(client.kube().clone(), namespace, &resource);
            let what = format!("list {} in namespace {namespace}", resource.plural);
            let kind = &resource.kind;
            let add = |item: PartialObjectMeta<DynamicObject>| {
                let name = clean_text(&item.metadata.name?).replace('\n', " ");
                let ours = item
                    .metadata
                    .managed_fields
                    .iter()
                    .flatten()
                    .any(|m| m.manager.as_deref() == Some(FIELD_MANAGER));
                (!ours && !is_furniture(kind, &name)).then(|| format!("{kind} {name}"))
            };
            let mut params = ListParams::default().limit(500);
            loop {
                let page = client.call(&what, || async { api.list_metadata(&params).await })?;
                found.extend(page.items.into_iter().filter_map(add));
                params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                if params.continue_token.is_none() {
                    break;
                }
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
