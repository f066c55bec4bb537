//! Long lists, a page at a time.

use std::fmt::Debug;

use kube::api::{Api as KubeApi, ListParams, Request};
use kube::core::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ApiError;
use super::client::{Client, explain};

/// Objects on a page.
const PAGE: u32 = 500;

/// Pages of one list: what holds more objects than this is no list to judge a cluster by.
const MAX_PAGES: usize = 400;

/// How often a list begins anew because its later pages have expired.
const RESTARTS: usize = 3;

/// Calls `take` with every object of a list.
pub(super) fn each<K>(
    client: &Client,
    what: &str,
    api: &KubeApi<K>,
    params: &ListParams,
    mut take: impl FnMut(K),
) -> Result<(), ApiError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = params.clone().limit(PAGE);
    for _ in 0..MAX_PAGES {
        let page = client.call(what, || async { api.list(&params).await })?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params.continue_token = Some(token),
            _ => return Ok(()),
        }
    }
    Err(ApiError::Refused {
        what: what.to_owned(),
        why: format!("there are more than {} objects", MAX_PAGES * PAGE as usize),
    })
}

/// Why a list was not read to its end.
pub(super) enum Ended {
    /// The server refuses it.
    Refused(Box<Status>),
    /// It has more pages than anybody should read.
    TooLong,
    /// No server answers, or not with a list.
    Failed(ApiError),
}

/// A page, of whose objects nothing is known.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// Calls `take` with every object of a list, as it came. After a few minutes the server forgets the state
/// that the pages are of (410); then the list begins anew, and `take` may be given an object again.
pub(super) fn raw(
    client: &Client,
    what: &str,
    request: &Request,
    take: &mut dyn FnMut(Value),
) -> Result<(), Ended> {
    let mut params = ListParams::default().limit(PAGE);
    let mut restarts = 0;
    for _ in 0..MAX_PAGES {
        let begun = std::time::Instant::now();
        let answer = client.try_call(|| async {
            let request = request.list(&params).map_err(kube::Error::BuildRequest)?;
            client.kube().request::<Page>(request).await
        });
        tracing::debug!("API: {what} in {} ms", begun.elapsed().as_millis());
        let page = match answer {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 410 && restarts < RESTARTS => {
                restarts += 1;
                params.continue_token = None;
                continue;
            }
            Err(kube::Error::Api(status)) => return Err(Ended::Refused(status)),
            Err(error) => return Err(Ended::Failed(explain(what, error))),
        };
        page.items.into_iter().flatten().for_each(&mut *take);
        match page.metadata.next {
            Some(token) if !token.is_empty() => params.continue_token = Some(token),
            _ => return Ok(()),
        }
    }
    Err(Ended::TooLong)
}
