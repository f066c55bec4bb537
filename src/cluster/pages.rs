//! Long lists, a page at a time.

use std::fmt::Debug;

use kube::api::{Api as KubeApi, ListParams};
use serde::de::DeserializeOwned;

use super::ApiError;
use super::client::Client;

/// Objects on a page.
const PAGE: u32 = 500;

/// Pages of one list: what holds more objects than this is no list to judge a cluster by.
const MAX_PAGES: usize = 400;

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
