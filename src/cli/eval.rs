//! `harden eval`.

use harden::profile::is_node_name;
use harden::report::State;
use serde_json::json;

use super::args::{EvalArgs, Global};
use super::output::Output;
use super::session::Evaluated;
use super::{Exit, Failure};

/// Shows what the workspace evaluates to; asks no cluster.
pub(crate) fn run(args: &EvalArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let node = args.node.as_deref();
    if let Some(wrong) = node.filter(|name| !is_node_name(name)) {
        return Err(Failure::new(
            format!("{wrong:?} is no name of a node"),
            "use the Node object's name: small letters, digits, `-` and `.`",
        ));
    }
    let evaluated = Evaluated::read(global)?;
    let state = State {
        modules: &evaluated.modules,
        workspace: &evaluated.workspace,
        desired: &evaluated.desired,
        node,
    };
    if let Some(option) = &args.why {
        let why = state
            .why(option)
            .map_err(|(what, hint)| Failure::new(what, hint))?;
        output.result(&why.text, &why.json);
        if let Some(hint) = &why.hint {
            output.note(&format!("hint: {hint}"));
        }
        return Ok(Exit::Done);
    }
    if args.hash {
        let sha256 = evaluated.desired.sha256();
        let json = json!({"schema": "harden.dev/eval-hash/v1", "sha256": sha256});
        output.result(&format!("{sha256}\n"), &json);
        return Ok(Exit::Done);
    }
    output.findings(&evaluated.desired.findings);
    output.result(&state.text(), &state.json());
    Ok(Exit::Done)
}
