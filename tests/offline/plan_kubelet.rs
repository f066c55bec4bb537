//! Plans for kubelets, kube-proxy and the kernel: copies, order, gates, and that executing one leaves
//! nothing to do.
use crate::plan_support::*;
use harden::distribution::kubeadm::KUBELET_CONFIG;
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::{Value, json};

fn kubelet(field: &str, value: Value) -> Resource {
    resource("kubelet", json!({"field": field, "value": value}))
}

/// Plans, executes, and plans again.
fn converges(desired: &Desired, facts: &mut Facts) -> Plan {
    let plan = build(desired, facts);
    assert_eq!(problems(&plan), Vec::<String>::new());
    execute(&plan, facts);
    let again = build(desired, facts);
    assert_eq!(lines(&again), Vec::<String>::new());
    assert_eq!(again.stages, vec![]);
    plan
}

#[test]
fn a_field_is_compared_in_all_three_copies_and_workers_come_first() {
    let desired = desired(vec![kubelet("eventRecordQPS", json!(5))]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = converges(&desired, &mut facts);
    assert_eq!(
        lines(&plan),
        [
            "API kubelet-config | kubelet eventRecordQPS: - → 5 (Safe)",
            "cp1 file | kubelet eventRecordQPS: - → 5 (Restart restarts)",
            "cp1 process | kubelet eventRecordQPS: 50 → 5 (Restart)",
            "worker file | kubelet eventRecordQPS: - → 5 (Restart restarts)",
            "worker process | kubelet eventRecordQPS: 50 → 5 (Restart)",
        ]
    );
    assert_eq!(
        stage_names(&plan),
        [StageName::Kubelets, StageName::KubeadmConfig]
    );
    let titles: Vec<String> = plan.steps().map(|(_, step)| step.title()).collect();
    assert_eq!(
        titles,
        [
            "worker: /var/lib/kubelet/config.yaml, restart kubelet",
            "cp1: /var/lib/kubelet/config.yaml, restart kubelet",
            "API: ConfigMap kube-system/kubelet-config kubelet",
        ]
    );
}

#[test]
fn the_gate_wants_what_the_kubelet_says_and_the_way_back_what_it_said() {
    let desired = desired(vec![
        kubelet("eventRecordQPS", json!(5)),
        kubelet("seccompDefault", json!(true)),
    ]);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    let (_, step) = plan.steps().next().unwrap();
    let Step::Node(step) = step else {
        panic!("{step:?}")
    };
    let values = |gate: &Option<Gate>| -> Vec<(String, Value)> {
        let gate = gate.as_ref().unwrap();
        assert_eq!(gate.readyz_port, None);
        let one = |f: &FieldValue| (f.path.join("."), f.value.clone());
        gate.kubelet.iter().map(one).collect()
    };
    assert_eq!(
        values(&step.gate),
        [
            ("eventRecordQPS".to_owned(), json!(5)),
            ("seccompDefault".to_owned(), json!(true))
        ]
    );
    assert_eq!(
        values(&step.undo_gate),
        [
            ("eventRecordQPS".to_owned(), json!(50)),
            ("seccompDefault".to_owned(), Value::Null)
        ]
    );
}

/// kube-bench reads the file and knows nothing of drop-in files and flags (kube-bench#1256, #948).
#[test]
fn kube_bench_1256_what_runs_counts_and_not_the_file_alone() {
    let desired = desired(vec![kubelet(
        "authentication.anonymous.enabled",
        json!(false),
    )]);
    let mut facts = cluster(&["cp1"], &desired);
    assert!(build(&desired, &facts).is_clean());
    // A drop-in file turns it on; the file stays as it is.
    facts.api.answers.insert(
        ApiQuery::KubeletConfig("worker".into()),
        Fact::Value(json!({"authentication": {"anonymous": {"enabled": true}}})),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "worker process | kubelet authentication.anonymous.enabled: true → false (Restart restarts)"
        ]
    );
    let (_, step) = plan.steps().next().unwrap();
    assert_eq!(step.title(), "worker: restart kubelet");
}

