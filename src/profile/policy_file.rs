//! Audit policies of the user's own: a `Policy` of Kubernetes as a YAML file, imported like a profile.
//!
//! It becomes the value of `audit.policy-rules`, so that it is merged, locked, explained and checked like
//! one that stands in a profile. What the policy says for all of its rules is said by each of them then.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::section::{Complaints, File, did_you_mean, one_of, quoted};
use crate::distribution::kubeadm::read_yaml_or_line;
use crate::module::Modules;
use crate::module::check::{Body, Checked};
use crate::resource::audit_policy::{self, STAGES};

/// What a policy file says of itself (kubernetes v1.35
/// staging/src/k8s.io/apiserver/pkg/apis/audit/v1/types.go: `Policy`).
const TYPE: [(&str, &str); 2] = [("apiVersion", "audit.k8s.io/v1"), ("kind", "Policy")];

/// The option that a policy file is a value of.
const OPTION: &str = "audit.policy-rules";

/// The other fields of a `Policy`.
const FIELDS: [&str; 3] = ["rules", "omitStages", "omitManagedFields"];

/// Whether a file is of this sort, by its name.
pub(super) fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

/// Reads the option values of a policy file.
pub(super) fn values(
    file: &File,
    modules: &Modules,
    out: &mut Complaints<'_>,
) -> BTreeMap<String, Checked> {
    let mut values = BTreeMap::new();
    let policy = match read_yaml_or_line(&file.text) {
        Ok(Value::Object(policy)) => policy,
        Ok(_) => {
            let help = "write an audit Policy, as for kube-apiserver --audit-policy-file";
            out.at(0..0, "this is no YAML mapping", "here", help);
            return values;
        }
        Err((why, line)) => {
            let help = "mend it, or remove the import; a file holds one policy";
            let span = line_place(file, line.unwrap_or(1));
            out.at(span, format!("this is not YAML: {why}"), "here", help);
            return values;
        }
    };
    for (field, wanted) in TYPE {
        if policy.get(field).and_then(Value::as_str) != Some(wanted) {
            out.at(
                place(file, field),
                format!("`{field}` must be {}", quoted(wanted)),
                "no audit Policy",
                "of Kubernetes' objects only an audit Policy can be imported; others are options of the profile",
            );
            return values;
        }
    }
    let known = || {
        let of_type = TYPE.iter().map(|(name, _)| *name);
        of_type.chain(FIELDS)
    };
    for name in policy.keys() {
        // Only the API server's own code would read it, and it does not.
        if name != "metadata" && !known().any(|k| k == name) {
            out.at(
                place(file, name),
                format!("a Policy has no field {}", quoted(name)),
                did_you_mean(name, known()).unwrap_or_else(|| "unknown".into()),
                format!("use {}", one_of(known())),
            );
        }
    }
    if !policy.contains_key("rules") {
        let help = "add `rules`, of which the first that matches decides";
        out.at(0..0, "`rules` is missing", "needed in a Policy", help);
    }
    for field in FIELDS {
        if let Some(wanted) = policy.get(field).and_then(|value| misfit(field, value)) {
            let message = format!("`{field}` must be {wanted}");
            let help = "write it as for kube-apiserver --audit-policy-file";
            out.at(place(file, field), message, "here", help);
        }
    }
    if out.list.is_empty() {
        let rules = Value::Array(rules(&policy));
        let of_all = json!({"apiVersion": TYPE[0].1, "kind": TYPE[1].1, "rules": rules});
        for fault in audit_policy::check(&of_all).err().unwrap_or_default() {
            let (rule, what, remedy) = audit_policy::parts_of(&fault);
            let (span, label) = match rule {
                Some(number) => (rule_place(file, number), format!("rule {number}")),
                None => (place(file, "rules"), "here".into()),
            };
            out.at(span, what, label, remedy);
        }
        let checked = Checked {
            span: place(file, "rules"),
            rank: modules.option(OPTION).and_then(|decl| decl.rank(&rules)),
            body: Body::Leaf(rules),
        };
        values.insert(OPTION.to_owned(), checked);
    }
    values
}

/// The rules with what the policy says for all of them. A rule leaves out its own stages and those of the
/// policy; of managed fields its own word counts, if it has one (same file: `Policy.OmitStages`,
/// `Policy.OmitManagedFields` and `PolicyRule`).
fn rules(policy: &Map<String, Value>) -> Vec<Value> {
    let items =
        |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let stages = items(policy.get("omitStages"));
    let managed = policy.get("omitManagedFields") == Some(&Value::Bool(true));
    let mut rules = items(policy.get("rules"));
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        // To Kubernetes, null is what is not there.
        rule.retain(|_, value| !value.is_null());
        // Its requests have no events at all.
        if rule.get("level").and_then(Value::as_str) == Some("None") {
            continue;
        }
        let mut left_out = items(rule.get("omitStages"));
        left_out.extend(stages.iter().cloned());
        let mut seen = BTreeSet::new();
        left_out.retain(|stage| seen.insert(stage.to_string()));
        if !left_out.is_empty() {
            rule.insert("omitStages".into(), Value::Array(left_out));
        }
        if managed {
            rule.entry("omitManagedFields").or_insert(Value::Bool(true));
        }
    }
    rules
}

/// What a field must be, when its value is something else. What the rules say is not judged here.
fn misfit(field: &str, value: &Value) -> Option<String> {
    let list_of =
        |fits: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|l| l.iter().all(fits));
    let (fits, wanted) = match field {
        "rules" => (list_of(&Value::is_object), "a list of rules".to_owned()),
        "omitStages" => {
            let is_stage = |item: &Value| item.as_str().is_some_and(|s| STAGES.contains(&s));
            (
                list_of(&is_stage),
                format!("a list of {}", one_of(STAGES.iter().copied())),
            )
        }
        _ => (value.is_boolean(), "true or false".to_owned()),
    };
    (!fits).then_some(wanted)
}

/// The place of a line by its number from 1.
fn line_place(file: &File, number: u64) -> Range<usize> {
    let mut at = 0;
    for (line, seen) in file.text.split_inclusive('\n').zip(1..) {
        if seen == number {
            return at..at + line.trim_end().len();
        }
        at += line.len();
    }
    at..at
}

/// The place of a rule by its number from 1, where each begins a line of its own.
fn rule_place(file: &File, number: usize) -> Range<usize> {
    let rules = place(file, "rules");
    let mut at = rules.start;
    let mut indent = None;
    let mut seen = 0;
    for line in file.text[rules.start..].split_inclusive('\n') {
        let dash = line.len() - line.trim_start_matches(' ').len();
        if line[dash..].starts_with("- ") && *indent.get_or_insert(dash) == dash {
            seen += 1;
            if seen == number {
                return at + dash..at + line.trim_end().len();
            }
        }
        at += line.len();
    }
    rules
}

/// The place of a top-level key; the beginning of the file where it is not at the beginning of a line.
fn place(file: &File, key: &str) -> Range<usize> {
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        if line
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with(':'))
        {
            return at..at + key.len();
        }
        at += line.len();
    }
    0..0
}
