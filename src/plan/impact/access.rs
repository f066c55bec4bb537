//! People and accounts that lose rights: what a Role or a RoleBinding gave them and nothing else gives.
//!
//! Source: kubernetes v1.35 pkg/registry/rbac/validation/policy_comparator.go (`Covers`) and
//! plugin/pkg/auth/authorizer/rbac/rbac.go (`RuleAllows`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::enforcement::Namespace;
use super::workload::not_listed;
use super::{Effect, Found, HitKind};
use crate::fact::{ImpactFacts, ObjectList};

const LISTS: [ObjectList; 4] = [
    ObjectList::Roles,
    ObjectList::RoleBindings,
    ObjectList::ClusterRoles,
    ObjectList::ClusterRoleBindings,
];

/// How many resources a line of evidence names for one set of verbs.
const NAMED: usize = 6;

/// One right: API group, resource, verb, and the object's name where it is for that one only.
type Right<'v> = (&'v str, &'v str, &'v str, Option<&'v str>);

pub(super) fn concerns(namespace: &Namespace<'_>) -> bool {
    let takes_subjects = namespace.of("RoleBinding").any(|one| {
        let (before, after) = one.both("/subjects");
        let after = subjects(after);
        subjects(before).any(|subject| !after.clone().any(|other| same(subject, other)))
    });
    takes_subjects
        || namespace.of("Role").any(|one| {
            let (before, after) = one.both("/rules");
            rights(before).iter().any(|right| !covers(after, right))
        })
}

pub(super) fn lists(namespace: &Namespace<'_>) -> Vec<ObjectList> {
    match concerns(namespace) {
        true => LISTS.to_vec(),
        false => Vec::new(),
    }
}

pub(super) fn judge(namespace: &Namespace<'_>, facts: &ImpactFacts, found: &mut Found) {
    let kind = HitKind::Access;
    let mut lists: BTreeMap<ObjectList, &[Value]> = BTreeMap::new();
    for listing in LISTS {
        let within = match listing.listed().namespaced {
            true => namespace.name.as_str(),
            false => "",
        };
        match facts.of(listing, within) {
            Ok(objects) => drop(lists.insert(listing, objects)),
            Err(why) => {
                let why = format!(
                    "who has which rights, and keeps them by another binding: {}",
                    not_listed(listing, &why)
                );
                found.unknown(kind, &namespace.name, why);
            }
        }
    }
    let listed = |listing| lists.get(&listing).copied().unwrap_or_default();
    let world = World {
        roles_before: before(namespace, "Role", listed(ObjectList::Roles)),
        roles_after: namespace.after("Role", listed(ObjectList::Roles)),
        bindings_before: before(namespace, "RoleBinding", listed(ObjectList::RoleBindings)),
        bindings_after: namespace.after("RoleBinding", listed(ObjectList::RoleBindings)),
        cluster_roles: listed(ObjectList::ClusterRoles),
        cluster_bindings: listed(ObjectList::ClusterRoleBindings),
    };
    let caveat = match lists.len() == LISTS.len() {
        true => "",
        false => "; other bindings could not all be read",
    };
    // What a binding is named for is not said again of its role.
    let mut told: BTreeMap<String, BTreeSet<Right<'_>>> = BTreeMap::new();
    for planned in namespace.of("RoleBinding").chain(namespace.of("Role")) {
        let mut lost: BTreeMap<String, BTreeSet<Right<'_>>> = BTreeMap::new();
        for binding in &world.bindings_before {
            if !is_about(binding, &planned.reference) {
                continue;
            }
            let Some(rules) = world.rules(binding, true) else {
                let why = format!(
                    "what {} gives: its role is not known",
                    name_of(binding).unwrap_or("a binding")
                );
                found.unknown(kind, &namespace.name, why);
                continue;
            };
            for subject in subjects(&binding["subjects"]) {
                let kept = world.kept(subject);
                let gone = rights(rules)
                    .into_iter()
                    .filter(|right| !kept.iter().any(|rules| covers(rules, right)));
                lost.entry(shown(subject)).or_default().extend(gone);
            }
        }
        for (who, rights) in &mut lost {
            let told = told.entry(who.clone()).or_default();
            rights.retain(|right| told.insert(*right));
        }
        lost.retain(|_, rights| !rights.is_empty());
        let evidence: Vec<String> = lost
            .iter()
            .map(|(who, rights)| format!("{who}: {}", summary(rights)))
            .collect();
        let can_be_in_groups = lost.keys().any(|who| who.starts_with("User "));
        let groups = match can_be_in_groups {
            true => " (a group of theirs may still have them)",
            false => "",
        };
        found.hit(
            planned,
            (kind, Effect::LosesAccess),
            format!("subject(s) whose rights in the namespace shrink{groups}{caveat}"),
            lost.into_keys(),
            evidence,
        );
    }
}

