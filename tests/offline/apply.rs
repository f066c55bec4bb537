//! Applying plans: against nodes that run the real transaction script, with a client that can die
//! at any call.

use std::time::{Duration, Instant};

use crate::apply_world::cluster::{self, Cluster, Fate, MANIFEST, manifest};
use crate::apply_world::scratch;
use harden::apply::ApplyError;
use harden::apply::node::State;
use harden::cluster::Holder;
use harden::fact::ObjectRef;
use harden::generation::{self, Event, Outcome, Record};
use harden::host::{Host, HostError};
use harden::plan::{ObjectAction, ObjectStep, Plan, Purpose, StageName, Step};
use harden::report::{PlanText, plan_text};
use harden::resource::{Change, Place, Risk};
use serde_json::json;

const GOOD: &str = "--profiling=false";

fn records(cluster: &Cluster) -> Vec<Record> {
    let open = |name: &str| -> Result<Box<dyn Host>, HostError> {
        Ok(Box::new(cluster.nodes[name].clone()))
    };
    let all = generation::list(&open, &["cp1".into(), "cp2".into()]);
    assert!(all.unread.is_empty(), "{:?}", all.unread);
    all.records
}

fn rollback(cluster: &Cluster) -> Plan {
    let record = records(cluster).pop().unwrap();
    let lookup = generation::rollback_lookup(&record);
    generation::rollback_plan(&record, &cluster.current(&lookup))
}

fn failed(result: Result<harden::apply::Report, ApplyError>) -> (String, Option<Outcome>, Record) {
    match result {
        Err(ApplyError::Failed {
            message,
            outcome,
            record,
            ..
        }) => (message, outcome, *record),
        other => panic!("{other:?}"),
    }
}

#[test]
fn applies_in_order_records_it_and_rolls_it_back_to_the_byte() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let mut client = cluster.client(&Fate::new());
    let report = client.run(&cluster.plan(GOOD)).unwrap();
    let after = cluster.snapshot();
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    assert_eq!(records(&cluster), std::slice::from_ref(&report.record));
    assert_eq!(cluster.nodes["cp2"].read(MANIFEST).unwrap(), manifest(GOOD));
    assert_eq!(cluster.locks(), Vec::<String>::new());
    let events: Vec<&Event> = report.record.journal.iter().map(|e| &e.event).collect();
    let expected: Vec<Event> = (1..=7)
        .flat_map(|n| [Event::Begin(n), Event::Done(n)])
        .chain([Event::End(Outcome::Applied)])
        .collect();
    assert_eq!(events, expected.iter().collect::<Vec<_>>());
    // cp2 is not touched before cp1 has passed its gate.
    let at = |text: &str| client.heard.iter().position(|l| l.contains(text)).unwrap();
    assert!(at("Done { number: 4 }") < at("Step { number: 5"));

    let undo = rollback(&cluster);
    assert_eq!(undo.purpose, Purpose::Rollback(1));
    assert_eq!(undo.problems, []);
    let stages: Vec<StageName> = undo.stages.iter().map(|s| s.name).collect();
    assert_eq!(
        stages,
        [
            StageName::ObjectsEnforce,
            StageName::ControlPlane,
            StageName::ObjectsPermit,
            StageName::NodeFiles,
            StageName::KubeadmConfig
        ]
    );
    assert!(
        undo.changes
            .iter()
            .any(|c| c.resource == "kube-apiserver --profiling"
                && c.before.as_deref() == Some("false")
                && c.after.as_deref() == Some("true"))
    );
    client.run(&undo).unwrap();
    assert_eq!(cluster.snapshot(), before);

    // And the rollback is a generation that can be rolled back.
    let redo = rollback(&cluster);
    assert_eq!(redo.problems, []);
    client.run(&redo).unwrap();
    assert_eq!(cluster.snapshot(), after);
    assert_eq!(records(&cluster).len(), 3);
    cluster.forget();
}

