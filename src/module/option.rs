//! Options: what a profile may say, and the check that it says it well.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value as Json;
use toml::de::DeValue;

use crate::fact::canonical_json;
use crate::profile::section::{Complaints, Node, did_you_mean, integer, kind, one_of, quoted};
use crate::resource::Risk;

/// A typed setting that profiles may set.
#[derive(Debug, Clone)]
pub struct OptionDecl {
    /// The full name, for example `apiserver.profiling`; of a record's field, `tenants.quota`.
    pub name: String,
    /// What its values look like.
    pub ty: Type,
    /// What it does, in one sentence.
    pub doc: String,
    /// How dangerous a change of what it stands for is.
    pub risk: Risk,
    /// The controls that it serves, by stable name.
    pub controls: Vec<String>,
    /// A value for the reference, as TOML text.
    pub example: Option<String>,
    /// Whether all nodes must share the value while it is being changed.
    pub uniform: bool,
}

/// The fields of a record by name.
pub type Fields = BTreeMap<String, OptionDecl>;

/// What the values of an option look like.
#[derive(Debug, Clone)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number within inclusive bounds.
    Int {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Text.
    String {
        /// What the whole text must match.
        pattern: Option<Pattern>,
    },
    /// One of some words.
    Enum(Vec<String>),
    /// Items in order; a later definition replaces an earlier one.
    List(Box<Type>),
    /// Items without order; definitions unite.
    Set(Box<Type>),
    /// Values by any name; definitions unite name by name.
    Map(Box<Type>),
    /// Named fields.
    Record(Fields),
    /// Records by any name; definitions unite field by field.
    Attrs(Fields),
    /// A structure of Kubernetes, kept as it is.
    Object,
}

/// A regular expression that a whole text must match.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As the module has it.
    pub source: String,
    pub(crate) whole: regex::Regex,
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(source: &str) -> Result<Self, regex::Error> {
        Ok(Pattern {
            source: source.to_owned(),
            whole: regex::Regex::new(&format!("^(?:{source})$"))?,
        })
    }
}

impl Type {
    /// Describes the values for a reader: "an integer from 0 to 9".
    pub fn describe(&self) -> String {
        match self {
            Type::Bool => "true or false".into(),
            Type::Int { min, max } => match (*min, *max) {
                (i64::MIN, i64::MAX) => "an integer".into(),
                (min, i64::MAX) => format!("an integer of at least {min}"),
                (i64::MIN, max) => format!("an integer of at most {max}"),
                (min, max) => format!("an integer from {min} to {max}"),
            },
            Type::String { pattern: None } => "a string".into(),
            Type::String { pattern: Some(p) } => format!("a string that matches `{}`", p.source),
            Type::Enum(values) => one_of(values.iter().map(String::as_str)),
            Type::List(item) => format!("a list, each item {}", item.describe()),
            Type::Set(item) => format!("a set, each item {}", item.describe()),
            Type::Map(item) => format!("a table, each value {}", item.describe()),
            Type::Record(_) | Type::Attrs(_) | Type::Object => "a table".into(),
        }
    }

    /// Whether values can stand inside a longer text.
    pub(crate) fn is_scalar(&self) -> bool {
        matches!(
            self,
            Type::Bool | Type::Int { .. } | Type::String { .. } | Type::Enum(_)
        )
    }

    fn fits(&self, value: &DeValue<'_>) -> bool {
        match self {
            Type::Bool => value.is_bool(),
            Type::Int { .. } => value.is_integer(),
            Type::String { .. } | Type::Enum(_) => value.is_str(),
            Type::List(_) | Type::Set(_) => value.is_array(),
            Type::Map(_) | Type::Record(_) | Type::Attrs(_) | Type::Object => value.is_table(),
        }
    }
}

/// A value that fits its option's type, with the places of what may be merged apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    /// The value, or for a table its key.
    pub(crate) span: Range<usize>,
    pub(crate) body: Body,
}

/// What a [`Checked`] value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// Merged as a whole.
    Leaf(Json),
    /// United; by canonical JSON, so that order and repetition mean nothing.
    Set(BTreeMap<String, Json>),
    /// Merged key by key.
    Table(BTreeMap<String, Checked>),
}

