//! One step: done behind its gate, or put back.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::cluster::{Api, ApiError};
use crate::distribution::Component;
use crate::fact::{Fact, ObjectRef, ProgramName, sha256};
use crate::generation::same_content;
use crate::plan::{ConfigMapStep, Gate, NodeStep, ObjectAction, ObjectStep};
use crate::resource::kubelet::kubelet_program;
use crate::resource::leaving::{bears, beyond};
use crate::resource::stray::{Stray, strays};

use super::Notice;
use super::gate::{Shut, Watch, changed_flags};
use super::node::{Code, Id, NodeError, State};
use super::session::Session;

/// How often a node is asked again when a call breaks off.
const TRIES: usize = 5;

/// How many times the gate's time a rollout must hold: pods without a readiness probe, as kube-proxy's
/// are, count as ready the moment they start.
const ROLLOUT_HOLD: u32 = 3;

/// Whether a rollout makes a change or undoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// A step that could not be done.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What happened, and in which state the step's place is.
    pub(super) message: String,
    /// The same, for the program.
    pub(super) left: Left,
    /// Whether a fact had moved.
    pub(super) moved: bool,
}

/// In which state a failed step left its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing was changed, or all is back.
    Back,
    /// Changed, or not: the node does not answer, and its watchdog puts it back.
    Unknown,
    /// Not everything could be put back.
    Broken,
}

impl Failure {
    pub(super) fn back(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            left: Left::Back,
            moved: false,
        }
    }

    /// An object is made whole or not at all.
    pub(super) fn of_object(step: &ObjectStep, error: &ApiError) -> Self {
        let reference = &step.reference;
        Failure {
            moved: matches!(error, ApiError::Moved { .. }),
            ..Failure::back(format!("{reference}: {error}; it was not changed"))
        }
    }
}

/// The command lines that ran before a step.
pub(super) type Argv = BTreeMap<Component, Vec<String>>;

impl Session<'_, '_> {
    /// Does a step on a node. `old` is filled with what ran before.
    pub(super) fn do_node(
        &mut self,
        id: Id,
        step: &NodeStep,
        old: &mut Argv,
    ) -> Result<(), Failure> {
        let node = step.node.as_str();
        let mut seen = match &step.gate {
            Some(gate) => Some(
                self.see(node, gate)
                    .map_err(|why| Failure::back(format!("{why}; {node} was not changed")))?,
            ),
            None => None,
        };
        if let Some(seen) = &mut seen {
            *old = seen.argv();
            seen.mirrors = self.mirrors(step);
        }
        self.planes.forget(node);
        let mut deadline = self.apply.settings.watchdog_margin;
        if step.gate.is_some() {
            deadline += self.apply.settings.gate_timeout;
        }
        let activated = self.node(node).and_then(|mut n| n.activate(id, deadline));
        match activated {
            Ok(()) => {}
            Err(NodeError::Refused { code, message, .. }) => {
                return Err(self.not_activated(step, code, &message, old));
            }
            // Whether it has run is unknown, so it is put back.
            Err(error) => {
                self.disconnect(node);
                return Err(self.put_back(id, step, old, &error.to_string()));
            }
        }
        if let Some(gate) = &step.gate
            && let Err(shut) = self.pass(node, gate, Watch::change(seen.as_ref()))
        {
            let why = self.explain(node, gate, old, shut);
            return Err(self.put_back(id, step, old, &why));
        }
        self.commit(id, step, old)
    }

    fn not_activated(&mut self, step: &NodeStep, code: Code, message: &str, old: &Argv) -> Failure {
        let node = &step.node;
        match code {
            Code::Revert => Failure {
                message: format!("{node}: {message}; NOT everything on {node} is as it was"),
                left: Left::Broken,
                moved: false,
            },
            Code::Activate | Code::Decided => {
                let after = self.settle(step, old);
                Failure::back(format!("{node}: {message}; {after}"))
            }
            _ => Failure {
                moved: code == Code::Moved,
                ..Failure::back(format!("{node}: {message}; {node} was not changed"))
            },
        }
    }

