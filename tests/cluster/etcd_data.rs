//! etcd's data on a real member: snapshots that are taken, taken away and restored.

use std::path::Path;
use std::time::Duration;

use crate::environment::{Cluster, Via, Workspace, eventually, single};
use crate::etcd_user::last_generation;

const NAMESPACE: &str = "etcd-data-test";

/// What a test made goes, whatever becomes of it.
struct Made<'c>(&'c Cluster);

impl Made<'_> {
    fn remove(&self) {
        let wait = "--timeout=120s";
        let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found", wait];
        let _ = self.0.kubectl(&delete);
        let rest = "rm -rf /var/lib/harden/etcd /var/lib/etcd/member.*-*";
        self.0.on(&self.0.node("control-plane"), rest);
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

fn made(cluster: &Cluster) -> Made<'_> {
    let made = Made(cluster);
    made.remove();
    cluster.create_namespace(NAMESPACE);
    made
}

/// The one snapshot that a command has taken.
fn name_of(workspace: &Workspace, args: &[&str]) -> String {
    let args = [&["etcd", "snapshot", "--format", "json"], args].concat();
    let told = workspace.harden(&args).exits(0).json();
    let snapshot = &told["nodes"][0]["snapshots"][0];
    assert_eq!(snapshot["whole"], true, "{told}");
    snapshot["name"].as_str().expect("a name").to_owned()
}

fn config_map(cluster: &Cluster, name: &str) -> Option<String> {
    let path = "jsonpath={.data.value}";
    let said = cluster.kubectl(&["-n", NAMESPACE, "get", "configmap", name, "-o", path]);
    (said.status == Some(0)).then_some(said.stdout)
}

fn set(cluster: &Cluster, name: &str, value: &str) {
    let value = format!("--from-literal=value={value}");
    let _ = cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "delete",
        "configmap",
        name,
        "--ignore-not-found",
    ]);
    cluster
        .kubectl(&["-n", NAMESPACE, "create", "configmap", name, &value])
        .exits(0);
}

