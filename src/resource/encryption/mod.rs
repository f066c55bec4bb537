//! Encryption at rest: what is seen of it, what is wrong with it, and the next step.

mod goal;
mod judge;
pub mod keys;
pub mod machine;
pub mod place;
pub mod seen;

pub use goal::{Goal, begun, newest, renewed};
pub use judge::{Judgement, judge};
pub use machine::{Next, Plane, Rows, Stage, Stop, View, next};
pub use seen::{Counted, Seen, SeenPlane, Server};

#[cfg(test)]
mod tests;
