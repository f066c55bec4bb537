//! Has the API server write objects anew, as it writes them now, without seeing what is in them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use kube::Client as KubeClient;
use kube::api::{Api as KubeApi, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Client, explain};
use super::served::Served;
use super::{ApiError, FIELD_MANAGER};
use crate::fact::probe::clean_text;

/// Objects on a page of the list.
const PAGE: u32 = 500;

/// How often a list is begun again whose rest has expired: the API server keeps it for five minutes.
const LISTS: usize = 20;

/// The names of objects that could not be written, which are kept.
pub(super) const MAX_NAMES: usize = 20;

/// How often an object is tried while its server does not take it, and the pause before the first time.
pub(super) const TRIES: u32 = 7;
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// How fast to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Objects a second, at most.
    pub rate: u32,
    /// Objects at the same time.
    pub parallel: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            rate: 50,
            parallel: 8,
        }
    }
}

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Objects that the API server was given, those that had been written meanwhile among them.
    pub done: u64,
    /// Objects that had changed, or were gone, when their turn came: somebody else has written them.
    pub passed_over: u64,
    /// Objects that the API server refused to write, the first of them by name with its words.
    pub refused: BTreeMap<String, String>,
    /// How many they are.
    pub refusals: u64,
}

/// What is done with the objects of a page.
type EachPage<'e> =
    dyn FnMut(&[PartialObjectMeta<DynamicObject>]) -> Result<ControlFlow<()>, ApiError> + 'e;

/// What came of one object.
enum Outcome {
    Written,
    PassedOver,
    Refused(String, String),
}

impl Client {
    /// Has every object of a resource written anew, by a merge patch of its identity alone: nothing
    /// about it changes, and the server writes it only where it is stored in another form than it would
    /// be now (kubernetes v1.35 staging/src/k8s.io/apiserver/pkg/storage/etcd3/store.go:
    /// `GuaranteedUpdate`, `origState.stale`). It is no server-side apply: that would take from an object every
    /// field that this program has applied before, and give one without owners an owner. Neither the list nor the answers have the objects'
    /// content in them. It can be begun again at any time.
    ///
    /// `tell` hears how far it has come, and says whether to go on.
    ///
    /// # Errors
    /// When the list cannot be read to its end. What was written stays.
    pub fn rewrite(
        &self,
        served: &Served,
        pace: Pace,
        tell: &mut dyn FnMut(&Rewritten) -> bool,
    ) -> Result<Rewritten, ApiError> {
        let mut so_far = Rewritten::default();
        self.each_page(self.kube(), served, &mut |objects| {
            for batch in objects.chunks(pace.parallel.max(1)) {
                self.batch(served, batch, pace, &mut so_far)?;
                if !tell(&so_far) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(so_far)
    }

    /// For the other files of this folder: lists the metadata of every object of a resource, page by page. Where
    /// the rest of a list has expired it begins again, and what was there comes once more. `each` says whether to
    /// go on.
    pub(super) fn each_page(
        &self,
        kube: &KubeClient,
        served: &Served,
        each: &mut EachPage<'_>,
    ) -> Result<(), ApiError> {
        let what = format!("list the metadata of {}", served.resource.plural);
        let all: KubeApi<DynamicObject> = KubeApi::all_with(kube.clone(), &served.resource);
        let mut params = ListParams::default().limit(PAGE);
        let mut lists = 1;
        loop {
            let page = match self.try_call(|| async { all.list_metadata(&params).await }) {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 410 && lists < LISTS => {
                    lists += 1;
                    params.continue_token = None;
                    continue;
                }
                Err(error) => return Err(explain(&what, error)),
            };
            if each(&page.items)?.is_break() {
                return Ok(());
            }
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => params.continue_token = Some(token),
                _ => return Ok(()),
            }
        }
    }

    /// Writes some objects at the same time, in no less time than the pace allows.
    fn batch(
        &self,
        served: &Served,
        objects: &[PartialObjectMeta<DynamicObject>],
        pace: Pace,
        so_far: &mut Rewritten,
    ) -> Result<(), ApiError> {
        let tasks = objects.iter().filter_map(|object| {
            let (api, name, identity) = self.identity(served, object)?;
            Some(write(api, name, identity))
        });
        let outcomes = self.paced(objects.len(), pace, tasks);
        let what = format!("write {} anew", served.resource.plural);
        for outcome in outcomes.map_err(|error| explain(&what, error))? {
            so_far.done += 1;
            match outcome? {
                Outcome::Written => {}
                Outcome::PassedOver => so_far.passed_over += 1,
                Outcome::Refused(name, why) => {
                    so_far.refusals += 1;
                    if so_far.refused.len() < MAX_NAMES {
                        so_far.refused.insert(name, why);
                    }
                }
            }
        }
        Ok(())
    }

    /// For the other files of this folder: does what is to be done with some objects at the same time, in no less
    /// time than the pace allows for so many.
    pub(super) fn paced<T: Send + 'static>(
        &self,
        objects: usize,
        pace: Pace,
        tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Result<Vec<T>, kube::Error> {
        let objects = u32::try_from(objects).unwrap_or(u32::MAX);
        let least = Duration::from_secs(1) * objects / pace.rate.max(1);
        self.once(async {
            let tasks: JoinSet<T> = tasks.collect();
            let slept = tokio::time::sleep(least);
            let outcomes = tasks.join_all().await;
            slept.await;
            Ok(outcomes)
        })
    }

    /// Where to write an object, its name for a reader, and the patch: nothing but which object is meant,
    /// and in which version, so that one that somebody else writes meanwhile is not touched.
    fn identity(
        &self,
        served: &Served,
        object: &PartialObjectMeta<DynamicObject>,
    ) -> Option<(KubeApi<DynamicObject>, String, Value)> {
        let resource = &served.resource;
        let meta = &object.metadata;
        let name = meta.name.clone()?;
        let mut identity = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "uid": meta.uid.clone()?,
                "resourceVersion": meta.resource_version.clone()?,
            },
        });
        let kube = self.kube().clone();
        let api = match &meta.namespace {
            Some(namespace) => {
                identity["metadata"]["namespace"] = namespace.as_str().into();
                KubeApi::namespaced_with(kube, namespace, resource)
            }
            None => KubeApi::all_with(kube, resource),
        };
        Some((api, name, identity))
    }
}

