//! The typed client of `transaction.sh`: what a node's transactions can be told and asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::fact::{Ids, NodePath, ProgramName, sha256};
use crate::host::{Host, HostError, Limits, Script};
use crate::plan::{FileAction, FileState, FileTarget};

/// The script that makes, commits and reverts transactions on a node.
pub const SCRIPT: Script = Script {
    name: "transaction",
    text: include_str!("transaction.sh"),
};

/// The most that is read of one answer, in bytes. The record of an apply of 7,000 objects has 20 MB.
const MAX_ANSWER: usize = 256 << 20;

/// Why a node's transaction could not be told or asked something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The node could not be used. Whether the script has run is unknown.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The node's script said no.
    #[error("{node}: {message}")]
    Refused {
        /// The node.
        node: String,
        /// What kind of no.
        code: Code,
        /// In the script's words.
        message: String,
    },
    /// The answer is not one of the script's. Whether it has run is unknown.
    #[error("{node}: unexpected answer: {why}")]
    Protocol {
        /// The node.
        node: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What kind of no a node's script said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Another run holds the node's lock; the message is the holder.
    Locked,
    /// This run does not hold the node's lock (any more).
    NotHeld,
    /// A disk is full or read-only, a user is unknown; nothing was changed.
    Unwritable,
    /// A path is not what it was when the plan was made; nothing was changed.
    Moved,
    /// Commit and revert met; the other one won.
    Decided,
    /// No watchdog could be started; nothing was changed.
    Watchdog,
    /// A file could not be put in place; everything was put back.
    Activate,
    /// Not everything could be put back.
    Revert,
    /// There is no such transaction, generation or snapshot.
    Unknown,
    /// etcd or one of its programs refused, or is not there.
    Etcd,
    /// A restore of etcd is open on the node.
    Restoring,
    /// etcd has several members, which begin anew together or not at all.
    Members,
    /// A request that does not fit the state of the transaction, or is malformed.
    Request,
}

/// The state of a transaction on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none.
    None,
    /// Nothing is changed yet.
    Staged,
    /// It is changed, and the watchdog's time runs.
    Active,
    /// It stays.
    Committed,
    /// It is being put back.
    Reverting,
    /// It was put back.
    Reverted,
}

impl State {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "none" => State::None,
            "staged" => State::Staged,
            "active" => State::Active,
            "committed" => State::Committed,
            "reverting" => State::Reverting,
            "reverted" => State::Reverted,
            _ => return None,
        })
    }
}

/// Why a transaction was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The watchdog did it: nobody had committed in time.
    Timer,
    /// A run asked for it, or a file could not be put in place.
    Asked,
}

/// What a node lists: the generations whose record is there, each with whether it has ended, and its own
/// transactions.
pub type Inside = (Vec<(u64, bool)>, Vec<Listed>);

/// One transaction as a node lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The generation.
    pub generation: u64,
    /// The number of the step.
    pub step: usize,
    /// Its state.
    pub state: State,
}

/// Names a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// The generation.
    pub generation: u64,
    /// The number of the step, from 1.
    pub step: usize,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08} {:03}", self.generation, self.step)
    }
}

/// Speaks with the script on one node, on behalf of a lock holder.
pub struct Client<'h> {
    host: &'h mut dyn Host,
    holder: String,
}

impl<'h> Client<'h> {
    /// Wraps a host. `holder` is the line under which the node's lock is or shall be held.
    pub fn new(host: &'h mut dyn Host, holder: &str) -> Self {
        Client {
            host,
            holder: sha256(format!("{holder}\n")),
        }
    }

    /// Takes the node's lock for the holder of this line; `from` is the line of a holder that is
    /// known to be dead.
    ///
    /// # Errors
    /// [`Code::Locked`] when somebody else holds it, [`Code::Restoring`] while a restore of etcd is open on
    /// the node: what is changed meanwhile would be lost with it.
    pub fn lock(&mut self, holder: &str, from: Option<&str>) -> Result<(), NodeError> {
        self.take_lock("lock", holder, from)
    }

    /// The same for who ends a restore of etcd that is open.
    ///
    /// # Errors
    /// [`Code::Locked`] when somebody else holds it.
    pub fn lock_to_end_restore(
        &mut self,
        holder: &str,
        from: Option<&str>,
    ) -> Result<(), NodeError> {
        self.take_lock("lock restore", holder, from)
    }

    fn take_lock(&mut self, verb: &str, holder: &str, from: Option<&str>) -> Result<(), NodeError> {
        let verb = match from {
            Some(line) => format!("{verb} {}", sha256(format!("{line}\n"))),
            None => verb.into(),
        };
        self.call(&verb, format!("{holder}\n").as_bytes()).map(drop)
    }

