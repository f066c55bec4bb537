//! Three control planes: one node at a time, in order.

use crate::environment::{Via, ha};
use crate::thin_line::{pods_run, similar_asserts};

#[test]
#[ignore = "needs testenv/up ha"]
fn three_control_planes_one_after_the_other_and_back() {
    let cluster = ha();
    cluster.weaken();
    let before = cluster.snapshot();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    workspace.harden(&["plan", "-o", "plan.json"]).exits(2);
    let said = workspace.harden(&["apply", "--yes", "plan.json"]).exits(0);

    let order: Vec<&str> = said
        .stderr
        .lines()
        .filter(|l| l.starts_with('[') && l.contains("manifests/kube-apiserver.yaml"))
        .collect();
    let nodes = cluster.control_planes();
    assert_eq!(order.len(), nodes.len(), "{}", said.stderr);
    for (line, node) in order.iter().zip(&nodes) {
        assert!(
            line.contains(&format!("{node}:")),
            "{line} is not of {node}"
        );
    }
    // The processes themselves started in that order too.
    let starts: Vec<u64> = nodes
        .iter()
        .map(|node| {
            let text = cluster.on(
                node,
                "cut -d' ' -f22 /proc/$(pgrep -xo kube-apiserver)/stat",
            );
            text.trim().parse().expect("ticks")
        })
        .collect();
    assert!(starts.is_sorted(), "{starts:?}");
    for node in &nodes {
        assert!(
            cluster
                .argv(node, "kube-apiserver")
                .contains("--profiling=false")
        );
    }
    workspace.harden(&["plan"]).exits(0);
    pods_run(&cluster);

    workspace.harden(&["rollback", "--yes"]).exits(0);
    similar_asserts(&before, &cluster.snapshot());
}
