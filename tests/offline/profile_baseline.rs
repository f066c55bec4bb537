//! The built-in profile and modules, evaluated with the real kinds.
use harden::module::{Modules, evaluate};
use harden::profile::{Failure, load};
use harden::resource::Desired;

fn desired(text: &str) -> Result<Desired, Failure> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    let modules = Modules::builtin()?;
    evaluate(&load(dir.path(), &modules)?, &modules)
}

fn told(desired: &Desired) -> String {
    let line = |r: &harden::resource::Resource| {
        let origins: Vec<String> = r.origins.iter().map(|o| o.to_string()).collect();
        let name = r.kind.behaviour().name();
        format!("{:?} {name} [{:?}] {}", r.scope, r.risk, origins.join(", "))
    };
    desired
        .resources
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

const HEAD: &str = "imports = [\"builtin:baseline\"]\ncluster.name = \"x\"\n";

#[test]
fn the_baseline() {
    let desired = desired(HEAD).unwrap_or_else(|e| panic!("{e:#}"));
    insta::assert_snapshot!(told(&desired), @r#"
ControlPlane kube-apiserver --audit-log-maxage [Restart] audit.log-max-age at builtin:baseline:26
ControlPlane kube-apiserver --audit-log-maxbackup [Restart] audit.log-max-backup at builtin:baseline:27
ControlPlane kube-apiserver --audit-log-maxsize [Restart] audit.log-max-size at builtin:baseline:28
ControlPlane kube-apiserver --audit-log-path [Restart] audit.policy at builtin:baseline:24
ControlPlane kube-apiserver --audit-policy-file (file audit-policy) [Restart] audit.policy at builtin:baseline:24
ControlPlane kube-apiserver --enable-admission-plugins [Restart] apiserver.admission-plugins at builtin:baseline:11
ControlPlane kube-apiserver --profiling [Restart] apiserver.profiling at builtin:baseline:6
ControlPlane kube-apiserver --tls-min-version [Restart] apiserver.tls-min-version at builtin:baseline:8
ControlPlane kube-controller-manager --profiling [Restart] controller-manager.profiling at builtin:baseline:14
ControlPlane kube-controller-manager --terminated-pod-gc-threshold [Restart] controller-manager.terminated-pod-gc-threshold at builtin:baseline:16
ControlPlane kube-scheduler --profiling [Restart] scheduler.profiling at builtin:baseline:19
ControlPlane mode of /etc/kubernetes/admin.conf [Safe] files.kubeconfigs-mode at builtin:baseline:33
ControlPlane mode of /etc/kubernetes/controller-manager.conf [Safe] files.kubeconfigs-mode at builtin:baseline:33
ControlPlane mode of /etc/kubernetes/manifests/* [Safe] files.manifests-mode at builtin:baseline:32
ControlPlane mode of /etc/kubernetes/pki/*.crt [Safe] files.certificates-mode at builtin:baseline:35
ControlPlane mode of /etc/kubernetes/pki/*.key [Safe] files.keys-mode at builtin:baseline:36
ControlPlane mode of /etc/kubernetes/pki/etcd/*.crt [Safe] files.certificates-mode at builtin:baseline:35
ControlPlane mode of /etc/kubernetes/pki/etcd/*.key [Safe] files.keys-mode at builtin:baseline:36
ControlPlane mode of /etc/kubernetes/scheduler.conf [Safe] files.kubeconfigs-mode at builtin:baseline:33
ControlPlane mode of /etc/kubernetes/super-admin.conf [Safe] files.kubeconfigs-mode at builtin:baseline:33
Nodes certificate /etc/kubernetes/admin.conf [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/controller-manager.conf [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/apiserver-etcd-client.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/apiserver-kubelet-client.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/apiserver.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/ca.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/etcd/ca.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/etcd/healthcheck-client.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/etcd/peer.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/etcd/server.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/front-proxy-ca.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/pki/front-proxy-client.crt [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/scheduler.conf [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /etc/kubernetes/super-admin.conf [Manual] certificates.days-left at builtin:baseline:40
Nodes certificate /var/lib/kubelet/pki/kubelet-client-current.pem [Manual] certificates.days-left at builtin:baseline:40
Nodes mode of /etc/kubernetes/kubelet.conf [Safe] files.kubelet-mode at builtin:baseline:34
Nodes mode of /var/lib/kubelet/config.yaml [Safe] files.kubelet-mode at builtin:baseline:34
"#);
}

#[test]
fn a_tenant() {
    let text = r#"
accept = ["tenants.pay"]
[cluster]
name = "x"
[tenants.pay]
namespaces = ["pay"]
pod-security = "restricted"
network = "isolated"
quota = { pods = "200" }
"#;
    let desired = desired(text).unwrap_or_else(|e| panic!("{e:#}"));
    insta::assert_snapshot!(told(&desired), @r#"
Api Namespace pay [Guarded] tenants.pay at harden.toml:5, tenants.pay.namespaces at harden.toml:6, tenants.pay.pod-security at harden.toml:7
Api NetworkPolicy pay/harden-allow-dns [Guarded] tenants.pay at harden.toml:5, tenants.pay.namespaces at harden.toml:6, tenants.pay.network at harden.toml:8
Api NetworkPolicy pay/harden-allow-same-tenant [Guarded] tenants.pay at harden.toml:5, tenants.pay.namespaces at harden.toml:6, tenants.pay.network at harden.toml:8
Api NetworkPolicy pay/harden-default-deny [Guarded] tenants.pay at harden.toml:5, tenants.pay.namespaces at harden.toml:6, tenants.pay.network at harden.toml:8
Api ResourceQuota pay/harden [Guarded] tenants.pay at harden.toml:5, tenants.pay.namespaces at harden.toml:6, tenants.pay.quota.pods at harden.toml:9
"#);
    insta::assert_snapshot!(desired.accept.join("\n"), @r#"
tenants.pay
tenants.pay.namespaces
tenants.pay.network
tenants.pay.pod-security
tenants.pay.quota.pods
"#);
}

#[test]
fn two_tenants_cannot_share_a_namespace() {
    let text = format!("{HEAD}[tenants]\na.namespaces = [\"n\"]\nb.namespaces = [\"n\"]");
    insta::assert_snapshot!(format!("{:#}", desired(&text).unwrap_err()), @r#"
error: `Namespace n` is wanted twice
  help: set only one of these: tenants.a at harden.toml:4, tenants.a.namespaces at harden.toml:4; or tenants.b at harden.toml:5, tenants.b.namespaces at harden.toml:5
"#);
}

#[test]
fn a_value_without_effect() {
    let text =
        format!("{HEAD}[tenants.a]\nquota = {{ pods = \"2\" }}\n[tenants.b]\nnamespaces = []");
    insta::assert_snapshot!(format!("{:#}", desired(&text).unwrap_err()), @r#"
error: `tenants.a.quota.pods` has no effect
  --> harden.toml:4:18
4 | quota = { pods = "2" }
  |                  ^^^ no resource comes of this
  help: set what it needs as well, or remove it

error: `tenants.b.namespaces` has no effect
  --> harden.toml:6:14
6 | namespaces = []
  |              ^^ no resource comes of this
  help: set what it needs as well, or remove it
"#);
}

#[test]
fn the_hash_does_not_know_where_values_come_from() {
    let one = desired("cluster.name = \"x\"\nscheduler.profiling = false\naudit.log-max-age = 3")
        .unwrap();
    let other = desired("# moved\n[cluster]\nname = \"x\"\n[audit]\nlog-max-age = 3\n[scheduler]\nprofiling = false\n").unwrap();
    assert_ne!(one, other);
    assert_eq!(one.sha256(), other.sha256());
    let different =
        desired("cluster.name = \"x\"\nscheduler.profiling = true\naudit.log-max-age = 3").unwrap();
    assert_ne!(one.sha256(), different.sha256());
}
