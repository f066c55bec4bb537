//! A server that is asked for too much says so, and when to come back. It speaks to all calls of this
//! program: while one is told to wait, the others do not ask either.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderMap, Response, StatusCode, header::RETRY_AFTER};
use tower::util::MapResponseLayer;

/// For how long a call is made again whose server is asked for too much.
pub(super) const TIME: Duration = Duration::from_secs(60);

/// No server is waited for longer than this at once, whatever it says.
const LONGEST: Duration = Duration::from_secs(30);

/// Until when no call is made.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    not_before: Arc<Mutex<Option<Instant>>>,
    answers: Arc<AtomicUsize>,
}

impl Drop for Throttle {
    fn drop(&mut self) {
        tracing::info!("API: {} requests", self.answers.load(Ordering::Relaxed));
    }
}

impl Throttle {
    /// Returns what reads `Retry-After` from every answer: kube's own error has lost it.
    /// Source: apiserver v0.35 `pkg/util/flowcontrol` and `pkg/server/filters/priority-and-fairness.go`,
    /// where the body is plain text.
    pub(super) fn layer<B>(
        &self,
    ) -> MapResponseLayer<impl Fn(Response<B>) -> Response<B> + Clone + Send + use<B>> {
        let (not_before, answers) = (self.not_before.clone(), self.answers.clone());
        MapResponseLayer::new(move |answer: Response<B>| {
            answers.fetch_add(1, Ordering::Relaxed);
            let busy = matches!(
                answer.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            if let (true, Some(pause)) = (busy, retry_after(answer.headers())) {
                hold(&not_before, pause);
            }
            answer
        })
    }

    /// Makes a call, and again while the server is asked for too much.
    pub(super) async fn pass<T, F>(&self, call: impl Fn() -> F) -> Result<T, kube::Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let begun = Instant::now();
        let mut pause = Duration::from_secs(1);
        loop {
            while let Some(until) = self.until()
                && begun.elapsed() < TIME
            {
                tokio::time::sleep_until(until.into()).await;
            }
            match call().await {
                Err(kube::Error::Api(status))
                    if status.code == 429 && begun.elapsed() + pause < TIME =>
                {
                    if self.until().is_none() {
                        hold(&self.not_before, pause);
                        pause = (pause * 2).min(LONGEST);
                    }
                    tracing::info!(
                        "API: the server is asked for too much: {}",
                        status.message.trim()
                    );
                }
                result => return result,
            }
        }
    }

    /// When the next call may be made, if that is in the future.
    fn until(&self) -> Option<Instant> {
        let not_before = self.not_before.lock().ok()?;
        not_before.filter(|until| *until > Instant::now())
    }
}

fn hold(not_before: &Mutex<Option<Instant>>, pause: Duration) {
    if let Ok(mut not_before) = not_before.lock() {
        let until = Instant::now() + pause.min(LONGEST);
        *not_before = Some(not_before.map_or(until, |old| old.max(until)));
    }
}

/// The seconds of the header; the API server writes no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
