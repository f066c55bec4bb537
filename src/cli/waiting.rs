//! Says who has not answered yet, while several are waited for.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::eta::how_far;

/// After how long it is said, again and again.
const SOON: Duration = Duration::from_secs(10);

/// How many are named.
const NAMED: usize = 5;

/// Does something that tells by name who has answered; whoever has not is named on stderr meanwhile.
/// When all have, it is the API that is waited for; `tried` says how many objects it was asked about, and
/// of how many.
pub(super) fn naming<T>(
    names: BTreeSet<String>,
    bar: &ProgressBar,
    is_quiet: bool,
    tried: &(dyn Fn() -> (usize, usize) + Sync),
    work: impl FnOnce(&(dyn Fn(&str) + Sync)) -> T,
) -> T {
    let begun = Instant::now();
    let open = Mutex::new(names);
    let done = |name: &str| {
        if let Ok(mut open) = open.lock() {
            open.remove(name);
        }
        bar.inc(1);
    };
    std::thread::scope(|scope| {
        let (over, ended) = channel::<()>();
        scope.spawn(|| {
            let ended = ended;
            let mut last = None;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(SOON) {
                let Ok(open) = open.lock() else { return };
                // At a rate of nothing, the rest would take longer and longer.
                let now = tried();
                let stands = last.replace(now.0) == Some(now.0);
                let text = waits(&open, now, stands, begun.elapsed());
                if !is_quiet {
                    bar.suspend(|| {
                        let _ = writeln!(anstream::stderr(), "{text}");
                    });
                }
            }
        });
        let result = work(&done);
        drop(over);
        result
    })
}

/// `stands` says whether no object was tried since the last time.
fn waits(
    open: &BTreeSet<String>,
    tried: (usize, usize),
    stands: bool,
    elapsed: Duration,
) -> String {
    let mut named: Vec<&str> = open.iter().map(String::as_str).take(NAMED).collect();
    let more = format!("{} more", open.len().saturating_sub(NAMED));
    if open.len() > NAMED {
        named.push(&more);
    }
    let api = match tried {
        (_, 0) => "the API".to_owned(),
        (done, of) if stands => format!(
            "the API (objects: {done} of {of}, none in the last {} s)",
            SOON.as_secs()
        ),
        (done, of) => format!("the API (objects: {})", how_far(done, of, elapsed)),
    };
    if named.is_empty() {
        named.push(&api);
    }
    format!(
        "still waiting for {} ({} s)",
        named.join(", "),
        elapsed.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_not_answered_are_named() {
        let said = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            waits(&names, (0, 0), true, Duration::from_secs(20))
        };
        assert_eq!(said(&["w1", "cp2"]), "still waiting for cp2, w1 (20 s)");
        assert_eq!(
            said(&["a", "b", "c", "d", "e", "f", "g"]),
            "still waiting for a, b, c, d, e, 2 more (20 s)"
        );
        assert_eq!(said(&[]), "still waiting for the API (20 s)");
        let none = BTreeSet::new();
        assert_eq!(
            waits(&none, (500, 1000), false, Duration::from_secs(20)),
            "still waiting for the API (objects: 500 of 1000, about 20 s left) (20 s)"
        );
        assert_eq!(
            waits(&none, (500, 1000), true, Duration::from_secs(60)),
            "still waiting for the API (objects: 500 of 1000, none in the last 10 s) (60 s)"
        );
    }

    #[test]
    fn it_ends_with_the_work_and_gives_its_result() {
        let names = BTreeSet::from(["a".to_owned()]);
        let result = naming(names, &ProgressBar::hidden(), true, &|| (0, 0), |done| {
            done("a");
            7
        });
        assert_eq!(result, 7);
    }
}
