//! Laws of merging, against a model: what a file comes to is what its imports come to, and its own
//! values instead of theirs; neither order nor repetition of the imports decides anything.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use harden::fact::canonical_json;
use harden::module::{Modules, evaluate};
use harden::profile::{Failure, Workspace, load, modules};
use harden::resource::Desired;
use proptest::prelude::*;
use serde_json::Value as Json;

/// An option of every type that can have an order, and one without.
const MODULE: &str = r#"
[module]
summary = "x"
on = "api"
[options.bool]
type = "bool"
stricter = true
doc = "A."
risk = "safe"
[options.low]
type = "int"
stricter = "lower"
doc = "A."
risk = "safe"
[options.high]
type = "duration"
stricter = "higher"
doc = "A."
risk = "safe"
[options.quantity]
type = "quantity"
stricter = "lower"
doc = "A."
risk = "safe"
[options.word]
type = "enum"
values = ["lax", "middling", "strict"]
stricter = "later"
doc = "A."
risk = "safe"
[options.mode]
type = "mode"
stricter = "lower"
doc = "A."
risk = "safe"
[options.free]
type = "int"
doc = "A."
risk = "safe"
[options.set]
type = "set"
items = "int"
doc = "A."
risk = "safe"
[[object]]
manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "x", namespace = "x" }, data = { a = "${?m.bool}", b = "${?m.low}", c = "${?m.high}", d = "${?m.quantity}", e = "${?m.word}", f = "${?m.mode}", g = "${?m.free}", h = "${?m.set}" } }
"#;

const OPTIONS: [&str; 8] = [
    "bool", "low", "high", "quantity", "word", "mode", "free", "set",
];

/// How an option's number is written: several numbers in two ways.
fn written(option: &str, n: usize) -> String {
    match option {
        "bool" => (n % 2 == 1).to_string(),
        "high" => ["\"90s\"", "\"1m30s\"", "\"2m\"", "\"1h\""][n].to_owned(),
        "quantity" => ["\"1\"", "\"1000m\"", "\"2\"", "\"3\""][n].to_owned(),
        "word" => ["\"lax\"", "\"middling\"", "\"strict\"", "\"strict\""][n].to_owned(),
        "mode" => ["\"0600\"", "\"0640\"", "\"0440\"", "\"0400\""][n].to_owned(),
        "set" => format!("[{n}, 7]"),
        _ => n.to_string(),
    }
}

/// What holds of several definitions above which no other stands; `None` when they disagree.
fn settled(option: &str, given: &BTreeSet<usize>) -> Option<Json> {
    let most = |order: [usize; 4]| given.iter().copied().max_by_key(|n| order[*n]);
    let text = |texts: [&str; 4], n: usize| Json::from(texts[n]);
    let low = *given.first()?;
    Some(match option {
        "bool" => Json::from(given.iter().any(|n| n % 2 == 1)),
        "low" => Json::from(low),
        "high" => text(["1m30s", "1m30s", "2m", "1h"], most([0, 0, 1, 2])?),
        "quantity" => text(["1", "1000m", "2", "3"], low),
        "word" => text(["lax", "middling", "strict", "strict"], most([0, 1, 2, 2])?),
        "mode" => {
            let bits = [0o600, 0o640, 0o440, 0o400];
            let least = given.iter().fold(0o777, |all, n| all & bits[*n]);
            // The bits that all have must be those of one.
            let one = given.iter().find(|n| bits[**n] == least)?;
            text(["0600", "0640", "0440", "0400"], *one)
        }
        "set" => {
            let mut all: BTreeSet<usize> = given.clone();
            all.insert(7);
            Json::from(all.into_iter().collect::<Vec<_>>())
        }
        _ if given.len() == 1 => Json::from(low),
        _ => return None,
    })
}

/// Whether a value is at least as strict as another.
fn at_least(option: &str, one: &Json, other: &Json) -> bool {
    let place =
        |order: &[&str], value: &Json| order.iter().position(|o| Some(*o) == value.as_str());
    match option {
        "bool" => one == &Json::from(true) || one == other,
        "low" => one.as_i64() <= other.as_i64(),
        "high" => {
            let order = ["1m30s", "2m", "1h"];
            place(&order, one) >= place(&order, other)
        }
        "word" => {
            let order = ["lax", "middling", "strict"];
            place(&order, one) >= place(&order, other)
        }
        "quantity" => {
            let order = ["3", "2", "1000m", "1"];
            // The last two are the same.
            place(&order, one).min(Some(2)) >= place(&order, other).min(Some(2))
        }
        "mode" => {
            let bits = |value: &Json| u32::from_str_radix(value.as_str().unwrap(), 8).unwrap();
            bits(one) & !bits(other) == 0
        }
        "set" => other
            .as_array()
            .unwrap()
            .iter()
            .all(|item| one.as_array().unwrap().contains(item)),
        _ => one == other,
    }
}

