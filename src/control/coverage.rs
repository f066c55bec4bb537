//! What the program can do about each control.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Benchmark, Catalogue, Control, natural};
use crate::module::Modules;

/// What the program can do about a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// An option serves it, and a test on a real cluster makes it bad and sees it mended.
    Enforced,
    /// An option serves it; no test on a real cluster shows it, and the control may say why.
    Configurable,
    /// No option serves it.
    NotCovered,
}

impl State {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            State::Enforced => "enforced",
            State::Configurable => "configurable",
            State::NotCovered => "not covered",
        }
    }
}

/// A control and what can be done about it.
#[derive(Debug, Clone)]
pub struct Covered<'c> {
    /// Which.
    pub control: &'c Control,
    /// The options that serve it, by name.
    pub options: Vec<&'c str>,
    /// What follows.
    pub state: State,
}

/// Says of every control, by name, what can be done about it.
pub fn coverage<'c>(catalogue: &'c Catalogue, modules: &'c Modules) -> Vec<Covered<'c>> {
    let mut options: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for decl in modules.declarations() {
        for control in &decl.controls {
            options.entry(control).or_default().push(&decl.name);
        }
    }
    catalogue
        .controls()
        .map(|control| {
            let options = options.remove(control.name.as_str()).unwrap_or_default();
            let state = match (options.is_empty(), control.proof.is_empty()) {
                (true, _) => State::NotCovered,
                (false, true) => State::Configurable,
                (false, false) => State::Enforced,
            };
            Covered {
                control,
                options,
                state,
            }
        })
        .collect()
}

impl Covered<'_> {
    /// The control's ids in a benchmark.
    pub fn ids(&self, benchmark: &str) -> &[String] {
        self.control.ids.get(benchmark).map_or(&[], Vec::as_slice)
    }

    /// Whether somebody who typed `query` looks for this control: it is part of the name, title,
    /// area or an option's name, or an id or the beginning of one.
    pub fn matches(&self, query: &str) -> bool {
        let query = query.to_lowercase();
        let texts = [
            &*self.control.name,
            &*self.control.title,
            &*self.control.area,
        ];
        let mut texts = texts.into_iter().chain(self.options.iter().copied());
        let mut ids = self.control.ids.values().flatten();
        texts.any(|text| text.to_lowercase().contains(&query))
            || ids.any(|id| {
                let id = id.to_lowercase();
                // 1.2 is the chapter of 1.2.15, and no part of 1.20.
                id.strip_prefix(&query)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '(']))
            })
    }
}

/// Brings controls into the order of a benchmark's ids; those without one come last, by name.
pub fn in_order_of(covered: &mut [Covered<'_>], benchmark: &str) {
    covered.sort_by(|a, b| match (a.ids(benchmark), b.ids(benchmark)) {
        ([first, ..], [other, ..]) => natural(first, other),
        ([], [_, ..]) => std::cmp::Ordering::Greater,
        ([_, ..], []) => std::cmp::Ordering::Less,
        ([], []) => a.control.name.cmp(&b.control.name),
    });
}

/// How many of a benchmark's checks, or of the controls that it has a part in, are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// [`State::Enforced`].
    pub enforced: usize,
    /// [`State::Configurable`].
    pub configurable: usize,
    /// [`State::NotCovered`].
    pub not_covered: usize,
}

impl Count {
    /// All of them.
    pub fn all(self) -> usize {
        self.enforced + self.configurable + self.not_covered
    }
}

/// Counts checks where the benchmark has checks, and controls elsewhere.
pub fn count(covered: &[Covered<'_>], benchmark: &Benchmark) -> Count {
    let mut count = Count::default();
    for one in covered {
        let number = match one.ids(&benchmark.name).len() {
            many if benchmark.checks => many,
            some => some.min(1),
        };
        *match one.state {
            State::Enforced => &mut count.enforced,
            State::Configurable => &mut count.configurable,
            State::NotCovered => &mut count.not_covered,
        } += number;
    }
    count
}
