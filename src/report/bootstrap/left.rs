//! What a new cluster cannot be born with.

use std::collections::{BTreeMap, BTreeSet};

use crate::distribution::k3s::Layout;

/// What is left for later, by why.
#[derive(Debug, Default)]
pub(super) struct Left {
    objects: BTreeSet<String>,
    modes: BTreeSet<String>,
    /// Resources by node.
    nodes: BTreeMap<String, BTreeSet<String>>,
    /// What and why.
    no_place: BTreeSet<(String, String)>,
}

impl Left {
    /// An object of the API.
    pub(super) fn object(&mut self, reference: &str) {
        self.objects.insert(plain(reference));
    }

    /// Mode and owner of a file that is written by what makes the cluster.
    pub(super) fn mode(&mut self, path: &str) {
        self.modes.insert(plain(path));
    }

    /// A value of one node, whose name nothing here knows.
    pub(super) fn node(&mut self, node: &str, resource: &str) {
        let own = self.nodes.entry(plain(node)).or_default();
        own.insert(plain(resource));
    }

    /// A setting that has no place here.
    pub(super) fn no_place(&mut self, what: &str, why: &str) {
        self.no_place.insert((plain(what), why.to_owned()));
    }

    /// One line each, without marks.
    pub(super) fn lines(&self) -> Vec<String> {
        let objects = self.objects.iter().map(|name| format!("API: {name}"));
        let modes = self.modes.iter().map(|path| format!("mode of {path}"));
        let nodes = self.nodes.iter().flat_map(|(node, own)| {
            own.iter()
                .map(move |resource| format!("{node} only: {resource}"))
        });
        let no_place = self
            .no_place
            .iter()
            .map(|(what, why)| format!("{what}: {why}"));
        objects.chain(modes).chain(nodes).chain(no_place).collect()
    }

    /// The text of `after.md`. `layout` is that of k3s or RKE2, where plans know less.
    pub(super) fn text(&self, layout: Option<&Layout>) -> String {
        let mut text = "# After the cluster is there\n\n".to_owned();
        if self.lines().is_empty() {
            text.push_str("Nothing of the profile is left to do.\n");
            return text;
        }
        text.push_str(&match layout {
            None => "Run `harden plan` and `harden apply`.".to_owned(),
            Some(layout) => format!(
                "With `distribution = \"{}\"` in `[cluster]`, `harden plan` and `harden apply` do the objects of the \
                 API and what single servers have; the rest must be done by hand.",
                layout.distribution.name()
            ),
        });
        text.push_str(" The profile asks for this, and a new cluster cannot be born with it.\n");
        let mut chapter = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                text.push_str(&format!("\n## {title}\n\n{}", items.concat()));
            }
        };
        let each = |names: &BTreeSet<String>| -> Vec<String> {
            names.iter().map(|name| format!("- `{name}`\n")).collect()
        };
        chapter("Objects of the API", each(&self.objects));
        let modes = match layout {
            None => "Modes and owners of files, where they are wider than wanted".to_owned(),
            Some(layout) => format!(
                "Modes and owners of files that {} has elsewhere or not at all",
                layout.name
            ),
        };
        chapter(&modes, each(&self.modes));
        let of_nodes = self.nodes.iter().flat_map(|(node, own)| {
            own.iter()
                .map(move |resource| format!("- `{node}`: `{resource}`\n"))
        });
        chapter("Values of single nodes", of_nodes.collect());
        let no_place = self.no_place.iter();
        chapter(
            "Settings without a place here",
            no_place
                .map(|(what, why)| format!("- `{what}`: {why}\n"))
                .collect(),
        );
        text
    }
}

/// One line, without what would end the quotation in Markdown.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || c == '`' { '?' } else { c })
        .collect()
}
