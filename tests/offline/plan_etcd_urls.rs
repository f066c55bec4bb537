//! Where etcd listens: what is removed from the URLs of its flags, copy by copy, and what never is.

use crate::plan_support::*;
use harden::distribution::Component;
use harden::distribution::kubeadm::{
    ClusterConfiguration, Manifest, edit_cluster_configuration, edit_manifest, manifest_path,
};
use harden::distribution::{ComponentEdit, kubeadm};
use harden::fact::*;
use harden::plan::*;
use harden::resource::*;
use serde_json::json;

const ETCD: Component = Component::Etcd;
const CLIENTS: &str = "listen-client-urls";
const PEERS: &str = "listen-peer-urls";
const METRICS: &str = "listen-metrics-urls";

fn urls(flag: &str) -> Desired {
    desired(vec![resource("etcd-urls", json!({"flag": flag}))])
}

fn set(name: &str, value: &str) -> ComponentEdit {
    ComponentEdit::SetFlag {
        name: name.into(),
        value: value.into(),
    }
}

fn gone(name: &str) -> ComponentEdit {
    ComponentEdit::RemoveFlag { name: name.into() }
}

/// Edits a manifest, and lets it run if asked.
fn edit(facts: &mut Facts, node: &str, component: Component, edits: &[ComponentEdit], runs: bool) {
    let text = edit_manifest(&manifest(facts, node, component), component, edits, &[]).unwrap();
    write(facts, node, component, &text, runs);
}

fn write(facts: &mut Facts, node: &str, component: Component, text: &str, runs: bool) {
    let query = Query::File(manifest_path(component));
    put(facts, node, query, file(text, 0o600));
    if runs {
        let argv = Manifest::parse(text, component).unwrap().argv;
        let query = Query::Process(component.program());
        put(facts, node, query, process(7, argv));
    }
}

/// Gives a node, which is as all are, an address of its own.
fn move_to(facts: &mut Facts, node: &str, address: &str) {
    for component in [ETCD, API] {
        let text = manifest(facts, node, component);
        let text = match address.contains(':') {
            true => text
                .replace("https://10.0.0.11", &format!("https://[{address}]"))
                .replace("=10.0.0.11", &format!("={address}"))
                .replace("//127.0.0.1", "//[::1]")
                .replace("host: 127.0.0.1", "host: ::1"),
            false => text.replace("10.0.0.11", address),
        };
        write(facts, node, component, &text, true);
    }
}

fn with_config(facts: &mut Facts, name: &str, value: &str) {
    let text = facts.api.cluster_configuration.value().unwrap();
    let text = edit_cluster_configuration(text, ETCD, &[set(name, value)]).unwrap();
    facts.api.cluster_configuration = Fact::Value(text);
}

/// What becomes of a flag of the only member, in the manifest; the reason where that is refused.
fn becomes(flag: &str, value: Option<&str>) -> Result<Option<String>, String> {
    let desired = urls(flag);
    let mut facts = cluster(&["cp1"], &desired);
    becomes_in(&mut facts, &desired, flag, value)
}

fn becomes_in(
    facts: &mut Facts,
    desired: &Desired,
    flag: &str,
    value: Option<&str>,
) -> Result<Option<String>, String> {
    let change = value.map_or_else(|| gone(flag), |value| set(flag, value));
    edit(facts, "cp1", ETCD, &[change], true);
    let plan = build(desired, facts);
    if let Some(problem) = problems(&plan).into_iter().next() {
        assert!(plan.is_clean(), "refused and changed: {:?}", lines(&plan));
        return Err(problem);
    }
    execute(&plan, facts);
    let left = build(desired, facts);
    assert!(left.is_clean(), "once is enough: {:?}", lines(&left));
    let after = Manifest::parse(&manifest(facts, "cp1", ETCD), ETCD).unwrap();
    assert_eq!(argv(facts, "cp1", ETCD), after.argv);
    Ok(after.values(flag).pop())
}

