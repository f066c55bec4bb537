//! Certificates that lie on a node.

use serde::{Deserialize, Serialize};

/// The certificates of one file, without whatever key is beside them, as [`Query::Certificates`] brings
/// them.
///
/// [`Query::Certificates`]: super::Query::Certificates
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Certificates {
    /// What time it is by the node's own clock, by which its programs judge certificates; seconds since
    /// 1970.
    pub now: i64,
    /// In the order of the file; none where it holds none, as a kubeconfig that names another file.
    pub list: Vec<Certificate>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Certificate {
    /// The first second at which it is valid, since 1970 (RFC 5280, 4.1.2.5).
    pub not_before: i64,
    /// The last second at which it is valid.
    pub not_after: i64,
    /// The SHA-256 of its public key with the algorithm (SubjectPublicKeyInfo in DER), in hexadecimal:
    /// the same for two certificates of one key.
    pub key_sha256: String,
}
