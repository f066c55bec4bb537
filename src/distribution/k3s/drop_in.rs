//! The drop-in that is ours: what it becomes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::server_config::flag_of;
use super::{ConfigError, Entry, Layout};
use crate::distribution::kubeadm::{argv, document, read_yaml};
use crate::distribution::{Component, ComponentEdit};

/// Returns the text of our drop-in after these edits; what else is in it stays, apart from comments.
/// `before` is `None` where there is no such file.
///
/// # Errors
/// When what is there cannot be understood, or a volume cannot be mounted.
pub fn edit_drop_in(
    layout: &Layout,
    before: Option<&str>,
    edits: &BTreeMap<Component, Vec<ComponentEdit>>,
) -> Result<String, ConfigError> {
    let bad = |why: String| ConfigError {
        path: layout.config.to_owned(),
        why,
    };
    let mut fields = match before.map(str::trim) {
        None | Some("") => Map::new(),
        Some(text) => match read_yaml(text).map_err(|error| bad(error.to_string()))? {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err(bad("it is not a table of keys".into())),
        },
    };
    for (component, edits) in edits {
        for edit in edits {
            match edit.clone().settled() {
                ComponentEdit::SetFlag { name, value } => {
                    take(layout, *component, &name, &mut fields);
                    put(layout.flag_entry(*component, &name, &value), &mut fields);
                }
                ComponentEdit::RemoveFlag { name } => {
                    take(layout, *component, &name, &mut fields);
                }
                ComponentEdit::SetVolume(volume) => {
                    let entry = layout.mount_entry(*component, &volume);
                    if let Some(entry) = entry.map_err(|why| bad(why.to_owned()))? {
                        put(entry, &mut fields);
                    }
                }
                ComponentEdit::EditList { .. }
                | ComponentEdit::RunAs(_)
                | ComponentEdit::Restart(_) => {}
            }
        }
    }
    Ok(document(&Value::Object(fields)))
}

/// Takes a flag out.
fn take(layout: &Layout, component: Component, name: &str, fields: &mut Map<String, Value>) {
    if let Some(key) = layout.own_key(component, name) {
        fields.remove(key);
    }
    let key = Layout::args_key(component);
    for key in [format!("{key}+"), key] {
        let Some(list) = fields.get_mut(&key) else {
            continue;
        };
        let mut items = listed(list.take());
        items.retain(|item| {
            !item
                .as_str()
                .is_some_and(|item| argv::same_name(flag_of(item).0, name))
        });
        match items.is_empty() {
            true => drop(fields.remove(&key)),
            false => *list = Value::Array(items),
        }
    }
}

/// Adds an entry, once.
fn put(entry: Entry, fields: &mut Map<String, Value>) {
    let value = Value::from(entry.value);
    if !entry.is_list {
        fields.insert(entry.key, value);
        return;
    }
    // A person may have written the key without `+`.
    let key = match fields.contains_key(&entry.key) {
        true => entry.key,
        false => format!("{}+", entry.key),
    };
    let list = fields.entry(key).or_insert(Value::Null);
    let mut items = listed(list.take());
    if !items.contains(&value) {
        items.push(value);
    }
    *list = Value::Array(items);
}

