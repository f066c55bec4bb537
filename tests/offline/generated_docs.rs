//! Documents that are written from the program's own data say what it says.
use harden::control::Catalogue;
use harden::module::Modules;
use harden::profile::{Workspace, load};
use harden::report::{cis_controls, cis_markdown, options_markdown};

/// Set to write the documents anew instead of comparing them.
const REGENERATE: &str = "REGENERATE_DOCS";

fn compare(name: &str, wanted: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{name} is out of date; `{REGENERATE}=1 cargo test --test offline generated_docs` writes it anew"
    );
}

#[test]
fn the_options_reference() {
    let wanted = options_markdown(&Modules::builtin().unwrap());
    compare("docs/options.md", &wanted);
}

/// What a built-in profile sets.
fn profile(name: &str, modules: &Modules) -> Workspace {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("imports = [\"builtin:{name}\"]\ncluster.name = \"any\"\n");
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    load(dir.path(), modules).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn the_table_of_cis_checks() {
    let (catalogue, modules) = (Catalogue::builtin().unwrap(), Modules::builtin().unwrap());
    let names = ["cis-level1", "cis-level2"];
    let profiles = names.map(|name| (name, profile(name, &modules)));
    let values = profiles.iter().map(|(name, read)| (*name, &read.values));
    let values: Vec<_> = values.collect();
    let wanted = cis_markdown(&catalogue, &modules, &values).unwrap();
    compare("docs/cis.md", &wanted);
}

/// A control without a proof that is served by an option, or by none, says why.
#[test]
fn nothing_in_sections_1_to_4_is_silent() {
    let (catalogue, modules) = (Catalogue::builtin().unwrap(), Modules::builtin().unwrap());
    let covered = cis_controls(&catalogue, &modules);
    let ids = |one: &harden::control::Covered<'_>| one.ids("cis-1.12").len();
    assert_eq!(covered.iter().map(ids).sum::<usize>(), 97);
    for one in &covered {
        let control = one.control;
        let proven = !one.options.is_empty() && !control.proof.is_empty();
        assert!(
            proven != control.unproven.is_some(),
            "{}: it needs an option with a proof, or `unproven`",
            control.name
        );
    }
}

#[test]
fn the_module_that_the_page_shows_whole() {
    let page = include_str!("../../docs/profiles.md");
    assert!(page.contains(include_str!("../../modules/scheduler.toml")));
}
