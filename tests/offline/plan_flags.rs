//! Flags and component files: three copies, compared one by one.

use crate::plan_support::*;
use harden::distribution::Component;
use harden::distribution::kubeadm::{
    ClusterConfiguration, Manifest, edit_cluster_configuration, manifest_path,
};
use harden::distribution::{ComponentEdit, kubeadm};
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::json;

fn process_query() -> Query {
    Query::Process(API.program())
}

fn manifest_query() -> Query {
    Query::File(manifest_path(API))
}

/// Facts in which the given copies have extra flags already.
fn with_flags(facts: &mut Facts, node: &str, words: &str, in_manifest: bool, in_process: bool) {
    let text = manifest(facts, node, API).replace(
        "    image: registry",
        &format!("    - {words}\n    image: registry"),
    );
    if in_manifest {
        put(facts, node, manifest_query(), file(&text, 0o600));
    }
    if in_process {
        let argv = Manifest::parse(&text, API).unwrap().argv;
        put(facts, node, process_query(), process(7, argv));
    }
}

fn with_config(facts: &mut Facts, name: &str, value: &str) {
    let edit = ComponentEdit::SetFlag {
        name: name.into(),
        value: value.into(),
    };
    let text = facts.api.cluster_configuration.value().unwrap();
    let text = edit_cluster_configuration(text, API, &[edit]).unwrap();
    facts.api.cluster_configuration = Fact::Value(text);
}

#[test]
fn every_wrong_copy_is_named() {
    let desired = desired(vec![flag("profiling", false)]);
    let facts = cluster(&["cp1", "cp2"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    insta::assert_snapshot!(lines(&plan).join("\n"), @r"
    API kubeadm-config | kube-apiserver --profiling: - → false (Safe)
    cp1 manifest | kube-apiserver --profiling: - → false (Restart restarts)
    cp1 process | kube-apiserver --profiling: - → false (Restart)
    cp2 manifest | kube-apiserver --profiling: - → false (Restart restarts)
    cp2 process | kube-apiserver --profiling: - → false (Restart)
    ");
    assert_eq!(
        stage_names(&plan),
        [StageName::ControlPlane, StageName::KubeadmConfig]
    );
    let titles: Vec<String> = plan.steps().map(|(_, step)| step.title()).collect();
    assert_eq!(
        titles,
        [
            "cp1: /etc/kubernetes/manifests/kube-apiserver.yaml",
            "cp2: /etc/kubernetes/manifests/kube-apiserver.yaml",
            "API: ConfigMap kube-system/kubeadm-config ClusterConfiguration",
        ]
    );
    insta::assert_snapshot!(plan.changes[1].diff.as_ref().unwrap(), @r"
    --- /etc/kubernetes/manifests/kube-apiserver.yaml
    +++ /etc/kubernetes/manifests/kube-apiserver.yaml
    @@ -40,6 +40,7 @@
         - --tls-cert-file=/etc/kubernetes/pki/apiserver.crt
         - --tls-private-key-file=/etc/kubernetes/pki/apiserver.key
         - --runtime-config=
    +    - --profiling=false
         image: registry.k8s.io/kube-apiserver:v1.35.4
         imagePullPolicy: IfNotPresent
         livenessProbe:
    ");
    assert!(
        plan.changes[0]
            .diff
            .as_ref()
            .unwrap()
            .contains("+  - name: profiling")
    );
    let with_diff = plan.changes.iter().filter(|c| c.diff.is_some()).count();
    assert_eq!(with_diff, 3);
}

#[test]
fn the_gate_expects_the_whole_new_command_line() {
    let desired = desired(vec![flag("profiling", false)]);
    let mut facts = cluster(&["cp1"], &desired);
    let text = manifest(&facts, "cp1", API).replace("--secure-port=6443", "--secure-port=8443");
    put(&mut facts, "cp1", manifest_query(), file(&text, 0o640));
    let plan = build(&desired, &facts);
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    let gate = step.gate.as_ref().unwrap();
    assert_eq!(gate.readyz_port, Some(8443));
    let argv = &gate.processes[&API];
    assert_eq!(argv.len(), 30);
    assert_eq!(argv[0], "kube-apiserver");
    assert_eq!(argv.last().unwrap(), "--profiling=false");
    let FileTarget::Text { mode, text, .. } = &step.files[0].after else {
        panic!()
    };
    assert_eq!(*mode, 0o640, "the mode is kept");
    assert_eq!(Manifest::parse(text, API).unwrap().argv, *argv);
}

#[test]
fn kubeadm_541_a_fix_that_the_next_upgrade_would_undo_is_named() {
    // The fix stands in the manifest and runs, but kubeadm does not know of it.
    let desired = desired(vec![flag("profiling", false)]);
    let mut facts = cluster(&["cp1"], &desired);
    with_flags(&mut facts, "cp1", "--profiling=false", true, true);
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        ["API kubeadm-config | kube-apiserver --profiling: - → false (Safe)"]
    );
    assert_eq!(stage_names(&plan), [StageName::KubeadmConfig]);
}

#[test]
fn a_process_that_missed_its_manifest_is_restarted() {
    let desired = desired(vec![flag("profiling", false), flag("v", 2)]);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, "profiling", "false");
    with_config(&mut facts, "v", "2");
    with_flags(&mut facts, "cp1", "--profiling=false", true, false);
    with_flags(&mut facts, "cp1", "--v=2", true, false);
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "cp1 process | kube-apiserver --profiling: - → false (Restart restarts)",
            "cp1 process | kube-apiserver --v: - → 2 (Restart restarts)",
        ]
    );
    let diff = plan.changes[0].diff.as_ref().unwrap();
    assert!(
        diff.contains("+    harden.dev/restart: \"7-100\""),
        "{diff}"
    );
    assert!(plan.changes[1].diff.is_none());
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    // The kubelet did not restart it: the same annotation again would do nothing.
    with_flags(&mut facts, "cp1", "--other=1", false, false);
    let old = Manifest::parse(MANIFESTS[0].1, API).unwrap().argv;
    put(&mut facts, "cp1", process_query(), process(7, old));
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && plan.is_incomplete());
    insta::assert_snapshot!(problems(&plan).join("\n"), @"Error cp1 | kube-apiserver: its manifest is right and asks for a restart that the kubelet has not made");
}

