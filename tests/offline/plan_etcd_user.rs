//! etcd under a user of its own: account, data, pod and keys together, or not at all.

use crate::plan_support::*;
use harden::cluster::Holder;
use harden::distribution::Component;
use harden::distribution::kubeadm::{Manifest, manifest_path};
use harden::fact::*;
use harden::generation::{Current, Entry, Event, Record, rollback_lookup, rollback_plan};
use harden::plan::*;
use harden::resource::*;
use serde_json::json;

const ETCD: Component = Component::Etcd;
const IDS: Ids = Ids { uid: 106, gid: 112 };
const ROOT: Ids = Ids { uid: 0, gid: 0 };
const DATA: &str = "/var/lib/etcd";
const PKI: &str = "/etc/kubernetes/pki/etcd";
const PATCH: &str = "/etc/kubernetes/harden/patches/etcd+strategic.yaml";

fn user() -> Resource {
    resource("etcd-user", json!({"account": "etcd", "data-dir": DATA}))
}

fn account() -> Query {
    Query::Account(AccountName::new("etcd").unwrap())
}

fn owners(all: &[Ids]) -> Fact<Answer> {
    Fact::Value(Answer::Owners(all.iter().copied().collect()))
}

fn stat(mode: u32) -> Fact<Answer> {
    Fact::Value(Answer::Stat(meta(FileKind::Regular, mode)))
}

fn pki(name: &str) -> Query {
    Query::Stat(path(&format!("{PKI}/{name}")))
}

/// A kubeadm node that has the account.
fn kubeadm(desired: &Desired) -> Facts {
    let mut facts = cluster(&["cp1"], desired);
    put(
        &mut facts,
        "cp1",
        account(),
        Fact::Value(Answer::Account(IDS)),
    );
    put(
        &mut facts,
        "cp1",
        Query::Owners(path(DATA)),
        owners(&[ROOT]),
    );
    let dir = Fact::Value(Answer::Stat(meta(FileKind::Directory, 0o755)));
    put(&mut facts, "cp1", Query::Stat(path(PKI)), dir);
    for key in ["server.key", "peer.key"] {
        put(&mut facts, "cp1", pki(key), stat(0o600));
    }
    facts
}

fn steps(plan: &Plan) -> Vec<&NodeStep> {
    plan.steps()
        .filter_map(|(_, step)| match step {
            Step::Node(step) => Some(step),
            _ => None,
        })
        .collect()
}

fn paths(step: &NodeStep) -> Vec<&str> {
    step.files.iter().map(|f| f.path.as_str()).collect()
}