    /// Makes an active transaction stay, over a fresh connection: proof that the node still lets
    /// people in.
    pub(super) fn commit(&mut self, id: Id, step: &NodeStep, old: &Argv) -> Result<(), Failure> {
        let node = step.node.as_str();
        let mut last = String::new();
        for attempt in 1..=TRIES {
            self.disconnect(node);
            match self.node(node).and_then(|mut n| n.commit(id)) {
                Ok(()) => return Ok(()),
                Err(NodeError::Refused {
                    code: Code::Decided,
                    message,
                    ..
                }) => {
                    let after = self.settle(step, old);
                    return Err(Failure::back(format!(
                        "{node}: the node put itself back before it could be committed \
                         ({message}); {after}"
                    )));
                }
                Err(NodeError::Refused { message, .. }) => {
                    return Err(self.put_back(id, step, old, &message));
                }
                Err(error) => last = error.to_string(),
            }
            if attempt < TRIES {
                self.nap();
            }
        }
        Err(self.unknown(step, &format!("the fresh connection failed: {last}")))
    }

    fn unknown(&self, step: &NodeStep, why: &str) -> Failure {
        let node = &step.node;
        let settings = &self.apply.settings;
        let seconds = (settings.gate_timeout + settings.watchdog_margin).as_secs();
        Failure {
            message: format!(
                "{node}: {why}; {node} puts its old files back by itself within {seconds} s of the \
                 change, unless that was committed"
            ),
            left: Left::Unknown,
            moved: false,
        }
    }

    /// Puts an active transaction back, and waits until what ran before runs again.
    pub(super) fn put_back(&mut self, id: Id, step: &NodeStep, old: &Argv, why: &str) -> Failure {
        let node = step.node.clone();
        self.tell(Notice::Reverting {
            number: id.step,
            title: &node,
            why,
        });
        let mut last = String::new();
        for attempt in 1..=TRIES {
            match self.node(&node).and_then(|mut n| n.revert(id, false, why)) {
                Ok(()) => {
                    let after = self.settle(step, old);
                    return Failure::back(format!("{node}: {why}; {after}"));
                }
                Err(NodeError::Refused {
                    code: Code::Unknown,
                    ..
                }) => return Failure::back(format!("{node}: {why}; {node} was not changed")),
                Err(NodeError::Refused { message, .. }) => {
                    return Failure {
                        message: format!(
                            "{node}: {why}; {message}; NOT everything on {node} is as it was"
                        ),
                        left: Left::Broken,
                        moved: false,
                    };
                }
                Err(error) => last = error.to_string(),
            }
            self.disconnect(&node);
            if attempt < TRIES {
                self.nap();
            }
        }
        self.unknown(step, &format!("{why}; and then: {last}"))
    }

    /// Puts a committed transaction back.
    pub(super) fn undo(&mut self, id: Id, step: &NodeStep, old: &Argv, why: &str) -> Failure {
        let node = step.node.clone();
        self.tell(Notice::Reverting {
            number: id.step,
            title: &node,
            why,
        });
        match self.node(&node).and_then(|mut n| n.revert(id, true, why)) {
            Ok(()) => Failure::back(format!("{node}: {}", self.settle(step, old))),
            Err(error) => Failure {
                message: format!("{node} could not be put back as well: {error}"),
                left: Left::Broken,
                moved: false,
            },
        }
    }

    /// Waits until the old command lines run and the API server is ready. Returns the state of the
    /// node in words.
    fn settle(&mut self, step: &NodeStep, old: &Argv) -> String {
        let node = step.node.clone();
        self.planes.forget(&node);
        let Some(gate) = undo_gate(step, old) else {
            return format!("{node} has its old files back");
        };
        match self.pass(&node, &gate, Watch::UNDO) {
            Ok(()) if gate.readyz_port.is_none() => {
                format!("{node} has its old files back, and its kubelet runs as before")
            }
            Ok(()) => format!("{node} has its old files back, and its /readyz answers 200"),
            Err(shut) => format!(
                "{node} has its old files back, but is not well yet: {}",
                shut.why
            ),
        }
    }

