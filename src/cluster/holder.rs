//! Who holds a lock, and whether they still live.

use std::os::unix::fs::MetadataExt;

use super::Holder;
use crate::fact::sha256;
use crate::generation::now;

impl Holder {
    /// Returns this process as a holder.
    pub fn current() -> Self {
        let pid = std::process::id();
        Holder {
            who: format!(
                "{}@{}",
                first_env(&["SUDO_USER", "USER", "LOGNAME"]).unwrap_or_else(uid),
                read("/proc/sys/kernel/hostname")
            ),
            machine: machine(),
            pid,
            start: start_of(pid).unwrap_or_default(),
            since: now(),
        }
    }

    /// Whether this is the same process, whenever it took the lock.
    pub fn is_same(&self, other: &Holder) -> bool {
        (&self.machine, self.pid, self.start) == (&other.machine, other.pid, other.start)
    }

    /// Whether the holder is a process of this machine that runs.
    pub fn runs_here(&self) -> bool {
        self.machine == machine() && start_of(self.pid) == Some(self.start)
    }

    /// Whether the holder was a process of this machine and has ended. `false` when it cannot be
    /// known: a holder elsewhere counts as alive until its lock expires.
    pub fn is_gone(&self) -> bool {
        self.machine == machine() && start_of(self.pid) != Some(self.start)
    }
}

/// Names this machine and its present boot without telling either.
fn machine() -> String {
    sha256(format!(
        "harden {} {}",
        read("/etc/machine-id"),
        read("/proc/sys/kernel/random/boot_id")
    ))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// For those whose environment says nothing, as under cron and systemd.
fn uid() -> String {
    let own = std::fs::metadata("/proc/self").map(|m| m.uid());
    own.map_or_else(|_| "unknown".into(), |uid| format!("uid-{uid}"))
}

fn first_env(names: &[&str]) -> Option<String> {
    names
        .iter()
        .filter_map(|n| std::env::var(n).ok())
        .find(|v| !v.is_empty())
}

/// Start time in clock ticks since boot: field 22 of proc_pid_stat(5), counted behind the last `)`,
/// because the program's name in field 2 may hold anything. A zombie (state, field 3) has ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_successor_is_not_mistaken_for_it() {
        let me = Holder::current();
        assert!(me.start > 0);
        assert!(!me.is_gone());
        let reused_pid = Holder {
            start: me.start + 1,
            ..me.clone()
        };
        assert!(reused_pid.is_gone());
        assert!(!me.is_same(&reused_pid));
    }

    #[test]
    fn a_holder_elsewhere_is_never_called_gone() {
        let elsewhere = Holder {
            machine: "other".into(),
            pid: 4_000_000,
            ..Holder::current()
        };
        assert!(!elsewhere.is_gone());
    }
}
