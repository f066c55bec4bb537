//! What the ledger lacks.

use std::collections::BTreeSet;

use super::{change, step, wanted};
use crate::fact::ledger::Ledger;
use crate::fact::{Facts, ObjectRef};
use crate::plan::{ObjectAction, Step};
use crate::resource::leaving::bears;
use crate::resource::{Change, Desired, Draft, Effect, Risk};

/// Notes what harden applied and the ledger lacks, so that it is not forgotten one day.
pub(super) fn note(
    ledger: &Ledger,
    desired: &Desired,
    facts: &Facts,
    draft: &mut Draft,
) -> Vec<Step> {
    let known = ledger.by_identity();
    let applied: BTreeSet<ObjectRef> = draft
        .changes
        .iter()
        .flat_map(|(_, effects)| effects)
        .filter_map(|effect| match effect {
            Effect::Object { reference, .. } => Some(reference.clone()),
            _ => None,
        })
        .collect();
    let mut steps = Vec::new();
    for reference in wanted(desired).collect::<BTreeSet<_>>() {
        if known.contains_key(&reference.identity()) || applied.contains(&reference) {
            continue;
        }
        let fact = facts.api.objects.get(&reference);
        let Some(live) = fact.and_then(|fact| fact.live.value()).filter(|l| bears(l)) else {
            continue;
        };
        let why = "harden manages it, and the ledger does not list it";
        draft.changes.push((
            Change {
                before: Some("not in the ledger".into()),
                after: Some("noted".into()),
                ..change(&reference, why, Risk::Safe)
            },
            Vec::new(),
        ));
        steps.push(step(&reference, Some(live), ObjectAction::Note));
    }
    steps
}
