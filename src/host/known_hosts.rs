//! Known host keys: a strict matcher of known_hosts files, as sshd(8) describes them.
//!
//! libssh2's own reads `@revoked` and `@cert-authority` as host names and knows no wildcards, so a
//! revoked key still matched. Keys are looked up by the node's name, whatever its address: nodes
//! report their own addresses, so an address proves nothing.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What known_hosts says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the node's.
    Known,
    /// There is no key for this name.
    Unknown,
    /// There are keys for this name, and not this one.
    Changed {
        /// Where one of them stands.
        file: String,
        /// From 1.
        line: usize,
    },
    /// It must not be used.
    Revoked {
        /// Where that stands.
        file: String,
        /// From 1.
        line: usize,
    },
    /// Only a certificate authority stands for this name, which is not supported.
    AuthorityOnly {
        /// Where it stands.
        file: String,
        /// From 1.
        line: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Debug, Clone)]
struct Entry {
    marker: Marker,
    names: String,
    key: Vec<u8>,
    file: String,
    line: usize,
}

/// The lines of some known_hosts files.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// Reads files.
    ///
    /// # Errors
    /// When a file cannot be read, or a line is malformed: a line that was meant to revoke a key
    /// must not be passed over.
    pub fn read(files: &[PathBuf]) -> Result<Self, String> {
        let mut all = KnownHosts::default();
        for file in files {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file)
                .map_err(|e| format!("cannot read the known host keys in {name}: {e}"))?;
            all.add(&name, &text)?;
        }
        Ok(all)
    }

    /// Adds the lines of a text; `file` is for messages.
    ///
    /// # Errors
    /// As [`KnownHosts::read`].
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), String> {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = entry(line).ok_or_else(|| {
                format!(
                    "{file}:{} is no known_hosts line: [@marker] names key-type base64-key",
                    index + 1
                )
            })?;
            self.entries.push(Entry {
                file: file.into(),
                line: index + 1,
                ..entry
            });
        }
        Ok(())
    }

    /// Says whether a key, as the wire has it (RFC 4253 6.6), is the node's.
    pub fn check(&self, name: &str, key: &[u8]) -> Verdict {
        let place = |e: &Entry| (e.file.clone(), e.line);
        let about = || self.entries.iter().filter(|e| matches(&e.names, name));
        if let Some(revoked) = about().find(|e| e.marker == Marker::Revoked && e.key == key) {
            let (file, line) = place(revoked);
            return Verdict::Revoked { file, line };
        }
        let mut plain = about().filter(|e| e.marker == Marker::None).peekable();
        if let Some((file, line)) = plain.peek().map(|e| place(e)) {
            return match plain.any(|e| e.key == key) {
                true => Verdict::Known,
                false => Verdict::Changed { file, line },
            };
        }
        match about().find(|e| e.marker == Marker::Authority) {
            Some(authority) => {
                let (file, line) = place(authority);
                Verdict::AuthorityOnly { file, line }
            }
            None => Verdict::Unknown,
        }
    }

    /// Returns the host key algorithms that can lead to a key that is known for the node.
    pub fn methods(&self, name: &str) -> Vec<&'static str> {
        let known = |wanted: &str| {
            self.entries.iter().any(|e| {
                e.marker == Marker::None
                    && key_type(&e.key) == Some(wanted)
                    && matches(&e.names, name)
            })
        };
        let mut methods = Vec::new();
        for kind in [
            "ssh-ed25519",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
        ] {
            if known(kind) {
                methods.push(kind);
            }
        }
        if known("ssh-rsa") {
            // RFC 8332: the same key, with signatures that are not SHA-1.
            methods.extend(["rsa-sha2-512", "rsa-sha2-256"]);
        }
        methods
    }
}

/// Returns the type that a public key begins with, for example `ssh-ed25519`.
pub fn key_type(key: &[u8]) -> Option<&str> {
    let length = u32::from_be_bytes(key.get(..4)?.try_into().ok()?) as usize;
    std::str::from_utf8(key.get(4..4 + length)?).ok()
}

/// Returns a key's fingerprint as `ssh-keygen -l` shows it.
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace().peekable();
    let marker = match words.peek()? {
        word if word.starts_with('@') => {
            let marker = match *word {
                "@revoked" => Marker::Revoked,
                "@cert-authority" => Marker::Authority,
                _ => return None,
            };
            words.next();
            marker
        }
        _ => Marker::None,
    };
    let (names, kind, key) = (words.next()?, words.next()?, words.next()?);
    let key = STANDARD.decode(key).ok()?;
    let good = key_type(&key) == Some(kind) && (!names.starts_with('|') || hashed(names).is_some());
    good.then(|| Entry {
        marker,
        names: names.into(),
        key,
        file: String::new(),
        line: 0,
    })
}

