//! Looks at encryption at rest: three questions to every control plane, each of which tells the next.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inventory, Wanted};
use crate::fact::encryption::EtcdPrefix;
use crate::fact::{ApiQuery, Fact, Facts, Node, Query};
use crate::resource::encryption::{Seen, seen};

/// Finds where the objects lie in etcd that the control planes' files name: Secrets where none names any.
/// `observe` looks at what it is given.
///
/// # Errors
/// When a place cannot be told.
pub fn encrypted_places(
    inventory: &Inventory,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
) -> Result<BTreeSet<EtcdPrefix>, String> {
    let also = BTreeSet::new();
    let mut facts = first(inventory, observe);
    files(&mut facts, &also, observe);
    let mut all = BTreeSet::new();
    for (name, place) in seen::places_of(&facts, &also) {
        all.extend(place.map_err(|why| format!("{name}: {why}"))?);
    }
    Ok(all)
}

/// Looks at every control plane. `observe` looks at what it is given.
pub fn encryption(
    inventory: &Inventory,
    also: &BTreeSet<String>,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
) -> Seen {
    let mut facts = first(inventory, observe);
    more_encryption(&mut facts, also, observe);
    Seen::of(&facts, &seen::places_of(&facts, also))
}

/// What [`more_encryption`] begins with.
fn first(inventory: &Inventory, observe: &mut dyn FnMut(&Wanted) -> Facts) -> Facts {
    let planes = inventory.control_planes();
    observe(&Wanted {
        nodes: planes
            .iter()
            .map(|name| (name.clone(), seen::first_queries()))
            .collect(),
        answers: planes
            .iter()
            .map(|name| ApiQuery::LoadedEncryption(name.clone()))
            .chain([ApiQuery::ControlPlanes])
            .collect(),
        ..Wanted::default()
    })
}

/// Adds to facts that hold [`seen::first_queries`] and what the API servers have loaded the rest: what the
/// files say, and how the objects are stored that they name, and those of `also`.
pub fn more_encryption(
    facts: &mut Facts,
    also: &BTreeSet<String>,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
) {
    files(facts, also, observe);
    let prefixes: Vec<Query> = seen::places_of(facts, also)
        .values()
        .flatten()
        .flatten()
        .cloned()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(Query::Stored)
        .collect();
    let stored = match prefixes.is_empty() {
        true => BTreeMap::new(),
        false => planes(facts)
            .into_iter()
            .map(|name| (name, prefixes.clone()))
            .collect(),
    };
    ask(facts, stored, observe);
}

/// The control planes that answered.
fn planes(facts: &Facts) -> Vec<String> {
    let is_known =
        |(_, node): &(&String, &Node)| node.info.control_plane && node.facts.value().is_some();
    let planes = facts.nodes.iter().filter(is_known);
    planes.map(|(name, _)| name.clone()).collect()
}

/// Adds what the files say, and what the API serves where one of their rules is for many resources.
fn files(facts: &mut Facts, also: &BTreeSet<String>, observe: &mut dyn FnMut(&Wanted) -> Facts) {
    let files = planes(facts)
        .into_iter()
        .filter_map(|name| {
            let query = seen::file_query(facts.nodes.get(&name)?)?;
            Some((name, vec![query]))
        })
        .collect();
    ask(facts, files, observe);
    // A name that nobody serves must not pass for a resource without objects.
    if seen::names_many(facts, also) || !also.is_empty() {
        let more = observe(&Wanted {
            answers: [ApiQuery::ServedResources].into(),
            ..Wanted::default()
        });
        facts.api.answers.extend(more.api.answers);
    }
}

/// Asks nodes for more, and adds what they say to the facts.
fn ask(
    facts: &mut Facts,
    nodes: BTreeMap<String, Vec<Query>>,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
) {
    if nodes.is_empty() {
        return;
    }
    let more = observe(&Wanted {
        nodes,
        ..Wanted::default()
    });
    for (name, node) in more.nodes {
        let Some(known) = facts.nodes.get_mut(&name) else {
            continue;
        };
        match (&mut known.facts, node.facts) {
            (Fact::Value(known), Fact::Value(more)) => known.extend(more),
            // It answered before and does not any more.
            (_, silent) => {
                known.facts = silent;
                known.remedy = node.remedy;
            }
        }
    }
}
