//! What a plan makes of etcd's members: the order of the control-plane nodes, and what it warns of.
use crate::plan_support::*;
use harden::distribution::kubeadm::etcd::EtcdMember;
use harden::fact::*;
use harden::plan::*;
use harden::report::{PlanText, plan_text};
use harden::resource::*;
use serde_json::json;

fn member(leader: bool) -> EtcdMember {
    EtcdMember {
        healthy: true,
        why: String::new(),
        leader,
        has_leader: true,
        members: 3,
        connected: 2,
    }
}

fn tell(facts: &mut Facts, node: &str, answer: Fact<EtcdMember>) {
    let answer = answer.map(|member| serde_json::to_value(member).unwrap());
    let query = ApiQuery::EtcdMember(node.into());
    facts.api.answers.insert(query, answer);
}

fn wanted() -> Desired {
    let field = json!({"field": "eventRecordQPS", "value": 5});
    desired(vec![flag("profiling", false), resource("kubelet", field)])
}

const PLANES: [&str; 3] = ["cp1", "cp2", "cp3"];

fn led_by(desired: &Desired, leader: &str) -> Facts {
    let mut facts = cluster(&PLANES, desired);
    for node in PLANES {
        tell(&mut facts, node, Fact::Value(member(node == leader)));
    }
    facts
}

fn order(plan: &Plan, stage: StageName) -> Vec<&str> {
    let steps = plan.steps().filter(|(s, _)| s.name == stage);
    steps
        .filter_map(|(_, step)| match step {
            Step::Node(step) => Some(step.node.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn the_leader_of_etcd_comes_last_and_workers_kubelets_first() {
    let desired = wanted();
    for (leader, planes) in [
        ("cp1", ["cp2", "cp3", "cp1"]),
        ("cp2", ["cp1", "cp3", "cp2"]),
        ("cp3", PLANES),
    ] {
        let plan = build(&desired, &led_by(&desired, leader));
        assert_eq!(order(&plan, StageName::ControlPlane), planes);
        let [first, second, third] = planes;
        let kubelets = ["worker", first, second, third];
        assert_eq!(order(&plan, StageName::Kubelets), kubelets);
        assert_eq!(plan.etcd_leader.as_deref(), Some(leader));
        assert_eq!(problems(&plan), Vec::<String>::new());
        let text = plan_text(&plan, PlanText { details: false });
        let told: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("etcd's leader last"))
            .collect();
        assert_eq!(told.len(), 2, "{text}");
        assert!(told.iter().all(|line| line.contains(leader)), "{text}");
    }
}

#[test]
fn without_one_known_leader_the_names_decide() {
    let desired = wanted();
    let nobody = cluster(&PLANES, &desired);
    let mut two = led_by(&desired, "cp1");
    tell(&mut two, "cp2", Fact::Value(member(true)));
    let mut none = led_by(&desired, "cp1");
    tell(&mut none, "cp1", Fact::Absent);
    for facts in [nobody, two, none] {
        let plan = build(&desired, &facts);
        assert_eq!(order(&plan, StageName::ControlPlane), PLANES);
        assert_eq!(plan.etcd_leader, None);
        let text = plan_text(&plan, PlanText { details: false });
        assert!(!text.contains("leader last"), "{text}");
    }
    // Of one alone there is nothing to say.
    let mut one = cluster(&["cp1"], &desired);
    tell(&mut one, "cp1", Fact::Value(member(true)));
    let text = plan_text(&build(&desired, &one), PlanText { details: false });
    assert!(!text.contains("leader last"), "{text}");
}

#[test]
fn a_plan_warns_of_members_that_are_not_known_to_be_healthy() {
    let desired = wanted();
    let mut facts = led_by(&desired, "cp1");
    let sick = EtcdMember {
        healthy: false,
        why: "RAFT NO LEADER".into(),
        ..member(false)
    };
    tell(&mut facts, "cp1", Fact::Value(sick));
    tell(&mut facts, "cp2", Fact::Unreadable("refused".into()));
    tell(&mut facts, "cp3", Fact::Absent);
    let plan = build(&desired, &facts);
    assert_eq!(
        problems(&plan),
        [
            "Warning cp1 | etcd: this member is not healthy: RAFT NO LEADER; apply does not begin like this",
            "Warning cp2 | etcd: this member does not answer: refused; apply does not begin like this",
            "Warning API | etcd: it is external or without a metrics address on cp3; its health is not known, and apply looks at /readyz alone",
        ]
    );
    assert!(!plan.is_incomplete());
}

#[test]
fn members_are_asked_only_where_something_may_restart_and_nothing_rests_on_them() {
    let infos = |planes: &[&str]| -> Vec<NodeInfo> {
        let info = |name: &&str| NodeInfo {
            name: (*name).into(),
            control_plane: *name != "worker",
        };
        planes.iter().map(info).collect()
    };
    let nodes = infos(&["cp1", "cp2", "worker"]);
    let asked = |desired: &Desired| member_queries(desired, nodes.iter()).len();
    let field = json!({"field": "eventRecordQPS", "value": 5});
    let mut workers = resource("kubelet", field.clone());
    workers.only = Some("worker".into());
    let mode = json!({"path": "/etc/kubernetes/admin.conf", "mode": "0600"});
    assert_eq!(asked(&desired(vec![flag("profiling", false)])), 2);
    assert_eq!(asked(&desired(vec![resource("kubelet", field)])), 2);
    assert_eq!(asked(&desired(vec![workers])), 0);
    assert_eq!(asked(&desired(vec![resource("mode", mode)])), 0);

    let desired = wanted();
    let mut facts = led_by(&desired, "cp1");
    let plan = build(&desired, &facts);
    tell(&mut facts, "cp1", Fact::Value(member(false)));
    tell(&mut facts, "cp2", Fact::Value(member(true)));
    assert_eq!(compare(&plan, &facts), Comparison::default());
}

#[test]
fn a_field_that_all_must_share_is_put_back_on_all() {
    let field = json!({"field": "eventRecordQPS", "value": 5});
    let uniform = |uniform| {
        let resource = Resource {
            uniform,
            ..resource("kubelet", field.clone())
        };
        let desired = desired(vec![flag("profiling", false), resource]);
        let plan = build(&desired, &cluster(&PLANES, &desired));
        plan.steps()
            .filter_map(|(_, step)| match step {
                Step::Node(step) => Some((!step.units.is_empty(), step.uniform)),
                _ => None,
            })
            .collect::<std::collections::BTreeSet<_>>()
    };
    // A kubelet's field says nothing of the static pods.
    assert_eq!(uniform(true), [(false, false), (true, true)].into());
    assert_eq!(uniform(false), [(false, false), (true, false)].into());
}
