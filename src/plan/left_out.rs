//! Objects of the API that a plan leaves as they are, since the user asked for it: one that cannot be applied
//! holds back all others otherwise.

use std::collections::BTreeSet;

use crate::fact::ObjectRef;
use crate::fact::probe::clean_text;
use crate::profile::section::nearest;
use crate::resource::{Desired, Draft, Kind, Place, Problem, Resource, Severity};

/// Whether a resource is an object that these names leave out.
pub(super) fn names(left_out: &BTreeSet<String>, resource: &Resource) -> bool {
    let reference = || resource.kind.behaviour().reference();
    // There are thousands of objects, and mostly no name.
    !left_out.is_empty() && reference().is_some_and(|one| left_out.contains(&one.short_name()))
}

/// Says what is left undone with an object. Returns whether that is nothing.
pub(super) fn tell(kind: &Kind, own: Draft, draft: &mut Draft) -> bool {
    let errors = own.problems.into_iter();
    let errors = errors.filter(|problem| problem.severity == Severity::Error);
    let mut why: Vec<String> = errors.map(|problem| problem.message).collect();
    if let Some((change, _)) = own.changes.first() {
        let diff = change.diff.as_ref().map(|diff| diff.replace('\n', "; "));
        why.push(match (&change.before, diff) {
            (None, _) => "it is not there".to_owned(),
            (Some(_), Some(diff)) => format!("it differs: {diff}"),
            (Some(_), None) => "it differs".to_owned(),
        });
    }
    let is_well = why.is_empty();
    let (message, remedy) = match is_well {
        true => (
            "`--except` leaves it out, and there is nothing to do about it".to_owned(),
            "leave that name out",
        ),
        false => (
            format!(
                "`--except` leaves it out, so it stays as it is: {}",
                why.join("; ")
            ),
            "settle that, and plan again without the name",
        ),
    };
    draft.problems.push(Problem {
        severity: Severity::Warning,
        place: Place::Api,
        subject: kind.behaviour().name(),
        message,
        remedy: remedy.into(),
    });
    is_well
}

/// Names that leave nothing out: who mistypes one must not believe the object left alone.
pub(super) fn unknown(desired: &Desired, left_out: &BTreeSet<String>) -> Vec<Problem> {
    if left_out.is_empty() {
        return Vec::new();
    }
    let objects = desired.resources.iter();
    let objects = objects.filter_map(|r| r.kind.behaviour().reference());
    let known: BTreeSet<String> = objects.map(ObjectRef::short_name).collect();
    let unknown = left_out.iter().filter(|name| !known.contains(*name));
    let problem = |name: &String| Problem {
        severity: Severity::Error,
        place: Place::Api,
        subject: format!("--except {}", clean_text(name).replace('\n', " ")),
        message: "the profile wants no such object".into(),
        remedy: match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "name it as KIND/NAME, or KIND/NAMESPACE/NAME".into(),
        },
    };
    unknown.map(problem).collect()
}
