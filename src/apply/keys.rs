//! Files that hold keys, on the control planes: read into memory, united, and written again.
//!
//! There is no record of it, and no pre-image. What comes next is seen from the files themselves, what
//! the API servers have loaded and what etcd holds (`resource/encryption/machine.rs`), and a key that
//! is dropped shall be gone.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::node::NodeError;
use super::session::Session;
use super::{Apply, ApplyError};
use crate::fact::encryption::Form;
use crate::fact::{NodePath, sha256};
use crate::resource::encryption::Rows;
use crate::resource::encryption::keys::{Keys, KeysError, Secret};

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Where it is on its node.
    pub path: NodePath,
    /// SHA-256 of all of it.
    pub sha256: String,
}

/// Files that shall say something else.
#[derive(Debug)]
pub struct KeyChange<'c> {
    /// The file of every control plane, by name: their keys together are those that can be written.
    pub seen: BTreeMap<String, KeyFile>,
    /// What they shall say, by name.
    pub files: &'c BTreeMap<String, Rows>,
    /// A key that no file has yet.
    pub new: Option<&'c (Form, Secret)>,
}

/// What was written, and what was there before. It holds keys, and is wiped when it is dropped.
#[derive(Default)]
pub struct WrittenKeys {
    /// By node: the file as it is now, and all of what it was.
    files: BTreeMap<String, (KeyFile, Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for WrittenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.files.keys().collect();
        write!(f, "WrittenKeys({names:?})")
    }
}

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing was changed, or one of the files was and the others were not: the next run goes on.
    #[error(transparent)]
    Apply(Box<ApplyError>),
    /// A file is no longer what was seen.
    #[error("{node}: {path} has changed since it was looked at")]
    Moved {
        /// On which node.
        node: String,
        /// Its path.
        path: NodePath,
    },
    /// A node could not be written, and others are: that hurts nothing, and the next run goes on.
    #[error("{error}; written are: {written}")]
    Halfway {
        /// The node and its words.
        error: Box<NodeError>,
        /// The nodes whose file is the new one.
        written: String,
    },
    /// A file cannot be understood, or a key is missing.
    #[error("{node}: {error}")]
    Keys {
        /// On which node.
        node: String,
        /// Why.
        error: KeysError,
    },
}

impl From<ApplyError> for KeyError {
    fn from(error: ApplyError) -> Self {
        KeyError::Apply(Box::new(error))
    }
}

impl KeyError {
    /// Returns what to do about it.
    pub fn remedy(&self) -> String {
        match self {
            KeyError::Apply(error) => error.remedy(),
            KeyError::Moved { .. } => "look again: somebody else writes it".into(),
            KeyError::Halfway { .. } => {
                "repair what the node reports, then run it again: it goes on".into()
            }
            KeyError::Keys {
                error: KeysError::Differs(_),
                ..
            } => "nothing was changed; find out which of the two has written the objects, and put \
                  that one into both files"
                .into(),
            KeyError::Keys { .. } => {
                "nothing was changed; write the file in block style, one key, \
                                      name or list entry a line"
                    .into()
            }
        }
    }
}

impl Apply<'_> {
    /// Writes files with keys, one control plane after the other, under the locks of an apply. All of
    /// them are read and made first, so that what can be found wrong is found before one is written.
    ///
    /// # Errors
    /// When a lock is held, a file has moved, two files have different keys of one name, or a node
    /// cannot be written.
    pub fn write_keys(&mut self, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError> {
        let mut session = Session::new(self);
        let result = write(&mut session, change);
        session.unlock();
        result
    }

    /// Puts back what [`Apply::write_keys`] replaced. What is there already is left alone.
    ///
    /// # Errors
    /// As there.
    pub fn put_back_keys(&mut self, written: &WrittenKeys) -> Result<(), KeyError> {
        let mut session = Session::new(self);
        let result = (|| {
            lock(&mut session, written.files.keys())?;
            for (node, (file, before)) in &written.files {
                let back = replace(&mut session, node, &file.path, &file.sha256, before);
                back.map_err(ApplyError::from)?;
            }
            Ok(())
        })();
        session.unlock();
        result
    }
}

fn lock<'n>(
    session: &mut Session<'_, '_>,
    nodes: impl Iterator<Item = &'n String>,
) -> Result<(), ApplyError> {
    session.lock_api()?;
    for node in nodes {
        session.lock(node)?;
    }
    let past = session.past(|_| true)?;
    match past.interrupted() {
        Some(record) => Err(ApplyError::Interrupted(record.number)),
        None => Ok(()),
    }
}

fn write(session: &mut Session<'_, '_>, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError> {
    lock(session, change.seen.keys())?;
    let mut keys = Keys::default();
    let mut before = BTreeMap::new();
    for (node, file) in &change.seen {
        let found = session
            .node(node)
            .and_then(|mut client| client.secret(&file.path))
            .map_err(ApplyError::from)?;
        if sha256(&*found) != file.sha256 {
            return Err(KeyError::Moved {
                node: node.clone(),
                path: file.path.clone(),
            });
        }
        let wrong = |error| KeyError::Keys {
            node: node.clone(),
            error,
        };
        let text = std::str::from_utf8(&found).map_err(|_| wrong(KeysError::Style(1)))?;
        keys.unite(Keys::read(text).map_err(wrong)?)
            .map_err(wrong)?;
        before.insert(node.clone(), found);
    }
    if let Some((form, secret)) = change.new {
        let added = keys.add(form.clone(), secret.clone());
        added.map_err(|error| KeyError::Keys {
            node: "the new key".into(),
            error,
        })?;
    }
    let mut made = Vec::new();
    for (node, rows) in change.files {
        let text = keys.file(rows).map_err(|error| KeyError::Keys {
            node: node.clone(),
            error,
        })?;
        if let (Some(file), Some(before)) = (change.seen.get(node), before.remove(node)) {
            made.push((node.clone(), file, text, before));
        }
    }
    let mut written = WrittenKeys::default();
    for (node, file, text, before) in made {
        if let Err(error) = replace(session, &node, &file.path, &file.sha256, text.as_bytes()) {
            if written.files.is_empty() {
                return Err(ApplyError::from(error).into());
            }
            let names: Vec<&str> = written.files.keys().map(String::as_str).collect();
            return Err(KeyError::Halfway {
                error: Box::new(error),
                written: names.join(", "),
            });
        }
        let now = KeyFile {
            path: file.path.clone(),
            sha256: sha256(text.as_bytes()),
        };
        written.files.insert(node, (now, before));
    }
    Ok(written)
}

fn replace(
    session: &mut Session<'_, '_>,
    node: &str,
    path: &NodePath,
    before: &str,
    content: &[u8],
) -> Result<(), NodeError> {
    session.renew_in_time();
    session.node(node)?.replace(path, before, content)
}
