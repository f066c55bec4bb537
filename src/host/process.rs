//! A script as a child process of this machine: `sh`, `sudo` or a container engine.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Exit, Limits, Output};
use crate::fact::probe::clean_text;

/// How much of stderr is kept.
pub(super) const STDERR: usize = 4096;

/// Why a child gave no output.
pub(super) enum Fault {
    /// The program could not be started.
    Start(std::io::Error),
    /// It took too long, and was killed.
    Time(Duration),
    /// It wrote too much, and was killed.
    Size(usize),
    /// The system failed otherwise.
    Other(std::io::Error),
}

/// Runs a command with bytes on its stdin. Both outputs are drained while the input is written, so
/// that nothing can wait for each other.
pub(super) fn run(command: &mut Command, stdin: &[u8], limits: Limits) -> Result<Output, Fault> {
    let deadline = Instant::now() + limits.time;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Fault::Start)?;
    if let Some(mut pipe) = child.stdin.take() {
        let bytes = stdin.to_vec();
        // A child that ends without reading everything breaks the pipe: its answer decides.
        std::thread::spawn(move || pipe.write_all(&bytes));
    }
    let stdout = drain(child.stdout.take(), limits.output, false);
    let stderr = drain(child.stderr.take(), STDERR, true);
    let result = collect(&mut child, &stdout, &stderr, deadline, limits);
    if result.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

fn collect(
    child: &mut Child,
    stdout: &Receiver<std::io::Result<Option<Vec<u8>>>>,
    stderr: &Receiver<std::io::Result<Option<Vec<u8>>>>,
    deadline: Instant,
    limits: Limits,
) -> Result<Output, Fault> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let get = |from: &Receiver<std::io::Result<Option<Vec<u8>>>>| match from.recv_timeout(left()) {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(Fault::Size(limits.output)),
        Ok(Err(error)) => Err(Fault::Other(error)),
        Err(RecvTimeoutError::Timeout) => Err(Fault::Time(limits.time)),
        Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
    };
    let stdout = get(stdout)?;
    let stderr = get(stderr)?;
    loop {
        if let Some(status) = child.try_wait().map_err(Fault::Other)? {
            return Ok(Output {
                stdout,
                stderr: shown(&stderr),
                exit: exit_of(status),
            });
        }
        if left().is_zero() {
            return Err(Fault::Time(limits.time));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes stderr fit to be shown, line by line.
pub(super) fn shown(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<String> = text
        .lines()
        .map(clean_text)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join("\n")
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(format!("signal {signal}")),
        (None, None) => Exit::Signal("an unknown signal".into()),
    }
}

/// Reads a pipe to its end in a thread. With `tail` the last bytes are kept; otherwise `None` says
/// that there was more than the limit.
fn drain(
    pipe: Option<impl Read + Send + 'static>,
    limit: usize,
    tail: bool,
) -> Receiver<std::io::Result<Option<Vec<u8>>>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = send.send(read_all(pipe, limit, tail));
    });
    receive
}

fn read_all(pipe: Option<impl Read>, limit: usize, tail: bool) -> std::io::Result<Option<Vec<u8>>> {
    let Some(mut pipe) = pipe else {
        return Ok(Some(Vec::new()));
    };
    let mut kept = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(Some(kept)),
            Ok(n) => {
                keep(&mut kept, &buffer[..n], limit, tail);
                if !tail && kept.len() > limit {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Appends, and with `tail` forgets what is too old.
pub(super) fn keep(kept: &mut Vec<u8>, new: &[u8], limit: usize, tail: bool) {
    kept.extend_from_slice(new);
    if tail && kept.len() > limit {
        kept.drain(..kept.len() - limit);
    }
}
