//! API objects and modes; what is not accepted; what a plan rests on.

use crate::plan_support::*;
use harden::distribution::kubeadm::manifest_path;
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn object(manifest: Value) -> Resource {
    resource("object", json!({ "manifest": manifest }))
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn quota(pods: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "quota", "namespace": "pay"},
        "spec": {"hard": {"pods": pods, "requests.cpu": "20"}},
    })
}

fn observe(facts: &mut Facts, wanted: &Value, live: Fact<Value>, would: DryRun) {
    let reference = ObjectRef::of(wanted).unwrap();
    facts
        .api
        .objects
        .insert(reference, ObjectFact { live, would });
}

/// The object as a server returns it.
fn served(mut object: Value, version: &str, manager: &str) -> Value {
    object["metadata"]["uid"] = "u".into();
    object["metadata"]["resourceVersion"] = version.into();
    object["metadata"]["generation"] = version.len().into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    object["metadata"]["managedFields"] = json!([{"manager": manager, "time": version}]);
    object["status"] = json!({"used": version});
    object
}

#[test]
fn a_new_object_is_listed_field_by_field() {
    let desired = desired(vec![object(namespace("pay")), object(quota("10"))]);
    let mut facts = cluster(&["cp1"], &desired);
    observe(&mut facts, &quota("10"), Fact::Absent, DryRun::NotAsked);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    assert_eq!(
        lines(&plan),
        [
            "API | Namespace pay: - → new Namespace pay (Restart)",
            "API | ResourceQuota pay/quota: - → new ResourceQuota pay/quota (Restart)",
        ]
    );
    assert_eq!(plan.changes[0].diff, None);
    assert_eq!(
        plan.changes[1].diff.as_deref(),
        Some("spec.hard.pods: \"10\"\nspec.hard[\"requests.cpu\"]: \"20\"")
    );
    assert_eq!(
        stage_names(&plan),
        [StageName::ObjectsPermit, StageName::ObjectsEnforce]
    );
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn a_changed_object_names_each_field() {
    let desired = desired(vec![object(quota("20"))]);
    let mut facts = cluster(&[], &desired);
    let live = served(quota("10"), "1", "kubectl");
    let would = served(quota("20"), "22", "harden");
    observe(
        &mut facts,
        &quota("20"),
        Fact::Value(live.clone()),
        DryRun::Object(would),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        ["API | ResourceQuota pay/quota: ResourceQuota pay/quota → 1 field changed (Restart)"]
    );
    assert_eq!(
        plan.changes[0].diff.as_deref(),
        Some("spec.hard.pods: \"10\" → \"20\"")
    );
    let Step::Object(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert_eq!(step.before.as_ref(), Some(&live));
    assert_eq!(step.action, ObjectAction::Apply(quota("20")));
}

#[test]
fn what_is_added_to_a_policy_of_hardens_is_a_difference_and_taken_away() {
    let wanted = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "harden-x", "labels": {"app.kubernetes.io/managed-by": "harden"}},
        "spec": {"policyName": "harden-x", "validationActions": ["Deny"]},
    });
    let mut live = served(wanted.clone(), "1", "harden");
    live["spec"]["matchResources"] = json!({"objectSelector": {"matchLabels": {"a": "b"}}});
    let desired = desired(vec![object(wanted.clone())]);
    let mut facts = cluster(&[], &desired);
    // The server-side apply leaves it alone.
    let would = DryRun::Object(live.clone());
    observe(
        &mut facts,
        &wanted,
        Fact::Value(live.clone()),
        would.clone(),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        plan.changes[0].diff.as_deref(),
        Some("spec.matchResources.objectSelector.matchLabels.a: \"b\" → nothing")
    );
    let Step::Object(step) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert_eq!(step.action, ObjectAction::Apply(wanted.clone()));
    assert_eq!(step.strays[0].field, "spec.matchResources");
    assert_eq!(step.strays[0].value, live["spec"]["matchResources"]);
    // The plan rests on it.
    assert_eq!(compare(&plan, &facts), Comparison::default());
    live["spec"]["matchResources"]["objectSelector"]["matchLabels"]["a"] = "c".into();
    observe(&mut facts, &wanted, Fact::Value(live), would);
    assert_eq!(compare(&plan, &facts).moved.len(), 1);
}

