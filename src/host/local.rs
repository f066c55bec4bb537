//! stub
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel};
/// Stub.
#[derive(Debug)]
pub struct Local {
    config: HostConfig,
}
impl Local {
    /// Makes the host; connects nothing.
    pub fn new(config: HostConfig, _sudo: bool) -> Self {
        Local { config }
    }
}
impl Host for Local {
    fn name(&self) -> &str {
        &self.config.name
    }
    fn run(&mut self, _: Script, _: &[u8], _: Limits) -> Result<Output, HostError> {
        unimplemented!()
    }
    fn disconnect(&mut self) {}
    fn tunnel(&mut self, _: u16) -> Result<Tunnel, HostError> {
        unimplemented!()
    }
}
