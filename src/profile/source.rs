//! Finds the files of a workspace: `harden.toml` and everything it imports.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::builtin;
use super::diagnostic::{Diagnostic, Failure, Source};
use super::layer::{self, Layer};
use super::policy_file;
use super::read::read;
use super::section::{Complaints, File, Section, nearest, one_of, parse, quoted};
use super::workspace::{self, Settings};
use crate::module::Modules;

/// The greatest number of files of one workspace.
const MAX_FILES: usize = 500;

/// What makes a file the same file, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A built-in profile by name.
    Builtin(String),
    /// A file by its canonical path.
    Path(PathBuf),
}

/// Reads `harden.toml` and its imports.
pub(super) struct Loader<'m> {
    /// The canonical path of the workspace.
    root: PathBuf,
    modules: &'m Modules,
    pub(super) layers: Vec<Layer>,
    /// Every file that was met; those that could not be read have no layer.
    known: BTreeMap<Key, Option<usize>>,
    /// The files between `harden.toml` and the one that is being read, with their names.
    way: Vec<(Key, String)>,
    pub(super) settings: Option<Settings>,
    pub(super) faults: Vec<Diagnostic>,
}

impl<'m> Loader<'m> {
    /// Reads everything from `harden.toml` on; faults are collected.
    pub(super) fn load(dir: &Path, modules: &'m Modules) -> Result<Self, Failure> {
        let shown = quoted(&dir.to_string_lossy());
        let root = dir.canonicalize().map_err(|error| {
            let fault = Diagnostic::new(format!("the workspace {shown} cannot be opened: {error}"));
            Failure(vec![
                fault.help("name an existing directory with a harden.toml"),
            ])
        })?;
        let mut loader = Loader {
            root,
            modules,
            layers: Vec::new(),
            known: BTreeMap::new(),
            way: Vec::new(),
            settings: None,
            faults: Vec::new(),
        };
        match loader.find(Path::new("harden.toml")) {
            Ok((key, path, name)) => match read(&path, &name) {
                Ok(file) => {
                    loader.visit(key, file);
                }
                Err(fault) => loader.faults.push(*fault),
            },
            Err(why) => {
                let fault = Diagnostic::new(format!("harden.toml in {shown} {why}"));
                let help = "run in the directory of a workspace, or write a harden.toml with \
                            `imports` and `[cluster]`";
                loader.faults.push(fault.help(help));
            }
        }
        Ok(loader)
    }

    /// Resolves a path below the workspace. The error continues a sentence.
    fn find(&self, relative: &Path) -> Result<(Key, PathBuf, String), String> {
        let (path, name) = inside(&self.root, relative)?;
        Ok((Key::Path(path.clone()), path, name))
    }

    /// Reads one file and what it imports; returns its index.
    fn visit(&mut self, key: Key, file: File) -> Option<usize> {
        let is_root = self.way.is_empty();
        if !is_root && policy_file::is_named(Path::new(&file.name)) {
            return self.visit_policy(key, file);
        }
        let mut out = Complaints::new(&file);
        let table = parse(&file, &mut out);
        if !out.list.is_empty() {
            // What a broken file seems to say would only add faults that are none.
            self.faults.extend(out.sorted());
            self.known.insert(key, None);
            return None;
        }
        let mut top = Section::new(&table, "");
        let imports = top.strings("imports", &mut out);
        if is_root {
            self.settings = workspace::settings(&table, self.modules, &mut out);
        }
        let own = layer::values(&table, is_root, self.modules, &mut out);
        let unset = layer::unset(&table, self.modules, &mut out);
        self.faults.extend(out.sorted());

        self.way.push((key.clone(), file.name.clone()));
        let (mut direct, mut below) = (BTreeSet::new(), BTreeSet::new());
        let from = matches!(key, Key::Builtin(_));
        for (import, span) in imports {
            let each = match self.directory(import, &span, &file) {
                Ok(names) => names.unwrap_or_else(|| vec![import.to_owned()]),
                Err(fault) => {
                    self.faults.push(*fault);
                    continue;
                }
            };
            for import in each {
                match self.import(&import, &span, &file, from) {
                    Ok(Some(index)) => {
                        direct.insert(index);
                        below.insert(index);
                        below.extend(self.layers[index].below.iter().copied());
                    }
                    Ok(None) => {}
                    Err(fault) => self.faults.push(*fault),
                }
            }
        }
        self.way.pop();
        let index = self.layers.len();
        self.layers.push(Layer {
            file,
            own,
            unset,
            imports: direct,
            below,
        });
        self.known.insert(key, Some(index));
        Some(index)
    }

