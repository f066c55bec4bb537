//! Lists that are begun before it is known which of their objects matter, so that the server is at work
//! while a profile is evaluated.
//!
//! What is begun is a guess. It says nothing about the result: a list that nobody wants is dropped, and one that
//! ends in any other way than well is asked for again from its first page.

use std::collections::HashMap;
use std::sync::Arc;

use kube::api::{ListParams, Request};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pages::{self, PAGE};

/// How much of what was begun is kept until somebody wants it, in KiB: beyond that the server waits.
const ROOM: u32 = 16 << 10;

/// Lists under way, by the path that they are asked for at.
#[derive(Debug, Default)]
pub(super) struct Begun(HashMap<String, Pages>);

/// The pages of one list, in order. They end without a last one where anything went wrong.
#[derive(Debug)]
pub(super) struct Pages(UnboundedReceiver<Page>);

/// A page as it came.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) is_last: bool,
    _room: OwnedSemaphorePermit,
}

impl Begun {
    /// Begins these lists.
    pub(super) fn new(runtime: &Runtime, kube: &kube::Client, paths: Vec<String>) -> Self {
        let room = Arc::new(Semaphore::new(ROOM as usize));
        let lists = paths.into_iter().map(|path| {
            let (to, pages) = unbounded_channel();
            let list = read(kube.clone(), Request::new(path.clone()), room.clone(), to);
            runtime.spawn(async move {
                if let Err(error) = list.await {
                    tracing::debug!("API: a list that was begun is left: {error}");
                }
            });
            (path, Pages(pages))
        });
        Begun(lists.collect())
    }

    /// Takes a list out, if it was begun.
    pub(super) fn take(&mut self, path: &str) -> Option<Pages> {
        self.0.remove(path)
    }
}

impl Pages {
    /// Waits for the next page.
    pub(super) fn next(&mut self) -> Option<Page> {
        self.0.blocking_recv()
    }
}

/// Asks for page after page, for as long as somebody may want them.
async fn read(
    kube: kube::Client,
    request: Request,
    room: Arc<Semaphore>,
    to: UnboundedSender<Page>,
) -> Result<(), kube::Error> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let text = kube.request_text(request).await?;
        let next = pages::next_of(&text).map_err(kube::Error::SerdeError)?;
        let size = u32::try_from(text.len() >> 10).unwrap_or(ROOM) + 1;
        let Ok(taken) = room.clone().acquire_many_owned(size.min(ROOM)).await else {
            return Ok(());
        };
        let page = Page {
            text,
            is_last: next.is_none(),
            _room: taken,
        };
        if to.send(page).is_err() || next.is_none() {
            return Ok(());
        }
        params.continue_token = next;
    }
}
