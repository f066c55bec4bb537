//! The health of the control planes: before anything is changed, before each step that restarts
//! something on one of them, and as part of that step's gate.
//!
//! A control plane is well when its own API server answers `/readyz`, asked through a tunnel to its
//! node, and its etcd member says that it is healthy. A second one is never touched before the first
//! is well again, so that etcd keeps its quorum.
//!
//! A rollback may be what makes a control plane well again. So it does not ask that of the node that it
//! is about to change: one that is down loses nothing by it. Such nodes come first in their stage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::distribution::Component;
use crate::distribution::k3s::Layout;
use crate::distribution::kubeadm::etcd::{EtcdMember, metrics_port};
use crate::distribution::kubeadm::{Manifest, manifest_path};
use crate::fact::{Fact, Query};
use crate::observe::answers::{etcd_member, manifest_text};
use crate::plan::{Plan, Purpose, Step};

use super::session::Session;
use super::step::Failure;
use super::{ApplyError, Notice};

/// How often a control plane is looked at before it counts as down.
const LOOKS: usize = 3;

/// The port of an API server whose manifest does not tell it.
const API_PORT: u16 = 6443;

/// Where a control plane can be asked how it is.
#[derive(Debug, Clone, Copy)]
struct Ways {
    readyz: u16,
    /// `None` where no etcd of kubeadm's runs, or one without a metrics address.
    etcd: Option<u16>,
}

/// The control planes of a run.
#[derive(Debug, Default)]
pub(super) struct Planes {
    names: BTreeSet<String>,
    ways: BTreeMap<String, Ways>,
    /// Where k3s or RKE2 made the cluster.
    layout: Option<&'static Layout>,
    /// Those that were not well before the present step, and of which its gate asks nothing.
    excused: BTreeSet<String>,
    /// Those whose etcd cannot be asked; told once.
    unasked: BTreeSet<String>,
}

impl Planes {
    /// Takes the control planes of a plan; what is known of them already stays.
    pub(super) fn begin(&mut self, plan: &Plan) {
        let planes = plan.nodes.iter().filter(|(_, plane)| **plane);
        self.names = planes.map(|(name, _)| name.clone()).collect();
        self.layout = plan.cluster.distribution.layout();
        if self.layout.is_some() {
            // No manifest tells the port; the gates do.
            self.ways
                .extend(plan.steps().filter_map(|(_, step)| match step {
                    Step::Node(step) => {
                        let readyz = step.gate.as_ref()?.readyz_port?;
                        Some((step.node.clone(), Ways { readyz, etcd: None }))
                    }
                    _ => None,
                }));
        }
    }

    /// Knows these control planes, where there is no plan.
    pub(super) fn only(&mut self, nodes: &[String]) {
        self.names = nodes.iter().cloned().collect();
    }

    pub(super) fn has(&self, node: &str) -> bool {
        self.names.contains(node)
    }

    /// Whether a step restarts something on a control-plane node.
    pub(super) fn concerns(&self, step: &Step) -> bool {
        matches!(step, Step::Node(step) if step.restarts() && self.has(&step.node))
    }

    /// Forgets where a node is asked, because its files are about to change.
    pub(super) fn forget(&mut self, node: &str) {
        if self.layout.is_none() {
            self.ways.remove(node);
        }
    }

    /// The others, of which the present step's gate asks that they are well.
    fn others(&self, node: &str) -> Vec<String> {
        let asked = |name: &&String| *name != node && !self.excused.contains(*name);
        self.names.iter().filter(asked).cloned().collect()
    }
}

/// How the control planes are.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Those that are not well, and why.
    pub(super) unwell: BTreeMap<String, String>,
    /// What the members say of the others, where all are well themselves.
    quorum: Option<String>,
}

impl Survey {
    /// Names each that is not well, with the reason; `None` when nothing is wrong.
    fn complaint(&self) -> Option<String> {
        let lines: Vec<String> = self
            .unwell
            .iter()
            .map(|(name, why)| format!("control plane {name} is not well: {why}"))
            .collect();
        match lines.is_empty() {
            true => self.quorum.clone(),
            false => Some(lines.join("\n")),
        }
    }
}

