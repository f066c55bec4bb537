//! `harden explain`.

use harden::control::{self, Catalogue};
use harden::profile;
use harden::report::{explain_json, explain_text};

use super::args::{ExplainArgs, Global};
use super::output::Output;
use super::session;
use super::{Exit, Failure};

/// Explains one name.
pub(crate) fn run(args: &ExplainArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let modules = session::modules(global)?;
    let catalogue = Catalogue::builtin()?;
    control::check(&catalogue, &modules)?;
    // Outside of a workspace there are no values to show.
    let workspace = match global.workspace.join("harden.toml").exists() {
        true => Some(profile::load(&global.workspace, &modules)),
        false => None,
    };
    let values = match &workspace {
        Some(Ok(workspace)) => Some(&workspace.values),
        _ => None,
    };
    let explained = control::explain(&args.name, &catalogue, &modules, values)?;
    let json = explain_json(&explained)
        .map_err(|e| Failure::new(format!("cannot write this as JSON: {e}"), ""))?;
    output.result(&explain_text(&explained, &catalogue), &json);
    // Whoever mends a profile wants to read about its options first.
    match workspace {
        Some(Err(failure)) => Err(failure.into()),
        _ => Ok(Exit::Done),
    }
}
