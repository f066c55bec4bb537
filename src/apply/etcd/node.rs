//! The typed client of `etcd.sh`: what is asked and done of etcd's data on one node.

use std::time::Duration;

use crate::apply::node::{Code, NodeError, exchange, nonce, plain, protocol};
use crate::fact::clear_text::Scanned;
use crate::fact::encryption::EtcdPrefix;
use crate::fact::sha256;
use crate::fact::snapshot::{Reason, Snapshot, SnapshotName};
use crate::host::{Host, Limits, Script};
use crate::resource::etcd_snapshots::SCRIPT;

/// The script that works on etcd's data.
pub(super) const ETCD: Script = Script {
    name: "etcd",
    text: SCRIPT,
};

/// How much of a snapshot is fetched at once, in MiB.
const PART: u64 = 8;

/// A MiB.
const MIB: u64 = 1 << 20;

/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// How long a question may take.
const ASKING: Duration = Duration::from_secs(60);

/// How long work on all of a database may take: 8 GB, etcd's advised maximum, on a slow disk.
const WORKING: Duration = Duration::from_secs(1800);

/// The member of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::apply) struct Member {
    pub(in crate::apply) revision: u64,
    /// Bytes of its database.
    pub(in crate::apply) size: u64,
}

/// How far a restore on a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::apply) enum RestoreState {
    None,
    Prepared,
    Stopping,
    Swapping,
    Starting,
    Waiting,
    Committed,
    Reverting,
    Reverted,
}

impl RestoreState {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "" => RestoreState::None,
            "prepared" => RestoreState::Prepared,
            "stopping" => RestoreState::Stopping,
            "swapping" => RestoreState::Swapping,
            "starting" => RestoreState::Starting,
            "waiting" => RestoreState::Waiting,
            "committed" => RestoreState::Committed,
            "reverting" => RestoreState::Reverting,
            "reverted" => RestoreState::Reverted,
            _ => return None,
        })
    }

    /// Whether one has begun that has not ended.
    pub(in crate::apply) fn is_open(self) -> bool {
        !matches!(
            self,
            RestoreState::None | RestoreState::Committed | RestoreState::Reverted
        )
    }

    /// What is waited for, in words.
    pub(in crate::apply) fn words(self) -> &'static str {
        match self {
            RestoreState::None | RestoreState::Prepared => "the restore to begin",
            RestoreState::Stopping => "the control plane to end",
            RestoreState::Swapping | RestoreState::Starting => "the control plane to start",
            RestoreState::Waiting => "the control plane to be well with the restored data",
            RestoreState::Committed => "nothing more",
            RestoreState::Reverting | RestoreState::Reverted => "the old data to come back",
        }
    }
}

/// A restore on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::apply) struct Restoring {
    pub(in crate::apply) state: RestoreState,
    /// Whether the run on the node lives that works on it.
    pub(in crate::apply) alive: bool,
    /// The snapshot.
    pub(in crate::apply) snapshot: String,
    /// Where the old data lies.
    pub(in crate::apply) old: String,
    /// Where the data lies that etcd made of the snapshot, when it was put back; else empty.
    pub(in crate::apply) undone: String,
    /// Why it was put back.
    pub(in crate::apply) why: String,
}

/// Works on etcd's data on one node. It takes no lock: a snapshot hurts nobody, and what does hurt is called
/// under those of an apply.
pub(in crate::apply) struct EtcdNode<'h> {
    host: &'h mut dyn Host,
}

impl<'h> EtcdNode<'h> {
    pub(in crate::apply) fn new(host: &'h mut dyn Host) -> Self {
        EtcdNode { host }
    }

    /// Takes a snapshot and verifies it. Of those with the same reason the newest `keep` stay; without a
    /// number all do.
    pub(in crate::apply) fn snapshot(
        &mut self,
        reason: Reason,
        keep: Option<u32>,
    ) -> Result<Snapshot, NodeError> {
        let verb = format!("snapshot {} {}", keep.unwrap_or(0), reason.word());
        let answer = self.lines(&verb, b"", WORKING)?;
        match answer.as_slice() {
            [line] => Snapshot::of_line(line).map_err(|why| self.bad(why)),
            _ => Err(self.bad("it is not one line")),
        }
    }

    /// Lists the snapshots that were made on the node, the oldest first.
    pub(in crate::apply) fn list(&mut self) -> Result<Vec<Snapshot>, NodeError> {
        let lines = self.lines("list", b"", ASKING)?;
        let read = lines.iter().map(|line| Snapshot::of_line(line));
        let mut all = read
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| self.bad(why))?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Fetches a snapshot, part by part.
    pub(in crate::apply) fn fetch(
        &mut self,
        snapshot: &Snapshot,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), NodeError> {
        let mut at = 0;
        while at * MIB < snapshot.size {
            let verb = format!("part {} {at} {PART}", snapshot.name);
            let bytes = self.call(&verb, b"", WORKING)?;
            let wanted = (snapshot.size - at * MIB).min(PART * MIB);
            // The script ends what it sends by a newline.
            let part = match bytes.split_last() {
                Some((b'\n', part)) if part.len() as u64 == wanted => part,
                _ => return Err(self.bad("the snapshot has another size than before")),
            };
            take(part).map_err(|why| self.bad(&why))?;
            at += PART;
        }
        Ok(())
    }

    /// Asks the member of this node how it is.
    pub(in crate::apply) fn member(&mut self) -> Result<Member, NodeError> {
        self.one_member("member", ASKING)
    }

