//! Reads an audit policy as the API server does, and finds what it would refuse, never reach, or
//! write into the log that must not be there.
//!
//! The shape is that of kubernetes v1.35 staging/src/k8s.io/apiserver/pkg/apis/audit/v1/types.go, the
//! rules those of …/pkg/apis/audit/validation/validation.go and …/pkg/audit/policy/reader.go, and what
//! a rule matches is decided as in …/pkg/audit/policy/checker.go. The API server only logs a warning
//! about a field that it does not know, and then goes on without it.

use serde::Deserialize;
use serde_json::Value;

use reach::{exposed, is_catch_all};

mod reach;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    #[serde(default)]
    rules: Vec<Value>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default, rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

/// A rule; the first one that matches a request decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default, rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

const API_VERSION: &str = "audit.k8s.io/v1";

/// v1 types.go: `StageRequestReceived` and so on.
pub(crate) const STAGES: &[&str] = &[
    "RequestReceived",
    "ResponseStarted",
    "ResponseComplete",
    "Panic",
];

/// What requests for resources can be (…/pkg/endpoints/request/requestinfo.go: `NewRequestInfo`).
const RESOURCE_VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "proxy",
];

/// Other requests have their HTTP method in small letters.
const URL_VERBS: &[&str] = &[
    "get", "head", "post", "put", "patch", "delete", "options", "connect", "trace",
];

/// Checks a policy.
///
/// # Errors
/// Every fault, each with the number of its rule from 1 and what to do about it.
pub(crate) fn check(policy: &Value) -> Result<(), Vec<String>> {
    let policy: Policy = Policy::deserialize(policy).map_err(|e| {
        vec![format!(
            "audit policy: {e}; use the fields of {API_VERSION}"
        )]
    })?;
    let mut faults = Vec::new();
    if policy.api_version != API_VERSION || policy.kind != "Policy" {
        let (version, kind) = (&policy.api_version, &policy.kind);
        faults.push(format!(
            "audit policy: it is {kind:?} of {version:?}; write kind \"Policy\" and apiVersion {API_VERSION:?}"
        ));
    }
    stages(&policy.omit_stages, "audit policy", &mut faults);
    let mut rules = Vec::new();
    for (at, value) in policy.rules.iter().enumerate() {
        let name = format!("audit policy, rule {}", at + 1);
        match Rule::deserialize(value) {
            Ok(rule) => {
                rule.check(&name, &mut faults);
                rules.push((at + 1, rule));
            }
            Err(error) => faults.push(format!("{name}: {error}; correct that field")),
        }
    }
    if policy.rules.is_empty() {
        faults.push("audit policy: it has no rule, and the API server does not start; write one such as { level = \"Metadata\" }".into());
    } else if rules.len() == policy.rules.len() {
        together(&rules, &mut faults);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// Takes a fault apart: the number of its rule from 1, what is wrong, and what to do about it.
pub(crate) fn parts_of(fault: &str) -> (Option<usize>, &str, &str) {
    let (place, rest) = fault.split_once(": ").unwrap_or(("", fault));
    let rule = place.strip_prefix("audit policy, rule ");
    let (what, remedy) = rest.rsplit_once("; ").unwrap_or((rest, ""));
    (rule.and_then(|number| number.parse().ok()), what, remedy)
}

/// What rules come to beside one another.
fn together(rules: &[(usize, Rule)], faults: &mut Vec<String>) {
    if rules.iter().all(|(_, rule)| rule.level == Level::None) {
        faults.push(
            "audit policy: no rule records anything; end with one such as { level = \"Metadata\" }"
                .into(),
        );
    }
    let mut catch_alls = rules.iter().filter(|(_, rule)| is_catch_all(rule));
    if let Some((first, _)) = catch_alls.next() {
        for (number, _) in rules.iter().filter(|(number, _)| number > first) {
            faults.push(format!(
                "audit policy, rule {number}: rule {first} matches every request, so that this one is never reached; \
                 move it before rule {first}"
            ));
        }
    }
    for (number, what) in exposed(rules) {
        faults.push(format!(
            "audit policy, rule {number}: it would write the bodies of {what} into the log; put a rule with the level \
             Metadata for {what} before it, without users or namespaces"
        ));
    }
}

impl Rule {
    fn check(&self, name: &str, faults: &mut Vec<String>) {
        stages(&self.omit_stages, name, faults);
        let is_of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if is_of_resources && !self.non_resource_urls.is_empty() {
            faults.push(format!(
                "{name}: nonResourceURLs stand beside resources or namespaces; make two rules of it"
            ));
        }
        for verb in &self.verbs {
            let known = RESOURCE_VERBS.contains(&verb.as_str())
                && self.non_resource_urls.is_empty()
                || URL_VERBS.contains(&verb.as_str()) && !is_of_resources;
            if !known {
                let verbs = match self.non_resource_urls.is_empty() {
                    true => RESOURCE_VERBS,
                    false => URL_VERBS,
                };
                faults.push(format!(
                    "{name}: no request has the verb {verb:?}; use {}, or leave verbs out for all",
                    verbs.join(", ")
                ));
            }
        }
        // They are compared letter by letter: `*` is the name of nobody.
        for (field, names) in [
            ("users", &self.users),
            ("userGroups", &self.user_groups),
            ("namespaces", &self.namespaces),
        ] {
            for text in names.iter().filter(|text| text.contains('*')) {
                faults.push(format!(
                    "{name}: {field} knows no wildcards, so that {text:?} matches nothing; write whole names, or leave \
                     {field} out for all"
                ));
            }
        }
        for url in &self.non_resource_urls {
            let stars = url.matches('*').count();
            if url != "*"
                && (!url.starts_with('/') || stars > 1 || stars == 1 && !url.ends_with('*'))
            {
                faults.push(format!(
                    "{name}: {url:?} is no path; begin it with `/`, with `*` only at its end"
                ));
            }
        }
        for of_group in &self.resources {
            of_group.check(name, faults);
        }
    }
}

impl GroupResources {
    fn check(&self, name: &str, faults: &mut Vec<String>) {
        // apimachinery NameIsDNSSubdomain.
        let is_label = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let group = &self.group;
        if !group.is_empty() && (group.len() > 253 || !group.split('.').all(is_label)) {
            faults.push(format!(
                "{name}: {group:?} is no API group; write it without a version, as in \"apps\", and \"\" for the core"
            ));
        }
        if !self.resource_names.is_empty() && self.resources.is_empty() {
            faults.push(format!(
                "{name}: resourceNames stand without resources; name those as well"
            ));
        }
        for text in self.resource_names.iter().filter(|text| text.contains('*')) {
            faults.push(format!(
                "{name}: resourceNames knows no wildcards, so that {text:?} matches nothing; write whole names"
            ));
        }
        for text in &self.resources {
            let parts: Vec<&str> = text.split('/').collect();
            let good = |part: &&str| *part == "*" || is_label(part);
            if parts.len() > 2 || !parts.iter().all(good) {
                faults.push(format!(
                    "{name}: {text:?} is no resource; write for example \"pods\", \"pods/log\", \"pods/*\" or \"*\""
                ));
            }
        }
    }
}

fn stages(stages: &[String], name: &str, faults: &mut Vec<String>) {
    for stage in stages.iter().filter(|s| !STAGES.contains(&s.as_str())) {
        faults.push(format!(
            "{name}: there is no stage {stage:?}; use {}",
            STAGES.join(", ")
        ));
    }
}
