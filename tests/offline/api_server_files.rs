//! The configuration files of the API server: authentication, admission and audit, from a profile to
//! what lies on a node and which flags name it.
use crate::plan_support::*;
use harden::fact::{ApiQuery, Fact, Query, sha256};
use harden::module::{Modules, evaluate};
use harden::plan::{Plan, build};
use harden::profile::{Failure, load};
use harden::resource::{Desired, Kind, Part, Risk};
use serde_json::{Value, json};

fn evaluated(text: &str) -> Result<Desired, Failure> {
    evaluated_with(text, &[])
}

/// With more files in the workspace.
fn evaluated_with(text: &str, more: &[(&str, &str)]) -> Result<Desired, Failure> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in more {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    // Keys without a table come first.
    let text = format!("{text}\n[cluster]\nname = \"x\"\n");
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    let modules = Modules::builtin()?;
    evaluate(&load(dir.path(), &modules)?, &modules)
}

fn good(text: &str) -> Desired {
    evaluated(text).unwrap_or_else(|e| panic!("{text}\n{e:#}"))
}

fn wrong(text: &str) -> String {
    format!("{:#}", evaluated(text).unwrap_err())
}

/// The text of the file that a flag of the API server names.
fn file_of(desired: &Desired, flag: &str) -> Option<String> {
    let mut found = desired.resources.iter().filter_map(|resource| {
        let name = resource.kind.behaviour().name();
        let parts = resource.kind.behaviour().parts();
        let is_it = name.starts_with(&format!("kube-apiserver --{flag} (file"));
        parts.into_iter().find_map(|part| match part {
            Part::File { content, path } if is_it => {
                let hash = &sha256(&content)[..12];
                assert!(path.as_str().ends_with(&format!("-{hash}.yaml")), "{path}");
                Some(content)
            }
            _ => None,
        })
    });
    let file = found.next();
    assert!(found.next().is_none(), "{flag} names two files");
    file
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The wanted items of a flag.
fn flag_of(desired: &Desired, flag: &str) -> Value {
    let mut found = desired.resources.iter().filter_map(|resource| {
        let parts = resource.kind.behaviour().parts();
        parts.into_iter().find_map(|part| match part {
            Part::Setting { name, wanted, .. } if name == ["kube-apiserver", flag] => {
                Some(Value::Object(wanted))
            }
            _ => None,
        })
    });
    let wanted = found.next().unwrap_or_default();
    assert!(found.next().is_none(), "{flag} is wanted by two resources");
    wanted
}

/// Gives the manifest and the process of a node one more flag.
fn give(facts: &mut harden::fact::Facts, node: &str, word: &str) {
    let text = manifest(facts, node, API).replace(
        "    - --allow-privileged=true\n",
        &format!("    - --allow-privileged=true\n    - {word}\n"),
    );
    assert!(text.contains(word));
    put(
        facts,
        node,
        Query::File(harden::distribution::kubeadm::manifest_path(API)),
        file(&text, 0o600),
    );
    let argv = harden::distribution::kubeadm::Manifest::parse(&text, API)
        .unwrap()
        .process()
        .unwrap();
    put(facts, node, Query::Process(API.program()), process(7, argv));
}

fn planned(desired: &Desired) -> Plan {
    let mut facts = cluster(&["cp1", "cp2"], desired);
    let plan = build(desired, &facts);
    execute(&plan, &mut facts);
    let again = build(desired, &facts);
    assert!(again.is_clean(), "{:#?}", lines(&again));
    plan
}

// ------------------------------------------------------------------ anonymous access

const PROBES: [&str; 3] = ["/livez", "/readyz", "/healthz"];
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

fn anonymous_paths(desired: &Desired) -> Vec<String> {
    let file = yaml(&file_of(desired, "authentication-config").unwrap());
    assert_eq!(file["anonymous"]["enabled"], true);
    let conditions = file["anonymous"]["conditions"].as_array().unwrap();
    conditions
        .iter()
        .map(|c| c["path"].as_str().unwrap().to_owned())
        .collect()
}

/// The kubelet's probes have no name: where they are refused the API server is restarted over and over.
#[test]
fn kubeadm_798_health_probes_stay_anonymous() {
    for value in ["health-only", "health-and-join"] {
        let desired = good(&format!("apiserver.anonymous = \"{value}\""));
        let paths = anonymous_paths(&desired);
        // Every probe that kubeadm writes into the manifest asks for one of them.
        for line in MANIFESTS[0].1.lines().filter(|l| l.contains("path: /")) {
            let path = line.trim().trim_start_matches("path: ");
            if path.ends_with('z') {
                assert!(paths.iter().any(|p| p == path), "{value}: {path}");
            }
        }
        for probe in PROBES {
            assert!(paths.iter().any(|p| p == probe), "{value}: {probe}");
        }
        // The flag would end them, or keep the API server from starting beside the file.
        assert_eq!(
            flag_of(&desired, "anonymous-auth"),
            json!({"merge": "absent"})
        );
        planned(&desired);
    }
}

/// A node that joins by token reads cluster-info before it has a name.
#[test]
fn kubeadm_1105_token_discovery_stays_possible() {
    let paths = |value: &str| anonymous_paths(&good(&format!("apiserver.anonymous = \"{value}\"")));
    assert_eq!(paths("health-and-join").last().unwrap(), CLUSTER_INFO);
    assert_eq!(paths("health-and-join").len(), 4);
    assert_eq!(paths("health-only"), PROBES);
    // No built-in profile takes it away.
    for profile in ["cis-level1", "cis-level2"] {
        let desired = good(&format!("imports = [\"builtin:{profile}\"]"));
        assert_eq!(anonymous_paths(&desired).last().unwrap(), CLUSTER_INFO);
    }
}

#[test]
fn nothing_but_these_paths_is_open() {
    let desired = good("apiserver.anonymous = \"health-only\"");
    insta::assert_snapshot!(file_of(&desired, "authentication-config").unwrap(), @r"
    apiVersion: apiserver.config.k8s.io/v1beta1
    kind: AuthenticationConfiguration
    anonymous:
      conditions:
        - path: /livez
        - path: /readyz
        - path: /healthz
      enabled: true
    ");
    let resource = &desired.resources[0];
    assert!(resource.uniform);
    assert_eq!(resource.risk, Risk::Restart);
}

#[test]
fn the_flag_that_the_file_replaces_is_removed_in_the_same_step() {
    let desired = good("apiserver.anonymous = \"health-only\"");
    let mut facts = cluster(&["cp1"], &desired);
    give(&mut facts, "cp1", "--anonymous-auth=false");
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    execute(&plan, &mut facts);
    let argv = argv(&facts, "cp1", API);
    assert!(!argv.iter().any(|word| word.starts_with("--anonymous-auth")));
    assert!(
        argv.iter()
            .any(|word| word.starts_with("--authentication-config=/etc/kubernetes/harden/"))
    );
    assert!(build(&desired, &facts).is_clean());
}

/// The API server does not start with both, and nobody but the administrator knows the issuer.
#[test]
fn flags_of_an_issuer_are_named_and_nothing_is_changed() {
    let desired = good("apiserver.anonymous = \"health-only\"");
    let mut facts = cluster(&["cp1", "cp2"], &desired);
    give(
        &mut facts,
        "cp2",
        "--oidc-issuer-url=https://login.example.com",
    );
    let plan = build(&desired, &facts);
    insta::assert_snapshot!(problems(&plan).join("\n"), @r"
    Error cp2 | kube-apiserver --authentication-config (file authentication): manifest has --oidc-issuer-url, and kube-apiserver does not start with that and --authentication-config; nothing is changed
    Error cp2 | kube-apiserver --authentication-config (file authentication): process has --oidc-issuer-url, and kube-apiserver does not start with that and --authentication-config; nothing is changed
    ");
    assert!(plan.problems[0].remedy.contains("apiserver.jwt"));
    assert!(plan.is_clean() && plan.stages.is_empty());
}

#[test]
fn a_file_of_somebody_else_is_named_before_it_is_left() {
    let desired = good("apiserver.anonymous = \"health-only\"");
    let mut facts = cluster(&["cp1"], &desired);
    give(
        &mut facts,
        "cp1",
        "--authentication-config=/etc/kubernetes/auth.yaml",
    );
    let plan = build(&desired, &facts);
    insta::assert_snapshot!(problems(&plan).join("\n"), @"Warning cp1 | kube-apiserver --authentication-config (file authentication): /etc/kubernetes/auth.yaml is no longer read, and what it says no longer holds");
    assert!(!plan.is_incomplete());
    execute(&plan, &mut facts);
    assert_eq!(problems(&build(&desired, &facts)), [""; 0]);
}

const ISSUER: &str = r#"
accept = ["apiserver.jwt"]
[apiserver.jwt.corp]
issuer        = { url = "https://login.example.com", audiences = ["kubernetes"] }
claimMappings = { username = { claim = "sub", prefix = "corp:" }, groups = { claim = "groups", prefix = "corp:" } }
"#;

#[test]
fn issuers_and_anonymous_access_share_one_file() {
    let text = format!(
        "{ISSUER}[apiserver.jwt.ci]\n\
         issuer = {{ url = \"https://ci.example.com\", audiences = [\"a\", \"b\"], audienceMatchPolicy = \"MatchAny\" }}\n\
         claimMappings.username.expression = '\"ci:\" + claims.sub'\n\
         claimValidationRules = [{{ claim = \"hd\", requiredValue = \"yes\" }}]\n\
         userValidationRules = [{{ expression = \"!user.username.startsWith('system:')\" }}]\n\
         [apiserver]\nanonymous = \"health-only\"\n"
    );
    let desired = good(&text);
    insta::assert_snapshot!(file_of(&desired, "authentication-config").unwrap(), @r#"
    apiVersion: apiserver.config.k8s.io/v1beta1
    kind: AuthenticationConfiguration
    anonymous:
      conditions:
        - path: /livez
        - path: /readyz
        - path: /healthz
      enabled: true
    jwt:
      - claimMappings:
          username:
            expression: "\"ci:\" + claims.sub"
        claimValidationRules:
          - claim: hd
            requiredValue: "yes"
        issuer:
          audienceMatchPolicy: MatchAny
          audiences:
            - a
            - b
          url: https://ci.example.com
        userValidationRules:
          - expression: "!user.username.startsWith('system:')"
      - claimMappings:
          groups:
            claim: groups
            prefix: "corp:"
          username:
            claim: sub
            prefix: "corp:"
        issuer:
          audiences:
            - kubernetes
          url: https://login.example.com
    "#);
    assert_eq!(desired.findings, []);
    planned(&desired);
}

/// With the issuer in the file the flags are no longer needed, and go in the same step.
#[test]
fn an_issuer_takes_the_place_of_its_flags() {
    let desired = good(&format!(
        "{ISSUER}[apiserver]\nanonymous = \"health-only\"\n"
    ));
    let mut facts = cluster(&["cp1"], &desired);
    give(
        &mut facts,
        "cp1",
        "--oidc-issuer-url=https://login.example.com",
    );
    give(&mut facts, "cp1", "--oidc-client-id=kubernetes");
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), [""; 0]);
    execute(&plan, &mut facts);
    let argv = argv(&facts, "cp1", API);
    assert!(
        !argv.iter().any(|word| word.starts_with("--oidc-")),
        "{argv:?}"
    );
    assert!(build(&desired, &facts).is_clean());
}

/// The consent that one part needs is asked for by the name of that part, and holds back the whole
/// file: half of it would be another file.
#[test]
fn consent_is_asked_for_the_part_that_needs_it() {
    let text = ISSUER.replace(
        "accept = [\"apiserver.jwt\"]",
        "accept = [\"apiserver.anonymous\"]",
    );
    let desired = good(&format!("{text}[apiserver]\nanonymous = \"health-only\"\n"));
    let plan = build(&desired, &cluster(&["cp1"], &desired));
    assert!(plan.is_clean());
    assert_eq!(plan.problems.len(), 1);
    assert_eq!(
        plan.problems[0].remedy,
        "if you mean it, add \"apiserver.jwt.corp\" to `accept` in harden.toml"
    );
}

#[test]
fn what_the_api_server_would_refuse_of_an_issuer() {
    for (table, told) in [
        (
            "issuer.url = \"https://a\"\nclaimMappings.username.expression = \"x\"",
            "no `issuer` with `url` and `audiences`",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [] }\nclaimMappings.username.expression = \"x\"",
            "no `issuer` with `url` and `audiences`",
        ),
        (
            "issuer = { url = \"http://a\", audiences = [\"k\"] }\nclaimMappings.username.expression = \"x\"",
            "must be a string that matches",
        ),
        (
            "issuer = { url = \"https://u:p@a\", audiences = [\"k\"] }\nclaimMappings.username.expression = \"x\"",
            "must be a string that matches",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\", \"l\"] }\nclaimMappings.username.expression = \"x\"",
            "several audiences",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"] }\nclaimMappings.username.claim = \"sub\"",
            "does not say which name its users get",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"] }\nclaimMappings.username = { claim = \"sub\", prefix = \"a:\", expression = \"x\" }",
            "does not say which name its users get",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"] }\nclaimMappings = { username.expression = \"x\", groups.claim = \"g\" }",
            "which groups its users are in",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"] }\nclaimMappings.username.expression = \"x\"\nclaimValidationRules = [{ claim = \"a\", message = \"m\" }]",
            "`claimValidationRules`",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"] }\nclaimMappings.username.expression = \"x\"\nuserValidationRules = [{ message = \"m\" }]",
            "`userValidationRules`",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"], certificateAuthority = \"x\" }\nclaimMappings.username.expression = \"x\"",
            "must be a string that matches",
        ),
        (
            "issuer = { url = \"https://a\", audiences = [\"k\"], typo = 1 }",
            "has no field `typo`",
        ),
    ] {
        let said = wrong(&format!("[apiserver.jwt.corp]\n{table}\n"));
        assert!(said.contains(told), "{table}\n{said}");
        assert!(said.contains("help: "), "{said}");
    }
    let twice = "issuer = { url = \"https://a\", audiences = [\"k\"] }\nclaimMappings.username.expression = \"x\"\n";
    let said = wrong(&format!(
        "[apiserver.jwt.a]\n{twice}[apiserver.jwt.b]\n{twice}"
    ));
    assert!(
        said.contains("the issuer `a` has the `url` of another one"),
        "{said}"
    );
}

#[test]
fn an_issuer_that_could_name_system_masters_is_a_finding() {
    let desired = good(&ISSUER.replace(
        "claim = \"groups\", prefix = \"corp:\"",
        "claim = \"groups\", prefix = \"\"",
    ));
    assert!(desired.findings[0].message.contains("system:masters"));
}

// ------------------------------------------------------------------ admission

const LIMITS: &str = "[admission.event-rate-limit]\nlimits = [{ type = \"Server\", qps = 50, burst = 100 }, { type = \"User\", qps = 5, burst = 10, cacheSize = 20 }]\n";

/// Without its configuration the plugin keeps the API server from starting, so neither comes alone.
#[test]
fn event_rate_limit_comes_with_its_limits() {
    let desired = good(&format!(
        "[apiserver]\nadmission-plugins = [\"NodeRestriction\"]\n{LIMITS}"
    ));
    insta::assert_snapshot!(file_of(&desired, "admission-control-config-file").unwrap(), @r"
    apiVersion: apiserver.config.k8s.io/v1
    kind: AdmissionConfiguration
    plugins:
      - configuration:
          apiVersion: eventratelimit.admission.k8s.io/v1alpha1
          kind: Configuration
          limits:
            - burst: 100
              qps: 50
              type: Server
            - burst: 10
              cacheSize: 20
              qps: 5
              type: User
        name: EventRateLimit
    ");
    let plan = planned(&desired);
    assert_eq!(problems(&plan), [""; 0]);
    let list = "--enable-admission-plugins=NodeRestriction,EventRateLimit";
    let text = serde_json::to_string(&plan.stages).unwrap();
    assert!(text.contains(list), "{text}");
}

#[test]
fn limits_without_a_number_and_no_limits_are_refused() {
    for limits in [
        "[]",
        "[{ type = \"Server\", qps = 5 }]",
        "[{ qps = 5, burst = 5 }]",
    ] {
        let said = wrong(&format!(
            "[admission.event-rate-limit]\nlimits = {limits}\n"
        ));
        assert!(
            said.contains("needs limits, each with `type`, `qps` and `burst`"),
            "{said}"
        );
    }
    for limit in [
        "type = \"server\", qps = 5, burst = 5",
        "type = \"User\", qps = 0, burst = 5",
    ] {
        wrong(&format!(
            "[admission.event-rate-limit]\nlimits = [{{ {limit} }}]\n"
        ));
    }
    let desired = good("apiserver.admission-plugins = [\"EventRateLimit\"]");
    assert!(
        desired.findings[0]
            .help
            .contains("admission.event-rate-limit")
    );
}

#[test]
fn the_defaults_of_pod_security_never_count_for_kube_system() {
    let text = "accept = [\"admission.pod-security\"]\n[admission.pod-security]\n\
                defaults = { enforce = \"baseline\", enforce-version = \"v1.35\", warn = \"restricted\" }\n";
    insta::assert_snapshot!(file_of(&good(text), "admission-control-config-file").unwrap(), @r"
    apiVersion: apiserver.config.k8s.io/v1
    kind: AdmissionConfiguration
    plugins:
      - configuration:
          apiVersion: pod-security.admission.config.k8s.io/v1
          defaults:
            enforce: baseline
            enforce-version: v1.35
            warn: restricted
          exemptions:
            namespaces:
              - kube-system
          kind: PodSecurityConfiguration
        name: PodSecurity
    ");
    // A namespace that stands twice is refused by the API server.
    let more = format!(
        "{text}exemptions = {{ namespaces = [\"kube-system\", \"storage\"], usernames = [\"admin\"], runtimeClasses = [\"kata\"] }}\n"
    );
    let file = yaml(&file_of(&good(&more), "admission-control-config-file").unwrap());
    assert_eq!(
        file["plugins"][0]["configuration"]["exemptions"],
        json!({"namespaces": ["kube-system", "storage"], "usernames": ["admin"], "runtimeClasses": ["kata"]})
    );
    planned(&good(&more));
}

#[test]
fn only_the_mode_that_refuses_pods_asks_for_consent() {
    let of = |defaults: &str| {
        let desired = good(&format!("admission.pod-security.defaults = {defaults}"));
        assert_eq!(desired.resources.len(), 1);
        desired.resources[0].risk
    };
    assert_eq!(
        of("{ audit = \"restricted\", warn = \"restricted\" }"),
        Risk::Restart
    );
    assert_eq!(
        of("{ enforce = \"baseline\", warn = \"restricted\" }"),
        Risk::Guarded
    );
}

/// The plugin is not turned on while its configuration waits for consent.
#[test]
fn a_flag_is_held_back_with_the_file_that_it_needs() {
    let text = format!("{LIMITS}[admission.pod-security]\ndefaults.enforce = \"baseline\"\n");
    let mut facts = cluster(&["cp1"], &good(&text));
    for (query, answer) in &mut facts.api.answers {
        if let ApiQuery::PodsBelow(_) = query {
            *answer = Fact::Value(pods_below(&["shop/web"]));
        }
    }
    let plan = build(&good(&text), &facts);
    assert!(plan.is_clean(), "{:#?}", lines(&plan));
    let told = problems(&plan).join("\n");
    assert!(told.contains("--enable-admission-plugins: it needs kube-apiserver --admission-control-config-file, which is left undone"), "{told}");
    assert!(
        plan.problems[0]
            .remedy
            .contains("add \"admission.pod-security.defaults.enforce\" to `accept`"),
        "{:?}",
        plan.problems
    );
    let accepted = good(&format!("accept = [\"admission.pod-security\"]\n{text}"));
    let mut facts = cluster(&["cp1"], &accepted);
    execute(&build(&accepted, &facts), &mut facts);
    assert!(build(&accepted, &facts).is_clean());
    // What was applied stays when the consent is taken back.
    let after = build(&good(&text), &facts);
    assert!(
        after.is_clean() && !after.is_incomplete(),
        "{:?}",
        problems(&after)
    );
}

#[test]
fn a_file_that_cannot_be_read_holds_the_flag_back_as_well() {
    let desired = good(LIMITS);
    let mut facts = cluster(&["cp1"], &desired);
    let path = facts.nodes["cp1"]
        .facts
        .value()
        .unwrap()
        .keys()
        .find_map(|query| match query {
            Query::File(path) if path.as_str().contains("/admission-") => Some(path.clone()),
            _ => None,
        });
    put(
        &mut facts,
        "cp1",
        Query::File(path.unwrap()),
        Fact::Unreadable("refused".into()),
    );
    let plan = build(&desired, &facts);
    assert!(
        !lines(&plan).join("\n").contains("enable-admission-plugins"),
        "{:#?}",
        lines(&plan)
    );
    assert!(plan.is_incomplete());
}

#[test]
fn exemptions_and_versions_need_levels() {
    let said = wrong("admission.pod-security.exemptions.namespaces = [\"a\"]");
    assert!(said.contains("levels that are nowhere set"), "{said}");
    let said = wrong(
        "admission.pod-security.defaults = { warn = \"baseline\", audit-version = \"latest\" }",
    );
    assert!(
        said.contains("a version for a mode without a level"),
        "{said}"
    );
}

/// What docs/profiles.md shows of these files holds together.
#[test]
fn the_example_of_the_page_is_whole() {
    let page = include_str!("../../docs/profiles.md");
    let (_, rest) = page.split_once("## The API server's files").unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let desired = good(rest.split_once("```").unwrap().0);
    assert_eq!(desired.findings, []);
    let plan = planned(&desired);
    // The page consents to what cannot be proven.
    let unproven =
        |problem: &String| problem.contains("accepted, although pods-admitted is not known");
    let mut problems = problems(&plan);
    problems.retain(|problem| !unproven(problem));
    assert_eq!(problems, [""; 0]);
}

// ------------------------------------------------------------------ what several contribute

fn additive(value: Value) -> Kind {
    Kind::from_table(
        "flag",
        json!({"component": "kube-apiserver", "name": "f", "value": value, "merge": "additive"}),
    )
    .unwrap()
}

#[test]
fn only_flags_that_are_the_same_become_one() {
    // Shares of one list stay apart, so that one that needs consent does not hold the others back.
    let (one, other) = (additive(json!(["A"])), additive(json!(["B"])));
    assert!(one.behaviour().unite(&other).is_none());
    assert_eq!(one.behaviour().unite(&one).unwrap().unwrap(), one);
    let exact = |value: &str| flag("f", value).kind;
    assert!(exact("a").behaviour().unite(&exact("b")).is_none());
    assert!(
        exact("a")
            .behaviour()
            .unite(&additive(json!("a")))
            .is_none()
    );
}

fn part(content: Value) -> Kind {
    let table = json!({"component": "kube-apiserver", "flag": "f", "name": "n", "merge": "additive", "content": content});
    Kind::from_table("component-file", table).unwrap()
}

#[test]
fn additive_files_become_one() {
    let united = |a: Value, b: Value| part(a).behaviour().unite(&part(b)).unwrap();
    assert_eq!(
        united(
            json!({"a": 1, "l": [{"name": "x", "v": 1}, 2]}),
            json!({"b": {"c": true}, "l": [2, {"name": "x", "w": 2}, {"name": "y"}]})
        )
        .unwrap(),
        part(
            json!({"a": 1, "b": {"c": true}, "l": [{"name": "x", "v": 1, "w": 2}, 2, {"name": "y"}]})
        )
    );
    let why = united(
        json!({"l": [{"name": "x", "v": 1}]}),
        json!({"l": [{"name": "x", "v": 2}]}),
    );
    assert_eq!(why.unwrap_err(), "l[x].v cannot be both 1 and 2");
    let other =
        json!({"component": "kube-apiserver", "flag": "f", "name": "n", "content": {"a": 1}});
    let other = Kind::from_table("component-file", other).unwrap();
    assert!(part(json!({"a": 1})).behaviour().unite(&other).is_none());
}

#[test]
fn a_table_and_its_yaml_are_the_same_file() {
    let table = part(json!({"z": "on", "apiVersion": "v1", "list": [{"b": 1, "a": "0644"}]}));
    let text = "apiVersion: v1\nlist:\n  - a: \"0644\"\n    b: 1\nz: \"on\"\n";
    let content = |kind: &Kind| {
        kind.behaviour()
            .parts()
            .into_iter()
            .find_map(|part| match part {
                Part::File { content, .. } => Some(content),
                _ => None,
            })
    };
    assert_eq!(content(&table).unwrap(), text);
}

#[test]
fn tables_of_files_are_checked() {
    let base =
        json!({"component": "kube-apiserver", "flag": "f", "name": "n", "content": {"a": 1}});
    for (field, value) in [
        ("content", json!([])),
        ("content", json!({})),
        ("content", json!(1)),
        ("merge", json!("absent")),
        ("replaces", json!(["--a"])),
        ("replaces", json!(["f"])),
        ("refuses", json!({"flags": ["a"]})),
        ("refuses", json!({"flags": ["A b"], "remedy": "x"})),
    ] {
        let mut table = base.clone();
        table[field] = value.clone();
        assert!(
            Kind::from_table("component-file", table).is_err(),
            "{field} {value}"
        );
    }
    let text = json!({"component": "kube-apiserver", "flag": "f", "name": "n", "content": "a: 1", "merge": "additive"});
    assert!(Kind::from_table("component-file", text).is_err());
}

// ------------------------------------------------------------------ audit

const POLICIES: [&str; 4] = [
    "audit.policy = \"metadata\"",
    "audit.policy = \"baseline\"",
    "audit.policy = \"writes\"",
    "audit.policy-rules = [{ level = \"None\", users = [\"a\"] }, { level = \"Metadata\" }]",
];

/// A log in a path that is no volume of the pod is lost with the container.
#[test]
fn rke2_4026_audit_log_lies_on_the_host() {
    for text in POLICIES {
        let desired = good(text);
        let path = flag_of(&desired, "audit-log-path");
        assert_eq!(path["value"], "/var/log/kubernetes/audit/audit.log");
        let volume = flag_of(&desired, "harden-audit-log");
        assert_eq!(volume["hostPath"], "/var/log/kubernetes/audit");
        assert_eq!(volume["mountPath"], "/var/log/kubernetes/audit");
        assert_eq!(volume["readOnly"], false);
        assert!(file_of(&desired, "audit-policy-file").is_some());
        planned(&desired);
    }
}

/// The mount of a single file keeps the old content when the file is replaced: the directory is mounted,
/// and what changes has another name.
#[test]
fn rke2_5604_the_directory_of_the_files_is_mounted() {
    for text in POLICIES {
        let desired = good(text);
        let volume = flag_of(&desired, "harden");
        assert_eq!(volume["hostPath"], "/etc/kubernetes/harden");
        assert_eq!(volume["pathType"], "DirectoryOrCreate");
        assert_eq!(volume["readOnly"], true);
    }
    let files: std::collections::BTreeSet<_> = POLICIES
        .iter()
        .map(|text| flag_of(&good(text), "audit-policy-file")["value"].to_string())
        .collect();
    assert_eq!(files.len(), POLICIES.len());
}

#[test]
fn one_policy_at_a_time() {
    let text = format!("{}\n{}", POLICIES[0], POLICIES[3]);
    let said = wrong(&text);
    assert!(said.contains("unset = [\"audit.policy\"]"), "{said}");
    let mine = good(&format!(
        "imports = [\"builtin:baseline\"]\nunset = [\"audit.policy\"]\n{}",
        POLICIES[3]
    ));
    let file = yaml(&file_of(&mine, "audit-policy-file").unwrap());
    assert_eq!(file["rules"][0]["users"][0], "a");
}

#[test]
fn a_policy_of_ones_own_is_checked_where_it_is_written() {
    let said = wrong("audit.policy-rules = [{ level = \"Request\" }]");
    insta::assert_snapshot!(said.lines().next().unwrap(), @"error: this resource cannot be made: audit policy, rule 1: it would write the bodies of secrets into the log; put a rule with the level Metadata for secrets before it, without users or namespaces; audit policy, rule 1: it would write the bodies of tokenreviews into the log; put a rule with the level Metadata for tokenreviews before it, without users or namespaces");
    assert!(
        said.contains("audit.policy-rules at harden.toml:1"),
        "{said}"
    );
}

const POLICY_FILE: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
metadata: {name: ours}
omitStages: [RequestReceived, Panic]
omitManagedFields: true
rules:
# the noise
- level: None
  users: [system:kube-proxy]
- level: Metadata
  users: [ci]
  omitStages: [ResponseStarted, Panic]
  omitManagedFields: false
- level: Metadata
";

#[test]
fn a_policy_file_is_imported_as_it_is() {
    let made = |text: &str| {
        let import = "imports = [\"audit.yaml\"]";
        let desired = evaluated_with(import, &[("audit.yaml", text)]);
        let desired = desired.unwrap_or_else(|e| panic!("{e:#}"));
        let path = flag_of(&desired, "audit-log-path");
        assert_eq!(path["value"], "/var/log/kubernetes/audit/audit.log");
        yaml(&file_of(&desired, "audit-policy-file").unwrap())
    };
    // What it says for all rules is said by each.
    assert_eq!(
        made(POLICY_FILE),
        json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [
            {"level": "None", "users": ["system:kube-proxy"]},
            {"level": "Metadata", "users": ["ci"],
                "omitStages": ["ResponseStarted", "Panic", "RequestReceived"],
                "omitManagedFields": false},
            {"level": "Metadata", "omitStages": ["RequestReceived", "Panic"], "omitManagedFields": true},
        ]})
    );
    // And what it does not say is nowhere.
    let plain = "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: Metadata}]\n";
    assert_eq!(made(plain), yaml(plain));
}

#[test]
fn what_is_wrong_with_a_policy_file_is_told_with_its_line() {
    let import = "imports = [\"audit.yaml\"]";
    let said = |text: &str| {
        format!(
            "{:#}",
            evaluated_with(import, &[("audit.yaml", text)]).unwrap_err()
        )
    };
    for (old, new, message, line) in [
        ("kind: Policy", "kind: Pod", "`kind` must be `Policy`", 2),
        (
            "audit.k8s.io/v1",
            "audit.k8s.io/v1beta1",
            "`apiVersion` must be `audit.k8s.io/v1`",
            1,
        ),
        (
            "omitStages",
            "omitStage",
            "a Policy has no field `omitStage`",
            4,
        ),
        (
            "[RequestReceived, Panic]",
            "[Panik]",
            "`omitStages` must be a list of",
            4,
        ),
        (
            "omitManagedFields: true",
            "omitManagedFields: 1",
            "`omitManagedFields` must be true or false",
            5,
        ),
        (
            "- level: None",
            "- level: None\n  level: None",
            "this is not YAML: duplicate",
            9,
        ),
        ("kind: Policy", "kind: [Policy", "this is not YAML", 3),
        (
            "rules:",
            "rules: {}\nruled:",
            "`rules` must be a list of rules",
            6,
        ),
    ] {
        let said = said(&POLICY_FILE.replace(old, new));
        assert!(said.contains(message), "{message}: {said}");
        assert!(said.contains(&format!("--> audit.yaml:{line}:1")), "{said}");
        assert!(said.contains("help: "), "{said}");
    }
    let missing = said("apiVersion: audit.k8s.io/v1\nkind: Policy\n");
    assert!(missing.contains("`rules` is missing"), "{missing}");
    assert!(said("").contains("no YAML mapping"));
    // What a rule says is judged like one of a profile, each fault at its rule.
    let text = POLICY_FILE.replace(
        "- level: Metadata\n  users",
        "- level: Metadata\n  verbs: [sing]\n  users",
    );
    let text = text.replace("\n- level: Metadata\n", "\n- level: Request\n");
    let faults = said(&text);
    for (message, place) in [
        ("no request has the verb \"sing\"", "--> audit.yaml:10:1"),
        (
            "it would write the bodies of secrets",
            "--> audit.yaml:15:1",
        ),
    ] {
        let (_, rest) = faults
            .split_once(message)
            .unwrap_or_else(|| panic!("{message}: {faults}"));
        assert!(
            rest.lines().nth(1).is_some_and(|line| line.contains(place)),
            "{faults}"
        );
    }
    assert!(!faults.contains("builtin:"), "{faults}");
    // To Kubernetes, null is what is not there.
    let null = POLICY_FILE.replace("users: [ci]", "users:");
    assert!(said(&null).contains("never reached"));
    // It is one policy among others.
    let two = format!("{import}\naudit.policy = \"metadata\"");
    let two = evaluated_with(&two, &[("audit.yaml", POLICY_FILE)]).unwrap_err();
    assert!(
        format!("{two:#}").contains("there is one policy"),
        "{two:#}"
    );
}

#[test]
fn the_backend_of_the_log_is_tuned() {
    let desired = good(
        "[audit]\nlog-mode = \"batch\"\nlog-compress = true\nlog-truncate-enabled = true\n\
         log-batch-max-wait = \"90s\"\nlog-batch-buffer-size = 5\nlog-truncate-max-event-size = 2048\n",
    );
    for (flag, value) in [
        ("audit-log-mode", "batch"),
        ("audit-log-compress", "true"),
        ("audit-log-truncate-enabled", "true"),
        ("audit-log-batch-max-wait", "1m30s"),
        ("audit-log-batch-buffer-size", "5"),
        ("audit-log-truncate-max-event-size", "2048"),
    ] {
        assert_eq!(flag_of(&desired, flag)["value"], value, "{flag}");
    }
    assert_eq!(desired.findings, []);
    let said = wrong("audit.log-truncate-max-batch-size = 2048");
    assert!(said.contains("larger than a batch"), "{said}");
    let desired = good("audit.log-batch-max-size = 5");
    assert_eq!(desired.findings, []);
    let desired = good("audit.log-batch-max-size = 5\naudit.log-mode = \"blocking\"");
    assert!(desired.findings[0].message.contains("does nothing"));
}

/// A full disk, or a webhook that is away, would stop the API.
#[test]
fn modes_that_can_stop_the_api_ask_for_consent() {
    for (text, risk) in [
        ("audit.log-mode = \"batch\"", Risk::Restart),
        ("audit.log-mode = \"blocking\"", Risk::Restart),
        ("audit.log-mode = \"blocking-strict\"", Risk::Guarded),
        ("audit.webhook-mode = \"batch\"", Risk::Restart),
        ("audit.webhook-mode = \"blocking\"", Risk::Guarded),
        ("audit.webhook-mode = \"blocking-strict\"", Risk::Guarded),
    ] {
        assert_eq!(good(text).resources[0].risk, risk, "{text}");
    }
}

#[test]
fn the_webhook_proves_itself_by_files_on_the_node() {
    let text = "[audit]\npolicy = \"metadata\"\nwebhook-initial-backoff = \"5s\"\n[audit.webhook-config]\n\
        server = \"https://audit.example.com\"\ncertificate-authority = \"/etc/kubernetes/pki/audit-ca.crt\"\n\
        client-certificate = \"/etc/kubernetes/pki/audit/client.crt\"\nclient-key = \"/etc/kubernetes/pki/audit/client.key\"\n";
    let desired = good(text);
    insta::assert_snapshot!(file_of(&desired, "audit-webhook-config-file").unwrap(), @r"
    apiVersion: v1
    kind: Config
    clusters:
      - cluster:
          certificate-authority: /etc/kubernetes/pki/audit-ca.crt
          server: https://audit.example.com
        name: audit
    contexts:
      - context:
          cluster: audit
          user: kube-apiserver
        name: audit
    current-context: audit
    users:
      - name: kube-apiserver
        user:
          client-certificate: /etc/kubernetes/pki/audit/client.crt
          client-key: /etc/kubernetes/pki/audit/client.key
    ");
    assert_eq!(desired.findings, []);
    planned(&desired);
    for wrong_one in [
        "server = \"http://a\"",
        "server = \"https://user:secret@a\"",
        "server = \"https://a\"\ntoken = \"secret\"",
        "server = \"https://a\"\nclient-key = \"/etc/kubernetes/pki/a.key\"",
        "server = \"https://a\"\ntokenFile = \"/root/token\"",
        "server = \"https://a\"\ntokenFile = \"/etc/kubernetes/pki/../admin.conf\"",
        "server = \"https://a\"\ncertificate-authority = \"/etc/kubernetes/pki/a\"\ncertificate-authority-data = \"YQ==\"",
        "tokenFile = \"/etc/kubernetes/pki/token\"",
    ] {
        assert!(
            wrong(&format!("[audit.webhook-config]\n{wrong_one}\n")).contains("help: "),
            "{wrong_one}"
        );
    }
    let desired = good("[audit.webhook-config]\nserver = \"https://a\"\n");
    assert!(desired.findings[0].message.contains("gets no events"));
}
