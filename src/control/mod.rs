//! Controls: requirements by stable names of our own, and the benchmarks that ask for them.
//!
//! The catalogue is data, in `modules/controls/`. [`Catalogue`] holds it, [`check`] holds it
//! against the options of the modules, [`coverage`] says what the program can do about each
//! control, and [`explain`] tells all there is to know of one name.

use std::cmp::Ordering;
use std::collections::BTreeMap;

mod benchmark;
mod builtin;
mod check;
mod coverage;
mod explain;
mod read;
mod reason;
mod setting;
#[cfg(test)]
mod tests;

pub use check::check;
pub use coverage::{Count, Covered, State, count, coverage, in_order_of};
pub use explain::{ControlCard, Explained, FieldLine, OptionCard, TitledControl, explain};
pub use reason::give_reasons;
pub use setting::{Place, Setting, settings};

use crate::profile::section::{File, did_you_mean, one_of, quoted};
use crate::profile::{Diagnostic, Failure};

/// The benchmark whose ids stand beside a control when none was asked for: the newest of CIS.
pub const USUAL: &str = "cis-2.0";

/// All controls and benchmarks.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    benchmarks: BTreeMap<String, Benchmark>,
    controls: BTreeMap<String, Control>,
}

/// A list of requirements that somebody published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Benchmark {
    /// The stable name, with the version where versions differ: `cis-1.12`.
    pub name: String,
    /// The full name.
    pub title: String,
    /// Which version.
    pub version: String,
    /// Whether each id is one check, and so belongs to one control. Elsewhere a control is only a
    /// part of what an id asks for.
    pub checks: bool,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The stable name, which says the property: `apiserver-profiling-off`.
    pub name: String,
    /// The file it is in, for example `api-server`.
    pub area: String,
    /// What holds where it is kept, in one sentence without a full stop.
    pub title: String,
    /// What can happen otherwise.
    pub why: String,
    /// What enforcing it can break.
    pub hazard: Option<String>,
    /// The level of the CIS profile that it belongs to, 1 or 2, where that is known.
    pub level: Option<u8>,
    /// The tests in `tests/cluster` that make it bad on a real cluster and see it mended.
    pub proof: Vec<String>,
    /// Why no such test makes it bad and sees it mended, in one sentence; only without `proof`.
    pub unproven: Option<String>,
    /// The ids by benchmark, in their natural order; none of them is empty.
    pub ids: BTreeMap<String, Vec<String>>,
}

impl Catalogue {
    /// Returns the catalogue that is part of the program.
    ///
    /// # Errors
    /// What is wrong with it; a test sees to it that nothing is.
    pub fn builtin() -> Result<Self, Failure> {
        let files = builtin::CONTROLS.iter().map(|(name, text)| {
            let file = File {
                name: format!("builtin:modules/controls/{name}.toml"),
                text: (*text).into(),
            };
            ((*name).to_owned(), file)
        });
        read::read(&files.collect())
    }

    /// Returns a control by name.
    pub fn control(&self, name: &str) -> Option<&Control> {
        self.controls.get(name)
    }

    /// Returns every control by name.
    pub fn controls(&self) -> impl Iterator<Item = &Control> {
        self.controls.values()
    }

    /// Returns every benchmark by name, older versions before newer ones.
    pub fn benchmarks(&self) -> Vec<&Benchmark> {
        let mut all: Vec<_> = self.benchmarks.values().collect();
        all.sort_by(|a, b| natural(&a.name, &b.name));
        all
    }

    /// Returns a benchmark by name.
    ///
    /// # Errors
    /// There is none of that name; says which is the nearest.
    pub fn benchmark(&self, name: &str) -> Result<&Benchmark, Box<Diagnostic>> {
        self.benchmarks.get(name).ok_or_else(|| {
            let known: Vec<_> = self.benchmarks().iter().map(|b| b.name.as_str()).collect();
            let near = did_you_mean(name, known.iter().copied());
            let near = near.map(|n| format!("{n} ")).unwrap_or_default();
            let fault = Diagnostic::new(format!("there is no benchmark {}", quoted(name)));
            Box::new(fault.help(format!("{near}use {}", one_of(known))))
        })
    }
}

/// Compares ids as people sort them: 1.2.9 before 1.2.10.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> impl Iterator<Item = (Option<u64>, &str)> {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .map(|part| (part.parse().ok(), part))
    }
    parts(a).cmp(parts(b)).then_with(|| a.cmp(b))
}
