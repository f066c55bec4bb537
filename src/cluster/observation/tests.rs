#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;

use super::super::Api;
use super::super::fake::{Answer, Asked, serve};
use super::*;
use crate::fact::{FieldConflict, Untried};
use crate::plan::basis_of_object;

fn shared(wanted: &[Value]) -> Vec<Arc<Value>> {
    wanted.iter().cloned().map(Arc::new).collect()
}

fn quota(namespace: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": format!("n{namespace}")}, "spec": {"hard": {"pods": "1"}}})
}

/// As the server has it after an apply, without kind, as in a list.
fn applied(mut object: Value) -> Value {
    object["metadata"]["managedFields"] = json!([{"manager": "harden", "operation": "Apply", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:hard": {"f:pods": {}}}}}]);
    for field in ["kind", "apiVersion"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

fn page(items: Vec<Value>, next: &str) -> Answer {
    Answer::ok(
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": next}, "items": items}),
    )
}

fn observed(
    wanted: &[Value],
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (BTreeMap<ObjectRef, ObjectFact>, Vec<String>) {
    let (client, asked) = serve(Duration::ZERO, answer);
    let facts = client.objects(&shared(wanted));
    let asked = asked.lock().unwrap();
    let mut lines: Vec<String> = asked.iter().map(|one| one.line.clone()).collect();
    lines.sort();
    (facts, lines)
}

/// The one that all have in common.
#[track_caller]
fn all_are(facts: &BTreeMap<ObjectRef, ObjectFact>, would: &DryRun) {
    for (one, fact) in facts {
        assert_eq!(&fact.would, would, "{one}");
    }
}

#[track_caller]
fn all_are_same(facts: &BTreeMap<ObjectRef, ObjectFact>) {
    for (one, fact) in facts {
        assert!(
            matches!(fact.would, DryRun::Same { .. }),
            "{one}: {:?}",
            fact.would
        );
    }
}

#[test]
fn many_that_are_as_wanted_take_one_request_a_page_and_nothing_else() {
    let wanted: Vec<Value> = (0..30).map(quota).collect();
    let (facts, asked) = observed(&wanted, |asked| {
        // Somebody else's are among them.
        let items = (0..60).map(quota).map(applied);
        match asked.line.contains("continue=next") {
            false => page(items.take(20).collect(), "next"),
            true => page(items.skip(20).collect(), ""),
        }
    });
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].starts_with("GET /api/v1/resourcequotas?"),
        "{asked:?}"
    );
    assert_eq!(facts.len(), 30);
    all_are_same(&facts);
    let live = facts.values().next().unwrap().live.value().unwrap();
    assert_eq!(live["kind"], "ResourceQuota");
    assert_eq!(live["metadata"].get("managedFields"), None);
    assert_eq!(live.get("spec"), None);
    // A plan rests on the same as if the object were there whole.
    let wanted = shared(&wanted);
    let whole = ObjectFact {
        live: Fact::Value(quota(0)),
        would: DryRun::NotAsked,
    };
    let kept = &facts[&ObjectRef::of(&quota(0)).unwrap()];
    assert_eq!(
        basis_of_object(&wanted[0], kept),
        basis_of_object(&wanted[0], &whole)
    );
}

/// Looks at 30 quotas whose list was begun with objects like these, on a server that answers so.
fn begun_with(
    like: &[Value],
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (BTreeMap<ObjectRef, ObjectFact>, Vec<String>) {
    let (client, asked) = serve(Duration::ZERO, answer);
    client.begin_lists(&shared(like));
    let wanted: Vec<Value> = (0..30).map(quota).collect();
    let facts = client.objects(&shared(&wanted));
    // What was begun is looked at once.
    assert!(client.take_begun().take("/api/v1/resourcequotas").is_none());
    let asked = asked.lock().unwrap();
    (facts, asked.iter().map(|one| one.line.clone()).collect())
}

/// Two pages of quotas, one of which has another value; and what a dry run says of it.
fn two_pages(asked: &Asked) -> Answer {
    if asked.line.starts_with("PATCH") {
        return Answer::ok(asked.body.clone());
    }
    if !asked.line.starts_with("GET /api/v1/resourcequotas?") {
        return page(Vec::new(), "");
    }
    let mut items: Vec<Value> = (0..25).map(quota).map(applied).collect();
    items[7]["spec"]["hard"]["pods"] = "2".into();
    match asked.line.contains("continue=next") {
        false => page(items[..20].to_vec(), "next"),
        true => page(items[20..].to_vec(), ""),
    }
}

#[test]
fn what_was_begun_early_says_what_would_have_been_asked_for_and_is_not_asked_for_again() {
    let (plain, _) = observed(&(0..30).map(quota).collect::<Vec<_>>(), two_pages);
    let like: Vec<Value> = (0..=SINGLY).map(quota).collect();
    let (facts, asked) = begun_with(&like, two_pages);
    assert_eq!(facts, plain);
    let is_list = |line: &&String| line.starts_with("GET");
    assert_eq!(asked.iter().filter(is_list).count(), 2, "{asked:?}");
}

#[test]
fn a_wrong_guess_changes_nothing_but_time() {
    let (plain, _) = observed(&(0..30).map(quota).collect::<Vec<_>>(), two_pages);
    let other_kind = |number| {
        let mut one = quota(number);
        one["kind"] = "LimitRange".into();
        one
    };
    let one_namespace = |number: usize| {
        let mut one = quota(1);
        one["metadata"]["name"] = format!("q{number}").into();
        one
    };
    for like in [
        Vec::new(),
        (0..3).map(quota).collect(),
        (0..40).map(other_kind).collect(),
        (0..40).map(one_namespace).collect(),
    ] {
        let (facts, _) = begun_with(&like, two_pages);
        assert_eq!(facts, plain, "{like:?}");
    }
}

#[test]
fn a_list_that_was_begun_and_broke_off_is_asked_for_again() {
    let (plain, _) = observed(&(0..30).map(quota).collect::<Vec<_>>(), two_pages);
    let like: Vec<Value> = (0..40).map(quota).collect();
    // The first page, the second page, or a page that is none.
    for (at, status) in [(0, 403), (1, 410), (1, 500), (1, 200)] {
        let lists = std::sync::atomic::AtomicUsize::new(0);
        let (facts, _) = begun_with(&like, move |asked| {
            let is_list = asked.line.starts_with("GET");
            if is_list && lists.fetch_add(1, Ordering::SeqCst) == at {
                return match status {
                    200 => {
                        Answer::ok(json!({"metadata": {}, "items": [{}, 1, "x"], "x": []})).cut()
                    }
                    status => Answer::refused(status, "no", json!({})),
                };
            }
            two_pages(asked)
        });
        assert_eq!(facts, plain, "page {at} answered with {status}");
    }
}

#[test]
fn a_few_are_asked_for_one_by_one_and_many_of_one_namespace_are_listed_there() {
    let (facts, asked) = observed(&[quota(1)], |_| Answer::ok(applied(quota(1))));
    assert_eq!(asked, ["GET /api/v1/namespaces/n1/resourcequotas/q"]);
    all_are_same(&facts);
    let wanted: Vec<Value> = (0..30)
        .map(|number| {
            let mut one = quota(1);
            one["metadata"]["name"] = format!("q{number}").into();
            one
        })
        .collect();
    let items: Vec<Value> = wanted.iter().cloned().map(applied).collect();
    let (_, asked) = observed(&wanted, move |_| page(items.clone(), ""));
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("GET /api/v1/namespaces/n1/resourcequotas?"));
}

#[test]
fn only_what_is_not_proved_is_tried() {
    let wanted: Vec<Value> = (0..30).map(quota).collect();
    let (facts, asked) = observed(&wanted, |asked| {
        if asked.line.starts_with("PATCH") {
            return Answer::ok(asked.body.clone());
        }
        let mut items: Vec<Value> = (0..30).map(quota).map(applied).collect();
        items[7]["spec"]["hard"]["pods"] = "2".into();
        items.remove(3);
        page(items, "")
    });
    let tried: Vec<&String> = asked
        .iter()
        .filter(|line| line.starts_with("PATCH"))
        .collect();
    assert_eq!(
        tried,
        ["n3", "n7"].map(|name| format!(
            "PATCH /api/v1/namespaces/{name}/resourcequotas/q?&dryRun=All&fieldManager=harden&fieldValidation=Strict"
        )).iter().collect::<Vec<_>>()
    );
    let fact = |number| &facts[&ObjectRef::of(&quota(number)).unwrap()];
    assert_eq!(fact(3).live, Fact::Absent);
    assert_eq!(fact(3).would, DryRun::Object(quota(3)));
    assert_eq!(fact(7).would, DryRun::Object(quota(7)));
    assert!(matches!(fact(8).would, DryRun::Same { .. }));
}

#[test]
fn nothing_is_tried_in_a_namespace_that_is_wanted_and_not_there() {
    let namespace = |number: usize| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("n{number}")}});
    let wanted: Vec<Value> = (0..30).map(quota).chain((0..30).map(namespace)).collect();
    let (facts, asked) = observed(&wanted, |asked| match asked.line.starts_with("PATCH") {
        true => Answer::ok(asked.body.clone()),
        false => page(Vec::new(), ""),
    });
    // The quotas all say the same, so that one answer is enough.
    assert_eq!(asked.len(), 2 + 30 + 1, "{asked:?}");
    let quotas: Vec<&String> = asked
        .iter()
        .filter(|a| a.contains("PATCH") && a.contains("quotas"))
        .collect();
    assert!(
        quotas[0].starts_with("PATCH /api/v1/namespaces/default/resourcequotas/harden-dry-run-")
            && quotas[0].contains("dryRun=All"),
        "{quotas:?}"
    );
    assert_eq!(
        facts[&ObjectRef::of(&quota(1)).unwrap()].would,
        DryRun::NotAsked
    );
    assert_eq!(
        facts[&ObjectRef::of(&namespace(1)).unwrap()].would,
        DryRun::Object(namespace(1))
    );
}

#[test]
fn what_an_object_says_is_asked_where_its_namespace_is_yet_to_be_made() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n1"}});
    let mut wrong = quota(1);
    wrong["spec"] = json!({"hrad": {}});
    let wrong = |name: &str| {
        let mut wrong = wrong.clone();
        wrong["metadata"]["name"] = name.into();
        wrong
    };
    let mut refused = quota(1);
    refused["metadata"]["labels"] = json!({"a": "b"});
    let wanted = [namespace, wrong("a"), wrong("b"), refused.clone()];
    let (facts, _) = observed(&wanted, |asked| {
        let name = asked.body["metadata"]["name"].as_str().unwrap_or_default();
        if asked.line.starts_with("GET") {
            let details = json!({"reason": "NotFound", "details": {"name": "x"}});
            return Answer::refused(404, "not found", details);
        }
        if asked.body["spec"].get("hrad").is_some() {
            let why = format!(
                "failed to create typed patch object (default/{name}; /v1, Kind=ResourceQuota): .spec.hrad: field not declared in schema"
            );
            return Answer::refused(500, &why, json!({}));
        }
        if asked.line.contains("/default/") {
            let why = "exceeded quota: of another namespace";
            return Answer::refused(403, why, json!({"reason": "Forbidden"}));
        }
        Answer::ok(asked.body.clone())
    });
    for name in ["a", "b"] {
        let fact = &facts[&ObjectRef::of(&wrong(name)).unwrap()];
        let why = format!(
            "failed to create typed patch object (n1/{name}; /v1, Kind=ResourceQuota): .spec.hrad: field not declared in schema"
        );
        assert_eq!(fact.would, DryRun::Refused(why));
    }
    let fact = &facts[&ObjectRef::of(&refused).unwrap()];
    assert_eq!(fact.would, DryRun::NotAsked);
}

