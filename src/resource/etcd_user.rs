//! `[[etcd-user]]`: etcd under a user of its own.
//!
//! Three things belong together, and one without the others stops etcd or protects nothing: its data
//! belongs to that user, its pod runs as that user, and the user can read its keys and certificates
//! (rancher/rancher#50080). The keys stay root's, as CIS 1.1.19 wants them: the process has the group
//! root besides its own, and the two keys that it uses have mode 0640. Nothing else of what its
//! container mounts is readable to that group only; the authority's key stays at 0600.

use serde::{Deserialize, Serialize};

use super::mode::describe;
use super::{
    Behaviour, Difference, Draft, Effect, Part, Place, Problem, Resource, Risk, SettingCopy,
    Severity, Subject,
};
use crate::distribution::kubeadm::{HARDEN_DIR, Manifest, manifest_path};
use crate::distribution::{Component, ComponentEdit, RunAs};
use crate::fact::{AccountName, Answer, Fact, Facts, FileKind, Ids, Meta, Node, NodePath, Query};

/// Where kubeadm keeps etcd's keys and certificates, which is all of the PKI that its container
/// mounts (kubernetes v1.35 cmd/kubeadm/app/phases/etcd/local.go: `GetEtcdPodSpec`).
const PKI: &str = "/etc/kubernetes/pki/etcd";

/// The flags that name a file, and the name that kubeadm gives the file (same file:
/// `getEtcdCommand`).
const FILES: [(&str, &str); 6] = [
    ("cert-file", "server.crt"),
    ("key-file", "server.key"),
    ("trusted-ca-file", "ca.crt"),
    ("peer-cert-file", "peer.crt"),
    ("peer-key-file", "peer.key"),
    ("peer-trusted-ca-file", "ca.crt"),
];

/// Flags that name more files, which kubeadm does not set.
const OTHER_FILES: [&str; 4] = ["wal-dir", "config-file", "client-crl-file", "peer-crl-file"];

const GROUP_READ: u32 = 0o040;
const GROUP_ENTER: u32 = 0o050;

/// The account under which etcd runs and to which its data belongs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EtcdUser {
    account: AccountName,
    data_dir: NodePath,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    account: AccountName,
    data_dir: NodePath,
}

/// What is in the way, and what to do about it.
type Obstacle = (String, String);

/// A path that etcd cannot read, what it is, and the bits that it lacks.
type Lacking<'n> = (NodePath, &'n Meta, u32);

/// What is known of one node, all of which is needed to change anything.
struct Seen<'n> {
    ids: Ids,
    manifest: Manifest,
    owners: Vec<Ids>,
    /// What etcd must read and cannot.
    unreadable: Vec<Lacking<'n>>,
    patch: Option<&'n str>,
}

