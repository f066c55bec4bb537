//! Several resources that contribute to one thing become one: parts
//! of a configuration file.

use std::collections::HashMap;

use super::{Origin, Resource, Scope};

/// Two contributions to one thing that cannot both be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The resource.
    pub name: String,
    /// What the two want differently.
    pub why: String,
    /// Where each comes from.
    pub origins: [Vec<Origin>; 2],
}

/// Makes one resource of those of one set of values that contribute to one thing on the same nodes, in their order, and
/// adds those that disagree to `disagreements`.
///
/// One that needs consent holds the others back until it has it: consent says what may be changed and
/// must not decide what is wanted, or taking it back would undo what was applied.
pub fn unite(resources: Vec<Resource>, disagreements: &mut Vec<Disagreement>) -> Vec<Resource> {
    let mut united: Vec<Resource> = Vec::new();
    let mut by_name: HashMap<(Scope, String), usize> = HashMap::new();
    for resource in resources {
        let name = resource.kind.behaviour().name();
        let key = (resource.scope, name);
        let Some(known) = by_name.get(&key).map(|at| &mut united[*at]) else {
            by_name.insert(key, united.len());
            united.push(resource);
            continue;
        };
        match known.kind.behaviour().unite(&resource.kind) {
            Some(Ok(kind)) => {
                known.kind = kind;
                add(known, resource);
            }
            Some(Err(why)) => disagreements.push(Disagreement {
                name: key.1,
                why,
                origins: [known.origins.clone(), resource.origins],
            }),
            None => united.push(resource),
        }
    }
    united
}

/// Adds everything but the kind.
fn add(known: &mut Resource, more: Resource) {
    let mut consent = known.parts_to_accept();
    for part in more.parts_to_accept() {
        if !consent.contains(&part) {
            consent.push(part);
        }
    }
    known.consent = consent;
    known.risk = known.risk.max(more.risk);
    known.uniform |= more.uniform;
    if !known.reason.split("; ").any(|one| one == more.reason) {
        known.reason = format!("{}; {}", known.reason, more.reason);
    }
    known.controls.extend(more.controls);
    known.controls.sort();
    known.controls.dedup();
    known.origins.extend(more.origins);
    known.origins.sort();
    known.origins.dedup();
}
