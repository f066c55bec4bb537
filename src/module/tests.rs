//! Modules as their author meets them, and what becomes of values.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::check::{Spot, check};
use super::expand::{Draft, expand};
use super::expression::Surroundings;
use super::*;
use crate::profile::Values;
use crate::profile::layer::Layer;
use crate::profile::merge::merge;
use crate::profile::section::quoted;
use crate::resource::Risk;

fn file(name: &str, text: &str) -> File {
    File {
        name: name.to_owned(),
        text: text.into(),
    }
}

fn modules(texts: &[(&str, &str)]) -> Result<Modules, Failure> {
    let files = texts.iter().map(|(name, text)| {
        let file = file(&format!("modules/{name}.toml"), text);
        ((*name).to_owned(), file)
    });
    Modules::read(files.collect())
}

/// What is wrong with a module, with the usual heading before `text`.
fn wrong(text: &str) -> String {
    let text = format!("[module]\nsummary = \"x\"\non = \"api\"\n{text}");
    format!("{:#}", modules(&[("m", &text)]).unwrap_err())
}

/// Reads the values of one file, as `harden.toml` would have them.
fn values(modules: &Modules, text: &str) -> Values {
    let file = file("harden.toml", text);
    let mut out = Complaints::new(&file);
    let table = parse(&file, &mut out);
    let own = crate::profile::layer::values(&table, true, modules, &mut out);
    assert!(out.list.is_empty(), "{:#}", Failure(out.list));
    let layer = Layer {
        file: file.clone(),
        own,
        unset: BTreeMap::new(),
        imports: BTreeSet::new(),
        below: BTreeSet::new(),
    };
    merge(&[layer], modules).0
}

fn drafts<'m>(modules: &'m Modules, text: &str) -> Vec<Draft<'m>> {
    let values = values(modules, text);
    let options = super::assertion::options(&values);
    let surroundings = Surroundings::with(&options);
    let mut drafts = Vec::new();
    for module in modules.modules.values() {
        let expanded = expand(module, modules, &values, &surroundings);
        assert!(expanded.faults.is_empty(), "{:#}", Failure(expanded.faults));
        drafts.extend(expanded.drafts);
    }
    drafts
}

/// The tables that come of values, one a line.
fn tables(modules: &Modules, text: &str) -> String {
    let drafts = drafts(modules, text);
    let lines: Vec<String> = drafts
        .iter()
        .map(|d| format!("{} {}", d.table, crate::fact::canonical_json(&d.data)))
        .collect();
    lines.join("\n")
}

const ONE: &str = r#"
[module]
summary = "x"
on = "api"
[options.flag]
type = "bool"
doc = "A."
risk = "restart"
controls = ["c2", "c1"]
[options.text]
type = "string"
doc = "B."
risk = "safe"
uniform = true
controls = ["c3"]
[options.items]
type = "list"
items = "string"
doc = "C."
risk = "guarded"
[options.map]
type = "map"
items = "string"
doc = "D."
risk = "safe"
[[flag]]
a = "${m.flag}"
[[flag]]
b = "x-${m.flag}-${m.text}"
c = "$${m.text} $5 $$"
[[flag]]
d = "${m.text}"
e = { f = "${?m.items}", g = [1, "${?m.flag}", "${?m.items}"], h = "y ${?m.flag}" }
[[flag]]
when = { "m.flag" = true, "m.text" = "go" }
on = "workers"
risk = "manual"
i = 1
[[flag]]
for-each = "m.items as item"
j = "${item}"
[[flag]]
for-each = ["m.map", "m.items as item"]
k = "${each.name}=${each.value} ${item}"
[[flag]]
l = { own = "${m.text}", "..." = "${?m.map}" }
"#;

