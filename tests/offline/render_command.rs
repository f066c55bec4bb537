//! `harden render`: the desired state as files, the same bytes everywhere.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::command::{command, harden, json, stdout, workspace};

const ROOT: &str = r#"imports = ["builtin:multi-tenant", "team"]
accept  = ["tenants.payments"]
[cluster]
name       = "prod-eu"
kubeconfig = "admin.conf"
[nodes]
identity = "id_ed25519"
[nodes.host.control-plane.files]
keys-mode = "0400"
[tenants.payments]
namespaces = ["payments"]
quota      = { pods = "20" }
"#;

const FILES: [(&str, &str); 4] = [
    ("harden.toml", ROOT),
    ("team/b.toml", "[scheduler]\nbind-address = \"127.0.0.1\"\n"),
    (
        "team/a.toml",
        "[apiserver]\nadmission-plugins = [\"PodSecurity\"]\n",
    ),
    ("admin.conf", "client-key-data: c2VjcmV0\n"),
];

/// Every file below a directory, by relative path.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

/// The names right in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_tree() {
    let dir = workspace(&FILES);
    let said = harden(dir.path(), &["render", "out"]);
    assert_eq!(
        said,
        "exit 0\n--- stdout\n--- stderr\n15 files are in out.\n"
    );
    let tree = tree(&dir.path().join("out"));
    let list: Vec<&str> = tree.keys().map(String::as_str).collect();
    insta::assert_snapshot!(list.join("\n"), @"
    .harden-render
    desired.sha256
    nodes/_all/certificates.yaml
    nodes/_all/modes.yaml
    nodes/_control-plane/etc/kubernetes/harden/audit-policy-9d3d4b9f76eb.yaml
    nodes/_control-plane/flags.yaml
    nodes/_control-plane/modes.yaml
    nodes/_control-plane/volumes.yaml
    nodes/control-plane/modes.yaml
    objects/_cluster/namespace-payments.yaml
    objects/payments/networkpolicy-harden-allow-dns.yaml
    objects/payments/networkpolicy-harden-allow-same-tenant.yaml
    objects/payments/networkpolicy-harden-default-deny.yaml
    objects/payments/networkpolicy-harden-egress.yaml
    objects/payments/resourcequota-harden.yaml
    ");
    insta::assert_snapshot!(tree["nodes/_control-plane/flags.yaml"], @r#"
    kube-apiserver:
      audit-log-maxage:
        merge: exact
        value: "30"
      audit-log-maxbackup:
        merge: exact
        value: "10"
      audit-log-maxsize:
        merge: exact
        value: "100"
      audit-log-path:
        merge: exact
        value: /var/log/kubernetes/audit/audit.log
      audit-policy-file:
        merge: exact
        value: /etc/kubernetes/harden/audit-policy-9d3d4b9f76eb.yaml
      enable-admission-plugins:
        merge: additive
        value:
        - NodeRestriction
        - PodSecurity
      profiling:
        merge: exact
        value: "false"
      tls-min-version:
        merge: exact
        value: VersionTLS12
    kube-controller-manager:
      profiling:
        merge: exact
        value: "false"
      terminated-pod-gc-threshold:
        merge: exact
        value: "1000"
    kube-scheduler:
      bind-address:
        merge: exact
        value: "127.0.0.1"
      profiling:
        merge: exact
        value: "false"
    "#);
    insta::assert_snapshot!(tree["nodes/_control-plane/volumes.yaml"], @"
    kube-apiserver:
      harden:
        hostPath: /etc/kubernetes/harden
        mountPath: /etc/kubernetes/harden
        pathType: DirectoryOrCreate
        readOnly: true
      harden-audit-log:
        hostPath: /var/log/kubernetes/audit
        mountPath: /var/log/kubernetes/audit
        pathType: DirectoryOrCreate
        readOnly: false
    ");
    insta::assert_snapshot!(tree["objects/payments/resourcequota-harden.yaml"], @r#"
    apiVersion: v1
    kind: ResourceQuota
    metadata:
      labels:
        app.kubernetes.io/managed-by: harden
      name: harden
      namespace: payments
    spec:
      hard:
        pods: "20"
    "#);
    let of = |name: &str| -> serde_json::Value { serde_saphyr::from_str(&tree[name]).unwrap() };
    let key = "/etc/kubernetes/pki/*.key";
    let own = &of("nodes/control-plane/modes.yaml")[key];
    assert_eq!(own["at-most"], "0400");
    let shared = &of("nodes/_control-plane/modes.yaml")[key];
    assert_eq!(shared["at-most"], "0600");
    assert_eq!(shared["except"][0], "control-plane");
    let policy = tree
        .keys()
        .find(|name| name.contains("/audit-policy-"))
        .unwrap();
    assert!(tree[policy].starts_with("apiVersion: audit.k8s.io/v1\n"));
    let hash = stdout(dir.path(), &["eval", "--hash"]);
    assert_eq!(tree["desired.sha256"], hash);
}

#[test]
fn nothing_of_how_nodes_are_reached_is_in_it() {
    let dir = workspace(&FILES);
    stdout(dir.path(), &["render", "out"]);
    for (name, text) in tree(&dir.path().join("out")) {
        for secret in ["c2VjcmV0", "id_ed25519"] {
            assert!(!text.contains(secret), "{name}: {secret}");
        }
        assert!(!text.contains(dir.path().to_str().unwrap()), "{name}");
    }
}

/// The same from another directory, with other surroundings, with files written in another order.
#[test]
fn the_same_inputs_give_the_same_bytes() {
    let first = workspace(&FILES);
    let hash = stdout(first.path(), &["eval", "--hash"]);
    assert_eq!(hash.len(), 65);
    stdout(first.path(), &["render", "out"]);
    let wanted = tree(&first.path().join("out"));

    let mut reversed = FILES;
    reversed.reverse();
    let second = workspace(&reversed);
    let elsewhere = tempfile::tempdir().unwrap();
    let out = elsewhere.path().join("tree");
    let at = second.path().to_str().unwrap();
    let run = |args: &[&str]| {
        let args = [&["-C", at], args].concat();
        let output = command(elsewhere.path(), &args)
            .env("LANG", "tr_TR.UTF-8")
            .env("LC_ALL", "tr_TR.UTF-8")
            .env("TZ", "Pacific/Chatham")
            .env("HOME", elsewhere.path())
            .env("USER", "somebody")
            .env("TMPDIR", elsewhere.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["eval", "--hash"]), hash);
    run(&["render", out.to_str().unwrap()]);
    assert_eq!(tree(&out), wanted);
    assert_eq!(names(elsewhere.path()), ["tree"]);
    assert_eq!(run(&["eval"]), stdout(first.path(), &["eval"]));
}

#[test]
fn a_former_render_is_replaced_as_a_whole() {
    let dir = workspace(&FILES);
    let out = dir.path().join("out");
    stdout(dir.path(), &["render", "out"]);
    let wanted = tree(&out);
    stdout(dir.path(), &["render", "out/"]);
    assert_eq!(tree(&out), wanted);
    assert_eq!(
        names(dir.path()),
        ["admin.conf", "harden.toml", "out", "team"]
    );
    // With fewer tenants there are fewer files.
    fs::write(dir.path().join("harden.toml"), "cluster.name = \"x\"\n").unwrap();
    let few = json(dir.path(), &["render", "out"]);
    assert_eq!(
        few["files"],
        serde_json::json!([".harden-render", "desired.sha256"])
    );
    assert_eq!(tree(&out).len(), 2);
}

#[test]
fn what_was_added_to_a_render_or_changed_in_it_is_not_lost() {
    let refused = |change: &dyn Fn(&std::path::Path), what: &str| {
        let dir = workspace(&FILES);
        stdout(dir.path(), &["render", "out"]);
        let out = dir.path().join("out");
        change(&out);
        let mark = fs::metadata(out.join(".harden-render")).unwrap();
        let said = harden(dir.path(), &["render", "out"]);
        assert!(said.contains("exit 1") && said.contains(what), "{said}");
        // It is the same file, so nothing was replaced.
        let now = fs::metadata(out.join(".harden-render")).unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&mark),
            std::os::unix::fs::MetadataExt::ino(&now)
        );
    };
    let write = |name: &'static str| {
        move |out: &std::path::Path| fs::write(out.join(name), "mine").unwrap()
    };
    refused(&write("objects/own.yaml"), "holds \"objects/own.yaml\"");
    refused(&write("own"), "holds \"own\"");
    refused(
        &write("desired.sha256"),
        "was changed since `harden render` wrote it",
    );
    refused(
        &|out| fs::create_dir(out.join("nodes/own")).unwrap(),
        "holds \"nodes/own\"",
    );
    refused(
        &|out| std::os::unix::fs::symlink("/etc", out.join("nodes/link")).unwrap(),
        "holds \"nodes/link\"",
    );
    refused(
        &|out| fs::remove_file(out.join("desired.sha256")).unwrap(),
        "was changed since `harden render` wrote it",
    );
}

