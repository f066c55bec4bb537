//! What is asked of the API server leaves an event in the audit log, with a body or without as the policy
//! says, and a node joins and is probed while anonymous access is limited.

use std::time::Duration;

use serde_json::Value;

use crate::environment::{Cluster, Via, eventually, single};

/// The events in the log of the first control-plane node that are about an object of this name.
fn events(cluster: &Cluster, name: &str) -> Vec<Value> {
    let script = format!("grep -h {name} /var/log/kubernetes/audit/audit.log || true");
    let log = cluster.on(&cluster.node("control-plane"), &script);
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &Value| event["objectRef"]["name"] == name)
        .collect()
}

/// Whether there is an event of this verb, and what its level is.
fn level(cluster: &Cluster, name: &str, verb: &str) -> Option<String> {
    let all = events(cluster, name);
    let event = all.iter().find(|event| event["verb"] == verb)?;
    event["level"].as_str().map(str::to_owned)
}

#[test]
#[ignore = "needs testenv/up single"]
fn an_event_arrives_and_bodies_of_secrets_do_not() {
    let cluster = single();
    let more = "[audit]\npolicy = \"baseline\"";
    let workspace = cluster.workspace(Via::Ssh, &[], more);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);

    let secret = [
        "create",
        "secret",
        "generic",
        "audited-secret",
        "--from-literal=k=c2VjcmV0LXRleHQ",
    ];
    cluster.kubectl(&secret).exits(0);
    cluster
        .kubectl(&["create", "serviceaccount", "audited-account"])
        .exits(0);
    let verb = ("create", Duration::from_secs(30));
    eventually("the Secret is in the log", verb.1, || {
        level(&cluster, "audited-secret", verb.0).is_some()
    });
    eventually("the ServiceAccount is in the log", verb.1, || {
        level(&cluster, "audited-account", verb.0).is_some()
    });
    assert_eq!(
        level(&cluster, "audited-secret", "create").as_deref(),
        Some("Metadata")
    );
    assert_eq!(
        level(&cluster, "audited-account", "create").as_deref(),
        Some("Request")
    );
    let log = cluster.on(
        &cluster.node("control-plane"),
        "cat /var/log/kubernetes/audit/audit.log",
    );
    assert!(
        !log.contains("c2VjcmV0LXRleHQ"),
        "the body of a Secret is in the log"
    );
    // The node renews its Lease every few seconds.
    let noise = log.lines().any(|line| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        event["objectRef"]["resource"] == "leases"
            && event["level"] != "None"
            && event["user"]["username"]
                .as_str()
                .is_some_and(|u| u.starts_with("system:node:"))
    });
    assert!(!noise, "the log is full of leases");
    let mode = cluster.on(
        &cluster.node("control-plane"),
        "stat -c '%a %U:%G' /var/log/kubernetes/audit/audit.log",
    );
    assert_eq!(mode, "600 root:root\n");

    for object in ["secret/audited-secret", "serviceaccount/audited-account"] {
        cluster.kubectl(&["delete", object]).exits(0);
    }
    workspace.harden(&["rollback", "--yes"]).exits(0);
}

/// What an address answers to somebody without a name.
fn anonymous(cluster: &Cluster, path: &str) -> String {
    let script = format!(
        "curl -sk -o /dev/null -w '%{{http_code}}' --max-time 5 https://127.0.0.1:6443{path}"
    );
    cluster.on(&cluster.node("control-plane"), &script)
}

#[test]
#[ignore = "needs testenv/up single"]
fn without_a_name_only_health_and_joining_are_answered() {
    let cluster = single();
    cluster.weaken();
    let cluster_info = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    let more = "[apiserver]\nanonymous = \"health-and-join\"\n\
                [admission.event-rate-limit]\nlimits = [{ type = \"Server\", qps = 500, burst = 5000 }]";
    let workspace = cluster.workspace(Via::Ssh, &[], more);
    assert_eq!(anonymous(&cluster, "/version"), "200");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    for (path, answer) in [
        ("/livez", "200"),
        ("/readyz", "200"),
        ("/healthz", "200"),
        (cluster_info, "200"),
        ("/version", "401"),
        ("/livez/ping", "401"),
        ("/api", "401"),
    ] {
        assert_eq!(anonymous(&cluster, path), answer, "{path}");
    }
    let argv = cluster.argv(&cluster.node("control-plane"), "kube-apiserver");
    assert!(argv.contains("EventRateLimit"), "{argv}");
    crate::thin_line::pods_run(&cluster);
    workspace.harden(&["rollback", "--yes"]).exits(0);
    assert_eq!(anonymous(&cluster, "/version"), "200");
}
