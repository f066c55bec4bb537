//! What most commands begin with: workspace, API, inventory, facts.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use harden::cluster::{Api, ApiError, Client, Holder, SINGLY, each};
use harden::control::{self, Catalogue};
use harden::fact::{Fact, Facts, Node};
use harden::generation::{self, Current, Generations, Lookup};
use harden::module::{self, Modules};
use harden::observe::{self, Inventory, InventoryError, Wanted};
use harden::plan::{self, Plan};
use harden::profile::{self, Workspace};
use harden::resource::{Desired, Place, Problem, Severity};

use super::args::{Global, Hindered};
use super::output::Output;
use super::{Failure, lock, waiting};

/// An evaluated workspace and its cluster.
pub(crate) struct Session {
    pub(crate) workspace: Workspace,
    pub(crate) desired: Desired,
    pub(crate) api: Client,
    pub(crate) inventory: Inventory,
    /// Objects that a plan leaves as they are, by their short names.
    left_out: BTreeSet<String>,
}

/// A workspace that was read and evaluated.
pub(crate) struct Evaluated {
    pub(crate) modules: Modules,
    pub(crate) workspace: Workspace,
    pub(crate) desired: Desired,
    early: Early,
}

/// A workspace that was read; no cluster was asked yet.
pub(crate) struct Loaded {
    modules: Modules,
    catalogue: Catalogue,
    pub(crate) workspace: Workspace,
    early: Early,
}

/// A client that is already at work while the workspace is evaluated.
type Early = RefCell<Option<Client>>;

/// Reads the modules of the workspace, or the built-in ones where there is none. A workspace that was
/// asked for must be there.
pub(crate) fn modules(global: &Global) -> Result<Modules, Failure> {
    let file = global.workspace.join("harden.toml");
    let is_asked_for = global.workspace != Path::new(".");
    if let Err(error) = std::fs::File::open(&file) {
        let is_missing = error.kind() == ErrorKind::NotFound && !file.is_symlink();
        if is_asked_for || !is_missing {
            return Err(Failure::new(
                format!("{} cannot be read: {error}", file.display()),
                "`-C` names a directory with a harden.toml; outside of one, leave it out",
            ));
        }
    }
    Ok(profile::modules(&global.workspace)?)
}

impl Loaded {
    /// Reads the workspace.
    pub(crate) fn read(global: &Global) -> Result<Self, profile::Failure> {
        let modules = profile::modules(&global.workspace)?;
        let catalogue = Catalogue::builtin()?;
        control::check(&catalogue, &modules)?;
        let workspace = profile::load(&global.workspace, &modules)?;
        Ok(Loaded {
            modules,
            catalogue,
            workspace,
            early: Early::default(),
        })
    }

    /// Has the API server begin the lists that a plan will probably need. What goes wrong here is told
    /// afterwards, by who needs the answers.
    pub(crate) fn begin_lists(&self, patience: Duration) {
        let like = module::sample(&self.workspace, &self.modules, SINGLY + 1);
        if like.len() <= SINGLY {
            return;
        }
        if let Ok(client) = client(&self.workspace, patience) {
            client.begin_lists(&like);
            self.early.replace(Some(client));
        }
    }

    /// Evaluates it.
    pub(crate) fn evaluate(self) -> Result<Evaluated, profile::Failure> {
        let Loaded {
            modules,
            catalogue,
            workspace,
            early,
        } = self;
        let mut desired = module::evaluate(&workspace, &modules).inspect_err(|_| {
            // Nobody who wrote something wrong shall wait for a server before it is told.
            std::mem::forget(early.take());
        })?;
        control::give_reasons(&catalogue, &modules, &mut desired);
        tracing::info!(
            "workspace {}: {} files and {} values give {} resources",
            workspace.dir.display(),
            workspace.files.len(),
            workspace.values.iter().count(),
            desired.resources.len()
        );
        for name in workspace.files.keys() {
            tracing::debug!("read {name}");
        }
        Ok(Evaluated {
            modules,
            workspace,
            desired,
            early,
        })
    }
}

impl Evaluated {
    /// Reads the workspace and evaluates it.
    pub(crate) fn read(global: &Global) -> Result<Self, profile::Failure> {
        Loaded::read(global)?.evaluate()
    }

