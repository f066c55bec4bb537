//! An sshd of our own, on a free port of 127.0.0.1, with keys of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harden::host::ssh::SshConfig;
use harden::host::{Host, HostConfig, Transport, open};

/// The node's name in all tests; no name that resolves.
pub(crate) const NODE: &str = "cp1";

/// A running sshd; ends with this value.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    sshd: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// Runs a program that must succeed.
pub(crate) fn must(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} (Debian: openssh-client): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a key pair.
pub(crate) fn keygen(file: &Path, kind: &str, passphrase: &str) {
    let file = file.to_str().unwrap();
    must(
        "ssh-keygen",
        &["-q", "-t", kind, "-N", passphrase, "-f", file],
    );
}

fn sshd_program() -> PathBuf {
    ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .expect("sshd is not installed; these tests need it (Debian: openssh-server)")
}

impl Server {
    /// Starts one that offers host keys of these types and accepts the key `user`.
    pub(crate) fn start(host_keys: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        keygen(&at("user"), "ed25519", "");
        fs::copy(at("user.pub"), at("authorized_keys")).unwrap();
        let mut config = String::new();
        for kind in host_keys {
            let key = at(&format!("host_{kind}"));
            keygen(&key, kind, "");
            config.push_str(&format!("HostKey {}\n", key.display()));
        }
        // A sudo that each test can make behave as it needs.
        fs::create_dir(at("bin")).unwrap();
        write_program(&at("bin/sudo"), "#!/bin/sh\nshift\nSUDO=yes exec \"$@\"\n");
        config.push_str(&format!(
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin yes\nAllowTcpForwarding yes\n\
             LogLevel ERROR\nMaxStartups 100\nAuthorizedKeysFile {}\nSetEnv PATH={}:/usr/bin:/bin\n",
            at("authorized_keys").display(),
            at("bin").display()
        ));
        fs::write(at("sshd_config"), config).unwrap();
        // sshd as root wants this directory; the service's unit makes it.
        let _ = fs::create_dir("/run/sshd");
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let sshd = Command::new(sshd_program())
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(at("sshd_config"))
            .args(["-o", "ListenAddress=127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Server { dir, port, sshd };
        server.make_known(host_keys);
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(server.at("log")).unwrap();
            assert!(Instant::now() < end, "sshd does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The two fields of a host key.
    pub(crate) fn host_key(&self, kind: &str) -> String {
        let line = fs::read_to_string(self.at(&format!("host_{kind}.pub"))).unwrap();
        line.split(' ')
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .to_owned()
    }

    /// Writes known_hosts with these keys of the server.
    pub(crate) fn make_known(&self, kinds: &[&str]) {
        let lines: String = kinds
            .iter()
            .map(|kind| format!("{NODE} {}\n", self.host_key(kind)))
            .collect();
        fs::write(self.at("known_hosts"), lines).unwrap();
    }

    pub(crate) fn config(&self) -> SshConfig {
        SshConfig {
            address: "127.0.0.1".into(),
            port: self.port,
            user: must("id", &["-un"]).trim().into(),
            sudo: false,
            identity: Some(self.at("user")),
            known_hosts: vec![self.at("known_hosts")],
        }
    }

    pub(crate) fn host(&self) -> Box<dyn Host> {
        host(self.config())
    }
}

pub(crate) fn host(ssh: SshConfig) -> Box<dyn Host> {
    open(HostConfig {
        name: NODE.into(),
        transport: Transport::Ssh(ssh),
        connect_timeout: Duration::from_secs(20),
    })
}

/// Another process writes it: what this one writes, a child of another test may still hold open for
/// writing, and then it cannot be started.
pub(crate) fn write_program(path: &Path, text: &str) {
    let write = "rm -f \"$1\"; printf %s \"$2\" >\"$1\"; chmod 755 \"$1\"";
    must("sh", &["-c", write, "sh", path.to_str().unwrap(), text]);
}
