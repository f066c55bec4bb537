//! Reads what a module declares: its heading and its options.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::check::{Spot, check};
use super::option::{Fields, OptionDecl, Pattern, Type};
use crate::profile::section::{Complaints, Node, Section, did_you_mean, kind, quoted};
use crate::resource::{Risk, Scope};

/// The words for [`Scope`] in modules.
const SCOPES: &[(&str, Scope)] = &[
    ("control-plane", Scope::ControlPlane),
    ("workers", Scope::Workers),
    ("nodes", Scope::Nodes),
    ("api", Scope::Api),
];

/// The words for [`Risk`] in modules.
const RISKS: &[(&str, Risk)] = &[
    ("safe", Risk::Safe),
    ("reload", Risk::Reload),
    ("restart", Risk::Restart),
    ("guarded", Risk::Guarded),
    ("irreversible", Risk::Irreversible),
    ("manual", Risk::Manual),
];

/// The words for [`Type`] in modules.
const TYPES: &[&str] = &[
    "bool", "int", "string", "enum", "list", "set", "map", "record", "attrs", "object",
];

/// The `[module]` table.
pub(super) struct Heading<'t> {
    pub(super) summary: String,
    pub(super) on: Scope,
    /// `for-each` of every resource that has none of its own.
    pub(super) for_each: Option<&'t Node<'t>>,
}

/// Reads `[module]`.
pub(super) fn heading<'t>(
    top: &mut Section<'t, 't>,
    out: &mut Complaints<'_>,
) -> Option<Heading<'t>> {
    let Some(table) = top.table("module", out) else {
        out.at(
            0..0,
            "`[module]` is missing",
            "needed in every module",
            "add `[module]` with `summary` and `on`",
        );
        return None;
    };
    let mut section = Section::new(table, "module");
    let summary = section.required("summary", 0..0, out);
    let on = scope(&mut section, out);
    if on.is_none() && !table.contains_key("on") {
        out.at(
            0..0,
            "`module.on` is missing",
            "needed in every module",
            "say where its resources belong, for example `on = \"control-plane\"`",
        );
    }
    let for_each = section.get("for-each");
    section.finish(out);
    Some(Heading {
        summary: summary?.to_owned(),
        on: on?,
        for_each,
    })
}

