//! Kubelets' serving certificates on real nodes: asked for, checked, approved, served, and trusted by
//! the API server.

use std::time::Duration;

use crate::environment::{Afterwards, Cluster, Via, Workspace, eventually, single};
use crate::thin_line::{pods_run, similar_asserts};

const OPTIONS: &str = "[kubelet]\nserving-certificates = \"cluster-ca\"\n";

/// The API server's flag that trusts nothing else, by a module of the workspace's own.
const AUTHORITY: &str = r#"
[module]
summary = "The API server checks the certificates of kubelets"
on      = "control-plane"

[options.file]
type    = "string"
doc     = "The authority whose certificates kubelets must serve."
risk    = "guarded"
example = "/etc/kubernetes/pki/ca.crt"

[[flag]]
component = "kube-apiserver"
name      = "kubelet-certificate-authority"
value     = "${kubelet-ca.file}"
requires  = ["kubelet-serving-certificates"]
"#;

fn workspace(cluster: &Cluster, more: &str) -> Workspace {
    let imports = "imports = [\"builtin:baseline\"]";
    cluster.workspace(Via::Docker, &[(imports, "imports = []")], more)
}

/// With the module of [`AUTHORITY`].
fn with_authority(cluster: &Cluster, more: &str) -> Workspace {
    let imports = "imports = [\"builtin:baseline\"]";
    let modules = "imports = []\nmodules = [\"modules\"]";
    let workspace = cluster.workspace(Via::Docker, &[(imports, modules)], more);
    let dir = workspace.path("modules");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("kubelet-ca.toml"), AUTHORITY).expect("written");
    workspace
}

/// Takes the field away everywhere at the end, whatever happened: other tests know nothing of it.
#[must_use]
fn without_bootstrap(cluster: &Cluster) -> Vec<Afterwards> {
    let kubelets = "sed -i '/^serverTLSBootstrap:/d' /var/lib/kubelet/config.yaml && systemctl restart kubelet";
    let map = "export KUBECONFIG=/etc/kubernetes/admin.conf && \
        kubectl -n kube-system get cm kubelet-config -o yaml | sed '/ serverTLSBootstrap:/d' | kubectl replace -f -";
    let mut all = vec![cluster.afterwards(&cluster.node("control-plane"), map)];
    for node in cluster.nodes() {
        all.push(cluster.afterwards(&node, kubelets));
    }
    all
}

/// Puts a request into the API in the name of a user, for these names.
fn ask(cluster: &Cluster, name: &str, user: &str, subject: &str, addresses: &str) {
    let node = cluster.node("control-plane");
    let group = if user.starts_with("system:node:") {
        "--as-group system:nodes"
    } else {
        "--as-group system:masters"
    };
    cluster.on(
        &node,
        &format!(
            "cd /root && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null \
               -subj '{subject}' -addext 'subjectAltName={addresses}' -out {name}.pem 2>/dev/null && \
             printf 'apiVersion: certificates.k8s.io/v1\\nkind: CertificateSigningRequest\\nmetadata: {{name: {name}}}\\n\
spec:\\n  request: %s\\n  signerName: kubernetes.io/kubelet-serving\\n  usages: [digital signature, server auth]\\n' \
               \"$(base64 -w0 {name}.pem)\" | \
             kubectl --kubeconfig /etc/kubernetes/admin.conf --as '{user}' {group} create -f - && rm {name}.pem"
        ),
    );
}

fn conditions(cluster: &Cluster, name: &str) -> String {
    let path = "jsonpath={.status.conditions[*].type}";
    cluster.kubectl(&["get", "csr", name, "-o", path]).stdout
}

fn address(cluster: &Cluster, node: &str) -> String {
    let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    let said = cluster.kubectl(&["get", "node", node, "-o", path]);
    said.exits(0).stdout
}

/// The issuer of what a kubelet serves, as its own node sees it.
fn issuer(cluster: &Cluster, node: &str) -> String {
    cluster.on(
        node,
        "openssl s_client -connect 127.0.0.1:10250 </dev/null 2>/dev/null | openssl x509 -noout -issuer 2>/dev/null || true",
    )
}

/// The API server reaches the kubelets for people.
fn logs_and_exec_work(cluster: &Cluster) {
    for args in [
        &["-n", "payments", "logs", "deployment/web"][..],
        &["-n", "payments", "exec", "deployment/web", "--", "true"],
    ] {
        cluster.kubectl(args).exits(0);
    }
    for node in cluster.nodes() {
        let path = format!("/api/v1/nodes/{node}/proxy/healthz");
        cluster.kubectl(&["get", "--raw", &path]).exits(0);
    }
}

