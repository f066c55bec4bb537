//! etcd as a component: where kubeadm keeps its flags, what it has no place for, and an etcd that is
//! not kubeadm's to run.

use crate::plan_support::*;
use harden::distribution::kubeadm::{
    ClusterConfiguration, KubeadmError, Manifest, edit_cluster_configuration, edit_manifest,
    manifest_path,
};
use harden::distribution::{Component, ComponentEdit, Volume};
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::json;

const ETCD: Component = Component::Etcd;
const MANIFEST: &str = include_str!("../fixtures/kubeadm-1.35/etcd.yaml");

fn set(name: &str, value: &str) -> ComponentEdit {
    ComponentEdit::SetFlag {
        name: name.into(),
        value: value.into(),
    }
}

fn etcd_flag(table: serde_json::Value) -> Resource {
    let mut table = table;
    table["component"] = "etcd".into();
    resource("flag", table)
}

fn mount() -> ComponentEdit {
    ComponentEdit::SetVolume(Volume {
        name: "harden".into(),
        host_path: path("/etc/kubernetes/harden"),
        mount_path: path("/etc/kubernetes/harden"),
        read_only: true,
        path_type: "DirectoryOrCreate".into(),
    })
}

/// The lines that an edit added, with `+`, and removed, with `-`.
fn changed(before: &str, after: &str) -> Vec<String> {
    similar::TextDiff::from_lines(before, after)
        .iter_all_changes()
        .filter(|c| c.tag() != similar::ChangeTag::Equal)
        .map(|c| format!("{}{}", c.tag(), c.value().trim_end_matches('\n')))
        .collect()
}

fn external(text: &str) -> String {
    text.replace(
        "  local:\n    dataDir: /var/lib/etcd\n",
        "  external:\n    endpoints: [\"https://10.0.0.9:2379\"]\n    caFile: /ca\n    certFile: /cert\n    keyFile: /key\n",
    )
}

#[test]
fn what_kubeadm_writes_is_understood() {
    let etcd = Manifest::parse(MANIFEST, ETCD).unwrap();
    assert_eq!(etcd.argv.len(), 20);
    assert!(etcd.argv[1..].is_sorted());
    assert_eq!(etcd.values("client-cert-auth"), ["true"]);
    assert_eq!(etcd.values("auto-tls"), [""; 0]);
    assert_eq!(
        manifest_path(ETCD).as_str(),
        "/etc/kubernetes/manifests/etcd.yaml"
    );
    for text in [V1BETA3, V1BETA4] {
        let config = ClusterConfiguration::parse(text).unwrap();
        assert_eq!(config.args(ETCD), []);
        assert!(!config.etcd_is_external());
        assert!(
            ClusterConfiguration::parse(&external(text))
                .unwrap()
                .etcd_is_external()
        );
    }
}

