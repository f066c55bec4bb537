//! What a rotation is to come to, and whether one has begun.

use std::collections::BTreeMap;

use super::keys::is_named_here;
use super::machine::{Next, Rows, next};
use super::seen::{Seen, rows};
use crate::fact::encryption::Form;

/// What every resource shall be written in.
pub type Goal = BTreeMap<String, Form>;

/// Returns the newest key that was made here and that a file still has.
pub fn newest(seen: &Seen) -> Option<Form> {
    let made = |form: &Form| match form {
        Form::Key { name, .. } if is_named_here(name) => Some(name.clone()),
        _ => None,
    };
    files(seen)
        .iter()
        .flat_map(|file| file.values().flatten())
        .filter(|form| made(form).is_some())
        .max_by_key(|form| made(form))
        .cloned()
}

fn files(seen: &Seen) -> Vec<Rows> {
    let files = seen.planes.values().filter_map(|plane| plane.file.value());
    files.map(rows).collect()
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