/// A file of the model.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Indices of later files, in any order and repeatedly.
    imports: Vec<usize>,
    /// By option.
    own: BTreeMap<usize, usize>,
    unset: BTreeSet<usize>,
}

/// Files of which each may import those that follow it; the first is `harden.toml`. They are about
/// few options, so that the same one is set and unset in several files.
fn graph() -> impl Strategy<Value = Vec<Node>> {
    let node = |i: usize, count: usize, option: usize| {
        let imports = if i + 1 < count {
            prop::collection::vec(i + 1..count, 0..4).boxed()
        } else {
            Just(Vec::new()).boxed()
        };
        let options = prop::sample::select(vec![option, (option + 1) % OPTIONS.len()]);
        let own = prop::collection::btree_map(options.clone(), 0..4_usize, 0..3);
        let unset = prop::option::weighted(0.3, options);
        (imports, own, unset).prop_map(|(imports, own, unset)| Node {
            imports,
            own,
            unset: unset.into_iter().collect(),
        })
    };
    (2..7_usize, 0..OPTIONS.len()).prop_flat_map(move |(count, option)| {
        let nodes: Vec<_> = (0..count).map(|i| node(i, count, option)).collect();
        nodes
    })
}

fn name(i: usize) -> String {
    match i {
        0 => "harden.toml".into(),
        i => format!("f{i}.toml"),
    }
}

/// The built-in modules and the one above, read once.
static MODULES: LazyLock<Modules> = LazyLock::new(|| {
    let root = "modules = [\"m.toml\"]".to_owned();
    let dir = workspace(&[("harden.toml", root), ("m.toml", MODULE.to_owned())]);
    modules(dir.path()).unwrap_or_else(|e| panic!("{e:#}"))
});

static BUILTIN: LazyLock<Modules> = LazyLock::new(|| Modules::builtin().unwrap());

fn write(dir: &Path, nodes: &[Node]) {
    for (i, node) in nodes.iter().enumerate() {
        let imports: Vec<String> = node.imports.iter().map(|i| name(*i)).collect();
        let option = |o: &usize| format!("m.{}", OPTIONS[*o]);
        let unset: Vec<String> = node.unset.iter().map(option).collect();
        let mut text = format!("imports = {imports:?}\nunset = {unset:?}\n");
        for (o, n) in &node.own {
            text.push_str(&format!("{} = {}\n", option(o), written(OPTIONS[*o], *n)));
        }
        if i == 0 {
            text = format!("{text}[cluster]\nname = \"x\"\n");
        }
        fs::write(dir.join(name(i)), text).unwrap();
    }
}

fn read(dir: &Path) -> Result<Workspace, Failure> {
    load(dir, &MODULES)
}

fn loaded(nodes: &[Node]) -> Result<BTreeMap<String, Json>, Failure> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), nodes);
    values(read(dir.path()))
}

fn values(workspace: Result<Workspace, Failure>) -> Result<BTreeMap<String, Json>, Failure> {
    let values = workspace?.values;
    let values = values.iter().map(|(n, v)| (n.to_owned(), v.json()));
    Ok(values.collect())
}

/// What every file reaches.
fn below(nodes: &[Node]) -> Vec<BTreeSet<usize>> {
    let mut below = vec![BTreeSet::new(); nodes.len()];
    for i in (0..nodes.len()).rev() {
        for import in &nodes[i].imports {
            let reached = below[*import].clone();
            below[i].extend(reached);
            below[i].insert(*import);
        }
    }
    below
}

/// The numbers of an option that a file comes to: its own, or those of its imports; of a set both.
fn arriving(nodes: &[Node], file: usize, o: usize) -> BTreeSet<usize> {
    let node = &nodes[file];
    let own: BTreeSet<usize> = node.own.get(&o).copied().into_iter().collect();
    if node.unset.contains(&o) || (!own.is_empty() && OPTIONS[o] != "set") {
        return own;
    }
    let imported = node.imports.iter().flat_map(|i| arriving(nodes, *i, o));
    own.into_iter().chain(imported).collect()
}

/// What the model says, or the options that are disagreed on or unset in vain.
fn model(nodes: &[Node]) -> Result<BTreeMap<String, Json>, BTreeSet<String>> {
    let below = below(nodes);
    let read: Vec<usize> = std::iter::once(0).chain(below[0].iter().copied()).collect();
    let mut values = BTreeMap::new();
    let mut faults = BTreeSet::new();
    for (o, option) in OPTIONS.iter().enumerate() {
        let full = format!("m.{option}");
        let given: Vec<usize> = read
            .iter()
            .copied()
            .filter(|i| nodes[*i].own.contains_key(&o))
            .collect();
        let takers: Vec<usize> = read
            .iter()
            .copied()
            .filter(|i| nodes[*i].unset.contains(&o))
            .collect();
        for taker in &takers {
            if !given.iter().any(|i| below[*taker].contains(i)) {
                faults.insert(full.clone());
            }
        }
        let top = arriving(nodes, 0, o);
        if top.is_empty() {
            continue;
        }
        match settled(option, &top) {
            Some(value) => {
                values.insert(full, value);
            }
            None => {
                faults.insert(full);
            }
        }
    }
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(faults)
    }
}

