//! `[[component-file]]`: a file that a static pod must mount, and the flag that names it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control_plane::{Copies, Wanted};
use super::flag::check_flag_name;
use super::{Behaviour, Difference, Draft, Effect, Part, Place, Resource, Risk, Subject};
use crate::distribution::kubeadm::{HARDEN_DIR, manifest_path};
use crate::distribution::{Component, Volume};
use crate::fact::{Answer, Fact, Facts, Node, NodePath, Query, sha256};

/// The mode of the file.
pub const MODE: u32 = 0o600;
/// Its owner and group.
pub const OWNER: &str = "root";

/// A file that a component reads when it starts: a policy, an admission or an authentication
/// configuration.
///
/// Its path ends in the hash of its content, so that the flag itself carries every change of it:
/// the component restarts with the new file, a rollback of the flag brings the old file back into
/// use, and kubeadm keeps both.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentFile {
    component: Component,
    flag: String,
    name: String,
    content: String,
    path: NodePath,
    volumes: Vec<Volume>,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    component: Component,
    flag: String,
    name: String,
    content: String,
    #[serde(default)]
    volumes: Vec<VolumeTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct VolumeTable {
    name: String,
    host_path: NodePath,
    mount_path: NodePath,
    #[serde(default)]
    read_only: bool,
    #[serde(default = "directory_or_create")]
    path_type: String,
}

fn directory_or_create() -> String {
    "DirectoryOrCreate".into()
}

/// core/v1 HostPathType (kubernetes v1.35 staging/src/k8s.io/api/core/v1/types.go).
const PATH_TYPES: [&str; 7] = [
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
];

impl ComponentFile {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[component-file]]
    /// component = "kube-apiserver"
    /// flag      = "audit-policy-file"
    /// name      = "audit-policy"
    /// content   = "…"
    /// [[component-file.volumes]]      # besides the directory of the file itself
    /// name       = "audit-log"
    /// host-path  = "/var/log/kubernetes/audit"
    /// mount-path = "/var/log/kubernetes/audit"
    /// read-only  = false
    /// path-type  = "DirectoryOrCreate"
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: serde_json::Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        check_flag_name(&table.flag).map_err(|e| e.replacen("name:", "flag:", 1))?;
        check_label("name", &table.name)?;
        let hash = sha256(&table.content);
        let path = format!("{HARDEN_DIR}/{}-{}.yaml", table.name, &hash[..12]);
        let path = NodePath::new(path).map_err(|e| format!("name: {e}"))?;
        let mut volumes = vec![harden_volume()?];
        for volume in table.volumes {
            check_label("volumes.name", &volume.name)?;
            if !PATH_TYPES.contains(&volume.path_type.as_str()) {
                return Err(format!(
                    "volumes.path-type: {:?} is none of {}",
                    volume.path_type,
                    PATH_TYPES.join(", ")
                ));
            }
            if volumes.iter().any(|other| other.name == volume.name) {
                return Err(format!("volumes.name: {:?} is taken", volume.name));
            }
            volumes.push(Volume {
                name: volume.name,
                host_path: volume.host_path,
                mount_path: volume.mount_path,
                read_only: volume.read_only,
                path_type: volume.path_type,
            });
        }
        Ok(ComponentFile {
            component: table.component,
            flag: table.flag,
            name: table.name,
            content: table.content,
            path,
            volumes,
        })
    }

    /// Compares the file on a node. Returns whether it is there or will be.
    fn diff_file(&self, resource: &Resource, node: &Node, draft: &mut Draft) -> bool {
        let place = Place::Node(node.info.name.clone());
        let wanted = format!("{} with {MODE:04o} {OWNER}:{OWNER}", self.path);
        let file = match node.get(&Query::File(self.path.clone())) {
            Fact::Value(Answer::File(file)) => Some(file),
            Fact::Absent => None,
            Fact::Value(_) | Fact::Unreadable(_) => {
                let why = match node.get(&Query::File(self.path.clone())) {
                    Fact::Unreadable(why) => why,
                    _ => "the probe answered something else".into(),
                };
                draft.error(
                    resource,
                    place,
                    format!("{} could not be read: {why}", self.path),
                    "check that the login may read it as root, and plan again",
                );
                return false;
            }
        };
        let owner = (OWNER.to_owned(), OWNER.to_owned());
        let (node, path) = (node.info.name.clone(), self.path.clone());
        let mut effect = Effect::File {
            node: node.clone(),
            path: path.clone(),
            content: self.content.clone(),
            mode: MODE,
            owner: owner.clone(),
        };
        let (before, old) = match file {
            None => (None, String::new()),
            Some(file) => {
                let meta = &file.meta;
                let same = file.content == self.content.as_bytes();
                let owned = meta.owner == OWNER && meta.group == OWNER;
                if same && owned && meta.mode & !MODE == 0 {
                    return true;
                }
                // In place: a file of which kind mounts each cannot be replaced.
                if same {
                    let mode = meta.mode & MODE;
                    effect = Effect::Mode {
                        node,
                        path,
                        mode,
                        owner,
                    };
                }
                let (mode, owner, group) = (meta.mode, &meta.owner, &meta.group);
                let other = if same { "" } else { " and other content" };
                (
                    Some(format!(
                        "{} with {mode:04o} {owner}:{group}{other}",
                        self.path
                    )),
                    String::from_utf8_lossy(&file.content).into_owned(),
                )
            }
        };
        let found = Difference {
            place,
            before,
            after: Some(wanted),
            diff: unified_diff(
                self.path.as_str(),
                file.map(|_| old.as_str()),
                &self.content,
            ),
            // Nothing reads it before the flag names it.
            risk: Some(Risk::Safe),
            ..Difference::default()
        };
        draft.change(resource, found, vec![effect]);
        true
    }
}

