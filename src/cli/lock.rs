//! `harden lock`, and the refusal of a workspace that differs from its lock.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use harden::cluster::{Api, ApiError, Client};
use harden::profile::{self, ClusterIdentity, LOCK_FILE, Lock, Workspace};
use serde_json::{Value, json};

use super::args::{Global, LockArgs};
use super::output::Output;
use super::plan::PATIENCE;
use super::save::{Readers, save};
use super::session::{Evaluated, Loaded};
use super::{Exit, Failure};

#[cfg(test)]
mod tests;

/// Accepts the workspace as it is, or with `--check` compares only.
pub(crate) fn run(args: &LockArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    if args.check {
        return check(global, output);
    }
    if global.frozen {
        return Err(Failure::new(
            format!("with --frozen no {LOCK_FILE} is written"),
            "`harden lock --check` compares only",
        ));
    }
    let evaluated = Evaluated::read(global)?;
    let (cluster, _) = identify(&evaluated, PATIENCE)?;
    let lock = Lock::new(&evaluated.workspace, cluster);
    let written = write(&global.workspace, &lock)?;
    output.result("", &document(Some(&lock), &written.moved, written.changed));
    output.note(&written.summary);
    Ok(Exit::Done)
}

/// What became of the lock file.
struct Written {
    /// Whether its bytes are others than before.
    changed: bool,
    /// What the former lock did not accept.
    moved: Vec<String>,
    /// The same in words.
    summary: String,
}

/// Puts a lock in the place of the former one.
fn write(dir: &Path, lock: &Lock) -> Result<Written, Failure> {
    let former = profile::load_lock(dir);
    let moved = match &former {
        Ok(Some(former)) => former.differences(lock),
        _ => Vec::new(),
    };
    let path = dir.join(LOCK_FILE);
    let text = lock.render();
    // A file that is right already is left alone, with its time. One that could not be read is not
    // opened here either: it may be a FIFO.
    let same = || std::fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes());
    let changed = !(matches!(former, Ok(Some(_))) && same());
    if changed {
        save(&path, &text, Readers::Umask)?;
    }
    Ok(Written {
        changed,
        summary: summary(&former, lock, &moved),
        moved,
    })
}

/// What `harden lock` did.
fn summary(
    former: &Result<Option<Lock>, profile::Failure>,
    lock: &Lock,
    moved: &[String],
) -> String {
    match former {
        Ok(Some(_)) if moved.is_empty() => format!("{LOCK_FILE} is up to date."),
        Ok(Some(_)) => format!(
            "{LOCK_FILE} is written; against the former one:{}",
            indented(moved)
        ),
        Ok(None) => format!(
            "{LOCK_FILE} is written: hashes of {} files, cluster UID {}, Kubernetes {}.",
            lock.files.len(),
            lock.cluster.id.escape_debug(),
            lock.cluster.kubernetes
        ),
        Err(faults) => {
            let faults: Vec<String> = faults.0.iter().map(|d| d.message.clone()).collect();
            format!(
                "{LOCK_FILE} is written anew; the former one could not be read:{}",
                indented(&faults)
            )
        }
    }
}

/// Says what differs, and writes nothing.
fn check(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let (evaluated, lock) = read(global, &|_| {})?;
    let lock = lock.ok_or_else(missing)?;
    let workspace = &evaluated.workspace;
    let compared = compare(&lock, workspace, PATIENCE, |p| identify(&evaluated, p));
    let now = match &compared.answer {
        Ok((cluster, _)) => Some(Lock::new(workspace, cluster.clone())),
        Err(_) => None,
    };
    // Without the API's answer and without a difference nothing is known: an error alone.
    if now.is_some() || !compared.moved.is_empty() {
        output.result("", &document(now.as_ref(), &compared.moved, false));
    }
    compared.accepted()?;
    output.note(&format!("{LOCK_FILE} is up to date."));
    Ok(Exit::Done)
}

