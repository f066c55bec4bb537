//! Whom a plan would hit in namespaces: from facts to an impact.
use std::collections::BTreeMap;

use crate::plan_support::*;
use harden::fact::*;
use harden::plan::*;
use harden::report::{PlanText, impact_json, impact_text, plan_text};
use harden::resource::*;
use serde_json::{Value, json};

const PAY: &str = "pay";

/// A namespace of the tenant `payments`, with more labels.
fn namespace(labels: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": PAY, "labels": {"harden.dev/tenant": "payments"}}});
    for (label, value) in labels.as_object().unwrap() {
        object["metadata"]["labels"][label] = value.clone();
    }
    object
}

fn object(api: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api, "kind": kind,
        "metadata": {"name": name, "namespace": PAY}});
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn quota(hard: Value) -> Value {
    object(
        "v1",
        "ResourceQuota",
        "harden",
        json!({"spec": {"hard": hard}}),
    )
}

fn limit_range(limits: Value) -> Value {
    object(
        "v1",
        "LimitRange",
        "harden",
        json!({"spec": {"limits": limits}}),
    )
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn binding(name: &str, role: (&str, &str), subjects: Value) -> Value {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1});
    object(
        RBAC,
        "RoleBinding",
        name,
        json!({"roleRef": role, "subjects": subjects}),
    )
}

fn role(name: &str, resources: &[&str], verbs: &[&str]) -> Value {
    let rule = json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
    object(RBAC, "Role", name, json!({"rules": [rule]}))
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn policy(name: &str, spec: Value) -> Value {
    object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        json!({"spec": spec}),
    )
}

fn container(name: &str, resources: Value) -> Value {
    json!({"name": name, "image": "busybox", "resources": resources})
}

fn pod(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": PAY, "labels": {"app": name}},
        "spec": spec, "status": {"phase": "Running"}})
}

fn of_replica_set(mut pod: Value, deployment: &str) -> Value {
    pod["metadata"]["labels"]["pod-template-hash"] = "5f".into();
    let name = format!("{deployment}-5f");
    pod["metadata"]["ownerReferences"] =
        json!([{"kind": "ReplicaSet", "name": name, "controller": true}]);
    pod
}

fn deployment(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": PAY},
        "spec": {"template": {"metadata": {"labels": {"app": name}}, "spec": spec}}})
}

/// Objects as they are and as they shall be, and what is there besides.
#[derive(Default)]
struct World {
    desired: Vec<(Option<Value>, Value)>,
    refused: Option<&'static str>,
    answers: BTreeMap<ObjectList, Result<Vec<Value>, &'static str>>,
    levels: BTreeMap<String, LevelTold>,
    accept: bool,
    /// Options behind the objects besides the tenant.
    options: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        let there = namespace(json!({}));
        World {
            desired: vec![(Some(there.clone()), there)],
            accept: true,
            ..World::default()
        }
    }

    fn change(mut self, before: Option<Value>, after: Value) -> Self {
        self.desired.push((before, after));
        self
    }

    fn has(mut self, listing: ObjectList, objects: &[Value]) -> Self {
        self.answers.insert(listing, Ok(objects.to_vec()));
        self
    }

    fn silent(mut self, listing: ObjectList, why: &'static str) -> Self {
        self.answers.insert(listing, Err(why));
        self
    }

    fn plan(&self) -> (Plan, ImpactQuery) {
        let resources = self.desired.iter().map(|(_, after)| {
            let mut one = resource("object", json!({"manifest": after}));
            one.risk = Risk::Guarded;
            one.origins[0].option = "tenants.payments".into();
            for option in &self.options {
                let mut origin = one.origins[0].clone();
                origin.option = (*option).into();
                one.origins.push(origin);
            }
            one
        });
        let mut desired = desired(resources.collect());
        if self.accept {
            desired.accept = vec!["tenants.payments".into()];
        }
        let mut facts = cluster(&["cp1"], &desired);
        for (before, after) in &self.desired {
            let fact = facts.api.objects.get_mut(&ObjectRef::of(after).unwrap());
            let fact = fact.unwrap();
            if let Some(before) = before {
                fact.live = Fact::Value(before.clone());
            }
            fact.would = match self.refused {
                Some(why) => DryRun::Refused(why.into()),
                None => DryRun::Object(after.clone()),
            };
        }
        let mut plan = build(&desired, &facts);
        let enforcement = Enforcement::of(&desired, &facts, &plan);
        let query = enforcement.query();
        let mut answers = ImpactFacts::default();
        for (listing, namespaces) in &query.lists {
            let fact = match self.answers.get(listing) {
                Some(Err(why)) => Fact::Unreadable((*why).to_owned()),
                Some(Ok(objects)) => {
                    let key = if namespaces.is_empty() { "" } else { PAY };
                    let kept = objects.iter().map(|one| listing.keep(one)).collect();
                    Fact::Value([(key.to_owned(), kept)].into())
                }
                None => Fact::Value(BTreeMap::new()),
            };
            answers.lists.insert(*listing, fact);
        }
        for name in query.levels.keys() {
            if let Some(told) = self.levels.get(name) {
                answers.levels.insert(name.clone(), told.clone());
            }
        }
        plan.impact = enforcement.judge(&answers);
        (plan, query)
    }

    /// One line a hit, and one for each thing that is not known.
    fn lines(&self) -> Vec<String> {
        let (plan, _) = self.plan();
        let hits = plan.impact.tenants.iter().flat_map(|tenant| {
            assert_eq!(tenant.tenant.as_deref(), Some("payments"));
            tenant.hits.iter().map(|hit| {
                assert_eq!(hit.namespace, PAY);
                assert_eq!(hit.origins[0].option, "tenants.payments");
                let name = serde_json::to_value(hit.effect).unwrap();
                format!(
                    "{} {}: {} {}",
                    hit.kind.name(),
                    name.as_str().unwrap(),
                    hit.count,
                    hit.who.join(", ")
                )
            })
        });
        let unknown = plan.impact.unknown.iter().map(|one| {
            assert_eq!(one.namespaces, [PAY]);
            format!("unknown {}: {}", one.kind.name(), one.message)
        });
        hits.chain(unknown).collect()
    }

    fn text(&self) -> String {
        let (plan, _) = self.plan();
        anstream::adapter::strip_str(&impact_text(&plan)).to_string()
    }
}

#[test]
fn what_is_as_it_is_wanted_hits_nobody_and_asks_nothing() {
    let quota = quota(json!({"pods": "1"}));
    let world = World::new().change(Some(quota.clone()), quota);
    let (plan, query) = world.plan();
    assert!(plan.is_clean() && query.is_empty() && plan.impact.is_empty());
    assert!(world.text().contains("Nobody is hit"), "{}", world.text());
}

