//! The ledger during a run: written before the first object is made, and struck out only after an
//! object is gone, so that whatever happens in between loses none.

use std::collections::BTreeSet;

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
        let workspace = &self.record.plan.cluster.name;
        let known = self.session.ledger.by_identity();
        let mut edit = LedgerEdit::default();
        for (number, step) in self.objects() {
            if !self.done.contains(&number) {
                continue;
            }
            match step.action {
                ObjectAction::Delete | ObjectAction::Prune { .. } => {
                    edit.remove.insert(step.reference.clone());
                }
                ObjectAction::Release | ObjectAction::Forget => {
                    let entry = known.get(&step.reference.identity());
                    let mut left = entry.map_or_else(BTreeSet::new, |e| e.workspaces.clone());
                    left.remove(workspace);
                    match entry {
                        Some(entry) if !left.is_empty() => {
                            let how = entry.how;
                            let workspaces = left;
                            let entry = Entry { how, workspaces };
                            edit.add.insert(step.reference.clone(), entry);
                        }
                        _ => _ = edit.remove.insert(step.reference.clone()),
                    }
                }
                _ => {}
            }
        }
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
    fn objects(&self) -> impl Iterator<Item = (usize, &ObjectStep)> {
        (1..=self.total()).filter_map(|number| match self.numbered(number).1 {
            Step::Object(step) => Some((number, step)),
            _ => None,
        })
    }
}

/// Returns what has to be noted for these steps.
fn additions<'s>(
    steps: impl Iterator<Item = (usize, &'s ObjectStep)>,
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
        // One that is made anew is nobody else's: whoever wants it as well notes it with its next apply, and
        // a workspace that is no more does not keep it for ever.
        let others = match &step.before {
            Some(live) if bears(live) || step.action == ObjectAction::Note => known,
            _ => None,
        };
        let mut workspaces = others.map_or_else(BTreeSet::new, |entry| entry.workspaces.clone());
        workspaces.insert(workspace.to_owned());
        let entry = Entry { how, workspaces };
        if known != Some(&&entry) {
            edit.add.insert(step.reference.clone(), entry);
        }
    }
    edit
}