    /// Reads an audit policy, which imports nothing; returns its index.
    fn visit_policy(&mut self, key: Key, file: File) -> Option<usize> {
        let mut out = Complaints::new(&file);
        let own = policy_file::values(&file, self.modules, &mut out);
        self.faults.extend(out.sorted());
        let index = self.layers.len();
        self.layers.push(Layer {
            file,
            own,
            unset: BTreeMap::new(),
            imports: BTreeSet::new(),
            below: BTreeSet::new(),
        });
        self.known.insert(key, Some(index));
        Some(index)
    }

    /// Lists the imports that a directory stands for: every `.toml` file right in it. `None` when
    /// the import is no directory of the workspace.
    fn directory(
        &self,
        import: &str,
        span: &Range<usize>,
        file: &File,
    ) -> Result<Option<Vec<String>>, Box<Diagnostic>> {
        let path = Path::new(import);
        if import.starts_with("builtin:") || !path.components().all(relative) {
            return Ok(None);
        }
        let parent = Path::new(&file.name).parent().unwrap_or(Path::new(""));
        let Ok((_, found, _)) = self.find(&parent.join(path)) else {
            return Ok(None);
        };
        if !found.is_dir() {
            return Ok(None);
        }
        let names = toml_files(&found).and_then(|names| {
            if names.is_empty() {
                Err("holds no .toml file".to_owned())
            } else {
                Ok(names)
            }
        });
        let names = names.map_err(|why| {
            let message = format!(
                "the directory {} cannot be imported: it {why}",
                quoted(import)
            );
            let help = "import a directory that holds profiles, or a .toml file";
            Box::new(
                Diagnostic::new(message)
                    .at(file.place(span.clone(), "here"))
                    .help(help),
            )
        })?;
        let join = |name: String| format!("{}/{name}", import.trim_end_matches('/'));
        Ok(Some(names.into_iter().map(join).collect()))
    }

