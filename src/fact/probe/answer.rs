//! The data of each kind of answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Answer, Fact, MAX_ARGV, MAX_CONFIG, MAX_CONFIGS, MAX_ENTRIES, MAX_FILE, MAX_LOG, MAX_OWNERS,
    MAX_UNIT, Query, certificate, encryption, number, text,
};
use crate::fact::{File, FileKind, Ids, Meta, Process, ProgramName, Unit};

/// What is wrong with the data of an answer.
#[derive(Debug)]
pub(super) struct Bad(pub(super) &'static str);

/// Decodes the data lines of one value.
pub(super) fn decode(query: &Query, head: &[u8], data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let no_head = || {
        if head.is_empty() {
            Ok(())
        } else {
            Err(Bad("metadata where none belongs"))
        }
    };
    match query {
        Query::Stat(_) if !data.is_empty() => Err(Bad("data where none belongs")),
        Query::Stat(_) => Ok(Fact::Value(Answer::Stat(meta(head)?))),
        Query::File(_) => file(head, data),
        Query::Dir(_) => no_head().and_then(|()| dir(data, 0)),
        Query::Below(_) => no_head().and_then(|()| dir(data, 1)),
        Query::Owners(_) => no_head().and_then(|()| owners(data)),
        Query::Account(_) if !data.is_empty() => Err(Bad("data where none belongs")),
        Query::Account(_) => Ok(Fact::Value(Answer::Account(ids(head)?))),
        Query::Process(name) => no_head().and_then(|()| processes(name, data)),
        Query::Log(_) | Query::Journal(_) => no_head().and_then(|()| log(data)),
        Query::Config(_) => no_head().and_then(|()| config(data)),
        Query::Unit(_) => no_head().and_then(|()| unit(data)),
        Query::Encryption(_) => encryption::file(meta(head)?, data),
        Query::Certificates(_) => no_head().and_then(|()| certificate::certificates(data)),
        Query::Stored(_) => no_head().and_then(|()| encryption::stored(data)),
    }
}

fn file(head: &[u8], data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let meta = meta(head)?;
    if meta.kind != FileKind::Regular {
        return Err(Bad("the content of what is no regular file"));
    }
    let content = dump(data)?;
    // It may have grown since its size was looked at.
    if content.len() > MAX_FILE {
        return Ok(Fact::Unreadable(format!(
            "it is larger than {MAX_FILE} bytes"
        )));
    }
    Ok(Fact::Value(Answer::File(File { meta, content })))
}

/// Entries of a directory, or of those that are `depth` levels below it.
fn dir(data: &[&[u8]], depth: usize) -> Result<Fact<Answer>, Bad> {
    let mut entries = BTreeMap::new();
    for line in data {
        let mut parts = line.splitn(3, |&b| b == b' ');
        let (form, name, head) = (parts.next(), parts.next(), parts.next());
        let (Some(form), Some(name), Some(head)) = (form, name, head) else {
            return Err(Bad("no directory entry"));
        };
        let name = match form {
            b"p" => name.to_vec(),
            b"x" => hex(name).ok_or(Bad("a name that is not hexadecimal"))?,
            _ => return Err(Bad("no directory entry")),
        };
        let mut parts = name.split(|&b| b == b'/');
        if parts.any(|part| matches!(part, b"" | b"." | b".."))
            || name.iter().filter(|&&b| b == b'/').count() != depth
        {
            return Err(Bad("an impossible name"));
        }
        if entries.insert(shown_name(&name), meta(head)?).is_some() {
            return Ok(Fact::Unreadable(
                "two of its names cannot be told apart".into(),
            ));
        }
    }
    if entries.len() > MAX_ENTRIES {
        return Ok(Fact::Unreadable(format!(
            "it has more than {MAX_ENTRIES} entries"
        )));
    }
    Ok(Fact::Value(Answer::Dir(entries)))
}

/// `o UID:GID`, once for each owner.
fn owners(data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let mut found = BTreeSet::new();
    for line in data {
        let owner = ids(line.strip_prefix(b"o ").ok_or(Bad("no owner"))?)?;
        if !found.insert(owner) {
            return Err(Bad("an owner named twice"));
        }
    }
    if found.len() > MAX_OWNERS {
        return Ok(Fact::Unreadable(format!(
            "it has more than {MAX_OWNERS} owners"
        )));
    }
    if found.is_empty() {
        return Err(Bad("a tree without owner"));
    }
    Ok(Fact::Value(Answer::Owners(found)))
}

/// `UID:GID`.
fn ids(text: &[u8]) -> Result<Ids, Bad> {
    let mut parts = text.split(|&b| b == b':');
    let mut next = || parts.next().and_then(number);
    match (next(), next(), parts.next()) {
        (Some(uid), Some(gid), None) => Ok(Ids { uid, gid }),
        _ => Err(Bad("no user and group")),
    }
}

/// A name as text; the bytes that are no UTF-8 become `\xNN`.
fn shown_name(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// `t PID START` and a dump of the command line, once for each process. The script compares the
/// short name that the kernel keeps; here the whole name must fit.
fn processes(name: &ProgramName, data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let mut found: Vec<Process> = Vec::new();
    let mut at = 0;
    while let Some(line) = data.get(at) {
        let ids = line.strip_prefix(b"t ").ok_or(Bad("no process"))?;
        let mut ids = ids.split(|&b| b == b' ');
        let pid = ids.next().and_then(number);
        let start = ids.next().and_then(number);
        let (Some(pid), Some(start), None) = (pid, start, ids.next()) else {
            return Err(Bad("no process"));
        };
        let end = data[at + 1..]
            .iter()
            .position(|line| !line.starts_with(b" "))
            .map_or(data.len(), |n| at + 1 + n);
        let command = dump(&data[at + 1..end])?;
        at = end;
        if command.len() > MAX_ARGV {
            return Ok(Fact::Unreadable(format!(
                "the command line of process {pid} is longer than {MAX_ARGV} bytes"
            )));
        }
        let argv = arguments(&command);
        let program = argv.first().and_then(|first| first.rsplit('/').next());
        if program == Some(name.as_str()) {
            found.push(Process { pid, start, argv });
        }
    }
    found.sort_by_key(|process| process.pid);
    if found.windows(2).any(|pair| pair[0].pid == pair[1].pid) {
        return Err(Bad("a process named twice"));
    }
    Ok(if found.is_empty() {
        Fact::Absent
    } else {
        Fact::Value(Answer::Process(found))
    })
}

/// The arguments, each of which a NUL ends.
fn arguments(command: &[u8]) -> Vec<String> {
    let command = command.strip_suffix(b"\0").unwrap_or(command);
    command
        .split(|&b| b == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

fn log(data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let mut tail = dump(data)?;
    // The script asks for one byte more than is kept, to know whether the first line is whole.
    if tail.len() > MAX_LOG {
        let cut = tail.iter().position(|&b| b == b'\n').map_or(1, |n| n + 1);
        tail.drain(..cut);
    }
    Ok(Fact::Value(Answer::Log(text::container_log(&tail))))
}

/// `m - META` for the file itself and `f HEX META` for a drop-in, each with a dump of its content.
fn config(data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let mut files = BTreeMap::new();
    let mut at = 0;
    while let Some(line) = data.get(at) {
        let mut parts = line.splitn(3, |&b| b == b' ');
        let (form, name, head) = (parts.next(), parts.next(), parts.next());
        let (Some(form), Some(name), Some(head)) = (form, name, head) else {
            return Err(Bad("no file of a configuration"));
        };
        let name = match (form, name) {
            (b"m", b"-") => String::new(),
            (b"f", name) => {
                let name = hex(name).ok_or(Bad("a name that is not hexadecimal"))?;
                if name.is_empty() || name.contains(&b'/') {
                    return Err(Bad("an impossible name"));
                }
                shown_name(&name)
            }
            _ => return Err(Bad("no file of a configuration")),
        };
        let end = data[at + 1..]
            .iter()
            .position(|line| !line.starts_with(b" "))
            .map_or(data.len(), |n| at + 1 + n);
        let (meta, content) = (meta(head)?, dump(&data[at + 1..end])?);
        at = end;
        if meta.kind != FileKind::Regular {
            return Err(Bad("the content of what is no regular file"));
        }
        if content.len() > MAX_CONFIG {
            return Ok(Fact::Unreadable(format!(
                "a file of it is larger than {MAX_CONFIG} bytes"
            )));
        }
        if files.insert(name, File { meta, content }).is_some() {
            return Ok(Fact::Unreadable(
                "two of its names cannot be told apart".into(),
            ));
        }
    }
    if files.len() > MAX_CONFIGS {
        return Ok(Fact::Unreadable(format!(
            "it has more than {MAX_CONFIGS} files"
        )));
    }
    Ok(match files.is_empty() {
        true => Fact::Absent,
        false => Fact::Value(Answer::Config(files)),
    })
}

/// A dump of lines `NAME=VALUE`: the properties of `systemctl show`, `MainStart` of our own, and the
/// environment's variables that end in `_CONFIG_FILE`. Of each the first counts.
fn unit(data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let shown = dump(data)?;
    if shown.len() > MAX_UNIT {
        return Ok(Fact::Unreadable("systemd says too much of it".into()));
    }
    let shown = text::clean_text(&String::from_utf8_lossy(&shown));
    let value = |name: &str| {
        let of = |line: &'_ str| {
            line.strip_prefix(name)?
                .strip_prefix('=')
                .map(str::to_owned)
        };
        shown.lines().find_map(of)
    };
    if value("LoadState").is_none_or(|state| state == "not-found") {
        return Ok(Fact::Absent);
    }
    let number = |name: &str| value(name).and_then(|text| number::<u64>(text.as_bytes()));
    let pid = number("MainPID").and_then(|pid| u32::try_from(pid).ok());
    let main = pid.filter(|pid| *pid != 0).zip(number("MainStart"));
    let command = value("ExecStart").unwrap_or_default();
    let words = command.split_once("argv[]=").map_or("", |(_, rest)| rest);
    let words = words.split_once(" ; ").map_or(words, |(words, _)| words);
    let is_quote = |c: char| matches!(c, '"' | '\'');
    let options = words
        .split_whitespace()
        .map(|word| word.trim_matches(is_quote))
        .filter(|word| word.starts_with('-'))
        .map(|word| {
            word.split_once('=')
                .map_or(word, |(name, _)| name)
                .to_owned()
        })
        .collect();
    let config = shown.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let named = name.ends_with("_CONFIG_FILE") && !value.is_empty();
        named.then(|| value.to_owned())
    });
    Ok(Fact::Value(Answer::Unit(Unit {
        active: value("ActiveState").unwrap_or_default(),
        main,
        restarts: number("NRestarts").map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        options,
        config,
    })))
}

/// `MODE:SIZE:UID:GID:USER:GROUP`, the mode in hexadecimal as `stat -c %f` writes it.
fn meta(head: &[u8]) -> Result<Meta, Bad> {
    let bad = Bad("no metadata");
    let Ok(head) = std::str::from_utf8(head) else {
        return Err(bad);
    };
    let fields: Vec<&str> = head.split(':').collect();
    let [mode, size, uid, gid, user, group] = fields[..] else {
        return Err(bad);
    };
    let digits = mode.bytes().all(|b| b.is_ascii_hexdigit()) && mode.len() <= 8;
    let ids = [number::<u32>(uid.as_bytes()), number(gid.as_bytes())];
    let (true, Ok(mode), Some(size), [Some(_), Some(_)]) = (
        digits,
        u32::from_str_radix(mode, 16),
        number(size.as_bytes()),
        ids,
    ) else {
        return Err(bad);
    };
    // The kinds of inode(7).
    let kind = match mode & 0o170_000 {
        0o100_000 => FileKind::Regular,
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Symlink,
        _ => FileKind::Other,
    };
    // A name with escapes or blanks could pose as another; `UNKNOWN` means that there is none.
    let named = |name: &str, id: &str| {
        let good = !name.is_empty() && name != "UNKNOWN" && text::clean_text(name) == name;
        (if good { name } else { id }).to_owned()
    };
    Ok(Meta {
        kind,
        mode: mode & 0o7777,
        owner: named(user, uid),
        group: named(group, gid),
        size,
    })
}

/// The bytes of `od -An -v -tx1`: lines of a blank and two digits, repeated.
fn dump(lines: &[&[u8]]) -> Result<Vec<u8>, Bad> {
    let mut bytes = Vec::with_capacity(lines.len() * 16);
    for line in lines {
        // BusyBox pads the last line.
        let line = line.trim_ascii_end();
        if line.len() % 3 != 0 {
            return Err(Bad("no dump of bytes"));
        }
        for group in line.chunks_exact(3) {
            match (group[0], hex(&group[1..]).as_deref()) {
                (b' ', Some(&[byte])) => bytes.push(byte),
                _ => return Err(Bad("no dump of bytes")),
            }
        }
    }
    Ok(bytes)
}

/// Decodes lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
        .collect()
}
