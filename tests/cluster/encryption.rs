//! Encryption at rest on a real API server and a real etcd: it is seen as it is, in every stage of being
//! begun, rotated and ended by hand, and objects are written anew without losing one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::environment::{Cluster, Via, Workspace, eventually, ha, single};

mod by_profile;
mod under_load;

const DIR: &str = "/etc/kubernetes/enc";
const NAMESPACE: &str = "encryption-test";
const SECRETS: usize = 200;

/// Keys that would be known wherever they appeared: 32 letters each.
const KEYS: [&str; 3] = [
    "canary-one-canary-one-canary-one",
    "canary-two-canary-two-canary-two",
    "canary-abc-canary-abc-canary-abc",
];

/// What `base64` makes of them.
const KEYS64: [&str; 3] = [
    "Y2FuYXJ5LW9uZS1jYW5hcnktb25lLWNhbmFyeS1vbmU=",
    "Y2FuYXJ5LXR3by1jYW5hcnktdHdvLWNhbmFyeS10d28=",
    "Y2FuYXJ5LWFiYy1jYW5hcnktYWJjLWNhbmFyeS1hYmM=",
];

/// The cluster as it was, whatever becomes of the test: first every object in clear, then no flag.
struct Encrypted<'c> {
    cluster: &'c Cluster,
    workspace: Workspace,
    /// The first control plane.
    node: String,
    /// How many Secrets there are.
    count: usize,
    /// The manifest of each API server.
    before: BTreeMap<String, String>,
}

/// A provider of a configuration.
fn provider(name: &str, key: usize) -> String {
    format!(
        "  - {name}:\n      keys:\n      - name: key{key}\n        secret: {}\n",
        KEYS64[key - 1]
    )
}

const IDENTITY: &str = "  - identity: {}\n";

impl<'c> Encrypted<'c> {
    fn new(cluster: &'c Cluster) -> Self {
        Self::with(cluster, SECRETS)
    }

    fn with(cluster: &'c Cluster, count: usize) -> Self {
        let workspace = cluster.workspace(Via::Ssh, &[], "");
        let node = cluster.node("control-plane");
        let planes = cluster.control_planes().into_iter();
        let before = planes
            .map(|node| {
                let manifest = cluster.manifest(&node, "kube-apiserver");
                (node, manifest)
            })
            .collect();
        Encrypted {
            cluster,
            workspace,
            node,
            count,
            before,
        }
    }

