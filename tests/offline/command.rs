//! Runs the `harden` binary on workspaces for which no cluster answers.

use std::fs;
use std::path::Path;
use std::process::Output;

/// Makes a directory with these files.
pub fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// Prepares harden to run in a directory.
pub fn command(dir: &Path, args: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("harden");
    command
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("KUBECONFIG")
        .args(args);
    command
}

/// Runs harden and returns its exit status, stdout and stderr.
pub fn harden(dir: &Path, args: &[&str]) -> String {
    shown(command(dir, args).output().unwrap())
}

/// Runs harden, which must succeed, and returns its stdout.
pub fn stdout(dir: &Path, args: &[&str]) -> String {
    let output = command(dir, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", shown(output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs harden with `--format json`, and returns what it wrote.
pub fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    let args = [args, &["--format", "json"]].concat();
    serde_json::from_str(&stdout(dir, &args)).unwrap()
}

fn shown(output: Output) -> String {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr)
    )
}
