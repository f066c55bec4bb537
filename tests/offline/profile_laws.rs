//! Laws of reading and merging, for any input.
use std::fs;
use std::sync::LazyLock;

use harden::module::Modules;
use harden::profile::{Failure, Workspace, load};
use proptest::prelude::*;

static BUILTIN: LazyLock<Modules> = LazyLock::new(|| Modules::builtin().unwrap());

fn read(files: &[(String, Vec<u8>)]) -> Result<Workspace, Failure> {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    load(dir.path(), &BUILTIN)
}

fn file(name: &str, text: String) -> (String, Vec<u8>) {
    (name.to_owned(), text.into_bytes())
}

const CLUSTER: &str = "[cluster]\nname = \"x\"\n";

/// A `harden.toml` of these lines.
fn root(imports: &str, lines: &[String]) -> (String, Vec<u8>) {
    file(
        "harden.toml",
        format!("imports = {imports}\n{}\n{CLUSTER}", lines.join("\n")),
    )
}

/// Values without their places.
fn values(workspace: &Workspace) -> Vec<(String, serde_json::Value)> {
    let values = workspace.values.iter();
    values
        .map(|(name, value)| (name.to_owned(), value.json()))
        .collect()
}

/// What a profile may say, line by line; every option at most once.
fn lines() -> impl Strategy<Value = Vec<String>> + 'static {
    let plugins = prop::collection::vec("[A-Z][a-c]", 0..4);
    let tenants = prop::collection::btree_map("[a-c]", ("[a-c]{1,2}", 1..9u8), 0..3);
    (
        prop::option::of(any::<bool>()),
        prop::option::of(1..9i64),
        prop::option::of(plugins),
        tenants,
    )
        .prop_map(|(profiling, age, plugins, tenants)| {
            let mut lines = Vec::new();
            lines.extend(profiling.map(|p| format!("apiserver.profiling = {p}")));
            lines.extend(age.map(|a| format!("audit.log-max-age = {a}")));
            lines.extend(plugins.map(|p| format!("apiserver.admission-plugins = {p:?}")));
            for (name, (namespace, pods)) in tenants {
                lines.push(format!("tenants.{name}.namespaces = [\"{namespace}\"]"));
                lines.push(format!("tenants.{name}.quota.pods = \"{pods}\""));
            }
            lines
        })
}

fn shuffled() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    lines().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle()))
}

/// Whether `merged` has everything of `own`: scalars equal, sets and tables at least.
fn holds(own: &serde_json::Value, merged: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (own, merged) {
        (Object(own), Object(merged)) => {
            let kept = |(key, value)| merged.get(key).is_some_and(|m| holds(value, m));
            own.iter().all(kept)
        }
        (Array(own), Array(merged)) => own.iter().all(|item| merged.contains(item)),
        (own, merged) => own == merged,
    }
}

const TEXT: &str = r#"(\[|\]|\{|\}|"|=|\.|\n|,|#|é|apiserver|profiling|tenants|cluster|name|imports|true|1|'|[ -~]){0,60}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(failure) = read(&[("harden.toml".into(), bytes)]) {
            let plain = format!("{failure:#}");
            prop_assert!(!plain.is_empty());
        }
    }

    #[test]
    fn any_text_is_answered(text in TEXT) {
        if let Err(failure) = read(&[file("harden.toml", text)]) {
            let plain = format!("{failure:#}");
            prop_assert!(!plain.is_empty());
            let mut shown = String::new();
            let handler = miette::GraphicalReportHandler::new();
            prop_assert!(handler.render_report(&mut shown, &failure).is_ok());
        }
    }

    #[test]
    fn the_order_of_lines_means_nothing((one, other) in shuffled()) {
        let one = read(&[root("[]", &one)]).unwrap();
        let other = read(&[root("[]", &other)]).unwrap();
        prop_assert_eq!(values(&one), values(&other));
    }

    #[test]
    fn the_order_of_imports_means_nothing(a in lines(), b in lines(), c in lines()) {
        let files = |imports: &str| {
            let (a, b) = (file("a.toml", a.join("\n")), file("b.toml", b.join("\n")));
            vec![root(imports, &c), a, b]
        };
        let one = read(&files(r#"["a.toml", "b.toml", "a.toml"]"#));
        let other = read(&files(r#"["b.toml", "a.toml", "b.toml"]"#));
        match (one, other) {
            (Ok(one), Ok(other)) => prop_assert_eq!(values(&one), values(&other)),
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert!(false, "{one:?} {other:?}"),
        }
    }

    #[test]
    fn own_values_win_and_sets_unite(own in lines(), imported in lines()) {
        let alone = read(&[root("[]", &own)]).unwrap();
        let imported = file("a.toml", imported.join("\n"));
        let both = read(&[root("[\"a.toml\"]", &own), imported]).unwrap();
        for (name, value) in values(&alone) {
            let merged = both.values.get(&name).unwrap().json();
            prop_assert!(holds(&value, &merged), "{name}: {value} in {merged}");
        }
    }

    #[test]
    fn importing_twice_is_importing_once(a in lines()) {
        let a = file("a.toml", a.join("\n"));
        let once = read(&[root("[\"a.toml\"]", &[]), a.clone()]).unwrap();
        let again = file("b.toml", "imports = [\"a.toml\"]".into());
        let twice = read(&[root("[\"a.toml\", \"b.toml\"]", &[]), a, again]).unwrap();
        prop_assert_eq!(once.values, twice.values);
    }
}