    /// Says why a gate stayed shut: the flags that were changed, and the server's own words.
    fn explain(&mut self, node: &str, gate: &Gate, old: &Argv, shut: Shut) -> String {
        if shut.interrupted {
            return "it was interrupted while its gate was waited for".into();
        }
        if shut.elsewhere {
            return format!("its gate did not open: {}", shut.why);
        }
        if !gate.kubelet.is_empty() {
            return self.explain_kubelet(node, gate, &shut.why);
        }
        if let Some(unit) = &gate.unit {
            return self.explain_unit(node, unit, &shut.why);
        }
        let component = shut
            .component
            .or_else(|| gate.processes.keys().next().copied());
        let Some(component) = component else {
            return shut.why;
        };
        let mut flags = Vec::new();
        for (changed, argv) in &gate.processes {
            let before = old.get(changed).map_or(&[][..], Vec::as_slice);
            if *changed == component || !gate.processes.contains_key(&component) {
                flags = changed_flags(before, argv);
            }
        }
        let with = match flags.as_slice() {
            [] => String::new(),
            flags => format!(" with {}", flags.join(" ")),
        };
        let mut text = format!("{component} did not pass its gate{with}: {}", shut.why);
        if let Some(line) = self.last_line(node, component) {
            text.push_str(&format!("; its last log line: {line}"));
        }
        text
    }

    fn explain_kubelet(&mut self, node: &str, gate: &Gate, why: &str) -> String {
        let fields: Vec<String> = gate
            .kubelet
            .iter()
            .map(|field| format!("{}={}", field.path.join("."), field.value))
            .collect();
        let mut text = format!(
            "the kubelet did not pass its gate with {}: {why}",
            fields.join(" ")
        );
        if let Some(line) = self.last_journal_line(node, &kubelet_program()) {
            text.push_str(&format!("; its last log line: {line}"));
        }
        text
    }

    fn explain_unit(&mut self, node: &str, unit: &ProgramName, why: &str) -> String {
        let mut text = format!("{unit} did not pass its gate: {why}");
        if let Some(line) = self.last_journal_line(node, unit) {
            text.push_str(&format!("; its last log line: {line}"));
        }
        text
    }

    /// Makes an API object what it should be. Doing it twice is the same as doing it once.
    pub(super) fn do_object(&mut self, step: &ObjectStep) -> Result<(), Failure> {
        let identity = step.reference.identity();
        let is_listed = self
            .ledger
            .entries
            .keys()
            .any(|one| one.identity() == identity);
        self.api(|api| one_object(api, step, is_listed))
            .map_err(|error| Failure::of_object(step, &error))
    }

    /// Replaces a ConfigMap's key, if it is what it was; one that is replaced already is done.
    pub(super) fn do_key(&mut self, step: &ConfigMapStep) -> Result<(), Failure> {
        let ConfigMapStep {
            namespace,
            name,
            key,
            before,
            after,
            rollout,
        } = step;
        let what = format!("ConfigMap {namespace}/{name} {key}");
        self.replace_key(step, before, after)?;
        let Some(daemon_set) = rollout else {
            return Ok(());
        };
        let Err(why) = self.roll_out(namespace, daemon_set, after, Way::There) else {
            return Ok(());
        };
        // What was there before is put back, and read again.
        if let Err(failure) = self.replace_key(step, after, before) {
            return Err(Failure {
                message: format!(
                    "{what}: {why}; and it could NOT be put back: {}",
                    failure.message
                ),
                left: Left::Broken,
                moved: false,
            });
        }
        // The text is back; pods that a dead node keeps from being new do not change that.
        Err(Failure::back(
            match self.roll_out(namespace, daemon_set, before, Way::Back) {
                Ok(()) => format!("{what}: {why}; it is as it was before"),
                Err(again) => format!(
                    "{what}: {why}; the old text is back, but its pods are not all well yet: {again}"
                ),
            },
        ))
    }

