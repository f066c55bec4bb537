//! Gates: whether the running processes and the API server of one node are what they shall be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::distribution::Component;
use crate::distribution::kubeadm::argv;
use crate::fact::{Answer, Fact, Process, ProgramName, Query, Unit};
use crate::host::Tunnel;
use crate::plan::{EndsLater, FieldValue, Gate};
use crate::resource::is_effective;
use crate::resource::kubelet::kubelet_program;

use super::Notice;
use super::certificate::Certifying;
use super::mirror::Mirrors;
use super::node::plain;
use super::session::Session;

/// How long a flag that the server cannot read must have kept it down before the gate gives up: the
/// kubelet may be between two containers.
const DOWN: Duration = Duration::from_secs(5);

/// How many kubelets may die before the gate gives up: systemd starts one that ended again.
const KUBELET_DEATHS: usize = 2;

/// How often systemd may have started a unit again by itself before the gate gives up.
const UNIT_DEATHS: u32 = 2;

/// What ran on a node before it was changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) processes: BTreeMap<Component, Vec<Process>>,
    kubelet: Vec<Process>,
    log: String,
    /// What the kubelet's unit logged.
    journal: String,
    /// The unit that the gate is about.
    unit: Option<Unit>,
    /// The mirror pods of what the step changes.
    pub(super) mirrors: Mirrors,
}

/// How a gate is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch<'s> {
    /// What ran before; the processes must be new ones.
    before: Option<&'s Seen>,
    /// Whether it is a change that the gate judges, and not its undoing: then the user's interrupt ends
    /// the waiting, and the other control planes must be well.
    change: bool,
}

impl<'s> Watch<'s> {
    /// For what was put back.
    pub(super) const UNDO: Watch<'static> = Watch {
        before: None,
        change: false,
    };

    /// For what was changed.
    pub(super) fn change(before: Option<&'s Seen>) -> Self {
        Watch {
            before,
            change: true,
        }
    }
}

impl Seen {
    /// The command lines, where exactly one process ran.
    pub(super) fn argv(&self) -> BTreeMap<Component, Vec<String>> {
        let single = |(component, all): (&Component, &Vec<Process>)| match all.as_slice() {
            [one] => Some((*component, one.argv.clone())),
            _ => None,
        };
        self.processes.iter().filter_map(single).collect()
    }

    fn had(&self, component: Component, process: &Process) -> bool {
        let same = |p: &Process| (p.pid, p.start) == (process.pid, process.start);
        self.processes
            .get(&component)
            .is_some_and(|all| all.iter().any(same))
    }
}

/// Why a gate did not pass.
#[derive(Debug)]
pub(super) struct Shut {
    /// What was waited for last, or what went wrong.
    pub(super) why: String,
    /// Whose fault it seems to be.
    pub(super) component: Option<Component>,
    /// Whether nothing is known to be wrong: the user has ended the waiting.
    pub(super) interrupted: bool,
    /// Whether it is about something that the step did not change.
    pub(super) elsewhere: bool,
}

impl Shut {
    fn new(why: impl Into<String>, component: Option<Component>) -> Self {
        Shut {
            why: why.into(),
            component,
            interrupted: false,
            elsewhere: false,
        }
    }
}

/// Counts the deaths of API servers that had the new command line.
#[derive(Default)]
struct Crashes {
    alive: BTreeSet<(u32, u64)>,
    gone: BTreeSet<(u32, u64)>,
    fatal: BTreeSet<String>,
    down: Option<Instant>,
    /// New kubelets that were seen.
    kubelets: BTreeSet<(u32, u64)>,
    certifying: Certifying,
    /// Why kubelets ended, as they said it.
    kubelet_fatal: BTreeSet<String>,
}

