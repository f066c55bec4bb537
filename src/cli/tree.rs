//! Directories that a command writes as a whole, and knows again by their mark.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harden::report::Mark;

use super::Failure;

/// The largest file that such a command may have written, in bytes.
const LARGEST: u64 = 16 << 20;

/// Where files lie as they are to lie on a node: root's alone, from the beginning.
const OF_NODES: &str = "files/";

/// Puts a tree in the place of a former one, whole or not at all.
pub(super) fn write(
    dir: &Path,
    files: &BTreeMap<String, String>,
    mark: Mark,
) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        Failure::new(
            format!("cannot write {}: {error}", dir.display()),
            "you must be allowed to write into the directory above it",
        )
    };
    let former = former(dir, mark)?;
    let target = match former {
        Former::None => dir.to_owned(),
        Former::Empty | Former::Tree => dir.canonicalize().map_err(cannot)?,
    };
    let above = match target.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) if target.file_name().is_some() => above,
        _ => return Err(refuse(dir, "is no place for a directory", mark)),
    };
    if !above.is_dir() {
        return Err(refuse(dir, "has no directory above it", mark));
    }
    // Beside it, so that a rename is all that is left to do.
    let work = tempfile::Builder::new()
        .prefix(&format!("{}-", mark.file))
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
    Tree,
}

/// Looks at what is there, and refuses everything that no render has written.
fn former(dir: &Path, mark: Mark) -> Result<Former, Failure> {
    let refuse = |dir: &Path, why: &str| refuse(dir, why, mark);
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
    let Some(text) = files.remove(mark.file) else {
        let is_empty = fs::read_dir(dir).map_err(cannot)?.next().is_none();
        return match is_empty {
            true => Ok(Former::Empty),
            false => Err(refuse(
                dir,
                &format!("is not empty and was not written by `{}`", mark.command),
            )),
        };
    };
    if text == mark.text(&files) {
        return Ok(Former::Tree);
    }
    let is_listed = |name: &String| {
        text.lines().any(|line| {
            line.split_once("  ")
                .is_some_and(|(_, listed)| listed == name)
        })
    };
    let what = match files.keys().find(|name| !is_listed(name)) {
        Some(other) => format!(
            "holds {other:?} besides what `{}` wrote, which would be lost",
            mark.command
        ),
        None => format!(
            "was changed since `{}` wrote it, which would be lost",
            mark.command
        ),
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

fn refuse(dir: &Path, why: &str, mark: Mark) -> Failure {
    Failure::new(
        format!("{} {why}; nothing was written", dir.display()),
        format!(
            "name a directory that is yet to be made, is empty, or is as `{}` left it",
            mark.command
        ),
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
        fs::write(&path, text)?;
        if name.starts_with(OF_NODES) {
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}
