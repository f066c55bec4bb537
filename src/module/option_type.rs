//! Reads the type of an option from its declaration.

use std::ops::Range;

use toml::de::DeValue;

use super::declare::fields;
use super::option::{OptionDecl, Pattern, Type};
use super::scalar;
use crate::profile::section::{Complaints, Node, Section, did_you_mean, one_of, quoted};

/// The words for [`Type`] in modules.
const TYPES: &[&str] = &[
    "bool",
    "int",
    "string",
    "enum",
    "duration",
    "quantity",
    "mode",
    "cidr",
    "list",
    "set",
    "map",
    "record",
    "attrs",
    "one-of",
    "object",
    "objects",
    "rbac-subject",
    "secret",
];

/// The types that `items` and `of` may name without a table.
const PLAIN: &[&str] = &[
    "bool",
    "int",
    "string",
    "duration",
    "quantity",
    "mode",
    "cidr",
    "object",
    "rbac-subject",
];

/// Reads `type` and the keys that belong to it.
pub(super) fn option_type(
    section: &mut Section<'_, '_>,
    decl: &OptionDecl,
    key: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<Type> {
    let word = section.required("type", key.clone(), out)?;
    Some(match word {
        "bool" => Type::Bool,
        "object" => Type::Object,
        "objects" => Type::Objects,
        "quantity" => Type::Quantity,
        "mode" => Type::Mode,
        "cidr" => Type::Cidr,
        "rbac-subject" => Type::RbacSubject,
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
            pattern: pattern("pattern", section, out)?,
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
            "rbac-subject" => Type::RbacSubject,
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

/// Reads a regular expression that the whole text must match.
pub(super) fn pattern(
    key: &'static str,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Option<Option<Pattern>> {
    let Some(text) = section.string(key, out) else {
        return Some(None);
    };
    match Pattern::new(text) {
        Ok(pattern) => Some(Some(pattern)),
        Err(error) => {
            let span = section.get(key).map_or(0..0, toml::Spanned::span);
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
