//! The Pod Security Standards, as far as a template of pods tells: what the API server refuses of pods that are
//! yet to be made. Of pods that run the server says it itself (see `pod_security`).
//!
//! Source: kubernetes v1.35 `staging/src/k8s.io/pod-security-admission/policy`, one file `check_*.go` a check. The
//! standards of v1.25 and later are judged; between these only `sysctls`, `seLinuxOptions`, the hosts of probes and
//! what pods with users of their own may differ, and the latest of each counts here.

use serde_json::{Value, json};

/// The first minor version of the standards that is judged as it was: the exceptions for Windows came with it.
const FIRST_MINOR: u32 = 25;

/// What containers may add at the level `baseline`.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The kernel parameters that pods may set.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The types of SELinux that the container runtimes use by themselves.
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// The kinds of volumes of the level `restricted`.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Returns what a PodTemplateSpec has that the levels `baseline` and `restricted` forbid, in the server's own
/// words without names: `{"baseline": ["host namespaces"], "restricted": [...]}`. The second holds the first too.
pub fn faults(template: &Value) -> Value {
    let baseline = baseline(template);
    let mut all = baseline.clone();
    let more = restricted(&template["spec"]).into_iter();
    all.extend(more.filter(|fault| !baseline.contains(fault)));
    json!({"baseline": baseline, "restricted": all})
}

/// Whether the standards of this version (`latest`, `v1.35`) are judged as the server judges them.
pub fn is_judged(version: &str) -> bool {
    let minor = version
        .strip_prefix("v1.")
        .and_then(|n| n.parse::<u32>().ok());
    version == "latest" || minor.is_some_and(|minor| minor >= FIRST_MINOR)
}

fn baseline(template: &Value) -> Vec<&'static str> {
    let spec = &template["spec"];
    let all = containers(spec);
    let contexts = contexts(spec);
    let any = |wrong: &dyn Fn(&Value) -> bool| contexts.iter().any(|one| wrong(one));
    let host_network = spec["hostNetwork"] == true;
    let has_host_port = |one: &&Value| {
        items(&one["ports"]).any(|port| {
            // With the node's network, a port of the container is one of the node's.
            let host = port["hostPort"].as_u64().unwrap_or_default();
            host != 0 || (host_network && port["containerPort"].as_u64().unwrap_or_default() != 0)
        })
    };
    let adds = |context: &Value| {
        let mut added = items(&context["capabilities"]["add"]).filter_map(Value::as_str);
        added.any(|one| !CAPABILITIES.contains(&one))
    };
    let is_unconfined = |profile: &Value| profile["type"] == "Unconfined";
    let options = |context: &Value| {
        let selinux = &context["seLinuxOptions"];
        let text = |field: &str| selinux[field].as_str().unwrap_or_default();
        !SELINUX_TYPES.contains(&text("type"))
            || !text("user").is_empty()
            || !text("role").is_empty()
    };
    let annotations = template["metadata"]["annotations"].as_object();
    let mut annotations = annotations.into_iter().flatten();
    let by_annotation = annotations.any(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        key.starts_with("container.apparmor.security.beta.kubernetes.io/")
            && !(value.is_empty() || value == "runtime/default" || value.starts_with("localhost/"))
    });
    let mut sysctls = items(&spec["securityContext"]["sysctls"]);
    let mut found = Vec::new();
    let mut check = |fault: &'static str, is_there: bool| {
        if is_there {
            found.push(fault);
        }
    };
    let host = |field: &str| spec[field] == true;
    check(
        "host namespaces",
        host_network || host("hostPID") || host("hostIPC"),
    );
    check(
        "hostPath volumes",
        items(&spec["volumes"]).any(|one| one.get("hostPath").is_some_and(|it| !it.is_null())),
    );
    check("privileged", any(&|one| one["privileged"] == true));
    check("non-default capabilities", any(&adds));
    check("hostPort", all.iter().any(has_host_port));
    check(
        "forbidden AppArmor profile",
        by_annotation || any(&|one| is_unconfined(&one["appArmorProfile"])),
    );
    check("seLinuxOptions", any(&options));
    check("procMount", !has_own_users(spec) && any(&mounts_proc));
    check(
        "seccompProfile",
        any(&|one| is_unconfined(&one["seccompProfile"])),
    );
    check(
        "forbidden sysctls",
        sysctls.any(|one| !SYSCTLS.contains(&one["name"].as_str().unwrap_or_default())),
    );
    check(
        "hostProcess",
        any(&|one| one["windowsOptions"]["hostProcess"] == true),
    );
    check("probe or lifecycle host", all.iter().any(names_host));
    found
}

