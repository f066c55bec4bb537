//! `[[flag]]`: a flag of a control-plane component, in its three copies.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::control_plane::{Copies, Wanted, same_item};
use super::{Behaviour, Draft, Kind, Part, Resource, Subject};
use crate::distribution::Component;
use crate::distribution::kubeadm::manifest_path;
use crate::fact::{Facts, Query};

/// A flag: a keyed setting, never a string in a list.
///
/// What it removes (`merge = "absent"`) kubeadm may set again at its next upgrade when the flag is
/// one of its own and not of `extraArgs`; there is no way to tell kubeadm to leave out its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flag {
    component: Component,
    name: String,
    wanted: Wanted,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    needs: BTreeSet<String>,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    component: Component,
    name: String,
    value: Option<serde_json::Value>,
    #[serde(default)]
    merge: Merge,
    needs: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Merge {
    #[default]
    Exact,
    Additive,
    Absent,
}

impl Flag {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[flag]]
    /// component = "kube-apiserver"
    /// name      = "profiling"       # without dashes
    /// value     = false             # a scalar, or a list of strings joined by commas
    /// merge     = "exact"           # or "additive": these items at least; "absent": no value
    /// needs     = "x-config"        # held back where the file of this flag is; if anything
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: serde_json::Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        for name in table.needs.iter().chain([&table.name]) {
            check_flag_name(name)?;
        }
        let items = table.value.map(items).transpose()?;
        let wanted = match (table.merge, items) {
            (Merge::Absent, None) => Wanted::Absent,
            (Merge::Absent, Some(_)) => {
                return Err("value: a flag that shall be absent has none".into());
            }
            (_, None) => return Err("value: it is missing".into()),
            (Merge::Exact, Some(items)) => Wanted::Exact(items.join(",")),
            (Merge::Additive, Some(items)) => Wanted::Additive(
                items
                    .iter()
                    .flat_map(|item| item.split(','))
                    .map(str::to_owned)
                    .collect(),
            ),
        };
        match &wanted {
            Wanted::Exact(value) => check_flag_value(value)?,
            Wanted::Additive(items) => check_items(items)?,
            Wanted::Absent => {}
        }
        Ok(Flag {
            component: table.component,
            name: table.name,
            wanted,
            needs: table.needs.into_iter().collect(),
        })
    }
}

/// Checks the name of a flag: lower-case letters, digits and single dashes.
pub(super) fn check_flag_name(name: &str) -> Result<(), String> {
    let good = name
        .split('-')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
        && !name.bytes().any(|b| b.is_ascii_uppercase());
    if good {
        Ok(())
    } else {
        Err(format!(
            "name: {name:?} is not a flag; write it without leading dashes, as in \"audit-log-path\""
        ))
    }
}

/// Checks the items of a list that are to be added.
fn check_items(items: &[String]) -> Result<(), String> {
    for item in items {
        check_flag_value(item)?;
        if item.is_empty() {
            return Err("value: an item to add is empty".into());
        }
        // One would replace the other each time.
        let twin = |other: &&String| *other != item && same_item(other, item);
        if let Some(twin) = items.iter().find(twin) {
            return Err(format!(
                "value: {item:?} and {twin:?} give one key two values"
            ));
        }
    }
    Ok(())
}

/// Checks that the kubelet hands the value on as it is.
fn check_flag_value(value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) {
        return Err(format!("value: {value:?} holds a control character"));
    }
    if value.contains("$(") || value.contains("$$") {
        return Err(format!(
            "value: the kubelet would resolve the `$` in {value:?}; write the resolved value"
        ));
    }
    Ok(())
}

fn items(value: serde_json::Value) -> Result<Vec<String>, String> {
    let scalar = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(_) => Some(value.to_string()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(value.to_string()),
        _ => None,
    };
    match &value {
        serde_json::Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| "value: a list holds strings only".into()),
        value => scalar(value)
            .map(|text| vec![text])
            .ok_or_else(|| "value: it is no string, whole number, boolean or list".into()),
    }
}

impl Behaviour for Flag {
    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)> {
        let value = match &self.wanted {
            Wanted::Exact(value) => serde_json::json!(value),
            Wanted::Additive(items) => serde_json::json!(items.join(",")),
            Wanted::Absent => serde_json::Value::Null,
        };
        let subject = Subject::Flag {
            component: self.component,
            name: self.name.clone(),
        };
        vec![(subject, serde_json::json!({"value": value}))]
    }

    fn unite(&self, other: &Kind) -> Option<Result<Kind, String>> {
        let Kind::Flag(other) = other else {
            return None;
        };
        if self == other {
            return Some(Ok(Kind::Flag(self.clone())));
        }
        let (Wanted::Additive(one), Wanted::Additive(more)) = (&self.wanted, &other.wanted) else {
            return None;
        };
        // By name, so that it is the same whoever of the two comes first.
        let items: BTreeSet<&String> = one.iter().chain(more).collect();
        let items: Vec<String> = items.into_iter().cloned().collect();
        let united = check_items(&items).map(|()| Flag {
            wanted: Wanted::Additive(items),
            needs: self.needs.union(&other.needs).cloned().collect(),
            ..self.clone()
        });
        Some(united.map(Kind::Flag))
    }

    fn name(&self) -> String {
        format!("{} --{}", self.component, self.name)
    }

    fn parts(&self) -> Vec<Part> {
        vec![self.wanted.part(self.component, &self.name)]
    }

    fn needs(&self) -> Vec<Subject> {
        let component = self.component;
        let flag = |name: &String| Subject::Flag {
            component,
            name: name.clone(),
        };
        self.needs.iter().map(flag).collect()
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query::File(manifest_path(self.component)),
            Query::Process(self.component.program()),
        ]
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let copies = Copies::read(resource, self.component, facts, draft);
        copies.compare_flag(&self.name, &self.wanted, |value| value.to_owned(), draft);
    }
}
