//! The resources that the API serves.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;

use super::ApiError;
use super::client::Client;

impl Client {
    /// Lists the resources that can be listed and patched, in the version that each group prefers, as an
    /// EncryptionConfiguration names them: `secrets`, `deployments.apps`.
    ///
    /// # Errors
    /// When the API does not answer. A group whose own server is down does not hinder the others: what it
    /// serves is not in this cluster's etcd, or cannot be written now.
    pub fn served(&self) -> Result<BTreeSet<String>, ApiError> {
        let what = "list the API's resources";
        let core = self.call(what, || self.kube().list_core_api_resources("v1"))?;
        let groups = self.call(what, || self.kube().list_api_groups())?;
        let mut served = names(&core, "");
        for group in groups.groups {
            let preferred = group.preferred_version.or(group.versions.into_iter().next());
            let Some(version) = preferred.map(|version| version.group_version) else {
                continue;
            };
            let list = self.call(what, || self.kube().list_api_group_resources(&version));
            match list {
                Ok(list) => served.extend(names(&list, &group.name)),
                Err(error) => tracing::info!("{version} is left out: {error}"),
            }
        }
        Ok(served)
    }
}

/// Without subresources; events are stored in the group without a name only.
fn names(list: &APIResourceList, group: &str) -> BTreeSet<String> {
    let can = |verbs: &[String], verb: &str| verbs.iter().any(|v| v == verb);
    list.resources
        .iter()
        .filter(|resource| !resource.name.contains('/') && group != "events.k8s.io")
        .filter(|resource| can(&resource.verbs, "list") && can(&resource.verbs, "patch"))
        .map(|resource| match group {
            "" => resource.name.clone(),
            group => format!("{}.{group}", resource.name),
        })
        .collect()
}
