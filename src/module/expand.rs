//! Puts the values of a profile into the tables of a module.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value as Json;

use super::assertion::Assertion;
use super::expression::{Lazy, Sight, Surroundings};
use super::name::{Binding, Found, Names};
use super::table::{Guard, Loop, ResourceDecl};
use super::template::{Piece, Reference, Table, Template};
use super::{Module, Modules, OptionDecl};
use crate::profile::section::quoted;
use crate::profile::{Diagnostic, Values, harmless};
use crate::resource::precondition::Precondition;
use crate::resource::{Finding, Origin, Risk, Scope};

/// A resource before its kind reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft<'m> {
    pub(crate) decl_span: std::ops::Range<usize>,
    pub(crate) table: &'m str,
    pub(crate) data: Json,
    pub(crate) scope: Scope,
    pub(crate) risk: Risk,
    pub(crate) requires: BTreeSet<Precondition>,
    pub(crate) uniform: bool,
    pub(crate) reason: String,
    pub(crate) controls: Vec<String>,
    pub(crate) origins: Vec<Origin>,
}

/// What becomes of a module.
#[derive(Debug, Default)]
pub(crate) struct Expanded<'m> {
    pub(crate) drafts: Vec<Draft<'m>>,
    pub(crate) faults: Vec<Diagnostic>,
    /// The values that made a resource, or decided that there is none.
    pub(crate) heeded: HashSet<Origin>,
    /// The assertions that do not hold and are no faults.
    pub(crate) findings: Vec<Finding>,
}

/// Expands the API objects of a module for the first `most` entries that each is repeated for.
pub(crate) fn first<'m>(
    module: &'m Module,
    modules: &'m Modules,
    values: &Values,
    most: usize,
) -> Vec<Draft<'m>> {
    let mut expanded = Expanded::default();
    for decl in module.resources.iter().filter(|d| d.on == Scope::Api) {
        let mut expansion = Expansion {
            modules,
            values,
            module,
            expanded: &mut expanded,
            left: most,
        };
        expansion.repeat(&decl.guard.loops, &mut Vec::new(), &mut |this, bindings| {
            this.draft(decl, bindings);
        });
    }
    expanded.drafts
}

/// Expands all resources of a module.
pub(crate) fn expand<'m>(
    module: &'m Module,
    modules: &'m Modules,
    values: &Values,
    surroundings: &Result<Surroundings<'_>, String>,
) -> Expanded<'m> {
    let mut expanded = Expanded::default();
    for decl in &module.resources {
        let mut expansion = Expansion {
            modules,
            values,
            module,
            expanded: &mut expanded,
            left: usize::MAX,
        };
        let is_shared = decl.is_shared();
        let mut is_made = false;
        expansion.repeat(&decl.guard.loops, &mut Vec::new(), &mut |this, bindings| {
            // The first makes it, and a thousand more would make the same.
            if is_shared && is_made {
                this.heed(&decl.guard, bindings);
            } else {
                is_made |= this.draft(decl, bindings);
            }
        });
    }
    if !module.assertions.is_empty() {
        assert_all(module, modules, values, surroundings, &mut expanded);
    }
    expanded
}

/// What an assertion that does not hold comes to.
enum Told {
    Fault(Diagnostic),
    Finding(Finding),
}

