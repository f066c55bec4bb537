//! Encryption that a profile asks for: begun, taken up after every death, kept, rotated and ended.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Encrypted, SECRETS};
use crate::environment::{Cluster, Said, Via, Workspace, eventually, ha, single};

const OWN_DIR: &str = "/etc/kubernetes/encryption";

pub(super) const OPTIONS: &str = "[encryption]\nprovider = \"secretbox\"\nresources = [\"secrets\", \"configmaps\"]\n\
                       backup-file = \"keys/{key}.yaml\"\n";

/// A workspace that wants nothing else, and has a directory for the keys.
pub(super) fn workspace(cluster: &Cluster, accept: bool, options: &str) -> Workspace {
    let accepted = match accept {
        true => "accept  = [\"tenants\", \"encryption.provider\"]",
        false => "accept  = [\"tenants\"]",
    };
    let replace = [
        ("imports = [\"builtin:baseline\"]", "imports = []"),
        ("accept  = [\"tenants\"]", accepted),
    ];
    let workspace = cluster.workspace(Via::Ssh, &replace, options);
    std::fs::create_dir(workspace.path("keys")).expect("a directory");
    workspace
}

/// What is read of a cluster past harden.
pub(super) struct Raw<'c>(pub(super) &'c Cluster);

impl Raw<'_> {
    /// How many Secrets each form has, by etcd's own word: by the key's name, and `clear`.
    pub(super) fn secrets(&self, node: &str) -> BTreeMap<String, u64> {
        let raw = self.0.on(
            node,
            "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
             --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key \
             get /registry/secrets/ --prefix --print-value-only \
             | grep -a -o -e 'k8s:enc:[a-z]*:v1:[a-z0-9-]*:' -e '^k8s.$' | sort | uniq -c; true",
        );
        let mut found = BTreeMap::new();
        for line in raw.lines().filter(|line| !line.trim().is_empty()) {
            let (count, prefix) = line.trim().split_once(' ').expect("a count");
            let name = prefix.split(':').nth(4).unwrap_or("clear");
            *found.entry(name.to_owned()).or_insert(0) += count.parse::<u64>().expect("a number");
        }
        found
    }

    /// The names and the base64 of the keys in a node's file.
    pub(super) fn keys(&self, node: &str) -> Vec<(String, String)> {
        let text = self.0.on(
            node,
            &format!("cat {OWN_DIR}/config.yaml 2>/dev/null; true"),
        );
        let all = |field: &str| -> Vec<String> {
            let values = text.lines().filter_map(|line| line.split_once(field));
            values
                .map(|(_, value)| value.trim_matches('"').to_owned())
                .collect()
        };
        let mut keys: Vec<_> = all("name: ").into_iter().zip(all("secret: ")).collect();
        keys.dedup();
        keys
    }

    /// Whether the flag is in the manifest, the process, and what kubeadm keeps.
    pub(super) fn flags(&self, node: &str) -> [bool; 3] {
        let has = |text: &str| text.contains("encryption-provider-config");
        let get = [
            "get",
            "cm",
            "kubeadm-config",
            "-n",
            "kube-system",
            "-o",
            "yaml",
        ];
        [
            has(&self.0.manifest(node, "kube-apiserver")),
            has(&self.0.argv(node, "kube-apiserver")),
            has(&self.0.kubectl(&get).exits(0).stdout),
        ]
    }
}

/// No byte of a key is in what was said, nor anywhere on a node but in its one place.
fn no_key_but_in_its_place(cluster: &Cluster, workspace: &Workspace, said: &[&Said]) {
    let places = "/var/lib/harden /tmp /run/harden* /root /etc/kubernetes/manifests /var/log/pods";
    let backups = std::fs::read_dir(workspace.path("keys")).expect("keys");
    let mut any = false;
    for backup in backups {
        let text = std::fs::read_to_string(backup.expect("a file").path()).expect("a backup");
        let (_, secret) = text.split_once("secret: ").expect("a key");
        let secret = &secret[..16];
        any = true;
        for said in said {
            assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret));
        }
        for node in cluster.control_planes() {
            let search = format!("grep -r -l -a -F -e '{secret}' {places} 2>/dev/null; true");
            assert_eq!(cluster.on(&node, &search), "", "{node}");
        }
    }
    assert!(any, "nothing was backed up");
}

