//! `harden encryption`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harden::cluster::{ApiError, Pace, Rewritten};
use harden::fact::Fact;
use harden::observe;
use harden::report;
use harden::resource::encryption::place::rule;
use harden::resource::encryption::{Judgement, Next, Seen, judge, too_old};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{EncryptionCommand, Global, RewriteArgs};
use super::execute::{PATIENCE, ask};
use super::output::Output;
use super::read_back::{Found, read_back};
use super::session::Session;
use super::{Exit, Failure};

/// How often it is told how far the writing has come where no bar can be shown.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Looks at encryption at rest, or has objects written anew.
pub(crate) fn run(
    command: &EncryptionCommand,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    let patience = match command {
        EncryptionCommand::Rotate(own) => return super::rotate::run(own, global, output),
        EncryptionCommand::Disable(own) => return super::disable::run(own, global, output),
        EncryptionCommand::Rewrite(_) => PATIENCE,
        _ => super::plan::PATIENCE,
    };
    let session = Session::open(global, patience)?;
    let also = session.desired.encrypts().unwrap_or_default();
    let (seen, mut judged) = look(&session, output, &also);
    match command {
        EncryptionCommand::Rewrite(own) => rewrite(own, &session, output, &seen, &judged),
        EncryptionCommand::Status
        | EncryptionCommand::Rotate(_)
        | EncryptionCommand::Disable(_) => Ok(show(output, &seen, &judged, Exit::Done)),
        EncryptionCommand::Verify(own) => {
            if let Some(days) = own.max_age {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.map_err(|_| Failure::new("the clock is not set", "set it"))?;
                judged.wrong.extend(too_old(&seen, now.as_secs(), days));
            }
            // What is known to be broken needs no proof.
            if judged.unknown.is_empty() && judged.wrong.is_empty() {
                for (found, problem) in read_back(&session, output, &seen, &mut || true) {
                    match found {
                        Found::Unreadable => judged.wrong.push(problem),
                        Found::Unknown => judged.unknown.push(problem),
                    }
                }
            }
            Ok(show(output, &seen, &judged, Exit::Changes))
        }
    }
}

/// Looks at the resources that the files name, and at others.
pub(super) fn look(
    session: &Session,
    output: &Output,
    also: &BTreeSet<String>,
) -> (Seen, Judgement) {
    let seen = observe::encryption(&session.inventory, also, &mut |wanted| {
        session.observe(wanted, output)
    });
    let judged = judge(&seen);
    (seen, judged)
}

/// Tells everything, and exits with `wrong` where something is not as it should be.
pub(super) fn show(output: &Output, seen: &Seen, judged: &Judgement, wrong: Exit) -> Exit {
    output.result(
        &report::encryption_text(seen, judged),
        &report::encryption_json(seen, judged),
    );
    match (judged.unknown.is_empty(), judged.wrong.is_empty()) {
        (false, _) => Exit::Error,
        (true, false) => wrong,
        (true, true) => Exit::Done,
    }
}

fn rewrite(
    own: &RewriteArgs,
    session: &Session,
    output: &Output,
    seen: &Seen,
    judged: &Judgement,
) -> Result<Exit, Failure> {
    let resources = match &judged.next {
        Some(Next::Rewrite { resources }) if judged.unknown.is_empty() => resources,
        // Nothing is left to write, whatever else there is to do.
        None | Some(Next::Write { .. }) if judged.unknown.is_empty() && judged.wrong.is_empty() => {
            return Ok(show(output, seen, judged, Exit::Error));
        }
        other => {
            show(output, seen, judged, Exit::Error);
            let hint = match other {
                Some(next) => format!("first {next}; see above"),
                None => "see above, and the remedy of each".to_owned(),
            };
            return Err(Failure::new("nothing was written anew", hint));
        }
    };
    if !own.yes {
        output.note(report::encryption_text(seen, judged).trim_end());
        ask(&format!(
            "Write every object of {} anew?",
            resources.join(", ")
        ))?;
    }
    let written = write_all(own.rate, session, output, seen, resources, &mut || true);
    let also = seen.resources.keys().cloned().collect();
    let (seen, judged) = look(session, output, &also);
    let exit = show(output, &seen, &judged, Exit::Error);
    written?;
    match judged.next {
        Some(Next::Rewrite { .. }) => Err(Failure::new(
            "not every object is under the key that writes",
            "run it again; if it stays, another program writes these objects by another API server",
        )),
        _ => Ok(exit),
    }
}

