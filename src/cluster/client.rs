//! The real API, by kube.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backon::{ConstantBuilder, Retryable};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
use kube::api::{Api as KubeApi, ListParams, Patch, PatchParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client as KubeClient, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::begun::Begun;
use super::throttle::{self, Throttle};
use super::{
    Api, ApiError, Count, FoundNode, Holder, certificates, endpoint, impact, lease, ledger,
    objects, observation, pod_security, served,
};
use crate::fact::ledger::{Ledger, LedgerEdit};
use crate::fact::probe::clean_text;
use crate::fact::{
    Fact, FieldConflict, ImpactFacts, ImpactQuery, KubeletEndpoint, NodeInfo, ObjectFact,
    ObjectRef, PodLevel, PodsBelow, SigningRequest,
};
use crate::resource::stray::Stray;

/// The label that kubeadm puts on control-plane nodes.
/// Source: kubernetes v1.35 `cmd/kubeadm/app/constants/constants.go`, `LabelNodeRoleControlPlane`.
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// A DNS name that every kubeadm API server's certificate carries, so that a server can be asked
/// through a tunnel and still be checked against the cluster's CA.
/// Source: kubernetes v1.35 `cmd/kubeadm/app/util/pkiutil/pki_helpers.go`, `GetAPIServerAltNames`.
const SERVER_NAME: &str = "kubernetes";

/// The pause before a call is tried again.
const EVERY: Duration = Duration::from_millis(500);

/// How often a call that is forbidden is tried again: an API server that has just started forbids
/// everything to everybody until it has loaded its RBAC objects. Somebody without rights shall not
/// wait for each of their calls, so this is for all calls together, until one of them passes.
const FORBIDDEN_TRIES: usize = 10;

/// How many managers a message names.
const MANAGERS: usize = 20;

/// How often a ConfigMap is looked at again that somebody has changed between look and write.
const CONFLICTS: usize = 4;

/// A connection to the API of one cluster.
pub struct Client {
    runtime: Runtime,
    config: Config,
    kube: KubeClient,
    /// For how long a call that finds no server is tried again.
    patience: Duration,
    /// How many tries are left for calls that are forbidden.
    forbidden_tries: AtomicUsize,
    throttle: Throttle,
    /// The managers from which fields may be taken.
    take_from: Vec<String>,
    managers: Mutex<BTreeSet<String>>,
    count: Count,
    begun: Mutex<Begun>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.config.cluster_url)
    }
}