    /// Writes the file as harden would: whole, and by a new name.
    fn file(&self, providers: &[String]) {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources:\n  - secrets\n  - configmaps\n  providers:\n{}",
            providers.concat()
        );
        self.raw_file(&text);
    }

    fn raw_file(&self, text: &str) {
        for node in self.before.keys() {
            let make = format!("mkdir -p -m 700 {DIR} && touch {DIR}/.new && chmod 600 {DIR}/.new");
            self.cluster.on(node, &make);
            self.cluster.write(node, &format!("{DIR}/.new"), text);
            let place = format!("chmod 600 {DIR}/.new && mv -f {DIR}/.new {DIR}/config.yaml");
            self.cluster.on(node, &place);
        }
    }

    /// Starts the API server with the file.
    fn enable(&self) {
        let flags = format!(
            "    - kube-apiserver\n    - --encryption-provider-config={DIR}/config.yaml\n    \
             - --encryption-provider-config-automatic-reload=true\n"
        );
        let mount = format!(
            "    volumeMounts:\n    - mountPath: {DIR}\n      name: enc\n      readOnly: true\n"
        );
        let volume = format!(
            "  volumes:\n  - hostPath:\n      path: {DIR}\n      type: Directory\n    name: enc\n"
        );
        for (node, before) in &self.before {
            let manifest = before
                .replace("    - kube-apiserver\n", &flags)
                .replace("    volumeMounts:\n", &mount)
                .replace("  volumes:\n", &volume);
            self.start(node, &manifest, true);
        }
    }

    fn start(&self, node: &str, manifest: &str, encrypts: bool) {
        // Not in the manifests' directory: the kubelet reads every file there.
        let new = "/etc/kubernetes/harden-test.yaml";
        self.cluster.write(node, new, manifest);
        let place =
            format!("chmod 600 {new} && mv -f {new} /etc/kubernetes/manifests/kube-apiserver.yaml");
        self.cluster.on(node, &place);
        eventually("the API server restarts", Duration::from_secs(180), || {
            // The process may end between the two commands: no argv then, and another look.
            let argv = self.cluster.on(
                node,
                "cat /proc/$(pgrep -xn kube-apiserver)/cmdline 2>/dev/null | tr '\\0' ' '; true",
            );
            argv.contains("--encryption-provider-config=") == encrypts && self.cluster.readyz(node)
        });
        self.cluster.settles();
    }

    fn harden(&self, args: &[&str]) -> crate::environment::Said {
        let said = self.workspace.harden(args);
        for words in [&said.stdout, &said.stderr] {
            no_key(words);
        }
        said
    }

    /// What `status` tells, after the API server has loaded the file.
    fn status(&self) -> Value {
        let mut told = Value::Null;
        eventually("the file is loaded", Duration::from_secs(150), || {
            told = self
                .harden(&["encryption", "status", "--format", "json"])
                .exits(0)
                .json();
            let planes = told["control-planes"].as_array().expect("control planes");
            let is_loaded = |plane: &Value| plane["loaded-sha256"] == plane["file"]["sha256"];
            planes.iter().all(is_loaded)
        });
        told
    }

    /// How many Secrets are in each form, by key and `identity`; harden's word, and etcd's own.
    fn secrets(&self, told: &Value) -> BTreeMap<String, u64> {
        let counted = self.secrets_by_name(told);
        let raw = self.cluster.on(
            &self.node,
            "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
             --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key \
             get /registry/secrets/ --prefix --print-value-only | grep -a -o 'k8s:enc:[a-z]*:v1:key[0-9]:' \
             | sort | uniq -c",
        );
        for line in raw.lines().filter(|line| !line.trim().is_empty()) {
            let (count, prefix) = line.trim().split_once(' ').expect("a count");
            let key = prefix.split(':').nth(4).expect("a key");
            assert_eq!(counted.get(key), Some(&count.parse().unwrap()), "{raw}");
        }
        counted
    }

    /// Whether every Secret of the test is what it was.
    fn all_there(&self) {
        self.are_there(
            &["get", "secrets", "-n", NAMESPACE, "-o", "json"],
            &self.node,
        );
    }

    /// The same of one API server, past the load balancer.
    fn all_there_by(&self, node: &str) {
        let server = "--server=https://127.0.0.1:6443";
        let get = ["get", "secrets", "-n", NAMESPACE, "-o", "json", server];
        self.are_there(&get, node);
    }

    fn are_there(&self, get: &[&str], node: &str) {
        let list = self.cluster.kubectl_on(node, get).exits(0).json();
        let items = list["items"].as_array().expect("Secrets");
        assert_eq!(items.len(), self.count);
        for item in items {
            let name = item["metadata"]["name"].as_str().expect("a name");
            let managers = item["metadata"]["managedFields"].as_array();
            assert!(
                managers.is_none_or(|all| all.iter().all(|m| m["manager"] != "harden")),
                "{item}"
            );
            let value = self.decoded(item["data"]["value"].as_str().expect("a value"));
            assert_eq!(value, content(name));
        }
    }

    fn decoded(&self, text: &str) -> String {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        String::from_utf8(bytes.expect("base64")).expect("text")
    }
}

impl Drop for Encrypted<'_> {
    fn drop(&mut self) {
        let delete = [
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--wait=false",
        ];
        let _ = self.cluster.kubectl(&delete);
        if std::thread::panicking() {
            return;
        }
        for node in self.before.keys() {
            self.cluster.on(node, &format!("rm -rf {DIR}"));
        }
    }
}