    /// Compacts etcd to a revision, on all members, and waits until it is done on this one.
    pub(in crate::apply) fn compact(&mut self, revision: u64) -> Result<(), NodeError> {
        self.call(&format!("compact {revision}"), b"", WORKING)
            .map(drop)
    }

    /// Defragments the member of this node, which serves nothing meanwhile.
    pub(in crate::apply) fn defragment(&mut self) -> Result<Member, NodeError> {
        self.one_member("defragment", WORKING)
    }

    fn one_member(&mut self, verb: &str, time: Duration) -> Result<Member, NodeError> {
        let lines = self.lines(verb, b"", time)?;
        let words: Vec<&str> = match lines.as_slice() {
            [line] => line.split(' ').collect(),
            _ => Vec::new(),
        };
        let [revision, size, _] = words[..] else {
            return Err(self.bad("it is not a revision and two sizes"));
        };
        match (revision.parse(), size.parse()) {
            (Ok(revision), Ok(size)) => Ok(Member { revision, size }),
            _ => Err(self.bad("it is not a revision and two sizes")),
        }
    }

    /// Looks through etcd's files for objects below these prefixes that lie in clear.
    pub(in crate::apply) fn scan(
        &mut self,
        prefixes: impl IntoIterator<Item = EtcdPrefix>,
    ) -> Result<Vec<Scanned>, NodeError> {
        let mut data = String::new();
        for prefix in prefixes {
            data.push_str(prefix.as_str());
            data.push('\n');
        }
        data.push('\n');
        let lines = self.lines("scan", data.as_bytes(), WORKING)?;
        Scanned::of_lines(&lines).map_err(|why| self.bad(why))
    }

    /// Prepares a restore and begins it on the node, where it goes on by itself and puts everything back
    /// unless it is told within `deadline` of its start that it works. Nothing is changed when the node refuses;
    /// after any other error it may have begun.
    pub(in crate::apply) fn restore(
        &mut self,
        name: &SnapshotName,
        deadline: Duration,
        bump: u64,
    ) -> Result<(), NodeError> {
        let text = ETCD.text.as_bytes();
        let (seconds, sum) = (deadline.as_secs(), sha256(text));
        self.call(
            &format!("restore {name} {seconds} {bump} {sum}"),
            text,
            WORKING,
        )
        .map(drop)
    }

    /// Asks how far a restore is.
    pub(in crate::apply) fn restoring(&mut self) -> Result<Restoring, NodeError> {
        let lines = self.lines("restoring", b"", ASKING)?;
        let [first, snapshot, old, undone, why] = lines.as_slice() else {
            return Err(self.bad("it is not five lines"));
        };
        let (state, alive) = match first.split_once(' ') {
            Some((state, "yes")) => (state, true),
            Some((state, "no")) => (state, false),
            _ => return Err(self.bad("it has no state")),
        };
        let state = RestoreState::parse(state).ok_or_else(|| self.bad("it has no known state"))?;
        Ok(Restoring {
            state,
            alive,
            snapshot: plain(snapshot),
            old: plain(old),
            undone: plain(undone),
            why: plain(why),
        })
    }

    /// Lets a restore stay, or has it put back.
    pub(in crate::apply) fn decide(&mut self, stays: bool, why: &str) -> Result<(), NodeError> {
        let verb = match stays {
            true => "decide commit",
            false => "decide revert",
        };
        self.call(verb, format!("{}\n", plain(why)).as_bytes(), ASKING)
            .map(drop)
    }

    /// Puts a restore back whose run on the node is dead.
    pub(in crate::apply) fn resume(&mut self) -> Result<(), NodeError> {
        self.call("resume", b"", ASKING).map(drop)
    }

    fn lines(&mut self, verb: &str, data: &[u8], time: Duration) -> Result<Vec<String>, NodeError> {
        let body = self.call(verb, data, time)?;
        let text = String::from_utf8(body).map_err(|_| self.bad("it is not UTF-8 text"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn call(&mut self, verb: &str, data: &[u8], time: Duration) -> Result<Vec<u8>, NodeError> {
        let nonce = nonce();
        let header = format!("harden-etcd 1 {nonce} {verb}\n");
        let limits = Limits {
            time,
            output: MAX_ANSWER,
        };
        exchange(self.host, ETCD, (&nonce, &header), data, limits)
    }

    fn bad(&self, why: &str) -> NodeError {
        protocol(self.host.name(), plain(why))
    }
}

/// What to do where etcd has several members.
pub(super) const SEVERAL: &str = "a cluster with several is restored by hand: docs/etcd.md, \"A lost quorum\"; where \
     only this one is left for good, set --initial-cluster in its manifest to it alone";

/// What to do when a node refused.
pub(in crate::apply) fn remedy(error: &NodeError) -> String {
    match error {
        NodeError::Host(error) => error.remedy().to_owned(),
        NodeError::Refused {
            code: Code::Unwritable,
            ..
        } => "make room for it on the node; /var/lib/harden/etcd can be a mount of its own".into(),
        NodeError::Refused {
            code: Code::Unknown,
            ..
        } => "`harden etcd snapshots` lists those that are there".into(),
        NodeError::Refused {
            code: Code::Etcd, ..
        } => {
            "look at the member on that node: `crictl ps -a`, and `etcdctl endpoint health`".into()
        }
        NodeError::Refused {
            code: Code::Members,
            ..
        } => SEVERAL.into(),
        NodeError::Refused { .. } | NodeError::Protocol { .. } => {
            "run it again; if it stays, look at the node".into()
        }
    }
}
