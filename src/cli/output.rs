//! Where words go: results to stdout, everything else to stderr.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use harden::resource::{Finding, Origin};

use super::Failure;
use super::args::{Format, Global};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The way out for everything that is said.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    lost: RefCell<Option<std::io::Error>>,
}

impl Output {
    /// Prepares output and logging as the arguments say.
    pub(crate) fn new(global: &Global) -> Self {
        let level = match global.verbose {
            0 => "off",
            1 => "harden=info",
            2 => "harden=debug,kube=info",
            _ => "trace",
        };
        let filter = tracing_subscriber::EnvFilter::new(level);
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init();
        Output {
            format: global.format,
            quiet: global.quiet,
            lost: RefCell::new(None),
        }
    }

    /// Whether JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes the result: as text, or as JSON when asked.
    pub(crate) fn result(&self, text: &str, json: &serde_json::Value) {
        match self.format {
            Format::Human => self.data(text),
            Format::Json => self.data(&format!("{json:#}\n")),
        }
    }

    fn data(&self, text: &str) {
        let mut stdout = anstream::stdout().lock();
        // What is only buffered would fail when nobody looks any more.
        let written = stdout.write_all(text.as_bytes());
        if let Err(error) = written.and_then(|()| stdout.flush())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            self.lost.replace(Some(error));
        }
    }

    /// Returns why a result did not reach its reader. A closed pipe (`harden plan | head`) is no
    /// failure.
    pub(crate) fn lost(&self) -> Option<std::io::Error> {
        self.lost.take()
    }

    /// Says what a run came to, which is told with `--quiet` as well. In JSON it is in the document.
    pub(crate) fn outcome(&self, text: &str) {
        if !(self.quiet && self.format == Format::Json) {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Whether only results and errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Says something on the side.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Says what should be known about a profile.
    pub(crate) fn findings(&self, findings: &[Finding]) {
        for finding in findings.iter().filter(|_| !self.quiet) {
            let mut err = anstream::stderr();
            let _ = writeln!(err, "{WARNING}warning:{WARNING:#} {}", finding.message);
            let places: Vec<String> = finding.origins.iter().map(Origin::to_string).collect();
            if !places.is_empty() {
                let _ = writeln!(err, "  {}", places.join(", "));
            }
            let _ = writeln!(err, "{HINT}hint:{HINT:#} {}", finding.help);
            if let Some(control) = &finding.control {
                let _ = writeln!(err, "  `harden explain {control}` says why it matters");
            }
        }
    }

    /// Says what failed and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut err = anstream::stderr();
        match failure {
            Failure::Workspace(all) => {
                let handler = miette::GraphicalReportHandler::new_themed(theme());
                for diagnostic in &all.0 {
                    let mut text = String::new();
                    let _ = handler.render_report(&mut text, diagnostic);
                    let _ = writeln!(err, "{}", text.trim_end());
                }
                let count = all.0.len();
                let plural = if count == 1 { "" } else { "s" };
                let _ = writeln!(
                    err,
                    "{ERROR}error:{ERROR:#} {count} fault{plural} in the workspace; nothing was changed"
                );
            }
            Failure::Other { what, hint } => {
                let _ = writeln!(err, "{ERROR}error:{ERROR:#} {what}");
                if !hint.is_empty() {
                    let _ = writeln!(err, "{HINT}hint:{HINT:#} {hint}");
                }
            }
        }
    }

    /// A progress bar on stderr; hidden where stderr is no terminal, or with `--quiet`.
    pub(crate) fn bar(&self, what: &str, length: usize) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {pos}/{len} {wide_bar} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(length as u64)
            .with_style(style)
            .with_message(what.to_owned())
    }

    /// A line on stderr that moves while something is waited for; hidden like a bar.
    pub(crate) fn spinner(&self) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(std::time::Duration::from_millis(120));
        spinner
    }
}

/// Says what a signal does to a run. A terminal that is gone takes no words; that is no failure.
pub(super) fn interrupted(again: bool) {
    let text = if again {
        "Ended at once. What was being changed is finished or put back by the node's own timer; \
         `harden apply` then settles the rest."
    } else {
        "Stopping: what is being changed is put back first, and encryption ends at the end of its step. A second \
         signal ends harden at once and leaves that to the node's own timer."
    };
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Colours as the terminal can, none with NO_COLOR.
fn theme() -> miette::GraphicalTheme {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        miette::GraphicalTheme::unicode()
    } else {
        miette::GraphicalTheme::unicode_nocolor()
    }
}
