//! Reports: plans, the evaluated state and the options as text, JSON, Markdown and files.
//! (As JSON, a plan is its own file format.)
//!
//! The text carries ANSI styles; the terminal side strips them where they do not belong.

mod chain;
mod find;
mod options;
mod plan_text;
mod render;
mod schema;
mod state;
mod toml_text;

pub use chain::Why;
pub use options::{Described, options, options_json, options_markdown, options_text};
pub use plan_text::{PlanText, plan_text};
pub use render::{RENDER_MARK, RENDERED, render};
pub use schema::{SchemaOf, schema};
pub use state::State;
