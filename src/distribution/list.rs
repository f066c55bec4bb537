//! Flags whose value is a list of items with commas between them: edits of single items, which
//! several resources can make side by side.

/// An edit of a list that asks for some items and keeps what else is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListEdit {
    /// The items that the copy to be edited has.
    pub own: Vec<String>,
    /// The items that any copy has, in the order that all shall have.
    pub all: Vec<String>,
    /// The items that must be there. An item `KEY=VALUE` replaces one with the same key.
    pub with: Vec<String>,
    /// The items that must not be there.
    pub without: Vec<String>,
}

impl ListEdit {
    /// Returns the list after the edit; `None` when nothing is left in it.
    pub fn value(&self) -> Option<String> {
        let mut items: Vec<&str> = Vec::new();
        for item in &self.all {
            // Where copies disagree on a key, the first one holds.
            if !holds(&self.without, item) && !items.iter().any(|known| same_item(known, item)) {
                items.push(item);
            }
        }
        for item in &self.with {
            match items.iter_mut().find(|known| same_item(known, item)) {
                Some(known) => *known = item,
                None => items.push(item),
            }
        }
        (!items.is_empty()).then(|| items.join(","))
    }

    /// Joins the edit with another one of the same copy. `None` when they contradict each other.
    #[must_use]
    pub fn join(mut self, other: &ListEdit) -> Option<Self> {
        if contradict(&self.with, &self.without, &other.with, &other.without) {
            return None;
        }
        let extend = |list: &mut Vec<String>, more: &[String]| {
            for item in more {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        extend(&mut self.own, &other.own);
        extend(&mut self.all, &other.all);
        extend(&mut self.with, &other.with);
        extend(&mut self.without, &other.without);
        Some(self)
    }

    /// Takes nothing over from other copies that is unwanted there.
    pub fn spare(&mut self, unwanted: &[String]) {
        self.all
            .retain(|item| self.own.contains(item) || !holds(unwanted, item));
    }
}

/// Whether of two wishes for one list one asks for an item that the other does not want, or that
/// has another value there.
pub fn contradict(
    with: &[String],
    without: &[String],
    other_with: &[String],
    other_without: &[String],
) -> bool {
    let unwanted = |with: &[String], without: &[String]| with.iter().any(|i| holds(without, i));
    let differ = |a: &String, b: &String| a != b && same_item(a, b);
    unwanted(with, other_without)
        || unwanted(other_with, without)
        || with.iter().any(|a| other_with.iter().any(|b| differ(a, b)))
}

/// Returns the items of a flag that may be given several times.
pub fn items(values: &[String]) -> impl Iterator<Item = &str> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .filter(|item| !item.is_empty())
}

/// Whether two items are equal, or two values of one key as in `--feature-gates=A=true`.
pub fn same_item(a: &str, b: &str) -> bool {
    match (a.split_once('='), b.split_once('=')) {
        (Some((a, _)), Some((b, _))) => a.trim() == b.trim(),
        _ => a == b,
    }
}

/// Whether a list has an item. `A=0` is `A=false`.
pub fn holds(list: &[String], item: &str) -> bool {
    list.iter().any(|known| meaning(known) == meaning(item))
}

/// An item with its switch in one form: feature gates take all that Go's `strconv.ParseBool` takes,
/// with blanks around it (kubernetes v1.35
/// staging/src/k8s.io/component-base/cli/flag/map_string_bool.go: `Set`).
fn meaning(item: &str) -> (&str, Option<&str>) {
    match item.split_once('=') {
        None => (item, None),
        Some((key, value)) => {
            let value = match value.trim() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => "true",
                "0" | "f" | "F" | "false" | "FALSE" | "False" => "false",
                other => other,
            };
            (key.trim(), Some(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        items(&[text.to_owned()]).map(str::to_owned).collect()
    }

    fn edit(all: &str, with: &str, without: &str) -> ListEdit {
        ListEdit {
            own: list(all),
            all: list(all),
            with: list(with),
            without: list(without),
        }
    }

    #[test]
    fn an_edit_adds_replaces_and_removes() {
        for (all, with, without, after) in [
            ("", "A", "", Some("A")),
            ("A", "A", "", Some("A")),
            ("B", "A", "", Some("B,A")),
            ("A,B", "", "A", Some("B")),
            ("A", "", "A", None),
            ("A,A", "", "A", None),
            ("", "", "A", None),
            ("A", "", "B", Some("A")),
            ("A,B,C", "D", "B", Some("A,C,D")),
            ("A", "B", "A", Some("B")),
            ("AlwaysAllow", "Node,RBAC", "AlwaysAllow", Some("Node,RBAC")),
            (
                "RBAC,AlwaysAllow,Webhook",
                "Node",
                "AlwaysAllow",
                Some("RBAC,Webhook,Node"),
            ),
            ("G=false,H=true", "G=true", "", Some("G=true,H=true")),
            ("G=false,H=true", "", "G=false", Some("H=true")),
            ("G=0,H=true", "", "G=false", Some("H=true")),
            ("G = F", "", "G=false", None),
            ("G=true", "", "G=false", Some("G=true")),
            ("G=true,G=false", "", "G=true", Some("G=false")),
            ("G", "", "G=true", Some("G")),
        ] {
            let value = edit(all, with, without).value();
            assert_eq!(
                value.as_deref(),
                after,
                "{all} with {with} without {without}"
            );
        }
    }

    #[test]
    fn edits_of_one_list_are_joined_unless_they_contradict() {
        for (one, other, after) in [
            (("A", ""), ("B", ""), Some("X,A,B")),
            (("A", ""), ("A", ""), Some("X,A")),
            (("A", ""), ("", "X"), Some("A")),
            (("", "X"), ("", "Y"), None),
            (("G=true", ""), ("H=false", ""), Some("X,G=true,H=false")),
        ] {
            let joined = edit("X", one.0, one.1).join(&edit("X", other.0, other.1));
            assert_eq!(
                joined.unwrap().value().as_deref(),
                after,
                "{one:?} {other:?}"
            );
        }
        for (one, other) in [
            (("A", ""), ("", "A")),
            (("", "A"), ("A", "")),
            (("G=true", ""), ("G=false", "")),
            (("G=true", ""), ("", "G=1")),
        ] {
            let joined = edit("X", one.0, one.1).join(&edit("X", other.0, other.1));
            assert_eq!(joined, None, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_is_unwanted_elsewhere_does_not_spread() {
        let mut one = edit("A", "B", "");
        one.all = list("A,X");
        one.spare(&list("X,A"));
        assert_eq!(one.value().as_deref(), Some("A,B"));
    }
}
