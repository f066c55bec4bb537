//! k3s and RKE2: a drop-in of the server's configuration, one of the kubelet's, and files.

use serde_json::{Map, Value, json};

use crate::distribution::k3s::{Entry, Layout};
use crate::distribution::kubeadm::document;
use crate::distribution::{Component, ComponentEdit, Volume};

use super::kubeadm::kubelet;
use super::left::Left;
use super::place::Places;
use super::wants::{Role, Wants};

/// Places everything that a new cluster needs.
pub(super) fn place(
    layout: &Layout,
    wants: &Wants,
    places: &mut Places,
    left: &mut Left,
) -> Result<(), String> {
    for ((role, path), content) in &wants.files {
        match layout.path(path.as_str()) {
            Some(path) => places.file(*role, &path, content.clone()),
            None => left.no_place(path.as_str(), &elsewhere(layout)),
        }
    }
    let mut fields = wants.kubelet.clone();
    fields.retain(|name, value| keep(layout, name, value, left));
    if let Some(text) = kubelet(&fields) {
        places.file(Role::Every, layout.kubelet, text);
    }
    for name in wants.kube_proxy.keys() {
        let why = format!("{} takes flags for kube-proxy, no fields", layout.name);
        left.no_place(&format!("kube-proxy {name}"), &why);
    }
    let mut config = Map::new();
    for component in Component::ALL {
        let edits = wants.edits(
            component,
            |name| layout.own_flag(component, name).map(str::to_owned),
            left,
        )?;
        for edit in &edits {
            match edit {
                ComponentEdit::SetFlag { name, value } => {
                    flag(layout, component, (name, value), &mut config, left);
                }
                ComponentEdit::SetVolume(volume) => {
                    mount(layout, component, volume, &mut config, places, left);
                }
                ComponentEdit::RemoveFlag { .. }
                | ComponentEdit::EditList { .. }
                | ComponentEdit::RunAs(_)
                | ComponentEdit::Restart(_) => {}
            }
        }
    }
    if !config.is_empty() {
        let text = document(&Value::Object(config));
        places.file(Role::ControlPlane, layout.config, text);
    }
    Ok(())
}

fn flag(
    layout: &Layout,
    component: Component,
    (name, value): (&str, &str),
    config: &mut Map<String, Value>,
    left: &mut Left,
) {
    let Some(value) = layout.path(value) else {
        left.no_place(&format!("{component} --{name}"), &elsewhere(layout));
        return;
    };
    put(config, layout.flag_entry(component, name, &value));
}

/// A directory that a component writes must be there; where components are pods, it must be mounted.
fn mount(
    layout: &Layout,
    component: Component,
    volume: &Volume,
    config: &mut Map<String, Value>,
    places: &mut Places,
    left: &mut Left,
) {
    let what = format!("{component} volume {}", volume.name);
    let Some(volume) = layout.volume(volume) else {
        left.no_place(&what, &elsewhere(layout));
        return;
    };
    if volume.path_type == "DirectoryOrCreate" {
        places.directory(Role::ControlPlane, volume.host_path.as_str());
    }
    match layout.mount_entry(component, &volume) {
        Ok(Some(entry)) => put(config, entry),
        Ok(None) => {}
        Err(why) => left.no_place(&what, why),
    }
}

/// Takes fields of the kubelet away that name a file of kubeadm's; `false` when nothing is left.
fn keep(layout: &Layout, name: &str, value: &mut Value, left: &mut Left) -> bool {
    match value {
        Value::String(text) if layout.path(text).is_none() => {
            left.no_place(&format!("kubelet {name}"), &elsewhere(layout));
            false
        }
        Value::Object(fields) => {
            fields.retain(|key, value| keep(layout, &format!("{name}.{key}"), value, left));
            !fields.is_empty()
        }
        _ => true,
    }
}

fn put(config: &mut Map<String, Value>, entry: Entry) {
    if !entry.is_list {
        config.insert(entry.key, entry.value.into());
        return;
    }
    let list = config
        .entry(format!("{}+", entry.key))
        .or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.push(entry.value.into());
    }
}

fn elsewhere(layout: &Layout) -> String {
    format!(
        "it names a file of kubeadm's, which {} does not have",
        layout.name
    )
}