/// Reads the workspace and refuses it when it differs from its lock, or with `--frozen` has none. One whose files
/// are those of the lock is given to `begin` before it is evaluated.
pub(crate) fn open(
    global: &Global,
    patience: Duration,
    begin: &dyn Fn(&Loaded),
) -> Result<(Evaluated, Client), Failure> {
    let (evaluated, lock) = read(global, begin)?;
    let api = match lock {
        Some(lock) => compare(&lock, &evaluated.workspace, patience, |p| {
            identify(&evaluated, p)
        })
        .accepted()?,
        None if global.frozen => return Err(missing()),
        None => {
            tracing::info!("there is no {LOCK_FILE}; `harden lock` writes one");
            evaluated.client(patience)?
        }
    };
    Ok((evaluated, api))
}

/// Reads the workspace and its lock; what is wrong with either is told at once.
fn read(
    global: &Global,
    begin: &dyn Fn(&Loaded),
) -> Result<(Evaluated, Option<Lock>), profile::Failure> {
    let loaded = Loaded::read(global);
    let lock = profile::load_lock(&global.workspace);
    if let (Ok(loaded), Ok(lock)) = (&loaded, &lock) {
        let files = &loaded.workspace.files;
        let is_accepted = match lock {
            Some(lock) => lock.local_differences(harden::VERSION, files).is_empty(),
            None => !global.frozen,
        };
        if is_accepted {
            begin(loaded);
        }
    }
    match (loaded.and_then(Loaded::evaluate), lock) {
        (Ok(evaluated), Ok(lock)) => Ok((evaluated, lock)),
        (Err(mut faults), Err(more)) => {
            faults.0.extend(more.0);
            Err(faults)
        }
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
    }
}

/// Asks the API which cluster it is.
fn identify(
    evaluated: &Evaluated,
    patience: Duration,
) -> Result<(ClusterIdentity, Client), ApiError> {
    let api = evaluated.client(patience)?;
    let identity = ClusterIdentity {
        id: api.cluster_id()?,
        kubernetes: api.kubernetes_minor()?,
    };
    Ok((identity, api))
}

/// A lock compared with the present.
struct Compared<A> {
    /// What has moved, one line each.
    moved: Vec<String>,
    /// What the cluster is, and the API that told it.
    answer: Result<(ClusterIdentity, A), ApiError>,
}

/// Compares the files first, since that needs no API.
fn compare<A>(
    lock: &Lock,
    workspace: &Workspace,
    patience: Duration,
    identify: impl FnOnce(Duration) -> Result<(ClusterIdentity, A), ApiError>,
) -> Compared<A> {
    let mut moved = lock.local_differences(harden::VERSION, &workspace.files);
    // What is refused anyway need not wait for an API that is down.
    let wait = if moved.is_empty() {
        patience
    } else {
        Duration::ZERO
    };
    let answer = identify(wait);
    if let Ok((cluster, _)) = &answer {
        moved.extend(lock.cluster_differences(cluster));
    }
    Compared { moved, answer }
}

impl<A> Compared<A> {
    /// Returns the API when nothing has moved.
    fn accepted(mut self) -> Result<A, Failure> {
        let error = match self.answer {
            Ok((_, api)) if self.moved.is_empty() => return Ok(api),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            if self.moved.is_empty() {
                return Err(error.into());
            }
            self.moved
                .push(format!("the cluster could not be compared: {error}"));
        }
        Err(Failure::new(
            format!(
                "the workspace differs from {LOCK_FILE}, so no node was asked:{}",
                indented(&self.moved)
            ),
            "`harden lock` accepts the workspace as it is now; `git diff` shows what changed",
        ))
    }
}

fn missing() -> Failure {
    Failure::new(
        format!("there is no {LOCK_FILE}, so no node was asked"),
        format!(
            "`harden lock` accepts the workspace as it is now; commit the {LOCK_FILE} it writes"
        ),
    )
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// The result as JSON; `lock` is that of the workspace as it is now, unless the API did not say
/// what its cluster is.
fn document(lock: Option<&Lock>, differences: &[String], written: bool) -> Value {
    let lock = lock.map(|lock| {
        let hash = |(name, hash): (&String, &String)| (name.clone(), format!("sha256:{hash}"));
        let files: BTreeMap<String, String> = lock.files.iter().map(hash).collect();
        json!({
            "harden": lock.harden,
            "cluster": {"id": lock.cluster.id, "kubernetes": lock.cluster.kubernetes},
            "files": files,
        })
    });
    json!({
        "schema": "harden.dev/lock/v1",
        "written": written,
        "differences": differences,
        "lock": lock,
    })
}
