//! What is said while a run goes on: lines on stderr, and on a terminal a line that moves.

use std::time::Duration;

use harden::apply::{Notice, Progress};
use indicatif::ProgressBar;

use super::output::Output;

/// Tells a run line by line.
pub(crate) struct Lines<'o> {
    output: &'o Output,
    spinner: ProgressBar,
    /// What the last waiting line said, so that it is said once and not every second.
    waiting: String,
}

impl<'o> Lines<'o> {
    pub(crate) fn new(output: &'o Output) -> Self {
        Lines {
            output,
            spinner: output.spinner(),
            waiting: String::new(),
        }
    }

    pub(crate) fn finish(&self) {
        self.spinner.finish_and_clear();
    }

    fn say(&self, text: &str) {
        self.spinner.suspend(|| self.output.note(text));
    }
}

impl Progress for Lines<'_> {
    fn tell(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Stage { .. } => {}
            Notice::Step {
                number,
                total,
                title,
            } => {
                self.waiting.clear();
                self.say(&format!("[{number}/{total}] {title}"));
            }
            Notice::Gate {
                node,
                what,
                elapsed,
            } => {
                let seconds = Duration::from_secs(elapsed.as_secs());
                self.spinner
                    .set_message(format!("{node}: waiting for {what} ({seconds:?})"));
                if self.waiting != what {
                    self.waiting = what.to_owned();
                    self.say(&format!("      {node}: waiting for {what}"));
                }
            }
            Notice::Done { .. } => self.spinner.set_message(""),
            Notice::Reverting { number, title, why } => {
                self.waiting.clear();
                self.say(&format!("      putting back step {number}, {title}: {why}"));
            }
            Notice::Note(text) => self.say(&format!("      {text}")),
        }
    }
}
