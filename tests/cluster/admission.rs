//! A Pod Security level for namespaces without one of their own: whom it would hit is known before, from
//! the API server itself, and it hits whom it said.

use std::time::Duration;

use serde_json::Value;

use crate::environment::{Cluster, Said, Via, Workspace, eventually, single};

const NAMESPACE: &str = "without-a-level";
const OWN_LEVEL: &str = "with-its-own-level";
const OPTION: &str = "[admission.pod-security.defaults]\nenforce = \"baseline\"\n";

/// Runs a pod in the node's network, which the level baseline does not allow.
fn run_on_the_nodes_network(cluster: &Cluster, namespace: &str, name: &str) -> Said {
    cluster.kubectl(&[
        "-n",
        namespace,
        "run",
        name,
        "--image=docker.io/library/busybox:1.35.0",
        "--image-pull-policy=IfNotPresent",
        "--restart=Never",
        "--overrides={\"spec\":{\"hostNetwork\":true}}",
        "--",
        "sleep",
        "3000",
    ])
}

fn runs(cluster: &Cluster, namespace: &str, name: &str) -> bool {
    let phase = "jsonpath={.status.phase}";
    let get = ["-n", namespace, "get", "pod", name, "-o", phase];
    cluster.kubectl(&get).stdout == "Running"
}

/// What the plan says of whom the level would hit.
fn impact(workspace: &Workspace, status: i32) -> Value {
    let plan = workspace.harden(&["plan", "--format", "json"]);
    let plan = plan.exits(status).json();
    let all = plan["impact"]["preconditions"]
        .as_array()
        .expect("an impact");
    let ours = all
        .iter()
        .find(|one| one["precondition"] == "pods-admitted");
    ours.unwrap_or_else(|| panic!("{plan:#}")).clone()
}

fn names(impact: &Value) -> Vec<&str> {
    let who = impact["who"].as_array().expect("names");
    who.iter().filter_map(Value::as_str).collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn whom_a_default_level_would_refuse_is_said_before_and_refused_after() {
    let cluster = single();
    let _gone = cluster.afterwards(
        &cluster.node("control-plane"),
        &format!(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf delete namespace {NAMESPACE} {OWN_LEVEL} --ignore-not-found"
        ),
    );
    for namespace in [NAMESPACE, OWN_LEVEL] {
        cluster.create_namespace(namespace);
    }
    let own = "pod-security.kubernetes.io/enforce=privileged";
    cluster
        .kubectl(&["label", "namespace", OWN_LEVEL, own])
        .exits(0);
    for namespace in [NAMESPACE, OWN_LEVEL] {
        run_on_the_nodes_network(&cluster, namespace, "agent").exits(0);
        eventually("the pod runs", Duration::from_secs(90), || {
            runs(&cluster, namespace, "agent")
        });
    }
    let hit = format!("{NAMESPACE}/agent");

    // Without consent it is named and left undone, and asking has left no label.
    let unaccepted = cluster.workspace(Via::Ssh, &[], OPTION);
    let refused = impact(&unaccepted, 1);
    assert_eq!(refused["verdict"], "fails", "{refused:#}");
    let who = names(&refused);
    assert!(who.contains(&hit.as_str()), "{refused:#}");
    // kube-system is exempt, and whoever has a level of their own is not meant.
    let others = ["kube-system/", OWN_LEVEL];
    let is_other = |name: &&str| others.iter().any(|other| name.starts_with(other));
    assert!(!who.iter().any(is_other), "{refused:#}");
    unaccepted
        .harden(&["plan", "--short"])
        .exits(1)
        .says("pods-admitted does NOT hold")
        .says(&hit)
        .says("left undone");
    let labels = [
        "get",
        "namespace",
        NAMESPACE,
        "-o",
        "jsonpath={.metadata.labels}",
    ];
    let labels = cluster.kubectl(&labels).exits(0).stdout;
    assert!(!labels.contains("pod-security"), "{labels}");

    // An exempt namespace is not asked.
    let exempt =
        format!("{OPTION}[admission.pod-security.exemptions]\nnamespaces = [{NAMESPACE:?}]\n");
    let exempt = cluster.workspace(Via::Ssh, &[], &exempt);
    let plan = exempt.harden(&["plan", "--format", "json"]).json();
    assert!(!plan["impact"].to_string().contains(&hit), "{plan:#}");

    let accept = "accept  = [\"tenants\", \"admission.pod-security\"]";
    let replace = [("accept  = [\"tenants\"]", accept)];
    let accepted = cluster.workspace(Via::Ssh, &replace, OPTION);
    let evidence = impact(&accepted, 2);
    assert_eq!(evidence["accepted"], true, "{evidence:#}");
    assert!(names(&evidence).contains(&hit.as_str()), "{evidence:#}");
    accepted.harden(&["apply", "--yes"]).exits(0);
    accepted.harden(&["plan"]).exits(0).says("No changes");

    // It came true: what ran runs on, and is not made again.
    assert!(runs(&cluster, NAMESPACE, "agent"));
    run_on_the_nodes_network(&cluster, NAMESPACE, "agent-2")
        .exits(1)
        .says("violates PodSecurity \"baseline:latest\"");
    run_on_the_nodes_network(&cluster, OWN_LEVEL, "agent-2").exits(0);

    // The server's own default is the level by now, and it still names the pod when it is asked.
    let more = format!("{OPTION}warn = \"restricted\"\n");
    let evidence = impact(&cluster.workspace(Via::Ssh, &[], &more), 1);
    assert!(names(&evidence).contains(&hit.as_str()), "{evidence:#}");

    accepted.harden(&["rollback", "--yes"]).exits(0);
    run_on_the_nodes_network(&cluster, NAMESPACE, "agent-2").exits(0);
}
