//! A cluster of its own, made by kind from what `harden bootstrap` wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::{Said, run, single};
use crate::machine::Machine;

/// Everything that a new cluster can be born with. Modes and API objects are not.
const PROFILE: &str = r#"
[apiserver]
profiling              = false
service-account-lookup = true
tls-min-version        = "VersionTLS12"
admission-plugins      = ["NodeRestriction"]
[controller-manager]
profiling                       = false
bind-address                    = "127.0.0.1"
terminated-pod-gc-threshold     = 1000
use-service-account-credentials = true
[scheduler]
profiling    = false
bind-address = "127.0.0.1"
[audit]
policy         = "metadata"
log-max-age    = 30
log-max-backup = 10
log-max-size   = 100
"#;

/// A workspace for a cluster of its own.
fn workspace(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!(
        "[cluster]\nname = \"{name}\"\nkubeconfig = \"kubeconfig\"\n[nodes]\ndiscover = true\ntransport = \"docker\"\n{PROFILE}"
    );
    fs::write(dir.path().join("harden.toml"), text).expect("written");
    dir
}

fn harden(dir: &Path, args: &[&str]) -> Said {
    run(Command::new(env!("CARGO_BIN_EXE_harden"))
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("KUBECONFIG")
        .args(args))
}

/// A cluster beside those of the environment; gone when dropped.
struct Born {
    name: String,
    dir: tempfile::TempDir,
}

impl Born {
    fn new() -> Self {
        let prefix = std::env::var("HARDEN_TESTENV_PREFIX").unwrap_or_else(|_| "harden".into());
        let name = format!("{prefix}-born");
        let dir = workspace(&name);
        Born { name, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn harden(&self, args: &[&str]) -> Said {
        harden(self.dir.path(), args)
    }

    /// kind, where the configuration is: its paths are relative.
    fn kind(&self, args: &[&str]) -> Command {
        let mut kind = Command::new("kind");
        kind.current_dir(self.path("born"))
            .args(args)
            .args(["--name", &self.name, "--kubeconfig"])
            .arg(self.path("kubeconfig"));
        kind
    }

    /// Adds what the environment's clusters are told for this machine's sake, to be read before ours.
    fn as_this_machine_needs(&self) {
        let theirs = fs::read_to_string(single().file("kind.yaml")).expect("its kind.yaml");
        let begin = "kubeadmConfigPatches:\n";
        let (_, patches) = theirs.split_once(begin).expect("patches");
        let (patches, _) = patches.split_once("nodes:").expect("nodes");
        let file = self.path("born/kind.yaml");
        let ours = fs::read_to_string(&file).expect("written by harden");
        assert_eq!(ours.matches(begin).count(), 1, "{ours}");
        fs::write(file, ours.replace(begin, &format!("{begin}{patches}"))).expect("written");
    }

    /// The image that the environment's own cluster runs.
    fn image(&self) -> String {
        let node = single().node("control-plane");
        let said =
            run(Command::new("docker").args(["inspect", "--format", "{{.Config.Image}}", &node]));
        said.exits(0).stdout.trim().to_owned()
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        // Not `run`: a panic here would end the other tests as well.
        let _ = self.kind(&["delete", "cluster"]).output();
    }
}

#[test]
#[ignore = "needs testenv/up single, for its image; makes a cluster of its own"]
fn a_kind_cluster_that_is_born_hardened_has_nothing_to_change() {
    let born = Born::new();
    // One node: those of the environment are there as well, and machines are small.
    let nodes = ["--control-planes", "1", "--workers", "0"];
    born.harden(&[&["bootstrap", "kind", "born"][..], &nodes].concat())
        .exits(0);
    run(&mut born.kind(&["delete", "cluster"]));
    let image = born.image();
    born.as_this_machine_needs();
    let create = format!("create cluster --image {image} --config kind.yaml --wait 180s");
    let create: Vec<&str> = create.split(' ').collect();
    run(&mut born.kind(&create)).exits(0);
    born.harden(&["plan"]).exits(0).says("No changes");
    // It is the profile that runs, not one that asks for nothing.
    let node = format!("{}-control-plane", born.name);
    let script =
        "tr '\\0' ' ' < /proc/$(pgrep -xo kube-apiserver)/cmdline; ls /var/log/kubernetes/audit";
    let runs = run(Command::new("docker").args(["exec", &node, "sh", "-c", script])).exits(0);
    assert!(runs.stdout.contains("--profiling=false"), "{runs:?}");
    assert!(runs.stdout.contains("audit.log"), "{runs:?}");

    // A machine that is declared and is not there is told, and hinders nothing.
    let file = born.path("harden.toml");
    let text = fs::read_to_string(&file).expect("harden.toml");
    let more = format!(
        "{text}[nodes.host.{}-control-plane2]\nrole = \"control-plane\"\n",
        born.name
    );
    fs::write(&file, more).expect("written");
    born.harden(&["plan"]).exits(0).says("not joined yet");
}

/// What only this machine's administrator knows: its Pod network, and what a container needs.
const OURS: &str = "\
networking:
  podSubnet: 10.244.0.0/16
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration: {criSocket: unix:///run/containerd/containerd.sock, ignorePreflightErrors: [all]}
patches: {directory: /kind/patches}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupRoot: /kubelet
failSwapOn: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {maxPerCore: 0}
";

#[test]
#[ignore = "needs testenv/up single, for its image; makes a cluster of its own"]
fn a_bare_node_that_kubeadm_makes_from_it_has_nothing_to_change() {
    let single = single();
    let machine = Machine::beside(&single, "bare");
    let dir = workspace(&machine.name);
    let said = run(Command::new("docker").args([
        "exec",
        &machine.name,
        "kubeadm",
        "version",
        "-o",
        "short",
    ]));
    let version = said.exits(0).stdout;
    let version = ["--kubernetes-version", version.trim()];
    harden(
        dir.path(),
        &[&["bootstrap", "kubeadm", "new"][..], &version].concat(),
    )
    .exits(0);
    let file = dir.path().join("new/kubeadm.yaml");
    let theirs = fs::read_to_string(&file).expect("written by harden");
    fs::write(&file, theirs + OURS).expect("written");
    machine.copy(&dir.path().join("new"), "/root/new");
    machine.on("cd /root/new && sh place-files.sh control-plane && kubeadm init --config kubeadm.yaml 2>&1");
    let kubeconfig = machine.on("cat /etc/kubernetes/admin.conf");
    fs::write(dir.path().join("kubeconfig"), kubeconfig).expect("written");
    harden(dir.path(), &["plan"]).exits(0).says("No changes");
    let argv = single.argv(&machine.name, "kube-apiserver");
    for flag in [
        "--profiling=false",
        "--audit-policy-file=",
        "NodeRestriction",
    ] {
        assert!(argv.contains(flag), "{argv}");
    }
    assert!(
        machine
            .on("ls /var/log/kubernetes/audit")
            .contains("audit.log")
    );
}
