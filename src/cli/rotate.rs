//! `harden encryption rotate`.

use harden::apply::{Course, NewKey, Reached, Until, new_form};
use harden::fact::encryption::{Form, Provider};
use harden::resource::encryption::{Backup, begun, renewed};

use super::args::{Global, ProviderName, RotateArgs};
use super::encryption::{look, show};
use super::execute::{PATIENCE, Runs, ask, snapshot_before_keys, with_apply};
use super::output::Output;
use super::session::Session;
use super::workstation::{Dropping, Here};
use super::{Exit, Failure, key_backup};

/// Rotates the key of a cluster that encrypts.
pub(crate) fn run(own: &RotateArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open_locked(global, PATIENCE)?;
    let wanted = session.desired.encrypts().unwrap_or_default();
    let (seen, judged) = look(&session, output, &wanted);
    if !judged.unknown.is_empty() {
        show(output, &seen, &judged, Exit::Error);
        return Err(Failure::new(
            "not everything could be seen; nothing was changed",
            "see above, and the remedy of each",
        ));
    }
    let course = match begun(&seen) {
        Some(goal) => {
            output.note("A rotation has begun and is not at its end; it is taken up.");
            Course {
                goal,
                new: None,
                until: Until::OnlyOne,
            }
        }
        None => {
            let form = new_form(&seen, provider(own, &session))?;
            let Some(goal) = renewed(&seen, &form) else {
                show(output, &seen, &judged, Exit::Error);
                return Err(Failure::new(
                    "there is no key to rotate; nothing was changed",
                    "set encryption.provider in the profile, and `harden apply` begins encryption",
                ));
            };
            let backup = backup(own, &session)?;
            let Form::Key { name, .. } = &form else {
                return Err(Failure::new("the new form is no key", "report this"));
            };
            key_backup::check(&session.workspace.dir, &backup.named(name.as_str()))?;
            Course {
                goal,
                new: Some(NewKey {
                    form,
                    backup,
                    source: session.desired.own_key().map(|(source, _)| source.clone()),
                }),
                until: Until::OnlyOne,
            }
        }
    };
    let target = target(&course);
    if !own.consent.yes {
        ask(&format!("Bring every object under {target}?"))?;
    }
    let mut here = Here {
        session: &session,
        output,
        rate: own.rate,
        dropping: match (own.drop, own.consent.yes) {
            (true, _) => Dropping::Wanted,
            (false, false) => Dropping::Asked,
            (false, true) => Dropping::Unwanted,
        },
    };
    let runs = Runs::new(&session, output, &own.consent)?;
    let interrupted = runs.interrupted();
    snapshot_before_keys(&session, output, &own.consent, interrupted, &mut here)?;
    let reached = with_apply(
        &session,
        output,
        &own.consent,
        interrupted,
        &mut here,
        |apply| apply.encrypt(course),
    )?;
    if reached == Reached::KeysLeft {
        output.outcome(&format!(
            "Every object is under {target}; the old keys stay in the files. `--drop` drops them."
        ));
    }
    let (seen, judged) = look(&session, output, &wanted);
    Ok(show(output, &seen, &judged, Exit::Error))
}

/// What encrypts: as it is said here, or in the profile.
fn provider(own: &RotateArgs, session: &Session) -> Provider {
    match own.provider {
        Some(ProviderName::Secretbox) => Provider::Secretbox,
        Some(ProviderName::Aescbc) => Provider::Aescbc,
        Some(ProviderName::Aesgcm) => Provider::Aesgcm,
        None => session
            .desired
            .encryption()
            .map_or(Provider::Secretbox, |wanted| wanted.provider()),
    }
}

/// Where the new key is kept: as it is said here, or in the profile.
fn backup(own: &RotateArgs, session: &Session) -> Result<Backup, Failure> {
    if let Some(path) = &own.backup {
        // It is relative to where the user is, unlike one of the profile.
        let path = std::path::absolute(path)
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned));
        let path = path.ok_or_else(|| {
            Failure::new("the path of the backup is not UTF-8", "name another file")
        })?;
        return Ok(Backup::File(path));
    }
    if !own.command.is_empty() {
        return Ok(Backup::Command(own.command.clone()));
    }
    let of_profile = session
        .desired
        .encryption()
        .and_then(|e| e.backup())
        .cloned();
    of_profile.ok_or_else(|| {
        Failure::new(
            "it is not said where the new key is backed up; nothing was changed",
            "without its key nobody can read what it encrypts: `--backup FILE`, or a program that \
             takes it on stdin, as in `-- age -r age1… -o key.age`",
        )
    })
}

/// Names the key that everything comes under.
fn target(course: &Course) -> String {
    let mut forms = course.goal.values().filter(|form| !form.is_clear());
    forms.next().map(ToString::to_string).unwrap_or_default()
}
