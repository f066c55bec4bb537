//! Encryption at rest: what is seen of it, what is wrong with it, and the next step.

mod at_rest;
mod course;
mod goal;
mod judge;
pub mod keys;
pub mod machine;
pub mod place;
pub mod seen;

pub use at_rest::{Backup, Encryption, EncryptionWork, KeySource, Part as EncryptionPart};
pub use course::{course, is_in_clear, next_keeping_keys};
pub use goal::{Asked, Goal, asked, begun, newest, renewed};
pub use judge::{Judgement, judge, too_old};
pub use machine::{Next, Plane, Rows, Stage, Stop, View, next};
pub use seen::{Counted, Seen, SeenPlane, Server};

#[cfg(test)]
mod tests;