/// Kubernetes writes durations its own way, and leaves out what is zero.
#[test]
fn what_means_the_same_is_no_difference() {
    let desired = desired(vec![
        kubelet("streamingConnectionIdleTimeout", json!("4h")),
        kubelet("readOnlyPort", json!(0)),
    ]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = converges(&desired, &mut facts);
    // What is written down does not say the first; zero need not be written.
    assert!(
        plan.changes
            .iter()
            .all(|c| c.copy != Some(SettingCopy::Process))
    );
    assert!(
        plan.changes
            .iter()
            .all(|c| c.resource != "kubelet readOnlyPort")
    );
}

#[test]
fn a_mode_that_is_wanted_of_the_file_goes_with_it() {
    let desired = desired(vec![
        kubelet("eventRecordQPS", json!(5)),
        Resource {
            scope: Scope::Nodes,
            ..resource("mode", json!({"path": KUBELET_CONFIG, "mode": "0600"}))
        },
    ]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = converges(&desired, &mut facts);
    assert_eq!(
        stage_names(&plan),
        [StageName::Kubelets, StageName::KubeadmConfig]
    );
}

#[test]
fn what_cannot_be_read_is_never_taken_for_good() {
    // It is written down already, so nothing else would show.
    let desired = desired(vec![kubelet("rotateCertificates", json!(true))]);
    for (what, break_it) in [
        ("ConfigMap", 0),
        ("file", 1),
        ("not a KubeletConfiguration", 2),
        ("runs with", 3),
        ("does not tell", 4),
    ] {
        let mut facts = cluster(&["cp1"], &desired);
        let path = Query::File(path(KUBELET_CONFIG));
        let running = ApiQuery::KubeletConfig("cp1".into());
        let map = ApiQuery::ConfigMapKey {
            namespace: "kube-system".into(),
            name: "kubelet-config".into(),
            key: "kubelet".into(),
        };
        match break_it {
            0 => drop(facts.api.answers.insert(map, Fact::Unreadable("no".into()))),
            1 => put(&mut facts, "cp1", path, Fact::Unreadable("no".into())),
            2 => put(&mut facts, "cp1", path, file("kind: Pod\n", 0o600)),
            3 => drop(
                facts
                    .api
                    .answers
                    .insert(running, Fact::Unreadable("no".into())),
            ),
            _ => drop(facts.api.answers.insert(running, Fact::Absent)),
        }
        let plan = build(&desired, &facts);
        assert!(plan.is_incomplete(), "{what}: {:?}", problems(&plan));
    }
}

/// `kubeadm upgrade node` writes the file from the ConfigMap, and leaves out what is zero (kubeadm#541 for
/// kubelets): the plan after an upgrade must not ask for it again.
#[test]
fn kubeadm_541_a_zero_that_kubeadm_leaves_out_is_no_difference() {
    let desired = desired(vec![kubelet("readOnlyPort", json!(0))]);
    let mut facts = cluster(&["cp1"], &desired);
    assert!(build(&desired, &facts).is_clean());
    let running = ApiQuery::KubeletConfig("worker".into());
    let open = json!({"readOnlyPort": 10255});
    facts.api.answers.insert(running, Fact::Value(open));
    let found = lines(&converges(&desired, &mut facts));
    assert!(
        found.iter().any(|line| line.starts_with("worker file")),
        "{found:?}"
    );
}

/// Its file may be what keeps it from answering.
#[test]
fn a_kubelet_that_does_not_answer_is_mended_by_its_file() {
    let desired = desired(vec![kubelet("eventRecordQPS", json!(5))]);
    let mut facts = cluster(&["cp1"], &desired);
    let running = ApiQuery::KubeletConfig("worker".into());
    facts.api.answers.insert(running, Fact::Absent);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), Vec::<String>::new());
    assert!(
        lines(&plan)
            .iter()
            .any(|line| line.starts_with("worker file | kubelet eventRecordQPS"))
    );
}

#[test]
fn a_plan_rests_on_the_fields_that_it_looks_at_and_on_no_others() {
    let desired = desired(vec![kubelet("eventRecordQPS", json!(5))]);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    let running = ApiQuery::KubeletConfig("worker".into());
    let moved = |change: &dyn Fn(&mut Value)| {
        let mut facts = facts.clone();
        let Some(Fact::Value(value)) = facts.api.answers.get_mut(&running) else {
            panic!("nobody asked");
        };
        change(value);
        compare(&plan, &facts).moved
    };
    assert_eq!(
        moved(&|value| value["maxPods"] = json!(7)),
        Vec::<String>::new()
    );
    assert_eq!(
        moved(&|value| value["eventRecordQPS"] = json!(7)),
        ["API: configuration of the kubelet of worker"]
    );
}

#[test]
fn kube_proxy_is_restarted_once_and_only_where_it_runs_with_something_else() {
    let wanted = json!({"field": "metricsBindAddress", "value": "127.0.0.1:10249"});
    let desired = desired(vec![resource("kube-proxy", wanted)]);
    let mut facts = cluster(&["cp1"], &desired);
    for fact in facts.api.answers.values_mut() {
        if let Fact::Value(Value::Object(running)) = fact {
            running.insert("metricsbindaddress".into(), "0.0.0.0:10249".into());
        }
    }
    let plan = converges(&desired, &mut facts);
    assert_eq!(
        lines(&plan),
        [
            "API kube-proxy config | kube-proxy metricsBindAddress:  → 127.0.0.1:10249 (Safe)",
            "cp1 process | kube-proxy metricsBindAddress: 0.0.0.0:10249 → 127.0.0.1:10249 (Restart restarts)",
            "worker process | kube-proxy metricsBindAddress: 0.0.0.0:10249 → 127.0.0.1:10249 (Restart restarts)",
        ]
    );
    assert_eq!(stage_names(&plan), [StageName::KubeProxy]);
    let (_, step) = plan.steps().next().unwrap();
    assert_eq!(
        step.title(),
        "API: ConfigMap kube-system/kube-proxy config.conf, restart DaemonSet kube-proxy"
    );
}