/// What the Secret of a name holds, which nothing else does.
fn content(name: &str) -> String {
    format!("canary-of-{name}")
}

fn no_key(words: &str) {
    for key in KEYS.iter().chain(&KEYS64) {
        assert!(!words.contains(&key[..16]), "{words}");
    }
}

#[test]
#[ignore = "needs testenv/up single"]
fn kubernetes_49565_rotation_leaves_no_secret_behind() {
    let cluster = single();
    let e = Encrypted::new(&cluster);
    e.make_secrets();
    let all = SECRETS as u64;

    // Nothing is encrypted yet.
    let told = e.status_without();
    assert_eq!(told["control-planes"][0]["encrypts"], false);
    assert!(e.secrets(&told)["identity"] >= all);
    e.harden(&["encryption", "verify"])
        .exits(2)
        .says("in clear, for it is written so");
    e.harden(&["encryption", "rewrite", "--yes"]).exits(1);

    // First enablement: read before it is written.
    e.file(&[IDENTITY.to_owned(), provider("secretbox", 1)]);
    e.enable();
    let told = e.status();
    assert!(e.secrets(&told)["identity"] >= all);
    e.file(&[provider("secretbox", 1), IDENTITY.to_owned()]);
    let told = e.status();
    assert_eq!(e.secrets(&told).get("key1"), None);
    e.harden(&["encryption", "verify"])
        .exits(2)
        .says("objects are still stored in clear");

    // Killed in the middle, and begun again.
    let killed = e.workspace.killed_at(
        &["encryption", "rewrite", "--yes", "--rate", "20"],
        "configmaps:",
    );
    assert!(killed.is_some());
    let rewrite = ["encryption", "rewrite", "--yes", "--rate", "500", "-vvv"];
    e.harden(&rewrite).exits(0).says("secrets: ");
    let told = e.status();
    let counted = e.secrets(&told);
    assert!(counted["key1"] >= all && counted.len() == 1, "{counted:?}");
    e.harden(&["encryption", "verify", "-vvv"]).exits(0);
    e.all_there();

    // Rotation, to another provider.
    e.file(&[provider("secretbox", 1), provider("aescbc", 2)]);
    e.status();
    e.file(&[provider("aescbc", 2), provider("secretbox", 1)]);
    // The server has not loaded it yet, or has just done so; it is refused, or done.
    e.status();
    e.harden(&["encryption", "verify"]).exits(2);
    e.harden(&rewrite).exits(0).says("Worth knowing");
    let told = e.status();
    let counted = e.secrets(&told);
    assert!(counted["key2"] >= all && counted.len() == 1, "{counted:?}");
    assert!(
        told["next"]
            .as_str()
            .expect("a step")
            .starts_with("drop the forms"),
        "{told}"
    );
    e.file(&[provider("aescbc", 2)]);
    let told = e.status();
    assert_eq!(told["next"], Value::Null);
    e.harden(&["encryption", "verify"]).exits(0);
    e.all_there();

    // A file that the server refuses, and one that cannot be read without seeing the keys.
    let good = e.status();
    e.raw_file("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources:\n  - secrets\n  providers:\n  - secretbox:\n      keys:\n      - name: key3\n        secret: YWJj\n");
    eventually("the reload is refused", Duration::from_secs(150), || {
        let told = e
            .harden(&["encryption", "status", "--format", "json"])
            .exits(0)
            .json();
        told["control-planes"][0]["refused-reloads"] != 0
    });
    e.harden(&["encryption", "verify"])
        .exits(2)
        .says("has refused a reload")
        .says("do not restart it");
    e.harden(&rewrite).exits(1).says("nothing was written anew");
    e.raw_file(&format!("{{\"kind\": \"{}\"}}\n", KEYS64[2]));
    e.harden(&["encryption", "verify"])
        .exits(1)
        .says("line 1 is not in the plain block style");
    e.file(&[provider("aescbc", 2)]);
    let again = e.status();
    assert_eq!(
        good["control-planes"][0]["file"]["sha256"],
        again["control-planes"][0]["file"]["sha256"]
    );

    e.end();
}

