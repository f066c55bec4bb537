//! Reads the declarations of benchmarks.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeTable;

use super::Benchmark;
use crate::module::Pattern;
use crate::profile::Diagnostic;
use crate::profile::section::{Complaints, File, Section, one_of, quoted};

/// A benchmark as it is declared.
pub(super) struct Declared {
    pub(super) benchmark: Benchmark,
    /// What an id looks like.
    pub(super) pattern: Pattern,
    /// Whose list counts for a control that has none of its own.
    pub(super) like: Option<(String, Range<usize>)>,
}

/// Reads one table.
pub(super) fn read(
    name: &str,
    table: &DeTable<'_>,
    key: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<Declared> {
    let mut section = Section::new(table, name);
    let title = section.required("title", key.clone(), out);
    let version = section.required("version", key.clone(), out);
    let pattern = section.required("pattern", key.clone(), out);
    let pattern = pattern.and_then(|source| match Pattern::new(source) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let why = error.to_string();
            out.at(
                key,
                format!("`{name}.pattern` is no regular expression"),
                why.lines().last().unwrap_or("here").trim(),
                "see https://docs.rs/regex for the syntax",
            );
            None
        }
    });
    let checks = section.boolean("checks", out).unwrap_or(false);
    let like = section.string("like", out).map(str::to_owned);
    let place = section.get("like").map_or(0..0, toml::Spanned::span);
    section.finish(out);
    Some(Declared {
        benchmark: Benchmark {
            name: name.to_owned(),
            title: title?.to_owned(),
            version: version?.to_owned(),
            checks,
        },
        pattern: pattern?,
        like: like.map(|like| (like, place)),
    })
}

/// Complains about a benchmark that is like one that is not there, or in a ring.
pub(super) fn likeness(
    declared: &BTreeMap<String, Declared>,
    file: Option<&File>,
) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for start in declared.values() {
        let name = &start.benchmark.name;
        let mut way = vec![name.as_str()];
        let mut at = start;
        while let Some((like, span)) = &at.like {
            let fault = match declared.get(like) {
                None => format!(
                    "{} is like {}, which is no benchmark",
                    quoted(name),
                    quoted(like)
                ),
                Some(_) if way.contains(&like.as_str()) => {
                    format!("{} is like itself in the end", quoted(name))
                }
                Some(next) => {
                    way.push(like);
                    at = next;
                    continue;
                }
            };
            let help = format!("use {}", one_of(declared.keys().map(String::as_str)));
            let mut fault = Diagnostic::new(fault).help(help);
            fault.place = file.map(|file| file.place(span.clone(), "here"));
            faults.push(fault);
            break;
        }
    }
    faults
}
