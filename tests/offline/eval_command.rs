//! `harden eval`: the evaluated state, where it comes from, and its hash.
use crate::command::{harden, json, stdout, workspace};
use serde_json::json;

const ROOT: &str = r#"imports = ["builtin:multi-tenant", "team/a.toml"]
unset   = ["controller-manager.terminated-pod-gc-threshold", "audit"]
[cluster]
name = "prod-eu"
[nodes.host.cp1.files]
keys-mode = "0400"
[nodes.host.w1]
role = "worker"
[tenants.payments]
namespaces   = ["payments"]
quota        = { pods = "20", "requests.memory" = "4Gi" }
egress       = [{ ports = [{ port = 443 }] }]
pod-security = "baseline"
"#;

const TEAM: &str = r#"[files]
keys-mode = "0640"
[apiserver]
admission-plugins = ["NodeRestriction", "PodSecurity"]
[tenants.payments]
pod-security = "privileged"
"#;

fn example() -> tempfile::TempDir {
    // `unset` takes options back, not sections.
    let root = ROOT.replace(", \"audit\"", "");
    workspace(&[("harden.toml", &root), ("team/a.toml", TEAM)])
}

#[test]
fn the_state_with_places() {
    insta::assert_snapshot!(harden(example().path(), &["eval"]), @r#"
    exit 0
    --- stdout
    # cluster prod-eu

    [apiserver]
    admission-plugins = ["NodeRestriction", "PodSecurity"]  # builtin:baseline:11, team/a.toml:4
    profiling         = false  # builtin:baseline:6
    tls-min-version   = "VersionTLS12"  # builtin:baseline:8

    [audit]
    log-max-age    = 30  # builtin:baseline:26
    log-max-backup = 10  # builtin:baseline:27
    log-max-size   = 100  # builtin:baseline:28
    policy         = "metadata"  # builtin:baseline:24

    [certificates]
    days-left = 30  # builtin:baseline:40

    [controller-manager]
    profiling = false  # builtin:baseline:14

    [files]
    certificates-mode = "0644"  # builtin:baseline:35
    keys-mode         = "0600"  # builtin:baseline:36
    kubeconfigs-mode  = "0600"  # builtin:baseline:33
    kubelet-mode      = "0600"  # builtin:baseline:34
    manifests-mode    = "0600"  # builtin:baseline:32

    [nodes.host.cp1.files]
    keys-mode = "0400"  # harden.toml:6

    [scheduler]
    profiling = false  # builtin:baseline:19

    [tenants.payments]
    egress                  = [{ ports = [{ port = 443 }] }]  # harden.toml:12
    namespaces              = ["payments"]  # harden.toml:10
    network                 = "isolated"  # builtin:multi-tenant:9
    pod-security            = "baseline"  # harden.toml:13
    quota.pods              = "20"  # harden.toml:11
    quota."requests.memory" = "4Gi"  # harden.toml:11

    # controller-manager.terminated-pod-gc-threshold is taken back by `unset`  # harden.toml:2

    44 resources: 21 on control-plane nodes, 17 on every node, 6 in the API
    SHA-256 of the desired state: 717e6ac083e07a5bf903e1c83e1585ff2703b01c4036efb54086360106d3c063
    --- stderr
    warning: the tenant `payments` has an egress rule without `to`: its ports are open to every tenant and every private range
      tenants.payments at harden.toml:9, tenants.payments at team/a.toml:5
    hint: name the peers in `to`, or remove the rule
      `harden explain network-policy-egress-names-peers` says why it matters
    "#);
}

#[test]
fn quiet_says_nothing_of_findings() {
    let dir = example();
    let all = harden(dir.path(), &["eval"]);
    let quiet = harden(dir.path(), &["eval", "--quiet"]);
    let (result, findings) = all.split_once("--- stderr\n").unwrap();
    assert!(findings.contains("has an egress rule without `to`"));
    assert_eq!(quiet, format!("{result}--- stderr\n"));
}

#[test]
fn a_node_with_values_of_its_own_and_one_whose_role_is_known() {
    let dir = example();
    let cp1 = stdout(dir.path(), &["eval", "--node", "cp1"]);
    assert!(
        cp1.contains("\nkeys-mode         = \"0400\"  # harden.toml:6\n"),
        "{cp1}"
    );
    let count = |text: &str| {
        let line = text.lines().find(|line| line.contains("resources:"));
        line.unwrap().to_owned()
    };
    assert_eq!(
        count(&cp1),
        "36 resources: 19 on control-plane nodes, 17 on every node"
    );
    assert!(cp1.contains("Only the API knows whether cp1"), "{cp1}");
    let worker = stdout(dir.path(), &["eval", "--node", "w1"]);
    assert!(
        worker.contains("\nkeys-mode         = \"0600\"  # builtin:baseline:36\n"),
        "{worker}"
    );
    assert_eq!(count(&worker), "17 resources: 17 on every node");
    assert!(!worker.contains("Only the API"), "{worker}");
    // One that the workspace does not name has what all share.
    let other = json(dir.path(), &["eval", "--node", "cp2"]);
    let shared = json(dir.path(), &["eval"]);
    assert_eq!(other["options"], shared["options"]);
}

#[test]
fn the_resources_of_a_node_are_the_ones_that_concern_it() {
    let dir = example();
    let keys = |node: &str| {
        let json = json(dir.path(), &["eval", "--node", node]);
        let modes: Vec<(String, String)> = json["resources"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|r| r["kind"]["mode"]["path"] == "/etc/kubernetes/pki")
            .filter(|r| r["kind"]["mode"]["entries"] == "*.key")
            .map(|r| (r["only"].to_string(), r["kind"]["mode"]["mode"].to_string()))
            .collect();
        assert!(
            json["resources"]
                .as_array()
                .unwrap()
                .iter()
                .all(|r| r["scope"] != "api")
        );
        modes
    };
    assert_eq!(keys("cp1"), [("\"cp1\"".to_owned(), 0o400.to_string())]);
    assert_eq!(keys("cp2"), [("null".to_owned(), 0o600.to_string())]);
    assert_eq!(keys("w1"), []);
}

#[test]
fn why_tells_every_definition_and_what_became_of_it() {
    let dir = example();
    let why = |option: &str| harden(dir.path(), &["eval", "--why", option]);
    insta::assert_snapshot!(why("files.keys-mode"), @r#"
    exit 0
    --- stdout
    files.keys-mode = "0600"
      holds        builtin:baseline:36  "0600"
      less strict  team/a.toml:2        "0640"  than builtin:baseline:36
    on node cp1:
    files.keys-mode = "0400"
      holds        harden.toml:6        "0400"
      overridden   builtin:baseline:36  "0600"  by harden.toml:6
      overridden   team/a.toml:2        "0640"  by harden.toml:6
    files.keys-mode: The widest mode of the control plane's private keys, owned by root.
    --- stderr
    "#);
    insta::assert_snapshot!(why("apiserver.admission-plugins"), @r#"
    exit 0
    --- stdout
    apiserver.admission-plugins = ["NodeRestriction", "PodSecurity"]
      holds        builtin:baseline:11  ["NodeRestriction"]
      holds        team/a.toml:4        ["NodeRestriction", "PodSecurity"]
    apiserver.admission-plugins: Turn these admission plugins on, besides those that are on already.
    --- stderr
    "#);
    insta::assert_snapshot!(why("tenants.payments.pod-security"), @r#"
    exit 0
    --- stdout
    tenants.payments.pod-security = "baseline"
      holds        harden.toml:13  "baseline"
      overridden   team/a.toml:6   "privileged"  by harden.toml:13
    tenants.pod-security: Refuse pods that do not keep this Pod Security Standard.
    --- stderr
    "#);
    insta::assert_snapshot!(why("tenants.payments.quota.\"requests.memory\""), @r#"
    exit 0
    --- stdout
    tenants.payments.quota.requests.memory = "4Gi"
      holds        harden.toml:11  "4Gi"
    tenants.quota: What each namespace of the tenant may use at most, as in a ResourceQuota.
    --- stderr
    "#);
    insta::assert_snapshot!(why("controller-manager.terminated-pod-gc-threshold"), @"
    exit 0
    --- stdout
    controller-manager.terminated-pod-gc-threshold has no value: it is unmanaged, neither touched nor judged
      unset        harden.toml:2  takes back what its imports say of controller-manager.terminated-pod-gc-threshold
    controller-manager.terminated-pod-gc-threshold: Keep at most this many terminated pods before the oldest are deleted.
    --- stderr
    ");
    insta::assert_snapshot!(why("tenants.payments.labels"), @"
    exit 0
    --- stdout
    tenants.payments.labels has no value: it is unmanaged, neither touched nor judged
    tenants.labels: Labels of every namespace of the tenant.
    --- stderr
    ");
    insta::assert_snapshot!(why("tenants.paymnts.quota"), @"
    exit 0
    --- stdout
    tenants.paymnts.quota has no value: it is unmanaged, neither touched nor judged
    tenants.quota: What each namespace of the tenant may use at most, as in a ResourceQuota.
    --- stderr
    hint: did you mean `tenants.payments.quota`?
    ");
    let cp1 = harden(
        dir.path(),
        &["eval", "--why", "files.keys-mode", "--node", "cp1"],
    );
    insta::assert_snapshot!(cp1, @r#"
    exit 0
    --- stdout
    files.keys-mode = "0400"
      holds        harden.toml:6        "0400"
      overridden   builtin:baseline:36  "0600"  by harden.toml:6
      overridden   team/a.toml:2        "0640"  by harden.toml:6
    files.keys-mode: The widest mode of the control plane's private keys, owned by root.
    --- stderr
    "#);
}

#[test]
fn names_that_are_none() {
    let dir = example();
    let why = |option: &str| harden(dir.path(), &["eval", "--why", option]);
    let all = [
        "apiserver",
        "apiserver.profilin",
        "apiserver.profiling.x",
        "tenants.payments.quta",
        "tenants.*.network",
        "",
        "\u{1b}[31m",
    ]
    .map(why);
    insta::assert_snapshot!(all.join("\n"), @r"
    exit 1
    --- stdout
    --- stderr
    error: there is no option `apiserver`
    hint: it is a section, with the options `apiserver.admission-plugins`, `apiserver.always-admit`, `apiserver.always-pull-images`, `apiserver.anonymous`, `apiserver.authorization-mode`, `apiserver.client-ca-file`, `apiserver.deny-service-external-ips`, `apiserver.etcd-ca-file`, `apiserver.etcd-client-certificate`, `apiserver.jwt`, `apiserver.kubelet-certificate-authority`, `apiserver.kubelet-client-certificate`, `apiserver.namespace-lifecycle`, `apiserver.profiling`, `apiserver.request-timeout`, `apiserver.service-account-admission`, `apiserver.service-account-extend-token-expiration`, `apiserver.service-account-key-file`, `apiserver.service-account-lookup`, `apiserver.tls-certificate`, `apiserver.tls-cipher-suites`, `apiserver.tls-min-version`, `apiserver.token-auth-file`

    exit 1
    --- stdout
    --- stderr
    error: there is no option `apiserver.profilin`
    hint: did you mean `apiserver.profiling`?

    exit 1
    --- stdout
    --- stderr
    error: there is no option `apiserver.profiling.x`
    hint: did you mean `apiserver.profiling`?

    exit 1
    --- stdout
    --- stderr
    error: there is no option `tenants.payments.quta`
    hint: did you mean `tenants.payments.quota`?

    exit 1
    --- stdout
    --- stderr
    error: `tenants.*.network` has no value of its own
    hint: it sets what the entries of `tenants` leave open: ask for one of them, as in `tenants.NAME`

    exit 1
    --- stdout
    --- stderr
    error: there is no option ``
    hint: `harden options` lists every option

    exit 1
    --- stdout
    --- stderr
    error: there is no option `\u{1b}[31m`
    hint: `harden options` lists every option
    ");
    insta::assert_snapshot!(harden(dir.path(), &["eval", "--node", "CP 1"]), @r#"
    exit 1
    --- stdout
    --- stderr
    error: "CP 1" is no name of a node
    hint: use the Node object's name: small letters, digits, `-` and `.`
    "#);
}

#[test]
fn why_as_json() {
    let dir = example();
    let why = json(dir.path(), &["eval", "--why", "files.keys-mode"]);
    insta::assert_snapshot!(format!("{why:#}"), @r#"
    {
      "definitions": [
        {
          "file": "builtin:baseline",
          "holds": true,
          "line": 36,
          "name": "files.keys-mode",
          "standing": "holds",
          "value": "0600"
        },
        {
          "by": {
            "file": "builtin:baseline",
            "line": 36
          },
          "file": "team/a.toml",
          "holds": false,
          "line": 2,
          "name": "files.keys-mode",
          "standing": "less-strict",
          "value": "0640"
        }
      ],
      "nodes": {
        "cp1": "0400"
      },
      "option": "files.keys-mode",
      "schema": "harden.dev/why/v1",
      "unset": [],
      "value": "0600"
    }
    "#);
    let why = json(dir.path(), &["eval", "--why", "scheduler.bind-address"]);
    assert_eq!(why["value"], json!(null));
    assert_eq!(why["definitions"], json!([]));
}

#[test]
fn the_state_as_json() {
    let dir = example();
    let state = json(dir.path(), &["eval"]);
    assert_eq!(state["schema"], "harden.dev/eval/v1");
    assert_eq!(state["cluster"], "prod-eu");
    assert_eq!(
        state["sha256"],
        stdout(dir.path(), &["eval", "--hash"]).trim()
    );
    assert_eq!(
        state["options"]["apiserver.profiling"],
        json!({
            "value": false,
            "definitions": [{
                "name": "apiserver.profiling",
                "file": "builtin:baseline",
                "line": 6,
                "value": false,
                "holds": true,
                "standing": "holds",
            }],
        })
    );
    assert_eq!(state["nodes"]["cp1"]["files.keys-mode"]["value"], "0400");
    assert_eq!(state["unset"][0]["line"], 2);
    assert_eq!(
        state["findings"][0]["control"],
        "network-policy-egress-names-peers"
    );
    let flag = state["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "kube-apiserver --profiling");
    insta::assert_snapshot!(format!("{:#}", flag.unwrap()), @r#"
    {
      "controls": [
        "apiserver-profiling-off"
      ],
      "except": [],
      "kind": {
        "flag": {
          "component": "kube-apiserver",
          "name": "profiling",
          "wanted": {
            "exact": "false"
          }
        }
      },
      "name": "kube-apiserver --profiling",
      "only": null,
      "origins": [
        {
          "file": "builtin:baseline",
          "line": 6,
          "option": "apiserver.profiling"
        }
      ],
      "reason": "The API server serves no profiling data",
      "risk": "restart",
      "scope": "control-plane",
      "uniform": false
    }
    "#);
}

#[test]
fn what_is_wrong_with_the_workspace_is_told() {
    let dir = workspace(&[("harden.toml", ROOT), ("team/a.toml", TEAM)]);
    let wrong = harden(dir.path(), &["eval", "--hash"]);
    assert!(
        wrong.starts_with("exit 1\n--- stdout\n--- stderr\n"),
        "{wrong}"
    );
    assert!(
        wrong.contains("`unset` names `audit`, which is no option"),
        "{wrong}"
    );
    for args in [
        &["eval"][..],
        &["eval", "--why", "apiserver.profiling"],
        &["render", "x"],
    ] {
        assert_eq!(harden(dir.path(), args), wrong, "{args:?}");
    }
}

#[test]
fn an_empty_workspace_manages_nothing() {
    let dir = workspace(&[("harden.toml", "cluster.name = \"x\"\n")]);
    let said = stdout(dir.path(), &["eval"]);
    assert!(
        said.starts_with("# cluster x\n\nNo resources: nothing is managed.\n"),
        "{said}"
    );
}

/// Two imports that share a third: what one of them overrides is overridden, whatever the order.
#[test]
fn why_knows_who_imports_whom() {
    let root = |imports: &str| format!("imports = [{imports}]\ncluster.name = \"x\"\n");
    let base = "[files]\nkeys-mode = \"0600\"\n[apiserver]\nprofiling = false\n";
    let a = "imports = [\"base.toml\"]\n[files]\nkeys-mode = \"0640\"\n";
    let b = "imports = [\"base.toml\"]\n[files]\nkeys-mode = \"0644\"\n";
    let why = |imports: &str| {
        let root = root(imports);
        let files = [
            ("harden.toml", &*root),
            ("base.toml", base),
            ("a.toml", a),
            ("b.toml", b),
        ];
        let dir = workspace(&files);
        stdout(dir.path(), &["eval", "--why", "files.keys-mode"])
    };
    let told = why("\"a.toml\", \"b.toml\"");
    insta::assert_snapshot!(told, @r#"
    files.keys-mode = "0640"
      holds        a.toml:3     "0640"
      less strict  b.toml:3     "0644"  than a.toml:3
      overridden   base.toml:2  "0600"  by a.toml:3
    files.keys-mode: The widest mode of the control plane's private keys, owned by root.
    "#);
    assert_eq!(why("\"b.toml\", \"a.toml\""), told);
    // Imported directly, the third asks for its own value: nothing beside it makes that laxer.
    insta::assert_snapshot!(why("\"b.toml\", \"base.toml\", \"a.toml\""), @r#"
    files.keys-mode = "0600"
      less strict  a.toml:3     "0640"  than base.toml:2
      less strict  b.toml:3     "0644"  than base.toml:2
      holds        base.toml:2  "0600"
    files.keys-mode: The widest mode of the control plane's private keys, owned by root.
    "#);
}

#[test]
fn verbose_tells_what_was_read() {
    let dir = crate::command::workspace(&[("harden.toml", "[cluster]\nname = \"x\"\n")]);
    let said = |args: &[&str]| harden(dir.path(), &[&["eval", "--hash"], args].concat());
    let info = said(&["-v"]);
    assert!(info.contains("workspace .: "), "{info}");
    assert!(!info.contains("read harden.toml"), "{info}");
    let debug = said(&["-vv"]);
    assert!(debug.contains("read harden.toml"), "{debug}");
    assert!(!said(&[]).contains("workspace"));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let dir = crate::command::workspace(&[("harden.toml", "[cluster]\nname = \"x\"\n")]);
    let run = |args: &[&str], to: std::process::Stdio| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_harden"));
        command.current_dir(dir.path()).args(args).stdout(to);
        command.stderr(std::process::Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let all = [
        &["eval", "--hash"][..],
        &["eval", "--format", "json"],
        &["schema"],
    ];
    for args in all {
        let full = std::fs::File::create("/dev/full").unwrap();
        let (code, said) = run(args, full.into());
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(
            said.contains("could not be written to stdout: No space"),
            "{said}"
        );
        // Whoever closes the pipe has seen enough.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(
            run(args, writer.into()),
            (Some(0), String::new()),
            "{args:?}"
        );
    }
    let full = std::fs::File::create("/dev/full").unwrap();
    assert_eq!(run(&["--help"], full.into()).0, Some(1));
}

/// The error that docs/profiles.md shows is the one that is told.
#[test]
fn the_documented_error_is_the_real_one() {
    let root = "imports = [\"builtin:baseline\"]\n\n[cluster]\nname = \"prod-eu\"\n\n\n\n[apiserver]\nprofilin = false\n";
    let dir = workspace(&[("harden.toml", root)]);
    let said = harden(dir.path(), &["eval"]);
    let page = include_str!("../../docs/profiles.md");
    let shown = page.split("all of it at once:\n\n```\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    assert!(said.contains(shown), "{said}");
}
