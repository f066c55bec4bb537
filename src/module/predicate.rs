//! Checks: what a control asks of a cluster, whatever any profile says. A value that is stricter
//! than the one that an option recommends passes as well.

use std::ops::Range;
use std::sync::LazyLock;

use serde_json::Value as Json;

use super::expression::{Expression, Lazy, Seen, Surroundings};
use crate::profile::section::{Complaints, Section};
use crate::resource::Subject;

/// A check sees nothing but its subject, so one will do for all. Making one costs more than asking a
/// check, and every resource of a profile is held against some.
static SURROUNDINGS: LazyLock<Result<Surroundings<'static>, String>> =
    LazyLock::new(Surroundings::new);

/// A check of a control.
#[derive(Debug, Clone)]
pub struct Check {
    /// The control, by stable name.
    pub control: String,
    /// What is looked at.
    pub subject: Subject,
    /// What it is compared with, if anything: the condition sees its value as `other`.
    pub other: Option<Subject>,
    that: Expression,
    /// Where the control is named.
    pub(crate) place: Range<usize>,
}

impl Check {
    /// Returns the condition as the module has it.
    pub fn condition(&self) -> &str {
        &self.that.source
    }

    /// Whether what was seen of the subject passes; see [`Subject`] for its shape. With
    /// [`Check::other`], the value of that is seen beside it as `"other"`.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn passes(&self, seen: &Json) -> Result<bool, String> {
        let names = seen.as_object().into_iter().flatten();
        let names = names.map(|(name, value)| (name.as_str(), value));
        let mut asked = Check::ask([self], names);
        let answer = asked.pop().map(|(_, answer)| answer);
        answer.unwrap_or_else(|| Err("it was not asked".into()))
    }

    /// What it asks.
    #[cfg(test)]
    pub(super) fn that(&self) -> &Expression {
        &self.that
    }

    /// Asks several checks about the same, whose parts are given by name: see [`Check::passes`].
    pub fn ask<'c, 's>(
        checks: impl IntoIterator<Item = &'c Check>,
        seen: impl IntoIterator<Item = (&'s str, &'s Json)>,
    ) -> Vec<(&'c Check, Result<bool, String>)> {
        let mut names = Lazy::new();
        for (name, value) in seen {
            names.add(name, || Seen::json(value));
        }
        let sight = SURROUNDINGS.as_ref().map(|around| around.sight(&names));
        let ask = |check: &Check| match &sight {
            Ok(sight) => check.that.holds(sight),
            Err(why) => Err((*why).clone()),
        };
        checks
            .into_iter()
            .map(|check| (check, ask(check)))
            .collect()
    }
}

/// Reads all `[[check]]` of a module.
pub(super) fn read(top: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for (table, span) in top.tables("check", out) {
        let mut section = Section::new(table, "check");
        let control = section.required("control", span.clone(), out);
        let place = section
            .get("control")
            .map_or(span.clone(), toml::Spanned::span);
        let subject = subject(&mut section, span.clone(), out);
        let other = other(&mut section, out);
        let that = Expression::read(&mut section, span, out);
        section.finish(out);
        if let (Some(control), Some(subject), Some(that)) = (control, subject, that) {
            checks.push(Check {
                control: control.to_owned(),
                subject,
                other,
                that,
                place,
            });
        }
    }
    checks
}

/// Reads `other`, a second flag.
fn other(section: &mut Section<'_, '_>, out: &mut Complaints<'_>) -> Option<Subject> {
    let place = section.get("other").map_or(0..0, toml::Spanned::span);
    let table = section.table("other", out)?;
    let mut section = Section::new(table, "other");
    let component = section.required("component", place.clone(), out);
    let name = section.required("flag", place.clone(), out);
    section.finish(out);
    let flag = flag(component?, name?);
    if flag.is_none() {
        out.at(
            place,
            "`other` is no flag of a component",
            "here",
            "give `component` and `flag`",
        );
    }
    flag
}

fn flag(component: &str, name: &str) -> Option<Subject> {
    let component = serde_json::from_value(Json::from(component)).ok()?;
    Some(Subject::Flag {
        component,
        name: name.to_owned(),
    })
}

fn subject(
    section: &mut Section<'_, '_>,
    table: Range<usize>,
    out: &mut Complaints<'_>,
) -> Option<Subject> {
    let before = out.list.len();
    let component = section.string("component", out);
    let name = section.string("flag", out);
    let file = section.string("file", out);
    let path = section.string("path", out);
    let object = section.string("object", out);
    let others = [
        path.map(|path| Subject::Mode(path.to_owned())),
        object.map(|kind| Subject::Object(kind.to_owned())),
        section
            .string("kubelet", out)
            .map(|field| Subject::Kubelet(field.to_owned())),
        section
            .string("kube-proxy", out)
            .map(|field| Subject::KubeProxy(field.to_owned())),
        section
            .string("sysctl", out)
            .map(|name| Subject::Sysctl(name.to_owned())),
    ];
    let mut others = others.into_iter().flatten();
    let subject = match (component, name, file, others.next(), others.next()) {
        (Some(component), Some(name), None, None, None) => flag(component, name),
        (Some(component), None, Some(flag), None, None) => {
            let component = serde_json::from_value(Json::from(component)).ok();
            component.map(|component| Subject::File {
                component,
                flag: flag.to_owned(),
            })
        }
        (None, None, None, one, None) => one,
        _ => None,
    };
    if subject.is_none() && out.list.len() == before {
        out.at(
            table,
            "a check looks at one thing",
            "which?",
            "give `component` and `flag` or `file` (the flag that names it), or one of `path`, `object` (a kind of API object), `kubelet`, `kube-proxy` (a field) and `sysctl`",
        );
    }
    subject
}
