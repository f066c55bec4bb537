//! YAML as Kubernetes reads it, and edits that leave the rest of a text alone.
//!
//! [`rewrite`] is the only edit there is: it is given the value that a text has and the value that it
//! shall have, changes what differs, and reads the result again.

use serde_json::{Map, Value};
use similar::{Algorithm, DiffOp};
use std::str::FromStr;
use yaml_edit::{Document, Mapping, Sequence, YamlNode};

use super::KubeadmError;

/// Reads one YAML document the way Kubernetes does: YAML 1.1 booleans, octal `0644`; a key that
/// stands twice is an error instead of the last one winning.
///
/// # Errors
/// What is wrong with the text, in one line.
pub fn read(text: &str) -> Result<Value, KubeadmError> {
    read_or_line(text).map_err(|(message, _)| KubeadmError::Yaml(message))
}

/// Like [`read`].
///
/// # Errors
/// What is wrong with the text, in one line, and the number of the line from 1 where it is known.
pub fn read_or_line(text: &str) -> Result<Value, (String, Option<u64>)> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // Without the quoted text, and without what only a programmer could do about it.
        let error: &serde_saphyr::Error = error.without_snippet();
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        let line = error.location().map(|place| place.line());
        (message.lines().next().unwrap_or_default().to_owned(), line)
    })
}

/// Writes a whole document in block style, in a way that every reader of YAML takes for this value:
/// what YAML 1.1 has for a boolean or a number is in quotes. `apiVersion` and `kind` come first and
/// the other keys by name, so that the same value gives the same text.
pub fn document(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return format!("{}\n", render(value, 0));
    };
    let mut keys: Vec<&String> = fields.keys().collect();
    keys.sort_by_key(|key| (*key != "apiVersion", *key != "kind", *key));
    let field = |key: &String| {
        let value = sorted(&fields[key]);
        let gap = if is_nested(&value) { "\n  " } else { " " };
        format!("{}:{gap}{}\n", scalar(key), render(&value, 2))
    };
    match keys.is_empty() {
        true => "{}\n".into(),
        false => keys.into_iter().map(field).collect(),
    }
}

/// The same value with the keys of every table by name, whatever the map's own order is.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        scalar => scalar.clone(),
    }
}

/// Whether a value takes lines of its own.
fn is_nested(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    }
}

/// Makes a text that reads as `before` read as `after`.
pub(super) fn rewrite(text: &str, before: &Value, after: &Value) -> Result<String, KubeadmError> {
    if before == after {
        return Ok(text.to_owned());
    }
    let unfaithful = |why: &str| KubeadmError::Unfaithful(why.to_owned());
    let document = Document::from_str(text).map_err(|e| KubeadmError::Yaml(e.to_string()))?;
    match (document.as_mapping(), before, after) {
        (Some(root), Value::Object(before), Value::Object(after)) => {
            update_mapping(&root, before, after)?;
        }
        _ => return Err(unfaithful("it is not a mapping")),
    }
    let edited = document.to_string();
    match read(&edited) {
        Ok(value) if &value == after => Ok(edited),
        Ok(_) => Err(unfaithful(
            "the edited text has another meaning than intended",
        )),
        Err(error) => Err(unfaithful(&format!("the edited text is broken: {error}"))),
    }
}

fn update_mapping(
    mapping: &Mapping,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Result<(), KubeadmError> {
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        mapping.remove(key.as_str());
    }
    for (key, new) in after {
        let old = before.get(key);
        if old == Some(new) {
            continue;
        }
        match (old, new) {
            (Some(Value::Object(old)), Value::Object(new)) if !new.is_empty() => {
                if let Some(inner) = mapping.get_mapping(key.as_str())
                    && !old.is_empty()
                {
                    update_mapping(&inner, old, new)?;
                    continue;
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) if !new.is_empty() => {
                if let Some(inner) = mapping.get_sequence(key.as_str())
                    && !old.is_empty()
                {
                    update_sequence(&inner, old, new)?;
                    continue;
                }
            }
            _ => {}
        }
        mapping.set(node(&Value::from(key.as_str()))?, node(new)?);
    }
    Ok(())
}

fn update_sequence(sequence: &Sequence, old: &[Value], new: &[Value]) -> Result<(), KubeadmError> {
    let lines = |items: &[Value]| -> Vec<String> {
        items.iter().map(crate::fact::canonical_json).collect()
    };
    let operations = similar::capture_diff_slices(Algorithm::Myers, &lines(old), &lines(new));
    // From the end, so that the earlier indices stay true.
    for operation in operations.into_iter().rev() {
        if matches!(operation, DiffOp::Equal { .. }) {
            continue;
        }
        let (was, shall) = (operation.old_range(), operation.new_range());
        // Items that are the same thing with another value are changed where they stand, which
        // keeps the comment beside them.
        let kept = was
            .clone()
            .zip(shall.clone())
            .take_while(|(o, n)| same_thing(&old[*o], &new[*n]))
            .count();
        for (offset, item) in new[shall.start + kept..shall.end].iter().enumerate() {
            sequence.insert(was.end + offset, node(item)?);
        }
        for index in (was.start + kept..was.end).rev() {
            sequence.remove(index);
        }
        for step in 0..kept {
            let (o, n) = (&old[was.start + step], &new[shall.start + step]);
            let index = was.start + step;
            match (o, n, sequence.get(index)) {
                (Value::Object(o), Value::Object(n), Some(YamlNode::Mapping(inner))) => {
                    update_mapping(&inner, o, n)?;
                }
                _ => {
                    sequence.set(index, node(n)?);
                }
            }
        }
    }
    Ok(())
}

/// Whether two items of a list are the same flag or have the same name.
fn same_thing(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::String(old), Value::String(new)) => {
            let flag = |word: &str| word.split_once('=').map(|(name, _)| name.to_owned());
            flag(old).is_some() && flag(old) == flag(new)
        }
        (Value::Object(old), Value::Object(new)) => {
            old.get("name").is_some() && old.get("name") == new.get("name")
        }
        _ => false,
    }
}

