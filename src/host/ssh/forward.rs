//! Carries one connection of a tunnel over a session of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use rustix::event::PollFlags;

use super::wire::Wire;
use super::{Connection, Target, millis};
use crate::host::process::wait_for;
use crate::host::tunnel::{BEAT, Closed, Half, ready};

/// Carries bytes both ways until both ends have finished, one breaks, or the tunnel closes.
pub(super) fn serve(
    target: &Target,
    kept: Option<Connection>,
    port: u16,
    client: TcpStream,
    closed: &Closed,
) -> io::Result<()> {
    let open = |connection: &Connection| {
        connection.session.set_timeout(millis(target.timeout));
        connection
            .session
            .channel_direct_tcpip("127.0.0.1", port, None)
    };
    let first = kept.and_then(|kept| open(&kept).ok().map(|channel| (kept, channel)));
    let (connection, channel) = match first {
        Some(both) => both,
        // There was none, it has died meanwhile, or nothing listens yet.
        None => {
            let connection = target.connect(target.timeout).map_err(io::Error::other)?;
            let channel = open(&connection)?;
            (connection, channel)
        }
    };
    let mut wire = Wire::new(&connection, channel);
    client.set_nonblocking(true)?;
    let mut client = &client;
    let (mut up, mut down) = (Half::default(), Half::default());
    while !(closed.is() || up.told && down.told) {
        let mut moved = false;
        if up.is_empty() && !up.ended {
            moved |= up.fill(|buffer| ready(client.read(buffer)))?;
        }
        if !up.is_empty() {
            moved |= up.drain(|bytes| wire.write(bytes))?;
        } else if up.ended && !up.told {
            up.told = wire.send_eof()?;
            moved |= up.told;
        }
        if down.is_empty() && !down.ended {
            moved |= down.fill(|buffer| match wire.read(buffer)? {
                None if wire.eof() => Ok(Some(0)),
                some => Ok(some),
            })?;
        }
        if !down.is_empty() {
            moved |= down.drain(|bytes| ready(client.write(bytes)))?;
        } else if down.ended && !down.told {
            client.shutdown(Shutdown::Write)?;
            down.told = true;
            moved = true;
        }
        if !moved {
            wait(&connection, &wire, client, &up, &down)?;
        }
    }
    Ok(())
}

/// Waits for whatever can go on. An end for which there is nothing to do is left out, or it would
/// wake us for ever.
fn wait(
    connection: &Connection,
    wire: &Wire<'_>,
    client: &TcpStream,
    up: &Half,
    down: &Half,
) -> io::Result<()> {
    let mut ready = Vec::new();
    if down.is_empty() || !up.is_empty() {
        ready.push((connection.socket.as_fd(), wire.wants()));
    }
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, up.is_empty() && !up.ended);
    flags.set(PollFlags::OUT, !down.is_empty());
    if !flags.is_empty() {
        ready.push((client.as_fd(), flags));
    }
    wait_for(&ready, BEAT)
}