#[test]
fn in_a_namespace_that_is_yet_to_be_made_nobody_is() {
    let mut world = World::new().change(None, quota(json!({"pods": "0"})));
    world.desired[0].0 = None;
    let (plan, query) = world.plan();
    assert!(!plan.is_clean() && query.is_empty() && plan.impact.is_empty());
}

#[test]
fn the_server_s_words_say_which_pods_are_below_a_level() {
    let after = namespace(json!({"pod-security.kubernetes.io/enforce": "restricted"}));
    let mut world = World::new();
    world.desired[0].1 = after.clone();
    let level = |pods: &[(&str, usize)], untold: Option<&str>| LevelTold {
        told: Told {
            pods: pods
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
            untold: untold.map(str::to_owned),
        },
        words: vec![
            "existing pods in namespace \"pay\" violate".into(),
            "agent: host \u{1b}[31mnamespaces".into(),
        ],
    };
    let (_, query) = world.plan();
    assert_eq!(
        query.levels[PAY],
        BTreeMap::from([
            (
                "pod-security.kubernetes.io/enforce".to_owned(),
                "restricted".to_owned()
            ),
            (
                "pod-security.kubernetes.io/enforce-version".to_owned(),
                "latest".to_owned()
            ),
        ])
    );
    world
        .levels
        .insert(PAY.into(), level(&[("agent", 1), ("web-1", 3)], None));
    assert_eq!(
        world.lines(),
        ["pod-security refused-at-next-start: 4 agent, web-1"]
    );
    let (plan, _) = world.plan();
    assert_eq!(
        plan.impact.tenants[0].hits[0].evidence,
        ["agent: host namespaces"]
    );
    // Nobody is below it, or that could not be asked.
    world.levels.insert(PAY.into(), level(&[], None));
    assert_eq!(world.lines(), Vec::<String>::new());
    assert!(
        world
            .text()
            .contains("nobody in the namespaces that change (asked: pod-security)")
    );
    world.levels.insert(
        PAY.into(),
        level(&[], Some("namespaces \"pay\" is forbidden")),
    );
    let unknown =
        "unknown pod-security: which pods are below restricted: namespaces … is forbidden";
    assert_eq!(world.lines(), [unknown]);
    world.levels.clear();
    assert!(
        world.lines()[0].ends_with("it was not asked"),
        "{:?}",
        world.lines()
    );
    // No level that refuses anything, and one that holds already.
    for (before, after) in [
        (
            json!({}),
            json!({"pod-security.kubernetes.io/enforce": "privileged"}),
        ),
        (
            json!({"pod-security.kubernetes.io/enforce": "baseline"}),
            json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}),
        ),
    ] {
        let mut world = World::new();
        world.desired[0] = (Some(namespace(before)), namespace(after));
        assert!(world.plan().1.is_empty());
    }
}

#[test]
fn workloads_of_which_nothing_runs_are_judged_by_their_templates() {
    let level = |name: &str, version: &str| {
        namespace(json!({"pod-security.kubernetes.io/enforce": name,
            "pod-security.kubernetes.io/enforce-version": version}))
    };
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext":
            {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    });
    let with = |key: &str, value: Value| {
        let mut spec = good.clone();
        spec[key] = value;
        spec
    };
    let cron = |name: &str, spec: Value| {
        let job = json!({"spec": {"template": {"spec": spec}}});
        json!({"metadata": {"name": name, "namespace": PAY}, "spec": {"jobTemplate": job}})
    };
    let job = |name: &str, suspend: bool| {
        let mut job = deployment(name, with("hostPID", true.into()));
        job["spec"]["suspend"] = suspend.into();
        job
    };
    let mut runs = of_replica_set(pod("web-1", with("hostPID", true.into())), "web");
    let world = |before: Value, after: Value, pods: &[Value]| {
        let mut world = World::new();
        world.desired[0] = (Some(before), after);
        world.levels.insert(PAY.into(), LevelTold::default());
        world
            .has(ObjectList::Pods, pods)
            .has(
                ObjectList::Deployments,
                &[
                    deployment("good", good.clone()),
                    deployment("web", with("hostPID", true.into())),
                    deployment("zero", with("hostPID", true.into())),
                    deployment(
                        "root",
                        with(
                            "securityContext",
                            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
                        ),
                    ),
                ],
            )
            .has(
                ObjectList::CronJobs,
                &[cron("nightly", with("hostNetwork", true.into()))],
            )
            .has(
                ObjectList::SuspendedJobs,
                &[job("waits", true), job("done", false)],
            )
    };
    let none = || namespace(json!({}));
    let pods = [runs.clone()];
    // The server judges what runs.
    let restricted = world(none(), level("restricted", "latest"), &pods);
    assert_eq!(
        restricted.lines(),
        [
            "pod-security refused-when-started: 4 CronJob nightly, Deployment root, Deployment zero, Job waits"
        ]
    );
    assert_eq!(
        restricted.plan().0.impact.tenants[0].hits[0].evidence,
        [
            "CronJob nightly: host namespaces",
            "Deployment root: runAsNonRoot != true",
            "Deployment zero: host namespaces",
            "Job waits: host namespaces"
        ]
    );
    assert!(
        restricted
            .text()
            .contains("rests, and is refused when it is to run")
    );
    let baseline = world(none(), level("baseline", "v1.30"), &pods);
    assert_eq!(
        baseline.lines(),
        ["pod-security refused-when-started: 3 CronJob nightly, Deployment zero, Job waits"]
    );
    // What the level of before refuses is refused already.
    let tighter = world(
        level("baseline", "latest"),
        level("restricted", "latest"),
        &pods,
    );
    assert_eq!(
        tighter.lines(),
        ["pod-security refused-when-started: 1 Deployment root"]
    );
    // One whose pod is gone rests.
    runs["status"]["phase"] = "Succeeded".into();
    let ended = world(none(), level("baseline", "latest"), &[runs]);
    assert!(
        ended.lines()[0].contains("4 CronJob nightly, Deployment web"),
        "{:?}",
        ended.lines()
    );
    // What is not known is said.
    let old = world(none(), level("baseline", "v1.20"), &pods);
    assert_eq!(
        old.lines(),
        [
            "unknown pod-security: which workloads at rest are below baseline of v1.20: harden knows no standards as old"
        ]
    );
    let silent =
        world(none(), level("baseline", "latest"), &pods).silent(ObjectList::CronJobs, "forbidden");
    assert_eq!(
        silent.lines(),
        [
            "pod-security refused-when-started: 2 Deployment zero, Job waits",
            "unknown pod-security: which workloads at rest are below baseline: the cronjobs could not be listed: forbidden"
        ]
    );
}