impl Session<'_, '_> {
    /// Looks at what a gate is about.
    pub(super) fn see(&mut self, node: &str, gate: &Gate) -> Result<Seen, String> {
        let looked_at: BTreeSet<Component> = gate
            .processes
            .keys()
            .copied()
            .chain(followers(gate))
            .chain(gate.flags.iter().map(|flag| flag.component))
            .collect();
        let mut queries: Vec<Query> = looked_at
            .iter()
            .map(|component| Query::Process(component.program()))
            .collect();
        let log = Query::Log(Component::KubeApiserver.program());
        queries.push(log.clone());
        let kubelet = Query::Process(kubelet_program());
        let journal = Query::Journal(kubelet_program());
        if !gate.kubelet.is_empty() {
            queries.extend([kubelet.clone(), journal.clone()]);
        }
        let unit = gate.unit.clone().map(Query::Unit);
        queries.extend(unit.clone());
        let facts = self.look(node, &queries)?;
        let mut seen = Seen::default();
        match unit.and_then(|query| facts.get(&query)) {
            Some(Fact::Value(Answer::Unit(found))) => seen.unit = Some(found.clone()),
            Some(Fact::Unreadable(why)) => {
                return Err(format!("{node}: the unit cannot be read: {why}"));
            }
            _ => {}
        }
        for component in &looked_at {
            let found = match facts.get(&Query::Process(component.program())) {
                Some(Fact::Value(Answer::Process(all))) => all.clone(),
                Some(Fact::Absent) => Vec::new(),
                Some(Fact::Unreadable(why)) => {
                    return Err(format!("{node}: the processes cannot be read: {why}"));
                }
                _ => return Err(format!("{node}: the probe did not tell of {component}")),
            };
            seen.processes.insert(*component, found);
        }
        if let Some(Fact::Value(Answer::Log(text))) = facts.get(&log) {
            seen.log.clone_from(text);
        }
        if let Some(Fact::Value(Answer::Log(text))) = facts.get(&journal) {
            seen.journal.clone_from(text);
        }
        match facts.get(&kubelet) {
            Some(Fact::Value(Answer::Process(all))) => seen.kubelet.clone_from(all),
            Some(Fact::Unreadable(why)) => {
                return Err(format!("{node}: the processes cannot be read: {why}"));
            }
            _ => {}
        }
        Ok(seen)
    }

    /// Waits until the gate has held for a while.
    pub(super) fn pass(&mut self, node: &str, gate: &Gate, watch: Watch<'_>) -> Result<(), Shut> {
        let begun = Instant::now();
        let mut held: Option<(Instant, Vec<(u32, u64)>)> = None;
        let mut crashes = Crashes::default();
        let mut tunnel = None;
        loop {
            if watch.change && self.interrupted() {
                return Err(Shut {
                    interrupted: true,
                    ..Shut::new("it was interrupted", None)
                });
            }
            let shut = match self.check(node, gate, watch, &mut tunnel, &mut crashes) {
                Ok(ids) => {
                    let since = match &held {
                        Some((since, same)) if *same == ids => *since,
                        _ => Instant::now(),
                    };
                    if since.elapsed() >= self.apply.settings.gate_hold {
                        return Ok(());
                    }
                    held = Some((since, ids));
                    Shut::new("it to stay so", None)
                }
                Err((shut, is_final)) => {
                    held = None;
                    if is_final {
                        return Err(shut);
                    }
                    shut
                }
            };
            let elapsed = begun.elapsed();
            if elapsed >= self.apply.settings.gate_timeout {
                return Err(Shut {
                    why: format!(
                        "{} s have passed waiting for: {}",
                        elapsed.as_secs(),
                        shut.why
                    ),
                    ..shut
                });
            }
            self.tell(Notice::Gate {
                node,
                what: &shut.why,
                elapsed,
            });
            self.renew_in_time();
            self.nap();
        }
    }

