//! `harden encryption`.

use harden::observe;
use harden::report;
use harden::resource::encryption::{Judgement, Seen, judge};

use super::args::{EncryptionCommand, Global};
use super::output::Output;
use super::session::Session;
use super::{Exit, Failure};

/// Looks at encryption at rest, and changes nothing.
pub(crate) fn run(
    command: &EncryptionCommand,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    let session = Session::open(global, super::plan::PATIENCE)?;
    let seen = look(&session, output);
    let judged = judge(&seen);
    output.result(
        &report::encryption_text(&seen, &judged),
        &report::encryption_json(&seen, &judged),
    );
    Ok(exit(command, &judged))
}

fn look(session: &Session, output: &Output) -> Seen {
    let served = || session.api.served().map_err(|error| error.to_string());
    observe::encryption(
        &session.inventory,
        &mut |wanted| session.observe(wanted, output),
        &served,
    )
}

fn exit(command: &EncryptionCommand, judged: &Judgement) -> Exit {
    if !judged.unknown.is_empty() {
        return Exit::Error;
    }
    match command {
        EncryptionCommand::Verify if !judged.wrong.is_empty() => Exit::Changes,
        _ => Exit::Done,
    }
}
