//! `[[serving-certificate]]`: the kubelet serves TLS with a certificate of the cluster's CA.
//!
//! A kubelet with `serverTLSBootstrap` asks for one, when it starts and long before it expires, and
//! nothing in Kubernetes approves the request (kubernetes#73356, kubeadm#1635): until somebody does,
//! `kubectl logs` and `exec` fail on the node. What is compared is the handshake itself, not a field.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Behaviour, Difference, Draft, Effect, Part, Place, Problem, Resource, Risk, Severity, Subject,
    nothing_counts,
};
use crate::fact::{
    ApiQuery, Fact, Facts, Node, Query, ServingCertificate as Served, SigningRequest, SigningState,
};

pub mod request;

/// The wish that kubelets serve certificates of the cluster's CA for their nodes' addresses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServingCertificate {}

/// The table as a module writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {}

/// What a decision about a request needs.
const RIGHTS: &str = "allow the kubeconfig's user `list` on certificatesigningrequests and `get` on nodes, and plan again; docs/nodes.md has the rights";

impl ServingCertificate {
    /// Reads a module's table; it has no fields.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn from_table(value: Value) -> Result<Self, String> {
        let Table {} = serde_json::from_value(value).map_err(|e| e.to_string())?;
        Ok(ServingCertificate {})
    }

    fn diff_node(
        &self,
        resource: &Resource,
        node: &Node,
        requests: &[SigningRequest],
        facts: &Facts,
        draft: &mut Draft,
    ) {
        let name = &node.info.name;
        let place = Place::Node(name.clone());
        let query = ApiQuery::ServingCertificate(name.clone());
        let served: Served = match facts.api.answer(&query).map(parse) {
            Fact::Value(Ok(served)) => served,
            Fact::Absent => {
                draft.error(
                    resource,
                    place,
                    "the API knows no such node",
                    "check the node's name in the inventory",
                );
                return;
            }
            Fact::Value(Err(why)) | Fact::Unreadable(why) => {
                draft.error(
                    resource,
                    place,
                    format!("what the kubelet serves could not be checked: {why}"),
                    "check that the kubelet is up and listens on the node's loopback address, and that the kubeconfig holds the cluster's CA",
                );
                return;
            }
        };
        let (mut good, mut other) = (Vec::new(), Vec::new());
        for request in requests.iter().filter(|r| request::is_about(r, name)) {
            match &request.state {
                SigningState::Pending => {
                    let faults = request::faults(request, name, &served.endpoint);
                    if faults.is_empty() {
                        good.push(request.name.as_str());
                    } else {
                        let why = faults.join("; ");
                        other.push(format!("request {} is not approved: {why}", request.name));
                    }
                }
                // What came before the certificate that is served is over.
                SigningState::Denied(_) | SigningState::Failed(_) if served.trusted => {}
                SigningState::Denied(why) => {
                    other.push(format!("request {} was denied: {why}", request.name));
                }
                SigningState::Failed(why) => other.push(format!(
                    "the signer could not serve request {}: {why}",
                    request.name
                )),
                SigningState::Approved | SigningState::Issued => {}
            }
        }
        for message in other {
            draft.problems.push(Problem {
                severity: Severity::Warning,
                place: place.clone(),
                subject: self.name(),
                message,
                remedy: "look at it with `kubectl describe csr NAME`, and deny it if nobody can say whose it is: `kubectl certificate deny NAME`".into(),
            });
        }
        if served.trusted && good.is_empty() {
            return;
        }
        let (before, after) = if served.trusted {
            (
                format!("{} waits for approval", requests_named(&good)),
                format!("approve the request of {name}"),
            )
        } else {
            let mut before = format!("not trusted: {}", served.why);
            if !good.is_empty() {
                let _ = write!(before, "; {} waits for approval", requests_named(&good));
            }
            (before, "of the cluster's CA".to_owned())
        };
        let found = Difference {
            place,
            before: Some(before),
            after: Some(after),
            // The kubelet takes a new certificate while it runs; what restarts it says so itself.
            risk: Some(Risk::Reload),
            ..Difference::default()
        };
        let effect = Effect::ServingCertificate { node: name.clone() };
        draft.change(resource, found, vec![effect]);
    }
}

fn requests_named(names: &[&str]) -> String {
    match names {
        [one] => format!("request {one}"),
        [first, rest @ ..] => format!("request {first} and {} more", rest.len()),
        [] => "no request".into(),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|e| e.to_string())
}

impl Behaviour for ServingCertificate {
    fn name(&self) -> String {
        "kubelet serving certificate".into()
    }

    fn queries(&self) -> Vec<Query> {
        Vec::new()
    }

    fn api_queries(&self, node: &str) -> Vec<(ApiQuery, Vec<String>)> {
        vec![
            (
                ApiQuery::ServingCertificate(node.to_owned()),
                vec!["trusted".into()],
            ),
            // Kubelets ask again and again, and the step looks at what is there then.
            (ApiQuery::ServingRequests, nothing_counts()),
        ]
    }

    fn parts(&self) -> Vec<Part> {
        let wanted = [("issuer".to_owned(), "cluster-ca".into())];
        vec![Part::Setting {
            list: "serving-certificates",
            name: vec!["kubelet".into()],
            wanted: wanted.into_iter().collect(),
        }]
    }

    fn as_wanted(&self) -> Vec<(Subject, Value)> {
        Vec::new()
    }

    fn diff(&self, resource: &Resource, facts: &Facts, draft: &mut Draft) {
        let requests = match facts.api.answer(&ApiQuery::ServingRequests).map(parse) {
            Fact::Value(Ok(requests)) => requests,
            Fact::Absent => Vec::new(),
            Fact::Value(Err(why)) | Fact::Unreadable(why) => {
                draft.error(
                    resource,
                    Place::Api,
                    format!("the requests for serving certificates could not be read: {why}"),
                    RIGHTS,
                );
                return;
            }
        };
        for node in resource.nodes(facts) {
            // The plan reports a node that was not reached once.
            if node.facts.value().is_some() {
                self.diff_node(resource, node, &requests, facts, draft);
            }
        }
    }
}
