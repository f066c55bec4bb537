//! `harden generations`.

use std::collections::BTreeMap;

use harden::generation::{Generations, Outcome, Record};
use harden::plan::Purpose;
use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Lists the records.
pub(crate) fn run(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open(global, super::plan::PATIENCE)?;
    let generations = session.generations();
    output.result(&text(&generations), &document(&generations));
    for (node, why) in &generations.unread {
        output.note(&format!("{node} could not be asked: {why}"));
    }
    if !generations.unreadable.is_empty() {
        output.note(
            "A record that cannot be read is no way back; restore it under /var/lib/harden/generations on \
             a control-plane node, for example from a backup.",
        );
    }
    Ok(
        if generations.unread.is_empty() && generations.unreadable.is_empty() {
            Exit::Done
        } else {
            Exit::Error
        },
    )
}

/// All records by number, also those that cannot be read.
fn text(generations: &Generations) -> String {
    let mut lines: BTreeMap<u64, String> = generations
        .records
        .iter()
        .map(|record| (record.number, line(record)))
        .collect();
    for number in generations.unreadable.keys() {
        let why = generations.why_unreadable(*number).unwrap_or_default();
        lines.insert(
            *number,
            format!("{number:>4}  unreadable: {}\n", short(&why)),
        );
    }
    if lines.is_empty() {
        return "No generation yet.\n".to_owned();
    }
    lines.into_values().collect()
}

fn document(generations: &Generations) -> serde_json::Value {
    let records: Vec<_> = generations.records.iter().map(summary).collect();
    json!({
        "schema": "harden.dev/generations/v1",
        "generations": records,
        "unreadable": generations.unreadable,
        "unread": generations.unread,
    })
}

fn line(record: &Record) -> String {
    let what = match &record.plan.purpose {
        Purpose::Converge => counted(record.plan.changes.len()),
        Purpose::Rollback(of) => format!("rollback of {of}"),
        Purpose::Bootstrap(node) => format!("bootstrap of {node}"),
    };
    let (word, why) = outcome(record);
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {}", short(why))
    };
    format!(
        "{:>4}  {}  {:<28} {what:<16} {word}{why}\n",
        record.number,
        time(record.started),
        record.holder.who,
    )
}

fn counted(changes: usize) -> String {
    match changes {
        1 => "1 change".to_owned(),
        n => format!("{n} changes"),
    }
}

/// The word for how a generation ended, and why it did so.
pub(super) fn outcome(record: &Record) -> (&'static str, &str) {
    match record.outcome() {
        Some(Outcome::Applied) => ("applied", ""),
        Some(Outcome::Reverted(why)) => ("reverted", why),
        Some(Outcome::Stopped(why)) => ("stopped", why),
        None if record.holder.runs_here() => ("running", ""),
        None if record.holder.is_gone() => (
            "interrupted",
            "the next `harden apply` finishes it or puts it back",
        ),
        None => (
            "running or interrupted",
            "on another machine; when it is gone, the next `harden apply` finishes it or puts it back",
        ),
    }
}

/// The first line, and not too much of it; JSON has the whole text.
fn short(text: &str) -> String {
    const MOST: usize = 120;
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(MOST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// RFC 3339, UTC.
fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or_default();
    jiff::Timestamp::from_second(seconds)
        .map(|t| t.to_string())
        .unwrap_or_default()
}

fn summary(record: &Record) -> serde_json::Value {
    let (word, why) = outcome(record);
    json!({
        "number": record.number,
        "started": time(record.started),
        "who": record.holder.who,
        "purpose": record.plan.purpose,
        "changes": record.plan.changes.len(),
        "desired": record.plan.desired,
        "plan": record.plan_sha256,
        "outcome": word,
        "why": why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_is_listed() {
        let copies = BTreeMap::from([("cp1".to_owned(), "`record` is damaged".to_owned())]);
        let generations = Generations {
            unreadable: [(7, copies)].into(),
            ..Generations::default()
        };
        assert_eq!(
            text(&generations),
            "   7  unreadable: cp1: `record` is damaged\n"
        );
        assert_eq!(
            document(&generations)["unreadable"],
            json!({"7": {"cp1": "`record` is damaged"}})
        );
    }

    #[test]
    fn one_change_is_no_plural() {
        assert_eq!(
            [0, 1, 2].map(super::counted),
            ["0 changes", "1 change", "2 changes"]
        );
    }
}
