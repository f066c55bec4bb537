//! Expressions in the Common Expression Language (CEL), the expression language of Kubernetes
//! itself: what assertions and checks ask.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString,
};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, IdedExpr, Value as Cel};
use serde_json::Value as Json;

use super::scalar;
use crate::profile::section::{Complaints, Section};
use crate::profile::{Content, Value};
use compile::{IN_ORDER, compile, in_order, one_line};

mod compile;

/// A compiled expression that is true or false.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    /// As the module has it.
    pub(crate) source: String,
    /// Of what is part of the program, read when it is asked for the first time: most is never asked.
    compiled: Arc<OnceLock<Result<IdedExpr, String>>>,
}

/// The functions and names that all expressions can use.
pub(crate) struct Surroundings<'v>(Context<'v, 'v>);

/// The names that some expressions can use: those around them, and their own.
pub(crate) struct Sight<'s>(Context<'s, 's>);

/// A value as an expression sees it, made once for all expressions that are asked about it. Its texts
/// stay where they are.
pub(crate) struct Seen<'v>(Box<dyn Val + 'v>);

/// Names whose values are made when the first expression looks at them: most expressions are decided
/// without most names.
pub(crate) struct Lazy<'v>(Vec<LazyName<'v>>);

struct LazyName<'v> {
    name: String,
    make: Box<dyn Fn() -> Seen<'v> + Send + Sync + 'v>,
    made: OnceLock<Seen<'v>>,
}

impl Expression {
    /// Reads the key `that` of a table, which must be there.
    pub(crate) fn read(
        section: &mut Section<'_, '_>,
        table: std::ops::Range<usize>,
        out: &mut Complaints<'_>,
    ) -> Option<Self> {
        let text = section.required("that", table.clone(), out)?;
        let expression = Expression {
            source: text.trim().to_owned(),
            compiled: Arc::default(),
        };
        if out.file.name.starts_with("builtin:") {
            return Some(expression);
        }
        match compile(text) {
            Ok(compiled) => {
                expression.compiled.get_or_init(|| Ok(compiled));
                Some(expression)
            }
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

    /// Returns it as it is evaluated.
    ///
    /// # Errors
    /// What is wrong with it, where it is part of the program; a test sees to it that nothing is.
    pub(super) fn compiled(&self) -> Result<&IdedExpr, String> {
        let compiled = self.compiled.get_or_init(|| compile(&self.source));
        compiled.as_ref().map_err(Clone::clone)
    }

    /// Whether it holds. The error says why that cannot be told.
    pub(crate) fn holds(&self, scope: &Sight<'_>) -> Result<bool, String> {
        match Cel::resolve(self.compiled()?, &scope.0) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is {}, not true or false", other.type_of())),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

impl<'v> Surroundings<'v> {
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

    /// Prepares these names as well.
    pub(crate) fn with<'n: 'v>(names: &'v Lazy<'n>) -> Result<Self, String> {
        let mut all = Surroundings::new()?;
        all.0.set_variable_resolver(names);
        Ok(all)
    }

    /// Returns what these names and those around them are to expressions.
    pub(crate) fn sight<'s, 'n: 's>(&'s self, names: &'s Lazy<'n>) -> Sight<'s> {
        let around: &'s Context<'s, 's> = &self.0;
        let mut context = around.new_inner_scope();
        context.set_variable_resolver(names);
        Sight(context)
    }
}

impl<'v> Lazy<'v> {
    pub(crate) fn new() -> Self {
        Lazy(Vec::new())
    }

    /// Adds a name, which goes before those that were added already.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        make: impl Fn() -> Seen<'v> + Send + Sync + 'v,
    ) {
        self.0.push(LazyName {
            name: name.into(),
            make: Box::new(make),
            made: OnceLock::new(),
        });
    }
}

impl VariableResolver for Lazy<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let found = self.0.iter().rev().find(|one| one.name == variable)?;
        let seen = found.made.get_or_init(|| (found.make)());
        Some(CowVal::Borrowed(seen.0.as_ref()))
    }
}

impl<'v> Seen<'v> {
    pub(crate) fn null() -> Self {
        Seen(Box::new(CelNull))
    }

    pub(crate) fn text(text: &'v str) -> Self {
        Seen(Box::new(CelString::from(text)))
    }

    pub(crate) fn json(json: &'v Json) -> Self {
        match json {
            Json::Null => Seen::null(),
            Json::Bool(b) => Seen(Box::new(CelBool::from(*b))),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Seen(Box::new(CelInt::from(whole))),
                None => Seen(Box::new(CelDouble::from(
                    number.as_f64().unwrap_or(f64::NAN),
                ))),
            },
            Json::String(text) => Seen::text(text),
            Json::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| Seen::json(item).0).collect();
                Seen(Box::new(CelList::from(items)))
            }
            Json::Object(entries) => {
                Seen::table(entries.iter().map(|(k, v)| (k.as_str(), Seen::json(v))))
            }
        }
    }

    /// Returns a merged value as expressions see it.
    pub(crate) fn value(value: &'v Value) -> Self {
        match &value.content {
            Content::Whole(json) => Seen::json(json),
            Content::Entries(entries) => {
                Seen::table(entries.iter().map(|(k, v)| (k.as_str(), Seen::value(v))))
            }
        }
    }

    /// Makes a table. Of several entries with one name the last counts.
    pub(crate) fn table(entries: impl IntoIterator<Item = (&'v str, Seen<'v>)>) -> Self {
        let entries = entries.into_iter();
        let entries: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
            entries.map(|(k, v)| (k.into(), v.0)).collect();
        Seen(Box::new(CelMap::from(entries)))
    }
}
