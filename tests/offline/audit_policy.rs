//! Audit policies are checked before anything is planned: what the API server would refuse, what it would
//! never reach, and what must not be in a log.
use harden::resource::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};

fn faults(policy: &Value) -> Vec<String> {
    let table = json!({
        "component": "kube-apiserver", "flag": "audit-policy-file", "name": "audit-policy", "content": policy,
    });
    match Kind::from_table("component-file", table) {
        Ok(_) => Vec::new(),
        Err(why) => why.split("; audit policy").map(str::to_owned).collect(),
    }
}

fn policy(rules: Value) -> Value {
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})
}

#[track_caller]
fn refused(rules: Value, told: &[&str]) {
    let faults = faults(&policy(rules.clone()));
    assert_eq!(faults.len(), told.len(), "{rules}: {faults:#?}");
    for (fault, told) in faults.iter().zip(told) {
        assert!(fault.contains(told), "{rules}: {fault}");
        assert!(fault.contains("; "), "no remedy: {fault}");
    }
}

#[track_caller]
fn accepted(rules: Value) {
    assert_eq!(faults(&policy(rules)), [""; 0]);
}

#[test]
fn every_field_of_a_rule_is_known() {
    accepted(json!([
        {"level": "None", "nonResourceURLs": ["/healthz*", "/version", "*"], "verbs": ["get", "head"]},
        {"level": "Request", "users": ["a"], "userGroups": ["b"], "verbs": ["create", "deletecollection"],
         "resources": [{"group": "apps", "resources": ["deployments", "*/scale"], "resourceNames": ["x"]}],
         "namespaces": ["", "kube-system"], "omitStages": ["ResponseStarted"], "omitManagedFields": true},
        {"level": "Metadata", "omitStages": ["RequestReceived", "Panic", "ResponseComplete"]},
    ]));
}

#[test]
fn what_is_no_policy() {
    for (policy, told) in [
        (
            json!({"kind": "Policy", "rules": []}),
            "missing field `apiVersion`",
        ),
        (
            json!({"apiVersion": "audit.k8s.io/v1beta1", "kind": "Policy", "rules": [{"level": "Metadata"}]}),
            "audit.k8s.io/v1beta1",
        ),
        (
            json!({"apiVersion": "audit.k8s.io/v1", "kind": "PolicyList", "rules": [{"level": "Metadata"}]}),
            "PolicyList",
        ),
        (
            json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}),
            "it has no rule",
        ),
        (
            json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rule": [{"level": "Metadata"}]}),
            "unknown field `rule`",
        ),
        (
            json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}], "omitStages": ["Done"]}),
            "no stage \"Done\"",
        ),
        (json!("rules: ["), "YAML"),
        (json!("just a text"), "audit policy"),
    ] {
        let faults = faults(&policy);
        assert_eq!(faults.len(), 1, "{policy}: {faults:#?}");
        assert!(faults[0].contains(told), "{policy}: {}", faults[0]);
    }
}

