//! What makes each flag of the control plane bad, on real clusters and on recorded facts.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use harden::distribution::kubeadm::edit_manifest;
use harden::distribution::{Component, ComponentEdit};

/// Flags and their bad values; `None` takes a flag away.
pub type Edits = &'static [(&'static str, Option<&'static str>)];

/// A file of tokens, where the API server's container can read it.
pub const TOKENS: &str = "/etc/kubernetes/pki/test-tokens.csv";
/// Everybody is let in without a name, to every path.
pub const AUTHENTICATION: &str = "/etc/kubernetes/pki/test-authentication.yaml";

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

pub const API: Component = Component::KubeApiserver;
pub const MANAGER: Component = Component::KubeControllerManager;
pub const SCHEDULER: Component = Component::KubeScheduler;
pub const ETCD: Component = Component::Etcd;

/// What makes the controls of CIS 1.2, 1.3, 1.4, 2 and 3.2 bad and lets the component start: all of it
/// at once, so that each restarts only once.
pub const FLAGS: &[(&str, Component, Edits)] = &[
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
        &[(
            "feature-gates",
            Some("RotateKubeletServerCertificate=false"),
        )],
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
pub fn worsen(text: &str, component: Component) -> String {
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

/// Whether a change of a plan is about a flag, or the file that it names, and made for a control.
fn is_about(resource: &str, controls: &[&str], control: &str, flag: &str) -> bool {
    let rest = resource.strip_prefix(flag);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        && controls.contains(&control)
}

/// The rows of which a plan leaves something unsaid. `changes` are its resources with their controls.
pub fn unsaid(changes: &[(&str, Vec<&str>)]) -> Vec<&'static str> {
    let said = |control: &str, flag: &str| {
        let mut all = changes.iter();
        all.any(|(resource, controls)| is_about(resource, controls, control, flag))
    };
    let rows = FLAGS.iter().filter(|(control, component, edits)| {
        let mut edits = edits.iter();
        !edits.all(|(name, _)| said(control, &format!("{component} --{name}")))
    });
    rows.map(|(control, ..)| *control).collect()
}
