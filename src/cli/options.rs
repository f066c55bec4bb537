//! `harden options` and `harden schema`: what a profile may say.

use harden::report::{self, SchemaOf};

use super::args::{Global, OptionsArgs, SchemaArgs};
use super::output::Output;
use super::session;
use super::{Exit, Failure};

/// Shows the options of the workspace's modules, or without a workspace of the built-in ones.
pub(crate) fn options(
    args: &OptionsArgs,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    let modules = session::modules(global)?;
    let found = report::options(&modules, args.query.as_deref());
    if let (true, Some(query)) = (found.is_empty(), &args.query) {
        return Err(Failure::new(
            format!("no option has {query:?} in its name or its text"),
            "`harden options` lists every option; a part of a word is enough",
        ));
    }
    output.result(&report::options_text(&found), &report::options_json(&found));
    Ok(Exit::Done)
}

/// Writes a JSON Schema.
pub(crate) fn schema(args: &SchemaArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let modules = session::modules(global)?;
    let of = if args.profile {
        SchemaOf::Profile
    } else {
        SchemaOf::Workspace
    };
    let schema = report::schema(&modules, of);
    output.result(&format!("{schema:#}\n"), &schema);
    Ok(Exit::Done)
}
