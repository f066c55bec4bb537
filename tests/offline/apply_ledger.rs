//! The ledger during apply: written before an object is made, struck out after it is gone, and right
//! again after the client died at any call.

use crate::apply_world::cluster::{Cluster, Fate};
use crate::apply_world::scratch;
use harden::apply::{ApplyError, Report};
use harden::fact::ObjectRef;
use harden::fact::ledger::{Entry, How};
use harden::generation::{self, Outcome, Record};
use harden::host::{Host, HostError};
use harden::plan::{ObjectAction, ObjectStep, Plan, Stage, StageName, Step};
use serde_json::{Value, json};

fn object(kind: &str, name: &str) -> Value {
    let version = match kind {
        "NetworkPolicy" => "networking.k8s.io/v1",
        _ => "v1",
    };
    let mut object =
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {}});
    if kind != "Namespace" {
        object["metadata"]["namespace"] = "team".into();
    }
    object
}

fn policy(name: &str) -> Value {
    object("NetworkPolicy", name)
}

fn ours(mut object: Value) -> Value {
    object["metadata"]["managedFields"] = json!([{"manager": "harden", "operation": "Apply"}]);
    object
}

fn reference(object: &Value) -> ObjectRef {
    ObjectRef::of(object).unwrap()
}

fn entry(how: How) -> Entry {
    Entry {
        how,
        workspaces: ["c".into()].into(),
    }
}

fn step(object: &Value, before: Option<Value>, action: ObjectAction) -> Step {
    Step::Object(ObjectStep {
        reference: reference(object),
        before,
        taken: Vec::new(),
        strays: Vec::new(),
        action,
    })
}

fn prune(object: &Value) -> Step {
    let contents = Vec::new();
    step(
        object,
        Some(ours(object.clone())),
        ObjectAction::Prune { contents },
    )
}

fn apply(object: &Value, before: Option<Value>) -> Step {
    step(object, before, ObjectAction::Apply(object.clone()))
}

/// A plan with these steps on objects and nothing else.
fn plan(cluster: &Cluster, steps: Vec<Step>) -> Plan {
    let mut plan = cluster.plan("--profiling=false");
    plan.stages = vec![Stage {
        name: StageName::ObjectsLeft,
        steps,
    }];
    plan
}

/// Puts an object into the cluster, and an entry into the ledger.
fn put(cluster: &Cluster, live: &Value, how: Option<How>) {
    let mut state = cluster.state.lock().unwrap();
    state.objects.insert(reference(live), live.clone());
    if let Some(how) = how {
        state.ledger.entries.insert(reference(live), entry(how));
    }
}

fn listed(cluster: &Cluster) -> Vec<String> {
    let state = cluster.state.lock().unwrap();
    let entries = state.ledger.entries.iter();
    entries.map(|(r, e)| format!("{r} {:?}", e.how)).collect()
}

fn there(cluster: &Cluster, object: &Value) -> bool {
    let state = cluster.state.lock().unwrap();
    state.objects.contains_key(&reference(object))
}

fn rollback(cluster: &Cluster) -> Plan {
    let open = |name: &str| -> Result<Box<dyn Host>, HostError> {
        Ok(Box::new(cluster.nodes[name].clone()))
    };
    let all = generation::list(&open, &["cp1".into(), "cp2".into()]);
    let record = all.records.last().unwrap().clone();
    let lookup = generation::rollback_lookup(&record);
    generation::rollback_plan(&record, &cluster.current(&lookup))
}

