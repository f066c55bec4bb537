//! Files with keys on a node, read and replaced by `transaction.sh` under each shell.

use crate::apply_world::{HOLDER, each_shell};
use harden::apply::node::{Client, Code, NodeError};
use harden::fact::sha256;

const OLD: &str = "old: 'it'\\''s' $(reboot)\n\nharden-end\nok\n";
const NEW: &str = "secret: canary-canary-canary\nno newline";

fn code<T: std::fmt::Debug>(result: Result<T, NodeError>) -> Code {
    match result {
        Err(NodeError::Refused { code, message, .. }) => {
            assert!(!message.contains("canary"), "{message}");
            code
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_file_with_keys_is_replaced_whole_and_leaves_no_copy() {
    each_shell(|mut node| {
        node.write("enc/config.yaml", OLD, 0o640);
        // What a run that was killed had left.
        node.write("enc/.harden.keys.77", "canary", 0o600);
        let path = node.path("enc/config.yaml");
        let mut client = Client::new(&mut node, HOLDER);
        client.lock(HOLDER, None).unwrap();
        assert_eq!(&**client.secret(&path).unwrap(), OLD.as_bytes());
        client
            .replace(&path, Some(&sha256(OLD)), NEW.as_bytes())
            .unwrap();
        // A run whose answer was lost asks again.
        client
            .replace(&path, Some(&sha256(OLD)), NEW.as_bytes())
            .unwrap();
        assert_eq!(&**client.secret(&path).unwrap(), NEW.as_bytes());
        assert_eq!(node.read("enc/config.yaml").as_deref(), Some(NEW));
        let tree = format!("{:?}", node.tree());
        assert!(!tree.contains(".harden.keys"), "{tree}");
        match node.file("enc/config.yaml") {
            harden::plan::FileState::File { mode, owner, .. } => {
                assert_eq!((mode, owner.as_str()), (0o600, "root"));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_is_not_what_it_was_is_left_alone() {
    each_shell(|mut node| {
        node.write("enc/config.yaml", OLD, 0o600);
        node.write("enc/dir/file", "x", 0o600);
        let before = node.tree();
        let (path, dir, none) = (
            node.path("enc/config.yaml"),
            node.path("enc/dir"),
            node.path("enc/none"),
        );
        let mut client = Client::new(&mut node, HOLDER);
        client.lock(HOLDER, None).unwrap();
        let other = sha256("somebody else was here");
        assert_eq!(
            code(client.replace(&path, Some(other.as_str()), NEW.as_bytes())),
            Code::Moved
        );
        for path in [&dir, &none] {
            let replaced = client.replace(path, Some(&sha256(OLD)), NEW.as_bytes());
            assert_eq!(code(replaced), Code::Moved);
            assert_eq!(code(client.secret(path)), Code::Unknown);
        }
        assert_eq!(node.tree(), before);
    });
}

#[test]
fn only_the_holder_of_the_lock_sees_and_writes_keys() {
    each_shell(|mut node| {
        node.write("enc/config.yaml", OLD, 0o600);
        let path = node.path("enc/config.yaml");
        Client::new(&mut node, HOLDER).lock(HOLDER, None).unwrap();
        let mut stranger = Client::new(&mut node, "somebody else");
        assert_eq!(code(stranger.secret(&path)), Code::NotHeld);
        let replaced = stranger.replace(&path, Some(&sha256(OLD)), NEW.as_bytes());
        assert_eq!(code(replaced), Code::NotHeld);
        assert_eq!(node.read("enc/config.yaml").as_deref(), Some(OLD));
    });
}

#[test]
fn a_first_file_with_keys_is_made_in_a_directory_of_its_own_and_erased_without_a_copy() {
    each_shell(|mut node| {
        let path = node.path("enc/config.yaml");
        let mut client = Client::new(&mut node, HOLDER);
        client.lock(HOLDER, None).unwrap();
        client.replace(&path, None, OLD.as_bytes()).unwrap();
        // A run whose answer was lost asks again; one that knows of no file overwrites none.
        client.replace(&path, None, OLD.as_bytes()).unwrap();
        assert_eq!(
            code(client.replace(&path, None, NEW.as_bytes())),
            Code::Moved
        );
        assert_eq!(&**client.secret(&path).unwrap(), OLD.as_bytes());
        assert_eq!(code(client.erase(&path, &sha256(NEW))), Code::Moved);
        assert_eq!(node.read("enc/config.yaml").as_deref(), Some(OLD));
        let tree = format!("{:?}", node.tree());
        let mut client = Client::new(&mut node, HOLDER);
        client.erase(&path, &sha256(OLD)).unwrap();
        client.erase(&path, &sha256(OLD)).unwrap();
        assert_eq!(node.read("enc/config.yaml"), None);
        let after = format!("{:?}", node.tree());
        assert!(tree.contains("config.yaml") && !after.contains("config.yaml"));
        assert!(!after.contains(".harden.keys"), "{after}");
        let mut stranger = Client::new(&mut node, "somebody else");
        assert_eq!(
            code(stranger.replace(&path, None, OLD.as_bytes())),
            Code::NotHeld
        );
        assert_eq!(code(stranger.erase(&path, &sha256(OLD))), Code::NotHeld);
    });
}
