//! The flags of the control plane and the files of every node: good, made bad, good again. Each row of a
//! table is a control and what makes it bad; the catalogue names these tests as proof of just those.

use std::collections::BTreeSet;
use std::time::Duration;

use harden::control::Catalogue;
use harden::distribution::kubeadm::{Manifest, edit_manifest, manifest_path};
use harden::distribution::{Component, ComponentEdit};
use serde_json::Value;

use crate::environment::{Cluster, Via, eventually, run, single};
use crate::etcd_user::last_generation;
use crate::kubelets;
use crate::thin_line::pods_run;

/// Flags and their bad values; `None` takes a flag away.
type Edits = &'static [(&'static str, Option<&'static str>)];

/// A file of tokens, where the API server's container can read it.
const TOKENS: &str = "/etc/kubernetes/pki/test-tokens.csv";
/// Everybody is let in without a name, to every path.
const AUTHENTICATION: &str = "/etc/kubernetes/pki/test-authentication.yaml";

/// AlwaysAdmit alone: none of the plugins that were asked for is on any more.
const ADMIT: Edits = &[("enable-admission-plugins", Some("AlwaysAdmit"))];
const NOT_ADMITTED: Edits = &[(
    "disable-admission-plugins",
    Some("ServiceAccount,NamespaceLifecycle"),
)];
/// With it the API server answers nobody without a name, not even its own probes, unless the file of
/// [`AUTHENTICATION`] says otherwise (kubernetes v1.35 pkg/kubeapiserver/options/authentication.go:
/// `ApplyAuthorization`).
const ALLOW: Edits = &[("authorization-mode", Some("AlwaysAllow"))];

const API: Component = Component::KubeApiserver;
const MANAGER: Component = Component::KubeControllerManager;
const SCHEDULER: Component = Component::KubeScheduler;
const ETCD: Component = Component::Etcd;

/// What makes the controls of CIS 1.2, 1.3, 1.4, 2 and 3.2 bad and lets the component start: all of it
/// at once, so that each restarts only once.
const FLAGS: &[(&str, Component, Edits)] = &[
    (
        "apiserver-anonymous-limited",
        API,
        &[("authentication-config", Some(AUTHENTICATION))],
    ),
    (
        "apiserver-token-file-off",
        API,
        &[("token-auth-file", Some(TOKENS))],
    ),
    ("apiserver-external-ips-denied", API, ADMIT),
    (
        "apiserver-kubelet-ca",
        API,
        &[("kubelet-certificate-authority", None)],
    ),
    ("apiserver-authorization-not-always-allow", API, ALLOW),
    ("apiserver-authorization-node", API, ALLOW),
    ("apiserver-authorization-rbac", API, ALLOW),
    ("apiserver-event-rate-limit", API, ADMIT),
    ("apiserver-always-admit-off", API, ADMIT),
    ("apiserver-service-account-admission", API, NOT_ADMITTED),
    ("apiserver-namespace-lifecycle", API, NOT_ADMITTED),
    ("apiserver-node-restriction", API, ADMIT),
    ("apiserver-admission-plugins", API, ADMIT),
    (
        "apiserver-profiling-off",
        API,
        &[("profiling", Some("true"))],
    ),
    ("audit-log", API, &[("audit-log-path", None)]),
    (
        "audit-log-retention",
        API,
        &[
            ("audit-log-maxage", Some("1")),
            ("audit-log-maxbackup", None),
            ("audit-log-maxsize", Some("1")),
        ],
    ),
    ("audit-policy", API, &[("audit-policy-file", None)]),
    (
        "audit-policy-key-concerns",
        API,
        &[("audit-policy-file", None)],
    ),
    (
        "apiserver-request-timeout",
        API,
        &[("request-timeout", Some("10m"))],
    ),
    (
        "apiserver-service-account-lookup",
        API,
        &[("service-account-lookup", Some("false"))],
    ),
    (
        "apiserver-ciphers-strong",
        API,
        &[("tls-cipher-suites", None)],
    ),
    (
        "apiserver-tls-modern",
        API,
        &[("tls-min-version", Some("VersionTLS10"))],
    ),
    (
        "apiserver-token-extension-off",
        API,
        &[("service-account-extend-token-expiration", Some("true"))],
    ),
    (
        "controller-manager-pod-gc",
        MANAGER,
        &[("terminated-pod-gc-threshold", Some("12500"))],
    ),
    (
        "controller-manager-profiling-off",
        MANAGER,
        &[("profiling", Some("true"))],
    ),
    (
        "controller-manager-own-credentials",
        MANAGER,
        &[("use-service-account-credentials", Some("false"))],
    ),
    // The API server makes the tokens of today; this key is for those in Secrets.
    (
        "controller-manager-service-account-key",
        MANAGER,
        &[("service-account-private-key-file", None)],
    ),
    // Pods get the authority of the controller manager's kubeconfig, which is the same.
    (
        "controller-manager-root-ca",
        MANAGER,
        &[("root-ca-file", None)],
    ),
    (
        "controller-manager-kubelet-rotation",
        MANAGER,
        &[("feature-gates", Some("RotateKubeletServerCertificate=false"))],
    ),
    (
        "controller-manager-bind-local",
        MANAGER,
        &[("bind-address", Some("0.0.0.0"))],
    ),
    (
        "scheduler-profiling-off",
        SCHEDULER,
        &[("profiling", Some("true"))],
    ),
    (
        "scheduler-bind-local",
        SCHEDULER,
        &[("bind-address", Some("0.0.0.0"))],
    ),
    // With an authority to trust etcd asks for certificates whatever this flag says (etcd v3.6
    // client/pkg/transport/listener.go: `ServerConfig`), so that both go together.
    (
        "etcd-client-cert-auth",
        ETCD,
        &[("client-cert-auth", Some("false"))],
    ),
    ("etcd-own-ca", ETCD, &[("trusted-ca-file", None)]),
    // Beside a certificate that is named, etcd takes no notice of it.
    ("etcd-auto-tls-off", ETCD, &[("auto-tls", Some("true"))]),
    // A single member has no peers to be refused by; it makes a certificate up.
    (
        "etcd-peer-tls",
        ETCD,
        &[("peer-cert-file", None), ("peer-key-file", None)],
    ),
    (
        "etcd-peer-auto-tls-off",
        ETCD,
        &[("peer-auto-tls", Some("true"))],
    ),
    (
        "etcd-peer-cert-auth",
        ETCD,
        &[
            ("peer-client-cert-auth", Some("false")),
            ("peer-trusted-ca-file", None),
        ],
    ),
];

