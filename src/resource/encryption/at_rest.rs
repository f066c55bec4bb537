//! `[[encryption]]`: objects are encrypted before they reach etcd.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::course::course;
use super::goal::{Goal, asked};
use super::machine::{Next, Plane, Stage, View, next};
use super::seen::{CONFIG_FLAG, OWN_DIR, RELOAD_FLAG, Seen, first_queries, own_path, places_of};
use crate::distribution::{Component, Distribution, Volume};
use crate::fact::encryption::{Form, Provider, Stored};
use crate::fact::{ApiQuery, Fact, Facts, NodePath, Query};
use crate::resource::control_plane::Copies;
use crate::resource::wanted::Wanted;
use crate::resource::{
    Behaviour, Desired, Difference, Draft, Effect, Kind, Origin, Part as Piece, Place, Problem,
    Resource, Risk, Scope, SettingCopy, Severity, Subject, nothing_counts,
};

/// The option that says where a key comes from; it reads a file, a variable or a program of this machine.
const KEY_OPTION: &str = "encryption.key";

/// What a key's name is written for in the place of its backup.
const KEY_MARK: &str = "{key}";

/// The option that names a program; only the workspace's own file may set it.
const COMMAND_OPTION: &str = "encryption.backup-command";

/// The wish that these resources are stored under a key of a provider.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Encryption {
    provider: Provider,
    resources: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<Backup>,
    /// Where a new key comes from; harden makes it where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeySource>,
    /// Whether it is the end of it: API servers shall run without a file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ends: bool,
}

/// Where a new key is kept before it encrypts anything. `{key}` in it stands for the key's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backup {
    /// In this file of the workstation, relative to the workspace; it must not exist yet.
    File(String),
    /// By this program and its arguments, which gets the key on stdin.
    Command(Vec<String>),
}

impl Backup {
    /// Returns it for a key of this name.
    #[must_use]
    pub fn named(&self, key: &str) -> Self {
        let named = |text: &String| text.replace(KEY_MARK, key);
        match self {
            Backup::File(path) => Backup::File(named(path)),
            Backup::Command(words) => Backup::Command(words.iter().map(named).collect()),
        }
    }
}

impl std::fmt::Display for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Backup::File(path) => write!(f, "in {path}"),
            Backup::Command(words) => write!(f, "by `{}`", words.join(" ")),
        }
    }
}

/// Where a key comes from that harden does not make: a reference, never the key. It is read on the machine of
/// whoever applies, when a new key is needed, and at no other time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeySource {
    /// From this file, relative to the workspace.
    File(String),
    /// From this environment variable.
    Env(String),
    /// From the stdout of this program and its arguments.
    Command(Vec<String>),
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeySource::File(path) => write!(f, "the file {path}"),
            KeySource::Env(name) => write!(f, "the environment variable {name}"),
            KeySource::Command(words) => write!(f, "the stdout of `{}`", words.join(" ")),
        }
    }
}

/// Which part of it a step does: the flags of the API servers come between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Everything before a server is started with its file: the key, its backup, the files.
    Prepare,
    /// Everything after it.
    Finish,
}

/// What a step does. Which of its own steps comes next follows from what is seen when it runs; there is
/// no key in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EncryptionWork {
    /// Which part.
    pub part: Part,
    /// What encrypts.
    pub provider: Provider,
    /// As an EncryptionConfiguration names them.
    pub resources: BTreeSet<String>,
    /// Where a new key is kept, if one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// Where a new key comes from, if one is needed; harden makes it where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySource>,
    /// What it came to when the plan was made, in words.
    pub words: Vec<String>,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    provider: Provider,
    #[serde(default = "secrets")]
    resources: BTreeSet<String>,
    backup_file: Option<String>,
    backup_command: Option<Vec<String>>,
    key: Option<serde_json::Value>,
}

fn secrets() -> BTreeSet<String> {
    ["secrets".to_owned()].into()
}

