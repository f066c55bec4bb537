//! Workspaces that nobody writes by mistake alone: every one is answered, with the place and what
//! to do, and none is read forever.
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use harden::module::evaluate;
use harden::profile::{Failure, load, modules};
use harden::resource::Desired;

const CLUSTER: &str = "[cluster]\nname = \"test\"\n";

/// A workspace whose `harden.toml` begins with these lines.
fn workspace(head: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "harden.toml", format!("{head}\n{CLUSTER}"));
    dir
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn fifo(dir: &Path, name: &str) {
    let made = std::process::Command::new("mkfifo")
        .arg(dir.join(name))
        .status();
    assert!(made.unwrap().success());
}

/// 100 MB that take no place on the disk.
fn huge(dir: &Path, name: &str) {
    let file = fs::File::create(dir.join(name)).unwrap();
    file.set_len(100 * 1024 * 1024).unwrap();
}

fn evaluated(dir: &Path) -> Result<Desired, Failure> {
    let modules = modules(dir)?;
    evaluate(&load(dir, &modules)?, &modules)
}

/// All errors, as plain text and as a terminal shows them; the latter must only be possible.
fn told(dir: &Path) -> String {
    let failure = match evaluated(dir) {
        Ok(desired) => return format!("{} resources", desired.resources.len()),
        Err(failure) => failure,
    };
    assert!(!failure.0.is_empty());
    let mut shown = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .render_report(&mut shown, &failure)
        .unwrap();
    let plain = format!("{failure:#}");
    assert!(
        !plain
            .chars()
            .any(|c| c == '\u{202e}' || c.is_control() && !matches!(c, '\n' | '\t')),
        "{plain:?}"
    );
    for fault in &failure.0 {
        assert!(fault.help.is_some(), "{fault:#}");
    }
    plain.replace(&*dir.to_string_lossy(), "DIR")
}

/// Errors of long lines in short: message, place, and what stands below the place.
fn brief(text: &str) -> String {
    let short = |line: &str| {
        let line = line.trim_start();
        let label = line.split_once("^ ").map(|(_, label)| format!("  {label}"));
        let kept = line.starts_with("error:") || line.starts_with("-->");
        label.or_else(|| kept.then(|| line.to_owned()))
    };
    let lines: Vec<String> = text.lines().filter_map(short).collect();
    lines.join("\n")
}

#[test]
fn a_harden_toml_that_is_no_file_of_text() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "x.toml", CLUSTER);
    type Make<'m> = (&'m str, &'m dyn Fn(&Path));
    let make: [Make<'_>; 8] = [
        ("latin", &|dir| {
            write(dir, "harden.toml", b"# a\n# caf\xe9\n")
        }),
        ("utf-16", &|dir| {
            write(dir, "harden.toml", b"\xff\xfe[\0c\0")
        }),
        ("huge", &|dir| huge(dir, "harden.toml")),
        ("fifo", &|dir| fifo(dir, "harden.toml")),
        ("directory", &|dir| {
            fs::create_dir(dir.join("harden.toml")).unwrap()
        }),
        ("loop", &|dir| {
            symlink("harden.toml", dir.join("harden.toml")).unwrap()
        }),
        ("outside", &|dir| {
            symlink(outside.path().join("x.toml"), dir.join("harden.toml")).unwrap();
        }),
        ("device", &|dir| {
            symlink("/dev/zero", dir.join("harden.toml")).unwrap()
        }),
    ];
    let all: Vec<String> = make
        .iter()
        .map(|(name, make)| {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            format!("# {name}\n{}", told(dir.path()))
        })
        .collect();
    insta::assert_snapshot!(all.join("\n"), @"
    # latin
    error: `harden.toml` is not UTF-8 text: line 2 holds other bytes
      help: save it as UTF-8
    # utf-16
    error: `harden.toml` is not UTF-8 text: line 1 holds other bytes
      help: save it as UTF-8
    # huge
    error: `harden.toml` is larger than 1 MiB
      help: split it into several files
    # fifo
    error: `harden.toml` is a device, socket or FIFO, not a file
      help: name a regular .toml file
    # directory
    error: `harden.toml` is a directory, not a file
      help: name a regular .toml file
    # loop
    error: harden.toml in `DIR` cannot be opened: Too many levels of symbolic links (os error 40)
      help: run in the directory of a workspace, or write a harden.toml with `imports` and `[cluster]`
    # outside
    error: harden.toml in `DIR` lies outside the workspace
      help: run in the directory of a workspace, or write a harden.toml with `imports` and `[cluster]`
    # device
    error: harden.toml in `DIR` lies outside the workspace
      help: run in the directory of a workspace, or write a harden.toml with `imports` and `[cluster]`
    ");
}

