//! What leaves the profile on a real cluster: tenants that go, are renamed and split; objects that
//! somebody deletes, edits or makes beside; a run that is killed half way; a ledger that is damaged.

use std::fs;

use crate::environment::{Afterwards, Cluster, Via, Workspace, single};

/// The namespaces of all tests here.
const NAMESPACES: &str = "ledger-a ledger-b";

const TENANT: &str = r#"
[tenants.old]
namespaces   = ["ledger-a"]
network      = "isolated"
pod-security = "restricted"
quota        = { pods = "10" }
editors      = [{ kind = "User", name = "ben" }]
automount    = false
"#;

const OBJECTS: &str = r#"
[[object]]
apiVersion  = "scheduling.k8s.io/v1"
kind        = "PriorityClass"
metadata    = { name = "ledger-batch" }
value       = -10
description = "What may wait."

[[object]]
apiVersion = "v1"
kind       = "ConfigMap"
metadata   = { name = "ledger-settings", namespace = "default" }
data       = { level = "info" }
"#;

/// Every object that a tenant without peers becomes, apart from its namespace and account.
const MADE: &str = "networkpolicy/harden-allow-dns networkpolicy/harden-allow-same-tenant \
     networkpolicy/harden-default-deny resourcequota/harden role/harden-editor rolebinding/harden-editor";

/// A workspace with nothing but this.
fn workspace(cluster: &Cluster, text: &str) -> Workspace {
    let workspace = cluster.workspace(Via::Docker, &[], "");
    profile(&workspace, text);
    workspace
}

/// Gives a workspace another profile.
fn profile(workspace: &Workspace, text: &str) {
    let path = workspace.path("harden.toml");
    let old = fs::read_to_string(&path).expect("harden.toml");
    let from = old.find("[cluster]").expect("a cluster");
    let to = old.find("\n[tenants.").unwrap_or(old.len());
    let settings = old[from..to].split("# --").next().expect("settings");
    let head = "accept = [\"tenants\", \"object\"]\n";
    let text = format!("{head}{settings}\n# --\n{text}\n");
    fs::write(path, text).expect("written");
}

/// Begins and ends with nothing of what the tests here make. The entries of what is deleted by hand
/// stay in the ledger, and mean nothing.
fn begin(cluster: &Cluster) -> Afterwards {
    let kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
    let gone = format!(
        "{kubectl} delete namespace {NAMESPACES} --ignore-not-found && \
         {kubectl} delete priorityclass ledger-batch --ignore-not-found && \
         {kubectl} -n default delete configmap ledger-settings --ignore-not-found"
    );
    cluster.on(&cluster.node("control-plane"), &gone);
    cluster.afterwards(&cluster.node("control-plane"), &gone)
}

#[track_caller]
fn there(cluster: &Cluster, namespace: &str, what: &str) -> bool {
    let mut args = vec!["-n", namespace, "get", "--ignore-not-found", "-o", "name"];
    args.extend(what.split_whitespace());
    let said = cluster.kubectl(&args).exits(0);
    let found = said.stdout.lines().count();
    let asked = what.split_whitespace().count();
    assert!(found == 0 || found == asked, "some are there: {said:?}");
    found > 0
}

/// The entries of the ledger that these tests made, as `KIND NAMESPACE/NAME HOW`.
fn ledger(cluster: &Cluster, workspace: &Workspace) -> Vec<String> {
    let said = cluster
        .kubectl(&[
            "-n",
            "kube-system",
            "get",
            "configmaps",
            "-l",
            "harden.dev/ledger",
            "-o",
            "json",
        ])
        .exits(0)
        .json();
    let mut found = Vec::new();
    for part in said["items"].as_array().expect("items") {
        for line in part["data"]["entries"].as_str().expect("entries").lines() {
            let entry: serde_json::Value = serde_json::from_str(line).expect("an entry");
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let names = entry["workspaces"].as_array().expect("workspaces");
            if names.iter().any(|name| *name == workspace.name()) {
                let (kind, namespace, name) = (text("kind"), text("namespace"), text("name"));
                found.push(format!("{kind} {namespace}/{name} {}", text("how")));
            }
        }
    }
    found.sort();
    found
}

