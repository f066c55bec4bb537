//! Guarded changes: made when what they require is so, or when an earlier stage of the same plan makes
//! it so, or when the profile accepts them; and who would be hit.
use crate::plan_support::*;
use harden::fact::*;
use harden::plan::*;
use harden::report::{PlanText, plan_text};
use harden::resource::precondition::{Found, Precondition};
use harden::resource::*;
use serde_json::{Value, json};

const AUTHORITY: &str = "kubelet-certificate-authority";
const OPTION: &str = "apiserver.kubelet-certificate-authority";

fn guarded(flag_name: &str, requires: &[Precondition]) -> Resource {
    let mut one = flag(flag_name, "x");
    one.risk = Risk::Guarded;
    one.requires = requires.iter().copied().collect();
    one.origins[0].option = format!("apiserver.{flag_name}");
    one
}

fn authority() -> Resource {
    guarded(AUTHORITY, &[Precondition::KubeletServingCertificates])
}

fn certificates() -> Vec<Resource> {
    vec![
        resource(
            "kubelet",
            json!({"field": "serverTLSBootstrap", "value": true}),
        ),
        resource("serving-certificate", json!({})),
    ]
}

fn answer_with(facts: &mut Facts, query: ApiQuery, answer: Value) {
    facts.api.answers.insert(query, Fact::Value(answer));
}

fn set_trusted(facts: &mut Facts, names: &[&str]) {
    for name in names {
        let query = ApiQuery::ServingCertificate((*name).into());
        answer_with(facts, query, served(name, true));
    }
}

fn changes_of(plan: &Plan, name: &str) -> usize {
    plan.changes
        .iter()
        .filter(|c| c.resource.contains(name))
        .count()
}

fn text(plan: &Plan) -> String {
    let text = plan_text(plan, PlanText { details: false });
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn an_earlier_stage_of_the_same_plan_establishes_what_is_required() {
    let mut all = vec![authority()];
    all.extend(certificates());
    let desired = desired(all);
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), Vec::<String>::new());
    assert!(changes_of(&plan, AUTHORITY) > 0);
    assert_eq!(
        stage_names(&plan),
        [
            StageName::Kubelets,
            StageName::ServingCertificates,
            StageName::ControlPlane,
            StageName::KubeadmConfig
        ]
    );
    assert_eq!(plan.impact.preconditions.len(), 1);
    let impact = &plan.impact.preconditions[0];
    assert_eq!(impact.verdict, Verdict::ByThisPlan);
    assert_eq!(impact.who, ["cp1", "worker"]);
    assert!(
        text(&plan).contains(
            "Impact\n  kube-apiserver --kubelet-certificate-authority: kubelet-serving-certificates will hold: an earlier stage of this plan makes it so: cp1, worker"
        ),
        "{}",
        text(&plan)
    );
    execute(&plan, &mut facts);
    let again = build(&desired, &facts);
    assert!(again.is_clean() && again.impact.is_empty());
}

#[test]
fn what_holds_already_needs_no_consent() {
    let desired = desired(vec![authority()]);
    let mut facts = cluster(&["cp1"], &desired);
    set_trusted(&mut facts, &["cp1", "worker"]);
    let plan = build(&desired, &facts);
    assert_eq!(problems(&plan), Vec::<String>::new());
    assert!(changes_of(&plan, AUTHORITY) > 0);
    assert_eq!(plan.impact.preconditions[0].verdict, Verdict::Holds);
    // And the plan is worth nothing once it does not hold any more.
    let query = ApiQuery::ServingCertificate("worker".into());
    answer_with(&mut facts, query, served("worker", false));
    assert_eq!(
        compare(&plan, &facts).moved,
        ["API: serving certificate of the kubelet of worker"]
    );
}

