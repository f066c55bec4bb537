//! `harden render`.

use harden::report::{self, RENDER};
use serde_json::json;

use super::args::{Global, RenderArgs};
use super::output::Output;
use super::session::Evaluated;
use super::{Exit, Failure, tree};

/// Writes the desired state as a tree of files.
pub(crate) fn run(args: &RenderArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let evaluated = Evaluated::read(global)?;
    output.findings(&evaluated.desired.findings);
    let files = report::render(&evaluated.desired).map_err(|e| {
        let hint = "`harden eval --format json` shows every resource and the options behind it";
        Failure::new(format!("the state cannot be written as files: {e}"), hint)
    })?;
    tree::write(&args.dir, &files, RENDER)?;
    let names: Vec<&String> = files.keys().collect();
    let json = json!({
        "schema": "harden.dev/render/v1",
        "sha256": evaluated.desired.sha256(),
        "files": names,
    });
    output.result("", &json);
    output.note(&format!(
        "{} files are in {}.",
        files.len(),
        args.dir.display()
    ));
    Ok(Exit::Done)
}
