//! Plans for k3s and RKE2, on the layout that their documentation describes. Not run on a real one.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan_support::{API, file, flag, meta, path, process, put, resource};
use harden::distribution::Distribution;
use harden::distribution::k3s::{K3S, Layout, RKE2, ServerConfig};
use harden::fact::*;
use harden::plan::*;
use harden::report::{Newborn, PlanText, bootstrap, plan_text};
use harden::resource::*;
use serde_json::json;

const OURS: &str = "90-harden.yaml";

fn desired(layout: &Layout, resources: Vec<Resource>) -> Desired {
    Desired {
        distribution: layout.distribution,
        ..crate::plan_support::desired(resources)
    }
}

/// The files of a server's configuration: the main one under an empty name.
type Files<'f> = &'f [(&'f str, &'f str)];

fn config(files: Files<'_>) -> Fact<Answer> {
    let file = |text: &str| File {
        meta: meta(FileKind::Regular, 0o600),
        content: text.into(),
    };
    let files: BTreeMap<String, File> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), file(text)))
        .collect();
    match files.is_empty() {
        true => Fact::Absent,
        false => Fact::Value(Answer::Config(files)),
    }
}

fn unit(options: &[&str]) -> Unit {
    Unit {
        active: "active".into(),
        main: Some((10, 10)),
        restarts: 0,
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        config: None,
    }
}

/// Servers that were looked at, all with the same files.
fn servers(layout: &Layout, names: &[&str], desired: &Desired, files: Files<'_>) -> Facts {
    let mut facts = crate::plan_support::cluster(names, &crate::plan_support::desired(Vec::new()));
    facts.nodes.remove("worker");
    for node in facts.nodes.values_mut() {
        let asked = queries(desired, &node.info);
        let answers = asked.into_iter().map(|query| {
            let answer = match &query {
                Query::Config(main) if *main == layout.main_path() => config(files),
                Query::Unit(name) if *name == layout.unit() => Fact::Value(Answer::Unit(unit(&[]))),
                Query::Process(program) => process(7, vec![program.to_string()]),
                _ => Fact::Absent,
            };
            (query, answer)
        });
        node.facts = Fact::Value(answers.collect());
    }
    facts.api.cluster_configuration = Fact::Absent;
    facts
}