#[test]
fn a_refused_flag_puts_the_node_back_and_nothing_else_is_touched() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let bad = "--profiling=banana";
    cluster
        .state
        .lock()
        .unwrap()
        .refuses
        .insert("cp1".into(), bad.into());
    let mut client = cluster.client(&Fate::new());
    let begun = Instant::now();
    let (message, outcome, record) = failed(client.run(&cluster.control_plane_plan(bad)));
    assert!(matches!(outcome, Some(Outcome::Reverted(_))), "{outcome:?}");
    for part in [
        "cp1",
        bad,
        "\"command failed\" err=\"invalid",
        "readyz answers 200",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains('\u{1b}'));
    assert_eq!(cluster.snapshot(), before);
    assert_eq!(cluster.locks(), Vec::<String>::new());
    assert!(!record.journal.iter().any(|e| e.event == Event::Begin(2)));
    // deploy-rs#58: a failure does not hang until the timeout.
    assert!(begun.elapsed() < client.settings.gate_timeout);
    cluster.forget();
}

#[test]
fn a_uniform_setting_that_fails_on_the_second_node_is_put_back_on_the_first() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    cluster
        .state
        .lock()
        .unwrap()
        .refuses
        .insert("cp2".into(), GOOD.into());
    let mut client = cluster.client(&Fate::new());
    let (message, outcome, _) = failed(client.run(&cluster.control_plane_plan(GOOD)));
    assert!(matches!(outcome, Some(Outcome::Reverted(_))), "{message}");
    assert!(
        message.contains("cp2: kube-apiserver did not pass"),
        "{message}"
    );
    assert!(message.contains("cp1 has its old files back"), "{message}");
    assert_eq!(cluster.snapshot(), before);

    // What earlier stages did stays, and is listed; a rollback undoes it.
    let (_, outcome, _) = failed(client.run(&cluster.plan(GOOD)));
    let Some(Outcome::Stopped(why)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("these steps stay: 1 (cp1: "), "{why}");
    let undo = rollback(&cluster);
    assert_eq!(undo.steps().count(), 3);
    client.run(&undo).unwrap();
    assert_eq!(cluster.snapshot(), before);
    cluster.forget();
}

#[test]
fn the_network_is_cut_after_the_manifest_was_written_and_the_node_restores_itself() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let fate = Fate::new();
    fate.cut.lock().unwrap().push("cp1".into());
    let mut client = cluster.client(&fate);
    client.holder = Cluster::ghost();
    client.settings.gate_timeout = Duration::from_secs(1);
    client.settings.watchdog_margin = Duration::from_secs(2);
    let (message, outcome, _) = failed(client.run(&cluster.control_plane_plan(GOOD)));
    assert_eq!(outcome, None);
    assert!(
        message.contains("puts its old files back by itself"),
        "{message}"
    );
    let begun = Instant::now();
    while cluster.snapshot() != before {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
    // The next run from the same machine cannot go on before that is settled …
    let mut next = cluster.client(&Fate::new());
    assert!(matches!(
        next.run(&cluster.control_plane_plan(GOOD)),
        Err(ApplyError::Interrupted(1))
    ));
    // … and finishes it: the watchdog's verdict was about the client, not about the flag.
    let report = next.recover().unwrap().unwrap();
    assert!(
        report.summary.starts_with("finished generation 1"),
        "{}",
        report.summary
    );
    assert_eq!(cluster.nodes["cp2"].read(MANIFEST).unwrap(), manifest(GOOD));
    assert_eq!(next.recover().unwrap(), None);
    cluster.forget();
}

/// Kills the client at every `stride`th call, before and after the call took effect.
fn die_everywhere(stride: usize, test: impl Fn(usize, bool) -> bool) {
    for k in (1..).step_by(stride) {
        let lived = [false, true].map(|after| test(k, after));
        if lived == [true, true] {
            assert!(k > 40, "{k}");
            return;
        }
    }
}

#[test]
fn killed_at_many_calls_the_next_run_finishes() {
    killed_the_next_run_finishes(23);
}