impl Client {
    /// Reads the kubeconfig and prepares a client; asks nothing yet.
    ///
    /// `patience` is for how long a call is tried again while no server answers, as happens behind
    /// a load balancer while one of its servers restarts.
    ///
    /// # Errors
    /// [`ApiError::Config`] when there is no kubeconfig or no such context.
    pub fn new(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        patience: Duration,
    ) -> Result<Self, ApiError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| config_error(e, "free memory or raise the limit on threads"))?;
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let remedy = "check `kubeconfig` and `context` under [cluster] in harden.toml; \
                      `kubectl config get-contexts` lists the contexts";
        let mut config = runtime
            .block_on(async {
                match kubeconfig {
                    Some(path) => {
                        Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await
                    }
                    None => Config::from_kubeconfig(&options).await,
                }
            })
            .map_err(|e| config_error(e, remedy))?;
        // kube's own retry backs off for up to 1000 s and repeats writes; ours is bounded.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(30));
        config.reset_reader_on_write = true;
        let throttle = Throttle::default();
        let kube = runtime
            .block_on(async {
                let builder = ClientBuilder::try_from(config.clone())?;
                Ok::<_, kube::Error>(builder.with_layer(&throttle.layer()).build())
            })
            .map_err(|e| config_error(e, remedy))?;
        Ok(Client {
            runtime,
            config,
            kube,
            forbidden_tries: AtomicUsize::new(if patience.is_zero() {
                0
            } else {
                FORBIDDEN_TRIES
            }),
            patience,
            throttle,
            take_from: Vec::new(),
            managers: Mutex::default(),
            count: Count::default(),
            begun: Mutex::default(),
        })
    }

    /// Lets fields that these managers own be taken from them, where they are in the way.
    pub fn taking_from(self, take_from: Vec<String>) -> Self {
        Client { take_from, ..self }
    }

    /// Begins the lists by which these objects, and others like them, would be looked at; returns at once. The
    /// next look at wanted objects takes from them what it needs, and whatever else it wants it asks for itself:
    /// so only time depends on what is given here.
    pub fn begin_lists(&self, like: &[Arc<Value>]) {
        let lists = observation::lists(like);
        tracing::debug!("API: {} lists are begun", lists.len());
        let new = Begun::new(&self.runtime, &self.kube, lists);
        if let Ok(mut begun) = self.begun.lock() {
            *begun = new;
        }
    }

    /// For the other files of this folder: the lists that are under way. Whoever looks later shall not see what
    /// was then.
    pub(super) fn take_begun(&self) -> Begun {
        let begun = self.begun.lock();
        begun
            .map(|mut begun| std::mem::take(&mut *begun))
            .unwrap_or_default()
    }

    /// Says how many of the objects that the server is asked about are done.
    pub fn count(&self) -> &Count {
        &self.count
    }

    /// Says which of the managers that may be taken from have no field of any object that was looked at, and
    /// which managers have: no more than a few names of each.
    pub fn take_from_nobody(&self) -> Option<(Vec<String>, Vec<String>)> {
        let managers = self.managers.lock().ok()?;
        let is_none = |name: &&String| !managers.contains(*name);
        let none: Vec<String> = self.take_from.iter().filter(is_none).cloned().collect();
        let others = managers.iter().filter(|name| *name != super::FIELD_MANAGER);
        let others = others.take(MANAGERS).map(|name| clean_text(name));
        (!none.is_empty()).then(|| (none, others.collect()))
    }

    /// For the other files of this folder: notes who has fields of an object.
    pub(super) fn note_managers(&self, live: &Value) {
        if self.take_from.is_empty() {
            return;
        }
        let entries = live.pointer("/metadata/managedFields");
        let entries = entries.and_then(Value::as_array).into_iter().flatten();
        let names = entries.filter_map(|entry| entry["manager"].as_str());
        if let Ok(mut managers) = self.managers.lock() {
            managers.extend(names.map(str::to_owned));
        }
    }

    /// For the other files of this folder: whether a manager's fields may be taken.
    pub(super) fn may_take(&self, manager: &str) -> bool {
        self.take_from.iter().any(|one| one == manager)
    }

    /// Runs a call, again and again while no server answers, until the patience is at its end; and
    /// for a few seconds when it is forbidden, which may be because the server has just started.
    /// Every call made here may be repeated: reads, and writes that name the state they expect.
    pub(super) fn call<T, F>(&self, what: &str, call: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let begun = Instant::now();
        let result = self.try_call(call).map_err(|e| explain(what, e));
        let took = begun.elapsed().as_millis();
        match &result {
            Ok(_) => tracing::debug!("API: {what} in {took} ms"),
            Err(error) => tracing::debug!("API: {what} after {took} ms: {error}"),
        }
        result
    }

    /// Like [`Client::call`], with kube's own error, for callers that read its status.
    pub(super) fn try_call<T, F>(&self, call: impl FnMut() -> F) -> Result<T, kube::Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let call = RefCell::new(call);
        let times = (self.patience.as_millis() / EVERY.as_millis()) as usize;
        let was_forbidden = Cell::new(false);
        let again = |error: &kube::Error| {
            let starting = is_forbidden(error) && {
                was_forbidden.set(true);
                let tries = &self.forbidden_tries;
                let left = |left: usize| left.checked_sub(1);
                tries
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
                    .is_ok()
            };
            starting || no_server(error)
        };
        let result = self.runtime.block_on(async {
            let again_and_again = || (call.borrow_mut())();
            let unhurried = || self.throttle.pass(&again_and_again);
            let retried = unhurried
                .retry(
                    ConstantBuilder::default()
                        .with_delay(EVERY)
                        .with_max_times(times),
                )
                .when(again);
            let time = self.patience + Duration::from_secs(40) + throttle::TIME;
            match tokio::time::timeout(time, retried).await {
                Ok(result) => result,
                Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
            }
        });
        // The server was starting, and may do so again.
        if result.is_ok() && was_forbidden.get() {
            self.forbidden_tries
                .store(FORBIDDEN_TRIES, Ordering::Relaxed);
        }
        result
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Whether the error says that no server took the call.
fn no_server(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 502..=504),
        kube::Error::Service(_) | kube::Error::HyperError(_) => true,
        _ => false,
    }
}

