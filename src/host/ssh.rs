//! A node over SSH, by libssh2.
//!
//! libssh2 serialises everything on one session, so a host has one for its runs and every connection
//! through a tunnel has its own. Connections are made when they are first needed and kept.

use std::fmt;
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel, command, tunnel};

mod connect;
mod exec;
mod forward;
mod login;
mod wire;

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfig {
    /// Name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub user: String,
    /// Whether to run scripts through `sudo -n`.
    pub sudo: bool,
    /// Private key file; the agent's keys without it. Of a key with a passphrase, and of a public
    /// key, the agent must hold the private one.
    pub identity: Option<std::path::PathBuf>,
    /// known_hosts files, all of which count.
    pub known_hosts: Vec<std::path::PathBuf>,
}

/// A node over SSH.
pub struct Ssh {
    target: Target,
    connection: Option<Connection>,
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssh")
            .field("target", &self.target)
            .field("connected", &self.connection.is_some())
            .finish()
    }
}

/// Everything it takes to connect.
#[derive(Debug, Clone)]
struct Target {
    /// The name under which the host keys are known.
    node: String,
    ssh: SshConfig,
    timeout: Duration,
}

/// A session that is logged in.
struct Connection {
    session: ssh2::Session,
    /// The session's own socket, to wait for and to shut.
    socket: TcpStream,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Freeing channels says goodbye, which must not wait for a peer that is gone.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Target {
    /// Connects, checks the host key, and only then logs in.
    fn connect(&self, time: Duration) -> Result<Connection, HostError> {
        // A time beyond the clock's range is as good as an hour here.
        let hour = Duration::from_secs(3600);
        let end = Instant::now() + time.min(self.timeout).min(hour);
        let connection = connect::connect(self, end)?;
        login::log_in(self, &connection.session, end)?;
        connection.session.set_keepalive(true, 15);
        Ok(connection)
    }

    fn unreachable(&self, why: impl Into<String>, remedy: impl Into<String>) -> HostError {
        HostError::Unreachable {
            node: self.node.clone(),
            address: format!("{}:{}", self.ssh.address, self.ssh.port),
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

/// Milliseconds for libssh2, which takes zero for no limit.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// The time until then.
fn until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

impl Ssh {
    /// Makes the host; connects nothing.
    pub fn new(config: HostConfig, ssh: SshConfig) -> Self {
        Ssh {
            target: Target {
                node: config.name,
                ssh,
                timeout: config.connect_timeout,
            },
            connection: None,
        }
    }

    /// Opens a channel, on a new connection when the kept one has died meanwhile.
    fn channel(
        &mut self,
        capture: &Capture,
        broken: &dyn Fn(exec::Failure) -> HostError,
    ) -> Result<(&Connection, ssh2::Channel), HostError> {
        let left = || capture.left().map_err(|passed| broken(passed.into()));
        if let Some(connection) = self.connection.take() {
            connection.session.set_timeout(millis(left()?));
            // Nothing has been run yet, so a second try can do no harm.
            if let Ok(channel) = connection.session.channel_session() {
                return Ok((self.connection.insert(connection), channel));
            }
        }
        let connection = self.target.connect(left()?)?;
        connection.session.set_timeout(millis(left()?));
        let channel = connection
            .session
            .channel_session()
            .map_err(|error| broken(error.into()))?;
        Ok((self.connection.insert(connection), channel))
    }
}

impl Host for Ssh {
    fn name(&self) -> &str {
        &self.target.node
    }

    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError> {
        let node = self.target.node.clone();
        let (user, sudo) = (self.target.ssh.user.clone(), self.target.ssh.sudo);
        let broken = |failure: exec::Failure| failure.broken(&node, script, limits);
        let mut capture = Capture::new(limits);
        let (connection, channel) = self.channel(&capture, &broken)?;
        let line = command::line(script, sudo);
        match exec::run(connection, channel, &line, stdin, &mut capture) {
            Ok(exit) => {
                let (output, beginning) = capture.finish(exit);
                if sudo {
                    command::check_sudo(&node, &user, &output, &beginning)?;
                }
                Ok(output)
            }
            Err(failure) => {
                // What is left on the session is unknown, and the script must lose its pipes.
                self.disconnect();
                Err(broken(failure))
            }
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }

    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        // The first connection is made now, so that a node that cannot be reached is told here.
        let first = Mutex::new(Some(self.target.connect(self.target.timeout)?));
        let target = self.target.clone();
        tunnel::listen(&self.target.node, move |client, closed| {
            let kept = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            // What goes wrong here, the client sees as a closed connection.
            let _ = forward::serve(&target, kept, port, client, &closed);
        })
    }
}
