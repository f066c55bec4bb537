//! The probe script under real shells, read by the real parser.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harden::fact::probe::{MAX_FILE, SCRIPT, encode, parse};
use harden::fact::{
    AccountName, Answer, Fact, FileKind, Ids, Meta, NodeFacts, NodePath, ProgramName, Query, Unit,
};

const NONCE: &str = "0123456789abcdef";

/// The shells that must agree; the node's own is `sh`.
const SHELLS: &[(&str, &[&str])] = &[
    ("sh", &["sh"]),
    ("dash", &["dash"]),
    ("bash", &["bash"]),
    ("bash as sh", &["bash", "--posix"]),
    ("BusyBox", &["busybox", "sh"]),
];

/// Runs the words with the queries on stdin. Everything hangs on no terminal and no environment.
fn run(words: &[&str], queries: &[Query]) -> Vec<u8> {
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{words:?} (Debian: dash, bash, busybox, util-linux): {error}")
        });
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&encode(NONCE, queries))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}

fn probe(shell: &[&str], script: &str, queries: &[Query]) -> NodeFacts {
    let words = [shell, &["-c", script, "harden"]].concat();
    parse(NONCE, queries, &run(&words, queries)).unwrap()
}

fn path(path: &Path) -> NodePath {
    NodePath::new(path.to_str().unwrap()).unwrap()
}

fn program(name: &str) -> ProgramName {
    ProgramName::new(name).unwrap()
}

fn unreadable(fact: &Fact<Answer>) -> &str {
    match fact {
        Fact::Unreadable(why) => why,
        other => panic!("{other:?}"),
    }
}