    /// Looks once. The error says whether there is any use in looking again.
    fn check(
        &mut self,
        node: &str,
        gate: &Gate,
        watch: Watch<'_>,
        tunnel: &mut Option<Tunnel>,
        crashes: &mut Crashes,
    ) -> Result<Vec<(u32, u64)>, (Shut, bool)> {
        let again = |why: String, component| (Shut::new(why, component), false);
        let before = watch.before;
        let seen = self.see(node, gate).map_err(|why| again(why, None))?;
        let mut ids = Vec::new();
        let mut waiting = None;
        for (component, argv) in &gate.processes {
            let all = seen.processes.get(component).map_or(&[][..], Vec::as_slice);
            let new = |p: &&Process| before.is_none_or(|b| !b.had(*component, p));
            let right: Vec<(u32, u64)> = all
                .iter()
                .filter(new)
                .filter(|p| p.argv == *argv)
                .map(|p| (p.pid, p.start))
                .collect();
            if *component == Component::KubeApiserver
                && let Some(before) = before
                && let Some(why) = crashes.count(&right, all.is_empty(), &seen.log, &before.log)
            {
                return Err((Shut::new(why, Some(*component)), true));
            }
            if right.is_empty() {
                let what = if all.is_empty() {
                    format!("{component} to run")
                } else if before.is_some() {
                    format!("{component} to restart with the new flags")
                } else {
                    format!("{component} to run with the expected flags")
                };
                waiting.get_or_insert((what, *component));
            }
            ids.extend(right);
        }
        for component in followers(gate) {
            let ran = |seen: &Seen| {
                seen.processes
                    .get(&component)
                    .is_some_and(|all| !all.is_empty())
            };
            if watch.before.is_some_and(ran) && !ran(&seen) {
                waiting.get_or_insert((format!("{component} to run"), component));
            }
        }
        if let Some((what, component)) = waiting {
            return Err(again(what, Some(component)));
        }
        if !gate.kubelet.is_empty() {
            let new: Vec<(u32, u64)> = seen
                .kubelet
                .iter()
                .map(|p| (p.pid, p.start))
                .filter(|id| {
                    before.is_none_or(|b| !b.kubelet.iter().any(|p| (p.pid, p.start) == *id))
                })
                .collect();
            let old = before.map_or("", |b| b.journal.as_str());
            let died = crashes.count_kubelets(&new, &seen.journal, old);
            if before.is_some() && died >= KUBELET_DEATHS {
                let why = format!("it was started and died {died} times");
                return Err((Shut::new(why, None), true));
            }
            // Without a certificate the API server cannot ask it anything.
            if gate.serving_certificate && !new.is_empty() {
                match self.certify(node, &mut crashes.certifying) {
                    Ok(None) => {}
                    Ok(Some(waits)) => return Err(again(waits, None)),
                    Err(why) => return Err((Shut::new(why, None), true)),
                }
            }
            if let Some(waits) = self.kubelet_waits(node, gate, &new) {
                return Err(again(waits, None));
            }
            ids.extend(new);
        }
        if let Some(unit) = &gate.unit {
            ids.push(unit_id(unit, &seen, before)?);
        }
        for flag in &gate.flags {
            let all = seen.processes.get(&flag.component);
            let has =
                |process: &Process| argv::values(&process.argv, &flag.name).contains(&flag.value);
            match all.map(Vec::as_slice) {
                Some([only]) if has(only) => ids.push((only.pid, only.start)),
                _ => {
                    let what = format!(
                        "{} to run with --{}={}",
                        flag.component, flag.name, flag.value
                    );
                    return Err(again(what, Some(flag.component)));
                }
            }
        }
        if let Some(port) = gate.readyz_port {
            self.readyz_waits(node, port, tunnel)
                .map_or(Ok(()), |waits| {
                    Err(again(waits, Some(Component::KubeApiserver)))
                })?;
        }
        let mut well = self
            .healthy(node, gate)
            .map_err(|(waits, component)| again(waits, Some(component)))?;
        if gate.readyz_port.is_some() {
            well.insert(Component::KubeApiserver);
        }
        if self.planes.has(node) {
            match self.plane_etcd(node) {
                Ok(Some(_)) => _ = well.insert(Component::Etcd),
                Ok(None) => {}
                Err(why) => return Err(again(format!("etcd to be healthy ({why})"), None)),
            }
        }
        if let Some((waits, component)) = self.mirror_waits(node, gate, before, &well) {
            return Err(again(waits, Some(component)));
        }
        // The files do not change any more by themselves.
        self.end_later(node, gate)
            .map_err(|why| (Shut::new(why, None), true))?;
        if !self.planes.has(node) {
            return Ok(ids);
        }
        if gate.readyz_port.is_none()
            && let Err(why) = self.plane_readyz(node)
        {
            return Err(again(format!("its API server ({why})"), None));
        }
        if watch.change
            && let Some(waits) = self.others_wait(node)
        {
            let shut = Shut {
                elsewhere: true,
                ..Shut::new(waits, None)
            };
            return Err((shut, false));
        }
        Ok(ids)
    }

