//! Values as TOML on one line, for people.

use serde_json::Value as Json;

/// Writes a value.
pub(super) fn value(json: &Json) -> String {
    match json {
        Json::String(text) => string(text),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(value).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) if entries.is_empty() => "{}".into(),
        Json::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, json)| format!("{} = {}", key(name), value(json)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// Writes a key, in quotes where it needs them.
pub(super) fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        string(name)
    }
}

/// Writes names that stand inside each other, as a dotted key.
pub(super) fn dotted<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    let keys: Vec<String> = names.into_iter().map(|name| key(name)).collect();
    keys.join(".")
}

/// Writes a text that may come from anywhere so that no terminal obeys it.
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if obeyed(c) {
            shown.push_str(&escape(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if obeyed(c) => quoted.push_str(&escape(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a terminal or a reader's eye would be led astray: control characters, marks of direction.
fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(c: char) -> String {
    format!("\\u{:04X}", u32::from(c))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_and_keys() {
        let json = serde_json::json!({"a b": [1, true, "x\"\n\u{202e}"], "c": {}});
        assert_eq!(
            value(&json),
            r#"{ "a b" = [1, true, "x\"\n\u202E"], c = {} }"#
        );
        assert_eq!(dotted(&["a".to_owned(), "b.c".to_owned()]), "a.\"b.c\"");
        assert_eq!(plain("a\u{1b}[31m"), "a\\u001B[31m");
    }

    proptest! {
        #[test]
        fn toml_reads_it_again(name in "\\PC{0,12}|.{0,12}", text in "(?s).{0,20}", number: i64) {
            let wanted = serde_json::json!({ name: [text.clone(), text], "n": number });
            let read: toml::Table = toml::from_str(&format!("x = {}", value(&wanted))).unwrap();
            prop_assert_eq!(serde_json::to_value(&read["x"]).unwrap(), wanted);
        }
    }
}
