//! Objects by the thousand, in a few lines: the new ones of a kind, and the steps that make them.

use std::collections::BTreeMap;

use super::plan_text::risk;
use crate::plan::{ObjectAction, Step};
use crate::resource::{Change, Place};

/// More than this of one sort are counted and not listed.
const MANY: usize = 20;

/// How many of them are named.
const NAMED: usize = 3;

/// New objects of one kind and risk.
pub(super) struct Crowd<'c>(Vec<&'c Change>);

fn kind(change: &Change) -> Option<&str> {
    let is_new = change.place == Place::Api && change.before.is_none();
    let of_object = change.after.as_deref()?.strip_prefix("new ")? == change.resource;
    let (kind, _) = change.resource.split_once(' ')?;
    (is_new && of_object).then_some(kind)
}

/// Takes the crowds out of some changes; the rest stays in its order.
pub(super) fn take(changes: Vec<&Change>) -> (Vec<Crowd<'_>>, Vec<&Change>) {
    let mut sorts: BTreeMap<_, Vec<&Change>> = BTreeMap::new();
    for change in &changes {
        if let Some(kind) = kind(change) {
            sorts.entry((kind, change.risk)).or_default().push(change);
        }
    }
    sorts.retain(|_, changes| changes.len() > MANY);
    let belongs = |change: &&&Change| {
        kind(change).is_some_and(|kind| sorts.contains_key(&(kind, change.risk)))
    };
    let rest = changes.iter().filter(|change| !belongs(change));
    let rest = rest.copied().collect();
    (sorts.into_values().map(Crowd).collect(), rest)
}

impl Crowd<'_> {
    pub(super) fn text(&self) -> String {
        let first = self.0.first();
        let kind = first.and_then(|change| kind(change)).unwrap_or_default();
        let named = self.0.iter().take(NAMED);
        let names: Vec<&str> = named
            .filter_map(|change| change.resource.split_once(' '))
            .map(|(_, name)| name)
            .collect();
        let more = self.0.len() - names.len();
        let risk = first.map(|change| risk(change.risk)).unwrap_or_default();
        format!(
            "{} new of kind {kind}: {} and {more} more ({risk})",
            self.0.len(),
            names.join(", ")
        )
    }
}

/// How many steps from the first on apply objects, and how many of each kind; `None` for a few.
pub(super) fn objects(steps: &[Step]) -> Option<(usize, String)> {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = 0;
    for step in steps {
        match step {
            Step::Object(step) if matches!(step.action, ObjectAction::Apply(_)) => {
                *kinds.entry(&step.reference.kind).or_default() += 1;
                count += 1;
            }
            _ => break,
        }
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    (count > MANY).then(|| (count, kinds.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fact::ObjectRef;
    use crate::plan::ObjectStep;
    use crate::resource::Risk;

    fn change(name: &str, new: bool) -> Change {
        let resource = format!("Namespace {name}");
        Change {
            place: Place::Api,
            copy: None,
            before: (!new).then(|| resource.clone()),
            after: Some(format!("new {resource}")),
            diff: None,
            reason: String::new(),
            controls: Vec::new(),
            origins: Vec::new(),
            risk: Risk::Guarded,
            uniform: false,
            restarts: None,
            resource,
        }
    }

    #[test]
    fn many_new_ones_are_counted_and_a_few_or_changed_ones_are_not() {
        let new: Vec<Change> = (0..21).map(|n| change(&format!("n{n}"), true)).collect();
        let changed: Vec<Change> = (0..30).map(|n| change(&format!("c{n}"), false)).collect();
        let (crowds, rest) = take(new.iter().chain(&changed).collect());
        let texts: Vec<String> = crowds.iter().map(Crowd::text).collect();
        assert_eq!(
            texts,
            ["21 new of kind Namespace: n0, n1, n2 and 18 more (guarded)"]
        );
        assert_eq!(rest.len(), 30);
        let (crowds, rest) = take(new.iter().take(20).collect());
        assert!(crowds.is_empty());
        assert_eq!(rest.len(), 20);
    }

    #[test]
    fn steps_are_counted_by_kind_up_to_the_first_of_another_sort() {
        let step = |kind: &str, action| {
            Step::Object(ObjectStep {
                reference: ObjectRef {
                    api_version: "v1".into(),
                    kind: kind.into(),
                    namespace: String::new(),
                    name: "x".into(),
                },
                before: None,
                action,
                taken: Vec::new(),
                strays: Vec::new(),
            })
        };
        let mut steps: Vec<Step> = (0..20)
            .map(|_| step("Namespace", ObjectAction::Apply(json!({}))))
            .collect();
        assert_eq!(objects(&steps), None);
        steps.push(step("ResourceQuota", ObjectAction::Apply(json!({}))));
        steps.push(step("Namespace", ObjectAction::Delete));
        let expected = (21, "20 Namespace, 1 ResourceQuota".to_owned());
        assert_eq!(objects(&steps), Some(expected));
    }
}
