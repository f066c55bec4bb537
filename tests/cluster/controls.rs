//! The flags of the control plane and the files of every node: good, made bad, good again. Each row of a
//! table is a control and what makes it bad; the catalogue names these tests as proof of just those.

use std::collections::BTreeSet;
use std::time::Duration;

use harden::control::Catalogue;
use harden::distribution::Component;
use harden::distribution::kubeadm::{Manifest, manifest_path};
use serde_json::Value;

use crate::bad_flags::{
    API, AUTHENTICATION, ETCD, FLAGS, MANAGER, SCHEDULER, TOKENS, unsaid, worsen,
};
use crate::environment::{Cluster, Via, eventually, run, single};
use crate::etcd_user::last_generation;
use crate::kubelets;
use crate::thin_line::pods_run;

/// Whether a component runs with the flags of a manifest, and with no others, and is well.
fn runs(cluster: &Cluster, node: &str, component: Component, text: &str) -> bool {
    let wanted = Manifest::parse(text, component).and_then(|manifest| manifest.process());
    let wanted = wanted.expect("a command line").join(" ");
    let health = match component {
        API => "https://127.0.0.1:6443/readyz",
        MANAGER => "https://127.0.0.1:10257/healthz",
        SCHEDULER => "https://127.0.0.1:10259/healthz",
        // Its port for metrics and health has no TLS.
        ETCD => "http://127.0.0.1:2381/readyz",
    };
    let ask = ["exec", node, "curl", "-sk", "--max-time", "3", health];
    let well = || {
        run(std::process::Command::new("docker").args(ask))
            .stdout
            .trim()
            == "ok"
    };
    cluster.argv(node, component.name()).trim() == wanted && well()
}

/// Puts manifests in place, all before any is waited for. The copy in kubeadm-config stays as it is.
fn put(cluster: &Cluster, node: &str, manifests: &[(Component, String)]) {
    for (component, text) in manifests {
        if cluster.manifest(node, component.name()) != *text {
            cluster.write(node, manifest_path(*component).as_str(), text);
        }
    }
    for (component, text) in manifests {
        let what = format!("{component} runs with its new flags");
        eventually(&what, Duration::from_secs(300), || {
            runs(cluster, node, *component, text)
        });
    }
}

fn manifests(cluster: &Cluster, node: &str) -> Vec<(Component, String)> {
    let all = Component::ALL.iter();
    all.map(|component| (*component, cluster.manifest(node, component.name())))
        .collect()
}

/// The changes of a plan on a node.
fn changes<'p>(plan: &'p Value, node: &'p str) -> impl Iterator<Item = &'p Value> {
    let all = plan["changes"].as_array().expect("changes").iter();
    all.filter(move |change| change["place"]["node"] == node)
}

