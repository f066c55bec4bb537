//! Impact: whom a plan would hit.
//!
//! Of the guarded changes of control planes and kubelets it tells by preconditions; of what happens in
//! namespaces it tells by tenant, from lists of what is there and from the API server's own dry runs.
//! Nothing of it decides whether a change is made: that is [consent](super::consent).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::fact::probe::clean_text;
use crate::resource::Origin;
use crate::resource::precondition::Precondition;

mod access;
mod containers;
mod enforcement;
mod guarded;
pub mod images;
mod limits;
mod narrowed;
mod network;
mod pod_security;
mod quota;
mod selector;
mod token;
mod workload;

pub use enforcement::Enforcement;

/// How many names a hit has.
const MAX_WHO: usize = 20;

/// How many lines of evidence a hit has.
const MAX_EVIDENCE: usize = 10;

/// The most characters of a name or of a line of evidence.
const MAX_TEXT: usize = 300;

/// The label of a namespace that says whose it is; see `modules/tenants.toml`.
const TENANT_LABEL: &str = "harden.dev/tenant";

/// Whom a plan would hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Impact {
    /// Of each guarded change what it requires, and what is known of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preconditions: Vec<Guard>,
    /// About what it was asked; empty where nothing changes that could hit somebody in a namespace.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asked: BTreeSet<HitKind>,
    /// Those who are hit, by tenant; namespaces without one come last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantImpact>,
    /// What could not be asked. Whoever is not named above may still be hit by these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Unknown>,
}

impl Impact {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Impact::default()
    }
}

/// Reads an impact, also that of a plan of schema v1 in an old record: there it was the list that is now
/// [`Impact::preconditions`].
pub(super) fn of_any_schema<'d, D: Deserializer<'d>>(reader: D) -> Result<Impact, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Any {
        Old(Vec<Guard>),
        New(Impact),
    }
    Ok(match Any::deserialize(reader)? {
        Any::Old(preconditions) => Impact {
            preconditions,
            ..Impact::default()
        },
        Any::New(impact) => impact,
    })
}

/// What is known of those whom a guarded change could hurt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Guard {
    /// The resource whose change requires the precondition.
    pub resource: String,
    /// What must be so.
    pub precondition: Precondition,
    /// Whether it is.
    pub verdict: Verdict,
    /// The evidence, in one line without names.
    pub message: String,
    /// How many would be hit, or are mended by this plan.
    pub count: usize,
    /// The first of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub who: Vec<String>,
    /// Whether the profile accepts the change whatever the verdict.
    pub accepted: bool,
}

/// Whether a precondition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It will hold before the change is made.
    ByThisPlan,
    /// It does not hold.
    Fails,
    /// It cannot be told.
    Unknown,
}

/// Who is hit in the namespaces of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TenantImpact {
    /// The tenant's name; `None` for a namespace without a tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The namespaces that are hit, sorted.
    pub namespaces: Vec<String>,
    /// What hits them, by namespace and kind.
    pub hits: Vec<Hit>,
}

/// By what somebody is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HitKind {
    /// A Pod Security level.
    PodSecurity,
    /// A ResourceQuota.
    Quota,
    /// A LimitRange.
    Limits,
    /// Images that are not trusted.
    Images,
    /// Roles and their bindings.
    Access,
    /// The token of the service account `default`.
    Token,
    /// Network policies.
    Network,
    /// What keeps a tenant from widening its fence.
    Guard,
}

impl HitKind {
    /// Returns the word that JSON and people use.
    pub fn name(self) -> &'static str {
        match self {
            HitKind::PodSecurity => "pod-security",
            HitKind::Quota => "quota",
            HitKind::Limits => "limits",
            HitKind::Images => "images",
            HitKind::Access => "access",
            HitKind::Token => "token",
            HitKind::Network => "network",
            HitKind::Guard => "guard",
        }
    }
}

/// What happens to those who are hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// What runs goes on; pods are refused when they are made again.
    RefusedAtNextStart,
    /// Nothing of it runs; its pods are refused when it is to run.
    RefusedWhenStarted,
    /// What is there stays; nothing that adds to it is admitted.
    AboveQuota,
    /// Requests of theirs are refused from now on.
    LosesAccess,
    /// Pods that are made again get no token.
    LosesAccessAtNextStart,
    /// Traffic of theirs ends now.
    CutOff,
    /// Whoever makes it again is warned, and it is let in.
    Warned,
    /// It stays, and opens what would be refused if it were made anew.
    StaysAsItIs,
}

