//! Options: what a profile may say.

use std::collections::BTreeMap;

use toml::de::DeValue;

use crate::profile::section::one_of;
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

    /// Whether a value is of the right kind, whatever is in it.
    pub(super) fn fits(&self, value: &DeValue<'_>) -> bool {
        match self {
            Type::Bool => value.is_bool(),
            Type::Int { .. } => value.is_integer(),
            Type::String { .. } | Type::Enum(_) => value.is_str(),
            Type::List(_) | Type::Set(_) => value.is_array(),
            Type::Map(_) | Type::Record(_) | Type::Attrs(_) | Type::Object => value.is_table(),
        }
    }
}
