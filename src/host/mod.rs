//! Hosts: nodes as reached over a transport.
//!
//! A host runs constant scripts as root and opens tunnels; whatever varies travels on the script's
//! stdin. No command line is built from a profile's values.

use std::time::Duration;

mod capture;
mod command;
pub mod docker;
pub mod known_hosts;
pub mod local;
mod process;
pub mod ssh;
mod tunnel;

pub use command::{quote, sent};

/// A POSIX `sh` script that is part of this program. Only constants can be made into one.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// For messages: what it is for, for example `probe`.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
}

/// Bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The whole run, from connecting to the last byte.
    pub time: Duration,
    /// Bytes of stdout; more is an error, never a silent cut.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: Duration::from_secs(30),
            output: 16 << 20,
        }
    }
}

/// What a script left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its stdout, whole.
    pub stdout: Vec<u8>,
    /// The last 4 KiB of its stderr, without terminal escapes.
    pub stderr: String,
    /// How it ended.
    pub exit: Exit,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// Killed by this signal. libssh2 reports status 0 for it, so the signal is asked for first.
    Signal(String),
}

/// A node as reached over a transport. Calls block; one host is used by one thread at a time.
pub trait Host: Send {
    /// The node's name.
    fn name(&self) -> &str;

    /// Runs a script as root with `stdin` as its standard input.
    ///
    /// # Errors
    /// When the node cannot be reached or a limit is passed. A script that fails is no error here:
    /// see [`Output::exit`].
    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError>;

    /// Drops the connection, so that the next call makes a new one: proof that a node still lets
    /// people in.
    fn disconnect(&mut self);

    /// Opens a way to a TCP port on the node's own loopback address.
    ///
    /// # Errors
    /// When the node cannot be reached.
    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError>;
}

/// A local address whose connections end at a port on the node; closed when dropped.
#[derive(Debug)]
pub struct Tunnel {
    /// On 127.0.0.1.
    pub local: std::net::SocketAddr,
    /// Dropping it ends the thread that forwards.
    pub guard: TunnelGuard,
}

/// Ends a tunnel when dropped.
#[derive(Debug, Default)]
pub struct TunnelGuard(pub std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Why a node could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing answers.
    #[error("{node}: cannot reach {address}: {why}")]
    Unreachable {
        /// The node's name.
        node: String,
        /// Address and port, or the container.
        address: String,
        /// The system's words.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// The host key is not the known one.
    #[error("{node}: {why}")]
    HostKey {
        /// The node's name.
        node: String,
        /// Unknown, changed or revoked, with the fingerprint offered.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Nobody let us in.
    #[error("{node}: cannot log in as {user}: {why}")]
    Login {
        /// The node's name.
        node: String,
        /// The user.
        user: String,
        /// What was tried.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Logged in, but not root.
    #[error("{node}: cannot become root: {why}")]
    Become {
        /// The node's name.
        node: String,
        /// sudo's words.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A limit was passed, or the connection broke.
    #[error("{node}: {script} {why}")]
    Broken {
        /// The node's name.
        node: String,
        /// Which script.
        script: String,
        /// What happened.
        why: String,
        /// What to do.
        remedy: String,
    },
}

impl HostError {
    /// Returns the node's name.
    pub fn node(&self) -> &str {
        match self {
            HostError::Unreachable { node, .. }
            | HostError::HostKey { node, .. }
            | HostError::Login { node, .. }
            | HostError::Become { node, .. }
            | HostError::Broken { node, .. } => node,
        }
    }

    /// Returns what to do about it.
    pub fn remedy(&self) -> &str {
        match self {
            HostError::Unreachable { remedy, .. }
            | HostError::HostKey { remedy, .. }
            | HostError::Login { remedy, .. }
            | HostError::Become { remedy, .. }
            | HostError::Broken { remedy, .. } => remedy,
        }
    }
}

/// How to reach a node: what the workspace says of it, after defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The node's name; also the name under which its host keys are known.
    pub name: String,
    /// By which means.
    pub transport: Transport,
    /// Bounds of connecting and logging in.
    pub connect_timeout: Duration,
}

/// The means to reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// SSH by libssh2.
    Ssh(ssh::SshConfig),
    /// `docker exec` (or `podman`, `nerdctl`) into a container of the node's name.
    Docker {
        /// The engine's program.
        engine: String,
    },
    /// This machine.
    Local {
        /// Whether to go through `sudo -n`.
        sudo: bool,
        /// The machine id of the node, where it is known; this machine must have it.
        machine_id: Option<String>,
    },
}

/// Makes the host of a node. Nothing is connected yet.
pub fn open(config: HostConfig) -> Box<dyn Host> {
    match config.transport.clone() {
        Transport::Ssh(ssh) => Box::new(ssh::Ssh::new(config, ssh)),
        Transport::Docker { engine } => Box::new(docker::Docker::new(config, engine)),
        Transport::Local { sudo, machine_id } => {
            Box::new(local::Local::new(config, sudo, machine_id))
        }
    }
}

/// Opens the hosts of several nodes from one inventory.
pub type Opener<'a> = dyn Fn(&str) -> Result<Box<dyn Host>, HostError> + Sync + 'a;
