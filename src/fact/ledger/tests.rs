#![allow(clippy::unwrap_used)]

use super::*;

fn policy(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: "networking.k8s.io/v1".into(),
        kind: "NetworkPolicy".into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn made() -> Entry {
    Entry {
        how: How::Made,
        workspace: "prod".into(),
    }
}

/// Writes entries as the cluster keeps them.
fn parts(entries: &BTreeMap<ObjectRef, Entry>) -> BTreeMap<String, BTreeMap<String, String>> {
    let edit = LedgerEdit {
        add: entries.clone(),
        ..LedgerEdit::default()
    };
    let parts = edit.by_part().into_iter();
    parts
        .map(|(name, part)| (name, write_part(&part.add).unwrap()))
        .collect()
}

#[test]
fn seven_thousand_objects_are_far_below_the_limit_and_come_back() {
    let all: BTreeMap<ObjectRef, Entry> = (0..7000)
        .map(|n| {
            let name = format!("tenant-with-a-long-name-{:04}", n / 7);
            (policy(&name, &format!("harden-policy-{}", n % 7)), made())
        })
        .collect();
    let parts = parts(&all);
    assert_eq!(parts.len(), 16);
    let longest = parts.values().map(|data| data["entries"].len()).max();
    assert!(longest.unwrap() < 128 * 1024, "{longest:?}");
    let read = Ledger::read(parts);
    assert_eq!(read.entries, all);
    assert!(read.damaged.is_empty());
}

/// A part with one line, whose digest fits.
fn part_of_line(name: &str, line: &str) -> Ledger {
    let line = format!("{line}\n");
    let data = [
        ("schema".to_owned(), SCHEMA.to_owned()),
        ("sha256".to_owned(), sha256(&line)),
        ("entries".to_owned(), line),
    ];
    Ledger::read([(name.to_owned(), data.into())])
}

#[test]
fn a_damaged_part_lists_nothing_and_says_why() {
    let reference = policy("pay", "p");
    let name = part_of(&reference);
    let good = write_part(&[(reference.clone(), made())].into()).unwrap();
    assert_eq!(
        Ledger::read([(name.clone(), good.clone())]).entries.len(),
        1
    );
    let with = |key: &str, text: &str| {
        let mut data = good.clone();
        data.insert(key.into(), text.into());
        data
    };
    let mut without = good.clone();
    without.remove("entries");
    for (data, why) in [
        (without, "it has no key `entries`"),
        (
            with("schema", "harden.dev/ledger/v9"),
            "its `schema` is not \"harden.dev/ledger/v1\"",
        ),
        (
            with("entries", ""),
            "it was edited: its `sha256` does not fit its `entries`",
        ),
    ] {
        let read = Ledger::read([(name.clone(), data)]);
        assert!(read.entries.is_empty());
        assert_eq!(read.damaged, [(name.clone(), why.to_owned())].into());
    }
    let misplaced = Ledger::read([("harden-ledger-x".to_owned(), good)]);
    assert_eq!(
        misplaced.damaged["harden-ledger-x"],
        "line 1 belongs into another part"
    );
}

#[test]
fn a_line_that_names_no_object_of_harden_s_is_refused() {
    let line = |version: &str, kind: &str, namespace: &str, name: &str| {
        let how = "made";
        serde_json::json!({
            "apiVersion": version, "kind": kind, "namespace": namespace, "name": name, "how": how, "workspace": "w",
        })
        .to_string()
    };
    for (bad, why) in [
        (line("v1", "Secret", "pay", "token"), "names a Secret"),
        (line("v1", "Pod", "../x", "a"), "names no object"),
        (line("v1", "Pod", "pay", "a/log"), "names no object"),
        (line("v1", "Pod", "pay", ".."), "names no object"),
        (line("v1", "Pod", "pay", "a?x=1"), "names no object"),
        (line("v1", "Pod\u{1b}[2J", "pay", "a"), "names no object"),
        (line("a/b/c", "Pod", "pay", "a"), "names no object"),
        (line("", "Pod", "pay", "a"), "names no object"),
        ("{}".into(), "is no entry"),
        ("[".into(), "is no entry"),
    ] {
        let read = part_of_line("harden-ledger-0", &bad);
        assert!(read.entries.is_empty(), "{bad}");
        let told = &read.damaged["harden-ledger-0"];
        assert!(told.contains(why), "{bad}: {told}");
    }
}

#[test]
fn another_version_of_the_api_is_the_same_object() {
    let old = ObjectRef {
        api_version: "networking.k8s.io/v1beta1".into(),
        ..policy("pay", "p")
    };
    let new = policy("pay", "p");
    assert_eq!(part_of(&old), part_of(&new));
    let mut entries = BTreeMap::from([(old.clone(), made())]);
    let ledger = Ledger {
        entries: entries.clone(),
        ..Ledger::default()
    };
    assert_eq!(ledger.by_identity()[&new.identity()], &made());
    let edit = LedgerEdit {
        add: [(new.clone(), made())].into(),
        ..LedgerEdit::default()
    };
    assert!(edit.edit(&mut entries));
    assert_eq!(entries.keys().collect::<Vec<_>>(), [&new]);
    assert!(!edit.edit(&mut entries));
    let edit = LedgerEdit {
        remove: [old].into(),
        ..LedgerEdit::default()
    };
    assert!(edit.edit(&mut entries));
    assert!(entries.is_empty());
}
