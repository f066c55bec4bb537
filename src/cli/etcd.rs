//! `harden etcd`.

use harden::apply::{self, EtcdError};
use harden::fact::snapshot::Reason;
use harden::report::{self, Snapshots};

use super::args::{EtcdCommand, Global, SnapshotArgs};
use super::execute::PATIENCE;
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure, etcd_out};

/// Works on etcd's data.
pub(crate) fn run(
    command: &EtcdCommand,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    match command {
        EtcdCommand::Snapshot(own) => snapshot(own, global, output),
        EtcdCommand::Snapshots => list(global, output),
        EtcdCommand::Defragment(own) => super::etcd_scan::defragment(own, global, output),
        EtcdCommand::Scan => super::etcd_scan::scan(global, output),
        EtcdCommand::Restore(own) => super::etcd_restore::run(own, global, output),
    }
}

fn snapshot(own: &SnapshotArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    etcd_out::check(own)?;
    let session = Session::open(global, PATIENCE)?;
    let node = control_plane(&session, own.node.as_deref())?;
    let mut host = session.inventory.open(&node)?;
    let spinner = output.spinner();
    spinner.set_message(format!("{node}: a snapshot is taken and verified"));
    let taken = apply::snapshot(host.as_mut(), Reason::Asked, own.keep);
    spinner.finish_and_clear();
    let taken = taken?;
    output.note(&format!("{node}: {}", report::snapshot_text(&taken)));
    let away = etcd_out::take_away(own, host.as_mut(), &taken, output)?;
    let all: Snapshots = [(node, Ok(vec![taken]))].into();
    let mut json = report::snapshots_json(&all);
    if let Some(to) = away {
        json["taken-away"] = to.into();
    }
    output.result("", &json);
    Ok(Exit::Done)
}

fn list(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open(global, super::plan::PATIENCE)?;
    let ask = |name: &String| -> Result<_, EtcdError> {
        apply::snapshots(session.inventory.open(name)?.as_mut())
    };
    let planes = session.inventory.control_planes().into_iter();
    let all: Snapshots = planes
        .map(|name| {
            let snapshots = ask(&name).map_err(|error| format!("{error} ({})", error.remedy()));
            (name, snapshots)
        })
        .collect();
    output.result(&report::snapshots_text(&all), &report::snapshots_json(&all));
    match all.values().all(Result::is_ok) {
        true => Ok(Exit::Done),
        false => Ok(Exit::Error),
    }
}

/// The control plane that was named, or the first.
pub(super) fn control_plane(session: &Session, named: Option<&str>) -> Result<String, Failure> {
    let planes = session.inventory.control_planes();
    let known = planes.join(", ");
    match named {
        None => planes.into_iter().next().ok_or_else(|| {
            Failure::new(
                "no control plane is known",
                "look at [nodes] in harden.toml",
            )
        }),
        Some(name) if planes.iter().any(|plane| plane == name) => Ok(name.to_owned()),
        Some(name) => Err(Failure::new(
            format!("{name} is no control plane; nothing was done"),
            format!("control planes are: {known}"),
        )),
    }
}

impl From<EtcdError> for Failure {
    fn from(error: EtcdError) -> Self {
        Failure::new(error.to_string(), error.remedy())
    }
}
