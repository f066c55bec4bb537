//! Every definition of a value, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anstyle::Style;
use serde_json::{Value as Json, json};

use super::find::{self, Found};
use super::state::{State, at, unset_json};
use super::toml_text;
use crate::profile::{Content, Definition, Source, Value};

const HEADING: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// What each file imports, directly or not.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// A value that was merged as a whole.
pub(super) struct Leaf<'w> {
    /// The names of the entries that it stands in.
    pub(super) path: Vec<String>,
    pub(super) value: &'w Value,
}

/// Lists what was merged as a whole inside a value; an empty table counts.
pub(super) fn leaves(value: &Value) -> Vec<Leaf<'_>> {
    fn walk<'w>(path: &mut Vec<String>, value: &'w Value, found: &mut Vec<Leaf<'w>>) {
        match &value.content {
            Content::Entries(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    path.push(key.clone());
                    walk(path, value, found);
                    path.pop();
                }
            }
            _ => found.push(Leaf {
                path: path.clone(),
                value,
            }),
        }
    }
    let mut found = Vec::new();
    walk(&mut Vec::new(), value, &mut found);
    found
}

/// What became of a definition.
enum Standing<'d> {
    Holds,
    /// A file that imports it says otherwise there.
    Overridden(&'d Source),
    /// The one there is stricter, and no import comes before the other.
    LessStrict(&'d Source),
}

fn standing<'d>(all: &'d [Definition], one: usize, imports: &Imports) -> Standing<'d> {
    let definition = &all[one];
    if definition.holds {
        return Standing::Holds;
    }
    let file = &definition.place.file;
    // A node's own value stands in harden.toml too, above the value that all nodes share.
    let is_above = |other: &&Definition| {
        other.place.file == *file
            || imports
                .get(&other.place.file)
                .is_some_and(|below| below.contains(file))
    };
    let above = all.iter().take(one).find(is_above);
    let best = all.iter().find(|d| d.holds).unwrap_or(definition);
    match above {
        Some(above) => Standing::Overridden(&above.place),
        None => Standing::LessStrict(&best.place),
    }
}

/// Lists every definition for programs.
pub(super) fn definitions(name: &str, value: &Value, imports: &Imports) -> Vec<Json> {
    let mut list = Vec::new();
    for leaf in leaves(value) {
        let name = full_name(name, &leaf.path);
        let all = &leaf.value.definitions;
        for (i, definition) in all.iter().enumerate() {
            let (standing, by) = match standing(all, i, imports) {
                Standing::Holds => ("holds", None),
                Standing::Overridden(by) => ("overridden", Some(by)),
                Standing::LessStrict(than) => ("less-strict", Some(than)),
            };
            let mut json = json!({
                "name": name,
                "file": definition.place.file,
                "line": definition.place.line(),
                "value": definition.value.clone().unwrap_or_else(|| json!({})),
                "holds": definition.holds,
                "standing": standing,
            });
            if let Some(by) = by {
                json["by"] = json!({"file": by.file, "line": by.line()});
            }
            list.push(json);
        }
    }
    list
}

/// The name that a value has in `unset` and in plans.
pub(super) fn full_name(name: &str, path: &[String]) -> String {
    let parts = path.iter().map(String::as_str);
    let parts: Vec<&str> = std::iter::once(name).chain(parts).collect();
    parts.join(".")
}

/// The answer to why a value is what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Json,
    /// What may have been meant instead.
    pub hint: Option<String>,
}

impl State<'_> {
    /// Tells where a value comes from: every definition of an option, or of something inside one
    /// (`tenants.payments.quota`), and what became of it.
    ///
    /// # Errors
    /// That there is no such option or field, and what may have been meant.
    pub fn why(&self, name: &str) -> Result<Why, (String, String)> {
        let Found {
            name,
            decl,
            value,
            hint,
        } = find::find(name, self.modules, self.values())?;
        let imports = &self.workspace.imports;
        let mut text = String::new();
        let shown = toml_text::plain(&name);
        match value {
            Some(value) => {
                for leaf in leaves(value) {
                    let name = full_name(&name, &leaf.path);
                    chain(&mut text, &name, leaf.value, imports);
                }
            }
            None => {
                let finds = |values| find::find(&name, self.modules, values);
                let mut of_nodes = self.workspace.node_values.values();
                let on_a_node = of_nodes.any(|v| finds(v).is_ok_and(|found| found.value.is_some()));
                let what = if on_a_node {
                    "has no value that all nodes share"
                } else {
                    "has no value: it is unmanaged, neither touched nor judged"
                };
                let _ = writeln!(text, "{HEADING}{shown}{HEADING:#} {what}");
            }
        }
        // What a node has of its own, unless it is that node that was asked for.
        let mut nodes = serde_json::Map::new();
        for (node, values) in &self.workspace.node_values {
            let Ok(Found {
                value: Some(own), ..
            }) = find::find(&name, self.modules, values)
            else {
                continue;
            };
            if value.is_some_and(|shared| shared.json() == own.json()) {
                continue;
            }
            let _ = writeln!(text, "{DIM}on node {node}:{DIM:#}");
            for leaf in leaves(own) {
                chain(
                    &mut text,
                    &full_name(&name, &leaf.path),
                    leaf.value,
                    imports,
                );
            }
            nodes.insert(node.clone(), own.json());
        }
        let unset = self.unset(|other| is_inside(other, &name) || is_inside(&name, other));
        for (other, place) in &unset {
            let (other, place) = (toml_text::plain(other), at(place));
            let _ = writeln!(
                text,
                "  {:<12} {place}  {DIM}takes back what its imports say of {other}{DIM:#}",
                "unset"
            );
        }
        let _ = writeln!(text, "{DIM}{}: {}{DIM:#}", decl.name, decl.doc);
        let definitions = value.map(|value| definitions(&name, value, imports));
        let json = json!({
            "schema": "harden.dev/why/v1",
            "option": name,
            "value": value.map(Value::json),
            "definitions": definitions.unwrap_or_default(),
            "unset": unset_json(&unset),
            "nodes": nodes,
        });
        Ok(Why { text, json, hint })
    }
}

/// Whether a name is another one, or stands inside it.
fn is_inside(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Writes the definitions of one value, importing files before what they import.
fn chain(out: &mut String, name: &str, value: &Value, imports: &Imports) {
    let (name, shown) = (toml_text::plain(name), toml_text::value(&value.json()));
    let _ = writeln!(out, "{HEADING}{name}{HEADING:#} = {shown}");
    let all = &value.definitions;
    let width = all.iter().map(|d| at(&d.place).chars().count()).max();
    let width = width.unwrap_or_default();
    for (i, definition) in all.iter().enumerate() {
        let said = definition.value.as_ref();
        let said = said.map_or("{}".into(), toml_text::value);
        let (word, by) = match standing(all, i, imports) {
            Standing::Holds => ("holds", String::new()),
            Standing::Overridden(by) => ("overridden", format!("  {DIM}by {}{DIM:#}", at(by))),
            Standing::LessStrict(than) => {
                ("less strict", format!("  {DIM}than {}{DIM:#}", at(than)))
            }
        };
        let place = at(&definition.place);
        let _ = writeln!(out, "  {word:<12} {place:<width$}  {said}{by}");
    }
}
