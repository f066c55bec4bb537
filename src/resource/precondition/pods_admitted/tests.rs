#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::fact::{ApiFacts, NodeInfo};
use crate::resource::precondition::Precondition;

/// A file with this configuration of the plugin PodSecurity.
fn file(configuration: &Value) -> Kind {
    let plugins = json!([
        {"name": "EventRateLimit", "configuration": {"limits": []}},
        {"name": "PodSecurity", "configuration": configuration},
    ]);
    of_content(&json!({"kind": "AdmissionConfiguration", "plugins": plugins}))
}

fn of_content(content: &Value) -> Kind {
    let table = json!({"component": "kube-apiserver", "flag": FLAG, "name": "admission", "content": content});
    Kind::from_table("component-file", table).unwrap()
}

fn baseline() -> Kind {
    file(
        &json!({"defaults": {"enforce": "baseline"}, "exemptions": {"namespaces": ["kube-system"]}}),
    )
}

fn queries(kind: &Kind) -> Vec<(ApiQuery, Vec<String>)> {
    let node = NodeInfo {
        name: "worker".into(),
        control_plane: false,
    };
    Precondition::PodsAdmitted.api_queries(kind, &node)
}

/// Judges what was answered to the question of the kind itself.
fn judged(kind: &Kind, answer: Fact<Value>) -> Judgement {
    let answers = queries(kind)
        .into_iter()
        .map(|(query, _)| (query, answer.clone()));
    let facts = Facts {
        nodes: BTreeMap::new(),
        api: ApiFacts {
            cluster_id: Fact::Absent,
            ledger: Default::default(),
            cluster_configuration: Fact::Absent,
            objects: BTreeMap::new(),
            answers: answers.collect(),
        },
    };
    Precondition::PodsAdmitted.judge(kind, &facts, &[])
}

fn below(asked: usize, names: &[&str], reasons: &[&str]) -> Fact<Value> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let reasons: Vec<String> = reasons.iter().map(|why| (*why).to_owned()).collect();
    let below = PodsBelow {
        asked,
        count: names.len(),
        names,
        untold: reasons.len(),
        reasons,
    };
    Fact::Value(serde_json::to_value(below).unwrap())
}

#[test]
fn the_question_has_what_the_file_wants() {
    let kind = file(&json!({
        "defaults": {"enforce": "restricted", "enforce-version": "v1.30", "warn": "baseline"},
        "exemptions": {"namespaces": ["storage", "kube-system"], "usernames": ["admin"]},
    }));
    let level = PodLevel {
        level: "restricted".into(),
        version: "v1.30".into(),
        exempt: ["kube-system", "storage"].map(str::to_owned).into(),
    };
    // Nothing of the answer counts: pods come and go.
    assert_eq!(
        queries(&kind),
        [(ApiQuery::PodsBelow(level), vec![String::new()])]
    );
    let [(ApiQuery::PodsBelow(level), _)] =
        &queries(&file(&json!({"defaults": {"enforce": "baseline"}})))[..]
    else {
        panic!()
    };
    assert_eq!((level.version.as_str(), level.exempt.len()), ("latest", 0));
}

#[test]
fn what_refuses_nothing_asks_nothing() {
    let kind = file(&json!({"defaults": {"enforce": "privileged"}}));
    assert_eq!(queries(&kind), []);
    let judged = judged(&kind, Fact::Absent);
    assert!(matches!(judged, Judgement::Holds(_)), "{judged:?}");
}

/// A module of somebody's own may require it of anything.
#[test]
fn what_sets_no_level_is_unknown() {
    let none = Kind::from_table("serving-certificate", json!({})).unwrap();
    let text = of_content(&json!("kind: AdmissionConfiguration\nplugins: {}\n"));
    for kind in [none, text, file(&json!({"defaults": {"warn": "baseline"}}))] {
        assert_eq!(queries(&kind), []);
        let judged = judged(&kind, Fact::Absent);
        assert!(matches!(judged, Judgement::Unknown(_)), "{judged:?}");
    }
    let text = "plugins:\n- name: PodSecurity\n  configuration: {defaults: {enforce: baseline}}\n";
    assert_eq!(queries(&of_content(&json!(text))).len(), 1);
}

#[test]
fn that_no_pod_is_named_proves_nothing_of_those_to_come() {
    let Judgement::Unknown(why) = judged(&baseline(), below(4, &[], &[])) else {
        panic!()
    };
    assert!(
        why.starts_with("the API server names no running pod below baseline in the 4 namespace(s)"),
        "{why}"
    );
    assert!(why.contains("CronJob"), "{why}");
    // Where it counts for no namespace, nobody can be hit.
    assert_eq!(
        judged(&baseline(), below(0, &[], &[])),
        Judgement::Holds("every namespace has a level of its own or is exempt".into())
    );
}

#[test]
fn pods_below_the_level_are_counted_and_named() {
    let Judgement::Fails(evidence) = judged(&baseline(), below(2, &["a/x", "b/y"], &[])) else {
        panic!()
    };
    assert_eq!((evidence.count, evidence.who.len()), (2, 2));
    assert_eq!(
        evidence.what,
        "pod(s) below baseline in namespaces without a level of their own, refused when made again"
    );
    // And whatever else is not known is said with them.
    let answer = below(2, &["a/x"], &["b: forbidden"]);
    let Judgement::Fails(evidence) = judged(&baseline(), answer) else {
        panic!()
    };
    assert!(evidence.what.ends_with("(of 1 of 2 namespace(s) without a level of their own it is not known which pods are below baseline: b: forbidden)"), "{}", evidence.what);
}

#[test]
fn exemptions_that_cannot_be_seen_are_said() {
    let of = |exemptions: Value| {
        let kind = file(&json!({"defaults": {"enforce": "baseline"}, "exemptions": exemptions}));
        match judged(&kind, below(1, &["a/x"], &[])) {
            Judgement::Fails(evidence) => evidence.what,
            other => panic!("{other:?}"),
        }
    };
    let both = of(json!({"usernames": ["admin"], "runtimeClasses": ["kata"]}));
    assert!(
        both.contains("which of them the exempt users and runtime classes let in"),
        "{both}"
    );
    let one = of(json!({"usernames": [], "runtimeClasses": ["kata"]}));
    assert!(
        one.contains("which of them the exempt runtime classes let in"),
        "{one}"
    );
    assert!(!of(json!({"namespaces": ["a"]})).contains("exempt"));
}

#[test]
fn a_namespace_that_was_not_asked_leaves_it_unknown() {
    let judge = judged(
        &baseline(),
        below(3, &[], &["b: forbidden", "c: no dry run"]),
    );
    assert_eq!(
        judge,
        Judgement::Unknown("of 2 of 3 namespace(s) without a level of their own it is not known which pods are below baseline: b: forbidden, c: no dry run".into())
    );
    for silent in [
        Fact::Absent,
        Fact::Unreadable("namespaces is forbidden".into()),
        Fact::Value(json!({"count": 0})),
        Fact::Value(json!("none")),
    ] {
        let judged = judged(&baseline(), silent);
        assert!(matches!(judged, Judgement::Unknown(_)), "{judged:?}");
    }
}
