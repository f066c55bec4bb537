//! A cluster of the parts that matter: files, what servers have loaded, forms of objects. Everything
//! that can happen in it happens between any two steps, and nothing may ever become unreadable.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::fact::encryption::Provider;

const SECRETS: &str = "secrets";

/// Forms as numbers: 0 is in clear.
fn form(number: u8) -> Form {
    match number {
        0 => Form::Clear,
        n => Form::key(Provider::Secretbox, &format!("key{n}")).unwrap(),
    }
}

fn number(form: &Form) -> u8 {
    (0..8).find(|n| self::form(*n) == *form).unwrap()
}

type Row = Vec<u8>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Server {
    up: bool,
    /// Whether it is started with a configuration.
    flag: bool,
    file: Option<Row>,
    /// What a server that is up has loaded.
    loaded: Row,
}

/// What harden does at once; it may die between any two of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Act {
    Write(usize, Row),
    Enable(usize),
    Disable(usize),
    Remove(usize),
    Rewrite,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    wanted: u8,
    servers: Vec<Server>,
    /// The forms in which there are objects, a bit each.
    objects: u8,
    /// What is left of what the last look decided.
    pending: Vec<Act>,
    decide: Decider,
}

/// The same for every world of an exploration.
#[derive(Clone, Copy)]
struct Decider(Decide);

impl PartialEq for Decider {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Decider {}

impl std::hash::Hash for Decider {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl std::fmt::Debug for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

#[derive(Debug, Clone)]
enum Event {
    Look,
    LookWithoutCounts,
    Act,
    Killed,
    Write(usize),
    Reload(usize),
    Die(usize),
    Revive(usize),
    /// Some objects are written anew by this server, and then harden dies.
    Some(usize),
    Want(u8),
}

impl World {
    fn new(servers: usize) -> Self {
        let server = Server {
            up: true,
            flag: false,
            file: None,
            loaded: vec![0],
        };
        World {
            wanted: 0,
            servers: vec![server; servers],
            objects: 1,
            pending: Vec::new(),
            decide: Decider(next),
        }
    }

    fn view(&self, counted: bool) -> View {
        let rows =
            |row: &Row| Rows::from([(SECRETS.into(), row.iter().map(|n| form(*n)).collect())]);
        let plane = |server: &Server| match (&server.file, server.flag) {
            _ if !server.up => Err("it is down".to_owned()),
            (None, true) => Err("its file is gone".to_owned()),
            (Some(file), true) => Ok(Plane::On {
                file: rows(file),
                loaded: server.loaded == *file,
            }),
            (file, false) => Ok(Plane::Off {
                file: file.as_ref().map(rows),
            }),
        };
        let stored: Stored = (0..8)
            .filter(|n| self.objects & (1 << n) != 0)
            .map(|n| (StoredForm::Form(form(n)), 1))
            .collect();
        let stored = match counted {
            true => Fact::Value(stored),
            false => Fact::Unreadable("etcd does not answer".into()),
        };
        View {
            planes: (0..)
                .zip(&self.servers)
                .map(|(n, server): (usize, _)| (n.to_string(), plane(server)))
                .collect(),
            stored: [(SECRETS.into(), stored)].into(),
        }
    }

    fn decide(&self, counted: bool) -> Next {
        let wanted = match self.wanted {
            0 => BTreeMap::new(),
            n => BTreeMap::from([(SECRETS.to_owned(), form(n))]),
        };
        (self.decide.0)(&wanted, &self.view(counted))
    }

    fn acts(next: &Next) -> Vec<Act> {
        let node = |name: &String| name.parse().unwrap();
        match next {
            Next::Write { files, .. } => files
                .iter()
                .map(|(name, rows)| {
                    Act::Write(node(name), rows[SECRETS].iter().map(number).collect())
                })
                .collect(),
            Next::Enable { node: name } => vec![Act::Enable(node(name))],
            Next::Disable { node: name } => vec![Act::Disable(node(name))],
            Next::Remove { node: name } => vec![Act::Remove(node(name))],
            Next::Rewrite { .. } => vec![Act::Rewrite],
            Next::Done | Next::Wait { .. } | Next::Stopped(_) => Vec::new(),
        }
    }