    /// Restarts a DaemonSet that reads this text, and waits until every pod is new and ready.
    fn roll_out(
        &mut self,
        namespace: &str,
        name: &str,
        text: &str,
        way: Way,
    ) -> Result<(), String> {
        let begun = Instant::now();
        // A restart without a change of the text needs a mark of its own; that of the run does.
        let mark = format!(
            "{}-{}-{way:?}",
            &sha256(text)[..12],
            self.apply.holder.since
        );
        let hold = self.apply.settings.gate_hold * ROLLOUT_HOLD;
        let mut held: Option<Instant> = None;
        self.api(|api| api.restart_daemon_set(namespace, name, &mark))
            .map_err(|error| error.to_string())?;
        loop {
            let waits = match self.apply.api.daemon_set_waits(namespace, name) {
                Ok(None) => {
                    let since = *held.get_or_insert_with(Instant::now);
                    if since.elapsed() >= hold {
                        return Ok(());
                    }
                    "it to stay so".into()
                }
                Ok(Some(waits)) => {
                    held = None;
                    waits
                }
                Err(error) => {
                    held = None;
                    error.to_string()
                }
            };
            if way == Way::There && self.interrupted() {
                return Err("it was interrupted".into());
            }
            let elapsed = begun.elapsed();
            if elapsed >= self.apply.settings.gate_timeout {
                return Err(format!(
                    "DaemonSet {namespace}/{name} was restarted, and {} s have passed waiting for {waits}",
                    elapsed.as_secs()
                ));
            }
            self.tell(Notice::Gate {
                node: name,
                what: &waits,
                elapsed,
            });
            self.renew_in_time();
            self.nap();
        }
    }

    fn replace_key(
        &mut self,
        step: &ConfigMapStep,
        before: &str,
        after: &str,
    ) -> Result<(), Failure> {
        let ConfigMapStep {
            namespace,
            name,
            key,
            ..
        } = step;
        let what = format!("ConfigMap {namespace}/{name} {key}");
        self.api(|api| match api.config_map_key(namespace, name, key) {
            Fact::Value(text) if text == after => Ok(()),
            Fact::Value(text) if text == before => {
                api.replace_config_map_key(namespace, name, key, before, after)
            }
            Fact::Value(_) | Fact::Absent => Err(ApiError::Moved { what: what.clone() }),
            Fact::Unreadable(why) => Err(ApiError::Unreachable { why }),
        })
        .map_err(|error| Failure {
            moved: matches!(error, ApiError::Moved { .. }),
            ..Failure::back(format!("{what}: {error}; it was not changed"))
        })
    }

    /// Calls the API, again while it does not answer: its servers may just have restarted.
    pub(super) fn api(
        &mut self,
        mut call: impl FnMut(&dyn crate::cluster::Api) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let begun = Instant::now();
        loop {
            match call(self.apply.api) {
                Err(ApiError::Unreachable { .. })
                    if begun.elapsed() < self.apply.settings.api_timeout && !self.interrupted() =>
                {
                    self.nap();
                }
                result => return result,
            }
        }
    }

    /// Asks a node for the state of a step's transaction.
    pub(super) fn state(
        &mut self,
        id: Id,
        step: &NodeStep,
    ) -> Result<(State, Option<(super::node::Reason, String)>), NodeError> {
        self.node(&step.node)?.status(id)
    }
}

/// Makes an API object what it should be.
pub(super) fn one_object(
    api: &dyn Api,
    step: &ObjectStep,
    is_listed: bool,
) -> Result<(), ApiError> {
    let reference = &step.reference;
    match &step.action {
        ObjectAction::Apply(wanted) => {
            // What somebody made since is not ours, and would be deleted one day as if it were. The account
            // `default` comes with its namespace, and is never deleted.
            let (group, kind, _, name) = reference.identity();
            if step.before.is_none()
                && (group, kind, name) != ("", "ServiceAccount", "default")
                && let Some(live) = api.get(reference)?
                && !bears(&live)
            {
                return Err(ApiError::Moved {
                    what: reference.to_string(),
                });
            }
            apply(api, step, wanted)
        }
        ObjectAction::Restore(whole) => {
            let live = api.get(reference)?;
            if live.as_ref().is_some_and(|l| same_content(l, whole)) {
                return Ok(());
            }
            unmoved(reference, live.as_ref(), step.before.as_ref())?;
            api.restore(whole)
        }
        ObjectAction::Delete => {
            let Some(live) = api.get(reference)? else {
                return Ok(());
            };
            unmoved(reference, Some(&live), step.before.as_ref())?;
            let uid = uid(step, &live);
            if reference.kind == "Namespace" {
                let held = api.contents(&reference.name)?;
                if !held.is_empty() {
                    return Err(ApiError::Refused {
                        what: format!("delete {reference}"),
                        why: format!("it holds {}", held.join(", ")),
                    });
                }
            }
            accepted(api.delete(reference, uid))
        }
        ObjectAction::Prune { contents } => prune(api, step, contents, is_listed),
        ObjectAction::Release => api.release(reference),
        // The ledger is all that there is to it.
        ObjectAction::Forget | ObjectAction::Note => Ok(()),
    }
}

