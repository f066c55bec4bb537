//! What a tenant may do inside its fence and not to it, with all rights that a namespace has to give;
//! and which images it may run.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::environment::{Cluster, eventually, single};
use crate::isolation::{BUSYBOX, Person, addresses, apply, begin, pod};
use crate::language::bare;

const ACCEPT: &str = "accept = [\"tenants\"]";

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Asks the server to create objects, all in one request of kubectl's, and returns the names of those
/// that it takes. Of the others it must say that a policy denies them.
fn taken(cluster: &Cluster, who: &Person, objects: &[String]) -> BTreeSet<String> {
    let said = who.kubectl(
        cluster,
        "create --dry-run=server -f - -o jsonpath='{.metadata.name}{.items[*].metadata.name}{\"\\n\"}'",
        &objects.join("\n---\n"),
    );
    let names = said.stdout.split_whitespace();
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    let denied = said.stderr.matches("denied request").count();
    assert_eq!(names.len() + denied, objects.len(), "{said:?}");
    names
}

const TENANT: &str = r#"
[tenants.red]
namespaces     = ["fe-red", "fe-red-jobs"]
network        = "isolated"
guard          = "deny"
quota          = { pods = 9 }
viewers        = [{ kind = "ServiceAccount", name = "dashboard", namespace = "fe-monitoring" }]
egress-tenants = ["blue"]
ingress        = [{ from = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "ingress-nginx" } } }], ports = [{ port = 8080 }] }]
egress         = [
    { to = [{ ipBlock = { cidr = "198.51.100.0/24", except = ["198.51.100.16/28"] } }], ports = [{ port = 18080 }] },
    { to = [{ ipBlock = { cidr = "203.0.113.0/24" } }], ports = [{ protocol = "UDP", port = 20000, endPort = 20100 }, { port = "https" }] },
]
[tenants.blue]
namespaces      = ["fe-blue"]
network         = "isolated"
ingress-tenants = ["red"]
"#;

/// What somebody with everything in their namespace tries at the fence.
const ATTEMPTS: &[&str] = &[
    "delete networkpolicy harden-default-deny",
    "delete networkpolicies -l app.kubernetes.io/managed-by=harden",
    "label networkpolicy harden-default-deny app.kubernetes.io/managed-by-",
    "label networkpolicy harden-default-deny app.kubernetes.io/managed-by=me --overwrite",
    r#"patch networkpolicy harden-default-deny -p '{"spec":{"egress":[{}]}}'"#,
    r#"patch resourcequota harden -p '{"spec":{"hard":{"pods":"99"}}}'"#,
    "delete resourcequota harden",
    r#"patch role harden-viewer -p '{"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}'"#,
    "delete rolebinding harden-viewer",
    "label namespace fe-red harden.dev/guard-",
    "label namespace fe-red harden.dev/tenant=blue --overwrite",
    "label namespace fe-red pod-security.kubernetes.io/enforce=privileged --overwrite",
    "annotate namespace fe-red harden.dev/namespaces=fe-blue --overwrite",
    "annotate namespace fe-red harden.dev/network-",
    r#"patch namespace fe-red --subresource=status -p '{"metadata":{"labels":{"harden.dev/guard":null}}}'"#,
    "delete namespace fe-red",
    "create rolebinding more --clusterrole view --serviceaccount fe-blue:owner",
    "create rolebinding more --clusterrole view --user system:serviceaccount:fe-blue:owner",
    "create rolebinding more --clusterrole view --group system:serviceaccounts:fe-blue",
    "create rolebinding more --clusterrole view --group system:serviceaccounts",
    "create rolebinding more --clusterrole view --group system:authenticated",
    "create rolebinding more --clusterrole view --user system:anonymous",
    // Nothing is refused because of what else it has.
    "create rolebinding more --clusterrole view --user anna --serviceaccount fe-blue:owner",
];

/// What they do inside of it.
const FREEDOM: &[&str] = &[
    "create rolebinding more --clusterrole view --serviceaccount fe-red-jobs:owner",
    "create rolebinding more --clusterrole view --serviceaccount fe-monitoring:dashboard",
    "create rolebinding more --clusterrole view --user anna --group team",
    "create quota own --hard pods=3",
    "create configmap own --from-literal a=b",
    "label namespace fe-red team=red",
    "annotate namespace fe-red team=red",
];

