//! `harden schema`: what editors are told agrees with what harden reads.
use std::sync::LazyLock;

use crate::command::{json, workspace};
use harden::profile;
use proptest::prelude::*;
use serde_json::Value;

/// A module that has an option of every type.
const MODULE: &str = r#"
[module]
summary = "Every type"
on      = "api"
[options.bool]
type = "bool"
doc  = "A switch."
risk = "safe"
[options.int]
type = "int"
min  = 1
max  = 9
unit = "days"
doc  = "A number."
risk = "safe"
[options.duration]
type = "duration"
min  = "1m"
doc  = "A time."
risk = "safe"
per  = "node"
[options.quantity]
type = "quantity"
doc  = "An amount."
risk = "safe"
[options.mode]
type = "mode"
doc  = "A mode."
risk = "safe"
per  = "node"
[options.cidr]
type = "cidr"
doc  = "A network."
risk = "safe"
[options.string]
type    = "string"
pattern = "[a-z]+|x-[0-9]"
doc     = "A word."
risk    = "safe"
[options.rust-pattern]
type    = "string"
pattern = "(?i)abc"
doc     = "A word with a pattern that only Rust has."
risk    = "safe"
[options.enum]
type   = "enum"
values = ["low", "high"]
doc    = "A choice."
risk   = "safe"
[options.list]
type  = "list"
items = "int"
doc   = "Numbers."
risk  = "safe"
[options.set]
type  = "set"
items = "string"
doc   = "Words."
risk  = "safe"
[options.map]
type  = "map"
items = "quantity"
doc   = "Amounts."
risk  = "safe"
[options.either]
type = "one-of"
of   = ["bool", { type = "enum", values = ["auto"] }]
doc  = "A switch, or a word."
risk = "safe"
[options.object]
type = "object"
doc  = "Anything."
risk = "safe"
[options.subject]
type = "rbac-subject"
doc  = "Somebody."
risk = "safe"
[options.record]
type = "record"
doc  = "Fields."
risk = "safe"
[options.record.fields.size]
type = "int"
doc  = "A size."
[options.attrs]
type = "attrs"
doc  = "Things."
risk = "safe"
[options.attrs.fields.size]
type = "int"
doc  = "A size."

[[object]]
[object.manifest]
apiVersion = "v1"
kind       = "ConfigMap"
metadata   = { name = "every", namespace = "default" }
[object.manifest.data]
bool   = "${?every.bool}"
int    = "${?every.int}"
time   = "${?every.duration}"
amount = "${?every.quantity}"
mode   = "${?every.mode}"
cidr   = "${?every.cidr}"
string = "${?every.string}"
rust   = "${?every.rust-pattern}"
enum   = "${?every.enum}"
list   = "${?every.list}"
set    = "${?every.set}"
map    = "${?every.map}"
either = "${?every.either}"
object = "${?every.object}"
who    = "${?every.subject}"
record = "${?every.record}"
[[object]]
for-each = "every.attrs as thing"
[object.manifest]
apiVersion = "v1"
kind       = "ConfigMap"
metadata   = { name = "${thing.name}", namespace = "default" }
data       = { size = "${thing.size}" }
"#;

const HEAD: &str = "modules = [\"every.toml\"]\ncluster.name = \"x\"\n";

/// Both schemas, with the options of the module above.
static VALIDATORS: LazyLock<[jsonschema::Validator; 2]> = LazyLock::new(validators);

fn validators() -> [jsonschema::Validator; 2] {
    let dir = workspace(&[("harden.toml", HEAD), ("every.toml", MODULE)]);
    [&["schema"][..], &["schema", "--profile"]].map(|args| {
        let schema = json(dir.path(), args);
        assert!(jsonschema::meta::is_valid(&schema), "{schema:#}");
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .build(&schema)
            .unwrap()
    })
}

fn instance(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    serde_json::to_value(table).unwrap()
}

/// Whether `profile::load` accepts a harden.toml.
fn loads(text: &str) -> bool {
    let dir = workspace(&[("harden.toml", text), ("every.toml", MODULE)]);
    let modules = profile::modules(dir.path()).unwrap();
    profile::load(dir.path(), &modules).is_ok()
}

/// Whether `profile::load` accepts an imported profile.
fn loads_imported(text: &str) -> bool {
    let head = format!("imports = [\"a.toml\"]\n{HEAD}");
    let files = [
        ("harden.toml", &*head),
        ("every.toml", MODULE),
        ("a.toml", text),
    ];
    let dir = workspace(&files);
    let modules = profile::modules(dir.path()).unwrap();
    profile::load(dir.path(), &modules).is_ok()
}

