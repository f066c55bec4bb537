//! A field of a component's configuration file; what [`kubelet`](super::kubelet) and
//! [`kube_proxy`](super::kube_proxy) share.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigMapRef, Difference, Draft, Effect, Place, Resource, Risk, SettingCopy};
use crate::distribution::kubeadm::fields::{FieldEdit, FieldPath, field, parse_document};
use crate::fact::{Fact, Facts};

/// A field and its wanted value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Field {
    pub(super) path: FieldPath,
    pub(super) value: Value,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    field: Name,
    value: Value,
}

/// Keys joined by dots, or a list of keys where a key holds a dot itself.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Joined(String),
    Keys(Vec<String>),
}

impl Field {
    /// Reads a module's table.
    pub(super) fn from_table(table: Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(table).map_err(|e| e.to_string())?;
        let path: FieldPath = match table.field {
            Name::Joined(text) => text.split('.').map(str::to_owned).collect(),
            Name::Keys(keys) => keys,
        };
        if path.is_empty() || path.iter().any(String::is_empty) {
            return Err("field: a key is empty".into());
        }
        if path.iter().any(|key| key.chars().any(char::is_control)) {
            return Err("field: it holds a control character".into());
        }
        if table.value.is_null() {
            return Err("value: it is missing".into());
        }
        Ok(Field {
            path,
            value: table.value,
        })
    }

    /// The keys joined by dots.
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }

    pub(super) fn edit(&self) -> FieldEdit {
        FieldEdit {
            path: self.path.clone(),
            value: self.value.clone(),
        }
    }

    /// Whether a configuration that is written down says what is wanted. A field that is left to its
    /// default does not: another version may have another one. Except where zero is wanted and what
    /// runs has it: kubeadm writes the file anew without what is zero (`omitempty`), and the next
    /// upgrade would undo the change for ever.
    pub(super) fn is_written(&self, document: &Value, runs_with: impl Fn(&Self) -> bool) -> bool {
        match field(document, &self.path) {
            Some(found) => same(found, &self.value),
            None => is_zero(&self.value) && runs_with(self),
        }
    }

    /// Whether a configuration that a program runs with has what is wanted.
    pub(super) fn is_effective(&self, running: &Value) -> bool {
        is_effective(running, &self.path, &self.value)
    }

    pub(super) fn show_wanted(&self) -> String {
        shown(&self.value)
    }

    pub(super) fn show_found(&self, document: &Value) -> Option<String> {
        show_found(document, &self.path)
    }

    /// Compares the copy in a ConfigMap; `runs_with` says whether everything that reads it runs with what
    /// is wanted. Returns whether it could be read.
    pub(super) fn compare_map(
        &self,
        resource: &Resource,
        map: &ConfigMapRef,
        facts: &Facts,
        runs_with: impl Fn(&Self) -> bool,
        draft: &mut Draft,
    ) -> bool {
        let (message, remedy) = match facts.api.text(&map.query()) {
            Fact::Value(text) => match parse_document(text, map.kind) {
                Ok(document) => {
                    if !self.is_written(&document, runs_with) {
                        let found = Difference {
                            place: Place::Api,
                            copy: Some(map.copy),
                            before: self.show_found(&document),
                            after: Some(self.show_wanted()),
                            // What takes it from there says so itself.
                            risk: Some(Risk::Safe),
                            ..Difference::default()
                        };
                        let effect = Effect::ConfigMapField {
                            map: *map,
                            edit: self.edit(),
                        };
                        draft.change(resource, found, vec![effect]);
                    }
                    return true;
                }
                Err(error) => (format!("{map}: {error}"), error.remedy()),
            },
            Fact::Absent => (
                format!("{map} is not there, so the next upgrade would undo the change"),
                match map.copy {
                    SettingCopy::KubeProxyConfig => {
                        "where this cluster runs no kube-proxy, name its options in `unset`; else `kubeadm init phase addon kube-proxy` writes it"
                    }
                    _ => {
                        "put back what kubeadm wrote: `kubeadm init phase upload-config all --config FILE`"
                    }
                },
            ),
            Fact::Unreadable(why) => (
                format!("{map} could not be read: {why}"),
                "make it readable for the kubeconfig in use, and plan again",
            ),
        };
        draft.error(resource, Place::Api, message, remedy);
        false
    }
}

/// The value of a field in one line, for a reader.
pub(super) fn show_found(document: &Value, path: &[String]) -> Option<String> {
    field(document, path).map(shown)
}

/// Whether a configuration that a program runs with has this value. `omitempty` leaves out what is
/// zero, so what is not there is zero.
pub fn is_effective(running: &Value, path: &[String], wanted: &Value) -> bool {
    match field(running, path) {
        Some(found) => same(found, wanted) || (is_zero(found) && is_zero(wanted)),
        None => is_zero(wanted),
    }
}

/// Whether two values mean the same. Kubernetes writes durations its own way: `4h` comes back as
/// `4h0m0s` (apimachinery metav1.Duration), so texts that are durations are compared as such.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            a == b || matches!((duration(a), duration(b)), (Some(a), Some(b)) if a == b)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// Reads a duration as Go's `time.ParseDuration` does, in nanoseconds; only whole numbers before the
/// units, which is how they are written.
fn duration(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u128 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let units: [(&str, u128); 6] = [
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (unit, nanoseconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        sum = sum.checked_add(number.checked_mul(nanoseconds)?)?;
    }
    (!text.is_empty()).then_some(sum)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || duration(text) == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

/// A value in one line. What a node wrote is cleaned.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(",")
        }
        other => crate::fact::canonical_json(other),
    };
    let text = crate::fact::probe::clean_text(&text).replace('\n', " ");
    match text.char_indices().nth(200) {
        Some((cut, _)) => format!("{} …", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_compared_by_what_they_mean() {
        for (a, b) in [("4h", "4h0m0s"), ("90s", "1m30s"), ("0s", "0"), ("x", "x")] {
            assert!(same(&json!(a), &json!(b)), "{a} {b}");
        }
        for (a, b) in [("4h", "5h"), ("m", "0s"), ("1", "1ns"), ("", "0s")] {
            assert!(!same(&json!(a), &json!(b)), "{a} {b}");
        }
    }

    #[test]
    fn what_is_left_out_is_zero_when_it_runs_and_unset_where_it_is_written() {
        let field = |value| Field::from_table(json!({"field": "readOnlyPort", "value": value}));
        let zero = field(json!(0)).unwrap();
        assert!(zero.is_effective(&json!({})));
        assert!(!zero.is_written(&json!({}), |_| false));
        assert!(zero.is_written(&json!({}), |_| true));
        assert!(!zero.is_written(&json!({"readOnlyPort": 10255}), |_| true));
        assert!(!field(json!(1)).unwrap().is_written(&json!({}), |_| true));
        assert!(!field(json!(10255)).unwrap().is_effective(&json!({})));
    }

    #[test]
    fn a_table_without_a_field_or_value_is_refused() {
        for bad in [
            json!({"field": "", "value": 1}),
            json!({"field": "a..b", "value": 1}),
            json!({"field": [], "value": 1}),
            json!({"field": "a", "value": null}),
            json!({"field": "a", "value": 1, "other": 2}),
        ] {
            assert!(Field::from_table(bad.clone()).is_err(), "{bad}");
        }
    }
}
