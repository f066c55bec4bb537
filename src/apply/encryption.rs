//! Brings objects under a key, or back into clear: does what comes next until nothing does.
//!
//! What is next follows from what is seen (`resource/encryption/machine.rs`), so that a run that dies
//! anywhere is taken up by whoever does this again. A rotation does it by itself, an apply within two of
//! its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::Apply;
use super::keys::{KeyChange, KeyError, KeyFile, Pen, WrittenKeys};
use super::session::Session;
use super::step::Failure;
use crate::fact::encryption::{Form, Provider};
use crate::resource::encryption::keys::{KEY_BYTES, Secret, key_name};
use crate::resource::encryption::seen::own_path;
use crate::resource::encryption::{
    Backup, EncryptionPart, EncryptionWork, Goal, KeySource, Next, Plane, Rows, Seen, Stage, Stop,
    View, asked, newest, next, next_keeping_keys,
};

/// How long API servers may take to load a file: they look once a minute, and a load takes a moment.
const LOADING: Duration = Duration::from_secs(180);

/// For how long a control plane of which something is not known is asked again: it may just have started.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// What it needs of the place that it runs at.
pub trait Workstation {
    /// Looks at everything about encryption: at the resources that files name, and at others.
    fn look(&mut self, also: &BTreeSet<String>) -> Seen;

    /// Where the profile at this place has a new key kept; `None` where it does not say.
    fn backup(&self) -> Option<Backup>;

    /// Where the profile at this place has a new key come from; `None` where it is made here.
    fn key_source(&self) -> Option<KeySource>;

    /// Reads the key from there.
    ///
    /// # Errors
    /// When it is not there, or is no key. Nothing of the key is in the error.
    fn given_key(&mut self) -> Result<Secret, Trouble>;

    /// Keeps a key, before it encrypts anything.
    ///
    /// # Errors
    /// When it is not kept. Nothing of the key is in the error.
    fn back_up(&mut self, backup: &Backup, form: &Form, secret: &Secret) -> Result<(), Trouble>;

    /// Has the API server write every object of these resources anew; `pass` is called now and then, and says
    /// whether to go on.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses some.
    fn rewrite(
        &mut self,
        seen: &Seen,
        resources: &[String],
        pass: &mut dyn FnMut() -> bool,
    ) -> Result<(), Trouble>;

    /// Has every API server read every object that is under a key. The forms in etcd tell the name of a key
    /// only, and a server with another key of that name would be found too late.
    ///
    /// # Errors
    /// Which server cannot read what, or why that is not known.
    fn read_back(&mut self, seen: &Seen, pass: &mut dyn FnMut() -> bool) -> Result<(), Trouble>;

    /// Asks whether keys may be dropped, where that was not said yet.
    fn may_drop(&mut self) -> bool;
}

/// Why it does not go on. What is done stays, and hurts nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Trouble {
    /// Puts both together.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Trouble {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<KeyError> for Trouble {
    fn from(error: KeyError) -> Self {
        Trouble::new(error.to_string(), error.remedy())
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until servers can be started with their files.
    Prepared,
    /// Until everything is written in one form; keys that are of no use any more stay.
    KeysStay,
    /// The same, and then other keys are dropped, if they may be.
    OnlyOne,
}

/// What there is to do.
#[derive(Debug, Clone)]
pub struct Course {
    /// What every resource shall be written in.
    pub goal: Goal,
    /// The key in it that no file has yet.
    pub new: Option<NewKey>,
    /// How far to go.
    pub until: Until,
}

/// A key that no file has yet.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name, and what encrypts by it.
    pub form: Form,
    /// Where it is kept.
    pub backup: Backup,
    /// Where it comes from; it is made where nothing is said.
    pub source: Option<KeySource>,
}

/// Where it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The end.
    End,
    /// All but dropping keys, which was not wanted.
    KeysLeft,
    /// Everything is in clear: servers are to be started without a file.
    Flags,
}

/// Names a key that is made now.
///
/// # Errors
/// When the clock is not set, or is behind: the newest key is known by its name.
pub fn new_form(seen: &Seen, provider: Provider) -> Result<Form, Trouble> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let name = now.ok().and_then(|now| key_name(now.as_secs()));
    let name = name.ok_or_else(|| Trouble::new("the clock is not set", "set it"))?;
    match newest(seen) {
        Some(known @ Form::Key { .. }) if matches!(&known, Form::Key { name: old, .. } if *old >= name) => {
            Err(Trouble::new(
                format!(
                    "{known} is no older than a key that would be made now; nothing was changed"
                ),
                "a key is named by the time at which it is made: set the clock of this machine, or wait a second",
            ))
        }
        _ => Ok(Form::Key { provider, name }),
    }
}

