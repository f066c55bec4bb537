//! Text that a node wrote, made fit to be shown.

/// Returns the text without terminal escapes and control characters, save newlines and tabs.
///
/// Everything that comes from a node goes through this before a person sees it: an escape could
/// rewrite the screen, a bidirectional override could show one thing for another.
pub fn clean_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\u{1b}' => match chars.peek() {
                Some('[') => {
                    chars.next();
                    skip_control_sequence(&mut chars);
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    chars.next();
                    skip_string(&mut chars);
                }
                _ => {
                    while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
                    chars.next_if(|c| matches!(c, '0'..='~'));
                }
            },
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            c if c.is_control() || reorders(c) => {}
            c => clean.push(c),
        }
    }
    clean
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// ECMA-48 5.4: parameters, intermediates, one final byte.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, '0'..='?')).is_some() {}
    while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// A string that BEL or ST ends, and at the latest the line: a missing end must not hide the rest.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next_if(|&c| c != '\n') {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// Characters that have no shape and change the order in which others are shown.
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Reads a container log as the kubelet keeps it: lines of `TIME STREAM TAG TEXT`, where tag `P`
/// marks a part of a longer line. Returns the texts, cleaned; other lines stay as they are.
pub fn container_log(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let mut text = String::with_capacity(log.len());
    for line in log.lines() {
        let mut parts = line.splitn(4, ' ');
        let (time, stream) = (parts.next(), parts.next());
        let (tag, rest) = (parts.next(), parts.next().unwrap_or(""));
        let dated =
            time.is_some_and(|t| t.contains('T') && t.starts_with(|c: char| c.is_ascii_digit()));
        match (stream, tag) {
            (Some("stdout" | "stderr"), Some(tag)) if dated => {
                text.push_str(rest);
                if tag.split(':').any(|part| part == "P") {
                    continue;
                }
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    clean_text(&text)
}