/// Does to the facts what apply does: the drop-in is replaced, and RKE2's pods run with what it says.
fn execute(layout: &'static Layout, plan: &Plan, facts: &mut Facts) {
    for (_, step) in plan.steps() {
        let Step::Node(step) = step else {
            panic!("{step:?}")
        };
        for action in &step.files {
            let FileTarget::Text {
                text, mode, owner, ..
            } = &action.after
            else {
                panic!("{action:?}")
            };
            assert_eq!((*mode, owner.as_str()), (0o600, "root"));
            if action.path != layout.config_path() {
                assert_eq!(action.before, FileState::Absent);
                let query = Query::File(action.path.clone());
                put(facts, &step.node, query, file(text, 0o600));
                continue;
            }
            let query = Query::Config(layout.main_path());
            let mut files = match facts.nodes[&step.node].get(&query) {
                Fact::Value(Answer::Config(files)) => files.clone(),
                _ => BTreeMap::new(),
            };
            let before = files.get(OURS).map(|file| sha256(&file.content));
            match (&action.before, before) {
                (FileState::Absent, None) => {}
                (FileState::File { sha256, .. }, Some(before)) => assert_eq!(*sha256, before),
                other => panic!("{other:?}"),
            }
            let new = File {
                meta: meta(FileKind::Regular, *mode),
                content: text.clone().into_bytes(),
            };
            files.insert(OURS.into(), new);
            put(facts, &step.node, query, Fact::Value(Answer::Config(files)));
        }
        let mut processes: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for flag in step.gate.iter().flat_map(|gate| &gate.flags) {
            let argv = processes
                .entry(flag.component)
                .or_insert_with(|| vec![flag.component.to_string()]);
            argv.push(format!("--{}={}", flag.name, flag.value));
        }
        for (component, argv) in processes {
            let query = Query::Process(component.program());
            put(facts, &step.node, query, process(8, argv));
        }
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    let dash = || "-".to_owned();
    let line = |c: &Change| {
        format!(
            "{} [{}] {}: {} → {} (restarts {})",
            c.place,
            c.copy.map_or_else(dash, |copy| copy.to_string()),
            c.resource,
            c.before.clone().unwrap_or_else(dash),
            c.after.clone().unwrap_or_else(dash),
            c.restarts.clone().unwrap_or_else(dash),
        )
    };
    plan.changes.iter().map(line).collect()
}

fn errors(plan: &Plan) -> Vec<String> {
    let errors = plan.problems.iter();
    let errors = errors.filter(|p| p.severity == Severity::Error);
    errors
        .map(|p| format!("{}: {}: {}; {}", p.place, p.subject, p.message, p.remedy))
        .collect()
}

fn warnings(plan: &Plan) -> String {
    let all = plan.problems.iter();
    let all = all.filter(|p| p.severity == Severity::Warning);
    let lines: Vec<String> = all
        .map(|p| format!("{}: {}", p.subject, p.message))
        .collect();
    lines.join("\n")
}

fn additive(name: &str, with: &[&str], without: &[&str]) -> Resource {
    let table = match with {
        [] => json!({"component": "kube-apiserver", "name": name, "without": without}),
        with => json!({"component": "kube-apiserver", "name": name, "merge": "additive",
            "value": with, "without": without}),
    };
    resource("flag", table)
}

/// Plans for one server of k3s with these files.
fn planned(resources: Vec<Resource>, files: Files<'_>) -> Plan {
    let desired = desired(&K3S, resources);
    build(&desired, &servers(&K3S, &["s1"], &desired, files))
}

fn text_of(plan: &Plan) -> String {
    let Some((_, Step::Node(step))) = plan.steps().last() else {
        panic!("{plan:?}")
    };
    match &step.files.last().unwrap().after {
        FileTarget::Text { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flag_is_added_and_then_nothing_is_left() {
    let kcm = json!({"component": "kube-controller-manager", "name": "profiling", "value": false});
    let desired = desired(&K3S, vec![flag("profiling", false), resource("flag", kcm)]);
    let main = "token: secret\nkube-apiserver-arg:\n- audit-log-maxage=7\n";
    let mut facts = servers(&K3S, &["s1", "s2"], &desired, &[("", main)]);
    let plan = build(&desired, &facts);
    assert_eq!(errors(&plan), [""; 0]);
    insta::assert_snapshot!(lines(&plan).join("\n"), @"
    s1 [server config] kube-apiserver --profiling: - → false (restarts k3s)
    s2 [server config] kube-apiserver --profiling: - → false (restarts k3s)
    s1 [server config] kube-controller-manager --profiling: - → false (restarts k3s)
    s2 [server config] kube-controller-manager --profiling: - → false (restarts k3s)
    ");
    insta::assert_snapshot!(warnings(&plan), @"
    k3s: what is known of it is from its documentation; nothing was run on a real k3s
    k3s: what its components run with cannot be read: they run inside its own process, so only its configuration is compared
    k3s: it keeps its datastore to itself: of its health apply sees /readyz alone, and a restart takes an embedded etcd member with it
    ");
    let steps: Vec<&Step> = plan.steps().map(|(_, step)| step).collect();
    assert_eq!(
        steps.iter().map(|step| step.title()).collect::<Vec<_>>(),
        [
            "s1: /etc/rancher/k3s/config.yaml.d/90-harden.yaml, restart k3s",
            "s2: /etc/rancher/k3s/config.yaml.d/90-harden.yaml, restart k3s",
        ]
    );
    assert_eq!(plan.stages.len(), 1);
    assert_eq!(plan.stages[0].name, StageName::ControlPlane);
    let Step::Node(step) = steps[0] else { panic!() };
    let gate = step.gate.as_ref().unwrap();
    assert_eq!(gate.readyz_port, Some(6443));
    assert_eq!(gate.unit, Some(K3S.unit()));
    // There is no command line of a component that could be looked at.
    assert!(gate.flags.is_empty() && gate.processes.is_empty());
    assert_eq!(step.undo_gate.as_ref(), Some(gate));
    insta::assert_snapshot!(plan.changes[0].diff.as_ref().unwrap(), @"
    --- /dev/null
    +++ /etc/rancher/k3s/config.yaml.d/90-harden.yaml
    @@ -0,0 +1,4 @@
    +kube-apiserver-arg+:
    +  - profiling=false
    +kube-controller-manager-arg+:
    +  - profiling=false
    ");
    let saved = to_saved(&plan).unwrap().to_string();
    assert!(
        !saved.contains("secret") && !saved.contains("audit-log-maxage"),
        "{saved}"
    );
    assert_eq!(from_saved(&saved).unwrap(), plan);

    execute(&K3S, &plan, &mut facts);
    let again = build(&desired, &facts);
    assert!(again.is_clean(), "{:?}", lines(&again));
    assert_eq!(
        compare(&plan, &facts).moved.len(),
        2,
        "it rests on what it has changed"
    );
}

#[test]
fn an_older_value_of_ours_is_replaced_and_the_rest_of_ours_stays() {
    let ours = "kube-apiserver-arg+:\n- profiling=true\n- v=2\nkubelet-arg+:\n- v=3\n";
    let plan = planned(vec![flag("profiling", false)], &[(OURS, ours)]);
    assert_eq!(errors(&plan), [""; 0]);
    insta::assert_snapshot!(text_of(&plan), @"
    kube-apiserver-arg+:
      - v=2
      - profiling=false
    kubelet-arg+:
      - v=3
    ");
    let absent = json!({"component": "kube-apiserver", "name": "profiling", "merge": "absent"});
    let plan = planned(vec![resource("flag", absent)], &[(OURS, ours)]);
    assert!(!text_of(&plan).contains("profiling"));
}

#[test]
fn the_last_of_two_switches_counts_and_what_may_be_a_list_is_told() {
    let main = "kube-apiserver-arg: [profiling=true, request-timeout=60s, tls-cipher-suites=A]\n";
    let files = [("", main)];
    let plan = planned(vec![flag("profiling", false)], &files);
    assert_eq!(errors(&plan), [""; 0]);
    assert_eq!(
        lines(&plan),
        ["s1 [server config] kube-apiserver --profiling: true → false (restarts k3s)"]
    );
    // Ours does not say again what others say.
    assert_eq!(
        text_of(&plan),
        "kube-apiserver-arg+:\n  - profiling=false\n"
    );
    let wanted = vec![
        flag("request-timeout", "1m"),
        flag("tls-cipher-suites", "B"),
    ];
    let plan = planned(wanted, &files);
    assert_eq!(plan.changes.len(), 1);
    insta::assert_snapshot!(errors(&plan).join("\n"), @"s1: kube-apiserver --tls-cipher-suites: /etc/rancher/k3s/config.yaml gives kube-apiserver --tls-cipher-suites=A, and what is added later does not take that away; take --tls-cipher-suites of kube-apiserver out of /etc/rancher/k3s/config.yaml, and plan again");
    // What is right already is right, whoever says it.
    let right = planned(vec![flag("tls-cipher-suites", "A")], &files);
    assert!(right.is_clean() && errors(&right).is_empty());
}

#[test]
fn a_later_file_that_drops_or_overrules_ours_is_told() {
    let wanted = || vec![flag("profiling", false)];
    for (later, told) in [
        (
            "kube-apiserver-arg:\n- v=2\n",
            "/etc/rancher/k3s/config.yaml.d/99-admin.yaml comes after our drop-in and has kube-apiserver-arg without \
             `+`, which drops what others say; write `kube-apiserver-arg+` there, or move it into a file whose name \
             sorts before 90-harden.yaml",
        ),
        (
            "kube-apiserver-arg+:\n- profiling=true\n",
            "/etc/rancher/k3s/config.yaml.d/99-admin.yaml gives kube-apiserver --profiling=true, and comes after our \
             drop-in; take --profiling of kube-apiserver out of /etc/rancher/k3s/config.yaml.d/99-admin.yaml, and \
             plan again",
        ),
    ] {
        let ours = "kube-apiserver-arg+: [profiling=false]\n";
        let plan = planned(wanted(), &[(OURS, ours), ("99-admin.yaml", later)]);
        assert!(plan.is_clean() && plan.is_incomplete());
        assert_eq!(
            errors(&plan),
            [format!("s1: kube-apiserver --profiling: {told}")]
        );
    }
    // One that keeps to the rule, and one that says the same, hinder nothing.
    for later in [
        "kube-apiserver-arg+: [v=2]\n",
        "kube-apiserver-arg: profiling=false\n",
    ] {
        let plan = planned(wanted(), &[("99-admin.yaml", later)]);
        assert_eq!(errors(&plan), [""; 0], "{later}");
    }
}

#[test]
fn items_of_a_list_come_beside_those_of_others() {
    let plugins = "enable-admission-plugins";
    let wanted = || {
        vec![additive(
            plugins,
            &["NodeRestriction", "EventRateLimit"],
            &["AlwaysAdmit"],
        )]
    };
    // What the server gives itself is not lost by what is added.
    let plan = planned(vec![additive(plugins, &["EventRateLimit"], &[])], &[]);
    assert_eq!(
        lines(&plan),
        [
            "s1 [server config] kube-apiserver --enable-admission-plugins: NodeRestriction → \
             NodeRestriction,EventRateLimit (restarts k3s)"
        ]
    );
    let main = "kube-apiserver-arg: enable-admission-plugins=NodeRestriction,PodSecurity\n";
    let desired = desired(&K3S, wanted());
    let mut facts = servers(&K3S, &["s1"], &desired, &[("", main)]);
    let plan = build(&desired, &facts);
    assert_eq!(errors(&plan), [""; 0]);
    assert_eq!(
        lines(&plan),
        [
            "s1 [server config] kube-apiserver --enable-admission-plugins: NodeRestriction,PodSecurity → \
             NodeRestriction,PodSecurity,EventRateLimit (restarts k3s)"
        ]
    );
    assert_eq!(
        text_of(&plan),
        "kube-apiserver-arg+:\n  - enable-admission-plugins=EventRateLimit\n"
    );
    execute(&K3S, &plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
    // An unwanted item of another file stays there until a person takes it out.
    let main = "kube-apiserver-arg: enable-admission-plugins=AlwaysAdmit\n";
    let plan = planned(wanted(), &[("", main)]);
    assert!(plan.is_clean());
    insta::assert_snapshot!(errors(&plan).join("\n"), @"s1: kube-apiserver --enable-admission-plugins: /etc/rancher/k3s/config.yaml gives kube-apiserver --enable-admission-plugins=AlwaysAdmit, and what is added later does not take that away; take --enable-admission-plugins of kube-apiserver out of /etc/rancher/k3s/config.yaml, and plan again");
}

#[test]
fn what_cannot_be_read_is_no_claim() {
    let desired = desired(&K3S, vec![flag("profiling", false)]);
    let main = || Query::Config(K3S.main_path());
    let service = || Query::Unit(K3S.unit());
    let of_unit = |change: &dyn Fn(&mut Unit)| {
        let mut unit = unit(&[]);
        change(&mut unit);
        Fact::Value(Answer::Unit(unit))
    };
    let cases = [
        (main(), Fact::Unreadable("Permission denied".into())),
        (
            main(),
            config(&[("10-x.yml", "kube-apiserver-arg: {a: b}\n")]),
        ),
        (service(), Fact::Absent),
        (
            service(),
            of_unit(&|unit| unit.config = Some("/srv/k3s.yaml".into())),
        ),
        (
            service(),
            of_unit(&|unit| unit.options = BTreeSet::from(["--config".into()])),
        ),
        (
            service(),
            of_unit(&|unit| unit.options = BTreeSet::from(["--kube-apiserver-arg".into()])),
        ),
    ];
    let mut told = Vec::new();
    for (query, fact) in cases {
        let mut facts = servers(&K3S, &["s1"], &desired, &[]);
        put(&mut facts, "s1", query, fact);
        let plan = build(&desired, &facts);
        assert!(plan.is_clean());
        told.extend(errors(&plan));
    }
    insta::assert_snapshot!(told.join("\n"), @"
    s1: kube-apiserver --profiling: /etc/rancher/k3s/config.yaml and its drop-ins could not be read: Permission denied; check that the login may read them as root, and plan again
    s1: kube-apiserver --profiling: /etc/rancher/k3s/config.yaml.d/10-x.yml: kube-apiserver-arg is neither a text nor a list of texts; repair it by hand: one YAML document, whose lists hold plain texts, and each key once, with or without `+`
    s1: kube-apiserver --profiling: there is no unit k3s.service; check that this node is a server of k3s, and that [cluster] distribution is right
    s1: kube-apiserver --profiling: k3s.service reads /srv/k3s.yaml instead of /etc/rancher/k3s/config.yaml; move the configuration to /etc/rancher/k3s/config.yaml and take the option or variable away
    s1: kube-apiserver --profiling: k3s.service reads another one instead of /etc/rancher/k3s/config.yaml; move the configuration to /etc/rancher/k3s/config.yaml and take the option or variable away
    s1: kube-apiserver --profiling: k3s.service is started with --kube-apiserver-arg, beside which it is not known what files add; move what it says from the unit's command line into /etc/rancher/k3s/config.yaml, and plan again
    ");
}

#[test]
fn what_has_no_place_here_is_told_by_name() {
    let kubelet = json!({"field": "authentication.anonymous.enabled", "value": false});
    let etcd = json!({"component": "etcd", "name": "client-cert-auth", "value": true});
    let mode = json!({"path": "/etc/kubernetes/admin.conf", "mode": "0600", "owner": "root", "group": "root"});
    let present = |name: &str, value: &str| {
        let table = json!({"component": "kube-apiserver", "name": name, "value": value, "merge": "present"});
        resource("flag", table)
    };
    let plan = planned(
        vec![
            resource("kubelet", kubelet),
            resource("flag", etcd),
            resource("mode", mode),
            // k3s names a file of its own.
            present("client-ca-file", "/etc/kubernetes/pki/ca.crt"),
            present("etcd-cafile", "/etc/kubernetes/pki/etcd/ca.crt"),
        ],
        &[],
    );
    assert!(plan.is_clean() && plan.is_incomplete());
    insta::assert_snapshot!(errors(&plan).join("\n"), @"
    API: kubelet authentication.anonymous.enabled: it is not available on k3s: where it lives is known for kubeadm only; leave the options behind it unset for this cluster, and name in `unset` those that an import sets; `harden eval --why OPTION` tells where one comes from
    API: etcd --client-cert-auth: it is not available on k3s: where it lives is known for kubeadm only; leave the options behind it unset for this cluster, and name in `unset` those that an import sets; `harden eval --why OPTION` tells where one comes from
    API: mode of /etc/kubernetes/admin.conf: it is not available on k3s: where it lives is known for kubeadm only; leave the options behind it unset for this cluster, and name in `unset` those that an import sets; `harden eval --why OPTION` tells where one comes from
    API: kube-apiserver --etcd-cafile: --etcd-cafile names a file of kubeadm's, which k3s does not have; leave the option behind it unset, or name a file that is there
    ");
}

#[test]
fn what_the_server_gives_itself_cannot_be_taken_away() {
    let absent = |name: &str| {
        let table = json!({"component": "kube-apiserver", "name": name, "merge": "absent"});
        resource("flag", table)
    };
    let wanted = vec![
        absent("client-ca-file"),
        additive("enable-admission-plugins", &[], &["NodeRestriction"]),
        absent("token-auth-file"),
    ];
    let plan = planned(wanted, &[]);
    assert!(plan.is_clean());
    insta::assert_snapshot!(errors(&plan).join("\n"), @"
    s1: kube-apiserver --client-ca-file: kube-apiserver has --client-ca-file from k3s itself, which cannot be told to leave it out; leave the option behind it unset; if a file gave it until lately, restart the server and plan again
    s1: kube-apiserver --enable-admission-plugins: kube-apiserver has --enable-admission-plugins=NodeRestriction from k3s itself, which cannot be told to leave it out; leave the option behind it unset; if a file gave it until lately, restart the server and plan again
    ");
    // Of RKE2 it can be seen, and a restart would bring it again.
    let desired = desired(&RKE2, vec![absent("profiling"), absent("token-auth-file")]);
    let mut facts = servers(&RKE2, &["s1"], &desired, &[]);
    let argv = ["kube-apiserver", "--profiling=false"]
        .map(str::to_owned)
        .to_vec();
    put(
        &mut facts,
        "s1",
        Query::Process(API.program()),
        process(9, argv),
    );
    let plan = build(&desired, &facts);
    assert!(plan.is_clean());
    assert_eq!(errors(&plan).len(), 1);
    assert!(errors(&plan)[0].contains("has --profiling=false from RKE2 itself"));
    // Where another flag takes its place it goes with that one.
    let desired = self::desired(&RKE2, audit());
    let mut facts = servers(&RKE2, &["s1"], &desired, &[]);
    let argv = ["kube-apiserver", "--anonymous-auth=false"]
        .map(str::to_owned)
        .to_vec();
    put(
        &mut facts,
        "s1",
        Query::Process(API.program()),
        process(9, argv),
    );
    assert_eq!(errors(&build(&desired, &facts)), [""; 0]);
}

#[test]
fn any_file_will_do_where_one_is_named() {
    let present = |name: &str, value: &str| {
        let table = json!({"component": "kube-apiserver", "name": name, "value": value, "merge": "present"});
        vec![resource("flag", table)]
    };
    let etcd = "/etc/kubernetes/pki/etcd/ca.crt";
    for (name, value, given) in [
        // Another file of the administrator's, one of the server's own, and both.
        (
            "etcd-cafile",
            etcd,
            "kube-apiserver-arg: etcd-cafile=/srv/ca.crt\n",
        ),
        ("client-ca-file", "/srv/other.crt", ""),
        (
            "client-ca-file",
            etcd,
            "kube-apiserver-arg: client-ca-file=/srv/ca.crt\n",
        ),
    ] {
        let plan = planned(present(name, value), &[("", given)]);
        assert!(plan.is_clean(), "{name}: {:?}", lines(&plan));
        assert_eq!(errors(&plan), [""; 0], "{name}");
    }
    let plan = planned(present("oidc-ca-file", "/srv/ca.crt"), &[]);
    assert_eq!(
        text_of(&plan),
        "kube-apiserver-arg+:\n  - oidc-ca-file=/srv/ca.crt\n"
    );
}

#[test]
fn kernel_parameters_and_objects_are_the_same_everywhere() {
    let sysctl = resource("sysctl", json!({"name": "kernel.panic", "value": 10}));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pay"}});
    let desired = desired(
        &K3S,
        vec![sysctl, resource("object", json!({"manifest": namespace}))],
    );
    let mut facts = servers(&K3S, &["s1"], &desired, &[]);
    put(
        &mut facts,
        "s1",
        Query::File(path("/proc/sys/kernel/panic")),
        file("0\n", 0o644),
    );
    let of_kubeadm = crate::plan_support::cluster(&["s1"], &desired);
    facts.api.objects = of_kubeadm.api.objects;
    let plan = build(&desired, &facts);
    assert_eq!(errors(&plan), [""; 0]);
    let names: Vec<StageName> = plan.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(names, [StageName::NodeFiles, StageName::ObjectsPermit]);
}

/// A module as the built-in one for the audit log.
fn audit() -> Vec<Resource> {
    let volume = json!({"name": "harden-audit-log", "host-path": "/var/log/kubernetes/audit",
        "mount-path": "/var/log/kubernetes/audit", "read-only": false, "path-type": "DirectoryOrCreate"});
    let policy = json!({"component": "kube-apiserver", "flag": "audit-policy-file", "name": "audit-policy",
        "content": {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]},
        "volumes": [volume]});
    let tokens = json!({"component": "kube-apiserver", "flag": "authentication-config", "name": "authentication",
        "content": {"a": 1}, "replaces": ["anonymous-auth"]});
    vec![
        resource("component-file", policy),
        resource("component-file", tokens),
    ]
}

#[test]
fn files_that_flags_name_lie_where_the_server_reads_them() {
    for layout in [&K3S, &RKE2] {
        let desired = desired(layout, audit());
        let mut facts = servers(layout, &["s1"], &desired, &[]);
        let plan = build(&desired, &facts);
        assert_eq!(errors(&plan), [""; 0]);
        let names: Vec<StageName> = plan.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, [StageName::NodeFiles, StageName::ControlPlane]);
        let Step::Node(step) = &plan.stages[0].steps[0] else {
            panic!()
        };
        assert!(
            step.files
                .iter()
                .all(|f| f.path.as_str().starts_with(layout.files))
        );
        assert_eq!(step.files.len(), 2);
        assert!(!text_of(&plan).contains("/etc/kubernetes"));
        insta::assert_snapshot!(format!("{}-audit", layout.service), text_of(&plan));
        execute(layout, &plan, &mut facts);
        let again = build(&desired, &facts);
        assert!(again.is_clean(), "{:?}", lines(&again));
    }
}

#[test]
fn a_flag_that_the_file_replaces_must_go_first() {
    let ours = "kube-apiserver-arg+: [anonymous-auth=false]\n";
    let plan = planned(audit(), &[(OURS, ours)]);
    assert_eq!(errors(&plan), [""; 0]);
    assert!(!text_of(&plan).contains("anonymous-auth"));
    let plan = planned(
        audit(),
        &[("", "kube-apiserver-arg: [anonymous-auth=false]\n")],
    );
    // Together they would keep the server from starting.
    assert!(!text_of(&plan).contains("authentication-config"));
    insta::assert_snapshot!(errors(&plan).join("\n"), @"s1: kube-apiserver --authentication-config (file authentication): /etc/rancher/k3s/config.yaml gives kube-apiserver --anonymous-auth=false, and what is added later does not take that away; take --anonymous-auth of kube-apiserver out of /etc/rancher/k3s/config.yaml, and plan again");
}

#[test]
fn what_rke2_runs_is_compared_too() {
    let desired = desired(&RKE2, vec![flag("profiling", false)]);
    let ours = "kube-apiserver-arg+: [profiling=false]\n";
    let mut facts = servers(&RKE2, &["s1"], &desired, &[(OURS, ours)]);
    let plan = build(&desired, &facts);
    assert_eq!(
        lines(&plan),
        ["s1 [process] kube-apiserver --profiling: - → false (restarts rke2-server)"]
    );
    let (_, Step::Node(step)) = plan.steps().next().unwrap() else {
        panic!()
    };
    assert!(step.files.is_empty());
    assert_eq!(step.units, [RKE2.unit()]);
    let wanted = FlagValue {
        component: API,
        name: "profiling".into(),
        value: "false".into(),
    };
    let wanted = [wanted];
    assert_eq!(step.gate.as_ref().unwrap().flags, wanted);
    let argv = ["kube-apiserver", "--profiling=true", "--profiling=false"];
    let argv = argv.map(str::to_owned).to_vec();
    put(
        &mut facts,
        "s1",
        Query::Process(API.program()),
        process(9, argv),
    );
    assert!(build(&desired, &facts).is_clean());
    // The gate asks the process for what our file says.
    let facts = servers(&RKE2, &["s1"], &desired, &[]);
    let plan = build(&desired, &facts);
    let (_, Step::Node(step)) = plan.steps().next().unwrap() else {
        panic!()
    };
    assert_eq!(step.gate.as_ref().unwrap().flags, wanted);
    assert!(step.undo_gate.as_ref().unwrap().flags.is_empty());
}

#[test]
fn a_secret_beside_the_arguments_moves_no_plan_and_an_argument_does() {
    let desired = desired(&K3S, vec![flag("profiling", false)]);
    let facts = |main: &str| servers(&K3S, &["s1"], &desired, &[("", main)]);
    let plan = build(&desired, &facts("token: a\n"));
    assert!(compare(&plan, &facts("token: b\n")).moved.is_empty());
    let moved = compare(&plan, &facts("kube-apiserver-arg: v=2\n")).moved;
    assert_eq!(
        moved,
        ["s1: arguments in /etc/rancher/k3s/config.yaml and its drop-ins"]
    );
}

/// A cluster that was born from `harden bootstrap` has nothing left to change of what is available.
#[test]
fn a_cluster_that_was_born_hardened_is_planned_clean() {
    let mut wanted = vec![
        flag("profiling", false),
        additive("enable-admission-plugins", &["EventRateLimit"], &[]),
    ];
    wanted.extend(audit());
    for (layout, newborn) in [(&K3S, Newborn::K3s), (&RKE2, Newborn::Rke2)] {
        let desired = desired(layout, wanted.clone());
        let made = bootstrap(&desired, &newborn).unwrap();
        let text = |place: &str| made.files[&format!("files/control-plane{place}")].as_str();
        let mut facts = servers(layout, &["s1"], &desired, &[(OURS, text(layout.config))]);
        for query in queries(&desired, &facts.nodes["s1"].info.clone()) {
            if let Query::File(path) = &query {
                put(
                    &mut facts,
                    "s1",
                    query.clone(),
                    file(text(path.as_str()), 0o600),
                );
            }
        }
        let files = BTreeMap::from([(
            OURS.to_owned(),
            File {
                meta: meta(FileKind::Regular, 0o600),
                content: text(layout.config).into(),
            },
        )]);
        let config = ServerConfig::read(layout, &files).unwrap();
        // RKE2's pods run with it, beside what RKE2 gives them.
        let mut argv = vec!["kube-apiserver".to_owned()];
        for name in [
            "profiling",
            "enable-admission-plugins",
            "audit-policy-file",
            "authentication-config",
        ] {
            let values = config.values(API, name).into_iter();
            argv.extend(values.map(|value| format!("--{name}={value}")));
        }
        if layout.distribution == Distribution::Rke2 {
            put(
                &mut facts,
                "s1",
                Query::Process(API.program()),
                process(9, argv),
            );
        }
        let plan = build(&desired, &facts);
        assert_eq!(
            (lines(&plan), errors(&plan)),
            (vec![], vec![]),
            "{}",
            layout.name
        );
    }
}

/// RKE2 mounts each file that a flag names by itself (rke2#5604), so its content must never change under
/// one name.
#[test]
fn rke2_5604_a_changed_policy_is_a_new_file_and_a_restart() {
    let files = |content: serde_json::Value| {
        let table = json!({"component": "kube-apiserver", "flag": "authentication-config",
            "name": "authentication", "content": content});
        desired(&RKE2, vec![resource("component-file", table)])
    };
    let (old, new) = (files(json!({"a": 1})), files(json!({"a": 2})));
    let mut facts = servers(&RKE2, &["s1"], &old, &[]);
    execute(&RKE2, &build(&old, &facts), &mut facts);
    for query in queries(&new, &facts.nodes["s1"].info.clone()) {
        if matches!(facts.nodes["s1"].get(&query), Fact::Unreadable(_)) {
            put(&mut facts, "s1", query, Fact::Absent);
        }
    }
    let plan = build(&new, &facts);
    assert_eq!(errors(&plan), [""; 0]);
    let before = text_of(&build(&old, &servers(&RKE2, &["s1"], &old, &[])));
    let before: Vec<&str> = before.lines().collect();
    let after = text_of(&plan);
    let differ: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(differ.len(), 1, "{differ:?}");
    assert!(differ[0].contains("authentication-config=/etc/rancher/rke2/harden/authentication-"));
    let steps: Vec<String> = plan.steps().map(|(_, step)| step.title()).collect();
    assert!(steps[1].ends_with(", restart rke2-server"), "{steps:?}");
    execute(&RKE2, &plan, &mut facts);
    assert!(build(&new, &facts).is_clean());
}

/// A workspace that is this text.
fn of_text(text: &str) -> Desired {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    let modules = harden::module::Modules::builtin().unwrap();
    let workspace = harden::profile::load(dir.path(), &modules).unwrap_or_else(|e| panic!("{e:#}"));
    harden::module::evaluate(&workspace, &modules).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn what_of_the_baseline_has_no_place_on_k3s() {
    let text =
        "imports = [\"builtin:baseline\"]\n[cluster]\nname = \"x\"\ndistribution = \"k3s\"\n";
    let desired = of_text(text);
    let plan = build(&desired, &servers(&K3S, &["s1"], &desired, &[]));
    let errors = plan.problems.iter();
    let errors = errors.filter(|p| p.severity == Severity::Error);
    let told: BTreeSet<String> = errors
        .map(|p| format!("{}: {}", p.subject, p.message))
        .collect();
    let told: Vec<String> = told.into_iter().collect();
    insta::assert_snapshot!(told.join("\n"), @"
    mode of /etc/kubernetes/admin.conf: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/controller-manager.conf: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/kubelet.conf: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/manifests/*: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/pki/*.crt: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/pki/*.key: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/pki/etcd/*.crt: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/pki/etcd/*.key: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/scheduler.conf: it is not available on k3s: where it lives is known for kubeadm only
    mode of /etc/kubernetes/super-admin.conf: it is not available on k3s: where it lives is known for kubeadm only
    mode of /var/lib/kubelet/config.yaml: it is not available on k3s: where it lives is known for kubeadm only
    ");
    insta::assert_snapshot!(lines(&plan).join("\n"), @"
    s1 [server config] kube-apiserver --audit-log-maxage: - → 30 (restarts k3s)
    s1 [server config] kube-apiserver --audit-log-maxbackup: - → 10 (restarts k3s)
    s1 [server config] kube-apiserver --audit-log-maxsize: - → 100 (restarts k3s)
    s1 [-] kube-apiserver --audit-policy-file (file audit-policy): - → /var/lib/rancher/k3s/server/harden/audit-policy-9d3d4b9f76eb.yaml with 0600 root:root (restarts -)
    s1 [server config] kube-apiserver --audit-policy-file (file audit-policy): - → /var/lib/rancher/k3s/server/harden/audit-policy-9d3d4b9f76eb.yaml (restarts k3s)
    s1 [server config] kube-apiserver --profiling: - → false (restarts k3s)
    s1 [server config] kube-apiserver --tls-min-version: - → VersionTLS12 (restarts k3s)
    s1 [server config] kube-controller-manager --profiling: - → false (restarts k3s)
    s1 [server config] kube-controller-manager --terminated-pod-gc-threshold: - → 1000 (restarts k3s)
    s1 [server config] kube-scheduler --profiling: - → false (restarts k3s)
    s1 [server config] kube-apiserver --audit-log-path: - → /var/log/kubernetes/audit/audit.log (restarts k3s)
    ");
}

#[test]
fn the_example_of_the_documentation_can_be_applied() {
    let page = include_str!("../../docs/k3s.md");
    let example = page.split("```toml\n").nth(1).unwrap();
    let desired = of_text(example.split("```").next().unwrap());
    assert_eq!(desired.distribution, Distribution::K3s);
    let mut facts = servers(&K3S, &["s1"], &desired, &[]);
    let plan = build(&desired, &facts);
    assert_eq!(errors(&plan), [""; 0]);
    assert!(!plan.is_clean());
    execute(&K3S, &plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn what_a_reader_is_shown() {
    for layout in [&K3S, &RKE2] {
        let desired = desired(layout, vec![flag("profiling", false)]);
        let plan = build(&desired, &servers(layout, &["s1"], &desired, &[]));
        let text = plan_text(&plan, PlanText { details: true });
        let plain = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(format!("{}-text", layout.service), plain);
    }
}
