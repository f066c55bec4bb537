//! Reads the tables of a module that become resources, and checks every name in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::check::{Spot, check};
use super::declare;
use super::name::{Binding, Named, Names, Shape};
use super::option::{OptionDecl, Type};
use super::template::{Place, Reference, Table};
use crate::profile::section::{Complaints, Node, Section, kind, quoted};
use crate::resource::precondition::Precondition;
use crate::resource::{Risk, Scope};

/// The kinds with a key that takes a reference to a secret, and resolve it only when they are applied. No
/// other key of theirs takes a table.
const TAKE_SECRETS: &[&str] = &["encryption"];

/// A table of a module that becomes resources.
#[derive(Debug, Clone)]
pub(crate) struct ResourceDecl {
    /// The kind's table name, one of [`crate::resource::TABLES`].
    pub(crate) table: &'static str,
    /// The table's heading.
    pub(crate) span: Range<usize>,
    pub(crate) on: Scope,
    /// Overrides the risk of the options.
    pub(crate) risk: Option<Risk>,
    /// What must be so before a change of it that is not accepted.
    pub(crate) requires: BTreeSet<Precondition>,
    /// When there is one, and for what.
    pub(crate) guard: Guard,
    /// The kind's own data.
    pub(crate) data: Table,
}

impl ResourceDecl {
    /// Whether it shows nothing of the entries that it is repeated for, so that all of them want the
    /// same one.
    pub(crate) fn is_shared(&self) -> bool {
        let mut shows = false;
        self.data.references(&mut |reference, _| {
            let loops = self.guard.loops.iter();
            shows |= loops
                .map(|each| &each.name)
                .any(|name| reference.path.first() == Some(name));
        });
        !self.guard.loops.is_empty() && !shows
    }
}

/// `when`, `given` and `for-each`.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// All must hold.
    pub(crate) when: Vec<(Reference, Json)>,
    /// All must be set.
    pub(crate) given: Vec<Reference>,
    /// Outermost first.
    pub(crate) loops: Vec<Loop>,
}

impl Guard {
    /// Whether both are repeated for the same entries under the same names.
    pub(crate) fn repeats_as(&self, other: &Guard) -> bool {
        let path = |reference: &Option<Reference>| reference.as_ref().map(|r| r.path.clone());
        let same = |(one, other): (&Loop, &Loop)| {
            one.name == other.name
                && one.over.path == other.over.path
                && path(&one.entry) == path(&other.entry)
        };
        self.loops.len() == other.loops.len() && self.loops.iter().zip(&other.loops).all(same)
    }
}

/// `for-each = "over as name"`, or `"over[entry] as name"`.
#[derive(Debug, Clone)]
pub(crate) struct Loop {
    pub(crate) over: Reference,
    /// What has the name of the only entry that is meant.
    pub(crate) entry: Option<Reference>,
    pub(crate) name: String,
}

/// What the tables of one module need to know of the rest.
pub(super) struct Context<'m> {
    /// The options of all modules.
    pub(super) options: &'m BTreeMap<String, OptionDecl>,
    pub(super) on: Scope,
    /// The module's own `for-each`.
    pub(super) for_each: Option<&'m Node<'m>>,
}

/// Reads all resource tables in the order of the file. The names of the options that they use go
/// into `used`.
pub(super) fn read(
    context: &Context<'_>,
    top: &mut Section<'_, '_>,
    used: &mut BTreeSet<String>,
    out: &mut Complaints<'_>,
) -> Vec<ResourceDecl> {
    let mut resources = Vec::new();
    for &kind_name in crate::resource::TABLES {
        for (table, span) in top.tables(kind_name, out) {
            resources.extend(one(context, kind_name, table, span, used, out));
        }
    }
    resources.sort_by_key(|resource| resource.span.start);
    resources
}

