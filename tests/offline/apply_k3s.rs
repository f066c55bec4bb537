//! Apply and rollback on servers of k3s and RKE2, with a stand-in for the service. Not run on a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::apply_world::cluster::{Cluster, Fate};
use crate::apply_world::{scratch, service};
use harden::apply::{ApplyError, Report};
use harden::distribution::k3s::{K3S, Layout, RKE2};
use harden::fact::{ApiFacts, Fact, Facts, Node, NodeInfo};
use harden::generation::{Outcome, rollback_lookup, rollback_plan};
use harden::plan::{Plan, build, queries};
use harden::resource::{Desired, Kind, Resource, Risk, Scope, Severity};
use serde_json::json;

const DROP_IN: &str = "server/config.yaml.d/90-harden.yaml";

fn desired(layout: &Layout, flags: &[(&str, &str)]) -> Desired {
    let flag = |(name, value): &(&str, &str)| Resource {
        kind: Kind::from_table(
            "flag",
            json!({"component": "kube-apiserver", "name": name, "value": value}),
        )
        .unwrap(),
        scope: Scope::ControlPlane,
        only: None,
        except: BTreeSet::new(),
        risk: Risk::Restart,
        uniform: true,
        reason: String::new(),
        controls: Vec::new(),
        origins: Vec::new(),
        consent: Vec::new(),
        requires: BTreeSet::new(),
    };
    Desired {
        cluster: "c".into(),
        distribution: layout.distribution,
        resources: flags.iter().map(flag).collect(),
        accept: Vec::new(),
        allow_delete: Default::default(),
        findings: Vec::new(),
    }
}

