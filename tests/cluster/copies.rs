//! The three copies of a control-plane flag, each moved by hand.

use std::time::Duration;

use crate::environment::{Via, eventually, single};

#[test]
#[ignore = "needs testenv/up single"]
fn kubeadm_541_each_copy_of_a_flag_moved_by_hand_is_named() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    let workspace = cluster.workspace(Via::Docker, &[], "");
    workspace.harden(&["apply", "--yes"]).exits(0);

    // The scheduler's manifest and ConfigMap get values of their own while the kubelet, which
    // would bring the process along, stands still.
    cluster.on(&cp, "systemctl stop kubelet");
    let kubelet = cluster.afterwards(&cp, "systemctl start kubelet");
    cluster.on(
        &cp,
        "f=/etc/kubernetes/manifests/kube-scheduler.yaml && \
         sed 's/--profiling=false/--profiling=true/' $f > /etc/kubernetes/tmp-scheduler && \
         cat /etc/kubernetes/tmp-scheduler > $f && rm /etc/kubernetes/tmp-scheduler",
    );
    cluster.on(
        &cp,
        "export KUBECONFIG=/etc/kubernetes/admin.conf; \
         kubectl -n kube-system get cm kubeadm-config -o yaml > /root/cm.yaml && \
         awk '/^    scheduler:/ { s = 1 } s && /value: \"false\"/ { sub(/\"false\"/, \"\\\"maybe\\\"\"); s = 0 } { print }' \
           /root/cm.yaml | kubectl replace -f - && rm /root/cm.yaml",
    );
    let plan = workspace.harden(&["plan"]).exits(2);
    assert!(
        plan.stdout
            .contains("kube-scheduler --profiling [kubeadm-config]: maybe → false"),
        "{}",
        plan.stdout
    );
    assert!(
        plan.stdout
            .contains("kube-scheduler --profiling [manifest]: true → false"),
        "{}",
        plan.stdout
    );
    assert!(
        !plan.stdout.contains("kube-scheduler --profiling [process]"),
        "{}",
        plan.stdout
    );

    // Now the process too.
    drop(kubelet);
    eventually(
        "the scheduler runs as its manifest says",
        Duration::from_secs(90),
        || {
            cluster
                .argv(&cp, "kube-scheduler")
                .contains("--profiling=true")
        },
    );
    // The old process may take a moment to end.
    eventually(
        "all three copies are named",
        Duration::from_secs(60),
        || {
            let plan = workspace.harden(&["plan"]);
            ["kubeadm-config", "manifest", "process"]
                .iter()
                .all(|copy| {
                    plan.stdout
                        .contains(&format!("kube-scheduler --profiling [{copy}]"))
                })
        },
    );
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    assert!(
        cluster
            .argv(&cp, "kube-scheduler")
            .contains("--profiling=false")
    );
}
