//! Comparing the copies of a control-plane setting on servers of k3s and RKE2; what
//! [`flag`](super::flag) and [`component_file`](super::component_file) share.
//!
//! There is no ConfigMap here: each server has its own configuration, of which one drop-in is ours. What
//! other files give is the administrator's: it is read, so that what holds is known, and never
//! changed. RKE2 makes static pods of it, whose processes are compared as well. With k3s the components
//! run inside its own process, which hides its command line (k3s pkg/cli/server/server.go: `run`,
//! `SetProcTitle`), so there is no such copy.

use super::wanted::Wanted;
use super::{Difference, Draft, Effect, Place, Resource, SettingCopy};
use crate::distribution::k3s::{Given, Layout, ServerConfig};
use crate::distribution::kubeadm::argv;
use crate::distribution::list::{holds, items, same_item};
use crate::distribution::{Component, ComponentEdit, ListEdit, Volume};
use crate::fact::{Answer, Fact, Facts, Node, Process, Query};

/// The servers whose configuration could be read. What could not is in the draft already.
pub(super) struct Servers<'a> {
    layout: &'static Layout,
    resource: &'a Resource,
    component: Component,
    nodes: Vec<Server<'a>>,
}

struct Server<'a> {
    node: &'a str,
    config: ServerConfig,
    /// Of RKE2.
    process: Option<&'a Process>,
}

impl<'a> Servers<'a> {
    /// Lists what must be looked at on a server; `None` for etcd, which is not there with every
    /// datastore.
    pub(super) fn queries(layout: &'static Layout, component: Component) -> Option<Vec<Query>> {
        if component == Component::Etcd {
            return None;
        }
        let mut queries = vec![
            Query::Config(layout.main_path()),
            Query::Unit(layout.unit()),
        ];
        if layout.mounts {
            queries.push(Query::Process(component.program()));
        }
        Some(queries)
    }

    /// Reads the configurations, and adds an error to the draft for each that cannot be read or that is
    /// not the one in use.
    pub(super) fn read(
        layout: &'static Layout,
        resource: &'a Resource,
        component: Component,
        facts: &'a Facts,
        draft: &mut Draft,
    ) -> Self {
        let reached = resource.nodes(facts).filter(|n| n.facts.value().is_some());
        let nodes = reached.filter_map(|node| {
            let config = read_config(layout, node);
            let unit = check_unit(layout, node);
            let process = match layout.mounts {
                true => read_process(layout, component, node).map(Some),
                false => Ok(None),
            };
            let mut wrong = |problem: (String, String)| {
                let place = Place::Node(node.info.name.clone());
                draft.error(resource, place, problem.0, problem.1);
            };
            match (config, unit, process) {
                (Ok(config), Ok(()), Ok(process)) => Some(Server {
                    node: &node.info.name,
                    config,
                    process,
                }),
                (config, unit, process) => {
                    let all = [config.err(), unit.err(), process.err()];
                    all.into_iter().flatten().for_each(&mut wrong);
                    None
                }
            }
        });
        Servers {
            layout,
            resource,
            component,
            nodes: nodes.collect(),
        }
    }

    /// Leaves a node out of what is compared next.
    pub(super) fn without(mut self, node: &str) -> Self {
        self.nodes.retain(|server| server.node != node);
        self
    }

    /// Returns the servers that are given a flag, each with its values.
    pub(super) fn with_flag(&self, name: &str) -> Vec<(Place, SettingCopy, Vec<String>)> {
        let found = self.nodes.iter().map(|server| {
            let given = server.config.given(self.component, name).into_iter();
            let values = given.map(|one| one.value).collect::<Vec<_>>();
            let place = Place::Node(server.node.to_owned());
            (place, SettingCopy::ServerConfig, values)
        });
        found.filter(|(.., values)| !values.is_empty()).collect()
    }

