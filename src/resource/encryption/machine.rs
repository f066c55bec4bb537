//! The order in which encryption is enabled, rotated and disabled: the next step, from what is seen.
//!
//! Nothing is remembered between two steps. Whoever looks at the cluster, after whatever death and from
//! whichever workstation, comes to the same next step. What every step keeps true: **each server can read
//! every object, and whatever any server writes now or after loading the file that lies on its disk.**
//!
//! The order is that of <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>, with the
//! first enablement and the end by the same rule: a form is *added* to every file behind the one that
//! writes, each server is proved to have loaded it, it is *put first* everywhere and proved, every object
//! is written anew, and only then are other forms *dropped*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::place;
use crate::fact::Fact;
use crate::fact::encryption::{Form, Stored, StoredForm};

/// For each resource of a configuration the forms that are read, the one that is written first. A
/// resource that is not named is read and written in clear.
pub type Rows = BTreeMap<String, Vec<Form>>;

/// A resource that no file names.
const UNNAMED: &[Form] = &[Form::Clear];

/// One control plane, as far as encryption goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plane {
    /// Its server runs without a configuration.
    Off {
        /// What lies where one would be.
        file: Option<Rows>,
    },
    /// Its server runs with this file.
    On {
        /// What the file says now.
        file: Rows,
        /// Whether the server says that it has loaded just this file.
        loaded: bool,
    },
}

impl Plane {
    fn file(&self) -> Option<&Rows> {
        match self {
            Plane::Off { file } => file.as_ref(),
            Plane::On { file, .. } => Some(file),
        }
    }

    /// What the server reads and writes by, once it is known to have loaded its file.
    fn running(&self) -> Option<&Rows> {
        match self {
            Plane::Off { .. } => None,
            Plane::On { file, .. } => Some(file),
        }
    }

    fn is_on(&self) -> bool {
        matches!(self, Plane::On { .. })
    }
}

/// All that a step is decided by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Every control plane by name, or why nothing is known of it.
    pub planes: BTreeMap<String, Result<Plane, String>>,
    /// For each resource in how many objects each form is found, the most of all members of etcd; a
    /// resource that is missing was not counted.
    pub stored: BTreeMap<String, Fact<Stored>>,
}

/// Why the files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// So that every server can read what one of them will write.
    Add,
    /// So that the wanted form is written.
    Promote,
    /// So that nothing else is read any more. Irreversible: who has dropped the last copy of a key
    /// cannot read an older snapshot of etcd.
    Drop,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Everything is as it should be.
    Done,
    /// This server has not loaded its file yet; nothing may be changed before it has.
    Wait {
        /// On which node.
        node: String,
    },
    /// Write these files. Any number of them may be written before the next look, in any order.
    Write {
        /// What for.
        stage: Stage,
        /// By node.
        files: BTreeMap<String, Rows>,
    },
    /// Restart this server with its file.
    Enable {
        /// On which node.
        node: String,
    },
    /// Restart this server without a configuration.
    Disable {
        /// On which node.
        node: String,
    },
    /// Remove the file that no server of this node reads.
    Remove {
        /// On which node.
        node: String,
    },
    /// Have the API write every object of these resources anew.
    Rewrite {
        /// As in the files.
        resources: Vec<String>,
    },
    /// It cannot go on by itself.
    Stopped(Stop),
}

impl fmt::Display for Next {
    /// As something that is to be done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::Done => f.write_str("nothing"),
            Next::Wait { node } => {
                write!(f, "wait until the API server of {node} has loaded its file")
            }
            Next::Enable { node } => write!(f, "start the API server of {node} with its file"),
            Next::Disable { node } => write!(f, "start the API server of {node} without a file"),
            Next::Remove { node } => write!(f, "remove the file of {node}"),
            Next::Rewrite { resources } => {
                write!(f, "write every object of {} anew", resources.join(", "))
            }
            Next::Write { stage, files } => {
                let nodes: Vec<&str> = files.keys().map(String::as_str).collect();
                let nodes = nodes.join(", ");
                match stage {
                    Stage::Add => write!(
                        f,
                        "add what is missing to the file of {nodes}, behind what is first there"
                    ),
                    Stage::Promote => {
                        let firsts = files.values().flat_map(|rows| rows.values());
                        let is_clear = |row: &Vec<Form>| row.first().is_none_or(Form::is_clear);
                        let what = match firsts.clone().all(is_clear) {
                            true => "`identity`",
                            false => "the new key",
                        };
                        write!(f, "put {what} first in the file of {nodes}")
                    }
                    Stage::Drop => write!(
                        f,
                        "drop the forms that no object is in any more from the file of {nodes}"
                    ),
                }
            }
            Next::Stopped(stop) => stop.fmt(f),
        }
    }
}