#[test]
#[ignore = "needs testenv/up single"]
fn kubespray_3964_a_profile_begins_encryption_and_its_key_stays() {
    let cluster = single();
    let e = Encrypted::new(&cluster);
    let raw = Raw(&cluster);
    e.make_secrets();
    let all = SECRETS as u64;
    workspace(&cluster, false, OPTIONS)
        .harden(&["plan"])
        .exits(1)
        .says("add \"encryption.provider\" to `accept`");
    let w = workspace(&cluster, true, OPTIONS);
    let plan = w
        .harden(&["plan", "-vv"])
        .exits(2)
        .says("all under a new key of secretbox")
        .says("back it up in keys/{key}.yaml");
    assert_eq!(raw.flags(&e.node), [false; 3]);

    let first = w.harden(&["apply", "--yes", "-vv"]).exits(0);
    assert_eq!(raw.flags(&e.node), [true; 3]);
    let keys = raw.keys(&e.node);
    assert_eq!(keys.len(), 1, "one key");
    let counted = raw.secrets(&e.node);
    assert!(
        counted[&keys[0].0] >= all && counted.len() == 1,
        "{counted:?}"
    );
    w.harden(&["plan"]).exits(0);
    w.harden(&["encryption", "verify"]).exits(0);
    e.all_there();
    let again = w.harden(&["apply", "--yes"]).exits(0);
    assert_eq!(raw.keys(&e.node), keys);

    // The way back is another one.
    let before = cluster.manifest(&e.node, "kube-apiserver");
    w.harden(&["rollback", "--yes"])
        .exits(1)
        .says("harden encryption disable");
    assert_eq!(cluster.manifest(&e.node, "kube-apiserver"), before);

    // Rotated by what the profile says of providers and backups.
    let rotate = ["encryption", "rotate", "--yes", "--rate", "500", "-vv"];
    let rotated = w.harden(&rotate).exits(0);
    assert_eq!(raw.keys(&e.node).len(), 2);
    w.harden(&["plan"]).exits(0);
    w.harden(&[&rotate[..], &["--drop"]].concat()).exits(0);
    let new = raw.keys(&e.node);
    assert!(new.len() == 1 && new[0].0 > keys[0].0);
    w.harden(&["plan"]).exits(0);
    e.all_there();

    // Another resource, under the same key.
    let more = OPTIONS.replace("\"configmaps\"", "\"configmaps\", \"serviceaccounts\"");
    let text = std::fs::read_to_string(w.path("harden.toml")).expect("harden.toml");
    std::fs::write(w.path("harden.toml"), text.replace(OPTIONS, &more)).expect("written");
    w.harden(&["plan"]).exits(2).says("serviceaccounts");
    w.harden(&["apply", "--yes"]).exits(0);
    assert_eq!(raw.keys(&e.node), new);
    w.harden(&["plan"]).exits(0);

    let disable = ["encryption", "disable", "--yes", "--rate", "500", "-vv"];
    let ended = w.harden(&disable).exits(0).says("begins it again");
    assert_eq!(raw.flags(&e.node), [false; 3]);
    assert_eq!(cluster.on(&e.node, &format!("ls -A {OWN_DIR}")), "");
    let counted = raw.secrets(&e.node);
    assert!(counted["clear"] >= all && counted.len() == 1, "{counted:?}");
    e.all_there();
    w.harden(&disable).exits(0).says("Nothing is encrypted");
    w.harden(&["plan"]).exits(2).says("under a new key");
    no_key_but_in_its_place(&cluster, &w, &[&plan, &first, &again, &rotated, &ended]);
}

/// 32 bytes each, and something to know them by.
const GIVEN: [&str; 2] = [
    "Y2FuYXJ5AP9jYW5hcnktY2FuYXJ5LWNhbmFyeS1rISE=",
    "b3RoZXIAAP9jYW5hcnktY2FuYXJ5LWNhbmFyeS1rISE=",
];