fn restricted(spec: &Value) -> Vec<&'static str> {
    let pod = &spec["securityContext"];
    let all = containers(spec);
    let each = |good: &dyn Fn(&Value) -> bool| all.iter().all(|one| good(&one["securityContext"]));
    let is_windows = spec["os"]["name"] == "windows";
    let is_bound = |volume: &Value| {
        let kinds = volume.as_object().into_iter().flatten();
        let mut kinds = kinds.filter(|(key, value)| *key != "name" && !value.is_null());
        kinds.all(|(key, _)| VOLUMES.contains(&key.as_str()))
    };
    let is_confined = |profile: &Value| {
        matches!(
            profile["type"].as_str(),
            Some("RuntimeDefault" | "Localhost")
        )
    };
    let mut found = Vec::new();
    let mut check = |fault: &'static str, is_there: bool| {
        if is_there {
            found.push(fault);
        }
    };
    check(
        "restricted volume types",
        !items(&spec["volumes"]).all(is_bound),
    );
    check(
        "allowPrivilegeEscalation != false",
        !is_windows && !each(&|one| one["allowPrivilegeEscalation"] == false),
    );
    check(
        "unrestricted capabilities",
        !is_windows
            && !each(&|one| {
                let drops = items(&one["capabilities"]["drop"]).any(|one| one == "ALL");
                drops && items(&one["capabilities"]["add"]).all(|one| one == "NET_BIND_SERVICE")
            }),
    );
    let may_be_root = |one: &Value| match one["runAsNonRoot"].as_bool() {
        Some(own) => !own,
        None => pod["runAsNonRoot"] != true,
    };
    check(
        "runAsNonRoot != true",
        !has_own_users(spec) && (pod["runAsNonRoot"] == false || !each(&|one| !may_be_root(one))),
    );
    let contexts = contexts(spec);
    check(
        "runAsUser=0",
        !has_own_users(spec) && contexts.iter().any(|one| one["runAsUser"] == 0),
    );
    let own = &pod["seccompProfile"];
    check(
        "seccompProfile",
        !is_windows
            && (own.is_object() && !is_confined(own)
                || !each(&|one| match one["seccompProfile"].is_object() {
                    true => is_confined(&one["seccompProfile"]),
                    false => is_confined(own),
                })),
    );
    check("procMount", contexts.iter().any(|one| mounts_proc(one)));
    found
}

/// Every container of a PodSpec.
fn containers(spec: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.iter().flat_map(|list| items(&spec[*list])).collect()
}

/// The security contexts of the pod and of its containers.
fn contexts(spec: &Value) -> Vec<&Value> {
    let of_containers = containers(spec)
        .into_iter()
        .map(|one| &one["securityContext"]);
    std::iter::once(&spec["securityContext"])
        .chain(of_containers)
        .collect()
}

/// Whether root in the pod is nobody on the node.
fn has_own_users(spec: &Value) -> bool {
    spec["hostUsers"] == false
}

/// Whether a container sees more of `/proc` than is usual.
fn mounts_proc(context: &Value) -> bool {
    let mount = context["procMount"].as_str();
    mount.is_some_and(|mount| mount != "Default")
}

