//! The probe: one constant script that answers queries, and its protocol.
/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Removes terminal escapes and control characters. (Stand-in until the probe lands.)
pub fn clean_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}
