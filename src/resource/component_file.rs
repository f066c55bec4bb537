//! `[[component-file]]`: a file that a static pod must mount, and the flag that names it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::control_plane::Copies;
use super::servers::Servers;
use super::wanted::Wanted;
use super::{
    Behaviour, Difference, Draft, Effect, Kind, Part, Place, Problem, Resource, Risk, SettingCopy,
    Severity, Subject,
};
use crate::distribution::k3s::Layout;
use crate::distribution::kubeadm::{HARDEN_DIR, manifest_path};
use crate::distribution::{Component, Volume};
use crate::fact::{Answer, Fact, Facts, Node, NodePath, Query};
use content::Content;

mod content;
mod table;

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
    /// Flags that the file stands for, and that must be absent beside it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    replaces: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuses: Option<Refusal>,
    /// What the content was written from; it says nothing that the content does not.
    #[serde(skip)]
    source: Content,
    /// Whether others may add to it.
    #[serde(skip)]
    additive: bool,
}

/// Flags with which the component does not start beside the file, and that only a person can take
/// away, because nobody else knows what they stand for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Refusal {
    flags: BTreeSet<String>,
    remedy: String,
}

fn directory_or_create() -> String {
    "DirectoryOrCreate".into()
}

impl ComponentFile {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[component-file]]
    /// component = "kube-apiserver"
    /// flag      = "authentication-config"
    /// name      = "authentication"
    /// content   = { … }               # a table, written as YAML; or a text, kept as it is
    /// merge     = "additive"          # others with this flag and name add to the table; or "exact"
    /// replaces  = ["anonymous-auth"]  # must be absent beside the file, and are removed
    /// [component-file.refuses]        # as well, but what they stand for would be lost
    /// flags  = ["oidc-issuer-url"]
    /// remedy = "…"
    /// [[component-file.volumes]]      # besides the directory of the file itself
    /// name       = "audit-log"
    /// host-path  = "/var/log/kubernetes/audit"
    /// mount-path = "/var/log/kubernetes/audit"
    /// read-only  = false
    /// path-type  = "DirectoryOrCreate"
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table, or with the audit policy in it.
    pub fn from_table(value: serde_json::Value) -> Result<Self, String> {
        table::read(value)
    }

    /// Returns this file and another contribution to it as one.
    fn united(&self, other: &Self) -> Result<Self, String> {
        let mut united = self.clone();
        united.source = self.source.unite(&other.source)?;
        for volume in &other.volumes {
            match self.volumes.iter().find(|known| known.name == volume.name) {
                Some(known) if known == volume => {}
                Some(_) => return Err(format!("volume {} cannot be both", volume.name)),
                None => united.volumes.push(volume.clone()),
            }
        }
        united.replaces.extend(other.replaces.iter().cloned());
        if let Some(more) = &other.refuses {
            let refuses = united.refuses.get_or_insert_with(|| more.clone());
            refuses.flags.extend(more.flags.iter().cloned());
        }
        // What one contribution stands for needs nobody else to take it away.
        if let Some(refuses) = &mut united.refuses {
            refuses.flags.retain(|flag| !united.replaces.contains(flag));
        }
        table::written(united)
    }

    /// Says which copies have a flag that the component refuses beside the file. Nothing is changed
    /// as long as one has: the component would not start.
    fn is_refused(
        &self,
        resource: &Resource,
        with_flag: impl Fn(&str) -> Vec<(Place, SettingCopy, Vec<String>)>,
        draft: &mut Draft,
    ) -> bool {
        let mut refused = false;
        for flag in self.refuses.iter().flat_map(|refusal| &refusal.flags) {
            for (place, copy, _) in with_flag(flag) {
                let (component, own) = (self.component, &self.flag);
                let remedy = self.refuses.as_ref().map_or("", |r| r.remedy.as_str());
                draft.error(
                    resource,
                    place,
                    format!(
                        "{copy} has --{flag}, and {component} does not start with that and --{own}; \
                         nothing is changed"
                    ),
                    remedy,
                );
                refused = true;
            }
        }
        refused
    }

    /// Warns of a file of somebody else that the flag names: what it holds is no longer read.
    fn warn_of_others(
        &self,
        dir: &str,
        found: Vec<(Place, SettingCopy, Vec<String>)>,
        draft: &mut Draft,
    ) {
        let mut told = BTreeSet::new();
        let own = format!("{dir}/");
        for (place, _, values) in found {
            for path in values.into_iter().filter(|path| !path.starts_with(&own)) {
                if told.insert((place.clone(), path.clone())) {
                    draft.problems.push(Problem {
                        severity: Severity::Warning,
                        place: place.clone(),
                        subject: self.name(),
                        message: format!(
                            "{path} is no longer read, and what it says no longer holds"
                        ),
                        remedy: "compare the two files, and say in the profile what shall go on"
                            .into(),
                    });
                }
            }
        }
    }

    /// Returns the file as k3s or RKE2 has it; `None` where it has no such place.
    fn placed(&self, layout: &Layout) -> Option<Self> {
        let volumes = self.volumes.iter().map(|volume| layout.volume(volume));
        Some(ComponentFile {
            path: NodePath::new(layout.path(self.path.as_str())?).ok()?,
            volumes: volumes.collect::<Option<_>>()?,
            ..self.clone()
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
        let (component, flag) = (self.component, self.flag.clone());
        let flags = json!({&flag: &self.path});
        // A content that cannot be read proves nothing.
        let content = self.source.value().unwrap_or_default();
        vec![
            (
                Subject::Flag {
                    component,
                    name: flag.clone(),
                },
                json!({"value": self.path}),
            ),
            (
                Subject::File { component, flag },
                json!({"content": content, "flags": flags}),
            ),
        ]
    }

    fn unite(&self, other: &Kind) -> Option<Result<Kind, String>> {
        let Kind::ComponentFile(other) = other else {
            return None;
        };
        let same = self.component == other.component
            && self.flag == other.flag
            && self.name == other.name
            && self.additive
            && other.additive;
        same.then(|| self.united(other).map(Kind::ComponentFile))
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
        let absent = self.replaces.iter();
        let absent = absent.map(|flag| Wanted::Absent.part(self.component, flag));
        [file, flag.part(self.component, &self.flag)]
            .into_iter()
            .chain(absent)
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

    fn queries_on_k3s(&self, layout: &'static Layout) -> Option<Vec<Query>> {
        let mut queries = Servers::queries(layout, self.component)?;
        queries.extend(self.placed(layout).map(|file| Query::File(file.path)));
        Some(queries)
    }

    fn diff_on_k3s(
        &self,
        layout: &'static Layout,
        resource: &Resource,
        facts: &Facts,
        draft: &mut Draft,
    ) {
        let mut servers = Servers::read(layout, resource, self.component, facts, draft);
        let Some(file) = self.placed(layout) else {
            draft.error(
                resource,
                Place::Api,
                format!(
                    "it mounts a directory of kubeadm's, which {} does not have",
                    layout.name
                ),
                "leave the option behind it unset",
            );
            return;
        };
        if file.is_refused(resource, |flag| servers.with_flag(flag), draft) {
            return;
        }
        // Beside the file the component does not start with them.
        let mut without = Draft::default();
        for flag in &file.replaces {
            servers.compare_replaced(flag, &mut without);
        }
        if !without.problems.is_empty() {
            draft.problems.append(&mut without.problems);
            return;
        }
        file.warn_of_others(layout.files, servers.with_flag(&file.flag), draft);
        for node in resource.nodes(facts) {
            if node.facts.value().is_some() && !file.diff_file(resource, node, draft) {
                servers = servers.without(&node.info.name);
            }
        }
        for volume in &file.volumes {
            servers.compare_volume(volume, draft);
        }
        let wanted = Wanted::Exact(file.path.as_str().to_owned());
        servers.compare_flag(&file.flag, &wanted, draft);
        draft.changes.append(&mut without.changes);
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let mut copies = Copies::read(resource, self.component, facts, draft);
        if self.is_refused(resource, |flag| copies.with_flag(flag), draft) {
            return;
        }
        self.warn_of_others(HARDEN_DIR, copies.with_flag(&self.flag), draft);
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
        for flag in &self.replaces {
            copies.compare_flag(flag, &Wanted::Absent, str::to_owned, draft);
        }
    }
}
