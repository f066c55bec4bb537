//! What a plan makes of a profile that wants objects encrypted, on three control planes.
use crate::plan_support::*;
use harden::fact::encryption::{
    EncryptionFile, EtcdPrefix, Form, Group, Loaded, Provider, Stored, StoredForm,
};
use harden::fact::*;
use harden::plan::*;
use harden::resource::encryption::seen::own_path;
use harden::resource::encryption::{Encryption, EncryptionPart};
use harden::resource::*;
use serde_json::json;

const PLANES: [&str; 3] = ["cp1", "cp2", "cp3"];

fn wanted(table: serde_json::Value) -> Desired {
    let mut wanted = resource("encryption", table);
    wanted.uniform = true;
    desired(vec![wanted])
}

fn backed_up() -> Desired {
    wanted(json!({"provider": "secretbox", "backup-file": "keys/{key}.yaml"}))
}

/// Three control planes that have never encrypted anything.
fn clear(desired: &Desired) -> Facts {
    let mut facts = cluster(&PLANES, desired);
    for node in PLANES {
        put(
            &mut facts,
            node,
            Query::Encryption(own_path()),
            Fact::Absent,
        );
        stored(&mut facts, node, &Form::Clear, 7);
        let query = ApiQuery::LoadedEncryption(node.into());
        facts.api.answers.insert(query, Fact::Absent);
    }
    let planes = Fact::Value(json!(PLANES));
    facts.api.answers.insert(ApiQuery::ControlPlanes, planes);
    let served = Fact::Value(json!(["secrets", "configmaps", "deployments.apps"]));
    facts.api.answers.insert(ApiQuery::ServedResources, served);
    facts
}

fn stored(facts: &mut Facts, node: &str, form: &Form, count: u64) {
    let stored = Stored::from([(StoredForm::Form(form.clone()), count)]);
    let query = Query::Stored(EtcdPrefix::new("/registry/secrets/").unwrap());
    put(facts, node, query, Fact::Value(Answer::Stored(stored)));
}

fn key() -> Form {
    Form::key(Provider::Secretbox, "k20261126-175400").unwrap()
}

/// A node's file says this, and its server has loaded it.
fn loaded(facts: &mut Facts, node: &str, row: &[Form]) {
    let file = EncryptionFile {
        meta: meta(FileKind::Regular, 0o600),
        sha256: sha256(format!("{row:?}")),
        written: 1_790_000_000,
        groups: vec![Group {
            resources: vec!["secrets".into()],
            forms: row.to_vec(),
        }],
    };
    let loaded = Loaded {
        sha256: file.sha256.clone(),
        refused: 0,
    };
    let answer = Fact::Value(Answer::Encryption(file));
    put(facts, node, Query::Encryption(own_path()), answer);
    let query = ApiQuery::LoadedEncryption(node.into());
    let loaded = Fact::Value(serde_json::to_value(loaded).unwrap());
    facts.api.answers.insert(query, loaded);
}

fn stages(plan: &Plan) -> Vec<(StageName, usize)> {
    let stages = plan.stages.iter();
    stages.map(|s| (s.name, s.steps.len())).collect()
}

/// Nothing of it may be done where it cannot be done whole.
#[track_caller]
fn refused(plan: &Plan, why: &str) {
    let said: Vec<String> = plan
        .problems
        .iter()
        .map(|p| format!("{}: {}: {}; {}", p.place, p.subject, p.message, p.remedy))
        .collect();
    assert!(said.iter().any(|line| line.contains(why)), "{said:#?}");
    assert!(plan.is_incomplete());
    assert!(plan.is_clean() && plan.stages.is_empty(), "{plan:#?}");
}

/// The flags are set everywhere, as a plan for clear facts sets them.
fn with_flags(facts: &mut Facts, plan: &Plan) {
    let mut flags = plan.clone();
    for stage in &mut flags.stages {
        stage
            .steps
            .retain(|step| !matches!(step, Step::Encryption(_)));
    }
    execute(&flags, facts);
}

