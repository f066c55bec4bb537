//! The ledger in the cluster, and letting go of objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api as KubeApi, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::client::{Client, config_error, explain};
use super::objects::{api_for, edit as edit_object, in_served_version};
use super::{ApiError, FIELD_MANAGER, pages};
use crate::fact::ObjectRef;
use crate::fact::ledger::{
    LEDGER_LABEL, LEDGER_NAMESPACE, Ledger, LedgerEdit, read_part, write_part,
};
use crate::resource::leaving::{bears, without_us};

/// How often a part that somebody else keeps writing is tried again.
const TRIES: usize = 5;

/// Reads every part, in one list.
pub(super) fn read(client: &Client) -> Result<Ledger, ApiError> {
    let api: KubeApi<ConfigMap> = KubeApi::namespaced(client.kube().clone(), LEDGER_NAMESPACE);
    let params = ListParams::default().labels(LEDGER_LABEL);
    let what = format!("list ConfigMaps of namespace {LEDGER_NAMESPACE}");
    let mut parts = Vec::new();
    pages::each(client, &what, &api, &params, |map: ConfigMap| {
        let name = map.metadata.name.unwrap_or_default();
        parts.push((name, map.data.unwrap_or_default()));
    })?;
    Ok(Ledger::read(parts))
}

/// Edits each part that is concerned.
pub(super) fn edit(client: &Client, edit: &LedgerEdit) -> Result<(), ApiError> {
    for (name, edit) in edit.by_part() {
        edit_part(client, &name, &edit)?;
    }
    Ok(())
}

/// Reads a part, edits it, and writes it if nobody else has meanwhile; else begins again.
fn edit_part(client: &Client, name: &str, edit: &LedgerEdit) -> Result<(), ApiError> {
    let api: KubeApi<ConfigMap> = KubeApi::namespaced(client.kube().clone(), LEDGER_NAMESPACE);
    let what = format!("write ConfigMap {LEDGER_NAMESPACE}/{name}");
    let refuse = |why: String| ApiError::Refused {
        what: what.clone(),
        why,
    };
    for _ in 0..TRIES {
        let live = client.call(&what, || api.get_opt(name))?;
        let (mut entries, version) = match live {
            None => (BTreeMap::new(), None),
            Some(map) => {
                let entries = read_part(name, &map.data.unwrap_or_default());
                let entries = entries.map_err(|why| refuse(format!("it is damaged: {why}")))?;
                (entries, map.metadata.resource_version)
            }
        };
        if !edit.edit(&mut entries) {
            return Ok(());
        }
        let wanted = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(LEDGER_NAMESPACE.to_owned()),
                labels: Some(BTreeMap::from([(LEDGER_LABEL.to_owned(), "v1".to_owned())])),
                resource_version: version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(write_part(&entries).map_err(refuse)?),
            ..ConfigMap::default()
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let written = client.try_call(|| async {
            match &version {
                Some(_) => api.replace(name, &params, &wanted).await,
                None => api.create(&params, &wanted).await,
            }
        });
        match written {
            Ok(_) => return Ok(()),
            // Somebody wrote it, or an answer was lost and this is our own writing.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(explain(&what, error)),
        }
    }
    Err(refuse("somebody else keeps writing it; try again".into()))
}

/// Takes harden out of an object's field managers. The values stay: a server-side apply of nothing
/// would remove them.
pub(super) fn release(client: &Client, reference: &ObjectRef) -> Result<(), ApiError> {
    let what = format!("let go of {reference}");
    let Some(reference) = &in_served_version(client, reference)? else {
        return Ok(());
    };
    edit_object(client, reference, &what, &PatchParams::default(), |live| {
        if !bears(live) {
            return None;
        }
        let left = without_us(live);
        let managers = left.pointer("/metadata/managedFields").cloned();
        // An empty list would change nothing; one with an empty entry is what takes all away.
        let managers = match managers {
            Some(Value::Array(all)) if !all.is_empty() => Value::Array(all),
            _ => json!([{}]),
        };
        let version = live.pointer("/metadata/resourceVersion");
        Some(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/metadata/managedFields", "value": managers},
        ]))
    })
}

/// Gives the fields of an object to these managers, whatever its version.
pub(super) fn set_managers(
    client: &Client,
    reference: &ObjectRef,
    what: &str,
    managers: &Value,
) -> Result<(), ApiError> {
    let api = api_for(client.kube(), reference);
    let operations: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": managers},
    ]))
    .map_err(|e| config_error(e, "report this as a fault of harden"))?;
    let patch = Patch::Json::<()>(operations);
    let params = PatchParams::default();
    client.call(what, || api.patch(&reference.name, &params, &patch))?;
    Ok(())
}

/// Names the objects of one kind in one namespace.
pub(super) fn names_beside(
    client: &Client,
    reference: &ObjectRef,
) -> Result<Vec<String>, ApiError> {
    let api = api_for(client.kube(), reference);
    let what = format!(
        "list {} of namespace {}",
        reference.kind, reference.namespace
    );
    let mut names = Vec::new();
    let all = ListParams::default();
    pages::each(
        client,
        &what,
        &api,
        &all,
        |object: kube::api::DynamicObject| {
            names.extend(object.metadata.name);
        },
    )?;
    names.sort();
    Ok(names)
}
