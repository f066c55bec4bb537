//! The output of a run, collected within its bounds, whatever the transport.

use std::time::{Duration, Instant};

use super::{Exit, Limits, Output};
use crate::fact::probe::clean_text;

/// How much of stderr's end is kept, in bytes.
const STDERR: usize = 4 << 10;

/// How much of stderr's beginning is kept to understand why a run never began, in bytes.
const BEGINNING: usize = 1 << 10;

/// What a run has written so far.
pub(super) struct Capture {
    stdout: Vec<u8>,
    tail: Vec<u8>,
    head: Vec<u8>,
    limits: Limits,
    end: Option<Instant>,
}

/// A limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    Time,
    Output,
}

impl Passed {
    /// What happened, to stand behind the script's name.
    pub(super) fn why(self, limits: Limits) -> String {
        match self {
            Passed::Time => format!("took longer than {:?}", limits.time),
            Passed::Output => format!("wrote more than {} bytes", limits.output),
        }
    }

    /// What to do about it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Passed::Time => "look at the node's load and run again",
            Passed::Output => "look at what the node's login scripts print and run again",
        }
    }
}

impl Capture {
    /// Begins now; the time limit counts from here.
    pub(super) fn new(limits: Limits) -> Self {
        Capture {
            stdout: Vec::new(),
            tail: Vec::new(),
            head: Vec::new(),
            limits,
            // A time beyond the clock's range never comes.
            end: Instant::now().checked_add(limits.time),
        }
    }

    /// Returns the time that is left, at most a minute at once.
    pub(super) fn left(&self) -> Result<Duration, Passed> {
        let most = Duration::from_secs(60);
        match self.end {
            None => Ok(most),
            Some(end) => match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(Passed::Time),
                left => Ok(left.min(most)),
            },
        }
    }

    pub(super) fn stdout(&mut self, bytes: &[u8]) -> Result<(), Passed> {
        if self.stdout.len() + bytes.len() > self.limits.output {
            return Err(Passed::Output);
        }
        self.stdout.extend_from_slice(bytes);
        Ok(())
    }

    /// Keeps the beginning and the end.
    pub(super) fn stderr(&mut self, bytes: &[u8]) {
        let room = BEGINNING.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend_from_slice(bytes);
        let excess = self.tail.len().saturating_sub(STDERR);
        self.tail.drain(..excess);
    }

    /// Returns the output, and the beginning of stderr.
    pub(super) fn finish(self, exit: Exit) -> (Output, String) {
        let text = |bytes: &[u8]| clean_text(&String::from_utf8_lossy(bytes));
        let output = Output {
            stderr: text(&self.tail),
            stdout: self.stdout,
            exit,
        };
        (output, text(&self.head))
    }
}
