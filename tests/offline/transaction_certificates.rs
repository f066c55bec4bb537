//! Certificates that kubeadm renews in a transaction: under dash, bash and BusyBox, with a kubeadm that
//! writes what it is told to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::apply_world::{HOLDER, Sandbox, each_shell, stage};
use harden::apply::node::{Client, Code, Id, NodeError};
use harden::distribution::kubeadm::certificates::KubeadmCertificate;
use harden::plan::{FileAction, FileState, FileTarget};

const ID: Id = Id {
    generation: 1,
    step: 1,
};
const LONG: Duration = Duration::from_secs(600);

/// Something that must stay on the node.
const KEY: &str = "CANARY key";

/// A node with a certificate, its key, and a kubeadm.
fn with_kubeadm(mut node: Sandbox) -> Sandbox {
    node.write("pki/apiserver.crt", "old certificate\n", 0o644);
    node.write("pki/apiserver.key", KEY, 0o640);
    let bin = node.bin.clone().unwrap_or_else(|| node.root.join("bin"));
    fs::create_dir_all(&bin).unwrap();
    let etc = node.root.join("etc");
    let text = format!(
        "#!/bin/sh\ncd {} || exit 8\necho \"$*\" >>calls\nif [ -f broken ]; then echo '{KEY}'; echo no configuration >&2; exit 1; fi\n\
         [ \"$*\" = 'certs renew apiserver' ] || exit 9\n[ -f lazy ] && exit 0\n[ -f slow ] && sleep 8\n\
         echo \"new certificate $$\" >pki/apiserver.crt\n[ -f half ] && exit 1\n\
         rm -f pki/apiserver.key\necho \"new key $$\" >pki/apiserver.key\n",
        etc.display()
    );
    fs::write(bin.join("kubeadm"), text).unwrap();
    fs::set_permissions(bin.join("kubeadm"), PermissionsExt::from_mode(0o755)).unwrap();
    node.bin = Some(bin);
    node
}

fn kept(mode: u32) -> FileState {
    FileState::Kept {
        mode,
        owner: "root".into(),
        group: "root".into(),
    }
}

/// Certificate and key, the key with another mode, and somebody who reads them.
fn renewal(node: &Sandbox) -> Vec<FileAction> {
    let file = |name: &str, before: u32, mode: u32| FileAction {
        path: node.path(name),
        before: kept(before),
        after: FileTarget::Renewed {
            certificate: KubeadmCertificate::Apiserver,
            mode,
            owner: "root".into(),
            group: "root".into(),
        },
    };
    vec![
        file("pki/apiserver.crt", 0o644, 0o644),
        file("pki/apiserver.key", 0o640, 0o600),
        node.set("manifests/kube-apiserver.yaml", "restarted"),
    ]
}

