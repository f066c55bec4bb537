//! What is sent of each script: short enough for SSH, and the same program.

use std::process::Command;

use harden::apply::node::SCRIPT;
use harden::fact::probe;
use harden::host::{quote, sent};
use harden::resource::etcd_snapshots;

/// What libssh2 and every server take as one packet, and what of it must be left for the next change.
const PACKET: usize = 32 << 10;
const SPARE: usize = 4 << 10;

const SCRIPTS: [(&str, &str); 3] = [
    ("transaction", SCRIPT.text),
    ("etcd", etcd_snapshots::SCRIPT),
    ("probe", probe::SCRIPT),
];

/// The program as bash has read it: quoted texts and here-documents byte by byte, and no comments.
fn read_by_bash(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("bash")
        .arg("--pretty-print")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_script_fits_into_one_packet_with_room_to_grow() {
    for (name, text) in SCRIPTS {
        let length = quote(&sent(text)).len();
        assert!(length <= PACKET - SPARE, "{name} is sent in {length} bytes");
    }
}

#[test]
fn what_is_sent_is_the_same_program_and_begins_with_what_it_is() {
    for (name, text) in SCRIPTS {
        let short = sent(text);
        assert!(short.len() < text.len(), "{name}");
        assert_eq!(short.lines().next(), text.lines().next(), "{name}");
        let program = read_by_bash(text);
        assert!(program.contains("() "), "{name}: bash shows no function");
        assert_eq!(read_by_bash(&short), program, "{name}");
    }
    // Both would be seen.
    for text in ["#\necho 'a\n  # b\n'", "#\ncat <<END\n  b\nEND\n"] {
        assert_ne!(read_by_bash(&sent(text)), read_by_bash(text));
    }
}
