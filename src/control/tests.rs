#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::module::Modules;

fn builtin() -> (Catalogue, Modules) {
    let catalogue = Catalogue::builtin().unwrap_or_else(|e| panic!("{e:#}"));
    let modules = Modules::builtin().unwrap_or_else(|e| panic!("{e:#}"));
    (catalogue, modules)
}

fn file(name: &str, text: &str) -> (String, File) {
    let file = File {
        name: format!("{name}.toml"),
        text: text.into(),
    };
    (name.to_owned(), file)
}

#[test]
fn the_builtin_catalogue_has_every_control_that_an_option_names() {
    let (catalogue, modules) = builtin();
    check(&catalogue, &modules).unwrap_or_else(|e| panic!("{e:#}"));
    assert!(
        modules
            .declarations()
            .iter()
            .any(|d| !d.controls.is_empty())
    );
}

#[test]
fn controls_come_by_name_and_each_says_something_of_its_own() {
    let (catalogue, _) = builtin();
    let names: Vec<&str> = catalogue.controls().map(|c| c.name.as_str()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    for control in catalogue.controls() {
        let title = &control.title;
        assert!(!title.ends_with('.') && title.len() <= 80, "{title}");
        let sentences = [&control.hazard, &control.unproven].map(Option::as_ref);
        for sentence in sentences.into_iter().chain([Some(&control.why)]) {
            assert!(sentence.is_none_or(|s| s.ends_with('.')), "{sentence:?}");
        }
    }
    // Where two components have the same property, the title says of which it is.
    let titles: BTreeSet<&str> = catalogue.controls().map(|c| c.title.as_str()).collect();
    assert_eq!(titles.len(), names.len());
}

/// `1.1 21` is 1.1.1 to 1.1.21.
fn ids(chapters: &[(&str, u32)]) -> BTreeSet<String> {
    let ids = |(chapter, last): &(&str, u32)| {
        let chapter = (*chapter).to_owned();
        (1..=*last).map(move |n| format!("{chapter}.{n}"))
    };
    chapters.iter().flat_map(ids).collect()
}

fn claimed(catalogue: &Catalogue, benchmark: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for control in catalogue.controls() {
        for id in control.ids.get(benchmark).into_iter().flatten() {
            assert!(
                seen.insert(id.clone()),
                "{id} of {benchmark} is claimed twice"
            );
        }
    }
    seen
}

#[test]
fn every_check_of_cis_belongs_to_exactly_one_control() {
    let (catalogue, _) = builtin();
    let newest = ids(&[
        ("1.1", 21),
        ("1.2", 30),
        ("1.3", 7),
        ("1.4", 2),
        ("2", 7),
        ("3.1", 3),
        ("3.2", 2),
        ("4.1", 10),
        ("4.2", 14),
        ("4.3", 1),
        ("5.1", 13),
        ("5.2", 12),
        ("5.3", 2),
        ("5.4", 2),
        ("5.5", 1),
        ("5.6", 4),
    ]);
    assert_eq!(newest.len(), 131);
    assert_eq!(claimed(&catalogue, "cis-1.12"), newest);
    assert_eq!(claimed(&catalogue, "cis-2.0"), newest);

    let mut eleven = newest.clone();
    eleven.extend(["4.2.15", "5.2.13"].map(String::from));
    assert_eq!(eleven.len(), 133);
    assert_eq!(claimed(&catalogue, "cis-1.11"), eleven);

    let mut ten = eleven;
    ten.retain(|id| !["1.2.30", "4.2.14", "4.2.15"].contains(&id.as_str()));
    ten.retain(|id| !id.starts_with("5.6."));
    ten.extend(ids(&[("5.7", 4)]));
    assert_eq!(ten.len(), 130);
    assert_eq!(claimed(&catalogue, "cis-1.10"), ten);
    assert_eq!(claimed(&catalogue, "cis-1.9"), ten);
}

/// The ids moved between versions, so the property and not the number is what counts.
#[test]
fn an_id_that_moved_belongs_to_the_same_property_everywhere() {
    let (catalogue, _) = builtin();
    let of = |name: &str, benchmark: &str| {
        let control = catalogue.control(name).unwrap();
        control.ids.get(benchmark).cloned().unwrap_or_default()
    };
    assert_eq!(of("pods-no-host-path", "cis-1.9"), ["5.2.12"]);
    assert_eq!(of("pods-no-host-path", "cis-1.11"), ["5.2.12"]);
    assert_eq!(of("pods-no-host-path", "cis-2.0"), ["5.2.11"]);
    assert_eq!(of("pods-no-added-capabilities", "cis-1.11"), ["5.2.9"]);
    assert!(of("pods-no-added-capabilities", "cis-1.12").is_empty());
    assert_eq!(of("default-namespace-unused", "cis-1.10"), ["5.7.4"]);
    assert_eq!(of("default-namespace-unused", "cis-1.11"), ["5.6.4"]);
    // The same number asked for another mode.
    assert_eq!(of("pki-certificates-owner-only", "cis-1.9"), ["1.1.20"]);
    assert_eq!(of("pki-certificates-unwritable", "cis-1.11"), ["1.1.20"]);
}

#[test]
fn every_proof_is_a_test_on_a_real_cluster() {
    let (catalogue, _) = builtin();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let mut proofs = 0;
    for control in catalogue.controls() {
        for proof in &control.proof {
            let (path, name) = proof.rsplit_once("::").unwrap_or_else(|| {
                panic!("{}: {proof} is no path of a test", control.name);
            });
            let file = tests.join(format!("{}.rs", path.replace("::", "/")));
            let text = std::fs::read_to_string(&file)
                .unwrap_or_else(|e| panic!("{}: {}: {e}", control.name, file.display()));
            let (before, _) = text
                .split_once(&format!("\nfn {name}("))
                .unwrap_or_else(|| panic!("{}: there is no test {proof}", control.name));
            let attributes = before.rsplit("\n\n").next().unwrap();
            assert!(attributes.contains("#[test]"), "{proof} is no test");
            proofs += 1;
        }
    }
    assert!(proofs > 0, "nothing is proven");
}

#[test]
fn a_control_is_enforced_only_with_an_option_and_a_proof() {
    let (catalogue, modules) = builtin();
    let covered = coverage(&catalogue, &modules);
    let state = |name: &str| {
        let one = covered.iter().find(|c| c.control.name == name).unwrap();
        (one.state, one.options.clone())
    };
    let profiling = (State::Enforced, vec!["apiserver.profiling"]);
    assert_eq!(state("apiserver-profiling-off"), profiling);
    // A field of a record serves as an option does.
    assert_eq!(
        state("tenant-limits"),
        (State::Configurable, vec!["tenants.limits"])
    );
    assert_eq!(
        state("rbac-secrets-restricted"),
        (State::NotCovered, vec![])
    );
    for one in &covered {
        let enforced = !one.options.is_empty() && !one.control.proof.is_empty();
        assert_eq!(
            one.state == State::Enforced,
            enforced,
            "{}",
            one.control.name
        );
        // A proof without an option to serve it proves nothing that a user can ask for.
        assert!(one.control.proof.is_empty() || !one.options.is_empty());
    }
    let cis = catalogue.benchmark("cis-1.12").unwrap();
    assert_eq!(count(&covered, cis).all(), 131);
    let pss = catalogue.benchmark("pss").unwrap();
    let of_pss = covered.iter().filter(|c| !c.ids("pss").is_empty()).count();
    assert_eq!(count(&covered, pss).all(), of_pss);
}

const BENCHMARKS: &str = r#"
[b-1]
title = "B"
version = "1"
pattern = '[0-9.]+'
checks = true
[b-2]
title = "B"
version = "2"
pattern = '[0-9.]+'
checks = true
like = "b-1"
"#;

fn faults(files: &[(&str, &str)]) -> String {
    let files = files.iter().map(|(name, text)| file(name, text)).collect();
    match read::read(&files) {
        Ok(_) => "no fault".into(),
        Err(failure) => format!("{failure:#}"),
    }
}

#[test]
fn what_is_wrong_with_a_catalogue_is_told_all_at_once() {
    let area = r#"
[Not_Kebab]
title = "T"
why = "W."
[other]
title = 3
level = 4
hazzard = "H."
[other.maps]
b-3 = ["1"]
b-1 = ["1", "x"]
b-2 = "1"
[both]
title = "T"
why = "W."
proof = ["a::b"]
unproven = "U."
[no-table]
title = "T"
why = "W."
maps = "b-1"
"#;
    insta::assert_snapshot!(faults(&[("benchmarks", BENCHMARKS), ("area", area)]), @r#"
error: `Not_Kebab` is no name for a control
  --> area.toml:2:2
2 | [Not_Kebab]
  |  ^^^^^^^^^ here
  help: use words of small letters and digits with `-` between them

error: `other.why` is missing
  --> area.toml:5:2
5 | [other]
  |  ^^^^^ needed here
  help: add `why = "…"`

error: `other.title` must be a string, not an integer
  --> area.toml:6:9
6 | title = 3
  |         ^ this is an integer
  help: write a string here

error: `other.level` must be an integer from 1 to 2
  --> area.toml:7:9
7 | level = 4
  |         ^ out of range
  help: write an integer from 1 to 2 here

error: there is no key `other.hazzard`
  --> area.toml:8:1
8 | hazzard = "H."
  | ^^^^^^^ did you mean `hazard`?
  help: use `title`, `why`, `hazard`, `level`, `proof`, `unproven` or `maps`

error: there is no benchmark `b-3`
   --> area.toml:10:1
10 | b-3 = ["1"]
   | ^^^ did you mean `b-1`?
  help: use `b-1` or `b-2`; a name with a dot must be quoted

error: this is no id of `b-1`
   --> area.toml:11:13
11 | b-1 = ["1", "x"]
   |             ^^^ here
  help: an id matches `[0-9.]+`

error: `other.maps.b-2` must be a list of ids
   --> area.toml:12:1
12 | b-2 = "1"
   | ^^^ here
  help: write `["…"]`

error: `both` has both a proof and a reason for none
   --> area.toml:17:1
17 | unproven = "U."
   | ^^^^^^^^ here
  help: remove `proof` or `unproven`

error: `no-table.maps` must be a table, not a string
   --> area.toml:21:8
21 | maps = "b-1"
   |        ^^^^^ this is a string
  help: write a table here
"#);
}

#[test]
fn an_id_or_a_name_of_two_controls() {
    let one = "[one]\ntitle = \"One\"\nwhy = \"W.\"\nmaps = { b-1 = [\"1\"] }\n";
    let two = "[two]\ntitle = \"Two\"\nwhy = \"W.\"\nmaps = { b-1 = [\"1\"], b-2 = [] }\n\
               [one]\ntitle = \"Again\"\nwhy = \"W.\"\n";
    let files = [("benchmarks", BENCHMARKS), ("a", one), ("b", two)];
    insta::assert_snapshot!(faults(&files), @r#"
error: there are two controls `one`
  --> b.toml:5:2
5 | [one]
  |  ^^^ also in a.toml
  help: rename one of them, or remove it
"#);
    let two = two.split("[one]").next().unwrap();
    let files = [("benchmarks", BENCHMARKS), ("a", one), ("b", two)];
    insta::assert_snapshot!(faults(&files), @r#"
error: two controls claim `1` of `b-1`
  --> b.toml:4:17
4 | maps = { b-1 = ["1"], b-2 = [] }
  |                 ^^^ also of `one`
  help: each id is one check: leave it to one of the two
"#);
}

#[test]
fn benchmarks_that_are_like_nothing_or_themselves() {
    let text = BENCHMARKS.replace("version = \"1\"", "version = \"1\"\nlike = \"b-2\"");
    insta::assert_snapshot!(faults(&[("benchmarks", &text)]), @r#"
error: `b-1` is like itself in the end
   --> benchmarks.toml:13:8
13 | like = "b-1"
   |        ^^^^^ here
  help: use `b-1` or `b-2`

error: `b-2` is like itself in the end
  --> benchmarks.toml:5:8
5 | like = "b-2"
  |        ^^^^^ here
  help: use `b-1` or `b-2`
"#);
    let text = BENCHMARKS.replace("like = \"b-1\"", "like = \"b-9\"");
    insta::assert_snapshot!(faults(&[("benchmarks", &text)]), @r#"
error: `b-2` is like `b-9`, which is no benchmark
   --> benchmarks.toml:12:8
12 | like = "b-9"
   |        ^^^^^ here
  help: use `b-1` or `b-2`
"#);
}

#[test]
fn a_list_of_its_own_counts_before_that_of_the_benchmark_it_is_like() {
    let text = "[own]\ntitle = \"O\"\nwhy = \"W.\"\nmaps = { b-1 = [\"1\"], b-2 = [\"1.10\", \"1.9\"] }\n\
                [none]\ntitle = \"N\"\nwhy = \"W.\"\nmaps = { b-1 = [\"2\"], b-2 = [] }\n\
                [same]\ntitle = \"S\"\nwhy = \"W.\"\nmaps = { b-1 = [\"3\"] }\n";
    let files = [file("benchmarks", BENCHMARKS), file("area", text)];
    let catalogue = read::read(&files.into_iter().collect()).unwrap_or_else(|e| panic!("{e:#}"));
    let of = |name: &str| catalogue.control(name).unwrap().ids.get("b-2").cloned();
    assert_eq!(of("own"), Some(vec!["1.9".into(), "1.10".into()]));
    assert_eq!(of("none"), None);
    assert_eq!(of("same"), Some(vec!["3".into()]));
}

#[test]
fn a_module_that_names_an_unknown_control() {
    let (catalogue, _) = builtin();
    let module = r#"
[module]
summary = "M"
on = "control-plane"
[options.etcd-own-ca]
type = "attrs"
doc = "D."
risk = "safe"
controls = ["apiserver-profiling-of"]
[options.etcd-own-ca.fields.flag]
type = "bool"
doc = "D."
controls = ["nothing-like-it", "audit-log"]
[[flag]]
for-each = "etcd-own-ca as entry"
component = "kube-scheduler"
name = "${entry.name}"
value = "${entry.flag}"
"#;
    let modules =
        Modules::read([file("etcd-own-ca", module)].into()).unwrap_or_else(|e| panic!("{e:#}"));
    let told = format!("{:#}", check(&catalogue, &modules).unwrap_err());
    insta::assert_snapshot!(told, @r#"
error: there is no control `apiserver-profiling-of`
  --> etcd-own-ca.toml:9:13
9 | controls = ["apiserver-profiling-of"]
  |             ^^^^^^^^^^^^^^^^^^^^^^^^ did you mean `apiserver-profiling-off`?
  help: `harden controls` lists all of them

error: there is no control `nothing-like-it`
   --> etcd-own-ca.toml:13:13
13 | controls = ["nothing-like-it", "audit-log"]
   |             ^^^^^^^^^^^^^^^^^ unknown
  help: `harden controls` lists all of them

error: `etcd-own-ca` is both an option and a control
  help: rename the control
"#);
}

#[test]
fn ids_are_sorted_as_people_do() {
    let mut ids = [
        "1.2.10", "AC-10", "1.2.9", "AC-2", "1.10.1", "32(1)(b)", "32(1)(a)",
    ];
    ids.sort_by(|a, b| natural(a, b));
    assert_eq!(
        ids,
        [
            "AC-2", "AC-10", "1.2.9", "1.2.10", "1.10.1", "32(1)(a)", "32(1)(b)"
        ]
    );
}

#[test]
fn a_query_finds_names_chapters_and_options() {
    let (catalogue, modules) = builtin();
    let covered = coverage(&catalogue, &modules);
    let found = |query: &str| -> Vec<&str> {
        let hits = covered.iter().filter(|c| c.matches(query));
        hits.map(|c| c.control.name.as_str()).collect()
    };
    let profiling = [
        "apiserver-profiling-off",
        "controller-manager-profiling-off",
        "scheduler-profiling-off",
    ];
    assert_eq!(found("PROFILING"), profiling);
    assert_eq!(found("audit.log-max-age"), ["audit-log-retention"]);
    assert_eq!(
        found("1.4"),
        ["scheduler-bind-local", "scheduler-profiling-off"]
    );
    assert_eq!(found("1.2.2"), ["apiserver-token-file-off"]);
    assert_eq!(found("sc-13").len(), found("SC-13").len());
    assert!(found("nothing of the kind").is_empty());
}