/// RKE2's `profile: cis` refuses to start where a parameter differs (rke2#851); here it is set, now
/// and for the next boot, before the kubelet is told to insist on it.
#[test]
fn kubernetes_66241_the_kernel_is_set_for_good_before_the_kubelet_insists_on_it() {
    let desired = desired(vec![
        kubelet("protectKernelDefaults", json!(true)),
        resource("sysctl", json!({"name": "kernel.panic", "value": 10})),
    ]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = converges(&desired, &mut facts);
    assert_eq!(
        stage_names(&plan),
        [
            StageName::NodeFiles,
            StageName::Kubelets,
            StageName::KubeadmConfig
        ]
    );
    assert_eq!(
        lines(&plan)
            .into_iter()
            .filter(|l| l.contains("sysctl"))
            .collect::<Vec<_>>(),
        [
            "cp1 process | sysctl kernel.panic: 0 → 10 (Restart)",
            "cp1 file | sysctl kernel.panic: - → 10 in /etc/sysctl.d/99-zz-harden-kernel.panic.conf (Safe)",
            "worker process | sysctl kernel.panic: 0 → 10 (Restart)",
            "worker file | sysctl kernel.panic: - → 10 in /etc/sysctl.d/99-zz-harden-kernel.panic.conf (Safe)",
        ]
    );
}

fn bootstrap() -> Desired {
    desired(vec![
        kubelet("serverTLSBootstrap", json!(true)),
        resource("serving-certificate", json!({})),
    ])
}

fn pending(name: &str, username: &str, pem: &str) -> Value {
    json!({"name": name, "uid": name, "signer": "kubernetes.io/kubelet-serving", "username": username,
        "groups": ["system:nodes", "system:authenticated"],
        "usages": ["digital signature", "server auth"], "pem": pem, "state": "pending"})
}

fn set_requests(facts: &mut Facts, requests: Value) {
    let query = ApiQuery::ServingRequests;
    facts.api.answers.insert(query, Fact::Value(requests));
}

const GOOD: &str = include_str!("../fixtures/signing-requests/good.pem");
const EXTRA_IP: &str = include_str!("../fixtures/signing-requests/extra-ip.pem");

#[test]
fn kubeadm_1635_certificates_are_approved_by_the_kubelets_gate_and_before_the_control_plane() {
    let desired = bootstrap();
    let mut facts = cluster(&["cp1"], &desired);
    let plan = converges(&desired, &mut facts);
    assert_eq!(
        lines(&plan)
            .into_iter()
            .filter(|l| l.contains("certificate"))
            .collect::<Vec<_>>(),
        [
            "cp1 | kubelet serving certificate: not trusted: invalid peer certificate: UnknownIssuer → of the cluster's CA (Reload)",
            "worker | kubelet serving certificate: not trusted: invalid peer certificate: UnknownIssuer → of the cluster's CA (Reload)",
        ]
    );
    assert_eq!(
        stage_names(&plan),
        [
            StageName::Kubelets,
            StageName::ServingCertificates,
            StageName::KubeadmConfig
        ]
    );
    for (_, step) in plan.steps() {
        if let Step::Node(step) = step {
            assert!(step.gate.as_ref().unwrap().serving_certificate);
            assert!(!step.undo_gate.as_ref().unwrap().serving_certificate);
        }
    }
    assert!(StageName::ServingCertificates < StageName::ControlPlane);
}

/// A node that has joined such a cluster: it has been asking since, and answers nobody. The gate of a step
/// that restarts it would wait for an answer that comes only after a later stage.
#[test]
fn kubeadm_1635_a_kubelet_that_waits_since_it_joined_is_approved_by_the_gate_of_any_step() {
    let desired = desired(vec![
        kubelet("serverTLSBootstrap", json!(true)),
        kubelet("eventRecordQPS", json!(5)),
        resource("serving-certificate", json!({})),
    ]);
    let mut facts = cluster(&["cp1"], &desired);
    let joined = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n";
    let query = Query::File(path(KUBELET_CONFIG));
    put(&mut facts, "worker", query, file(joined, 0o644));
    let running = ApiQuery::KubeletConfig("worker".into());
    facts.api.answers.insert(running, Fact::Absent);
    let plan = build(&desired, &facts);
    let step = plan.steps().find_map(|(_, step)| match step {
        Step::Node(step) if step.node == "worker" => Some(step),
        _ => None,
    });
    let step = step.expect("its file is changed");
    assert!(step.gate.as_ref().unwrap().serving_certificate);
    // It answered nobody before, and need not when it is put back.
    assert_eq!(step.undo_gate, Some(Gate::default()));
}

#[test]
fn another_field_leaves_the_certificate_to_its_own_stage() {
    let desired = desired(vec![
        kubelet("eventRecordQPS", json!(5)),
        resource("serving-certificate", json!({})),
    ]);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    let gates = plan.steps().filter_map(|(_, step)| match step {
        Step::Node(step) => step.gate.clone(),
        _ => None,
    });
    assert!(gates.into_iter().all(|gate| !gate.serving_certificate));
}

/// Later rotations make requests again, and nothing in Kubernetes approves them.
#[test]
fn kubernetes_73356_a_request_that_waits_is_a_change_and_a_bad_one_a_warning() {
    let desired = desired(vec![resource("serving-certificate", json!({}))]);
    let mut facts = cluster(&["cp1"], &desired);
    for node in ["cp1", "worker"] {
        let query = ApiQuery::ServingCertificate(node.into());
        let trusted = Fact::Value(served(node, true));
        facts.api.answers.insert(query, trusted);
    }
    assert!(build(&desired, &facts).is_clean());
    set_requests(
        &mut facts,
        json!([
            pending("csr-1", "system:node:worker", GOOD),
            pending("csr-2", "system:node:worker", EXTRA_IP),
            pending("csr-3", "mallory", GOOD),
            // Of a node that is not in the plan.
            pending("csr-4", "system:node:other", GOOD),
        ]),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "worker | kubelet serving certificate: request csr-1 waits for approval → approve the request of worker (Reload)"
        ]
    );
    assert_eq!(
        problems(&plan),
        [
            "Warning worker | kubelet serving certificate: request csr-2 is not approved: the IP address 10.0.0.1 is no address of the Node object",
            "Warning worker | kubelet serving certificate: request csr-3 is not approved: mallory made it, not system:node:worker",
            "Warning worker | kubelet serving certificate: request csr-4 is not approved: system:node:other made it, not system:node:worker",
        ]
    );
    assert!(!plan.is_incomplete());
    // The kubelet may have asked again by the time of the apply.
    set_requests(&mut facts, json!([]));
    assert_eq!(compare(&plan, &facts).moved, Vec::<String>::new());
    let query = ApiQuery::ServingCertificate("worker".into());
    let untrusted = Fact::Value(served("worker", false));
    facts.api.answers.insert(query, untrusted);
    assert_eq!(
        compare(&plan, &facts).moved,
        ["API: serving certificate of the kubelet of worker"]
    );
}