#[test]
fn a_restart_is_not_asked_for_beside_another_edit() {
    let desired = desired(vec![flag("profiling", false), flag("v", 2)]);
    let mut facts = cluster(&["cp1"], &desired);
    with_flags(&mut facts, "cp1", "--profiling=false", true, false);
    let plan = build(&desired, &facts);
    let json = serde_json::to_string(&plan).unwrap();
    assert!(!json.contains("harden.dev/restart"));
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn a_flag_given_twice_with_different_values_is_a_difference() {
    let desired = desired(vec![flag("profiling", false)]);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, "profiling", "false");
    with_flags(&mut facts, "cp1", "--profiling=true", true, true);
    with_flags(&mut facts, "cp1", "--profiling=false", true, true);
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "cp1 manifest | kube-apiserver --profiling: true and false → false (Restart restarts)",
            "cp1 process | kube-apiserver --profiling: true and false → false (Restart)",
        ]
    );
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn a_flag_given_twice_with_one_value_is_none() {
    let desired = desired(vec![flag("profiling", false)]);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, "profiling", "false");
    with_flags(&mut facts, "cp1", "--profiling=false", true, true);
    with_flags(&mut facts, "cp1", "--profiling=false", true, true);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn order_alone_is_no_difference() {
    let desired = desired(vec![flag("authorization-mode", json!(["Node", "RBAC"]))]);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, "authorization-mode", "Node,RBAC");
    let plan = build(&desired, &facts);
    assert_eq!(lines(&plan), [""; 0]);
    assert!(plan.stages.is_empty());
}

#[test]
fn an_exact_list_counts_as_written() {
    let desired = desired(vec![flag("authorization-mode", json!(["RBAC", "Node"]))]);
    let facts = cluster(&["cp1"], &desired);
    assert_eq!(build(&desired, &facts).changes.len(), 3);
}

fn additive(name: &str, items: &[&str]) -> Resource {
    resource(
        "flag",
        json!({"component": "kube-apiserver", "name": name, "value": items, "merge": "additive"}),
    )
}

