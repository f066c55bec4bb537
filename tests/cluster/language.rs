//! The profile language on a real cluster: a module from the documentation, values of one node, and
//! the two seed policies.

use std::fs;

use crate::environment::{Cluster, Via, Workspace, single};
use crate::thin_line::similar_asserts;

/// A workspace that only knows the cluster and its nodes, with this text.
pub fn bare(cluster: &Cluster, top: &str, sections: &str) -> Workspace {
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let path = workspace.path("harden.toml");
    let text = fs::read_to_string(&path).expect("harden.toml");
    let from = text.find("[cluster]").expect("a cluster");
    let to = text.find("[tenants.").expect("tenants");
    fs::write(path, format!("{top}\n{}\n{sections}\n", &text[from..to])).expect("written");
    workspace
}

/// The module that docs/profiles.md shows.
fn documented_module() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/profiles.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, rest) = page
        .split_once(
            "<!-- a test on a real cluster reads the block below from this page -->\n```toml\n",
        )
        .expect("the mark");
    rest.split_once("```").expect("an end").0.to_owned()
}

#[test]
#[ignore = "needs testenv/up single"]
fn the_module_of_the_documentation_hardens_something_not_built_in() {
    let cluster = single();
    let workspace = bare(
        &cluster,
        "modules = [\"modules\"]\naccept = [\"service-ips\"]",
        "[service-ips]\nexternal = \"deny\"",
    );
    fs::create_dir(workspace.path("modules")).expect("a directory");
    fs::write(
        workspace.path("modules/service-ips.toml"),
        documented_module(),
    )
    .expect("written");
    let create = |name: &str| {
        cluster.kubectl(&[
            "create",
            "service",
            "clusterip",
            name,
            "--tcp=80:80",
            "--dry-run=server",
            "-o",
            "jsonpath={.metadata.name}",
        ])
    };
    let claim = || {
        let patch = r#"{"spec":{"externalIPs":["192.0.2.1"]}}"#;
        cluster.kubectl(&[
            "patch",
            "service",
            "kubernetes",
            "--dry-run=server",
            "--patch",
            patch,
        ])
    };
    claim().exits(0);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("ValidatingAdmissionPolicy");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    crate::environment::eventually("it is refused", std::time::Duration::from_secs(30), || {
        let said = claim();
        said.status != Some(0) && said.stderr.contains("externalIPs are not allowed")
    });
    create("ordinary").exits(0);
    workspace.harden(&["rollback", "--yes"]).exits(0);
    crate::environment::eventually("it is allowed", std::time::Duration::from_secs(30), || {
        claim().status == Some(0)
    });
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_value_of_one_node_is_applied_to_that_node_alone() {
    let cluster = single();
    let worker = cluster.node("worker");
    let other = cluster.node("control-plane");
    let mode = |node: &str| {
        let mode = cluster.on(node, "stat -c %a /var/lib/kubelet/config.yaml");
        mode.trim().to_owned()
    };
    for node in [&worker, &other] {
        cluster.on(node, "chmod 0644 /var/lib/kubelet/config.yaml");
    }
    let workspace = bare(
        &cluster,
        "",
        &format!(
            "[files]\nkubelet-mode = \"0600\"\n[nodes.host.{worker}.files]\nkubelet-mode = \"0400\""
        ),
    );
    let plan = workspace.harden(&["plan"]).exits(2);
    let plan = plan.says("/var/lib/kubelet/config.yaml: 0644 root:root → 0400");
    assert!(plan.stdout.contains("→ 0600"), "{}", plan.stdout);
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert_eq!((&*mode(&worker), &*mode(&other)), ("400", "600"));
    workspace.harden(&["plan"]).exits(0);
    workspace.harden(&["rollback", "--yes"]).exits(0);
    assert_eq!((&*mode(&worker), &*mode(&other)), ("644", "644"));
}

/// The policies as they were given; tests/profile_language.rs reads them too.
const SEEDS: &str = concat!(
    include_str!("../fixtures/policies/my-app.toml"),
    include_str!("../fixtures/policies/tenant-1.toml"),
);

#[test]
#[ignore = "needs testenv/up single"]
fn both_seed_policies_are_applied_as_given_and_told_what_they_leave_open() {
    let cluster = single();
    cluster
        .kubectl(&["delete", "namespace", "tenant-1", "--ignore-not-found"])
        .exits(0);
    cluster.create_namespace("tenant-1");
    let policies = || {
        let said = cluster
            .kubectl(&["get", "networkpolicies", "-A", "-o", "name"])
            .exits(0);
        said.stdout
    };
    let before = policies();
    let workspace = bare(&cluster, "accept = [\"network-policies\"]", SEEDS);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("the NetworkPolicy `tenant-1` has an egress rule without `to`")
        .says("lets pods reach 169.254.169.254")
        .says("leaves ingress open")
        .says("harden explain network-policy-egress-names-peers");
    workspace
        .harden(&["explain", "network-policy-egress-names-peers"])
        .exits(0)
        .says("every other tenant");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0);
    let live = cluster
        .kubectl(&[
            "get",
            "networkpolicy",
            "tenant-1",
            "-n",
            "tenant-1",
            "-o",
            "json",
        ])
        .exits(0)
        .json();
    let egress = &live["spec"]["egress"];
    assert_eq!(
        egress[0]["to"][1]["namespaceSelector"]["matchLabels"]["tenant"],
        "tenant-1"
    );
    assert!(egress[1].get("to").is_none(), "{live:#}");
    assert_eq!(egress[1]["ports"].as_array().map(Vec::len), Some(4));
    workspace.harden(&["rollback", "--yes"]).exits(0);
    similar_asserts(&before, &policies());
    cluster
        .kubectl(&["delete", "namespace", "tenant-1"])
        .exits(0);
}