/// Options below `[every]` that both accept.
const GOOD: &[&str] = &[
    "bool = true",
    "int = 1",
    "int = 9",
    "duration = '1h30m'",
    "duration = '60s'",
    "quantity = '64Gi'",
    "quantity = '.5'",
    "quantity = '-1.'",
    "quantity = '1e+3'",
    "quantity = '1E'",
    "quantity = '500m'",
    "quantity = 20",
    "quantity = -1",
    "mode = '0600'",
    "mode = '600'",
    "cidr = '10.0.0.0/8'",
    "cidr = '0.0.0.0/0'",
    "cidr = '255.255.255.255/32'",
    "cidr = '10.0.0.0/08'",
    "cidr = 'FD00::/8'",
    "cidr = '::/0'",
    "cidr = '::ffff:10.0.0.0/104'",
    "string = 'abc'",
    "string = 'x-1'",
    "rust-pattern = 'ABC'",
    "enum = 'low'",
    "list = [1, 1]",
    "list = []",
    "set = ['a', 'a']",
    "map = { pods = 20, cpu = '1', \"requests.memory\" = '1Gi' }",
    "either = false",
    "either = 'auto'",
    "object = { a = [1, 2.5, { b = true }] }",
    "subject = { kind = 'User', name = 'https://login.example.com#anna' }",
    "subject = { kind = 'Group', name = 'pay devs' }",
    "subject = { kind = 'Group', name = 'é' }",
    "subject = { kind = 'ServiceAccount', name = 'dash.board-1', namespace = 'monitoring' }",
    "record = { size = 1 }",
    "record = {}",
    "attrs = { a = { size = 1 }, \"*\" = { size = 2 } }",
];

/// Options below `[every]` that both refuse.
const BAD: &[&str] = &[
    "none = 1",
    "bool = 'true'",
    "bool = 1",
    "int = 0",
    "int = 10",
    "int = '1'",
    "int = 1.5",
    "duration = 60",
    "duration = '60'",
    "duration = '1d'",
    "duration = ''",
    "duration = '1h 1m'",
    "quantity = '1 Gi'",
    "quantity = '1gi'",
    "quantity = '.'",
    "quantity = '1K'",
    "quantity = '1e'",
    "quantity = ''",
    "quantity = 1.5",
    "quantity = true",
    "mode = '0800'",
    "mode = '06'",
    "mode = '00600'",
    "mode = 600",
    "cidr = '10.0.0.0'",
    "cidr = '10.0.0.0/33'",
    "cidr = '10.0.0/8'",
    "cidr = '10.0.0.256/32'",
    "cidr = '010.0.0.0/8'",
    "cidr = '::/129'",
    "cidr = 'a/8'",
    "string = 'abc1'",
    "string = 'x-12'",
    "string = 'ax-1'",
    "string = ''",
    "enum = 'middle'",
    "enum = 'Low'",
    "enum = 1",
    "list = 1",
    "list = ['1']",
    "set = 'a'",
    "set = [1]",
    "map = { cpu = 'much' }",
    "map = ['cpu']",
    "either = 'never'",
    "either = 1",
    "object = 'a'",
    "object = []",
    "subject = 'anna'",
    "subject = {}",
    "subject = { kind = 'User' }",
    "subject = { name = 'anna' }",
    "subject = { kind = 'user', name = 'anna' }",
    "subject = { kind = 'User', name = '' }",
    "subject = { kind = 'User', name = ' anna' }",
    "subject = { kind = 'User', name = 'anna ' }",
    "subject = { kind = 'User', name = '*' }",
    "subject = { kind = 'User', name = 1 }",
    "subject = { kind = 'User', name = 'system:anonymous' }",
    "subject = { kind = 'Group', name = 'system:authenticated' }",
    "subject = { kind = 'Group', name = 'team', namespace = 'pay' }",
    "subject = { kind = 'User', name = 'anna', apiGroup = 'rbac.authorization.k8s.io' }",
    "subject = { kind = 'ServiceAccount', name = 'ci' }",
    "subject = { kind = 'ServiceAccount', name = 'ci', namespace = 'CI' }",
    "subject = { kind = 'ServiceAccount', name = 'ci:ci', namespace = 'ci' }",
    "record = { sise = 1 }",
    "record = { size = 'large' }",
    "record = [{ size = 1 }]",
    "attrs = { a = 1 }",
    "attrs = { a = { sise = 1 } }",
    "attrs = { \"*\" = { sise = 1 } }",
];

