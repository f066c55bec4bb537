//! What the probe says of encryption at rest: everything but the keys, under real shells.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harden::fact::encryption::{EtcdPrefix, Form, Group, Provider, StoredForm};
use harden::fact::probe::{SCRIPT, encode, parse};
use harden::fact::{Answer, Fact, NodePath, Query, hex, sha256};

const NONCE: &str = "0123456789abcdef";

/// The shells that must agree.
const SHELLS: &[(&str, &[&str])] = &[
    ("sh", &["sh"]),
    ("dash", &["dash"]),
    ("bash as sh", &["bash", "--posix"]),
    ("BusyBox", &["busybox", "sh"]),
];

/// 32 bytes that are found wherever they appear, as they are and in base64.
const CANARY: &[u8; 32] = b"canary-canary-canary-canary-key!";
const CANARY64: &str = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWtleSE=";

/// What a shell answers, and the raw words that would travel over the network.
fn ask(shell: &[&str], script: &str, query: &Query) -> (Fact<Answer>, String) {
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", script, "harden"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shell:?} (Debian: dash, bash, busybox): {error}"));
    let queries = std::slice::from_ref(query);
    let request = encode(NONCE, queries);
    child.stdin.take().unwrap().write_all(&request).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let facts = parse(NONCE, queries, &output.stdout).unwrap();
    let mut words = String::from_utf8_lossy(&output.stdout).into_owned();
    words.push_str(&String::from_utf8_lossy(&output.stderr));
    (facts[query].clone(), words)
}

fn holds_no_key(shell: &str, words: &str) {
    let key = String::from_utf8_lossy(CANARY).into_owned();
    let needles = [
        key.clone(),
        key[4..20].to_owned(),
        CANARY64.to_owned(),
        CANARY64[4..20].to_owned(),
        hex(CANARY),
        hex(&CANARY[..8]),
        hex(CANARY64.as_bytes()),
        sha256(CANARY),
    ];
    for needle in needles {
        assert!(!words.contains(&needle), "{shell} tells {needle}: {words}");
    }
}

fn key(provider: Provider, name: &str) -> Form {
    Form::key(provider, name).unwrap()
}

fn write(path: &Path, text: &str) -> Query {
    fs::write(path, text).unwrap();
    Query::Encryption(NodePath::new(path.to_str().unwrap()).unwrap())
}

#[test]
fn a_configuration_is_told_without_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let block = format!(
        "---\n# by hand\napiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources:\n  - secrets\n  - \"*.apps\"\n  providers:\n  - secretbox:\n      keys:\n\
         \x20     - name: key2\n        secret: {CANARY64}\n      - secret: \"{CANARY64}\"\n        name: 'key1'\n\
         \x20 - identity: {{}}\n  - kms:\n      apiVersion: v2\n      name: vault\n      endpoint: unix:///run/kms.sock\n\
         - providers:\n  - aescbc:\n      keys:\n      - name: old\n        secret: {CANARY64}\n\
         \x20 resources:\n  - configmaps"
    );
    // Indented further, as many write it, and with the first keys behind.
    let indented = format!(
        "resources:\n  - resources:\n      - secrets\n    providers:\n      - identity: {{}}\n      - aesgcm:\n\
         \x20         keys:\n            - name: key1\n              secret: {CANARY64}\n\
         kind: EncryptionConfiguration\napiVersion: \"apiserver.config.k8s.io/v1\"\n"
    );
    let groups = vec![
        Group {
            resources: vec!["secrets".into(), "*.apps".into()],
            forms: vec![
                key(Provider::Secretbox, "key2"),
                key(Provider::Secretbox, "key1"),
                Form::Clear,
                key(Provider::Kms, "vault"),
            ],
        },
        Group {
            resources: vec!["configmaps".into()],
            forms: vec![key(Provider::Aescbc, "old")],
        },
    ];
    let short = vec![Group {
        resources: vec!["secrets".into()],
        forms: vec![Form::Clear, key(Provider::Aesgcm, "key1")],
    }];
    for (text, groups) in [(&block, &groups), (&indented, &short)] {
        let query = write(&path, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for (shell, words) in SHELLS {
            let (fact, said) = ask(words, SCRIPT, &query);
            holds_no_key(shell, &said);
            let Fact::Value(Answer::Encryption(file)) = fact else {
                panic!("{shell}: {fact:?}");
            };
            assert_eq!(file.groups, *groups, "{shell}");
            assert_eq!(file.sha256, sha256(text), "{shell}");
            assert_eq!(file.meta.mode, 0o640, "{shell}");
            assert!(file.written > 1_700_000_000, "{shell}");
        }
    }
}

