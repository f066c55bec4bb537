//! Files with their keys. What is here is in no fact, plan or record, and never shown.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::machine::Rows;
use crate::fact::encryption::{Form, KeyName, Provider};

/// The length of a key that is made here, in bytes: what secretbox needs, and the most that AES takes.
pub const KEY_BYTES: usize = 32;

/// A key as a file has it: base64. It is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

impl Secret {
    /// Wraps the base64 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use base64::Engine;
        let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
        base64::engine::general_purpose::STANDARD.encode_string(bytes, &mut text);
        Secret(text)
    }

    /// Reads a key of [`KEY_BYTES`] bytes in base64, with its padding; white space around it does not count.
    ///
    /// # Errors
    /// How it differs from that. Nothing of it is in the error.
    pub fn given(text: &[u8]) -> Result<Self, String> {
        use base64::Engine;
        let text = text.trim_ascii();
        // More than fits, so that what is too long is told by its length.
        let mut bytes = Zeroizing::new([0; 3 * KEY_BYTES]);
        let decoded =
            base64::engine::general_purpose::STANDARD.decode_slice(text, bytes.as_mut_slice());
        match decoded {
            Ok(KEY_BYTES) => Ok(Secret::of(&bytes[..KEY_BYTES])),
            Ok(count) => Err(format!("it is the base64 of {count} bytes")),
            Err(base64::DecodeSliceError::OutputSliceTooSmall) => {
                Err(format!("it is {} characters long", text.len()))
            }
            // Its own words name a byte of what was read.
            Err(base64::DecodeSliceError::DecodeError(_)) => Err("it is no base64".into()),
        }
    }

    /// Returns the base64. Whoever copies it wipes the copy.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The keys of one or several files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<Form, Secret>);

/// Why a file cannot be read or written with its keys. No text of the file is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It is not in the style that is understood.
    #[error("line {0} is not in the plain block style that harden reads")]
    Style(usize),
    /// Another key under the same name.
    #[error("{0} is another key than the one of that name in another file")]
    Differs(Form),
    /// A form without a key to it.
    #[error("no file has the key of {0}")]
    Missing(Form),
    /// The settings of its plugin are not known here.
    #[error("it names a KMS plugin, whose settings harden does not write")]
    Kms,
}

impl Keys {
    /// Reads a file, line by line and without a parser that would copy what is in it: the same style of
    /// which the probe tells the rest (`query_encryption` in fact/probe.sh).
    ///
    /// # Errors
    /// When a line is in another style, or the file names a KMS plugin.
    pub fn read(text: &str) -> Result<Self, KeysError> {
        let mut keys = Keys::default();
        let mut provider = None;
        let mut name: Option<KeyName> = None;
        let mut secret: Option<Secret> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let bad = || KeysError::Style(number);
            let line = line.trim_matches(' ');
            let (item, line) = match line.strip_prefix("- ") {
                Some(rest) => (true, rest.trim_start_matches(' ')),
                None => (false, line),
            };
            if line == "kms:" {
                return Err(KeysError::Kms);
            }
            if let Some(found) = line.strip_suffix(':').and_then(Provider::named) {
                provider = Some(found);
                continue;
            }
            let value = |field: &str| line.strip_prefix(field).map(unquoted);
            if let Some(text) = value("name: ") {
                if item {
                    secret = None;
                }
                name = Some(KeyName::new(text).map_err(|_| bad())?);
            } else if let Some(text) = value("secret: ") {
                if item {
                    name = None;
                }
                let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
                if text.is_empty() || !text.bytes().all(good) {
                    return Err(bad());
                }
                secret = Some(Secret(Zeroizing::new(text.to_owned())));
            } else {
                continue;
            }
            if name.is_some()
                && let Some(secret) = secret.take()
            {
                let (Some(provider), Some(name)) = (provider, name.take()) else {
                    return Err(bad());
                };
                keys.add(Form::Key { provider, name }, secret)?;
            }
        }
        Ok(keys)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When there is another one of its name.
    pub fn add(&mut self, form: Form, secret: Secret) -> Result<(), KeysError> {
        match self.0.get(&form) {
            Some(known) if *known != secret => Err(KeysError::Differs(form)),
            _ => {
                self.0.insert(form, secret);
                Ok(())
            }
        }
    }

    /// Returns the form under which this key is known already.
    pub fn find(&self, secret: &Secret) -> Option<&Form> {
        let mut all = self.0.iter();
        all.find(|(_, known)| *known == secret)
            .map(|(form, _)| form)
    }

    /// Adds all keys of others.
    ///
    /// # Errors
    /// When two are of one name and are not the same.
    pub fn unite(&mut self, others: Keys) -> Result<(), KeysError> {
        for (form, secret) in others.0 {
            self.add(form, secret)?;
        }
        Ok(())
    }