/// Whether a line's names hold this one: a hashed name, or patterns of which none is negated.
fn matches(names: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if let Some((salt, hash)) = hashed(names) {
        return Hmac::<Sha1>::new_from_slice(&salt)
            .map(|mut mac| {
                mac.update(name.as_bytes());
                mac.verify_slice(&hash).is_ok()
            })
            .unwrap_or(false);
    }
    let mut found = false;
    for pattern in names.split(',') {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

/// `|1|SALT|HASH`: HMAC-SHA1 of the name under the salt (sshd(8), HashKnownHosts).
fn hashed(names: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (salt, hash) = names.strip_prefix("|1|")?.split_once('|')?;
    Some((STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?))
}

/// `*` and `?`, as OpenSSH's match_pattern; linear in the name for each star.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::process::Command;

    use super::*;

    /// A well-formed public key of which the last byte tells it from another.
    fn key(kind: &str, n: u8) -> Vec<u8> {
        let mut key = (kind.len() as u32).to_be_bytes().to_vec();
        key.extend(kind.as_bytes());
        key.extend([0, 0, 0, 1, n]);
        key
    }

    fn line(names: &str, n: u8) -> String {
        format!(
            "{names} ssh-ed25519 {}\n",
            STANDARD.encode(key("ssh-ed25519", n))
        )
    }

    fn known(text: &str) -> KnownHosts {
        let mut all = KnownHosts::default();
        all.add("known_hosts", text).expect("well-formed");
        all
    }

    fn verdict(text: &str, name: &str, n: u8) -> Verdict {
        known(text).check(name, &key("ssh-ed25519", n))
    }

    #[test]
    fn a_key_counts_for_its_name_only() {
        assert_eq!(verdict(&line("cp1", 1), "cp1", 1), Verdict::Known);
        assert_eq!(verdict(&line("cp1", 1), "cp2", 1), Verdict::Unknown);
        assert_eq!(verdict(&line("cp1", 1), "cp11", 1), Verdict::Unknown);
        assert_eq!(verdict(&line("a,cp1,b", 1), "cp1", 1), Verdict::Known);
        assert_eq!(verdict(&line("CP1", 1), "cp1", 1), Verdict::Known);
        let changed = Verdict::Changed {
            file: "known_hosts".into(),
            line: 1,
        };
        assert_eq!(verdict(&line("cp1", 1), "cp1", 2), changed);
    }

    #[test]
    fn one_of_several_keys_is_enough() {
        let text = line("cp1", 1) + &line("cp1", 2);
        assert_eq!(verdict(&text, "cp1", 2), Verdict::Known);
    }

    #[test]
    fn a_revoked_key_loses_wherever_the_line_stands() {
        let revoked = Verdict::Revoked {
            file: "known_hosts".into(),
            line: 2,
        };
        let text = format!("{}@revoked {}", line("cp1", 1), line("*", 1));
        assert_eq!(verdict(&text, "cp1", 1), revoked);
        let text = format!("@revoked {}{}", line("cp1", 1), line("cp1", 1));
        assert!(matches!(
            verdict(&text, "cp1", 1),
            Verdict::Revoked { line: 1, .. }
        ));
    }

    #[test]
    fn wildcards_and_negation() {
        assert_eq!(verdict(&line("cp*", 1), "cp12", 1), Verdict::Known);
        assert_eq!(verdict(&line("cp?", 1), "cp12", 1), Verdict::Unknown);
        assert_eq!(verdict(&line("cp*,!cp12", 1), "cp12", 1), Verdict::Unknown);
        assert_eq!(verdict(&line("!cp12,cp*", 1), "cp13", 1), Verdict::Known);
    }

    #[test]
    fn an_authority_is_said_not_to_be_supported() {
        let text = format!("@cert-authority {}", line("*", 1));
        assert!(matches!(
            verdict(&text, "cp1", 1),
            Verdict::AuthorityOnly { .. }
        ));
    }

    #[test]
    fn a_malformed_line_is_an_error_with_its_place() {
        for bad in [
            "cp1",
            "cp1 ssh-ed25519",
            "cp1 ssh-ed25519 !!!",
            "@typo cp1 ssh-ed25519 AAAA",
            &line("cp1", 1).replace("ssh-ed25519", "ssh-rsa"),
            &line("|1|broken", 1),
        ] {
            let error = KnownHosts::default()
                .add("f", &format!("# c\n{bad}"))
                .expect_err(bad);
            assert!(error.starts_with("f:2 "), "{error}");
        }
    }

    #[test]
    fn methods_follow_the_known_types() {
        let rsa = format!("cp1 ssh-rsa {}\n", STANDARD.encode(key("ssh-rsa", 1)));
        let text = line("cp1", 1) + &rsa;
        assert_eq!(
            known(&text).methods("cp1"),
            ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"]
        );
        assert!(known(&text).methods("other").is_empty());
    }

    /// The real ssh-keygen hashes the names and finds them; so do we.
    #[test]
    fn hashed_names_as_ssh_keygen_writes_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("known_hosts");
        std::fs::write(&file, line("cp1", 1) + &line("cp2", 2)).expect("written");
        let keygen = Command::new("ssh-keygen")
            .arg("-H")
            .arg("-f")
            .arg(&file)
            .output();
        assert!(
            keygen
                .expect("package openssh-client is installed")
                .status
                .success()
        );
        let text = std::fs::read_to_string(&file).expect("read");
        assert!(text.starts_with("|1|"), "{text}");
        assert_eq!(verdict(&text, "cp1", 1), Verdict::Known);
        assert!(matches!(verdict(&text, "cp2", 1), Verdict::Changed { .. }));
        assert_eq!(verdict(&text, "cp3", 1), Verdict::Unknown);
    }

    proptest! {
        /// A negated pattern never lets its name in, whatever stands beside it.
        #[test]
        fn negation_always_wins(others in prop::collection::vec("[a-z*?]{1,5}", 0..4), name in "[a-z]{1,6}") {
            let mut names = others;
            names.push(format!("!{name}"));
            prop_assert!(!matches(&names.join(","), &name));
        }

        #[test]
        fn random_lines_never_panic(text in any::<String>()) {
            let _ = KnownHosts::default().add("f", &text);
        }

        #[test]
        fn a_pattern_without_wildcards_matches_itself_only(a in "[a-z0-9.-]{1,8}", b in "[a-z0-9.-]{1,8}") {
            prop_assert_eq!(glob(a.as_bytes(), b.as_bytes()), a == b);
        }
    }
}
