//! A container as a node, as kind and k3d make them: `docker exec` (or `podman`, `nerdctl`).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use super::process::{self, Failure, kill};
use super::tunnel::{self, BEAT, Closed};
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
            } else if has(&["is not running", "is paused", "on running containers"]) {
                format!("start it: `{engine} start {name}`")
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
                let _ = serve(&mut program, client, &closed);
            }
        })
    }
}

/// Joins a connection to a program's stdin and stdout, until the program ends or the tunnel closes.
fn serve(program: &mut Command, client: TcpStream, closed: &Closed) -> io::Result<()> {
    use std::os::unix::process::CommandExt;

    client.set_nonblocking(false)?;
    let (mut from, mut to) = (client.try_clone()?, client.try_clone()?);
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let up = thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            let _ = pass_on(&mut from, &mut stdin);
        }
    });
    let down = thread::spawn(move || {
        if let Some(mut stdout) = stdout {
            let _ = pass_on(&mut stdout, &mut to);
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    // The node's end of the connection is closed when its last byte has come.
    while !closed.is() && !down.is_finished() {
        thread::sleep(BEAT);
    }
    kill(child);
    let _ = client.shutdown(Shutdown::Both);
    let _ = up.join();
    let _ = down.join();
    Ok(())
}

/// Copies until the end, each piece as soon as it is there. (`io::copy` hands socket and pipe to
/// splice(2), which was seen to hold back the first bytes until more came.)
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        to.flush()?;
    }
}

/// What the engines accept as a name, so that none is taken for an option.
fn is_container_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
