//! Encryption at rest: what is seen of it, what is wrong with it, and the next step.

mod judge;
pub mod machine;
pub mod place;
pub mod seen;

pub use judge::{Judgement, judge};
pub use machine::{Next, Plane, Rows, Stage, Stop, View};
pub use seen::{Counted, Seen, SeenPlane, Server};
