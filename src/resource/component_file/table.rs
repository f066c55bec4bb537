//! Reads `[[component-file]]` as a module writes it.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::content::Content;
use super::{ComponentFile, Refusal, harden_volume};
use crate::distribution::kubeadm::{HARDEN_DIR, KubeadmError};
use crate::distribution::{Component, Volume};
use crate::fact::{NodePath, sha256};
use crate::resource::audit_policy;
use crate::resource::flag::check_flag_name;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    component: Component,
    flag: String,
    name: String,
    content: Value,
    #[serde(default)]
    merge: Merge,
    #[serde(default)]
    volumes: Vec<VolumeTable>,
    #[serde(default)]
    replaces: BTreeSet<String>,
    refuses: Option<Refusal>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Merge {
    #[default]
    Exact,
    Additive,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct VolumeTable {
    name: String,
    host_path: NodePath,
    mount_path: NodePath,
    #[serde(default)]
    read_only: bool,
    #[serde(default = "super::directory_or_create")]
    path_type: String,
}

/// core/v1 HostPathType (kubernetes v1.35 staging/src/k8s.io/api/core/v1/types.go).
const PATH_TYPES: [&str; 7] = [
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
];

/// Reads the table of a module.
pub(super) fn read(value: Value) -> Result<ComponentFile, String> {
    let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
    check_flag_name(&table.flag).map_err(|e| e.replacen("name:", "flag:", 1))?;
    check_label("name", &table.name)?;
    if table.component == Component::Etcd {
        let error = KubeadmError::NoVolumes;
        return Err(format!("component: {error}; {}", error.remedy()));
    }
    let refused = table.refuses.iter().flat_map(|refusal| &refusal.flags);
    for (field, flag) in table
        .replaces
        .iter()
        .map(|flag| ("replaces:", flag))
        .chain(refused.map(|flag| ("refuses:", flag)))
    {
        check_flag_name(flag).map_err(|e| e.replacen("name:", field, 1))?;
        if *flag == table.flag {
            return Err(format!("{field} {flag:?} is the flag of the file itself"));
        }
    }
    let mut volumes = vec![harden_volume()?];
    for volume in table.volumes {
        let volume = volume.read()?;
        if volumes.iter().any(|other| other.name == volume.name) {
            return Err(format!("volumes.name: {:?} is taken", volume.name));
        }
        volumes.push(volume);
    }
    let content = Content::new(table.content)?;
    if table.merge == Merge::Additive && matches!(content, Content::Text(_)) {
        return Err("content: an additive one is a table".into());
    }
    let file = ComponentFile {
        component: table.component,
        flag: table.flag,
        name: table.name,
        content: String::new(),
        path: NodePath::new(HARDEN_DIR).map_err(|e| e.to_string())?,
        volumes,
        replaces: table.replaces,
        refuses: table.refuses,
        source: content,
        additive: table.merge == Merge::Additive,
    };
    written(file)
}

/// Gives the file the text and the path that follow from its source.
pub(super) fn written(mut file: ComponentFile) -> Result<ComponentFile, String> {
    if file.component == Component::KubeApiserver && file.flag == "audit-policy-file" {
        let policy = file.source.value().map_err(|e| format!("content: {e}"))?;
        audit_policy::check(&policy).map_err(|faults| faults.join("; "))?;
    }
    file.content = file.source.text();
    let hash = sha256(&file.content);
    let path = format!("{HARDEN_DIR}/{}-{}.yaml", file.name, &hash[..12]);
    file.path = NodePath::new(path).map_err(|e| format!("name: {e}"))?;
    Ok(file)
}

impl VolumeTable {
    fn read(self) -> Result<Volume, String> {
        check_label("volumes.name", &self.name)?;
        if !PATH_TYPES.contains(&self.path_type.as_str()) {
            return Err(format!(
                "volumes.path-type: {:?} is none of {}",
                self.path_type,
                PATH_TYPES.join(", ")
            ));
        }
        Ok(Volume {
            name: self.name,
            host_path: self.host_path,
            mount_path: self.mount_path,
            read_only: self.read_only,
            path_type: self.path_type,
        })
    }
}

/// Checks a name by the rule for volumes: a DNS label (core/v1 Volume.name).
fn check_label(field: &str, name: &str) -> Result<(), String> {
    let good = (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        Ok(())
    } else {
        Err(format!(
            "{field}: {name:?} is no name; it has at most 63 lower-case letters, digits and inner dashes"
        ))
    }
}
