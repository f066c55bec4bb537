//! Fuzz targets, one for each kind of file that people can hand to the program.
//!
//! `cargo test fuzz::` runs each for a moment. To look longer: `BOLERO_RANDOM_ITERATIONS=1000000 cargo
//! test --release fuzz::module`, or with coverage `cargo bolero test fuzz::module` (cargo-bolero). What
//! it finds is kept under `src/__fuzz__/` and is tried again by every run.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::module::{Modules, evaluate};
use crate::plan::Plan;
use crate::profile::section::File;
use crate::profile::{Failure, Lock, load};
use crate::report::{PlanText, plan_text};

/// How much a target tries in every run of the tests.
const ITERATIONS: usize = 400;

/// How many bytes say what is done to a file; about six make one edit.
const LENGTH: usize = 96;

const PROFILES: &[&str] = &[
    include_str!("../profiles/baseline.toml"),
    include_str!("../profiles/cis-level2.toml"),
    include_str!("../profiles/multi-tenant.toml"),
    r#"
imports = ["builtin:baseline", "other.toml"]
unset = ["audit.policy"]
accept = ["tenants.pay"]
[cluster]
name = "x"
kubeconfig = "k"
[nodes]
discover = false
role = "control-plane"
[nodes.host.cp1]
address = "10.0.0.1"
port = 22
files.kubelet-mode = "0400"
[apply]
gate-timeout = "1m30s"
[tenants."*"]
network = "isolated"
[tenants.pay]
namespaces = ["pay", 'pay-jobs']
pod-security = "restricted"
quota = { pods = "9", "requests.cpu" = "1500m" }
egress = [{ to = [{ ipBlock = { cidr = "0.0.0.0/0", except = ["169.254.0.0/16"] } }] }]
owners = [{ kind = "ServiceAccount", name = "ci", namespace = "pay" }, { kind = "User", name = "anna" }]
secrets = "owners"
[network-policies.a]
namespace = "pay"
podSelector = {}
policyTypes = ["Ingress"]
"#,
];

const MODULES: &[&str] = &[
    include_str!("../modules/apiserver.toml"),
    include_str!("../modules/audit.toml"),
    include_str!("../modules/files.toml"),
    include_str!("../modules/tenants.toml"),
    include_str!("../modules/network-policies.toml"),
];

const LOCKS: &[&str] = &[r#"version = 1
harden = "0.1.0"

[cluster]
id = "8a4b8f0e-3c3e-4c55-9d0e-0c9a4f7b2d11"
kubernetes = "1.35"

[files]
"builtin:baseline" = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"harden.toml" = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#];

const PLANS: &[&str] = &[include_str!("../tests/fixtures/plan/plan.json")];

/// What is put into files: words of the formats, and what a reader trips over.
const WORDS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "\"",
    "'",
    "'''",
    "=",
    ".",
    ",",
    "\n",
    "#",
    "\r",
    "\t",
    "é",
    "\u{202e}",
    "\u{1b}[31m",
    "\0",
    "\u{feff}",
    "\\",
    "\\u0007",
    "$",
    "${",
    "$${",
    "${?",
    "}",
    "*",
    "-",
    "0",
    "1e999",
    "-9223372036854775808",
    "99999999999999999999",
    "nan",
    "inf",
    "true",
    "null",
    "0777",
    "1979-05-27",
    "imports = [\".\"]\n",
    "unset = []\n",
    "name",
    "type = \"set\"\n",
    "items = \"string\"\n",
    "per = \"node\"\n",
    "given = [\"tenant.owners\"]\n",
    "stricter = \"lower\"\n",
    "[[assert]]\n",
    "that = \"true\"\n",
    "(",
    ")",
    "!",
    "&&",
    "||",
    "has(",
    ".all(x, ",
    "options",
    "in",
    "?",
    ":",
];

/// Makes a file of bytes: the rest of them as they are, or one of `seeds` with edits.
fn file(seeds: &[&str], bytes: &[u8]) -> Vec<u8> {
    let Some((first, mut rest)) = bytes.split_first() else {
        return Vec::new();
    };
    if first % 8 == 7 {
        return rest.to_vec();
    }
    let mut file = seeds[usize::from(*first) % seeds.len()].as_bytes().to_vec();
    while let [high, low, what, amount, by, tail @ ..] = rest {
        rest = tail;
        let place = usize::from(u16::from_be_bytes([*high, *low]));
        let at = place % (file.len() + 1);
        let to = (at + usize::from(*amount)).min(file.len());
        match what % 6 {
            0 | 1 => {
                let word = WORDS[usize::from(*by) % WORDS.len()];
                file.splice(at..at, word.bytes());
            }
            2 => drop(file.drain(at..to)),
            3 => {
                let piece = file[at..to].to_vec();
                let elsewhere = (place * 31 + usize::from(*by)) % (file.len() + 1);
                file.splice(elsewhere..elsewhere, piece);
            }
            4 => {
                let to = to.min(at + 1);
                file.splice(at..to, [*by]);
            }
            _ => {
                let line = file[at..].split(|b| *b == b'\n').next().unwrap_or_default();
                let line = [line, b"\n"].concat().repeat(1 + usize::from(*by % 4));
                file.splice(at..at, line);
            }
        }
    }
    file
}

