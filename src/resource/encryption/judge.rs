//! What is wrong with encryption as it is seen, and what is not known.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::made_at;
use super::machine::{Next, Rows, next, row_of};
use super::seen::{CONFIG_FLAG, RELOAD_FLAG, Seen, SeenPlane, own_path, rows};
use crate::fact::encryption::{Form, Provider, StoredForm};
use crate::fact::{Fact, Meta};
use crate::resource::{Place, Problem, Severity};

/// What a look at encryption comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What could not be seen.
    pub unknown: Vec<Problem>,
    /// What is not as it should be.
    pub wrong: Vec<Problem>,
    /// What should be known.
    pub notes: Vec<Problem>,
    /// What there is to do next, where the files themselves tell what they are to come to.
    pub next: Option<Next>,
}

/// Judges what was seen.
pub fn judge(seen: &Seen) -> Judgement {
    let mut judge = Judge {
        seen,
        found: Judgement::default(),
    };
    for (node, plane) in &seen.planes {
        judge.plane(node, plane);
    }
    judge.together();
    for resource in seen.resources.keys() {
        judge.resource(resource);
    }
    judge.found.next = judge.next();
    judge.found
}

/// Says which resources are written by a key that is older than a number of days, or of which nobody knows
/// how old it is. `now` is in seconds of Unix time.
pub fn too_old(seen: &Seen, now: u64, days: u64) -> Vec<Problem> {
    const DAY: u64 = 24 * 60 * 60;
    let mut keys: BTreeMap<&Form, BTreeSet<String>> = BTreeMap::new();
    let files: Vec<Rows> = seen
        .planes
        .values()
        .filter_map(|plane| plane.file.value().map(rows))
        .collect();
    for (resource, row) in files.iter().flatten() {
        if let Some(form @ Form::Key { .. }) = row.first() {
            keys.entry(form).or_default().insert(resource.clone());
        }
    }
    let mut found = Vec::new();
    for (form, resources) in keys {
        let Form::Key { name, .. } = form else {
            continue;
        };
        let message = match made_at(name).map(|made| now.saturating_sub(made) / DAY) {
            Some(age) if age <= days => continue,
            Some(age) => format!("{form} is {age} days old, more than {days}"),
            None => format!("how old {form} is its name does not tell"),
        };
        found.push(Problem {
            severity: Severity::Error,
            place: Place::Api,
            subject: resources.into_iter().collect::<Vec<_>>().join(", "),
            message,
            remedy: "`harden encryption rotate` brings the objects under a new key".into(),
        });
    }
    found
}

struct Judge<'s> {
    seen: &'s Seen,
    found: Judgement,
}

