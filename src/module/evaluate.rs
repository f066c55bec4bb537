//! Makes the desired state of what the modules become.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::expand::expand;
use super::expression::Surroundings;
use super::{Module, Modules};
use super::{assertion, availability};
use crate::profile::section::quoted;
use crate::profile::{Content, Diagnostic, Failure, Value, Values, Workspace};
use crate::resource::{Desired, Disagreement, Finding, Kind, Origin, Resource, Scope, unite};

/// Evaluates a workspace to the desired state, sorted by scope and name.
///
/// # Errors
/// Every resource that its kind refuses, every pair of resources that want the same thing, and
/// every value of which no resource comes.
pub fn evaluate(workspace: &Workspace, modules: &Modules) -> Result<Desired, Failure> {
    let mut faults = Vec::new();
    let mut heeded = BTreeSet::new();
    let mut findings = BTreeSet::new();
    let mut make = |values, faults: &mut Vec<Diagnostic>| {
        let resources = make(modules, values, &mut heeded, &mut findings, faults);
        let mut disagreements = Vec::new();
        let united = unite(resources, &mut disagreements);
        faults.extend(disagreements.into_iter().map(disagreement));
        united
    };
    let mut resources = make(&workspace.values, &mut faults);
    for (node, values) in &workspace.node_values {
        let of_node = make(values, &mut faults);
        diverge(node, of_node, &mut resources);
    }
    findings.extend(crate::resource::reconcile(&mut resources));
    // A node repeats what is wrong with the values that it shares.
    let mut told = BTreeSet::new();
    faults.retain(|fault| told.insert(format!("{fault:#}")));
    findings.extend(stale_consent(&workspace.accept, &resources));
    resources.sort_by_cached_key(|r| (r.scope, r.kind.behaviour().name(), r.only.clone()));
    faults.extend(clashes(&resources));
    for values in [&workspace.values]
        .into_iter()
        .chain(workspace.node_values.values())
    {
        for (name, value) in values.iter() {
            idle(name, value, &heeded, &mut faults);
        }
    }
    faults.dedup();
    faults.extend(availability::elsewhere(workspace, modules));
    if !faults.is_empty() {
        return Err(Failure(faults));
    }
    Ok(Desired {
        cluster: workspace.cluster.name.clone(),
        distribution: workspace.cluster.distribution,
        accept: accepted(&workspace.accept, &resources),
        allow_delete: workspace.apply.allow_delete.clone(),
        resources,
        findings: findings.into_iter().collect(),
    })
}

/// Makes all resources of one set of values.
fn make(
    modules: &Modules,
    values: &Values,
    heeded: &mut BTreeSet<Origin>,
    findings: &mut BTreeSet<Finding>,
    faults: &mut Vec<Diagnostic>,
) -> Vec<Resource> {
    let options = assertion::options(values);
    let surroundings = Surroundings::with(&options);
    let mut resources = Vec::new();
    for module in modules.modules.values() {
        let expanded = expand(module, modules, values, &surroundings);
        faults.extend(expanded.faults);
        heeded.extend(expanded.heeded);
        findings.extend(expanded.findings);
        for draft in expanded.drafts {
            match Kind::from_table(draft.table, draft.data) {
                Ok(kind) => resources.push(Resource {
                    kind,
                    scope: draft.scope,
                    only: None,
                    except: BTreeSet::new(),
                    risk: draft.risk,
                    uniform: draft.uniform,
                    reason: draft.reason,
                    controls: draft.controls,
                    origins: draft.origins,
                    consent: Vec::new(),
                    requires: draft.requires,
                }),
                Err(why) => faults.push(refused(module, &draft.decl_span, &why, &draft.origins)),
            }
        }
    }
    resources
}

/// Adds what a node wants otherwise than the others, and excepts it from what they want.
fn diverge(node: &str, of_node: Vec<Resource>, resources: &mut Vec<Resource>) {
    let mut by_name: BTreeMap<(Scope, String), Vec<usize>> = BTreeMap::new();
    for (at, resource) in resources.iter().enumerate() {
        if resource.only.is_none() {
            let name = (resource.scope, resource.kind.behaviour().name());
            by_name.entry(name).or_default().push(at);
        }
    }
    for mut own in of_node.into_iter().filter(|r| r.scope != Scope::Api) {
        let name = (own.scope, own.kind.behaviour().name());
        let same = by_name.get(&name).map_or(&[][..], Vec::as_slice);
        if same.iter().any(|at| resources[*at].kind == own.kind) {
            continue;
        }
        for at in same {
            let shared = &mut resources[*at];
            // Of several that share a name it stands for the one of the same options.
            let is_beside =
                own.kind.behaviour().shares_with(&shared.kind) && options(&own) != options(shared);
            if !is_beside {
                shared.except.insert(node.to_owned());
            }
        }
        own.only = Some(node.to_owned());
        resources.push(own);
    }
}

/// The options that a resource was made of.
fn options(resource: &Resource) -> BTreeSet<&str> {
    let origins = resource.origins.iter();
    origins.map(|origin| origin.option.as_str()).collect()
}

