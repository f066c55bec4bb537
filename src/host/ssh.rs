//! stub
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel};
/// Stub.
#[derive(Debug)]
pub struct Ssh {
    config: HostConfig,
}
impl Ssh {
    /// Makes the host; connects nothing.
    pub fn new(config: HostConfig, _ssh: SshConfig) -> Self {
        Ssh { config }
    }
}
impl Host for Ssh {
    fn name(&self) -> &str {
        &self.config.name
    }
    fn run(&mut self, _: Script, _: &[u8], _: Limits) -> Result<Output, HostError> {
        unimplemented!()
    }
    fn disconnect(&mut self) {}
    fn tunnel(&mut self, _: u16) -> Result<Tunnel, HostError> {
        unimplemented!()
    }
}
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
    /// Private key file; the agent's keys without it.
    pub identity: Option<std::path::PathBuf>,
    /// known_hosts files, all of which count.
    pub known_hosts: Vec<std::path::PathBuf>,
}
