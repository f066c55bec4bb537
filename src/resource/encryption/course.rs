//! The steps that are yet to be made, as far as they can be foreseen.

use std::collections::BTreeMap;

use super::goal::Goal;
use super::machine::{Next, Plane, Rows, Stage, View, next};
use super::seen::{Seen, rows};
use crate::fact::Fact;
use crate::fact::encryption::{Form, Stored, StoredForm};

/// More steps than any course has.
const MOST: usize = 64;

/// Decides the next step towards a goal, like [`next`], and leaves keys in the files that are of no use
/// any more: older snapshots of etcd may need them, so dropping one is asked for by itself.
pub fn next_keeping_keys(goal: &Goal, view: &View) -> Next {
    match next(goal, view) {
        Next::Write {
            stage: Stage::Drop,
            files,
        } if drops_a_key(view, &files) => Next::Done,
        other => other,
    }
}

/// Whether every object is known to be in clear, and every server to write so. One that does not run writes
/// nothing; where it is started again before its flag is gone, it writes as the file says that lies there.
pub fn is_in_clear(seen: &Seen) -> bool {
    let view = seen.view();
    let first_clear = |rows: &Rows| {
        let mut all = rows.values();
        all.all(|row| row.first().is_none_or(Form::is_clear))
    };
    let writes_clear = |(node, plane): (&String, &Result<Plane, String>)| match plane {
        Ok(Plane::Off { .. }) => true,
        Ok(Plane::On { file, loaded }) => *loaded && first_clear(file),
        Err(_) => seen.planes.get(node).is_some_and(|plane| {
            let is_clear = match &plane.idle {
                Fact::Value(file) => first_clear(&rows(file)),
                Fact::Absent => true,
                Fact::Unreadable(_) => false,
            };
            plane.stopped && is_clear
        }),
    };
    let is_clear = |fact: &Fact<Stored>| match fact {
        Fact::Value(stored) => {
            let clear = StoredForm::Form(Form::Clear);
            stored.keys().all(|form| *form == clear)
        }
        _ => false,
    };
    view.planes.iter().all(writes_clear) && view.stored.values().all(is_clear)
}

/// Whether files would lose a key that they have.
fn drops_a_key(view: &View, files: &BTreeMap<String, Rows>) -> bool {
    files.iter().any(|(node, after)| {
        let before = match view.planes.get(node) {
            Some(Ok(Plane::On { file, .. } | Plane::Off { file: Some(file) })) => file,
            _ => return false,
        };
        let keys = |rows: &Rows| -> Vec<Form> {
            let forms = rows.values().flatten();
            forms.filter(|form| !form.is_clear()).cloned().collect()
        };
        let kept = keys(after);
        keys(before).iter().any(|key| !kept.contains(key))
    })
}

/// Returns every step from here to the goal, each server taken to load what is written. The last one is
/// not among them where it is [`Next::Done`]; a [`Next::Wait`] or [`Next::Stopped`] is, and ends them.
pub fn course(goal: &Goal, view: &View) -> Vec<Next> {
    let mut view = view.clone();
    let mut steps = Vec::new();
    while steps.len() < MOST {
        let step = next_keeping_keys(goal, &view);
        match &step {
            Next::Done => break,
            Next::Wait { .. } | Next::Stopped(_) => {
                steps.push(step);
                break;
            }
            Next::Write { files, .. } => {
                for (node, rows) in files {
                    write(&mut view, node, rows);
                }
            }
            Next::Enable { node } => turn(&mut view, node, true),
            Next::Disable { node } => turn(&mut view, node, false),
            Next::Remove { node } => {
                let plane = Plane::Off { file: None };
                view.planes.insert(node.clone(), Ok(plane));
            }
            Next::Rewrite { resources } => {
                for resource in resources {
                    rewrite(&mut view, goal, resource);
                }
            }
        }
        steps.push(step);
    }
    steps
}

fn write(view: &mut View, node: &str, rows: &Rows) {
    if let Some(Ok(plane)) = view.planes.get_mut(node) {
        let rows = rows.clone();
        *plane = match plane {
            Plane::Off { .. } => Plane::Off { file: Some(rows) },
            Plane::On { .. } => Plane::On {
                file: rows,
                loaded: true,
            },
        };
    }
}

fn turn(view: &mut View, node: &str, on: bool) {
    let Some(Ok(plane)) = view.planes.get_mut(node) else {
        return;
    };
    let file = match plane {
        Plane::Off { file } => file.clone(),
        Plane::On { file, .. } => Some(file.clone()),
    };
    *plane = match on {
        true => Plane::On {
            file: file.unwrap_or_default(),
            loaded: true,
        },
        false => Plane::Off { file },
    };
}

fn rewrite(view: &mut View, goal: &Goal, resource: &str) {
    let form = goal.get(resource).cloned().unwrap_or(Form::Clear);
    let stored = view
        .stored
        .entry(resource.to_owned())
        .or_insert(Fact::Absent);
    if let Fact::Value(forms) = stored {
        let count = forms.values().sum();
        *stored = Fact::Value(Stored::from([(StoredForm::Form(form), count)]));
    }
}
