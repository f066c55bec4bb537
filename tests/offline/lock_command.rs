//! `harden lock`, `--frozen` and the refusal of `plan` and `apply`, as far as no cluster is needed.
use std::fs;
use std::path::Path;

use crate::command::harden;
use harden::module::Modules;
use harden::profile::{ClusterIdentity, LOCK_FILE, Lock, load};

/// A workspace whose kubeconfig is missing: no API answers.
const ROOT: &str = r#"
imports = ["builtin:baseline", "team/a.toml"]
[cluster]
name = "x"
kubeconfig = "nowhere"
"#;

fn workspace() -> tempfile::TempDir {
    crate::command::workspace(&[("harden.toml", ROOT), ("team/a.toml", "[apiserver]\n")])
}

/// Writes the lock that `harden lock` would write for a cluster.
fn lock(dir: &Path) {
    let workspace = load(dir, &Modules::builtin().unwrap()).unwrap();
    let cluster = ClusterIdentity {
        id: "5f1e".into(),
        kubernetes: "1.35".into(),
    };
    let lock = Lock::new(&workspace, cluster);
    fs::write(dir.join(LOCK_FILE), lock.render()).unwrap();
}

/// The names in the directory and what is in them.
fn snapshot(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| {
            (
                e.file_name().into_string().unwrap(),
                fs::read(e.path()).unwrap_or_default(),
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn plan_tells_what_moved_although_the_api_is_down() {
    let dir = workspace();
    lock(dir.path());
    fs::write(dir.path().join("team/a.toml"), "imports = [\"b.toml\"]\n").unwrap();
    fs::write(dir.path().join("team/b.toml"), "").unwrap();
    insta::assert_snapshot!(harden(dir.path(), &["plan"]), @"
    exit 1
    --- stdout
    --- stderr
    error: the workspace differs from harden.lock, so no node was asked:
      team/a.toml was changed
      team/b.toml is imported and not in the lock
      the cluster could not be compared: failed to read kubeconfig from './nowhere': No such file or directory (os error 2)
    hint: `harden lock` accepts the workspace as it is now; `git diff` shows what changed
    ");
    let plan = harden(dir.path(), &["plan"]);
    for args in [&["plan", "--frozen"][..], &["apply", "--yes"]] {
        assert_eq!(harden(dir.path(), args), plan, "{args:?}");
    }
}

#[test]
fn what_is_as_locked_goes_on_to_the_api() {
    let dir = workspace();
    lock(dir.path());
    for args in [
        &["plan", "--frozen"][..],
        &["plan"],
        &["apply", "--yes"],
        &["lock", "--check"],
    ] {
        let said = harden(dir.path(), args);
        assert!(said.starts_with("exit 1"), "{said}");
        assert!(said.contains("kubeconfig"), "{args:?}: {said}");
        assert!(!said.contains(LOCK_FILE), "{args:?}: {said}");
    }
}

#[test]
fn frozen_insists_on_a_lock() {
    let dir = workspace();
    insta::assert_snapshot!(harden(dir.path(), &["plan", "--frozen"]), @r#"
exit 1
--- stdout
--- stderr
error: there is no harden.lock, so no node was asked
hint: `harden lock` accepts the workspace as it is now; commit the harden.lock it writes
"#);
    let without = harden(dir.path(), &["plan", "--frozen"]);
    assert_eq!(harden(dir.path(), &["apply", "--yes", "--frozen"]), without);
    assert_eq!(harden(dir.path(), &["lock", "--check"]), without);
    insta::assert_snapshot!(harden(dir.path(), &["lock", "--frozen"]), @r#"
exit 1
--- stdout
--- stderr
error: with --frozen no harden.lock is written
hint: `harden lock --check` compares only
"#);
}

#[test]
fn without_a_lock_only_verbose_says_so() {
    let dir = workspace();
    let silent = harden(dir.path(), &["plan"]);
    assert!(!silent.contains(LOCK_FILE), "{silent}");
    let verbose = harden(dir.path(), &["plan", "-v"]);
    assert!(verbose.contains("there is no harden.lock"), "{verbose}");
}

#[test]
fn undoing_needs_no_lock() {
    let dir = workspace();
    lock(dir.path());
    let same = harden(dir.path(), &["rollback", "--yes"]);
    fs::write(dir.path().join(LOCK_FILE), "broken").unwrap();
    for args in [
        &["rollback", "--yes"][..],
        &["rollback", "--yes", "--frozen"],
        &["generations"],
    ] {
        assert_eq!(harden(dir.path(), args), same, "{args:?}");
    }
    assert!(!same.contains(LOCK_FILE), "{same}");
}

#[test]
fn faults_of_the_workspace_and_its_lock_are_told_at_once() {
    let dir = workspace();
    fs::write(dir.path().join("team/a.toml"), "[apiservr]\n").unwrap();
    fs::write(dir.path().join(LOCK_FILE), "version = 1\n<<<<<<< HEAD\n").unwrap();
    insta::assert_snapshot!(harden(dir.path(), &["plan"]), @r#"
exit 1
--- stdout
--- stderr
  × there is no section `apiservr`
   ╭─[team/a.toml:1:2]
 1 │ [apiservr]
   ·  ────┬───
   ·      ╰── did you mean `apiserver`?
   ╰────
  help: [apiserver]: Command-line flags of kube-apiserver
  × this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
   ╭─[harden.lock:2:1]
 1 │ version = 1
 2 │ <<<<<<< HEAD
   · ───┬───
   ·    ╰── here
   ╰────
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
  × this is not TOML: key with no value, expected `=`
   ╭─[harden.lock:2:9]
 1 │ version = 1
 2 │ <<<<<<< HEAD
   ·         ▲
   ·         ╰── here
   ╰────
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
error: 3 faults in the workspace; nothing was changed
"#);
}

#[test]
fn check_compares_and_writes_nothing() {
    let dir = workspace();
    lock(dir.path());
    fs::write(dir.path().join("team/a.toml"), "# other\n").unwrap();
    let before = snapshot(dir.path());
    insta::assert_snapshot!(harden(dir.path(), &["lock", "--check", "--format", "json"]), @r#"
    exit 1
    --- stdout
    {
      "differences": [
        "team/a.toml was changed"
      ],
      "lock": null,
      "schema": "harden.dev/lock/v1",
      "written": false
    }
    --- stderr
    error: the workspace differs from harden.lock, so no node was asked:
      team/a.toml was changed
      the cluster could not be compared: failed to read kubeconfig from './nowhere': No such file or directory (os error 2)
    hint: `harden lock` accepts the workspace as it is now; `git diff` shows what changed
    "#);
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn without_the_api_no_lock_is_written() {
    let dir = workspace();
    let before = snapshot(dir.path());
    let said = harden(dir.path(), &["lock"]);
    assert!(
        said.starts_with("exit 1\n--- stdout\n--- stderr\nerror: "),
        "{said}"
    );
    assert_eq!(snapshot(dir.path()), before);
}
