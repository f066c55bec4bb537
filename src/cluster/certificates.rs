//! Requests for kubelets' serving certificates, and what kubelets serve.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Api as KubeApi, ListParams, Patch, PatchParams};
use kube::{Client as KubeClient, Config};
use serde_json::json;

use super::client::{Client, config_error, explain};
use super::{ApiError, FIELD_MANAGER, pages};
use crate::fact::probe::clean_text;
use crate::fact::{
    KUBELET_SERVING_SIGNER, KubeletEndpoint, NodeAddress, SigningRequest, SigningState,
};

/// Where a kubelet listens when its Node object does not tell (kubernetes v1.35
/// pkg/cluster/ports/ports.go: `KubeletPort`).
const KUBELET_PORT: u16 = 10250;

/// How long a handshake may take.
const WAIT: Duration = Duration::from_secs(10);

/// The reason of an approval; a word, as the API's convention for conditions is.
const REASON: &str = "HardenChecked";

/// Returns the addresses and the port of a node's kubelet; `None` where there is no such Node.
pub(super) fn kubelet_endpoint(
    client: &Client,
    node: &str,
) -> Result<Option<KubeletEndpoint>, ApiError> {
    let api: KubeApi<Node> = KubeApi::all(client.kube().clone());
    let Some(found) = client.call(&format!("get Node {node}"), || api.get_opt(node))? else {
        return Ok(None);
    };
    let status = found.status.unwrap_or_default();
    let port = status
        .daemon_endpoints
        .and_then(|endpoints| endpoints.kubelet_endpoint)
        .and_then(|endpoint| u16::try_from(endpoint.port).ok())
        .filter(|port| *port != 0);
    let addresses = status.addresses.unwrap_or_default().into_iter();
    let mut taken = service_addresses(client)?;
    let all: KubeApi<Node> = KubeApi::all(client.kube().clone());
    pages::each(
        client,
        "list Nodes",
        &all,
        &ListParams::default(),
        |other: Node| {
            if other.metadata.name.as_deref() != Some(node) {
                let addresses = other.status.and_then(|status| status.addresses);
                let addresses = addresses.unwrap_or_default().into_iter();
                taken.extend(addresses.filter_map(|a| a.address.parse::<IpAddr>().ok()));
            }
        },
    )?;
    Ok(Some(KubeletEndpoint {
        taken,
        addresses: addresses
            .map(|address| NodeAddress {
                kind: address.type_,
                address: address.address,
            })
            .collect(),
        port: port.unwrap_or(KUBELET_PORT),
    }))
}

/// The addresses by which pods know the API server.
fn service_addresses(client: &Client) -> Result<Vec<IpAddr>, ApiError> {
    let api: KubeApi<Service> = KubeApi::namespaced(client.kube().clone(), "default");
    let what = "get Service default/kubernetes";
    let spec = client
        .call(what, || api.get_opt("kubernetes"))?
        .and_then(|service| service.spec)
        .unwrap_or_default();
    let addresses = spec.cluster_ips.into_iter().flatten();
    Ok(addresses.filter_map(|ip| ip.parse().ok()).collect())
}

/// Lists the requests for serving certificates.
pub(super) fn serving_requests(client: &Client) -> Result<Vec<SigningRequest>, ApiError> {
    let api: KubeApi<CertificateSigningRequest> = KubeApi::all(client.kube().clone());
    // The server can select by it (kubernetes v1.35 pkg/registry/certificates/certificates/strategy.go).
    let params = ListParams::default().fields(&format!("spec.signerName={KUBELET_SERVING_SIGNER}"));
    let mut requests = Vec::new();
    pages::each(
        client,
        "list CertificateSigningRequests",
        &api,
        &params,
        |request| {
            requests.extend(describe(request));
        },
    )?;
    Ok(requests)
}

fn describe(request: CertificateSigningRequest) -> Option<SigningRequest> {
    let status = request.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let words = |kind: &str| {
        let found = conditions.iter().find(|c| c.type_ == kind)?;
        let both = [&found.reason, &found.message];
        let both: Vec<&str> = both.into_iter().flatten().map(String::as_str).collect();
        Some(short(&both.join(": ")))
    };
    let state = if let Some(why) = words("Denied") {
        SigningState::Denied(why)
    } else if let Some(why) = words("Failed") {
        SigningState::Failed(why)
    } else if status.certificate.is_some_and(|bytes| !bytes.0.is_empty()) {
        SigningState::Issued
    } else if words("Approved").is_some() {
        SigningState::Approved
    } else {
        SigningState::Pending
    };
    Some(SigningRequest {
        name: request.metadata.name?,
        uid: request.metadata.uid?,
        signer: request.spec.signer_name,
        username: request.spec.username.unwrap_or_default(),
        groups: request.spec.groups.unwrap_or_default(),
        usages: request.spec.usages.unwrap_or_default(),
        // What is not text is no PEM, and is refused as such.
        pem: String::from_utf8_lossy(&request.spec.request.0).into_owned(),
        state,
    })
}

fn short(text: &str) -> String {
    let text = clean_text(text).replace('\n', " ");
    text.chars().take(300).collect()
}

