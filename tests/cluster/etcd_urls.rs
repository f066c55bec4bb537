//! A listener of etcd without TLS: who reaches it reads everything, until it is taken away, and nobody who asks
//! by TLS notices.

use std::process::{Child, Command};
use std::time::Duration;

use crate::environment::{Cluster, Via, eventually, ha, run, single};
use crate::thin_line::{pods_run, similar_asserts};

const ACCEPT: (&str, &str) = (
    "accept  = [\"tenants\"]",
    "accept  = [\"tenants\", \"etcd\"]",
);

/// Nothing but the URLs.
const ALONE: (&str, &str) = ("imports = [\"builtin:baseline\"]", "imports = []");

const URLS: &str = r#"
[etcd]
listen-client-urls  = "own-https"
listen-peer-urls    = "own-https"
listen-metrics-urls = "loopback"
"#;

fn address(cluster: &Cluster, node: &str) -> String {
    let own = "sed -n 's,.*--advertise-address=,,p' /etc/kubernetes/manifests/kube-apiserver.yaml";
    cluster.on(node, own).trim().to_owned()
}

/// How many keys anybody is told of who asks a node's etcd from another node, without a certificate.
fn told(cluster: &Cluster, node: &str) -> Option<u64> {
    let url = format!("http://{}:12379/v3/kv/range", address(cluster, node));
    // All keys, and only their number.
    let body = r#"{"key": "AA==", "range_end": "AA==", "count_only": true}"#;
    let worker = cluster.node("worker");
    let ask = [
        "exec",
        &worker,
        "curl",
        "-s",
        "--max-time",
        "5",
        "-d",
        body,
        &url,
    ];
    let said = run(Command::new("docker").args(ask));
    if said.status != Some(0) {
        return None;
    }
    said.json()["count"].as_str()?.parse().ok()
}

/// Whether etcd of a node has a socket at a port, by its own word.
fn listens(cluster: &Cluster, node: &str, port: u16) -> bool {
    let ask = format!("ss -Hltn 'sport = :{port}'");
    !cluster.on(node, &ask).trim().is_empty()
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_listener_without_tls_is_taken_away_in_all_three_copies() {
    let cluster = single();
    cluster.weaken_with(&["--etcd-listener"]);
    let cp = cluster.node("control-plane");
    let level1 = ("builtin:baseline", "builtin:cis-level1");

    // Bad: whoever comes reads everything.
    assert!(told(&cluster, &cp).is_some_and(|keys| keys > 100));
    let before = cluster.snapshot();

    // Without consent it is told, and stays.
    cluster
        .workspace(Via::Ssh, &[level1], "")
        .harden(&["plan"])
        .says("etcd.listen-client-urls");

    // → good, by a profile of ours; each copy is named.
    let workspace = cluster.workspace(Via::Ssh, &[level1, ACCEPT], "");
    let plan = workspace.harden(&["plan"]).exits(2);
    for copy in ["kubeadm-config", "manifest", "process"] {
        let change = format!("etcd --listen-client-urls [{copy}]");
        assert!(plan.stdout.contains(&change), "{copy}: {}", plan.stdout);
    }
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    let own = address(&cluster, &cp);
    let argv = cluster.argv(&cp, "etcd");
    let wanted = format!("--listen-client-urls=https://127.0.0.1:2379,https://{own}:2379 ");
    assert!(argv.contains(&wanted), "{argv}");
    assert_eq!(told(&cluster, &cp), None);
    assert!(!listens(&cluster, &cp, 12379));
    // Who asks for health is answered still, and the kubelet too.
    assert!(listens(&cluster, &cp, 2381) && argv.contains("http://127.0.0.1:2381 "));
    let config = cluster
        .kubectl(&[
            "get",
            "cm",
            "kubeadm-config",
            "-n",
            "kube-system",
            "-o",
            "yaml",
        ])
        .exits(0);
    assert!(
        !config.stdout.contains("listen-client-urls"),
        "{}",
        config.stdout
    );
    pods_run(&cluster);

    // → bad again, as it was.
    workspace.harden(&["rollback", "--yes"]).exits(0);
    similar_asserts(&before, &cluster.snapshot());
    assert!(told(&cluster, &cp).is_some());

    // → good, and nothing else: where the other tests begin.
    let alone = cluster.workspace(Via::Docker, &[ALONE, ACCEPT], URLS);
    alone.harden(&["apply", "--yes"]).exits(0);
    alone.harden(&["plan"]).exits(0);
    assert_eq!(told(&cluster, &cp), None);
}

#[test]
#[ignore = "needs testenv/up single"]
fn the_only_listener_stays_and_the_plan_says_so() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    let own = address(&cluster, &cp);
    let good = cluster.manifest(&cp, "etcd");
    let stock = "--listen-metrics-urls=http://127.0.0.1:2381";
    assert!(good.contains(stock), "{good}");
    // As it is often set for Prometheus: at all addresses, and the probe asks at the node's own.
    let bad = good
        .replace(stock, "--listen-metrics-urls=http://0.0.0.0:2381")
        .replace("host: 127.0.0.1", &format!("host: {own}"));
    let workspace = cluster.workspace(Via::Ssh, &[ALONE, ACCEPT], URLS);
    cluster.write(&cp, "/etc/kubernetes/manifests/etcd.yaml", &bad);
    let put_right = || cluster.write(&cp, "/etc/kubernetes/manifests/etcd.yaml", &good);
    let said = std::panic::catch_unwind(|| {
        let serves = || cluster.argv(&cp, "etcd").contains("http://0.0.0.0:2381");
        eventually(
            "etcd serves at all addresses",
            Duration::from_secs(180),
            || serves() && cluster.readyz(&cp),
        );
        workspace
            .harden(&["plan"])
            .exits(1)
            .says("a probe of the kubelet would get no answer any more")
            .says("etcd --listen-metrics-urls");
    });
    put_right();
    let back = || cluster.argv(&cp, "etcd").contains(&format!("{stock} "));
    eventually("etcd is as it was", Duration::from_secs(180), || {
        back() && cluster.readyz(&cp)
    });
    assert!(said.is_ok(), "see above");
    cluster.settles();
}