/// Whether a probe or a handler of a container names a host.
fn names_host(container: &&Value) -> bool {
    let handlers = [
        &container["livenessProbe"],
        &container["readinessProbe"],
        &container["startupProbe"],
        &container["lifecycle"]["postStart"],
        &container["lifecycle"]["preStop"],
    ];
    handlers.iter().any(|handler| {
        ["httpGet", "tcpSocket"].iter().any(|way| {
            let host = handler[*way]["host"].as_str();
            host.is_some_and(|host| !host.is_empty())
        })
    })
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template that both levels let in, with something else at a place.
    fn with(pointer: &str, value: Value) -> Value {
        let mut template = json!({"metadata": {}, "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [],
            "containers": [{"name": "c", "ports": [{"containerPort": 80}], "securityContext":
                {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        }});
        let mut at = &mut template;
        for key in pointer.split('/').skip(1) {
            at = match key.parse::<usize>() {
                Ok(number) => &mut at[number],
                Err(_) => &mut at[key.replace("~1", "/").as_str()],
            };
        }
        *at = value;
        template
    }

    #[test]
    fn each_fault_is_found_at_its_level() {
        assert_eq!(
            faults(&with("/x", json!(1))),
            json!({"baseline": [], "restricted": []})
        );
        let c = "/spec/containers/0";
        let context = "/spec/containers/0/securityContext";
        let pod = "/spec/securityContext";
        for (at, value, fault) in [
            ("/spec/hostPID", json!(true), "host namespaces"),
            ("/spec/hostNetwork", json!(true), "hostPort"),
            (
                "/spec/volumes/0",
                json!({"name": "v", "hostPath": {"path": "/"}}),
                "hostPath volumes",
            ),
            (&format!("{context}/privileged"), json!(true), "privileged"),
            (
                &format!("{context}/capabilities/add"),
                json!(["SYS_ADMIN"]),
                "non-default capabilities",
            ),
            (&format!("{c}/ports/0/hostPort"), json!(80), "hostPort"),
            (
                "/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1c",
                json!("unconfined"),
                "forbidden AppArmor profile",
            ),
            (
                &format!("{pod}/appArmorProfile"),
                json!({"type": "Unconfined"}),
                "forbidden AppArmor profile",
            ),
            (
                &format!("{pod}/seLinuxOptions"),
                json!({"type": "spc_t"}),
                "seLinuxOptions",
            ),
            (
                &format!("{context}/procMount"),
                json!("Unmasked"),
                "procMount",
            ),
            (
                &format!("{context}/seccompProfile"),
                json!({"type": "Unconfined"}),
                "seccompProfile",
            ),
            (
                &format!("{pod}/sysctls"),
                json!([{"name": "kernel.msgmax", "value": "1"}]),
                "forbidden sysctls",
            ),
            (
                &format!("{pod}/windowsOptions"),
                json!({"hostProcess": true}),
                "hostProcess",
            ),
            (
                &format!("{c}/livenessProbe"),
                json!({"httpGet": {"host": "10.0.0.1"}}),
                "probe or lifecycle host",
            ),
            (
                "/spec/initContainers",
                json!([{"securityContext": {"privileged": true}}]),
                "privileged",
            ),
        ] {
            let found = faults(&with(at, value));
            for level in ["baseline", "restricted"] {
                let found = found[level].as_array().unwrap();
                assert!(found.contains(&fault.into()), "{at}: {level}: {found:?}");
            }
        }
        for (at, value, fault) in [
            (
                "/spec/volumes/0",
                json!({"name": "v", "nfs": {}}),
                "restricted volume types",
            ),
            (
                &format!("{context}/allowPrivilegeEscalation"),
                json!(null),
                "allowPrivilegeEscalation != false",
            ),
            (
                &format!("{context}/capabilities"),
                json!({"drop": ["all"]}),
                "unrestricted capabilities",
            ),
            (
                &format!("{context}/capabilities/add"),
                json!(["CHOWN"]),
                "unrestricted capabilities",
            ),
            (
                &format!("{context}/runAsNonRoot"),
                json!(false),
                "runAsNonRoot != true",
            ),
            (
                &format!("{pod}/runAsNonRoot"),
                json!(null),
                "runAsNonRoot != true",
            ),
            (&format!("{pod}/runAsUser"), json!(0), "runAsUser=0"),
            (
                &format!("{pod}/seccompProfile"),
                json!(null),
                "seccompProfile",
            ),
        ] {
            let expected = json!({"baseline": [], "restricted": [fault]});
            assert_eq!(faults(&with(at, value)), expected, "{at}");
        }
    }

    #[test]
    fn what_is_no_fault_is_none() {
        let pod = "/spec/securityContext";
        for (at, value) in [
            ("/spec/hostUsers", json!(true)),
            (
                &format!("{pod}/sysctls"),
                json!([{"name": "net.ipv4.tcp_rmem"}]),
            ),
            (
                &format!("{pod}/seLinuxOptions"),
                json!({"type": "container_t", "level": "s0"}),
            ),
            (
                &format!("{pod}/appArmorProfile"),
                json!({"type": "Localhost"}),
            ),
            (
                "/spec/containers/0/livenessProbe",
                json!({"httpGet": {"path": "/"}}),
            ),
            (
                "/spec/containers/0/securityContext/runAsNonRoot",
                json!(true),
            ),
        ] {
            let found = faults(&with(at, value));
            assert_eq!(found, json!({"baseline": [], "restricted": []}), "{at}");
        }
        // Root that is nobody on the node.
        let mut root = with("/spec/hostUsers", json!(false));
        root["spec"]["securityContext"]["runAsUser"] = json!(0);
        root["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
        assert_eq!(faults(&root)["restricted"], json!([]));
        assert!(is_judged("latest") && is_judged("v1.25") && is_judged("v1.40"));
        assert!(!is_judged("v1.24") && !is_judged("1.35") && !is_judged(""));
    }
}