#[test]
fn usage_above_a_new_quota_is_counted_as_the_quota_does() {
    let small =
        json!({"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
    let two = |name: &str| {
        pod(
            name,
            json!({"containers": [container("a", small.clone()), container("b", small.clone())]}),
        )
    };
    let mut ended = two("ended");
    ended["status"]["phase"] = "Succeeded".into();
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": PAY}, "spec": spec});
    let port = json!([{"port": 80, "nodePort": 30080}]);
    let claim = |class: &str| {
        json!({"metadata": {"name": "c", "namespace": PAY}, "spec": {"storageClassName": class,
            "resources": {"requests": {"storage": "10Gi"}}}})
    };
    let named = |name: &str| json!({"metadata": {"name": name, "namespace": PAY}});
    let world = |hard: Value| {
        World::new()
            .change(None, quota(hard))
            .has(ObjectList::Pods, &[two("a"), two("b"), ended.clone()])
            .has(
                ObjectList::Services,
                &[
                    service("lb", json!({"type": "LoadBalancer", "ports": port})),
                    service("np", json!({"type": "NodePort", "ports": port})),
                    service("bare", json!({"type": "LoadBalancer", "ports": [{"port": 1}], "allocateLoadBalancerNodePorts": false})),
                    service("ip", json!({"type": "ClusterIP", "ports": [{"port": 1}]})),
                ],
            )
            .has(ObjectList::PersistentVolumeClaims, &[claim("fast"), claim("slow")])
            .has(ObjectList::Secrets, &[named("a"), named("b")])
    };
    for (name, bound, above) in [
        ("pods", "1", Some("pods: 2 used, 1 allowed")),
        ("pods", "2", None),
        ("count/pods", "2", Some("count/pods: 3 used, 2 allowed")),
        (
            "requests.cpu",
            "1500m",
            Some("requests.cpu: 2 used, 1500m allowed"),
        ),
        ("cpu", "1", Some("cpu: 2 used, 1 allowed")),
        ("cpu", "2000m", None),
        (
            "limits.memory",
            "511Mi",
            Some("limits.memory: 512Mi used, 511Mi allowed"),
        ),
        ("limits.cpu", "0", None),
        ("services", "3", Some("services: 4 used, 3 allowed")),
        (
            "services.loadbalancers",
            "1",
            Some("services.loadbalancers: 2 used, 1 allowed"),
        ),
        (
            "services.nodeports",
            "1",
            Some("services.nodeports: 2 used, 1 allowed"),
        ),
        (
            "persistentvolumeclaims",
            "1",
            Some("persistentvolumeclaims: 2 used, 1 allowed"),
        ),
        (
            "requests.storage",
            "19Gi",
            Some("requests.storage: 20Gi used, 19Gi allowed"),
        ),
        (
            "fast.storageclass.storage.k8s.io/requests.storage",
            "1Gi",
            Some("fast.storageclass.storage.k8s.io/requests.storage: 10Gi used, 1Gi allowed"),
        ),
        ("secrets", "1", Some("secrets: 2 used, 1 allowed")),
        ("count/secrets", "2", None),
        ("configmaps", "0", None),
        ("count/deployments.apps", "0", None),
    ] {
        let mut lines = world(json!({name: bound})).lines();
        lines.retain(|line| line.contains("above"));
        let wanted = above.map(|who| format!("quota above-quota: 1 {who}"));
        assert_eq!(lines, Vec::from_iter(wanted), "{name} {bound}");
    }
    for (hard, why) in [
        (
            json!({"count/widgets.example.com": "0"}),
            "how much of count/widgets.example.com is used: harden cannot count it",
        ),
        (
            json!({"special": "0"}),
            "how much of special is used: harden cannot count it",
        ),
    ] {
        assert_eq!(world(hard).lines(), [format!("unknown quota: {why}")]);
    }
}

#[test]
fn a_quota_that_is_there_counts_itself_and_only_what_gets_tighter_counts() {
    let mut before = quota(json!({"pods": "9", "services": "1"}));
    before["status"] = json!({"used": {"pods": "5", "services": "7"}});
    let change = |pods: &str| {
        World::new().change(
            Some(before.clone()),
            quota(json!({"pods": pods, "services": "1"})),
        )
    };
    assert_eq!(
        change("4").lines(),
        ["quota above-quota: 1 pods: 5 used, 4 allowed"]
    );
    assert!(
        change("4").plan().1.is_empty(),
        "nothing needs to be listed"
    );
    assert_eq!(change("5").lines(), Vec::<String>::new());
    let (plan, _) = change("10").plan();
    assert!(plan.impact.is_empty(), "a wider one hits nobody");
}

#[test]
fn a_quota_refuses_pods_that_do_not_say_what_they_want() {
    let says = json!({"requests": {"cpu": "1m"}, "limits": {"memory": "1Mi"}});
    let world = |hard: Value| {
        World::new()
            .change(None, quota(hard))
            .has(
                ObjectList::Deployments,
                &[
                    deployment("silent", json!({"containers": [container("a", says.clone()), container("b", json!({}))]})),
                    deployment("loud", json!({"containers": [container("a", says.clone())]})),
                    deployment("whole", json!({"resources": {"limits": {"cpu": "1"}}, "containers": [container("a", json!({}))]})),
                ],
            )
            .has(
                ObjectList::Pods,
                &[
                    of_replica_set(pod("silent-1", json!({"containers": [container("a", json!({}))]})), "silent"),
                    of_replica_set(pod("loud-1", json!({"containers": [container("a", json!({}))]})), "loud"),
                    pod("alone", json!({"containers": [container("c", says.clone())], "initContainers": [container("i", json!({}))]})),
                ],
            )
    };
    let wanted = json!({"requests.cpu": "10", "limits.memory": "1Gi", "pods": "100"});
    assert_eq!(
        world(wanted.clone()).lines(),
        ["quota refused-at-next-start: 2 Deployment silent, Pod alone"]
    );
    let (plan, _) = world(wanted.clone()).plan();
    let hit = &plan.impact.tenants[0].hits[0];
    assert_eq!(
        hit.evidence,
        [
            "Deployment silent lacks limits.memory of container b, requests.cpu of container b",
            "Pod alone lacks limits.memory of container i, requests.cpu of container i",
        ]
    );
    assert!(
        hit.message.ends_with("of limits.memory, requests.cpu"),
        "{}",
        hit.message
    );
    // What the quota does not demand, and what it demands already.
    assert_eq!(world(json!({"pods": "100"})).lines(), Vec::<String>::new());
    let mut known = world(wanted.clone());
    known.desired[1].0 = Some(quota(json!({"requests.cpu": "20", "limits.memory": "2Gi"})));
    known.desired[1].0.as_mut().unwrap()["status"] =
        json!({"used": {"requests.cpu": "0", "limits.memory": "0"}});
    assert_eq!(known.lines(), Vec::<String>::new());
    // A LimitRange says it for them: one that is there, or one of the same plan.
    let defaults = limit_range(
        json!([{"type": "Container", "default": {"memory": "1Mi"}, "defaultRequest": {"cpu": "1m"}}]),
    );
    let there = world(wanted.clone()).has(ObjectList::LimitRanges, std::slice::from_ref(&defaults));
    assert_eq!(there.lines(), Vec::<String>::new());
    let planned = world(wanted.clone()).change(None, defaults.clone());
    assert_eq!(planned.lines(), Vec::<String>::new());
    // One that the same plan takes the defaults from does not.
    let gone = limit_range(json!([]));
    let taken = world(wanted.clone())
        .has(ObjectList::LimitRanges, std::slice::from_ref(&defaults))
        .change(Some(defaults), gone);
    assert_eq!(taken.lines().len(), 1);
    // What could not be listed is said.
    let unknown = world(wanted).silent(ObjectList::CronJobs, "forbidden");
    assert_eq!(
        unknown.lines()[1],
        "unknown quota: whose pods the quota refuses for not saying what they want: the cronjobs could not be listed: forbidden"
    );
}

#[test]
fn containers_outside_of_new_limits_are_named() {
    let sized = |request: &str, limit: &str| json!({"containers": [container("a", json!({"requests": {"memory": request}, "limits": {"memory": limit}}))]});
    let item = |mut item: Value, kind: &str| {
        item["type"] = kind.into();
        limit_range(json!([item]))
    };
    for (range, who) in [
        (
            item(json!({"max": {"memory": "1Gi"}}), "Container"),
            "Pod big",
        ),
        (
            item(json!({"min": {"memory": "64Mi"}}), "Container"),
            "Pod small",
        ),
        (
            item(json!({"max": {"memory": "1Gi"}}), "Pod"),
            "Pod big, Pod none",
        ),
        (
            item(
                json!({"maxLimitRequestRatio": {"memory": "2"}}),
                "Container",
            ),
            "Pod none, Pod small",
        ),
        (item(json!({"default": {"memory": "1Mi"}}), "Container"), ""),
    ] {
        let world = World::new().change(None, range.clone()).has(
            ObjectList::Pods,
            &[
                pod("big", sized("1Gi", "2Gi")),
                pod("small", sized("16Mi", "128Mi")),
                pod("none", json!({"containers": [container("a", json!({}))]})),
            ],
        );
        let count = who.split(", ").filter(|one| !one.is_empty()).count();
        let wanted = (count > 0).then(|| format!("limits refused-at-next-start: {count} {who}"));
        assert_eq!(world.lines(), Vec::from_iter(wanted), "{range}");
    }
    // Who broke the old limits is not hit by the new ones.
    let before = item(json!({"max": {"memory": "1Gi"}}), "Container");
    let after = limit_range(json!([
        {"type": "Container", "max": {"memory": "1Gi"}, "min": {"memory": "32Mi"}}]));
    let world = World::new()
        .change(Some(before.clone()), after)
        .has(ObjectList::LimitRanges, &[before])
        .has(
            ObjectList::Pods,
            &[
                pod("big", sized("1Gi", "2Gi")),
                pod("small", sized("16Mi", "128Mi")),
            ],
        );
    assert_eq!(world.lines(), ["limits refused-at-next-start: 1 Pod small"]);
    let (plan, _) = world.plan();
    assert_eq!(
        plan.impact.tenants[0].hits[0].evidence,
        ["Pod small: container a requests 16Mi memory, and at least 32Mi is wanted"]
    );
}

#[test]
fn who_is_taken_out_of_a_list_loses_what_nothing_else_gives() {
    let viewer = role("harden-viewer", &["pods", "services"], &["get", "list"]);
    let of_viewer = |subjects: Value| binding("harden-viewer", ("Role", "harden-viewer"), subjects);
    let before = of_viewer(json!([user("vera"), user("ben")]));
    let world = || {
        World::new()
            .change(Some(before.clone()), of_viewer(json!([user("ben")])))
            .has(ObjectList::Roles, std::slice::from_ref(&viewer))
            .has(ObjectList::RoleBindings, std::slice::from_ref(&before))
    };
    assert_eq!(world().lines(), ["access loses-access: 1 User vera"]);
    let (plan, _) = world().plan();
    let hit = &plan.impact.tenants[0].hits[0];
    assert_eq!(hit.evidence, ["User vera: get, list of pods, services"]);
    assert!(
        hit.message
            .contains("a group of theirs may still have them")
    );

    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]);
    let reader = json!({"metadata": {"name": "reader"}, "rules": all});
    let cluster_binding = |subject: Value| {
        json!({"metadata": {"name": "readers"}, "subjects": [subject],
            "roleRef": {"kind": "ClusterRole", "name": "reader"}})
    };
    // Another binding gives the same: in the cluster, to a group that holds everybody, or here.
    for subject in [
        user("vera"),
        json!({"kind": "Group", "name": "system:authenticated"}),
    ] {
        let kept = world()
            .has(ObjectList::ClusterRoles, std::slice::from_ref(&reader))
            .has(ObjectList::ClusterRoleBindings, &[cluster_binding(subject)]);
        assert_eq!(kept.lines(), Vec::<String>::new());
    }
    let other = binding("more", ("ClusterRole", "reader"), json!([user("vera")]));
    let kept = world()
        .has(ObjectList::ClusterRoles, std::slice::from_ref(&reader))
        .has(ObjectList::RoleBindings, &[before.clone(), other]);
    assert_eq!(kept.lines(), Vec::<String>::new());
    let stranger = world().has(ObjectList::ClusterRoles, &[reader]).has(
        ObjectList::ClusterRoleBindings,
        &[cluster_binding(user("sam"))],
    );
    assert_eq!(stranger.lines(), ["access loses-access: 1 User vera"]);
    // Part of it is left.
    let some = binding("some", ("Role", "some"), json!([user("vera")]));
    let left = world()
        .has(
            ObjectList::Roles,
            &[viewer.clone(), role("some", &["pods"], &["*"])],
        )
        .has(ObjectList::RoleBindings, &[before.clone(), some]);
    let (plan, _) = left.plan();
    assert_eq!(
        plan.impact.tenants[0].hits[0].evidence,
        ["User vera: get, list of services"]
    );
    // Where that could not be read, both are said.
    let lines = world()
        .silent(ObjectList::ClusterRoleBindings, "forbidden")
        .lines();
    assert_eq!(lines[0], "access loses-access: 1 User vera");
    assert!(
        lines[1].starts_with("unknown access: who has which rights"),
        "{lines:?}"
    );
    let lines = world().silent(ObjectList::Roles, "forbidden").lines();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("its role is not known")),
        "{lines:?}"
    );
}