/// A client of etcd that asks one member after the other, by TLS, until one answers with a quorum behind it,
/// as etcd's own clients do.
struct QuorumClient<'c> {
    cluster: &'c Cluster,
    node: String,
    child: Child,
}

impl<'c> QuorumClient<'c> {
    fn start(cluster: &'c Cluster) -> Self {
        let node = cluster.node("control-plane");
        let all = cluster.control_planes();
        let all: Vec<String> = all.iter().map(|node| address(cluster, node)).collect();
        // A range is linearizable unless it asks otherwise.
        let script = format!(
            "pki=/etc/kubernetes/pki/etcd; touch /root/quorum.run; : > /root/quorum.log
             while [ -e /root/quorum.run ]; do
               said=lost
               for member in {}; do
                 if curl -s --max-time 4 --cacert $pki/ca.crt --cert $pki/healthcheck-client.crt \
                   --key $pki/healthcheck-client.key -d '{{\"key\": \"aGFyZGVu\"}}' \
                   https://$member:2379/v3/kv/range | grep -q revision; then said=ok; break; fi
               done
               echo $said >> /root/quorum.log; sleep 0.2
             done",
            all.join(" ")
        );
        let mut command = Command::new("docker");
        command.args(["exec", &node, "sh", "-c", &script]);
        let child = command.spawn().expect("docker");
        QuorumClient {
            cluster,
            node,
            child,
        }
    }

    /// How often there was an answer, and how often none.
    fn end(mut self) -> (usize, usize) {
        self.cluster.on(&self.node, "rm /root/quorum.run");
        assert!(self.child.wait().expect("its end").success());
        let log = self
            .cluster
            .on(&self.node, "cat /root/quorum.log && rm /root/quorum.log");
        let lost = log.lines().filter(|line| *line == "lost").count();
        (log.lines().count() - lost, lost)
    }
}

#[test]
#[ignore = "needs testenv/up ha"]
fn three_members_lose_it_one_after_the_other_and_never_their_quorum() {
    let cluster = ha();
    cluster.weaken_with(&["--etcd-listener"]);
    let nodes = cluster.control_planes();
    for node in &nodes {
        assert!(
            told(&cluster, node).is_some_and(|keys| keys > 100),
            "{node}"
        );
    }
    let workspace = cluster.workspace(Via::Ssh, &[ALONE, ACCEPT], URLS);
    workspace.harden(&["plan", "-o", "plan.json"]).exits(2);
    let client = QuorumClient::start(&cluster);
    let said = workspace.harden(&["apply", "--yes", "plan.json"]);
    let (answers, lost) = client.end();
    let said = said.exits(0);
    assert_eq!(lost, 0, "of {answers}: {}", said.stderr);
    assert!(answers > 50, "{answers}");
    for node in &nodes {
        assert_eq!(told(&cluster, node), None, "{node}");
        let own = address(&cluster, node);
        let argv = cluster.argv(node, "etcd");
        let wanted = format!("--listen-client-urls=https://127.0.0.1:2379,https://{own}:2379 ");
        assert!(argv.contains(&wanted), "{node}: {argv}");
        let step = format!("{node}: /etc/kubernetes/manifests/etcd.yaml");
        let steps = said.stderr.lines().filter(|line| line.starts_with('['));
        let steps = steps.filter(|line| line.contains(&step)).count();
        assert_eq!(steps, 1, "{}", said.stderr);
    }
    workspace.harden(&["plan"]).exits(0);
}
