//! Reads the files of the catalogue.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeTable;

use super::benchmark::{self, Declared};
use super::{Catalogue, Control, natural};
use crate::profile::section::{
    Complaints, File, Section, did_you_mean, kind, one_of, parse, quoted,
};
use crate::profile::{Diagnostic, Failure};

/// The file that declares the benchmarks; every other one holds controls.
const BENCHMARKS: &str = "benchmarks";

/// A control as it is written down.
struct Written<'f> {
    control: Control,
    file: &'f File,
    /// Only the lists that it has itself, with the place of each id.
    own: BTreeMap<String, Vec<(String, Range<usize>)>>,
}

/// Reads all files, given by name.
pub(super) fn read(files: &BTreeMap<String, File>) -> Result<Catalogue, Failure> {
    let mut faults = Vec::new();
    let declared = match files.get(BENCHMARKS) {
        Some(file) => tables(file, &mut faults, benchmark::read),
        None => Vec::new(),
    };
    let declared: BTreeMap<String, Declared> = declared
        .into_iter()
        .map(|(_, declared)| (declared.benchmark.name.clone(), declared))
        .collect();
    let mut written: BTreeMap<String, Written<'_>> = BTreeMap::new();
    for (area, file) in files.iter().filter(|(name, _)| *name != BENCHMARKS) {
        let found = tables(file, &mut faults, |name, table, key, out| {
            control(area, file, name, table, key, &declared, out)
        });
        for (key, one) in found {
            if let Some(other) = written.get(&one.control.name) {
                let name = quoted(&one.control.name);
                let place = file.place(key, format!("also in {}", other.file.name));
                faults.push(
                    Diagnostic::new(format!("there are two controls {name}"))
                        .at(place)
                        .help("rename one of them, or remove it"),
                );
                continue;
            }
            written.insert(one.control.name.clone(), one);
        }
    }
    faults.extend(benchmark::likeness(&declared, files.get(BENCHMARKS)));
    if faults.is_empty() {
        faults.extend(resolve(&mut written, &declared));
    }
    if !faults.is_empty() {
        return Err(Failure(faults));
    }
    Ok(Catalogue {
        benchmarks: declared
            .into_iter()
            .map(|(name, declared)| (name, declared.benchmark))
            .collect(),
        controls: written
            .into_iter()
            .map(|(name, written)| (name, written.control))
            .collect(),
    })
}

/// Reads a file that is a table of tables.
fn tables<T>(
    file: &File,
    faults: &mut Vec<Diagnostic>,
    mut one: impl FnMut(&str, &DeTable<'_>, Range<usize>, &mut Complaints<'_>) -> Option<T>,
) -> Vec<(Range<usize>, T)> {
    let mut out = Complaints::new(file);
    let table = parse(file, &mut out);
    let mut found = Vec::new();
    // What a broken file seems to say would only add faults that are none.
    if out.list.is_empty() {
        for (key, node) in &table {
            let name = key.get_ref().as_ref();
            match node.get_ref().as_table() {
                Some(inner) => {
                    let read = one(name, inner, key.span(), &mut out);
                    found.extend(read.map(|read| (key.span(), read)));
                }
                None => out.at(
                    node.span(),
                    format!(
                        "{} must be a table, not {}",
                        quoted(name),
                        kind(node.get_ref())
                    ),
                    "here",
                    format!("write `[{name}]`"),
                ),
            }
        }
    }
    faults.extend(out.sorted());
    found
}

