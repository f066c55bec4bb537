//! `harden bootstrap`: a cluster that is made from what it writes has nothing to change.
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::plan_support::{
    KUBE_PROXY, KUBELET, MANIFESTS, V1BETA3, V1BETA4, cluster, file, flag, path, process, put,
    resource,
};
use harden::distribution::kubeadm::{
    ClusterConfiguration, document, edit_manifest, kubelet_config_path, manifest_path,
};
use harden::distribution::{Component, ComponentEdit, Volume};
use harden::fact::{ApiQuery, Fact, Facts, PodsBelow, Query};
use harden::module::{Modules, evaluate};
use harden::plan::build;
use harden::profile::load;
use harden::report::{Bootstrap, Newborn, bootstrap};
use harden::resource::Desired;
use proptest::prelude::*;
use serde_json::{Value, json};

const KUBEADM: Newborn = Newborn::Kubeadm { version: None };
const KIND: Newborn = Newborn::Kind {
    control_planes: 1,
    workers: 1,
};

fn of_profile(name: &str) -> Desired {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "imports = [\"builtin:{name}\"]\naccept = [\"tenants\"]\ncluster.name = \"x\"\n[tenants.a]\nnamespaces = [\"a\"]\n"
    );
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    let modules = Modules::builtin().unwrap();
    evaluate(&load(dir.path(), &modules).unwrap(), &modules).unwrap_or_else(|e| panic!("{e:#}"))
}

fn desired(resources: Vec<harden::resource::Resource>) -> Desired {
    crate::plan_support::desired(resources)
}

fn made(desired: &Desired, newborn: &Newborn) -> Bootstrap {
    bootstrap(desired, newborn).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The first document: ClusterConfiguration.
fn first(made: &Bootstrap) -> String {
    made.files["kubeadm.yaml"]
        .split("---\n")
        .next()
        .unwrap()
        .to_owned()
}

/// RFC 7386, as kind patches.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// What kind makes of its own configuration, and kubeadm of that.
fn by_kind(made: &Bootstrap, own: &str) -> String {
    let config = yaml(&made.files["kind.yaml"]);
    let mut merged = yaml(own);
    let mut used = 0;
    for patch in config["kubeadmConfigPatches"].as_array().unwrap() {
        let patch = yaml(patch.as_str().unwrap());
        if patch["kind"] == merged["kind"] && patch["apiVersion"] == merged["apiVersion"] {
            merge(&mut merged, &patch);
            used += 1;
        }
    }
    assert_eq!(used, 1);
    document(&merged)
}

/// Where the files are placed: path on the node, and content.
fn placed(made: &Bootstrap) -> BTreeMap<String, String> {
    let list = made.files.get("files.tsv").map_or("", String::as_str);
    list.lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[1] != "directory")
        .map(|row| {
            assert_eq!((row[3], row[4]), ("root", "root"));
            (row[6].to_owned(), made.files[row[5]].clone())
        })
        .collect()
}

/// A cluster that kubeadm makes of a ClusterConfiguration, with the files in place.
fn born(desired: &Desired, config: &str, made: &Bootstrap) -> Facts {
    let mut facts = cluster(&["cp1"], desired);
    let parsed = ClusterConfiguration::parse(config).unwrap();
    for (component, stock) in MANIFESTS {
        let section = match component {
            Component::KubeApiserver => "apiServer",
            Component::KubeControllerManager => "controllerManager",
            _ => "scheduler",
        };
        let args = parsed.args(component);
        let flags = args.iter().map(|(name, value)| ComponentEdit::SetFlag {
            name: name.clone(),
            value: value.clone(),
        });
        let volumes = yaml(config)[section]["extraVolumes"].clone();
        let volumes: Option<Vec<Volume>> = serde_json::from_value(volumes).unwrap();
        let volumes = volumes.unwrap_or_default();
        let edits: Vec<ComponentEdit> = flags
            .chain(volumes.into_iter().map(ComponentEdit::SetVolume))
            .collect();
        let order: Vec<String> = args.iter().map(|(name, _)| name.clone()).collect();
        let manifest = edit_manifest(stock, component, &edits, &order).unwrap();
        let argv = harden::distribution::kubeadm::Manifest::parse(&manifest, component)
            .unwrap()
            .process()
            .unwrap();
        let query = Query::File(manifest_path(component));
        put(&mut facts, "cp1", query, file(&manifest, 0o600));
        let query = Query::Process(component.program());
        put(&mut facts, "cp1", query, process(9, argv));
    }
    facts.api.cluster_configuration = Fact::Value(config.to_owned());
    born_kubelets(&mut facts, made);
    facts
}

