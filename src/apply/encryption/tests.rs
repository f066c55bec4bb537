#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::fact::encryption::{EncryptionFile, Group, Loaded, Stored, StoredForm};
use crate::fact::{Fact, FileKind, Meta};
use crate::resource::encryption::{Counted, SeenPlane, Server};

fn key(name: &str) -> Form {
    Form::key(Provider::Secretbox, name).unwrap()
}

/// A control plane whose API server has loaded this file.
fn plane(row: &[Form]) -> SeenPlane {
    let file = EncryptionFile {
        meta: Meta {
            kind: FileKind::Regular,
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        },
        sha256: crate::fact::sha256(format!("{row:?}")),
        written: 1_790_000_000,
        groups: vec![Group {
            resources: vec!["secrets".into()],
            forms: row.to_vec(),
        }],
    };
    SeenPlane {
        server: Fact::Value(Server {
            config: Some(own_path()),
            reloads: true,
            root: "/registry".into(),
        }),
        stopped: false,
        loaded: Fact::Value(Loaded {
            sha256: file.sha256.clone(),
            refused: 0,
        }),
        file: Fact::Value(file),
        idle: Fact::Absent,
    }
}

/// One control plane with this file, and every Secret in this form.
fn seen(row: &[Form], form: &Form) -> Seen {
    let stored = Stored::from([(StoredForm::Form(form.clone()), 7)]);
    let members = BTreeMap::from([("cp1".to_owned(), Fact::Value(stored))]);
    Seen {
        planes: [("cp1".to_owned(), plane(row))].into(),
        resources: [("secrets".to_owned(), Counted { members })].into(),
    }
}

/// What was done, in words.
type Log = std::rc::Rc<std::cell::RefCell<Vec<String>>>;

struct Nodes {
    log: Log,
    /// What the files have already.
    known: Option<(Secret, Form)>,
}

impl Pen for Nodes {
    fn write_keys(&mut self, change: &KeyChange<'_>) -> Result<WrittenKeys, KeyError> {
        let rows: Vec<&Rows> = change.files.values().collect();
        self.log.borrow_mut().push(format!("write {rows:?}"));
        Ok(WrittenKeys::default())
    }
    fn known_key(
        &mut self,
        _: &BTreeMap<String, KeyFile>,
        secret: &Secret,
    ) -> Result<Option<Form>, KeyError> {
        let known = self.known.as_ref().filter(|(known, _)| known == secret);
        Ok(known.map(|(_, form)| form.clone()))
    }
    fn put_back_keys(&mut self, _: &WrittenKeys) -> Result<(), KeyError> {
        unreachable!("nothing is refused here")
    }
    fn erase_keys(&mut self, _: &BTreeMap<String, KeyFile>) -> Result<(), KeyError> {
        unreachable!("nothing ends here")
    }
    fn is_interrupted(&self) -> bool {
        self.log.borrow().iter().any(|word| word == "interrupt")
    }
    fn pass(&mut self) {}
    fn say(&mut self, _: &str) {}
}

struct Machine {
    log: Log,
    /// What is seen, one after the other; the last one stays.
    seen: Vec<Seen>,
    given: Secret,
    /// Whether the user wants it to end while objects are written anew.
    interrupts: bool,
    readable: Result<(), Trouble>,
}

