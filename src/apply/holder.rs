//! Who holds a lock, and whether they still live.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::Holder;
use crate::fact::sha256;

/// Describes this process. `who` is `user@host`.
pub fn current(who: String) -> Holder {
    let pid = std::process::id();
    Holder {
        who,
        machine: machine(),
        pid,
        start: start_of(pid).unwrap_or(0),
        since: now(),
    }
}

/// Whether the holder is known to be gone: a process of this machine, since its last boot, that
/// does not run any more. Of another machine's processes nothing is known. A reboot changes the
/// machine's hash, so a holder from before it counts as another machine's; such a lock is taken
/// over only when [`Settings::take_over`](super::Settings::take_over) says so.
pub fn is_dead(holder: &Holder) -> bool {
    holder.machine == machine() && start_of(holder.pid) != Some(holder.start)
}

/// Returns the time in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// SHA-256 of the machine's identity and boot: a pid means something only within one boot.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let id = read("/etc/machine-id");
    let boot = read("/proc/sys/kernel/random/boot_id");
    sha256(format!("{}\n{}", id.trim(), boot.trim()))
}

/// Returns a process's start time in clock ticks since boot; `None` when it does not run. A zombie
/// does not run.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from behind it: state is field 3.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}
