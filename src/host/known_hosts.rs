//! Known host keys: a strict matcher of known_hosts files, as sshd(8) describes them.
//!
//! A key is bound to the node's *name*, like OpenSSH's `HostKeyAlias`: addresses are what nodes
//! report of themselves, names are what the workspace says. Nothing is ever added to a file.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

mod line;

use line::{Content, Line, Marker};

/// The keys of one or more known_hosts files.
#[derive(Debug, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What the files say of a host and the key that it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is the host's key.
    Known,
    /// No line names the host with a key of this type.
    Unknown {
        /// The types of key that it is known by instead.
        other_types: Vec<String>,
        /// A `@cert-authority` line that names it; host certificates are not supported.
        authority: Option<Place>,
    },
    /// The host is known by another key of the same type.
    Changed(Place),
    /// The key is revoked, whatever other lines say.
    Revoked(Place),
    /// A line that concerns the host cannot be read, and without it nothing is certain.
    Malformed(Place, &'static str),
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}; make it readable or take it out of `known-hosts`", file.display())]
pub struct ReadError {
    /// Which file.
    pub file: PathBuf,
    /// The system's words.
    pub source: std::io::Error,
}

impl KnownHosts {
    /// Reads the files. One that does not exist knows no hosts.
    ///
    /// # Errors
    /// When a file exists and cannot be read: it might hold a revocation.
    pub fn read(files: &[PathBuf]) -> Result<Self, ReadError> {
        let mut all = KnownHosts::default();
        for file in files {
            match std::fs::read(file) {
                Ok(bytes) => all.add(file, &bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(ReadError {
                        file: file.clone(),
                        source,
                    });
                }
            }
        }
        Ok(all)
    }

    /// Adds the lines of one file.
    pub fn add(&mut self, file: &Path, bytes: &[u8]) {
        for (index, bytes) in bytes.split(|&b| b == b'\n').enumerate() {
            let place = Place {
                file: file.to_owned(),
                line: index + 1,
            };
            self.lines.extend(Line::parse(place, bytes));
        }
    }

    /// Judges the key that a host offers: the blob of RFC 4253 6.6. Other ports than 22 may also be
    /// known as `[name]:port`.
    pub fn look_up(&self, name: &str, port: u16, key: &[u8]) -> Outcome {
        let of_host: Vec<_> = self.of_host(name, port).collect();
        let key_type = key_type(key).unwrap_or_default();
        let with = |marker: Marker| {
            let of_host = of_host.iter().copied();
            of_host.filter_map(move |line| match &line.content {
                Content::Key { kind, blob } if line.marker == marker => {
                    Some((line, kind.as_str(), blob.as_slice()))
                }
                _ => None,
            })
        };
        let malformed = |only: Option<Marker>| {
            of_host.iter().find_map(|line| match line.content {
                Content::Malformed(why) if only.is_none_or(|m| m == line.marker) => {
                    Some(Outcome::Malformed(line.place.clone(), why))
                }
                _ => None,
            })
        };
        if let Some((line, ..)) = with(Marker::Revoked).find(|(_, _, blob)| *blob == key) {
            return Outcome::Revoked(line.place.clone());
        }
        // It might revoke just this key.
        if let Some(outcome) = malformed(Some(Marker::Revoked)) {
            return outcome;
        }
        if with(Marker::None).any(|(_, _, blob)| blob == key) {
            return Outcome::Known;
        }
        if let Some((line, ..)) = with(Marker::None).find(|(_, kind, _)| *kind == key_type) {
            return Outcome::Changed(line.place.clone());
        }
        malformed(None).unwrap_or_else(|| Outcome::Unknown {
            other_types: self.key_types(name, port),
            authority: with(Marker::Authority)
                .next()
                .map(|(line, ..)| line.place.clone()),
        })
    }

    /// Returns the types of the keys that a host is known by, each once, in the order of the files.
    pub fn key_types(&self, name: &str, port: u16) -> Vec<String> {
        let mut types: Vec<String> = Vec::new();
        for line in self.of_host(name, port) {
            if let (Marker::None, Content::Key { kind, .. }) = (line.marker, &line.content)
                && !types.contains(kind)
            {
                types.push(kind.clone());
            }
        }
        types
    }

    /// Returns the value for `HostKeyAlgorithms`: first what the host is known by, so that a server
    /// with several keys offers the known one, then the rest, so that a mismatch is named as such.
    /// Certificates are left out.
    pub fn algorithms(&self, name: &str, port: u16) -> String {
        let known = self.key_types(name, port);
        let (mut first, rest): (Vec<_>, Vec<_>) = ALGORITHMS
            .iter()
            .copied()
            .partition(|(kind, _)| known.iter().any(|k| k == kind));
        first.extend(rest);
        let names: Vec<_> = first.into_iter().map(|(_, algorithm)| algorithm).collect();
        names.join(",")
    }

    /// Returns the lines that could not be read, with what is wrong, for a warning.
    pub fn malformed(&self) -> Vec<(Place, &'static str)> {
        self.lines
            .iter()
            .filter_map(|line| match line.content {
                Content::Malformed(why) => Some((line.place.clone(), why)),
                Content::Key { .. } => None,
            })
            .collect()
    }

    /// The lines whose host field names the host.
    fn of_host(&self, name: &str, port: u16) -> impl Iterator<Item = &Line> {
        let mut names = vec![name.to_ascii_lowercase()];
        if port != 22 {
            names.push(format!("[{}]:{port}", names[0]));
        }
        self.lines
            .iter()
            .filter(move |line| names.iter().any(|name| line.hosts.matches(name)))
    }
}

/// Key types and the signature algorithms that prove them, best first.
const ALGORITHMS: &[(&str, &str)] = &[
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("ssh-rsa", "rsa-sha2-512"),
    ("ssh-rsa", "rsa-sha2-256"),
    ("ssh-rsa", "ssh-rsa"),
];

/// Returns the type that a key's blob begins with.
pub fn key_type(blob: &[u8]) -> Option<&str> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let name = rest.get(..length)?;
    let plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(name).ok().filter(|_| plain)
}

/// Returns a key's fingerprint as `ssh-keygen -l` shows it: `SHA256:` and 43 characters.
pub fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// Returns the line that makes a key known.
pub fn line(name: &str, blob: &[u8]) -> String {
    let kind = key_type(blob).unwrap_or("unknown");
    format!("{name} {kind} {}", STANDARD.encode(blob))
}

#[cfg(test)]
mod tests;
