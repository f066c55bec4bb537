//! A cluster made of facts: what kubeadm 1.35 leaves on control-plane nodes, and what executing a
//! plan would make of it.

use std::collections::BTreeMap;

use harden::distribution::Component;
use harden::distribution::kubeadm::KUBE_PROXY_CONFIG_KIND;
use harden::distribution::kubeadm::fields::parse_document;
use harden::distribution::kubeadm::{KUBELET_CONFIG, MANIFESTS_DIR, Manifest, manifest_path};
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::{Value, json};

pub mod tenants;

pub const MANIFESTS: [(Component, &str); 4] = [
    (
        Component::KubeApiserver,
        include_str!("../../fixtures/kubeadm-1.35/kube-apiserver.yaml"),
    ),
    (
        Component::KubeControllerManager,
        include_str!("../../fixtures/kubeadm-1.35/kube-controller-manager.yaml"),
    ),
    (
        Component::KubeScheduler,
        include_str!("../../fixtures/kubeadm-1.35/kube-scheduler.yaml"),
    ),
    (
        Component::Etcd,
        include_str!("../../fixtures/kubeadm-1.35/etcd.yaml"),
    ),
];
pub const V1BETA3: &str = include_str!("../../fixtures/kubeadm-1.35/v1beta3.yaml");
pub const V1BETA4: &str = include_str!("../../fixtures/kubeadm-1.35/v1beta4.yaml");
pub const KUBELET: &str = include_str!("../../fixtures/kubeadm-1.35/kubelet-config.yaml");
pub const KUBE_PROXY: &str = include_str!("../../fixtures/kubeadm-1.35/kube-proxy.yaml");
pub const API: Component = Component::KubeApiserver;

pub fn path(text: &str) -> NodePath {
    NodePath::new(text).unwrap()
}

pub fn meta(kind: FileKind, mode: u32) -> Meta {
    Meta {
        kind,
        mode,
        owner: "root".into(),
        group: "root".into(),
        size: 1,
    }
}

pub fn file(content: &str, mode: u32) -> Fact<Answer> {
    Fact::Value(Answer::File(File {
        meta: meta(FileKind::Regular, mode),
        content: content.into(),
    }))
}

pub fn process(start: u64, argv: Vec<String>) -> Fact<Answer> {
    let pid = 100;
    Fact::Value(Answer::Process(vec![Process { pid, start, argv }]))
}

/// A resource with defaults: control-plane scope, or the API for objects.
pub fn resource(table: &str, value: Value) -> Resource {
    let kind = Kind::from_table(table, value).unwrap();
    let scope = match table {
        "object" => Scope::Api,
        "kubelet" | "kube-proxy" | "sysctl" | "serving-certificate" => Scope::Nodes,
        _ => Scope::ControlPlane,
    };
    Resource {
        kind,
        only: None,
        except: std::collections::BTreeSet::new(),
        scope,
        risk: Risk::Restart,
        uniform: false,
        reason: "because".into(),
        controls: vec!["control".into()],
        consent: Vec::new(),
        requires: std::collections::BTreeSet::new(),
        origins: vec![Origin {
            option: "some.option".into(),
            file: "harden.toml".into(),
            line: 1,
        }],
    }
}

pub fn flag(name: &str, value: impl Into<Value>) -> Resource {
    resource(
        "flag",
        json!({"component": "kube-apiserver", "name": name, "value": value.into()}),
    )
}

pub fn desired(resources: Vec<Resource>) -> Desired {
    Desired {
        findings: Vec::new(),
        cluster: "prod".into(),
        distribution: Default::default(),
        resources,
        accept: Vec::new(),
        allow_delete: Default::default(),
    }
}

