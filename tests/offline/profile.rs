//! A workspace as its author meets it: what is read, and what every mistake is answered with.
use std::fs;
use std::path::Path;

use harden::module::Modules;
use harden::profile::{Failure, Workspace, load};

fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn read(dir: &Path) -> Result<Workspace, Failure> {
    load(dir, &Modules::builtin().unwrap())
}

/// The values and where they come from, or all errors.
fn shown(files: &[(&str, &str)]) -> String {
    told(read(workspace(files).path()))
}

fn told(result: Result<Workspace, Failure>) -> String {
    match result {
        Err(failure) => format!("{failure:#}"),
        Ok(workspace) => {
            let line = |(name, value): (&str, &harden::profile::Value)| {
                let chain: Vec<String> = value
                    .definitions
                    .iter()
                    .map(|d| {
                        let hidden = if d.holds { "" } else { " (overridden)" };
                        format!("{}:{}{hidden}", d.place.file, d.place.line())
                    })
                    .collect();
                format!("{name} = {} from {}", value.json(), chain.join(", "))
            };
            let lines: Vec<String> = workspace.values.iter().map(line).collect();
            lines.join("\n")
        }
    }
}

const CLUSTER: &str = "[cluster]\nname = \"test\"\n";

/// A `harden.toml` with a line or more before its cluster.
fn root(text: &str) -> String {
    format!("{text}\n{CLUSTER}")
}

#[test]
fn own_values_override_imports_and_sets_unite() {
    let shown = shown(&[
        (
            "harden.toml",
            &root(
                "imports = [\"builtin:baseline\", \"a.toml\"]\n\
                 apiserver.admission-plugins = [\"PodSecurity\"]\n\
                 scheduler.profiling = true",
            ),
        ),
        ("a.toml", "[apiserver]\nprofiling = false\n"),
    ]);
    let kept = |l: &&str| l.starts_with("apiserver") || l.starts_with("scheduler");
    let lines: Vec<&str> = shown.lines().filter(kept).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
apiserver.admission-plugins = ["NodeRestriction","PodSecurity"] from harden.toml:2, builtin:baseline:11
apiserver.profiling = false from a.toml:2, builtin:baseline:6
apiserver.tls-min-version = "VersionTLS12" from builtin:baseline:8
scheduler.profiling = true from harden.toml:3, builtin:baseline:19 (overridden)
"#);
}

