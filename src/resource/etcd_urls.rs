//! `[[etcd-urls]]`: no URL in a flag of etcd by which it serves more than it should.
//!
//! What is allowed differs from node to node, since each has an address of its own. So nothing is set
//! here: each copy keeps of its own value what is allowed, and takes nothing over from another copy.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control_plane::Copies;
use super::{Behaviour, Draft, Kind, Part, Place, Resource, Subject};
use crate::distribution::kubeadm::etcd_url::EtcdUrl;
use crate::distribution::kubeadm::{Manifest, manifest_path};
use crate::distribution::{Component, ComponentEdit};
use crate::fact::{Fact, Facts, Query};

/// The URLs of one flag of etcd. By the flag it is:
///
/// - `listen-client-urls`, `listen-client-http-urls`, `listen-peer-urls`: TLS, on loopback and the
///   node's own address;
/// - `listen-metrics-urls`: that, and plain HTTP on loopback, for the kubelet's probes;
/// - `advertise-client-urls`, `initial-advertise-peer-urls`: TLS, at any address, since nobody listens
///   because of them.
///
/// A URL for every address becomes one for each address that is allowed; any other that is not allowed
/// is removed. kubeadm's extra arguments are the same for all nodes, and what kubeadm writes without them
/// is as wanted (kubernetes v1.35 cmd/kubeadm/app/phases/etcd/local.go: `getEtcdCommand`): there, the
/// flag is removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EtcdUrls {
    flag: UrlFlag,
}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    flag: UrlFlag,
}

/// The flags of etcd that have URLs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum UrlFlag {
    #[serde(rename = "listen-client-urls")]
    ListenClient,
    #[serde(rename = "listen-client-http-urls")]
    ListenClientHttp,
    #[serde(rename = "listen-peer-urls")]
    ListenPeer,
    #[serde(rename = "listen-metrics-urls")]
    ListenMetrics,
    #[serde(rename = "advertise-client-urls")]
    AdvertiseClient,
    #[serde(rename = "initial-advertise-peer-urls")]
    InitialAdvertisePeer,
}

use UrlFlag::{
    AdvertiseClient, InitialAdvertisePeer, ListenClient, ListenClientHttp, ListenMetrics,
    ListenPeer,
};

impl UrlFlag {
    fn name(self) -> &'static str {
        match self {
            ListenClient => "listen-client-urls",
            ListenClientHttp => "listen-client-http-urls",
            ListenPeer => "listen-peer-urls",
            ListenMetrics => "listen-metrics-urls",
            AdvertiseClient => "advertise-client-urls",
            InitialAdvertisePeer => "initial-advertise-peer-urls",
        }
    }

    fn is_advertised(self) -> bool {
        matches!(self, AdvertiseClient | InitialAdvertisePeer)
    }

    /// Where etcd listens without the flag (etcd v3.6 server/embed/config.go:
    /// `DefaultListenClientURLs`, `DefaultListenPeerURLs`).
    fn default(self) -> Option<&'static str> {
        match self {
            ListenClient => Some("http://localhost:2379"),
            ListenPeer => Some("http://localhost:2380"),
            _ => None,
        }
    }

    /// Whether etcd is of no use without any.
    fn is_needed(self) -> bool {
        !matches!(self, ListenClientHttp | ListenMetrics)
    }

    fn allows(self, url: &EtcdUrl, own: IpAddr) -> bool {
        if self.is_advertised() {
            return url.secure;
        }
        let metrics = self == ListenMetrics && url.is_local();
        (url.secure || metrics) && (url.is_local() || url.is_at(own))
    }

    /// What becomes of one URL: itself, nothing, or one for each address that is allowed.
    fn allowed(self, text: &str, own: IpAddr) -> Vec<String> {
        let Some(url) = EtcdUrl::parse(text) else {
            return Vec::new();
        };
        if self.allows(&url, own) {
            return vec![text.trim().to_owned()];
        }
        if self.is_advertised() || !url.is_everywhere() {
            return Vec::new();
        }
        let narrow = [loopback_beside(own), own].map(|address| url.at(address));
        let narrow = narrow.into_iter().filter(|text| {
            let url = EtcdUrl::parse(text);
            url.is_some_and(|url| self.allows(&url, own))
        });
        narrow.collect()
    }

    /// The URLs that a flag with these values gives etcd: of several, the last counts (Go's `flag`).
    fn given(self, values: &[String]) -> Vec<String> {
        let value = values.last().map(String::as_str).or(self.default());
        let items = value.unwrap_or_default().split(',');
        let items = items.map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }
}

