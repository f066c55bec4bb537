//! The states of files that a generation found and left.

use crate::fact::{Ids, sha256};
use crate::plan::{FileAction, FileState, FileTarget};

/// The state that an action leaves.
pub(super) fn after(action: &FileAction) -> FileState {
    match (&action.after, &action.before) {
        (FileTarget::Absent, _) => FileState::Absent,
        (
            FileTarget::Text {
                text,
                mode,
                owner,
                group,
            },
            _,
        ) => FileState::File {
            sha256: sha256(text),
            mode: *mode,
            owner: owner.clone(),
            group: group.clone(),
        },
        (FileTarget::PreImage { state, .. }, _) => state.clone(),
        (
            FileTarget::Renewed {
                mode, owner, group, ..
            },
            _,
        ) => FileState::Kept {
            mode: *mode,
            owner: owner.clone(),
            group: group.clone(),
        },
        (FileTarget::Owner(ids), _) => FileState::Owners { owners: vec![*ids] },
        (FileTarget::Mode { mode, owner, group }, FileState::File { sha256, .. }) => {
            FileState::File {
                sha256: sha256.clone(),
                mode: *mode,
                owner: owner.clone(),
                group: group.clone(),
            }
        }
        (FileTarget::Mode { mode, owner, group }, _) => FileState::Mode {
            mode: *mode,
            owner: owner.clone(),
            group: group.clone(),
        },
    }
}

pub(super) fn permissions(state: &FileState) -> Option<(u32, &str, &str)> {
    match state {
        FileState::Absent | FileState::Owners { .. } => None,
        FileState::File {
            mode, owner, group, ..
        }
        | FileState::Mode { mode, owner, group }
        | FileState::Kept { mode, owner, group } => Some((*mode, owner, group)),
    }
}

/// Describes a state in one line.
pub(super) fn words(state: &FileState) -> String {
    match state {
        FileState::Absent => "absent".into(),
        FileState::File {
            sha256,
            mode,
            owner,
            group,
        } => {
            let short = sha256.get(..12).unwrap_or(sha256);
            format!("{short}… {mode:04o} {owner}:{group}")
        }
        FileState::Mode { mode, owner, group } => format!("{mode:04o} {owner}:{group}"),
        FileState::Kept { mode, owner, group } => {
            format!("known to its node alone, {mode:04o} {owner}:{group}")
        }
        FileState::Owners { owners } => {
            let owners: Vec<String> = owners.iter().map(Ids::to_string).collect();
            format!("all of it owned by {}", owners.join(" or "))
        }
    }
}

/// What a change shows of a state; nothing for a file that is not there.
pub(super) fn shown(state: &FileState) -> Option<String> {
    (*state != FileState::Absent).then(|| words(state))
}

/// Whether more people can do more with the file than before: permission bits are added, or it is
/// given to somebody else.
pub(super) fn loosens(before: &FileState, after: &FileState) -> bool {
    match (permissions(before), permissions(after)) {
        (Some((old, owner, group)), Some((new, new_owner, new_group))) => {
            new & !old != 0 || (owner, group) != (new_owner, new_group)
        }
        _ => false,
    }
}

/// Whether what is there is what an action found: then there is nothing to undo.
pub(super) fn is_undone(action: &FileAction, now: &FileState) -> bool {
    match (&action.after, now) {
        // Its content is nobody's business.
        (FileTarget::Mode { .. }, FileState::Absent) => false,
        (FileTarget::Mode { .. }, now) => permissions(&action.before) == permissions(now),
        (_, now) => action.before == *now,
    }
}
