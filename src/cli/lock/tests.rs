//! A lock compared with the present, and written, without a cluster.

#![allow(clippy::unwrap_used)]

use super::*;
use harden::module::Modules;

fn workspace() -> (tempfile::TempDir, Workspace) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("harden.toml"), "[cluster]\nname = \"x\"\n").unwrap();
    let workspace = profile::load(dir.path(), &Modules::builtin().unwrap()).unwrap();
    (dir, workspace)
}

fn identity(id: &str) -> ClusterIdentity {
    ClusterIdentity {
        id: id.into(),
        kubernetes: "1.35".into(),
    }
}

fn unreachable() -> ApiError {
    ApiError::Unreachable {
        why: "nobody is there".into(),
    }
}

const LONG: Duration = Duration::from_secs(60);

fn refusal<A>(compared: Compared<A>) -> String {
    match compared.accepted() {
        Err(Failure::Other { what, hint }) => format!("{what}\n{hint}"),
        _ => String::new(),
    }
}

#[test]
fn what_is_as_locked_is_accepted_with_all_patience() {
    let (_dir, workspace) = workspace();
    let lock = Lock::new(&workspace, identity("a"));
    let compared = compare(&lock, &workspace, LONG, |wait| Ok((identity("a"), wait)));
    assert!(matches!(compared.accepted(), Ok(LONG)));
}

#[test]
fn another_cluster_is_refused() {
    let (_dir, workspace) = workspace();
    let lock = Lock::new(&workspace, identity("a"));
    let text = refusal(compare(&lock, &workspace, LONG, |_| {
        Ok((identity("b"), ()))
    }));
    insta::assert_snapshot!(text, @r#"
the workspace differs from harden.lock, so no node was asked:
  the lock is of cluster UID a, this one is b
`harden lock` accepts the workspace as it is now; `git diff` shows what changed
"#);
}

#[test]
fn files_are_told_without_waiting_for_an_api_that_is_down() {
    let (_dir, workspace) = workspace();
    let mut lock = Lock::new(&workspace, identity("a"));
    lock.files.insert("gone.toml".into(), "0".repeat(64));
    let compared = compare(&lock, &workspace, LONG, |wait| {
        assert_eq!(wait, Duration::ZERO);
        Err::<(_, ()), _>(unreachable())
    });
    insta::assert_snapshot!(refusal(compared), @r#"
the workspace differs from harden.lock, so no node was asked:
  gone.toml is in the lock and no longer imported
  the cluster could not be compared: the API server does not answer: nobody is there
`harden lock` accepts the workspace as it is now; `git diff` shows what changed
"#);
}

#[test]
fn an_api_that_is_down_is_no_difference() {
    let (_dir, workspace) = workspace();
    let lock = Lock::new(&workspace, identity("a"));
    let compared = compare(
        &lock,
        &workspace,
        LONG,
        |_| Err::<(_, ()), _>(unreachable()),
    );
    let text = refusal(compared);
    assert!(text.starts_with("the API server does not answer"), "{text}");
}

/// Names and contents of everything in a directory.
fn contents(dir: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut found: Vec<(String, String)> = entries
        .map(|e| (e.file_name().into_string().unwrap(), e.path()))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn the_lock_is_written_once_and_nothing_else() {
    let (dir, workspace) = workspace();
    let mut wanted = contents(dir.path());
    let mut lock = Lock::new(&workspace, identity("a"));
    assert!(write(dir.path(), &lock).unwrap().changed);
    wanted.insert(0, (LOCK_FILE.into(), lock.render()));
    assert_eq!(contents(dir.path()), wanted);

    let again = write(dir.path(), &lock).unwrap();
    assert!(!again.changed && again.moved.is_empty());

    lock.cluster = identity("b");
    let moved = write(dir.path(), &lock).unwrap();
    assert!(moved.changed);
    assert_eq!(moved.moved, ["the lock is of cluster UID a, this one is b"]);
    assert_eq!(profile::load_lock(dir.path()).unwrap(), Some(lock.clone()));

    // In place of a broken one, or of one that says the same in other words.
    for text in ["<<<<<<<".to_owned(), format!("# mine\n{}", lock.render())] {
        std::fs::write(dir.path().join(LOCK_FILE), text).unwrap();
        assert!(write(dir.path(), &lock).unwrap().changed);
        assert_eq!(profile::load_lock(dir.path()).unwrap(), Some(lock.clone()));
    }
}

#[test]
fn a_fifo_in_place_of_the_lock_does_not_hold_the_program_up() {
    let (dir, workspace) = workspace();
    let lock = Lock::new(&workspace, identity("a"));
    let fifo = dir.path().join(LOCK_FILE);
    let made = std::process::Command::new("mkfifo").arg(fifo).status();
    assert!(made.unwrap().success());
    match write(dir.path(), &lock) {
        Err(Failure::Other { what, .. }) => assert!(what.contains("a pipe"), "{what}"),
        _ => panic!("a pipe was replaced"),
    }
}

#[test]
fn a_lock_that_cannot_be_written_is_told() {
    let (dir, workspace) = workspace();
    let lock = Lock::new(&workspace, identity("a"));
    std::fs::create_dir(dir.path().join(LOCK_FILE)).unwrap();
    match write(dir.path(), &lock) {
        Err(Failure::Other { what, hint }) => {
            assert!(what.contains("is a directory"), "{what}");
            assert!(!hint.is_empty());
        }
        _ => panic!("a directory was replaced"),
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn the_summary_says_what_is_accepted() {
    let (_dir, workspace) = workspace();
    let mut lock = Lock::new(&workspace, identity("a"));
    lock.files.retain(|name, _| name == "harden.toml");
    let mut former = lock.clone();
    former.files.insert("gone.toml".into(), "0".repeat(64));
    let moved = former.differences(&lock);
    insta::assert_snapshot!(summary(&Ok(Some(former)), &lock, &moved), @r#"
harden.lock is written; against the former one:
  gone.toml is in the lock and no longer imported
"#);
    insta::assert_snapshot!(summary(&Ok(Some(lock.clone())), &lock, &[]), @r#"harden.lock is up to date."#);
    insta::assert_snapshot!(summary(&Ok(None), &lock, &[]), @r#"harden.lock is written: hashes of 1 files, cluster UID a, Kubernetes 1.35."#);
    insta::assert_snapshot!(summary(&Lock::parse("<<<<<<<").map(Some), &lock, &[]), @r#"
harden.lock is written anew; the former one could not be read:
  this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
  this is not TOML: key with no value, expected `=`
"#);
}
