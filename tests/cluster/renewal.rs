//! Certificates that end soon, renewed by the real kubeadm on a real node, and what is served then.

use crate::environment::{Cluster, Via, single};

const ALONE: (&str, &str) = ("imports = [\"builtin:baseline\"]", "imports = []");

const RENEW: &str = "[certificates]\ndays-left = 30\nrenew = true\n";

/// Some of each kind: read by the API server, by etcd, by the scheduler, and by nobody at its start.
const NAMES: &[(&str, &str)] = &[
    ("apiserver", "/etc/kubernetes/pki/apiserver.crt"),
    ("etcd-server", "/etc/kubernetes/pki/etcd/server.crt"),
    ("scheduler.conf", "/etc/kubernetes/scheduler.conf"),
    ("admin.conf", "/etc/kubernetes/admin.conf"),
];

/// Has kubeadm issue them for ten days.
fn shorten(cluster: &Cluster, node: &str) {
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    cluster.on(
        node,
        &format!(
            "export KUBECONFIG=/etc/kubernetes/admin.conf
             kubectl -n kube-system get cm kubeadm-config -o 'jsonpath={{.data.ClusterConfiguration}}' \
               | grep -v '^certificateValidityPeriod:' > /root/short.yaml &&
             echo 'certificateValidityPeriod: 240h0m0s' >> /root/short.yaml || exit 1
             for name in {}; do kubeadm certs renew $name --config /root/short.yaml || exit 1; done
             rm /root/short.yaml",
            names.join(" ")
        ),
    );
}

/// What lies on the node, keys too.
fn hashes(cluster: &Cluster, node: &str) -> String {
    cluster.on(
        node,
        "find /etc/kubernetes/pki /etc/kubernetes/*.conf -type f -exec stat -c '%a %U:%G %n' {} + \
           -exec sha256sum {} + | sort",
    )
}

/// The fingerprint of what a port serves, and of the certificate in a file.
fn served(cluster: &Cluster, node: &str, port: u16, file: &str) -> (String, String) {
    let print = "openssl x509 -noout -fingerprint -sha256";
    let client = "-cert /etc/kubernetes/pki/etcd/healthcheck-client.crt -key /etc/kubernetes/pki/etcd/healthcheck-client.key";
    let ask = format!(
        "openssl s_client -connect 127.0.0.1:{port} {client} </dev/null 2>/dev/null | {print}"
    );
    (
        cluster.on(node, &ask),
        cluster.on(node, &format!("{print} < {file}")),
    )
}

#[test]
#[ignore = "needs testenv/up single"]
fn certificates_that_end_soon_are_renewed_and_served_and_come_back() {
    let cluster = single();
    cluster.settles();
    let cp = cluster.node("control-plane");
    shorten(&cluster, &cp);
    let before = hashes(&cluster, &cp);
    let pid = |name: &str| cluster.on(&cp, &format!("pgrep -xo {name}"));
    let old = ["kube-apiserver", "etcd", "kube-scheduler"].map(pid);

    // One that is due: an hour later it is the same plan, and nothing is written.
    let workspace = cluster.workspace(Via::Ssh, &[ALONE], RENEW);
    let plan = workspace.harden(&["plan"]).exits(2);
    for (_, file) in NAMES {
        assert!(
            plan.stdout.contains(&format!("certificate {file}")),
            "{}",
            plan.stdout
        );
    }
    assert_eq!(
        plan.stdout.matches("renewed by kubeadm").count(),
        NAMES.len(),
        "{}",
        plan.stdout
    );
    assert_eq!(hashes(&cluster, &cp), before);

    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    let new = ["kube-apiserver", "etcd", "kube-scheduler"].map(pid);
    for (old, new) in old.iter().zip(&new) {
        assert_ne!(old, new);
    }
    let renewed = hashes(&cluster, &cp);
    for (port, file) in [
        (6443, "/etc/kubernetes/pki/apiserver.crt"),
        (2379, "/etc/kubernetes/pki/etcd/server.crt"),
    ] {
        let (served, lies) = served(&cluster, &cp, port, file);
        assert_eq!(served, lies, "{port}");
        cluster.on(
            &cp,
            &format!("openssl x509 -checkend 15552000 -noout < {file}"),
        );
    }
    // The new administrator's file works, and the old keys are there for root alone.
    cluster.kubectl(&["get", "nodes"]).exits(0);
    let loose = "find /var/lib/harden/generations -name '*.pre' ! -perm 600";
    assert_eq!(cluster.on(&cp, loose), "");

    // → as it was, and → renewed once more.
    workspace.harden(&["rollback", "--yes"]).exits(0);
    assert_eq!(hashes(&cluster, &cp), before);
    assert!(cluster.readyz(&cp));
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert_ne!(hashes(&cluster, &cp), renewed, "new keys each time");
    workspace.harden(&["plan"]).exits(0);
}

/// The scheduler cannot log in with what this kubeadm leaves.
const BAD: &str = "#!/bin/sh\n/usr/local/lib/real/kubeadm \"$@\" || exit 1\n\
    [ \"$*\" != 'certs renew scheduler.conf' ] || echo 'no: yaml: at: all' >>/etc/kubernetes/scheduler.conf\n";

#[test]
#[ignore = "needs testenv/up single"]
fn what_no_component_starts_with_is_put_back_with_its_key() {
    let cluster = single();
    cluster.settles();
    let cp = cluster.node("control-plane");
    shorten(&cluster, &cp);
    let before = hashes(&cluster, &cp);
    let more = format!("{RENEW}[apply]\ngate-timeout = \"60s\"\n");
    let workspace = cluster.workspace(Via::Ssh, &[ALONE], &more);
    {
        let _back = cluster.afterwards(
            &cp,
            "mv -f /usr/local/lib/real/kubeadm /usr/local/bin/kubeadm",
        );
        cluster.on(
            &cp,
            // It may be a link, and must still work from there.
            "mkdir -p /usr/local/lib/real && cd /usr/local/bin && \
             ln -sf \"$(readlink -f kubeadm)\" ../lib/real/kubeadm && rm kubeadm",
        );
        cluster.write(&cp, "/usr/local/bin/kubeadm", BAD);
        cluster.on(&cp, "chmod 0755 /usr/local/bin/kubeadm");
        workspace
            .harden(&["apply", "--yes"])
            .exits(1)
            .says("kube-scheduler did not pass its gate")
            .says("has its old files back");
    }
    assert_eq!(hashes(&cluster, &cp), before);
    cluster.settles();
    // The controller manager ends with each etcd, and the kubelet lets it wait longer each time.
    let workspace = cluster.workspace(Via::Ssh, &[ALONE], RENEW);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
}
