//! A node over SSH, by libssh2.
//!
//! One session a host, one script at a time: calls on one session exclude each other. Tunnels have
//! sessions of their own, so that a probe and a question through a tunnel do not block each other.

use std::path::PathBuf;
use std::time::Instant;

use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel, tunnel};

mod exchange;
mod forward;
mod login;

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
    pub identity: Option<PathBuf>,
    /// known_hosts files, all of which count.
    pub known_hosts: Vec<PathBuf>,
}

/// A node over SSH.
pub struct Ssh {
    config: HostConfig,
    ssh: SshConfig,
    connection: Option<login::Connection>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Ssh({} at {}:{})",
            self.config.name, self.ssh.address, self.ssh.port
        )
    }
}

impl Ssh {
    /// Makes the host; connects nothing yet.
    pub fn new(config: HostConfig, ssh: SshConfig) -> Self {
        Ssh {
            config,
            ssh,
            connection: None,
        }
    }
}

impl Host for Ssh {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError> {
        let deadline = Instant::now() + limits.time;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(login::connect(&self.config, &self.ssh)?),
        };
        let become_root = if self.ssh.sudo { "sudo -n " } else { "" };
        let command = format!("{become_root}sh -c {} harden", quote(script.text));
        match exchange::run(connection, &command, stdin, limits, deadline) {
            Ok(output) => {
                if self.ssh.sudo {
                    super::refuse_without_root(&self.config.name, &self.ssh.user, &output)?;
                }
                Ok(output)
            }
            Err(why) => {
                // A session that broke off in the middle of a call cannot be used again.
                self.connection = None;
                Err(HostError::Broken {
                    node: self.config.name.clone(),
                    script: format!("the {} script", script.name),
                    why,
                    remedy: "check that the node is up and `ssh` to it works; \
                             the same command again goes on from where it was"
                        .into(),
                })
            }
        }
    }

    fn disconnect(&mut self) {
        if let Some(login::Connection { session, .. }) = self.connection.take() {
            session.set_blocking(true);
            session.set_timeout(1000);
            let _ = session.disconnect(None, "done", None);
        }
    }

    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        // Logging in now tells a closed door here, and not as a connection that dies for no reason.
        let first = login::connect(&self.config, &self.ssh)?;
        let first = std::sync::Mutex::new(Some(first));
        let (config, ssh) = (self.config.clone(), self.ssh.clone());
        tunnel::open(move |connection, closed| {
            let ready = first.lock().ok().and_then(|mut first| first.take());
            let carrier = match ready {
                Some(carrier) => Ok(carrier),
                None => login::connect(&config, &ssh),
            };
            if let Ok(carrier) = carrier {
                let _ = forward::carry(&carrier, connection, port, &closed);
            }
        })
        .map_err(|e| HostError::Unreachable {
            node: self.config.name.clone(),
            address: "a free port of 127.0.0.1".into(),
            why: e.to_string(),
            remedy: "free some ports on this machine".into(),
        })
    }
}

/// Quotes a text as one word for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::process::Command;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever the text, a real shell gives it back as one word.
        #[test]
        fn a_quoted_text_is_one_word_for_a_real_shell(text in "[^\\x00]{0,40}") {
            let command = format!("printf '%s.%s' \"$#\" {}; ", quote(&text));
            let output = Command::new("sh").args(["-c", &command]).output().expect("sh");
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), format!("0.{text}"));
        }
    }

    #[test]
    fn quotes_substitutions_and_newlines_stay_text() {
        for text in [
            "'",
            "''; touch pwned; '",
            "$(id)`id`",
            "a\nb",
            "\\'",
            "!!",
            "~",
        ] {
            let output = Command::new("sh")
                .args(["-c", &format!("printf %s {}", quote(text))])
                .output()
                .expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}
