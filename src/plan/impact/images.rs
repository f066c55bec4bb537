//! Images that would be refused.
//!
//! [`image_refused`] judges one image as the admission policy of a tenant does. Which rules a change
//! brings to a namespace is told by one function, `rules`; everything else here follows from it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::enforcement::{Namespace, Planned};
use super::workload::{LISTS, maker, pods, workloads};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, Listing};

/// The registry of an image that names none (distribution/reference: `normalize.go`, `defaultDomain`).
const DEFAULT_REGISTRY: &str = "docker.io";

/// The path on it of an image without one (`officialRepoPrefix`).
const DEFAULT_PATH: &str = "library";

/// What images a namespace takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRules {
    /// Prefixes of trusted images, up to a `/`: `registry.example.com`, `docker.io/library`. Empty
    /// where every registry is trusted.
    pub registries: BTreeSet<String>,
    /// Whether an image must be named by its digest.
    pub digests: bool,
    /// Whether the tag `latest`, or none, is refused where there is no digest.
    pub no_latest: bool,
    /// Whether what breaks a rule is only warned of.
    pub warn_only: bool,
}

/// Judges an image by these rules. Returns why it is refused.
pub fn image_refused(
    image: &str,
    registries: &BTreeSet<String>,
    digests: bool,
    no_latest: bool,
) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon behind the last slash is a tag's; one before it is a port's.
    let path_start = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[path_start..].split_once(':') {
        Some((last, tag)) => (&name[..path_start + last.len()], Some(tag)),
        None => (name, None),
    };
    let full = full_name(repository);
    if !registries.is_empty() && !registries.iter().any(|trusted| is_below(&full, trusted)) {
        return Some(format!("{full} is in no trusted registry"));
    }
    // sha256 is what registries use; anything else is no digest that holds.
    let is_digest = digest.is_some_and(|digest| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    });
    if digests && !is_digest {
        return Some("it is not named by a digest".into());
    }
    if no_latest && !is_digest {
        return match tag {
            None => Some("it has no tag, which means latest".into()),
            Some("latest") => Some("its tag is latest".into()),
            Some(_) => None,
        };
    }
    None
}

/// Completes a repository's name by what is left out for Docker Hub: its registry and path.
fn full_name(repository: &str) -> String {
    let is_registry = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
    };
    match repository.split_once('/') {
        None => format!("{DEFAULT_REGISTRY}/{DEFAULT_PATH}/{repository}"),
        Some(("index.docker.io", rest)) => full_name(&format!("{DEFAULT_REGISTRY}/{rest}")),
        Some((DEFAULT_REGISTRY, rest)) if !rest.contains('/') => {
            format!("{DEFAULT_REGISTRY}/{DEFAULT_PATH}/{rest}")
        }
        Some((first, _)) if is_registry(first) => repository.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{repository}"),
    }
}

