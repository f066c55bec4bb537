//! What the ledger lacks.

use std::collections::BTreeSet;

use super::{change, step, wanted};
use crate::fact::ledger::Ledger;
use crate::fact::{DryRun, Fact, Facts, ObjectFact, ObjectRef};
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
    let applied: BTreeSet<&ObjectRef> = draft
        .changes
        .iter()
        .flat_map(|(_, effects)| effects)
        .filter_map(|effect| match effect {
            Effect::Object { reference, .. } => Some(reference),
            _ => None,
        })
        .collect();
    let missing: BTreeSet<&ObjectRef> = wanted(desired)
        .filter(|reference| {
            let entry = known.get(&reference.identity());
            !entry.is_some_and(|entry| entry.workspaces.contains(&desired.cluster))
                && !applied.contains(reference)
        })
        .collect();
    let (mut changes, mut steps) = (Vec::new(), Vec::new());
    for reference in missing {
        let Some(ObjectFact {
            live: Fact::Value(live),
            would,
        }) = facts.api.objects.get(reference)
        else {
            continue;
        };
        // One that proves itself is ours, and has no managedFields any more.
        if !bears(live) && !matches!(would, DryRun::Same { .. }) {
            continue;
        }
        let why = match known.get(&reference.identity()) {
            Some(_) => "the ledger lists it for another workspace only",
            None => "harden manages it, and the ledger does not list it",
        };
        changes.push((
            Change {
                before: Some("not in the ledger".into()),
                after: Some("noted".into()),
                ..change(reference, why, Risk::Safe)
            },
            Vec::new(),
        ));
        steps.push(step(reference, Some(live), ObjectAction::Note));
    }
    draft.changes.extend(changes);
    steps
}
