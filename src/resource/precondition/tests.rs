#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::fact::ApiFacts;
use crate::resource::{Place, Risk};

const CERTIFICATES: Precondition = Precondition::KubeletServingCertificates;

/// A resource of which these preconditions want to know nothing.
fn any() -> Kind {
    Kind::from_table("serving-certificate", json!({})).unwrap()
}

fn judge(one: Precondition, facts: &Facts, earlier: &[&(Change, Vec<Effect>)]) -> Judgement {
    one.judge(&any(), facts, earlier)
}

/// Two control planes and a worker, all reached.
fn facts(answers: Vec<(ApiQuery, Fact<Value>)>) -> Facts {
    let node = |name: &str| {
        let info = NodeInfo {
            name: name.into(),
            control_plane: name != "worker",
        };
        let node = Node {
            info,
            facts: Fact::Value(BTreeMap::new()),
            remedy: String::new(),
        };
        (name.to_owned(), node)
    };
    Facts {
        nodes: ["cp1", "cp2", "worker"].map(node).into(),
        api: ApiFacts {
            cluster_id: Fact::Value("uid".into()),
            ledger: Default::default(),
            cluster_configuration: Fact::Absent,
            objects: BTreeMap::new(),
            answers: answers.into_iter().collect(),
        },
    }
}

fn trusted(states: [Option<bool>; 3]) -> Facts {
    let names = ["cp1", "cp2", "worker"];
    let answers = names.iter().zip(states).map(|(name, trusted)| {
        let fact = match trusted {
            Some(trusted) => Fact::Value(json!({"trusted": trusted})),
            None => Fact::Unreadable("the node was not reached".into()),
        };
        (ApiQuery::ServingCertificate((*name).into()), fact)
    });
    facts(answers.collect())
}

fn establishing(node: &str) -> (Change, Vec<Effect>) {
    let change = Change {
        resource: "kubelet serving certificate".into(),
        place: Place::Node(node.into()),
        copy: None,
        before: None,
        after: None,
        diff: None,
        reason: String::new(),
        controls: Vec::new(),
        origins: Vec::new(),
        risk: Risk::Reload,
        uniform: false,
        restarts: None,
    };
    (
        change,
        vec![Effect::ServingCertificate { node: node.into() }],
    )
}

#[test]
fn certificates_hold_when_every_node_has_one() {
    let judged = judge(CERTIFICATES, &trusted([Some(true); 3]), &[]);
    assert!(matches!(judged, Judgement::Holds(_)), "{judged:?}");
}

#[test]
fn nodes_without_a_certificate_are_named() {
    let judged = judge(
        CERTIFICATES,
        &trusted([Some(true), Some(false), Some(false)]),
        &[],
    );
    let Judgement::Fails(evidence) = judged else {
        panic!("{judged:?}")
    };
    assert_eq!(evidence.count, 2);
    assert_eq!(evidence.who, ["cp2", "worker"]);
}

#[test]
fn a_plan_that_mends_all_of_them_establishes_it_and_one_that_leaves_some_does_not() {
    let facts = trusted([Some(true), Some(false), Some(false)]);
    let (cp2, worker) = (establishing("cp2"), establishing("worker"));
    assert_eq!(
        judge(CERTIFICATES, &facts, &[&cp2, &worker]),
        Judgement::ByThisPlan(vec!["cp2".into(), "worker".into()])
    );
    let judged = judge(CERTIFICATES, &facts, &[&cp2]);
    let Judgement::Fails(evidence) = judged else {
        panic!("{judged:?}")
    };
    assert_eq!(evidence.who, ["worker"]);
}

#[test]
fn a_node_that_was_not_reached_leaves_it_unknown_even_if_the_plan_would_mend_it() {
    let facts = trusted([Some(true), None, Some(false)]);
    let (cp2, worker) = (establishing("cp2"), establishing("worker"));
    let judged = judge(CERTIFICATES, &facts, &[&cp2, &worker]);
    let Judgement::Unknown(why) = judged else {
        panic!("{judged:?}")
    };
    assert!(why.contains("cp2") && !why.contains("worker"), "{why}");
}

#[test]
fn an_answer_of_another_shape_is_unknown() {
    let mut facts = trusted([Some(true); 3]);
    let query = ApiQuery::ServingCertificate("cp1".into());
    facts
        .api
        .answers
        .insert(query, Fact::Value(json!({"trusted": "yes"})));
    let judged = judge(CERTIFICATES, &facts, &[]);
    assert!(matches!(judged, Judgement::Unknown(_)), "{judged:?}");
}

