//! Observe: one probe a node and few lists a cluster give the facts. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Api;
use crate::distribution::kubeadm;
use crate::fact::ledger::LedgerFacts;
use crate::fact::probe;
use crate::fact::{ApiFacts, ApiQuery, Fact, Facts, Node, NodeFacts, NodeInfo, Query, sha256};
use crate::host::{Exit, Host, HostError, Limits, Opener, Script};
use crate::plan::{Plan, Subject};
use crate::resource::{Desired, Place};

pub(crate) mod answers;
mod encryption;
mod inventory;
mod left;
mod metrics;

pub use answers::api_port;
pub use encryption::{encrypted_places, encryption, more_encryption};
pub use inventory::{Inventory, InventoryError, declared_inventory, inventory};
pub use left::LedgerWanted;

/// The one script by which a node is looked at.
pub const PROBE: Script = Script {
    name: "probe",
    text: probe::SCRIPT,
};

/// How many nodes are looked at at the same time. More would trip sshd's MaxStartups (10:30:100)
/// on a bastion that many share.
const PARALLEL: usize = 10;

/// How long the objects in etcd may be counted: a member reads about 4,000 a second.
const COUNTING: Duration = Duration::from_secs(900);

/// What is to be looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// On each node, by its name.
    pub nodes: BTreeMap<String, Vec<Query>>,
    /// In the API: objects that are wanted.
    pub objects: Vec<Arc<Value>>,
    /// Whether to look at the objects only, and not to ask what applying them would do.
    pub only_live: bool,
    /// What else is to be asked.
    pub answers: BTreeSet<ApiQuery>,
    /// The ledger, and what has left the profile, if they matter.
    pub ledger: Option<LedgerWanted>,
}

impl Wanted {
    /// Returns what a comparison with the desired state needs.
    pub fn for_desired(desired: &Desired, inventory: &Inventory) -> Self {
        Wanted {
            nodes: inventory
                .nodes
                .iter()
                .map(|(name, info)| (name.clone(), crate::plan::queries(desired, info)))
                .chain(
                    inventory
                        .joining
                        .values()
                        .filter_map(|info| to_prepare(desired, info)),
                )
                .collect(),
            objects: crate::plan::wanted_objects(desired),
            only_live: false,
            answers: crate::plan::api_queries(desired, inventory.nodes.values())
                .into_keys()
                .chain(crate::plan::member_queries(
                    desired,
                    inventory.nodes.values(),
                ))
                .chain(crate::plan::fence_query(desired))
                .collect(),
            ledger: Some(LedgerWanted {
                workspace: desired.cluster.clone(),
                allow_delete: desired.allow_delete.clone(),
                only: None,
            }),
        }
    }

    /// Returns what preparing a node for joining needs.
    pub fn to_prepare(desired: &Desired, node: &NodeInfo) -> Self {
        Wanted {
            nodes: to_prepare(desired, node).into_iter().collect(),
            ..Wanted::default()
        }
    }

    /// Returns what a plan rests on.
    pub fn for_plan(plan: &Plan) -> Self {
        let mut nodes: BTreeMap<String, BTreeSet<Query>> = BTreeMap::new();
        let mut objects = Vec::new();
        let mut answers = BTreeSet::new();
        let mut left = BTreeSet::new();
        // Of these it is asked what they hold.
        let mut allow_delete = BTreeSet::new();
        for basis in &plan.basis {
            match (&basis.place, &basis.subject) {
                (Place::Node(name), Subject::Query(query)) => {
                    nodes.entry(name.clone()).or_default().insert(query.clone());
                }
                (Place::Node(name), Subject::Entries(mode)) => {
                    let queries = nodes.entry(name.clone()).or_default();
                    queries.extend(mode.listing());
                }
                (_, Subject::Object { wanted }) => objects.push(wanted.clone()),
                (_, Subject::Answer { query, .. }) => {
                    answers.insert(query.clone());
                }
                (_, Subject::Left { reference }) => {
                    left.insert(reference.clone());
                }
                (_, Subject::Contents { reference, .. }) => {
                    allow_delete.insert(reference.short_name());
                }
                _ => {}
            }
        }
        Wanted {
            nodes: nodes
                .into_iter()
                .map(|(name, queries)| (name, queries.into_iter().collect()))
                .collect(),
            objects,
            // A plan rests on what is there.
            only_live: true,
            answers,
            ledger: (!left.is_empty()).then(|| LedgerWanted {
                workspace: plan.cluster.name.clone(),
                allow_delete,
                only: Some(left),
            }),
        }
    }
}

