//! Whether a server-side apply would change nothing, told from the object alone.
//!
//! Two things are compared, and both must hold: every field that is wanted has its value, and the
//! fields that the server notes as ours are exactly those that are wanted. The second is what a
//! comparison of values alone would miss: a field that is not wanted any more and that an apply would
//! remove. Whatever is not certain is a [`Doubt`], and a dry run decides.
//!
//! Source: structured-merge-diff v6 `typed/tofieldset.go` (which fields an apply owns),
//! `fieldpath/serialize-pe.go` (how they are written), and apimachinery v0.35
//! `pkg/util/managedfields/internal/stripmeta.go` (which are left out).

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use super::defaults::filled_in;
use super::quantity::canonical;
use super::stray::strays;
use crate::fact::below;

/// Why only the server can tell what an apply would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The field, as in `.spec.hard.pods`; empty for the object as a whole.
    pub field: String,
    /// What is not certain.
    pub why: &'static str,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(self.why),
            field => write!(f, "{field}: {}", self.why),
        }
    }
}

type Checked = Result<(), Doubt>;

/// What every apply leaves out of the fields that it owns.
const NOT_OWNED: [&str; 4] = ["apiVersion", "kind", "name", "namespace"];

/// Proves that applying `wanted` as field manager `manager` would change nothing about `live`, not even
/// who owns which field.
///
/// # Errors
/// The first thing that keeps it from being proved. That is no statement that something would change.
pub fn prove_converged(wanted: &Value, live: &Value, manager: &str) -> Result<(), Doubt> {
    let whole = |why| {
        Err(Doubt {
            field: String::new(),
            why,
        })
    };
    if below(live, &["metadata", "deletionTimestamp"]).is_some() {
        return whole("it is being deleted");
    }
    let entries = below(live, &["metadata", "managedFields"]);
    let mut ours = entries
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| is_ours(entry, manager));
    let (Some(entry), None) = (ours.next(), ours.next()) else {
        return whole("it was not applied by us");
    };
    if entry.get("apiVersion") != wanted.get("apiVersion") || entry["fieldsType"] != "FieldsV1" {
        return whole("it was applied in another version");
    }
    if let Some(stray) = strays(wanted, live).first() {
        return Err(Doubt {
            field: format!(".{}", stray.field),
            why: "it is there and not wanted",
        });
    }
    let filled = filled_in(wanted);
    let (Some(owned), Value::Object(wanted), Value::Object(live)) =
        (entry["fieldsV1"].as_object(), &*filled, live)
    else {
        return whole("its managedFields cannot be read");
    };
    let kind = wanted.get("kind").and_then(Value::as_str);
    let version = wanted.get("apiVersion").and_then(Value::as_str);
    let quantities = match (version, kind) {
        (Some("v1"), Some("ResourceQuota")) => Quantities::Hard,
        (Some("v1"), Some("LimitRange")) => Quantities::Limits,
        _ => Quantities::None,
    };
    Proof { quantities }.root(owned, wanted, live)
}

fn is_ours(entry: &Value, manager: &str) -> bool {
    entry["manager"] == manager
        && entry["operation"] == "Apply"
        && entry.get("subresource").is_none_or(|sub| *sub == "")
}

/// Where a kind has quantities, which the server keeps in a form of its own.
#[derive(Clone, Copy, PartialEq)]
enum Quantities {
    None,
    /// `spec.hard` of a ResourceQuota.
    Hard,
    /// The maps in `spec.limits` of a LimitRange.
    Limits,
}

/// The way from the root to a value.
struct Path<'p> {
    up: Option<&'p Path<'p>>,
    key: &'p str,
}

impl Path<'_> {
    fn text(&self) -> String {
        let up = self.up.map(Path::text).unwrap_or_default();
        match self.key {
            "" => up,
            key => format!("{up}.{key}"),
        }
    }

    fn doubt(&self, why: &'static str) -> Checked {
        Err(Doubt {
            field: self.text(),
            why,
        })
    }
}

