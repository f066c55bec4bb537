//! A run: the steps of a plan in their order, and what happens when one fails.

use std::collections::{BTreeMap, BTreeSet};

use crate::fact::NodePath;
use crate::generation::{Event, Outcome, Record, SCHEMA, first_index};
use crate::plan::{Plan, Purpose, Step};
use crate::resource::{Place, Severity};

use super::node::{Code, Id, NodeError};
use super::session::Session;
use super::step::{Argv, Failure, Left};
use super::{Apply, ApplyError, Notice, Report};
use crate::generation::now;

pub(super) fn run(apply: &mut Apply<'_>, plan: &Plan) -> Result<Report, ApplyError> {
    let mut session = Session::new(apply);
    let result = start(&mut session, plan);
    session.unlock();
    finish(session, result, |record| {
        format!("generation {} is applied", record.number)
    })
}

/// Turns a finished record and the session's notes into a report.
pub(super) fn finish(
    session: Session<'_, '_>,
    result: Result<Record, ApplyError>,
    summary: impl FnOnce(&Record) -> String,
) -> Result<Report, ApplyError> {
    match result {
        Ok(record) => Ok(Report {
            summary: summary(&record),
            record,
            notes: session.notes,
        }),
        Err(ApplyError::Failed {
            generation,
            message,
            outcome,
            record,
            ..
        }) => Err(ApplyError::Failed {
            generation,
            message,
            outcome,
            record,
            notes: session.notes,
        }),
        Err(ApplyError::Stale { what, record, .. }) => Err(ApplyError::Stale {
            what,
            record,
            notes: session.notes,
        }),
        Err(other) => Err(other),
    }
}

fn start(session: &mut Session<'_, '_>, plan: &Plan) -> Result<Record, ApplyError> {
    let found = session.apply.api.cluster_id()?;
    if found != plan.cluster.id {
        return Err(ApplyError::Cluster {
            planned: plan.cluster.id.clone(),
            found,
        });
    }
    session.lock_api()?;
    lock_nodes(session, plan)?;
    let past = session.past(|name| plan.nodes.get(name) == Some(&true))?;
    if let Some(record) = past.interrupted() {
        return Err(ApplyError::Interrupted(record.number));
    }
    session.preflight(plan)?;
    session.snapshot_before(plan)?;
    let record = Record {
        schema: SCHEMA.into(),
        number: past.next(),
        plan_sha256: plan.sha256(),
        plan: plan.clone(),
        holder: session.holder(),
        started: now(),
        journal: Vec::new(),
    };
    session.write_record(&record)?;
    Run::new(session, record, BTreeSet::new()).drive()
}

/// Takes the lock of every node that the plan changes, and of every control-plane node. One that was
/// unreachable already when the plan was made may stay so.
fn lock_nodes(session: &mut Session<'_, '_>, plan: &Plan) -> Result<(), ApplyError> {
    let changed = changed_nodes(plan);
    let planes = plan.nodes.iter().filter(|(_, plane)| **plane);
    let all: BTreeSet<&String> = planes.map(|(name, _)| name).chain(&changed).collect();
    for name in all {
        match session.lock(name) {
            Err(error @ (ApplyError::Host(_) | ApplyError::Node(NodeError::Host(_))))
                if !changed.contains(name) && was_unreachable(plan, name) =>
            {
                session.note(format!(
                    "{error}; it gets no copy of this generation's record"
                ));
            }
            result => result?,
        }
    }
    Ok(())
}

fn was_unreachable(plan: &Plan, name: &str) -> bool {
    plan.problems
        .iter()
        .any(|p| p.severity == Severity::Error && p.place == Place::Node(name.to_owned()))
}

/// The nodes that a plan has steps for.
pub(super) fn changed_nodes(plan: &Plan) -> BTreeSet<String> {
    plan.steps()
        .filter_map(|(_, step)| match step {
            Step::Node(step) => Some(step.node.clone()),
            Step::ServingCertificate(step) => Some(step.node.clone()),
            _ => None,
        })
        .collect()
}

/// How many steps are named in one line.
pub(super) const NAMED: usize = 40;

/// The steps of a record, being done.
pub(super) struct Run<'r, 's, 'a> {
    pub(super) session: &'r mut Session<'s, 'a>,
    pub(super) record: Record,
    /// The numbers of the steps that are done.
    pub(super) done: BTreeSet<usize>,
    /// Each step with the number of its stage.
    steps: Vec<(usize, Step)>,
    /// What ran before each node step of this run.
    old: BTreeMap<usize, Argv>,
}