/// The loopback address of the family of another one, as kubeadm takes it for etcd.
fn loopback_beside(own: IpAddr) -> IpAddr {
    match own {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Somebody who asks etcd on a node, and where.
struct Client {
    who: String,
    url: EtcdUrl,
}

/// What is known of a node beside etcd's own flags.
struct Surroundings {
    own: IpAddr,
    /// Those who must be answered as they are now.
    clients: Vec<Client>,
}

/// What is in the way, and what to do about it.
type Obstacle = (String, String);

impl EtcdUrls {
    /// Reads a module's table.
    ///
    /// ```toml
    /// [[etcd-urls]]
    /// flag = "listen-client-urls"
    /// ```
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let table: Table = serde_json::from_value(value).map_err(|e| e.to_string())?;
        Ok(EtcdUrls { flag: table.flag })
    }

    /// Returns what a copy becomes; `None` where it is as wanted.
    ///
    /// # Errors
    /// Who would be left without an answer.
    fn edit(
        &self,
        values: &[String],
        around: &Surroundings,
    ) -> Result<Option<ComponentEdit>, Obstacle> {
        let flag = self.flag;
        let before = flag.given(values);
        let mut after: Vec<String> = Vec::new();
        for text in before
            .iter()
            .flat_map(|text| flag.allowed(text, around.own))
        {
            if !after.contains(&text) {
                after.push(text);
            }
        }
        let allowed =
            |text: &str| EtcdUrl::parse(text).is_some_and(|url| flag.allows(&url, around.own));
        let all = values.iter().flat_map(|value| value.split(','));
        if all.filter(|text| !text.trim().is_empty()).all(allowed) && before == after {
            return Ok(None);
        }
        let name = flag.name();
        if after.is_empty() && flag.is_needed() {
            return Err((
                format!(
                    "etcd --{name} has {} and nothing else, so that etcd would be reached no more",
                    shown(&before)
                ),
                format!(
                    "let etcd have what kubeadm gives it: take {name} out of etcd.local.extraArgs of the ClusterConfiguration, \
                         and on that node `kubeadm init phase etcd local --config FILE`"
                ),
            ));
        }
        let urls = |texts: &[String]| -> Vec<EtcdUrl> {
            texts
                .iter()
                .filter_map(|text| EtcdUrl::parse(text))
                .collect()
        };
        let (old, new) = (urls(&before), urls(&after));
        let answered = |by: &[EtcdUrl], client: &Client| by.iter().any(|l| l.answers(&client.url));
        let lost = |client: &&Client| answered(&old, client) && !answered(&new, client);
        if let Some(client) = around.clients.iter().find(lost) {
            return Err((
                format!("etcd --{name} has {}, of which {} would be left: {} would get no answer any more", shown(&before), shown(&after), client.who),
                "have it ask by https at loopback or the node's own address first, and let etcd listen there".into(),
            ));
        }
        let name = name.to_owned();
        Ok(Some(match after.is_empty() {
            true => ComponentEdit::RemoveFlag { name },
            false => ComponentEdit::SetFlag {
                name,
                value: after.join(","),
            },
        }))
    }

    /// Looks at what stands beside etcd's flags on each of its nodes; what is in the way goes into the
    /// draft.
    fn look(
        &self,
        resource: &Resource,
        facts: &Facts,
        copies: &Copies<'_>,
        draft: &mut Draft,
    ) -> BTreeMap<String, Surroundings> {
        let servers = api_servers(resource, facts, draft);
        let mut around = BTreeMap::new();
        for (node, etcd) in copies.manifests() {
            let Some((_, server)) = servers.iter().find(|(name, _)| *name == node) else {
                continue;
            };
            let own = server.values("advertise-address").pop();
            let Some(own) = own.and_then(|text| text.parse::<IpAddr>().ok()) else {
                draft.error(
                    resource,
                    Place::Node(node.to_owned()),
                    format!(
                        "which address is the node's own is not known: {} has no --advertise-address with an IP address",
                        manifest_path(Component::KubeApiserver)
                    ),
                    "put back the flag that kubeadm writes there, and plan again",
                );
                continue;
            };
            let own = own.to_canonical();
            let clients = self.clients(node, own, etcd, &servers);
            around.insert(node.to_owned(), Surroundings { own, clients });
        }
        around
    }

    /// Who asks the etcd of a node at the URLs of this flag.
    fn clients(
        &self,
        node: &str,
        own: IpAddr,
        etcd: &Manifest,
        servers: &[(&str, Manifest)],
    ) -> Vec<Client> {
        let mut clients = Vec::new();
        let mut add = |who: String, texts: Vec<String>| {
            for url in texts.iter().filter_map(|text| EtcdUrl::parse(text)) {
                let who = who.clone();
                clients.push(Client { who, url });
            }
        };
        match self.flag {
            ListenClient => {
                for (at, server) in servers {
                    let asked = server.values("etcd-servers");
                    let asked = asked.iter().flat_map(|value| value.split(','));
                    // At loopback it is its own node's etcd.
                    let here = asked.filter(|text| {
                        let url = EtcdUrl::parse(text);
                        url.is_some_and(|url| url.is_at(own) || (*at == node && url.is_local()))
                    });
                    let texts = here.map(str::to_owned).collect();
                    add(format!("the API server of {at} (--etcd-servers)"), texts);
                }
                let told = AdvertiseClient.given(&etcd.values(AdvertiseClient.name()));
                add(
                    "whoever asks at --advertise-client-urls".into(),
                    secure(told),
                );
            }
            ListenPeer => {
                let name = InitialAdvertisePeer;
                let told = name.given(&etcd.values(name.name()));
                add("the other members".into(), secure(told));
            }
            ListenMetrics => add("a probe of the kubelet".into(), etcd.probes()),
            ListenClientHttp | AdvertiseClient | InitialAdvertisePeer => {}
        }
        clients
    }
}

/// Those with TLS; the others go from where they are advertised too.
fn secure(mut texts: Vec<String>) -> Vec<String> {
    texts.retain(|text| EtcdUrl::parse(text).is_some_and(|url| url.secure));
    texts
}

fn shown(texts: &[String]) -> String {
    match texts {
        [] => "none".into(),
        texts => texts.join(","),
    }
}

/// The API servers' manifests by node. One that cannot be read is an error: it may be the one that etcd
/// would not answer any more.
fn api_servers<'f>(
    resource: &'f Resource,
    facts: &'f Facts,
    draft: &mut Draft,
) -> Vec<(&'f str, Manifest)> {
    let component = Component::KubeApiserver;
    let path = manifest_path(component);
    let reached = resource
        .nodes(facts)
        .filter(|node| node.facts.value().is_some());
    let mut servers = Vec::new();
    for node in reached {
        let why = match node.text(&path) {
            Fact::Value(text) => match Manifest::parse(text, component) {
                Ok(manifest) => {
                    servers.push((node.info.name.as_str(), manifest));
                    continue;
                }
                Err(error) => error.to_string(),
            },
            Fact::Absent => "it is not there".into(),
            Fact::Unreadable(why) => why,
        };
        draft.error(
            resource,
            Place::Node(node.info.name.clone()),
            format!("who asks etcd, and at which address, is not known: {path}: {why}"),
            "check that kubeadm made this node and that the login may read the file as root, and plan again",
        );
    }
    servers
}