#[test]
fn in_a_diamond_each_side_is_what_it_comes_to() {
    // One side overrides the tip, the other does not: they disagree, and the stricter one wins.
    insta::assert_snapshot!(shown(&[
        ("harden.toml", &root("imports = [\"a.toml\", \"b.toml\"]")),
        ("a.toml", "imports = [\"base.toml\"]\n[apiserver]\nprofiling = true\n"),
        ("b.toml", "imports = [\"base.toml\"]\n"),
        ("base.toml", "[apiserver]\nprofiling = false\n"),
    ]), @r#"apiserver.profiling = false from a.toml:3 (overridden), base.toml:2"#);
}

#[test]
fn tables_unite_key_by_key_and_lists_are_replaced() {
    insta::assert_snapshot!(shown(&[
        (
            "harden.toml",
            &root(
                "imports = [\"a.toml\"]\n[tenants.pay]\n\
                 quota = { pods = \"9\" }\negress = [{}]",
            ),
        ),
        (
            "a.toml",
            "[tenants.pay]\nnamespaces = [\"pay\"]\n\
             quota = { pods = \"5\", \"requests.cpu\" = \"2\" }\negress = [{}, {}]",
        ),
    ]), @r#"tenants = {"pay":{"egress":[{}],"namespaces":["pay"],"quota":{"pods":"9","requests.cpu":"2"}}} from harden.toml:2, a.toml:1"#);
}

#[test]
fn imports_that_disagree() {
    let a = ("team/a.toml", "[tenants.pay]\nlabels.team = \"a\"\n");
    let b = ("team/b.toml", "# why\n[tenants.pay]\nlabels.team = \"b\"\n");
    let imports = "imports = [\"team/a.toml\", \"team/b.toml\"]\n";
    insta::assert_snapshot!(shown(&[("harden.toml", &root(imports)), a, b]), @r#"
    error: imports disagree on `tenants.pay.labels.team`: team/a.toml:2 and team/b.toml:3
      --> team/a.toml:2:15
    2 | labels.team = "a"
      |               ^^^ it is this here
      also: `tenants.pay.labels.team` is set at team/b.toml:3
      --> team/b.toml:3:15
    3 | labels.team = "b"
      |               ^^^ it is this here
      help: set `tenants.pay.labels.team` in the file that imports them
    "#);
    let settled = root(&format!("{imports}tenants.pay.labels.team = \"c\""));
    insta::assert_snapshot!(shown(&[("harden.toml", &settled), a, b]), @r#"tenants = {"pay":{"labels":{"team":"c"}}} from harden.toml:2, team/a.toml:1, team/b.toml:2"#);
}

#[test]
fn what_made_the_cluster() {
    use harden::distribution::Distribution;
    let with = |value: &str| format!("[cluster]\nname = \"x\"\ndistribution = \"{value}\"\n");
    for (value, wanted) in [
        ("kubeadm", Distribution::Kubeadm),
        ("k3s", Distribution::K3s),
        ("rke2", Distribution::Rke2),
    ] {
        let dir = workspace(&[("harden.toml", &with(value))]);
        let read = read(dir.path()).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(read.cluster.distribution, wanted);
    }
    insta::assert_snapshot!(shown(&[("harden.toml", &with("k3"))]), @r#"
    error: `cluster.distribution` cannot be `k3`
      --> harden.toml:3:16
    3 | distribution = "k3"
      |                ^^^^ did you mean `k3s`?
      help: write `kubeadm`, `k3s` or `rke2`
    "#);
}

#[test]
fn all_errors_of_a_run() {
    let text = r#"
imports = ["a.toml", "builtin:baselin", "gone.toml"]
accept = ["apiserver.profilng"]
[cluster]
nam = "x"
[nodes]
become = "doas"
port = 70000
[nodes.host.CP1]
[apply]
gate-timeout = "4 minutes"
[apiserver]
profilng = false
profiling = "no"
tls-min-version = "VersionTLS1"
admission-plugins = ["NodeRestriction", 3]
[audit]
log-max-age = 0
[apiservr]
profiling = false
[frobnicate]
x = 1
[tenants.pay]
name-spaces = ["x"]
namespaces = ["UPPER"]
quota = { requests.cpu = "1", pods = 200 }
"#;
    let imported = "[cluster]\nname = 1\n[files]\nkeys-mode = \"0800\"\n";
    insta::assert_snapshot!(shown(&[("harden.toml", text), ("a.toml", imported)]), @r#"
    error: there is no built-in profile `baselin`
      --> harden.toml:2:22
    2 | imports = ["a.toml", "builtin:baselin", "gone.toml"]
      |                      ^^^^^^^^^^^^^^^^^ did you mean `builtin:baseline`?
      help: use `baseline`, `cis-level1`, `cis-level2` or `multi-tenant`

    error: `gone.toml` cannot be imported: it does not exist
      --> harden.toml:2:41
    2 | imports = ["a.toml", "builtin:baselin", "gone.toml"]
      |                                         ^^^^^^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `accept` names `apiserver.profilng`, which is no option
      --> harden.toml:3:11
    3 | accept = ["apiserver.profilng"]
      |           ^^^^^^^^^^^^^^^^^^^^ did you mean `apiserver.profiling`?
      help: name an option such as `apiserver.profiling`

    error: `cluster.name` is missing
      --> harden.toml:4:2
    4 | [cluster]
      |  ^^^^^^^ needed here
      help: add `name = "…"`

    error: there is no key `cluster.nam`
      --> harden.toml:5:1
    5 | nam = "x"
      | ^^^ did you mean `name`?
      help: use `name`, `distribution`, `kubeconfig` or `context`

    error: `nodes.become` cannot be `doas`
      --> harden.toml:7:10
    7 | become = "doas"
      |          ^^^^^^ not one of its values
      help: write `sudo` or `none`

    error: `nodes.port` must be an integer from 1 to 65535
      --> harden.toml:8:8
    8 | port = 70000
      |        ^^^^^ out of range
      help: write an integer from 1 to 65535 here

    error: `CP1` is no name of a node
      --> harden.toml:9:13
    9 | [nodes.host.CP1]
      |             ^^^ here
      help: use the Node object's name: small letters, digits, `-` and `.`

    error: `apply.gate-timeout` must be a time from 1s to 1h
       --> harden.toml:11:16
    11 | gate-timeout = "4 minutes"
       |                ^^^^^^^^^^^ here
      help: write for example "90s" or "4m"

    error: `apiserver` has no option `profilng`
       --> harden.toml:13:1
    13 | profilng = false
       | ^^^^^^^^ did you mean `profiling`?
      help: apiserver.profiling: Serve profiling data at /debug/pprof.

    error: `apiserver.profiling` must be true or false, not a string
       --> harden.toml:14:13
    14 | profiling = "no"
       |             ^^^^ this is a string
      help: apiserver.profiling: Serve profiling data at /debug/pprof.

    error: `apiserver.tls-min-version` must be `VersionTLS12` or `VersionTLS13`
       --> harden.toml:15:19
    15 | tls-min-version = "VersionTLS1"
       |                   ^^^^^^^^^^^^^ did you mean `VersionTLS12`?
      help: apiserver.tls-min-version: Refuse clients that speak only an older TLS than this.

    error: `apiserver.admission-plugins.1` must be a string that matches `[A-Z][A-Za-z]+`, not an integer
       --> harden.toml:16:41
    16 | admission-plugins = ["NodeRestriction", 3]
       |                                         ^ this is an integer
      help: apiserver.admission-plugins: Turn these admission plugins on, besides those that are on already.

    error: `audit.log-max-age` must be an integer from 1 to 3650 (days)
       --> harden.toml:18:15
    18 | log-max-age = 0
       |               ^ out of range
      help: audit.log-max-age: Keep rotated audit logs for this many days.

    error: there is no section `apiservr`
       --> harden.toml:19:2
    19 | [apiservr]
       |  ^^^^^^^^ did you mean `apiserver`?
      help: [apiserver]: Command-line flags of kube-apiserver

    error: there is no section `frobnicate`
       --> harden.toml:21:2
    21 | [frobnicate]
       |  ^^^^^^^^^^ unknown
      help: use `admission`, `apiserver`, `audit`, `certificates`, `controller-manager`, `encryption`, `etcd`, `files`, `kube-proxy`, `kubelet`, `network-policies`, `object`, `scheduler`, `tenants`, `imports`, `unset`, `modules`, `accept`, `cluster`, `nodes` or `apply`

    error: `tenants.pay` has no field `name-spaces`
       --> harden.toml:24:1
    24 | name-spaces = ["x"]
       | ^^^^^^^^^^^ did you mean `namespaces`?
      help: tenants.namespaces: The namespaces of the tenant, which are created where they are missing.

    error: `tenants.pay.namespaces.0` must be a string that matches `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`
       --> harden.toml:25:15
    25 | namespaces = ["UPPER"]
       |               ^^^^^^^ it does not match
      help: tenants.namespaces: The namespaces of the tenant, which are created where they are missing.

    error: `tenants.pay.quota.requests` must be a quantity such as 20, "500m" or "64Gi", not a table
       --> harden.toml:26:11
    26 | quota = { requests.cpu = "1", pods = 200 }
       |           ^^^^^^^^ this is a table
      help: tenants.quota: What each namespace of the tenant may use at most, as in a ResourceQuota. A name that holds a dot must be quoted, as in "requests.cpu".

    error: `cluster` belongs in harden.toml only
      --> a.toml:1:2
    1 | [cluster]
      |  ^^^^^^^ not in an imported profile
      help: move it to harden.toml; an imported profile holds `imports`, `unset` and options

    error: `files.keys-mode` must be an octal mode such as "0600"
      --> a.toml:4:13
    4 | keys-mode = "0800"
      |             ^^^^^^ no mode
      help: files.keys-mode: The widest mode of the control plane's private keys, owned by root.
    "#);
}

#[test]
fn a_number_is_a_quantity_too() {
    let tenant = |pods: &str| format!("[tenants.pay]\nquota = {{ pods = {pods} }}\n");
    let files = |own: &str, other: &str| {
        shown(&[
            ("harden.toml", &root("imports = [\"a.toml\", \"b.toml\"]")),
            ("a.toml", &tenant(own)),
            ("b.toml", &tenant(other)),
        ])
    };
    // The same in another writing, so that the two imports agree.
    let agreed = files("20", "\"20\"");
    assert!(agreed.contains(r#"{"quota":{"pods":"20"}}"#), "{agreed}");
    assert_eq!(files("0x14", "20"), agreed);
    assert!(files("20", "21").contains("error"));
}

#[test]
fn an_unknown_key_is_answered_with_each_key_once() {
    let said = shown(&[("harden.toml", &root("apply.gate = \"1m\""))]);
    assert!(
        said.trim_end()
            .ends_with("help: use `gate-timeout` or `allow-delete`"),
        "{said}"
    );
}

#[test]
fn syntax_errors_of_several_files() {
    insta::assert_snapshot!(shown(&[
        ("harden.toml", &root("imports = [\"a.toml\"]\nscheduler.profilng = false")),
        ("a.toml", "[apiserver]\nprofiling = \nprofiling = true\nscheduler.profilng = 1"),
    ]), @r#"
error: `scheduler` has no option `profilng`
  --> harden.toml:2:11
2 | scheduler.profilng = false
  |           ^^^^^^^^ did you mean `profiling`?
  help: scheduler.profiling: Serve profiling data at /debug/pprof.

error: this is not TOML: string values must be quoted, expected literal string
  --> a.toml:2:13
2 | profiling = 
  |             ^ here
  help: see https://toml.io for the syntax

error: this is not TOML: duplicate key
  --> a.toml:3:1
3 | profiling = true
  | ^^^^^^^^^ here
  help: see https://toml.io for the syntax
"#);
}

#[test]
fn imports_in_a_ring() {
    insta::assert_snapshot!(shown(&[
        ("harden.toml", &root("imports = [\"a.toml\"]")),
        ("a.toml", "imports = [\"sub/b.toml\"]"),
        ("sub/b.toml", "imports = [\"../a.toml\"]"),
    ]), @r#"
error: the imports form a ring: a.toml → sub/b.toml → a.toml
  --> sub/b.toml:1:12
1 | imports = ["../a.toml"]
  |            ^^^^^^^^^^^ this closes the ring
  help: remove one of these imports
"#);
    insta::assert_snapshot!(shown(&[
        ("harden.toml", &root("imports = [\"harden.toml\"]")),
    ]), @r#"
error: the imports form a ring: harden.toml → harden.toml
  --> harden.toml:1:12
1 | imports = ["harden.toml"]
  |            ^^^^^^^^^^^^^ this closes the ring
  help: remove one of these imports
"#);
}

#[test]
fn imports_that_are_no_profiles() {
    let outside = workspace(&[("x.toml", "")]);
    let names = [
        "link.toml",
        "../harden.toml",
        "/etc/x.toml",
        "loop.toml",
        "dir.toml",
        "fifo.toml",
        "latin.toml",
        "big.toml",
        "x.txt",
        "escape.toml",
    ];
    let inner = workspace(&[
        ("harden.toml", ""),
        ("in/harden.toml", &root(&format!("imports = {names:?}"))),
    ]);
    let dir = inner.path().join("in");
    let at = |name: &str| dir.join(name);
    std::os::unix::fs::symlink(outside.path().join("x.toml"), at("link.toml")).unwrap();
    std::os::unix::fs::symlink("loop.toml", at("loop.toml")).unwrap();
    fs::create_dir(at("dir.toml")).unwrap();
    let fifo = at("fifo.toml");
    let made = std::process::Command::new("mkfifo").arg(fifo).status();
    assert!(made.unwrap().success());
    fs::write(at("latin.toml"), b"# ok\n# caf\xe9\n").unwrap();
    fs::write(at("big.toml"), "#\n".repeat(600 * 1024)).unwrap();
    fs::write(at("escape.toml"), "# \u{1b}[31m\n").unwrap();
    insta::assert_snapshot!(told(read(&dir)), @r#"
    error: `link.toml` cannot be imported: it lies outside the workspace
      --> harden.toml:1:12
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |            ^^^^^^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `../harden.toml` cannot be imported: it lies outside the workspace
      --> harden.toml:1:25
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                         ^^^^^^^^^^^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `/etc/x.toml` cannot be imported
      --> harden.toml:1:43
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                           ^^^^^^^^^^^^^ here
      help: imports are relative paths inside the workspace

    error: `loop.toml` cannot be imported: it cannot be opened: Too many levels of symbolic links (os error 40)
      --> harden.toml:1:58
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                                          ^^^^^^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: the directory `dir.toml` cannot be imported: it holds no .toml file
      --> harden.toml:1:71
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                                                       ^^^^^^^^^^ here
      help: import a directory that holds profiles, or a .toml file

    error: `fifo.toml` is a device, socket or FIFO, not a file
      --> harden.toml:1:83
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                                                                   ^^^^^^^^^^^ imported here
      help: name a regular .toml file

    error: `latin.toml` is not UTF-8 text: line 2 holds other bytes
      --> harden.toml:1:96
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                                                                                ^^^^^^^^^^^^ imported here
      help: save it as UTF-8

    error: `big.toml` is larger than 1 MiB
      --> harden.toml:1:110
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                                                                                              ^^^^^^^^^^ imported here
      help: split it into several files

    error: `x.txt` cannot be imported
      --> harden.toml:1:122
    1 | imports = ["link.toml", "../harden.toml", "/etc/x.toml", "loop.toml", "dir.toml", "fifo.toml", "latin.toml", "big.toml", "x.txt", "escape.toml"]
      |                                                                                                                          ^^^^^^^ here
      help: a profile's name ends in .toml, that of an audit policy in .yaml

    error: `escape.toml` holds the control character U+001B
      --> escape.toml:1:3
    1 | #  [31m
      |   ^ here
      help: remove it, or write it as an escape in a string
    "#);
}

#[test]
fn a_file_reached_by_two_names_is_one_file() {
    let dir = workspace(&[
        ("harden.toml", &root("imports = [\"a.toml\", \"b.toml\"]")),
        ("a.toml", "scheduler.profiling = false"),
    ]);
    std::os::unix::fs::symlink("a.toml", dir.path().join("b.toml")).unwrap();
    insta::assert_snapshot!(told(read(dir.path())), @r#"scheduler.profiling = false from a.toml:1"#);
}

#[test]
fn no_workspace() {
    let dir = workspace(&[]);
    let text = told(read(dir.path())).replace(&*dir.path().to_string_lossy(), "DIR");
    insta::assert_snapshot!(text, @r#"
error: harden.toml in `DIR` does not exist
  help: run in the directory of a workspace, or write a harden.toml with `imports` and `[cluster]`
"#);
    let text = told(read(&dir.path().join("none")));
    assert!(text.contains("cannot be opened"), "{text}");
    insta::assert_snapshot!(shown(&[("harden.toml", "")]), @r#"
error: `cluster.name` is missing
  --> harden.toml:1:1
1 | 
  | ^ needed in harden.toml
  help: add `[cluster]` with `name = "…"`
"#);
}

#[test]
fn the_settings_are_read() {
    let text = r#"
accept = ["tenants", "tenants.pay.network"]
[cluster]
name = "prod"
context = "ctx"
kubeconfig = "k"
[nodes]
discover = false
transport = "ssh"
user = "ops"
become = "none"
port = 2222
identity = "id"
known-hosts = "known_hosts"
role = "worker"
[nodes.host.cp1]
address = "10.0.0.1"
role = "control-plane"
[nodes.host.w1]
transport = "docker"
engine = "podman"
[apply]
gate-timeout = "1m30s"
"#;
    let dir = workspace(&[("harden.toml", text)]);
    let w = read(dir.path()).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(w.apply.gate_timeout, std::time::Duration::from_secs(90));
    assert_eq!(w.accept, ["tenants", "tenants.pay.network"]);
    insta::assert_snapshot!(format!("{:?}\n{:?}", w.cluster, w.nodes), @r#"
ClusterSettings { name: "prod", distribution: Kubeadm, kubeconfig: Some("k"), context: Some("ctx") }
NodesSettings { discover: false, defaults: HostSettings { transport: Some(Ssh), address: None, port: Some(2222), user: Some("ops"), become_root: Some(None), identity: Some("id"), known_hosts: Some("known_hosts"), engine: None, role: Some(Worker) }, hosts: {"cp1": HostSettings { transport: None, address: Some("10.0.0.1"), port: None, user: None, become_root: None, identity: None, known_hosts: None, engine: None, role: Some(ControlPlane) }, "w1": HostSettings { transport: Some(Docker), address: None, port: None, user: None, become_root: None, identity: None, known_hosts: None, engine: Some("podman"), role: None }} }
"#);
}

#[test]
fn miette_renders_it() {
    let text = root("[apiserver]\nprofilng = false\nprofiling = 1");
    let dir = workspace(&[("harden.toml", &text)]);
    let failure = read(dir.path()).unwrap_err();
    let mut text = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .render_report(&mut text, &failure)
        .unwrap();
    insta::assert_snapshot!(text, @r#"
  × 2 errors in the workspace

Error: 
  × `apiserver` has no option `profilng`
   ╭─[harden.toml:2:1]
 1 │ [apiserver]
 2 │ profilng = false
   · ────┬───
   ·     ╰── did you mean `profiling`?
 3 │ profiling = 1
   ╰────
  help: apiserver.profiling: Serve profiling data at /debug/pprof.

Error: 
  × `apiserver.profiling` must be true or false, not an integer
   ╭─[harden.toml:3:13]
 2 │ profilng = false
 3 │ profiling = 1
   ·             ┬
   ·             ╰── this is an integer
 4 │ [cluster]
   ╰────
  help: apiserver.profiling: Serve profiling data at /debug/pprof.
"#);
}

#[test]
fn text_of_a_file_cannot_command_the_terminal() {
    let text =
        root("\"\\u001b[31mx\" = 1\napiserver.\"\\u202e\" = 2\nscheduler.profiling = \"\\u0007\"");
    let text = shown(&[("harden.toml", &text)]);
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert!(!text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn a_gate_timeout_of_the_workspace_counts() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("harden.toml"),
        "imports = [\"builtin:baseline\"]\n[cluster]\nname = \"x\"\n[apply]\ngate-timeout = \"75s\"\n",
    )
    .unwrap();
    let modules = harden::module::Modules::builtin().unwrap();
    let workspace = harden::profile::load(dir.path(), &modules).unwrap();
    assert_eq!(workspace.apply.gate_timeout.as_secs(), 75);
}