#[test]
#[ignore = "takes minutes"]
fn killed_at_every_call_the_next_run_finishes() {
    killed_the_next_run_finishes(1);
}

fn killed_the_next_run_finishes(stride: usize) {
    let dir = scratch();
    let done = {
        let cluster = Cluster::new(&dir.path().join("good"));
        cluster
            .client(&Fate::new())
            .run(&cluster.plan(GOOD))
            .unwrap();
        cluster.forget();
        relative(cluster.snapshot(), dir.path(), "good")
    };
    die_everywhere(stride, |k, after| {
        let name = format!("{k}{after}");
        let cluster = Cluster::new(&dir.path().join(&name));
        let plan = cluster.plan(GOOD);
        let fate = Fate::dying(k, after);
        let mut ghost = cluster.client(&fate);
        ghost.holder = Cluster::ghost();
        let result = ghost.run_and_die(&plan);
        let lived = result.is_some();
        assert!(result.is_none_or(|r| r.is_ok()), "{k} {after}");
        let mut client = cluster.client(&Fate::new());
        let recovered = client.recover();
        let report = recovered.unwrap_or_else(|e| panic!("{k} {after}: {e}\n{:#?}", client.heard));
        let last = records(&cluster).pop();
        let applied = last.as_ref().and_then(Record::outcome) == Some(&Outcome::Applied);
        let ended_itself = applied && report.is_none();
        if !applied {
            // It had not begun; nothing is left of it.
            let nothing = last.is_none() || report.unwrap().record.done().is_empty();
            assert!(nothing, "{k} {after}");
            client
                .run(&plan)
                .unwrap_or_else(|e| panic!("{k} {after}: {e}"));
        }
        assert_eq!(
            relative(cluster.snapshot(), dir.path(), &name),
            done,
            "{k} {after}"
        );
        assert_eq!(client.recover().unwrap(), None);
        // Killed after its end, it leaves locks for the next run that needs them to take over.
        assert!(
            ended_itself || cluster.locks().is_empty(),
            "{k} {after}: {:?}",
            cluster.locks()
        );
        cluster.forget();
        let _ = std::fs::remove_dir_all(dir.path().join(&name));
        lived
    });
}

#[test]
fn killed_at_many_calls_of_a_failing_run_the_next_run_reverts() {
    killed_while_failing_the_next_run_reverts(19);
}

#[test]
#[ignore = "takes minutes"]
fn killed_at_every_call_of_a_failing_run_the_next_run_reverts() {
    killed_while_failing_the_next_run_reverts(1);
}

fn killed_while_failing_the_next_run_reverts(stride: usize) {
    let dir = scratch();
    die_everywhere(stride, |k, after| {
        let name = format!("{k}{after}");
        let cluster = Cluster::new(&dir.path().join(&name));
        let before = cluster.snapshot();
        cluster
            .state
            .lock()
            .unwrap()
            .refuses
            .insert("cp2".into(), GOOD.into());
        let plan = cluster.control_plane_plan(GOOD);
        let fate = Fate::dying(k, after);
        let mut ghost = cluster.client(&fate);
        ghost.holder = Cluster::ghost();
        let result = ghost.run_and_die(&plan);
        let lived = result.is_some();
        assert!(
            result.is_none_or(|r| r.is_err()),
            "deploy-rs#214: {k} {after}"
        );
        let mut client = cluster.client(&Fate::new());
        match client.recover() {
            Ok(None) => {}
            // It had not begun.
            Ok(Some(report)) => assert!(
                matches!(report.record.outcome(), Some(Outcome::Reverted(_))),
                "{k} {after}: {}",
                report.summary
            ),
            Err(ApplyError::Failed { outcome, .. }) => assert!(
                matches!(outcome, Some(Outcome::Reverted(_))),
                "{k} {after}: {outcome:?}"
            ),
            Err(other) => panic!("{k} {after}: {other}"),
        }
        assert_eq!(
            cluster.snapshot(),
            before,
            "{k} {after}\n{:#?}",
            client.heard
        );
        assert_eq!(client.recover().unwrap(), None, "{k} {after}");
        cluster.forget();
        let _ = std::fs::remove_dir_all(dir.path().join(&name));
        lived
    });
}