    /// Does it, or returns whether it cannot happen now.
    fn happens(&mut self, event: &Event) -> bool {
        match event {
            Event::Look => {
                self.pending = World::acts(&self.decide(true));
            }
            Event::LookWithoutCounts => {
                self.pending = World::acts(&self.decide(false));
            }
            Event::Act => {
                if self.pending.is_empty() {
                    return false;
                }
                let act = self.pending.remove(0);
                self.act(&act);
            }
            Event::Killed => self.pending.clear(),
            Event::Write(n) | Event::Some(n) => {
                if !self.servers[*n].up {
                    return false;
                }
                self.objects |= 1 << self.servers[*n].loaded[0];
                if matches!(event, Event::Some(_)) {
                    self.pending.clear();
                }
            }
            Event::Reload(n) => {
                let server = &mut self.servers[*n];
                match &server.file {
                    Some(file) if server.up && server.flag => server.loaded.clone_from(file),
                    _ => return false,
                }
            }
            Event::Die(n) => self.servers[*n].up = false,
            Event::Revive(n) => self.servers[*n].start(),
            Event::Want(n) => self.wanted = *n,
        }
        true
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Write(n, row) => self.servers[*n].file = Some(row.clone()),
            Act::Enable(n) => {
                self.servers[*n].flag = true;
                self.servers[*n].start();
            }
            Act::Disable(n) => {
                self.servers[*n].flag = false;
                self.servers[*n].start();
            }
            Act::Remove(n) => self.servers[*n].file = None,
            Act::Rewrite => {
                if let Some(server) = self.servers.iter().find(|server| server.up) {
                    self.objects = 1 << server.loaded[0];
                }
            }
        }
    }

    /// What keeps a server that is up from reading something, now or after it has loaded its file.
    fn unreadable(&self) -> Option<String> {
        let mut forms = self.objects;
        for server in &self.servers {
            // One that is down begins to write as soon as it is back.
            forms |= 1 << server.after_start()[0];
            if server.up {
                forms |= 1 << server.loaded[0];
            }
        }
        for (n, server) in self.servers.iter().enumerate() {
            let mut rows = vec![server.after_start()];
            if server.up {
                rows.push(server.loaded.clone());
            }
            for row in rows {
                if let Some(form) = (0..8).find(|f| forms & (1 << f) != 0 && !row.contains(f)) {
                    return Some(format!("server {n} reads {row:?} and cannot read {form}"));
                }
            }
        }
        None
    }

    /// Nothing dies any more and harden is run until it has nothing to do.
    fn comes_to_its_end(&self) -> Result<usize, String> {
        let mut world = self.clone();
        world.pending.clear();
        for server in &mut world.servers {
            if !server.up {
                server.start();
            }
        }
        for steps in 0..40 {
            let next = world.decide(true);
            match &next {
                Next::Done => {
                    let is_so = world.objects == 1 << world.wanted
                        && world.servers.iter().all(|s| s.loaded == [world.wanted]);
                    return match is_so {
                        true => Ok(steps),
                        false => Err(format!("it calls this done: {world:?}")),
                    };
                }
                Next::Wait { node } => {
                    world.happens(&Event::Reload(node.parse().unwrap()));
                }
                Next::Stopped(stop) => return Err(stop.to_string()),
                _ => World::acts(&next).iter().for_each(|act| world.act(act)),
            }
        }
        Err(format!("it goes on for ever: {world:?}"))
    }
}

impl Server {
    fn after_start(&self) -> Row {
        match (&self.file, self.flag) {
            (Some(file), true) => file.clone(),
            _ => vec![0],
        }
    }

