//! Static pods and `ClusterConfiguration`: reading and editing what kubeadm 1.35 writes.

use harden::distribution::kubeadm::{
    ClusterConfiguration, KubeadmError, Manifest, edit_cluster_configuration, edit_manifest,
};
use harden::distribution::{Component, ComponentEdit, Volume};
use harden::fact::NodePath;
use proptest::prelude::*;

const APISERVER: &str = include_str!("../fixtures/kubeadm-1.35/kube-apiserver.yaml");
const CONTROLLER: &str = include_str!("../fixtures/kubeadm-1.35/kube-controller-manager.yaml");
const SCHEDULER: &str = include_str!("../fixtures/kubeadm-1.35/kube-scheduler.yaml");
const V1BETA3: &str = include_str!("../fixtures/kubeadm-1.35/v1beta3.yaml");
const V1BETA4: &str = include_str!("../fixtures/kubeadm-1.35/v1beta4.yaml");

const API: Component = Component::KubeApiserver;

fn set(name: &str, value: &str) -> ComponentEdit {
    ComponentEdit::SetFlag {
        name: name.into(),
        value: value.into(),
    }
}

fn remove(name: &str) -> ComponentEdit {
    ComponentEdit::RemoveFlag { name: name.into() }
}

fn volume(name: &str, path: &str, read_only: bool) -> Volume {
    Volume {
        name: name.into(),
        host_path: NodePath::new(path).unwrap(),
        mount_path: NodePath::new(path).unwrap(),
        read_only,
        path_type: "DirectoryOrCreate".into(),
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> ComponentEdit {
    ComponentEdit::SetVolume(volume(name, path, read_only))
}

/// The lines that an edit added, with `+`, and removed, with `-`.
fn changed(before: &str, after: &str) -> Vec<String> {
    similar::TextDiff::from_lines(before, after)
        .iter_all_changes()
        .filter(|c| c.tag() != similar::ChangeTag::Equal)
        .map(|c| format!("{}{}", c.tag(), c.value().trim_end_matches('\n')))
        .collect()
}

fn order(config: &str, component: Component) -> Vec<String> {
    let config = ClusterConfiguration::parse(config).unwrap();
    config.args(component).into_iter().map(|(n, _)| n).collect()
}

#[test]
fn what_kubeadm_writes_is_understood() {
    let api = Manifest::parse(APISERVER, API).unwrap();
    assert_eq!(api.argv.len(), 29);
    assert_eq!(api.values("authorization-mode"), ["Node,RBAC"]);
    assert_eq!(api.values("profiling"), [""; 0]);
    assert_eq!(api.secure_port(), 6443);
    assert!(api.mounts(&volume("k8s-certs", "/etc/kubernetes/pki", true)));
    assert!(!api.mounts(&volume("k8s-certs", "/etc/kubernetes/pki", false)));
    assert_eq!(
        api.describe_volume("k8s-certs").unwrap(),
        "volume k8s-certs: /etc/kubernetes/pki, read-only, DirectoryOrCreate"
    );
    assert_eq!(api.describe_volume("harden"), None);
    for text in [V1BETA3, V1BETA4] {
        let config = ClusterConfiguration::parse(text).unwrap();
        assert_eq!(config.values(API, "runtime-config"), [""]);
        assert_eq!(config.values(API, "profiling"), [""; 0]);
        let controller = Component::KubeControllerManager;
        assert_eq!(
            config.args(controller),
            [("enable-hostpath-provisioner".into(), "true".into())]
        );
        assert_eq!(config.args(Component::KubeScheduler), []);
    }
}

#[test]
fn flags_go_behind_the_others_in_the_order_of_extra_args() {
    let edits = [set("profiling", "false"), set("audit-log-maxage", "30")];
    let order = ["runtime-config", "profiling", "audit-log-maxage"].map(String::from);
    let edited = edit_manifest(APISERVER, API, &edits, &order).unwrap();
    assert_eq!(
        changed(APISERVER, &edited),
        ["+    - --profiling=false", "+    - --audit-log-maxage=30"]
    );
    let order = ["audit-log-maxage", "runtime-config", "profiling"].map(String::from);
    let edited = edit_manifest(APISERVER, API, &edits, &order).unwrap();
    assert!(
        edited.contains(
            "    - --audit-log-maxage=30\n    - --runtime-config=\n    - --profiling=false\n    image:"
        ),
        "{edited}"
    );
}

#[test]
fn a_flag_of_kubeadms_own_moves_behind_the_others() {
    let plugins = "NodeRestriction,AlwaysPullImages";
    let order = ["runtime-config", "enable-admission-plugins"].map(String::from);
    let edits = [set("enable-admission-plugins", plugins)];
    let edited = edit_manifest(APISERVER, API, &edits, &order).unwrap();
    assert_eq!(
        changed(APISERVER, &edited),
        [
            "-    - --enable-admission-plugins=NodeRestriction",
            "+    - --enable-admission-plugins=NodeRestriction,AlwaysPullImages"
        ]
    );
    assert!(edited.contains("--runtime-config=\n    - --enable-admission-plugins="));
}

#[test]
fn kubeadm_3113_flags_are_replaced_never_duplicated() {
    // The JSON patches of kubeadm#3113 append blindly.
    let twice = APISERVER.replace(
        "    - --runtime-config=\n",
        "    - --profiling=true\n    - --runtime-config=\n    - --profiling\n    - \"true\"\n",
    );
    let edited = edit_manifest(&twice, API, &[set("profiling", "false")], &[]).unwrap();
    let manifest = Manifest::parse(&edited, API).unwrap();
    assert_eq!(manifest.values("profiling"), ["false"]);
    assert_eq!(manifest.argv.len(), 30);
    let again = edit_manifest(&edited, API, &[set("profiling", "false")], &[]).unwrap();
    assert_eq!(again, edited);
    let gone = edit_manifest(&twice, API, &[remove("profiling")], &[]).unwrap();
    assert_eq!(gone, APISERVER);
}

#[test]
fn comments_stay_where_they_are() {
    let text = APISERVER
        .replace(
            "    - --secure-port=6443",
            "    # not 443\n    - --secure-port=6443 # why",
        )
        .replace("kind: Pod", "kind: Pod # by kubeadm");
    let edits = [
        set("profiling", "false"),
        mount("harden", "/etc/kubernetes/harden", true),
        ComponentEdit::Restart("7".into()),
    ];
    let edited = edit_manifest(&text, API, &edits, &[]).unwrap();
    for kept in [
        "# not 443\n",
        "--secure-port=6443 # why\n",
        "Pod # by kubeadm\n",
    ] {
        assert!(edited.contains(kept), "{edited}");
    }
    let lines = changed(&text, &edited);
    assert!(lines.iter().all(|line| line.starts_with('+')), "{lines:?}");
    assert_eq!(lines.len(), 1 + 3 + 4 + 1);
}

#[test]
fn volumes_stand_by_name_and_replace_their_namesake() {
    let edit = [mount("harden", "/etc/kubernetes/harden", true)];
    let edited = edit_manifest(APISERVER, API, &edit, &[]).unwrap();
    let pod = edited.split_once("  volumes:\n").unwrap();
    for (half, names) in [(pod.0, "      name: "), (pod.1, "    name: ")] {
        let names: Vec<&str> = half
            .lines()
            .filter_map(|line| line.strip_prefix(names))
            .filter(|name| *name != "probe-port")
            .collect();
        assert!(names.contains(&"harden") && names.is_sorted(), "{names:?}");
    }
    let other = [mount("harden", "/etc/other", false)];
    let moved = edit_manifest(&edited, API, &other, &[]).unwrap();
    let manifest = Manifest::parse(&moved, API).unwrap();
    assert!(manifest.mounts(&volume("harden", "/etc/other", false)));
}

#[test]
fn lists_that_are_absent_are_made() {
    let bare = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: s\nspec:\n  containers:\n  - name: kube-scheduler\n    command: [kube-scheduler]\n";
    let scheduler = Component::KubeScheduler;
    let edits = [
        set("profiling", "false"),
        set("a", "b,c: #"),
        set("b", "c,d"),
        mount("harden", "/etc/kubernetes/harden", true),
        ComponentEdit::Restart("1e3".into()),
    ];
    let edited = edit_manifest(bare, scheduler, &edits, &[]).unwrap();
    let manifest = Manifest::parse(&edited, scheduler).unwrap();
    assert_eq!(manifest.values("a"), ["b,c: #"]);
    assert_eq!(manifest.values("b"), ["c,d"]);
    assert!(manifest.mounts(&volume("harden", "/etc/kubernetes/harden", true)));
    assert!(edited.contains("harden.dev/restart: \"1e3\""), "{edited}");
    assert_eq!(
        edit_manifest(&edited, scheduler, &edits, &[]).unwrap(),
        edited
    );
}

#[test]
fn flags_in_args_are_edited_there() {
    let text = SCHEDULER.replace(
        "    - --leader-elect=true\n",
        "    args:\n    - --leader-elect\n    - --v\n    - \"2\"\n",
    );
    let component = Component::KubeScheduler;
    let edits = [
        set("profiling", "false"),
        remove("v"),
        set("bind-address", "::1"),
    ];
    let order = ["profiling", "bind-address"].map(String::from);
    let edited = edit_manifest(&text, component, &edits, &order).unwrap();
    assert!(
        edited.contains("    args:\n    - --leader-elect\n    - --profiling=false\n    - --bind-address=::1\n    image"),
        "{edited}"
    );
}

#[test]
fn a_manifest_that_is_not_one_is_refused() {
    let parse = |text: &str| Manifest::parse(text, API).unwrap_err();
    let yaml = |text: &str| assert!(matches!(parse(text), KubeadmError::Yaml(_)), "{text}");
    yaml("a: [");
    yaml("a: 1\na: 2\n");
    yaml(&format!("{APISERVER}---\n{APISERVER}"));
    yaml(&APISERVER.replace("kind: Pod", "kind: Pod\nkind: Pod"));
    let kind = |text: &str| assert!(matches!(parse(text), KubeadmError::Kind { .. }), "{text}");
    for empty in ["", "# nothing\n"] {
        assert_eq!(parse(empty).to_string(), "it is empty");
        assert!(parse(empty).remedy().contains("writes fresh manifests"));
    }
    assert!(!parse("kind: Job\n").remedy().contains("migrate"));
    kind("just text");
    kind(&APISERVER.replace("kind: Pod", "kind: Deployment"));
    assert_eq!(parse(SCHEDULER), KubeadmError::NoContainer(API));
    let wrapped = APISERVER.replace(
        "    - kube-apiserver\n",
        "    - sh\n    - -c\n    - kube-apiserver\n",
    );
    assert!(matches!(parse(&wrapped), KubeadmError::OtherProgram { .. }));
    let shape = APISERVER.replace("--secure-port=6443", "{a: b}");
    assert!(matches!(parse(&shape), KubeadmError::Shape { .. }));
}

#[test]
fn the_kubelet_resolves_variables_as_foretold() {
    let text = APISERVER
        .replace("--runtime-config=", "--x=$(IP):$$(IP):$(NONE):$(open:$5$")
        .replace("    image:", "    env:\n    - name: IP\n      value: 10.0.0.1\n    - name: POD\n      valueFrom: {}\n    image:");
    let manifest = Manifest::parse(&text, API).unwrap();
    let argv = manifest.process().unwrap();
    assert_eq!(
        argv.last().unwrap(),
        "--x=10.0.0.1:$(IP):$(NONE):$(open:$5$"
    );
    let text = text.replace("$(IP)", "$(POD)");
    let unknown = Manifest::parse(&text, API).unwrap().process().unwrap_err();
    assert_eq!(unknown, KubeadmError::Variable("POD".into()));
}

#[test]
fn cluster_configuration_keeps_its_version_and_everything_else() {
    let edits = [
        set("profiling", "false"),
        set("runtime-config", "x=true"),
        mount("harden", "/etc/kubernetes/harden", true),
        ComponentEdit::Restart("x".into()),
    ];
    let edited = edit_cluster_configuration(V1BETA4, API, &edits).unwrap();
    insta::assert_snapshot!(changed(V1BETA4, &edited).join("\n"), @r#"
    -    value: ""
    +    value: x=true
    +  - name: profiling
    +    value: "false"
    +  extraVolumes:
    +    - hostPath: /etc/kubernetes/harden
    +      mountPath: /etc/kubernetes/harden
    +      name: harden
    +      pathType: DirectoryOrCreate
    +      readOnly: true
    "#);
    let edited = edit_cluster_configuration(V1BETA3, API, &edits).unwrap();
    insta::assert_snapshot!(changed(V1BETA3, &edited).join("\n"), @r#"
    -    runtime-config: ""
    +    runtime-config: x=true
    +    profiling: "false"
    +  extraVolumes:
    +    - hostPath: /etc/kubernetes/harden
    +      mountPath: /etc/kubernetes/harden
    +      name: harden
    +      pathType: DirectoryOrCreate
    +      readOnly: true
    "#);
}

#[test]
fn sections_that_are_absent_or_empty_are_made() {
    for text in [V1BETA3, V1BETA4] {
        for text in [text.to_owned(), text.replace("scheduler: {}\n", "")] {
            let component = Component::KubeScheduler;
            let edits = [set("profiling", "false"), set("bind-address", "127.0.0.1")];
            let edited = edit_cluster_configuration(&text, component, &edits).unwrap();
            let config = ClusterConfiguration::parse(&edited).unwrap();
            assert_eq!(config.values(component, "profiling"), ["false"]);
            assert_eq!(config.values(component, "bind-address"), ["127.0.0.1"]);
            assert_eq!(
                edit_cluster_configuration(&edited, component, &edits).unwrap(),
                edited
            );
        }
    }
}

#[test]
fn capi_runtime_extensions_1671_no_flag_is_lost_in_either_form() {
    // cluster-api-runtime-extensions-nutanix#1671: the move of extraArgs from map to list dropped
    // nine hardening flags.
    let nine: Vec<(String, String)> = (0..9)
        .map(|i| (format!("flag-{i}"), format!("v{i}")))
        .collect();
    for text in [V1BETA3, V1BETA4] {
        let edits: Vec<_> = nine.iter().map(|(n, v)| set(n, v)).collect();
        let hard = edit_cluster_configuration(text, API, &edits).unwrap();
        let more = edit_cluster_configuration(&hard, API, &[set("profiling", "false")]).unwrap();
        let args = ClusterConfiguration::parse(&more).unwrap().args(API);
        for pair in &nine {
            assert!(args.contains(pair), "{pair:?} in {args:?}");
        }
        assert_eq!(args.len(), 11);
    }
}

#[test]
fn a_name_that_stands_several_times_becomes_one() {
    let text = V1BETA4.replace(
        "  - name: runtime-config\n",
        "  - name: profiling\n    value: \"true\"\n  - name: runtime-config\n    value: a\n  - name: profiling\n    value: \"true\"\n  - name: runtime-config\n",
    );
    let config = ClusterConfiguration::parse(&text).unwrap();
    assert_eq!(config.values(API, "profiling"), ["true", "true"]);
    assert_eq!(config.values(API, "runtime-config"), ["a", ""]);
    let edits = [set("profiling", "false"), remove("runtime-config")];
    let edited = edit_cluster_configuration(&text, API, &edits).unwrap();
    assert_eq!(
        ClusterConfiguration::parse(&edited).unwrap().args(API),
        [("profiling".into(), "false".into())]
    );
}

#[test]
fn a_configuration_that_is_not_one_is_refused() {
    let parse = |text: &str| ClusterConfiguration::parse(text).unwrap_err();
    for text in [
        V1BETA4.replace("v1beta4", "v1beta2"),
        V1BETA4.replace("kind: ClusterConfiguration", "kind: InitConfiguration"),
        String::new(),
    ] {
        assert!(matches!(parse(&text), KubeadmError::Kind { .. }), "{text}");
    }
    for text in [
        V1BETA4.replace("v1beta4", "v1beta3"),
        V1BETA3.replace("v1beta3", "v1beta4"),
        V1BETA4.replace("scheduler: {}", "scheduler: {extraVolumes: 1}"),
        V1BETA3.replace("runtime-config: \"\"", "runtime-config: 1"),
    ] {
        assert!(matches!(parse(&text), KubeadmError::Shape { .. }), "{text}");
    }
}

/// Words that some reader of YAML takes for something else than a string, or that need quotes.
fn awkward() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "",
            "yes",
            "no",
            "on",
            "y",
            "N",
            "null",
            "~",
            "true",
            "0x1f",
            "1e3",
            "0644",
            "1_000",
            "12:30:45",
            "2001-01-01",
            ".inf",
            "-",
            "--",
            "---",
            "...",
            "-1",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "'",
            "\"",
            "\\",
            "'a",
            "a'b\"c",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a]",
            "a,b",
            "?",
            "? a",
            "| a",
            "> a",
            " a",
            "a ",
            "\t",
            "ä",
            "日本",
            "🦀",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "a=b",
            "=",
            "<<",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,40}",
        "\\PC{0,20}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,6}){0,3}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_flag_survives_in_a_manifest(name in name(), value in awkward(), rank in 0usize..3) {
        let mut order = vec!["runtime-config".to_owned()];
        order.insert(rank.min(1), name.clone());
        let edits = [set(&name, &value)];
        let edited = edit_manifest(APISERVER, API, &edits, &order).unwrap();
        let manifest = Manifest::parse(&edited, API).unwrap();
        prop_assert_eq!(manifest.values(&name), vec![value]);
        prop_assert_eq!(&edit_manifest(&edited, API, &edits, &order).unwrap(), &edited);
        let lines = changed(APISERVER, &edited);
        prop_assert!(lines.len() <= 3, "{:?}", lines);
        let others = |argv: &[String]| -> Vec<String> {
            let own = format!("--{name}=");
            argv.iter().filter(|w| !w.starts_with(&own)).cloned().collect()
        };
        prop_assert_eq!(others(&manifest.argv), others(&Manifest::parse(APISERVER, API).unwrap().argv));
    }

    #[test]
    fn any_flag_survives_in_cluster_configuration(name in name(), value in awkward(), old in awkward()) {
        for text in [V1BETA3, V1BETA4] {
            let first = edit_cluster_configuration(text, API, &[set(&name, &old)]).unwrap();
            let edits = [set(&name, &value)];
            let edited = edit_cluster_configuration(&first, API, &edits).unwrap();
            let config = ClusterConfiguration::parse(&edited).unwrap();
            prop_assert_eq!(config.values(API, &name), vec![value.clone()]);
            prop_assert_eq!(&edit_cluster_configuration(&edited, API, &edits).unwrap(), &edited);
            prop_assert!(changed(&first, &edited).len() <= 2);
            let gone = edit_cluster_configuration(&edited, API, &[remove(&name)]).unwrap();
            prop_assert!(ClusterConfiguration::parse(&gone).unwrap().values(API, &name).is_empty());
        }
    }

    #[test]
    fn any_edits_of_a_manifest_settle_at_once(
        flags in proptest::collection::vec((name(), awkward()), 0..6),
        gone in proptest::sample::subsequence(vec!["secure-port", "runtime-config", "allow-privileged"], 0..3),
        volumes in proptest::collection::btree_map("[a-z]{1,8}", "/[a-z]{1,8}", 0..3),
    ) {
        let mut edits: Vec<ComponentEdit> = gone.iter().map(|n| remove(n)).collect();
        let mut seen = std::collections::BTreeSet::new();
        edits.extend(flags.iter().filter(|(n, _)| seen.insert(n.clone())).map(|(n, v)| set(n, v)));
        edits.extend(volumes.iter().map(|(n, p)| mount(n, p, true)));
        let config = edit_cluster_configuration(V1BETA4, API, &edits).unwrap();
        let order = order(&config, API);
        let edited = edit_manifest(APISERVER, API, &edits, &order).unwrap();
        prop_assert_eq!(&edit_manifest(&edited, API, &edits, &order).unwrap(), &edited);
        prop_assert_eq!(&edit_cluster_configuration(&config, API, &edits).unwrap(), &config);
        // The extra arguments stand last, in their order, as kubeadm writes them.
        let argv = Manifest::parse(&edited, API).unwrap().argv;
        let extra: Vec<String> = ClusterConfiguration::parse(&config).unwrap()
            .args(API).iter().map(|(n, v)| format!("--{n}={v}")).collect();
        prop_assert!(argv.ends_with(&extra), "{:?} {:?}", argv, extra);
    }
}