impl Apply<'_> {
    /// Does what is next until nothing is. Locks are held while files are written, and not between: so
    /// whoever looks on is not kept from anything for hours.
    ///
    /// # Errors
    /// Why it does not go on.
    pub fn encrypt(&mut self, course: Course) -> Result<Reached, Trouble> {
        let Some(here) = self.workstation.take() else {
            return Err(no_workstation());
        };
        let result = Way::new(self, here, course).and_then(|mut way| way.go());
        self.workstation = Some(here);
        result
    }
}

fn no_workstation() -> Trouble {
    Trouble::new("nothing here can make and keep keys", "")
}

impl Session<'_, '_> {
    /// Does one part of what brings objects under a key.
    pub(super) fn do_encryption(&mut self, work: &EncryptionWork) -> Result<(), Failure> {
        let here = self.apply.workstation.take();
        let result = match here {
            Some(here) => {
                let result = self.part(here, work);
                self.apply.workstation = Some(here);
                result
            }
            None => Err(no_workstation()),
        };
        result.map_err(|Trouble { what, remedy }| {
            Failure::back(format!(
                "{what}; {remedy}; what is done of it stays and hurts nothing"
            ))
        })
    }

    fn part(&mut self, here: &mut dyn Workstation, work: &EncryptionWork) -> Result<(), Trouble> {
        let seen = whole_look(self, here, &work.resources)?;
        let of_new = |form: &Form| asked(&seen, work.provider, &work.resources, form);
        let unnamed = Form::key(work.provider, "new").map_err(|why| Trouble::new(why, ""))?;
        // Not as the plan says: a record of an interrupted run comes from a node, which must not choose what
        // runs on this machine.
        let source = here.key_source();
        let (goal, new) = match (of_new(&unnamed), here.backup()) {
            (asked, _) if !asked.makes_key => (asked.goal, None),
            (_, backup) if backup != work.backup || source != work.key => {
                return Err(Trouble::new(
                    "the plan has a new key kept elsewhere, or from elsewhere, than the profile here says",
                    "plan again; where another workstation's run is taken up, set encryption.backup-file or \
                     encryption.backup-command, and encryption.key, as they are there",
                ));
            }
            (_, Some(backup)) => {
                let form = new_form(&seen, work.provider)?;
                let goal = of_new(&form).goal;
                let new = NewKey {
                    form,
                    backup,
                    source,
                };
                (goal, Some(new))
            }
            (_, None) => {
                return Err(Trouble::new(
                    "a key must be made, and it is not said where it is backed up",
                    "set encryption.backup-file or encryption.backup-command",
                ));
            }
        };
        let course = Course {
            goal,
            new,
            until: match work.part {
                EncryptionPart::Prepare => Until::Prepared,
                EncryptionPart::Finish => Until::KeysStay,
            },
        };
        Way::new(self, here, course)?.go().map(drop)
    }
}

/// Looks until everything is known of every control plane.
fn whole_look(
    pen: &mut dyn Pen,
    here: &mut dyn Workstation,
    also: &BTreeSet<String>,
) -> Result<Seen, Trouble> {
    let begun = Instant::now();
    loop {
        let seen = here.look(also);
        let view = seen.view();
        let unknown = view.planes.iter().find_map(|(node, plane)| {
            let why = plane.as_ref().err()?;
            Some(format!("{node}: {why}"))
        });
        let Some(what) = unknown else {
            return Ok(seen);
        };
        if begun.elapsed() >= PATIENCE || pen.is_interrupted() {
            return Err(Trouble::new(what, GOES_ON));
        }
        std::thread::sleep(PAUSE);
        pen.pass();
    }
}

const GOES_ON: &str = "nothing goes on before that is mended; `harden encryption status` tells more, \
                       and running this again takes it up";

/// One run.
struct Way<'w> {
    pen: &'w mut dyn Pen,
    here: &'w mut dyn Workstation,
    course: Course,
    also: BTreeSet<String>,
    seen: Seen,
    /// What this run wrote last, until every server has loaded it.
    written: Option<Written>,
    begun: Instant,
}

/// Files that were written and are not proved to be loaded.
struct Written {
    keys: WrittenKeys,
    since: Instant,
    /// How many reloads each server had refused before.
    refused: BTreeMap<String, u64>,
}

