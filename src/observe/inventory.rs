//! The inventory: which nodes there are, and how each is reached.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::cluster::{Api, ApiError, FoundNode};
use crate::fact::NodeInfo;
use crate::host::ssh::SshConfig;
use crate::host::{self, Host, HostConfig, HostError, Transport};
use crate::profile::{Become, HostSettings, NodesSettings, Role, TransportName, Workspace};

/// How long connecting and logging in may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The nodes and the ways to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The nodes by name.
    pub nodes: BTreeMap<String, NodeInfo>,
    /// Nodes that the workspace declares with a role and that have not joined the cluster. Nothing
    /// but what prepares them for it is done to them.
    pub joining: BTreeMap<String, NodeInfo>,
    configs: BTreeMap<String, HostConfig>,
}

impl Inventory {
    /// Makes the host of a node; connects nothing yet.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn open(&self, node: &str) -> Result<Box<dyn Host>, HostError> {
        match self.configs.get(node) {
            Some(config) => Ok(host::open(config.clone())),
            None => Err(HostError::Unreachable {
                node: node.into(),
                address: "an unknown address".into(),
                why: "the inventory has no such node".into(),
                remedy: format!("`kubectl get nodes`, or add [nodes.host.{node}] to harden.toml"),
            }),
        }
    }

    /// Returns a node, whether it has joined or not.
    pub fn find(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).or_else(|| self.joining.get(name))
    }

    /// Returns the names of the control-plane nodes, sorted.
    pub fn control_planes(&self) -> Vec<String> {
        let nodes = self.nodes.values().filter(|n| n.control_plane);
        nodes.map(|n| n.name.clone()).collect()
    }
}

/// Why there is no inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// The API did not give its nodes.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The workspace names a node that the cluster does not have.
    #[error(
        "[nodes.host.{name}] in harden.toml: the cluster has no node {name:?}; it has {known}. One that is yet to \
         join needs role = \"control-plane\" or \"worker\""
    )]
    UnknownNode {
        /// The name in the workspace.
        name: String,
        /// The names in the cluster.
        known: String,
    },
    /// The workspace does not say enough of a node.
    #[error("[nodes.host.{name}] in harden.toml: {why}")]
    Incomplete {
        /// The node.
        name: String,
        /// What is missing.
        why: String,
    },
    /// There is no node at all.
    #[error(
        "there are no nodes: set `discover = true` under [nodes] or add [nodes.host.NAME] tables"
    )]
    Empty,
}

/// Finds the nodes in the API (with `discover`) and in the workspace, and the ways to them.
///
/// # Errors
/// See [`InventoryError`].
pub fn inventory(workspace: &Workspace, api: &dyn Api) -> Result<Inventory, InventoryError> {
    let settings = &workspace.nodes;
    let (found, joining) = if settings.discover {
        discovered(settings, api.nodes()?)?
    } else {
        (declared(settings.hosts.iter())?, Found::new())
    };
    reached(workspace, found, joining)
}

/// Finds the nodes in the workspace alone, for when the API does not answer: those with a role.
///
/// # Errors
/// See [`InventoryError`].
pub fn declared_inventory(workspace: &Workspace) -> Result<Inventory, InventoryError> {
    let hosts = workspace.nodes.hosts.iter();
    let found = declared(hosts.filter(|(_, host)| host.role.is_some()))?;
    reached(workspace, found, Found::new())
}

/// Finds the ways to nodes.
fn reached(
    workspace: &Workspace,
    found: Found,
    joining: Found,
) -> Result<Inventory, InventoryError> {
    let settings = &workspace.nodes;
    if found.is_empty() {
        return Err(InventoryError::Empty);
    }
    let mut inventory = Inventory {
        nodes: BTreeMap::new(),
        joining: BTreeMap::new(),
        configs: BTreeMap::new(),
    };
    let mut local = None;
    let all = found.into_iter().map(|(name, found)| (name, found, true));
    let all = all.chain(
        joining
            .into_iter()
            .map(|(name, found)| (name, found, false)),
    );
    for (name, found, is_member) in all {
        let config = host_config(&workspace.dir, settings, &name, &found)?;
        // Without an id nothing tells whether this machine is the node; two cannot both be it.
        if let Transport::Local {
            machine_id: None, ..
        } = config.transport
            && let Some(other) = local.replace(name.clone())
        {
            return Err(InventoryError::Incomplete {
                why: format!("this machine cannot be both {other} and {name}"),
                name,
            });
        }
        inventory.configs.insert(name.clone(), config);
        let nodes = match is_member {
            true => &mut inventory.nodes,
            false => &mut inventory.joining,
        };
        nodes.insert(name, found.info);
    }
    tracing::info!(
        "{} nodes, {} of them control planes; {} are yet to join",
        inventory.nodes.len(),
        inventory.control_planes().len(),
        inventory.joining.len()
    );
    for (name, config) in &inventory.configs {
        tracing::debug!("node {name}: {}", way(config));
    }
    Ok(inventory)
}

type Found = BTreeMap<String, FoundNode>;

