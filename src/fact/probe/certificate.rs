//! The answer about certificates.

use x509_parser::pem::parse_x509_pem;

use super::answer::Bad;
use super::{Answer, Fact, number};
use crate::fact::certificate::{Certificate, Certificates};
use crate::fact::sha256;

/// The most certificates of one file: an authority's bundle has a few.
const MAX_CERTIFICATES: usize = 64;

/// `d SECONDS` once, then for each certificate `b`, and `c TEXT` for each line of its base64.
pub(super) fn certificates(data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let bad = || Bad("no line of a certificate");
    let (first, rest) = data.split_first().ok_or_else(bad)?;
    let now = first.strip_prefix(b"d ").and_then(number).ok_or_else(bad)?;
    let mut texts: Vec<String> = Vec::new();
    for line in rest {
        match *line {
            b"b" => texts.push(String::new()),
            line => {
                let text = line.strip_prefix(b"c ").ok_or_else(bad)?;
                let base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
                let (true, Some(last)) = (text.iter().all(base64), texts.last_mut()) else {
                    return Err(bad());
                };
                last.push_str(&String::from_utf8_lossy(text));
                last.push('\n');
            }
        }
    }
    if texts.len() > MAX_CERTIFICATES {
        let why = format!("it holds more than {MAX_CERTIFICATES} certificates");
        return Ok(Fact::Unreadable(why));
    }
    let list: Option<Vec<Certificate>> = texts.iter().map(|text| read(text)).collect();
    Ok(match list {
        Some(list) => Fact::Value(Answer::Certificates(Certificates { now, list })),
        None => Fact::Unreadable("one of its certificates cannot be parsed".into()),
    })
}

/// Reads the base64 of one certificate.
fn read(base64: &str) -> Option<Certificate> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}-----END CERTIFICATE-----\n");
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(Certificate {
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        key_sha256: sha256(certificate.public_key().raw),
    })
}
