//! Several calls at a time, and how far they are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many calls are under way at the same time. The API server's own limit for one user's requests is
/// shared among its flows; eight are few enough to leave the others theirs.
const WORKERS: usize = 8;

/// How many of the objects that the server is asked about are done.
#[derive(Debug, Default)]
pub struct Count {
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Count {
    /// Returns how many are done, and of how many; both 0 when nothing is under way.
    pub fn get(&self) -> (usize, usize) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    pub(super) fn begin(&self, total: usize) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn one_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.begin(0);
    }
}

/// Does the same with every item, several at a time, and returns the results in the items' order.
pub fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let workers = WORKERS.min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next());
                    let Some((at, item)) = next else { return };
                    let result = work(item);
                    if let Ok(mut results) = results.lock() {
                        results.push((at, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_never_more_than_a_few_at_a_time() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = each((0..100).collect(), |number: usize| {
            let running = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(running, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(1));
            now.fetch_sub(1, Ordering::SeqCst);
            number * 2
        });
        assert_eq!(results, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!((2..=WORKERS).contains(&most.load(Ordering::SeqCst)));
        assert!(each(Vec::<u8>::new(), |n| n).is_empty());
    }
}
