//! The local end of a tunnel: a listener whose connections are served by threads.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;

use super::process::{again, wait_for};
use super::{HostError, Tunnel, TunnelGuard};

/// How often a thread looks whether its tunnel still lives.
pub(super) const BEAT: Duration = Duration::from_millis(100);

/// Says when a tunnel's guard has been dropped.
#[derive(Clone)]
pub(super) struct Closed(Arc<AtomicBool>);

impl Closed {
    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens on a free port of 127.0.0.1. `serve` runs on a thread of its own for every connection
/// and returns soon after the guard was dropped.
pub(super) fn listen(
    node: &str,
    serve: impl Fn(TcpStream, Closed) + Send + Sync + 'static,
) -> Result<Tunnel, HostError> {
    let failed = |error: io::Error| HostError::Unreachable {
        node: node.to_owned(),
        address: "127.0.0.1 of this machine".into(),
        why: error.to_string(),
        remedy: "look at this machine's limits on open files and threads, and run again".into(),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let guard = TunnelGuard::default();
    let closed = Closed(Arc::clone(&guard.0));
    thread::Builder::new()
        .name(format!("tunnel to {node}"))
        .spawn(move || accept(&listener, &closed, &Arc::new(serve)))
        .map_err(failed)?;
    Ok(Tunnel { local, guard })
}

fn accept(
    listener: &TcpListener,
    closed: &Closed,
    serve: &Arc<impl Fn(TcpStream, Closed) + Send + Sync + 'static>,
) {
    while !closed.is() {
        match listener.accept() {
            Ok((client, _)) => {
                let (closed, serve) = (closed.clone(), Arc::clone(serve));
                // Without a thread the connection is just closed.
                let _ = thread::Builder::new().spawn(move || serve(client, closed));
            }
            Err(_) => {
                if wait_for(&[(listener.as_fd(), PollFlags::IN)], BEAT).is_err() {
                    thread::sleep(BEAT);
                }
            }
        }
    }
}

/// One direction of a connection: a buffer between two ends that do not block.
pub(super) struct Half {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// Its source sends no more.
    pub(super) ended: bool,
    /// Its destination knows that.
    pub(super) told: bool,
}

impl Default for Half {
    fn default() -> Self {
        Half {
            buffer: vec![0; 64 << 10],
            begin: 0,
            end: 0,
            ended: false,
            told: false,
        }
    }
}

impl Half {
    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Reads into the empty buffer; zero bytes are the end. Returns whether something happened.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<Option<usize>>,
    ) -> io::Result<bool> {
        let Some(n) = read(&mut self.buffer)? else {
            return Ok(false);
        };
        (self.begin, self.end) = (0, n);
        self.ended = n == 0;
        Ok(true)
    }

    /// Writes some of the buffer. Returns whether something happened.
    pub(super) fn drain(
        &mut self,
        write: impl FnOnce(&[u8]) -> io::Result<Option<usize>>,
    ) -> io::Result<bool> {
        let Some(n) = write(&self.buffer[self.begin..self.end])? else {
            return Ok(false);
        };
        self.begin += n;
        Ok(n > 0)
    }
}

/// The result of a call that did not block; `None` when it would have.
pub(super) fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(error) if again(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