fn failed(result: Result<Report, ApplyError>) -> (String, Record) {
    match result {
        Err(ApplyError::Failed {
            message, record, ..
        }) => (message, *record),
        Err(ApplyError::Stale { what, record, .. }) => (what, *record),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_made_adopted_deleted_and_let_go_is_noted_as_such() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let (new, found, again) = (policy("new"), policy("found"), policy("again"));
    let (foreign, old, kept) = (
        policy("foreign"),
        policy("old"),
        object("Namespace", "kept"),
    );
    put(&cluster, &found, None);
    put(&cluster, &ours(again.clone()), Some(How::Made));
    // Deleted by hand, and made again by somebody else.
    put(&cluster, &foreign, Some(How::Made));
    put(&cluster, &ours(old.clone()), Some(How::Made));
    put(&cluster, &ours(kept.clone()), Some(How::Made));
    let plan = plan(
        &cluster,
        vec![
            apply(&new, None),
            apply(&found, Some(found.clone())),
            apply(&again, Some(ours(again.clone()))),
            apply(&foreign, Some(foreign.clone())),
            prune(&old),
            step(&kept, Some(ours(kept.clone())), ObjectAction::Release),
        ],
    );
    cluster.client(&Fate::new()).run(&plan).unwrap();
    assert_eq!(
        listed(&cluster),
        [
            "NetworkPolicy team/again Made",
            "NetworkPolicy team/foreign Adopted",
            "NetworkPolicy team/found Adopted",
            "NetworkPolicy team/new Made",
        ]
    );
    assert!(!there(&cluster, &old) && there(&cluster, &kept));
    let state = cluster.state.lock().unwrap();
    let left = &state.objects[&reference(&kept)]["metadata"]["managedFields"];
    assert_eq!(left, &json!([]));
    drop(state);
    cluster.forget();
}

#[test]
fn wherever_the_client_dies_no_object_is_there_without_an_entry() {
    let (new, old) = (policy("new"), policy("old"));
    let mut deaths = 0;
    // To die after a call is to die before the next one.
    for last in 1.. {
        let dir = scratch();
        let cluster = Cluster::new(dir.path());
        put(&cluster, &ours(old.clone()), Some(How::Made));
        let plan = plan(&cluster, vec![apply(&new, None), prune(&old)]);
        let mut ghost = cluster.client(&Fate::dying(last, false));
        ghost.holder = Cluster::ghost();
        let lived = ghost.run_and_die(&plan).is_some();
        let all = listed(&cluster);
        for (object, entry) in [(&new, "team/new Made"), (&old, "team/old Made")] {
            let is_listed = all.iter().any(|line| line.ends_with(entry));
            assert!(is_listed || !there(&cluster, object), "{last}: {all:?}");
        }
        // The next one ends what was begun, and then both are right.
        let mut client = cluster.client(&Fate::new());
        client.recover().unwrap();
        if there(&cluster, &old) {
            client.run(&plan).unwrap();
        }
        assert!(there(&cluster, &new), "{last}");
        assert_eq!(listed(&cluster), ["NetworkPolicy team/new Made"]);
        cluster.forget();
        if lived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 10, "{deaths}");
}

/// A workspace that is no more would keep it for ever; one that still wants it notes it again.
#[test]
fn what_is_made_anew_belongs_to_whoever_made_it() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let (new, kept) = (policy("new"), policy("kept"));
    put(&cluster, &ours(kept.clone()), Some(How::Made));
    for one in [&new, &kept] {
        let mut state = cluster.state.lock().unwrap();
        let workspaces = ["former".to_owned()].into();
        let how = How::Made;
        let entry = Entry { how, workspaces };
        state.ledger.entries.insert(reference(one), entry);
    }
    let before = Some(ours(kept.clone()));
    let plan = plan(&cluster, vec![apply(&new, None), apply(&kept, before)]);
    cluster.client(&Fate::new()).run(&plan).unwrap();
    let state = cluster.state.lock().unwrap();
    let names = |one| state.ledger.entries[&reference(one)].workspaces.clone();
    assert_eq!(names(&new), ["c".to_owned()].into());
    assert_eq!(names(&kept), ["c".to_owned(), "former".to_owned()].into());
    drop(state);
    cluster.forget();
}

/// Many are done several at a time, and noted before the first of them all the same.
#[test]
fn of_many_none_is_there_without_an_entry_either() {
    let all = |prefix: &str| -> Vec<Value> {
        let name = |number| policy(&format!("{prefix}{number}"));
        (0..24).map(name).collect()
    };
    let (new, old) = (all("new"), all("old"));
    let mut seen_half = false;
    for last in (10..).step_by(9) {
        let dir = scratch();
        let cluster = Cluster::new(dir.path());
        for one in &old {
            put(&cluster, &ours(one.clone()), Some(How::Made));
        }
        let makes = new.iter().map(|one| apply(one, None));
        let plan = plan(&cluster, makes.chain(old.iter().map(prune)).collect());
        let mut ghost = cluster.client(&Fate::dying(last, false));
        ghost.holder = Cluster::ghost();
        let lived = ghost.run_and_die(&plan).is_some();
        let entries = listed(&cluster);
        let made: Vec<&Value> = new.iter().filter(|one| there(&cluster, one)).collect();
        for one in &made {
            let line = format!("{} Made", reference(one));
            assert!(entries.contains(&line), "{last}: {line}");
        }
        seen_half |= !made.is_empty() && !lived;
        let mut client = cluster.client(&Fate::new());
        client.recover().unwrap();
        if old.iter().any(|one| there(&cluster, one)) {
            client.run(&plan).unwrap();
        }
        assert!(new.iter().all(|one| there(&cluster, one)), "{last}");
        assert_eq!(listed(&cluster).len(), new.len());
        cluster.forget();
        if lived {
            break;
        }
    }
    assert!(seen_half);
}

