//! JSON Schemas of `harden.toml` and of imported profiles, for editors.
//!
//! A schema refuses nothing that `profile::load` accepts. It cannot refuse everything that `load`
//! refuses: the bounds of a duration, or an address with bits behind its prefix.

use serde_json::{Map, Value as Json, json};

use crate::module::rbac_subject;
use crate::module::{Fields, Modules, OptionDecl, Type};

mod settings;

/// Which file a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOf {
    /// `harden.toml`.
    Workspace,
    /// An imported profile.
    Profile,
}

/// Writes a duration as Go and Kubernetes do.
const DURATION: &str = "^(?:[0-9]+(?:ms|s|m|h))+$";
/// Kubernetes' `resource.Quantity`.
const QUANTITY: &str =
    "^[+-]?(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$";
const MODE: &str = "^[0-7]{3,4}$";
/// An IPv4 network exactly, an IPv6 network nearly.
const CIDR: &str = "^(?:(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\\.(?!/)|(?=/))){4}/0*(?:3[0-2]|[12]?[0-9])\
                    |[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/0*(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))$";

/// Writes the schema of a file, with the options of these modules.
pub fn schema(modules: &Modules, of: SchemaOf) -> Json {
    let mut properties = Map::new();
    let mut add = |name: &str, schema: Json| properties.insert(name.to_owned(), schema);
    add(
        "imports",
        said(
            "Profiles that this one begins with: `builtin:NAME`, or a path relative to this file.",
            list(json!({"type": "string"})),
        ),
    );
    add(
        "unset",
        said(
            "Options, or values inside them, that imports set and this file takes back.",
            list(option_name(modules)),
        ),
    );
    for (name, module) in modules.iter() {
        if let Some(section) = section(modules, name, |_| true) {
            properties.insert(name.to_owned(), said(&module.summary, section));
        }
    }
    let title = match of {
        SchemaOf::Workspace => "harden.toml",
        SchemaOf::Profile => "a profile of harden",
    };
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
    });
    if of == SchemaOf::Workspace {
        properties.extend(settings::settings(modules));
        schema["required"] = json!(["cluster"]);
    }
    join(&mut schema, table(properties));
    schema
}

/// Writes the section of a module, with the options that are wanted; `None` when there are none.
fn section(modules: &Modules, module: &str, wanted: impl Fn(&OptionDecl) -> bool) -> Option<Json> {
    if let Some(decl) = modules.option(module) {
        return wanted(decl).then(|| option(decl));
    }
    let prefix = format!("{module}.");
    let options: Map<String, Json> = modules
        .options()
        .filter(|decl| wanted(decl))
        .filter_map(|decl| Some((decl.name.strip_prefix(&prefix)?.to_owned(), option(decl))))
        .collect();
    (!options.is_empty()).then(|| table(options))
}

/// Writes an option or field.
fn option(decl: &OptionDecl) -> Json {
    let mut schema = shape(&decl.ty);
    // What the entry `*` sets, the others get.
    if let Type::Attrs(fields) = &decl.ty {
        let every = said("What the other entries leave open.", record(fields));
        schema["properties"] = json!({"*": every});
        if let Some(names) = decl
            .names
            .as_ref()
            .filter(|names| is_portable(&names.source))
        {
            schema["propertyNames"] = json!({"pattern": format!("^(?:[*]|{})$", names.source)});
        }
    }
    let example = decl.example.as_ref();
    let example =
        example.and_then(|text| toml::from_str::<Map<String, Json>>(&format!("x = {text}")).ok());
    if let Some(example) = example {
        schema["examples"] = Json::Array(example.into_iter().map(|(_, json)| json).collect());
    }
    let note = match &decl.ty {
        // A schema of texts has no bounds.
        Type::Duration { .. } => format!(" It is {}.", decl.ty.describe()),
        Type::Int {
            unit: Some(unit), ..
        } => format!(" In {unit}."),
        _ => String::new(),
    };
    said(&format!("{}{note}", decl.doc), schema)
}

