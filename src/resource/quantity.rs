//! Quantities as the API server writes them back.

use crate::module::scalar;

const BILLION: i128 = 1_000_000_000;

/// Returns a quantity in the one form in which the server keeps it: `1000m` is `1`, `1024Mi` is `1Gi`,
/// `0.5` is `500m`. `None` when it is no quantity, or one with an exponent, which is kept differently.
///
/// Source: apimachinery v0.35 `pkg/api/resource/quantity.go`, `Quantity.CanonicalizeBytes`.
pub(super) fn canonical(text: &str) -> Option<String> {
    let value = scalar::quantity(text)?;
    let is_exponent = text
        .split_once(['e', 'E'])
        .is_some_and(|(_, rest)| !rest.is_empty());
    // What does not fit in 64 bits is capped by the server.
    if is_exponent || i64::try_from(value / BILLION).is_err() {
        return None;
    }
    if value == 0 {
        return Some("0".into());
    }
    let whole = value / BILLION;
    let is_binary = text.ends_with('i') && value % BILLION == 0 && whole.abs() >= 1024;
    Some(if is_binary {
        reduced(whole, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else {
        reduced(
            value,
            1000,
            &["n", "u", "m", "", "k", "M", "G", "T", "P", "E"],
        )
    })
}

/// Writes a number with the largest suffix that leaves it whole.
fn reduced(mut number: i128, base: i128, suffixes: &[&str]) -> String {
    let mut at = 0;
    while number % base == 0 && at + 1 < suffixes.len() {
        number /= base;
        at += 1;
    }
    format!("{number}{}", suffixes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From apimachinery v0.35 `pkg/api/resource/quantity_test.go`, and asked of a real server.
    #[test]
    fn it_is_what_the_server_writes_back() {
        for (given, kept) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1024Ki", "1Mi"),
            ("1025Ki", "1025Ki"),
            ("0.5Gi", "512Mi"),
            ("0.5Ki", "512"),
            ("1Ki", "1Ki"),
            ("1023Ki", "1023Ki"),
            ("1000Ki", "1000Ki"),
            ("1073741824", "1073741824"),
            ("1000", "1k"),
            ("20", "20"),
            ("20000", "20k"),
            ("1.5", "1500m"),
            ("0.0001", "100u"),
            ("1E", "1E"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-1000m", "-1"),
            ("+2", "2"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(kept), "{given}");
        }
    }

    #[test]
    fn what_is_kept_otherwise_is_not_guessed() {
        for text in ["1e3", "1E3", "", "x", "1 Gi", "999999999999E"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_the_same_amount_and_stays_as_it_is(number in 0u32..100_000, at in 0usize..12) {
            let suffix = ["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "u", "n", "T"][at];
            let given = format!("{number}{suffix}");
            let kept = canonical(&given);
            proptest::prop_assert!(kept.is_some());
            let kept = kept.unwrap_or_default();
            proptest::prop_assert_eq!(scalar::quantity(&kept), scalar::quantity(&given));
            proptest::prop_assert_eq!(canonical(&kept), Some(kept));
        }
    }
}
