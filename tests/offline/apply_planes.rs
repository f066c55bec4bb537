//! Highly available control planes: one node at a time, and none while another one is not well.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crate::apply_world::cluster::{ClientSide, Cluster, Death, Fate, MANIFEST, manifest};
use crate::apply_world::scratch;
use harden::apply::{ApplyError, Report};
use harden::distribution::kubeadm::etcd::EtcdMember;
use harden::fact::{ApiQuery, Fact};
use harden::generation::{self, Outcome, Record};
use harden::host::{Host, HostError};
use harden::plan::{Plan, StageName, Step};

const GOOD: &str = "--profiling=false";

/// A client that does not wait for long.
fn client(cluster: &Cluster, fate: &Arc<Fate>) -> ClientSide {
    let mut client = cluster.client(fate);
    client.settings.gate_timeout = Duration::from_millis(700);
    client
}

fn records(cluster: &Cluster) -> Vec<Record> {
    let open = |name: &str| -> Result<Box<dyn Host>, HostError> {
        Ok(Box::new(cluster.nodes[name].clone()))
    };
    generation::list(&open, &cluster.planes()).records
}

fn rollback(cluster: &Cluster) -> Plan {
    let record = records(cluster).pop().unwrap();
    let lookup = generation::rollback_lookup(&record);
    generation::rollback_plan(&record, &cluster.current(&lookup))
}

fn unwell(result: Result<Report, ApplyError>) -> String {
    match result {
        Err(error @ ApplyError::Unwell { .. }) => format!("{error}\n{}", error.remedy()),
        other => panic!("{other:?}"),
    }
}

fn failed(result: Result<Report, ApplyError>) -> (String, Option<Outcome>) {
    match result {
        Err(ApplyError::Failed {
            message, outcome, ..
        }) => (message, outcome),
        other => panic!("{other:?}"),
    }
}

fn has_everywhere(cluster: &Cluster, flag: &str) -> bool {
    let has = |name: &String| cluster.nodes[name].read(MANIFEST).unwrap() == manifest(flag);
    cluster.planes().iter().all(has)
}

/// Rancher rotated keys while a control plane was down, and that one never came back.
#[test]
fn rancher_26421_a_control_plane_that_is_down_stops_the_apply() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    let before = cluster.snapshot();
    let run = || unwell(client(&cluster, &Fate::new()).run(&cluster.plan(GOOD)));

    cluster.state.lock().unwrap().dead.insert("cp2".into());
    let said = run();
    for part in [
        "control plane cp2 is not well: its /readyz does not answer 200",
        "its etcd member does not answer: connection refused",
        "nothing was changed",
        "bring cp2 back",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Those that are well are not named.
    assert!(!said.contains("cp1") && !said.contains("cp3"), "{said}");

    cluster.revive();
    cluster.state.lock().unwrap().sick.insert("cp3".into());
    let said = run();
    assert!(
        said.contains("cp3 is not well: its etcd member is not healthy: ALARM"),
        "{said}"
    );

    cluster.state.lock().unwrap().sick.clear();
    cluster.state.lock().unwrap().strangers = 1;
    let said = run();
    assert!(
        said.contains("knows 4 members and is connected to 2 of the others"),
        "{said}"
    );

    assert_eq!(cluster.snapshot(), before);
    assert_eq!(records(&cluster), []);
    assert_eq!(cluster.locks(), Vec::<String>::new());
    cluster.state.lock().unwrap().strangers = 0;
    client(&cluster, &Fate::new())
        .run(&cluster.plan(GOOD))
        .unwrap();
    cluster.forget();
}

#[test]
fn what_restarts_nothing_on_a_control_plane_does_not_ask_them() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    cluster.state.lock().unwrap().dead.insert("cp2".into());
    let mut plan = cluster.plan(GOOD);
    plan.stages.retain(|s| s.name != StageName::ControlPlane);
    client(&cluster, &Fate::new()).run(&plan).unwrap();
    cluster.forget();
}

/// A reporter's flag stood in the manifest, and the server went on without it.
#[test]
fn kubernetes_136931_the_process_is_verified_and_not_the_file() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    let before = cluster.snapshot();
    cluster.state.lock().unwrap().stuck.insert("cp2".into());
    let mut client = client(&cluster, &Fate::new());
    let (message, outcome) = failed(client.run(&cluster.control_plane_plan(GOOD)));
    assert!(
        message.contains("cp2") && message.contains("to restart with the new flags"),
        "{message}"
    );
    assert!(matches!(outcome, Some(Outcome::Reverted(_))), "{outcome:?}");
    assert_eq!(cluster.snapshot(), before);
    cluster.forget();
}