/// Facts of a cluster with these control-plane nodes and one worker, looked at for the desired state.
pub fn cluster(control_plane: &[&str], desired: &Desired) -> Facts {
    let mut nodes = BTreeMap::new();
    for name in control_plane.iter().chain(&["worker"]) {
        let info = NodeInfo {
            name: (*name).into(),
            control_plane: *name != "worker",
        };
        let facts = queries(desired, &info)
            .into_iter()
            .map(|query| (query.clone(), answer(&query)))
            .collect();
        let facts = Fact::Value(facts);
        nodes.insert(
            info.name.clone(),
            Node {
                info,
                facts,
                remedy: String::new(),
            },
        );
    }
    let infos: Vec<NodeInfo> = nodes
        .values()
        .map(|node: &Node| node.info.clone())
        .collect();
    let objects = wanted_objects(desired)
        .into_iter()
        .map(|wanted| {
            let fact = ObjectFact {
                live: Fact::Absent,
                would: DryRun::Object(Value::clone(&wanted)),
            };
            (ObjectRef::of(&wanted).unwrap(), fact)
        })
        .collect();
    Facts {
        nodes,
        api: ApiFacts {
            cluster_id: Fact::Value("uid".into()),
            ledger: Default::default(),
            cluster_configuration: Fact::Value(V1BETA4.into()),
            objects,
            answers: api_queries(desired, infos.iter())
                .into_keys()
                .map(|query| {
                    let answer = api_answer(&query);
                    (query, answer)
                })
                .collect(),
        },
    }
}

/// What a kubelet and kube-proxy of kubeadm 1.35 answer, as far as the tests ask.
fn api_answer(query: &ApiQuery) -> Fact<Value> {
    Fact::Value(match query {
        ApiQuery::ConfigMapKey { name, .. } if name == "kubelet-config" => KUBELET.into(),
        ApiQuery::ConfigMapKey { name, .. } if name == "kube-proxy" => KUBE_PROXY.into(),
        ApiQuery::KubeletConfig(_) => json!({
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
            "authorization": {"mode": "Webhook"},
            "streamingConnectionIdleTimeout": "4h0m0s",
            "eventRecordQPS": 50,
        }),
        ApiQuery::ServingCertificate(node) => served(node, false),
        ApiQuery::ServingRequests => json!([]),
        ApiQuery::ExternalIps | ApiQuery::NeverPulled => {
            json!({"any": false, "count": 0, "names": []})
        }
        ApiQuery::StaleTokens(_) => json!({"any": false, "count": 0.0}),
        ApiQuery::PodsBelow(_) => pods_below(&[]),
        ApiQuery::KubeProxyConfig(_) => json!({"metricsbindaddress": "127.0.0.1:10249"}),
        ApiQuery::LoadedEncryption(_) | ApiQuery::ControlPlanes => return Fact::Absent,
        other => panic!("{other:?}"),
    })
}

/// What the API server answers when it is asked which pods a level would refuse.
pub fn pods_below(names: &[&str]) -> Value {
    json!({"asked": 3, "count": names.len(), "names": names, "untold": 0, "reasons": []})
}

/// What a kubelet serves: something of its own, or a certificate of the cluster's CA.
pub fn served(node: &str, trusted: bool) -> Value {
    let ip = if node == "worker" {
        "10.0.0.2"
    } else {
        "10.0.0.1"
    };
    let why = if trusted {
        ""
    } else {
        "invalid peer certificate: UnknownIssuer"
    };
    json!({"trusted": trusted, "why": why, "endpoint": {"port": 10250, "addresses": [
        {"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": node}]}})
}

fn answer(query: &Query) -> Fact<Answer> {
    for (component, text) in MANIFESTS {
        if *query == Query::File(manifest_path(component)) {
            return file(text, 0o600);
        }
        if *query == Query::Process(component.program()) {
            let argv = Manifest::parse(text, component).unwrap().process().unwrap();
            return process(7, argv);
        }
    }
    match query {
        Query::Dir(dir) if dir.as_str() == MANIFESTS_DIR => {
            let names = MANIFESTS.map(|(c, _)| format!("{c}.yaml"));
            let entry = |name| (name, meta(FileKind::Regular, 0o600));
            let entries: BTreeMap<_, _> = names.into_iter().map(entry).collect();
            Fact::Value(Answer::Dir(entries))
        }
        Query::Stat(_) => Fact::Value(Answer::Stat(meta(FileKind::Regular, 0o644))),
        Query::File(path) if path.as_str() == KUBELET_CONFIG => file(KUBELET, 0o644),
        Query::File(path) if path.as_str().starts_with("/proc/sys/") => file("0\n", 0o644),
        Query::Process(name) if name.as_str() == "kubelet" => {
            process(7, vec!["/usr/bin/kubelet".into()])
        }
        _ => Fact::Absent,
    }
}