#[test]
fn a_rollback_makes_what_was_deleted_again_and_notes_it() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let old = policy("old");
    let kept = object("Namespace", "kept");
    put(&cluster, &ours(old.clone()), Some(How::Made));
    put(&cluster, &ours(kept.clone()), Some(How::Made));
    let release = step(&kept, Some(ours(kept.clone())), ObjectAction::Release);
    let mut client = cluster.client(&Fate::new());
    client
        .run(&plan(&cluster, vec![prune(&old), release]))
        .unwrap();
    assert_eq!(listed(&cluster), [""; 0]);
    let undo = rollback(&cluster);
    assert_eq!(undo.problems, []);
    // Letting go changed no value, so there is nothing to undo.
    assert_eq!(undo.steps().count(), 1);
    client.run(&undo).unwrap();
    assert!(there(&cluster, &old));
    assert_eq!(listed(&cluster), ["NetworkPolicy team/old Made"]);
    // And back again.
    client.run(&rollback(&cluster)).unwrap();
    assert!(!there(&cluster, &old));
    assert_eq!(listed(&cluster), [""; 0]);
    cluster.forget();
}

#[test]
fn a_rollback_shows_the_values_that_come_back() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let (mut old, mut new) = (ours(policy("p")), policy("p"));
    old["spec"]["pods"] = 10.into();
    new["spec"]["pods"] = 20.into();
    put(&cluster, &old, Some(How::Adopted));
    let mut client = cluster.client(&Fate::new());
    client
        .run(&plan(&cluster, vec![apply(&new, Some(old))]))
        .unwrap();
    let undo = rollback(&cluster);
    assert_eq!(undo.changes[0].diff.as_deref(), Some("spec.pods: 20 → 10"));
    cluster.forget();
}

#[test]
fn a_rollback_leaves_alone_what_somebody_made_again() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let (same, other) = (policy("same"), policy("other"));
    for one in [&same, &other] {
        put(&cluster, &ours(one.clone()), Some(How::Made));
    }
    let mut client = cluster.client(&Fate::new());
    client
        .run(&plan(&cluster, vec![prune(&same), prune(&other)]))
        .unwrap();
    put(&cluster, &same, None);
    let mut changed = other.clone();
    changed["spec"] = json!({"podSelector": {}});
    put(&cluster, &changed, None);
    let undo = rollback(&cluster);
    assert_eq!(undo.steps().count(), 0);
    assert_eq!(undo.problems.len(), 1);
    assert!(
        undo.problems[0]
            .message
            .contains("somebody changed it since")
    );
    cluster.forget();
}

#[test]
fn what_was_lost_with_a_namespace_is_told_when_it_is_made_again() {
    let dir = scratch();
    let cluster = Cluster::new(dir.path());
    let old = object("Namespace", "old");
    put(&cluster, &ours(old.clone()), Some(How::Adopted));
    let contents = vec!["PersistentVolumeClaim db".to_owned()];
    cluster.state.lock().unwrap().contents = contents.clone();
    let action = ObjectAction::Prune { contents };
    let step = step(&old, Some(ours(old.clone())), action);
    cluster
        .client(&Fate::new())
        .run(&plan(&cluster, vec![step]))
        .unwrap();
    assert!(!there(&cluster, &old));
    let undo = rollback(&cluster);
    assert!(!undo.is_incomplete());
    assert!(
        undo.problems[0]
            .message
            .contains("the 1 objects that were in it are lost")
    );
    cluster.forget();
}

#[test]
fn nothing_is_deleted_that_is_not_just_as_the_plan_saw_it() {
    let old = policy("old");
    let space = object("Namespace", "space");
    type Spoil = fn(&Cluster, &Value, &Value);
    let cases: [(&str, Spoil); 4] = [
        ("has changed since the plan was made", |cluster, old, _| {
            let mut changed = ours(old.clone());
            changed["spec"] = json!({"podSelector": {"a": "b"}});
            put(cluster, &changed, Some(How::Made));
        }),
        ("harden does not manage it any more", |cluster, old, _| {
            put(cluster, old, Some(How::Made));
        }),
        ("the ledger does not list it any more", |cluster, _, _| {
            cluster.state.lock().unwrap().ledger.entries.clear();
        }),
        (
            "it holds what the plan does not name: PersistentVolumeClaim new",
            |cluster, old, _| {
                // Only the namespace is left to be looked at.
                cluster
                    .state
                    .lock()
                    .unwrap()
                    .objects
                    .remove(&reference(old));
                cluster.state.lock().unwrap().contents = ["PersistentVolumeClaim new", "Pod web-2"]
                    .map(str::to_owned)
                    .into();
            },
        ),
    ];
    for (why, spoil) in cases {
        let dir = scratch();
        let cluster = Cluster::new(dir.path());
        put(&cluster, &ours(old.clone()), Some(How::Made));
        put(&cluster, &ours(space.clone()), Some(How::Made));
        let plan = plan(&cluster, vec![prune(&old), prune(&space)]);
        spoil(&cluster, &old, &space);
        let before = cluster.snapshot().1;
        let (message, record) = failed(cluster.client(&Fate::new()).run(&plan));
        assert!(message.contains(why), "{message}");
        assert!(record.outcome().is_some_and(|o| *o != Outcome::Applied));
        assert_eq!(cluster.snapshot().1, before);
        cluster.forget();
    }
}