/// Writes the values of a type.
fn shape(ty: &Type) -> Json {
    match ty {
        Type::Bool => json!({"type": "boolean"}),
        Type::Int { min, max, .. } => {
            let mut schema = json!({"type": "integer"});
            if *min != i64::MIN {
                schema["minimum"] = json!(min);
            }
            if *max != i64::MAX {
                schema["maximum"] = json!(max);
            }
            schema
        }
        Type::Duration { .. } => text(DURATION),
        Type::Quantity => json!({"type": ["string", "integer"], "pattern": QUANTITY}),
        Type::Mode => text(MODE),
        Type::Cidr => text(CIDR),
        Type::String {
            pattern: Some(pattern),
        } if is_portable(&pattern.source) => text(&format!("^(?:{})$", pattern.source)),
        Type::String { .. } => json!({"type": "string"}),
        Type::Enum(words) => json!({"enum": words}),
        // A set may say a thing twice.
        Type::List(item) | Type::Set(item) => list(shape(item)),
        Type::Map(item) => json!({"type": "object", "additionalProperties": shape(item)}),
        Type::Record(fields) => record(fields),
        Type::Attrs(fields) => json!({"type": "object", "additionalProperties": record(fields)}),
        Type::Object => json!({"type": "object"}),
        Type::Objects => list(json!({
            "type": "object",
            "required": ["apiVersion", "kind", "metadata"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string", "not": {"const": "Secret"}},
                "metadata": {"type": "object", "required": ["name"]},
            },
        })),
        Type::OneOf(types) => {
            let any: Vec<Json> = types.iter().map(shape).collect();
            json!({"anyOf": any})
        }
        Type::RbacSubject => {
            let named = |kinds: &[&str], name: &str| {
                let own = json!({"type": "string", "pattern": name, "maxLength": 253});
                let mut schema = table(Map::new());
                schema["properties"] = json!({"kind": {"enum": kinds}, "name": own});
                schema["required"] = json!(["kind", "name"]);
                schema
            };
            let whole = |pattern: &str| format!("^(?:{pattern})$");
            let person = format!("^(?!system:)(?!\\*$)(?:{})$", rbac_subject::PERSON_NAME);
            let person = named(&["User", "Group"], &person);
            let mut account = named(&["ServiceAccount"], &whole(rbac_subject::ACCOUNT_NAME));
            account["properties"]["namespace"] = text(&whole(rbac_subject::NAMESPACE));
            account["required"] = json!(["kind", "name", "namespace"]);
            json!({"type": "object", "anyOf": [person, account]})
        }
        Type::Secret => json!({
            "type": "object",
            "properties": {
                "file": said("The file that holds it.", json!({"type": "string"})),
                "env": said("The environment variable that holds it.", json!({"type": "string"})),
                "command": said("The program that writes it, and its arguments.", list(json!({"type": "string"}))),
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        }),
    }
}

/// Whether a pattern means the same in a schema, which takes those of ECMAScript. One that does not
/// is left out: an editor must not refuse what harden accepts.
fn is_portable(pattern: &str) -> bool {
    let plain_groups = pattern
        .match_indices("(?")
        .all(|(at, _)| pattern[at..].starts_with("(?:"));
    let classes = !["[:", "&&", "--", "~~", "[["]
        .iter()
        .any(|own| pattern.contains(own));
    let mut escapes = true;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            let next = chars.next();
            escapes &= next.is_some_and(|c| !c.is_ascii_alphanumeric() || "nrt".contains(c));
        }
    }
    plain_groups && classes && escapes
}

/// Writes the name of an option, or of something inside one.
fn option_name(modules: &Modules) -> Json {
    let names: Vec<String> = modules
        .options()
        .map(|decl| decl.name.replace('.', "\\."))
        .collect();
    text(&format!("^(?:{})(?:\\.|$)", names.join("|")))
}

fn record(fields: &Fields) -> Json {
    let fields = fields
        .iter()
        .map(|(name, decl)| (name.clone(), option(decl)));
    table(fields.collect())
}

fn table(properties: Map<String, Json>) -> Json {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn list(items: Json) -> Json {
    json!({"type": "array", "items": items})
}

fn text(pattern: &str) -> Json {
    json!({"type": "string", "pattern": pattern})
}

/// Adds a description, which editors show.
fn said(doc: &str, mut schema: Json) -> Json {
    schema["description"] = doc.into();
    schema
}

fn join(schema: &mut Json, more: Json) {
    if let (Json::Object(schema), Json::Object(more)) = (schema, more) {
        schema.extend(more);
    }
}
