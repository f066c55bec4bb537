//! Programs of the control plane that are asked on their own node how they are.
//!
//! A kubelet shows a mirror pod as Ready only after its watch of the API is back, and that backs off:
//! after a restart of the only API server it took 88 s longer than the server itself. Whatever can be
//! asked directly is not waited for there.

use std::collections::BTreeSet;

use crate::cluster::ApiError;
use crate::distribution::Component;
use crate::distribution::kubeadm::argv;
use crate::plan::Gate;

use super::session::Session;

impl Session<'_, '_> {
    /// Asks the controller manager and the scheduler, where a gate is about them, for `/healthz`. Returns
    /// those that said `ok`; one that cannot be asked is left out.
    ///
    /// # Errors
    /// What one of them is not yet.
    pub(super) fn healthy(
        &mut self,
        node: &str,
        gate: &Gate,
    ) -> Result<BTreeSet<Component>, (String, Component)> {
        let mut healthy = BTreeSet::new();
        for (component, argv) in &gate.processes {
            let Some(port) = health_port(*component, argv) else {
                continue;
            };
            let api = self.apply.api;
            let asked = match self.host(node).and_then(|host| host.tunnel(port)) {
                Ok(tunnel) => api.healthz(tunnel.local),
                Err(error) => return Err((error.to_string(), *component)),
            };
            let waits = match asked {
                Ok(true) => {
                    healthy.insert(*component);
                    continue;
                }
                // Its /healthz is not for everybody: --authorization-always-allow-paths.
                Err(ApiError::Forbidden { .. }) => continue,
                Ok(false) => format!("{component} to answer /healthz with 200"),
                Err(error) => format!("{component} to answer /healthz with 200 ({error})"),
            };
            return Err((waits, *component));
        }
        Ok(healthy)
    }
}

/// The port on the node's loopback address where a program serves `/healthz` to everybody; `None` where
/// it does not. Source: kubernetes v1.35 pkg/cluster/ports/ports.go (`KubeControllerManagerPort`),
/// pkg/scheduler/apis/config/types.go (`DefaultKubeSchedulerPort`), and of the address
/// staging/src/k8s.io/apiserver/pkg/server/options/serving.go (`AddFlags`).
fn health_port(component: Component, command: &[String]) -> Option<u16> {
    let port = match component {
        Component::KubeControllerManager => 10257,
        Component::KubeScheduler => 10259,
        _ => return None,
    };
    let last = |name: &str| argv::values(command, name).pop();
    let everywhere = ["0.0.0.0", "127.0.0.1", "::"];
    if last("bind-address").is_some_and(|address| !everywhere.contains(&address.as_str())) {
        return None;
    }
    match last("secure-port") {
        None => Some(port),
        Some(other) => other.parse().ok().filter(|port| *port != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_where_loopback_leads_to() {
        let port = |component, words: &str| {
            let command: Vec<String> = words.split(' ').map(str::to_owned).collect();
            health_port(component, &command)
        };
        let (manager, scheduler) = (Component::KubeControllerManager, Component::KubeScheduler);
        for (component, words, wanted) in [
            (scheduler, "kube-scheduler", Some(10259)),
            (
                manager,
                "kube-controller-manager --bind-address=127.0.0.1",
                Some(10257),
            ),
            (
                scheduler,
                "kube-scheduler --bind-address=0.0.0.0 --secure-port=1234",
                Some(1234),
            ),
            (scheduler, "kube-scheduler --secure-port=0", None),
            (scheduler, "kube-scheduler --bind-address=10.0.0.11", None),
            (Component::Etcd, "etcd", None),
            (Component::KubeApiserver, "kube-apiserver", None),
        ] {
            assert_eq!(port(component, words), wanted, "{words}");
        }
    }
}
