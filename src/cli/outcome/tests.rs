#![allow(clippy::unwrap_used)]

use super::*;
use harden::cluster::Holder;
use harden::generation::{Entry, Outcome};
use harden::plan::{Cluster, ConfigMapStep, Plan, Purpose, Stage, StageName, Step};

/// A record of three steps.
fn record(events: Vec<Event>) -> Record {
    let step = |key: &str| {
        Step::ConfigMapKey(ConfigMapStep {
            namespace: "n".into(),
            name: "c".into(),
            key: key.into(),
            before: String::new(),
            after: String::new(),
            rollout: None,
        })
    };
    Record {
        schema: harden::generation::SCHEMA.into(),
        number: 4,
        plan_sha256: String::new(),
        plan: Plan {
            schema: harden::plan::SCHEMA.into(),
            version: harden::VERSION.into(),
            cluster: Cluster {
                name: "x".into(),
                id: "5f1e".into(),
                distribution: Default::default(),
            },
            desired: String::new(),
            etcd_leader: None,
            purpose: Purpose::Converge,
            nodes: [].into(),
            changes: Vec::new(),
            stages: vec![Stage {
                name: StageName::KubeadmConfig,
                steps: vec![step("a"), step("b"), step("c")],
            }],
            problems: Vec::new(),
            impact: Default::default(),
            basis: Vec::new(),
        },
        holder: Holder::current(),
        started: 0,
        journal: events
            .into_iter()
            .map(|event| Entry { at: 0, event })
            .collect(),
    }
}

#[test]
fn nothing_to_do_is_a_document_too() {
    let told = Told::default();
    assert!(!told.something());
    let document = told.document();
    assert_eq!(document["schema"], "harden.dev/apply/v1");
    assert_eq!(document["generation"], Value::Null);
    assert_eq!(document["outcome"], "unchanged");
    assert_eq!(document["recovered"], Value::Null);
}

#[test]
fn a_failed_run_tells_its_generation_and_what_became_of_each_step() {
    let end = Outcome::Stopped("no room".into());
    let failed = ApplyError::Failed {
        generation: 4,
        message: "no room".into(),
        outcome: Some(end.clone()),
        record: Box::new(record(vec![
            Event::Begin(1),
            Event::Done(1),
            Event::Begin(2),
            Event::Reverted(2, "no room".into()),
            Event::End(end),
        ])),
        notes: vec!["a note".into()],
    };
    let mut told = Told::default();
    told.run(&Err(failed));
    assert!(told.something());
    let document = told.document();
    assert_eq!(document["generation"], 4);
    assert_eq!(document["outcome"], "stopped");
    assert_eq!(document["why"], "no room");
    assert_eq!(document["notes"], json!(["a note"]));
    let states: Vec<&Value> = (0..3).map(|at| &document["steps"][at]["state"]).collect();
    assert_eq!(states, ["done", "reverted", "not-begun"]);
    assert_eq!(document["steps"][0]["title"], "API: ConfigMap n/c a");
    assert_eq!(document["steps"][0]["stage"], "kubeadm-config");
}

#[test]
fn a_stale_plan_has_a_generation_and_what_was_interrupted_is_told_beside() {
    let reverted = Outcome::Reverted("moved".into());
    let stale = ApplyError::Stale {
        what: "moved".into(),
        record: Box::new(record(vec![Event::End(reverted)])),
        notes: Vec::new(),
    };
    let before = Report {
        record: record(vec![Event::Done(1), Event::End(Outcome::Applied)]),
        summary: String::new(),
        notes: Vec::new(),
    };
    let mut told = Told::default();
    told.recovered(&Ok(Some(before)));
    told.run(&Err(stale));
    let document = told.document();
    assert_eq!(document["outcome"], "reverted");
    assert_eq!(document["recovered"]["outcome"], "applied");
    assert_eq!(document["recovered"]["steps"][0]["state"], "done");
    // Of a run that was refused before, the error alone tells.
    let mut told = Told::default();
    told.run(&Err(ApplyError::Interrupted(3)));
    assert!(!told.something());
}

#[test]
fn an_encryption_that_stopped_is_gone_on_with_and_not_rolled_back() {
    use harden::fact::encryption::Provider;
    use harden::resource::encryption::{EncryptionPart, EncryptionWork};

    let mut of_encryption = record(Vec::new());
    of_encryption.plan.stages[0].steps[1] = Step::Encryption(EncryptionWork {
        part: EncryptionPart::Finish,
        provider: Provider::Secretbox,
        resources: ["secrets".to_owned()].into(),
        backup: None,
        key: None,
        words: Vec::new(),
    });
    let remedy = |mut record: Record, done: usize| {
        let event = |number| Entry {
            at: 0,
            event: Event::Done(number),
        };
        record.journal = (1..=done).map(event).collect();
        ApplyError::Failed {
            generation: 4,
            message: "no room".into(),
            outcome: Some(Outcome::Stopped("no room".into())),
            record: Box::new(record),
            notes: Vec::new(),
        }
        .remedy()
    };
    let said = remedy(of_encryption.clone(), 1);
    assert!(said.starts_with("run `harden apply` again"), "{said}");
    assert!(!said.contains("harden rollback"), "{said}");
    // Before it, and after it, another step has failed.
    for done in [0, 2] {
        let said = remedy(of_encryption.clone(), done);
        assert!(said.starts_with("`harden rollback 4`"), "{said}");
    }
}