    /// Gives the lock back, if this holder has it.
    ///
    /// # Errors
    /// When the node cannot be used.
    pub fn unlock(&mut self) -> Result<(), NodeError> {
        self.call("unlock", b"").map(drop)
    }

    /// Writes a generation's `record` or `journal`, whole or not at all.
    ///
    /// # Errors
    /// When the node cannot be used or written to.
    pub fn put(&mut self, generation: u64, what: &str, content: &[u8]) -> Result<(), NodeError> {
        let verb = format!("put {generation:08} {what} {}", sha256(content));
        self.call(&verb, content).map(drop)
    }

    /// Reads a generation: the record in the first line, then the journal, an entry a line.
    ///
    /// # Errors
    /// When the node cannot be used, or knows no such generation.
    pub fn read(&mut self, generation: u64) -> Result<String, NodeError> {
        self.text(&format!("read {generation:08}"))
    }

    /// Lists the generations whose record is on the node, each with whether it has ended, and the node's
    /// own transactions.
    ///
    /// # Errors
    /// When the node cannot be used.
    pub fn list(&mut self) -> Result<Inside, NodeError> {
        let text = self.text("list")?;
        let (mut generations, mut steps) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let parsed = match words.as_slice() {
                ["generation", number] => number.parse().ok().map(|n| generations.push((n, false))),
                ["ended", number] => number.parse().ok().map(|n| generations.push((n, true))),
                ["step", number, step, state, ..] => {
                    match (number.parse(), step.parse(), State::parse(state)) {
                        (Ok(generation), Ok(step), Some(state)) => {
                            steps.push(Listed {
                                generation,
                                step,
                                state,
                            });
                            Some(())
                        }
                        _ => None,
                    }
                }
                _ => None,
            };
            parsed.ok_or_else(|| self.protocol(format!("{:?}", plain(line))))?;
        }
        Ok((generations, steps))
    }

    /// Begins a transaction of `count` files. `first` is the number of its first file among all
    /// files of the generation's transactions on this node. The units are restarted once the files
    /// are in place, and again once they were put back.
    ///
    /// # Errors
    /// [`Code::Request`] when the transaction exists and is active or committed;
    /// [`Code::Unwritable`] when units are to be restarted and the node has no systemd.
    pub fn begin(
        &mut self,
        id: Id,
        first: usize,
        count: usize,
        units: &[ProgramName],
    ) -> Result<(), NodeError> {
        let text = SCRIPT.text.as_bytes();
        let mut verb = format!("begin {id} {first} {count} {}", sha256(text));
        for unit in units {
            verb.push(' ');
            verb.push_str(unit.as_str());
        }
        self.call(&verb, text).map(drop)
    }

    /// Stages one file: proves room, permission and owner, and, unless it is checked `later`, that
    /// the path is what it was when the plan was made.
    ///
    /// # Errors
    /// [`Code::Moved`], [`Code::Unwritable`]; nothing was changed.
    pub fn stage(
        &mut self,
        id: Id,
        index: usize,
        later: bool,
        file: &FileAction,
    ) -> Result<(), NodeError> {
        let wire = self.wire(file)?;
        let when = if later { "later" } else { "now" };
        let mut data = format!(
            "{}\n{}\n{}\n{}\n",
            file.path, wire.before, wire.target, wire.source
        )
        .into_bytes();
        data.extend_from_slice(wire.content);
        self.call(&format!("stage {id} {index} {when}"), &data)
            .map(drop)
    }

    /// Changes the files, under a watchdog that puts them back after `deadline` unless
    /// [`Client::commit`] comes first.
    ///
    /// # Errors
    /// [`Code::Moved`], [`Code::Unwritable`], [`Code::Watchdog`]: nothing was changed.
    /// [`Code::Activate`], [`Code::Decided`]: all was put back. [`Code::Revert`]: not all.
    pub fn activate(&mut self, id: Id, deadline: Duration) -> Result<(), NodeError> {
        let seconds = deadline.as_secs().max(1);
        self.call(&format!("activate {id} {seconds}"), b"")
            .map(drop)
    }

    /// Makes an active transaction stay.
    ///
    /// # Errors
    /// [`Code::Decided`] when it is being put back already.
    pub fn commit(&mut self, id: Id) -> Result<(), NodeError> {
        self.call(&format!("commit {id}"), b"").map(drop)
    }

    /// Puts a transaction back; with `committed` also one that is committed.
    ///
    /// # Errors
    /// [`Code::Revert`] when not all can be put back, [`Code::Moved`] when a committed file was
    /// changed by somebody else since; [`Code::Decided`] when it is committed and `committed` is
    /// not set.
    pub fn revert(&mut self, id: Id, committed: bool, why: &str) -> Result<(), NodeError> {
        let which = if committed { "committed" } else { "active" };
        let data = format!("{}\n", plain(why));
        self.call(&format!("revert {id} {which}"), data.as_bytes())
            .map(drop)
    }

    /// Asks for the state of a transaction, and why it was put back.
    ///
    /// # Errors
    /// When the node cannot be used.
    pub fn status(&mut self, id: Id) -> Result<(State, Option<(Reason, String)>), NodeError> {
        let text = self.text(&format!("status {id}"))?;
        let (word, why) = text.trim_end().split_once(' ').unwrap_or((text.trim(), ""));
        let state = State::parse(word).ok_or_else(|| self.protocol(plain(&text)))?;
        let why = why.split_once(' ').map(|(kind, words)| {
            let reason = match kind {
                "timer" => Reason::Timer,
                _ => Reason::Asked,
            };
            (reason, plain(words))
        });
        Ok((state, why))
    }

    /// Reads a file that holds keys.
    ///
    /// # Errors
    /// When it cannot be read; nothing of it is in the error.
    pub fn secret(&mut self, path: &NodePath) -> Result<Zeroizing<Vec<u8>>, NodeError> {
        let dump = match self.call("secret", format!("{path}\n").as_bytes()) {
            Ok(dump) => Zeroizing::new(dump),
            // What the node said instead may be a part of the file.
            Err(NodeError::Protocol { .. }) => {
                return Err(self.protocol(format!("{path} was not sent whole")));
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(dump.len() / 3));
        let digits = dump
            .split(u8::is_ascii_whitespace)
            .filter(|d| !d.is_empty());
        for pair in digits {
            let byte = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2);
            match byte.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                Some(byte) => bytes.push(byte),
                None => return Err(self.protocol(format!("{path} was not sent whole"))),
            }
        }
        Ok(bytes)
    }

    /// Puts a file that holds keys in the place of the one with this hash, or where none is, with mode 0600
    /// and root's, at once and without a copy of the old one. One that is there already is left alone. A
    /// directory that is missing is made with mode 0700.
    ///
    /// # Errors
    /// [`Code::Moved`], [`Code::Unwritable`]: nothing was changed.
    pub fn replace(
        &mut self,
        path: &NodePath,
        before: Option<&str>,
        content: &[u8],
    ) -> Result<(), NodeError> {
        let before = before.unwrap_or("absent");
        let mut data = Zeroizing::new(Vec::with_capacity(content.len() + 2048));
        data.extend_from_slice(format!("{path}\n{before}\n").as_bytes());
        data.extend_from_slice(content);
        self.call(&format!("replace {}", sha256(content)), &data)
            .map(drop)
    }

    /// Removes a file that holds keys, without a copy of it. One that is gone already is no error.
    ///
    /// # Errors
    /// [`Code::Moved`] where it has another hash, [`Code::Unwritable`]: nothing was changed.
    pub fn erase(&mut self, path: &NodePath, before: &str) -> Result<(), NodeError> {
        let data = format!("{path}\n{before}\n");
        self.call("erase", data.as_bytes()).map(drop)
    }

    fn wire<'f>(&self, file: &'f FileAction) -> Result<Wire<'f>, NodeError> {
        let mut wire = Wire {
            before: self.state(&file.before)?,
            target: String::new(),
            source: "none".into(),
            content: b"",
        };
        wire.target = match &file.after {
            FileTarget::Absent => "absent".into(),
            FileTarget::Text {
                text,
                mode,
                owner,
                group,
            } => {
                wire.source = "stdin".into();
                wire.content = text.as_bytes();
                let sha = sha256(text);
                self.state_line(&format!("file/{sha}"), *mode, owner, group)?
            }
            FileTarget::PreImage {
                generation,
                index,
                state,
            } => {
                if !matches!(state, FileState::Mode { .. }) {
                    wire.source = format!("pre-image/{generation:08}/{index}");
                }
                self.state(state)?
            }
            FileTarget::Mode { mode, owner, group } => {
                self.state_line("mode", *mode, owner, group)?
            }
            FileTarget::Renewed {
                certificate,
                mode,
                owner,
                group,
            } => {
                wire.source = format!("kubeadm/{certificate}");
                self.state_line("kept", *mode, owner, group)?
            }
            FileTarget::Owner(ids) => owners_line(&[*ids]),
        };
        Ok(wire)
    }

    fn state(&self, state: &FileState) -> Result<String, NodeError> {
        match state {
            FileState::Absent => Ok("absent".into()),
            FileState::File {
                sha256,
                mode,
                owner,
                group,
            } => self.state_line(&format!("file/{sha256}"), *mode, owner, group),
            FileState::Mode { mode, owner, group } => self.state_line("mode", *mode, owner, group),
            FileState::Kept { mode, owner, group } => self.state_line("kept", *mode, owner, group),
            FileState::Owners { owners } => Ok(owners_line(owners)),
        }
    }

    fn state_line(
        &self,
        kind: &str,
        mode: u32,
        owner: &str,
        group: &str,
    ) -> Result<String, NodeError> {
        for name in [owner, group] {
            let bad = |c: char| c.is_control() || c == '/' || c == ':';
            if name.is_empty() || name.starts_with('-') || name.contains(bad) {
                return Err(NodeError::Refused {
                    node: self.host.name().into(),
                    code: Code::Request,
                    message: format!("{name:?} is no name of a user or group"),
                });
            }
        }
        Ok(format!("{kind}/{mode:o}/{owner}/{group}"))
    }

    fn text(&mut self, verb: &str) -> Result<String, NodeError> {
        let body = self.call(verb, b"")?;
        String::from_utf8(body).map_err(|_| self.protocol("it is not UTF-8 text".into()))
    }

    fn protocol(&self, why: String) -> NodeError {
        protocol(self.host.name(), why)
    }

    fn call(&mut self, verb: &str, data: &[u8]) -> Result<Vec<u8>, NodeError> {
        let nonce = nonce();
        let header = format!("harden-transaction 1 {nonce} {} {verb}\n", self.holder);
        let limits = Limits {
            time: Duration::from_secs(60),
            output: MAX_ANSWER,
        };
        exchange(self.host, SCRIPT, (&nonce, &header), data, limits)
    }
}

