//! Kubelets' serving certificates: approving what passes, and waiting until it is served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::fact::{KubeletEndpoint, SigningRequest, SigningState};
use crate::plan::ServingCertificateStep;
use crate::resource::serving_certificate::request::{faults, is_about, is_made_by};

use super::Notice;
use super::session::Session;
use super::step::Failure;

/// What was seen and done so far.
#[derive(Debug, Default)]
pub(super) struct Certifying {
    /// The requests that this run approved, by name.
    approved: BTreeSet<String>,
    /// The requests that are left alone, and since when; `None` where it lay there at the first look.
    refused: BTreeMap<String, Option<Instant>>,
    /// Whether there was a first look.
    looked: bool,
}

impl Session<'_, '_> {
    /// Approves a kubelet's requests that pass, and waits until it serves a certificate of the cluster's
    /// CA and none of its good requests waits.
    pub(super) fn do_certificate(&mut self, step: &ServingCertificateStep) -> Result<(), Failure> {
        let node = step.node.as_str();
        let begun = Instant::now();
        let mut seen = Certifying::default();
        loop {
            if self.interrupted() {
                return Err(Failure::back(format!("{node}: it was interrupted")));
            }
            let waits = match self.certify(node, &mut seen) {
                Ok(None) => return Ok(()),
                Ok(Some(waits)) => waits,
                Err(why) => return Err(Failure::back(format!("{node}: {why}"))),
            };
            let elapsed = begun.elapsed();
            if elapsed >= self.apply.settings.gate_timeout {
                return Err(Failure::back(format!(
                    "{node}: {} s have passed waiting for {waits}",
                    elapsed.as_secs()
                )));
            }
            self.tell(Notice::Gate {
                node,
                what: &waits,
                elapsed,
            });
            self.renew_in_time();
            self.nap();
        }
    }

    /// Looks once, and approves what may be approved. Returns what is still waited for, `None` when the
    /// certificate is served.
    ///
    /// # Errors
    /// Why waiting is of no use.
    pub(super) fn certify(
        &mut self,
        node: &str,
        seen: &mut Certifying,
    ) -> Result<Option<String>, String> {
        let endpoint = match self.apply.api.kubelet_endpoint(node) {
            Ok(Some(endpoint)) => endpoint,
            Ok(None) => return Ok(Some("the API to know the node".into())),
            Err(error) => return Ok(Some(format!("the Node's addresses ({error})"))),
        };
        let requests = match self.apply.api.serving_requests() {
            Ok(requests) => requests,
            Err(error) => return Ok(Some(format!("the requests for certificates ({error})"))),
        };
        let mut waiting = None;
        let mut refused = None;
        let mut past = String::new();
        for request in requests.iter().filter(|r| is_about(r, node)) {
            let ours = seen.approved.contains(&request.name);
            match &request.state {
                SigningState::Pending => {
                    let why = faults(request, node, &endpoint);
                    if why.is_empty() {
                        waiting = Some(self.approve(node, request, seen));
                    } else {
                        let why = why.join("; ");
                        self.leave_alone(node, request, &why, seen);
                        if is_made_by(request, node) {
                            past = format!("; request {} is not approved: {why}", request.name);
                            refused = Some((request, why));
                        }
                    }
                }
                SigningState::Approved if ours => {
                    waiting = Some(format!(
                        "the certificate of request {}, which kube-controller-manager signs",
                        request.name
                    ));
                }
                SigningState::Denied(why) if ours => {
                    return Err(format!("request {} was denied: {why}", request.name));
                }
                SigningState::Failed(why) if ours => {
                    return Err(format!(
                        "request {} was approved, and the signer failed: {why}",
                        request.name
                    ));
                }
                SigningState::Denied(why) if is_made_by(request, node) => {
                    past = format!("; request {} was denied: {why}", request.name);
                }
                SigningState::Failed(why) if is_made_by(request, node) => {
                    past = format!("; the signer failed at request {}: {why}", request.name);
                }
                _ => {}
            }
        }
        seen.looked = true;
        if waiting.is_some() {
            return Ok(waiting);
        }
        let untrusted = match self.handshake(node, &endpoint) {
            Ok(None) => return Ok(None),
            Ok(Some(why)) => why,
            Err(why) => return Ok(Some(format!("the kubelet to answer ({why})"))),
        };
        // One that lay there already may be from before a restart, and the kubelet makes another.
        if let Some((request, why)) = refused {
            let since = seen.refused.get(&request.name).copied().flatten();
            let hold = self.apply.settings.gate_hold;
            if since.is_some_and(|since| since.elapsed() >= hold) {
                return Err(format!(
                    "request {} of its kubelet is not approved: {why}; check the kubelet's --hostname-override and --node-ip and the Node's addresses, deny the request (`kubectl certificate deny {}`) and restart the kubelet",
                    request.name, request.name
                ));
            }
        }
        Ok(Some(format!(
            "the kubelet to ask for a certificate and to serve it ({untrusted}{past})"
        )))
    }

    fn approve(&mut self, node: &str, request: &SigningRequest, seen: &mut Certifying) -> String {
        let message =
            format!("harden compared the requester, the usages and the addresses with Node {node}");
        match self.apply.api.approve(request, &message) {
            Ok(()) => {
                seen.approved.insert(request.name.clone());
                self.note(format!("request {} of {node} is approved", request.name));
                format!("the certificate of request {}", request.name)
            }
            Err(error) => format!("the approval of request {} ({error})", request.name),
        }
    }

    fn leave_alone(
        &mut self,
        node: &str,
        request: &SigningRequest,
        why: &str,
        seen: &mut Certifying,
    ) {
        if seen.refused.contains_key(&request.name) {
            return;
        }
        let since = seen.looked.then(Instant::now);
        seen.refused.insert(request.name.clone(), since);
        self.note(format!(
            "request {} in the name of {node} is NOT approved: {why}",
            request.name
        ));
    }

    fn handshake(
        &mut self,
        node: &str,
        endpoint: &KubeletEndpoint,
    ) -> Result<Option<String>, String> {
        let Some(name) = endpoint.server_name() else {
            return Err("the Node object has no address".into());
        };
        let opened = self
            .host(node)
            .and_then(|host| host.tunnel(endpoint.port))
            .map_err(|error| error.to_string())?;
        self.apply
            .api
            .kubelet_handshake(opened.local, name)
            .map_err(|error| error.to_string())
    }
}
