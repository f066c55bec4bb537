//! What is said while a run goes on: lines on stderr, and on a terminal a line that moves.

use std::time::{Duration, Instant};

use harden::apply::{Notice, Progress};
use indicatif::ProgressBar;

use super::eta::how_far;
use super::output::Output;

/// How often a line says how far many steps are.
const NOW_AND_THEN: Duration = Duration::from_secs(10);

/// Steps that are done several at a time.
struct Together {
    first: usize,
    /// How many were done when the first of them was told.
    before: usize,
    begun: Instant,
    said: Instant,
}

/// Tells a run line by line.
pub(crate) struct Lines<'o> {
    output: &'o Output,
    spinner: ProgressBar,
    /// What the last waiting line said, so that it is said once and not every second.
    waiting: String,
    together: Option<Together>,
}

impl<'o> Lines<'o> {
    pub(crate) fn new(output: &'o Output) -> Self {
        Lines {
            output,
            spinner: output.spinner(),
            waiting: String::new(),
            together: None,
        }
    }

    /// A line when they begin and one now and then; on a terminal one that moves besides.
    fn together(&mut self, first: usize, last: usize, total: usize, done: usize) {
        let now = Instant::now();
        let of = last + 1 - first;
        if !matches!(&self.together, Some(known) if known.first == first) {
            self.say(&format!("[{first}-{last}/{total}] API: {of} objects"));
            self.together = Some(Together {
                first,
                before: done,
                begun: now,
                said: now,
            });
        }
        let Some(known) = &mut self.together else {
            return;
        };
        // At the rate of this run: what an earlier one did took no time.
        let text = match known.before {
            0 => how_far(done, of, known.begun.elapsed()),
            before => format!(
                "{} more",
                how_far(done - before, of - before, known.begun.elapsed())
            ),
        };
        self.spinner.set_message(text.clone());
        if known.said.elapsed() >= NOW_AND_THEN {
            known.said = now;
            self.say(&format!("      {text}"));
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
            Notice::Together {
                first,
                last,
                total,
                done,
            } => self.together(first, last, total, done),
            Notice::Done { .. } => self.spinner.set_message(""),
            Notice::Reverting { number, title, why } => {
                self.waiting.clear();
                self.say(&format!("      putting back step {number}, {title}: {why}"));
            }
            Notice::Note(text) => self.say(&format!("      {text}")),
        }
    }
}
