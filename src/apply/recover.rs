//! Finishes or reverts an apply that was interrupted: by a signal, a lost connection, a power cut.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::ApiError;
use crate::generation::{Event, Outcome, Record};
use crate::plan::{NodeStep, Purpose, Step};

use super::gate::Watch;
use super::node::{Id, Reason, State};
use super::run::{NAMED, Run, changed_nodes, finish};
use super::session::Session;
use super::step::{Argv, Failure, Left};
use super::{Apply, ApplyError, Report};

pub(super) fn recover(
    apply: &mut Apply<'_>,
    nodes: &BTreeMap<String, bool>,
) -> Result<Option<Report>, ApplyError> {
    // Usually there is nothing to do; finding that out takes no lock and writes nothing.
    let names = nodes.keys().cloned();
    let keeps = |name: &str| nodes.get(name) == Some(&true);
    let (past, _) = super::read_all(apply.hosts, names, keeps, super::Read::Open);
    let stray = past.steps.values().flatten().any(|s| open(s.state));
    if past.interrupted().is_none() && !stray {
        return Ok(None);
    }
    let mut session = Session::new(apply);
    let mut words = String::new();
    let result = resume(&mut session, nodes, &mut words);
    session.unlock();
    match result {
        Ok(Some(record)) => finish(session, Ok(record), |_| words).map(Some),
        Ok(None) => Ok(None),
        Err(error) => finish(session, Err(error), |_| words).map(Some),
    }
}

/// Whether a transaction waits for somebody.
fn open(state: State) -> bool {
    matches!(state, State::Active | State::Reverting)
}

fn resume(
    session: &mut Session<'_, '_>,
    nodes: &BTreeMap<String, bool>,
    words: &mut String,
) -> Result<Option<Record>, ApplyError> {
    // The API may be down because of what was interrupted; then the nodes' locks must do.
    match session.lock_api() {
        Err(error @ ApiError::Unreachable { .. }) => {
            session.note(format!("going on without the lock in the API: {error}"));
        }
        result => result?,
    }
    for name in nodes.keys() {
        // One that does not answer is an error only when it turns out to be concerned.
        match session.lock(name) {
            Err(error @ ApplyError::Locked { .. }) => return Err(error),
            Err(error) => session.note(error.to_string()),
            Ok(()) => {}
        }
    }
    let past = session.past(|name| nodes.get(name) == Some(&true))?;
    let Some(record) = past.interrupted().cloned() else {
        strays(session, &past.steps)?;
        return Ok(None);
    };
    for name in changed_nodes(&record.plan) {
        if !session.locked.contains(&name) {
            session.lock(&name)?;
        }
    }
    pick_up(session, record, words).map(Some)
}

/// Puts back transactions that wait for somebody although no generation is interrupted: its record
/// was lost.
fn strays(
    session: &mut Session<'_, '_>,
    steps: &BTreeMap<String, Vec<super::node::Listed>>,
) -> Result<(), ApplyError> {
    for (name, listed) in steps {
        for step in listed.iter().filter(|s| open(s.state)) {
            let id = Id {
                generation: step.generation,
                step: step.step,
            };
            session
                .node(name)?
                .revert(id, false, "no record knows of it")?;
            session.note(format!(
                "step {} of generation {} on {name} belonged to no record and was put back",
                step.step, step.generation
            ));
        }
    }
    Ok(())
}

/// What the journal says of the steps.
#[derive(Default)]
struct Told {
    begun: BTreeSet<usize>,
    done: BTreeSet<usize>,
    reverted: BTreeMap<usize, String>,
}

impl Told {
    fn of(record: &Record) -> Self {
        let mut told = Told::default();
        for entry in &record.journal {
            match &entry.event {
                Event::Begin(number) => {
                    told.begun.insert(*number);
                    told.reverted.remove(number);
                }
                Event::Done(number) => {
                    told.done.insert(*number);
                    told.reverted.remove(number);
                }
                Event::Reverted(number, why) => {
                    told.done.remove(number);
                    told.reverted.insert(*number, why.clone());
                }
                Event::End(_) => {}
            }
        }
        told
    }
}

/// What becomes of the step that was interrupted.
enum Verdict {
    /// It is done.
    Done,
    /// It has to be done (again).
    Todo,
    /// It was put back because it failed.
    Failed(Failure),
}