#[test]
fn an_empty_directory_is_taken() {
    let dir = workspace(&FILES);
    fs::create_dir(dir.path().join("out")).unwrap();
    stdout(dir.path(), &["render", "out"]);
    assert!(dir.path().join("out/.harden-render").is_file());
    // Also from inside it.
    let inside = dir.path().join("out");
    let wanted = tree(&inside);
    stdout(&inside, &["-C", "..", "render", "."]);
    assert_eq!(tree(&inside), wanted);
}

#[test]
fn what_no_render_wrote_is_left_alone() {
    let dir = workspace(&FILES);
    stdout(dir.path(), &["render", "ours"]);
    fs::create_dir(dir.path().join("ours/.git")).unwrap();
    std::os::unix::fs::symlink("ours", dir.path().join("link")).unwrap();
    let before = tree(dir.path());
    let all = [".", "team", "harden.toml", "link", "ours", "none/out", "/"]
        .map(|place| format!("{place}: {}", harden(dir.path(), &["render", place])));
    insta::assert_snapshot!(all.join("\n"), @r#"
    .: exit 1
    --- stdout
    --- stderr
    error: . is not empty and was not written by `harden render`; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it

    team: exit 1
    --- stdout
    --- stderr
    error: team is not empty and was not written by `harden render`; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it

    harden.toml: exit 1
    --- stdout
    --- stderr
    error: harden.toml is no directory; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it

    link: exit 1
    --- stdout
    --- stderr
    error: link is no directory; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it

    ours: exit 1
    --- stdout
    --- stderr
    error: ours holds ".git" besides what `harden render` wrote, which would be lost; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it

    none/out: exit 1
    --- stdout
    --- stderr
    error: none/out has no directory above it; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it

    /: exit 1
    --- stdout
    --- stderr
    error: / cannot be read: Permission denied (os error 13); nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden render` left it
    "#);
    assert_eq!(tree(dir.path()), before);
    assert_eq!(
        names(dir.path()),
        ["admin.conf", "harden.toml", "link", "ours", "team"]
    );
}

#[test]
fn names_of_objects_lead_nowhere_else() {
    let module = r#"
[module]
summary = "Objects of any name"
on      = "api"
[options.names]
type  = "map"
items = "string"
doc   = "Kinds by name."
risk  = "safe"
[[object]]
for-each = "any.names as one"
[object.manifest]
apiVersion = "${one.value}"
kind       = "Role"
metadata   = { name = "${one.name}", namespace = "../../x" }
"#;
    let root = r#"modules = ["any.toml"]
cluster.name = "x"
[any.names]
"../../../../tmp/x" = "v1"
"a/b"               = "v1"
"system:c"          = "v1"
"..\u0007"          = "v1"
"#;
    let dir = workspace(&[("harden.toml", root), ("any.toml", module)]);
    stdout(dir.path(), &["render", "out"]);
    let list = tree(&dir.path().join("out"))
        .into_keys()
        .collect::<Vec<_>>();
    insta::assert_snapshot!(list.join("\n"), @"
    .harden-render
    desired.sha256
    objects/%2E.%2F..%2Fx/role-..%07.yaml
    objects/%2E.%2F..%2Fx/role-..%2F..%2F..%2F..%2Ftmp%2Fx.yaml
    objects/%2E.%2F..%2Fx/role-a%2Fb.yaml
    objects/%2E.%2F..%2Fx/role-system%3Ac.yaml
    ");
    assert_eq!(names(dir.path()), ["any.toml", "harden.toml", "out"]);
}

#[test]
fn resources_that_disagree_are_not_rendered() {
    let module = r#"
[module]
summary = "A file for a flag that another resource sets"
on      = "control-plane"
[options.policy]
type = "string"
doc  = "The policy."
risk = "restart"
[[component-file]]
component = "kube-apiserver"
flag      = "profiling"
name      = "policy"
content   = "${own.policy}"
"#;
    let root = r#"imports = ["builtin:baseline"]
modules = ["own.toml"]
cluster.name = "x"
own.policy   = "{}"
"#;
    let dir = workspace(&[("harden.toml", root), ("own.toml", module)]);
    insta::assert_snapshot!(harden(dir.path(), &["render", "out"]), @r#"
    exit 1
    --- stdout
    --- stderr
    error: the state cannot be written as files: two resources of the profile want different things of kube-apiserver profiling in flags
    hint: `harden eval --format json` shows every resource and the options behind it
    "#);
    assert_eq!(names(dir.path()), ["harden.toml", "own.toml"]);
}
