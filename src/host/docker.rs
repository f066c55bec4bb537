//! A container as a node, as kind and k3d make them: `docker exec` (or `podman`, `nerdctl`).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::PollFlags;

use super::process::{self, Failure, kill, wait_for};
use super::tunnel::{self, BEAT, Closed, Half, ready};
use super::{Exit, Host, HostConfig, HostError, Limits, Output, Script, Tunnel, command};

/// A node that is a container of the node's name.
#[derive(Debug)]
pub struct Docker {
    config: HostConfig,
    engine: String,
}

/// Joins stdin and stdout to a TCP port of the node; the port is its argument.
const CONNECT: Script = Script {
    name: "tunnel",
    text: include_str!("connect.sh"),
};

impl Docker {
    /// Makes the host; connects nothing. `engine` is the program, for example `docker`.
    pub fn new(config: HostConfig, engine: String) -> Self {
        Docker { config, engine }
    }

    /// The program with its arguments; no shell reads them.
    fn command(&self, script: Script) -> Result<Command, HostError> {
        let name = self.name();
        if !is_container_name(name) {
            return Err(self.unreachable(
                format!("{name:?} is no name of a container"),
                "give the node the name of its container: letters, digits, `_`, `.` and `-`",
            ));
        }
        let mut program = Command::new(&self.engine);
        program
            .args(["exec", "--interactive", "--user", "0", name])
            .args(command::words(script, false));
        Ok(program)
    }

    fn unreachable(&self, why: String, remedy: impl Into<String>) -> HostError {
        HostError::Unreachable {
            node: self.name().to_owned(),
            address: format!("container {} by {}", self.name(), self.engine),
            why,
            remedy: remedy.into(),
        }
    }

    fn not_started(&self, error: &io::Error) -> HostError {
        let engine = &self.engine;
        match error.kind() {
            ErrorKind::NotFound => self.unreachable(
                format!("the program `{engine}` is missing"),
                "install it, or name another with `engine` under [nodes]",
            ),
            _ => self.unreachable(
                format!("`{engine}` does not start: {error}"),
                format!("check that you may run {engine}"),
            ),
        }
    }

    /// Asks the engine for the state of the container, for example `exited`.
    fn state(&self) -> Option<String> {
        let output = Command::new(&self.engine)
            .args(["inspect", "--format", "{{.State.Status}}", self.name()])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Tells what the engine says from what a script says: the engine ends before any output, and
    /// its lines begin in its own way.
    fn check(&self, output: &Output, beginning: &str) -> Result<(), HostError> {
        if !output.stdout.is_empty() || matches!(output.exit, Exit::Code(0)) {
            return Ok(());
        }
        let engine = &self.engine;
        let name = self.name();
        for line in beginning.lines().map(str::trim) {
            let lower = line.to_ascii_lowercase();
            let by_engine = [
                "error",
                "cannot connect",
                "failed to connect",
                "time=",
                "oci runtime",
            ]
            .iter()
            .any(|begin| lower.starts_with(begin));
            if !by_engine {
                continue;
            }
            let has = |words: &[&str]| words.iter().any(|words| lower.contains(words));
            let remedy = if has(&[
                "cannot connect",
                "failed to connect",
                "docker.sock",
                "dial unix",
            ]) {
                format!("start the {engine} daemon, and check that you may use it: `{engine} ps`")
            } else if has(&["no such container", "no container with name"]) {
                format!("compare the node's name with `{engine} ps --all`")
            } else if has(&["is not running", "paused", "on running containers"]) {
                // Some engines say the same of a container that was never started.
                if has(&["paused"]) || self.state().as_deref() == Some("paused") {
                    format!("let it go on: `{engine} unpause {name}`")
                } else {
                    format!("start it: `{engine} start {name}`")
                }
            } else if has(&["executable file not found", "oci runtime"]) {
                "the container needs `sh` and `env`".to_owned()
            } else {
                continue;
            };
            return Err(self.unreachable(line.chars().take(300).collect(), remedy));
        }
        Ok(())
    }
}

impl Host for Docker {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError> {
        let (output, beginning) = process::run(&mut self.command(script)?, stdin, limits).map_err(
            |failure| match failure {
                Failure::Start(error) => self.not_started(&error),
                failure => failure.broken(self.name(), script, limits),
            },
        )?;
        self.check(&output, &beginning)?;
        Ok(output)
    }

    fn disconnect(&mut self) {}

    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        // A first look, so that a missing container is told now and not by every connection.
        let look = Script {
            name: "tunnel",
            text: ":",
        };
        let limits = Limits {
            time: self.config.connect_timeout,
            output: 1 << 10,
        };
        let output = self.run(look, b"", limits)?;
        if output.exit != Exit::Code(0) {
            return Err(self.unreachable(
                format!("it runs nothing: {}", output.stderr.trim()),
                "look at the container's log",
            ));
        }
        let host = Docker::new(self.config.clone(), self.engine.clone());
        tunnel::listen(self.name(), move |client, closed| {
            if let Ok(mut program) = host.command(CONNECT) {
                program.arg(port.to_string());
                // What goes wrong here, the client sees as a closed connection.
                let _ = serve(&mut program, &client, &closed);
            }
        })
    }
}

/// Joins a connection to a program's stdin and stdout, until the program ends or the tunnel closes.
fn serve(program: &mut Command, client: &TcpStream, closed: &Closed) -> io::Result<()> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let result = match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => join(client, stdin, stdout, closed),
        _ => Ok(()),
    };
    kill(child);
    result
}

/// Carries bytes both ways. The program's last byte is the last: it ends when the node does.
fn join(
    mut client: &TcpStream,
    stdin: ChildStdin,
    mut stdout: ChildStdout,
    closed: &Closed,
) -> io::Result<()> {
    client.set_nonblocking(true)?;
    rustix::io::ioctl_fionbio(&stdin, true)?;
    rustix::io::ioctl_fionbio(&stdout, true)?;
    let mut stdin = Some(stdin);
    let (mut up, mut down) = (Half::default(), Half::default());
    while !(closed.is() || down.ended && down.is_empty()) {
        let mut moved = false;
        if up.is_empty() && !up.ended {
            moved |= up.fill(|buffer| ready(client.read(buffer)))?;
        }
        match &mut stdin {
            Some(pipe) if !up.is_empty() => {
                match up.drain(|bytes| ready(pipe.write(bytes))) {
                    Ok(some) => moved |= some,
                    // It wants no more, but its last words may still come.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => stdin = None,
                    Err(error) => return Err(error),
                }
            }
            _ if up.ended => stdin = None,
            _ => {}
        }
        if down.is_empty() && !down.ended {
            moved |= down.fill(|buffer| ready(stdout.read(buffer)))?;
        }
        if !down.is_empty() {
            moved |= down.drain(|bytes| ready(client.write(bytes)))?;
        }
        if !moved {
            let mut fds = Vec::new();
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, up.is_empty() && !up.ended);
            flags.set(PollFlags::OUT, !down.is_empty());
            if !flags.is_empty() {
                fds.push((client.as_fd(), flags));
            }
            if let (Some(pipe), false) = (&stdin, up.is_empty()) {
                fds.push((pipe.as_fd(), PollFlags::OUT));
            }
            if down.is_empty() {
                fds.push((stdout.as_fd(), PollFlags::IN));
            }
            wait_for(&fds, BEAT)?;
        }
    }
    client.shutdown(Shutdown::Both)
}

/// What the engines accept as a name, so that none is taken for an option.
fn is_container_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
