//! Encryption at rest as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::plan_text::{DIM, HEADING};
use super::problems::problems_text;
use crate::fact::encryption::{EncryptionFile, Form, Stored, StoredForm};
use crate::fact::{Fact, Meta, NodePath};
use crate::resource::encryption::keys::made_at;
use crate::resource::encryption::machine::row_of;
use crate::resource::encryption::{Counted, Judgement, Seen, SeenPlane, seen};
use crate::resource::{Place, Problem};

/// The `schema` field of the document.
pub const ENCRYPTION: &str = "harden.dev/encryption/v1";

/// How many digits of a hash are shown; JSON has all.
const DIGITS: usize = 12;

/// Writes what was seen and what it comes to.
pub fn encryption_text(seen: &Seen, judged: &Judgement) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{HEADING}Control planes{HEADING:#}");
    for (node, plane) in &seen.planes {
        let _ = writeln!(out, "  {node}: {}", plane_text(plane));
    }
    let _ = writeln!(out, "\n{HEADING}Stored in etcd{HEADING:#}");
    for (resource, counted) in &seen.resources {
        let _ = writeln!(out, "  {resource}");
        for (label, forms) in read_by(seen, resource) {
            let _ = writeln!(out, "    {DIM}{label}:{DIM:#} {forms}");
        }
        match counted.most() {
            Fact::Value(stored) if stored.is_empty() => out.push_str("    no object\n"),
            Fact::Value(stored) => {
                for (form, count) in &stored {
                    let made = made(form).map_or_else(String::new, |time| format!(", made {time}"));
                    let _ = writeln!(out, "    {count:>8} {form}{DIM}{made}{DIM:#}");
                }
            }
            _ => out.push_str("    not known\n"),
        }
    }
    for (title, problems) in [
        ("Not known", &judged.unknown),
        ("Wrong", &judged.wrong),
        ("Worth knowing", &judged.notes),
    ] {
        if !problems.is_empty() {
            let _ = writeln!(out, "\n{HEADING}{title}{HEADING:#}");
            out.push_str(&problems_text(&problems.iter().collect::<Vec<_>>()));
        }
    }
    if let Some(next) = &judged.next {
        let _ = writeln!(out, "\nNext: {next}.");
    }
    out
}

/// What the servers read of a resource, those that read the same together.
fn read_by(seen: &Seen, resource: &str) -> Vec<(String, String)> {
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for (node, plane) in &seen.planes {
        let Some(file) = plane.file.value() else {
            continue;
        };
        let all = seen::rows(file);
        let row = row_of(Some(&all), resource).iter();
        let forms: Vec<String> = row.map(ToString::to_string).collect();
        let forms = forms.join(", then ");
        match rows.iter_mut().find(|(same, _)| *same == forms) {
            Some((_, nodes)) => nodes.push(node),
            None => rows.push((forms, vec![node])),
        }
    }
    let one = rows.len() == 1;
    rows.into_iter()
        .map(|(forms, nodes)| match one {
            true => ("read".to_owned(), forms),
            false => (format!("read by {}", nodes.join(", ")), forms),
        })
        .collect()
}

fn plane_text(plane: &SeenPlane) -> String {
    let server = match &plane.server {
        Fact::Value(server) => server,
        // What a run has left there that was stopped.
        _ => {
            return match plane.idle.value().filter(|_| plane.stopped) {
                Some(file) => format!("no API server runs; {}", file_text(&seen::own_path(), file)),
                None => "not known".to_owned(),
            };
        }
    };
    let Some(path) = &server.config else {
        return "no encryption configuration".to_owned();
    };
    let file = match &plane.file {
        Fact::Value(file) => file,
        Fact::Absent => return format!("{path} is not there"),
        Fact::Unreadable(_) => return format!("{path}, not readable"),
    };
    let loaded = match &plane.loaded {
        Fact::Value(loaded) if loaded.sha256 == file.sha256 => "loaded".to_owned(),
        Fact::Value(loaded) => format!("sha256 {} is loaded", &loaded.sha256[..DIGITS]),
        _ => "whether it is loaded is not known".to_owned(),
    };
    format!("{}; {loaded}", file_text(path, file))
}

fn file_text(path: &NodePath, file: &EncryptionFile) -> String {
    format!(
        "{path} of {}, {}, sha256 {}",
        time(file.written),
        owner(&file.meta),
        &file.sha256[..DIGITS]
    )
}

fn owner(meta: &Meta) -> String {
    format!("{:04o} {}:{}", meta.mode, meta.owner, meta.group)
}

/// RFC 3339, UTC.
fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}

/// When a key was made, as far as its name tells.
fn made(form: &StoredForm) -> Option<String> {
    match form {
        StoredForm::Form(Form::Key { name, .. }) => made_at(name).map(time),
        _ => None,
    }
}

/// The same as one document.
pub fn encryption_json(seen: &Seen, judged: &Judgement) -> Value {
    let planes = seen.planes.iter().map(|(node, plane)| {
        let server = plane.server.value();
        let file = plane.file.value().map(|file| {
            json!({
                "sha256": file.sha256,
                "mode": format!("{:04o}", file.meta.mode),
                "owner": file.meta.owner,
                "group": file.meta.group,
                "written": time(file.written),
                "resources": seen::rows(file).iter().map(|(resource, forms)| json!({
                    "resource": resource,
                    "forms": forms.iter().map(|form| form_json(&StoredForm::Form(form.clone()))).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
            })
        });
        json!({
            "node": node,
            "encrypts": server.map(|server| server.config.is_some()),
            "path": server.and_then(|server| server.config.as_ref().map(|path| path.as_str())),
            "reloads": server.map(|server| server.reloads),
            "file": file,
            "loaded-sha256": plane.loaded.value().map(|loaded| loaded.sha256.clone()),
            "refused-reloads": plane.loaded.value().map(|loaded| loaded.refused),
        })
    });
    let resources = seen.resources.iter().map(|(resource, counted)| {
        json!({
            "resource": resource,
            "stored": counted.most().value().map(stored_json),
            "members": members_json(counted),
        })
    });
    json!({
        "schema": ENCRYPTION,
        "control-planes": planes.collect::<Vec<_>>(),
        "resources": resources.collect::<Vec<_>>(),
        "unknown": problems_json(&judged.unknown),
        "wrong": problems_json(&judged.wrong),
        "notes": problems_json(&judged.notes),
        "next": judged.next.as_ref().map(ToString::to_string),
    })
}

fn members_json(counted: &Counted) -> Value {
    let members = counted.members.iter();
    members
        .map(|(node, fact)| {
            (
                node.clone(),
                fact.value().map(stored_json).unwrap_or_default(),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn stored_json(stored: &Stored) -> Value {
    let forms = stored.iter().map(|(form, count)| {
        let mut value = form_json(form);
        value["objects"] = (*count).into();
        value
    });
    forms.collect()
}

fn form_json(form: &StoredForm) -> Value {
    match form {
        StoredForm::Form(Form::Clear) => json!({"provider": "identity"}),
        StoredForm::Form(Form::Key { provider, name }) => {
            let mut value = json!({"provider": provider.name(), "key": name.as_str()});
            if let Some(made) = made(form) {
                value["made"] = made.into();
            }
            value
        }
        StoredForm::Other => json!({"provider": null}),
    }
}

fn problems_json(problems: &[Problem]) -> Value {
    let problems = problems.iter().map(|problem| {
        json!({
            "node": match &problem.place {
                Place::Node(node) => Some(node),
                Place::Api => None,
            },
            "subject": problem.subject,
            "message": problem.message,
            "remedy": problem.remedy,
        })
    });
    problems.collect()
}