type Snapshot = (
    Vec<std::collections::BTreeMap<String, String>>,
    Vec<serde_json::Value>,
    String,
);

fn relative(snapshot: Snapshot, root: &std::path::Path, name: &str) -> Snapshot {
    let prefix = root.join(name).display().to_string();
    let trees = snapshot.0.into_iter().map(|tree| {
        tree.into_iter()
            .map(|(path, what)| (path.replace(&prefix, ""), what))
            .collect()
    });
    (trees.collect(), snapshot.1, snapshot.2)
}

#[test]
fn an_interrupt_puts_the_running_step_back_and_gives_the_locks_back() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let mut client = cluster.client(&Fate::new());
    client.interrupt_at = Some("gate cp2");
    let (message, outcome, _) = failed(client.run(&cluster.control_plane_plan(GOOD)));
    assert!(message.contains("interrupted"), "{message}");
    assert!(matches!(outcome, Some(Outcome::Reverted(_))));
    assert_eq!(cluster.snapshot(), before);
    assert_eq!(cluster.locks(), Vec::<String>::new());
    cluster.forget();
}

#[test]
fn of_two_applies_at_once_one_is_refused_and_changes_nothing() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let plan = cluster.plan(GOOD);
    // The other one holds the nodes only; it could not reach the API.
    let mut client = cluster.client(&Fate::new());
    let other = Holder {
        who: "other@there".into(),
        machine: "elsewhere".into(),
        ..client.holder.clone()
    };
    let line = serde_json::to_string(&other).unwrap();
    let mut host = cluster.nodes["cp2"].clone();
    harden::apply::node::Client::new(&mut host, &line)
        .lock(&line, None)
        .unwrap();
    let before = cluster.snapshot();
    let error = client.run(&plan).unwrap_err();
    assert!(error.to_string().contains("other@there"), "{error}");
    assert!(error.remedy().contains("--take-over"));
    assert_eq!(cluster.snapshot(), before);
    assert_eq!(cluster.locks(), ["cp2"]);
    assert_eq!(records(&cluster), []);
    // Or it holds the lease as well.
    cluster.state.lock().unwrap().lease = Some(other);
    let error = client.run(&plan).unwrap_err();
    assert!(matches!(error, ApplyError::Api(_)), "{error:?}");
    assert!(error.remedy().contains("--take-over"));
    // When told to, both are taken.
    client.settings.take_over = true;
    client.run(&plan).unwrap();
    assert_eq!(cluster.locks(), Vec::<String>::new());
    cluster.forget();
}

#[test]
fn a_damaged_record_is_told_and_its_number_not_taken_again() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    cluster
        .client(&Fate::new())
        .run(&cluster.plan(GOOD))
        .unwrap();
    let record = |node: &str| {
        let home = cluster.nodes[node].root.join("var-lib/harden");
        home.join("generations/00000001/record")
    };
    let list = || {
        let open = |name: &str| -> Result<Box<dyn Host>, HostError> {
            Ok(Box::new(cluster.nodes[name].clone()))
        };
        generation::list(&open, &["cp1".into(), "cp2".into()])
    };
    let good = std::fs::read(record("cp1")).unwrap();
    // A good copy elsewhere counts, whichever node is asked first.
    for node in ["cp1", "cp2"] {
        std::fs::write(record(node), "garbage\n").unwrap();
        let all = list();
        assert_eq!((all.records.len(), all.unreadable.len()), (1, 0), "{node}");
        assert_eq!(all.unreadable_after_last_applied(), None);
        std::fs::write(record(node), &good).unwrap();
    }
    for node in ["cp1", "cp2"] {
        std::fs::write(record(node), "garbage\n").unwrap();
    }
    let all = list();
    assert_eq!(all.records, []);
    let nodes: Vec<&String> = all.unreadable[&1].keys().collect();
    assert_eq!(nodes, ["cp1", "cp2"]);
    let why = all.why_unreadable(1).unwrap();
    assert!(why.contains("`record` is damaged"), "{why}");
    assert_eq!(all.unreadable_after_last_applied(), Some((1, why)));
    // Without its transactions only the record itself tells that the number is taken.
    for node in cluster.nodes.values() {
        let home = node.root.join("var-lib/harden/generations/00000001");
        for entry in std::fs::read_dir(home).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    }
    let mut empty = cluster.plan(GOOD);
    empty.stages.clear();
    let report = cluster.client(&Fate::new()).run(&empty).unwrap();
    assert_eq!(report.record.number, 2);
    assert_eq!(list().unreadable_after_last_applied().unwrap().0, 1);
    cluster.forget();
}