/// Puts a fact of a node in the place of what was observed.
pub fn put(facts: &mut Facts, node: &str, query: Query, fact: Fact<Answer>) {
    let Fact::Value(known) = &mut facts.nodes.get_mut(node).unwrap().facts else {
        panic!("{node} is not reached");
    };
    known.insert(query, fact);
}

pub fn manifest(facts: &Facts, node: &str, component: Component) -> String {
    let node = &facts.nodes[node];
    let text = node.text(&manifest_path(component));
    (*text.value().unwrap()).to_owned()
}

pub fn argv(facts: &Facts, node: &str, component: Component) -> Vec<String> {
    match facts.nodes[node].get(&Query::Process(component.program())) {
        Fact::Value(Answer::Process(running)) => running[0].argv.clone(),
        other => panic!("{other:?}"),
    }
}

/// Does to the facts what apply does to the cluster, and checks every `before` on the way.
pub fn execute(plan: &Plan, facts: &mut Facts) {
    for (_, step) in plan.steps() {
        match step {
            Step::Node(step) => execute_node(step, facts),
            Step::ConfigMapKey(step) if step.name != "kubeadm-config" => {
                execute_map(step, facts);
            }
            Step::ConfigMapKey(step) => {
                let live = &mut facts.api.cluster_configuration;
                assert_eq!(live.value(), Some(&step.before));
                *live = Fact::Value(step.after.clone());
            }
            // It follows from what is seen then, and real clusters show what it does.
            Step::Encryption(work) => panic!("{work:?}"),
            Step::ServingCertificate(step) => {
                let query = ApiQuery::ServingCertificate(step.node.clone());
                let now = Fact::Value(served(&step.node, true));
                assert!(facts.api.answers.insert(query, now).is_some());
                // Whatever waited is approved.
                let none = Fact::Value(json!([]));
                facts.api.answers.insert(ApiQuery::ServingRequests, none);
            }
            Step::Object(step) => {
                let fact = facts.api.objects.get_mut(&step.reference).unwrap();
                assert_eq!(fact.live.value(), step.before.as_ref());
                let ObjectAction::Apply(wanted) = &step.action else {
                    panic!("{step:?}")
                };
                let object = match &fact.would {
                    DryRun::Object(would) => would.clone(),
                    _ => wanted.clone(),
                };
                fact.live = Fact::Value(object.clone());
                fact.would = DryRun::Object(object);
            }
        }
    }
}

fn execute_map(step: &ConfigMapStep, facts: &mut Facts) {
    let query = ApiQuery::ConfigMapKey {
        namespace: step.namespace.clone(),
        name: step.name.clone(),
        key: step.key.clone(),
    };
    assert_eq!(facts.api.text(&query), Fact::Value(step.before.as_str()));
    let text = step.after.as_str().into();
    facts.api.answers.insert(query, Fact::Value(text));
    if step.rollout.is_none() {
        return;
    }
    // Every pod reads what is there now.
    let document = parse_document(&step.after, KUBE_PROXY_CONFIG_KIND).unwrap();
    for (query, fact) in &mut facts.api.answers {
        if let (ApiQuery::KubeProxyConfig(_), Fact::Value(running)) = (query, fact) {
            for (key, value) in document.as_object().unwrap() {
                running[key.to_lowercase()] = value.clone();
            }
        }
    }
}

/// A timer in this state.
pub fn timer(active: &str) -> Unit {
    Unit {
        active: active.into(),
        main: None,
        restarts: 0,
        options: Default::default(),
        config: None,
    }
}