    /// Whether the certificates are valid for longer than they were; why not.
    fn end_later(&mut self, node: &str, gate: &Gate) -> Result<(), String> {
        let query = |one: &EndsLater| Query::Certificates(one.path.clone());
        let queries: Vec<Query> = gate.certificates.iter().map(query).collect();
        if queries.is_empty() {
            return Ok(());
        }
        let facts = self.look(node, &queries)?;
        for one in &gate.certificates {
            let path = &one.path;
            let until = match facts.get(&query(one)) {
                Some(Fact::Value(Answer::Certificates(found))) => found
                    .list
                    .iter()
                    .map(|certificate| certificate.not_after)
                    .min(),
                Some(Fact::Unreadable(why)) => {
                    return Err(format!("{path} cannot be read: {why}"));
                }
                _ => None,
            };
            if until.is_none_or(|until| until <= one.than) {
                return Err(format!("{path} is valid for no longer than before"));
            }
        }
        Ok(())
    }

    /// Says what the API server behind a port of the node is not yet; `None` when it is ready.
    fn readyz_waits(
        &mut self,
        node: &str,
        port: u16,
        tunnel: &mut Option<Tunnel>,
    ) -> Option<String> {
        if tunnel.is_none() {
            match self.host(node).and_then(|h| h.tunnel(port)) {
                Ok(opened) => *tunnel = Some(opened),
                Err(error) => return Some(error.to_string()),
            }
        }
        let Some(local) = tunnel.as_ref().map(|t| t.local) else {
            unreachable!("it was opened above")
        };
        let not_ready = match self.apply.api.readyz(local) {
            Ok(true) => return None,
            Ok(false) => "/readyz to answer 200".to_owned(),
            Err(error) => format!("/readyz to answer 200 ({error})"),
        };
        *tunnel = None;
        Some(not_ready)
    }

    /// Says what a kubelet is not yet; `None` when it runs with what the gate wants.
    fn kubelet_waits(&self, node: &str, gate: &Gate, new: &[(u32, u64)]) -> Option<String> {
        if new.is_empty() {
            return Some("the kubelet to restart".into());
        }
        let running = match self.apply.api.kubelet_config(node) {
            Ok(Some(running)) => running,
            Ok(None) => return Some("the API to know the node".into()),
            Err(error) => return Some(format!("the kubelet to answer ({error})")),
        };
        let wrong = |wanted: &&FieldValue| !is_effective(&running, &wanted.path, &wanted.value);
        if let Some(wanted) = gate.kubelet.iter().find(wrong) {
            return Some(format!(
                "the kubelet to run with {} = {}; a file of its --config-dir or one of its flags may set it otherwise",
                wanted.path.join("."),
                wanted.value
            ));
        }
        match self.apply.api.node_ready(node) {
            Ok(true) => None,
            Ok(false) => Some("the Node to be Ready".into()),
            Err(error) => Some(format!("the Node to be Ready ({error})")),
        }
    }