fn one(
    context: &Context<'_>,
    kind_name: &'static str,
    table: &DeTable<'_>,
    span: Range<usize>,
    used: &mut BTreeSet<String>,
    out: &mut Complaints<'_>,
) -> Option<ResourceDecl> {
    let before = out.list.len();
    let mut section = Section::new(table, kind_name);
    let on = declare::scope(&mut section, out).unwrap_or(context.on);
    let risk = declare::risk(&mut section, out);
    let requires = declare::requires(&mut section, out);
    let (guard, mut checker) = guard(context, &mut section, used, out);
    checker.takes_secret = TAKE_SECRETS.contains(&kind_name);
    let mut data = Table::default();
    for (key, node) in table {
        if !matches!(
            key.get_ref().as_ref(),
            "on" | "risk" | "requires" | "for-each" | "when" | "given"
        ) {
            data.add(key.get_ref(), key.span(), node, out);
        }
    }
    data.references(&mut |reference, place| checker.reference(reference, place, out));
    let mut references = 0;
    data.references(&mut |_, _| references += 1);
    let is_free = guard.when.is_empty() && guard.given.is_empty() && guard.loops.is_empty();
    if references == 0 && is_free && out.list.len() == before {
        out.at(
            span.clone(),
            "this resource names no option and would always be there",
            "here",
            "interpolate an option, or name one in `when` or `given`: what no profile asks for is unmanaged",
        );
    }
    let resource = ResourceDecl {
        table: kind_name,
        span,
        on,
        risk,
        requires,
        guard,
        data,
    };
    (out.list.len() == before).then_some(resource)
}

/// Reads `for-each`, `when` and `given`, and returns what checks the names inside.
pub(super) fn guard<'m, 'u>(
    context: &Context<'m>,
    section: &mut Section<'_, '_>,
    used: &'u mut BTreeSet<String>,
    out: &mut Complaints<'_>,
) -> (Guard, Checker<'m, 'u>) {
    let loops = match section.get("for-each") {
        Some(node) => loops(node, out),
        None => context
            .for_each
            .map(|node| loops(node, out))
            .unwrap_or_default(),
    };
    let mut checker = Checker {
        options: context.options,
        used,
        bindings: Vec::new(),
        takes_secret: false,
    };
    for each in &loops {
        checker.bind(each, out);
    }
    let when = section
        .table("when", out)
        .map(|table| checker.when(table, out))
        .unwrap_or_default();
    let given = section.strings("given", out);
    let given: Vec<Reference> = given
        .into_iter()
        .map(|(name, span)| Reference::plain(name, span))
        .collect();
    checker.given(&given, out);
    (Guard { when, given, loops }, checker)
}

/// Reads `for-each`.
fn loops(node: &Node<'_>, out: &mut Complaints<'_>) -> Vec<Loop> {
    let list = match node.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![node],
    };
    let mut loops = Vec::new();
    for item in list {
        let Some(text) = item.get_ref().as_str() else {
            out.at(
                item.span(),
                "`for-each` must be a string or a list of strings",
                kind(item.get_ref()),
                "write for example \"tenants as tenant\"",
            );
            continue;
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (over, name) = match words[..] {
            [over] => (over, "each"),
            [over, "as", name] => (over, name),
            _ => {
                out.at(
                    item.span(),
                    "this `for-each` cannot be read",
                    "here",
                    "write for example \"tenants as tenant\"",
                );
                continue;
            }
        };
        let (over, entry) = match over.strip_suffix(']').and_then(|over| over.split_once('[')) {
            Some((over, entry)) => (over, Some(Reference::plain(entry, item.span()))),
            None => (over, None),
        };
        loops.push(Loop {
            over: Reference::plain(over, item.span()),
            entry,
            name: name.to_owned(),
        });
    }
    loops
}

/// Checks names before there are values.
pub(super) struct Checker<'m, 'u> {
    options: &'m BTreeMap<String, OptionDecl>,
    used: &'u mut BTreeSet<String>,
    bindings: Vec<Binding<'m, 'static>>,
    /// Whether the table's kind can do something with a reference to a secret.
    takes_secret: bool,
}