/// Approves a request, if it still is what was checked.
pub(super) fn approve(
    client: &Client,
    checked: &SigningRequest,
    message: &str,
) -> Result<(), ApiError> {
    let api: KubeApi<CertificateSigningRequest> = KubeApi::all(client.kube().clone());
    let name = &checked.name;
    let what = format!("approve CertificateSigningRequest {name}");
    let moved = || ApiError::Moved {
        what: format!("CertificateSigningRequest {name}"),
    };
    let found = client
        .call(&what, || api.get_opt(name))?
        .ok_or_else(moved)?;
    let version = found.metadata.resource_version.clone();
    let now = describe(found).ok_or_else(moved)?;
    match now.state {
        SigningState::Approved | SigningState::Issued => return Ok(()),
        SigningState::Pending if now == *checked => {}
        _ => return Err(moved()),
    }
    let condition = CertificateSigningRequestCondition {
        type_: "Approved".into(),
        status: "True".into(),
        reason: Some(REASON.into()),
        message: Some(message.into()),
        ..CertificateSigningRequestCondition::default()
    };
    // With uid and version, so that another request of the same name, or a denial that came meanwhile,
    // is a conflict.
    let patch = Patch::Merge(json!({
        "metadata": {"uid": checked.uid, "resourceVersion": version},
        "status": {"conditions": [condition]},
    }));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    client
        .call(&what, || api.patch_approval(name, &params, &patch))
        .map(drop)
}

/// Asks a kubelet behind a tunnel for a TLS handshake that checks its certificate against the cluster's
/// CA and the name; no credentials are sent. Returns why it did not pass, `None` when it did.
pub(super) fn kubelet_handshake(
    client: &Client,
    through: SocketAddr,
    server_name: &str,
) -> Result<Option<String>, ApiError> {
    let report = "report this as a fault of harden";
    let url = format!("https://{through}")
        .parse()
        .map_err(|e| config_error(e, report))?;
    let mut config = Config::new(url);
    config.root_cert = client.root_cert().cloned();
    if config.root_cert.is_none() {
        return Err(config_error(
            "the kubeconfig has no certificate-authority, so no kubelet's certificate can be checked",
            "add the cluster's CA to the kubeconfig: `kubectl config set-cluster NAME --certificate-authority FILE --embed-certs`",
        ));
    }
    config.tls_server_name = Some(server_name.to_owned());
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(WAIT);
    let asked = client.once(async {
        let kube = KubeClient::try_from(config)?;
        let request = http::Request::get("/healthz")
            .body(kube::client::Body::empty())
            .map_err(kube::Error::HttpError)?;
        match tokio::time::timeout(WAIT, kube.send(request)).await {
            Ok(answer) => answer.map(drop),
            Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
        }
    });
    match asked {
        // Whatever the status: it came through TLS.
        Ok(()) => Ok(None),
        Err(error) => match refusal(&error) {
            Some(why) => Ok(Some(why)),
            None => Err(explain("ask the kubelet", error)),
        },
    }
}

/// Says why a handshake failed, where it was one that did.
fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return match found {
                rustls::Error::InvalidCertificate(_) => Some(short(&found.to_string())),
                // A kubelet that waits for its certificate has none to show (kubernetes v1.35
                // pkg/kubelet/kubelet.go: `no serving certificate available for the kubelet`).
                rustls::Error::AlertReceived(rustls::AlertDescription::InternalError) => {
                    Some("the kubelet has no certificate yet".into())
                }
                rustls::Error::AlertReceived(_) => Some(short(&found.to_string())),
                _ => None,
            };
        }
        // An I/O error gives what it wraps no other way.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_refused_certificate_is_found_however_deep_it_is_wrapped() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::other(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            unknown,
        ));
        let error = kube::Error::Service(Box::new(wrapped));
        assert_eq!(
            refusal(&error).as_deref(),
            Some("invalid peer certificate: UnknownIssuer")
        );
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        let error = kube::Error::Service(Box::new(std::io::Error::other(alert)));
        assert_eq!(
            refusal(&error).as_deref(),
            Some("the kubelet has no certificate yet")
        );
    }

    #[test]
    fn a_kubelet_that_is_down_is_not_taken_for_one_with_a_bad_certificate() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(refusal(&kube::Error::Service(Box::new(refused))), None);
    }

    fn request(status: serde_json::Value) -> SigningRequest {
        let request = json!({
            "metadata": {"name": "csr-1", "uid": "u"},
            "spec": {"request": "eA==", "signerName": KUBELET_SERVING_SIGNER, "username": "system:node:a"},
            "status": status,
        });
        describe(serde_json::from_value(request).unwrap()).unwrap()
    }

    #[test]
    fn the_state_of_a_request_is_what_its_conditions_say() {
        let of = |kind: &str| {
            let condition =
                json!({"type": kind, "status": "True", "reason": "R", "message": "m\u{1b}[1m"});
            request(json!({"conditions": [condition]})).state
        };
        assert_eq!(request(json!({})).state, SigningState::Pending);
        assert_eq!(of("Approved"), SigningState::Approved);
        assert_eq!(of("Denied"), SigningState::Denied("R: m".into()));
        assert_eq!(of("Failed"), SigningState::Failed("R: m".into()));
        let issued = request(
            json!({"certificate": "eA==", "conditions": [{"type": "Approved", "status": "True"}]}),
        );
        assert_eq!(issued.state, SigningState::Issued);
        assert_eq!(issued.pem, "x");
    }
}
