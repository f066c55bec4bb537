//! Killed at every step of the journal: the next run finishes or reverts, and says which.

use crate::environment::{Via, single};
use crate::thin_line::similar_asserts;

/// Kills apply at step k, lets the next apply go until step k+1, kills that, and so on to the end.
/// The steps are those of the plan itself: a new kind of step is killed here without anybody having
/// to think of it.
#[test]
#[ignore = "needs testenv/up single"]
fn killed_at_every_step_of_the_plan_the_next_run_goes_on() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let plan = workspace
        .harden(&["plan", "--format", "json"])
        .exits(2)
        .json();
    let steps: usize = plan["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .map(|s| s["steps"].as_array().expect("steps").len())
        .sum();
    assert!(steps >= 5, "weaken made too little work: {steps} steps");
    let mut killed = Vec::new();
    for step in 1..=steps {
        let marker = format!("[{step}/{steps}]");
        let said = workspace
            .killed_at(&["apply", "--yes"], &marker)
            .unwrap_or_else(|| panic!("step {step} of {steps} was never announced"));
        killed.push(said);
    }
    assert_eq!(killed.len(), steps);
    workspace
        .harden(&["apply", "--yes"])
        .exits(0)
        .says("generation");
    workspace.harden(&["plan"]).exits(0);
    assert!(cluster.readyz(&cluster.node("control-plane")));
}

#[test]
#[ignore = "needs testenv/up single"]
fn ctrl_c_in_the_middle_reverts_the_node_and_says_so() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let cp = cluster.node("control-plane");
    let manifests_before = cluster.manifest(&cp, "kube-apiserver");
    let said = workspace
        .signalled_at("INT", &["apply", "--yes"], "waiting")
        .exits(1);
    let said = said.says("interrupted");
    assert_eq!(
        cluster.manifest(&cp, "kube-apiserver"),
        manifests_before,
        "{}",
        said.stderr
    );
    assert!(cluster.readyz(&cp));
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_was_interrupted_is_not_taken_up_without_consent() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    workspace
        .killed_at(&["apply", "--yes"], "[2/")
        .expect("a second step");
    // What runs on the node goes on without harden; its own timer comes much later.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let before = cluster.snapshot();
    workspace
        .harden(&["apply"])
        .exits(1)
        .says("has not ended")
        .says("2. ")
        .says("there is no terminal to ask on");
    assert_eq!(cluster.snapshot(), before, "something was changed");
    workspace
        .harden(&["generations"])
        .exits(0)
        .says("interrupted");
    workspace.harden(&["plan"]).says("has not ended");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    let ended = workspace.harden(&["generations"]).exits(0);
    let last = ended.stdout.lines().last().unwrap_or_default();
    assert!(last.ends_with("  applied"), "{}", ended.stdout);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_closed_terminal_puts_the_node_back_too() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let cp = cluster.node("control-plane");
    let before = cluster.manifest(&cp, "kube-apiserver");
    let said = workspace.signalled_at("HUP", &["apply", "--yes"], "waiting");
    said.exits(1).says("Stopping").says("interrupted");
    assert_eq!(cluster.manifest(&cp, "kube-apiserver"), before);
    workspace.harden(&["apply", "--yes"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn two_applies_at_once_the_second_is_refused_and_names_the_first() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    // At the first step, before the API restarts: otherwise that would be the reason.
    let (first, mut second) = workspace.while_at(&["apply", "--yes"], "[1/", || {
        workspace.harden(&["apply", "--yes"])
    });
    second = second.exits(1).says("is being applied by");
    assert!(second.stderr.contains("wait "), "{}", second.stderr);
    first.exits(0);
    workspace.harden(&["plan"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn rollback_is_a_generation_of_its_own_and_can_be_rolled_back() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Docker, &[], "");
    workspace.harden(&["apply", "--yes"]).exits(0);
    let hardened = cluster.snapshot();
    workspace.harden(&["rollback", "--yes"]).exits(0);
    workspace
        .harden(&["rollback", "--yes"])
        .exits(0)
        .says("a rollback: undoing it makes the changes");
    similar_asserts(&hardened, &cluster.snapshot());
    workspace.harden(&["plan"]).exits(0);
}
