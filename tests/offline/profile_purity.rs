//! One desired state, whatever the surroundings: a workspace is evaluated in processes that differ in
//! everything but its content.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harden::module::evaluate;
use harden::profile::{load, modules};
use proptest::prelude::*;

/// Where a process that was started by the test below finds its workspace.
const WORKSPACE: &str = "HARDEN_TEST_WORKSPACE";

/// The files of a workspace and the lines of each after its headings, in any order.
const FILES: &[(&str, &[&str])] = &[
    (
        "harden.toml",
        &[
            "imports = [\"builtin:multi-tenant\", \"builtin:cis-level2\", \"team\"]",
            "modules = [\"modules\"]",
            "unset = [\"scheduler.profiling\"]",
            "accept = [\"tenants\", \"network-policies\"]",
            "cluster.name = \"x\"",
            "nodes.host.n1.files.kubelet-mode = \"0400\"",
            "nodes.host.n2.files.kubelet-mode = \"0400\"",
            "own.size = \"2Gi\"",
        ],
    ),
    (
        "team/a.toml",
        &[
            "tenants.a.namespaces = [\"a\", \"a-jobs\"]",
            "tenants.a.quota = { pods = \"3\", \"requests.cpu\" = \"2\" }",
            "network-policies.p = { namespace = \"a\", podSelector = {}, policyTypes = [\"Egress\"] }",
            "network-policies.q = { namespace = \"a\", podSelector = {}, policyTypes = [\"Egress\"] }",
            "apiserver.admission-plugins = [\"PodSecurity\", \"AlwaysPullImages\"]",
        ],
    ),
    (
        "team/b.toml",
        &[
            "tenants.b.namespaces = [\"b\"]",
            "tenants.a.labels = { team = \"é\", z = \"1\" }",
            "apiserver.admission-plugins = [\"EventRateLimit\"]",
            "own.names = { x = \"1\", y = \"2\", z = \"3\" }",
        ],
    ),
    ("team/c.toml", &["tenants.c.namespaces = [\"c\"]"]),
];

/// A module of the workspace, whose assertions fail for several entries.
const MODULE: &str = r#"
[module]
summary = "x"
on = "api"
[options.size]
type = "quantity"
doc = "A."
risk = "safe"
[options.names]
type = "map"
items = "string"
doc = "B."
risk = "safe"
[[object]]
for-each = "own.names as each"
manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "own-${each.name}", namespace = "own" }, data = { size = "${own.size}", value = "${each.value}" } }
[[assert]]
that = "options.own.names.map(n, n + options.own.names[n]) == ['x1', 'y2', 'z3']"
message = "these are in no order"
help = "sort them"
[[assert]]
for-each = "own.names as each"
severity = "warning"
that = "options.own.names.exists(n, n == 'none')"
message = "none besides `${each.name}`"
help = "add one"
"#;

/// What tells one desired state from another, and what else a reader sees of it.
fn told(dir: &Path) -> String {
    let modules = modules(dir).unwrap_or_else(|e| panic!("{e:#}"));
    let workspace = load(dir, &modules).unwrap_or_else(|e| panic!("{e:#}"));
    let desired = evaluate(&workspace, &modules).unwrap_or_else(|e| panic!("{e:#}"));
    let kinds: Vec<String> = desired
        .resources
        .iter()
        .map(|r| r.kind.behaviour().name())
        .collect();
    let findings: Vec<&str> = desired.findings.iter().map(|f| &*f.message).collect();
    let seen = format!("{kinds:?} {findings:?} {:?}", desired.accept);
    format!("{} {}", desired.sha256(), harden::fact::sha256(seen))
}

#[test]
#[ignore = "is started by the test below"]
fn evaluates_the_workspace_that_its_environment_names() {
    let dir = std::env::var_os(WORKSPACE).expect("a workspace");
    println!("told: {}", told(Path::new(&dir)));
}

/// Everything that must not matter.
#[derive(Debug, Clone)]
struct Surroundings {
    /// The order in which files are made, and the lines in each.
    files: Vec<(usize, Vec<usize>)>,
    locale: &'static str,
    zone: &'static str,
    umask: &'static str,
    home: &'static str,
    /// The working directory, and whether the workspace is named relative to it.
    inside: bool,
    other_user: bool,
    more: Vec<(String, String)>,
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let indices = |n: usize| (0..n).collect::<Vec<usize>>();
    let lines: Vec<_> = FILES
        .iter()
        .map(|(_, lines)| Just(indices(lines.len())).prop_shuffle())
        .collect();
    let files = (Just(indices(FILES.len())).prop_shuffle(), lines);
    let files = files.prop_map(|(order, lines)| {
        let each = order.into_iter().map(|i| (i, lines[i].clone()));
        each.collect()
    });
    (
        files,
        prop::sample::select(vec!["C", "tr_TR.UTF-8", "ja_JP.EUC-JP", "POSIX", "no such"]),
        prop::sample::select(vec!["UTC", "Asia/Kathmandu", "America/St_Johns", "broken"]),
        prop::sample::select(vec!["000", "022", "077"]),
        prop::sample::select(vec!["/", "/nonexistent", ""]),
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(("(HARDEN|KUBE|TOML|RUST)_[A-Z]{1,6}", "[ -~]{0,9}"), 0..4),
    )
        .prop_map(
            |(files, locale, zone, umask, home, inside, other_user, more)| Surroundings {
                files,
                locale,
                zone,
                umask,
                home,
                inside,
                other_user,
                more,
            },
        )
}

fn write(dir: &Path, files: &[(usize, Vec<usize>)]) {
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    for (file, order) in files {
        let (name, lines) = FILES[*file];
        let text: Vec<&str> = order.iter().map(|i| lines[*i]).collect();
        put(name, text.join("\n"));
    }
    put("modules/own.toml", MODULE.to_owned());
}

/// A copy of this program where every user may run it.
fn program(dir: &Path) -> PathBuf {
    let copy = dir.join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

fn elsewhere(program: &Path, dir: &Path, around: &Surroundings) -> String {
    let name = dir.file_name().unwrap();
    let (cwd, named) = if around.inside {
        (dir.parent().unwrap(), Path::new(".").join(name))
    } else {
        (Path::new("/"), dir.to_owned())
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", around.umask])
        .arg(program)
        .args([
            "--exact",
            "profile_purity::evaluates_the_workspace_that_its_environment_names",
        ])
        .args(["--ignored", "--nocapture"])
        .current_dir(cwd)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(around.more.iter().map(|(name, value)| (name, value)))
        .env("LANG", around.locale)
        .env("LC_ALL", around.locale)
        .env("TZ", around.zone)
        .env("HOME", around.home)
        .env("USER", "somebody")
        .env(WORKSPACE, named);
    // Only root can become somebody else.
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if around.other_user && is_root {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("told: "));
    let (_, told) = line.unwrap_or_else(|| panic!("{around:?}\n{text}\n{output:?}"));
    told.to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_desired_state_is_the_same_everywhere(around in surroundings()) {
        let here = tempfile::tempdir().unwrap();
        let plain = FILES.iter().enumerate().map(|(i, (_, lines))| (i, (0..lines.len()).collect()));
        write(here.path(), &plain.collect::<Vec<_>>());
        let wanted = told(here.path());
        let there = tempfile::tempdir().unwrap();
        fs::set_permissions(there.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let workspace = there.path().join("Ünïcode space");
        fs::create_dir(&workspace).unwrap();
        write(&workspace, &around.files);
        prop_assert_eq!(&told(&workspace), &wanted);
        prop_assert_eq!(elsewhere(&program(there.path()), &workspace, &around), wanted);
    }
}
