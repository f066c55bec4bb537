//! The terminal: arguments, output, prompts, progress, exit codes. Only this prints.

use std::process::ExitCode;

mod apply;
mod args;
mod bootstrap;
mod controls;
mod disable;
mod encryption;
mod eta;
mod etcd;
mod etcd_out;
mod etcd_restore;
mod etcd_scan;
mod eval;
mod execute;
mod explain;
mod failure;
mod generations;
mod key_backup;
mod key_source;
mod lock;
mod options;
mod outcome;
mod output;
mod plan;
mod progress;
mod read_back;
mod recipient;
mod render;
mod rollback;
mod rotate;
mod save;
mod session;
mod tree;
mod waiting;
mod workstation;

use args::Command;
pub(crate) use failure::Failure;

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let global = &args.global;
    let output = output::Output::new(global);
    let result = match &args.command {
        Command::Plan(own) => plan::run(own, global, &output),
        Command::Apply(own) => apply::run(own, global, &output),
        Command::Rollback(own) => rollback::run(own, global, &output),
        Command::Generations => generations::run(global, &output),
        Command::Lock(own) => lock::run(own, global, &output),
        Command::Controls(own) => controls::run(own, &output),
        Command::Explain(own) => explain::run(own, global, &output),
        Command::Eval(own) => eval::run(own, global, &output),
        Command::Options(own) => options::options(own, global, &output),
        Command::Schema(own) => options::schema(own, global, &output),
        Command::Render(own) => render::run(own, global, &output),
        Command::Bootstrap(own) => bootstrap::run(own, global, &output),
        Command::Encryption(own) => encryption::run(own, global, &output),
        Command::Etcd(own) => etcd::run(own, global, &output),
    };
    let code = result.unwrap_or_else(|failure| {
        output.failure(&failure);
        Exit::Error
    });
    match output.lost() {
        None => code.into(),
        Some(error) => {
            output.failure(&Failure::new(
                format!("the result could not be written to stdout: {error}"),
                "write it where there is room; whatever the command did besides stays done",
            ));
            Exit::Error.into()
        }
    }
}

/// What the exit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to do, or everything done.
    Done,
    /// It failed, or the answer is incomplete.
    Error,
    /// There are changes.
    Changes,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::Changes => 2,
        })
    }
}
