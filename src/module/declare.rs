//! Reads what a module declares: its heading and its options.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::DeTable;

use super::check::{Spot, check};
use super::option::{DISTRIBUTIONS, Fields, Minors, OptionDecl, Per, Stricter, Type};
use super::option_type::{option_type, pattern};
use crate::profile::section::{Complaints, Node, Section, did_you_mean, kind, one_of, quoted};
use crate::resource::precondition::Precondition;
use crate::resource::{Risk, Scope};

/// The words for [`Scope`] in modules.
const SCOPES: &[(&str, Scope)] = &[
    ("control-plane", Scope::ControlPlane),
    ("workers", Scope::Workers),
    ("nodes", Scope::Nodes),
    ("api", Scope::Api),
];

/// The words for [`Risk`] in modules.
const RISKS: &[(&str, Risk)] = &[
    ("safe", Risk::Safe),
    ("reload", Risk::Reload),
    ("restart", Risk::Restart),
    ("guarded", Risk::Guarded),
    ("irreversible", Risk::Irreversible),
    ("manual", Risk::Manual),
];

/// The words for [`Per`] in modules.
const PER: &[(&str, Per)] = &[
    ("cluster", Per::Cluster),
    ("node", Per::Node),
    ("tenant", Per::Tenant),
];

/// The `[module]` table.
pub(super) struct Heading<'t> {
    pub(super) summary: String,
    pub(super) on: Scope,
    /// `for-each` of every resource that has none of its own.
    pub(super) for_each: Option<&'t Node<'t>>,
}

/// Reads `[module]`.
pub(super) fn heading<'t>(
    top: &mut Section<'t, 't>,
    out: &mut Complaints<'_>,
) -> Option<Heading<'t>> {
    let Some(table) = top.table("module", out) else {
        out.at(
            0..0,
            "`[module]` is missing",
            "needed in every module",
            "add `[module]` with `summary` and `on`",
        );
        return None;
    };
    let mut section = Section::new(table, "module");
    let summary = section.required("summary", 0..0, out);
    let on = scope(&mut section, out);
    if on.is_none() && !table.contains_key("on") {
        out.at(
            0..0,
            "`module.on` is missing",
            "needed in every module",
            "say where its resources belong, for example `on = \"control-plane\"`",
        );
    }
    let for_each = section.get("for-each");
    section.finish(out);
    Some(Heading {
        summary: summary?.to_owned(),
        on: on?,
        for_each,
    })
}