#[test]
fn whatever_could_be_a_key_in_another_place_is_not_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
                - resources:\n  - secrets\n  providers:\n  - secretbox:\n      keys:\n";
    for tail in [
        // Flow style, JSON, folded and literal scalars, anchors, tags, comments behind, odd names.
        format!("      - {{name: key1, secret: {CANARY64}}}\n"),
        format!("      - name: key1\n        secret: >-\n          {CANARY64}\n"),
        format!("      - name: key1\n        secret: |\n          {CANARY64}\n"),
        format!("      - name: key1\n        secret:\n          {CANARY64}\n"),
        format!("      - name: key1\n        secret: &a {CANARY64}\n"),
        format!("      - name: key1\n        secret: !!str {CANARY64}\n"),
        format!("      - name: key1\n        secret: {CANARY64} # {CANARY64}\n"),
        format!("      - name: {CANARY64}\n        secret: {CANARY64}\n"),
        format!("      - name: key1\n        \"secret\": {CANARY64}\n"),
        format!("      - name: key1\n        secret: {CANARY64}\n        - {CANARY64}\n"),
        format!("      - name: key1\n        secret: YWJj\n          {CANARY64}\n"),
        format!("      - name: key1\n        secret: YWJj\n        other: {CANARY64}\n"),
        format!("      - name: key1\n        endpoint: {CANARY64}\n"),
        format!("      - {CANARY64}\n"),
        format!("\t- name: key1\n\tsecret: {CANARY64}\n"),
        format!("      - name: key1\r\n        secret: {CANARY64}\r\n"),
        format!("\0{CANARY64}\n"),
    ] {
        let query = write(&path, &format!("{head}{tail}"));
        for (shell, words) in SHELLS {
            let (fact, said) = ask(words, SCRIPT, &query);
            holds_no_key(shell, &said);
            assert!(
                matches!(&fact, Fact::Unreadable(why) if why.starts_with("line ")),
                "{shell}: {tail:?}: {fact:?}"
            );
        }
    }
    let json = format!(
        "{{\"kind\":\"EncryptionConfiguration\",\"resources\":[{{\"providers\":[{{\"aescbc\":{{\"keys\":\
         [{{\"name\":\"aescbckey\",\"secret\":\"{CANARY64}\"}}]}}}}]}}]}}"
    );
    let query = write(&path, &json);
    for (shell, words) in SHELLS {
        let (fact, said) = ask(words, SCRIPT, &query);
        holds_no_key(shell, &said);
        assert!(matches!(fact, Fact::Unreadable(_)), "{shell}: {fact:?}");
    }
}

#[test]
fn a_configuration_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let query = |name: &str| Query::Encryption(NodePath::new(at(name).to_str().unwrap()).unwrap());
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("file"), "").unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    fs::write(at("large"), vec![b'#'; 131_073]).unwrap();
    for (shell, words) in SHELLS {
        let ask = |name| ask(words, SCRIPT, &query(name)).0;
        assert_eq!(ask("missing"), Fact::Absent, "{shell}");
        for name in ["dir", "link", "large"] {
            assert!(matches!(ask(name), Fact::Unreadable(_)), "{shell}: {name}");
        }
        let Fact::Value(Answer::Encryption(empty)) = ask("file") else {
            panic!("{shell}");
        };
        assert!(empty.groups.is_empty());
    }
}

/// An etcdctl that gives one page after the other, whatever it is asked, and notes what it was asked.
struct Etcd {
    dir: tempfile::TempDir,
    script: String,
}