fn control<'f>(
    area: &str,
    file: &'f File,
    name: &str,
    table: &DeTable<'_>,
    key: Range<usize>,
    declared: &BTreeMap<String, Declared>,
    out: &mut Complaints<'_>,
) -> Option<Written<'f>> {
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if !name.split('-').all(good) {
        out.at(
            key.clone(),
            format!("{} is no name for a control", quoted(name)),
            "here",
            "use words of small letters and digits with `-` between them",
        );
    }
    let mut section = Section::new(table, name);
    let title = section.required("title", key.clone(), out);
    let why = section.required("why", key, out);
    let hazard = section.string("hazard", out).map(str::to_owned);
    let level = section.number("level", 1..=2, out);
    let proof = section.strings("proof", out);
    let unproven = section.string("unproven", out).map(str::to_owned);
    if let (false, Some((key, _))) = (proof.is_empty(), table.get_key_value("unproven")) {
        out.at(
            key.span(),
            format!("{} has both a proof and a reason for none", quoted(name)),
            "here",
            "remove `proof` or `unproven`",
        );
    }
    let maps = section.table("maps", out);
    section.finish(out);
    let mut own = BTreeMap::new();
    if let Some(maps) = maps {
        for (benchmark, _) in maps {
            let ids = ids(
                name,
                benchmark.get_ref(),
                benchmark.span(),
                maps,
                declared,
                out,
            );
            own.extend(ids.map(|ids| (benchmark.get_ref().to_string(), ids)));
        }
    }
    Some(Written {
        control: Control {
            name: name.to_owned(),
            area: area.to_owned(),
            title: title?.to_owned(),
            why: why?.to_owned(),
            hazard,
            level: level.and_then(|level| u8::try_from(level).ok()),
            proof: proof.into_iter().map(|(p, _)| p.to_owned()).collect(),
            unproven,
            ids: BTreeMap::new(),
        },
        file,
        own,
    })
}

/// Reads the ids of one benchmark.
fn ids(
    name: &str,
    benchmark: &str,
    key: Range<usize>,
    maps: &DeTable<'_>,
    declared: &BTreeMap<String, Declared>,
    out: &mut Complaints<'_>,
) -> Option<Vec<(String, Range<usize>)>> {
    let Some(known) = declared.get(benchmark) else {
        let names = || declared.keys().map(String::as_str);
        out.at(
            key,
            format!("there is no benchmark {}", quoted(benchmark)),
            did_you_mean(benchmark, names()).unwrap_or_else(|| "unknown".into()),
            format!("use {}; a name with a dot must be quoted", one_of(names())),
        );
        return None;
    };
    let full = format!("{name}.maps.{benchmark}");
    let Some(items) = maps.get(benchmark).and_then(|n| n.get_ref().as_array()) else {
        out.at(
            key,
            format!("{} must be a list of ids", quoted(&full)),
            "here",
            "write `[\"…\"]`",
        );
        return None;
    };
    let mut ids: Vec<(String, Range<usize>)> = Vec::new();
    for item in items {
        match item.get_ref().as_str() {
            Some(id) if known.pattern.whole.is_match(id) => {
                ids.push((id.to_owned(), item.span()));
            }
            _ => out.at(
                item.span(),
                format!("this is no id of {}", quoted(benchmark)),
                "here",
                format!("an id matches `{}`", known.pattern.source),
            ),
        }
    }
    ids.sort_by(|(a, _), (b, _)| natural(a, b));
    Some(ids)
}

/// Gives each control its ids in every benchmark, and complains about an id of two controls.
fn resolve(
    written: &mut BTreeMap<String, Written<'_>>,
    declared: &BTreeMap<String, Declared>,
) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for benchmark in declared.values() {
        let name = &benchmark.benchmark.name;
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for one in written.values_mut() {
            let mut at = benchmark;
            let list = loop {
                if let Some(list) = one.own.get(&at.benchmark.name) {
                    break list.as_slice();
                }
                match at.like.as_ref().and_then(|(like, _)| declared.get(like)) {
                    Some(next) => at = next,
                    None => break &[],
                }
            };
            for (id, span) in list.iter().filter(|_| benchmark.benchmark.checks) {
                let Some(other) = taken.insert(id.clone(), one.control.name.clone()) else {
                    continue;
                };
                let fault = format!("two controls claim {} of {}", quoted(id), quoted(name));
                let place = one.file.place(span.clone(), format!("also of `{other}`"));
                faults.push(
                    Diagnostic::new(fault)
                        .at(place)
                        .help("each id is one check: leave it to one of the two"),
                );
            }
            if !list.is_empty() {
                let ids = list.iter().map(|(id, _)| id.clone()).collect();
                one.control.ids.insert(name.clone(), ids);
            }
        }
    }
    faults
}
