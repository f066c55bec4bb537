//! What encryption needs of the machine that harden runs on.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use harden::apply::{Trouble, Workstation};
use harden::fact::encryption::Form;
use harden::resource::encryption::keys::Secret;
use harden::resource::encryption::{Backup, KeySource, Seen};

use super::encryption::{look, write_all};
use super::execute::ask;
use super::output::Output;
use super::read_back::read_back;
use super::session::Session;
use super::{Failure, key_backup, key_source};

/// Objects a second that are written anew, where it is not said.
pub(super) const RATE: u32 = 50;

/// Whether keys may be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropping {
    /// It was said so.
    Wanted,
    /// It is asked on a terminal.
    Asked,
    /// They stay.
    Unwanted,
}

/// This machine.
pub(super) struct Here<'s> {
    pub(super) session: &'s Session,
    pub(super) output: &'s Output,
    pub(super) rate: u32,
    pub(super) dropping: Dropping,
}

impl Workstation for Here<'_> {
    fn look(&mut self, also: &BTreeSet<String>) -> Seen {
        look(self.session, self.output, also).0
    }

    fn backup(&self) -> Option<Backup> {
        self.session.desired.own_backup().cloned()
    }

    fn key_source(&self) -> Option<KeySource> {
        let (source, _) = self.session.desired.own_key()?;
        Some(source.clone())
    }

    fn given_key(&mut self) -> Result<Secret, Trouble> {
        match self.session.desired.own_key() {
            Some((source, origin)) => key_source::read(&self.session.workspace.dir, source, origin),
            None => Err(Trouble::new("no key is given", "set encryption.key")),
        }
    }

    fn back_up(&mut self, backup: &Backup, form: &Form, secret: &Secret) -> Result<(), Trouble> {
        let workspace = &self.session.workspace;
        key_backup::write(
            &workspace.dir,
            backup,
            &workspace.cluster.name,
            form,
            secret,
        )
    }

    fn rewrite(
        &mut self,
        seen: &Seen,
        resources: &[String],
        pass: &mut dyn FnMut() -> bool,
    ) -> Result<(), Trouble> {
        write_all(self.rate, self.session, self.output, seen, resources, pass).map_err(|failure| {
            match failure {
                Failure::Other { what, hint } => Trouble::new(what, hint),
                other => Trouble::new(format!("{other:?}"), ""),
            }
        })
    }

    fn read_back(&mut self, seen: &Seen, pass: &mut dyn FnMut() -> bool) -> Result<(), Trouble> {
        let problems = read_back(self.session, self.output, seen, pass);
        match problems.into_iter().next() {
            None => Ok(()),
            Some((_, problem)) => Err(Trouble::new(
                format!(
                    "{}: {}: {}; no key is dropped",
                    problem.place, problem.subject, problem.message
                ),
                problem.remedy,
            )),
        }
    }

    fn may_drop(&mut self) -> bool {
        match self.dropping {
            Dropping::Wanted => true,
            Dropping::Unwanted => false,
            Dropping::Asked => {
                let question =
                    "Drop the old keys? It cannot be undone, and older snapshots of etcd need them";
                std::io::stdin().is_terminal() && ask(question).is_ok()
            }
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Failure::new(trouble.what, trouble.remedy)
    }
}
