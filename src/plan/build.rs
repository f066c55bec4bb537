//! Puts a draft into stages and steps.

use super::Plan;
use crate::fact::Facts;
use crate::resource::Desired;

/// Compares the desired state with the facts.
pub fn build(_desired: &Desired, _facts: &Facts) -> Plan {
    unimplemented!()
}