/// That errors can be shown, and that nothing of the file commands the terminal.
fn shown(failure: &Failure) {
    assert!(!failure.0.is_empty());
    let text = format!("{failure:#}");
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!text.is_empty() && !text.contains(commands), "{text:?}");
    for fault in &failure.0 {
        assert!(
            !fault.message.is_empty() && fault.help.is_some(),
            "{fault:#}"
        );
        let mut shown = String::new();
        let theme = miette::GraphicalTheme::unicode_nocolor();
        let handler = miette::GraphicalReportHandler::new_themed(theme);
        assert!(handler.render_report(&mut shown, fault).is_ok());
        assert!(!shown.contains(commands), "{shown:?}");
    }
}

static BUILTIN: LazyLock<Modules> = LazyLock::new(|| Modules::builtin().unwrap());

#[test]
fn profile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::fs::write(path.join("other.toml"), "tenants.b.namespaces = [\"b\"]").unwrap();
    bolero::check!()
        .with_iterations(ITERATIONS)
        .with_max_len(LENGTH)
        .for_each(|bytes: &[u8]| {
            std::fs::write(path.join("harden.toml"), file(PROFILES, bytes)).unwrap();
            let evaluated = || evaluate(&load(path, &BUILTIN)?, &BUILTIN);
            match evaluated() {
                Err(failure) => shown(&failure),
                Ok(desired) => assert_eq!(desired, evaluated().unwrap()),
            }
        });
}

#[test]
fn module() {
    bolero::check!()
        .with_iterations(ITERATIONS)
        .with_max_len(LENGTH)
        .for_each(|bytes: &[u8]| {
            let Ok(text) = String::from_utf8(file(MODULES, bytes)) else {
                return;
            };
            let read = crate::profile::plain("own.toml", text);
            let read = read.map_err(|fault| Failure(vec![*fault]));
            let name = ["own", "tenants", "files"][bytes.len() % 3].to_owned();
            let modules = read.and_then(|file: File| Modules::read(BTreeMap::from([(name, file)])));
            match modules {
                Err(failure) => shown(&failure),
                Ok(modules) => assert!(modules.options().all(|option| !option.doc.is_empty())),
            }
        });
}

#[test]
fn lock() {
    bolero::check!()
        .with_iterations(ITERATIONS)
        .with_max_len(LENGTH)
        .for_each(|bytes: &[u8]| {
            let text = String::from_utf8_lossy(&file(LOCKS, bytes)).into_owned();
            match Lock::parse(&text) {
                Err(failure) => shown(&failure),
                Ok(lock) => assert_eq!(Lock::parse(&lock.render()).unwrap(), lock),
            }
        });
}

#[test]
fn plan() {
    bolero::check!()
        .with_iterations(ITERATIONS)
        .with_max_len(LENGTH)
        .for_each(
            |bytes: &[u8]| match serde_json::from_slice::<Plan>(&file(PLANS, bytes)) {
                Err(error) => assert!(!error.to_string().is_empty()),
                Ok(plan) => {
                    for details in [true, false] {
                        assert!(!plan_text(&plan, PlanText { details }).is_empty());
                    }
                    assert!(plan.steps().all(|(_, step)| !step.title().is_empty()));
                    let again = serde_json::to_vec(&plan).unwrap();
                    let again: Plan = serde_json::from_slice(&again).unwrap();
                    assert_eq!(again.sha256(), plan.sha256());
                    assert_eq!(again, plan);
                }
            },
        );
}

#[test]
fn the_edits_leave_some_files_whole_and_break_others() {
    assert_eq!(file(LOCKS, &[0]), LOCKS[0].as_bytes());
    assert_eq!(file(LOCKS, b"\x07abc"), b"abc");
    assert!(Lock::parse(LOCKS[0]).is_ok());
    assert!(serde_json::from_str::<Plan>(PLANS[0]).is_ok());
}
