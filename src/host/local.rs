//! This machine as a node.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use super::process::{self, Failure};
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel, TunnelGuard, command};

const MACHINE_ID: &str = "/etc/machine-id";

/// The machine that this program runs on.
#[derive(Debug)]
pub struct Local {
    config: HostConfig,
    sudo: bool,
    machine_id: Option<String>,
}

impl Local {
    /// Makes the host; connects nothing.
    pub fn new(config: HostConfig, sudo: bool, machine_id: Option<String>) -> Self {
        Local {
            config,
            sudo,
            machine_id,
        }
    }

    /// Facts of this machine must not be taken for those of another node. A node's `machineID` is
    /// what the kubelet read from /etc/machine-id (machine-id(5)).
    fn check_machine(&self) -> Result<(), HostError> {
        let Some(wanted) = &self.machine_id else {
            return Ok(());
        };
        let own = std::fs::read_to_string(MACHINE_ID).unwrap_or_default();
        if own.trim() == wanted {
            return Ok(());
        }
        Err(HostError::Unreachable {
            node: self.config.name.clone(),
            address: "this machine".into(),
            why: format!(
                "this machine is not that node: {MACHINE_ID} differs from the Node's machineID"
            ),
            remedy: format!(
                "run harden on the node itself, or give [nodes.host.{}] another transport",
                self.config.name
            ),
        })
    }
}

impl Host for Local {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError> {
        self.check_machine()?;
        let node = self.name();
        let words = command::words(script, self.sudo);
        let mut program = Command::new(&words[0]);
        program.args(&words[1..]);
        let (output, beginning) =
            process::run(&mut program, stdin, limits).map_err(|failure| match failure {
                Failure::Start(error) => HostError::Unreachable {
                    node: node.to_owned(),
                    address: "this machine".into(),
                    why: format!("`{}` does not start: {error}", words[0]),
                    remedy: match error.kind() {
                        ErrorKind::NotFound => "look at PATH".into(),
                        _ => "look at this machine's limits on processes".into(),
                    },
                },
                failure => failure.broken(node, script, limits),
            })?;
        if self.sudo {
            let user = std::env::var("USER").unwrap_or_else(|_| "USER".into());
            command::check_sudo(node, &user, &output, &beginning)?;
        }
        Ok(output)
    }

    fn disconnect(&mut self) {}

    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        Ok(Tunnel {
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            guard: TunnelGuard::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::{Exit, Transport, open};

    fn local() -> Box<dyn Host> {
        open(HostConfig {
            name: "cp1".into(),
            transport: Transport::Local {
                sudo: false,
                machine_id: None,
            },
            connect_timeout: Duration::from_secs(5),
        })
    }

    #[test]
    fn another_machine_is_not_taken_for_this_one() {
        let named = |machine_id: &str| {
            open(HostConfig {
                name: "cp2".into(),
                transport: Transport::Local {
                    sudo: false,
                    machine_id: Some(machine_id.trim().to_owned()),
                },
                connect_timeout: Duration::from_secs(5),
            })
        };
        let script = Script {
            name: "test",
            text: ":",
        };
        let run = |mut host: Box<dyn Host>| host.run(script, b"", Limits::default());
        let error = run(named("0123456789abcdef0123456789abcdef")).unwrap_err();
        assert!(matches!(error, HostError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("not that node"), "{error}");
        if let Ok(own) = std::fs::read_to_string(MACHINE_ID) {
            run(named(&own)).unwrap();
        }
    }

    #[test]
    fn a_script_runs_with_its_input() {
        let script = Script {
            name: "test",
            text: "cat; echo \"$0\" $#",
        };
        let output = local().run(script, b"in ", Limits::default()).unwrap();
        assert_eq!(output.stdout, b"in harden 0\n");
        assert_eq!(output.exit, Exit::Code(0));
    }

    #[test]
    fn a_limit_is_named() {
        let script = Script {
            name: "probe",
            text: "sleep 60",
        };
        let limits = Limits {
            time: Duration::from_millis(200),
            output: 0,
        };
        let error = local().run(script, b"", limits).unwrap_err();
        assert_eq!(error.to_string(), "cp1: probe took longer than 200ms");
        assert!(!error.remedy().is_empty());
    }
}
