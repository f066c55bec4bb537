//! Resources that want different things of one setting, file or object.
//!
//! Several may have a share in one list: each asks for items of its own, and all edits of one copy
//! become one. What then still differs is a clash.

use std::collections::{BTreeMap, BTreeSet};

use crate::distribution::{Component, ComponentEdit, ListEdit};
use crate::resource::{Draft, Effect, Place, Problem, Severity};

/// Makes one edit of all those of one list, and gives it to each change that is part of it.
pub(super) fn join_lists(draft: &mut Draft) {
    let mut unwanted: BTreeMap<(Component, String), Vec<String>> = BTreeMap::new();
    for effect in draft.changes.iter().flat_map(|(_, effects)| effects) {
        if let Some((component, name, list)) = list_edit(effect) {
            let known = unwanted.entry((component, name.to_owned())).or_default();
            known.extend(list.without.iter().cloned());
        }
    }
    let mut joined: BTreeMap<(Place, String), Option<ListEdit>> = BTreeMap::new();
    for effect in draft.changes.iter().flat_map(|(_, effects)| effects) {
        let Some((component, name, list)) = list_edit(effect) else {
            continue;
        };
        let Some(target) = target(effect) else {
            continue;
        };
        let mut list = list.clone();
        let key = (component, name.to_owned());
        list.spare(unwanted.get(&key).map_or(&[], Vec::as_slice));
        match joined.entry(target) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Some(list));
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let both = known.get_mut().take().and_then(|known| known.join(&list));
                *known.get_mut() = both;
            }
        }
    }
    for (change, effects) in &mut draft.changes {
        for effect in effects {
            let list = target(effect).and_then(|target| joined.get(&target)?.clone());
            let is_server = matches!(effect, Effect::ServerConfig { .. });
            let edit = edit_of(effect);
            let (Some(list), Some(ComponentEdit::EditList { name, .. })) = (list, &edit) else {
                continue;
            };
            change.after = list.value();
            let name = name.clone();
            if is_server {
                change.after = beside(change.before.as_deref(), &list);
            }
            if let Some(edit) = edit {
                *edit = ComponentEdit::EditList { name, list }.settled();
            }
        }
    }
}

/// What a list becomes where our share of it stands beside what others give, and go on giving.
fn beside(before: Option<&str>, ours: &ListEdit) -> Option<String> {
    let split = |text: Option<&str>| -> Vec<String> {
        let items = text.into_iter().flat_map(|text| text.split(','));
        items.map(str::to_owned).collect()
    };
    let all = ListEdit {
        all: split(before),
        with: split(ours.value().as_deref()),
        without: ours.without.clone(),
        ..ListEdit::default()
    };
    all.value()
}

fn list_edit(effect: &Effect) -> Option<(Component, &str, &ListEdit)> {
    match effect {
        Effect::Manifest {
            component, edit, ..
        }
        | Effect::ServerConfig {
            component, edit, ..
        }
        | Effect::ClusterConfiguration { component, edit } => match edit {
            ComponentEdit::EditList { name, list } => Some((*component, name, list)),
            _ => None,
        },
        _ => None,
    }
}

fn edit_of(effect: &mut Effect) -> Option<&mut ComponentEdit> {
    match effect {
        Effect::Manifest { edit, .. }
        | Effect::ServerConfig { edit, .. }
        | Effect::ClusterConfiguration { edit, .. } => Some(edit),
        _ => None,
    }
}

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
        ComponentEdit::SetFlag { name, .. }
        | ComponentEdit::RemoveFlag { name }
        | ComponentEdit::EditList { name, .. } => Some(format!("{component} --{name}")),
        ComponentEdit::SetVolume(volume) => Some(format!("{component} volume {}", volume.name)),
        ComponentEdit::RunAs(_) => Some(format!("user of {component}")),
        ComponentEdit::Restart(_) => None,
    };
    Some(match effect {
        Effect::Manifest {
            node,
            component,
            edit,
        }
        | Effect::ServerConfig {
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
        Effect::ServingCertificate { .. }
        | Effect::Timer { .. }
        | Effect::Renew(_)
        | Effect::Encryption(_) => {
            return None;
        }
        Effect::File { node, path, .. } => (Place::Node(node.clone()), format!("file {path}")),
        Effect::Mode { node, path, .. } => (Place::Node(node.clone()), format!("mode of {path}")),
        Effect::Owner { node, path, .. } => (Place::Node(node.clone()), format!("owner of {path}")),
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
