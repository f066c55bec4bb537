//! The local end of a tunnel.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Tunnel, TunnelGuard};

/// Listens on a free port of 127.0.0.1 and gives each connection to `carry` in a thread of its own,
/// until the tunnel is dropped. `carry` must end soon after the flag is set.
pub(super) fn open(
    carry: impl Fn(TcpStream, Arc<AtomicBool>) + Send + Sync + 'static,
) -> std::io::Result<Tunnel> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    let guard = TunnelGuard::default();
    let closed = guard.0.clone();
    let carry = Arc::new(carry);
    std::thread::spawn(move || {
        while !closed.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((connection, _)) if connection.set_nonblocking(false).is_ok() => {
                    let (carry, closed) = (carry.clone(), closed.clone());
                    std::thread::spawn(move || carry(connection, closed));
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    });
    Ok(Tunnel { local, guard })
}
