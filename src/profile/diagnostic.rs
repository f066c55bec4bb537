//! What is wrong with a file of the workspace, shown with the place.

use std::fmt;
use std::ops::Range;
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
    pub text: Arc<str>,
    /// The byte range of the offending text.
    pub span: Range<usize>,
    /// What to write beside it.
    pub label: String,
}

/// Everything that is wrong, all at once.
///
/// `{}` counts, `{:#}` writes every error in full as plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub Vec<Diagnostic>);

impl Diagnostic {
    /// Makes a diagnostic that has no place in a file.
    pub fn new(message: impl Into<String>) -> Self {
        Diagnostic {
            message: message.into(),
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
        self.help = Some(help.into());
        self
    }
}

impl Source {
    /// Returns the line on which the span begins, from 1.
    pub fn line(&self) -> usize {
        self.before().matches('\n').count() + 1
    }

    /// Returns the column of the span's begin in characters, from 1.
    pub fn column(&self) -> usize {
        let before = self.before();
        let line = before.rsplit('\n').next().unwrap_or(before);
        line.chars().count() + 1
    }

    fn before(&self) -> &str {
        self.text.get(..self.span.start).unwrap_or(&self.text)
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
        let from = self.before().rfind('\n').map_or(0, |end| end + 1);
        let line = self.text.get(from..).and_then(|rest| rest.lines().next());
        let line = line.unwrap_or_default();
        let offset = (self.span.start - from).min(line.len());
        let end = (self.span.end.max(self.span.start) - from).min(line.len());
        // A tab stays a tab, so that the marks stand below the text whatever its width.
        let lead: String = line
            .get(..offset)
            .unwrap_or_default()
            .chars()
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let marks = line.get(offset..end).unwrap_or_default().chars().count();
        let marks = "^".repeat(marks.max(1));
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
        let inner = self.text.as_ref().read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
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
        let span = LabeledSpan::new_with_span(label, place.span.clone());
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
