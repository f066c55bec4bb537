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
use crate::distribution::{Component, ComponentEdit, Volume};
use crate::fact::{Facts, Process, Query};
pub(super) use look::only_process;
use look::{check_unit, plain, read_config, read_process};
use merge::{after, contradicts, edit, effective, removes, shown};

mod look;
mod merge;

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
        let running = merge::effective(wanted, running);
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
