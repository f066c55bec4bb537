#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

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

/// Reads a whole request: its first line and its body.
fn request(connection: &mut impl Read) -> (String, String) {
    let mut read = Vec::new();
    let mut some = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return (head.lines().next().unwrap().to_owned(), body.to_owned());
            }
        }
        let length = connection.read(&mut some).unwrap();
        assert!(length > 0, "a request that ends: {text}");
        read.extend(&some[..length]);
    }
}

/// Asks a server with these namespaces which pods are below a level. `answer` says what it answers to
/// a level that exists; the one that does not it refuses.
fn asked(
    version: &str,
    namespaces: &[(&str, Value)],
    answer: impl Fn(&Tried) -> Answer + Send + 'static,
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
    answer: impl Fn(&Tried) -> Answer + Send + 'static,
) -> (Result<PodsBelow, ApiError>, Vec<Tried>) {
    let items: Vec<Value> = namespaces
        .iter()
        .map(|(name, labels)| json!({"metadata": {"name": name, "labels": labels}}))
        .collect();
    let list = json!({"kind": "NamespaceList", "apiVersion": "v1", "metadata": {}, "items": items});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let all_tried = Arc::new(Mutex::new(Vec::new()));
    let seen = all_tried.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let (line, body) = request(&mut connection);
            let (status, warnings, body) = match line.strip_prefix("PATCH /api/v1/namespaces/") {
                None => (200, Vec::new(), list.to_string()),
                Some(rest) => {
                    let (name, query) = rest.split_once('?').unwrap();
                    assert_eq!(query, "dryRun=All&fieldManager=harden HTTP/1.1");
                    let body: Value = serde_json::from_str(&body).unwrap();
                    let label = |name| body["metadata"]["labels"][name].as_str().unwrap();
                    let labels = [label(ENFORCE_LABEL), label(ENFORCE_VERSION_LABEL)];
                    let tried = (name.to_owned(), labels[0].to_owned(), labels[1].to_owned());
                    let (status, warnings, message) = answer(&tried);
                    seen.lock().unwrap().push(tried);
                    let body = match (status, message.as_str()) {
                        (200, "") => body,
                        (200, _) => json!({"metadata": {"labels": {}}}),
                        _ => json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                            "status": "Failure", "message": message, "reason": "x", "code": status}),
                    };
                    (status, warnings, body.to_string())
                }
            };
            let length = body.len();
            let mut head = format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n");
            for warning in warnings {
                head.push_str(&format!("Warning: {warning}\r\n"));
            }
            let rest = format!("content-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = connection.write_all((head + &rest).as_bytes());
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}]});
    std::fs::write(&path, text.to_string()).unwrap();
    let client = Client::new(Some(&path), None, Duration::ZERO).unwrap();
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