fn pick_up(
    session: &mut Session<'_, '_>,
    record: Record,
    words: &mut String,
) -> Result<Record, ApplyError> {
    let number = record.number;
    let told = Told::of(&record);
    let mut run = Run::new(session, record, told.done.clone());
    run.session.note(format!(
        "generation {number} was interrupted; {} of its {} steps are done",
        told.done.len(),
        run.total()
    ));
    if told.begun.is_empty() {
        let failure = Failure::back(format!(
            "generation {number} was interrupted before its first step; nothing was changed"
        ));
        *words = failure.message.clone();
        run.abandon_all();
        run.end(Outcome::Reverted(failure.message));
        return Ok(run.record);
    }
    let mut failed: Option<(usize, Failure)> = None;
    for step in told.begun.iter().copied() {
        if told.done.contains(&step) {
            // A run that was reverting uniform steps may have put it back without noting it.
            if let Some(why) = run.was_undone(step)? {
                run.done.remove(&step);
                run.journal_reverted(step, &why);
                failed.get_or_insert((step, Failure::back(why)));
            }
            continue;
        }
        if let Some(why) = told.reverted.get(&step) {
            failed.get_or_insert((step, Failure::back(why.clone())));
            continue;
        }
        match run.examine(step)? {
            Verdict::Done => run.finished(step),
            Verdict::Todo => {}
            Verdict::Failed(failure) => {
                if failure.left == Left::Back {
                    run.journal_reverted(step, &failure.message);
                }
                failed = Some((step, failure));
            }
        }
    }
    if let Some((step, mut failure)) = failed {
        failure.message = format!(
            "generation {number} was interrupted while step {step} was put back: {}",
            failure.message
        );
        return Err(run.fail(step, failure, false));
    }
    let left: Vec<String> = (1..=run.total())
        .filter(|step| !run.done.contains(step))
        .map(|step| step.to_string())
        .collect();
    *words = match left.as_slice() {
        [] => format!("finished generation {number}: every step was done already"),
        [first, .., last] if left.len() > NAMED => format!(
            "finished generation {number}: {} steps from {first} to {last} done now",
            left.len()
        ),
        left => format!(
            "finished generation {number}: step(s) {} done now",
            left.join(", ")
        ),
    };
    run.drive()
}

/// Whether what runs looks the same before and after a step, as where only the user of a pod changes:
/// who did not see it before cannot tell a new process from the old one.
fn is_blind(step: &NodeStep) -> bool {
    let (Some(new), Some(old)) = (&step.gate, &step.undo_gate) else {
        return false;
    };
    let same = |(component, argv)| old.processes.get(component) == Some(argv);
    new.unit.is_some()
        || new.processes.iter().any(same)
        || (!new.kubelet.is_empty() && new.kubelet == old.kubelet)
}

impl Run<'_, '_, '_> {
    /// Asks the node what became of a step that was begun.
    fn examine(&mut self, number: usize) -> Result<Verdict, ApplyError> {
        let Step::Node(step) = self.step(number) else {
            // Steps in the API may be done again.
            return Ok(Verdict::Todo);
        };
        let id = self.id(number);
        let (state, why) = self.session.state(id, &step)?;
        let failed = |why: String| Verdict::Failed(Failure::back(why));
        Ok(match (state, why) {
            (State::Committed, _) => Verdict::Done,
            (State::None | State::Staged, _) => Verdict::Todo,
            (State::Reverted, Some((Reason::Asked, why))) => failed(why),
            // The watchdog did its duty because the run was gone: that says nothing against it.
            (State::Reverted, _) => Verdict::Todo,
            (State::Reverting, why) => {
                let timer = matches!(why, Some((Reason::Timer, _)));
                let words = why.map_or_else(|| "it was being put back".to_owned(), |w| w.1);
                let failure = self.session.put_back(id, &step, &Argv::new(), &words);
                if timer && failure.left == Left::Back {
                    Verdict::Todo
                } else {
                    Verdict::Failed(failure)
                }
            }
            (State::Active, _) => self.decide(id, &step),
        })
    }

    /// Commits an active transaction whose gate holds, and puts back every other.
    fn decide(&mut self, id: Id, step: &NodeStep) -> Verdict {
        let old = Argv::new();
        if matches!(self.record.plan.purpose, Purpose::Rollback(_)) {
            self.session.excuse_unwell();
        }
        if is_blind(step) {
            let why = "whether it had restarted cannot be told";
            let failure = self.session.put_back(id, step, &old, why);
            return match failure.left {
                Left::Back => Verdict::Todo,
                _ => Verdict::Failed(failure),
            };
        }
        if let Some(gate) = &step.gate
            && let Err(shut) = self.session.pass(&step.node, gate, Watch::change(None))
        {
            return Verdict::Failed(self.session.put_back(id, step, &old, &shut.why));
        }
        match self.session.commit(id, step, &old) {
            Ok(()) => Verdict::Done,
            // Its watchdog was faster than we; do it again.
            Err(failure) if failure.left == Left::Back => Verdict::Todo,
            Err(failure) => Verdict::Failed(failure),
        }
    }

    /// Whether a step that is noted as done was put back on its node since, and why.
    fn was_undone(&mut self, number: usize) -> Result<Option<String>, ApplyError> {
        let Step::Node(step) = self.step(number) else {
            return Ok(None);
        };
        let id = self.id(number);
        Ok(match self.session.state(id, &step)? {
            (State::Reverted, why) => Some(why.map_or_else(String::new, |w| w.1)),
            (State::Reverting, why) => {
                let why = why.map_or_else(String::new, |w| w.1);
                Some(self.session.put_back(id, &step, &Argv::new(), &why).message)
            }
            _ => None,
        })
    }

    fn journal_reverted(&mut self, number: usize, why: &str) {
        if let Err(error) = self.journal(Event::Reverted(number, why.to_owned())) {
            self.session.note(error);
        }
    }

    /// Ends what was staged and never begun.
    fn abandon_all(&mut self) {
        for number in 1..=self.total() {
            if let Step::Node(step) = self.step(number) {
                let id = self.id(number);
                // What cannot be reached is only staged, and changes nothing.
                let _ = self
                    .session
                    .node(&step.node)
                    .and_then(|mut node| node.revert(id, false, "it was never begun"));
            }
        }
    }
}
