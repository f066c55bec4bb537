//! `harden etcd defragment` and `harden etcd scan`.

use std::collections::BTreeSet;

use harden::apply::{self, EtcdError};
use harden::fact::encryption::EtcdPrefix;
use harden::observe;
use harden::report::{self, Scans};
use serde_json::json;

use super::args::{DefragmentArgs, Global};
use super::execute::{PATIENCE, Runs, ask};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Compacts and defragments, and looks at what is left.
pub(crate) fn defragment(
    own: &DefragmentArgs,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    let session = Session::open(global, PATIENCE)?;
    let planes = session.inventory.control_planes();
    let prefixes = prefixes(&session, output)?;
    let runs = Runs::new(&session, output, &own.consent)?;
    if !own.consent.yes {
        ask(&format!(
            "Compact etcd and defragment the members of {}, one after the other?",
            planes.join(", ")
        ))?;
    }
    let done = runs.call(|apply| apply.defragment(&planes))?;
    let mut members = Vec::new();
    for member in &done {
        let (before, after) = (report::bytes(member.before), report::bytes(member.after));
        output.note(&format!("{}: {before} became {after}", member.node));
        members.push(json!({
            "node": member.node,
            "size-before": member.before,
            "size-after": member.after,
        }));
    }
    let scans = look(&session, &prefixes, output);
    let mut json = report::scan_json(&scans);
    json["defragmented"] = members.into();
    output.result(&report::scan_text(&scans), &json);
    Ok(exit(&scans))
}

/// Looks at what lies in clear.
pub(crate) fn scan(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open(global, super::plan::PATIENCE)?;
    let prefixes = prefixes(&session, output)?;
    let scans = look(&session, &prefixes, output);
    output.result(&report::scan_text(&scans), &report::scan_json(&scans));
    Ok(exit(&scans))
}

fn prefixes(session: &Session, output: &Output) -> Result<BTreeSet<EtcdPrefix>, Failure> {
    observe::encrypted_places(&session.inventory, &mut |wanted| {
        session.observe(wanted, output)
    })
    .map_err(|why| {
        Failure::new(
            format!("where objects lie in etcd is not known: {why}"),
            "`harden encryption status` tells more",
        )
    })
}

fn look(session: &Session, prefixes: &BTreeSet<EtcdPrefix>, output: &Output) -> Scans {
    let planes = session.inventory.control_planes();
    let bar = output.bar("looking through etcd's files", planes.len());
    let ask = |node: &String| -> Result<_, EtcdError> {
        let mut host = session.inventory.open(node)?;
        apply::scan(host.as_mut(), prefixes.iter().cloned())
    };
    // At the same time: each reads its own disk.
    let scans = std::thread::scope(|scope| {
        let begun: Vec<_> = planes
            .iter()
            .map(|node| (node, scope.spawn(|| ask(node))))
            .collect();
        let ended = begun.into_iter().map(|(node, thread)| {
            let files = match thread.join() {
                Ok(files) => files.map_err(|error| format!("{error} ({})", error.remedy())),
                Err(_) => Err("it broke off".to_owned()),
            };
            bar.inc(1);
            (node.clone(), files)
        });
        ended.collect()
    });
    bar.finish_and_clear();
    scans
}

fn exit(scans: &Scans) -> Exit {
    let mut exit = Exit::Done;
    for files in scans.values() {
        match files {
            Err(_) => return Exit::Error,
            Ok(files) if files.iter().any(|file| !file.clear.is_empty()) => exit = Exit::Changes,
            Ok(_) => {}
        }
    }
    exit
}