#[test]
fn interpolation() {
    let one = modules(&[("m", ONE)]).unwrap_or_else(|e| panic!("{e:#}"));
    insta::assert_snapshot!(tables(&one, ""), @"");
    insta::assert_snapshot!(tables(&one, "m.flag = false"), @r#"flag {"a":false}"#);
    insta::assert_snapshot!(tables(&one, "m.text = \"${m.flag}\""), @r#"
flag {"d":"${m.flag}","e":{"g":[1]}}
flag {"l":{"own":"${m.flag}"}}
"#);
    insta::assert_snapshot!(
        tables(&one, "[m]\nflag = true\ntext = \"go\"\nitems = [\"p\", \"q\"]\nmap = { r = \"s\" }"),
        @r#"
flag {"a":true}
flag {"b":"x-true-go","c":"${m.text} $5 $$"}
flag {"d":"go","e":{"f":["p","q"],"g":[1,true,["p","q"]],"h":"y true"}}
flag {"i":1}
flag {"j":"p"}
flag {"j":"q"}
flag {"k":"r=s p"}
flag {"k":"r=s q"}
flag {"l":{"own":"go","r":"s"}}
"#
    );
}

#[test]
fn a_resource_knows_what_it_was_made_of() {
    let one = modules(&[("m", ONE)]).unwrap();
    let drafts = drafts(&one, "m.flag = true\nm.text = \"go\"\nm.items = [\"p\"]");
    let shown: Vec<String> = drafts
        .iter()
        .map(|d| {
            let origins: Vec<String> = d.origins.iter().map(|o| o.to_string()).collect();
            format!(
                "{:?} {:?} uniform={} {} {} | {}",
                d.scope,
                d.risk,
                d.uniform,
                d.reason,
                d.controls.join("+"),
                origins.join(", ")
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    Api Restart uniform=false option: A. c1+c2 | m.flag at harden.toml:1
    Api Restart uniform=true option: A. c1+c2+c3 | m.flag at harden.toml:1, m.text at harden.toml:2
    Api Guarded uniform=true option: B. c1+c2+c3 | m.flag at harden.toml:1, m.items at harden.toml:3, m.text at harden.toml:2
    Workers Manual uniform=true option: A. c1+c2+c3 | m.flag at harden.toml:1, m.text at harden.toml:2
    Api Guarded uniform=false option: C.  | m.items at harden.toml:3
    Api Safe uniform=true option: B. c3 | m.text at harden.toml:2
    ");
}

#[test]
fn a_spread_cannot_undo_what_the_module_sets() {
    let one = modules(&[("m", ONE)]).unwrap();
    let values = values(&one, "m.text = \"x\"\n[m.map]\nown = \"y\"");
    let faults = expand(&one.modules["m"], &one, &values, &Surroundings::new()).faults;
    insta::assert_snapshot!(format!("{:#}", Failure(faults)), @r#"
error: `m.map` cannot set `own`
  --> harden.toml:3:7
3 | own = "y"
  |       ^^^ the module sets this itself
  help: remove it; another option stands for it
"#);
}

#[test]
fn a_resource_names_what_must_be_so_and_is_guarded_then() {
    let module = |requires: &str| {
        ONE.replace(
            "a = \"${m.flag}\"",
            &format!("requires = [{requires}]\na = \"${{m.flag}}\""),
        )
    };
    let known = module("\"no-external-ips\", \"no-stale-tokens\"");
    let one = modules(&[("m", &known)]).unwrap_or_else(|e| panic!("{e:#}"));
    let drafts = drafts(&one, "m.flag = false");
    let names: Vec<&str> = drafts[0].requires.iter().map(|one| one.name()).collect();
    assert_eq!(names, ["no-external-ips", "no-stale-tokens"]);
    assert_eq!(drafts[0].risk, Risk::Guarded);
    let Err(failure) = modules(&[("m", &module("\"no-external-ip\""))]) else {
        panic!("there is no such precondition")
    };
    let text = format!("{failure:#}");
    assert!(
        text.contains("there is no precondition `no-external-ip`"),
        "{text}"
    );
    assert!(text.contains("did you mean `no-external-ips`?"), "{text}");
}

#[test]
fn mistakes_of_a_module() {
    insta::assert_snapshot!(wrong(r#"
[options.a]
type = "boole"
doc = "A."
risk = "high"
[options.b]
type = "enum"
risk = "safe"
[options.c]
type = "string"
doc = "C."
risk = "safe"
pattern = "("
[options.d]
type = "set"
doc = "D."
risk = "safe"
defualt = 1
[options.E_]
type = "bool"
[options.f]
type = "int"
doc = "F."
risk = "safe"
max = 3
example = 4
[[flags]]
"#), @r#"
    error: there is no type `boole`
      --> modules/m.toml:6:8
    6 | type = "boole"
      |        ^^^^^^^ did you mean `bool`?
      help: use `bool`, `int`, `string`, `enum`, `duration`, `quantity`, `mode`, `cidr`, `list`, `set`, `map`, `record`, `attrs`, `one-of`, `object`, `objects`, `rbac-subject` or `secret`

    error: `m.a.risk` cannot be `high`
      --> modules/m.toml:8:8
    8 | risk = "high"
      |        ^^^^^^ not one of its values
      help: write `safe`, `reload`, `restart`, `guarded`, `irreversible` or `manual`

    error: `m.b.doc` is missing
      --> modules/m.toml:9:10
    9 | [options.b]
      |          ^ needed here
      help: add `doc = "…"`

    error: `m.b.values` is missing
      --> modules/m.toml:9:10
    9 | [options.b]
      |          ^ needed here
      help: list the words that are allowed: `values = ["…"]`

    error: this pattern is no regular expression
       --> modules/m.toml:16:11
    16 | pattern = "("
       |           ^^^ error: unclosed group
      help: see https://docs.rs/regex for the syntax

    error: `m.d.items` is missing
       --> modules/m.toml:17:10
    17 | [options.d]
       |          ^ needed here
      help: say what the items are, for example `items = "string"`

    error: there is no key `m.d.defualt`
       --> modules/m.toml:21:1
    21 | defualt = 1
       | ^^^^^^^ unknown
      help: use `doc`, `risk`, `controls`, `uniform`, `example`, `per`, `since`, `until`, `distributions`, `type`, `items` or `stricter`

    error: `E_` is no name for an option
       --> modules/m.toml:22:10
    22 | [options.E_]
       |          ^^ here
      help: use letters, digits and `-`, beginning with a small letter

    error: `m.f.example` must be an integer of at most 3
       --> modules/m.toml:29:11
    29 | example = 4
       |           ^ out of range
      help: m.f: F.
    "#);
    insta::assert_snapshot!(wrong(r#"
[options.a]
type = "bool"
doc = "A."
risk = "safe"
[options.b]
type = "enum"
values = ["on", "off"]
doc = "B."
risk = "safe"
[options.list]
type = "list"
items = "string"
doc = "L."
risk = "safe"
[[flag]]
x = "${m.aa}"
[[flag]]
x = "${m.a"
[[flag]]
x = "${m.a b}"
[[flag]]
x = 1
[[flag]]
x = "y ${m.list}"
[[flag]]
when = { "m.b" = "offf", "m.a" = 1 }
[[flag]]
for-each = "m.a as x"
[[flag]]
for-each = "m.list into x"
[[flag]]
x = "${m.list.name}"
"${m.a}" = 1
"..." = "${m.list}"
"#), @r#"
error: there is no option `m.aa`
   --> modules/m.toml:20:5
20 | x = "${m.aa}"
   |     ^^^^^^^^^ here
  help: did you mean `m.a`?

error: a `${` is not closed
   --> modules/m.toml:22:5
22 | x = "${m.a"
   |     ^^^^^^^ here
  help: close it with `}`, or write `$${` for the text `${`

error: `m.a b` is no name
   --> modules/m.toml:24:5
24 | x = "${m.a b}"
   |     ^^^^^^^^^^ here
  help: write a name such as `${apiserver.profiling}`

error: this resource names no option and would always be there
   --> modules/m.toml:25:1
25 | [[flag]]
   | ^^^^^^^^ here
  help: interpolate an option, or name one in `when` or `given`: what no profile asks for is unmanaged

error: `m.list` cannot stand here
   --> modules/m.toml:28:5
28 | x = "y ${m.list}"
   |     ^^^^^^^^^^^^^ only a scalar can stand inside a text
  help: name a part of it, or make it the whole value

error: `when.m.b` must be `on` or `off`
   --> modules/m.toml:30:18
30 | when = { "m.b" = "offf", "m.a" = 1 }
   |                  ^^^^^^ did you mean `off`?
  help: m.b: B.

error: `when.m.a` must be true or false, not an integer
   --> modules/m.toml:30:34
30 | when = { "m.b" = "offf", "m.a" = 1 }
   |                                  ^ this is an integer
  help: m.a: A.

error: `m.a` has no entries
   --> modules/m.toml:32:12
32 | for-each = "m.a as x"
   |            ^^^^^^^^^^ here
  help: repeat over a list, a set, a map or an attribute set

error: this `for-each` cannot be read
   --> modules/m.toml:34:12
34 | for-each = "m.list into x"
   |            ^^^^^^^^^^^^^^^ here
  help: write for example "tenants as tenant"

error: `m.list` has no parts with names
   --> modules/m.toml:36:5
36 | x = "${m.list.name}"
   |     ^^^^^^^^^^^^^^^^ here
  help: use `for-each` to reach its entries

error: a key cannot be interpolated
   --> modules/m.toml:37:1
37 | "${m.a}" = 1
   | ^^^^^^^^ here
  help: use the key `...` with a map

error: `m.list` cannot stand here
   --> modules/m.toml:38:9
38 | "..." = "${m.list}"
   |         ^^^^^^^^^^^ only a map can stand at the key `...`
  help: name a part of it, or make it the whole value
"#);
    insta::assert_snapshot!(wrong(r#"
[options.idle]
type = "bool"
doc = "A."
risk = "safe"
"#), @r#"
error: no resource uses the option `m.idle`
  help: interpolate it in a resource of its module, or remove it
"#);
}

#[test]
fn the_built_in_modules_are_whole() {
    let modules = Modules::builtin().unwrap_or_else(|e| panic!("{e:#}"));
    fn walk(decl: &OptionDecl) {
        assert!(
            decl.doc.ends_with('.') && decl.doc.len() > 10,
            "{}",
            decl.name
        );
        assert_eq!(
            decl.doc.matches(". ").count(),
            0,
            "{} is one sentence",
            decl.name
        );
        if let Type::Attrs(fields) | Type::Record(fields) = &decl.ty {
            fields.values().for_each(walk);
        }
    }
    for option in modules.options() {
        assert!(option.example.is_some(), "{}", option.name);
        walk(option);
    }
}

/// They are read when they are asked for the first time, so that a profile would be the first to meet a mistake.
#[test]
fn every_expression_of_the_built_in_modules_can_be_read() {
    let modules = Modules::builtin().unwrap();
    let mut read = 0;
    for (name, module) in modules.iter() {
        let asserted = module.assertions.iter().map(|assertion| &assertion.that);
        for one in asserted.chain(module.checks.iter().map(Check::that)) {
            let compiled = one.compiled();
            assert!(compiled.is_ok(), "{name}: {}: {compiled:?}", one.source);
            read += 1;
        }
    }
    assert!(read > 50, "{read}");
}

/// What is begun early is guessed from these: of each kind that there will be many of, more than a few.
#[test]
fn a_sample_has_some_of_every_kind_and_nothing_that_is_not_wanted() {
    let modules = Modules::builtin().unwrap();
    let tenant = |n: usize| {
        format!(
            "[tenants.t{n}]\nnamespaces = [\"a{n}\", \"b{n}\"]\nnetwork = \"isolated\"\nquota = {{ pods = \"{n}\" }}\n"
        )
    };
    let text: String = (1..=100).map(tenant).collect();
    let all = drafts(&modules, &text);
    let all: Vec<&Json> = all.iter().map(|draft| &draft.data["manifest"]).collect();
    let few = super::sample::of_values(&values(&modules, &text), &modules, 7);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &few {
        assert!(all.contains(&&**one), "{one}");
        *kinds.entry(one["kind"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!((kinds["Namespace"], kinds["ResourceQuota"]), (7, 7));
    assert!(kinds["NetworkPolicy"] >= 7, "{kinds:?}");
    assert!(few.len() < all.len() / 10);
    assert!(super::sample::of_values(&values(&modules, ""), &modules, 7).is_empty());
}

/// Options that only say how another one does what it does, and that one.
const BESIDE: &[(&str, &str, &str)] = &[
    ("encryption.", "encryption.provider", "\"secretbox\""),
    ("certificates.", "certificates.days-left", "30"),
];

/// The example of every option, set alone or beside the one that it belongs to, gives resources.
#[test]
fn every_example_does_something() {
    let modules = Modules::builtin().unwrap();
    for option in modules.options() {
        let example = option.example.as_deref().unwrap();
        let beside = BESIDE
            .iter()
            .find(|(module, other, _)| option.name.starts_with(module) && option.name != *other);
        let other = beside.map(|(_, other, _)| *other);
        let more = beside.map(|(_, other, value)| format!("\n{other} = {value}"));
        let text = format!("{} = {example}{}", option.name, more.unwrap_or_default());
        let drafts = drafts(&modules, &text);
        assert!(!drafts.is_empty(), "{}", option.name);
        if other.is_some() {
            let mut origins = drafts.iter().flat_map(|draft| &draft.origins);
            assert!(origins.any(|o| o.option == option.name), "{}", option.name);
        }
        for draft in drafts {
            let whole = &option.name;
            let made = |o: &crate::resource::Origin| {
                o.option.starts_with(whole.as_str()) || other == Some(o.option.as_str())
            };
            assert!(draft.origins.iter().all(made), "{}", quoted(whole));
            assert!(!draft.reason.is_empty(), "{}", option.name);
        }
    }
}

#[test]
fn a_tenant() {
    let modules = Modules::builtin().unwrap();
    let text = r#"
[tenants.pay]
namespaces = ["pay", "pay-jobs"]
labels = { team = "pay" }
pod-security = "restricted"
network = "isolated"
egress = [{ to = [{ ipBlock = { cidr = "10.0.0.0/8" } }] }]
quota = { "requests.cpu" = "20", pods = "200" }
limits = [{ type = "Container", default = { cpu = "1" } }]
[tenants.small]
namespaces = ["small"]
"#;
    insta::assert_snapshot!(tables(&modules, text), @r#"
object {"manifest":{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{"harden.dev/tenant":"pay","pod-security.kubernetes.io/audit":"restricted","pod-security.kubernetes.io/enforce":"restricted","pod-security.kubernetes.io/warn":"restricted","team":"pay"},"name":"pay"}}}
object {"manifest":{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{"harden.dev/tenant":"pay","pod-security.kubernetes.io/audit":"restricted","pod-security.kubernetes.io/enforce":"restricted","pod-security.kubernetes.io/warn":"restricted","team":"pay"},"name":"pay-jobs"}}}
object {"manifest":{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{"harden.dev/tenant":"small"},"name":"small"}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-default-deny","namespace":"pay"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-default-deny","namespace":"pay-jobs"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-allow-dns","namespace":"pay"},"spec":{"egress":[{"ports":[{"port":53,"protocol":"UDP"},{"port":53,"protocol":"TCP"}],"to":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"kube-system"}},"podSelector":{"matchLabels":{"k8s-app":"kube-dns"}}}]}],"podSelector":{},"policyTypes":["Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-allow-dns","namespace":"pay-jobs"},"spec":{"egress":[{"ports":[{"port":53,"protocol":"UDP"},{"port":53,"protocol":"TCP"}],"to":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"kube-system"}},"podSelector":{"matchLabels":{"k8s-app":"kube-dns"}}}]}],"podSelector":{},"policyTypes":["Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-allow-same-tenant","namespace":"pay"},"spec":{"egress":[{"to":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["pay","pay-jobs"]}]}}]}],"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["pay","pay-jobs"]}]}}]}],"podSelector":{},"policyTypes":["Ingress","Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-allow-same-tenant","namespace":"pay-jobs"},"spec":{"egress":[{"to":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["pay","pay-jobs"]}]}}]}],"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["pay","pay-jobs"]}]}}]}],"podSelector":{},"policyTypes":["Ingress","Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-egress","namespace":"pay"},"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}],"podSelector":{},"policyTypes":["Egress"]}}}
object {"manifest":{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden-egress","namespace":"pay-jobs"},"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}],"podSelector":{},"policyTypes":["Egress"]}}}
object {"manifest":{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden","namespace":"pay"},"spec":{"hard":{"pods":"200","requests.cpu":"20"}}}}
object {"manifest":{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden","namespace":"pay-jobs"},"spec":{"hard":{"pods":"200","requests.cpu":"20"}}}}
object {"manifest":{"apiVersion":"v1","kind":"LimitRange","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden","namespace":"pay"},"spec":{"limits":[{"default":{"cpu":"1"},"type":"Container"}]}}}
object {"manifest":{"apiVersion":"v1","kind":"LimitRange","metadata":{"labels":{"app.kubernetes.io/managed-by":"harden"},"name":"harden","namespace":"pay-jobs"},"spec":{"limits":[{"default":{"cpu":"1"},"type":"Container"}]}}}
"#);
    let reasons: BTreeMap<String, (String, String)> = drafts(&modules, text)
        .into_iter()
        .filter(|d| d.data["manifest"]["metadata"]["namespace"] != json!("pay-jobs"))
        .map(|d| {
            let metadata = &d.data["manifest"]["metadata"];
            let origins: Vec<String> = d.origins.iter().map(|o| o.to_string()).collect();
            let why = format!("{:?} {}", d.risk, d.reason);
            (
                format!("{} {}", d.data["manifest"]["kind"], metadata["name"]),
                (why, origins.join(", ")),
            )
        })
        .collect();
    insta::assert_debug_snapshot!(reasons, @r#"
    {
        "\"LimitRange\" \"harden\"": (
            "Guarded option: Defaults and bounds of each container or pod, as in a LimitRange.",
            "tenants.pay at harden.toml:2, tenants.pay.limits at harden.toml:9, tenants.pay.namespaces at harden.toml:3",
        ),
        "\"Namespace\" \"pay\"": (
            "Guarded option: Refuse pods that do not keep this Pod Security Standard.",
            "tenants.pay at harden.toml:2, tenants.pay.labels.team at harden.toml:4, tenants.pay.namespaces at harden.toml:3, tenants.pay.pod-security at harden.toml:5",
        ),
        "\"Namespace\" \"pay-jobs\"": (
            "Guarded option: Refuse pods that do not keep this Pod Security Standard.",
            "tenants.pay at harden.toml:2, tenants.pay.labels.team at harden.toml:4, tenants.pay.namespaces at harden.toml:3, tenants.pay.pod-security at harden.toml:5",
        ),
        "\"Namespace\" \"small\"": (
            "Safe option: The namespaces of the tenant, which are created where they are missing.",
            "tenants.small at harden.toml:10, tenants.small.namespaces at harden.toml:11",
        ),
        "\"NetworkPolicy\" \"harden-allow-dns\"": (
            "Guarded option: Let the tenant's pods talk to each other and to the cluster's DNS only.",
            "tenants.pay at harden.toml:2, tenants.pay.namespaces at harden.toml:3, tenants.pay.network at harden.toml:6",
        ),
        "\"NetworkPolicy\" \"harden-allow-same-tenant\"": (
            "Guarded option: Let the tenant's pods talk to each other and to the cluster's DNS only.",
            "tenants.pay at harden.toml:2, tenants.pay.namespaces at harden.toml:3, tenants.pay.network at harden.toml:6",
        ),
        "\"NetworkPolicy\" \"harden-default-deny\"": (
            "Guarded option: Let the tenant's pods talk to each other and to the cluster's DNS only.",
            "tenants.pay at harden.toml:2, tenants.pay.namespaces at harden.toml:3, tenants.pay.network at harden.toml:6",
        ),
        "\"NetworkPolicy\" \"harden-egress\"": (
            "Guarded option: What the tenant's pods may reach besides, as rules of a NetworkPolicy.",
            "tenants.pay at harden.toml:2, tenants.pay.egress at harden.toml:7, tenants.pay.namespaces at harden.toml:3",
        ),
        "\"ResourceQuota\" \"harden\"": (
            "Guarded option: What each namespace of the tenant may use at most, as in a ResourceQuota.",
            "tenants.pay at harden.toml:2, tenants.pay.namespaces at harden.toml:3, tenants.pay.quota.pods at harden.toml:8, tenants.pay.quota.requests.cpu at harden.toml:8",
        ),
    }
    "#);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn interpolation_never_evaluates_a_value(text in r"(\$\{|\$\$\{|\?|m\.text|m\.flag|\}|[a-z $]){0,12}") {
        let one = modules(&[("m", ONE)]).unwrap();
        let quoted = serde_json::Value::from(text.as_str());
        let drafts = drafts(&one, &format!("m.flag = true\nm.text = {quoted}"));
        let field = |name: &str| drafts.iter().find_map(|d| d.data.get(name)).cloned();
        prop_assert_eq!(field("d"), Some(json!(text)));
        prop_assert_eq!(field("b"), Some(json!(format!("x-true-{}", text))));
        prop_assert_eq!(field("c"), Some(json!("${m.text} $5 $$")));
    }

    #[test]
    fn a_text_without_references_stays(text in r"([a-z$}? ]|\$\$){0,20}") {
        let quoted = serde_json::Value::from(text.as_str());
        let source = format!("x = {quoted}");
        let file = file("x", &source);
        let mut out = Complaints::new(&file);
        let table = parse(&file, &mut out);
        let template = super::template::Template::read(&table["x"], &mut out);
        prop_assert_eq!(template, Some(super::template::Template::Fixed(json!(text))));
    }

    #[test]
    fn any_text_as_a_module_is_answered(text in r#"(\[|\]|\{|\}|"|=|\.|\n|,|options|module|flag|on|api|type|bool|\$\{|m|a|1| ){0,60}"#) {
        let _ = modules(&[("m", &text)]);
        let _ = modules(&[("m", &format!("{ONE}\n{text}"))]);
    }
}

#[test]
fn the_order_of_a_profile_does_not_change_the_hash() {
    let modules = Modules::builtin().unwrap();
    let hash = |text: &str| {
        let all: Vec<_> = drafts(&modules, text)
            .iter()
            .map(|d| d.data.clone())
            .collect();
        crate::fact::canonical_sha256(&json!(all))
    };
    assert_eq!(
        hash(
            "[apiserver]\nprofiling = false\nadmission-plugins = [\"Bx\", \"Ax\", \"Ax\"]\n[scheduler]\nprofiling = true"
        ),
        hash(
            "[scheduler]\nprofiling = true\n[apiserver]\nadmission-plugins = [\"Ax\", \"Bx\"]\nprofiling = false"
        ),
    );
}

#[test]
fn a_kept_structure_of_kubernetes_has_no_dates() {
    let modules = Modules::builtin().unwrap();
    let decl = modules.option("tenants").unwrap();
    let text = "x = { a = { limits = [{ when = 2020-01-01, n = 99999999999999999999 }] } }";
    let file = file("harden.toml", text);
    let mut out = Complaints::new(&file);
    let table = parse(&file, &mut out);
    let spot = Spot {
        path: "tenants".into(),
        decl,
    };
    check(&decl.ty, &table["x"], 0..1, &spot, &mut out);
    insta::assert_snapshot!(format!("{:#}", Failure(out.sorted())), @r#"
error: `tenants.a.limits.0.when` cannot hold a date
  --> harden.toml:1:32
1 | x = { a = { limits = [{ when = 2020-01-01, n = 99999999999999999999 }] } }
  |                                ^^^^^^^^^^ Kubernetes has no such value
  help: write it as a string

error: `tenants.a.limits.0.n` cannot hold an integer of more than 64 bits
  --> harden.toml:1:48
1 | x = { a = { limits = [{ when = 2020-01-01, n = 99999999999999999999 }] } }
  |                                                ^^^^^^^^^^^^^^^^^^^^ Kubernetes has no such value
  help: write it as a string
"#);
}

const TEAMS: &str = r#"
[module]
summary = "x"
on      = "api"
[options.teams]
type = "attrs"
doc  = "d"
risk = "safe"
[options.teams.fields.rooms]
type  = "set"
items = "string"
doc   = "d"
[options.teams.fields.friends]
type  = "set"
items = "string"
doc   = "d"
[[object]]
for-each = ["teams as team", "team.friends as friend", "teams[friend] as other"]
manifest = { of = "${team.name}", friend = "${other.name}", rooms = "${other.rooms}" }
[[object]]
for-each = "teams as team"
given    = ["team.rooms"]
manifest = { name = "${team.name}" }
"#;

#[test]
fn an_entry_is_found_by_its_name_and_a_resource_can_need_an_option_that_it_does_not_show() {
    let modules = modules(&[("teams", TEAMS)]).unwrap();
    let text = "[teams]\na = { rooms = [\"r\"], friends = [\"b\", \"nobody\"] }\n\
                b = { rooms = [\"s\", \"t\"] }\nc = { friends = [\"a\"] }\nd = {}\n";
    insta::assert_snapshot!(tables(&modules, text), @r#"
    object {"manifest":{"friend":"b","of":"a","rooms":["s","t"]}}
    object {"manifest":{"friend":"a","of":"c","rooms":["r"]}}
    object {"manifest":{"name":"a"}}
    object {"manifest":{"name":"b"}}
    "#);
    // What it needs is where it comes from.
    let all = drafts(&modules, "[teams]\nb = { rooms = [\"s\"] }\n");
    let origins: Vec<String> = all[0].origins.iter().map(ToString::to_string).collect();
    assert_eq!(
        origins,
        ["teams.b at harden.toml:2", "teams.b.rooms at harden.toml:2"]
    );
}

#[test]
fn what_finds_no_entry_by_its_name() {
    let declared = TEAMS.split("[[object]]").next().unwrap();
    let declared = declared.split_once("on      = \"api\"").unwrap().1;
    let all = [
        "for-each = [\"teams as team\", \"teams[team] as other\"]\nmanifest = { a = \"${other.rooms}\" }",
        "for-each = [\"teams as team\", \"team.rooms[team.name] as other\"]\nmanifest = { a = \"${other}\" }",
        "for-each = [\"teams as team\", \"teams[team.room] as other\"]\nmanifest = { a = \"${other.rooms}\" }",
        "for-each = \"teams as team\"\ngiven = [\"team.room\"]\nmanifest = { a = \"b\" }",
        "for-each = \"teams as team\"\ngiven = [\"team.name\", 7]\nmanifest = { a = \"b\" }",
    ]
    .map(|table| wrong(&format!("{declared}[[object]]\n{table}\n").replace("teams.fields", "m.fields").replace("options.teams", "options.m").replace("\"teams", "\"m")));
    insta::assert_snapshot!(all.join("\n----\n"), @r#"
    error: an entry is found by its name
       --> modules/m.toml:18:26
    18 | for-each = ["m as team", "m[team] as other"]
       |                          ^^^^^^^^^^^^^^^^^^ here
      help: write for example "tenants[other] as peer", with a text in `other`

    error: there is no option `other.rooms`
       --> modules/m.toml:19:18
    19 | manifest = { a = "${other.rooms}" }
       |                  ^^^^^^^^^^^^^^^^ here
      help: name an option of a module, or what `for-each` binds
    ----
    error: an entry is found by its name
       --> modules/m.toml:18:26
    18 | for-each = ["m as team", "team.rooms[team.name] as other"]
       |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ here
      help: write for example "tenants[other] as peer", with a text in `other`

    error: there is no option `other`
       --> modules/m.toml:19:18
    19 | manifest = { a = "${other}" }
       |                  ^^^^^^^^^^ here
      help: name an option of a module, or what `for-each` binds
    ----
    error: `m` has no field `room`
       --> modules/m.toml:18:26
    18 | for-each = ["m as team", "m[team.room] as other"]
       |                          ^^^^^^^^^^^^^^^^^^^^^^^ here
      help: did you mean `rooms`?

    error: there is no option `other.rooms`
       --> modules/m.toml:19:18
    19 | manifest = { a = "${other.rooms}" }
       |                  ^^^^^^^^^^^^^^^^ here
      help: name an option of a module, or what `for-each` binds
    ----
    error: `m` has no field `room`
       --> modules/m.toml:19:10
    19 | given = ["team.room"]
       |          ^^^^^^^^^^^ here
      help: did you mean `rooms`?
    ----
    error: `given` asks for options and fields only
       --> modules/m.toml:19:10
    19 | given = ["team.name", 7]
       |          ^^^^^^^^^^^ always there
      help: name one of them

    error: `object.given` must be a list of strings
       --> modules/m.toml:19:23
    19 | given = ["team.name", 7]
       |                       ^ this is an integer
      help: put it in quotes
    "#);
}
