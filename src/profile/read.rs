//! Reads one file, and refuses what is none.

use std::io::Read;
use std::path::Path;

use super::diagnostic::{Diagnostic, is_obeyed};
use super::section::{File, quoted};

/// The greatest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads a regular file of bounded size that holds plain text.
pub(super) fn read(path: &Path, name: &str) -> Result<File, Box<Diagnostic>> {
    let fault = |why: String, help: &str| {
        Box::new(Diagnostic::new(format!("{} {why}", quoted(name))).help(help))
    };
    let unreadable =
        |e: std::io::Error| fault(format!("cannot be read: {e}"), "check its permissions");
    // Opening a FIFO would wait for a writer, so look first.
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        let what = if meta.is_dir() {
            "a directory"
        } else {
            "a device, socket or FIFO"
        };
        return Err(fault(
            format!("is {what}, not a file"),
            "name a regular .toml file",
        ));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fault(
            "is larger than 1 MiB".into(),
            "split it into several files",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        fault(
            format!("is not UTF-8 text: line {line} holds other bytes"),
            "save it as UTF-8",
        )
    })?;
    plain(name, text)
}

/// Like [`read`] for a file that may be missing. A link that leads nowhere is not missing: who
/// relies on the file shall hear of it.
pub(super) fn read_if_there(path: &Path, name: &str) -> Option<Result<File, Box<Diagnostic>>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(read(path, name)),
    }
}

/// Refuses what a terminal would obey: control characters, which TOML forbids, and direction marks,
/// which make a line look like another.
pub(crate) fn plain(name: &str, text: String) -> Result<File, Box<Diagnostic>> {
    let forbidden = |(at, c): &(usize, char)| match c {
        '\n' | '\t' => false,
        '\r' => text.as_bytes().get(at + 1) != Some(&b'\n'),
        c => is_obeyed(*c),
    };
    let Some((at, c)) = text.char_indices().find(forbidden) else {
        return Ok(File {
            name: name.to_owned(),
            text: text.into(),
        });
    };
    let shown: String = text
        .chars()
        .map(|c| {
            if is_obeyed(c) && !matches!(c, '\n' | '\t') {
                ' '
            } else {
                c
            }
        })
        .collect();
    // Spaces may be shorter than what they stand for.
    let at = text[..at]
        .chars()
        .map(|c| if is_obeyed(c) { 1 } else { c.len_utf8() })
        .sum();
    let file = File {
        name: name.to_owned(),
        text: shown.into(),
    };
    let place = file.place(at..at + 1, "here");
    let code = u32::from(c);
    let message = format!("{} holds the control character U+{code:04X}", quoted(name));
    let help = "remove it, or write it as an escape in a string";
    Err(Box::new(Diagnostic::new(message).at(place).help(help)))
}
