//! The ledger: the list, kept in the cluster itself, of the API objects that harden manages there.
//!
//! It is several ConfigMaps of namespace kube-system, so that any workstation finds it and thousands
//! of objects stay far below the 1 MiB that one may hold (kubernetes v1.35 pkg/apis/core/validation,
//! `MaxSecretSize`, for ConfigMaps too). Whoever can write there is an administrator; all the same
//! every line is checked, and an entry alone is never enough to delete anything: the object must bear
//! harden as a field manager as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Fact, ObjectRef, sha256};

/// The namespace of the ledger.
pub const LEDGER_NAMESPACE: &str = "kube-system";

/// The label by which the parts of the ledger are listed.
pub const LEDGER_LABEL: &str = "harden.dev/ledger";

/// What the names of its parts begin with; a hexadecimal digit follows.
pub const LEDGER_PREFIX: &str = "harden-ledger-";

/// The key `schema` of each part.
const SCHEMA: &str = "harden.dev/ledger/v1";

/// The most bytes of the entries of one part.
const MAX_BYTES: usize = 900 * 1024;

/// How an object came to be managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// harden made it.
    Made,
    /// It was there already, or who made it is not known.
    Adopted,
}

/// What the ledger says of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// How it came to be managed.
    pub how: How,
    /// The `cluster.name` of each workspace that applied it; the last that wants it prunes it, and no other.
    pub workspaces: BTreeSet<String>,
}

/// The whole ledger, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What it lists.
    pub entries: BTreeMap<ObjectRef, Entry>,
    /// Its parts that are damaged, by the name of the ConfigMap, and why.
    pub damaged: BTreeMap<String, String>,
}

/// What was seen of the ledger, and of what it lists and the profile does not want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFacts {
    /// The ledger; [`Fact::Absent`] when it was not asked for. One without parts is empty.
    pub ledger: Fact<Ledger>,
    /// What has left the profile.
    pub left: BTreeMap<ObjectRef, LeftFact>,
    /// The names of all NetworkPolicies of each namespace in which one has left.
    pub policies: BTreeMap<String, Fact<Vec<String>>>,
}

impl Default for LedgerFacts {
    fn default() -> Self {
        LedgerFacts {
            ledger: Fact::Absent,
            left: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }
}

/// What was seen of an object that has left the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftFact {
    /// The object as it is.
    pub live: Fact<Value>,
    /// Whether the cluster has no such kind any more, so that nobody can tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_kind: bool,
    /// What a namespace holds that would be lost with it; [`Fact::Absent`] where it was not asked.
    pub contents: Fact<Vec<String>>,
}

/// What is to be written into the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerEdit {
    /// Entries to add, or to put in the place of what is there.
    pub add: BTreeMap<ObjectRef, Entry>,
    /// Entries to strike out.
    pub remove: BTreeSet<ObjectRef>,
}

/// One line of a part.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    api_version: String,
    kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    how: How,
    workspaces: BTreeSet<String>,
}

impl Ledger {
    /// Reads the parts: the name and the data of each ConfigMap.
    pub fn read(parts: impl IntoIterator<Item = (String, BTreeMap<String, String>)>) -> Self {
        let mut ledger = Ledger::default();
        for (name, data) in parts {
            match read_part(&name, &data) {
                Ok(mut entries) => ledger.entries.append(&mut entries),
                Err(why) => {
                    ledger.damaged.insert(super::probe::clean_text(&name), why);
                }
            }
        }
        ledger
    }

    /// Returns the entries by the identity of their objects, whichever version of an API they name.
    pub fn by_identity(&self) -> HashMap<(&str, &str, &str, &str), &Entry> {
        let entries = self.entries.iter();
        entries.map(|(r, entry)| (r.identity(), entry)).collect()
    }
}

impl LedgerEdit {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Returns what belongs into each part, by the name of its ConfigMap.
    pub fn by_part(&self) -> BTreeMap<String, LedgerEdit> {
        let mut parts: BTreeMap<String, LedgerEdit> = BTreeMap::new();
        for (reference, entry) in &self.add {
            let part = parts.entry(part_of(reference)).or_default();
            part.add.insert(reference.clone(), entry.clone());
        }
        for reference in &self.remove {
            let part = parts.entry(part_of(reference)).or_default();
            part.remove.insert(reference.clone());
        }
        parts
    }

    /// Edits the entries of a part, and returns whether that changed anything.
    pub fn edit(&self, entries: &mut BTreeMap<ObjectRef, Entry>) -> bool {
        let before = entries.clone();
        let touched: BTreeSet<_> = self.add.keys().chain(&self.remove).collect();
        let touched: BTreeSet<_> = touched.into_iter().map(ObjectRef::identity).collect();
        entries.retain(|known, _| !touched.contains(&known.identity()));
        entries.extend(self.add.clone());
        *entries != before
    }
}

