//! Every value that an option recommends, and every value of a built-in profile, passes the checks
//! of the controls that the option serves; and what is laxer does not.
use std::collections::BTreeSet;

use harden::control::{self, Catalogue};
use harden::module::{Check, Modules, OptionDecl, evaluate};
use harden::profile::load;
use harden::resource::{Desired, Subject};

fn desired(text: &str, modules: &Modules) -> Desired {
    let dir = tempfile::tempdir().unwrap();
    let head = "cluster.name = \"x\"\n";
    std::fs::write(dir.path().join("harden.toml"), format!("{head}{text}")).unwrap();
    let workspace = load(dir.path(), modules).unwrap_or_else(|e| panic!("{text}\n{e:#}"));
    evaluate(&workspace, modules).unwrap_or_else(|e| panic!("{text}\n{e:#}"))
}

fn checks(modules: &Modules) -> Vec<&Check> {
    modules
        .iter()
        .flat_map(|(_, module)| &module.checks)
        .collect()
}

/// What a check sees of a subject where it is as it is wanted.
fn wanted(desired: &Desired, subject: &Subject) -> serde_json::Value {
    let all = desired.resources.iter();
    all.flat_map(|resource| resource.kind.behaviour().as_wanted())
        .find(|(wanted, _)| wanted == subject)
        .map_or(serde_json::Value::Null, |(_, seen)| seen["value"].clone())
}

/// Every check that sees something of it and is of a control that it serves, and whether it passes.
/// A resource knows only its own items of a list, so that the checks of others say nothing of it.
fn verdicts<'m>(desired: &Desired, modules: &'m Modules) -> Vec<(&'m Check, bool)> {
    let mut verdicts = Vec::new();
    for resource in &desired.resources {
        for (subject, mut seen) in resource.kind.behaviour().as_wanted() {
            let serves =
                |c: &&Check| c.subject == subject && resource.controls.contains(&c.control);
            for check in checks(modules).into_iter().filter(serves) {
                if let Some(other) = &check.other {
                    seen["other"] = wanted(desired, other);
                }
                let passes = check.passes(&seen);
                let passes = passes.unwrap_or_else(|e| panic!("{} on {seen}: {e}", check.control));
                verdicts.push((check, passes));
            }
        }
    }
    verdicts
}

fn assert_good(text: &str, modules: &Modules) -> BTreeSet<String> {
    let verdicts = verdicts(&desired(text, modules), modules);
    for (check, passes) in &verdicts {
        assert!(
            passes,
            "{}: {} for\n{text}",
            check.control,
            check.condition()
        );
    }
    verdicts
        .into_iter()
        .map(|(check, _)| check.control.clone())
        .collect()
}

const TENANT: &str = "[tenants.a]\nnamespaces = [\"a\"]\nquota = { pods = \"5\" }\n\
                      limits = [{ type = \"Container\", default = { memory = \"1Gi\" } }]\n\
                      owners = [{ kind = \"User\", name = \"anna\" }]\nautomount = false\n\
                      images = \"deny\"\nimage-latest = false\nguard = \"deny\"\n";

/// What an option recommends, with the one that it only belongs to.
fn recommended(decl: &OptionDecl) -> Option<String> {
    let example = decl.example.as_ref()?;
    let beside = match decl.name.split_once('.') {
        Some(("encryption", option)) if option != "provider" => {
            "encryption.provider = \"secretbox\"\n"
        }
        Some(("certificates", "renew")) => "certificates.days-left = 30\n",
        _ => "",
    };
    Some(format!("{} = {example}\n{beside}", decl.name))
}

#[test]
fn every_built_in_profile_passes() {
    let modules = Modules::builtin().unwrap();
    let mut seen = BTreeSet::new();
    for profile in ["baseline", "cis-level1", "cis-level2", "multi-tenant"] {
        let text = format!("imports = [\"builtin:{profile}\"]\n{TENANT}");
        seen.extend(assert_good(&text, &modules));
    }
    // No check is left out: each sees something in a profile or in what an option recommends.
    for decl in modules.options() {
        if let Some(text) = recommended(decl) {
            seen.extend(assert_good(&text, &modules));
        }
    }
    let all: BTreeSet<String> = checks(&modules).iter().map(|c| c.control.clone()).collect();
    assert_eq!(seen, all);
}

#[test]
fn every_recommended_value_passes() {
    let modules = Modules::builtin().unwrap();
    for decl in modules.options() {
        let Some(text) = recommended(decl) else {
            continue;
        };
        assert_good(&text, &modules);
    }
}

