//! Flags that are lists: several resources ask for items of one, and none gets in the way of another.

use crate::plan_support::*;
use harden::distribution::kubeadm::{Manifest, edit_cluster_configuration, manifest_path};
use harden::distribution::{ComponentEdit, kubeadm};
use harden::fact::*;
use harden::module::{Modules, evaluate};
use harden::plan::*;
use harden::profile::load;
use harden::resource::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const PLUGINS: &str = "enable-admission-plugins";

fn list(name: &str, with: &[&str], without: &[&str]) -> Resource {
    let mut table = json!({"component": "kube-apiserver", "name": name, "without": without});
    if !with.is_empty() {
        table["value"] = with.into();
        table["merge"] = "additive".into();
    }
    resource("flag", table)
}

fn guarded(mut resource: Resource, option: &str) -> Resource {
    resource.risk = Risk::Guarded;
    resource.origins[0].option = option.into();
    resource
}

/// Puts other plugins into a node's manifest.
fn with_plugins(facts: &mut Facts, node: &str, plugins: &str) {
    let text = manifest(facts, node, API).replace("=NodeRestriction", &format!("={plugins}"));
    put(
        facts,
        node,
        Query::File(manifest_path(API)),
        file(&text, 0o600),
    );
}

fn plugins(facts: &Facts, node: &str) -> Vec<String> {
    let text = manifest(facts, node, API);
    Manifest::parse(&text, API).unwrap().values(PLUGINS)
}

#[test]
fn items_that_must_not_be_there_are_taken_out_and_the_rest_stays() {
    let desired = desired(vec![list(PLUGINS, &[], &["AlwaysAdmit"])]);
    for (before, after) in [
        // What kubeadm would write is not lost with it.
        ("AlwaysAdmit", vec!["NodeRestriction"]),
        ("NodeRestriction,AlwaysAdmit", vec!["NodeRestriction"]),
        ("AlwaysAdmit,B,A", vec!["NodeRestriction,B,A"]),
    ] {
        let mut facts = cluster(&["cp1"], &desired);
        with_plugins(&mut facts, "cp1", before);
        let plan = build(&desired, &facts);
        assert_eq!(plan.changes.len(), 1, "{:?}", lines(&plan));
        execute(&plan, &mut facts);
        assert_eq!(plugins(&facts, "cp1"), after, "{before}");
        assert!(build(&desired, &facts).is_clean());
    }
    let facts = cluster(&["cp1"], &desired);
    assert!(
        build(&desired, &facts).is_clean(),
        "nothing is wrong with what kubeadm writes"
    );
}

#[test]
fn an_item_that_kubeadm_would_bring_back_is_taken_out_of_its_configuration_too() {
    let desired = desired(vec![list(
        "disable-admission-plugins",
        &[],
        &["ServiceAccount"],
    )]);
    let mut facts = cluster(&["cp1"], &desired);
    let edit = ComponentEdit::SetFlag {
        name: "disable-admission-plugins".into(),
        value: "ServiceAccount".into(),
    };
    let text = edit_cluster_configuration(V1BETA4, API, &[edit]).unwrap();
    facts.api.cluster_configuration = Fact::Value(text);
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        [
            "API kubeadm-config | kube-apiserver --disable-admission-plugins: ServiceAccount → - (Safe)"
        ]
    );
    execute(&plan, &mut facts);
    let config = facts.api.cluster_configuration.value().unwrap();
    let config = kubeadm::ClusterConfiguration::parse(config).unwrap();
    assert_eq!(config.args(API), [("runtime-config".into(), String::new())]);
}

#[test]
fn resources_that_ask_for_items_of_one_list_get_all_of_them() {
    let desired = desired(vec![
        list(PLUGINS, &["NodeRestriction"], &[]),
        list(PLUGINS, &[], &["AlwaysAdmit"]),
        list(PLUGINS, &["DenyServiceExternalIPs"], &[]),
        list(PLUGINS, &["AlwaysPullImages"], &[]),
    ]);
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    with_plugins(&mut facts, "cp1", "AlwaysAdmit,EventRateLimit");
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    let all = "NodeRestriction,EventRateLimit,DenyServiceExternalIPs,AlwaysPullImages";
    for change in &plan.changes {
        assert_eq!(change.after.as_deref(), Some(all), "{:?}", lines(&plan));
    }
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    assert_eq!(plugins(&facts, "cp1"), [all]);
    assert_eq!(
        plugins(&facts, "cp2"),
        [all],
        "AlwaysAdmit of cp1 did not spread"
    );
}

