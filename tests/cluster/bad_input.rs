//! Bad input: a clear error, and nothing changed.

use std::fs;
use std::process::Command;

use crate::environment::{Cluster, Via, Workspace, run, single};

/// Runs the body and asserts that the cluster is as it was.
fn unchanged(cluster: &Cluster, body: impl FnOnce()) {
    let before = cluster.snapshot();
    body();
    assert_eq!(cluster.snapshot(), before, "something was changed");
}

#[test]
#[ignore = "needs testenv/up single"]
fn unknown_option_and_wrong_type_are_both_shown_with_their_places() {
    let cluster = single();
    let workspace = cluster.workspace(
        Via::Ssh,
        &[],
        "[apiserver]\nprofilin = false\n[audit]\nlog-max-age = \"thirty\"\n",
    );
    unchanged(&cluster, || {
        workspace
            .harden(&["apply", "--yes"])
            .exits(1)
            .says("harden.toml")
            .says("apiserver.profilin")
            .says("apiserver.profiling")
            .says("audit.log-max-age");
    });
}

#[test]
#[ignore = "needs testenv/up single"]
fn an_unknown_node_is_named_with_those_there_are() {
    let cluster = single();
    let workspace = cluster.workspace(
        Via::Ssh,
        &[],
        "[nodes.host.nowhere]\naddress = \"127.0.0.1\"\n",
    );
    workspace
        .harden(&["plan"])
        .exits(1)
        .says("nowhere")
        .says(&cluster.node("worker"));
}

#[test]
#[ignore = "needs testenv/up single"]
fn an_unreachable_node_does_not_hide_the_others() {
    let cluster = single();
    cluster.weaken();
    let text =
        fs::read_to_string(cluster.workspace(Via::Ssh, &[], "").path("harden.toml")).expect("text");
    let worker = format!("[nodes.host.{}]", cluster.node("worker"));
    let after = text.split(&worker).nth(1).expect("the worker's table");
    let port = after
        .lines()
        .find(|l| l.trim_start().starts_with("port"))
        .expect("its port")
        .to_owned();
    // Nothing listens on the discard port here.
    let workspace = cluster.workspace(Via::Ssh, &[(&port, "port = 9")], "");
    workspace
        .harden(&["plan"])
        .exits(1)
        .says(&cluster.node("worker"))
        .says("cannot reach 127.0.0.1:9")
        .says("kube-apiserver --profiling [manifest]: true → false")
        .says("INCOMPLETE");
    unchanged(&cluster, || {
        workspace.harden(&["apply", "--yes"]).exits(1);
    });
}

/// Rewrites the known_hosts lines of a node.
fn host_keys(workspace: &Workspace, node: &str, rewrite: impl Fn(&str) -> String) {
    let path = workspace.path("known_hosts");
    let text = fs::read_to_string(&path).expect("known_hosts");
    assert!(text.contains(node), "{text}");
    let lines: Vec<String> = text
        .lines()
        .map(|l| {
            if l.starts_with(node) {
                rewrite(l)
            } else {
                l.to_owned()
            }
        })
        .collect();
    fs::write(path, lines.join("\n") + "\n").expect("written");
}

#[test]
#[ignore = "needs testenv/up single"]
fn unknown_changed_and_revoked_host_keys_are_refused() {
    let cluster = single();
    let node = cluster.node("worker");
    let other = cluster.node("control-plane");
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let original = fs::read_to_string(workspace.path("known_hosts")).expect("known_hosts");

    host_keys(&workspace, &node, |_| String::new());
    workspace
        .harden(&["plan"])
        .exits(1)
        .says(&node)
        .says("unknown")
        .says("SHA256:");

    fs::write(workspace.path("known_hosts"), &original).expect("written");
    host_keys(&workspace, &node, |line| format!("@revoked {line}"));
    workspace
        .harden(&["plan"])
        .exits(1)
        .says(&node)
        .says("revoked");

    // The control plane's keys under the worker's name: as if another machine answered.
    let swapped: Vec<String> = original
        .lines()
        .filter(|l| !l.starts_with(&node))
        .flat_map(|l| [l.to_owned(), l.replace(&other, &node)])
        .collect();
    fs::write(workspace.path("known_hosts"), swapped.join("\n") + "\n").expect("written");
    workspace
        .harden(&["plan"])
        .exits(1)
        .says(&node)
        .says("is not the one in");
}

