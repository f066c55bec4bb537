//! How long certificates are valid, and whose key they have: what the probe brings under real shells, and
//! what the plan makes of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::plan_support::*;
use harden::fact::certificate::{Certificate, Certificates};
use harden::fact::probe::{SCRIPT, encode, parse};
use harden::fact::{Answer, Fact, Facts, FileKind, NodePath, Query};
use harden::plan::*;
use harden::resource::{Desired, Resource, Risk, Scope};
use serde_json::json;

const NONCE: &str = "0123456789abcdef";

const SHELLS: &[&[&str]] = &[&["sh"], &["dash"], &["bash", "--posix"], &["busybox", "sh"]];

const CA: &str = include_str!("../fixtures/certificates/ca.pem");
const LEAF: &str = include_str!("../fixtures/certificates/leaf.pem");

/// Something that must not travel, in the shape of a key.
const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nCANARYcanaryCANARYcanaryCANARY\n-----END PRIVATE KEY-----\n";

/// As `openssl x509 -startdate -enddate` and `openssl pkey -pubin -outform der | sha256sum` tell it.
fn ca() -> Certificate {
    Certificate {
        not_before: 1_795_727_346,
        not_after: 2_111_087_346,
        key_sha256: "9bb436466ce93a2749df108995b6a9df0942bee300dbdd58d322380cb5a90b32".into(),
    }
}

fn leaf() -> Certificate {
    Certificate {
        not_before: 1_795_727_347,
        not_after: 1_827_263_347,
        key_sha256: "801b752e19489236a5f91b88213230ef47428b189e0743febf0062b220ef35a4".into(),
    }
}

/// What a shell tells of a file, and the words that would travel.
fn ask(shell: &[&str], path: &Path) -> (Fact<Answer>, String) {
    let query = Query::Certificates(NodePath::new(path.to_str().unwrap()).unwrap());
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", SCRIPT, "harden"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shell:?} (Debian: dash, bash, busybox): {error}"));
    let queries = std::slice::from_ref(&query);
    let request = encode(NONCE, queries);
    child.stdin.take().unwrap().write_all(&request).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let facts = parse(NONCE, queries, &output.stdout).unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    (facts[&query].clone(), words)
}

