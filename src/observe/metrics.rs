//! Pages in Prometheus' text format, as components serve them at `/metrics`.

use crate::fact::Fact;
use crate::fact::encryption::{Loaded, is_sha256};

/// The metric whose label is the hash of what was loaded, and the counter of reloads. Source: kubernetes
/// v1.35 staging/src/k8s.io/apiserver/pkg/server/options/encryptionconfig/metrics/metrics.go.
const LOADED: &str = "apiserver_encryption_config_controller_last_config_info";
const RELOADS: &str = "apiserver_encryption_config_controller_automatic_reloads_total";

/// Finds a counter without labels.
pub(super) fn counter(page: &str, name: &str) -> Option<f64> {
    let rest = |line: &'_ str| Some(value(line.strip_prefix(name)?.strip_prefix(' ')?));
    page.lines().find_map(rest)?
}

/// Finds what an API server says of the encryption configuration that it has loaded: absent where it
/// says nothing, which is so without one; older versions of Kubernetes may not have the metric.
pub(super) fn loaded_encryption(page: &str) -> Fact<Loaded> {
    let mut hashes: Vec<&str> = page
        .lines()
        .filter_map(|line| label(labels(line, LOADED)?.0, "hash")?.strip_prefix("sha256:"))
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    let refused = page
        .lines()
        .filter_map(|line| {
            let (labels, rest) = labels(line, RELOADS)?;
            (label(labels, "status")? == "failure").then(|| value(rest))?
        })
        .sum::<f64>();
    match hashes[..] {
        [] => Fact::Absent,
        [sha256] if is_sha256(sha256) => Fact::Value(Loaded {
            sha256: sha256.to_owned(),
            refused: refused as u64,
        }),
        _ => Fact::Unreadable("its metric does not tell one hash".into()),
    }
}

/// What stands between the braces of a line of this metric, and what follows them.
fn labels<'p>(line: &'p str, name: &str) -> Option<(&'p str, &'p str)> {
    line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")
}

/// The value of a label whose value needs no escapes.
fn label<'p>(labels: &'p str, name: &str) -> Option<&'p str> {
    labels.split(',').find_map(|label| {
        label
            .strip_prefix(name)?
            .strip_prefix("=\"")?
            .strip_suffix('"')
    })
}

/// A count that is no less than 0; a time may follow it.
fn value(text: &str) -> Option<f64> {
    let count: f64 = text.split(' ').next()?.parse().ok()?;
    (count.is_finite() && count >= 0.0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        const NAME: &str = "serviceaccount_stale_tokens_total";
        let page = "# HELP serviceaccount_stale_tokens_total x\n\
            # TYPE serviceaccount_stale_tokens_total counter\n\
            serviceaccount_stale_tokens_total_other 7\n\
            serviceaccount_stale_tokens_total 2.5e+06 1700000000\n";
        assert_eq!(counter(page, NAME), Some(2_500_000.0));
        for bad in [
            "",
            "serviceaccount_stale_tokens_total NaN",
            "serviceaccount_stale_tokens_total -1",
        ] {
            assert_eq!(counter(bad, NAME), None, "{bad}");
        }
    }

    #[test]
    fn the_hash_of_what_was_loaded_is_a_label() {
        let hash = "0123456789abcdef".repeat(4);
        let id = "f".repeat(64);
        let page = format!(
            "# HELP {LOADED} [ALPHA] x\n# TYPE {LOADED} gauge\n\
             {LOADED}{{apiserver_id_hash=\"sha256:{id}\",hash=\"sha256:{hash}\"}} 1\n\
             {RELOADS}{{apiserver_id_hash=\"sha256:{id}\",status=\"failure\"}} 3\n\
             {RELOADS}{{apiserver_id_hash=\"sha256:{id}\",status=\"success\"}} 9\n"
        );
        let loaded = Loaded {
            sha256: hash.clone(),
            refused: 3,
        };
        assert_eq!(loaded_encryption(&page), Fact::Value(loaded));
        assert_eq!(loaded_encryption("up 1\n"), Fact::Absent);
        let other = page.replace(&hash, &id);
        for bad in [page.replace(&hash, "0123"), page.clone() + &other] {
            assert!(matches!(loaded_encryption(&bad), Fact::Unreadable(_)));
        }
    }
}
