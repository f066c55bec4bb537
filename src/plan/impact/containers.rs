//! What containers ask for, with what a LimitRange and the API itself fill in.
//!
//! Source: kubernetes v1.35 plugin/pkg/admission/limitranger/admission.go, `defaultContainerResourceRequirements`
//! and `mergePodResourceRequirements`; pkg/apis/core/v1/defaults.go, `SetDefaults_LimitRangeItem` and
//! `SetDefaults_Pod`; staging/src/k8s.io/component-helpers/resource/helpers.go, `PodRequests`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::module::scalar::quantity;

/// Amounts by resource (`cpu`, `memory`), in billionths.
pub(super) type Amounts = BTreeMap<String, i128>;

/// One container as it will be when its pod is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
    /// Runs before the others, and ends.
    pub(super) is_init: bool,
}

/// Reads the amounts of an object such as `requests`; what is no quantity is left out.
pub(super) fn amounts(value: &Value) -> Amounts {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(name, amount)| Some((name.clone(), read(amount)?)))
        .collect()
}

/// Reads one quantity: text, or a number as people write it.
pub(super) fn read(amount: &Value) -> Option<i128> {
    match amount {
        Value::String(text) => quantity(text),
        Value::Number(number) => quantity(&number.to_string()),
        _ => None,
    }
}

/// Returns the containers of a PodSpec, with the defaults of these LimitRanges.
pub(super) fn containers(spec: &Value, ranges: &[&Value]) -> Vec<Container> {
    let defaults: Vec<(Amounts, Amounts)> = items(ranges, "Container").map(defaults).collect();
    let list = |field: &str| spec[field].as_array().into_iter().flatten();
    let init = list("initContainers").map(|one| (one, one["restartPolicy"] != "Always"));
    init.chain(list("containers").map(|one| (one, false)))
        .map(|(one, is_init)| {
            let mut limits = amounts(&one["resources"]["limits"]);
            let mut requests = amounts(&one["resources"]["requests"]);
            // Before any LimitRange: a limit without a request is the request too.
            fill(&mut requests, &limits);
            for (default_requests, default_limits) in &defaults {
                fill(&mut requests, default_requests);
                fill(&mut limits, default_limits);
            }
            Container {
                name: one["name"].as_str().unwrap_or_default().to_owned(),
                requests,
                limits,
                is_init,
            }
        })
        .collect()
}

/// Lists the items of a type in LimitRanges.
pub(super) fn items<'v>(
    ranges: &[&'v Value],
    kind: &'static str,
) -> impl Iterator<Item = &'v Value> {
    let ranges: Vec<&'v Value> = ranges.to_vec();
    ranges
        .into_iter()
        .flat_map(|range| range["spec"]["limits"].as_array().into_iter().flatten())
        .filter(move |item| item["type"] == kind)
}

/// The default requests and limits of an item.
fn defaults(item: &Value) -> (Amounts, Amounts) {
    let mut limits = amounts(&item["default"]);
    fill(&mut limits, &amounts(&item["max"]));
    let mut requests = amounts(&item["defaultRequest"]);
    fill(&mut requests, &limits);
    fill(&mut requests, &amounts(&item["min"]));
    (requests, limits)
}

fn fill(amounts: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        amounts.entry(name.clone()).or_insert(*amount);
    }
}

/// Adds up what a pod asks for. `pick` says of which: requests or limits.
pub(super) fn sum(all: &[Container], pick: fn(&Container) -> &Amounts) -> Amounts {
    let mut total = Amounts::new();
    for container in all.iter().filter(|one| !one.is_init) {
        for (name, amount) in pick(container) {
            let sum = total.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*amount);
        }
    }
    // While one of these runs, those that were started before it and stay run too.
    let mut staying = Amounts::new();
    for container in all {
        for (name, amount) in pick(container) {
            let beside = staying.get(name).copied().unwrap_or(0);
            let peak = beside.saturating_add(*amount);
            if container.is_init {
                let total = total.entry(name.clone()).or_insert(0);
                *total = (*total).max(peak);
            } else {
                staying.insert(name.clone(), peak);
            }
        }
    }
    total
}

/// Returns what the pod as a whole names itself, `requests` or `limits`.
pub(super) fn of_the_pod(spec: &Value, field: &str) -> Amounts {
    amounts(&spec["resources"][field])
}

/// Writes an amount of a resource as people do.
pub(super) fn shown(resource: &str, billionths: i128) -> String {
    const ONE: i128 = 1_000_000_000;
    if billionths % ONE != 0 {
        let thousandth = ONE / 1000;
        return match billionths % thousandth {
            0 => format!("{}m", billionths / thousandth),
            _ => format!("{billionths}n"),
        };
    }
    let whole = billionths / ONE;
    let is_size = ["memory", "storage", "hugepages"]
        .iter()
        .any(|word| resource.contains(word));
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units
        .into_iter()
        .find(|(_, bits)| is_size && whole != 0 && whole % (1_i128 << bits) == 0);
    match unit {
        Some((unit, bits)) => format!("{}{unit}", whole >> bits),
        None => whole.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GI: i128 = (1 << 30) * 1_000_000_000;
    const MILLI: i128 = 1_000_000;

    fn pod() -> Value {
        json!({
            "initContainers": [
                {"name": "sidecar", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "migrate", "resources": {"requests": {"cpu": "2"}}},
            ],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "300m"}, "limits": {"memory": "1Gi"}}},
                {"name": "b", "resources": {}},
            ],
        })
    }

    #[test]
    fn a_pod_asks_for_the_most_that_runs_at_once() {
        let all = containers(&pod(), &[]);
        let requests = sum(&all, |c| &c.requests);
        assert_eq!(requests["cpu"], 2100 * MILLI);
        // A limit is a request where there is none.
        assert_eq!(requests["memory"], GI);
        assert_eq!(sum(&all, |c| &c.limits).get("cpu"), None);
    }

    #[test]
    fn a_limit_range_fills_in_what_is_left_open() {
        let cases = [
            (json!({"defaultRequest": {"cpu": "10m"}}), Some(10), None),
            (json!({"default": {"cpu": "20m"}}), Some(20), Some(20)),
            (json!({"max": {"cpu": "30m"}}), Some(30), Some(30)),
            (json!({"min": {"cpu": "5m"}}), Some(5), None),
            (
                json!({"min": {"cpu": "5m"}, "max": {"cpu": "30m"}, "default": {"cpu": "20m"}}),
                Some(20),
                Some(20),
            ),
            (json!({"defaultRequest": {"memory": "1"}}), None, None),
        ];
        for (mut item, request, limit) in cases {
            item["type"] = "Container".into();
            let range = json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1m"}}, item]}});
            let all = containers(&pod(), &[&range]);
            let b = all.iter().find(|one| one.name == "b").unwrap();
            let of = |amounts: &Amounts| amounts.get("cpu").map(|amount| amount / MILLI);
            assert_eq!(
                (of(&b.requests), of(&b.limits)),
                (request, limit),
                "{range}"
            );
            let a = all.iter().find(|one| one.name == "a").unwrap();
            assert_eq!(of(&a.requests), Some(300), "its own stays: {range}");
        }
    }

    #[test]
    fn amounts_are_shown_as_they_are_written() {
        for (resource, text) in [
            ("requests.cpu", "1500m"),
            ("cpu", "2"),
            ("limits.memory", "1Gi"),
            ("memory", "1500Mi"),
            ("requests.storage", "7Ki"),
            ("memory", "1000"),
            ("pods", "1024"),
            ("pods", "0"),
        ] {
            assert_eq!(shown(resource, quantity(text).unwrap()), text);
        }
    }
}