/// With the whole plan at hand: what leaves the profile is a step of its own.
#[test]
fn a_binding_that_the_plan_deletes_takes_what_it_gave() {
    let viewer = role("old-viewer", &["pods"], &["get"]);
    let gone = binding("old-viewer", ("Role", "old-viewer"), json!([user("vera")]));
    let desired = desired(vec![resource(
        "object",
        json!({"manifest": namespace(json!({}))}),
    )]);
    let facts = cluster(&["cp1"], &desired);
    let mut plan = build(&desired, &facts);
    plan.stages.push(Stage {
        name: StageName::ObjectsEnforce,
        steps: vec![Step::Object(ObjectStep {
            reference: ObjectRef::of(&gone).unwrap(),
            before: Some(gone.clone()),
            taken: Vec::new(),
            strays: Vec::new(),
            action: ObjectAction::Delete,
        })],
    });
    let mut facts = facts;
    let known = facts.api.objects.values_mut().next().unwrap();
    known.live = Fact::Value(namespace(json!({})));
    let enforcement = Enforcement::of(&desired, &facts, &plan);
    let mut answers = ImpactFacts::default();
    for (list, objects) in [
        (ObjectList::Roles, [viewer]),
        (ObjectList::RoleBindings, [gone]),
    ] {
        let kept = objects.iter().map(|one| list.keep(one)).collect();
        answers
            .lists
            .insert(list, Fact::Value([(PAY.to_owned(), kept)].into()));
    }
    for list in [ObjectList::ClusterRoles, ObjectList::ClusterRoleBindings] {
        answers.lists.insert(list, Fact::Value(BTreeMap::new()));
    }
    assert_eq!(enforcement.query().lists.len(), 4);
    let impact = enforcement.judge(&answers);
    let hit = &impact.tenants[0].hits[0];
    assert_eq!(
        (hit.kind, hit.who[0].as_str()),
        (HitKind::Access, "User vera")
    );
    assert_eq!(hit.resource, "RoleBinding pay/old-viewer");
}

