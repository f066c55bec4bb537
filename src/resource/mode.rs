//! `[[mode]]`: mode and owner of a file or directory, or of what is in one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Behaviour, Difference, Draft, Effect, Part, Place, Resource, Subject};
use crate::fact::{Answer, Fact, Facts, FileKind, Meta, Node, NodePath, Query};

mod pattern;

pub use pattern::Pattern;

/// At most these permission bits, and this owner. A stricter mode satisfies it, and no bit is ever
/// added. What the table does not name is neither touched nor judged.
///
/// With `entries` it concerns the regular files whose names match, and where no `mode` is given the
/// directories as well: one mode cannot serve both. Symlinks are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mode {
    path: NodePath,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<Pattern>,
    mode: Option<u32>,
    owner: Option<String>,
    group: Option<String>,
    missing: Missing,
    #[serde(default, skip_serializing_if = "Linked::is_usual")]
    linked: Linked,
    /// Bits that are left to a file because another resource needs them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    kept: BTreeMap<NodePath, u32>,
}

/// What a missing file means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Missing {
    #[default]
    Ignore,
    Error,
}

/// What it means that a path leads over a symbolic link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Linked {
    /// A link above the file is followed; one in its place is an error.
    #[default]
    Usual,
    /// It is another name of a file that has a table of its own, and no concern of this one.
    Ignore,
}

impl Linked {
    fn is_usual(&self) -> bool {
        *self == Linked::Usual
    }
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    path: NodePath,
    entries: Option<Pattern>,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
    #[serde(default)]
    missing: Missing,
    #[serde(default)]
    linked: Linked,
}

