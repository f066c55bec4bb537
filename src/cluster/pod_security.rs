//! Which pods a Pod Security level would refuse: the API server is asked by dry runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api as KubeApi, ListParams};
use serde_json::{Value, json};

use super::client::{Client, explain};
use super::{ApiError, FIELD_MANAGER, endpoint, pages};
use crate::fact::{
    BEYOND_LATEST, ENFORCE_LABEL, ENFORCE_VERSION_LABEL, LevelTold, PodLevel, PodsBelow, Told,
    Warnings, is_dns_name,
};

/// How long all namespaces together may take. The server takes one second for each at most.
const TIME: Duration = Duration::from_secs(120);

/// No level: the plugin PodSecurity refuses a namespace with it (kubernetes v1.35
/// staging/src/k8s.io/pod-security-admission/admission/admission.go, `ValidateNamespace`), and nothing
/// else does.
const NO_LEVEL: &str = "harden-asks";

type Labels = BTreeMap<&'static str, String>;

/// Asks for every namespace for which the level would count.
pub(super) fn pods_below(client: &Client, level: &PodLevel) -> Result<PodsBelow, ApiError> {
    let mut namespaces: Vec<(String, Labels)> = Vec::new();
    let api: KubeApi<Namespace> = KubeApi::all(client.kube().clone());
    let all = ListParams::default();
    pages::each(client, "list Namespaces", &api, &all, |one: Namespace| {
        let name = one.metadata.name.unwrap_or_default();
        let labels = one.metadata.labels.unwrap_or_default();
        let tried = level.labels_to_try(&name, &labels);
        // The name becomes a part of a path.
        let tried = tried.filter(|_| is_dns_name(&name));
        namespaces.extend(tried.map(|labels| (name, labels)));
    })?;
    let begun = Instant::now();
    let mut below = PodsBelow::default();
    let mut plugin_works = false;
    let mut silent: Option<String> = None;
    for (name, labels) in &namespaces {
        if begun.elapsed() > TIME {
            silent.get_or_insert_with(|| "asking for all takes too long".into());
        }
        if let Some(why) = &silent {
            below.add(name, Told::nothing(why));
            continue;
        }
        let told = match plugin_works {
            true => Ok(()),
            false => plugin_judges(client, name, labels),
        };
        match told.and_then(|()| ask(client, name, labels)) {
            Ok(told) => {
                plugin_works = true;
                below.add(name, told);
            }
            Err(Silence::Gone) => {}
            Err(Silence::Namespace(why)) => below.add(name, Told::nothing(why)),
            Err(Silence::Server(why)) => {
                below.add(name, Told::nothing(&why));
                silent = Some(why);
            }
            Err(Silence::PluginOff) => {
                return Err(ApiError::Refused {
                    what: "ask which pods a Pod Security level would refuse".into(),
                    why: "the API server's admission plugin PodSecurity looks at no namespace; is it off?".into(),
                });
            }
        }
    }
    Ok(below)
}

/// Why there is no answer.
pub(super) enum Silence {
    /// The namespace is no more.
    Gone,
    /// It cannot be told for this namespace.
    Namespace(String),
    /// Nobody answers.
    Server(String),
    /// The plugin does not work.
    PluginOff,
}

