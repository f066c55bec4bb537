//! Resources that want different things of one setting, file or object.

use std::collections::{BTreeMap, BTreeSet};

use crate::distribution::{Component, ComponentEdit};
use crate::resource::{Draft, Effect, Place, Problem, Severity};

/// Takes out of the draft what two resources want differently, and says so once.
pub(super) fn drop_clashes(draft: &mut Draft) {
    let mut first: BTreeMap<(Place, String), &Effect> = BTreeMap::new();
    let mut clashes = BTreeSet::new();
    for effect in draft.changes.iter().flat_map(|(_, effects)| effects) {
        if let Some(target) = target(effect) {
            let known = first.entry(target.clone()).or_insert(effect);
            if !agree(known, effect) {
                clashes.insert(target);
            }
        }
    }
    draft.changes.retain(|(_, effects)| {
        let clashing = |e: &Effect| target(e).is_some_and(|target| clashes.contains(&target));
        !effects.iter().any(clashing)
    });
    for (place, subject) in clashes {
        draft.problems.push(Problem {
            severity: Severity::Error,
            place,
            message: "two resources of the profile want different things of it".into(),
            remedy: format!("leave one of the options that set {subject} unset"),
            subject,
        });
    }
}

/// Names what an effect sets.
fn target(effect: &Effect) -> Option<(Place, String)> {
    let of_edit = |component: &Component, edit: &ComponentEdit| match edit {
        ComponentEdit::SetFlag { name, .. } | ComponentEdit::RemoveFlag { name } => {
            Some(format!("{component} --{name}"))
        }
        ComponentEdit::SetVolume(volume) => Some(format!("{component} volume {}", volume.name)),
        ComponentEdit::Restart(_) => None,
    };
    Some(match effect {
        Effect::Manifest {
            node,
            component,
            edit,
        } => (Place::Node(node.clone()), of_edit(component, edit)?),
        Effect::ClusterConfiguration { component, edit } => (Place::Api, of_edit(component, edit)?),
        Effect::Kubelet { node, edit } => (
            Place::Node(node.clone()),
            format!("kubelet {}", edit.path.join(".")),
        ),
        Effect::ConfigMapField { map, edit } => {
            (Place::Api, format!("{} of {map}", edit.path.join(".")))
        }
        // Two that want one want the same.
        Effect::ServingCertificate { .. } => return None,
        Effect::File { node, path, .. } => (Place::Node(node.clone()), format!("file {path}")),
        Effect::Mode { node, path, .. } => (Place::Node(node.clone()), format!("mode of {path}")),
        Effect::Object { reference, .. } => (Place::Api, reference.to_string()),
    })
}

/// Whether two effects on one target can both be had.
fn agree(a: &Effect, b: &Effect) -> bool {
    match (a, b) {
        (Effect::Mode { owner: a, .. }, Effect::Mode { owner: b, .. }) => a == b,
        _ => a == b,
    }
}