fn list(query: ApiQuery, names: &[&str]) -> Facts {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    let found = serde_json::to_value(Found::of(names)).unwrap();
    facts(vec![(query, Fact::Value(found))])
}

#[test]
fn services_with_external_addresses_are_named() {
    let judge = |facts: &Facts| judge(Precondition::NoExternalIps, facts, &[]);
    let none = judge(&list(ApiQuery::ExternalIps, &[]));
    assert!(matches!(none, Judgement::Holds(_)), "{none:?}");
    assert_eq!(
        judge(&list(ApiQuery::ExternalIps, &["b/y", "a/x"])),
        Judgement::Fails(Evidence {
            what: "Service(s) with externalIPs".into(),
            count: 2,
            who: vec!["a/x".into(), "b/y".into()],
        })
    );
    let unread = judge(&facts(vec![(
        ApiQuery::ExternalIps,
        Fact::Unreadable("forbidden".into()),
    )]));
    assert_eq!(
        unread,
        Judgement::Unknown("the Services could not be read: forbidden".into())
    );
    let unasked = judge(&facts(vec![]));
    assert!(matches!(unasked, Judgement::Unknown(_)), "{unasked:?}");
}

#[test]
fn many_names_are_counted_and_not_all_kept() {
    let names = (0..2000).map(|n| format!("n/{n:04}")).collect();
    let found = Found::of(names);
    assert_eq!((found.count, found.names.len()), (2000, MAX_NAMES));
    assert_eq!(found.names[0], "n/0000");
    assert_eq!(
        listed(found.count, &found.names, 2),
        "n/0000, n/0001 and 1998 more"
    );
    assert_eq!(listed(1, &["a".into()], 2), "a");
}

/// Nothing that can be seen proves that an image can be pulled.
#[test]
fn images_are_never_known_to_be_pullable() {
    let judge = |names| {
        let facts = list(ApiQuery::NeverPulled, names);
        judge(Precondition::ImagesPullable, &facts, &[])
    };
    assert!(matches!(judge(&[]), Judgement::Unknown(_)));
    assert!(matches!(judge(&["a/x"]), Judgement::Fails(_)));
}

fn tokens(first: Fact<Value>, second: Fact<Value>) -> Judgement {
    let answers = vec![
        (ApiQuery::StaleTokens("cp1".into()), first),
        (ApiQuery::StaleTokens("cp2".into()), second),
    ];
    judge(Precondition::NoStaleTokens, &facts(answers), &[])
}

fn count(count: f64) -> Fact<Value> {
    Fact::Value(json!({"count": count, "any": count > 0.0}))
}

/// Clients that keep a token for longer than its hour go on until the extension is taken away.
#[test]
fn kubernetes_96273_stale_tokens_are_counted_at_every_api_server() {
    let judged = tokens(count(0.0), count(0.0));
    assert!(matches!(judged, Judgement::Holds(_)), "{judged:?}");
    assert_eq!(
        tokens(count(0.0), count(12.0)),
        Judgement::Fails(Evidence {
            what: "API server(s) that counted tokens past their hour (serviceaccount_stale_tokens_total)".into(),
            count: 1,
            who: vec!["12 uses at the API server of cp2".into()],
        })
    );
    // One that counts some is enough, whatever the other does not tell.
    let judged = tokens(Fact::Absent, count(1.0));
    assert!(matches!(judged, Judgement::Fails(_)), "{judged:?}");
    for silent in [
        Fact::Absent,
        Fact::Unreadable("forbidden".into()),
        Fact::Value(json!({"count": "none"})),
    ] {
        let judged = tokens(count(0.0), silent);
        assert!(matches!(judged, Judgement::Unknown(_)), "{judged:?}");
    }
}

#[test]
fn api_servers_are_asked_on_control_planes_only() {
    let info = |control_plane| NodeInfo {
        name: "n".into(),
        control_plane,
    };
    let queries = |one: Precondition, node| one.api_queries(&any(), &info(node));
    let asked = |node| queries(Precondition::NoStaleTokens, node).len();
    assert_eq!((asked(true), asked(false)), (1, 0));
    // Lists are asked once, however many nodes there are.
    for one in [Precondition::NoExternalIps, Precondition::ImagesPullable] {
        assert_eq!(queries(one, true), queries(one, false));
    }
}

#[test]
fn names_are_those_of_json() {
    for one in Precondition::ALL {
        assert_eq!(serde_json::to_value(one).unwrap(), one.name());
    }
}
