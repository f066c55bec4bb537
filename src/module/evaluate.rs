//! Makes the desired state of what the modules become.

use std::collections::{BTreeMap, BTreeSet};

use super::expand::expand;
use super::{Module, Modules};
use crate::profile::section::quoted;
use crate::profile::{Content, Diagnostic, Failure, Value, Workspace};
use crate::resource::{Desired, Kind, Origin, Resource, Scope};

/// Evaluates a workspace to the desired state, sorted by scope and name.
///
/// # Errors
/// Every resource that its kind refuses, every pair of resources that want the same thing, and
/// every value of which no resource comes.
pub fn evaluate(workspace: &Workspace, modules: &Modules) -> Result<Desired, Failure> {
    let mut faults = Vec::new();
    let mut heeded = BTreeSet::new();
    let mut resources: Vec<Resource> = Vec::new();
    for module in modules.modules.values() {
        let expanded = expand(module, modules, &workspace.values);
        faults.extend(expanded.faults);
        heeded.extend(expanded.heeded);
        for draft in expanded.drafts {
            match Kind::from_table(draft.table, draft.data) {
                Ok(kind) => resources.push(Resource {
                    kind,
                    scope: draft.scope,
                    risk: draft.risk,
                    uniform: draft.uniform,
                    reason: draft.reason,
                    controls: draft.controls,
                    origins: draft.origins,
                }),
                Err(why) => faults.push(refused(module, &draft.decl_span, &why, &draft.origins)),
            }
        }
    }
    resources.sort_by_cached_key(|r| (r.scope, r.kind.behaviour().name()));
    faults.extend(clashes(&resources));
    for (name, value) in workspace.values.iter() {
        idle(name, value, &heeded, &mut faults);
    }
    if !faults.is_empty() {
        return Err(Failure(faults));
    }
    Ok(Desired {
        cluster: workspace.cluster.name.clone(),
        accept: accepted(&workspace.accept, &resources),
        resources,
    })
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
    for definition in value.definitions.iter().filter(|d| d.holds) {
        let line = definition.place.line();
        let here = |o: &&Origin| o.file == definition.place.file && o.line == line;
        if heeded
            .iter()
            .filter(here)
            .any(|o| o.option.starts_with(name))
        {
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
    let mut all: BTreeSet<String> = accept.iter().cloned().collect();
    for origin in resources.iter().flat_map(|r| &r.origins) {
        let below = |name: &String| {
            let rest = origin.option.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        if accept.iter().any(below) {
            all.insert(origin.option.clone());
        }
    }
    all.into_iter().collect()
}

fn refused(
    module: &Module,
    span: &std::ops::Range<usize>,
    why: &str,
    origins: &[Origin],
) -> Diagnostic {
    let from: Vec<String> = origins.iter().map(Origin::to_string).collect();
    Diagnostic::new(format!("this resource cannot be made: {why}"))
        .at(module.file.place(span.clone(), "declared here"))
        .help(format!("check {}, or correct the module", from.join(", ")))
}

/// Finds resources that want the same thing on the same node.
fn clashes(resources: &[Resource]) -> Vec<Diagnostic> {
    let overlap = |a: Scope, b: Scope| match (a, b) {
        (Scope::Api, b) => b == Scope::Api,
        (a, Scope::Api) => a == Scope::Api,
        (a, b) => a == b || a == Scope::Nodes || b == Scope::Nodes,
    };
    let mut by_name: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    for resource in resources {
        by_name
            .entry(resource.kind.behaviour().name())
            .or_default()
            .push(resource);
    }
    let mut faults = Vec::new();
    for (name, same) in by_name {
        for (i, one) in same.iter().enumerate() {
            for other in same
                .iter()
                .skip(i + 1)
                .filter(|o| overlap(one.scope, o.scope))
            {
                let from = |r: &Resource| {
                    r.origins
                        .iter()
                        .map(Origin::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                faults.push(
                    Diagnostic::new(format!("{} is wanted twice", quoted(&name))).help(format!(
                        "set only one of these: {}; or {}",
                        from(one),
                        from(other)
                    )),
                );
            }
        }
    }
    faults
}
