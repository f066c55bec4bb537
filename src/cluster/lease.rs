//! The cluster's apply lock: Lease kube-system/harden.
//!
//! It is renewed at each step and while a gate is waited for. That cannot be done while a single API
//! server restarts, so it lasts longer than any restart; the locks on the nodes guard the same apply
//! from the other side.

use std::time::Duration;

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

/// How long a renewal may take.
const RENEWAL: Duration = Duration::from_secs(5);

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

/// Writes the time of now into the lock, if this holder has it.
pub(super) fn renew(client: &Client, holder: &Holder) -> Result<(), ApiError> {
    let api: KubeApi<Lease> = KubeApi::namespaced(client.kube().clone(), NAMESPACE);
    let what = format!("renew the lock, Lease {NAMESPACE}/{NAME}");
    let wanted = lease_of(holder)?;
    let renewed = client.once(async {
        let asked = async {
            let Some(live) = api.get_opt(NAME).await? else {
                // Somebody deleted it; it is taken anew.
                api.create(&PostParams::default(), &wanted).await?;
                return Ok(Ok(()));
            };
            if let Err(error) = refuse_unless_own(&live, holder) {
                return Ok(Err(error));
            }
            let renewed = renewed(&live, &wanted);
            api.replace(NAME, &PostParams::default(), &renewed).await?;
            Ok(Ok(()))
        };
        match tokio::time::timeout(RENEWAL, asked).await {
            Ok(result) => result,
            Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
        }
    });
    match renewed {
        Ok(result) => result,
        Err(error) => Err(super::client::explain(&what, error)),
    }
}

/// Refuses a lock that anybody else has taken meanwhile, whether they live or not.
fn refuse_unless_own(live: &Lease, holder: &Holder) -> Result<(), ApiError> {
    match owner(live) {
        Some(owner) if owner.is_same(holder) => Ok(()),
        Some(owner) => Err(ApiError::Locked {
            who: owner.who,
            since: owner.since,
            pid: owner.pid,
        }),
        None => Err(foreign(live)),
    }
}

/// The live lock with the wanted one's time of renewal.
fn renewed(live: &Lease, wanted: &Lease) -> Lease {
    let mut renewed = live.clone();
    let time = wanted.spec.as_ref().and_then(|s| s.renew_time.clone());
    renewed.spec.get_or_insert_default().renew_time = time;
    renewed
}

fn owner(live: &Lease) -> Option<Holder> {
    let annotations = live.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(HOLDER_ANNOTATION)?).ok()
}

fn foreign(live: &Lease) -> ApiError {
    let who = live.spec.as_ref().and_then(|s| s.holder_identity.clone());
    ApiError::Foreign {
        who: match who {
            Some(who) => crate::fact::probe::clean_text(&who),
            None => "somebody who does not say who they are".into(),
        },
    }
}

fn refuse_if_held(live: &Lease, holder: &Holder) -> Result<(), ApiError> {
    let Some(owner) = owner(live) else {
        // Not written by any version of this program: only its expiry frees it.
        return if is_expired(live) {
            Ok(())
        } else {
            Err(foreign(live))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(mut lease: Lease, seconds: i64) -> Lease {
        let then = Timestamp::now().as_second() - seconds;
        let then = Timestamp::from_second(then).unwrap_or_default();
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(then));
        lease
    }

    fn elsewhere() -> Holder {
        Holder {
            machine: "other".into(),
            who: "ann@desk".into(),
            ..Holder::current()
        }
    }

    #[test]
    fn a_renewed_lock_does_not_expire_and_another_one_is_not_renewed() -> Result<(), ApiError> {
        let (me, ann) = (Holder::current(), elsewhere());
        let old = aged(lease_of(&ann)?, 20 * 60);
        assert!(is_expired(&old));
        assert!(refuse_if_held(&old, &me).is_ok());
        let fresh = renewed(&old, &lease_of(&ann)?);
        assert!(matches!(
            refuse_if_held(&fresh, &me),
            Err(ApiError::Locked { who, .. }) if who == "ann@desk"
        ));
        let acquired = |lease: &Lease| lease.spec.as_ref().and_then(|s| s.acquire_time.clone());
        assert_eq!(acquired(&fresh), acquired(&old));
        assert!(refuse_unless_own(&fresh, &ann).is_ok());
        // Not even an expired one: whoever it was may still be at it.
        assert!(refuse_unless_own(&old, &me).is_err());
        Ok(())
    }

    #[test]
    fn a_lock_of_another_program_says_who_and_nothing_it_does_not_know() -> Result<(), ApiError> {
        let mut lease = lease_of(&elsewhere())?;
        lease.metadata.annotations = None;
        lease.spec.get_or_insert_default().holder_identity = Some("some-operator".into());
        let told = refuse_if_held(&lease, &Holder::current()).map_err(|e| e.to_string());
        assert_eq!(
            told,
            Err("some-operator holds Lease kube-system/harden, which harden did not write".into())
        );
        assert!(refuse_if_held(&aged(lease, 20 * 60), &Holder::current()).is_ok());
        Ok(())
    }
}