impl Session<'_, '_> {
    /// Checks before the first change that every control plane is well, when the plan restarts
    /// something on one.
    pub(super) fn preflight(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        self.planes.begin(plan);
        let touched: BTreeSet<&str> = plan
            .steps()
            .filter(|(_, step)| self.planes.concerns(step))
            .filter_map(|(_, step)| match step {
                Step::Node(step) => Some(step.node.as_str()),
                _ => None,
            })
            .collect();
        if touched.is_empty() {
            return Ok(());
        }
        let mut survey = Survey::default();
        for look in 1..=LOOKS {
            survey = self.survey();
            if survey.complaint().is_none() || self.interrupted() {
                break;
            }
            if look < LOOKS {
                self.nap();
            }
        }
        let Some(complaint) = survey.complaint() else {
            return Ok(());
        };
        if matches!(plan.purpose, Purpose::Rollback(_)) {
            let repaired = survey.unwell.keys().all(|n| touched.contains(n.as_str()));
            let only_unwell = touched.iter().all(|n| survey.unwell.contains_key(*n));
            if repaired || only_unwell {
                self.note(format!(
                    "{complaint}; the rollback goes on, with the control planes first that are not well"
                ));
                return Ok(());
            }
        }
        let names: Vec<&str> = survey.unwell.keys().map(String::as_str).collect();
        let logs = match self.planes.layout {
            None => "`crictl ps -a` and `journalctl -u kubelet` tell".to_owned(),
            Some(layout) => format!("`journalctl -u {}` tells", layout.service),
        };
        Err(ApplyError::Unwell {
            what: complaint,
            remedy: match names.as_slice() {
                [] => "bring the missing member back, or remove it (`etcdctl member list`, `etcdctl member remove`), \
                       then apply again"
                    .into(),
                names => format!(
                    "bring {} back (there {logs} more), or if it is gone \
                     for good, remove it from the cluster; then apply again",
                    names.join(" and ")
                ),
            },
        })
    }