#[test]
#[ignore = "needs testenv/up single"]
fn k3s_13763_a_rotation_that_is_killed_anywhere_is_taken_up() {
    let cluster = single();
    let e = Encrypted::new(&cluster);
    e.make_secrets();
    let rotate = ["encryption", "rotate", "--yes", "--rate", "400"];
    e.harden(&[&rotate[..], &["--backup", "k"]].concat())
        .exits(1)
        .says("there is no key to rotate");
    e.file(&[provider("secretbox", 1), IDENTITY.to_owned()]);
    e.enable();
    e.status();
    e.harden(&["encryption", "rewrite", "--yes", "--rate", "500"])
        .exits(0);
    e.harden(&rotate).exits(1).says("it is not said where");

    // Killed before each step in turn, and once each key was only backed up.
    let mut tries = 0;
    for at in [
        "- add what is missing",
        "is backed up",
        "- wait until",
        "- put the new key first",
        "- wait until",
        "- write every object",
        "secrets: ",
        "- drop the forms",
    ] {
        tries += 1;
        let backup = format!("backup{tries}");
        let args = [&rotate[..], &["-vvv", "--drop", "--backup", &backup]].concat();
        let said = e.workspace.killed_at(&args, at);
        no_key(&said.unwrap_or_else(|| panic!("it ended before {at:?}")));
        e.all_there();
    }
    // What is left needs no backup any more. Another workstation would find the same.
    let last = e.harden(&[&rotate[..], &["-vv", "--drop"]].concat());
    let last = last.exits(0).says("it is taken up");
    let (name, secret) = e.only_key();
    e.all_there();
    let told = e.status();
    let counted = e.secrets_by_name(&told);
    assert_eq!(counted.keys().collect::<Vec<_>>(), [&name]);
    e.harden(&["encryption", "verify"]).exits(0);
    let backups: Vec<String> = (1..=tries)
        .filter_map(|n| std::fs::read_to_string(e.workspace.path(&format!("backup{n}"))).ok())
        .collect();
    let of_name = backups
        .iter()
        .find(|text| text.contains(&name))
        .expect("a backup");
    assert!(of_name.contains(&secret), "the backup is of another key");

    // To another provider, with a program, and the old key kept at first.
    let own = e
        .workspace
        .path("by-program")
        .to_str()
        .expect("a path")
        .to_owned();
    let args = [
        "--provider",
        "aescbc",
        "-vvv",
        "--",
        "dd",
        &format!("of={own}"),
    ];
    let said = e
        .harden(&[&rotate[..], &args].concat())
        .exits(0)
        .says("the old keys stay in the files");
    let by_program = std::fs::read_to_string(&own).expect("a backup");
    assert!(by_program.contains("- aescbc:"), "the program got no key");
    let dropped = e.harden(&[&rotate[..], &["--drop"]].concat()).exits(0);
    let (second, other) = e.only_key();
    assert!(second > name && by_program.contains(&other));
    e.all_there();
    e.harden(&["encryption", "verify"]).exits(0);

    // No byte of a key anywhere but in its one place and its backup.
    let places = "/var/lib/harden /tmp /run/harden* /root /etc/kubernetes/manifests /var/log/pods";
    for key in [secret, other] {
        for words in [&last, &said, &dropped] {
            assert!(!words.stdout.contains(&key[..16]) && !words.stderr.contains(&key[..16]));
        }
        let search = format!(
            "grep -r -l -a -F -e '{}' {places} 2>/dev/null; true",
            &key[..16]
        );
        assert_eq!(cluster.on(&e.node, &search), "");
        let file = cluster.on(
            &e.node,
            &format!("ls -A {DIR}; stat -c '%a %U:%G' {DIR}/config.yaml"),
        );
        assert_eq!(file, "config.yaml\n600 root:root\n");
    }
    e.end();
}