impl Encryption {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[encryption]]
    /// provider  = "secretbox"               # or "aescbc", "aesgcm"
    /// resources = ["secrets", "*.apps"]     # Secrets alone, if it is left out
    /// backup-file = "keys/{key}.yaml"         # or:
    /// backup-command = ["age", "-r", "age1…", "-o", "keys/{key}.age"]
    /// key = { file = "etcd.key" }           # or { env = "…" }, { command = ["…"] }: 32 bytes as base64
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: serde_json::Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if table.provider == Provider::Kms {
            return Err("provider: keys of kms are its plugin's affair".into());
        }
        if table.resources.is_empty() {
            return Err("resources: none is named".into());
        }
        for name in &table.resources {
            check_resource(name)?;
        }
        let backup = match (table.backup_file, table.backup_command) {
            (Some(_), Some(_)) => {
                return Err("backup-file: there is a backup-command as well".into());
            }
            (Some(path), None) if !path.contains(KEY_MARK) => {
                return Err(format!(
                    "backup-file: each key has a file of its own: {path:?} must hold {KEY_MARK}, which becomes its name"
                ));
            }
            (Some(path), None) => Some(Backup::File(path)),
            (None, Some(words)) if words.is_empty() => {
                return Err("backup-command: it names no program".into());
            }
            (None, Some(words)) => Some(Backup::Command(words)),
            (None, None) => None,
        };
        let texts = match &backup {
            Some(Backup::File(path)) => vec![path],
            Some(Backup::Command(words)) => words.iter().collect(),
            None => Vec::new(),
        };
        if texts.iter().any(|text| text.chars().any(char::is_control)) {
            return Err("backup: it holds a control character".into());
        }
        let key = table.key.map(source).transpose()?;
        Ok(Encryption {
            provider: table.provider,
            resources: table.resources,
            backup,
            key,
            ends: false,
        })
    }

    /// Returns the desired state of a cluster whose API servers shall run without a file. No profile says
    /// that: it is wanted only when every object is in clear.
    pub fn ended(cluster: &str, distribution: Distribution) -> Desired {
        let by = "encryption";
        let resource = Resource {
            kind: Kind::Encryption(Encryption {
                provider: Provider::Secretbox,
                resources: BTreeSet::new(),
                backup: None,
                key: None,
                ends: true,
            }),
            scope: Scope::ControlPlane,
            only: None,
            except: BTreeSet::new(),
            risk: Risk::Guarded,
            uniform: true,
            reason: "harden encryption disable".into(),
            controls: Vec::new(),
            origins: vec![Origin {
                option: by.into(),
                file: "harden encryption disable".into(),
                line: 1,
            }],
            consent: Vec::new(),
            requires: BTreeSet::new(),
        };
        Desired {
            cluster: cluster.to_owned(),
            distribution,
            resources: vec![resource],
            accept: vec![by.into()],
            allow_delete: BTreeSet::new(),
            findings: Vec::new(),
        }
    }

    /// Drafts that no API server runs with a file, where that is safe.
    fn end(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let seen = Seen::of(facts, &places_of(facts, &self.resources));
        match next(&Goal::new(), &seen.view()) {
            Next::Disable { .. } | Next::Done | Next::Remove { .. } => {}
            other => {
                let remedy = "`harden encryption disable` brings everything into clear first";
                let message = format!("what is next is another thing: {other}");
                return draft.error(resource, Place::Api, message, remedy);
            }
        }
        let copies = Copies::read(resource, Component::KubeApiserver, facts, draft);
        for flag in [CONFIG_FLAG, RELOAD_FLAG] {
            compare(&copies, flag, &Wanted::Absent, draft);
        }
    }

    /// Returns what encrypts.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Returns what is encrypted, as an EncryptionConfiguration names it.
    pub fn resources(&self) -> &BTreeSet<String> {
        &self.resources
    }

    /// Returns where a new key is kept.
    pub fn backup(&self) -> Option<&Backup> {
        self.backup.as_ref()
    }

    /// Returns where a new key comes from; `None` where harden makes it.
    pub fn key(&self) -> Option<&KeySource> {
        self.key.as_ref()
    }

    fn work(&self, part: Part, words: Vec<String>) -> Effect {
        Effect::Encryption(EncryptionWork {
            part,
            provider: self.provider,
            resources: self.resources.clone(),
            backup: self.backup.clone(),
            key: self.key.clone(),
            words,
        })
    }

    /// Drafts the flags and the mount of the API servers.
    fn flags(&self, resource: &Resource, seen: &Seen, facts: &Facts, draft: &mut Draft) {
        let component = Component::KubeApiserver;
        let copies = Copies::read(resource, component, facts, draft);
        let is_own = |path: &NodePath| *path == own_path();
        let all_own = configs(seen).all(|path| path.is_none_or(is_own));
        if all_own {
            if let Some(volume) = own_volume() {
                copies.compare_volume(&volume, draft);
            }
            let wanted = Wanted::Exact(own_path().as_str().to_owned());
            compare(&copies, CONFIG_FLAG, &wanted, draft);
        } else {
            let has = copies.with_flag(CONFIG_FLAG);
            let in_config = |(_, copy, _): &(Place, SettingCopy, Vec<String>)| {
                *copy == SettingCopy::KubeadmConfig
            };
            if !has.iter().any(in_config) {
                draft.problems.push(Problem {
                    severity: Severity::Warning,
                    place: Place::Api,
                    subject: self.name(),
                    message: format!(
                        "kubeadm-config does not have --{CONFIG_FLAG}, so that the next upgrade would start API \
                         servers that cannot read what is encrypted"
                    ),
                    remedy: "add the flag and its mount to apiServer.extraArgs and extraVolumes there, as they \
                             stand in the manifests"
                        .into(),
                });
                // An API server with the other flag alone does not start.
                return;
            }
        }
        let wanted = Wanted::Exact("true".into());
        compare(&copies, RELOAD_FLAG, &wanted, draft);
    }

    /// Says which of the resources nobody has: it would count as encrypted, and be nothing.
    fn unserved(&self, facts: &Facts) -> Option<String> {
        let served: BTreeSet<String> = match facts.api.answer(&ApiQuery::ServedResources) {
            Fact::Value(value) => serde_json::from_value(value.clone()).ok()?,
            Fact::Absent => return None,
            Fact::Unreadable(why) => {
                return Some(format!("what the API serves is not known: {why}"));
            }
        };
        let mut named = self.resources.iter();
        let unknown = named.find(|name| !name.contains('*') && !served.contains(*name))?;
        Some(format!("the API serves no resource `{unknown}`"))
    }

    /// Says what keeps it from being compared, or from being done.
    fn hindrance(&self, resource: &Resource, seen: &Seen, view: &View) -> Option<Problem> {
        let problem = |place: Place, message: String, remedy: &str| Problem {
            severity: Severity::Error,
            place,
            subject: self.name(),
            message,
            remedy: remedy.to_owned(),
        };
        for (node, plane) in &view.planes {
            if let Err(why) = plane {
                let remedy = "nothing of it is changed before every control plane is known; \
                              `harden encryption status` tells more";
                return Some(problem(Place::Node(node.clone()), why.clone(), remedy));
            }
        }
        let is_elsewhere = |path: Option<&NodePath>| path.is_some_and(|p| *p != own_path());
        let is_off = |plane: &Result<Plane, String>| matches!(plane, Ok(Plane::Off { .. }));
        if configs(seen).any(is_elsewhere) && view.planes.values().any(is_off) {
            return Some(problem(
                Place::Api,
                format!(
                    "some API servers run with a file of their own place, and others without one; {} is harden's",
                    own_path()
                ),
                "give these the same file, flag and mount by hand, and plan again",
            ));
        }
        for resource in self.resources.iter() {
            if let Some(Fact::Unreadable(why)) = view.stored.get(resource) {
                return Some(problem(
                    Place::Api,
                    format!(
                        "in which forms the objects of {resource} are stored is not known: {why}"
                    ),
                    "`harden encryption status` tells more",
                ));
            }
        }
        let origin = by_import(resource)?;
        let (what, remedy) = match origin.option.as_str() {
            KEY_OPTION => (
                "says where a key comes from, and whoever wrote that may know the key",
                "set encryption.key in harden.toml itself",
            ),
            _ => (
                "names a program that would run here",
                "set encryption.backup-command in harden.toml itself",
            ),
        };
        Some(problem(
            Place::Api,
            format!("{} {what}", origin.file),
            remedy,
        ))
    }
}