/// Runs a script with a header of one line, which names the nonce, and data behind it; returns what stands
/// between the sentinels, without the verdict.
pub(super) fn exchange(
    host: &mut dyn Host,
    script: Script,
    (nonce, header): (&str, &str),
    data: &[u8],
    limits: Limits,
) -> Result<Vec<u8>, NodeError> {
    debug_assert!(header.lines().count() == 1);
    // Keys may be in both ways, so both are wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(header.len() + data.len()));
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    let mut output = host.run(script, &bytes, limits)?;
    let stdout = Zeroizing::new(std::mem::take(&mut output.stdout));
    let node = host.name();
    let Some(body) = body(&stdout, nonce) else {
        return Err(protocol(
            node,
            match output.stderr.is_empty() {
                true => "the script gave no answer".into(),
                false => plain(&output.stderr),
            },
        ));
    };
    // The verdict is the last line.
    let trimmed = body.strip_suffix(b"\n").unwrap_or(body);
    let cut = trimmed
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let verdict = String::from_utf8_lossy(&trimmed[cut..]);
    if verdict == "ok" {
        return Ok(body[..cut].to_vec());
    }
    let Some((code, message)) = verdict
        .strip_prefix("error ")
        .and_then(|rest| rest.split_once(' '))
    else {
        return Err(protocol(node, plain(&verdict)));
    };
    Err(NodeError::Refused {
        node: node.into(),
        code: match code {
            "locked" => Code::Locked,
            "lock" => Code::NotHeld,
            "unwritable" => Code::Unwritable,
            "moved" => Code::Moved,
            "decided" => Code::Decided,
            "watchdog" => Code::Watchdog,
            "activate" => Code::Activate,
            "revert" => Code::Revert,
            "unknown" => Code::Unknown,
            "etcd" => Code::Etcd,
            "restoring" => Code::Restoring,
            "members" => Code::Members,
            _ => Code::Request,
        },
        message: plain(message),
    })
}