/// Has every object of these resources written anew, as far as the API server does it. `pass` is called now and
/// then, and says whether to go on.
pub(super) fn write_all(
    rate: u32,
    session: &Session,
    output: &Output,
    seen: &Seen,
    resources: &[String],
    pass: &mut dyn FnMut() -> bool,
) -> Result<(), Failure> {
    let mut refused = 0;
    for (name, count) in concrete(session, seen, resources)? {
        let (done, is_whole) = write(rate, session, output, &name, count, pass)?;
        for (object, why) in &done.refused {
            output.note(&format!("{name} {object} was not written: {why}"));
        }
        refused += done.refusals;
        if !is_whole {
            break;
        }
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::new(
            format!("the API server refused to write {refused} objects anew"),
            "its words are above: an admission webhook, or an object that today's rules do not allow any \
             more; mend it and run this again, which passes over what is written",
        )),
    }
}

/// The resources as the API has them, with how many objects a bar counts to. A rule for many resources
/// becomes those for which no other one counts.
pub(super) fn concrete(
    session: &Session,
    seen: &Seen,
    resources: &[String],
) -> Result<Vec<(String, Option<u64>)>, Failure> {
    let served: BTreeSet<String> = session.api.served()?.into_keys().collect();
    let rules: Vec<&str> = seen.resources.keys().map(String::as_str).collect();
    let mut all = Vec::new();
    for resource in resources {
        if !resource.contains('*') {
            let count = match seen.resources.get(resource).map(|counted| counted.most()) {
                Some(Fact::Value(stored)) => Some(stored.values().sum()),
                _ => None,
            };
            all.push((resource.clone(), count));
            continue;
        }
        let falls = |name: &&String| rule(rules.iter().copied(), name) == Some(resource.as_str());
        all.extend(served.iter().filter(falls).map(|name| (name.clone(), None)));
    }
    Ok(all)
}

/// Writes the objects of one resource, and says whether it came to the last.
fn write(
    rate: u32,
    session: &Session,
    output: &Output,
    name: &str,
    count: Option<u64>,
    pass: &mut dyn FnMut() -> bool,
) -> Result<(Rewritten, bool), Failure> {
    let served = session.api.served()?;
    let Some(resource) = served.get(name) else {
        return Err(Failure::new(
            format!("the API serves no {name} that can be listed and patched"),
            "look at the name in the encryption configuration, and at the CustomResourceDefinition",
        ));
    };
    let pace = Pace {
        rate,
        ..Pace::default()
    };
    let bar = bar(output, name, count);
    let begun = Instant::now();
    let mut told = begun;
    let mut is_whole = true;
    let result = session.api.rewrite(resource, pace, &mut |so_far| {
        bar.set_position(so_far.done);
        let goes_on = pass();
        is_whole &= goes_on;
        if bar.is_hidden() && told.elapsed() >= EVERY {
            told = Instant::now();
            output.note(&progress(name, so_far.done, count, begun.elapsed()));
        }
        goes_on
    });
    bar.finish_and_clear();
    let done = result.map_err(|error: ApiError| {
        let mut failure = Failure::from(error);
        if let Failure::Other { what, hint } = &mut failure {
            what.push_str("; what is written already stays");
            if hint.is_empty() {
                hint.push_str("run it again: what is written is passed over");
            }
        }
        failure
    })?;
    let passed = match done.passed_over {
        0 => String::new(),
        n => format!(", {n} of which somebody else had just written or deleted"),
    };
    let how = if is_whole { "" } else { "ended after " };
    output.note(&format!("{name}: {how}{} objects{passed}", done.done));
    Ok((done, is_whole))
}

fn bar(output: &Output, name: &str, count: Option<u64>) -> ProgressBar {
    let hidden = output.is_quiet() || !std::io::stderr().is_terminal();
    if hidden {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {pos}/{len} {wide_bar} {per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    match count {
        Some(count) => ProgressBar::new(count).with_style(style),
        None => ProgressBar::new_spinner(),
    }
    .with_message(name.to_owned())
}

/// How far it has come, and how long it will take at this pace.
fn progress(name: &str, done: u64, count: Option<u64>, elapsed: Duration) -> String {
    match count.filter(|count| *count > done && done > 0) {
        Some(count) => {
            let left = elapsed.as_secs_f64() / done as f64 * (count - done) as f64;
            format!("{name}: {done} of {count} objects, {left:.0} s left")
        }
        None => format!("{name}: {done} objects"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_reckoned_from_the_pace_so_far() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            progress("secrets", 100, Some(400), ten),
            "secrets: 100 of 400 objects, 30 s left"
        );
        // More were made meanwhile.
        assert_eq!(
            progress("secrets", 500, Some(400), ten),
            "secrets: 500 objects"
        );
        assert_eq!(progress("secrets", 0, Some(400), ten), "secrets: 0 objects");
    }
}
