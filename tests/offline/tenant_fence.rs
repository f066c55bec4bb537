//! What holds a tenant's fence: the policies of all tenants, and what they compare with.
use crate::plan_support::cluster;
use crate::plan_support::tenants::{good, wrong};
use harden::plan::build;
use harden::resource::{Desired, Risk};
use serde_json::Value;

/// The objects without a namespace, apart from namespaces, with their risks.
fn policies(desired: &Desired) -> Vec<String> {
    let names = desired.resources.iter();
    let names = names.map(|r| format!("{} {:?}", r.kind.behaviour().name(), r.risk));
    names
        .filter(|name| name.starts_with("Validating"))
        .collect()
}

fn namespace(desired: &Desired, name: &str) -> Value {
    let name = format!("Namespace {name}");
    let mut resources = desired.resources.iter();
    let found = resources
        .find(|r| r.kind.behaviour().name() == name)
        .unwrap();
    found.kind.behaviour().object().unwrap()["metadata"].clone()
}

fn tenants(number: usize, fields: &str) -> String {
    let one = |n| format!("[tenants.t{n}]\nnamespaces = [\"t{n}\", \"t{n}-jobs\"]\n{fields}\n");
    (0..number).map(one).collect()
}

#[test]
fn a_policy_is_there_once_for_all_tenants_and_only_if_one_asks_for_it() {
    assert_eq!(
        policies(&good(&tenants(3, "network = \"isolated\""))),
        [""; 0]
    );
    let images = "images = \"deny\"\nregistries = [\"registry.example.com\"]";
    let text = format!(
        "{}[tenants.other]\nnamespaces = [\"other\"]\nguard = \"warn\"\n",
        tenants(3, images)
    );
    let desired = good(&text);
    insta::assert_snapshot!(policies(&desired).join("\n"), @"
    ValidatingAdmissionPolicy harden-tenant-bindings Safe
    ValidatingAdmissionPolicy harden-tenant-images Safe
    ValidatingAdmissionPolicy harden-tenant-namespaces Safe
    ValidatingAdmissionPolicy harden-tenant-networks Safe
    ValidatingAdmissionPolicy harden-tenant-objects Safe
    ValidatingAdmissionPolicyBinding harden-tenant-bindings-warn Safe
    ValidatingAdmissionPolicyBinding harden-tenant-images-deny Safe
    ValidatingAdmissionPolicyBinding harden-tenant-images-templates Safe
    ValidatingAdmissionPolicyBinding harden-tenant-namespaces-warn Safe
    ValidatingAdmissionPolicyBinding harden-tenant-networks-warn Safe
    ValidatingAdmissionPolicyBinding harden-tenant-objects-warn Safe
    ");
    // A thousand tenants have no more of them, and what they are made of is told once.
    let many = good(&tenants(1000, images));
    assert_eq!(policies(&many).len(), 3);
    let mut policies = many
        .resources
        .iter()
        .filter(|r| r.kind.behaviour().name().starts_with("Validating"));
    assert!(policies.all(|r| r.origins.len() < 5 && r.risk == Risk::Safe));
}

const RULES: &str = r#"
[tenants.pay]
namespaces     = ["pay", "pay-jobs"]
network        = "isolated"
guard          = "deny"
images         = "warn"
registries     = ["registry.example.com/pay/", "docker.io/library/busybox", "localhost:5000"]
image-digests  = true
image-latest   = false
owners         = [{ kind = "Group", name = "leads" }]
editors        = [{ kind = "ServiceAccount", name = "ci", namespace = "build" }]
viewers        = [{ kind = "ServiceAccount", name = "web", namespace = "pay" }]
ingress-tenants = ["shop"]
ingress = [
    { from = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "ingress-nginx" } } }], ports = [{ port = 8080 }, { port = "http" }] },
    # None of these can be told from what is wider.
    { from = [
        { podSelector = {} },
        { namespaceSelector = { matchLabels = { team = "a" } } },
        { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "a", team = "a" } } },
        { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "a" } }, podSelector = { matchLabels = { app = "a" } } },
        { namespaceSelector = { matchExpressions = [{ key = "kubernetes.io/metadata.name", operator = "NotIn", values = ["a"] }] } },
    ] },
]
egress = [
    { to = [{ ipBlock = { cidr = "192.0.2.0/24", except = ["192.0.2.0/28", "192.0.2.64/26"] } }, { ipBlock = { cidr = "2001:db8::/32" } }], ports = [{ protocol = "UDP", port = 100, endPort = 200 }, { protocol = "SCTP" }] },
    { to = [{ namespaceSelector = { matchExpressions = [{ key = "kubernetes.io/metadata.name", operator = "In", values = ["b", "c"] }] }, podSelector = {} }] },
    { ports = [{ port = 443 }] },
]
[tenants.shop]
namespaces = ["shop"]
"#;