pub(super) fn protocol(node: &str, why: String) -> NodeError {
    NodeError::Protocol {
        node: node.into(),
        why,
    }
}

/// Writes owners as the script does: sorted as text.
fn owners_line(owners: &[Ids]) -> String {
    let mut texts: Vec<String> = owners.iter().map(Ids::to_string).collect();
    texts.sort();
    format!("owners/{}", texts.join(","))
}

/// A file action as it travels.
struct Wire<'f> {
    before: String,
    target: String,
    source: String,
    content: &'f [u8],
}

/// Returns what stands between the sentinels. Login shells may print anything before them.
fn body<'o>(stdout: &'o [u8], nonce: &str) -> Option<&'o [u8]> {
    let begin = format!("\nharden-begin {nonce}\n");
    let end = format!("harden-end {nonce}\n");
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|w| w == needle);
    let from = find(stdout, begin.as_bytes())? + begin.len();
    let length = find(&stdout[from..], end.as_bytes())?;
    Some(&stdout[from..from + length])
}

/// Makes text of a node fit for a terminal: one line, no control characters.
pub(crate) fn plain(text: &str) -> String {
    let spaced = text.trim().replace(char::is_control, " ");
    spaced.split(' ').filter(|w| !w.is_empty()).fold(
        String::with_capacity(spaced.len()),
        |mut line, word| {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            line
        },
    )
}

/// Tells one answer from every other; it need not be secret, the node answers for itself anyway.
pub(super) fn nonce() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    let mut digits = sha256(format!("{} {call} {now}", std::process::id()));
    digits.truncate(32);
    digits
}
