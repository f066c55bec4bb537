//! Whom a tenant's settings would hit is known before, and it hits whom it said.

use std::time::Duration;

use serde_json::Value;

use crate::environment::{Cluster, Said, Via, Workspace, eventually, single};

const NAMESPACE: &str = "to-be-hit";
const READER: &str = "harden-test-reader";
const IMAGE: &str = "docker.io/library/busybox:1.35.0";

const BEFORE: &str = r#"
[tenants.hit]
namespaces = ["to-be-hit"]
viewers    = [{ kind = "User", name = "vera" }, { kind = "User", name = "ben" }]
"#;

const AFTER: &str = r#"
[tenants.hit]
namespaces   = ["to-be-hit"]
viewers      = [{ kind = "User", name = "ben" }]
pod-security = "restricted"
network      = "isolated"
automount    = false
quota        = { pods = "1", "requests.cpu" = "1" }
limits       = [{ type = "Container", max = { memory = "64Mi" } }]
"#;

/// A workspace with this tenant and nothing else that the environment's own has.
fn workspace(cluster: &Cluster, tenant: &str, accept: &str) -> Workspace {
    let workspace = cluster.workspace(Via::Ssh, &[], "");
    let path = workspace.path("harden.toml");
    let text = std::fs::read_to_string(&path).expect("harden.toml");
    let from = text.find("[cluster]").expect("a cluster");
    let to = text.find("[tenants.").expect("tenants");
    let text = format!("accept = [{accept}]\n{}\n{tenant}\n", &text[from..to]);
    std::fs::write(path, text).expect("written");
    workspace
}

