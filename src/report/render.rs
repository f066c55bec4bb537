//! What evaluation alone determines, as a tree of files for review.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::fact::{ObjectRef, sha256};
use crate::resource::{Desired, Part, Resource, Scope};

/// By what a written tree is told from other directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The name of the file that is the mark.
    pub file: &'static str,
    /// The command that writes the tree.
    pub command: &'static str,
}

/// The mark of what [`render`] makes.
pub const RENDER: Mark = Mark {
    file: ".harden-render",
    command: "harden render",
};

/// The longest name of a file, in bytes; every file system has 255.
const MAX_NAME: usize = 200;

/// Writes the desired state as files: relative paths and texts. The same state gives the same bytes.
///
/// ```text
/// nodes/_control-plane/flags.yaml      component → flag → merge mode and value
///                      volumes.yaml    component → name → mount
///                      modes.yaml      path → at most this mode, exactly this owner
///                      etc/…           files as they will lie on the node
/// nodes/cp1/…                          what this node has otherwise
/// objects/payments/networkpolicy-….yaml
/// objects/_cluster/namespace-….yaml
/// desired.sha256
/// ```
///
/// No name of a node or namespace begins with `_`, so the two never meet.
///
/// # Errors
/// That two resources want different things of one flag, volume or file, or that a value cannot be
/// written as YAML.
pub fn render(desired: &Desired) -> Result<BTreeMap<String, String>, String> {
    let mut tree = Tree::default();
    for resource in &desired.resources {
        for part in resource.kind.behaviour().parts() {
            tree.add(resource, part)?;
        }
    }
    let mut files = tree.files;
    for (path, settings) in &tree.settings {
        files.insert(path.clone(), yaml(settings)?);
    }
    files.insert("desired.sha256".into(), format!("{}\n", desired.sha256()));
    RENDER.put(&mut files);
    Ok(files)
}

impl Mark {
    /// Adds the mark to a tree.
    pub(super) fn put(&self, files: &mut BTreeMap<String, String>) {
        files.insert(self.file.into(), self.text(files));
    }

    /// Writes what the mark of a tree holds: every other file with its hash, as sha256sum(1) reads it.
    /// A tree that is as its mark says holds nothing that would be lost.
    pub fn text(&self, files: &BTreeMap<String, String>) -> String {
        let mut mark = format!(
            "# Written by `{}`, which replaces this directory as a whole.\n",
            self.command
        );
        for (name, text) in files.iter().filter(|(name, _)| *name != self.file) {
            mark.push_str(&format!("{}  {name}\n", sha256(text)));
        }
        mark
    }
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<String, String>,
    /// The lists of settings by path.
    settings: BTreeMap<String, Map<String, Json>>,
}

