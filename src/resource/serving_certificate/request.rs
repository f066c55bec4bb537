//! What a kubelet's request for a serving certificate must be like before it is approved.
//!
//! Whoever has a certificate of the cluster's CA for a node's address can pose as that node before the
//! API server, and reads what is typed into `kubectl exec`. So a request passes only when it is exactly
//! what a kubelet makes (kubernetes v1.35 pkg/kubelet/certificate/kubelet.go: `newGetTemplateFn`) and
//! what the signer takes (pkg/apis/certificates/helpers.go: `ValidateKubeletServingCSR`), and names
//! nothing but addresses of the node that made it.

use core::net::IpAddr;
use std::collections::BTreeSet;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::fact::{KUBELET_SERVING_SIGNER, KubeletEndpoint, SigningRequest};

/// The user name of a kubelet is this and the node's name (kubernetes v1.35 pkg/auth/nodeidentifier).
const USER_PREFIX: &str = "system:node:";

/// The group of all kubelets.
const NODES: &str = "system:nodes";

/// The most that is parsed of one request, in bytes. One with a key of 4096 bits has about 2,000.
const MAX_PEM: usize = 16 << 10;

/// Whether a request was made by a node, or asks for a certificate in its name.
pub fn is_about(request: &SigningRequest, node: &str) -> bool {
    let user = format!("{USER_PREFIX}{node}");
    request.username == user
        || read(&request.pem).is_ok_and(|asked| asked.common_names.contains(&user))
}

/// Whether a request was made by a node itself.
pub fn is_made_by(request: &SigningRequest, node: &str) -> bool {
    request.username.strip_prefix(USER_PREFIX) == Some(node)
}

/// Lists why a request of a node for a serving certificate must not be approved; none for a good one.
/// Each is one line that can be shown.
pub fn faults(request: &SigningRequest, node: &str, endpoint: &KubeletEndpoint) -> Vec<String> {
    let mut faults = Vec::new();
    let user = format!("{USER_PREFIX}{node}");
    if request.signer != KUBELET_SERVING_SIGNER {
        faults.push(format!("it is for the signer {}", shown(&request.signer)));
    }
    if request.username != user {
        faults.push(format!("{} made it, not {user}", shown(&request.username)));
    }
    for group in [NODES, "system:authenticated"] {
        if !request.groups.iter().any(|g| g == group) {
            faults.push(format!("its maker is not in the group {group}"));
        }
    }
    usages(request, &mut faults);
    match read(&request.pem) {
        Err(why) => faults.push(why),
        Ok(asked) => content(&asked, node, &user, endpoint, &mut faults),
    }
    faults
}

/// The usages are those of the signer, each once; `key encipherment` is for RSA keys only.
fn usages(request: &SigningRequest, faults: &mut Vec<String>) {
    let found: BTreeSet<&str> = request.usages.iter().map(String::as_str).collect();
    let mut wanted = BTreeSet::from(["digital signature", "server auth"]);
    if found == wanted && request.usages.len() == found.len() {
        return;
    }
    wanted.insert("key encipherment");
    if found != wanted || request.usages.len() != found.len() {
        let found: Vec<String> = request.usages.iter().map(|u| shown(u)).collect();
        faults.push(format!(
            "it is for the usages {}, where digital signature, server auth and at most key encipherment may stand",
            list(&found)
        ));
    }
}

/// A node writes the addresses of its own Node object, so that they alone prove nothing: a broken node
/// could call itself `kubernetes.default.svc`, or take the address of another one.
fn content(
    asked: &Asked,
    node: &str,
    user: &str,
    endpoint: &KubeletEndpoint,
    faults: &mut Vec<String>,
) {
    if asked.common_names != [user] {
        faults.push(format!(
            "its common name is {}, not {user}",
            list(&shown_all(&asked.common_names))
        ));
    }
    if asked.organizations != [NODES] {
        faults.push(format!(
            "its organization is {}, not {NODES}",
            list(&shown_all(&asked.organizations))
        ));
    }
    faults.extend(asked.foreign.iter().cloned());
    if asked.dns.is_empty() && asked.ips.is_empty() {
        faults.push("it names no DNS name and no IP address".into());
    }
    for name in &asked.dns {
        if !endpoint.has_dns(name) {
            faults.push(format!(
                "the DNS name {} is no address of the Node object",
                shown(name)
            ));
        } else if name != node {
            faults.push(format!(
                "the DNS name {} is not the node's own name, and nothing but the node says that it is its",
                shown(name)
            ));
        }
    }
    for ip in &asked.ips {
        if !endpoint.has_ip(*ip) {
            faults.push(format!(
                "the IP address {ip} is no address of the Node object"
            ));
        } else if ip.is_loopback() || ip.is_unspecified() || endpoint.taken.contains(ip) {
            faults.push(format!(
                "the IP address {ip} is that of another node, of the API or of every machine"
            ));
        }
    }
}