#[test]
fn certificates_are_told_without_the_keys_beside_them() {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = |data: String| {
        format!(
            "apiVersion: v1\nkind: Config\nusers:\n- name: admin\n  user:\n    client-certificate-data: {data}\n    client-key-data: {}\n",
            base64(KEY)
        )
    };
    let broken = LEAF.replacen("MIIB", "MIIZ", 1);
    let cut = LEAF.split("-----END").next().unwrap().to_owned();
    for (name, text, told) in [
        ("one", LEAF.to_owned(), Ok(vec![leaf()])),
        ("bundle", format!("{CA}{LEAF}"), Ok(vec![ca(), leaf()])),
        ("key first", format!("{KEY}{LEAF}"), Ok(vec![leaf()])),
        ("key last", format!("{LEAF}{KEY}"), Ok(vec![leaf()])),
        (
            "words around",
            format!("subject=CN = x\n{LEAF}\nend\n"),
            Ok(vec![leaf()]),
        ),
        (
            "no newline at its end",
            LEAF.trim_end().to_owned(),
            Ok(vec![leaf()]),
        ),
        ("kubeconfig", kubeconfig(base64(LEAF)), Ok(vec![leaf()])),
        (
            "quoted",
            kubeconfig(format!("\"{}\"", base64(LEAF))),
            Ok(vec![leaf()]),
        ),
        (
            "kubeconfig of a file",
            kubeconfig(String::new()),
            Ok(Vec::new()),
        ),
        ("only a key", KEY.to_owned(), Ok(Vec::new())),
        ("empty", String::new(), Ok(Vec::new())),
        (
            "a certificate that a key cuts",
            format!("{cut}{KEY}"),
            Ok(vec![leaf()]),
        ),
        ("broken", broken, Err("cannot be parsed")),
        ("too large", "x".repeat(131_073), Err("larger than")),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        for shell in SHELLS {
            let (fact, words) = ask(shell, &path);
            match (&fact, &told) {
                (Fact::Value(Answer::Certificates(found)), Ok(list)) => {
                    assert_eq!(found.list, *list, "{name} {shell:?}");
                    assert!(found.now > 1_700_000_000, "{found:?}");
                }
                (Fact::Unreadable(why), Err(part)) => assert!(why.contains(part), "{why}"),
                _ => panic!("{name} {shell:?}: {fact:?}"),
            }
            for secret in ["CANARY", &base64(KEY)[30..60]] {
                assert!(!words.contains(secret), "{name} {shell:?}: {words}");
            }
        }
    }
    // The kubelet's own is a link to the newest.
    symlink("one", dir.path().join("link")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    for shell in SHELLS {
        let (fact, _) = ask(shell, &dir.path().join("link"));
        assert!(matches!(fact, Fact::Value(_)), "{fact:?}");
        let (fact, _) = ask(shell, &dir.path().join("dangling"));
        assert!(matches!(fact, Fact::Unreadable(_)), "{fact:?}");
        let (fact, _) = ask(shell, dir.path());
        assert!(matches!(fact, Fact::Unreadable(_)), "{fact:?}");
        let (fact, _) = ask(shell, &dir.path().join("none"));
        assert_eq!(fact, Fact::Absent);
    }
}

const DAY: i64 = 86_400;
const APISERVER: &str = "/etc/kubernetes/pki/apiserver.crt";

fn wanted(more: serde_json::Value) -> Desired {
    let mut table = json!({"path": APISERVER, "by-hand": "renew it"});
    for (key, value) in more.as_object().unwrap() {
        table[key] = value.clone();
    }
    let mut resource: Resource = resource("certificate", table);
    resource.risk = Risk::Manual;
    resource.scope = Scope::Nodes;
    desired(vec![resource])
}

fn put_certificates(facts: &mut Facts, node: &str, file: &str, now: i64, list: Vec<Certificate>) {
    let fact = Fact::Value(Answer::Certificates(Certificates { now, list }));
    put(facts, node, Query::Certificates(path(file)), fact);
}

/// A cluster whose control planes have these certificates there, and the worker none.
fn facts(desired: &Desired, now: i64, list: &[Certificate]) -> Facts {
    let mut facts = cluster(&["cp1", "cp2"], desired);
    for node in ["cp1", "cp2"] {
        put_certificates(&mut facts, node, APISERVER, now, list.to_vec());
    }
    put(
        &mut facts,
        "worker",
        Query::Certificates(path(APISERVER)),
        Fact::Absent,
    );
    facts
}

#[test]
fn a_certificate_that_ends_soon_is_told_with_its_day_and_what_to_do() {
    let desired = wanted(json!({"days-left": 30}));
    let end = leaf().not_after;
    for (left, told) in [
        (30 * DAY, None),
        (30 * DAY - 1, Some("valid until 2027-11-26")),
        (0, Some("valid until 2027-11-26")),
        (-1, Some("not valid since 2027-11-26")),
    ] {
        // Of several the first that ends counts.
        let facts = facts(&desired, end - left, &[ca(), leaf()]);
        let plan = build(&desired, &facts);
        match told {
            None => assert!(plan.problems.is_empty(), "{left}: {:?}", problems(&plan)),
            Some(words) => {
                let told = problems(&plan);
                assert_eq!(told.len(), 1, "{told:?}");
                for node in ["cp1", "cp2"] {
                    let line = format!("{node} file: {words} → valid for 30 days more");
                    assert!(told[0].contains(&line), "{told:?}");
                }
                // Nothing is done about it.
                assert!(plan.changes.is_empty() && plan.stages.is_empty());
                let problems = &plan.problems;
                assert!(
                    problems.iter().any(|p| p.remedy.contains("renew it")),
                    "{problems:?}"
                );
            }
        }
    }
}

#[test]
fn a_plan_is_the_same_an_hour_later() {
    let desired = wanted(json!({"days-left": 30}));
    let begin = leaf().not_after - 10 * DAY;
    let plan = |now| build(&desired, &facts(&desired, now, &[leaf()]));
    assert_eq!(plan(begin), plan(begin + 3_600));
    // A new certificate is another thing.
    let renewed = Certificate {
        not_after: leaf().not_after + 1,
        ..leaf()
    };
    let other = build(&desired, &facts(&desired, begin, &[renewed]));
    assert_ne!(plan(begin).basis, other.basis);
}

#[test]
fn what_the_kubelet_renews_is_late_only_when_it_has_not_done_so() {
    let desired = wanted(json!({"days-left": 30, "renewed": "by-kubelet"}));
    let time = 20 * DAY; // it is always valid for less than 30 days
    for (left, late) in [(2 * DAY, false), (2 * DAY - 1, true)] {
        let short = Certificate {
            not_before: leaf().not_after - time,
            ..leaf()
        };
        let facts = facts(&desired, leaf().not_after - left, &[short]);
        let told = problems(&build(&desired, &facts));
        assert_eq!(!told.is_empty(), late, "{left}: {told:?}");
    }
}

#[test]
fn an_authority_with_the_clusters_key_is_told_whatever_its_certificate_is_called() {
    const CLUSTER: &str = "/etc/kubernetes/pki/ca.crt";
    let desired = wanted(json!({"other-key-than": CLUSTER}));
    // Another certificate of the same key: another time of validity.
    let again = Certificate {
        not_after: ca().not_after + DAY,
        ..ca()
    };
    for (theirs, told) in [(leaf(), 0), (again, 1)] {
        let mut facts = facts(&desired, ca().not_before, &[ca()]);
        for node in ["cp1", "cp2"] {
            put_certificates(&mut facts, node, CLUSTER, 0, vec![theirs.clone()]);
        }
        put(
            &mut facts,
            "worker",
            Query::Certificates(path(CLUSTER)),
            Fact::Absent,
        );
        let plan = build(&desired, &facts);
        assert_eq!(problems(&plan).len(), told, "{:?}", problems(&plan));
    }
}

#[test]
fn what_cannot_be_read_is_no_good_certificate() {
    let desired = wanted(json!({"days-left": 30}));
    let mut facts = facts(&desired, leaf().not_before, &[leaf()]);
    let denied = Fact::Unreadable("Permission denied".into());
    put(
        &mut facts,
        "cp2",
        Query::Certificates(path(APISERVER)),
        denied,
    );
    let plan = build(&desired, &facts);
    let problems = problems(&plan);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("Error cp2"), "{problems:?}");
    assert!(problems[0].contains("Permission denied"), "{problems:?}");
}

