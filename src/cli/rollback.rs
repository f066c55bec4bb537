//! `harden rollback`.

use harden::generation::{self, Current, Record};

use super::args::{Global, RollbackArgs};
use super::execute::{Execution, PATIENCE};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Undoes a generation.
pub(crate) fn run(args: &RollbackArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open(global, PATIENCE)?;
    let execution = Execution::new(&session, output, &args.consent)?;
    execution.recover(&session.generations())?;
    let generations = session.generations();
    let record = match args.generation {
        Some(number) => generations
            .records
            .iter()
            .find(|r| r.number == number)
            .ok_or_else(|| {
                Failure::new(
                    format!("there is no generation {number}"),
                    "`harden generations` lists them",
                )
            })?,
        None => generations.last_applied().ok_or_else(|| {
            Failure::new(
                "there is nothing to roll back: no generation left anything",
                "`harden generations` lists them",
            )
        })?,
    };
    let current = current(&session, record, output);
    let plan = generation::rollback_plan(record, &current);
    execution.execute(&plan)
}

/// Looks at everything that the record touched.
fn current(session: &Session, record: &Record, output: &Output) -> Current {
    let lookup = generation::rollback_lookup(record);
    session.look_up(&lookup, output)
}