/// Whether a pod that is made now runs.
fn a_pod_runs(cluster: &Cluster, name: &str) {
    let image = "--image=registry.k8s.io/pause:3.10.1";
    cluster
        .kubectl(&["-n", NAMESPACE, "run", name, image, "--restart=Never"])
        .exits(0);
    let wait = [
        "-n",
        NAMESPACE,
        "wait",
        "pod",
        name,
        "--for=condition=Ready",
        "--timeout=120s",
    ];
    cluster.kubectl(&wait).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_snapshot_is_taken_verified_and_taken_away() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let _made = made(&cluster);
    let first = name_of(&workspace, &[]);
    let second = name_of(&workspace, &["--keep", "1"]);
    let listed = workspace.harden(&["etcd", "snapshots"]).exits(0).stdout;
    assert!(
        listed.contains(&second) && !listed.contains(&first),
        "{listed}"
    );
    let store = "/var/lib/harden/etcd/snapshots";
    let modes = cluster.on(&cp, &format!("stat -c '%a %U' {store} {store}/*/db"));
    assert_eq!(modes, "700 root\n600 root\n");

    // etcd's own program has the last word, on the node and of what has left it.
    let out = workspace.path("etcd.db");
    let third = name_of(&workspace, &["--out", "etcd.db", "--clear"]);
    let on_node = cluster.on(&cp, &format!("sha256sum <{store}/{third}/db"));
    let here = harden::fact::sha256(std::fs::read(&out).expect("the file"));
    assert_eq!(on_node.split(' ').next(), Some(here.as_str()));
    let status = cluster.on(
        &cp,
        &format!("etcdutl snapshot status {store}/{third}/db -w json"),
    );
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let told = workspace
        .harden(&["etcd", "snapshots", "--format", "json"])
        .exits(0)
        .json();
    let last = told["nodes"][0]["snapshots"]
        .as_array()
        .and_then(|all| all.last())
        .cloned();
    let last = last.expect("a snapshot");
    assert_eq!(last["hash"], status["hash"]);
    assert_eq!(last["revision"], status["revision"]);
    assert_eq!(last["keys"], status["totalKey"]);

    // A file in clear only when that is said, and never over another one.
    workspace
        .harden(&["etcd", "snapshot", "--out", "other.db"])
        .exits(1);
    workspace
        .harden(&["etcd", "snapshot", "--out", "etcd.db", "--clear"])
        .exits(1)
        .says("is there already");
    let kept = workspace.path("kept");
    let of = format!("of={}", kept.display());
    name_of(&workspace, &["--", "dd", "status=none", &of]);
    assert!(Path::new(&kept).metadata().expect("a file").len() > 1 << 20);
    workspace
        .harden(&["etcd", "snapshot", "--", "false"])
        .exits(1)
        .says("stays on its node");
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_is_restored_is_the_snapshots_data() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let _made = made(&cluster);
    set(&cluster, "kept", "old");
    set(&cluster, "changed", "old");
    let owner = cluster.on(&cp, "stat -c '%a %u:%g' /var/lib/etcd /var/lib/etcd/member");
    let snapshot = name_of(&workspace, &[]);
    let before = revision(&cluster, &cp);

    set(&cluster, "made", "new");
    set(&cluster, "changed", "new");
    cluster
        .kubectl(&["-n", NAMESPACE, "delete", "configmap", "kept"])
        .exits(0);
    let watch = cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "made",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
    ]);
    let seen: u64 = watch.exits(0).stdout.parse().expect("a number");

    // A name that is none, and no consent.
    workspace
        .harden(&["etcd", "restore", "20200101T000000Z", "--yes"])
        .exits(1)
        .says("nothing was changed");
    workspace
        .harden(&["etcd", "restore", &snapshot])
        .exits(1)
        .says("no terminal");

    workspace
        .harden(&["etcd", "restore", &snapshot, "--yes"])
        .exits(0);
    assert_eq!(config_map(&cluster, "kept").as_deref(), Some("old"));
    assert_eq!(config_map(&cluster, "changed").as_deref(), Some("old"));
    assert_eq!(config_map(&cluster, "made"), None);
    // Nobody who watched is given a revision again that meant something else.
    assert!(revision(&cluster, &cp) > before.max(seen) + 900_000_000);
    assert_eq!(
        cluster.on(&cp, "stat -c '%a %u:%g' /var/lib/etcd /var/lib/etcd/member"),
        owner
    );
    // What was there is kept beside, and nothing else lies about.
    let left = cluster.on(&cp, "ls -A /var/lib/etcd");
    let left: Vec<&str> = left.lines().collect();
    assert!(
        left.len() == 2 && left[1].starts_with("member.before-"),
        "{left:?}"
    );
    assert_eq!(
        cluster.on(&cp, "ls -A /etc/kubernetes/manifests | wc -l"),
        "4\n"
    );
    cluster.settles();
    a_pod_runs(&cluster, "after");
    cluster
        .kubectl(&[
            "wait",
            "node",
            "--all",
            "--for=condition=Ready",
            "--timeout=60s",
        ])
        .exits(0);
    // The cluster can be worked on as before.
    workspace.harden(&["plan"]);
    name_of(&workspace, &[]);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_restore_that_nobody_confirms_is_put_back_by_the_node() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    // A short gate, so that the node does not wait for long.
    let workspace = cluster.workspace(Via::Ssh, &[], "[apply]\ngate-timeout = \"40s\"\n");
    let _made = made(&cluster);
    let snapshot = name_of(&workspace, &[]);
    set(&cluster, "made", "new");
    let args = ["etcd", "restore", &snapshot, "--yes"];
    workspace
        .killed_at(&args, "waiting for the control plane to end")
        .expect("it was not over");
    let state = "cat /var/lib/harden/etcd/restore/state";
    let beside = || -> Vec<String> {
        let left = cluster.on(&cp, "ls -A /var/lib/etcd | cut -d - -f 1");
        left.lines().map(str::to_owned).collect()
    };
    eventually("the node puts it back", Duration::from_secs(420), || {
        cluster.on(&cp, state) == "reverted\n"
    });
    cluster.settles();
    assert_eq!(config_map(&cluster, "made").as_deref(), Some("new"));
    // What etcd made of the snapshot is kept: somebody may have written to it.
    assert_eq!(beside(), ["member", "member.undone"]);
    assert_eq!(
        cluster.on(&cp, "ls -A /etc/kubernetes/manifests | wc -l"),
        "4\n"
    );

    // The node itself dies in the middle, and the cluster runs on the restored data: nobody else changes anything
    // there, and the next run says what would be lost, asks, and brings the old data back first.
    let said = workspace.killed_at(&args, "waiting for it to");
    said.expect("it was not over");
    cluster.on(
        &cp,
        "kill -9 $(cut -d ' ' -f 1 /var/lib/harden/etcd/restore/runs)",
    );
    let declared = format!("[nodes.host.{cp}]\nrole = \"control-plane\"");
    let worker = format!("[nodes.host.{}]", cluster.node("worker"));
    let worker_declared = format!("{worker}\nrole = \"worker\"");
    let in_need = cluster.workspace(
        Via::Ssh,
        &[
            (&format!("[nodes.host.{cp}]"), declared.as_str()),
            (worker.as_str(), worker_declared.as_str()),
        ],
        "",
    );
    cluster.settles();
    set(&cluster, "since", "new");
    in_need
        .harden(&["etcd", "defragment", "--yes"])
        .exits(1)
        .says("a restore of etcd is open on this node");
    for (named, why) in [
        ("20200101T000000Z", "nothing was changed"),
        (snapshot.as_str(), "would be lost"),
    ] {
        in_need
            .harden(&["etcd", "restore", named])
            .exits(1)
            .says(why);
        assert_eq!(cluster.on(&cp, state), "waiting\n");
        assert_eq!(config_map(&cluster, "since").as_deref(), Some("new"));
    }
    in_need
        .harden(&["etcd", "restore", &snapshot, "--yes"])
        .exits(0)
        .says("was put back: it was interrupted");
    cluster.settles();
    assert_eq!(config_map(&cluster, "since"), None);
    assert_eq!(
        beside(),
        ["member", "member.before", "member.undone", "member.undone"]
    );
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_lies_in_clear_is_as_many_as_there_are() {
    let cluster = single();
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let _made = made(&cluster);
    // Each is written twice: an old revision holds what it was.
    for n in 0..20 {
        let name = format!("s{n}");
        let make = [
            "-n",
            NAMESPACE,
            "create",
            "secret",
            "generic",
            &name,
            "--from-literal=a=canary-one",
        ];
        cluster.kubectl(&make).exits(0);
        let patch = [
            "-n",
            NAMESPACE,
            "patch",
            "secret",
            &name,
            "-p",
            r#"{"stringData":{"a":"canary-two"}}"#,
        ];
        cluster.kubectl(&patch).exits(0);
    }
    let all = |expected: i32, args: &[&str]| -> (u64, u64) {
        let said = workspace.harden(args).exits(expected);
        assert!(!said.stdout.contains("canary") && !said.stderr.contains("canary"));
        let told = said.json();
        let files = told["nodes"][0]["files"].as_array().expect("files").clone();
        let count = |kind: &str| {
            let of_kind = files.iter().filter(|file| file["held-in"] == kind);
            of_kind
                .filter_map(|file| file["clear"]["/registry/secrets/"].as_u64())
                .sum()
        };
        (count("database"), count("wal"))
    };
    let live = || {
        let list = cluster
            .kubectl(&["get", "secrets", "-A", "-o", "name"])
            .exits(0);
        list.stdout.lines().count() as u64
    };
    let scan = ["etcd", "scan", "--format", "json"];
    let (database, log) = all(2, &scan);
    assert!(database >= live() + 20, "{database} of {}", live());
    assert!(log >= 40, "{log}");
    let defragment = ["etcd", "defragment", "--yes", "--format", "json"];
    assert_eq!(all(2, &defragment).0, live());
    for n in 0..20 {
        let delete = ["-n", NAMESPACE, "delete", "secret", &format!("s{n}")];
        cluster.kubectl(&delete).exits(0);
    }
    assert_eq!(all(2, &defragment).0, live());
    // The log keeps them, and that is said.
    workspace
        .harden(&["etcd", "scan"])
        .exits(2)
        .says("--max-wals");
    assert!(cluster.readyz(&cluster.node("control-plane")));
}

