//! What the ledger lists and the profile does not want.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::cluster::{Api, ApiError};
use crate::fact::ledger::{LedgerFacts, LeftFact};
use crate::fact::{Fact, ObjectRef};

/// How many objects are looked at at the same time.
const PARALLEL: usize = 8;

/// Which part of the ledger matters.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerWanted {
    /// The workspace whose entries count.
    pub workspace: String,
    /// What may be deleted with all that it holds.
    pub allow_delete: BTreeSet<String>,
    /// Look at these only, whatever the ledger lists.
    pub only: Option<BTreeSet<ObjectRef>>,
}

/// Reads the ledger, and looks at each of its objects that is not among the wanted ones.
pub(super) fn look(api: &dyn Api, about: &LedgerWanted, wanted: &[Arc<Value>]) -> LedgerFacts {
    let ledger = match api.ledger() {
        Ok(ledger) => ledger,
        Err(error) => {
            return LedgerFacts {
                ledger: Fact::Unreadable(error.to_string()),
                ..LedgerFacts::default()
            };
        }
    };
    if let Some(only) = &about.only {
        let only: Vec<ObjectRef> = only.iter().cloned().collect();
        return LedgerFacts {
            left: all(api, about, &only),
            ledger: Fact::Value(ledger),
            ..LedgerFacts::default()
        };
    }
    let wanted: Vec<ObjectRef> = wanted.iter().filter_map(|one| ObjectRef::of(one)).collect();
    let wanted: HashSet<_> = wanted.iter().map(ObjectRef::identity).collect();
    let left: Vec<ObjectRef> = ledger
        .entries
        .iter()
        .filter(|(reference, entry)| {
            entry.workspaces.contains(&about.workspace) && !wanted.contains(&reference.identity())
        })
        .map(|(reference, _)| reference.clone())
        .collect();
    let policies: BTreeMap<&str, &ObjectRef> = left
        .iter()
        .filter(|reference| reference.kind == "NetworkPolicy")
        .map(|reference| (reference.namespace.as_str(), reference))
        .collect();
    let policies = policies
        .into_iter()
        .map(|(namespace, one)| (namespace.to_owned(), fact(api.names_beside(one))))
        .collect();
    LedgerFacts {
        left: all(api, about, &left),
        policies,
        ledger: Fact::Value(ledger),
    }
}

fn all(api: &dyn Api, about: &LedgerWanted, left: &[ObjectRef]) -> BTreeMap<ObjectRef, LeftFact> {
    let queue = Mutex::new(left.iter());
    let found = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(left.len()) {
            scope.spawn(|| {
                while let Some(reference) = super::next(&queue) {
                    let seen = one(api, about, reference);
                    if let Ok(mut found) = found.lock() {
                        found.insert(reference.clone(), seen);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_default()
}

fn one(api: &dyn Api, about: &LedgerWanted, reference: &ObjectRef) -> LeftFact {
    let mut no_kind = false;
    let live = match api.get(reference) {
        Ok(Some(live)) => Fact::Value(live),
        Ok(None) => Fact::Absent,
        Err(error) => {
            no_kind = matches!(error, ApiError::NoKind { .. });
            Fact::Unreadable(error.to_string())
        }
    };
    let is_namespace = reference.identity().0.is_empty() && reference.kind == "Namespace";
    let is_allowed = about.allow_delete.contains(&reference.short_name());
    let contents = match live {
        Fact::Value(_) if is_namespace && is_allowed => fact(api.contents(&reference.name)),
        _ => Fact::Absent,
    };
    LeftFact {
        live,
        no_kind,
        contents,
    }
}

fn fact<T>(result: Result<T, ApiError>) -> Fact<T> {
    match result {
        Ok(value) => Fact::Value(value),
        Err(error) => Fact::Unreadable(error.to_string()),
    }
}
