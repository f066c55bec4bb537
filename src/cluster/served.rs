//! The resources that the API serves.

use std::collections::BTreeMap;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::{Api as KubeApi, ApiResource, PostParams};

use super::ApiError;
use super::client::Client;
use crate::fact::ObjectRef;

/// A resource whose objects can be listed and patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub(super) resource: ApiResource,
}

impl Client {
    /// The same object in a version that the API serves now; `None` where it has no such kind.
    ///
    /// # Errors
    /// When the API does not answer.
    pub(super) fn served_reference(
        &self,
        reference: &ObjectRef,
    ) -> Result<Option<ObjectRef>, ApiError> {
        let what = "list the API's resources";
        let (group, _) = reference.api_version.split_once('/').unwrap_or_default();
        let versions: Vec<String> = match group {
            "" => vec!["v1".into()],
            _ => {
                let groups = self.call(what, || self.kube().list_api_groups())?.groups;
                let ours = groups.into_iter().filter(|one| one.name == group);
                ours.flat_map(|one| one.versions)
                    .map(|version| version.group_version)
                    .collect()
            }
        };
        for version in versions {
            let list = match group {
                "" => self.call(what, || self.kube().list_core_api_resources(&version))?,
                _ => self.call(what, || self.kube().list_api_group_resources(&version))?,
            };
            if list.resources.iter().any(|one| one.kind == reference.kind) {
                return Ok(Some(ObjectRef {
                    api_version: version,
                    ..reference.clone()
                }));
            }
        }
        Ok(None)
    }

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

/// Asks the API server whether this user may do something in the whole cluster. The review is answered and
/// never stored.
pub(super) fn may(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
) -> Result<bool, ApiError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.into()),
                group: Some(group.into()),
                resource: Some(resource.into()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: KubeApi<SelfSubjectAccessReview> = KubeApi::all(client.kube().clone());
    let what = format!("ask whether this user may {verb} {resource}.{group}");
    let params = PostParams::default();
    let answer = client.call(&what, || api.create(&params, &review))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::Api;
    use super::super::fake::{Answer, serve};
    use super::*;

    fn policy(version: &str) -> ObjectRef {
        ObjectRef {
            api_version: format!("x.example.org/{version}"),
            kind: "Policy".into(),
            namespace: "pay".into(),
            name: "p".into(),
        }
    }

    /// An API that has Policies in these versions of a group, with one of uid `u`.
    fn cluster(versions: &'static [&'static str]) -> Client {
        let object = |version: &str| {
            json!({"apiVersion": format!("x.example.org/{version}"), "kind": "Policy",
                "metadata": {"name": "p", "namespace": "pay", "uid": "u"}})
        };
        let (client, _) = serve(Duration::ZERO, move |asked| {
            let path = asked.line.split(['?', ' ']).nth(1).unwrap_or_default();
            let parts: Vec<&str> = path.split('/').skip(1).collect();
            match parts[..] {
                ["apis"] => {
                    let versions: Vec<Value> = versions
                        .iter()
                        .map(|one| json!({"groupVersion": format!("x.example.org/{one}"), "version": one}))
                        .collect();
                    let groups = match versions.is_empty() {
                        true => json!([]),
                        false => json!([{"name": "x.example.org", "versions": versions}]),
                    };
                    Answer::ok(
                        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
                    )
                }
                ["apis", _, version] => {
                    Answer::ok(json!({"kind": "APIResourceList", "apiVersion": "v1",
                    "groupVersion": format!("x.example.org/{version}"),
                    "resources": [{"name": "policies", "singularName": "", "namespaced": true, "kind": "Policy", "verbs": ["get"]}]}))
                }
                ["apis", _, version, .., "p"] if versions.contains(&version) => {
                    match asked.body.pointer("/preconditions/uid") {
                        Some(uid) if uid != "u" => Answer::refused(
                            409,
                            "Precondition failed",
                            json!({"reason": "Conflict"}),
                        ),
                        _ => Answer::ok(object(version)),
                    }
                }
                ["apis", _, version, .., name] if versions.contains(&version) => Answer::refused(
                    404,
                    "not found",
                    json!({"reason": "NotFound", "details": {"name": name}}),
                ),
                ["apis", "authorization.k8s.io", ..] => {
                    let mut review = asked.body.clone();
                    let verb = &asked.body["spec"]["resourceAttributes"]["verb"];
                    review["status"] = json!({"allowed": verb == "update"});
                    Answer::ok(review)
                }
                _ => Answer::refused(
                    404,
                    "the server could not find the requested resource",
                    json!({"details": {}}),
                ),
            }
        });
        client
    }

    #[test]
    fn an_object_is_gone_only_where_its_kind_is_served_and_it_is_not_there() {
        let client = cluster(&["v1"]);
        // In a version that the server has no more, it is looked for in the one that it has.
        let found = client.get(&policy("v1beta1")).unwrap().unwrap();
        assert_eq!(found["apiVersion"], "x.example.org/v1");
        let other = |version| ObjectRef {
            name: "other".into(),
            ..policy(version)
        };
        assert_eq!(client.get(&other("v1")), Ok(None));
        assert_eq!(client.get(&other("v1beta1")), Ok(None));
        let unknown = cluster(&[]).get(&policy("v1beta1")).unwrap_err();
        assert!(matches!(unknown, ApiError::NoKind { .. }), "{unknown}");
    }

    #[test]
    fn only_the_object_that_was_looked_at_is_deleted() {
        let client = cluster(&["v1"]);
        let moved = client.delete(&policy("v1"), "another").unwrap_err();
        assert!(matches!(moved, ApiError::Moved { .. }), "{moved}");
    }

    #[test]
    fn the_server_says_what_this_user_may() {
        let client = cluster(&[]);
        assert_eq!(client.may("update", "harden.dev", "fences"), Ok(true));
        assert_eq!(client.may("delete", "harden.dev", "fences"), Ok(false));
    }
}