/// The first bytes of an object tell the name of its key, and no more.
#[test]
#[ignore = "needs testenv/up single"]
fn kubespray_3964_another_key_of_the_same_name_is_found_by_reading() {
    let cluster = single();
    let e = Encrypted::new(&cluster);
    e.make_secrets();
    let first = provider("secretbox", 1);
    e.file(&[first.clone(), IDENTITY.to_owned()]);
    e.enable();
    e.status();
    e.harden(&["encryption", "rewrite", "--yes", "--rate", "500"])
        .exits(0);
    e.harden(&["encryption", "verify"]).exits(0);
    let good = e.status();
    e.file(&[first.replace(KEYS64[0], KEYS64[1]), IDENTITY.to_owned()]);
    let told = e.status();
    assert_eq!(e.secrets_by_name(&told), e.secrets_by_name(&good));
    let said = e
        .harden(&["encryption", "verify", "--format", "json"])
        .exits(2);
    let wrong = said.json()["wrong"].clone();
    let wrong: Vec<&Value> = wrong.as_array().expect("a list").iter().collect();
    let of_secrets = wrong.iter().find(|w| w["subject"] == "secrets");
    let of_secrets = of_secrets.expect("secrets cannot be read");
    assert_eq!(of_secrets["node"], e.node.as_str());
    let message = of_secrets["message"].as_str().expect("a message");
    assert!(message.contains("cannot read"), "{message}");
    // The way back: the other key again.
    e.file(&[first]);
    e.status();
    e.harden(&["encryption", "verify"]).exits(0);
    e.all_there();
    e.end();
}

#[test]
#[ignore = "needs testenv/up ha"]
fn rancher_26421_three_control_planes_rotate_together_or_not_at_all() {
    let cluster = ha();
    let e = Encrypted::new(&cluster);
    e.make_secrets();
    e.file(&[IDENTITY.to_owned(), provider("secretbox", 1)]);
    e.enable();
    e.file(&[provider("secretbox", 1), IDENTITY.to_owned()]);
    e.status();
    e.harden(&["encryption", "rewrite", "--yes", "--rate", "500"])
        .exits(0);
    e.harden(&["encryption", "verify"]).exits(0);
    let files = || -> Vec<String> {
        let planes = cluster.control_planes().into_iter();
        planes
            .map(|node| cluster.on(&node, &format!("sha256sum <{DIR}/config.yaml")))
            .collect()
    };
    let before = files();

    // One API server is down, and then another file is on one of them.
    let node = cluster.node("control-plane2");
    let rotate = ["encryption", "rotate", "--yes", "--drop", "--rate", "400"];
    let attempt = [&rotate[..], &["--backup", "never"]].concat();
    {
        let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        let _back = cluster.afterwards(&node, &format!("mv -f /root/down.yaml {manifest}"));
        cluster.on(&node, &format!("mv -f {manifest} /root/down.yaml"));
        eventually("it is down", Duration::from_secs(120), || {
            cluster.argv(&node, "kube-apiserver").is_empty()
        });
        e.harden(&attempt)
            .exits(1)
            .says("no API server runs")
            .says("nothing was changed");
    }
    cluster.settles();
    {
        let path = format!("{DIR}/config.yaml");
        let back = format!("mv -f /root/good.yaml {path}");
        let _back = cluster.afterwards(&node, &back);
        cluster.on(&node, &format!("cp -p {path} /root/good.yaml"));
        // The same names and another key, as tools have left it that were run again.
        let other = cluster.on(&node, &format!("cat {path}"));
        cluster.write(&node, &path, &other.replace(KEYS64[0], KEYS64[1]));
        e.harden(&attempt)
            .exits(1)
            .says("names the same keys as that of");
    }
    e.status();
    assert_eq!(files(), before);
    assert!(!e.workspace.path("never").exists());

    let load = cluster.load();
    let killed = [&rotate[..], &["--backup", "first"]].concat();
    let said = e.workspace.killed_at(&killed, "- put the new key first");
    no_key(&said.expect("it goes on so far"));
    e.harden(&rotate).exits(0).says("it is taken up");
    let noticed = load.finish();
    assert_eq!(noticed["failures_after_retries"], 0, "{noticed:#}");
    assert_eq!(noticed["watch"]["missed"], 0, "{noticed:#}");
    e.harden(&["encryption", "verify"]).exits(0);
    let after = files();
    assert!(after.iter().all(|sum| *sum == after[0]) && after != before);
    let (name, secret) = e.only_key();
    let told = e.status();
    let members = told["resources"]
        .as_array()
        .and_then(|all| all.iter().find(|r| r["resource"] == "secrets"))
        .map(|r| r["members"].as_object().expect("members").clone());
    let members = members.expect("secrets");
    assert_eq!(members.len(), 3);
    for (member, forms) in members {
        assert_eq!(forms.as_array().map(Vec::len), Some(1), "{member}: {forms}");
        assert_eq!(forms[0]["key"], name.as_str(), "{member}");
    }
    let backup = std::fs::read_to_string(e.workspace.path("first")).expect("a backup");
    assert!(backup.contains(&secret), "the backup is of another key");
    e.all_there();
    e.end();
}

