//! One line of a known_hosts file: marker, hosts, key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{Place, key_type};

/// A line that is neither empty nor a comment.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) marker: Marker,
    pub(super) hosts: Hosts,
    pub(super) content: Content,
}

/// What the key of a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// It is the host's.
    None,
    /// It signs host certificates.
    Authority,
    /// It must not be trusted.
    Revoked,
}

/// The key of a line.
#[derive(Debug)]
pub(super) enum Content {
    Key { kind: String, blob: Vec<u8> },
    Malformed(&'static str),
}

/// Which hosts a line is about.
#[derive(Debug)]
pub(super) enum Hosts {
    /// Patterns, of which one must match and no negated one.
    Patterns(Vec<String>),
    /// One name, hashed.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
    /// It cannot be read, so it says nothing of any host.
    Unreadable,
    /// It cannot be read in a line that revokes, so it may be about any host.
    Any,
}

impl Line {
    /// Reads a line; `None` for an empty one and a comment.
    pub(super) fn parse(place: Place, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() || bytes[0] == b'#' {
            return None;
        }
        let whole = |marker, hosts, content| {
            Some(Line {
                place,
                marker,
                hosts,
                content,
            })
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return whole(
                marker_of_bytes(bytes),
                unreadable(marker_of_bytes(bytes)),
                Content::Malformed("is not UTF-8 text"),
            );
        };
        let mut fields = text.split([' ', '\t']).filter(|field| !field.is_empty());
        let mut field = fields.next();
        let marker = match field {
            Some("@revoked") => Marker::Revoked,
            Some("@cert-authority") => Marker::Authority,
            Some(other) if other.starts_with('@') => {
                return whole(
                    Marker::None,
                    Hosts::Unreadable,
                    Content::Malformed("has an unknown marker"),
                );
            }
            _ => Marker::None,
        };
        if marker != Marker::None {
            field = fields.next();
        }
        let hosts = field.and_then(Hosts::parse);
        let Some(hosts) = hosts else {
            return whole(
                marker,
                unreadable(marker),
                Content::Malformed("has no readable host"),
            );
        };
        let content = match (fields.next(), fields.next()) {
            (Some(kind), Some(key)) => key_of(kind, key),
            _ => Content::Malformed("has no key"),
        };
        whole(marker, hosts, content)
    }
}

fn marker_of_bytes(bytes: &[u8]) -> Marker {
    if bytes.starts_with(b"@revoked") {
        Marker::Revoked
    } else {
        Marker::None
    }
}

fn unreadable(marker: Marker) -> Hosts {
    match marker {
        Marker::Revoked => Hosts::Any,
        _ => Hosts::Unreadable,
    }
}

/// A key whose blob says the same type as the field before it.
fn key_of(kind: &str, key: &str) -> Content {
    match STANDARD.decode(key) {
        Ok(blob) if key_type(&blob) == Some(kind) => Content::Key {
            kind: kind.to_owned(),
            blob,
        },
        Ok(_) => Content::Malformed("has a key of another type than it says"),
        Err(_) => Content::Malformed("has a key that is not base64"),
    }
}

impl Hosts {
    fn parse(field: &str) -> Option<Self> {
        let Some(hashed) = field.strip_prefix('|') else {
            return Some(Hosts::Patterns(
                field.split(',').map(str::to_ascii_lowercase).collect(),
            ));
        };
        let (salt, hash) = hashed.strip_prefix("1|")?.split_once('|')?;
        let (salt, hash) = (STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?);
        (salt.len() == 20 && hash.len() == 20).then_some(Hosts::Hashed { salt, hash })
    }

    /// Whether the lower-case name is meant.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Hosts::Any => true,
            Hosts::Unreadable => false,
            Hosts::Hashed { salt, hash } => {
                // A key of any length suits HMAC, so this always goes on.
                let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else {
                    return false;
                };
                mac.update(name.as_bytes());
                mac.verify_slice(hash).is_ok()
            }
            Hosts::Patterns(patterns) => {
                let mut positive = false;
                for pattern in patterns {
                    match pattern.strip_prefix('!') {
                        Some(negated) if wildcard(negated.as_bytes(), name.as_bytes()) => {
                            return false;
                        }
                        Some(_) => {}
                        None => positive |= wildcard(pattern.as_bytes(), name.as_bytes()),
                    }
                }
                positive
            }
        }
    }
}

/// Matches `*` (any characters) and `?` (any one), in time proportional to the product of lengths.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, eaten)) => {
                    star = Some((at, eaten + 1));
                    p = at + 1;
                    t = eaten + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}