/// The controls that a change is made for.
fn controls_of(change: &Value) -> Vec<&str> {
    let controls = change["controls"].as_array().expect("controls");
    controls.iter().filter_map(Value::as_str).collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn each_flag_of_the_control_plane_is_made_bad_and_mended() {
    let cluster = single();
    cluster.weaken();
    let cp = cluster.node("control-plane");
    // etcd's user is a matter of its own, and needs an account; see etcd_user.rs.
    let replace = [
        (
            "imports = [\"builtin:baseline\"]",
            "imports = [\"builtin:cis-level2\"]\nunset   = [\"etcd.run-as\"]",
        ),
        (
            "accept  = [\"tenants\"]",
            "accept  = [\"tenants\", \"apiserver.authorization-mode\", \"apiserver.token-auth-file\", \
             \"apiserver.tls-cipher-suites\", \"etcd\", \"files.pki-owner\"]",
        ),
    ];
    let workspace = cluster.workspace(Via::Ssh, &replace, "");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    let first = last_generation(&workspace);
    let good = manifests(&cluster, &cp);

    // Good → bad.
    let files = format!("rm -rf {TOKENS} {AUTHENTICATION} /var/lib/etcd/fixtures");
    let _put_right = cluster.afterwards(&cp, &files);
    let token = "nobody-uses-this-token,test-nobody,test-nobody\n";
    let everybody = "apiVersion: apiserver.config.k8s.io/v1beta1\n\
                     kind: AuthenticationConfiguration\nanonymous: {enabled: true}\n";
    cluster.on(&cp, &format!("umask 077; touch {TOKENS} {AUTHENTICATION}"));
    cluster.write(&cp, TOKENS, token);
    cluster.write(&cp, AUTHENTICATION, everybody);
    let bad: Vec<_> = good
        .iter()
        .map(|(component, text)| (*component, worsen(text, *component)))
        .collect();
    put(&cluster, &cp, &bad);

    let plan = workspace
        .harden(&["plan", "--format", "json"])
        .exits(2)
        .json();
    let said: Vec<_> = changes(&plan, &cp)
        .map(|change| {
            let resource = change["resource"].as_str().expect("a name");
            (resource, controls_of(change))
        })
        .collect();
    assert_eq!(unsaid(&said), [""; 0], "{plan:#}");
    // What was not touched is as it was asked for.
    let all = plan["changes"].as_array().expect("changes");
    let configured = all.iter().find(|change| change["copy"] == "kubeadm-config");
    assert!(configured.is_none(), "{configured:#?}");

    // Bad → good.
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    for (component, edits) in FLAGS.iter().map(|(_, component, edits)| (component, edits)) {
        let argv = cluster.argv(&cp, component.name());
        for (name, value) in edits.iter() {
            match value {
                Some(value) => assert!(!argv.contains(&format!("--{name}={value} ")), "{argv}"),
                None => assert!(argv.contains(&format!("--{name}=")), "{argv}"),
            }
        }
    }
    pods_run(&cluster);

    // And back to where the other tests begin.
    put(&cluster, &cp, &good);
    workspace.harden(&["rollback", &first, "--yes"]).exits(0);
}

/// What is done to a path.
#[derive(Debug, Clone, Copy)]
enum Loosen {
    /// A wider mode and another owner and group.
    Both(&'static str),
    Mode(&'static str),
    Owner,
}
use Loosen::{Both, Mode, Owner};

/// Paths by control, on every node where they are. The first of them is on some node.
const FILES: &[(&str, Loosen, &[&str])] = &[
    (
        "manifests-owner-only",
        Both("0666"),
        &["/etc/kubernetes/manifests/*"],
    ),
    (
        "cni-files-owner-only",
        Both("0644"),
        &["/etc/cni/net.d/*", "/var/lib/cni/networks/*.test"],
    ),
    ("etcd-data-owner-only", Mode("0755"), &["/var/lib/etcd"]),
    (
        "kubeconfigs-owner-only",
        Both("0644"),
        &[
            "/etc/kubernetes/admin.conf",
            "/etc/kubernetes/super-admin.conf",
            "/etc/kubernetes/controller-manager.conf",
            "/etc/kubernetes/scheduler.conf",
        ],
    ),
    (
        "pki-owned-by-root",
        Owner,
        &[
            "/etc/kubernetes/pki",
            "/etc/kubernetes/pki/*",
            "/etc/kubernetes/pki/*/*",
        ],
    ),
    ("pki-certificates-unwritable", Mode("0666"), CERTIFICATES),
    ("pki-certificates-owner-only", Mode("0666"), CERTIFICATES),
    (
        "pki-keys-owner-only",
        Mode("0644"),
        &[
            "/etc/kubernetes/pki/*.key",
            "/etc/kubernetes/pki/etcd/*.key",
        ],
    ),
    (
        "kubelet-service-owner-only",
        Both("0666"),
        &[
            "/etc/systemd/system/kubelet.service",
            "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        ],
    ),
    (
        "kube-proxy-kubeconfig-owner-only",
        Both("0644"),
        &[
            "/etc/kubernetes/proxy.conf",
            "/var/lib/kube-proxy/kubeconfig",
        ],
    ),
    (
        "kubelet-files-owner-only",
        Both("0666"),
        &[
            "/etc/kubernetes/kubelet.conf",
            "/var/lib/kubelet/config.yaml",
        ],
    ),
    (
        "kubelet-drop-ins-unwritable",
        Both("0777"),
        &[
            "/etc/kubernetes/kubelet.conf.d",
            "/etc/kubernetes/kubelet.conf.d/*.conf",
        ],
    ),
    ("kubelet-client-ca-unwritable", Both("0666"), AUTHORITY),
    ("kubelet-client-ca-owner-only", Both("0666"), AUTHORITY),
];
const CERTIFICATES: &[&str] = &[
    "/etc/kubernetes/pki/*.crt",
    "/etc/kubernetes/pki/etcd/*.crt",
];
const AUTHORITY: &[&str] = &["/etc/kubernetes/pki/ca.crt"];

/// On a control-plane node only: a worker has none, or others that nobody judges.
const OF_CONTROL_PLANES: [&str; 7] = [
    "manifests-owner-only",
    "etcd-data-owner-only",
    "kubeconfigs-owner-only",
    "pki-owned-by-root",
    "pki-certificates-unwritable",
    "pki-certificates-owner-only",
    "pki-keys-owner-only",
];

/// What kubeadm leaves no file of.
const MADE: &str = "mkdir -p /etc/kubernetes/kubelet.conf.d /var/lib/cni/networks /var/lib/kube-proxy && \
    touch /etc/kubernetes/kubelet.conf.d/50-test.conf /var/lib/cni/networks/file.test \
      /etc/kubernetes/proxy.conf /var/lib/kube-proxy/kubeconfig";
const UNMADE: &str = "rm -rf /etc/kubernetes/kubelet.conf.d /var/lib/cni/networks/file.test /var/lib/kube-proxy \
    /etc/kubernetes/proxy.conf";

/// The strictest that the options of the files can ask for without locking anybody out.
const STRICT: &str = r#"
[files]
manifests-mode             = "0600"
kubeconfigs-mode           = "0600"
kubelet-mode               = "0600"
kubelet-service-mode       = "0600"
kubelet-drop-in-dir-mode   = "0755"
kubelet-drop-ins-mode      = "0644"
kubelet-client-ca-mode     = "0600"
kube-proxy-kubeconfig-mode = "0600"
cni-mode                   = "0600"
etcd-data-mode             = "0700"
certificates-mode          = "0600"
keys-mode                  = "0600"
pki-owner                  = "root"
"#;

/// Loosens the files of a control on a node; returns which they were.
fn loosen(cluster: &Cluster, node: &str, how: Loosen, paths: &[&str]) -> Vec<String> {
    let (mode, owner) = match how {
        Both(mode) => (Some(mode), true),
        Mode(mode) => (Some(mode), false),
        Owner => (None, true),
    };
    let mode = mode.map(|mode| format!("chmod {mode} \"$f\" && "));
    let owner = if owner {
        "chown 65534:65534 \"$f\" && "
    } else {
        ""
    };
    let script = format!(
        "for f in {}; do [ -L \"$f\" ] || [ ! -e \"$f\" ] || {{ {}{owner}echo \"$f\"; }} || exit 1; done",
        paths.join(" "),
        mode.unwrap_or_default()
    );
    let done = cluster.on(node, &script);
    done.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn each_file_is_loosened_and_mended() {
    let cluster = single();
    let replace = [
        ("imports = [\"builtin:baseline\"]", "imports = []"),
        (
            "accept  = [\"tenants\"]",
            "accept  = [\"tenants\", \"files.pki-owner\"]",
        ),
    ];
    let workspace = cluster.workspace(Via::Ssh, &replace, STRICT);
    let nodes = cluster.nodes();
    let _unmade: Vec<_> = nodes
        .iter()
        .map(|node| cluster.afterwards(node, UNMADE))
        .collect();
    for node in &nodes {
        cluster.on(node, MADE);
    }
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");

    // Good → bad.
    let mut loosened = Vec::new();
    for node in &nodes {
        for (control, how, paths) in FILES {
            let judged =
                !OF_CONTROL_PLANES.contains(control) || cluster.control_planes().contains(node);
            if judged {
                let done = loosen(&cluster, node, *how, paths);
                assert!(!done.is_empty(), "{node}: {control}: no file of {paths:?}");
                loosened.push((node, control, done));
            }
        }
    }
    let plan = workspace
        .harden(&["plan", "--format", "json"])
        .exits(2)
        .json();
    let named = |node: &str, control: &str, path: &str| {
        changes(&plan, node).any(|change| {
            let resource = change["resource"].as_str().expect("a name");
            resource.split(' ').next_back() == Some(path) && controls_of(change).contains(&control)
        })
    };
    for (node, control, paths) in &loosened {
        for path in paths {
            assert!(
                named(node, control, path),
                "{node}: {control}: {path}\n{plan:#}"
            );
        }
    }

    // Bad → good, which is seen past harden as well.
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    for (node, control, paths) in &loosened {
        let script = format!("stat -c '%a %U:%G %n' {}", paths.join(" "));
        for line in cluster.on(node, &script).lines() {
            let (mode, rest) = line.split_once(' ').expect("a mode");
            let mode = u32::from_str_radix(mode, 8).expect("a mode");
            assert!(
                mode & 0o022 == 0 && rest.starts_with("root:root "),
                "{node}: {control}: {line}"
            );
        }
    }

    // Back to what was bad, and good once more.
    workspace.harden(&["rollback", "--yes"]).exits(0);
    workspace.harden(&["plan", "--short"]).exits(2);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
}

/// The controls that name a test as their proof.
fn claimed(test: &str) -> BTreeSet<String> {
    let catalogue = Catalogue::builtin().expect("the catalogue");
    let all = catalogue.controls();
    let claiming = all.filter(|control| control.proof.iter().any(|proof| proof == test));
    claiming.map(|control| control.name.clone()).collect()
}

/// What a test makes bad is what the catalogue says it proves: neither claims more than the other. Needs
/// no cluster.
#[test]
fn the_catalogue_claims_what_the_tables_make_bad() {
    let names = |table: &mut dyn Iterator<Item = &'static str>| -> BTreeSet<String> {
        table.map(str::to_owned).collect()
    };
    assert_eq!(
        claimed("controls::each_flag_of_the_control_plane_is_made_bad_and_mended"),
        names(&mut FLAGS.iter().map(|(control, ..)| *control))
    );
    assert_eq!(
        claimed("controls::each_file_is_loosened_and_mended"),
        names(&mut FILES.iter().map(|(control, ..)| *control))
    );
    let of_kube_proxy = ["kube-proxy-metrics-local"].into_iter();
    let of_kubelets = kubelets::BAD.iter().map(|(control, _)| *control);
    assert_eq!(
        claimed("kubelets::each_control_of_kubelets_and_kube_proxy_is_made_bad_and_mended"),
        names(&mut of_kubelets.chain(of_kube_proxy))
    );
}
