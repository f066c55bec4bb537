//! The evaluated state of a workspace: values with their places, and what becomes of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use anstyle::Style;
use serde_json::{Value as Json, json};

use super::chain::{definitions, leaves};
use super::toml_text;
use crate::module::{Modules, Type};
use crate::profile::{Role, Source, Value, Values, Workspace};
use crate::resource::{Desired, Resource, Scope};

const HEADING: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// An evaluated workspace, as a whole or as one of its nodes sees it.
#[derive(Debug, Clone, Copy)]
pub struct State<'e> {
    /// What the options are.
    pub modules: &'e Modules,
    /// What they are set to.
    pub workspace: &'e Workspace,
    /// What becomes of them.
    pub desired: &'e Desired,
    /// The only node that is asked for.
    pub node: Option<&'e str>,
}

impl<'e> State<'e> {
    /// Returns the values that hold; a node without values of its own has those that all share.
    pub(super) fn values(&self) -> &'e Values {
        let own = self
            .node
            .and_then(|node| self.workspace.node_values.get(node));
        own.unwrap_or(&self.workspace.values)
    }

    /// Returns what was taken back, of the names that count.
    pub(super) fn unset(&self, counts: impl Fn(&str) -> bool) -> Vec<&'e (String, Source)> {
        let unset = self.values().unset.iter();
        unset.filter(|(name, _)| counts(name)).collect()
    }

    /// Returns whether the node carries the control plane, if the workspace says so.
    fn role(&self) -> Option<Role> {
        let nodes = &self.workspace.nodes;
        let host = self.node.and_then(|node| nodes.hosts.get(node));
        host.and_then(|host| host.role).or(nodes.defaults.role)
    }

    /// Returns the resources, or those that concern the node. Of a node whose role only the API
    /// knows, those of both roles.
    fn resources(&self) -> Vec<&'e Resource> {
        let concerns = |resource: &&Resource| {
            let Some(node) = self.node else { return true };
            let in_scope = match resource.scope {
                Scope::Nodes => true,
                Scope::ControlPlane => self.role() != Some(Role::Worker),
                Scope::Workers => self.role() != Some(Role::ControlPlane),
                Scope::Api => false,
            };
            in_scope
                && resource.only.as_ref().is_none_or(|only| only == node)
                && !resource.except.contains(node)
        };
        self.desired.resources.iter().filter(concerns).collect()
    }

    /// Writes it for people, like the TOML that would say the same, each value with its place.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let hash = self.desired.sha256();
        let cluster = toml_text::plain(&self.workspace.cluster.name);
        let node = self
            .node
            .map_or(String::new(), |node| format!(", node {node}"));
        let _ = writeln!(out, "{HEADING}# cluster {cluster}{node}{HEADING:#}");
        let mut sections = Sections::default();
        for (name, value) in self.values().iter() {
            sections.add(&[], name, value, self.is_attrs(name));
        }
        if self.node.is_none() {
            self.own_values(&mut sections);
        }
        sections.write(&mut out);
        for (name, place) in &self.values().unset {
            let (name, place) = (toml_text::plain(name), at(place));
            let _ = writeln!(
                out,
                "\n# {name} is taken back by `unset`  {DIM}# {place}{DIM:#}"
            );
        }
        let _ = writeln!(out, "\n{}", self.summary());
        if let (Some(node), None) = (self.node, self.role()) {
            let _ = writeln!(
                out,
                "Only the API knows whether {node} is a control-plane node; `role` in [nodes.host.{node}] would say so here."
            );
        }
        let _ = writeln!(out, "SHA-256 of the desired state: {hash}");
        out
    }

    /// Adds what nodes have otherwise than the others.
    fn own_values(&self, sections: &mut Sections) {
        for (node, values) in &self.workspace.node_values {
            let above = ["nodes", "host", node].map(str::to_owned);
            for (name, value) in values.iter() {
                let shared = self.workspace.values.get(name);
                if shared.map(Value::json) != Some(value.json()) {
                    sections.add(&above, name, value, self.is_attrs(name));
                }
            }
        }
    }

    fn is_attrs(&self, option: &str) -> bool {
        let decl = self.modules.option(option);
        decl.is_some_and(|decl| matches!(decl.ty, Type::Attrs(_)))
    }

    /// Counts the resources by scope.
    fn summary(&self) -> String {
        let resources = self.resources();
        let counted: Vec<String> = [
            (Scope::ControlPlane, "on control-plane nodes"),
            (Scope::Workers, "on workers"),
            (Scope::Nodes, "on every node"),
            (Scope::Api, "in the API"),
        ]
        .into_iter()
        .map(|(scope, place)| (resources.iter().filter(|r| r.scope == scope).count(), place))
        .filter(|(count, _)| *count > 0)
        .map(|(count, place)| format!("{count} {place}"))
        .collect();
        let what = match resources.len() {
            0 => return "No resources: nothing is managed.".into(),
            1 => "1 resource".to_owned(),
            n => format!("{n} resources"),
        };
        format!("{what}: {}", counted.join(", "))
    }

    /// Writes it for programs.
    pub fn json(&self) -> Json {
        let options = |values: &Values| -> Json {
            let entry = |(name, value): (&str, &Value)| {
                let body = json!({
                    "value": value.json(),
                    "definitions": definitions(name, value, &self.workspace.imports),
                });
                (name.to_owned(), body)
            };
            Json::Object(values.iter().map(entry).collect())
        };
        let resources: Vec<Json> = self.resources().into_iter().map(resource).collect();
        let mut json = json!({
            "schema": "harden.dev/eval/v1",
            "cluster": self.workspace.cluster.name,
            "sha256": self.desired.sha256(),
            "options": options(self.values()),
            "unset": unset_json(&self.unset(|_| true)),
            "accept": self.desired.accept,
            "resources": resources,
            "findings": self.desired.findings,
        });
        match self.node {
            Some(node) => json["node"] = node.into(),
            None => {
                let nodes = self.workspace.node_values.iter();
                json["nodes"] = nodes
                    .map(|(node, values)| (node.clone(), options(values)))
                    .collect();
            }
        }
        json
    }
}

