//! Files that hold keys, on the control planes: read into memory, united, and written again.
//!
//! There is no record of it, and no pre-image. What comes next is seen from the files themselves, what
//! the API servers have loaded and what etcd holds (`resource/encryption/machine.rs`), and a key that
//! is dropped shall be gone.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use super::node::NodeError;
use super::session::Session;
use super::{Apply, ApplyError, Notice};
use crate::fact::encryption::Form;
use crate::fact::{NodePath, sha256};
use crate::resource::encryption::Rows;
use crate::resource::encryption::keys::{Keys, KeysError, Secret};

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFile {
    /// Where it is on its node.
    pub path: NodePath,
    /// SHA-256 of all of it; `None` where there is none yet.
    pub sha256: Option<String>,
}

/// Files that shall say something else.
#[derive(Debug)]
pub(super) struct KeyChange<'c> {
    /// The file of every control plane, by name: their keys together are those that can be written.
    pub seen: BTreeMap<String, KeyFile>,
    /// What they shall say, by name.
    pub files: &'c BTreeMap<String, Rows>,
    /// A key that no file has yet.
    pub new: Option<&'c (Form, Secret)>,
}

/// What was written, and what was there before. It holds keys, and is wiped when it is dropped.
#[derive(Default)]
pub(super) struct WrittenKeys {
    /// By node: the file as it is now, and all of what it was, if there was one.
    files: BTreeMap<String, Written>,
}