/// Set `HARDEN_KUBEADM` to a kubeadm 1.35 to render what is compared here afresh.
#[test]
fn the_next_kubeadm_upgrade_finds_nothing_to_change() {
    let edits = [
        set("profiling", "false"),
        set(
            "enable-admission-plugins",
            "NodeRestriction,AlwaysPullImages",
        ),
        set("audit-log-path", "/var/log/kubernetes/audit/audit.log"),
        mount("harden", "/etc/kubernetes/harden", true),
        mount("audit", "/var/log/kubernetes/audit", false),
    ];
    for (component, manifest) in [
        (Component::KubeApiserver, APISERVER),
        (Component::KubeControllerManager, CONTROLLER),
        (Component::KubeScheduler, SCHEDULER),
    ] {
        let config = edit_cluster_configuration(V1BETA4, component, &edits).unwrap();
        let ours = edit_manifest(manifest, component, &edits, &order(&config, component)).unwrap();
        let path = format!("tests/fixtures/kubeadm-1.35/after/{component}.yaml");
        if let Some(kubeadm) = std::env::var_os("HARDEN_KUBEADM") {
            let dir = tempfile::tempdir().unwrap();
            let init = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 10.0.0.11, bindPort: 6443}\n";
            let file = dir.path().join("config.yaml");
            std::fs::write(&file, format!("{config}---\n{init}")).unwrap();
            let status = std::process::Command::new(kubeadm)
                .args([
                    "init",
                    "phase",
                    "control-plane",
                    "all",
                    "--dry-run",
                    "--config",
                ])
                .arg(&file)
                .env("KUBEADM_INIT_DRYRUN_DIR", dir.path())
                .status()
                .unwrap();
            assert!(status.success());
            let find = |dir: &std::path::Path| dir.join(format!("{component}.yaml"));
            std::fs::create_dir_all("tests/fixtures/kubeadm-1.35/after").unwrap();
            std::fs::copy(find(dir.path()), &path).unwrap();
        }
        let theirs = std::fs::read_to_string(&path).unwrap();
        assert_eq!(changed(&theirs, &ours), [""; 0], "{component}");
    }
}