/// The place in an import of what may stand in the workspace's own file only: a program runs on this machine,
/// and a key that somebody else has chosen is no secret.
fn by_import(resource: &Resource) -> Option<&Origin> {
    let mut origins = resource.origins.iter();
    origins.find(|origin| {
        [COMMAND_OPTION, KEY_OPTION].contains(&origin.option.as_str())
            && origin.file != "harden.toml"
    })
}

impl Desired {
    /// Returns where a new key is kept, as the workspace itself says. A plan or a record says it too, and is
    /// not asked: it may have come from a node, and what is named there would run on this machine.
    pub fn own_backup(&self) -> Option<&Backup> {
        self.own_encryption()?.0.backup()
    }

    /// Returns where a new key comes from, as the workspace itself says, and where it says so.
    pub fn own_key(&self) -> Option<(&KeySource, Option<&Origin>)> {
        let (wanted, resource) = self.own_encryption()?;
        let mut origins = resource.origins.iter();
        let origin = origins.find(|origin| origin.option == KEY_OPTION);
        Some((wanted.key()?, origin))
    }

    fn own_encryption(&self) -> Option<(&Encryption, &Resource)> {
        let mut all = self.resources.iter();
        all.find_map(|resource| match &resource.kind {
            Kind::Encryption(wanted) if by_import(resource).is_none() => Some((wanted, resource)),
            _ => None,
        })
    }
}

