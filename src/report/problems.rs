//! Problems as text. What keeps many things on a node from being read is told once.

use std::fmt::Write;

use super::plan_text::DIM;
use crate::resource::Problem;

/// How kinds say that a fact is missing: what, these words, and why.
const UNREAD: &str = " could not be read: ";

/// Problems of one place that have one cause and one remedy.
struct Group<'p> {
    first: &'p Problem,
    /// What they concern, each once.
    subjects: Vec<&'p str>,
    /// What could not be read, each once; empty where it is something else.
    unread: Vec<&'p str>,
    cause: &'p str,
}

/// Writes the problems, those of one place, cause and remedy together.
pub(super) fn problems_text(problems: &[&Problem]) -> String {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for problem in problems {
        let (unread, cause) = match problem.message.split_once(UNREAD) {
            Some((what, why)) => (Some(what), why),
            None => (None, problem.message.as_str()),
        };
        let same = |group: &&mut Group<'_>| {
            group.first.place == problem.place
                && group.first.remedy == problem.remedy
                && group.cause == cause
                && group.unread.is_empty() == unread.is_none()
        };
        match groups.iter_mut().find(same) {
            Some(group) => {
                push_once(&mut group.subjects, &problem.subject);
                if let Some(what) = unread {
                    push_once(&mut group.unread, what);
                }
            }
            None => groups.push(Group {
                first: problem,
                subjects: vec![&problem.subject],
                unread: unread.into_iter().collect(),
                cause,
            }),
        }
    }
    // What is to be done about several is told once, after the last of them.
    let mut remedies: Vec<(&str, Vec<&Group<'_>>)> = Vec::new();
    for group in &groups {
        let remedy = group.first.remedy.as_str();
        match remedies.iter_mut().find(|(one, _)| *one == remedy) {
            Some((_, same)) => same.push(group),
            None => remedies.push((remedy, vec![group])),
        }
    }
    let mut text = String::new();
    for (remedy, groups) in remedies {
        text.extend(groups.iter().map(|group| group.text()));
        let of = match groups.len() {
            1 => String::new(),
            n => format!(" of these {n}"),
        };
        if !remedy.is_empty() {
            let _ = writeln!(text, "      {DIM}remedy{of}:{DIM:#} {remedy}");
        }
    }
    text
}

/// How many names of one group a reader gets; JSON has all.
const NAMED: usize = 20;

fn some(names: &[&str]) -> String {
    match names.get(..NAMED) {
        Some(first) if names.len() > NAMED => {
            format!("{} and {} more", first.join(", "), names.len() - NAMED)
        }
        _ => names.join(", "),
    }
}

fn push_once<'p>(list: &mut Vec<&'p str>, text: &'p str) {
    if !list.contains(&text) {
        list.push(text);
    }
}

impl Group<'_> {
    fn text(&self) -> String {
        let (place, cause) = (&self.first.place, self.cause);
        let (subjects, unread) = (some(&self.subjects), some(&self.unread));
        match (self.subjects.len(), self.unread.is_empty()) {
            (_, true) => format!("  ! {place}: {subjects}: {cause}\n"),
            (1, false) => format!("  ! {place}: {subjects}: {unread}{UNREAD}{cause}\n"),
            // What was to be read, and what it is needed for.
            (_, false) => {
                format!("  ! {place}: {unread}{UNREAD}{cause}\n      {DIM}for:{DIM:#} {subjects}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Place, Severity};

    fn problem(node: &str, subject: &str, message: &str) -> Problem {
        Problem {
            severity: Severity::Error,
            place: Place::Node(node.into()),
            subject: subject.into(),
            message: message.into(),
            remedy: "become root".into(),
        }
    }

    #[test]
    fn one_cause_is_told_once_a_node() {
        let manifest = "/m/a.yaml could not be read: Permission denied";
        let process = "the command line of a could not be read: Permission denied";
        let all = [
            problem("cp1", "a --x", manifest),
            problem("cp1", "a --x", process),
            problem("cp1", "a --y", manifest),
            problem("cp1", "a --y", process),
            problem("cp2", "a --y", manifest),
            problem("cp1", "a --y", "/m/a.yaml could not be read: I/O error"),
            problem("cp1", "Quota q", "it is not wanted"),
        ];
        let text = problems_text(&all.iter().collect::<Vec<_>>());
        let text = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(text, @"
        ! cp1: /m/a.yaml, the command line of a could not be read: Permission denied
            for: a --x, a --y
        ! cp2: a --y: /m/a.yaml could not be read: Permission denied
        ! cp1: a --y: /m/a.yaml could not be read: I/O error
        ! cp1: Quota q: it is not wanted
            remedy of these 4: become root
        ");
    }
}
