//! How far something is, and how long the rest will take.

use std::time::Duration;

/// Says how many are done and, once there is something to go by, how long the rest takes at this rate.
pub(super) fn how_far(done: usize, of: usize, elapsed: Duration) -> String {
    let left = of.saturating_sub(done);
    if done == 0 || left == 0 || elapsed < Duration::from_secs(2) {
        return format!("{done} of {of}");
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * left as f64;
    let left = match seconds.ceil() {
        few if few < 90.0 => format!("{few} s"),
        many => format!("{} min", (many / 60.0).ceil()),
    };
    format!("{done} of {of}, about {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_did() {
        let said = |done, seconds| how_far(done, 1000, Duration::from_secs(seconds));
        assert_eq!(said(0, 10), "0 of 1000");
        assert_eq!(said(5, 1), "5 of 1000");
        assert_eq!(said(250, 10), "250 of 1000, about 30 s left");
        assert_eq!(said(100, 60), "100 of 1000, about 9 min left");
        assert_eq!(said(1000, 60), "1000 of 1000");
    }
}