#[test]
fn a_guarded_item_waits_for_consent_and_the_others_do_not() {
    let resources = vec![
        list(PLUGINS, &["EventRateLimit"], &[]),
        guarded(
            list(PLUGINS, &["AlwaysPullImages"], &[]),
            "apiserver.always-pull-images",
        ),
    ];
    let mut wanted = desired(resources);
    let facts = cluster(&["cp1"], &wanted);
    let plan = build(&wanted, &facts);
    assert!(plan.is_incomplete());
    let after = |plan: &Plan| plan.changes[0].after.clone().unwrap();
    assert_eq!(after(&plan), "NodeRestriction,EventRateLimit");
    wanted.accept = vec!["apiserver.always-pull-images".into()];
    let plan = build(&wanted, &facts);
    assert!(!plan.is_incomplete());
    assert_eq!(
        after(&plan),
        "NodeRestriction,EventRateLimit,AlwaysPullImages"
    );
}

#[test]
fn two_that_contradict_each_other_or_set_the_whole_are_a_clash() {
    for other in [
        list(PLUGINS, &[], &["NodeRestriction", "EventRateLimit"]),
        flag(PLUGINS, "AlwaysPullImages"),
    ] {
        let desired = desired(vec![list(PLUGINS, &["EventRateLimit"], &[]), other]);
        let facts = cluster(&["cp1"], &desired);
        let plan = build(&desired, &facts);
        assert_eq!(lines(&plan), [""; 0]);
        let found = problems(&plan);
        assert!(
            found
                .iter()
                .all(|p| p.contains("want different things of it"))
                && found.len() == 2,
            "{found:?}"
        );
    }
}

fn faults(text: &str) -> String {
    let modules = Modules::builtin().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("harden.toml"),
        format!("cluster.name = \"x\"\n{text}"),
    )
    .unwrap();
    let workspace = load(dir.path(), &modules).unwrap_or_else(|e| panic!("{e:#}"));
    match evaluate(&workspace, &modules) {
        Ok(_) => String::new(),
        Err(failure) => format!("{failure:#}"),
    }
}

#[test]
fn a_profile_that_wants_and_refuses_an_item_is_refused() {
    let told =
        faults("[apiserver]\nalways-admit = \"off\"\nadmission-plugins = [\"AlwaysAdmit\"]\n");
    assert!(
        told.contains("`kube-apiserver --enable-admission-plugins` is wanted twice"),
        "{told}"
    );
    let whole = "[apiserver]\nalways-admit = \"off\"\nalways-pull-images = \"on\"\n\
                 deny-service-external-ips = \"on\"\nadmission-plugins = [\"NodeRestriction\"]\n";
    assert_eq!(faults(whole), "");
}

