//! Writes the files that the user keeps: plans and the lock.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use super::Failure;

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner only.
    Owner,
    /// Whom the umask lets, as for any other file of the workspace.
    Umask,
}

/// Refuses a place where something else than a file is. A rename would put a file there instead: of
/// a device, of a pipe that somebody reads, of a link.
pub(crate) fn check_target(path: &Path) -> Result<(), Failure> {
    let kind = match std::fs::symlink_metadata(path) {
        // What is not there, or cannot be looked at, is for the writing to tell.
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_file() => return Ok(()),
        Ok(meta) if meta.is_dir() => "a directory",
        Ok(meta) if meta.is_symlink() => "a symbolic link",
        Ok(meta) if meta.file_type().is_fifo() => "a pipe",
        Ok(_) => "a device or socket",
    };
    Err(Failure::new(
        format!(
            "{} is {kind}, not a regular file; it is left as it is",
            path.display()
        ),
        "name a file, or a place where nothing is yet",
    ))
}

/// Writes a file whole or not at all, over a former regular file only.
pub(crate) fn save(path: &Path, text: &str, readers: Readers) -> Result<(), Failure> {
    check_target(path)?;
    let write = || -> std::io::Result<()> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Umask => 0o666,
        };
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|e| {
        Failure::new(
            format!("cannot write {}: {e}", path.display()),
            "its directory must exist, and you must be allowed to write there",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_plan_is_readable_by_its_owner_only_whatever_the_umask_lets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        save(&path, "first", Readers::Umask).unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(
            mode(),
            std::fs::metadata(&plain).unwrap().permissions().mode() & 0o777
        );
        save(&path, "second", Readers::Owner).unwrap();
        assert_eq!(mode(), 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
    }

    #[test]
    fn what_is_no_regular_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "kept").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let kind = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().file_type();
        for name in ["link", "dangling", "directory", "socket"] {
            let before = kind(name);
            for readers in [Readers::Owner, Readers::Umask] {
                let refused = save(&at(name), "new", readers).unwrap_err();
                assert!(format!("{refused:?}").contains("not a regular file"));
            }
            assert_eq!(kind(name), before, "{name}");
        }
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "kept");
        assert!(!at("nowhere").exists());
    }
}