#[test]
fn what_is_there_is_kept_when_items_are_added() {
    let desired = desired(vec![additive(
        "enable-admission-plugins",
        &["AlwaysPullImages", "NodeRestriction"],
    )]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let other = manifest(&facts, "cp2", API).replace("=NodeRestriction", "=EventRateLimit");
    put(&mut facts, "cp2", manifest_query(), file(&other, 0o600));
    let plan = build(&desired, &facts);
    let all = "NodeRestriction,EventRateLimit,AlwaysPullImages";
    assert!(
        plan.changes.iter().all(|c| c.after.as_deref() == Some(all)),
        "{:?}",
        lines(&plan)
    );
    assert_eq!(plan.changes.len(), 5);
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn an_item_of_the_same_key_is_replaced() {
    let desired = desired(vec![additive("feature-gates", &["A=true"])]);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, "feature-gates", "B=true,A=false");
    let plan = build(&desired, &facts);
    assert_eq!(plan.changes[0].after.as_deref(), Some("B=true,A=true"));
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn two_values_of_one_key_are_refused() {
    let table = |items: &[&str]| {
        let table = json!({
            "component": "kube-apiserver", "name": "feature-gates", "value": items, "merge": "additive",
        });
        harden::resource::Kind::from_table("flag", table)
    };
    let why = table(&["A=true", "B=true", "A=false"]).unwrap_err();
    assert_eq!(
        why,
        "value: \"A=true\" and \"A=false\" give one key two values"
    );
    table(&["A=true", "B=true", "A=true"]).unwrap();
}

#[test]
fn more_items_than_wanted_satisfy_an_additive_flag() {
    let desired = desired(vec![additive("authorization-mode", &["RBAC"])]);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, "authorization-mode", "Webhook,RBAC");
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn an_absent_flag_is_removed_from_every_copy() {
    let table = json!({"component": "kube-apiserver", "name": "runtime-config", "merge": "absent"});
    let desired = desired(vec![resource("flag", table)]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(plan.changes.len(), 3);
    assert!(
        plan.changes
            .iter()
            .all(|c| c.after.is_none() && c.before.as_deref() == Some(""))
    );
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    let config = ClusterConfiguration::parse(facts.api.cluster_configuration.value().unwrap());
    assert!(config.unwrap().args(API).is_empty());
}

#[test]
fn unreadable_copies_are_errors_with_a_remedy() {
    let desired = desired(vec![flag("profiling", false)]);
    let cases: Vec<(Query, Fact<Answer>, &str)> = vec![
        (
            manifest_query(),
            Fact::Absent,
            "/etc/kubernetes/manifests/kube-apiserver.yaml is not there",
        ),
        (
            manifest_query(),
            Fact::Unreadable("no right".into()),
            "/etc/kubernetes/manifests/kube-apiserver.yaml could not be read: no right",
        ),
        (
            manifest_query(),
            file("a: 1\na: 2\n", 0o600),
            "/etc/kubernetes/manifests/kube-apiserver.yaml: it is not one readable YAML document",
        ),
        (
            manifest_query(),
            Fact::Value(Answer::File(File {
                meta: meta(FileKind::Regular, 0o600),
                content: vec![0xff, 0xfe],
            })),
            "/etc/kubernetes/manifests/kube-apiserver.yaml could not be read: it is not UTF-8 text",
        ),
        (process_query(), Fact::Absent, "kube-apiserver does not run"),
        (
            process_query(),
            Fact::Unreadable("no right".into()),
            "the command line of kube-apiserver could not be read: no right",
        ),
        (
            process_query(),
            Fact::Value(Answer::Process(vec![
                Process {
                    pid: 1,
                    start: 1,
                    argv: vec![],
                },
                Process {
                    pid: 2,
                    start: 2,
                    argv: vec![],
                },
            ])),
            "2 processes of kube-apiserver run",
        ),
    ];
    for (query, fact, message) in cases {
        let mut facts = cluster(&["cp1", "cp2"], &desired);
        put(&mut facts, "cp1", query.clone(), fact);
        let plan = build(&desired, &facts);
        let found = problems(&plan);
        assert_eq!(found.len(), 1, "{found:?}");
        let start = format!("Error cp1 | kube-apiserver --profiling: {message}");
        assert!(found[0].starts_with(&start), "{found:?}");
        assert!(plan.is_incomplete());
        // Nothing is planned on what is not known, and the other node does not suffer.
        let known = if query == manifest_query() { 3 } else { 4 };
        assert_eq!(plan.changes.len(), known, "{:?}", lines(&plan));
    }
}

#[test]
fn an_unreadable_cluster_configuration_is_an_error() {
    let desired = desired(vec![flag("profiling", false)]);
    for fact in [
        Fact::Absent,
        Fact::Unreadable("forbidden".into()),
        Fact::Value("x: [".into()),
        Fact::Value(V1BETA4.replace("v1beta4", "v1beta9")),
    ] {
        let mut facts = cluster(&["cp1"], &desired);
        facts.api.cluster_configuration = fact;
        let plan = build(&desired, &facts);
        assert!(plan.is_incomplete());
        assert_eq!(stage_names(&plan), [StageName::ControlPlane]);
        assert_eq!(plan.changes.len(), 2);
    }
}

#[test]
fn one_unreachable_node_does_not_hide_the_others() {
    let desired = desired(vec![flag("profiling", false), flag("v", 2)]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let cp1 = facts.nodes.get_mut("cp1").unwrap();
    cp1.facts = Fact::Unreadable("timeout".into());
    cp1.remedy = "look at its cable".into();
    let plan = build(&desired, &facts);
    assert_eq!(plan.problems[0].remedy, "look at its cable");
    assert_eq!(
        problems(&plan),
        ["Error cp1 | node: nothing is known of it: timeout"]
    );
    assert!(plan.is_incomplete());
    assert_eq!(
        stage_names(&plan),
        [StageName::ControlPlane, StageName::KubeadmConfig]
    );
    assert!(
        plan.basis
            .iter()
            .all(|b| b.place != Place::Node("cp1".into()))
    );
}

#[test]
fn two_resources_that_disagree_are_an_error() {
    let file = json!({"component": "kube-apiserver", "flag": "tracing-config-file", "name": "audit", "content": "x"});
    let desired = desired(vec![
        flag("tracing-config-file", "/etc/a.yaml"),
        resource("component-file", file),
    ]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    assert_eq!(
        problems(&plan),
        [
            "Error cp1 | kube-apiserver --tracing-config-file: two resources of the profile want different things of it",
            "Error API | kube-apiserver --tracing-config-file: two resources of the profile want different things of it",
        ]
    );
    // What is in dispute is left alone; the file itself harms nobody.
    assert!(
        lines(&plan)
            .iter()
            .all(|l| !l.contains("→ --audit") && !l.contains("→ /etc/a"))
    );
}

#[test]
fn a_uniform_flag_makes_its_step_uniform() {
    let mut shared = flag("profiling", false);
    shared.uniform = true;
    let desired = desired(vec![shared]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert!(step.uniform && plan.changes.iter().all(|c| c.uniform));
}

#[test]
fn several_components_of_a_node_go_in_one_step() {
    let table = json!({"component": "kube-scheduler", "name": "profiling", "value": false});
    let desired = desired(vec![flag("profiling", false), resource("flag", table)]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert_eq!(step.files.len(), 2);
    let gated: Vec<_> = step.gate.as_ref().unwrap().processes.keys().collect();
    assert_eq!(
        gated,
        [&Component::KubeApiserver, &Component::KubeScheduler]
    );
    assert_eq!(plan.stages[1].steps.len(), 1, "one ConfigMap step");
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn the_gate_of_any_component_knows_the_port_of_the_api_server() {
    let table = json!({"component": "kube-scheduler", "name": "profiling", "value": false});
    let desired = desired(vec![resource("flag", table)]);
    let mut facts = cluster(&["cp1"], &desired);
    let text = manifest(&facts, "cp1", API).replace("--secure-port=6443", "--secure-port=7443");
    put(&mut facts, "cp1", manifest_query(), file(&text, 0o600));
    let plan = build(&desired, &facts);
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert_eq!(step.gate.as_ref().unwrap().readyz_port, Some(7443));
    // Without it nothing restarts, and nothing is promised.
    put(&mut facts, "cp1", manifest_query(), Fact::Absent);
    let plan = build(&desired, &facts);
    assert_eq!(lines(&plan).len(), 1, "{:?}", lines(&plan));
    assert_eq!(stage_names(&plan), [StageName::KubeadmConfig]);
    assert!(plan.is_incomplete());
}

#[test]
fn capi_runtime_extensions_1671_both_forms_of_extra_args_are_planned() {
    let names = ["profiling", "v", "audit-log-maxage", "audit-log-maxsize"];
    let desired = desired(names.iter().map(|n| flag(n, 5)).collect());
    for text in [V1BETA3, V1BETA4] {
        let mut facts = cluster(&["cp1"], &desired);
        facts.api.cluster_configuration = Fact::Value(text.into());
        let plan = build(&desired, &facts);
        execute(&plan, &mut facts);
        assert!(build(&desired, &facts).is_clean());
        let config = facts.api.cluster_configuration.value().unwrap();
        let args = ClusterConfiguration::parse(config).unwrap().args(API);
        assert_eq!(args.len(), 5);
        let extra: Vec<String> = args.iter().map(|(n, v)| format!("--{n}={v}")).collect();
        assert!(
            argv(&facts, "cp1", API).ends_with(&extra),
            "kubeadm's own order"
        );
    }
}

fn audit_policy(content: &str) -> Resource {
    resource(
        "component-file",
        json!({
            "component": "kube-apiserver", "flag": "tracing-config-file", "name": "audit-policy",
            "content": content,
            "volumes": [{
                "name": "audit-log", "host-path": "/var/log/kubernetes/audit",
                "mount-path": "/var/log/kubernetes/audit",
            }],
        }),
    )
}

#[test]
fn a_component_file_brings_file_flag_and_volumes() {
    let desired = desired(vec![audit_policy("rules: []\n")]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    insta::assert_snapshot!(lines(&plan).join("\n").replace("kube-apiserver --tracing-config-file (file audit-policy)", "…"), @"
    cp1 | …: - → /etc/kubernetes/harden/audit-policy-e0dfa70eb69d.yaml with 0600 root:root (Safe)
    API kubeadm-config | …: - → volume harden: /etc/kubernetes/harden, read-only, DirectoryOrCreate (Safe)
    cp1 manifest | …: - → volume harden: /etc/kubernetes/harden, read-only, DirectoryOrCreate (Restart restarts)
    API kubeadm-config | …: - → volume audit-log: /var/log/kubernetes/audit, writable, DirectoryOrCreate (Safe)
    cp1 manifest | …: - → volume audit-log: /var/log/kubernetes/audit, writable, DirectoryOrCreate (Restart restarts)
    API kubeadm-config | …: - → /etc/kubernetes/harden/audit-policy-e0dfa70eb69d.yaml (Safe)
    cp1 manifest | …: - → /etc/kubernetes/harden/audit-policy-e0dfa70eb69d.yaml (Restart restarts)
    cp1 process | …: - → /etc/kubernetes/harden/audit-policy-e0dfa70eb69d.yaml (Restart)
    ");
    insta::assert_snapshot!(plan.changes[0].diff.as_ref().unwrap(), @r"
    --- /dev/null
    +++ /etc/kubernetes/harden/audit-policy-e0dfa70eb69d.yaml
    @@ -0,0 +1 @@
    +rules: []
    ");
    assert_eq!(
        stage_names(&plan),
        [
            StageName::NodeFiles,
            StageName::ControlPlane,
            StageName::KubeadmConfig
        ]
    );
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn a_changed_component_file_gets_a_new_path_and_restarts() {
    let old = desired(vec![audit_policy("rules: []\n")]);
    let new = desired(vec![audit_policy("rules: [a]\n")]);
    let mut facts = cluster(&["cp1"], &new);
    execute(&build(&old, &cluster_for(&old, &mut facts)), &mut facts);
    let plan = build(&new, &facts);
    assert_eq!(plan.changes.len(), 4, "{:?}", lines(&plan));
    assert_eq!(plan.changes[2].restarts.as_deref(), Some("kube-apiserver"));
    execute(&plan, &mut facts);
    assert!(build(&new, &facts).is_clean());
}

/// Adds what another desired state asks for.
fn cluster_for(desired: &Desired, facts: &mut Facts) -> Facts {
    for (query, fact) in cluster(&["cp1"], desired).nodes["cp1"]
        .facts
        .value()
        .unwrap()
    {
        let known = facts.nodes["cp1"].facts.value().unwrap();
        if !known.contains_key(query) {
            put(facts, "cp1", query.clone(), fact.clone());
        }
    }
    facts.clone()
}

#[test]
fn a_component_file_that_was_tampered_with_is_written_again() {
    let desired = desired(vec![audit_policy("rules: []\n")]);
    let mut facts = cluster(&["cp1"], &desired);
    execute(&build(&desired, &facts), &mut facts);
    let query = queries(&desired, &facts.nodes["cp1"].info)
        .into_iter()
        .find(|q| matches!(q, Query::File(p) if p.as_str().starts_with(kubeadm::HARDEN_DIR)))
        .unwrap();
    for bad in [file("rules: [none]\n", 0o600), file("rules: []\n", 0o644)] {
        let mut facts = facts.clone();
        put(&mut facts, "cp1", query.clone(), bad);
        let plan = build(&desired, &facts);
        assert_eq!(plan.changes.len(), 1);
        execute(&plan, &mut facts);
        assert!(build(&desired, &facts).is_clean());
    }
    put(&mut facts, "cp1", query.clone(), file("rules: []\n", 0o400));
    assert!(build(&desired, &facts).is_clean(), "stricter is fine");
}

#[test]
fn a_flag_never_names_a_file_that_may_not_be_there() {
    let desired = desired(vec![audit_policy("rules: []\n")]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let query = queries(&desired, &facts.nodes["cp1"].info)
        .into_iter()
        .find(|q| matches!(q, Query::File(p) if p.as_str().starts_with(kubeadm::HARDEN_DIR)))
        .unwrap();
    put(
        &mut facts,
        "cp1",
        query,
        Fact::Unreadable("I/O error".into()),
    );
    let plan = build(&desired, &facts);
    assert!(plan.is_incomplete());
    assert!(
        plan.changes
            .iter()
            .all(|c| c.place != Place::Node("cp1".into()))
    );
    assert!(
        plan.changes
            .iter()
            .any(|c| c.place == Place::Node("cp2".into()))
    );
}

#[test]
fn kubernetes_136962_a_stray_file_among_the_manifests_is_reported() {
    let desired = desired(vec![flag("runtime-config", "")]);
    let mut facts = cluster(&["cp1"], &desired);
    let dir = Query::Dir(path(kubeadm::MANIFESTS_DIR));
    let Fact::Value(Answer::Dir(mut entries)) = facts.nodes["cp1"].get(&dir).map(Clone::clone)
    else {
        panic!()
    };
    for name in [
        "kube-apiserver.yaml.bak",
        ".kube-apiserver.yaml.swp",
        "kube-vip.yaml",
    ] {
        entries.insert(name.into(), meta(FileKind::Regular, 0o600));
    }
    entries.insert("old".into(), meta(FileKind::Directory, 0o700));
    put(&mut facts, "cp1", dir, Fact::Value(Answer::Dir(entries)));
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && !plan.is_incomplete());
    insta::assert_snapshot!(problems(&plan).join("\n"), @r"
    Warning cp1 | /etc/kubernetes/manifests/kube-apiserver.yaml.bak: the kubelet reads it too, whatever its name ends in, and it can win over kube-apiserver.yaml
    Warning cp1 | /etc/kubernetes/manifests/kube-vip.yaml: the kubelet runs it as a static pod; no profile knows it
    ");
}

#[test]
fn tables_of_flags_are_checked() {
    let base = json!({"component": "kube-apiserver", "name": "a", "value": 1});
    let with = |field: &str, value: serde_json::Value| {
        let mut table = base.clone();
        table[field] = value;
        Kind::from_table("flag", table)
    };
    assert!(with("value", json!("x")).is_ok());
    assert!(with("value", json!(["x", "y"])).is_ok());
    for (field, value) in [
        ("component", json!("kubelet")),
        ("name", json!("--a")),
        ("name", json!("a_b")),
        ("name", json!("")),
        ("value", json!(1.5)),
        ("value", json!(null)),
        ("value", json!([1])),
        ("value", json!({"a": 1})),
        ("value", json!("a\nb")),
        ("value", json!("$(POD_IP)")),
        ("merge", json!("absent")),
        ("merge", json!("union")),
        ("typo", json!(1)),
    ] {
        assert!(with(field, value.clone()).is_err(), "{field} {value}");
    }
}

#[test]
fn tables_of_component_files_are_checked() {
    let base = json!({"component": "kube-apiserver", "flag": "f", "name": "n", "content": ""});
    let with = |field: &str, value: serde_json::Value| {
        let mut table = base.clone();
        table[field] = value;
        Kind::from_table("component-file", table)
    };
    let volume = |name: &str, path: &str, kind: &str| json!([{"name": name, "host-path": path, "mount-path": path, "path-type": kind}]);
    assert!(with("volumes", volume("log", "/var/log", "Directory")).is_ok());
    for (field, value) in [
        ("flag", json!("--f")),
        ("name", json!("../x")),
        ("name", json!("X")),
        ("content", json!({})),
        ("volumes", volume("harden", "/var/log", "Directory")),
        ("volumes", volume("log", "var/log", "Directory")),
        ("volumes", volume("log", "/var/../log", "Directory")),
        ("volumes", volume("log", "/var/log", "Folder")),
        ("typo", json!(1)),
    ] {
        assert!(with(field, value.clone()).is_err(), "{field} {value}");
    }
}
