//! Logging in: by a key file, or by the keys of ssh-agent.

use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ssh2::{ErrorCode, Session};

use super::{Target, millis, until};
use crate::host::HostError;

/// libssh2's code for "this file holds no key that I can read".
const BAD_FILE: ErrorCode = ErrorCode::Session(-16);

/// Logs in.
pub(super) fn log_in(target: &Target, session: &Session, end: Instant) -> Result<(), HostError> {
    session.set_timeout(millis(until(end)));
    let Some(path) = &target.ssh.identity else {
        return by_agent(target, session, None);
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        let why = format!("cannot read the key {}: {error}", path.display());
        failed(
            target,
            why,
            "set `identity` to a private key file that you may read",
        )
    })?;
    match Key::of(&text) {
        Key::Plain => by_text(target, session, path, &text),
        Key::Public(blob) => by_agent(target, session, Some((path, &blob))),
        Key::Encrypted => match public_half(path) {
            Some(blob) => by_agent(target, session, Some((path, &blob))),
            None => Err(protected(target, path)),
        },
    }
}

/// What a key file holds.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// A private key, or what libssh2 may take for one.
    Plain,
    /// A private key under a passphrase.
    Encrypted,
    /// A public key's blob.
    Public(Vec<u8>),
}

impl Key {
    fn of(text: &str) -> Key {
        let mut words = text.split_ascii_whitespace();
        if let (Some(kind), Some(blob)) = (words.next(), words.next())
            && let Ok(blob) = STANDARD.decode(blob)
            && crate::host::known_hosts::key_type(&blob) == Some(kind)
        {
            return Key::Public(blob);
        }
        // PEM says it in its headers, PKCS #8 in its name.
        let pem = text.lines().any(|line| {
            line.starts_with("Proc-Type:") && line.contains("ENCRYPTED")
                || line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY")
        });
        // OpenSSH's own format names the cipher behind its magic (PROTOCOL.key).
        let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
        let openssh = STANDARD.decode(body.trim()).is_ok_and(|bytes| {
            bytes
                .strip_prefix(b"openssh-key-v1\0")
                .is_some_and(|rest| !rest.starts_with(b"\0\0\0\x04none"))
        });
        if pem || openssh {
            Key::Encrypted
        } else {
            Key::Plain
        }
    }
}

/// The public key that ssh-keygen writes beside a private one.
fn public_half(path: &Path) -> Option<Vec<u8>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    match Key::of(&std::fs::read_to_string(PathBuf::from(beside)).ok()?) {
        Key::Public(blob) => Some(blob),
        _ => None,
    }
}

fn by_text(target: &Target, session: &Session, path: &Path, text: &str) -> Result<(), HostError> {
    let path = path.display();
    match session.userauth_pubkey_memory(&target.ssh.user, None, text, None) {
        Ok(()) if session.authenticated() => Ok(()),
        Err(error) if error.code() == BAD_FILE => Err(failed(
            target,
            format!(
                "{path} is no private key that can be read: {}",
                error.message()
            ),
            "set `identity` to a private key in OpenSSH or PEM format",
        )),
        Err(error) => Err(failed(
            target,
            format!("the key {path} was not accepted: {}", error.message()),
            refusal(target),
        )),
        Ok(()) => Err(failed(
            target,
            format!("the key {path} alone is not enough"),
            "let the node's sshd accept a key without a second factor for this user",
        )),
    }
}

/// Tries the agent's keys, or just the one with this public half.
fn by_agent(
    target: &Target,
    session: &Session,
    only: Option<(&Path, &[u8])>,
) -> Result<(), HostError> {
    let no_agent = |error: ssh2::Error| match only {
        Some((path, _)) => protected(target, path),
        None => failed(
            target,
            format!("ssh-agent does not answer: {}", error.message()),
            "start ssh-agent and run `ssh-add`, or set `identity` to a private key file",
        ),
    };
    let mut agent = session.agent().map_err(no_agent)?;
    agent.connect().map_err(no_agent)?;
    agent.list_identities().map_err(no_agent)?;
    let mut keys = agent.identities().map_err(no_agent)?;
    if let Some((path, blob)) = only {
        keys.retain(|key| key.blob() == blob);
        if keys.is_empty() {
            return Err(protected(target, path));
        }
    }
    if keys.is_empty() {
        return Err(failed(
            target,
            "ssh-agent holds no key",
            "add one with `ssh-add`, or set `identity` to a private key file",
        ));
    }
    let mut last = String::new();
    for key in &keys {
        match agent.userauth(&target.ssh.user, key) {
            Ok(()) if session.authenticated() => return Ok(()),
            Ok(()) => last = "a key alone is not enough".to_owned(),
            Err(error) => last = error.message().to_owned(),
        }
    }
    Err(failed(
        target,
        format!(
            "none of {} keys of ssh-agent was accepted: {last}",
            keys.len()
        ),
        format!(
            "{}; with many keys in the agent, set `identity` to the right public key file",
            refusal(target)
        ),
    ))
}

fn failed(target: &Target, why: impl Into<String>, remedy: impl Into<String>) -> HostError {
    HostError::Login {
        node: target.node.clone(),
        user: target.ssh.user.clone(),
        why: why.into(),
        remedy: remedy.into(),
    }
}

fn refusal(target: &Target) -> String {
    format!(
        "check that the public key stands in {}'s ~/.ssh/authorized_keys on the node",
        target.ssh.user
    )
}

fn protected(target: &Target, path: &Path) -> HostError {
    let path = path.display();
    failed(
        target,
        format!(
            "the private key of {path} needs a passphrase or is missing, and ssh-agent does not hold it"
        ),
        format!("start ssh-agent and run `ssh-add {path}`; no passphrase is asked for here"),
    )
}
