//! The modules of a workspace: those that are part of the program, and its own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::diagnostic::{Diagnostic, Failure};
use super::read::read;
use super::section::{Complaints, File, Section, parse, quoted};
use super::source::{inside, toml_files};
use crate::module::Modules;

/// Reads the modules that `modules` in `harden.toml` names, beside the built-in ones. Each is a
/// `.toml` file inside the workspace, or a directory of such files; the file's name is the section
/// that it gives to profiles.
///
/// What is wrong with `harden.toml` itself is left to [`load`](super::load).
///
/// # Errors
/// Everything that is wrong with any of the modules.
pub fn modules(dir: &Path) -> Result<Modules, Failure> {
    let Ok(root) = dir.canonicalize() else {
        return Modules::builtin();
    };
    let Ok(file) = inside(&root, Path::new("harden.toml"))
        .and_then(|(path, name)| read(&path, &name).map_err(|fault| fault.message))
    else {
        return Modules::builtin();
    };
    let mut ignored = Complaints::new(&file);
    let table = parse(&file, &mut ignored);
    let names = Section::new(&table, "").strings("modules", &mut ignored);
    let mut found = Found {
        root: &root,
        files: BTreeMap::new(),
        faults: Vec::new(),
    };
    for (name, span) in names {
        found.add(name, &span, &file);
    }
    if found.faults.is_empty() {
        Modules::with(found.files)
    } else {
        Err(Failure(found.faults))
    }
}

struct Found<'r> {
    root: &'r Path,
    files: BTreeMap<String, File>,
    faults: Vec<Diagnostic>,
}

impl Found<'_> {
    /// Adds what one entry of `modules` names.
    fn add(&mut self, entry: &str, span: &Range<usize>, file: &File) {
        let fault = |message: String, help: &str| {
            let place = file.place(span.clone(), "here");
            Diagnostic::new(message).at(place).help(help)
        };
        let each = match self.list(entry) {
            Ok(each) => each,
            Err(why) => {
                let message = format!("the module {} cannot be read: it {why}", quoted(entry));
                let help = "modules are .toml files inside the workspace, or directories of them";
                return self.faults.push(fault(message, help));
            }
        };
        for (path, name) in each {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let stem = stem.into_owned();
            if Modules::is_builtin(&stem) {
                let message = format!("{} has the name of a built-in module", quoted(&name));
                let help = "rename the file: its name is the section in profiles";
                self.faults.push(fault(message, help));
                continue;
            }
            let other = self.files.get(&stem).filter(|other| other.name != name);
            if let Some(other) = other {
                let (one, two) = (quoted(&other.name), quoted(&name));
                let message = format!("{one} and {two} are modules of the same name");
                self.faults.push(fault(message, "rename one of the files"));
                continue;
            }
            match read(&path, &name) {
                Ok(text) => {
                    self.files.insert(stem, text);
                }
                Err(mut fault) => {
                    if fault.place.is_none() {
                        fault.place = Some(file.place(span.clone(), "named here"));
                    }
                    self.faults.push(*fault);
                }
            }
        }
    }

    /// Lists the files behind an entry, with their names. The error continues a sentence.
    fn list(&self, entry: &str) -> Result<Vec<(PathBuf, String)>, String> {
        let plain = |part| !matches!(part, Component::RootDir | Component::Prefix(_));
        if !Path::new(entry).components().all(plain) {
            return Err("is no relative path".into());
        }
        let (path, name) = inside(self.root, Path::new(entry))?;
        if !path.is_dir() {
            return if path.extension().is_some_and(|e| e == "toml") {
                Ok(vec![(path, name)])
            } else {
                Err("does not end in .toml".into())
            };
        }
        let files = toml_files(&path)?;
        if files.is_empty() {
            return Err("holds no .toml file".into());
        }
        // A link in it may lead elsewhere.
        let resolve = |file: String| inside(self.root, &Path::new(&name).join(file));
        files.into_iter().map(resolve).collect()
    }
}
