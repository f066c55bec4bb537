//! Encryption at rest, as it is seen: what a server's file says, and in which forms objects lie in etcd.
//!
//! Nothing here holds a key. The probe sends of `secret` only that it is there, and of objects only how
//! many there are in each form.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Meta;

/// The most groups, resources and forms that one file may name.
pub const MAX_ENTRIES: usize = 512;

/// What encrypts. Each begins what it writes with `k8s:enc:NAME:`; KMS is read and never written here.
/// Source: kubernetes v1.35 staging/src/k8s.io/apiserver/pkg/server/options/encryptionconfig/config.go
/// (`aesCBCTransformerPrefixV1` and the others).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// XSalsa20 and Poly1305.
    Secretbox,
    /// AES-CBC with PKCS#7 padding: what is written is not authenticated.
    Aescbc,
    /// AES-GCM with a random nonce: a key must not write more than 200,000 times.
    Aesgcm,
    /// A program beside the API server that holds the keys.
    Kms,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 4] = [
        Provider::Secretbox,
        Provider::Aescbc,
        Provider::Aesgcm,
        Provider::Kms,
    ];

    /// Returns the name as an EncryptionConfiguration has it.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Secretbox => "secretbox",
            Provider::Aescbc => "aescbc",
            Provider::Aesgcm => "aesgcm",
            Provider::Kms => "kms",
        }
    }

    /// Finds the provider of a name.
    pub fn named(name: &str) -> Option<Self> {
        Provider::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// The name of a key: letters, digits, `.`, `_` and `-`, at most 63 bytes. It stands in clear before
/// every object that the key encrypts. Kubernetes allows more; a file with such a name is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

impl KeyName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// That it is none; the text itself is not in the error, since it may be a key in the wrong place.
    pub fn new(name: impl Into<String>) -> Result<Self, &'static str> {
        let name = name.into();
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=63).contains(&name.len()) && name.bytes().all(good) {
            Ok(KeyName(name))
        } else {
            Err("a key's name is letters, digits, `.`, `_` and `-`, at most 63 of them")
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyName {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, &'static str> {
        KeyName::new(name)
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> String {
        name.0
    }
}

/// How an object can be written in etcd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it is: the provider `identity`.
    Clear,
    /// Encrypted.
    Key {
        /// By what.
        provider: Provider,
        /// Under which key; of KMS, the plugin's name.
        name: KeyName,
    },
}

impl Form {
    /// Names a key; for tests and for what is made here.
    ///
    /// # Errors
    /// See [`KeyName::new`].
    pub fn key(provider: Provider, name: &str) -> Result<Self, &'static str> {
        let name = KeyName::new(name)?;
        Ok(Form::Key { provider, name })
    }

    /// Whether it is no encryption.
    pub fn is_clear(&self) -> bool {
        *self == Form::Clear
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Clear => f.write_str("in clear"),
            Form::Key { provider, name } => {
                write!(f, "{} key {}", provider.name(), name.as_str())
            }
        }
    }
}

/// Some resources of an EncryptionConfiguration, and the forms in which they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// As in the file: `secrets`, `deployments.apps`, `*.*`.
    pub resources: Vec<String>,
    /// In their order: new objects are written in the first, all are read.
    pub forms: Vec<Form>,
}

/// A server's file, without its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EncryptionFile {
    /// Mode and owner.
    pub meta: Meta,
    /// SHA-256 of the whole file, as the API server's metric has it: 64 hexadecimal digits.
    pub sha256: String,
    /// When it was last written, in seconds of Unix time.
    pub written: u64,
    /// What it says, in its order.
    pub groups: Vec<Group>,
}

/// The form of an object, as its first bytes tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredForm {
    /// One that is known.
    Form(Form),
    /// Neither encrypted by a known provider nor what Kubernetes writes in clear.
    Other,
}

impl fmt::Display for StoredForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredForm::Form(form) => form.fmt(f),
            StoredForm::Other => f.write_str("in an unknown form"),
        }
    }
}

/// How many objects are in each form, in one member of etcd.
pub type Stored = BTreeMap<StoredForm, u64>;

/// Where objects of a resource lie in etcd: `/registry/secrets/`, with the slashes. Lower-case letters,
/// digits, `.`, `-` and `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EtcdPrefix(String);

impl EtcdPrefix {
    /// Checks and wraps a prefix.
    ///
    /// # Errors
    /// That it is none.
    pub fn new(prefix: impl Into<String>) -> Result<Self, String> {
        let prefix = prefix.into();
        let good =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'/');
        let whole = prefix.starts_with('/') && prefix.ends_with('/') && !prefix.contains("//");
        if whole && (3..=512).contains(&prefix.len()) && prefix.bytes().all(good) {
            Ok(EtcdPrefix(prefix))
        } else {
            Err(format!("{prefix:?} is no prefix of keys in etcd"))
        }
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EtcdPrefix {
    type Error = String;
    fn try_from(prefix: String) -> Result<Self, String> {
        EtcdPrefix::new(prefix)
    }
}

impl From<EtcdPrefix> for String {
    fn from(prefix: EtcdPrefix) -> String {
        prefix.0
    }
}

impl fmt::Display for EtcdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an API server says of the configuration that it has loaded, in its metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Loaded {
    /// SHA-256 of the file that it has loaded: 64 hexadecimal digits.
    pub sha256: String,
    /// How many reloads it has refused since it started; it then goes on with what it had.
    pub refused: u64,
}

/// Whether some text is a SHA-256 as digits.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