#[test]
fn the_mirror_pod_must_be_of_the_new_manifest() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    let before = cluster.snapshot();
    cluster
        .state
        .lock()
        .unwrap()
        .old_mirror
        .insert("cp1".into());
    let plan = cluster.control_plane_plan(GOOD);
    let (message, outcome) = failed(client(&cluster, &Fate::new()).run(&plan));
    assert!(
        message.contains("Pod kube-system/kube-apiserver-cp1 to be of the new manifest"),
        "{message}"
    );
    assert!(matches!(outcome, Some(Outcome::Reverted(_))), "{outcome:?}");
    assert_eq!(cluster.snapshot(), before);

    // Where there was none before, only the process counts, and that is told.
    cluster.state.lock().unwrap().no_mirror.insert("cp1".into());
    let report = client(&cluster, &Fate::new()).run(&plan).unwrap();
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("kube-apiserver-cp1 is not waited for")),
        "{:?}",
        report.notes
    );
    cluster.forget();
}

#[test]
fn an_external_etcd_is_told_and_never_taken_for_healthy() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    cluster.state.lock().unwrap().external = cluster.planes().into_iter().collect();
    let plan = cluster.control_plane_plan(GOOD);
    let report = client(&cluster, &Fate::new()).run(&plan).unwrap();
    for node in cluster.planes() {
        let told = format!("{node}: its etcd is external or without a metrics address");
        let notes = report.notes.iter().filter(|n| n.starts_with(&told));
        assert_eq!(notes.count(), 1, "{:?}", report.notes);
    }
    cluster.forget();
}

#[test]
fn a_member_that_comes_back_is_waited_for() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    let fate = Fate::new();
    *fate.death.lock().unwrap() = Some(Death {
        at: "Done { number: 1 }".into(),
        node: "cp1".into(),
        machine: false,
    });
    let mut client = cluster.client(&fate);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while cluster.state.lock().unwrap().dead.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            cluster.revive();
        });
        client.run(&cluster.control_plane_plan(GOOD)).unwrap();
    });
    let waited = client
        .heard
        .iter()
        .any(|line| line.starts_with("gate cp1: it to be well again"));
    assert!(waited, "{:#?}", client.heard);
    assert!(has_everywhere(&cluster, GOOD));
    cluster.forget();
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Before,
    During,
    After,
}

/// A control plane dies at one point of an apply.
fn case(root: &Path, step: usize, when: When, victim: &str, machine: bool) {
    let name = format!("{victim} dies {when:?} step {step}, its machine too: {machine}");
    let cluster = Cluster::ha(&root.join(name.replace(' ', "-")));
    let before = cluster.snapshot();
    let fate = Fate::new();
    *fate.death.lock().unwrap() = Some(Death {
        at: match when {
            When::Before => format!("Step {{ number: {step}, "),
            When::During => format!("activate {step}."),
            When::After => format!("Done {{ number: {step} }}"),
        },
        node: victim.into(),
        machine,
    });
    let mut client = client(&cluster, &fate);
    client.holder = Cluster::ghost();
    let result = client.run(&cluster.control_plane_plan(GOOD));
    if (when, step) == (When::After, 3) {
        assert!(result.is_ok(), "{name}: {result:?}");
        assert!(has_everywhere(&cluster, GOOD), "{name}");
        cluster.forget();
        return;
    }
    let (message, outcome) = failed(result);
    assert!(message.contains(victim), "{name}: {message}");
    // Only what cannot be reached may be left for later.
    if !machine {
        let back = matches!(outcome, Some(Outcome::Reverted(_)));
        assert!(back, "{name}: {outcome:?} {message}");
    }
    if outcome.is_none() {
        cluster.revive();
        // What became of the node is known only now: either all of it stands, or nothing.
        match self::client(&cluster, &Fate::new()).recover() {
            Ok(report) => {
                assert_eq!(report.unwrap().record.outcome(), Some(&Outcome::Applied));
                assert!(has_everywhere(&cluster, GOOD), "{name}");
                cluster.forget();
                return;
            }
            result => {
                let (message, outcome) = failed(result.map(|report| report.unwrap()));
                let back = matches!(outcome, Some(Outcome::Reverted(_)));
                assert!(back, "{name}: {outcome:?} {message}");
            }
        }
    }
    assert_eq!(cluster.snapshot(), before, "{name}: {message}");
    cluster.forget();
}

/// Runs the cases, which mostly wait, some at a time.
fn at_once(cases: &[(usize, When, String, bool)]) {
    let dir = scratch();
    let queue = Mutex::new(cases.iter());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((step, when, victim, machine)) = next else {
                        return;
                    };
                    case(dir.path(), *step, *when, victim, *machine);
                }
            });
        }
    });
}

