//! stub
use super::{Host, HostConfig, HostError, Limits, Output, Script, Tunnel};
/// Stub.
#[derive(Debug)]
pub struct Docker {
    config: HostConfig,
}
impl Docker {
    /// Makes the host; connects nothing.
    pub fn new(config: HostConfig, _engine: String) -> Self {
        Docker { config }
    }
}
impl Host for Docker {
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
