//! What a rotation or a profile is to come to, and whether one has begun.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::is_named_here;
use super::machine::{Next, Rows, next};
use super::seen::{Seen, rows};
use crate::fact::encryption::{Form, Provider};

/// What every resource shall be written in.
pub type Goal = BTreeMap<String, Form>;

/// Returns the newest key that was made here and that a file still has, also one that no server reads.
pub fn newest(seen: &Seen) -> Option<Form> {
    newest_of(seen, |_| true)
}

fn newest_of(seen: &Seen, is: impl Fn(&Form) -> bool) -> Option<Form> {
    let made = |form: &Form| match form {
        Form::Key { name, .. } if is_named_here(name) => Some(name.clone()),
        _ => None,
    };
    files(seen)
        .iter()
        .flat_map(|file| file.values().flatten())
        .filter(|form| made(form).is_some() && is(form))
        .max_by_key(|form| made(form))
        .cloned()
}

fn files(seen: &Seen) -> Vec<Rows> {
    let files = seen.planes.values().filter_map(|plane| plane.on_disk());
    files.map(rows).collect()
}

/// What a profile asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What every resource shall be written in; those that the profile does not name stay as they are.
    pub goal: Goal,
    /// Whether `new` is in it, which no file has yet.
    pub makes_key: bool,
}

/// Returns what a profile comes to that wants these resources under keys of a provider. A resource that is
/// under such a key keeps it; the others come under one that is there already, or else under `new`.
///
/// It follows from the files alone, so that a run that dies is taken up by the same goal: a key that was
/// made for it is in at least one file from the first step on, and the newest by its name.
pub fn asked(seen: &Seen, provider: Provider, resources: &BTreeSet<String>, new: &Form) -> Asked {
    let fits = |form: &Form| matches!(form, Form::Key { provider: p, .. } if *p == provider);
    let files = files(seen);
    let (mut goal, agreed) = match seen.wanted() {
        Some(goal) => (goal, true),
        None => (first_of(&files), false),
    };
    let written = || goal.values().filter(|form| fits(form)).max().cloned();
    // Where the files disagree on what is written, a change of keys has begun: its key is the newest.
    let there = match agreed {
        true => written().or_else(|| newest_of(seen, fits)),
        false => newest_of(seen, fits).or_else(written),
    };
    let target = there.clone().unwrap_or_else(|| new.clone());
    let mut makes_key = false;
    for resource in resources {
        let known = goal.get(resource).filter(|form| agreed && fits(form));
        if known.is_none() {
            makes_key |= there.is_none();
            goal.insert(resource.clone(), target.clone());
        }
    }
    if let (false, Some(there)) = (agreed, &there) {
        for (resource, form) in &mut goal {
            if files.iter().any(|file| row_has(file, resource, there)) {
                form.clone_from(there);
            }
        }
    }
    Asked { goal, makes_key }
}

fn row_has(file: &Rows, resource: &str, form: &Form) -> bool {
    file.get(resource).is_some_and(|row| row.contains(form))
}

/// What a file writes of each resource that one names; where they differ, a key before what is in clear.
fn first_of(files: &[Rows]) -> Goal {
    let mut goal = Goal::new();
    for (resource, row) in files.iter().flatten() {
        let Some(first) = row.first() else { continue };
        let known = goal
            .entry(resource.clone())
            .or_insert_with(|| first.clone());
        if known.is_clear() {
            known.clone_from(first);
        }
    }
    goal
}

/// Returns the goal of a rotation that has begun and is not at its end. The newest key that was made
/// here is its key: whoever began it has left it in at least one file.
pub fn begun(seen: &Seen) -> Option<Goal> {
    let newest = newest(seen)?;
    let files = files(seen);
    let mut goal = Goal::new();
    for file in &files {
        for (resource, row) in file {
            if row.contains(&newest) {
                goal.insert(resource.clone(), newest.clone());
            } else if let Some(first) = row.first() {
                goal.entry(resource.clone()).or_insert(first.clone());
            }
        }
    }
    (next(&goal, &seen.view()) != Next::Done).then_some(goal)
}

/// Returns the goal of a rotation to a new key: every resource that is under a key now. `None` where none
/// is, or where the files do not agree on what is written.
pub fn renewed(seen: &Seen, form: &Form) -> Option<Goal> {
    let mut goal = seen.wanted()?;
    let mut any = false;
    for wanted in goal.values_mut().filter(|wanted| !wanted.is_clear()) {
        wanted.clone_from(form);
        any = true;
    }
    any.then_some(goal)
}