#[test]
fn a_fault_names_its_rule_and_the_remedy() {
    let catch_all = json!({"level": "Metadata"});
    for (rule, told) in [
        (json!({"level": "metadata"}), "unknown variant `metadata`"),
        (json!({"verbs": ["get"]}), "missing field `level`"),
        (
            json!({"level": "None", "verb": ["get"]}),
            "unknown field `verb`",
        ),
        (json!({"level": "None", "users": "a"}), "invalid type"),
        (
            json!({"level": "None", "verbs": ["GET"]}),
            "no request has the verb \"GET\"",
        ),
        (
            json!({"level": "None", "verbs": ["*"]}),
            "no request has the verb \"*\"",
        ),
        (
            json!({"level": "None", "verbs": ["list"], "nonResourceURLs": ["/a"]}),
            "no request has the verb \"list\"",
        ),
        (
            json!({"level": "None", "verbs": ["post"], "namespaces": ["a"]}),
            "no request has the verb \"post\"",
        ),
        (
            json!({"level": "None", "users": ["system:serviceaccount:kube-system:*"]}),
            "users knows no wildcards",
        ),
        (
            json!({"level": "None", "userGroups": ["*"]}),
            "userGroups knows no wildcards",
        ),
        (
            json!({"level": "None", "namespaces": ["kube-*"]}),
            "namespaces knows no wildcards",
        ),
        (
            json!({"level": "None", "nonResourceURLs": ["healthz"]}),
            "is no path",
        ),
        (
            json!({"level": "None", "nonResourceURLs": ["/a/*/b"]}),
            "is no path",
        ),
        (
            json!({"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]}),
            "make two rules of it",
        ),
        (
            json!({"level": "None", "nonResourceURLs": ["/a"], "resources": [{"group": ""}]}),
            "make two rules of it",
        ),
        (
            json!({"level": "None", "resources": [{"group": "apps/v1"}]}),
            "is no API group",
        ),
        (
            json!({"level": "None", "resources": [{"group": "*"}]}),
            "is no API group",
        ),
        (
            json!({"level": "None", "resources": [{"resourceNames": ["a"]}]}),
            "name those as well",
        ),
        (
            json!({"level": "None", "resources": [{"resources": ["pods"], "resourceNames": ["a*"]}]}),
            "resourceNames knows no wildcards",
        ),
        (
            json!({"level": "None", "resources": [{"resources": ["Pods"]}]}),
            "is no resource",
        ),
        (
            json!({"level": "None", "resources": [{"resources": ["pods/log/x"]}]}),
            "is no resource",
        ),
        (
            json!({"level": "None", "resources": ["pods"]}),
            "invalid type",
        ),
        (
            json!({"level": "None", "omitStages": ["Nothing"], "users": ["a"]}),
            "no stage \"Nothing\"",
        ),
    ] {
        refused(
            json!([{"level": "None", "users": ["x"]}, rule, catch_all]),
            &[told],
        );
        let faults = faults(&policy(
            json!([{"level": "None", "users": ["x"]}, rule, catch_all]),
        ));
        assert!(
            faults[0].starts_with("audit policy, rule 2: "),
            "{}",
            faults[0]
        );
    }
}

#[test]
fn every_fault_is_told_at_once() {
    refused(
        json!([{"level": "None", "verbs": ["read"]}, {"level": "Metadata", "users": ["*"]}]),
        &["verb \"read\"", "rule 2: users"],
    );
}

#[test]
fn rules_behind_a_catch_all_are_never_reached() {
    let secrets = json!({"level": "Metadata", "resources": [{"resources": ["secrets"]}]});
    refused(
        json!([{"level": "Metadata"}, secrets, {"level": "None", "users": ["a"]}]),
        &[
            "rule 2: rule 1 matches every request",
            "rule 3: rule 1 matches every request",
        ],
    );
    // Each of these looks at something, and lets others through.
    for field in ["users", "userGroups", "namespaces"] {
        accepted(json!([{"level": "None", field: ["a"]}, {"level": "Metadata"}]));
    }
    accepted(json!([{"level": "None", "verbs": ["watch"]}, {"level": "Metadata"}]));
    accepted(json!([{"level": "None", "nonResourceURLs": ["*"]}, {"level": "Metadata"}]));
    accepted(json!([{"level": "None", "resources": [{"group": ""}]}, {"level": "Metadata"}]));
}

#[test]
fn a_policy_that_records_nothing() {
    refused(json!([{"level": "None"}]), &["no rule records anything"]);
}

fn shield() -> Value {
    json!({"level": "Metadata", "resources": [
        {"group": "", "resources": ["secrets", "serviceaccounts/token"]},
        {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
    ]})
}

#[test]
fn bodies_of_secrets_do_not_reach_the_log() {
    refused(
        json!([{"level": "RequestResponse"}]),
        &[
            "bodies of secrets",
            "bodies of serviceaccounts/token",
            "bodies of tokenreviews",
        ],
    );
    accepted(json!([shield(), {"level": "RequestResponse"}]));
    // Behind it comes too late, and for some users or namespaces only is not enough.
    refused(
        json!([{"level": "Request", "resources": [{"group": ""}]}, shield()]),
        &["rule 1: it would write the bodies of secrets"],
    );
    for (field, value) in [("users", "a"), ("userGroups", "a"), ("namespaces", "a")] {
        let mut partly = shield();
        partly[field] = json!([value]);
        refused(
            json!([partly, {"level": "Request", "resources": [{"resources": ["secrets"]}]}, {"level": "Metadata"}]),
            &["rule 2: it would write the bodies of secrets"],
        );
    }
    let one = json!({"level": "Metadata", "resources": [{"resources": ["secrets"], "resourceNames": ["a"]}]});
    refused(
        json!([one, {"level": "Request", "resources": [{"resources": ["secrets"]}]}]),
        &["bodies of secrets"],
    );
}

#[test]
fn wildcards_reach_secrets_as_well() {
    for resources in [
        json!([]),
        json!(["*"]),
        json!(["secrets"]),
        json!(["pods", "secrets/*"]),
    ] {
        let rule = json!({"level": "Request", "resources": [{"resources": resources}]});
        refused(json!([rule]), &["bodies of secrets"]);
    }
    for resources in [
        json!(["*/token"]),
        json!(["serviceaccounts/*"]),
        json!(["serviceaccounts/token"]),
    ] {
        let rule = json!({"level": "RequestResponse", "resources": [{"resources": resources}]});
        refused(json!([rule]), &["bodies of serviceaccounts/token"]);
        // The request holds no token, only the response does.
        accepted(json!([{"level": "Request", "resources": [{"resources": resources}]}]));
    }
    for resources in [
        json!(["pods"]),
        json!(["serviceaccounts"]),
        json!(["*/scale"]),
    ] {
        accepted(json!([{"level": "RequestResponse", "resources": [{"resources": resources}]}]));
    }
    accepted(
        json!([{"level": "RequestResponse", "resources": [{"group": "apps", "resources": ["*"]}]}]),
    );
    accepted(json!([{"level": "RequestResponse", "nonResourceURLs": ["*"]}]));
}

#[test]
fn only_what_holds_a_body_counts() {
    let secrets = json!([{"resources": ["secrets"]}]);
    // What is read is in the response, what is written in both.
    accepted(
        json!([{"level": "Request", "verbs": ["get", "list", "watch", "delete"], "resources": secrets}]),
    );
    for (level, verb) in [
        ("Request", "update"),
        ("RequestResponse", "list"),
        ("RequestResponse", "patch"),
    ] {
        refused(
            json!([{"level": level, "verbs": [verb], "resources": secrets}]),
            &["bodies of secrets"],
        );
    }
    // Verb by verb it is enough as well.
    accepted(json!([
        {"level": "Metadata", "verbs": ["create", "update"], "resources": secrets},
        {"level": "None", "verbs": ["patch"], "resources": secrets},
        {"level": "Request", "resources": secrets},
    ]));
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = "level|None|Metadata|rules|\\*|secrets|get|/x|[a-z]{0,3}";
    let leaf = prop_oneof![
        word.prop_map(Value::from),
        Just(Value::Null),
        any::<u8>().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = "level|users|verbs|resources|group|nonResourceURLs|namespaces|omitStages|rules|kind|apiVersion";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_policy_is_answered(rules in any_json()) {
        let _ = faults(&policy(rules.clone()));
        let _ = faults(&rules);
    }
}
