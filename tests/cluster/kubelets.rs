//! Kubelets, kube-proxy and the kernel of real nodes: good, made bad, good again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::environment::{Cluster, Via, Workspace, eventually, run, single};
use crate::thin_line::{pods_run, similar_asserts};

/// What makes the controls of CIS 4.2 and 4.3 bad, in `config.yaml` of a node.
pub const BAD: &[(&str, &str)] = &[
    (
        "kubelet-anonymous-off",
        "authentication.anonymous.enabled=true",
    ),
    (
        "kubelet-authorization-webhook",
        "authorization.mode=\"AlwaysAllow\"",
    ),
    (
        "kubelet-client-ca",
        "authentication.x509.clientCAFile=\"/etc/kubernetes/pki/other.crt\"",
    ),
    ("kubelet-read-only-port-off", "readOnlyPort=10255"),
    (
        "kubelet-streaming-timeout",
        "streamingConnectionIdleTimeout=\"100h\"",
    ),
    ("kubelet-iptables-chains", "makeIPTablesUtilChains=false"),
    ("kubelet-event-capture", "eventRecordQPS=1"),
    ("kubelet-client-cert-rotation", "rotateCertificates=false"),
    (
        "kubelet-serving-cert-rotation",
        "featureGates.RotateKubeletServerCertificate=false",
    ),
    (
        "kubelet-ciphers-strong",
        "tlsCipherSuites=[\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\",\"TLS_RSA_WITH_AES_128_CBC_SHA\"]",
    ),
    ("kubelet-pod-pids-limited", "podPidsLimit=-1"),
    ("kubelet-seccomp-default", "seccompDefault=false"),
    ("kubelet-kernel-defaults", "protectKernelDefaults=false"),
];

/// Everything that the kubelet's options can be told, consented to.
const GOOD: &str = r#"
[kubelet]
pod-pids-limit  = 4096
seccomp-default = true
"#;

fn workspace(cluster: &Cluster) -> Workspace {
    let replace = [
        // Tests of their own have what is unset: it needs an account, and approvals.
        (
            "imports = [\"builtin:baseline\"]",
            "imports = [\"builtin:cis-level2\"]\n\
             unset   = [\"etcd.run-as\", \"kubelet.serving-certificates\", \"apiserver.kubelet-certificate-authority\"]",
        ),
        (
            "accept  = [\"tenants\"]",
            "accept  = [\"tenants\", \"kubelet.pod-pids-limit\", \"kubelet.seccomp-default\", \"apiserver.tls-cipher-suites\"]",
        ),
    ];
    cluster.workspace(Via::Ssh, &replace, GOOD)
}

/// Writes fields into a node's config.yaml the way an administrator's script would, and restarts the
/// kubelet.
fn set(cluster: &Cluster, node: &str, fields: &[(&str, &str)]) {
    let path = "/var/lib/kubelet/config.yaml";
    let mut text = cluster.on(node, &format!("cat {path}"));
    for (_, field) in fields {
        let (name, value) = field.split_once('=').expect("a field");
        let edit = harden::distribution::kubeadm::fields::FieldEdit {
            path: name.split('.').map(str::to_owned).collect(),
            value: serde_json::from_str(value).expect("JSON"),
        };
        text = harden::distribution::kubeadm::fields::edit_fields(
            &text,
            "KubeletConfiguration",
            &[edit],
        )
        .expect("an edit");
    }
    cluster.write(node, path, &text);
    cluster.on(node, "systemctl restart kubelet");
    eventually("the kubelet answers again", Duration::from_secs(60), || {
        cluster
            .kubectl(&[
                "get",
                "--raw",
                &format!("/api/v1/nodes/{node}/proxy/healthz"),
            ])
            .stdout
            == "ok"
    });
}

/// The controls that the changes of a plan are made for, on one node.
pub fn controls_of(plan: &Value, node: &str) -> BTreeSet<String> {
    let changes = plan["changes"].as_array().expect("changes");
    changes
        .iter()
        .filter(|change| change["place"]["node"] == node)
        .flat_map(|change| change["controls"].as_array().expect("controls"))
        .map(|control| control.as_str().expect("a name").to_owned())
        .collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn each_control_of_kubelets_and_kube_proxy_is_made_bad_and_mended() {
    let cluster = single();
    cluster.weaken();
    let workspace = workspace(&cluster);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");

    // A client CA that is another one would lock out the API server as well: it is the same file.
    for node in cluster.nodes() {
        cluster.on(
            &node,
            "cp /etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/other.crt",
        );
        set(&cluster, &node, BAD);
        cluster.on(&node, "rm /etc/sysctl.d/99-zz-harden-kernel.panic.conf");
    }
    let _removed: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| cluster.afterwards(node, "rm /etc/kubernetes/pki/other.crt"))
        .collect();
    // kube-proxy: the ConfigMap, and the pods that read it.
    cluster.on(
        &cluster.node("control-plane"),
        "export KUBECONFIG=/etc/kubernetes/admin.conf && \
         kubectl -n kube-system get cm kube-proxy -o yaml | \
           sed 's/metricsBindAddress: .*/metricsBindAddress: 0.0.0.0:10249/' | kubectl replace -f - && \
         kubectl -n kube-system rollout restart daemonset/kube-proxy && \
         kubectl -n kube-system rollout status daemonset/kube-proxy --timeout=90s",
    );

    let plan = workspace
        .harden(&["plan", "--format", "json"])
        .exits(2)
        .json();
    for node in cluster.nodes() {
        let found = controls_of(&plan, &node);
        for (control, field) in BAD {
            assert!(
                found.contains(*control),
                "{node}: {control} ({field}): {found:?}"
            );
        }
        assert!(
            found.contains("kube-proxy-metrics-local"),
            "{node}: {found:?}"
        );
    }
    workspace
        .harden(&["plan", "--short"])
        .says("sysctl kernel.panic [file]: (absent) → 10");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    pods_run(&cluster);
    let logs = cluster.kubectl(&["-n", "payments", "logs", "deployment/web"]);
    logs.exits(0);

    // Back to what was bad, and good once more.
    workspace.harden(&["rollback", "--yes"]).exits(0);
    workspace.harden(&["plan", "--short"]).exits(2);
    workspace.harden(&["apply", "--yes"]).exits(0);
}

