//! A container as a node: kind's and k3d's.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::process::{self, Fault};
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel, local, tunnel};

/// Carries one connection between stdin/stdout and a port on the node's loopback address. When the
/// server closes, the other half is ended as well.
const CONNECT: &str = r#"
if command -v bash >/dev/null 2>&1; then
    exec bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" 4<&0 || exit 1
        cat <&4 >&3 2>/dev/null &
        cat <&3
        kill $! 2>/dev/null' harden "$1"
elif command -v socat >/dev/null 2>&1; then
    exec socat - "TCP:127.0.0.1:$1"
else
    exec nc 127.0.0.1 "$1"
fi
"#;

/// A container of the node's name, through the program of a container engine.
#[derive(Debug)]
pub struct Docker {
    config: HostConfig,
    engine: String,
}

impl Docker {
    /// Makes the host; runs nothing yet.
    pub fn new(config: HostConfig, engine: String) -> Self {
        Docker { config, engine }
    }

    fn exec(&self) -> Result<Command, HostError> {
        let name = &self.config.name;
        // What an engine takes as a container's name; an option could not begin with `-`.
        let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !good {
            return Err(self.unreachable(
                "it is no name of a container",
                "use another transport for this node",
            ));
        }
        let mut command = Command::new(&self.engine);
        command.args(["exec", "-i", name, "sh", "-c"]);
        Ok(command)
    }

    fn unreachable(&self, why: &str, remedy: &str) -> HostError {
        HostError::Unreachable {
            node: self.config.name.clone(),
            address: format!("container {} by {}", self.config.name, self.engine),
            why: why.into(),
            remedy: remedy.into(),
        }
    }

    /// The engine's own complaints, as docker, podman and nerdctl word them.
    fn refuse_engine_errors(&self, output: &Output) -> Result<(), HostError> {
        if !output.stdout.is_empty() {
            return Ok(());
        }
        let said = output.stderr.to_lowercase();
        let name = &self.config.name;
        let known = [
            (
                "no such container",
                format!("`{} ps -a` lists the containers", self.engine),
            ),
            (
                "no container with name",
                format!("`{} ps -a` lists the containers", self.engine),
            ),
            (
                "is not running",
                format!("start it: `{} start {name}`", self.engine),
            ),
            ("is paused", format!("`{} unpause {name}`", self.engine)),
            (
                "cannot connect to the docker daemon",
                "start the Docker daemon".into(),
            ),
            (
                "permission denied while trying to connect",
                "join the group docker, or use sudo".into(),
            ),
        ];
        match known.iter().find(|(words, _)| said.contains(words)) {
            Some((_, remedy)) => Err(self.unreachable(&output.stderr, remedy)),
            None => Ok(()),
        }
    }
}

impl Host for Docker {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn run(&mut self, script: Script, stdin: &[u8], limits: Limits) -> Result<Output, HostError> {
        let mut command = self.exec()?;
        command.args([script.text, "harden"]);
        let output = process::run(&mut command, stdin, limits).map_err(|fault| match fault {
            Fault::Start(error) => self.unreachable(
                &format!("{} cannot be started: {error}", self.engine),
                "install it, or name another with `engine` under [nodes]",
            ),
            other => local::broken(&self.config.name, script, other),
        })?;
        self.refuse_engine_errors(&output)?;
        Ok(output)
    }

    fn disconnect(&mut self) {}

    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        let mut template = self.exec()?;
        template.args([CONNECT, "harden", &port.to_string()]);
        let words: Vec<_> = template.get_args().map(ToOwned::to_owned).collect();
        let engine = self.engine.clone();
        tunnel::open(move |connection, closed| {
            let mut command = Command::new(&engine);
            command.args(&words);
            let _ = carry(command, &connection, &closed);
        })
        .map_err(|e| self.unreachable(&e.to_string(), "free some ports on this machine"))
    }
}

/// Carries one connection through a child process, until either side closes or the tunnel does.
fn carry(
    mut command: Command,
    connection: &TcpStream,
    closed: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let (Some(mut to), Some(mut from)) = (child.stdin.take(), child.stdout.take()) {
        let (mut up, mut down) = (connection.try_clone()?, connection.try_clone()?);
        let over = Arc::new(AtomicBool::new(false));
        for done in [
            std::thread::spawn({
                let over = over.clone();
                move || {
                    let _ = std::io::copy(&mut up, &mut to);
                    over.store(true, Ordering::Relaxed);
                }
            }),
            std::thread::spawn({
                let over = over.clone();
                move || {
                    let _ = std::io::copy(&mut from, &mut down);
                    over.store(true, Ordering::Relaxed);
                }
            }),
        ] {
            drop(done); // both end when the pipes close below
        }
        while !over.load(Ordering::Relaxed) && !closed.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let _ = connection.shutdown(std::net::Shutdown::Both);
    let _ = child.kill();
    child.wait().map(drop)
}
