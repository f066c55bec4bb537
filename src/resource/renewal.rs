//! What renews a certificate: what must be there for it, and what is done.

use super::Effect;
use crate::distribution::kubeadm::certificates::KubeadmCertificate;
use crate::distribution::kubeadm::manifest_path;
use crate::distribution::{Component, ComponentEdit};
use crate::fact::{Answer, Fact, FileKind, Meta, Node, NodePath, Query};

/// A certificate that kubeadm shall renew on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewal {
    /// The node.
    pub node: String,
    /// Which.
    pub certificate: KubeadmCertificate,
    /// All files that are written, as they are now: that of the certificate first.
    pub files: Vec<(NodePath, Meta)>,
    /// The last second at which it is valid now, since 1970.
    pub until: i64,
}

/// What hinders a renewal, and what to do about it.
pub(super) type Obstacle = (String, String);

impl Renewal {
    /// Lists what must be looked at on a node.
    pub(super) fn queries(certificate: KubeadmCertificate) -> Vec<Query> {
        let stats = certificate.files().into_iter();
        let stats = stats.chain([certificate.authority_key()]);
        let mut queries: Vec<Query> = stats.map(Query::Stat).collect();
        // The gate asks the API server, whoever restarts.
        queries.push(Query::File(manifest_path(Component::KubeApiserver)));
        if let Some(reader) = certificate.reader() {
            queries.push(Query::File(manifest_path(reader)));
            queries.push(Query::Process(reader.program()));
        }
        queries
    }

    /// Returns the effects of renewing a certificate that is valid `until` then. `by_hand` is what a
    /// person does where this is not possible.
    ///
    /// # Errors
    /// What hinders it.
    pub(super) fn effects(
        certificate: KubeadmCertificate,
        node: &Node,
        until: i64,
        by_hand: &str,
    ) -> Result<Vec<Effect>, Obstacle> {
        let mut files = Vec::new();
        for path in certificate.files() {
            let meta = regular(node, &path)?;
            files.push((path, meta.clone()));
        }
        let key = certificate.authority_key();
        if matches!(node.get(&Query::Stat(key.clone())), Fact::Absent) {
            return Err((
                format!("its authority is external: {key} is not on the node, and kubeadm cannot renew it"),
                "have whoever has the authority's key issue a new one, put it in the place of the old one, \
                 and restart what reads it"
                    .into(),
            ));
        }
        regular(node, &key)?;
        let mut effects = vec![Effect::Renew(Renewal {
            node: node.info.name.clone(),
            certificate,
            files,
            until,
        })];
        if let Some(component) = certificate.reader() {
            let running = match node.get(&Query::Process(component.program())) {
                Fact::Value(Answer::Process(running)) => running.as_slice(),
                _ => &[],
            };
            let [process] = running else {
                return Err((
                    format!(
                        "{component}, which reads it, does not run just once, so that it cannot be restarted behind a gate"
                    ),
                    format!("get {component} to run, and plan again; or by hand, {by_hand}"),
                ));
            };
            // The mark names the process that is to go, so that it is new exactly once.
            let mark = format!("{}-{}", process.start, process.pid);
            effects.push(Effect::Manifest {
                node: node.info.name.clone(),
                component,
                edit: ComponentEdit::Restart(mark),
            });
        }
        Ok(effects)
    }
}

fn regular<'n>(node: &'n Node, path: &NodePath) -> Result<&'n Meta, Obstacle> {
    let look = || "check that the login may look at it as root, and plan again".to_owned();
    match node.get(&Query::Stat(path.clone())) {
        Fact::Value(Answer::Stat(meta)) if meta.kind == FileKind::Regular => Ok(meta),
        Fact::Value(_) => Err((
            format!("{path} is no regular file, and links are not followed"),
            "put the file itself there".into(),
        )),
        Fact::Absent => Err((
            format!("{path} is not there, so that kubeadm cannot renew it"),
            "put it back, or let kubeadm make certificate and key anew: `kubeadm init phase certs`"
                .into(),
        )),
        Fact::Unreadable(why) => Err((format!("{path} could not be looked at: {why}"), look())),
    }
}