impl Judge<'_> {
    fn plane(&mut self, node: &str, plane: &SeenPlane) {
        let server = match &plane.server {
            Fact::Value(server) => server,
            Fact::Absent => {
                return self.unknown(node, "kube-apiserver", "it was not looked at", "");
            }
            Fact::Unreadable(why) => {
                if let Some(what) = self.seen.of_stopped(plane) {
                    let remedy = "start the API server: it loads that file, and the command that was stopped takes it \
                                  up when it is run again. If the server's log says that it refuses the file, put \
                                  that of another control plane there, whole and by a rename";
                    return self.unknown(node, own_path().as_str(), &what, remedy);
                }
                let remedy = "make the node reachable and its API server run, then look again";
                return self.unknown(node, "kube-apiserver", why, remedy);
            }
        };
        let Some(path) = &server.config else {
            let path = own_path();
            match &plane.idle {
                Fact::Value(_) => self.note(
                    node,
                    path.as_str(),
                    "a file lies there that the API server does not read",
                    "`harden apply` goes on with it where the profile has `encryption`; else remove it",
                ),
                Fact::Absent => {}
                Fact::Unreadable(why) => {
                    let why = format!("what lies there is not known: {why}");
                    let remedy = "remove it if it is of no use: no API server reads it";
                    self.unknown(node, path.as_str(), &why, remedy);
                }
            }
            return;
        };
        let subject = path.to_string();
        let file = match &plane.file {
            Fact::Value(file) => Some(file),
            Fact::Absent => {
                self.wrong(
                    node,
                    &subject,
                    "the API server was started with it, and it is not there: the server does not start again",
                    "put the file of another control plane there, mode 0600, before anything restarts",
                );
                None
            }
            Fact::Unreadable(why) => {
                let remedy = "write it in block style with one key, name or list entry a line, as the \
                              Kubernetes documentation does";
                self.unknown(node, &subject, why, remedy);
                None
            }
        };
        if let Some(file) = file
            && !is_private(&file.meta)
        {
            self.wrong(
                node,
                &subject,
                &format!(
                    "it holds keys and is {:04o} {}:{}",
                    file.meta.mode, file.meta.owner, file.meta.group
                ),
                &format!("chown root:root {path} && chmod 0600 {path}"),
            );
        }
        match (&plane.loaded, file) {
            (Fact::Value(loaded), Some(file)) if loaded.sha256 != file.sha256 => {
                let (why, remedy) = match (loaded.refused, server.reloads) {
                    (0, true) => (
                        String::new(),
                        "a server looks at its file once a minute: look again; if it stays, the file is \
                         not the one that the container sees",
                    ),
                    (0, false) => (
                        String::new(),
                        "restart the API server of this node, or let it reload the file: \
                         --encryption-provider-config-automatic-reload=true",
                    ),
                    (refused, _) => (
                        format!(" and has refused a reload {refused} times"),
                        "its log says why; until the file is right again, do not restart it: it would not \
                         start",
                    ),
                };
                self.wrong(
                    node,
                    &subject,
                    &format!("the API server runs with another content of it{why}"),
                    remedy,
                );
            }
            (Fact::Value(_), _) => {}
            (Fact::Absent, _) => self.unknown(
                node,
                "kube-apiserver",
                "it does not say in its metrics which encryption configuration it has loaded",
                "Kubernetes 1.35 does so; where an older one does not, nobody can tell",
            ),
            (Fact::Unreadable(why), _) => {
                let why = format!("what it has loaded is not known: {why}");
                let remedy = "the kubeconfig's user must be allowed to `get` the path /metrics";
                self.unknown(node, "kube-apiserver", &why, remedy);
            }
        }
        if !server.reloads {
            self.note(
                node,
                "kube-apiserver",
                &format!(
                    "it runs without --{RELOAD_FLAG}: a changed file counts after a restart only"
                ),
                "set it to true, and mount the directory instead of the file",
            );
        }
    }

    /// What the control planes must agree on.
    fn together(&mut self) {
        let mut off = Vec::new();
        let mut on = Vec::new();
        for (node, plane) in &self.seen.planes {
            match plane.server.value().map(|server| server.config.is_some()) {
                Some(true) => on.push(node.clone()),
                Some(false) => off.push(node.clone()),
                None => {}
            }
        }
        if on.is_empty() {
            return;
        }
        for node in &off {
            self.wrong(
                node,
                "kube-apiserver",
                &format!("it runs without --{CONFIG_FLAG}, and that of {} with it", on.join(", ")),
                "what the others encrypt it cannot read: give it their file, with the flag and the mount",
            );
        }
        let mut told = BTreeSet::new();
        for (node, plane) in &self.seen.planes {
            if let Some(other) = self.seen.twin(plane)
                && told.insert([node.min(other), node.max(other)])
            {
                self.wrong(
                    node,
                    "encryption configuration",
                    &format!("it names the same keys as that of {other}, and is another file"),
                    "compare both on the nodes: a key of the same name that is another key makes objects \
                     unreadable on one of them",
                );
            }
        }
    }

    /// What the objects of a resource are stored in, and who can read it.
    fn resource(&mut self, resource: &str) {
        let files = self.rows();
        let row = |rows: &Option<Rows>| row_of(rows.as_ref(), resource).to_vec();
        let rows: Vec<(String, Vec<Form>)> = files
            .iter()
            .map(|(node, rows)| (node.clone(), row(rows)))
            .collect();
        for (node, written) in &rows {
            for (other, read) in &rows {
                if let Some(form) = written.first()
                    && !read.contains(form)
                {
                    self.wrong(
                        other,
                        resource,
                        &format!("it cannot read what {node} writes: {form}"),
                        "give it the key, as second, before anything else; objects that it cannot read \
                         make it fail",
                    );
                }
            }
        }
        for (provider, limit) in [
            (
                Provider::Aesgcm,
                "a key of aesgcm must not write more than 200,000 times: rotate it in time, or use secretbox",
            ),
            (
                Provider::Aescbc,
                "aescbc does not notice when what it wrote is changed in etcd: prefer secretbox",
            ),
        ] {
            let writes = |(_, row): &(String, Vec<Form>)| matches!(row.first(), Some(Form::Key { provider: p, .. }) if *p == provider);
            if rows.iter().any(writes) {
                let what = format!("its objects are written by {}", provider.name());
                self.push(Kind::Note, Place::Api, resource, &what, limit);
            }
        }
        let most = match self
            .seen
            .resources
            .get(resource)
            .map(super::seen::Counted::most)
        {
            Some(Fact::Value(most)) => most,
            Some(Fact::Unreadable(why)) => {
                let why = format!("in which forms its objects are stored is not known: {why}");
                let remedy = "control planes of kubeadm have etcdctl in etcd's image and its health \
                              check's certificate under /etc/kubernetes/pki/etcd";
                return self.push(Kind::Unknown, Place::Api, resource, &why, remedy);
            }
            _ => return,
        };
        let first: BTreeSet<&Form> = rows.iter().filter_map(|(_, row)| row.first()).collect();
        for (form, count) in &most {
            let objects = if *count == 1 {
                "object is"
            } else {
                "objects are"
            };
            let blind: Vec<&str> = rows
                .iter()
                .filter(|(_, row)| !matches!(form, StoredForm::Form(form) if row.contains(form)))
                .map(|(node, _)| node.as_str())
                .collect();
            if !blind.is_empty() {
                let what = format!(
                    "{count} {objects} stored {form}, which {} cannot read",
                    blind.join(", ")
                );
                let remedy = "restore the key from its backup into that file, as second, and nothing \
                              else until it is there; `kubectl get` of all objects fails meanwhile";
                self.push(Kind::Wrong, Place::Api, resource, &what, remedy);
            } else if !matches!(form, StoredForm::Form(form) if first.contains(form)) {
                let what = format!("{count} {objects} still stored {form}");
                let remedy = "they are encrypted when they are written anew";
                self.push(Kind::Wrong, Place::Api, resource, &what, remedy);
            } else if *form == StoredForm::Form(Form::Clear) {
                let what = format!("{count} {objects} stored in clear, for it is written so");
                let remedy = "name it in an encryption configuration with a key first";
                self.push(Kind::Wrong, Place::Api, resource, &what, remedy);
            }
        }
    }

    /// What each server whose state is known reads; `None` where it runs without a file.
    fn rows(&self) -> Vec<(String, Option<Rows>)> {
        let known = self.seen.planes.iter().filter_map(|(node, plane)| {
            let server = plane.server.value()?;
            match (&server.config, &plane.file) {
                (None, _) => Some((node.clone(), None)),
                (Some(_), Fact::Value(file)) => Some((node.clone(), Some(rows(file)))),
                _ => None,
            }
        });
        known.collect()
    }

    fn next(&self) -> Option<Next> {
        let wanted = self.seen.wanted()?;
        match next(&wanted, &self.seen.view()) {
            Next::Done => None,
            // It is told as unknown, or as wrong.
            Next::Stopped(_) => None,
            // Who has no key in any file is about to end it, or has only begun.
            Next::Disable { .. } | Next::Remove { .. } => None,
            next => Some(next),
        }
    }

    fn unknown(&mut self, node: &str, subject: &str, message: &str, remedy: &str) {
        let place = Place::Node(node.to_owned());
        self.push(Kind::Unknown, place, subject, message, remedy);
    }

    fn wrong(&mut self, node: &str, subject: &str, message: &str, remedy: &str) {
        let place = Place::Node(node.to_owned());
        self.push(Kind::Wrong, place, subject, message, remedy);
    }

    fn note(&mut self, node: &str, subject: &str, message: &str, remedy: &str) {
        let place = Place::Node(node.to_owned());
        self.push(Kind::Note, place, subject, message, remedy);
    }

    fn push(&mut self, kind: Kind, place: Place, subject: &str, message: &str, remedy: &str) {
        let (list, severity) = match kind {
            Kind::Unknown => (&mut self.found.unknown, Severity::Error),
            Kind::Wrong => (&mut self.found.wrong, Severity::Error),
            Kind::Note => (&mut self.found.notes, Severity::Warning),
        };
        list.push(Problem {
            severity,
            place,
            subject: subject.to_owned(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

enum Kind {
    Unknown,
    Wrong,
    Note,
}

fn is_private(meta: &Meta) -> bool {
    meta.mode & 0o177 == 0 && meta.owner == "root"
}
