//! From an address to a session with a host that is known.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Instant;

use ssh2::{ErrorCode, MethodType, Session};

use super::{Connection, Target, millis, until};
use crate::host::HostError;
use crate::host::known_hosts::{self, KnownHosts, Outcome, fingerprint, key_type};

/// libssh2's code for "no method in common".
const KEY_EXCHANGE: ErrorCode = ErrorCode::Session(-5);

/// Connects and checks the host key. Nobody is logged in yet.
pub(super) fn connect(target: &Target, end: Instant) -> Result<Connection, HostError> {
    let known = KnownHosts::read(&target.ssh.known_hosts).map_err(|error| HostError::HostKey {
        node: target.node.clone(),
        why: format!("cannot read {}: {}", error.file.display(), error.source),
        remedy: "make the file readable, or take it out of `known-hosts`".into(),
    })?;
    let socket = dial(target, end)?;
    let failed = |error: ssh2::Error| {
        let remedy = if error.code() == KEY_EXCHANGE {
            "let the node's sshd offer one of ours: curve25519-sha256 in KexAlgorithms, \
             aes256-gcm@openssh.com in Ciphers, ssh-ed25519 in HostKeyAlgorithms"
        } else {
            "check that an SSH server listens there, and its MaxStartups"
        };
        target.unreachable(format!("the SSH handshake failed: {error}"), remedy)
    };
    let mut session = Session::new().map_err(failed)?;
    let kept = socket.try_clone().map_err(|error| {
        target.unreachable(
            error.to_string(),
            "look at this machine's limit on open files",
        )
    })?;
    session.set_tcp_stream(socket);
    session.set_timeout(millis(until(end)));
    let algorithms = known.algorithms(&target.node, target.ssh.port);
    session
        .method_pref(MethodType::HostKey, &algorithms)
        .map_err(failed)?;
    session.handshake().map_err(failed)?;
    let connection = Connection {
        session,
        socket: kept,
    };
    match connection.session.host_key() {
        Some((key, _)) => check(target, &known, key)?,
        None => {
            return Err(
                target.unreachable("it shows no host key", "check that it is an SSH server")
            );
        }
    }
    Ok(connection)
}

/// Tries the addresses one after the other.
fn dial(target: &Target, end: Instant) -> Result<TcpStream, HostError> {
    let remedy = "check the node's address and port, and that its sshd runs";
    let address = (target.ssh.address.as_str(), target.ssh.port);
    let addresses = address
        .to_socket_addrs()
        .map_err(|error| target.unreachable(error.to_string(), remedy))?;
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        let left = until(end);
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => {
                // Small packets travel both ways in a run; waiting to fill them only delays.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(target.unreachable(why, remedy))
}

/// Judges the host key: nothing but [`Outcome::Known`] passes.
fn check(target: &Target, known: &KnownHosts, key: &[u8]) -> Result<(), HostError> {
    let node = &target.node;
    let kind = key_type(key).unwrap_or("unknown");
    let print = fingerprint(key);
    let compare = format!(
        "on the node's console, compare with `ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub`",
        match kind {
            "ssh-rsa" => "rsa",
            kind if kind.starts_with("ecdsa") => "ecdsa",
            _ => "ed25519",
        }
    );
    let line = known_hosts::line(node, key);
    let file = target.ssh.known_hosts.first();
    let file = file.map_or("a known_hosts file".to_owned(), |f| f.display().to_string());
    let (why, remedy) = match known.look_up(node, target.ssh.port, key) {
        Outcome::Known => return Ok(()),
        Outcome::Unknown {
            other_types,
            authority,
        } => {
            let mut why = format!("its host key {print} ({kind}) is unknown");
            if !other_types.is_empty() {
                why.push_str(&format!("; it is known by {}", other_types.join(", ")));
            }
            if let Some(place) = authority {
                why.push_str(&format!(
                    "; {place} trusts an authority, but host certificates are not supported"
                ));
            }
            let remedy =
                format!("{compare}; only if it is the same, add this line to {file}: {line}");
            (why, remedy)
        }
        Outcome::Changed(place) => (
            format!("its host key {print} ({kind}) is not the one in {place}"),
            format!(
                "somebody may stand between you and the node; {compare}; only if it is the same, \
                 replace {place} by: {line}"
            ),
        ),
        Outcome::Revoked(place) => (
            format!("its host key {print} ({kind}) is revoked in {place}"),
            "do not use this node until it has a new host key".to_owned(),
        ),
        Outcome::Malformed(place, what) => (
            format!("{place} {what}, so its host key {print} ({kind}) cannot be judged"),
            format!("repair {place}"),
        ),
    };
    Err(HostError::HostKey {
        node: node.clone(),
        why,
        remedy,
    })
}
