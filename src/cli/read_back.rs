//! Has each API server read every object that is under a key, through a tunnel to that very server.

use std::time::Instant;

use harden::cluster::{Pace, ReadBack};
use harden::fact::Fact;
use harden::fact::encryption::{Form, StoredForm};
use harden::observe;
use harden::resource::encryption::Seen;
use harden::resource::{Place, Problem, Severity};

use super::Failure;
use super::encryption::{EVERY, concrete};
use super::output::Output;
use super::session::Session;

/// Objects a second that are read. A read costs a server far less than a write.
const RATE: u32 = 400;

/// What a problem says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A server cannot read some.
    Unreadable,
    /// Whether it can is not known.
    Unknown,
}

/// Reads everything that is stored under a key by every API server, and says who cannot read what.
pub(super) fn read_back(
    session: &Session,
    output: &Output,
    seen: &Seen,
    pass: &mut dyn FnMut() -> bool,
) -> Vec<(Found, Problem)> {
    let mut problems = Vec::new();
    for node in seen.planes.keys() {
        match by_server(session, output, seen, node, pass) {
            Ok(mut of_node) => problems.append(&mut of_node),
            Err(failure) => {
                let (what, hint) = match failure {
                    Failure::Other { what, hint } => (what, hint),
                    other => (format!("{other:?}"), String::new()),
                };
                let message =
                    format!("whether its API server can read every object is not known: {what}");
                problems.push((
                    Found::Unknown,
                    problem(node, "kube-apiserver", message, &hint),
                ));
            }
        }
    }
    problems
}

fn by_server(
    session: &Session,
    output: &Output,
    seen: &Seen,
    node: &str,
    pass: &mut dyn FnMut() -> bool,
) -> Result<Vec<(Found, Problem)>, Failure> {
    let encrypted = encrypted(seen);
    if encrypted.is_empty() {
        return Ok(Vec::new());
    }
    let mut host = session.inventory.open(node)?;
    let port = observe::api_port(host.as_mut()).map_err(|why| {
        let hint = "`harden encryption status` tells more";
        Failure::new(why, hint)
    })?;
    let tunnel = host.tunnel(port)?;
    let served = session.api.served()?;
    let pace = Pace {
        rate: RATE,
        ..Pace::default()
    };
    let mut problems = Vec::new();
    for (name, count) in concrete(session, seen, &encrypted)? {
        let Some(resource) = served.get(&name) else {
            continue;
        };
        let mut told = Instant::now();
        let mut goes_on = true;
        let read = session
            .api
            .read_back(tunnel.local, resource, pace, &mut |so_far| {
                goes_on = pass();
                if told.elapsed() >= EVERY {
                    told = Instant::now();
                    let of = count
                        .map(|count| format!(" of {count}"))
                        .unwrap_or_default();
                    output.note(&format!(
                        "{node}: {name}: {}{of} objects are read",
                        so_far.asked
                    ));
                }
                goes_on
            })?;
        if !goes_on {
            break;
        }
        if read.failures > 0 {
            problems.push((Found::Unreadable, unreadable(node, &name, &read)));
        }
    }
    Ok(problems)
}

/// The resources of which something is not in clear. What is in clear needs no key.
fn encrypted(seen: &Seen) -> Vec<String> {
    let clear = StoredForm::Form(Form::Clear);
    let resources = seen
        .resources
        .iter()
        .filter(|(_, counted)| match counted.most() {
            Fact::Value(stored) => stored.keys().any(|form| *form != clear),
            _ => true,
        });
    resources.map(|(name, _)| name.clone()).collect()
}

fn unreadable(node: &str, resource: &str, read: &ReadBack) -> Problem {
    let first = read.failed.iter().next();
    let first = first.map(|(name, why)| format!("; {name}: {why}"));
    let message = format!(
        "the API server cannot read {} of {} objects{}",
        read.failures,
        read.asked.max(read.failures),
        first.unwrap_or_default()
    );
    let remedy = "they were written by another key of the same name, as a server with another file does it. Drop no \
                  key and remove no file: find the key, in the file of another control plane or in a backup, and let a \
                  server that has it bring these objects into clear; what no key reads must be deleted and made anew";
    problem(node, resource, message, remedy)
}

fn problem(node: &str, subject: &str, message: String, remedy: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        place: Place::Node(node.to_owned()),
        subject: subject.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}
