//! A snapshot on its way from the node: to a program that encrypts it, or in clear to a file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use harden::apply;
use harden::fact::hex;
use harden::fact::snapshot::Snapshot;
use harden::host::Host;
use sha2::{Digest, Sha256};

use super::Failure;
use super::args::SnapshotArgs;
use super::output::Output;
use super::recipient;

/// Checks, before a snapshot is taken, that nothing is where it shall go.
pub(super) fn check(own: &SnapshotArgs) -> Result<(), Failure> {
    match &own.out {
        Some(path) if path.symlink_metadata().is_ok() => Err(Failure::new(
            format!("{} is there already; no snapshot was taken", path.display()),
            "name a file that does not exist",
        )),
        _ => Ok(()),
    }
}

/// Takes a snapshot away, if that is asked for. Returns where to.
pub(super) fn take_away(
    own: &SnapshotArgs,
    host: &mut dyn Host,
    snapshot: &Snapshot,
    output: &Output,
) -> Result<Option<String>, Failure> {
    let stays = |mut failure: Failure| {
        if let Failure::Other { what, .. } = &mut failure {
            what.push_str(&format!("; snapshot {} stays on its node", snapshot.name));
        }
        failure
    };
    let to = match (&own.out, own.command.as_slice()) {
        (Some(path), _) => {
            to_file(path, host, snapshot, output).map_err(stays)?;
            path.display().to_string()
        }
        (None, [program, arguments @ ..]) => {
            to_program(program, arguments, host, snapshot, output).map_err(stays)?;
            program.clone()
        }
        (None, []) => return Ok(None),
    };
    output.note(&format!(
        "{} went to {to}, and what came has the SHA-256 of what is on the node",
        snapshot.name
    ));
    Ok(Some(to))
}

/// Sends all of a snapshot somewhere, and compares what came with what there is.
fn send(
    host: &mut dyn Host,
    snapshot: &Snapshot,
    to: &mut dyn Write,
    output: &Output,
) -> Result<(), Failure> {
    let bar = output.bar("MiB", usize::try_from(snapshot.size >> 20).unwrap_or(0));
    let mut sum = Sha256::new();
    let fetched = apply::fetch(host, snapshot, &mut |part| {
        sum.update(part);
        bar.inc(part.len() as u64 >> 20);
        to.write_all(part)
            .map_err(|error| format!("it could not be passed on: {error}"))
    });
    bar.finish_and_clear();
    fetched?;
    to.flush().map_err(|error| {
        Failure::new(
            format!("it could not be passed on: {error}"),
            "make room for it",
        )
    })?;
    match hex(&sum.finalize()) == snapshot.sha256 {
        true => Ok(()),
        false => Err(Failure::new(
            "what came has another SHA-256 than what is on the node",
            "take it away once more; if it stays, the node's disk loses data",
        )),
    }
}

fn to_file(
    path: &Path,
    host: &mut dyn Host,
    snapshot: &Snapshot,
    output: &Output,
) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            format!("{} cannot be written: {error}", path.display()),
            "name a file that does not exist, in a directory that you may write",
        )
    };
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let sent =
        send(host, snapshot, &mut file, output).and_then(|()| file.sync_all().map_err(failed));
    if sent.is_err() {
        // Half of a snapshot is of no use to anybody.
        let _ = std::fs::remove_file(path);
    }
    sent
}