    /// Compares a flag.
    pub(super) fn compare_flag(&self, name: &str, wanted: &Wanted, draft: &mut Draft) {
        let any_will_do = matches!(wanted, Wanted::Present(_));
        let has_one = |server: &&Server<'_>| {
            let given = server.config.given(self.component, name);
            match given.is_empty() {
                true => self.layout.names_file(self.component, name),
                false => given.iter().all(|one| !one.value.is_empty()),
            }
        };
        let mut lacking = self
            .nodes
            .iter()
            .filter(|s| !(any_will_do && has_one(s)))
            .peekable();
        if lacking.peek().is_none() {
            return;
        }
        let Some(wanted) = self.placed(wanted) else {
            draft.error(
                self.resource,
                Place::Api,
                format!(
                    "--{name} names a file of kubeadm's, which {} does not have",
                    self.layout.name
                ),
                "leave the option behind it unset, or name a file that is there",
            );
            return;
        };
        for server in lacking {
            self.compare_flag_of(server, name, &wanted, draft);
        }
    }

    fn compare_flag_of(&self, server: &Server<'_>, name: &str, wanted: &Wanted, draft: &mut Draft) {
        let place = || Place::Node(server.node.to_owned());
        let given = server.config.given(self.component, name);
        let values = server.config.values(self.component, name);
        let effective = effective(wanted, values.clone());
        if !wanted.satisfied(&effective) {
            let key = match self.layout.own_key(self.component, name) {
                Some(key) => key.to_owned(),
                None => Layout::args_key(self.component),
            };
            if let Some((message, remedy)) = self.hindrance(server, name, wanted, &given, &key) {
                draft.error(self.resource, place(), message, remedy);
                return;
            }
            let edit = edit(name, wanted, &given, &values);
            if removes(&edit) && given.is_empty() {
                self.given_by_itself(server, name, &effective, draft);
                return;
            }
            let after = after(&edit, &given);
            let found = Difference {
                place: place(),
                copy: Some(SettingCopy::ServerConfig),
                before: shown(&effective),
                after,
                restarts: Some(self.layout.service.to_owned()),
                ..Difference::default()
            };
            self.change(server, found, edit, draft);
            return;
        }
        let own = self.layout.names_file(self.component, name);
        if *wanted == Wanted::Absent && own {
            self.given_by_itself(server, name, &[], draft);
            return;
        }
        let Some(process) = server.process else {
            return;
        };
        let running = argv::values(&process.argv, name);
        let running = self::effective(wanted, running);
        if wanted.satisfied(&running) {
            return;
        }
        if *wanted == Wanted::Absent {
            // No restart would be the last.
            self.given_by_itself(server, name, &running, draft);
            return;
        }
        // The configuration is right and what runs was started before it, or by something else.
        let found = Difference {
            place: place(),
            copy: Some(SettingCopy::Process),
            before: shown(&running),
            after: shown(&effective),
            restarts: Some(self.layout.service.to_owned()),
            ..Difference::default()
        };
        let mark = format!("{}-{}", process.start, process.pid);
        self.change(server, found, ComponentEdit::Restart(mark), draft);
    }

    /// Compares that no file gives a flag. What the server gives by itself may go when another flag is there.
    pub(super) fn compare_replaced(&self, name: &str, draft: &mut Draft) {
        for server in &self.nodes {
            if !server.config.given(self.component, name).is_empty() {
                self.compare_flag_of(server, name, &Wanted::Absent, draft);
            }
        }
    }

    /// Says that a flag cannot be taken away.
    fn given_by_itself(
        &self,
        server: &Server<'_>,
        name: &str,
        values: &[String],
        draft: &mut Draft,
    ) {
        let value = match shown(values) {
            Some(value) => format!("={}", plain(&value)),
            None => String::new(),
        };
        let (component, layout) = (self.component, self.layout);
        draft.error(
            self.resource,
            Place::Node(server.node.to_owned()),
            format!(
                "{component} has --{name}{value} from {} itself, which cannot be told to leave it out",
                layout.name
            ),
            "leave the option behind it unset; if a file gave it until lately, restart the server and plan again",
        );
    }

    /// Says why what our drop-in adds would not bring what is wanted, and what to do.
    fn hindrance(
        &self,
        server: &Server<'_>,
        name: &str,
        wanted: &Wanted,
        given: &[Given],
        key: &str,
    ) -> Option<(String, String)> {
        let component = self.component;
        let others = || given.iter().filter(|one| !one.own);
        let take_out =
            |path: &str| format!("take --{name} of {component} out of {path}, and plan again");
        if let Some(other) = others().find(|one| contradicts(wanted, one)) {
            let (path, value) = (&other.path, plain(&other.value));
            let why = match other.later {
                true => "and comes after our drop-in",
                false => "and what is added later does not take that away",
            };
            return Some((
                format!("{path} gives {component} --{name}={value}, {why}"),
                take_out(path),
            ));
        }
        let adds = !matches!(wanted, Wanted::Absent);
        let dropped_by = server.config.dropped_by(key)?;
        adds.then(|| {
            (
                format!("{dropped_by} comes after our drop-in and has {key} without `+`, which drops what others say"),
                format!(
                    "write `{key}+` there, or move it into a file whose name sorts before {}",
                    self.layout.config_name()
                ),
            )
        })
    }

    /// Compares a volume that the component's pod must mount.
    pub(super) fn compare_volume(&self, volume: &Volume, draft: &mut Draft) {
        let entry = match self.layout.mount_entry(self.component, volume) {
            Ok(Some(entry)) => entry,
            Ok(None) => return,
            Err(why) => {
                let remedy = "name another path in the profile";
                draft.error(self.resource, Place::Api, why, remedy);
                return;
            }
        };
        for server in &self.nodes {
            let mounted = server.config.items(&entry.key);
            if mounted.iter().any(|given| given.value == entry.value) {
                continue;
            }
            let place = Place::Node(server.node.to_owned());
            let key = &entry.key;
            if let Some(path) = server.config.dropped_by(key) {
                draft.error(
                    self.resource,
                    place,
                    format!("{path} comes after our drop-in and has {key} without `+`, which drops what others say"),
                    format!("write `{key}+` there"),
                );
                continue;
            }
            let found = Difference {
                place,
                copy: Some(SettingCopy::ServerConfig),
                after: Some(entry.value.clone()),
                restarts: Some(self.layout.service.to_owned()),
                ..Difference::default()
            };
            let edit = ComponentEdit::SetVolume(volume.clone());
            self.change(server, found, edit, draft);
        }
    }

    /// Puts the paths of what is wanted where they are here; `None` for one of kubeadm's.
    fn placed(&self, wanted: &Wanted) -> Option<Wanted> {
        Some(match wanted {
            Wanted::Exact(value) => Wanted::Exact(self.layout.path(value)?),
            Wanted::Present(value) => Wanted::Present(self.layout.path(value)?),
            Wanted::List { .. } | Wanted::Absent => wanted.clone(),
        })
    }

    fn change(
        &self,
        server: &Server<'_>,
        found: Difference,
        edit: ComponentEdit,
        draft: &mut Draft,
    ) {
        let effect = Effect::ServerConfig {
            node: server.node.to_owned(),
            component: self.component,
            edit,
        };
        draft.change(self.resource, found, vec![effect]);
    }
}

