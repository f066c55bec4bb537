//! Options: what a profile may say.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::scalar;
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
    /// What the names of its entries look like; of `attrs` only.
    pub names: Option<Pattern>,
    /// A value for the reference, as TOML text.
    pub example: Option<String>,
    /// Whether all nodes must share the value while it is being changed.
    pub uniform: bool,
    /// What may have a value of its own.
    pub per: Per,
    /// Which of two values is the stricter one, where there is an order.
    pub stricter: Option<Stricter>,
    /// The Kubernetes minors in which it exists.
    pub kubernetes: Minors,
    /// The distributions in which it exists, of [`DISTRIBUTIONS`].
    pub distributions: Vec<String>,
}

/// The distributions that a module may name.
pub const DISTRIBUTIONS: &[&str] = &["kubeadm", "k3s", "rke2"];

/// What may have a value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Nothing: one value for the cluster.
    Cluster,
    /// A node, by `[nodes.host.NAME.MODULE]`.
    Node,
    /// A tenant.
    Tenant,
}

/// Which of two values is the stricter one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stricter {
    /// This boolean.
    Is(bool),
    /// The smaller number; of two modes the one without a bit that the other lacks.
    Lower,
    /// The greater number.
    Higher,
    /// Of an enum's words, the one that the module lists later.
    Later,
}

/// A range of Kubernetes minors, as 35 for 1.35; both ends are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minors {
    /// The first.
    pub since: Option<u32>,
    /// The last.
    pub until: Option<u32>,
}

impl Minors {
    /// Whether this minor is in the range.
    pub fn contains(self, minor: u32) -> bool {
        self.since.is_none_or(|since| minor >= since)
            && self.until.is_none_or(|until| minor <= until)
    }
}

impl std::fmt::Display for Minors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.since, self.until) {
            (None, None) => f.write_str("every version"),
            (Some(since), None) => write!(f, "1.{since} and later"),
            (None, Some(until)) => write!(f, "up to 1.{until}"),
            (Some(since), Some(until)) => write!(f, "1.{since} to 1.{until}"),
        }
    }
}

/// How strict a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// The greater, the stricter.
    Number(i128),
    /// Permission bits: the fewer, the stricter.
    Bits(u32),
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Rank::Number(a), Rank::Number(b)) => a.partial_cmp(b),
            (Rank::Bits(a), Rank::Bits(b)) if a == b => Some(Ordering::Equal),
            (Rank::Bits(a), Rank::Bits(b)) if a & b == *a => Some(Ordering::Greater),
            (Rank::Bits(a), Rank::Bits(b)) if a & b == *b => Some(Ordering::Less),
            _ => None,
        }
    }
}