/// Makes a pod of this container, with more fields of its own.
fn run_pod(cluster: &Cluster, name: &str, spec: &str, container: &str) -> Said {
    let spec = format!(
        r#"{{"spec":{{{spec}"containers":[{{"name":"c","image":"{IMAGE}","imagePullPolicy":"IfNotPresent",{container}
        "command":["sh","-c","echo well > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]}}]}}}}"#
    );
    let overrides = format!("--overrides={spec}");
    let image = format!("--image={IMAGE}");
    let labels = format!("--labels=app={name}");
    let run = [
        "-n",
        NAMESPACE,
        "run",
        name,
        &image,
        &labels,
        "--restart=Never",
        &overrides,
    ];
    cluster.kubectl(&run)
}

const CALM: &str = r#""securityContext":{"runAsNonRoot":true,"runAsUser":1000,"seccompProfile":{"type":"RuntimeDefault"}},"#;
const CALM_CONTAINER: &str =
    r#""securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}},"#;

fn runs(cluster: &Cluster, name: &str) {
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

/// Whether the Service answers on a port of the control-plane node, from outside of the pods' network.
fn answers(cluster: &Cluster, port: &str) -> bool {
    let script = format!(
        "curl -s --max-time 3 http://$(hostname):{port}/ | grep -q well && echo yes || echo no"
    );
    cluster.on(&cluster.node("control-plane"), &script).trim() == "yes"
}

fn may_list_pods(cluster: &Cluster, who: &str) -> bool {
    let who = format!("--as={who}");
    let list = [
        "--as-group=system:authenticated",
        &who,
        "-n",
        NAMESPACE,
        "get",
        "pods",
    ];
    cluster.kubectl(&list).status == Some(0)
}

/// Gives the workspace the credentials of somebody who may read everything and write nothing.
fn as_reader(cluster: &Cluster, workspace: &Workspace) {
    for made in [
        &["-n", "default", "create", "serviceaccount", READER][..],
        &[
            "create",
            "clusterrole",
            READER,
            "--verb=get,list,watch",
            "--resource=*.*",
        ],
        &[
            "create",
            "clusterrolebinding",
            READER,
            &format!("--clusterrole={READER}"),
            &format!("--serviceaccount=default:{READER}"),
        ],
    ] {
        cluster.kubectl(made).exits(0);
    }
    let token = ["-n", "default", "create", "token", READER];
    let token = cluster.kubectl(&token).exits(0).stdout;
    let kubeconfig = workspace.path("kubeconfig");
    let text = std::fs::read_to_string(&kubeconfig).expect("kubeconfig");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("client-key-data"))
        .map(|line| match line.split_once("client-certificate-data") {
            Some((indent, _)) => format!("{indent}token: {}", token.trim()),
            None => line.to_owned(),
        });
    let text: Vec<String> = lines.collect();
    std::fs::write(kubeconfig, text.join("\n")).expect("written");
}

/// Templates that differ from one that `restricted` lets in by one thing each: of the pod, and of its container.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("good", "", ""),
    ("host-pid", r#""hostPID":true,"#, ""),
    ("host-net", r#""hostNetwork":true,"#, ""),
    (
        "host-path",
        r#""volumes":[{"name":"v","hostPath":{"path":"/"}}],"#,
        "",
    ),
    (
        "nfs",
        r#""volumes":[{"name":"v","nfs":{"server":"a","path":"/"}}],"#,
        "",
    ),
    ("scratch", r#""volumes":[{"name":"v","emptyDir":{}}],"#, ""),
    (
        "port",
        "",
        r#""ports":[{"containerPort":80,"hostPort":8123}],"#,
    ),
    (
        "probe",
        "",
        r#""livenessProbe":{"httpGet":{"host":"10.0.0.1","port":80}},"#,
    ),
    (
        "own-users",
        r#""hostUsers":false,"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}},"#,
        "",
    ),
    (
        "root",
        r#""securityContext":{"runAsNonRoot":true,"runAsUser":0,"seccompProfile":{"type":"RuntimeDefault"}},"#,
        "",
    ),
    (
        "no-seccomp",
        r#""securityContext":{"runAsNonRoot":true},"#,
        "",
    ),
    (
        "sysctl",
        r#""securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"},"sysctls":[{"name":"net.ipv4.tcp_rmem","value":"1"}]},"#,
        "",
    ),
    (
        "bad-sysctl",
        r#""securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"},"sysctls":[{"name":"kernel.msgmax","value":"1"}]},"#,
        "",
    ),
    (
        "selinux",
        r#""securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"},"seLinuxOptions":{"type":"spc_t"}},"#,
        "",
    ),
    (
        "privileged",
        "",
        r#""securityContext":{"privileged":true,"capabilities":{"drop":["ALL"]}},"#,
    ),
    (
        "escalates",
        "",
        r#""securityContext":{"capabilities":{"drop":["ALL"]}},"#,
    ),
    (
        "capable",
        "",
        r#""securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"],"add":["CHOWN"]}},"#,
    ),
    (
        "bound",
        "",
        r#""securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"],"add":["NET_BIND_SERVICE"]}},"#,
    ),
    (
        "keeps",
        "",
        r#""securityContext":{"allowPrivilegeEscalation":false},"#,
    ),
];

#[test]
#[ignore = "needs testenv/up single"]
fn what_is_said_of_templates_at_rest_is_what_the_server_says_of_their_pods() {
    let cluster = single();
    let gone = format!(
        "kubectl --kubeconfig /etc/kubernetes/admin.conf delete namespace {NAMESPACE} --ignore-not-found"
    );
    cluster.on(&cluster.node("control-plane"), &gone);
    let _gone = cluster.afterwards(&cluster.node("control-plane"), &gone);
    cluster.create_namespace(NAMESPACE);
    let spec = |pod: &str, container: &str| {
        let calm = |own: &str, calm: &'static str| match own.contains("\"securityContext\"") {
            true => "",
            false => calm,
        };
        format!(
            r#"{{{pod}{}"restartPolicy":"RESTART","containers":[{{{container}{}"name":"c","image":"{IMAGE}"}}]}}"#,
            calm(pod, CALM),
            calm(container, CALM_CONTAINER)
        )
    };
    let mut made = String::new();
    for (at, (name, pod, container)) in TEMPLATES.iter().enumerate() {
        let (kind, body) = match at % 3 {
            0 => (
                "Deployment",
                r#""replicas":0,"selector":{"matchLabels":{"a":"b"}},"template":TEMPLATE"#,
            ),
            1 => (
                "CronJob",
                r#""schedule":"0 0 1 1 *","jobTemplate":{"spec":{"template":TEMPLATE}}"#,
            ),
            _ => ("Job", r#""suspend":true,"template":TEMPLATE"#),
        };
        let version = if kind == "Deployment" {
            "apps/v1"
        } else {
            "batch/v1"
        };
        let restart = if kind == "Deployment" {
            "Always"
        } else {
            "Never"
        };
        let spec = spec(pod, container).replace("RESTART", restart);
        let template = format!(r#"{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{spec}}}"#);
        let body = body.replace("TEMPLATE", &template);
        made.push_str(&format!(
            r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"name":"{name}","namespace":"{NAMESPACE}"}},"spec":{{{body}}}}}"#
        ));
        made.push('\n');
    }
    let control_plane = cluster.node("control-plane");
    cluster.write(&control_plane, "/root/at-rest.json", &made);
    cluster
        .kubectl(&["create", "-f", "/root/at-rest.json"])
        .exits(0);
    for level in ["baseline", "restricted"] {
        let tenant =
            format!("[tenants.hit]\nnamespaces = [\"{NAMESPACE}\"]\npod-security = \"{level}\"\n");
        let workspace = workspace(&cluster, &tenant, "\"tenants\"");
        let plan = workspace.harden(&["plan", "--only-impact", "--format", "json"]);
        let impact = plan.exits(2).json();
        let mut told: Vec<String> = hits(&impact)
            .iter()
            .filter(|(_, effect, _)| effect == "refused-when-started")
            .flat_map(|(_, _, who)| who.split(", ").map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|who| Some(who.split_once(' ')?.1.to_owned()))
            .collect();
        told.sort();
        // The server's word, in a namespace that has the level.
        let labels = format!("pod-security.kubernetes.io/enforce={level}");
        cluster
            .kubectl(&["create", "namespace", "at-rest"])
            .exits(0);
        cluster
            .kubectl(&["label", "namespace", "at-rest", &labels])
            .exits(0);
        cluster
            .kubectl(&[
                "-n",
                "at-rest",
                "wait",
                "serviceaccount/default",
                "--for=create",
                "--timeout=60s",
            ])
            .exits(0);
        let mut refused = Vec::new();
        for (name, pod, container) in TEMPLATES {
            let spec = spec(pod, container).replace("RESTART", "Never");
            let overrides = format!("--overrides={{\"spec\":{spec}}}");
            let image = format!("--image={IMAGE}");
            let said = cluster.kubectl(&[
                "-n",
                "at-rest",
                "run",
                name,
                &image,
                "--restart=Never",
                "--dry-run=server",
                &overrides,
            ]);
            if said.status != Some(0) {
                refused.push((*name).to_owned());
                said.says("violates PodSecurity");
            }
        }
        cluster
            .kubectl(&["delete", "namespace", "at-rest"])
            .exits(0);
        refused.sort();
        assert_eq!(told, refused, "{level}: {impact:#}");
        assert!(told.len() > 5 && told.len() < TEMPLATES.len());
    }
}

