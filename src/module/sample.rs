//! A few of the objects that a workspace wants, before all of them are made.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Modules;
use super::expand::first;
use crate::profile::{Values, Workspace};
use crate::resource::Kind;

/// Makes API objects of the first `most` entries of whatever each resource of a module is repeated for: enough to
/// tell of which kinds there will be many, in a small part of the time that [`evaluate`](super::evaluate) takes.
///
/// What is wrong with the workspace is not told here, and nothing but time may depend on the result.
pub fn sample(workspace: &Workspace, modules: &Modules, most: usize) -> Vec<Arc<Json>> {
    of_values(&workspace.values, modules, most)
}

pub(super) fn of_values(values: &Values, modules: &Modules, most: usize) -> Vec<Arc<Json>> {
    let all = modules.modules.values();
    let drafts = all.flat_map(|module| first(module, modules, values, most));
    drafts
        .filter_map(|draft| {
            let kind = Kind::from_table(draft.table, draft.data).ok()?;
            kind.behaviour().shared_object().cloned()
        })
        .collect()
}