/// Returns a value as a piece of a syntax tree, styled as [`render`] does.
fn node(value: &Value) -> Result<YamlNode, KubeadmError> {
    let text = format!("- {}\n", render(value, 2));
    Document::from_str(&text)
        .ok()
        .and_then(|document| document.as_sequence())
        .and_then(|items| items.get(0))
        .ok_or_else(|| KubeadmError::Unfaithful("a new value cannot be written as YAML".into()))
}

/// Writes a value in block style; the first line goes behind `- ` or a key.
fn render(value: &Value, indent: usize) -> String {
    let margin = format!("\n{}", " ".repeat(indent));
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<String> = items
                .iter()
                .map(|item| format!("- {}", render(item, indent + 2)))
                .collect();
            items.join(&margin)
        }
        Value::Object(fields) if !fields.is_empty() => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| {
                    let gap = if is_nested(value) {
                        format!("{margin}  ")
                    } else {
                        " ".into()
                    };
                    format!("{}:{gap}{}", scalar(key), render(value, indent + 2))
                })
                .collect();
            fields.join(&margin)
        }
        // JSON's other values are YAML as they stand.
        other => other.to_string(),
    }
}

/// Writes a string as a YAML scalar that every reader takes for that string: plain where nobody can
/// mistake it, in double quotes otherwise.
pub fn scalar(text: &str) -> String {
    let plain_bytes = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_./,@%+=:*()".contains(&b));
    let flag_or_path = text.starts_with('/')
        || (text.starts_with("--") && text.as_bytes().get(2).is_some_and(u8::is_ascii_alphabetic));
    // What some version of YAML takes for a number or a date (`.inf`, `1e3`, `0x1f`, `12:30`)
    // starts with a digit, a sign or a dot.
    let name = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain_bytes && !text.ends_with(':') && (flag_or_path || name) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // Line breaks of YAML 1.1, the byte order mark and non-characters included.
            c if c.is_control()
                || matches!(
                    c,
                    '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
                ) =>
            {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_begins_with_what_it_is() {
        let value = json!({
            "rules": [{"level": "None", "verbs": []}, "x"], "kind": "Policy", "empty": {},
            "apiVersion": "audit.k8s.io/v1", "a": {"z": true, "b": [[1, "2"], null]},
        });
        insta::assert_snapshot!(document(&value), @r#"
        apiVersion: audit.k8s.io/v1
        kind: Policy
        a:
          b:
            - - 1
              - "2"
            - null
          z: true
        empty: {}
        rules:
          - level: None
            verbs: []
          - x
        "#);
        assert_eq!(document(&json!({})), "{}\n");
    }

    /// YAML 1.1, which Kubernetes reads, has more booleans and numbers than YAML 1.2.
    #[test]
    fn what_yaml_1_1_takes_for_something_else_is_quoted() {
        for text in [
            "yes",
            "No",
            "ON",
            "off",
            "y",
            "N",
            "true",
            "False",
            "null",
            "~",
            "",
            "0644",
            "1_000",
            "1e3",
            "0x1f",
            "0b1",
            "12:30",
            ".inf",
            "-.INF",
            ".nan",
            "=",
            "<<",
            "- a",
            "a: b",
            "#a",
            "2024-01-01",
            "*a",
            "&a",
            "!a",
            "a #b",
            "@a",
            "a:",
        ] {
            assert_eq!(document(&json!({"k": text})), format!("k: \"{text}\"\n"));
            let as_key = document(&json!({text: 1}));
            assert_eq!(as_key, format!("\"{text}\": 1\n"));
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "(?s).{0,12}|yes|off|0644|1e3|~|null".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = "[a-zA-Z]{1,6}|yes|1|(?s).{0,4}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_reads_as_what_it_was_written_from(value in any_value()) {
            let table = json!({"k": value});
            prop_assert_eq!(&read(&document(&table)).unwrap(), &table);
        }
    }
}