/// Reads `on`.
pub(super) fn scope(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Option<Scope> {
    section.choice("on", SCOPES, out)
}

/// Reads `risk`.
pub(super) fn risk(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Option<Risk> {
    section.choice("risk", RISKS, out)
}

/// Reads `[options]`. An option of the module's own name is the whole section of a profile, as
/// `[tenants]` is, and then the only option.
pub(super) fn options(
    module: &str,
    top: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, OptionDecl> {
    let Some(table) = top.table("options", out) else {
        return BTreeMap::new();
    };
    let whole = table.contains_key(module);
    if whole && table.len() > 1 {
        out.at(
            table.keys().next().map_or(0..0, toml::Spanned::span),
            format!(
                "the option {} is the whole section and must be the only one",
                quoted(module)
            ),
            "one of several",
            "rename it, or move the others to another module",
        );
    }
    let prefix = if whole { "" } else { module };
    let fields = fields(prefix, table, None, out);
    fields
        .into_values()
        .map(|decl| (decl.name.clone(), decl))
        .collect()
}

/// Reads a table of declarations. Fields take risk, controls and uniformity from `parent`.
fn fields(
    prefix: &str,
    table: &DeTable<'_>,
    parent: Option<&OptionDecl>,
    out: &mut Complaints<'_>,
) -> Fields {
    let mut fields = Fields::new();
    for (key, node) in table {
        let name = key.get_ref().as_ref();
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            out.at(
                key.span(),
                format!("{} is no name for an option", quoted(name)),
                "here",
                "use letters, digits and `-`, beginning with a small letter",
            );
            continue;
        }
        let full = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        };
        let Some(inner) = node.get_ref().as_table() else {
            out.at(
                node.span(),
                format!(
                    "{} must be a table, not {}",
                    quoted(&full),
                    kind(node.get_ref())
                ),
                "here",
                "declare it with `type`, `doc` and `risk`",
            );
            continue;
        };
        if let Some(decl) = declaration(full, inner, key.span(), parent, out) {
            fields.insert(name.to_owned(), decl);
        }
    }
    fields
}

/// Reads one option or field.
fn declaration(
    name: String,
    table: &DeTable<'_>,
    key: Range<usize>,
    parent: Option<&OptionDecl>,
    out: &mut Complaints<'_>,
) -> Option<OptionDecl> {
    let mut section = Section::new(table, &name);
    let doc = section.required("doc", key.clone(), out);
    let risk = risk(&mut section, out).or(parent.map(|p| p.risk));
    if risk.is_none() && !table.contains_key("risk") {
        out.at(
            key.clone(),
            format!("`{name}.risk` is missing"),
            "needed here",
            "say how dangerous a change is, for example `risk = \"restart\"`",
        );
    }
    let mut controls: Vec<String> = section
        .strings("controls", out)
        .into_iter()
        .map(|(c, _)| c.to_owned())
        .collect();
    if let (true, Some(parent)) = (controls.is_empty(), parent) {
        controls.clone_from(&parent.controls);
    }
    controls.sort();
    let uniform = section
        .boolean("uniform", out)
        .unwrap_or(parent.is_some_and(|p| p.uniform));
    let example = section.get("example");
    let mut decl = OptionDecl {
        name,
        ty: Type::Object,
        doc: doc.unwrap_or_default().to_owned(),
        risk: risk.unwrap_or(Risk::Manual),
        controls,
        example: None,
        uniform,
    };
    let ty = option_type(&mut section, &decl, key.clone(), out);
    section.finish(out);
    decl.ty = ty?;
    if let Some(example) = example {
        let spot = Spot {
            path: format!("{}.example", decl.name),
            decl: &decl,
        };
        check(&decl.ty, example, key, &spot, out)?;
        decl.example = out.file.text.get(example.span()).map(str::to_owned);
    }
    Some(decl)
}

/// Reads `type` and the keys that belong to it.
fn option_type(
    section: &mut Section<'_, '_>,
    decl: &OptionDecl,
    key: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<Type> {
    let word = section.required("type", key.clone(), out)?;
    Some(match word {
        "bool" => Type::Bool,
        "object" => Type::Object,
        "int" => {
            let all = i64::MIN..=i64::MAX;
            let min = section.number("min", all.clone(), out).unwrap_or(i64::MIN);
            let max = section.number("max", all, out).unwrap_or(i64::MAX);
            Type::Int { min, max }
        }
        "string" => Type::String {
            pattern: pattern(section, out)?,
        },
        "enum" => {
            let values = section.strings("values", out);
            if values.is_empty() {
                out.at(
                    key,
                    format!("`{}.values` is missing", decl.name),
                    "needed here",
                    "list the words that are allowed: `values = [\"…\"]`",
                );
                return None;
            }
            Type::Enum(values.into_iter().map(|(v, _)| v.to_owned()).collect())
        }
        "list" => Type::List(Box::new(items(section, decl, key, out)?)),
        "set" => Type::Set(Box::new(items(section, decl, key, out)?)),
        "map" => Type::Map(Box::new(items(section, decl, key, out)?)),
        "record" | "attrs" => {
            let table = section.table("fields", out)?;
            let fields = fields(&decl.name, table, Some(decl), out);
            if word == "record" {
                Type::Record(fields)
            } else {
                if fields.contains_key("name") {
                    out.at(
                        key,
                        "no field of `attrs` can be called `name`",
                        "here",
                        "`name` is the name of the entry itself: choose another",
                    );
                }
                Type::Attrs(fields)
            }
        }
        other => {
            let span = section.get("type").map_or(key, toml::Spanned::span);
            let label = did_you_mean(other, TYPES.iter().copied());
            out.at(
                span,
                format!("there is no type {}", quoted(other)),
                label.unwrap_or_else(|| "unknown".into()),
                format!(
                    "use {}",
                    crate::profile::section::one_of(TYPES.iter().copied())
                ),
            );
            return None;
        }
    })
}

/// Reads `items`: the name of a type without keys of its own, or a table that declares one.
fn items(
    section: &mut Section<'_, '_>,
    decl: &OptionDecl,
    key: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<Type> {
    let node = section.get("items");
    match node.map(|n| (n, n.get_ref())) {
        Some((_, DeValue::Table(table))) => {
            let mut inner = Section::new(table, &format!("{}.items", decl.name));
            let ty = option_type(&mut inner, decl, key, out);
            inner.finish(out);
            ty
        }
        Some((_, DeValue::String(word))) => match word.as_ref() {
            "bool" => Some(Type::Bool),
            "int" => Some(Type::Int {
                min: i64::MIN,
                max: i64::MAX,
            }),
            "string" => Some(Type::String { pattern: None }),
            "object" => Some(Type::Object),
            other => {
                let span = node.map_or(key, toml::Spanned::span);
                out.at(
                    span,
                    format!("{} is no type for items", quoted(other)),
                    "here",
                    "write `bool`, `int`, `string` or `object`, or a table with `type`",
                );
                None
            }
        },
        _ => {
            out.at(
                key,
                format!("`{}.items` is missing", decl.name),
                "needed here",
                "say what the items are, for example `items = \"string\"`",
            );
            None
        }
    }
}

/// Reads `pattern`: a regular expression that the whole text must match.
fn pattern(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Option<Option<Pattern>> {
    let Some(text) = section.string("pattern", out) else {
        return Some(None);
    };
    match Pattern::new(text) {
        Ok(pattern) => Some(Some(pattern)),
        Err(error) => {
            let span = section.get("pattern").map_or(0..0, toml::Spanned::span);
            let why = error.to_string();
            out.at(
                span,
                "this pattern is no regular expression",
                why.lines().last().unwrap_or("here").trim(),
                "see https://docs.rs/regex for the syntax",
            );
            None
        }
    }
}