/// Puts the ledger back as it is now.
fn kept_ledger(cluster: &Cluster) -> Afterwards {
    let get = [
        "-n",
        "kube-system",
        "get",
        "configmaps",
        "-l",
        "harden.dev/ledger",
        "-o",
        "json",
    ];
    let mut all = cluster.kubectl(&get).exits(0).json();
    let parts = all["items"].as_array_mut().expect("items");
    for part in parts.iter_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
        ] {
            part["metadata"]
                .as_object_mut()
                .expect("metadata")
                .remove(field);
        }
    }
    let create = match parts.is_empty() {
        true => "true",
        false => "$kubectl create -f /root/ledger-before.json",
    };
    let node = cluster.node("control-plane");
    cluster.write(&node, "/root/ledger-before.json", &all.to_string());
    let script = format!(
        "kubectl='kubectl --kubeconfig /etc/kubernetes/admin.conf'; \
         $kubectl -n kube-system delete configmaps -l harden.dev/ledger && {create} && rm /root/ledger-before.json"
    );
    cluster.afterwards(&node, &script)
}

fn lists(cluster: &Cluster, workspace: &Workspace, entry: &str) -> bool {
    ledger(cluster, workspace).iter().any(|line| line == entry)
}

/// Makes a NetworkPolicy that looks like one of harden's, by this field manager.
fn bystander(cluster: &Cluster, name: &str, manager: &str) {
    let script = format!(
        "printf '%s' '{{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\",\"metadata\":{{\"name\":\"{name}\",\
         \"namespace\":\"ledger-a\",\"labels\":{{\"app.kubernetes.io/managed-by\":\"harden\"}}}},\"spec\":{{\"podSelector\":{{}}}}}}' \
         | kubectl --kubeconfig /etc/kubernetes/admin.conf apply --server-side --field-manager={manager} -f -"
    );
    cluster.on(&cluster.node("control-plane"), &script);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_tenant_that_leaves_loses_what_harden_made_and_keeps_its_namespace() {
    let cluster = single();
    let _gone = begin(&cluster);
    let workspace = workspace(&cluster, TENANT);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(lists(
        &cluster,
        &workspace,
        "NetworkPolicy ledger-a/harden-default-deny made"
    ));
    assert!(lists(&cluster, &workspace, "Namespace /ledger-a made"));
    // Neither the label nor the manager's name makes anything ours.
    bystander(&cluster, "own", "kubectl");
    bystander(&cluster, "pretender", "harden");

    profile(&workspace, "");
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("- NetworkPolicy ledger-a/harden-default-deny")
        .says("who loses harden-editor: User ben")
        .says("Namespace ledger-a: it loses the NetworkPolicies harden-allow-dns, harden-allow-same-tenant, harden-default-deny, and keeps own, pretender")
        .says("Namespace ledger-a: it has left the profile and stays as it is")
        .says("put \"Namespace/ledger-a\" into `allow-delete`");
    assert!(there(&cluster, "ledger-a", MADE));
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(!there(&cluster, "ledger-a", MADE));
    assert!(there(
        &cluster,
        "ledger-a",
        "networkpolicy/own networkpolicy/pretender"
    ));
    assert_eq!(ledger(&cluster, &workspace), [""; 0]);
    // The namespace is as it was, and nobody manages it any more.
    let namespace = cluster
        .kubectl(&[
            "get",
            "namespace",
            "ledger-a",
            "--show-managed-fields",
            "-o",
            "json",
        ])
        .exits(0)
        .json();
    let labels = &namespace["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(labels["harden.dev/tenant"], "old");
    let managers = namespace["metadata"]["managedFields"].to_string();
    assert!(!managers.contains("\"harden\""), "{managers}");

    workspace.harden(&["rollback", "--yes"]).exits(0);
    assert!(there(&cluster, "ledger-a", MADE));
    assert!(lists(
        &cluster,
        &workspace,
        "NetworkPolicy ledger-a/harden-default-deny made"
    ));
    // They are as they were, and what was let go of is taken up again: else nothing that leaves the
    // tenant later would leave its namespace.
    profile(&workspace, TENANT);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("2 changes (2 safe)")
        .says(
            "Namespace ledger-a: as wanted, and not managed by harden → managed by harden as well",
        );
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_namespace_that_is_named_goes_with_what_it_holds_listed() {
    let cluster = single();
    let _gone = begin(&cluster);
    let workspace = workspace(&cluster, TENANT);
    workspace.harden(&["apply", "--yes"]).exits(0);
    cluster
        .kubectl(&["-n", "ledger-a", "create", "configmap", "precious"])
        .exits(0);
    let allowed = "[apply]\nallow-delete = [\"Namespace/ledger-a\"]\n";
    profile(&workspace, &format!("{TENANT}{allowed}"));
    workspace
        .harden(&["plan"])
        .exits(0)
        .says("`allow-delete` names it, and the profile wants it");
    profile(&workspace, allowed);
    workspace
        .harden(&["plan", "-o", "plan.json"])
        .exits(2)
        .says("- Namespace ledger-a: there, with 1 object in it → (absent)  (irreversible)")
        .says("lost with it: ConfigMap precious");
    // What came since the plan was made is not deleted unseen, and the fence stays as well.
    cluster
        .kubectl(&["-n", "ledger-a", "create", "configmap", "new"])
        .exits(0);
    workspace
        .harden(&["apply", "--yes", "plan.json"])
        .exits(1)
        .says("the plan is stale, so nothing was changed")
        .says("what Namespace ledger-a holds, by now also ConfigMap new");
    assert!(there(
        &cluster,
        "ledger-a",
        "configmap/precious configmap/new"
    ));
    assert!(there(&cluster, "ledger-a", MADE));
    workspace.harden(&["apply", "--yes"]).exits(0);
    let said = cluster.kubectl(&["get", "namespace", "ledger-a"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    workspace
        .harden(&["plan"])
        .exits(0)
        .says("`allow-delete` names it, and harden does not manage it");
    assert_eq!(ledger(&cluster, &workspace), [""; 0]);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_tenant_is_renamed_and_split_without_a_trace() {
    let cluster = single();
    let _gone = begin(&cluster);
    let tenant = |name: &str, namespaces: &str, more: &str| {
        format!("[tenants.{name}]\nnamespaces = {namespaces}\nnetwork = \"isolated\"\n{more}\n")
    };
    let both = r#"["ledger-a", "ledger-b"]"#;
    let workspace = workspace(&cluster, &tenant("old", both, ""));
    workspace.harden(&["apply", "--yes"]).exits(0);
    profile(&workspace, &tenant("new", both, ""));
    let said = workspace.harden(&["plan"]).exits(2);
    let said = said.says("metadata.labels[\"harden.dev/tenant\"]: \"old\" → \"new\"");
    assert!(!said.stdout.contains("left the profile"), "{}", said.stdout);
    workspace.harden(&["apply", "--yes"]).exits(0);
    // Split in two that still reach each other: what allows it comes before what it stands for goes.
    let split = |one: &str, other: &str| {
        tenant(
            one,
            r#"["ledger-a"]"#,
            &format!("ingress-tenants = [{other:?}]\negress-tenants = [{other:?}]"),
        ) + &tenant(
            other,
            r#"["ledger-b"]"#,
            &format!("ingress-tenants = [{one:?}]\negress-tenants = [{one:?}]"),
        )
    };
    profile(&workspace, &split("left", "right"));
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(there(
        &cluster,
        "ledger-a",
        "networkpolicy/harden-ingress-from-right"
    ));
    // And one of the two renamed: its peer's policies change their names.
    profile(&workspace, &split("left", "east"));
    let plan = workspace
        .harden(&["plan", "--format", "json"])
        .exits(2)
        .json();
    let names: Vec<&str> = plan["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .map(|stage| stage["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["objects-enforce", "objects-left"]);
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert!(there(
        &cluster,
        "ledger-a",
        "networkpolicy/harden-ingress-from-east"
    ));
    assert!(!there(
        &cluster,
        "ledger-a",
        "networkpolicy/harden-ingress-from-right"
    ));
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(
        !ledger(&cluster, &workspace)
            .iter()
            .any(|line| line.contains("right"))
    );
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_somebody_deletes_or_edits_is_told_and_put_back() {
    let cluster = single();
    let _gone = begin(&cluster);
    let workspace = workspace(&cluster, &format!("{TENANT}{OBJECTS}"));
    // What was there before is adopted, and stays one day.
    cluster
        .kubectl(&[
            "-n",
            "default",
            "create",
            "configmap",
            "ledger-settings",
            "--from-literal=own=1",
        ])
        .exits(0);
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert!(lists(
        &cluster,
        &workspace,
        "ConfigMap default/ledger-settings adopted"
    ));
    assert!(lists(
        &cluster,
        &workspace,
        "PriorityClass /ledger-batch made"
    ));
    cluster
        .kubectl(&[
            "-n",
            "ledger-a",
            "delete",
            "networkpolicy",
            "harden-default-deny",
        ])
        .exits(0);
    cluster
        .kubectl(&["label", "namespace", "ledger-a", "harden.dev/tenant-"])
        .exits(0);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("+ NetworkPolicy ledger-a/harden-default-deny")
        .says("metadata.labels[\"harden.dev/tenant\"]: nothing → \"old\"");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    // A field that another manager took is shown as theirs, and not fought for.
    let patch = r#"{"spec":{"hard":{"pods":"7"}}}"#;
    cluster
        .kubectl(&[
            "-n",
            "ledger-a",
            "patch",
            "resourcequota",
            "harden",
            "--field-manager=somebody",
            "-p",
            patch,
        ])
        .exits(0);
    workspace
        .harden(&["plan"])
        .exits(1)
        .says("spec.hard.pods")
        .says("somebody");
    // It leaves the profile all the same: harden made it.
    profile(&workspace, "");
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("- ResourceQuota ledger-a/harden")
        .says("- PriorityClass ledger-batch")
        .says("ConfigMap default/ledger-settings: it has left the profile and stays as it is");
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert!(!there(&cluster, "ledger-a", MADE));
    let said = cluster
        .kubectl(&[
            "-n",
            "default",
            "get",
            "configmap",
            "ledger-settings",
            "-o",
            "json",
        ])
        .exits(0)
        .json();
    assert_eq!(said["data"]["own"], "1");
    assert_eq!(said["data"]["level"], "info");
    workspace.harden(&["plan"]).exits(0).says("No changes");
}

#[test]
#[ignore = "needs testenv/up single"]
fn killed_half_way_the_next_run_makes_and_deletes_the_rest() {
    let cluster = single();
    let _gone = begin(&cluster);
    let workspace = workspace(&cluster, TENANT);
    workspace
        .killed_at(&["apply", "--yes"], "[4/")
        .expect("a fourth step");
    // Whatever is there is in the ledger.
    assert!(lists(
        &cluster,
        &workspace,
        "RoleBinding ledger-a/harden-editor made"
    ));
    workspace.harden(&["plan"]).says("has not ended");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(there(&cluster, "ledger-a", MADE));
    profile(&workspace, "");
    workspace
        .killed_at(&["apply", "--yes"], "[4/")
        .expect("a fourth step");
    assert!(lists(
        &cluster,
        &workspace,
        "RoleBinding ledger-a/harden-editor made"
    ));
    workspace.harden(&["plan"]).says("has not ended");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(!there(&cluster, "ledger-a", MADE));
    assert_eq!(ledger(&cluster, &workspace), [""; 0]);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_damaged_ledger_stops_everything_and_is_written_anew() {
    let cluster = single();
    let _gone = begin(&cluster);
    let _ledger = kept_ledger(&cluster);
    let workspace = workspace(&cluster, TENANT);
    workspace.harden(&["apply", "--yes"]).exits(0);
    let parts = cluster
        .kubectl(&[
            "-n",
            "kube-system",
            "get",
            "configmaps",
            "-l",
            "harden.dev/ledger",
            "-o",
            "name",
        ])
        .exits(0)
        .stdout;
    let part = parts.lines().next().expect("a part");
    // What is in it, and what would be deleted if it were believed.
    let line = format!(
        r#"{{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"namespace\":\"kube-system\",\"name\":\"kube-proxy\",\"how\":\"made\",\"workspaces\":[\"{}\"]}}"#,
        workspace.name()
    );
    let patch = format!("{{\"data\":{{\"entries\":\"{line}\\n\"}}}}");
    cluster
        .kubectl(&["-n", "kube-system", "patch", part, "-p", &patch])
        .exits(0);
    profile(&workspace, "");
    workspace
        .harden(&["plan"])
        .exits(1)
        .says("this part of the ledger is damaged, so nothing is deleted: it was edited")
        .says("restore it from a backup; or delete it");
    workspace.harden(&["apply", "--yes"]).exits(1);
    assert!(there(&cluster, "ledger-a", MADE));
    assert!(there(&cluster, "kube-system", "daemonset/kube-proxy"));
    cluster
        .kubectl(&[
            "-n",
            "kube-system",
            "delete",
            "configmaps",
            "-l",
            "harden.dev/ledger",
        ])
        .exits(0);
    // Nothing that left before is known any more.
    workspace.harden(&["plan"]).exits(0).says("No changes");
    profile(&workspace, TENANT);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("NetworkPolicy ledger-a/harden-default-deny: not in the ledger → noted");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    assert!(lists(
        &cluster,
        &workspace,
        "NetworkPolicy ledger-a/harden-default-deny adopted"
    ));
    // Who made it is not known now, so it stays.
    profile(&workspace, "");
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("it is not known that harden made it");
    workspace.harden(&["apply", "--yes"]).exits(0);
    assert!(there(&cluster, "ledger-a", MADE));
}