/// Compares a flag; its changes bear its name.
fn compare(copies: &Copies<'_>, flag: &str, wanted: &Wanted, draft: &mut Draft) {
    let known = draft.changes.len();
    copies.compare_flag(flag, wanted, str::to_owned, draft);
    for (change, _) in draft.changes.iter_mut().skip(known) {
        change.resource = format!("{} --{flag}", Component::KubeApiserver);
    }
}

/// The paths of the configurations that the servers run with.
fn configs(seen: &Seen) -> impl Iterator<Item = Option<&NodePath>> {
    let servers = seen
        .planes
        .values()
        .filter_map(|plane| plane.server.value());
    servers.map(|server| server.config.as_ref())
}

fn own_volume() -> Option<Volume> {
    let path = NodePath::new(OWN_DIR).ok()?;
    Some(Volume {
        name: "harden-encryption".into(),
        host_path: path.clone(),
        mount_path: path,
        read_only: true,
        path_type: "DirectoryOrCreate".into(),
    })
}

/// Checks the name of a resource, as the API server would read it (kubernetes v1.35
/// staging/src/k8s.io/apiserver/pkg/apis/apiserver/validation/validation_encryption.go:
/// `validateResourceNames`).
fn check_resource(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    let resource_good = resource == "*" || (!resource.is_empty() && resource.bytes().all(good));
    let group_good = (resource == "*" && group == "*") || group.bytes().all(good);
    let never = matches!(group, "events.k8s.io") || resource.contains('/');
    if name == "*" || !resource_good || !group_good || never {
        return Err(format!(
            "resources: {name:?} is none; write \"secrets\", \"deployments.apps\", \"*.apps\", or \"*.*\" for all"
        ));
    }
    Ok(())
}