/// Whether the plugin works, by a namespace that would get these labels.
pub(super) fn plugin_works(
    client: &Client,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(), Silence> {
    plugin_judges(client, namespace, &of_level(namespace, labels)?)
}

/// Asks what a namespace would be warned of that gets these labels.
pub(super) fn level_told(
    client: &Client,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<LevelTold, Silence> {
    let labels = of_level(namespace, labels)?;
    let warnings = warnings(client, namespace, &labels).map_err(silence)?;
    Ok(match warnings {
        Some(warnings) => LevelTold {
            told: Told::of(&warnings),
            words: warnings.texts,
        },
        None => LevelTold {
            told: Told::nothing(NOT_KEPT),
            words: Vec::new(),
        },
    })
}

/// The two labels that say which level holds. The name becomes a part of a path.
fn of_level(namespace: &str, labels: &BTreeMap<String, String>) -> Result<Labels, Silence> {
    if !is_dns_name(namespace) {
        return Err(Silence::Namespace(
            "it is not the name of a namespace".into(),
        ));
    }
    let of = |label| labels.get(label).map(|value| (label, value.clone()));
    let both = [of(ENFORCE_LABEL), of(ENFORCE_VERSION_LABEL)];
    Ok(both.into_iter().flatten().collect())
}

/// Whether the plugin refuses what it must refuse. Where it is off, no answer means anything.
fn plugin_judges(client: &Client, namespace: &str, labels: &Labels) -> Result<(), Silence> {
    let mut labels = labels.clone();
    labels.insert(ENFORCE_LABEL, NO_LEVEL.into());
    match try_labels(client, namespace, &labels) {
        Ok(told) => Err(told.untold.map_or(Silence::PluginOff, Silence::Namespace)),
        Err(kube::Error::Api(status))
            if status.code == 422 && status.message.contains(ENFORCE_LABEL) =>
        {
            Ok(())
        }
        Err(error) => Err(silence(error)),
    }
}

/// Asks what a namespace with these labels would be warned of.
fn ask(client: &Client, namespace: &str, labels: &Labels) -> Result<Told, Silence> {
    let told = try_labels(client, namespace, labels).map_err(silence)?;
    if told != Told::default() || labels[ENFORCE_VERSION_LABEL] == BEYOND_LATEST {
        return Ok(told);
    }
    // Where this very level is the server's default already, it looks at nothing and says nothing. That is
    // right, since it refuses such pods today, but not for a namespace that it exempts so far. Asked for
    // another version, it does say so.
    let mut other = labels.clone();
    other.insert(ENFORCE_VERSION_LABEL, BEYOND_LATEST.into());
    let other = try_labels(client, namespace, &other).map_err(silence)?;
    Ok(Told {
        untold: other.untold,
        ..told
    })
}

fn silence(error: kube::Error) -> Silence {
    match error {
        kube::Error::Api(status) if status.code == 404 => Silence::Gone,
        error => match explain("try a level", error) {
            error @ ApiError::Unreachable { .. } => Silence::Server(error.to_string()),
            error => Silence::Namespace(error.to_string()),
        },
    }
}

/// Sends one dry run, and reads which pods it warns of.
fn try_labels(client: &Client, namespace: &str, labels: &Labels) -> Result<Told, kube::Error> {
    Ok(match warnings(client, namespace, labels)? {
        Some(warnings) => Told::of(&warnings),
        None => Told::nothing(NOT_KEPT),
    })
}

/// Why an answer says nothing.
const NOT_KEPT: &str = "the namespace would not get the label: something on the way takes it off";

/// Sends one dry run. `None` where the namespace would not get the labels.
fn warnings(
    client: &Client,
    namespace: &str,
    labels: &Labels,
) -> Result<Option<Warnings>, kube::Error> {
    let path = format!("/api/v1/namespaces/{namespace}?dryRun=All&fieldManager={FIELD_MANAGER}");
    let body = json!({"metadata": {"labels": labels}}).to_string();
    let (headers, text) = client.try_call(|| async {
        let request = http::Request::patch(&path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .header(http::header::ACCEPT, "application/json")
            .body(body.clone().into_bytes().into())
            .map_err(kube::Error::HttpError)?;
        endpoint::send(client.kube().clone(), request).await
    })?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let kept = labels
        .iter()
        .all(|(label, value)| answer["metadata"]["labels"][label] == **value);
    if !kept {
        return Ok(None);
    }
    let values = headers.get_all(http::header::WARNING);
    let values = values.iter().map(|value| value.as_bytes());
    Ok(Some(Warnings::read(values)))
}

#[cfg(test)]
mod tests;
