//! `[[mode]]`: mode and owner of a file or directory.

use serde::{Deserialize, Serialize};

use super::{Behaviour, Difference, Draft, Effect, Part, Place, Resource, Subject};
use crate::fact::{Answer, Fact, Facts, FileKind, Meta, Node, NodePath, Query};

/// At most these permission bits, and this owner. A stricter mode satisfies it, and no bit is ever
/// added. What the table does not name is neither touched nor judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mode {
    path: NodePath,
    mode: Option<u32>,
    owner: Option<String>,
    group: Option<String>,
    missing: Missing,
}

/// What a missing file means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Missing {
    #[default]
    Ignore,
    Error,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    path: NodePath,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
    #[serde(default)]
    missing: Missing,
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
        Ok(Mode {
            path: table.path,
            mode,
            owner: table.owner,
            group: table.group,
            missing: table.missing,
        })
    }

    fn diff_node(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        let place = Place::Node(node.info.name.clone());
        let path = &self.path;
        let mut error = |message: String, remedy: &str| {
            draft.error(resource, place.clone(), message, remedy);
        };
        let meta = match node.get(&Query::Stat(path.clone())) {
            Fact::Value(Answer::Stat(meta)) => meta,
            Fact::Absent if self.missing == Missing::Ignore => return,
            Fact::Absent => {
                return error(format!("{path} is not there"), "create it, and plan again");
            }
            Fact::Value(_) => {
                return error(
                    format!("the probe answered something else for {path}"),
                    "plan again",
                );
            }
            Fact::Unreadable(why) => {
                return error(
                    format!("mode and owner of {path} could not be read: {why}"),
                    "check that the login may look at it as root, and plan again",
                );
            }
        };
        if meta.kind == FileKind::Symlink {
            return error(
                format!("{path} is a symbolic link, and links are not followed"),
                "name the file that it leads to",
            );
        }
        let after = Meta {
            mode: self.mode.map_or(meta.mode, |most| meta.mode & most),
            owner: self.owner.clone().unwrap_or_else(|| meta.owner.clone()),
            group: self.group.clone().unwrap_or_else(|| meta.group.clone()),
            ..meta.clone()
        };
        if after == *meta {
            return;
        }
        let found = Difference {
            place,
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

fn describe(meta: &Meta) -> String {
    format!("{:04o} {}:{}", meta.mode, meta.owner, meta.group)
}

impl Behaviour for Mode {
    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)> {
        let mode = self.mode.map(|bits| format!("{bits:04o}"));
        let seen = serde_json::json!({"mode": mode, "owner": self.owner, "group": self.group});
        vec![(Subject::Mode(self.path.to_string()), seen)]
    }

    fn name(&self) -> String {
        format!("mode of {}", self.path)
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
            name: vec![self.path.as_str().to_owned()],
            wanted: wanted
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.as_str().into())))
                .collect(),
        }]
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Stat(self.path.clone())]
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        for node in resource.nodes(facts) {
            if node.facts.value().is_some() {
                self.diff_node(resource, node, draft);
            }
        }
    }
}
