//! Who may do what in a tenant's namespaces, asked of the real authorizer with requests under other
//! names; and a pod without a token. Each denial is first seen to be none for an administrator.

use std::time::Duration;

use crate::environment::{Cluster, Said, Via, Workspace, eventually, single};

const NAMESPACE: &str = "fence";
const OTHER: &str = "beside-the-fence";

const TENANT: &str = r#"
[tenants.fence]
namespaces   = ["fence"]
pod-security = "restricted"
owners       = [{ kind = "Group", name = "fence-leads" }]
editors      = [{ kind = "User", name = "ben" }, { kind = "ServiceAccount", name = "deployer", namespace = "beside-the-fence" }]
viewers      = [{ kind = "User", name = "vera" }]
"#;

/// Somebody, as kubectl impersonates them. An administrator is nobody else.
struct Who {
    name: &'static str,
    groups: &'static [&'static str],
}

const OWNER: Who = Who {
    name: "olga",
    groups: &["fence-leads"],
};
const EDITOR: Who = Who {
    name: "ben",
    groups: &[],
};
const ACCOUNT: Who = Who {
    name: "system:serviceaccount:beside-the-fence:deployer",
    groups: &[
        "system:serviceaccounts",
        "system:serviceaccounts:beside-the-fence",
    ],
};
const VIEWER: Who = Who {
    name: "vera",
    groups: &[],
};
const STRANGER: Who = Who {
    name: "sam",
    groups: &["other-leads"],
};

/// Runs kubectl under a name.
fn kubectl_as(cluster: &Cluster, who: &Who, args: &[&str]) -> Said {
    let name = format!("--as={}", who.name);
    let groups = who.groups.iter().map(|group| format!("--as-group={group}"));
    let groups: Vec<String> = groups
        .chain(["--as-group=system:authenticated".into()])
        .collect();
    let mut all = vec![name.as_str()];
    all.extend(groups.iter().map(String::as_str));
    all.extend(args);
    cluster.kubectl(&all)
}

/// Whether somebody may do it in a namespace, by the authorizer's own word.
#[track_caller]
fn may(cluster: &Cluster, who: &Who, namespace: &str, verb: &str, what: &str) -> bool {
    let (resource, sub) = what.split_once('/').unwrap_or((what, ""));
    let sub = format!("--subresource={sub}");
    let said = kubectl_as(
        cluster,
        who,
        &["-n", namespace, "auth", "can-i", verb, resource, &sub],
    );
    match (said.status, said.stdout.trim()) {
        (Some(0), "yes") => true,
        (Some(1), text) if text.starts_with("no") => false,
        _ => panic!("{} {verb} {what}: {said:?}", who.name),
    }
}

