//! What has left the profile: what is deleted, what stays, what is said of it, and what nobody can
//! make harden delete.

use crate::plan_support::*;
use harden::fact::ledger::{Entry, How, Ledger, LeftFact};
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::{Value, json};

fn managed(mut object: Value, managers: &[(&str, &str)]) -> Value {
    object["metadata"]["uid"] = "u".into();
    let fields: Vec<Value> = managers
        .iter()
        .map(|(manager, operation)| json!({"manager": manager, "operation": operation}))
        .collect();
    object["metadata"]["managedFields"] = fields.into();
    object
}

fn ours(object: Value) -> Value {
    managed(object, &[("harden", "Apply")])
}

fn thing(version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn policy(namespace: &str, name: &str) -> Value {
    let mut policy = thing("networking.k8s.io/v1", "NetworkPolicy", namespace, name);
    policy["spec"] = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    policy
}

fn allowing(namespace: &str, name: &str) -> Value {
    let mut policy = policy(namespace, name);
    policy["spec"]["ingress"] = json!([{}]);
    policy
}

fn binding(namespace: &str, name: &str) -> Value {
    let mut binding = thing(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        namespace,
        name,
    );
    binding["roleRef"] = json!({"kind": "Role", "name": "harden-editor"});
    binding["subjects"] = json!([
        {"kind": "User", "name": "ben"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "tools"},
    ]);
    binding
}

fn namespace(name: &str) -> Value {
    thing("v1", "Namespace", "", name)
}

fn entry(how: How) -> Entry {
    Entry {
        how,
        workspaces: ["prod".into()].into(),
    }
}

/// Facts of a cluster where these objects are in the ledger, and left.
fn left(desired: &Desired, objects: &[(Value, How)]) -> Facts {
    let mut facts = cluster(&[], desired);
    let mut ledger = Ledger::default();
    for (live, how) in objects {
        let reference = ObjectRef::of(live).unwrap();
        ledger.entries.insert(reference.clone(), entry(*how));
        let seen = LeftFact {
            no_kind: false,
            live: Fact::Value(live.clone()),
            contents: Fact::Absent,
        };
        if reference.kind == "NetworkPolicy" {
            let policies = &mut facts.api.ledger.policies;
            let names = policies
                .entry(reference.namespace.clone())
                .or_insert_with(|| Fact::Value(Vec::new()));
            let Fact::Value(names) = names else { panic!() };
            names.push(reference.name.clone());
        }
        facts.api.ledger.left.insert(reference, seen);
    }
    facts.api.ledger.ledger = Fact::Value(ledger);
    facts
}

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps()
        .map(|(stage, step)| format!("{:?} {}", stage.name, step.title()))
        .collect()
}

#[test]
fn what_harden_made_is_deleted_in_an_order_that_cuts_nobody_off_and_lets_nobody_in() {
    let desired = desired(vec![]);
    let facts = left(
        &desired,
        &[
            (ours(policy("pay", "deny")), How::Made),
            (ours(allowing("pay", "allow")), How::Made),
            (ours(binding("pay", "editor")), How::Made),
            (
                ours(thing("scheduling.k8s.io/v1", "PriorityClass", "", "batch")),
                How::Made,
            ),
        ],
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        steps(&plan),
        [
            "ObjectsLeft API: delete RoleBinding pay/editor",
            "ObjectsLeft API: delete NetworkPolicy pay/deny",
            "ObjectsLeft API: delete NetworkPolicy pay/allow",
            "ObjectsLeft API: delete PriorityClass batch",
        ]
    );
    assert_eq!(
        lines(&plan),
        [
            "API | RoleBinding pay/editor: there → - (Guarded)",
            "API | NetworkPolicy pay/deny: there → - (Guarded)",
            "API | NetworkPolicy pay/allow: there → - (Guarded)",
            "API | PriorityClass batch: there → - (Guarded)",
        ]
    );
    assert_eq!(
        plan.changes[0].diff.as_deref(),
        Some("who loses harden-editor: User ben, ServiceAccount tools/ci")
    );
    assert_eq!(
        problems(&plan),
        [
            "Warning API | Namespace pay: it will have no NetworkPolicy: everybody may connect to its pods, and they to everything"
        ]
    );
    assert!(!plan.is_incomplete());
    // The pre-image is in the step, so that a rollback can make it again.
    let Step::Object(step) = &plan.stages[0].steps[1] else {
        panic!()
    };
    assert_eq!(step.before, Some(ours(policy("pay", "deny"))));
    assert_eq!(step.action, ObjectAction::Prune { contents: vec![] });
}