impl EtcdUser {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[etcd-user]]
    /// account  = "etcd"
    /// data-dir = "/var/lib/etcd"
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: serde_json::Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if table.account.as_str() == "root" {
            return Err("account: root is whom etcd shall not run as".into());
        }
        if table.data_dir.as_str().matches('/').count() < 2 {
            return Err("data-dir: everything in it is given away, so it lies deeper".into());
        }
        Ok(EtcdUser {
            account: table.account,
            data_dir: table.data_dir,
        })
    }

    /// Reads everything of a node, or says what is in the way and what to do about it.
    fn look<'n>(&self, node: &'n Node) -> Result<Seen<'n>, Obstacle> {
        let again = || "check that the login may look at it as root, and plan again".to_owned();
        let ids = match node.get(&Query::Account(self.account.clone())) {
            Fact::Value(Answer::Account(ids)) if ids.uid > 0 && ids.gid > 0 => *ids,
            Fact::Value(_) => {
                let why = format!("the account {} is that of root", self.account);
                return Err((why, "name an account of its own".into()));
            }
            Fact::Absent => {
                return Err((
                    format!("the node has no account {}", self.account),
                    format!(
                        "make it on the node: useradd --system --user-group --no-create-home --shell \
                         /usr/sbin/nologin {}",
                        self.account
                    ),
                ));
            }
            Fact::Unreadable(why) => {
                let what = format!("the account {} could not be read: {why}", self.account);
                return Err((what, again()));
            }
        };
        let manifest = self.manifest(node)?;
        let owners = match node.get(&Query::Owners(self.data_dir.clone())) {
            Fact::Value(Answer::Owners(owners)) => owners.iter().copied().collect(),
            Fact::Unreadable(why) => {
                let what = format!("the owners of {} could not be read: {why}", self.data_dir);
                return Err((what, again()));
            }
            _ => {
                let why = format!("{} is not there", self.data_dir);
                return Err((why, "look where etcd keeps its data".into()));
            }
        };
        let patch = match node.text(&patch_path()) {
            Fact::Value(text) => Some(text),
            Fact::Absent => None,
            Fact::Unreadable(why) => {
                return Err((
                    format!("{} could not be read: {why}", patch_path()),
                    again(),
                ));
            }
        };
        Ok(Seen {
            ids,
            manifest,
            owners,
            unreadable: unreadable(node)?,
            patch,
        })
    }

    /// Reads the manifest, if it names no file that etcd might not be able to read.
    fn manifest(&self, node: &Node) -> Result<Manifest, Obstacle> {
        let path = manifest_path(Component::Etcd);
        let manifest = match node.text(&path) {
            Fact::Value(text) => Manifest::parse(text, Component::Etcd)
                .map_err(|error| (format!("{path}: {error}"), error.remedy().to_owned()))?,
            Fact::Absent => {
                return Err((
                    format!("{path} is not there"),
                    "leave etcd.run-as unset where etcd is no static pod of this node".into(),
                ));
            }
            Fact::Unreadable(why) => {
                return Err((
                    format!("{path} could not be read: {why}"),
                    "check that the login may read it as root, and plan again".into(),
                ));
            }
        };
        let last = |flag: &str| manifest.values(flag).pop();
        let elsewhere = |flag: &str, value: &str| {
            (
                format!("etcd has --{flag}={value}, and whether it could read that is not known"),
                "leave etcd.run-as unset, or let etcd have its files where kubeadm puts them"
                    .into(),
            )
        };
        match last("data-dir") {
            Some(dir) if dir == self.data_dir.as_str() => {}
            dir => return Err(elsewhere("data-dir", &dir.unwrap_or_default())),
        }
        for flag in OTHER_FILES {
            if let Some(value) = last(flag) {
                return Err(elsewhere(flag, &value));
            }
        }
        for (flag, name) in FILES {
            match last(flag) {
                Some(value) if value != format!("{PKI}/{name}") => {
                    return Err(elsewhere(flag, &value));
                }
                _ => {}
            }
        }
        Ok(manifest)
    }

    fn diff_node(&self, resource: &Resource, node: &Node, seen: &Seen<'_>, draft: &mut Draft) {
        let name = &node.info.name;
        let run_as = run_as(seen.ids);
        let effect_of_mode = |(path, meta, bits): &Lacking<'_>| Effect::Mode {
            node: name.clone(),
            path: path.clone(),
            mode: meta.mode | bits,
            owner: (meta.owner.clone(), meta.group.clone()),
        };
        let owner = Effect::Owner {
            node: name.clone(),
            path: self.data_dir.clone(),
            owner: seen.ids,
        };
        let patch = Effect::File {
            node: name.clone(),
            path: patch_path(),
            content: patch_text(&run_as),
            mode: 0o600,
            owner: ("root".into(), "root".into()),
        };
        let wrong_user = seen.manifest.run_as() != Some(&run_as);
        let wrong_owner = seen.owners != [seen.ids];
        let wrong_patch = seen.patch != Some(&patch_text(&run_as));
        // With the pod's user all goes in one transaction: also a tree that is right already, since
        // the old process writes until it has ended.
        let mut all = Vec::new();
        if wrong_user {
            all.push(Effect::Manifest {
                node: name.clone(),
                component: Component::Etcd,
                edit: ComponentEdit::RunAs(run_as.clone()),
            });
            all.push(owner.clone());
            all.extend(seen.unreadable.iter().map(effect_of_mode));
            all.extend(wrong_patch.then(|| patch.clone()));
        }
        let together = |alone: Effect| {
            if wrong_user { all.clone() } else { vec![alone] }
        };
        let at = |what: String, before: Option<String>, after: String| Difference {
            resource: Some(what),
            place: Place::Node(name.clone()),
            before,
            after: Some(after),
            ..Difference::default()
        };
        if wrong_user {
            let found = Difference {
                resource: None,
                copy: Some(SettingCopy::Manifest),
                restarts: Some(Component::Etcd.to_string()),
                ..at(
                    String::new(),
                    Some(
                        seen.manifest
                            .run_as()
                            .map_or_else(|| "root".to_owned(), RunAs::to_string),
                    ),
                    run_as.to_string(),
                )
            };
            draft.change(resource, found, all.clone());
        }
        if wrong_owner {
            let before: Vec<String> = seen.owners.iter().map(Ids::to_string).collect();
            let what = format!("owner of {} and all in it", self.data_dir);
            let found = at(what, Some(before.join(", ")), seen.ids.to_string());
            draft.change(resource, found, together(owner));
        }
        for lacking in &seen.unreadable {
            let (path, meta, bits) = lacking;
            let mut after = (*meta).clone();
            after.mode |= bits;
            let what = format!("mode of {path}");
            let found = at(what, Some(describe(meta)), describe(&after));
            draft.change(resource, found, together(effect_of_mode(lacking)));
        }
        if wrong_patch {
            let what = format!("patch for kubeadm {}", patch_path());
            let before = seen.patch.map(|_| "another".to_owned());
            let found = Difference {
                risk: Some(Risk::Safe),
                ..at(what, before, run_as.to_string())
            };
            draft.change(resource, found, together(patch));
        }
    }

    /// What the next upgrade does to it; said whenever it is asked for.
    fn warn(&self, resource: &Resource, draft: &mut Draft) {
        draft.problems.push(Problem {
            severity: Severity::Warning,
            place: Place::Api,
            subject: resource.kind.behaviour().name(),
            message: "ClusterConfiguration has no place for it, so it will vanish at the next upgrade: \
                      kubeadm writes etcd's manifest anew, as root"
                .into(),
            remedy: format!(
                "upgrade with `--patches {HARDEN_DIR}/patches`, where each control-plane node has its own \
                 patch, or apply again afterwards. Certificates that are renewed in place keep their \
                 modes; apply again where keys of etcd were removed and made anew, since kubeadm makes \
                 them with mode 0600 and etcd could then serve no new connection"
            ),
        });
    }
}