#[test]
fn what_does_not_hold_is_withheld_with_the_names() {
    let desired = desired(vec![authority()]);
    let mut facts = cluster(&["cp1"], &desired);
    set_trusted(&mut facts, &["cp1"]);
    let plan = build(&desired, &facts);
    assert_eq!(changes_of(&plan, AUTHORITY), 0);
    assert_eq!(plan.stages, vec![]);
    let problem = &plan.problems[0];
    assert_eq!(problem.severity, Severity::Error);
    for part in [
        "is not accepted: kubelet-serving-certificates does not hold: 1 node(s)",
        ": worker; left undone: ",
    ] {
        assert!(
            problem.message.contains(part),
            "{part}: {}",
            problem.message
        );
    }
    for part in [
        "kubelet.serving-certificates",
        "`accept` in harden.toml",
        OPTION,
    ] {
        assert!(problem.remedy.contains(part), "{part}: {}", problem.remedy);
    }
    let impact = &plan.impact.preconditions[0];
    assert_eq!((impact.verdict, impact.count), (Verdict::Fails, 1));
    assert!(text(&plan).contains("kubelet-serving-certificates does NOT hold: 1 node(s)"));
}

#[test]
fn consent_overrides_what_does_not_hold_and_keeps_the_evidence() {
    let mut desired = desired(vec![authority()]);
    desired.accept = vec![OPTION.into()];
    let mut facts = cluster(&["cp1"], &desired);
    set_trusted(&mut facts, &["cp1"]);
    let plan = build(&desired, &facts);
    assert!(changes_of(&plan, AUTHORITY) > 0);
    assert!(!plan.is_incomplete());
    assert_eq!(plan.problems.len(), 1);
    let message = &plan.problems[0].message;
    assert!(
        message.starts_with("accepted, although kubelet-serving-certificates does not hold")
            && message.ends_with(": worker"),
        "{message}"
    );
    assert!(plan.impact.preconditions[0].accepted);
    assert!(text(&plan).contains("does NOT hold, accepted"));
}

#[test]
fn what_cannot_be_told_is_an_error_without_consent_and_a_warning_with_it() {
    let mut desired = desired(vec![authority()]);
    let mut facts = cluster(&["cp1"], &desired);
    set_trusted(&mut facts, &["cp1"]);
    facts.api.answers.insert(
        ApiQuery::ServingCertificate("worker".into()),
        Fact::Unreadable("no route".into()),
    );
    let plan = build(&desired, &facts);
    assert!(plan.is_incomplete() && changes_of(&plan, AUTHORITY) == 0);
    assert!(
        plan.problems[0].message.contains("is not known to hold"),
        "{:?}",
        plan.problems
    );
    desired.accept = vec![OPTION.into()];
    let plan = build(&desired, &facts);
    assert!(!plan.is_incomplete() && changes_of(&plan, AUTHORITY) > 0);
    assert_eq!(plan.impact.preconditions[0].verdict, Verdict::Unknown);
}

#[test]
fn a_later_stage_establishes_nothing() {
    // A guarded field of the kubelet comes before the stage of the certificates.
    let mut early = resource("kubelet", json!({"field": "maxPods", "value": 5}));
    early.risk = Risk::Guarded;
    early.requires = [Precondition::KubeletServingCertificates].into();
    let mut all = certificates();
    all.push(early);
    let desired = desired(all);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert_eq!(changes_of(&plan, "maxPods"), 0);
    assert_eq!(plan.impact.preconditions[0].verdict, Verdict::Fails);
}

#[test]
fn what_is_withheld_itself_establishes_nothing() {
    let mut all = vec![authority()];
    all.extend(certificates().into_iter().map(|mut one| {
        one.risk = Risk::Guarded;
        one
    }));
    let desired = desired(all);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean(), "{:?}", lines(&plan));
    assert_eq!(plan.impact.preconditions[0].verdict, Verdict::Fails);
}

#[test]
fn without_a_precondition_only_consent_will_do() {
    let mut desired = desired(vec![guarded("v", &[])]);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && plan.is_incomplete());
    assert_eq!(plan.impact.preconditions, []);
    desired.accept = vec!["apiserver.v".into()];
    assert!(!build(&desired, &facts).is_clean());
}

#[test]
fn what_cannot_be_undone_needs_consent_whatever_holds() {
    let mut one = authority();
    one.risk = Risk::Irreversible;
    let desired = desired(vec![one]);
    let mut facts = cluster(&["cp1"], &desired);
    set_trusted(&mut facts, &["cp1", "worker"]);
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && plan.is_incomplete());
}

