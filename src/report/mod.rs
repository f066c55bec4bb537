//! Reports: a plan as text for people. (As JSON, a plan is its own file format.)
//!
//! The text carries ANSI styles; the terminal side strips them where they do not belong.

mod plan_text;

pub use plan_text::{PlanText, plan_text};
