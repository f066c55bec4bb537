//! `testenv/test` says by its exit status whether everything passed: a stage that fails must never
//! end in success, whatever the clean-up does after it.
use std::fs::{copy, create_dir_all, read_dir, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

/// Runs `testenv/test` with a `cargo` that answers for its version and otherwise does this. In a copy
/// without anything else, so that its clean-up finds no cluster and no daemon of its own.
fn with_cargo_that(does: &str) -> Output {
    // A program that is still open for writing cannot be run, and a child of the other test has it open.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = dir.path().join("testenv/lib");
    create_dir_all(&lib).unwrap();
    for file in read_dir(from.join("testenv/lib")).unwrap() {
        let file = file.unwrap();
        copy(file.path(), lib.join(file.file_name())).unwrap();
    }
    for file in ["Cargo.toml", "testenv/test"] {
        copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let version = format!("cargo {}", env!("CARGO_PKG_RUST_VERSION"));
    let cargo = dir.path().join("cargo");
    let script =
        format!("#!/bin/sh\ncase $1 in --version) echo '{version}' ;; *) {does} ;; esac\n");
    write(&cargo, script).unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let search = std::env::var("PATH").unwrap();
    Command::new(dir.path().join("testenv/test"))
        .env("PATH", format!("{}:{search}", dir.path().display()))
        .env("DOCKER_HOST", "unix:///nonexistent")
        .output()
        .unwrap()
}

#[test]
fn a_stage_that_fails_is_the_exit_status_of_all_tests() {
    let output = with_cargo_that("exit 7");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("FAILED: format (exit status 7"), "{said}");
}

#[test]
fn a_run_that_is_interrupted_has_not_passed() {
    let output = with_cargo_that("kill -TERM $PPID; sleep 5");
    assert_eq!(output.status.code(), Some(143), "{output:?}");
}
