//! The probe: one constant script that answers queries, and its protocol.
//!
//! [`encode`] writes the queries that go to [`SCRIPT`]'s stdin, [`parse`] reads what comes back.
//! The answer is not trusted: it must begin and end with lines that hold the caller's nonce, answer
//! every query once and in order, and carry whatever the node chose as hexadecimal digits. One
//! deviation refuses the whole transcript, since half of a truth is worse than none.

use super::{Answer, Fact, NodeFacts, Query};

mod answer;
mod certificate;
mod encryption;
mod text;

pub use text::{clean_text, container_log};

/// The probe script: POSIX `sh`, as dash, BusyBox ash and bash run it. It writes nothing on a node.
pub const SCRIPT: &str = include_str!("probe.sh");

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The most entries of a directory that is listed.
pub const MAX_ENTRIES: usize = 4096;

/// The most files of a tree whose owners are looked at.
pub const MAX_TREE: usize = 65_536;

/// The most owners of one tree.
pub const MAX_OWNERS: usize = 64;

/// The longest command line that is read, in bytes.
pub const MAX_ARGV: usize = 128 << 10;

/// The most files of one configuration.
pub const MAX_CONFIGS: usize = 64;

/// The largest of them, in bytes.
pub const MAX_CONFIG: usize = 128 << 10;

/// How much systemd may say of a unit, in bytes.
pub const MAX_UNIT: usize = 64 << 10;

/// How much of a log's end is read, in bytes.
pub const MAX_LOG: usize = 8 << 10;

/// The longest reason that is kept of what a node gives, in characters.
const MAX_REASON: usize = 300;

/// Why a transcript of the probe is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The script did not run: no line begins its answer.
    #[error(
        "the probe did not answer; check that `sh` runs on the node and that no login script ends \
         the session"
    )]
    NoBegin,
    /// The script did not come to its end.
    #[error(
        "the probe's answer is cut off after {answered} of {asked} queries; run again, and look at \
         the node's load and at what its login scripts print if it stays"
    )]
    CutOff {
        /// Queries whose answer is whole.
        answered: usize,
        /// Queries asked.
        asked: usize,
    },
    /// A line does not follow the protocol.
    #[error(
        "line {line} of the probe's answer is {why}; run again, and look at what the node's login \
         scripts print if it stays"
    )]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Writes the probe's stdin.
///
/// The nonce is letters and digits, new for every run, and the same as for [`parse`]; the script
/// refuses any other.
pub fn encode(nonce: &str, queries: &[Query]) -> Vec<u8> {
    let mut text = format!("harden-probe 1 {nonce}\n");
    for query in queries {
        let (kind, what) = match query {
            Query::File(path) => ("file", path.as_str()),
            Query::Stat(path) => ("stat", path.as_str()),
            Query::Dir(path) => ("dir", path.as_str()),
            Query::Below(path) => ("below", path.as_str()),
            Query::Owners(path) => ("owners", path.as_str()),
            Query::Account(name) => ("account", name.as_str()),
            Query::Process(name) => ("process", name.as_str()),
            Query::Log(name) => ("log", name.as_str()),
            Query::Journal(name) => ("journal", name.as_str()),
            Query::Config(path) => ("config", path.as_str()),
            Query::Unit(name) => ("unit", name.as_str()),
            Query::Encryption(path) => ("encryption", path.as_str()),
            Query::Certificates(path) => ("certificates", path.as_str()),
            Query::Stored(prefix) => ("stored", prefix.as_str()),
        };
        text.push_str(kind);
        text.push(' ');
        text.push_str(what);
        text.push('\n');
    }
    text.push_str("end\n");
    text.into_bytes()
}

