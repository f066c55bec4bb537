//! `transaction.sh` for real: in private mount namespaces, under dash, bash and BusyBox.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::apply_world::{HOLDER, Sandbox, each_shell, scratch, stage};
use harden::apply::node::{Client, Code, Id, NodeError, SCRIPT, State};
use harden::host::{Host, HostError, Limits, Output, Script, Tunnel};
use harden::plan::{FileAction, FileState, FileTarget};

const ID: Id = Id {
    generation: 1,
    step: 1,
};
const LONG: Duration = Duration::from_secs(600);

fn code(result: Result<(), NodeError>) -> Code {
    match result {
        Err(NodeError::Refused { code, .. }) => code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn mode(node: &Sandbox, name: &str, mode: u32) -> FileAction {
    FileAction {
        path: node.path(name),
        before: match node.file(name) {
            FileState::File {
                mode, owner, group, ..
            } => FileState::Mode { mode, owner, group },
            _ => FileState::Mode {
                mode: 0o755,
                owner: "root".into(),
                group: "root".into(),
            },
        },
        after: FileTarget::Mode {
            mode,
            owner: "root".into(),
            group: "root".into(),
        },
    }
}

/// One of everything: replace, create in new directories, delete, chmod.
fn everything(node: &Sandbox) -> Vec<FileAction> {
    node.write(
        "manifests/kube-apiserver.yaml",
        "old: 'it'\\''s'\n\n",
        0o644,
    );
    node.write("gone.conf", "was here\n", 0o640);
    node.write("loose.conf", "secret", 0o666);
    vec![
        node.set(
            "manifests/kube-apiserver.yaml",
            "new: \\ $(reboot) `x` %s\n\n",
        ),
        node.set("harden/deep/policy with space.yaml", "no newline"),
        node.set("harden/other.yaml", ""),
        FileAction {
            path: node.path("gone.conf"),
            before: node.file("gone.conf"),
            after: FileTarget::Absent,
        },
        mode(node, "loose.conf", 0o600),
        mode(node, "manifests", 0o700),
    ]
}

#[test]
fn activates_and_commits_and_reverts_what_is_committed() {
    each_shell(|mut node| {
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        assert_eq!(node.tree(), before, "staging changes nothing");
        Client::new(&mut node, HOLDER).activate(ID, LONG).unwrap();
        assert_eq!(
            node.read("manifests/kube-apiserver.yaml").unwrap(),
            "new: \\ $(reboot) `x` %s\n\n"
        );
        assert_eq!(
            node.read("harden/deep/policy with space.yaml").unwrap(),
            "no newline"
        );
        assert_eq!(node.read("harden/other.yaml").unwrap(), "");
        assert_eq!(node.read("gone.conf"), None);
        assert!(!format!("{:?}", node.tree()).contains(".harden."));
        let after = node.tree();
        let mut client = Client::new(&mut node, HOLDER);
        client.commit(ID).unwrap();
        client.commit(ID).unwrap();
        assert_eq!(code(client.revert(ID, false, "x")), Code::Decided);
        assert_eq!(node.tree(), after);
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, true, "the other node failed").unwrap();
        client.revert(ID, true, "again").unwrap();
        assert_eq!(client.status(ID).unwrap().0, State::Reverted);
        assert_eq!(code(client.commit(ID)), Code::Decided);
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn a_later_generation_puts_a_pre_image_back_without_its_content_leaving_the_node() {
    each_shell(|mut node| {
        let files = everything(&node);
        let before = node.tree();
        let states: Vec<FileState> = files.iter().map(|f| f.before.clone()).collect();
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        client.commit(ID).unwrap();
        let undo = Id {
            generation: 2,
            step: 1,
        };
        let mut back = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let name = file.path.as_str().split_once("/etc/").unwrap().1;
            let (now, after) = match &states[index] {
                FileState::Mode { mode, owner, group } => {
                    let FileTarget::Mode { mode: m, .. } = file.after else {
                        panic!()
                    };
                    (
                        FileState::Mode {
                            mode: m,
                            owner: owner.clone(),
                            group: group.clone(),
                        },
                        FileTarget::Mode {
                            mode: *mode,
                            owner: owner.clone(),
                            group: group.clone(),
                        },
                    )
                }
                state => (
                    node.file(name),
                    FileTarget::PreImage {
                        generation: 1,
                        index,
                        state: state.clone(),
                    },
                ),
            };
            back.push(FileAction {
                path: file.path.clone(),
                before: now,
                after,
            });
        }
        back.reverse();
        let after = node.tree();
        let mut client = Client::new(&mut node, HOLDER);
        client.begin(undo, 0, back.len(), &[]).unwrap();
        for (index, file) in back.iter().enumerate() {
            client.stage(undo, index, false, file).unwrap();
        }
        client.activate(undo, LONG).unwrap();
        assert_eq!(node.tree(), before);
        // And the rollback itself can be put back.
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(undo, false, "no").unwrap();
        assert_eq!(node.tree(), after);
    });
}

#[test]
fn a_moved_file_is_refused_by_name_and_nothing_changes() {
    each_shell(|mut node| {
        let files = everything(&node);
        // Before staging …
        node.write("gone.conf", "edited\n", 0o640);
        let refused = stage(&mut node, ID, &files).unwrap_err();
        assert!(refused.to_string().contains("gone.conf"), "{refused}");
        assert_eq!(code(Err(refused)), Code::Moved);
        // … and between staging and activation, by mode alone.
        node.write("gone.conf", "was here\n", 0o640);
        stage(&mut node, ID, &files).unwrap();
        node.write(
            "manifests/kube-apiserver.yaml",
            "old: 'it'\\''s'\n\n",
            0o600,
        );
        let moved = node.tree();
        let mut client = Client::new(&mut node, HOLDER);
        assert_eq!(code(client.activate(ID, LONG)), Code::Moved);
        client.revert(ID, false, "x").unwrap();
        assert_eq!(node.tree(), moved);
        // A symbolic link is not followed.
        node.write("gone.conf", "", 0o640);
        std::fs::remove_file(node.root.join("etc/gone.conf")).unwrap();
        std::os::unix::fs::symlink("loose.conf", node.root.join("etc/gone.conf")).unwrap();
        assert_eq!(code(stage(&mut node, ID, &files)), Code::Moved);
    });
}

/// A node with something wrong with it.
struct Broken {
    node: Sandbox,
    setup: String,
}

impl Host for Broken {
    fn name(&self) -> &str {
        &self.node.name
    }
    fn run(&mut self, script: Script, stdin: &[u8], _: Limits) -> Result<Output, HostError> {
        Ok(self.node.run_with(&self.setup, script, stdin))
    }
    fn disconnect(&mut self) {}
    fn tunnel(&mut self, _: u16) -> Result<Tunnel, HostError> {
        unreachable!()
    }
}

#[test]
fn a_read_only_etc_and_a_full_disk_are_found_before_anything_changes() {
    each_shell(|mut node| {
        let mut files = everything(&node);
        let before = node.tree();
        let etc = node.root.join("etc").display().to_string();
        let mut broken = Broken {
            node: node.clone(),
            setup: format!("mount --bind {etc} {etc} && mount -o remount,ro,bind {etc}"),
        };
        let refused = stage(&mut broken, ID, &files).unwrap_err();
        assert!(refused.to_string().contains("ead-only"), "{refused}");
        assert_eq!(code(Err(refused)), Code::Unwritable);
        assert_eq!(node.tree(), before);

        // The directory of the targets has room for less than what shall be written.
        files[0].after = FileTarget::Text {
            text: "x".repeat(200_000),
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
        };
        broken.setup = format!(
            "mkdir -p /mnt && mount -t tmpfs -o size=64k none /mnt && cp -a {etc}/. /mnt && mount --move /mnt {etc}"
        );
        let refused = stage(&mut broken, ID, &files).unwrap_err();
        assert!(refused.to_string().contains("space"), "{refused}");
        assert_eq!(code(Err(refused)), Code::Unwritable);
        assert_eq!(node.tree(), before);

        // The node's own state directory is full: nothing begins.
        broken.setup = "mkdir -p /mnt && mount -t tmpfs -o size=600k none /mnt && cp -a /var/lib/. /mnt && \
                        (cat /dev/zero >/mnt/ballast 2>/dev/null || :) && mount --move /mnt /var/lib"
            .into();
        assert_eq!(code(stage(&mut broken, ID, &files)), Code::Unwritable);
        assert_eq!(node.tree(), before);

        // A user that the node does not know.
        files[0].after = FileTarget::Text {
            text: "x".into(),
            mode: 0o600,
            owner: "no-such-user".into(),
            group: "root".into(),
        };
        assert_eq!(code(stage(&mut node, ID, &files)), Code::Unwritable);
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn the_watchdog_puts_it_back_when_nobody_commits() {
    each_shell(|mut node| {
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        Client::new(&mut node, HOLDER)
            .activate(ID, Duration::from_secs(2))
            .unwrap();
        assert_ne!(node.tree(), before);
        let begun = Instant::now();
        loop {
            let mut client = Client::new(&mut node, HOLDER);
            let (state, why) = client.status(ID).unwrap();
            if state == State::Reverted {
                assert!(why.unwrap().1.contains("timer"));
                assert_eq!(code(client.commit(ID)), Code::Decided);
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{state:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn a_commit_cancels_the_watchdog() {
    each_shell(|mut node| {
        let files = everything(&node);
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, Duration::from_secs(2)).unwrap();
        client.commit(ID).unwrap();
        let after = node.tree();
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(node.tree(), after);
    });
}

/// talos#14343: looking at a node cancelled its pending rollback.
#[test]
fn talos_14343_reading_does_not_cancel_a_pending_revert() {
    each_shell(|mut node| {
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, Duration::from_secs(2)).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            client.list().unwrap();
            client.status(ID).unwrap();
            assert_eq!(code(client.read(1).map(drop)), Code::Unknown);
        }
        assert_eq!(client.status(ID).unwrap().0, State::Reverted);
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn reading_leaves_no_trace() {
    each_shell(|mut node| {
        let mut client = Client::new(&mut node, HOLDER);
        assert_eq!(client.list().unwrap(), (vec![], vec![]));
        assert_eq!(client.status(ID).unwrap().0, State::None);
        client.unlock().unwrap();
        let left = std::fs::read_dir(node.root.join("var-lib"))
            .unwrap()
            .count();
        assert_eq!(left, 0);
    });
}

#[test]
fn one_holder_at_a_time() {
    each_shell(|mut node| {
        let other = r#"{"who":"other"}"#;
        Client::new(&mut node, HOLDER).lock(HOLDER, None).unwrap();
        Client::new(&mut node, HOLDER).lock(HOLDER, None).unwrap();
        let mut late = Client::new(&mut node, other);
        let Err(NodeError::Refused {
            code: c, message, ..
        }) = late.lock(other, None)
        else {
            panic!("two holders")
        };
        assert_eq!((c, message.as_str()), (Code::Locked, HOLDER));
        assert_eq!(code(late.begin(ID, 0, 0, &[])), Code::NotHeld);
        assert_eq!(code(late.put(1, "record", b"{}")), Code::NotHeld);
        late.unlock().unwrap();
        assert_eq!(code(late.lock(other, Some("somebody else"))), Code::Locked);
        late.lock(other, Some(HOLDER)).unwrap();
        assert_eq!(
            code(Client::new(&mut node, HOLDER).begin(ID, 0, 0, &[])),
            Code::NotHeld
        );
        Client::new(&mut node, other).unlock().unwrap();
        Client::new(&mut node, HOLDER).lock(HOLDER, None).unwrap();
    });
}

/// A revert that meets a commit: exactly one wins, and the files are on its side.
#[test]
fn of_revert_and_commit_exactly_one_wins() {
    let dir = scratch();
    for round in 0..12 {
        let mut node = Sandbox::new(dir.path(), &format!("race{round}"));
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        Client::new(&mut node, HOLDER).activate(ID, LONG).unwrap();
        let after = node.tree();
        let mut one = node.clone();
        let mut two = node.clone();
        let commit = std::thread::spawn(move || Client::new(&mut one, HOLDER).commit(ID));
        let revert =
            std::thread::spawn(move || Client::new(&mut two, HOLDER).revert(ID, false, "x"));
        let (commit, revert) = (commit.join().unwrap(), revert.join().unwrap());
        assert_ne!(commit.is_ok(), revert.is_ok(), "{commit:?} {revert:?}");
        let expected = if commit.is_ok() { after } else { before };
        assert_eq!(node.tree(), expected);
        node.forget();
    }
}

/// `kill -9` of the script and everything it started, at moments all over its run; then a revert.
#[test]
fn killed_at_any_moment_it_can_be_put_back() {
    let dir = scratch();
    let mut kills = 0;
    for round in 0..60_u64 {
        let mut node = Sandbox::new(dir.path(), &format!("kill{round}"));
        if round % 3 == 1 {
            node = node.busybox();
        }
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let stdin = format!(
            "harden-transaction 1 abc{round} {} activate {ID} 600\n",
            harden::fact::sha256(format!("{HOLDER}\n"))
        );
        let mut child = node.spawn(":", &["-c", SCRIPT.text, "harden"]);
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        std::thread::sleep(Duration::from_millis(4 * round));
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
    assert!(kills > 10, "only {kills} kills hit");
}

/// The same for the revert itself, which must be able to finish a half-done one.
#[test]
fn a_revert_that_was_killed_can_be_finished() {
    let dir = scratch();
    for round in 0..40_u64 {
        let mut node = Sandbox::new(dir.path(), &format!("undo{round}"));
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        let committed = round % 2 == 0;
        if committed {
            client.commit(ID).unwrap();
        }
        let which = if committed { "committed" } else { "active" };
        let stdin = format!("harden-transaction 1 abc - revert {ID} {which}\nwhy\n");
        let mut child = node.spawn(":", &["-c", SCRIPT.text, "harden"]);
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        std::thread::sleep(Duration::from_millis(3 * round));
        let _ = child.kill();
        let _ = child.wait();
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, true, "again").unwrap();
        assert_eq!(node.tree(), before, "round {round}");
        node.forget();
    }
}

/// The disk fills up between staging and activation: it is put back, without room for a copy.
#[test]
fn a_disk_that_fills_up_meanwhile_reverts() {
    let dir = scratch();
    let node = Sandbox::new(dir.path(), "fills");
    node.write("first.conf", &"old".repeat(20_000), 0o644);
    let etc = node.root.join("etc").display().to_string();
    let disk = node.root.join("disk").display().to_string();
    let mut host = node.clone();
    let files = [
        node.set("first.conf", "new"),
        node.set("second.conf", &"2".repeat(9_000)),
    ];
    stage(&mut host, ID, &files).unwrap();
    let stdin = format!(
        "harden-transaction 1 abc {} activate {ID} 600\n",
        harden::fact::sha256(format!("{HOLDER}\n"))
    );
    // 60 kB of pre-image on 64 kB, and the rest taken.
    let setup = format!(
        "mkdir -p {disk} && mount -t tmpfs -o size=64k none {disk} && cp -a {etc}/. {disk} && mount --bind {disk} {etc} && \
         (cat /dev/zero >{disk}/.ballast 2>/dev/null || :)"
    );
    let mut child = node.spawn(&format!("{setup}; trap 'sha256sum {etc}/first.conf >&2; ls -A {etc} >&2' EXIT; set --  sh -c 'sh -c \"$0\" harden; sha256sum {etc}/*.conf >&2; ls -A {etc} >&2' \"$3\" && :"), &["-c", SCRIPT.text, "harden"]);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stdout.contains("error activate"), "{stdout}\n{stderr}");
    let sum = harden::fact::sha256("old".repeat(20_000));
    assert!(stderr.contains(&sum), "{stderr}");
    assert!(!stderr.contains("second.conf"), "{stderr}");
    assert!(!stderr.contains(".harden."), "{stderr}");
}

#[test]
fn noise_before_the_answer_is_skipped_and_nonsense_is_an_error() {
    let dir = scratch();
    let node = Sandbox::new(dir.path(), "noisy");
    let mut noisy = Broken {
        node: node.clone(),
        setup: "echo harden-begin; echo Welcome; printf 'no newline'".into(),
    };
    let mut client = Client::new(&mut noisy, HOLDER);
    assert_eq!(client.list().unwrap(), (vec![], vec![]));
    noisy.setup = "exit 7".into();
    let mut client = Client::new(&mut noisy, HOLDER);
    assert!(matches!(client.list(), Err(NodeError::Protocol { .. })));
}

/// Where systemd runs it keeps the watchdog; where its tool fails or lies, a detached shell does.
#[test]
fn the_watchdog_does_not_depend_on_systemd_keeping_its_word() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    for (name, tool) in [
        ("works", "shift 3; setsid \"$@\" & exit 0"),
        ("fails", "exit 1"),
        ("lies", "exit 0"),
    ] {
        let mut node = Sandbox::new(dir.path(), name);
        let bin = node.root.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let called = node.root.join("called");
        let text = format!("#!/bin/sh\necho \"$@\" >{}\n{tool}\n", called.display());
        std::fs::write(bin.join("systemd-run"), text).unwrap();
        std::fs::set_permissions(bin.join("systemd-run"), PermissionsExt::from_mode(0o755))
            .unwrap();
        node.bin = Some(bin);
        let files = everything(&node);
        let before = node.tree();
        stage(&mut node, ID, &files).unwrap();
        let mut host = Broken {
            node: node.clone(),
            setup: "mount -t tmpfs none /run && mkdir -p /run/systemd/system".into(),
        };
        Client::new(&mut host, HOLDER)
            .activate(ID, Duration::from_secs(1))
            .unwrap();
        let arguments = std::fs::read_to_string(&called).unwrap();
        assert!(
            arguments.contains("--unit=harden-00000001-001-"),
            "{arguments}"
        );
        let begun = Instant::now();
        while Client::new(&mut node, HOLDER).status(ID).unwrap().0 != State::Reverted {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(node.tree(), before, "{name}");
        node.forget();
    }
}

/// A stand-in for systemctl that writes down what it is asked, and fails where `etc/refuse` lies. The
/// real one restarts real kubelets in tests/cluster.
fn with_systemctl(node: &mut Sandbox) {
    let bin = node.root.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let root = node.root.display();
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{root}/systemctl.log\n[ \"$1\" != --no-block ] || [ ! -e {root}/etc/refuse ]\n"
    );
    let path = bin.join("systemctl");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    node.bin = Some(bin);
}

fn restarts(node: &Sandbox) -> usize {
    let log = std::fs::read_to_string(node.root.join("systemctl.log")).unwrap_or_default();
    log.lines()
        .filter(|line| *line == "--no-block restart kubelet")
        .count()
}

fn stage_with_unit(node: &mut Sandbox, files: &[FileAction]) {
    let kubelet = harden::fact::ProgramName::new("kubelet").unwrap();
    let mut client = Client::new(node, HOLDER);
    client.lock(HOLDER, None).unwrap();
    client.begin(ID, 0, files.len(), &[kubelet]).unwrap();
    for (index, file) in files.iter().enumerate() {
        client.stage(ID, index, false, file).unwrap();
    }
}

#[test]
fn a_unit_is_restarted_with_the_new_files_and_again_with_the_old_ones() {
    each_shell(|mut node| {
        with_systemctl(&mut node);
        let files = everything(&node);
        let before = node.tree();
        stage_with_unit(&mut node, &files);
        assert_eq!(restarts(&node), 0, "staging restarts nothing");
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        client.commit(ID).unwrap();
        assert_eq!(restarts(&node), 1);
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, true, "a test").unwrap();
        assert_eq!(restarts(&node), 2);
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn a_timer_of_ours_whose_file_is_gone_is_ended() {
    each_shell(|mut node| {
        with_systemctl(&mut node);
        let files = everything(&node);
        let timer = harden::fact::ProgramName::new("harden-none-of-it").unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.lock(HOLDER, None).unwrap();
        client.begin(ID, 0, files.len(), &[timer]).unwrap();
        for (index, file) in files.iter().enumerate() {
            client.stage(ID, index, false, file).unwrap();
        }
        client.activate(ID, LONG).unwrap();
        client.commit(ID).unwrap();
        let log = std::fs::read_to_string(node.root.join("systemctl.log")).unwrap();
        assert_eq!(
            log,
            "daemon-reload\nstop harden-none-of-it.timer\nreset-failed harden-none-of-it.timer\n"
        );
    });
}

#[test]
fn what_was_never_activated_restarts_nothing_when_it_is_put_back() {
    each_shell(|mut node| {
        with_systemctl(&mut node);
        let files = everything(&node);
        stage_with_unit(&mut node, &files);
        Client::new(&mut node, HOLDER)
            .revert(ID, false, "a test")
            .unwrap();
        assert_eq!(restarts(&node), 0);
    });
}

#[test]
fn a_restart_that_is_refused_puts_the_files_back() {
    each_shell(|mut node| {
        with_systemctl(&mut node);
        let files = everything(&node);
        node.write("refuse", "", 0o600);
        let before = node.tree();
        stage_with_unit(&mut node, &files);
        let refused = code(Client::new(&mut node, HOLDER).activate(ID, LONG));
        // The old files are back; that the unit has them too cannot be said.
        assert_eq!(refused, Code::Revert);
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn the_watchdog_restarts_the_unit_with_the_old_files() {
    each_shell(|mut node| {
        with_systemctl(&mut node);
        let files = everything(&node);
        let before = node.tree();
        stage_with_unit(&mut node, &files);
        Client::new(&mut node, HOLDER)
            .activate(ID, Duration::from_secs(1))
            .unwrap();
        let begun = Instant::now();
        while node.tree() != before || restarts(&node) < 2 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "nobody put it back"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}