/// Complains about every value that changes nothing, such as the quota of a tenant without
/// namespaces: whoever wrote it believes that it does something.
fn idle(name: &str, value: &Value, heeded: &BTreeSet<Origin>, faults: &mut Vec<Diagnostic>) {
    if let Content::Entries(entries) = &value.content {
        for (key, value) in entries {
            idle(&format!("{name}.{key}"), value, heeded, faults);
        }
        return;
    }
    // Those of one name, and of names that it begins, stand together.
    let first = Origin {
        option: name.to_owned(),
        file: String::new(),
        line: 0,
    };
    let of_name = || {
        let same = heeded.range(&first..);
        same.take_while(|o| o.option.starts_with(name))
            .filter(|o| is_below(&o.option, name))
    };
    for definition in value.definitions.iter().filter(|d| d.holds) {
        let line = definition.place.line();
        if of_name().any(|o| o.file == definition.place.file && o.line == line) {
            continue;
        }
        let mut place = definition.place.clone();
        place.label = "no resource comes of this".into();
        faults.push(
            Diagnostic::new(format!("{} has no effect", quoted(name)))
                .at(place)
                .help("set what it needs as well, or remove it"),
        );
    }
}

/// Returns what the profile accepts: what it names, and every value below. A value that stands
/// inside an option, such as `tenants.payments.quota`, is accepted with the option.
fn accepted(accept: &[String], resources: &[Resource]) -> Vec<String> {
    let named: BTreeSet<&str> = accept.iter().map(String::as_str).collect();
    let origins = resources.iter().flat_map(|r| &r.origins);
    let options: HashSet<&str> = origins.map(|origin| origin.option.as_str()).collect();
    let below = options.into_iter().filter(|option| {
        let mut above = option.match_indices('.').map(|(at, _)| &option[..at]);
        above.any(|name| named.contains(name))
    });
    let all: BTreeSet<&str> = named.iter().copied().chain(below).collect();
    all.into_iter().map(str::to_owned).collect()
}

/// Tells of consent that accepts nothing now, and one day too much.
fn stale_consent<'a>(
    accept: &'a [String],
    resources: &'a [Resource],
) -> impl Iterator<Item = Finding> + 'a {
    let options: BTreeSet<&str> = resources
        .iter()
        .flat_map(|resource| &resource.origins)
        .map(|origin| origin.option.as_str())
        .collect();
    let serves = move |name: &str| {
        let mut options = options.iter();
        options.any(|option| is_below(option, name) || is_below(name, option))
    };
    accept
        .iter()
        .filter(move |name| !serves(name))
        .map(|name| Finding {
            message: format!(
                "`accept` names {}, and the profile sets nothing of that name",
                quoted(name)
            ),
            help: "take the name out, so that it accepts nothing later".into(),
            control: None,
            origins: Vec::new(),
        })
}

/// Whether an option is the named one, or stands inside it.
fn is_below(option: &str, name: &str) -> bool {
    let rest = option.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn refused(
    module: &Module,
    span: &std::ops::Range<usize>,
    why: &str,
    origins: &[Origin],
) -> Diagnostic {
    let from = names(origins);
    Diagnostic::new(format!("this resource cannot be made: {why}"))
        .at(module.file.place(span.clone(), "declared here"))
        .help(format!("check {from}, or correct the module"))
}

fn disagreement(found: Disagreement) -> Diagnostic {
    let [one, other] = found.origins.map(|origins| names(&origins));
    let message = format!(
        "{} is wanted in two ways: {}",
        quoted(&found.name),
        found.why
    );
    Diagnostic::new(message).help(format!("set only one of these: {one}; or {other}"))
}

fn names(origins: &[Origin]) -> String {
    let names: Vec<String> = origins.iter().map(Origin::to_string).collect();
    names.join(", ")
}

/// Finds resources that want the same thing on the same node.
fn clashes(resources: &[Resource]) -> Vec<Diagnostic> {
    let meet = |a: Scope, b: Scope| match (a, b) {
        (Scope::Api, b) => b == Scope::Api,
        (a, Scope::Api) => a == Scope::Api,
        (a, b) => a == b || a == Scope::Nodes || b == Scope::Nodes,
    };
    let overlap = |a: &Resource, b: &Resource| {
        let apart = match (&a.only, &b.only) {
            (Some(one), Some(other)) => one != other,
            (Some(node), None) => b.except.contains(node),
            (None, Some(node)) => a.except.contains(node),
            (None, None) => false,
        };
        meet(a.scope, b.scope) && !apart && !a.kind.behaviour().shares_with(&b.kind)
    };
    let mut by_name: HashMap<String, Vec<&Resource>> = HashMap::new();
    for resource in resources {
        by_name
            .entry(resource.kind.behaviour().name())
            .or_default()
            .push(resource);
    }
    by_name.retain(|_, same| same.len() > 1);
    let by_name: BTreeMap<_, _> = by_name.into_iter().collect();
    let mut faults = Vec::new();
    for (name, same) in by_name {
        for (i, one) in same.iter().enumerate() {
            let rest = same.iter().skip(i + 1);
            for other in rest.filter(|other| overlap(one, other)) {
                let (one, other) = (names(&one.origins), names(&other.origins));
                faults.push(
                    Diagnostic::new(format!("{} is wanted twice", quoted(&name)))
                        .help(format!("set only one of these: {one}; or {other}")),
                );
            }
        }
    }
    faults
}