#[test]
fn who_was_let_in_goes_before_the_namespace_loses_what_bounds_them() {
    let mut guarded = namespace("pay");
    guarded["metadata"]["labels"] = json!({"harden.dev/tenant": "pay", "harden.dev/guard": "deny"});
    let mut open = guarded.clone();
    open["metadata"]["labels"] = json!({"harden.dev/tenant": "pay"});
    let desired = desired(vec![resource("object", json!({ "manifest": open }))]);
    let mut facts = left(
        &desired,
        &[
            (ours(binding("pay", "harden-network")), How::Made),
            (ours(binding("shop", "editor")), How::Made),
            (ours(policy("pay", "deny")), How::Made),
        ],
    );
    facts.api.objects.insert(
        ObjectRef::of(&open).unwrap(),
        ObjectFact {
            live: Fact::Value(ours(guarded)),
            would: DryRun::Object(ours(open)),
        },
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        steps(&plan),
        [
            "BindingsLeft API: delete RoleBinding pay/harden-network",
            "ObjectsEnforce API: Namespace pay",
            "ObjectsLeft API: delete RoleBinding shop/editor",
            "ObjectsLeft API: delete NetworkPolicy pay/deny",
        ]
    );
}

#[test]
fn what_stands_in_its_place_comes_first() {
    let new = resource("object", json!({"manifest": policy("pay", "from-new")}));
    let desired = desired(vec![new]);
    let mut facts = left(&desired, &[(ours(policy("pay", "from-old")), How::Made)]);
    facts.api.ledger.policies.insert(
        "pay".into(),
        Fact::Value(vec!["from-old".into(), "own".into()]),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        steps(&plan),
        [
            "ObjectsEnforce API: NetworkPolicy pay/from-new",
            "ObjectsLeft API: delete NetworkPolicy pay/from-old",
        ]
    );
    assert_eq!(
        problems(&plan),
        [
            "Warning API | Namespace pay: it loses the NetworkPolicies from-old, and keeps from-new, own"
        ]
    );
    facts
        .api
        .ledger
        .policies
        .insert("pay".into(), Fact::Unreadable("forbidden".into()));
    assert_eq!(
        problems(&build(&desired, &facts)),
        ["Warning API | Namespace pay: whether it keeps any NetworkPolicy is not known: forbidden"]
    );
}

#[test]
fn a_namespace_and_whatever_may_hold_data_stay_and_are_let_go() {
    let desired = desired(vec![]);
    for (object, why) in [
        (namespace("old"), "everything in it would be lost with it"),
        (
            thing("v1", "PersistentVolumeClaim", "old", "db"),
            "it may hold data, or others may rest on it",
        ),
        (
            thing("db.example.com/v1", "Cluster", "old", "main"),
            "it may hold data, or others may rest on it",
        ),
        (
            thing(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                "",
                "a.example.com",
            ),
            "it may hold data, or others may rest on it",
        ),
        (
            thing("v1", "ServiceAccount", "old", "deployer"),
            "it may hold data, or others may rest on it",
        ),
        // The same kind of somebody else's API is another kind.
        (
            thing("example.com/v1", "NetworkPolicy", "", "x"),
            "it may hold data, or others may rest on it",
        ),
    ] {
        let facts = left(&desired, &[(ours(object.clone()), How::Made)]);
        let plan = build(&desired, &facts);
        let reference = ObjectRef::of(&object).unwrap();
        assert_eq!(
            lines(&plan),
            [format!(
                "API | {reference}: managed by harden → let go, and left as it is (Safe)"
            )]
        );
        assert_eq!(
            steps(&plan),
            [format!("ObjectsLeft API: let go of {reference}")]
        );
        let message = &plan.problems[0].message;
        assert!(message.contains(why), "{message}");
        let remedy = &plan.problems[0].remedy;
        assert!(
            remedy.contains(&format!("{:?}", reference.short_name())),
            "{remedy}"
        );
        assert!(!plan.is_incomplete());
    }
}

