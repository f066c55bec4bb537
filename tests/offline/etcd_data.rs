//! `etcd.sh` on a scratch node under each shell, with stand-ins for etcd's programs: what is kept, what is
//! removed, and what is refused. The programs themselves are those of `tests/cluster/etcd_data.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::apply_world::{HOLDER, Sandbox, each_shell};
use harden::apply::node::{Client, Code, NodeError};
use harden::apply::{EtcdError, fetch, open_restore, scan, snapshot, snapshots};
use harden::fact::clear_text::HeldIn;
use harden::fact::encryption::EtcdPrefix;
use harden::fact::sha256;
use harden::fact::snapshot::{Reason, Snapshot};
use harden::host::{Host, HostError, Limits, Output, Script, Tunnel};

/// What is asked of etcd, answered from files beside the program.
const ETCDCTL: &str = r#"#!/bin/sh
here=${0%/*}
case "$*" in
*"endpoint status"*)
    read -r revision <"$here/revision"
    printf '[{"Status":{"header":{"cluster_id":1,"member_id":2,"revision":%s,"raft_term":2},"version":"3.6.5",' "$revision"
    printf '"dbSize":1000,"leader":2,"dbSizeInUse":900}}]\n'
    ;;
*"snapshot save"*)
    [ ! -e "$here/refuses" ] || { echo 'Error: no leader' >&2; exit 1; }
    for last; do :; done
    cat "$here/content" >"$last"
    ;;
*) exit 9 ;;
esac
"#;

/// A snapshot is good when it begins with that word, and says its revision itself.
const ETCDUTL: &str = r#"#!/bin/sh
here=${0%/*}
read -r word revision <"$3"
[ "$word" = good ] || { echo 'Error: snapshot file integrity check failed' >&2; exit 1; }
case "$1 $2" in
'snapshot status') printf '{"hash":7,"revision":%s,"totalKey":3,"totalSize":1,"version":"3.6.0"}\n' "$revision" ;;
'snapshot restore')
    [ ! -e "$here/unopenable" ] || { echo 'Error: expected sha256 [1], got [2]' >&2; exit 1; }
    mkdir -p "$5/member/snap" "$5/member/wal" && cat "$3" >"$5/member/snap/db"
    ;;
*) exit 9 ;;
esac
"#;

/// A scratch node that runs etcd, as far as the script can tell.
#[derive(Clone)]
struct Member {
    node: Sandbox,
    programs: PathBuf,
}

impl Member {
    fn of(node: Sandbox) -> Self {
        let programs = node.root.join("programs");
        fs::create_dir_all(&programs).unwrap();
        let member = Member { node, programs };
        for (name, text) in [("etcdctl", ETCDCTL), ("etcdutl", ETCDUTL)] {
            member.set(name, text);
            let mode = PermissionsExt::from_mode(0o755);
            fs::set_permissions(member.programs.join(name), mode).unwrap();
        }
        member.holds(10, 10);
        member.set("cmdline", "etcd\0--name=cp1\0--data-dir=/var/lib/etcd\0");
        member.node.write("pki/healthcheck-client.key", "", 0o600);
        member
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.programs.join(name), text).unwrap();
    }

    /// etcd's revision, and that of the snapshot that it gives.
    fn holds(&self, revision: u64, of_snapshot: u64) {
        self.set("revision", &format!("{revision}\n"));
        self.set("content", &format!("good {of_snapshot}\n"));
    }

    /// Under `/var/lib/harden/etcd` of the node.
    fn store(&self) -> PathBuf {
        self.node.root.join("var-lib/harden/etcd")
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.store().join("snapshots")) else {
            return Vec::new();
        };
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// No half of a snapshot lies anywhere.
    fn has_no_rest(&self) {
        let rest = walk(&self.store());
        assert!(rest.iter().all(|path| !path.contains(".new.")), "{rest:?}");
    }

    fn take(&self, reason: Reason, keep: Option<u32>) -> Result<Snapshot, EtcdError> {
        snapshot(&mut self.clone(), reason, keep)
    }

    #[track_caller]
    fn refuses(&self, why: &str) {
        let error = self.take(Reason::Asked, None).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.remedy().is_empty());
        self.has_no_rest();
    }
}

fn walk(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        all.push(path.display().to_string());
        all.extend(walk(&path));
    }
    all
}

impl Host for Member {
    fn name(&self) -> &str {
        &self.node.name
    }

    fn run(&mut self, script: Script, stdin: &[u8], _: Limits) -> Result<Output, HostError> {
        let text = self.here(script.text);
        let script = Script {
            name: script.name,
            text: text.leak(),
        };
        Ok(self.node.run_with(":", script, stdin))
    }

    fn disconnect(&mut self) {}

    fn tunnel(&mut self, _: u16) -> Result<Tunnel, HostError> {
        unreachable!()
    }
}

/// The script itself, for what harden begins on a node by it and what goes on there.
const SCRIPT: &str = include_str!("../../src/resource/etcd_snapshots/etcd.sh");

impl Member {
    /// The script, with this node's places for those of a real one. etcd never runs, once it is to end.
    fn here(&self, text: &str) -> String {
        let programs = self.programs.display().to_string();
        let etc = self.node.root.join("etc").display().to_string();
        let mut text = text.to_owned();
        for (old, new) in [
            (
                "while process etcd || process kube-apiserver; do",
                "while false; do".to_owned(),
            ),
            ("process etcd ||", "pid=self ||".to_owned()),
            ("/proc/$1/cmdline", format!("{programs}/cmdline")),
            ("/proc/${pid:-none}/root/usr/local/bin", programs.clone()),
            ("pki=/etc/kubernetes/pki/etcd", format!("pki={etc}/pki")),
            (
                "manifests=/etc/kubernetes/manifests",
                format!("manifests={etc}/manifests"),
            ),
        ] {
            assert!(text.contains(old), "the script has no {old}");
            text = text.replace(old, &new);
        }
        text
    }

    /// What the node itself runs, beside any connection.
    fn goes(&self, way: &str) {
        let text = self.here(SCRIPT);
        let args = ["-c", &text, "harden", "run", way];
        let output = self.node.spawn(":", &args).wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }

    /// A restore of this node, as it is at one of its states.
    fn restoring(&self, state: &str) {
        let dir = self.store().join("restore");
        fs::create_dir_all(dir.join("manifests")).unwrap();
        let plan = "snapshot 20200101T000000Z\ndata /var/lib/etcd\nnew /var/lib/etcd/.harden.restore.20200102T000000Z\n\
                    old /var/lib/etcd/member.before-20200102T000000Z\nseconds 0\n";
        fs::write(dir.join("plan"), plan).unwrap();
        fs::write(dir.join("state"), format!("{state}\n")).unwrap();
        for word in ["commit", "revert"] {
            fs::write(dir.join(format!("decide-{word}")), format!("{word}\n")).unwrap();
        }
    }

    fn state(&self) -> String {
        fs::read_to_string(self.store().join("restore/state")).unwrap()
    }

    /// Writes under `/var/lib/etcd` of the node.
    fn data(&self, name: &str, text: &str) {
        let path = self.node.root.join("var-lib/etcd").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn data_of(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.node.root.join("var-lib/etcd").join(name)).ok()
    }
}

#[test]
fn a_snapshot_is_verified_private_and_listed() {
    each_shell(|node| {
        let member = Member::of(node);
        let taken = member.take(Reason::Asked, None).unwrap();
        assert_eq!((taken.revision, taken.hash, taken.keys), (10, 7, 3));
        assert_eq!(taken.sha256, sha256("good 10\n"));
        assert!(taken.whole);
        let dir = member.store().join("snapshots").join(taken.name.as_str());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&dir), mode(&dir.join("db"))), (0o700, 0o600));
        assert_eq!(
            snapshots(&mut member.clone()).unwrap(),
            std::slice::from_ref(&taken)
        );
        let mut came = Vec::new();
        fetch(&mut member.clone(), &taken, &mut |part| {
            came.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        assert_eq!(came, b"good 10\n");
        member.has_no_rest();
        // Of one whose file was cut it is said.
        fs::write(dir.join("db"), "good").unwrap();
        assert!(!snapshots(&mut member.clone()).unwrap()[0].whole);
    });
}

#[test]
fn what_is_not_whole_is_no_snapshot() {
    each_shell(|node| {
        let member = Member::of(node);
        member.set("content", "bad 10\n");
        member.refuses("integrity check failed");
        member.holds(11, 10);
        member.refuses("of revision 10, and etcd had 11");
        member.holds(10, 10);
        member.set("unopenable", "");
        member.refuses("cannot be opened");
        fs::remove_file(member.programs.join("unopenable")).unwrap();
        member.set("refuses", "");
        member.refuses("no leader");
        fs::remove_file(member.programs.join("refuses")).unwrap();
        // More than any disk has: nothing is even asked for.
        let large = ETCDCTL.replace("\"dbSize\":1000,", "\"dbSize\":100000000000000000,");
        member.set("etcdctl", &large);
        member.refuses("MiB are needed; nothing was written");
        assert_eq!(member.names(), [""; 0]);
    });
}

#[test]
fn only_its_own_oldest_snapshots_of_one_reason_are_removed() {
    each_shell(|node| {
        let member = Member::of(node);
        member.take(Reason::Asked, None).unwrap();
        let store = member.store().join("snapshots");
        // By older names: what another reason has, and what others have put there.
        let copy = |name: &str, reason: &str| {
            let dir = store.join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("db"), "good 10\n").unwrap();
            let taken = store.join(member.names().last().unwrap()).join("info");
            let info = fs::read_to_string(taken).unwrap();
            fs::write(dir.join("info"), info.replace("reason asked", reason)).unwrap();
        };
        copy("20200101T000000Z", "reason asked");
        copy("20200101T000001Z", "reason asked");
        copy("20200101T000002Z", "reason apply");
        copy("20200101T000003Z", "reason schedule");
        fs::write(store.join("20200101T000001Z/note"), "mine").unwrap();
        for name in ["backup", "20190101T000000Z", "20190101"] {
            fs::create_dir(store.join(name)).unwrap();
            fs::write(store.join(name).join("db"), "somebody's").unwrap();
        }
        let outside = member.node.root.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("info"), "harden-snapshot 1\nreason asked\n").unwrap();
        std::os::unix::fs::symlink(&outside, store.join("20180101T000000Z")).unwrap();

        let taken = member.take(Reason::Asked, Some(1)).unwrap();
        let names = member.names();
        let left: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            left,
            [
                "20180101T000000Z",
                "20190101",
                "20190101T000000Z",
                // Its snapshot is gone, and what somebody has put there is not.
                "20200101T000001Z",
                "20200101T000002Z",
                "20200101T000003Z",
                taken.name.as_str(),
                "backup",
            ]
        );
        assert!(outside.join("info").exists());
        assert!(store.join("20200101T000001Z/note").exists());
        assert!(!store.join("20200101T000001Z/db").exists());
        let listed = snapshots(&mut member.clone()).unwrap();
        let reasons: Vec<Reason> = listed.iter().map(|s| s.reason).collect();
        assert_eq!(reasons, [Reason::Apply, Reason::Schedule, Reason::Asked]);
    });
}

#[test]
fn what_was_just_taken_stays_where_the_clock_went_back() {
    each_shell(|node| {
        let member = Member::of(node);
        let first = member.take(Reason::Asked, None).unwrap();
        let store = member.store().join("snapshots");
        fs::rename(
            store.join(first.name.as_str()),
            store.join("29990101T000000Z"),
        )
        .unwrap();
        let taken = member.take(Reason::Asked, Some(1)).unwrap();
        assert_eq!(member.names(), [taken.name.as_str()]);
    });
}

#[test]
fn a_tool_that_a_killed_run_left_half_kept_is_kept_whole() {
    each_shell(|node| {
        let member = Member::of(node);
        fs::create_dir_all(member.store()).unwrap();
        let kept = member.store().join("etcdutl");
        fs::write(&kept, ETCDUTL).unwrap();
        fs::set_permissions(&kept, PermissionsExt::from_mode(0o600)).unwrap();
        member.take(Reason::Asked, None).unwrap();
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    });
}

#[test]
fn what_was_written_on_restored_data_is_never_deleted() {
    each_shell(|node| {
        let member = Member::of(node);
        // The node restarted when it waited: everything runs, on the restored data, for a week.
        member.restoring("waiting");
        member.data("member/snap/db", "a week");
        member.data("member.before-20200102T000000Z/snap/db", "old");
        // Of an earlier one that was put back.
        member.data("member.undone-20200102T000000Z/snap/db", "another week");
        member.node.write("manifests/etcd.yaml", "etcd", 0o600);
        let open = open_restore(&mut member.clone()).unwrap().unwrap();
        assert!(!open.alive);
        for words in [
            "a restore of 20200101T000000Z",
            "would be lost",
            "/var/lib/etcd/member.before-20200102T000000Z",
            "docs/etcd.md",
        ] {
            assert!(open.what.contains(words), "{}", open.what);
        }

        member.goes("back");
        assert_eq!(member.state(), "reverted\n");
        let data = |name: &str| member.data_of(&format!("{name}/snap/db"));
        assert_eq!(data("member").as_deref(), Some("old"));
        let aside = "member.undone-20200102T000000Z";
        assert_eq!(data(aside).as_deref(), Some("another week"));
        assert_eq!(data(&format!("{aside}-2")).as_deref(), Some("a week"));
        assert_eq!(
            member.node.read("manifests/etcd.yaml").as_deref(),
            Some("etcd")
        );
        let told = fs::read_to_string(member.store().join("restore/undone")).unwrap();
        assert_eq!(told, format!("/var/lib/etcd/{aside}-2\n"));
        assert_eq!(open_restore(&mut member.clone()).unwrap(), None);
    });
}

#[test]
fn a_restore_goes_once_and_only_from_its_beginning() {
    each_shell(|node| {
        let member = Member::of(node);
        member.data("member/snap/db", "old");
        let untouched = || {
            assert_eq!(member.data_of("member/snap/db").as_deref(), Some("old"));
            assert_eq!(
                member.node.read("manifests/etcd.yaml").as_deref(),
                Some("etcd")
            );
        };
        member.node.write("manifests/etcd.yaml", "etcd", 0o600);
        member.data(".harden.restore.20200102T000000Z/member/snap/db", "new");
        let rest = |name: &str| member.store().join("restore").join(name);
        for state in ["waiting", "reverted", "reverting"] {
            member.restoring(state);
            member.goes("go");
            assert_eq!(member.state(), format!("{state}\n"));
            untouched();
            fs::remove_dir(rest("going")).unwrap();
            fs::remove_file(rest("runs")).unwrap();
        }
        member.restoring("prepared");
        fs::create_dir(rest("going")).unwrap();
        member.goes("go");
        assert_eq!(member.state(), "prepared\n");
        untouched();
        // Nothing hinders it now; nobody confirms, and it goes back.
        fs::remove_dir(rest("going")).unwrap();
        fs::remove_file(rest("runs")).unwrap();
        member.goes("go");
        assert_eq!(member.state(), "reverted\n");
        untouched();
        assert_eq!(
            member
                .data_of("member.undone-20200102T000000Z/snap/db")
                .as_deref(),
            Some("new")
        );
    });
}

#[test]
fn nobody_changes_a_node_on_which_a_restore_is_open() {
    each_shell(|node| {
        let member = Member::of(node.clone());
        for state in [
            "prepared",
            "stopping",
            "swapping",
            "starting",
            "waiting",
            "reverting",
        ] {
            member.restoring(state);
            let mut host = node.clone();
            let refused = Client::new(&mut host, HOLDER).lock(HOLDER, None);
            match refused {
                Err(NodeError::Refused {
                    code: Code::Restoring,
                    message,
                    ..
                }) => {
                    assert!(message.contains(state), "{message}");
                }
                other => panic!("{other:?}"),
            }
            // Who ends it takes turns like everybody.
            let mut client = Client::new(&mut host, HOLDER);
            client.lock_to_end_restore(HOLDER, None).unwrap();
            let other = r#"{"who":"other"}"#;
            let mut second = node.clone();
            let mut second = Client::new(&mut second, other);
            match second.lock_to_end_restore(other, None) {
                Err(NodeError::Refused {
                    code: Code::Locked,
                    message,
                    ..
                }) => {
                    second.lock_to_end_restore(other, Some(&message)).unwrap();
                    second.unlock().unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        for state in ["committed", "reverted"] {
            member.restoring(state);
            let mut host = node.clone();
            let mut client = Client::new(&mut host, HOLDER);
            client.lock(HOLDER, None).unwrap();
            client.unlock().unwrap();
        }
    });
}

#[test]
fn one_of_several_members_is_not_restored_beside_the_others() {
    each_shell(|node| {
        let member = Member::of(node);
        let snapshot = member.take(Reason::Asked, None).unwrap();
        let etcdutl = format!("{ETCDUTL}# --bump-revision\n").replace(
            "read -r word",
            "case \"$*\" in *--help*) echo --bump-revision; exit ;; esac\nread -r word",
        );
        member.set("etcdutl", &etcdutl);
        member.data("member/snap/db", "old");
        member
            .node
            .write("manifests/kube-apiserver.yaml", "", 0o600);
        let manifest = "    - --name=cp1\n    - --initial-advertise-peer-urls=https://10.0.0.1:2380\n    \
                        - --data-dir=/var/lib/etcd\n    - --initial-cluster=cp1=https://10.0.0.1:2380";
        let asked = |more: &str| {
            let manifest = format!("{manifest}{more}\n");
            member.node.write("manifests/etcd.yaml", &manifest, 0o600);
            let text = member
                .here(SCRIPT)
                .replace("    process etcd\n", "    pid=\n")
                .leak();
            let script = Script { name: "etcd", text };
            // The sum is none of this script's: it is refused at the last moment.
            let header = format!("harden-etcd 1 7 restore {} 1 1 0\n", snapshot.name);
            let output = member.node.run_with(":", script, header.as_bytes());
            String::from_utf8(output.stdout).unwrap()
        };
        let said = asked(",cp2=https://10.0.0.2:2380");
        assert!(said.contains("error members "), "{said}");
        assert!(!member.store().join("restore").exists());
        let said = asked("");
        assert!(said.contains("the script arrived damaged"), "{said}");
    });
}

#[test]
fn what_a_killed_run_left_goes_and_what_one_works_on_stays() {
    each_shell(|node| {
        let member = Member::of(node);
        let store = member.store();
        let start = fs::read_to_string("/proc/self/stat").unwrap();
        let start = start
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .nth(19)
            .unwrap();
        for (name, runs) in [
            (".new.1", String::new()),
            (".new.2", format!("{} 17\n", std::process::id())),
            (".new.3", format!("{} {start}\n", std::process::id())),
        ] {
            fs::create_dir_all(store.join(name)).unwrap();
            fs::write(store.join(name).join("runs"), runs).unwrap();
        }
        member.take(Reason::Asked, None).unwrap();
        let left = |name: &str| store.join(name).exists();
        assert!(!left(".new.1") && !left(".new.2") && left(".new.3"));
    });
}

/// A number as protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn text(tag: u8, text: &[u8]) -> Vec<u8> {
    [&[tag], &varint(text.len() as u64)[..], text].concat()
}

/// What a database holds of an object: etcd's `KeyValue`.
fn in_database(key: &str, revisions: [u64; 3], value: &[u8]) -> Vec<u8> {
    let mut bytes = text(0x0a, key.as_bytes());
    for (tag, revision) in [0x10, 0x18, 0x20].into_iter().zip(revisions) {
        bytes.push(tag);
        bytes.extend(varint(revision));
    }
    bytes.extend(text(0x2a, value));
    bytes
}

/// What a write-ahead log holds of it: etcd's `PutRequest`.
fn in_log(key: &str, value: &[u8]) -> Vec<u8> {
    [text(0x0a, key.as_bytes()), text(0x12, value)].concat()
}

#[test]
fn what_lies_in_clear_is_counted_wherever_it_lies() {
    const SECRET: &[u8] = b"k8s\0\n\x0c\n\x02v1\x12\x06Secret\x12\x20\n\x10canary";
    const SEALED: &[u8] = b"k8s:enc:secretbox:v1:key1:k8s\0 canary";
    const WINDOW: usize = 4 << 20;
    let secret = |name: &str| format!("/registry/secrets/ns/{name}");
    let prefix = |text: &str| EtcdPrefix::new(text).unwrap();
    // Nothing of a database's pages is known to the scan; so anything may stand between.
    let mut database = Vec::new();
    let mut all = 0;
    // Numbers whose bytes are newlines, zeros and letters that mean something elsewhere.
    for number in [
        1,
        10,
        42,
        128,
        1280,
        0x0a0a,
        5_376,
        1_000_000_010,
        u64::from(u32::MAX),
    ] {
        database.extend(in_database(
            &secret("a.b-c"),
            [number, number + 1, 10],
            SECRET,
        ));
        database.extend(in_database(
            &secret("d"),
            [number; 3],
            &[SECRET, &[b'x'; 2560]].concat(),
        ));
        database.extend(in_database(&secret("sealed"), [number; 3], SEALED));
        all += 2;
    }
    // Objects of others, keys without a value, and a value without its key.
    database.extend(in_database("/registry/secretsother/ns/a", [7; 3], SECRET));
    database.extend(in_database(
        "/registry/configmaps/ns/a",
        [7; 3],
        b"k8s\0\n\x0c",
    ));
    database.extend(text(0x0a, secret("gone").as_bytes()));
    database.extend(SECRET);
    database.extend(in_database(
        "/registry/secret/x",
        [7; 3],
        b"/registry/secrets/ns/a k8s\0",
    ));
    // As JSON, as resources of others are stored.
    database.extend(in_database(
        &secret("json"),
        [7; 3],
        b"{\"apiVersion\":\"v1\"}",
    ));
    all += 1;
    // At and across the edges of what is read at once, each byte of it.
    let one = in_database(&secret("edge"), [300, 300, 10], SECRET);
    let mut large = database.clone();
    for edge in 1..=2 {
        large.resize(edge * WINDOW - one.len() - 2 * edge, 0);
        large.extend(&one);
        large.extend(&one);
        large.extend(&one);
    }
    each_shell(|node| {
        let member = Member::of(node);
        let dir = member.node.root.join("var-lib/etcd");
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("member/snap/db", &large);
        let log = [
            in_log(&secret("a"), SECRET),
            in_log(&secret("b"), SEALED),
            vec![0; 1 << 20],
        ];
        put("member/wal/0-0.wal", &log.concat());
        put("member/wal/1-1.wal", &in_log(&secret("b"), SEALED));
        put("member.before-20200101T000000Z/snap/db", &database);
        put("member.undone-20200101T000000Z/snap/db", &database);
        member.set("content", "good 10\n");
        member.take(Reason::Asked, None).unwrap();
        let prefixes = [
            prefix("/registry/secrets/"),
            prefix("/registry/configmaps/"),
        ];
        let found = scan(&mut member.clone(), prefixes.clone()).unwrap();
        let counts: Vec<(HeldIn, &str, u64)> = found
            .iter()
            .map(|file| {
                let count = file.clear.get(&prefixes[0]).copied().unwrap_or(0);
                (file.held_in, file.name.as_str(), count)
            })
            .collect();
        let snapshot = member.names().pop().unwrap();
        assert_eq!(
            counts,
            [
                (HeldIn::Database, "db", all + 6),
                (HeldIn::Wal, "0-0.wal", 1),
                (HeldIn::Wal, "1-1.wal", 0),
                (HeldIn::Old, "member.before-20200101T000000Z/db", all),
                (HeldIn::Old, "member.undone-20200101T000000Z/db", all),
                (HeldIn::Snapshot, snapshot.as_str(), 0),
            ]
        );
        assert_eq!(found[0].clear[&prefixes[1]], 1);
        // Only counts leave the node.
        assert!(!format!("{found:?}").contains("canary"));
    });
}