impl OptionDecl {
    /// Returns how strict a value is, when the option declares an order.
    pub(crate) fn rank(&self, value: &Json) -> Option<Rank> {
        let number = match (&self.ty, value) {
            (Type::Bool, Json::Bool(b)) => {
                return Some(Rank::Number(i128::from(self.stricter? == Stricter::Is(*b))));
            }
            (Type::Mode, Json::String(text)) => {
                self.stricter?;
                return Some(Rank::Bits(scalar::mode(text)?));
            }
            (Type::Int { .. }, value) => i128::from(value.as_i64()?),
            (Type::Duration { .. }, Json::String(text)) => i128::from(scalar::duration(text)?),
            (Type::Quantity, Json::String(text)) => scalar::quantity(text)?,
            (Type::Enum(words), Json::String(text)) => {
                i128::try_from(words.iter().position(|word| word == text)?).ok()?
            }
            _ => return None,
        };
        Some(Rank::Number(if self.stricter? == Stricter::Lower {
            -number
        } else {
            number
        }))
    }
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
        /// What is counted: `days`, `MiB`.
        unit: Option<String>,
    },
    /// A duration such as `1h30m`, within inclusive bounds in milliseconds.
    Duration {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A quantity of Kubernetes such as `500m` or `64Gi`; kept as text, though an integer may be
    /// written.
    Quantity,
    /// Permission bits in octal, such as `0600`.
    Mode,
    /// A network in CIDR notation.
    Cidr,
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
    /// Whole objects of Kubernetes, written as a list of tables; definitions unite object by object, each
    /// known by its [short name](crate::fact::ObjectRef::short_name).
    Objects,
    /// A user, a group or a service account, as a RoleBinding names it.
    RbacSubject,
    /// A value that fits one of these types.
    OneOf(Vec<Type>),
    /// Where a secret is: `{ file = "…" }`, `{ env = "…" }` or `{ command = ["…"] }`. Never the secret.
    Secret,
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
            Type::Int { min, max, unit } => {
                let of = unit.as_ref().map_or(String::new(), |unit| format!(" ({unit})"));
                match (*min, *max) {
                    (i64::MIN, i64::MAX) => format!("an integer{of}"),
                    (min, i64::MAX) => format!("an integer of at least {min}{of}"),
                    (i64::MIN, max) => format!("an integer of at most {max}{of}"),
                    (min, max) => format!("an integer from {min} to {max}{of}"),
                }
            }
            Type::Duration { min, max } => {
                let text = scalar::duration_text;
                match (*min, *max) {
                    (0, u64::MAX) => "a duration such as \"1h30m\"".into(),
                    (min, u64::MAX) => format!("a duration of at least {}", text(min)),
                    (min, max) => format!("a duration from {} to {}", text(min), text(max)),
                }
            }
            Type::Quantity => "a quantity such as 20, \"500m\" or \"64Gi\"".into(),
            Type::Mode => "an octal mode such as \"0600\"".into(),
            Type::Cidr => "a network such as \"10.0.0.0/8\"".into(),
            Type::RbacSubject => {
                "a subject such as { kind = \"Group\", name = \"team\" }".into()
            }
            Type::OneOf(types) => {
                let all: Vec<String> = types.iter().map(Type::describe).collect();
                all.join(", or ")
            }
            Type::Secret => {
                "a reference to a secret: { file = \"…\" }, { env = \"…\" } or { command = [\"…\"] }".into()
            }
            Type::String { pattern: None } => "a string".into(),
            Type::String { pattern: Some(p) } => format!("a string that matches `{}`", p.source),
            Type::Enum(values) => one_of(values.iter().map(String::as_str)),
            Type::List(item) => format!("a list, each item {}", item.describe()),
            Type::Set(item) => format!("a set, each item {}", item.describe()),
            Type::Map(item) => format!("a table, each value {}", item.describe()),
            Type::Objects => "a list of Kubernetes objects".into(),
            Type::Record(_) | Type::Attrs(_) | Type::Object => "a table".into(),
        }
    }

    /// Whether values can stand inside a longer text.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool
            | Type::Int { .. }
            | Type::Duration { .. }
            | Type::Quantity
            | Type::Mode
            | Type::Cidr
            | Type::String { .. }
            | Type::Enum(_) => true,
            Type::OneOf(types) => types.iter().all(Type::is_scalar),
            _ => false,
        }
    }

    /// Whether a value is of the right kind, whatever is in it.
    pub(super) fn fits(&self, value: &DeValue<'_>) -> bool {
        match self {
            Type::Bool => value.is_bool(),
            Type::Int { .. } => value.is_integer(),
            Type::String { .. }
            | Type::Enum(_)
            | Type::Duration { .. }
            | Type::Mode
            | Type::Cidr => value.is_str(),
            Type::Quantity => value.is_str() || value.is_integer(),
            Type::OneOf(types) => types.iter().any(|ty| ty.fits(value)),
            Type::List(_) | Type::Set(_) | Type::Objects => value.is_array(),
            Type::Map(_)
            | Type::Record(_)
            | Type::Attrs(_)
            | Type::Object
            | Type::RbacSubject
            | Type::Secret => value.is_table(),
        }
    }
}