#[test]
fn what_was_there_before_or_is_shared_is_let_go() {
    let desired = desired(vec![]);
    let map = || thing("v1", "ConfigMap", "shop", "settings");
    let both = |other: &'static str, operation: &'static str| {
        move |object: Value| managed(object, &[("harden", "Apply"), (other, operation)])
    };
    for (live, how, goes) in [
        (ours(policy("pay", "p")), How::Adopted, false),
        (
            both("argocd", "Apply")(policy("pay", "p")),
            How::Made,
            false,
        ),
        // Somebody edited it once.
        (
            both("kubectl-edit", "Update")(policy("pay", "p")),
            How::Made,
            true,
        ),
        (ours(map()), How::Made, true),
        (both("app", "Update")(map()), How::Made, false),
    ] {
        let plan = build(&desired, &left(&desired, &[(live.clone(), how)]));
        let Step::Object(step) = &plan.stages[0].steps[0] else {
            panic!()
        };
        let expected = match goes {
            true => ObjectAction::Prune { contents: vec![] },
            false => ObjectAction::Release,
        };
        assert_eq!(step.action, expected, "{live}");
    }
    // A controller that writes the status keeps nothing in it.
    let mut quota = ours(thing("v1", "ResourceQuota", "pay", "q"));
    let status = json!({"manager": "kcm", "operation": "Apply", "subresource": "status"});
    quota["metadata"]["managedFields"]
        .as_array_mut()
        .unwrap()
        .push(status);
    let plan = build(&desired, &left(&desired, &[(quota, How::Made)]));
    assert_eq!(
        steps(&plan),
        ["ObjectsLeft API: delete ResourceQuota pay/q"]
    );
}

#[test]
fn a_namespace_that_is_named_goes_with_what_it_holds_listed() {
    let mut desired = desired(vec![]);
    desired.allow_delete.insert("Namespace/old".into());
    let mut facts = left(
        &desired,
        &[
            (ours(namespace("old")), How::Made),
            (ours(policy("old", "deny")), How::Made),
        ],
    );
    let reference = ObjectRef::of(&namespace("old")).unwrap();
    let with = |facts: &mut Facts, contents: Fact<Vec<String>>| {
        facts.api.ledger.left.get_mut(&reference).unwrap().contents = contents;
    };
    let held = vec!["PersistentVolumeClaim db".to_owned(), "Pod web".to_owned()];
    with(&mut facts, Fact::Value(held.clone()));
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "API | NetworkPolicy old/deny: there → - (Guarded)",
            "API | Namespace old: there, with 2 objects in it → - (Irreversible)",
        ]
    );
    assert_eq!(
        plan.changes[1].diff.as_deref(),
        Some("lost with it: PersistentVolumeClaim db\nlost with it: Pod web")
    );
    // Nothing is opened by policies of a namespace that is gone.
    assert_eq!(problems(&plan), [""; 0]);
    let Step::Object(step) = &plan.stages[0].steps[1] else {
        panic!()
    };
    assert_eq!(step.action, ObjectAction::Prune { contents: held });
    // Without knowing what would be lost it is not done.
    for (unknown, why) in [
        (Fact::Unreadable("forbidden".into()), "forbidden"),
        (Fact::Absent, "it was not asked"),
    ] {
        with(&mut facts, unknown);
        let plan = build(&desired, &facts);
        assert!(plan.is_incomplete());
        assert!(plan.problems.iter().any(|p| p.message.contains(why)));
        assert_eq!(steps(&plan).len(), 1);
    }
}

