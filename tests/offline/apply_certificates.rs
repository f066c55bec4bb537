//! Kubelets' serving certificates: which requests an apply approves, and what it waits for. The API
//! and the signer are fakes; the check of a request is the real one.

use std::time::Duration;

use crate::apply_world::cluster::{BOOTSTRAP, ClientSide, Cluster, Fate, KUBELET, Signer};
use crate::apply_world::scratch;
use harden::apply::ApplyError;
use harden::fact::{SigningRequest, SigningState};
use harden::generation::{self, Outcome};
use harden::plan::{
    FieldValue, FileTarget, Gate, NodeStep, Plan, ServingCertificateStep, Stage, StageName, Step,
};
use serde_json::json;

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../fixtures/signing-requests/", $name, ".pem"))
    };
}

fn request(name: &str, username: &str, pem: &str) -> SigningRequest {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    SigningRequest {
        name: name.into(),
        uid: name.into(),
        signer: "kubernetes.io/kubelet-serving".into(),
        username: username.into(),
        groups: words(&["system:nodes", "system:authenticated"]),
        usages: words(&["digital signature", "server auth"]),
        pem: pem.into(),
        state: SigningState::Pending,
    }
}

fn good(name: &str) -> SigningRequest {
    request(name, "system:node:w1", pem!("w1"))
}

/// A plan whose only stage is that of the certificates.
fn plan(cluster: &Cluster) -> Plan {
    let mut plan = cluster.plan("--profiling=false");
    let step = ServingCertificateStep { node: "w1".into() };
    plan.stages = vec![Stage {
        name: StageName::ServingCertificates,
        steps: vec![Step::ServingCertificate(step)],
    }];
    plan
}

/// A plan that tells the kubelet of w1 to ask for a certificate, as the planner makes it.
fn bootstrap_plan(cluster: &Cluster) -> Plan {
    let node = &cluster.nodes["w1"];
    node.write(KUBELET, "{}\n", 0o600);
    let gate = |on: bool| Gate {
        kubelet: vec![FieldValue {
            path: vec!["serverTLSBootstrap".into()],
            value: json!(on),
        }],
        serving_certificate: on,
        ..Gate::default()
    };
    let mut plan = plan(cluster);
    plan.stages.insert(
        0,
        Stage {
            name: StageName::Kubelets,
            steps: vec![Step::Node(NodeStep {
                node: "w1".into(),
                files: vec![node.set(KUBELET, BOOTSTRAP)],
                units: vec![],
                gate: Some(gate(true)),
                undo_gate: Some(gate(false)),
                uniform: false,
            })],
        },
    );
    plan
}

fn world(requests: Vec<SigningRequest>) -> (tempfile::TempDir, Cluster, ClientSide) {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    cluster.state.lock().unwrap().requests = requests;
    let client = cluster.client(&Fate::new());
    (dir, cluster, client)
}

fn states(cluster: &Cluster) -> Vec<(String, SigningState)> {
    let state = cluster.state.lock().unwrap();
    let one = |r: &SigningRequest| (r.name.clone(), r.state.clone());
    state.requests.iter().map(one).collect()
}