/// Makes every control of a component bad, in its manifest's text.
fn worsen(text: &str, component: Component) -> String {
    let rows = FLAGS.iter().filter(|(_, of, _)| *of == component);
    let edits: Vec<ComponentEdit> = rows
        .flat_map(|(_, _, edits)| edits.iter())
        .map(|(name, value)| match value {
            Some(value) => ComponentEdit::SetFlag {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            },
            None => ComponentEdit::RemoveFlag {
                name: (*name).to_owned(),
            },
        })
        .collect();
    edit_manifest(text, component, &edits, &[]).expect("an edit")
}

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
    let well = || run(std::process::Command::new("docker").args(ask)).stdout == "ok";
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

fn serves(change: &Value, control: &str) -> bool {
    let controls = change["controls"].as_array().expect("controls");
    controls.iter().any(|one| one == control)
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
    let missing: Vec<_> = FLAGS
        .iter()
        .filter(|(control, component, edits)| {
            let flag = |name: &str| format!("{component} --{name}");
            let named = |name: &str| {
                changes(&plan, &cp)
                    .any(|change| change["resource"] == flag(name) && serves(change, control))
            };
            !edits.iter().all(|(name, _)| named(name))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}\n{plan:#}");
    // What was not touched is as it was asked for.
    let configured = changes(&plan, &cp).find(|change| change["copy"] == "kubeadm-config");
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
        &["/etc/cni/net.d/*", "/var/lib/cni/networks/test/*"],
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
        &["/etc/kubernetes/pki/*.key", "/etc/kubernetes/pki/etcd/*.key"],
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
        &["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml"],
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
const CERTIFICATES: &[&str] = &["/etc/kubernetes/pki/*.crt", "/etc/kubernetes/pki/etcd/*.crt"];
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
const MADE: &str = "mkdir -p /etc/kubernetes/kubelet.conf.d /var/lib/cni/networks/test /var/lib/kube-proxy && \
    touch /etc/kubernetes/kubelet.conf.d/50-test.conf /var/lib/cni/networks/test/10.244.0.9 \
      /etc/kubernetes/proxy.conf /var/lib/kube-proxy/kubeconfig";
const UNMADE: &str = "rm -rf /etc/kubernetes/kubelet.conf.d /var/lib/cni/networks/test /var/lib/kube-proxy \
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
    let owner = if owner { "chown 65534:65534 \"$f\" && " } else { "" };
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
            let judged = !OF_CONTROL_PLANES.contains(control)
                || cluster.control_planes().contains(node);
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
            resource.split(' ').next_back() == Some(path) && serves(change, control)
        })
    };
    for (node, control, paths) in &loosened {
        // A directory among the entries of another has an owner that is judged, and no mode.
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
