//! Assertions: what must hold of the values of a profile.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::expression::{Expression, Lazy, Seen};
use super::table::{self, Guard};
use super::template::Template;
use crate::profile::Values;
use crate::profile::section::{Complaints, Section};

/// An assertion of a module.
#[derive(Debug, Clone)]
pub(crate) struct Assertion {
    /// The table's heading.
    pub(crate) span: Range<usize>,
    /// When it is asked, and of what.
    pub(crate) guard: Guard,
    pub(crate) that: Expression,
    /// What a reader is told when it does not hold.
    pub(crate) message: Template,
    /// What to do then.
    pub(crate) help: String,
    /// The control that says why it matters, with its place.
    pub(crate) control: Option<(String, Range<usize>)>,
    /// Whether evaluation fails.
    pub(crate) is_error: bool,
}

/// Reads all `[[assert]]` of a module.
pub(super) fn read(
    context: &table::Context<'_>,
    top: &mut Section<'_, '_>,
    used: &mut BTreeSet<String>,
    out: &mut Complaints<'_>,
) -> Vec<Assertion> {
    let mut assertions = Vec::new();
    for (table, span) in top.tables("assert", out) {
        let before = out.list.len();
        let mut section = Section::new(table, "assert");
        let (guard, mut checker) = table::guard(context, &mut section, used, out);
        let message = section.required("message", span.clone(), out);
        let message = message.and_then(|_| Template::read(section.get("message")?, out));
        if let Some(message) = &message {
            message.references(&mut |reference, place| checker.reference(reference, place, out));
        }
        let help = section.required("help", span.clone(), out);
        let control = section.string("control", out).map(str::to_owned);
        let control = control.zip(section.get("control").map(toml::Spanned::span));
        let severity = section.choice("severity", &[("error", true), ("warning", false)], out);
        let that = Expression::read(&mut section, span.clone(), out);
        section.finish(out);
        if let (Some(message), Some(help), Some(that)) = (message, help, that)
            && out.list.len() == before
        {
            assertions.push(Assertion {
                span,
                guard,
                that,
                message,
                help: help.to_owned(),
                control,
                is_error: severity.unwrap_or(true),
            });
        }
    }
    assertions
}

/// What every assertion can name: the values by section and option, as `options`.
pub(super) fn options(values: &Values) -> Lazy<'_> {
    let mut names = Lazy::new();
    names.add("options", move || {
        let mut sections: BTreeMap<&str, Vec<(&str, Seen<'_>)>> = BTreeMap::new();
        let mut options = Vec::new();
        for (name, value) in values.iter() {
            match name.split_once('.') {
                // An option that is a whole section.
                None => options.push((name, Seen::value(value))),
                Some((section, option)) => {
                    let section = sections.entry(section).or_default();
                    section.push((option, Seen::value(value)));
                }
            }
        }
        let sections = sections.into_iter();
        Seen::table(
            options
                .into_iter()
                .chain(sections.map(|(name, of)| (name, Seen::table(of)))),
        )
    });
    names
}
