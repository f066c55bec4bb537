//! The sections of `harden.toml` that are no options, as `profile` reads them.

use serde_json::{Map, Value as Json, json};

use super::{list, option_name, said, section, table, text};
use crate::module::{Modules, Per};

/// A duration without milliseconds, as `[apply]` has it.
const TIME: &str = "^(?:[0-9]+[smh])+$";
/// A name or address that no program takes for an argument.
const WORD: &str = "^[^-\\s\\x00-\\x1f\\x7f-\\x9f][^\\s\\x00-\\x1f\\x7f-\\x9f]*$";
/// The name of a Node object.
const NODE_NAME: &str = "^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$";

/// Writes the sections of `harden.toml` that are no options.
pub(super) fn settings(modules: &Modules) -> Map<String, Json> {
    let string = || json!({"type": "string"});
    let mut host = reach();
    for (name, module) in modules.iter() {
        if let Some(section) = section(modules, name, |decl| decl.per == Per::Node) {
            host.insert(
                name.to_owned(),
                said(&format!("{}, of this node alone.", module.summary), section),
            );
        }
    }
    let mut nodes = reach();
    nodes.insert(
        "discover".into(),
        said(
            "Whether the nodes are those of the API; otherwise those below `host`.",
            json!({"type": "boolean"}),
        ),
    );
    nodes.insert(
        "host".into(),
        said(
            "What differs for one node: how it is reached, and values of its own.",
            json!({
                "type": "object",
                "propertyNames": {"pattern": NODE_NAME},
                "additionalProperties": table(host),
            }),
        ),
    );
    let mut nodes = table(nodes);
    nodes["if"] = json!({
        "required": ["discover"],
        "properties": {"discover": {"const": false}},
        "not": {"required": ["role"]},
    });
    nodes["then"] = json!({
        "properties": {"host": {"additionalProperties": {"required": ["role"]}}},
    });
    let mut cluster = table(Map::from_iter([
        (
            "name".to_owned(),
            said("For people, plans and records.", string()),
        ),
        (
            "distribution".to_owned(),
            said(
                "What made the cluster; kubeadm without it.",
                json!({"enum": crate::module::DISTRIBUTIONS}),
            ),
        ),
        (
            "kubeconfig".to_owned(),
            said("A kubeconfig file, relative to the workspace.", string()),
        ),
        (
            "context".to_owned(),
            said("A context of the kubeconfig.", string()),
        ),
    ]));
    cluster["required"] = json!(["name"]);
    let gate = "How long a gate may take before the node is put back, from 1s to 1h.";
    let allow = "Objects that may be deleted with all that they hold when they have left the profile: Namespace/old-team.";
    let apply = table(Map::from_iter([
        ("gate-timeout".to_owned(), said(gate, text(TIME))),
        ("allow-delete".to_owned(), said(allow, list(string()))),
    ]));
    let modules_doc = "Modules of the workspace: .toml files, or directories of them.";
    let sections: Vec<&str> = modules.iter().map(|(name, _)| name).collect();
    let accept = "Options whose guarded changes may be made; a name covers what is below it.";
    Map::from_iter([
        ("modules".to_owned(), said(modules_doc, list(string()))),
        (
            "accept".to_owned(),
            said(
                accept,
                list(json!({"anyOf": [option_name(modules), {"enum": sections}]})),
            ),
        ),
        (
            "cluster".to_owned(),
            said("Which cluster, and how its API is reached.", cluster),
        ),
        (
            "nodes".to_owned(),
            said("The nodes, and how they are reached.", nodes),
        ),
        (
            "apply".to_owned(),
            said("How patient apply is, and what it may delete.", apply),
        ),
    ])
}

/// Writes how nodes, or one of them, are reached.
fn reach() -> Map<String, Json> {
    let words = |words: &[&str]| json!({"enum": words});
    let string = json!({"type": "string"});
    [
        (
            "transport",
            "How a node is reached.",
            words(&["ssh", "docker", "local"]),
        ),
        (
            "address",
            "Name or address to connect to; the Node object's InternalIP without it.",
            text(WORD),
        ),
        (
            "port",
            "The SSH port; 22 without it.",
            json!({"type": "integer", "minimum": 1, "maximum": 65535}),
        ),
        (
            "user",
            "The SSH user; the local user's name without it.",
            text(WORD),
        ),
        (
            "become",
            "How the user becomes root.",
            words(&["sudo", "none"]),
        ),
        (
            "identity",
            "A private key file, relative to the workspace; the SSH agent's keys without it.",
            string.clone(),
        ),
        (
            "known-hosts",
            "A known_hosts file, relative to the workspace, with keys by the node's name.",
            string,
        ),
        (
            "engine",
            "The program behind transport `docker`.",
            words(&["docker", "podman", "nerdctl"]),
        ),
        (
            "role",
            "What a node is; needed with `discover = false`, and for one that is yet to join.",
            words(&["control-plane", "worker"]),
        ),
    ]
    .into_iter()
    .map(|(name, doc, schema)| (name.to_owned(), said(doc, schema)))
    .collect()
}
