//! The option values of one file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::section::{
    Complaints, File, Node, Section, did_you_mean, kind, nearest, one_of, quoted,
};
use crate::module::check::{Checked, Spot, check};
use crate::module::{Modules, OptionDecl, Per, RESERVED};

/// A file with its own option values.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) file: File,
    /// By the option's full name.
    pub(crate) own: BTreeMap<String, Checked>,
    /// What the file takes back of its imports, by full name, with the place.
    pub(crate) unset: BTreeMap<String, Range<usize>>,
    /// The indices of the files that it imports itself.
    pub(crate) imports: BTreeSet<usize>,
    /// The indices of all files that it imports, directly or not.
    pub(crate) below: BTreeSet<usize>,
}

/// Reads `unset`: names of options, or of values inside them, that the file's imports shall not set.
pub(crate) fn unset(
    table: &DeTable<'_>,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Range<usize>> {
    let names = Section::new(table, "").strings("unset", out);
    let known = names
        .into_iter()
        .filter(|(name, span)| known_option("unset", name, span, modules, out));
    let known = known.map(|(name, span)| (name.to_owned(), span));
    known.collect()
}

/// Whether the name is that of an option, or of a value inside one; complains otherwise.
pub(super) fn known_option(
    key: &str,
    name: &str,
    span: &Range<usize>,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> bool {
    let inside = |option: &str| {
        name.strip_prefix(option)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if modules.options().any(|option| inside(&option.name)) {
        return true;
    }
    let names = modules.options().map(|option| option.name.as_str());
    out.at(
        span.clone(),
        format!("`{key}` names {}, which is no option", quoted(name)),
        did_you_mean(name, names).unwrap_or_else(|| "unknown".into()),
        "name an option such as `apiserver.profiling`",
    );
    false
}

/// Reads and checks the option values of a file.
pub(crate) fn values(
    table: &DeTable<'_>,
    is_root: bool,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Checked> {
    let mut values = BTreeMap::new();
    for (key, node) in table {
        let name = key.get_ref().as_ref();
        if RESERVED.contains(&name) {
            if !is_root && !matches!(name, "imports" | "unset") {
                out.at(
                    key.span(),
                    format!("{} belongs in harden.toml only", quoted(name)),
                    "not in an imported profile",
                    "move it to harden.toml; an imported profile holds `imports`, `unset` and options",
                );
            }
            continue;
        }
        section(key, node, modules, &mut values, out);
    }
    values
}

/// Reads what `[nodes.host.NAME]` holds besides how the node is reached: values that this node has of
/// its own. Names that are no section of a module are left to the caller.
pub(crate) fn node_values(
    table: &DeTable<'_>,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Checked> {
    let mut values = BTreeMap::new();
    for (key, node) in table {
        if modules.has_section(key.get_ref()) {
            section(key, node, modules, &mut values, out);
        }
    }
    values.retain(|name, checked| {
        let may_differ = modules
            .option(name)
            .is_some_and(|decl| decl.per == Per::Node);
        if !may_differ {
            out.at(
                checked.span.clone(),
                format!("{} cannot have a value per node", quoted(name)),
                "all nodes share it",
                "set it outside of `[nodes.host]`",
            );
        }
        may_differ
    });
    values
}

/// Reads one section: an option that is a whole section, or a table of options.
fn section(
    key: &Spanned<Cow<'_, str>>,
    node: &Node<'_>,
    modules: &Modules,
    values: &mut BTreeMap<String, Checked>,
    out: &mut Complaints<'_>,
) {
    let name = key.get_ref().as_ref();
    if let Some(decl) = modules.option(name) {
        value(name, decl, key, node, values, out);
        return;
    }
    let prefix = format!("{name}.");
    let options: Vec<_> = modules
        .options()
        .filter_map(|decl| Some((decl.name.strip_prefix(&prefix)?, decl)))
        .collect();
    if options.is_empty() {
        unknown_section(name, key.span(), modules, out);
        return;
    }
    let Some(section) = node.get_ref().as_table() else {
        let found = kind(node.get_ref());
        out.at(
            node.span(),
            format!("{} must be a table, not {found}", quoted(name)),
            format!("this is {found}"),
            format!("write `[{name}]` with its options below"),
        );
        return;
    };
    for (key, node) in section {
        let short = key.get_ref().as_ref();
        if let Some((_, decl)) = options.iter().find(|(known, _)| *known == short) {
            value(&decl.name, decl, key, node, values, out);
            continue;
        }
        let names = || options.iter().map(|(name, _)| *name);
        let near = nearest(short, names());
        let help = match options.iter().find(|(known, _)| Some(*known) == near) {
            Some((_, decl)) => format!("{}: {}", decl.name, decl.doc),
            None => format!("use {}", one_of(names())),
        };
        out.at(
            key.span(),
            format!("{} has no option {}", quoted(name), quoted(short)),
            did_you_mean(short, names()).unwrap_or_else(|| "unknown".into()),
            help,
        );
    }
}

fn value(
    name: &str,
    decl: &OptionDecl,
    key: &Spanned<Cow<'_, str>>,
    node: &Node<'_>,
    values: &mut BTreeMap<String, Checked>,
    out: &mut Complaints<'_>,
) {
    let spot = Spot {
        path: name.to_owned(),
        decl,
    };
    if let Some(checked) = check(&decl.ty, node, key.span(), &spot, out) {
        values.insert(name.to_owned(), checked);
    }
}

fn unknown_section(name: &str, span: Range<usize>, modules: &Modules, out: &mut Complaints<'_>) {
    // A module without options has no section.
    let sections: BTreeSet<&str> = modules
        .options()
        .filter_map(|decl| decl.name.split('.').next())
        .collect();
    let names = || sections.iter().copied().chain(RESERVED.iter().copied());
    let near = nearest(name, names());
    let help = match modules.iter().find(|(module, _)| Some(*module) == near) {
        Some((module, found)) => format!("[{module}]: {}", found.summary),
        None => format!("use {}", one_of(names())),
    };
    out.at(
        span,
        format!("there is no section {}", quoted(name)),
        did_you_mean(name, names()).unwrap_or_else(|| "unknown".into()),
        help,
    );
}
