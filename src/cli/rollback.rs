//! `harden rollback`.

use std::collections::BTreeSet;

use harden::generation::{self, Current, Generations, Record};
use harden::plan::{Plan, Purpose};
use harden::resource::encryption;

use super::args::{Global, RollbackArgs};
use super::encryption::look;
use super::execute::{Execution, PATIENCE};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Undoes a generation.
pub(crate) fn run(args: &RollbackArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open(global, PATIENCE)?;
    let execution = Execution::new(&session, output, &args.consent)?;
    execution.run(|| {
        let generations = session.generations();
        let record = choose(&generations, args.generation)?;
        if let (None, Purpose::Rollback(undone)) = (args.generation, &record.plan.purpose) {
            output.note(&format!(
                "the last that was done is generation {}, a rollback: undoing it makes the changes of generation {undone} again",
                record.number
            ));
        }
        refuse_what_joined(&session, record)?;
        let current = current(&session, record, output);
        let plan = generation::rollback_plan(record, &current);
        refuse_what_encrypts(&session, &plan, output)?;
        Ok(plan)
    })
}

/// Finds the generation to undo.
fn choose(generations: &Generations, number: Option<u64>) -> Result<&Record, Failure> {
    let hint = "`harden generations` lists them";
    let Some(number) = number else {
        if let Some((newest, why)) = generations.unreadable_after_last_applied() {
            let hint = match generations.last_applied() {
                Some(last) => format!(
                    "restore that record; or `harden rollback {}` undoes the last one that can be read",
                    last.number
                ),
                None => "restore that record on a control-plane node".to_owned(),
            };
            return Err(Failure::new(
                format!(
                    "generation {newest} may be the last that left something, but its record cannot be read: {why}"
                ),
                hint,
            ));
        }
        return generations.last_applied().ok_or_else(|| {
            Failure::new(
                "there is nothing to roll back: no generation left anything",
                hint,
            )
        });
    };
    if let Some(why) = generations.why_unreadable(number) {
        return Err(Failure::new(
            format!("the record of generation {number} cannot be read: {why}"),
            format!(
                "restore /var/lib/harden/generations/{number:08}/ on a control-plane node, for example \
                 from a backup"
            ),
        ));
    }
    let mut records = generations.records.iter();
    records
        .find(|record| record.number == number)
        .ok_or_else(|| Failure::new(format!("there is no generation {number}"), hint))
}

/// What a node was given before it joined is what its control plane starts with since.
fn refuse_what_joined(session: &Session, record: &Record) -> Result<(), Failure> {
    match &record.plan.purpose {
        Purpose::Bootstrap(node) if !session.inventory.joining.contains_key(node) => {
            Err(Failure::new(
                format!(
                    "generation {} prepared {node} for joining, and {node} is not known as a node that is yet to join: \
                     what runs there since may need what it was given; nothing was changed",
                    record.number
                ),
                "`harden rollback NUMBER` undoes another generation; that a node has not joined is known with \
                 `discover = true` and its role under [nodes.host]",
            ))
        }
        _ => Ok(()),
    }
}

/// Without its flag an API server reads nothing that is encrypted; with the flag and no file it does not start.
fn refuse_what_encrypts(session: &Session, plan: &Plan, output: &Output) -> Result<(), Failure> {
    let flag = generation::encryption_flag(plan);
    if flag.comes {
        return Err(Failure::new(
            "this rollback would start API servers with an encryption configuration that may be gone; nothing was \
             changed",
            "set encryption.provider in the profile, and `harden apply` begins encryption again",
        ));
    }
    if !flag.goes {
        return Ok(());
    }
    let (seen, judged) = look(session, output, &BTreeSet::new());
    if encryption::is_in_clear(&seen) {
        return Ok(());
    }
    let what = "this rollback would start API servers without their encryption configuration";
    Err(match judged.unknown.first() {
        Some(problem) => Failure::new(
            format!(
                "{what}, and it is not known that no object is encrypted: {}: {}: {}; nothing was changed",
                problem.place, problem.subject, problem.message
            ),
            format!(
                "{}; then roll back, or bring everything into clear by `harden encryption disable` where a key has \
                 written",
                problem.remedy
            ),
        ),
        None => Failure::new(
            format!("{what}, and objects are encrypted or would be; nothing was changed"),
            "`harden encryption disable` brings them into clear first, and takes the flag away",
        ),
    })
}

/// Looks at everything that the record touched.
fn current(session: &Session, record: &Record, output: &Output) -> Current {
    let lookup = generation::rollback_lookup(record);
    session.look_up(&lookup, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_is_not_passed_over() {
        let copies = [("cp1".to_owned(), "`record` is damaged".to_owned())];
        let generations = Generations {
            unreadable: [(7, copies.into())].into(),
            ..Generations::default()
        };
        let refused = |number| match choose(&generations, number) {
            Err(Failure::Other { what, .. }) => what,
            other => format!("{other:?}"),
        };
        assert_eq!(
            refused(Some(7)),
            "the record of generation 7 cannot be read: cp1: `record` is damaged"
        );
        assert_eq!(refused(Some(8)), "there is no generation 8");
        assert_eq!(
            refused(None),
            "generation 7 may be the last that left something, but its record cannot be read: \
             cp1: `record` is damaged"
        );
    }
}