#[test]
fn a_namespace_without_a_tenant_comes_last_and_by_itself() {
    let pods = |name: &str| {
        json!({"metadata": {"name": "p", "namespace": name},
        "spec": {"containers": []}, "status": {"phase": "Running"}})
    };
    let of = |name: &str, tenant: Option<&str>| {
        let mut there =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if let Some(tenant) = tenant {
            there["metadata"]["labels"]["harden.dev/tenant"] = tenant.into();
        }
        let mut quota = quota(json!({"pods": "0"}));
        quota["metadata"]["namespace"] = name.into();
        (there, quota)
    };
    let all = [
        of("a-alone", None),
        of("b", Some("shop")),
        of("c", Some("shop")),
    ];
    let objects = all.iter().flat_map(|(there, quota)| [there, quota]);
    let resources = objects.map(|one| resource("object", json!({"manifest": one})));
    let desired = desired(resources.collect());
    let mut facts = cluster(&["cp1"], &desired);
    for (there, _) in &all {
        let known = facts
            .api
            .objects
            .get_mut(&ObjectRef::of(there).unwrap())
            .unwrap();
        known.live = Fact::Value(there.clone());
    }
    let plan = build(&desired, &facts);
    let enforcement = Enforcement::of(&desired, &facts, &plan);
    let names = ["a-alone", "b", "c"];
    let kept = names.map(|name| (name.to_owned(), vec![ObjectList::Pods.keep(&pods(name))]));
    let answers = ImpactFacts {
        lists: [(ObjectList::Pods, Fact::Value(kept.into()))].into(),
        ..ImpactFacts::default()
    };
    let impact = enforcement.judge(&answers);
    let groups = impact
        .tenants
        .iter()
        .map(|one| (one.tenant.as_deref(), one.namespaces.join(" ")));
    assert_eq!(
        groups.collect::<Vec<_>>(),
        [
            (Some("shop"), "b c".to_owned()),
            (None, "a-alone".to_owned())
        ]
    );
}

#[test]
fn a_quota_is_blamed_for_what_hits_and_not_for_its_other_bounds() {
    let mut world = World::new()
        .change(None, quota(json!({"pods": "1", "services": "5"})))
        .has(
            ObjectList::Pods,
            &[
                pod("a", json!({"containers": []})),
                pod("b", json!({"containers": []})),
            ],
        );
    world.options = vec![
        "tenants.payments.quota.pods",
        "tenants.payments.quota.services",
    ];
    let (plan, _) = world.plan();
    let [hit] = &plan.impact.tenants[0].hits[..] else {
        panic!("{:?}", plan.impact)
    };
    let options: Vec<&str> = hit.origins.iter().map(|o| o.option.as_str()).collect();
    assert_eq!(options, ["tenants.payments.quota.pods"]);
}

#[test]
fn rights_that_go_with_a_binding_are_not_told_again_of_its_role() {
    let edit = role("edit", &["pods", "services"], &["get"]);
    let less = role("edit", &["pods"], &["get"]);
    let of = |subjects: Value| binding("edit", ("Role", "edit"), subjects);
    let world = World::new()
        .change(
            Some(of(json!([user("ann"), user("ben")]))),
            of(json!([user("ben")])),
        )
        .change(Some(edit.clone()), less)
        .has(ObjectList::Roles, &[edit])
        .has(
            ObjectList::RoleBindings,
            &[of(json!([user("ann"), user("ben")]))],
        );
    let (plan, _) = world.plan();
    let told: Vec<String> = plan.impact.tenants[0]
        .hits
        .iter()
        .map(|hit| format!("{}: {}", hit.resource, hit.evidence.join("; ")))
        .collect();
    assert_eq!(
        told,
        ["RoleBinding pay/edit: User ann: get of pods, services; User ben: get of services",]
    );
}

#[test]
fn a_role_that_shrinks_takes_rights_from_whom_it_is_bound_to() {
    let before = role("harden-viewer", &["pods", "secrets"], &["get"]);
    let after = role("harden-viewer", &["pods"], &["get"]);
    let of_viewer = binding(
        "harden-viewer",
        ("Role", "harden-viewer"),
        json!([user("vera"), {"kind": "ServiceAccount", "name": "ci", "namespace": "ops"}]),
    );
    let world = World::new()
        .change(Some(before.clone()), after.clone())
        .has(ObjectList::Roles, std::slice::from_ref(&before))
        .has(ObjectList::RoleBindings, &[of_viewer]);
    assert_eq!(
        world.lines(),
        ["access loses-access: 2 ServiceAccount ops/ci, User vera"]
    );
    // One that grows takes nothing, and is not even asked about.
    let (plan, query) = World::new().change(Some(after), before).plan();
    assert!(!plan.is_clean() && query.is_empty(), "{query:?}");
}