fn cases(machine: bool, victims: impl Fn(usize) -> Vec<usize>) -> Vec<(usize, When, String, bool)> {
    let mut all = Vec::new();
    for step in 1..=3 {
        for when in [When::Before, When::During, When::After] {
            for victim in victims(step) {
                all.push((step, when, format!("cp{victim}"), machine));
            }
        }
    }
    all
}

#[test]
fn whichever_control_plane_dies_at_whichever_step_all_is_applied_or_all_put_back() {
    at_once(&cases(false, |step| vec![step, step % 3 + 1]));
}

#[test]
fn when_its_machine_is_gone_the_next_run_finishes_or_puts_back_the_rest() {
    at_once(&cases(true, |step| vec![step]));
}

/// Restarting a second member while one is missing would cost the quorum.
#[test]
fn a_second_etcd_member_is_not_put_back_while_the_first_is_down() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    let before = cluster.snapshot();
    let plan = with_etcd(&cluster);
    let fate = Fate::new();
    *fate.death.lock().unwrap() = Some(Death {
        at: "activate 2.".into(),
        node: "cp2".into(),
        machine: false,
    });
    let mut client = client(&cluster, &fate);
    client.holder = Cluster::ghost();
    let (message, outcome) = failed(client.run(&plan));
    assert_eq!(outcome, None);
    assert!(
        message.contains("cp1 was NOT put back yet") && message.contains("control plane cp2"),
        "{message}"
    );
    assert_eq!(cluster.nodes["cp1"].read(MANIFEST).unwrap(), manifest(GOOD));
    // Once it is back, the next run does it.
    cluster.revive();
    let result = self::client(&cluster, &Fate::new()).recover();
    let (_, outcome) = failed(result.map(|report| report.unwrap()));
    assert!(matches!(outcome, Some(Outcome::Reverted(_))), "{outcome:?}");
    assert_eq!(cluster.snapshot(), before);
    cluster.forget();
}

/// The plan for all control planes, with etcd's manifest in every step.
fn with_etcd(cluster: &Cluster) -> Plan {
    let mut plan = cluster.control_plane_plan(GOOD);
    for step in &mut plan.stages[0].steps {
        let Step::Node(step) = step else { panic!() };
        let etcd = cluster.nodes[&step.node].set("manifests/etcd.yaml", "new\n");
        step.files.push(etcd);
    }
    plan
}

#[test]
fn a_snapshot_is_there_before_etcd_is_touched() {
    let dir = scratch();
    let cluster = Cluster::ha(dir.path());
    // Nothing of etcd, no snapshot.
    let fate = Fate::new();
    let plan = cluster.control_plane_plan(GOOD);
    cluster.client(&fate).run(&plan).unwrap();
    cluster.client(&fate).run(&rollback(&cluster)).unwrap();
    assert_eq!(*fate.snapshots.lock().unwrap(), [""; 0]);
    let before = cluster.snapshot();
    let plan = with_etcd(&cluster);
    let text = harden::report::plan_text(&plan, harden::report::PlanText { details: false });
    assert!(
        text.contains("before the first step a snapshot of etcd"),
        "{text}"
    );

    // None to be had: nothing is changed, not even a record is written.
    let fate = Fate::new();
    *fate.without_snapshot.lock().unwrap() = cluster.planes();
    let past = records(&cluster).len();
    match cluster.client(&fate).run(&plan) {
        Err(error @ ApplyError::NoSnapshot { .. }) => {
            let said = error.to_string();
            assert!(
                said.contains("no leader") && said.ends_with("nothing was changed"),
                "{said}"
            );
            assert!(!error.remedy().is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.snapshot(), before);
    assert_eq!(records(&cluster).len(), past);

    // One member gives none, another does.
    let fate = Fate::new();
    *fate.without_snapshot.lock().unwrap() = vec!["cp1".into()];
    let report = cluster.client(&fate).run(&plan).unwrap();
    assert_eq!(*fate.snapshots.lock().unwrap(), ["cp2"]);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("cp2: snapshot")),
        "{:?}",
        report.notes
    );

    // A rollback may be what makes etcd well.
    let fate = Fate::new();
    *fate.without_snapshot.lock().unwrap() = cluster.planes();
    cluster.client(&fate).run(&rollback(&cluster)).unwrap();
    assert_eq!(cluster.snapshot(), before);
    cluster.forget();
}

fn applied(root: &Path) -> (Cluster, Plan) {
    let cluster = Cluster::ha(root);
    client(&cluster, &Fate::new())
        .run(&cluster.control_plane_plan(GOOD))
        .unwrap();
    let undo = rollback(&cluster);
    (cluster, undo)
}

