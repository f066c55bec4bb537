//! A cluster for tests: sandboxed nodes, a kubelet that restarts a component when its manifest
//! changes, and an API. Every call of the client can be made its last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harden::apply::{Apply, ApplyError, Notice, Progress, Report, Settings};
use harden::cluster::{Api, ApiError, FoundNode, Holder};
use harden::distribution::Component;
use harden::distribution::k3s::Layout;
use harden::fact::ledger::{Ledger, LedgerEdit};
use harden::fact::{
    Answer, Fact, File, FileKind, ImpactFacts, ImpactQuery, KubeletEndpoint, Meta, Node,
    NodeAddress, NodeFacts, NodeInfo, NodePath, ObjectFact, ObjectRef, PodLevel, PodsBelow,
    Process, Query, SigningRequest, SigningState, sha256,
};
use harden::generation::{Current, Lookup};
use harden::host::{Host, HostError, Limits, Output, Script, Tunnel};
use harden::plan::*;
use harden::resource::leaving::without_us;
use harden::resource::stray::{Stray, strays, without};
use serde_json::{Value, json};

use super::Sandbox;
use super::service;

pub const MANIFEST: &str = "manifests/kube-apiserver.yaml";

/// The kubelet's file, and what makes it ask for a certificate. A new text is a new process.
pub const KUBELET: &str = "kubelet.yaml";
pub const BOOTSTRAP: &str = "serverTLSBootstrap: true\n";

/// When the client dies: at the call of this number, before or after the call has its effect.
#[derive(Default)]
pub struct Fate {
    pub calls: AtomicUsize,
    pub last: AtomicUsize,
    pub after: AtomicBool,
    /// Scripts that were run on nodes. Unlike all calls their number is the same in every run: how
    /// often a gate looks depends on how fast the machine is.
    pub scripts: AtomicUsize,
    pub last_script: AtomicUsize,
    /// Nodes whose network is cut when an activation has run.
    pub cut: Mutex<Vec<String>>,
    pub dead: Mutex<Vec<String>>,
    /// Who dies when.
    pub death: Mutex<Option<Death>>,
    /// The nodes whose etcd gives no snapshot.
    pub without_snapshot: Mutex<Vec<String>>,
    /// The nodes on which snapshots were taken.
    pub snapshots: Mutex<Vec<String>>,
}

impl Fate {
    pub fn new() -> Arc<Self> {
        let fate = Fate::default();
        fate.last.store(usize::MAX, Ordering::SeqCst);
        fate.last_script.store(usize::MAX, Ordering::SeqCst);
        Arc::new(fate)
    }
    /// Dies before the script of this number.
    pub fn dying_before_script(last: usize) -> Arc<Self> {
        let fate = Fate::new();
        fate.last_script.store(last, Ordering::SeqCst);
        fate
    }
    pub fn dying(last: usize, after: bool) -> Arc<Self> {
        let fate = Fate::new();
        fate.last.store(last, Ordering::SeqCst);
        fate.after.store(after, Ordering::SeqCst);
        fate
    }
    /// What `etcd.sh` answers that is asked for a snapshot; `tests/etcd_data.rs` has the script itself.
    fn snapshot(&self, node: &str, stdin: &[u8]) -> Output {
        let asked = String::from_utf8_lossy(stdin).into_owned();
        let words: Vec<&str> = asked.split_whitespace().collect();
        assert_eq!(words[3], "snapshot", "{asked}");
        let answer = match self
            .without_snapshot
            .lock()
            .unwrap()
            .contains(&node.to_owned())
        {
            true => "error etcd no leader".to_owned(),
            false => {
                self.snapshots.lock().unwrap().push(node.to_owned());
                let sum = "ab".repeat(32);
                format!(
                    "snapshot 20261126T205418Z {} 7 7 7 7 {sum} 3.6.0 whole\nok",
                    words[5]
                )
            }
        };
        Output {
            stdout: format!("\nharden-begin {0}\n{answer}\nharden-end {0}\n", words[2]).into(),
            stderr: String::new(),
            exit: harden::host::Exit::Code(0),
        }
    }

    /// Lets a control plane die if its time has come.
    fn strike(&self, line: &str, state: &Mutex<State>) {
        let mut death = self.death.lock().unwrap();
        let now = death.as_ref().is_some_and(|d| line.contains(&d.at));
        let Some(death) = death.take_if(|_| now) else {
            return;
        };
        if death.machine {
            self.dead.lock().unwrap().push(death.node.clone());
        }
        state.lock().unwrap().dead.insert(death.node);
    }
    fn script<T>(&self, run: impl FnOnce() -> T) -> T {
        let number = self.scripts.fetch_add(1, Ordering::SeqCst) + 1;
        if number >= self.last_script.load(Ordering::SeqCst) {
            self.last.store(0, Ordering::SeqCst);
        }
        self.call(run)
    }
    /// Does a call, if the client lives. Dying unwinds: like `kill -9`, nothing is done after it.
    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let last = self.last.load(Ordering::SeqCst);
        let die = || std::panic::resume_unwind(Box::new("killed"));
        if number > last || (number == last && !self.after.load(Ordering::SeqCst)) {
            die();
        }
        let result = call();
        if number == last {
            die();
        }
        result
    }
}

