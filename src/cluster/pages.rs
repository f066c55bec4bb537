//! Long lists, a page at a time.

use std::fmt::{self, Debug};

use kube::api::{Api as KubeApi, ListParams, Request};
use kube::core::Status;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::ApiError;
use super::begun::Pages;
use super::client::{Client, explain};

/// Objects on a page.
pub(super) const PAGE: u32 = 500;

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

/// What a page says of itself.
#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// Reads what a page says of itself, and nothing behind that: the server writes it before the objects.
struct Head<'h>(&'h mut Option<PageMetadata>);

impl<'de> DeserializeSeed<'de> for Head<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Head<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "metadata" {
                *self.0 = Some(map.next_value()?);
                return Err(A::Error::custom("nothing more is read"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::missing_field("metadata"))
    }
}

/// Returns the token for what follows a page; `None` for the last one.
pub(super) fn next_of(text: &str) -> Result<Option<String>, serde_json::Error> {
    let mut metadata = None;
    let mut from = serde_json::Deserializer::from_str(text);
    let ended = Head(&mut metadata).deserialize(&mut from);
    match (metadata, ended) {
        (Some(metadata), _) => Ok(metadata.next.filter(|token| !token.is_empty())),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Ok(None),
    }
}

/// Reads a page, of whose objects nothing is known. Each is given away before the next is read, so that
/// there are never hundreds at once.
struct Page<'t>(&'t mut dyn FnMut(Value));

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "items" => map.next_value_seed(Items(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The objects on a page; null is none.
struct Items<'t>(&'t mut dyn FnMut(Value));

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

/// Calls `take` with every object on a page.
fn read(text: &str, take: &mut dyn FnMut(Value)) -> Result<(), serde_json::Error> {
    let mut from = serde_json::Deserializer::from_str(text);
    Page(take).deserialize(&mut from)?;
    from.end()
}

/// Calls `take` with every object of a list that was begun already. `false` when it did not come to a good
/// end: then nobody has said what is wrong, and `take` may have been given some of its objects.
pub(super) fn begun(what: &str, mut pages: Pages, take: &mut dyn FnMut(Value)) -> bool {
    for _ in 0..MAX_PAGES {
        let begun = std::time::Instant::now();
        let Some(page) = pages.next() else {
            return false;
        };
        let waited = begun.elapsed().as_millis();
        tracing::debug!("API: {what}, begun before: waited {waited} ms");
        if read(&page.text, take).is_err() {
            return false;
        }
        if page.is_last {
            return true;
        }
    }
    false
}

/// Calls `take` with every object of a list, as it came. After a few minutes the server forgets the state
/// that the pages are of (410); then the list begins anew, and `take` may be given an object again.
pub(super) fn raw(
    client: &Client,
    what: &str,
    request: &Request,
    take: &mut dyn FnMut(Value),
) -> Result<(), Ended> {
    let ask = |params: &ListParams| {
        let begun = std::time::Instant::now();
        let answer = client.try_call(|| async {
            let request = request.list(params).map_err(kube::Error::BuildRequest)?;
            client.kube().request_text(request).await
        });
        tracing::debug!("API: {what} in {} ms", begun.elapsed().as_millis());
        answer
    };
    let failed =
        |error: serde_json::Error| Ended::Failed(explain(what, kube::Error::SerdeError(error)));
    let mut params = ListParams::default().limit(PAGE);
    let mut restarts = 0;
    let mut answer = ask(&params);
    for left in (0..MAX_PAGES).rev() {
        let text = match answer {
            Ok(text) => text,
            Err(kube::Error::Api(status))
                if status.code == 410 && restarts < RESTARTS && left > 0 =>
            {
                restarts += 1;
                params.continue_token = None;
                answer = ask(&params);
                continue;
            }
            Err(kube::Error::Api(status)) => return Err(Ended::Refused(status)),
            Err(error) => return Err(Ended::Failed(explain(what, error))),
        };
        params.continue_token = next_of(&text).map_err(failed)?;
        if params.continue_token.is_none() {
            return read(&text, take).map_err(failed);
        }
        if left == 0 {
            break;
        }
        // The server makes the next page while this one is read.
        let (is_read, next) = std::thread::scope(|scope| {
            let next = scope.spawn(|| ask(&params));
            (read(&text, take), next.join())
        });
        is_read.map_err(failed)?;
        answer = next.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    Err(Ended::TooLong)
}
