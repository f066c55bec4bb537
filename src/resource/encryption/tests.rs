//! What is said of clusters in every state that people got into.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::seen::{Counted, Seen, SeenPlane, Server};
use super::{Judgement, Next, judge};
use crate::fact::encryption::{EncryptionFile, Form, Group, Loaded, Provider, Stored, StoredForm};
use crate::fact::{Fact, FileKind, Meta, NodePath, sha256};
use crate::resource::Problem;

fn key(name: &str) -> Form {
    Form::key(Provider::Secretbox, name).unwrap()
}

fn file(resources: &[&str], forms: &[Form]) -> EncryptionFile {
    EncryptionFile {
        meta: Meta {
            kind: FileKind::Regular,
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        },
        sha256: sha256(format!("{resources:?} {forms:?}")),
        written: 1_790_000_000,
        groups: vec![Group {
            resources: resources.iter().map(|r| (*r).to_owned()).collect(),
            forms: forms.to_vec(),
        }],
    }
}

fn loaded(sha256: &str, refused: u64) -> Fact<Loaded> {
    Fact::Value(Loaded {
        sha256: sha256.to_owned(),
        refused,
    })
}

fn on(file: EncryptionFile) -> SeenPlane {
    SeenPlane {
        server: Fact::Value(Server {
            config: Some(NodePath::new("/etc/kubernetes/enc/config.yaml").unwrap()),
            reloads: true,
            root: "/registry".into(),
        }),
        stopped: false,
        loaded: loaded(&file.sha256, 0),
        file: Fact::Value(file),
        idle: Fact::Absent,
    }
}

fn off() -> SeenPlane {
    SeenPlane {
        server: Fact::Value(Server {
            config: None,
            reloads: false,
            root: "/registry".into(),
        }),
        stopped: false,
        file: Fact::Absent,
        idle: Fact::Absent,
        loaded: Fact::Absent,
    }
}

fn seen<const N: usize>(planes: [SeenPlane; N], stored: &[(Form, u64)]) -> Seen {
    let stored: Stored = stored
        .iter()
        .map(|(form, count)| (StoredForm::Form(form.clone()), *count))
        .collect();
    let names = (1..).map(|n| format!("cp{n}"));
    let planes: BTreeMap<String, SeenPlane> = names.zip(planes).collect();
    let members = planes
        .keys()
        .map(|name| (name.clone(), Fact::Value(stored.clone())))
        .collect();
    Seen {
        planes,
        resources: [("secrets".to_owned(), Counted { members })].into(),
    }
}

fn said(problems: &[Problem]) -> Vec<String> {
    let say = |p: &Problem| format!("{}: {}: {}", p.place, p.subject, p.message);
    problems.iter().map(say).collect()
}

#[track_caller]
fn only_wrong(judged: &Judgement, expected: &str) {
    assert_eq!(said(&judged.wrong), [expected]);
    assert!(judged.unknown.is_empty(), "{judged:?}");
}

#[test]
fn what_is_as_it_should_be_has_nothing_wrong() {
    let good = || on(file(&["secrets"], &[key("key1")]));
    let judged = judge(&seen([good(), good(), good()], &[(key("key1"), 9)]));
    assert_eq!(judged, Judgement::default());
}

#[test]
fn k3s_4838_a_control_plane_that_joined_without_the_file_is_found() {
    let keyed = || on(file(&["secrets"], &[key("key1"), Form::Clear]));
    let judged = judge(&seen([keyed(), keyed(), off()], &[(key("key1"), 2)]));
    let wrong = said(&judged.wrong);
    assert!(
        wrong[0].starts_with("cp3: kube-apiserver: it runs without --encryption-provider-config"),
        "{wrong:?}"
    );
    assert!(
        wrong.contains(
            &"cp3: secrets: it cannot read what cp1 writes: secretbox key key1".to_owned()
        ),
        "{wrong:?}"
    );
    assert!(
        wrong.contains(
            &"API: secrets: 2 objects are stored secretbox key key1, which cp3 cannot read"
                .to_owned()
        ),
        "{wrong:?}"
    );
}