/// Some who are hit in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hit {
    /// By what.
    pub kind: HitKind,
    /// What happens.
    pub effect: Effect,
    /// The namespace.
    pub namespace: String,
    /// The object whose change does it, as changes name it.
    pub resource: String,
    /// What they have in common, in one line that goes on from their number.
    pub message: String,
    /// How many there are.
    pub count: usize,
    /// The first of their names.
    pub who: Vec<String>,
    /// What it rests on, one line each: the server's own words, or what was compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The option values behind it.
    pub origins: Vec<Origin>,
    /// Whether this plan does it; otherwise it leaves it undone, for example for want of consent.
    pub planned: bool,
}

/// Something that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unknown {
    /// Who is hit by what is therefore not known.
    pub kind: HitKind,
    /// What could not be asked, and why.
    pub message: String,
    /// In how many namespaces.
    pub count: usize,
    /// The first of them.
    pub namespaces: Vec<String>,
}

/// What the judges find.
#[derive(Debug, Default)]
struct Found {
    hits: Vec<Hit>,
    unknown: BTreeMap<(HitKind, String), BTreeSet<String>>,
}

impl Found {
    /// Adds those who are hit in the namespace of a change; nobody is no hit.
    fn hit(
        &mut self,
        by: &enforcement::Planned,
        how: (HitKind, Effect),
        message: impl Into<String>,
        who: impl IntoIterator<Item = String>,
        evidence: impl IntoIterator<Item = String>,
    ) {
        let who: BTreeSet<String> = who.into_iter().map(|name| clean(&name)).collect();
        self.hit_of_many(by, how, message, who.len(), who, evidence);
    }

    /// The same where there are more than have names. Everything is cleaned and bounded here.
    fn hit_of_many(
        &mut self,
        by: &enforcement::Planned,
        (kind, effect): (HitKind, Effect),
        message: impl Into<String>,
        count: usize,
        who: impl IntoIterator<Item = String>,
        evidence: impl IntoIterator<Item = String>,
    ) {
        if count == 0 {
            return;
        }
        let evidence = evidence.into_iter().take(MAX_EVIDENCE);
        self.hits.push(Hit {
            kind,
            effect,
            namespace: by.namespace().to_owned(),
            resource: by.reference.to_string(),
            message: message.into(),
            count,
            who: who.into_iter().take(MAX_WHO).map(|n| clean(&n)).collect(),
            evidence: evidence.map(|line| clean(&line)).collect(),
            origins: by.origins.clone(),
            planned: by.planned,
        });
    }

    /// Leaves of the last hit's origins only those of these entries, where any is: the other values of the
    /// same object hit nobody.
    fn because_of(&mut self, entries: &[&str]) {
        let Some(hit) = self.hits.last_mut() else {
            return;
        };
        let is_one = |origin: &Origin| {
            let names = |entry: &&str| {
                let above = origin.option.strip_suffix(*entry);
                above.is_some_and(|above| above.ends_with('.'))
            };
            entries.iter().any(names)
        };
        if hit.origins.iter().any(is_one) {
            hit.origins.retain(is_one);
        }
    }

    /// Adds what is not known of a namespace.
    fn unknown(&mut self, kind: HitKind, namespace: &str, message: impl AsRef<str>) {
        // So that what is the same in many namespaces is said once.
        let name = format!("{namespace:?}");
        let message = clean(&message.as_ref().replace(&name, "…"));
        let namespaces = self.unknown.entry((kind, message)).or_default();
        namespaces.insert(namespace.to_owned());
    }
}

/// One line, without what a terminal would obey, and not endless.
fn clean(text: &str) -> String {
    let line = clean_text(text).replace(['\n', '\t'], " ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Puts hits into an impact, by tenant.
fn by_tenant(hits: Vec<Hit>, tenant_of: &BTreeMap<String, String>) -> Vec<TenantImpact> {
    // Namespaces without a tenant last, each by itself.
    let mut groups: BTreeMap<(bool, String), Vec<Hit>> = BTreeMap::new();
    for hit in hits {
        let key = match tenant_of.get(&hit.namespace) {
            Some(tenant) => (false, tenant.clone()),
            None => (true, hit.namespace.clone()),
        };
        groups.entry(key).or_default().push(hit);
    }
    groups
        .into_iter()
        .map(|((is_alone, name), mut hits)| {
            hits.sort_by(|a, b| {
                (&a.namespace, a.kind, &a.resource).cmp(&(&b.namespace, b.kind, &b.resource))
            });
            let namespaces: BTreeSet<String> = hits.iter().map(|h| h.namespace.clone()).collect();
            TenantImpact {
                tenant: (!is_alone).then_some(name),
                namespaces: namespaces.into_iter().collect(),
                hits,
            }
        })
        .collect()
}
