//! `harden encryption rotate`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harden::apply::{Apply, KeyChange, KeyError, KeyFile, Settings, WrittenKeys};
use harden::fact::encryption::{Form, Provider};
use harden::host::HostError;
use harden::observe;
use harden::resource::encryption::keys::{KEY_BYTES, Secret, key_name};
use harden::resource::encryption::{Goal, Next, Rows, Seen, Stage, begun, newest, next, renewed};
use zeroize::Zeroizing;

use super::args::{Global, ProviderName, RotateArgs};
use super::encryption::{look, show, write_all};
use super::execute::{PATIENCE, ask};
use super::output::Output;
use super::progress::Lines;
use super::session::Session;
use super::{Exit, Failure, key_backup};

/// How long API servers may take to load a file: they look once a minute, and a load takes a moment.
const LOADING: Duration = Duration::from_secs(180);

/// The pause between two looks while a file is loaded.
const PAUSE: Duration = Duration::from_secs(5);

/// Rotates the key of a cluster that encrypts.
pub(crate) fn run(own: &RotateArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let session = Session::open_locked(global, PATIENCE)?;
    let (seen, judged) = look(&session, output);
    if !judged.unknown.is_empty() {
        show(output, &seen, &judged, Exit::Error);
        return Err(Failure::new(
            "not everything could be seen; nothing was changed",
            "see above, and the remedy of each",
        ));
    }
    let mut rotation = match begun(&seen) {
        Some(goal) => {
            output.note("A rotation has begun and is not at its end; it is taken up.");
            Rotation::new(own, &session, output, goal, None)
        }
        None => {
            let form = new_form(own.provider)?;
            refuse_a_clock_that_is_behind(&seen, &form)?;
            let Some(goal) = renewed(&seen, &form) else {
                show(output, &seen, &judged, Exit::Error);
                return Err(Failure::new(
                    "there is no key to rotate; nothing was changed",
                    "encryption is begun by hand as yet: docs/encryption.md says in which order",
                ));
            };
            key_backup::check(own)?;
            Rotation::new(own, &session, output, goal, Some(form))
        }
    };
    let target = rotation.target();
    if !own.consent.yes {
        ask(&format!("Bring every object under {target}?"))?;
    }
    rotation.run(seen)
}

/// A name of its own for a key that is made now.
fn new_form(provider: ProviderName) -> Result<Form, Failure> {
    let provider = match provider {
        ProviderName::Secretbox => Provider::Secretbox,
        ProviderName::Aescbc => Provider::Aescbc,
        ProviderName::Aesgcm => Provider::Aesgcm,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let name = now.ok().and_then(|now| key_name(now.as_secs()));
    let name = name.ok_or_else(|| Failure::new("the clock is not set", "set it"))?;
    Ok(Form::Key { provider, name })
}

/// The newest key is known by its name, so a new one must have a later one.
fn refuse_a_clock_that_is_behind(seen: &Seen, new: &Form) -> Result<(), Failure> {
    let name = |form: &Form| match form {
        Form::Key { name, .. } => Some(name.clone()),
        Form::Clear => None,
    };
    match newest(seen) {
        Some(known) if name(&known) >= name(new) => Err(Failure::new(
            format!("{known} is no older than a key that would be made now; nothing was changed"),
            "a key is named by the time at which it is made: set the clock of this machine, or wait a second",
        )),
        _ => Ok(()),
    }
}

struct Rotation<'s> {
    own: &'s RotateArgs,
    session: &'s Session,
    output: &'s Output,
    goal: Goal,
    /// The key that no file has yet, before it is made.
    form: Option<Form>,
    /// The same with its key, once it is backed up.
    new: Option<(Form, Secret)>,
    /// What this run wrote last, until every server has loaded it.
    written: Option<Written>,
}

/// Files that were written and are not proved to be loaded.
struct Written {
    keys: WrittenKeys,
    since: Instant,
    /// How many reloads each server had refused before.
    refused: BTreeMap<String, u64>,
}

impl<'s> Rotation<'s> {
    fn new(
        own: &'s RotateArgs,
        session: &'s Session,
        output: &'s Output,
        goal: Goal,
        form: Option<Form>,
    ) -> Self {
        Rotation {
            own,
            session,
            output,
            goal,
            form,
            new: None,
            written: None,
        }
    }

    /// Names the key that everything comes under.
    fn target(&self) -> String {
        let mut forms = self.goal.values().filter(|form| !form.is_clear());
        forms.next().map(ToString::to_string).unwrap_or_default()
    }

