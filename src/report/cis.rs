//! Sections 1 to 4 of the CIS Kubernetes Benchmark as a table: what serves each check, and what proves it.

use std::fmt::Write;

use super::controls_text::ranges;
use super::options::cell;
use crate::control::{Catalogue, Covered, State, coverage, in_order_of, settings};
use crate::module::Modules;
use crate::profile::{Diagnostic, Values};

/// The benchmark whose numbers the table has.
const BENCHMARK: &str = "cis-1.12";

/// The chapters, and what each is about.
const CHAPTERS: [(&str, &str); 10] = [
    ("1.1", "Files of a control plane"),
    ("1.2", "API server"),
    ("1.3", "Controller manager"),
    ("1.4", "Scheduler"),
    ("2", "etcd"),
    ("3.1", "How people log in"),
    ("3.2", "Audit log"),
    ("4.1", "Files of every node"),
    ("4.2", "kubelet"),
    ("4.3", "kube-proxy"),
];

/// Lists the controls of sections 1 to 4 in the order of their ids.
pub fn cis_controls<'c>(catalogue: &'c Catalogue, modules: &'c Modules) -> Vec<Covered<'c>> {
    let mut covered = coverage(catalogue, modules);
    covered.retain(|one| {
        let chapters = CHAPTERS.iter();
        chapters.map(|(id, _)| id).any(|id| is_of(one, id))
    });
    in_order_of(&mut covered, BENCHMARK);
    covered
}

fn is_of(one: &Covered<'_>, chapter: &str) -> bool {
    let first = one.ids(BENCHMARK).first();
    first.is_some_and(|id| {
        let rest = id.strip_prefix(chapter);
        rest.is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Writes the table as Markdown. `profiles` are the values of the built-in profiles, laxer ones first.
///
/// # Errors
/// The catalogue has no such benchmark.
pub fn cis_markdown(
    catalogue: &Catalogue,
    modules: &Modules,
    profiles: &[(&str, &Values)],
) -> Result<String, Box<Diagnostic>> {
    let benchmark = catalogue.benchmark(BENCHMARK)?;
    let covered = cis_controls(catalogue, modules);
    let checks = |which: &dyn Fn(&&Covered<'_>) -> bool| -> usize {
        let found = covered.iter().filter(which);
        found.map(|one| one.ids(BENCHMARK).len()).sum()
    };
    let of = |state: State| checks(&move |one: &&Covered<'_>| one.state == state);
    let mut out = format!(
        "# {} {}, sections 1 to 4\n\n\
         Each check with the options that serve it, and with the tests in `tests/cluster` that make it bad on a real cluster and see it\n\
         mended, or the reason why there is none. What no cluster survives is made bad on recorded facts, in `tests/offline/plan_cis.rs`.\n\
         [controls.md](controls.md) says what the states mean. A test compares this file with the catalogue, the modules and the\n\
         profiles, and says how it is written anew.\n\n\
         | | checks |\n| --- | --- |\n\
         | an option serves it, and a test proves it | {} |\n\
         | an option serves it, and the reason is given why no test proves it | {} |\n\
         | no option serves it, and the reason is given | {} |\n\
         | all | {} |\n\n\
         The profile is the first of {} that sets one of the options; \"opt-in\" is what none of them sets.\n",
        benchmark.title,
        benchmark.version,
        of(State::Enforced),
        of(State::Configurable),
        of(State::NotCovered),
        checks(&|_| true),
        profiles
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(" and "),
    );
    for (chapter, title) in CHAPTERS {
        let _ = write!(
            out,
            "\n## {chapter} {title}\n\n\
             | check | what holds | options | profile | state | proof, or why there is none |\n\
             | --- | --- | --- | --- | --- | --- |\n"
        );
        for one in covered.iter().filter(|one| is_of(one, chapter)) {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                ranges(one.ids(BENCHMARK)),
                cell(&one.control.title),
                code(outermost(one).into_iter()),
                profile(one, modules, profiles),
                one.state.word(),
                match &one.control.unproven {
                    Some(reason) => cell(reason),
                    None => code(one.control.proof.iter().map(String::as_str)),
                },
            );
        }
    }
    Ok(out)
}

/// The options without their fields, where the whole of the option serves the control.
fn outermost<'c>(one: &Covered<'c>) -> Vec<&'c str> {
    let within = |name: &str, other: &&str| {
        let rest = name.strip_prefix(*other);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let mut names = one.options.clone();
    names.retain(|name| !one.options.iter().any(|other| within(name, other)));
    names
}

/// The first profile that sets an option which serves the control.
fn profile<'p>(one: &Covered<'_>, modules: &Modules, profiles: &[(&'p str, &Values)]) -> &'p str {
    if one.options.is_empty() {
        return "";
    }
    let declarations = modules.declarations();
    let sets = |values: &Values| {
        let serving = declarations.iter();
        serving
            .filter(|decl| one.options.contains(&decl.name.as_str()))
            .any(|decl| !settings(decl, modules, values).is_empty())
    };
    let found = profiles.iter().find(|(_, values)| sets(values));
    found.map_or("opt-in", |(name, _)| name)
}

fn code<'t>(names: impl Iterator<Item = &'t str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