#[test]
fn what_is_not_allowed_is_removed_and_the_rest_stays_as_it_is_written() {
    let stock = "https://127.0.0.1:2379,https://10.0.0.11:2379";
    for (flag, before, after) in [
        (CLIENTS, stock, stock),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,http://10.0.0.11:12379",
            stock,
        ),
        (
            CLIENTS,
            "http://127.0.0.1:12379,https://127.0.0.1:2379,https://10.0.0.11:2379",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,https://192.168.7.7:2379",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,unix:///var/lib/etcd/sock",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,HTTP://localhost:9",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,https://evil.example:9",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,https://127.0.0.1@0.0.0.0:9",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379,https://10.0.0.11:2379,http://[::1]:9",
            stock,
        ),
        (
            CLIENTS,
            "https://127.0.0.1:2379, https://10.0.0.11:2379 ,http://10.0.0.11:9",
            stock,
        ),
        // Written otherwise and allowed.
        (
            CLIENTS,
            "HTTPS://localhost:2379,https://[::ffff:10.0.0.11]:2379",
            "HTTPS://localhost:2379,https://[::ffff:10.0.0.11]:2379",
        ),
        (
            CLIENTS,
            "https://10.0.0.11:2379,https://127.0.0.1:2379,unixs:///sock",
            "https://10.0.0.11:2379,https://127.0.0.1:2379,unixs:///sock",
        ),
        (
            CLIENTS,
            "https://10.0.0.11:2379,https://127.0.0.1:2379,https://127.0.0.1:9",
            "https://10.0.0.11:2379,https://127.0.0.1:2379,https://127.0.0.1:9",
        ),
        // Everywhere becomes here.
        (CLIENTS, "https://0.0.0.0:2379", stock),
        (CLIENTS, "https://[::]:2379", stock),
        (CLIENTS, "https://0.0.0.0:2379,http://0.0.0.0:12379", stock),
        (PEERS, "https://10.0.0.11:2380", "https://10.0.0.11:2380"),
        (
            PEERS,
            "https://10.0.0.11:2380,http://10.0.0.11:12380",
            "https://10.0.0.11:2380",
        ),
        (
            PEERS,
            "https://0.0.0.0:2380",
            "https://127.0.0.1:2380,https://10.0.0.11:2380",
        ),
        (METRICS, "http://127.0.0.1:2381", "http://127.0.0.1:2381"),
        (
            METRICS,
            "http://127.0.0.1:2381,http://10.0.0.11:9",
            "http://127.0.0.1:2381",
        ),
        (
            METRICS,
            "http://127.0.0.1:2381,https://10.0.0.11:9",
            "http://127.0.0.1:2381,https://10.0.0.11:9",
        ),
        (METRICS, "http://0.0.0.0:2381", "http://127.0.0.1:2381"),
        (
            "advertise-client-urls",
            "https://10.0.0.11:2379,http://10.0.0.11:12379",
            "https://10.0.0.11:2379",
        ),
        // Nobody listens because of it.
        (
            "advertise-client-urls",
            "https://lb.example:2379",
            "https://lb.example:2379",
        ),
        (
            "initial-advertise-peer-urls",
            "http://10.0.0.11:9,https://10.0.0.11:2380",
            "https://10.0.0.11:2380",
        ),
    ] {
        assert_eq!(
            becomes(flag, Some(before)),
            Ok(Some(after.into())),
            "{flag} {before}"
        );
    }
    // What nobody needs goes whole, and stays away.
    let http = "listen-client-http-urls";
    assert_eq!(becomes(http, Some("http://127.0.0.1:12379")), Ok(None));
    assert_eq!(becomes(http, None), Ok(None));
    assert_eq!(becomes(METRICS, None), Ok(None));
}