#[test]
fn a_list_whose_next_page_has_expired_begins_anew() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let calls = AtomicUsize::new(0);
    let wanted: Vec<Value> = (0..30).map(quota).collect();
    let (facts, asked) = observed(&wanted, move |asked| {
        let items = (0..30).map(quota).map(applied);
        let call = calls.fetch_add(1, Ordering::SeqCst);
        match (asked.line.contains("continue=next"), call) {
            (false, _) => page(items.take(10).collect(), "next"),
            (true, 1) => Answer::refused(
                410,
                "The provided continue parameter is too old",
                json!({"reason": "Expired"}),
            ),
            (true, _) => page(items.skip(10).collect(), ""),
        }
    });
    assert_eq!(asked.len(), 4);
    all_are_same(&facts);
    // For ever is too often: then each is asked for.
    let (facts, asked) = observed(&wanted, move |asked| {
        if asked.line.contains("/namespaces/") {
            return Answer::refused(
                404,
                "not found",
                json!({"reason": "NotFound", "details": {"name": "q", "kind": "resourcequotas"}}),
            );
        }
        match asked.line.contains("continue=next") {
            false => page(Vec::new(), "next"),
            true => Answer::refused(410, "too old", json!({"reason": "Expired"})),
        }
    });
    assert_eq!(
        asked
            .iter()
            .filter(|line| line.starts_with(LIST_ALL))
            .count(),
        8
    );
    assert_eq!(facts.len(), 30);
    all_are(&facts, &DryRun::NotAsked);
}

