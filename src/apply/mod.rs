//! Apply: executes a plan, stage by stage, behind gates, and puts back what fails.

pub mod holder;
pub mod node;