impl Etcd {
    fn new(pages: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for (n, page) in (1..).zip(pages) {
            fs::write(at(&format!("page{n}")), page).unwrap();
        }
        fs::write(at("healthcheck-client.key"), "").unwrap();
        let program = format!(
            "#!/bin/sh\nn=$(cat {count} 2>/dev/null || echo 0)\nn=$((n + 1))\necho $n >{count}\n\
             for word; do printf '%s ' \"$word\"; done >>{asked}\necho >>{asked}\ncat {page}$n\n",
            count = at("count"),
            asked = at("asked"),
            page = at("page"),
        );
        fs::write(at("etcdctl"), program).unwrap();
        fs::set_permissions(at("etcdctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let script = SCRIPT
            .replace("/proc/$pid/root/usr/local/bin/etcdctl", &at("etcdctl"))
            .replace("pki=/etc/kubernetes/pki/etcd", &format!("pki={}", at("")))
            .replace(
                "etcd_process() {",
                "etcd_process() {\n    pid=1\n    return 0\n",
            );
        assert!(script.len() > SCRIPT.len());
        Etcd { dir, script }
    }

    fn ask(&self, shell: &[&str]) -> (Fact<Answer>, String) {
        for name in ["count", "asked"] {
            let _ = fs::remove_file(self.dir.path().join(name));
        }
        let prefix = EtcdPrefix::new("/registry/secrets/").unwrap();
        ask(shell, &self.script, &Query::Stored(prefix))
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.dir.path().join("asked")).unwrap()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| char::from(DIGITS[(n & 63) as usize]);
    bytes
        .chunks(3)
        .map(|three| {
            let at = |n: usize| u32::from(*three.get(n).unwrap_or(&0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            let mut text: String = [18, 12, 6, 0].map(|n| digit(bits >> n)).iter().collect();
            text.truncate(three.len() + 1);
            format!("{text:=<4}")
        })
        .collect()
}

fn page(objects: &[(String, Vec<u8>)]) -> String {
    let kvs: Vec<String> = objects
        .iter()
        .map(|(key, value)| {
            let value = match value.is_empty() {
                true => String::new(),
                false => format!(",\"value\":\"{}\"", base64(value)),
            };
            format!(
                "{{\"key\":\"{}\",\"create_revision\":5,\"mod_revision\":5,\"version\":1{value}}}",
                base64(key.as_bytes())
            )
        })
        .collect();
    let head = "\"header\":{\"cluster_id\":1,\"member_id\":2,\"revision\":3,\"raft_term\":2}";
    match kvs.is_empty() {
        true => format!("{{{head}}}\n"),
        false => format!("{{{head},\"kvs\":[{}],\"count\":9}}\n", kvs.join(",")),
    }
}

fn encrypted(prefix: &str, length: usize) -> Vec<u8> {
    let mut value = prefix.as_bytes().to_vec();
    // What looks like the end of a value, of a line and of a page is in it.
    let noise = b"\n\",{}\0k8s:enc:aescbc:v1:other:\xff\xfe\n/registry/secrets/x\n";
    value.extend(noise.iter().cycle().take(length));
    value
}

#[test]
fn objects_are_counted_by_form_page_by_page() {
    let name = |n: usize| format!("/registry/secrets/default/s{n:04}");
    let mut objects: Vec<(String, Vec<u8>)> = (0..200)
        .map(|n| (name(n), encrypted("k8s:enc:secretbox:v1:key1:", n * 7)))
        .collect();
    let first = page(&objects);
    objects = vec![
        (name(200), encrypted("k8s:enc:aescbc:v1:old.key_2-x:", 0)),
        (name(201), encrypted("k8s\0", 500)),
        (name(202), b"k8s\0".to_vec()),
        (name(203), b"{\"kind\":\"Panda\"}".to_vec()),
        (name(204), b"\xff\xff".to_vec()),
        (name(205), b"k8s:enc:secretbox:v1:not a name:".to_vec()),
        (name(206), Vec::new()),
        (name(207), encrypted("k8s:enc:kms:v2:vault:", 3000)),
        (
            name(208),
            encrypted(&format!("k8s:enc:aesgcm:v1:{}:", "n".repeat(63)), 9),
        ),
    ];
    let etcd = Etcd::new(&[first, page(&objects)]);
    for (shell, words) in SHELLS {
        let (fact, said) = etcd.ask(words);
        let Fact::Value(Answer::Stored(stored)) = fact else {
            panic!("{shell}: {fact:?}\n{said}");
        };
        let of = |form: Form| stored.get(&StoredForm::Form(form)).copied();
        assert_eq!(of(key(Provider::Secretbox, "key1")), Some(200), "{shell}");
        assert_eq!(of(key(Provider::Aescbc, "old.key_2-x")), Some(1), "{shell}");
        assert_eq!(of(key(Provider::Kms, "vault")), Some(1), "{shell}");
        let longest = key(Provider::Aesgcm, &"n".repeat(63));
        assert_eq!(of(longest), Some(1), "{shell}");
        assert_eq!(of(Form::Clear), Some(3), "{shell}");
        assert_eq!(stored.get(&StoredForm::Other), Some(&3), "{shell}");
        let asked = etcd.asked();
        let asked: Vec<&str> = asked.lines().collect();
        assert_eq!(asked.len(), 2, "{shell}: {asked:?}");
        assert!(
            asked[0].contains(" get /registry/secrets/ /registry/secrets0 "),
            "{shell}: {asked:?}"
        );
        assert!(
            asked[1].contains(" get /registry/secrets/default/s0199! /registry/secrets0 "),
            "{shell}: {asked:?}"
        );
    }
}

#[test]
fn an_etcd_that_does_not_answer_is_not_taken_for_an_empty_one() {
    for (what, pages) in [
        ("nothing", vec![String::new()]),
        ("an error", vec!["{\"level\":\"warn\"}\n".to_owned()]),
        (
            "other keys",
            vec![page(
                &(0..200)
                    .map(|n| (format!("/registry/pods/{n:04}"), b"k8s\0".to_vec()))
                    .collect::<Vec<_>>(),
            )],
        ),
    ] {
        let etcd = Etcd::new(&pages);
        for (shell, words) in SHELLS {
            let (fact, _) = etcd.ask(words);
            assert!(
                matches!(fact, Fact::Unreadable(_)),
                "{shell}: {what}: {fact:?}"
            );
        }
    }
    let etcd = Etcd::new(&[page(&[])]);
    for (shell, words) in SHELLS {
        let (fact, _) = etcd.ask(words);
        assert_eq!(fact, Fact::Value(Answer::Stored([].into())), "{shell}");
    }
}

/// In a process namespace of its own: starts a program called `etcd` in the directory `$1`, where `$2` says
/// how, and runs the probe once it is there.
const NODE: &str = r#"
    base=$1 how=$2 script=$3
    shift 3
    cp /bin/sleep "$base/etcd"
    case $how in
        own) unshare --mount sh -c 'mount -t tmpfs none "$1/keys" && exec "$1/etcd" 600' sh "$base" & ;;
        node) "$base/etcd" 600 & ;;
    esac
    until pgrep -x etcd >/dev/null; do sleep 0.05; done
    "$@" -c "$script" harden
"#;

#[test]
fn a_program_of_that_name_that_has_not_the_nodes_keys_is_not_taken_for_its_etcd() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let keys = format!("pki={base}/keys");
    let script = SCRIPT.replace("pki=/etc/kubernetes/pki/etcd", &keys);
    assert!(script.contains(&keys));
    let prefix = EtcdPrefix::new("/registry/secrets/").unwrap();
    let query = Query::Stored(prefix);
    for (shell, words) in SHELLS {
        for (how, found) in [("node", true), ("own", false)] {
            let head = [
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "--map-root-user",
            ];
            let mut node = vec!["unshare"];
            node.extend(head);
            node.extend(["bash", "-c", NODE, "node", base, how, script.as_str()]);
            node.extend(*words);
            let mut child = Command::new(node[0])
                .args(&node[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("unshare (Debian: util-linux)");
            let queries = std::slice::from_ref(&query);
            let request = encode(NONCE, queries);
            child.stdin.take().unwrap().write_all(&request).unwrap();
            let output = child.wait_with_output().unwrap();
            let facts = parse(NONCE, queries, &output.stdout).unwrap();
            match &facts[&query] {
                // It is asked then, as far as its programs and keys are there.
                Fact::Unreadable(why) if found => {
                    assert!(why.contains("etcdctl"), "{shell}: {why}")
                }
                Fact::Absent if !found => {}
                other => panic!("{shell} {how}: {other:?}"),
            }
        }
    }
}