/// `None` when nothing needs to be looked at, so that the node is not even contacted.
fn to_prepare(desired: &Desired, node: &NodeInfo) -> Option<(String, Vec<Query>)> {
    let queries = crate::plan::queries_to_prepare(desired, node);
    (!queries.is_empty()).then(|| (node.name.clone(), queries))
}

/// Looks at the nodes, several at a time, and at the API. `done` is called with each node's name
/// when its answer is there.
pub fn observe(
    wanted: &Wanted,
    inventory: &Inventory,
    hosts: &Opener,
    api: &dyn Api,
    done: &(dyn Fn(&str) + Sync),
) -> Facts {
    let queue = Mutex::new(wanted.nodes.iter());
    let nodes = Mutex::new(BTreeMap::new());
    let answers = Mutex::new(BTreeMap::new());
    let api_facts = std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(wanted.nodes.len()) {
            scope.spawn(|| {
                while let Some((name, queries)) = next(&queue) {
                    let about: Vec<&ApiQuery> = wanted
                        .answers
                        .iter()
                        .filter(|query| answers::node_of(query) == Some(name))
                        .collect();
                    // Of whom nothing is to be known, nothing is asked.
                    let (mut host, asked) = match queries.is_empty() && about.is_empty() {
                        true => (None, Ok(NodeFacts::new())),
                        false => timed(hosts, name, queries),
                    };
                    // One that does not answer the probe would only be waited for again.
                    let reached = match &mut host {
                        Some(host) if asked.is_ok() => Some(host.as_mut()),
                        _ => None,
                    };
                    let seen = asked.as_ref().ok();
                    let mut told = answers::ask_node(api, reached, seen, &about);
                    if let Ok(mut answers) = answers.lock() {
                        answers.append(&mut told);
                    }
                    let (facts, remedy) = match asked {
                        Ok(facts) => (Fact::Value(facts), String::new()),
                        Err(silent) => (Fact::Unreadable(silent.why), silent.remedy),
                    };
                    let info = inventory.find(name).cloned().unwrap_or(NodeInfo {
                        name: name.clone(),
                        control_plane: false,
                    });
                    done(name);
                    if let Ok(mut nodes) = nodes.lock() {
                        let node = Node {
                            info,
                            facts,
                            remedy,
                        };
                        nodes.insert(name.clone(), node);
                    }
                }
            });
        }
        // The lists of objects take longest, so the rest is asked beside them.
        let beside = scope.spawn(|| {
            let cluster_id = match api.cluster_id() {
                Ok(id) => Fact::Value(id),
                Err(error) => Fact::Unreadable(error.to_string()),
            };
            let cluster_configuration = api.config_map_key(
                kubeadm::CONFIG_NAMESPACE,
                kubeadm::CONFIG_NAME,
                kubeadm::CONFIG_KEY,
            );
            let ledger = match &wanted.ledger {
                Some(about) => left::look(api, about, &wanted.objects),
                None => LedgerFacts::default(),
            };
            (cluster_id, cluster_configuration, ledger)
        });
        let objects = match wanted.only_live {
            true => api.live(&wanted.objects),
            false => api.objects(&wanted.objects),
        };
        let answers = wanted
            .answers
            .iter()
            .filter(|query| answers::node_of(query).is_none())
            .map(|query| (query.clone(), answers::ask_api(api, query)))
            .collect();
        let beside = beside.join();
        let (cluster_id, cluster_configuration, ledger) =
            beside.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ApiFacts {
            cluster_id,
            cluster_configuration,
            ledger,
            objects,
            answers,
        }
    });
    let mut facts = Facts {
        nodes: nodes.into_inner().unwrap_or_default(),
        api: api_facts,
    };
    let mut about_nodes = answers.into_inner().unwrap_or_default();
    facts.api.answers.append(&mut about_nodes);
    facts
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().ok()?.next()
}

