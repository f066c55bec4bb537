//! Merges the files of a profile.
//!
//! What a file comes to is what its imports come to, united, without what it takes back by `unset`,
//! and with its own values instead of theirs. Where imports come to several values, sets unite, the
//! strictest of values with an order wins, and everything else must be equal. So an import can
//! never make laxer, or take back, what another import beside it asks for; and neither the order of
//! imports nor an import that is reached twice can change the result.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Source};
use super::layer::Layer;
use super::section::quoted;
use super::values::{Content, Definition, Value, Values};
use crate::fact::canonical_json;
use crate::module::check::{Body, Checked};
use crate::module::{Modules, Type};

/// The entry of an attribute set that stands for what the others leave open.
const EVERY: &str = "*";

/// One definition while it is being merged.
#[derive(Clone, Copy)]
struct Given<'l> {
    layer: usize,
    checked: &'l Checked,
}

/// Merges all layers.
pub(crate) fn merge(layers: &[Layer], modules: &Modules) -> (Values, Vec<Diagnostic>) {
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
        taken: BTreeSet::new(),
        taking: layers.iter().any(|layer| !layer.unset.is_empty()),
    };
    let mut values = BTreeMap::new();
    for (name, given) in options {
        let Some(mut value) = merger.value(name, given) else {
            continue;
        };
        if let Some(Type::Attrs(_)) = modules.option(name).map(|decl| &decl.ty) {
            merger.fill(name, &mut value);
        }
        values.insert(name.to_owned(), value);
    }
    let unset = merger.unset();
    (Values { values, unset }, merger.faults)
}

struct Merger<'l> {
    layers: &'l [Layer],
    faults: Vec<Diagnostic>,
    /// The names in `unset` that took something back, by layer.
    taken: BTreeSet<(usize, &'l str)>,
    /// Whether any file takes anything back.
    taking: bool,
}

impl<'l> Merger<'l> {
    /// Merges the definitions of one value; `None` when all of them were taken back.
    fn value(&mut self, name: &str, mut given: Vec<Given<'l>>) -> Option<Value> {
        for (at, layer) in self.layers.iter().enumerate() {
            // Two files may take back the same.
            if let Some((unset, _)) = layer.unset.get_key_value(name)
                && given.iter().any(|one| layer.below.contains(&one.layer))
            {
                self.taken.insert((at, unset));
            }
        }
        if self.taking {
            let arriving = self.arriving(name, |_| false);
            given.retain(|one| arriving.contains(&one.layer));
        }
        // The type check gives all definitions of one value the same kind of body.
        match given.first().map(|g| &g.checked.body)? {
            Body::Table(_) => Some(self.table(name, &given)),
            Body::Set(_) => Some(self.set(&given)),
            Body::Leaf(_) => Some(self.whole(name, &given)),
        }
    }

    fn table(&mut self, name: &str, given: &[Given<'l>]) -> Value {
        let mut entries: BTreeMap<&str, Vec<Given<'l>>> = BTreeMap::new();
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
            .filter_map(|(key, given)| {
                let value = self.value(&format!("{name}.{key}"), given)?;
                Some((key.to_owned(), value))
            })
            .collect();
        Value {
            content: Content::Entries(entries),
            definitions: given
                .iter()
                .map(|one| self.definition(one, None, true))
                .collect(),
        }
    }

    fn set(&self, given: &[Given<'l>]) -> Value {
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

    fn whole(&mut self, name: &str, given: &[Given<'l>]) -> Value {
        let defining: BTreeSet<usize> = given.iter().map(|one| one.layer).collect();
        let arriving = match given {
            [only] => [only.layer].into(),
            _ => self.arriving(name, |layer| defining.contains(&layer)),
        };
        let is_below = |one: &Given<'l>| !arriving.contains(&one.layer);
        let top: Vec<&Given<'l>> = given.iter().filter(|one| !is_below(one)).collect();
        let best = strictest(&top).map(|one| &one.checked.body);
        let mut definitions = Vec::new();
        for one in given {
            let Body::Leaf(json) = &one.checked.body else {
                continue;
            };
            let is_lax = best.is_some_and(|best| *best != one.checked.body);
            let holds = !is_below(one) && !is_lax;
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

    /// Returns the files whose definitions of a value arrive in `harden.toml`: no file on the way
    /// takes them back, or ends the way because it says the value itself.
    fn arriving(&self, name: &str, ends: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let inside = |unset: &String| {
            let rest = name.strip_prefix(unset.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut arriving = BTreeSet::new();
        // The root is finished last.
        let mut open: Vec<usize> = self.layers.len().checked_sub(1).into_iter().collect();
        while let Some(at) = open.pop() {
            if !arriving.insert(at) || ends(at) {
                continue;
            }
            let layer = &self.layers[at];
            if !layer.unset.keys().any(inside) {
                open.extend(&layer.imports);
            }
        }
        arriving
    }

    /// Gives every entry of an attribute set the fields that it leaves open and `*` sets.
    fn fill(&mut self, name: &str, value: &mut Value) {
        let Content::Entries(entries) = &mut value.content else {
            return;
        };
        let Some(Content::Entries(defaults)) = entries.remove(EVERY).map(|value| value.content)
        else {
            return;
        };
        for (entry, value) in entries {
            let Content::Entries(fields) = &mut value.content else {
                continue;
            };
            for (field, default) in &defaults {
                let full = format!("{name}.{entry}.{field}");
                let layers = self.layers.iter().enumerate();
                let unset: Vec<_> = layers
                    .filter_map(|(at, layer)| {
                        let (unset, _) = layer.unset.get_key_value(&full)?;
                        Some((at, unset.as_str()))
                    })
                    .collect();
                if unset.is_empty() {
                    fields.entry(field.clone()).or_insert(default.clone());
                }
                self.taken.extend(unset);
            }
        }
    }

    /// Returns the places that took something back; those that had nothing to take are faults.
    fn unset(&mut self) -> Vec<(String, Source)> {
        let mut unset = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            for (name, span) in &layer.unset {
                if self.taken.contains(&(at, name.as_str())) {
                    unset.push((name.clone(), layer.file.place(span.clone(), "")));
                    continue;
                }
                let message = format!("`unset` has nothing to take back of {}", quoted(name));
                let place = layer
                    .file
                    .place(span.clone(), "no import of this file sets it");
                let fault = Diagnostic::new(message).at(place);
                self.faults.push(fault.help("remove it"));
            }
        }
        unset.sort_by(|a, b| (&a.0, &a.1.file).cmp(&(&b.0, &b.1.file)));
        unset
    }

    fn definition(&self, given: &Given<'l>, value: Option<Json>, holds: bool) -> Definition {
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

/// Returns a definition that is at least as strict as every other, if the values have an order.
fn strictest<'g, 'l>(given: &[&'g Given<'l>]) -> Option<&'g Given<'l>> {
    let covers = |one: &Given<'l>, other: &Given<'l>| -> Option<bool> {
        let order = one.checked.rank?.partial_cmp(&other.checked.rank?)?;
        Some(order != Ordering::Less)
    };
    let covers_all =
        |one: &&&'g Given<'l>| given.iter().all(|other| covers(one, other) == Some(true));
    // Of two writings of one value, the first in an order that knows nothing of files.
    let writing = |one: &&&Given<'l>| match &one.checked.body {
        Body::Leaf(json) => canonical_json(json),
        _ => String::new(),
    };
    let best = given.iter().filter(covers_all);
    best.min_by_key(writing).copied()
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
