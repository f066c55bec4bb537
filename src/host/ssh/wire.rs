//! One channel without blocking.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::PollFlags;
use ssh2::{BlockDirections, Channel};

use super::Connection;
use crate::host::process::{again, wait_for};

/// A channel whose session does not block.
///
/// When libssh2 could send only part of a packet, the call that meant to send it must be repeated
/// before any other: another one would find the rest in its way and fail. So a call that got stuck
/// keeps all others out until it is through.
pub(super) struct Wire<'a> {
    connection: &'a Connection,
    channel: Channel,
    stuck: Option<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Stdout,
    Stderr,
    Write,
    Eof,
}

impl<'a> Wire<'a> {
    pub(super) fn new(connection: &'a Connection, channel: Channel) -> Self {
        connection.session.set_blocking(false);
        Wire {
            connection,
            channel,
            stuck: None,
        }
    }

    /// Reads what the other end has sent; `None` when there is nothing now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let some = self.call(Call::Stdout, |channel| channel.read(buffer))?;
        Ok(some.filter(|&n| n > 0))
    }

    /// Reads the other end's stderr.
    pub(super) fn read_stderr(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let some = self.call(Call::Stderr, |channel| channel.stderr().read(buffer))?;
        Ok(some.filter(|&n| n > 0))
    }

    /// Sends some of the bytes; `None` when none can be sent now. After that the next call must
    /// begin with the same bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let some = self.call(Call::Write, |channel| channel.write(bytes))?;
        Ok(some.filter(|&n| n > 0))
    }

    /// Says that nothing more will be sent; false when it cannot be said now.
    pub(super) fn send_eof(&mut self) -> io::Result<bool> {
        let done = self.call(Call::Eof, |channel| {
            channel.send_eof().map(|()| 0).map_err(io::Error::from)
        })?;
        Ok(done.is_some())
    }

    /// Whether the other end has said that it will send no more, and all of it has been read.
    pub(super) fn eof(&self) -> bool {
        self.channel.eof()
    }

    /// What to wait for on the socket.
    pub(super) fn wants(&self) -> PollFlags {
        match self.connection.session.block_directions() {
            BlockDirections::Outbound | BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }

    /// Waits for the other end.
    pub(super) fn wait(&self, time: Duration) -> io::Result<()> {
        wait_for(&[(self.connection.socket.as_fd(), self.wants())], time)
    }

    /// Returns to a session that blocks, up to the session's own time limit.
    pub(super) fn into_blocking(self) -> Channel {
        self.connection.session.set_blocking(true);
        self.channel
    }

    fn call(
        &mut self,
        call: Call,
        make: impl FnOnce(&mut Channel) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        if self.stuck.is_some_and(|stuck| stuck != call) {
            return Ok(None);
        }
        match make(&mut self.channel) {
            Ok(n) => {
                self.stuck = None;
                Ok(Some(n))
            }
            Err(error) if again(&error) => {
                let sending = self.wants().contains(PollFlags::OUT);
                self.stuck = sending.then_some(call);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