fn meta(fact: &Fact<Answer>) -> &Meta {
    match fact {
        Fact::Value(Answer::Stat(meta)) => meta,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let all: Vec<u8> = (0..=255).collect();
    fs::write(at("all bytes"), &all).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(
        at("$(touch pwned) '\"\\ *"),
        "0 absent\nharden-probe-end 0123456789abcdef 1\n",
    )
    .unwrap();
    fs::write(at("largest"), vec![7; MAX_FILE]).unwrap();
    fs::write(at("too large"), vec![7; MAX_FILE + 1]).unwrap();
    // Every two-byte character, among them the bytes that dash and ash keep for themselves.
    let letters: String = ('\u{a0}'..='\u{ff}').collect();
    fs::write(at(&letters), "letters").unwrap();
    symlink("all bytes", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    let fifo = at("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let ask = |name: &str| Query::File(path(&at(name)));
    let names = [
        "all bytes",
        "empty",
        "$(touch pwned) '\"\\ *",
        "largest",
        &letters,
        "too large",
        "link",
        "dangling",
        "loop",
        "dir",
        "fifo",
        "missing",
        "missing/below",
        "empty/below",
        "loop/below",
    ];
    let queries: Vec<Query> = names.iter().map(|name| ask(name)).collect();
    for (shell, words) in SHELLS {
        let begin = Instant::now();
        let facts = probe(words, SCRIPT, &queries);
        assert!(begin.elapsed() < Duration::from_secs(20), "{shell}");
        for name in &names[..5] {
            let Fact::Value(Answer::File(file)) = &facts[&ask(name)] else {
                panic!("{shell}: {name}: {:?}", facts[&ask(name)]);
            };
            assert!(
                file.content == fs::read(at(name)).unwrap(),
                "{shell}: {name}"
            );
            assert_eq!(file.meta.kind, FileKind::Regular);
            assert_eq!(file.meta.size, file.content.len() as u64);
        }
        for (name, why) in [
            ("too large", "it is larger than 1048576 bytes"),
            ("link", "it is a symbolic link"),
            ("dangling", "it is a symbolic link"),
            ("loop", "it is a symbolic link"),
            ("dir", "it is a directory"),
            ("fifo", "it is neither a file nor a directory"),
        ] {
            assert_eq!(unreadable(&facts[&ask(name)]), why, "{shell}: {name}");
        }
        for name in ["missing", "missing/below", "empty/below"] {
            assert_eq!(facts[&ask(name)], Fact::Absent, "{shell}: {name}");
        }
        let looped = unreadable(&facts[&ask("loop/below")]);
        assert!(looped.contains("symbolic link"), "{shell}: {looped}");
    }
    assert!(!Path::new("pwned").exists());
}

#[test]
fn modes_owners_and_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "12345").unwrap();
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("file", at("link")).unwrap();
    let ask = |name: &str| Query::Stat(path(&at(name)));
    let null = Query::Stat(NodePath::new("/dev/null").unwrap());
    let root = Query::Stat(NodePath::new("/").unwrap());
    let queries = [
        ask("file"),
        ask("dir"),
        ask("link"),
        ask("none"),
        null.clone(),
        root.clone(),
    ];
    let me = Command::new("id").arg("-un").output().unwrap().stdout;
    let me = String::from_utf8(me).unwrap();
    for (shell, words) in SHELLS {
        let facts = probe(words, SCRIPT, &queries);
        let file = meta(&facts[&ask("file")]);
        assert_eq!(
            (file.kind, file.mode, file.size),
            (FileKind::Regular, 0o4640, 5),
            "{shell}"
        );
        assert_eq!(file.owner, me.trim(), "{shell}");
        let dir = meta(&facts[&ask("dir")]);
        assert_eq!(
            (dir.kind, dir.mode),
            (FileKind::Directory, 0o1777),
            "{shell}"
        );
        assert_eq!(
            meta(&facts[&ask("link")]).kind,
            FileKind::Symlink,
            "{shell}"
        );
        assert_eq!(facts[&ask("none")], Fact::Absent, "{shell}");
        let null = meta(&facts[&null]);
        assert_eq!(
            (null.kind, null.owner.as_str()),
            (FileKind::Other, "root"),
            "{shell}"
        );
        assert_eq!(meta(&facts[&root]).kind, FileKind::Directory, "{shell}");
    }
}

#[test]
fn directories_with_any_name_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let names = dir.path().join("[names] *");
    fs::create_dir(&names).unwrap();
    for byte in (1..=255).filter(|byte| !b"./".contains(byte)) {
        fs::write(names.join(OsStr::from_bytes(&[byte])), "").unwrap();
    }
    let more = [
        "*",
        "..x",
        ".hidden",
        "...",
        "a\nb",
        "two\n\nlines\n",
        " ",
        "-n",
        "$(touch pwned)",
        "ä€",
        "0 absent",
        "end",
        "\\x41",
    ];
    for name in more {
        fs::write(names.join(name), "1").unwrap();
    }
    symlink("nowhere", names.join("dangling")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    symlink("empty", dir.path().join("link")).unwrap();
    let ask = |name: &str| Query::Dir(path(&dir.path().join(name)));
    let queries = [
        ask("[names] *"),
        ask("empty"),
        ask("file"),
        ask("link"),
        ask("none"),
    ];
    for (shell, words) in SHELLS {
        let facts = probe(words, SCRIPT, &queries);
        let Fact::Value(Answer::Dir(entries)) = &facts[&queries[0]] else {
            panic!("{shell}: {:?}", facts[&queries[0]]);
        };
        // `*` stands among the bytes and among the rest.
        assert_eq!(entries.len(), 253 + more.len() - 2 + 1, "{shell}");
        for name in more {
            assert!(entries.contains_key(name), "{shell}: {name:?}");
        }
        for byte in 1..=255_u8 {
            let name = match byte {
                b'.' | b'/' => continue,
                128.. => format!("\\x{byte:02x}"),
                _ => char::from(byte).to_string(),
            };
            assert!(entries.contains_key(&name), "{shell}: {name:?}");
        }
        assert_eq!(entries["dangling"].kind, FileKind::Symlink, "{shell}");
        assert_eq!(entries["ä€"].size, 1, "{shell}");
        let empty = &facts[&queries[1]];
        assert!(
            matches!(empty, Fact::Value(Answer::Dir(none)) if none.is_empty()),
            "{shell}"
        );
        assert_eq!(
            unreadable(&facts[&queries[2]]),
            "it is not a directory",
            "{shell}"
        );
        assert_eq!(
            unreadable(&facts[&queries[3]]),
            "it is a symbolic link",
            "{shell}"
        );
        assert_eq!(facts[&queries[4]], Fact::Absent, "{shell}");
    }
    assert!(!Path::new("pwned").exists());
}

#[test]
fn what_the_directories_in_a_directory_hold() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for sub in ["[net] *", ".hidden", "empty", "deep/below"] {
        fs::create_dir_all(at(sub)).unwrap();
    }
    for name in [
        "[net] */10.244.0.2",
        "[net] */.lock",
        "[net] */a\nb",
        ".hidden/x",
        "deep/y",
        "deep/below/z",
        "file",
    ] {
        fs::write(at(name), "1").unwrap();
    }
    fs::set_permissions(at("deep/y"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("deep", at("link")).unwrap();
    symlink("y", at("deep/to-y")).unwrap();
    let ask = |path_in: &str| Query::Below(path(&at(path_in)));
    let queries = [
        Query::Below(path(dir.path())),
        ask("empty"),
        ask("none"),
        ask("link"),
        ask("file"),
    ];
    for (shell, words) in SHELLS {
        let facts = probe(words, SCRIPT, &queries);
        let Fact::Value(Answer::Dir(entries)) = &facts[&queries[0]] else {
            panic!("{shell}: {:?}", facts[&queries[0]]);
        };
        let names: Vec<&str> = entries.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                ".hidden/x",
                "[net] */.lock",
                "[net] */10.244.0.2",
                "[net] */a\nb",
                "deep/below",
                "deep/to-y",
                "deep/y"
            ],
            "{shell}"
        );
        assert_eq!(entries["deep/y"].mode, 0o640, "{shell}");
        assert_eq!(entries["deep/below"].kind, FileKind::Directory, "{shell}");
        assert_eq!(entries["deep/to-y"].kind, FileKind::Symlink, "{shell}");
        let none =
            |fact: &Fact<Answer>| matches!(fact, Fact::Value(Answer::Dir(all)) if all.is_empty());
        assert!(none(&facts[&queries[1]]), "{shell}");
        assert_eq!(facts[&queries[2]], Fact::Absent, "{shell}");
        assert_eq!(
            unreadable(&facts[&queries[3]]),
            "it is a symbolic link",
            "{shell}"
        );
        assert_eq!(
            unreadable(&facts[&queries[4]]),
            "it is not a directory",
            "{shell}"
        );
    }
    for n in 0..2049 {
        fs::write(at(&format!("empty/{n}")), "").unwrap();
        fs::write(at(&format!("deep/{n}")), "").unwrap();
    }
    for (shell, words) in SHELLS {
        let facts = probe(words, SCRIPT, &queries[..1]);
        assert_eq!(
            unreadable(&facts[&queries[0]]),
            "it has more than 4096 entries",
            "{shell}"
        );
    }
}