#[test]
fn a_token_goes_from_pods_that_did_not_ask_for_it_and_got_it() {
    let account = |automount: Value| {
        object(
            "v1",
            "ServiceAccount",
            "default",
            json!({"automountServiceAccountToken": automount}),
        )
    };
    let mut plain = account(json!(null));
    plain
        .as_object_mut()
        .unwrap()
        .remove("automountServiceAccountToken");
    let spec = |account: &str, automount: Value| json!({"serviceAccountName": account, "automountServiceAccountToken": automount, "containers": []});
    let pods = [
        pod("plain", json!({"containers": []})),
        pod("default", spec("default", Value::Null)),
        pod("asks", spec("default", json!(true))),
        pod("declines", spec("default", json!(false))),
        pod("other", spec("ci", Value::Null)),
    ];
    let world = World::new()
        .change(Some(plain), account(json!(false)))
        .has(ObjectList::Pods, &pods);
    assert_eq!(
        world.lines(),
        ["token loses-access-at-next-start: 2 Pod default, Pod plain"]
    );
    let off = World::new().change(Some(account(json!(false))), account(json!(true)));
    assert!(off.plan().1.is_empty());
}

fn default_deny() -> Value {
    policy(
        "harden-default-deny",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    )
}

fn service(name: &str, kind: &str, port: u16) -> Value {
    json!({"metadata": {"name": name, "namespace": PAY},
        "spec": {"type": kind, "selector": {"app": name}, "ports": [{"port": 80, "nodePort": port}]}})
}

fn fenced() -> World {
    let mut host = pod("host", json!({"hostNetwork": true, "containers": []}));
    host["metadata"]["labels"] = json!({"app": "agent"});
    let ingress = json!({"metadata": {"name": "shop", "namespace": PAY}, "spec": {"rules": [
        {"http": {"paths": [{"backend": {"service": {"name": "db"}}}, {"backend": {"service": {"name": "none"}}}]}}]}});
    World::new()
        .change(None, default_deny())
        .has(
            ObjectList::Pods,
            &[
                of_replica_set(pod("web", json!({"containers": []})), "web"),
                of_replica_set(pod("web", json!({"containers": []})), "web"),
                pod("db", json!({"containers": []})),
                host,
            ],
        )
        .has(
            ObjectList::Services,
            &[
                service("web", "NodePort", 30080),
                service("db", "ClusterIP", 0),
                service("agent", "NodePort", 30081),
            ],
        )
        .has(ObjectList::Ingresses, &[ingress])
}

#[test]
fn a_first_default_deny_names_whom_it_cuts_off() {
    assert_eq!(
        fenced().lines(),
        [
            "network cut-off: 2 Deployment web, Pod db",
            "network cut-off: 2 Ingress shop, Service web",
        ]
    );
    let (plan, _) = fenced().plan();
    let [pods, ways] = plan.impact.tenants[0].hits.as_slice() else {
        panic!("{:?}", plan.impact);
    };
    assert!(
        pods.message
            .contains("3 pod(s) that get a default deny for the first time (Egress and Ingress)"),
        "{}",
        pods.message
    );
    assert!(pods.message.contains("cannot be known"), "{}", pods.message);
    assert_eq!(
        ways.evidence,
        [
            "Service web (NodePort 30080): nothing in the profile lets it in",
            "Ingress shop to Service db: nothing in the profile lets it in",
        ]
    );
    // Pods that have a policy already are fenced in already.
    let other = policy(
        "theirs",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    );
    assert_eq!(
        fenced().has(ObjectList::NetworkPolicies, &[other]).lines(),
        Vec::<String>::new()
    );
    let half = policy(
        "theirs",
        json!({"podSelector": {"matchLabels": {"app": "web"}}}),
    );
    let (plan, _) = fenced().has(ObjectList::NetworkPolicies, &[half]).plan();
    let hits = &plan.impact.tenants[0].hits;
    assert!(
        hits[0].message.contains("3 pod(s)"),
        "web goes out freely so far"
    );
    assert_eq!(hits[1].who, ["Ingress shop"], "and is closed already");
    let lines = fenced().silent(ObjectList::Pods, "forbidden").lines();
    assert_eq!(
        lines,
        ["unknown network: whose traffic ends: the pods could not be listed: forbidden"]
    );
    let lines = fenced().silent(ObjectList::Services, "forbidden").lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("unknown network: which ways in from outside are closed"));
}