#[test]
#[ignore = "needs testenv/up single"]
fn without_sudo_rights_the_remedy_is_a_sudoers_line() {
    let cluster = single();
    let node = cluster.node("worker");
    let files = cluster.on(&node, "grep -l ops /etc/sudoers.d/*");
    let file = files.trim();
    cluster.on(&node, &format!("mv {file} /root/sudoers.kept"));
    let _back = cluster.afterwards(&node, &format!("mv /root/sudoers.kept {file}"));
    let said = cluster.workspace(Via::Ssh, &[], "").harden(&["plan"]);
    said.exits(1)
        .says(&node)
        .says("cannot become root")
        .says("NOPASSWD");
}

#[test]
#[ignore = "needs testenv/up single"]
fn without_api_rights_the_missing_one_is_named() {
    let cluster = single();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let name = "harden-test-nobody";
    cluster
        .kubectl(&["-n", "default", "create", "serviceaccount", name])
        .exits(0);
    let token = cluster
        .kubectl(&["-n", "default", "create", "token", name])
        .exits(0)
        .stdout;
    let kubeconfig = fs::read_to_string(workspace.path("kubeconfig")).expect("kubeconfig");
    let mut lines: Vec<String> = kubeconfig
        .lines()
        .filter(|l| !l.trim_start().starts_with("client-key-data"))
        .map(str::to_owned)
        .collect();
    for line in &mut lines {
        if line.trim_start().starts_with("client-certificate-data") {
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            *line = format!("{indent}token: {}", token.trim());
        }
    }
    fs::write(workspace.path("kubeconfig"), lines.join("\n")).expect("written");
    let said = workspace.harden(&["plan"]);
    cluster
        .kubectl(&["-n", "default", "delete", "serviceaccount", name])
        .exits(0);
    let said = said.exits(1).says("cannot list resource \"nodes\"");
    assert!(!said.stderr.contains(token.trim()), "the token is shown");
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_field_of_another_manager_is_shown_with_its_owner() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Docker, &[], "");
    workspace.harden(&["apply", "--yes"]).exits(0);
    let patch = r#"{"spec":{"hard":{"pods":"7"}}}"#;
    cluster
        .kubectl(&[
            "-n",
            "payments",
            "patch",
            "resourcequota",
            "harden",
            "--field-manager=somebody",
            "-p",
            patch,
        ])
        .exits(0);
    unchanged(&cluster, || {
        workspace
            .harden(&["plan"])
            .exits(1)
            .says("spec.hard.pods")
            .says("somebody");
        workspace.harden(&["apply", "--yes"]).exits(1);
    });
    cluster
        .kubectl(&["-n", "payments", "delete", "resourcequota", "harden"])
        .exits(0);
    workspace.harden(&["apply", "--yes"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_manifest_that_is_no_yaml_is_named_and_nothing_is_written() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    let path = "/etc/kubernetes/manifests/kube-scheduler.yaml";
    // With the kubelet stopped, so that the scheduler survives the test.
    cluster.on(
        &cp,
        &format!("systemctl stop kubelet && cp -p {path} /root/kept && printf 'a: [b\\n' > {path}"),
    );
    let _back = cluster.afterwards(
        &cp,
        &format!("cp -p /root/kept {path} && rm /root/kept && systemctl start kubelet"),
    );
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let before = cluster.snapshot();
    let plan = workspace.harden(&["plan"]);
    let apply = workspace.harden(&["apply", "--yes"]);
    let after = cluster.snapshot();
    plan.exits(1).says(path).says(&cp);
    apply.exits(1);
    assert_eq!(before, after);
}

#[test]
#[ignore = "needs testenv/up single"]
fn kubernetes_136962_a_stray_file_in_the_manifests_directory_is_reported() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    // Emptied by the kubelet's own rules: it is no pod, so it starts nothing.
    cluster.on(
        &cp,
        "touch /etc/kubernetes/manifests/kube-apiserver.yaml.bak",
    );
    let said = cluster.workspace(Via::Ssh, &[], "").harden(&["plan"]);
    cluster.on(&cp, "rm /etc/kubernetes/manifests/kube-apiserver.yaml.bak");
    said.says("kube-apiserver.yaml.bak").says("kubelet");
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_full_disk_stops_apply_before_anything_is_changed() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    // A tiny file system where apply keeps its records and pre-images.
    cluster.on(
        &cp,
        "mkdir -p /var/lib/harden && mount -t tmpfs -o size=16k,mode=0700 tmpfs /var/lib/harden && \
         dd if=/dev/zero of=/var/lib/harden/full bs=1k count=16 2>/dev/null || true",
    );
    let back = cluster.afterwards(&cp, "umount /var/lib/harden");
    let before = cluster.snapshot();
    let said = cluster
        .workspace(Via::Docker, &[], "")
        .harden(&["apply", "--yes"]);
    let after = cluster.snapshot();
    drop(back);
    said.exits(1).says(&cp).says("space");
    assert_eq!(before, after);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_read_only_etc_stops_apply_before_anything_is_changed() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    cluster.on(
        &cp,
        "mount --bind /etc/kubernetes /etc/kubernetes && mount -o remount,ro,bind /etc/kubernetes",
    );
    let back = cluster.afterwards(&cp, "umount /etc/kubernetes");
    let before = cluster.snapshot();
    let said = cluster
        .workspace(Via::Docker, &[], "")
        .harden(&["apply", "--yes"]);
    let after = cluster.snapshot();
    drop(back);
    said.exits(1).says(&cp).says("ead-only");
    assert_eq!(before, after);
}