#[derive(Default)]
pub struct Kubelet {
    text: Option<String>,
    pid: u32,
    log: String,
    up: bool,
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<ObjectRef, Value>,
    pub key: String,
    pub lease: Option<Holder>,
    /// The objects that harden manages.
    pub ledger: Ledger,
    /// How often it was renewed.
    pub renewals: usize,
    pub kubelets: BTreeMap<String, Kubelet>,
    /// Flags that the server of a node refuses.
    pub refuses: BTreeMap<String, String>,
    /// What namespaces hold.
    pub contents: Vec<String>,
    /// Control planes whose API server and etcd member are dead, although their machine is up.
    pub dead: BTreeSet<String>,
    /// Members that answer and are not healthy.
    pub sick: BTreeSet<String>,
    /// Members of etcd that are on none of the nodes.
    pub strangers: usize,
    /// Control planes whose etcd is external.
    pub external: BTreeSet<String>,
    /// Mirror pods that are not there.
    pub no_mirror: BTreeSet<String>,
    /// Nodes whose kubelet does not see a changed manifest.
    pub stuck: BTreeSet<String>,
    /// Nodes whose kubelet does not renew the mirror pod.
    pub old_mirror: BTreeSet<String>,
    /// The first manifest of each node: what an old mirror pod is of.
    first: BTreeMap<String, String>,
    /// Requests for serving certificates.
    pub requests: Vec<SigningRequest>,
    /// Those that are made after the first look.
    pub later: Vec<SigningRequest>,
    /// What the kubelet of w1 and its requests go through.
    pub signer: Signer,
}

/// When control planes die.
#[derive(Debug, Clone)]
pub struct Death {
    /// At the first notice that contains this, or at the first activation of the step of this number
    /// (`activate 1`).
    pub at: String,
    /// Which control plane.
    pub node: String,
    /// Whether its machine is gone as well.
    pub machine: bool,
}

/// What becomes of a request that was approved.
#[derive(Default, Clone, Copy, PartialEq)]
pub enum Signer {
    #[default]
    Signs,
    Fails,
    Sleeps,
}

#[derive(Clone)]
pub struct Cluster {
    pub nodes: BTreeMap<String, Sandbox>,
    pub state: Arc<Mutex<State>>,
    /// Where its control planes are servers of k3s or RKE2, with a stand-in for the service.
    pub servers: Option<&'static Layout>,
}

pub fn config_map() -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: "ResourceQuota".into(),
        namespace: "team".into(),
        name: "quota".into(),
    }
}

fn namespace() -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: "Namespace".into(),
        namespace: String::new(),
        name: "new".into(),
    }
}

pub fn argv(flag: &str) -> Vec<String> {
    vec!["kube-apiserver".into(), "--keep=1".into(), flag.into()]
}

pub fn manifest(flag: &str) -> String {
    argv(flag).join("\n") + "\n"
}

pub const NAMES: [&str; 3] = ["cp1", "cp2", "w1"];

fn text_file(text: &str) -> Fact<Answer> {
    Fact::Value(Answer::File(File {
        meta: Meta {
            kind: FileKind::Regular,
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        },
        content: text.into(),
    }))
}

/// The last digit of the ports of a node.
fn digit(name: &str) -> u16 {
    name.trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap()
}

fn readyz_port(name: &str) -> u16 {
    6440 + digit(name)
}

fn metrics_port(name: &str) -> u16 {
    23810 + digit(name)
}

fn static_pod(component: &str, flag: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: {component}\n    command:\n    - {component}\n    - {flag}\n"
    )
}

impl Cluster {
    pub fn new(root: &Path) -> Self {
        Cluster::of(root, &NAMES)
    }

    /// Servers of k3s or RKE2, each with its administrator's own configuration. RKE2 has no other port than
    /// 6443, which is that of node `s3`.
    pub fn servers(root: &Path, layout: &'static Layout, names: &[&str]) -> Self {
        let mut nodes = BTreeMap::new();
        for name in names {
            let node = service::install(Sandbox::new(root, name), layout);
            let main = format!(
                "token: secret\nhttps-listen-port: {}\nkube-apiserver-arg:\n- audit-log-maxage=7\n",
                readyz_port(name)
            );
            node.write("server/config.yaml", &main, 0o600);
            service::start(&node, layout);
            nodes.insert((*name).to_owned(), node);
        }
        Cluster {
            nodes,
            state: Arc::default(),
            servers: Some(layout),
        }
    }

