//! What one table gives a tenant: who may do what, and whom its pods talk to.
use std::collections::BTreeSet;

use crate::plan_support::cluster;
use crate::plan_support::tenants::{good, wrong};
use harden::module::Modules;
use harden::plan::{StageName, build};
use harden::resource::{Desired, Resource};
use serde_json::Value;

fn names(desired: &Desired) -> Vec<String> {
    let name = |r: &Resource| format!("{} {:?}", r.kind.behaviour().name(), r.risk);
    desired.resources.iter().map(name).collect()
}

fn manifest(desired: &Desired, name: &str) -> Value {
    let mut resources = desired.resources.iter();
    let found = resources.find(|r| r.kind.behaviour().name() == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {:#?}", names(desired)));
    found.kind.behaviour().object().unwrap().clone()
}

fn findings(text: &str) -> Vec<String> {
    let found = good(text).findings;
    found.into_iter().map(|f| f.message).collect()
}

const PEOPLE: &str = r#"
[tenants.pay]
namespaces   = ["pay"]
pod-security = "restricted"
owners       = [{ kind = "Group", name = "pay-leads" }]
editors      = [{ kind = "User", name = "https://login.example.com#ben" }, { kind = "Group", name = "pay devs" }]
viewers      = [{ kind = "ServiceAccount", name = "dash.board", namespace = "monitoring" }]
secrets      = "owners"
automount    = false
"#;

#[test]
fn people_become_roles_and_bindings_in_each_namespace() {
    let desired = good(PEOPLE);
    insta::assert_snapshot!(names(&desired).join("\n"), @"
    Namespace pay Guarded
    Role pay/harden-editor Guarded
    Role pay/harden-owner Guarded
    Role pay/harden-secrets Guarded
    Role pay/harden-viewer Guarded
    RoleBinding pay/harden-editor Guarded
    RoleBinding pay/harden-owner Guarded
    RoleBinding pay/harden-secrets-owners Guarded
    RoleBinding pay/harden-viewer Guarded
    ServiceAccount pay/default Guarded
    ");
    let bound = manifest(&desired, "RoleBinding pay/harden-editor");
    insta::assert_snapshot!(format!("{:#}", bound), @r#"
    {
      "apiVersion": "rbac.authorization.k8s.io/v1",
      "kind": "RoleBinding",
      "metadata": {
        "labels": {
          "app.kubernetes.io/managed-by": "harden"
        },
        "name": "harden-editor",
        "namespace": "pay"
      },
      "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "harden-editor"
      },
      "subjects": [
        {
          "kind": "Group",
          "name": "pay devs"
        },
        {
          "kind": "User",
          "name": "https://login.example.com#ben"
        }
      ]
    }
    "#);
    let account = manifest(&desired, "ServiceAccount pay/default");
    insta::assert_snapshot!(account.to_string(), @r#"{"apiVersion":"v1","automountServiceAccountToken":false,"kind":"ServiceAccount","metadata":{"name":"default","namespace":"pay"}}"#);
    assert_eq!(desired.findings, []);
    // Editors get at Secrets only where that is said.
    let more = good(&PEOPLE.replace("\"owners\"\nauto", "\"editors\"\nauto"));
    let bound = manifest(&more, "RoleBinding pay/harden-secrets-editors");
    assert_eq!(bound["roleRef"]["name"], "harden-secrets");
    assert_eq!(bound["subjects"].as_array().unwrap().len(), 2);
    manifest(&more, "RoleBinding pay/harden-secrets-owners");
}

#[test]
fn without_people_there_is_no_role() {
    let desired = good("[tenants.pay]\nnamespaces = [\"pay\", \"jobs\"]\n");
    assert_eq!(
        names(&desired),
        ["Namespace jobs Safe", "Namespace pay Safe"]
    );
    // Nobody is somebody to say: whoever was an owner is none any more.
    let desired =
        good("[tenants.pay]\nnamespaces = [\"pay\"]\nowners = []\npod-security = \"baseline\"\n");
    let bound = manifest(&desired, "RoleBinding pay/harden-owner");
    assert_eq!(bound["subjects"], serde_json::json!([]));
}

/// The rules of a role, one a line.
fn rules(role: &Value) -> String {
    let list = |value: &Value| -> String {
        let words = value.as_array().unwrap().iter();
        words
            .map(|w| w.as_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let line = |rule: &Value| {
        let fields: BTreeSet<&String> = rule.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 3, "{rule}");
        let groups = list(&rule["apiGroups"]);
        format!(
            "[{groups}] {} | {}",
            list(&rule["resources"]),
            list(&rule["verbs"])
        )
    };
    let all = role["rules"].as_array().unwrap().iter();
    all.map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_roles_rule_by_rule() {
    let desired = good(PEOPLE);
    let role = |name: &str| rules(&manifest(&desired, &format!("Role pay/harden-{name}")));
    insta::assert_snapshot!(role("viewer"), @"
    [] configmaps endpoints events limitranges persistentvolumeclaims pods resourcequotas serviceaccounts services | get list watch
    [] namespaces | get
    [apps] controllerrevisions daemonsets deployments replicasets statefulsets | get list watch
    [autoscaling] horizontalpodautoscalers | get list watch
    [batch] cronjobs jobs | get list watch
    [policy] poddisruptionbudgets | get list watch
    [discovery.k8s.io] endpointslices | get list watch
    [events.k8s.io] events | get list watch
    [networking.k8s.io] ingresses networkpolicies | get list watch
    [metrics.k8s.io] pods | get list
    ");
    insta::assert_snapshot!(role("editor"), @"
    [] configmaps persistentvolumeclaims pods services | get list watch create update patch delete deletecollection
    [] endpoints events limitranges resourcequotas serviceaccounts | get list watch
    [] namespaces pods/log | get
    [] pods/attach pods/exec pods/portforward | get create
    [] pods/eviction | create
    [apps] daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale | get list watch create update patch delete deletecollection
    [apps] controllerrevisions | get list watch
    [autoscaling] horizontalpodautoscalers | get list watch create update patch delete deletecollection
    [batch] cronjobs jobs | get list watch create update patch delete deletecollection
    [policy] poddisruptionbudgets | get list watch create update patch delete deletecollection
    [networking.k8s.io] ingresses | get list watch create update patch delete deletecollection
    [discovery.k8s.io] endpointslices | get list watch
    [events.k8s.io] events | get list watch
    [networking.k8s.io] networkpolicies | get list watch
    [metrics.k8s.io] pods | get list
    ");
    insta::assert_snapshot!(role("owner"), @"
    [] configmaps persistentvolumeclaims pods serviceaccounts services | get list watch create update patch delete deletecollection
    [rbac.authorization.k8s.io] rolebindings roles | get list watch
    [] endpoints events limitranges resourcequotas | get list watch
    [] namespaces pods/log | get
    [] pods/attach pods/exec pods/portforward | get create
    [] pods/eviction | create
    [apps] daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale | get list watch create update patch delete deletecollection
    [apps] controllerrevisions | get list watch
    [autoscaling] horizontalpodautoscalers | get list watch create update patch delete deletecollection
    [batch] cronjobs jobs | get list watch create update patch delete deletecollection
    [policy] poddisruptionbudgets | get list watch create update patch delete deletecollection
    [networking.k8s.io] ingresses | get list watch create update patch delete deletecollection
    [discovery.k8s.io] endpointslices | get list watch
    [events.k8s.io] events | get list watch
    [networking.k8s.io] networkpolicies | get list watch
    [metrics.k8s.io] pods | get list
    ");
    insta::assert_snapshot!(role("secrets"), @"[] secrets | get list watch create update patch delete");
}

/// Whether a role allows it, as RBAC reads rules. Source: kubernetes v1.35
/// `pkg/apis/rbac/v1/evaluation_helpers.go`: `*` is any verb, group or resource, and `*/exec` that
/// subresource of any.
fn allows(role: &Value, group: &str, resource: &str, verb: &str) -> bool {
    let has = |list: &Value, word: &str| {
        let words = list.as_array().into_iter().flatten();
        words
            .map(|w| w.as_str().unwrap())
            .any(|w| w == word || w == "*")
    };
    role["rules"].as_array().unwrap().iter().any(|rule| {
        let of_any = resource
            .split_once('/')
            .is_some_and(|(_, sub)| has(&rule["resources"], &format!("*/{sub}")));
        has(&rule["verbs"], verb)
            && has(&rule["apiGroups"], group)
            && (of_any || has(&rule["resources"], resource))
    })
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// What no role here may allow, by group, resources and verbs.
fn denied() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let any = [
        READ,
        WRITE,
        &["bind", "escalate", "impersonate", "approve", "sign", "use"],
    ]
    .concat();
    let mut denied = Vec::new();
    for (group, resources, verbs) in [
        (
            "",
            &[
                "pods/proxy",
                "services/proxy",
                "nodes/proxy",
                "nodes",
                "persistentvolumes",
            ][..],
            &any[..],
        ),
        (
            "",
            &[
                "serviceaccounts/token",
                "pods/ephemeralcontainers",
                "pods/binding",
                "bindings",
            ],
            &any,
        ),
        (
            "",
            &["users", "groups", "serviceaccounts", "pods", "secrets"],
            &["impersonate"],
        ),
        (
            "authentication.k8s.io",
            &["userextras/scopes", "uids", "tokenreviews"],
            &any,
        ),
        (RBAC, &["roles", "rolebindings"], WRITE),
        (
            RBAC,
            &["roles", "rolebindings", "clusterroles"],
            &["bind", "escalate"],
        ),
        (RBAC, &["clusterroles", "clusterrolebindings"], &any),
        ("", &["namespaces"], &[WRITE, &["list", "watch"]].concat()),
        (
            "",
            &["namespaces/finalize", "namespaces/status", "pods/status"],
            &any,
        ),
        (
            "",
            &[
                "resourcequotas",
                "limitranges",
                "endpoints",
                "events",
                "resourcequotas/status",
            ],
            WRITE,
        ),
        ("networking.k8s.io", &["networkpolicies"], WRITE),
        ("discovery.k8s.io", &["endpointslices"], WRITE),
        (
            "admissionregistration.k8s.io",
            &[
                "validatingadmissionpolicies",
                "mutatingwebhookconfigurations",
            ],
            &any,
        ),
        (
            "certificates.k8s.io",
            &[
                "certificatesigningrequests",
                "certificatesigningrequests/approval",
                "signers",
            ],
            &any,
        ),
        ("policy", &["podsecuritypolicies"], &["use"]),
        ("apiextensions.k8s.io", &["customresourcedefinitions"], &any),
        ("made-up.example.com", &["widgets"], &any),
    ] {
        for resource in resources {
            denied.push((group, *resource, verbs.to_vec()));
        }
    }
    denied
}

fn allowed_of(role: &Value, denied: &[(&str, &str, Vec<&str>)]) -> Vec<String> {
    let mut allowed = Vec::new();
    for (group, resource, verbs) in denied {
        for verb in verbs
            .iter()
            .filter(|verb| allows(role, group, resource, verb))
        {
            allowed.push(format!("{verb} {resource}.{group}"));
        }
    }
    allowed
}

#[test]
fn no_role_leads_to_more_rights() {
    let desired = good(&PEOPLE.replace("\"owners\"\nauto", "\"editors\"\nauto"));
    let role = |name: &str| manifest(&desired, &format!("Role pay/harden-{name}"));
    let denied = denied();
    for name in ["viewer", "editor", "owner", "secrets"] {
        assert_eq!(allowed_of(&role(name), &denied), [""; 0], "{name}");
    }
    let secrets = [("", "secrets", [READ, WRITE].concat())];
    let into_pods = ["pods/exec", "pods/attach", "pods/portforward", "pods/log"];
    let into_pods = into_pods.map(|sub| ("", sub, [READ, WRITE].concat()));
    for name in ["viewer", "editor", "owner"] {
        assert_eq!(allowed_of(&role(name), &secrets), [""; 0], "{name}");
    }
    assert_eq!(allowed_of(&role("viewer"), &into_pods), [""; 0]);
    // A viewer changes nothing at all.
    for rule in role("viewer")["rules"].as_array().unwrap() {
        let verbs = rule["verbs"].as_array().unwrap();
        assert!(
            verbs.iter().all(|v| READ.contains(&v.as_str().unwrap())),
            "{rule}"
        );
    }
    // The way of asking sees what it should see.
    let wide =
        |rule: &str| -> Value { serde_json::from_str(&format!("{{\"rules\":[{rule}]}}")).unwrap() };
    for (rule, resource, verb) in [
        (
            r#"{"apiGroups":["*"],"resources":["*"],"verbs":["get"]}"#,
            "secrets",
            "get",
        ),
        (
            r#"{"apiGroups":[""],"resources":["*/exec"],"verbs":["create"]}"#,
            "pods/exec",
            "create",
        ),
        (
            r#"{"apiGroups":[""],"resources":["serviceaccounts"],"verbs":["*"]}"#,
            "serviceaccounts",
            "impersonate",
        ),
    ] {
        assert!(allows(&wide(rule), "", resource, verb), "{rule}");
    }
}

#[test]
fn each_role_holds_the_one_below() {
    let desired = good(PEOPLE);
    let role = |name: &str| manifest(&desired, &format!("Role pay/harden-{name}"));
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().unwrap().iter();
        words.map(|w| w.as_str().unwrap().to_owned()).collect()
    };
    let pairs = [
        ("viewer", "editor"),
        ("editor", "owner"),
        ("owner", "owner"),
    ];
    for (lower, upper) in pairs {
        let upper = role(upper);
        for rule in role(lower)["rules"].as_array().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        // Whoever reads a role must find no right on what there is not.
                        let whole = resource.split('/').next().unwrap();
                        assert!(
                            EXISTS.contains(&(group.as_str(), whole)),
                            "{resource}.{group}"
                        );
                        assert!(
                            allows(&upper, &group, &resource, &verb),
                            "{verb} {resource}.{group}"
                        );
                    }
                }
            }
        }
    }
}

/// The resources that the roles are about.
const EXISTS: &[(&str, &str)] = &[
    ("", "configmaps"),
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "namespaces"),
    ("", "persistentvolumeclaims"),
    ("", "pods"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "controllerrevisions"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("autoscaling", "horizontalpodautoscalers"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("discovery.k8s.io", "endpointslices"),
    ("events.k8s.io", "events"),
    ("metrics.k8s.io", "pods"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];

/// The same is asked of a role by the control, in CEL.
#[test]
fn the_check_sees_a_role_that_was_widened() {
    let modules = Modules::builtin().unwrap();
    let checks = modules.iter().flat_map(|(_, module)| &module.checks);
    let checks: Vec<_> = checks.filter(|c| c.control == "tenant-roles").collect();
    assert_eq!(checks.len(), 1);
    let passes = |role: &Value| {
        checks[0]
            .passes(&serde_json::json!({"object": role}))
            .unwrap()
    };
    let role = manifest(&good(PEOPLE), "Role pay/harden-editor");
    assert!(passes(&role));
    for (at, value) in [
        ("/rules/0/verbs/0", "*"),
        ("/rules/0/verbs/0", "impersonate"),
        ("/rules/0/resources/0", "*"),
        ("/rules/0/resources/0", "serviceaccounts/token"),
    ] {
        let mut wide = role.clone();
        *wide.pointer_mut(at).unwrap() = value.into();
        assert!(!passes(&wide), "{at} {value}");
        // Whose role it is, it is for others to judge.
        wide["metadata"]["labels"] = serde_json::json!({});
        assert!(passes(&wide));
    }
}

#[test]
fn a_subject_that_is_none_is_told_with_its_place() {
    let text = r#"[tenants.pay]
namespaces = ["pay"]
owners = [
    { kind = "user", name = "anna" },
    { kind = "User" },
    { name = "anna" },
    { kind = "Group", name = "system:authenticated" },
    { kind = "Group", name = "team", namespace = "pay" },
    { kind = "ServiceAccount", name = "ci" },
    { kind = "ServiceAccount", name = "system:serviceaccount:ci:ci", namespace = "ci" },
    { kind = "ServiceAccount", name = "ci", namespace = "CI" },
    { kind = "User", name = " anna" },
    { kind = "User", name = "an\u0007na" },
    { kind = "User", name = "*" },
    { kind = "User", name = "anna", apiGroup = "rbac.authorization.k8s.io" },
    { kind = "User", name = 7 },
    "anna",
]
"#;
    insta::assert_snapshot!(wrong(text), @r#"
    error: `tenants.pay.owners.0.kind` cannot be `user`
      --> harden.toml:6:14
    6 |     { kind = "user", name = "anna" },
      |              ^^^^^^ did you mean `User`?
      help: write `User`, `Group` or `ServiceAccount`

    error: `tenants.pay.owners.1.name` is missing
      --> harden.toml:7:5
    7 |     { kind = "User" },
      |     ^^^^^^^^^^^^^^^^^ needed here
      help: add `name = "…"`

    error: `tenants.pay.owners.2.kind` is missing
      --> harden.toml:8:5
    8 |     { name = "anna" },
      |     ^^^^^^^^^^^^^^^^^ needed here
      help: add `kind = "…"`

    error: `tenants.pay.owners.3.name` cannot be `system:authenticated`
      --> harden.toml:9:30
    9 |     { kind = "Group", name = "system:authenticated" },
      |                              ^^^^^^^^^^^^^^^^^^^^^^ Kubernetes gives this name a meaning of its own
      help: name a group of people, or write `kind = "ServiceAccount"` with `name` and `namespace`

    error: `tenants.pay.owners.4` is a user or a group, and those have no namespace
       --> harden.toml:10:50
    10 |     { kind = "Group", name = "team", namespace = "pay" },
       |                                                  ^^^^^ here
      help: remove it, or write `kind = "ServiceAccount"`

    error: `tenants.pay.owners.5.namespace` is missing
       --> harden.toml:11:5
    11 |     { kind = "ServiceAccount", name = "ci" },
       |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ needed here
      help: add `namespace = "…"`

    error: `tenants.pay.owners.6.name` cannot be `system:serviceaccount:ci:ci`
       --> harden.toml:12:39
    12 |     { kind = "ServiceAccount", name = "system:serviceaccount:ci:ci", namespace = "ci" },
       |                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ no service account has this name
      help: write the name alone, without its namespace and without `system:serviceaccount:`

    error: `tenants.pay.owners.7.namespace` cannot be `CI`
       --> harden.toml:13:57
    13 |     { kind = "ServiceAccount", name = "ci", namespace = "CI" },
       |                                                         ^^^^ no namespace has this name
      help: write the name of the namespace that the service account is in

    error: `tenants.pay.owners.8.name` cannot be ` anna`
       --> harden.toml:14:29
    14 |     { kind = "User", name = " anna" },
       |                             ^^^^^^^ empty, with a control character, or with a blank at an end
      help: write the name as the cluster knows it

    error: `tenants.pay.owners.9.name` cannot be `an\u{7}na`
       --> harden.toml:15:29
    15 |     { kind = "User", name = "an\u0007na" },
       |                             ^^^^^^^^^^^^ empty, with a control character, or with a blank at an end
      help: write the name as the cluster knows it

    error: `tenants.pay.owners.10.name` cannot be `*`
       --> harden.toml:16:29
    16 |     { kind = "User", name = "*" },
       |                             ^^^ RBAC knows no wildcard here
      help: name each user or group

    error: there is no key `tenants.pay.owners.11.apiGroup`
       --> harden.toml:17:37
    17 |     { kind = "User", name = "anna", apiGroup = "rbac.authorization.k8s.io" },
       |                                     ^^^^^^^^ unknown
      help: use `kind`, `name` or `namespace`

    error: `tenants.pay.owners.12.name` must be a string, not an integer
       --> harden.toml:18:29
    18 |     { kind = "User", name = 7 },
       |                             ^ this is an integer
      help: write a string here

    error: `tenants.pay.owners.13` must be a subject such as { kind = "Group", name = "team" }, not a string
       --> harden.toml:19:5
    19 |     "anna",
       |     ^^^^^^ this is a string
      help: tenants.owners: Who may do what editors may and, besides, change service accounts and see who has which role.
    "#);
    let long = "a".repeat(254);
    let text = format!("[tenants.pay]\nowners = [{{ kind = \"User\", name = \"{long}\" }}]");
    assert!(wrong(&text).contains("longer than 253 bytes"));
}

#[test]
fn what_contradicts_itself_is_an_error() {
    let tenant = "[tenants.pay]\nnamespaces = [\"pay\"]\n";
    let shop = "[tenants.shop]\nnamespaces = [\"shop\"]\n";
    let cases = [
        format!("{tenant}secrets = \"owners\"\neditors = []\n"),
        format!("{tenant}secrets = \"editors\"\nowners = []\n"),
        format!("{tenant}ingress = []\n"),
        format!("{tenant}ingress-tenants = [\"shop\"]\n{shop}"),
        format!("{tenant}network = \"isolated\"\ningress-tenants = [\"shp\", \"pay\"]\n{shop}"),
        format!("{tenant}network = \"isolated\"\negress-tenants = [\"shp\"]\n{shop}"),
    ];
    insta::assert_snapshot!(cases.map(|text| wrong(&text)).join("\n----\n"), @r#"
    error: the tenant `pay` gives Secrets to its owners, and has none
      --> harden.toml:3:10
    3 | [tenants.pay]
      |          ^^^ 
      help: name `owners`, or unset `secrets`
    ----
    error: the tenant `pay` gives Secrets to its editors, and has none
      --> harden.toml:3:10
    3 | [tenants.pay]
      |          ^^^ 
      help: name `editors`, or write `secrets = "owners"`
    ----
    error: the tenant `pay` opens its network to some, and is not isolated: this alone would refuse all others, its own pods too
      --> harden.toml:3:10
    3 | [tenants.pay]
      |          ^^^ 
      help: set `network = "isolated"`, which lets the tenant's pods and DNS through
    ----
    error: the tenant `pay` opens its network to some, and is not isolated: this alone would refuse all others, its own pods too
      --> harden.toml:3:10
    3 | [tenants.pay]
      |          ^^^ 
      help: set `network = "isolated"`, which lets the tenant's pods and DNS through
    ----
    error: the tenant `pay` lets in `pay`, which is no other tenant
      --> harden.toml:6:19
    6 | ingress-tenants = ["shp", "pay"]
      |                   ^^^^^^^^^^^^^^ 
      help: name another tenant, or give its namespace in `ingress`

    error: the tenant `pay` lets in `shp`, which is no other tenant
      --> harden.toml:6:19
    6 | ingress-tenants = ["shp", "pay"]
      |                   ^^^^^^^^^^^^^^ 
      help: name another tenant, or give its namespace in `ingress`
    ----
    error: the tenant `pay` may reach `shp`, which is no other tenant
      --> harden.toml:6:18
    6 | egress-tenants = ["shp"]
      |                  ^^^^^^^ 
      help: name another tenant, or give its namespace in `egress`

    error: `tenants.pay.egress-tenants` has no effect
      --> harden.toml:6:18
    6 | egress-tenants = ["shp"]
      |                  ^^^^^^^ no resource comes of this
      help: set what it needs as well, or remove it
    "#);
}

#[test]
fn what_leaves_a_way_round_is_a_finding() {
    let pods = "pod-security = \"baseline\"\n";
    let account = |list: &str, name: &str, namespace: &str| {
        format!(
            "{list} = [{{ kind = \"ServiceAccount\", name = \"{name}\", namespace = \"{namespace}\" }}]\n"
        )
    };
    let tenant = |more: &str| format!("[tenants.pay]\nnamespaces = [\"pay\"]\n{more}");
    let ben = "[{ kind = \"User\", name = \"ben\" }]\n";
    let default = "admission.pod-security.defaults.enforce = \"restricted\"\n";
    let cases = [
        tenant(&format!("editors = {ben}")),
        tenant(&format!("owners = {ben}pod-security = \"privileged\"\n")),
        format!(
            "{default}{}",
            tenant(&format!("owners = {ben}pod-security = \"privileged\"\n"))
        ),
        tenant(&format!("{pods}{}", account("viewers", "default", "pay"))),
        tenant(&format!(
            "{pods}editors = {ben}{}",
            account("owners", "ci", "pay")
        )),
        tenant(&format!("{pods}{}", account("owners", "ci", "ci"))),
        tenant(&format!("{pods}{}", account("editors", "ci", "ci"))),
    ];
    insta::assert_snapshot!(cases.map(|text| findings(&text).join("\n")).join("\n"), @"
    whoever may run pods for the tenant `pay` can be root on a node: no Pod Security level hinders it
    whoever may run pods for the tenant `pay` can be root on a node: no Pod Security level hinders it
    whoever may run pods for the tenant `pay` can be root on a node: no Pod Security level hinders it
    the tenant `pay` gives rights to a service account `default`: every pod there that names no other account has them
    an owner of the tenant `pay` is a service account of one of its namespaces: each editor can run a pod as it, and so is an owner
    an owner of the tenant `pay` is a service account outside of it: whoever may make pods in that namespace acts as an owner
    an editor of the tenant `pay` is a service account outside of it: whoever may make pods in that namespace acts as an editor
    ");
    for text in [
        tenant(&format!("{pods}editors = {ben}viewers = {ben}")),
        format!("{default}{}", tenant(&format!("editors = {ben}"))),
        tenant(&format!("viewers = {ben}")),
        tenant(&format!("{pods}{}", account("owners", "ci", "pay"))),
        tenant(&format!(
            "{pods}{}",
            account("viewers", "board", "monitoring")
        )),
    ] {
        assert_eq!(findings(&text), [""; 0], "{text}");
    }
}

const NEIGHBOURS: &str = r#"
[tenants.pay]
namespaces      = ["pay"]
network         = "isolated"
ingress-tenants = ["shop"]
ingress         = [{ from = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "ingress-nginx" } } }] }]
[tenants.shop]
namespaces      = ["shop", "shop-jobs"]
network         = "isolated"
egress-tenants  = ["pay"]
"#;

#[test]
fn two_tenants_are_let_to_each_other_by_the_names_of_their_namespaces() {
    let desired = good(NEIGHBOURS);
    let policies: Vec<String> = names(&desired)
        .into_iter()
        .filter(|name| name.contains("ingress") || name.contains("egress"))
        .collect();
    insta::assert_snapshot!(policies.join("\n"), @"
    NetworkPolicy pay/harden-ingress Guarded
    NetworkPolicy pay/harden-ingress-from-shop Guarded
    NetworkPolicy shop-jobs/harden-egress-to-pay Guarded
    NetworkPolicy shop/harden-egress-to-pay Guarded
    ");
    let spec = |name: &str| manifest(&desired, name)["spec"].to_string();
    insta::assert_snapshot!(spec("NetworkPolicy pay/harden-ingress-from-shop"), @r#"{"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["shop","shop-jobs"]}]}}]}],"podSelector":{},"policyTypes":["Ingress"]}"#);
    insta::assert_snapshot!(spec("NetworkPolicy shop/harden-egress-to-pay"), @r#"{"egress":[{"to":[{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["pay"]}]}}]}],"podSelector":{},"policyTypes":["Egress"]}"#);
    insta::assert_snapshot!(spec("NetworkPolicy pay/harden-ingress"), @r#"{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"ingress-nginx"}}}]}],"podSelector":{},"policyTypes":["Ingress"]}"#);
    assert_eq!(desired.findings, []);
}

#[test]
fn one_end_alone_is_a_finding() {
    let half = NEIGHBOURS.replace("egress-tenants  = [\"pay\"]\n", "");
    let other = NEIGHBOURS.replace("ingress-tenants = [\"shop\"]\n", "");
    let other = other.replace("\ningress         =", "\nlabels.x = \"y\" #");
    let open = NEIGHBOURS.replace(
        "matchLabels = { \"kubernetes.io/metadata.name\" = \"ingress-nginx\" }",
        "",
    );
    let all = [half, other, open].map(|text| findings(&text).join("\n"));
    insta::assert_snapshot!(all.join("\n"), @"
    the tenant `pay` lets in `shop`, which is isolated and may not reach it
    the tenant `shop` may reach `pay`, which is isolated and does not let it in
    the tenant `pay` has an ingress rule that lets in every namespace, or everybody
    ");
}

#[test]
fn the_fence_stands_before_people_are_let_in() {
    let text = format!(
        "{}network = \"isolated\"\negress = [{{ to = [{{ podSelector = {{}} }}] }}]\nquota = {{ pods = 9 }}\n",
        PEOPLE.trim_start()
    );
    let desired = good(&text);
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    let steps: Vec<String> = plan
        .steps()
        .filter(|(stage, _)| {
            matches!(
                stage.name,
                StageName::ObjectsPermit | StageName::ObjectsEnforce
            )
        })
        .map(|(stage, step)| format!("{:?} {}", stage.name, step.title()))
        .collect();
    insta::assert_snapshot!(steps.join("\n"), @"
    ObjectsPermit API: Namespace pay
    ObjectsEnforce API: NetworkPolicy pay/harden-allow-dns
    ObjectsEnforce API: NetworkPolicy pay/harden-allow-same-tenant
    ObjectsEnforce API: NetworkPolicy pay/harden-egress
    ObjectsEnforce API: NetworkPolicy pay/harden-default-deny
    ObjectsEnforce API: Role pay/harden-editor
    ObjectsEnforce API: Role pay/harden-owner
    ObjectsEnforce API: Role pay/harden-secrets
    ObjectsEnforce API: Role pay/harden-viewer
    ObjectsEnforce API: ResourceQuota pay/harden
    ObjectsEnforce API: ServiceAccount pay/default
    ObjectsEnforce API: RoleBinding pay/harden-editor
    ObjectsEnforce API: RoleBinding pay/harden-owner
    ObjectsEnforce API: RoleBinding pay/harden-secrets-owners
    ObjectsEnforce API: RoleBinding pay/harden-viewer
    ");
}