    fn start(&mut self) {
        self.up = true;
        self.loaded = self.after_start();
    }
}

fn events(servers: usize, wants: &[u8]) -> Vec<Event> {
    let mut all = vec![
        Event::Look,
        Event::LookWithoutCounts,
        Event::Act,
        Event::Killed,
    ];
    for n in 0..servers {
        all.extend([
            Event::Write(n),
            Event::Reload(n),
            Event::Die(n),
            Event::Revive(n),
            Event::Some(n),
        ]);
    }
    all.extend(wants.iter().map(|n| Event::Want(*n)));
    all
}

/// What decides.
type Decide = fn(&BTreeMap<String, Form>, &View) -> Next;

/// Every state that can be reached, whatever dies whenever. Returns how many there are, or how things
/// went wrong.
fn explore(servers: usize, wants: &[u8], decide: Decide) -> Result<usize, String> {
    let all: Vec<Event> = events(servers, wants)
        .into_iter()
        // The random walks have it; here it would only double the work.
        .filter(|event| !matches!(event, Event::LookWithoutCounts))
        .collect();
    let begin = World {
        decide: Decider(decide),
        ..World::new(servers)
    };
    let mut seen = HashSet::from([begin.clone()]);
    let mut ends: HashMap<World, ()> = HashMap::new();
    let mut queue = VecDeque::from([begin]);
    while let Some(world) = queue.pop_front() {
        for event in &all {
            let mut after = world.clone();
            if !after.happens(event) || seen.contains(&after) {
                continue;
            }
            if let Some(why) = after.unreadable() {
                return Err(format!("{world:?}\n  {event:?}\n{after:?}\n  {why}"));
            }
            let resting = World {
                pending: Vec::new(),
                ..after.clone()
            };
            if ends.insert(resting.clone(), ()).is_none()
                && let Err(why) = resting.comes_to_its_end()
            {
                return Err(format!("{resting:?}\n  {why}"));
            }
            seen.insert(after.clone());
            queue.push_back(after);
        }
    }
    Ok(seen.len())
}

#[test]
fn k3s_13763_a_death_at_any_step_leaves_everything_readable_and_is_finished_by_the_next_run() {
    // Two servers; enabled, rotated and disabled, in any order and changed halfway.
    let states = explore(2, &[0, 1, 2], next).unwrap();
    assert!(
        states > 5000,
        "{states} states are too few to mean anything"
    );
}

#[test]
fn k3s_4838_a_first_enablement_on_three_servers_hurts_none_of_them() {
    let states = explore(3, &[1], next).unwrap();
    assert!(states > 500, "{states} states are too few to mean anything");
}

#[test]
fn machines_that_take_a_short_cut_are_found_out() {
    /// A new key is put first at once.
    fn hasty(wanted: &BTreeMap<String, Form>, view: &View) -> Next {
        match next(wanted, view) {
            Next::Write {
                stage: Stage::Add,
                mut files,
            } => {
                for row in files.values_mut().flat_map(Rows::values_mut) {
                    row.reverse();
                }
                Next::Write {
                    stage: Stage::Add,
                    files,
                }
            }
            other => other,
        }
    }
    /// Nobody asks whether a file was loaded.
    fn trusting(wanted: &BTreeMap<String, Form>, view: &View) -> Next {
        let mut view = view.clone();
        for plane in view.planes.values_mut().flatten() {
            if let Plane::On { loaded, .. } = plane {
                *loaded = true;
            }
        }
        next(wanted, &view)
    }
    /// A control plane that is down is left out.
    fn forgetful(wanted: &BTreeMap<String, Form>, view: &View) -> Next {
        let mut view = view.clone();
        view.planes.retain(|_, plane| plane.is_ok());
        next(wanted, &view)
    }
    /// The old key is dropped without a look at what is stored.
    fn blind(wanted: &BTreeMap<String, Form>, view: &View) -> Next {
        let mut view = view.clone();
        let wanted_form = wanted.get(SECRETS).cloned().unwrap_or(Form::Clear);
        let stored = Stored::from([(StoredForm::Form(wanted_form), 1)]);
        view.stored = [(SECRETS.to_owned(), Fact::Value(stored))].into();
        next(wanted, &view)
    }
    for (name, decide) in [
        ("hasty", hasty as Decide),
        ("trusting", trusting),
        ("forgetful", forgetful),
        ("blind", blind),
    ] {
        assert!(explore(2, &[0, 1], decide).is_err(), "{name}");
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let server = || 0usize..3;
    prop_oneof![
        4 => Just(Event::Look),
        1 => Just(Event::LookWithoutCounts),
        6 => Just(Event::Act),
        1 => Just(Event::Killed),
        2 => server().prop_map(Event::Write),
        4 => server().prop_map(Event::Reload),
        1 => server().prop_map(Event::Die),
        3 => server().prop_map(Event::Revive),
        1 => server().prop_map(Event::Some),
        1 => (0u8..4).prop_map(Event::Want),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_to_three_servers_in_whatever_order(
        events in prop::collection::vec(any_event(), 1..160),
    ) {
        let mut world = World::new(3);
        for event in &events {
            let before = world.clone();
            world.happens(event);
            let why = world.unreadable();
            prop_assert!(why.is_none(), "{:?}\n  {:?}\n{:?}\n  {:?}", before, event, world, why);
        }
        let end = world.comes_to_its_end();
        prop_assert!(end.is_ok(), "{:?}\n  {:?}", world, end);
    }
}

#[test]
fn openshift_1969_a_new_key_writes_only_when_every_server_reads_it() {
    let mut world = World::new(3);
    world.wanted = 1;
    let mut told = Vec::new();
    for _ in 0..40 {
        let next = world.decide(true);
        match &next {
            Next::Wait { node } => {
                world.happens(&Event::Reload(node.parse().unwrap()));
                continue;
            }
            Next::Write { stage, files } => told.push(format!("{stage:?} {}", files.len())),
            Next::Enable { node } => told.push(format!("Enable {node}")),
            Next::Rewrite { resources } => told.push(format!("Rewrite {}", resources.join(" "))),
            other => told.push(format!("{other:?}")),
        }
        if next == Next::Done {
            break;
        }
        World::acts(&next).iter().for_each(|act| world.act(act));
    }
    assert_eq!(
        told,
        [
            "Add 3",
            "Enable 0",
            "Enable 1",
            "Enable 2",
            "Promote 3",
            "Rewrite secrets",
            "Drop 3",
            "Done"
        ]
    );
}

#[test]
fn rancher_26421_a_control_plane_that_is_down_stops_it_before_anything_is_changed() {
    for wanted in [0, 1, 2] {
        let mut world = World::new(3);
        world.wanted = wanted;
        world.servers[1].up = false;
        assert_eq!(
            world.decide(true),
            Next::Stopped(Stop::Unknown {
                node: "1".into(),
                why: "it is down".into()
            })
        );
    }
}

#[test]
fn kubespray_3964_objects_under_a_key_that_nobody_has_stop_everything() {
    let mut world = World::new(2);
    world.wanted = 2;
    world.objects = 0b1001;
    let Next::Stopped(Stop::NoKey { form, count, .. }) = world.decide(true) else {
        panic!("{:?}", world.decide(true));
    };
    assert_eq!((form, count), (StoredForm::Form(self::form(3)), 1));
}

#[test]
fn what_was_not_counted_is_never_dropped() {
    let mut world = World::new(1);
    world.wanted = 1;
    world.servers[0] = Server {
        up: true,
        flag: true,
        file: Some(vec![1, 0]),
        loaded: vec![1, 0],
    };
    world.objects = 0b10;
    assert!(matches!(
        world.decide(true),
        Next::Write {
            stage: Stage::Drop,
            ..
        }
    ));
    assert!(matches!(
        world.decide(false),
        Next::Stopped(Stop::Uncounted { .. })
    ));
}

#[test]
fn a_resource_that_is_added_goes_the_same_way_beside_one_that_is_encrypted() {
    let key = form(1);
    let rows = |row: Vec<Form>| Rows::from([(SECRETS.to_owned(), row)]);
    let planes = ["a", "b"].map(|node| {
        let plane = Plane::On {
            file: rows(vec![key.clone()]),
            loaded: true,
        };
        (node.to_owned(), Ok(plane))
    });
    let stored = |form: &Form| Fact::Value(Stored::from([(StoredForm::Form(form.clone()), 7)]));
    let view = View {
        planes: planes.into(),
        stored: [
            (SECRETS.to_owned(), stored(&key)),
            ("configmaps".to_owned(), stored(&Form::Clear)),
        ]
        .into(),
    };
    let wanted = BTreeMap::from([
        (SECRETS.to_owned(), key.clone()),
        ("configmaps".to_owned(), key.clone()),
    ]);
    let Next::Write { stage, files } = next(&wanted, &view) else {
        panic!("{:?}", next(&wanted, &view));
    };
    assert_eq!(stage, Stage::Add);
    assert_eq!(files.len(), 2);
    assert_eq!(files["a"][SECRETS], std::slice::from_ref(&key));
    assert_eq!(files["a"]["configmaps"], [Form::Clear, key]);
}
