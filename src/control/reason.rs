//! Why a resource is wanted: the controls that it serves, in words.

use std::collections::BTreeMap;

use super::Catalogue;
use crate::module::{Check, Modules};
use crate::resource::{Desired, Resource};

/// Gives every resource the titles of the controls that it serves as its reason.
///
/// What an option is about can be the opposite of what a value does: a control whose check does not
/// pass where the resource is as it is wanted is none that it serves. Of several controls those are
/// told whose check passes, since a list of plugins can be about any of them. Where nothing can be
/// told, the reason stays what the option says of itself.
pub fn give_reasons(catalogue: &Catalogue, modules: &Modules, desired: &mut Desired) {
    let checks: Vec<&Check> = modules.iter().flat_map(|(_, m)| &m.checks).collect();
    for resource in &mut desired.resources {
        let verdicts = verdicts(resource, &checks);
        resource
            .controls
            .retain(|name| verdicts.get(name.as_str()) != Some(&false));
        let is_only = resource.controls.len() == 1;
        let told = resource.controls.iter();
        let told = told.filter(|name| is_only || verdicts.contains_key(name.as_str()));
        let titles: Vec<&str> = told
            .filter_map(|name| Some(catalogue.control(name)?.title.as_str()))
            .collect();
        if !titles.is_empty() {
            resource.reason = titles.join("; ");
        }
    }
}

/// Says of each control with a check that sees something of the resource whether all of them pass.
fn verdicts<'c>(resource: &Resource, checks: &[&'c Check]) -> BTreeMap<&'c str, bool> {
    let mut verdicts = BTreeMap::new();
    for (subject, seen) in resource.kind.behaviour().as_wanted() {
        for check in checks.iter().filter(|check| check.subject == subject) {
            // A check that cannot be told proves nothing, in either way.
            if let Ok(passes) = check.passes(&seen) {
                *verdicts.entry(check.control.as_str()).or_insert(true) &= passes;
            }
        }
    }
    verdicts
}
