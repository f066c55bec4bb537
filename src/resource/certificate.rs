//! `[[certificate]]`: how long the certificates of a file must still be valid, and that an authority is
//! another one than that of another file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::renewal::Renewal;
use super::{Behaviour, Difference, Draft, Part, Place, Resource, Risk, SettingCopy, Subject};
use crate::distribution::k3s::Layout;
use crate::distribution::kubeadm::ClusterConfiguration;
use crate::distribution::kubeadm::certificates::KubeadmCertificate;
use crate::fact::certificate::{self as fact, Certificates};
use crate::fact::{Answer, Fact, Facts, Node, NodePath, Query};

const DAY: i64 = 86_400;

/// The certificates of a file. Where kubeadm shall not renew them, what is wrong is told, with what a person does.
/// A file that is not there, as those of a control plane on a worker, is no difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Certificate {
    path: NodePath,
    /// At least so long, in days.
    days_left: Option<u32>,
    /// By whom it is renewed without anybody's doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renewed: Option<Renewed>,
    /// Whether kubeadm renews it where it ends too soon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    renew: bool,
    /// The file whose keys it must not have.
    other_key_than: Option<NodePath>,
    by_hand: String,
}

/// Who renews a certificate in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Renewed {
    /// The kubelet, before only a tenth of the time is left: less than that is late, and more never.
    ByKubelet,
}

impl Certificate {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[certificate]]
    /// path           = "/etc/kubernetes/pki/etcd/ca.crt"
    /// days-left      = 30           # of each certificate in it
    /// renewed        = "by-kubelet"  # then late only when a tenth of its time is left
    /// other-key-than = "/etc/kubernetes/pki/ca.crt"
    /// by-hand        = "renew it"   # what a person does about it
    /// renew          = true         # by kubeadm, in a transaction with the restart of who reads it
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let table: Certificate = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if table.days_left.is_none() == table.other_key_than.is_none() {
            return Err("give one of days-left and other-key-than".into());
        }
        if table.renew && (table.days_left.is_none() || table.renews().is_none()) {
            return Err("renew: kubeadm renews nothing here when it ends".into());
        }
        if table.by_hand.trim().is_empty() {
            return Err("by-hand: say what a person does about it".into());
        }
        Ok(table)
    }

    /// Which certificate of kubeadm's it is, where that is to be renewed.
    fn renews(&self) -> Option<KubeadmCertificate> {
        let own = KubeadmCertificate::of_file(&self.path);
        own.filter(|_| self.renew)
    }

    fn diff_node(&self, resource: &Resource, node: &Node, period: Option<i64>, draft: &mut Draft) {
        let Some(found) = read(resource, node, &self.path, draft) else {
            return;
        };
        if let Some(days) = self.days_left {
            self.compare_time(resource, node, found, (days, period), draft);
        }
        if let Some(other) = &self.other_key_than
            && let Some(theirs) = read(resource, node, other, draft)
            && let Some(same) = found.list.iter().find(|ours| {
                let mut keys = theirs.list.iter().map(|theirs| &theirs.key_sha256);
                keys.any(|key| *key == ours.key_sha256)
            })
        {
            let short = same.key_sha256.get(..12).unwrap_or_default();
            let before = format!("the key {short} of {other}");
            self.tell(resource, node, before, "a key of its own".into(), draft);
        }
    }

    fn compare_time(
        &self,
        resource: &Resource,
        node: &Node,
        found: &Certificates,
        (days, period): (u32, Option<i64>),
        draft: &mut Draft,
    ) {
        let wanted = i64::from(days) * DAY;
        let is_late = |one: &&fact::Certificate| {
            let time = one.not_after.saturating_sub(one.not_before);
            let wanted = match self.renewed {
                None => wanted,
                Some(Renewed::ByKubelet) => wanted.min(time / 10),
            };
            one.not_after.saturating_sub(found.now) < wanted
        };
        let late = found.list.iter().filter(is_late);
        let Some(first) = late.map(|one| one.not_after).min() else {
            return;
        };
        // A date, and not the days that are left: a plan stays the same from one day to the next.
        let word = match first < found.now {
            true => "not valid since",
            false => "valid until",
        };
        if let Some(certificate) = self.renews() {
            let place = Place::Node(node.info.name.clone());
            if let Some(period) = period.filter(|period| *period < wanted) {
                let message = format!(
                    "kubeadm would issue it for {} days only, so that it would always end too soon",
                    period / DAY
                );
                let remedy = "set certificates.days-left to less than certificateValidityPeriod in ClusterConfiguration";
                draft.error(resource, place, message, remedy);
                return;
            }
            match Renewal::effects(certificate, node, first, &self.by_hand) {
                Err((message, remedy)) => draft.error(resource, place, message, remedy),
                Ok(effects) => {
                    let reader = certificate.reader();
                    let found = Difference {
                        place,
                        copy: Some(SettingCopy::File),
                        before: Some(format!("{word} {}", date(first))),
                        after: Some("renewed by kubeadm".into()),
                        risk: Some(match reader {
                            Some(_) => Risk::Restart,
                            None => Risk::Safe,
                        }),
                        restarts: reader.map(|component| component.to_string()),
                        ..Difference::default()
                    };
                    draft.change(resource, found, effects);
                }
            }
            return;
        }
        let after = format!("valid for {days} days more");
        self.tell(
            resource,
            node,
            format!("{word} {}", date(first)),
            after,
            draft,
        );
    }

    fn tell(
        &self,
        resource: &Resource,
        node: &Node,
        before: String,
        after: String,
        draft: &mut Draft,
    ) {
        let found = Difference {
            place: Place::Node(node.info.name.clone()),
            copy: Some(SettingCopy::File),
            before: Some(before),
            after: Some(after),
            ..Difference::default()
        };
        draft.change(resource, found, Vec::new());
    }
}

