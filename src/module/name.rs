//! Finds what a name in a module stands for: an option, a field, an entry of a loop.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::expression::Seen;
use super::option::{Fields, OptionDecl, Type};
use crate::profile::section::{nearest, one_of, quoted};
use crate::profile::{Content, Source, Value, Values};
use crate::resource::Origin;

/// The type behind a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'m> {
    /// An option, a field or an item.
    Value(&'m Type),
    /// An entry of an attribute set: its fields, and `name`.
    Entry(&'m Fields),
    /// An entry of a map, or one of several objects: its `value`, and `name`.
    Pair(&'m Type),
    /// The name of an entry.
    Name,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) struct Named<'m, 'v> {
    /// The option or field that declares it.
    pub(crate) decl: &'m OptionDecl,
    pub(crate) shape: Shape<'m>,
    /// The value, when it is set and values are being looked at.
    pub(crate) found: Option<Found<'v>>,
}

/// A value with its place in the profile.
#[derive(Debug, Clone)]
pub(crate) struct Found<'v> {
    /// The parts of its name in the profile, the first of which is the option's: `tenants`, `payments`, `quota`.
    path: Vec<&'v str>,
    view: View<'v>,
}

#[derive(Debug, Clone)]
enum View<'v> {
    /// A merged value.
    Value(&'v Value),
    /// A part of a merged value that was merged as a whole.
    Part(&'v Json, &'v Value),
    /// The name of an entry.
    Name(&'v Value),
}

/// A name that a loop gives to each entry.
#[derive(Debug, Clone)]
pub(crate) struct Binding<'m, 'v> {
    pub(crate) name: String,
    pub(crate) named: Named<'m, 'v>,
}

impl Binding<'_, '_> {
    /// Returns its value for an expression. An entry that has a name has it as `name`.
    pub(crate) fn seen(&self) -> Seen<'_> {
        let Some(found) = &self.named.found else {
            return Seen::null();
        };
        let name = Seen::text(found.key());
        match self.named.shape {
            Shape::Entry(_) => match found.fields() {
                Some(fields) => Seen::table(fields.into_iter().chain([("name", name)])),
                None => Seen::table([("name", name), ("value", found.seen())]),
            },
            Shape::Pair(_) => Seen::table([("name", name), ("value", found.seen())]),
            Shape::Value(_) | Shape::Name => found.seen(),
        }
    }
}

/// Everything that names can stand for.
#[derive(Clone, Copy)]
pub(crate) struct Names<'m, 'v, 'b> {
    pub(crate) options: &'m BTreeMap<String, OptionDecl>,
    /// Absent while a module is only checked.
    pub(crate) values: Option<&'v Values>,
    /// Innermost last.
    pub(crate) bindings: &'b [Binding<'m, 'v>],
}

impl<'m, 'v> Names<'m, 'v, '_> {
    /// Finds a name. The error says why there is none, and what to do.
    pub(crate) fn find(&self, path: &[String]) -> Result<Named<'m, 'v>, (String, String)> {
        let (mut named, rest) = self.begin(path)?;
        for part in rest {
            named = named.part(part)?;
        }
        Ok(named)
    }

    fn begin<'p>(
        &self,
        path: &'p [String],
    ) -> Result<(Named<'m, 'v>, &'p [String]), (String, String)> {
        let bound = |b: &&Binding<'m, 'v>| path.first() == Some(&b.name);
        if let Some(binding) = self.bindings.iter().rev().find(bound) {
            return Ok((binding.named.clone(), &path[1..]));
        }
        // An option has one part when it is a module's whole section, otherwise two.
        for parts in [1, 2] {
            let name = path
                .iter()
                .take(parts)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(".");
            if let (true, Some(decl)) = (path.len() >= parts, self.options.get(&name)) {
                let found = self
                    .values
                    .and_then(|values| values.values.get_key_value(&name))
                    .map(|(name, value)| Found {
                        path: vec![name],
                        view: View::Value(value),
                    });
                let named = Named {
                    decl,
                    shape: Shape::Value(&decl.ty),
                    found,
                };
                return Ok((named, &path[parts..]));
            }
        }
        let wrong = path.join(".");
        let known = self.options.keys().map(String::as_str);
        let known = known.chain(self.bindings.iter().map(|b| b.name.as_str()));
        let help = match nearest(&wrong, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name an option of a module, or what `for-each` binds".into(),
        };
        Err((format!("there is no option {}", quoted(&wrong)), help))
    }
}

impl<'m, 'v> Named<'m, 'v> {
    fn part(self, part: &str) -> Result<Self, (String, String)> {
        let (decl, shape) = match self.shape {
            Shape::Entry(_) | Shape::Pair(_) if part == "name" => (self.decl, Shape::Name),
            Shape::Pair(ty) if part == "value" => {
                return Ok(Named {
                    shape: Shape::Value(ty),
                    ..self
                });
            }
            Shape::Entry(fields) | Shape::Value(Type::Record(fields)) => {
                let Some(decl) = fields.get(part) else {
                    let names = || fields.keys().map(String::as_str);
                    let help = match nearest(part, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("use {}", one_of(names())),
                    };
                    let name = &self.decl.name;
                    return Err((format!("`{name}` has no field {}", quoted(part)), help));
                };
                (decl, Shape::Value(&decl.ty))
            }
            _ => {
                let message = format!("`{}` has no parts with names", self.decl.name);
                return Err((message, "use `for-each` to reach its entries".into()));
            }
        };
        let found = self.found.and_then(|found| found.part(part, shape));
        Ok(Named { decl, shape, found })
    }