fn execute_node(step: &NodeStep, facts: &mut Facts) {
    // Of the others only the gate asks.
    let timers = |unit: &&ProgramName| unit.as_str().starts_with("harden-");
    for unit in step.units.iter().filter(timers) {
        let now = Fact::Value(Answer::Unit(timer("active")));
        put(facts, &step.node, Query::Unit(unit.clone()), now);
    }
    let mut seen = std::collections::BTreeSet::new();
    for action in &step.files {
        assert!(seen.insert(&action.path), "two actions on {}", action.path);
        let query = Query::File(action.path.clone());
        let new = |mode: u32, owner: &str, group: &str| Meta {
            kind: FileKind::Regular,
            mode,
            owner: owner.into(),
            group: group.into(),
            size: 1,
        };
        let stat = Query::Stat(action.path.clone());
        let now = match &action.after {
            FileTarget::Text {
                text,
                mode,
                owner,
                group,
            } => {
                let before = match facts.nodes[&step.node].get(&query) {
                    Fact::Value(Answer::File(file)) => FileState::File {
                        sha256: sha256(&file.content),
                        mode: file.meta.mode,
                        owner: file.meta.owner.clone(),
                        group: file.meta.group.clone(),
                    },
                    _ => FileState::Absent,
                };
                assert_eq!(before, action.before);
                let meta = new(*mode, owner, group);
                let content = text.clone().into_bytes();
                let file = File {
                    meta: meta.clone(),
                    content,
                };
                put(facts, &step.node, query, Fact::Value(Answer::File(file)));
                meta
            }
            FileTarget::Mode { mode, owner, group } => {
                let meta = new(*mode, owner, group);
                if let Fact::Value(Answer::File(known)) = facts.nodes[&step.node].get(&query) {
                    let content = known.content.clone();
                    let file = File {
                        meta: meta.clone(),
                        content,
                    };
                    put(facts, &step.node, query, Fact::Value(Answer::File(file)));
                }
                meta
            }
            FileTarget::Owner(ids) => {
                let query = Query::Owners(action.path.clone());
                let Fact::Value(Answer::Owners(owners)) = facts.nodes[&step.node].get(&query)
                else {
                    panic!("nobody looked at {}", action.path);
                };
                let owners = owners.iter().copied().collect();
                assert_eq!(action.before, FileState::Owners { owners });
                let all = Fact::Value(Answer::Owners([*ids].into()));
                put(facts, &step.node, query, all);
                continue;
            }
            other => panic!("{other:?}"),
        };
        relist(facts, &step.node, &action.path, &now);
        let known = facts.nodes[&step.node].facts.value().unwrap();
        if known.contains_key(&stat) {
            put(facts, &step.node, stat, Fact::Value(Answer::Stat(now)));
        }
    }
    for (component, argv) in step.gate.iter().flat_map(|gate| &gate.processes) {
        let query = Query::Process(component.program());
        put(facts, &step.node, query, process(8, argv.clone()));
    }
    let running = ApiQuery::KubeletConfig(step.node.clone());
    for field in step.gate.iter().flat_map(|gate| &gate.kubelet) {
        let Some(Fact::Value(running)) = facts.api.answers.get_mut(&running) else {
            panic!("nobody asked the kubelet of {}", step.node);
        };
        let inner = field
            .path
            .iter()
            .fold(running, |value, key| &mut value[key]);
        *inner = field.value.clone();
    }
}

/// Changes an entry in what is known of the directories above it.
fn relist(facts: &mut Facts, node: &str, path: &NodePath, now: &Meta) {
    let (dir, name) = path.split().unwrap();
    let above = dir
        .split()
        .map(|(above, sub)| (above, format!("{sub}/{name}")));
    let listings = above.map(|(above, name)| (Query::Below(above), name));
    let listings = listings
        .into_iter()
        .chain([(Query::Dir(dir.clone()), name.to_owned())]);
    for (query, name) in listings {
        let Fact::Value(Answer::Dir(entries)) = facts.nodes[node].get(&query) else {
            continue;
        };
        if entries.contains_key(&name) {
            let mut entries = entries.clone();
            entries.insert(name, now.clone());
            put(facts, node, query, Fact::Value(Answer::Dir(entries)));
        }
    }
}

/// One line a change, as a reader needs it.
pub fn lines(plan: &Plan) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    plan.changes
        .iter()
        .map(|c| {
            let copy = c.copy.map_or(String::new(), |copy| format!(" {copy}"));
            let restarts = c.restarts.as_ref().map_or("", |_| " restarts");
            format!(
                "{}{copy} | {}: {} → {} ({:?}{restarts})",
                c.place,
                c.resource,
                text(&c.before),
                text(&c.after),
                c.risk
            )
        })
        .collect()
}

pub fn problems(plan: &Plan) -> Vec<String> {
    plan.problems
        .iter()
        .map(|p| {
            assert!(!p.remedy.is_empty());
            format!(
                "{:?} {} | {}: {}",
                p.severity, p.place, p.subject, p.message
            )
        })
        .collect()
}

pub fn stage_names(plan: &Plan) -> Vec<StageName> {
    plan.stages.iter().map(|stage| stage.name).collect()
}
