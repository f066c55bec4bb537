#![allow(clippy::unwrap_used)]

use super::*;
use crate::fact::{NodeAddress, SigningState};

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../tests/fixtures/signing-requests/",
            $name,
            ".pem"
        ))
    };
}

fn endpoint() -> KubeletEndpoint {
    let address = |kind: &str, address: &str| NodeAddress {
        kind: kind.into(),
        address: address.into(),
    };
    KubeletEndpoint {
        addresses: vec![
            address("InternalIP", "10.0.0.2"),
            address("InternalIP", "fd00::2"),
            address("Hostname", "worker"),
        ],
        port: 10250,
        ..KubeletEndpoint::default()
    }
}

/// A node writes the status of its own Node object: it could call itself the API server.
#[test]
fn what_only_the_node_says_of_itself_is_not_enough() {
    let mut claims = endpoint();
    claims.taken = vec!["10.0.0.2".parse().unwrap()];
    let said = faults(&request(pem!("good")), "worker", &claims);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("10.0.0.2 is that of another node"),
        "{said:?}"
    );
    // The name `worker` in a request of another node, whose status has it too.
    let said = faults(&request(pem!("good")), "intruder", &endpoint());
    let name = said
        .iter()
        .any(|fault| fault.contains("is not the node's own name"));
    assert!(name, "{said:?}");
}

fn request(pem: &str) -> SigningRequest {
    let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    SigningRequest {
        name: "csr-1".into(),
        uid: "1".into(),
        signer: KUBELET_SERVING_SIGNER.into(),
        username: "system:node:worker".into(),
        groups: text(&["system:nodes", "system:authenticated"]),
        usages: text(&["digital signature", "server auth"]),
        pem: pem.into(),
        state: SigningState::Pending,
    }
}

fn of(pem: &str) -> Vec<String> {
    faults(&request(pem), "worker", &endpoint())
}

#[test]
fn what_a_kubelet_makes_passes() {
    for pem in [
        pem!("good"),
        pem!("good-rsa"),
        pem!("good-ipv6"),
        pem!("ip-only"),
    ] {
        assert_eq!(of(pem), Vec::<String>::new());
    }
}

#[test]
fn whatever_else_a_request_asks_for_is_named() {
    for (pem, fault) in [
        (
            pem!("other-name"),
            "its common name is system:node:cp1, not system:node:worker",
        ),
        (
            pem!("two-names"),
            "its common name is system:node:worker, system:node:cp1, not system:node:worker",
        ),
        (
            pem!("masters"),
            "its organization is system:nodes, system:masters, not system:nodes",
        ),
        (
            pem!("no-organization"),
            "its organization is missing, not system:nodes",
        ),
        (pem!("unit"), "its subject has the attribute 2.5.4.11"),
        (
            pem!("extra-dns"),
            "the DNS name kubernetes.default.svc is no address of the Node object",
        ),
        (
            pem!("wildcard"),
            "the DNS name * is no address of the Node object",
        ),
        (
            pem!("extra-ip"),
            "the IP address 10.0.0.1 is no address of the Node object",
        ),
        (pem!("email"), "it names the e-mail address a@example.com"),
        (pem!("uri"), "it names the URI spiffe://cluster/x"),
        (
            pem!("other-san"),
            "it names a name that is neither a DNS name nor an IP address",
        ),
        (
            pem!("directory"),
            "it names a name that is neither a DNS name nor an IP address",
        ),
        (
            pem!("no-addresses"),
            "it names no DNS name and no IP address",
        ),
        (pem!("authority"), "it asks for the extension 2.5.29.19"),
        (pem!("key-usage"), "it asks for the extension 2.5.29.15"),
        (
            pem!("password"),
            "it has the attribute 1.2.840.113549.1.9.7",
        ),
    ] {
        assert_eq!(of(pem), [fault]);
    }
}

#[test]
fn a_request_for_another_node_is_wrong_in_every_part() {
    assert_eq!(
        of(pem!("other-node")),
        [
            "its common name is system:node:cp1, not system:node:worker",
            "the DNS name cp1 is no address of the Node object",
            "the IP address 10.0.0.1 is no address of the Node object",
        ]
    );
}

