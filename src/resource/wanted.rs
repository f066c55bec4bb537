//! What is wanted of a flag, whether the values that it has are that, and what it becomes.

use serde::Serialize;
use serde_json::Value;

use super::Part;
use crate::distribution::list::{contradict, holds, items, same_item};
use crate::distribution::{Component, ComponentEdit, ListEdit};

/// What is wanted of a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wanted {
    /// Exactly this value.
    Exact(String),
    /// A list with some items and without others; one of the two may be empty. An item `KEY=VALUE`
    /// replaces one with the same key.
    List {
        /// At least these.
        with: Vec<String>,
        /// None of these.
        without: Vec<String>,
    },
    /// Some value; this one where there is none.
    Present(String),
    /// No such flag.
    Absent,
}

impl Wanted {
    /// Returns it for a reader who has no cluster at hand.
    pub(super) fn part(&self, component: Component, flag: &str) -> Part {
        let (merge, value) = match self {
            Wanted::Exact(value) => ("exact", Some(value.as_str().into())),
            Wanted::List { with, .. } if with.is_empty() => ("additive", None),
            Wanted::List { with, .. } => ("additive", Some(with.as_slice().into())),
            Wanted::Present(value) => ("present", Some(value.as_str().into())),
            Wanted::Absent => ("absent", None),
        };
        let merge = [("merge".to_owned(), merge.into())].into_iter();
        let value = value.map(|value: Value| ("value".to_owned(), value));
        let without = match self {
            Wanted::List { without, .. } if !without.is_empty() => Some(without.as_slice().into()),
            _ => None,
        };
        let without = without.map(|items: Value| ("without".to_owned(), items));
        Part::Setting {
            list: "flags",
            name: vec![component.to_string(), flag.to_owned()],
            wanted: merge.chain(value).chain(without).collect(),
        }
    }

    /// Reads the table of such a part back; `None` when it is none.
    fn of_part(wanted: &serde_json::Map<String, Value>) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = |key: &str| match wanted.get(key) {
            None => Some(Vec::new()),
            Some(items) => items.as_array()?.iter().map(text).collect(),
        };
        Some(match wanted.get("merge")?.as_str()? {
            "exact" => Wanted::Exact(text(wanted.get("value")?)?),
            "present" => Wanted::Present(text(wanted.get("value")?)?),
            "additive" => Wanted::List {
                with: texts("value")?,
                without: texts("without")?,
            },
            "absent" => Wanted::Absent,
            _ => return None,
        })
    }

    /// Whether this and what another resource wants of the flag can both be had: of lists, when no
    /// item is wanted by one and unwanted by the other.
    pub(super) fn shares_with(&self, other: &Wanted) -> bool {
        match (self, other) {
            (
                Wanted::List { with, without },
                Wanted::List {
                    with: other_with,
                    without: other_without,
                },
            ) => !contradict(with, without, other_with, other_without),
            _ => false,
        }
    }

    /// Whether the values that a flag has are what is wanted. A flag that is given several times
    /// with different values is not, unless any value will do: then each of them counts, as with
    /// `--service-account-key-file`.
    pub(super) fn satisfied(&self, values: &[String]) -> bool {
        match self {
            Wanted::Absent => values.is_empty(),
            Wanted::Exact(wanted) => {
                !values.is_empty() && values.iter().all(|value| value == wanted)
            }
            Wanted::Present(_) => {
                !values.is_empty() && values.iter().all(|value| !value.is_empty())
            }
            Wanted::List { with, without } => {
                let all_equal = values.windows(2).all(|pair| pair[0] == pair[1]);
                let found: Vec<&str> = items(values).collect();
                all_equal
                    && !found.iter().any(|item| holds(without, item))
                    && with.iter().all(|item| {
                        found.contains(&item.as_str())
                            && found
                                .iter()
                                .all(|other| *other == item || !same_item(other, item))
                    })
            }
        }
    }

    /// Returns what makes a copy with the values `own` what is wanted. `copies` are the values of
    /// all copies, first those of `ClusterConfiguration`, then those of the manifests by node.
    pub(super) fn edit(&self, name: &str, own: &[String], copies: &[&[String]]) -> ComponentEdit {
        let name = name.to_owned();
        let value = match self {
            Wanted::Absent => return ComponentEdit::RemoveFlag { name },
            Wanted::Exact(value) => value.clone(),
            // What another copy has was meant for this one as well.
            Wanted::Present(default) => copies
                .iter()
                .flat_map(|values| values.iter())
                .find(|value| !value.is_empty())
                .unwrap_or(default)
                .clone(),
            Wanted::List { with, without } => {
                let list = ListEdit {
                    own: items(own).map(str::to_owned).collect(),
                    all: copies
                        .iter()
                        .flat_map(|values| items(values))
                        .map(str::to_owned)
                        .collect(),
                    with: with.clone(),
                    without: without.clone(),
                };
                return ComponentEdit::EditList { name, list };
            }
        };
        ComponentEdit::SetFlag { name, value }
    }
}