#[test]
fn kubespray_10459_a_key_that_was_made_anew_under_its_old_name_is_found() {
    let one = file(&["secrets"], &[key("key1"), Form::Clear]);
    let mut other = one.clone();
    other.sha256 = sha256("the same names, another key");
    let judged = judge(&seen([on(one), on(other)], &[(key("key1"), 2)]));
    only_wrong(
        &judged,
        "cp1: encryption configuration: it names the same keys as that of cp2, and is another file",
    );
    assert_eq!(judged.next, None);
}

#[test]
fn kubernetes_66844_a_key_that_only_one_server_has_is_found() {
    let new = on(file(&["secrets"], &[key("key2"), key("key1")]));
    let old = on(file(&["secrets"], &[key("key1")]));
    let judged = judge(&seen([new, old], &[(key("key1"), 7), (key("key2"), 1)]));
    let wrong = said(&judged.wrong);
    assert!(
        wrong.contains(
            &"cp2: secrets: it cannot read what cp1 writes: secretbox key key2".to_owned()
        ),
        "{wrong:?}"
    );
    assert!(
        wrong.contains(
            &"API: secrets: 1 object is stored secretbox key key2, which cp2 cannot read"
                .to_owned()
        ),
        "{wrong:?}"
    );
}

#[test]
fn kubernetes_49565_objects_that_were_not_written_anew_are_found() {
    let both = || on(file(&["secrets"], &[key("key2"), key("key1")]));
    let judged = judge(&seen(
        [both(), both()],
        &[(key("key1"), 7), (key("key2"), 1)],
    ));
    only_wrong(
        &judged,
        "API: secrets: 7 objects are still stored secretbox key key1",
    );
    assert_eq!(
        judged.next,
        Some(Next::Rewrite {
            resources: vec!["secrets".into()]
        })
    );
    // When they are, the old key can go, and nothing is wrong with one that is still there.
    let judged = judge(&seen([both(), both()], &[(key("key2"), 8)]));
    assert!(judged.wrong.is_empty(), "{judged:?}");
    assert!(
        judged
            .next
            .unwrap()
            .to_string()
            .starts_with("drop the forms"),
    );
}

#[test]
fn k3s_13598_a_key_that_nobody_has_any_more_is_found() {
    let new = || on(file(&["secrets"], &[key("key2"), Form::Clear]));
    let judged = judge(&seen([new(), new()], &[(key("key1"), 7)]));
    only_wrong(
        &judged,
        "API: secrets: 7 objects are stored secretbox key key1, which cp1, cp2 cannot read",
    );
    assert_eq!(judged.next, None);
}

#[test]
fn a_file_that_the_server_has_refused_is_an_outage_at_the_next_restart() {
    let mut plane = on(file(&["secrets"], &[key("key1")]));
    plane.loaded = loaded(&sha256("what it had"), 8);
    let judged = judge(&seen([plane], &[(key("key1"), 1)]));
    only_wrong(
        &judged,
        "cp1: /etc/kubernetes/enc/config.yaml: the API server runs with another content of it and has \
         refused a reload 8 times",
    );
    assert!(judged.wrong[0].remedy.contains("do not restart it"));
    assert!(matches!(judged.next, Some(Next::Wait { .. })));
}

#[test]
fn rke2_5604_a_server_that_does_not_see_the_new_file_is_found() {
    let mut plane = on(file(&["secrets"], &[key("key1")]));
    plane.loaded = loaded(&sha256("what it had"), 0);
    let judged = judge(&seen([plane.clone()], &[(key("key1"), 1)]));
    assert!(
        judged.wrong[0]
            .remedy
            .contains("not the one that the container sees")
    );
    let Fact::Value(server) = &mut plane.server else {
        panic!("{plane:?}");
    };
    server.reloads = false;
    let judged = judge(&seen([plane], &[(key("key1"), 1)]));
    assert!(judged.wrong[0].remedy.contains("restart the API server"));
    assert_eq!(judged.notes.len(), 1);
}

#[test]
fn a_file_that_others_may_read_is_found() {
    let mut open = file(&["secrets"], &[key("key1")]);
    open.meta.mode = 0o640;
    let judged = judge(&seen([on(open)], &[(key("key1"), 1)]));
    only_wrong(
        &judged,
        "cp1: /etc/kubernetes/enc/config.yaml: it holds keys and is 0640 root:root",
    );
}

