//! A value that passes every static check and that the real kube-apiserver refuses.

use std::time::Duration;

use crate::environment::{Cluster, Via, Workspace, eventually, single};
use crate::thin_line::similar_asserts;

/// No admission plugin has this name, which only the API server itself knows.
const REFUSED: &str = r#"
[apiserver]
admission-plugins = ["NodeRestriction", "NoSuchPlugin"]

[apply]
gate-timeout = "75s"
"#;

/// Waits for a plan with nothing in it. Without its API server the controller manager loses its lease and
/// ends, and the kubelet lets more and more time pass before it starts it again.
fn planned_clean(workspace: &Workspace) {
    eventually("the plan is empty", Duration::from_secs(330), || {
        workspace.harden(&["plan"]).status == Some(0)
    });
}

fn tables_of(cluster: &Cluster, node: &str) -> String {
    cluster.on(node, "nft list tables")
}

#[test]
#[ignore = "needs testenv/up single"]
fn the_node_is_back_on_its_old_manifest_by_itself() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    let good = cluster.workspace(Via::Ssh, &[], "");
    good.harden(&["apply", "--yes"]).exits(0);
    let before = cluster.snapshot();

    let bad = cluster.workspace(Via::Ssh, &[], REFUSED);
    bad.harden(&["plan"]).exits(2).says("NoSuchPlugin");
    bad.harden(&["apply", "--yes"])
        .exits(1)
        .says("enable-admission-plugins")
        .says(&cp)
        .says(r#"NoSuchPlugin\" is unknown"#);
    assert!(cluster.readyz(&cp));
    similar_asserts(&before, &cluster.snapshot());
    planned_clean(&good);
    good.harden(&["generations"]).exits(0).says("reverted");
}

#[test]
#[ignore = "needs testenv/up single"]
fn with_the_client_killed_and_the_network_cut_the_node_helps_itself() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    let good = cluster.workspace(Via::Ssh, &[], "");
    good.harden(&["apply", "--yes"]).exits(0);
    let before = cluster.snapshot();
    let manifest = cluster.manifest(&cp, "kube-apiserver");

    let bad = cluster.workspace(Via::Ssh, &[], REFUSED);
    let said = bad.killed_at(&["apply", "--yes"], "waiting");
    assert!(said.is_some(), "harden ended before the gate");
    let cut = "nft add table inet cut && \
               nft 'add chain inet cut in { type filter hook input priority -500; }' && \
               nft 'add chain inet cut out { type filter hook output priority -500; }' && \
               nft add rule inet cut in iifname eth0 drop && \
               nft add rule inet cut out oifname eth0 drop";
    cluster.on(&cp, cut);
    let restored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        assert_ne!(
            cluster.manifest(&cp, "kube-apiserver"),
            manifest,
            "the manifest was written"
        );
        eventually("the old manifest is back", Duration::from_secs(150), || {
            cluster.manifest(&cp, "kube-apiserver") == manifest
        });
        eventually("the API server is ready", Duration::from_secs(120), || {
            cluster.readyz(&cp)
        });
    }));
    cluster.on(&cp, "nft delete table inet cut");
    assert!(!tables_of(&cluster, &cp).contains("cut"));
    if let Err(panic) = restored {
        std::panic::resume_unwind(panic);
    }
    similar_asserts(&before, &cluster.snapshot());

    // The next run says what became of the interrupted one, and the lock of the dead is no hindrance.
    planned_clean(&good);
    // It takes the interrupted generation up again, which fails as before, and puts it back.
    good.harden(&["apply", "--yes"])
        .exits(1)
        .says("has not ended")
        .says("was put back");
    planned_clean(&good);
    good.harden(&["apply", "--yes"]).exits(0);
    good.harden(&["plan"]).exits(0);
}
