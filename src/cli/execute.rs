//! What `apply` and `rollback` share: finishing what was interrupted, consent, and the run itself.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harden::apply::{Apply, ApplyError, Settings};
use harden::fact::snapshot::Reason;
use harden::generation::{Generations, Outcome, Record};
use harden::host::HostError;
use harden::observe;
use harden::plan::{Plan, Purpose};
use harden::report::{PlanText, plan_text};

use super::args::Consent;
use super::outcome::Told;
use super::output::{self, Output};
use super::progress::Lines;
use super::session::Session;
use super::workstation::{Dropping, Here, RATE};
use super::{Exit, Failure};

/// For how long an API that does not answer is asked again: its servers restart meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How many steps of an interrupted run are named.
const NAMED: usize = 40;

/// A run that may be interrupted, whatever it does.
pub(crate) struct Runs<'s> {
    session: &'s Session,
    output: &'s Output,
    consent: &'s Consent,
    interrupted: Arc<AtomicBool>,
}

impl<'s> Runs<'s> {
    /// From here on, Ctrl-C puts back what is being changed instead of ending the program.
    pub(crate) fn new(
        session: &'s Session,
        output: &'s Output,
        consent: &'s Consent,
    ) -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        watch_signals(interrupted.clone())?;
        Ok(Runs {
            session,
            output,
            consent,
            interrupted,
        })
    }

    /// Is set when the user interrupts.
    pub(crate) fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// Does something with the nodes and the API, and tells what it waits for.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&mut Apply<'_>) -> T) -> T {
        let mut here = Here {
            session: self.session,
            output: self.output,
            rate: RATE,
            dropping: Dropping::Unwanted,
        };
        let interrupted = &*self.interrupted;
        with_apply(
            self.session,
            self.output,
            self.consent,
            interrupted,
            &mut here,
            call,
        )
    }
}

/// A plan's run.
pub(crate) struct Execution<'s> {
    session: &'s Session,
    output: &'s Output,
    consent: &'s Consent,
    runs: Runs<'s>,
}

impl<'s> Execution<'s> {
    /// See [`Runs::new`].
    pub(crate) fn new(
        session: &'s Session,
        output: &'s Output,
        consent: &'s Consent,
    ) -> Result<Self, Failure> {
        Ok(Execution {
            session,
            output,
            consent,
            runs: Runs::new(session, output, consent)?,
        })
    }

    /// Ends what was interrupted, then makes a plan and executes it. Tells what became of it on
    /// stdout as well, when JSON is asked for.
    pub(crate) fn run(
        &self,
        plan: impl FnOnce() -> Result<Plan, Failure>,
    ) -> Result<Exit, Failure> {
        let mut told = Told::default();
        let result = self
            .recover(&self.session.generations(), &mut told)
            .and_then(|()| plan())
            .and_then(|plan| self.execute(&plan, &mut told));
        if result.is_ok() || told.something() {
            self.output.result("", &told.document());
        }
        result
    }

    /// Is set when the user interrupts.
    pub(crate) fn interrupted(&self) -> &AtomicBool {
        self.runs.interrupted()
    }

    /// Ends what was interrupted, and does nothing else.
    pub(crate) fn finish_first(&self) -> Result<(), Failure> {
        self.recover(&self.session.generations(), &mut Told::default())
    }

    /// Finishes or puts back an apply that was interrupted, and says which.
    fn recover(&self, generations: &Generations, told: &mut Told) -> Result<(), Failure> {
        for number in generations.unreadable.keys() {
            let why = generations.why_unreadable(*number).unwrap_or_default();
            self.output.note(&format!(
                "The record of generation {number} cannot be read: {why}"
            ));
        }
        let Some(open) = generations.unfinished() else {
            return Ok(());
        };
        if open.holder.runs_here() {
            return Err(Failure::new(
                format!(
                    "generation {} is being applied by {} (process {}); nothing was changed",
                    open.number, open.holder.who, open.holder.pid
                ),
                "wait until it has ended, then plan again",
            ));
        }
        self.output.note(&unfinished(open));
        if !self.consent.yes {
            ask("Finish it or put it back, before anything else?")?;
        }
        let session = self.session;
        let nodes = session.inventory.nodes.values();
        let nodes = nodes.map(|n| (n.name.clone(), n.control_plane)).collect();
        let result = self.runs.call(|apply| apply.recover(&nodes));
        told.recovered(&result);
        if let Some(report) = result? {
            self.output.note(&report.summary);
        }
        Ok(())
    }