/// The documents of a kind that kubeadm is given, as a patch of its defaults.
fn given(made: &Bootstrap, kind: &str) -> Value {
    let documents: Vec<Value> = match made.files.get("kubeadm.yaml") {
        Some(text) => text.split("---\n").map(yaml).collect(),
        None => yaml(&made.files["kind.yaml"])["kubeadmConfigPatches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|patch| yaml(patch.as_str().unwrap()))
            .collect(),
    };
    let mut found = documents.into_iter().filter(|d| d["kind"] == kind);
    found.next().unwrap_or_else(|| json!({}))
}

/// kubelets and kube-proxy run with what kubeadm was given, and kernels with what was placed.
fn born_kubelets(facts: &mut Facts, made: &Bootstrap) {
    let text = |own: &str, kind: &str| {
        let mut merged = yaml(own);
        merge(&mut merged, &given(made, kind));
        document(&merged)
    };
    let kubelet = text(KUBELET, "KubeletConfiguration");
    let kube_proxy = text(KUBE_PROXY, "KubeProxyConfiguration");
    // What runs is told in the names of its own program.
    let lower = |value: Value| -> Value {
        let fields = value.as_object().unwrap().iter();
        fields.map(|(k, v)| (k.to_lowercase(), v.clone())).collect()
    };
    for (query, answer) in &mut facts.api.answers {
        let value = match query {
            ApiQuery::ConfigMapKey { name, .. } if name == "kubelet-config" => json!(kubelet),
            ApiQuery::ConfigMapKey { name, .. } if name == "kube-proxy" => json!(kube_proxy),
            ApiQuery::KubeletConfig(_) => yaml(&kubelet),
            ApiQuery::KubeProxyConfig(_) => lower(yaml(&kube_proxy)),
            // The requests of new kubelets wait.
            ApiQuery::ServingCertificate(node) => json!({
                "trusted": false, "why": "it has none yet",
                "endpoint": {"addresses": [{"type": "InternalIP", "address": node}], "port": 10250},
            }),
            ApiQuery::ServingRequests => json!([]),
            ApiQuery::ExternalIps | ApiQuery::StaleTokens(_) => {
                json!({"any": false, "count": 0, "names": []})
            }
            ApiQuery::PodsBelow(_) => json!(PodsBelow::default()),
            other => panic!("{other:?}"),
        };
        *answer = Fact::Value(value);
    }
    for node in ["cp1", "worker"] {
        let query = Query::File(kubelet_config_path());
        put(facts, node, query, file(&kubelet, 0o600));
        for (place, content) in placed(made) {
            let query = Query::File(path(&place));
            put(facts, node, query, file(&content, 0o600));
            let is_read_at_boot = place.starts_with("/etc/sysctl.d/");
            for line in content.lines().filter(|_| is_read_at_boot) {
                if let Some((name, value)) = line.split_once(" = ") {
                    let running = path(&format!("/proc/sys/{}", name.replace('.', "/")));
                    put(facts, node, Query::File(running), file(value, 0o644));
                }
            }
        }
    }
}

/// What a plan changes in such a cluster, apart from what was announced.
fn unannounced(desired: &Desired, config: &str, made: &Bootstrap) -> Vec<String> {
    let plan = build(desired, &born(desired, config, made));
    let told = |name: &String| {
        made.after
            .iter()
            .any(|line| line.ends_with(name.as_str()) || line.starts_with(&format!("{name}:")))
    };
    let problems = plan.problems.into_iter();
    assert_eq!(
        problems.filter(|p| !told(&p.subject)).collect::<Vec<_>>(),
        []
    );
    let changed = plan.changes.into_iter().map(|change| change.resource);
    changed.filter(|name| !told(name)).collect()
}

#[test]
fn a_cluster_that_is_born_so_has_nothing_to_change() {
    for profile in ["baseline", "cis-level1", "cis-level2", "multi-tenant"] {
        let desired = of_profile(profile);
        let ours = made(&desired, &KUBEADM);
        assert_eq!(unannounced(&desired, &first(&ours), &ours), [""; 0]);
        for own in [V1BETA3, V1BETA4] {
            let ours = made(&desired, &KIND);
            let config = by_kind(&ours, own);
            assert_eq!(unannounced(&desired, &config, &ours), [""; 0], "{profile}");
            let kept = ClusterConfiguration::parse(&config).unwrap();
            let provisioner = "enable-hostpath-provisioner";
            let manager = Component::KubeControllerManager;
            assert_eq!(kept.values(manager, provisioner), ["true"]);
            assert_eq!(
                kept.values(Component::KubeApiserver, "runtime-config"),
                [""]
            );
        }
        // Without the files, the same cluster has something to change: the test can fail.
        let mut bare = ours.clone();
        bare.files.remove("files.tsv");
        let policy = "kube-apiserver --audit-policy-file (file audit-policy)".to_owned();
        assert!(unannounced(&desired, &first(&ours), &bare).contains(&policy));
    }
}

#[test]
fn the_configuration_for_kubeadm() {
    let version = Some("v1.35.4".to_owned());
    let made = made(&of_profile("cis-level1"), &Newborn::Kubeadm { version });
    insta::assert_snapshot!(made.files["kubeadm.yaml"]);
    insta::assert_snapshot!(made.files["files.tsv"]);
    assert_eq!(
        made.files["place-files.sh"].lines().next(),
        Some("#!/bin/sh")
    );
}

#[test]
fn the_configuration_for_kind() {
    let newborn = Newborn::Kind {
        control_planes: 2,
        workers: 1,
    };
    let made = made(&of_profile("baseline"), &newborn);
    insta::assert_snapshot!(made.files["kind.yaml"]);
}

#[test]
fn the_configuration_for_k3s_and_rke2() {
    let desired = of_profile("cis-level2");
    for (newborn, name) in [(Newborn::K3s, "k3s"), (Newborn::Rke2, "rke2")] {
        let made = made(&desired, &newborn);
        let drop_in = format!("/etc/rancher/{name}/config.yaml.d/90-harden.yaml");
        insta::assert_snapshot!(format!("{name}-config"), placed(&made)[&drop_in]);
        insta::assert_snapshot!(format!("{name}-files"), made.files["files.tsv"]);
        assert!(made.files["README.md"].contains("**Not run on a real"));
        let authority = "kubelet authentication.x509.clientCAFile: it names a file of kubeadm's";
        assert!(made.after.iter().any(|line| line.starts_with(authority)));
        for (place, content) in placed(&made) {
            assert!(!place.starts_with("/etc/kubernetes"), "{place}");
            // Neither the directory that is elsewhere here, nor kubeadm's certificates.
            assert!(!content.contains("/etc/kubernetes/"), "{content}");
        }
    }
}

#[test]
fn what_kubeadm_sets_itself_is_kept_beside_what_is_added() {
    let additive = |component: &str, name: &str, items: Value| {
        let table =
            json!({"component": component, "name": name, "value": items, "merge": "additive"});
        resource("flag", table)
    };
    let desired = desired(vec![
        additive("kube-apiserver", "authorization-mode", json!(["Webhook"])),
        additive("kube-apiserver", "feature-gates", json!(["A=true"])),
        additive("kube-controller-manager", "controllers", json!(["-ttl"])),
    ]);
    let config = ClusterConfiguration::parse(&first(&made(&desired, &KUBEADM))).unwrap();
    let api = Component::KubeApiserver;
    assert_eq!(
        config.values(api, "authorization-mode"),
        ["Node,RBAC,Webhook"]
    );
    assert_eq!(config.values(api, "feature-gates"), ["A=true"]);
    assert_eq!(
        config.values(Component::KubeControllerManager, "controllers"),
        ["*,bootstrapsigner,tokencleaner,-ttl"]
    );
}

#[test]
fn what_cannot_be_born_is_said() {
    let absent = |name: &str| {
        let table = json!({"component": "kube-apiserver", "name": name, "merge": "absent"});
        resource("flag", table)
    };
    let mut single = flag("profiling", "false");
    single.only = Some("cp1".into());
    let desired = desired(vec![
        absent("token-auth-file"),
        absent("allow-privileged"),
        single,
    ]);
    let made = made(&desired, &KUBEADM);
    assert_eq!(
        made.after,
        [
            "cp1 only: kube-apiserver --profiling",
            "kube-apiserver --allow-privileged: what makes the cluster sets this flag by itself; it is wanted away",
        ]
    );
    assert!(made.files["after.md"].contains("- `cp1`: `kube-apiserver --profiling`\n"));
    assert!(!made.files.contains_key("files.tsv"));
    let nothing = bootstrap(&crate::plan_support::desired(Vec::new()), &KUBEADM).unwrap();
    assert!(nothing.files["after.md"].contains("Nothing of the profile is left"));
}

#[test]
fn two_that_disagree_are_refused() {
    let desired = desired(vec![flag("profiling", "false"), flag("profiling", "true")]);
    assert_eq!(
        bootstrap(&desired, &KUBEADM).unwrap_err(),
        "two resources of the profile want different things of kube-apiserver profiling in flags"
    );
}

#[test]
fn a_path_of_kubeadm_alone_is_not_carried_to_k3s() {
    let desired = desired(vec![
        flag(
            "kubelet-certificate-authority",
            "/etc/kubernetes/pki/ca.crt",
        ),
        flag("profiling", "false"),
    ]);
    let made = made(&desired, &Newborn::K3s);
    assert_eq!(
        placed(&made)["/etc/rancher/k3s/config.yaml.d/90-harden.yaml"],
        "kube-apiserver-arg+:\n  - profiling=false\n"
    );
    assert_eq!(
        made.after,
        [
            "kube-apiserver --kubelet-certificate-authority: it names a file of kubeadm's, which k3s does not have"
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Quotes, colons, `#`, `$`, other scripts: whatever a flag may hold is that value in the end.
    #[test]
    fn hostile_values_stay_values(
        exact in "[ -~\u{a0}-\u{3ff}]{0,24}|yes|~|0x1f|!!str a|&a|\\*a|- a|\\{\\}|'|\"|`id`|; rm -rf /",
        items in prop::collection::btree_set("[A-Za-z:#'\"{} ]{1,8}", 1..4),
    ) {
        prop_assume!(!exact.contains("$(") && !exact.contains("$$"));
        let items: Vec<String> = items.into_iter().collect();
        let additive = json!({
            "component": "kube-apiserver", "name": "enable-admission-plugins", "value": items, "merge": "additive",
        });
        let desired = desired(vec![flag("some-flag", exact.clone()), resource("flag", additive)]);
        let ours = made(&desired, &KUBEADM);
        prop_assert_eq!(unannounced(&desired, &first(&ours), &ours), [""; 0]);
        for own in [V1BETA3, V1BETA4] {
            let ours = made(&desired, &KIND);
            prop_assert_eq!(unannounced(&desired, &by_kind(&ours, own), &ours), [""; 0]);
        }
        let drop_in = placed(&made(&desired, &Newborn::K3s)).into_values().next().unwrap();
        let words = yaml(&drop_in)["kube-apiserver-arg+"].clone();
        let wanted = json!(format!("some-flag={exact}"));
        prop_assert!(words.as_array().unwrap().contains(&wanted), "{words}");
    }

    #[test]
    fn hostile_contents_stay_contents(hostile in "[ -~\u{a0}-\u{3ff}]{0,60}") {
        let content = format!("a: 1\n# {hostile}\n");
        let table = json!({
            "component": "kube-apiserver", "flag": "tracing-config-file", "name": "tracing", "content": content,
        });
        let desired = desired(vec![resource("component-file", table)]);
        for newborn in [KUBEADM, KIND, Newborn::K3s, Newborn::Rke2] {
            let made = made(&desired, &newborn);
            prop_assert!(placed(&made).values().any(|text| *text == content));
            prop_assert_eq!(&made, &bootstrap(&desired, &newborn).unwrap());
            prop_assert_eq!(&made.files.get("place-files.sh"), &Some(&SCRIPT.to_owned()));
        }
    }
}

const SCRIPT: &str = include_str!("../../src/report/bootstrap/place-files.sh");

/// Writes a tree and runs the script of it for a role, with a directory for the node's root.
fn place(made: &Bootstrap, shell: &[&str], role: &str, root: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in &made.files {
        let place = dir.path().join(name);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, text).unwrap();
    }
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(dir.path().join("place-files.sh"))
        .arg(role)
        .arg(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_script_places_what_the_list_says_and_runs_none_of_it() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let root = tempfile::tempdir().unwrap();
    if root.path().metadata().unwrap().uid() != 0 {
        return; // it changes owners
    }
    let mark = root.path().join("run");
    let content = format!("a: 1\n# $(touch {0})`touch {0}`'\"\\\n", mark.display());
    let table = json!({
        "component": "kube-apiserver", "flag": "tracing-config-file", "name": "tracing", "content": content,
        "volumes": [{"name": "log", "host-path": "/var/log/a $(touch run) b", "mount-path": "/var/log/x"}],
    });
    let desired = desired(vec![resource("component-file", table)]);
    for shell in [&["sh"][..], &["bash", "--posix"], &["busybox", "sh"]] {
        let made = made(&desired, &Newborn::Rke2);
        for _ in 0..2 {
            let said = place(&made, shell, "control-plane", root.path());
            assert_eq!(
                said.lines().count(),
                made.files["files.tsv"].lines().count()
            );
        }
        for (target, text) in placed(&made) {
            let target = root.path().join(&target[1..]);
            assert_eq!(std::fs::read_to_string(&target).unwrap(), text);
            assert_eq!(
                target.metadata().unwrap().permissions().mode() & 0o7777,
                0o600
            );
        }
        assert!(root.path().join("var/log/a $(touch run) b").is_dir());
        assert!(!mark.exists());
        let worker = tempfile::tempdir().unwrap();
        assert_eq!(place(&made, shell, "worker", worker.path()), "");
        assert_eq!(std::fs::read_dir(worker.path()).unwrap().count(), 0);
    }
}