const LIST_ALL: &str = "GET /api/v1/resourcequotas?";

#[test]
fn who_may_not_list_but_get_is_served_all_the_same() {
    let wanted: Vec<Value> = (0..30).map(quota).collect();
    let (facts, asked) = observed(&wanted, |asked| {
        let Some((_, rest)) = asked.line.split_once("/namespaces/n") else {
            return Answer::refused(403, "no rights", json!({"reason": "Forbidden"}));
        };
        let number = rest.split_once('/').unwrap().0.parse().unwrap();
        Answer::ok(applied(quota(number)))
    });
    assert_eq!(asked.len(), 31);
    all_are_same(&facts);
}

#[test]
fn a_kind_that_the_cluster_does_not_have_is_told_apart_from_objects_that_are_not_there() {
    for number in [3, 30] {
        let wanted: Vec<Value> = (0..number).map(quota).collect();
        let (facts, _) = observed(&wanted, |_| {
            let mut page = Answer::refused(404, "", json!({}));
            page.body = "404 page not found\n".into();
            page
        });
        assert_eq!(facts.len(), number);
        all_are(&facts, &DryRun::NoSuchKind);
    }
}

#[test]
fn who_may_only_read_is_told_so_by_each_object_that_is_not_proved() {
    let words = "resourcequotas \"q\" is forbidden: User \"auditor\" cannot patch resource \"resourcequotas\" in API group \"\" in the namespace \"n1\"";
    let (facts, _) = observed(&[quota(1)], move |asked| {
        match asked.line.starts_with("PATCH") {
            true => Answer::refused(403, words, json!({"reason": "Forbidden"})),
            false => Answer::ok(quota(1)),
        }
    });
    let expected = format!(
        "resourcequotas \"q\" {}",
        words.split_once("\"q\" ").unwrap().1
    );
    all_are(&facts, &DryRun::Untried(Untried::NoRight, expected));
}