/// Returns the value that a flag shall have where it has `given` so far; `None` for no flag. `wanted`
/// is the table of a [`Part::Setting`] of the list `flags`.
///
/// # Errors
/// When the table is no such one.
pub fn wanted_value(
    wanted: &serde_json::Map<String, Value>,
    given: &[String],
) -> Result<Option<String>, String> {
    let wanted = Wanted::of_part(wanted).ok_or("it does not say what is wanted of a flag")?;
    if wanted.satisfied(given) {
        return Ok(given.last().cloned());
    }
    Ok(match wanted.edit("", given, &[given]).settled() {
        ComponentEdit::SetFlag { value, .. } => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn list(with: &str, without: &str) -> Wanted {
        Wanted::List {
            with: words(with),
            without: words(without),
        }
    }

    /// The values of the flag after the edit.
    fn after(edit: ComponentEdit) -> Vec<String> {
        match edit.settled() {
            ComponentEdit::SetFlag { value, .. } => vec![value],
            _ => Vec::new(),
        }
    }

    #[test]
    fn what_satisfies_and_what_does_not() {
        let exact = |value: &str| Wanted::Exact(value.into());
        let present = Wanted::Present("/pki/ca.crt".into());
        for (wanted, values, holds) in [
            (exact("a"), vec!["a"], true),
            (exact("a"), vec!["a", "a"], true),
            (exact("a"), vec!["a", "b"], false),
            (exact("a"), vec![], false),
            (exact(""), vec![""], true),
            (Wanted::Absent, vec![], true),
            (Wanted::Absent, vec![""], false),
            (present.clone(), vec!["/own/ca.crt"], true),
            (present.clone(), vec!["/a.pub", "/b.pub"], true),
            (present.clone(), vec![], false),
            (present.clone(), vec![""], false),
            (present, vec!["/a.pub", ""], false),
            (list("A", ""), vec!["A"], true),
            (list("A", ""), vec!["B,A"], true),
            (list("A", ""), vec!["B"], false),
            (list("A", ""), vec![], false),
            (list("A", ""), vec!["A", "A,B"], false),
            (list("", "X"), vec![], true),
            (list("", "X"), vec![""], true),
            (list("", "X"), vec!["A"], true),
            (list("", "X"), vec!["A,X"], false),
            (list("", "X"), vec!["XY"], true),
            (list("A", "X"), vec!["A"], true),
            (list("A", "X"), vec!["A,X"], false),
            (list("A", "X"), vec![], false),
            (list("", "G=false"), vec!["G=true"], true),
            (list("", "G=false"), vec!["G=0"], false),
            (list("G=true", ""), vec!["G=true,G=false"], false),
        ] {
            let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            assert_eq!(wanted.satisfied(&values), holds, "{wanted:?} {values:?}");
        }
    }

    #[test]
    fn a_value_of_another_copy_goes_before_kubeadms() {
        let present = Wanted::Present("/pki/ca.crt".into());
        let own: Vec<String> = vec![String::new()];
        let other = words("/own/ca.crt");
        assert_eq!(after(present.edit("f", &own, &[&own, &other])), other);
        assert_eq!(after(present.edit("f", &[], &[&[]])), ["/pki/ca.crt"]);
    }

    #[test]
    fn only_lists_that_agree_share_a_flag() {
        let exact = Wanted::Exact("A".into());
        for (one, other, shared) in [
            (list("A", ""), list("B", ""), true),
            (list("A", ""), list("", "B"), true),
            (list("A", ""), list("", "A"), false),
            (list("G=true", ""), list("G=false", ""), false),
            (list("A", ""), exact.clone(), false),
            (exact.clone(), exact, false),
            (Wanted::Absent, list("", "A"), false),
        ] {
            assert_eq!(one.shares_with(&other), shared, "{one:?} {other:?}");
            assert_eq!(other.shares_with(&one), shared, "{other:?} {one:?}");
        }
    }

    fn item() -> impl Strategy<Value = String> {
        prop_oneof!["[A-D]", "[G-H]=(true|false|0|T)"]
    }

    /// As the table of a module may have them: one value a key, nothing both wanted and unwanted.
    fn wish() -> impl Strategy<Value = Wanted> {
        let some = || proptest::collection::vec(item(), 0..3);
        let wish = (some(), some()).prop_map(|(with, without)| {
            let mut kept: Vec<String> = Vec::new();
            for item in with {
                let clash = kept.iter().any(|known| same_item(known, &item));
                if !clash && !holds(&without, &item) {
                    kept.push(item);
                }
            }
            Wanted::List {
                with: kept,
                without,
            }
        });
        prop_oneof![
            wish,
            "[a-c]".prop_map(Wanted::Exact),
            "[a-c]".prop_map(Wanted::Present),
            Just(Wanted::Absent)
        ]
    }

    fn copy() -> impl Strategy<Value = Vec<String>> {
        let value = proptest::collection::vec(item(), 0..4).prop_map(|items| items.join(","));
        proptest::collection::vec(value, 0..3)
    }

    proptest! {
        #[test]
        fn every_copy_is_what_is_wanted_after_its_edit(
            wanted in wish(),
            copies in proptest::collection::vec(copy(), 1..4),
        ) {
            let all: Vec<&[String]> = copies.iter().map(Vec::as_slice).collect();
            for own in &copies {
                let values = after(wanted.edit("f", own, &all));
                prop_assert!(wanted.satisfied(&values), "{:?} of {:?} gave {:?}", wanted, own, values);
                let again = after(wanted.edit("f", &values, &[&values]));
                prop_assert_eq!(again, values);
            }
        }
    }
}