/// Connects to a node and looks at it, and logs how long both took.
fn timed(
    hosts: &Opener,
    name: &str,
    queries: &[Query],
) -> (Option<Box<dyn Host>>, Result<NodeFacts, Silent>) {
    let begun = Instant::now();
    let (host, asked) = match hosts(name) {
        Err(error) => (None, Err(Silent::of(&error))),
        Ok(mut host) => {
            tracing::debug!("{name}: opened after {} ms", begun.elapsed().as_millis());
            let asked = ask(host.as_mut(), queries);
            (Some(host), asked)
        }
    };
    let took = begun.elapsed().as_millis();
    match &asked {
        Err(silent) => tracing::info!("{name}: no answer after {took} ms: {}", silent.why),
        Ok(_) => tracing::info!("{name}: {} questions answered in {took} ms", queries.len()),
    }
    (host, asked)
}

/// Why a node gave no answer.
struct Silent {
    /// Without the node's name, which stands before it wherever it is shown.
    why: String,
    /// What to do.
    remedy: String,
}

impl Silent {
    fn of(error: &HostError) -> Self {
        let why = error.to_string();
        let name = format!("{}: ", error.node());
        Silent {
            why: why.strip_prefix(&name).unwrap_or(&why).to_owned(),
            remedy: error.remedy().to_owned(),
        }
    }
}

/// Runs the probe once.
///
/// # Errors
/// Why there is no usable answer, in one line with what to do.
pub fn look(host: &mut dyn Host, queries: &[Query]) -> Result<NodeFacts, String> {
    let name = host.name().to_owned();
    ask(host, queries).map_err(|silent| match silent.remedy.as_str() {
        "" => silent.why,
        remedy => format!("{name}: {}; {remedy}", silent.why),
    })
}

fn ask(host: &mut dyn Host, queries: &[Query]) -> Result<NodeFacts, Silent> {
    let nonce = nonce(host.name());
    let request = probe::encode(&nonce, queries);
    let output = host
        .run(PROBE, &request, limits(queries))
        .map_err(|e| Silent::of(&e))?;
    // The sentinel decides, not the exit status: a killed script can look successful over SSH.
    probe::parse(&nonce, queries, &output.stdout).map_err(|error| {
        let end = match &output.exit {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal(signal) => format!("killed by {signal}"),
        };
        Silent {
            why: format!(
                "the probe gave no usable answer: {error} ({end}{}{})",
                if output.stderr.is_empty() { "" } else { ": " },
                output.stderr.trim()
            ),
            remedy: String::new(),
        }
    })
}

/// How long a probe may take: every object of a large cluster is looked at in no 30 seconds.
fn limits(queries: &[Query]) -> Limits {
    let is_long = |query: &Query| matches!(query, Query::Stored(_));
    let mut limits = Limits::default();
    if queries.iter().any(is_long) {
        limits.time = COUNTING;
    }
    limits
}

/// A word that the node cannot have printed by chance: unique among runs.
fn nonce(node: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|d| d.as_nanos())
        .unwrap_or_default();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    sha256(format!("{node} {now} {run} {}", std::process::id()))[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_is_named_once_and_says_what_to_do() {
        let silent = Silent::of(&HostError::HostKey {
            node: "cp1".into(),
            why: "its key is unknown: SHA256:x".into(),
            remedy: "compare it with the node's console".into(),
        });
        assert_eq!(silent.why, "its key is unknown: SHA256:x");
        assert_eq!(silent.remedy, "compare it with the node's console");
    }
}
