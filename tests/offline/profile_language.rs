//! How profiles are composed: strictness, taking back, defaults of tenants, directories, modules of
//! the user, values of one node, and what a policy leaves open.
use std::fs;
use std::path::Path;

use harden::module::evaluate;
use harden::profile::{self, Failure, Workspace, load};
use harden::resource::Desired;

fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let head = "cluster.name = \"x\"\n";
        let head = if *name == "harden.toml" { head } else { "" };
        fs::write(path, format!("{head}{text}")).unwrap();
    }
    dir
}

fn read(dir: &Path) -> Result<(Workspace, Desired), Failure> {
    let modules = profile::modules(dir)?;
    let workspace = load(dir, &modules)?;
    let desired = evaluate(&workspace, &modules)?;
    Ok((workspace, desired))
}

fn good(files: &[(&str, &str)]) -> (Workspace, Desired) {
    read(workspace(files).path()).unwrap_or_else(|e| panic!("{e:#}"))
}

fn wrong(files: &[(&str, &str)]) -> String {
    match read(workspace(files).path()) {
        Err(failure) => format!("{failure:#}"),
        Ok(_) => panic!("nothing is wrong with it"),
    }
}

fn value(files: &[(&str, &str)], option: &str) -> String {
    let (workspace, _) = good(files);
    let value = workspace.values.get(option);
    value.map_or("unset".into(), |value| value.json().to_string())
}

/// Each resource with where it is wanted.
fn resources(desired: &Desired) -> Vec<String> {
    let line = |r: &harden::resource::Resource| {
        let name = r.kind.behaviour().name();
        let only = r.only.iter().map(|node| format!(" only {node}"));
        let except = r.except.iter().map(|node| format!(" except {node}"));
        only.chain(except).fold(name, |line, part| line + &part)
    };
    desired.resources.iter().map(line).collect()
}

#[test]
fn of_two_imports_with_an_order_the_stricter_wins() {
    let imports = "imports = [\"a.toml\", \"b.toml\"]\n";
    for (a, b, option, wins) in [
        (
            "profiling = true",
            "profiling = false",
            "apiserver.profiling",
            "false",
        ),
        (
            "tls-min-version = \"VersionTLS13\"",
            "tls-min-version = \"VersionTLS12\"",
            "apiserver.tls-min-version",
            "\"VersionTLS13\"",
        ),
    ] {
        let (a, b) = (format!("[apiserver]\n{a}"), format!("[apiserver]\n{b}"));
        for (a, b) in [(&a, &b), (&b, &a)] {
            let files = [("harden.toml", imports), ("a.toml", a), ("b.toml", b)];
            assert_eq!(value(&files, option), wins);
        }
    }
    let ages = |a: &str, b: &str| {
        let (a, b) = (
            format!("audit.log-max-age = {a}"),
            format!("audit.log-max-age = {b}"),
        );
        value(
            &[
                (
                    "harden.toml",
                    &format!("{imports}audit.policy = \"metadata\""),
                ),
                ("a.toml", &a),
                ("b.toml", &b),
            ],
            "audit.log-max-age",
        )
    };
    assert_eq!(ages("30", "90"), "90");
    // The importing file settles it, also to the laxer side.
    let files = [
        (
            "harden.toml",
            &*format!("{imports}apiserver.profiling = true"),
        ),
        ("a.toml", "apiserver.profiling = true"),
        ("b.toml", "apiserver.profiling = false"),
    ];
    assert_eq!(value(&files, "apiserver.profiling"), "true");
}

