#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::super::fake::{self, serve};
use super::*;

/// What the API answers: a status, warnings, and a message where it refuses.
type Answer = (u16, Vec<String>, String);

/// A tried namespace: its name, the level and the version.
type Tried = (String, String, String);

fn good(warnings: &[&str]) -> Answer {
    let quoted = |text: &&str| format!("299 - \"{}\"", text.replace('"', "\\\""));
    (200, warnings.iter().map(quoted).collect(), String::new())
}

fn refused(status: u16, why: &str) -> Answer {
    (status, Vec::new(), why.into())
}

/// Asks a server with these namespaces which pods are below a level. `answer` says what it answers to
/// a level that exists; the one that does not it refuses.
fn asked(
    version: &str,
    namespaces: &[(&str, Value)],
    answer: impl Fn(&Tried) -> Answer + Send + Sync + 'static,
) -> (Result<PodsBelow, ApiError>, Vec<Tried>) {
    let judged = move |tried: &Tried| match tried.1.as_str() {
        NO_LEVEL => refused(422, &format!("{ENFORCE_LABEL}: Invalid value")),
        _ => answer(tried),
    };
    let (below, mut tried) = asked_of(version, namespaces, judged);
    tried.retain(|(_, level, _)| level != NO_LEVEL);
    (below, tried)
}

fn asked_of(
    version: &str,
    namespaces: &[(&str, Value)],
    answer: impl Fn(&Tried) -> Answer + Send + Sync + 'static,
) -> (Result<PodsBelow, ApiError>, Vec<Tried>) {
    let items: Vec<Value> = namespaces
        .iter()
        .map(|(name, labels)| json!({"metadata": {"name": name, "labels": labels}}))
        .collect();
    let list = json!({"kind": "NamespaceList", "apiVersion": "v1", "metadata": {}, "items": items});
    let all_tried = Arc::new(Mutex::new(Vec::new()));
    let seen = all_tried.clone();
    let (client, _) = serve(Duration::ZERO, move |asked| {
        let Some(rest) = asked.line.strip_prefix("PATCH /api/v1/namespaces/") else {
            return fake::Answer::ok(list.clone());
        };
        let (name, query) = rest.split_once('?').unwrap();
        assert_eq!(query, "dryRun=All&fieldManager=harden");
        let label = |name| asked.body["metadata"]["labels"][name].as_str().unwrap();
        let labels = [label(ENFORCE_LABEL), label(ENFORCE_VERSION_LABEL)];
        let tried = (name.to_owned(), labels[0].to_owned(), labels[1].to_owned());
        let (status, warnings, message) = answer(&tried);
        seen.lock().unwrap().push(tried);
        let told = match (status, message.as_str()) {
            (200, "") => fake::Answer::ok(asked.body.clone()),
            (200, _) => fake::Answer::ok(json!({"metadata": {"labels": {}}})),
            _ => fake::Answer::refused(status, &message, json!({"reason": "x"})),
        };
        let warn = |told: fake::Answer, text| told.with("Warning", text);
        warnings.into_iter().fold(told, warn)
    });
    let level = PodLevel {
        level: "baseline".into(),
        version: version.into(),
        exempt: ["kube-system".to_owned()].into(),
    };
    let below = pods_below(&client, &level);
    let tried = all_tried.lock().unwrap().clone();
    (below, tried)
}

fn three() -> Vec<(&'static str, Value)> {
    vec![
        ("kube-system", json!({})),
        ("labelled", json!({ENFORCE_LABEL: "privileged"})),
        ("shop", json!({"team": "a"})),
        ("web", Value::Null),
    ]
}

const LISTED: &str = r#"existing pods in namespace "x" violate the new PodSecurity enforce level "baseline:v1.9999""#;

#[test]
fn namespaces_for_which_the_level_counts_are_asked_and_no_others() {
    let (below, tried) = asked("latest", &three(), |_| good(&[]));
    let below = below.unwrap();
    assert_eq!(
        below,
        PodsBelow {
            asked: 2,
            ..PodsBelow::default()
        }
    );
    let of = |name: &str| {
        (
            name.to_owned(),
            "baseline".to_owned(),
            BEYOND_LATEST.to_owned(),
        )
    };
    assert_eq!(tried, [of("shop"), of("web")]);
}

