use std::path::Path;
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;

use super::*;

/// A key of this type with these bytes in it.
fn key(kind: &str, seed: u8) -> Vec<u8> {
    let mut blob = Vec::new();
    for part in [kind.as_bytes(), &[seed; 32]] {
        blob.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        blob.extend(part);
    }
    blob
}

fn ed(seed: u8) -> Vec<u8> {
    key("ssh-ed25519", seed)
}

/// The two fields of a key.
fn fields(blob: &[u8]) -> String {
    format!("{} {}", key_type(blob).unwrap(), STANDARD.encode(blob))
}

fn hashed(name: &str) -> String {
    let salt = [7; 20];
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&salt).unwrap();
    mac.update(name.as_bytes());
    let hash = mac.finalize().into_bytes();
    format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash))
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.add(Path::new("known_hosts"), text.as_bytes());
    known
}

fn place(line: usize) -> Place {
    Place {
        file: "known_hosts".into(),
        line,
    }
}

fn unknown() -> Outcome {
    Outcome::Unknown {
        other_types: Vec::new(),
        authority: None,
    }
}

/// What files with this host field say of cp1 and the key in it.
fn with_hosts(hosts: &str) -> Outcome {
    known(&format!("{hosts} {}\n", fields(&ed(1)))).look_up("cp1", 22, &ed(1))
}

#[test]
fn host_fields() {
    for hosts in [
        "cp1",
        "CP1",
        "a,cp1,b",
        "cp*",
        "c?1",
        "*",
        "*1",
        "!cp2,cp*",
        &hashed("cp1"),
        "c*p*1*",
    ] {
        assert_eq!(with_hosts(hosts), Outcome::Known, "{hosts}");
    }
    for hosts in [
        "cp",
        "cp11",
        "cp1.example",
        "[cp1]:22",
        "[cp1]:2222",
        "!cp1",
        "!cp1,cp*",
        "cp*,!c?1",
        "?",
        "a,b",
        &hashed("cp2"),
        "cp??",
        "",
    ] {
        assert_eq!(with_hosts(hosts), unknown(), "{hosts}");
    }
}

#[test]
fn other_ports_have_names_of_their_own() {
    let other = known(&format!("[cp1]:2222 {}\n", fields(&ed(1))));
    assert_eq!(other.look_up("cp1", 2222, &ed(1)), Outcome::Known);
    assert_eq!(other.look_up("cp1", 22, &ed(1)), unknown());
    let hashed = known(&format!("{} {}\n", hashed("[cp1]:2222"), fields(&ed(1))));
    assert_eq!(hashed.look_up("cp1", 2222, &ed(1)), Outcome::Known);
    let plain = known(&format!("cp1 {}\n", fields(&ed(1))));
    assert_eq!(plain.look_up("cp1", 2222, &ed(1)), Outcome::Known);
}

#[test]
fn a_changed_key_names_its_line() {
    let file = known(&format!(
        "# comment\n\ncp1 {}\ncp1 {} a comment\n",
        fields(&key("ecdsa-sha2-nistp256", 1)),
        fields(&ed(1))
    ));
    assert_eq!(file.look_up("cp1", 22, &ed(1)), Outcome::Known);
    assert_eq!(file.look_up("cp1", 22, &ed(2)), Outcome::Changed(place(4)));
    assert_eq!(
        file.look_up("cp1", 22, &key("ssh-rsa", 1)),
        Outcome::Unknown {
            other_types: vec!["ecdsa-sha2-nistp256".into(), "ssh-ed25519".into()],
            authority: None,
        }
    );
}

#[test]
fn a_host_may_have_two_keys_of_a_type() {
    let file = known(&format!("cp1 {}\ncp1 {}\n", fields(&ed(1)), fields(&ed(2))));
    assert_eq!(file.look_up("cp1", 22, &ed(1)), Outcome::Known);
    assert_eq!(file.look_up("cp1", 22, &ed(2)), Outcome::Known);
    assert_eq!(file.look_up("cp1", 22, &ed(3)), Outcome::Changed(place(1)));
}

#[test]
fn a_revocation_wins_wherever_it_stands() {
    let (k, other) = (fields(&ed(1)), fields(&ed(2)));
    for text in [
        format!("@revoked * {k}\ncp1 {k}\n"),
        format!("cp1 {k}\n@revoked cp1 {k}\n"),
        format!("cp1 {k}\n \t@revoked\t{}  {k} compromised\n", hashed("cp1")),
    ] {
        let outcome = known(&text).look_up("cp1", 22, &ed(1));
        assert!(
            matches!(outcome, Outcome::Revoked(_)),
            "{text}: {outcome:?}"
        );
    }
    for text in [
        format!("@revoked cp2 {k}\ncp1 {k}\n"),
        format!("@revoked cp1 {other}\ncp1 {k}\n"),
    ] {
        assert_eq!(known(&text).look_up("cp1", 22, &ed(1)), Outcome::Known);
    }
    // A revoked key alone does not make the host known.
    let alone = known(&format!("@revoked cp1 {other}\n"));
    assert_eq!(alone.look_up("cp1", 22, &ed(1)), unknown());
    assert!(alone.key_types("cp1", 22).is_empty());
}

#[test]
fn an_authority_is_no_key_of_the_host() {
    let file = known(&format!(
        "@cert-authority *.example,cp1 {}\n",
        fields(&ed(1))
    ));
    assert_eq!(
        file.look_up("cp1", 22, &ed(1)),
        Outcome::Unknown {
            other_types: Vec::new(),
            authority: Some(place(1)),
        }
    );
}

