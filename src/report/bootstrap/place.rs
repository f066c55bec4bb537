//! The files that must lie on nodes, and the script that puts them there.
//!
//! The script is constant text. What is to be done is data in `files.tsv`, so that no value of a
//! profile is ever part of a command.

use std::collections::BTreeMap;

use crate::report::render::safe;
use crate::resource::component_file::{MODE, OWNER};

use super::wants::{Role, Wants};

/// Puts the files where they belong.
const SCRIPT: &str = include_str!("place-files.sh");

/// The directory of kernel parameters, which systemd-sysctl(8) sets at every boot. The script sets
/// those of the files that it places there at once.
pub(super) const SYSCTLS: &str = "/etc/sysctl.d/";

/// What is to be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    File(String),
    Sysctls(String),
    Directory,
}

/// What is to be on the nodes, by role and path.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<(Role, String), Thing>);

impl Places {
    /// Adds the files, where kubeadm's nodes have them.
    pub(super) fn add_all(&mut self, wants: &Wants) {
        for ((role, path), content) in &wants.files {
            self.file(*role, path.as_str(), content.clone());
        }
    }

    /// Adds a file.
    pub(super) fn file(&mut self, role: Role, path: &str, content: String) {
        let thing = match path.starts_with(SYSCTLS) {
            true => Thing::Sysctls(content),
            false => Thing::File(content),
        };
        self.0.insert((role, path.to_owned()), thing);
    }

    /// Adds a directory that is made where there is none.
    pub(super) fn directory(&mut self, role: Role, path: &str) {
        self.0.insert((role, path.to_owned()), Thing::Directory);
    }

    /// Lists the files of control-plane nodes: where each lies in the tree, and where on a node.
    pub(super) fn of_control_planes(&self) -> Vec<(String, &str)> {
        self.0
            .iter()
            .filter(|((role, _), thing)| *role != Role::Worker && matches!(thing, Thing::File(_)))
            .map(|((role, path), _)| (source(*role, path), path.as_str()))
            .collect()
    }

    /// Writes files, list and script into the tree; none of them when nothing is to be placed.
    pub(super) fn write(self, tree: &mut BTreeMap<String, String>) {
        if self.0.is_empty() {
            return;
        }
        let mut list = String::new();
        for ((role, path), thing) in self.0 {
            let (kind, mode, source, content) = match thing {
                Thing::File(content) => ("file", MODE, source(role, &path), Some(content)),
                // Nothing in it is secret, and other tools read it.
                Thing::Sysctls(content) => ("sysctl", 0o644, source(role, &path), Some(content)),
                Thing::Directory => ("directory", 0o700, "-".to_owned(), None),
            };
            let role = role.word();
            list.push_str(&format!(
                "{role}\t{kind}\t{mode:04o}\t{OWNER}\t{OWNER}\t{source}\t{path}\n"
            ));
            if let Some(content) = content {
                tree.insert(source, content);
            }
        }
        tree.insert("files.tsv".into(), list);
        tree.insert("place-files.sh".into(), SCRIPT.into());
    }
}

/// Where a file of a node lies in the tree.
fn source(role: Role, path: &str) -> String {
    let parts: Vec<String> = path.split('/').skip(1).map(safe).collect();
    format!("files/{}/{}", role.word(), parts.join("/"))
}
