//! Documents that are written from the program's own data say what it says.
#![allow(clippy::unwrap_used, missing_docs)]

use harden::module::Modules;
use harden::report::options_markdown;

/// Set to write the documents anew instead of comparing them.
const REGENERATE: &str = "REGENERATE_DOCS";

#[test]
fn the_options_reference() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let wanted = options_markdown(&Modules::builtin().unwrap());
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/options.md differs from the modules; `{REGENERATE}=1 cargo test --test generated_docs` writes it anew"
    );
}

#[test]
fn the_module_that_the_page_shows_whole() {
    let page = include_str!("../docs/profiles.md");
    assert!(page.contains(include_str!("../modules/scheduler.toml")));
}
