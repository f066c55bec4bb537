//! Machines that join a cluster which is hardened already; part of the test `whole`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::environment::{Cluster, Workspace, eventually};
use crate::machine::Machine;

/// What `harden plan` would change on a node.
fn changes(workspace: &Workspace, node: &str) -> Vec<String> {
    let plan = workspace.harden(&["plan", "--format", "json"]).json();
    let all = plan["changes"].as_array().expect("changes");
    let of_node = |change: &&Value| change["place"]["node"] == node;
    all.iter()
        .filter(of_node)
        .map(|change| change["resource"].as_str().expect("a name").to_owned())
        .collect()
}

fn waits_until_ready(cluster: &Cluster, node: &str) {
    let node = format!("node/{node}");
    let wait = ["wait", "--for=condition=Ready", "--timeout=5s", &node];
    eventually("the new node is Ready", Duration::from_secs(120), || {
        cluster.kubectl(&wait).status == Some(0)
    });
}

/// A machine that joins a cluster to which a profile was applied is hardened by what that left for the
/// next join: kubeadm's ConfigMaps, and for a control plane the files that its flags name. `open` is
/// what a node has to itself, by beginnings of names: the rest of what a plan may still find there.
pub fn joined(
    cluster: &Cluster,
    account: &str,
    workspace: &dyn Fn(&str) -> Workspace,
    open: &[&str],
) {
    // A worker needs nothing but the join.
    {
        let machine = Machine::beside(cluster, "joined");
        machine.join("");
        waits_until_ready(cluster, &machine.name);
        let workspace = workspace("");
        only(open, &changes(&workspace, &machine.name));
        workspace.harden(&["apply", "--yes"]).exits(0);
        workspace.harden(&["plan"]).exits(0).says("No changes");
    }

    // A control plane needs the files before.
    let machine = Machine::beside(cluster, "joined");
    machine.on(account);
    let node = &machine.name;
    let declared = format!("[nodes.host.{node}]\nrole = \"control-plane\"\n");
    let workspace = workspace(&declared);
    workspace
        .harden(&["plan"])
        .exits(0)
        .says(&format!("harden bootstrap --on {node}"));
    workspace
        .harden(&["bootstrap", "--on", node, "--yes"])
        .exits(0);
    // And once more does nothing.
    workspace
        .harden(&["bootstrap", "--on", node, "--yes"])
        .exits(0);
    let upload = "kubeadm init phase upload-certs --upload-certs 2>/dev/null | tail -n 1";
    let key = cluster.on(&cluster.node("control-plane"), upload);
    machine.join(&format!("--control-plane --certificate-key {}", key.trim()));
    waits_until_ready(cluster, node);
    let first = cluster.argv(&cluster.node("control-plane"), "kube-apiserver");
    let flags = |argv: &str| -> BTreeSet<String> {
        let own = ["--advertise-address=", "--etcd-servers="];
        let all = argv.split_ascii_whitespace().map(str::to_owned);
        all.filter(|flag| !own.iter().any(|own| flag.starts_with(own)))
            .collect()
    };
    assert_eq!(flags(&cluster.argv(node, "kube-apiserver")), flags(&first));
    only(open, &changes(&workspace, node));
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
}

#[track_caller]
fn only(open: &[&str], changes: &[String]) {
    for change in changes {
        assert!(
            open.iter().any(|open| change.starts_with(open)),
            "{change} is not what a node has to itself: {changes:#?}"
        );
    }
}