/// Applies an object, and takes away what others added to it and the plan names. What came since, the next
/// plan shows.
fn apply(api: &dyn Api, step: &ObjectStep, wanted: &serde_json::Value) -> Result<(), ApiError> {
    let reference = &step.reference;
    if !step.strays.is_empty()
        && let Some(live) = api.get(reference)?
        && strays(wanted, &live).iter().any(|one| {
            let field = |known: &&Stray| known.field == one.field;
            step.strays
                .iter()
                .find(field)
                .is_some_and(|known| known != one)
        })
    {
        return Err(ApiError::Moved {
            what: reference.to_string(),
        });
    }
    api.apply_taking(wanted, &step.taken)?;
    match step.strays.is_empty() {
        true => Ok(()),
        false => api.remove(wanted, &step.strays),
    }
}

/// The gate of the state before: what ran before, or else what the plan says.
fn undo_gate(step: &NodeStep, old: &Argv) -> Option<Gate> {
    let gate = step.gate.as_ref()?;
    let complete = gate.processes.keys().all(|c| old.contains_key(c));
    if complete {
        let planned = step.undo_gate.as_ref();
        return Some(Gate {
            // What a server makes of its configuration is its own affair.
            processes: match gate.unit {
                Some(_) => Argv::new(),
                None => old.clone(),
            },
            readyz_port: gate.readyz_port,
            unit: gate.unit.clone(),
            flags: planned.map(|g| g.flags.clone()).unwrap_or_default(),
            kubelet: planned.map(|g| g.kubelet.clone()).unwrap_or_default(),
            certificates: planned.map(|g| g.certificates.clone()).unwrap_or_default(),
            serving_certificate: planned.is_some_and(|g| g.serving_certificate),
        });
    }
    step.undo_gate.clone()
}

/// Deletes what has left the profile. That the ledger lists it is not enough, and neither is a field
/// manager's name: both can be written by somebody, but hardly by the same.
fn prune(
    api: &dyn Api,
    step: &ObjectStep,
    contents: &[String],
    is_listed: bool,
) -> Result<(), ApiError> {
    let reference = &step.reference;
    let Some(live) = api.get(reference)? else {
        return Ok(());
    };
    unmoved(reference, Some(&live), step.before.as_ref())?;
    let refuse = |why: String| {
        Err(ApiError::Refused {
            what: format!("delete {reference}"),
            why,
        })
    };
    if !is_listed {
        return refuse("the ledger does not list it any more".into());
    }
    if !bears(&live) {
        return refuse("harden does not manage it any more".into());
    }
    if reference.kind == "Namespace" {
        let held = api.contents(&reference.name)?;
        let new = beyond(&held, contents);
        if !new.is_empty() {
            return refuse(format!(
                "it holds what the plan does not name: {}",
                new.join(", ")
            ));
        }
    }
    accepted(api.delete(reference, uid(step, &live)))
}

/// The uid of what the plan saw. What was made anew since, however alike, is not what was planned.
fn uid<'s>(step: &'s ObjectStep, live: &'s serde_json::Value) -> &'s str {
    let of = |object: &'s serde_json::Value| object.pointer("/metadata/uid")?.as_str();
    let seen = step.before.as_ref().and_then(of);
    seen.or_else(|| of(live)).unwrap_or_default()
}

/// A deletion that the server has taken on is done: it cannot be taken back, and a rollback has to know.
fn accepted(deleted: Result<(), ApiError>) -> Result<(), ApiError> {
    match deleted {
        Err(error @ ApiError::Ending { .. }) => {
            tracing::warn!("{error}; harden does not wait for it");
            Ok(())
        }
        other => other,
    }
}

/// Checks that an object is what it was when the plan was made, apart from what the server writes.
fn unmoved(
    reference: &ObjectRef,
    live: Option<&serde_json::Value>,
    before: Option<&serde_json::Value>,
) -> Result<(), ApiError> {
    let same = match (live, before) {
        (Some(live), Some(before)) => same_content(live, before),
        (None, None) => true,
        _ => false,
    };
    if same {
        return Ok(());
    }
    Err(ApiError::Moved {
        what: reference.to_string(),
    })
}
