//! Options that do not exist everywhere: in which versions of Kubernetes and distributions.

use super::{Minors, Modules, OptionDecl, Type};
use crate::profile::section::quoted;
use crate::profile::{Content, Diagnostic, Value, Workspace};

/// Complains about every option that has a value and does not exist in the distribution of the cluster.
pub(super) fn elsewhere(workspace: &Workspace, modules: &Modules) -> Vec<Diagnostic> {
    let here = workspace.cluster.distribution.name();
    let mut set = declared_values(workspace, modules);
    set.retain(|(decl, _)| !decl.distributions.iter().any(|name| name == here));
    let fault = |(decl, value): (&OptionDecl, &Value)| {
        not_there(decl, value, here, &decl.distributions.join(", "))
    };
    set.into_iter().map(fault).collect()
}

/// Complains about every option that has a value and does not exist in the cluster's version of
/// Kubernetes. `version` is asked only when a value depends on it, and answers like `1.35`.
///
/// # Errors
/// Those of `version`.
pub fn unavailable<E>(
    workspace: &Workspace,
    modules: &Modules,
    version: impl FnOnce() -> Result<String, E>,
) -> Result<Vec<Diagnostic>, E> {
    let mut set = declared_values(workspace, modules);
    set.retain(|(decl, _)| decl.kubernetes != Minors::default());
    if set.is_empty() {
        return Ok(Vec::new());
    }
    let version = version()?;
    let minor = version
        .strip_prefix("1.")
        .and_then(|text| text.parse().ok());
    set.retain(|(decl, _)| !minor.is_some_and(|minor| decl.kubernetes.contains(minor)));
    let fault = |(decl, value): (&OptionDecl, &Value)| {
        let what = format!("Kubernetes {version}");
        not_there(decl, value, &what, &decl.kubernetes.to_string())
    };
    Ok(set.into_iter().map(fault).collect())
}

fn not_there(decl: &OptionDecl, value: &Value, here: &str, there: &str) -> Diagnostic {
    let message = format!("{} does not exist in {here}", quoted(&decl.name));
    let mut fault = Diagnostic::new(message);
    let holding = value.definitions.iter().find(|d| d.holds);
    fault.place = holding.map(|d| d.place.clone());
    if let Some(place) = &mut fault.place {
        place.label = format!("it exists in {there}");
    }
    fault.help("remove it, or `unset` it when an import sets it")
}

/// Lists every value with the option or field that declares it.
fn declared_values<'m, 'w>(
    workspace: &'w Workspace,
    modules: &'m Modules,
) -> Vec<(&'m OptionDecl, &'w Value)> {
    fn walk<'m, 'w>(
        decl: &'m OptionDecl,
        value: &'w Value,
        found: &mut Vec<(&'m OptionDecl, &'w Value)>,
    ) {
        found.push((decl, value));
        let Content::Entries(entries) = &value.content else {
            return;
        };
        let records = match &decl.ty {
            Type::Record(fields) => vec![(fields, entries)],
            Type::Attrs(fields) => entries
                .values()
                .filter_map(|entry| match &entry.content {
                    Content::Entries(entries) => Some((fields, entries)),
                    Content::Whole(_) => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        for (fields, entries) in records {
            for (name, value) in entries {
                if let Some(decl) = fields.get(name) {
                    walk(decl, value, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    for (name, value) in workspace.values.iter() {
        if let Some(decl) = modules.option(name) {
            walk(decl, value, &mut found);
        }
    }
    found
}