impl Behaviour for EtcdUrls {
    fn name(&self) -> String {
        format!("{} --{}", Component::Etcd, self.flag.name())
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query::File(manifest_path(Component::Etcd)),
            Query::File(manifest_path(Component::KubeApiserver)),
            Query::Process(Component::Etcd.program()),
        ]
    }

    fn unite(&self, other: &Kind) -> Option<Result<Kind, String>> {
        (*other == Kind::EtcdUrls(self.clone())).then(|| Ok(other.clone()))
    }

    fn parts(&self) -> Vec<Part> {
        let allowed = match self.flag {
            AdvertiseClient | InitialAdvertisePeer => "https",
            ListenMetrics => "loopback, and https at the node's own address",
            _ => "https, at loopback and the node's own address",
        };
        let wanted = [("urls".to_owned(), allowed.into())];
        vec![Part::Setting {
            list: "listeners",
            name: vec![Component::Etcd.to_string(), self.flag.name().to_owned()],
            wanted: wanted.into_iter().collect(),
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        Vec::new()
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let name = self.flag.name();
        let mut copies = Copies::read(resource, Component::Etcd, facts, draft);
        let around = self.look(resource, facts, &copies, draft);
        let all: Vec<String> = copies
            .manifests()
            .map(|(node, _)| node.to_owned())
            .collect();
        for node in all {
            let refused = match around.get(&node) {
                None => true,
                Some(around) => {
                    let both = copies.on_node(&node, name);
                    let refused = both.iter().find_map(|own| self.edit(own, around).err());
                    if let Some((message, remedy)) = refused {
                        draft.error(resource, Place::Node(node.clone()), message, remedy);
                        true
                    } else {
                        false
                    }
                }
            };
            if refused {
                copies = copies.without(&node);
            }
        }
        let everywhere = |text: &str| {
            let url = EtcdUrl::parse(text);
            url.is_some_and(|url| around.values().all(|node| self.flag.allows(&url, node.own)))
        };
        let judge = |node: Option<&str>, own: &[String]| match node {
            Some(node) => self.edit(own, around.get(node)?).ok().flatten(),
            // One configuration is for all nodes.
            None => {
                let mut given = own.iter().flat_map(|value| value.split(','));
                let name = name.to_owned();
                (!given.all(everywhere)).then_some(ComponentEdit::RemoveFlag { name })
            }
        };
        let config = copies.config_values(name);
        copies.compare(name, config, judge, str::to_owned, draft);
    }
}
