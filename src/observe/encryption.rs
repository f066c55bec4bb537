//! Looks at encryption at rest: three questions to every control plane, each of which tells the next.

use std::collections::BTreeSet;

use super::{Inventory, Wanted};
use crate::fact::encryption::EtcdPrefix;
use crate::fact::{ApiQuery, Fact, Facts, Query};
use crate::resource::encryption::seen::Places;
use crate::resource::encryption::{Seen, seen};

/// Finds where the objects lie in etcd that the control planes' files name: Secrets where none names any.
/// For the arguments see [`encryption`].
///
/// # Errors
/// When a place cannot be told.
pub fn encrypted_places(
    inventory: &Inventory,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
    served: &dyn Fn() -> Result<BTreeSet<String>, String>,
) -> Result<BTreeSet<EtcdPrefix>, String> {
    let (_, places) = look(inventory, observe, served);
    let mut all = BTreeSet::new();
    for (name, place) in places {
        all.extend(place.map_err(|why| format!("{name}: {why}"))?);
    }
    Ok(all)
}

/// Looks at every control plane. `observe` looks at what it is given; `served` tells all resources of the
/// API as `RESOURCE.GROUP`, and is asked only where a file has a rule for many resources.
pub fn encryption(
    inventory: &Inventory,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
    served: &dyn Fn() -> Result<BTreeSet<String>, String>,
) -> Seen {
    let (mut facts, places) = look(inventory, observe, served);
    let prefixes: Vec<Query> = places
        .values()
        .flatten()
        .flatten()
        .cloned()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(Query::Stored)
        .collect();
    let stored = facts
        .nodes
        .iter()
        .filter(|(_, node)| node.facts.value().is_some() && !prefixes.is_empty())
        .map(|(name, _)| (name.clone(), prefixes.clone()))
        .collect();
    ask(&mut facts, stored, observe);
    Seen::of(&facts, &places)
}

/// Looks at the files, and finds where the objects lie that they name.
fn look(
    inventory: &Inventory,
    observe: &mut dyn FnMut(&Wanted) -> Facts,
    served: &dyn Fn() -> Result<BTreeSet<String>, String>,
) -> (Facts, Places) {
    let planes = inventory.control_planes();
    let mut facts = observe(&Wanted {
        nodes: planes
            .iter()
            .map(|name| (name.clone(), seen::first_queries()))
            .collect(),
        answers: planes
            .iter()
            .map(|name| ApiQuery::LoadedEncryption(name.clone()))
            .collect(),
        ..Wanted::default()
    });
    let files = facts
        .nodes
        .iter()
        .filter_map(|(name, node)| Some((name.clone(), vec![seen::file_query(node)?])))
        .collect();
    ask(&mut facts, files, observe);
    let named = seen::named(&facts);
    let served = match named.iter().any(|name| name.contains('*')) {
        true => served(),
        false => Ok(BTreeSet::new()),
    };
    let servers = facts.nodes.values().map(seen::server);
    let roots: BTreeSet<String> = servers
        .filter_map(|server| Some(server.value()?.root.clone()))
        .collect();
    let places = match roots.into_iter().collect::<Vec<_>>().as_slice() {
        [root] => seen::places(&named, root, &served),
        _ => {
            let why = "the API servers have different values of --etcd-prefix, or none runs";
            named
                .into_iter()
                .map(|name| (name, Err(why.to_owned())))
                .collect()
        }
    };
    (facts, places)
}

/// Asks nodes for more, and adds what they say to the facts.
fn ask(
    facts: &mut Facts,
    nodes: std::collections::BTreeMap<String, Vec<Query>>,
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