/// The hits of a plan: kind, effect and names of each.
fn hits(impact: &Value) -> Vec<(String, String, String)> {
    let tenants = impact["impact"]["tenants"].as_array();
    let [tenant] = tenants.map_or(&[][..], Vec::as_slice) else {
        panic!("{impact:#}");
    };
    assert_eq!(tenant["tenant"], "hit");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hits = tenant["hits"].as_array().expect("hits");
    hits.iter()
        .map(|hit| {
            assert_eq!(hit["origins"][0]["file"], "harden.toml", "{hit:#}");
            let who = hit["who"].as_array().into_iter().flatten().map(text);
            let who: Vec<String> = who.collect();
            (text(&hit["kind"]), text(&hit["effect"]), who.join(", "))
        })
        .collect()
}

#[test]
#[ignore = "needs testenv/up single"]
fn whom_a_tenant_s_settings_hit_is_said_before_and_true_after() {
    let cluster = single();
    let gone = format!(
        "k='kubectl --kubeconfig /etc/kubernetes/admin.conf'; $k delete namespace {NAMESPACE} --ignore-not-found; \
         $k delete clusterrole,clusterrolebinding {READER} --ignore-not-found; \
         $k -n default delete serviceaccount {READER} --ignore-not-found"
    );
    cluster.on(&cluster.node("control-plane"), &gone);
    let _gone = cluster.afterwards(&cluster.node("control-plane"), &gone);
    cluster.create_namespace(NAMESPACE);
    workspace(&cluster, BEFORE, "\"tenants\"")
        .harden(&["apply", "--yes"])
        .exits(0);
    assert!(may_list_pods(&cluster, "vera") && may_list_pods(&cluster, "ben"));
    run_pod(&cluster, "agent", r#""hostNetwork":true,"#, "").exits(0);
    let big = format!(
        r#"{CALM_CONTAINER}"resources":{{"requests":{{"cpu":"10m"}},"limits":{{"memory":"128Mi"}}}},"#
    );
    run_pod(&cluster, "web", CALM, &big).exits(0);
    let expose = [
        "-n",
        NAMESPACE,
        "expose",
        "pod",
        "web",
        "--type=NodePort",
        "--port=8080",
    ];
    cluster.kubectl(&expose).exits(0);
    runs(&cluster, "agent");
    runs(&cluster, "web");
    let port = "jsonpath={.spec.ports[0].nodePort}";
    let port = cluster
        .kubectl(&["-n", NAMESPACE, "get", "service", "web", "-o", port])
        .stdout;
    eventually("the port answers", Duration::from_secs(30), || {
        answers(&cluster, &port)
    });

    let accepted = workspace(&cluster, AFTER, "\"tenants\"");
    let only = ["plan", "--only-impact", "--format", "json"];
    let impact = accepted.harden(&only).exits(2).json();
    assert_eq!(impact["schema"], "harden.dev/impact/v1");
    assert_eq!(impact["impact"].get("unknown"), None, "{impact:#}");
    let told = hits(&impact);
    let expected = [
        ("pod-security", "refused-at-next-start", "agent"),
        ("quota", "above-quota", "pods: 2 used, 1 allowed"),
        ("quota", "refused-at-next-start", "Pod agent"),
        ("limits", "refused-at-next-start", "Pod web"),
        ("access", "loses-access", "User vera"),
        ("token", "loses-access-at-next-start", "Pod agent, Pod web"),
        ("network", "cut-off", "Pod web"),
        ("network", "cut-off", "Service web"),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(told, expected, "{impact:#}");
    // The server's own words are there, and asking changed nothing.
    assert!(
        impact.to_string().contains("agent: host namespaces"),
        "{impact:#}"
    );
    let labels = [
        "get",
        "namespace",
        NAMESPACE,
        "-o",
        "jsonpath={.metadata.labels}",
    ];
    let labels = cluster.kubectl(&labels).exits(0).stdout;
    assert!(!labels.contains("pod-security"), "{labels}");
    let plan = accepted
        .harden(&["plan", "--format", "json"])
        .exits(2)
        .json();
    assert_eq!(plan["impact"], impact["impact"]);
    accepted
        .harden(&["plan"])
        .exits(2)
        .says("Impact\n  tenant hit\n    to-be-hit: ");
    // Without consent it is the same, and left undone.
    let unaccepted = workspace(&cluster, AFTER, "");
    let waiting = unaccepted.harden(&only).exits(1).json();
    assert_eq!(hits(&waiting), expected);
    assert!(
        !waiting.to_string().contains("\"planned\":true"),
        "{waiting:#}"
    );

    // Who may only read learns what can be read, and what could not be asked.
    let read_only = workspace(&cluster, AFTER, "\"tenants\"");
    as_reader(&cluster, &read_only);
    let seen = read_only.harden(&only).exits(2).json();
    let unknown = seen["impact"]["unknown"].to_string();
    assert!(
        unknown.contains("which pods are below restricted"),
        "{seen:#}"
    );
    assert!(unknown.contains("cannot patch resource"), "{seen:#}");
    assert_eq!(hits(&seen), expected[1..], "{seen:#}");
    read_only
        .harden(&["plan", "--only-impact"])
        .exits(2)
        .says("not known (pod-security): which pods are below restricted");

    accepted.harden(&["apply", "--yes"]).exits(0);
    let again = accepted.harden(&["plan", "--only-impact"]);
    again.exits(0).says("Nobody is hit");

    // It came true. What ran runs on, and is not made again.
    runs(&cluster, "agent");
    run_pod(&cluster, "agent-2", r#""hostNetwork":true,"#, "")
        .exits(1)
        .says("violates PodSecurity \"restricted:latest\"");
    run_pod(&cluster, "silent", CALM, CALM_CONTAINER)
        .exits(1)
        .says("must specify requests.cpu");
    run_pod(&cluster, "big", CALM, &big)
        .exits(1)
        .says("maximum memory usage per Container is 64Mi");
    let small = format!(r#"{CALM_CONTAINER}"resources":{{"requests":{{"cpu":"10m"}}}},"#);
    run_pod(&cluster, "small", CALM, &small)
        .exits(1)
        .says("exceeded quota: harden");
    assert!(!may_list_pods(&cluster, "vera") && may_list_pods(&cluster, "ben"));
    eventually("the port is closed", Duration::from_secs(30), || {
        !answers(&cluster, &port)
    });
}
