//! Templates: the tables of a module with `${…}` in them.
//!
//! A text is taken apart once, when the module is read. What is put in place of a reference is
//! never looked at again, so a value that holds `${…}` stays as it is.

use std::ops::Range;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::check::json;
use crate::profile::section::{Complaints, Node, quoted};

/// A value of a module's table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Template {
    /// Holds no reference.
    Fixed(Json),
    /// `"${…}"`: the value itself, of whatever type.
    Whole(Reference),
    /// Text with references to scalars in it.
    Text(Vec<Piece>),
    /// A list.
    List(Vec<Template>),
    /// A table.
    Table(Table),
}

/// A table of templates.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) entries: Vec<(String, Template)>,
    /// The map under the key `...`, whose entries go into the table.
    pub(crate) spread: Option<Reference>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// Stays.
    Literal(String),
    /// Is replaced.
    Reference(Reference),
}

/// `${name}` or `${?name}`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    /// Whether only its own key vanishes when it is unset.
    pub(crate) optional: bool,
    /// The name, taken apart at the dots.
    pub(crate) path: Vec<String>,
    /// Where it is written.
    pub(crate) span: Range<usize>,
}

impl Reference {
    /// Reads a plain name, as `when` and `for-each` have it.
    pub(crate) fn plain(name: &str, span: Range<usize>) -> Self {
        Reference {
            optional: false,
            path: name.split('.').map(str::to_owned).collect(),
            span,
        }
    }

    /// Returns the name as it is written.
    pub(crate) fn name(&self) -> String {
        self.path.join(".")
    }
}

impl Template {
    /// Takes a value apart.
    pub(crate) fn read(node: &Node<'_>, out: &mut Complaints<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) => Template::text(text, node.span(), out),
            DeValue::Array(items) => {
                let items: Vec<_> = items.iter().map(|i| Template::read(i, out)).collect();
                items.into_iter().collect::<Option<_>>().map(Template::List)
            }
            DeValue::Table(entries) => {
                let mut table = Table::default();
                for (key, entry) in entries {
                    table.add(key.get_ref(), key.span(), entry, out);
                }
                Some(Template::Table(table))
            }
            _ => json(node, "this value", out).map(Template::Fixed),
        }
    }

    fn text(text: &str, span: Range<usize>, out: &mut Complaints<'_>) -> Option<Self> {
        let mut pieces = pieces(text, &span, out)?;
        let whole = pieces.len() == 1;
        match pieces.pop() {
            None => Some(Template::Fixed(Json::from(""))),
            Some(Piece::Literal(text)) if whole => Some(Template::Fixed(Json::String(text))),
            Some(Piece::Reference(reference)) if whole => Some(Template::Whole(reference)),
            Some(last) => {
                pieces.push(last);
                Some(Template::Text(pieces))
            }
        }
    }

    /// Calls `visit` with every reference, and whether it stands inside a longer text.
    pub(crate) fn references<'t>(&'t self, visit: &mut impl FnMut(&'t Reference, Place)) {
        match self {
            Template::Fixed(_) => {}
            Template::Whole(reference) => visit(reference, Place::Whole),
            Template::Text(pieces) => pieces.iter().for_each(|piece| {
                if let Piece::Reference(reference) = piece {
                    visit(reference, Place::InText);
                }
            }),
            Template::List(items) => items.iter().for_each(|item| item.references(visit)),
            Template::Table(table) => table.references(visit),
        }
    }
}

/// Where a reference stands; it decides which types may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anything may.
    Whole,
    /// Scalars may.
    InText,
    /// Maps may.
    Spread,
}

impl Table {
    /// Reads one entry of the table.
    pub(crate) fn add(
        &mut self,
        key: &str,
        span: Range<usize>,
        node: &Node<'_>,
        out: &mut Complaints<'_>,
    ) {
        let Some(template) = Template::read(node, out) else {
            return;
        };
        match (key, template) {
            ("...", Template::Whole(reference)) => self.spread = Some(reference),
            ("...", _) => out.at(
                node.span(),
                "the key `...` takes a map",
                "not a reference",
                "write \"${name}\" with the name of a map",
            ),
            (key, _) if key.contains("${") => out.at(
                span,
                "a key cannot be interpolated",
                "here",
                "use the key `...` with a map",
            ),
            (key, template) => self.entries.push((key.to_owned(), template)),
        }
    }

    pub(crate) fn references<'t>(&'t self, visit: &mut impl FnMut(&'t Reference, Place)) {
        for (_, entry) in &self.entries {
            entry.references(visit);
        }
        if let Some(spread) = &self.spread {
            visit(spread, Place::Spread);
        }
    }
}

/// Takes a text apart at `${…}`; `$${` stands for `${`.
fn pieces(text: &str, span: &Range<usize>, out: &mut Complaints<'_>) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            literal.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = after.find('}') else {
                out.at(
                    span.clone(),
                    "a `${` is not closed",
                    "here",
                    "close it with `}`, or write `$${` for the text `${`",
                );
                return None;
            };
            let (optional, name) = match after[..end].strip_prefix('?') {
                Some(name) => (true, name),
                None => (false, &after[..end]),
            };
            let good = name.split('.').all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            });
            if !good {
                out.at(
                    span.clone(),
                    format!("{} is no name", quoted(name)),
                    "here",
                    "write a name such as `${apiserver.profiling}`",
                );
                return None;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let reference = Reference {
                optional,
                ..Reference::plain(name, span.clone())
            };
            pieces.push(Piece::Reference(reference));
            rest = &after[end + 1..];
        } else {
            literal.push('$');
            rest = &rest[1..];
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Some(pieces)
}