/// Where a value stands, for the messages.
pub(crate) struct Spot<'o> {
    /// The full name in the profile: `tenants.payments.quota`.
    pub(crate) path: String,
    /// The option or field behind it.
    pub(crate) decl: &'o OptionDecl,
}

impl Spot<'_> {
    fn below(&self, name: &str) -> Self {
        Spot {
            path: format!("{}.{name}", self.path),
            decl: self.decl,
        }
    }

    fn help(&self) -> String {
        format!("{}: {}", self.decl.name, self.decl.doc)
    }
}

/// Checks a value against a type. `None` when there were complaints that leave nothing to use.
pub(crate) fn check(
    ty: &Type,
    node: &Node<'_>,
    key: Range<usize>,
    spot: &Spot<'_>,
    out: &mut Complaints<'_>,
) -> Option<Checked> {
    let value = node.get_ref();
    if !ty.fits(value) {
        let found = kind(value);
        let mut help = spot.help();
        if value.is_table() && ty.is_scalar() {
            help.push_str(" A name that holds a dot must be quoted, as in \"requests.cpu\".");
        }
        out.at(
            node.span(),
            format!(
                "{} must be {}, not {found}",
                quoted(&spot.path),
                ty.describe()
            ),
            format!("this is {found}"),
            help,
        );
        return None;
    }
    let leaf = |json| {
        Some(Checked {
            span: node.span(),
            body: Body::Leaf(json),
        })
    };
    let table = |entries| {
        Some(Checked {
            span: key,
            body: Body::Table(entries),
        })
    };
    match (ty, value) {
        (Type::Bool, DeValue::Boolean(b)) => leaf(Json::from(*b)),
        (Type::Int { min, max }, _) => match integer(value) {
            Some(number) if (*min..=*max).contains(&number) => leaf(Json::from(number)),
            _ => refuse(ty, node, "out of range", spot, out),
        },
        (Type::String { pattern }, DeValue::String(text)) => match pattern {
            Some(pattern) if !pattern.whole.is_match(text) => {
                refuse(ty, node, "it does not match", spot, out)
            }
            _ => leaf(Json::from(text.as_ref())),
        },
        (Type::Enum(values), DeValue::String(text)) => {
            if values.iter().any(|v| v == text) {
                return leaf(Json::from(text.as_ref()));
            }
            let label = did_you_mean(text, values.iter().map(String::as_str));
            let label = label.unwrap_or_else(|| "not one of its values".into());
            refuse(ty, node, &label, spot, out)
        }
        (Type::List(item), DeValue::Array(items)) => {
            let items = check_items(item, items, spot, out)?;
            leaf(Json::Array(items))
        }
        (Type::Set(item), DeValue::Array(items)) => {
            let items = check_items(item, items, spot, out)?;
            let set = items.into_iter().map(|i| (canonical_json(&i), i)).collect();
            Some(Checked {
                span: node.span(),
                body: Body::Set(set),
            })
        }
        (Type::Map(item), DeValue::Table(entries)) => {
            let mut checked = BTreeMap::new();
            for (name, entry) in entries {
                let below = spot.below(name.get_ref());
                if let Some(value) = check(item, entry, name.span(), &below, out) {
                    checked.insert(name.get_ref().to_string(), value);
                }
            }
            table(checked)
        }
        (Type::Record(fields), DeValue::Table(entries)) => {
            table(check_fields(fields, entries, spot, out))
        }
        (Type::Attrs(fields), DeValue::Table(entries)) => {
            let mut checked = BTreeMap::new();
            for (name, entry) in entries {
                let below = spot.below(name.get_ref());
                let Some(inner) = entry.get_ref().as_table() else {
                    let found = kind(entry.get_ref());
                    out.at(
                        entry.span(),
                        format!("{} must be a table, not {found}", quoted(&below.path)),
                        format!("this is {found}"),
                        spot.help(),
                    );
                    continue;
                };
                let body = Body::Table(check_fields(fields, inner, &below, out));
                checked.insert(
                    name.get_ref().to_string(),
                    Checked {
                        span: name.span(),
                        body,
                    },
                );
            }
            table(checked)
        }
        (Type::Object, _) => leaf(json(node, &spot.path, out)?),
        // `fits` has refused every other pair.
        _ => None,
    }
}

