//! Reads the settings of `harden.toml`: everything in it that is no option.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::layer::{self, known_option};
use super::section::{Complaints, Section, kind, quoted};
use super::{
    ApplySettings, Become, ClusterSettings, HostSettings, NodesSettings, Role, TransportName,
};
use crate::distribution::Distribution;
use crate::module::Modules;
use crate::module::check::Checked;
use crate::module::scalar;

/// The sections of `harden.toml` that are no options.
pub(super) struct Settings {
    pub(super) cluster: ClusterSettings,
    pub(super) nodes: NodesSettings,
    pub(super) apply: ApplySettings,
    /// With places, since they are checked against the merged values.
    pub(super) accept: Vec<String>,
    /// By node and option.
    pub(super) node_values: BTreeMap<String, BTreeMap<String, Checked>>,
}

/// Reads the settings; `None` when there is no usable `[cluster]`.
pub(super) fn settings(
    table: &DeTable<'_>,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> Option<Settings> {
    let mut top = Section::new(table, "");
    let accept = top
        .strings("accept", out)
        .into_iter()
        .filter(|(name, span)| {
            // The name of a section covers all of its options.
            modules.has_section(name) || known_option("accept", name, span, modules, out)
        })
        .map(|(name, _)| name.to_owned())
        .collect();
    // They are read before everything else, since they say which options there are.
    top.strings("modules", out);
    let nodes = top.table("nodes", out).map_or_else(
        || NodesSettings {
            discover: true,
            defaults: HostSettings::default(),
            hosts: BTreeMap::new(),
        },
        |table| nodes(table, modules, out),
    );
    let node_values = top
        .table("nodes", out)
        .map(|table| node_values(table, modules, out))
        .unwrap_or_default();
    let apply = top
        .table("apply", out)
        .map(|table| apply(table, out))
        .unwrap_or_default();
    let cluster = match (table.contains_key("cluster"), top.table("cluster", out)) {
        (_, Some(inner)) => {
            let key = table.get_key_value("cluster");
            cluster(inner, key.map_or(0..0, |(key, _)| key.span()), out)
        }
        (true, None) => None,
        (false, None) => {
            out.at(
                0..0,
                "`cluster.name` is missing",
                "needed in harden.toml",
                "add `[cluster]` with `name = \"…\"`",
            );
            None
        }
    };
    Some(Settings {
        cluster: cluster?,
        nodes,
        apply,
        accept,
        node_values,
    })
}

/// Reads the option values that nodes have of their own, by node.
fn node_values(
    table: &DeTable<'_>,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, BTreeMap<String, Checked>> {
    let hosts = table.get("host").and_then(|node| node.get_ref().as_table());
    let mut values = BTreeMap::new();
    for (key, node) in hosts.into_iter().flatten() {
        if let Some(table) = node.get_ref().as_table() {
            let own = layer::node_values(table, modules, out);
            if !own.is_empty() {
                values.insert(key.get_ref().to_string(), own);
            }
        }
    }
    values
}

fn cluster(
    table: &DeTable<'_>,
    key: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<ClusterSettings> {
    let mut section = Section::new(table, "cluster");
    let name = section.required("name", key, out);
    let distributions = [Distribution::Kubeadm, Distribution::K3s, Distribution::Rke2];
    let distributions = distributions.map(|one| (one.name(), one));
    let distribution = section.choice("distribution", &distributions, out);
    let kubeconfig = section.string("kubeconfig", out).map(PathBuf::from);
    let context = section.string("context", out).map(str::to_owned);
    section.finish(out);
    Some(ClusterSettings {
        name: name?.to_owned(),
        distribution: distribution.unwrap_or_default(),
        kubeconfig,
        context,
    })
}

fn nodes(table: &DeTable<'_>, modules: &Modules, out: &mut Complaints<'_>) -> NodesSettings {
    let mut section = Section::new(table, "nodes");
    let discover = section.boolean("discover", out).unwrap_or(true);
    let hosts_table = section.table("host", out);
    let defaults = host(&mut section, out);
    section.finish(out);
    let mut hosts = BTreeMap::new();
    for (key, node) in hosts_table.into_iter().flatten() {
        let name = key.get_ref().as_ref();
        let Some(table) = node.get_ref().as_table() else {
            let found = kind(node.get_ref());
            out.at(
                node.span(),
                format!(
                    "{} must be a table, not {found}",
                    quoted(&format!("nodes.host.{name}"))
                ),
                "here",
                format!("write `[nodes.host.{name}]`"),
            );
            continue;
        };
        // It is looked up in known_hosts and may name a container.
        if !is_node_name(name) {
            out.at(
                key.span(),
                format!("{} is no name of a node", quoted(name)),
                "here",
                "use the Node object's name: small letters, digits, `-` and `.`",
            );
            continue;
        }
        let mut section = Section::new(table, &format!("nodes.host.{name}"));
        let settings = host(&mut section, out);
        section.finish_but(|name| modules.has_section(name), out);
        if !discover && settings.role.is_none() && defaults.role.is_none() {
            out.at(
                key.span(),
                format!("`nodes.host.{name}.role` is missing"),
                "needed with `discover = false`",
                "add `role = \"control-plane\"` or `role = \"worker\"`",
            );
        }
        hosts.insert(name.to_owned(), settings);
    }
    NodesSettings {
        discover,
        defaults,
        hosts,
    }
}

/// Whether a Node object can have this name.
pub fn is_node_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && bytes.iter().copied().all(inner)
        && edge(bytes.first())
        && edge(bytes.last())
}