#[test]
fn of_two_modes_the_one_with_fewer_bits_wins_and_neither_when_each_has_its_own() {
    let modes = |a: &str, b: &str| {
        [
            (
                "harden.toml".to_owned(),
                "imports = [\"a.toml\", \"b.toml\"]".to_owned(),
            ),
            ("a.toml".to_owned(), format!("files.keys-mode = \"{a}\"")),
            ("b.toml".to_owned(), format!("files.keys-mode = \"{b}\"")),
        ]
    };
    fn refs(files: &[(String, String); 3]) -> Vec<(&str, &str)> {
        files
            .iter()
            .map(|(name, text)| (&**name, &**text))
            .collect()
    }
    assert_eq!(
        value(&refs(&modes("0640", "0600")), "files.keys-mode"),
        "\"0600\""
    );
    assert_eq!(
        value(&refs(&modes("600", "0600")), "files.keys-mode"),
        "\"0600\""
    );
    insta::assert_snapshot!(wrong(&refs(&modes("0640", "0604"))), @r#"
    error: imports disagree on `files.keys-mode`: a.toml:1 and b.toml:1
      --> a.toml:1:19
    1 | files.keys-mode = "0640"
      |                   ^^^^^^ it is this here
      also: `files.keys-mode` is set at b.toml:1
      --> b.toml:1:19
    1 | files.keys-mode = "0604"
      |                   ^^^^^^ it is this here
      help: set `files.keys-mode` in the file that imports them
    "#);
}

#[test]
fn unset_takes_back_what_imports_set_and_leaves_what_the_file_says_itself() {
    let base = (
        "base.toml",
        "[apiserver]\nprofiling = false\n[scheduler]\nprofiling = false\n",
    );
    let taken = [
        (
            "harden.toml",
            "imports = [\"base.toml\"]\nunset = [\"apiserver.profiling\"]",
        ),
        base,
    ];
    assert_eq!(value(&taken, "apiserver.profiling"), "unset");
    assert_eq!(value(&taken, "scheduler.profiling"), "false");
    let (workspace, _) = good(&taken);
    assert_eq!(workspace.values.unset[0].0, "apiserver.profiling");
    let said = [
        (
            "harden.toml",
            "imports = [\"base.toml\"]\nunset = [\"apiserver.profiling\"]\napiserver.profiling = true",
        ),
        base,
    ];
    assert_eq!(value(&said, "apiserver.profiling"), "true");
    // What another import sets on its own stays.
    let other = [
        ("harden.toml", "imports = [\"a.toml\", \"b.toml\"]"),
        (
            "a.toml",
            "imports = [\"base.toml\"]\nunset = [\"apiserver.profiling\"]",
        ),
        ("b.toml", "apiserver.profiling = true"),
        base,
    ];
    assert_eq!(value(&other, "apiserver.profiling"), "true");
    // Inside of an option, too.
    let inside = [
        (
            "harden.toml",
            "imports = [\"a.toml\"]\nunset = [\"tenants.pay.quota.pods\"]",
        ),
        (
            "a.toml",
            "[tenants.pay]\nnamespaces = [\"pay\"]\nquota = { pods = \"5\", \"requests.cpu\" = \"2\" }",
        ),
    ];
    assert!(value(&inside, "tenants").contains(r#""quota":{"requests.cpu":"2"}"#));
}

#[test]
fn unset_that_takes_nothing_back_is_a_mistake() {
    insta::assert_snapshot!(wrong(&[
        (
            "harden.toml",
            "imports = [\"a.toml\"]\nunset = [\"apiserver.profilin\", \"scheduler.profiling\"]"
        ),
        ("a.toml", "apiserver.profiling = true"),
    ]), @r#"
    error: `unset` names `apiserver.profilin`, which is no option
      --> harden.toml:3:10
    3 | unset = ["apiserver.profilin", "scheduler.profiling"]
      |          ^^^^^^^^^^^^^^^^^^^^ did you mean `apiserver.profiling`?
      help: name an option such as `apiserver.profiling`

    error: `unset` has nothing to take back of `scheduler.profiling`
      --> harden.toml:3:32
    3 | unset = ["apiserver.profilin", "scheduler.profiling"]
      |                                ^^^^^^^^^^^^^^^^^^^^^ no import of this file sets it
      help: remove it
    "#);
}

#[test]
fn the_tenant_star_sets_what_others_leave_open() {
    let text = r#"
accept = ["tenants"]
[tenants."*"]
pod-security = "baseline"
quota = { pods = "9" }
[tenants.a]
namespaces = ["a"]
[tenants.b]
namespaces = ["b"]
pod-security = "restricted"
"#;
    assert_eq!(
        value(&[("harden.toml", text)], "tenants"),
        r#"{"a":{"namespaces":["a"],"pod-security":"baseline","quota":{"pods":"9"}},"b":{"namespaces":["b"],"pod-security":"restricted","quota":{"pods":"9"}}}"#
    );
    let taken = format!("unset = [\"tenants.b.quota\"]\n{text}");
    let tenants = value(&[("harden.toml", &taken)], "tenants");
    assert!(tenants.ends_with(r#""b":{"namespaces":["b"],"pod-security":"restricted"}}"#));
    // Without a tenant it asks for nothing.
    let (_, desired) = good(&[("harden.toml", "imports = [\"builtin:multi-tenant\"]")]);
    assert!(
        !resources(&desired)
            .iter()
            .any(|name| name.contains("Namespace"))
    );
}

#[test]
fn a_directory_stands_for_the_files_in_it() {
    let files = [
        ("harden.toml", "imports = [\"team\"]"),
        ("team/a.toml", "apiserver.profiling = false"),
        ("team/b.toml", "scheduler.profiling = false"),
        ("team/.hidden.toml", "nonsense ="),
        ("team/notes.md", "nonsense ="),
        ("team/below/c.toml", "nonsense ="),
    ];
    assert_eq!(value(&files, "apiserver.profiling"), "false");
    assert_eq!(value(&files, "scheduler.profiling"), "false");
}

const SYSCTL: &str = r#"
[module]
summary = "Modes of the cloud-init files"
on      = "nodes"

[options.mode]
type     = "mode"
doc      = "The widest mode of cloud-init's user data, which often holds credentials."
risk     = "safe"
per      = "node"
stricter = "lower"
example  = "0600"

[[mode]]
path  = "/var/lib/cloud/instance/user-data.txt"
mode  = "${cloud-init.mode}"
owner = "root"
"#;

#[test]
fn a_workspace_brings_modules_of_its_own() {
    for modules in ["modules", "modules/cloud-init.toml"] {
        let (_, desired) = good(&[
            (
                "harden.toml",
                &format!("modules = [\"{modules}\"]\n[cloud-init]\nmode = \"0600\"\n"),
            ),
            ("modules/cloud-init.toml", SYSCTL),
        ]);
        assert_eq!(
            resources(&desired),
            ["mode of /var/lib/cloud/instance/user-data.txt"]
        );
    }
    let unused = wrong(&[("harden.toml", "[cloud-init]\nmode = \"0600\"\n")]);
    assert!(
        unused.contains("there is no section `cloud-init`"),
        "{unused}"
    );
}

#[test]
fn modules_that_cannot_be_read() {
    insta::assert_snapshot!(wrong(&[
        (
            "harden.toml",
            "modules = [\"modules\", \"more/a.toml\", \"../x.toml\", \"/etc\", \"none.toml\", \"harden.md\", \"empty\"]"
        ),
        ("modules/a.toml", SYSCTL),
        ("modules/files.toml", SYSCTL),
        ("more/a.toml", SYSCTL),
        ("harden.md", ""),
        ("empty/x", ""),
    ]), @r#"
    error: `modules/files.toml` has the name of a built-in module
      --> harden.toml:2:12
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |            ^^^^^^^^^ here
      help: rename the file: its name is the section in profiles

    error: `modules/a.toml` and `more/a.toml` are modules of the same name
      --> harden.toml:2:23
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |                       ^^^^^^^^^^^^^ here
      help: rename one of the files

    error: the module `../x.toml` cannot be read: it does not exist
      --> harden.toml:2:38
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |                                      ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `/etc` cannot be read: it is no relative path
      --> harden.toml:2:51
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |                                                   ^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `none.toml` cannot be read: it does not exist
      --> harden.toml:2:59
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |                                                           ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `harden.md` cannot be read: it does not end in .toml
      --> harden.toml:2:72
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |                                                                        ^^^^^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them

    error: the module `empty` cannot be read: it holds no .toml file
      --> harden.toml:2:85
    2 | modules = ["modules", "more/a.toml", "../x.toml", "/etc", "none.toml", "harden.md", "empty"]
      |                                                                                     ^^^^^^^ here
      help: modules are .toml files inside the workspace, or directories of them
    "#);
    // What is in them is shown with the place.
    insta::assert_snapshot!(wrong(&[
        ("harden.toml", "modules = [\"m.toml\"]"),
        ("m.toml", "[module]\nsummary = \"x\"\non = \"node\"\n"),
    ]), @r#"
    error: `module.on` cannot be `node`
      --> m.toml:3:6
    3 | on = "node"
      |      ^^^^^^ did you mean `nodes`?
      help: write `control-plane`, `workers`, `nodes` or `api`
    "#);
}

#[test]
fn one_node_may_have_a_value_of_its_own() {
    let (_, desired) = good(&[(
        "harden.toml",
        "[files]\nkubelet-mode = \"0600\"\n[nodes.host.w1]\naddress = \"10.0.0.9\"\nfiles.kubelet-mode = \"0400\"\n\
         [nodes.host.w2]\nfiles.kubelet-mode = \"0600\"\n",
    )]);
    insta::assert_snapshot!(resources(&desired).join("\n"), @"
    mode of /etc/kubernetes/kubelet.conf except w1
    mode of /etc/kubernetes/kubelet.conf only w1
    mode of /var/lib/kubelet/config.yaml except w1
    mode of /var/lib/kubelet/config.yaml only w1
    ");
    // A value that equals the shared one changes nothing.
    let (_, shared) = good(&[("harden.toml", "[files]\nkubelet-mode = \"0600\"\n")]);
    let (_, same) = good(&[(
        "harden.toml",
        "[files]\nkubelet-mode = \"0600\"\n[nodes.host.w2]\nfiles.kubelet-mode = \"0600\"\n",
    )]);
    assert_eq!(shared.sha256(), same.sha256());
    assert_ne!(shared.sha256(), desired.sha256());
    // A node may have what the others do not.
    let (_, alone) = good(&[(
        "harden.toml",
        "[nodes.host.w1.files]\nkubelet-mode = \"0400\"\n",
    )]);
    assert!(
        resources(&alone)
            .iter()
            .all(|line| line.ends_with("only w1"))
    );
    assert_eq!(alone.resources.len(), 2);
}

#[test]
fn what_all_nodes_share_cannot_differ() {
    insta::assert_snapshot!(wrong(&[(
        "harden.toml",
        "[nodes.host.cp1]\nadress = \"10.0.0.9\"\napiserver.profiling = false\n[nodes.host.cp1.file]\n[nodes.host.cp1.files]\nkeys = 1\n",
    )]), @r#"
    error: there is no key `nodes.host.cp1.adress`
      --> harden.toml:3:1
    3 | adress = "10.0.0.9"
      | ^^^^^^ did you mean `address`?
      help: use `transport`, `address`, `port`, `user`, `become`, `identity`, `known-hosts`, `engine` or `role`

    error: `apiserver.profiling` cannot have a value per node
      --> harden.toml:4:23
    4 | apiserver.profiling = false
      |                       ^^^^^ all nodes share it
      help: set it outside of `[nodes.host]`

    error: there is no key `nodes.host.cp1.file`
      --> harden.toml:5:17
    5 | [nodes.host.cp1.file]
      |                 ^^^^ unknown
      help: use `transport`, `address`, `port`, `user`, `become`, `identity`, `known-hosts`, `engine` or `role`

    error: `files` has no option `keys`
      --> harden.toml:7:1
    7 | keys = 1
      | ^^^^ unknown
      help: use `certificates-mode`, `cni-mode`, `etcd-data-mode`, `keys-mode`, `kube-proxy-kubeconfig-mode`, `kubeconfigs-mode`, `kubelet-client-ca-mode`, `kubelet-drop-in-dir-mode`, `kubelet-drop-ins-mode`, `kubelet-mode`, `kubelet-service-mode`, `manifests-mode` or `pki-owner`
    "#);
}

#[test]
fn a_value_that_does_not_exist_everywhere() {
    let module = "[module]\nsummary = \"x\"\non = \"control-plane\"\n[options.a]\ntype = \"bool\"\ndoc = \"A.\"\nrisk = \"safe\"\n\
                  since = \"1.30\"\nuntil = \"1.34\"\n[options.b]\ntype = \"bool\"\ndoc = \"B.\"\nrisk = \"safe\"\ndistributions = [\"k3s\"]\n\
                  [[flag]]\ncomponent = \"kube-apiserver\"\nname = \"a\"\nvalue = \"${m.a}\"\n\
                  [[flag]]\ncomponent = \"kube-apiserver\"\nname = \"b\"\nvalue = \"${m.b}\"\n";
    let head = "modules = [\"m.toml\"]\n";
    let dir = workspace(&[
        ("harden.toml", &format!("{head}m.a = true")),
        ("m.toml", module),
    ]);
    let modules = profile::modules(dir.path()).unwrap();
    let workspace_ = load(dir.path(), &modules).unwrap();
    let told = |version: &str| {
        let answer = || Ok::<_, ()>(version.to_owned());
        let faults = harden::module::unavailable(&workspace_, &modules, answer).unwrap();
        faults
            .iter()
            .map(|fault| format!("{fault:#}"))
            .collect::<Vec<_>>()
    };
    assert!(told("1.30").is_empty() && told("1.34").is_empty());
    assert_eq!(told("1.29").len(), 1);
    insta::assert_snapshot!(told("1.35").join("\n"), @"
    error: `m.a` does not exist in Kubernetes 1.35
      --> harden.toml:3:7
    3 | m.a = true
      |       ^^^^ it exists in 1.30 to 1.34
      help: remove it, or `unset` it when an import sets it
    ");
    insta::assert_snapshot!(wrong(&[("harden.toml", &format!("{head}m.b = true")), ("m.toml", module)]), @"
    error: `m.b` does not exist in kubeadm
      --> harden.toml:3:7
    3 | m.b = true
      |       ^^^^ it exists in k3s
      help: remove it, or `unset` it when an import sets it
    ");
    let on_k3s = format!("cluster.distribution = \"k3s\"\n{head}m.b = true");
    let (_, there) = good(&[("harden.toml", &on_k3s), ("m.toml", module)]);
    assert_eq!(there.resources.len(), 1);
}

/// The first of the two seed examples, as it was given.
const SEED_APP: &str = include_str!("../fixtures/policies/my-app.toml");

/// The second one, as it was given, with its weaknesses.
const SEED_TENANT: &str = include_str!("../fixtures/policies/tenant-1.toml");

/// A workspace with one of them.
fn accepted(policy: &str) -> String {
    format!("\naccept = [\"network-policies\"]\n{policy}")
}

fn spec_of(desired: &Desired) -> serde_json::Value {
    desired.resources[0].kind.behaviour().object().unwrap()["spec"].clone()
}

#[test]
fn the_policy_of_an_application_is_expressed_as_given() {
    let (_, desired) = good(&[("harden.toml", &accepted(SEED_APP))]);
    assert_eq!(
        spec_of(&desired),
        serde_json::json!({
            "podSelector": {"matchLabels": {"app": "my-app"}},
            "policyTypes": ["Egress", "Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "frontend"}}}]}],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"role": "database"}}}]}],
        })
    );
    assert_eq!(desired.findings, []);
}

#[test]
fn the_policy_of_a_tenant_is_expressed_as_given_and_its_weaknesses_are_found() {
    let (_, desired) = good(&[("harden.toml", &accepted(SEED_TENANT))]);
    let port = |protocol: &str, port: u16| serde_json::json!({"protocol": protocol, "port": port});
    assert_eq!(
        spec_of(&desired),
        serde_json::json!({
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [
                {"to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [
                        "100.64.0.0/10", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
                    ]}},
                    {"namespaceSelector": {"matchLabels": {"tenant": "tenant-1"}}},
                ]},
                {"ports": [port("UDP", 53), port("TCP", 53), port("TCP", 443), port("TCP", 8443)]},
            ],
        })
    );
    let told: Vec<String> = desired
        .findings
        .iter()
        .map(|f| {
            format!(
                "{} ({}, {})",
                f.message,
                f.control.as_deref().unwrap_or("-"),
                f.origins[0]
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    the NetworkPolicy `tenant-1` has an egress rule without `to`: its ports are open to every tenant and every private range (network-policy-egress-names-peers, network-policies.tenant-1 at harden.toml:4)
    the NetworkPolicy `tenant-1` leaves ingress open: everybody may connect to its pods (network-policy-ingress-bounded, network-policies.tenant-1 at harden.toml:4)
    the NetworkPolicy `tenant-1` lets pods reach 169.254.169.254, where clouds hand out the node's credentials (network-policy-metadata-service-closed, network-policies.tenant-1 at harden.toml:4)
    ");
}

#[test]
fn the_multi_tenant_profile_has_the_corrected_form() {
    let (_, desired) = good(&[(
        "harden.toml",
        "imports = [\"builtin:multi-tenant\"]\naccept = [\"tenants\"]\n[tenants.tenant-1]\nnamespaces = [\"tenant-1\"]\n",
    )]);
    assert_eq!(desired.findings, []);
    let egress = desired
        .resources
        .iter()
        .filter_map(|r| r.kind.behaviour().object())
        .find(|o| o["metadata"]["name"] == "harden-egress")
        .unwrap();
    let rules = egress["spec"]["egress"].as_array().unwrap();
    // Every rule names its peers, and no peer is a private range, another tenant or the metadata service.
    for rule in rules {
        for peer in rule["to"].as_array().unwrap() {
            let except = peer["ipBlock"]["except"].as_array().unwrap();
            for range in [
                "10.0.0.0/8",
                "169.254.0.0/16",
                "172.16.0.0/12",
                "192.168.0.0/16",
            ] {
                assert!(except.iter().any(|e| e == range), "{range}");
            }
        }
    }
    // A tenant that opens itself is told, by the same checks.
    let (_, open) = good(&[(
        "harden.toml",
        "accept = [\"tenants\"]\n[tenants.a]\nnamespaces = [\"a\"]\negress = [{ ports = [{ port = 443 }] }, { to = [{ ipBlock = { cidr = \"169.254.0.0/16\" } }] }]\n",
    )]);
    let controls: Vec<_> = open
        .findings
        .iter()
        .filter_map(|f| f.control.as_deref())
        .collect();
    assert_eq!(
        controls,
        [
            "network-policy-egress-names-peers",
            "network-policy-metadata-service-closed"
        ]
    );
}

#[test]
fn every_profile_evaluates_alone_and_all_of_them_together() {
    let all = ["baseline", "cis-level1", "cis-level2", "multi-tenant"];
    let mut each: Vec<String> = all
        .iter()
        .map(|name| format!("\"builtin:{name}\""))
        .collect();
    each.push(each.join(", "));
    for imports in each {
        let text = format!(
            "imports = [{imports}]\naccept = [\"tenants\"]\n[tenants.a]\nnamespaces = [\"a\"]\n"
        );
        let (_, desired) = good(&[("harden.toml", &text)]);
        assert_eq!(desired.findings, [], "{imports}");
        assert!(desired.resources.len() > 20, "{imports}");
    }
}

#[test]
fn to_accept_a_section_accepts_all_of_it() {
    let module = "[module]\nsummary = \"x\"\non = \"api\"\n[options.a]\ntype = \"enum\"\nvalues = [\"on\"]\ndoc = \"A.\"\nrisk = \"guarded\"\n\
                  [[object]]\nwhen = { \"m.a\" = \"on\" }\nmanifest = { apiVersion = \"v1\", kind = \"Namespace\", metadata = { name = \"x\" } }\n";
    let (_, desired) = good(&[
        (
            "harden.toml",
            "modules = [\"m.toml\"]\naccept = [\"m\"]\nm.a = \"on\"",
        ),
        ("m.toml", module),
    ]);
    assert_eq!(desired.accept, ["m", "m.a"]);
}

#[test]
fn consent_to_what_is_not_there_is_told() {
    let text = |accept: &str| {
        format!("accept = [{accept}]\n[tenants.a]\nnamespaces = [\"a\"]\nquota = {{ pods = 1 }}\n")
    };
    let told = |accept: &str| -> Vec<String> {
        let (_, desired) = good(&[("harden.toml", &text(accept))]);
        desired.findings.iter().map(|f| f.message.clone()).collect()
    };
    for used in [
        "tenants",
        "tenants.a",
        "tenants.a.quota",
        "tenants.a.quota.pods",
    ] {
        assert_eq!(told(&format!("{used:?}")), [""; 0], "{used}");
    }
    for stale in ["tenants.old", "audit", "apiserver.profiling"] {
        assert_eq!(
            told(&format!("\"tenants.a\", {stale:?}")),
            [format!(
                "`accept` names `{stale}`, and the profile sets nothing of that name"
            )]
        );
    }
}

#[test]
fn an_object_in_no_namespace_is_refused_where_its_kind_needs_one() {
    let object = |kind: &str, more: &str| {
        format!(
            "[[object]]\napiVersion = \"v1\"\nkind = {kind:?}\nmetadata = {{ name = \"x\"{more} }}\n"
        )
    };
    let said = wrong(&[("harden.toml", &object("ConfigMap", ""))]);
    assert!(said.contains("ConfigMap `x` has no namespace"), "{said}");
    assert!(said.contains("harden.toml:2:"), "{said}");
    good(&[("harden.toml", &object("ConfigMap", ", namespace = \"y\""))]);
    good(&[("harden.toml", &object("Namespace", ""))]);
    let said = wrong(&[("harden.toml", &object("Secret", ", namespace = \"y\""))]);
    assert!(
        said.contains("a Secret does not belong in a profile"),
        "{said}"
    );
    assert!(said.contains("External Secrets"), "{said}");
}

#[test]
fn a_tenant_cannot_have_the_clusters_own_namespaces() {
    let text = "accept = [\"tenants\"]\n[tenants.a]\nnamespaces = [\"mine\", \"kube-system\", \"kube-anything\"]\nnetwork = \"isolated\"\n";
    insta::assert_snapshot!(wrong(&[("harden.toml", text)]), @r#"
    error: the tenant `a` cannot have `kube-anything`: Kubernetes keeps namespaces that begin with `kube-` for itself
      --> harden.toml:4:14
    4 | namespaces = ["mine", "kube-system", "kube-anything"]
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ 
      help: remove it from the tenant; isolation, quotas and Pod Security can stop what the cluster itself runs there

    error: the tenant `a` cannot have `kube-system`: Kubernetes keeps namespaces that begin with `kube-` for itself
      --> harden.toml:4:14
    4 | namespaces = ["mine", "kube-system", "kube-anything"]
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ 
      help: remove it from the tenant; isolation, quotas and Pod Security can stop what the cluster itself runs there
    "#);
    for name in ["kube-public", "kube-node-lease"] {
        let text = format!("[tenants.a]\nnamespaces = [{name:?}]\n");
        assert!(wrong(&[("harden.toml", &text)]).contains("cannot have"));
    }
    // Only the prefix is taken.
    let (_, desired) = good(&[(
        "harden.toml",
        "[tenants.a]\nnamespaces = [\"kubeflow\", \"my-kube-x\"]\n",
    )]);
    assert_eq!(desired.findings, []);
}

#[test]
fn a_tenants_name_is_one_that_objects_can_have() {
    let text = |name: &str| format!("# a comment\n[tenants.{name:?}]\nnamespaces = [\"mine\"]\n");
    for name in [
        "Pay",
        "pay_ments",
        "-pay",
        "pay.ments",
        "",
        &"p".repeat(64),
        "pay\u{1b}[2J",
    ] {
        let said = wrong(&[("harden.toml", &text(name).replace("\\u{1b}", "\\u001b"))]);
        assert!(
            said.contains("is no name for an entry of `tenants`"),
            "{said}"
        );
        assert!(said.contains("harden.toml:3:"), "{said}");
        assert!(said.contains("help: write "), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    for name in ["pay", "p", "pay-2", &"p".repeat(63), "*"] {
        good(&[("harden.toml", &text(name))]);
    }
    // Where a module says nothing of names, a control character is none all the same.
    let said = wrong(&[(
        "harden.toml",
        "[apiserver.jwt.\"a\\u001b[2J\"]\nissuer = {}\n",
    )]);
    assert!(
        said.contains("is no name for an entry of `apiserver.jwt`"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn the_default_namespace_and_policies_of_the_cluster_itself_are_told() {
    let text = "accept = [\"network-policies\"]\n[tenants.a]\nnamespaces = [\"default\"]\n\
                [network-policies.dns]\nnamespace = \"kube-system\"\npodSelector = {}\npolicyTypes = [\"Ingress\"]\n";
    let (_, desired) = good(&[("harden.toml", text)]);
    let told: Vec<String> = desired
        .findings
        .iter()
        .map(|f| format!("{}\n  {} ({})", f.message, f.help, f.origins[0]))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    the NetworkPolicy `dns` is in `kube-system`, where the cluster's own components run
      make sure that it still lets through what they need: DNS from every namespace, webhooks and metrics from the API server (network-policies.dns at harden.toml:5)
    the tenant `a` has `default`, where everything lands that names no namespace
      give the tenant a namespace of its own; whatever else runs in `default` is restricted too (tenants.a.namespaces at harden.toml:4)
    ");
}

#[test]
fn an_import_cannot_weaken_what_another_one_asks_for() {
    let team = "imports = [\"builtin:cis-level1\"]\nunset = [\"audit.policy\"]\n[files]\nkeys-mode = \"0777\"\n\
                [tenants.\"*\"]\npod-security = \"privileged\"\n";
    for imports in [
        "\"team.toml\", \"builtin:cis-level2\"",
        "\"builtin:cis-level2\", \"team.toml\"",
    ] {
        let text = format!(
            "imports = [{imports}]\naccept = [\"tenants\"]\n[tenants.a]\nnamespaces = [\"a\"]\n"
        );
        let files = [("harden.toml", &*text), ("team.toml", team)];
        assert_eq!(value(&files, "files.keys-mode"), "\"0600\"");
        assert_eq!(value(&files, "audit.policy"), "\"metadata\"");
        assert!(value(&files, "tenants").contains(r#""pod-security":"restricted""#));
    }
}
