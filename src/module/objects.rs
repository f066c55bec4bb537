//! Checks objects of the user's own in a profile, each with its place.

use std::collections::BTreeMap;

use serde_json::json;

use super::check::{Body, Checked, json as plain};
use crate::fact::ObjectRef;
use crate::profile::section::{Complaints, Node, quoted};
use crate::resource::object::Object;

/// Reads a list of objects, by their short names.
pub(super) fn check(
    items: &[Node<'_>],
    path: &str,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Checked> {
    let mut checked: BTreeMap<String, Checked> = BTreeMap::new();
    for item in items {
        let Some(manifest) = plain(item, path, out) else {
            continue;
        };
        // What a module's table is refused for is refused here, where its author wrote it.
        if let Err(why) = Object::from_table(json!({"manifest": manifest})) {
            let why = why
                .replacen("manifest.", "", 1)
                .replacen("manifest: ", "", 1);
            out.at(
                item.span(),
                format!("this is no object that harden can apply: {why}"),
                "this object",
                "write it as `kubectl get -o yaml` shows it, without what the server adds",
            );
            continue;
        }
        let Some(reference) = ObjectRef::of(&manifest) else {
            continue;
        };
        let name = reference.short_name();
        if let Some(first) = checked.get(&name) {
            let first = out.file.place(first.span.clone(), "").line();
            out.at(
                item.span(),
                format!("{} is here twice", quoted(&name)),
                format!("it stands at line {first} already"),
                "leave one of them, or give it another name",
            );
            continue;
        }
        checked.insert(
            name,
            Checked {
                span: item.span(),
                body: Body::Leaf(manifest),
                rank: None,
            },
        );
    }
    checked
}