/// Whether this process may give files away.
fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

#[test]
fn the_owners_of_a_tree_each_once() {
    use std::os::unix::fs::{MetadataExt, lchown};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("tree [a] */member")).unwrap();
    for name in [
        "tree [a] */a",
        "tree [a] */member/b\no 7:7",
        "tree [a] */member/c d",
        "file",
    ] {
        fs::write(at(name), "").unwrap();
    }
    let me = fs::metadata(at("file")).unwrap();
    let mine = Ids {
        uid: me.uid(),
        gid: me.gid(),
    };
    // A link is looked at itself: where it leads to is elsewhere.
    symlink("/proc/1", at("tree [a] */link")).unwrap();
    let ask = |name: &str| Query::Owners(path(&at(name)));
    let queries = [
        ask("tree [a] *"),
        ask("none"),
        ask("file"),
        ask("tree [a] */link"),
    ];
    let owners = |shell: &[&str]| probe(shell, SCRIPT, &queries)[&queries[0]].clone();
    for (shell, words) in SHELLS {
        let facts = probe(words, SCRIPT, &queries);
        assert_eq!(
            facts[&queries[0]],
            Fact::Value(Answer::Owners([mine].into())),
            "{shell}"
        );
        assert_eq!(facts[&queries[1]], Fact::Absent, "{shell}");
        assert_eq!(
            unreadable(&facts[&queries[2]]),
            "it is not a directory",
            "{shell}"
        );
        assert_eq!(
            unreadable(&facts[&queries[3]]),
            "it is a symbolic link",
            "{shell}"
        );
    }
    if is_root() {
        lchown(at("tree [a] */member/c d"), Some(106), Some(0)).unwrap();
        lchown(at("tree [a] */link"), Some(0), Some(112)).unwrap();
        let all = [mine, Ids { uid: 0, gid: 112 }, Ids { uid: 106, gid: 0 }];
        for (shell, words) in SHELLS {
            assert_eq!(
                owners(words),
                Fact::Value(Answer::Owners(all.into())),
                "{shell}"
            );
        }
    }
    fs::set_permissions(at("tree [a] */member"), fs::Permissions::from_mode(0o000)).unwrap();
    let closed = [&as_nobody()[..], &["sh"]].concat();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let why = owners(&closed);
    assert!(unreadable(&why).contains("Permission denied"), "{why:?}");
    fs::set_permissions(at("tree [a] */member"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn accounts_of_the_node() {
    let account = |name: &str| Query::Account(AccountName::new(name).unwrap());
    let queries = [
        account("root"),
        account("no-such-account"),
        account("daemon"),
    ];
    // One node has getent, the other reads the file, and the third has what nobody should write.
    let dir = tempfile::tempdir().unwrap();
    let passwd = dir.path().join("passwd");
    fs::write(
        &passwd,
        "root:x:0:0:root:/root:/bin/sh\nroott:x:5:5::/:\ndaemon:x:-1:\u{1b}[1m::/:\n",
    )
    .unwrap();
    let without = SCRIPT
        .replace("command -v getent", "command -v no-such-getent")
        .replace("/etc/passwd", passwd.to_str().unwrap());
    for (shell, words) in SHELLS {
        for script in [SCRIPT, without.as_str()] {
            let facts = probe(words, script, &queries);
            let root = Ids { uid: 0, gid: 0 };
            assert_eq!(
                facts[&queries[0]],
                Fact::Value(Answer::Account(root)),
                "{shell}"
            );
            assert_eq!(facts[&queries[1]], Fact::Absent, "{shell}");
        }
        let facts = probe(words, &without, &queries);
        assert_eq!(
            unreadable(&facts[&queries[2]]),
            "its entry has no numbers",
            "{shell}"
        );
    }
    for name in [
        "",
        "1000",
        "-x",
        "Etcd",
        "a b",
        "a:b",
        "a*",
        &"a".repeat(33),
    ] {
        assert!(AccountName::new(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_directory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..4096 {
        fs::write(dir.path().join(format!("{n}")), "").unwrap();
    }
    let queries = [Query::Dir(path(dir.path()))];
    for (shell, words) in SHELLS {
        let begin = Instant::now();
        let facts = probe(words, SCRIPT, &queries);
        assert!(
            matches!(&facts[&queries[0]], Fact::Value(Answer::Dir(all)) if all.len() == 4096),
            "{shell}"
        );
        assert!(begin.elapsed() < Duration::from_secs(20), "{shell}");
    }
    fs::write(dir.path().join("one more"), "").unwrap();
    for (shell, words) in SHELLS {
        let facts = probe(words, SCRIPT, &queries);
        assert_eq!(
            unreadable(&facts[&queries[0]]),
            "it has more than 4096 entries",
            "{shell}"
        );
    }
}

/// The words that run a program as somebody without rights.
fn as_nobody() -> Vec<&'static str> {
    let id = Command::new("id").arg("-u").output().unwrap().stdout;
    if id == b"0\n" {
        vec![
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]
    } else {
        vec!["env"]
    }
}

#[test]
fn what_may_not_be_read_is_not_taken_for_absent() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("closed")).unwrap();
    fs::create_dir(at("blind")).unwrap();
    fs::write(at("secret"), "secret").unwrap();
    for (name, mode) in [("closed", 0o000), ("blind", 0o444), ("secret", 0o000)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let queries = [
        Query::File(path(&at("secret"))),
        Query::File(path(&at("closed/below"))),
        Query::Stat(path(&at("closed/below"))),
        Query::Dir(path(&at("closed"))),
        Query::Dir(path(&at("blind"))),
        Query::Dir(path(&at("closed/below"))),
        Query::Process(program("kube-apiserver")),
    ];
    for (shell, words) in SHELLS {
        let words = [&as_nobody()[..], words].concat();
        let facts = probe(&words, SCRIPT, &queries);
        for query in &queries {
            assert!(!unreadable(&facts[query]).is_empty(), "{shell}: {query}");
        }
        for query in &queries[..4] {
            let why = unreadable(&facts[query]);
            assert!(why.contains("Permission denied"), "{shell}: {query}: {why}");
        }
        // Its mode may still be known.
        let stat = [Query::Stat(path(&at("secret")))];
        assert_eq!(
            meta(&probe(&words, SCRIPT, &stat)[&stat[0]]).mode,
            0,
            "{shell}"
        );
    }
    // So that it can be removed.
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(at("blind"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// A script that starts processes and then becomes the probe, in a pid namespace whose process 1 it
/// is, as on a node.
const NODE: &str = r#"
    "$1/kube-controller-manager" 600 & a=$!
    "$1/kube-controller-imposter" 600 & b=$!
    unshare --net "$1/kube-controller-manager" 601 & c=$!
    "$1/odd) (name 1 2" 600 & d=$!
    "$1/stays" "$1/kube-controller-manager" & e=$!
    sleep 0.5
    "$2" ${3:+"$3"} -c "$4" harden
    status=$?
    kill $a $b $c $d $e 2>/dev/null
    exit $status
"#;

#[test]
fn processes_of_the_node_are_found_and_imposters_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in [
        "kube-controller-manager",
        "kube-controller-imposter",
        "odd) (name 1 2",
    ] {
        // Another process copies: see ETXTBSY in execve(2).
        let copied = Command::new("cp").arg("/bin/sleep").arg(at(name)).status();
        assert!(copied.unwrap().success());
    }
    // Its name is not that of what it runs.
    fs::write(at("stays"), "#!/bin/sh\nsleep 600 & wait\n").unwrap();
    fs::set_permissions(at("stays"), fs::Permissions::from_mode(0o755)).unwrap();
    let manager = Query::Process(program("kube-controller-manager"));
    let none = Query::Process(program("kube-scheduler"));
    let queries = [manager.clone(), none.clone()];
    let base = dir.path().to_str().unwrap();
    for (shell, words) in SHELLS {
        let user = if as_nobody()[0] == "env" {
            &["--map-root-user"][..]
        } else {
            &[]
        };
        let words = [
            &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
            user,
            &[
                "bash",
                "-c",
                NODE,
                "node",
                base,
                words[0],
                words.get(1).copied().unwrap_or(""),
                SCRIPT,
            ],
        ]
        .concat();
        let facts = parse(NONCE, &queries, &run(&words, &queries)).unwrap();
        let Fact::Value(Answer::Process(found)) = &facts[&manager] else {
            panic!("{shell}: {:?}", facts[&manager]);
        };
        let argv: Vec<_> = found.iter().map(|process| process.argv.join(" ")).collect();
        assert_eq!(
            argv,
            [format!("{base}/kube-controller-manager 600")],
            "{shell}"
        );
        assert!(found[0].pid > 1 && found[0].start > 0, "{shell}: {found:?}");
        assert_eq!(facts[&none], Fact::Absent, "{shell}");
    }
}

#[test]
fn the_newest_log_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let pods = dir.path().join("pods");
    // The script is a constant; only here it looks elsewhere.
    let script = SCRIPT.replace("/var/log/pods", pods.to_str().unwrap());
    let query = Query::Log(program("kube-apiserver"));
    let queries = std::slice::from_ref(&query);
    for (shell, words) in SHELLS {
        assert_eq!(
            probe(words, &script, queries)[&query],
            Fact::Absent,
            "{shell}"
        );
    }
    let pod = pods.join("kube-system_kube-apiserver-cp1_0f/kube-apiserver");
    fs::create_dir_all(&pod).unwrap();
    fs::create_dir_all(pods.join("tenant_kube-apiserver-cp1_1f/kube-apiserver")).unwrap();
    fs::write(
        pods.join("tenant_kube-apiserver-cp1_1f/kube-apiserver/9.log"),
        "tenant",
    )
    .unwrap();
    let line = |n: usize| format!("2026-01-02T03:04:05Z stderr F \x1b[31mline {n}\x1b[0m\n");
    fs::write(pod.join("0.log"), line(0)).unwrap();
    let text: String = (0..1000).map(line).collect();
    fs::write(pod.join("1.log"), &text).unwrap();
    let old = Command::new("touch")
        .args(["-d", "2020-01-01"])
        .arg(pod.join("0.log"))
        .status();
    assert!(old.unwrap().success());
    for (shell, words) in SHELLS {
        let facts = probe(words, &script, queries);
        let Fact::Value(Answer::Log(log)) = &facts[&query] else {
            panic!("{shell}: {:?}", facts[&query]);
        };
        assert!(
            log.ends_with("line 998\nline 999\n") && log.starts_with("line "),
            "{shell}: {log}"
        );
        assert!(log.len() > 1000 && log.len() < 8192, "{shell}");
    }
    fs::write(pod.join("1.log"), line(7)).unwrap();
    for (shell, words) in SHELLS {
        let facts = probe(words, &script, queries);
        assert_eq!(
            facts[&query],
            Fact::Value(Answer::Log("line 7\n".into())),
            "{shell}"
        );
    }
}

#[test]
fn a_cut_or_foreign_input_is_not_answered_to_the_end() {
    let whole = encode(NONCE, &[Query::Stat(NodePath::new("/").unwrap())]);
    let whole = String::from_utf8(whole).unwrap();
    let cut = whole.trim_end_matches("end\n");
    for input in [
        "",
        "harden-probe 2 abc\nend\n",
        "harden-probe 1 \nend\n",
        "harden-probe 1 $(id)\nend\n",
        cut,
        &whole.replace("stat", "rm"),
        &whole.replace("stat /", "stat x"),
        &whole.replace("stat /", "owners x"),
        &whole.replace("stat /", "account 0"),
        &whole.replace("stat /", "account a b"),
        &whole.replace("stat /", "account "),
    ] {
        for (shell, words) in SHELLS {
            let mut child = Command::new(words[0])
                .args(&words[1..])
                .args(["-c", SCRIPT, "harden"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{shell}: {input:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(!text.contains("harden-probe-end"), "{shell}: {input:?}");
        }
    }
}

#[test]
fn hundreds_of_queries_are_answered_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let queries: Vec<Query> = (0..200)
        .map(|n| {
            let file = dir.path().join(n.to_string());
            fs::write(&file, vec![b'x'; 4096]).unwrap();
            Query::File(path(&file))
        })
        .collect();
    for (shell, words) in SHELLS {
        let begin = Instant::now();
        assert_eq!(probe(words, SCRIPT, &queries).len(), 200, "{shell}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{shell}");
    }
}

#[test]
fn a_configuration_and_its_drop_ins_as_k3s_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let main = Query::Config(path(&at("config.yaml")));
    let ask = |words: &[&str]| probe(words, SCRIPT, std::slice::from_ref(&main))[&main].clone();
    for (_, words) in SHELLS {
        assert_eq!(ask(words), Fact::Absent);
    }
    fs::create_dir_all(at("config.yaml.d/dir.yaml")).unwrap();
    let files = [
        ("", "token: a\n\0"),
        (".hidden.yaml", "h"),
        ("10 with \n line.YAML", ""),
        ("90-harden.yaml", "x: 1"),
        ("a*.yml", "star"),
    ];
    for (name, text) in files {
        let place = match name {
            "" => at("config.yaml"),
            name => at("config.yaml.d").join(name),
        };
        fs::write(place, text).unwrap();
    }
    for other in ["README", "x.yaml.bak", ".harden.1-1-0.77"] {
        fs::write(at("config.yaml.d").join(other), "no").unwrap();
    }
    for (shell, words) in SHELLS {
        let Fact::Value(Answer::Config(found)) = ask(words) else {
            panic!("{shell}: {:?}", ask(words))
        };
        let found: Vec<(&str, &[u8])> = found
            .iter()
            .map(|(name, file)| (name.as_str(), file.content.as_slice()))
            .collect();
        let wanted: Vec<(&str, &[u8])> = files.iter().map(|(n, t)| (*n, t.as_bytes())).collect();
        assert_eq!(found, wanted, "{shell}");
    }
    // Drop-ins alone are a configuration too.
    fs::remove_file(at("config.yaml")).unwrap();
    for (shell, words) in SHELLS {
        let found = ask(words);
        assert!(
            matches!(&found, Fact::Value(Answer::Config(all)) if all.len() == files.len() - 1),
            "{shell}: {found:?}"
        );
    }
}

#[test]
fn a_part_of_a_configuration_that_cannot_be_read_makes_all_of_it_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let drop_in = |sub: &str, name: &str| dir.path().join(sub).join("config.yaml.d").join(name);
    for sub in ["link", "large", "closed", "secret", "above"] {
        fs::create_dir_all(drop_in(sub, "")).unwrap();
        fs::write(dir.path().join(sub).join("config.yaml"), "a: 1").unwrap();
    }
    symlink("/etc/hostname", drop_in("link", "50\u{1b}.yaml")).unwrap();
    fs::write(drop_in("large", "50.yaml"), "#".repeat(131_073)).unwrap();
    fs::write(drop_in("secret", "50.yaml"), "a").unwrap();
    let close = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    close(&drop_in("secret", "50.yaml"), 0o000);
    close(&drop_in("closed", ""), 0o000);
    close(&dir.path().join("above"), 0o000);
    let cases = [
        ("link", ".d/50?.yaml: it is a symbolic link"),
        ("large", ".d/50.yaml: it is larger than 131072 bytes"),
        ("secret", ".d/50.yaml: Permission denied"),
        ("closed", ".d: Permission denied"),
        ("above", "it cannot be looked at: Permission denied"),
    ];
    for (shell, words) in SHELLS {
        let words = [&as_nobody()[..], words].concat();
        for (sub, why) in cases {
            let query = Query::Config(path(&dir.path().join(sub).join("config.yaml")));
            let facts = probe(&words, SCRIPT, std::slice::from_ref(&query));
            let told = unreadable(&facts[&query]);
            assert!(told.ends_with(why), "{shell}: {sub}: {told}");
        }
    }
    close(&drop_in("closed", ""), 0o700);
    close(&dir.path().join("above"), 0o700);
}

#[test]
fn what_systemd_says_of_a_unit() {
    let dir = tempfile::tempdir().unwrap();
    let me = std::process::id();
    let say = |text: &str| {
        let program = dir.path().join("systemctl");
        let script = format!(
            "#!/bin/sh\ncase $#:$4 in 4:k3s.service | 4:harden-x.timer) ;; *) exit 1 ;; esac\ncat <<'END'\n{text}\nEND\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let query = Query::Unit(program("k3s"));
    let path = format!("PATH={}:/usr/bin:/bin", dir.path().display());
    let ask = |words: &[&str]| {
        let words = [&["env", &path, "K3S_CONFIG_FILE=/srv/k3s.yaml"], words].concat();
        probe(&words, SCRIPT, std::slice::from_ref(&query))[&query].clone()
    };
    let command = "{ path=/usr/local/bin/k3s ; argv[]=/usr/local/bin/k3s server --token=secret \"--kube-apiserver-arg=v=2\" -c /x ; ignore_errors=no ; pid=1 ; }";
    say(&format!(
        "LoadState=loaded\nActiveState=activating\nMainPID={me}\nNRestarts=3\nExecStart={command}"
    ));
    for (shell, words) in SHELLS {
        let Fact::Value(Answer::Unit(unit)) = ask(words) else {
            panic!("{shell}: {:?}", ask(words))
        };
        let (pid, start) = unit.main.unwrap();
        assert!(pid == me && start > 0, "{shell}");
        let wanted = Unit {
            active: "activating".into(),
            main: unit.main,
            restarts: 3,
            // Names only: values may be secret.
            options: ["--token", "--kube-apiserver-arg", "-c"]
                .map(str::to_owned)
                .into(),
            // That of its own environment, and not of the probe's.
            config: None,
        };
        assert_eq!(unit, wanted, "{shell}");
    }
    let mut service = Command::new("sleep")
        .arg("600")
        .env("RKE2_CONFIG_FILE", "/srv/rke2.yaml")
        .spawn()
        .unwrap();
    say(&format!(
        "LoadState=loaded\nActiveState=active\nMainPID={}",
        service.id()
    ));
    for (shell, words) in SHELLS {
        let Fact::Value(Answer::Unit(unit)) = ask(words) else {
            panic!("{shell}: {:?}", ask(words))
        };
        assert_eq!(unit.config.as_deref(), Some("/srv/rke2.yaml"), "{shell}");
    }
    service.kill().unwrap();
    service.wait().unwrap();
    // One of harden's own is a timer, which has no process.
    say("LoadState=loaded\nActiveState=inactive");
    let own = Query::Unit(program("harden-x"));
    for (shell, words) in SHELLS {
        let words = [&["env", path.as_str()][..], &words[..]].concat();
        match &probe(&words, SCRIPT, std::slice::from_ref(&own))[&own] {
            Fact::Value(Answer::Unit(unit)) => {
                assert_eq!((unit.active.as_str(), unit.main), ("inactive", None));
            }
            other => panic!("{shell}: {other:?}"),
        }
    }
    for (text, wanted) in [
        ("LoadState=not-found\nActiveState=inactive\nMainPID=0", None),
        (
            "LoadState=loaded\nActiveState=failed\nMainPID=0\nNRestarts=0",
            Some("failed"),
        ),
    ] {
        say(text);
        for (shell, words) in SHELLS {
            match (ask(words), wanted) {
                (Fact::Absent, None) => {}
                (Fact::Value(Answer::Unit(unit)), Some(active)) => {
                    assert_eq!((unit.active.as_str(), unit.main), (active, None), "{shell}");
                }
                other => panic!("{shell}: {other:?}"),
            }
        }
    }
}