#[test]
fn a_stale_plan_is_refused_by_the_name_of_what_moved() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let plan = cluster.plan(GOOD);
    cluster.nodes["cp2"].write(MANIFEST, "edited\n", 0o644);
    let before = cluster.snapshot();
    let mut client = cluster.client(&Fate::new());
    let error = client.run(&plan).unwrap_err();
    assert!(matches!(error, ApplyError::Stale { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("cp2") && text.contains(MANIFEST), "{text}");
    assert_eq!(cluster.snapshot(), before);
    for node in cluster.nodes.values() {
        let mut host = node.clone();
        let mut client = harden::apply::node::Client::new(&mut host, "");
        let (_, steps) = client.list().unwrap();
        assert!(
            steps.iter().all(|s| s.state == State::Reverted),
            "{steps:?}"
        );
    }
    assert_eq!(client.recover().unwrap(), None);
    cluster.forget();
}

#[test]
fn a_rollback_does_not_overwrite_what_moved_and_keeps_a_namespace_in_use() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let mut client = cluster.client(&Fate::new());
    client.run(&cluster.plan(GOOD)).unwrap();
    cluster.nodes["cp1"].write("harden/policy.yaml", "edited\n", 0o600);
    cluster.state.lock().unwrap().contents = vec!["Pod web-1".into()];
    let undo = rollback(&cluster);
    let messages: Vec<String> = undo
        .problems
        .iter()
        .map(|p| format!("{} {}: {}", p.place, p.subject, p.message))
        .collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("cp1") && messages[0].contains("policy.yaml"));
    assert!(messages[1].contains("Pod web-1"));
    // The setting is uniform: no node goes back alone, and the ConfigMap stays with them.
    let stages: Vec<StageName> = undo.stages.iter().map(|s| s.name).collect();
    assert_eq!(stages, [StageName::ObjectsEnforce]);
    assert!(undo.is_incomplete());
    client.run(&undo).unwrap();
    assert_eq!(
        cluster.nodes["cp1"].read("harden/policy.yaml").unwrap(),
        "edited\n"
    );
    cluster.forget();
}

