//! `transaction.sh` for real: a whole tree given to another user, and every path of it back.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::time::{Duration, Instant};

use crate::apply_world::{HOLDER, Sandbox, scratch, stage};
use harden::apply::node::{Client, Code, Id, NodeError, SCRIPT, State};
use harden::fact::Ids;
use harden::plan::{FileAction, FileState, FileTarget};

const ID: Id = Id {
    generation: 1,
    step: 1,
};
const LONG: Duration = Duration::from_secs(600);
const ROOT: Ids = Ids { uid: 0, gid: 0 };
const ETCD: Ids = Ids { uid: 106, gid: 112 };
const OTHER: Ids = Ids { uid: 7, gid: 0 };

/// Under each shell, as root; nobody else may give files away.
fn each_shell(test: impl Fn(Sandbox)) {
    let root = std::process::Command::new("id").arg("-u").output().unwrap();
    assert_eq!(
        root.stdout, b"0\n",
        "these tests need root: run them in a container"
    );
    crate::apply_world::each_shell(test);
}

/// A data directory as etcd has it when it runs as root, with some oddities.
fn data(node: &Sandbox) {
    for name in [
        "member/wal/0.wal",
        "member/snap/db",
        "member/snap/a b ",
        "[x] *",
    ] {
        node.write(&format!("data/{name}"), name, 0o600);
    }
    node.write("outside", "not etcd's", 0o644);
    symlink(
        node.path("outside").as_str(),
        node.root.join("etc/data/link"),
    )
    .unwrap();
    let odd = node.root.join("etc/data/member/snap/a b ");
    lchown(odd, Some(OTHER.uid), Some(OTHER.gid)).unwrap();
    node.write("manifests/etcd.yaml", "as root", 0o600);
}

fn tree(node: &Sandbox, before: &[Ids]) -> FileAction {
    FileAction {
        path: node.path("data"),
        before: FileState::Owners {
            owners: before.to_vec(),
        },
        after: FileTarget::Owner(ETCD),
    }
}

fn handover(node: &Sandbox) -> Vec<FileAction> {
    data(node);
    vec![
        tree(node, &[ROOT, OTHER]),
        node.set("manifests/etcd.yaml", "as etcd"),
    ]
}

fn owner(node: &Sandbox, name: &str) -> Ids {
    let meta = node.root.join("etc").join(name).symlink_metadata().unwrap();
    Ids {
        uid: meta.uid(),
        gid: meta.gid(),
    }
}

const ALL: [&str; 8] = [
    "data",
    "data/member",
    "data/member/wal",
    "data/member/wal/0.wal",
    "data/member/snap/db",
    "data/member/snap/a b ",
    "data/[x] *",
    "data/link",
];

