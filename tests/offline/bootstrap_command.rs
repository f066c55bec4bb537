//! `harden bootstrap`, as far as no cluster is needed.
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::command::{harden, json, workspace};

const ROOT: &str = r#"imports = ["builtin:baseline"]
[cluster]
name       = "prod-eu"
kubeconfig = "nowhere"
"#;

#[test]
fn the_tree_is_written_and_told() {
    let dir = workspace(&[("harden.toml", ROOT)]);
    for (name, config) in [
        ("kubeadm", Some("kubeadm.yaml")),
        ("kind", Some("kind.yaml")),
        ("k3s", None),
        ("rke2", None),
    ] {
        let told = json(dir.path(), &["bootstrap", name, name]);
        assert_eq!(told["schema"], "harden.dev/bootstrap/v1");
        let files: Vec<&str> = told["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file.as_str().unwrap())
            .collect();
        for file in ["README.md", "after.md", "files.tsv", "place-files.sh"]
            .into_iter()
            .chain(config)
        {
            assert!(files.contains(&file), "{name}: {files:?}");
        }
        for file in files {
            let mode = fs::metadata(dir.path().join(name).join(file)).unwrap();
            let is_private = mode.permissions().mode() & 0o077 == 0;
            assert_eq!(is_private, file.starts_with("files/"), "{file}");
        }
        let after = told["after"].as_array().unwrap();
        assert!(after.contains(&"mode of /etc/kubernetes/admin.conf".into()));
    }
}

#[test]
fn the_same_workspace_gives_the_same_bytes_and_only_its_own_tree_is_replaced() {
    let dir = workspace(&[("harden.toml", ROOT), ("ours/notes.txt", "ours")]);
    let config = || fs::read_to_string(dir.path().join("out/kind.yaml")).unwrap();
    let written = harden(dir.path(), &["bootstrap", "kind", "out"]);
    let first = config();
    assert_eq!(written, harden(dir.path(), &["bootstrap", "kind", "out"]));
    assert_eq!(first, config());
    let more = [
        "bootstrap",
        "kind",
        "out",
        "--control-planes",
        "3",
        "--workers",
        "2",
    ];
    harden(dir.path(), &more);
    assert_eq!(config().matches("role: control-plane").count(), 3);
    assert_eq!(config().matches("role: worker").count(), 2);

    insta::assert_snapshot!(harden(dir.path(), &["bootstrap", "kubeadm", "ours"]), @"
    exit 1
    --- stdout
    --- stderr
    error: ours is not empty and was not written by `harden bootstrap`; nothing was written
    hint: name a directory that is yet to be made, is empty, or is as `harden bootstrap` left it
    ");
    // Neither of the two commands takes the other's tree for its own.
    assert!(harden(dir.path(), &["render", "out"]).starts_with("exit 1"));
    fs::write(dir.path().join("out/kind.yaml"), "mine").unwrap();
    let said = harden(dir.path(), &["bootstrap", "kind", "out"]);
    assert!(
        said.contains("was changed since `harden bootstrap` wrote it"),
        "{said}"
    );
}

#[test]
fn what_is_typed_wrong_is_refused_before_anything_is_written() {
    let dir = workspace(&[("harden.toml", ROOT)]);
    insta::assert_snapshot!(harden(dir.path(), &["bootstrap", "kubeadm", "out", "--kubernetes-version", "stable-1.35"]), @r#"
    exit 1
    --- stdout
    --- stderr
    error: "stable-1.35" is no version of Kubernetes; nothing was written
    hint: write it whole, as in v1.35.4
    "#);
    insta::assert_snapshot!(harden(dir.path(), &["bootstrap", "k3s", "out", "--workers", "2"]), @"
    exit 1
    --- stdout
    --- stderr
    error: --workers is for kind only; nothing was written
    hint: leave --workers out
    ");
    for wrong in [
        &["bootstrap"][..],
        &["bootstrap", "kubeadm"],
        &["bootstrap", "talos", "out"],
        &["bootstrap", "kind", "out", "--control-planes", "0"],
        &["bootstrap", "kubeadm", "out", "--on", "cp4"],
    ] {
        let said = harden(dir.path(), wrong);
        assert!(said.starts_with("exit 1"), "{wrong:?}: {said}");
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_version_is_written_as_kubeadm_does() {
    let dir = workspace(&[("harden.toml", ROOT)]);
    harden(
        dir.path(),
        &[
            "bootstrap",
            "kubeadm",
            "out",
            "--kubernetes-version",
            "1.35.4",
        ],
    );
    let text = fs::read_to_string(dir.path().join("out/kubeadm.yaml")).unwrap();
    assert!(text.contains("\nkubernetesVersion: v1.35.4\n"), "{text}");
}

#[test]
fn preparing_a_node_needs_the_cluster_that_it_joins() {
    let dir = workspace(&[("harden.toml", ROOT)]);
    let said = harden(dir.path(), &["bootstrap", "--on", "cp4", "--yes"]);
    assert!(
        said.starts_with("exit 1") && said.contains("nowhere"),
        "{said}"
    );
}
