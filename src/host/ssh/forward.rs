//! One connection through a session: `direct-tcpip` (RFC 4254 7.2).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::exchange::wait;
use super::login::Connection;

/// Bytes on their way in one direction.
#[derive(Default)]
struct Lane {
    waiting: Vec<u8>,
    closed: bool,
}

/// Carries bytes between a local connection and a port on the node's loopback address until either
/// side closes or the tunnel does.
pub(super) fn carry(
    carrier: &Connection,
    mut local: TcpStream,
    port: u16,
    closed: &AtomicBool,
) -> Result<(), String> {
    let session = &carrier.session;
    session.set_blocking(true);
    let mut channel = session
        .channel_direct_tcpip("127.0.0.1", port, None)
        .map_err(|e| e.to_string())?;
    session.set_blocking(false);
    local.set_nonblocking(true).map_err(|e| e.to_string())?;
    let (mut up, mut down) = (Lane::default(), Lane::default());
    let mut buffer = vec![0; 32 << 10];
    while !closed.load(Ordering::Relaxed) {
        let mut moved = fill(&mut up, &mut local, &mut buffer)?;
        moved |= fill(&mut down, &mut channel, &mut buffer)?;
        moved |= empty(&mut up, &mut channel)?;
        moved |= empty(&mut down, &mut local)?;
        if channel.eof() && down.waiting.is_empty() {
            break;
        }
        if up.closed && up.waiting.is_empty() {
            break;
        }
        if !moved {
            let mut flags = PollFlags::empty();
            if up.waiting.is_empty() && !up.closed {
                flags |= PollFlags::IN;
            }
            if !down.waiting.is_empty() {
                flags |= PollFlags::OUT;
            }
            // Short, so that a dropped tunnel ends soon.
            let soon = Instant::now() + Duration::from_millis(100);
            wait(carrier, soon, Some((&local, flags)))?;
        }
    }
    session.set_blocking(true);
    session.set_timeout(1000);
    let _ = channel.close();
    let _ = local.shutdown(Shutdown::Both);
    Ok(())
}

fn fill(lane: &mut Lane, from: &mut impl Read, buffer: &mut [u8]) -> Result<bool, String> {
    if lane.closed || !lane.waiting.is_empty() {
        return Ok(false);
    }
    match from.read(buffer) {
        Ok(0) => {
            lane.closed = true;
            Ok(true)
        }
        Ok(n) => {
            lane.waiting.extend_from_slice(&buffer[..n]);
            Ok(true)
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
        Err(e) => Err(e.to_string()),
    }
}

fn empty(lane: &mut Lane, to: &mut impl Write) -> Result<bool, String> {
    if lane.waiting.is_empty() {
        return Ok(false);
    }
    match to.write(&lane.waiting) {
        Ok(n) => {
            lane.waiting.drain(..n);
            Ok(n > 0)
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
        Err(e) => Err(e.to_string()),
    }
}