    /// Does what is next until nothing is.
    fn run(&mut self, mut seen: Seen) -> Result<Exit, Failure> {
        let mut told = String::new();
        let begun = Instant::now();
        loop {
            let step = next(&self.goal, &seen.view());
            let words = step.to_string();
            if words != told && step != Next::Done {
                self.output.note(&format!("- {words}"));
                told = words;
            }
            match &step {
                Next::Done => return Ok(self.end()),
                Next::Wait { node } => self.wait(node, &seen, begun)?,
                Next::Write { stage, files } => {
                    self.written = None;
                    if *stage == Stage::Drop && !self.may_drop()? {
                        self.output.outcome(&format!(
                            "Every object is under {}; the old keys stay in the files. `--drop` drops them.",
                            self.target()
                        ));
                        return Ok(self.end());
                    }
                    self.write(files, &seen)?;
                }
                Next::Rewrite { resources } => {
                    self.written = None;
                    write_all(self.own.rate, self.session, self.output, &seen, resources)?;
                }
                Next::Enable { .. } | Next::Disable { .. } | Next::Remove { .. } => {
                    return Err(Failure::new(
                        "an API server is started with other flags than the others",
                        format!("first {step}; then run this again"),
                    ));
                }
                Next::Stopped(stop) => {
                    return Err(Failure::new(
                        stop.to_string(),
                        "nothing goes on before that is mended; `harden encryption status` tells more, \
                         and running this again takes the rotation up",
                    ));
                }
            }
            seen = look(self.session, self.output).0;
        }
    }

    fn end(&self) -> Exit {
        let (seen, judged) = look(self.session, self.output);
        show(self.output, &seen, &judged, Exit::Error)
    }

    /// Waits a moment for a server to load its file. Where it refuses it, or does not in time, what this
    /// run wrote is put back: a broken file would keep the server from its next start.
    fn wait(&mut self, node: &str, seen: &Seen, begun: Instant) -> Result<(), Failure> {
        let refused = refused(seen);
        let (since, is_refused) = match &self.written {
            Some(written) => {
                let more = |(node, count): (&String, &u64)| {
                    written
                        .refused
                        .get(node)
                        .is_some_and(|before| count > before)
                };
                (written.since, refused.iter().any(more))
            }
            None => (begun, false),
        };
        if !is_refused && since.elapsed() < LOADING {
            std::thread::sleep(PAUSE);
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
            return Err(Failure::new(format!("{what}; nothing was changed"), hint));
        };
        let back = self.with_apply(|apply| apply.put_back_keys(&written.keys));
        match back {
            Ok(()) => Err(Failure::new(
                format!("{what}; the files are as they were"),
                hint,
            )),
            Err(error) => Err(Failure::new(
                format!("{what}; and they could NOT be put back: {error}"),
                "do not restart the API servers; put the files right by hand, from the backups of the keys",
            )),
        }
    }

    fn may_drop(&self) -> Result<bool, Failure> {
        if self.own.drop {
            return Ok(true);
        }
        let is_asked = !self.own.consent.yes && std::io::stdin().is_terminal();
        if !is_asked {
            return Ok(false);
        }
        let question =
            "Drop the old keys? It cannot be undone, and older snapshots of etcd need them";
        Ok(ask(question).is_ok())
    }

    fn write(&mut self, files: &BTreeMap<String, Rows>, seen: &Seen) -> Result<(), Failure> {
        if let Some(form) = self.form.take() {
            let secret = new_secret()?;
            key_backup::write(self.own, self.session, &form, &secret)?;
            self.output.note(&format!("  {form} is backed up"));
            self.new = Some((form, secret));
        }
        let mut paths = BTreeMap::new();
        for (node, plane) in &seen.planes {
            let path = plane
                .server
                .value()
                .and_then(|server| server.config.clone());
            if let (Some(path), Some(file)) = (path, plane.file.value()) {
                let sha256 = file.sha256.clone();
                paths.insert(node.clone(), KeyFile { path, sha256 });
            }
        }
        if let Some(node) = files.keys().find(|node| !paths.contains_key(*node)) {
            return Err(Failure::new(
                format!("the API server of {node} runs without a file"),
                "what the others encrypt it cannot read: give it their file, with the flag and the mount",
            ));
        }
        let change = KeyChange {
            seen: paths,
            files,
            new: self.new.as_ref(),
        };
        let keys = self.with_apply(|apply| apply.write_keys(&change));
        let keys = keys.map_err(|error| Failure::new(error.to_string(), error.remedy()))?;
        // From here on the files have it.
        self.new = None;
        self.written = Some(Written {
            keys,
            since: Instant::now(),
            refused: refused(seen),
        });
        Ok(())
    }

    fn with_apply<T>(
        &self,
        call: impl FnOnce(&mut Apply<'_>) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        let session = self.session;
        let mut lines = Lines::new(self.output);
        let hosts = |name: &str| -> Result<_, HostError> { session.inventory.open(name) };
        let interrupted = AtomicBool::new(false);
        let mut apply = Apply {
            hosts: &hosts,
            api: &session.api,
            look: &observe::look,
            holder: session.holder(),
            settings: Settings {
                take_over: self.own.consent.take_over,
                ..Settings::default()
            },
            interrupted: &interrupted,
            progress: &mut lines,
        };
        let result = call(&mut apply);
        lines.finish();
        result
    }
}

fn refused(seen: &Seen) -> BTreeMap<String, u64> {
    let planes = seen.planes.iter();
    planes
        .filter_map(|(node, plane)| Some((node.clone(), plane.loaded.value()?.refused)))
        .collect()
}

/// Makes a key of the operating system's randomness.
fn new_secret() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        Failure::new(
            format!("the system gives no random bytes: {error}; nothing was changed"),
            "",
        )
    })?;
    Ok(Secret::of(&*bytes))
}