#[test]
fn denied_and_failed_requests_are_told_while_the_certificate_is_not_served() {
    let desired = desired(vec![resource("serving-certificate", json!({}))]);
    let mut facts = cluster(&["cp1"], &desired);
    let mut denied = pending("csr-1", "system:node:worker", GOOD);
    denied["state"] = json!({"denied": "Policy: no"});
    let mut failed = pending("csr-2", "system:node:worker", GOOD);
    failed["state"] = json!({"failed": "no key"});
    set_requests(&mut facts, json!([denied, failed]));
    assert_eq!(
        problems(&build(&desired, &facts)),
        [
            "Warning worker | kubelet serving certificate: request csr-1 was denied: Policy: no",
            "Warning worker | kubelet serving certificate: the signer could not serve request csr-2: no key",
        ]
    );
    let query = ApiQuery::ServingCertificate("worker".into());
    let trusted = Fact::Value(served("worker", true));
    facts.api.answers.insert(query, trusted);
    assert_eq!(problems(&build(&desired, &facts)), Vec::<String>::new());
}

#[test]
fn what_cannot_be_asked_about_certificates_is_never_taken_for_good() {
    let desired = desired(vec![resource("serving-certificate", json!({}))]);
    let worker = ApiQuery::ServingCertificate("worker".into());
    for (query, fact) in [
        (worker.clone(), Fact::Unreadable("no".into())),
        (worker.clone(), Fact::Absent),
        (worker, Fact::Value(json!({"trusted": "yes"}))),
        (ApiQuery::ServingRequests, Fact::Unreadable("no".into())),
        (ApiQuery::ServingRequests, Fact::Value(json!([1]))),
    ] {
        let mut facts = cluster(&["cp1"], &desired);
        facts.api.answers.insert(query.clone(), fact);
        assert!(build(&desired, &facts).is_incomplete(), "{query}");
    }
}
