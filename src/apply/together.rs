//! Many API objects, several at a time.
//!
//! What may be done at the same time stands together in a plan: objects of one stage, of the same rank
//! (namespaces before what is in them, what allows before what refuses). Their beginning is noted in one
//! entry of the journal before any of them, and their end after all: each is done whole or not at all, and
//! doing it again is no harm, so that a run that is killed in between is finished by the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Notice;
use super::run::Run;
use super::step::{Failure, one_object};
use crate::cluster::{Api, ApiError};
use crate::generation::Event;
use crate::plan::{ObjectAction, ObjectStep, Step, object_rank};

/// Fewer steps than this are done one after the other, each with its own line.
const FEW: usize = 20;

/// So many at most between two entries of the journal.
const BATCH: usize = 250;

/// How many calls are under way at the same time.
const WORKERS: usize = 8;

/// How many namespaces are told to go at the same time. Kubernetes empties each by itself, which takes it some
/// seconds, and whoever waits asks four times a second.
const GOING: usize = 50;

/// How often it is told how far they are.
const TELL: Duration = Duration::from_millis(200);

/// What keeps steps apart.
fn sort(step: &Step) -> Option<(u8, u8)> {
    let Step::Object(step) = step else {
        return None;
    };
    let null = Value::Null;
    let (action, object) = match &step.action {
        ObjectAction::Apply(wanted) => (0, wanted),
        ObjectAction::Restore(whole) => (1, whole),
        ObjectAction::Delete => (2, step.before.as_ref().unwrap_or(&null)),
        ObjectAction::Prune { .. } => (3, step.before.as_ref().unwrap_or(&null)),
        ObjectAction::Release => (4, &null),
        ObjectAction::Forget | ObjectAction::Note => (5, &null),
    };
    Some((action, object_rank(&step.reference, object)))
}

/// How many steps like this one are under way at the same time.
fn workers(step: &ObjectStep) -> usize {
    let goes = matches!(
        step.action,
        ObjectAction::Delete | ObjectAction::Prune { .. }
    );
    match goes && step.reference.kind == "Namespace" {
        true => GOING,
        false => WORKERS,
    }
}

/// Steps that may be done at the same time: first and last number, and which of them come next.
pub(super) struct Group {
    first: usize,
    last: usize,
    pub(super) next: Vec<usize>,
}

/// What became of a group that did not get through.
pub(super) struct Stopped {
    pub(super) number: usize,
    pub(super) failure: Failure,
    /// Whether it is noted as begun.
    pub(super) begun: bool,
}

