//! `harden.lock`: what a workspace was when its authors last accepted it.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::Workspace;
use super::diagnostic::{Diagnostic, Failure, is_obeyed};
use super::read::plain;
use super::section::{Complaints, File, Section, kind, parse, quoted};

/// The name of the lock file in a workspace.
pub const LOCK_FILE: &str = "harden.lock";

/// The version of the format that is read and written.
const FORMAT: i64 = 1;

/// What begins the name of a file that is part of the program.
const BUILTIN: &str = "builtin:";

/// What begins the name of a module that is part of the program; each is in use without an import.
const BUILTIN_MODULE: &str = "builtin:modules/";

/// What a hash begins with.
const HASH: &str = "sha256:";

const HELP: &str =
    "`harden lock` writes the file anew; nothing in it is meant to be written by hand";

/// Everything that the meaning of a workspace rests on besides the live cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The version of the program.
    pub harden: String,
    /// The cluster that the workspace is for.
    pub cluster: ClusterIdentity,
    /// The SHA-256 of every file that was read, as in [`Workspace::files`].
    pub files: BTreeMap<String, String>,
}

/// What tells one cluster, and one release of Kubernetes, from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// The UID of namespace kube-system.
    pub id: String,
    /// Major and minor version of the API server, for example `1.35`.
    pub kubernetes: String,
}

impl Lock {
    /// Returns the lock of a workspace as it is now, by this version of the program.
    pub fn new(workspace: &Workspace, cluster: ClusterIdentity) -> Self {
        Lock {
            harden: crate::VERSION.into(),
            cluster,
            files: workspace.files.clone(),
        }
    }

    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places and remedies.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Lock::from_read(plain(LOCK_FILE, text.to_owned()))
    }

    /// Understands a file that was read, or says why it could not be.
    pub(super) fn from_read(found: Result<File, Box<Diagnostic>>) -> Result<Self, Failure> {
        let file = found.map_err(|fault| {
            Failure(vec![
                fault.help("move it away; `harden lock` writes it anew"),
            ])
        })?;
        let mut out = Complaints::new(&file);
        let lock = read(&file, &mut out);
        let faults = out.sorted();
        match lock {
            Some(lock) if faults.is_empty() => Ok(lock),
            _ => Err(Failure(faults.into_iter().map(|f| f.help(HELP)).collect())),
        }
    }

    /// Writes the text of the lock file; the same lock gives the same bytes.
    pub fn render(&self) -> String {
        let mut text = format!(
            "# Written by `harden lock`; keep it in git. `harden plan` and `harden apply` refuse to work\n\
             # while the workspace differs from it.\n\
             version = {FORMAT}\n\
             harden = {}\n\
             \n\
             [cluster]\n\
             id = {}\n\
             kubernetes = {}\n\
             \n\
             [files]\n",
            string(&self.harden),
            string(&self.cluster.id),
            string(&self.cluster.kubernetes),
        );
        for (name, hash) in &self.files {
            text.push_str(&format!("{} = \"{HASH}{hash}\"\n", string(name)));
        }
        text
    }

    /// Says in plain words, one line each, what has moved from this lock to `now`.
    pub fn differences(&self, now: &Lock) -> Vec<String> {
        let mut moved = self.local_differences(&now.harden, &now.files);
        moved.extend(self.cluster_differences(&now.cluster));
        moved
    }

    /// The differences that can be told without asking the cluster: in the program and the files.
    pub fn local_differences(&self, harden: &str, files: &BTreeMap<String, String>) -> Vec<String> {
        let (was, is) = (shown(&self.harden), shown(harden));
        let mut moved = Vec::new();
        if self.harden != harden {
            moved.push(format!("harden {was} wrote the lock, this is {is}"));
        }
        let builds = if self.harden == harden {
            format!("another build of harden {was} wrote the lock")
        } else {
            format!("harden {was} wrote the lock, this is {is}")
        };
        let mut names: Vec<&String> = self.files.keys().chain(files.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let builtin = name.starts_with(BUILTIN);
            let module = name.starts_with(BUILTIN_MODULE);
            let file = shown(name);
            moved.push(match (self.files.get(name), files.get(name)) {
                (Some(then), Some(now)) if then == now => continue,
                (Some(_), Some(_)) if builtin => format!("{file} differs: {builds}"),
                (Some(_), Some(_)) => format!("{file} was changed"),
                (None, _) if module => format!("{file} is not in the lock: {builds}"),
                (None, _) => format!("{file} is imported and not in the lock"),
                (Some(_), None) if module => format!("{file} is in the lock only: {builds}"),
                (Some(_), None) => format!("{file} is in the lock and no longer imported"),
            });
        }
        moved
    }

    /// The differences in the cluster.
    pub fn cluster_differences(&self, now: &ClusterIdentity) -> Vec<String> {
        let then = &self.cluster;
        let mut moved = Vec::new();
        if then.id != now.id {
            moved.push(format!(
                "the lock is of cluster UID {}, this one is {}",
                shown(&then.id),
                shown(&now.id)
            ));
        }
        if then.kubernetes != now.kubernetes {
            moved.push(format!(
                "Kubernetes was {}, is {}",
                shown(&then.kubernetes),
                shown(&now.kubernetes)
            ));
        }
        moved
    }
}