impl Tree {
    fn add(&mut self, resource: &Resource, part: Part) -> Result<(), String> {
        match part {
            Part::File { path, content } => {
                let parts: Vec<String> = path.as_str().split('/').map(safe).collect();
                let path = format!("{}{}", directory(resource), parts.join("/"));
                let other = self.files.insert(path.clone(), content);
                if other.is_some_and(|other| self.files.get(&path) != Some(&other)) {
                    return Err(clash(&path));
                }
            }
            Part::Setting {
                list,
                name,
                mut wanted,
            } => {
                if !resource.except.is_empty() {
                    let except: Vec<&str> = resource.except.iter().map(String::as_str).collect();
                    wanted.insert("except".into(), except.into());
                }
                let path = format!("{}/{list}.yaml", directory(resource));
                if !put(self.settings.entry(path).or_default(), &name, wanted) {
                    return Err(clash(&format!("{} in {list}", name.join(" "))));
                }
            }
            Part::Object {
                reference,
                manifest,
            } => {
                let path = self.object_path(&reference);
                let text = manifest.as_object().map(yaml).transpose()?;
                self.files.insert(path, text.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Two groups may have a kind of one name; the second is told apart by a hash.
    fn object_path(&self, object: &ObjectRef) -> String {
        let namespace = match object.namespace.as_str() {
            "" => "_cluster".into(),
            name => safe(name),
        };
        let name = format!("{}-{}", object.kind.to_lowercase(), object.name);
        let path = format!("objects/{namespace}/{}.yaml", safe(&name));
        if self.files.contains_key(&path) {
            let hash = sha256(format!("{}/{}", object.api_version, object.kind));
            format!("objects/{namespace}/{}-{}.yaml", safe(&name), &hash[..12])
        } else {
            path
        }
    }
}

/// The directory of what is wanted on some nodes.
fn directory(resource: &Resource) -> String {
    let nodes = match (&resource.only, resource.scope) {
        (Some(node), _) => safe(node),
        (None, Scope::ControlPlane) => "_control-plane".into(),
        (None, Scope::Workers) => "_workers".into(),
        (None, Scope::Nodes | Scope::Api) => "_all".into(),
    };
    format!("nodes/{nodes}")
}

/// Says that two resources disagree; `plan` says the same of the nodes that it concerns.
pub(super) fn clash(what: &str) -> String {
    format!("two resources of the profile want different things of {what}")
}

/// Puts a setting into tables inside each other; `false` when something else stands there.
fn put(table: &mut Map<String, Json>, name: &[String], wanted: Map<String, Json>) -> bool {
    match name {
        [] => true,
        [last] => match table.get_mut(last) {
            None => {
                table.insert(last.clone(), Json::Object(wanted));
                true
            }
            Some(Json::Object(known)) => *known == wanted || unite(known, wanted),
            Some(_) => false,
        },
        [first, rest @ ..] => {
            let inner = table
                .entry(first.clone())
                .or_insert_with(|| Json::Object(Map::new()));
            inner
                .as_object_mut()
                .is_some_and(|inner| put(inner, rest, wanted))
        }
    }
}

/// Adds the items of a list that another resource has a share in; `false` when the two are no such
/// lists.
fn unite(known: &mut Map<String, Json>, wanted: Map<String, Json>) -> bool {
    let is_list = |table: &Map<String, Json>| table.get("merge") == Some(&Json::from("additive"));
    if !is_list(known) || !is_list(&wanted) || known.get("except") != wanted.get("except") {
        return false;
    }
    for (key, value) in wanted {
        match (known.get_mut(&key), value) {
            (Some(Json::Array(items)), Json::Array(more)) => {
                for item in more {
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                known.insert(key, value);
            }
        }
    }
    true
}

/// Writes YAML with sorted keys, whatever the map's own order is.
fn yaml(table: &Map<String, Json>) -> Result<String, String> {
    fn sorted(json: &Json) -> Sorted<'_> {
        match json {
            Json::Object(entries) => Sorted::Table(
                entries
                    .iter()
                    .map(|(k, v)| (k.as_str(), sorted(v)))
                    .collect(),
            ),
            Json::Array(items) => Sorted::List(items.iter().map(sorted).collect()),
            scalar => Sorted::Scalar(scalar),
        }
    }
    let table: BTreeMap<&str, Sorted<'_>> =
        table.iter().map(|(k, v)| (k.as_str(), sorted(v))).collect();
    let mut text = serde_saphyr::to_string(&table).map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// A value whose tables are sorted.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Sorted<'j> {
    Table(BTreeMap<&'j str, Sorted<'j>>),
    List(Vec<Sorted<'j>>),
    Scalar(&'j Json),
}

/// Makes a name that is one part of a path, on any file system: other characters than letters,
/// digits, `.`, `_` and `-` are written `%` and two digits a byte, and so is a dot at the beginning.
/// Different names stay different.
pub(super) fn safe(name: &str) -> String {
    let mut safe = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || (byte == b'.' && at > 0);
        if plain {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    if safe.len() > MAX_NAME {
        safe.truncate(MAX_NAME - 13);
        safe = format!("{safe}-{}", &sha256(name)[..12]);
    }
    safe
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_would_lead_elsewhere() {
        assert_eq!(safe(".."), "%2E.");
        assert_eq!(safe("a/b"), "a%2Fb");
        assert_eq!(safe("system:x"), "system%3Ax");
        assert_eq!(safe("a%2Fb"), "a%252Fb");
        assert_eq!(safe("cp1.example.com"), "cp1.example.com");
    }

    proptest! {
        #[test]
        fn a_safe_name_is_one_part_of_a_path(name in "(?s).{1,300}", other in "(?s).{1,300}") {
            let part = safe(&name);
            let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.%".contains(&b);
            prop_assert!(part.bytes().all(good), "{part}");
            prop_assert!(!part.is_empty() && !part.starts_with('.') && part.len() <= MAX_NAME);
            prop_assert_eq!(part == safe(&other), name == other);
        }

        #[test]
        fn a_text_stays_a_text(text in "(?s).{0,40}|yes|no|on|0644|1e3|~|null|12:30|.{90,120}") {
            let table = Map::from_iter([("k".to_owned(), Json::from(text.as_str()))]);
            let read: Json = serde_saphyr::from_str(&yaml(&table).unwrap()).unwrap();
            prop_assert_eq!(read, Json::Object(table));
        }
    }
}
