//! Whether one API server can read every object of a resource out of etcd.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use kube::Client as KubeClient;
use kube::api::{Api as KubeApi, DynamicObject, PartialObjectMeta};

use super::ApiError;
use super::client::{Client, explain};
use super::rewrite::{MAX_NAMES, PAUSE, Pace, TRIES};
use super::served::Served;
use crate::fact::probe::clean_text;

/// How often an object is asked for that the server says it cannot read: an etcd that does not answer in time
/// is told in the same way.
const FAILURES: u32 = 3;

/// What an API server could read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Objects that it was asked for.
    pub asked: u64,
    /// How many of them it cannot read.
    pub failures: u64,
    /// The first of these by name, with its words.
    pub failed: BTreeMap<String, String>,
}

impl ReadBack {
    fn failed(&mut self, name: String, why: &str) {
        self.failures += 1;
        if self.failed.len() < MAX_NAMES {
            self.failed.insert(name, clean_text(why));
        }
    }
}

impl Client {
    /// Has the API server behind a local address (a tunnel) read every object of a resource, each by itself: a
    /// list comes from the server's memory, where objects stay readable whose key the server has lost, and a
    /// `get` without a resource version from etcd (kubernetes v1.35
    /// staging/src/k8s.io/apiserver/pkg/storage/cacher/delegator.go: `CacheDelegator.Get`). The answers have
    /// names and no content in them. `tell` hears how far it has come, and says whether to
    /// go on.
    ///
    /// # Errors
    /// When the server does not answer, or this user may not read.
    pub fn read_back(
        &self,
        through: SocketAddr,
        served: &Served,
        pace: Pace,
        tell: &mut dyn FnMut(&ReadBack) -> bool,
    ) -> Result<ReadBack, ApiError> {
        let what = format!("read {}", served.resource.plural);
        let config = self.behind(through)?;
        let kube = self.once(async { KubeClient::try_from(config) });
        let kube = kube.map_err(|error| explain(&what, error))?;
        self.each_read(&kube, served, pace, tell)
    }

    fn each_read(
        &self,
        kube: &KubeClient,
        served: &Served,
        pace: Pace,
        tell: &mut dyn FnMut(&ReadBack) -> bool,
    ) -> Result<ReadBack, ApiError> {
        let mut so_far = ReadBack::default();
        let listed = self.each_page(kube, served, &mut |objects| {
            for batch in objects.chunks(pace.parallel.max(1)) {
                self.read_batch(kube, served, batch, pace, &mut so_far)?;
                if !tell(&so_far) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        match listed {
            Ok(()) => Ok(so_far),
            // What it has not read since it started it cannot list either.
            Err(ApiError::Refused { why, .. }) => {
                so_far.failed("the list of all".into(), &why);
                Ok(so_far)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads some objects at the same time, in no less time than the pace allows.
    fn read_batch(
        &self,
        kube: &KubeClient,
        served: &Served,
        objects: &[PartialObjectMeta<DynamicObject>],
        pace: Pace,
        so_far: &mut ReadBack,
    ) -> Result<(), ApiError> {
        let tasks = objects.iter().filter_map(|object| {
            let name = object.metadata.name.clone()?;
            let kube = kube.clone();
            let (api, shown) = match &object.metadata.namespace {
                Some(space) => (
                    KubeApi::namespaced_with(kube, space, &served.resource),
                    format!("{space}/{name}"),
                ),
                None => (KubeApi::all_with(kube, &served.resource), name.clone()),
            };
            Some(async move { (shown, read(api, &name).await) })
        });
        let outcomes = self.paced(objects.len(), pace, tasks);
        let what = format!("read {}", served.resource.plural);
        for (name, outcome) in outcomes.map_err(|error| explain(&what, error))? {
            so_far.asked += 1;
            if let Some(why) = outcome.map_err(|error| explain(&what, error))? {
                so_far.failed(name, &why);
            }
        }
        Ok(())
    }
}

/// Reads one object; the server's words where it cannot.
async fn read(api: KubeApi<DynamicObject>, name: &str) -> Result<Option<String>, kube::Error> {
    let mut pause = PAUSE;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let error = match api.get_metadata(name).await {
            Ok(_) => return Ok(None),
            Err(error) => error,
        };
        match &error {
            // It was deleted meanwhile.
            kube::Error::Api(status) if status.code == 404 => return Ok(None),
            kube::Error::Api(status) if status.code == 500 && attempt >= FAILURES => {
                return Ok(Some(status.message.clone()));
            }
            kube::Error::Api(status) if matches!(status.code, 429 | 500 | 502 | 503 | 504) => {}
            kube::Error::Service(_) | kube::Error::HyperError(_) => {}
            _ => return Err(error),
        }
        if attempt >= TRIES {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;
    use std::time::Duration;

    use kube::api::ApiResource;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::fake::{Answer, Asked, serve};

    const PACE: Pace = Pace {
        rate: 2000,
        parallel: 2,
    };

    fn secrets() -> Served {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: "Secret".into(),
            plural: "secrets".into(),
        };
        Served { resource }
    }

    fn meta(name: &str) -> Value {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "namespace": "d"}})
    }

    fn page(names: &[&str], next: &str) -> Answer {
        let items: Vec<Value> = names.iter().map(|name| meta(name)).collect();
        Answer::ok(
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"continue": next}, "items": items}),
        )
    }

