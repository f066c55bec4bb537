//! Modes and owners of what is in a directory, and of paths that lead over symbolic links.

use crate::plan_support::*;
use harden::distribution::kubeadm::MANIFESTS_DIR;
use harden::fact::*;
use harden::plan::*;
use harden::resource::mode::Pattern;
use harden::resource::*;
use serde_json::json;

const KEYS: &str = "/etc/kubernetes/pki";

fn keys() -> Resource {
    entries(
        KEYS,
        "*.key",
        json!({"mode": "0600", "owner": "root", "group": "root"}),
    )
}

fn entries(dir: &str, pattern: &str, more: serde_json::Value) -> Resource {
    let mut table = json!({"path": dir, "entries": pattern});
    for (key, value) in more.as_object().unwrap() {
        table[key] = value.clone();
    }
    let mut resource = resource("mode", table);
    resource.risk = Risk::Safe;
    resource
}

fn listing(entries: &[(&str, FileKind, u32, &str)]) -> Fact<Answer> {
    let entries = entries.iter().map(|(name, kind, mode, owner)| {
        let owner = (*owner).to_owned();
        let group = owner.clone();
        let meta = Meta {
            owner,
            group,
            ..meta(*kind, *mode)
        };
        ((*name).to_owned(), meta)
    });
    Fact::Value(Answer::Dir(entries.collect()))
}

fn dir(path_text: &str) -> Query {
    Query::Dir(path(path_text))
}

use FileKind::{Directory, Other, Regular, Symlink};

/// A directory of keys as it should not be.
const WRONG: &[(&str, FileKind, u32, &str)] = &[
    ("apiserver.crt", Regular, 0o666, "root"),
    ("apiserver.key", Regular, 0o644, "root"),
    ("ca.key", Regular, 0o400, "root"),
    ("dir.key", Directory, 0o755, "root"),
    ("fifo.key", Other, 0o666, "root"),
    ("link.key", Symlink, 0o777, "root"),
    ("sa.key", Regular, 0o600, "kube"),
];

#[test]
fn every_entry_that_is_wider_than_wanted_is_one_change_on_its_own_path() {
    let desired = desired(vec![keys()]);
    let mut facts = cluster(&["cp1"], &desired);
    put(&mut facts, "cp1", dir(KEYS), listing(WRONG));
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    assert_eq!(
        lines(&plan),
        [
            "cp1 | mode of /etc/kubernetes/pki/apiserver.key: 0644 root:root → 0600 root:root (Safe)",
            "cp1 | mode of /etc/kubernetes/pki/sa.key: 0600 kube:kube → 0600 root:root (Safe)",
        ]
    );
    let Step::Node(step) = plan.steps().next().unwrap().1 else {
        panic!()
    };
    let paths: Vec<&str> = step.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/etc/kubernetes/pki/apiserver.key",
            "/etc/kubernetes/pki/sa.key"
        ]
    );
    let kube = FileState::Mode {
        mode: 0o600,
        owner: "kube".into(),
        group: "kube".into(),
    };
    assert_eq!(step.files[1].before, kube);
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn an_owner_alone_concerns_directories_as_well() {
    let desired = desired(vec![entries(
        KEYS,
        "*",
        json!({"owner": "root", "group": "root"}),
    )]);
    let mut facts = cluster(&["cp1"], &desired);
    let found = [
        ("etcd", Directory, 0o755, "kube"),
        ("link", Symlink, 0o777, "kube"),
        ("sa.key", Regular, 0o644, "kube"),
    ];
    put(&mut facts, "cp1", dir(KEYS), listing(&found));
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "cp1 | mode of /etc/kubernetes/pki/etcd: 0755 kube:kube → 0755 root:root (Safe)",
            "cp1 | mode of /etc/kubernetes/pki/sa.key: 0644 kube:kube → 0644 root:root (Safe)",
        ]
    );
}

#[test]
fn one_level_below_is_reached_and_no_further() {
    let networks = "/var/lib/cni/networks";
    let desired = desired(vec![entries(networks, "*/*", json!({"mode": "0600"}))]);
    let mut facts = cluster(&["cp1"], &desired);
    let found = [
        ("kindnet/10.244.0.2", Regular, 0o644, "root"),
        ("kindnet/lock", Regular, 0o600, "root"),
        ("other/sub", Directory, 0o755, "root"),
    ];
    put(
        &mut facts,
        "cp1",
        Query::Below(path(networks)),
        listing(&found),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "cp1 | mode of /var/lib/cni/networks/kindnet/10.244.0.2: 0644 root:root → 0600 root:root (Safe)"
        ]
    );
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