/// The certificates of a file of a node; what hinders the reading goes into the draft.
fn read<'n>(
    resource: &Resource,
    node: &'n Node,
    path: &NodePath,
    draft: &mut Draft,
) -> Option<&'n Certificates> {
    let why = match node.get(&Query::Certificates(path.clone())) {
        Fact::Value(Answer::Certificates(found)) => return Some(found),
        Fact::Absent => return None,
        Fact::Value(_) => "the probe answered something else".into(),
        Fact::Unreadable(why) => why,
    };
    draft.error(
        resource,
        Place::Node(node.info.name.clone()),
        format!("{path} could not be read: {why}"),
        "check that the login may read it as root and that it holds certificates in PEM, and plan again",
    );
    None
}

/// The day of a second since 1970, in UTC.
fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => "a day that no calendar has".into(),
    }
}

impl Behaviour for Certificate {
    fn name(&self) -> String {
        match self.other_key_than {
            None => format!("certificate {}", self.path),
            Some(_) => format!("key of {}", self.path),
        }
    }

    fn queries(&self) -> Vec<Query> {
        let paths = [Some(&self.path), self.other_key_than.as_ref()];
        let paths = paths.into_iter().flatten();
        let mut queries: Vec<Query> = paths
            .map(|path| Query::Certificates(path.clone()))
            .collect();
        queries.extend(self.renews().into_iter().flat_map(Renewal::queries));
        queries
    }

    fn parts(&self) -> Vec<Part> {
        let mut wanted = serde_json::Map::new();
        if let Some(days) = self.days_left {
            wanted.insert("days-left".into(), days.into());
        }
        if self.renew {
            wanted.insert("renew".into(), true.into());
        }
        if let Some(other) = &self.other_key_than {
            wanted.insert("other-key-than".into(), other.as_str().into());
        }
        vec![Part::Setting {
            list: "certificates",
            name: vec![self.path.as_str().to_owned()],
            wanted,
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        Vec::new()
    }

    fn by_hand(&self) -> String {
        self.by_hand.clone()
    }

    fn queries_on_k3s(&self, _: &'static Layout) -> Option<Vec<Query>> {
        // kubeadm renews nothing there.
        (!self.renew).then(|| self.queries())
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let config = facts.api.cluster_configuration.value();
        let config = config.and_then(|text| ClusterConfiguration::parse(text).ok());
        let period = config.and_then(|config| config.certificate_validity());
        for node in resource.nodes(facts) {
            if node.facts.value().is_some() {
                self.diff_node(resource, node, period, draft);
            }
        }
    }
}