/// Whether a name is this prefix or below it. The prefix ends where a part of the name does.
fn is_below(name: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    !prefix.is_empty()
        && name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns which rules a planned change brings to which namespaces. **This is the one place that knows
/// how a profile writes them.**
pub(super) fn rules(_planned: &Planned) -> Vec<(String, ImageRules)> {
    Vec::new()
}

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    !namespace.images.is_empty()
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<Listing> {
    match concerns(namespace) {
        true => LISTS.to_vec(),
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    for (planned, rules) in &namespace.images {
        refused(namespace, planned, rules, facts, found);
    }
}

fn refused(
    namespace: &Namespace<'_>,
    planned: &Planned,
    rules: &ImageRules,
    facts: &ImpactFacts,
    found: &mut Found,
) {
    let kind = HitKind::Images;
    let mut used = images(facts, &namespace.name);
    for why in std::mem::take(&mut used.unknown) {
        let why = format!("which images are refused: {why}");
        found.unknown(kind, &namespace.name, why);
    }
    let mut who = Vec::new();
    let mut evidence = Vec::new();
    for (image, users) in used.by_image {
        let why = image_refused(&image, &rules.registries, rules.digests, rules.no_latest);
        if let Some(why) = why {
            let users: Vec<String> = users.into_iter().collect();
            evidence.push(format!("{image}: {why}; used by {}", users.join(", ")));
            who.push(image);
        }
    }
    let effect = match rules.warn_only {
        true => Effect::Warned,
        false => Effect::RefusedAtNextStart,
    };
    found.hit_in(
        &namespace.name,
        planned,
        (kind, effect),
        "image(s) that are not trusted".to_owned(),
        (who.len(), who),
        evidence,
    );
}

/// The images that a namespace uses, each with the workloads that use it.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) by_image: std::collections::BTreeMap<String, BTreeSet<String>>,
    /// Why there may be others, one line each.
    pub(super) unknown: Vec<String>,
}

/// Collects the images of running pods, where a webhook may have put in others, and of templates.
pub(super) fn images(facts: &ImpactFacts, namespace: &str) -> Images {
    let workloads = workloads(facts, namespace);
    let names: BTreeSet<String> = workloads.all.iter().map(|one| one.name.clone()).collect();
    let mut used = Images {
        unknown: workloads.unknown,
        ..Images::default()
    };
    let mut add = |who: &str, spec: &Value| {
        for field in ["initContainers", "containers"] {
            let containers = spec[field].as_array().into_iter().flatten();
            for image in containers.filter_map(|one| one["image"].as_str()) {
                let users = used.by_image.entry(image.to_owned()).or_default();
                users.insert(who.to_owned());
            }
        }
    };
    for one in &workloads.all {
        add(&one.name, one.spec);
    }
    // That they could not be listed is said above.
    for pod in pods(facts, namespace).unwrap_or_default() {
        add(&maker(pod, &names), &pod["spec"]);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(image: &str, registries: &[&str], digests: bool, no_latest: bool) -> Option<String> {
        let registries = registries.iter().map(|one| (*one).to_owned()).collect();
        image_refused(image, &registries, digests, no_latest)
    }

    #[test]
    fn a_registry_is_the_whole_of_its_name() {
        let trusted = [
            "registry.example.com",
            "docker.io/library",
            "local:5000/team/",
        ];
        for image in [
            "registry.example.com/a",
            "registry.example.com/a/b:1",
            "busybox",
            "busybox:1.35",
            "library/busybox",
            "docker.io/busybox",
            "docker.io/library/busybox@sha256:00",
            "index.docker.io/library/busybox",
            "local:5000/team/web",
        ] {
            assert_eq!(judged(image, &trusted, false, false), None, "{image}");
        }
        for image in [
            "registry.example.com.evil.org/a",
            "registry.example.com:443/a",
            "registry.example.co/a",
            "evil.org/registry.example.com/a",
            "registry.example.commercial/a",
            "grafana/grafana",
            "docker.io/grafana/grafana",
            "local:5000/teams/web",
            "local:5000/web",
            "local/team/web",
            "localhost/library/busybox",
            "quay.io/library/busybox",
            "",
        ] {
            let why = judged(image, &trusted, false, false);
            assert!(
                why.is_some_and(|why| why.contains("no trusted registry")),
                "{image}"
            );
        }
        assert_eq!(judged("anything/at/all", &[], false, false), None);
        assert!(judged("a", &["/"], false, false).is_some());
    }

    #[test]
    fn a_tag_is_no_digest_and_none_is_latest() {
        let digest = format!("@sha256:{}", "0a".repeat(32));
        for (image, by_digest, by_tag) in [
            ("a", false, false),
            ("a:latest", false, false),
            ("a:1", false, true),
            ("a:latest-1", false, true),
            ("host:5000/a", false, false),
            ("host:5000/a:1", false, true),
            ("a@sha256:00", false, false),
            ("a@md5:00", false, false),
            ("a:1@sha256:00", false, true),
        ] {
            let is_good = |digests, no_latest| judged(image, &[], digests, no_latest).is_none();
            assert_eq!(is_good(true, false), by_digest, "{image} by digest");
            assert_eq!(is_good(false, true), by_tag, "{image} by tag");
            assert!(is_good(false, false), "{image}");
            let with_digest = format!("{image}{digest}");
            if !image.contains('@') {
                assert_eq!(judged(&with_digest, &[], true, true), None, "{with_digest}");
            }
        }
    }
}