/// What a rollback shows is as dangerous as what it undoes, and never needs `accept`.
#[test]
fn a_rollback_says_what_it_risks() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let mut client = cluster.client(&Fate::new());
    let mut plan = cluster.plan(GOOD);
    let quota = Change {
        resource: cluster::config_map().to_string(),
        place: Place::Api,
        copy: None,
        before: None,
        after: None,
        diff: None,
        reason: String::new(),
        controls: Vec::new(),
        origins: Vec::new(),
        risk: Risk::Guarded,
        uniform: false,
        restarts: None,
    };
    plan.changes.push(quota);
    client.run(&plan).unwrap();
    let undo = rollback(&cluster);
    assert_eq!(undo.problems, []);
    let root = dir.path().display().to_string();
    let shown: Vec<String> = undo
        .changes
        .iter()
        .map(|c| {
            let hidden = |text: &Option<String>| match text.as_deref() {
                // The hash of the content is not what counts here.
                Some(text) => text.rsplit("… ").next().unwrap().to_owned(),
                None => "(absent)".to_owned(),
            };
            let (before, after) = (hidden(&c.before), hidden(&c.after));
            let name = c.resource.replace(&root, "");
            let restarts = c.restarts.as_deref().unwrap_or("nothing");
            format!(
                "{} {name}: {before} → {after} {:?} restarts {restarts}",
                c.place, c.risk
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    API ConfigMap kube-system/kubeadm-config ClusterConfiguration: as generation 1 left it → as it was Safe restarts nothing
    API ResourceQuota team/quota: as generation 1 left it → as it was Guarded restarts nothing
    cp2 /cp2/etc/manifests/kube-apiserver.yaml: 0600 root:root → 0644 root:root Guarded restarts kube-apiserver
    cp2 /cp2/etc/harden/policy.yaml: 0600 root:root → (absent) Safe restarts nothing
    cp2 kube-apiserver --profiling: false → true Restart restarts nothing
    cp1 /cp1/etc/manifests/kube-apiserver.yaml: 0600 root:root → 0644 root:root Guarded restarts kube-apiserver
    cp1 /cp1/etc/harden/policy.yaml: 0600 root:root → (absent) Safe restarts nothing
    cp1 kube-apiserver --profiling: false → true Restart restarts nothing
    API Namespace new: there → (absent) Safe restarts nothing
    w1 /w1/etc/loose.conf: 0600 root:root → 0644 root:root Guarded restarts nothing
    cp1 /cp1/etc/loose.conf: 0600 root:root → 0644 root:root Guarded restarts nothing
    ");
    let text = plan_text(&undo, PlanText { details: false });
    let gone = text.lines().find(|l| l.contains("policy.yaml")).unwrap();
    assert!(
        gone.trim_start().starts_with('-') || gone.contains("m- "),
        "{gone}"
    );
    client.run(&undo).unwrap();
    cluster.forget();
}

#[test]
fn what_is_back_already_is_no_conflict_of_a_rollback() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let mut client = cluster.client(&Fate::new());
    client.run(&cluster.plan(GOOD)).unwrap();
    // By hand, a mode on one node, and on another everything that a step with a gate has done.
    cluster.nodes["w1"].write("loose.conf", "x", 0o644);
    cluster.nodes["cp1"].write(MANIFEST, &manifest("--profiling=true"), 0o644);
    let undo = rollback(&cluster);
    let told: Vec<String> = undo
        .problems
        .iter()
        .map(|p| {
            let file = p.subject.rsplit('/').next().unwrap();
            format!("{:?} {} {file}: {}", p.severity, p.place, p.message)
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    Warning cp1 kube-apiserver.yaml: it is already as it was before generation 1
    Warning w1 loose.conf: it is already as it was before generation 1
    ");
    assert!(!undo.is_incomplete());
    let gates: Vec<(&str, usize, bool)> = undo
        .steps()
        .filter_map(|(_, step)| match step {
            Step::Node(step) => Some((&*step.node, step.files.len(), step.gate.is_some())),
            _ => None,
        })
        .collect();
    // Nothing restarts on cp1, so nothing may wait for it; on w1 nothing is left to be done.
    assert_eq!(
        gates,
        [("cp2", 2, true), ("cp1", 1, false), ("cp1", 1, false)]
    );
    client.run(&undo).unwrap();
    assert_eq!(cluster.snapshot(), before);

    // A third state is a conflict.
    let cluster = Cluster::new(&dir.path().join("other"));
    let mut client = cluster.client(&Fate::new());
    client.run(&cluster.plan(GOOD)).unwrap();
    cluster.nodes["w1"].write("loose.conf", "x", 0o666);
    assert!(rollback(&cluster).is_incomplete());
    cluster.forget();
}

#[test]
fn the_lease_is_renewed_at_every_step_and_while_a_gate_is_waited_for() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let mut client = cluster.client(&Fate::new());
    client.run(&cluster.plan(GOOD)).unwrap();
    assert_eq!(cluster.state.lock().unwrap().renewals, 7);
    client.settings.renew_after = Duration::ZERO;
    client.run(&rollback(&cluster)).unwrap();
    assert!(cluster.state.lock().unwrap().renewals > 14);
    cluster.forget();
}

#[test]
fn a_machine_without_an_api_server_is_prepared_recorded_and_put_back() {
    use harden::fact::{ApiFacts, Fact, Facts, Node, NodeInfo};
    use harden::plan::{prepare, queries_to_prepare};
    use harden::resource::{Desired, Kind, Resource, Scope};
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let table = serde_json::json!({
        "component": "kube-apiserver", "flag": "tracing-config-file", "name": "tracing", "content": "a: 1\n",
    });
    let desired = Desired {
        cluster: "c".into(),
        distribution: Default::default(),
        resources: vec![Resource {
            kind: Kind::from_table("component-file", table).unwrap(),
            scope: Scope::ControlPlane,
            only: None,
            except: Default::default(),
            risk: Risk::Restart,
            uniform: false,
            reason: String::new(),
            controls: Vec::new(),
            origins: Vec::new(),
            consent: Vec::new(),
            requires: Default::default(),
        }],
        accept: Vec::new(),
        allow_delete: Default::default(),
        findings: Vec::new(),
    };
    let info = |name: &str| NodeInfo {
        name: name.into(),
        control_plane: true,
    };
    let answers = queries_to_prepare(&desired, &info("w1"));
    let node = Node {
        info: info("w1"),
        facts: Fact::Value(answers.into_iter().map(|q| (q, Fact::Absent)).collect()),
        remedy: String::new(),
    };
    let facts = Facts {
        nodes: [("w1".to_owned(), node)].into(),
        api: ApiFacts {
            cluster_id: Fact::Value("id".into()),
            ledger: Default::default(),
            cluster_configuration: Fact::Absent,
            objects: Default::default(),
            answers: Default::default(),
        },
    };
    let members = ["cp1", "cp2"].map(|name| (name.to_owned(), info(name)));
    let mut plan = prepare(&desired, &members.into(), &facts, "w1");
    // Into the scratch node's own directory instead of /etc.
    let Step::Node(step) = &mut plan.stages[0].steps[0] else {
        panic!("{plan:?}")
    };
    step.files[0].path = cluster.nodes["w1"].path("harden/policy.yaml");

    let mut client = cluster.client(&Fate::new());
    let report = client.run(&plan).unwrap();
    assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
    let placed = cluster.nodes["w1"].read("harden/policy.yaml");
    assert_eq!(placed.as_deref(), Some("a: 1\n"));
    // No gate was waited for: there is nothing that could pass one.
    assert!(!client.heard.iter().any(|line| line.starts_with("gate")));
    assert_eq!(records(&cluster), std::slice::from_ref(&report.record));
    assert_eq!(cluster.locks(), Vec::<String>::new());
    client.run(&rollback(&cluster)).unwrap();
    assert_eq!(cluster.snapshot(), before);
    cluster.forget();
}

/// Kubernetes makes the account anew at once, without what others added to it, and no token that was
/// bound to the old one is good any more.
#[test]
fn a_rollback_takes_its_field_back_from_an_account_that_comes_by_itself() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let mut client = cluster.client(&Fate::new());
    let mut plan = cluster.plan(GOOD);
    let account = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false,
            "metadata": {"namespace": "new", "name": name}})
    };
    let stage = plan
        .stages
        .iter_mut()
        .find(|s| s.name == StageName::ObjectsEnforce)
        .unwrap();
    for name in ["default", "own"] {
        stage.steps.push(Step::Object(ObjectStep {
            reference: ObjectRef::of(&account(name)).unwrap(),
            before: None,
            taken: Vec::new(),
            strays: Vec::new(),
            action: ObjectAction::Apply(account(name)),
        }));
    }
    client.run(&plan).unwrap();
    let reference = |name: &str| ObjectRef::of(&account(name)).unwrap();
    {
        let mut state = cluster.state.lock().unwrap();
        let live = state.objects.get_mut(&reference("default")).unwrap();
        live["imagePullSecrets"] = json!([{"name": "registry"}]);
    }
    let undo = rollback(&cluster);
    assert_eq!(undo.problems, []);
    client.run(&undo).unwrap();
    let state = cluster.state.lock().unwrap();
    let left = &state.objects[&reference("default")];
    assert_eq!(left.get("automountServiceAccountToken"), None);
    assert_eq!(left["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(state.objects.get(&reference("own")), None);
    drop(state);
    cluster.forget();
}

/// A plan of nothing but this many quotas.
fn many(cluster: &Cluster, count: usize) -> Plan {
    let mut plan = cluster.plan(GOOD);
    plan.stages.retain(|s| s.name == StageName::ObjectsEnforce);
    let quota = |number: usize| {
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "5"}},
            "metadata": {"namespace": format!("n{number}"), "name": "quota"}})
    };
    plan.stages[0].steps = (0..count)
        .map(|number| {
            Step::Object(ObjectStep {
                reference: ObjectRef::of(&quota(number)).unwrap(),
                before: None,
                taken: Vec::new(),
                strays: Vec::new(),
                action: ObjectAction::Apply(quota(number)),
            })
        })
        .collect();
    plan
}