#[test]
fn rancher_50080_data_pod_and_keys_change_in_one_transaction() {
    let desired = desired(vec![user()]);
    let mut facts = kubeadm(&desired);
    let plan = build(&desired, &facts);
    insta::assert_snapshot!(lines(&plan).join("\n"), @r"
    cp1 manifest | user of etcd: root → 106:112 with group 0 (Restart restarts)
    cp1 | owner of /var/lib/etcd and all in it: 0:0 → 106:112 (Restart)
    cp1 | mode of /etc/kubernetes/pki/etcd/server.key: 0600 root:root → 0640 root:root (Restart)
    cp1 | mode of /etc/kubernetes/pki/etcd/peer.key: 0600 root:root → 0640 root:root (Restart)
    cp1 | patch for kubeadm /etc/kubernetes/harden/patches/etcd+strategic.yaml: - → 106:112 with group 0 (Safe)
    ");
    assert_eq!(stage_names(&plan), [StageName::ControlPlane]);
    let all = steps(&plan);
    let [step] = all.as_slice() else {
        panic!("{all:?}")
    };
    // The new process finds everything as it needs it: its manifest comes last.
    assert_eq!(
        paths(step),
        [
            DATA,
            PATCH,
            "/etc/kubernetes/pki/etcd/peer.key",
            "/etc/kubernetes/pki/etcd/server.key",
            "/etc/kubernetes/manifests/etcd.yaml",
        ]
    );
    assert_eq!(
        step.files[0].before,
        FileState::Owners { owners: vec![ROOT] }
    );
    assert_eq!(step.files[0].after, FileTarget::Owner(IDS));
    let gate = step.gate.as_ref().unwrap();
    let text = manifest(&facts, "cp1", ETCD);
    let argv = Manifest::parse(&text, ETCD).unwrap().process().unwrap();
    assert_eq!(gate.processes.get(&ETCD), Some(&argv));
    assert_eq!(gate.readyz_port, Some(6443));
    assert_eq!(
        step.undo_gate.as_ref().unwrap().processes.get(&ETCD),
        Some(&argv)
    );
    // What else the manifest says of its security stays.
    let diff = plan.changes[0].diff.as_ref().unwrap();
    let changed: Vec<&str> = diff
        .lines()
        .skip(2)
        .filter(|line| line.starts_with(['+', '-']))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        changed,
        [
            "+    runAsGroup: 112",
            "+    runAsUser: 106",
            "+    supplementalGroups:",
            "+      - 0",
        ]
    );
    let FileTarget::Text { text, .. } = &step.files[1].after else {
        panic!()
    };
    insta::assert_snapshot!(text, @r"
    spec:
      securityContext:
        runAsUser: 106
        runAsGroup: 112
        supplementalGroups:
        - 0
    ");
    let [warning] = plan.problems.as_slice() else {
        panic!("{:?}", plan.problems)
    };
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.message.contains("will vanish at the next upgrade"));
    assert!(
        warning
            .remedy
            .contains("--patches /etc/kubernetes/harden/patches")
    );
    execute(&plan, &mut facts);
    let again = build(&desired, &facts);
    assert!(
        again.is_clean() && !again.is_incomplete(),
        "{:?}",
        lines(&again)
    );
    assert_eq!(
        again.problems.len(),
        1,
        "it still vanishes at the next upgrade"
    );
}

#[test]
fn without_an_account_nothing_is_changed_and_the_remedy_makes_one() {
    let desired = desired(vec![user()]);
    for (fact, why) in [
        (Fact::Absent, "the node has no account etcd"),
        (
            Fact::Value(Answer::Account(ROOT)),
            "the account etcd is that of root",
        ),
        (
            Fact::Unreadable("no right".into()),
            "the account etcd could not be read: no right",
        ),
    ] {
        let mut facts = kubeadm(&desired);
        put(&mut facts, "cp1", account(), fact.clone());
        let plan = build(&desired, &facts);
        assert!(plan.is_clean() && plan.is_incomplete());
        assert_eq!(
            problems(&plan),
            [format!("Error cp1 | user of etcd: {why}")]
        );
        if fact == Fact::Absent {
            let remedy = &plan.problems[0].remedy;
            assert!(remedy.contains("useradd --system --user-group"), "{remedy}");
        }
    }
}

/// A change of owner alone protects nothing, and the process that runs as root goes on writing.
#[test]
fn a_tree_that_is_handed_over_already_is_still_watched_while_the_pod_changes() {
    let desired = desired(vec![user()]);
    let mut facts = kubeadm(&desired);
    put(&mut facts, "cp1", Query::Owners(path(DATA)), owners(&[IDS]));
    let plan = build(&desired, &facts);
    assert_eq!(plan.changes.len(), 4, "{:?}", lines(&plan));
    assert_eq!(paths(steps(&plan)[0])[0], DATA);
}