    /// Shows a plan, asks, and executes it.
    fn execute(&self, plan: &Plan, told: &mut Told) -> Result<Exit, Failure> {
        let shown = plan_text(plan, PlanText { details: false });
        self.output.note(shown.trim_end());
        // What can be undone may be undone; a person decides.
        let rest = matches!(plan.purpose, Purpose::Rollback(_)) && !plan.is_clean();
        if plan.is_incomplete() && (!rest || self.consent.yes) {
            let help = match rest {
                true => {
                    "see above what cannot be undone, and the remedy of each; without --yes it asks whether to undo the rest"
                }
                false => {
                    "see above what could not be compared or cannot be done, and the remedy of each; without an object of the API that holds the rest back: `--except`"
                }
            };
            return Err(Failure::new(
                "the plan is incomplete, so nothing was changed",
                help,
            ));
        }
        if plan.is_clean() {
            return Ok(Exit::Done);
        }
        if !self.consent.yes {
            ask(match plan.is_incomplete() {
                true => "Undo the rest?",
                false => "Make these changes?",
            })?;
        }
        let result = self.runs.call(|apply| apply.run(plan));
        told.run(&result);
        let report = result?;
        for note in &report.notes {
            self.output.note(note);
        }
        self.output.outcome(&report.summary);
        Ok(match report.record.outcome() {
            Some(Outcome::Applied) => Exit::Done,
            _ => Exit::Error,
        })
    }
}

/// Calls something of an apply, and tells what it tells.
pub(super) fn with_apply<T>(
    session: &Session,
    output: &Output,
    consent: &Consent,
    interrupted: &AtomicBool,
    here: &mut Here<'_>,
    call: impl FnOnce(&mut Apply<'_>) -> T,
) -> T {
    let mut lines = Lines::new(output);
    let hosts = |name: &str| -> Result<_, HostError> { session.inventory.open(name) };
    let mut apply = Apply {
        hosts: &hosts,
        api: &session.api,
        look: &observe::look,
        holder: session.holder(),
        settings: Settings {
            gate_timeout: session.workspace.apply.gate_timeout,
            watchdog_margin: Duration::from_secs(30),
            take_over: consent.take_over,
            ..Settings::default()
        },
        interrupted,
        progress: &mut lines,
        workstation: Some(here),
    };
    let result = call(&mut apply);
    lines.finish();
    result
}

/// Takes the snapshot of etcd without which no key is changed, and says where it is.
pub(super) fn snapshot_before_keys(
    session: &Session,
    output: &Output,
    consent: &Consent,
    interrupted: &AtomicBool,
    here: &mut Here<'_>,
) -> Result<(), Failure> {
    let planes = session.inventory.control_planes();
    let first = |apply: &mut Apply<'_>| apply.snapshot_first(planes, Reason::Encryption);
    let (node, taken) = with_apply(session, output, consent, interrupted, here, first)?;
    output.note(&format!(
        "{node}: snapshot {} of etcd, revision {}, is taken and verified",
        taken.name, taken.revision
    ));
    Ok(())
}

/// Says what an apply that has not ended had left to do.
fn unfinished(record: &Record) -> String {
    let done = record.done();
    let mut steps: Vec<String> = record
        .plan
        .steps()
        .map(|(_, step)| step.title())
        .enumerate()
        .filter(|(at, _)| !done.contains(&(at + 1)))
        .map(|(at, title)| format!("  {}. {title}", at + 1))
        .collect();
    if let Some(more) = steps.len().checked_sub(NAMED).filter(|more| *more > 0) {
        steps.truncate(NAMED);
        steps.push(format!("  and {more} more"));
    }
    let what = match &record.plan.purpose {
        Purpose::Converge => String::new(),
        Purpose::Rollback(of) => format!(", a rollback of {of},"),
        Purpose::Bootstrap(node) => format!(", a bootstrap of {node},"),
    };
    format!(
        "Generation {}{what} by {} has not ended. Unless it still runs, it is finished when its nodes are well, or \
         else put back. These steps are not done:\n{}",
        record.number,
        record.holder.who,
        steps.join("\n")
    )
}

/// Asks on the terminal; without one, `--yes` must have been given.
pub(super) fn ask(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new(
            "there is no terminal to ask on; nothing was changed",
            "`--yes` applies without asking",
        ));
    }
    let answer = dialoguer::Confirm::new()
        .with_prompt(question)
        .default(false)
        .wait_for_newline(true)
        .interact();
    match answer {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(
            "not confirmed; these changes were not made",
            "",
        )),
        Err(dialoguer::Error::IO(e)) if e.kind() == std::io::ErrorKind::Interrupted => Err(
            Failure::new("not confirmed; these changes were not made", ""),
        ),
        Err(e) => Err(Failure::new(
            format!("cannot ask: {e}"),
            "`--yes` applies without asking",
        )),
    }
}

/// The first SIGINT, SIGTERM or SIGHUP asks the run to put back what it is doing; a second one ends
/// the program, and leaves that to the node's own timer.
fn watch_signals(interrupted: Arc<AtomicBool>) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::new(format!("cannot watch for signals: {e}"), "");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term), Ok(mut hangup)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
                signal(SignalKind::hangup()),
            ) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hangup.recv() => {}
                }
                let again = interrupted.swap(true, Ordering::Relaxed);
                output::interrupted(again);
                if again {
                    std::process::exit(1);
                }
            }
        });
    });
    Ok(())
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Api(api) => {
                let mut failure = Failure::from(api);
                if let Failure::Other { what, .. } = &mut failure {
                    what.push_str("; nothing was changed");
                }
                failure
            }
            other => Failure::new(other.to_string(), other.remedy()),
        }
    }
}
