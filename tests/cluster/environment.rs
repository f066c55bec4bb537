//! A real cluster of the test environment, and a workspace of the test's own for it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load_client::LoadClient;

/// By which means the nodes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Ssh,
    Docker,
}

/// One of the environment's clusters.
pub struct Cluster {
    topology: &'static str,
    run: PathBuf,
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Asserts the exit status and shows everything when it is another.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            Some(status),
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts that stdout and stderr together hold a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "nobody said {text:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("JSON on stdout")
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Said {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("a program that starts");
    Said {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut ask: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ask() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The cluster with one control plane. There are two of them, so that two halves of the tests can run at
/// the same time: `HARDEN_TESTENV_SINGLE` names the one that these have.
pub fn single() -> Cluster {
    match std::env::var("HARDEN_TESTENV_SINGLE").as_deref() {
        Err(_) | Ok("single") => Cluster::of("single"),
        Ok("second") => Cluster::of("second"),
        Ok(other) => panic!("HARDEN_TESTENV_SINGLE is single or second, not {other:?}"),
    }
}

pub fn ha() -> Cluster {
    Cluster::of("ha")
}

impl Cluster {
    fn of(topology: &'static str) -> Self {
        let run = std::env::var_os("HARDEN_TESTENV")
            .map(PathBuf::from)
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("testenv/run"));
        let run = run.join(topology);
        assert!(
            run.join("kubeconfig").exists(),
            "no cluster {topology:?}: run `testenv/up {topology}` first"
        );
        Cluster { topology, run }
    }

    /// What `testenv/up` wrote for this cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    pub fn node(&self, name: &str) -> String {
        let prefix = std::env::var("HARDEN_TESTENV_PREFIX").unwrap_or_else(|_| "harden".into());
        format!("{prefix}-{}-{name}", self.topology)
    }

    /// The control-plane nodes by name.
    pub fn control_planes(&self) -> Vec<String> {
        let all: &[&str] = match self.topology {
            "ha" => &["control-plane", "control-plane2", "control-plane3"],
            _ => &["control-plane"],
        };
        all.iter().map(|n| self.node(n)).collect()
    }

    pub fn nodes(&self) -> Vec<String> {
        let mut nodes = self.control_planes();
        nodes.push(self.node("worker"));
        nodes
    }

    /// A workspace of the test's own: the environment's harden.toml with some text replaced and
    /// more text at its end.
    pub fn workspace(&self, via: Via, replace: &[(&str, &str)], more: &str) -> Workspace {
        let from = match via {
            Via::Ssh => self.run.clone(),
            Via::Docker => self.run.join("docker"),
        };
        let dir = tempfile::tempdir().expect("a directory");
        let mut text = fs::read_to_string(from.join("harden.toml")).expect("harden.toml");
        text = text.replace("\"../kubeconfig\"", "\"kubeconfig\"");
        let workspace = Workspace { dir };
        let name = self.node("");
        let name = format!("= {:?}", name.trim_end_matches('-'));
        assert!(text.contains(&name), "harden.toml has no {name}:\n{text}");
        text = text.replace(&name, &format!("= {:?}", workspace.name()));
        for (old, new) in replace {
            assert!(text.contains(old), "harden.toml holds no {old:?}:\n{text}");
            text = text.replace(old, new);
        }
        fs::write(workspace.path("harden.toml"), format!("{text}\n{more}\n")).expect("written");
        for name in ["kubeconfig", "known_hosts", "id_ed25519"] {
            let target = workspace.path(name);
            fs::copy(self.run.join(name), &target).expect("copied");
        }
        workspace
    }

    /// Runs a script as root in a node, past harden and SSH.
    #[track_caller]
    pub fn on(&self, node: &str, script: &str) -> String {
        let said = run(Command::new("docker").args(["exec", node, "sh", "-c", script])).exits(0);
        said.stdout
    }

    /// Writes a file in a node as root, past harden and SSH: beside the old one and then over it, with
    /// the old one's mode.
    #[track_caller]
    pub fn write(&self, node: &str, path: &str, text: &str) {
        // The kubelet ignores dot files in the directory of static pods.
        let script = "new=${1%/*}/.test.new && cat > \"$new\" && \
            { [ ! -e \"$1\" ] || chmod --reference=\"$1\" \"$new\"; } && mv -f \"$new\" \"$1\"";
        let mut child = Command::new("docker")
            .args(["exec", "-i", node, "sh", "-c", script, "sh", path])
            .stdin(Stdio::piped())
            .spawn()
            .expect("docker");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("written");
        drop(stdin);
        assert!(child.wait().expect("its end").success(), "{node}: {path}");
    }

    /// Runs kubectl with an admin's rights in the first control-plane node.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_on(&self.node("control-plane"), args)
    }

