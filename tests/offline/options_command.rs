//! `harden options`: what a profile may say.
use crate::command::{harden, json, stdout, workspace};

const MODULE: &str = r#"
[module]
summary = "A module of the workspace"
on      = "nodes"
[options.ports]
type          = "list"
doc           = "What listens."
risk          = "restart"
uniform       = true
since         = "1.30"
until         = "1.40"
distributions = ["kubeadm"]
[options.ports.items]
type = "record"
[options.ports.items.fields.number]
type = "int"
min  = 1
doc  = "The port."
[options.grace]
type     = "duration"
stricter = "lower"
doc      = "How long to wait."
risk     = "reload"
per      = "node"
[[flag]]
on        = "control-plane"
component = "kube-apiserver"
name      = "grace"
value     = "${own.grace}"
[[object]]
on = "api"
[object.manifest]
apiVersion = "v1"
kind       = "ConfigMap"
metadata   = { name = "x", namespace = "default" }
data       = { ports = "${own.ports}" }
"#;

#[test]
fn a_query_finds_names_and_texts() {
    let dir = workspace(&[]);
    insta::assert_snapshot!(stdout(dir.path(), &["options", "NAME.POD-SECURITY"]), @r"
    tenants.NAME.pod-security
        Refuse pods that do not keep this Pod Security Standard.
        type          `privileged`, `baseline` or `restricted`
        risk          guarded
        order         from lax to strict: privileged, baseline, restricted
        per           tenant
        controls      tenant-pod-security

    tenants.NAME.pod-security-version
        The Kubernetes version whose Pod Security Standards count.
        type          a string that matches `latest|v1\.[0-9]+`
        risk          guarded
        per           tenant
        controls      tenant-pod-security
    ");
    let found = stdout(dir.path(), &["options", "the audit log when"]);
    assert!(found.starts_with("audit.log-max-size\n"), "{found}");
    insta::assert_snapshot!(harden(dir.path(), &["options", "zzz"]), @r#"
    exit 1
    --- stdout
    --- stderr
    error: no option has "zzz" in its name or its text
    hint: `harden options` lists every option; a part of a word is enough
    "#);
}

#[test]
fn the_modules_of_a_workspace_are_in_it() {
    let root = "modules = [\"own.toml\"]\ncluster.name = \"x\"\n";
    let dir = workspace(&[("harden.toml", root), ("own.toml", MODULE)]);
    insta::assert_snapshot!(stdout(dir.path(), &["options", "own."]), @r#"
    own.grace
        How long to wait.
        type          a duration such as "1h30m"
        risk          reload
        order         shorter is stricter
        per           node: one may have its own value below `[nodes.host.NAME]`

    own.ports
        What listens.
        type          a list, each item a table
        risk          restart
        per           cluster
        uniform       a failed change puts every node back
        Kubernetes    1.30 to 1.40
        distributions kubeadm

    own.ports[].number
        The port.
        type          an integer of at least 1
        risk          restart
        per           cluster
        uniform       a failed change puts every node back
        Kubernetes    1.30 to 1.40
        distributions kubeadm
    "#);
    let without = workspace(&[]);
    assert!(harden(without.path(), &["options", "own.ports"]).starts_with("exit 1"));
}

#[test]
fn as_json() {
    let dir = workspace(&[]);
    let all = json(dir.path(), &["options"]);
    assert_eq!(all["schema"], "harden.dev/options/v1");
    let names: Vec<&str> = all["options"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    let one = json(dir.path(), &["options", "certificates-mode"]);
    insta::assert_snapshot!(format!("{one:#}"), @r#"
    {
      "options": [
        {
          "controls": [
            "pki-certificates-owner-only",
            "pki-certificates-unwritable"
          ],
          "distributions": [
            "kubeadm",
            "k3s",
            "rke2"
          ],
          "doc": "The widest mode of the control plane's certificates, owned by root.",
          "example": "\"0644\"",
          "name": "files.certificates-mode",
          "per": "node",
          "risk": "safe",
          "since": null,
          "strictness": "fewer permission bits are stricter",
          "type": "an octal mode such as \"0600\"",
          "uniform": false,
          "until": null
        }
      ],
      "schema": "harden.dev/options/v1"
    }
    "#);
}

#[test]
fn what_is_wrong_with_a_module_is_told() {
    let root = "modules = [\"own.toml\"]\ncluster.name = \"x\"\n";
    let dir = workspace(&[("harden.toml", root), ("own.toml", "[module]\n")]);
    let said = harden(dir.path(), &["options"]);
    assert!(
        said.starts_with("exit 1") && said.contains("`module.summary` is missing"),
        "{said}"
    );
    assert_eq!(harden(dir.path(), &["schema"]), said);
}

#[test]
fn a_workspace_that_was_asked_for_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        &["options"][..],
        &["schema"],
        &["explain", "apiserver.profiling"],
    ] {
        let said = harden(dir.path(), &[&["-C", "nowhere"], command].concat());
        assert!(
            said.starts_with("exit 1") || said.contains("exit 1"),
            "{said}"
        );
        assert!(
            said.contains("nowhere/harden.toml cannot be read"),
            "{said}"
        );
    }
}
