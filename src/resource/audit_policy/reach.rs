//! What the rules of an audit policy reach: which one decides about the requests whose bodies hold
//! secrets.

use super::{GroupResources, Level, RESOURCE_VERBS, Rule};

/// Something whose bodies hold secrets.
struct Secret {
    group: &'static str,
    /// `RESOURCE` or `RESOURCE/SUBRESOURCE`.
    resource: &'static str,
    /// The verbs of requests whose own body holds one; their responses all may.
    sent_with: &'static [&'static str],
}

/// Secrets, the tokens that the API server issues, and those that it is asked about.
const SECRETS: &[Secret] = &[
    Secret {
        group: "",
        resource: "secrets",
        sent_with: &["create", "update", "patch"],
    },
    Secret {
        group: "",
        resource: "serviceaccounts/token",
        sent_with: &[],
    },
    Secret {
        group: "authentication.k8s.io",
        resource: "tokenreviews",
        sent_with: &["create"],
    },
];

/// Whether a rule matches every request.
pub(super) fn is_catch_all(rule: &Rule) -> bool {
    is_for_everybody(rule)
        && rule.verbs.is_empty()
        && rule.resources.is_empty()
        && rule.non_resource_urls.is_empty()
}

/// Whether a rule looks neither at who asks nor at the namespace.
fn is_for_everybody(rule: &Rule) -> bool {
    rule.users.is_empty() && rule.user_groups.is_empty() && rule.namespaces.is_empty()
}

/// Returns the rules by number that write bodies with secrets into the log, each with what it would
/// write.
pub(super) fn exposed(rules: &[(usize, Rule)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for secret in SECRETS {
        for (number, rule) in rules {
            let verbs = RESOURCE_VERBS.iter().copied();
            let mut verbs = verbs.filter(|verb| match rule.level {
                Level::None | Level::Metadata => false,
                Level::Request => secret.sent_with.contains(verb),
                Level::RequestResponse => true,
            });
            let earlier = || rules.iter().take_while(|(other, _)| other < number);
            let reaches = |verb| {
                may_match(rule, secret, verb)
                    && !earlier().any(|(_, other)| always_matches(other, secret, verb))
            };
            if verbs.any(reaches) {
                found.push((*number, secret.resource.to_owned()));
            }
        }
    }
    found.sort();
    found
}

/// Whether some request of the kind is matched.
fn may_match(rule: &Rule, secret: &Secret, verb: &str) -> bool {
    let asks = rule.verbs.is_empty() || rule.verbs.iter().any(|v| v == verb);
    let is_resource = rule.non_resource_urls.is_empty();
    let resource = rule.resources.is_empty() || rule.resources.iter().any(|of| names(of, secret));
    asks && is_resource && resource
}

/// Whether every request of the kind is matched, whoever asks and whatever its name.
fn always_matches(rule: &Rule, secret: &Secret, verb: &str) -> bool {
    let all = |of: &GroupResources| of.resource_names.is_empty() && names(of, secret);
    let resource = rule.resources.is_empty() || rule.resources.iter().any(all);
    is_for_everybody(rule) && resource && may_match(rule, secret, verb)
}

/// Whether a group of resources names it (checker.go: `ruleMatchesResource`).
fn names(of: &GroupResources, secret: &Secret) -> bool {
    let (resource, subresource) = match secret.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (secret.resource, None),
    };
    of.group == secret.group
        && (of.resources.is_empty()
            || of.resources.iter().any(|text| {
                text == "*"
                    || text == secret.resource
                    || text.strip_suffix("/*") == Some(resource)
                    || (subresource.is_some() && text.strip_prefix("*/") == subresource)
            }))
}