    /// Writes a file: the same rows and keys give the same bytes, on every control plane.
    ///
    /// # Errors
    /// When a key is missing.
    pub fn file(&self, rows: &Rows) -> Result<Zeroizing<String>, KeysError> {
        // Large enough from the beginning: a text that grows leaves copies behind.
        let entries: usize = rows.values().map(|row| row.len() + 1).sum();
        let mut text = Zeroizing::new(String::with_capacity(1024 + entries * 512));
        text.push_str(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n",
        );
        for (resources, row) in groups(rows) {
            text.push_str("- resources:\n");
            for resource in resources {
                text.push_str("  - \"");
                text.push_str(resource);
                text.push_str("\"\n");
            }
            text.push_str("  providers:\n");
            let mut last = None;
            for form in row {
                let Form::Key { provider, name } = form else {
                    text.push_str("  - identity: {}\n");
                    last = None;
                    continue;
                };
                if *provider == Provider::Kms {
                    return Err(KeysError::Kms);
                }
                let secret = self
                    .0
                    .get(form)
                    .ok_or_else(|| KeysError::Missing(form.clone()))?;
                if last != Some(*provider) {
                    text.push_str("  - ");
                    text.push_str(provider.name());
                    text.push_str(":\n      keys:\n");
                    last = Some(*provider);
                }
                text.push_str("      - name: \"");
                text.push_str(name.as_str());
                text.push_str("\"\n        secret: ");
                text.push_str(secret.expose());
                text.push('\n');
            }
        }
        Ok(text)
    }
}

/// Names a key that is made at this time of Unix seconds: `k20261126-175400`. Later ones are greater.
pub fn key_name(seconds: u64) -> Option<KeyName> {
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    KeyName::new(time.strftime("k%Y%m%d-%H%M%S").to_string()).ok()
}

