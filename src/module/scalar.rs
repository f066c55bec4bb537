//! Texts with a meaning: durations, quantities, modes, networks. Each is brought into one canonical
//! writing, so that two writings of one value are equal when profiles are merged.

use std::net::IpAddr;

/// Reads a duration in the writing of Go's `time.ParseDuration`, as Kubernetes' flags take it:
/// `90s`, `1h30m`, `100ms`. Milliseconds are the smallest unit. Returns them.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(total)
}

/// Writes milliseconds with the largest units: `1h30m`.
pub(crate) fn duration_text(milliseconds: u64) -> String {
    let mut text = String::new();
    let mut rest = milliseconds;
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Reads a quantity as Kubernetes' `resource.Quantity` has it: `500m`, `64Gi`, `1e3`, `0.5`. Returns
/// it in billionths, the smallest unit that Kubernetes keeps.
pub(crate) fn quantity(text: &str) -> Option<i128> {
    let number_end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || whole.len() + fraction.len() > 24
        || !all_digits(whole)
        || !all_digits(fraction)
    {
        return None;
    }
    let (binary, decimal): (u32, i32) = match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = decimal
        .checked_add(9)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(1_i128 << binary)?;
    let power = |n: i32| 10_i128.checked_pow(n.unsigned_abs());
    let value = if exponent >= 0 {
        scaled.checked_mul(power(exponent)?)?
    } else {
        // Kubernetes rounds up what is smaller than a billionth.
        let by = power(exponent)?;
        scaled / by + i128::from(scaled % by != 0)
    };
    Some(if negative { -value } else { value })
}

/// Reads permission bits in octal, `0600` or `600`.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let good = matches!(text.len(), 3 | 4) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(text, 8).ok()?;
    good.then_some(bits)
}

/// Reads a network in CIDR notation. The error says what is wrong with it.
pub(crate) fn cidr(text: &str) -> Result<String, String> {
    let network = cidr_range(text).ok_or("it is no network in CIDR notation")?;
    let canonical = format!("{}/{}", network.first, network.prefix);
    if network.address == network.first {
        Ok(canonical)
    } else {
        Err(format!("bits are set behind the prefix: {canonical}?"))
    }
}

/// A network.
struct Network {
    address: IpAddr,
    first: IpAddr,
    prefix: u32,
}

fn cidr_range(text: &str) -> Option<Network> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let prefix: u32 = prefix.parse().ok()?;
    let first = first_address(address, prefix)?;
    Some(Network {
        address,
        first,
        prefix,
    })
}

fn first_address(address: IpAddr, prefix: u32) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(ip) => {
            let host = 32_u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let host = 128_u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    })
}

/// Whether a network holds every address of another, or a single address. `None` when one of the
/// texts is neither.
pub(crate) fn cidr_contains(outer: &str, inner: &str) -> Option<bool> {
    let outer = cidr_range(outer)?;
    let (address, prefix) = match inner.parse::<IpAddr>() {
        Ok(ip) => (ip, if ip.is_ipv4() { 32 } else { 128 }),
        Err(_) => cidr_range(inner).map(|n| (n.first, n.prefix))?,
    };
    let same_family = outer.first.is_ipv4() == address.is_ipv4();
    let inside = first_address(address, outer.prefix) == Some(outer.first);
    Some(same_family && prefix >= outer.prefix && inside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("1h30m"), Some(5_400_000));
        assert_eq!(duration("90s"), duration("1m30s"));
        assert_eq!(duration("100ms"), Some(100));
        for wrong in [
            "",
            "5",
            "s",
            "1d",
            "1.5h",
            "-1s",
            "1s ",
            "99999999999999999999h",
        ] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
        assert_eq!(duration_text(0), "0s");
        assert_eq!(duration_text(5_400_001), "1h30m1ms");
    }

    #[test]
    fn quantities() {
        for (one, other) in [
            ("1", "1000m"),
            ("64Gi", "68719476736"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("+2", "2"),
            ("1n", "0.5n"),
        ] {
            assert_eq!(quantity(one), quantity(other), "{one} {other}");
            assert!(quantity(one).is_some(), "{one}");
        }
        assert_eq!(quantity("-1"), Some(-1_000_000_000));
        assert_eq!(quantity("1E"), quantity("1000P"));
        for wrong in [
            "", ".", "1 Gi", "1gi", "Gi", "1KI", "--1", "1-", "1.2.3", "1e", "0x1", "1e99",
        ] {
            assert_eq!(quantity(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn modes_and_networks() {
        assert_eq!(mode("0600"), mode("600"));
        for wrong in ["", "06", "0800", "00600", "0x60", "+600"] {
            assert_eq!(mode(wrong), None, "{wrong:?}");
        }
        assert_eq!(cidr("10.0.0.0/8"), Ok("10.0.0.0/8".into()));
        assert_eq!(cidr("FD00::/8"), Ok("fd00::/8".into()));
        assert_eq!(
            cidr("10.1.0.0/8"),
            Err("bits are set behind the prefix: 10.0.0.0/8?".into())
        );
        for wrong in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "a/8",
            "10.0.0.0/+8",
        ] {
            assert!(cidr(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(cidr_contains("0.0.0.0/0", "169.254.169.254"), Some(true));
        assert_eq!(
            cidr_contains("169.254.0.0/16", "169.254.169.254/32"),
            Some(true)
        );
        assert_eq!(
            cidr_contains("169.254.169.254/32", "169.254.0.0/16"),
            Some(false)
        );
        assert_eq!(cidr_contains("::/0", "169.254.169.254"), Some(false));
        assert_eq!(cidr_contains("x", "::1"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in 0_u64..10_000_000_000) {
            prop_assert_eq!(duration(&duration_text(ms)), Some(ms));
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in "\\PC{0,30}") {
            let _ = (duration(&text), quantity(&text), mode(&text), cidr(&text));
            let _ = cidr_contains(&text, &text);
        }

        #[test]
        fn quantities_keep_their_order(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
            let read = |n: i64| quantity(&format!("{n}m")).unwrap();
            prop_assert_eq!(a.cmp(&b), read(a).cmp(&read(b)));
        }
    }
}