#[test]
fn nobody_who_is_answered_now_is_cut_off() {
    for (flag, before, why) in [
        (CLIENTS, Some("http://127.0.0.1:2379"), "reached no more"),
        (CLIENTS, Some("http://0.0.0.0:2379"), "reached no more"),
        (CLIENTS, None, "http://localhost:2379 and nothing else"),
        (CLIENTS, Some("unix:///sock"), "reached no more"),
        (CLIENTS, Some("not a url"), "reached no more"),
        (PEERS, Some("http://10.0.0.11:2380"), "reached no more"),
        (PEERS, None, "http://localhost:2380 and nothing else"),
        (
            METRICS,
            Some("http://10.0.0.11:2381,http://127.0.0.1:2381"),
            "",
        ),
        (
            "advertise-client-urls",
            Some("http://10.0.0.11:2379"),
            "reached no more",
        ),
        (
            "initial-advertise-peer-urls",
            Some("http://10.0.0.11:2380"),
            "reached no more",
        ),
    ] {
        match becomes(flag, before) {
            Ok(after) => assert_eq!(("", after), (why, Some("http://127.0.0.1:2381".into()))),
            Err(said) => assert!(
                !why.is_empty() && said.contains(why),
                "{flag} {before:?}: {said}"
            ),
        }
    }
    // The API server asks without TLS.
    let desired = urls(CLIENTS);
    let mut facts = cluster(&["cp1"], &desired);
    let asks = set("etcd-servers", "http://127.0.0.1:12379");
    edit(&mut facts, "cp1", API, &[asks], true);
    let value = "https://127.0.0.1:2379,https://10.0.0.11:2379,http://127.0.0.1:12379";
    let said = becomes_in(&mut facts, &desired, CLIENTS, Some(value)).unwrap_err();
    assert!(
        said.contains("the API server of cp1 (--etcd-servers) would get no answer"),
        "{said}"
    );
    // What it advertises, and listens at no more.
    let desired = urls(CLIENTS);
    let mut facts = cluster(&["cp1"], &desired);
    let told = set("advertise-client-urls", "https://10.9.9.9:2379");
    edit(&mut facts, "cp1", ETCD, &[told], true);
    let value = "https://127.0.0.1:2379,https://10.9.9.9:2379";
    let said = becomes_in(&mut facts, &desired, CLIENTS, Some(value)).unwrap_err();
    assert!(
        said.contains("whoever asks at --advertise-client-urls would get no answer"),
        "{said}"
    );
    // The other members.
    let desired = urls(PEERS);
    let mut facts = cluster(&["cp1"], &desired);
    let told = set("initial-advertise-peer-urls", "https://10.9.9.9:2380");
    edit(&mut facts, "cp1", ETCD, &[told], true);
    let value = "https://127.0.0.1:2380,https://10.9.9.9:2380";
    let said = becomes_in(&mut facts, &desired, PEERS, Some(value)).unwrap_err();
    assert!(
        said.contains("the other members would get no answer"),
        "{said}"
    );
    // The kubelet's probe, which somebody has moved.
    let desired = urls(METRICS);
    let mut facts = cluster(&["cp1"], &desired);
    let text = manifest(&facts, "cp1", ETCD).replace("host: 127.0.0.1", "host: 10.0.0.11");
    write(&mut facts, "cp1", ETCD, &text, true);
    let said = becomes_in(&mut facts, &desired, METRICS, Some("http://0.0.0.0:2381")).unwrap_err();
    assert!(
        said.contains("a probe of the kubelet would get no answer"),
        "{said}"
    );
}

#[test]
fn another_nodes_api_server_that_asks_here_is_not_cut_off() {
    let desired = urls(CLIENTS);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    move_to(&mut facts, "cp2", "10.0.0.12");
    let asks = set("etcd-servers", "http://10.0.0.11:12379");
    edit(&mut facts, "cp2", API, &[asks], true);
    let value = "https://127.0.0.1:2379,https://10.0.0.11:2379,http://10.0.0.11:12379";
    edit(&mut facts, "cp1", ETCD, &[set(CLIENTS, value)], true);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && plan.is_incomplete());
    assert!(
        problems(&plan)[0].contains("the API server of cp2"),
        "{:?}",
        problems(&plan)
    );
}

#[test]
fn ipv6_is_the_same() {
    for (before, after) in [
        (
            "https://[::1]:2379,https://[fd00::11]:2379,http://[fd00::11]:9",
            "https://[::1]:2379,https://[fd00::11]:2379",
        ),
        (
            "https://[::]:2379",
            "https://[::1]:2379,https://[fd00::11]:2379",
        ),
        (
            "https://[::1]:2379,https://[FD00:0:0::11]:2379",
            "https://[::1]:2379,https://[FD00:0:0::11]:2379",
        ),
        (
            "https://[::1]:2379,https://[fd00::11]:2379,https://[fd00::12]:2379",
            "https://[::1]:2379,https://[fd00::11]:2379",
        ),
    ] {
        let desired = urls(CLIENTS);
        let mut facts = cluster(&["cp1"], &desired);
        move_to(&mut facts, "cp1", "fd00::11");
        assert_eq!(
            becomes_in(&mut facts, &desired, CLIENTS, Some(before)),
            Ok(Some(after.into())),
            "{before}"
        );
    }
    let desired = urls(METRICS);
    let mut facts = cluster(&["cp1"], &desired);
    move_to(&mut facts, "cp1", "fd00::11");
    let after = becomes_in(&mut facts, &desired, METRICS, Some("http://[::]:2381"));
    assert_eq!(after, Ok(Some("http://[::1]:2381".into())));
}

