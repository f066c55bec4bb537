//! `[[sysctl]]`: a kernel parameter, now and after the next boot.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::component_file::unified_diff;
use super::{
    Behaviour, Difference, Draft, Effect, Part, Place, Resource, Risk, SettingCopy, Subject,
};
use crate::distribution::k3s::Layout;
use crate::fact::{Fact, Facts, Node, NodePath, Query};

/// A kernel parameter.
///
/// It has two copies: a file of `sysctl.d` (what the next boot brings) and the kernel's own. A
/// kubelet with `protectKernelDefaults` fails to start after the boot that brings the old value back,
/// so both are compared (kubernetes#66241).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sysctl {
    name: String,
    value: String,
    /// The kernel's own copy.
    running: NodePath,
    /// The file for the next boot.
    persistent: NodePath,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    name: String,
    value: Value,
}

const MODE: u32 = 0o644;
const OWNER: &str = "root";

impl Sysctl {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[sysctl]]
    /// name  = "kernel.panic"       # with dots, as sysctl(8) shows it
    /// value = 10                   # one number or word
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        if !table.name.contains('.') || !table.name.split('.').all(part) {
            return Err(format!(
                "name: {:?} is no kernel parameter; write it as in \"kernel.panic\"",
                table.name
            ));
        }
        let value = match table.value {
            Value::Number(number) => number.to_string(),
            Value::Bool(b) => u8::from(b).to_string(),
            Value::String(text) => text,
            _ => return Err("value: it must be a number or a word".into()),
        };
        let plain = |c: char| c.is_ascii_graphic() && c != '#' && c != ';';
        if value.is_empty() || !value.chars().all(plain) {
            return Err(format!("value: {value:?} is not one number or word"));
        }
        let path = |text: String| NodePath::new(text).map_err(|e| format!("name: {e}"));
        Ok(Sysctl {
            running: path(format!("/proc/sys/{}", table.name.replace('.', "/")))?,
            // The last file of all wins (sysctl.d(5)), and Debian links 99-sysctl.conf to
            // /etc/sysctl.conf.
            persistent: path(format!("/etc/sysctl.d/99-zz-harden-{}.conf", table.name))?,
            name: table.name,
            value,
        })
    }

    fn text(&self) -> String {
        format!("# Written by harden.\n{} = {}\n", self.name, self.value)
    }

    fn file_effect(&self, node: &Node, path: &NodePath, content: String) -> Effect {
        Effect::File {
            node: node.info.name.clone(),
            path: path.clone(),
            content,
            mode: MODE,
            owner: (OWNER.into(), OWNER.into()),
        }
    }

    fn diff_node(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        let place = || Place::Node(node.info.name.clone());
        let unreadable = |path: &NodePath, why: String, draft: &mut Draft| {
            draft.error(
                resource,
                place(),
                format!("{path} could not be read: {why}"),
                "check that the login may read it as root, and plan again",
            );
        };
        let running = match node.file(&self.running) {
            Fact::Value(file) => String::from_utf8_lossy(&file.content).trim().to_owned(),
            Fact::Absent => {
                draft.error(
                    resource,
                    place(),
                    format!("the kernel has no parameter {}", self.name),
                    "leave the option unset for nodes with this kernel",
                );
                return;
            }
            Fact::Unreadable(why) => return unreadable(&self.running, why, draft),
        };
        if running != self.value {
            let found = Difference {
                place: place(),
                copy: Some(SettingCopy::Process),
                before: Some(crate::fact::probe::clean_text(&running)),
                after: Some(self.value.clone()),
                ..Difference::default()
            };
            let effect = self.file_effect(node, &self.running, format!("{}\n", self.value));
            draft.change(resource, found, vec![effect]);
        }
        let wanted = self.text();
        let (before, old) = match node.file(&self.persistent) {
            Fact::Value(file) if file.content == wanted.as_bytes() => return,
            Fact::Value(file) => (
                Some("other content".to_owned()),
                Some(String::from_utf8_lossy(&file.content).into_owned()),
            ),
            Fact::Absent => (None, None),
            Fact::Unreadable(why) => return unreadable(&self.persistent, why, draft),
        };
        let found = Difference {
            place: place(),
            copy: Some(SettingCopy::File),
            before,
            after: Some(format!("{} in {}", self.value, self.persistent)),
            diff: unified_diff(self.persistent.as_str(), old.as_deref(), &wanted),
            // Nothing reads it before the next boot.
            risk: Some(Risk::Safe),
            ..Difference::default()
        };
        let effect = self.file_effect(node, &self.persistent, wanted);
        draft.change(resource, found, vec![effect]);
    }
}

impl Behaviour for Sysctl {
    fn name(&self) -> String {
        format!("sysctl {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query::File(self.running.clone()),
            Query::File(self.persistent.clone()),
        ]
    }

    fn parts(&self) -> Vec<Part> {
        let wanted = [("value".to_owned(), Value::from(self.value.as_str()))];
        vec![
            Part::File {
                path: self.persistent.clone(),
                content: self.text(),
            },
            Part::Setting {
                list: "sysctls",
                name: vec![self.name.clone()],
                wanted: wanted.into_iter().collect(),
            },
        ]
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        let seen = serde_json::json!({"value": self.value});
        vec![(Subject::Sysctl(self.name.clone()), seen)]
    }

    fn queries_to_prepare(&self) -> Vec<Query> {
        self.queries()
    }

    // A kubelet with `protectKernelDefaults` starts only with what the kernel has already.
    fn prepare(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        self.diff_node(resource, node, draft);
    }

    fn queries_on_k3s(&self, _: &'static Layout) -> Option<Vec<Query>> {
        Some(self.queries())
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        for node in resource.nodes(facts) {
            if node.facts.value().is_some() {
                self.diff_node(resource, node, draft);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_values_that_could_be_something_else_are_refused() {
        for (name, value) in [
            ("kernel", json!(1)),
            ("kernel..panic", json!(1)),
            ("../etc.passwd", json!(1)),
            ("kernel/panic.x", json!(1)),
            ("kernel.panic", json!("")),
            ("kernel.panic", json!("1\n2")),
            ("kernel.panic", json!("1 # 2")),
            ("kernel.panic", json!([1])),
        ] {
            let table = json!({"name": name, "value": value});
            assert!(Sysctl::from_table(table.clone()).is_err(), "{table}");
        }
        assert!(Sysctl::from_table(json!({"name": "kernel.panic", "value": 10})).is_ok());
    }
}