#[test]
fn encryption_that_was_never_begun_is_no_surprise_and_not_good() {
    let judged = judge(&seen([off(), off()], &[(Form::Clear, 12)]));
    only_wrong(
        &judged,
        "API: secrets: 12 objects are stored in clear, for it is written so",
    );
    assert_eq!(judged.next, None);
}

#[test]
fn what_could_not_be_seen_is_never_good() {
    let good = || on(file(&["secrets"], &[key("key1")]));
    let silent = SeenPlane {
        stopped: false,
        server: Fact::Unreadable("cannot reach 10.0.0.2:22".into()),
        file: Fact::Absent,
        idle: Fact::Absent,
        loaded: Fact::Unreadable("the node was not reached".into()),
    };
    let judged = judge(&seen([good(), silent], &[(key("key1"), 3)]));
    assert_eq!(judged.unknown.len(), 1);
    assert_eq!(judged.next, None);

    let mut mute = good();
    mute.loaded = Fact::Absent;
    assert_eq!(judge(&seen([mute], &[])).unknown.len(), 1);

    let mut uncounted = seen([good(), good()], &[(key("key1"), 3)]);
    let member = Fact::Unreadable("etcd gave no answer".into());
    let members = &mut uncounted.resources.get_mut("secrets").unwrap().members;
    members.insert("cp2".into(), member);
    let judged = judge(&uncounted);
    assert_eq!(judged.unknown.len(), 1);
    assert_eq!(judged.next, None);
}

#[test]
fn of_members_that_differ_the_one_with_the_old_form_counts() {
    let both = || on(file(&["secrets"], &[key("key2"), key("key1")]));
    let mut seen = seen([both(), both()], &[(key("key2"), 8)]);
    let lagging: Stored = [
        (StoredForm::Form(key("key1")), 1),
        (StoredForm::Form(key("key2")), 7),
    ]
    .into();
    let members = &mut seen.resources.get_mut("secrets").unwrap().members;
    members.insert("cp2".into(), Fact::Value(lagging));
    only_wrong(
        &judge(&seen),
        "API: secrets: 1 object is still stored secretbox key key1",
    );
}

#[test]
fn a_provider_with_limits_says_so() {
    let gcm = Form::key(Provider::Aesgcm, "key1").unwrap();
    let judged = judge(&seen(
        [on(file(&["secrets"], std::slice::from_ref(&gcm)))],
        &[(gcm.clone(), 1)],
    ));
    assert!(judged.wrong.is_empty(), "{judged:?}");
    assert!(judged.notes[0].remedy.contains("200,000"));
}

