//! Nodes for tests: the real `transaction.sh`, run in a private mount namespace in which a scratch
//! directory is `/var/lib`. Whatever else a test changes lies under the same scratch directory.

pub mod cluster;
pub mod service;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harden::apply::node::{Client, Id, NodeError};
use harden::fact::{NodePath, sha256};
use harden::host::{Exit, Host, HostError, Limits, Output, Script, Tunnel, TunnelGuard, sent};
use harden::plan::{FileAction, FileState, FileTarget};

/// A scratch node.
#[derive(Clone)]
pub struct Sandbox {
    pub name: String,
    pub root: PathBuf,
    /// The shell, and a directory that comes first in PATH.
    pub shell: Vec<String>,
    pub bin: Option<PathBuf>,
}

/// Scratch space in memory where there is some, so that syncing costs nothing.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Runs a test on a scratch node of its own under each shell that nodes have.
pub fn each_shell(test: impl Fn(Sandbox)) {
    let dir = scratch();
    for (name, make) in [
        ("sh", (|s| s) as fn(Sandbox) -> Sandbox),
        ("bash", Sandbox::bash),
        ("busybox", Sandbox::busybox),
    ] {
        let node = make(Sandbox::new(dir.path(), name));
        test(node.clone());
        node.forget();
    }
}

/// Who holds the lock in the tests of the script.
pub const HOLDER: &str = r#"{"who":"test"}"#;

/// Locks a node, begins a transaction on it and stages all of its files.
pub fn stage(host: &mut dyn Host, id: Id, files: &[FileAction]) -> Result<(), NodeError> {
    let mut client = Client::new(host, HOLDER);
    client.lock(HOLDER, None)?;
    client.begin(id, 0, files.len(), &[])?;
    for (index, file) in files.iter().enumerate() {
        client.stage(id, index, false, file)?;
    }
    Ok(())
}

impl Sandbox {
    pub fn new(root: &Path, name: &str) -> Self {
        let root = root.join(name);
        std::fs::create_dir_all(root.join("var-lib")).unwrap();
        std::fs::create_dir_all(root.join("etc/manifests")).unwrap();
        Sandbox {
            name: name.into(),
            root,
            shell: vec!["sh".into()],
            bin: None,
        }
    }

    /// BusyBox for the shell and every tool.
    pub fn busybox(mut self) -> Self {
        let bin = self.root.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let status = Command::new("busybox")
            .args(["--install", "-s"])
            .arg(&bin)
            .status()
            .unwrap();
        assert!(status.success());
        // A node's system tools are not what is tested here.
        for tool in ["unshare", "mount"] {
            let _ = std::fs::remove_file(bin.join(tool));
        }
        self.shell = vec!["busybox".into(), "sh".into()];
        self.bin = Some(bin);
        self
    }

    pub fn bash(mut self) -> Self {
        self.shell = vec!["bash".into(), "--posix".into()];
        self
    }

    /// Starts `SHELL ARGS…` as the node's root would; `setup` runs first, in the namespace.
    pub fn spawn(&self, setup: &str, args: &[&str]) -> Child {
        let mut command = Command::new("unshare");
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        command.arg(if root { "-m" } else { "-rm" });
        let script =
            format!("mount --bind \"$1\" /var/lib && shift && {{ {setup}; }} && exec \"$@\"");
        command
            .args(["/bin/sh", "-c", &script, "sandbox"])
            .arg(self.root.join("var-lib"))
            .args(&self.shell)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(bin) = &self.bin {
            command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        }
        command.spawn().unwrap()
    }

    pub fn run_with(&self, setup: &str, script: Script, stdin: &[u8]) -> Output {
        let mut child = self.spawn(setup, &["-c", &sent(script.text), "harden"]);
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        Output {
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit: Exit::Code(output.status.code().unwrap_or(-1)),
        }
    }

    /// A path under the node's `etc`.
    pub fn path(&self, name: &str) -> NodePath {
        NodePath::new(self.root.join("etc").join(name).to_str().unwrap()).unwrap()
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.root.join("etc").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join("etc").join(name)).ok()
    }

    /// Every path under `etc` with its kind, mode, owner and content.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        walk(&self.root.join("etc"), &mut all);
        all
    }

    pub fn file(&self, name: &str) -> FileState {
        let path = self.root.join("etc").join(name);
        let Ok(content) = std::fs::read(&path) else {
            return FileState::Absent;
        };
        FileState::File {
            sha256: sha256(content),
            mode: path.metadata().unwrap().mode() & 0o7777,
            owner: "root".into(),
            group: "root".into(),
        }
    }

    pub fn set(&self, name: &str, text: &str) -> FileAction {
        FileAction {
            path: self.path(name),
            before: self.file(name),
            after: FileTarget::Text {
                text: text.into(),
                mode: 0o600,
                owner: "root".into(),
                group: "root".into(),
            },
        }
    }

    /// The namespaces of killed scripts end by themselves; watchdogs are told to by removing what
    /// they watch.
    pub fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.root.join("var-lib"));
    }
}

fn walk(dir: &Path, all: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() {
            format!(
                "{:?}",
                String::from_utf8_lossy(&std::fs::read(&path).unwrap())
            )
        } else {
            String::new()
        };
        all.insert(
            path.display().to_string(),
            format!("{:o} {} {} {content}", meta.mode(), meta.uid(), meta.gid()),
        );
        if meta.is_dir() {
            walk(&path, all);
        }
    }
}

impl Host for Sandbox {
    fn name(&self) -> &str {
        &self.name
    }
    fn run(&mut self, script: Script, stdin: &[u8], _: Limits) -> Result<Output, HostError> {
        Ok(self.run_with(":", script, stdin))
    }
    fn disconnect(&mut self) {}
    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        Ok(Tunnel {
            local: ([127, 0, 0, 1], port).into(),
            guard: TunnelGuard::default(),
        })
    }
}