#[test]
fn ciphers_with_which_a_server_would_not_start_are_refused() {
    let suites = |list: &str| format!("[apiserver]\ntls-cipher-suites = [{list}]\n");
    let aes256 = "\"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"";
    let told = faults(&suites(aes256));
    assert!(told.contains("which HTTP/2 demands"), "{told}");
    let with = format!("{aes256}, \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"");
    assert_eq!(faults(&suites(&with)), "");
    let newest = format!("{}tls-min-version = \"VersionTLS13\"\n", suites(aes256));
    assert_eq!(faults(&newest), "");
    let etcd = "[etcd]\ntls-min-version = \"TLS1.3\"\n";
    assert_eq!(faults(etcd), "");
    let told = faults(&format!("{etcd}cipher-suites = [{aes256}]\n"));
    assert!(told.contains("etcd would not start"), "{told}");
}

#[test]
fn a_table_that_says_two_things_is_refused() {
    let why = |table: Value| {
        let mut table = table;
        table["component"] = "kube-apiserver".into();
        table["name"] = "x".into();
        Kind::from_table("flag", table).unwrap_err()
    };
    for (table, told) in [
        (
            json!({"value": ["A"], "merge": "additive", "without": ["A"]}),
            "without: \"A\" is wanted as well",
        ),
        (
            json!({"value": "A", "without": ["B"]}),
            "without: it stands alone or beside merge = \"additive\"",
        ),
        (
            json!({"merge": "absent", "without": ["B"]}),
            "without: it stands alone or beside merge = \"additive\"",
        ),
        (json!({"without": [""]}), "without: an item is empty"),
        (
            json!({"without": ["A,B"]}),
            "without: \"A,B\" is several items; list them one by one",
        ),
        (json!({"without": []}), "value: it is missing"),
        (
            json!({"value": "", "merge": "present"}),
            "value: an empty one is none",
        ),
    ] {
        assert_eq!(why(table.clone()), told, "{table}");
    }
}

/// A word of a command line that no edit concerns.
fn other_word() -> impl Strategy<Value = String> {
    prop_oneof![
        "--[p-z][a-z]{0,5}(-[a-z]{1,4})?=[ -~]{0,12}".prop_map(|w| w.replace('$', "")),
        "--[p-z][a-z]{2,6}",
        "-v=[0-9]",
    ]
}

fn wish() -> impl Strategy<Value = (Value, String)> {
    let name = proptest::sample::select(vec![
        "aa",
        "bb",
        "enable-admission-plugins",
        "client-ca-file",
    ]);
    let table = prop_oneof![
        "[A-C]".prop_map(|v| json!({"value": v})),
        "[A-C]".prop_map(|v| json!({"value": v, "merge": "present"})),
        Just(json!({"merge": "absent"})),
        ("[A-C]", "[D-F]")
            .prop_map(|(v, w)| json!({"value": v, "merge": "additive", "without": [w]})),
        "[A-F]".prop_map(|w| json!({"without": [w]})),
    ];
    (table, name.prop_map(str::to_owned))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever stands in a manifest: after the edit it satisfies, and words of others keep their order.
    #[test]
    fn any_edit_of_any_command_line_satisfies_and_leaves_the_others(
        words in proptest::collection::vec(
            prop_oneof![
                3 => other_word(),
                2 => "--(aa|bb|enable_admission_plugins|client-ca-file)=[A-F](,[A-F]){0,2}",
                1 => "--(aa|bb)",
            ],
            0..10,
        ),
        (table, name) in wish(),
    ) {
        let mut table = table;
        table["component"] = "kube-apiserver".into();
        table["name"] = name.as_str().into();
        let desired = desired(vec![resource("flag", table.clone())]);
        let mut facts = cluster(&["cp1"], &desired);
        let extra: String = words.iter().map(|word| format!("    - {}\n", json!(word))).collect();
        let text = manifest(&facts, "cp1", API)
            .replace("    image: registry", &format!("{extra}    image: registry"));
        put(&mut facts, "cp1", Query::File(manifest_path(API)), file(&text, 0o600));
        let before = Manifest::parse(&text, API).unwrap().argv;
        put(&mut facts, "cp1", Query::Process(API.program()), process(7, before.clone()));
        let plan = build(&desired, &facts);
        prop_assert_eq!(problems(&plan), Vec::<String>::new());
        execute(&plan, &mut facts);
        let again = build(&desired, &facts);
        prop_assert!(again.is_clean(), "{} {:?}", table, lines(&again));
        let after = Manifest::parse(&manifest(&facts, "cp1", API), API).unwrap().argv;
        let others = |argv: &[String]| -> Vec<String> {
            let concerned: Vec<usize> = kubeadm::argv::flags(argv)
                .into_iter()
                .filter(|flag| kubeadm::argv::same_name(&flag.name, &name))
                .flat_map(|flag| flag.at..flag.at + flag.words)
                .collect();
            let rest = argv.iter().enumerate().filter(|(at, _)| !concerned.contains(at));
            rest.map(|(_, word)| word.clone()).collect()
        };
        prop_assert_eq!(others(&after), others(&before));
    }
}
