//! Requests for certificates, and what a kubelet's serving certificate is checked against.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The signer of the certificates that kubelets serve TLS with. Nothing in Kubernetes approves requests
/// to it (kubernetes v1.35 staging/src/k8s.io/api/certificates/v1/types.go: `KubeletServingSignerName`;
/// kubernetes#73356).
pub const KUBELET_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// An address in the status of a Node object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeAddress {
    /// `Hostname`, `InternalIP`, `ExternalIP`, `InternalDNS` or `ExternalDNS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// An IP address or a DNS name.
    pub address: String,
}

/// Where a kubelet answers, by its Node object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeletEndpoint {
    /// `status.addresses`. The kubelet itself writes them, so they are the node's own word.
    pub addresses: Vec<NodeAddress>,
    /// The IP addresses of all other nodes and of Service default/kubernetes: whatever this node says
    /// of itself, it is none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<IpAddr>,
    /// `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub port: u16,
}

impl KubeletEndpoint {
    /// Returns the name that the API server expects in the certificate: the address that it connects to.
    /// The order is that of kubeadm's `--kubelet-preferred-address-types` (kubernetes v1.35
    /// cmd/kubeadm/app/phases/controlplane/manifests.go: `getAPIServerCommand`).
    pub fn server_name(&self) -> Option<&str> {
        ["InternalIP", "ExternalIP", "Hostname"]
            .iter()
            .find_map(|kind| self.addresses.iter().find(|a| a.kind == *kind))
            .map(|found| found.address.as_str())
    }

    /// Whether an IP address is one of the node's.
    pub fn has_ip(&self, ip: IpAddr) -> bool {
        let mut kinds = self.addresses.iter().filter(|a| {
            // A node without a name resolution reports its IP address as its host name.
            matches!(a.kind.as_str(), "InternalIP" | "ExternalIP" | "Hostname")
        });
        kinds.any(|a| a.address.parse() == Ok(ip))
    }

    /// Whether a DNS name is one of the node's, letter by letter.
    pub fn has_dns(&self, name: &str) -> bool {
        let mut kinds = self
            .addresses
            .iter()
            .filter(|a| matches!(a.kind.as_str(), "Hostname" | "InternalDNS" | "ExternalDNS"));
        kinds.any(|a| a.address == name)
    }
}

/// Whether the certificate that a kubelet serves is one of the cluster's CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingCertificate {
    /// Whether a TLS handshake that checks it passed.
    pub trusted: bool,
    /// Why it did not pass; empty where it did.
    pub why: String,
    /// What it was checked against.
    pub endpoint: KubeletEndpoint,
}

/// A request for a certificate, as the API has it. The API server writes down who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningRequest {
    /// Name of the CertificateSigningRequest.
    pub name: String,
    /// `metadata.uid`: tells it from a later one of the same name.
    pub uid: String,
    /// `spec.signerName`.
    pub signer: String,
    /// Who made it.
    pub username: String,
    /// The groups of who made it.
    pub groups: Vec<String>,
    /// What the certificate shall be good for.
    pub usages: Vec<String>,
    /// The request itself, in PEM.
    pub pem: String,
    /// What became of it.
    pub state: SigningState,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigningState {
    /// Nobody has decided.
    Pending,
    /// It is approved, and there is no certificate yet.
    Approved,
    /// There is a certificate.
    Issued,
    /// Somebody denied it, in these words.
    Denied(String),
    /// The signer could not make a certificate, in its words.
    Failed(String),
}