#[test]
fn ten_thousand_levels() {
    let names = ["lists", "tables", "key", "heading", "headings", "value"];
    let imports: Vec<String> = names.iter().map(|n| format!("{n}.toml")).collect();
    let dir = workspace(&format!("imports = {imports:?}"));
    let n = 10_000;
    let texts = [
        format!("tenants.a.egress = {}{}", "[".repeat(n), "]".repeat(n)),
        format!("tenants.a = {}1{}", "{ a = ".repeat(n), " }".repeat(n)),
        format!("tenants{} = 1", ".a".repeat(n)),
        format!("[tenants{}]\nx = 1", ".a".repeat(n)),
        format!("[[tenants{}]]\nx = 1", ".a".repeat(n)),
        format!(
            "tenants.a.egress = [{}1{}]",
            "{ a = ".repeat(70),
            " }".repeat(70)
        ),
    ];
    for (name, text) in imports.iter().zip(texts) {
        write(dir.path(), name, text);
    }
    insta::assert_snapshot!(brief(&told(dir.path())), @"
    error: this is not TOML: cannot recurse further; max recursion depth met
    --> lists.toml:1:100
      here
    error: this is not TOML: cannot recurse further; max recursion depth met
    --> tables.toml:1:493
      here
    error: this is not TOML: recursion limit
    --> key.toml:1:20012
      here
    error: this is not TOML: recursion limit
    --> heading.toml:2:6
      here
    error: this is not TOML: recursion limit
    --> headings.toml:2:6
      here
    ");
}

#[test]
fn a_fault_is_shown_without_the_megabyte_around_it() {
    let dir = workspace("imports = [\"line.toml\", \"span.toml\"]");
    let items = vec!["1"; 100_000].join(",");
    write(
        dir.path(),
        "line.toml",
        format!("tenants.a.namespaces = [\"a\",{items}]"),
    );
    let lines = "  \"x\",\n".repeat(100_000);
    write(
        dir.path(),
        "span.toml",
        format!("apiserver = [\n{lines}]\n"),
    );
    let failure = evaluated(dir.path()).unwrap_err();
    assert_eq!(failure.0.len(), 1002);
    let mut shown = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .render_report(&mut shown, &failure)
        .unwrap();
    assert!(shown.len() < 3_000_000, "{}", shown.len());
    let text = told(dir.path());
    assert!(text.len() < 1_000_000, "{}", text.len());
    let faults: Vec<&str> = text.split("\n\n").collect();
    insta::assert_snapshot!([faults[1], faults[1000], faults[1001]].join("\n\n"), @r#"
    error: `tenants.a.namespaces.2` must be a string that matches `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`, not an integer
      --> line.toml:1:31
    1 | tenants.a.namespaces = ["a",1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…
      |                               ^ this is an integer
      help: tenants.namespaces: The namespaces of the tenant, which are created where they are missing.

    error: `line.toml` has 99000 faults more
      --> line.toml:1:200029
    1 | …1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]
      |                                                                                                                                                                  ^ not told
      help: mend these first

    error: `apiserver` must be a table, not a list
      --> span.toml:1:13
    1 | apiserver = [
      |             ^ this is a list
      help: write `[apiserver]` with its options below
    "#);
}

#[test]
fn directories_that_cannot_be_imported() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "x.toml", "");
    let names = [
        "fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name",
        "hidden", "gone/",
    ];
    let dir = workspace(&format!("imports = {names:?}"));
    let at = |name: &str| dir.path().join(name);
    for name in names.iter().filter(|n| n.starts_with(char::is_alphabetic)) {
        if !matches!(*name, "link" | "loop" | "gone/") {
            fs::create_dir(at(name)).unwrap();
        }
    }
    fifo(dir.path(), "fifo/a.toml");
    write(dir.path(), "fifo/b.toml", "apiserver.profilng = true");
    write(dir.path(), "latin/a.toml", b"\xe9");
    symlink(outside.path().join("x.toml"), at("out/a.toml")).unwrap();
    symlink("a.toml", at("ring/a.toml")).unwrap();
    fs::create_dir(at("sub/a.toml")).unwrap();
    symlink(outside.path(), at("link")).unwrap();
    symlink("loop", at("loop")).unwrap();
    huge(dir.path(), "huge/a.toml");
    let unreadable = std::ffi::OsStr::from_bytes(b"caf\xe9.toml");
    fs::write(at("name").join(unreadable), "").unwrap();
    write(dir.path(), "hidden/.a.toml", "");
    write(dir.path(), "hidden/readme.md", "");
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: `fifo/a.toml` is a device, socket or FIFO, not a file
      --> harden.toml:1:12
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |            ^^^^^^ imported here
      help: name a regular .toml file

    error: `latin/a.toml` is not UTF-8 text: line 1 holds other bytes
      --> harden.toml:1:20
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                    ^^^^^^^ imported here
      help: save it as UTF-8

    error: `out/a.toml` cannot be imported: it lies outside the workspace
      --> harden.toml:1:29
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                             ^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `ring/a.toml` cannot be imported: it cannot be opened: Too many levels of symbolic links (os error 40)
      --> harden.toml:1:36
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                    ^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `sub/a.toml` is a directory, not a file
      --> harden.toml:1:44
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                            ^^^^^ imported here
      help: name a regular .toml file

    error: the directory `empty` cannot be imported: it holds no .toml file
      --> harden.toml:1:51
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                   ^^^^^^^ here
      help: import a directory that holds profiles, or a .toml file

    error: `link` cannot be imported: it lies outside the workspace
      --> harden.toml:1:60
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                            ^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `loop` cannot be imported: it cannot be opened: Too many levels of symbolic links (os error 40)
      --> harden.toml:1:68
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                    ^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `huge/a.toml` is larger than 1 MiB
      --> harden.toml:1:76
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                            ^^^^^^ imported here
      help: split it into several files

    error: the imports form a ring: harden.toml → harden.toml
      --> harden.toml:1:84
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                                    ^^^ this closes the ring
      help: remove one of these imports

    error: `..` cannot be imported: it lies outside the workspace
      --> harden.toml:1:89
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                                         ^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: the directory `name` cannot be imported: it holds `caf�.toml`, whose name is not UTF-8
      --> harden.toml:1:95
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                                               ^^^^^^ here
      help: import a directory that holds profiles, or a .toml file

    error: the directory `hidden` cannot be imported: it holds no .toml file
      --> harden.toml:1:103
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                                                       ^^^^^^^^ here
      help: import a directory that holds profiles, or a .toml file

    error: `gone/` cannot be imported: it does not exist
      --> harden.toml:1:113
    1 | imports = ["fifo", "latin", "out", "ring", "sub", "empty", "link", "loop", "huge", ".", "..", "name", "hidden", "gone/"]
      |                                                                                                                 ^^^^^^^ here
      help: imports are .toml files inside the workspace, relative to the file that imports them

    error: `apiserver` has no option `profilng`
      --> fifo/b.toml:1:11
    1 | apiserver.profilng = true
      |           ^^^^^^^^ did you mean `profiling`?
      help: apiserver.profiling: Serve profiling data at /debug/pprof.
    "#);
}

const MODULE: &str = "[module]\nsummary = \"x\"\non = \"api\"\n";

#[test]
fn modules_that_cannot_be_read() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "x.toml", MODULE);
    let names = [
        "latin.toml",
        "escape.toml",
        "marks.toml",
        "huge.toml",
        "fifo.toml",
        "loop.toml",
        "link.toml",
        "../x.toml",
        "/etc/x.toml",
        "gone.toml",
        "x.txt",
        "empty",
        "dir",
        "one/same.toml",
        "two/same.toml",
        "audit.toml",
    ];
    let dir = workspace(&format!("modules = {names:?}"));
    let at = |name: &str| dir.path().join(name);
    write(dir.path(), "latin.toml", b"\n\xe9");
    write(dir.path(), "escape.toml", "# \u{1b}[2J\n");
    write(dir.path(), "marks.toml", "# \u{202e}txet\n");
    huge(dir.path(), "huge.toml");
    fifo(dir.path(), "fifo.toml");
    symlink("loop.toml", at("loop.toml")).unwrap();
    symlink(outside.path().join("x.toml"), at("link.toml")).unwrap();
    write(dir.path(), "x.txt", MODULE);
    fs::create_dir(at("empty")).unwrap();
    write(dir.path(), "dir/tenants.toml", MODULE);
    symlink(outside.path().join("x.toml"), at("dir/out.toml")).unwrap();
    write(dir.path(), "one/same.toml", MODULE);
    write(dir.path(), "two/same.toml", MODULE);
    write(dir.path(), "audit.toml", MODULE);
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: `latin.toml` is not UTF-8 text: line 2 holds other bytes
      --> harden.toml:1:12
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir",…
      |            ^^^^^^^^^^^^ named here
      help: save it as UTF-8

    error: `escape.toml` holds the control character U+001B
      --> escape.toml:1:3
    1 | #  [2J
      |   ^ here
      help: remove it, or write it as an escape in a string

    error: `marks.toml` holds the control character U+202E
      --> marks.toml:1:3
    1 | #  txet
      |   ^ here
      help: remove it, or write it as an escape in a string

    error: `huge.toml` is larger than 1 MiB
      --> harden.toml:1:55
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.t…
      |                                                       ^^^^^^^^^^^ named here
      help: split it into several files

    error: `fifo.toml` is a device, socket or FIFO, not a file
      --> harden.toml:1:68
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                    ^^^^^^^^^^^ named here
      help: name a regular .toml file

    error: the module `loop.toml` cannot be read: it cannot be opened: Too many levels of symbolic links (os error 40)
      --> harden.toml:1:81
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                 ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `link.toml` cannot be read: it lies outside the workspace
      --> harden.toml:1:94
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                              ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `../x.toml` cannot be read: it does not exist
      --> harden.toml:1:107
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                           ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `/etc/x.toml` cannot be read: it is no relative path
      --> harden.toml:1:120
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                        ^^^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `gone.toml` cannot be read: it does not exist
      --> harden.toml:1:135
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                                       ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `x.txt` cannot be read: it does not end in .toml
      --> harden.toml:1:148
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                                                    ^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `empty` cannot be read: it holds no .toml file
      --> harden.toml:1:157
    1 | modules = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                                                             ^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `dir` cannot be read: it lies outside the workspace
      --> harden.toml:1:166
    1 | …es = ["latin.toml", "escape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                                                                  ^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: `one/same.toml` and `two/same.toml` are modules of the same name
      --> harden.toml:1:190
    1 | …ape.toml", "marks.toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                                                                  ^^^^^^^^^^^^^^^ here
      help: rename one of the files

    error: `audit.toml` has the name of a built-in module
      --> harden.toml:1:207
    1 | ….toml", "huge.toml", "fifo.toml", "loop.toml", "link.toml", "../x.toml", "/etc/x.toml", "gone.toml", "x.txt", "empty", "dir", "one/same.toml", "two/same.toml", "audit.toml"]
      |                                                                                                                                                                  ^^^^^^^^^^^^ here
      help: rename the file: its name is the section in profiles
    "#);
}

