//! etcd as kubeadm runs it, a static pod beside each API server: where a member tells of its health,
//! and what it tells there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{argv, yaml};
use crate::fact::Fact;
use crate::fact::probe::clean_text;

/// Where kubeadm has etcd serve `/health` and `/metrics` by plain HTTP, on the node's loopback address
/// (kubernetes v1.35 cmd/kubeadm/app/constants/constants.go: `EtcdMetricsPort`;
/// cmd/kubeadm/app/phases/etcd/local.go: `listen-metrics-urls`).
pub const METRICS_PORT: u16 = 2381;

/// The most characters of a member's words that are kept.
const MAX_WORDS: usize = 200;

/// Returns the port on the node's loopback address where its etcd member serves metrics by plain HTTP;
/// `None` when no static pod of the node runs etcd, or one that serves none there. A manifest that
/// cannot be read or understood is taken for kubeadm's own.
pub fn metrics_port(manifest: Fact<&str>) -> Option<u16> {
    let text = match manifest {
        Fact::Value(text) => text,
        Fact::Absent => return None,
        Fact::Unreadable(_) => return Some(METRICS_PORT),
    };
    let Some(words) = command_line(text) else {
        return Some(METRICS_PORT);
    };
    let urls = argv::values(&words, "listen-metrics-urls").pop()?;
    urls.split(',').find_map(|url| {
        let (host, port) = url.trim().strip_prefix("http://")?.rsplit_once(':')?;
        let here = ["127.0.0.1", "localhost", "0.0.0.0", "[::]"].contains(&host);
        if here { port.parse().ok() } else { None }
    })
}

fn command_line(manifest: &str) -> Option<Vec<String>> {
    let pod = yaml::read(manifest).ok()?;
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let etcd = containers.iter().find(|c| c["name"] == "etcd")?;
    let words = ["command", "args"]
        .into_iter()
        .filter_map(|field| etcd.get(field)?.as_array())
        .flatten()
        .filter_map(|word| word.as_str().map(str::to_owned));
    Some(words.collect())
}

/// What an etcd member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EtcdMember {
    /// Whether it serves reads that a quorum stands behind, knows a leader and has no alarm.
    pub healthy: bool,
    /// Why it is not, in its own words; empty when it is.
    pub why: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// How many members it knows of, itself too; 0 when it does not tell.
    pub members: usize,
    /// To how many others it is connected.
    pub connected: usize,
}

impl EtcdMember {
    /// Reads the pages `/health` and `/metrics`. Of the former it is the text, or the reason that came
    /// instead.
    ///
    /// `/health` answers 503 when there is an alarm, no leader, or when a linearizable read fails (etcd
    /// v3.6 server/etcdserver/api/etcdhttp/health.go: `HandleHealth`). The metrics are those of
    /// server/etcdserver/metrics.go (`etcd_server_is_leader`, `etcd_server_has_leader`),
    /// server/etcdserver/api/membership/metrics.go (`etcd_network_known_peers`, which counts the member
    /// itself) and server/etcdserver/api/rafthttp/metrics.go (`etcd_network_active_peers`).
    ///
    /// # Errors
    /// When the metrics are not those of etcd.
    pub fn of_pages(health: Result<&str, &str>, metrics: &str) -> Result<Self, String> {
        let one = |name| samples(metrics, name).next();
        let Some(leader) = one("etcd_server_is_leader") else {
            return Err("its metrics are not those of etcd".into());
        };
        let has_leader = one("etcd_server_has_leader").is_some_and(|(_, value)| value >= 1.0);
        let mut why = match health {
            Ok(page) => complaint(page),
            Err(reason) => Some(complaint(reason).unwrap_or_else(|| reason.to_owned())),
        };
        if why.is_none() && !has_leader {
            why = Some("it knows no leader".into());
        }
        let known: BTreeSet<(&str, &str)> = peers(metrics, "etcd_network_known_peers").collect();
        let others: BTreeSet<&str> = known
            .iter()
            .filter(|(local, remote)| local != remote)
            .map(|(_, remote)| *remote)
            .collect();
        let active: BTreeSet<&str> = peers(metrics, "etcd_network_active_peers")
            .map(|(_, remote)| remote)
            .collect();
        Ok(EtcdMember {
            healthy: why.is_none(),
            why: why.map(|why| words(&why)).unwrap_or_default(),
            leader: leader.1 >= 1.0,
            has_leader,
            members: match known.is_empty() {
                true => 0,
                false => others.len() + 1,
            },
            connected: others.intersection(&active).count(),
        })
    }

    /// Reads an answer to [`ApiQuery::EtcdMember`](crate::fact::ApiQuery::EtcdMember).
    pub fn of_answer(answer: &Value) -> Option<Self> {
        EtcdMember::deserialize(answer).ok()
    }
}

/// What a page of `/health` complains of; `None` when all is well.
fn complaint(page: &str) -> Option<String> {
    let page_text = || match page.trim() {
        "" => "its /health says nothing".to_owned(),
        text => text.to_owned(),
    };
    let Ok(answer) = serde_json::from_str::<Value>(page) else {
        return Some(page_text());
    };
    if answer["health"] == "true" {
        return None;
    }
    Some(match answer["reason"].as_str() {
        None | Some("") => page_text(),
        Some(reason) => reason.to_owned(),
    })
}

