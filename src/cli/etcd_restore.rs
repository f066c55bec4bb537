//! `harden etcd restore`.

use std::time::{Duration, Instant};

use harden::apply;
use harden::cluster::Api;
use harden::fact::snapshot::{Snapshot, SnapshotName};
use harden::report;
use serde_json::json;

use super::args::{Global, RestoreArgs};
use super::execute::{Runs, ask};
use super::output::Output;
use super::plan::PATIENCE;
use super::session::Session;
use super::{Exit, Failure};

/// How long nodes may take to be Ready again.
const READY: Duration = Duration::from_secs(180);

/// Restores a snapshot.
pub(crate) fn run(own: &RestoreArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open_in_need(global, PATIENCE, output)?;
    let planes = session.inventory.control_planes();
    let [node] = planes.as_slice() else {
        return Err(Failure::new(
            format!(
                "the cluster has {} control planes ({}); nothing was changed",
                planes.len(),
                planes.join(", ")
            ),
            "one with several is restored by hand, since all members must begin anew together: docs/etcd.md, \
             \"A lost quorum\"",
        ));
    };
    let runs = Runs::new(&session, output, &own.consent)?;
    let snapshot = find(&session, node, &own.snapshot)?;
    end_open(&session, &runs, node, own.consent.yes, output)?;
    if !own.consent.yes {
        output.note(&format!("{node}: {}", report::snapshot_text(&snapshot)));
        ask(&format!(
            "Put everything in cluster {} back to {}?",
            session.workspace.cluster.name,
            snapshot.name.time()
        ))?;
    }
    let restored = runs.call(|apply| apply.restore(node, &snapshot.name))?;
    for note in &restored.notes {
        output.note(note);
    }
    let waiting = until_ready(&session, output);
    output.outcome(&format!(
        "Snapshot {} is restored. What was there before is {} on {node}; remove it when nobody needs it",
        snapshot.name, restored.old
    ));
    output.result(
        "",
        &json!({
            "schema": "harden.dev/etcd-restore/v1",
            "node": node,
            "snapshot": snapshot.name,
            "before": restored.old,
            "not-ready": waiting,
        }),
    );
    match waiting.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Failure::new(
            format!("these nodes are not Ready: {}", waiting.join(", ")),
            "a node that joined after the snapshot is not in it: let it join again (`kubeadm reset`, `kubeadm join`)",
        )),
    }
}

/// Ends a restore that is open. Where the node does not do it by itself, what was written since would be lost.
fn end_open(
    session: &Session,
    runs: &Runs<'_>,
    node: &str,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    let Some(open) = apply::open_restore(session.inventory.open(node)?.as_mut())? else {
        return Ok(());
    };
    output.note(&format!("{node}: {}", open.what));
    if !open.alive && !yes {
        ask("Put the data back that was there before that restore?")?;
    }
    if let Some(what) = runs.call(|apply| apply.end_restore(node))? {
        output.note(&format!("{node}: {what}"));
    }
    Ok(())
}

fn find(session: &Session, node: &str, named: &str) -> Result<Snapshot, Failure> {
    let list = "`harden etcd snapshots` lists those that are there";
    let name = SnapshotName::new(named)
        .map_err(|why| Failure::new(format!("{named:?}: {why}; nothing was changed"), list))?;
    let all = apply::snapshots(session.inventory.open(node)?.as_mut())?;
    all.into_iter()
        .find(|snapshot| snapshot.name == name && snapshot.whole)
        .ok_or_else(|| {
            Failure::new(
                format!("{node} has no whole snapshot {name}; nothing was changed"),
                list,
            )
        })
}

/// Waits until every node is Ready; returns those that are not.
fn until_ready(session: &Session, output: &Output) -> Vec<String> {
    let begun = Instant::now();
    let spinner = output.spinner();
    loop {
        let nodes = session.inventory.nodes.keys();
        let is_ready = |node: &&String| session.api.node_ready(node).unwrap_or(false);
        let waiting: Vec<String> = nodes.filter(|node| !is_ready(node)).cloned().collect();
        if waiting.is_empty() || begun.elapsed() > READY {
            spinner.finish_and_clear();
            return waiting;
        }
        spinner.set_message(format!("waiting for {} to be Ready", waiting.join(", ")));
        std::thread::sleep(Duration::from_secs(2));
    }
}
