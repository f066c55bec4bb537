//! `[[etcd-snapshots]]`: snapshots of etcd on a schedule, by a timer of systemd on each control plane.
//!
//! What the timer runs is the same script that `harden etcd snapshot` runs, as a file: each snapshot is
//! verified, and the oldest of the schedule's own go.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::component_file::unified_diff;
use super::{Behaviour, Difference, Draft, Effect, Part, Place, Resource, Subject};
use crate::fact::{Answer, Fact, Facts, Node, NodePath, ProgramName, Query, sha256};

/// The script that works on etcd's data on a node.
pub const SCRIPT: &str = include_str!("etcd_snapshots/etcd.sh");

/// Where the timer's script lies. A directory of root's that is no part of what is backed up with it.
const SCRIPT_PATH: &str = "/etc/harden/etcd-snapshot.sh";

/// The unit, without what tells a service from a timer.
const UNIT: &str = "harden-etcd-snapshot";

/// Where the timer lies.
const TIMER_PATH: &str = "/etc/systemd/system/harden-etcd-snapshot.timer";

/// How many are kept where nothing else is said.
const KEPT: u32 = 7;

/// A schedule of snapshots.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EtcdSnapshots {
    schedule: String,
    keep: u32,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    schedule: String,
    keep: Option<u32>,
}

impl EtcdSnapshots {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[etcd-snapshots]]
    /// schedule = "hourly"          # as systemd.time(7) has it
    /// keep     = 7
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        // What systemd.time(7) needs; `%` would begin a specifier, and a newline another setting.
        let good = |b: u8| b.is_ascii_alphanumeric() || b"*:,./~ +-".contains(&b);
        let schedule = table.schedule.trim();
        if !(1..=100).contains(&schedule.len()) || !schedule.bytes().all(good) {
            return Err(format!(
                "schedule: {schedule:?} is no calendar event; write it as in \"*-*-* 02:00:00\""
            ));
        }
        let keep = table.keep.unwrap_or(KEPT);
        if !(1..=1000).contains(&keep) {
            return Err("keep: it must be from 1 to 1000".into());
        }
        Ok(EtcdSnapshots {
            schedule: schedule.to_owned(),
            keep,
        })
    }

    /// The files: path, mode and text. The timer is wanted by a drop-in of `timers.target`, since a
    /// transaction places files and no links.
    fn files(&self) -> Vec<(&'static str, u32, String)> {
        let service = format!(
            "# Written by harden.\n[Unit]\nDescription=Snapshot of etcd, verified\n\
             ConditionPathExists=/etc/kubernetes/manifests/etcd.yaml\n\n[Service]\nType=oneshot\n\
             ExecStart=/bin/sh {SCRIPT_PATH} scheduled {}\nUMask=0077\nNice=10\nIOSchedulingClass=idle\n\
             NoNewPrivileges=yes\nProtectHome=yes\nPrivateTmp=yes\nTimeoutStartSec=1h\n",
            self.keep
        );
        // Several control planes need not all read their disks in the same second.
        let timer = format!(
            "# Written by harden.\n[Unit]\nDescription=Snapshots of etcd on a schedule\n\n[Timer]\n\
             OnCalendar={}\nRandomizedDelaySec=60\nPersistent=true\n",
            self.schedule
        );
        let wanted = format!("# Written by harden.\n[Unit]\nWants={UNIT}.timer\n");
        vec![
            (SCRIPT_PATH, 0o700, SCRIPT.to_owned()),
            (
                "/etc/systemd/system/harden-etcd-snapshot.service",
                0o644,
                service,
            ),
            (TIMER_PATH, 0o644, timer),
            (
                "/etc/systemd/system/timers.target.d/50-harden-etcd-snapshot.conf",
                0o644,
                wanted,
            ),
        ]
    }

    fn diff_node(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        let name = &node.info.name;
        let mut files_differ = false;
        for (path, mode, text) in self.files() {
            let Ok(path) = NodePath::new(path) else {
                continue;
            };
            let (before, old) = match node.file(&path) {
                Fact::Value(file)
                    if file.content == text.as_bytes()
                        && file.meta.mode & 0o7777 == mode
                        && file.meta.owner == "root" =>
                {
                    continue;
                }
                Fact::Value(file) => (
                    Some(format!(
                        "{}, {:04o} {}",
                        short(&file.content),
                        file.meta.mode & 0o7777,
                        file.meta.owner
                    )),
                    Some(String::from_utf8_lossy(&file.content).into_owned()),
                ),
                Fact::Absent => (None, None),
                Fact::Unreadable(why) => {
                    draft.error(
                        resource,
                        Place::Node(name.clone()),
                        format!("{path} could not be read: {why}"),
                        "check that the login may read it as root, and plan again",
                    );
                    files_differ = true;
                    continue;
                }
            };
            files_differ = true;
            let after = match path.as_str() == TIMER_PATH {
                true => self.schedule.clone(),
                false => format!("{}, {mode:04o} root", short(text.as_bytes())),
            };
            // The script is long, and the same for everybody: its hash says enough.
            let diff = match path.as_str() == SCRIPT_PATH {
                true => None,
                false => unified_diff(path.as_str(), old.as_deref(), &text),
            };
            let found = Difference {
                resource: Some(path.to_string()),
                place: Place::Node(name.clone()),
                before,
                after: Some(after),
                diff,
                ..Difference::default()
            };
            draft.change(resource, found, placed(name, path, mode, text));
        }
        // Whoever places a file starts the timer as well.
        if !files_differ {
            self.diff_timer(resource, node, draft);
        }
    }

    /// Starts the timer again where somebody stopped it, or it failed. Its file is written anew with it,
    /// since a step is about files.
    fn diff_timer(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        let name = &node.info.name;
        let Ok(unit) = ProgramName::new(UNIT) else {
            return;
        };
        let state = match node.get(&Query::Unit(unit)) {
            Fact::Value(Answer::Unit(unit)) => unit.active.clone(),
            Fact::Value(_) => return,
            // systemd has not read the file.
            Fact::Absent => "not loaded".into(),
            Fact::Unreadable(why) => {
                draft.error(
                    resource,
                    Place::Node(name.clone()),
                    format!("whether {UNIT}.timer is active could not be seen: {why}"),
                    "check on the node that `systemctl status` answers, and plan again",
                );
                return;
            }
        };
        let timer = self
            .files()
            .into_iter()
            .find(|(path, ..)| *path == TIMER_PATH);
        let Some((path, mode, text)) = timer else {
            return;
        };
        if let (false, Ok(path)) = (state == "active", NodePath::new(path)) {
            let found = Difference {
                resource: Some(format!("{UNIT}.timer")),
                place: Place::Node(name.clone()),
                before: Some(state),
                after: Some("active".into()),
                ..Difference::default()
            };
            draft.change(resource, found, placed(name, path, mode, text));
        }
    }
}

