//! Bare machines: what `kubeadm init` and `kubeadm join` are run on.

use std::path::Path;
use std::process::Command;

use crate::environment::{Cluster, Said, run};

/// A container of the node image that no cluster has yet: systemd, containerd, a kubelet, kubeadm. Gone
/// when dropped; what it has joined forgets it first.
pub struct Machine<'c> {
    pub name: String,
    /// What it may join, and belongs to: `testenv/down` removes it as well.
    cluster: &'c Cluster,
}

impl<'c> Machine<'c> {
    /// Starts one as kind starts its nodes (kind v0.33 pkg/cluster/internal/providers/docker/provision.go:
    /// `commonArgs`, `runArgsForNode`).
    #[track_caller]
    pub fn beside(cluster: &'c Cluster, name: &str) -> Self {
        let worker = cluster.node("worker");
        let label = "{{index .Config.Labels \"io.x-k8s.kind.cluster\"}}";
        let of_worker = |format: &str| {
            let said = run(Command::new("docker").args(["inspect", "--format", format, &worker]));
            said.exits(0).stdout.trim().to_owned()
        };
        let machine = Machine {
            name: cluster.node(name),
            cluster,
        };
        machine.remove();
        let options = "--detach --tty --privileged --cgroupns private --network kind \
            --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt label=disable \
            --tmpfs /tmp --tmpfs /run --volume /var --volume /lib/modules:/lib/modules:ro \
            --env container=docker --env KIND_EXPERIMENTAL_CONTAINERD_SNAPSHOTTER";
        let label = format!("io.x-k8s.kind.cluster={}", of_worker(label));
        run(Command::new("docker")
            .arg("run")
            .args(options.split_ascii_whitespace())
            .args(["--label", &label])
            .args(["--name", &machine.name, "--hostname", &machine.name])
            .arg(of_worker("{{.Config.Image}}")))
        .exits(0);
        machine.on("for i in $(seq 60); do crictl images > /dev/null 2>&1 && exit; sleep 0.5; done; exit 1");
        machine
    }

    /// Runs a script as root.
    #[track_caller]
    pub fn on(&self, script: &str) -> String {
        self.cluster.on(&self.name, script)
    }

    /// Copies what is in a directory to one on the machine.
    #[track_caller]
    pub fn copy(&self, from: &Path, to: &str) {
        let target = format!("{}:{to}", self.name);
        run(Command::new("docker").arg("cp").arg(from).arg(target)).exits(0);
    }

    /// Makes it a node of the cluster; `more` is what a control plane adds.
    #[track_caller]
    pub fn join(&self, more: &str) {
        let first = self.cluster.node("control-plane");
        let command = "kubeadm token create --print-join-command --ttl 10m";
        let join = self.cluster.on(&first, command);
        // What a container cannot satisfy is not what is tested; kind leaves these checks out too. The
        // patches are the environment's own, for this machine's sake.
        self.on(&format!(
            "{} --ignore-preflight-errors all --patches /kind/patches {more} 2>&1",
            join.trim()
        ));
    }

    fn remove(&self) -> Said {
        run(Command::new("docker").args(["rm", "--force", "--volumes", &self.name]))
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // A control plane takes its member out of etcd, if it has one.
        let reset = ["exec", &self.name, "kubeadm", "reset", "--force"];
        run(Command::new("docker").args(reset));
        self.cluster
            .kubectl(&["delete", "node", "--ignore-not-found", &self.name]);
        self.remove();
    }
}
