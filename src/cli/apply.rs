//! `harden apply`.

use std::path::Path;

use harden::observe::Wanted;
use harden::plan::{self, Comparison, Plan, SavedError};

use super::args::{ApplyArgs, Global};
use super::execute::{Execution, PATIENCE};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Makes the changes of a plan.
pub(crate) fn run(args: &ApplyArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let given = args.plan.as_deref().map(read).transpose()?;
    let session = Session::open_locked(global, PATIENCE)?.hindered(&args.hindered);
    output.findings(&session.desired.findings);
    let execution = Execution::new(&session, output, &args.consent)?;
    execution.run(|| match given {
        Some(plan) => {
            refuse_if_moved(&session, &plan, output)?;
            Ok(plan)
        }
        None => Ok(session.plan(output)),
    })
}

/// The facts that a saved plan rests on are read again. What is newly planned rests on facts of
/// this moment; and in both cases each node checks its own files once more before the first change.
fn refuse_if_moved(session: &Session, plan: &Plan, output: &Output) -> Result<(), Failure> {
    let facts = session.observe(&Wanted::for_plan(plan), output);
    refusal(&plan::compare(plan, &facts)).map_or(Ok(()), Err)
}

/// Refuses a plan whose basis has moved, and one of which that is not known.
fn refusal(found: &Comparison) -> Option<Failure> {
    let unread = found.unread.join("\n  ");
    if found.moved.is_empty() {
        return (!unread.is_empty()).then(|| {
            Failure::new(
                format!(
                    "whether the plan still holds cannot be told, so nothing was changed:\n  {unread}"
                ),
                "the plan is not stale by this: apply it again when all of them answer",
            )
        });
    }
    let unread = match unread.as_str() {
        "" => String::new(),
        unread => format!("\nand of this it is not known:\n  {unread}"),
    };
    Some(Failure::new(
        format!(
            "the plan is stale, so nothing was changed; since it was made, this has moved:\n  {}{unread}",
            found.moved.join("\n  ")
        ),
        "`harden plan -o FILE` makes a new one",
    ))
}

fn read(path: &Path) -> Result<Plan, Failure> {
    let hint = "make it with `harden plan -o FILE`, by this version of harden";
    let failure = |what: String, hint: &str| {
        let what = format!("{}: {what}; nothing was changed", path.display());
        Failure::new(what, hint)
    };
    let text =
        std::fs::read_to_string(path).map_err(|e| failure(format!("cannot be read: {e}"), hint))?;
    plan::from_saved(&text).map_err(|error| {
        let hint = match error {
            SavedError::Changed => {
                "`harden plan -o FILE` makes a new one; what should be otherwise belongs in the profile"
            }
            SavedError::Format(_) | SavedError::Schema(_) => hint,
        };
        failure(error.to_string(), hint)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn said(moved: &[&str], unread: &[&str]) -> String {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let found = Comparison {
            moved: own(moved),
            unread: own(unread),
        };
        match refusal(&found) {
            Some(Failure::Other { what, hint }) => format!("{what}\n{hint}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_node_that_does_not_answer_makes_no_plan_stale() {
        assert_eq!(said(&[], &[]), "None");
        insta::assert_snapshot!(said(&[], &["w1 could not be asked: no route; start it"]), @r"
        whether the plan still holds cannot be told, so nothing was changed:
          w1 could not be asked: no route; start it
        the plan is not stale by this: apply it again when all of them answer
        ");
        insta::assert_snapshot!(said(&["cp1: file /a"], &["w1 could not be asked: no route"]), @r"
        the plan is stale, so nothing was changed; since it was made, this has moved:
          cp1: file /a
        and of this it is not known:
          w1 could not be asked: no route
        `harden plan -o FILE` makes a new one
        ");
    }
}
