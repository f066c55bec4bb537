//! Runs one command on a channel.

use std::io;
use std::time::Duration;

use ssh2::Channel;

use super::wire::Wire;
use super::{Connection, millis};
use crate::host::capture::{Capture, Passed};
use crate::host::{Exit, HostError, Limits, Script};

/// The longest command line; libssh2 sends it in one packet, which holds 35000 bytes at most.
const MAX_LINE: usize = 32 << 10;

/// How long a connection may be silent before it is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(15);

/// Why a run did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    Passed(Passed),
    TooLong,
    Broken(String),
}

impl From<Passed> for Failure {
    fn from(passed: Passed) -> Self {
        Failure::Passed(passed)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Broken(error.to_string())
    }
}

impl From<ssh2::Error> for Failure {
    fn from(error: ssh2::Error) -> Self {
        match io::Error::from(error) {
            error if error.kind() == io::ErrorKind::TimedOut => Failure::Passed(Passed::Time),
            error => error.into(),
        }
    }
}

impl Failure {
    pub(super) fn broken(self, node: &str, script: Script, limits: Limits) -> HostError {
        let (why, remedy) = match self {
            Failure::Passed(passed) => (passed.why(limits), passed.remedy()),
            Failure::TooLong => (
                format!("is longer than the {MAX_LINE} bytes that SSH carries"),
                "report this as an error of `harden`",
            ),
            Failure::Broken(why) => (
                format!("lost its connection: {why}"),
                "check the network and the node, and run again",
            ),
        };
        HostError::Broken {
            node: node.to_owned(),
            script: script.name.to_owned(),
            why,
            remedy: remedy.to_owned(),
        }
    }
}

/// Runs a command line with this stdin.
///
/// Both outputs are read while stdin is written, so that no order in which a script reads and writes
/// can block it.
pub(super) fn run(
    connection: &Connection,
    mut channel: Channel,
    line: &str,
    mut input: &[u8],
    capture: &mut Capture,
) -> Result<Exit, Failure> {
    if line.len() > MAX_LINE {
        return Err(Failure::TooLong);
    }
    connection.session.set_timeout(millis(capture.left()?));
    channel.exec(line)?;
    let mut wire = Wire::new(connection, channel);
    let mut told = false;
    let mut buffer = vec![0; 64 << 10];
    while !wire.eof() {
        let mut moved = false;
        if !input.is_empty() {
            if let Some(n) = wire.write(&input[..input.len().min(buffer.len())])? {
                input = &input[n..];
                moved = true;
            }
        } else if !told {
            told = wire.send_eof()?;
            moved |= told;
        }
        if let Some(n) = wire.read(&mut buffer)? {
            capture.stdout(&buffer[..n])?;
            moved = true;
        }
        if let Some(n) = wire.read_stderr(&mut buffer)? {
            capture.stderr(&buffer[..n]);
            moved = true;
        }
        let left = capture.left()?;
        if !moved && !wire.eof() {
            wire.wait(left.min(SILENCE))?;
            if left > SILENCE {
                // It sends only when nothing was sent for that long.
                connection.session.keepalive_send()?;
            }
        }
    }
    connection.session.set_timeout(millis(capture.left()?));
    let mut channel = wire.into_blocking();
    channel.close()?;
    channel.wait_close()?;
    // The status of a process that a signal ended is 0 here.
    match channel.exit_signal()?.exit_signal {
        Some(signal) => Ok(Exit::Signal(clean(&signal))),
        None => Ok(Exit::Code(channel.exit_status()?)),
    }
}

/// The name of a signal, as the node gives it.
fn clean(signal: &str) -> String {
    let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-');
    signal.chars().filter(good).take(64).collect()
}