fn why(result: Result<harden::apply::Report, ApplyError>) -> String {
    match result {
        Err(ApplyError::Failed { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_request_is_approved_and_those_of_others_are_left_alone() {
    let (_dir, cluster, mut client) = world(vec![
        request("csr-alien", "mallory", pem!("w1")),
        request("csr-cp1", "system:node:cp1", pem!("other-node")),
        good("csr-good"),
    ]);
    let report = client.run(&plan(&cluster)).unwrap();
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(
        states(&cluster),
        [
            ("csr-alien".to_owned(), SigningState::Pending),
            ("csr-cp1".to_owned(), SigningState::Pending),
            ("csr-good".to_owned(), SigningState::Issued),
        ]
    );
    let notes = report.notes.join("\n");
    assert!(
        notes.contains("request csr-good of w1 is approved"),
        "{notes}"
    );
    assert!(
        notes.contains("request csr-alien in the name of w1 is NOT approved: mallory made it"),
        "{notes}"
    );
    assert!(!notes.contains("csr-cp1"), "{notes}");
    cluster.forget();
}

#[test]
fn a_request_for_an_address_that_is_not_the_nodes_is_never_approved_and_is_named() {
    let bad = request("csr-bad", "system:node:w1", pem!("w1-extra-ip"));
    let (_dir, cluster, mut client) = world(vec![bad]);
    client.settings.gate_timeout = Duration::from_millis(300);
    let why = why(client.run(&plan(&cluster)));
    let part = "csr-bad is not approved: the IP address 10.0.0.1 is no address of the Node object";
    assert!(why.contains(part), "{why}");
    assert_eq!(states(&cluster)[0].1, SigningState::Pending);
    cluster.forget();
}

#[test]
fn a_bad_request_from_before_does_not_hinder_the_good_one_that_comes() {
    let bad = request("csr-bad", "system:node:w1", pem!("w1-extra-ip"));
    let (_dir, cluster, mut client) = world(vec![bad, good("csr-good")]);
    client.run(&plan(&cluster)).unwrap();
    assert_eq!(states(&cluster)[0].1, SigningState::Pending);
    assert_eq!(states(&cluster)[1].1, SigningState::Issued);
    cluster.forget();
}

/// What the kubelet asks for now will not get better by waiting.
#[test]
fn a_bad_request_that_comes_ends_the_waiting_and_says_what_to_check() {
    let bad = request("csr-bad", "system:node:w1", pem!("w1-extra-ip"));
    let (_dir, cluster, mut client) = world(vec![]);
    client.settings.gate_timeout = Duration::from_secs(600);
    cluster.state.lock().unwrap().later = vec![bad];
    let why = why(client.run(&plan(&cluster)));
    for part in [
        "csr-bad",
        "10.0.0.1",
        "--node-ip",
        "kubectl certificate deny csr-bad",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(states(&cluster)[0].1, SigningState::Pending);
    cluster.forget();
}

#[test]
fn every_good_request_is_approved_so_that_the_next_plan_has_none_left() {
    let (_dir, cluster, mut client) = world(vec![good("csr-1"), good("csr-2")]);
    client.run(&plan(&cluster)).unwrap();
    assert!(
        states(&cluster)
            .iter()
            .all(|(_, s)| *s == SigningState::Issued)
    );
    cluster.forget();
}

#[test]
fn a_kubelet_that_never_asks_is_told_with_what_became_of_earlier_requests() {
    let mut denied = good("csr-denied");
    denied.state = SigningState::Denied("Policy: no".into());
    let (_dir, cluster, mut client) = world(vec![denied]);
    client.settings.gate_timeout = Duration::from_millis(300);
    let why = why(client.run(&plan(&cluster)));
    for part in [
        "the kubelet to ask for a certificate",
        "the kubelet has no certificate yet",
        "csr-denied was denied: Policy: no",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    cluster.forget();
}

#[test]
fn a_signer_that_fails_or_sleeps_is_told() {
    for (signer, part) in [
        (Signer::Fails, "the signer failed: no key"),
        (Signer::Sleeps, "which kube-controller-manager signs"),
    ] {
        let (_dir, cluster, mut client) = world(vec![good("csr-good")]);
        cluster.state.lock().unwrap().signer = signer;
        client.settings.gate_timeout = Duration::from_millis(300);
        let why = why(client.run(&plan(&cluster)));
        assert!(why.contains("csr-good") && why.contains(part), "{why}");
        cluster.forget();
    }
}

#[test]
fn an_interrupt_ends_the_waiting() {
    let (_dir, cluster, mut client) = world(vec![]);
    client.interrupt_at = Some("the kubelet to ask");
    assert!(why(client.run(&plan(&cluster))).contains("interrupted"));
    cluster.forget();
}

/// Wherever the client dies, the next run finishes it, and what must not be approved is not.
#[test]
fn killed_at_every_call_and_taken_up_again() {
    let mut ended = false;
    for last in 1..60 {
        let alien = request("csr-alien", "mallory", pem!("w1"));
        let (_dir, cluster, mut client) = world(vec![alien, good("csr-good")]);
        client.fate = Fate::dying(last, last % 2 == 0);
        client.holder = Cluster::ghost();
        ended = client.run_and_die(&plan(&cluster)).is_some();
        let mut next = cluster.client(&Fate::new());
        let recovered = next.recover().unwrap();
        let done = states(&cluster)[1].1 == SigningState::Issued;
        // What was never begun is put back, which is nothing here.
        let applied = |r: &harden::apply::Report| r.record.outcome() == Some(&Outcome::Applied);
        assert!(
            !recovered.as_ref().is_some_and(applied) || done,
            "call {last}"
        );
        assert_eq!(states(&cluster)[0].1, SigningState::Pending, "call {last}");
        // Locks of a run that had not begun are taken over by the next.
        assert!(
            recovered.is_none() || cluster.locks().is_empty(),
            "call {last}"
        );
        cluster.forget();
        if ended {
            break;
        }
    }
    assert!(ended, "the run has fewer calls than that");
}

#[test]
fn a_rollback_says_that_an_approval_stays() {
    let (_dir, cluster, mut client) = world(vec![good("csr-good")]);
    let record = client.run(&plan(&cluster)).unwrap().record;
    let lookup = generation::rollback_lookup(&record);
    let undo = generation::rollback_plan(&record, &cluster.current(&lookup));
    assert_eq!(undo.stages, []);
    assert!(!undo.is_incomplete());
    assert_eq!(undo.problems.len(), 1);
    assert!(undo.problems[0].message.contains("stays valid"));
    cluster.forget();
}

/// Nothing in Kubernetes approves the request (kubernetes#73356), and a kubelet without a certificate
/// answers nobody: a gate that only waited would wait for ever.
#[test]
fn kubernetes_73356_the_gate_of_the_kubelet_approves_what_it_waits_for() {
    let (_dir, cluster, mut client) = world(vec![]);
    cluster.state.lock().unwrap().later = vec![good("csr-good")];
    let report = client.run(&bootstrap_plan(&cluster)).unwrap();
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(states(&cluster)[0].1, SigningState::Issued);
    let undo = {
        let lookup = generation::rollback_lookup(&report.record);
        generation::rollback_plan(&report.record, &cluster.current(&lookup))
    };
    assert!(!undo.is_incomplete(), "{:?}", undo.problems);
    let Some((_, Step::Node(step))) = undo.steps().next() else {
        panic!("{undo:?}")
    };
    assert!(matches!(step.files[0].after, FileTarget::PreImage { .. }));
    client.run(&undo).unwrap();
    assert_eq!(cluster.nodes["w1"].read(KUBELET).unwrap(), "{}\n");
    cluster.forget();
}

/// Where the request may not be approved, `logs` and `exec` would fail for good (kubeadm#1635): the
/// kubelet gets its old configuration back.
#[test]
fn kubeadm_1635_a_kubelet_whose_request_is_refused_is_put_back() {
    let bad = request("csr-bad", "system:node:w1", pem!("w1-extra-ip"));
    let (_dir, cluster, mut client) = world(vec![]);
    cluster.state.lock().unwrap().later = vec![bad];
    let why = why(client.run(&bootstrap_plan(&cluster)));
    assert!(why.contains("csr-bad"), "{why}");
    assert!(why.contains("its kubelet runs as before"), "{why}");
    assert_eq!(cluster.nodes["w1"].read(KUBELET).unwrap(), "{}\n");
    assert_eq!(states(&cluster)[0].1, SigningState::Pending);
    cluster.forget();
}