#[test]
fn modules_that_say_what_cannot_be() {
    let deep = "a = { ".repeat(10_000) + "a = 1" + &" }".repeat(10_000);
    let fields = ".fields.a".repeat(5_000);
    let nested = "(".repeat(10_000) + &")".repeat(10_000);
    let option = "[options.a]\ntype = \"string\"\ndoc = \"A.\"\nrisk = \"safe\"\n";
    let files = [
        ("syntax", "[module\nsummary =".to_owned()),
        (
            "deep",
            format!("{MODULE}[[object]]\nmanifest = {{ {deep} }}"),
        ),
        (
            "fields",
            format!("{MODULE}[options.a{fields}]\ntype = \"bool\""),
        ),
        ("nodes", MODULE.to_owned()),
        ("a b", MODULE.to_owned()),
        ("a.b", MODULE.to_owned()),
        ("regex", format!("{MODULE}{option}pattern = '{nested}'")),
    ];
    let dir = workspace("modules = [\"m\"]");
    for (name, text) in files {
        write(dir.path(), &format!("m/{name}.toml"), text);
    }
    insta::assert_snapshot!(brief(&told(dir.path())), @"
    error: a module cannot be called `a.b`
    --> m/a.b.toml:1:1
      here
    error: this is not TOML: cannot recurse further; max recursion depth met
    --> m/deep.toml:5:492
      here
    error: this is not TOML: recursion limit
    --> m/fields.toml:5:14
      here
    error: a module cannot be called `nodes`
    --> m/nodes.toml:1:1
      here
    error: this pattern is no regular expression
    --> m/regex.toml:8:11
      error: exceed the maximum number of nested parentheses/brackets (250)
    error: this is not TOML: unclosed table, expected `]`
    --> m/syntax.toml:1:8
      here
    ");
    // What is wrong inside of modules is told when all of them can be read.
    let dir = workspace("modules = [\"m\"]");
    write(dir.path(), "m/idle.toml", format!("{MODULE}{option}"));
    write(
        dir.path(),
        "m/free.toml",
        format!("{MODULE}[[object]]\nmanifest = {{}}"),
    );
    write(dir.path(), "m/empty.toml", "");
    insta::assert_snapshot!(brief(&told(dir.path())), @"
    error: `[module]` is missing
    --> m/empty.toml:1:1
      needed in every module
    error: this resource names no option and would always be there
    --> m/free.toml:4:1
      here
    ");
}

#[test]
fn what_cannot_be_unset() {
    let dir = workspace(
        "imports = [\"builtin:baseline\", \"a.toml\"]\n\
         unset = [\"apiserver.profilng\", \"audit.policy.x\", \"tenants.b\", \"cluster.name\", \
         \"scheduler.profiling\", \"tenants.a\", \"tenants.a.quota\", 7]",
    );
    write(
        dir.path(),
        "a.toml",
        "unset = [\"audit.policy\", \"\"]\naudit.policy = \"metadata\"\ntenants.a.namespaces = [\"a\"]",
    );
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: `unset` names `apiserver.profilng`, which is no option
      --> harden.toml:2:10
    2 | unset = ["apiserver.profilng", "audit.policy.x", "tenants.b", "cluster.name", "scheduler.profiling", "tenants.a", "tenants.a.quota", 7]
      |          ^^^^^^^^^^^^^^^^^^^^ did you mean `apiserver.profiling`?
      help: name an option such as `apiserver.profiling`

    error: `unset` has nothing to take back of `audit.policy.x`
      --> harden.toml:2:32
    2 | unset = ["apiserver.profilng", "audit.policy.x", "tenants.b", "cluster.name", "scheduler.profiling", "tenants.a", "tenants.a.quota", 7]
      |                                ^^^^^^^^^^^^^^^^ no import of this file sets it
      help: remove it

    error: `unset` has nothing to take back of `tenants.b`
      --> harden.toml:2:50
    2 | unset = ["apiserver.profilng", "audit.policy.x", "tenants.b", "cluster.name", "scheduler.profiling", "tenants.a", "tenants.a.quota", 7]
      |                                                  ^^^^^^^^^^^ no import of this file sets it
      help: remove it

    error: `unset` names `cluster.name`, which is no option
      --> harden.toml:2:63
    2 | unset = ["apiserver.profilng", "audit.policy.x", "tenants.b", "cluster.name", "scheduler.profiling", "tenants.a", "tenants.a.quota", 7]
      |                                                               ^^^^^^^^^^^^^^ unknown
      help: name an option such as `apiserver.profiling`

    error: `unset` has nothing to take back of `tenants.a.quota`
      --> harden.toml:2:115
    2 | unset = ["apiserver.profilng", "audit.policy.x", "tenants.b", "cluster.name", "scheduler.profiling", "tenants.a", "tenants.a.quota", 7]
      |                                                                                                                   ^^^^^^^^^^^^^^^^^ no import of this file sets it
      help: remove it

    error: `unset` must be a list of strings
      --> harden.toml:2:134
    2 | unset = ["apiserver.profilng", "audit.policy.x", "tenants.b", "cluster.name", "scheduler.profiling", "tenants.a", "tenants.a.quota", 7]
      |                                                                                                                                      ^ this is an integer
      help: put it in quotes

    error: `unset` has nothing to take back of `audit.policy`
      --> a.toml:1:10
    1 | unset = ["audit.policy", ""]
      |          ^^^^^^^^^^^^^^ no import of this file sets it
      help: remove it

    error: `unset` names ``, which is no option
      --> a.toml:1:26
    1 | unset = ["audit.policy", ""]
      |                          ^^ unknown
      help: name an option such as `apiserver.profiling`
    "#);
    let dir = workspace("unset = \"audit.policy\"");
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: `unset` must be a list of strings, not a string
      --> harden.toml:1:9
    1 | unset = "audit.policy"
      |         ^^^^^^^^^^^^^^ this is a string
      help: write a list of strings here
    "#);
}

#[test]
fn values_of_a_node_that_cannot_be() {
    let dir = workspace(
        "[nodes.host.cp1]\naddress = \"10.0.0.1\"\n\
         apiserver.profiling = false\nfiles.kubelet-mode = \"9999\"\nfiles.kublet-mode = \"0600\"\n\
         tenants.a.namespaces = [\"a\"]\nfils.kubelet-mode = \"0600\"\naudit = 1\n\
         [nodes.host.cp2.files]\nkubelet-mode = { a = 1 }\n[nodes.files]\nkubelet-mode = \"0600\"",
    );
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: `apiserver.profiling` cannot have a value per node
      --> harden.toml:3:23
    3 | apiserver.profiling = false
      |                       ^^^^^ all nodes share it
      help: set it outside of `[nodes.host]`

    error: `files.kubelet-mode` must be an octal mode such as "0600"
      --> harden.toml:4:22
    4 | files.kubelet-mode = "9999"
      |                      ^^^^^^ no mode
      help: files.kubelet-mode: The widest mode of the kubelet's kubeconfig and configuration, owned by root.

    error: `files` has no option `kublet-mode`
      --> harden.toml:5:7
    5 | files.kublet-mode = "0600"
      |       ^^^^^^^^^^^ did you mean `kubelet-mode`?
      help: files.kubelet-mode: The widest mode of the kubelet's kubeconfig and configuration, owned by root.

    error: `tenants` cannot have a value per node
      --> harden.toml:6:1
    6 | tenants.a.namespaces = ["a"]
      | ^^^^^^^ all nodes share it
      help: set it outside of `[nodes.host]`

    error: there is no key `nodes.host.cp1.fils`
      --> harden.toml:7:1
    7 | fils.kubelet-mode = "0600"
      | ^^^^ unknown
      help: use `transport`, `address`, `port`, `user`, `become`, `identity`, `known-hosts`, `engine` or `role`

    error: `audit` must be a table, not an integer
      --> harden.toml:8:9
    8 | audit = 1
      |         ^ this is an integer
      help: write `[audit]` with its options below

    error: `files.kubelet-mode` must be an octal mode such as "0600", not a table
       --> harden.toml:10:16
    10 | kubelet-mode = { a = 1 }
       |                ^^^^^^^^^ this is a table
      help: files.kubelet-mode: The widest mode of the kubelet's kubeconfig and configuration, owned by root. A name that holds a dot must be quoted, as in "requests.cpu".

    error: there is no key `nodes.files`
       --> harden.toml:11:8
    11 | [nodes.files]
       |        ^^^^^ unknown
      help: use `discover`, `host`, `transport`, `address`, `port`, `user`, `become`, `identity`, `known-hosts`, `engine` or `role`
    "#);
}

/// A module with these assertions, and an option that is set.
fn asserting(that: &[String]) -> tempfile::TempDir {
    let dir = workspace("modules = [\"own.toml\"]\nown.size = 3");
    let mut text = format!(
        "{MODULE}[options.size]\ntype = \"int\"\ndoc = \"A.\"\nrisk = \"safe\"\n\
         [[object]]\nmanifest = {{ apiVersion = \"v1\", kind = \"Namespace\", metadata = {{ name = \"a-${{own.size}}\" }} }}\n"
    );
    for that in that {
        text.push_str(&format!(
            "[[assert]]\nmessage = \"m\"\nhelp = \"h\"\nthat = '''{that}'''\n"
        ));
    }
    write(dir.path(), "own.toml", text);
    dir
}

#[test]
fn expressions_that_cannot_be_read() {
    let all = [
        "1 +".to_owned(),
        String::new(),
        "size(".repeat(10_000),
        "true || ".repeat(600) + "true",
        "(".repeat(200) + "true" + &")".repeat(200),
        "!".repeat(2000) + "true",
        "[".repeat(1000) + &"]".repeat(1000),
        "a".to_owned() + &".a".repeat(1500) + " ==",
        "true ? ".repeat(500) + "true" + &" : true".repeat(500),
    ];
    insta::assert_snapshot!(brief(&told(asserting(&all).path())), @"
    error: `that` is no expression of CEL
    --> own.toml:13:8
      at 1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', …
    error: `that` is no expression of CEL
    --> own.toml:17:8
      at 1:1: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', …
    error: `that` is no expression of CEL
    --> own.toml:21:8
      it is longer than 4096 bytes
    error: `that` is no expression of CEL
    --> own.toml:25:8
      it is longer than 4096 bytes
    error: `that` is no expression of CEL
    --> own.toml:29:8
      it is nested deeper than 32 levels
    error: `that` is no expression of CEL
    --> own.toml:37:8
      it is nested deeper than 32 levels
    error: `that` is no expression of CEL
    --> own.toml:41:8
      at 1:3005: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', …
    error: `that` is no expression of CEL
    --> own.toml:45:8
      it is longer than 4096 bytes
    ");
}

#[test]
fn expressions_that_cannot_be_evaluated() {
    let all = [
        "1 + 1",
        "nothing",
        "options.none.size > 1",
        "options.own.size > \"a\"",
        "options.own.size / 0 == 1",
        "options.own.size + 9223372036854775807 > 0",
        "[1, 2][7] == 1",
        "frobnicate(1)",
        "cidrContains(1, 2)",
        "'a'.matches('(')",
        "a.b.c.d.e.f",
    ];
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told(asserting(&all).path()), @r#"
    error: this assertion cannot be evaluated: it is int, not true or false
       --> own.toml:10:1
    10 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Undeclared reference to 'nothing'
       --> own.toml:14:1
    14 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: No such key: none
       --> own.toml:18:1
    18 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: found no matching overload for '_>_' applied to '(int, string)'
       --> own.toml:22:1
    22 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Division by zero of Int(3)
       --> own.toml:26:1
    26 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Overflow from binary operator 'add': Int(3), Int(9223372036854775807)
       --> own.toml:30:1
    30 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Index out of bounds: Int(7)
       --> own.toml:34:1
    34 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Undeclared reference to 'frobnicate'
       --> own.toml:38:1
    38 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Unexpected type: got 'Int(1)', want 'Arc<String>'
       --> own.toml:42:1
    42 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Undeclared reference to 'matches'
       --> own.toml:46:1
    46 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first

    error: this assertion cannot be evaluated: Undeclared reference to 'a'
       --> own.toml:50:1
    50 | [[assert]]
       | ^^^^^^^^^^ asserted here
      help: ask for what may be unset with `has(…)` or `"…" in …` first
    "#);
}

#[test]
fn long_chains_in_expressions_are_answered() {
    // Longer than any that is meant, and within the length that is read.
    let all = [
        "1".to_owned() + &"+1".repeat(2000) + " == 2001",
        "true".to_owned() + &"&&true".repeat(600),
        "options.own.size in [".to_owned() + &"3,".repeat(1900) + "3]",
    ];
    insta::assert_snapshot!(brief(&told(asserting(&all).path())), @"
    error: `that` is no expression of CEL
    --> own.toml:13:8
      it is nested deeper than 32 levels
    ");
}

#[test]
fn what_a_module_says_cannot_command_the_terminal() {
    let bad = "\\u001b[31m\\u202e";
    let dir = workspace(&format!(
        "modules = [\"own.toml\"]\n[own]\nword = \"a\"\ntext = \"b\"\nnumber = 9\nmap.\"{bad}\" = \"x\""
    ));
    let option = |name: &str, rest: &str| {
        format!("[options.{name}]\ndoc = \"{bad}\"\nrisk = \"safe\"\n{rest}\n")
    };
    let module = [
        MODULE.to_owned(),
        option("word", &format!("type = \"enum\"\nvalues = [\"ab{bad}\"]")),
        option("text", &format!("type = \"string\"\npattern = \"{bad}\"").replace('[', "")),
        option("number", &format!("type = \"int\"\nmax = 3\nunit = \"{bad}\"")),
        option("map", "type = \"map\"\nitems = \"string\""),
        "[[object]]\nmanifest = { a = \"${own.word}\", b = \"${own.text}\", c = \"${own.number}\", d = \"${own.map}\" }\n".to_owned(),
    ];
    write(dir.path(), "own.toml", module.concat());
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: `own.word` must be `ab\u{1b}[31m\u{202e}`
      --> harden.toml:3:8
    3 | word = "a"
      |        ^^^ not one of its values
      help: own.word: \u{1b}[31m\u{202e}

    error: `own.text` must be a string that matches `\u{1b}31m\u{202e}`
      --> harden.toml:4:8
    4 | text = "b"
      |        ^^^ it does not match
      help: own.text: \u{1b}[31m\u{202e}

    error: `own.number` must be an integer of at most 3 (\u{1b}[31m\u{202e})
      --> harden.toml:5:10
    5 | number = 9
      |          ^ out of range
      help: own.number: \u{1b}[31m\u{202e}
    "#);
    let own = format!(
        "{MODULE}{}[[object]]\nfor-each = \"own.map as each\"\nmanifest = {{ a = \"${{each.value}}\" }}\n\
         [[assert]]\nfor-each = \"own.map as each\"\nthat = \"false\"\nmessage = \"{bad} ${{each.name}}\"\nhelp = \"{bad}\"\n",
        option("map", "type = \"map\"\nitems = \"string\"")
    );
    let dir = workspace(&format!(
        "modules = [\"own.toml\"]\nown.map.\"{bad}\" = \"x\""
    ));
    write(dir.path(), "own.toml", own);
    insta::assert_snapshot!(told(dir.path()), @r#"
    error: \u{1b}[31m\u{202e} \u{1b}[31m\u{202e}
      --> harden.toml:2:30
    2 | own.map."\u001b[31m\u202e" = "x"
      |                              ^^^ 
      help: \u{1b}[31m\u{202e}

    error: this resource cannot be made: manifest: it needs apiVersion, kind and metadata.name as text
      --> own.toml:9:1
    9 | [[object]]
      | ^^^^^^^^^^ declared here
      help: check own.map.\u{1b}[31m\u{202e} at harden.toml:2, or correct the module
    "#);
}
