//! API objects: what harden concludes by itself against the server's own word, what others do to them, and
//! what each refusal of the server becomes.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::environment::{Cluster, Said, Via, Workspace, eventually, single};
use crate::language::bare;

/// A tenant with everything that harden makes for one.
const EVERYTHING: &str = r#"
[tenants.every]
namespaces   = ["every-thing"]
labels       = { cost-center = "7" }
pod-security = "restricted"
network      = "isolated"
egress       = [{ to = [{ ipBlock = { cidr = "203.0.113.0/24" } }], ports = [{ protocol = "TCP", port = 443 }] }]
ingress      = [{ from = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "ingress-nginx" } } }] }]
quota        = { pods = 20, "requests.cpu" = "4000m", "requests.memory" = "2048Mi" }
limits       = [{ type = "Container", default = { memory = "1024Mi" }, defaultRequest = { cpu = "0.5" } }]
owners       = [{ kind = "Group", name = "leads" }]
editors      = [{ kind = "User", name = "ben" }]
viewers      = [{ kind = "ServiceAccount", name = "looker", namespace = "ci" }]
secrets      = "owners"
automount    = false
"#;

const ALONE: (&str, &str) = ("imports = [\"builtin:baseline\"]\n", "");

fn workspace(cluster: &Cluster, more: &str) -> Workspace {
    cluster.workspace(Via::Docker, &[ALONE], more)
}

