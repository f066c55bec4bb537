//! What lies in clear in etcd's files, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::etcd::bytes;
use super::plan_text::HEADING;
use crate::fact::clear_text::{HeldIn, Scanned};

/// The `schema` field of the document.
pub const ETCD_SCAN: &str = "harden.dev/etcd-scan/v1";

/// The files of each node, or why they are not known.
pub type Scans = BTreeMap<String, Result<Vec<Scanned>, String>>;

/// Says of each file what lies in clear there, and when it goes.
pub fn scan_text(scans: &Scans) -> String {
    let mut out = String::new();
    for (node, files) in scans {
        let _ = writeln!(out, "{HEADING}{node}{HEADING:#}");
        let files = match files {
            Ok(files) => files,
            Err(why) => {
                let _ = writeln!(out, "  not known: {why}");
                continue;
            }
        };
        let size: u64 = files.iter().map(|file| file.size).sum();
        let dirty = files.iter().filter(|file| !file.clear.is_empty());
        let _ = writeln!(
            out,
            "  {} files were looked through, {}; {} hold objects in clear",
            files.len(),
            bytes(size),
            dirty.clone().count()
        );
        for file in dirty {
            let _ = writeln!(out, "  {} {}", file.held_in.word(), file.name);
            for (prefix, count) in &file.clear {
                let _ = writeln!(out, "    {count:>8} below {prefix}");
            }
            let _ = writeln!(out, "      goes: {}", goes(file.held_in));
        }
    }
    out
}

/// When the content of a file goes. Source of the write-ahead log's: etcd v3.6 server/embed/config.go
/// (`DefaultMaxWALs`), server/storage/wal/wal.go (`SegmentSizeBytes`).
fn goes(held_in: HeldIn) -> &'static str {
    match held_in {
        HeldIn::Database => {
            "what are old revisions with `harden etcd defragment`; what is live with `harden encryption rewrite`"
        }
        HeldIn::Wal => {
            "when etcd has five newer files of it (--max-wals), of 64 MB each; at once when the member is made \
             anew: by `harden etcd restore` of a new snapshot, or with several members by removing and adding it"
        }
        HeldIn::Snapshot => {
            "when newer ones push it out, or by hand: remove its directory in /var/lib/harden/etcd/snapshots"
        }
        HeldIn::Old => "by hand: remove its directory, when nobody needs it",
    }
}

/// The same as one document.
pub fn scan_json(scans: &Scans) -> Value {
    let nodes = scans.iter().map(|(node, files)| match files {
        Ok(files) => {
            let files = files.iter().map(|file| {
                let mut value = serde_json::to_value(file).unwrap_or_default();
                if !file.clear.is_empty() {
                    value["goes"] = goes(file.held_in).into();
                }
                value
            });
            json!({ "node": node, "files": files.collect::<Vec<_>>() })
        }
        Err(why) => json!({ "node": node, "files": null, "why": why }),
    });
    json!({ "schema": ETCD_SCAN, "nodes": nodes.collect::<Vec<_>>() })
}
