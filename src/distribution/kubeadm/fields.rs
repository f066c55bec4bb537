//! Fields of a configuration file that is one YAML document: `KubeletConfiguration`,
//! `KubeProxyConfiguration`.

use serde_json::{Map, Value};

use super::{KubeadmError, yaml};

/// Where a field is: its keys, outermost first. A key may hold dots (`memory.available`).
pub type FieldPath = Vec<String>;

/// One field and the value that it shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldEdit {
    /// Which.
    pub path: FieldPath,
    /// As in JSON; never null.
    pub value: Value,
}

/// Reads a document of this kind.
///
/// # Errors
/// When it is no YAML or has a key twice, or is of another kind.
pub fn parse_document(text: &str, kind: &'static str) -> Result<Value, KubeadmError> {
    let value = yaml::read(text)?;
    if value.is_null() {
        return Err(KubeadmError::Empty);
    }
    let found = value.get("kind").and_then(Value::as_str);
    if found != Some(kind) {
        return Err(KubeadmError::Kind {
            wanted: kind,
            found: found.unwrap_or("nothing").to_owned(),
        });
    }
    Ok(value)
}

/// Returns the value of a field; `None` where it, or what it is in, is not there or null.
pub fn field<'v>(document: &'v Value, path: &[String]) -> Option<&'v Value> {
    let found = path
        .iter()
        .try_fold(document, |value, key| value.get(key))?;
    (!found.is_null()).then_some(found)
}

/// Sets fields of a document; what is not edited keeps its place and its comments.
///
/// # Errors
/// See [`parse_document`]; also when a field lies inside what is no mapping, and when the edited text
/// does not read back as intended.
pub fn edit_fields(
    text: &str,
    kind: &'static str,
    edits: &[FieldEdit],
) -> Result<String, KubeadmError> {
    let before = parse_document(text, kind)?;
    let mut after = before.clone();
    for edit in edits {
        set(&mut after, &edit.path, &edit.value)?;
    }
    yaml::rewrite(text, &before, &after)
}

fn set(document: &mut Value, path: &[String], value: &Value) -> Result<(), KubeadmError> {
    let Some((last, outer)) = path.split_last() else {
        return Ok(());
    };
    let mut at = document;
    for key in outer {
        let inner = mapping(at, path)?
            .entry(key.as_str())
            .or_insert(Value::Null);
        if inner.is_null() {
            *inner = Value::Object(Map::new());
        }
        at = inner;
    }
    mapping(at, path)?.insert(last.clone(), value.clone());
    Ok(())
}

fn mapping<'v>(
    value: &'v mut Value,
    path: &[String],
) -> Result<&'v mut Map<String, Value>, KubeadmError> {
    value.as_object_mut().ok_or_else(|| KubeadmError::Shape {
        field: format!("what holds {}", path.join(".")),
        wanted: "a mapping",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    const KIND: &str = "KubeletConfiguration";
    const TEXT: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: true # for the old monitoring
  webhook: {}
kind: KubeletConfiguration
";

    fn edit(path: &[&str], value: Value) -> FieldEdit {
        FieldEdit {
            path: path.iter().map(ToString::to_string).collect(),
            value,
        }
    }

    #[test]
    fn a_field_is_set_where_it_stands_and_the_rest_is_left() {
        let edits = [
            edit(&["authentication", "anonymous", "enabled"], json!(false)),
            edit(&["evictionHard", "memory.available"], json!("100Mi")),
            edit(&["readOnlyPort"], json!(0)),
        ];
        let after = edit_fields(TEXT, KIND, &edits).unwrap();
        assert!(
            after.contains("enabled: false # for the old monitoring"),
            "{after}"
        );
        let value = parse_document(&after, KIND).unwrap();
        for one in &edits {
            assert_eq!(field(&value, &one.path), Some(&one.value));
        }
        assert_eq!(edit_fields(&after, KIND, &edits).unwrap(), after);
    }

    #[test]
    fn a_field_inside_a_scalar_is_refused() {
        let edits = [edit(&["kind", "of"], json!(1))];
        let error = edit_fields(TEXT, KIND, &edits).unwrap_err();
        assert!(matches!(error, KubeadmError::Shape { .. }), "{error}");
    }

    #[test]
    fn another_kind_is_refused() {
        let error = parse_document("kind: Pod\n", KIND).unwrap_err();
        assert!(matches!(error, KubeadmError::Kind { .. }), "{error}");
    }
}