fn steps_of(client: &ClientSide) -> Vec<&str> {
    let steps = client.heard.iter().filter(|l| l.starts_with("Step {"));
    steps
        .filter_map(|line| {
            let names = ["cp1: ", "cp2: ", "cp3: "];
            names.into_iter().find(|name| line.contains(name))
        })
        .collect()
}

#[test]
fn a_rollback_repairs_the_control_plane_that_is_down_before_the_others() {
    let dir = scratch();
    let (cluster, undo) = applied(dir.path());
    // With the flag that the rollback takes away, this server does not come up any more.
    cluster.crash("cp2", GOOD);
    let mut client = client(&cluster, &Fate::new());
    let report = client.run(&undo).unwrap();
    assert_eq!(steps_of(&client), ["cp2: ", "cp3: ", "cp1: "]);
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("control plane cp2 is not well")),
        "{:?}",
        report.notes
    );
    assert!(has_everywhere(&cluster, "--profiling=true"));
    cluster.forget();
}

#[test]
fn a_rollback_takes_the_leader_of_now_last() {
    let dir = scratch();
    let (cluster, _) = applied(dir.path());
    let record = records(&cluster).pop().unwrap();
    let lookup = generation::rollback_lookup(&record);
    let asked: Vec<String> = lookup.members.iter().map(ToString::to_string).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    let mut current = cluster.current(&lookup);
    for query in &lookup.members {
        let member = EtcdMember {
            healthy: true,
            why: String::new(),
            leader: *query == ApiQuery::EtcdMember("cp3".into()),
            has_leader: true,
            members: 3,
            connected: 2,
        };
        let answer = serde_json::to_value(member).unwrap();
        current.answers.insert(query.clone(), Fact::Value(answer));
    }
    let undo = generation::rollback_plan(&record, &current);
    let mut client = client(&cluster, &Fate::new());
    client.run(&undo).unwrap();
    assert_eq!(steps_of(&client), ["cp2: ", "cp1: ", "cp3: "]);
    cluster.forget();
}

#[test]
fn a_rollback_of_others_does_not_begin_while_one_is_down() {
    let dir = scratch();
    let (cluster, mut undo) = applied(dir.path());
    let before = cluster.snapshot();
    cluster.crash("cp2", GOOD);
    for stage in &mut undo.stages {
        let of_others = |step: &Step| !matches!(step, Step::Node(step) if step.node == "cp2");
        stage.steps.retain(of_others);
    }
    let said = unwell(client(&cluster, &Fate::new()).run(&undo));
    assert!(said.contains("bring cp2 back"), "{said}");
    assert_eq!(cluster.snapshot(), before);
    // But those that are down lose nothing by it, and may be repaired whatever else is down.
    let only = |node: &str| {
        let mut plan = rollback(&cluster);
        for stage in &mut plan.stages {
            let of = |step: &Step| matches!(step, Step::Node(step) if step.node == node);
            stage.steps.retain(of);
        }
        plan
    };
    let plan = only("cp2");
    cluster.crash("cp1", GOOD);
    client(&cluster, &Fate::new()).run(&plan).unwrap();
    let node = &cluster.nodes["cp2"];
    assert_eq!(node.read(MANIFEST).unwrap(), manifest("--profiling=true"));
    cluster.forget();
}

#[test]
fn an_interrupted_rollback_is_finished_although_control_planes_are_down() {
    let dir = scratch();
    let scripts = {
        let (cluster, undo) = applied(&dir.path().join("whole"));
        cluster.crash("cp2", GOOD);
        cluster.crash("cp3", GOOD);
        let fate = Fate::new();
        client(&cluster, &fate).run(&undo).unwrap();
        cluster.forget();
        fate.scripts.load(std::sync::atomic::Ordering::SeqCst)
    };
    for part in [2, 4, 6] {
        let (cluster, undo) = applied(&dir.path().join(format!("{part}")));
        cluster.crash("cp2", GOOD);
        cluster.crash("cp3", GOOD);
        let fate = Fate::dying_before_script(scripts * part / 7);
        let mut ghost = client(&cluster, &fate);
        ghost.holder = Cluster::ghost();
        assert!(ghost.run_and_die(&undo).is_none(), "{part}");
        let mut next = client(&cluster, &Fate::new());
        match next.recover().unwrap() {
            Some(report) if report.record.done().is_empty() => {
                next.run(&undo).unwrap();
            }
            Some(_) => {}
            None => {
                next.run(&undo).unwrap();
            }
        }
        assert!(has_everywhere(&cluster, "--profiling=true"), "{part}");
        cluster.forget();
    }
}