/// What is planned for the servers as the real probe sees them.
fn plan(cluster: &Cluster, desired: &Desired) -> Plan {
    let node = |name: &String| {
        let info = NodeInfo {
            name: name.clone(),
            control_plane: true,
        };
        let facts = cluster.look(name, &queries(desired, &info));
        let node = Node {
            info,
            facts: Fact::Value(facts),
            remedy: String::new(),
        };
        (name.clone(), node)
    };
    let facts = Facts {
        nodes: cluster.nodes.keys().map(node).collect(),
        api: ApiFacts {
            cluster_id: Fact::Value("id".into()),
            ledger: Default::default(),
            cluster_configuration: Fact::Absent,
            objects: BTreeMap::new(),
            answers: BTreeMap::new(),
        },
    };
    let plan = build(desired, &facts);
    let errors = plan.problems.iter();
    let errors: Vec<_> = errors.filter(|p| p.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    service::moved(&plan, cluster.servers.unwrap(), &cluster.nodes)
}

fn applied(cluster: &Cluster, plan: &Plan) -> Report {
    cluster.client(&Fate::new()).run(plan).unwrap()
}

/// The arguments that the API server of each server runs with, and its process.
fn running(cluster: &Cluster) -> Vec<(u32, String)> {
    let of = |node| {
        let process = service::running(node).expect("the service is up");
        (process.pid, process.argv.join(" "))
    };
    cluster.nodes.values().map(of).collect()
}

fn argvs(cluster: &Cluster) -> Vec<String> {
    running(cluster).into_iter().map(|(_, argv)| argv).collect()
}

const BEFORE: &str = "kube-apiserver --audit-log-maxage=7";
const AFTER: &str = "kube-apiserver --audit-log-maxage=7 --profiling=false";

#[test]
fn a_flag_is_brought_to_every_server_and_taken_back_by_a_rollback() {
    let dir = scratch();
    let cluster = Cluster::servers(dir.path(), &K3S, &["s1", "s2"]);
    let before = running(&cluster);
    let tree = cluster.snapshot().0;
    assert_eq!(argvs(&cluster), [BEFORE, BEFORE]);
    let desired = desired(&K3S, &[("profiling", "false")]);
    let plan_ = plan(&cluster, &desired);
    let report = applied(&cluster, &plan_);
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(argvs(&cluster), [AFTER, AFTER]);
    for ((old, _), (new, _)) in before.iter().zip(running(&cluster)) {
        assert_ne!(*old, new, "it is a new process");
    }
    let note = "k3s keeps its datastore to itself, so only /readyz tells of its health";
    assert_eq!(report.notes, [format!("s1: {note}"), format!("s2: {note}")]);
    let own = cluster.nodes["s1"].read(DROP_IN).unwrap();
    assert_eq!(own, "kube-apiserver-arg+:\n  - profiling=false\n");
    assert!(plan(&cluster, &desired).is_clean());

    let current = cluster.current(&rollback_lookup(&report.record));
    let back = rollback_plan(&report.record, &current);
    assert!(back.problems.is_empty(), "{:?}", back.problems);
    let restarts: Vec<_> = back.changes.iter().map(|c| c.restarts.as_deref()).collect();
    assert_eq!(restarts, [Some("k3s"), Some("k3s")]);
    let report = applied(&cluster, &back);
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(argvs(&cluster), [BEFORE, BEFORE]);
    assert_eq!(cluster.snapshot().0, tree);
    cluster.forget();
}

#[test]
fn a_flag_that_the_server_refuses_is_put_back_by_itself() {
    let dir = scratch();
    let cluster = Cluster::servers(dir.path(), &K3S, &["s1", "s2"]);
    let second = running(&cluster)[1].clone();
    let tree = cluster.snapshot().0;
    let plan = plan(&cluster, &desired(&K3S, &[("bad-flag", "1")]));
    let failed = cluster.client(&Fate::new()).run(&plan);
    let Err(ApplyError::Failed { message, .. }) = failed else {
        panic!("{failed:?}")
    };
    // How often it died by then depends on how fast the machine is.
    for part in [
        "s1: k3s did not pass its gate: it was started and died ",
        " times; its last log line: time=\"now\" level=fatal msg=\"apiserver exited: unknown flag: --bad-flag\"; s1 has \
         its old files back, and its /readyz answers 200",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(argvs(&cluster), [BEFORE, BEFORE]);
    assert_eq!(
        running(&cluster)[1],
        second,
        "the second one was not touched"
    );
    assert_eq!(cluster.snapshot().0, tree);
    assert_eq!(cluster.locks(), [""; 0]);
    cluster.forget();
}

/// What RKE2 runs can be looked at, so a service that is up and ready is not enough.
#[test]
fn a_pod_of_rke2_must_run_with_the_flag() {
    let dir = scratch();
    let cluster = Cluster::servers(dir.path(), &RKE2, &["s3"]);
    let desired = desired(&RKE2, &[("profiling", "false")]);
    let tree = cluster.snapshot().0;
    service::make_stubborn(&cluster.nodes["s3"]);
    let made = plan(&cluster, &desired);
    let mut client = cluster.client(&Fate::new());
    client.settings.gate_timeout = Duration::from_secs(5);
    let failed = client.run(&made);
    let Err(ApplyError::Failed { message, .. }) = failed else {
        panic!("{failed:?}")
    };
    let why = "waiting for: kube-apiserver to run with --profiling=false";
    assert!(message.contains(why), "{message}");
    assert_eq!(cluster.snapshot().0, tree);
    assert_eq!(argvs(&cluster), [BEFORE]);

    std::fs::remove_file(cluster.nodes["s3"].root.join("run/stubborn")).unwrap();
    let report = applied(&cluster, &plan(&cluster, &desired));
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(argvs(&cluster), [AFTER]);
    assert!(plan(&cluster, &desired).is_clean());
    cluster.forget();
}

#[test]
fn a_server_whose_client_is_gone_puts_itself_back() {
    let dir = scratch();
    let cluster = Cluster::servers(dir.path(), &K3S, &["s1", "s2"]);
    let tree = cluster.snapshot().0;
    let plan = plan(&cluster, &desired(&K3S, &[("bad-flag", "1")]));
    let fate = Fate::new();
    fate.cut.lock().unwrap().push("s1".into());
    let mut client = cluster.client(&fate);
    client.settings.gate_timeout = Duration::from_secs(1);
    client.settings.watchdog_margin = Duration::from_secs(1);
    let report = client.run(&plan);
    assert!(!matches!(&report, Ok(r) if r.record.outcome() == Some(&Outcome::Applied)));
    let s1 = &cluster.nodes["s1"];
    let begun = Instant::now();
    while s1.read(DROP_IN).is_some() || service::running(s1).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(argvs(&cluster), [BEFORE, BEFORE]);
    assert_eq!(cluster.snapshot().0, tree);
    cluster.forget();
}

#[test]
fn whenever_the_client_is_killed_the_next_run_leaves_every_server_whole() {
    const PARTS: usize = 6;
    let dir = scratch();
    let desired = desired(&K3S, &[("profiling", "false")]);
    let whole = Fate::new();
    let of = |name: &str| Cluster::servers(&dir.path().join(name), &K3S, &["s1", "s2"]);
    let cluster = of("whole");
    cluster
        .client(&whole)
        .run(&plan(&cluster, &desired))
        .unwrap();
    cluster.forget();
    let scripts = whole.scripts.load(Ordering::SeqCst);
    for part in 1..PARTS {
        let cluster = of(&part.to_string());
        let tree = cluster.snapshot().0;
        let made = plan(&cluster, &desired);
        let fate = Fate::dying_before_script(scripts * part / PARTS);
        let mut ghost = cluster.client(&fate);
        ghost.holder = Cluster::ghost();
        assert!(ghost.run_and_die(&made).is_none(), "{part}");
        let mut next = cluster.client(&Fate::new());
        match next.recover() {
            Ok(_) | Err(ApplyError::Failed { .. }) => {}
            Err(error) => panic!("{part}: {error}"),
        }
        // All of it or nothing, and what runs is what is written.
        match argvs(&cluster) {
            after if after == [AFTER, AFTER] => {}
            before => {
                assert_eq!(before, [BEFORE, BEFORE], "{part}");
                assert_eq!(cluster.snapshot().0, tree, "{part}");
                applied(&cluster, &plan(&cluster, &desired));
                assert_eq!(argvs(&cluster), [AFTER, AFTER], "{part}");
            }
        }
        assert!(plan(&cluster, &desired).is_clean(), "{part}");
        assert_eq!(cluster.locks(), [""; 0], "{part}");
        cluster.forget();
    }
}

#[test]
fn what_the_administrator_adds_meanwhile_is_kept_and_an_edit_of_ours_stops_the_apply() {
    let dir = scratch();
    let cluster = Cluster::servers(dir.path(), &K3S, &["s1", "s2"]);
    let desired = desired(&K3S, &[("profiling", "false")]);
    let stale = plan(&cluster, &desired);
    let s1 = &cluster.nodes["s1"];
    s1.write(
        "server/config.yaml.d/99-admin.yaml",
        "kube-apiserver-arg+:\n- v=2\n",
        0o600,
    );
    s1.write(DROP_IN, "kube-apiserver-arg+:\n- v=3\n", 0o600);
    let failed = cluster.client(&Fate::new()).run(&stale);
    assert!(!matches!(&failed, Ok(r) if r.record.outcome() == Some(&Outcome::Applied)));
    assert_eq!(argvs(&cluster), [BEFORE, BEFORE], "nothing was restarted");
    let report = applied(&cluster, &plan(&cluster, &desired));
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(
        argvs(&cluster),
        [
            "kube-apiserver --audit-log-maxage=7 --v=3 --profiling=false --v=2",
            AFTER
        ]
    );
    cluster.forget();
}