/// Returns the name of the ConfigMap that lists an object. The version of its API does not count.
pub fn part_of(reference: &ObjectRef) -> String {
    format!("{LEDGER_PREFIX}{}", digit_of(reference))
}

/// The hexadecimal digit of the part that lists an object: the first of the SHA-256 of its identity.
fn digit_of(reference: &ObjectRef) -> char {
    let (group, kind, namespace, name) = reference.identity();
    let mut hash = Sha256::new();
    for (part, end) in [(group, "\n"), (kind, "\n"), (namespace, "\n"), (name, "")] {
        hash.update(part);
        hash.update(end);
    }
    let first = hash.finalize()[0] >> 4;
    char::from_digit(u32::from(first), 16).unwrap_or_default()
}

/// Reads one part.
///
/// # Errors
/// What is wrong with it, in words that may be shown.
pub fn read_part(
    name: &str,
    data: &BTreeMap<String, String>,
) -> Result<BTreeMap<ObjectRef, Entry>, String> {
    let text = |key: &str| {
        let text = data.get(key).map(String::as_str);
        text.ok_or_else(|| format!("it has no key `{key}`"))
    };
    if text("schema")? != SCHEMA {
        return Err(format!("its `schema` is not {SCHEMA:?}"));
    }
    let lines = text("entries")?;
    if lines.len() > MAX_BYTES {
        return Err("it is too long".into());
    }
    if text("sha256")? != sha256(lines) {
        return Err("it was edited: its `sha256` does not fit its `entries`".into());
    }
    let mut entries = BTreeMap::new();
    for (line, number) in lines.lines().zip(1..) {
        let wrong = |why: &str| format!("line {number} {why}");
        let line: Line = serde_json::from_str(line).map_err(|_| wrong("is no entry"))?;
        let (reference, entry) = line.checked().map_err(wrong)?;
        if name.strip_prefix(LEDGER_PREFIX) != Some(digit_of(&reference).encode_utf8(&mut [0; 4])) {
            return Err(wrong("belongs into another part"));
        }
        if entries.insert(reference, entry).is_some() {
            return Err(wrong("stands there twice"));
        }
    }
    Ok(entries)
}

/// Writes the data of a part.
///
/// # Errors
/// When it would be longer than a ConfigMap may be.
pub fn write_part(
    entries: &BTreeMap<ObjectRef, Entry>,
) -> Result<BTreeMap<String, String>, String> {
    let mut lines = String::new();
    for (reference, entry) in entries {
        let line = Line {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            how: entry.how,
            workspaces: entry.workspaces.clone(),
        };
        lines.push_str(&serde_json::to_string(&line).map_err(|e| e.to_string())?);
        lines.push('\n');
    }
    if lines.len() > MAX_BYTES {
        return Err("there are too many objects for it".into());
    }
    Ok(BTreeMap::from([
        ("schema".to_owned(), SCHEMA.to_owned()),
        ("sha256".to_owned(), sha256(&lines)),
        ("entries".to_owned(), lines),
    ]))
}

impl Line {
    /// Checks that it names an object that harden can have applied. What it says becomes part of a
    /// path, and of what is shown.
    fn checked(self) -> Result<(ObjectRef, Entry), &'static str> {
        let word = |text: &str, more: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            (1..=253).contains(&text.len()) && text.chars().all(known)
        };
        let is_version = match self.api_version.split_once('/') {
            Some((group, version)) => word(group, "-.") && word(version, ""),
            None => word(&self.api_version, ""),
        };
        let is_namespace = |text: &str| text.is_empty() || word(text, "-");
        // RBAC allows colons in names.
        let is_name = word(&self.name, "-.:_") && !matches!(self.name.as_str(), "." | "..");
        if !(is_version && word(&self.kind, "") && is_namespace(&self.namespace) && is_name) {
            return Err("names no object");
        }
        if self.api_version == "v1" && self.kind == "Secret" {
            return Err("names a Secret, which harden never manages");
        }
        let is_workspace = |name: &String| name.len() <= 253 && !name.chars().any(char::is_control);
        if self.workspaces.is_empty() || !self.workspaces.iter().all(is_workspace) {
            return Err("names no workspace");
        }
        Ok((
            ObjectRef {
                api_version: self.api_version,
                kind: self.kind,
                namespace: self.namespace,
                name: self.name,
            },
            Entry {
                how: self.how,
                workspaces: self.workspaces,
            },
        ))
    }
}

#[cfg(test)]
mod tests;