impl Mode {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[mode]]
    /// path    = "/etc/kubernetes/admin.conf"
    /// mode    = "0600"             # at most
    /// owner   = "root"
    /// group   = "root"
    /// missing = "ignore"           # or "error"
    /// linked  = "usual"            # or "ignore": a path over a symbolic link is no concern
    ///
    /// [[mode]]
    /// path    = "/etc/kubernetes/pki"
    /// entries = "*.key"            # files in it; "*/*.key": files in its directories
    /// mode    = "0600"
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: serde_json::Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let mode = table.mode.as_deref().map(parse_mode).transpose()?;
        for (field, name) in [("owner", &table.owner), ("group", &table.group)] {
            // passwd(5) names, as chown(1) takes them: no colon, no leading dash, no digits only.
            let good = name.as_ref().is_none_or(|name| {
                (1..=32).contains(&name.len())
                    && !name.starts_with('-')
                    && !name.bytes().all(|b| b.is_ascii_digit())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            });
            if !good {
                return Err(format!("{field}: it is no name of a user or group"));
            }
        }
        if mode.is_none() && table.owner.is_none() && table.group.is_none() {
            return Err("mode: give at least one of mode, owner and group".into());
        }
        if table.entries.is_some() && table.linked == Linked::Ignore {
            return Err("linked: it is for a single file, and entries are several".into());
        }
        Ok(Mode {
            path: table.path,
            entries: table.entries,
            mode,
            owner: table.owner,
            group: table.group,
            missing: table.missing,
            linked: table.linked,
            kept: BTreeMap::new(),
        })
    }

    /// Returns the mode that is wanted at most; `None` when it does not matter.
    pub fn at_most(&self) -> Option<u32> {
        self.mode
    }

    /// Leaves a file these bits although the mode does not have them. Returns whether that makes a
    /// difference.
    pub(super) fn keep(&mut self, path: &NodePath, bits: u32) -> bool {
        let ours = match (&self.entries, path.split()) {
            (None, _) => self.path == *path,
            (Some(pattern), Some((dir, name))) => {
                !pattern.is_below() && dir == self.path && pattern.matches(name)
            }
            (Some(_), None) => false,
        };
        let differs = ours && self.mode.is_some_and(|most| bits & !most != 0);
        if differs {
            *self.kept.entry(path.clone()).or_default() |= bits;
        }
        differs
    }

    /// What the file should be like.
    fn applied(&self, path: &NodePath, meta: &Meta) -> Meta {
        let kept = self.kept.get(path).copied().unwrap_or_default();
        Meta {
            mode: self
                .mode
                .map_or(meta.mode, |most| meta.mode & (most | kept)),
            owner: self.owner.clone().unwrap_or_else(|| meta.owner.clone()),
            group: self.group.clone().unwrap_or_else(|| meta.group.clone()),
            ..meta.clone()
        }
    }

    /// Returns the query that lists the entries; `None` for a single file.
    pub fn listing(&self) -> Option<Query> {
        let pattern = self.entries.as_ref()?;
        Some(if pattern.is_below() {
            Query::Below(self.path.clone())
        } else {
            Query::Dir(self.path.clone())
        })
    }

    /// Returns the entries that are not as wanted, by name; the path is an error for a name that no
    /// path can be made of.
    pub fn wrong_entries<'e>(
        &self,
        entries: &'e BTreeMap<String, Meta>,
    ) -> Vec<(&'e str, &'e Meta, Result<NodePath, String>)> {
        let concerns = |name: &str, meta: &Meta| {
            let kind = match meta.kind {
                FileKind::Regular => true,
                FileKind::Directory => self.mode.is_none(),
                FileKind::Symlink | FileKind::Other => false,
            };
            kind && self.entries.as_ref().is_some_and(|p| p.matches(name))
        };
        let dir = self.path.as_str().trim_end_matches('/');
        entries
            .iter()
            .filter(|(name, meta)| concerns(name, meta))
            .filter_map(|(name, meta)| {
                let path = if name.contains('\\') {
                    // The probe writes bytes that are no text this way.
                    Err("it may stand for bytes that are no text".to_owned())
                } else {
                    NodePath::new(format!("{dir}/{name}")).map_err(|e| e.why.to_owned())
                };
                let right = path.as_ref().is_ok_and(|p| self.applied(p, meta) == *meta);
                (!right).then_some((name.as_str(), meta, path))
            })
            .collect()
    }

    /// Names what it concerns: a path, the last part of which may be a pattern.
    fn target(&self) -> String {
        match &self.entries {
            None => self.path.to_string(),
            Some(pattern) => format!("{}/{pattern}", self.path.as_str().trim_end_matches('/')),
        }
    }

    /// The directories above the path, outermost first, where a link in their place matters.
    fn above(&self) -> Vec<NodePath> {
        let mut above = Vec::new();
        if self.linked == Linked::Ignore {
            let mut path = self.path.clone();
            while let Some((dir, _)) = path.split().filter(|(dir, _)| dir.as_str() != "/") {
                above.insert(0, dir.clone());
                path = dir;
            }
        }
        above
    }

    fn diff_node(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        let stat = |path: &NodePath| match node.get(&Query::Stat(path.clone())) {
            Fact::Value(Answer::Stat(meta)) => Fact::Value(meta),
            Fact::Value(_) => Fact::Unreadable("the probe answered something else".into()),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        };
        for dir in self.above() {
            match stat(&dir) {
                Fact::Value(meta) if meta.kind == FileKind::Symlink => return,
                Fact::Value(_) | Fact::Absent => {}
                Fact::Unreadable(why) => return self.unread(resource, node, &dir, &why, draft),
            }
        }
        let path = &self.path;
        match stat(path) {
            Fact::Value(meta) if meta.kind == FileKind::Symlink => {
                if self.linked == Linked::Usual {
                    draft.error(
                        resource,
                        Place::Node(node.info.name.clone()),
                        format!("{path} is a symbolic link, and links are not followed"),
                        "name the file that it leads to",
                    );
                }
            }
            Fact::Value(meta) => self.compare(resource, node, path, meta, draft),
            Fact::Absent => self.absent(resource, node, draft),
            Fact::Unreadable(why) => self.unread(resource, node, path, &why, draft),
        }
    }

    fn diff_entries(&self, resource: &Resource, node: &Node, listing: &Query, draft: &mut Draft) {
        match node.get(listing) {
            Fact::Value(Answer::Dir(entries)) => {
                for (name, meta, path) in self.wrong_entries(entries) {
                    match path {
                        Ok(path) => self.compare(resource, node, &path, meta, draft),
                        Err(why) => draft.error(
                            resource,
                            Place::Node(node.info.name.clone()),
                            format!("{name:?} in {} cannot be changed: {why}", self.path),
                            "rename the file, or remove it",
                        ),
                    }
                }
            }
            Fact::Value(_) => {
                let why = "the probe answered something else";
                self.unread(resource, node, &self.path, why, draft);
            }
            Fact::Absent => self.absent(resource, node, draft),
            Fact::Unreadable(why) => self.unread(resource, node, &self.path, &why, draft),
        }
    }

    fn absent(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        if self.missing == Missing::Error {
            let place = Place::Node(node.info.name.clone());
            let message = format!("{} is not there", self.path);
            draft.error(resource, place, message, "create it, and plan again");
        }
    }

    fn unread(
        &self,
        resource: &Resource,
        node: &Node,
        path: &NodePath,
        why: &str,
        draft: &mut Draft,
    ) {
        draft.error(
            resource,
            Place::Node(node.info.name.clone()),
            format!("mode and owner of {path} could not be read: {why}"),
            "check that the login may look at it as root, and plan again",
        );
    }

    fn compare(
        &self,
        resource: &Resource,
        node: &Node,
        path: &NodePath,
        meta: &Meta,
        draft: &mut Draft,
    ) {
        let after = self.applied(path, meta);
        if after == *meta {
            return;
        }
        let found = Difference {
            place: Place::Node(node.info.name.clone()),
            resource: self.entries.as_ref().map(|_| format!("mode of {path}")),
            before: Some(describe(meta)),
            after: Some(describe(&after)),
            ..Difference::default()
        };
        let effect = Effect::Mode {
            node: node.info.name.clone(),
            path: path.clone(),
            mode: after.mode,
            owner: (after.owner, after.group),
        };
        draft.change(resource, found, vec![effect]);
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("mode: {text:?} is not three or four octal digits, as in \"0600\""))
}

