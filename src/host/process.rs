//! Runs a program on this machine within limits.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};

use super::capture::{Capture, Passed};
use super::{Exit, HostError, Limits, Output, Script};

/// Why a program gave no output.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be started.
    Start(io::Error),
    /// It passed a limit, and was killed.
    Passed(Passed),
    /// Talking to it failed, and it was killed.
    Talk(io::Error),
}

impl From<Passed> for Failure {
    fn from(passed: Passed) -> Self {
        Failure::Passed(passed)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Talk(error)
    }
}

impl Failure {
    /// The error of a run that did not come to its end.
    pub(super) fn broken(self, node: &str, script: Script, limits: Limits) -> HostError {
        let (why, remedy) = match self {
            Failure::Passed(passed) => (passed.why(limits), passed.remedy()),
            Failure::Start(error) | Failure::Talk(error) => {
                (format!("broke off: {error}"), "run again")
            }
        };
        HostError::Broken {
            node: node.to_owned(),
            script: script.name.to_owned(),
            why,
            remedy: remedy.to_owned(),
        }
    }
}

/// Runs a program and returns what it wrote, and the beginning of its stderr.
///
/// One thread serves the three pipes, as they get ready: a program that writes before it has read
/// everything cannot block, and a grandchild that keeps a pipe open cannot outlast the time limit.
pub(super) fn run(
    command: &mut Command,
    stdin: &[u8],
    limits: Limits,
) -> Result<(Output, String), Failure> {
    let mut capture = Capture::new(limits);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that all of it can be killed, and so that Ctrl-C reaches only us.
        .process_group(0)
        .spawn()
        .map_err(Failure::Start)?;
    match talk(&mut child, stdin, &mut capture) {
        Ok(status) => Ok(capture.finish(exit(status))),
        Err(failure) => {
            kill(child);
            Err(failure)
        }
    }
}

/// How a program ended.
fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal_name(signal)),
        (None, None) => Exit::Signal("unknown".into()),
    }
}

/// The name as SSH has it (RFC 4254 6.10), or the number.
fn signal_name(signal: i32) -> String {
    let known = [
        (Signal::ABORT, "ABRT"),
        (Signal::ALARM, "ALRM"),
        (Signal::FPE, "FPE"),
        (Signal::HUP, "HUP"),
        (Signal::ILL, "ILL"),
        (Signal::INT, "INT"),
        (Signal::KILL, "KILL"),
        (Signal::PIPE, "PIPE"),
        (Signal::QUIT, "QUIT"),
        (Signal::SEGV, "SEGV"),
        (Signal::TERM, "TERM"),
    ];
    known
        .iter()
        .find(|(known, _)| known.as_raw() == signal)
        .map_or_else(|| signal.to_string(), |(_, name)| (*name).to_owned())
}

fn talk(child: &mut Child, mut input: &[u8], capture: &mut Capture) -> Result<ExitStatus, Failure> {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    for pipe in [
        stdin.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ]
    .into_iter()
    .flatten()
    {
        rustix::io::ioctl_fionbio(pipe, true).map_err(io::Error::from)?;
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        // Without input left, the program is told by the end of its stdin.
        if let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(n) => input = &input[n..],
                Err(e) if again(&e) => {}
                // It does not want the rest.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => input = &[],
                Err(e) => return Err(e.into()),
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        if let Some(n) = read(&mut stdout, &mut buffer)? {
            capture.stdout(&buffer[..n])?;
        }
        if let Some(n) = read(&mut stderr, &mut buffer)? {
            capture.stderr(&buffer[..n]);
        }
        if stdout.is_none() && stderr.is_none() {
            break;
        }
        let left = capture.left()?;
        let mut ready = Vec::new();
        ready.extend(stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT)));
        ready.extend(stdout.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)));
        ready.extend(stderr.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN)));
        wait_for(&ready, left)?;
    }
    drop(stdin);
    // It closed its outputs, so it is about to end.
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(capture.left()?.min(Duration::from_millis(2)));
    }
}