/// A file that was written.
struct Written {
    path: NodePath,
    sha256: String,
    before: Option<Zeroizing<Vec<u8>>>,
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

/// Who can write files with keys, under the locks of an apply.
pub(super) trait Pen {
    /// Writes files with keys, one control plane after the other. All of them are read and made first, so
    /// that what can be found wrong is found before one is written.
    ///
    /// # Errors
    /// When a lock is held, a file has moved, two files have different keys of one name, or a node
    /// cannot be written.
    fn write_keys(&mut self, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError>;

    /// Returns the name under which one of these files has this key already.
    ///
    /// # Errors
    /// As there.
    fn known_key(
        &mut self,
        seen: &BTreeMap<String, KeyFile>,
        secret: &Secret,
    ) -> Result<Option<Form>, KeyError>;

    /// Puts back what was written. What is there already is left alone.
    ///
    /// # Errors
    /// As there.
    fn put_back_keys(&mut self, written: &WrittenKeys) -> Result<(), KeyError>;

    /// Removes files with keys that no server reads.
    ///
    /// # Errors
    /// As there.
    fn erase_keys(&mut self, files: &BTreeMap<String, KeyFile>) -> Result<(), KeyError>;

    /// Whether the user wants it to end.
    fn is_interrupted(&self) -> bool;

    /// Is told that time has passed: locks are renewed.
    fn pass(&mut self);

    /// Tells the user something.
    fn say(&mut self, text: &str);
}

/// Takes the locks for each call, and gives them back: what is in between may take hours.
impl Pen for Apply<'_> {
    fn write_keys(&mut self, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError> {
        locked(self, change.seen.keys(), |session| {
            session.write_keys(change)
        })
    }

    fn known_key(
        &mut self,
        seen: &BTreeMap<String, KeyFile>,
        secret: &Secret,
    ) -> Result<Option<Form>, KeyError> {
        locked(self, seen.keys(), |session| session.known_key(seen, secret))
    }

    fn put_back_keys(&mut self, written: &WrittenKeys) -> Result<(), KeyError> {
        locked(self, written.files.keys(), |session| {
            session.put_back_keys(written)
        })
    }

    fn erase_keys(&mut self, files: &BTreeMap<String, KeyFile>) -> Result<(), KeyError> {
        locked(self, files.keys(), |session| session.erase_keys(files))
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn pass(&mut self) {}

    fn say(&mut self, text: &str) {
        self.progress.tell(Notice::Note(text));
    }
}

fn locked<'n, T>(
    apply: &mut Apply<'_>,
    nodes: impl Iterator<Item = &'n String>,
    call: impl FnOnce(&mut Session<'_, '_>) -> Result<T, KeyError>,
) -> Result<T, KeyError> {
    let mut session = Session::new(apply);
    let result = lock(&mut session, nodes)
        .map_err(KeyError::from)
        .and_then(|()| call(&mut session));
    session.unlock();
    result
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

/// Within a run, which holds the locks.
impl Pen for Session<'_, '_> {
    fn write_keys(&mut self, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError> {
        write(self, change)
    }

    fn known_key(
        &mut self,
        seen: &BTreeMap<String, KeyFile>,
        secret: &Secret,
    ) -> Result<Option<Form>, KeyError> {
        let (keys, _) = read(self, seen)?;
        Ok(keys.find(secret).cloned())
    }

    fn put_back_keys(&mut self, written: &WrittenKeys) -> Result<(), KeyError> {
        // Each of them, whatever became of the others: a file that is refused keeps a server from starting.
        let mut first = Ok(());
        for (node, file) in &written.files {
            let back = match &file.before {
                Some(before) => replace(self, node, &file.path, Some(&file.sha256), before),
                None => self
                    .node(node)
                    .and_then(|mut client| client.erase(&file.path, &file.sha256)),
            };
            let back = back.map_err(|error| KeyError::from(ApplyError::from(error)));
            first = first.and(back);
        }
        first
    }

    fn erase_keys(&mut self, files: &BTreeMap<String, KeyFile>) -> Result<(), KeyError> {
        for (node, file) in files {
            let Some(sha256) = &file.sha256 else { continue };
            let erased = self
                .node(node)
                .and_then(|mut client| client.erase(&file.path, sha256));
            erased.map_err(ApplyError::from)?;
        }
        Ok(())
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted()
    }

    fn pass(&mut self) {
        self.renew_in_time();
    }

    fn say(&mut self, text: &str) {
        self.tell(Notice::Note(text));
    }
}

/// All of each file, by node.
type WholeFiles = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Reads the files as they were seen: all their keys, and by node all of each file.
fn read(
    session: &mut Session<'_, '_>,
    seen: &BTreeMap<String, KeyFile>,
) -> Result<(Keys, WholeFiles), KeyError> {
    let mut keys = Keys::default();
    let mut before = BTreeMap::new();
    for (node, file) in seen {
        let Some(seen) = &file.sha256 else { continue };
        let found = session
            .node(node)
            .and_then(|mut client| client.secret(&file.path))
            .map_err(ApplyError::from)?;
        if sha256(&*found) != *seen {
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
    Ok((keys, before))
}

fn write(session: &mut Session<'_, '_>, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError> {
    let (mut keys, mut before) = read(session, &change.seen)?;
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
        if let Some(file) = change.seen.get(node) {
            made.push((node.clone(), file, text, before.remove(node)));
        }
    }
    let mut written = WrittenKeys::default();
    for (node, file, text, before) in made {
        let path = &file.path;
        let expected = file.sha256.as_deref();
        if let Err(error) = replace(session, &node, path, expected, text.as_bytes()) {
            if written.files.is_empty() {
                return Err(ApplyError::from(error).into());
            }
            let names: Vec<&str> = written.files.keys().map(String::as_str).collect();
            return Err(KeyError::Halfway {
                error: Box::new(error),
                written: names.join(", "),
            });
        }
        let now = Written {
            path: path.clone(),
            sha256: sha256(text.as_bytes()),
            before,
        };
        written.files.insert(node, now);
    }
    Ok(written)
}

fn replace(
    session: &mut Session<'_, '_>,
    node: &str,
    path: &NodePath,
    before: Option<&str>,
    content: &[u8],
) -> Result<(), NodeError> {
    session.renew_in_time();
    session.node(node)?.replace(path, before, content)
}