#[test]
fn every_precondition_must_hold() {
    let both = [
        Precondition::KubeletServingCertificates,
        Precondition::NoExternalIps,
    ];
    let desired = desired(vec![guarded("v", &both)]);
    let mut facts = cluster(&["cp1"], &desired);
    set_trusted(&mut facts, &["cp1", "worker"]);
    let found = |names: &[&str]| {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        serde_json::to_value(Found::of(names)).unwrap()
    };
    answer_with(&mut facts, ApiQuery::ExternalIps, found(&["shop/web"]));
    let plan = build(&desired, &facts);
    assert!(plan.is_clean());
    assert!(plan.problems[0].message.contains(
        "no-external-ips does not hold: 1 Service(s) with externalIPs: shop/web; left undone"
    ));
    answer_with(&mut facts, ApiQuery::ExternalIps, found(&[]));
    let plan = build(&desired, &facts);
    assert!(!plan.is_clean() && !plan.is_incomplete());
    let verdicts: Vec<Verdict> = plan
        .impact
        .preconditions
        .iter()
        .map(|i| i.verdict)
        .collect();
    assert_eq!(verdicts, [Verdict::Holds, Verdict::Holds]);
    // A Service that gets one until the apply makes the plan stale.
    answer_with(&mut facts, ApiQuery::ExternalIps, found(&["shop/web"]));
    assert_eq!(
        compare(&plan, &facts).moved,
        ["API: Services with externalIPs"]
    );
}

/// Of a resource that was united of several, each part keeps what it requires.
#[test]
fn parts_keep_their_own_preconditions() {
    let part = |option: &str, requires: &[Precondition]| GuardedPart {
        options: [option.to_owned()].into(),
        requires: requires.iter().copied().collect(),
    };
    let mut one = guarded("v", &[]);
    one.consent = vec![
        part("a.one", &[Precondition::NoExternalIps]),
        part("a.two", &[]),
    ];
    let mut desired = desired(vec![one]);
    let mut facts = cluster(&["cp1"], &desired);
    let mut planned = |accept: &[&str], names: &[&str]| {
        desired.accept = accept.iter().map(|a| (*a).to_owned()).collect();
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        let found = serde_json::to_value(Found::of(names)).unwrap();
        answer_with(&mut facts, ApiQuery::ExternalIps, found);
        !build(&desired, &facts).is_clean()
    };
    assert!(!planned(&[], &[]));
    assert!(!planned(&["a.one"], &[]));
    assert!(planned(&["a.two"], &[]));
    assert!(!planned(&["a.two"], &["shop/web"]));
    assert!(planned(&["a.one", "a.two"], &["shop/web"]));
}

#[test]
fn many_who_would_be_hit_are_counted_and_few_are_named() {
    let desired = desired(vec![guarded("v", &[Precondition::NoExternalIps])]);
    let mut facts = cluster(&["cp1"], &desired);
    let names = (0..300).map(|n| format!("shop/web-{n:03}")).collect();
    let found = serde_json::to_value(Found::of(names)).unwrap();
    answer_with(&mut facts, ApiQuery::ExternalIps, found);
    let plan = build(&desired, &facts);
    assert_eq!(
        (
            plan.impact.preconditions[0].count,
            plan.impact.preconditions[0].who.len()
        ),
        (300, 20)
    );
    let text = text(&plan);
    assert!(text.contains(
        "no-external-ips does NOT hold: 300 Service(s) with externalIPs: shop/web-000, "
    ));
    assert!(text.contains("shop/web-009 and 290 more\n"), "{text}");
    assert!(
        plan.problems[0]
            .message
            .contains("shop/web-004 and 295 more")
    );
}

#[test]
fn a_plan_without_impact_is_read_and_one_with_it_keeps_it() {
    let desired = desired(vec![authority()]);
    let facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    let saved = to_saved(&plan).unwrap();
    assert_eq!(
        saved["impact"]["preconditions"][0]["precondition"],
        "kubelet-serving-certificates"
    );
    assert_eq!(saved["impact"]["preconditions"][0]["verdict"], "fails");
    assert_eq!(from_saved(&saved.to_string()).unwrap().impact, plan.impact);
    let clean = build(&crate::plan_support::desired(vec![]), &facts);
    assert!(to_saved(&clean).unwrap().get("impact").is_none());
}

