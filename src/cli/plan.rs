//! `harden plan`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use harden::observe::Wanted;
use harden::plan::{self, Plan};
use harden::report::{PlanText, plan_text};

use super::args::{Global, PlanArgs};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// For how long an API that does not answer is asked again by commands that only read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Shows what differs.
pub(crate) fn run(args: &PlanArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open(global, PATIENCE)?;
    let wanted = Wanted::for_desired(&session.desired, &session.inventory);
    let facts = session.observe(&wanted, output);
    let plan = plan::build(&session.desired, &facts);
    let json = serde_json::to_value(&plan)
        .map_err(|e| Failure::new(format!("cannot write the plan as JSON: {e}"), ""))?;
    output.result(
        &plan_text(
            &plan,
            PlanText {
                details: !args.short,
            },
        ),
        &json,
    );
    if let Some(path) = &args.output {
        save(path, &json)?;
        output.note(&format!(
            "The plan is saved; `harden apply {}` executes exactly it.",
            path.display()
        ));
    }
    Ok(exit(&plan))
}

/// An incomplete plan is an error even when it has changes: a nightly check must not pass.
fn exit(plan: &Plan) -> Exit {
    if plan.is_incomplete() {
        Exit::Error
    } else if plan.is_clean() {
        Exit::Done
    } else {
        Exit::Changes
    }
}

/// Writes a file whole or not at all, readable by its owner only.
fn save(path: &Path, json: &serde_json::Value) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        writeln!(file, "{json:#}")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|e| {
        Failure::new(
            format!("cannot write {}: {e}", path.display()),
            "choose a file in a directory that exists and that you may write to",
        )
    })
}