#[test]
fn pods_below_the_level_are_named_with_their_namespace() {
    let (below, _) = asked("latest", &three(), |(name, ..)| match name.as_str() {
        "web" => good(&[
            LISTED,
            "a-1: host namespaces (hostNetwork=true)",
            "b-1 (and 2 other pods): privileged (container \"c\" must not)",
        ]),
        _ => good(&[]),
    });
    let below = below.unwrap();
    assert_eq!((below.asked, below.count, below.untold), (2, 4, 0));
    assert_eq!(below.names, ["web/a-1", "web/b-1"]);
}

/// Rights may be for some namespaces only, and a webhook may refuse dry runs.
#[test]
fn a_namespace_that_cannot_be_asked_is_named_and_the_others_are_asked() {
    let (below, tried) = asked("latest", &three(), |(name, ..)| match name.as_str() {
        "shop" => refused(403, "namespaces \"shop\" is forbidden: no \u{1b}[31mpatch"),
        _ => good(&[]),
    });
    let below = below.unwrap();
    assert_eq!((below.asked, below.count, below.untold), (2, 0, 1));
    assert_eq!(
        below.reasons,
        ["shop: the API server refuses: namespaces \"shop\" is forbidden: no patch"]
    );
    assert_eq!(tried.len(), 2);
    let (below, _) = asked("latest", &three(), |_| {
        refused(400, "admission webhook \"w\" does not support dry run")
    });
    let below = below.unwrap();
    assert_eq!((below.asked, below.untold), (2, 2));
    assert!(
        below.reasons[1].contains("does not support dry run"),
        "{below:?}"
    );
}

#[test]
fn a_namespace_that_is_gone_meanwhile_has_no_pods() {
    let (below, _) = asked("latest", &three(), |(name, ..)| match name.as_str() {
        "shop" => refused(404, "not found"),
        _ => good(&[]),
    });
    assert_eq!(
        below.unwrap(),
        PodsBelow {
            asked: 1,
            ..PodsBelow::default()
        }
    );
}

#[test]
fn a_label_that_something_takes_off_again_tells_nothing() {
    let (below, _) = asked("latest", &three(), |_| (200, Vec::new(), "without".into()));
    let below = below.unwrap();
    assert_eq!(below.untold, 2);
    assert!(below.reasons[0].contains("takes it off"), "{below:?}");
}

/// Without the plugin no namespace is warned of anything, and that must not look like a good answer.
#[test]
fn without_the_plugin_there_is_no_answer() {
    let (below, tried) = asked_of("latest", &three(), |_| good(&[]));
    let why = below.unwrap_err().to_string();
    assert!(why.contains("PodSecurity looks at no namespace"), "{why}");
    assert_eq!(tried.len(), 1);
    let (below, _) = asked_of("latest", &three(), |_| refused(403, "no rights"));
    assert_eq!(below.unwrap().untold, 2);
}

/// Where the level with this very version is the server's default already, it looks at no pod, and a
/// namespace that it exempts so far says nothing either.
#[test]
fn an_exemption_of_today_is_found_out() {
    let exempt = r#"namespace "shop" is exempt from Pod Security, and the policy (enforce=baseline:v1.9999) will be ignored"#;
    let (below, tried) = asked("v1.30", &three(), move |(name, _, version)| {
        match (name.as_str(), version.as_str()) {
            ("shop", BEYOND_LATEST) => good(&[exempt]),
            // What the newest version says of it is not what was asked.
            ("web", BEYOND_LATEST) => good(&[LISTED, "a: x"]),
            _ => good(&[]),
        }
    });
    let below = below.unwrap();
    assert_eq!((below.count, below.untold), (0, 1));
    assert!(
        below.reasons[0].starts_with("shop: the API server exempts it today"),
        "{below:?}"
    );
    let versions: Vec<&str> = tried
        .iter()
        .map(|(_, _, version)| version.as_str())
        .collect();
    assert_eq!(versions, ["v1.30", BEYOND_LATEST, "v1.30", BEYOND_LATEST]);
}
