//! RBAC subjects: users, groups and service accounts, as a RoleBinding names them.
//!
//! A profile writes Kubernetes' own fields `kind`, `name` and `namespace`; `apiGroup` is what the
//! server adds by itself. Source: kubernetes v1.35 `pkg/apis/rbac/v1/defaults.go` (the group) and
//! `pkg/apis/rbac/validation/validation.go` (which fields each kind has).

use std::sync::LazyLock;

use regex::Regex;
use toml::de::DeTable;

use crate::profile::section::{Complaints, Node, Section, quoted};

/// What a service account's name must match: a DNS subdomain, without its bound on the length.
/// Source: kubernetes v1.35 `pkg/apis/core/validation/validation.go`, `ValidateServiceAccountName`.
pub(crate) const ACCOUNT_NAME: &str =
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

/// What a namespace's name must match.
pub(crate) const NAMESPACE: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";

/// What the name of a user or a group must match here. Kubernetes takes any text.
pub(crate) const PERSON_NAME: &str = r"[^\s](.{0,251}[^\s])?";

/// The longest name that is taken.
const LONGEST: usize = 253;

/// How Kubernetes begins the names that it gives meaning to.
const RESERVED: &str = "system:";

/// Which kind of subject it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Person,
    ServiceAccount,
}

/// Reads one subject into the form in which Kubernetes has it. `name` is its full name in the
/// profile. `None` when there were complaints.
pub(super) fn check(
    table: &DeTable<'_>,
    node: &Node<'_>,
    name: &str,
    out: &mut Complaints<'_>,
) -> Option<serde_json::Value> {
    let before = out.list.len();
    let mut section = Section::new(table, name);
    let kinds = [
        ("User", Kind::Person),
        ("Group", Kind::Person),
        ("ServiceAccount", Kind::ServiceAccount),
    ];
    section.required("kind", node.span(), out);
    let kind_word = section.get("kind").and_then(|kind| kind.get_ref().as_str());
    let kind = match kind_word {
        Some(_) => section.choice("kind", &kinds, out),
        None => None,
    };
    let own = section.required("name", node.span(), out);
    let namespace = match kind {
        Some(Kind::ServiceAccount) => section.required("namespace", node.span(), out),
        _ => section.string("namespace", out),
    };
    let place = |section: &mut Section<'_, '_>, key| {
        section.get(key).map_or(node.span(), toml::Spanned::span)
    };
    if let (Some(kind), Some(own)) = (kind, own)
        && let Some((why, help)) = wrong_name(kind, own)
    {
        let message = format!("`{name}.name` cannot be {}", quoted(own));
        out.at(place(&mut section, "name"), message, why, help);
    }
    match (kind, namespace) {
        (Some(Kind::Person), Some(_)) => {
            let message = format!("`{name}` is a user or a group, and those have no namespace");
            let help = "remove it, or write `kind = \"ServiceAccount\"`";
            out.at(place(&mut section, "namespace"), message, "here", help);
        }
        (Some(Kind::ServiceAccount), Some(namespace)) if !matches(&NAMESPACES, namespace) => {
            let message = format!("`{name}.namespace` cannot be {}", quoted(namespace));
            let help = "write the name of the namespace that the service account is in";
            out.at(
                place(&mut section, "namespace"),
                message,
                "no namespace has this name",
                help,
            );
        }
        _ => {}
    }
    section.finish(out);
    if out.list.len() > before {
        return None;
    }
    let mut subject = serde_json::json!({"kind": kind_word?, "name": own?});
    if let Some(namespace) = namespace {
        subject["namespace"] = namespace.into();
    }
    Some(subject)
}

/// Says what is wrong with a name, and what to do.
fn wrong_name(kind: Kind, name: &str) -> Option<(&'static str, &'static str)> {
    if name.len() > LONGEST {
        return Some((
            "longer than 253 bytes",
            "write the name as the cluster knows it",
        ));
    }
    match kind {
        Kind::ServiceAccount if !matches(&ACCOUNTS, name) => Some((
            "no service account has this name",
            "write the name alone, without its namespace and without `system:serviceaccount:`",
        )),
        Kind::ServiceAccount => None,
        // Everybody, every service account, nodes, the cluster's own parts: none is a team's.
        Kind::Person if name.starts_with(RESERVED) => Some((
            "Kubernetes gives this name a meaning of its own",
            "name a group of people, or write `kind = \"ServiceAccount\"` with `name` and `namespace`",
        )),
        Kind::Person if name == "*" => {
            Some(("RBAC knows no wildcard here", "name each user or group"))
        }
        Kind::Person if name.contains(char::is_control) || !matches(&PEOPLE, name) => Some((
            "empty, with a control character, or with a blank at an end",
            "write the name as the cluster knows it",
        )),
        Kind::Person => None,
    }
}

/// A pattern that the whole text must match; a test sees that each is one.
type Whole = LazyLock<Option<Regex>>;

static ACCOUNTS: Whole = LazyLock::new(|| whole(ACCOUNT_NAME));
static NAMESPACES: Whole = LazyLock::new(|| whole(NAMESPACE));
static PEOPLE: Whole = LazyLock::new(|| whole(PERSON_NAME));

fn whole(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).ok()
}

fn matches(whole: &Whole, text: &str) -> bool {
    whole.as_ref().is_some_and(|whole| whole.is_match(text))
}