#[test]
fn who_made_it_counts_and_not_what_it_says_of_itself() {
    let mut alien = request(pem!("good"));
    alien.username = "mallory".into();
    assert_eq!(
        faults(&alien, "worker", &endpoint()),
        ["mallory made it, not system:node:worker"]
    );
    // A node whose name begins with that of another one is another one.
    alien.username = "system:node:worker2".into();
    assert_eq!(faults(&alien, "worker", &endpoint()).len(), 1);
    let mut grouped = request(pem!("good"));
    grouped.groups = vec!["system:masters".into()];
    assert_eq!(
        faults(&grouped, "worker", &endpoint()),
        [
            "its maker is not in the group system:nodes",
            "its maker is not in the group system:authenticated",
        ]
    );
}

#[test]
fn only_the_usages_of_the_signer_pass() {
    let of = |usages: &[&str]| {
        let usages = usages.iter().map(|u| (*u).to_owned()).collect();
        let request = SigningRequest {
            usages,
            ..request(pem!("good"))
        };
        faults(&request, "worker", &endpoint()).len()
    };
    assert_eq!(of(&["server auth", "digital signature"]), 0);
    assert_eq!(
        of(&["key encipherment", "server auth", "digital signature"]),
        0
    );
    for bad in [
        &["server auth"][..],
        &["digital signature"],
        &[],
        &["digital signature", "client auth"],
        &["digital signature", "server auth", "client auth"],
        &["digital signature", "server auth", "cert sign"],
        &["digital signature", "server auth", "server auth"],
        &["key encipherment", "server auth"],
        &["any"],
    ] {
        assert_eq!(of(bad), 1, "{bad:?}");
    }
}

#[test]
fn another_signer_is_refused() {
    let mut request = request(pem!("good"));
    request.signer = "kubernetes.io/kube-apiserver-client-kubelet".into();
    assert_eq!(
        faults(&request, "worker", &endpoint()),
        ["it is for the signer kubernetes.io/kube-apiserver-client-kubelet"]
    );
}

#[test]
fn what_is_no_request_is_refused_and_never_parsed_in_part() {
    let good = pem!("good");
    let certificate = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    let body: Vec<&str> = good.lines().collect();
    let cut = [&body[..2], &body[body.len() - 1..]].concat().join("\n");
    for bad in [
        String::new(),
        "x".into(),
        certificate,
        format!("{good}{good}"),
        format!("{good}x"),
        format!("{}{good}", pem!("masters")),
        format!(" {good}"),
        cut,
        format!("{good}{}", "\n".repeat(MAX_PEM)),
    ] {
        assert_eq!(of(&bad).len(), 1, "{bad}");
    }
}

#[test]
fn addresses_are_compared_whole_and_by_their_kind() {
    let with = |kind: &str, text: &str| {
        let mut endpoint = endpoint();
        endpoint.addresses = vec![NodeAddress {
            kind: kind.into(),
            address: text.into(),
        }];
        faults(&request(pem!("good")), "worker", &endpoint).len()
    };
    // Each knows one of the two names.
    assert_eq!(with("Hostname", "worker"), 1);
    assert_eq!(with("InternalDNS", "worker"), 1);
    assert_eq!(with("ExternalIP", "10.0.0.2"), 1);
    for (kind, text) in [
        ("Hostname", "worker.example.com"),
        ("Hostname", "work"),
        ("InternalIP", "worker"),
        ("InternalIP", "10.0.0.20"),
        ("InternalDNS", "10.0.0.2"),
        ("Other", "worker"),
    ] {
        assert_eq!(with(kind, text), 2, "{kind} {text}");
    }
}

#[test]
fn a_request_in_the_name_of_a_node_is_about_it_whoever_made_it() {
    let mut alien = request(pem!("other-node"));
    assert!(is_about(&alien, "worker") && is_about(&alien, "cp1"));
    assert!(is_made_by(&alien, "worker") && !is_made_by(&alien, "cp1"));
    alien.username = "mallory".into();
    alien.pem = "x".into();
    assert!(!is_about(&alien, "worker") && !is_about(&alien, "cp1"));
}

#[test]
fn what_is_shown_commands_no_terminal_and_ends() {
    let mut alien = request(pem!("good"));
    alien.username = format!("\u{1b}[31mred{}", "x".repeat(1000));
    let faults = faults(&alien, "worker", &endpoint());
    assert!(!faults[0].contains('\u{1b}'), "{}", faults[0]);
    assert!(faults[0].len() < 200, "{}", faults[0]);
}