/// Reads `on`.
pub(super) fn scope(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Option<Scope> {
    section.choice("on", SCOPES, out)
}

/// Reads `risk`.
pub(super) fn risk(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Option<Risk> {
    section.choice("risk", RISKS, out)
}

/// Reads `requires`: names of preconditions.
pub(super) fn requires(
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> BTreeSet<Precondition> {
    let names = || Precondition::ALL.iter().map(|one| one.name());
    let mut all = BTreeSet::new();
    for (name, span) in section.strings("requires", out) {
        match Precondition::ALL.iter().find(|one| one.name() == name) {
            Some(known) => {
                all.insert(*known);
            }
            None => out.at(
                span,
                format!("there is no precondition {}", quoted(name)),
                did_you_mean(name, names()).unwrap_or_else(|| "unknown".into()),
                format!("use {}", one_of(names())),
            ),
        }
    }
    all
}

/// Reads `[options]`. An option of the module's own name is the whole section of a profile, as
/// `[tenants]` is, and then the only option.
pub(super) fn options(
    module: &str,
    top: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, OptionDecl> {
    let Some(table) = top.table("options", out) else {
        return BTreeMap::new();
    };
    let whole = table.contains_key(module);
    if whole && table.len() > 1 {
        out.at(
            table.keys().next().map_or(0..0, toml::Spanned::span),
            format!(
                "the option {} is the whole section and must be the only one",
                quoted(module)
            ),
            "one of several",
            "rename it, or move the others to another module",
        );
    }
    let prefix = if whole { "" } else { module };
    let fields = fields(prefix, table, None, out);
    fields
        .into_values()
        .map(|decl| (decl.name.clone(), decl))
        .collect()
}

/// Reads a table of declarations. Fields take risk, controls and uniformity from `parent`.
pub(super) fn fields(
    prefix: &str,
    table: &DeTable<'_>,
    parent: Option<&OptionDecl>,
    out: &mut Complaints<'_>,
) -> Fields {
    let mut fields = Fields::new();
    for (key, node) in table {
        let name = key.get_ref().as_ref();
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            out.at(
                key.span(),
                format!("{} is no name for an option", quoted(name)),
                "here",
                "use letters, digits and `-`, beginning with a small letter",
            );
            continue;
        }
        let full = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        };
        let Some(inner) = node.get_ref().as_table() else {
            out.at(
                node.span(),
                format!(
                    "{} must be a table, not {}",
                    quoted(&full),
                    kind(node.get_ref())
                ),
                "here",
                "declare it with `type`, `doc` and `risk`",
            );
            continue;
        };
        if let Some(decl) = declaration(full, inner, key.span(), parent, out) {
            fields.insert(name.to_owned(), decl);
        }
    }
    fields
}

/// Reads one option or field.
fn declaration(
    name: String,
    table: &DeTable<'_>,
    key: Range<usize>,
    parent: Option<&OptionDecl>,
    out: &mut Complaints<'_>,
) -> Option<OptionDecl> {
    let mut section = Section::new(table, &name);
    let doc = section.required("doc", key.clone(), out);
    let risk = risk(&mut section, out).or(parent.map(|p| p.risk));
    if risk.is_none() && !table.contains_key("risk") {
        out.at(
            key.clone(),
            format!("`{name}.risk` is missing"),
            "needed here",
            "say how dangerous a change is, for example `risk = \"restart\"`",
        );
    }
    let mut controls: Vec<String> = section
        .strings("controls", out)
        .into_iter()
        .map(|(c, _)| c.to_owned())
        .collect();
    if let (true, Some(parent)) = (controls.is_empty(), parent) {
        controls.clone_from(&parent.controls);
    }
    controls.sort();
    let uniform = section
        .boolean("uniform", out)
        .unwrap_or(parent.is_some_and(|p| p.uniform));
    let example = section.get("example");
    let per = section
        .choice("per", PER, out)
        .unwrap_or(parent.map_or(Per::Cluster, |p| p.per));
    if uniform && per == Per::Node {
        out.at(
            key.clone(),
            format!("{} cannot be uniform and differ per node", quoted(&name)),
            "here",
            "remove `uniform`, or `per = \"node\"`",
        );
    }
    let outer = parent.map(|p| p.kubernetes).unwrap_or_default();
    let kubernetes = Minors {
        since: minor("since", &mut section, out).or(outer.since),
        until: minor("until", &mut section, out).or(outer.until),
    };
    let distributions = distributions(parent, &mut section, out);
    let mut decl = OptionDecl {
        name,
        ty: Type::Object,
        doc: doc.unwrap_or_default().to_owned(),
        risk: risk.unwrap_or(Risk::Manual),
        controls,
        names: None,
        example: None,
        uniform,
        per,
        stricter: None,
        kubernetes,
        distributions,
    };
    let ty = option_type(&mut section, &decl, key.clone(), out);
    if let Some(Type::Attrs(_)) = ty {
        decl.names = pattern("names", &mut section, out)?;
    }
    let stricter = section.get("stricter");
    section.finish(out);
    decl.ty = ty?;
    decl.stricter = stricter.and_then(|node| order(&decl, node, out));
    if let Some(example) = example {
        let spot = Spot {
            path: format!("{}.example", decl.name),
            decl: &decl,
        };
        check(&decl.ty, example, key, &spot, out)?;
        decl.example = out.file.text.get(example.span()).map(str::to_owned);
    }
    Some(decl)
}

/// Reads a Kubernetes minor such as `"1.29"`.
fn minor(
    key: &'static str,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Option<u32> {
    let text = section.string(key, out)?;
    let minor = text.strip_prefix("1.").and_then(|text| text.parse().ok());
    if minor.is_none() {
        let span = section.get(key).map_or(0..0, toml::Spanned::span);
        out.at(
            span,
            format!("{} is no minor version of Kubernetes", quoted(text)),
            "here",
            "write for example \"1.29\"",
        );
    }
    minor
}

fn distributions(
    parent: Option<&OptionDecl>,
    section: &mut Section<'_, '_>,
    out: &mut Complaints<'_>,
) -> Vec<String> {
    let mut names = Vec::new();
    for (name, span) in section.strings("distributions", out) {
        if DISTRIBUTIONS.contains(&name) {
            names.push(name.to_owned());
            continue;
        }
        let label = did_you_mean(name, DISTRIBUTIONS.iter().copied());
        out.at(
            span,
            format!("there is no distribution {}", quoted(name)),
            label.unwrap_or_else(|| "unknown".into()),
            format!("use {}", one_of(DISTRIBUTIONS.iter().copied())),
        );
    }
    if names.is_empty() {
        return match parent {
            Some(parent) => parent.distributions.clone(),
            None => DISTRIBUTIONS.iter().map(ToString::to_string).collect(),
        };
    }
    names.sort();
    names.dedup();
    names
}

/// Reads `stricter`, whose words depend on the type.
fn order(decl: &OptionDecl, node: &Node<'_>, out: &mut Complaints<'_>) -> Option<Stricter> {
    let value = node.get_ref();
    let (words, found) = match &decl.ty {
        Type::Bool => ("true or false", value.as_bool().map(Stricter::Is)),
        Type::Int { .. } | Type::Duration { .. } | Type::Quantity => (
            "\"lower\" or \"higher\"",
            match value.as_str() {
                Some("lower") => Some(Stricter::Lower),
                Some("higher") => Some(Stricter::Higher),
                _ => None,
            },
        ),
        Type::Mode => (
            "\"lower\"",
            (value.as_str() == Some("lower")).then_some(Stricter::Lower),
        ),
        Type::Enum(_) => (
            "\"later\", and list the values from lax to strict",
            (value.as_str() == Some("later")).then_some(Stricter::Later),
        ),
        _ => ("nothing: values of this type have no order", None),
    };
    if found.is_none() {
        out.at(
            node.span(),
            format!("`{}.stricter` must be {words}", decl.name),
            format!("this is {}", kind(value)),
            "say which of two values wins when two imports disagree",
        );
    }
    found
}