/// It would have no objects, and so count as encrypted.
#[test]
fn a_resource_that_nobody_serves_is_no_encrypted_one() {
    for name in ["secret", "nosuchs", "deployments.app"] {
        let table = json!({"provider": "secretbox", "resources": ["secrets", name], "backup-file": "{key}"});
        let desired = desired(vec![resource("encryption", table)]);
        let why = format!("the API serves no resource `{name}`");
        refused(&build(&desired, &clear(&desired)), &why);
    }
}

#[test]
fn files_come_before_flags_and_objects_last() {
    let desired = backed_up();
    let plan = build(&desired, &clear(&desired));
    assert!(!plan.is_incomplete(), "{:#?}", plan.problems);
    assert_eq!(
        stages(&plan),
        [
            (StageName::EncryptionFiles, 1),
            (StageName::ControlPlane, 3),
            (StageName::KubeadmConfig, 1),
            (StageName::Encryption, 1),
        ]
    );
    let uniform = |step: &Step| matches!(step, Step::Node(step) if step.uniform);
    assert!(plan.stages[1].steps.iter().all(uniform));
    let parts: Vec<EncryptionPart> = plan
        .steps()
        .filter_map(|(_, step)| match step {
            Step::Encryption(work) => Some(work.part),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [EncryptionPart::Prepare, EncryptionPart::Finish]);
    let of_objects = plan
        .changes
        .iter()
        .find(|change| change.resource == "encryption at rest" && change.copy.is_none())
        .unwrap();
    assert_eq!(of_objects.before.as_deref(), Some("secrets: 7 in clear"));
    let diff = of_objects.diff.as_deref().unwrap();
    assert!(diff.contains("back it up in keys/{key}.yaml"), "{diff}");
    let restored = from_saved(&to_saved(&plan).unwrap().to_string()).unwrap();
    assert_eq!(restored, plan);
}

#[test]
fn what_is_as_it_is_wanted_is_left_alone_and_what_is_not_is_a_change() {
    let desired = backed_up();
    let mut facts = clear(&desired);
    let begin = build(&desired, &facts);
    with_flags(&mut facts, &begin);
    for node in PLANES {
        loaded(&mut facts, node, &[key()]);
        stored(&mut facts, node, &key(), 7);
    }
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && !plan.is_incomplete(), "{plan:#?}");
    // Somebody has written in clear, and the file reads that.
    for node in PLANES {
        loaded(&mut facts, node, &[key(), Form::Clear]);
    }
    stored(&mut facts, "cp2", &Form::Clear, 1);
    let plan = build(&desired, &facts);
    assert_eq!(stages(&plan), [(StageName::Encryption, 1)]);
    // What nobody can read is not mended by writing more.
    for node in PLANES {
        loaded(&mut facts, node, &[key()]);
    }
    let other = Form::key(Provider::Secretbox, "lost").unwrap();
    stored(&mut facts, "cp2", &other, 1);
    refused(
        &build(&desired, &facts),
        "which no control plane's file can read",
    );
}

#[test]
fn k3s_4838_a_control_plane_that_is_not_known_keeps_the_others_as_they_are() {
    let desired = backed_up();
    let down = || Fact::Absent;
    let mut facts = clear(&desired);
    let query = Query::Process(API.program());
    put(&mut facts, "cp2", query, down());
    refused(
        &build(&desired, &facts),
        "cp2: encryption at rest: no API server runs",
    );

    let mut facts = clear(&desired);
    facts.nodes.get_mut("cp3").unwrap().facts = Fact::Unreadable("no route".into());
    refused(&build(&desired, &facts), "cp3: encryption at rest");

    let mut facts = clear(&desired);
    let planes = Fact::Value(json!(["cp1", "cp2", "cp3", "cp4"]));
    facts.api.answers.insert(ApiQuery::ControlPlanes, planes);
    refused(
        &build(&desired, &facts),
        "not one of the nodes of harden.toml",
    );

    // What was not looked at at all is not good either.
    refused(
        &build(&desired, &cluster(&PLANES, &desired)),
        "encryption at rest",
    );
}

