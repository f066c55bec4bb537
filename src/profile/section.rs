//! Reads the tables of a TOML file key by key and complains with the place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Source, Text, harmless};

/// A value of a TOML file with its place.
pub(crate) type Node<'t> = Spanned<DeValue<'t>>;

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// As the user names it: relative to the workspace, or `builtin:baseline`.
    pub(crate) name: String,
    /// Its text, free of control characters other than tab and line end.
    pub(crate) text: Text,
}

impl File {
    /// Names a place in the file.
    pub(crate) fn place(&self, span: Range<usize>, label: impl Into<String>) -> Source {
        Source {
            file: self.name.clone(),
            text: self.text.clone(),
            span,
            label: harmless(label),
        }
    }
}

/// The most faults of one file that are told: a generated file can have one in every other byte.
const MAX_FAULTS: usize = 1000;

/// What is wrong with one file.
pub(crate) struct Complaints<'f> {
    /// Which.
    pub(crate) file: &'f File,
    /// In the order of finding.
    pub(crate) list: Vec<Diagnostic>,
    /// How many are not in the list.
    more: usize,
}

impl<'f> Complaints<'f> {
    pub(crate) fn new(file: &'f File) -> Self {
        Complaints {
            file,
            list: Vec::new(),
            more: 0,
        }
    }

    /// Adds one; every complaint says what to do, in `label` or in the help set on the result.
    pub(crate) fn at(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.list.len() >= MAX_FAULTS {
            self.more += 1;
            return;
        }
        let place = self.file.place(span, label);
        self.list
            .push(Diagnostic::new(message).at(place).help(help));
    }

    /// Returns what was found in the order of the file.
    pub(crate) fn sorted(mut self) -> Vec<Diagnostic> {
        self.list
            .sort_by_key(|d| d.place.as_ref().map(|p| p.span.start));
        if self.more > 0 {
            let message = format!("{} has {} faults more", quoted(&self.file.name), self.more);
            let end = self.file.text.len();
            let fault = Diagnostic::new(message).at(self.file.place(end..end, "not told"));
            self.list.push(fault.help("mend these first"));
        }
        self.list
    }
}

/// Parses a file; every syntax error is a complaint. The parser bounds its own recursion.
pub(crate) fn parse<'t>(file: &'t File, out: &mut Complaints<'_>) -> DeTable<'t> {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    for error in errors {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let end = file.text.len();
        let span = error.span().unwrap_or(end..end);
        out.at(
            span,
            format!("this is not TOML: {message}"),
            "here",
            "see https://toml.io for the syntax",
        );
    }
    table.into_inner()
}

/// Says what a TOML value is, for `must be …, not …`.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Returns an integer that fits 64 bits.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let digits = value.as_integer()?;
    i64::from_str_radix(digits.as_str(), digits.radix()).ok()
}

/// Quotes what a file says, shortened, without control characters or direction marks.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!(
        "`{}`",
        shown
            .escape_debug()
            .to_string()
            .replace("\\\"", "\"")
            .replace("\\'", "'")
    )
}