/// Writes one object.
async fn write(
    api: KubeApi<DynamicObject>,
    name: String,
    identity: Value,
) -> Result<Outcome, ApiError> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&identity);
    let mut pause = PAUSE;
    for attempt in 1.. {
        let error = match api.patch_metadata(&name, &params, &patch).await {
            Ok(_) => return Ok(Outcome::Written),
            Err(error) => error,
        };
        match &error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
                return Ok(Outcome::PassedOver);
            }
            kube::Error::Api(status) if matches!(status.code, 429 | 502 | 503 | 504) => {}
            kube::Error::Api(status) if !matches!(status.code, 401 | 403) => {
                let namespace = identity.pointer("/metadata/namespace");
                let namespace = namespace.and_then(Value::as_str).unwrap_or_default();
                let shown = format!("{namespace}/{name}");
                let shown = shown.trim_start_matches('/').to_owned();
                return Ok(Outcome::Refused(shown, clean_text(&status.message)));
            }
            // The server restarts, or the connection is lost: nothing is known of the object, and writing it
            // once more is no harm.
            kube::Error::Service(_) | kube::Error::HyperError(_) => {}
            _ => return Err(explain("write objects anew", error)),
        }
        if attempt >= TRIES {
            return Err(explain("write objects anew", error));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(Outcome::PassedOver)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};

    use kube::api::ApiResource;

    use super::*;
    use crate::cluster::fake::{Answer, Asked, serve};

    /// An API server that answers each request by `answer`, which gets the request's line and how often
    /// it has come before.
    fn api(answer: fn(&str, usize) -> (u16, Value)) -> (Client, Arc<Mutex<Vec<Asked>>>) {
        let times: Mutex<BTreeMap<String, usize>> = Mutex::default();
        serve(Duration::ZERO, move |asked| {
            let mut times = times.lock().unwrap();
            let count = times.entry(asked.line.clone()).or_insert(0);
            let (status, body) = answer(&asked.line, *count);
            *count += 1;
            Answer {
                status,
                headers: Vec::new(),
                body: body.to_string(),
            }
        })
    }

    fn secrets() -> Served {
        Served {
            resource: ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "Secret".into(),
                plural: "secrets".into(),
            },
        }
    }

    fn meta(name: &str) -> Value {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata":
            {"name": name, "namespace": "d", "uid": format!("uid-{name}"), "resourceVersion": "7"}})
    }

    fn list(names: &[&str], next: &str) -> (u16, Value) {
        let items: Vec<Value> = names.iter().map(|name| meta(name)).collect();
        (
            200,
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {"continue": next}, "items": items}),
        )
    }

    fn status(code: u16) -> (u16, Value) {
        (
            code,
            json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
                "code": code, "reason": "X", "message": format!("code \u{1b}[31m{code}")}),
        )
    }

    #[test]
    fn every_object_is_written_once_whatever_the_server_says_on_the_way() {
        let (client, asked) = api(|line, before| match line.split(' ').nth(1) {
            Some(path) if path.starts_with("/api/v1/secrets?") => {
                match (path.contains("continue=more"), before) {
                    (false, _) => list(&["a", "gone", "changed"], "more"),
                    // The rest of the list has expired once.
                    (true, 0) => status(410),
                    (true, _) => list(&["busy", "refused"], ""),
                }
            }
            Some(path) if path.contains("/gone?") => status(404),
            Some(path) if path.contains("/changed?") => status(409),
            Some(path) if path.contains("/busy?") && before == 0 => status(429),
            Some(path) if path.contains("/refused?") => status(422),
            _ => (200, meta("a")),
        });
        let mut told = Vec::new();
        let pace = Pace {
            rate: 2000,
            parallel: 2,
        };
        let done = client
            .rewrite(&secrets(), pace, &mut |so_far| {
                told.push(so_far.done);
                true
            })
            .unwrap();
        assert_eq!((done.done, done.passed_over, done.refusals), (8, 4, 1));
        assert_eq!(done.refused["d/refused"], "code 422");
        assert_eq!(told, [2, 3, 5, 6, 8]);
        let asked = asked.lock().unwrap();
        let asked: Vec<&String> = asked.iter().map(|asked| &asked.text).collect();
        let patches: Vec<&&String> = asked
            .iter()
            .filter(|text| text.starts_with("PATCH"))
            .collect();
        // Three twice, because the list was begun again; one twice, because it was busy.
        assert_eq!(patches.len(), 9);
        for patch in patches {
            let (head, body) = patch.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("fieldManager=harden"), "{head}");
            assert!(head.contains("as=PartialObjectMetadata;"), "{head}");
            // An apply would take away what harden has applied before.
            let kind = "content-type: application/merge-patch+json";
            assert!(head.to_lowercase().contains(kind), "{head}");
            let body: Value = serde_json::from_str(body).unwrap();
            let name = body["metadata"]["name"].as_str().unwrap();
            let wanted = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name,
                "namespace": "d", "uid": format!("uid-{name}"), "resourceVersion": "7"}});
            assert_eq!(body, wanted);
        }
        for get in asked.iter().filter(|text| text.starts_with("GET")) {
            assert!(get.contains("as=PartialObjectMetadataList;"), "{get}");
        }
    }

    #[test]
    fn it_ends_between_two_objects_when_it_is_told_to() {
        let (client, asked) = api(|line, _| match line.starts_with("GET") {
            true => list(&["a", "b", "c"], "more"),
            false => (200, meta("a")),
        });
        let pace = Pace {
            rate: 2000,
            parallel: 1,
        };
        let done = client
            .rewrite(&secrets(), pace, &mut |so_far| so_far.done < 2)
            .unwrap();
        assert_eq!((done.done, asked.lock().unwrap().len()), (2, 3));
    }

    #[test]
    fn who_may_not_write_stops_at_the_first_object() {
        let (client, asked) = api(|line, _| match line.starts_with("GET") {
            true => list(&["a", "b"], ""),
            false => status(403),
        });
        let pace = Pace {
            rate: 2000,
            parallel: 1,
        };
        let error = client.rewrite(&secrets(), pace, &mut |_| true).unwrap_err();
        assert!(matches!(error, ApiError::Forbidden { .. }), "{error}");
        assert_eq!(asked.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_server_that_takes_nothing_is_not_asked_for_ever() {
        let (client, asked) = api(|line, _| match line.starts_with("GET") {
            true => list(&["a"], ""),
            false => status(503),
        });
        let error = client
            .rewrite(&secrets(), Pace::default(), &mut |_| true)
            .unwrap_err();
        assert!(error.to_string().contains("code 503"), "{error}");
        assert_eq!(asked.lock().unwrap().len(), 1 + TRIES as usize);
    }
}
