//! Modules: options and the resources they become.
//!
//! A module is a TOML file that declares options and tables of resources with `${option}` in
//! them. It can interpolate, select and repeat; it cannot compute. [`Modules`] holds what was
//! declared, [`evaluate`] puts the values of a workspace into it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

mod assertion;
mod availability;
mod builtin;
pub(crate) mod check;
mod declare;
mod evaluate;
mod expand;
mod expression;
mod name;
mod objects;
mod option;
mod option_type;
mod predicate;
pub(crate) mod rbac_subject;
mod sample;
pub(crate) mod scalar;
mod table;
mod template;
#[cfg(test)]
mod tests;

pub use availability::unavailable;
pub use evaluate::evaluate;
pub use option::{DISTRIBUTIONS, Fields, Minors, OptionDecl, Pattern, Per, Stricter, Type};
pub use predicate::Check;
pub use sample::sample;

use crate::profile::section::{Complaints, File, Section, parse, quoted};
use crate::profile::{Diagnostic, Failure};
use assertion::Assertion;
use table::ResourceDecl;

/// Sections of `harden.toml` that are no modules.
pub(crate) const RESERVED: &[&str] = &[
    "imports", "unset", "modules", "accept", "cluster", "nodes", "apply",
];

/// All modules that a workspace can use.
#[derive(Debug, Clone)]
pub struct Modules {
    modules: BTreeMap<String, Module>,
    options: BTreeMap<String, OptionDecl>,
}

/// One module.
#[derive(Debug, Clone)]
pub struct Module {
    /// What it is about, in one sentence.
    pub summary: String,
    file: File,
    resources: Vec<ResourceDecl>,
    assertions: Vec<Assertion>,
    /// What its controls ask.
    pub checks: Vec<Check>,
}

impl Module {
    /// Returns the file that it was read from.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether one of its assertions is about a control.
    pub(crate) fn asserts(&self, control: &str) -> bool {
        let mut named = self.assertions.iter().filter_map(|a| a.control.as_ref());
        named.any(|(name, _)| name == control)
    }

    /// Returns the controls that assertions and checks name, with the places.
    pub(crate) fn named_controls(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let asserted = self.assertions.iter().filter_map(|a| a.control.as_ref());
        let asserted = asserted.map(|(name, place)| (name.as_str(), place.clone()));
        let checked = self.checks.iter();
        asserted.chain(checked.map(|check| (check.control.as_str(), check.place.clone())))
    }
}

impl Modules {
    /// Returns the modules that are part of the program.
    ///
    /// # Errors
    /// What is wrong with them; a test sees to it that nothing is.
    pub fn builtin() -> Result<Self, Failure> {
        Modules::read(Self::builtin_files())
    }

    /// Returns the modules that are part of the program, and these.
    pub(crate) fn with(own: BTreeMap<String, File>) -> Result<Self, Failure> {
        let mut files = Self::builtin_files();
        files.extend(own);
        Modules::read(files)
    }

    /// Whether a module of this name is part of the program.
    pub(crate) fn is_builtin(name: &str) -> bool {
        builtin::MODULES.iter().any(|(known, _)| *known == name)
    }

    fn builtin_files() -> BTreeMap<String, File> {
        let files = builtin::MODULES.iter().map(|(name, text)| {
            let file = File {
                name: format!("builtin:modules/{name}.toml"),
                text: (*text).into(),
            };
            ((*name).to_owned(), file)
        });
        files.collect()
    }

    /// Reads modules, given by name.
    pub(crate) fn read(files: BTreeMap<String, File>) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        // All options come first, since a module may name those of another.
        let mut options = BTreeMap::new();
        for (name, file) in &files {
            let mut out = Complaints::new(file);
            let table = parse(file, &mut out);
            if RESERVED.contains(&name.as_str()) || name.contains('.') {
                out.at(
                    0..0,
                    format!("a module cannot be called {}", quoted(name)),
                    "here",
                    "rename the file",
                );
            }
            if out.list.is_empty() {
                options.extend(declare::options(
                    name,
                    &mut Section::new(&table, ""),
                    &mut out,
                ));
            }
            faults.extend(out.sorted());
        }
        if !faults.is_empty() {
            return Err(Failure(faults));
        }
        let mut modules = BTreeMap::new();
        let mut used = BTreeSet::new();
        for (name, file) in &files {
            let mut out = Complaints::new(file);
            let table = parse(file, &mut out);
            let mut top = Section::new(&table, "");
            top.get("options");
            if let Some(heading) = declare::heading(&mut top, &mut out) {
                let context = table::Context {
                    options: &options,
                    on: heading.on,
                    for_each: heading.for_each,
                };
                let resources = table::read(&context, &mut top, &mut used, &mut out);
                let assertions = assertion::read(&context, &mut top, &mut used, &mut out);
                let module = Module {
                    summary: heading.summary,
                    file: file.clone(),
                    resources,
                    assertions,
                    checks: predicate::read(&mut top, &mut out),
                };
                modules.insert(name.clone(), module);
            }
            top.finish(&mut out);
            faults.extend(out.sorted());
        }
        if faults.is_empty() {
            faults.extend(useless(&options, &used));
        }
        if faults.is_empty() {
            Ok(Modules { modules, options })
        } else {
            Err(Failure(faults))
        }
    }

    /// Whether a profile may have a section of this name.
    pub(crate) fn has_section(&self, name: &str) -> bool {
        self.modules.contains_key(name)
    }

    /// Returns an option by its full name, for example `apiserver.profiling`.
    pub fn option(&self, name: &str) -> Option<&OptionDecl> {
        self.options.get(name)
    }

    /// Returns every option by full name.
    pub fn options(&self) -> impl Iterator<Item = &OptionDecl> {
        self.options.values()
    }

    /// Returns the files that the modules were read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.modules.values().map(|module| &module.file)
    }

    /// Returns every option and every field of one, at any depth, by full name.
    pub fn declarations(&self) -> Vec<&OptionDecl> {
        fn walk<'m>(decl: &'m OptionDecl, all: &mut Vec<&'m OptionDecl>) {
            all.push(decl);
            inside(&decl.ty, all);
        }
        fn inside<'m>(ty: &'m Type, all: &mut Vec<&'m OptionDecl>) {
            match ty {
                Type::Record(fields) | Type::Attrs(fields) => {
                    fields.values().for_each(|field| walk(field, all));
                }
                Type::List(item) | Type::Set(item) | Type::Map(item) => inside(item, all),
                _ => {}
            }
        }
        let mut all = Vec::new();
        self.options.values().for_each(|decl| walk(decl, &mut all));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Returns every module by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules
            .iter()
            .map(|(name, module)| (name.as_str(), module))
    }
}

/// Complains about options and fields that no resource uses: setting them would do nothing.
fn useless(options: &BTreeMap<String, OptionDecl>, used: &BTreeSet<String>) -> Vec<Diagnostic> {
    fn walk(decl: &OptionDecl, used: &BTreeSet<String>, faults: &mut Vec<Diagnostic>) {
        if !used.contains(&decl.name) {
            faults.push(
                Diagnostic::new(format!(
                    "no resource uses the option {}",
                    quoted(&decl.name)
                ))
                .help("interpolate it in a resource of its module, or remove it"),
            );
        }
        if let Type::Record(fields) | Type::Attrs(fields) = &decl.ty {
            fields.values().for_each(|field| walk(field, used, faults));
        }
    }
    let mut faults = Vec::new();
    options
        .values()
        .for_each(|decl| walk(decl, used, &mut faults));
    faults
}