    /// Reads everything of a server that answers so; the second argument of `answer` is how often a line has
    /// come before.
    fn read_back(
        answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> (Result<ReadBack, ApiError>, Vec<Asked>) {
        let times: Mutex<BTreeMap<String, usize>> = Mutex::default();
        let (client, asked) = serve(Duration::ZERO, move |asked| {
            let mut times = times.lock().unwrap();
            let count = times.entry(asked.line.clone()).or_insert(0);
            *count += 1;
            answer(&asked.line, *count - 1)
        });
        let all = client.each_read(client.kube(), &secrets(), PACE, &mut |_| true);
        let asked = asked.lock().unwrap().clone();
        (all, asked)
    }

    #[test]
    fn every_object_is_read_by_itself_and_what_cannot_be_is_named() {
        let broken = "Internal error occurred: unable to transform key \u{1b}[31m";
        let (read, asked) = read_back(move |line, before| {
            match line.split([' ', '?']).nth(1).unwrap().rsplit('/').next() {
                Some("secrets") if line.contains("continue=more") => page(&["slow", "lost"], ""),
                Some("secrets") => page(&["a", "gone", "busy"], "more"),
                Some("gone") => Answer::refused(404, "gone", json!({})),
                Some("busy") if before == 0 => Answer::refused(429, "busy", json!({})),
                // etcd did not answer in time, once.
                Some("slow") if before == 0 => Answer::refused(500, "timeout", json!({})),
                Some("lost") => Answer::refused(500, broken, json!({})),
                _ => Answer::ok(meta("x")),
            }
        });
        let read = read.unwrap();
        assert_eq!((read.asked, read.failures), (5, 1));
        let why = &read.failed["d/lost"];
        assert!(
            why.contains("unable to transform") && !why.contains('\u{1b}'),
            "{why:?}"
        );
        for asked in asked {
            let line = &asked.line;
            // From memory it would be read that way.
            assert!(!line.contains("resourceVersion"), "{line}");
            assert!(asked.text.contains("as=PartialObjectMetadata"), "{line}");
        }
    }

    #[test]
    fn a_server_that_cannot_even_list_cannot_read() {
        let (read, _) = read_back(|_, _| Answer::refused(500, "unable to transform", json!({})));
        let read = read.unwrap();
        assert_eq!((read.asked, read.failures), (0, 1));
        assert!(read.failed["the list of all"].contains("unable to transform"));
    }

    #[test]
    fn who_may_not_read_has_proved_nothing() {
        let (read, _) = read_back(|line, _| match line.contains("secrets?") {
            true => page(&["a"], ""),
            false => Answer::refused(403, "no rights", json!({"reason": "Forbidden"})),
        });
        assert!(matches!(read, Err(ApiError::Forbidden { .. })), "{read:?}");
    }
}