/// Reads the probe's stdout.
///
/// Whatever stands before the first line, such as a login banner, is skipped. Bounds that a node
/// passes (a file that grew, too many entries) make that one fact [`Fact::Unreadable`].
///
/// # Errors
/// When the transcript does not follow the protocol in every line.
pub fn parse(nonce: &str, queries: &[Query], stdout: &[u8]) -> Result<NodeFacts, ProbeError> {
    let mut lines = Lines::after_begin(nonce, stdout)?;
    let mut facts = NodeFacts::new();
    for (index, query) in queries.iter().enumerate() {
        let cut_off = ProbeError::CutOff {
            answered: index,
            asked: queries.len(),
        };
        let header = lines.next().ok_or_else(|| cut_off.clone())?;
        let rest = numbered(header, index).ok_or_else(|| lines.bad("not the next answer"))?;
        let fact = if rest == b"absent" {
            Fact::Absent
        } else if let Some(why) = rest.strip_prefix(b"unreadable ") {
            Fact::Unreadable(reason(why))
        } else if let Some(meta) = value(rest) {
            let body = body(&mut lines, index, &cut_off)?;
            match body.status {
                0 => answer::decode(query, meta, &body.data)
                    .map_err(|error| lines.bad_at(body.line, error.0))?,
                _ => Fact::Unreadable("reading it failed halfway".into()),
            }
        } else {
            return Err(lines.bad("neither a value nor the lack of one"));
        };
        facts.insert(query.clone(), fact);
    }
    let end = format!("harden-probe-end {nonce} {}", queries.len());
    match lines.next() {
        Some(line) if line == end.as_bytes() => {}
        Some(_) => return Err(lines.bad("not the end of the answer")),
        None => {
            return Err(ProbeError::CutOff {
                answered: queries.len(),
                asked: queries.len(),
            });
        }
    }
    if lines.rest.is_empty() {
        Ok(facts)
    } else {
        lines.number += 1;
        Err(lines.bad("behind the end of the answer"))
    }
}

/// The data of one value, up to its closing line.
struct Body<'a> {
    /// The number of its first line.
    line: usize,
    /// Its lines.
    data: Vec<&'a [u8]>,
    /// The exit status of the program that wrote it.
    status: u32,
}

/// Reads the data of answer `index`. Its lines begin with a blank or a letter, the closing line
/// begins with a digit, so that data cannot close itself.
fn body<'a>(
    lines: &mut Lines<'a>,
    index: usize,
    cut_off: &ProbeError,
) -> Result<Body<'a>, ProbeError> {
    let line = lines.number + 1;
    let mut data = Vec::new();
    loop {
        let next = lines.next().ok_or_else(|| cut_off.clone())?;
        if !next.first().is_some_and(u8::is_ascii_digit) {
            data.push(next);
            continue;
        }
        let status = numbered(next, index)
            .and_then(|rest| rest.strip_prefix(b"end "))
            .and_then(number)
            .ok_or_else(|| lines.bad("not the end of this value"))?;
        return Ok(Body { line, data, status });
    }
}

/// What follows `INDEX `, when the line begins with just that.
fn numbered(line: &[u8], index: usize) -> Option<&[u8]> {
    line.strip_prefix(format!("{index} ").as_bytes())
}

/// What follows `value`: nothing, or the metadata.
fn value(rest: &[u8]) -> Option<&[u8]> {
    let meta = rest.strip_prefix(b"value")?;
    if meta.is_empty() {
        Some(meta)
    } else {
        meta.strip_prefix(b" ")
    }
}

/// A decimal number without sign, blanks or leading zeros.
fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits[0] != b'0');
    if digits.is_empty() || !plain {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A reason as it can be shown: one line, bounded.
fn reason(why: &[u8]) -> String {
    clean_text(&String::from_utf8_lossy(why))
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .take(MAX_REASON)
        .collect()
}

/// The lines of a transcript, each of which ends in a newline.
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    /// Skips everything up to the line that begins the answer.
    fn after_begin(nonce: &str, stdout: &'a [u8]) -> Result<Self, ProbeError> {
        let begin = format!("harden-probe-begin {nonce}");
        let mut lines = Lines {
            rest: stdout,
            number: 0,
        };
        loop {
            match lines.next() {
                Some(line) if line == begin.as_bytes() => return Ok(lines),
                Some(_) => {}
                None => return Err(ProbeError::NoBegin),
            }
        }
    }

    /// Takes the next whole line, without its newline.
    fn next(&mut self) -> Option<&'a [u8]> {
        let at = self.rest.iter().position(|&b| b == b'\n')?;
        let line = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        self.number += 1;
        Some(line)
    }

    /// The line last taken is bad.
    fn bad(&self, why: &'static str) -> ProbeError {
        self.bad_at(self.number, why)
    }

    fn bad_at(&self, line: usize, why: &'static str) -> ProbeError {
        ProbeError::Malformed { line, why }
    }
}

#[cfg(test)]
mod tests;