#[test]
fn a_laxer_value_fails_and_a_stricter_one_passes() {
    let modules = Modules::builtin().unwrap();
    let failing = |text: &str| -> Vec<String> {
        let verdicts = verdicts(&desired(text, &modules), &modules);
        let failing: BTreeSet<_> = verdicts
            .iter()
            .filter(|(_, passes)| !passes)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(check, _)| check.control.clone())
            .collect();
        failing.into_iter().collect()
    };
    for (text, control) in [
        ("apiserver.profiling = true", "apiserver-profiling-off"),
        (
            "apiserver.service-account-lookup = false",
            "apiserver-service-account-lookup",
        ),
        (
            "apiserver.admission-plugins = [\"EventRateLimit\"]",
            "apiserver-node-restriction",
        ),
        ("audit.policy = \"writes\"", "audit-policy-key-concerns"),
        (
            "audit.policy-rules = [{ level = \"Metadata\", verbs = [\"create\"] }]",
            "audit-policy-key-concerns",
        ),
        (
            "apiserver.authorization-mode = [\"Node\"]",
            "apiserver-authorization-rbac",
        ),
        (
            "apiserver.authorization-mode = [\"RBAC\", \"Webhook\"]",
            "apiserver-authorization-node",
        ),
        (
            "apiserver.service-account-extend-token-expiration = true",
            "apiserver-token-extension-off",
        ),
        ("etcd.client-cert-auth = false", "etcd-client-cert-auth"),
        ("etcd.peer-client-cert-auth = false", "etcd-peer-cert-auth"),
        ("audit.log-max-age = 29", "audit-log-retention"),
        ("audit.log-max-backup = 9", "audit-log-retention"),
        ("audit.log-max-size = 99", "audit-log-retention"),
        (
            "controller-manager.profiling = true",
            "controller-manager-profiling-off",
        ),
        (
            "controller-manager.use-service-account-credentials = false",
            "controller-manager-own-credentials",
        ),
        (
            "controller-manager.terminated-pod-gc-threshold = 12500",
            "controller-manager-pod-gc",
        ),
        ("scheduler.profiling = true", "scheduler-profiling-off"),
        ("kubelet.anonymous = true", "kubelet-anonymous-off"),
        (
            "kubelet.authorization-mode = \"AlwaysAllow\"",
            "kubelet-authorization-webhook",
        ),
        (
            "kubelet.read-only-port = 10255",
            "kubelet-read-only-port-off",
        ),
        (
            "kubelet.make-iptables-util-chains = false",
            "kubelet-iptables-chains",
        ),
        (
            "kubelet.rotate-certificates = false",
            "kubelet-client-cert-rotation",
        ),
        (
            "kubelet.rotate-kubelet-server-certificate = false",
            "kubelet-serving-cert-rotation",
        ),
        (
            "kubelet.tls-cipher-suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\", \"TLS_RSA_WITH_AES_128_CBC_SHA\"]",
            "kubelet-ciphers-strong",
        ),
        ("kubelet.seccomp-default = false", "kubelet-seccomp-default"),
        (
            "kubelet.protect-kernel-defaults = false",
            "kubelet-kernel-defaults",
        ),
        ("files.manifests-mode = \"0644\"", "manifests-owner-only"),
        (
            "files.kubeconfigs-mode = \"0640\"",
            "kubeconfigs-owner-only",
        ),
        ("files.kubelet-mode = \"0644\"", "kubelet-files-owner-only"),
        (
            "files.certificates-mode = \"0664\"",
            "pki-certificates-unwritable",
        ),
        ("files.keys-mode = \"0640\"", "pki-keys-owner-only"),
        (
            "tenants.a = { namespaces = [\"a\"], pod-security = \"privileged\" }",
            "tenant-pod-security",
        ),
        (
            "tenants.a = { namespaces = [\"a\"], automount = true }",
            "tenant-default-token-off",
        ),
    ] {
        assert_eq!(failing(text), [control], "{text}");
    }
    for text in [
        "audit.log-max-age = 365",
        "files.keys-mode = \"0400\"",
        "files.certificates-mode = \"0600\"",
        "apiserver.tls-min-version = \"VersionTLS13\"",
        "scheduler.bind-address = \"::1\"",
        "apiserver.anonymous = \"health-only\"",
        "audit.policy = \"baseline\"",
        "admission.event-rate-limit.limits = [{ type = \"User\", qps = 1, burst = 1 }]",
    ] {
        assert_good(text, &modules);
    }
}

