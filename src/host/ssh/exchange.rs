//! Running one command: stdin, stdout and stderr at the same time.
//!
//! Reading stdout to its end while stderr fills the window, or writing without reading, waits for
//! ever; so nothing blocks here but one poll for all three.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel};

use super::login::{Connection, KEEPALIVE};
use crate::host::process::{STDERR, keep, shown};
use crate::host::{Exit, Limits, Output};

/// Runs a command. The error says what happened, to follow the script's name.
pub(super) fn run(
    connection: &Connection,
    command: &str,
    stdin: &[u8],
    limits: Limits,
    deadline: Instant,
) -> Result<Output, String> {
    let session = &connection.session;
    session.set_blocking(true);
    session.set_timeout(milliseconds(deadline));
    let lost = |e: ssh2::Error| format!("lost the connection: {e}");
    let mut channel = session.channel_session().map_err(lost)?;
    channel.exec(command).map_err(lost)?;
    session.set_blocking(false);
    let moved = exchange(connection, &mut channel, stdin, limits, deadline);
    session.set_blocking(true);
    session.set_timeout(milliseconds(deadline));
    let (stdout, stderr) = moved?;
    channel.wait_close().map_err(lost)?;
    Ok(Output {
        stdout,
        stderr: shown(&stderr),
        exit: exit_of(&channel).map_err(lost)?,
    })
}

/// A program that a signal killed has exit status 0 for libssh2, so the signal is asked for first.
fn exit_of(channel: &Channel) -> Result<Exit, ssh2::Error> {
    match channel.exit_signal()?.exit_signal {
        Some(signal) => Ok(Exit::Signal(format!("SIG{signal}"))),
        None => channel.exit_status().map(Exit::Code),
    }
}

fn exchange(
    connection: &Connection,
    channel: &mut Channel,
    mut stdin: &[u8],
    limits: Limits,
    deadline: Instant,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut eof_sent = false;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let mut moved = false;
        if let Some(n) = ready(channel.read(&mut buffer))? {
            moved |= n > 0;
            keep(&mut stdout, &buffer[..n], limits.output, false);
            if stdout.len() > limits.output {
                return Err(format!("wrote more than {} bytes", limits.output));
            }
        }
        if let Some(n) = ready(channel.stderr().read(&mut buffer))? {
            moved |= n > 0;
            keep(&mut stderr, &buffer[..n], STDERR, true);
        }
        if !stdin.is_empty() {
            match channel.write(stdin) {
                Ok(n) => {
                    moved |= n > 0;
                    stdin = &stdin[n..];
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // The script ended without reading everything: its answer decides.
                Err(_) if channel.eof() => stdin = &[],
                Err(e) => return Err(format!("lost the connection: {e}")),
            }
        } else if !eof_sent {
            match channel.send_eof().map_err(std::io::Error::from) {
                Ok(()) => eof_sent = true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => eof_sent = true,
            }
        }
        if channel.eof() && !moved {
            return Ok((stdout, stderr));
        }
        if Instant::now() >= deadline {
            return Err(format!("took longer than {} s", limits.time.as_secs()));
        }
        if !moved {
            wait(connection, deadline, None)?;
        }
    }
}

/// `None` when there is nothing now.
fn ready(result: std::io::Result<usize>) -> Result<Option<usize>, String> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(format!("lost the connection: {e}")),
    }
}

/// Waits until the connection's socket (and another, if given) can be read or written, at most as
/// long as a keep-alive is due, and sends one then.
pub(super) fn wait(
    connection: &Connection,
    deadline: Instant,
    other: Option<(&TcpStream, PollFlags)>,
) -> Result<(), String> {
    let flags = match connection.session.block_directions() {
        BlockDirections::Outbound => PollFlags::OUT,
        BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
        _ => PollFlags::IN,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let time = left.min(Duration::from_secs(KEEPALIVE.into()));
    let timeout = Timespec::try_from(time).map_err(|e| e.to_string())?;
    let mut fds = vec![PollFd::new(&connection.socket, flags)];
    fds.extend(other.map(|(socket, flags)| PollFd::new(socket, flags)));
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => connection
            .session
            .keepalive_send()
            .map(drop)
            .map_err(|e| format!("lost the connection: {e}")),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(format!("cannot wait for the connection: {e}")),
    }
}

fn milliseconds(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1)
}
