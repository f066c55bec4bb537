//! Objects that lie in clear in etcd's files, though they should be encrypted: how many in which file.
//! Nothing of them leaves a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::encryption::EtcdPrefix;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldIn {
    /// The member's database.
    Database,
    /// A file of its write-ahead log.
    Wal,
    /// A snapshot that harden made.
    Snapshot,
    /// The database or log from before a restore.
    Old,
}

impl HeldIn {
    /// All of them.
    pub const ALL: [HeldIn; 4] = [HeldIn::Database, HeldIn::Wal, HeldIn::Snapshot, HeldIn::Old];

    /// Returns the word that the node has for it.
    pub fn word(self) -> &'static str {
        match self {
            HeldIn::Database => "database",
            HeldIn::Wal => "wal",
            HeldIn::Snapshot => "snapshot",
            HeldIn::Old => "old",
        }
    }
}

/// A file that was looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scanned {
    /// What it is.
    pub held_in: HeldIn,
    /// Its name; of an old one with its directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// How many copies of objects lie there in clear, by where their keys begin; only what is not zero. An
    /// object has as many as revisions, and in free pages of a database more.
    pub clear: BTreeMap<EtcdPrefix, u64>,
}

impl Scanned {
    /// Reads the lines of a node: `file KIND NAME SIZE`, and behind each `clear PREFIX COUNT`.
    ///
    /// # Errors
    /// When a line is another one.
    pub fn of_lines(lines: &[String]) -> Result<Vec<Self>, &'static str> {
        let bad = "no line of a scan";
        let mut all: Vec<Scanned> = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["file", kind, name, size] if is_name(name) => all.push(Scanned {
                    held_in: HeldIn::ALL
                        .into_iter()
                        .find(|known| known.word() == kind)
                        .ok_or(bad)?,
                    name: name.to_owned(),
                    size: size.parse().map_err(|_| bad)?,
                    clear: BTreeMap::new(),
                }),
                ["clear", prefix, count] => {
                    let last = all.last_mut().ok_or(bad)?;
                    let prefix = EtcdPrefix::new(prefix).map_err(|_| bad)?;
                    last.clear.insert(prefix, count.parse().map_err(|_| bad)?);
                }
                _ => return Err(bad),
            }
        }
        // A member has a database: where none was looked through, nothing is known.
        match all.iter().any(|file| file.held_in == HeldIn::Database) {
            true => Ok(all),
            false => Err("no database was looked through"),
        }
    }
}

fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._/?-".contains(&b);
    (1..=255).contains(&text.len()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str) -> Result<Vec<Scanned>, &'static str> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Scanned::of_lines(&lines)
    }

    #[test]
    fn lines_are_read_strictly() {
        let good = "file database db 17\nclear /registry/secrets/ 3\nfile wal 0-0.wal 64\nfile old member.before-1/db 2";
        let all = read(good).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].clear.values().sum::<u64>(), 3);
        assert!(all[1].clear.is_empty());
        for bad in [
            "",
            "clear /registry/secrets/ 3",
            "file wal 0-0.wal 64",
            "file database db",
            "file database d\u{1b}b 17",
            "file disk db 17",
            "file database db 17\nclear secrets 3",
            "file database db 17\nclear /registry/secrets/ -3",
            "file database db 17\nsecret",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
