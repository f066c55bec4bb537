//! Checks that a profile says what its options allow.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::option::{Fields, OptionDecl, Rank, Type};
use super::{objects, rbac_subject, scalar};
use crate::fact::canonical_json;
use crate::profile::section::{
    Complaints, Node, Section, did_you_mean, integer, kind, nearest, one_of, quoted,
};

/// Names as Kubernetes has them for a label (RFC 1123), which most modules ask for.
const LABEL: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";

/// A value that fits its option's type, with the places of what may be merged apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    /// The value, or for a table its key.
    pub(crate) span: Range<usize>,
    pub(crate) body: Body,
    /// How strict it is, when its option declares an order.
    pub(crate) rank: Option<Rank>,
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
            rank: spot.decl.rank(&json),
            body: Body::Leaf(json),
        })
    };
    let table = |entries| {
        Some(Checked {
            span: key.clone(),
            body: Body::Table(entries),
            rank: None,
        })
    };
    match (ty, value) {
        (Type::Bool, DeValue::Boolean(b)) => leaf(Json::from(*b)),
        (Type::Int { min, max, .. }, _) => match integer(value) {
            Some(number) if (*min..=*max).contains(&number) => leaf(Json::from(number)),
            _ => refuse(ty, node, "out of range", spot, out),
        },
        (Type::String { pattern }, DeValue::String(text)) => match pattern {
            Some(pattern) if !pattern.whole.is_match(text) => {
                refuse(ty, node, "it does not match", spot, out)
            }
            _ => leaf(Json::from(text.as_ref())),
        },
        (Type::Duration { min, max }, DeValue::String(text)) => match scalar::duration(text) {
            Some(ms) if (*min..=*max).contains(&ms) => leaf(scalar::duration_text(ms).into()),
            Some(_) => refuse(ty, node, "out of range", spot, out),
            None => refuse(ty, node, "no duration", spot, out),
        },
        (Type::Quantity, DeValue::String(text)) => match scalar::quantity(text) {
            Some(_) => leaf(Json::from(text.as_ref())),
            None => refuse(ty, node, "no quantity", spot, out),
        },
        (Type::Quantity, DeValue::Integer(_)) => match integer(value) {
            Some(number) => leaf(number.to_string().into()),
            None => refuse(ty, node, "out of range", spot, out),
        },
        (Type::Mode, DeValue::String(text)) => match scalar::mode(text) {
            Some(bits) => leaf(format!("{bits:04o}").into()),
            None => refuse(ty, node, "no mode", spot, out),
        },
        (Type::Cidr, DeValue::String(text)) => match scalar::cidr(text) {
            Ok(network) => leaf(network.into()),
            Err(why) => refuse(ty, node, &why, spot, out),
        },
        (Type::OneOf(types), _) => {
            for ty in types.iter().filter(|ty| ty.fits(value)) {
                let mut faults = Complaints::new(out.file);
                let checked = check(ty, node, key.clone(), spot, &mut faults);
                if let (Some(checked), true) = (checked, faults.list.is_empty()) {
                    return leaf(checked.body.json());
                }
            }
            refuse(ty, node, "it is none of these", spot, out)
        }
        (Type::RbacSubject, DeValue::Table(entries)) => {
            leaf(rbac_subject::check(entries, node, &spot.path, out)?)
        }
        (Type::Secret, DeValue::Table(entries)) => leaf(secret(entries, node, spot, out)?),
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
                rank: None,
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
                if let Err(expected) = entry_name(spot.decl, name.get_ref()) {
                    out.at(
                        name.span(),
                        format!(
                            "{} is no name for an entry of `{}`",
                            quoted(name.get_ref()),
                            spot.path
                        ),
                        "it does not match",
                        expected,
                    );
                    continue;
                }
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
                        rank: None,
                    },
                );
            }
            table(checked)
        }
        (Type::Object, _) => leaf(json(node, &spot.path, out)?),
        (Type::Objects, DeValue::Array(items)) => table(objects::check(items, &spot.path, out)),
        // `fits` has refused every other pair.
        _ => None,
    }
}

/// Checks the name of an entry: `*` is every entry. The error says what is expected.
fn entry_name(decl: &OptionDecl, name: &str) -> Result<(), String> {
    if name.chars().any(char::is_control) {
        return Err("write it without control characters".into());
    }
    match &decl.names {
        Some(names) if name != "*" && !names.whole.is_match(name) => Err(match names.source.as_str() {
            LABEL => "write at most 63 small letters, digits and `-`, with a letter or digit at both ends, as in `payments`".into(),
            source => format!("write one that the regular expression {} matches", quoted(source)),
        }),
        _ => Ok(()),
    }
}

/// Reads a reference to a secret.
fn secret(
    entries: &toml::de::DeTable<'_>,
    node: &Node<'_>,
    spot: &Spot<'_>,
    out: &mut Complaints<'_>,
) -> Option<Json> {
    let mut section = Section::new(entries, &spot.path);
    let before = out.list.len();
    let file = section.string("file", out).map(Json::from);
    let env = section.string("env", out).map(Json::from);
    let command: Vec<&str> = section
        .strings("command", out)
        .into_iter()
        .map(|(word, _)| word)
        .collect();
    let command = (!command.is_empty()).then(|| Json::from(command));
    section.finish(out);
    let mut given = [("file", file), ("env", env), ("command", command)]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    match (given.next(), given.next()) {
        (Some(one), None) if out.list.len() == before => {
            Some(Json::Object([one].into_iter().collect()))
        }
        _ => {
            if out.list.len() == before {
                refuse(&Type::Secret, node, "give exactly one of them", spot, out);
            }
            None
        }
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
            let near = nearest(name_text, names());
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