#[test]
fn a_conflict_hides_no_other_drift() {
    let desired = desired(vec![object(quota("20"))]);
    let mut facts = cluster(&[], &desired);
    let mut live = served(quota("10"), "1", "harden");
    live["spec"]["hard"]["requests.cpu"] = "40".into();
    let conflict = DryRun::Conflict(vec![FieldConflict {
        field: ".spec.hard.pods".into(),
        manager: "kubectl-edit".into(),
    }]);
    observe(&mut facts, &quota("20"), Fact::Value(live), conflict);
    let plan = build(&desired, &facts);
    assert_eq!(plan.changes, []);
    assert_eq!(
        problems(&plan),
        [
            "Error API | ResourceQuota pay/quota: .spec.hard.pods belongs to \"kubectl-edit\"",
            "Error API | ResourceQuota pay/quota: what else differs is left undone with it: spec.hard[\"requests.cpu\"]: \"40\" → \"20\"",
        ]
    );
}

#[test]
fn what_is_left_out_holds_nothing_back_and_nothing_rests_on_it() {
    let other = {
        let mut other = quota("5");
        other["metadata"]["name"] = "other".into();
        other
    };
    let desired = desired(vec![object(quota("20")), object(other.clone())]);
    let mut facts = cluster(&[], &desired);
    let live = Fact::Value(served(quota("10"), "1", "harden"));
    let conflict = DryRun::Conflict(vec![FieldConflict {
        field: ".spec.hard.pods".into(),
        manager: "argocd".into(),
    }]);
    observe(&mut facts, &quota("20"), live.clone(), conflict);
    let would = DryRun::Object(other.clone());
    observe(&mut facts, &other, Fact::Absent, would);
    assert!(build(&desired, &facts).is_incomplete());

    let without = |names: &[&str], facts: &Facts| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        build_without(&desired, facts, &names)
    };
    let plan = without(&["ResourceQuota/pay/quota"], &facts);
    assert_eq!(
        lines(&plan),
        ["API | ResourceQuota pay/other: - → new ResourceQuota pay/other (Restart)"]
    );
    assert_eq!(
        problems(&plan),
        [
            "Warning API | ResourceQuota pay/quota: `--except` leaves it out, so it stays as it is: .spec.hard.pods belongs to \"argocd\""
        ]
    );
    let rests_on = |plan: &Plan| -> Vec<String> {
        let subjects = plan.basis.iter().map(|basis| basis.subject.to_string());
        subjects.collect()
    };
    assert_eq!(rests_on(&plan), ["ResourceQuota pay/other"]);

    // What differs and could be done is told, and not done either.
    let would = DryRun::Object(served(quota("20"), "2", "harden"));
    observe(&mut facts, &quota("20"), live, would);
    let plan = without(&["ResourceQuota/pay/quota"], &facts);
    assert_eq!(plan.changes.len(), 1);
    let told = &plan.problems[0].message;
    assert!(
        told.ends_with("it differs: spec.hard.pods: \"10\" → \"20\""),
        "{told}"
    );
    // A name that leaves nothing out is an error, since something is left alone in vain.
    let plan = without(&["ResourceQuota/pay/quote"], &facts);
    assert!(plan.is_incomplete());
    assert_eq!(plan.problems[0].subject, "--except ResourceQuota/pay/quote");
    assert_eq!(
        plan.problems[0].remedy,
        "did you mean ResourceQuota/pay/quota?"
    );
}

#[test]
fn what_is_left_out_has_not_left_the_profile() {
    use harden::fact::ledger::*;
    let desired = desired(vec![object(quota("20"))]);
    let mut facts = cluster(&[], &desired);
    let live = served(quota("20"), "1", "harden");
    let reference = ObjectRef::of(&live).unwrap();
    let entry = Entry {
        how: How::Made,
        workspaces: [desired.cluster.clone()].into(),
    };
    let mut ledger = Ledger::default();
    ledger.entries.insert(reference, entry);
    facts.api.ledger.ledger = Fact::Value(ledger);
    let would = DryRun::Object(live.clone());
    observe(&mut facts, &quota("20"), Fact::Value(live), would);
    let names = ["ResourceQuota/pay/quota".to_owned()].into();
    let plan = build_without(&desired, &facts, &names);
    assert!(plan.stages.is_empty() && plan.is_clean() && !plan.is_incomplete());
    assert!(plan.problems[0].message.contains("nothing to do about it"));
}