pub(super) fn config_error(error: impl std::fmt::Display, remedy: &str) -> ApiError {
    ApiError::Config {
        // kube puts quotes around a path that has its own.
        why: error.to_string().replace("'\"", "'").replace("\"'", "'"),
        remedy: remedy.into(),
    }
}

/// Turns kube's error into ours. Server messages are text from outside: cleaned before use.
pub(super) fn explain(what: &str, error: kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => {
            let why = clean_text(&status.message);
            match status.code {
                401 | 403 => ApiError::Forbidden { why },
                _ => ApiError::Refused {
                    what: what.into(),
                    why,
                },
            }
        }
        kube::Error::Service(e) => ApiError::Unreachable { why: chain(&*e) },
        kube::Error::HyperError(e) => ApiError::Unreachable { why: chain(&e) },
        other => ApiError::Refused {
            what: what.into(),
            why: clean_text(&chain(&other)),
        },
    }
}

/// An error with its causes; libraries hide the one that matters at the end.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

impl Api for Client {
    fn cluster_id(&self) -> Result<String, ApiError> {
        let api: KubeApi<Namespace> = KubeApi::all(self.kube.clone());
        let namespace = self.call("get Namespace kube-system", || api.get("kube-system"))?;
        namespace.metadata.uid.ok_or_else(|| ApiError::Refused {
            what: "get Namespace kube-system".into(),
            why: "it has no uid".into(),
        })
    }

    fn kubernetes_minor(&self) -> Result<String, ApiError> {
        let what = "get /version";
        let info = self.call(what, || self.kube.apiserver_version())?;
        minor(&info.major, &info.minor).ok_or_else(|| ApiError::Refused {
            what: what.into(),
            why: format!(
                "{} is no version of Kubernetes",
                clean_text(&format!("{}.{}", info.major, info.minor))
            ),
        })
    }

    fn nodes(&self) -> Result<BTreeMap<String, FoundNode>, ApiError> {
        let api: KubeApi<Node> = KubeApi::all(self.kube.clone());
        let list = self.call("list Nodes", || async {
            api.list(&ListParams::default()).await
        })?;
        Ok(list.items.into_iter().filter_map(describe_node).collect())
    }

    fn config_map_key(&self, namespace: &str, name: &str, key: &str) -> Fact<String> {
        let api: KubeApi<ConfigMap> = KubeApi::namespaced(self.kube.clone(), namespace);
        let what = format!("get ConfigMap {namespace}/{name}");
        match self.call(&what, || api.get_opt(name)) {
            Ok(Some(map)) => match map.data.and_then(|mut data| data.remove(key)) {
                Some(text) => Fact::Value(text),
                None => Fact::Absent,
            },
            Ok(None) => Fact::Absent,
            Err(error) => Fact::Unreadable(error.to_string()),
        }
    }

