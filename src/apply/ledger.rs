//! The ledger during a run: written before the first object is made, and struck out only after an
//! object is gone, so that whatever happens in between loses none.

use crate::fact::ledger::{Entry, How, Ledger, LedgerEdit};
use crate::plan::{ObjectAction, ObjectStep, Step};
use crate::resource::leaving::bears;

use super::run::Run;
use super::step::Failure;

impl Run<'_, '_, '_> {
    /// Notes every object that the steps apply or make. No object is changed before.
    pub(super) fn note_objects(&mut self) -> Result<(), Failure> {
        let mut ledger = Ledger::default();
        let read = self.session.api(|api| {
            ledger = api.ledger()?;
            Ok(())
        });
        let edit = additions(self.objects(), &ledger, &self.record.plan.cluster.name);
        let written = read.and_then(|()| match edit.is_empty() {
            true => Ok(()),
            false => self.session.api(|api| api.edit_ledger(&edit)),
        });
        edit.edit(&mut ledger.entries);
        self.session.ledger = ledger;
        written.map_err(|error| {
            Failure::back(format!("the ledger of objects: {error}; no object was changed; ConfigMaps of namespace kube-system must be readable and writable"))
        })
    }

    /// Strikes out what is gone, and what harden has let go of.
    pub(super) fn strike_out(&mut self) {
        let gone = |(number, step): (usize, ObjectStep)| {
            let ends = matches!(
                step.action,
                ObjectAction::Delete
                    | ObjectAction::Prune { .. }
                    | ObjectAction::Release
                    | ObjectAction::Forget
            );
            (ends && self.done.contains(&number)).then_some(step.reference)
        };
        let edit = LedgerEdit {
            remove: self.objects().filter_map(gone).collect(),
            ..LedgerEdit::default()
        };
        if edit.is_empty() {
            return;
        }
        if let Err(error) = self.session.api(|api| api.edit_ledger(&edit)) {
            self.session.note(format!(
                "the ledger still lists what is gone: {error}; a later apply strikes it out"
            ));
        }
    }

    /// The object steps with their numbers.
    fn objects(&self) -> impl Iterator<Item = (usize, ObjectStep)> + '_ {
        (1..=self.total()).filter_map(|number| match self.step(number) {
            Step::Object(step) => Some((number, step)),
            _ => None,
        })
    }
}

/// Returns what has to be noted for these steps.
fn additions(
    steps: impl Iterator<Item = (usize, ObjectStep)>,
    ledger: &Ledger,
    workspace: &str,
) -> LedgerEdit {
    let known = ledger.by_identity();
    let mut edit = LedgerEdit::default();
    for (_, step) in steps {
        let known = known.get(&step.reference.identity());
        let how = match (&step.action, &step.before) {
            (ObjectAction::Apply(_) | ObjectAction::Restore(_), None) => How::Made,
            // One that was deleted and made again by somebody else is not ours to delete.
            (ObjectAction::Apply(_), Some(live)) if !bears(live) => How::Adopted,
            (ObjectAction::Apply(_) | ObjectAction::Note, Some(_)) => {
                known.map_or(How::Adopted, |entry| entry.how)
            }
            _ => continue,
        };
        let entry = Entry {
            how,
            workspace: workspace.to_owned(),
        };
        if known != Some(&&entry) {
            edit.add.insert(step.reference, entry);
        }
    }
    edit
}