/// Asks every assertion of a module.
fn assert_all<'m>(
    module: &'m Module,
    modules: &'m Modules,
    values: &Values,
    surroundings: &Result<Surroundings<'_>, String>,
    expanded: &mut Expanded<'m>,
) {
    let surroundings = match surroundings {
        Ok(surroundings) => surroundings,
        Err(why) => {
            let fault = Diagnostic::new(format!("assertions cannot be evaluated: {why}"));
            expanded.faults.push(fault.help("please report this"));
            return;
        }
    };
    // Those that are asked of the same entries are asked together, so that each entry is made ready once.
    let mut groups: Vec<Vec<(usize, &Assertion)>> = Vec::new();
    for one in module.assertions.iter().enumerate() {
        let is_like = |group: &&mut Vec<(usize, &Assertion)>| {
            let first = group.first();
            first.is_some_and(|(_, first)| first.guard.repeats_as(&one.1.guard))
        };
        match groups.iter_mut().find(is_like) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let mut told: Vec<(usize, Told)> = Vec::new();
    for group in &groups {
        let Some((_, first)) = group.first() else {
            continue;
        };
        let mut expansion = Expansion {
            modules,
            values,
            module,
            expanded,
            left: usize::MAX,
        };
        expansion.repeat(
            &first.guard.loops,
            &mut Vec::new(),
            &mut |this, bindings| {
                let mut names = Lazy::new();
                for binding in bindings {
                    names.add(binding.name.as_str(), || binding.seen());
                }
                let sight = surroundings.sight(&names);
                for (at, assertion) in group {
                    let answer = this.ask(assertion, &sight, bindings);
                    told.extend(answer.map(|answer| (*at, answer)));
                }
            },
        );
    }
    // They are told in the order of the module.
    told.sort_by_key(|(at, _)| *at);
    for (_, one) in told {
        match one {
            Told::Fault(fault) => expanded.faults.push(fault),
            Told::Finding(finding) => expanded.findings.push(finding),
        }
    }
}

struct Expansion<'m, 'v, 'd> {
    modules: &'m Modules,
    values: &'v Values,
    module: &'m Module,
    expanded: &'d mut Expanded<'m>,
    /// For how many entries more it is repeated.
    left: usize,
}

/// An option that a resource was made of.
struct Use<'m> {
    decl: &'m OptionDecl,
    origins: Vec<Origin>,
    /// Where the module names it; `when` counts as before everything else.
    at: usize,
    /// It only says which entry of a loop this is.
    identity: bool,
}

/// What became of a template.
enum Outcome {
    Value(Json),
    /// An optional reference is unset: its own key vanishes.
    Nothing,
    /// A reference is unset: the resource does not exist.
    Unset,
}