#[test]
#[ignore = "needs testenv/up single"]
fn the_schedule_takes_verified_snapshots_and_a_rollback_ends_it() {
    let cluster = single();
    let cp = cluster.node("control-plane");
    let _made = made(&cluster);
    cluster
        .workspace(Via::Ssh, &[], "")
        .harden(&["apply", "--yes"])
        .exits(0);
    // What systemd does not understand is put back.
    let bad = "[etcd.snapshots]\nschedule = \"whenever it rains\"\n";
    cluster
        .workspace(Via::Ssh, &[], bad)
        .harden(&["apply", "--yes"])
        .exits(1)
        .says("put back");
    let files = "ls /etc/harden/etcd-snapshot.sh /etc/systemd/system/*harden* \
                 /etc/systemd/system/timers.target.d/*harden* 2>/dev/null | wc -l";
    assert_eq!(cluster.on(&cp, files), "0\n");

    let schedule = "[etcd.snapshots]\nschedule = \"*-*-* 02:00:00\"\nkeep = 2\n";
    let workspace = cluster.workspace(Via::Ssh, &[], schedule);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("harden-etcd-snapshot.timer");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    cluster.on(
        &cp,
        "systemd-analyze verify /etc/systemd/system/harden-etcd-snapshot.timer \
         /etc/systemd/system/harden-etcd-snapshot.service",
    );
    let is_active = "systemctl is-active harden-etcd-snapshot.timer || true";
    assert_eq!(cluster.on(&cp, is_active), "active\n");
    let placed = last_generation(&workspace);
    // Somebody stops it.
    cluster.on(&cp, "systemctl stop harden-etcd-snapshot.timer");
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("inactive → active");
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert_eq!(cluster.on(&cp, is_active), "active\n");
    workspace.harden(&["plan"]).exits(0);
    let wanted = cluster.on(&cp, "systemctl show --property=Wants timers.target");
    assert!(wanted.contains("harden-etcd-snapshot.timer"), "{wanted}");
    // What the timer does, three times.
    let asked = name_of(&workspace, &[]);
    for _ in 0..3 {
        cluster.on(&cp, "systemctl start harden-etcd-snapshot.service");
    }
    let told = workspace
        .harden(&["etcd", "snapshots", "--format", "json"])
        .exits(0)
        .json();
    let all = told["nodes"][0]["snapshots"].as_array().expect("a list");
    let of = |reason: &str| all.iter().filter(|s| s["reason"] == reason).count();
    assert_eq!((of("schedule"), of("asked")), (2, 1), "{told}");
    assert!(
        all.iter().all(|snapshot| snapshot["whole"] == true),
        "{told}"
    );
    // One of them can be restored like any other, and etcd's own program says the same of it.
    let last = all.last().expect("a snapshot");
    let db = format!(
        "/var/lib/harden/etcd/snapshots/{}/db",
        last["name"].as_str().expect("a name")
    );
    let status = cluster.on(&cp, &format!("etcdutl snapshot status {db} -w json"));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(last["hash"], status["hash"]);

    // The second apply had only started the timer.
    workspace.harden(&["rollback", "--yes", &placed]).exits(0);
    assert_eq!(cluster.on(&cp, files), "0\n");
    assert_eq!(cluster.on(&cp, is_active), "inactive\n");
    let listed = workspace.harden(&["etcd", "snapshots"]).exits(0).stdout;
    assert!(listed.contains(&asked), "{listed}");
}

/// etcd's revision.
fn revision(cluster: &Cluster, node: &str) -> u64 {
    let said = cluster.on(
        node,
        "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
         --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key \
         endpoint status -w json",
    );
    let told: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    told[0]["Status"]["header"]["revision"]
        .as_u64()
        .expect("a revision")
}