/// A resource with the name that it has in plans.
fn resource(resource: &Resource) -> Json {
    let mut json = serde_json::to_value(resource).unwrap_or_default();
    json["name"] = resource.kind.behaviour().name().into();
    json
}

/// Writes what was taken back, and where, for programs.
pub(super) fn unset_json(unset: &[&(String, Source)]) -> Json {
    unset
        .iter()
        .map(|(name, place)| json!({"name": name, "file": place.file, "line": place.line()}))
        .collect()
}

/// Names a place as `file:line`.
pub(super) fn at(place: &Source) -> String {
    format!("{}:{}", toml_text::plain(&place.file), place.line())
}

/// The lines of the text by section: key, value and place.
#[derive(Default)]
struct Sections(BTreeMap<Vec<String>, Vec<(String, String, String)>>);

impl Sections {
    /// Adds the value of an option. Each entry of an attribute set has a section of its own.
    fn add(&mut self, above: &[String], option: &str, value: &Value, attrs: bool) {
        let option: Vec<String> = option.split('.').map(str::to_owned).collect();
        let depth = if attrs {
            option.len() + 1
        } else {
            option.len().saturating_sub(1).max(1)
        };
        for leaf in leaves(value) {
            let full: Vec<String> = [&option[..], &leaf.path].concat();
            let (section, key) = full.split_at(depth.min(full.len()));
            let section = [above, section].concat();
            let lines = self.0.entry(section).or_default();
            if !key.is_empty() {
                let mut places: Vec<String> = leaf
                    .value
                    .definitions
                    .iter()
                    .filter(|d| d.holds)
                    .map(|d| at(&d.place))
                    .collect();
                places.dedup();
                let value = toml_text::value(&leaf.value.json());
                lines.push((toml_text::dotted(key), value, places.join(", ")));
            }
        }
    }

    fn write(&self, out: &mut String) {
        for (section, lines) in &self.0 {
            let section = toml_text::dotted(section);
            let _ = writeln!(out, "\n{HEADING}[{section}]{HEADING:#}");
            let width = lines.iter().map(|(key, ..)| key.chars().count()).max();
            let width = width.unwrap_or_default();
            for (key, value, places) in lines {
                let _ = writeln!(out, "{key:width$} = {value}  {DIM}# {places}{DIM:#}");
            }
        }
    }
}
