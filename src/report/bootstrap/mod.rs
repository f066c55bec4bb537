//! What a new cluster needs to be born as the profile says, as a tree of files.
//!
//! The tree comes from the same desired state as a plan, and where kubeadm is concerned by the same
//! edits, so that a cluster made from it has nothing to change. What cannot be known or set before
//! there is a cluster is listed in `after.md`.

use std::collections::BTreeMap;

use crate::distribution::k3s::{K3S, Layout, RKE2};
use crate::resource::Desired;

use super::render::Mark;

mod k3s;
mod kind;
mod kubeadm;
mod left;
mod place;
mod wants;

use left::Left;
use place::Places;
use wants::Wants;

/// The mark of what [`bootstrap`] makes.
pub const BOOTSTRAP: Mark = Mark {
    file: ".harden-bootstrap",
    command: "harden bootstrap",
};

/// What kind of cluster is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newborn {
    /// By `kubeadm init`.
    Kubeadm {
        /// The `kubernetesVersion` to write, such as `v1.35.4`; kubeadm's own without it.
        version: Option<String>,
    },
    /// By `kind create cluster`.
    Kind {
        /// How many control-plane nodes.
        control_planes: usize,
        /// How many other nodes.
        workers: usize,
    },
    /// By starting k3s.
    K3s,
    /// By starting RKE2.
    Rke2,
}

/// The tree, and what it cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Relative paths and texts.
    pub files: BTreeMap<String, String>,
    /// What is left for `harden apply`, or for a person, one line each.
    pub after: Vec<String>,
}

/// Writes what a new cluster needs. The same inputs give the same bytes.
///
/// ```text
/// kubeadm.yaml | kind.yaml     what the cluster is made from (k3s, RKE2: among the files)
/// files/ROLE/…                 what must lie on nodes of that role, as it will lie there
/// files.tsv                    role, kind, mode, owner, group, file, and where it goes
/// place-files.sh               puts it there
/// README.md, after.md          how to use it, and what is left to do
/// ```
///
/// # Errors
/// That two resources want different things of one flag, volume, field or file, or that a value
/// cannot be written.
pub fn bootstrap(desired: &Desired, newborn: &Newborn) -> Result<Bootstrap, String> {
    let mut left = Left::default();
    let wants = Wants::of(desired, &mut left)?;
    let mut places = Places::default();
    let mut files = BTreeMap::new();
    let readme = match newborn {
        Newborn::Kubeadm { version } => {
            let text = kubeadm::configuration(&wants, version.as_deref(), &mut left)?;
            files.insert("kubeadm.yaml".to_owned(), text);
            places.add_all(&wants);
            include_str!("kubeadm.md")
        }
        Newborn::Kind {
            control_planes,
            workers,
        } => {
            places.add_all(&wants);
            let nodes = (*control_planes, *workers);
            let text = kind::configuration(&wants, nodes, &places, &mut left)?;
            files.insert("kind.yaml".to_owned(), text);
            include_str!("kind.md")
        }
        Newborn::K3s => rancher(&K3S, &wants, &mut places, &mut left)?,
        Newborn::Rke2 => rancher(&RKE2, &wants, &mut places, &mut left)?,
    };
    files.insert("README.md".into(), readme.into());
    let layout = match newborn {
        Newborn::Kubeadm { .. } | Newborn::Kind { .. } => None,
        Newborn::K3s => Some(&K3S),
        Newborn::Rke2 => Some(&RKE2),
    };
    files.insert("after.md".into(), left.text(layout));
    files.insert("desired.sha256".into(), format!("{}\n", desired.sha256()));
    places.write(&mut files);
    BOOTSTRAP.put(&mut files);
    Ok(Bootstrap {
        files,
        after: left.lines(),
    })
}

fn rancher(
    layout: &Layout,
    wants: &Wants,
    places: &mut Places,
    left: &mut Left,
) -> Result<&'static str, String> {
    k3s::place(layout, wants, places, left)?;
    Ok(match layout.mounts {
        true => include_str!("rke2.md"),
        false => include_str!("k3s.md"),
    })
}