#[test]
fn k3s_13763_a_rotation_is_known_from_the_first_file_that_has_its_key_to_its_end() {
    use super::{Goal, Plane, View, begun, next, renewed};

    let (old, new) = (key("k20260101-000000"), key("k20261126-175400"));
    let rows = |file: &EncryptionFile| super::seen::rows(file);
    for first in [old.clone(), key("by-hand")] {
        let mut files: Vec<EncryptionFile> =
            vec![file(&["secrets", "configmaps"], std::slice::from_ref(&first)); 3];
        let mut stored = first.clone();
        let look = |files: &[EncryptionFile], stored: &Form| {
            let planes = [0, 1, 2].map(|n: usize| on(files[n].clone()));
            let mut seen = seen(planes, &[(stored.clone(), 5)]);
            let counted = seen.resources["secrets"].clone();
            seen.resources.insert("configmaps".into(), counted);
            seen
        };
        assert_eq!(begun(&look(&files, &stored)), None);
        let goal = renewed(&look(&files, &stored), &new).unwrap();
        assert_eq!(
            goal,
            Goal::from(["secrets", "configmaps"].map(|r| (r.to_owned(), new.clone())))
        );
        let mut writes = 0;
        loop {
            let view: View = look(&files, &stored).view();
            assert!(
                view.planes
                    .values()
                    .all(|p| matches!(p, Ok(Plane::On { .. })))
            );
            match next(&goal, &view) {
                Next::Done => break,
                Next::Rewrite { .. } => {
                    stored = new.clone();
                    assert_eq!(begun(&look(&files, &stored)).as_ref(), Some(&goal));
                }
                // One file after the other, and a death after each.
                Next::Write { files: wanted, .. } => {
                    for (node, wanted) in wanted {
                        let at: usize = node.trim_start_matches("cp").parse().unwrap();
                        let row = wanted["secrets"].clone();
                        assert_eq!(wanted["configmaps"], row);
                        files[at - 1] = file(&["secrets", "configmaps"], &row);
                        assert_eq!(rows(&files[at - 1]), wanted);
                        writes += 1;
                        let known = begun(&look(&files, &stored));
                        match next(&goal, &look(&files, &stored).view()) {
                            Next::Done => assert_eq!(known, None),
                            _ => assert_eq!(known.as_ref(), Some(&goal), "{files:?}"),
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(writes, 9);
        assert_eq!(begun(&look(&files, &stored)), None);
    }
}

/// A run that ends while one server is down leaves a file there that nothing has proved.
#[test]
fn a_file_that_a_stopped_run_has_left_on_a_control_plane_that_is_down_is_told() {
    let new = file(&["secrets"], &[key("a"), key("b")]);
    let old = file(&["secrets"], &[key("a")]);
    let down = |idle: &EncryptionFile| SeenPlane {
        server: Fact::Unreadable("no API server runs".into()),
        stopped: true,
        idle: Fact::Value(idle.clone()),
        ..off()
    };
    for (lies, what) in [
        (&new, "is the one that cp1 has loaded"),
        (&old, "is loaded by none"),
    ] {
        let seen = seen([on(new.clone()), down(lies)], &[(key("a"), 5)]);
        let view = seen.view();
        let why = view.planes["cp2"].clone().unwrap_err();
        assert!(
            why.starts_with("no API server runs; ") && why.ends_with(what),
            "{why}"
        );
        let judged = judge(&seen);
        let told = judged.unknown.iter().find(|problem| problem.message == why);
        assert!(told.unwrap().remedy.contains("takes it up"));
    }
}

#[test]
fn flags_may_go_where_a_server_is_down_and_no_key_has_written() {
    use super::is_in_clear;

    let clear = file(&["secrets"], &[Form::Clear, key("a")]);
    let keyed = file(&["secrets"], &[key("a"), Form::Clear]);
    let down = |idle: Fact<EncryptionFile>, stopped: bool| SeenPlane {
        server: Fact::Unreadable("no API server runs".into()),
        stopped,
        idle,
        ..off()
    };
    let in_clear =
        |plane: SeenPlane, form: Form| is_in_clear(&seen([on(clear.clone()), plane], &[(form, 5)]));
    assert!(in_clear(
        down(Fact::Value(clear.clone()), true),
        Form::Clear
    ));
    assert!(in_clear(down(Fact::Absent, true), Form::Clear));
    // It would write under a key, or has; or nobody knows whether it runs, or what lies there.
    assert!(!in_clear(down(Fact::Value(keyed), true), Form::Clear));
    assert!(!in_clear(down(Fact::Value(clear.clone()), true), key("a")));
    assert!(!in_clear(
        down(Fact::Value(clear.clone()), false),
        Form::Clear
    ));
    let unknown = Fact::Unreadable("line 3 is not in the plain block style".into());
    assert!(!in_clear(down(unknown, true), Form::Clear));
}

#[test]
fn there_is_no_rotation_of_what_is_in_clear() {
    use super::renewed;

    let new = key("k20261126-175400");
    assert_eq!(renewed(&seen([off()], &[]), &new), None);
    let clear = on(file(&["secrets"], &[Form::Clear, key("key1")]));
    assert_eq!(renewed(&seen([clear], &[]), &new), None);
    let two = [key("key1"), key("key2")].map(|form| on(file(&["secrets"], &[form])));
    assert_eq!(renewed(&seen(two, &[]), &new), None);
}

/// A cluster that a profile's encryption is begun on: which servers run with their files, the files, and
/// the form of every Secret.
#[derive(Debug, Clone)]
struct Model {
    on: Vec<bool>,
    files: Vec<Option<Vec<Form>>>,
    stored: Form,
}

impl Model {
    fn seen(&self) -> Seen {
        let plane = |n: usize| {
            let file = self.files[n].as_ref().map(|row| file(&["secrets"], row));
            match (self.on[n], file) {
                (true, file) => on(file.unwrap()),
                (false, Some(file)) => SeenPlane {
                    idle: Fact::Value(file),
                    ..off()
                },
                (false, None) => off(),
            }
        };
        seen([plane(0), plane(1), plane(2)], &[(self.stored.clone(), 5)])
    }

    fn row(&self, n: usize) -> Vec<Form> {
        match (self.on[n], &self.files[n]) {
            (true, Some(row)) => row.clone(),
            _ => vec![Form::Clear],
        }
    }

    /// Every server can read what is there and what any other one writes.
    fn is_whole(&self) -> bool {
        (0..3).all(|n| {
            let reads = self.row(n);
            reads.contains(&self.stored) && (0..3).all(|m| reads.contains(&self.row(m)[0]))
        })
    }
}

#[test]
fn k3s_13598_a_profile_begins_encryption_through_every_death_with_one_key() {
    use super::{asked, next_keeping_keys};

    let wanted: std::collections::BTreeSet<String> = ["secrets".to_owned()].into();
    let mut model = Model {
        on: vec![false; 3],
        files: vec![None; 3],
        stored: Form::Clear,
    };
    let mut keys = std::collections::BTreeSet::new();
    let (mut steps, mut enabled) = (0, 0);
    loop {
        steps += 1;
        assert!(steps < 40, "{model:?}");
        assert!(model.is_whole(), "{model:?}");
        // Each step is done by a run of its own, whose new key would have another name.
        let new = key(&format!("k20261126-1754{steps:02}"));
        let asked = asked(&model.seen(), Provider::Secretbox, &wanted, &new);
        let no_file = model.files.iter().all(Option::is_none);
        assert_eq!(asked.makes_key, no_file, "{model:?}");
        match next_keeping_keys(&asked.goal, &model.seen().view()) {
            Next::Done => break,
            Next::Write { files, .. } => {
                // It dies after the first.
                let (node, rows) = files.into_iter().next().unwrap();
                let at: usize = node.trim_start_matches("cp").parse().unwrap();
                keys.extend(rows["secrets"].iter().filter(|f| !f.is_clear()).cloned());
                model.files[at - 1] = Some(rows["secrets"].clone());
            }
            Next::Enable { node } => {
                let at: usize = node.trim_start_matches("cp").parse().unwrap();
                model.on[at - 1] = true;
                enabled += 1;
            }
            Next::Rewrite { .. } => model.stored = asked.goal["secrets"].clone(),
            other => panic!("{other:?} in {model:?}"),
        }
    }
    assert_eq!((keys.len(), enabled), (1, 3));
    let only: Vec<Form> = keys.into_iter().collect();
    assert!(model.files.iter().all(|row| row.as_ref() == Some(&only)));
    assert_eq!(model.stored, only[0]);
}

#[test]
fn a_profile_keeps_the_keys_that_are_there() {
    use super::{asked, course};

    let new = key("k20270101-000000");
    let all = |names: &[&str]| -> std::collections::BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let of = |row: &[Form], stored: &Form, wanted: &[&str], provider: Provider| {
        let mut seen = seen([on(file(&["secrets"], row))], &[(stored.clone(), 2)]);
        let counted = seen.resources["secrets"].clone();
        for name in wanted {
            seen.resources.insert((*name).to_owned(), counted.clone());
        }
        let asked = asked(&seen, provider, &all(wanted), &new);
        let steps = course(&asked.goal, &seen.view()).len();
        (asked, steps)
    };
    let (old, made) = (key("by-hand"), key("k20260101-000000"));
    // A key of somebody else's, and one whose rotation has left the old one behind.
    for row in [vec![old.clone()], vec![made.clone(), old.clone()]] {
        let (asked, steps) = of(&row, &row[0], &["secrets"], Provider::Secretbox);
        assert_eq!((asked.makes_key, steps), (false, 0), "{row:?}");
        assert_eq!(asked.goal["secrets"], row[0]);
    }
    // What is added comes under the same one.
    let (asked, steps) = of(
        std::slice::from_ref(&made),
        &made,
        &["secrets", "configmaps"],
        Provider::Secretbox,
    );
    assert!(!asked.makes_key && steps > 0);
    assert_eq!(asked.goal["configmaps"], made);
    // Another provider takes another key; what the profile does not name stays.
    let (asked, _) = of(
        std::slice::from_ref(&made),
        &made,
        &["configmaps"],
        Provider::Aescbc,
    );
    assert!(asked.makes_key);
    assert_eq!(asked.goal["secrets"], made);
}