struct Proof {
    quantities: Quantities,
}

impl Proof {
    fn root(
        &self,
        owned: &Map<String, Value>,
        wanted: &Map<String, Value>,
        live: &Map<String, Value>,
    ) -> Checked {
        let root = Path { up: None, key: "" };
        let is_owned = |key: &str| !NOT_OWNED[..2].contains(&key);
        let mut expected = 0;
        for (key, value) in wanted.iter().filter(|(key, _)| is_owned(key)) {
            let path = Path {
                up: Some(&root),
                key,
            };
            if key != "metadata" {
                expected += 1;
                self.entry(owned, &path, value, live.get(key))?;
                continue;
            }
            let Value::Object(fields) = value else {
                return path.doubt("it is no table");
            };
            let is_owned = |key: &String| !NOT_OWNED[2..].contains(&key.as_str());
            let mut fields = fields.iter().filter(|(key, _)| is_owned(key)).peekable();
            if fields.peek().is_none() {
                continue;
            }
            expected += 1;
            match (owned.get("f:metadata"), live.get(key)) {
                (Some(Value::Object(own)), Some(Value::Object(live))) => {
                    self.table(own, &path, fields, live)?;
                }
                _ => return path.doubt("it is wanted and not ours"),
            }
        }
        match owned.len() == expected {
            true => Ok(()),
            false => root.doubt("a field is ours that is not wanted any more"),
        }
    }

    /// One field: what we own of it, what is wanted, what is there.
    fn entry(
        &self,
        owned: &Map<String, Value>,
        path: &Path<'_>,
        wanted: &Value,
        live: Option<&Value>,
    ) -> Checked {
        let Some(Value::Object(own)) = owned.get(&format!("f:{}", path.key)) else {
            return path.doubt("it is wanted and not ours");
        };
        self.value(own, path, wanted, live)
    }

    fn value(
        &self,
        own: &Map<String, Value>,
        path: &Path<'_>,
        wanted: &Value,
        live: Option<&Value>,
    ) -> Checked {
        if own.is_empty() {
            return self.leaf(path, wanted, live);
        }
        match (wanted, live) {
            (Value::Object(wanted), Some(Value::Object(live))) => {
                self.table(own, path, wanted.iter(), live)
            }
            (Value::Array(wanted), Some(Value::Array(live))) => self.list(own, path, wanted, live),
            _ => path.doubt("it is of another shape than what is ours"),
        }
    }

    /// What is owned as a whole: a plain value, or a table or list that is never merged.
    fn leaf(&self, path: &Path<'_>, wanted: &Value, live: Option<&Value>) -> Checked {
        let Some(live) = live else {
            // An empty list that we own and that is not there: the server does not keep such.
            return match wanted {
                Value::Array(items) if items.is_empty() => Ok(()),
                _ => path.doubt("it is not there"),
            };
        };
        match wanted.is_null() || !self.is_same(path, wanted, live) {
            true => path.doubt("it has another value"),
            false => Ok(()),
        }
    }