    /// Waits before a step that restarts something on a control-plane node until all of them are well:
    /// one may just have restarted.
    pub(super) fn await_planes(&mut self, node: &str, purpose: &Purpose) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let survey = self.survey();
            let repair =
                matches!(purpose, Purpose::Rollback(_)) && survey.unwell.contains_key(node);
            let whole = survey.unwell.is_empty()
                && (survey.quorum.is_none() || matches!(purpose, Purpose::Rollback(_)));
            if repair || whole {
                self.planes.excused = survey.unwell.into_keys().collect();
                return Ok(());
            }
            let why = survey.complaint().unwrap_or_default();
            if self.interrupted() {
                return Err(Failure::back("it was interrupted"));
            }
            let elapsed = begun.elapsed();
            if elapsed >= self.apply.settings.gate_timeout {
                return Err(Failure::back(format!(
                    "{why}\n{node} was not touched, after {} s of waiting",
                    elapsed.as_secs()
                )));
            }
            let first = survey.unwell.iter().next();
            let (first, why) = first.map_or((node, why.as_str()), |(n, why)| (n.as_str(), why));
            let what = format!("it to be well again ({why})");
            self.tell(Notice::Gate {
                node: first,
                what: &what,
                elapsed,
            });
            self.renew_in_time();
            self.nap();
        }
    }

    /// Asks nothing more of the control planes that are not well now: they may be what a rollback is for.
    pub(super) fn excuse_unwell(&mut self) {
        let survey = self.survey();
        self.planes.excused = survey.unwell.into_keys().collect();
    }

    /// Looks at every control plane.
    pub(super) fn survey(&mut self) -> Survey {
        let mut survey = Survey::default();
        let mut members = BTreeMap::new();
        for name in self.planes.names.clone() {
            match self.plane(&name) {
                Ok(Some(member)) => {
                    members.insert(name, member);
                }
                Ok(None) => {}
                Err(why) => {
                    survey.unwell.insert(name, why);
                }
            }
        }
        // While one is down, the others miss it too, and that says nothing new.
        if survey.unwell.is_empty() {
            let missing = |(_, m): &(&String, &EtcdMember)| m.connected + 1 < m.members;
            survey.quorum = members.iter().find(missing).map(|(name, member)| {
                format!(
                    "etcd is not whole: the member of {name} knows {} members and is connected to {} of the others",
                    member.members, member.connected
                )
            });
        }
        survey
    }

    /// Says what the other control planes are not yet; `None` when they are well.
    pub(super) fn others_wait(&mut self, node: &str) -> Option<String> {
        for name in self.planes.others(node) {
            // One complaint is enough: the watchdog's time runs.
            let well = self
                .plane_etcd(&name)
                .and_then(|_| self.plane_readyz(&name));
            if let Err(why) = well {
                return Some(format!("control plane {name} to be well ({why})"));
            }
        }
        None
    }

    /// Asks a control plane how it is; `None` where its etcd cannot be asked.
    ///
    /// # Errors
    /// Why it is not well.
    fn plane(&mut self, name: &str) -> Result<Option<EtcdMember>, String> {
        let readyz = self.plane_readyz(name);
        let member = self.plane_etcd(name);
        match (readyz, member) {
            (Ok(()), member) => member,
            (Err(why), Err(also)) if also != why => Err(format!("{why}; {also}")),
            (Err(why), _) => Err(why),
        }
    }

    /// Asks a control plane's own API server whether it is ready.
    pub(super) fn plane_readyz(&mut self, name: &str) -> Result<(), String> {
        let port = self.ways(name)?.readyz;
        let tunnel = self.host(name).and_then(|host| host.tunnel(port));
        let tunnel = tunnel.map_err(|error| error.to_string())?;
        match self.apply.api.readyz(tunnel.local) {
            Ok(true) => Ok(()),
            Ok(false) => Err("its /readyz does not answer 200".into()),
            Err(error) => Err(format!("its /readyz does not answer 200 ({error})")),
        }
    }

    /// Asks the etcd member of a control plane how it is; `None` where it cannot be asked.
    pub(super) fn plane_etcd(&mut self, name: &str) -> Result<Option<EtcdMember>, String> {
        match self.plane_member(name) {
            Ok(Some(member)) if !member.healthy => {
                Err(format!("its etcd member is not healthy: {}", member.why))
            }
            found => found,
        }
    }

    /// The same, whether it is well or not.
    pub(super) fn plane_member(&mut self, name: &str) -> Result<Option<EtcdMember>, String> {
        let Some(port) = self.ways(name)?.etcd else {
            if self.planes.unasked.insert(name.to_owned()) {
                let why = match self.planes.layout {
                    None => "its etcd is external or without a metrics address".to_owned(),
                    Some(layout) => format!("{} keeps its datastore to itself", layout.name),
                };
                self.note(format!(
                    "{name}: {why}, so only /readyz tells of its health"
                ));
            }
            return Ok(None);
        };
        let api = self.apply.api;
        let host = self.host(name).map_err(|error| error.to_string())?;
        match etcd_member(api, host, port) {
            Ok(member) => Ok(Some(member)),
            Err(why) => Err(format!("its etcd member does not answer: {why}")),
        }
    }

    /// Reads from a control plane's manifests where it can be asked; once, until they change.
    fn ways(&mut self, name: &str) -> Result<Ways, String> {
        if let Some(ways) = self.planes.ways.get(name) {
            return Ok(*ways);
        }
        if self.planes.layout.is_some() {
            return Ok(Ways {
                readyz: API_PORT,
                etcd: None,
            });
        }
        let api = manifest_path(Component::KubeApiserver);
        let etcd = manifest_path(Component::Etcd);
        let queries = [Query::File(api.clone()), Query::File(etcd.clone())];
        let facts = self.look(name, &queries)?;
        let readyz = match manifest_text(Some(&facts), &api) {
            Fact::Value(text) => Manifest::parse(text, Component::KubeApiserver)
                .map_or(API_PORT, |manifest| manifest.secure_port()),
            _ => API_PORT,
        };
        let ways = Ways {
            readyz,
            etcd: metrics_port(manifest_text(Some(&facts), &etcd)),
        };
        self.planes.ways.insert(name.to_owned(), ways);
        Ok(ways)
    }
}
