//! The values that a workspace gives to an option or field, each with every place that says so.

use serde::Serialize;
use serde_json::Value as Json;

use crate::module::{Modules, OptionDecl, Type};
use crate::profile::{Content, Value, Values};

/// One value of the workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The name in the profile: `tenants.payments.quota.pods`.
    pub name: String,
    /// What holds.
    pub value: Json,
    /// Every place that says something, importing files before the files they import.
    pub definitions: Vec<Place>,
}

/// A place that says what a value is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// As the user names it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What it says there; of a table only that it is there.
    pub value: Option<Json>,
    /// Whether it holds, or a file that imports this one says otherwise.
    pub holds: bool,
}

/// The values of an option, or of one of its fields in every record that has it.
pub fn settings(decl: &OptionDecl, modules: &Modules, values: &Values) -> Vec<Setting> {
    let mut found = Vec::new();
    for option in modules.options() {
        let Some(rest) = decl.name.strip_prefix(&option.name) else {
            continue;
        };
        let path: Vec<&str> = match rest.strip_prefix('.') {
            Some(path) => path.split('.').collect(),
            None if rest.is_empty() => Vec::new(),
            None => continue,
        };
        if let Some(value) = values.get(&option.name) {
            fields(option, &option.name, value, &path, &mut found);
        }
    }
    found
}

/// Finds the option of a value that the workspace has, and what lies at the value's name.
pub(super) fn value_of<'m>(
    name: &str,
    modules: &'m Modules,
    values: &Values,
) -> Option<(&'m OptionDecl, Vec<Setting>)> {
    let mut options = modules.options();
    let (mut decl, rest) = options.find_map(|option| {
        let rest = name.strip_prefix(&option.name)?.strip_prefix('.')?;
        Some((option, rest))
    })?;
    let mut settings = settings(decl, modules, values);
    settings.retain(|one| {
        let rest = one.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    let mut path = rest.split('.');
    loop {
        let field = match &decl.ty {
            Type::Attrs(fields) => path.nth(1).and_then(|field| fields.get(field)),
            Type::Record(fields) => path.next().and_then(|field| fields.get(field)),
            _ => None,
        };
        match field {
            Some(field) => decl = field,
            None => break,
        }
    }
    (!settings.is_empty()).then_some((decl, settings))
}

/// Follows the names of fields into a value.
fn fields(decl: &OptionDecl, name: &str, value: &Value, path: &[&str], found: &mut Vec<Setting>) {
    let Some((field, rest)) = path.split_first() else {
        return leaves(name, value, found);
    };
    let Content::Entries(entries) = &value.content else {
        return;
    };
    match &decl.ty {
        Type::Record(known) => {
            if let (Some(decl), Some(inner)) = (known.get(*field), entries.get(*field)) {
                fields(decl, &format!("{name}.{field}"), inner, rest, found);
            }
        }
        Type::Attrs(known) => {
            for (entry, value) in entries {
                let Content::Entries(record) = &value.content else {
                    continue;
                };
                if let (Some(decl), Some(inner)) = (known.get(*field), record.get(*field)) {
                    fields(decl, &format!("{name}.{entry}.{field}"), inner, rest, found);
                }
            }
        }
        _ => {}
    }
}

/// Lists a table value by value, since each may come from a place of its own.
fn leaves(name: &str, value: &Value, found: &mut Vec<Setting>) {
    match &value.content {
        Content::Entries(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                leaves(&format!("{name}.{key}"), value, found);
            }
        }
        _ => found.push(Setting {
            name: name.to_owned(),
            value: value.json(),
            definitions: value
                .definitions
                .iter()
                .map(|definition| Place {
                    file: definition.place.file.clone(),
                    line: definition.place.line(),
                    value: definition.value.clone(),
                    holds: definition.holds,
                })
                .collect(),
        }),
    }
}