/// As whom the pod runs: the group root is for its keys only.
fn run_as(ids: Ids) -> RunAs {
    RunAs {
        user: ids.uid,
        group: ids.gid,
        supplementary: vec![0],
    }
}

fn patch_path() -> NodePath {
    NodePath::new(format!("{HARDEN_DIR}/patches/etcd+strategic.yaml"))
        .unwrap_or_else(|_| unreachable!("a constant path"))
}

/// A patch as `kubeadm upgrade --patches DIR` takes it: `TARGET+TYPE.yaml` (kubernetes v1.35
/// cmd/kubeadm/app/util/patches/patches.go: `parseFilename`).
fn patch_text(run_as: &RunAs) -> String {
    let groups: String = run_as
        .supplementary
        .iter()
        .map(|group| format!("    - {group}\n"))
        .collect();
    format!(
        "spec:\n  securityContext:\n    runAsUser: {}\n    runAsGroup: {}\n    supplementalGroups:\n{groups}",
        run_as.user, run_as.group
    )
}

/// What etcd reads, with the bits of the group that it needs; each path once.
fn needed() -> Vec<(NodePath, u32)> {
    let mut needed = vec![(PKI.to_owned(), GROUP_ENTER)];
    for (_, name) in FILES {
        let path = format!("{PKI}/{name}");
        if needed.iter().all(|(known, _)| *known != path) {
            needed.push((path, GROUP_READ));
        }
    }
    let path = |(path, bits)| {
        let path = NodePath::new(path).unwrap_or_else(|_| unreachable!("a constant path"));
        (path, bits)
    };
    needed.into_iter().map(path).collect()
}

/// Finds what group root cannot read.
fn unreadable(node: &Node) -> Result<Vec<Lacking<'_>>, Obstacle> {
    let mut found = Vec::new();
    for (path, bits) in needed() {
        let wrong = |why: String, remedy: &str| Err((why, remedy.to_owned()));
        let meta = match node.get(&Query::Stat(path.clone())) {
            Fact::Value(Answer::Stat(meta)) => meta,
            Fact::Unreadable(why) => {
                return wrong(
                    format!("mode and owner of {path} could not be read: {why}"),
                    "check that the login may look at it as root, and plan again",
                );
            }
            _ => {
                return wrong(
                    format!("{path} is not there"),
                    "leave etcd.run-as unset where etcd has its certificates elsewhere",
                );
            }
        };
        if !matches!(meta.kind, FileKind::Regular | FileKind::Directory) {
            return wrong(
                format!("{path} is neither a file nor a directory, and links are not followed"),
                "put the file itself there",
            );
        }
        if (&*meta.owner, &*meta.group) != ("root", "root") {
            return wrong(
                format!(
                    "{path} belongs to {}:{}, not to root",
                    meta.owner, meta.group
                ),
                "give it to root first: files.pki-owner = \"root\"",
            );
        }
        if meta.mode & bits != bits {
            found.push((path, meta, bits));
        }
    }
    Ok(found)
}

impl Behaviour for EtcdUser {
    fn name(&self) -> String {
        "user of etcd".into()
    }

    fn queries(&self) -> Vec<Query> {
        let mut queries = vec![
            Query::Account(self.account.clone()),
            Query::File(manifest_path(Component::Etcd)),
            Query::File(patch_path()),
            Query::Owners(self.data_dir.clone()),
        ];
        queries.extend(needed().into_iter().map(|(path, _)| Query::Stat(path)));
        queries
    }

    fn parts(&self) -> Vec<Part> {
        let wanted = [
            ("account", self.account.as_str()),
            ("data-dir", self.data_dir.as_str()),
        ];
        vec![Part::Setting {
            list: "users",
            name: vec![Component::Etcd.to_string()],
            wanted: wanted
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect(),
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, serde_json::Value)> {
        let account = self.account.as_str();
        let seen = serde_json::json!({"mode": null, "owner": account, "group": account});
        vec![(Subject::Mode(self.data_dir.to_string()), seen)]
    }

    fn keeps(&self) -> Vec<(NodePath, u32)> {
        needed()
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let mut any = false;
        for node in resource.nodes(facts) {
            if node.facts.value().is_none() {
                continue;
            }
            match self.look(node) {
                Ok(seen) => {
                    any = true;
                    self.diff_node(resource, node, &seen, draft);
                }
                Err((message, remedy)) => {
                    let place = Place::Node(node.info.name.clone());
                    draft.error(resource, place, message, remedy);
                }
            }
        }
        if any {
            self.warn(resource, draft);
        }
    }
}