fn host(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> HostSettings {
    let transports = [
        ("ssh", TransportName::Ssh),
        ("docker", TransportName::Docker),
        ("local", TransportName::Local),
    ];
    let engines = [
        ("docker", "docker"),
        ("podman", "podman"),
        ("nerdctl", "nerdctl"),
    ];
    HostSettings {
        transport: section.choice("transport", &transports, out),
        address: word("address", section, out),
        port: section
            .number("port", 1..=65535, out)
            .and_then(|port| u16::try_from(port).ok()),
        user: word("user", section, out),
        become_root: section.choice(
            "become",
            &[("sudo", Become::Sudo), ("none", Become::None)],
            out,
        ),
        identity: section.string("identity", out).map(PathBuf::from),
        known_hosts: section.string("known-hosts", out).map(PathBuf::from),
        engine: section.choice("engine", &engines, out).map(str::to_owned),
        role: section.choice(
            "role",
            &[
                ("control-plane", Role::ControlPlane),
                ("worker", Role::Worker),
            ],
            out,
        ),
    }
}

/// Reads a name or address, which must not look like an argument of a program.
fn word(
    key: &'static str,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Option<String> {
    let text = section.string(key, out)?;
    let bad = text.is_empty()
        || text.starts_with('-')
        || text.chars().any(|c| c.is_whitespace() || c.is_control());
    if bad {
        let span = section.get(key).map_or(0..0, toml::Spanned::span);
        out.at(
            span,
            format!("{} is no {key}", quoted(text)),
            "here",
            "write a name or address without blanks",
        );
        return None;
    }
    Some(text.to_owned())
}

fn apply(table: &DeTable<'_>, out: &mut Complaints<'_>) -> ApplySettings {
    let mut section = Section::new(table, "apply");
    let mut settings = ApplySettings::default();
    if let Some(text) = section.string("gate-timeout", out) {
        // A gate is timed in whole seconds, so milliseconds are no unit of it.
        match scalar::duration(text).filter(|_| !text.contains("ms")) {
            Some(time) if (1_000..=3_600_000).contains(&time) => {
                settings.gate_timeout = Duration::from_millis(time);
            }
            _ => {
                let span = section
                    .get("gate-timeout")
                    .map_or(0..0, toml::Spanned::span);
                out.at(
                    span,
                    "`apply.gate-timeout` must be a time from 1s to 1h",
                    "here",
                    "write for example \"90s\" or \"4m\"",
                );
            }
        }
    }
    for (name, span) in section.strings("allow-delete", out) {
        if is_short_name(name) {
            settings.allow_delete.insert(name.to_owned());
            continue;
        }
        out.at(
            span,
            format!("{} names no object", quoted(name)),
            "here",
            "write \"KIND/NAME\" or \"KIND/NAMESPACE/NAME\", for example \"Namespace/old-team\"",
        );
    }
    section.finish(out);
    settings
}

/// Whether a text can be what [`crate::fact::ObjectRef::short_name`] gives.
fn is_short_name(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let word = |part: &&str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
        !part.is_empty() && part.chars().all(known)
    };
    let is_kind = |part: &str| part.starts_with(|c: char| c.is_ascii_uppercase());
    matches!(parts.len(), 2 | 3) && parts.iter().all(word) && is_kind(parts[0])
}