fn refused(result: Result<(), NodeError>) -> (Code, String) {
    match result {
        Err(NodeError::Refused { code, message, .. }) => (code, message),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn pki(node: &Sandbox) -> (String, String) {
    let read = |name| node.read(name).unwrap();
    (read("pki/apiserver.crt"), read("pki/apiserver.key"))
}

fn mode(node: &Sandbox, name: &str) -> u32 {
    let meta = fs::metadata(node.root.join("etc").join(name)).unwrap();
    meta.permissions().mode() & 0o7777
}

#[test]
fn both_files_are_new_by_one_renewal_and_old_again_when_it_is_put_back() {
    each_shell(|node| {
        let mut node = with_kubeadm(node);
        let files = renewal(&node);
        let old = pki(&node);
        stage(&mut node, ID, &files).unwrap();
        assert_eq!(pki(&node), old, "staging renews nothing");
        Client::new(&mut node, HOLDER).activate(ID, LONG).unwrap();
        let new = pki(&node);
        assert!(new.0.starts_with("new certificate") && new.1.starts_with("new key"));
        assert_eq!(node.read("calls").unwrap(), "certs renew apiserver\n");
        let modes = ["pki/apiserver.crt", "pki/apiserver.key"].map(|name| mode(&node, name));
        assert_eq!(modes, [0o644, 0o600]);
        // The old key is there for root alone.
        let step = node
            .root
            .join("var-lib/harden/generations/00000001/step-001");
        assert_eq!(fs::read_to_string(step.join("1.pre")).unwrap(), KEY);
        for (path, wanted) in [(step.join("1.pre"), 0o600), (step.clone(), 0o700)] {
            let meta = fs::metadata(&path).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, wanted, "{path:?}");
        }
        let mut client = Client::new(&mut node, HOLDER);
        client.revert(ID, false, "its gate did not open").unwrap();
        assert_eq!(pki(&node), old);
        assert_eq!(mode(&node, "pki/apiserver.key"), 0o640);
        assert_eq!(node.read("manifests/kube-apiserver.yaml"), None);
    });
}

#[test]
fn a_renewal_that_fails_or_does_nothing_is_put_back_whole() {
    for (trouble, said) in [
        ("broken", "kubeadm certs renew apiserver: no configuration"),
        ("lazy", "left"),
        ("half", "kubeadm certs renew apiserver"),
    ] {
        each_shell(|node| {
            let mut node = with_kubeadm(node);
            let files = renewal(&node);
            let old = pki(&node);
            node.write(trouble, "", 0o600);
            stage(&mut node, ID, &files).unwrap();
            let activated = Client::new(&mut node, HOLDER).activate(ID, LONG);
            let (code, message) = refused(activated);
            assert_eq!(code, Code::Activate, "{trouble}");
            assert!(message.contains(said), "{trouble}: {message}");
            assert!(!message.contains("CANARY"), "{message}");
            assert_eq!(pki(&node), old, "{trouble}");
            assert_eq!(node.read("manifests/kube-apiserver.yaml"), None);
        });
    }
}

#[test]
fn a_kubeadm_that_is_slower_than_the_watchdog_writes_nothing_after_the_way_back() {
    each_shell(|node| {
        let mut node = with_kubeadm(node);
        let files = renewal(&node);
        let old = pki(&node);
        node.write("slow", "", 0o600);
        stage(&mut node, ID, &files).unwrap();
        let activated = Client::new(&mut node, HOLDER).activate(ID, Duration::from_secs(1));
        let (code, message) = refused(activated);
        assert_eq!(code, Code::Activate, "{message}");
        assert_eq!(node.read("calls").unwrap(), "certs renew apiserver\n");
        assert_eq!(pki(&node), old);
        assert_eq!(node.read("manifests/kube-apiserver.yaml"), None);
    });
}

#[test]
fn what_was_renewed_again_since_is_never_put_back() {
    each_shell(|node| {
        let mut node = with_kubeadm(node);
        let files = renewal(&node);
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        client.commit(ID).unwrap();
        node.write("pki/apiserver.crt", "by somebody else\n", 0o644);
        let mut client = Client::new(&mut node, HOLDER);
        let (code, _) = refused(client.revert(ID, true, "the next node failed"));
        assert_eq!(code, Code::Moved);
        let undo = Id {
            generation: 2,
            step: 1,
        };
        let mut back = rollback(&files);
        let mut client = Client::new(&mut node, HOLDER);
        client.begin(undo, 0, back.len(), &[]).unwrap();
        let (code, message) = refused(client.stage(undo, 1, false, &back.remove(1)));
        assert_eq!(code, Code::Moved, "{message}");
        assert_eq!(pki(&node).0, "by somebody else\n");
    });
}

/// What a rollback does to certificate and key: the key first.
fn rollback(files: &[FileAction]) -> Vec<FileAction> {
    let back = files[..2].iter().enumerate().map(|(index, file)| {
        let FileTarget::Renewed { mode, .. } = file.after else {
            panic!("{file:?}");
        };
        FileAction {
            path: file.path.clone(),
            before: kept(mode),
            after: FileTarget::PreImage {
                generation: 1,
                index,
                state: file.before.clone(),
            },
        }
    });
    let mut back: Vec<FileAction> = back.collect();
    back.reverse();
    back
}

#[test]
fn a_later_generation_brings_the_old_ones_back_and_can_itself_be_put_back() {
    each_shell(|node| {
        let mut node = with_kubeadm(node);
        let files = renewal(&node);
        let old = pki(&node);
        stage(&mut node, ID, &files).unwrap();
        let mut client = Client::new(&mut node, HOLDER);
        client.activate(ID, LONG).unwrap();
        client.commit(ID).unwrap();
        let new = pki(&node);
        let undo = Id {
            generation: 2,
            step: 1,
        };
        let back = rollback(&files);
        let mut client = Client::new(&mut node, HOLDER);
        client.begin(undo, 0, back.len(), &[]).unwrap();
        for (index, file) in back.iter().enumerate() {
            client.stage(undo, index, false, file).unwrap();
        }
        client.activate(undo, LONG).unwrap();
        assert_eq!(pki(&node), old);
        assert_eq!(mode(&node, "pki/apiserver.key"), 0o640);
        let mut client = Client::new(&mut node, HOLDER);
        client.commit(undo).unwrap();
        client.revert(undo, true, "no").unwrap();
        assert_eq!(pki(&node), new);
    });
}

#[test]
fn a_file_that_is_no_regular_one_or_has_another_mode_is_refused_before_anything_is_changed() {
    each_shell(|node| {
        let mut node = with_kubeadm(node);
        let files = renewal(&node);
        node.write("pki/apiserver.key", KEY, 0o600);
        let (code, _) = refused(stage(&mut node, ID, &files));
        assert_eq!(code, Code::Moved);
        let key = node.root.join("etc/pki/apiserver.key");
        fs::remove_file(&key).unwrap();
        std::os::unix::fs::symlink("/dev/null", &key).unwrap();
        let (code, _) = refused(stage(&mut node, ID, &files));
        assert_eq!(code, Code::Moved);
        assert_eq!(node.read("calls"), None);
    });
}