/// What places a file of root's, and starts the timer with it.
fn placed(node: &str, path: NodePath, mode: u32, content: String) -> Vec<Effect> {
    let mut effects = vec![Effect::File {
        node: node.to_owned(),
        path,
        content,
        mode,
        owner: ("root".into(), "root".into()),
    }];
    effects.extend(ProgramName::new(UNIT).ok().map(|unit| Effect::Timer {
        node: node.to_owned(),
        unit,
    }));
    effects
}

fn short(content: &[u8]) -> String {
    format!("sha256 {}", &sha256(content)[..12])
}

impl Behaviour for EtcdSnapshots {
    fn name(&self) -> String {
        "snapshots of etcd".into()
    }

    fn queries(&self) -> Vec<Query> {
        let paths = self.files().into_iter().map(|(path, ..)| path);
        paths
            .filter_map(|path| NodePath::new(path).ok())
            .map(Query::File)
            .chain(ProgramName::new(UNIT).ok().map(Query::Unit))
            .collect()
    }

    fn parts(&self) -> Vec<Part> {
        let files = self.files().into_iter();
        files
            .filter_map(|(path, _, content)| {
                let path = NodePath::new(path).ok()?;
                Some(Part::File { path, content })
            })
            .collect()
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        Vec::new()
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
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_cannot_be_anything_else() {
        for (schedule, keep) in [
            ("", json!(7)),
            ("hourly\nExecStart=/bin/true", json!(7)),
            ("%n", json!(7)),
            ("hourly; reboot", json!(7)),
            ("hourly", json!(0)),
            ("hourly", json!(1001)),
            ("hourly", json!("all")),
        ] {
            let table = json!({"schedule": schedule, "keep": keep});
            assert!(EtcdSnapshots::from_table(table.clone()).is_err(), "{table}");
        }
        let table = json!({"schedule": "Mon..Fri *-*-* 02:00:00 UTC"});
        let good = EtcdSnapshots::from_table(table).unwrap();
        let timer = &good.files()[2].2;
        assert!(
            timer.contains("\nOnCalendar=Mon..Fri *-*-* 02:00:00 UTC\n"),
            "{timer}"
        );
        assert!(good.files()[1].2.contains("etcd-snapshot.sh scheduled 7\n"));
    }
}
