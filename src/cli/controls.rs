//! `harden controls`.

use harden::control::{self, Catalogue, USUAL};
use harden::module::Modules;
use harden::report::{Listing, controls_json, controls_text};

use super::args::ControlsArgs;
use super::output::Output;
use super::{Exit, Failure};

/// Lists the controls.
pub(crate) fn run(args: &ControlsArgs, output: &Output) -> Result<Exit, Failure> {
    let modules = Modules::builtin()?;
    let catalogue = Catalogue::builtin()?;
    control::check(&catalogue, &modules)?;
    let asked = args.benchmark.as_deref();
    let benchmark = catalogue.benchmark(asked.unwrap_or(USUAL))?;
    let mut controls = control::coverage(&catalogue, &modules);
    let counts = catalogue
        .benchmarks()
        .into_iter()
        .filter(|one| asked.is_none_or(|asked| asked == one.name))
        .map(|one| (one, control::count(&controls, one)))
        .collect();
    if asked.is_some() {
        controls.retain(|one| !one.ids(&benchmark.name).is_empty());
    }
    if let Some(query) = &args.query {
        controls.retain(|one| one.matches(query));
    }
    control::in_order_of(&mut controls, &benchmark.name);
    let listing = Listing {
        controls,
        ids: benchmark,
        counts,
    };
    output.result(&controls_text(&listing), &controls_json(&listing));
    Ok(Exit::Done)
}