/// A file by which namespaces without a Pod Security level of their own get one.
fn pod_security(level: &str) -> Resource {
    let plugin = json!({"name": "PodSecurity", "configuration": {"defaults": {"enforce": level}}});
    let mut one = resource(
        "component-file",
        json!({"component": "kube-apiserver", "flag": "admission-control-config-file",
            "name": "admission", "content": {"plugins": [plugin]}}),
    );
    one.risk = Risk::Guarded;
    one.requires = [Precondition::PodsAdmitted].into();
    one.origins[0].option = "admission.pod-security.defaults.enforce".into();
    one
}

fn level(level: &str) -> ApiQuery {
    ApiQuery::PodsBelow(PodLevel {
        level: level.into(),
        version: "latest".into(),
        exempt: Default::default(),
    })
}

#[test]
fn pods_that_a_default_level_would_refuse_are_named_and_hold_it_back() {
    let mut desired = desired(vec![pod_security("baseline")]);
    let mut facts = cluster(&["cp1"], &desired);
    answer_with(
        &mut facts,
        level("baseline"),
        pods_below(&["lab/net-1", "shop/agent"]),
    );
    let plan = build(&desired, &facts);
    assert!(plan.is_clean() && plan.is_incomplete());
    assert!(plan.problems[0].message.contains(
        "pods-admitted does not hold: 2 pod(s) below baseline in namespaces without a level of their own, refused when made again: lab/net-1, shop/agent; left undone"
    ), "{:?}", plan.problems);
    let shown = text(&plan);
    assert!(
        shown.contains("Impact\n  kube-apiserver --admission-control-config-file (file admission): pods-admitted does NOT hold: 2 pod(s) below baseline"),
        "{shown}"
    );
    let saved = to_saved(&plan).unwrap();
    assert_eq!(
        saved["impact"]["preconditions"][0]["precondition"],
        "pods-admitted"
    );
    assert_eq!(saved["impact"]["preconditions"][0]["verdict"], "fails");
    assert_eq!(
        saved["impact"]["preconditions"][0]["who"],
        json!(["lab/net-1", "shop/agent"])
    );
    desired.accept = vec!["admission.pod-security.defaults.enforce".into()];
    let plan = build(&desired, &facts);
    assert!(!plan.is_clean() && !plan.is_incomplete());
    assert!(plan.impact.preconditions[0].accepted);
    execute(&plan, &mut facts);
    assert!(build(&desired, &facts).is_clean());
}

#[test]
fn a_plan_does_not_fall_with_the_pods_that_come_and_go() {
    let mut desired = desired(vec![pod_security("baseline")]);
    desired.accept = vec!["admission.pod-security.defaults.enforce".into()];
    let mut facts = cluster(&["cp1"], &desired);
    let plan = build(&desired, &facts);
    assert!(!plan.is_clean() && !plan.is_incomplete());
    assert_eq!(plan.impact.preconditions[0].verdict, Verdict::Unknown);
    let plan = from_saved(&to_saved(&plan).unwrap().to_string()).unwrap();
    answer_with(&mut facts, level("baseline"), pods_below(&["shop/agent"]));
    assert_eq!(compare(&plan, &facts).moved, Vec::<String>::new());
}

/// Two levels are two questions, and an answer to one says nothing of the other.
#[test]
fn a_level_is_judged_by_its_own_answer() {
    let wanted = desired(vec![pod_security("restricted")]);
    let facts = cluster(&["cp1"], &desired(vec![pod_security("baseline")]));
    assert!(facts.api.answers.contains_key(&level("baseline")));
    let plan = build(&wanted, &facts);
    assert_eq!(plan.impact.preconditions[0].verdict, Verdict::Unknown);
    assert!(plan.is_incomplete());
    let mut queries = harden::plan::api_queries(&wanted, facts.nodes.values().map(|n| &n.info));
    assert!(
        queries.remove(&level("restricted")).is_some(),
        "{queries:?}"
    );
}