impl Run<'_, '_, '_> {
    /// Returns the steps that may be done together with this one; `None` when they are few.
    pub(super) fn group(&self, number: usize) -> Option<Group> {
        let (stage, step) = self.numbered(number);
        let wanted = sort(step)?;
        let belongs = |other: &usize| {
            let (at, step) = self.numbered(*other);
            at == stage && sort(step) == Some(wanted)
        };
        let first = (1..number).rev().take_while(belongs).last();
        let first = first.unwrap_or(number);
        let last = (number..=self.total()).take_while(belongs).last();
        let last = last.unwrap_or(number);
        let open = |other: &usize| !self.done.contains(other);
        let next = (number..=last).filter(open).take(BATCH).collect();
        (last + 1 - first >= FEW).then_some(Group { first, last, next })
    }

    /// Does these steps, several at a time. When one fails, no other is begun.
    pub(super) fn do_together(&mut self, group: &Group) -> Result<(), Box<Stopped>> {
        let number = group.next.first().copied().unwrap_or(group.first);
        let stopped = |number, failure, begun| {
            Err(Box::new(Stopped {
                number,
                failure,
                begun,
            }))
        };
        if let Err(why) = self.journal_all(group.next.iter().map(|one| Event::Begin(*one))) {
            let failure = Failure::back(format!("{why}; step {number} was not begun"));
            return stopped(number, failure, false);
        }
        let mut results = self.work(group);
        results.sort_by_key(|(number, _)| *number);
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for (number, result) in results {
            match result {
                Ok(()) => done.push(number),
                Err(failure) => failed.push((number, failure)),
            }
        }
        self.done.extend(&done);
        let end = done.iter().map(|number| Event::Done(*number));
        if failed.is_empty() && done.len() < group.next.len() {
            let open = group.next.iter().find(|one| !self.done.contains(one));
            let failure = Failure::back("it was interrupted");
            failed.push((open.copied().unwrap_or(number), failure));
        }
        let Some((number, mut failure)) = failed.first().cloned() else {
            if let Err(why) = self.journal_all(end) {
                self.session.note(why);
            }
            return Ok(());
        };
        for (_, other) in failed.iter().skip(1) {
            failure.message = format!("{}\n{}", failure.message, other.message);
            failure.moved |= other.moved;
        }
        let why = format!("step {number} failed before it was done");
        let undone = group
            .next
            .iter()
            .filter(|one| **one != number && !self.done.contains(one));
        let undone = undone.map(|one| Event::Reverted(*one, why.clone()));
        let all: Vec<Event> = end.chain(undone).collect();
        if let Err(why) = self.journal_all(all.into_iter()) {
            self.session.note(why);
        }
        stopped(number, failure, true)
    }

    /// Does the steps and returns what became of those that were begun.
    fn work(&mut self, group: &Group) -> Vec<(usize, Result<(), Failure>)> {
        let listed = self.session.ledger.by_identity();
        let steps: Vec<(usize, ObjectStep, bool)> = group
            .next
            .iter()
            .filter_map(|number| match self.numbered(*number).1 {
                Step::Object(step) => {
                    let is_listed = listed.contains_key(&step.reference.identity());
                    Some((*number, step.clone(), is_listed))
                }
                _ => None,
            })
            .collect();
        let before = (group.first..=group.last)
            .filter(|number| self.done.contains(number))
            .count();
        let total = self.total();
        let (api, interrupted) = (self.session.apply.api, self.session.apply.interrupted);
        let (timeout, poll) = {
            let settings = &self.session.apply.settings;
            (settings.api_timeout, settings.poll)
        };
        let (at, halt) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (tell, told) = channel();
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let workers = steps.first().map_or(WORKERS, |(_, step, _)| workers(step));
            for _ in 0..workers.min(steps.len()) {
                let tell = tell.clone();
                let (steps, at, halt) = (&steps, &at, &halt);
                scope.spawn(move || {
                    while !halt.load(Ordering::Relaxed)
                        && !interrupted.load(Ordering::Relaxed)
                        && let Some((number, step, is_listed)) =
                            steps.get(at.fetch_add(1, Ordering::Relaxed))
                    {
                        let result = patiently(api, step, *is_listed, timeout, poll, interrupted);
                        if result.is_err() {
                            halt.store(true, Ordering::Relaxed);
                        }
                        let _ = tell.send((*number, result));
                    }
                });
            }
            drop(tell);
            let mut last: Option<Instant> = None;
            for result in told {
                results.push(result);
                let is_last = results.len() == steps.len();
                if is_last || last.is_none_or(|last| last.elapsed() >= TELL) {
                    last = Some(Instant::now());
                    self.session.tell(Notice::Together {
                        first: group.first,
                        last: group.last,
                        total,
                        done: before + results.iter().filter(|(_, r)| r.is_ok()).count(),
                    });
                    self.session.renew_in_time();
                }
            }
        });
        results
    }
}

/// Does one step, again while the API does not answer.
fn patiently(
    api: &dyn Api,
    step: &ObjectStep,
    is_listed: bool,
    timeout: Duration,
    poll: Duration,
    interrupted: &AtomicBool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match one_object(api, step, is_listed) {
            Err(ApiError::Unreachable { .. })
                if begun.elapsed() < timeout && !interrupted.load(Ordering::Relaxed) =>
            {
                std::thread::sleep(poll);
            }
            result => return result.map_err(|error| Failure::of_object(step, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::ObjectRef;

    #[test]
    fn namespaces_that_go_are_waited_for_all_together() {
        let step = |kind: &str, action: ObjectAction| ObjectStep {
            reference: ObjectRef {
                api_version: "v1".into(),
                kind: kind.into(),
                namespace: String::new(),
                name: "a".into(),
            },
            before: None,
            action,
            taken: Vec::new(),
            strays: Vec::new(),
        };
        let prune = || ObjectAction::Prune {
            contents: Vec::new(),
        };
        assert_eq!(workers(&step("Namespace", ObjectAction::Delete)), GOING);
        assert_eq!(workers(&step("Namespace", prune())), GOING);
        // All others make the server work.
        assert_eq!(workers(&step("ConfigMap", prune())), WORKERS);
        let apply = ObjectAction::Apply(Value::Null);
        assert_eq!(workers(&step("Namespace", apply)), WORKERS);
    }
}
