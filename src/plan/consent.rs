//! Consent: whether a guarded change may be made, because the profile accepts it or because what it
//! requires is so.

use std::collections::BTreeSet;

use super::{Guard, StageName, Verdict};
use crate::fact::Facts;
use crate::resource::encryption::EncryptionPart;
use crate::resource::precondition::{Judgement, Precondition, listed};
use crate::resource::{Change, Desired, Draft, Effect, Place, Problem, Resource, Risk, Severity};

/// How many names a message has.
const NAMED: usize = 5;

/// How many names an impact has.
const MAX_WHO: usize = 20;

/// What was decided about the changes of one resource.
pub(super) struct Decision {
    /// Why they must not be made, and what to do about it.
    pub(super) withheld: Option<(String, String)>,
    /// What is known of those whom they could hurt.
    pub(super) impact: Vec<Guard>,
}

/// Decides whether the changes of a resource may be made. What `draft` holds already may establish what
/// is required, where its stage is an earlier one.
pub(super) fn decide(
    resource: &Resource,
    changes: &[(Change, Vec<Effect>)],
    desired: &Desired,
    facts: &Facts,
    draft: &mut Draft,
) -> Decision {
    let mut impact = Vec::new();
    if changes.is_empty() {
        return Decision {
            withheld: None,
            impact,
        };
    }
    // One that harden can do after all says so itself.
    let only_by_hand = changes
        .iter()
        .any(|(change, _)| change.risk == Risk::Manual);
    if resource.risk == Risk::Manual && only_by_hand {
        let remedy = resource.kind.behaviour().by_hand();
        return Decision {
            withheld: Some(("only a person can do it".into(), remedy)),
            impact,
        };
    }
    let earlier: Vec<&(Change, Vec<Effect>)> = {
        let stage = first_stage(changes);
        let made = draft.changes.iter();
        made.filter(|change| first_stage(std::slice::from_ref(*change)) < stage)
            .collect()
    };
    let mut withheld = None;
    let mut warnings = Vec::new();
    for part in resource.parts_to_accept() {
        let accepted = part.options.iter().any(|o| desired.accept.contains(o));
        let mut open = Vec::new();
        for precondition in &part.requires {
            let judgement = precondition.judge(&resource.kind, facts, &earlier);
            let against = against(*precondition, &judgement);
            impact.push(impact_of(resource, *precondition, judgement, accepted));
            open.extend(against);
        }
        if accepted {
            warnings.extend(open.into_iter().map(|(message, remedy)| Problem {
                severity: Severity::Warning,
                place: place_of(changes),
                subject: resource.kind.behaviour().name(),
                message: format!("accepted, although {message}"),
                remedy: remedy.to_owned(),
            }));
        } else if (part.requires.is_empty() || !open.is_empty()) && withheld.is_none() {
            withheld = Some(refusal(resource, &part.options, &open));
        }
    }
    draft.problems.extend(warnings);
    Decision { withheld, impact }
}

/// Says what speaks against a change, and what to do about it.
fn against(precondition: Precondition, judgement: &Judgement) -> Option<(String, &'static str)> {
    match judgement {
        Judgement::Holds(_) | Judgement::ByThisPlan(_) => None,
        Judgement::Fails(evidence) => {
            let names = listed(evidence.count, &evidence.who, NAMED);
            Some((
                format!(
                    "{precondition} does not hold: {} {}: {names}",
                    evidence.count, evidence.what
                ),
                mend(precondition),
            ))
        }
        Judgement::Unknown(why) => Some((
            format!("{precondition} is not known to hold: {why}"),
            mend(precondition),
        )),
    }
}

/// What makes a precondition hold.
fn mend(precondition: Precondition) -> &'static str {
    match precondition {
        Precondition::KubeletServingCertificates => {
            "set kubelet.serving-certificates = \"cluster-ca\", and see to it that every node is reached"
        }
        Precondition::NoExternalIps => {
            "take the addresses out of these Services; a Service of type LoadBalancer can have them"
        }
        Precondition::NoStaleTokens => {
            "find the clients that keep a token for longer than its hour: audit events carry the annotation authentication.k8s.io/stale-token; the count starts anew when the API server does"
        }
        Precondition::ImagesPullable => {
            "check that every image in use is in a registry that the nodes reach with the pods' credentials"
        }
        Precondition::PodsAdmitted => {
            "give the namespaces of such pods the label pod-security.kubernetes.io/enforce with the level that they need, or exempt them in admission.pod-security.exemptions; `kubectl label --dry-run=server --overwrite ns NAME pod-security.kubernetes.io/enforce=LEVEL` says what is wrong with each, and takes the right to patch namespaces, as this plan does"
        }
    }
}