#[test]
fn what_the_policies_compare_with_stands_at_the_namespace() {
    let desired = good(RULES);
    let metadata = namespace(&desired, "pay");
    let lines = |value: &Value| {
        let all = value.as_object().unwrap().iter();
        let all = all.map(|(key, text)| {
            format!("{key}:\n  {}", text.as_str().unwrap().replace('\n', "\n  "))
        });
        all.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(lines(&metadata["annotations"]), @"
    harden.dev/accounts:
      system:serviceaccount:build:ci
      system:serviceaccount:pay:web
    harden.dev/egress:
      cidr 0.0.0.0/0 - TCP 443 443
      cidr 192.0.2.0/24 192.0.2.0/28,192.0.2.64/26 SCTP - -
      cidr 192.0.2.0/24 192.0.2.0/28,192.0.2.64/26 UDP 100 200
      cidr 2001:db8::/32 - SCTP - -
      cidr 2001:db8::/32 - UDP 100 200
      cidr ::/0 - TCP 443 443
      namespace * - TCP 443 443
      namespace b - * - -
      namespace c - * - -
    harden.dev/image-digests:
      true
    harden.dev/image-latest:
      false
    harden.dev/ingress:
      namespace ingress-nginx - TCP 8080 8080
      namespace ingress-nginx - TCP http name
      namespace shop - * - -
    harden.dev/namespaces:
      pay
      pay-jobs
    harden.dev/network:
      isolated
    harden.dev/registries:
      docker.io/library/busybox
      localhost:5000
      registry.example.com/pay/
    ");
    insta::assert_snapshot!(lines(&metadata["labels"]), @"
    harden.dev/guard:
      deny
    harden.dev/images:
      warn
    harden.dev/tenant:
      pay
    ");
    assert_eq!(
        namespace(&desired, "pay-jobs")["annotations"],
        metadata["annotations"]
    );
    assert_eq!(namespace(&desired, "shop").get("annotations"), None);
    // Without the guard nothing of the network is told.
    let images = good(&RULES.replace("guard          = \"deny\"", ""));
    let metadata = namespace(&images, "pay");
    insta::assert_snapshot!(metadata["annotations"], @r#"{"harden.dev/image-digests":"true","harden.dev/image-latest":"false","harden.dev/registries":"docker.io/library/busybox\nlocalhost:5000\nregistry.example.com/pay/"}"#);
}

#[test]
fn what_begins_to_refuse_comes_before_people_and_after_what_allows() {
    let desired = good(RULES);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let titles: Vec<String> = plan.steps().map(|(_, step)| step.title()).collect();
    let at = |text: &str| titles.iter().position(|t| t.contains(text)).unwrap();
    let last = |text: &str| titles.iter().rposition(|t| t.contains(text)).unwrap();
    assert!(last("API: Namespace") < at("ValidatingAdmissionPolicy harden"));
    assert!(last("ValidatingAdmissionPolicy harden") < at("ValidatingAdmissionPolicyBinding"));
    assert!(last("NetworkPolicy") < at("ValidatingAdmissionPolicyBinding"));
    assert!(last("ValidatingAdmissionPolicyBinding") < at(" RoleBinding"));
    assert!(
        titles
            .iter()
            .any(|t| t.contains("RoleBinding pay/harden-network"))
    );
}

#[test]
fn owners_write_network_policies_only_where_the_guard_bounds_them() {
    let has = |text: &str| {
        let names = good(text);
        let mut names = names.resources.iter().map(|r| r.kind.behaviour().name());
        names.any(|name| name.contains("harden-network"))
    };
    assert!(has(RULES));
    for (from, to) in [
        ("guard          = \"deny\"", "guard = \"warn\""),
        ("guard          = \"deny\"", ""),
        (
            "owners         = [{ kind = \"Group\", name = \"leads\" }]",
            "",
        ),
    ] {
        assert!(!has(&RULES.replace(from, to)), "{from} {to}");
    }
}

#[test]
fn what_cannot_be_meant_is_told() {
    let tenant = |more: &str| wrong(&format!("[tenants.pay]\nnamespaces = [\"pay\"]\n{more}\n"));
    insta::assert_snapshot!(tenant("images = \"deny\""), @"
    error: the tenant `pay` says what is done about images that break the rules, and has no rules
      --> harden.toml:3:10
    3 | [tenants.pay]
      |          ^^^ 
      help: set `registries`, `image-digests` or `image-latest`, or unset `images`
    ");
    insta::assert_snapshot!(tenant("registries = [\"registry.example.com\"]"), @r#"
    error: `tenants.pay.registries` has no effect
      --> harden.toml:5:14
    5 | registries = ["registry.example.com"]
      |              ^^^^^^^^^^^^^^^^^^^^^^^^ no resource comes of this
      help: set what it needs as well, or remove it
    "#);
    insta::assert_snapshot!(tenant("labels = { \"harden.dev/guard\" = \"deny\" }"), @"
    error: the tenant `pay` has a label `harden.dev/…`, which only harden gives
      --> harden.toml:3:10
    3 | [tenants.pay]
      |          ^^^ 
      help: remove it, and set the option that it stands for
    ");
    for registry in [
        "busybox",
        "library/busybox",
        "*",
        "registry.example.com/*",
        "registry.example.com/pay//",
        "registry.example.com/../pay",
        "registry.example.com/pay:1",
        "registry.example.com/PAY",
        "https://registry.example.com",
        "registry.example.com\\nevil.org",
        " registry.example.com",
        "",
    ] {
        let said = tenant(&format!("images = \"deny\"\nregistries = [\"{registry}\"]"));
        assert!(said.contains("registries"), "{registry}: {said}");
    }
    // A line cannot be made to say more than one thing.
    for cidr in ["10.0.0.0/8\\nnamespace * - * - -", "10.0.0.0/8 - * - -"] {
        let said = tenant(&format!(
            "network = \"isolated\"\nguard = \"deny\"\negress = [{{ to = [{{ ipBlock = {{ cidr = \"{cidr}\" }} }}] }}]"
        ));
        assert!(said.contains("blank or a control character"), "{said}");
    }
}
