//! Steps for servers of k3s and RKE2: our drop-in of their configuration, and a restart.

use std::collections::{BTreeMap, BTreeSet};

use super::stages::{attach, drop_changes, state_of};
use super::{FileAction, FileState, FileTarget, FlagValue, Gate, NodeStep, Step};
use crate::distribution::k3s::{ConfigError, Layout, ServerConfig, edit_drop_in};
use crate::distribution::{Component, ComponentEdit};
use crate::fact::{Answer, Fact, Facts, File, Node, Query};
use crate::resource::component_file::{MODE, OWNER, unified_diff};
use crate::resource::{Desired, Draft, Effect, Kind, Place, Problem, Severity};

/// Edits the drop-ins: one step a server, in the order of the nodes' names.
pub(super) fn steps(
    layout: &'static Layout,
    edits: &BTreeMap<String, BTreeMap<Component, Vec<ComponentEdit>>>,
    uniform: &BTreeSet<String>,
    draft: &mut Draft,
    facts: &Facts,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, edits) in edits {
        let Some(node) = facts.nodes.get(name) else {
            continue;
        };
        let ours =
            |effect: &Effect| matches!(effect, Effect::ServerConfig { node, .. } if node == name);
        match step(layout, node, edits) {
            Ok((mut step, diff)) => {
                if let Some(diff) = diff {
                    attach(draft, diff, ours);
                }
                step.uniform = uniform.contains(name);
                steps.push(Step::Node(step));
            }
            Err(error) => {
                drop_changes(draft, ours);
                draft.problems.push(Problem {
                    severity: Severity::Error,
                    place: Place::Node(name.clone()),
                    subject: error.path.clone(),
                    message: error.why.clone(),
                    remedy: error.remedy().to_owned(),
                });
            }
        }
    }
    steps
}

/// The step of one server, and the diff of its drop-in.
fn step(
    layout: &'static Layout,
    node: &Node,
    edits: &BTreeMap<Component, Vec<ComponentEdit>>,
) -> Result<(NodeStep, Option<String>), ConfigError> {
    let bad = |why: &str| ConfigError {
        path: layout.config.to_owned(),
        why: why.to_owned(),
    };
    let empty = BTreeMap::new();
    let files = match node.get(&Query::Config(layout.main_path())) {
        Fact::Value(Answer::Config(files)) => files,
        _ => &empty,
    };
    let file = files.get(layout.config_name());
    let before = file.map(|file| std::str::from_utf8(&file.content));
    let before = before
        .transpose()
        .map_err(|_| bad("it is not UTF-8 text"))?;
    let after = edit_drop_in(layout, before, edits)?;
    let old = ServerConfig::read(layout, files)?;
    let new = ServerConfig::read(layout, &with(files, layout, &after))?;
    let gate = |config: &ServerConfig| Gate {
        readyz_port: Some(config.port()),
        unit: Some(layout.unit()),
        flags: flags(layout, config, edits),
        ..Gate::default()
    };
    let changed = match before {
        // Only another place of the same words.
        Some(text) => text != after && old != new,
        None => after != "{}\n",
    };
    let diff = changed.then(|| unified_diff(layout.config, before, &after));
    let files = changed.then(|| FileAction {
        path: layout.config_path(),
        before: file.map_or(FileState::Absent, state_of),
        after: FileTarget::Text {
            text: after.clone(),
            mode: MODE,
            owner: OWNER.to_owned(),
            group: OWNER.to_owned(),
        },
    });
    let step = NodeStep {
        node: node.info.name.clone(),
        files: files.into_iter().collect(),
        units: vec![layout.unit()],
        gate: Some(gate(&new)),
        undo_gate: Some(gate(&old)),
        uniform: false,
    };
    Ok((step, diff.flatten()))
}

/// The files with our drop-in as it becomes.
fn with(files: &BTreeMap<String, File>, layout: &Layout, text: &str) -> BTreeMap<String, File> {
    let mut files = files.clone();
    let meta = crate::fact::Meta {
        kind: crate::fact::FileKind::Regular,
        mode: MODE,
        owner: OWNER.to_owned(),
        group: OWNER.to_owned(),
        size: 0,
    };
    let content = text.as_bytes().to_vec();
    files.insert(layout.config_name().to_owned(), File { meta, content });
    files
}

/// What the edited flags must be in the processes, where these can be looked at.
fn flags(
    layout: &Layout,
    config: &ServerConfig,
    edits: &BTreeMap<Component, Vec<ComponentEdit>>,
) -> Vec<FlagValue> {
    let mut all = BTreeSet::new();
    if !layout.mounts {
        return Vec::new();
    }
    for (component, edits) in edits {
        let mut names = BTreeSet::new();
        for edit in edits {
            match edit {
                ComponentEdit::SetFlag { name, .. }
                | ComponentEdit::RemoveFlag { name }
                | ComponentEdit::EditList { name, .. } => {
                    names.insert(name.clone());
                }
                // What runs is not what is configured: all of that must come.
                ComponentEdit::Restart(_) => names.extend(config.names(*component)),
                ComponentEdit::SetVolume(_) | ComponentEdit::RunAs(_) => {}
            }
        }
        for name in names {
            let given = config.given(*component, &name).into_iter();
            all.extend(given.map(|given| FlagValue {
                component: *component,
                name: name.clone(),
                value: given.value,
            }));
        }
    }
    all.into_iter().collect()
}

/// What should be known of every plan for k3s or RKE2.
pub(super) fn caveats(layout: &Layout, desired: &Desired, restarts: bool) -> Vec<Problem> {
    let caveat = |message: String, remedy: &str| Problem {
        severity: Severity::Warning,
        place: Place::Api,
        subject: layout.name.to_owned(),
        message,
        remedy: remedy.to_owned(),
    };
    let mut all = vec![caveat(
        format!(
            "what is known of it is from its documentation; nothing was run on a real {}",
            layout.name
        ),
        "try the profile on a cluster that may break first",
    )];
    let of_component = |kind: &Kind| matches!(kind, Kind::Flag(_) | Kind::ComponentFile(_));
    if !layout.mounts && desired.resources.iter().any(|r| of_component(&r.kind)) {
        all.push(caveat(
            "what its components run with cannot be read: they run inside its own process, so only its configuration \
             is compared"
                .into(),
            "if the configuration was changed since it was started, restart it (`systemctl restart k3s`), one server at a time",
        ));
    }
    if restarts {
        all.push(caveat(
            "it keeps its datastore to itself: of its health apply sees /readyz alone, and a restart takes an \
             embedded etcd member with it"
                .into(),
            "look at its members yourself before you apply, if it has several servers",
        ));
    }
    all
}