/// Good, bad, good: the kubelets get certificates, lose them to the one that a kubelet makes up, and get
/// them back; requests of others wait for somebody else all the while.
#[test]
#[ignore = "needs testenv/up single"]
fn kubernetes_73356_kubelets_get_certificates_and_strangers_do_not() {
    let cluster = single();
    cluster.weaken();
    let worker = cluster.node("worker");
    let (user, ip) = (format!("system:node:{worker}"), address(&cluster, &worker));
    let other = address(&cluster, &cluster.node("control-plane"));
    let subject = format!("/O=system:nodes/CN={user}");
    let good = format!("DNS:{worker},IP:{ip}");
    // A node that asks in another's name is refused by the API server itself (NodeRestriction).
    let names = ["alien-user", "alien-address"];
    let _put_right = cluster.afterwards(
        &cluster.node("control-plane"),
        &format!(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf delete csr --ignore-not-found {}",
            names.join(" ")
        ),
    );
    ask(&cluster, names[0], "mallory", &subject, &good);
    ask(
        &cluster,
        names[1],
        &user,
        &subject,
        &format!("{good},IP:{other}"),
    );

    let _put_right = without_bootstrap(&cluster);
    let before = cluster.snapshot();
    let workspace = workspace(&cluster, OPTIONS);
    workspace
        .harden(&["plan", "--short"])
        .exits(2)
        .says("kubelet serving certificate")
        .says("alien-user is not approved: mallory made it")
        .says(&format!(
            "alien-address is not approved: the IP address {other} is no address of the Node object"
        ));
    workspace.harden(&["apply", "--yes"]).exits(0);
    for node in cluster.nodes() {
        let issuer = issuer(&cluster, &node);
        assert!(issuer.trim().ends_with("kubernetes"), "{node}: {issuer}");
    }
    workspace.harden(&["plan"]).exits(0);
    logs_and_exec_work(&cluster);
    pods_run(&cluster);
    workspace
        .harden(&["rollback", "--yes"])
        .exits(0)
        .says("stays valid until it expires");
    similar_asserts(&before, &cluster.snapshot());
    logs_and_exec_work(&cluster);
    workspace.harden(&["apply", "--yes"]).exits(0);

    // Bad: the worker serves what it makes up.
    cluster.on(
        &worker,
        "sed -i 's/^serverTLSBootstrap: .*/serverTLSBootstrap: false/' /var/lib/kubelet/config.yaml && \
         rm -f /var/lib/kubelet/pki/kubelet-server-* && systemctl restart kubelet",
    );
    let path = format!("/api/v1/nodes/{worker}/proxy/healthz");
    eventually("the kubelet answers", Duration::from_secs(60), || {
        cluster.kubectl(&["get", "--raw", &path]).stdout == "ok"
    });
    workspace
        .harden(&["plan", "--short"])
        .exits(2)
        .says("not trusted");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    logs_and_exec_work(&cluster);

    for name in names {
        assert_eq!(conditions(&cluster, name), "", "{name}");
    }
}

/// A rotation, made early: the certificate that the kubelet has is taken away.
#[test]
#[ignore = "needs testenv/up single"]
fn kubeadm_1635_a_kubelet_that_waits_without_a_certificate_is_mended_by_the_next_apply() {
    let cluster = single();
    cluster.weaken();
    let worker = cluster.node("worker");
    let _put_right = without_bootstrap(&cluster);
    let workspace = workspace(&cluster, OPTIONS);
    workspace.harden(&["apply", "--yes"]).exits(0);
    cluster.on(
        &worker,
        "rm -f /var/lib/kubelet/pki/kubelet-server-* && systemctl restart kubelet",
    );
    let select = "--field-selector=spec.signerName=kubernetes.io/kubelet-serving";
    eventually("a request waits", Duration::from_secs(60), || {
        let list = cluster.kubectl(&["get", "csr", select, "--no-headers"]);
        list.stdout.contains("Pending")
    });
    // What the kubelet runs with cannot be asked in this state; the certificate is approved all the same.
    workspace
        .harden(&["plan", "--short"])
        .says("waits for approval");
    workspace.harden(&["apply", "--yes"]);
    eventually("logs and exec work", Duration::from_secs(60), || {
        let path = format!("/api/v1/nodes/{worker}/proxy/healthz");
        cluster.kubectl(&["get", "--raw", &path]).stdout == "ok"
    });
    workspace.harden(&["plan"]).exits(0);
    logs_and_exec_work(&cluster);
}

/// The API server is told to check kubelets in the same apply that gives them certificates, without any
/// `accept`; alone it is withheld.
#[test]
#[ignore = "needs testenv/up single"]
fn an_earlier_stage_establishes_what_the_api_server_requires() {
    let cluster = single();
    cluster.weaken();
    let file = "[kubelet-ca]\nfile = \"/etc/kubernetes/pki/ca.crt\"\n";
    let alone = with_authority(&cluster, file);
    alone
        .harden(&["plan", "--short"])
        .exits(1)
        .says("kubelet-serving-certificates does NOT hold: 2 node(s)")
        .says("left undone");
    let before = cluster.snapshot();
    let both = with_authority(&cluster, &format!("{OPTIONS}{file}"));
    both.harden(&["plan", "--short"])
        .exits(2)
        .says("kubelet-serving-certificates will hold");
    both.harden(&["apply", "--yes"]).exits(0);
    let argv = cluster.argv(&cluster.node("control-plane"), "kube-apiserver");
    assert!(argv.contains("--kubelet-certificate-authority="), "{argv}");
    both.harden(&["plan"]).exits(0);
    logs_and_exec_work(&cluster);
    both.harden(&["rollback", "--yes"]).exits(0);
    similar_asserts(&before, &cluster.snapshot());
    logs_and_exec_work(&cluster);
}
