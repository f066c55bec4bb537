//! What is wrong with a file of the workspace, shown with the place.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use miette::{LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// One thing that is wrong, with file, place and remedy.
///
/// `{}` writes the message alone, `{:#}` writes the place and the remedy below it as plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one sentence.
    pub message: String,
    /// The file as the user names it, with its text, when the fault is in a file that was read.
    pub place: Option<Source>,
    /// What to do about it.
    pub help: Option<String>,
    /// Further places that belong to the same fault: the other one of two that disagree.
    pub also: Vec<Diagnostic>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file as the user names it.
    pub file: String,
    /// Its whole text.
    pub text: Text,
    /// The byte range of the offending text.
    pub span: Range<usize>,
    /// What to write beside it.
    pub label: String,
}

/// The text of a file, shared by everything that names a place in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Arc<Lines>);

#[derive(PartialEq, Eq)]
struct Lines {
    text: String,
    /// Where each line but the first begins: a workspace asks for the line of every value.
    starts: Vec<usize>,
}

/// The longest piece of a line that is shown, in bytes on each side of where the fault begins.
const MAX_SHOWN: usize = 160;

/// Everything that is wrong, all at once.
///
/// `{}` counts, `{:#}` writes every error in full as plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub Vec<Diagnostic>);

impl Diagnostic {
    /// Makes a diagnostic that has no place in a file.
    pub fn new(message: impl Into<String>) -> Self {
        Diagnostic {
            message: harmless(message),
            place: None,
            help: None,
            also: Vec::new(),
        }
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, place: Source) -> Self {
        self.place = Some(place);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(harmless(help));
        self
    }
}

/// Whether a terminal obeys a character instead of showing it: control characters, and those that
/// turn the direction of text around.
pub(crate) fn is_obeyed(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control()
}

/// Writes what a terminal would obey as escapes: values, and the texts of modules, can hold it.
pub(crate) fn harmless(text: impl Into<String>) -> String {
    let text = text.into();
    if !text.contains(is_obeyed) {
        return text;
    }
    let mut shown = String::new();
    for c in text.chars() {
        if is_obeyed(c) {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    shown
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Text(Arc::new(Lines { text, starts }))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.text.fmt(f)
    }
}

impl Source {
    /// Returns the line on which the span begins, from 1.
    pub fn line(&self) -> usize {
        let starts = &self.text.0.starts;
        starts.partition_point(|start| *start <= self.span.start) + 1
    }

    /// Returns the column of the span's begin in characters, from 1.
    pub fn column(&self) -> usize {
        let before = self.text.get(self.line_start()..self.span.start);
        before.unwrap_or_default().chars().count() + 1
    }

    fn line_start(&self) -> usize {
        let starts = &self.text.0.starts;
        let line = starts.partition_point(|start| *start <= self.span.start);
        line.checked_sub(1)
            .and_then(|line| starts.get(line).copied())
            .unwrap_or(0)
    }

    /// Returns the piece of the span's first line that is shown, and the part of the span in it. A
    /// line can be as long as a file, and a span can cover a file.
    fn shown(&self) -> (Range<usize>, Range<usize>) {
        let line = self.line_start();
        let rest = self.text.get(line..).unwrap_or_default();
        let end = line + rest.lines().next().unwrap_or_default().len();
        let at = self.text.floor_char_boundary(self.span.start.min(end));
        let from = self.text.ceil_char_boundary(at.saturating_sub(MAX_SHOWN));
        let from = from.max(line);
        let to = self.text.floor_char_boundary(at + MAX_SHOWN).min(end);
        (from..to, at..self.span.end.clamp(at, to))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.write_str(&self.message);
        }
        write!(f, "error: {}", self.message)?;
        for (message, place) in std::iter::once((None, &self.place))
            .chain(self.also.iter().map(|d| (Some(&d.message), &d.place)))
        {
            if let Some(message) = message {
                write!(f, "\n  also: {message}")?;
            }
            if let Some(place) = place {
                write!(f, "\n{place}")?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// The line with the span underlined, as plain text.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line().to_string();
        let margin = " ".repeat(number.len());
        let (shown, span) = self.shown();
        let cut = |cut: bool| if cut { "…" } else { "" };
        let before = cut(shown.start > self.line_start());
        let goes_on = |c: char| c != '\n' && c != '\r';
        let after = cut(self
            .text
            .get(shown.end..)
            .is_some_and(|t| t.starts_with(goes_on)));
        let piece = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        // A tab stays a tab, so that the marks stand below the text whatever its width.
        let lead: String = before
            .chars()
            .chain(piece(shown.start..span.start).chars())
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let marks = "^".repeat(piece(span).chars().count().max(1));
        let line = format!("{before}{}{after}", piece(shown));
        writeln!(f, "{margin} --> {}:{number}:{}", self.file, self.column())?;
        writeln!(f, "{number} | {line}")?;
        write!(f, "{margin} | {lead}{marks} {}", self.label)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            for (i, diagnostic) in self.0.iter().enumerate() {
                let gap = if i == 0 { "" } else { "\n\n" };
                write!(f, "{gap}{diagnostic:#}")?;
            }
            return Ok(());
        }
        match self.0.len() {
            1 => f.write_str("1 error in the workspace"),
            n => write!(f, "{n} errors in the workspace"),
        }
    }
}

impl std::error::Error for Diagnostic {}
impl std::error::Error for Failure {}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let starts = &self.text.0.starts;
        let line_of = |at: usize| starts.partition_point(|start| *start <= at);
        let begin = |line: usize| line.checked_sub(1).map(|at| starts.get(at).copied());
        let last = line_of(span.offset() + span.len()) + after;
        let mut line = line_of(span.offset()).saturating_sub(before);
        let from = begin(line).flatten().unwrap_or(0);
        let to = starts.get(last).copied().unwrap_or(self.text.len());
        let mut shown = from..to;
        let mut column = 0;
        // Without lines around it, only the span itself is asked for.
        let is_bare = before == 0 && after == 0;
        if is_bare || shown.len() > 8 * MAX_SHOWN {
            shown = self.shown().0;
            line = self.line() - 1;
            if is_bare {
                shown.start = span.offset().clamp(shown.start, shown.end);
                column = self.column() - 1;
            }
        }
        let data = self.text.get(shown.clone());
        let data = data.ok_or(MietteError::OutOfBounds)?.as_bytes();
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            data,
            shown.into(),
            line,
            column,
            starts.len() + 1,
        )))
    }
}

impl miette::Diagnostic for Diagnostic {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<_>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| place as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let label = Some(place.label.clone()).filter(|label| !label.is_empty());
        let span = LabeledSpan::new_with_span(label, place.shown().1);
        Some(Box::new(std::iter::once(span)))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        related(&self.also)
    }
}

impl miette::Diagnostic for Failure {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        related(&self.0)
    }
}

fn related<'a>(
    list: &'a [Diagnostic],
) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
    // miette prints a heading for an empty list.
    if list.is_empty() {
        return None;
    }
    Some(Box::new(
        list.iter().map(|d| -> &dyn miette::Diagnostic { d }),
    ))
}
