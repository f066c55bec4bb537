//! `harden.lock`: a workspace that has moved, or that is used on another cluster, is refused.

use std::fs;

use crate::environment::{Via, Workspace, single};

fn edit(workspace: &Workspace, file: &str, old: &str, new: &str) {
    let path = workspace.path(file);
    let text = fs::read_to_string(&path).expect("text");
    assert!(text.contains(old), "{file} holds no {old:?}:\n{text}");
    fs::write(path, text.replace(old, new)).expect("written");
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_has_moved_is_refused_until_it_is_locked() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(
        Via::Ssh,
        &[("\"builtin:baseline\"", "\"builtin:baseline\", \"own.toml\"")],
        "",
    );
    fs::write(workspace.path("own.toml"), "# nothing yet\n").expect("written");
    let before = cluster.snapshot();

    workspace
        .harden(&["plan", "--frozen"])
        .exits(1)
        .says("there is no harden.lock");
    workspace
        .harden(&["lock"])
        .exits(0)
        .says("harden.lock is written");
    let lock = fs::read_to_string(workspace.path("harden.lock")).expect("a lock");
    let uid = cluster
        .kubectl(&["get", "ns", "kube-system", "-o", "jsonpath={.metadata.uid}"])
        .exits(0)
        .stdout;
    let version = cluster.kubectl(&["version", "-o", "json"]).exits(0).json();
    let server = &version["serverVersion"];
    let part = |name: &str| server[name].as_str().expect("a number").to_owned();
    // A server that was built from a changed tree adds a sign.
    let kubernetes = format!("{}.{}", part("major"), part("minor").trim_end_matches('+'));
    for line in [
        format!("id = \"{}\"", uid.trim()),
        format!("kubernetes = \"{kubernetes}\""),
        "\"own.toml\" = \"sha256:".to_owned(),
        "\"builtin:baseline\" = \"sha256:".to_owned(),
    ] {
        assert!(lock.contains(&line), "no {line:?} in\n{lock}");
    }
    workspace
        .harden(&["lock"])
        .exits(0)
        .says("harden.lock is up to date");
    workspace.harden(&["lock", "--check"]).exits(0);
    workspace
        .harden(&["plan", "--frozen", "-o", "plan.json"])
        .exits(2);

    fs::write(workspace.path("own.toml"), "# something else\n").expect("written");
    for args in [
        &["plan"][..],
        &["lock", "--check"],
        &["apply", "--yes"],
        &["apply", "--yes", "plan.json"],
    ] {
        let said = workspace
            .harden(args)
            .exits(1)
            .says("own.toml was changed")
            .says("`harden lock` accepts");
        // The API answered and is the right one: nothing else is told.
        assert!(!said.stderr.contains("cluster"), "{}", said.stderr);
    }
    workspace.harden(&["generations"]).exits(0);
    assert_eq!(cluster.snapshot(), before, "something was changed");

    workspace
        .harden(&["lock"])
        .exits(0)
        .says("own.toml was changed");
    workspace.harden(&["plan", "--frozen"]).exits(2);
}

#[test]
#[ignore = "needs testenv/up single"]
fn another_cluster_and_another_kubernetes_are_both_told() {
    let cluster = single();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let locked = workspace
        .harden(&["lock", "--format", "json"])
        .exits(0)
        .json();
    let now = &locked["lock"]["cluster"];
    let text = |key: &str| now[key].as_str().expect("text").to_owned();
    edit(&workspace, "harden.lock", &text("id"), "another");
    edit(
        &workspace,
        "harden.lock",
        &format!("\"{}\"", text("kubernetes")),
        "\"1.20\"",
    );
    for args in [&["plan"][..], &["apply", "--yes"]] {
        workspace
            .harden(args)
            .exits(1)
            .says(&format!(
                "the lock is of cluster UID another, this one is {}",
                text("id")
            ))
            .says(&format!("Kubernetes was 1.20, is {}", text("kubernetes")));
    }
    workspace.harden(&["generations"]).exits(0);
    workspace
        .harden(&["lock"])
        .exits(0)
        .says("Kubernetes was 1.20");
    workspace.harden(&["lock", "--check"]).exits(0);
}