/// Reads a reference to a key.
fn source(value: serde_json::Value) -> Result<KeySource, String> {
    // Not in the reader's words, which would quote a key that stands there itself.
    let source: KeySource = serde_json::from_value(value).map_err(
        |_| "key: it must be { file = \"…\" }, { env = \"…\" } or { command = [\"…\"] }, and never the key itself",
    )?;
    let words: Vec<&str> = match &source {
        KeySource::File(text) | KeySource::Env(text) => vec![text],
        KeySource::Command(words) => words.iter().map(String::as_str).collect(),
    };
    match words.first() {
        None | Some(&"") => return Err("key: it names nothing".into()),
        Some(_) if words.iter().any(|text| text.chars().any(char::is_control)) => {
            return Err("key: it holds a control character".into());
        }
        Some(_) => {}
    }
    match &source {
        KeySource::Env(name) if name.contains('=') => {
            Err("key: no environment variable has a `=` in its name".into())
        }
        _ => Ok(source),
    }
}

/// How many objects are in which form.
fn stored_text(resource: &str, stored: Option<&Fact<Stored>>) -> String {
    let forms: Vec<String> = match stored {
        Some(Fact::Value(stored)) => stored
            .iter()
            .map(|(form, count)| format!("{count} {form}"))
            .collect(),
        _ => Vec::new(),
    };
    match forms.as_slice() {
        [] => format!("{resource}: none"),
        forms => format!("{resource}: {}", forms.join(" and ")),
    }
}

impl Behaviour for Encryption {
    fn name(&self) -> String {
        "encryption at rest".into()
    }

    fn queries(&self) -> Vec<Query> {
        first_queries()
    }

    fn api_queries(&self, node: &str) -> Vec<(ApiQuery, Vec<String>)> {
        vec![
            (
                ApiQuery::LoadedEncryption(node.to_owned()),
                nothing_counts(),
            ),
            // One that is not among the nodes would be left behind.
            (ApiQuery::ControlPlanes, Vec::new()),
        ]
    }