/// Joins names for a sentence: `a`, `b` or `c`.
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    match names.split_last() {
        None => "nothing".into(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// Finds the name that was probably meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// A table that is read key by key; what nobody asked for is unknown.
pub(crate) struct Section<'s, 't> {
    table: &'s DeTable<'t>,
    /// With the dot, or empty: `nodes.`.
    prefix: String,
    asked: Vec<&'static str>,
}

impl<'s, 't> Section<'s, 't> {
    /// Reads `table`, whose full name is `name`; empty for the whole file.
    pub(crate) fn new(table: &'s DeTable<'t>, name: &str) -> Self {
        let prefix = if name.is_empty() {
            String::new()
        } else {
            format!("{name}.")
        };
        Section {
            table,
            prefix,
            asked: Vec::new(),
        }
    }

    /// Returns the value of a key.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'s Node<'t>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table.get(key)
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        what: &str,
        out: &mut Complaints<'_>,
        read: impl FnOnce(&'s DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        let value = read(node.get_ref());
        if value.is_none() {
            let found = kind(node.get_ref());
            out.at(
                node.span(),
                format!("`{}{key}` must be {what}, not {found}", self.prefix),
                format!("this is {found}"),
                format!("write {what} here"),
            );
        }
        value
    }

    /// Returns a string.
    pub(crate) fn string(
        &mut self,
        key: &'static str,
        out: &mut Complaints<'_>,
    ) -> Option<&'s str> {
        self.read(key, "a string", out, DeValue::as_str)
    }

    /// Returns a string that must be there.
    pub(crate) fn required(
        &mut self,
        key: &'static str,
        section: Range<usize>,
        out: &mut Complaints<'_>,
    ) -> Option<&'s str> {
        if !self.table.contains_key(key) {
            out.at(
                section,
                format!("`{}{key}` is missing", self.prefix),
                "needed here",
                format!("add `{key} = \"…\"`"),
            );
        }
        self.string(key, out)
    }

    /// Returns a boolean.
    pub(crate) fn boolean(&mut self, key: &'static str, out: &mut Complaints<'_>) -> Option<bool> {
        self.read(key, "true or false", out, DeValue::as_bool)
    }

    /// Returns a table.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
        out: &mut Complaints<'_>,
    ) -> Option<&'s DeTable<'t>> {
        self.read(key, "a table", out, DeValue::as_table)
    }

    /// Returns an integer within bounds.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
        out: &mut Complaints<'_>,
    ) -> Option<i64> {
        let what = format!("an integer from {} to {}", range.start(), range.end());
        let number = self.read(key, &what, out, integer)?;
        if range.contains(&number) {
            return Some(number);
        }
        let span = self.table.get(key).map_or(0..0, Spanned::span);
        out.at(
            span,
            format!("`{}{key}` must be {what}", self.prefix),
            "out of range",
            format!("write {what} here"),
        );
        None
    }

    /// Returns what one of several words means.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        out: &mut Complaints<'_>,
    ) -> Option<T> {
        let names = || words.iter().map(|(word, _)| *word);
        let found = self.read(key, &one_of(names()), out, DeValue::as_str)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == found) {
            return Some(*meaning);
        }
        let span = self.table.get(key).map_or(0..0, Spanned::span);
        out.at(
            span,
            format!("`{}{key}` cannot be {}", self.prefix, quoted(found)),
            did_you_mean(found, names()).unwrap_or_else(|| "not one of its values".into()),
            format!("write {}", one_of(names())),
        );
        None
    }

    /// Returns strings with their places.
    pub(crate) fn strings(
        &mut self,
        key: &'static str,
        out: &mut Complaints<'_>,
    ) -> Vec<(&'s str, Range<usize>)> {
        let items = self.read(key, "a list of strings", out, DeValue::as_array);
        let mut strings = Vec::new();
        for item in items.into_iter().flatten() {
            match item.get_ref().as_str() {
                Some(text) => strings.push((text, item.span())),
                None => out.at(
                    item.span(),
                    format!("`{}{key}` must be a list of strings", self.prefix),
                    format!("this is {}", kind(item.get_ref())),
                    "put it in quotes",
                ),
            }
        }
        strings
    }

    /// Returns the tables of a list of tables with their places.
    pub(crate) fn tables(
        &mut self,
        key: &'static str,
        out: &mut Complaints<'_>,
    ) -> Vec<(&'s DeTable<'t>, Range<usize>)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let Some(items) = node.get_ref().as_array() else {
            out.at(
                node.span(),
                format!(
                    "`{key}` must be a list of tables, not {}",
                    kind(node.get_ref())
                ),
                "here",
                format!("write `[[{key}]]`"),
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span())),
                None => out.at(
                    item.span(),
                    "this must be a table",
                    kind(item.get_ref()),
                    format!("write `[[{key}]]`"),
                ),
            }
        }
        tables
    }

    /// Complains about every key that nobody asked for.
    pub(crate) fn finish(self, out: &mut Complaints<'_>) {
        self.finish_but(|_| false, out);
    }

    /// Complains about every key that nobody asked for and that is not `known` elsewhere.
    pub(crate) fn finish_but(self, known: impl Fn(&str) -> bool, out: &mut Complaints<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) || known(name) {
                continue;
            }
            out.at(
                key.span(),
                format!(
                    "there is no key {}",
                    quoted(&format!("{}{name}", self.prefix))
                ),
                did_you_mean(name, self.asked.iter().copied()).unwrap_or_else(|| "unknown".into()),
                format!("use {}", one_of(self.asked.iter().copied())),
            );
        }
    }
}

/// Asks for the nearest name.
pub(crate) fn did_you_mean<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(wrong, names).map(|name| format!("did you mean `{name}`?"))
}