impl<'w> Way<'w> {
    fn new(
        pen: &'w mut dyn Pen,
        here: &'w mut dyn Workstation,
        course: Course,
    ) -> Result<Self, Trouble> {
        let also = course.goal.keys().cloned().collect();
        let seen = whole_look(pen, here, &also)?;
        Ok(Way {
            pen,
            here,
            course,
            also,
            seen,
            written: None,
            begun: Instant::now(),
        })
    }

    fn next(&self, view: &View) -> Next {
        match self.course.until {
            Until::OnlyOne => next(&self.course.goal, view),
            Until::Prepared | Until::KeysStay => next_keeping_keys(&self.course.goal, view),
        }
    }

    /// Does what is next until nothing is.
    fn go(&mut self) -> Result<Reached, Trouble> {
        let mut told = String::new();
        loop {
            let view = self.seen.view();
            let step = self.next(&view);
            if self.course.until == Until::Prepared && is_prepared(&step) {
                return Ok(Reached::End);
            }
            let words = step.to_string();
            if words != told && !matches!(step, Next::Done | Next::Stopped(_)) {
                self.pen.say(&format!("- {words}"));
                told = words;
            }
            self.unless_interrupted()?;
            match &step {
                Next::Done => return Ok(Reached::End),
                Next::Wait { node } => self.wait(node)?,
                Next::Write { stage, files } => {
                    self.written = None;
                    if *stage == Stage::Drop && !self.may_drop(&view, files) {
                        return Ok(Reached::KeysLeft);
                    }
                    if *stage == Stage::Drop {
                        self.pen.say("  every API server reads every object");
                        let pen = &mut *self.pen;
                        self.here.read_back(&self.seen, &mut || goes_on(pen))?;
                        // What was not read to its end is no proof.
                        self.unless_interrupted()?;
                    }
                    self.write(files, &view)?;
                }
                Next::Rewrite { resources } => {
                    self.written = None;
                    let pen = &mut *self.pen;
                    self.here
                        .rewrite(&self.seen, resources, &mut || goes_on(pen))?;
                    self.unless_interrupted()?;
                }
                Next::Disable { .. } => return Ok(Reached::Flags),
                Next::Remove { node } => self.erase(node)?,
                Next::Enable { .. } => {
                    return Err(Trouble::new(
                        "an API server is started with other flags than the others",
                        format!(
                            "first {step}: `harden apply` does it where the profile says `encryption`; then run this again"
                        ),
                    ));
                }
                Next::Stopped(Stop::Unknown { .. }) => {}
                Next::Stopped(stop) => return Err(Trouble::new(stop.to_string(), GOES_ON)),
            }
            self.seen = whole_look(self.pen, self.here, &self.also)?;
        }
    }

    /// Ends between two steps where the user wants that. Whatever was done stays and is taken up.
    fn unless_interrupted(&self) -> Result<(), Trouble> {
        match self.pen.is_interrupted() {
            false => Ok(()),
            true => Err(Trouble::new(
                match &self.written {
                    Some(_) => {
                        "it was interrupted; whether every API server loads what was just written was not waited for"
                    }
                    None => "it was interrupted",
                },
                "running this again takes it up; `harden encryption status` tells where it is",
            )),
        }
    }

    /// Whether what is dropped may be. In clear an object can be read again whenever somebody wants that;
    /// what a key has written only with it.
    fn may_drop(&mut self, view: &View, files: &BTreeMap<String, Rows>) -> bool {
        let kept = |rows: &Rows| rows.values().flatten().cloned().collect::<Vec<Form>>();
        let drops_key = files
            .iter()
            .any(|(node, after)| match view.planes.get(node) {
                Some(Ok(Plane::On { file, .. })) => {
                    let after = kept(after);
                    kept(file)
                        .iter()
                        .any(|form| !form.is_clear() && !after.contains(form))
                }
                _ => false,
            });
        !drops_key || self.here.may_drop()
    }

    /// Waits a moment for a server to load its file. Where it refuses it, or does not in time, what this
    /// run wrote is put back: a broken file would keep the server from its next start.
    fn wait(&mut self, node: &str) -> Result<(), Trouble> {
        let refused = refused(&self.seen);
        let (since, is_refused) = match &self.written {
            Some(written) => {
                let more = |(node, count): (&String, &u64)| {
                    let before = written.refused.get(node);
                    before.is_some_and(|before| count > before)
                };
                (written.since, refused.iter().any(more))
            }
            None => (self.begun, false),
        };
        if !is_refused && since.elapsed() < LOADING {
            std::thread::sleep(PAUSE);
            self.pen.pass();
            return Ok(());
        }
        let what = match is_refused {
            true => "an API server refuses the new file".to_owned(),
            false => format!(
                "{} s have passed, and the API server of {node} has not loaded its file",
                since.elapsed().as_secs()
            ),
        };
        let hint = "the server's log says why; it must run with \
                    --encryption-provider-config-automatic-reload=true, and see the directory that the \
                    file is in";
        let Some(written) = self.written.take() else {
            return Err(Trouble::new(format!("{what}; nothing was changed"), hint));
        };
        Err(match self.pen.put_back_keys(&written.keys) {
            Ok(()) => Trouble::new(format!("{what}; the files are as they were"), hint),
            Err(error) => Trouble::new(
                format!("{what}; and they could NOT be put back: {error}"),
                "do not restart the API servers; put the files right by hand, from the backups of the keys",
            ),
        })
    }