/// Returns the nodes of the cluster as they were found, and those that are declared and not among
/// them. One without a role is taken for a misspelt name.
fn discovered(settings: &NodesSettings, found: Found) -> Result<(Found, Found), InventoryError> {
    let others = settings.hosts.iter();
    let others = others.filter(|(name, _)| !found.contains_key(*name));
    if let Some((name, _)) = others.clone().find(|(_, host)| host.role.is_none()) {
        let known: Vec<&str> = found.keys().map(String::as_str).collect();
        return Err(InventoryError::UnknownNode {
            name: name.clone(),
            known: known.join(", "),
        });
    }
    let joining = declared(others)?;
    Ok((found, joining))
}

fn declared<'s>(
    hosts: impl Iterator<Item = (&'s String, &'s HostSettings)>,
) -> Result<Found, InventoryError> {
    let role_of = |name: &String, host: &HostSettings| match host.role {
        Some(role) => Ok(role == Role::ControlPlane),
        None => Err(InventoryError::Incomplete {
            name: name.clone(),
            why: "with `discover = false` it needs role = \"control-plane\" or \"worker\"".into(),
        }),
    };
    hosts
        .map(|(name, host)| {
            let info = NodeInfo {
                name: name.clone(),
                control_plane: role_of(name, host)?,
            };
            let found = FoundNode {
                info,
                address: None,
                machine_id: None,
            };
            Ok((name.clone(), found))
        })
        .collect()
}

fn host_config(
    dir: &Path,
    settings: &NodesSettings,
    name: &str,
    found: &FoundNode,
) -> Result<HostConfig, InventoryError> {
    let empty = HostSettings::default();
    let own = settings.hosts.get(name).unwrap_or(&empty);
    let all = &settings.defaults;
    let sudo = own.become_root.or(all.become_root).unwrap_or(Become::Sudo) == Become::Sudo;
    let transport = match own
        .transport
        .or(all.transport)
        .unwrap_or(TransportName::Ssh)
    {
        TransportName::Local => Transport::Local {
            sudo,
            machine_id: found.machine_id.clone(),
        },
        TransportName::Docker => Transport::Docker {
            engine: either(&own.engine, &all.engine).unwrap_or_else(|| "docker".into()),
        },
        TransportName::Ssh => Transport::Ssh(SshConfig {
            address: either(&own.address, &found.address).ok_or_else(|| {
                InventoryError::Incomplete {
                    name: name.into(),
                    why: "it needs an address: no Node object reports an InternalIP".into(),
                }
            })?,
            port: own.port.or(all.port).unwrap_or(22),
            user: either(&own.user, &all.user).unwrap_or_else(local_user),
            sudo,
            identity: either(&own.identity, &all.identity).map(|path| dir.join(path)),
            known_hosts: match either(&own.known_hosts, &all.known_hosts) {
                Some(path) => vec![dir.join(path)],
                None => vec![dir.join("known_hosts")],
            },
        }),
    };
    Ok(HostConfig {
        name: name.into(),
        transport,
        connect_timeout: CONNECT_TIMEOUT,
    })
}

/// Says how a node is reached.
fn way(config: &HostConfig) -> String {
    match &config.transport {
        Transport::Local { .. } => "this machine".into(),
        Transport::Docker { engine } => format!("{engine} exec"),
        Transport::Ssh(ssh) => format!("ssh {}@{} port {}", ssh.user, ssh.address, ssh.port),
    }
}

fn either<T: Clone>(own: &Option<T>, other: &Option<T>) -> Option<T> {
    own.as_ref().or(other.as_ref()).cloned()
}

fn local_user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "root".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings(hosts: &[(&str, Option<Role>)]) -> NodesSettings {
        let host = |role| HostSettings {
            address: Some("10.0.0.9".into()),
            role,
            ..HostSettings::default()
        };
        NodesSettings {
            discover: true,
            defaults: HostSettings::default(),
            hosts: hosts
                .iter()
                .map(|(name, role)| ((*name).to_owned(), host(*role)))
                .collect(),
        }
    }

    fn cluster() -> Found {
        let hosts = settings(&[("cp1", Some(Role::ControlPlane))]).hosts;
        declared(hosts.iter()).unwrap()
    }

    #[test]
    fn a_node_with_a_role_that_the_cluster_does_not_have_is_yet_to_join() {
        let hosts = [
            ("cp1", None),
            ("cp2", Some(Role::ControlPlane)),
            ("w1", Some(Role::Worker)),
        ];
        let (found, joining) = discovered(&settings(&hosts), cluster()).unwrap();
        assert_eq!(found, cluster());
        let joining: Vec<(&str, bool)> = joining
            .values()
            .map(|node| (node.info.name.as_str(), node.info.control_plane))
            .collect();
        assert_eq!(joining, [("cp2", true), ("w1", false)]);
    }

    #[test]
    fn without_a_role_it_is_a_misspelt_name() {
        let error = discovered(&settings(&[("cp11", None)]), cluster()).unwrap_err();
        insta::assert_snapshot!(error, @r#"[nodes.host.cp11] in harden.toml: the cluster has no node "cp11"; it has cp1. One that is yet to join needs role = "control-plane" or "worker""#);
    }
}