    /// Returns what the entries are, or why there are none.
    pub(crate) fn entry_shape(&self) -> Option<Shape<'m>> {
        match self.shape {
            Shape::Value(Type::Attrs(fields)) => Some(Shape::Entry(fields)),
            Shape::Value(Type::Map(item)) => Some(Shape::Pair(item)),
            Shape::Value(Type::Objects) => Some(Shape::Pair(&Type::Object)),
            Shape::Value(Type::List(item) | Type::Set(item)) => Some(Shape::Value(item)),
            _ => None,
        }
    }

    /// Returns the entries; none when it is unset.
    pub(crate) fn entries(&self) -> Vec<Self> {
        let (Some(shape), Some(found)) = (self.entry_shape(), &self.found) else {
            return Vec::new();
        };
        let decl = self.decl;
        let each = |found| Named {
            decl,
            shape,
            found: Some(found),
        };
        found.entries().into_iter().map(each).collect()
    }

    /// Returns the entry of this name; none when there is none.
    pub(crate) fn entry(&self, name: &str) -> Option<Self> {
        let (decl, shape) = (self.decl, self.entry_shape()?);
        let found = Some(self.found.clone()?.part(name, shape)?);
        Some(Named { decl, shape, found })
    }

    /// Whether it only says which entry of a loop this is, and nothing about it.
    pub(crate) fn is_identity(&self, reference: &[String]) -> bool {
        reference.len() == 1 || matches!(self.shape, Shape::Name)
    }
}

impl<'v> Found<'v> {
    fn part(mut self, part: &str, shape: Shape<'_>) -> Option<Self> {
        let of_json = |json: &'v Json, value| {
            let (key, json) = json.as_object()?.get_key_value(part)?;
            Some((key, View::Part(json, value)))
        };
        let (key, view) = match (&self.view, shape) {
            (View::Value(value), Shape::Name) => {
                self.view = View::Name(value);
                return Some(self);
            }
            (View::Value(value), _) => match &value.content {
                Content::Entries(entries) => {
                    let (key, value) = entries.get_key_value(part)?;
                    (key, View::Value(value))
                }
                Content::Whole(json) => of_json(json, *value)?,
            },
            (View::Part(json, value), _) => of_json(json, *value)?,
            (View::Name(_), _) => return None,
        };
        self.path.push(key);
        self.view = view;
        Some(self)
    }

    /// Returns the last part of the name.
    fn key(&self) -> &'v str {
        self.path.last().copied().unwrap_or_default()
    }

    fn entries(&self) -> Vec<Self> {
        let named = |key: &'v str, view| Found {
            path: self.path.iter().copied().chain([key]).collect(),
            view,
        };
        let same = |json, value| Found {
            view: View::Part(json, value),
            ..self.clone()
        };
        match self.view {
            View::Value(value) => match &value.content {
                Content::Entries(entries) => entries
                    .iter()
                    .map(|(key, value)| named(key, View::Value(value)))
                    .collect(),
                Content::Whole(Json::Array(items)) => {
                    items.iter().map(|item| same(item, value)).collect()
                }
                Content::Whole(_) => Vec::new(),
            },
            View::Part(Json::Array(items), value) => {
                items.iter().map(|item| same(item, value)).collect()
            }
            View::Part(..) | View::Name(_) => Vec::new(),
        }
    }

    /// Returns the value as expressions see it.
    fn seen(&self) -> Seen<'_> {
        match self.view {
            View::Value(value) => Seen::value(value),
            View::Part(json, _) => Seen::json(json),
            View::Name(_) => Seen::text(self.key()),
        }
    }

    /// Returns the fields of a table as expressions see them; `None` when it is none.
    fn fields(&self) -> Option<Vec<(&str, Seen<'_>)>> {
        let json = match self.view {
            View::Value(Value {
                content: Content::Entries(entries),
                ..
            }) => {
                let fields = entries.iter();
                return Some(fields.map(|(k, v)| (k.as_str(), Seen::value(v))).collect());
            }
            View::Value(Value {
                content: Content::Whole(json),
                ..
            }) => json,
            View::Part(json, _) => json,
            View::Name(_) => return None,
        };
        let fields = json.as_object()?.iter();
        Some(fields.map(|(k, v)| (k.as_str(), Seen::json(v))).collect())
    }

    /// Returns the value as JSON.
    pub(crate) fn json(&self) -> Json {
        match self.view {
            View::Value(value) => value.json(),
            View::Part(json, _) => json.clone(),
            View::Name(_) => Json::from(self.key()),
        }
    }

    /// Returns where it comes from.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let name = self.path.join(".");
        match self.view {
            View::Value(value) => value.origins(&name),
            View::Part(_, value) | View::Name(value) => value.own_origins(&name),
        }
    }

    /// Returns where the value itself is defined, without what is in it.
    pub(crate) fn own_origins(&self) -> Vec<Origin> {
        match self.view {
            View::Value(value) | View::Part(_, value) | View::Name(value) => {
                value.own_origins(&self.path.join("."))
            }
        }
    }

    /// Returns the place of a definition that holds.
    pub(crate) fn place(&self) -> Option<Source> {
        let (View::Value(value) | View::Part(_, value) | View::Name(value)) = self.view;
        let definition = value.definitions.iter().find(|d| d.holds)?;
        Some(definition.place.clone())
    }

    /// Returns where an entry of it is defined.
    pub(crate) fn entry_place(&self, key: &str) -> Option<Source> {
        let (View::Value(value) | View::Part(_, value) | View::Name(value)) = self.view;
        let value = match &value.content {
            Content::Entries(entries) => entries.get(key)?,
            Content::Whole(_) => value,
        };
        let definition = value.definitions.iter().find(|d| d.holds)?;
        Some(definition.place.clone())
    }
}
