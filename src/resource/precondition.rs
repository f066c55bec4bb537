//! Preconditions: what must be so before a guarded change can hurt nobody.
//!
//! A resource names them in `requires`. Each says what to ask and judges what was answered, together with
//! what earlier stages of the same plan will do. Whoever would be hit is named: that is the impact of
//! the plan.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Change, Effect, Kind, nothing_counts};
use crate::fact::{ApiQuery, Fact, Facts, Node, NodeInfo};

mod pods_admitted;

/// What must be so before a guarded change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precondition {
    /// Every kubelet serves a certificate of the cluster's CA.
    KubeletServingCertificates,
    /// No Service has `spec.externalIPs`.
    NoExternalIps,
    /// No client uses a service account's token beyond its hour. Source: kubernetes v1.35
    /// pkg/serviceaccount/metrics.go, `serviceaccount_stale_tokens_total` (kubernetes#96273).
    NoStaleTokens,
    /// Every image of a running pod can be pulled. Evidence can only speak against it.
    ImagesPullable,
    /// No running pod is below the Pod Security level that namespaces without one of their own shall
    /// have. The API server itself is asked; see [`PodLevel`](crate::fact::PodLevel).
    PodsAdmitted,
}

/// What is known of a precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is so, by this evidence.
    Holds(String),
    /// It is not so yet, and an earlier stage of this plan makes it so at these places.
    ByThisPlan(Vec<String>),
    /// It is not so.
    Fails(Evidence),
    /// It cannot be told, and this is why.
    Unknown(String),
}

/// Who would be hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What they have in common, without a number: `Service(s) with externalIPs`.
    pub what: String,
    /// How many there are.
    pub count: usize,
    /// Names of them; not all when there are many.
    pub who: Vec<String>,
}

/// Objects of a list that a precondition is about, as an answer has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Whether there is any.
    pub any: bool,
    /// How many.
    pub count: usize,
    /// The first of their names.
    pub names: Vec<String>,
}

/// How many names an answer holds.
const MAX_NAMES: usize = 50;

impl Found {
    /// Counts names, and keeps the first.
    pub fn of(mut names: Vec<String>) -> Self {
        names.sort();
        let count = names.len();
        names.truncate(MAX_NAMES);
        Found {
            any: count > 0,
            count,
            names,
        }
    }
}

impl Precondition {
    /// All of them.
    pub const ALL: [Precondition; 5] = [
        Precondition::KubeletServingCertificates,
        Precondition::NoExternalIps,
        Precondition::NoStaleTokens,
        Precondition::ImagesPullable,
        Precondition::PodsAdmitted,
    ];

    /// Returns the name by which modules require it.
    pub fn name(self) -> &'static str {
        match self {
            Precondition::KubeletServingCertificates => "kubelet-serving-certificates",
            Precondition::NoExternalIps => "no-external-ips",
            Precondition::NoStaleTokens => "no-stale-tokens",
            Precondition::ImagesPullable => "images-pullable",
            Precondition::PodsAdmitted => "pods-admitted",
        }
    }

    /// Lists what must be asked for a resource of this kind that requires it, for a node of the cluster,
    /// with the field of each answer that counts.
    pub fn api_queries(self, kind: &Kind, node: &NodeInfo) -> Vec<(ApiQuery, Vec<String>)> {
        let name = node.name.clone();
        match self {
            Precondition::KubeletServingCertificates => {
                vec![(ApiQuery::ServingCertificate(name), vec!["trusted".into()])]
            }
            // Whoever consented to the change has seen exactly these.
            Precondition::NoExternalIps => vec![(ApiQuery::ExternalIps, Vec::new())],
            // The count grows and grows, and pods come and go.
            Precondition::NoStaleTokens if node.control_plane => {
                vec![(ApiQuery::StaleTokens(name), vec!["any".into()])]
            }
            Precondition::NoStaleTokens => Vec::new(),
            Precondition::ImagesPullable => vec![(ApiQuery::NeverPulled, nothing_counts())],
            Precondition::PodsAdmitted => {
                let query = pods_admitted::query(kind).into_iter();
                query.map(|query| (query, nothing_counts())).collect()
            }
        }
    }

    /// Judges the facts for a resource of this kind that requires it, and the changes that earlier
    /// stages of the same plan make.
    pub fn judge(
        self,
        kind: &Kind,
        facts: &Facts,
        earlier: &[&(Change, Vec<Effect>)],
    ) -> Judgement {
        match self {
            Precondition::KubeletServingCertificates => certificates(facts, earlier),
            Precondition::NoExternalIps => match found(facts, &ApiQuery::ExternalIps) {
                Ok(found) if found.count == 0 => {
                    Judgement::Holds("no Service has externalIPs".into())
                }
                Ok(found) => fails("Service(s) with externalIPs", found),
                Err(why) => Judgement::Unknown(format!("the Services could not be read: {why}")),
            },
            Precondition::NoStaleTokens => stale_tokens(facts),
            Precondition::ImagesPullable => match found(facts, &ApiQuery::NeverPulled) {
                Ok(found) if found.count == 0 => Judgement::Unknown(
                    "no pod has imagePullPolicy Never, but whether each image is in a registry cannot be seen from here".into(),
                ),
                Ok(found) => fails("pod(s) with imagePullPolicy Never", found),
                Err(why) => Judgement::Unknown(format!("the pods could not be read: {why}")),
            },
            Precondition::PodsAdmitted => pods_admitted::judge(kind, facts),
        }
    }
}

