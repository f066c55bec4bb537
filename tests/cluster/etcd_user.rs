//! etcd as a user of its own, on a real node: it serves as that user, and as root again afterwards.

use std::time::Duration;

use crate::environment::{Cluster, Via, Workspace, eventually, single};
use crate::thin_line::similar_asserts;

const RUN_AS: &str = r#"
[etcd]
run-as = "etcd"
"#;

const ACCEPT: (&str, &str) = (
    "accept  = [\"tenants\"]",
    "accept  = [\"tenants\", \"etcd.run-as\"]",
);

/// User and groups of the running etcd, from /proc.
fn status(cluster: &Cluster, node: &str) -> String {
    let words = "grep -E '^(Uid|Gid|Groups):' /proc/$(pgrep -x etcd)/status | tr '\\t' ' '";
    cluster.on(node, words)
}

fn owners(cluster: &Cluster, node: &str) -> String {
    cluster.on(
        node,
        "find /var/lib/etcd -exec stat -c %U:%G {} + | sort -u",
    )
}

#[test]
#[ignore = "needs testenv/up single"]
fn etcd_runs_as_its_own_user() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    cluster
        .workspace(Via::Ssh, &[], "")
        .harden(&["apply", "--yes"])
        .exits(0);
    let workspace = cluster.workspace(Via::Ssh, &[ACCEPT], RUN_AS);

    // Without the account it is refused, and nothing is changed for its sake.
    cluster.on(&cp, "userdel etcd 2>/dev/null; true");
    workspace
        .harden(&["plan"])
        .exits(1)
        .says("the node has no account etcd")
        .says("useradd --system");
    let _account = cluster.afterwards(&cp, "userdel etcd");
    cluster.on(
        &cp,
        "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin etcd",
    );
    let uid = cluster.on(&cp, "id -u etcd");
    let before = cluster.snapshot();
    assert_eq!(owners(&cluster, &cp), "root:root\n");

    // Bad → good.
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("will vanish at the next upgrade");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    assert_eq!(owners(&cluster, &cp), "etcd:etcd\n");
    let now = status(&cluster, &cp);
    assert!(
        now.contains(&format!("Uid: {}", uid.trim())) && now.contains("Groups: 0"),
        "{now}"
    );
    assert!(cluster.readyz(&cp));
    // What it writes from now on is its own, and it can be written to.
    cluster
        .kubectl(&["create", "configmap", "etcd-user", "-n", "default"])
        .exits(0);
    cluster
        .kubectl(&["delete", "configmap", "etcd-user", "-n", "default"])
        .exits(0);
    let keys = cluster.on(&cp, "stat -c '%a %U:%G' /etc/kubernetes/pki/etcd/*.key");
    assert!(keys.contains("640 root:root"), "{keys}");
    let ca = cluster.on(&cp, "stat -c '%a %U:%G' /etc/kubernetes/pki/etcd/ca.key");
    assert_eq!(ca, "600 root:root\n");

    // It starts anew as that user, from nothing but its files.
    cluster.on(&cp, "kill $(pgrep -x etcd)");
    eventually("etcd serves again", Duration::from_secs(120), || {
        cluster.readyz(&cp) && owners(&cluster, &cp) == "etcd:etcd\n"
    });

    // Good → bad: somebody restores a file as root, in another generation. → good.
    let handover = last_generation(&workspace);
    cluster.on(&cp, "touch /var/lib/etcd/restored");
    workspace.harden(&["plan"]).exits(2).says("/var/lib/etcd");
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert_eq!(owners(&cluster, &cp), "etcd:etcd\n");
    cluster.on(&cp, "rm /var/lib/etcd/restored");

    // And back: etcd runs as root on what was root's.
    workspace.harden(&["rollback", &handover, "--yes"]).exits(0);
    assert_eq!(owners(&cluster, &cp), "root:root\n");
    assert!(status(&cluster, &cp).contains("Uid: 0"));
    assert!(cluster.readyz(&cp));
    similar_asserts(&before, &cluster.snapshot());
}

/// The number of the newest generation.
pub fn last_generation(workspace: &Workspace) -> String {
    let said = workspace
        .harden(&["generations", "--format", "json"])
        .exits(0);
    let all = said.json();
    let numbers = all["generations"].as_array().expect("a list").iter();
    let newest = numbers.filter_map(|g| g["number"].as_u64()).max();
    newest.expect("a generation").to_string()
}