/// The directory of such files, mounted at the same path: a whole directory, because the mount of a
/// single file keeps the old content when the file is replaced (rke2#5604).
fn harden_volume() -> Result<Volume, String> {
    let path = NodePath::new(HARDEN_DIR).map_err(|e| e.to_string())?;
    Ok(Volume {
        name: "harden".into(),
        host_path: path.clone(),
        mount_path: path,
        read_only: true,
        path_type: directory_or_create(),
    })
}

/// Checks a name by the rule for volumes: a DNS label (core/v1 Volume.name).
fn check_label(field: &str, name: &str) -> Result<(), String> {
    let good = (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        Ok(())
    } else {
        Err(format!(
            "{field}: {name:?} is no name; it has at most 63 lower-case letters, digits and inner dashes"
        ))
    }
}

/// Returns a unified diff of a file; `None` when the content is equal. `before` is `None` when there
/// is no file.
pub fn unified_diff(path: &str, before: Option<&str>, after: &str) -> Option<String> {
    let old = before.unwrap_or_default();
    if before == Some(after) {
        return None;
    }
    let from = before.map_or("/dev/null", |_| path);
    let diff = similar::TextDiff::from_lines(old, after);
    Some(diff.unified_diff().header(from, path).to_string())
}

impl Behaviour for ComponentFile {
    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)> {
        let subject = Subject::Flag {
            component: self.component,
            name: self.flag.clone(),
        };
        vec![(subject, serde_json::json!({"value": self.path}))]
    }

    fn name(&self) -> String {
        format!("{} --{} (file {})", self.component, self.flag, self.name)
    }

    fn parts(&self) -> Vec<Part> {
        let flag = Wanted::Exact(self.path.as_str().to_owned());
        let file = Part::File {
            path: self.path.clone(),
            content: self.content.clone(),
        };
        let volumes = self.volumes.iter().map(|volume| Part::Setting {
            list: "volumes",
            name: vec![self.component.to_string(), volume.name.clone()],
            wanted: [
                ("hostPath", Value::from(volume.host_path.as_str())),
                ("mountPath", volume.mount_path.as_str().into()),
                ("readOnly", volume.read_only.into()),
                ("pathType", volume.path_type.as_str().into()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect(),
        });
        [file, flag.part(self.component, &self.flag)]
            .into_iter()
            .chain(volumes)
            .collect()
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query::File(self.path.clone()),
            Query::File(manifest_path(self.component)),
            Query::Process(self.component.program()),
        ]
    }

    fn queries_to_prepare(&self) -> Vec<Query> {
        vec![Query::File(self.path.clone())]
    }

    // The flag that names the file comes from ClusterConfiguration when the node joins.
    fn prepare(&self, resource: &Resource, node: &Node, draft: &mut Draft) {
        self.diff_file(resource, node, draft);
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let mut copies = Copies::read(resource, self.component, facts, draft);
        for node in resource.nodes(facts) {
            // A flag that names a file which may not be there would keep the component from starting.
            if node.facts.value().is_some() && !self.diff_file(resource, node, draft) {
                copies = copies.without(&node.info.name);
            }
        }
        for volume in &self.volumes {
            copies.compare_volume(volume, draft);
        }
        let wanted = Wanted::Exact(self.path.as_str().to_owned());
        copies.compare_flag(&self.flag, &wanted, str::to_owned, draft);
    }
}
