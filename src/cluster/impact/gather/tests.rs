#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::*;
use crate::cluster::fake::{Answer, Asked, serve};

/// Answers each request, of which the line and all of it are given, with a status, warnings and a body.
fn client(
    answer: impl Fn(&str, &str) -> (u16, Vec<&'static str>, Value) + Send + Sync + 'static,
) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    serve(Duration::ZERO, move |asked| {
        let (status, warnings, body) = answer(&asked.line, &asked.text);
        let header = |warning| ("Warning", format!("299 - \"{warning}\""));
        Answer {
            status,
            headers: warnings.into_iter().map(header).collect(),
            body: body.to_string(),
        }
    })
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "x", "code": code})
}

fn pods(namespaces: &[&str], more: &str) -> Value {
    let items = namespaces.iter().map(|namespace| {
        json!({"metadata": {"name": "p", "namespace": namespace, "uid": "1"}, "spec": {"containers": []}})
    });
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": more},
        "items": items.collect::<Vec<Value>>()})
}

fn query(listing: ObjectList, namespaces: &[&str]) -> ImpactQuery {
    let names = namespaces.iter().map(|name| (*name).to_owned()).collect();
    ImpactQuery {
        lists: [(listing, names)].into(),
        ..ImpactQuery::default()
    }
}

#[test]
fn few_namespaces_are_listed_each_and_many_by_one_list_of_all() {
    let (client, seen) = client(|line, _| {
        let more = if line.contains("continue=") { "" } else { "2" };
        match line.contains("/namespaces/") {
            true => (200, vec![], pods(&["a"], "")),
            false => (200, vec![], pods(&["a", "b", "other"], more)),
        }
    });
    let facts = gather(&client, &query(ObjectList::Pods, &["a"]));
    assert_eq!(facts.of(ObjectList::Pods, "a").unwrap().len(), 1);
    let many = ["a", "b", "c", "d"];
    let facts = gather(&client, &query(ObjectList::Pods, &many));
    let count = |namespace| facts.of(ObjectList::Pods, namespace).unwrap().len();
    assert_eq!(
        [count("a"), count("b"), count("c"), count("other")],
        [2, 2, 0, 0]
    );
    assert_eq!(
        facts.of(ObjectList::Pods, "a").unwrap()[0]["metadata"].get("uid"),
        None
    );
    let seen = seen.lock().unwrap();
    let seen: Vec<&String> = seen.iter().map(|asked| &asked.line).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(
        seen[0].starts_with("GET /api/v1/namespaces/a/pods?"),
        "{seen:?}"
    );
    assert!(seen[1].starts_with("GET /api/v1/pods?"), "{seen:?}");
    assert!(seen[2].contains("continue=2"), "{seen:?}");
}

#[test]
fn of_secrets_only_the_names_are_asked_for_and_a_refusal_is_an_answer() {
    let (client, _) = client(|line, head| match line.contains("secrets") {
        true => {
            assert!(head.contains("PartialObjectMetadataList"), "{head}");
            let items = json!([{"metadata": {"name": "s", "namespace": "a"}}]);
            (
                200,
                vec![],
                json!({"kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items}),
            )
        }
        false => (403, vec![], status(403, "configmaps is \u{1b}[1mforbidden")),
    });
    let facts = gather(&client, &query(ObjectList::Secrets, &["a"]));
    assert_eq!(facts.of(ObjectList::Secrets, "a").unwrap().len(), 1);
    let facts = gather(&client, &query(ObjectList::ConfigMaps, &["a"]));
    let why = facts.of(ObjectList::ConfigMaps, "a").unwrap_err();
    assert!(why.contains("configmaps is forbidden"), "{why}");
    assert!(
        facts
            .of(ObjectList::Pods, "a")
            .unwrap_err()
            .contains("not asked")
    );
}

fn levels(names: &[&str]) -> ImpactQuery {
    let labels: BTreeMap<String, String> = [
        ("pod-security.kubernetes.io/enforce", "restricted"),
        ("pod-security.kubernetes.io/enforce-version", "latest"),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into();
    let levels = names
        .iter()
        .map(|name| ((*name).to_owned(), labels.clone()));
    ImpactQuery {
        levels: levels.collect(),
        ..ImpactQuery::default()
    }
}

fn labelled() -> Value {
    json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest"}}})
}

#[test]
fn each_namespace_answers_for_itself() {
    let (client, seen) = client(|line, text| {
        assert!(line.contains("dryRun=All"), "{line}");
        if text.contains("harden-asks") {
            let why = "pod-security.kubernetes.io/enforce: Invalid value";
            return (422, vec![], status(422, why));
        }
        match line {
            line if line.contains("/a?") => {
                let head = "existing pods in namespace \\\"a\\\" violate the new PodSecurity enforce level \\\"restricted:latest\\\"";
                (200, vec![head, "agent: host namespaces"], labelled())
            }
            line if line.contains("/b?") => (403, vec![], status(403, "b is forbidden")),
            line if line.contains("/gone?") => (404, vec![], status(404, "not found")),
            _ => (200, vec![], labelled()),
        }
    });
    let facts = gather(&client, &levels(&["a", "b", "c", "gone"]));
    assert_eq!(facts.levels["a"].told.pods, [("agent".to_owned(), 1)]);
    assert!(
        facts.levels["a"]
            .words
            .contains(&"agent: host namespaces".to_owned())
    );
    let untold = facts.levels["b"].told.untold.clone().unwrap();
    assert!(untold.contains("b is forbidden"), "{untold}");
    assert_eq!(facts.levels["c"], LevelTold::default());
    assert_eq!(facts.levels["gone"], LevelTold::default());
    // One question whether the plugin works, and one for each.
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[test]
fn where_the_plugin_is_off_no_answer_means_that_nobody_is_hit() {
    let (client, _) = client(|_, text| {
        let mut answer = labelled();
        if text.contains("harden-asks") {
            answer["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] =
                "harden-asks".into();
        }
        (200, vec![], answer)
    });
    let facts = gather(&client, &levels(&["a", "b"]));
    for name in ["a", "b"] {
        let untold = facts.levels[name].told.untold.clone().unwrap();
        assert!(untold.contains("is it off?"), "{untold}");
    }
}