impl Encrypted<'_> {
    fn make_secrets(&self) {
        let items: Vec<Value> = (0..self.count)
            .map(|n| {
                let name = format!("s{n:03}");
                json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"value": content(&name)},
                    "metadata": {"name": name, "namespace": NAMESPACE}})
            })
            .collect();
        self.cluster.create_namespace(NAMESPACE);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        self.cluster.write(&self.node, "/root/secrets.json", &list);
        let create = ["create", "-f", "/root/secrets.json"];
        self.cluster.kubectl_on(&self.node, &create).exits(0);
    }

    /// The name and the base64 of the only key that the file has.
    fn only_key(&self) -> (String, String) {
        let text = self
            .cluster
            .on(&self.node, &format!("cat {DIR}/config.yaml"));
        let all = |field: &str| -> Vec<String> {
            let values = text.lines().filter_map(|line| line.split_once(field));
            values
                .map(|(_, value)| value.trim_matches('"').to_owned())
                .collect()
        };
        let (names, secrets) = (all("name: "), all("secret: "));
        assert_eq!((names.len(), secrets.len()), (1, 1));
        (names[0].clone(), secrets[0].clone())
    }

    fn secrets_by_name(&self, told: &Value) -> BTreeMap<String, u64> {
        let all = told["resources"].as_array().expect("resources");
        let secrets = all.iter().find(|r| r["resource"] == "secrets");
        let forms = secrets.expect("secrets")["stored"]
            .as_array()
            .expect("forms");
        let name = |form: &Value| form["key"].as_str().unwrap_or("identity").to_owned();
        let count = |form: &Value| form["objects"].as_u64().expect("a count");
        forms.iter().map(|form| (name(form), count(form))).collect()
    }

    /// The end: back into clear, then without a file.
    fn end(&self) {
        let text = self
            .cluster
            .on(&self.node, &format!("cat {DIR}/config.yaml"));
        let (_, last) = text.split_once("  providers:\n").expect("providers");
        self.file(&[last.to_owned(), IDENTITY.to_owned()]);
        self.status();
        self.file(&[IDENTITY.to_owned(), last.to_owned()]);
        self.status();
        self.harden(&["encryption", "rewrite", "--yes", "--rate", "500"])
            .says("secrets: ");
        let counted = self.secrets_by_name(&self.status());
        assert!(
            counted["identity"] >= SECRETS as u64 && counted.len() == 1,
            "{counted:?}"
        );
        for (node, before) in &self.before {
            self.start(node, before, false);
        }
        self.all_there();
    }

    /// The same where no file is to be loaded.
    fn status_without(&self) -> Value {
        let said = self.harden(&["encryption", "status", "--format", "json"]);
        said.exits(0).json()
    }
}
