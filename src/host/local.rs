//! This machine as a node.

use std::process::Command;

use super::process::{self, Fault};
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel, TunnelGuard};

/// This machine, as root already or by `sudo -n`.
#[derive(Debug)]
pub struct Local {
    config: HostConfig,
    sudo: bool,
}

impl Local {
    /// Makes the host.
    pub fn new(config: HostConfig, sudo: bool) -> Self {
        Local { config, sudo }
    }
}

impl Host for Local {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError> {
        let mut command = Command::new(if self.sudo { "sudo" } else { "sh" });
        if self.sudo {
            command.args(["-n", "sh"]);
        }
        command.args(["-c", script.text, "harden"]);
        let output = process::run(&mut command, stdin, limits)
            .map_err(|fault| broken(&self.config.name, script, fault))?;
        if self.sudo {
            super::refuse_without_root(&self.config.name, "this user", &output)?;
        }
        Ok(output)
    }

    fn disconnect(&mut self) {}

    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        Ok(Tunnel {
            local: ([127, 0, 0, 1], port).into(),
            guard: TunnelGuard::default(),
        })
    }
}

/// Tells a fault of a child process as the node's.
pub(super) fn broken(node: &str, script: Script, fault: Fault) -> HostError {
    let (why, remedy) = match fault {
        Fault::Start(error) => (
            format!("cannot be started: {error}"),
            "install the program, or put it on the PATH",
        ),
        Fault::Time(limit) => (
            format!("took longer than {} s", limit.as_secs()),
            "look at the node's load and disks; the same call again is harmless",
        ),
        Fault::Size(limit) => (
            format!("wrote more than {limit} bytes"),
            "no node has so much to tell; look for what else writes there",
        ),
        Fault::Other(error) => (format!("broke off: {error}"), "try again"),
    };
    HostError::Broken {
        node: node.into(),
        script: format!("the {} script", script.name),
        why,
        remedy: remedy.into(),
    }
}