#[test]
fn a_key_is_made_only_where_it_is_kept() {
    let desired = wanted(json!({"provider": "secretbox"}));
    refused(
        &build(&desired, &clear(&desired)),
        "not said where it is backed up",
    );
    let mut by_import =
        wanted(json!({"provider": "secretbox", "backup-command": ["sh", "-c", "x"]}));
    by_import.resources[0].origins.push(Origin {
        option: "encryption.backup-command".into(),
        file: "team/base.toml".into(),
        line: 3,
    });
    let plan = build(&by_import, &clear(&by_import));
    refused(&plan, "team/base.toml names a program that would run here");
}

/// The plan holds the reference. Nothing reads the key before apply, and one that others chose is none.
#[test]
fn a_given_key_is_a_reference_that_only_the_workspace_itself_may_make() {
    let table = json!({"provider": "aescbc", "backup-file": "keys/{key}.yaml",
        "key": {"file": "/none/of/it"}});
    let mut desired = wanted(table);
    let plan = build(&desired, &clear(&desired));
    assert!(!plan.is_incomplete(), "{:#?}", plan.problems);
    let saved = to_saved(&plan).unwrap().to_string();
    assert!(saved.contains("take a key of aescbc from the file /none/of/it and back it up"));
    assert_eq!(from_saved(&saved).unwrap(), plan);
    desired.resources[0].origins.push(Origin {
        option: "encryption.key".into(),
        file: "team/base.toml".into(),
        line: 3,
    });
    refused(
        &build(&desired, &clear(&desired)),
        "team/base.toml says where a key comes from",
    );
    assert_eq!(desired.own_key(), None);

    // Another reference is no change: what is under a key stays under it.
    let mut facts = clear(&backed_up());
    let begin = build(&backed_up(), &facts);
    with_flags(&mut facts, &begin);
    for node in PLANES {
        loaded(&mut facts, node, &[key()]);
        stored(&mut facts, node, &key(), 7);
    }
    for source in [json!({"env": "A"}), json!({"command": ["pass", "etcd"]})] {
        let desired =
            wanted(json!({"provider": "secretbox", "backup-file": "{key}", "key": source}));
        let plan = build(&desired, &facts);
        assert!(plan.is_clean() && !plan.is_incomplete(), "{plan:#?}");
    }
}

#[test]
fn what_no_table_may_say() {
    for (table, why) in [
        (json!({"provider": "kms"}), "its plugin's affair"),
        (
            json!({"provider": "secretbox", "resources": []}),
            "none is named",
        ),
        (
            json!({"provider": "secretbox", "resources": ["Secrets"]}),
            "is none",
        ),
        (
            json!({"provider": "secretbox", "resources": ["*"]}),
            "is none",
        ),
        (
            json!({"provider": "secretbox", "backup-file": "one.yaml"}),
            "{key}",
        ),
        (
            json!({"provider": "secretbox", "backup-file": "{key}", "backup-command": ["a"]}),
            "as well",
        ),
        (
            json!({"provider": "secretbox", "key": {"file": "a", "env": "b"}}),
            "key",
        ),
        (
            json!({"provider": "secretbox", "key": "canary"}),
            "never the key itself",
        ),
        (
            json!({"provider": "secretbox", "key": {"command": []}}),
            "names nothing",
        ),
        (
            json!({"provider": "secretbox", "key": {"env": "A=B"}}),
            "no environment variable",
        ),
    ] {
        let error = Encryption::from_table(table).unwrap_err();
        assert!(error.contains(why) && !error.contains("canary"), "{error}");
    }
}