#[test]
#[ignore = "needs testenv/up single"]
fn a_key_that_is_given_encrypts_and_another_one_is_rotated_to() {
    let cluster = single();
    let e = Encrypted::new(&cluster);
    let raw = Raw(&cluster);
    e.make_secrets();
    // All of them, by rules: no other test has rules.
    let options = OPTIONS.replace("\"secrets\", \"configmaps\"", "\"*.apps\", \"*.*\"")
        + "key = { file = \"etcd.key\" }\n";
    let w = workspace(&cluster, true, &options);
    // It is not there yet, and the plan does not ask.
    let plan = w
        .harden(&["plan", "-vv"])
        .exits(2)
        .says("take a key of secretbox from the file etcd.key");
    w.harden(&["apply", "--yes"])
        .exits(1)
        .says("encryption.key at harden.toml:");
    std::fs::write(w.path("etcd.key"), &GIVEN[0][..40]).expect("written");
    w.harden(&["apply", "--yes"])
        .exits(1)
        .says("must be 32 bytes of randomness");
    assert_eq!(raw.keys(&e.node), []);
    std::fs::write(w.path("etcd.key"), GIVEN[0]).expect("written");
    let first = w.harden(&["apply", "--yes", "-vv"]).exits(0);
    let keys = raw.keys(&e.node);
    let [(name, secret)] = keys.as_slice() else {
        panic!("{} keys", keys.len())
    };
    assert_eq!(secret, GIVEN[0]);
    let file = cluster.on(&e.node, &format!("cat {OWN_DIR}/config.yaml"));
    let (apps, all) = (file.find("\"*.apps\""), file.find("\"*.*\""));
    assert!(
        apps.is_some() && apps < all,
        "the API server reads the first rule that fits"
    );
    // Every object of every kind: none is in clear in etcd that the API serves by storing it.
    let clear = |prefix: &str| {
        cluster.on(
            &e.node,
            &format!(
                "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
                 --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key \
                 get {prefix} --prefix --print-value-only | grep -a -c '^k8s.$'; true"
            ),
        )
    };
    for prefix in [
        "secrets",
        "configmaps",
        "deployments",
        "serviceaccounts",
        "roles",
    ] {
        assert_eq!(
            clear(&format!("/registry/{prefix}/")).trim(),
            "0",
            "{prefix}"
        );
    }
    assert_eq!(raw.secrets(&e.node).keys().collect::<Vec<_>>(), [name]);
    w.harden(&["plan"]).exits(0);
    w.harden(&["encryption", "verify"]).exits(0);
    e.all_there();

    // Another content changes nothing by itself; the same is no other key.
    let rotate = ["encryption", "rotate", "--yes", "--drop", "--rate", "500"];
    w.harden(&rotate)
        .exits(1)
        .says("the key from the file etcd.key is the one that the files have as");
    assert_eq!(raw.keys(&e.node), keys);
    std::fs::write(w.path("etcd.key"), GIVEN[1]).expect("written");
    w.harden(&["plan"]).exits(0);
    let rotated = w.harden(&rotate).exits(0);
    let new = raw.keys(&e.node);
    assert!(new.len() == 1 && new[0].1 == GIVEN[1] && new[0].0 > *name);
    w.harden(&["plan"]).exits(0);
    e.all_there();
    let ended = w
        .harden(&["encryption", "disable", "--yes", "--rate", "500"])
        .exits(0);
    for prefix in ["secrets", "deployments"] {
        assert_ne!(
            clear(&format!("/registry/{prefix}/")).trim(),
            "0",
            "{prefix}"
        );
    }
    e.all_there();
    no_key_but_in_its_place(&cluster, &w, &[&plan, &first, &rotated, &ended]);
}

