//! Whether a Pod Security level for namespaces without one of their own would refuse pods that run.

use serde::Deserialize;
use serde_json::Value;

use super::{Evidence, Judgement, listed};
use crate::distribution::Component;
use crate::fact::{ApiQuery, Fact, Facts, PodLevel, PodsBelow};
use crate::resource::{Kind, Subject};

/// The flag of kube-apiserver that names the file with the level.
const FLAG: &str = "admission-control-config-file";

/// How many reasons a judgement has.
const REASONS: usize = 5;

/// What a resource wants of the plugin PodSecurity.
struct Wanted {
    level: PodLevel,
    /// What it exempts that cannot be seen by asking.
    unseen: Vec<&'static str>,
}

/// Reads the configuration of the plugin PodSecurity out of what a resource wants: the plugins of an
/// AdmissionConfiguration (kubernetes v1.35 staging/src/k8s.io/apiserver/pkg/apis/apiserver/v1/types.go),
/// and of one of them the PodSecurityConfiguration (staging/src/k8s.io/pod-security-admission/admission/api/v1/types.go).
fn wanted(kind: &Kind) -> Option<Wanted> {
    let file = Subject::File {
        component: Component::KubeApiserver,
        flag: FLAG.into(),
    };
    let parts = kind.behaviour().as_wanted();
    let (_, seen) = parts.into_iter().find(|(subject, _)| *subject == file)?;
    let plugins = seen.pointer("/content/plugins")?.as_array()?;
    let plugin = plugins.iter().find(|one| one["name"] == "PodSecurity")?;
    let configuration = plugin.get("configuration")?;
    let text = |key: &str| configuration["defaults"][key].as_str();
    let names = |key: &str| {
        let names = configuration["exemptions"][key].as_array();
        names.into_iter().flatten().filter_map(Value::as_str)
    };
    let unseen = [
        ("usernames", "users"),
        ("runtimeClasses", "runtime classes"),
    ];
    Some(Wanted {
        level: PodLevel {
            level: text("enforce")?.to_owned(),
            version: text("enforce-version").unwrap_or("latest").to_owned(),
            exempt: names("namespaces").map(str::to_owned).collect(),
        },
        unseen: unseen
            .into_iter()
            .filter(|(key, _)| names(key).next().is_some())
            .map(|(_, words)| words)
            .collect(),
    })
}

/// The level that refuses nothing.
fn refuses_nothing(level: &PodLevel) -> bool {
    level.level == "privileged"
}

/// Returns what must be asked; `None` where nothing needs to be.
pub(super) fn query(kind: &Kind) -> Option<ApiQuery> {
    let level = wanted(kind)?.level;
    (!refuses_nothing(&level)).then_some(ApiQuery::PodsBelow(level))
}

/// Judges what the API server answered.
pub(super) fn judge(kind: &Kind, facts: &Facts) -> Judgement {
    let Some(Wanted { level, unseen }) = wanted(kind) else {
        return Judgement::Unknown("it sets no Pod Security level for namespaces".into());
    };
    if refuses_nothing(&level) {
        return Judgement::Holds(format!("the level {level} refuses no pod"));
    }
    let query = ApiQuery::PodsBelow(level.clone());
    let answer = match facts.api.answer(&query) {
        Fact::Value(value) => PodsBelow::deserialize(value).map_err(|e| e.to_string()),
        Fact::Absent => Err("there is no answer".into()),
        Fact::Unreadable(why) => Err(why),
    };
    let found = match answer {
        Ok(found) => found,
        Err(why) => {
            return Judgement::Unknown(format!(
                "the API server did not tell which pods are below {level}: {why}"
            ));
        }
    };
    let untold = (found.untold > 0).then(|| {
        let reasons = listed(found.untold, &found.reasons, REASONS);
        format!(
            "of {} of {} namespace(s) without a level of their own it is not known which pods are below {level}: {reasons}",
            found.untold, found.asked
        )
    });
    match (found.count, untold) {
        (0, Some(untold)) => Judgement::Unknown(untold),
        (0, None) if found.asked == 0 => {
            Judgement::Holds("every namespace has a level of its own or is exempt".into())
        }
        // That is not all that may be made there: a CronJob between two runs has no pod to be judged.
        (0, None) => Judgement::Unknown(format!(
            "the API server names no running pod below {level} in the {} namespace(s) without a level of their own, but pods that a CronJob or a workload at rest will make cannot be seen",
            found.asked
        )),
        (count, untold) => {
            let mut what = format!(
                "pod(s) below {level} in namespaces without a level of their own, refused when made again"
            );
            if !unseen.is_empty() {
                let unseen = unseen.join(" and ");
                what.push_str(&format!(
                    " (which of them the exempt {unseen} let in cannot be seen)"
                ));
            }
            if let Some(untold) = untold {
                what.push_str(&format!(" ({untold})"));
            }
            Judgement::Fails(Evidence {
                what,
                count,
                who: found.names,
            })
        }
    }
}

#[cfg(test)]
mod tests;