/// What checks say of values that no option sets: those that a cluster may have.
#[test]
fn checks_tell_good_values_of_flags_from_bad_ones() {
    let modules = Modules::builtin().unwrap();
    for (control, bad, good) in [
        (
            "apiserver-authorization-not-always-allow",
            vec![None, Some("AlwaysAllow"), Some("Node,AlwaysAllow")],
            vec![Some("Node,RBAC"), Some("Webhook")],
        ),
        (
            "apiserver-authorization-rbac",
            vec![None, Some("Node"), Some("XRBAC")],
            vec![Some("RBAC"), Some("Node,RBAC,Webhook")],
        ),
        (
            "apiserver-always-admit-off",
            vec![Some("AlwaysAdmit"), Some("NodeRestriction,AlwaysAdmit")],
            vec![None, Some("NodeRestriction")],
        ),
        (
            "apiserver-namespace-lifecycle",
            vec![Some("ServiceAccount,NamespaceLifecycle")],
            vec![None, Some("ServiceAccount")],
        ),
        (
            "apiserver-token-file-off",
            vec![Some("/x.csv"), Some("")],
            vec![None],
        ),
        (
            "apiserver-request-timeout",
            vec![Some("0s"), Some("0"), Some("10m"), Some("soon")],
            vec![None, Some("60s"), Some("1m0s"), Some("5m")],
        ),
        (
            "apiserver-ciphers-strong",
            vec![
                None,
                Some("TLS_RSA_WITH_AES_128_GCM_SHA256"),
                Some("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_RC4_128_SHA"),
            ],
            vec![Some(
                "TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            )],
        ),
        (
            "controller-manager-kubelet-rotation",
            vec![
                Some("RotateKubeletServerCertificate=false"),
                Some("A=true,RotateKubeletServerCertificate=0"),
            ],
            vec![
                None,
                Some("A=false"),
                Some("RotateKubeletServerCertificate=true"),
            ],
        ),
        (
            "controller-manager-root-ca",
            vec![None, Some("")],
            vec![Some("/ca.crt")],
        ),
        (
            "etcd-auto-tls-off",
            vec![Some("true"), Some("1")],
            vec![None, Some("false")],
        ),
        (
            "etcd-own-ca",
            vec![None, Some(""), Some("/etc/kubernetes/pki/ca.crt")],
            vec![Some("/etc/kubernetes/pki/etcd/ca.crt")],
        ),
    ] {
        let check = checks(&modules).into_iter().find(|c| c.control == control);
        let check = check.unwrap_or_else(|| panic!("{control}"));
        for (values, passes) in [(bad, false), (good, true)] {
            for value in values {
                let seen =
                    serde_json::json!({"value": value, "other": "/etc/kubernetes/pki/ca.crt"});
                assert_eq!(check.passes(&seen), Ok(passes), "{control} of {value:?}");
            }
        }
    }
}

#[test]
fn every_check_is_of_a_control_of_the_catalogue() {
    let catalogue = Catalogue::builtin().unwrap();
    control::check(&catalogue, &Modules::builtin().unwrap()).unwrap_or_else(|e| panic!("{e:#}"));
}

/// A check that looks into a file sees the flags beside it, for some properties come from either.
#[test]
fn anonymous_access_is_limited_by_the_file_or_by_the_flag() {
    let modules = Modules::builtin().unwrap();
    let check = checks(&modules)
        .into_iter()
        .find(|check| check.control == "apiserver-anonymous-limited")
        .unwrap();
    let path = |path: &str| serde_json::json!({"path": path});
    let anonymous = |conditions: serde_json::Value| serde_json::json!({"anonymous": {"enabled": true, "conditions": conditions}});
    let none = serde_json::json!({});
    let off = serde_json::json!({"anonymous-auth": "false"});
    let health = anonymous(serde_json::json!([path("/livez"), path("/readyz")]));
    for (content, flags, passes) in [
        (serde_json::Value::Null, &none, false),
        (serde_json::Value::Null, &off, true),
        (none.clone(), &none, false),
        (health, &none, true),
        (anonymous(serde_json::json!([])), &none, false),
        (
            anonymous(serde_json::json!([path("/livez"), path("/metrics")])),
            &none,
            false,
        ),
        (
            serde_json::json!({"anonymous": {"enabled": true}}),
            &none,
            false,
        ),
        (
            serde_json::json!({"anonymous": {"enabled": false}}),
            &none,
            true,
        ),
    ] {
        let seen = serde_json::json!({"content": content, "flags": flags});
        assert_eq!(check.passes(&seen), Ok(passes), "{seen}");
    }
}

/// What an option is about can be the opposite of what a value of it does.
#[test]
fn the_reason_of_a_resource_is_what_its_value_serves() {
    let modules = Modules::builtin().unwrap();
    let reasons = |text: &str| -> Vec<(String, Vec<String>)> {
        let mut desired = desired(text, &modules);
        control::give_reasons(&Catalogue::builtin().unwrap(), &modules, &mut desired);
        let resources = desired.resources.into_iter();
        resources.map(|r| (r.reason, r.controls)).collect()
    };
    insta::assert_debug_snapshot!(reasons("apiserver.profiling = false\n"), @r#"
    [
        (
            "The API server serves no profiling data",
            [
                "apiserver-profiling-off",
            ],
        ),
    ]
    "#);
    insta::assert_debug_snapshot!(reasons("apiserver.profiling = true\n"), @r#"
    [
        (
            "option: Serve profiling data at /debug/pprof.",
            [],
        ),
    ]
    "#);
    insta::assert_debug_snapshot!(reasons("apiserver.admission-plugins = [\"NodeRestriction\"]\n"), @r#"
    [
        (
            "A kubelet can change only its own node and pods",
            [
                "apiserver-admission-plugins",
                "apiserver-node-restriction",
            ],
        ),
    ]
    "#);
    insta::assert_debug_snapshot!(reasons("apiserver.admission-plugins = [\"AlwaysPullImages\"]\n"), @r#"
    [
        (
            "The admission plugins that the profile names are on",
            [
                "apiserver-admission-plugins",
            ],
        ),
    ]
    "#);
    insta::assert_debug_snapshot!(reasons("[tenants.a]\nnamespaces = [\"a\"]\n"), @r#"
    [
        (
            "option: The namespaces of the tenant, which are created where they are missing.",
            [],
        ),
    ]
    "#);
}