/// The same graph in another shape: imports in other orders, some twice, and some by way of a file
/// that holds nothing. Values are where they were.
fn reshaped(nodes: &[Node], by: &[usize]) -> Vec<Node> {
    let mut shaped = nodes.to_vec();
    for (i, node) in nodes.iter().enumerate() {
        let mut imports = node.imports.clone();
        imports.reverse();
        if let Some(first) = imports.first().copied() {
            match by[i % by.len()] {
                0 => {}
                1 => imports.push(first),
                _ => {
                    shaped.push(Node {
                        imports: vec![first],
                        ..Node::default()
                    });
                    imports[0] = shaped.len() - 1;
                }
            }
        }
        shaped[i].imports = imports;
    }
    shaped
}

/// Which options the errors are about.
fn named(failure: &Failure) -> BTreeSet<String> {
    let texts = failure.0.iter().map(|fault| fault.message.clone());
    let of = |text: &String| {
        let found = OPTIONS.iter().find(|o| text.contains(&format!("`m.{o}`")));
        found.map(|o| format!("m.{o}"))
    };
    texts
        .map(|text| of(&text).unwrap_or_else(|| text.clone()))
        .collect()
}

/// What may be said of a tenant.
fn tenant() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    let fields = [
        ("pod-security", "\"baseline\""),
        ("pod-security", "\"restricted\""),
        ("network", "\"isolated\""),
        ("quota", "{ pods = \"3\" }"),
        ("quota", "{ \"requests.cpu\" = \"2\" }"),
        ("labels", "{ a = \"b\" }"),
        ("egress", "[{}]"),
    ];
    let field = prop::sample::select(fields.to_vec());
    let fields = prop::collection::vec(field, 0..5);
    fields.prop_map(|fields| {
        let owned = fields
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()));
        owned.collect()
    })
}

fn tenants(all: &BTreeMap<String, BTreeMap<&'static str, String>>) -> String {
    let mut text = String::new();
    for (name, fields) in all {
        text.push_str(&format!("[tenants.\"{name}\"]\n"));
        for (field, value) in fields {
            text.push_str(&format!("{field} = {value}\n"));
        }
    }
    text
}