#[test]
fn a_field_that_is_nobody_s_is_a_change_like_others() {
    let desired = desired(vec![object(quota("20"))]);
    let mut facts = cluster(&[], &desired);
    let of = |manager: &str| FieldConflict {
        field: ".spec.hard.pods".into(),
        manager: manager.into(),
    };
    for (from, told, line) in [
        (vec![of("before-first-apply")], "1 field changed", ""),
        (vec![of("harden")], "1 field changed", ""),
        (
            vec![of("harden"), of("argocd")],
            "1 field taken from \"argocd\"",
            "\n.spec.hard.pods: taken from \"argocd\"",
        ),
    ] {
        let would = DryRun::Taken {
            object: quota("20"),
            from: from.clone(),
        };
        observe(&mut facts, &quota("20"), Fact::Value(quota("10")), would);
        let plan = build(&desired, &facts);
        let change = &plan.changes[0];
        assert_eq!(change.after.as_deref(), Some(told));
        let lines = format!("spec.hard.pods: \"10\" → \"20\"{line}");
        assert_eq!(change.diff, Some(lines));
        let Step::Object(step) = &plan.stages[0].steps[0] else {
            panic!()
        };
        assert_eq!(step.taken, from);
        // Beside a conflict that is one, it is left undone with the rest.
        let conflict = DryRun::Conflict(vec![
            of("harden"),
            FieldConflict {
                field: ".metadata.labels.a".into(),
                manager: "argocd".into(),
            },
        ]);
        observe(&mut facts, &quota("20"), Fact::Value(quota("10")), conflict);
        assert_eq!(
            problems(&build(&desired, &facts)),
            [
                "Error API | ResourceQuota pay/quota: .metadata.labels.a belongs to \"argocd\"",
                "Error API | ResourceQuota pay/quota: what else differs is left undone with it: spec.hard.pods: \"10\" → \"20\"",
            ]
        );
    }
    // One that came while it was tried is no silence.
    let conflict = DryRun::Conflict(vec![of("harden")]);
    observe(&mut facts, &quota("20"), Fact::Value(quota("10")), conflict);
    assert!(build(&desired, &facts).is_incomplete());
}

#[test]
fn what_kubernetes_lets_nobody_change_says_what_to_delete() {
    let wanted = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "pay"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "new"},
    });
    let desired = desired(vec![object(wanted.clone())]);
    let mut facts = cluster(&[], &desired);
    let words = "RoleBinding \"b\" is invalid: roleRef: Invalid value: {}: cannot change roleRef";
    let live = Fact::Value(served(wanted.clone(), "1", "harden"));
    observe(&mut facts, &wanted, live, DryRun::Refused(words.into()));
    let plan = build(&desired, &facts);
    let remedy = &plan.problems[0].remedy;
    let command = "`kubectl delete -n pay rolebinding.rbac.authorization.k8s.io b`";
    assert!(remedy.contains(command), "{remedy}");
}

#[test]
fn items_of_lists_go_by_name() {
    use harden::resource::object::changed_fields;
    let before = json!({"c": [{"name": "a", "x": 1}, {"name": "b", "x": 1}], "l": [1, 2], "e": []});
    let after =
        json!({"c": [{"name": "b", "x": 2}, {"name": "a", "x": 1}], "l": [1, 3, 4], "e": {}});
    assert_eq!(
        changed_fields(&before, &after),
        [
            "c[b].x: 1 → 2",
            "e: [] → {}",
            "l[1]: 2 → 3",
            "l[2]: nothing → 4"
        ]
    );
}

#[test]
fn items_of_lists_are_told_by_number() {
    use harden::resource::object::changed_fields;
    let rules = |value: u32| json!({"rules": vec![json!({"a10": value, "a9": value}); 11]});
    let told = changed_fields(&rules(1), &rules(2));
    let paths: Vec<&str> = told
        .iter()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    assert_eq!(paths[..3], ["rules[0].a9", "rules[0].a10", "rules[1].a9"]);
    assert_eq!(paths[20..], ["rules[10].a9", "rules[10].a10"]);
}