fn refuse(
    ty: &Type,
    node: &Node<'_>,
    label: &str,
    spot: &Spot<'_>,
    out: &mut Complaints<'_>,
) -> Option<Checked> {
    out.at(
        node.span(),
        format!("{} must be {}", quoted(&spot.path), ty.describe()),
        label,
        spot.help(),
    );
    None
}

fn check_items(
    ty: &Type,
    items: &[Node<'_>],
    spot: &Spot<'_>,
    out: &mut Complaints<'_>,
) -> Option<Vec<Json>> {
    // Every item is looked at, so that every fault is told.
    let checked: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| check(ty, item, item.span(), &spot.below(&i.to_string()), out))
        .collect();
    let items: Option<Vec<Checked>> = checked.into_iter().collect();
    Some(items?.into_iter().map(|c| c.body.json()).collect())
}

fn check_fields(
    fields: &Fields,
    entries: &toml::de::DeTable<'_>,
    spot: &Spot<'_>,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Checked> {
    let mut checked = BTreeMap::new();
    for (name, entry) in entries {
        let name_text = name.get_ref().as_ref();
        let Some(decl) = fields.get(name_text) else {
            let names = || fields.keys().map(String::as_str);
            let near = crate::profile::section::nearest(name_text, names());
            let help = match near.and_then(|near| fields.get(near)) {
                Some(near) => format!("{}: {}", near.name, near.doc),
                None => format!("use {}", one_of(names())),
            };
            out.at(
                name.span(),
                format!("{} has no field {}", quoted(&spot.path), quoted(name_text)),
                did_you_mean(name_text, names()).unwrap_or_else(|| "unknown".into()),
                help,
            );
            continue;
        };
        let below = Spot {
            path: format!("{}.{name_text}", spot.path),
            decl,
        };
        if let Some(value) = check(&decl.ty, entry, name.span(), &below, out) {
            checked.insert(name_text.to_owned(), value);
        }
    }
    checked
}

impl Body {
    /// Returns the value without its places.
    pub(crate) fn json(self) -> Json {
        match self {
            Body::Leaf(json) => json,
            Body::Set(items) => Json::Array(items.into_values().collect()),
            Body::Table(entries) => Json::Object(
                entries
                    .into_iter()
                    .map(|(k, v)| (k, v.body.json()))
                    .collect(),
            ),
        }
    }
}

/// Converts any TOML value to JSON. What JSON cannot hold is a complaint.
pub(crate) fn json(node: &Node<'_>, path: &str, out: &mut Complaints<'_>) -> Option<Json> {
    let refuse = |what: &str, out: &mut Complaints<'_>| {
        out.at(
            node.span(),
            format!("{} cannot hold {what}", quoted(path)),
            "Kubernetes has no such value",
            "write it as a string",
        );
        None
    };
    match node.get_ref() {
        DeValue::String(text) => Some(Json::from(text.as_ref())),
        DeValue::Boolean(b) => Some(Json::from(*b)),
        value @ DeValue::Integer(_) => match integer(value) {
            Some(number) => Some(Json::from(number)),
            None => refuse("an integer of more than 64 bits", out),
        },
        DeValue::Float(float) => {
            let number: Option<f64> = float.as_str().parse().ok();
            match number.and_then(serde_json::Number::from_f64) {
                Some(number) => Some(Json::Number(number)),
                None => refuse("this float", out),
            }
        }
        DeValue::Datetime(_) => refuse("a date", out),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(item, path, out)).collect();
            items.into_iter().collect::<Option<_>>().map(Json::Array)
        }
        DeValue::Table(entries) => {
            let mut object = serde_json::Map::new();
            let mut whole = true;
            for (key, entry) in entries {
                match json(entry, &format!("{path}.{}", key.get_ref()), out) {
                    Some(value) => {
                        object.insert(key.get_ref().to_string(), value);
                    }
                    None => whole = false,
                }
            }
            whole.then_some(Json::Object(object))
        }
    }
}