/// What each may: verb and resource, and whether owners, editors and viewers may.
const TABLE: &[(&str, &str, [bool; 3])] = &[
    ("list", "pods", [true, true, true]),
    ("watch", "deployments.apps", [true, true, true]),
    ("get", "configmaps", [true, true, true]),
    ("get", "resourcequotas", [true, true, true]),
    (
        "list",
        "networkpolicies.networking.k8s.io",
        [true, true, true],
    ),
    ("list", "serviceaccounts", [true, true, true]),
    ("create", "pods", [true, true, false]),
    ("patch", "deployments.apps", [true, true, false]),
    ("patch", "deployments.apps/scale", [true, true, false]),
    ("delete", "jobs.batch", [true, true, false]),
    ("create", "services", [true, true, false]),
    ("create", "ingresses.networking.k8s.io", [true, true, false]),
    ("get", "pods/log", [true, true, false]),
    ("create", "pods/exec", [true, true, false]),
    ("get", "pods/exec", [true, true, false]),
    ("create", "pods/attach", [true, true, false]),
    ("get", "pods/portforward", [true, true, false]),
    ("create", "pods/eviction", [true, true, false]),
    ("create", "serviceaccounts", [true, false, false]),
    (
        "list",
        "rolebindings.rbac.authorization.k8s.io",
        [true, false, false],
    ),
    ("get", "secrets", [false, false, false]),
    ("list", "secrets", [false, false, false]),
    ("watch", "secrets", [false, false, false]),
    ("patch", "secrets", [false, false, false]),
    ("delete", "secrets", [false, false, false]),
    (
        "create",
        "roles.rbac.authorization.k8s.io",
        [false, false, false],
    ),
    (
        "bind",
        "roles.rbac.authorization.k8s.io",
        [false, false, false],
    ),
    (
        "escalate",
        "roles.rbac.authorization.k8s.io",
        [false, false, false],
    ),
    (
        "patch",
        "rolebindings.rbac.authorization.k8s.io",
        [false, false, false],
    ),
    ("impersonate", "serviceaccounts", [false, false, false]),
    ("create", "serviceaccounts/token", [false, false, false]),
    ("get", "pods/proxy", [false, false, false]),
    ("get", "services/proxy", [false, false, false]),
    ("patch", "pods/ephemeralcontainers", [false, false, false]),
    (
        "create",
        "networkpolicies.networking.k8s.io",
        [false, false, false],
    ),
    (
        "delete",
        "networkpolicies.networking.k8s.io",
        [false, false, false],
    ),
    ("patch", "resourcequotas", [false, false, false]),
    ("delete", "limitranges", [false, false, false]),
    ("patch", "namespaces", [false, false, false]),
    ("delete", "namespaces", [false, false, false]),
    ("create", "events", [false, false, false]),
    (
        "update",
        "endpointslices.discovery.k8s.io",
        [false, false, false],
    ),
];

/// A workspace with this tenant and nothing else that the environment's own has.
fn workspace(cluster: &Cluster, tenant: &str) -> Workspace {
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let path = workspace.path("harden.toml");
    let text = std::fs::read_to_string(&path).expect("harden.toml");
    let from = text.find("[cluster]").expect("a cluster");
    let to = text.find("[tenants.").expect("tenants");
    let text = format!("accept = [\"tenants\"]\n{}\n{tenant}\n", &text[from..to]);
    std::fs::write(path, text).expect("written");
    workspace
}

/// Two namespaces that are gone afterwards; the first is the tenant's.
fn begin(cluster: &Cluster) -> crate::environment::Afterwards {
    let gone = format!(
        "kubectl --kubeconfig /etc/kubernetes/admin.conf delete namespace {NAMESPACE} {OTHER} --ignore-not-found"
    );
    cluster.on(&cluster.node("control-plane"), &gone);
    for namespace in [NAMESPACE, OTHER] {
        cluster.create_namespace(namespace);
    }
    cluster.afterwards(&cluster.node("control-plane"), &gone)
}

