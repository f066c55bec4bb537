//! Whom a plan would hit, as text.

use super::plan_text::{DIM, HEADING, line};
use crate::plan::{Hit, HitEffect, Impact, Plan, TenantImpact, Unknown};
use crate::resource::precondition::listed;
use crate::resource::{Origin, Severity};

/// How many names a reader gets; JSON has more.
const MAX_WHO: usize = 5;

/// How many lines of evidence.
const MAX_EVIDENCE: usize = 3;

/// How many option values behind it.
const MAX_ORIGINS: usize = 3;

/// How many tenants, and how many things that are not known.
const MAX_TENANTS: usize = 20;

/// The `schema` field of an impact that is written by itself.
pub const IMPACT: &str = "harden.dev/impact/v1";

/// Writes whom a plan would hit as JSON: `impact` as in the plan's own, and which cluster.
///
/// # Errors
/// When it holds what JSON cannot hold.
pub fn impact_json(plan: &Plan) -> serde_json::Result<serde_json::Value> {
    Ok(serde_json::json!({
        "schema": IMPACT,
        "cluster": serde_json::to_value(&plan.cluster)?,
        "impact": serde_json::to_value(&plan.impact)?,
    }))
}

/// Writes only whom a plan would hit, and says so where that is nobody.
pub fn impact_text(plan: &Plan) -> String {
    let mut out = String::new();
    let head = format!("Impact of the plan for cluster {}", plan.cluster.name);
    line(&mut out, format_args!("{HEADING}{head}{HEADING:#}"));
    let before = out.len();
    super::plan_text::preconditions(&mut out, &plan.impact);
    tenants(&mut out, &plan.impact);
    let errors = plan.problems.iter();
    let errors = errors.filter(|one| one.severity == Severity::Error).count();
    if errors > 0 {
        let text = format!(
            "INCOMPLETE: {errors} thing(s) could not be compared or cannot be done; `harden plan` names them."
        );
        line(&mut out, format_args!("{text}"));
    } else if out.len() == before {
        let text = "Nobody is hit: nothing changes in namespaces that could, and no change asks for a precondition.";
        line(&mut out, format_args!("{text}"));
    }
    out
}

/// Writes who is hit in namespaces. Nothing where it was not asked.
pub(super) fn tenants(out: &mut String, impact: &Impact) {
    if impact.asked.is_empty() {
        return;
    }
    for one in impact.tenants.iter().take(MAX_TENANTS) {
        tenant(out, one);
    }
    if let Some(more) = impact.tenants.len().checked_sub(MAX_TENANTS + 1) {
        let text = format!("and {} more tenants; `--format json` has all", more + 1);
        line(out, format_args!("  {DIM}{text}{DIM:#}"));
    }
    for one in impact.unknown.iter().take(MAX_TENANTS) {
        let Unknown { kind, message, .. } = one;
        let where_ = listed(one.count, &one.namespaces, MAX_WHO);
        line(
            out,
            format_args!("  not known ({}): {message}", kind.name()),
        );
        line(out, format_args!("      {DIM}in:{DIM:#} {where_}"));
    }
    if let Some(more) = impact.unknown.len().checked_sub(MAX_TENANTS + 1) {
        let text = format!("and {} more that are not known", more + 1);
        line(out, format_args!("  {DIM}{text}{DIM:#}"));
    }
    if impact.tenants.is_empty() && impact.unknown.is_empty() {
        let kinds: Vec<&str> = impact.asked.iter().map(|kind| kind.name()).collect();
        line(
            out,
            format_args!(
                "  nobody in the namespaces that change (asked: {})",
                kinds.join(", ")
            ),
        );
    }
}

fn tenant(out: &mut String, one: &TenantImpact) {
    let title = match &one.tenant {
        Some(name) => format!("tenant {name}"),
        None => format!("namespace {} (no tenant's)", one.namespaces.join(", ")),
    };
    line(out, format_args!("  {HEADING}{title}{HEADING:#}"));
    for hit in &one.hits {
        show(out, hit);
    }
}

fn show(out: &mut String, hit: &Hit) {
    let Hit {
        namespace,
        count,
        message,
        ..
    } = hit;
    let who = match hit.who.as_slice() {
        [] => String::new(),
        who => format!(": {}", listed((*count).max(who.len()), who, MAX_WHO)),
    };
    let undone = match hit.planned {
        true => "",
        false => " (this plan leaves it undone)",
    };
    line(
        out,
        format_args!("    {namespace}: {}{undone}", effect(hit.effect)),
    );
    line(out, format_args!("      {count} {message}{who}"));
    for evidence in hit.evidence.iter().take(MAX_EVIDENCE) {
        line(out, format_args!("      {DIM}seen:{DIM:#} {evidence}"));
    }
    let origins: Vec<String> = closest(&hit.origins);
    let from = match origins.len() {
        0 => hit.resource.clone(),
        n => format!("{}, {}", hit.resource, listed(n, &origins, MAX_ORIGINS)),
    };
    line(out, format_args!("      {DIM}from:{DIM:#} {from}"));
}

/// The options that say the most: not the table that others are in, nor which namespaces there are.
fn closest(origins: &[Origin]) -> Vec<String> {
    let is_above = |one: &Origin| {
        let inside = format!("{}.", one.option);
        origins
            .iter()
            .any(|other| other.option.starts_with(&inside))
    };
    let is_place = |one: &Origin| one.option.ends_with(".namespaces");
    let inner: Vec<&Origin> = origins.iter().filter(|one| !is_above(one)).collect();
    let says_more = inner.iter().any(|one| !is_place(one));
    let told = inner
        .into_iter()
        .filter(|one| !(says_more && is_place(one)));
    told.map(Origin::to_string).collect()
}

/// What happens, in words.
fn effect(effect: HitEffect) -> &'static str {
    match effect {
        HitEffect::RefusedAtNextStart => "runs on, and is refused when it is made again",
        HitEffect::RefusedWhenStarted => "rests, and is refused when it is to run",
        HitEffect::AboveQuota => "stays, and whatever adds to it is refused",
        HitEffect::LosesAccess => "is refused from then on",
        HitEffect::LosesAccessAtNextStart => "runs on, and gets no token when it is made again",
        HitEffect::CutOff => "traffic ends that no policy allows",
        HitEffect::StaysAsItIs => "stays, and opens what the fence is to close",
        HitEffect::Warned => "is let in with a warning when it is made again",
    }
}