    /// Returns the last line that a unit logged.
    pub(super) fn last_journal_line(&mut self, node: &str, unit: &ProgramName) -> Option<String> {
        let query = Query::Journal(unit.clone());
        let facts = self.look(node, std::slice::from_ref(&query)).ok()?;
        match facts.get(&query) {
            Some(Fact::Value(Answer::Log(text))) => telling(text).map(bounded),
            _ => None,
        }
    }

    /// Returns the last line that a component logged and that says something.
    pub(super) fn last_line(&mut self, node: &str, component: Component) -> Option<String> {
        let query = Query::Log(component.program());
        let facts = self.look(node, std::slice::from_ref(&query)).ok()?;
        match facts.get(&query) {
            Some(Fact::Value(Answer::Log(text))) => telling(text).map(bounded),
            _ => None,
        }
    }
}

/// Returns the main process of a unit, once it is active with a new one. The error says whether there
/// is any use in looking again: systemd starts it again and again.
fn unit_id(
    unit: &ProgramName,
    seen: &Seen,
    before: Option<&Seen>,
) -> Result<(u32, u64), (Shut, bool)> {
    let Some(now) = &seen.unit else {
        return Err((
            Shut::new(format!("{unit} to be known to systemd"), None),
            false,
        ));
    };
    let old = before.and_then(|before| before.unit.as_ref());
    let known = old.map_or(0, |old| old.restarts);
    // The count begins anew where somebody starts it.
    let died = match now.restarts >= known {
        true => now.restarts - known,
        false => now.restarts,
    };
    if before.is_some() && died >= UNIT_DEATHS {
        let why = format!("it was started and died {died} times");
        return Err((Shut::new(why, None), true));
    }
    let is_new = |main: &(u32, u64)| old.is_none_or(|old| old.main != Some(*main));
    match now.main.filter(is_new) {
        Some(main) if now.active == "active" => Ok(main),
        Some(_) => Err((Shut::new(format!("{unit} to be active"), None), false)),
        None => Err((Shut::new(format!("{unit} to restart"), None), false)),
    }
}

/// The components that end when the etcd of their node restarts, and come back: they lose their lease
/// where it is the only one.
fn followers(gate: &Gate) -> impl Iterator<Item = Component> {
    let all = [Component::KubeControllerManager, Component::KubeScheduler];
    let with_etcd = gate.processes.contains_key(&Component::Etcd);
    let changed: Vec<Component> = gate.processes.keys().copied().collect();
    all.into_iter()
        .filter(move |component| with_etcd && !changed.contains(component))
}

/// A log line as it can be shown.
fn bounded(line: &str) -> String {
    let mut line = plain(message(line));
    if line.len() > 600 {
        line = line.chars().take(600).collect::<String>() + " …";
    }
    line
}

impl Crashes {
    /// Adds a look at new kubelets. Returns how many have died: one that ends at once is seldom seen
    /// alive, but says why in its journal.
    fn count_kubelets(&mut self, new: &[(u32, u64)], journal: &str, before: &str) -> usize {
        self.kubelets.extend(new.iter().copied());
        let said = journal
            .lines()
            .filter(|line| is_fatal(line) && !before.lines().any(|old| old == *line));
        self.kubelet_fatal.extend(said.map(str::to_owned));
        let gone = self.kubelets.len() - new.len();
        gone.max(self.kubelet_fatal.len())
    }

    /// Adds a look. Returns why there is no hope, if so: the server died twice with the new command
    /// line, or it cannot even read its flags. A restart alone is never taken for a crash: between
    /// two containers there is no process, and the log is that of a server that ended well.
    fn count(
        &mut self,
        right: &[(u32, u64)],
        none: bool,
        log: &str,
        log_before: &str,
    ) -> Option<String> {
        let now: BTreeSet<_> = right.iter().copied().collect();
        self.gone.extend(self.alive.difference(&now));
        self.alive = now;
        let last = log
            .lines()
            .rev()
            .find(|line| is_fatal(line) && !log_before.lines().any(|old| old == *line));
        if let Some(line) = last {
            self.fatal.insert(line.to_owned());
        }
        if !none {
            self.down = None;
        } else if last.is_some_and(|line| message(line).starts_with("Error:")) {
            let since = *self.down.get_or_insert_with(Instant::now);
            if since.elapsed() >= DOWN {
                return Some("it ends at once".into());
            }
        }
        let deaths = self.gone.len().max(self.fatal.len());
        (deaths >= 2).then(|| format!("it was started and died {deaths} times"))
    }
}

