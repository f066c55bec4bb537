//! `harden render`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use harden::report::{self, RENDER_MARK};
use serde_json::json;

use super::args::{Global, RenderArgs};
use super::output::Output;
use super::session::Evaluated;
use super::{Exit, Failure};

/// The largest file that a render may have written, in bytes.
const LARGEST: u64 = 16 << 20;

/// Writes the desired state as a tree of files.
pub(crate) fn run(args: &RenderArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let evaluated = Evaluated::read(global)?;
    output.findings(&evaluated.desired.findings);
    let files = report::render(&evaluated.desired).map_err(|e| {
        let hint = "`harden eval --format json` shows every resource and the options behind it";
        Failure::new(format!("the state cannot be written as files: {e}"), hint)
    })?;
    write(&args.dir, &files)?;
    let names: Vec<&String> = files.keys().collect();
    let json = json!({
        "schema": "harden.dev/render/v1",
        "sha256": evaluated.desired.sha256(),
        "files": names,
    });
    output.result("", &json);
    output.note(&format!(
        "{} files are in {}.",
        files.len(),
        args.dir.display()
    ));
    Ok(Exit::Done)
}

/// Puts a tree in the place of a former one, whole or not at all.
fn write(dir: &Path, files: &BTreeMap<String, String>) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        Failure::new(
            format!("cannot write {}: {error}", dir.display()),
            "you must be allowed to write into the directory above it",
        )
    };
    let former = former(dir)?;
    let target = match former {
        Former::None => dir.to_owned(),
        Former::Empty | Former::Render => dir.canonicalize().map_err(cannot)?,
    };
    let above = match target.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) if target.file_name().is_some() => above,
        _ => return Err(refuse(dir, "is no place for a directory")),
    };
    if !above.is_dir() {
        return Err(refuse(dir, "has no directory above it"));
    }
    // Beside it, so that a rename is all that is left to do.
    let work = tempfile::Builder::new()
        .prefix(".harden-render-")
        .tempdir_in(above)
        .map_err(cannot)?;
    let (new, old) = (work.path().join("new"), work.path().join("old"));
    fill(&new, files).map_err(cannot)?;
    if !matches!(former, Former::None) {
        fs::rename(&target, &old).map_err(cannot)?;
    }
    fs::rename(&new, &target).map_err(|error| {
        if !matches!(former, Former::None) {
            let _ = fs::rename(&old, &target);
        }
        cannot(error)
    })?;
    // What was there lies in the working directory and goes with it.
    work.close().map_err(cannot)
}

/// What is at the place of the tree.
enum Former {
    None,
    Empty,
    Render,
}

/// Looks at what is there, and refuses everything that no render has written.
fn former(dir: &Path) -> Result<Former, Failure> {
    let meta = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Former::None),
        Err(error) => return Err(refuse(dir, &format!("cannot be looked at: {error}"))),
        Ok(meta) => meta,
    };
    if !meta.is_dir() {
        return Err(refuse(dir, "is no directory"));
    }
    let cannot = |error: io::Error| refuse(dir, &format!("cannot be read: {error}"));
    let mut files = BTreeMap::new();
    read(dir, "", &mut files).map_err(cannot)?;
    let Some(mark) = files.remove(RENDER_MARK) else {
        let is_empty = fs::read_dir(dir).map_err(cannot)?.next().is_none();
        return match is_empty {
            true => Ok(Former::Empty),
            false => Err(refuse(dir, "is not empty and holds no former render")),
        };
    };
    if mark == report::render_mark(&files) {
        return Ok(Former::Render);
    }
    let is_listed = |name: &String| {
        mark.lines().any(|line| {
            line.split_once("  ")
                .is_some_and(|(_, listed)| listed == name)
        })
    };
    let what = match files.keys().find(|name| !is_listed(name)) {
        Some(other) => format!("holds {other:?} besides a former render, which would be lost"),
        None => "was changed since it was rendered, which would be lost".into(),
    };
    Err(refuse(dir, &what))
}

/// Reads every file below a directory, by its path there. What is no text or no file is read as
/// something that no render writes.
fn read(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let path = entry.path();
            // No render leaves a directory empty.
            if fs::read_dir(&path)?.next().is_none() {
                files.insert(name.clone(), String::new());
            }
            read(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST {
            let bytes = fs::read(entry.path())?;
            files.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        } else {
            files.insert(name, String::new());
        }
    }
    Ok(())
}

fn refuse(dir: &Path, why: &str) -> Failure {
    Failure::new(
        format!("{} {why}; nothing was written", dir.display()),
        "name a directory that is yet to be made, is empty, or is as `harden render` left it",
    )
}

/// Writes the files below a new directory.
fn fill(root: &Path, files: &BTreeMap<String, String>) -> io::Result<()> {
    fs::create_dir(root)?;
    for (name, text) in files {
        let path: PathBuf = root.join(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}