    fn write(&mut self, files: &BTreeMap<String, Rows>, view: &View) -> Result<(), Trouble> {
        let seen = self.paths();
        let is_off = |node: &&String| matches!(view.planes.get(*node), Some(Ok(Plane::Off { .. })));
        let is_elsewhere = |file: &KeyFile| file.path != own_path();
        if let Some(node) = files.keys().find(is_off)
            && seen.values().any(is_elsewhere)
        {
            return Err(Trouble::new(
                format!("the API server of {node} runs without a file"),
                "what the others encrypt it cannot read: give it their file, with the flag and the mount",
            ));
        }
        let new = match self.course.new.take() {
            Some(NewKey {
                form,
                backup,
                source,
            }) => {
                let secret = match source {
                    Some(source) => self.given(&source, &seen)?,
                    None => new_secret()?,
                };
                let Form::Key { name, .. } = &form else {
                    return Err(Trouble::new("the new form is no key", "report this"));
                };
                self.here
                    .back_up(&backup.named(name.as_str()), &form, &secret)?;
                self.pen.say(&format!("  {form} is backed up"));
                Some((form, secret))
            }
            None => None,
        };
        let change = KeyChange {
            seen,
            files,
            new: new.as_ref(),
        };
        let keys = self.pen.write_keys(&change)?;
        self.written = Some(Written {
            keys,
            since: Instant::now(),
            refused: refused(&self.seen),
        });
        Ok(())
    }

    /// Takes a key from where the user has it. One that a file has already would be the same key under
    /// another name, and nothing would be rotated.
    fn given(
        &mut self,
        source: &KeySource,
        seen: &BTreeMap<String, KeyFile>,
    ) -> Result<Secret, Trouble> {
        let secret = self.here.given_key()?;
        match self.pen.known_key(seen, &secret)? {
            None => Ok(secret),
            Some(form) => Err(Trouble::new(
                format!(
                    "the key from {source} is the one that the files have as {form}; nothing was changed"
                ),
                "put a new key there (`head -c 32 /dev/urandom | base64`), or unset encryption.key and let \
                 harden make one",
            )),
        }
    }

    /// The file of each control plane, also of one that has none yet.
    fn paths(&self) -> BTreeMap<String, KeyFile> {
        let planes = self.seen.planes.iter().filter_map(|(node, plane)| {
            let config = plane.server.value()?.config.clone();
            let file = KeyFile {
                path: config.unwrap_or_else(own_path),
                sha256: plane.on_disk().map(|file| file.sha256.clone()),
            };
            Some((node.clone(), file))
        });
        planes.collect()
    }

    fn erase(&mut self, node: &str) -> Result<(), Trouble> {
        let mut files = self.paths();
        files.retain(|name, _| name == node);
        Ok(self.pen.erase_keys(&files)?)
    }
}

/// Lets time pass, and says whether to go on.
fn goes_on(pen: &mut dyn Pen) -> bool {
    pen.pass();
    !pen.is_interrupted()
}

/// Whether nothing is left to do before servers are started with their files.
fn is_prepared(step: &Next) -> bool {
    !matches!(
        step,
        Next::Wait { .. }
            | Next::Stopped(_)
            | Next::Write {
                stage: Stage::Add,
                ..
            }
    )
}

fn refused(seen: &Seen) -> BTreeMap<String, u64> {
    let planes = seen.planes.iter();
    planes
        .filter_map(|(node, plane)| Some((node.clone(), plane.loaded.value()?.refused)))
        .collect()
}

/// Makes a key of the operating system's randomness.
fn new_secret() -> Result<Secret, Trouble> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        Trouble::new(
            format!("the system gives no random bytes: {error}; nothing was changed"),
            "",
        )
    })?;
    Ok(Secret::of(&*bytes))
}

#[cfg(test)]
mod tests;