#[test]
fn a_saved_plan_rests_on_what_a_namespace_holds_that_it_deletes() {
    let mut desired = desired(vec![]);
    desired.allow_delete.insert("Namespace/old".into());
    let reference = ObjectRef::of(&namespace("old")).unwrap();
    let holding = |held: Fact<Vec<String>>| {
        let fence = (ours(policy("old", "deny")), How::Made);
        let mut facts = left(&desired, &[(ours(namespace("old")), How::Made), fence]);
        facts.api.ledger.left.get_mut(&reference).unwrap().contents = held;
        facts
    };
    let held = |words: &[&str]| Fact::Value(words.iter().map(|w| (*w).to_owned()).collect());
    let plan = build(&desired, &holding(held(&["ConfigMap a", "Pod web-1"])));
    let now = |contents| compare(&plan, &holding(contents));
    // Pods come and go, and what is gone cannot be lost.
    for same in [
        &["ConfigMap a", "Pod web-1"][..],
        &["ConfigMap a", "Pod web-2", "ReplicaSet web"],
        &[],
    ] {
        assert_eq!(now(held(same)), Comparison::default(), "{same:?}");
    }
    assert_eq!(
        now(held(&["ConfigMap a", "ConfigMap b", "Secret c"])).moved,
        ["API: what Namespace old holds, by now also ConfigMap b, Secret c"]
    );
    let many: Vec<String> = (10..25).map(|n| format!("ConfigMap {n}")).collect();
    let moved = now(Fact::Value(many)).moved;
    assert!(moved[0].ends_with("ConfigMap 19 and 5 more"), "{moved:?}");
    for (unknown, why) in [
        (Fact::Unreadable("forbidden".into()), "forbidden"),
        (Fact::Absent, "it was not asked"),
    ] {
        let found = now(unknown);
        let told = format!("API: what Namespace old holds: {why}");
        assert_eq!((found.moved.len(), found.unread), (0, vec![told]));
    }
    // So it is asked again before the plan is executed, and of no other namespace.
    let again = harden::observe::Wanted::for_plan(&plan).ledger.unwrap();
    assert_eq!(again.allow_delete, ["Namespace/old".to_owned()].into());
}

#[test]
fn the_cluster_s_own_namespaces_are_never_deleted() {
    for name in ["kube-system", "kube-public", "default"] {
        let mut desired = desired(vec![]);
        desired.allow_delete.insert(format!("Namespace/{name}"));
        let plan = build(
            &desired,
            &left(&desired, &[(ours(namespace(name)), How::Made)]),
        );
        assert_eq!(
            steps(&plan),
            [format!("ObjectsLeft API: let go of Namespace {name}")]
        );
    }
    let account = thing("v1", "ServiceAccount", "old", "default");
    let mut desired = desired(vec![]);
    desired
        .allow_delete
        .insert("ServiceAccount/old/default".into());
    let plan = build(&desired, &left(&desired, &[(ours(account), How::Made)]));
    assert_eq!(
        steps(&plan),
        ["ObjectsLeft API: let go of ServiceAccount old/default"]
    );
    assert!(
        plan.problems[0]
            .message
            .contains("Kubernetes makes it in every namespace")
    );
}

#[test]
fn a_saved_plan_rests_on_what_left_and_on_what_the_ledger_says_of_it() {
    let desired = desired(vec![]);
    let before = || left(&desired, &[(ours(policy("pay", "p")), How::Made)]);
    let plan = build(&desired, &before());
    let mut facts = before();
    // What the server counts is nothing.
    let reference = ObjectRef::of(&policy("pay", "p")).unwrap();
    let touch = |facts: &mut Facts, touch: &dyn Fn(&mut Value)| {
        let seen = facts.api.ledger.left.get_mut(&reference).unwrap();
        let Fact::Value(live) = &mut seen.live else {
            panic!()
        };
        touch(live);
    };
    touch(&mut facts, &|live| {
        live["metadata"]["resourceVersion"] = "9".into()
    });
    assert_eq!(compare(&plan, &facts), Comparison::default());
    let moved = |facts: &Facts| compare(&plan, facts).moved;
    let told = ["API: NetworkPolicy pay/p, which has left the profile"];
    touch(&mut facts, &|live| live["spec"]["ingress"] = json!([{}]));
    assert_eq!(moved(&facts), told);
    let mut facts = before();
    touch(&mut facts, &|live| {
        live["metadata"]["managedFields"] = json!([])
    });
    assert_eq!(moved(&facts), told);
    let mut facts = before();
    let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
        panic!()
    };
    ledger.entries.clear();
    assert_eq!(moved(&facts), told);
    facts.api.ledger.ledger = Fact::Unreadable("forbidden".into());
    assert_eq!(moved(&facts), [""; 0]);
    assert_eq!(
        compare(&plan, &facts).unread,
        ["API: NetworkPolicy pay/p, which has left the profile: forbidden"]
    );
}