#[test]
fn every_type_as_harden_reads_it() {
    let [root, profile] = &*VALIDATORS;
    for (cases, wanted) in [(GOOD, true), (BAD, false)] {
        for case in cases {
            let own = format!("[every]\n{case}\n");
            let whole = format!("{HEAD}{own}");
            assert_eq!(loads(&whole), wanted, "load: {case}");
            assert_eq!(root.is_valid(&instance(&whole)), wanted, "schema: {case}");
            assert_eq!(loads_imported(&own), wanted, "import: {case}");
            assert_eq!(
                profile.is_valid(&instance(&own)),
                wanted,
                "schema of a profile: {case}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// An editor must never underline what harden accepts.
    #[test]
    fn a_schema_refuses_nothing_that_harden_accepts(
        option in proptest::sample::select(vec!["duration", "quantity", "mode", "cidr", "string"]),
        text in "[0-9]{1,3}(ms|s|m|h)([0-9]{1,2}s)?|[-+]?[0-9]{0,3}\\.?[0-9]{0,2}([numkMGTPE]i?|[eE][-+]?[0-9])?|[0-7]{2,5}|[0-9a-f:.]{1,9}/[0-9]{1,3}|[a-z]{0,3}|x-[0-9]",
    ) {
        let [root, _] = &*VALIDATORS;
        let whole = format!("{HEAD}[every]\n{option} = '{text}'\n");
        if loads(&whole) {
            prop_assert!(root.is_valid(&instance(&whole)), "{}", whole);
        }
    }
}

/// What a schema cannot tell, it must not refuse.
#[test]
fn what_only_harden_can_refuse() {
    let [root, _] = &*VALIDATORS;
    for case in [
        "duration = '1s'",
        "quantity = '1e99'",
        "cidr = '10.1.0.0/8'",
        "rust-pattern = 'abd'",
    ] {
        let text = format!("{HEAD}[every]\n{case}\n");
        assert!(!loads(&text), "{case}");
        assert!(root.is_valid(&instance(&text)), "{case}");
    }
}

/// Whole files, without `modules` and what it needs; whether both accept them.
const SETTINGS: &[(&str, bool)] = &[
    (
        "[cluster]\nname = 'x'\nkubeconfig = 'k'\ncontext = 'c'",
        true,
    ),
    ("", false),
    ("[cluster]", false),
    ("cluster = 'x'", false),
    ("[cluster]\nname = 1", false),
    ("[cluster]\nname = 'x'\nserver = 'y'", false),
    (
        "accept = ['apiserver.profiling', 'tenants.payments', 'tenants']\ncluster.name = 'x'",
        true,
    ),
    ("accept = ['apiserver']\ncluster.name = 'x'", true),
    ("accept = ['apiserve']\ncluster.name = 'x'", false),
    ("accept = ['tenantss']\ncluster.name = 'x'", false),
    ("accept = 'tenants'\ncluster.name = 'x'", false),
    ("unset = ['apiserver.profilin']\ncluster.name = 'x'", false),
    ("imports = 'a'\ncluster.name = 'x'", false),
    ("imports = ['builtin:cis-level2']\ncluster.name = 'x'", true),
    ("impots = []\ncluster.name = 'x'", false),
    ("cluster.name = 'x'\n[apply]\ngate-timeout = '4m'", true),
    ("cluster.name = 'x'\n[apply]\ngate-timeout = '4ms'", false),
    ("cluster.name = 'x'\n[apply]\ngate-timeout = 240", false),
    ("cluster.name = 'x'\n[apply]\npatience = '4m'", false),
    (
        "cluster.name = 'x'\n[nodes]\ntransport = 'docker'\nengine = 'podman'",
        true,
    ),
    ("cluster.name = 'x'\n[nodes]\ntransport = 'telnet'", false),
    (
        "cluster.name = 'x'\n[nodes]\nport = 65535\nbecome = 'none'",
        true,
    ),
    ("cluster.name = 'x'\n[nodes]\nport = 0", false),
    ("cluster.name = 'x'\n[nodes]\nport = 65536", false),
    (
        "cluster.name = 'x'\n[nodes]\nuser = '-oProxyCommand=x'",
        false,
    ),
    ("cluster.name = 'x'\n[nodes]\nuser = 'a b'", false),
    ("cluster.name = 'x'\n[nodes]\nuser = ''", false),
    ("cluster.name = 'x'\n[nodes]\nuser = 'ops-1'", true),
    ("cluster.name = 'x'\n[nodes]\nbecome = 'su'", false),
    (
        "cluster.name = 'x'\n[nodes.host.cp1]\naddress = '10.0.0.1'",
        true,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.CP1]\naddress = '10.0.0.1'",
        false,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.'-a']\naddress = '10.0.0.1'",
        false,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.cp1]\nhost = '10.0.0.1'",
        false,
    ),
    (
        "cluster.name = 'x'\n[nodes]\ndiscover = false\n[nodes.host.cp1]\nrole = 'worker'",
        true,
    ),
    (
        "cluster.name = 'x'\n[nodes]\ndiscover = false\nrole = 'worker'\n[nodes.host.cp1]",
        true,
    ),
    (
        "cluster.name = 'x'\n[nodes]\ndiscover = false\n[nodes.host.cp1]",
        false,
    ),
    (
        "cluster.name = 'x'\n[nodes]\ndiscover = true\n[nodes.host.cp1]",
        true,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.cp1.files]\nkeys-mode = '0400'",
        true,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.cp1.every]\nduration = '2m'",
        true,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.cp1.files]\nkeys-mode = 'rw'",
        false,
    ),
    ("cluster.name = 'x'\n[nodes.host.cp1.every]\nint = 2", false),
    (
        "cluster.name = 'x'\n[nodes.host.cp1.apiserver]\nprofiling = false",
        false,
    ),
    (
        "cluster.name = 'x'\n[nodes.host.cp1.tenants.a]\nnamespaces = ['a']",
        false,
    ),
    ("cluster.name = 'x'\n[apiservr]\nprofiling = false", false),
];

