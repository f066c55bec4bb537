//! Holds the catalogue against the options of the modules.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::Catalogue;
use crate::module::Modules;
use crate::profile::section::{Complaints, did_you_mean, parse, quoted};
use crate::profile::{Diagnostic, Failure};

/// Checks that every control that an option names is in the catalogue, and that no control is
/// called like an option.
///
/// # Errors
/// Every name for which that is not so, with its place in the module.
pub fn check(catalogue: &Catalogue, modules: &Modules) -> Result<(), Failure> {
    let mut faults = Vec::new();
    for (_, module) in modules.iter() {
        let mut out = Complaints::new(module.file());
        let table = parse(module.file(), &mut out);
        if let Some(options) = table.get("options").and_then(|n| n.get_ref().as_table()) {
            declarations(options, catalogue, &mut out);
        }
        for (name, place) in module.named_controls() {
            known(name, place, catalogue, &mut out);
        }
        faults.extend(out.sorted());
    }
    for decl in modules.declarations() {
        if catalogue.control(&decl.name).is_some() {
            let name = quoted(&decl.name);
            let fault = Diagnostic::new(format!("{name} is both an option and a control"));
            faults.push(fault.help("rename the control"));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failure(faults))
    }
}

/// Looks through a table of options or fields. Only this and not what it became has the places.
fn declarations(table: &DeTable<'_>, catalogue: &Catalogue, out: &mut Complaints<'_>) {
    for node in table.values() {
        declaration(node.get_ref(), catalogue, out);
    }
}

fn declaration(value: &DeValue<'_>, catalogue: &Catalogue, out: &mut Complaints<'_>) {
    let Some(table) = value.as_table() else {
        return;
    };
    let controls = table.get("controls").and_then(|n| n.get_ref().as_array());
    for node in controls.into_iter().flatten() {
        let Some(name) = node.get_ref().as_str() else {
            continue;
        };
        known(name, node.span(), catalogue, out);
    }
    if let Some(fields) = table.get("fields").and_then(|n| n.get_ref().as_table()) {
        declarations(fields, catalogue, out);
    }
    // The items of a list or map may be records of their own.
    if let Some(items) = table.get("items") {
        declaration(items.get_ref(), catalogue, out);
    }
}

fn known(name: &str, place: Range<usize>, catalogue: &Catalogue, out: &mut Complaints<'_>) {
    if catalogue.control(name).is_some() {
        return;
    }
    let names = catalogue.controls().map(|c| c.name.as_str());
    out.at(
        place,
        format!("there is no control {}", quoted(name)),
        did_you_mean(name, names).unwrap_or_else(|| "unknown".into()),
        "`harden controls` lists all of them",
    );
}
