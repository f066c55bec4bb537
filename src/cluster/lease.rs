//! The cluster's apply lock: Lease kube-system/harden.
//!
//! A Lease cannot be renewed while a single API server restarts, so it lasts longer than any
//! restart; the locks on the nodes guard the same apply from the other side.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api as KubeApi, DeleteParams, ObjectMeta, PostParams, Preconditions};

use super::client::Client;
use super::{ApiError, Holder};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "harden";
/// Where the whole [`Holder`] stands; `holderIdentity` is for people.
const HOLDER_ANNOTATION: &str = "harden.dev/holder";
/// After this many seconds without renewal, anybody may take the lock.
const SECONDS: i32 = 15 * 60;

/// Takes the lock, or takes it over from a holder that has ended or let it expire; with `take_over`
/// from any holder.
pub(super) fn lock(client: &Client, holder: &Holder, take_over: bool) -> Result<(), ApiError> {
    let api: KubeApi<Lease> = KubeApi::namespaced(client.kube().clone(), NAMESPACE);
    let what = format!("take the lock, Lease {NAMESPACE}/{NAME}");
    // Twice: the lease may appear or vanish between looking and writing.
    for _ in 0..2 {
        let found = client.call(&what, || api.get_opt(NAME))?;
        let mut wanted = lease_of(holder)?;
        let written = match found {
            None => client.once(api.create(&PostParams::default(), &wanted)),
            Some(live) => {
                if !take_over {
                    refuse_if_held(&live, holder)?;
                }
                wanted.metadata.resource_version = live.metadata.resource_version;
                client.once(api.replace(NAME, &PostParams::default(), &wanted))
            }
        };
        match written {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(super::client::explain(&what, error)),
        }
    }
    Err(ApiError::Refused {
        what,
        why: "somebody else keeps writing it; try again".into(),
    })
}

fn refuse_if_held(live: &Lease, holder: &Holder) -> Result<(), ApiError> {
    let owner = live
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| serde_json::from_str::<Holder>(a.get(HOLDER_ANNOTATION)?).ok());
    let Some(owner) = owner else {
        // Not written by any version of this program: only its expiry frees it.
        let who = live.spec.as_ref().and_then(|s| s.holder_identity.clone());
        return if is_expired(live) {
            Ok(())
        } else {
            Err(ApiError::Locked {
                who: who.unwrap_or_else(|| "somebody".into()),
                since: 0,
                pid: 0,
            })
        };
    };
    if owner.is_same(holder) || owner.is_gone() || is_expired(live) {
        return Ok(());
    }
    Err(ApiError::Locked {
        who: owner.who,
        since: owner.since,
        pid: owner.pid,
    })
}

fn is_expired(lease: &Lease) -> bool {
    let Some(spec) = &lease.spec else { return true };
    let Some(renewed) = &spec.renew_time else {
        return true;
    };
    let age = Timestamp::now().as_second() - renewed.0.as_second();
    age > i64::from(spec.lease_duration_seconds.unwrap_or(SECONDS))
}

fn lease_of(holder: &Holder) -> Result<Lease, ApiError> {
    let text = serde_json::to_string(holder).map_err(|e| ApiError::Refused {
        what: "write the lock".into(),
        why: e.to_string(),
    })?;
    let now = MicroTime(Timestamp::now());
    Ok(Lease {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(NAMESPACE.into()),
            annotations: Some([(HOLDER_ANNOTATION.to_owned(), text)].into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(format!("{} process {}", holder.who, holder.pid)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_duration_seconds: Some(SECONDS),
            ..LeaseSpec::default()
        }),
    })
}

/// Gives the lock back, if this holder has it.
pub(super) fn unlock(client: &Client, holder: &Holder) -> Result<(), ApiError> {
    let api: KubeApi<Lease> = KubeApi::namespaced(client.kube().clone(), NAMESPACE);
    let what = format!("give back the lock, Lease {NAMESPACE}/{NAME}");
    let Some(live) = client.call(&what, || api.get_opt(NAME))? else {
        return Ok(());
    };
    if refuse_if_held(&live, holder).is_err() {
        return Ok(());
    }
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: live.metadata.uid,
        resource_version: live.metadata.resource_version,
    });
    client.call(&what, || async {
        match api.delete(NAME, &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(|_| ()),
        }
    })
}
