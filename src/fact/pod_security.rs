//! Which pods a Pod Security level would refuse, by what the API server answers to a dry run.
//!
//! A namespace whose label `enforce` changes is checked by the API server against its existing pods, and
//! the answer warns of those below the new level. Pods are grouped by what is wrong with them, and
//! named by the first. It looks at one pod of each controller first, at 3,000 pods at most, and for one
//! second at most. Source: kubernetes v1.35 staging/src/k8s.io/pod-security-admission/admission/admission.go,
//! `ValidateNamespace`, `EvaluatePodsInNamespace` and `decoratePodWarnings`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::warning::Warnings;

/// The label of a namespace that says which level its pods must keep (kubernetes v1.35
/// staging/src/k8s.io/pod-security-admission/api/constants.go).
pub const ENFORCE_LABEL: &str = "pod-security.kubernetes.io/enforce";
/// The label that says which version's Pod Security Standards count.
pub const ENFORCE_VERSION_LABEL: &str = "pod-security.kubernetes.io/enforce-version";

/// A version that is judged like `latest` and is not the same: beyond the newest one that a server
/// knows, its newest counts (staging/src/k8s.io/pod-security-admission/policy/registry.go, `EvaluatePod`).
///
/// A server looks at no pod where level and version are those that hold already by its own default.
pub const BEYOND_LATEST: &str = "v1.9999";

/// How many names an answer holds, and how many reasons.
const MAX_NAMED: usize = 50;

/// The most characters of a reason.
const MAX_REASON: usize = 300;

/// A Pod Security level that namespaces without one of their own shall have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodLevel {
    /// `baseline` or `restricted`.
    pub level: String,
    /// `latest`, or a version such as `v1.35`.
    pub version: String,
    /// The namespaces for which it does not count.
    pub exempt: BTreeSet<String>,
}

impl fmt::Display for PodLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version.as_str() {
            "latest" => f.write_str(&self.level),
            version => write!(f, "{} of {version}", self.level),
        }
    }
}

impl PodLevel {
    /// Returns the labels that a namespace with these would be tried with; `None` where the level does
    /// not count for it. A version of its own stays, since it holds for the default level too
    /// (staging/src/k8s.io/pod-security-admission/api/helpers.go: `PolicyToEvaluate`).
    pub fn labels_to_try(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<BTreeMap<&'static str, String>> {
        if self.exempt.contains(namespace) || labels.contains_key(ENFORCE_LABEL) {
            return None;
        }
        let version = labels.get(ENFORCE_VERSION_LABEL).unwrap_or(&self.version);
        // One that cannot be read counts as the latest.
        let is_number = version.strip_prefix("v1.").is_some_and(|minor| {
            (1..=4).contains(&minor.len())
                && minor.bytes().all(|b| b.is_ascii_digit())
                && (minor == "0" || !minor.starts_with('0'))
        });
        let version = if is_number { version } else { BEYOND_LATEST };
        Some(
            [
                (ENFORCE_LABEL, self.level.clone()),
                (ENFORCE_VERSION_LABEL, version.to_owned()),
            ]
            .into(),
        )
    }
}

/// The pods that a level would refuse when they are made again, as an answer has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodsBelow {
    /// How many namespaces were asked about, with or without success.
    pub asked: usize,
    /// How many pods there are.
    pub count: usize,
    /// The first of their names, `NAMESPACE/POD`. Of pods with the same faults only one is named.
    pub names: Vec<String>,
    /// Of how many namespaces it is not known whether these are all.
    pub untold: usize,
    /// The first of them, with the reason: `NAMESPACE: …`.
    pub reasons: Vec<String>,
}

impl PodsBelow {
    /// Adds what a namespace's answer warns of.
    pub fn add(&mut self, namespace: &str, told: Told) {
        self.asked += 1;
        for (name, count) in told.pods {
            self.count = self.count.saturating_add(count);
            if self.names.len() < MAX_NAMED {
                self.names.push(format!("{namespace}/{name}"));
            }
        }
        if let Some(why) = told.untold {
            self.untold += 1;
            if self.reasons.len() < MAX_NAMED {
                let why: String = why.chars().take(MAX_REASON).collect();
                self.reasons.push(format!("{namespace}: {why}"));
            }
        }
    }
}

/// What is known of the pods of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The pods below the level: one name for all that have the same faults, and how many these are.
    pub pods: Vec<(String, usize)>,
    /// Why there may be others.
    pub untold: Option<String>,
}

impl Told {
    /// Nothing is known, for this reason.
    pub fn nothing(why: impl Into<String>) -> Self {
        Told {
            pods: Vec::new(),
            untold: Some(why.into()),
        }
    }

    /// Reads what an answer warns of. Others may warn as well, admission webhooks for example; what
    /// is about Pod Security and is not understood hides that the answer is good.
    pub fn of(warnings: &Warnings) -> Self {
        let mut told = Told::default();
        let mut why = |text: &str| {
            told.untold.get_or_insert_with(|| text.to_owned());
        };
        let mut listed = false;
        if !warnings.complete {
            why("there may be more than the API server has told");
        }
        for text in &warnings.texts {
            if text.starts_with("existing pods in namespace ")
                && text.contains(" violate the new PodSecurity enforce level ")
            {
                listed = true;
            } else if let Some(pods) = group(text).filter(|_| listed) {
                told.pods.push(pods);
            } else if text.contains("is exempt from Pod Security") {
                why("the API server exempts it today, and looks at none of its pods");
            } else if text.contains("PodSecurity") || text.contains("Pod Security") {
                why(text);
            }
        }
        if listed && told.pods.is_empty() {
            why("it has such pods, and their names are not understood");
        }
        told
    }
}

/// Reads a line about one pod, or several with the same faults: `NAME: FAULTS`, `NAME (and 1 other pod):
/// FAULTS`. The server may have cut the line at 256 characters.
fn group(text: &str) -> Option<(String, usize)> {
    let end = text.find([':', ' ']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if !is_dns_name(name) {
        return None;
    }
    let is_cut = name.len() > 200 && text.chars().count() >= 253;
    match others(rest) {
        Some(others) => Some((name.to_owned(), others as usize + 1)),
        None if rest.starts_with(':') || is_cut => Some((name.to_owned(), 1)),
        None => None,
    }
}

/// Reads ` (and 2 other pods):`.
fn others(text: &str) -> Option<u32> {
    let (others, rest) = text.strip_prefix(" (and ")?.split_once(" other pod")?;
    let word_ends = rest.strip_prefix('s').unwrap_or(rest).starts_with("):");
    others
        .parse()
        .ok()
        .filter(|others| word_ends && *others > 0)
}

/// Whether a text is a DNS name as objects have them (apimachinery: `IsDNS1123Subdomain`).
pub fn is_dns_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            label.bytes().all(|b| inner(b) || b == b'-')
                && label.bytes().next().is_some_and(inner)
                && label.bytes().next_back().is_some_and(inner)
        })
}

#[cfg(test)]
mod tests;