impl Workstation for Machine {
    fn look(&mut self, _: &BTreeSet<String>) -> Seen {
        match self.seen.len() {
            1 => self.seen[0].clone(),
            _ => self.seen.remove(0),
        }
    }
    fn backup(&self) -> Option<Backup> {
        None
    }
    fn key_source(&self) -> Option<KeySource> {
        None
    }
    fn given_key(&mut self) -> Result<Secret, Trouble> {
        Ok(self.given.clone())
    }
    fn back_up(&mut self, _: &Backup, form: &Form, secret: &Secret) -> Result<(), Trouble> {
        let is_given = if *secret == self.given {
            "the given"
        } else {
            "another"
        };
        self.log
            .borrow_mut()
            .push(format!("back up {is_given} key as {form}"));
        Ok(())
    }
    fn rewrite(
        &mut self,
        _: &Seen,
        _: &[String],
        pass: &mut dyn FnMut() -> bool,
    ) -> Result<(), Trouble> {
        self.log.borrow_mut().push("rewrite".into());
        if self.interrupts {
            self.log.borrow_mut().push("interrupt".into());
            assert!(!pass());
        }
        Ok(())
    }
    fn read_back(&mut self, _: &Seen, _: &mut dyn FnMut() -> bool) -> Result<(), Trouble> {
        self.log.borrow_mut().push("read back".into());
        self.readable.clone()
    }
    fn may_drop(&mut self) -> bool {
        true
    }
}

/// Goes the way from these looks, and returns what came of it and what was done.
fn go(
    seen: Vec<Seen>,
    new: Option<NewKey>,
    known: Option<(Secret, Form)>,
    readable: Result<(), Trouble>,
) -> (Result<Reached, Trouble>, Vec<String>) {
    let log = Log::default();
    let mut pen = Nodes {
        log: log.clone(),
        known,
    };
    let mut here = Machine {
        log: log.clone(),
        seen,
        interrupts: false,
        given: Secret::of(&[5; KEY_BYTES]),
        readable,
    };
    let course = Course {
        goal: Goal::from([("secrets".into(), key("b"))]),
        new,
        until: Until::OnlyOne,
    };
    here.interrupts = here.seen.len() > 2;
    let result = Way::new(&mut pen, &mut here, course).and_then(|mut way| way.go());
    let done = log.borrow().clone();
    (result, done)
}

#[test]
fn kubespray_3964_no_key_is_dropped_before_every_server_reads_everything() {
    let both = seen(&[key("b"), key("a")], &key("b"));
    let one = seen(&[key("b")], &key("b"));
    let blind = Trouble::new("cp1 cannot read one", "");
    let (result, done) = go(vec![both.clone()], None, None, Err(blind.clone()));
    assert_eq!(result, Err(blind));
    assert_eq!(done, ["read back"]);
    let (result, done) = go(vec![both, one], None, None, Ok(()));
    assert_eq!(result, Ok(Reached::End));
    assert_eq!(done.len(), 2);
    assert!(done[1].starts_with("write"), "{done:?}");
}

#[test]
fn a_given_key_is_backed_up_and_written_unless_a_file_has_it() {
    let new = || {
        Some(NewKey {
            form: key("b"),
            backup: Backup::File("{key}".into()),
            source: Some(KeySource::Env("KEY".into())),
        })
    };
    let looks = vec![seen(&[key("a")], &key("a")), seen(&[key("b")], &key("b"))];
    let (result, done) = go(looks.clone(), new(), None, Ok(()));
    assert_eq!(result, Ok(Reached::End));
    assert_eq!(done[0], "back up the given key as secretbox key b");
    assert!(done[1].starts_with("write"), "{done:?}");
    // Its own name there does not matter.
    let known = Some((Secret::of(&[5; KEY_BYTES]), key("a")));
    let (result, done) = go(looks, new(), known, Ok(()));
    let what = result.unwrap_err().what;
    assert!(
        what.contains("the environment variable KEY") && what.contains("secretbox key a"),
        "{what}"
    );
    assert_eq!(done, [""; 0]);
}

#[test]
fn who_interrupts_while_objects_are_written_anew_is_told_how_to_go_on() {
    let half = seen(&[key("b"), key("a")], &key("a"));
    let (result, done) = go(vec![half.clone(), half.clone(), half], None, None, Ok(()));
    let Trouble { what, remedy } = result.unwrap_err();
    assert_eq!(what, "it was interrupted");
    assert!(
        remedy.contains("running this again takes it up"),
        "{remedy}"
    );
    assert_eq!(done, ["rewrite", "interrupt"]);
}
