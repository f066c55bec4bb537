//! The probe: one constant script that answers queries, and its protocol.
/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