#[test]
fn malformed_lines_matter_when_they_concern_the_host() {
    let k = fields(&ed(1));
    for (bad, why) in [
        ("cp1", "has no key"),
        ("cp1 ssh-ed25519", "has no key"),
        ("cp1 ssh-ed25519 !!!", "has a key that is not base64"),
        (
            "cp1 ssh-rsa AAAAC3NzaC1lZDI1NTE5",
            "has a key of another type than it says",
        ),
    ] {
        let alone = known(bad);
        assert_eq!(
            alone.look_up("cp1", 22, &ed(1)),
            Outcome::Malformed(place(1), why)
        );
        assert_eq!(alone.look_up("cp2", 22, &ed(1)), unknown());
        assert_eq!(alone.malformed(), [(place(1), why)]);
        let beside = known(&format!("{bad}\ncp1 {k}\n"));
        assert_eq!(beside.look_up("cp1", 22, &ed(1)), Outcome::Known);
        let revoking = known(&format!("@revoked {bad}\ncp1 {k}\n"));
        assert_eq!(
            revoking.look_up("cp1", 22, &ed(1)),
            Outcome::Malformed(place(1), why)
        );
    }
    for bad in ["@revoked |1|x|y k", "@revoked"] {
        let outcome = known(&format!("{bad}\ncp1 {k}\n")).look_up("cp1", 22, &ed(1));
        assert!(matches!(outcome, Outcome::Malformed(..)), "{bad}");
    }
    for bad in [
        format!("@other cp1 {k}"),
        format!("|2|a|b {k}"),
        format!("|1|AAAA|AAAA {k}"),
    ] {
        let file = known(&bad);
        assert_eq!(file.look_up("cp1", 22, &ed(1)), unknown(), "{bad}");
        assert_eq!(file.malformed().len(), 1, "{bad}");
    }
    let mut bytes = KnownHosts::default();
    bytes.add(Path::new("f"), b"@revoked \xff\r\n");
    assert!(matches!(
        bytes.look_up("a", 22, &ed(1)),
        Outcome::Malformed(..)
    ));
}

#[test]
fn several_files_count_and_windows_line_ends_are_read() {
    let mut all = KnownHosts::default();
    all.add(
        Path::new("a"),
        format!("cp1 {}\r\n", fields(&ed(1))).as_bytes(),
    );
    all.add(
        Path::new("b"),
        format!("@revoked * {}", fields(&ed(1))).as_bytes(),
    );
    let revoked = Outcome::Revoked(Place {
        file: "b".into(),
        line: 1,
    });
    assert_eq!(all.look_up("cp1", 22, &ed(1)), revoked);
}

#[test]
fn a_missing_file_is_empty_and_an_unreadable_one_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let none = KnownHosts::read(&[dir.path().join("none")]).unwrap();
    assert_eq!(none.look_up("cp1", 22, &ed(1)), unknown());
    assert!(KnownHosts::read(&[dir.path().to_owned()]).is_err());
}

#[test]
fn algorithms_begin_with_what_is_known() {
    let file = known(&format!(
        "cp1 {}\ncp2 {}\n",
        fields(&key("ssh-rsa", 1)),
        fields(&key("ecdsa-sha2-nistp384", 1))
    ));
    assert!(
        file.algorithms("cp1", 22)
            .starts_with("rsa-sha2-512,rsa-sha2-256,ssh-rsa,ssh-ed25519,")
    );
    assert!(
        file.algorithms("cp2", 22)
            .starts_with("ecdsa-sha2-nistp384,ssh-ed25519,")
    );
    assert!(file.algorithms("cp3", 22).starts_with("ssh-ed25519,"));
}

/// The lines that `ssh-keygen -F` finds.
fn found_by_ssh_keygen(name: &str, file: &Path) -> Vec<usize> {
    let output = Command::new("ssh-keygen")
        .args(["-F", name, "-f"])
        .arg(file)
        .output()
        .expect("ssh-keygen runs (Debian: openssh-client)");
    let marker = format!("# Host {name} found: line ");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix(&marker)?.split(' ').next()?.parse().ok())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// OpenSSH's own matcher finds the same lines.
    #[test]
    fn ssh_keygen_agrees(
        lines in prop::collection::vec(
            ("(@revoked |@cert-authority )?", prop::collection::vec("!?[abA*?]{1,4}", 1..4), any::<bool>()),
            1..12,
        ),
        name in "[ab]{1,4}",
    ) {
        let mut text = String::new();
        for (marker, patterns, hash) in lines {
            let hosts = if hash { hashed(&patterns[0].to_lowercase()) } else { patterns.join(",") };
            text.push_str(&format!("{marker}{hosts} {}\n", fields(&ed(1))));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        std::fs::write(&path, &text).unwrap();
        let known = KnownHosts::read(std::slice::from_ref(&path)).unwrap();
        let ours: Vec<_> = known.of_host(&name, 22).map(|line| line.place.line).collect();
        prop_assert_eq!(ours, found_by_ssh_keygen(&name, &path), "{}", text);
    }
}

proptest! {
    #[test]
    fn random_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), name in ".{0,8}") {
        let mut all = KnownHosts::default();
        all.add(Path::new("f"), &bytes);
        let outcome = all.look_up(&name, 2222, &bytes);
        prop_assert_ne!(outcome, Outcome::Known);
    }

    /// Whatever else a file says, a key that it does not hold is never known.
    #[test]
    fn only_a_listed_key_is_known(
        lines in prop::collection::vec(("[a*?,!]{1,5}", 0..4u8), 0..8),
        offered in 0..4u8,
    ) {
        let text: String =
            lines.iter().map(|(hosts, seed)| format!("{hosts} {}\n", fields(&ed(*seed)))).collect();
        let outcome = known(&text).look_up("a", 22, &ed(offered));
        let listed = lines.iter().any(|(_, seed)| *seed == offered);
        prop_assert!(listed || outcome != Outcome::Known);
    }
}
