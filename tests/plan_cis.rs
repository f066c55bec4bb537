//! The CIS profiles on what kubeadm 1.35 leaves: little to do on a cluster as it was made, all of it
//! where the flags were lost.
#![allow(clippy::unwrap_used, missing_docs)]

mod plan_support;

use harden::distribution::Component;
use harden::distribution::kubeadm::{Manifest, edit_manifest, manifest_path};
use harden::distribution::{ComponentEdit, kubeadm};
use harden::fact::*;
use harden::module::{Modules, evaluate};
use harden::plan::*;
use harden::profile::load;
use harden::resource::*;
use plan_support::*;

/// The flags that a profile wants.
fn flags(profile: &str, more: &str) -> Desired {
    let modules = Modules::builtin().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = format!("imports = [\"builtin:{profile}\"]\n{more}cluster.name = \"x\"\n");
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    let workspace = load(dir.path(), &modules).unwrap_or_else(|e| panic!("{e:#}"));
    let mut desired = evaluate(&workspace, &modules).unwrap_or_else(|e| panic!("{e:#}"));
    desired
        .resources
        .retain(|resource| matches!(resource.kind, Kind::Flag(_)));
    desired
}

fn changed(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = plan.changes.iter().map(|c| c.resource.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Edits a manifest and lets it run.
fn weaken(facts: &mut Facts, node: &str, component: Component, edits: &[ComponentEdit]) {
    let text = edit_manifest(&manifest(facts, node, component), component, edits, &[]).unwrap();
    let argv = Manifest::parse(&text, component).unwrap().argv;
    put(
        facts,
        node,
        Query::File(manifest_path(component)),
        file(&text, 0o600),
    );
    put(
        facts,
        node,
        Query::Process(component.program()),
        process(7, argv),
    );
}

#[test]
fn level_1_changes_little_on_what_kubeadm_makes() {
    let baseline = flags("baseline", "");
    let facts = cluster(&["cp1", "cp2", "cp3"], &baseline);
    let known = changed(&build(&baseline, &facts));
    let desired = flags("cis-level1", "");
    let facts = cluster(&["cp1", "cp2", "cp3"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0], "nothing of it waits for consent");
    let new: Vec<String> = changed(&plan)
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect();
    assert_eq!(
        new,
        [
            "kube-apiserver --enable-admission-plugins",
            "kube-apiserver --request-timeout",
            "kube-apiserver --service-account-lookup"
        ]
    );
}

const ACCEPT: &str = "accept = [\"apiserver\", \"etcd\"]\n";

#[test]
fn what_was_lost_comes_back_and_then_nothing_is_left_to_do() {
    let desired = flags("cis-level2", ACCEPT);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    let set = |name: &str, value: &str| ComponentEdit::SetFlag {
        name: name.into(),
        value: value.into(),
    };
    let gone = |name: &str| ComponentEdit::RemoveFlag { name: name.into() };
    let api = [
        set("authorization-mode", "AlwaysAllow,Webhook"),
        set("enable-admission-plugins", "AlwaysAdmit"),
        set(
            "disable-admission-plugins",
            "ServiceAccount,NamespaceLifecycle",
        ),
        set("token-auth-file", "/etc/kubernetes/tokens.csv"),
        gone("client-ca-file"),
        gone("etcd-cafile"),
        gone("kubelet-client-key"),
        set("service-account-key-file", ""),
    ];
    weaken(&mut facts, "cp1", Component::KubeApiserver, &api);
    let manager = [
        set(
            "feature-gates",
            "RotateKubeletServerCertificate=f,Other=true",
        ),
        gone("root-ca-file"),
    ];
    weaken(
        &mut facts,
        "cp1",
        Component::KubeControllerManager,
        &manager,
    );
    let etcd = [
        set("client-cert-auth", "false"),
        set("auto-tls", "true"),
        set("peer-auto-tls", "1"),
        gone("peer-key-file"),
        gone("trusted-ca-file"),
    ];
    weaken(&mut facts, "cp1", Component::Etcd, &etcd);
    let plan = build(&desired, &facts);
    // The flags alone do not bring the kubelets' certificates.
    let [accepted] = &problems(&plan)[..] else {
        panic!("{:?}", problems(&plan));
    };
    assert!(accepted.contains("--kubelet-certificate-authority: accepted, although"));
    execute(&plan, &mut facts);
    let again = build(&desired, &facts);
    assert!(again.is_clean(), "{:?}", lines(&again));
    assert_eq!(manifest(&facts, "cp1", Component::Etcd), MANIFESTS[3].1);
    let manifest_of = |component| {
        let text = manifest(&facts, "cp1", component);
        Manifest::parse(&text, component).unwrap()
    };
    let api = manifest_of(Component::KubeApiserver);
    assert_eq!(api.values("authorization-mode"), ["Node,RBAC,Webhook"]);
    assert_eq!(
        api.values("enable-admission-plugins"),
        ["NodeRestriction,DenyServiceExternalIPs,EventRateLimit"]
    );
    assert_eq!(api.values("disable-admission-plugins"), [""; 0]);
    assert_eq!(api.values("client-ca-file"), ["/etc/kubernetes/pki/ca.crt"]);
    let manager = manifest_of(Component::KubeControllerManager);
    assert_eq!(
        manager.values("feature-gates"),
        ["RotateKubeletServerCertificate=true,Other=true"]
    );
    // Both servers take and refuse the same, in the order that kubeadm would write.
    let of = |node: &str| kubeadm::argv::flags(&argv(&facts, node, API)).len();
    assert_eq!(of("cp1"), of("cp2"));
}

#[test]
fn without_consent_nothing_of_etcd_is_touched() {
    let desired = flags("cis-level1", "");
    let mut facts = cluster(&["cp1"], &desired);
    let edit = ComponentEdit::SetFlag {
        name: "client-cert-auth".into(),
        value: "false".into(),
    };
    weaken(&mut facts, "cp1", Component::Etcd, &[edit]);
    let plan = build(&desired, &facts);
    insta::assert_snapshot!(problems(&plan).join("\n"), @"Error API | etcd --client-cert-auth: it can break workloads or lock out, and is not accepted; left undone: cp1 manifest: false → true; cp1 process: false → true");
    assert!(!changed(&plan).iter().any(|name| name.starts_with("etcd")));
}
