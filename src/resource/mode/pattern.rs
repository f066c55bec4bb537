//! Patterns of names: which entries of a directory a mode is for.

use serde::{Deserialize, Serialize};

/// `*.conf`: the entries of a directory whose names begin and end so; or `*/*.conf`: the entries of
/// each directory in it. A `*` stands for any text within a name, a leading dot included; there is
/// one in a name, and nothing reaches deeper than one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    below: bool,
    before: String,
    after: String,
}

impl Pattern {
    /// Whether it is for the entries of the directories in the directory, named `DIRECTORY/NAME`.
    pub fn is_below(&self) -> bool {
        self.below
    }

    /// Whether an entry of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let name = match (self.below, name.split_once('/')) {
            (false, None) => name,
            (true, Some((_, name))) if !name.contains('/') => name,
            _ => return false,
        };
        name.len() >= self.before.len() + self.after.len()
            && name.starts_with(&self.before)
            && name.ends_with(&self.after)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("entries: {text:?} is no pattern as in \"*\", \"*.conf\" or \"*/*.conf\"");
        let (below, name) = match text.strip_prefix("*/") {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let (before, after) = name.split_once('*').ok_or_else(wrong)?;
        let plain = |part: &str| {
            part.len() <= 255 && !part.contains(['*', '/', '\\', '?', '[']) && {
                !part.contains(char::is_control)
            }
        };
        if !plain(before) || !plain(after) {
            return Err(wrong());
        }
        Ok(Pattern {
            below,
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let below = if self.below { "*/" } else { "" };
        write!(f, "{below}{}*{}", self.before, self.after)
    }
}
