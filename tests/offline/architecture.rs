//! The layout keeps what it promises: pure folders import no I/O folder, files stay readable.

use std::fs;
use std::path::{Path, PathBuf};

const PURE: &[&str] = &[
    "fact",
    "profile",
    "module",
    "control",
    "resource",
    "plan",
    "distribution",
    "report",
];
const IO: &[&str] = &["host", "cluster", "observe", "apply", "generation"];

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn files_of(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(folder);
    let mut found = Vec::new();
    source_files(&root, &mut found);
    found
}

/// Every path segment that follows `crate::` in the file, also within `crate::{a, b}`.
fn crate_imports(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0usize;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push(std::mem::take(&mut word));
                        continue;
                    }
                    _ => {}
                }
                word.push(c);
            }
            found.push(word);
        } else {
            found.push(rest.to_owned());
        }
    }
    found
        .into_iter()
        .map(|path| {
            let name: String = path
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            name
        })
        .collect()
}

#[test]
fn pure_folders_import_no_io_folder() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for folder in PURE {
        for file in files_of(folder) {
            seen += 1;
            let text = fs::read_to_string(&file).expect("a source file");
            for name in crate_imports(&text) {
                if IO.contains(&name.as_str()) {
                    wrong.push(format!("{} imports crate::{name}", file.display()));
                }
            }
            for forbidden in ["std::net", "std::process", "tokio::", "ssh2::", "kube::"] {
                if text
                    .lines()
                    .any(|l| !l.trim_start().starts_with("//") && l.contains(forbidden))
                    && !text.contains("#[cfg(test)]")
                {
                    wrong.push(format!("{} uses {forbidden}", file.display()));
                }
            }
        }
    }
    assert!(seen >= PURE.len(), "the folders were read");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_check_itself_sees_every_spelling() {
    assert_eq!(crate_imports("use crate::host::Host;"), ["host"]);
    assert_eq!(
        crate_imports("use crate::{fact::{A, B}, apply::run};"),
        ["fact", "apply"]
    );
    assert_eq!(crate_imports("// use crate::host;"), Vec::<String>::new());
    assert_eq!(crate_imports("let x = crate::cluster::Api;"), ["cluster"]);
}

#[test]
fn main_is_small_and_no_module_is_a_drawer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let main = fs::read_to_string(src.join("main.rs")).expect("main.rs");
    assert!(main.lines().count() <= 40);
    let mut files = Vec::new();
    source_files(&src, &mut files);
    for file in files {
        for part in file.with_extension("").components() {
            let name = part.as_os_str().to_string_lossy();
            assert!(
                !["utils", "util", "common", "helpers", "types", "misc"].contains(&&*name),
                "{} says nothing of what is in it",
                file.display()
            );
        }
    }
}

#[test]
fn only_the_cli_prints() {
    for folder in PURE.iter().chain(IO) {
        for file in files_of(folder) {
            let text = fs::read_to_string(&file).expect("a source file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for macro_name in ["println!", "eprintln!", "print!(", "dbg!"] {
                assert!(!code.contains(macro_name), "{} prints", file.display());
            }
        }
    }
}