    /// Three control planes.
    pub fn ha(root: &Path) -> Self {
        Cluster::of(root, &["cp1", "cp2", "cp3", "w1"])
    }

    fn of(root: &Path, names: &[&str]) -> Self {
        let mut nodes = BTreeMap::new();
        let mut first = BTreeMap::new();
        for name in names {
            let node = Sandbox::new(root, name);
            if *name != "w1" {
                let text = manifest("--profiling=true");
                node.write(MANIFEST, &text, 0o644);
                first.insert((*name).to_owned(), text);
            }
            node.write("loose.conf", "x", 0o644);
            nodes.insert((*name).to_owned(), node);
        }
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"namespace": "team", "name": "quota", "resourceVersion": "1"},
            "spec": {"hard": {"pods": "10"}}});
        let state = State {
            objects: BTreeMap::from([(config_map(), quota)]),
            key: "old".into(),
            first,
            ..State::default()
        };
        Cluster {
            nodes,
            state: Arc::new(Mutex::new(state)),
            servers: None,
        }
    }

    /// The nodes: whether they are control planes.
    pub fn inventory(&self) -> BTreeMap<String, bool> {
        let names = self.nodes.keys();
        names.map(|n| (n.clone(), n != "w1")).collect()
    }

    pub fn planes(&self) -> Vec<String> {
        let names = self.nodes.keys().filter(|n| *n != "w1");
        names.cloned().collect()
    }

    /// Restarts the API server of a node, which does not come up again with this flag.
    pub fn crash(&self, name: &str, flag: &str) {
        let mut state = self.state.lock().unwrap();
        state.refuses.insert(name.into(), flag.into());
        if let Some(kubelet) = state.kubelets.get_mut(name) {
            kubelet.text = None;
        }
    }

    /// Whose control plane died comes back.
    pub fn revive(&self) {
        self.state.lock().unwrap().dead.clear();
    }

    /// A plan with a step of every kind, in every stage.
    pub fn plan(&self, flag: &str) -> Plan {
        let stage = |name, steps| Stage { name, steps };
        let mode = |name: &str| {
            let node = &self.nodes[name];
            let owner = || ("root".to_owned(), "root".to_owned());
            Step::Node(NodeStep {
                node: name.into(),
                files: vec![FileAction {
                    path: node.path("loose.conf"),
                    before: FileState::Mode {
                        mode: 0o644,
                        owner: owner().0,
                        group: owner().1,
                    },
                    after: FileTarget::Mode {
                        mode: 0o600,
                        owner: owner().0,
                        group: owner().1,
                    },
                }],
                units: vec![],
                gate: None,
                undo_gate: None,
                uniform: false,
            })
        };
        let gate = |name: &str, flag: &str| {
            Some(Gate {
                processes: BTreeMap::from([(Component::KubeApiserver, argv(flag))]),
                readyz_port: Some(readyz_port(name)),
                ..Gate::default()
            })
        };
        let plane = |name: &str| {
            let node = &self.nodes[name];
            Step::Node(NodeStep {
                node: name.into(),
                files: vec![
                    node.set("harden/policy.yaml", "rules: []\n"),
                    node.set(MANIFEST, &manifest(flag)),
                ],
                units: vec![],
                gate: gate(name, flag),
                undo_gate: gate(name, "--profiling=true"),
                uniform: true,
            })
        };
        let state = self.state.lock().unwrap();
        Plan {
            schema: SCHEMA.into(),
            version: "0".into(),
            cluster: harden::plan::Cluster {
                name: "c".into(),
                id: "id".into(),
                distribution: Default::default(),
            },
            desired: "d".into(),
            etcd_leader: None,
            purpose: Purpose::Converge,
            nodes: self.inventory(),
            changes: vec![],
            stages: vec![
                stage(StageName::NodeFiles, vec![mode("cp1"), mode("w1")]),
                stage(
                    StageName::ObjectsPermit,
                    vec![Step::Object(ObjectStep {
                        reference: namespace(),
                        before: None,
                        taken: Vec::new(),
                        strays: Vec::new(),
                        action: ObjectAction::Apply(
                            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}),
                        ),
                    })],
                ),
                stage(
                    StageName::ControlPlane,
                    self.planes().iter().map(|name| plane(name)).collect(),
                ),
                stage(
                    StageName::ObjectsEnforce,
                    vec![Step::Object(ObjectStep {
                        reference: config_map(),
                        before: state.objects.get(&config_map()).cloned(),
                        taken: Vec::new(),
                        strays: Vec::new(),
                        action: ObjectAction::Apply(
                            json!({"apiVersion": "v1", "kind": "ResourceQuota",
                                "metadata": {"namespace": "team", "name": "quota"},
                                "spec": {"hard": {"pods": "5"}}}),
                        ),
                    })],
                ),
                stage(
                    StageName::KubeadmConfig,
                    vec![Step::ConfigMapKey(ConfigMapStep {
                        namespace: "kube-system".into(),
                        name: "kubeadm-config".into(),
                        key: "ClusterConfiguration".into(),
                        before: "old".into(),
                        after: "new".into(),
                        rollout: None,
                    })],
                ),
            ],
            problems: vec![],
            impact: Default::default(),
            basis: vec![],
        }
    }

    /// Only the control plane's stage.
    pub fn control_plane_plan(&self, flag: &str) -> Plan {
        let mut plan = self.plan(flag);
        plan.stages.retain(|s| s.name == StageName::ControlPlane);
        plan
    }

    /// Everything that an apply can change.
    pub fn snapshot(&self) -> (Vec<BTreeMap<String, String>>, Vec<Value>, String) {
        let state = self.state.lock().unwrap();
        let objects = state.objects.values().map(|o| {
            let mut o = o.clone();
            o["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("resourceVersion");
            o
        });
        (
            self.nodes.values().map(Sandbox::tree).collect(),
            objects.collect(),
            state.key.clone(),
        )
    }

    pub fn locks(&self) -> Vec<String> {
        let mut held: Vec<String> = self
            .nodes
            .values()
            .filter(|n| n.root.join("var-lib/harden/lock").exists())
            .map(|n| n.name.clone())
            .collect();
        held.extend(
            self.state
                .lock()
                .unwrap()
                .lease
                .iter()
                .map(|h| h.who.clone()),
        );
        held
    }

    pub fn forget(&self) {
        self.nodes.values().for_each(Sandbox::forget);
    }

    /// What the kubelet of a node makes of the manifest that is there now.
    fn sync(&self, name: &str) -> Option<Process> {
        if self.servers.is_some() {
            return service::running(&self.nodes[name]);
        }
        let text = self.nodes[name].read(MANIFEST)?;
        let mut state = self.state.lock().unwrap();
        if state.dead.contains(name) {
            return None;
        }
        let refused = state.refuses.get(name).cloned();
        let stuck = state.stuck.contains(name);
        let kubelet = state.kubelets.entry(name.to_owned()).or_default();
        let text = match &kubelet.text {
            Some(old) if stuck => old.clone(),
            _ => text,
        };
        if kubelet.text.as_deref() != Some(&text) {
            kubelet.pid += 10;
            kubelet.up = !refused.as_ref().is_some_and(|flag| text.contains(flag));
            kubelet.log = if kubelet.up {
                format!("I{} serving\n", kubelet.pid)
            } else {
                format!(
                    "E{} \"command failed\" err=\"invalid \u{1b}[31mflag\"\n",
                    kubelet.pid
                )
            };
            kubelet.text = Some(text.clone());
        } else if !kubelet.up {
            kubelet.pid += 1;
            kubelet.log.push_str(&format!(
                "E{} \"command failed\" err=\"invalid flag\"\n",
                kubelet.pid
            ));
        }
        kubelet.up.then(|| Process {
            pid: kubelet.pid,
            start: 1,
            argv: text.lines().map(str::to_owned).collect(),
        })
    }

    /// The mirror pod of a node's API server.
    fn mirror(&self, name: &str) -> Option<Value> {
        let up = self.sync(name).is_some();
        let state = self.state.lock().unwrap();
        if state.no_mirror.contains(name) {
            return None;
        }
        let old = state.old_mirror.contains(name);
        let text = match (old, state.kubelets.get(name)) {
            (false, Some(kubelet)) => kubelet.text.clone().unwrap_or_default(),
            _ => state.first[name].clone(),
        };
        let ready = if up { "True" } else { "False" };
        Some(json!({
            "metadata": {"annotations": {"kubernetes.io/config.hash": sha256(text)}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    /// A page of an etcd member; `None` when it is dead.
    fn member(&self, state: &State, port: u16, path: &str) -> Option<String> {
        let planes = self.planes();
        let name = planes.iter().find(|n| metrics_port(n) == port).unwrap();
        if state.dead.contains(name) {
            return None;
        }
        let living = planes.iter().filter(|n| !state.dead.contains(*n)).count();
        let quorum = living > (planes.len() + state.strangers) / 2;
        let healthy = quorum && !state.sick.contains(name);
        if path == "/health" {
            let health = json!({"health": healthy.to_string(), "reason": if healthy { "" } else { "ALARM" }});
            return Some(health.to_string());
        }
        let mut page = format!("etcd_server_is_leader {}\n", u8::from(name == "cp1"));
        page += &format!("etcd_server_has_leader {}\n", u8::from(quorum));
        let strangers = (0..state.strangers).map(|n| (format!("stranger{n}"), false));
        let known = planes.iter().map(|n| (n.clone(), !state.dead.contains(n)));
        for (other, up) in known.chain(strangers) {
            page += &format!("etcd_network_known_peers{{Local=\"{name}\",Remote=\"{other}\"}} 1\n");
            if other != *name {
                let up = u8::from(up);
                page += &format!(
                    "etcd_network_active_peers{{Local=\"{name}\",Remote=\"{other}\"}} {up}\n"
                );
            }
        }
        Some(page)
    }

    pub fn look(&self, name: &str, queries: &[Query]) -> NodeFacts {
        if let Some(layout) = self.servers {
            return service::look(&self.nodes[name], layout, queries);
        }
        let process = self.sync(name);
        let answer = |query: &Query| match query {
            Query::Process(program) if program.as_str() == "kubelet" => {
                let text = self.nodes[name].read(KUBELET).unwrap_or_default();
                Fact::Value(Answer::Process(vec![Process {
                    pid: 1000 + u32::try_from(text.len()).unwrap(),
                    start: 1,
                    argv: vec!["kubelet".into()],
                }]))
            }
            Query::Process(_) => match &process {
                Some(process) => Fact::Value(Answer::Process(vec![process.clone()])),
                None => Fact::Absent,
            },
            Query::Log(_) | Query::Journal(_) => Fact::Value(Answer::Log(
                self.state
                    .lock()
                    .unwrap()
                    .kubelets
                    .get(name)
                    .map(|k| k.log.clone())
                    .unwrap_or_default(),
            )),
            Query::File(path) if path.as_str() == "/etc/kubernetes/manifests/etcd.yaml" => {
                if self.state.lock().unwrap().external.contains(name) {
                    return Fact::Absent;
                }
                let port = metrics_port(name);
                let flag = format!("--listen-metrics-urls=http://127.0.0.1:{port}");
                text_file(&static_pod("etcd", &flag))
            }
            Query::File(path) if path.as_str().starts_with("/etc/kubernetes/manifests/") => {
                let flag = format!("--secure-port={}", readyz_port(name));
                text_file(&static_pod("kube-apiserver", &flag))
            }
            Query::File(path) | Query::Stat(path) => self.file(query, path),
            _ => Fact::Unreadable("not here".into()),
        };
        queries.iter().map(|q| (q.clone(), answer(q))).collect()
    }

    fn file(&self, query: &Query, path: &NodePath) -> Fact<Answer> {
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = std::fs::metadata(path.as_str()) else {
            return Fact::Absent;
        };
        let meta = Meta {
            kind: FileKind::Regular,
            mode: meta.mode() & 0o7777,
            owner: "root".into(),
            group: "root".into(),
            size: meta.len(),
        };
        Fact::Value(match query {
            Query::Stat(_) => Answer::Stat(meta),
            _ => Answer::File(File {
                meta,
                content: std::fs::read(path.as_str()).unwrap(),
            }),
        })
    }

    pub fn current(&self, lookup: &Lookup) -> Current {
        let state = self.state.lock().unwrap();
        let objects = lookup.objects.iter().map(|r| {
            let fact = state
                .objects
                .get(r)
                .cloned()
                .map_or(Fact::Absent, Fact::Value);
            (r.clone(), fact)
        });
        let objects = objects.collect();
        let namespaces = lookup
            .namespaces
            .iter()
            .map(|n| (n.clone(), Fact::Value(state.contents.clone())))
            .collect();
        let keys = lookup
            .keys
            .iter()
            .map(|k| (k.clone(), Fact::Value(state.key.clone())))
            .collect();
        drop(state);
        let nodes = lookup.nodes.iter().map(|(name, queries)| {
            let node = Node {
                remedy: String::new(),
                info: NodeInfo {
                    name: name.clone(),
                    control_plane: name != "w1",
                },
                facts: Fact::Value(
                    queries
                        .iter()
                        .map(|q| match q {
                            Query::File(p) | Query::Stat(p) => (q.clone(), self.file(q, p)),
                            _ => panic!(),
                        })
                        .collect(),
                ),
            };
            (name.clone(), node)
        });
        Current {
            nodes: nodes.collect(),
            objects,
            namespaces,
            keys,
            answers: BTreeMap::new(),
        }
    }

    /// A client with its own fate.
    pub fn client(&self, fate: &Arc<Fate>) -> ClientSide {
        ClientSide {
            cluster: self.clone(),
            fate: Arc::clone(fate),
            holder: Holder {
                who: "me@here".into(),
                ..Holder::current()
            },
            settings: Settings {
                gate_timeout: Duration::from_secs(20),
                gate_hold: Duration::from_millis(2),
                poll: Duration::from_millis(1),
                api_timeout: Duration::from_millis(20),
                watchdog_margin: Duration::from_secs(40),
                renew_after: Duration::from_secs(60),
                take_over: false,
            },
            heard: Vec::new(),
            interrupt_at: None,
        }
    }

    /// A holder whose process is gone.
    pub fn ghost() -> Holder {
        Holder {
            pid: u32::MAX - 1,
            start: 1,
            who: "ghost@here".into(),
            ..Holder::current()
        }
    }
}

/// One run of the program.
pub struct ClientSide {
    pub cluster: Cluster,
    pub fate: Arc<Fate>,
    pub holder: Holder,
    pub settings: Settings,
    pub heard: Vec<String>,
    /// Interrupts when a line of progress contains this.
    pub interrupt_at: Option<&'static str>,
}

struct Ear<'e> {
    heard: &'e mut Vec<String>,
    interrupt_at: Option<&'static str>,
    flag: &'e AtomicBool,
    fate: &'e Fate,
    state: &'e Mutex<State>,
}

impl Progress for Ear<'_> {
    fn tell(&mut self, notice: Notice<'_>) {
        let line = match notice {
            Notice::Gate { node, what, .. } => format!("gate {node}: {what}"),
            other => format!("{other:?}"),
        };
        if self.interrupt_at.is_some_and(|at| line.contains(at)) {
            self.flag.store(true, Ordering::SeqCst);
        }
        self.fate.strike(&line, self.state);
        if self.heard.last() != Some(&line) {
            self.heard.push(line);
        }
    }
}

impl ClientSide {
    pub fn run(&mut self, plan: &Plan) -> Result<Report, ApplyError> {
        self.with(|apply| apply.run(plan))
    }
    /// Runs until it ends or is killed.
    pub fn run_and_die(&mut self, plan: &Plan) -> Option<Result<Report, ApplyError>> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(plan))).ok()
    }
    pub fn recover(&mut self) -> Result<Option<Report>, ApplyError> {
        let nodes = self.cluster.inventory();
        self.with(|apply| apply.recover(&nodes))
    }
    fn with<T>(&mut self, act: impl FnOnce(&mut Apply<'_>) -> T) -> T {
        let flag = AtomicBool::new(false);
        let (cluster, fate) = (self.cluster.clone(), Arc::clone(&self.fate));
        let open = |name: &str| -> Result<Box<dyn Host>, HostError> {
            Ok(Box::new(Wire {
                node: cluster.nodes[name].clone(),
                fate: Arc::clone(&fate),
                state: Arc::clone(&cluster.state),
            }))
        };
        let look = |host: &mut dyn Host, queries: &[Query]| {
            let name = host.name().to_owned();
            if fate.dead.lock().unwrap().contains(&name) {
                return Err(format!("{name} is cut off"));
            }
            Ok(fate.call(|| cluster.look(&name, queries)))
        };
        let api = FakeApi {
            cluster: cluster.clone(),
            fate: Arc::clone(&fate),
        };
        let mut ear = Ear {
            heard: &mut self.heard,
            interrupt_at: self.interrupt_at,
            flag: &flag,
            fate: &fate,
            state: &cluster.state,
        };
        let mut apply = Apply {
            hosts: &open,
            api: &api,
            look: &look,
            holder: self.holder.clone(),
            settings: self.settings.clone(),
            interrupted: &flag,
            progress: &mut ear,
            workstation: None,
        };
        act(&mut apply)
    }
}

/// A connection to a node.
struct Wire {
    node: Sandbox,
    fate: Arc<Fate>,
    state: Arc<Mutex<State>>,
}

impl Wire {
    fn broken(&self) -> HostError {
        HostError::Broken {
            node: self.node.name.clone(),
            script: "transaction".into(),
            why: "the connection broke".into(),
            remedy: "look at the network".into(),
        }
    }
}

impl Host for Wire {
    fn name(&self) -> &str {
        &self.node.name
    }
    fn run(&mut self, script: Script, stdin: &[u8], _: Limits) -> Result<Output, HostError> {
        let name = &self.node.name;
        if self.fate.dead.lock().unwrap().contains(name) {
            return Err(self.broken());
        }
        if script.name == "etcd" {
            return Ok(self.fate.snapshot(name, stdin));
        }
        let result = self.fate.script(|| self.node.run_with(":", script, stdin));
        let first = stdin.split(|b| *b == b'\n').next().unwrap_or_default();
        let words = String::from_utf8_lossy(first).into_owned();
        let activates = words.contains(" activate ");
        if activates {
            let step: Vec<&str> = words.split(' ').rev().take(2).collect();
            let step: usize = step[1].parse().unwrap();
            self.fate.strike(&format!("activate {step}."), &self.state);
        }
        if activates && self.fate.cut.lock().unwrap().contains(name) {
            self.fate.dead.lock().unwrap().push(name.clone());
        }
        Ok(result)
    }
    fn disconnect(&mut self) {}
    fn tunnel(&mut self, port: u16) -> Result<Tunnel, HostError> {
        if self.fate.dead.lock().unwrap().contains(&self.node.name) {
            return Err(self.broken());
        }
        self.node.tunnel(port)
    }
}

struct FakeApi {
    cluster: Cluster,
    fate: Arc<Fate>,
}

impl FakeApi {
    fn call<T>(&self, call: impl FnOnce(&mut State) -> Result<T, ApiError>) -> Result<T, ApiError> {
        self.fate
            .call(|| call(&mut self.cluster.state.lock().unwrap()))
    }
}

impl Api for FakeApi {
    fn cluster_id(&self) -> Result<String, ApiError> {
        self.call(|_| Ok("id".into()))
    }
    fn kubernetes_minor(&self) -> Result<String, ApiError> {
        self.call(|_| Ok("1.35".into()))
    }
    fn nodes(&self) -> Result<BTreeMap<String, FoundNode>, ApiError> {
        unreachable!()
    }
    fn config_map_key(&self, _: &str, _: &str, _: &str) -> Fact<String> {
        match self.call(|s| Ok(s.key.clone())) {
            Ok(key) => Fact::Value(key),
            Err(e) => Fact::Unreadable(e.to_string()),
        }
    }
    fn replace_config_map_key(
        &self,
        _: &str,
        _: &str,
        _: &str,
        before: &str,
        after: &str,
    ) -> Result<(), ApiError> {
        self.call(|s| {
            if s.key != before {
                return Err(ApiError::Moved { what: "key".into() });
            }
            s.key = after.into();
            Ok(())
        })
    }
    fn objects(&self, _: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact> {
        unreachable!()
    }
    fn get(&self, reference: &ObjectRef) -> Result<Option<Value>, ApiError> {
        if let Some(node) = reference.name.strip_prefix("kube-apiserver-") {
            let pod = self.cluster.mirror(node);
            return self.call(|_| Ok(pod));
        }
        self.call(|s| Ok(s.objects.get(reference).cloned()))
    }
    fn apply(&self, wanted: &Value) -> Result<Value, ApiError> {
        self.call(|s| {
            let mut wanted = wanted.clone();
            wanted["metadata"]["resourceVersion"] = json!("7");
            wanted["metadata"]["managedFields"] =
                json!([{"manager": "harden", "operation": "Apply"}]);
            s.objects
                .insert(ObjectRef::of(&wanted).unwrap(), wanted.clone());
            Ok(wanted)
        })
    }
    fn remove(&self, wanted: &Value, planned: &[Stray]) -> Result<(), ApiError> {
        self.call(|s| {
            if let Some(live) = s.objects.get_mut(&ObjectRef::of(wanted).unwrap()) {
                let mut left = strays(wanted, live);
                left.retain(|one| planned.contains(one));
                *live = without(live, &left);
            }
            Ok(())
        })
    }
    fn restore(&self, object: &Value) -> Result<(), ApiError> {
        self.call(|s| {
            s.objects
                .insert(ObjectRef::of(object).unwrap(), object.clone());
            Ok(())
        })
    }
    fn delete(&self, reference: &ObjectRef, uid: &str) -> Result<(), ApiError> {
        self.call(|s| {
            let live = s.objects.get(reference);
            let live = live.and_then(|live| live.pointer("/metadata/uid"));
            if live.is_some_and(|live| live != uid) {
                return Err(ApiError::Moved {
                    what: reference.to_string(),
                });
            }
            s.objects.remove(reference);
            Ok(())
        })
    }
    fn contents(&self, _: &str) -> Result<Vec<String>, ApiError> {
        self.call(|s| Ok(s.contents.clone()))
    }
    fn names_beside(&self, reference: &ObjectRef) -> Result<Vec<String>, ApiError> {
        let beside =
            |r: &&ObjectRef| (&r.kind, &r.namespace) == (&reference.kind, &reference.namespace);
        self.call(|s| {
            Ok(s.objects
                .keys()
                .filter(beside)
                .map(|r| r.name.clone())
                .collect())
        })
    }
    fn release(&self, reference: &ObjectRef) -> Result<(), ApiError> {
        self.call(|s| {
            if let Some(live) = s.objects.get_mut(reference) {
                *live = without_us(live);
            }
            Ok(())
        })
    }
    fn ledger(&self) -> Result<Ledger, ApiError> {
        self.call(|s| Ok(s.ledger.clone()))
    }
    fn edit_ledger(&self, edit: &LedgerEdit) -> Result<(), ApiError> {
        self.call(|s| {
            edit.edit(&mut s.ledger.entries);
            Ok(())
        })
    }
    fn impact(&self, _: &ImpactQuery) -> ImpactFacts {
        unreachable!()
    }
    fn lock(&self, holder: &Holder, take_over: bool) -> Result<(), ApiError> {
        self.call(|s| match &s.lease {
            Some(other) if other != holder && !other.is_gone() && !take_over => {
                Err(ApiError::Locked {
                    who: other.who.clone(),
                    since: other.since,
                    pid: other.pid,
                })
            }
            _ => {
                s.lease = Some(holder.clone());
                Ok(())
            }
        })
    }
    fn renew(&self, holder: &Holder) -> Result<(), ApiError> {
        self.call(|s| {
            s.renewals += 1;
            match &s.lease {
                Some(other) if other == holder => Ok(()),
                _ => Err(ApiError::Foreign {
                    who: "somebody".into(),
                }),
            }
        })
    }
    fn unlock(&self, holder: &Holder) -> Result<(), ApiError> {
        self.call(|s| {
            if s.lease.as_ref() == Some(holder) {
                s.lease = None;
            }
            Ok(())
        })
    }
    fn kubelet_config(&self, name: &str) -> Result<Option<Value>, ApiError> {
        let bootstraps = self.cluster.nodes[name].read(KUBELET) == Some(BOOTSTRAP.into());
        self.call(|s| {
            let issued = |r: &SigningRequest| r.state == SigningState::Issued;
            if bootstraps && !s.requests.iter().any(issued) {
                return Err(ApiError::Refused {
                    what: "ask the kubelet".into(),
                    why: "remote error: tls: internal error".into(),
                });
            }
            Ok(Some(json!({"serverTLSBootstrap": bootstraps})))
        })
    }
    fn node_ready(&self, _: &str) -> Result<bool, ApiError> {
        self.call(|_| Ok(true))
    }
    fn kubelet_endpoint(&self, node: &str) -> Result<Option<KubeletEndpoint>, ApiError> {
        assert_eq!(node, "w1");
        let address = |kind: &str, address: &str| NodeAddress {
            kind: kind.into(),
            address: address.into(),
        };
        let addresses = vec![address("InternalIP", "10.0.0.2"), address("Hostname", "w1")];
        self.call(|_| {
            Ok(Some(KubeletEndpoint {
                addresses,
                port: 10250,
                ..KubeletEndpoint::default()
            }))
        })
    }
    fn kubelet_handshake(
        &self,
        through: SocketAddr,
        server_name: &str,
    ) -> Result<Option<String>, ApiError> {
        assert_eq!((through.port(), server_name), (10250, "10.0.0.2"));
        self.call(|s| {
            let issued = |r: &SigningRequest| r.state == SigningState::Issued;
            let served = s.requests.iter().any(issued);
            Ok((!served).then(|| "the kubelet has no certificate yet".to_owned()))
        })
    }
    fn serving_requests(&self) -> Result<Vec<SigningRequest>, ApiError> {
        self.call(|s| {
            let all = s.requests.clone();
            s.requests.append(&mut s.later);
            // The signer works while nobody looks.
            for request in &mut s.requests {
                if request.state == SigningState::Approved {
                    request.state = match s.signer {
                        Signer::Signs => SigningState::Issued,
                        Signer::Fails => SigningState::Failed("no key".into()),
                        Signer::Sleeps => SigningState::Approved,
                    };
                }
            }
            Ok(all)
        })
    }
    fn approve(&self, request: &SigningRequest, message: &str) -> Result<(), ApiError> {
        assert!(message.contains("w1"), "{message}");
        self.call(|s| {
            let found = s.requests.iter_mut().find(|r| *r == request).unwrap();
            found.state = SigningState::Approved;
            Ok(())
        })
    }
    fn may(&self, _: &str, _: &str, _: &str) -> Result<bool, ApiError> {
        unreachable!()
    }
    fn external_ips(&self) -> Result<Vec<String>, ApiError> {
        unreachable!("an apply asks for no evidence")
    }
    fn served_resources(&self) -> Result<BTreeSet<String>, ApiError> {
        Ok(BTreeSet::new())
    }

    fn never_pulled(&self) -> Result<Vec<String>, ApiError> {
        unreachable!("an apply asks for no evidence")
    }
    fn pods_below(&self, _: &PodLevel) -> Result<PodsBelow, ApiError> {
        unreachable!("an apply asks for no evidence")
    }
    fn metrics(&self, _: SocketAddr) -> Result<String, ApiError> {
        unreachable!("an apply asks for no evidence")
    }
    fn fetch(&self, through: SocketAddr, path: &str) -> Result<String, ApiError> {
        self.call(|state| {
            self.cluster
                .member(state, through.port(), path)
                .ok_or_else(|| ApiError::Unreachable {
                    why: "connection refused".into(),
                })
        })
    }
    fn restart_daemon_set(&self, _: &str, _: &str, _: &str) -> Result<(), ApiError> {
        unreachable!("no step of these tests restarts a DaemonSet")
    }
    fn daemon_set_waits(&self, _: &str, _: &str) -> Result<Option<String>, ApiError> {
        unreachable!("no step of these tests restarts a DaemonSet")
    }
    fn healthz(&self, _: SocketAddr) -> Result<bool, ApiError> {
        self.call(|_| Ok(true))
    }
    fn readyz(&self, through: SocketAddr) -> Result<bool, ApiError> {
        let planes = self.cluster.planes();
        let name = planes.iter().find(|n| readyz_port(n) == through.port());
        let up = self.cluster.sync(name.unwrap()).is_some();
        self.call(|_| Ok(up))
    }
}