fn refusal(
    resource: &Resource,
    options: &BTreeSet<String>,
    open: &[(String, &'static str)],
) -> (String, String) {
    let why = match resource.risk {
        Risk::Irreversible => "it cannot be undone, and is not accepted",
        _ => "it can break workloads or lock out, and is not accepted",
    };
    // One name is enough, and one that covers others serves for what else they make.
    let depth = |name: &&String| (name.matches('.').count(), name.len());
    let shortest = options.iter().min_by_key(depth);
    let accept = match shortest {
        Some(name) => format!("if you mean it, add {name:?} to `accept` in harden.toml"),
        None => "add an option behind it to `accept` in harden.toml".to_owned(),
    };
    if open.is_empty() {
        return (why.into(), accept);
    }
    let messages: Vec<&str> = open.iter().map(|(message, _)| message.as_str()).collect();
    let remedies: Vec<&str> = open.iter().map(|(_, remedy)| *remedy).collect();
    (
        format!("{why}: {}", messages.join("; ")),
        format!("{}; or, {accept}", remedies.join("; ")),
    )
}

fn impact_of(
    resource: &Resource,
    precondition: Precondition,
    judgement: Judgement,
    accepted: bool,
) -> Guard {
    let (verdict, message, count, mut who) = match judgement {
        Judgement::Holds(evidence) => (Verdict::Holds, evidence, 0, Vec::new()),
        Judgement::ByThisPlan(places) => (
            Verdict::ByThisPlan,
            "an earlier stage of this plan makes it so".to_owned(),
            places.len(),
            places,
        ),
        Judgement::Fails(evidence) => (Verdict::Fails, evidence.what, evidence.count, evidence.who),
        Judgement::Unknown(why) => (Verdict::Unknown, why, 0, Vec::new()),
    };
    who.truncate(MAX_WHO);
    Guard {
        resource: resource.kind.behaviour().name(),
        precondition,
        verdict,
        message,
        count,
        who,
        accepted,
    }
}

/// The stage in which changes begin to be felt. Files that nothing reads yet do not count, unless there
/// is nothing else.
fn first_stage(changes: &[(Change, Vec<Effect>)]) -> StageName {
    let effects = changes.iter().flat_map(|(_, effects)| effects);
    effects
        .filter_map(|effect| match effect {
            Effect::File { .. } => None,
            Effect::Mode { .. } | Effect::Timer { .. } => Some(StageName::NodeFiles),
            Effect::Kubelet { .. } => Some(StageName::Kubelets),
            Effect::ServingCertificate { .. } => Some(StageName::ServingCertificates),
            Effect::Encryption(work) if work.part == EncryptionPart::Finish => {
                Some(StageName::Encryption)
            }
            Effect::Encryption(_) => Some(StageName::EncryptionFiles),
            Effect::Manifest { .. }
            | Effect::ServerConfig { .. }
            | Effect::Renew(_)
            | Effect::Owner { .. } => Some(StageName::ControlPlane),
            Effect::Object { .. } => Some(StageName::ObjectsEnforce),
            Effect::ConfigMapField { map, .. }
                if map.copy == crate::resource::SettingCopy::KubeProxyConfig =>
            {
                Some(StageName::KubeProxy)
            }
            Effect::ConfigMapField { .. } | Effect::ClusterConfiguration { .. } => {
                Some(StageName::KubeadmConfig)
            }
        })
        .min()
        .unwrap_or(StageName::NodeFiles)
}

fn place_of(changes: &[(Change, Vec<Effect>)]) -> Place {
    match changes {
        [(only, _)] => only.place.clone(),
        _ => Place::Api,
    }
}

/// Turns changes that may not be executed into one problem that names them.
pub(super) fn withhold(
    resource: &Resource,
    changes: &[(Change, Vec<Effect>)],
    why: &str,
    remedy: &str,
    draft: &mut Draft,
) {
    if changes.is_empty() {
        return;
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    let mut lines: Vec<String> = changes
        .iter()
        .map(|(change, _)| {
            let copy = change.copy.map_or(String::new(), |copy| format!(" {copy}"));
            let (before, after) = (text(&change.before), text(&change.after));
            format!("{}{copy}: {before} → {after}", change.place)
        })
        .collect();
    lines.dedup();
    draft.error(
        resource,
        place_of(changes),
        format!("{why}; left undone: {}", lines.join("; ")),
        remedy,
    );
}