fn to_program(
    program: &str,
    arguments: &[String],
    host: &mut dyn Host,
    snapshot: &Snapshot,
    output: &Output,
) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(
            format!("{program} did not take the snapshot: {why}"),
            "run the program by hand; it gets the snapshot on stdin, and must write to a file of its own",
        )
    };
    recipient::give(program, arguments, failed, |stdin| {
        send(host, snapshot, stdin, output)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;
    use harden::fact::sha256;
    use harden::fact::snapshot::{Reason, SnapshotName};
    use harden::host::{Exit, HostError, Limits, Script, Tunnel};

    use super::super::args::{Args, Global};
    use super::*;

    /// A node that has a snapshot of these bytes.
    struct Node(Vec<u8>);

    impl Host for Node {
        fn name(&self) -> &str {
            "cp1"
        }

        fn run(
            &mut self,
            _: Script,
            stdin: &[u8],
            _: Limits,
        ) -> Result<harden::host::Output, HostError> {
            let line = String::from_utf8_lossy(stdin).into_owned();
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[3], "part");
            let (skip, count): (usize, usize) =
                (words[5].parse().unwrap(), words[6].parse().unwrap());
            let part = self.0.chunks(1 << 20).skip(skip).take(count).flatten();
            let mut stdout = format!("banner\n\nharden-begin {}\n", words[2]).into_bytes();
            stdout.extend(part);
            stdout.extend(format!("\nok\nharden-end {}\n", words[2]).bytes());
            Ok(harden::host::Output {
                stdout,
                stderr: String::new(),
                exit: Exit::Code(0),
            })
        }

        fn disconnect(&mut self) {}

        fn tunnel(&mut self, _: u16) -> Result<Tunnel, HostError> {
            unreachable!()
        }
    }

    fn bytes() -> Vec<u8> {
        let mut all: Vec<u8> = (0..9 << 20).map(|i: u32| (i % 253) as u8).collect();
        all.extend(b"\nok\nharden-end 1\n");
        all
    }

    fn snapshot(bytes: &[u8]) -> Snapshot {
        Snapshot {
            name: SnapshotName::new("20261126T205418Z").unwrap(),
            reason: Reason::Asked,
            revision: 1,
            hash: 1,
            keys: 1,
            size: bytes.len() as u64,
            sha256: sha256(bytes),
            version: "3.6.0".into(),
            whole: true,
        }
    }

    fn own(words: &[&str]) -> Option<SnapshotArgs> {
        let words = [&["harden", "etcd", "snapshot"], words].concat();
        match Args::try_parse_from(words).ok()?.command {
            super::super::args::Command::Etcd(super::super::args::EtcdCommand::Snapshot(own)) => {
                Some(own)
            }
            _ => None,
        }
    }

    fn quiet() -> Output {
        let global: Global = Args::try_parse_from(["harden", "-q", "generations"])
            .unwrap()
            .global;
        Output::new(&global)
    }

    fn what(result: Result<Option<String>, Failure>) -> String {
        match result {
            Err(Failure::Other { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_written_in_clear_only_when_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.db");
        let name = path.display().to_string();
        assert!(own(&["--out", &name]).is_none());
        let own = own(&["--out", &name, "--clear"]).unwrap();
        check(&own).unwrap();
        let bytes = bytes();
        take_away(&own, &mut Node(bytes.clone()), &snapshot(&bytes), &quiet()).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(check(&own).is_err());
    }

    #[test]
    fn what_came_otherwise_than_it_is_on_the_node_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.db");
        let own = own(&["--out", path.to_str().unwrap(), "--clear"]).unwrap();
        let bytes = bytes();
        let mut other = bytes.clone();
        other[7] ^= 1;
        let said = what(take_away(
            &own,
            &mut Node(other),
            &snapshot(&bytes),
            &quiet(),
        ));
        assert!(
            said.contains("another SHA-256") && said.contains("stays on its node"),
            "{said}"
        );
        assert!(!path.exists());
        let short = bytes[..bytes.len() - 1].to_vec();
        let said = what(take_away(
            &own,
            &mut Node(short),
            &snapshot(&bytes),
            &quiet(),
        ));
        assert!(said.contains("another size"), "{said}");
        assert!(!path.exists());
    }

    #[test]
    fn a_program_must_take_it_and_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        let bytes = bytes();
        let give = |words: &[&str]| {
            let own = own(&[&["--"], words].concat()).unwrap();
            take_away(&own, &mut Node(bytes.clone()), &snapshot(&bytes), &quiet())
        };
        give(&[
            "dd",
            "status=none",
            "bs=64k",
            "iflag=fullblock",
            &format!("of={}", path.display()),
        ])
        .unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert!(what(give(&["cat"])).contains("stdout"));
        for bad in [
            &["false"][..],
            &["sh", "-c", "cat >/dev/null; exit 3"],
            &["/none/of/it"],
        ] {
            assert!(what(give(bad)).contains("stays on its node"), "{bad:?}");
        }
    }
}