#[test]
fn an_entry_of_the_ledger_alone_deletes_nothing() {
    let desired = desired(vec![]);
    let stranger = managed(policy("pay", "theirs"), &[("kubectl", "Update")]);
    let mut facts = left(
        &desired,
        &[
            (stranger, How::Made),
            (policy("pay", "nobody"), How::Made),
            (ours(policy("pay", "mine")), How::Made),
        ],
    );
    // Gone by itself.
    let gone = ObjectRef::of(&policy("pay", "gone")).unwrap();
    let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
        panic!()
    };
    ledger.entries.insert(gone.clone(), entry(How::Made));
    let seen = LeftFact {
        no_kind: false,
        live: Fact::Absent,
        contents: Fact::Absent,
    };
    facts.api.ledger.left.insert(gone, seen);
    let plan = build(&desired, &facts);
    assert_eq!(
        steps(&plan),
        [
            "ObjectsLeft API: delete NetworkPolicy pay/mine",
            "ObjectsLeft API: forget NetworkPolicy pay/gone",
            "ObjectsLeft API: forget NetworkPolicy pay/nobody",
            "ObjectsLeft API: forget NetworkPolicy pay/theirs",
        ]
    );
    assert_eq!(plan.changes.len(), 1);
    // Nothing but striking out is nothing to do.
    let mine = ObjectRef::of(&policy("pay", "mine")).unwrap();
    let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
        panic!()
    };
    ledger.entries.remove(&mine);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && plan.stages.is_empty());
}

#[test]
fn what_another_workspace_applied_and_what_is_wanted_in_another_version_stay() {
    let old = thing("networking.k8s.io/v1beta1", "NetworkPolicy", "pay", "p");
    let wanted = resource("object", json!({"manifest": policy("pay", "p")}));
    let desired = desired(vec![wanted]);
    let mut facts = left(
        &desired,
        &[
            (ours(old), How::Made),
            (ours(policy("pay", "other")), How::Made),
        ],
    );
    let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
        panic!()
    };
    let other = ObjectRef::of(&policy("pay", "other")).unwrap();
    ledger.entries.get_mut(&other).unwrap().workspaces = ["tenants".into()].into();
    let plan = build(&desired, &facts);
    assert_eq!(steps(&plan), ["ObjectsEnforce API: NetworkPolicy pay/p"]);
}

#[test]
fn what_two_workspaces_want_goes_with_the_last_of_them() {
    let shared = policy("pay", "p");
    let without = desired(vec![]);
    let mut facts = left(
        &without,
        &[
            (ours(shared.clone()), How::Made),
            (ours(policy("pay", "q")), How::Made),
        ],
    );
    let reference = ObjectRef::of(&shared).unwrap();
    let both = ["prod".to_owned(), "tenants".to_owned()];
    let put = |facts: &mut Facts, names: &[String]| {
        let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
            panic!()
        };
        let entry = ledger.entries.get_mut(&reference).unwrap();
        entry.workspaces = names.iter().cloned().collect();
    };
    put(&mut facts, &both);
    assert_eq!(
        steps(&build(&without, &facts)),
        [
            "ObjectsLeft API: delete NetworkPolicy pay/q",
            "ObjectsLeft API: forget NetworkPolicy pay/p",
        ]
    );
    // The other one has it noted, though nothing of it changes.
    let with = desired(vec![resource("object", json!({"manifest": shared}))]);
    let mut facts = cluster(&[], &with);
    facts.api.ledger = left(&with, &[(ours(shared.clone()), How::Made)]).api.ledger;
    put(&mut facts, &both[1..]);
    let live = ours(shared.clone());
    let seen = ObjectFact {
        would: DryRun::Object(live.clone()),
        live: Fact::Value(live),
    };
    facts.api.objects.insert(reference.clone(), seen);
    assert_eq!(
        steps(&build(&with, &facts)),
        ["ObjectsLeft API: note NetworkPolicy pay/p"]
    );
    put(&mut facts, &both);
    assert!(build(&with, &facts).is_clean());
}