/// Roles and bindings before and after.
struct World<'v> {
    roles_before: Vec<&'v Value>,
    roles_after: Vec<&'v Value>,
    bindings_before: Vec<&'v Value>,
    bindings_after: Vec<&'v Value>,
    cluster_roles: &'v [Value],
    cluster_bindings: &'v [Value],
}

impl<'v> World<'v> {
    /// The rules that a binding gives; `None` where its role is not known.
    fn rules(&self, binding: &Value, is_before: bool) -> Option<&'v Value> {
        let name = binding["roleRef"]["name"].as_str()?;
        let has_name = |role: &&&'v Value| name_of(role) == Some(name);
        if binding["roleRef"]["kind"] == "ClusterRole" {
            let mut all = self.cluster_roles.iter();
            return all
                .find(|role| name_of(role) == Some(name))
                .map(|role| &role["rules"]);
        }
        let roles = match is_before {
            true => &self.roles_before,
            false => &self.roles_after,
        };
        roles.iter().find(has_name).map(|role| &role["rules"])
    }

    /// The rules that somebody still has afterwards, by all bindings that are known.
    fn kept(&self, subject: &Value) -> Vec<&'v Value> {
        let inside = self.bindings_after.iter().copied();
        let is_held = |binding: &&Value| {
            subjects(&binding["subjects"])
                .any(|other| same(subject, other) || holds(other, subject))
        };
        let bindings = inside.chain(self.cluster_bindings).filter(is_held);
        bindings
            .filter_map(|binding| self.rules(binding, false))
            .collect()
    }
}

/// The objects of a kind as they are, those that change included even where they could not be listed.
fn before<'v>(namespace: &Namespace<'v>, kind: &str, listed: &'v [Value]) -> Vec<&'v Value> {
    let mut all: Vec<&'v Value> = namespace
        .of(kind)
        .filter_map(|one| one.before.as_ref())
        .collect();
    let known: BTreeSet<Option<&str>> = all.iter().map(|one| name_of(one)).collect();
    all.extend(listed.iter().filter(|one| !known.contains(&name_of(one))));
    all
}

fn name_of(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

/// Whether a binding is this one, or gives this role.
fn is_about(binding: &Value, reference: &crate::fact::ObjectRef) -> bool {
    match reference.kind.as_str() {
        "Role" => {
            binding["roleRef"]["kind"] == "Role" && binding["roleRef"]["name"] == *reference.name
        }
        _ => name_of(binding) == Some(&reference.name),
    }
}

fn subjects(list: &Value) -> impl Iterator<Item = &Value> + Clone {
    list.as_array().into_iter().flatten()
}

/// The name under which the authorizer knows a subject: a service account is a user too.
fn identity(subject: &Value) -> (bool, String) {
    let text = |field: &str| subject[field].as_str().unwrap_or_default();
    match text("kind") {
        "Group" => (true, text("name").to_owned()),
        "ServiceAccount" => (
            false,
            format!(
                "system:serviceaccount:{}:{}",
                text("namespace"),
                text("name")
            ),
        ),
        _ => (false, text("name").to_owned()),
    }
}

fn same(one: &Value, other: &Value) -> bool {
    identity(one) == identity(other)
}

/// Whether a group that Kubernetes itself fills holds a subject.
fn holds(group: &Value, subject: &Value) -> bool {
    let (true, group) = identity(group) else {
        return false;
    };
    let (_, name) = identity(subject);
    let account = name.strip_prefix("system:serviceaccount:");
    match (group.as_str(), account) {
        ("system:authenticated", _) => {
            name != "system:anonymous" && name != "system:unauthenticated"
        }
        ("system:serviceaccounts", account) => account.is_some(),
        (group, Some(account)) => group
            .strip_prefix("system:serviceaccounts:")
            .is_some_and(|of| {
                account
                    .split_once(':')
                    .is_some_and(|(namespace, _)| namespace == of)
            }),
        _ => false,
    }
}

fn shown(subject: &Value) -> String {
    let text = |field: &str| subject[field].as_str().unwrap_or_default();
    match text("kind") {
        "ServiceAccount" => format!("ServiceAccount {}/{}", text("namespace"), text("name")),
        kind => format!("{kind} {}", text("name")),
    }
}

fn texts<'v>(rule: &'v Value, field: &str) -> Vec<&'v str> {
    let list = rule[field].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// Lists every single right of some rules on resources.
fn rights(rules: &Value) -> BTreeSet<Right<'_>> {
    let mut all = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        let names: Vec<Option<&str>> = match texts(rule, "resourceNames") {
            none if none.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    all.extend(names.iter().map(|name| (group, resource, verb, *name)));
                }
            }
        }
    }
    all
}

