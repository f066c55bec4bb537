//! Reports: plans, the evaluated state, options, the catalogue of controls and what it says of one
//! name, as text, JSON, Markdown and files. (As JSON, a plan is its own file format.)
//!
//! The text carries ANSI styles; the terminal side strips them where they do not belong.

mod bootstrap;
mod chain;
mod cis;
mod clear_text;
mod controls_text;
mod crowd;
mod encryption;
mod etcd;
mod explain_text;
mod find;
mod impact_text;
mod options;
mod plan_text;
mod problems;
mod render;
mod schema;
mod state;
mod toml_text;

pub use bootstrap::{BOOTSTRAP, Bootstrap, Newborn, bootstrap};
pub use chain::Why;
pub use cis::{cis_controls, cis_markdown};
pub use clear_text::{ETCD_SCAN, Scans, scan_json, scan_text};
pub use controls_text::{Listing, controls_json, controls_text};
pub use encryption::{ENCRYPTION, encryption_json, encryption_text};
pub use etcd::{ETCD_SNAPSHOTS, Snapshots, bytes, snapshot_text, snapshots_json, snapshots_text};
pub use explain_text::{explain_json, explain_text};
pub use impact_text::{IMPACT, impact_json, impact_text};
pub use options::{Described, options, options_json, options_markdown, options_text};
pub use plan_text::{PlanText, plan_text};
pub use render::{Mark, RENDER, render};
pub use schema::{SchemaOf, schema};
pub use state::State;