/// What a request asks for.
#[derive(Debug, Default)]
struct Asked {
    common_names: Vec<String>,
    organizations: Vec<String>,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    /// What no kubelet asks for, in words.
    foreign: Vec<String>,
}

/// Reads the PEM text of a request: one block, and nothing around it.
fn read(pem: &str) -> Result<Asked, String> {
    if pem.len() > MAX_PEM {
        return Err(format!("it has more than {MAX_PEM} bytes"));
    }
    // The parser skips what stands before a block; nothing may.
    if !pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
        return Err("it is no PEM block of a certificate request".into());
    }
    let (rest, block) =
        parse_x509_pem(pem.as_bytes()).map_err(|_| "its PEM block is broken".to_owned())?;
    if block.label != "CERTIFICATE REQUEST" || !rest.iter().all(u8::is_ascii_whitespace) {
        return Err("it is not one PEM block of a certificate request".into());
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|_| "its content is no certificate request".to_owned())?;
    if !rest.is_empty() {
        return Err("something follows its content".into());
    }
    let info = &request.certification_request_info;
    let mut asked = Asked::default();
    subject(&info.subject, &mut asked)?;
    let mut extensions = 0;
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            asked
                .foreign
                .push(format!("it has the attribute {}", attribute.oid));
            continue;
        };
        for extension in &requested.extensions {
            extensions += 1;
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        alternative(name, &mut asked);
                    }
                }
                _ => asked
                    .foreign
                    .push(format!("it asks for the extension {}", extension.oid)),
            }
        }
    }
    if extensions > 1 && asked.foreign.is_empty() {
        asked
            .foreign
            .push("it names its addresses in more than one place".into());
    }
    Ok(asked)
}

fn subject(subject: &X509Name<'_>, asked: &mut Asked) -> Result<(), String> {
    for attribute in subject.iter_attributes() {
        let value = attribute
            .as_str()
            .map_err(|_| "its subject is not text".to_owned())?
            .to_owned();
        let oid = attribute.attr_type();
        if *oid == OID_X509_COMMON_NAME {
            asked.common_names.push(value);
        } else if *oid == OID_X509_ORGANIZATION_NAME {
            asked.organizations.push(value);
        } else {
            asked
                .foreign
                .push(format!("its subject has the attribute {oid}"));
        }
    }
    Ok(())
}

fn alternative(name: &GeneralName<'_>, asked: &mut Asked) {
    let foreign = match name {
        GeneralName::DNSName(name) => {
            asked.dns.push((*name).to_owned());
            return;
        }
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let sixteen = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            if let Ok(ip) = four.or(sixteen) {
                asked.ips.push(ip);
                return;
            }
            "an IP address that is none".to_owned()
        }
        GeneralName::RFC822Name(name) => format!("the e-mail address {}", shown(name)),
        GeneralName::URI(name) => format!("the URI {}", shown(name)),
        _ => "a name that is neither a DNS name nor an IP address".to_owned(),
    };
    asked.foreign.push(format!("it names {foreign}"));
}

/// A text that somebody else wrote, in one short line.
fn shown(text: &str) -> String {
    let text = crate::fact::probe::clean_text(text).replace('\n', " ");
    match text.char_indices().nth(120) {
        Some((cut, _)) => format!("{} …", &text[..cut]),
        None if text.is_empty() => "(empty)".into(),
        None => text,
    }
}

fn shown_all(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| shown(text)).collect()
}

/// At most ten of them.
fn list(texts: &[String]) -> String {
    match texts {
        [] => "missing".into(),
        texts if texts.len() > 10 => {
            format!("{} and {} more", texts[..10].join(", "), texts.len() - 10)
        }
        texts => texts.join(", "),
    }
}

#[cfg(test)]
mod tests;
