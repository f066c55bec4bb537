//! What a run came to, as one JSON document.

use harden::apply::{ApplyError, Report};
use harden::generation::{Event, Record};
use serde_json::{Value, json};

use super::generations::outcome;

/// What a command that changes something did.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Of the generation that was interrupted before, and finished or put back first.
    recovered: Option<Value>,
    /// Of the command's own generation.
    own: Option<Value>,
}

impl Told {
    /// Notes the end of an interrupted generation.
    pub(crate) fn recovered(&mut self, result: &Result<Option<Report>, ApplyError>) {
        self.recovered = match result {
            Ok(report) => report.as_ref().map(|r| generation(&r.record, &r.notes)),
            Err(error) => begun(error),
        };
    }

    /// Notes the end of the command's own generation.
    pub(crate) fn run(&mut self, result: &Result<Report, ApplyError>) {
        self.own = match result {
            Ok(report) => Some(generation(&report.record, &report.notes)),
            Err(error) => begun(error),
        };
    }

    /// Whether there is more to tell than the error alone does.
    pub(crate) fn something(&self) -> bool {
        self.recovered.is_some() || self.own.is_some()
    }

    /// Returns the document.
    pub(crate) fn document(&self) -> Value {
        let mut document = self.own.clone().unwrap_or_else(|| {
            json!({
                "generation": null,
                "outcome": "unchanged",
                "why": "",
                "steps": [],
                "notes": [],
            })
        });
        document["schema"] = "harden.dev/apply/v1".into();
        document["recovered"] = self.recovered.clone().unwrap_or_default();
        document
    }
}

/// What there is of a generation that failed; nothing when none was begun.
fn begun(error: &ApplyError) -> Option<Value> {
    match error {
        ApplyError::Failed { record, notes, .. } | ApplyError::Stale { record, notes, .. } => {
            Some(generation(record, notes))
        }
        _ => None,
    }
}

fn generation(record: &Record, notes: &[String]) -> Value {
    let (word, why) = outcome(record);
    let steps = record.plan.steps().zip(1..).map(|((stage, step), number)| {
        json!({
            "number": number,
            "stage": stage.name,
            "title": step.title(),
            "state": state(record, number),
        })
    });
    json!({
        "generation": record.number,
        "outcome": word,
        "why": why,
        "steps": steps.collect::<Vec<_>>(),
        "notes": notes,
    })
}

/// What the journal says last of a step.
fn state(record: &Record, step: usize) -> &'static str {
    let mut newest_first = record.journal.iter().rev();
    let word = newest_first.find_map(|entry| match &entry.event {
        Event::Begin(number) if *number == step => Some("begun"),
        Event::Done(number) if *number == step => Some("done"),
        Event::Reverted(number, _) if *number == step => Some("reverted"),
        _ => None,
    });
    word.unwrap_or("not-begun")
}

#[cfg(test)]
mod tests;
