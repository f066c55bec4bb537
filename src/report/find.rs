//! Finds an option, or something inside one, by the name that a person types.

use std::collections::BTreeSet;

use super::chain::{full_name, leaves};
use crate::module::{Fields, Modules, OptionDecl, Type};
use crate::profile::section::{nearest, quoted};
use crate::profile::{Content, Value, Values};

/// What a name stands for.
pub(super) struct Found<'m, 'v> {
    /// Without the quotes that it was typed with.
    pub(super) name: String,
    /// The option or field that declares it.
    pub(super) decl: &'m OptionDecl,
    /// Its value, when there is one.
    pub(super) value: Option<&'v Value>,
    /// What may have been meant, when an entry is named that no profile has.
    pub(super) hint: Option<String>,
}

/// Finds what a name stands for. The error says that nothing has this name, and what to do.
pub(super) fn find<'m, 'v>(
    typed: &str,
    modules: &'m Modules,
    values: &'v Values,
) -> Result<Found<'m, 'v>, (String, String)> {
    let name = typed.replace('"', "");
    for option in modules.options() {
        let Some(rest) = below(&name, &option.name) else {
            continue;
        };
        if let (Type::Attrs(_), Some(_)) = (&option.ty, below(rest, "*")) {
            return Err((
                format!("{} has no value of its own", quoted(&name)),
                format!(
                    "it sets what the entries of `{0}` leave open: ask for one of them, as in `{0}.NAME`",
                    option.name
                ),
            ));
        }
        let value = values.get(&option.name).and_then(|v| value(v, rest));
        if let Some(decl) = declared(option, &option.ty, rest, value.is_some()) {
            let hint = near_entry(&option.name, rest, values);
            return Ok(Found {
                name,
                decl,
                value,
                hint,
            });
        }
    }
    Err((
        format!("there is no option {}", quoted(&name)),
        help(&name, modules, values),
    ))
}

/// Returns what follows the first part of a name; nothing for the part itself.
fn below<'n>(name: &'n str, first: &str) -> Option<&'n str> {
    match name.strip_prefix(first)? {
        "" => Some(""),
        rest => rest.strip_prefix('.'),
    }
}

/// Finds the declaration of something inside an option. The names of entries may hold dots; an
/// entry whose name would hold one is believed only when it has a value.
fn declared<'m>(
    decl: &'m OptionDecl,
    ty: &'m Type,
    rest: &str,
    has_value: bool,
) -> Option<&'m OptionDecl> {
    if rest.is_empty() {
        return Some(decl);
    }
    let field = |fields: &'m Fields, rest: &str| {
        fields
            .iter()
            .find_map(|(name, decl)| declared(decl, &decl.ty, below(rest, name)?, has_value))
    };
    // Every way to end the entry's name.
    let ends = || rest.match_indices('.').map(|(at, _)| &rest[at + 1..]);
    let is_entry = has_value || !rest.contains('.');
    match ty {
        Type::Record(fields) => field(fields, rest),
        Type::Attrs(fields) => ends()
            .find_map(|rest| field(fields, rest))
            .or(is_entry.then_some(decl)),
        Type::Map(item) => ends()
            .find_map(|rest| declared(decl, item, rest, has_value))
            .or(item.is_scalar().then_some(decl))
            .or(is_entry.then_some(decl)),
        Type::Objects => is_entry.then_some(decl),
        _ => None,
    }
}

/// Finds a value inside another.
fn value<'v>(from: &'v Value, rest: &str) -> Option<&'v Value> {
    if rest.is_empty() {
        return Some(from);
    }
    match &from.content {
        Content::Entries(entries) => entries
            .iter()
            .find_map(|(key, inner)| value(inner, below(rest, key)?)),
        Content::Whole(_) => None,
    }
}

/// Finds the entry that was probably meant, when an option has entries and none of this name.
fn near_entry(option: &str, rest: &str, values: &Values) -> Option<String> {
    let Content::Entries(entries) = &values.get(option)?.content else {
        return None;
    };
    if rest.is_empty() || entries.keys().any(|key| below(rest, key).is_some()) {
        return None;
    }
    let entry = rest.split('.').next()?;
    let near = nearest(entry, entries.keys().map(String::as_str))?;
    let meant = rest.replacen(entry, near, 1);
    Some(format!(
        "did you mean {}?",
        quoted(&format!("{option}.{meant}"))
    ))
}

/// Says what may have been meant.
fn help(name: &str, modules: &Modules, values: &Values) -> String {
    let mut names: BTreeSet<String> = modules.options().map(|decl| decl.name.clone()).collect();
    let of_section: Vec<String> = names
        .iter()
        .filter(|option| below(option, name).is_some())
        .map(|option| quoted(option))
        .collect();
    if !of_section.is_empty() {
        return format!(
            "it is a section, with the options {}",
            of_section.join(", ")
        );
    }
    for (option, value) in values.iter() {
        for leaf in leaves(value) {
            names.insert(full_name(option, &leaf.path));
        }
        let fields = modules.option(option).map(|decl| &decl.ty);
        if let (Some(Type::Attrs(fields)), Content::Entries(entries)) = (fields, &value.content) {
            let each = entries
                .keys()
                .flat_map(|entry| fields.keys().map(move |field| (entry, field)));
            names.extend(each.map(|(entry, field)| format!("{option}.{entry}.{field}")));
        }
    }
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => "`harden options` lists every option".into(),
    }
}
