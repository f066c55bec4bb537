//! What several files come to beside what is wanted, and what our drop-in becomes.

use crate::distribution::k3s::Given;
use crate::distribution::list::{holds, items, same_item};
use crate::distribution::{ComponentEdit, ListEdit};
use crate::resource::wanted::Wanted;

/// Of a flag that is given several times, the values that count. Of switches and numbers it is the last
/// (github.com/spf13/pflag bool.go, int.go, duration.go: `Set`); anything else may be a list, of which
/// all count (string_slice.go: `Set`).
pub(super) fn effective(wanted: &Wanted, mut values: Vec<String>) -> Vec<String> {
    if matches!(wanted, Wanted::List { .. }) && !values.is_empty() {
        return vec![values.join(",")];
    }
    let exact = matches!(wanted, Wanted::Exact(value) if is_single(value));
    if exact && values.iter().all(|value| is_single(value)) {
        values.drain(..values.len().saturating_sub(1));
    }
    values
}

/// Whether a value is a switch, a number, a time or an address, and so none of a list.
pub(super) fn is_single(value: &str) -> bool {
    let number = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"hmsun.".contains(&b))
    };
    matches!(value, "true" | "false") || number(value)
}

/// Whether what another file gives is against what is wanted, whatever ours adds.
pub(super) fn contradicts(wanted: &Wanted, other: &Given) -> bool {
    match wanted {
        Wanted::Absent => true,
        Wanted::Exact(value) => {
            let overruled = !other.later && is_single(value) && is_single(&other.value);
            *value != other.value && !overruled
        }
        Wanted::Present(_) => other.value.is_empty(),
        Wanted::List { with, without } => {
            let values = [other.value.clone()];
            let mut found = items(&values);
            found.any(|item| {
                let twin = |wanted: &String| wanted != item && same_item(wanted, item);
                holds(without, item) || with.iter().any(twin)
            })
        }
    }
}

/// What makes our drop-in bring what is wanted.
pub(super) fn edit(
    name: &str,
    wanted: &Wanted,
    given: &[Given],
    values: &[String],
) -> ComponentEdit {
    let name = name.to_owned();
    match wanted {
        Wanted::Absent => ComponentEdit::RemoveFlag { name },
        Wanted::Exact(value) | Wanted::Present(value) => ComponentEdit::SetFlag {
            name,
            value: value.clone(),
        },
        Wanted::List { with, without } => {
            let of = |own: bool| -> Vec<String> {
                let chosen = given.iter().filter(|one| one.own == own);
                chosen.map(|one| one.value.clone()).collect()
            };
            let (ours, others) = (of(true), of(false));
            // What nobody gives, the server may give by itself; that goes when ours is there.
            let own: Vec<String> = match given.is_empty() {
                true => items(values).map(str::to_owned).collect(),
                false => items(&ours).map(str::to_owned).collect(),
            };
            // What other files give, they go on giving.
            let theirs: Vec<&str> = items(&others).collect();
            let missing = with.iter().filter(|item| !theirs.contains(&item.as_str()));
            let list = ListEdit {
                all: own.clone(),
                own,
                with: missing.cloned().collect(),
                without: without.clone(),
            };
            ComponentEdit::EditList { name, list }
        }
    }
}

/// Whether our drop-in has no such flag afterwards.
pub(super) fn removes(edit: &ComponentEdit) -> bool {
    matches!(edit.clone().settled(), ComponentEdit::RemoveFlag { .. })
}

/// What all files come to with the edit.
pub(super) fn after(edit: &ComponentEdit, given: &[Given]) -> Option<String> {
    let ComponentEdit::SetFlag { value, .. } = edit.clone().settled() else {
        return None;
    };
    let ComponentEdit::EditList { .. } = edit else {
        return Some(value);
    };
    let others = given.iter().filter(|one| !one.own);
    let mut all: Vec<String> = others.map(|one| one.value.clone()).collect();
    all.push(value);
    Some(all.join(","))
}

pub(super) fn shown(values: &[String]) -> Option<String> {
    let mut shown: Vec<&str> = values.iter().map(String::as_str).collect();
    shown.dedup();
    (!shown.is_empty()).then(|| shown.join(" and "))
}