impl<'m> Checker<'m, '_> {
    fn find(
        &mut self,
        reference: &Reference,
        out: &mut Complaints<'_>,
    ) -> Option<Named<'m, 'static>> {
        let names = Names {
            options: self.options,
            values: None,
            bindings: &self.bindings,
        };
        match names.find(&reference.path) {
            Ok(named) => {
                mark(&named.decl.name, self.used);
                Some(named)
            }
            Err((message, help)) => {
                out.at(reference.span.clone(), message, "here", help);
                None
            }
        }
    }

    fn bind(&mut self, each: &Loop, out: &mut Complaints<'_>) {
        let Some(named) = self.find(&each.over, out) else {
            return;
        };
        let Some(shape) = named.entry_shape() else {
            out.at(
                each.over.span.clone(),
                format!("{} has no entries", quoted(&each.over.name())),
                "here",
                "repeat over a list, a set, a map or an attribute set",
            );
            return;
        };
        if let Some(entry) = &each.entry {
            let by_name = matches!(shape, Shape::Entry(_) | Shape::Pair(_));
            let Some(key) = self.find(entry, out) else {
                return;
            };
            let is_text = match key.shape {
                Shape::Name => true,
                Shape::Value(ty) => matches!(ty, Type::String { .. } | Type::Enum(_)),
                _ => false,
            };
            if !by_name || !is_text {
                out.at(
                    entry.span.clone(),
                    "an entry is found by its name",
                    "here",
                    "write for example \"tenants[other] as peer\", with a text in `other`",
                );
                return;
            }
        }
        let named = Named { shape, ..named };
        self.bindings.push(Binding {
            name: each.name.clone(),
            named,
        });
    }

    fn when(&mut self, table: &DeTable<'_>, out: &mut Complaints<'_>) -> Vec<(Reference, Json)> {
        let mut when = Vec::new();
        for (key, node) in table {
            let reference = Reference::plain(key.get_ref(), key.span());
            let Some(named) = self.find(&reference, out) else {
                continue;
            };
            let Shape::Value(ty) = named.shape else {
                out.at(
                    key.span(),
                    "`when` compares options and fields only",
                    "here",
                    "name one of them",
                );
                continue;
            };
            let spot = Spot {
                path: format!("when.{}", key.get_ref()),
                decl: named.decl,
            };
            if let Some(value) = check(ty, node, key.span(), &spot, out) {
                when.push((reference, value.body.json()));
            }
        }
        when
    }

    fn given(&mut self, given: &[Reference], out: &mut Complaints<'_>) {
        for reference in given {
            let named = self.find(reference, out);
            if named.is_some_and(|named| !matches!(named.shape, Shape::Value(_))) {
                out.at(
                    reference.span.clone(),
                    "`given` asks for options and fields only",
                    "always there",
                    "name one of them",
                );
            }
        }
    }

    pub(super) fn reference(
        &mut self,
        reference: &Reference,
        place: Place,
        out: &mut Complaints<'_>,
    ) {
        let Some(named) = self.find(reference, out) else {
            return;
        };
        let (good, needed) = match (place, named.shape) {
            (Place::Whole, Shape::Value(Type::Secret)) if self.takes_secret => (true, ""),
            // It would be written where everybody can read it; what is a reference to harden is
            // nothing to a flag or an object.
            (_, Shape::Value(Type::Secret)) => (false, "a secret can stand nowhere in the clear"),
            (Place::Whole, Shape::Value(ty)) => {
                mark_fields(ty, self.used);
                (true, "")
            }
            (Place::Spread, Shape::Value(Type::Map(_))) => (true, ""),
            (Place::Spread, _) => (false, "only a map can stand at the key `...`"),
            (_, Shape::Name) => (true, ""),
            (Place::InText, Shape::Value(ty)) if ty.is_scalar() => (true, ""),
            (Place::InText, _) => (false, "only a scalar can stand inside a text"),
            (Place::Whole, _) => (false, "only one of its parts can stand here"),
        };
        if !good {
            out.at(
                reference.span.clone(),
                format!("{} cannot stand here", quoted(&reference.name())),
                needed,
                "name a part of it, or make it the whole value",
            );
        }
    }
}

/// Marks an option and everything it is a field of.
fn mark(name: &str, used: &mut BTreeSet<String>) {
    for (at, _) in name.match_indices('.') {
        used.insert(name[..at].to_owned());
    }
    used.insert(name.to_owned());
}

/// Marks the fields of what is used as a whole.
fn mark_fields(ty: &Type, used: &mut BTreeSet<String>) {
    match ty {
        Type::Record(fields) | Type::Attrs(fields) => {
            for decl in fields.values() {
                used.insert(decl.name.clone());
                mark_fields(&decl.ty, used);
            }
        }
        Type::List(item) | Type::Set(item) | Type::Map(item) => mark_fields(item, used),
        Type::OneOf(types) => types.iter().for_each(|ty| mark_fields(ty, used)),
        _ => {}
    }
}
