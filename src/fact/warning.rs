//! The `Warning` headers of an answer.

use super::probe::clean_text;

/// How many characters of text the API server puts into the headers of one answer. Beyond that it cuts
/// each text at 256 characters, and leaves out the last ones. Source: kubernetes v1.35
/// staging/src/k8s.io/apiserver/pkg/endpoints/filters/warning.go, `truncateAtTotalRunes`.
const SERVER_TOTAL: usize = 4 * 1024;

/// The most warnings that are read of one answer. The server has never more: each costs it characters.
const MAX_WARNINGS: usize = 1000;

/// The most characters that are kept of a text.
const MAX_TEXT: usize = 1024;

/// What an answer warns of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    /// The texts in their order: one line each, cleaned, at most 1,024 characters.
    pub texts: Vec<String>,
    /// Whether these are all: `false` where a header could not be read, or where the server may have
    /// left some out.
    pub complete: bool,
}

impl Warnings {
    /// Reads the values of all `Warning` headers of an answer. One value may hold several warnings:
    /// `299 - "text" "date", 299 - "text"`. Source: RFC 7234 section 5.5; kubernetes v1.35
    /// staging/src/k8s.io/apimachinery/pkg/util/net/http.go, `ParseWarningHeader`.
    pub fn read<'h>(values: impl IntoIterator<Item = &'h [u8]>) -> Self {
        let mut warnings = Warnings {
            texts: Vec::new(),
            complete: true,
        };
        let mut characters = 0;
        for value in values {
            let Ok(mut rest) = std::str::from_utf8(value) else {
                warnings.complete = false;
                continue;
            };
            while !rest.trim().is_empty() {
                let one = one(rest).filter(|_| warnings.texts.len() < MAX_WARNINGS);
                let Some((text, after)) = one else {
                    warnings.complete = false;
                    break;
                };
                characters += text.chars().count();
                let line = clean_text(&text).replace(['\n', '\t'], " ");
                warnings.texts.push(line.chars().take(MAX_TEXT).collect());
                rest = after;
            }
        }
        warnings.complete &= characters < SERVER_TOTAL;
        warnings
    }
}

/// Reads the first warning of a value. Returns its text and what follows.
fn one(value: &str) -> Option<(String, &str)> {
    let (code, rest) = value.trim_start().split_once(' ')?;
    let is_code = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
    // Who warns is a word without spaces: `-`, or a host and its port.
    let (agent, rest) = rest.split_once(' ').filter(|_| is_code)?;
    if agent.is_empty() {
        return None;
    }
    let (text, rest) = quoted(rest)?;
    let rest = match rest.trim_start() {
        date if date.starts_with('"') => quoted(date)?.1.trim_start(),
        rest => rest,
    };
    match rest.strip_prefix(',') {
        Some(more) => Some((text, more)),
        None => rest.is_empty().then_some((text, rest)),
    }
}

/// Reads a text in quotation marks, where `\` takes the next character as it is. Returns what follows.
fn quoted(value: &str) -> Option<(String, &str)> {
    let inner = value.strip_prefix('"')?;
    let mut text = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((text, &inner[at + 1..])),
            '\\' => text.push(chars.next()?.1),
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Warnings {
        Warnings::read(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn texts_are_read_out_of_their_quotation_marks() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["", "  "], &[]),
            (&[r#"299 - "plain""#], &["plain"]),
            (&[r#"  299 - "led by spaces"  "#], &["led by spaces"]),
            (&[r#"299 - """#], &[""]),
            (
                &[r#"299 - "in namespace \"x\" and a \\ and \n""#],
                &[r#"in namespace "x" and a \ and n"#],
            ),
            // A comma inside is no end; one behind is.
            (&[r#"299 - "a, b", 299 - "c""#], &["a, b", "c"]),
            (&[r#"299 - "a",299 - "b","#], &["a", "b"]),
            (
                &[r#"299 - "old" "Wed, 21 Oct 2015 07:28:00 GMT", 199 proxy:80 "b""#],
                &["old", "b"],
            ),
            (&[r#"299 - "a""#, r#"299 - "b""#], &["a", "b"]),
            (&["299 - \"é \u{1b}[31mred\u{202e}\tx\""], &["é red x"]),
        ];
        for (values, texts) in cases {
            let warnings = read(values);
            assert_eq!(warnings.texts, *texts, "{values:?}");
            assert!(warnings.complete, "{values:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_hides_no_other() {
        for bad in [
            "299",
            "299 -",
            "299 - text",
            r#"299 "text""#,
            r#"29 - "text""#,
            r#"2999 - "text""#,
            r#"x99 - "text""#,
            r#"299  "text""#,
            r#"299 - "no end"#,
            r#"299 - "no end\"#,
            r#"299 - "no end\""#,
            r#"299 - "text" "no end"#,
            r#"299 - "text" more"#,
        ] {
            let warnings = read(&[bad, r#"299 - "good""#]);
            assert!(!warnings.complete, "{bad}");
            assert_eq!(warnings.texts, ["good"], "{bad}");
        }
        assert!(!Warnings::read([b"299 - \"\xff\"".as_slice()]).complete);
    }

    /// What the API server leaves out it does not tell; its headers are just full.
    #[test]
    fn full_headers_may_lack_something() {
        let header = |length: usize| format!("299 - \"{}\"", "x".repeat(length));
        let sixteen = vec![header(256); 16];
        let values = |all: &[String]| Warnings::read(all.iter().map(|one| one.as_bytes()));
        assert!(!values(&sixteen).complete);
        assert!(values(&sixteen[1..]).complete);
        let long = read(&[&header(100_000)]);
        assert_eq!(
            (long.texts[0].len(), long.complete),
            (MAX_TEXT, false),
            "one text alone"
        );
        let many = read(&[&"299 - \"\", ".repeat(MAX_WARNINGS + 1)]);
        assert_eq!((many.texts.len(), many.complete), (MAX_WARNINGS, false));
    }

    #[test]
    fn whatever_comes_is_bounded_and_clean() {
        const PIECES: &[&[u8]] = &[
            b"299 - \"",
            b"\"",
            b"\\",
            b",",
            b" ",
            b"\xc3\xa9",
            b"\xff",
            b"\x1b[1m",
            b"\t",
            b"existing pods in namespace ",
        ];
        bolero::check!()
            .with_iterations(2000)
            .with_max_len(64)
            .for_each(|bytes: &[u8]| {
                let value: Vec<u8> = bytes
                    .iter()
                    .flat_map(|b| match PIECES.get(usize::from(b % 16)) {
                        Some(piece) => piece.to_vec(),
                        None => vec![*b],
                    })
                    .collect();
                let warnings = Warnings::read([value.as_slice(), bytes]);
                assert!(warnings.texts.len() <= MAX_WARNINGS);
                for text in &warnings.texts {
                    assert!(text.chars().count() <= MAX_TEXT);
                    assert!(!text.contains(char::is_control), "{text:?}");
                }
                // What was read is what a server would have to write for it.
                let written: Vec<String> = warnings
                    .texts
                    .iter()
                    .map(|text| text.replace('\\', r"\\").replace('"', r#"\""#))
                    .map(|text| format!("299 - \"{text}\""))
                    .collect();
                let joined = written.join(", ");
                assert_eq!(Warnings::read([joined.as_bytes()]).texts, warnings.texts);
            });
    }
}