fn code(result: Result<(), NodeError>) -> (Code, String) {
    match result {
        Err(NodeError::Refused { code, message, .. }) => (code, message),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[track_caller]
fn eventually(ask: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn all_of_a_tree_is_handed_over_and_each_path_goes_back_to_whom_it_belonged() {
    each_shell(|mut node| {
        let files = handover(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        assert_eq!(node.tree(), before, "staging changes nothing");
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        for name in ALL {
            assert_eq!(owner(&node, name), ETCD, "{name}");
        }
        assert_eq!(owner(&node, "outside"), ROOT, "no link is followed");
        assert_eq!(node.read("manifests/etcd.yaml").unwrap(), "as etcd");
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, false, "the gate stayed shut").unwrap();
        assert_eq!(node.tree(), before);
    });
}

/// rancher/rancher#50080: etcd was given another user, and stopped at a file that had not been handed
/// over. The old etcd runs as root and writes until the kubelet has ended it.
#[test]
fn rancher_50080_what_the_old_etcd_still_writes_is_handed_over_too() {
    each_shell(|mut node| {
        let files = handover(&node);
        stage(&mut node, ID, &files).unwrap();
        Client::new(&mut node, HOLDER).activate(ID, LONG).unwrap();
        node.write("data/member/wal/1.wal", "by the old etcd", 0o600);
        assert_eq!(owner(&node, "data/member/wal/1.wal"), ROOT);
        // Nobody connects: the node does it by itself, so that the new etcd can start.
        eventually(|| owner(&node, "data/member/wal/1.wal") == ETCD);
        // And one that comes at the last moment is not left behind.
        node.write("data/member/snap/tmp/new", "by the old etcd", 0o600);
        Client::new(&mut node, HOLDER).commit(ID).unwrap();
        for name in ["data/member/snap/tmp", "data/member/snap/tmp/new"] {
            assert_eq!(owner(&node, name), ETCD, "{name}");
        }
        // What did not exist before goes to the owner of the tree.
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, true, "another node failed").unwrap();
        for name in ["data", "data/member/wal/1.wal", "data/member/snap/tmp/new"] {
            assert_eq!(owner(&node, name), ROOT, "{name}");
        }
        assert_eq!(owner(&node, "data/member/snap/a b "), OTHER);
        assert_eq!(owner(&node, "outside"), ROOT);
    });
}

#[test]
fn a_file_that_is_gone_meanwhile_hinders_no_way_back() {
    each_shell(|mut node| {
        let files = handover(&node);
        stage(&mut node, ID, &files).unwrap();
        Client::new(&mut node, HOLDER).activate(ID, LONG).unwrap();
        std::fs::remove_file(node.root.join("etc/data/member/wal/0.wal")).unwrap();
        let odd = node.root.join("etc/data/member/snap/a b ");
        std::fs::remove_file(&odd).unwrap();
        // With it the second owner is gone.
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, false, "x").unwrap();
        assert_eq!(owner(&node, "data/member/snap/db"), ROOT);
        assert_eq!(node.read("manifests/etcd.yaml").unwrap(), "as root");
    });
}

#[test]
fn a_later_generation_gives_each_path_back_and_can_itself_be_put_back() {
    each_shell(|mut node| {
        let files = handover(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        client.commit(ID).unwrap();
        let after = node.tree();
        let state = |index: usize| FileTarget::PreImage {
            generation: 1,
            index,
            state: files[index].before.clone(),
        };
        let back = [
            FileAction {
                before: node.file("manifests/etcd.yaml"),
                after: state(1),
                ..files[1].clone()
            },
            FileAction {
                before: FileState::Owners { owners: vec![ETCD] },
                after: state(0),
                ..files[0].clone()
            },
        ];
        let undo = Id {
            generation: 2,
            step: 1,
        };
        stage(&mut node, undo, &back).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(undo, LONG).unwrap();
        assert_eq!(node.tree(), before);
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(undo, false, "no").unwrap();
        assert_eq!(node.tree(), after);
    });
}

#[test]
fn the_watchdog_gives_a_tree_back_and_then_hands_nothing_over_any_more() {
    each_shell(|mut node| {
        let files = handover(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, Duration::from_secs(2)).unwrap();
        let begun = Instant::now();
        while Client::new(&mut node, HOLDER).status(ID).unwrap().0 != State::Reverted {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(node.tree(), before);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn a_tree_that_moved_or_cannot_be_written_down_is_refused() {
    each_shell(|mut node| {
        data(&node);
        let wrong = [tree(&node, &[ROOT])];
        let (what, message) = code(stage(&mut node, ID, &wrong));
        assert_eq!(what, Code::Moved);
        assert!(message.contains("found owners/0:0,7:0"), "{message}");
        let right = [tree(&node, &[ROOT, OTHER])];
        stage(&mut node, ID, &right).unwrap();
        lchown(node.root.join("etc/data/link"), Some(9), Some(9)).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        assert_eq!(code(client.activate(ID, LONG)).0, Code::Moved);
        lchown(node.root.join("etc/data/link"), Some(0), Some(0)).unwrap();
        node.write("data/two\nlines", "", 0o600);
        let before = node.tree();
        let (what, message) = code(stage(&mut node, ID, &right));
        assert_eq!(
            (what, message.contains("two lines")),
            (Code::Unwritable, true)
        );
        // A link in the place of the tree is none.
        let moved = node.root.join("etc/elsewhere");
        std::fs::rename(node.root.join("etc/data"), &moved).unwrap();
        symlink(&moved, node.root.join("etc/data")).unwrap();
        assert_eq!(code(stage(&mut node, ID, &right)).0, Code::Moved);
        std::fs::remove_file(node.root.join("etc/data")).unwrap();
        std::fs::rename(&moved, node.root.join("etc/data")).unwrap();
        assert_eq!(node.tree(), before);
    });
}

/// `kill -9` of the script at moments all over its run; then a revert.
#[test]
fn killed_at_any_moment_a_tree_can_be_given_back() {
    let dir = scratch();
    let mut kills = 0;
    for round in 0..40_u64 {
        let mut node = Sandbox::new(dir.path(), &format!("kill{round}"));
        if round % 3 == 1 {
            node = node.busybox();
        }
        let files = handover(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let holder = harden::fact::sha256(format!("{HOLDER}\n"));
        let stdin = format!("harden-transaction 1 abc{round} {holder} activate {ID} 600\n");
        let mut child = node.spawn(":", &["-c", SCRIPT.text, "harden"]);
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin.as_bytes()).unwrap();
        drop(pipe);
        std::thread::sleep(Duration::from_millis(5 * round));
        if child.try_wait().unwrap().is_none() {
            kills += 1;
        }
        let _ = child.kill();
        let _ = child.wait();
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, false, "killed").unwrap();
        // What the killed script had started may end a moment later.
        client.revert(ID, false, "killed").unwrap();
        assert_eq!(node.tree(), before, "round {round}");
        node.forget();
    }
    assert!(kills > 5, "only {kills} kills hit");
}
