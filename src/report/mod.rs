//! Reports: plans, the catalogue of controls and what it says of one name, as text for people and
//! as JSON. (As JSON, a plan is its own file format.)
//!
//! The text carries ANSI styles; the terminal side strips them where they do not belong.

mod controls_text;
mod explain_text;
mod plan_text;

pub use controls_text::{Listing, controls_json, controls_text};
pub use explain_text::{explain_json, explain_text};
pub use plan_text::{PlanText, plan_text};
