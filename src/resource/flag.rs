//! `[[flag]]`: a flag of a control-plane component, in its three copies.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::control_plane::Copies;
use super::servers::Servers;
use super::wanted::Wanted;
use super::{Behaviour, Draft, Kind, Part, Resource, Subject};
use crate::distribution::Component;
use crate::distribution::k3s::Layout;
use crate::distribution::kubeadm::manifest_path;
use crate::distribution::list::{holds, same_item};
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
    merge: Option<Merge>,
    #[serde(default)]
    without: Vec<String>,
    needs: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Merge {
    Exact,
    Additive,
    Present,
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
    /// merge     = "exact"           # or "additive": these items at least; "absent": no value;
    ///                               # "present": any value, this one where there is none
    /// without   = ["AlwaysAdmit"]   # items that the list must not have; alone, or beside "additive"
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
        let without = table.without;
        let wanted = match (table.merge, items) {
            (Some(Merge::Additive), Some(items)) => Wanted::List {
                with: items
                    .iter()
                    .flat_map(|item| item.split(','))
                    .map(str::to_owned)
                    .collect(),
                without,
            },
            (None, None) if !without.is_empty() => Wanted::List {
                with: Vec::new(),
                without,
            },
            _ if !without.is_empty() => {
                return Err("without: it stands alone or beside merge = \"additive\"".into());
            }
            (Some(Merge::Absent), None) => Wanted::Absent,
            (Some(Merge::Absent), Some(_)) => {
                return Err("value: a flag that shall be absent has none".into());
            }
            (_, None) => return Err("value: it is missing".into()),
            (Some(Merge::Present), Some(items)) => Wanted::Present(items.join(",")),
            (None | Some(Merge::Exact), Some(items)) => Wanted::Exact(items.join(",")),
        };
        match &wanted {
            Wanted::Exact(value) => check_flag_value(value)?,
            Wanted::Present(value) if value.is_empty() => {
                return Err("value: an empty one is none".into());
            }
            Wanted::Present(value) => check_flag_value(value)?,
            Wanted::List { with, without } => check_items(with, without)?,
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

/// Checks the items of a list that are wanted and unwanted.
fn check_items(with: &[String], without: &[String]) -> Result<(), String> {
    for (field, item) in with
        .iter()
        .map(|item| ("value", item))
        .chain(without.iter().map(|item| ("without", item)))
    {
        check_flag_value(item).map_err(|e| e.replacen("value:", &format!("{field}:"), 1))?;
        if item.is_empty() {
            return Err(format!("{field}: an item is empty"));
        }
    }
    if let Some(item) = without.iter().find(|item| item.contains(',')) {
        return Err(format!(
            "without: {item:?} is several items; list them one by one"
        ));
    }
    for item in with {
        // One would replace the other each time.
        let twin = |other: &&String| *other != item && same_item(other, item);
        if let Some(twin) = with.iter().find(twin) {
            return Err(format!(
                "value: {item:?} and {twin:?} give one key two values"
            ));
        }
        if holds(without, item) {
            return Err(format!("without: {item:?} is wanted as well"));
        }
    }
    Ok(())
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
            Wanted::Present(value) => serde_json::json!(value),
            Wanted::List { with, .. } if with.is_empty() => serde_json::Value::Null,
            Wanted::List { with, .. } => serde_json::json!(with.join(",")),
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
        // Shares of one list stay apart: one that needs consent must not hold the others back. The plan
        // makes one edit of them.
        (self == other).then(|| Ok(Kind::Flag(self.clone())))
    }

    fn name(&self) -> String {
        format!("{} --{}", self.component, self.name)
    }

    fn shares_with(&self, other: &Kind) -> bool {
        match other {
            Kind::Flag(other) => {
                self.component == other.component
                    && self.name == other.name
                    && self.wanted.shares_with(&other.wanted)
            }
            _ => false,
        }
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

    fn queries_on_k3s(&self, layout: &'static Layout) -> Option<Vec<Query>> {
        Servers::queries(layout, self.component)
    }

    fn diff_on_k3s(
        &self,
        layout: &'static Layout,
        resource: &Resource,
        facts: &Facts,
        draft: &mut Draft,
    ) {
        let servers = Servers::read(layout, resource, self.component, facts, draft);
        servers.compare_flag(&self.name, &self.wanted, draft);
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let copies = Copies::read(resource, self.component, facts, draft);
        copies.compare_flag(&self.name, &self.wanted, |value| value.to_owned(), draft);
    }
}
