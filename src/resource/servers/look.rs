//! What was seen of a server: its configuration, its unit, and with RKE2 a component's process. An error is
//! what is wrong, and what to do.

use std::collections::BTreeMap;

use crate::distribution::Component;
use crate::distribution::k3s::{Layout, ServerConfig};
use crate::fact::{Answer, Fact, Node, Process, Query};

/// A value of a file as it can be shown in a message.
pub(super) fn plain(value: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    value.chars().map(clean).take(200).collect()
}

pub(super) fn read_config(
    layout: &'static Layout,
    node: &Node,
) -> Result<ServerConfig, (String, String)> {
    let path = layout.main_path();
    let empty = BTreeMap::new();
    let files = match node.get(&Query::Config(path)) {
        Fact::Value(Answer::Config(files)) => files,
        Fact::Absent => &empty,
        Fact::Value(_) => {
            return Err((
                "the probe answered something else for the configuration".into(),
                "plan again".into(),
            ));
        }
        Fact::Unreadable(why) => {
            return Err((
                format!("{} and its drop-ins could not be read: {why}", layout.main),
                "check that the login may read them as root, and plan again".into(),
            ));
        }
    };
    ServerConfig::read(layout, files)
        .map_err(|error| (error.to_string(), error.remedy().to_owned()))
}

/// Whether the unit is there and reads the configuration that is looked at.
pub(super) fn check_unit(layout: &Layout, node: &Node) -> Result<(), (String, String)> {
    let service = layout.service;
    let unit = match node.get(&Query::Unit(layout.unit())) {
        Fact::Value(Answer::Unit(unit)) => unit,
        Fact::Absent => {
            return Err((
                format!("there is no unit {service}.service"),
                format!(
                    "check that this node is a server of {}, and that [cluster] distribution is right",
                    layout.name
                ),
            ));
        }
        Fact::Value(_) => {
            return Err((
                format!("the probe answered something else for {service}.service"),
                "plan again".into(),
            ));
        }
        Fact::Unreadable(why) => {
            return Err((
                format!("the state of {service}.service could not be read: {why}"),
                "check that the login may ask systemctl as root, and plan again".into(),
            ));
        }
    };
    let other = unit.config.as_deref().filter(|path| *path != layout.main);
    let named = |option: &&String| matches!(option.as_str(), "--config" | "-c");
    if other.is_some() || unit.options.iter().any(|option| named(&option)) {
        let path = other.map(plain).unwrap_or_else(|| "another one".into());
        return Err((
            format!("{service}.service reads {path} instead of {}", layout.main),
            format!(
                "move the configuration to {} and take the option or variable away",
                layout.main
            ),
        ));
    }
    // Whether they replace or add to what is in files, documentation and source say differently
    // (docs.k3s.io/installation/configuration; k3s pkg/configfilearg/parser.go: `Parse`).
    let is_args = |option: &&String| option.ends_with("-arg") || option.ends_with("-extra-mount");
    if let Some(option) = unit.options.iter().find(is_args) {
        return Err((
            format!(
                "{service}.service is started with {}, beside which it is not known what files add",
                plain(option)
            ),
            format!(
                "move what it says from the unit's command line into {}, and plan again",
                layout.main
            ),
        ));
    }
    Ok(())
}

pub(super) fn read_process<'a>(
    layout: &Layout,
    component: Component,
    node: &'a Node,
) -> Result<&'a Process, (String, String)> {
    only_process(layout.service, component, node)
}

/// Returns the one process of a component on a node, that `service` of systemd starts; else what is wrong, and
/// the remedy.
pub(in crate::resource) fn only_process<'a>(
    service: &str,
    component: Component,
    node: &'a Node,
) -> Result<&'a Process, (String, String)> {
    match node.get(&Query::Process(component.program())) {
        Fact::Value(Answer::Process(running)) => match running.as_slice() {
            [process] => Ok(process),
            several => Err((
                format!("{} processes of {component} run", several.len()),
                "wait until the old one has ended, or end the stray one, and plan again".into(),
            )),
        },
        Fact::Value(_) => Err((
            format!("the probe answered something else for {component}"),
            "plan again".into(),
        )),
        Fact::Absent => Err((
            format!("{component} does not run"),
            format!(
                "it may be between two starts, up to 5 minutes apart: plan again; if it stays so, find \
                 out why: `crictl ps -a` and `journalctl -u {service}` on the node"
            ),
        )),
        Fact::Unreadable(why) => Err((
            format!("the command line of {component} could not be read: {why}"),
            "check that the login may read it as root, and plan again".into(),
        )),
    }
}
