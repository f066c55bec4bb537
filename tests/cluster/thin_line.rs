//! The thin line: a profile, a real cluster made worse, plan, apply, a clean plan, rollback.

use std::time::Duration;

use crate::environment::{Cluster, Via, eventually, single};

#[test]
#[ignore = "needs testenv/up single"]
fn over_ssh_weaken_plan_apply_plan_rollback() {
    there_and_back(&single(), Via::Ssh);
}

#[test]
#[ignore = "needs testenv/up single"]
fn over_docker_weaken_plan_apply_plan_rollback() {
    there_and_back(&single(), Via::Docker);
}

fn there_and_back(cluster: &Cluster, via: Via) {
    cluster.weaken();
    let before = cluster.snapshot();
    let cp = cluster.node("control-plane");
    let workspace = cluster.workspace(via, &[], "");

    let plan = workspace.harden(&["plan", "-o", "plan.json"]).exits(2);
    for expected in [
        "kube-apiserver --profiling [kubeadm-config]: true → false",
        "kube-apiserver --profiling [manifest]: true → false",
        "kube-apiserver --profiling [process]: true → false",
        "kube-controller-manager --profiling [manifest]: true → false",
        "kube-scheduler --profiling [manifest]: true → false",
        "/etc/kubernetes/admin.conf: 0644 root:root → 0600 root:root",
        "/etc/kubernetes/manifests/kube-scheduler.yaml: 0666 root:root → 0600 root:root",
        "/etc/kubernetes/pki/apiserver.crt: 0777 root:root → 0644 root:root",
        "/var/lib/kubelet/config.yaml: 0666 root:root → 0600 root:root",
        "kube-apiserver --audit-log-maxage [process]:",
        "builtin:baseline:",
        "restarts kube-apiserver",
        "NetworkPolicy payments/",
        "ResourceQuota payments/",
        "-    - --profiling=true",
        "+    - --profiling=false",
    ] {
        plan_says(&plan.stdout, expected);
    }
    assert_eq!(cluster.snapshot(), before, "plan changed something");

    let applied = workspace
        .harden(&["apply", "--yes", "plan.json", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(applied["schema"], "harden.dev/apply/v1");
    assert_eq!(applied["outcome"], "applied");
    assert_eq!(applied["steps"][0]["state"], "done");
    workspace.harden(&["plan"]).exits(0).says("No changes");
    let nothing = workspace.harden(&["apply", "--yes", "--format", "json"]);
    assert_eq!(nothing.exits(0).json()["outcome"], "unchanged");
    let argv = cluster.argv(&cp, "kube-apiserver");
    assert!(argv.contains("--profiling=false"), "{argv}");
    assert!(
        argv.contains("--audit-policy-file=/etc/kubernetes/harden/audit-policy-"),
        "{argv}"
    );
    assert!(argv.contains("--audit-log-maxage=30"), "{argv}");
    let modes = cluster.on(
        &cp,
        "stat -c %a /etc/kubernetes/manifests/kube-scheduler.yaml /etc/kubernetes/pki/apiserver.crt \
           /var/lib/kubelet/config.yaml",
    );
    assert_eq!(modes, "600\n644\n600\n");
    let log = cluster.on(&cp, "tail -n 1 /var/log/kubernetes/audit/audit.log");
    assert!(
        log.contains("audit.k8s.io"),
        "no audit event arrived: {log}"
    );

    pods_run(cluster);

    workspace.harden(&["rollback", "--yes"]).exits(0);
    similar_asserts(&before, &cluster.snapshot());
    workspace.harden(&["plan", "--short"]).exits(2);

    // Nothing of ours runs on afterwards, such as the end of a tunnel.
    let tunnels = "pgrep -fa '^bash -c .*/dev/tcp/' || true";
    let within = Duration::from_secs(15);
    eventually("every tunnel has ended on its node", within, || {
        cluster
            .nodes()
            .iter()
            .all(|node| cluster.on(node, tunnels).is_empty())
    });
}

fn plan_says(plan: &str, expected: &str) {
    assert!(
        plan.contains(expected),
        "the plan does not say {expected:?}:\n{plan}"
    );
}

/// Shows a difference as a diff: snapshots are long.
pub fn similar_asserts(before: &str, after: &str) {
    if before != after {
        let diff = similar::TextDiff::from_lines(before, after);
        panic!("not as before:\n{}", diff.unified_diff());
    }
}

/// What ran still runs, and something new can start.
pub fn pods_run(cluster: &Cluster) {
    cluster
        .kubectl(&[
            "-n",
            "payments",
            "rollout",
            "status",
            "deployment/web",
            "--timeout=60s",
        ])
        .exits(0);
    cluster
        .kubectl(&["delete", "pod", "newcomer", "--ignore-not-found", "--now"])
        .exits(0);
    cluster
        .kubectl(&[
            "run",
            "newcomer",
            "--image=busybox:1.35.0",
            "--restart=Never",
            "--",
            "sleep",
            "1000",
        ])
        .exits(0);
    eventually("a new pod runs", Duration::from_secs(90), || {
        cluster
            .kubectl(&["get", "pod", "newcomer", "-o", "jsonpath={.status.phase}"])
            .stdout
            == "Running"
    });
    cluster
        .kubectl(&["delete", "pod", "newcomer", "--now"])
        .exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_stale_plan_names_the_moved_fact_and_changes_nothing() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    workspace.harden(&["plan", "-o", "plan.json"]).exits(2);
    cluster.on(&cp, "chmod 0640 /etc/kubernetes/admin.conf");
    let before = cluster.snapshot();
    workspace
        .harden(&["apply", "--yes", "plan.json"])
        .exits(1)
        .says("/etc/kubernetes/admin.conf")
        .says(&cp)
        .says("harden plan");
    assert_eq!(cluster.snapshot(), before);
}

#[test]
#[ignore = "needs testenv/up single"]
fn without_a_terminal_apply_wants_yes() {
    let cluster = single();
    cluster.weaken();
    let before = cluster.snapshot();
    cluster
        .workspace(Via::Ssh, &[], "")
        .harden(&["apply"])
        .exits(1)
        .says("--yes");
    assert_eq!(cluster.snapshot(), before);
}

/// The tunnel leads to the node's own API server, not to the load balancer.
#[test]
#[ignore = "needs testenv/up single"]
fn each_transport_has_a_tunnel_to_the_nodes_own_api_server() {
    use harden::cluster::Api;
    let cluster = single();
    for via in [Via::Ssh, Via::Docker] {
        let workspace = cluster.workspace(via, &[], "");
        let modules = harden::module::Modules::builtin().expect("modules");
        let read = harden::profile::load(workspace.dir.path(), &modules).expect("a workspace");
        let kubeconfig = workspace.path("kubeconfig");
        let api = harden::cluster::Client::new(Some(&kubeconfig), None, Duration::from_secs(5))
            .expect("a client");
        let inventory = harden::observe::inventory(&read, &api).expect("an inventory");
        let mut host = inventory
            .open(&cluster.node("control-plane"))
            .expect("a host");
        let tunnel = host.tunnel(6443).expect("a tunnel");
        for _ in 0..3 {
            assert_eq!(api.readyz(tunnel.local), Ok(true), "{via:?}");
        }
    }
}