#[test]
fn a_table_says_one_thing() {
    for table in [
        json!({"path": APISERVER, "by-hand": "x"}),
        json!({"path": APISERVER, "by-hand": "", "days-left": 3}),
        json!({"path": APISERVER, "days-left": 3}),
        json!({"path": "pki", "by-hand": "x", "days-left": 3}),
        json!({"path": APISERVER, "by-hand": "x", "days-left": 3, "other-key-than": APISERVER}),
        json!({"path": APISERVER, "by-hand": "x", "days-left": -3}),
    ] {
        let kind = harden::resource::Kind::from_table("certificate", table.clone());
        assert!(kind.is_err(), "{table}");
    }
}

/// As [`facts`], with all that a renewal needs.
fn renewable(desired: &Desired, left: i64) -> Facts {
    let mut facts = facts(desired, leaf().not_after - left, &[leaf()]);
    for (file, mode) in [
        (APISERVER, 0o644),
        ("/etc/kubernetes/pki/apiserver.key", 0o600),
    ] {
        for node in ["cp1", "cp2"] {
            let stat = Fact::Value(Answer::Stat(meta(FileKind::Regular, mode)));
            put(&mut facts, node, Query::Stat(path(file)), stat);
        }
    }
    facts
}

fn renewing() -> Desired {
    wanted(json!({"days-left": 30, "renew": true}))
}

