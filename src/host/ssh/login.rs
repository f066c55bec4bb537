//! Connecting, checking the host key, logging in.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ssh2::{MethodType, Session};

use super::SshConfig;
use crate::host::known_hosts::{KnownHosts, Verdict, fingerprint, key_type};
use crate::host::{HostConfig, HostError};

/// Seconds between keep-alive messages while a script says nothing.
pub(super) const KEEPALIVE: u32 = 10;

/// A session that is logged in.
pub(super) struct Connection {
    /// Of libssh2.
    pub(super) session: Session,
    /// A second handle of the session's socket, to wait on.
    pub(super) socket: TcpStream,
}

/// Connects, checks the host key, and only then shows who we are.
pub(super) fn connect(config: &HostConfig, ssh: &SshConfig) -> Result<Connection, HostError> {
    let known = known_hosts(config, ssh)?;
    let stream = tcp(config, ssh)?;
    let unreachable = |why: String, remedy: &str| HostError::Unreachable {
        node: config.name.clone(),
        address: format!("{}:{}", ssh.address, ssh.port),
        why,
        remedy: remedy.into(),
    };
    let socket = stream
        .try_clone()
        .map_err(|e| unreachable(e.to_string(), "close some files"))?;
    let mut session = Session::new().map_err(|e| unreachable(e.to_string(), "free memory"))?;
    session.set_timeout(u32::try_from(config.connect_timeout.as_millis()).unwrap_or(u32::MAX));
    session.set_tcp_stream(stream);
    // Without this, a server with several keys may offer one of a type that is not known here,
    // which would look like a changed key.
    let methods = known.methods(&config.name);
    if !methods.is_empty() {
        session
            .method_pref(MethodType::HostKey, &methods.join(","))
            .map_err(|e| {
                unreachable(e.to_string(), "remove key types that libssh2 does not know")
            })?;
    }
    session.handshake().map_err(|e| {
        unreachable(
            format!("SSH handshake: {e}"),
            "is it an SSH server? It must offer curve25519-sha256 (libssh2 has no sntrup761) and a \
             host key of a type that known_hosts has for this node",
        )
    })?;
    check_host_key(config, ssh, &known, &session)?;
    authenticate(config, ssh, &session)?;
    session.set_keepalive(true, KEEPALIVE);
    Ok(Connection { session, socket })
}

fn known_hosts(config: &HostConfig, ssh: &SshConfig) -> Result<KnownHosts, HostError> {
    KnownHosts::read(&ssh.known_hosts).map_err(|why| HostError::HostKey {
        node: config.name.clone(),
        why,
        remedy: "write the file from the nodes' consoles as docs/nodes.md shows, or name another \
                 with `known-hosts` under [nodes]"
            .into(),
    })
}

fn tcp(config: &HostConfig, ssh: &SshConfig) -> Result<TcpStream, HostError> {
    let unreachable = |why: String, remedy: String| HostError::Unreachable {
        node: config.name.clone(),
        address: format!("{}:{}", ssh.address, ssh.port),
        why,
        remedy,
    };
    let addresses = (ssh.address.as_str(), ssh.port)
        .to_socket_addrs()
        .map_err(|e| {
            let remedy = format!("correct `address` under [nodes.host.{}]", config.name);
            unreachable(e.to_string(), remedy)
        })?;
    let begin = Instant::now();
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        let left = config.connect_timeout.saturating_sub(begin.elapsed());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(unreachable(
        last,
        format!(
            "is the node up, and does sshd listen there? `address` and `port` can be set under \
             [nodes.host.{}]",
            config.name
        ),
    ))
}

