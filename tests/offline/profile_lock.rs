//! `harden.lock`: what is written is read again, every mistake is answered, every move is told.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harden::module::Modules;
use harden::profile::{ClusterIdentity, Failure, LOCK_FILE, Lock, Workspace, load, load_lock};
use proptest::prelude::*;

fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn read(dir: &Path) -> Workspace {
    load(dir, &Modules::builtin().unwrap()).unwrap()
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn lock(files: &[(&str, char)]) -> Lock {
    let files = files.iter();
    Lock {
        harden: "0.1.0".into(),
        cluster: ClusterIdentity {
            id: "5f1e".into(),
            kubernetes: "1.34".into(),
        },
        files: files.map(|(n, h)| ((*n).to_owned(), hash(*h))).collect(),
    }
}

fn told<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Ok(read) => format!("{read:?}"),
        Err(failure) => format!("{failure:#}"),
    }
}

#[test]
fn every_file_that_was_read_is_listed_by_its_hash() {
    let dir = workspace(&[
        (
            "harden.toml",
            "imports = [\"builtin:baseline\", \"team/a.toml\"]\n[cluster]\nname = \"x\"\n",
        ),
        ("team/a.toml", "imports = [\"../b.toml\"]\n"),
        ("b.toml", "# é\r\n"),
        ("unused.toml", ""),
    ]);
    let files = read(dir.path()).files;
    let built_in: Vec<String> = files
        .keys()
        .filter_map(|name| name.strip_prefix("builtin:modules/").map(str::to_owned))
        .collect();
    let modules = Modules::builtin().unwrap();
    let known: Vec<String> = modules.iter().map(|(n, _)| format!("{n}.toml")).collect();
    assert_eq!(built_in, known);
    let names = files.keys().map(String::as_str);
    let names: Vec<&str> = names.filter(|n| !n.contains("modules/")).collect();
    insta::assert_snapshot!(names.join("\n"), @r#"
b.toml
builtin:baseline
harden.toml
team/a.toml
"#);
    // As sha256sum(1) counts the bytes on disk.
    assert_eq!(
        files["b.toml"],
        "dd83fb25cecb954444bface0a201f24288082edc4365b798a312dc98445d124b"
    );
    assert_eq!(
        files["builtin:modules/scheduler.toml"],
        harden::fact::sha256(include_str!("../../modules/scheduler.toml"))
    );
}

#[test]
fn a_lock_is_deterministic_and_holds_no_lock() {
    let text = "imports = [\"a.toml\"]\n[cluster]\nname = \"x\"\n";
    let dir = workspace(&[("harden.toml", text), ("a.toml", "")]);
    let cluster = lock(&[]).cluster;
    let first = Lock::new(&read(dir.path()), cluster.clone());
    fs::write(dir.path().join(LOCK_FILE), first.render()).unwrap();
    let second = Lock::new(&read(dir.path()), cluster);
    assert_eq!(first.render(), second.render());
    assert_eq!(load_lock(dir.path()).unwrap(), Some(first));
    assert!(!second.files.contains_key(LOCK_FILE));
}

#[test]
fn a_file_cannot_pass_for_one_of_the_program() {
    let dir = workspace(&[
        (
            "harden.toml",
            "imports = [\"./builtin:modules/audit.toml\"]\n[cluster]\nname = \"x\"\n",
        ),
        ("builtin:modules/audit.toml", ""),
    ]);
    let failure = load(dir.path(), &Modules::builtin().unwrap()).unwrap_err();
    insta::assert_snapshot!(told::<()>(Err(failure)), @r#"
error: `./builtin:modules/audit.toml` cannot be imported: it has a name that begins with `builtin:` or is not UTF-8
  --> harden.toml:1:12
1 | imports = ["./builtin:modules/audit.toml"]
  |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ here
  help: imports are .toml files inside the workspace, relative to the file that imports them
"#);
}

#[test]
fn a_file_whose_name_the_lock_could_not_hold_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let text = "imports = [\"a.toml\"]\n[cluster]\nname = \"x\"\n";
    let dir = workspace(&[("harden.toml", text)]);
    let name = std::ffi::OsStr::from_bytes(b"\xff.toml");
    fs::write(dir.path().join(name), "").unwrap();
    std::os::unix::fs::symlink(name, dir.path().join("a.toml")).unwrap();
    let failure = told(load(dir.path(), &Modules::builtin().unwrap()));
    assert!(failure.contains("not UTF-8"), "{failure}");
}

#[test]
fn the_text_of_a_lock() {
    let lock = lock(&[
        ("harden.toml", 'a'),
        ("team/\"\\\u{7f}.toml", 'b'),
        ("builtin:cis", 'c'),
    ]);
    insta::assert_snapshot!(lock.render(), @r#"
# Written by `harden lock`; keep it in git. `harden plan` and `harden apply` refuse to work
# while the workspace differs from it.
version = 1
harden = "0.1.0"

[cluster]
id = "5f1e"
kubernetes = "1.34"

[files]
"builtin:cis" = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
"harden.toml" = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
"team/\"\\\u007F.toml" = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
"#);
    assert_eq!(Lock::parse(&lock.render()).unwrap(), lock);
}

#[test]
fn what_is_wrong_with_a_lock() {
    let good = lock(&[("harden.toml", 'a')]).render();
    let cut = good
        .replace("aaaa\"", "\"")
        .replace("kubernetes", "kubernets");
    insta::assert_snapshot!(told(Lock::parse(&cut)), @r#"
error: `cluster.kubernetes` is missing
  --> harden.lock:6:2
6 | [cluster]
  |  ^^^^^^^ needed here
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: there is no key `cluster.kubernets`
  --> harden.lock:8:1
8 | kubernets = "1.34"
  | ^^^^^^^^^ did you mean `kubernetes`?
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: the hash of `harden.toml` must be `sha256:` and 64 hexadecimal digits
   --> harden.lock:11:17
11 | "harden.toml" = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
   |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ this is not such a hash
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
    insta::assert_snapshot!(told(Lock::parse("version = 1\nharden = 3\n[files]\n\"a\" = 1\n\"b\" = \"md5:x\"\n")), @r#"
error: `[cluster]` is missing
  --> harden.lock:1:1
1 | version = 1
  | ^ needed here
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: `harden` must be a string, not an integer
  --> harden.lock:2:10
2 | harden = 3
  |          ^ this is an integer
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: the hash of `a` must be `sha256:` and 64 hexadecimal digits
  --> harden.lock:4:7
4 | "a" = 1
  |       ^ this is an integer
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: the hash of `b` must be `sha256:` and 64 hexadecimal digits
  --> harden.lock:5:7
5 | "b" = "md5:x"
  |       ^^^^^^^ this is not such a hash
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
    insta::assert_snapshot!(told(Lock::parse("version = 1\nharden = \"\"\ncluster = 1\nfiles = []\nx = 1")), @r#"
error: `harden` is empty
  --> harden.lock:2:10
2 | harden = ""
  |          ^^ here
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: `cluster` must be a table, not an integer
  --> harden.lock:3:11
3 | cluster = 1
  |           ^ this is an integer
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: `files` must be a table, not a list
  --> harden.lock:4:9
4 | files = []
  |         ^^ this is a list
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: there is no key `x`
  --> harden.lock:5:1
5 | x = 1
  | ^ unknown
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
}

#[test]
fn a_lock_of_another_format_is_not_picked_apart() {
    insta::assert_snapshot!(told(Lock::parse("version = 2\nnew-key = 1\n")).replace(harden::VERSION, "X.Y.Z"), @r#"
error: this lock has format version 2; harden X.Y.Z reads version 1
  --> harden.lock:1:11
1 | version = 2
  |           ^ a newer harden wrote it: use that one
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
    insta::assert_snapshot!(told(Lock::parse("version = \"1\"\n")), @r#"
error: `version` must be an integer from 1 to 9999, not a string
  --> harden.lock:1:11
1 | version = "1"
  |           ^^^ this is a string
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
    insta::assert_snapshot!(told(Lock::parse("")), @r#"
error: `version` is missing
  --> harden.lock:1:1
1 | 
  | ^ needed here
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
}

#[test]
fn a_conflict_of_a_merge() {
    let text = lock(&[("harden.toml", 'a')]).render();
    let text = text.replace("[files]\n", "[files]\n<<<<<<< HEAD\n");
    insta::assert_snapshot!(told(Lock::parse(&text)), @r#"
error: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
   --> harden.lock:11:1
11 | <<<<<<< HEAD
   | ^^^^^^^ here
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand

error: this is not TOML: key with no value, expected `=`
   --> harden.lock:11:9
11 | <<<<<<< HEAD
   |         ^ here
  help: `harden lock` writes the file anew; nothing in it is meant to be written by hand
"#);
}

#[test]
fn a_lock_that_is_no_file() {
    let dir = workspace(&[]);
    let path = dir.path().join(LOCK_FILE);
    assert_eq!(load_lock(dir.path()).unwrap(), None);
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    let dangling = told(load_lock(dir.path()));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let directory = told(load_lock(dir.path()));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, b"\xff").unwrap();
    let binary = told(load_lock(dir.path()));
    insta::assert_snapshot!([dangling, directory, binary].join("\n"), @r#"
error: `harden.lock` cannot be read: No such file or directory (os error 2)
  help: move it away; `harden lock` writes it anew
error: `harden.lock` is a directory, not a file
  help: move it away; `harden lock` writes it anew
error: `harden.lock` is not UTF-8 text: line 1 holds other bytes
  help: move it away; `harden lock` writes it anew
"#);
}

#[test]
fn what_moved_is_told_in_plain_words() {
    let then = lock(&[
        ("harden.toml", 'a'),
        ("y.toml", 'a'),
        ("team/overrides.toml", 'a'),
        ("builtin:cis", 'a'),
        ("builtin:old", 'a'),
        ("builtin:modules/audit.toml", 'a'),
        ("builtin:modules/gone.toml", 'a'),
    ]);
    let mut now = lock(&[
        ("harden.toml", 'a'),
        ("x.toml", 'a'),
        ("team/overrides.toml", 'b'),
        ("builtin:cis", 'b'),
        ("builtin:modules/audit.toml", 'b'),
        ("builtin:modules/new.toml", 'b'),
    ]);
    now.harden = "0.2.0".into();
    now.cluster.id = "77aa".into();
    now.cluster.kubernetes = "1.35".into();
    insta::assert_snapshot!(then.differences(&now).join("\n"), @r#"
harden 0.1.0 wrote the lock, this is 0.2.0
builtin:cis differs: harden 0.1.0 wrote the lock, this is 0.2.0
builtin:modules/audit.toml differs: harden 0.1.0 wrote the lock, this is 0.2.0
builtin:modules/gone.toml is in the lock only: harden 0.1.0 wrote the lock, this is 0.2.0
builtin:modules/new.toml is not in the lock: harden 0.1.0 wrote the lock, this is 0.2.0
builtin:old is in the lock and no longer imported
team/overrides.toml was changed
x.toml is imported and not in the lock
y.toml is in the lock and no longer imported
the lock is of cluster UID 5f1e, this one is 77aa
Kubernetes was 1.34, is 1.35
"#);
    now.harden = "0.1.0".into();
    let builtin = |line: &String| line.starts_with("builtin:modules");
    let lines: Vec<String> = then.differences(&now).into_iter().filter(builtin).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
builtin:modules/audit.toml differs: another build of harden 0.1.0 wrote the lock
builtin:modules/gone.toml is in the lock only: another build of harden 0.1.0 wrote the lock
builtin:modules/new.toml is not in the lock: another build of harden 0.1.0 wrote the lock
"#);
}

#[test]
fn a_name_cannot_command_the_terminal() {
    let then = lock(&[("a\n\u{1b}[31m\u{202e}\".toml", 'a')]);
    let mut now = lock(&[]);
    now.cluster.id = "\u{1b}c".into();
    insta::assert_snapshot!(then.differences(&now).join("\n"), @r#"
a\n\u{1b}[31m\u{202e}".toml is in the lock and no longer imported
the lock is of cluster UID 5f1e, this one is \u{1b}c
"#);
}

fn any_lock() -> impl Strategy<Value = Lock> {
    let hash = "[0-9a-f]{64}";
    (
        ".{1,8}",
        ".{1,8}",
        ".{1,8}",
        prop::collection::btree_map(any::<String>(), hash, 0..6),
    )
        .prop_map(|(harden, id, kubernetes, files)| Lock {
            harden,
            cluster: ClusterIdentity { id, kubernetes },
            files,
        })
}

/// Every file of both, each once.
fn names(one: &Lock, other: &Lock) -> usize {
    let mut all: BTreeMap<&String, ()> = BTreeMap::new();
    all.extend(one.files.keys().chain(other.files.keys()).map(|n| (n, ())));
    all.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(lock in any_lock()) {
        prop_assert_eq!(Lock::parse(&lock.render()).map_err(|f| format!("{f:#}")), Ok(lock));
    }

    #[test]
    fn two_locks_are_equal_or_differ_in_words(one in any_lock(), other in any_lock()) {
        prop_assert_eq!(one.differences(&one), Vec::<String>::new());
        let lines = one.differences(&other);
        prop_assert_eq!(lines.is_empty(), one == other);
        prop_assert!(lines.len() <= 3 + names(&one, &other));
        for line in lines {
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK_FILE), &bytes).unwrap();
        if let Err(failure) = load_lock(dir.path()) {
            prop_assert!(!failure.0.is_empty());
            let plain = format!("{failure:#}");
            prop_assert!(plain.contains("harden.lock"), "{plain}");
        }
    }

    #[test]
    fn a_damaged_lock_is_answered(
        lock in any_lock(),
        at in any::<prop::sample::Index>(),
        length in 0..20usize,
        text in r#"([\[\]{}"'=.\n#é]|version|files|sha256:|1|[ -~]|\PC){0,8}"#,
    ) {
        let mut damaged: Vec<char> = lock.render().chars().collect();
        let from = at.index(damaged.len());
        let to = (from + length).min(damaged.len());
        damaged.splice(from..to, text.chars());
        let damaged: String = damaged.into_iter().collect();
        match Lock::parse(&damaged) {
            // It may still be a lock, of other files or of the same.
            Ok(read) => prop_assert_eq!(Lock::parse(&read.render()), Ok(read)),
            Err(failure) => {
                prop_assert!(!failure.0.is_empty());
                let mut shown = String::new();
                let handler = miette::GraphicalReportHandler::new();
                prop_assert!(handler.render_report(&mut shown, &failure).is_ok());
                let plain = format!("{failure:#}");
                prop_assert!(plain.contains("harden.lock:"), "{plain}");
            }
        }
    }
}