fn words(text: &str) -> String {
    clean_text(text)
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .take(MAX_WORDS)
        .collect()
}

/// The samples of a metric: what stands between the braces, and the value.
fn samples<'m>(metrics: &'m str, name: &'m str) -> impl Iterator<Item = (&'m str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        let value = value.strip_prefix(' ')?.split(' ').next()?;
        Some((labels, value.parse().ok()?))
    })
}

/// The pairs of members between which a gauge is not 0.
fn peers<'m>(metrics: &'m str, name: &'m str) -> impl Iterator<Item = (&'m str, &'m str)> {
    samples(metrics, name)
        .filter(|(_, value)| *value >= 1.0)
        .filter_map(|(labels, _)| Some((label(labels, "Local")?, label(labels, "Remote")?)))
}

fn label<'m>(labels: &'m str, name: &str) -> Option<&'m str> {
    labels.split(',').find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix("=\"")?;
        value.strip_suffix('"')
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Of a member among three, as etcd 3.6 writes it.
    const METRICS: &str = "\
# HELP etcd_server_is_leader Whether or not this member is a leader. 1 if is, 0 otherwise.
# TYPE etcd_server_is_leader gauge
etcd_server_is_leader 1
etcd_server_has_leader 1
etcd_network_known_peers{Local=\"aa\",Remote=\"aa\"} 1
etcd_network_known_peers{Local=\"aa\",Remote=\"bb\"} 1
etcd_network_known_peers{Local=\"aa\",Remote=\"cc\"} 1
etcd_network_known_peers{Local=\"aa\",Remote=\"gone\"} 0
etcd_network_active_peers{Local=\"aa\",Remote=\"bb\"} 1
etcd_network_active_peers{Local=\"aa\",Remote=\"cc\"} 0
etcd_network_active_peers{Local=\"aa\",Remote=\"gone\"} 1
";

    const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

    #[test]
    fn a_member_tells_of_itself_and_of_its_peers() {
        let member = EtcdMember::of_pages(Ok(HEALTHY), METRICS).unwrap();
        assert_eq!(
            member,
            EtcdMember {
                healthy: true,
                why: String::new(),
                leader: true,
                has_leader: true,
                members: 3,
                connected: 1,
            }
        );
        let answer = serde_json::to_value(&member).unwrap();
        assert_eq!(EtcdMember::of_answer(&answer), Some(member));
        // The only member of a cluster.
        let alone = "etcd_server_is_leader 1\netcd_server_has_leader 1\n\
                     etcd_network_known_peers{Local=\"aa\",Remote=\"aa\"} 1\n";
        let member = EtcdMember::of_pages(Ok(HEALTHY), alone).unwrap();
        assert_eq!((member.members, member.connected), (1, 0));
    }

    #[test]
    fn what_is_not_known_to_be_healthy_is_not() {
        let why = |health, metrics: &str| {
            let member = EtcdMember::of_pages(health, metrics).unwrap();
            assert_eq!(member.healthy, member.why.is_empty());
            member.why
        };
        let sick = r#"{"health":"false","reason":"RAFT NO LEADER"}"#;
        assert_eq!(why(Err(sick), METRICS), "RAFT NO LEADER");
        assert_eq!(why(Ok(sick), METRICS), "RAFT NO LEADER");
        assert_eq!(
            why(Err("get /health: timed out"), METRICS),
            "get /health: timed out"
        );
        // A reason never counts as health, whatever it says.
        assert_eq!(why(Err(HEALTHY), METRICS), HEALTHY);
        assert!(!why(Ok("<html>\u{1b}[31m"), METRICS).contains('\u{1b}'));
        assert_eq!(why(Ok(""), METRICS), "its /health says nothing");
        let lost = METRICS.replace("has_leader 1", "has_leader 0");
        assert_eq!(why(Ok(HEALTHY), &lost), "it knows no leader");
        assert_eq!(why(Ok(&"x".repeat(9000)), METRICS).len(), MAX_WORDS);
        let other = EtcdMember::of_pages(Ok(HEALTHY), "go_goroutines 7\n");
        assert_eq!(other, Err("its metrics are not those of etcd".into()));
    }

    #[test]
    fn the_port_is_that_of_the_manifest() {
        let port = |urls: &str| {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: etcd\n    command:\n    - etcd\n    - --name=cp1\n{urls}"
            );
            metrics_port(Fact::Value(&pod))
        };
        let flag = |urls: &str| port(&format!("    - --listen-metrics-urls={urls}\n"));
        assert_eq!(flag("http://127.0.0.1:2381"), Some(2381));
        assert_eq!(
            flag("https://10.0.0.1:2379,http://0.0.0.0:9999"),
            Some(9999)
        );
        // Nothing that can be asked without credentials through the node's loopback address.
        assert_eq!(flag("https://127.0.0.1:2381"), None);
        assert_eq!(flag("http://10.0.0.1:2381"), None);
        assert_eq!(flag("http://127.0.0.1:99999"), None);
        assert_eq!(port(""), None);
        assert_eq!(metrics_port(Fact::Absent), None);
        assert_eq!(metrics_port(Fact::Unreadable("denied".into())), Some(2381));
        assert_eq!(metrics_port(Fact::Value(": : :")), Some(2381));
    }
}