/// Asserts that there is nothing to do, and that nothing but lists and reads told so.
#[track_caller]
fn is_proved(workspace: &Workspace) {
    workspace
        .harden(&["plan", "-v"])
        .exits(0)
        .says("the server is asked what would become of 0");
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_is_concluded_of_every_kind_is_what_the_server_says_in_a_dry_run() {
    let cluster = single();
    let workspace = workspace(&cluster, EVERYTHING);
    workspace.harden(&["apply", "--yes"]).exits(0);
    is_proved(&workspace);
    let plan = workspace.harden(&["plan", "--format", "json"]).exits(0);
    let (mut kinds, mut asked) = (std::collections::BTreeSet::new(), 0);
    for basis in plan.json()["basis"].as_array().expect("a list") {
        let wanted = &basis["subject"]["object"]["wanted"];
        if !wanted.is_object() {
            continue;
        }
        let text = wanted.to_string();
        let cp = cluster.node("control-plane");
        cluster.write(&cp, "/root/wanted.json", &text);
        let args = [
            "-f",
            "/root/wanted.json",
            "-o",
            "json",
            "--show-managed-fields",
        ];
        let live = cluster
            .kubectl(&[&["get"], &args[..]].concat())
            .exits(0)
            .json();
        let apply = [
            "apply",
            "--server-side",
            "--field-manager=harden",
            "--dry-run=server",
        ];
        let would = cluster
            .kubectl(&[&apply[..], &args[..]].concat())
            .exits(0)
            .json();
        assert_eq!(live, would, "{text}");
        kinds.insert(wanted["kind"].as_str().expect("a kind").to_owned());
        asked += 1;
    }
    assert!(asked >= 15, "{asked}");
    for kind in [
        "LimitRange",
        "Namespace",
        "NetworkPolicy",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
    workspace.harden(&["rollback", "--yes"]).exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn whatever_happens_to_an_object_the_next_plan_says_so_and_apply_puts_it_right() {
    let cluster = single();
    let workspace = workspace(&cluster, EVERYTHING);
    workspace.harden(&["apply", "--yes"]).exits(0);
    let kubectl = |args: &[&str]| {
        cluster
            .kubectl(&[&["-n", "every-thing"], args].concat())
            .exits(0)
    };
    let mended = |said: &str| {
        workspace.harden(&["plan"]).exits(2).says(said);
        workspace.harden(&["apply", "--yes"]).exits(0);
        is_proved(&workspace);
    };
    kubectl(&["delete", "networkpolicy", "harden-default-deny"]);
    mended("new NetworkPolicy every-thing/harden-default-deny");
    // A field that an earlier version of the profile wanted.
    let cp = cluster.node("control-plane");
    cluster.on(
        &cp,
        "kubectl --kubeconfig /etc/kubernetes/admin.conf -n every-thing get limitrange harden -o json \
           --show-managed-fields=false | sed '/\"uid\"\\|\"resourceVersion\"\\|\"creationTimestamp\"\\|\"generation\"/d; \
           s/\"labels\": {/\"labels\": {\"old\": \"label\",/' > /root/old.json && \
         kubectl --kubeconfig /etc/kubernetes/admin.conf apply --server-side --field-manager=harden -f /root/old.json",
    );
    mended("metadata.labels.old: \"label\" → nothing");
    // What somebody adds beside is theirs.
    kubectl(&["label", "resourcequota", "harden", "theirs=x"]);
    is_proved(&workspace);
    // What somebody changes is a conflict, until it is asked to be taken.
    let patch = r#"{"spec":{"hard":{"pods":"7"}}}"#;
    let edit = [
        "patch",
        "resourcequota",
        "harden",
        "--field-manager=somebody",
        "-p",
        patch,
    ];
    for saved in [false, true] {
        kubectl(&edit);
        workspace
            .harden(&["plan", "--take-from", "another"])
            .exits(1)
            .says("somebody");
        workspace
            .harden(&["plan", "--take-from", "somebody", "-o", "plan.json"])
            .exits(2)
            .says("taken from \"somebody\"");
        // The plan of before the conflict takes nothing, and a saved plan what it says.
        workspace.harden(&["apply", "--yes"]).exits(1);
        match saved {
            true => workspace.harden(&["apply", "--yes", "plan.json"]),
            false => workspace.harden(&["apply", "--yes", "--take-from", "somebody"]),
        }
        .exits(0);
        is_proved(&workspace);
        workspace.harden(&["plan"]).exits(0);
    }
    kubectl(&["delete", "namespace", "every-thing"]);
    mended("new Namespace every-thing");
    cluster
        .kubectl(&["delete", "namespace", "every-thing"])
        .exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn what_was_let_go_or_rolled_back_is_no_conflict_with_nobody_or_with_harden_itself() {
    let cluster = single();
    cluster.create_namespace("every-thing");
    let workspace = bare(&cluster, "accept = [\"object\"]", "");
    let bare = fs::read_to_string(workspace.path("harden.toml")).expect("harden.toml");
    let wants = |text: &str| {
        let path = workspace.path("harden.toml");
        fs::write(path, format!("{bare}\n{text}\n")).expect("written");
    };
    let account = |a: &str, b: &str| {
        let labels = format!("labels = {{ a = \"{a}\", b = \"{b}\" }}");
        wants(&format!(
            "[[object]]\napiVersion = \"v1\"\nkind = \"ServiceAccount\"\n\
             metadata = {{ name = \"one\", namespace = \"every-thing\", {labels} }}\n"
        ));
    };
    let applied = || workspace.harden(&["apply", "--yes"]).exits(0);
    // harden is the only manager of it, and then it has none; so the server invents one.
    account("1", "1");
    applied();
    wants("");
    applied().says("let go of ServiceAccount every-thing/one");
    account("2", "1");
    let said = workspace.harden(&["plan"]).exits(2);
    said.says("metadata.labels.a: \"1\" → \"2\"");
    applied();
    // The other one is both's now.
    account("2", "2");
    applied();
    workspace.harden(&["plan"]).exits(0).says("No changes");

    let managers = || {
        let said = cluster.kubectl(&[
            "-n",
            "every-thing",
            "get",
            "configmap",
            "theirs",
            "--show-managed-fields",
            "-o",
            "jsonpath={.data.level} {.metadata.managedFields[*].manager}",
        ]);
        said.exits(0).stdout
    };
    cluster
        .kubectl(&[
            "-n",
            "every-thing",
            "create",
            "configmap",
            "theirs",
            "--from-literal=level=theirs",
            "--field-manager=somebody",
        ])
        .exits(0);
    let before = managers();
    let text = "[[object]]\napiVersion = \"v1\"\nkind = \"ConfigMap\"\nmetadata = { name = \"theirs\", namespace = \"every-thing\" }\ndata = { level = \"ours\" }\n";
    wants(text);
    let take = ["apply", "--yes", "--take-from", "somebody"];
    workspace.harden(&take).exits(0);
    workspace.harden(&["rollback", "--yes"]).exits(0);
    assert_eq!(
        (managers(), before.as_str()),
        (before.clone(), "theirs somebody")
    );
    workspace
        .harden(&["plan"])
        .exits(1)
        .says(".data.level belongs to \"somebody\"");
    workspace.harden(&take).exits(0);
    cluster
        .kubectl(&["delete", "namespace", "every-thing"])
        .exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn objects_that_kubectl_made_with_the_same_values_are_adopted_without_a_conflict() {
    let cluster = single();
    cluster.create_namespace("every-thing");
    cluster
        .kubectl(&[
            "-n",
            "every-thing",
            "create",
            "quota",
            "harden",
            "--hard=pods=20",
        ])
        .exits(0);
    let workspace = workspace(&cluster, EVERYTHING);
    workspace
        .harden(&["plan"])
        .exits(2)
        .says("ResourceQuota every-thing/harden");
    workspace.harden(&["apply", "--yes"]).exits(0);
    is_proved(&workspace);
    cluster
        .kubectl(&["delete", "namespace", "every-thing"])
        .exits(0);
}

#[test]
#[ignore = "needs testenv/up single"]
fn killed_among_many_objects_the_next_apply_converges() {
    let cluster = single();
    let tenants: String = (0..40)
        .map(|n| format!("[tenants.many-{n}]\nnamespaces = [\"many-{n}\"]\nnetwork = \"isolated\"\nquota = {{ pods = 5 }}\n"))
        .collect();
    let workspace = workspace(&cluster, &tenants);
    for _ in 0..2 {
        workspace
            .killed_at(&["apply", "--yes"], "] API: ")
            .expect("to be killed");
        workspace
            .harden(&["plan", "--short"])
            .exits(2)
            .says("has not ended");
    }
    workspace
        .harden(&["apply", "--yes"])
        .exits(0)
        .says("finished generation");
    is_proved(&workspace);
    workspace.harden(&["rollback", "--yes"]).exits(0);
    let left = cluster
        .kubectl(&["get", "namespaces", "-o", "name"])
        .exits(0);
    assert!(!left.stdout.contains("namespace/many-"), "{}", left.stdout);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_namespace_that_is_being_deleted_is_named_with_what_holds_it() {
    let cluster = single();
    cluster.create_namespace("every-thing");
    let kubectl = |args: &[&str]| {
        cluster
            .kubectl(&[&["-n", "every-thing"], args].concat())
            .exits(0)
    };
    kubectl(&["create", "configmap", "held"]);
    let finalizers = r#"{"metadata":{"finalizers":["example.org/hold"]}}"#;
    kubectl(&[
        "patch",
        "configmap",
        "held",
        "--type=merge",
        "-p",
        finalizers,
    ]);
    cluster
        .kubectl(&["delete", "namespace", "every-thing", "--wait=false"])
        .exits(0);
    let is_held = || {
        let said = cluster.kubectl(&["get", "namespace", "every-thing", "-o", "json"]);
        said.stdout.contains("example.org/hold")
    };
    eventually(
        "the namespace says what holds it",
        Duration::from_secs(60),
        is_held,
    );
    let workspace = workspace(&cluster, EVERYTHING);
    let said = workspace.harden(&["plan"]);
    kubectl(&[
        "patch",
        "configmap",
        "held",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    said.exits(1)
        .says("it is being deleted; what holds it")
        .says("example.org/hold")
        .says("its namespace every-thing is being deleted");
    let is_gone = || cluster.kubectl(&["get", "namespace", "every-thing"]).status != Some(0);
    eventually("the namespace is gone", Duration::from_secs(60), is_gone);
}

/// A kubeconfig for a service account, in the place of the workspace's.
fn log_in(cluster: &Cluster, workspace: &Workspace, account: &str) {
    let token = cluster
        .kubectl(&["-n", "default", "create", "token", account])
        .exits(0)
        .stdout;
    let text = fs::read_to_string(workspace.path("kubeconfig")).expect("kubeconfig");
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("client-key-data"))
        .map(|line| match line.split_once("client-certificate-data") {
            Some((indent, _)) => format!("{indent}token: {}", token.trim()),
            None => line.to_owned(),
        })
        .collect();
    fs::write(workspace.path("kubeconfig"), lines.join("\n")).expect("written");
}

#[test]
#[ignore = "needs testenv/up single"]
fn who_may_only_read_gets_a_plan_that_says_it_was_compared_locally() {
    let cluster = single();
    let admin = workspace(&cluster, EVERYTHING);
    admin.harden(&["apply", "--yes"]).exits(0);
    let patch = r#"{"spec":{"hard":{"pods":"7"}}}"#;
    let kubectl = |args: &[&str]| cluster.kubectl(args).exits(0);
    kubectl(&[
        "-n",
        "every-thing",
        "patch",
        "resourcequota",
        "harden",
        "--field-manager=harden",
        "-p",
        patch,
    ]);
    kubectl(&[
        "-n",
        "default",
        "create",
        "serviceaccount",
        "harden-auditor",
    ]);
    kubectl(&[
        "create",
        "clusterrole",
        "harden-auditor",
        "--verb=get,list",
        "--resource=*.*",
    ]);
    kubectl(&[
        "create",
        "clusterrolebinding",
        "harden-auditor",
        "--clusterrole=harden-auditor",
        "--serviceaccount=default:harden-auditor",
    ]);
    let auditor = workspace(&cluster, EVERYTHING);
    log_in(&cluster, &auditor, "harden-auditor");
    let said = auditor.harden(&["plan"]);
    kubectl(&["delete", "clusterrolebinding,clusterrole", "harden-auditor"]);
    kubectl(&[
        "-n",
        "default",
        "delete",
        "serviceaccount",
        "harden-auditor",
    ]);
    said.exits(2)
        .says("spec.hard.pods: \"7\" → \"20\"")
        .says("only the wanted values were compared")
        .says("cannot patch resource \"resourcequotas\"");
    kubectl(&["delete", "namespace", "every-thing"]);
}

#[test]
#[ignore = "needs testenv/up single"]
fn a_kind_that_the_cluster_does_not_have_is_named_with_its_version() {
    let cluster = single();
    let module = "[module]\nsummary = \"Widgets\"\non = \"api\"\n\n[options.size]\ntype = \"int\"\ndoc = \"The size.\"\nrisk = \"safe\"\n\n\
                  [[object]]\n[object.manifest]\napiVersion = \"example.org/v1\"\nkind = \"Widget\"\nmetadata = { name = \"one\", namespace = \"default\" }\n\
                  spec = { size = \"${widgets.size}\" }\n";
    let workspace = cluster.workspace(
        Via::Docker,
        &[(ALONE.0, "modules = [\"modules\"]\n")],
        "[widgets]\nsize = 3\n",
    );
    fs::create_dir(workspace.path("modules")).expect("a directory");
    fs::write(workspace.path("modules/widgets.toml"), module).expect("written");
    let said: Said = workspace.harden(&["plan", "--format", "json"]).exits(1);
    let problems: &Value = &said.json()["problems"];
    let text = problems.to_string();
    assert!(
        text.contains("the cluster has no kind Widget in example.org/v1"),
        "{text}"
    );
    assert!(text.contains("CustomResourceDefinition"), "{text}");
}