impl<'m, 'v> Expansion<'m, 'v, '_> {
    fn repeat(
        &mut self,
        loops: &[Loop],
        bindings: &mut Vec<Binding<'m, 'v>>,
        each: &mut impl FnMut(&mut Self, &[Binding<'m, 'v>]),
    ) {
        let Some((first, rest)) = loops.split_first() else {
            self.left = self.left.saturating_sub(1);
            each(self, bindings);
            return;
        };
        let Ok(over) = self.names(bindings).find(&first.over.path) else {
            return;
        };
        let entries = match &first.entry {
            None => over.entries(),
            Some(entry) => {
                let key = self.names(bindings).find(&entry.path);
                let key = key.ok().and_then(|key| Some(key.found?.json()));
                let named = key
                    .as_ref()
                    .and_then(Json::as_str)
                    .and_then(|key| over.entry(key));
                named.into_iter().collect()
            }
        };
        for named in entries {
            if self.left == 0 {
                return;
            }
            bindings.push(Binding {
                name: first.name.clone(),
                named,
            });
            self.repeat(rest, bindings, each);
            bindings.pop();
        }
    }

    fn names<'b>(&self, bindings: &'b [Binding<'m, 'v>]) -> Names<'m, 'v, 'b> {
        Names {
            options: &self.modules.options,
            values: Some(self.values),
            bindings,
        }
    }

    /// Asks one assertion of one entry; `None` when it holds or is not asked.
    fn ask(
        &mut self,
        assertion: &'m Assertion,
        sight: &Sight<'_>,
        bindings: &[Binding<'m, 'v>],
    ) -> Option<Told> {
        let names = self.names(bindings);
        if !applies(names, &assertion.guard, &mut Vec::new()) {
            return None;
        }
        let declared = || {
            let place = assertion.span.clone();
            self.module.file.place(place, "asserted here")
        };
        match assertion.that.holds(sight) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(why) => {
                let fault = Diagnostic::new(format!("this assertion cannot be evaluated: {why}"));
                let help = "ask for what may be unset with `has(…)` or `\"…\" in …` first";
                return Some(Told::Fault(fault.at(declared()).help(help)));
            }
        }
        let declared = declared();
        let message = match self.template(names, &assertion.message, &mut Vec::new()) {
            Outcome::Value(Json::String(text)) => harmless(text),
            _ => "an assertion does not hold".into(),
        };
        let help = harmless(assertion.help.as_str());
        let mut found = bindings.iter().rev().filter_map(|b| b.named.found.as_ref());
        let found = found.next();
        if assertion.is_error {
            let place = found.and_then(Found::place).unwrap_or(declared);
            return Some(Told::Fault(Diagnostic::new(message).at(place).help(help)));
        }
        Some(Told::Finding(Finding {
            message,
            help,
            control: assertion.control.as_ref().map(|(name, _)| name.clone()),
            origins: found.map(Found::own_origins).unwrap_or_default(),
        }))
    }

    /// Notes what decided over a resource that is made already.
    fn heed(&mut self, guard: &Guard, bindings: &[Binding<'m, 'v>]) {
        let mut uses = Vec::new();
        applies(self.names(bindings), guard, &mut uses);
        let compared = uses.into_iter().flat_map(|u| u.origins);
        self.expanded.heeded.extend(compared);
    }

    /// Makes a resource, and says whether there is one.
    fn draft(&mut self, decl: &'m ResourceDecl, bindings: &[Binding<'m, 'v>]) -> bool {
        let names = self.names(bindings);
        let mut uses = Vec::new();
        if !applies(names, &decl.guard, &mut uses) {
            let compared = uses.into_iter().flat_map(|u| u.origins);
            self.expanded.heeded.extend(compared);
            return false;
        }
        let data = match self.table(names, &decl.data, &mut uses) {
            Outcome::Value(data) => data,
            Outcome::Nothing | Outcome::Unset => return false,
        };
        for binding in bindings {
            let named = &binding.named;
            uses.extend(named.found.as_ref().map(|found| Use {
                decl: named.decl,
                origins: found.own_origins(),
                at: usize::MAX,
                identity: true,
            }));
        }
        uses.sort_by_key(|one| (one.identity, one.at));
        let all = uses.iter_mut().map(|u| std::mem::take(&mut u.origins));
        let mut origins: Vec<Origin> = all.flatten().collect();
        origins.sort_unstable();
        origins.dedup();
        let controls: BTreeSet<&String> = uses.iter().flat_map(|u| &u.decl.controls).collect();
        let risk = uses
            .iter()
            .map(|u| u.decl.risk)
            .max()
            .unwrap_or(Risk::Manual);
        for origin in &origins {
            // Most are those of the entry's other resources.
            if !self.expanded.heeded.contains(origin) {
                self.expanded.heeded.insert(origin.clone());
            }
        }
        self.expanded.drafts.push(Draft {
            decl_span: decl.span.clone(),
            table: decl.table,
            data,
            scope: decl.on,
            risk: match decl.requires.is_empty() {
                true => decl.risk.unwrap_or(risk),
                // Something must be so first, so it can hurt.
                false => decl.risk.unwrap_or(risk).max(Risk::Guarded),
            },
            requires: decl.requires.clone(),
            uniform: uses.iter().any(|u| u.decl.uniform),
            // What an option does is no reason for the value that it has, so it is told apart.
            reason: uses
                .first()
                .map(|u| format!("option: {}", u.decl.doc))
                .unwrap_or_default(),
            controls: controls.into_iter().cloned().collect(),
            origins,
        });
        true
    }

    fn template(
        &mut self,
        names: Names<'m, 'v, '_>,
        template: &Template,
        uses: &mut Vec<Use<'m>>,
    ) -> Outcome {
        match template {
            Template::Fixed(json) => Outcome::Value(json.clone()),
            Template::Whole(reference) => {
                match lookup(names, reference, reference.span.start, uses) {
                    Some(json) => Outcome::Value(json),
                    None if reference.optional => Outcome::Nothing,
                    None => Outcome::Unset,
                }
            }
            Template::Text(pieces) => text(names, pieces, uses),
            Template::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    match self.template(names, item, uses) {
                        Outcome::Value(json) => list.push(json),
                        Outcome::Nothing => {}
                        Outcome::Unset => return Outcome::Unset,
                    }
                }
                Outcome::Value(Json::Array(list))
            }
            Template::Table(table) => self.table(names, table, uses),
        }
    }

    fn table(
        &mut self,
        names: Names<'m, 'v, '_>,
        table: &Table,
        uses: &mut Vec<Use<'m>>,
    ) -> Outcome {
        let mut object = serde_json::Map::new();
        for (key, entry) in &table.entries {
            match self.template(names, entry, uses) {
                Outcome::Value(json) => {
                    object.insert(key.clone(), json);
                }
                Outcome::Nothing => {}
                Outcome::Unset => return Outcome::Unset,
            }
        }
        if let Some(spread) = &table.spread {
            match lookup(names, spread, spread.span.start, uses) {
                Some(Json::Object(entries)) => {
                    for (key, json) in entries {
                        // What the module sets must not be undone behind its back.
                        if object.contains_key(&key) {
                            self.expanded.faults.push(self.taken(names, spread, &key));
                        }
                        object.insert(key, json);
                    }
                }
                None if !spread.optional => return Outcome::Unset,
                _ => {}
            }
        }
        Outcome::Value(Json::Object(object))
    }

    fn taken(&self, names: Names<'m, 'v, '_>, spread: &Reference, key: &str) -> Diagnostic {
        let message = format!("{} cannot set {}", quoted(&spread.name()), quoted(key));
        let found = names.find(&spread.path).ok().and_then(|named| named.found);
        let place = found.and_then(|found| found.entry_place(key));
        let mut place = place.unwrap_or_else(|| self.module.file.place(spread.span.clone(), ""));
        place.label = "the module sets this itself".into();
        Diagnostic::new(message)
            .at(place)
            .help("remove it; another option stands for it")
    }
}