#[test]
fn many_objects_are_begun_together_and_told_without_a_line_each() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let before = cluster.snapshot();
    let mut client = cluster.client(&Fate::new());
    let report = client.run(&many(&cluster, 300)).unwrap();
    let events: Vec<Event> = report
        .record
        .journal
        .iter()
        .map(|e| e.event.clone())
        .collect();
    let batch = |numbers: std::ops::RangeInclusive<usize>| {
        let begin = numbers.clone().map(Event::Begin);
        begin.chain(numbers.map(Event::Done)).collect::<Vec<_>>()
    };
    let expected = [
        batch(1..=250),
        batch(251..=300),
        vec![Event::End(Outcome::Applied)],
    ]
    .concat();
    assert_eq!(events, expected);
    assert!(client.heard.len() < 40, "{:#?}", client.heard);
    let last = client.heard.iter().rfind(|line| line.contains("Together"));
    assert!(last.unwrap().contains("done: 300"), "{last:?}");
    let undo = rollback(&cluster);
    client.run(&undo).unwrap();
    assert_eq!(cluster.snapshot(), before);
    // A few have a line each.
    let mut client = cluster.client(&Fate::new());
    client.run(&many(&cluster, 5)).unwrap();
    assert!(client.heard.iter().any(|line| line.contains("number: 5")));
    cluster.forget();
}

#[test]
fn killed_among_many_objects_the_next_run_does_the_rest() {
    for last in [12, 40, 75] {
        let dir = scratch();
        let cluster = Cluster::new(dir.path());
        let mut ghost = cluster.client(&Fate::dying(last, last == 40));
        ghost.holder = Cluster::ghost();
        assert!(ghost.run_and_die(&many(&cluster, 60)).is_none(), "{last}");
        let mut client = cluster.client(&Fate::new());
        let report = client.recover().unwrap();
        if let Some(report) = report.filter(|r| !r.record.done().is_empty()) {
            assert_eq!(report.record.outcome(), Some(&Outcome::Applied));
            assert_eq!(report.record.done().len(), 60);
        } else {
            client.run(&many(&cluster, 60)).unwrap();
        }
        assert_eq!(client.recover().unwrap(), None);
        let state = cluster.state.lock().unwrap();
        let quotas = state.objects.keys().filter(|one| one.name == "quota");
        assert!(quotas.count() >= 60);
        drop(state);
        cluster.forget();
    }
}