#[test]
#[ignore = "needs testenv/up single"]
fn k3s_13598_a_beginning_that_is_killed_anywhere_is_taken_up() {
    let cluster = single();
    let e = Encrypted::new(&cluster);
    let raw = Raw(&cluster);
    e.make_secrets();
    let w = workspace(&cluster, true, OPTIONS);
    let mut tries = 0;
    // Where it is killed, and what it says next has to come at the next attempt.
    for at in [
        "] make a key",
        "is backed up",
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
        "waiting for",
        "ConfigMap kube-system/kubeadm-config",
        "] put the new key first",
        "- wait until",
        "- write every object",
        "secrets: ",
        "- drop the forms",
        "- wait until",
    ] {
        let said = w.killed_at(&["apply", "--yes", "-vv"], at);
        assert!(said.is_some(), "it ended before {at:?}");
        eventually("the API server answers", Duration::from_secs(120), || {
            cluster.readyz(&e.node)
        });
        e.all_there();
        tries += 1;
    }
    assert_eq!(tries, 11);
    let last = w.harden(&["apply", "--yes", "-vv"]).exits(0);
    let keys = raw.keys(&e.node);
    assert_eq!(keys.len(), 1);
    let counted = raw.secrets(&e.node);
    assert_eq!(counted.keys().collect::<Vec<_>>(), [&keys[0].0]);
    let backup = w.path(&format!("keys/{}.yaml", keys[0].0));
    let backup = std::fs::read_to_string(backup).expect("the backup of the key that is used");
    assert!(backup.contains(&keys[0].1), "the backup is of another key");
    w.harden(&["plan"]).exits(0);
    e.all_there();
    no_key_but_in_its_place(&cluster, &w, &[&last]);

    // The end, likewise.
    let disable = ["encryption", "disable", "--yes", "--rate", "500"];
    for at in [
        "- add what is missing",
        "- put `identity` first",
        "- write every object",
        "secrets: ",
        "- drop the forms",
        "waiting for",
        "ConfigMap kube-system/kubeadm-config",
        "- remove the file",
    ] {
        let said = w.killed_at(&disable, at);
        assert!(said.is_some(), "it ended before {at:?}");
        eventually("the API server answers", Duration::from_secs(120), || {
            cluster.readyz(&e.node)
        });
        e.all_there();
    }
    w.harden(&disable).exits(0);
    assert_eq!(raw.flags(&e.node), [false; 3]);
    e.all_there();
}

#[test]
#[ignore = "needs testenv/up ha"]
fn k3s_4838_three_control_planes_begin_together_or_not_at_all() {
    let cluster = ha();
    let e = Encrypted::new(&cluster);
    let raw = Raw(&cluster);
    e.make_secrets();
    let w = workspace(&cluster, true, OPTIONS);
    let node = cluster.node("control-plane2");
    {
        let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        let _back = cluster.afterwards(&node, &format!("mv -f /root/down.yaml {manifest}"));
        cluster.on(&node, &format!("mv -f {manifest} /root/down.yaml"));
        eventually("it is down", Duration::from_secs(120), || {
            cluster.argv(&node, "kube-apiserver").is_empty()
        });
        w.harden(&["apply", "--yes"])
            .exits(1)
            .says("no API server runs");
    }
    cluster.settles();
    for node in cluster.control_planes() {
        assert_eq!(raw.keys(&node), []);
        assert_eq!(raw.flags(&node), [false; 3]);
    }
    let load = cluster.load();
    let killed = w.killed_at(&["apply", "--yes"], "- put the new key first");
    assert!(killed.is_some());
    w.harden(&["apply", "--yes"]).exits(0);
    let noticed = load.finish();
    assert_eq!(noticed["failures_after_retries"], 0, "{noticed:#}");
    assert_eq!(noticed["watch"]["missed"], 0, "{noticed:#}");
    let keys = raw.keys(&e.node);
    assert_eq!(keys.len(), 1);
    for node in cluster.control_planes() {
        assert_eq!(raw.keys(&node), keys);
        let counted = raw.secrets(&node);
        assert_eq!(counted.keys().collect::<Vec<_>>(), [&keys[0].0], "{node}");
    }
    w.harden(&["plan"]).exits(0);
    e.all_there();
    w.harden(&["encryption", "disable", "--yes", "--rate", "500"])
        .exits(0);
    for node in cluster.control_planes() {
        assert_eq!(raw.flags(&node), [false; 3]);
        assert_eq!(raw.keys(&node), []);
    }
    e.all_there();
    no_key_but_in_its_place(&cluster, &w, &[]);
}
