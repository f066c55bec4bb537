//! Expressions in the Common Expression Language (CEL), the expression language of Kubernetes
//! itself: what assertions and checks ask.

use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, IdedExpr, Value as Cel};
use serde_json::Value as Json;

use super::scalar;
use crate::profile::section::{Complaints, Section};
use compile::{IN_ORDER, compile, in_order, one_line};

mod compile;

/// A compiled expression that is true or false.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    /// As the module has it.
    pub(crate) source: String,
    compiled: Arc<IdedExpr>,
}

/// The names that an expression can use, for many expressions.
pub(crate) struct Surroundings(Context<'static, 'static>);

impl Expression {
    /// Reads the key `that` of a table, which must be there.
    pub(crate) fn read(
        section: &mut Section<'_, '_>,
        table: std::ops::Range<usize>,
        out: &mut Complaints<'_>,
    ) -> Option<Self> {
        let text = section.required("that", table.clone(), out)?;
        match compile(text) {
            Ok(compiled) => Some(Expression {
                source: text.trim().to_owned(),
                compiled: Arc::new(compiled),
            }),
            Err(why) => {
                let place = section.get("that").map_or(table, toml::Spanned::span);
                out.at(
                    place,
                    "`that` is no expression of CEL",
                    why,
                    "see https://kubernetes.io/docs/reference/using-api/cel/ for the language",
                );
                None
            }
        }
    }

    /// Whether it holds. The error says why that cannot be told.
    pub(crate) fn holds(
        &self,
        surroundings: &Surroundings,
        names: &[(String, Json)],
    ) -> Result<bool, String> {
        let mut context = surroundings.0.new_inner_scope();
        for (name, value) in names {
            context.add_variable_from_value(name.as_str(), cel(value));
        }
        match Cel::resolve(&self.compiled, &context) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is {}, not true or false", other.type_of())),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

impl Surroundings {
    /// Prepares the functions of harden. Kubernetes has them as methods of types of its own, which
    /// the interpreter has not:
    ///
    /// - `cidrContains(NETWORK, NETWORK or ADDRESS)`;
    /// - `modeWithin(MODE, MOST)`: no bit beyond those of the other mode;
    /// - `items(TEXT)`: the items of a list with commas, as flags have it;
    /// - `milliseconds(TEXT)`: of a duration as flags have it, and -1 of anything else.
    pub(crate) fn new() -> Result<Self, String> {
        let mut context = Context::default();
        let cidr_contains = |outer: Arc<String>, inner: Arc<String>| {
            scalar::cidr_contains(&outer, &inner).unwrap_or(false)
        };
        let mode_within = |mode: Arc<String>, most: Arc<String>| {
            let bits = (scalar::mode(&mode), scalar::mode(&most));
            matches!(bits, (Some(mode), Some(most)) if mode & !most == 0)
        };
        let items = |text: Arc<String>| {
            let items = text.split(',').filter(|item| !item.is_empty());
            let items = items.map(|item| Cel::String(Arc::new(item.to_owned())));
            Cel::List(Arc::new(items.collect()))
        };
        let milliseconds = |text: Arc<String>| {
            let known = scalar::duration(&text).and_then(|time| i64::try_from(time).ok());
            known.unwrap_or(-1)
        };
        context
            .add_function("cidrContains", cidr_contains)
            .and_then(|()| context.add_function("modeWithin", mode_within))
            .and_then(|()| context.add_function("items", items))
            .and_then(|()| context.add_function("milliseconds", milliseconds))
            .and_then(|()| context.add_function(IN_ORDER, in_order))
            .map_err(|error| error.to_string())?;
        Ok(Surroundings(context))
    }

    /// Adds a name.
    pub(crate) fn name(&mut self, name: &'static str, value: &Json) {
        self.0.add_variable_from_value(name, cel(value));
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
        Json::Object(entries) => {
            let entry = |(key, value): (&String, &Json)| (Key::from(key.clone()), cel(value));
            Cel::Map(Map {
                map: Arc::new(entries.iter().map(entry).collect()),
            })
        }
    }
}
