//! The options reference: what a profile may say.

use std::fmt::Write;

use anstyle::Style;
use serde_json::{Value as Json, json};

use crate::module::{DISTRIBUTIONS, Fields, Minors, Modules, OptionDecl, Per, Stricter, Type};

const HEADING: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// An option, or a field inside one, with the name under which a profile sets it.
#[derive(Debug, Clone)]
pub struct Described<'m> {
    /// With `NAME` where the profile chooses: `tenants.NAME.quota`.
    pub name: String,
    /// What declares it.
    pub decl: &'m OptionDecl,
}

/// Lists every option and field by name; with a query those that have it in name or doc, in small
/// or capital letters.
pub fn options<'m>(modules: &'m Modules, query: Option<&str>) -> Vec<Described<'m>> {
    let mut found = Vec::new();
    for decl in modules.options() {
        walk(decl.name.clone(), decl, &mut found);
    }
    if let Some(query) = query.map(str::to_lowercase) {
        let has = |text: &str| text.to_lowercase().contains(&query);
        found.retain(|one| has(&one.name) || has(&one.decl.doc));
    }
    found
}

fn walk<'m>(name: String, decl: &'m OptionDecl, found: &mut Vec<Described<'m>>) {
    found.push(Described {
        name: name.clone(),
        decl,
    });
    if let Some((path, fields)) = fields_of(&name, &decl.ty) {
        for (field, decl) in fields {
            walk(format!("{path}.{field}"), decl, found);
        }
    }
}

/// Returns the fields inside values of a type, and the name of what holds them.
fn fields_of<'m>(name: &str, ty: &'m Type) -> Option<(String, &'m Fields)> {
    match ty {
        Type::Record(fields) => Some((name.to_owned(), fields)),
        Type::Attrs(fields) => Some((format!("{name}.NAME"), fields)),
        Type::Map(item) => fields_of(&format!("{name}.NAME"), item),
        Type::List(item) | Type::Set(item) => fields_of(&format!("{name}[]"), item),
        _ => None,
    }
}

impl Described<'_> {
    /// Lists what there is to say besides name and doc.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let decl = self.decl;
        let mut facts = vec![("type", shape(&decl.ty)), ("risk", word(decl.risk))];
        if let Some(order) = strictness(decl) {
            facts.push(("order", order));
        }
        facts.push(("per", per(decl)));
        if decl.uniform {
            facts.push(("uniform", "a failed change puts every node back".into()));
        }
        if decl.kubernetes != Minors::default() {
            facts.push(("Kubernetes", decl.kubernetes.to_string()));
        }
        if decl.distributions.len() < DISTRIBUTIONS.len() {
            facts.push(("distributions", decl.distributions.join(", ")));
        }
        if !decl.controls.is_empty() {
            facts.push(("controls", decl.controls.join(", ")));
        }
        if let Some(example) = &decl.example {
            let one_line: Vec<&str> = example.split_whitespace().collect();
            facts.push(("example", one_line.join(" ")));
        }
        facts
    }

    fn json(&self) -> Json {
        let decl = self.decl;
        let minor = |minor: Option<u32>| minor.map(|minor| format!("1.{minor}"));
        json!({
            "name": self.name,
            "type": shape(&decl.ty),
            "doc": decl.doc,
            "risk": decl.risk,
            "per": per_word(decl.per),
            "uniform": decl.uniform,
            "strictness": strictness(decl),
            "since": minor(decl.kubernetes.since),
            "until": minor(decl.kubernetes.until),
            "distributions": decl.distributions,
            "controls": decl.controls,
            "example": decl.example,
        })
    }
}

/// Describes a type; of tables also what is in them.
fn shape(ty: &Type) -> String {
    match ty {
        Type::Attrs(_) => "a table of tables, by names of your own".into(),
        Type::Record(_) => "a table with the fields below".into(),
        Type::Object => "a structure of Kubernetes, kept as it is".into(),
        other => other.describe(),
    }
}

/// Writes a risk, which serializes as its word.
fn word(risk: crate::resource::Risk) -> String {
    let word = serde_json::to_value(risk).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

fn per_word(per: Per) -> &'static str {
    match per {
        Per::Cluster => "cluster",
        Per::Node => "node",
        Per::Tenant => "tenant",
    }
}

fn per(decl: &OptionDecl) -> String {
    match decl.per {
        Per::Cluster => "cluster".into(),
        Per::Node => "node: one may have its own value below `[nodes.host.NAME]`".into(),
        Per::Tenant => "tenant".into(),
    }
}

/// Says which of two values is the stricter one.
fn strictness(decl: &OptionDecl) -> Option<String> {
    Some(match (decl.stricter?, &decl.ty) {
        (Stricter::Is(strict), _) => format!("{strict} is stricter than {}", !strict),
        (Stricter::Lower, Type::Mode) => "fewer permission bits are stricter".into(),
        (Stricter::Lower, Type::Duration { .. }) => "shorter is stricter".into(),
        (Stricter::Higher, Type::Duration { .. }) => "longer is stricter".into(),
        (Stricter::Lower, _) => "lower is stricter".into(),
        (Stricter::Higher, _) => "higher is stricter".into(),
        (Stricter::Later, Type::Enum(words)) => {
            format!("from lax to strict: {}", words.join(", "))
        }
        (Stricter::Later, _) => return None,
    })
}

/// Writes the reference for people.
pub fn options_text(options: &[Described<'_>]) -> String {
    let mut out = String::new();
    for (i, one) in options.iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        let _ = writeln!(out, "{gap}{HEADING}{}{HEADING:#}", one.name);
        let _ = writeln!(out, "    {}", one.decl.doc);
        for (what, text) in one.facts() {
            let _ = writeln!(out, "    {DIM}{what:<13}{DIM:#} {text}");
        }
    }
    out
}

/// Writes the reference for programs.
pub fn options_json(options: &[Described<'_>]) -> Json {
    let list: Vec<Json> = options.iter().map(Described::json).collect();
    json!({"schema": "harden.dev/options/v1", "options": list})
}

/// Writes the reference of these modules as Markdown.
pub fn options_markdown(modules: &Modules) -> String {
    let mut out = String::from(
        "# Options\n\n\
         What a profile may say, from the built-in modules in `modules/`; `harden options` shows the same, with the modules of a workspace.\n\
         A test compares this file with them, and says how it is written anew.\n",
    );
    let all = options(modules, None);
    for (module, found) in modules.iter() {
        let _ = writeln!(out, "\n## {module}\n\n{}.", found.summary);
        let of_module = |one: &&Described<'_>| {
            let first = one.name.split(['.', '[']).next();
            first == Some(module)
        };
        for one in all.iter().filter(of_module) {
            let _ = writeln!(out, "\n### `{}`\n\n{}\n", one.name, cell(&one.decl.doc));
            for (what, text) in one.facts() {
                let text = match what {
                    "example" => format!("`{text}`"),
                    _ => cell(&text),
                };
                let _ = writeln!(out, "- {what}: {text}");
            }
        }
    }
    out
}

/// Keeps a text from being taken for marks.
pub(super) fn cell(text: &str) -> String {
    let mut shown = String::new();
    let mut code = false;
    for c in text.chars() {
        code ^= c == '`';
        if !code && matches!(c, '*' | '_' | '<' | '[') {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}