/// Whether a server says in this line why it ends.
fn is_fatal(line: &str) -> bool {
    let line = message(line);
    let klog_fatal = line.starts_with('F') && line.get(1..5).is_some_and(is_number);
    klog_fatal
        || line.starts_with("Error:")
        || line.starts_with("panic:")
        || line.contains("level=fatal")
        || line.contains("\"command failed\"")
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// The last line that says why the server ended, or else the last one that is not indented as a
/// usage text is.
fn telling(log: &str) -> Option<&str> {
    let says = |line: &&str| {
        let text = message(line);
        !text.trim().is_empty() && !text.starts_with(char::is_whitespace)
    };
    let lines = || log.lines().rev();
    lines()
        .find(|line| is_fatal(line))
        .or_else(|| lines().find(says))
}

/// Cuts off what the container runtime puts before a line: time, stream and a tag.
fn message(line: &str) -> &str {
    let mut parts = line.splitn(4, ' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some("stdout" | "stderr"), Some("F" | "P"), Some(rest)) => rest,
        _ => line,
    }
}

/// Names the flags in which two command lines differ, as the new one has them.
pub(super) fn changed_flags(old: &[String], new: &[String]) -> Vec<String> {
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let mut changed: Vec<String> = new
        .iter()
        .filter(|flag| !old.contains(flag))
        .cloned()
        .collect();
    for flag in old.iter().filter(|flag| !new.contains(flag)) {
        if !new.iter().any(|other| name(other) == name(flag)) {
            changed.push(format!("no {}", name(flag)));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_the_flags_that_differ() {
        let old = words("kube-apiserver --a=1 --b=2 --c=3");
        let new = words("kube-apiserver --a=1 --b=9 --d");
        assert_eq!(changed_flags(&old, &new), ["--b=9", "--d", "no --c"]);
    }

    #[test]
    fn a_restart_is_no_crash_and_a_refused_flag_is() {
        let mut crashes = Crashes::default();
        let before = "I0101 serving\n";
        // The old server ends, nothing runs for a while, the new one comes.
        for (right, none, log) in [
            (vec![], false, "I0101 shutting down\nE0101 watch closed\n"),
            (vec![], true, "I0101 shutting down\nE0101 watch closed\n"),
            (vec![(7, 7)], false, "I0102 starting\n"),
            (
                vec![],
                true,
                "E0102 run.go:72] \"command failed\" err=\"etcd\"\n",
            ),
            (vec![(8, 8)], false, "I0103 starting\n"),
        ] {
            assert_eq!(crashes.count(&right, none, log, before), None);
        }
        let died = "E0104 run.go:72] \"command failed\" err=\"invalid\"\n";
        assert!(crashes.count(&[], true, died, before).is_some());

        let mut crashes = Crashes {
            down: Instant::now().checked_sub(DOWN),
            ..Crashes::default()
        };
        let log = "2026-01-01T00:00:00Z stderr F Error: unknown flag: --bad\n";
        assert!(crashes.count(&[], true, log, before).is_some());
        // The same line from before says nothing about now.
        assert_eq!(Crashes::default().count(&[], true, log, log), None);
    }

    #[test]
    fn finds_the_line_that_tells() {
        let log = "Usage:\n  kube-apiserver [flags]\nError: unknown flag: --bad\n\n";
        assert_eq!(telling(log), Some("Error: unknown flag: --bad"));
        assert_eq!(telling("I1 a\nE2 b\n\n"), Some("E2 b"));
        assert_eq!(telling(""), None);
    }
}