/// Whether every `when` holds and every `given` is set.
fn applies<'m>(names: Names<'m, '_, '_>, guard: &Guard, uses: &mut Vec<Use<'m>>) -> bool {
    let holds = |(reference, wanted): &(Reference, Json)| {
        lookup(names, reference, 0, uses).is_some_and(|found| found == *wanted)
    };
    guard.when.iter().all(holds)
        && guard
            .given
            .iter()
            .all(|reference| lookup(names, reference, 0, uses).is_some())
}

/// Puts references into a text.
fn text<'m>(names: Names<'m, '_, '_>, pieces: &[Piece], uses: &mut Vec<Use<'m>>) -> Outcome {
    let mut text = String::new();
    let mut missing = false;
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Reference(reference) => {
                match lookup(names, reference, reference.span.start, uses) {
                    Some(Json::String(value)) => text.push_str(&value),
                    Some(other) => text.push_str(&other.to_string()),
                    None if reference.optional => missing = true,
                    None => return Outcome::Unset,
                }
            }
        }
    }
    if missing {
        Outcome::Nothing
    } else {
        Outcome::Value(Json::String(text))
    }
}

/// Returns the value behind a reference and notes the use; `None` when it is unset.
fn lookup<'m>(
    names: Names<'m, '_, '_>,
    reference: &Reference,
    at: usize,
    uses: &mut Vec<Use<'m>>,
) -> Option<Json> {
    // Every name was checked when the module was read.
    let named = names.find(&reference.path).ok()?;
    let found = named.found.as_ref()?;
    uses.push(Use {
        decl: named.decl,
        origins: found.origins(),
        at,
        identity: named.is_identity(&reference.path)
            && names
                .bindings
                .iter()
                .any(|b| Some(&b.name) == reference.path.first()),
    });
    Some(found.json())
}
