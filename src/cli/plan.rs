//! `harden plan`.

use std::path::Path;
use std::time::Duration;

use harden::plan::{self, Plan};
use harden::report::{PlanText, impact_json, impact_text, plan_text};

use super::args::{Global, PlanArgs};
use super::output::Output;
use super::save::{Readers, check_target, save};
use super::session::Session;
use super::{Exit, Failure};

/// For how long an API that does not answer is asked again by commands that only read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Shows what differs.
pub(crate) fn run(args: &PlanArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    if let Some(path) = &args.output {
        check_target(path)?;
    }
    let session = Session::open_to_plan(global, PATIENCE)?.hindered(&args.hindered);
    output.findings(&session.desired.findings);
    // The nodes are asked for both at once.
    let ((plan, facts), generations) = std::thread::scope(|scope| {
        let generations = scope.spawn(|| session.open_generations());
        (session.plan_and_facts(output), generations.join())
    });
    if let Some(open) = generations.ok().as_ref().and_then(|all| all.unfinished()) {
        output.note(&format!(
            "Generation {} by {} has not ended: it still runs, or `harden apply` finishes it or puts it back first. This \
             plan shows what differs at this moment.\n",
            open.number, open.holder.who
        ));
    }
    // A plan of thousands of objects is large; it is written as JSON only for those who want that.
    let json = match output.is_json() || args.output.is_some() {
        true => plan::to_saved(&plan)
            .map_err(|e| Failure::new(format!("cannot write the plan as JSON: {e}"), ""))?,
        false => serde_json::Value::Null,
    };
    if args.only_impact {
        let json = impact_json(&plan)
            .map_err(|e| Failure::new(format!("cannot write the impact as JSON: {e}"), ""))?;
        output.result(&impact_text(&plan), &json);
    } else if output.is_json() {
        output.result("", &json);
    } else {
        let details = !args.short;
        output.result(&plan_text(&plan, PlanText { details }), &json);
    }
    if let Some(path) = &args.output {
        save(path, &format!("{json:#}\n"), Readers::Owner)?;
        output.note(&saved_note(&global.workspace, path));
    }
    let exit = exit(&plan);
    // The process ends: to take thousands of objects apart would only take time.
    session.leave();
    std::mem::forget((plan, facts, json));
    Ok(exit)
}

/// Tells the command that executes the plan, for the same workspace.
fn saved_note(workspace: &Path, plan: &Path) -> String {
    let workspace = match workspace {
        here if here == Path::new(".") => String::new(),
        dir => format!("-C {} ", word(dir)),
    };
    format!(
        "The plan is saved; `harden {workspace}apply {}` executes exactly it.",
        word(plan)
    )
}

/// Writes a path as one word of a shell.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_is_told_works_where_it_is_told() {
        let note = |workspace: &str, plan: &str| saved_note(Path::new(workspace), Path::new(plan));
        assert_eq!(
            note(".", "p.json"),
            "The plan is saved; `harden apply p.json` executes exactly it."
        );
        let told = note("my team's", "/tmp/p.json");
        assert!(
            told.contains(r"`harden -C 'my team'\''s' apply /tmp/p.json`"),
            "{told}"
        );
    }
}