/// Reads the file; whatever is missing or wrong is a complaint.
fn read(file: &File, out: &mut Complaints<'_>) -> Option<Lock> {
    let table = parse(file, out);
    if !out.list.is_empty() {
        return None;
    }
    let mut top = Section::new(&table, "");
    if !is_known_format(&mut top, &table, out) {
        // A later format may have other keys; complaining about each would hide the reason.
        return None;
    }
    let harden = word(&mut top, "harden", 0..0, out);
    let cluster = part(&mut top, &table, "cluster", out).and_then(|(inner, key)| {
        let mut section = Section::new(inner, "cluster");
        let id = word(&mut section, "id", key.clone(), out);
        let kubernetes = word(&mut section, "kubernetes", key, out);
        section.finish(out);
        Some(ClusterIdentity {
            id: id?,
            kubernetes: kubernetes?,
        })
    });
    let files = part(&mut top, &table, "files", out).map(|(inner, _)| hashes(inner, out));
    top.finish(out);
    Some(Lock {
        harden: harden?,
        cluster: cluster?,
        files: files?,
    })
}

fn is_known_format(
    top: &mut Section<'_, '_>,
    table: &DeTable<'_>,
    out: &mut Complaints<'_>,
) -> bool {
    let Some(node) = table.get("version") else {
        out.at(0..0, "`version` is missing", "needed here", HELP);
        return false;
    };
    match top.number("version", 1..=9999, out) {
        Some(FORMAT) => true,
        Some(version) => {
            let message = format!(
                "this lock has format version {version}; harden {} reads version {FORMAT}",
                crate::VERSION
            );
            out.at(
                node.span(),
                message,
                "a newer harden wrote it: use that one",
                HELP,
            );
            false
        }
        None => false,
    }
}

/// Returns a text that is there and not empty.
fn word(
    section: &mut Section<'_, '_>,
    key: &'static str,
    parent: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<String> {
    let text = section.required(key, parent, out)?;
    if text.is_empty() {
        let span = section.get(key).map_or(0..0, Spanned::span);
        out.at(span, format!("`{key}` is empty"), "here", HELP);
        return None;
    }
    Some(text.to_owned())
}

/// Returns a table that must be there, with the place of its name.
fn part<'t>(
    top: &mut Section<'t, 't>,
    table: &DeTable<'t>,
    key: &'static str,
    out: &mut Complaints<'_>,
) -> Option<(&'t DeTable<'t>, Range<usize>)> {
    let Some((name, _)) = table.get_key_value(key) else {
        top.get(key);
        out.at(0..0, format!("`[{key}]` is missing"), "needed here", HELP);
        return None;
    };
    Some((top.table(key, out)?, name.span()))
}

/// Reads `[files]`.
fn hashes(table: &DeTable<'_>, out: &mut Complaints<'_>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (key, node) in table {
        let name = key.get_ref().as_ref();
        let text = node.get_ref().as_str();
        match text.and_then(|text| text.strip_prefix(HASH)) {
            Some(hash) if is_hash(hash) => {
                files.insert(name.to_owned(), hash.to_owned());
            }
            _ => {
                let found = match text {
                    Some(_) => "not such a hash",
                    None => kind(node.get_ref()),
                };
                out.at(
                    node.span(),
                    format!(
                        "the hash of {} must be `{HASH}` and 64 hexadecimal digits",
                        quoted(name)
                    ),
                    format!("this is {found}"),
                    HELP,
                );
            }
        }
    }
    files
}

fn is_hash(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(digit)
}

/// Writes a TOML basic string. What a reader of files would refuse, or a terminal obey, is escaped.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_obeyed(c) => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A name for a sentence: whole, since two long paths may differ at their ends, and without
/// control characters or direction marks.
fn shown(name: &str) -> String {
    let escaped = name.escape_debug().to_string();
    escaped.replace("\\\"", "\"").replace("\\'", "'")
}
