//! Snapshots of etcd on a schedule: the files of a timer and its start, in one transaction a node.

use crate::plan_support::*;
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::json;

const SCRIPT: &str = "/etc/harden/etcd-snapshot.sh";

fn snapshots(schedule: &str) -> Resource {
    let table = json!({"schedule": schedule, "keep": 3});
    Resource {
        risk: Risk::Safe,
        ..resource("etcd-snapshots", table)
    }
}

#[test]
fn files_and_timer_are_one_transaction_and_nothing_is_left_to_do() {
    let desired = desired(vec![snapshots("hourly")]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(stage_names(&plan), [StageName::NodeFiles]);
    let steps: Vec<&NodeStep> = plan
        .steps()
        .filter_map(|(_, step)| match step {
            Step::Node(step) => Some(step),
            _ => None,
        })
        .collect();
    assert_eq!(steps.len(), 2);
    for step in steps {
        let units: Vec<&str> = step.units.iter().map(ProgramName::as_str).collect();
        assert_eq!(units, ["harden-etcd-snapshot"]);
        assert!(step.gate.is_none() && !step.uniform);
        let paths: Vec<&str> = step.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                SCRIPT,
                "/etc/systemd/system/harden-etcd-snapshot.service",
                "/etc/systemd/system/harden-etcd-snapshot.timer",
                "/etc/systemd/system/timers.target.d/50-harden-etcd-snapshot.conf",
            ]
        );
    }
    // It restarts nothing of etcd's, so it needs no snapshot before.
    assert!(!plan.touches_etcd());
    assert_eq!(problems(&plan), [""; 0]);
    execute(&plan, &mut facts);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean(), "{:?}", lines(&plan));
}

#[test]
fn whatever_is_otherwise_than_it_was_placed_is_placed_again() {
    let desired = desired(vec![snapshots("hourly")]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    // Others could write what root runs.
    let script = match facts.nodes["cp1"].get(&Query::File(path(SCRIPT))) {
        Fact::Value(Answer::File(file)) => String::from_utf8(file.content.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    let loose = Fact::Value(Answer::File(File {
        meta: meta(FileKind::Regular, 0o777),
        content: script.clone().into(),
    }));
    put(&mut facts, "cp1", Query::File(path(SCRIPT)), loose);
    let plan = build(&desired, &facts);
    assert_eq!(lines(&plan).len(), 1, "{:?}", lines(&plan));
    assert!(lines(&plan)[0].contains("0777 root"), "{:?}", lines(&plan));
    // Unreadable is not good.
    put(
        &mut facts,
        "cp1",
        Query::File(path(SCRIPT)),
        Fact::Unreadable("denied".into()),
    );
    let plan = build(&desired, &facts);
    assert!(plan.is_incomplete());
    // Another schedule is one file.
    let other = crate::plan_support::desired(vec![snapshots("*-*-* 02:00:00")]);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    let plan = build(&other, &facts);
    assert_eq!(lines(&plan).len(), 1, "{:?}", lines(&plan));
    assert!(
        lines(&plan)[0].contains("→ *-*-* 02:00:00"),
        "{:?}",
        lines(&plan)
    );
}

#[test]
fn a_timer_that_somebody_stopped_is_started_again() {
    let desired = desired(vec![snapshots("hourly")]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    let query = Query::Unit(ProgramName::new("harden-etcd-snapshot").unwrap());
    for state in ["inactive", "failed"] {
        let found = Fact::Value(Answer::Unit(timer(state)));
        put(&mut facts, "cp2", query.clone(), found);
        let plan = build(&desired, &facts);
        assert_eq!(lines(&plan).len(), 1, "{:?}", lines(&plan));
        let line = &lines(&plan)[0];
        assert!(line.contains(&format!("{state} → active")), "{line}");
        let started: Vec<&str> = plan
            .steps()
            .filter_map(|(_, step)| match step {
                Step::Node(step) if step.units.len() == 1 => Some(step.node.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(started, ["cp2"]);
        execute(&plan, &mut facts);
        assert!(build(&desired, &facts).is_clean());
    }
    // What cannot be seen is not active.
    let unseen = Fact::Unreadable("systemctl cannot tell".into());
    put(&mut facts, "cp1", query, unseen);
    let plan = build(&desired, &facts);
    assert!(plan.is_incomplete() && lines(&plan).is_empty());
}