/// NetworkPolicies that allow no more than the profile does.
const NARROW: &[&str] = &[
    "podSelector: {}, policyTypes: [Ingress, Egress]",
    "podSelector: {}, ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: fe-red-jobs}}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [fe-red, fe-red-jobs]}]}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: fe-red, a: b}}, podSelector: {matchLabels: {a: b}}}]}]",
    "podSelector: {}, ingress: [{ports: [{port: 8080}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: fe-blue}}}]}]",
    "podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: fe-blue}}}], ports: [{port: 1}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/28}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.16/28]}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.0/25]}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 203.0.113.7/32}}], ports: [{protocol: UDP, port: 20001, endPort: 20050}, {port: https}]}]",
];

/// NetworkPolicies that allow more.
const WIDE: &[&str] = &[
    "podSelector: {}, ingress: [{}]",
    "podSelector: {}, ingress: [{from: []}]",
    "podSelector: {}, ingress: [{ports: [{port: 8080}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: fe-blue}}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {harden.dev/tenant: red}}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [fe-red, fe-blue]}]}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [fe-red]}]}}]}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: Exists}]}}]}]",
    "podSelector: {}, ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}}]}]",
    "podSelector: {}, ingress: [{from: [{podSelector: {}}]}, {}]",
    "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{ports: [{port: 8081}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{ports: [{port: 8080}, {port: 22}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{ports: [{port: 8080, protocol: UDP}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{ports: [{port: 8080, endPort: 9000}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{ports: [{protocol: TCP}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{ports: [{port: web}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]}]",
    "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]",
    "podSelector: {}, egress: [{}]",
    "podSelector: {}, egress: [{ports: [{port: 443}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.16/29]}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.17/32}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.96.0/20, except: [198.51.100.16/28]}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: '::/0'}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: '::ffff:198.51.100.0/120'}}], ports: [{port: 18080}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/28}}], ports: [{port: 18081}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 198.51.100.0/28}}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 203.0.113.7/32}}], ports: [{protocol: UDP, port: 20050, endPort: 20101}]}]",
    "podSelector: {}, egress: [{to: [{ipBlock: {cidr: 203.0.113.7/32}}], ports: [{port: http}]}]",
];

