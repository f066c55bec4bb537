//! The backup of a key, before it encrypts anything: a file, or a program that gets it on stdin.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use harden::apply::Trouble;
use harden::fact::encryption::Form;
use harden::resource::encryption::Backup;
use harden::resource::encryption::keys::Secret;
use zeroize::Zeroizing;

use super::recipient;

/// Checks, before anything is done, that nothing is there yet. `dir` is the workspace's, which paths of
/// files are relative to; programs run where the user is.
pub(super) fn check(dir: &Path, backup: &Backup) -> Result<(), Trouble> {
    match backup {
        Backup::File(path) if dir.join(path).symlink_metadata().is_ok() => Err(Trouble::new(
            format!("{path} is there already; nothing was changed"),
            "each key has a backup of its own: name a file that does not exist",
        )),
        _ => Ok(()),
    }
}

/// Backs a key of the cluster of this name up.
pub(super) fn write(
    dir: &Path,
    backup: &Backup,
    cluster: &str,
    form: &Form,
    secret: &Secret,
) -> Result<(), Trouble> {
    check(dir, backup)?;
    let text = text(cluster, form, secret);
    match backup {
        Backup::File(path) => to_file(&dir.join(path), &text),
        Backup::Command(command) => to_program(command, &text),
    }
}

/// What is backed up: as it stands in an EncryptionConfiguration, with the cluster's name.
fn text(cluster: &str, form: &Form, secret: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(1024 + cluster.len()));
    let Form::Key { provider, name } = form else {
        return text;
    };
    for part in [
        "# A key of the cluster ",
        cluster.lines().next().unwrap_or_default(),
        ", as it stands in its EncryptionConfiguration.\n- ",
        provider.name(),
        ":\n    keys:\n    - name: \"",
        name.as_str(),
        "\"\n      secret: ",
        secret.expose(),
        "\n",
    ] {
        text.push_str(part);
    }
    text
}

fn to_file(path: &Path, text: &str) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| {
        Trouble::new(
            format!(
                "the key could not be backed up in {}: {error}; nothing was changed",
                path.display()
            ),
            "name a file that does not exist, in a directory that you may write",
        )
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    // The name as well: it must be there after a power cut, since the key encrypts by then.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::File::open(dir)?.sync_all())
        .map_err(failed)
}

fn to_program(command: &[String], text: &str) -> Result<(), Trouble> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Trouble::new("no program is named", ""));
    };
    let failed = |why: String| {
        Trouble::new(
            format!("the key could not be backed up by {program}: {why}; nothing was changed"),
            "run the program by hand; it gets the key on stdin, and must write it to a file of its own",
        )
    };
    recipient::give(program, arguments, failed, |stdin| {
        stdin
            .write_all(text.as_bytes())
            .map_err(|error| failed(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use harden::fact::encryption::Provider;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn what(failure: Result<(), Trouble>) -> String {
        match failure {
            Err(Trouble { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_new_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let form = Form::key(Provider::Secretbox, "k1").unwrap();
        let text = text("prod", &form, &Secret::of(&[7; 32]));
        to_file(&path, &text).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written.contains("- secretbox:\n    keys:\n    - name: \"k1\"\n      secret: BwcH")
        );
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(what(to_file(&path, &text)).contains("could not be backed up"));
        // A way out of the directory by a link that somebody else left.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(to_file(&link, &text).is_err());
    }

    #[test]
    fn a_program_must_take_it_and_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let command = format!("dd status=none of={}", path.display());
        to_program(&words(&command), "the key\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the key\n");
        assert!(what(to_program(&words("cat"), "canary")).contains("stdout"));
        for bad in ["false", "/none/of/it"] {
            let what = what(to_program(&words(bad), "canary"));
            assert!(what.contains("nothing was changed") && !what.contains("canary"));
        }
    }
}