/// Why there is no next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// A control plane is not known well enough.
    #[error("{node}: {why}")]
    Unknown {
        /// Which.
        node: String,
        /// What is missing.
        why: String,
    },
    /// Objects are in a form for which no file has a key.
    #[error(
        "{count} objects of {resource} are stored {form}, which no control plane's file can read"
    )]
    NoKey {
        /// Of which resource.
        resource: String,
        /// In which form.
        form: StoredForm,
        /// How many.
        count: u64,
    },
    /// Nobody knows in which forms the objects are, and the next step would rest on it.
    #[error("in which forms the objects of {resource} are stored is not known: {why}")]
    Uncounted {
        /// Of which resource.
        resource: String,
        /// What is missing.
        why: String,
    },
}

/// Decides the next step towards writing each resource in its wanted form, and reading no other. A
/// resource that a file names and `wanted` does not shall be in clear.
pub fn next(wanted: &BTreeMap<String, Form>, view: &View) -> Next {
    let mut planes: BTreeMap<&str, &Plane> = BTreeMap::new();
    for (node, plane) in &view.planes {
        match plane {
            Ok(plane) => _ = planes.insert(node.as_str(), plane),
            Err(why) => {
                return Next::Stopped(Stop::Unknown {
                    node: node.clone(),
                    why: why.clone(),
                });
            }
        }
    }
    let waits = |(_, plane): &(&&str, &&Plane)| matches!(plane, Plane::On { loaded: false, .. });
    if let Some((node, _)) = planes.iter().find(waits) {
        return Next::Wait {
            node: (*node).to_owned(),
        };
    }
    let named = planes.values().filter_map(|plane| plane.file());
    let resources: BTreeSet<&String> = named.flat_map(Rows::keys).chain(wanted.keys()).collect();
    Machine {
        wanted,
        view,
        planes,
        resources,
    }
    .next()
    .unwrap_or_else(Next::Stopped)
}

/// A look at which every server is known to run with the file on its disk.
struct Machine<'v> {
    wanted: &'v BTreeMap<String, Form>,
    view: &'v View,
    planes: BTreeMap<&'v str, &'v Plane>,
    resources: BTreeSet<&'v String>,
}