    /// Prepares a client for the workspace's cluster; asks nothing yet. It is the one that has begun already,
    /// if there is one.
    pub(crate) fn client(&self, patience: Duration) -> Result<Client, ApiError> {
        match self.early.take() {
            Some(client) => Ok(client),
            None => client(&self.workspace, patience),
        }
    }
}

/// Prepares a client for the workspace's cluster; asks nothing yet.
fn client(workspace: &Workspace, patience: Duration) -> Result<Client, ApiError> {
    let cluster = &workspace.cluster;
    let kubeconfig = cluster.kubeconfig.as_ref();
    let kubeconfig = kubeconfig.map(|path| workspace.dir.join(path));
    Client::new(kubeconfig.as_deref(), cluster.context.as_deref(), patience)
}

impl Session {
    /// Reads the workspace, evaluates it and finds the nodes. Connects to no node yet.
    ///
    /// `patience` is for how long an API that does not answer is asked again.
    pub(crate) fn open(global: &Global, patience: Duration) -> Result<Self, Failure> {
        let evaluated = Evaluated::read(global)?;
        let api = evaluated.client(patience)?;
        Session::new(evaluated, api)
    }

    /// Like [`Session::open`], also where the API does not answer: the nodes are then those that the
    /// workspace declares with a role.
    pub(crate) fn open_in_need(
        global: &Global,
        patience: Duration,
        output: &Output,
    ) -> Result<Self, Failure> {
        let evaluated = Evaluated::read(global)?;
        let api = evaluated.client(patience)?;
        let why = match observe::inventory(&evaluated.workspace, &api) {
            Err(InventoryError::Api(error @ ApiError::Unreachable { .. })) => error,
            _ => return Session::new(evaluated, api),
        };
        output.note(&format!(
            "{why}; the nodes are those in harden.toml that have a role"
        ));
        let inventory = observe::declared_inventory(&evaluated.workspace)?;
        Ok(Session {
            workspace: evaluated.workspace,
            desired: evaluated.desired,
            api,
            inventory,
            left_out: BTreeSet::new(),
        })
    }

    /// Lets fields be taken from managers, and objects be left out.
    pub(crate) fn hindered(self, by: &Hindered) -> Self {
        Session {
            api: self.api.taking_from(by.take_from.clone()),
            left_out: by.except.iter().cloned().collect(),
            ..self
        }
    }

    /// Like [`Session::open`], for commands that refuse a workspace that differs from its lock.
    pub(crate) fn open_locked(global: &Global, patience: Duration) -> Result<Self, Failure> {
        let (evaluated, api) = lock::open(global, patience, &|_| {})?;
        Session::new(evaluated, api)
    }

    /// Like [`Session::open_locked`], for who makes a plan right afterwards: the API server is at work while the
    /// workspace is evaluated.
    pub(crate) fn open_to_plan(global: &Global, patience: Duration) -> Result<Self, Failure> {
        let begin = |loaded: &Loaded| loaded.begin_lists(patience);
        let (evaluated, api) = lock::open(global, patience, &begin)?;
        Session::new(evaluated, api)
    }

    fn new(evaluated: Evaluated, api: Client) -> Result<Self, Failure> {
        let refused = module::unavailable(&evaluated.workspace, &evaluated.modules, || {
            api.kubernetes_minor()
        })?;
        if !refused.is_empty() {
            return Err(profile::Failure(refused).into());
        }
        let inventory = observe::inventory(&evaluated.workspace, &api)?;
        Ok(Session {
            workspace: evaluated.workspace,
            desired: evaluated.desired,
            api,
            inventory,
            left_out: BTreeSet::new(),
        })
    }

    /// Ends with the connection alone, and leaves the rest to the end of the process.
    pub(crate) fn leave(self) {
        std::mem::forget((self.workspace, self.desired, self.inventory));
    }

    /// Looks at everything and compares it with what is wanted.
    pub(crate) fn plan(&self, output: &Output) -> Plan {
        self.plan_and_facts(output).0
    }