    /// Makes a namespace that takes pods: the controller manager gives it its account `default` some time
    /// after the server has said that it is created, and no pod is admitted before.
    #[track_caller]
    pub fn create_namespace(&self, name: &str) {
        // The last test's may still be going.
        let gone = format!("namespace/{name}");
        self.kubectl(&["wait", "--for=delete", &gone, "--timeout=120s"])
            .exits(0);
        self.kubectl(&["create", "namespace", name]).exits(0);
        let account = ["serviceaccount/default", "--for=create", "--timeout=60s"];
        let wait = [&["-n", name, "wait"][..], &account].concat();
        self.kubectl(&wait).exits(0);
    }

    pub fn kubectl_on(&self, node: &str, args: &[&str]) -> Said {
        run(Command::new("docker")
            .args([
                "exec",
                node,
                "kubectl",
                "--kubeconfig",
                "/etc/kubernetes/admin.conf",
            ])
            .args(args))
    }

    /// Makes the cluster worse in the known ways.
    #[track_caller]
    pub fn weaken(&self) {
        self.weaken_with(&[]);
    }

    /// The same, with more that must be asked for by name.
    #[track_caller]
    pub fn weaken_with(&self, options: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testenv/weaken");
        run(Command::new(script).arg(self.topology).args(options)).exits(0);
        // Of one, the script has waited already; of three, the first is disturbed by what happens to the others.
        if self.control_planes().len() > 1 {
            self.settles();
        }
    }

    /// Waits until every control plane is ready and its programs stay the same for a while. One that lost
    /// its lease when etcd's leader changed has ended, and the kubelet waits up to five minutes before it
    /// starts a container once more; a plan says of it that it does not run.
    #[track_caller]
    pub fn settles(&self) {
        let pids = || -> Vec<String> {
            let all = "pgrep -x 'etcd|kube-apiserver|kube-controller|kube-scheduler' || true";
            let planes = self.control_planes();
            planes.iter().map(|node| self.on(node, all)).collect()
        };
        eventually("the control planes run", Duration::from_secs(420), || {
            let before = pids();
            std::thread::sleep(Duration::from_secs(3));
            let complete = |pids: &String| pids.lines().count() == 4;
            let ready = self.control_planes().iter().all(|node| self.readyz(node));
            ready && before.iter().all(complete) && before == pids()
        });
    }

    /// Starts a client that reads, writes and watches through the cluster's address; what it noticed
    /// comes from its `finish`.
    #[track_caller]
    pub fn load(&self) -> LoadClient {
        self.load_with(&[])
    }

    /// The same with options of `testenv/load`.
    #[track_caller]
    pub fn load_with(&self, options: &[&str]) -> LoadClient {
        let environment = self.run.parent().expect("a directory");
        LoadClient::start(self.topology, environment, options)
    }

    /// Everything that harden may change, in words that two snapshots can be compared by: names,
    /// modes, owners and hashes of files, and the objects without what the server counts by itself.
    pub fn snapshot(&self) -> String {
        let mut all = String::new();
        for node in self.nodes() {
            let tree = self.on(
                &node,
                "cd / && find etc/kubernetes var/lib/kubelet/config.yaml \
                   -exec stat -c '%A %U:%G %n' {} + | sort -k3 && \
                 find etc/kubernetes var/lib/kubelet/config.yaml -type f -exec sha256sum {} + | sort -k2",
            );
            all.push_str(&format!("== {node}\n{tree}"));
        }
        for object in [
            &[
                "get",
                "cm",
                "kubeadm-config",
                "-n",
                "kube-system",
                "-o",
                "json",
            ][..],
            &[
                "get",
                "cm",
                "kubelet-config",
                "-n",
                "kube-system",
                "-o",
                "json",
            ],
            &["get", "cm", "kube-proxy", "-n", "kube-system", "-o", "json"],
            &["get", "ns", "payments", "--ignore-not-found", "-o", "json"],
            &[
                "get",
                "networkpolicies,resourcequotas,limitranges",
                "-n",
                "payments",
                "-o",
                "json",
            ],
        ] {
            let said = self.kubectl(object).exits(0);
            if said.stdout.trim().is_empty() {
                continue;
            }
            let mut value = said.json();
            strip(&mut value);
            all.push_str(&format!("== {object:?}\n{value:#}\n"));
        }
        all
    }

