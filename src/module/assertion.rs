//! Assertions: what must hold of the values of a profile, in the Common Expression Language (CEL,
//! the expression language of Kubernetes itself).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, IdedExpr, Value as Cel};
use serde_json::Value as Json;

use super::expression::{IN_ORDER, compile, in_order, one_line};
use super::scalar;
use super::table::{self, Guard};
use super::template::Template;
use crate::profile::Values;
use crate::profile::section::{Complaints, Section, kind};

/// An assertion of a module.
#[derive(Debug, Clone)]
pub(crate) struct Assertion {
    /// The table's heading.
    pub(crate) span: Range<usize>,
    /// When it is asked, and of what.
    pub(crate) guard: Guard,
    that: Arc<IdedExpr>,
    /// What a reader is told when it does not hold.
    pub(crate) message: Template,
    /// What to do then.
    pub(crate) help: String,
    /// The control that says why it matters.
    pub(crate) control: Option<String>,
    /// Whether evaluation fails.
    pub(crate) is_error: bool,
}

/// Reads all `[[assert]]` of a module.
pub(super) fn read(
    context: &table::Context<'_>,
    top: &mut Section<'_, '_>,
    used: &mut BTreeSet<String>,
    out: &mut Complaints<'_>,
) -> Vec<Assertion> {
    let items = top
        .get("assert")
        .map(|node| (node, node.get_ref().as_array()));
    let items = match items {
        None => return Vec::new(),
        Some((_, Some(items))) => items,
        Some((node, None)) => {
            out.at(
                node.span(),
                format!(
                    "`assert` must be a list of tables, not {}",
                    kind(node.get_ref())
                ),
                "here",
                "write `[[assert]]`",
            );
            return Vec::new();
        }
    };
    let read = items
        .iter()
        .filter_map(|item| match item.get_ref().as_table() {
            Some(table) => one(context, table, item.span(), used, out),
            None => {
                out.at(
                    item.span(),
                    "this must be a table",
                    "here",
                    "write `[[assert]]`",
                );
                None
            }
        });
    read.collect()
}

fn one(
    context: &table::Context<'_>,
    table: &toml::de::DeTable<'_>,
    span: Range<usize>,
    used: &mut BTreeSet<String>,
    out: &mut Complaints<'_>,
) -> Option<Assertion> {
    let before = out.list.len();
    let mut section = Section::new(table, "assert");
    let (guard, mut checker) = table::guard(context, &mut section, used, out);
    let message = section.required("message", span.clone(), out);
    let message = message.and_then(|_| Template::read(section.get("message")?, out));
    if let Some(message) = &message {
        message.references(&mut |reference, place| checker.reference(reference, place, out));
    }
    let help = section.required("help", span.clone(), out);
    let control = section.string("control", out).map(str::to_owned);
    let severity = section.choice("severity", &[("error", true), ("warning", false)], out);
    let text = section.required("that", span.clone(), out);
    let place = section
        .get("that")
        .map_or(span.clone(), toml::Spanned::span);
    section.finish(out);
    let that = match text.map(compile)? {
        Ok(program) => program,
        Err(why) => {
            out.at(
                place,
                "`that` is no expression of CEL",
                why,
                "see https://kubernetes.io/docs/reference/using-api/cel/ for the language",
            );
            return None;
        }
    };
    (out.list.len() == before).then_some(Assertion {
        span,
        guard,
        that: Arc::new(that),
        message: message?,
        help: help?.to_owned(),
        control,
        is_error: severity.unwrap_or(true),
    })
}

/// What every assertion can name: `options`, and the functions of harden.
pub(super) fn surroundings(values: &Values) -> Result<Context<'static, 'static>, String> {
    let mut context = Context::default();
    context.add_variable_from_value("options", cel(&sections(values)));
    // Without the network types that Kubernetes adds to CEL: whether a network holds another, or an
    // address.
    context
        .add_function("cidrContains", |outer: Arc<String>, inner: Arc<String>| {
            scalar::cidr_contains(&outer, &inner).unwrap_or(false)
        })
        .and_then(|()| context.add_function(IN_ORDER, in_order))
        .map_err(|error| error.to_string())?;
    Ok(context)
}

/// The values by section and option, as a profile has them.
fn sections(values: &Values) -> Json {
    let mut sections: BTreeMap<&str, Json> = BTreeMap::new();
    for (name, value) in values.iter() {
        match name.split_once('.') {
            None => {
                sections.insert(name, value.json());
            }
            Some((section, option)) => {
                let section = sections
                    .entry(section)
                    .or_insert_with(|| Json::Object(serde_json::Map::new()));
                if let Json::Object(options) = section {
                    options.insert(option.to_owned(), value.json());
                }
            }
        }
    }
    sections
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

impl Assertion {
    /// Whether it holds, with what `for-each` binds. The error says why that cannot be told.
    pub(super) fn holds(
        &self,
        surroundings: &Context<'_, '_>,
        bindings: &[(String, Json)],
    ) -> Result<bool, String> {
        let mut context = surroundings.new_inner_scope();
        for (name, value) in bindings {
            context.add_variable_from_value(name.as_str(), cel(value));
        }
        match Cel::resolve(&self.that, &context) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is {}, not true or false", other.type_of())),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

fn cel(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(b) => Cel::Bool(*b),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Cel::String(Arc::new(text.clone())),
        Json::Array(items) => Cel::List(Arc::new(items.iter().map(cel).collect())),
        Json::Object(entries) => Cel::Map(Map {
            map: Arc::new(
                entries
                    .iter()
                    .map(|(key, value)| (Key::from(key.clone()), cel(value)))
                    .collect(),
            ),
        }),
    }
}