fn policies(specs: &[&str]) -> Vec<String> {
    let policy = |(at, spec): (usize, &&str)| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: own-{at}, namespace: fe-red}}\nspec: {{{spec}}}"
        )
    };
    specs.iter().enumerate().map(policy).collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn the_fence_holds_against_an_admin_of_the_namespace() {
    let cluster = single();
    let _gone = begin(&cluster, &["fe-red", "fe-red-jobs", "fe-blue"]);
    let who = Person::of(&cluster, "fe-red");
    let bind = "-n fe-red create rolebinding everything --clusterrole cluster-admin --serviceaccount fe-red:owner";
    cluster.kubectl(&words(bind)).exits(0);
    let workspace = bare(&cluster, ACCEPT, TENANT);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    let attempt =
        |what: &str| who.kubectl(&cluster, &format!("-n fe-red {what} --dry-run=server"), "");
    let own = |specs: &[&str]| taken(&cluster, &who, &policies(specs)).len();

    // Without the guard all of it works. This is also the documented way out.
    let bindings = "delete validatingadmissionpolicybinding harden-tenant-objects-deny harden-tenant-namespaces-deny harden-tenant-networks-deny harden-tenant-bindings-deny";
    cluster.kubectl(&words(bindings)).exits(0);
    eventually("nothing is refused", Duration::from_secs(30), || {
        own(WIDE) == WIDE.len() && attempt("delete namespace fe-red").status == Some(0)
    });
    for what in ATTEMPTS.iter().chain(FREEDOM) {
        attempt(what).exits(0);
    }

    workspace
        .harden(&["plan"])
        .exits(2)
        .says("harden-tenant-networks-deny");
    workspace.harden(&["apply", "--yes"]).exits(0);
    eventually("what is wide is refused", Duration::from_secs(30), || {
        own(WIDE) == 0 && attempt("delete namespace fe-red").status != Some(0)
    });
    for what in ATTEMPTS {
        let said = attempt(what).exits(1).says("denied request");
        let told = [
            "ask an administrator",
            "an administrator can name",
            "this lets out more",
        ];
        assert!(
            told.iter().any(|text| said.stderr.contains(text)),
            "{said:?}"
        );
    }
    for what in FREEDOM {
        attempt(what).exits(0);
    }
    assert_eq!(own(NARROW), NARROW.len());
    let impostor = policies(&["podSelector: {}"])[0].replace(
        "namespace: fe-red",
        "namespace: fe-red, labels: {app.kubernetes.io/managed-by: harden}",
    );
    assert_eq!(taken(&cluster, &who, &[impostor]).len(), 0);
    // What is theirs they can change and take away again.
    who.kubectl(&cluster, "create -f -", &policies(NARROW)[1])
        .exits(0);
    who.kubectl(&cluster, "-n fe-red label networkpolicy own-1 a=b", "")
        .exits(0);
    who.kubectl(&cluster, r#"-n fe-red patch networkpolicy own-1 -p '{"spec":{"ingress":[{}]}}'"#, "")
        .exits(1)
        .says("this lets in more than the tenant red may; a peer in `from` is a podSelector, or a namespaceSelector with kubernetes.io/metadata.name of its own (fe-red, fe-red-jobs), or within: namespace ingress-nginx - TCP 8080 8080");
    who.kubectl(&cluster, "-n fe-red delete networkpolicy own-1", "")
        .exits(0);

    // Neither an administrator nor Kubernetes itself is held up: the namespace empties.
    cluster
        .kubectl(&words("-n fe-red label resourcequota harden a=b"))
        .exits(0);
    cluster
        .kubectl(&words("delete namespace fe-red --timeout=90s"))
        .exits(0);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    workspace.harden(&["rollback", "--yes"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn who_is_only_warned_can_go_on_and_an_owner_has_network_policies_within_the_guard() {
    let cluster = single();
    let _gone = begin(&cluster, &["fe-red", "fe-red-jobs", "fe-blue"]);
    let who = Person::of(&cluster, "fe-red");
    let owner = "owners = [{ kind = \"ServiceAccount\", name = \"owner\", namespace = \"fe-red\" }]\nnamespaces";
    let profile = TENANT.replacen("namespaces", owner, 1);
    let may = "-n fe-red auth can-i create networkpolicies";
    let warn = bare(&cluster, ACCEPT, &profile.replace("\"deny\"", "\"warn\""));
    warn.harden(&["apply", "--yes"]).exits(0);
    who.kubectl(&cluster, may, "").exits(1);
    // An administrator is not even warned; somebody with rights from elsewhere is.
    let bind =
        "-n fe-red create rolebinding more --clusterrole admin --serviceaccount fe-red:owner";
    cluster.kubectl(&words(bind)).exits(0);
    eventually("it is warned", Duration::from_secs(30), || {
        let said = who.kubectl(&cluster, "create --dry-run=server -f -", &policies(WIDE)[0]);
        said.status == Some(0)
            && said.stderr.contains(
                "Warning: Validation failed for ValidatingAdmissionPolicy 'harden-tenant-networks'",
            )
    });
    cluster
        .kubectl(&words("-n fe-red delete rolebinding more"))
        .exits(0);

    let deny = bare(&cluster, ACCEPT, &profile);
    deny.harden(&["apply", "--yes"]).exits(0);
    who.kubectl(&cluster, may, "").exits(0);
    eventually("it is refused", Duration::from_secs(30), || {
        taken(&cluster, &who, &policies(WIDE)).is_empty()
    });
    assert_eq!(taken(&cluster, &who, &policies(NARROW)).len(), NARROW.len());
    // With the guard goes what it bounds.
    warn.harden(&["apply", "--yes"]).exits(0);
    deny.harden(&["plan"]).exits(2);
    deny.harden(&["rollback", "--yes"]).exits(0);
}

const DIGEST: &str = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Images, and whether they are of the registries, have a tag that stays, and a digest.
const IMAGES: &[(&str, [bool; 3])] = &[
    ("busybox:1.35.0", [true, true, false]),
    ("docker.io/busybox:1.35.0", [true, true, false]),
    (
        "index.docker.io/library/busybox:1.35.0",
        [true, true, false],
    ),
    ("docker.io/library/busybox:1.35.0", [true, true, false]),
    ("library/busybox:1.35.0", [true, true, false]),
    ("busybox", [true, false, false]),
    ("busybox:latest", [true, false, false]),
    ("busybox:latest@", [true, true, true]),
    ("busybox@", [true, true, true]),
    ("evil/busybox:1", [false, true, false]),
    ("docker.io/evil/busybox:1", [false, true, false]),
    ("docker.io/library/busybox-evil:1", [false, true, false]),
    ("busybox.evil.org/x:1", [false, true, false]),
    ("localhost/busybox:1", [false, true, false]),
    ("registry.example.com/red/app:1", [true, true, false]),
    ("registry.example.com/red/app/sub:1", [true, true, false]),
    ("registry.example.com/red/app@", [true, true, true]),
    ("registry.example.com/red/app", [true, false, false]),
    ("registry.example.com/red:1", [false, true, false]),
    ("registry.example.com/redevil/app:1", [false, true, false]),
    ("registry.example.com/red-evil/app:1", [false, true, false]),
    (
        "registry.example.com.evil.org/red/app:1",
        [false, true, false],
    ),
    (
        "evil.org/registry.example.com/red/app:1",
        [false, true, false],
    ),
    ("registry.example.com:443/red/app:1", [false, true, false]),
    ("Registry.example.com/red/app:1", [false, true, false]),
    ("host.example.com:5000/app:1", [true, true, false]),
    ("host.example.com:5000/app", [true, false, false]),
    ("host.example.com:5001/app:1", [false, true, false]),
    ("host.example.com/app:1", [false, true, false]),
    ("[::1]:5000/app:1", [false, true, false]),
];

/// Images that are none, so that nobody can say what would be pulled.
const NONE: &[&str] = &[
    "registry.example.com@evil.org/red/app:1",
    "registry.example.com/red/../evil/app:1",
    "registry.example.com/red//app:1",
    "registry.example.com/red/app:1?x",
    "registry.example.com/red/app@md5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "registry.example.com/red/app@sha256:aa",
    "https://registry.example.com/red/app:1",
    "registry.example.com/red/\\napp:1",
    "registry.example.com/red/app:1 evil.org/app:1",
    "registry.example.com/red/APP:1",
];

/// Pods of these images, by their place in the list; some have it in another place of the pod.
fn pods(images: &[&str]) -> Vec<String> {
    let pod = |(at, image): (usize, &&str)| {
        let image = image
            .strip_suffix('@')
            .map_or(image.to_string(), |name| format!("{name}{DIGEST}"));
        let more = match at % 3 {
            0 => format!(r#""containers":[{{"name":"a","image":"{image}"}}]"#),
            1 => format!(
                r#""initContainers":[{{"name":"b","image":"{image}"}}],"containers":[{{"name":"a","image":"busybox:1{DIGEST}"}}]"#
            ),
            _ => format!(
                r#""volumes":[{{"name":"v","image":{{"reference":"{image}"}}}}],"containers":[{{"name":"a","image":"busybox:1{DIGEST}"}}]"#
            ),
        };
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p-{at}","namespace":"fe-red"}},"spec":{{{more}}}}}"#
        )
    };
    images.iter().enumerate().map(pod).collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn an_image_is_judged_by_what_would_be_pulled() {
    let cluster = single();
    let _gone = begin(&cluster, &["fe-red"]);
    let who = Person::of(&cluster, "fe-red");
    let bind = "-n fe-red create rolebinding everything --clusterrole cluster-admin --serviceaccount fe-red:owner";
    cluster.kubectl(&words(bind)).exits(0);
    let all: Vec<&str> = IMAGES.iter().map(|(image, _)| *image).collect();
    // Without it everything is taken; some pods are there before, one with a name that is none.
    assert_eq!(taken(&cluster, &who, &pods(&all)).len(), all.len());
    assert_eq!(taken(&cluster, &who, &pods(NONE)[..7]).len(), 7);
    let old = pod("fe-red")
        .replace("\"web\"", "\"old\"")
        .replace(BUSYBOX, "evil.org/app:1");
    apply(&cluster, &format!("{}\n---\n{old}", pod("fe-red")));
    addresses(&cluster, &["fe-red"]);

    let profile = |rule: &str, mode: &str| {
        bare(
            &cluster,
            ACCEPT,
            &format!("[tenants.red]\nnamespaces = [\"fe-red\"]\nimages = \"{mode}\"\n{rule}\n"),
        )
    };
    let registries = r#"registries = ["docker.io/library/busybox", "registry.example.com/red/", "host.example.com:5000"]"#;
    let rules = [registries, "image-latest = false", "image-digests = true"];
    for (at, rule) in rules.iter().enumerate() {
        profile(rule, "deny").harden(&["apply", "--yes"]).exits(0);
        let right: BTreeSet<String> = (0..IMAGES.len())
            .filter(|image| IMAGES[*image].1[at])
            .map(|image| format!("p-{image}"))
            .collect();
        let mut is = BTreeSet::new();
        let limit = Duration::from_secs(30);
        eventually(&format!("{rule}: {right:?}"), limit, || {
            is = taken(&cluster, &who, &pods(&all));
            is == right
        });
        // What would be pulled by these nobody can say.
        let said = who.kubectl(
            &cluster,
            "create --dry-run=server -f -",
            &pods(NONE).join("\n---\n"),
        );
        assert_eq!(said.stdout, "", "{said:?}");
        assert_eq!(
            said.stderr.matches("is no name that can be judged").count(),
            NONE.len(),
            "{said:?}"
        );
    }

    profile(registries, "deny")
        .harden(&["apply", "--yes"])
        .exits(0);
    let run = "-n fe-red run new --dry-run=server --image evil.org/app:1";
    eventually("the message", Duration::from_secs(30), || {
        who.kubectl(&cluster, run, "").stderr.contains(
            "the image `evil.org/app:1` is from no registry that the tenant red trusts; allowed: docker.io/library/busybox, host.example.com:5000, registry.example.com/red/",
        )
    });
    // A debugging container, another image for a running pod: each is one more image.
    let debug = "-n fe-red debug web --profile=restricted --image evil.org/app:1";
    who.kubectl(&cluster, debug, "")
        .exits(1)
        .says("from no registry");
    let set = "-n fe-red set image pod/web web=evil.org/app:1";
    who.kubectl(&cluster, set, "")
        .exits(1)
        .says("from no registry");
    who.kubectl(
        &cluster,
        "-n fe-red set image pod/web web=busybox:1.35.0",
        "",
    )
    .exits(0);
    // What was there stays, and can be changed and deleted.
    who.kubectl(&cluster, "-n fe-red label pod old a=b", "")
        .exits(0);
    who.kubectl(&cluster, "-n fe-red delete pod old", "")
        .exits(0);
    // The author of a template is told, and not refused.
    let told = "Warning: Validation failed for ValidatingAdmissionPolicy 'harden-tenant-images' with binding 'harden-tenant-images-templates': the image `evil.org/app:1`";
    for what in [
        "create deployment x --image evil.org/app:1",
        "create job x --image evil.org/app:1",
        "create cronjob x --schedule '* * * * *' --image evil.org/app:1",
    ] {
        who.kubectl(&cluster, &format!("-n fe-red {what} --dry-run=server"), "")
            .exits(0)
            .says(told);
    }
    // A rollout of one that is refused says why where the author looks.
    who.kubectl(
        &cluster,
        "-n fe-red create deployment x --image evil.org/app:1",
        "",
    )
    .exits(0);
    eventually("the event", Duration::from_secs(60), || {
        let said = who.kubectl(&cluster, "-n fe-red get events", "");
        said.stdout
            .contains("from no registry that the tenant red trusts")
    });

    profile(registries, "warn")
        .harden(&["apply", "--yes"])
        .exits(0);
    eventually("it is warned", Duration::from_secs(30), || {
        let said = who.kubectl(&cluster, run, "");
        said.status == Some(0) && said.stderr.contains("Warning: Validation failed for ValidatingAdmissionPolicy 'harden-tenant-images' with binding 'harden-tenant-images-warn'")
    });
    let all = "delete validatingadmissionpolicybinding,validatingadmissionpolicy -l app.kubernetes.io/managed-by=harden";
    cluster.kubectl(&words(all)).exits(0);
    eventually("the way out", Duration::from_secs(30), || {
        let said = who.kubectl(&cluster, run, "");
        said.status == Some(0) && said.stderr.is_empty()
    });
}

/// What somebody with an administrator's rights adds beside what harden wants, so that the fence has a hole. The
/// server owns some of these fields as a whole, so that who adds to one has all of it.
const HOLES: &[&str] = &[
    r#"patch validatingadmissionpolicy harden-tenant-networks --type=json -p '[{"op":"add","path":"/spec/matchConditions/-","value":{"name":"never","expression":"false"}}]'"#,
    r#"patch validatingadmissionpolicy harden-tenant-objects --type=merge -p '{"spec":{"matchConditions":[{"name":"never","expression":"1 > 2"}]}}'"#,
    r#"patch validatingadmissionpolicybinding harden-tenant-bindings-deny --type=merge -p '{"spec":{"paramRef":{"name":"no","parameterNotFoundAction":"Allow"}}}'"#,
    r#"patch validatingadmissionpolicy harden-tenant-bindings --type=merge -p '{"spec":{"matchConstraints":{"namespaceSelector":{"matchLabels":{"no":"such"}}}}}'"#,
    r#"patch networkpolicy harden-allow-dns -n fe-red --type=json -p '[{"op":"add","path":"/spec/egress/-","value":{}}]'"#,
    "label namespace fe-red harden.dev/guard=warn --overwrite",
    "label namespace fe-red pod-security.kubernetes.io/enforce-version=v1.0",
    "annotate namespace fe-red harden.dev/registries=evil.org",
];

#[test]
#[ignore = "needs testenv/up single"]
fn what_is_added_beside_what_is_wanted_is_taken_away_again() {
    let cluster = single();
    let _gone = begin(&cluster, &["fe-red", "fe-red-jobs", "fe-blue"]);
    let who = Person::of(&cluster, "fe-red");
    let bind = "-n fe-red create rolebinding everything --clusterrole cluster-admin --serviceaccount fe-red:owner";
    cluster.kubectl(&words(bind)).exits(0);
    let profile = TENANT.replacen("namespaces", "pod-security = \"baseline\"\nnamespaces", 1);
    let workspace = bare(&cluster, ACCEPT, &profile);
    workspace.harden(&["apply", "--yes"]).exits(0);
    let wide = |what: &str, is: bool| {
        eventually(what, Duration::from_secs(30), || {
            taken(&cluster, &who, &policies(&WIDE[..1])).is_empty() == is
        });
    };
    wide("it is refused", true);
    workspace.harden(&["plan"]).exits(0).says("No changes");

    for what in HOLES {
        let patch: Vec<&str> = what.split(" -p ").collect();
        let mut args = words(patch[0]);
        if let [_, json] = patch[..] {
            args.extend(["-p", json.trim_matches('\'')]);
        }
        cluster.kubectl(&args).exits(0);
    }
    wide("a condition that never holds opens the fence", false);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("spec.matchConditions[never].expression: \"false\" → nothing")
        .says("spec.matchConditions[never].expression: \"1 > 2\" → nothing")
        .says("spec.matchConstraints.namespaceSelector.matchLabels.no: \"such\" → nothing")
        .says(".spec.egress: taken from \"kubectl-patch\"")
        .says("metadata.labels[\"harden.dev/guard\"]: \"warn\" → \"deny\"")
        .says("spec.paramRef.name: \"no\" → nothing")
        .says("metadata.labels[\"pod-security.kubernetes.io/enforce-version\"]: \"v1.0\" → nothing")
        .says("metadata.annotations[\"harden.dev/registries\"]: \"evil.org\" → nothing");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    wide("it is refused again", true);
    // A rollback gives back what was there.
    workspace.harden(&["rollback", "--yes"]).exits(0);
    wide("as it was before", false);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
}
