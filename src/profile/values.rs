//! The merged values of all options, each with every definition that was made of it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::diagnostic::Source;
use crate::resource::Origin;

/// The merged values by the option's full name. An option without a value is unmanaged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    pub(crate) values: BTreeMap<String, Value>,
    /// What was taken back by `unset`, sorted, and where.
    pub unset: Vec<(String, Source)>,
}

/// A merged value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What holds.
    pub content: Content,
    /// Every definition of it, importing files before the files they import, then by name.
    pub definitions: Vec<Definition>,
}

/// What a [`Value`] holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A value that was merged as a whole; of a set, the sorted union.
    Whole(Json),
    /// Values that were merged one by one: the entries of a map, the fields of a record.
    Entries(BTreeMap<String, Value>),
}

/// One definition of a value in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// What the file says; of a table only that it is there.
    pub value: Option<Json>,
    /// Where it says so.
    pub place: Source,
    /// Whether it holds, or a file that imports this one says otherwise.
    pub holds: bool,
}

impl Values {
    /// Returns the value of an option by its full name.
    pub fn get(&self, option: &str) -> Option<&Value> {
        self.values.get(option)
    }

    /// Returns every option that has a value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }
}

impl Value {
    /// Returns the value as JSON.
    pub fn json(&self) -> Json {
        match &self.content {
            Content::Whole(json) => json.clone(),
            Content::Entries(entries) => {
                Json::Object(entries.iter().map(|(k, v)| (k.clone(), v.json())).collect())
            }
        }
    }

    /// Returns where the value comes from, under the name it has in the profile.
    pub(crate) fn origins(&self, name: &str) -> Vec<Origin> {
        match &self.content {
            Content::Entries(entries) if !entries.is_empty() => entries
                .iter()
                .flat_map(|(key, value)| value.origins(&format!("{name}.{key}")))
                .collect(),
            _ => self.own_origins(name),
        }
    }

    /// Returns where the value itself is defined, whatever is in it.
    pub(crate) fn own_origins(&self, name: &str) -> Vec<Origin> {
        self.definitions
            .iter()
            .filter(|definition| definition.holds)
            .map(|definition| Origin {
                option: name.to_owned(),
                file: definition.place.file.clone(),
                line: definition.place.line(),
            })
            .collect()
    }
}
