//! Machines that are yet to join: what is planned for them, and what a plan says of them.
use std::collections::BTreeMap;

use crate::plan_support::{
    cluster, desired, execute, file, flag, path, problems, put, resource, stage_names,
};
use harden::fact::{Fact, Facts, Node, NodeInfo, Query};
use harden::plan::{
    FileTarget, Plan, Purpose, StageName, Step, not_ready, prepare, queries_to_prepare,
};
use harden::report::{PlanText, plan_text};
use harden::resource::{Desired, Place, Severity};
use serde_json::json;

fn wanted() -> Desired {
    let policy = json!({
        "component": "kube-apiserver", "flag": "tracing-config-file", "name": "tracing", "content": "a: 1\n",
    });
    desired(vec![
        flag("profiling", "false"),
        resource("component-file", policy),
    ])
}

fn info(name: &str, control_plane: bool) -> NodeInfo {
    NodeInfo {
        name: name.into(),
        control_plane,
    }
}

/// A machine on which nothing of Kubernetes is yet.
fn machine(desired: &Desired, control_plane: bool) -> Node {
    let info = info("new", control_plane);
    let facts = queries_to_prepare(desired, &info)
        .into_iter()
        .map(|query| (query, Fact::Absent))
        .collect();
    Node {
        info,
        facts: Fact::Value(facts),
        remedy: String::new(),
    }
}

fn seen(desired: &Desired, node: Node) -> Facts {
    let mut facts = cluster(&[], desired);
    facts.nodes = BTreeMap::from([(node.info.name.clone(), node)]);
    facts
}

fn planned(desired: &Desired, facts: &Facts) -> Plan {
    let members = ["cp1", "cp2"].map(|name| (name.to_owned(), info(name, true)));
    prepare(desired, &members.into(), facts, "new")
}

#[test]
fn only_the_files_and_once() {
    let desired = wanted();
    let mut facts = seen(&desired, machine(&desired, true));
    let plan = planned(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    assert_eq!(plan.purpose, Purpose::Bootstrap("new".into()));
    assert_eq!(stage_names(&plan), [StageName::NodeFiles]);
    // Those who keep the record, and the machine itself.
    let nodes: Vec<&str> = plan.nodes.keys().map(String::as_str).collect();
    assert_eq!(nodes, ["cp1", "cp2", "new"]);
    for (_, step) in plan.steps() {
        let Step::Node(step) = step else {
            panic!("{step:?}")
        };
        assert_eq!((step.node.as_str(), &step.gate), ("new", &None));
    }
    let text = plan_text(&plan, PlanText { details: false });
    insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @"
    Plan to prepare new for joining cluster prod

    new (control plane)
      + kube-apiserver --tracing-config-file (file tracing): (absent) → /etc/kubernetes/harden/tracing-37b128c59f1f.yaml with 0600 root:root  (safe)

    Order of work
      1. node files new: /etc/kubernetes/harden/tracing-37b128c59f1f.yaml

    1 change (1 safe); nothing restarts.
    ");
    execute(&plan, &mut facts);
    let again = planned(&desired, &facts);
    assert!(again.is_clean() && !again.is_incomplete());
    assert!(
        plan_text(&again, PlanText { details: false }).contains("new has what it needs to join.")
    );
}

#[test]
fn a_file_that_is_right_but_open_is_closed_where_it_is() {
    let desired = wanted();
    let mut facts = seen(&desired, machine(&desired, true));
    let query = queries_to_prepare(&desired, &info("new", true)).remove(0);
    put(&mut facts, "new", query, file("a: 1\n", 0o644));
    let plan = planned(&desired, &facts);
    let Some((_, Step::Node(step))) = plan.steps().next() else {
        panic!("{plan:?}")
    };
    // kind mounts each file, and what is mounted cannot be replaced.
    let in_place = FileTarget::Mode {
        mode: 0o600,
        owner: "root".into(),
        group: "root".into(),
    };
    assert_eq!(step.files[0].after, in_place);
    execute(&plan, &mut facts);
    assert!(planned(&desired, &facts).is_clean());
}

#[test]
fn a_machine_that_does_not_answer_makes_the_plan_incomplete() {
    let desired = wanted();
    let mut node = machine(&desired, true);
    node.facts = Fact::Unreadable("no route".into());
    let plan = planned(&desired, &seen(&desired, node));
    assert!(plan.is_incomplete() && plan.is_clean());
    assert_eq!(
        problems(&plan),
        ["Error new | node: nothing is known of it: no route"]
    );
}

#[test]
fn a_plan_warns_of_a_control_plane_that_would_not_start() {
    let desired = wanted();
    let warned = |node: Node| -> Vec<(String, String)> {
        let found = not_ready(
            &desired,
            &BTreeMap::from([("new".to_owned(), node)]),
            &cluster(&["cp1"], &desired),
        );
        found
            .into_iter()
            .map(|problem| {
                assert_eq!(problem.severity, Severity::Warning);
                assert_eq!(problem.place, Place::Node("new".into()));
                (problem.message, problem.remedy)
            })
            .collect()
    };
    assert_eq!(
        warned(machine(&desired, true)),
        [(
            "a control plane that joins from here would not start: it lacks kube-apiserver --tracing-config-file (file tracing)".into(),
            "run `harden bootstrap --on new`".into()
        )]
    );
    // Nothing is wanted of a worker, so it is not even asked.
    assert_eq!(warned(machine(&desired, false)), []);
    assert_eq!(queries_to_prepare(&desired, &info("new", false)), []);
    let mut silent = machine(&desired, true);
    silent.facts = Fact::Unreadable("no route".into());
    let told = warned(silent.clone());
    assert!(told[0].0.contains("is not known: no route"), "{told:?}");
    silent.info.control_plane = false;
    assert_eq!(warned(silent), []);
    let mut ready = seen(&desired, machine(&desired, true));
    execute(&planned(&desired, &ready), &mut ready);
    assert_eq!(warned(ready.nodes["new"].clone()), []);
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_good() {
    let desired = wanted();
    let mut facts = seen(&desired, machine(&desired, true));
    let query = queries_to_prepare(&desired, &info("new", true)).remove(0);
    assert!(matches!(&query, Query::File(p) if *p != path("/")));
    put(
        &mut facts,
        "new",
        query,
        Fact::Unreadable("Permission denied".into()),
    );
    assert!(planned(&desired, &facts).is_incomplete());
    let found = not_ready(&desired, &facts.nodes, &facts);
    assert!(found[0].message.contains("Permission denied"), "{found:?}");
}