impl<'r, 's, 'a> Run<'r, 's, 'a> {
    pub(super) fn new(
        session: &'r mut Session<'s, 'a>,
        record: Record,
        done: BTreeSet<usize>,
    ) -> Self {
        session.planes.begin(&record.plan);
        let stages = record.plan.stages.iter().enumerate();
        let steps = stages
            .flat_map(|(at, stage)| stage.steps.iter().map(move |step| (at, step.clone())))
            .collect();
        Run {
            session,
            record,
            done,
            steps,
            old: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self, number: usize) -> Id {
        Id {
            generation: self.record.number,
            step: number,
        }
    }

    pub(super) fn step(&self, number: usize) -> Step {
        self.steps[number - 1].1.clone()
    }

    /// A step with the number of its stage.
    pub(super) fn numbered(&self, number: usize) -> (usize, &Step) {
        let (stage, step) = &self.steps[number - 1];
        (*stage, step)
    }

    pub(super) fn total(&self) -> usize {
        self.steps.len()
    }

    /// Does every step that is not done.
    pub(super) fn drive(mut self) -> Result<Record, ApplyError> {
        if let Err((number, failure)) = self.stage_all() {
            return Err(self.fail(number, failure, false));
        }
        let mut stage = None;
        let mut noted = false;
        while let Some(number) = self.next() {
            if self.session.interrupted() {
                let failure = Failure::back("it was interrupted");
                return Err(self.fail(number, failure, false));
            }
            let (at, step) = self.steps[number - 1].clone();
            if stage != Some(at) {
                stage = Some(at);
                let (name, steps) = {
                    let stage = &self.record.plan.stages[at];
                    (stage.name, stage.steps.len())
                };
                self.session.tell(Notice::Stage { name, steps });
            }
            // Not earlier: the API may be down until the nodes are well again.
            if matches!(step, Step::Object(_)) && !noted {
                if let Err(failure) = self.note_objects() {
                    return Err(self.fail(number, failure, false));
                }
                noted = true;
            }
            if let Some(group) = self.group(number) {
                if let Err(stopped) = self.do_together(&group) {
                    return Err(self.fail(stopped.number, stopped.failure, stopped.begun));
                }
                continue;
            }
            self.session.renew();
            let (title, total) = (step.title(), self.total());
            self.session.tell(Notice::Step {
                number,
                total,
                title: &title,
            });
            if let (true, Step::Node(step)) = (self.session.planes.concerns(&step), &step) {
                let purpose = self.record.plan.purpose.clone();
                if let Err(failure) = self.session.await_planes(&step.node, &purpose) {
                    return Err(self.fail(number, failure, false));
                }
            }
            if let Err(why) = self.journal(Event::Begin(number)) {
                let failure = Failure::back(format!("{why}; step {number} was not begun"));
                return Err(self.fail(number, failure, false));
            }
            let result = match &step {
                Step::Node(step) => {
                    let id = self.id(number);
                    let old = self.old.entry(number).or_default();
                    self.session.do_node(id, step, old)
                }
                Step::Object(step) => self.session.do_object(step),
                Step::ConfigMapKey(step) => self.session.do_key(step),
                Step::ServingCertificate(step) => self.session.do_certificate(step),
                Step::Encryption(work) => self.session.do_encryption(work),
            };
            if let Err(failure) = result {
                return Err(self.fail(number, failure, true));
            }
            self.finished(number);
        }
        self.end(Outcome::Applied);
        Ok(self.record)
    }

    /// The next step: the first that is not done. Where a rollback comes to control planes of which
    /// some are not well, it begins with those of the same stage.
    fn next(&mut self) -> Option<usize> {
        let open = |number: &usize| !self.done.contains(number);
        let first = (1..=self.total()).find(open)?;
        let (stage, step) = &self.steps[first - 1];
        let is_rollback = matches!(self.record.plan.purpose, Purpose::Rollback(_));
        if !is_rollback || !self.session.planes.concerns(step) {
            return Some(first);
        }
        let unwell = self.session.survey().unwell;
        let is_unwell = |number: &usize| match &self.steps[number - 1] {
            (at, Step::Node(step)) => {
                at == stage && step.restarts() && unwell.contains_key(&step.node)
            }
            _ => false,
        };
        let repair = (first..=self.total()).filter(open).find(is_unwell);
        Some(repair.unwrap_or(first))
    }

    /// Notes that a step is done.
    pub(super) fn finished(&mut self, number: usize) {
        self.done.insert(number);
        // The node itself knows that it committed, so a lost entry costs nothing.
        if let Err(why) = self.journal(Event::Done(number)) {
            self.session.note(why);
        }
        self.session.tell(Notice::Done { number });
    }

    pub(super) fn journal(&mut self, event: Event) -> Result<(), String> {
        self.journal_all(std::iter::once(event))
    }

    pub(super) fn journal_all(
        &mut self,
        events: impl Iterator<Item = Event>,
    ) -> Result<(), String> {
        self.session.journal(&mut self.record, events)
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.strike_out();
        if let Err(why) = self.journal(Event::End(outcome)) {
            self.session.note(format!(
                "{why}; the next run finds generation {} unfinished and ends it",
                self.record.number
            ));
        }
    }

    /// Stages every node step that is not done: what can be found wrong is found before anything
    /// is changed.
    fn stage_all(&mut self) -> Result<(), (usize, Failure)> {
        let mut touched: BTreeSet<(String, NodePath)> = BTreeSet::new();
        for number in 1..=self.total() {
            let Step::Node(step) = self.step(number) else {
                continue;
            };
            if self.done.contains(&number) {
                continue;
            }
            let id = self.id(number);
            let first = first_index(&self.record.plan, number);
            let staged = self.session.node(&step.node).and_then(|mut node| {
                node.begin(id, first, step.files.len(), &step.units)?;
                for (offset, file) in step.files.iter().enumerate() {
                    // What an earlier step leaves there cannot be seen yet.
                    let later = !touched.insert((step.node.clone(), file.path.clone()));
                    node.stage(id, first + offset, later, file)?;
                }
                Ok(())
            });
            staged.map_err(|error| {
                let moved = matches!(
                    error,
                    NodeError::Refused {
                        code: Code::Moved,
                        ..
                    }
                );
                let failure = Failure::back(error.to_string());
                (number, Failure { moved, ..failure })
            })?;
        }
        Ok(())
    }

    /// Ends a run whose step failed: puts back what must not stay, and records the outcome.
    pub(super) fn fail(mut self, number: usize, failure: Failure, begun: bool) -> ApplyError {
        let untouched = self.done.is_empty();
        // What is done of it stays.
        let is_partly_done = begun && matches!(self.step(number), Step::Encryption(_));
        let mut message = failure.message;
        let mut whole = failure.left == Left::Back;
        if begun && whole {
            self.reverted(number, &message);
        }
        for (number, failure) in self.undo_uniform(number) {
            whole &= failure.left == Left::Back;
            message = format!("{message}\n{}", failure.message);
            if failure.left == Left::Back {
                self.done.remove(&number);
                self.reverted(number, &failure.message);
            }
        }
        self.abandon(number, failure.left);
        let outcome = if !whole {
            None
        } else if self.done.is_empty() && is_partly_done {
            Some(Outcome::Stopped(message.clone()))
        } else if self.done.is_empty() {
            Some(Outcome::Reverted(message.clone()))
        } else {
            Some(Outcome::Stopped(format!("{message}\n{}", self.stays())))
        };
        if let Some(outcome) = &outcome {
            self.end(outcome.clone());
        }
        let generation = self.record.number;
        if failure.moved && untouched && whole {
            return ApplyError::Stale {
                what: message,
                record: Box::new(self.record),
                notes: Vec::new(),
            };
        }
        ApplyError::Failed {
            generation,
            message,
            outcome,
            record: Box::new(self.record),
            notes: Vec::new(),
        }
    }

    fn reverted(&mut self, number: usize, why: &str) {
        if let Err(error) = self.journal(Event::Reverted(number, why.to_owned())) {
            self.session.note(error);
        }
    }

    /// Puts back the nodes that did the same uniform step before.
    fn undo_uniform(&mut self, failed: usize) -> Vec<(usize, Failure)> {
        let (at, step) = self.steps[failed - 1].clone();
        if !matches!(&step, Step::Node(step) if step.uniform) {
            return Vec::new();
        }
        let why = format!("step {failed} failed, and all nodes must have the same");
        let mut results = Vec::new();
        for number in self.done.clone().into_iter().rev() {
            let (stage, step) = self.steps[number - 1].clone();
            let Step::Node(step) = step else { continue };
            if stage != at || !step.uniform {
                continue;
            }
            let old = self.old.remove(&number).unwrap_or_default();
            let id = self.id(number);
            // A second member is not taken from a quorum that misses one already.
            if step.restarts_etcd()
                && let Some(waits) = self.session.others_wait(&step.node)
            {
                let node = &step.node;
                let failure = Failure {
                    message: format!(
                        "{node} was NOT put back yet, for its etcd member is needed while this is waited for: {waits}"
                    ),
                    left: Left::Broken,
                    moved: false,
                };
                results.push((number, failure));
                continue;
            }
            results.push((number, self.session.undo(id, &step, &old, &why)));
        }
        results
    }

    /// Ends the transactions that were staged and are not needed any more.
    fn abandon(&mut self, failed: usize, left: Left) {
        let mut gone = BTreeSet::new();
        if left == Left::Unknown
            && let Step::Node(step) = self.step(failed)
        {
            gone.insert(step.node);
        }
        for number in 1..=self.total() {
            let Step::Node(step) = self.step(number) else {
                continue;
            };
            if self.done.contains(&number) || gone.contains(&step.node) {
                continue;
            }
            let id = self.id(number);
            let result = self
                .session
                .node(&step.node)
                .and_then(|mut node| node.revert(id, false, "it was not needed any more"));
            if let Err(NodeError::Host(_)) = result {
                // Nothing of it is changed, so it may lie there; do not wait for each in turn.
                gone.insert(step.node);
            }
        }
    }

    /// Lists what stays.
    fn stays(&self) -> String {
        let mut titles: Vec<String> = self
            .done
            .iter()
            .take(NAMED)
            .map(|number| format!("{number} ({})", self.steps[number - 1].1.title()))
            .collect();
        if let Some(more) = self.done.len().checked_sub(NAMED).filter(|more| *more > 0) {
            titles.push(format!("and {more} more"));
        }
        format!("these steps stay: {}", titles.join("; "))
    }
}