#[test]
fn a_manager_that_owns_nothing_is_told_with_those_that_do() {
    let (client, _) = serve(Duration::ZERO, |_| {
        let mut live = applied(quota(1));
        let managers = live["metadata"]["managedFields"].as_array_mut().unwrap();
        managers.push(json!({"manager": "kubectl-edit", "operation": "Update"}));
        Answer::ok(live)
    });
    let client = client.taking_from(vec!["nosuch".into(), "kubectl-edit".into()]);
    client.objects(&shared(&[quota(1)]));
    let expected = (vec!["nosuch".to_owned()], vec!["kubectl-edit".to_owned()]);
    assert_eq!(client.take_from_nobody(), Some(expected));
}

/// Answers each apply without force with conflicts, by field and manager.
fn in_conflict(
    live: Value,
    conflicts: &[(&str, &str)],
) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(field, manager)| {
            let message = format!("conflict with {manager:?} using v1");
            json!({"reason": "FieldManagerConflict", "message": message, "field": field})
        })
        .collect();
    move |asked| match (
        asked.line.starts_with("PATCH"),
        asked.line.contains("force=true"),
    ) {
        (false, _) => Answer::ok(live.clone()),
        (true, true) => Answer::ok(asked.body.clone()),
        (true, false) => Answer::refused(
            409,
            "conflict",
            json!({"reason": "Conflict", "details": {"causes": causes}}),
        ),
    }
}