#[test]
fn what_was_undone_since_is_done_again_without_a_restart() {
    let desired = desired(vec![user()]);
    let mut facts = kubeadm(&desired);
    execute(&build(&desired, &facts), &mut facts);
    // Somebody restored a snapshot as root, and a key was made anew.
    put(
        &mut facts,
        "cp1",
        Query::Owners(path(DATA)),
        owners(&[ROOT, IDS]),
    );
    put(&mut facts, "cp1", pki("server.key"), stat(0o600));
    let plan = build(&desired, &facts);
    assert_eq!(stage_names(&plan), [StageName::NodeFiles]);
    assert_eq!(
        lines(&plan),
        [
            "cp1 | owner of /var/lib/etcd and all in it: 0:0, 106:112 → 106:112 (Restart)",
            "cp1 | mode of /etc/kubernetes/pki/etcd/server.key: 0600 root:root → 0640 root:root (Restart)",
        ]
    );
    assert!(steps(&plan).iter().all(|step| step.gate.is_none()));
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    // The account has another number after the node was made anew.
    let other = Ids { uid: 998, gid: 998 };
    put(
        &mut facts,
        "cp1",
        account(),
        Fact::Value(Answer::Account(other)),
    );
    let plan = build(&desired, &facts);
    assert_eq!(stage_names(&plan), [StageName::ControlPlane]);
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn an_etcd_that_might_not_be_able_to_read_its_files_is_refused() {
    let desired = desired(vec![user()]);
    let manifest_query = || Query::File(manifest_path(ETCD));
    let edited = |from: &str, to: &str| {
        let facts = kubeadm(&desired);
        let text = manifest(&facts, "cp1", ETCD);
        assert!(text.contains(from));
        text.replace(from, to)
    };
    let flag = |text: &str| format!("--data-dir=/var/lib/etcd\n    - {text}");
    for (text, why) in [
        (edited("=/var/lib/etcd\n", "=/data\n"), "--data-dir=/data"),
        (
            edited("--data-dir=/var/lib/etcd", &flag("--wal-dir=/wal")),
            "--wal-dir=/wal",
        ),
        (
            edited("pki/etcd/server.key", "pki/etcd/my.key"),
            "--key-file=/etc/kubernetes/pki/etcd/my.key",
        ),
    ] {
        let mut facts = kubeadm(&desired);
        put(&mut facts, "cp1", manifest_query(), file(&text, 0o600));
        let plan = build(&desired, &facts);
        assert!(plan.is_clean() && plan.is_incomplete(), "{why}");
        assert!(problems(&plan)[0].contains(why), "{:?}", problems(&plan));
    }
    let kube = Meta {
        group: "kube-cert".into(),
        ..meta(FileKind::Regular, 0o640)
    };
    let dir = || Query::Owners(path(DATA));
    for (query, fact, why) in [
        (pki("peer.key"), Fact::Absent, "peer.key is not there"),
        (
            pki("peer.key"),
            Fact::Value(Answer::Stat(kube)),
            "belongs to root:kube-cert",
        ),
        (
            pki("ca.crt"),
            Fact::Value(Answer::Stat(meta(FileKind::Symlink, 0o777))),
            "links are not followed",
        ),
        (
            pki("ca.crt"),
            Fact::Unreadable("no right".into()),
            "could not be read",
        ),
        (dir(), Fact::Absent, "/var/lib/etcd is not there"),
        (
            dir(),
            Fact::Unreadable("no right".into()),
            "could not be read",
        ),
        (manifest_query(), Fact::Absent, "etcd.yaml is not there"),
    ] {
        let mut facts = kubeadm(&desired);
        put(&mut facts, "cp1", query, fact);
        let plan = build(&desired, &facts);
        assert!(plan.is_clean() && plan.is_incomplete(), "{why}");
        assert!(problems(&plan)[0].contains(why), "{:?}", problems(&plan));
    }
}

/// What the container says comes before what the pod says.
#[test]
fn a_containers_own_user_does_not_win() {
    let desired = desired(vec![user()]);
    let mut facts = kubeadm(&desired);
    let text = manifest(&facts, "cp1", ETCD).replace(
        "    imagePullPolicy: IfNotPresent\n",
        "    imagePullPolicy: IfNotPresent\n    securityContext:\n      runAsUser: 0\n      runAsGroup: 0\n      privileged: false\n",
    );
    put(
        &mut facts,
        "cp1",
        Query::File(manifest_path(ETCD)),
        file(&text, 0o600),
    );
    let plan = build(&desired, &facts);
    assert!(
        lines(&plan)[0].contains("0:0 → 106:112"),
        "{:?}",
        lines(&plan)
    );
    execute(&plan, &mut facts);
    let edited = manifest(&facts, "cp1", ETCD);
    assert!(edited.contains("privileged: false"), "{edited}");
    let run_as = Manifest::parse(&edited, ETCD)
        .unwrap()
        .run_as()
        .cloned()
        .unwrap();
    assert_eq!(
        (run_as.user, run_as.group, run_as.supplementary),
        (106, 112, vec![0])
    );
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn the_modes_of_other_options_make_way_and_that_is_told() {
    let keys = |pattern: &str| {
        let mut keys = resource(
            "mode",
            json!({"path": PKI, "entries": pattern, "mode": "0600"}),
        );
        keys.origins[0].option = format!("files.{pattern}");
        keys
    };
    let mut resources = vec![user(), keys("*.key"), keys("*.crt")];
    resources[0].origins[0].option = "etcd.run-as".into();
    let findings: Vec<String> = reconcile(&mut resources)
        .into_iter()
        .map(|f| f.message)
        .collect();
    assert_eq!(
        findings,
        ["ca.crt", "peer.crt", "peer.key", "server.crt", "server.key"]
            .map(|name| format!("{PKI}/{name} may have mode 0640, not 0600: etcd.run-as needs it"))
    );
    let desired = desired(resources);
    let mut facts = kubeadm(&desired);
    let found = ["ca.crt", "ca.key", "server.crt", "server.key"].map(|name| {
        let mode = if name.ends_with("key") { 0o600 } else { 0o644 };
        (name.to_owned(), meta(FileKind::Regular, mode))
    });
    put(
        &mut facts,
        "cp1",
        Query::Dir(path(PKI)),
        Fact::Value(Answer::Dir(found.into())),
    );
    let plan = build(&desired, &facts);
    assert!(!plan.is_incomplete(), "{:?}", problems(&plan));
    execute(&plan, &mut facts);
    let plan = build(&desired, &facts);
    assert!(
        plan.is_clean() && !plan.is_incomplete(),
        "{:?}",
        lines(&plan)
    );
    let Fact::Value(Answer::Dir(now)) = facts.nodes["cp1"].get(&Query::Dir(path(PKI))) else {
        panic!()
    };
    let modes: Vec<u32> = now.values().map(|meta| meta.mode).collect();
    assert_eq!(
        modes,
        [0o640, 0o600, 0o640, 0o640],
        "ca.crt, ca.key, server.crt, server.key"
    );
}

#[test]
fn a_rollback_goes_the_other_way_round() {
    let desired = desired(vec![user()]);
    let mut facts = kubeadm(&desired);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    let event = |event| Entry { at: 1, event };
    let record = Record {
        schema: harden::generation::SCHEMA.into(),
        number: 3,
        plan_sha256: plan.sha256(),
        plan: plan.clone(),
        holder: Holder {
            who: "x".into(),
            machine: "m".into(),
            pid: 1,
            start: 1,
            since: 1,
        },
        started: 1,
        journal: vec![event(Event::Begin(1)), event(Event::Done(1))],
    };
    let lookup = rollback_lookup(&record);
    assert!(lookup.nodes["cp1"].contains(&Query::Owners(path(DATA))));
    let current = |facts: &Facts| Current {
        nodes: facts.nodes.clone(),
        ..Current::default()
    };
    let undo = rollback_plan(&record, &current(&facts));
    assert_eq!(problems(&undo), [""; 0]);
    let step = steps(&undo)[0];
    let mut reversed = paths(steps(&plan)[0]);
    reversed.reverse();
    assert_eq!(paths(step), reversed, "the manifest first");
    let tree = step.files.last().unwrap();
    assert_eq!(tree.before, FileState::Owners { owners: vec![IDS] });
    let state = FileState::Owners { owners: vec![ROOT] };
    assert_eq!(
        tree.after,
        FileTarget::PreImage {
            generation: 3,
            index: 0,
            state
        }
    );
    assert_eq!(step.gate.as_ref().unwrap().processes.len(), 1);
    // A file that somebody else put there is a conflict, and the node is left alone.
    put(
        &mut facts,
        "cp1",
        Query::Owners(path(DATA)),
        owners(&[ROOT, IDS]),
    );
    let undo = rollback_plan(&record, &current(&facts));
    assert!(steps(&undo).is_empty());
    assert!(
        problems(&undo)[0].contains("all of it owned by 106:112"),
        "{:?}",
        problems(&undo)
    );
}