    /// The same, with the facts that the plan was made of.
    pub(crate) fn plan_and_facts(&self, output: &Output) -> (Plan, Facts) {
        let wanted = Wanted::for_desired(&self.desired, &self.inventory);
        let mut facts = self.observe(&wanted, output);
        let is_joining = |name: &String, _: &mut Node| self.inventory.joining.contains_key(name);
        let joining = facts.nodes.extract_if(.., is_joining).collect();
        if let Some(resources) = self.desired.encrypts() {
            observe::more_encryption(&mut facts, &resources, &mut |wanted| {
                self.observe(wanted, output)
            });
        }
        let mut plan = plan::build_without(&self.desired, &facts, &self.left_out);
        self.add_impact(&mut plan, &facts);
        plan.problems
            .extend(plan::not_ready(&self.desired, &joining, &facts));
        if let Some((none, others)) = self.api.take_from_nobody() {
            plan.problems.push(take_from_nobody(&none, &others));
        }
        (plan, facts)
    }

    /// Asks whom the plan would hit in namespaces, if it changes anything there that can.
    fn add_impact(&self, plan: &mut Plan, facts: &Facts) {
        let enforcement = plan::Enforcement::of(&self.desired, facts, plan);
        if enforcement.is_empty() {
            return;
        }
        let query = enforcement.query();
        plan.impact = plan::Impact {
            preconditions: std::mem::take(&mut plan.impact.preconditions),
            ..enforcement.judge(&self.api.impact(&query))
        };
    }

    /// Looks at everything wanted, with a bar.
    pub(crate) fn observe(&self, wanted: &Wanted, output: &Output) -> Facts {
        let bar = output.bar("reading nodes", wanted.nodes.len());
        let names = wanted.nodes.keys().cloned().collect();
        let tried = || self.api.count().get();
        let facts = waiting::naming(names, &bar, output.is_quiet(), &tried, |done| {
            observe::observe(
                wanted,
                &self.inventory,
                &|name| self.inventory.open(name),
                &self.api as &dyn Api,
                done,
            )
        });
        bar.finish_and_clear();
        facts
    }

    /// Reads the records from the control-plane nodes.
    pub(crate) fn generations(&self) -> Generations {
        generation::list(
            &|name| self.inventory.open(name),
            &self.inventory.control_planes(),
        )
    }

    /// Reads the records of runs that have not ended.
    pub(crate) fn open_generations(&self) -> Generations {
        generation::list_open(
            &|name| self.inventory.open(name),
            &self.inventory.control_planes(),
        )
    }

    /// Looks at what a rollback needs to know.
    pub(crate) fn look_up(&self, lookup: &Lookup, output: &Output) -> Current {
        let wanted = Wanted {
            nodes: lookup.nodes.clone(),
            answers: lookup.members.clone(),
            ..Wanted::default()
        };
        let api = &self.api;
        let facts = self.observe(&wanted, output);
        let (objects, namespaces) = (&lookup.objects, &lookup.namespaces);
        let bar = output.bar("reading objects", objects.len() + namespaces.len());
        let objects = each(objects.iter().collect(), |reference| {
            let fact = match api.get(reference) {
                Ok(Some(object)) => Fact::Value(object),
                Ok(None) => Fact::Absent,
                Err(error) => Fact::Unreadable(error.to_string()),
            };
            bar.inc(1);
            (reference.clone(), fact)
        });
        // What one holds takes a list of every kind.
        let namespaces = each(namespaces.iter().collect(), |namespace| {
            let fact = match api.contents(namespace) {
                Ok(contents) => Fact::Value(contents),
                Err(error) => Fact::Unreadable(error.to_string()),
            };
            bar.inc(1);
            (namespace.clone(), fact)
        });
        bar.finish_and_clear();
        Current {
            nodes: facts.nodes,
            answers: facts.api.answers,
            objects: objects.into_iter().collect(),
            namespaces: namespaces.into_iter().collect(),
            keys: lookup
                .keys
                .iter()
                .map(|key| (key.clone(), api.config_map_key(&key.0, &key.1, &key.2)))
                .collect(),
        }
    }

    /// Names this process as the one that takes the locks.
    pub(crate) fn holder(&self) -> Holder {
        Holder::current()
    }
}

/// Says that there is nothing to take from some managers: a name that is misspelt takes nothing, and says so.
fn take_from_nobody(none: &[String], others: &[String]) -> Problem {
    let quoted = |names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        names.join(", ")
    };
    Problem {
        severity: Severity::Error,
        place: Place::Api,
        subject: format!("--take-from {}", none.join(",")),
        message: "no object that the profile wants has a field of that manager".into(),
        remedy: match others.is_empty() {
            true => "leave it out: harden alone has fields there".into(),
            false => format!(
                "leave it out, or name one that has fields there: {}",
                quoted(others)
            ),
        },
    }
}
