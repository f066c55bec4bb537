//! stub
use super::{Behaviour, Draft, Resource};
use crate::fact::{Facts, Query};
use serde::Serialize;
/// Stub.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flag {}
impl Flag {
    /// Reads a module's table.
    pub fn from_table(_value: serde_json::Value) -> Result<Self, String> {
        Ok(Flag {})
    }
}
impl Behaviour for Flag {
    fn name(&self) -> String {
        String::new()
    }
    fn queries(&self) -> Vec<Query> {
        Vec::new()
    }
    fn diff(&self, _resource: &Resource, _facts: &Facts, _draft: &mut Draft) {}
}