fn listed(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        scalar => vec![scalar],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{K3S, RKE2};
    use super::*;
    use crate::distribution::Volume;
    use crate::distribution::k3s::ServerConfig;
    use crate::fact::{File, FileKind, Meta, NodePath};
    use proptest::prelude::*;

    fn set(name: &str, value: &str) -> ComponentEdit {
        ComponentEdit::SetFlag {
            name: name.into(),
            value: value.into(),
        }
    }

    fn edited(layout: &Layout, before: Option<&str>, edits: Vec<ComponentEdit>) -> String {
        let edits = BTreeMap::from([(Component::KubeApiserver, edits)]);
        edit_drop_in(layout, before, &edits).unwrap()
    }

    #[test]
    fn a_flag_takes_its_own_place_and_what_else_is_there_stays() {
        let text =
            "kubelet-arg+: v=2\nkube-apiserver-arg+:\n- v=1\n- --profiling\n- audit-log-maxage=1\n";
        insta::assert_snapshot!(edited(&K3S, Some(text), vec![set("profiling", "false")]), @r"
        kube-apiserver-arg+:
          - v=1
          - audit-log-maxage=1
          - profiling=false
        kubelet-arg+: v=2
        ");
        let remove = |name: &str| ComponentEdit::RemoveFlag { name: name.into() };
        let gone = edited(
            &K3S,
            Some("kube-apiserver-arg: [v=1]\n"),
            vec![remove("v"), remove("w")],
        );
        assert_eq!(gone, "{}\n");
        assert_eq!(
            edited(&K3S, None, vec![set("v", "1"), set("v", "2")]),
            "kube-apiserver-arg+:\n  - v=2\n"
        );
    }

    #[test]
    fn rke2_mounts_what_its_pods_read_and_names_a_policy_by_its_own_key() {
        let volume = |name: &str, read_only| {
            ComponentEdit::SetVolume(Volume {
                name: name.into(),
                host_path: NodePath::new("/dir").unwrap(),
                mount_path: NodePath::new("/dir").unwrap(),
                read_only,
                path_type: "DirectoryOrCreate".into(),
            })
        };
        let edits = vec![
            set("audit-policy-file", "/dir/policy"),
            volume("harden", true),
            volume("harden-audit-log", false),
        ];
        insta::assert_snapshot!(edited(&RKE2, Some("# ours\n"), edits.clone()), @r"
        audit-policy-file: /dir/policy
        kube-apiserver-extra-mount+:
          - /dir:/dir:ro
        ");
        assert_eq!(
            edited(&K3S, Some(""), edits),
            "kube-apiserver-arg+:\n  - audit-policy-file=/dir/policy\n"
        );
    }

    #[test]
    fn what_is_no_table_is_not_overwritten() {
        let error = edit_drop_in(&K3S, Some("- a\n"), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().starts_with(K3S.config), "{error}");
    }

    fn argument() -> impl Strategy<Value = String> {
        ("(--)?", "[a-c](-[ab])?[+-]?", "(=[xy,]{0,3})?").prop_map(|(a, b, c)| a + &b + &c)
    }

    proptest! {
        /// Whatever our drop-in was, it gives the flag once afterwards, and every other one as before.
        #[test]
        fn an_edit_is_read_back_and_changes_nothing_else(
            key in "kube-apiserver-arg[+]?",
            items in proptest::collection::vec(argument(), 0..5),
            name in "[a-c]",
            value in "[xy]{0,2}",
        ) {
            let text = document(&serde_json::json!({key: items}));
            let after = edited(&K3S, Some(&text), vec![set(&name, &value)]);
            let given = |text: &str, name: &str| -> Vec<String> {
                let meta = Meta {
                    kind: FileKind::Regular, mode: 0o600, owner: "root".into(), group: "root".into(), size: 1,
                };
                let file = File { meta, content: text.into() };
                let files = BTreeMap::from([(K3S.config_name().to_owned(), file)]);
                let config = ServerConfig::read(&K3S, &files).unwrap();
                let given = config.given(Component::KubeApiserver, name);
                given.into_iter().map(|one| one.value).collect()
            };
            prop_assert_eq!(given(&after, &name), [value.as_str()]);
            for other in ["a", "b", "c", "a-a", "b-b", "c-a"].into_iter().filter(|other| *other != name) {
                prop_assert_eq!(given(&after, other), given(&text, other), "{}", other);
            }
            prop_assert_eq!(edited(&K3S, Some(&after), vec![set(&name, &value)]), after);
        }

        #[test]
        fn hostile_texts_never_panic(text in "([a-z:+ \n-]|kube-apiserver-arg|\\[|\\]|&a|\\*a|!!|\"){0,40}") {
            let edits = BTreeMap::from([(Component::KubeApiserver, vec![set("v", "1")])]);
            let _ = edit_drop_in(&RKE2, Some(&text), &edits);
        }
    }
}