fn workspace(files: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const CLUSTER: &str = "cluster.name = \"x\"\n";

fn desired(text: &str) -> Desired {
    let dir = workspace(&[("harden.toml", text.to_owned())]);
    let workspace = load(dir.path(), &BUILTIN).unwrap_or_else(|e| panic!("{e:#}"));
    evaluate(&workspace, &BUILTIN).unwrap_or_else(|e| panic!("{e:#}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_what_the_model_says(nodes in graph()) {
        match (loaded(&nodes), model(&nodes)) {
            (Ok(values), Ok(wanted)) => prop_assert_eq!(values, wanted),
            (Err(failure), Err(wanted)) => prop_assert_eq!(named(&failure), wanted, "{:#}", failure),
            (values, wanted) => prop_assert!(false, "{values:?} {wanted:?}"),
        }
    }

    #[test]
    fn the_shape_of_imports_means_nothing(
        nodes in graph(),
        by in prop::collection::vec(0..3_usize, 1..6),
    ) {
        match (loaded(&nodes), loaded(&reshaped(&nodes, &by))) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (Err(one), Err(other)) => prop_assert_eq!(named(&one), named(&other)),
            (one, other) => prop_assert!(false, "{one:?} {other:?}"),
        }
    }

    #[test]
    fn one_more_import_makes_nothing_laxer_and_takes_nothing_back(nodes in graph(), more in 0..6_usize) {
        let mut root = nodes.clone();
        root[0].own.clear();
        root[0].unset.clear();
        let before = loaded(&root);
        root[0].imports.push(1 + more % (nodes.len() - 1));
        if let (Ok(before), Ok(after)) = (before, loaded(&root)) {
            for (name, value) in &before {
                let (Some(now), Some(option)) = (after.get(name), name.strip_prefix("m.")) else {
                    prop_assert!(false, "{name} is gone: {before:?} {after:?}");
                    continue;
                };
                prop_assert!(at_least(option, now, value), "{name}: {value} became {now}");
            }
        }
    }

    #[test]
    fn importing_a_directory_is_importing_each_of_its_files(nodes in graph()) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &nodes);
        let files: Vec<String> = (1..nodes.len()).map(|i| format!("d/{}", name(i))).collect();
        fs::create_dir(dir.path().join("d")).unwrap();
        for i in 1..nodes.len() {
            let at = dir.path().join(name(i));
            fs::rename(at, dir.path().join("d").join(name(i))).unwrap();
        }
        let root = |imports: &[String]| {
            let text = format!("imports = {imports:?}\n{CLUSTER}");
            fs::write(dir.path().join("harden.toml"), text).unwrap();
            values(read(dir.path()))
        };
        let each = root(&files);
        let whole = root(&["d".to_owned()]);
        match (each, whole) {
            (Ok(each), Ok(whole)) => prop_assert_eq!(each, whole),
            (Err(each), Err(whole)) => prop_assert_eq!(named(&each), named(&whole)),
            (each, whole) => prop_assert!(false, "{each:?} {whole:?}"),
        }
    }

    #[test]
    fn what_the_tenant_of_all_sets_is_what_each_leaves_open(
        every in tenant(),
        own in prop::collection::btree_map("[a-d]", tenant(), 0..4),
        in_import in any::<bool>(),
    ) {
        let star = tenants(&BTreeMap::from([("*".to_owned(), every.clone())]));
        let own_text = tenants(&own);
        let files = if in_import {
            let root = format!("imports = [\"a.toml\"]\n{CLUSTER}{own_text}");
            vec![("harden.toml", root), ("a.toml", star)]
        } else {
            vec![("harden.toml", format!("{CLUSTER}{star}{own_text}"))]
        };
        let mut spelled = own;
        for fields in spelled.values_mut() {
            for (field, value) in &every {
                fields.entry(field).or_insert_with(|| value.clone());
            }
        }
        let spelled = format!("{CLUSTER}{}", tenants(&spelled));
        let short = values(read(workspace(&files).path())).unwrap();
        let long = values(read(workspace(&[("harden.toml", spelled)]).path())).unwrap();
        let tenants = |all: &BTreeMap<String, Json>| {
            all.get("tenants").cloned().unwrap_or_else(|| serde_json::json!({}))
        };
        prop_assert_eq!(tenants(&short), tenants(&long));
    }

    #[test]
    fn a_default_that_is_unset_is_that_of_one_tenant_only(every in tenant(), at in 0..7_usize) {
        let fields: Vec<&str> = every.keys().copied().collect();
        prop_assume!(!fields.is_empty());
        let field = fields[at % fields.len()];
        let star = tenants(&BTreeMap::from([("*".to_owned(), every.clone())]));
        let root = format!(
            "imports = [\"a.toml\"]\nunset = [\"tenants.a.{field}\"]\n{CLUSTER}\
             tenants.a.namespaces = [\"a\"]\ntenants.b.namespaces = [\"b\"]\n"
        );
        let dir = workspace(&[("harden.toml", root), ("a.toml", star)]);
        let all = values(read(dir.path())).unwrap();
        let has = |tenant: &str, field: &str| all["tenants"][tenant].get(field).is_some();
        for name in fields {
            prop_assert_eq!(has("a", name), name != field);
            prop_assert!(has("b", name));
        }
    }

    #[test]
    fn a_value_of_a_node_that_is_shared_changes_nothing(
        shared in "0[46]00",
        own in "0[46]00",
        short in any::<bool>(),
    ) {
        let head = format!("{CLUSTER}files.kubelet-mode = \"{shared}\"\n");
        let written = if short { &own[1..] } else { &own };
        let alone = desired(&head);
        let with = desired(&format!("{head}[nodes.host.n1]\nfiles.kubelet-mode = \"{written}\"\n"));
        prop_assert_eq!(with.sha256() == alone.sha256(), shared == own);
        if shared == own {
            prop_assert_eq!(with, alone);
        } else {
            let of_node = with.resources.iter().filter(|r| r.only.as_deref() == Some("n1"));
            let excepted = with.resources.iter().filter(|r| r.except.contains("n1"));
            prop_assert_eq!(of_node.count(), alone.resources.len());
            prop_assert_eq!(excepted.count(), alone.resources.len());
        }
    }

    #[test]
    fn the_desired_state_reads_back_from_its_canonical_json(
        all in prop::collection::btree_map("[a-d]{1,3}", tenant(), 0..3),
    ) {
        let mut named = all;
        for (name, fields) in &mut named {
            fields.insert("namespaces", format!("[\"{name}\"]"));
        }
        let json = serde_json::to_value(desired(&format!("{CLUSTER}{}", tenants(&named)))).unwrap();
        let text = canonical_json(&json);
        let read: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &json);
        prop_assert_eq!(canonical_json(&read), text);
    }
}