#[test]
fn an_object_that_is_as_wanted_and_not_ours_is_adopted_once() {
    let desired = desired(vec![object(quota("10"))]);
    let mut facts = cluster(&["cp1"], &desired);
    let live = served(quota("10"), "1", "kubectl");
    let would = served(quota("10"), "22", "harden");
    observe(
        &mut facts,
        &quota("10"),
        Fact::Value(live),
        DryRun::Object(would),
    );
    let plan = build(&desired, &facts);
    let [change] = &plan.changes[..] else {
        panic!("{:?}", plan.changes)
    };
    assert_eq!(change.after.as_deref(), Some("managed by harden as well"));
    assert_eq!(change.risk, Risk::Safe);
    // Ours already, written down at another time.
    let live = served(quota("10"), "1", "harden");
    let would = served(quota("10"), "22", "harden");
    observe(
        &mut facts,
        &quota("10"),
        Fact::Value(live),
        DryRun::Object(would),
    );
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn what_the_server_says_no_to_is_an_error() {
    let desired = desired(vec![object(quota("10"))]);
    let conflict = |field: &str| FieldConflict {
        field: field.into(),
        manager: "argocd".into(),
    };
    let live = || Fact::Value(quota("5"));
    let cases = [
        (
            live(),
            DryRun::Conflict(vec![conflict(".spec.hard.pods"), conflict(".spec.hard.x")]),
            vec![
                ".spec.hard.pods belongs to \"argocd\"",
                ".spec.hard.x belongs to \"argocd\"",
            ],
        ),
        (
            live(),
            DryRun::Conflict(vec![]),
            vec!["the API server reports a conflict without saying of what"],
        ),
        (
            live(),
            DryRun::Refused("no such field".into()),
            vec!["the API server refuses it: no such field"],
        ),
        (
            Fact::Absent,
            DryRun::Refused("denied".into()),
            vec!["the API server refuses it: denied"],
        ),
        (
            Fact::Unreadable("forbidden".into()),
            DryRun::NotAsked,
            vec!["it could not be read: forbidden"],
        ),
        (
            live(),
            DryRun::NotAsked,
            vec!["the API server was not asked what would change"],
        ),
        (
            Fact::Absent,
            DryRun::NotAsked,
            vec!["its namespace pay does not exist, and the profile does not make it"],
        ),
    ];
    for (live, would, messages) in cases {
        let mut facts = cluster(&[], &desired);
        observe(&mut facts, &quota("10"), live, would);
        let plan = build(&desired, &facts);
        let expected: Vec<String> = messages
            .iter()
            .map(|m| format!("Error API | ResourceQuota pay/quota: {m}"))
            .collect();
        assert_eq!(problems(&plan), expected);
        assert!(plan.is_clean() && plan.stages.is_empty());
    }
    let mut facts = cluster(&[], &desired);
    facts.api.objects.clear();
    assert!(build(&desired, &facts).is_incomplete());
}

#[test]
fn objects_follow_their_namespace() {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "z"}});
    let desired = desired(vec![
        object(quota("1")),
        object(class),
        object(namespace("pay")),
        object(namespace("old")),
    ]);
    let mut facts = cluster(&[], &desired);
    let live = namespace("old");
    let mut would = live.clone();
    would["metadata"]["labels"] = json!({"a": "b"});
    observe(
        &mut facts,
        &live,
        Fact::Value(live.clone()),
        DryRun::Object(would),
    );
    let plan = build(&desired, &facts);
    let titles: Vec<String> = plan
        .steps()
        .map(|(stage, step)| format!("{:?} {}", stage.name, step.title()))
        .collect();
    assert_eq!(
        titles,
        [
            "ObjectsPermit API: Namespace pay",
            "ObjectsEnforce API: Namespace old",
            "ObjectsEnforce API: PriorityClass z",
            "ObjectsEnforce API: ResourceQuota pay/quota",
        ]
    );
}

