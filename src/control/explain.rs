//! All there is to know of an option or a control, from one name.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Catalogue;
use super::coverage::{Covered, State, coverage};
use super::setting::{Setting, settings, value_of};
use crate::module::{Modules, OptionDecl, Type};
use crate::profile::section::{did_you_mean, quoted};
use crate::profile::{Diagnostic, Values};
use crate::resource::Risk;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Explained {
    /// An option, or a field of one.
    Option(OptionCard),
    /// A control.
    Control(ControlCard),
}

/// An option, or a field of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptionCard {
    /// The full name.
    pub name: String,
    /// What it does.
    pub doc: String,
    /// What its values look like.
    #[serde(rename = "type")]
    pub ty: String,
    /// How dangerous a change is.
    pub risk: Risk,
    /// Whether all nodes must share the value while it is being changed.
    pub uniform: bool,
    /// The module that declares it.
    pub module: String,
    /// What the module is about.
    pub summary: String,
    /// A value as TOML text.
    pub example: Option<String>,
    /// The controls it serves.
    pub controls: Vec<TitledControl>,
    /// The fields of a record.
    pub fields: Vec<FieldLine>,
    /// What the workspace says; `None` outside of one.
    pub values: Option<Vec<Setting>>,
}

/// A control in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TitledControl {
    /// The stable name.
    pub name: String,
    /// What holds where it is kept.
    pub title: String,
}

/// A field in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldLine {
    /// The full name, to be explained itself.
    pub name: String,
    /// What it does.
    pub doc: String,
}

/// A control.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ControlCard {
    /// The stable name.
    pub name: String,
    /// What holds where it is kept.
    pub title: String,
    /// What can happen otherwise.
    pub why: String,
    /// What enforcing it can break.
    pub hazard: Option<String>,
    /// The level of the CIS profile.
    pub level: Option<u8>,
    /// What the program can do about it.
    pub state: State,
    /// The options that serve it.
    pub options: Vec<FieldLine>,
    /// What it asks, as `SUBJECT: CONDITION`.
    pub checks: Vec<String>,
    /// The modules that assert it of the profile; what does not hold is a finding.
    pub asserted: Vec<String>,
    /// The tests that prove it on a real cluster.
    pub proof: Vec<String>,
    /// Why no test proves it there.
    pub unproven: Option<String>,
    /// Its ids by benchmark.
    pub ids: BTreeMap<String, Vec<String>>,
}

/// Looks a name up. `values` are those of the workspace, if there is one; a value's full name, such
/// as `tenants.payments.quota`, then stands for its option.
///
/// # Errors
/// There is neither an option nor a control of that name; says which is the nearest.
pub fn explain(
    name: &str,
    catalogue: &Catalogue,
    modules: &Modules,
    values: Option<&Values>,
) -> Result<Explained, Box<Diagnostic>> {
    let declarations = modules.declarations();
    if let Some(decl) = declarations.iter().find(|decl| decl.name == name) {
        return Ok(Explained::Option(option_card(
            decl, catalogue, modules, values,
        )));
    }
    if let Some((decl, settings)) = values.and_then(|values| value_of(name, modules, values)) {
        let mut card = option_card(decl, catalogue, modules, values);
        card.values = Some(settings);
        return Ok(Explained::Option(card));
    }
    let covered = coverage(catalogue, modules);
    if let Some(one) = covered.iter().find(|one| one.control.name == name) {
        return Ok(Explained::Control(control_card(
            one,
            modules,
            &declarations,
        )));
    }
    let fault = Diagnostic::new(format!("there is no option or control {}", quoted(name)));
    // Somebody who types the number of a check, or a section, is nearly there.
    if modules.has_section(name) {
        let help = format!("it is a section: `harden options {name}` lists what is in it");
        return Err(Box::new(fault.help(help)));
    }
    let is_number = name.starts_with(|c: char| c.is_ascii_digit());
    if is_number && covered.iter().any(|one| one.matches(name)) {
        let help = format!("`harden controls {name}` lists the controls of that number");
        return Err(Box::new(fault.help(help)));
    }
    let options = declarations.iter().map(|decl| decl.name.as_str());
    let controls = catalogue.controls().map(|control| control.name.as_str());
    let near = did_you_mean(name, options.chain(controls));
    let near = near.map(|near| format!("{near} ")).unwrap_or_default();
    Err(Box::new(fault.help(format!(
        "{near}`harden controls` lists the controls and the options that serve them"
    ))))
}

fn option_card(
    decl: &OptionDecl,
    catalogue: &Catalogue,
    modules: &Modules,
    values: Option<&Values>,
) -> OptionCard {
    let module = decl.name.split('.').next().unwrap_or(&decl.name);
    let summary = modules.iter().find(|(name, _)| *name == module);
    let controls = decl.controls.iter().filter_map(|name| {
        let control = catalogue.control(name)?;
        Some(TitledControl {
            name: name.clone(),
            title: control.title.clone(),
        })
    });
    OptionCard {
        name: decl.name.clone(),
        doc: decl.doc.clone(),
        ty: decl.ty.describe(),
        risk: decl.risk,
        uniform: decl.uniform,
        module: module.to_owned(),
        summary: summary.map_or_else(String::new, |(_, m)| m.summary.clone()),
        example: decl.example.clone(),
        controls: controls.collect(),
        fields: match &decl.ty {
            Type::Record(fields) | Type::Attrs(fields) => fields.values().map(line).collect(),
            _ => Vec::new(),
        },
        values: values.map(|values| settings(decl, modules, values)),
    }
}

fn control_card(one: &Covered<'_>, modules: &Modules, declarations: &[&OptionDecl]) -> ControlCard {
    let control = one.control;
    let serving = declarations
        .iter()
        .filter(|decl| decl.controls.contains(&control.name));
    ControlCard {
        name: control.name.clone(),
        title: control.title.clone(),
        why: control.why.clone(),
        hazard: control.hazard.clone(),
        level: control.level,
        state: one.state,
        options: serving.map(|decl| line(decl)).collect(),
        checks: checks(&control.name, modules),
        asserted: modules
            .iter()
            .filter(|(_, module)| module.asserts(&control.name))
            .map(|(name, _)| name.to_owned())
            .collect(),
        proof: control.proof.clone(),
        unproven: control.unproven.clone(),
        ids: control.ids.clone(),
    }
}

fn checks(control: &str, modules: &Modules) -> Vec<String> {
    let all = modules.iter().flat_map(|(_, module)| &module.checks);
    all.filter(|check| check.control == control)
        .map(|check| {
            let words: Vec<&str> = check.condition().split_whitespace().collect();
            format!("{}: {}", check.subject, words.join(" "))
        })
        .collect()
}

fn line(decl: &OptionDecl) -> FieldLine {
    FieldLine {
        name: decl.name.clone(),
        doc: decl.doc.clone(),
    }
}