    pub fn manifest(&self, node: &str, component: &str) -> String {
        self.on(
            node,
            &format!("cat /etc/kubernetes/manifests/{component}.yaml"),
        )
    }

    /// The command line of a component on a node, from /proc.
    pub fn argv(&self, node: &str, component: &str) -> String {
        self.on(
            node,
            &format!("for p in $(pgrep -x $(echo {component} | cut -c1-15)); do tr '\\0' ' ' < /proc/$p/cmdline; done; true"),
        )
    }

    pub fn readyz(&self, node: &str) -> bool {
        run(Command::new("docker").args([
            "exec",
            node,
            "curl",
            "-sk",
            "--max-time",
            "3",
            "https://127.0.0.1:6443/readyz",
        ]))
        .stdout
            == "ok"
    }
}

/// Puts something right when dropped, also when a test fails in between.
pub struct Afterwards(String, String);

impl Drop for Afterwards {
    fn drop(&mut self) {
        let Afterwards(node, script) = self;
        let said = run(Command::new("docker").args(["exec", node, "sh", "-c", script]));
        if said.status != Some(0) && !std::thread::panicking() {
            panic!("not put right on {node}: {said:?}");
        }
    }
}

impl Cluster {
    /// Runs a script as root in a node when the result is dropped.
    pub fn afterwards(&self, node: &str, script: &str) -> Afterwards {
        Afterwards(node.to_owned(), script.to_owned())
    }
}

/// Takes out what the server counts by itself.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in [
                "managedFields",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "uid",
                "status",
            ] {
                map.remove(key);
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// A directory with harden.toml and what it names; gone when dropped.
pub struct Workspace {
    pub dir: tempfile::TempDir,
}

impl Workspace {
    /// The `cluster.name` in it, which no other workspace has: what other tests applied is not pruned.
    pub fn name(&self) -> String {
        let path = self.dir.path().display().to_string();
        format!(
            "test-{}",
            path.rsplit(['/', '.']).next().unwrap_or_default()
        )
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden"));
        command
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .env_remove("KUBECONFIG")
            .env_remove("SSH_AUTH_SOCK")
            .args(args);
        command
    }

    #[track_caller]
    pub fn harden(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs harden until a line of stderr holds the text, then kills it as `kill -9` does. Returns
    /// what it had said; `None` when it ended before.
    pub fn killed_at(&self, args: &[&str], text: &str) -> Option<String> {
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("harden");
        let stderr = child.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr);
        let mut said = String::new();
        loop {
            let before = said.len();
            if lines.read_line(&mut said).expect("text") == 0 {
                child.wait().expect("its end");
                return None;
            }
            if said[before..].contains(text) {
                break;
            }
        }
        child.kill().expect("a kill");
        child.wait().expect("its end");
        let _ = lines.read_to_string(&mut said);
        Some(said)
    }
}

impl Workspace {
    /// Starts harden, stops it (SIGSTOP) when a line of stderr holds the text, does something, and
    /// lets harden go on to its end. Returns what harden said and what the body gave.
    #[track_caller]
    pub fn while_at<T>(&self, args: &[&str], text: &str, body: impl FnOnce() -> T) -> (Said, T) {
        let signal = |signal: &str, pid: u32| {
            run(Command::new("kill").args(["-s", signal, &pid.to_string()])).exits(0)
        };
        self.at(args, text, |pid| {
            signal("STOP", pid);
            let made = body();
            signal("CONT", pid);
            made
        })
    }

    /// Starts harden, sends it a signal when a line of stderr holds the text, and returns what it said.
    #[track_caller]
    pub fn signalled_at(&self, signal: &str, args: &[&str], text: &str) -> Said {
        self.at(args, text, |pid| {
            run(Command::new("kill").args(["-s", signal, &pid.to_string()])).exits(0)
        })
        .0
    }

    #[track_caller]
    fn at<T>(&self, args: &[&str], text: &str, body: impl FnOnce(u32) -> T) -> (Said, T) {
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("harden");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut stderr = String::new();
        loop {
            let before = stderr.len();
            let read = lines.read_line(&mut stderr).expect("text");
            assert!(read > 0, "harden ended before it said {text:?}:\n{stderr}");
            if stderr[before..].contains(text) {
                break;
            }
        }
        let made = body(child.id());
        let _ = lines.read_to_string(&mut stderr);
        let output = child.wait_with_output().expect("its end");
        let said = Said {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr,
        };
        (said, made)
    }
}
