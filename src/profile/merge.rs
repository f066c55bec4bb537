//! Merges the files of a profile.
//!
//! A file stands above every file that it imports, directly or not. Of the definitions of one
//! value, those hold above which no other stands. Where several hold, sets unite, and everything
//! else must be equal. This is a property of the import graph, so neither the order of imports
//! nor an import that is reached twice can change the result.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::layer::Layer;
use super::section::quoted;
use super::values::{Content, Definition, Value, Values};
use crate::module::check::{Body, Checked};

/// One definition while it is being merged.
#[derive(Clone, Copy)]
struct Given<'l> {
    layer: usize,
    checked: &'l Checked,
}

/// Merges all layers.
pub(crate) fn merge(layers: &[Layer]) -> (Values, Vec<Diagnostic>) {
    let mut order: Vec<usize> = (0..layers.len()).collect();
    // A file reaches strictly more files than any file it imports.
    order.sort_by(|a, b| {
        let rank = |i: usize| (usize::MAX - layers[i].below.len(), &layers[i].file.name);
        rank(*a).cmp(&rank(*b))
    });
    let mut options: BTreeMap<&str, Vec<Given<'_>>> = BTreeMap::new();
    for layer in order {
        for (name, checked) in &layers[layer].own {
            options
                .entry(name)
                .or_default()
                .push(Given { layer, checked });
        }
    }
    let mut merger = Merger {
        layers,
        faults: Vec::new(),
    };
    let values = options
        .into_iter()
        .map(|(name, given)| (name.to_owned(), merger.value(name, &given)))
        .collect();
    (Values(values), merger.faults)
}

struct Merger<'l> {
    layers: &'l [Layer],
    faults: Vec<Diagnostic>,
}

impl Merger<'_> {
    fn value(&mut self, name: &str, given: &[Given<'_>]) -> Value {
        // The type check gives all definitions of one value the same kind of body.
        match given.first().map(|g| &g.checked.body) {
            Some(Body::Table(_)) => self.table(name, given),
            Some(Body::Set(_)) => self.set(given),
            _ => self.whole(name, given),
        }
    }

    fn table(&mut self, name: &str, given: &[Given<'_>]) -> Value {
        let mut entries: BTreeMap<&str, Vec<Given<'_>>> = BTreeMap::new();
        for one in given {
            if let Body::Table(table) = &one.checked.body {
                for (key, checked) in table {
                    let layer = one.layer;
                    entries
                        .entry(key)
                        .or_default()
                        .push(Given { layer, checked });
                }
            }
        }
        let entries = entries
            .into_iter()
            .map(|(key, given)| (key.to_owned(), self.value(&format!("{name}.{key}"), &given)))
            .collect();
        Value {
            content: Content::Entries(entries),
            definitions: given
                .iter()
                .map(|one| self.definition(one, None, true))
                .collect(),
        }
    }

    fn set(&self, given: &[Given<'_>]) -> Value {
        let mut union = BTreeMap::new();
        let mut definitions = Vec::new();
        for one in given {
            if let Body::Set(items) = &one.checked.body {
                union.extend(items.iter());
                let value = Json::Array(items.values().cloned().collect());
                definitions.push(self.definition(one, Some(value), true));
            }
        }
        Value {
            content: Content::Whole(Json::Array(union.into_values().cloned().collect())),
            definitions,
        }
    }

    fn whole(&mut self, name: &str, given: &[Given<'_>]) -> Value {
        let mut definitions = Vec::new();
        for one in given {
            let Body::Leaf(json) = &one.checked.body else {
                continue;
            };
            let above = |other: &Given<'_>| self.layers[other.layer].below.contains(&one.layer);
            let holds = !given.iter().any(above);
            definitions.push(self.definition(one, Some(json.clone()), holds));
        }
        let mut holding = definitions.iter().filter(|d| d.holds);
        let value = holding
            .next()
            .and_then(|d| d.value.clone())
            .unwrap_or(Json::Null);
        if holding.any(|d| d.value.as_ref() != Some(&value)) {
            let fault = disagreement(name, definitions.iter().filter(|d| d.holds));
            self.faults.push(fault);
        }
        Value {
            content: Content::Whole(value),
            definitions,
        }
    }

    fn definition(&self, given: &Given<'_>, value: Option<Json>, holds: bool) -> Definition {
        let place = self.layers[given.layer]
            .file
            .place(given.checked.span.clone(), "");
        Definition {
            value,
            place,
            holds,
        }
    }
}

/// Says which files give one option different values.
fn disagreement<'d>(name: &str, holding: impl Iterator<Item = &'d Definition>) -> Diagnostic {
    let holding: Vec<_> = holding.collect();
    let places: Vec<String> = holding
        .iter()
        .map(|d| format!("{}:{}", d.place.file, d.place.line()))
        .collect();
    let mut notes = holding.iter().zip(&places).map(|(d, at)| {
        let mut place = d.place.clone();
        place.label = "it is this here".into();
        Diagnostic::new(format!("{} is set at {at}", quoted(name))).at(place)
    });
    let first = notes.next();
    let mut fault = Diagnostic::new(format!(
        "imports disagree on {}: {}",
        quoted(name),
        places.join(" and ")
    ))
    .help(format!(
        "set {} in the file that imports them",
        quoted(name)
    ));
    fault.place = first.and_then(|d| d.place);
    fault.also = notes.collect();
    fault
}