    fn replace_config_map_key(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        before: &str,
        after: &str,
    ) -> Result<(), ApiError> {
        let api: KubeApi<ConfigMap> = KubeApi::namespaced(self.kube.clone(), namespace);
        let what = format!("replace key {key} of ConfigMap {namespace}/{name}");
        let params = PatchParams {
            field_manager: Some(super::FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let moved = || ApiError::Moved {
            what: format!("key {key} of ConfigMap {namespace}/{name}"),
        };
        let mut left = CONFLICTS;
        loop {
            let map = self.call(&what, || api.get_opt(name))?.ok_or_else(moved)?;
            match map.data.as_ref().and_then(|data| data.get(key)) {
                // A call whose answer was lost may have been carried out.
                Some(text) if text == after => return Ok(()),
                Some(text) if text == before => {}
                _ => return Err(moved()),
            }
            // The version makes it one transaction with the look, so nobody's edit is lost. The `test` of a JSON
            // patch would not do: the server compares it with a text in which `<`, `>` and `&` are escaped.
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": map.metadata.resource_version},
                "data": {key: after},
            }));
            match self.call(&what, || api.patch(name, &params, &patch)) {
                Ok(_) => return Ok(()),
                // Somebody has changed something else of it meanwhile, or it was carried out.
                Err(ApiError::Refused { .. }) if left > 0 => left -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn objects(&self, wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact> {
        observation::observe(self, wanted)
    }

    fn live(&self, wanted: &[Arc<Value>]) -> BTreeMap<ObjectRef, ObjectFact> {
        observation::live(self, wanted)
    }

    fn get(&self, reference: &ObjectRef) -> Result<Option<Value>, ApiError> {
        objects::get(self, reference)
    }

    fn apply(&self, wanted: &Value) -> Result<Value, ApiError> {
        objects::apply(self, wanted, &[])
    }

    fn apply_taking(&self, wanted: &Value, taken: &[FieldConflict]) -> Result<Value, ApiError> {
        objects::apply(self, wanted, taken)
    }

    fn remove(&self, wanted: &Value, strays: &[Stray]) -> Result<(), ApiError> {
        objects::remove(self, wanted, strays)
    }

    fn restore(&self, object: &Value) -> Result<(), ApiError> {
        objects::restore(self, object)
    }

    fn delete(&self, reference: &ObjectRef, uid: &str) -> Result<(), ApiError> {
        objects::delete(self, reference, uid)
    }

    fn contents(&self, namespace: &str) -> Result<Vec<String>, ApiError> {
        objects::contents(self, namespace)
    }

    fn names_beside(&self, reference: &ObjectRef) -> Result<Vec<String>, ApiError> {
        ledger::names_beside(self, reference)
    }

    fn release(&self, reference: &ObjectRef) -> Result<(), ApiError> {
        ledger::release(self, reference)
    }

    fn ledger(&self) -> Result<Ledger, ApiError> {
        ledger::read(self)
    }

    fn edit_ledger(&self, edit: &LedgerEdit) -> Result<(), ApiError> {
        ledger::edit(self, edit)
    }

    fn lock(&self, holder: &Holder, take_over: bool) -> Result<(), ApiError> {
        lease::lock(self, holder, take_over)
    }

    fn renew(&self, holder: &Holder) -> Result<(), ApiError> {
        lease::renew(self, holder)
    }

    fn unlock(&self, holder: &Holder) -> Result<(), ApiError> {
        lease::unlock(self, holder)
    }

    fn kubelet_config(&self, node: &str) -> Result<Option<Value>, ApiError> {
        endpoint::kubelet_config(self, node)
    }

    fn node_ready(&self, node: &str) -> Result<bool, ApiError> {
        endpoint::node_ready(self, node)
    }

    fn kubelet_endpoint(&self, node: &str) -> Result<Option<KubeletEndpoint>, ApiError> {
        certificates::kubelet_endpoint(self, node)
    }

    fn kubelet_handshake(
        &self,
        through: SocketAddr,
        server_name: &str,
    ) -> Result<Option<String>, ApiError> {
        certificates::kubelet_handshake(self, through, server_name)
    }

    fn serving_requests(&self) -> Result<Vec<SigningRequest>, ApiError> {
        certificates::serving_requests(self)
    }

    fn approve(&self, request: &SigningRequest, message: &str) -> Result<(), ApiError> {
        certificates::approve(self, request, message)
    }

    fn may(&self, verb: &str, group: &str, resource: &str) -> Result<bool, ApiError> {
        served::may(self, verb, group, resource)
    }

    fn external_ips(&self) -> Result<Vec<String>, ApiError> {
        impact::external_ips(self)
    }

    fn served_resources(&self) -> Result<BTreeSet<String>, ApiError> {
        Ok(self.served()?.into_keys().collect())
    }

    fn never_pulled(&self) -> Result<Vec<String>, ApiError> {
        impact::never_pulled(self)
    }

    fn pods_below(&self, level: &PodLevel) -> Result<PodsBelow, ApiError> {
        pod_security::pods_below(self, level)
    }

    fn impact(&self, query: &ImpactQuery) -> ImpactFacts {
        impact::gather(self, query)
    }

    fn metrics(&self, through: SocketAddr) -> Result<String, ApiError> {
        impact::metrics(self, through)
    }

    fn fetch(&self, through: SocketAddr, path: &str) -> Result<String, ApiError> {
        endpoint::fetch(self, through, path)
    }

    fn restart_daemon_set(&self, namespace: &str, name: &str, mark: &str) -> Result<(), ApiError> {
        endpoint::restart_daemon_set(self, namespace, name, mark)
    }

    fn daemon_set_waits(&self, namespace: &str, name: &str) -> Result<Option<String>, ApiError> {
        endpoint::daemon_set_waits(self, namespace, name)
    }

    fn healthz(&self, through: SocketAddr) -> Result<bool, ApiError> {
        endpoint::healthz(self, through)
    }

    fn readyz(&self, through: SocketAddr) -> Result<bool, ApiError> {
        let mut config = self.behind(through)?;
        config.read_timeout = Some(Duration::from_secs(5));
        let asked = self.runtime.block_on(async {
            let kube = KubeClient::try_from(config)?;
            let request = http::Request::get("/readyz")
                .body(Vec::new())
                .map_err(kube::Error::HttpError)?;
            let wait = Duration::from_secs(8);
            match tokio::time::timeout(wait, kube.request_text(request)).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
            }
        });
        match asked {
            Ok(text) => Ok(text.trim() == "ok"),
            Err(kube::Error::Api(status)) if status.code >= 500 => Ok(false),
            Err(error) => Err(explain("get /readyz", error)),
        }
    }
}

impl Client {
    /// For the other files of this folder.
    pub(super) fn kube(&self) -> &KubeClient {
        &self.kube
    }

    /// For the other files of this folder: how to ask the API server behind a tunnel.
    pub(super) fn behind(&self, through: SocketAddr) -> Result<Config, ApiError> {
        let mut config = self.config.clone();
        config.cluster_url = format!("https://{through}")
            .parse()
            .map_err(|e| config_error(e, "report this as a fault of harden"))?;
        config.tls_server_name = Some(SERVER_NAME.into());
        config.proxy_url = None;
        Ok(config)
    }

    /// For the other files of this folder: the cluster's CA, as the kubeconfig has it, in DER.
    pub(super) fn root_cert(&self) -> Option<&Vec<Vec<u8>>> {
        self.config.root_cert.as_ref()
    }

    /// For the other files of this folder: one try, with kube's own error.
    pub(super) fn once<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        self.runtime.block_on(call)
    }
}

/// Joins the parts of a version. Some providers add a sign to the minor, as in `33+`.
fn minor(major: &str, minor: &str) -> Option<String> {
    let minor = minor.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number = |text: &str| text.parse::<u16>().ok();
    Some(format!("{}.{}", number(major)?, number(minor)?))
}

fn describe_node(node: Node) -> Option<(String, FoundNode)> {
    let name = node.metadata.name?;
    let labels = node.metadata.labels.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let mut addresses = status.addresses.unwrap_or_default().into_iter();
    let address = addresses
        .find(|a| a.type_ == "InternalIP")
        .map(|a| a.address);
    let info = NodeInfo {
        name: name.clone(),
        control_plane: labels.contains_key(CONTROL_PLANE_LABEL),
    };
    let found = FoundNode {
        info,
        address,
        machine_id: status.node_info.map(|info| info.machine_id),
    };
    Some((name, found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::fake::{Answer, Asked, serve};
    use super::*;

    /// A client of an API that forbids the calls whose number from 0 is in this range.
    fn forbidding(calls: std::ops::Range<usize>) -> (Client, Arc<Mutex<Vec<Asked>>>) {
        let count = AtomicUsize::new(0);
        serve(Duration::from_secs(60), move |_| {
            match calls.contains(&count.fetch_add(1, Ordering::SeqCst)) {
                true => Answer::refused(403, "no rights", json!({"reason": "Forbidden"})),
                false => Answer::ok(kube_system()),
            }
        })
    }

    fn kube_system() -> Value {
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-system", "uid": "1"}})
    }

    /// A client of an API that is asked for too much by the first calls.
    fn busy(calls: usize, header: Option<&'static str>) -> (Client, Arc<Mutex<Vec<Asked>>>) {
        let count = AtomicUsize::new(0);
        serve(Duration::ZERO, move |_| {
            if count.fetch_add(1, Ordering::SeqCst) >= calls {
                return Answer::ok(kube_system());
            }
            // What priority and fairness answers is no Status.
            let mut told = Answer::refused(429, "", json!({}));
            told.body = "Too many requests, please try again later.".into();
            match header {
                Some(value) => told.with("Retry-After", value),
                None => told,
            }
        })
    }

    #[test]
    fn who_is_told_to_come_back_later_does_so_not_before_and_all_do() {
        let (client, seen) = busy(2, Some("1"));
        let begun = Instant::now();
        assert_eq!(client.cluster_id().as_deref(), Ok("1"));
        assert!(begun.elapsed() >= Duration::from_secs(2));
        assert_eq!(seen.lock().unwrap().len(), 3);
        // Another call waits for what one was told.
        let (client, _) = busy(1, Some("1"));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| client.cluster_id());
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(client.cluster_id().as_deref(), Ok("1"));
            assert!(begun.elapsed() >= Duration::from_secs(1));
        });
    }

