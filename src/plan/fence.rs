//! Whether whoever applies may go on once the fence of tenants stands.

use crate::fact::{ApiQuery, Fact, Facts, below};
use crate::resource::{Desired, Place, Problem, Severity};

/// How a namespace is guarded.
const LABEL: [&str; 3] = ["metadata", "labels", "harden.dev/guard"];

/// Returns the strictest guard that is wanted of a namespace.
fn guard(desired: &Desired) -> Option<&str> {
    let objects = desired.resources.iter();
    let objects = objects.filter_map(|resource| resource.kind.behaviour().object());
    let guards = objects.filter_map(|object| below(object, &LABEL)?.as_str());
    guards.min_by_key(|guard| *guard != "deny")
}

/// Returns what must be asked where a guard is wanted.
pub fn query(desired: &Desired) -> Option<ApiQuery> {
    guard(desired).map(|_| ApiQuery::FenceRights)
}

/// Says so when the guard would be one against harden itself.
pub(super) fn problem(desired: &Desired, facts: &Facts) -> Option<Problem> {
    let guard = guard(desired)?;
    let remedy = "give it a ClusterRole with `update` and `delete` on `fences` of the group harden.dev (docs/profiles.md, the fence), and plan again";
    let (severity, message) = match facts.api.answers.get(&ApiQuery::FenceRights)? {
        Fact::Value(missing) => {
            let verbs: Vec<&str> = missing
                .as_array()?
                .iter()
                .filter_map(|v| v.as_str())
                .collect();
            if verbs.is_empty() {
                return None;
            }
            let verbs = verbs.join(" and ");
            match guard {
                "deny" => (
                    Severity::Error,
                    format!(
                        "the kubeconfig's user may not {verbs} fences.harden.dev in the whole cluster: once `guard` stands, the API server refuses what harden itself changes in those namespaces, and this apply stops half way"
                    ),
                ),
                _ => (
                    Severity::Warning,
                    format!(
                        "the kubeconfig's user may not {verbs} fences.harden.dev in the whole cluster: `guard` warns of what harden itself changes, and with \"deny\" would refuse it"
                    ),
                ),
            }
        }
        Fact::Absent => return None,
        Fact::Unreadable(why) => (
            Severity::Warning,
            format!(
                "whether the kubeconfig's user may change what `guard` protects is not known: {why}"
            ),
        ),
    };
    Some(Problem {
        severity,
        place: Place::Api,
        subject: "fences.harden.dev".into(),
        message,
        remedy: remedy.into(),
    })
}
