//! The resources that the API serves.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::ApiResource;

use super::ApiError;
use super::client::Client;

/// A resource whose objects can be listed and patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub(super) resource: ApiResource,
}

impl Client {
    /// Lists the resources that can be listed and patched, in the version that each group prefers, by the
    /// name that an EncryptionConfiguration has for them: `secrets`, `deployments.apps`.
    ///
    /// # Errors
    /// When the API does not answer. A group whose own server is down does not hinder the others: what it
    /// serves is not in this cluster's etcd, or cannot be written now.
    pub fn served(&self) -> Result<BTreeMap<String, Served>, ApiError> {
        let what = "list the API's resources";
        let core = self.call(what, || self.kube().list_core_api_resources("v1"))?;
        let groups = self.call(what, || self.kube().list_api_groups())?;
        let mut served = resources(&core, "", "v1");
        for group in groups.groups {
            let preferred = group
                .preferred_version
                .or(group.versions.into_iter().next());
            let Some(preferred) = preferred else { continue };
            let version = &preferred.group_version;
            let list = self.call(what, || self.kube().list_api_group_resources(version));
            match list {
                Ok(list) => served.extend(resources(&list, &group.name, &preferred.version)),
                Err(error) => tracing::info!("{version} is left out: {error}"),
            }
        }
        Ok(served)
    }
}

/// Without subresources; events are stored in the group without a name only.
fn resources(list: &APIResourceList, group: &str, version: &str) -> BTreeMap<String, Served> {
    let can = |verbs: &[String], verb: &str| verbs.iter().any(|v| v == verb);
    list.resources
        .iter()
        .filter(|resource| !resource.name.contains('/') && group != "events.k8s.io")
        .filter(|resource| can(&resource.verbs, "list") && can(&resource.verbs, "patch"))
        .map(|resource| {
            let (name, api_version) = match group {
                "" => (resource.name.clone(), version.to_owned()),
                group => (
                    format!("{}.{group}", resource.name),
                    format!("{group}/{version}"),
                ),
            };
            let resource = ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version,
                kind: resource.kind.clone(),
                plural: resource.name.clone(),
            };
            (name, Served { resource })
        })
        .collect()
}
