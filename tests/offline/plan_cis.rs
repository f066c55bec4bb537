//! The CIS profiles on what kubeadm 1.35 leaves: little to do on a cluster as it was made, all of it
//! where the flags were lost.
#[path = "../cluster/bad_flags.rs"]
mod bad_flags;
use std::collections::BTreeSet;

use crate::plan_support::*;
use harden::control::Catalogue;
use harden::distribution::Component;
use harden::distribution::kubeadm::{Manifest, edit_manifest, manifest_path};
use harden::distribution::{ComponentEdit, kubeadm};
use harden::fact::*;
use harden::module::{Modules, evaluate};
use harden::plan::*;
use harden::profile::load;
use harden::report::cis_controls;
use harden::resource::*;

/// The flags that a profile wants.
fn flags(profile: &str, more: &str) -> Desired {
    desired_of(profile, more, |kind| matches!(kind, Kind::Flag(_)))
}

/// What a profile wants, as far as it is asked for.
fn desired_of(profile: &str, more: &str, is: fn(&Kind) -> bool) -> Desired {
    let modules = Modules::builtin().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = format!("imports = [\"builtin:{profile}\"]\n{more}cluster.name = \"x\"\n");
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    let workspace = load(dir.path(), &modules).unwrap_or_else(|e| panic!("{e:#}"));
    let mut desired = evaluate(&workspace, &modules).unwrap_or_else(|e| panic!("{e:#}"));
    desired.resources.retain(|resource| is(&resource.kind));
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
    run_with(facts, node, component, &text);
}

/// Puts a manifest in place and lets it run.
fn run_with(facts: &mut Facts, node: &str, component: Component, text: &str) {
    let argv = Manifest::parse(text, component).unwrap().argv;
    put(
        facts,
        node,
        Query::File(manifest_path(component)),
        file(text, 0o600),
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

/// The same as on a real cluster in tests/cluster/controls.rs, which differs from these facts.
#[test]
fn every_bad_flag_is_named_by_its_control_and_mended() {
    let wanted = |kind: &Kind| matches!(kind, Kind::Flag(_) | Kind::ComponentFile(_));
    let desired = desired_of("cis-level2", ACCEPT, wanted);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    let good = Component::ALL.map(|component| manifest(&facts, "cp1", component));
    for (component, text) in Component::ALL.iter().zip(&good) {
        let text = bad_flags::worsen(text, *component);
        run_with(&mut facts, "cp1", *component, &text);
    }
    let plan = build(&desired, &facts);
    let said = |change: &'_ Change| change.place == Place::Node("cp1".into());
    let said: Vec<_> = plan.changes.iter().filter(|c| said(c)).collect();
    let said: Vec<(&str, Vec<&str>)> = said
        .iter()
        .map(|c| {
            (
                &*c.resource,
                c.controls.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    assert_eq!(bad_flags::unsaid(&said), [""; 0], "{:?}", lines(&plan));
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    for (component, text) in Component::ALL.iter().zip(&good) {
        same_text(text, &manifest(&facts, "cp1", *component));
    }
}

fn same_text(a: &str, b: &str) {
    let diff = similar::TextDiff::from_lines(a, b);
    assert!(a == b, "{}", diff.unified_diff());
}

/// What cannot be made bad on a real cluster without losing it, and the flags without which it is bad.
const LOSING: [(&str, Component, &[&str]); 7] = [
    (
        "apiserver-kubelet-client-cert",
        Component::KubeApiserver,
        &["kubelet-client-certificate", "kubelet-client-key"],
    ),
    (
        "apiserver-service-account-key",
        Component::KubeApiserver,
        &["service-account-key-file"],
    ),
    (
        "apiserver-etcd-client-cert",
        Component::KubeApiserver,
        &["etcd-certfile", "etcd-keyfile"],
    ),
    (
        "apiserver-tls-cert",
        Component::KubeApiserver,
        &["tls-cert-file", "tls-private-key-file"],
    ),
    (
        "apiserver-client-ca",
        Component::KubeApiserver,
        &["client-ca-file"],
    ),
    (
        "apiserver-etcd-ca",
        Component::KubeApiserver,
        &["etcd-cafile"],
    ),
    (
        "etcd-client-tls",
        Component::Etcd,
        &["cert-file", "key-file"],
    ),
];

/// One flag at a time, so that no control is named for the sake of another.
#[test]
fn what_no_real_cluster_survives_is_named_and_mended_on_recorded_facts() {
    // Those with an option and without a proof, but for one whose option no test cluster can have on.
    let (catalogue, modules) = (Catalogue::builtin().unwrap(), Modules::builtin().unwrap());
    let unproven = cis_controls(&catalogue, &modules);
    let unproven = unproven.iter().filter(|one| {
        let pulls = one.control.name == "apiserver-always-pull-images";
        // A listener too many is proven on a real one, and not a certificate that is missing.
        let half = one.control.name == "etcd-client-tls";
        !one.options.is_empty() && (half || one.control.unproven.is_some()) && !pulls
    });
    let unproven: BTreeSet<&str> = unproven.map(|one| &*one.control.name).collect();
    assert_eq!(unproven, LOSING.map(|(control, ..)| control).into());

    let desired = flags("cis-level2", ACCEPT);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    for (control, component, names) in LOSING {
        let good = manifest(&facts, "cp1", component);
        for name in names {
            let gone = ComponentEdit::RemoveFlag {
                name: (*name).into(),
            };
            weaken(&mut facts, "cp1", component, &[gone]);
            let plan = build(&desired, &facts);
            let found: Vec<_> = plan.changes.iter().map(|c| &*c.resource).collect();
            let flag = format!("{component} --{name}");
            assert!(
                !found.is_empty() && found.iter().all(|f| *f == flag),
                "{found:?}"
            );
            for change in &plan.changes {
                assert_eq!(change.controls, [control]);
            }
            execute(&plan, &mut facts);
            assert!(build(&desired, &facts).is_clean());
            assert_eq!(manifest(&facts, "cp1", component), good);
        }
    }
}
