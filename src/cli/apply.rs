//! `harden apply`.

use std::path::Path;

use harden::observe::Wanted;
use harden::plan::{self, Plan};

use super::args::{ApplyArgs, Global};
use super::execute::{Execution, PATIENCE};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Makes the changes of a plan.
pub(crate) fn run(args: &ApplyArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let given = args.plan.as_deref().map(read).transpose()?;
    let session = Session::open_locked(global, PATIENCE)?;
    output.findings(&session.desired.findings);
    let execution = Execution::new(&session, output, &args.consent)?;
    execution.recover(&session.generations())?;
    let plan = match given {
        Some(plan) => {
            refuse_if_moved(&session, &plan, output)?;
            plan
        }
        None => {
            let wanted = Wanted::for_desired(&session.desired, &session.inventory);
            plan::build(&session.desired, &session.observe(&wanted, output))
        }
    };
    execution.execute(&plan)
}

/// The facts that a saved plan rests on are read again. What is newly planned rests on facts of
/// this moment; and in both cases each node checks its own files once more before the first change.
fn refuse_if_moved(session: &Session, plan: &Plan, output: &Output) -> Result<(), Failure> {
    let facts = session.observe(&Wanted::for_plan(plan), output);
    let moved = plan::moved(plan, &facts);
    if moved.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "the plan is stale, so nothing was changed; since it was made, this has moved:\n  {}",
            moved.join("\n  ")
        ),
        "`harden plan -o FILE` makes a new one",
    ))
}

fn read(path: &Path) -> Result<Plan, Failure> {
    let hint = "make it with `harden plan -o FILE`, by this version of harden";
    let failure = |what: String| Failure::new(format!("{}: {what}", path.display()), hint);
    let text =
        std::fs::read_to_string(path).map_err(|e| failure(format!("cannot be read: {e}")))?;
    let plan: Plan =
        serde_json::from_str(&text).map_err(|e| failure(format!("is no plan file: {e}")))?;
    if plan.schema != plan::SCHEMA {
        return Err(failure(format!(
            "has schema {:?}; this version reads {:?}",
            plan.schema,
            plan::SCHEMA
        )));
    }
    Ok(plan)
}
