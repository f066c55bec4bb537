//! `harden plan -o` and `harden apply FILE`, as far as no cluster is needed.
use std::fs;
use std::os::unix::fs::FileTypeExt;

use crate::command::harden;
use harden::plan::{Cluster, Plan, Purpose, SCHEMA, to_saved};

/// A workspace whose kubeconfig is missing: no API answers.
const ROOT: &str = "[cluster]\nname = \"x\"\nkubeconfig = \"nowhere\"\n";

fn workspace() -> tempfile::TempDir {
    crate::command::workspace(&[("harden.toml", ROOT)])
}

fn plan() -> Plan {
    Plan {
        schema: SCHEMA.into(),
        version: harden::VERSION.into(),
        cluster: Cluster {
            name: "x".into(),
            id: "5f1e".into(),
            distribution: Default::default(),
        },
        desired: String::new(),
        etcd_leader: None,
        purpose: Purpose::Converge,
        nodes: [("cp1".to_owned(), true)].into(),
        changes: Vec::new(),
        stages: Vec::new(),
        problems: Vec::new(),
        impact: Default::default(),
        basis: Vec::new(),
    }
}

#[test]
fn an_edited_plan_is_refused() {
    let dir = workspace();
    let saved = to_saved(&plan()).unwrap();
    let apply = |text: &str| {
        fs::write(dir.path().join("plan.json"), text).unwrap();
        harden(dir.path(), &["apply", "--yes", "plan.json"])
    };
    // What is as it was made goes on to the API.
    let unchanged = apply(&format!("{saved:#}\n"));
    assert!(unchanged.contains("kubeconfig"), "{unchanged}");
    let mut edited = saved;
    edited["nodes"]["cp1"] = false.into();
    insta::assert_snapshot!(apply(&format!("{edited:#}\n")), @r"
    exit 1
    --- stdout
    --- stderr
    error: plan.json: the plan file was changed after it was made; nothing was changed
    hint: `harden plan -o FILE` makes a new one; what should be otherwise belongs in the profile
    ");
}

#[test]
fn a_plan_is_saved_over_nothing_but_a_file() {
    let dir = workspace();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
    insta::assert_snapshot!(harden(dir.path(), &["plan", "-o", "link"]), @r"
    exit 1
    --- stdout
    --- stderr
    error: link is a symbolic link, not a regular file; it is left as it is
    hint: name a file, or a place where nothing is yet
    ");
    for (place, what) in [
        ("socket", "a device or socket"),
        ("/dev/null", "a device or socket"),
        (".", "a directory"),
    ] {
        let said = harden(dir.path(), &["plan", "-o", place]);
        let refusal = format!("{place} is {what}, not a regular file");
        assert!(said.contains(&refusal), "{said}");
    }
    let kind = fs::symlink_metadata("/dev/null").unwrap().file_type();
    assert!(kind.is_char_device());
    // It is told before anything is asked.
    assert!(harden(dir.path(), &["plan", "-o", "new"]).contains("kubeconfig"));
}