/// Returns when a key was made that has a name as [`key_name`] gives it, in seconds of Unix time.
pub fn made_at(name: &KeyName) -> Option<u64> {
    if !is_named_here(name) {
        return None;
    }
    let time = jiff::civil::DateTime::strptime("k%Y%m%d-%H%M%S", name.as_str()).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

/// Whether a key has a name as [`key_name`] gives it.
pub fn is_named_here(name: &KeyName) -> bool {
    let mut parts = name.as_str().strip_prefix('k').unwrap_or("").split('-');
    let mut digits = |count: usize| {
        let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        parts
            .next()
            .is_some_and(|part| part.len() == count && is_number(part))
    };
    digits(8) && digits(6) && parts.next().is_none()
}

/// Resources that are read in the same way together; rules for many resources for themselves and last,
/// since the API server refuses what an earlier one of them covers.
fn groups(rows: &Rows) -> Vec<(Vec<&str>, &[Form])> {
    let mut groups: Vec<(Vec<&str>, &[Form])> = Vec::new();
    let mut wide: Vec<(Vec<&str>, &[Form])> = Vec::new();
    for (resource, row) in rows {
        if resource.contains('*') {
            wide.push((vec![resource], row));
            continue;
        }
        match groups.iter_mut().find(|(_, same)| *same == row.as_slice()) {
            Some((resources, _)) => resources.push(resource),
            None => groups.push((vec![resource], row)),
        }
    }
    wide.sort_by_key(|(resources, _)| resources.contains(&"*.*"));
    groups.extend(wide);
    groups
}

fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn form(provider: Provider, name: &str) -> Form {
        Form::key(provider, name).unwrap()
    }

    #[test]
    fn a_file_is_written_in_one_way_and_read_again() {
        let mut keys = Keys::default();
        let (new, old) = (
            form(Provider::Secretbox, "b"),
            form(Provider::Secretbox, "a"),
        );
        let other = form(Provider::Aescbc, "a");
        for (form, byte) in [(&new, 1), (&old, 2), (&other, 3)] {
            keys.add(form.clone(), Secret::of(&[byte; KEY_BYTES]))
                .unwrap();
        }
        let rows = Rows::from([
            ("*.*".to_owned(), vec![Form::Clear, new.clone()]),
            ("*.apps".to_owned(), vec![new.clone()]),
            (
                "configmaps".to_owned(),
                vec![new.clone(), old.clone(), Form::Clear, other.clone()],
            ),
            (
                "secrets".to_owned(),
                vec![new.clone(), old.clone(), Form::Clear, other],
            ),
        ]);
        let file = keys.file(&rows).unwrap();
        insta::assert_snapshot!(file.as_str(), @r#"
        apiVersion: apiserver.config.k8s.io/v1
        kind: EncryptionConfiguration
        resources:
        - resources:
          - "configmaps"
          - "secrets"
          providers:
          - secretbox:
              keys:
              - name: "b"
                secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
              - name: "a"
                secret: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
          - identity: {}
          - aescbc:
              keys:
              - name: "a"
                secret: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
        - resources:
          - "*.apps"
          providers:
          - secretbox:
              keys:
              - name: "b"
                secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
        - resources:
          - "*.*"
          providers:
          - identity: {}
          - secretbox:
              keys:
              - name: "b"
                secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
        "#);
        assert_eq!(Keys::read(&file).unwrap(), keys);
    }

    #[test]
    fn names_of_keys_tell_their_age() {
        let name = key_name(1_795_715_640).unwrap();
        assert_eq!(name.as_str(), "k20261126-175400");
        assert!(is_named_here(&name));
        assert_eq!(made_at(&name), Some(1_795_715_640));
        assert_eq!(made_at(&KeyName::new("k20261399-175400").unwrap()), None);
        for other in [
            "key1",
            "k2026112-175400",
            "k20261126-17540x",
            "k20261126",
            "k20261126-175400-1",
        ] {
            assert!(!is_named_here(&KeyName::new(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn kubespray_3964_one_name_is_one_key() {
        let text = |key: u8| {
            let secret = Secret::of(&[key; KEY_BYTES]);
            format!(
                "- aescbc:\n    keys:\n    - secret: {}\n      name: key1\n",
                secret.expose()
            )
        };
        let mut keys = Keys::read(&text(1)).unwrap();
        keys.unite(Keys::read(&text(1)).unwrap()).unwrap();
        let differs = keys.unite(Keys::read(&text(2)).unwrap()).unwrap_err();
        assert_eq!(differs, KeysError::Differs(form(Provider::Aescbc, "key1")));
        let both = text(1) + &text(2);
        assert!(matches!(Keys::read(&both), Err(KeysError::Differs(_))));
    }

    #[test]
    fn no_word_of_a_key_is_in_an_error_or_a_debug_line() {
        let secret = Secret::of(b"canary-canary-canary-canary-key!");
        let base64 = secret.expose().to_owned();
        let mut keys = Keys::default();
        keys.add(form(Provider::Secretbox, "a"), secret).unwrap();
        let rows = Rows::from([("secrets".into(), vec![form(Provider::Secretbox, "b")])]);
        let missing = keys.file(&rows).unwrap_err();
        let style = Keys::read(&format!(
            "- aescbc:\n    keys:\n    - name: a\n      secret: &x {base64}\n"
        ));
        let said = format!("{keys:?} {missing:?} {missing} {style:?}");
        assert!(
            !said.contains(&base64[..8]) && !said.contains("canary"),
            "{said}"
        );
        assert!(style.is_err());
        assert_eq!(Keys::read("- kms:\n    name: a\n"), Err(KeysError::Kms));
    }

    #[test]
    fn a_given_key_is_of_32_bytes_and_no_word_of_it_is_in_an_error() {
        let bytes = *b"canary\x00canary\xffcanary-canary-key!";
        let secret = Secret::of(&bytes);
        for around in ["", "\n", " \r\n"] {
            let text = format!("{}{around}", secret.expose());
            assert_eq!(Secret::given(text.as_bytes()), Ok(secret.clone()));
        }
        let base64 = |count: usize| Secret::of(&vec![b'y'; count]).expose().to_owned();
        for (text, why) in [
            (base64(16), "of 16 bytes"),
            (base64(33), "of 33 bytes"),
            (base64(500), "668 characters"),
            (String::new(), "of 0 bytes"),
            ("canary-canary-canary-canary-key!".into(), "no base64"),
            (secret.expose().trim_end_matches('=').into(), "no base64"),
            (secret.expose().replacen('Y', "\n", 1), "no base64"),
        ] {
            let error = Secret::given(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("canary") && !error.contains("eXl5"));
        }
        let mut keys = Keys::default();
        let form = form(Provider::Aescbc, "a");
        keys.add(form.clone(), secret.clone()).unwrap();
        assert_eq!(keys.find(&secret), Some(&form));
        assert_eq!(keys.find(&Secret::of(&[1; KEY_BYTES])), None);
    }

    fn any_form() -> impl Strategy<Value = Form> {
        prop_oneof![
            Just(Form::Clear),
            (0usize..3, "[A-Za-z0-9._-]{1,63}").prop_map(|(n, name)| form(Provider::ALL[n], &name)),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_again(
            rows in prop::collection::btree_map("[a-z]{1,9}", prop::collection::vec(any_form(), 1..5), 1..5),
        ) {
            let mut keys = Keys::default();
            let forms = rows.values().flatten().filter(|form| !form.is_clear());
            for (n, form) in (0u8..).zip(forms) {
                // One that stands there twice has its key already.
                let _ = keys.add(form.clone(), Secret::of(&[n; KEY_BYTES]));
            }
            let file = keys.file(&rows).unwrap();
            prop_assert_eq!(Keys::read(&file).unwrap(), keys);
        }
    }
}