/// Files come and go in such a directory between `plan` and `apply`.
#[test]
fn a_new_entry_makes_a_plan_stale_only_when_it_is_wrong() {
    let desired = desired(vec![keys()]);
    let mut facts = cluster(&["cp1"], &desired);
    put(&mut facts, "cp1", dir(KEYS), listing(WRONG));
    let plan = build(&desired, &facts);
    let moved = |entries: Fact<Answer>| {
        let mut now = facts.clone();
        put(&mut now, "cp1", dir(KEYS), entries);
        compare(&plan, &now).moved
    };
    let stale = ["cp1: mode and owner of /etc/kubernetes/pki/*.key"];
    let with = |more: &[(&'static str, FileKind, u32, &'static str)]| {
        let mut all = WRONG.to_vec();
        all.retain(|(name, ..)| !more.iter().any(|(other, ..)| other == name));
        all.extend(more);
        listing(&all)
    };
    assert_eq!(moved(listing(WRONG)), [""; 0]);
    // What is right already, or is no concern of it, may come, go and change.
    assert_eq!(moved(with(&[("new.key", Regular, 0o600, "root")])), [""; 0]);
    assert_eq!(moved(with(&[("new.crt", Regular, 0o777, "x")])), [""; 0]);
    assert_eq!(moved(with(&[("ca.key", Regular, 0o600, "root")])), [""; 0]);
    let without_ca: Vec<_> = WRONG.iter().filter(|e| e.0 != "ca.key").copied().collect();
    assert_eq!(moved(listing(&without_ca)), [""; 0]);
    // What the plan changes, or would have changed, may not.
    assert_eq!(moved(with(&[("new.key", Regular, 0o644, "root")])), stale);
    assert_eq!(moved(with(&[("ca.key", Regular, 0o644, "root")])), stale);
    assert_eq!(moved(with(&[("sa.key", Regular, 0o666, "kube")])), stale);
    let without_sa: Vec<_> = WRONG.iter().filter(|e| e.0 != "sa.key").copied().collect();
    assert_eq!(moved(listing(&without_sa)), stale);
    assert_eq!(moved(Fact::Absent), stale);
    // Not to know is neither.
    let mut blind = facts.clone();
    put(
        &mut blind,
        "cp1",
        dir(KEYS),
        Fact::Unreadable("no right".into()),
    );
    let found = compare(&plan, &blind);
    assert_eq!(found.moved, [""; 0]);
    assert_eq!(found.unread.len(), 1, "{:?}", found.unread);
}

#[test]
fn a_directory_that_is_not_there_is_no_difference_and_may_come_to_be() {
    let desired = desired(vec![keys()]);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && !plan.is_incomplete());
    let mut now = facts.clone();
    put(
        &mut now,
        "cp1",
        dir(KEYS),
        listing(&[("a.key", Regular, 0o600, "root")]),
    );
    assert_eq!(compare(&plan, &now).moved, [""; 0]);
    put(
        &mut now,
        "cp1",
        dir(KEYS),
        listing(&[("a.key", Regular, 0o640, "root")]),
    );
    assert_eq!(compare(&plan, &now).moved.len(), 1);
}

#[test]
fn what_cannot_be_listed_or_named_is_an_error() {
    let desired = desired(vec![keys()]);
    let mut facts = cluster(&["cp1"], &desired);
    put(
        &mut facts,
        "cp1",
        dir(KEYS),
        Fact::Unreadable("no right".into()),
    );
    let plan = build(&desired, &facts);
    assert_eq!(
        problems(&plan),
        [
            "Error cp1 | mode of /etc/kubernetes/pki/*.key: mode and owner of /etc/kubernetes/pki could not be read: no right"
        ]
    );
    assert!(plan.basis.is_empty(), "nothing rests on what is not known");
    for name in ["\\xff.key", "a\nb.key"] {
        put(
            &mut facts,
            "cp1",
            dir(KEYS),
            listing(&[(name, Regular, 0o600, "root")]),
        );
        let plan = build(&desired, &facts);
        assert!(plan.is_clean() && plan.is_incomplete(), "{name:?}");
        assert!(problems(&plan)[0].contains("cannot be changed"), "{name:?}");
    }
}