#[test]
#[ignore = "needs testenv/up single"]
fn owners_editors_and_viewers_may_what_the_page_says_and_no_more() {
    let cluster = single();
    let _gone = begin(&cluster);
    let admin = |verb: &str, what: &str| {
        let (resource, sub) = what.split_once('/').unwrap_or((what, ""));
        let sub = format!("--subresource={sub}");
        let ask = ["-n", NAMESPACE, "auth", "can-i", verb, resource, &sub];
        cluster.kubectl(&ask).exits(0);
    };
    // Before: an owner of later may nothing, and an administrator everything.
    for (verb, what, _) in TABLE {
        admin(verb, what);
        let before = may(&cluster, &OWNER, NAMESPACE, verb, what);
        assert!(!before, "{verb} {what}");
    }
    let workspace = workspace(&cluster, TENANT);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("Role fence/harden-owner")
        .says("an editor of the tenant `fence` is a service account outside of it");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");

    let mut wrong = Vec::new();
    for (verb, what, [owner, editor, viewer]) in TABLE {
        for (who, wanted) in [
            (&OWNER, owner),
            (&EDITOR, editor),
            (&ACCOUNT, editor),
            (&VIEWER, viewer),
        ] {
            if may(&cluster, who, NAMESPACE, verb, what) != *wanted {
                wrong.push(format!("{} {verb} {what}: not {wanted}", who.name));
            }
        }
        for (who, namespace) in [(&STRANGER, NAMESPACE), (&OWNER, OTHER)] {
            if may(&cluster, who, namespace, verb, what) {
                wrong.push(format!("{} {verb} {what} in {namespace}", who.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Somebody who is taken out of the list is out, and a role that was widened by hand is told.
    let widen = r#"{"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}"#;
    let patch = [
        "-n",
        NAMESPACE,
        "patch",
        "role",
        "harden-viewer",
        "--type=merge",
        "-p",
        widen,
    ];
    cluster.kubectl(&patch).exits(0);
    assert!(may(&cluster, &VIEWER, NAMESPACE, "get", "secrets"));
    let without_ben = TENANT.replace("{ kind = \"User\", name = \"ben\" }, ", "");
    let workspace = self::workspace(&cluster, &without_ben);
    let plan = workspace.harden(&["plan"]);
    let told = format!("{}{}", plan.stdout, plan.stderr);
    assert!(
        told.contains("harden-viewer") && told.contains("harden-editor"),
        "{told}"
    );
}

#[test]
#[ignore = "needs testenv/up single"]
fn real_requests_are_refused_where_an_administrator_s_are_not() {
    let cluster = single();
    let _gone = begin(&cluster);
    let secret = [
        "-n",
        NAMESPACE,
        "create",
        "secret",
        "generic",
        "key",
        "--from-literal=key=word",
    ];
    cluster.kubectl(&secret).exits(0);
    workspace(&cluster, TENANT)
        .harden(&["apply", "--yes"])
        .exits(0);

    let read = [
        "-n",
        NAMESPACE,
        "get",
        "secret",
        "key",
        "-o",
        "jsonpath={.data}",
    ];
    // An empty patch answers with all of it.
    let patch = [
        "-n",
        NAMESPACE,
        "patch",
        "secret",
        "key",
        "--dry-run=server",
        "-p",
        "{}",
        "-o",
        "yaml",
    ];
    let token = ["-n", NAMESPACE, "create", "token", "default"];
    let grant = [
        "-n",
        NAMESPACE,
        "create",
        "rolebinding",
        "more",
        "--clusterrole=cluster-admin",
        "--user=ben",
        "--dry-run=server",
    ];
    let label = [
        "label",
        "namespace",
        NAMESPACE,
        "pod-security.kubernetes.io/enforce=privileged",
        "--overwrite",
        "--dry-run=server",
    ];
    for request in [&read[..], &patch, &token, &grant, &label] {
        cluster.kubectl(request).exits(0);
        for who in [&OWNER, &EDITOR, &ACCOUNT, &VIEWER] {
            kubectl_as(&cluster, who, request)
                .exits(1)
                .says("forbidden");
        }
    }
    // What they are for works.
    let config = [
        "-n",
        NAMESPACE,
        "create",
        "configmap",
        "settings",
        "--from-literal=a=b",
    ];
    kubectl_as(&cluster, &EDITOR, &config).exits(0);
    kubectl_as(
        &cluster,
        &VIEWER,
        &["-n", NAMESPACE, "get", "configmap", "settings"],
    )
    .exits(0);
    let delete = ["-n", NAMESPACE, "delete", "configmap", "settings"];
    kubectl_as(&cluster, &VIEWER, &delete)
        .exits(1)
        .says("forbidden");
    kubectl_as(&cluster, &EDITOR, &delete).exits(0);
    kubectl_as(
        &cluster,
        &OWNER,
        &["-n", NAMESPACE, "create", "serviceaccount", "web"],
    )
    .exits(0);
    kubectl_as(
        &cluster,
        &EDITOR,
        &["-n", NAMESPACE, "create", "serviceaccount", "job"],
    )
    .exits(1)
    .says("forbidden");

    // Secrets only where that is said, and for owners only.
    let asked = format!("{TENANT}secrets = \"owners\"\n");
    workspace(&cluster, &asked)
        .harden(&["apply", "--yes"])
        .exits(0);
    kubectl_as(&cluster, &OWNER, &read)
        .exits(0)
        .says("d29yZA==");
    kubectl_as(&cluster, &EDITOR, &read)
        .exits(1)
        .says("forbidden");
    workspace(&cluster, &asked)
        .harden(&["rollback", "--yes"])
        .exits(0);
    kubectl_as(&cluster, &OWNER, &read)
        .exits(1)
        .says("forbidden");
}

/// Runs a pod that the level `restricted` allows.
fn run_pod(cluster: &Cluster, name: &str, more: &str) {
    let overrides = format!(
        r#"{{"spec":{{{more}"securityContext":{{"runAsNonRoot":true,"runAsUser":1000,"seccompProfile":{{"type":"RuntimeDefault"}}}},
        "containers":[{{"name":"{name}","image":"docker.io/library/busybox:1.35.0","imagePullPolicy":"IfNotPresent","command":["sleep","3000"],
        "securityContext":{{"allowPrivilegeEscalation":false,"capabilities":{{"drop":["ALL"]}}}}}}]}}}}"#
    );
    let overrides = format!("--overrides={overrides}");
    let image = "--image=docker.io/library/busybox:1.35.0";
    let run = [
        "-n",
        NAMESPACE,
        "run",
        name,
        image,
        "--restart=Never",
        &overrides,
    ];
    cluster.kubectl(&run).exits(0);
    let phase = [
        "-n",
        NAMESPACE,
        "get",
        "pod",
        name,
        "-o",
        "jsonpath={.status.phase}",
    ];
    eventually("the pod runs", Duration::from_secs(90), || {
        cluster.kubectl(&phase).stdout == "Running"
    });
}

fn has_token(cluster: &Cluster, name: &str) -> bool {
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let look = ["-n", NAMESPACE, "exec", name, "--", "test", "-s", token];
    cluster.kubectl(&look).status == Some(0)
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_new_pod_has_no_token_and_one_that_asks_has() {
    let cluster = single();
    let _gone = begin(&cluster);
    // Without it, and the account has something of somebody else's that must stay.
    run_pod(&cluster, "before", "");
    assert!(has_token(&cluster, "before"));
    let pull = r#"{"imagePullSecrets":[{"name":"registry"}]}"#;
    let patch = [
        "-n",
        NAMESPACE,
        "patch",
        "serviceaccount",
        "default",
        "-p",
        pull,
    ];
    cluster.kubectl(&patch).exits(0);
    let account = [
        "-n",
        NAMESPACE,
        "get",
        "serviceaccount",
        "default",
        "-o",
        "json",
    ];
    let before = cluster.kubectl(&account).exits(0).json();

    let text = "[tenants.fence]\nnamespaces = [\"fence\"]\nautomount = false\n";
    let workspace = workspace(&cluster, text);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("automountServiceAccountToken: nothing → false");
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    run_pod(&cluster, "after", "");
    assert!(!has_token(&cluster, "after"));
    run_pod(&cluster, "asks", r#""automountServiceAccountToken":true,"#);
    assert!(has_token(&cluster, "asks"));
    assert!(
        has_token(&cluster, "before"),
        "a running pod keeps its token"
    );

    workspace.harden(&["rollback", "--yes"]).exits(0);
    let after = cluster.kubectl(&account).exits(0).json();
    assert_eq!(after.get("automountServiceAccountToken"), None);
    assert_eq!(after["imagePullSecrets"], before["imagePullSecrets"]);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
}

/// In a namespace that harden makes, the account comes by itself between two steps, or harden is first.
#[test]
#[ignore = "needs testenv/up single"]
fn a_new_namespace_has_it_from_the_first_and_a_rollback_deletes_no_account() {
    let cluster = single();
    let _gone = begin(&cluster);
    cluster
        .kubectl(&["delete", "namespace", NAMESPACE])
        .exits(0);
    let text = "[tenants.fence]\nnamespaces = [\"fence\"]\nautomount = false\n";
    let workspace = workspace(&cluster, text);
    workspace.harden(&["apply", "--yes"]).exits(0);
    workspace.harden(&["plan"]).exits(0).says("No changes");
    run_pod(&cluster, "first", "");
    assert!(!has_token(&cluster, "first"));
    let account = [
        "-n",
        NAMESPACE,
        "get",
        "serviceaccount",
        "default",
        "-o",
        "json",
    ];
    let before = cluster.kubectl(&account).exits(0).json();
    // The pod keeps the namespace there.
    workspace
        .harden(&["rollback", "--yes"])
        .says("it is kept: it holds");
    let after = cluster.kubectl(&account).exits(0).json();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after.get("automountServiceAccountToken"), None);
}

const NEIGHBOURS: &str = r#"
[tenants.fence]
namespaces      = ["fence"]
network         = "isolated"
ingress-tenants = ["beside"]
[tenants.beside]
namespaces      = ["beside-the-fence"]
network         = "isolated"
egress-tenants  = ["fence"]
"#;

#[test]
#[ignore = "needs testenv/up single"]
fn a_named_tenant_is_let_in_and_an_unnamed_one_is_not() {
    let cluster = single();
    let _gone = begin(&cluster);
    let image = "--image=docker.io/library/busybox:1.35.0";
    let serve = "mkdir /www && echo hello > /www/index.html && exec httpd -f -p 8080 -h /www";
    let _stranger = cluster.afterwards(
        &cluster.node("control-plane"),
        "kubectl --kubeconfig /etc/kubernetes/admin.conf delete pod stranger --ignore-not-found --now",
    );
    for (namespace, name, command) in [
        (NAMESPACE, "server", serve),
        (OTHER, "client", "exec sleep 3000"),
        ("default", "stranger", "exec sleep 3000"),
    ] {
        let run = format!("-n {namespace} run {name} {image} --image-pull-policy=IfNotPresent");
        let run: Vec<&str> = run.split(' ').collect();
        let more = ["--restart=Never", "--", "sh", "-c", command];
        cluster.kubectl(&[&run[..], &more].concat()).exits(0);
        let phase = format!("-n {namespace} get pod {name} -o jsonpath={{.status.phase}}");
        let phase: Vec<&str> = phase.split(' ').collect();
        eventually("the pod runs", Duration::from_secs(90), || {
            cluster.kubectl(&phase).stdout == "Running"
        });
    }
    let address = [
        "-n",
        NAMESPACE,
        "get",
        "pod",
        "server",
        "-o",
        "jsonpath={.status.podIP}",
    ];
    let address = cluster.kubectl(&address).exits(0).stdout;
    let url = format!("http://{address}:8080/");
    // Debian's busybox wget has no timeout that works. What is said inside the pod is the proof: an exec
    // that fails is none.
    let ask = format!("timeout 3 wget -q -O - {url} || echo refused");
    let asked = |namespace: &str, pod: &str| {
        let get = ["-n", namespace, "exec", pod, "--", "sh", "-c", &ask];
        cluster.kubectl(&get).stdout.trim().to_owned()
    };
    let limit = Duration::from_secs(60);
    let becomes = |who: (&str, &str), what: &str| {
        eventually(&format!("{who:?}: {what}"), limit, || {
            asked(who.0, who.1) == what
        });
    };
    let (client, stranger) = ((OTHER, "client"), ("default", "stranger"));
    becomes(client, "hello");
    becomes(stranger, "hello");
    workspace(&cluster, NEIGHBOURS)
        .harden(&["apply", "--yes"])
        .exits(0);
    becomes(stranger, "refused");
    becomes(client, "hello");
    // One end alone is not enough, and is mended.
    for (namespace, policy) in [
        (NAMESPACE, "harden-ingress-from-beside"),
        (OTHER, "harden-egress-to-fence"),
    ] {
        let delete = ["-n", namespace, "delete", "networkpolicy", policy];
        cluster.kubectl(&delete).exits(0);
        becomes(client, "refused");
        let workspace = workspace(&cluster, NEIGHBOURS);
        workspace.harden(&["plan"]).exits(2).says(policy);
        workspace.harden(&["apply", "--yes"]).exits(0);
        becomes(client, "hello");
    }
}