/// Of a flag that is given several times, the values that count. Of switches and numbers it is the last
/// (github.com/spf13/pflag bool.go, int.go, duration.go: `Set`); anything else may be a list, of which
/// all count (string_slice.go: `Set`).
fn effective(wanted: &Wanted, mut values: Vec<String>) -> Vec<String> {
    if matches!(wanted, Wanted::List { .. }) && !values.is_empty() {
        return vec![values.join(",")];
    }
    let exact = matches!(wanted, Wanted::Exact(value) if is_single(value));
    if exact && values.iter().all(|value| is_single(value)) {
        values.drain(..values.len().saturating_sub(1));
    }
    values
}

/// Whether a value is a switch, a number, a time or an address, and so none of a list.
fn is_single(value: &str) -> bool {
    let number = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"hmsun.".contains(&b))
    };
    matches!(value, "true" | "false") || number(value)
}

/// Whether what another file gives is against what is wanted, whatever ours adds.
fn contradicts(wanted: &Wanted, other: &Given) -> bool {
    match wanted {
        Wanted::Absent => true,
        Wanted::Exact(value) => {
            let overruled = !other.later && is_single(value) && is_single(&other.value);
            *value != other.value && !overruled
        }
        Wanted::Present(_) => other.value.is_empty(),
        Wanted::List { with, without } => {
            let values = [other.value.clone()];
            let mut found = items(&values);
            found.any(|item| {
                let twin = |wanted: &String| wanted != item && same_item(wanted, item);
                holds(without, item) || with.iter().any(twin)
            })
        }
    }
}

