//! All that encryption does, one after the other, on three control planes with a thousand Secrets, while
//! ConfigMaps are written all the time.

use std::io::Write;

use super::by_profile::{OPTIONS, Raw, workspace};
use super::{Encrypted, content};
use crate::environment::ha;

/// How much of a text is in the files of a member's database, however it got there.
fn in_database(e: &Encrypted<'_>, node: &str, text: &str) -> u64 {
    let count = format!("grep -a -o -F -e '{text}' /var/lib/etcd/member/snap/db | wc -l");
    let said = e.cluster.on(node, &count);
    said.trim().parse().expect("a count")
}

#[test]
#[ignore = "needs testenv/up ha"]
fn a_thousand_secrets_go_through_all_of_it_while_clients_write() {
    let cluster = ha();
    let e = Encrypted::with(&cluster, 1000);
    let raw = Raw(&cluster);
    e.make_secrets();
    let w = workspace(&cluster, true, OPTIONS);
    for node in cluster.control_planes() {
        assert!(in_database(&e, &node, &content("s000")) > 0, "{node}");
    }

    // What stands for what was there before in the raw files: clear text, or a key's name.
    let clean = |gone: &str, stays: Option<&str>| {
        let scanned = w.harden(&["etcd", "defragment", "--yes"]);
        // The write-ahead logs hold it longer, and the scan says so: 2.
        assert!(matches!(scanned.status, Some(0 | 2)), "{scanned:?}");
        w.harden(&["encryption", "verify"]).exits(0);
        for node in cluster.control_planes() {
            e.all_there_by(&node);
            assert_eq!(in_database(&e, &node, gone), 0, "{node}: {gone}");
            if let Some(key) = stays {
                assert_eq!(raw.secrets(&node).keys().collect::<Vec<_>>(), [key]);
                assert!(in_database(&e, &node, key) >= 1000, "{node}: {key}");
            }
        }
    };
    let key = || {
        let keys = raw.keys(&e.node);
        for node in cluster.control_planes() {
            assert_eq!(raw.keys(&node), keys, "{node}");
        }
        assert_eq!(keys.len(), 1);
        keys[0].0.clone()
    };

    let load = cluster.load_with(&["--maps", "200", "--rate", "40"]);
    w.harden(&["apply", "--yes"]).exits(0);
    let first = key();
    clean("canary-of-", Some(&first));

    let rotate = ["encryption", "rotate", "--yes", "--drop", "--rate", "500"];
    w.harden(&rotate).exits(0);
    let second = key();
    clean(&first, Some(&second));
    w.harden(&rotate).exits(0);
    let third = key();
    clean(&second, Some(&third));

    let text = std::fs::read_to_string(w.path("harden.toml")).expect("harden.toml");
    let other = text.replace("\"secretbox\"", "\"aescbc\"");
    std::fs::write(w.path("harden.toml"), other).expect("written");
    w.harden(&rotate).exits(0);
    w.harden(&["plan"]).exits(0);
    let fourth = key();
    clean("k8s:enc:secretbox:", Some(&fourth));

    w.harden(&["encryption", "disable", "--yes", "--rate", "500"])
        .exits(0);
    let noticed = load.finish();
    for node in cluster.control_planes() {
        assert_eq!(raw.keys(&node), []);
        e.all_there_by(&node);
        assert_eq!(raw.secrets(&node).keys().collect::<Vec<_>>(), ["clear"]);
    }

    // Past the capture of output: these figures are published.
    writeln!(std::io::stderr(), "meanwhile: {noticed:#}").expect("stderr");
    assert!(noticed["requests"].as_u64() > Some(2000), "{noticed:#}");
    assert_eq!(noticed["failures_after_retries"], 0, "{noticed:#}");
    for wrong in ["missed", "out_of_order", "lost"] {
        assert_eq!(noticed["watch"][wrong], 0, "{wrong}: {noticed:#}");
    }
    assert!(
        noticed["watch"]["kept"].as_u64() >= Some(190),
        "{noticed:#}"
    );
}