#[test]
fn settings_as_harden_reads_them() {
    let [root, _] = &*VALIDATORS;
    for (case, wanted) in SETTINGS {
        let text = format!("modules = ['every.toml']\n{case}\n");
        assert_eq!(loads(&text), *wanted, "load: {case}");
        assert_eq!(root.is_valid(&instance(&text)), *wanted, "schema: {case}");
    }
}

#[test]
fn an_imported_profile_has_no_settings() {
    let [_, profile] = &*VALIDATORS;
    for case in [
        "cluster.name = 'x'",
        "accept = ['tenants']",
        "modules = []",
        "[nodes]",
        "[apply]",
    ] {
        assert!(!loads_imported(case), "{case}");
        assert!(!profile.is_valid(&instance(case)), "{case}");
    }
}

/// The files right in a directory of the repository, with their texts.
fn files(dir: &str) -> Vec<(String, String)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_built_in_profiles_are_accepted() {
    let [_, profile] = &*VALIDATORS;
    let all = files("profiles");
    assert!(all.len() >= 4);
    for (name, text) in all {
        let errors: Vec<String> = profile
            .iter_errors(&instance(&text))
            .map(|e| e.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_examples_of_the_documents_are_accepted() {
    let [root, _] = &*VALIDATORS;
    let readme = (
        "README.md".to_owned(),
        // Shown as the output of `cat`.
        include_str!("../../README.md")
            .replace("$ cat harden.toml\n", "```toml\n")
            .replace("\n$ harden plan", "\n```\n"),
    );
    let mut seen = 0;
    for (name, text) in files("docs").into_iter().chain([readme]) {
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let Ok(table) = toml::from_str::<toml::Table>(block) else {
                continue;
            };
            let is_workspace = table
                .get("cluster")
                .is_some_and(|cluster| cluster.get("name").is_some());
            if !is_workspace {
                continue;
            }
            seen += 1;
            let errors: Vec<String> = root
                .iter_errors(&instance(block))
                .map(|e| e.to_string())
                .collect();
            assert_eq!(errors, Vec::<String>::new(), "{name}:\n{block}");
        }
    }
    assert!(seen >= 2, "{seen} examples");
}

#[test]
fn the_example_of_every_option_is_accepted() {
    let [_, profile] = &*VALIDATORS;
    let dir = workspace(&[]);
    let options = json(dir.path(), &["options"]);
    let mut seen = 0;
    for option in options["options"].as_array().unwrap() {
        let (Some(example), name) = (option["example"].as_str(), option["name"].as_str().unwrap())
        else {
            continue;
        };
        seen += 1;
        // The name of an entry is the user's, and must be one that an object can have.
        let name = name.replace("NAME", "name");
        assert!(
            profile.is_valid(&instance(&format!("{name} = {example}"))),
            "{name} = {example}"
        );
    }
    assert!(seen > 15, "{seen} examples");
}

#[test]
fn descriptions_are_the_options_texts() {
    let schema = json(workspace(&[]).path(), &["schema"]);
    let of = |pointer: &str| schema.pointer(pointer).unwrap().clone();
    let doc = "Serve profiling data at /debug/pprof.";
    assert_eq!(
        of("/properties/apiserver/properties/profiling/description"),
        doc
    );
    let quota = "/properties/tenants/additionalProperties/properties/quota/description";
    assert!(of(quota).as_str().unwrap().contains("ResourceQuota"));
    // Without a workspace there is no module of a workspace.
    assert!(schema.pointer("/properties/every").is_none());
    assert!(
        schema
            .pointer("/properties/nodes/properties/host/additionalProperties/properties/apiserver")
            .is_none()
    );
}