impl std::fmt::Display for Precondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn fails(what: &str, found: Found) -> Judgement {
    Judgement::Fails(Evidence {
        what: what.to_owned(),
        count: found.count,
        who: found.names,
    })
}

fn found(facts: &Facts, query: &ApiQuery) -> Result<Found, String> {
    match facts.api.answer(query) {
        Fact::Value(value) => Found::deserialize(value).map_err(|e| e.to_string()),
        Fact::Absent => Ok(Found::default()),
        Fact::Unreadable(why) => Err(why),
    }
}

/// A node that nobody looked at may have any certificate, whatever the plan does elsewhere.
fn certificates(facts: &Facts, earlier: &[&(Change, Vec<Effect>)]) -> Judgement {
    let (mut missing, mut planned, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for name in facts.nodes.keys() {
        let query = ApiQuery::ServingCertificate(name.clone());
        let trusted = match facts.api.answer(&query) {
            Fact::Value(value) => value.get("trusted").and_then(Value::as_bool),
            _ => None,
        };
        let is_planned = earlier
            .iter()
            .flat_map(|(_, effects)| effects)
            .any(|effect| matches!(effect, Effect::ServingCertificate { node } if node == name));
        match trusted {
            Some(true) => {}
            Some(false) if is_planned => planned.push(name.clone()),
            Some(false) => missing.push(name.clone()),
            None => unknown.push(name.clone()),
        }
    }
    if !missing.is_empty() {
        let found = Found::of(missing);
        fails(
            "node(s) with a kubelet that serves no certificate of the cluster's CA",
            found,
        )
    } else if !unknown.is_empty() {
        let Found { count, names, .. } = Found::of(unknown);
        Judgement::Unknown(format!(
            "what the kubelet serves could not be checked on {}",
            listed(count, &names, 10)
        ))
    } else if !planned.is_empty() {
        Judgement::ByThisPlan(planned)
    } else {
        Judgement::Holds("every kubelet serves a certificate of the cluster's CA".into())
    }
}

/// Each API server counts for itself, since it started.
fn stale_tokens(facts: &Facts) -> Judgement {
    let (mut who, mut unknown) = (Vec::new(), Vec::new());
    let planes = facts.nodes.values().filter(|node| node.info.control_plane);
    for Node { info, .. } in planes {
        match facts.api.answer(&ApiQuery::StaleTokens(info.name.clone())) {
            Fact::Value(value) => match value.get("count").and_then(Value::as_f64) {
                Some(count) if count > 0.0 => {
                    who.push(format!("{count} uses at the API server of {}", info.name));
                }
                Some(_) => {}
                None => unknown.push(format!("{}: no number", info.name)),
            },
            Fact::Absent => unknown.push(format!("{}: there is no such metric", info.name)),
            Fact::Unreadable(why) => unknown.push(format!("{}: {why}", info.name)),
        }
    }
    if !who.is_empty() {
        return fails(
            "API server(s) that counted tokens past their hour (serviceaccount_stale_tokens_total)",
            Found::of(who),
        );
    }
    if !unknown.is_empty() {
        let Found { count, names, .. } = Found::of(unknown);
        return Judgement::Unknown(format!(
            "the metric serviceaccount_stale_tokens_total could not be read: {}",
            listed(count, &names, 3)
        ));
    }
    Judgement::Holds("no API server has counted a stale token since it started".into())
}

/// Names the first of them, and how many more there are.
pub fn listed(count: usize, names: &[String], most: usize) -> String {
    let shown = &names[..names.len().min(most)];
    match count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
