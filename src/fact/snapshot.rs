//! Snapshots of etcd, as a node lists those that were made there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::encryption::is_sha256;

/// The name of a snapshot: when it was made, in UTC, such as `20261126T205418Z`. So names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// When it has another form.
    pub fn new(name: impl Into<String>) -> Result<Self, &'static str> {
        let name = name.into();
        let good = |(at, b): (usize, u8)| match at {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        };
        match name.len() == 16 && name.bytes().enumerate().all(good) {
            true => Ok(SnapshotName(name)),
            false => Err("a snapshot is named by its time in UTC, such as 20261126T205418Z"),
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the same time in RFC 3339.
    pub fn time(&self) -> String {
        let n = &self.0;
        let part = |from: usize, to: usize| n.get(from..to).unwrap_or_default();
        format!(
            "{}-{}-{}T{}:{}:{}Z",
            part(0, 4),
            part(4, 6),
            part(6, 8),
            part(9, 11),
            part(11, 13),
            part(13, 15)
        )
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        SnapshotName::new(name)
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> String {
        name.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a snapshot was made for. Each reason has its own retention, so that a schedule does not push out
/// what a person has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// `harden etcd snapshot`.
    Asked,
    /// Before an apply that touches etcd.
    Apply,
    /// Before a change of encryption.
    Encryption,
    /// The timer on the node.
    Schedule,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [
        Reason::Asked,
        Reason::Apply,
        Reason::Encryption,
        Reason::Schedule,
    ];

    /// Returns the word that the node knows it by.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Asked => "asked",
            Reason::Apply => "apply",
            Reason::Encryption => "encryption",
            Reason::Schedule => "schedule",
        }
    }
}

/// One snapshot on a node. It was verified when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// When it was made.
    pub name: SnapshotName,
    /// What for.
    pub reason: Reason,
    /// etcd's revision.
    pub revision: u64,
    /// etcd's own hash of the content, as `etcdutl snapshot status` shows it.
    pub hash: u32,
    /// How many keys it holds, with those of old revisions.
    pub keys: u64,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// The version of its format.
    pub version: String,
    /// Whether the file is there and has its size.
    pub whole: bool,
}

impl Snapshot {
    /// Reads a line of the node's: `snapshot NAME REASON REVISION HASH KEYS SIZE SHA256 VERSION STATE`.
    ///
    /// # Errors
    /// When it is another line.
    pub fn of_line(line: &str) -> Result<Self, &'static str> {
        let bad = "no line of a snapshot";
        let words: Vec<&str> = line.split(' ').collect();
        let [
            "snapshot",
            name,
            reason,
            revision,
            hash,
            keys,
            size,
            sha256,
            version,
            state,
        ] = words[..]
        else {
            return Err(bad);
        };
        let is_version = |text: &str| {
            (1..=20).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
        };
        if !is_sha256(sha256) || !is_version(version) {
            return Err(bad);
        }
        Ok(Snapshot {
            name: SnapshotName::new(name)?,
            reason: Reason::ALL
                .into_iter()
                .find(|known| known.word() == reason)
                .ok_or(bad)?,
            revision: revision.parse().map_err(|_| bad)?,
            hash: hash.parse().map_err(|_| bad)?,
            keys: keys.parse().map_err(|_| bad)?,
            size: size.parse().map_err(|_| bad)?,
            sha256: sha256.to_owned(),
            version: version.to_owned(),
            whole: match state {
                "whole" => true,
                "broken" => false,
                _ => return Err(bad),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_is_read_strictly() {
        let sum = "ab".repeat(32);
        let good =
            format!("snapshot 20261126T205418Z apply 746 1787974381 362 1232928 {sum} 3.6.0 whole");
        let snapshot = Snapshot::of_line(&good).unwrap();
        assert_eq!(snapshot.name.time(), "2026-11-26T20:54:18Z");
        assert_eq!((snapshot.reason, snapshot.revision), (Reason::Apply, 746));
        assert!(snapshot.whole);
        for (old, new) in [
            ("snapshot", "snap"),
            ("20261126T205418Z", "20261126T205418"),
            ("20261126T205418Z", "../../../../etc/"),
            ("apply", "because"),
            ("746", "-1"),
            ("746", "\u{1b}[31m"),
            (sum.as_str(), "abc"),
            ("3.6.0", "\u{1b}[0m"),
            ("whole", "whole more"),
            ("whole", ""),
        ] {
            let bad = good.replacen(old, new, 1);
            assert!(Snapshot::of_line(&bad).is_err(), "{bad}");
        }
    }
}