#[test]
fn tables_of_objects_are_checked() {
    let parse = |manifest: Value| Kind::from_table("object", json!({ "manifest": manifest }));
    assert!(parse(quota("1")).is_ok());
    for bad in [
        json!({"kind": "Namespace", "metadata": {"name": "x"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}),
        served(quota("1"), "1", "x"),
        json!("text"),
    ] {
        assert!(parse(bad.clone()).is_err(), "{bad}");
    }
    let extra = json!({"manifest": quota("1"), "force": true});
    assert!(Kind::from_table("object", extra).is_err());
}

fn mode(path: &str, mode: &str) -> Resource {
    resource(
        "mode",
        json!({"path": path, "mode": mode, "owner": "root", "group": "root"}),
    )
}

fn stat(mode: u32, owner: &str, group: &str) -> Fact<Answer> {
    Fact::Value(Answer::Stat(Meta {
        owner: owner.into(),
        group: group.into(),
        ..meta(FileKind::Regular, mode)
    }))
}

#[test]
fn a_mode_is_at_most_and_owners_are_exact() {
    let file = "/etc/kubernetes/admin.conf";
    let desired = desired(vec![mode(file, "0640")]);
    let cases = [
        (stat(0o640, "root", "root"), None),
        (stat(0o600, "root", "root"), None),
        (stat(0o000, "root", "root"), None),
        (
            stat(0o644, "root", "root"),
            Some("0644 root:root → 0640 root:root"),
        ),
        (
            stat(0o611, "root", "root"),
            Some("0611 root:root → 0600 root:root"),
        ),
        (
            stat(0o4600, "root", "root"),
            Some("4600 root:root → 0600 root:root"),
        ),
        (
            stat(0o400, "etcd", "root"),
            Some("0400 etcd:root → 0400 root:root"),
        ),
        (
            stat(0o666, "root", "1000"),
            Some("0666 root:1000 → 0640 root:root"),
        ),
    ];
    for (fact, expected) in cases {
        let mut facts = cluster(&["cp1"], &desired);
        put(&mut facts, "cp1", Query::Stat(path(file)), fact);
        let plan = build(&desired, &facts);
        let line = |e: &str| format!("cp1 | mode of {file}: {e} (Restart)");
        assert_eq!(
            lines(&plan),
            expected.map(line).into_iter().collect::<Vec<_>>()
        );
        execute(&plan, &mut facts);
        assert!(build(&desired, &facts).is_clean());
    }
}

#[test]
fn a_mode_that_cannot_be_looked_at_is_an_error() {
    let file = "/etc/kubernetes/admin.conf";
    let query = || Query::Stat(path(file));
    let desired = desired(vec![mode(file, "0600")]);
    let mut facts = cluster(&["cp1"], &desired);
    put(&mut facts, "cp1", query(), Fact::Absent);
    let plan = build(&desired, &facts);
    assert!(
        plan.is_clean() && !plan.is_incomplete(),
        "missing is ignored"
    );
    let link = Fact::Value(Answer::Stat(meta(FileKind::Symlink, 0o777)));
    for bad in [link, Fact::Unreadable("I/O error".into())] {
        put(&mut facts, "cp1", query(), bad);
        let plan = build(&desired, &facts);
        assert!(plan.is_clean() && plan.is_incomplete());
    }
    let table = json!({"path": file, "mode": "600", "missing": "error"});
    let desired = crate::plan_support::desired(vec![resource("mode", table)]);
    put(&mut facts, "cp1", query(), Fact::Absent);
    assert!(build(&desired, &facts).is_incomplete());
}

#[test]
fn a_mode_of_an_edited_manifest_goes_with_the_edit() {
    let target = manifest_path(API);
    let desired = desired(vec![
        flag("profiling", false),
        mode(target.as_str(), "0600"),
        mode("/etc/kubernetes/admin.conf", "0600"),
    ]);
    let mut facts = cluster(&["cp1"], &desired);
    put(
        &mut facts,
        "cp1",
        Query::File(target.clone()),
        file(MANIFESTS[0].1, 0o644),
    );
    let plan = build(&desired, &facts);
    assert_eq!(plan.changes.len(), 5);
    let Step::Node(files) = &plan.stages[0].steps[0] else {
        panic!()
    };
    assert_eq!(files.files.len(), 1);
    assert_eq!(files.files[0].path.as_str(), "/etc/kubernetes/admin.conf");
    let Step::Node(step) = &plan.stages[1].steps[0] else {
        panic!()
    };
    let FileTarget::Text { mode, .. } = step.files[0].after else {
        panic!()
    };
    assert_eq!(mode, 0o600);
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn tables_of_modes_are_checked() {
    let base = json!({"path": "/a", "mode": "0600"});
    let with = |field: &str, value: Value| {
        let mut table = base.clone();
        table[field] = value;
        Kind::from_table("mode", table)
    };
    assert!(with("mode", json!("600")).is_ok());
    for (field, value) in [
        ("path", json!("a")),
        ("mode", json!("rw")),
        ("mode", json!("0888")),
        ("mode", json!("+600")),
        ("mode", json!(600)),
        ("owner", json!("a:b")),
        ("owner", json!("0")),
        ("group", json!("-x")),
        ("missing", json!("create")),
        ("typo", json!(1)),
    ] {
        assert!(with(field, value.clone()).is_err(), "{field} {value}");
    }
    assert!(Kind::from_table("mode", json!({"path": "/a"})).is_err());
}

#[test]
fn what_is_dangerous_waits_for_consent() {
    for risk in [Risk::Guarded, Risk::Irreversible] {
        let mut dangerous = flag("anonymous-auth", false);
        dangerous.risk = risk;
        for deeper in ["some.option.field", "some.option.other"] {
            let mut origin = dangerous.origins[0].clone();
            origin.option = deeper.into();
            dangerous.origins.insert(0, origin);
        }
        let mut desired = desired(vec![dangerous, flag("profiling", false)]);
        let facts = cluster(&["cp1"], &desired);
        let plan = build(&desired, &facts);
        assert!(
            plan.changes
                .iter()
                .all(|c| c.resource.ends_with("--profiling"))
        );
        assert!(
            !serde_json::to_string(&plan.stages)
                .unwrap()
                .contains("anonymous-auth")
        );
        assert!(plan.is_incomplete());
        let problem = &plan.problems[0];
        assert_eq!(
            problem.remedy,
            "if you mean it, add \"some.option\" to `accept` in harden.toml"
        );
        assert!(problem.message.contains("cp1 manifest: nothing → false"));
        desired.accept = vec!["some.option".into()];
        let plan = build(&desired, &facts);
        assert_eq!(plan.changes.len(), 6);
        assert!(!plan.is_incomplete());
        // Once done, nothing waits any more.
        let mut facts = facts;
        execute(&plan, &mut facts);
        desired.accept.clear();
        assert!(!build(&desired, &facts).is_incomplete());
    }
    let mut by_hand = flag("anonymous-auth", false);
    by_hand.risk = Risk::Manual;
    let desired = desired(vec![by_hand]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    assert!(plan.is_clean() && plan.is_incomplete());
}

#[test]
fn a_cluster_without_identity_is_an_error() {
    let desired = desired(vec![]);
    for id in [Fact::Absent, Fact::Unreadable("timeout".into())] {
        let mut facts = cluster(&["cp1"], &desired);
        facts.api.cluster_id = id;
        assert!(build(&desired, &facts).is_incomplete());
    }
}

#[test]
fn what_to_look_at_is_sorted_and_named_once() {
    let desired = desired(vec![
        flag("profiling", false),
        flag("v", 2),
        mode("/b", "0600"),
        mode("/a", "0600"),
        object(namespace("pay")),
        object(namespace("pay")),
    ]);
    let info = |control_plane| NodeInfo {
        name: "n".into(),
        control_plane,
    };
    let shown: Vec<String> = queries(&desired, &info(true))
        .iter()
        .map(Query::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "file /etc/kubernetes/manifests/etcd.yaml",
            "file /etc/kubernetes/manifests/kube-apiserver.yaml",
            "mode and owner of /a",
            "mode and owner of /b",
            "directory /etc/kubernetes/manifests",
            "command line of kube-apiserver",
        ]
    );
    assert_eq!(queries(&desired, &info(false)), []);
    assert_eq!(
        wanted_objects(&desired),
        [std::sync::Arc::new(namespace("pay"))]
    );
}

#[test]
fn a_plan_says_which_fact_has_moved() {
    let desired = desired(vec![
        flag("profiling", false),
        mode("/etc/kubernetes/admin.conf", "0600"),
        object(quota("20")),
    ]);
    let mut facts = cluster(&["cp1"], &desired);
    let live = served(quota("10"), "1", "kubectl");
    let would = DryRun::Object(served(quota("20"), "2", "harden"));
    observe(
        &mut facts,
        &quota("20"),
        Fact::Value(live.clone()),
        would.clone(),
    );
    let plan = build(&desired, &facts);
    assert_eq!(compare(&plan, &facts), Comparison::default());

    // What does not count: pids, sizes, resource versions, fields of others.
    let mut same = facts.clone();
    let words = argv(&facts, "cp1", API);
    put(
        &mut same,
        "cp1",
        Query::Process(API.program()),
        process(99, words),
    );
    let mut other = served(quota("10"), "77", "argocd");
    other["spec"]["hard"]["secrets"] = "3".into();
    observe(&mut same, &quota("20"), Fact::Value(other), would.clone());
    assert_eq!(compare(&plan, &same), Comparison::default());

    // What does.
    let mut now = facts.clone();
    let text = manifest(&facts, "cp1", API);
    put(
        &mut now,
        "cp1",
        Query::File(manifest_path(API)),
        file(&text, 0o644),
    );
    put(&mut now, "cp1", Query::Process(API.program()), Fact::Absent);
    let conf = Query::Stat(path("/etc/kubernetes/admin.conf"));
    put(&mut now, "cp1", conf, stat(0o600, "root", "root"));
    now.api.cluster_configuration = Fact::Value(format!("{V1BETA4}# touched\n"));
    observe(&mut now, &quota("20"), Fact::Value(quota("11")), would);
    now.api.cluster_id = Fact::Value("another".into());
    assert_eq!(
        compare(&plan, &now).moved,
        [
            "API: this is another cluster, by the uid of namespace kube-system",
            "cp1: file /etc/kubernetes/manifests/kube-apiserver.yaml",
            "cp1: mode and owner of /etc/kubernetes/admin.conf",
            "cp1: command line of kube-apiserver",
            "API: ClusterConfiguration in ConfigMap kube-system/kubeadm-config",
            "API: ResourceQuota pay/quota",
        ]
    );
    now.nodes.clear();
    assert_eq!(compare(&plan, &now).moved.len(), 6);
}

#[test]
fn what_cannot_be_asked_has_not_moved() {
    let desired = desired(vec![
        flag("profiling", false),
        mode("/etc/kubernetes/admin.conf", "0600"),
        object(quota("20")),
    ]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let absent = DryRun::Object(served(quota("20"), "1", "harden"));
    observe(&mut facts, &quota("20"), Fact::Absent, absent.clone());
    let plan = build(&desired, &facts);
    assert!(plan.basis.len() > 4, "{:?}", plan.basis);
    let unread = |why: &str| Fact::Unreadable(why.to_owned());
    if let Some(node) = facts.nodes.get_mut("cp1") {
        node.facts = Fact::Unreadable("no route to host; start it".into());
    }
    let conf = Query::Stat(path("/etc/kubernetes/admin.conf"));
    put(
        &mut facts,
        "cp2",
        conf,
        Fact::Unreadable("I/O error".into()),
    );
    facts.api.cluster_id = unread("the API is away");
    facts.api.cluster_configuration = unread("forbidden");
    observe(
        &mut facts,
        &quota("20"),
        Fact::Unreadable("refused".into()),
        absent,
    );
    let found = compare(&plan, &facts);
    assert_eq!(found.moved, [""; 0]);
    assert_eq!(
        found.unread,
        [
            "API: the API is away",
            "cp1 could not be asked: no route to host; start it",
            "cp2: mode and owner of /etc/kubernetes/admin.conf: I/O error",
            "API: ClusterConfiguration in ConfigMap kube-system/kubeadm-config: forbidden",
            "API: ResourceQuota pay/quota: refused",
        ]
    );
}

#[test]
fn a_plan_file_reads_back_as_the_same_plan_and_only_unchanged() {
    let desired = desired(vec![
        mode("/etc/kubernetes/admin.conf", "0600"),
        flag("profiling", false),
        object(quota("1")),
    ]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let saved = to_saved(&plan).unwrap();
    assert_eq!(
        saved["changes"],
        serde_json::to_value(&plan.changes).unwrap()
    );
    assert_eq!(from_saved(&saved.to_string()).unwrap(), plan);
    // White space and the order of keys are no change.
    assert_eq!(from_saved(&format!("{saved:#}\n")).unwrap(), plan);

    let refused = |saved: &Value| from_saved(&saved.to_string()).unwrap_err().to_string();
    let changed = "the plan file was changed after it was made";
    let mut edited = saved.clone();
    let path = &mut edited["stages"][0]["steps"][0]["node"]["files"][0]["path"];
    assert!(path.is_string(), "{saved:#}");
    *path = "/etc/shadow".into();
    assert_eq!(refused(&edited), changed);
    let mut without = saved.clone();
    without.as_object_mut().unwrap().remove("sha256");
    assert_eq!(refused(&without), changed);
    let mut wrong = saved.clone();
    wrong["sha256"] = "0".repeat(64).into();
    assert_eq!(refused(&wrong), changed);
    let mut other = saved.clone();
    other["schema"] = "harden.dev/plan/v9".into();
    assert!(
        refused(&other).contains("has schema"),
        "{}",
        refused(&other)
    );
    assert!(from_saved("[]").is_err());
    // One of an earlier version is refused for that, whatever else has changed since.
    let mut old = saved.clone();
    old["schema"] = "harden.dev/plan/v1".into();
    old["impact"] = json!([]);
    assert_eq!(
        refused(&old),
        "has schema \"harden.dev/plan/v1\"; this version reads \"harden.dev/plan/v2\""
    );
}

#[test]
fn a_record_of_an_earlier_version_reads_back() {
    let desired = desired(vec![object(quota("1"))]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let mut old = serde_json::to_value(&plan).unwrap();
    old["schema"] = "harden.dev/plan/v1".into();
    old["impact"] = json!([{"resource": "a", "precondition": "no-external-ips", "verdict": "holds",
        "message": "none", "count": 0, "accepted": false}]);
    let read: Plan = serde_json::from_value(old).unwrap();
    assert_eq!(read.impact.preconditions[0].message, "none");
    assert_eq!(read.stages, plan.stages);
}

#[test]
fn a_plan_within_a_record_reads_back() {
    let desired = desired(vec![flag("profiling", false), object(quota("1"))]);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let text = serde_json::to_string(&plan).unwrap();
    let read: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(read, plan);
    assert_eq!(read.sha256(), plan.sha256());
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let component = proptest::sample::select(vec![
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ]);
    let names = vec![
        "profiling",
        "runtime-config",
        "bind-address",
        "enable-admission-plugins",
        "v",
        "audit-log-path",
        "a",
    ];
    let name = proptest::sample::select(names);
    let merge = proptest::sample::select(vec!["exact", "additive", "absent"]);
    let value = proptest::collection::vec("[A-Za-z0-9=./: #'\"-]{1,8}", 1..3);
    // Two items of one key are refused: see plan_flags.
    let key = |item: &String| item.split('=').next().unwrap_or_default().to_owned();
    let value = value.prop_map(move |mut items| {
        let mut seen = std::collections::BTreeSet::new();
        items.retain(|item| seen.insert(key(item)));
        items
    });
    let flags =
        (component.clone(), name, merge, value).prop_map(|(component, name, merge, value)| {
            let mut table = json!({"component": component, "name": name, "merge": merge});
            if merge != "absent" {
                table["value"] = json!(value);
            }
            resource("flag", table)
        });
    let files = (component, "[a-z]{1,6}", "\\PC{0,20}").prop_map(|(component, name, content)| {
        let flag = format!("{name}-config");
        resource(
            "component-file",
            json!({"component": component, "flag": flag, "name": name, "content": content}),
        )
    });
    let paths = vec![
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
        "/etc/kubernetes/admin.conf",
        "/var/lib/etcd",
    ];
    let modes =
        (proptest::sample::select(paths), "0[0-7]{3}").prop_map(|(path, most)| mode(path, &most));
    prop_oneof![4 => flags, 1 => files, 1 => modes]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_executed_plan_leaves_nothing_to_do(resources in proptest::collection::vec(any_resource(), 0..7), old in any::<bool>()) {
        let mut seen = std::collections::BTreeSet::new();
        let resources: Vec<Resource> = resources
            .into_iter()
            .filter(|r| seen.insert(r.kind.behaviour().name()))
            .collect();
        let desired = desired(resources);
        let mut facts = cluster(&["cp1", "cp2"], &desired);
        if old {
            facts.api.cluster_configuration = Fact::Value(V1BETA3.into());
        }
        let plan = build(&desired, &facts);
        prop_assert_eq!(&plan, &build(&desired, &facts));
        prop_assert_eq!(plan.sha256(), build(&desired, &facts).sha256());
        prop_assert_eq!(problems(&plan), Vec::<String>::new());
        prop_assert_eq!(compare(&plan, &facts), Comparison::default());
        execute(&plan, &mut facts);
        let after = build(&desired, &facts);
        prop_assert!(after.is_clean(), "{:?}", lines(&after));
        prop_assert!(after.stages.is_empty());
    }
}