    #[test]
    fn without_a_time_to_come_back_there_is_a_pause_all_the_same() {
        for header in [None, Some("0"), Some("soon"), Some("-1")] {
            let (client, seen) = busy(1, header);
            let begun = Instant::now();
            assert_eq!(client.cluster_id().as_deref(), Ok("1"));
            assert!(begun.elapsed() >= Duration::from_millis(900), "{header:?}");
            assert_eq!(seen.lock().unwrap().len(), 2);
        }
    }

    #[test]
    fn a_server_that_has_just_started_is_asked_again() {
        let (client, seen) = forbidding(0..3);
        assert_eq!(client.cluster_id().as_deref(), Ok("1"));
        assert_eq!(seen.lock().unwrap().len(), 4);
        assert_eq!(
            client.forbidden_tries.load(Ordering::SeqCst),
            FORBIDDEN_TRIES
        );
    }

    #[test]
    fn who_has_no_rights_waits_once_and_not_at_every_call() {
        let (client, seen) = forbidding(0..1000);
        let begun = Instant::now();
        for asked in [FORBIDDEN_TRIES + 1, FORBIDDEN_TRIES + 2] {
            let error = client.cluster_id().unwrap_err();
            assert!(matches!(error, ApiError::Forbidden { .. }), "{error}");
            assert_eq!(seen.lock().unwrap().len(), asked);
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_missing_kubeconfig_is_quoted_once() {
        let missing = Client::new(Some(Path::new("/none/of/it")), None, Duration::ZERO);
        let why = missing.unwrap_err().to_string();
        assert!(why.contains("'/none/of/it'"), "{why}");
    }

    #[test]
    fn the_minor_version_is_two_numbers_whatever_a_provider_adds() {
        assert_eq!(minor("1", "35").as_deref(), Some("1.35"));
        assert_eq!(minor("1", "33+").as_deref(), Some("1.33"));
        assert_eq!(minor("1", "33-eks").as_deref(), Some("1.33"));
        for (major, small) in [
            ("", ""),
            ("1", ""),
            ("v1", "35"),
            ("1", "3x5"),
            ("1", "99999"),
        ] {
            assert_eq!(minor(major, small), None, "{major}.{small}");
        }
    }
}
