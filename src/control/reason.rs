//! Why a resource is wanted: the controls that it serves, in words.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Catalogue;
use crate::module::{Check, Modules};
use crate::resource::{Desired, Resource, Subject};

/// Gives every resource the titles of the controls that it serves as its reason.
///
/// What an option is about can be the opposite of what a value does: a control whose check does not
/// pass where the resource is as it is wanted is none that it serves. Of several controls those are
/// told whose check passes, since a list of plugins can be about any of them. Where nothing can be
/// told, the reason stays what the option says of itself.
pub fn give_reasons(catalogue: &Catalogue, modules: &Modules, desired: &mut Desired) {
    let mut checks: BTreeMap<&Subject, Vec<&Check>> = BTreeMap::new();
    for check in modules.iter().flat_map(|(_, m)| &m.checks) {
        checks.entry(&check.subject).or_default().push(check);
    }
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
fn verdicts<'c>(
    resource: &Resource,
    checks: &BTreeMap<&Subject, Vec<&'c Check>>,
) -> BTreeMap<&'c str, bool> {
    let mut verdicts = BTreeMap::new();
    let mut ask = |subject: &Subject, seen: &[(&str, &Value)]| {
        let about = checks.get(subject).into_iter().flatten().copied();
        // What another control asks has no part in the reason.
        let about: Vec<&Check> = about
            .filter(|check| resource.controls.contains(&check.control))
            .collect();
        if about.is_empty() {
            return;
        }
        for (check, passes) in Check::ask(about, seen.iter().copied()) {
            // A check that cannot be told proves nothing, in either way.
            if let Ok(passes) = passes {
                *verdicts.entry(check.control.as_str()).or_insert(true) &= passes;
            }
        }
    };
    let kind = resource.kind.behaviour();
    // Of objects there are thousands, and a check sees each as it is.
    if let (Some(object), Some(reference)) = (kind.object(), kind.reference()) {
        ask(
            &Subject::Object(reference.kind.clone()),
            &[("object", object)],
        );
        return verdicts;
    }
    for (subject, seen) in kind.as_wanted() {
        let parts = seen.as_object().into_iter().flatten();
        let parts: Vec<_> = parts.map(|(name, value)| (name.as_str(), value)).collect();
        ask(&subject, &parts);
    }
    verdicts
}