#[test]
fn a_way_in_that_the_profile_opens_is_not_cut_off() {
    let ingress = |rule: Value| {
        policy(
            "harden-ingress",
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]}),
        )
    };
    let ways = |world: World| -> Vec<String> {
        let (plan, _) = world.plan();
        let hits = &plan.impact.tenants[0].hits;
        hits.iter()
            .skip(1)
            .flat_map(|hit| hit.evidence.clone())
            .collect()
    };
    for everybody in [
        json!({}),
        json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
    ] {
        assert_eq!(
            ways(fenced().change(None, ingress(everybody))),
            Vec::<String>::new()
        );
    }
    for some in [
        json!({"ports": [{"port": 1}]}),
        json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}),
        json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}),
        json!({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]}),
    ] {
        let ways = ways(fenced().change(None, ingress(some.clone())));
        assert_eq!(ways.len(), 2, "{some}");
        assert!(
            ways[0].contains("whether these are among them cannot be told"),
            "{ways:?}"
        );
    }
    // The tenant's own namespaces are nobody from outside.
    let own = json!({"from": [{"namespaceSelector": {"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [PAY, "pay-jobs"]}]}}]});
    let ways = ways(fenced().change(None, ingress(own)));
    assert!(
        ways[0].ends_with("nothing in the profile lets it in"),
        "{ways:?}"
    );
}

#[test]
fn a_rule_that_goes_cuts_off_whoever_has_no_other_like_it() {
    let egress = |name: &str, app: Option<&str>, rules: Value| {
        let selector = app.map_or_else(|| json!({}), |app| json!({"matchLabels": {"app": app}}));
        policy(
            name,
            json!({"podSelector": selector, "policyTypes": ["Egress"], "egress": rules}),
        )
    };
    let out = |cidr: &str| json!({"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": 443, "protocol": "TCP"}]});
    let one = json!([out("192.0.2.0/24")]);
    let two = json!([out("192.0.2.0/24"), out("198.51.100.0/24")]);
    let mut host = pod("host", json!({"hostNetwork": true, "containers": []}));
    host["metadata"]["labels"] = json!({});
    let pods = [
        pod("web", json!({"containers": []})),
        pod("db", json!({"containers": []})),
        host,
    ];
    let world = |after: Value, others: &[Value]| {
        let before = egress("harden-egress", None, two.clone());
        let mut all = vec![default_deny(), before.clone()];
        all.extend(others.iter().cloned());
        World::new()
            .change(Some(before), egress("harden-egress", None, after))
            .has(ObjectList::Pods, &pods)
            .has(ObjectList::NetworkPolicies, &all)
    };
    let less = world(one.clone(), &[]);
    assert_eq!(less.lines(), ["network cut-off: 2 Pod db, Pod web"]);
    assert_eq!(
        less.plan().0.impact.tenants[0].hits[0].evidence,
        ["out: 198.51.100.0/24 on TCP/443: no other policy has this rule"]
    );
    // A default that is not written out is the same rule, and a wider one is no loss.
    let mut plain = two.clone();
    plain[1]["ports"][0]
        .as_object_mut()
        .unwrap()
        .remove("protocol");
    assert_eq!(world(plain, &[]).lines(), [""; 0]);
    assert_eq!(world(json!([{}]), &[]).lines(), [""; 0]);
    // Another policy of theirs has the rule, for one of them.
    let theirs = egress("theirs", Some("web"), json!([out("198.51.100.0/24")]));
    let web = world(one.clone(), std::slice::from_ref(&theirs));
    assert_eq!(web.lines(), ["network cut-off: 1 Pod db"]);
    // Without any policy of the direction nothing is closed.
    let before = egress("harden-egress", None, two.clone());
    let ingress_only = policy(
        "harden-egress",
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
    );
    let opened = World::new()
        .change(Some(before.clone()), ingress_only.clone())
        .has(ObjectList::Pods, &pods)
        .has(
            ObjectList::NetworkPolicies,
            &[
                before,
                policy("in", json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
            ],
        );
    assert_eq!(opened.lines(), [""; 0]);
    let silent = world(one, &[]).silent(ObjectList::Pods, "forbidden");
    assert_eq!(
        silent.lines(),
        [
            "unknown network: whose traffic ends with a rule: the pods could not be listed: forbidden"
        ]
    );
}

#[test]
fn what_is_there_already_is_named_when_the_guard_begins() {
    let guarded = |network: bool| {
        let mut after = namespace(json!({"harden.dev/guard": "deny"}));
        after["metadata"]["annotations"] = json!({"harden.dev/namespaces": "pay\npay-jobs",
            "harden.dev/accounts": "system:serviceaccount:monitoring:dashboard"});
        if network {
            after["metadata"]["annotations"]["harden.dev/network"] = "isolated".into();
        }
        after
    };
    let rule = |name: &str, direction: &str, peers: Value| {
        let field = if direction == "ingress" { "from" } else { "to" };
        policy(
            name,
            json!({"podSelector": {}, direction: [{field: peers, "ports": [{"port": 53, "protocol": "UDP"}]}]}),
        )
    };
    let of = |names: Value| {
        json!([{"namespaceSelector": {"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}]}}])
    };
    let mut ours = rule("harden-allow-dns", "egress", json!([]));
    ours["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "harden"});
    let policies = [
        ours,
        rule("same", "ingress", json!([{"podSelector": {}}])),
        rule("own", "ingress", of(json!(["pay", "pay-jobs"]))),
        rule("other", "ingress", of(json!(["pay", "shop"]))),
        rule(
            "label",
            "egress",
            json!([{"namespaceSelector": {"matchLabels": {"team": "pay"}}}]),
        ),
        rule(
            "wide",
            "egress",
            json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]),
        ),
        policy("open", json!({"podSelector": {}, "egress": [{}]})),
    ];
    let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
    let group = |name: &str| json!({"kind": "Group", "name": name});
    let role = ("ClusterRole", "edit");
    let bindings = [
        binding("people", role, json!([user("vera"), group("pay-admins")])),
        binding(
            "own",
            role,
            json!([
                account("pay-jobs", "ci"),
                group("system:serviceaccounts:pay")
            ]),
        ),
        binding("named", role, json!([account("monitoring", "dashboard")])),
        binding(
            "everybody",
            role,
            json!([user("vera"), group("system:authenticated")]),
        ),
        binding("stranger", role, json!([account("shop", "ci")])),
        binding(
            "near",
            role,
            json!([group("system:serviceaccounts:pay-other")]),
        ),
    ];
    let world = |before: Value, after: Value| {
        let mut world = World::new();
        world.desired[0] = (Some(before), after);
        world
            .has(ObjectList::NetworkPolicies, &policies)
            .has(ObjectList::RoleBindings, &bindings)
    };
    let begins = world(namespace(json!({})), guarded(true));
    assert_eq!(
        begins.lines(),
        [
            "guard stays-as-it-is: 4 NetworkPolicy label, NetworkPolicy open, NetworkPolicy other, NetworkPolicy wide",
            "guard stays-as-it-is: 3 RoleBinding everybody, RoleBinding near, RoleBinding stranger",
        ]
    );
    let (plan, _) = begins.plan();
    let [networks, people] = plan.impact.tenants[0].hits.as_slice() else {
        panic!()
    };
    assert!(
        networks
            .evidence
            .contains(&"NetworkPolicy open: out: everybody".to_owned())
            && networks.evidence.contains(
                &"NetworkPolicy wide: out: 0.0.0.0/0 without 10.0.0.0/8 on UDP/53".to_owned()
            ),
        "{:?}",
        networks.evidence
    );
    assert_eq!(
        people.evidence,
        [
            "RoleBinding everybody: system:authenticated",
            "RoleBinding stranger: system:serviceaccount:shop:ci",
            "RoleBinding near: system:serviceaccounts:pay-other",
        ]
    );
    // Without isolation the guard looks at no network policy; and when it stands already, at nothing anew.
    let bindings_only = world(namespace(json!({})), guarded(false)).lines();
    assert_eq!(bindings_only.len(), 1, "{bindings_only:?}");
    let mut warned = guarded(true);
    warned["metadata"]["labels"]["harden.dev/guard"] = "warn".into();
    assert_eq!(world(warned, guarded(true)).lines(), [""; 0]);
    let silent = world(namespace(json!({})), guarded(true))
        .silent(ObjectList::RoleBindings, "forbidden")
        .lines();
    assert_eq!(
        silent[1],
        "unknown guard: what is there already that the guard would refuse: the rolebindings could not be listed: forbidden"
    );
}

#[test]
fn images_that_the_rules_of_a_namespace_refuse_are_named_with_who_uses_them() {
    let ruled = |mode: &str, registries: &str| {
        let mut object = namespace(json!({"harden.dev/images": mode}));
        object["metadata"]["annotations"] = json!({"harden.dev/registries": registries,
            "harden.dev/image-digests": "false", "harden.dev/image-latest": "false"});
        object
    };
    let of = |image: &str| json!({"containers": [{"name": "c", "image": image}]});
    let change = |before: Value, after: Value| {
        let night = json!({"metadata": {"name": "night", "namespace": PAY}, "spec": {"jobTemplate": {"spec": {
            "template": {"spec": of("evil.example/night:1")}}}}});
        let data = json!({"containers": [], "volumes": [
            {"name": "v", "image": {"reference": "evil.example/data:1"}}]});
        let mut world = World::new()
            .has(
                ObjectList::Deployments,
                &[deployment("web", of("docker.io/library/web:1"))],
            )
            .has(ObjectList::CronJobs, &[night])
            .has(
                ObjectList::Pods,
                &[
                    of_replica_set(pod("web-1", of("web:1")), "web"),
                    pod("tool", of("tool")),
                    pod("data", data),
                ],
            );
        world.desired[0] = (Some(before), after);
        world
    };
    let world = change(namespace(json!({})), ruled("deny", "docker.io/library"));
    assert_eq!(
        world.lines(),
        ["images refused-at-next-start: 3 evil.example/data:1, evil.example/night:1, tool"]
    );
    let (plan, _) = world.plan();
    assert_eq!(
        plan.impact.tenants[0].hits[0].evidence[1..],
        [
            "evil.example/night:1: evil.example/night is in no trusted registry; used by CronJob night",
            "tool: it has no tag, which means latest; used by Pod tool",
        ]
    );
    let warned = change(
        namespace(json!({})),
        ruled("warn", "docker.io/library\nevil.example"),
    );
    assert_eq!(warned.lines(), ["images warned: 1 tool"]);
    // What is refused already is not news; what was only warned of is.
    let tighter = change(
        ruled("deny", "docker.io/library"),
        ruled("deny", "docker.io"),
    );
    assert_eq!(tighter.lines(), Vec::<String>::new());
    let armed = change(ruled("warn", "docker.io"), ruled("deny", "docker.io"));
    assert_eq!(armed.lines().len(), 1);
    let none = change(ruled("deny", "docker.io"), namespace(json!({})));
    assert!(none.plan().1.is_empty());
}

#[test]
fn who_may_not_try_a_change_still_learns_whom_it_would_hit() {
    let mut world = World::new()
        .change(
            Some(quota(json!({"pods": "9"}))),
            quota(json!({"pods": "0"})),
        )
        .has(ObjectList::Pods, &[pod("a", json!({"containers": []}))]);
    world.refused = Some("the API server refuses: cannot patch");
    let (plan, _) = world.plan();
    assert!(plan.is_incomplete() && plan.changes.is_empty());
    let hit = &plan.impact.tenants[0].hits[0];
    assert_eq!(hit.who, ["pods: 1 used, 0 allowed"]);
    assert!(!hit.planned);
    let text = world.text();
    assert!(text.contains("(this plan leaves it undone)"), "{text}");
    assert!(text.contains("INCOMPLETE: "), "{text}");
}

#[test]
fn what_waits_for_consent_shows_whom_it_would_hit() {
    let mut world = World::new()
        .change(None, quota(json!({"pods": "0"})))
        .has(ObjectList::Pods, &[pod("a", json!({"containers": []}))]);
    world.accept = false;
    let (plan, _) = world.plan();
    assert!(plan.changes.is_empty());
    assert!(!plan.impact.tenants[0].hits[0].planned);
    world.accept = true;
    assert!(world.plan().0.impact.tenants[0].hits[0].planned);
}

#[test]
fn an_impact_is_shown_saved_and_read_again() {
    let mut evil = pod("a", json!({"containers": []}));
    evil["metadata"]["name"] = "a\u{1b}[31m\nb".into();
    let plain = object("v1", "ServiceAccount", "default", json!({}));
    let off = object(
        "v1",
        "ServiceAccount",
        "default",
        json!({"automountServiceAccountToken": false}),
    );
    let many = (0..40).map(|n| pod(&format!("p{n:02}"), json!({"containers": []})));
    let pods: Vec<Value> = many.chain([evil]).collect();
    let world = World::new()
        .change(None, quota(json!({"pods": "1"})))
        .change(Some(plain), off)
        .has(ObjectList::Pods, &pods)
        .silent(
            ObjectList::DaemonSets,
            "daemonsets.apps is forbidden: \u{1b}[1mUser \"x\"",
        );
    let (plan, _) = world.plan();
    insta::assert_snapshot!(world.text(), @r#"
    Impact of the plan for cluster prod
      tenant payments
        pay: stays, and whatever adds to it is refused
          1 resource(s) used above the quota: pods: 41 used, 1 allowed
          from: ResourceQuota pay/harden, tenants.payments at harden.toml:1
        pay: runs on, and gets no token when it is made again
          41 workload(s) that run as "default" and do not say whether they want a token (whether they use it cannot be seen): Pod a b, Pod p00, Pod p01, Pod p02, Pod p03 and 36 more
          from: ServiceAccount pay/default, tenants.payments at harden.toml:1
      not known (token): whose token of the service account default goes: the daemonsets could not be listed: daemonsets.apps is forbidden: User "x"
          in: pay
    "#);
    let token = &plan.impact.tenants[0].hits[1];
    assert_eq!((token.count, token.who.len()), (41, 20));
    let whole = plan_text(&plan, PlanText { details: false });
    let whole = anstream::adapter::strip_str(&whole).to_string();
    assert!(
        whole.contains("\nImpact\n  tenant payments\n    pay: stays, and whatever"),
        "{whole}"
    );
    let json = impact_json(&plan).unwrap();
    assert_eq!(json["schema"], "harden.dev/impact/v1");
    let mut first = json["impact"]["tenants"][0].clone();
    first["hits"][1]["who"] = json!([]);
    insta::assert_snapshot!(format!("{first:#}"), @r#"
    {
      "hits": [
        {
          "count": 1,
          "effect": "above-quota",
          "kind": "quota",
          "message": "resource(s) used above the quota",
          "namespace": "pay",
          "origins": [
            {
              "file": "harden.toml",
              "line": 1,
              "option": "tenants.payments"
            }
          ],
          "planned": true,
          "resource": "ResourceQuota pay/harden",
          "who": [
            "pods: 41 used, 1 allowed"
          ]
        },
        {
          "count": 41,
          "effect": "loses-access-at-next-start",
          "kind": "token",
          "message": "workload(s) that run as \"default\" and do not say whether they want a token (whether they use it cannot be seen)",
          "namespace": "pay",
          "origins": [
            {
              "file": "harden.toml",
              "line": 1,
              "option": "tenants.payments"
            }
          ],
          "planned": true,
          "resource": "ServiceAccount pay/default",
          "who": []
        }
      ],
      "namespaces": [
        "pay"
      ],
      "tenant": "payments"
    }
    "#);
    assert!(!json.to_string().contains('\u{1b}'));
    let saved = to_saved(&plan).unwrap();
    assert_eq!(saved["impact"], json["impact"]);
    assert_eq!(from_saved(&saved.to_string()).unwrap().impact, plan.impact);
}
