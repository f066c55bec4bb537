//! The option values of one file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::DeTable;

use super::section::{Complaints, File, did_you_mean, kind, nearest, one_of, quoted};
use crate::module::check::{Checked, Spot, check};
use crate::module::{Modules, RESERVED};

/// A file with its own option values.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) file: File,
    /// By the option's full name.
    pub(crate) own: BTreeMap<String, Checked>,
    /// The indices of all files that it imports, directly or not.
    pub(crate) below: BTreeSet<usize>,
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
            if !is_root && name != "imports" {
                out.at(
                    key.span(),
                    format!("{} belongs in harden.toml only", quoted(name)),
                    "not in an imported profile",
                    "move it to harden.toml; an imported profile holds `imports` and options",
                );
            }
            continue;
        }
        // An option may be a whole section.
        if let Some(decl) = modules.option(name) {
            let spot = Spot {
                path: name.to_owned(),
                decl,
            };
            if let Some(checked) = check(&decl.ty, node, key.span(), &spot, out) {
                values.insert(name.to_owned(), checked);
            }
            continue;
        }
        let prefix = format!("{name}.");
        let options: Vec<_> = modules
            .options()
            .filter_map(|decl| Some((decl.name.strip_prefix(&prefix)?, decl)))
            .collect();
        if options.is_empty() {
            unknown_section(name, key.span(), modules, out);
            continue;
        }
        let Some(section) = node.get_ref().as_table() else {
            let found = kind(node.get_ref());
            out.at(
                node.span(),
                format!("{} must be a table, not {found}", quoted(name)),
                format!("this is {found}"),
                format!("write `[{name}]` with its options below"),
            );
            continue;
        };
        for (key, node) in section {
            let short = key.get_ref().as_ref();
            let names = || options.iter().map(|(name, _)| *name);
            let Some((_, decl)) = options.iter().find(|(known, _)| *known == short) else {
                let near = nearest(short, names());
                let near_decl = options.iter().find(|(known, _)| Some(*known) == near);
                let help = match near_decl {
                    Some((_, decl)) => format!("{}: {}", decl.name, decl.doc),
                    None => format!("use {}", one_of(names())),
                };
                out.at(
                    key.span(),
                    format!("{} has no option {}", quoted(name), quoted(short)),
                    did_you_mean(short, names()).unwrap_or_else(|| "unknown".into()),
                    help,
                );
                continue;
            };
            let spot = Spot {
                path: decl.name.clone(),
                decl,
            };
            if let Some(checked) = check(&decl.ty, node, key.span(), &spot, out) {
                values.insert(decl.name.clone(), checked);
            }
        }
    }
    values
}

fn unknown_section(name: &str, span: Range<usize>, modules: &Modules, out: &mut Complaints<'_>) {
    let names = || {
        modules
            .iter()
            .map(|(name, _)| name)
            .chain(RESERVED.iter().copied())
    };
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