    fn table<'w>(
        &self,
        own: &Map<String, Value>,
        path: &Path<'_>,
        wanted: impl Iterator<Item = (&'w String, &'w Value)>,
        live: &Map<String, Value>,
    ) -> Checked {
        let mut expected = 0;
        for (key, value) in wanted {
            expected += 1;
            let below = Path {
                up: Some(path),
                key,
            };
            self.entry(own, &below, value, live.get(key))?;
        }
        // Each wanted one was found, so more than that are ours and not wanted.
        match own.keys().filter(|key| *key != ".").count() == expected {
            true => Ok(()),
            false => path.doubt("a field in it is ours that is not wanted any more"),
        }
    }

    /// A list that is merged by item: a set of plain values, or items with keys.
    fn list(
        &self,
        own: &Map<String, Value>,
        path: &Path<'_>,
        wanted: &[Value],
        live: &[Value],
    ) -> Checked {
        let mut taken = vec![false; wanted.len()];
        // Where each wanted item is among those that are there.
        let mut places = vec![0; wanted.len()];
        for (name, own) in own.iter().filter(|(name, _)| *name != ".") {
            let Value::Object(own) = own else {
                return path.doubt("what is ours in it cannot be read");
            };
            let below = Path {
                up: Some(path),
                key: name,
            };
            let read = |text: &str| serde_json::from_str::<Value>(text).ok();
            let (at, place) = if let Some(value) = name.strip_prefix("v:").and_then(read) {
                let among = |items: &[Value]| only(items, |item| *item == value);
                (among(wanted), among(live))
            } else if let Some(Value::Object(keys)) = name.strip_prefix("k:").and_then(read) {
                let has = |item: &Value| keys.iter().all(|(k, v)| item.get(k) == Some(v));
                // A key that the server filled in is not among what is ours of the item.
                let may_be = |item: &Value| {
                    keys.iter().all(|(k, v)| match item.get(k) {
                        Some(found) => found == v,
                        None => !own.is_empty() && !own.contains_key(&format!("f:{k}")),
                    })
                };
                (only(wanted, may_be), only(live, has))
            } else {
                return path.doubt("its items have no names");
            };
            let (Some(at), Some(place)) = (at, place) else {
                return below.doubt("the item is not both wanted and there, once each");
            };
            if std::mem::replace(&mut taken[at], true) {
                return below.doubt("it is wanted twice");
            }
            places[at] = place;
            self.value(own, &below, &wanted[at], Some(&live[place]))?;
        }
        if taken.contains(&false) {
            return path.doubt("an item is wanted and not ours");
        }
        match places.is_sorted() {
            true => Ok(()),
            false => path.doubt("its items stand in another order"),
        }
    }

    fn is_same(&self, path: &Path<'_>, wanted: &Value, live: &Value) -> bool {
        match (wanted, live) {
            _ if wanted == live => true,
            (Value::String(_) | Value::Number(_), Value::String(kept)) => {
                let text = match wanted {
                    Value::String(text) => Cow::Borrowed(text.as_str()),
                    number => Cow::Owned(number.to_string()),
                };
                self.is_quantity(path) && canonical(&text).as_deref() == Some(kept)
            }
            (Value::Object(wanted), Value::Object(live)) => {
                wanted.len() == live.len()
                    && wanted.iter().all(|(key, value)| {
                        let below = Path {
                            up: Some(path),
                            key,
                        };
                        live.get(key)
                            .is_some_and(|live| self.is_same(&below, value, live))
                    })
            }
            (Value::Array(wanted), Value::Array(live)) => {
                let below = Path {
                    up: Some(path),
                    key: "[]",
                };
                wanted.len() == live.len()
                    && wanted
                        .iter()
                        .zip(live)
                        .all(|(wanted, live)| self.is_same(&below, wanted, live))
            }
            _ => false,
        }
    }

    /// Whether the API has a quantity there.
    /// Source: kubernetes v1.35 `staging/src/k8s.io/api/core/v1/types.go`, ResourceQuotaSpec and
    /// LimitRangeItem.
    fn is_quantity(&self, path: &Path<'_>) -> bool {
        let Some(map) = path.up else { return false };
        let above = match self.quantities {
            Quantities::None => return false,
            Quantities::Hard => return map.key == "hard" && map.text() == ".spec.hard",
            Quantities::Limits => map.up.map(Path::text),
        };
        above.as_deref() == Some(".spec.limits.[]")
    }
}

/// The place of the one item for which something holds.
fn only(items: &[Value], holds: impl Fn(&Value) -> bool) -> Option<usize> {
    let mut found = (0..items.len()).filter(|at| holds(&items[*at]));
    match (found.next(), found.next()) {
        (Some(at), None) => Some(at),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