pub(super) fn describe(meta: &Meta) -> String {
    format!("{:04o} {}:{}", meta.mode, meta.owner, meta.group)
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mode and owner of {}", self.target())
    }
}

impl Behaviour for Mode {
    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)> {
        let mode = self.mode.map(|bits| format!("{bits:04o}"));
        let seen = serde_json::json!({"mode": mode, "owner": self.owner, "group": self.group});
        vec![(Subject::Mode(self.target()), seen)]
    }

    fn name(&self) -> String {
        // Owner and mode of the entries of one directory may be wanted by different options.
        match (&self.entries, self.mode) {
            (Some(_), None) => format!("owner of {}", self.target()),
            _ => format!("mode of {}", self.target()),
        }
    }

    fn parts(&self) -> Vec<Part> {
        let mode = self.mode.map(|most| format!("{most:04o}"));
        let wanted = [
            ("at-most", mode.as_ref()),
            ("owner", self.owner.as_ref()),
            ("group", self.group.as_ref()),
        ];
        vec![Part::Setting {
            list: "modes",
            name: vec![self.target()],
            wanted: wanted
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.as_str().into())))
                .collect(),
        }]
    }

    fn queries(&self) -> Vec<Query> {
        match self.listing() {
            Some(listing) => vec![listing],
            None => {
                let paths = self.above().into_iter().chain([self.path.clone()]);
                paths.map(Query::Stat).collect()
            }
        }
    }

    fn entries(&self) -> Option<&Mode> {
        self.entries.is_some().then_some(self)
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        for node in resource.nodes(facts) {
            if node.facts.value().is_none() {
                continue;
            }
            match self.listing() {
                Some(listing) => self.diff_entries(resource, node, &listing, draft),
                None => self.diff_node(resource, node, draft),
            }
        }
    }
}
