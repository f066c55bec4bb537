//! The local end of a tunnel: a listener whose connections are served by threads.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;

use super::process::wait_for;
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