#[test]
fn a_namespace_does_not_go_while_anything_in_it_shall_stay() {
    let space = thing("v1", "Namespace", "", "old");
    let claim = thing("v1", "PersistentVolumeClaim", "old", "db");
    let foreign = policy("old", "foreign");
    let still = policy("old", "still");
    let mut desired = desired(vec![resource("object", json!({"manifest": still}))]);
    desired.allow_delete = ["Namespace/old".to_owned()].into();
    let mut facts = left(
        &desired,
        &[
            (ours(space), How::Made),
            (ours(claim), How::Made),
            (ours(foreign.clone()), How::Made),
        ],
    );
    let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
        panic!()
    };
    let foreign = ObjectRef::of(&foreign).unwrap();
    ledger.entries.get_mut(&foreign).unwrap().workspaces = ["tenants".into()].into();
    for fact in facts.api.ledger.left.values_mut() {
        fact.contents = Fact::Value(Vec::new());
    }
    let plan = build(&desired, &facts);
    let said = problems(&plan).join("\n");
    for part in [
        "NetworkPolicy old/still in it is wanted by the profile",
        "NetworkPolicy old/foreign in it is wanted by the workspace \"tenants\"",
        "PersistentVolumeClaim old/db in it would be lost with it",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(plan.is_incomplete());
}

#[test]
fn a_damaged_ledger_is_an_error_and_nothing_is_deleted() {
    let desired = desired(vec![]);
    let mut facts = left(&desired, &[(ours(policy("pay", "p")), How::Made)]);
    let Fact::Value(ledger) = &mut facts.api.ledger.ledger else {
        panic!()
    };
    ledger
        .damaged
        .insert("harden-ledger-3".into(), "line 2 is no entry".into());
    let plan = build(&desired, &facts);
    assert_eq!(
        problems(&plan),
        [
            "Error API | ConfigMap kube-system/harden-ledger-3: this part of the ledger is damaged, so nothing is deleted: line 2 is no entry"
        ]
    );
    assert!(plan.is_clean() && plan.stages.is_empty());
}

#[test]
fn a_ledger_that_cannot_be_read_is_an_error_only_where_objects_are_wanted() {
    let mut facts = cluster(&[], &desired(vec![]));
    facts.api.ledger.ledger = Fact::Unreadable("forbidden".into());
    assert_eq!(
        problems(&build(&desired(vec![]), &facts)),
        ["Warning API | ledger: which objects have left the profile is not known: forbidden"]
    );
    let wanted = desired(vec![resource(
        "object",
        json!({"manifest": policy("pay", "p")}),
    )]);
    let mut facts = cluster(&[], &wanted);
    facts.api.ledger.ledger = Fact::Unreadable("forbidden".into());
    assert!(build(&wanted, &facts).is_incomplete());
}

#[test]
fn an_object_that_left_and_cannot_be_read_is_an_error() {
    let desired = desired(vec![]);
    let mut facts = left(&desired, &[(ours(policy("pay", "p")), How::Made)]);
    let reference = ObjectRef::of(&policy("pay", "p")).unwrap();
    facts.api.ledger.left.get_mut(&reference).unwrap().live = Fact::Unreadable("forbidden".into());
    let plan = build(&desired, &facts);
    assert_eq!(
        problems(&plan),
        [
            "Error API | NetworkPolicy pay/p: it has left the profile, and could not be read: forbidden"
        ]
    );
    assert!(plan.stages.is_empty());
}