/// Whether rules hold a right.
fn covers(rules: &Value, (group, resource, verb, name): &Right<'_>) -> bool {
    let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    rules.as_array().into_iter().flatten().any(|rule| {
        let has = |field: &str, word: &str| {
            texts(rule, field)
                .iter()
                .any(|one| *one == word || *one == "*")
        };
        let names = texts(rule, "resourceNames");
        has("apiGroups", group)
            && has("verbs", verb)
            && (has("resources", resource)
                || sub
                    .as_ref()
                    .is_some_and(|sub| texts(rule, "resources").contains(&sub.as_str())))
            && (names.is_empty() || name.is_some_and(|name| names.contains(&name)))
    })
}

/// `get, list of pods, services; create of pods/exec`.
fn summary(rights: &BTreeSet<Right<'_>>) -> String {
    let mut by_resource: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (group, resource, verb, name) in rights {
        let mut of = match *group {
            "" => (*resource).to_owned(),
            group => format!("{resource}.{group}"),
        };
        if let Some(name) = name {
            of.push_str(&format!(" {name}"));
        }
        by_resource.entry(of).or_default().insert(verb);
    }
    let mut by_verbs: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for (resource, verbs) in by_resource {
        by_verbs
            .entry(verbs.into_iter().collect())
            .or_default()
            .push(resource);
    }
    let parts = by_verbs.into_iter().map(|(verbs, mut resources)| {
        // Those that everybody knows stand first.
        resources.sort_by_key(|one| one.contains('.'));
        let more = resources.len().saturating_sub(NAMED);
        resources.truncate(NAMED);
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} of {}{more}", verbs.join(", "), resources.join(", "))
    });
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_hold_what_the_authorizer_says_they_hold() {
        let rule = |groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]| json!([{"apiGroups": groups, "resources": resources, "verbs": verbs, "resourceNames": names}]);
        let pods = rule(&[""], &["pods", "pods/log"], &["get", "list"], &[]);
        for (rules, right, held) in [
            (&pods, ("", "pods", "get", None), true),
            (&pods, ("", "pods", "get", Some("a")), true),
            (&pods, ("", "pods/log", "list", None), true),
            (&pods, ("", "pods/exec", "get", None), false),
            (&pods, ("apps", "pods", "get", None), false),
            (&pods, ("", "pods", "*", None), false),
            (
                &rule(&["*"], &["*"], &["*"], &[]),
                ("a", "pods/exec", "x", None),
                true,
            ),
            (
                &rule(&[""], &["*/scale"], &["get"], &[]),
                ("", "a/scale", "get", None),
                true,
            ),
            (
                &rule(&[""], &["*/scale"], &["get"], &[]),
                ("", "a/status", "get", None),
                false,
            ),
            (
                &rule(&[""], &["pods"], &["get"], &["a"]),
                ("", "pods", "get", None),
                false,
            ),
            (
                &rule(&[""], &["pods"], &["get"], &["a"]),
                ("", "pods", "get", Some("a")),
                true,
            ),
            (
                &rule(&[""], &["pods"], &["get"], &["a"]),
                ("", "pods", "get", Some("b")),
                false,
            ),
            (&Value::Null, ("", "pods", "get", None), false),
        ] {
            assert_eq!(covers(rules, &right), held, "{rules} {right:?}");
        }
    }

    #[test]
    fn kubernetes_own_groups_hold_whom_it_puts_there() {
        let group = |name: &str| json!({"kind": "Group", "name": name});
        let user = json!({"kind": "User", "name": "vera"});
        let account = json!({"kind": "ServiceAccount", "name": "ci", "namespace": "a"});
        let as_user = json!({"kind": "User", "name": "system:serviceaccount:a:ci"});
        assert!(same(&account, &as_user) && !same(&account, &user));
        assert!(!same(&group("vera"), &user));
        for (name, of_user, of_account) in [
            ("system:authenticated", true, true),
            ("system:serviceaccounts", false, true),
            ("system:serviceaccounts:a", false, true),
            ("system:serviceaccounts:b", false, false),
            ("team", false, false),
        ] {
            let held = (holds(&group(name), &user), holds(&group(name), &account));
            assert_eq!(held, (of_user, of_account), "{name}");
        }
        assert!(!holds(&user, &account));
    }

    #[test]
    fn rights_are_told_in_few_words() {
        let rules = json!([
            {"apiGroups": ["", "apps"], "resources": ["pods", "services"], "verbs": ["list", "get"]},
            {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        ]);
        assert_eq!(
            summary(&rights(&rules)),
            "create of pods/exec; get, list of pods, services, pods.apps, services.apps"
        );
    }
}