#[test]
fn what_is_nobody_s_and_what_is_harden_s_as_a_whole_is_taken_without_being_asked() {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "a", "labels": {"app.kubernetes.io/managed-by": "harden"}},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let mut own = policy.clone();
    own["metadata"]["labels"] = json!({});
    let tenant = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a",
        "labels": {"harden.dev/guard": "deny", "pod-security.kubernetes.io/enforce": "restricted"}}});
    let hard = ".spec.hard.pods";
    for (wanted, conflicts, is_taken) in [
        (quota(1), &[(hard, "before-first-apply")][..], true),
        (quota(1), &[(hard, "harden")], true),
        (quota(1), &[(hard, "kubectl-edit")], false),
        (
            quota(1),
            &[(hard, "before-first-apply"), (".spec.x", "argocd")],
            false,
        ),
        (
            policy.clone(),
            &[(".spec.podSelector", "kubectl-edit")],
            true,
        ),
        (
            policy.clone(),
            &[(".metadata.labels.a", "kubectl-edit")],
            false,
        ),
        (
            policy.clone(),
            &[(".spec.podSelector", "x"), (".metadata.labels.a", "x")],
            false,
        ),
        (own, &[(".spec.podSelector", "kubectl-edit")], false),
        (
            tenant.clone(),
            &[(".metadata.labels.harden.dev/guard", "kubectl-label")],
            true,
        ),
        (
            tenant,
            &[(
                ".metadata.labels.pod-security.kubernetes.io/enforce",
                "kubectl-label",
            )],
            false,
        ),
    ] {
        let (facts, _) = observed(
            std::slice::from_ref(&wanted),
            in_conflict(wanted.clone(), conflicts),
        );
        let from = conflicts.iter().map(|(field, manager)| FieldConflict {
            field: (*field).into(),
            manager: (*manager).into(),
        });
        let from: Vec<FieldConflict> = from.collect();
        let object = wanted;
        all_are(
            &facts,
            &match is_taken {
                true => DryRun::Taken { object, from },
                false => DryRun::Conflict(from),
            },
        );
    }
}

#[test]
fn fields_are_taken_from_those_who_were_named_and_from_nobody_else() {
    let server = |asked: &Asked| match (
        asked.line.starts_with("PATCH"),
        asked.line.contains("force=true"),
    ) {
        (false, _) => Answer::ok(quota(1)),
        (true, true) => Answer::ok(asked.body.clone()),
        (true, false) => Answer::refused(
            409,
            "1 conflict",
            json!({"reason": "Conflict", "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using v1", "field": ".spec.hard.pods"}]}}),
        ),
    };
    let conflict = FieldConflict {
        field: ".spec.hard.pods".into(),
        manager: "kubectl".into(),
    };
    for (named, is_taken) in [
        (vec![], false),
        (vec!["kube"], false),
        (vec!["x", "kubectl"], true),
    ] {
        let (client, asked) = serve(Duration::ZERO, server);
        let client = client.taking_from(named.into_iter().map(str::to_owned).collect());
        let facts = client.objects(&shared(&[quota(1)]));
        let from = vec![conflict.clone()];
        let expected = match is_taken {
            true => DryRun::Taken {
                object: quota(1),
                from: from.clone(),
            },
            false => DryRun::Conflict(from.clone()),
        };
        all_are(&facts, &expected);
        assert!(
            asked
                .lock()
                .unwrap()
                .iter()
                .all(|one| one.line.starts_with("GET") || one.line.contains("dryRun=All"))
        );
        // What is done is what the plan says, whoever was named.
        let other = FieldConflict {
            manager: "other".into(),
            ..conflict.clone()
        };
        assert!(client.apply(&quota(1)).is_err());
        assert!(client.apply_taking(&quota(1), &[other]).is_err());
        assert!(client.apply_taking(&quota(1), &from).is_ok());
    }
}
