//! A program that gets something secret on its stdin, and keeps it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// Starts a program, has `send` write to its stdin, and waits for its end. Its stderr is the user's. What
/// it writes to its stdout is lost, and so nothing is kept: the first byte of it is a failure.
///
/// # Errors
/// That of `send`, or what `failed` makes of how the program failed.
pub(super) fn give<E>(
    program: &str,
    arguments: &[String],
    failed: impl Fn(String) -> E,
    send: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    // Nobody reads more than the first byte: the pipe is closed then, which ends the program.
    let said = child.stdout.take().map(|mut stdout| {
        std::thread::spawn(move || stdout.read(&mut [0]).is_ok_and(|count| count > 0))
    });
    let mut stdin = child.stdin.take();
    let sent = stdin.as_mut().map_or(Ok(()), |stdin| send(stdin));
    if sent.is_err() {
        // Before it sees the end: it must not take half of it for all.
        let _ = child.kill();
    }
    drop(stdin);
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if said.is_some_and(|said| said.join().unwrap_or(true)) {
        return Err(failed(
            "it wrote to its stdout, which is kept nowhere".into(),
        ));
    }
    // One that ended by itself says more of why than the pipe that broke by it.
    match status.code() {
        Some(0) => sent,
        None if sent.is_err() => sent,
        _ => Err(failed(status.to_string())),
    }
}
