//! Three control planes: one node at a time, etcd's leader last, and none while another is down.

use std::time::Duration;

use crate::environment::{Afterwards, Cluster, Via, eventually, ha};
use crate::thin_line::{pods_run, similar_asserts};

/// A plugin that changes nothing for anybody, and must be the same on every API server.
const UNIFORM: &str = r#"
[apiserver]
admission-plugins = ["NodeRestriction", "NamespaceExists"]

[apply]
gate-timeout = "60s"
"#;

/// Whether the etcd member of a node leads, as it says itself.
fn leads(cluster: &Cluster, node: &str) -> bool {
    // One that is restarting answers nobody.
    let ask = "curl -s --max-time 5 http://127.0.0.1:2381/metrics || true";
    let metrics = cluster.on(node, ask);
    metrics
        .lines()
        .any(|line| line == "etcd_server_is_leader 1")
}

/// The control-plane nodes in the order in which apply takes them: the leader last.
fn in_order(cluster: &Cluster) -> Vec<String> {
    let mut nodes = cluster.control_planes();
    eventually("somebody leads", Duration::from_secs(90), || {
        nodes.sort_by_cached_key(|node| leads(cluster, node));
        leads(cluster, nodes.last().unwrap())
    });
    nodes
}

/// Freezes the etcd member of a node, with the kubelet that would restart it; put right when dropped.
fn frozen(cluster: &Cluster, node: &str) -> Afterwards {
    let guard = cluster.afterwards(node, "pkill -CONT -x etcd; systemctl start kubelet");
    cluster.on(node, "systemctl stop kubelet && pkill -STOP -x etcd");
    guard
}

#[test]
#[ignore = "needs testenv/up ha"]
fn three_control_planes_one_after_the_other_and_back() {
    let cluster = ha();
    cluster.weaken();
    let before = cluster.snapshot();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let nodes = in_order(&cluster);
    workspace.harden(&["plan", "-o", "plan.json"]).exits(2);
    let said = workspace.harden(&["apply", "--yes", "plan.json"]).exits(0);

    let order: Vec<&str> = said
        .stderr
        .lines()
        .filter(|l| l.starts_with('[') && l.contains("manifests/kube-apiserver.yaml"))
        .collect();
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

#[test]
#[ignore = "needs testenv/up ha"]
fn the_etcd_leader_is_last() {
    let cluster = ha();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    // Whoever leads: after the restart of its etcd somebody else does.
    for _ in 0..2 {
        let nodes = in_order(&cluster);
        let leader = nodes.last().unwrap();
        let said = workspace.harden(&["plan"]).exits(2);
        let order: Vec<&str> = said
            .stdout
            .lines()
            .filter(|line| line.contains(". control plane "))
            .collect();
        let last = order.last().expect("a step of the control plane");
        assert!(
            last.contains(&format!("{leader}:")) && last.contains("(etcd's leader last)"),
            "{leader} leads: {order:#?}"
        );
        let told = order.iter().filter(|l| l.contains("leader last")).count();
        assert_eq!(told, 1, "{order:#?}");
        cluster.on(leader, "pkill -x etcd");
        cluster.settles();
        eventually("another one leads", Duration::from_secs(60), || {
            let others = nodes.iter().filter(|node| *node != leader);
            others.into_iter().any(|node| leads(&cluster, node))
        });
    }
}

#[test]
#[ignore = "needs testenv/up ha"]
fn a_control_plane_that_is_down_stops_the_apply_before_anything_is_changed() {
    let cluster = ha();
    cluster.weaken();
    cluster.settles();
    let before = cluster.snapshot();
    // Of the API server alone: the controller manager beside a frozen etcd gives up its lease and ends,
    // and a plan that concerned it would be refused as stale before anybody is asked how it is.
    let workspace = cluster.workspace(
        Via::Ssh,
        &[("imports = [\"builtin:baseline\"]", "imports = []")],
        "[apiserver]\nprofiling = false\n",
    );
    workspace.harden(&["plan", "-o", "plan.json"]).exits(2);
    // Not the first: the snapshots ask that one.
    let nodes = in_order(&cluster);
    let first = cluster.node("control-plane");
    let down = nodes.iter().find(|node| **node != first).unwrap();
    {
        let _put_right = frozen(&cluster, down);
        workspace
            .harden(&["apply", "--yes", "plan.json"])
            .exits(1)
            .says(&format!("control plane {down} is not well"))
            .says("its etcd member does not answer")
            .says("nothing was changed")
            .says(&format!("bring {down} back"));
    }
    cluster.settles();
    similar_asserts(&before, &cluster.snapshot());
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["rollback", "--yes"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up ha"]
fn one_that_dies_in_the_middle_stops_it_there() {
    let cluster = ha();
    cluster.weaken();
    let good = cluster.workspace(Via::Ssh, &[], "");
    good.harden(&["apply", "--yes"]).exits(0);
    cluster.settles();
    let before = cluster.snapshot();
    let more = cluster.workspace(Via::Ssh, &[], UNIFORM);
    more.harden(&["plan"]).exits(2).says("NamespaceExists");
    let nodes = in_order(&cluster);
    let second = &nodes[1];
    let (said, put_right) = more.while_at(&["apply", "--yes"], "[2/", || frozen(&cluster, second));
    let said = said
        .exits(1)
        .says(second)
        .says("everything that generation");
    assert!(said.stderr.contains("was put back"), "{}", said.stderr);
    drop(put_right);
    cluster.settles();
    for node in &nodes {
        let argv = cluster.argv(node, "kube-apiserver");
        assert!(!argv.contains("NamespaceExists"), "{node}: {argv}");
    }
    similar_asserts(&before, &cluster.snapshot());
    good.harden(&["plan"]).exits(0);
}