#[test]
fn a_certificate_that_ends_soon_is_renewed_with_the_restart_of_who_reads_it() {
    let desired = renewing();
    let facts = renewable(&desired, 10 * DAY);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    insta::assert_snapshot!(lines(&plan).join("\n"), @r"
    cp1 file | certificate /etc/kubernetes/pki/apiserver.crt: valid until 2027-11-26 → renewed by kubeadm (Restart restarts)
    cp2 file | certificate /etc/kubernetes/pki/apiserver.crt: valid until 2027-11-26 → renewed by kubeadm (Restart restarts)
    ");
    assert_eq!(stage_names(&plan), [StageName::ControlPlane]);
    assert_eq!(plan.steps().count(), 2, "one control plane at a time");
    for (_, step) in plan.steps() {
        let Step::Node(step) = step else { panic!() };
        let files: Vec<&str> = step.files.iter().map(|file| file.path.as_str()).collect();
        // First the files, then the manifest by which the API server restarts.
        assert_eq!(
            files,
            [
                APISERVER,
                "/etc/kubernetes/pki/apiserver.key",
                "/etc/kubernetes/manifests/kube-apiserver.yaml"
            ]
        );
        let FileTarget::Renewed { mode, .. } = step.files[1].after else {
            panic!("{:?}", step.files[1]);
        };
        assert_eq!(mode, 0o600);
        let gate = step.gate.as_ref().unwrap();
        assert!(gate.processes.contains_key(&API));
        assert_eq!(gate.certificates.len(), 1);
        assert_eq!(gate.certificates[0].than, leaf().not_after);
        // What is put back ends when it did.
        assert_eq!(step.undo_gate.as_ref().unwrap().certificates, []);
    }
    // It is the same an hour later, and nothing of a key is in it.
    let later = build(&desired, &renewable(&desired, 10 * DAY - 3_600));
    assert_eq!(plan, later);
    // One that lasts is left alone.
    assert!(build(&desired, &renewable(&desired, 40 * DAY)).is_clean());
}

#[test]
fn what_kubeadm_cannot_renew_is_an_error_that_says_why() {
    let desired = renewing();
    let key = Query::Stat(path("/etc/kubernetes/pki/ca.key"));
    for (query, fact, why) in [
        (key, Fact::Absent, "its authority is external"),
        (
            Query::Stat(path("/etc/kubernetes/pki/apiserver.key")),
            Fact::Absent,
            "is not there, so that kubeadm cannot renew it",
        ),
        (
            Query::Stat(path(APISERVER)),
            Fact::Value(Answer::Stat(meta(FileKind::Symlink, 0o777))),
            "links are not followed",
        ),
        (
            Query::Process(API.program()),
            Fact::Absent,
            "does not run just once",
        ),
    ] {
        let mut facts = renewable(&desired, 10 * DAY);
        put(&mut facts, "cp2", query, fact);
        let plan = build(&desired, &facts);
        let said = problems(&plan);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("Error cp2") && said[0].contains(why),
            "{said:?}"
        );
        assert_eq!(plan.steps().count(), 1, "the other one is renewed");
    }
    // It would never last for so long.
    let mut facts = renewable(&desired, 10 * DAY);
    let text = V1BETA4.replace(
        "certificateValidityPeriod: 8760h",
        "certificateValidityPeriod: 240h",
    );
    facts.api.cluster_configuration = Fact::Value(text);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean());
    assert!(
        problems(&plan)[0].contains("for 10 days only"),
        "{:?}",
        problems(&plan)
    );
}

#[test]
fn a_mode_that_is_wanted_of_the_file_goes_with_its_renewal() {
    let mut desired = renewing();
    desired.resources.push(resource(
        "mode",
        json!({"path": APISERVER, "mode": "0600", "owner": "root", "group": "root"}),
    ));
    let plan = build(&desired, &renewable(&desired, 10 * DAY));
    assert_eq!(stage_names(&plan), [StageName::ControlPlane]);
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    let FileTarget::Renewed { mode, .. } = step.files[0].after else {
        panic!("{:?}", step.files[0]);
    };
    assert_eq!(mode, 0o600);
}

#[test]
fn what_nobody_reads_at_its_start_is_renewed_without_a_restart() {
    const ADMIN: &str = "/etc/kubernetes/admin.conf";
    let table = json!({"path": ADMIN, "by-hand": "x", "days-left": 30, "renew": true});
    let desired = desired(vec![resource("certificate", table)]);
    let mut facts = cluster(&["cp1"], &desired);
    put_certificates(&mut facts, "cp1", ADMIN, leaf().not_after, vec![leaf()]);
    let plan = build(&desired, &facts);
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert_eq!(step.files.len(), 1);
    let gate = step.gate.as_ref().unwrap();
    assert!(gate.processes.is_empty());
    assert_eq!(gate.certificates[0].path.as_str(), ADMIN);
}

#[test]
fn only_what_kubeadm_renews_can_be_renewed() {
    for file in [
        "/etc/kubernetes/pki/ca.crt",
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
    ] {
        let table = json!({"path": file, "by-hand": "x", "days-left": 30, "renew": true});
        let kind = harden::resource::Kind::from_table("certificate", table);
        assert!(
            kind.is_err_and(|why| why.contains("kubeadm renews nothing here")),
            "{file}"
        );
    }
}