#[test]
#[ignore = "needs testenv/up single"]
fn reading_leaves_no_trace_on_a_node() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    let list = "find / -xdev -newer /run/harden-test-mark -type f \
                -not -path '/proc/*' -not -path '/sys/*' -not -path '/var/log/*' \
                -not -path '/var/lib/etcd/*' -not -path '/var/lib/kubelet/*' \
                -not -path '/var/lib/containerd/*' -not -path '/run/*' | sort; \
                find /tmp /var/tmp /run -maxdepth 2 -name '*harden*' -not -name harden-test-mark; \
                find /tmp /var/tmp -type f";
    cluster.on(&cp, "touch /run/harden-test-mark; sleep 1");
    let said = cluster.workspace(Via::Ssh, &[], "").harden(&["plan"]);
    assert!(said.status.is_some());
    let found = cluster.on(&cp, list);
    cluster.on(&cp, "rm /run/harden-test-mark");
    assert_eq!(found, "", "plan wrote on the node");
}

#[test]
#[ignore = "needs testenv/up single"]
fn secrets_and_keys_appear_nowhere() {
    let cluster = single();
    cluster.weaken();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let key = fs::read_to_string(workspace.path("id_ed25519")).expect("a key");
    let secret_line = key.lines().nth(1).expect("a line of the key");
    let said = workspace.harden(&["plan", "-vv", "-o", "plan.json", "--format", "json"]);
    assert!(
        said.stderr.contains("questions answered in"),
        "{}",
        said.stderr
    );
    let plan = fs::read_to_string(workspace.path("plan.json")).expect("the plan");
    for text in [&said.stdout, &said.stderr, &plan] {
        assert!(!text.contains(secret_line));
        assert!(!text.contains("PRIVATE KEY"));
    }
    let mode = run(Command::new("stat")
        .args(["-c", "%a"])
        .arg(workspace.path("plan.json")));
    assert_eq!(mode.stdout.trim(), "600");
}
