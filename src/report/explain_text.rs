//! An option or a control explained, as text and as JSON.

use serde_json::{Value as Json, json};

use super::controls_text::{ranges, style};
use super::plan_text::{DIM, HEADING, line, risk};
use crate::control::{
    Benchmark, Catalogue, ControlCard, Explained, FieldLine, OptionCard, Setting, State,
};

/// The width of the names of a card's parts.
const WIDTH: usize = 10;

/// Writes everything there is to know.
pub fn explain_text(explained: &Explained, catalogue: &Catalogue) -> String {
    let mut out = String::new();
    match explained {
        Explained::Option(card) => option(&mut out, card),
        Explained::Control(card) => control(&mut out, card, &catalogue.benchmarks()),
    }
    out
}

/// The same as a JSON document.
///
/// # Errors
/// A value cannot be written as JSON.
pub fn explain_json(explained: &Explained) -> Result<Json, serde_json::Error> {
    let mut document = serde_json::to_value(explained)?;
    document["schema"] = json!("harden.dev/explain/v1");
    Ok(document)
}

fn head(out: &mut String, name: &str, what: &str) {
    line(
        out,
        format_args!("{HEADING}{name}{HEADING:#} {DIM}({what}){DIM:#}"),
    );
}

/// A part of a card; a name that is empty continues the part before.
fn part(out: &mut String, name: &str, text: impl std::fmt::Display) {
    line(out, format_args!("  {DIM}{name:<WIDTH$}{DIM:#} {text}"));
}

/// A part with a line for each item.
fn parts<T: std::fmt::Display>(out: &mut String, name: &str, items: impl IntoIterator<Item = T>) {
    let mut name = name;
    for item in items {
        part(out, name, item);
        name = "";
    }
}

fn fields(lines: &[FieldLine]) -> impl Iterator<Item = String> {
    lines.iter().map(|l| format!("{}: {}", l.name, l.doc))
}

fn option(out: &mut String, card: &OptionCard) {
    head(out, &card.name, "option");
    line(out, format_args!("  {}\n", card.doc));
    part(out, "type", &card.ty);
    let uniform = if card.uniform {
        "; the same on every node, or on none"
    } else {
        ""
    };
    part(out, "risk", format_args!("{}{uniform}", risk(card.risk)));
    part(
        out,
        "module",
        format_args!("{}: {}", card.module, card.summary),
    );
    let controls = card
        .controls
        .iter()
        .map(|c| format!("{}: {}", c.name, c.title));
    parts(out, "controls", controls);
    parts(out, "fields", fields(&card.fields));
    if let Some(example) = &card.example {
        part(out, "example", format_args!("{} = {example}", card.name));
    }
    match card.values.as_deref() {
        None => {}
        Some([]) => part(out, "value", "not set here: neither changed nor judged"),
        Some(settings) => {
            line(out, format_args!(""));
            settings.iter().for_each(|one| setting(out, one));
        }
    }
}

fn setting(out: &mut String, one: &Setting) {
    line(out, format_args!("  {} = {}", one.name, one.value));
    for place in &one.definitions {
        let says = match (&place.value, place.holds) {
            (Some(value), false) => format!(" says {value}, overridden"),
            // A set is the union of what its places say.
            (Some(value), true) if *value != one.value => format!(" says {value}"),
            _ => String::new(),
        };
        line(
            out,
            format_args!("    {DIM}from:{DIM:#} {}:{}{says}", place.file, place.line),
        );
    }
}

fn control(out: &mut String, card: &ControlCard, benchmarks: &[&Benchmark]) {
    head(out, &card.name, "control");
    line(out, format_args!("  {}.\n", card.title));
    part(out, "why", &card.why);
    if let Some(hazard) = &card.hazard {
        part(out, "hazard", hazard);
    }
    let style = style(card.state);
    let meaning = match card.state {
        State::Enforced => "an option serves it, and a test on a real cluster proves it",
        State::Configurable => "an option serves it; no test on a real cluster proves it",
        State::NotCovered => "no option serves it",
    };
    part(
        out,
        "state",
        format_args!("{style}{}{style:#}: {meaning}", card.state.word()),
    );
    parts(out, "options", fields(&card.options));
    parts(out, "checks", &card.checks);
    if !card.asserted.is_empty() {
        let modules = card.asserted.join(", ");
        let words =
            format_args!("of the values of {modules}: `plan` and `eval` tell what does not hold");
        part(out, "asserted", words);
    }
    parts(
        out,
        "proof",
        card.proof.iter().map(|p| format!("tests/cluster {p}")),
    );
    if let Some(unproven) = &card.unproven {
        part(out, "unproven", unproven);
    }
    if let Some(level) = card.level {
        part(out, "level", format_args!("{level} of the CIS profiles"));
    }
    parts(out, "asked by", demands(card, benchmarks));
}

/// Who asks for a control. The versions of a benchmark that call it the same stand together.
fn demands(card: &ControlCard, benchmarks: &[&Benchmark]) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&str>, &[String])> = Vec::new();
    for benchmark in benchmarks {
        let Some(ids) = card.ids.get(&benchmark.name) else {
            continue;
        };
        match groups.last_mut() {
            Some((title, versions, same)) if *title == benchmark.title && same == ids => {
                versions.push(&benchmark.version);
            }
            _ => groups.push((&benchmark.title, vec![&benchmark.version], ids)),
        }
    }
    let text = |(title, versions, ids): &(&str, Vec<&str>, &[String])| {
        format!("{title} {}: {}", versions.join(", "), ranges(ids))
    };
    groups.iter().map(text).collect()
}