#[test]
fn kubeadm_1564_extra_arguments_of_etcd_stand_where_kubeadm_reads_them() {
    let edits = [set("auto-tls", "false"), set("cipher-suites", "A,B")];
    let edited = edit_cluster_configuration(V1BETA4, ETCD, &edits).unwrap();
    insta::assert_snapshot!(changed(V1BETA4, &edited).join("\n"), @r#"
    +    extraArgs:
    +      - name: auto-tls
    +        value: "false"
    +      - name: cipher-suites
    +        value: A,B
    "#);
    let edited = edit_cluster_configuration(V1BETA3, ETCD, &edits).unwrap();
    insta::assert_snapshot!(changed(V1BETA3, &edited).join("\n"), @r#"
    +    extraArgs:
    +      auto-tls: "false"
    +      cipher-suites: A,B
    "#);
    for text in [V1BETA3, V1BETA4] {
        let edited = edit_cluster_configuration(text, ETCD, &edits).unwrap();
        assert_eq!(
            edit_cluster_configuration(&edited, ETCD, &edits).unwrap(),
            edited
        );
        let other = edit_cluster_configuration(&edited, API, &[set("profiling", "false")]).unwrap();
        let config = ClusterConfiguration::parse(&other).unwrap();
        assert_eq!(config.values(ETCD, "cipher-suites"), ["A,B"]);
        let remove = |name: &str| ComponentEdit::RemoveFlag { name: name.into() };
        let gone = [remove("auto-tls"), remove("cipher-suites")];
        let gone = edit_cluster_configuration(&edited, ETCD, &gone).unwrap();
        assert_eq!(ClusterConfiguration::parse(&gone).unwrap().args(ETCD), []);
    }
}

#[test]
fn kubeadm_1564_an_extra_argument_that_an_upgrade_did_not_bring_is_named() {
    let desired = desired(vec![etcd_flag(
        json!({"name": "cipher-suites", "value": "A"}),
    )]);
    let mut facts = cluster(&["cp1"], &desired);
    let text = edit_cluster_configuration(V1BETA4, ETCD, &[set("cipher-suites", "A")]).unwrap();
    facts.api.cluster_configuration = Fact::Value(text);
    let plan = build(&desired, &facts);
    insta::assert_snapshot!(lines(&plan).join("\n"), @r"
    cp1 manifest | etcd --cipher-suites: - → A (Restart restarts)
    cp1 process | etcd --cipher-suites: - → A (Restart)
    ");
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

/// kubeadm sorts its own flags by name and puts the extra arguments behind them (kubernetes v1.35
/// cmd/kubeadm/app/util/arguments.go: `ArgumentsToCommand`).
#[test]
fn a_flag_of_kubeadms_own_goes_back_to_its_place() {
    for flag in [
        "client-cert-auth=true",
        "trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    ] {
        let (name, value) = flag.split_once('=').unwrap();
        let line = format!("    - --{flag}\n");
        assert!(MANIFEST.contains(&line));
        for weaker in [String::new(), format!("    - --{name}=\n")] {
            let text = MANIFEST.replace(&line, &weaker);
            let edited = edit_manifest(&text, ETCD, &[set(name, value)], &[]).unwrap();
            assert_eq!(changed(MANIFEST, &edited), [""; 0]);
        }
    }
    let order = ["client-cert-auth", "cipher-suites"].map(String::from);
    let edits = [set("cipher-suites", "A"), set("client-cert-auth", "true")];
    let text = MANIFEST.replace("--client-cert-auth=true", "--client-cert-auth=false");
    let edited = edit_manifest(&text, ETCD, &edits, &order).unwrap();
    let argv = Manifest::parse(&edited, ETCD).unwrap().argv;
    assert!(argv.ends_with(&["--client-cert-auth=true".into(), "--cipher-suites=A".into()]));
}

#[test]
fn what_kubeadm_writes_itself_is_not_pinned() {
    // Stock: the extra arguments are empty and all is as it should be.
    let ca = json!({"name": "trusted-ca-file", "value": "/etc/kubernetes/pki/etcd/ca.crt", "merge": "present"});
    let auth = json!({"name": "client-cert-auth", "value": true});
    let desired = desired(vec![etcd_flag(ca), etcd_flag(auth)]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!((lines(&plan), problems(&plan)), (vec![], vec![]));
    // Lost in one manifest: put back there alone.
    let text = manifest(&facts, "cp1", ETCD)
        .replace("    - --client-cert-auth=true\n", "")
        .replace(
            "    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt\n",
            "",
        );
    put(
        &mut facts,
        "cp1",
        Query::File(manifest_path(ETCD)),
        file(&text, 0o600),
    );
    let plan = build(&desired, &facts);
    insta::assert_snapshot!(lines(&plan).join("\n"), @r"
    cp1 manifest | etcd --trusted-ca-file: - → /etc/kubernetes/pki/etcd/ca.crt (Restart restarts)
    cp1 manifest | etcd --client-cert-auth: - → true (Restart restarts)
    ");
    execute(&plan, &mut facts);
    assert_eq!(manifest(&facts, "cp1", ETCD), MANIFEST);
    // Said otherwise in the extra arguments: the next upgrade would bring it.
    let edit = [set("client-cert-auth", "false")];
    let text = edit_cluster_configuration(V1BETA4, ETCD, &edit).unwrap();
    facts.api.cluster_configuration = Fact::Value(text);
    assert_eq!(
        lines(&build(&desired, &facts)),
        ["API kubeadm-config | etcd --client-cert-auth: false → true (Safe)"]
    );
}

#[test]
fn a_file_of_the_pki_is_sought_where_the_cluster_keeps_it_and_never_replaced() {
    let ca = json!({"name": "trusted-ca-file", "value": "/etc/kubernetes/pki/etcd/ca.crt", "merge": "present"});
    let desired = desired(vec![etcd_flag(ca)]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let elsewhere = V1BETA4.replace("/etc/kubernetes/pki", "/etc/kubernetes/ssl/");
    facts.api.cluster_configuration = Fact::Value(elsewhere);
    let own = MANIFEST.replace(
        "--trusted-ca-file=/etc/kubernetes/pki",
        "--trusted-ca-file=/srv",
    );
    put(
        &mut facts,
        "cp2",
        Query::File(manifest_path(ETCD)),
        file(&own, 0o600),
    );
    let plan = build(&desired, &facts);
    assert_eq!(lines(&plan), [""; 0], "another file that is in use stays");
    let lost = MANIFEST.replace(
        "    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt\n",
        "",
    );
    put(
        &mut facts,
        "cp1",
        Query::File(manifest_path(ETCD)),
        file(&lost, 0o600),
    );
    let after = &build(&desired, &facts).changes[0].after;
    assert_eq!(after.as_deref(), Some("/etc/kubernetes/ssl/etcd/ca.crt"));
}

#[test]
fn etcd_has_no_place_for_a_volume() {
    for error in [
        edit_cluster_configuration(V1BETA4, ETCD, &[mount()]).unwrap_err(),
        edit_manifest(MANIFEST, ETCD, &[mount()], &[]).unwrap_err(),
    ] {
        assert_eq!(error, KubeadmError::NoVolumes);
        assert!(error.remedy().contains("/etc/kubernetes/pki/etcd"));
    }
    let table = json!({"component": "etcd", "flag": "a", "name": "b", "content": "c"});
    let why = Kind::from_table("component-file", table).unwrap_err();
    insta::assert_snapshot!(why, @"component: kubeadm can mount nothing more into etcd; put the file below /etc/kubernetes/pki/etcd, which etcd has mounted, and name it there");
}

#[test]
fn an_external_etcd_is_a_problem_and_no_crash() {
    let table = json!({"name": "client-cert-auth", "value": true});
    let desired = desired(vec![etcd_flag(table)]);
    for text in [V1BETA3, V1BETA4] {
        let mut facts = cluster(&["cp1", "cp2"], &desired);
        facts.api.cluster_configuration = Fact::Value(external(text));
        for node in ["cp1", "cp2"] {
            put(
                &mut facts,
                node,
                Query::File(manifest_path(ETCD)),
                Fact::Absent,
            );
            put(
                &mut facts,
                node,
                Query::Process(ETCD.program()),
                Fact::Absent,
            );
        }
        let plan = build(&desired, &facts);
        assert_eq!(
            problems(&plan),
            [
                "Error API | etcd --client-cert-auth: etcd is external: ClusterConfiguration names etcd.external"
            ]
        );
        assert!(plan.changes.is_empty() && plan.is_incomplete());
        let edited = edit_cluster_configuration(&external(text), ETCD, &[set("a", "b")]);
        assert_eq!(edited.unwrap_err(), KubeadmError::ExternalEtcd);
    }
    // The manifest is on one node only.
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    put(
        &mut facts,
        "cp2",
        Query::File(manifest_path(ETCD)),
        Fact::Absent,
    );
    put(
        &mut facts,
        "cp2",
        Query::Process(ETCD.program()),
        Fact::Absent,
    );
    assert_eq!(
        problems(&build(&desired, &facts)),
        [
            "Error cp2 | etcd --client-cert-auth: etcd is external: /etc/kubernetes/manifests/etcd.yaml is not there"
        ]
    );
}

#[test]
fn the_gate_of_etcd_asks_for_its_command_line_and_the_api_server() {
    let desired = desired(vec![etcd_flag(json!({"name": "auto-tls", "value": false}))]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let Step::Node(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    let gate = step.gate.as_ref().unwrap();
    assert_eq!(gate.processes.keys().collect::<Vec<_>>(), [&ETCD]);
    assert_eq!(gate.processes[&ETCD].last().unwrap(), "--auto-tls=false");
    assert_eq!(gate.readyz_port, Some(6443));
}

/// Set `HARDEN_KUBEADM` to a kubeadm 1.35 to render what is compared here afresh.
#[test]
fn the_next_kubeadm_upgrade_finds_nothing_to_change() {
    let edits = [set("cipher-suites", "A,B"), set("auto-tls", "false")];
    let config = edit_cluster_configuration(V1BETA4, ETCD, &edits).unwrap();
    let args = ClusterConfiguration::parse(&config).unwrap().args(ETCD);
    let order: Vec<String> = args.into_iter().map(|(name, _)| name).collect();
    // A flag of kubeadm's own is put back beside them.
    let weaker = MANIFEST.replace("--client-cert-auth=true", "--client-cert-auth=false");
    let all = [edits.as_slice(), &[set("client-cert-auth", "true")]].concat();
    let ours = edit_manifest(&weaker, ETCD, &all, &order).unwrap();
    let path = "tests/fixtures/kubeadm-1.35/after/etcd.yaml";
    if let Some(kubeadm) = std::env::var_os("HARDEN_KUBEADM") {
        let dir = tempfile::tempdir().unwrap();
        let init = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nnodeRegistration: {name: cp1}\nlocalAPIEndpoint: {advertiseAddress: 10.0.0.11, bindPort: 6443}\n";
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, format!("{config}---\n{init}")).unwrap();
        let status = std::process::Command::new(kubeadm)
            .args(["init", "phase", "etcd", "local", "--dry-run", "--config"])
            .arg(&file)
            .env("KUBEADM_INIT_DRYRUN_DIR", dir.path())
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::copy(dir.path().join("etcd.yaml"), path).unwrap();
    }
    let theirs = std::fs::read_to_string(path).unwrap();
    assert_eq!(changed(&theirs, &ours), [""; 0]);
}