/// A kubelet that is down tells nothing, and its file says what is wrong.
#[test]
#[ignore = "needs testenv/up single"]
fn a_kubelet_that_was_broken_by_hand_is_repaired() {
    let cluster = single();
    let worker = cluster.node("worker");
    let workspace = cluster.workspace(
        Via::Docker,
        &[("imports = [\"builtin:baseline\"]", "imports = []")],
        "[kubelet]\nclient-ca-file = \"/etc/kubernetes/pki/ca.crt\"\n",
    );
    cluster.on(
        &worker,
        "sed -i 's#pki/ca.crt#pki/missing.crt#' /var/lib/kubelet/config.yaml && systemctl restart kubelet",
    );
    eventually("the kubelet is down", Duration::from_secs(60), || {
        cluster
            .on(&worker, "systemctl is-active kubelet || true")
            .trim()
            != "active"
    });
    workspace
        .harden(&["plan", "--short"])
        .exits(2)
        .says("kubelet authentication.x509.clientCAFile [file]");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_kubelet_that_cannot_start_gets_its_old_file_back() {
    let cluster = single();
    let worker = cluster.node("worker");
    let workspace = cluster.workspace(
        Via::Ssh,
        &[("imports = [\"builtin:baseline\"]", "imports = []")],
        "[kubelet]\nclient-ca-file = \"/etc/kubernetes/pki/missing.crt\"\n",
    );
    let before = cluster.snapshot();
    let said = workspace.harden(&["apply", "--yes"]).exits(1);
    assert!(said.stderr.contains(&worker), "{}", said.stderr);
    let said = said
        .says("the kubelet did not pass its gate")
        .says("missing.crt")
        .says("has its old files back, and its kubelet runs as before");
    // The worker comes first, so that the control plane was never touched.
    assert!(
        !said.stderr.contains("[2/"),
        "the next node was touched:\n{}",
        said.stderr
    );
    similar_asserts(&before, &cluster.snapshot());
    let ready = cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        &format!("node/{worker}"),
        "--timeout=60s",
    ]);
    ready.exits(0);
}

/// The file says one thing, a drop-in file another: the gate asks the kubelet itself.
#[test]
#[ignore = "needs testenv/up single"]
fn regolibrary_829_a_drop_in_file_that_wins_is_found_by_the_gate() {
    let cluster = single();
    let worker = cluster.node("worker");
    let drop_in = "/etc/kubernetes/kubelet.conf.d/95-theirs.conf";
    let workspace = cluster.workspace(
        Via::Docker,
        &[("imports = [\"builtin:baseline\"]", "imports = []")],
        "[kubelet]\nevent-record-qps = 21\n[apply]\ngate-timeout = \"20s\"\n",
    );
    let before = cluster.on(&worker, "cat /var/lib/kubelet/config.yaml");
    cluster.on(
        &worker,
        "mkdir /etc/kubernetes/kubelet.conf.d && cp -p /etc/default/kubelet /root/default-kubelet && \
         sed -i 's#$# --config-dir=/etc/kubernetes/kubelet.conf.d#' /etc/default/kubelet",
    );
    let _put_right = cluster.afterwards(
        &worker,
        "mv /root/default-kubelet /etc/default/kubelet && rm -r /etc/kubernetes/kubelet.conf.d && \
         systemctl restart kubelet",
    );
    cluster.write(
        &worker,
        drop_in,
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\neventRecordQPS: 7\n",
    );
    let _put_right = cluster.afterwards(
        &worker,
        &format!("rm {drop_in} && systemctl restart kubelet"),
    );
    workspace
        .harden(&["apply", "--yes"])
        .exits(1)
        .says("eventRecordQPS")
        .says("--config-dir");
    let file = "/var/lib/kubelet/config.yaml";
    assert_eq!(cluster.on(&worker, &format!("cat {file}")), before);
}

#[test]
#[ignore = "needs testenv/up single"]
fn without_rights_on_the_kubelet_the_plan_is_incomplete_and_says_what_is_needed() {
    let cluster = single();
    let workspace = workspace(&cluster);
    let kubeconfig = workspace.path("kubeconfig");
    let token = cluster
        .kubectl(&["-n", "kube-system", "create", "token", "kube-proxy"])
        .exits(0)
        .stdout;
    // kube-proxy's account may list nodes and read no kubelet.
    let text = std::fs::read_to_string(&kubeconfig).expect("a kubeconfig");
    let mut value: Value =
        serde_json::to_value(serde_saphyr::from_str::<Value>(&text).expect("YAML")).expect("JSON");
    value["users"][0]["user"] = serde_json::json!({"token": token.trim()});
    std::fs::write(&kubeconfig, value.to_string()).expect("written");
    let said = run(&mut workspace.command(&["plan", "--short"])).exits(1);
    assert!(
        said.stdout.contains("nodes/proxy"),
        "{}\n{}",
        said.stdout,
        said.stderr
    );
}