/// A manifest that is edited anyway gets its mode with the edit: one action a path.
#[test]
fn the_mode_of_a_manifest_goes_with_its_edit() {
    let manifests = entries(MANIFESTS_DIR, "*", json!({"mode": "0600"}));
    let desired = desired(vec![flag("profiling", false), manifests]);
    let mut facts = cluster(&["cp1"], &desired);
    let api = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let found = [
        ("etcd.yaml", Regular, 0o644, "root"),
        ("kube-apiserver.yaml", Regular, 0o644, "root"),
    ];
    put(&mut facts, "cp1", dir(MANIFESTS_DIR), listing(&found));
    let text = manifest(&facts, "cp1", API);
    put(
        &mut facts,
        "cp1",
        Query::File(path(api)),
        file(&text, 0o644),
    );
    let plan = build(&desired, &facts);
    assert_eq!(plan.changes.len(), 5, "{:?}", lines(&plan));
    assert_eq!(
        stage_names(&plan),
        [
            StageName::NodeFiles,
            StageName::ControlPlane,
            StageName::KubeadmConfig
        ]
    );
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    // A manifest that comes meanwhile and is as it should be is for the warning about strays.
    let plan = build(&desired, &facts);
    let mut now = facts.clone();
    let more = [
        ("etcd.yaml", Regular, 0o600, "root"),
        ("kube-apiserver.yaml", Regular, 0o600, "root"),
        ("mine.yaml", Regular, 0o600, "root"),
    ];
    put(&mut now, "cp1", dir(MANIFESTS_DIR), listing(&more));
    assert_eq!(compare(&plan, &now).moved, [""; 0]);
}

/// Where /lib is a link to /usr/lib, a unit has two names and is one file.
#[test]
fn a_path_over_a_link_is_no_second_change_of_one_file() {
    let unit = |dir: &str| {
        resource(
            "mode",
            json!({"path": format!("{dir}/systemd/system/kubelet.service"), "mode": "0600", "linked": "ignore"}),
        )
    };
    let desired = desired(vec![unit("/lib"), unit("/usr/lib")]);
    let mut facts = cluster(&["cp1"], &desired);
    let stat = |text: &str| Query::Stat(path(text));
    for text in [
        "/lib",
        "/lib/systemd",
        "/lib/systemd/system",
        "/usr",
        "/usr/lib",
        "/usr/lib/systemd",
        "/usr/lib/systemd/system",
    ] {
        put(
            &mut facts,
            "cp1",
            stat(text),
            Fact::Value(Answer::Stat(meta(Directory, 0o755))),
        );
    }
    // Two directories: two files.
    let plan = build(&desired, &facts);
    assert_eq!((plan.changes.len(), problems(&plan).len()), (2, 0));
    let link = Fact::Value(Answer::Stat(meta(Symlink, 0o777)));
    put(&mut facts, "cp1", stat("/lib"), link.clone());
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "cp1 | mode of /usr/lib/systemd/system/kubelet.service: 0644 root:root → 0600 root:root (Restart)"
        ]
    );
    assert_eq!(problems(&plan), [""; 0]);
    // A unit that is masked is a link itself.
    put(
        &mut facts,
        "cp1",
        stat("/usr/lib/systemd/system/kubelet.service"),
        link.clone(),
    );
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && !plan.is_incomplete());
    // Elsewhere a link in the place of the file is still an error.
    let usual = crate::plan_support::desired(vec![resource(
        "mode",
        json!({"path": "/etc/a", "mode": "0600"}),
    )]);
    let mut facts = cluster(&["cp1"], &usual);
    put(&mut facts, "cp1", stat("/etc/a"), link);
    assert!(build(&usual, &facts).is_incomplete());
}

#[test]
fn patterns() {
    let pattern = |text: &str| Pattern::try_from(text.to_owned());
    for wrong in [
        "", "a", "**", "*.*", "a/*", "*/*/*", "../*", "*/..", "[a]*", "?*", "a\\*", "*\n",
    ] {
        assert!(pattern(wrong).is_err(), "{wrong:?}");
    }
    let cases = [
        ("*", "anything", true),
        ("*", ".hidden", true),
        ("*", "a/b", false),
        ("*.key", "a.key", true),
        ("*.key", ".key", true),
        ("*.key", "a.key.bak", false),
        ("ca*.crt", "ca.crt", true),
        ("aa*aa", "aaa", false),
        ("*/*.conf", "a/b.conf", true),
        ("*/*.conf", "b.conf", false),
        ("*/*", "a/b/c", false),
    ];
    for (text, name, is) in cases {
        let pattern = pattern(text).unwrap();
        assert_eq!(pattern.matches(name), is, "{text} {name}");
        assert_eq!(pattern.to_string(), text);
    }
    let table = |value| Kind::from_table("mode", value).unwrap_err();
    let why = table(json!({"path": "/etc", "entries": "a", "mode": "0600"}));
    assert!(why.starts_with("entries: \"a\" is no pattern"), "{why}");
    let why = table(json!({"path": "/etc", "entries": "*", "mode": "0600", "linked": "ignore"}));
    assert!(why.starts_with("linked:"), "{why}");
}