fn check_host_key(
    config: &HostConfig,
    ssh: &SshConfig,
    known: &KnownHosts,
    session: &Session,
) -> Result<(), HostError> {
    let key = session.host_key().map(|(key, _)| key).unwrap_or_default();
    let (name, print) = (&config.name, fingerprint(key));
    let files: Vec<String> = ssh
        .known_hosts
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    let files = files.join(", ");
    let (why, remedy) = match known.check(name, key) {
        Verdict::Known => return Ok(()),
        Verdict::Unknown => (
            format!("unknown host key {print}: no line of {files} has a key of node {name}"),
            format!(
                "compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (or of the other \
                 types) on the node's own console; if it is the same, add the line\n\
                 {name} {} {}",
                key_type(key).unwrap_or("?"),
                STANDARD.encode(key)
            ),
        ),
        Verdict::Changed { file, line } => (
            format!("changed host key: {file}:{line} has another than {print}, which is offered"),
            "somebody may be in between. If the node was made anew, compare the fingerprint on its \
             own console and replace its lines"
                .into(),
        ),
        Verdict::Revoked { file, line } => (
            format!("revoked host key {print}: see {file}:{line}"),
            "give the node a new host key; this one must not be used any more".into(),
        ),
        Verdict::AuthorityOnly { file, line } => (
            format!("{file}:{line} is a @cert-authority line, which is not supported"),
            format!("add a line with the node's own key, under the name {name}"),
        ),
    };
    Err(HostError::HostKey {
        node: name.clone(),
        why,
        remedy,
    })
}

fn authenticate(config: &HostConfig, ssh: &SshConfig, session: &Session) -> Result<(), HostError> {
    let refused = |why: String, remedy: String| HostError::Login {
        node: config.name.clone(),
        user: ssh.user.clone(),
        why,
        remedy,
    };
    let authorize = format!(
        "add the public key to ~{}/.ssh/authorized_keys on the node",
        ssh.user
    );
    match &ssh.identity {
        Some(path) => {
            check_key_file(path).map_err(|(why, remedy)| refused(why, remedy))?;
            session
                .userauth_pubkey_file(&ssh.user, None, path, None)
                .map_err(|e| refused(format!("the key {}: {e}", path.display()), authorize))
        }
        None => with_agent(ssh, session).map_err(|why| {
            let remedy = format!(
                "`ssh-add -l` lists the agent's keys; {authorize}, or name a key file with \
                 `identity` under [nodes]"
            );
            refused(why, remedy)
        }),
    }
}

/// libssh2's own words for a missing or encrypted file do not help anybody.
fn check_key_file(path: &Path) -> Result<(), (String, String)> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        (
            format!("cannot read the key {}: {e}", path.display()),
            "correct `identity` under [nodes] (relative to the workspace), or leave it out to use \
             the SSH agent"
                .to_owned(),
        )
    })?;
    if is_encrypted(&text) {
        return Err((
            format!("the key {} has a passphrase", path.display()),
            format!(
                "`ssh-add {}` once, and leave `identity` out of harden.toml so that the agent is used",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// Whether a private key file is encrypted: PEM says so in its header, OpenSSH's own format names a
/// cipher behind its magic (OpenSSH PROTOCOL.key).
fn is_encrypted(text: &str) -> bool {
    if text.contains("ENCRYPTED") {
        return true;
    }
    let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
    let Ok(bytes) = STANDARD.decode(body) else {
        return false;
    };
    match bytes.strip_prefix(b"openssh-key-v1\0") {
        Some(rest) => rest.get(4..8) != Some(b"none"),
        None => false,
    }
}

fn with_agent(ssh: &SshConfig, session: &Session) -> Result<(), String> {
    let no_agent = |e: ssh2::Error| format!("no SSH agent can be asked ({e})");
    let mut agent = session.agent().map_err(no_agent)?;
    agent.connect().map_err(no_agent)?;
    agent.list_identities().map_err(no_agent)?;
    let identities = agent.identities().map_err(no_agent)?;
    if identities.is_empty() {
        return Err("the SSH agent has no keys".into());
    }
    for identity in &identities {
        if agent.userauth(&ssh.user, identity).is_ok() {
            return Ok(());
        }
    }
    let names: Vec<&str> = identities.iter().map(|i| i.comment()).collect();
    Err(format!(
        "the server took none of the agent's keys ({})",
        names.join(", ")
    ))
}