    fn parts(&self) -> Vec<Piece> {
        let wanted = [
            ("provider".to_owned(), json!(self.provider.name())),
            ("resources".to_owned(), json!(self.resources)),
        ];
        vec![Piece::Setting {
            list: "encryption",
            name: vec!["at rest".into()],
            wanted: wanted.into_iter().collect(),
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)> {
        let subject = Subject::Flag {
            component: Component::KubeApiserver,
            name: CONFIG_FLAG.into(),
        };
        vec![(subject, json!({"value": own_path()}))]
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        if self.ends {
            return self.end(resource, facts, draft);
        }
        let seen = Seen::of(facts, &places_of(facts, &self.resources));
        let view = seen.view();
        if let Some(message) = self.unserved(facts) {
            let remedy = "name it in the plural and with its group, as `kubectl api-resources` has it: `secrets`, \
                          `deployments.apps`";
            return draft.error(resource, Place::Api, message, remedy);
        }
        if let Some(problem) = self.hindrance(resource, &seen, &view) {
            draft.problems.push(problem);
            return;
        }
        let Ok(new) = Form::key(self.provider, "new") else {
            return;
        };
        let asked = asked(&seen, self.provider, &self.resources, &new);
        if asked.makes_key && self.backup.is_none() {
            draft.error(
                resource,
                Place::Api,
                "a key must be made, and it is not said where it is backed up",
                "set encryption.backup-file = \"keys/{key}.yaml\", or encryption.backup-command to a program that \
                 takes it on stdin; without its key nobody can read what it encrypts",
            );
            return;
        }
        let steps = course(&asked.goal, &view);
        match steps.last() {
            Some(Next::Stopped(stop)) => {
                let remedy = "`harden encryption status` tells more; nothing of it is changed before \
                              that is mended";
                return draft.error(resource, Place::Api, stop.to_string(), remedy);
            }
            Some(Next::Wait { node }) => {
                return draft.error(
                    resource,
                    Place::Node(node.clone()),
                    "its API server has not loaded the file that lies on its disk",
                    "it looks once a minute: plan again; if it stays, `harden encryption status` tells more",
                );
            }
            _ => {}
        }
        let mut flags = Draft::default();
        self.flags(resource, &seen, facts, &mut flags);
        let is_error = |problem: &Problem| problem.severity == Severity::Error;
        let is_whole = !flags.problems.iter().any(is_error);
        draft.problems.append(&mut flags.problems);
        // A server that is started otherwise than the others must not stay behind.
        if !is_whole {
            return;
        }
        draft.changes.append(&mut flags.changes);
        if steps.is_empty() {
            return;
        }
        let at = steps
            .iter()
            .rposition(|step| matches!(step, Next::Enable { .. }));
        let (first, last) = steps.split_at(at.map_or(0, |at| at + 1));
        let words = |steps: &[Next]| -> Vec<String> {
            let all = steps.iter().filter_map(|step| words_of(step, &view));
            all.collect()
        };
        let provider = self.provider.name();
        let key: Vec<String> = match (&self.backup, asked.makes_key) {
            (Some(backup), true) => vec![match &self.key {
                Some(source) => {
                    format!("take a key of {provider} from {source} and back it up {backup}")
                }
                None => format!("make a key of {provider} and back it up {backup}"),
            }],
            _ => Vec::new(),
        };
        let (before, after) = match at {
            Some(_) => ([key, words(first)].concat(), words(last)),
            None => (Vec::new(), [key, words(last)].concat()),
        };
        let mut effects = Vec::new();
        let mut all = before.clone();
        if at.is_some() {
            all.push(FLAGS_WORDS.to_owned());
            effects.push(self.work(Part::Prepare, before));
        }
        all.extend(after.iter().cloned());
        effects.push(self.work(Part::Finish, after));
        let stored = self.resources.iter();
        let stored = stored.map(|name| stored_text(name, view.stored.get(name)));
        let target = match asked.makes_key {
            true => "a new key",
            false => "a key",
        };
        let found = Difference {
            place: Place::Api,
            before: Some(stored.collect::<Vec<_>>().join("; ")),
            after: Some(format!("all under {target} of {}", self.provider.name())),
            diff: Some(diff(&all)),
            ..Difference::default()
        };
        draft.change(resource, found, effects);
    }
}

/// What comes between the two parts.
const FLAGS_WORDS: &str =
    "start every API server with its file, one after the other, each behind its gate";

/// What the way back is.
const WAY_BACK: &str = "  the key is then all that can read them, also in snapshots of etcd; `harden rollback` \
                        does not undo it, `harden encryption disable` does\n";

fn diff(words: &[String]) -> String {
    let lines = words.iter().map(|text| format!("+ {text}\n"));
    let mut text: String = lines.collect();
    text.push_str(WAY_BACK);
    text
}

/// A step for a reader; `None` for the flags, which are changes of their own.
fn words_of(step: &Next, view: &View) -> Option<String> {
    let is_new =
        |node: &String| matches!(view.planes.get(node), Some(Ok(Plane::Off { file: None })));
    Some(match step {
        Next::Enable { .. } => return None,
        Next::Write {
            stage: Stage::Add,
            files,
        } if files.keys().all(is_new) => {
            let nodes: Vec<&str> = files.keys().map(String::as_str).collect();
            format!(
                "write {} of {}: what is stored now is first in it, the key behind that",
                own_path(),
                nodes.join(", ")
            )
        }
        Next::Rewrite { resources } => {
            let count = |name: &String| match view.stored.get(name) {
                Some(Fact::Value(stored)) => stored.values().sum::<u64>(),
                _ => 0,
            };
            let counted: Vec<String> = resources
                .iter()
                .map(|name| format!("{} of {name}", count(name)))
                .collect();
            format!(
                "have every object written anew ({}), and count their forms in every member of etcd",
                counted.join(", ")
            )
        }
        other => other.to_string(),
    })
}