impl Machine<'_> {
    fn next(&self) -> Result<Next, Stop> {
        if let Some(end) = self.end() {
            return Ok(end);
        }
        let files = self.files(|plane, resource, row| self.added(plane, resource, row))?;
        if !files.is_empty() {
            return Ok(write(Stage::Add, files));
        }
        if let Some(node) = self.first(|plane| !plane.is_on()) {
            return Ok(Next::Enable { node });
        }
        let files = self.files(|_, resource, row| Ok(self.promoted(resource, row)))?;
        if !files.is_empty() {
            return Ok(write(Stage::Promote, files));
        }
        let resources = self.stale()?;
        if !resources.is_empty() {
            return Ok(Next::Rewrite { resources });
        }
        let files = self.files(|_, resource, _| Ok(vec![self.wanted(resource).clone()]))?;
        if !files.is_empty() {
            return Ok(write(Stage::Drop, files));
        }
        Ok(Next::Done)
    }

    /// Where everything shall be in clear and every server reads and writes just that, configurations are
    /// of no use any more; running with one and without is the same.
    fn end(&self) -> Option<Next> {
        let is_wanted = self
            .resources
            .iter()
            .all(|resource| self.wanted(resource).is_clear());
        let is_clear = |rows: &Rows| rows.values().flatten().all(Form::is_clear);
        let is_so = |plane: &&Plane| plane.running().is_none_or(is_clear);
        // As long as a file holds a key, what was not counted may be under it.
        let holds_key = self.planes.values().any(|plane| {
            let file = plane.file();
            file.is_some_and(|rows| !is_clear(rows))
        });
        let is_stored = |resource: &&String| match self.view.stored.get(*resource) {
            Some(Fact::Value(stored)) => stored
                .keys()
                .all(|form| *form == StoredForm::Form(Form::Clear)),
            _ => !holds_key,
        };
        if !is_wanted || !self.planes.values().all(is_so) || !self.resources.iter().all(is_stored) {
            return None;
        }
        if let Some(node) = self.first(Plane::is_on) {
            return Some(Next::Disable { node });
        }
        let leftover = self.first(|plane| plane.file().is_some());
        Some(leftover.map_or(Next::Done, |node| Next::Remove { node }))
    }

    fn first(&self, is: impl Fn(&Plane) -> bool) -> Option<String> {
        let mut planes = self.planes.iter();
        let (node, _) = planes.find(|(_, plane)| is(plane))?;
        Some((*node).to_owned())
    }

    fn wanted(&self, resource: &str) -> &Form {
        self.wanted.get(resource).unwrap_or(&Form::Clear)
    }

    /// The files that differ from what `row` makes of each of their resources.
    fn files(
        &self,
        row: impl Fn(&Plane, &str, &[Form]) -> Result<Vec<Form>, Stop>,
    ) -> Result<BTreeMap<String, Rows>, Stop> {
        let mut files = BTreeMap::new();
        for (node, plane) in &self.planes {
            let mut after = Rows::new();
            let mut is_same = plane.file().is_some();
            for resource in &self.resources {
                let before = row_of(plane.file(), resource);
                let made = row(plane, resource, before)?;
                is_same &= made == before;
                after.insert((*resource).clone(), made);
            }
            if !is_same {
                files.insert((*node).to_owned(), after);
            }
        }
        Ok(files)
    }

    /// A row that also reads whatever any server writes or shall write, and what there is. Where the
    /// server would begin to write what another one cannot read, it goes on in clear.
    fn added(&self, plane: &Plane, resource: &str, row: &[Form]) -> Result<Vec<Form>, Stop> {
        let mut after = row.to_vec();
        if let Plane::Off { .. } = plane
            && let Some(first) = row.first()
            && !self
                .planes
                .values()
                .all(|p| row_of(p.running(), resource).contains(first))
        {
            after.retain(|form| !form.is_clear());
            after.insert(0, Form::Clear);
        }
        for form in self.needed(resource)? {
            if !after.contains(&form) {
                after.push(form);
            }
        }
        Ok(after)
    }

    fn needed(&self, resource: &str) -> Result<BTreeSet<Form>, Stop> {
        let mut needed = BTreeSet::from([self.wanted(resource).clone()]);
        let mut known = needed.clone();
        for plane in self.planes.values() {
            for rows in [plane.running(), plane.file()] {
                let row = row_of(rows, resource);
                needed.extend(row.first().cloned());
                known.extend(row.iter().cloned());
            }
        }
        match self.view.stored.get(resource) {
            Some(Fact::Value(stored)) => {
                for (form, count) in stored {
                    match form {
                        // What is in clear takes no key to read, only a server that is told to.
                        StoredForm::Form(form) if form.is_clear() || known.contains(form) => {
                            needed.insert(form.clone());
                        }
                        _ => {
                            return Err(Stop::NoKey {
                                resource: resource.to_owned(),
                                form: form.clone(),
                                count: *count,
                            });
                        }
                    }
                }
                Ok(needed)
            }
            // Whatever anybody can read may be there.
            _ => Ok(known),
        }
    }

    fn promoted(&self, resource: &str, row: &[Form]) -> Vec<Form> {
        let wanted = self.wanted(resource);
        let others = row.iter().filter(|form| *form != wanted);
        std::iter::once(wanted).chain(others).cloned().collect()
    }

    /// The resources with objects in another form than the wanted one.
    fn stale(&self) -> Result<Vec<String>, Stop> {
        let mut stale = Vec::new();
        for resource in &self.resources {
            let why = match self.view.stored.get(*resource) {
                Some(Fact::Value(stored)) => {
                    let wanted = StoredForm::Form(self.wanted(resource).clone());
                    if stored.keys().any(|form| *form != wanted) {
                        stale.push((*resource).clone());
                    }
                    continue;
                }
                Some(Fact::Unreadable(why)) => why.clone(),
                _ => "no member of etcd was asked".to_owned(),
            };
            return Err(Stop::Uncounted {
                resource: (*resource).clone(),
                why,
            });
        }
        Ok(stale)
    }
}

fn write(stage: Stage, files: BTreeMap<String, Rows>) -> Next {
    Next::Write { stage, files }
}

/// Returns the forms in which a resource is read: its own, or those of the rule for many that counts for it.
pub fn row_of<'r>(rows: Option<&'r Rows>, resource: &str) -> &'r [Form] {
    let own = |rows: &'r Rows| {
        let name = place::rule(rows.keys().map(String::as_str), resource)?;
        rows.get(name)
    };
    match rows.and_then(own) {
        Some(row) if !row.is_empty() => row,
        _ => UNNAMED,
    }
}

#[cfg(test)]
mod tests;
