//! The catalogue of controls as text and as JSON.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde_json::{Value as Json, json};

use super::plan_text::{DIM, HEADING, line};
use crate::control::{Benchmark, Count, Covered, State};

const ENFORCED: Style = AnsiColor::Green.on_default();
const CONFIGURABLE: Style = AnsiColor::Yellow.on_default();

/// What to show of the catalogue.
#[derive(Debug)]
pub struct Listing<'c> {
    /// The controls, in order.
    pub controls: Vec<Covered<'c>>,
    /// The benchmark whose ids stand beside them.
    pub ids: &'c Benchmark,
    /// How much of each benchmark is covered, by the whole catalogue.
    pub counts: Vec<(&'c Benchmark, Count)>,
}

/// Writes a line for each control, and how much of each benchmark is covered.
pub fn controls_text(listing: &Listing<'_>) -> String {
    let mut out = String::new();
    if listing.controls.is_empty() {
        line(&mut out, format_args!("No control matches."));
        return out;
    }
    let rows: Vec<[String; 5]> = listing
        .controls
        .iter()
        .map(|one| {
            [
                ranges(one.ids(&listing.ids.name)),
                one.control.name.clone(),
                one.control.title.clone(),
                one.state.word().to_owned(),
                one.options.join(", "),
            ]
        })
        .collect();
    let heads = [&*listing.ids.name, "control", "title", "state", "options"];
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(heads[column].len())
    };
    let [ids, name, title, state] = [width(0), width(1), width(2), width(3)];
    let [a, b, c, d, e] = heads;
    line(
        &mut out,
        format_args!("{HEADING}{a:<ids$}  {b:<name$}  {c:<title$}  {d:<state$}  {e}{HEADING:#}"),
    );
    for (row, one) in rows.iter().zip(&listing.controls) {
        let style = style(one.state);
        let [a, b, c, d, e] = row;
        // Nothing is padded that ends a line.
        let state = if e.is_empty() { 0 } else { state };
        let gap = if e.is_empty() { "" } else { "  " };
        line(
            &mut out,
            format_args!("{a:<ids$}  {b:<name$}  {c:<title$}  {style}{d:<state$}{style:#}{gap}{e}"),
        );
    }
    if !listing.counts.is_empty() {
        line(&mut out, format_args!(""));
    }
    let longest = listing.counts.iter().map(|(b, _)| b.name.len()).max();
    for (benchmark, count) in &listing.counts {
        let of = if benchmark.checks {
            "checks"
        } else {
            "controls"
        };
        line(
            &mut out,
            format_args!(
                "{:<width$}  {:>3} {of}: {} enforced, {} configurable, {} not covered  {DIM}({} {}){DIM:#}",
                benchmark.name,
                count.all(),
                count.enforced,
                count.configurable,
                count.not_covered,
                benchmark.title,
                benchmark.version,
                width = longest.unwrap_or(0),
            ),
        );
    }
    out
}

/// The colour of a state.
pub(super) fn style(state: State) -> Style {
    match state {
        State::Enforced => ENFORCED,
        State::Configurable => CONFIGURABLE,
        State::NotCovered => DIM,
    }
}

/// Writes neighbours as a range: `1.1.1–1.1.8, 1.1.11`.
pub(super) fn ranges(ids: &[String]) -> String {
    let mut runs: Vec<(&str, &str)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if follows(last, id) => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let mut text = String::new();
    for (first, last) in runs {
        let gap = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{gap}{first}");
        if first != last {
            let _ = write!(text, "–{last}");
        }
    }
    text
}

/// Whether two ids of one chapter are neighbours.
fn follows(last: &str, id: &str) -> bool {
    let number = |id: &str| {
        let (chapter, number) = id.rsplit_once('.')?;
        Some((chapter.to_owned(), number.parse::<u32>().ok()?))
    };
    match (number(last), number(id)) {
        (Some((a, m)), Some((b, n))) => a == b && m.checked_add(1) == Some(n),
        _ => false,
    }
}

/// The same as a JSON document, with everything the catalogue has.
pub fn controls_json(listing: &Listing<'_>) -> Json {
    let controls: Vec<Json> = listing
        .controls
        .iter()
        .map(|one| {
            let control = one.control;
            json!({
                "name": control.name,
                "area": control.area,
                "title": control.title,
                "why": control.why,
                "hazard": control.hazard,
                "level": control.level,
                "state": one.state,
                "options": one.options,
                "proof": control.proof,
                "unproven": control.unproven,
                "ids": control.ids,
            })
        })
        .collect();
    let benchmarks: Vec<Json> = listing
        .counts
        .iter()
        .map(|(benchmark, count)| {
            json!({
                "name": benchmark.name,
                "title": benchmark.title,
                "version": benchmark.version,
                "counted": if benchmark.checks { "checks" } else { "controls" },
                "enforced": count.enforced,
                "configurable": count.configurable,
                "not-covered": count.not_covered,
            })
        })
        .collect();
    json!({
        "schema": "harden.dev/controls/v1",
        "benchmarks": benchmarks,
        "controls": controls,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn neighbours_become_ranges() {
        let text = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            super::ranges(&ids)
        };
        assert_eq!(text(&[]), "");
        assert_eq!(text(&["2.7"]), "2.7");
        assert_eq!(text(&["1.1.9", "1.1.10", "1.1.12"]), "1.1.9–1.1.10, 1.1.12");
        assert_eq!(text(&["1.1.21", "1.2.22"]), "1.1.21, 1.2.22");
        assert_eq!(text(&["AC-3", "AC-4"]), "AC-3, AC-4");
    }
}