#[test]
fn what_harden_manages_and_the_ledger_lacks_is_noted() {
    let wanted = policy("pay", "p");
    let desired = desired(vec![resource("object", json!({"manifest": wanted}))]);
    let mut facts = cluster(&[], &desired);
    facts.api.ledger.ledger = Fact::Value(Ledger::default());
    let reference = ObjectRef::of(&wanted).unwrap();
    let seen = |live: Value| ObjectFact {
        would: DryRun::Object(live.clone()),
        live: Fact::Value(live),
    };
    let live = seen(ours(wanted.clone()));
    facts.api.objects.insert(reference.clone(), live);
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        ["API | NetworkPolicy pay/p: not in the ledger → noted (Safe)"]
    );
    assert_eq!(steps(&plan), ["ObjectsLeft API: note NetworkPolicy pay/p"]);
    // Of one that proves itself only the metadata is known, without managedFields.
    let proved = ObjectFact {
        would: DryRun::Same {
            sha256: harden::fact::sha256("values"),
        },
        live: Fact::Value(wanted.clone()),
    };
    facts.api.objects.insert(reference.clone(), proved);
    let plan = build(&desired, &facts);
    assert_eq!(steps(&plan), ["ObjectsLeft API: note NetworkPolicy pay/p"]);
    // One that somebody else keeps the same is none of ours.
    let theirs = managed(wanted.clone(), &[("kubectl", "Apply")]);
    facts.api.objects.insert(reference.clone(), seen(theirs));
    assert!(build(&desired, &facts).is_clean());
    // One that is applied is noted anyway.
    facts.api.objects.insert(
        reference,
        ObjectFact {
            live: Fact::Absent,
            would: DryRun::NotAsked,
        },
    );
    let class = thing("scheduling.k8s.io/v1", "PriorityClass", "", "z");
    let desired =
        crate::plan_support::desired(vec![resource("object", json!({"manifest": class}))]);
    let mut facts = cluster(&[], &desired);
    facts.api.ledger.ledger = Fact::Value(Ledger::default());
    assert_eq!(
        steps(&build(&desired, &facts)),
        ["ObjectsEnforce API: PriorityClass z"]
    );
}

#[test]
fn consent_that_allows_nothing_now_is_told() {
    let mut desired = desired(vec![resource(
        "object",
        json!({"manifest": namespace("pay")}),
    )]);
    for name in ["Namespace/pay", "Namespace/never-was"] {
        desired.allow_delete.insert(name.into());
    }
    let mut facts = cluster(&[], &desired);
    assert_eq!(problems(&build(&desired, &facts)), [""; 0]);
    facts.api.ledger.ledger = Fact::Value(Ledger::default());
    assert_eq!(
        problems(&build(&desired, &facts)),
        [
            "Warning API | Namespace/never-was: `allow-delete` names it, and harden does not manage it",
            "Warning API | Namespace/pay: `allow-delete` names it, and the profile wants it",
        ]
    );
}

#[test]
fn the_same_facts_give_the_same_plan_and_it_survives_its_file() {
    let mut desired = desired(vec![]);
    desired.allow_delete.insert("ConfigMap/shop/own".into());
    let adopted = ours(thing("v1", "ConfigMap", "shop", "own"));
    let facts = left(
        &desired,
        &[
            (ours(policy("pay", "a")), How::Made),
            (ours(namespace("pay")), How::Made),
            (adopted, How::Adopted),
        ],
    );
    let plan = build(&desired, &facts);
    assert_eq!(plan, build(&desired, &facts));
    assert_eq!(
        from_saved(&to_saved(&plan).unwrap().to_string()).unwrap(),
        plan
    );
    assert_eq!(
        steps(&plan),
        [
            "ObjectsLeft API: delete ConfigMap shop/own",
            "ObjectsLeft API: delete NetworkPolicy pay/a",
            "ObjectsLeft API: let go of Namespace pay",
        ]
    );
}
