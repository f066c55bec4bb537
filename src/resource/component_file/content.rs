//! What a component file holds: a text as it is, or tables of which several make one YAML document.

use serde_json::{Map, Value};

use crate::distribution::kubeadm::{document, read_yaml};

/// The content of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// As it is.
    Text(String),
    /// Written as YAML; see [`document`].
    Table(Map<String, Value>),
}

impl Content {
    /// Reads `content`.
    ///
    /// # Errors
    /// It is neither a text nor a table that holds something.
    pub(super) fn new(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Content::Text(text)),
            Value::Object(table) if !table.is_empty() => Ok(Content::Table(table)),
            _ => Err("content: it is neither a text nor a table with something in it".into()),
        }
    }

    /// Returns the text of the file.
    pub(super) fn text(&self) -> String {
        match self {
            Content::Text(text) => text.clone(),
            Content::Table(table) => document(&Value::Object(table.clone())),
        }
    }

    /// Returns what a reader of YAML sees.
    ///
    /// # Errors
    /// That it is no YAML, in one line.
    pub(super) fn value(&self) -> Result<Value, String> {
        match self {
            Content::Text(text) => read_yaml(text).map_err(|error| error.to_string()),
            Content::Table(table) => Ok(Value::Object(table.clone())),
        }
    }

    /// Returns both contents as one: tables key by key, lists item by item. Of two items with the same
    /// `name` one is made, and an item that is there already is not repeated.
    ///
    /// # Errors
    /// What the two want differently.
    pub(super) fn unite(&self, other: &Self) -> Result<Self, String> {
        match (self, other) {
            (Content::Table(one), Content::Table(other)) => {
                unite_tables("", one, other).map(Content::Table)
            }
            _ if self == other => Ok(self.clone()),
            _ => Err("a content that is a text cannot be united with another".into()),
        }
    }
}

fn unite_tables(
    path: &str,
    one: &Map<String, Value>,
    other: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut united = one.clone();
    for (key, value) in other {
        let value = match one.get(key) {
            Some(known) => unite(&format!("{path}{key}"), known, value)?,
            None => value.clone(),
        };
        united.insert(key.clone(), value);
    }
    Ok(united)
}

fn unite(path: &str, one: &Value, other: &Value) -> Result<Value, String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            unite_tables(&format!("{path}."), one, other).map(Value::Object)
        }
        (Value::Array(one), Value::Array(other)) => {
            let mut united = one.clone();
            for item in other {
                let name = item.get("name");
                let twin = |known: &Value| name.is_some() && known.get("name") == name;
                match united.iter().position(twin) {
                    Some(at) => {
                        let name = name.and_then(Value::as_str).unwrap_or_default();
                        united[at] = unite(&format!("{path}[{name}]"), &united[at], item)?;
                    }
                    None if united.contains(item) => {}
                    None => united.push(item.clone()),
                }
            }
            Ok(Value::Array(united))
        }
        (one, other) if one == other => Ok(one.clone()),
        (one, other) => Err(format!("{path} cannot be both {one} and {other}")),
    }
}