#[test]
fn each_copy_keeps_its_own_and_kubeadms_goes_back_to_what_kubeadm_writes() {
    let desired = urls(CLIENTS);
    let mut facts = cluster(&["cp1", "cp2", "cp3"], &desired);
    assert!(build(&desired, &facts).is_clean());
    let stock: Vec<String> = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
        .iter()
        .zip(["cp1", "cp2", "cp3"])
        .map(|(address, node)| {
            move_to(&mut facts, node, address);
            format!("https://127.0.0.1:2379,https://{address}:2379")
        })
        .collect();
    let bad = format!("{},http://10.0.0.12:12379", stock[1]);
    edit(&mut facts, "cp2", ETCD, &[set(CLIENTS, &bad)], true);
    // It runs so still, and its manifest is right already.
    let text = manifest(&facts, "cp3", ETCD);
    let bad = format!("{},http://10.0.0.13:12379", stock[2]);
    edit(&mut facts, "cp3", ETCD, &[set(CLIENTS, &bad)], true);
    write(&mut facts, "cp3", ETCD, &text, false);
    with_config(
        &mut facts,
        CLIENTS,
        "https://0.0.0.0:2379,http://0.0.0.0:12379",
    );
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    insta::assert_snapshot!(lines(&plan).join("\n"), @r"
    API kubeadm-config | etcd --listen-client-urls: https://0.0.0.0:2379,http://0.0.0.0:12379 → - (Safe)
    cp2 manifest | etcd --listen-client-urls: https://127.0.0.1:2379,https://10.0.0.12:2379,http://10.0.0.12:12379 → https://127.0.0.1:2379,https://10.0.0.12:2379 (Restart restarts)
    cp2 process | etcd --listen-client-urls: https://127.0.0.1:2379,https://10.0.0.12:2379,http://10.0.0.12:12379 → https://127.0.0.1:2379,https://10.0.0.12:2379 (Restart)
    cp3 process | etcd --listen-client-urls: https://127.0.0.1:2379,https://10.0.0.13:2379,http://10.0.0.13:12379 → https://127.0.0.1:2379,https://10.0.0.13:2379 (Restart restarts)
    ");
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    for (node, wanted) in ["cp1", "cp2", "cp3"].iter().zip(&stock) {
        let manifest = Manifest::parse(&manifest(&facts, node, ETCD), ETCD).unwrap();
        assert_eq!(manifest.values(CLIENTS).join(" "), *wanted, "{node}");
    }
    let config = facts.api.cluster_configuration.value().unwrap();
    let config = ClusterConfiguration::parse(config).unwrap();
    assert_eq!(config.args(ETCD), []);
}

#[test]
fn an_address_of_one_node_in_kubeadms_copy_is_wrong_where_there_are_several() {
    let own = "https://127.0.0.1:2379,https://10.0.0.11:2379";
    let desired = urls(CLIENTS);
    let mut facts = cluster(&["cp1"], &desired);
    with_config(&mut facts, CLIENTS, own);
    assert!(build(&desired, &facts).is_clean());
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    move_to(&mut facts, "cp2", "10.0.0.12");
    with_config(&mut facts, CLIENTS, own);
    assert_eq!(
        lines(&build(&desired, &facts)),
        [format!(
            "API kubeadm-config | etcd --{CLIENTS}: {own} → - (Safe)"
        )]
    );
}

#[test]
fn given_twice_the_last_counts_and_one_stays() {
    let desired = urls(CLIENTS);
    let mut facts = cluster(&["cp1"], &desired);
    let text = manifest(&facts, "cp1", ETCD).replace(
        "    - --listen-metrics-urls",
        "    - -listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379,http://127.0.0.1:9\n    - --listen-metrics-urls",
    );
    write(&mut facts, "cp1", ETCD, &text, true);
    let plan = build(&desired, &facts);
    execute(&plan, &mut facts);
    let manifest = Manifest::parse(&manifest(&facts, "cp1", ETCD), ETCD).unwrap();
    let stock = "https://127.0.0.1:2379,https://10.0.0.11:2379";
    assert_eq!(manifest.values(CLIENTS), [stock]);
}

#[test]
fn what_is_not_known_is_an_error_and_nothing_is_changed() {
    let desired = urls(CLIENTS);
    let value = "https://127.0.0.1:2379,https://10.0.0.11:2379,http://10.0.0.11:9";
    let bad = |facts: &mut Facts| edit(facts, "cp1", ETCD, &[set(CLIENTS, value)], true);
    let mut facts = cluster(&["cp1"], &desired);
    bad(&mut facts);
    edit(&mut facts, "cp1", API, &[gone("advertise-address")], true);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean());
    assert!(
        problems(&plan)[0].contains("no --advertise-address"),
        "{:?}",
        problems(&plan)
    );
    let mut facts = cluster(&["cp1"], &desired);
    bad(&mut facts);
    let unreadable = Fact::Unreadable("denied".into());
    let query = Query::File(kubeadm::manifest_path(API));
    put(&mut facts, "cp1", query, unreadable);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean());
    assert!(
        problems(&plan)[0].contains("who asks etcd"),
        "{:?}",
        problems(&plan)
    );
}