    /// Follows one import; `None` when what is wrong with it was told already.
    fn import(
        &mut self,
        import: &str,
        span: &Range<usize>,
        file: &File,
        from_builtin: bool,
    ) -> Result<Option<usize>, Box<Diagnostic>> {
        let shown = quoted(import);
        let refuse = |message: String, label: &str, help: &str| {
            let place = file.place(span.clone(), label);
            Box::new(Diagnostic::new(message).at(place).help(help))
        };
        let (key, path, name) = if let Some(name) = import.strip_prefix("builtin:") {
            (Key::Builtin(name.to_owned()), None, import.to_owned())
        } else {
            let path = Path::new(import);
            let bad = if from_builtin {
                Some("a built-in profile imports built-in profiles only")
            } else if path.is_absolute() || !path.components().all(relative) {
                Some("imports are relative paths inside the workspace")
            } else if path.extension().is_some() && !is_importable(path) {
                Some(NAMES)
            } else {
                None
            };
            if let Some(help) = bad {
                return Err(refuse(format!("{shown} cannot be imported"), "here", help));
            }
            let parent = Path::new(&file.name).parent().unwrap_or(Path::new(""));
            let (key, path, name) = self.find(&parent.join(path)).map_err(|why| {
                let help = if policy_file::is_named(Path::new(import)) {
                    "an audit policy is a file inside the workspace, relative to the file that imports it"
                } else {
                    "imports are .toml files inside the workspace, relative to the file \
                     that imports them"
                };
                refuse(
                    format!("{shown} cannot be imported: it {why}"),
                    "here",
                    help,
                )
            })?;
            if !is_importable(&path) {
                return Err(refuse(format!("{shown} cannot be imported"), "here", NAMES));
            }
            (key, Some(path), name)
        };
        if let Some(at) = self.way.iter().position(|(open, _)| *open == key) {
            let ring: Vec<&str> = self.way[at..]
                .iter()
                .map(|(_, name)| name.as_str())
                .chain([&*name])
                .collect();
            return Err(refuse(
                format!("the imports form a ring: {}", ring.join(" → ")),
                "this closes the ring",
                "remove one of these imports",
            ));
        }
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        if self.known.len() >= MAX_FILES {
            let message = format!("the workspace has more than {MAX_FILES} files");
            return Err(refuse(message, "not read any more", "join some of them"));
        }
        let found = match &path {
            Some(path) => read(path, &name).map_err(|mut fault| {
                if fault.place.is_none() {
                    fault.place = Some(file.place(span.clone(), "imported here"));
                }
                fault
            }),
            None => builtin_file(&name, file.place(span.clone(), "")),
        };
        match found {
            Ok(read) => Ok(self.visit(key, read)),
            Err(fault) => {
                self.known.insert(key, None);
                Err(fault)
            }
        }
    }
}

/// What the names of files say that can be imported.
const NAMES: &str = "a profile's name ends in .toml, that of an audit policy in .yaml";

fn is_importable(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml") || policy_file::is_named(path)
}

/// Resolves a path below the canonical path of a workspace: the canonical path, and how the user
/// names it. The error continues a sentence.
pub(super) fn inside(root: &Path, relative: &Path) -> Result<(PathBuf, String), String> {
    let path = root
        .join(relative)
        .canonicalize()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            _ => format!("cannot be opened: {e}"),
        })?;
    let Ok(inside) = path.strip_prefix(root) else {
        return Err("lies outside the workspace".into());
    };
    // The name stands for the file in harden.lock: no two files may share it.
    let parts = inside.components().map(|part| part.as_os_str().to_str());
    let name = parts.collect::<Option<Vec<_>>>().map(|all| all.join("/"));
    let Some(name) = name.filter(|name| !name.starts_with("builtin:")) else {
        return Err("has a name that begins with `builtin:` or is not UTF-8".into());
    };
    Ok((path, name))
}

/// Lists the names of the `.toml` files right in a directory, sorted; hidden ones are left out. The
/// error continues a sentence.
pub(super) fn toml_files(dir: &Path) -> Result<Vec<String>, String> {
    let cannot = |e: std::io::Error| format!("cannot be listed: {e}");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let Some(name) = name.to_str() else {
            return Err(format!(
                "holds {}, whose name is not UTF-8",
                quoted(&name.to_string_lossy())
            ));
        };
        if name.ends_with(".toml") && !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn relative(part: Component<'_>) -> bool {
    !matches!(part, Component::RootDir | Component::Prefix(_))
}

fn builtin_file(name: &str, mut place: Source) -> Result<File, Box<Diagnostic>> {
    let wanted = name.strip_prefix("builtin:").unwrap_or(name);
    if let Some((_, text)) = builtin::PROFILES.iter().find(|(known, _)| *known == wanted) {
        return Ok(File {
            name: name.to_owned(),
            text: (*text).into(),
        });
    }
    let names = || builtin::PROFILES.iter().map(|(name, _)| *name);
    place.label = match nearest(wanted, names()) {
        Some(near) => format!("did you mean `builtin:{near}`?"),
        None => "unknown".into(),
    };
    let message = format!("there is no built-in profile {}", quoted(wanted));
    let help = format!("use {}", one_of(names()));
    Err(Box::new(Diagnostic::new(message).at(place).help(help)))
}
