//! `harden encryption disable`.

use std::collections::BTreeSet;

use harden::apply::{Course, Reached, Until};
use harden::observe::{self, Wanted};
use harden::plan::{self, Plan};
use harden::resource::encryption::{Encryption, Goal, Next, Seen, next};

use super::args::{DisableArgs, Global};
use super::encryption::{look, show};
use super::execute::{Execution, PATIENCE, ask, snapshot_before_keys, with_apply};
use super::output::Output;
use super::session::Session;
use super::workstation::{Dropping, Here};
use super::{Exit, Failure};

/// Brings everything into clear, and starts the API servers without a file.
pub(crate) fn run(own: &DisableArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open_locked(global, PATIENCE)?;
    let execution = Execution::new(&session, output, &own.consent)?;
    execution.finish_first()?;
    let none = BTreeSet::new();
    let (mut seen, judged) = look(&session, output, &none);
    if !judged.unknown.is_empty() {
        show(output, &seen, &judged, Exit::Error);
        return Err(Failure::new(
            "not everything could be seen; nothing was changed",
            "see above, and the remedy of each",
        ));
    }
    if is_over(&seen) && without_flags(&session, output).is_clean() {
        output.outcome("Nothing is encrypted, and no API server runs with a file.");
        return Ok(Exit::Done);
    }
    if session.desired.encrypts().is_some() {
        output.note(
            "The profile still has `encryption`: the next `harden apply` begins it again, with a new key.",
        );
    }
    if !own.consent.yes {
        ask("Write every object in clear, and drop every key from the control planes?")?;
    }
    let mut here = Here {
        session: &session,
        output,
        rate: own.rate,
        dropping: Dropping::Wanted,
    };
    let mut is_saved = false;
    loop {
        // Before the files go: nothing may name them any more, also what kubeadm keeps.
        if is_over(&seen) || matches!(next_of(&seen), Next::Disable { .. } | Next::Remove { .. }) {
            let plan = without_flags(&session, output);
            let is_to_do = !plan.is_clean() || plan.is_incomplete();
            if is_to_do && execution.run(|| Ok(plan))? != Exit::Done {
                return Ok(Exit::Error);
            }
        }
        let course = Course {
            goal: Goal::new(),
            new: None,
            until: Until::OnlyOne,
        };
        if !is_saved {
            let interrupted = execution.interrupted();
            snapshot_before_keys(&session, output, &own.consent, interrupted, &mut here)?;
            is_saved = true;
        }
        let reached = with_apply(
            &session,
            output,
            &own.consent,
            execution.interrupted(),
            &mut here,
            |apply| apply.encrypt(course),
        )?;
        if reached != Reached::Flags {
            break;
        }
        seen = look(&session, output, &none).0;
    }
    output.outcome(
        "Every object is in clear, and no API server runs with a file. Older snapshots of etcd need the keys: \
         keep their backups.",
    );
    Ok(Exit::Done)
}

fn next_of(seen: &Seen) -> Next {
    next(&Goal::new(), &seen.view())
}

fn is_over(seen: &Seen) -> bool {
    next_of(seen) == Next::Done
}

/// The plan by which the flags go, in three copies.
fn without_flags(session: &Session, output: &Output) -> Plan {
    let cluster = &session.workspace.cluster;
    let desired = Encryption::ended(&cluster.name, cluster.distribution);
    let wanted = Wanted {
        ledger: None,
        ..Wanted::for_desired(&desired, &session.inventory)
    };
    let mut facts = session.observe(&wanted, output);
    observe::more_encryption(&mut facts, &BTreeSet::new(), &mut |wanted| {
        session.observe(wanted, output)
    });
    facts
        .nodes
        .retain(|name, _| session.inventory.nodes.contains_key(name));
    plan::build(&desired, &facts)
}