/// What makes our drop-in bring what is wanted.
fn edit(name: &str, wanted: &Wanted, given: &[Given], values: &[String]) -> ComponentEdit {
    let name = name.to_owned();
    match wanted {
        Wanted::Absent => ComponentEdit::RemoveFlag { name },
        Wanted::Exact(value) | Wanted::Present(value) => ComponentEdit::SetFlag {
            name,
            value: value.clone(),
        },
        Wanted::List { with, without } => {
            let of = |own: bool| -> Vec<String> {
                let chosen = given.iter().filter(|one| one.own == own);
                chosen.map(|one| one.value.clone()).collect()
            };
            let (ours, others) = (of(true), of(false));
            // What nobody gives, the server may give by itself; that goes when ours is there.
            let own: Vec<String> = match given.is_empty() {
                true => items(values).map(str::to_owned).collect(),
                false => items(&ours).map(str::to_owned).collect(),
            };
            // What other files give, they go on giving.
            let theirs: Vec<&str> = items(&others).collect();
            let missing = with.iter().filter(|item| !theirs.contains(&item.as_str()));
            let list = ListEdit {
                all: own.clone(),
                own,
                with: missing.cloned().collect(),
                without: without.clone(),
            };
            ComponentEdit::EditList { name, list }
        }
    }
}

/// Whether our drop-in has no such flag afterwards.
fn removes(edit: &ComponentEdit) -> bool {
    matches!(edit.clone().settled(), ComponentEdit::RemoveFlag { .. })
}

/// What all files come to with the edit.
fn after(edit: &ComponentEdit, given: &[Given]) -> Option<String> {
    let ComponentEdit::SetFlag { value, .. } = edit.clone().settled() else {
        return None;
    };
    let ComponentEdit::EditList { .. } = edit else {
        return Some(value);
    };
    let others = given.iter().filter(|one| !one.own);
    let mut all: Vec<String> = others.map(|one| one.value.clone()).collect();
    all.push(value);
    Some(all.join(","))
}

fn shown(values: &[String]) -> Option<String> {
    let mut shown: Vec<&str> = values.iter().map(String::as_str).collect();
    shown.dedup();
    (!shown.is_empty()).then(|| shown.join(" and "))
}

/// A value of a file as it can be shown in a message.
fn plain(value: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    value.chars().map(clean).take(200).collect()
}

fn read_config(layout: &'static Layout, node: &Node) -> Result<ServerConfig, (String, String)> {
    let path = layout.main_path();
    let empty = std::collections::BTreeMap::new();
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
fn check_unit(layout: &Layout, node: &Node) -> Result<(), (String, String)> {
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

fn read_process<'a>(
    layout: &Layout,
    component: Component,
    node: &'a Node,
) -> Result<&'a Process, (String, String)> {
    let service = layout.service;
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
            format!("find out why: `crictl ps -a` and `journalctl -u {service}` on the node"),
        )),
        Fact::Unreadable(why) => Err((
            format!("the command line of {component} could not be read: {why}"),
            "check that the login may read it as root, and plan again".into(),
        )),
    }
}