/// Reads what is there; the end closes the pipe.
fn read(pipe: &mut Option<impl Read>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(open) = pipe else { return Ok(None) };
    match open.read(buffer) {
        Ok(0) => {
            *pipe = None;
            Ok(None)
        }
        Ok(n) => Ok(Some(n)),
        Err(e) if again(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether to try again later.
pub(super) fn again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Waits until one of the descriptors is ready or the time is over.
pub(super) fn wait_for(fds: &[(BorrowedFd<'_>, PollFlags)], time: Duration) -> io::Result<()> {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
        .collect();
    let time = Timespec::try_from(time).unwrap_or(Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    });
    match rustix::event::poll(&mut fds, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Kills a program and its children. It is reaped elsewhere: what sudo has made root's cannot be
/// killed by us and ends when it finds its pipes closed.
pub(super) fn kill(mut child: Child) {
    if let Ok(Some(_)) = child.try_wait() {
        return;
    }
    let group = Pid::from_child(&child);
    if rustix::process::kill_process_group(group, Signal::KILL).is_err() {
        // The group is not there yet, or not ours.
        let _ = child.kill();
    }
    std::thread::spawn(move || child.wait());
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sh(script: &str, stdin: &[u8], limits: Limits) -> Result<(Output, String), Failure> {
        run(Command::new("sh").args(["-c", script]), stdin, limits)
    }

    fn limits(millis: u64, output: usize) -> Limits {
        Limits {
            time: Duration::from_millis(millis),
            output,
        }
    }

    #[test]
    fn output_error_and_status_are_kept_apart() {
        let (output, head) = sh(
            "cat; printf 'bad \\033[31mred' >&2; exit 7",
            b"in",
            Limits::default(),
        )
        .unwrap();
        assert_eq!(output.stdout, b"in");
        assert_eq!(output.stderr, "bad red");
        assert_eq!(head, "bad red");
        assert_eq!(output.exit, Exit::Code(7));
    }

    #[test]
    fn megabytes_pass_every_way_at_once() {
        let input: Vec<u8> = (0..8u32 << 20).map(|i| (i % 251) as u8).collect();
        let (output, _) = sh("tee /dev/stderr", &input, Limits::default()).unwrap();
        assert!(output.stdout == input);
        assert_eq!(output.exit, Exit::Code(0));
        assert!(output.stderr.len() <= 3 * 4096);
    }

    #[test]
    fn a_program_need_not_read() {
        let (output, _) = sh("exec true", &vec![0; 1 << 20], Limits::default()).unwrap();
        assert_eq!(output.exit, Exit::Code(0));
    }

    #[test]
    fn a_signal_is_no_success() {
        let (output, _) = sh("kill -9 $$", b"", Limits::default()).unwrap();
        assert_eq!(output.exit, Exit::Signal("KILL".into()));
    }

    #[test]
    fn time_is_bounded_even_when_a_grandchild_holds_the_pipes() {
        for script in ["sleep 60", "sleep 60 & exit 0", "exec >&- 2>&-; sleep 60"] {
            let begin = Instant::now();
            let failure = sh(script, b"", limits(300, 100)).unwrap_err();
            assert!(
                matches!(failure, Failure::Passed(Passed::Time)),
                "{script}: {failure:?}"
            );
            assert!(begin.elapsed() < Duration::from_secs(5), "{script}");
        }
    }

    #[test]
    fn output_is_bounded() {
        let failure = sh("yes", b"", limits(20_000, 1 << 20)).unwrap_err();
        assert!(matches!(failure, Failure::Passed(Passed::Output)));
        let (output, _) = sh("printf 1234", b"", limits(20_000, 4)).unwrap();
        assert_eq!(output.stdout, b"1234");
    }

    #[test]
    fn a_missing_program_is_named_as_such() {
        let failure = run(&mut Command::new("/nonexistent"), b"", Limits::default()).unwrap_err();
        assert!(matches!(failure, Failure::Start(e) if e.kind() == ErrorKind::NotFound));
    }
}
