//! Snapshots of etcd as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::plan_text::HEADING;
use crate::fact::snapshot::Snapshot;

/// The `schema` field of the document.
pub const ETCD_SNAPSHOTS: &str = "harden.dev/etcd-snapshots/v1";

/// How many digits of a hash are shown; JSON has all.
const DIGITS: usize = 12;

/// The snapshots of each node, or why they are not known.
pub type Snapshots = BTreeMap<String, Result<Vec<Snapshot>, String>>;

/// Writes the snapshots of each node.
pub fn snapshots_text(all: &Snapshots) -> String {
    let mut out = String::new();
    for (node, snapshots) in all {
        let _ = writeln!(out, "{HEADING}{node}{HEADING:#}");
        match snapshots {
            Ok(snapshots) if snapshots.is_empty() => out.push_str("  none\n"),
            Ok(snapshots) => {
                for snapshot in snapshots {
                    let _ = writeln!(out, "  {}", snapshot_text(snapshot));
                }
            }
            Err(why) => {
                let _ = writeln!(out, "  not known: {why}");
            }
        }
    }
    out
}

/// Writes a snapshot in one line.
pub fn snapshot_text(snapshot: &Snapshot) -> String {
    let broken = match snapshot.whole {
        true => "",
        false => ", BROKEN: the file is gone or has another size",
    };
    format!(
        "{} revision {}, {} keys, {}, hash {:08x}, sha256 {}, for {}{broken}",
        snapshot.name,
        snapshot.revision,
        snapshot.keys,
        bytes(snapshot.size),
        snapshot.hash,
        &snapshot.sha256[..DIGITS],
        snapshot.reason.word(),
    )
}

/// A size for people.
pub fn bytes(count: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    match count as f64 / MIB {
        mib if mib < 1024.0 => format!("{mib:.1} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// The same as one document.
pub fn snapshots_json(all: &Snapshots) -> Value {
    let nodes = all.iter().map(|(node, snapshots)| match snapshots {
        Ok(snapshots) => json!({
            "node": node,
            "snapshots": snapshots.iter().map(snapshot_json).collect::<Vec<_>>(),
        }),
        Err(why) => json!({ "node": node, "snapshots": null, "why": why }),
    });
    json!({ "schema": ETCD_SNAPSHOTS, "nodes": nodes.collect::<Vec<_>>() })
}

fn snapshot_json(snapshot: &Snapshot) -> Value {
    let mut value = serde_json::to_value(snapshot).unwrap_or_default();
    value["time"] = snapshot.name.time().into();
    value
}
