//! A key that the user has: from a file, a variable or a program of this machine, read when it is needed.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use harden::apply::Trouble;
use harden::resource::Origin;
use harden::resource::encryption::KeySource;
use harden::resource::encryption::keys::Secret;
use zeroize::Zeroizing;

/// The most that is read of anything: a key with white space around it is far shorter.
const MOST: usize = 4096;

/// Reads the key that a reference stands for. `dir` is the workspace's, which paths of files are relative to;
/// a program runs where the user is. `origin` is where the reference stands.
pub(super) fn read(
    dir: &Path,
    source: &KeySource,
    origin: Option<&Origin>,
) -> Result<Secret, Trouble> {
    let found = match source {
        KeySource::File(path) => from_file(&dir.join(path)),
        KeySource::Env(name) => from_env(name),
        KeySource::Command(words) => from_program(words),
    };
    found.and_then(|text| Secret::given(&text)).map_err(|why| {
        let place = match origin {
            Some(origin) => format!("{origin}: "),
            None => String::new(),
        };
        Trouble::new(
            format!("{place}{source} has no key: {why}; nothing was changed"),
            "it must be 32 bytes of randomness as base64 and nothing else, 44 characters, as \
             `head -c 32 /dev/urandom | base64` writes them",
        )
    })
}

fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    all_of(&mut file)
}

fn from_env(name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    use std::os::unix::ffi::OsStringExt;
    match std::env::var_os(name) {
        Some(value) => Ok(Zeroizing::new(value.into_vec())),
        None => Err("it is not set".into()),
    }
}

/// The program's words on stderr are the user's; its stdout is the key.
fn from_program(words: &[String]) -> Result<Zeroizing<Vec<u8>>, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("no program is named".into());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| error.to_string())?;
    let text = match child.stdout.take() {
        Some(mut stdout) => all_of(&mut stdout),
        None => Err("it has no stdout".into()),
    };
    if text.is_err() {
        // Nobody reads the rest, for which it would wait.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match text {
        Ok(_) if !status.success() => Err(format!("it ended with {status}")),
        text => text,
    }
}

/// Reads all of it, into memory that does not grow and leaves no copies behind.
fn all_of(from: &mut dyn Read) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut all = Zeroizing::new(vec![0; MOST]);
    let mut length = 0;
    loop {
        let Some(rest) = all.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            return Err(format!("it is longer than {MOST} bytes"));
        };
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    all.truncate(length);
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// 32 bytes, and something to know them by.
    const KEY: &str = "Y2FuYXJ5AP9jYW5hcnktY2FuYXJ5LWNhbmFyeS1rISE=";

    fn words(text: &str) -> KeySource {
        KeySource::Command(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn a_key_comes_from_a_file_or_a_program() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), format!("{KEY}\n")).unwrap();
        let path = dir.path().join("key");
        for source in [
            KeySource::File("key".into()),
            words(&format!("cat {}", path.display())),
        ] {
            let secret = read(dir.path(), &source, None).unwrap();
            assert_eq!(secret.expose(), KEY);
        }
    }

    #[test]
    fn what_is_no_key_is_told_with_its_place_and_without_its_value() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("short"), "Y2FuYXJ5\n").unwrap();
        std::fs::write(dir.path().join("long"), vec![b'A'; 1 << 20]).unwrap();
        let origin = Origin {
            option: "encryption.key".into(),
            file: "harden.toml".into(),
            line: 7,
        };
        let long = dir.path().join("long");
        for (source, why) in [
            (KeySource::File("short".into()), "of 6 bytes"),
            (KeySource::File("none".into()), "No such file"),
            (KeySource::File("long".into()), "longer than 4096 bytes"),
            (KeySource::File(".".into()), "directory"),
            (KeySource::Env("HARDEN_TEST_UNSET".into()), "is not set"),
            (words("/none/of/it"), "No such file"),
            (words("false"), "exit status: 1"),
            (words("true"), "of 0 bytes"),
            (words("echo canary"), "no base64"),
            (words(&format!("cat {}", long.display())), "longer than"),
        ] {
            let Trouble { what, remedy } = read(dir.path(), &source, Some(&origin)).unwrap_err();
            assert!(
                what.starts_with("encryption.key at harden.toml:7: "),
                "{what}"
            );
            assert!(what.contains(why) && !what.contains("Y2Fu"), "{what}");
            assert!(
                !what.replace("echo canary", "").contains("canary"),
                "{what}"
            );
            assert!(remedy.contains("32 bytes"));
        }
    }
}
