//! Images that would be refused.
//!
//! [`image_refused`] judges one image as the admission policy of tenants does (`modules/tenant-fence.toml`).
//! Which rules a namespace has is told by one function, `rules_of`; everything else here follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::enforcement::{Namespace, Planned};
use super::workload::{LISTS, maker, pods, workloads};
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

/// The registry of an image that names none (distribution/reference: `normalize.go`, `defaultDomain`).
const DEFAULT_REGISTRY: &str = "docker.io";

/// The path on it of an image without one (`officialRepoPrefix`).
const DEFAULT_PATH: &str = "library";

/// What an image's name must look like to be judged (distribution/reference: `regexp.go`).
static READABLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let host = r"(([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(:[0-9]+)?";
    let part = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*";
    let tag = r":[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}";
    let digest = r"@(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})";
    Regex::new(&format!("^({host}/)?{part}(/{part})*({tag})?({digest})?$")).ok()
});

/// What images a namespace takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageRules {
    /// Prefixes of trusted images, each up to a `/`: `registry.example.com`, `docker.io/library`. Empty
    /// where every registry is trusted.
    pub registries: BTreeSet<String>,
    /// Whether an image must be named by its digest.
    pub digests: bool,
    /// Whether the tag `latest`, or none, is refused where there is no digest.
    pub no_latest: bool,
    /// Whether what breaks a rule is only warned of.
    pub warn_only: bool,
}

impl ImageRules {
    fn refuses(&self, image: &str) -> Option<String> {
        image_refused(image, &self.registries, self.digests, self.no_latest)
    }
}

/// Judges an image by these rules. Returns why it is refused.
pub fn image_refused(
    image: &str,
    registries: &BTreeSet<String>,
    digests: bool,
    no_latest: bool,
) -> Option<String> {
    let is_readable = READABLE.as_ref().is_some_and(|form| form.is_match(image));
    if !is_readable || image.len() >= 1024 {
        return Some("it is no name that can be judged".into());
    }
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
    if digests && digest.is_none() {
        return Some("it is not named by a digest".into());
    }
    match tag {
        None if no_latest && digest.is_none() => Some("it has no tag, which means latest".into()),
        Some("latest") if no_latest && digest.is_none() => Some("its tag is latest".into()),
        _ => None,
    }
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

/// Whether a name is this prefix or below it. The prefix ends where a part of the name does; one that
/// ends in `/` is only what is below.
fn is_below(name: &str, prefix: &str) -> bool {
    match prefix.strip_suffix('/') {
        Some("") => false,
        Some(_) => name.starts_with(prefix),
        None => name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

/// Reads the rules of a namespace out of its label and annotations. **This is the one place that knows
/// how they are written**; see `modules/tenants.toml`, `registries`.
fn rules_of(namespace: &Value) -> Option<ImageRules> {
    let metadata = &namespace["metadata"];
    let mode = metadata["labels"]["harden.dev/images"].as_str()?;
    let says = |name: &str| metadata["annotations"][name].as_str();
    // An empty list is one line that names nothing, as the policy reads it.
    let registries = says("harden.dev/registries").map(|text| text.split('\n').map(str::to_owned));
    Some(ImageRules {
        registries: registries.into_iter().flatten().collect(),
        digests: says("harden.dev/image-digests") == Some("true"),
        no_latest: says("harden.dev/image-latest") == Some("false"),
        warn_only: mode == "warn",
    })
}

/// The rules that a namespace gets and does not have, with those that it has.
fn change<'p>(namespace: &Namespace<'p>) -> Option<(&'p Planned, Option<ImageRules>, ImageRules)> {
    let planned = namespace.of("Namespace").next()?;
    let was = planned.before.as_ref().and_then(rules_of);
    let now = planned.after.as_ref().and_then(rules_of)?;
    (was.as_ref() != Some(&now)).then_some((planned, was, now))
}

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    change(namespace).is_some()
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => LISTS.to_vec(),
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let Some((planned, was, now)) = change(namespace) else {
        return;
    };
    let kind = HitKind::Images;
    let used = images(facts, &namespace.name);
    for why in used.unknown {
        let why = format!("which images are refused: {why}");
        found.unknown(kind, &namespace.name, why);
    }
    let mut who = Vec::new();
    let mut evidence = Vec::new();
    for (image, users) in used.by_image {
        let is_refused_already = was
            .as_ref()
            .filter(|was| !was.warn_only || now.warn_only)
            .is_some_and(|was| was.refuses(&image).is_some());
        if let Some(why) = now.refuses(&image).filter(|_| !is_refused_already) {
            let users: Vec<String> = users.into_iter().collect();
            evidence.push(format!("{image}: {why}; used by {}", users.join(", ")));
            who.push(image);
        }
    }
    let effect = match now.warn_only {
        true => Effect::Warned,
        false => Effect::RefusedAtNextStart,
    };
    let what = "image(s) that are not trusted";
    found.hit(planned, (kind, effect), what, who, evidence);
}

/// The images that a namespace uses, each with the workloads that use it.
#[derive(Debug, Default)]
struct Images {
    by_image: BTreeMap<String, BTreeSet<String>>,
    /// Why there may be others, one line each.
    unknown: Vec<String>,
}

/// Collects the images of running pods, where a webhook may have put in others, and of templates.
fn images(facts: &ImpactFacts, namespace: &str) -> Images {
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
        let volumes = spec["volumes"].as_array().into_iter().flatten();
        for image in volumes.filter_map(|one| one["image"]["reference"].as_str()) {
            let users = used.by_image.entry(image.to_owned()).or_default();
            users.insert(who.to_owned());
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
            "docker.io/library/busybox:1",
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
            "local:5000/team",
            "local/team/web",
            "localhost/library/busybox",
            "quay.io/library/busybox",
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
        ] {
            let is_good = |digests, no_latest| judged(image, &[], digests, no_latest).is_none();
            assert_eq!(is_good(true, false), by_digest, "{image} by digest");
            assert_eq!(is_good(false, true), by_tag, "{image} by tag");
            assert!(is_good(false, false), "{image}");
            let with_digest = format!("{image}{digest}");
            assert_eq!(judged(&with_digest, &[], true, true), None, "{with_digest}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_judged_is_refused() {
        for image in [
            "",
            "a b",
            "A",
            "a@sha256:00",
            "a@md5:00",
            "a:1@sha256:00",
            "a@b@c",
            "a:",
            "a//b",
            "https://a/b",
            "a\n",
        ] {
            let why = judged(image, &[], false, false);
            assert!(
                why.is_some_and(|why| why.contains("can be judged")),
                "{image}"
            );
        }
        let long = format!("a/{}", "b".repeat(1022));
        assert!(judged(&long, &[], false, false).is_some());
    }
}
