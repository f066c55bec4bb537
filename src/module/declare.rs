//! Reads what a module declares: its heading and its options.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::check::{Spot, check};
use super::option::{DISTRIBUTIONS, Fields, Minors, OptionDecl, Pattern, Per, Stricter, Type};
use super::scalar;
use crate::profile::section::{Complaints, Node, Section, did_you_mean, kind, one_of, quoted};
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
    "bool", "int", "string", "enum", "duration", "quantity", "mode", "cidr", "list", "set", "map",
    "record", "attrs", "one-of", "object", "secret",
];

/// The types that `items` and `of` may name without a table.
const PLAIN: &[&str] = &[
    "bool", "int", "string", "duration", "quantity", "mode", "cidr", "object",
];

/// The words for [`Per`] in modules.
const PER: &[(&str, Per)] = &[
    ("cluster", Per::Cluster),
    ("node", Per::Node),
    ("tenant", Per::Tenant),
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
    let per = section
        .choice("per", PER, out)
        .unwrap_or(parent.map_or(Per::Cluster, |p| p.per));
    if uniform && per == Per::Node {
        out.at(
            key.clone(),
            format!("{} cannot be uniform and differ per node", quoted(&name)),
            "here",
            "remove `uniform`, or `per = \"node\"`",
        );
    }
    let outer = parent.map(|p| p.kubernetes).unwrap_or_default();
    let kubernetes = Minors {
        since: minor("since", &mut section, out).or(outer.since),
        until: minor("until", &mut section, out).or(outer.until),
    };
    let distributions = distributions(parent, &mut section, out);
    let mut decl = OptionDecl {
        name,
        ty: Type::Object,
        doc: doc.unwrap_or_default().to_owned(),
        risk: risk.unwrap_or(Risk::Manual),
        controls,
        example: None,
        uniform,
        per,
        stricter: None,
        kubernetes,
        distributions,
    };
    let ty = option_type(&mut section, &decl, key.clone(), out);
    let stricter = section.get("stricter");
    section.finish(out);
    decl.ty = ty?;
    decl.stricter = stricter.and_then(|node| order(&decl, node, out));
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

/// Reads a Kubernetes minor such as `"1.29"`.
fn minor(
    key: &'static str,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Option<u32> {
    let text = section.string(key, out)?;
    let minor = text.strip_prefix("1.").and_then(|text| text.parse().ok());
    if minor.is_none() {
        let span = section.get(key).map_or(0..0, toml::Spanned::span);
        out.at(
            span,
            format!("{} is no minor version of Kubernetes", quoted(text)),
            "here",
            "write for example \"1.29\"",
        );
    }
    minor
}

fn distributions(
    parent: Option<&OptionDecl>,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Vec<String> {
    let mut names = Vec::new();
    for (name, span) in section.strings("distributions", out) {
        if DISTRIBUTIONS.contains(&name) {
            names.push(name.to_owned());
            continue;
        }
        let label = did_you_mean(name, DISTRIBUTIONS.iter().copied());
        out.at(
            span,
            format!("there is no distribution {}", quoted(name)),
            label.unwrap_or_else(|| "unknown".into()),
            format!("use {}", one_of(DISTRIBUTIONS.iter().copied())),
        );
    }
    if names.is_empty() {
        return match parent {
            Some(parent) => parent.distributions.clone(),
            None => DISTRIBUTIONS.iter().map(ToString::to_string).collect(),
        };
    }
    names.sort();
    names.dedup();
    names
}

/// Reads `stricter`, whose words depend on the type.
fn order(decl: &OptionDecl, node: &Node<'_>, out: &mut Complaints<'_>) -> Option<Stricter> {
    let value = node.get_ref();
    let (words, found) = match &decl.ty {
        Type::Bool => ("true or false", value.as_bool().map(Stricter::Is)),
        Type::Int { .. } | Type::Duration { .. } | Type::Quantity => (
            "\"lower\" or \"higher\"",
            match value.as_str() {
                Some("lower") => Some(Stricter::Lower),
                Some("higher") => Some(Stricter::Higher),
                _ => None,
            },
        ),
        Type::Mode => (
            "\"lower\"",
            (value.as_str() == Some("lower")).then_some(Stricter::Lower),
        ),
        Type::Enum(_) => (
            "\"later\", and list the values from lax to strict",
            (value.as_str() == Some("later")).then_some(Stricter::Later),
        ),
        _ => ("nothing: values of this type have no order", None),
    };
    if found.is_none() {
        out.at(
            node.span(),
            format!("`{}.stricter` must be {words}", decl.name),
            format!("this is {}", kind(value)),
            "say which of two values wins when two imports disagree",
        );
    }
    found
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
        "quantity" => Type::Quantity,
        "mode" => Type::Mode,
        "cidr" => Type::Cidr,
        "secret" => Type::Secret,
        "int" => {
            let all = i64::MIN..=i64::MAX;
            let min = section.number("min", all.clone(), out).unwrap_or(i64::MIN);
            let max = section.number("max", all, out).unwrap_or(i64::MAX);
            let unit = section.string("unit", out).map(str::to_owned);
            Type::Int { min, max, unit }
        }
        "duration" => Type::Duration {
            min: bound("min", section, out).unwrap_or(0),
            max: bound("max", section, out).unwrap_or(u64::MAX),
        },
        "one-of" => Type::OneOf(alternatives(section, decl, key, out)?),
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
                format!("use {}", one_of(TYPES.iter().copied())),
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
    let Some(node) = section.get("items") else {
        out.at(
            key,
            format!("`{}.items` is missing", decl.name),
            "needed here",
            "say what the items are, for example `items = \"string\"`",
        );
        return None;
    };
    inner_type(node, decl, "items", out)
}

/// Reads `of`: the types of which a value must fit one.
fn alternatives(
    section: &mut Section<'_, '_>,
    decl: &OptionDecl,
    key: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<Vec<Type>> {
    let list = section.get("of").and_then(|node| node.get_ref().as_array());
    let Some(list) = list.filter(|list| list.len() >= 2) else {
        out.at(
            key,
            format!("`{}.of` must be a list of two types or more", decl.name),
            "needed here",
            "write for example `of = [\"bool\", { type = \"enum\", values = [\"auto\"] }]`",
        );
        return None;
    };
    let types: Vec<_> = list
        .iter()
        .map(|node| inner_type(node, decl, "of", out))
        .collect();
    types.into_iter().collect()
}

/// Reads the name of a type without keys of its own, or a table that declares one.
fn inner_type(
    node: &Node<'_>,
    decl: &OptionDecl,
    what: &str,
    out: &mut Complaints<'_>,
) -> Option<Type> {
    match node.get_ref() {
        DeValue::Table(table) => {
            let mut inner = Section::new(table, &format!("{}.{what}", decl.name));
            let ty = option_type(&mut inner, decl, node.span(), out);
            inner.finish(out);
            ty
        }
        DeValue::String(word) if PLAIN.contains(&word.as_ref()) => Some(match word.as_ref() {
            "bool" => Type::Bool,
            "int" => Type::Int {
                min: i64::MIN,
                max: i64::MAX,
                unit: None,
            },
            "duration" => Type::Duration {
                min: 0,
                max: u64::MAX,
            },
            "quantity" => Type::Quantity,
            "mode" => Type::Mode,
            "cidr" => Type::Cidr,
            "object" => Type::Object,
            _ => Type::String { pattern: None },
        }),
        _ => {
            out.at(
                node.span(),
                format!("this is no type for `{}.{what}`", decl.name),
                "here",
                format!(
                    "write {}, or a table with `type`",
                    one_of(PLAIN.iter().copied())
                ),
            );
            None
        }
    }
}

/// Reads a bound of a duration.
fn bound(
    key: &'static str,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Option<u64> {
    let text = section.string(key, out)?;
    let bound = scalar::duration(text);
    if bound.is_none() {
        let span = section.get(key).map_or(0..0, toml::Spanned::span);
        out.at(
            span,
            format!("{} is no duration", quoted(text)),
            "here",
            "write for example \"1h30m\"",
        );
    }
    bound
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
