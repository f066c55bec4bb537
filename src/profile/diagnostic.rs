//! What is wrong with a file of the workspace, shown with the place.

use std::ops::Range;
use std::sync::Arc;

/// One thing that is wrong, with file, place and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// What is wrong, in one sentence.
    pub message: String,
    /// The file as the user names it, with its text, when the fault is in a file that was read.
    pub place: Option<Source>,
    /// What to do about it.
    pub help: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} error(s) in the workspace", .0.len())]
pub struct Failure(pub Vec<Diagnostic>);
