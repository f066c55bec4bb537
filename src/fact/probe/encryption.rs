//! The answers about encryption at rest.

use super::answer::Bad;
use super::{Answer, Fact, number};
use crate::fact::encryption::{
    EncryptionFile, Form, Group, KeyName, MAX_ENTRIES, Provider, Stored, StoredForm, is_sha256,
};
use crate::fact::{FileKind, Meta};

/// `h SHA256 SECONDS`, then for each group `g`, and in it `r RESOURCE`, `k PROVIDER NAME` and `i`.
pub(super) fn file(meta: Meta, data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    if meta.kind != FileKind::Regular {
        return Err(Bad("the content of what is no regular file"));
    }
    let bad = || Bad("no line of an encryption configuration");
    let (first, rest) = data.split_first().ok_or_else(bad)?;
    let mut words = words(first)?.into_iter();
    let (Some("h"), Some(sha256), Some(written), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let (true, Some(written)) = (is_sha256(sha256), number(written.as_bytes())) else {
        return Err(bad());
    };
    if rest.len() > MAX_ENTRIES {
        return Ok(Fact::Unreadable(format!(
            "it has more than {MAX_ENTRIES} entries"
        )));
    }
    let mut groups: Vec<Group> = Vec::new();
    for line in rest {
        let words = self::words(line)?;
        if words == ["g"] {
            groups.push(Group::default());
            continue;
        }
        let group = groups.last_mut().ok_or_else(bad)?;
        match words[..] {
            ["r", resource] if is_resource(resource) => group.resources.push(resource.to_owned()),
            ["i"] => group.forms.push(Form::Clear),
            ["k", provider, name] => group.forms.push(key(provider, name)?),
            _ => return Err(bad()),
        }
    }
    Ok(Fact::Value(Answer::Encryption(EncryptionFile {
        meta,
        sha256: sha256.to_owned(),
        written,
        groups,
    })))
}

/// `t COUNT` once, and `e PROVIDER NAME COUNT`, `c COUNT` and `o COUNT` as often as the script had
/// pages. What does not come to the whole count was not seen.
pub(super) fn stored(data: &[&[u8]]) -> Result<Fact<Answer>, Bad> {
    let bad = || Bad("no count of objects");
    let mut stored = Stored::new();
    let mut total = None;
    for line in data {
        let words = words(line)?;
        let (form, count) = match words[..] {
            ["t", count] if total.is_none() => {
                total = Some(number::<u64>(count.as_bytes()).ok_or_else(bad)?);
                continue;
            }
            ["e", provider, name, count] => (StoredForm::Form(key(provider, name)?), count),
            ["c", count] => (StoredForm::Form(Form::Clear), count),
            ["o", count] => (StoredForm::Other, count),
            _ => return Err(bad()),
        };
        let count: u64 = number(count.as_bytes()).ok_or_else(bad)?;
        let sum = stored.entry(form).or_insert(0);
        *sum = sum.checked_add(count).ok_or_else(bad)?;
    }
    let sum = stored
        .values()
        .try_fold(0u64, |sum, count| sum.checked_add(*count));
    if total.is_none() || sum != total {
        return Ok(Fact::Unreadable(
            "not every object that etcd has was looked at".into(),
        ));
    }
    stored.retain(|_, count| *count > 0);
    Ok(Fact::Value(Answer::Stored(stored)))
}

fn key(provider: &str, name: &str) -> Result<Form, Bad> {
    let provider = Provider::named(provider).ok_or(Bad("no provider"))?;
    let name = KeyName::new(name).map_err(|_| Bad("no name of a key"))?;
    Ok(Form::Key { provider, name })
}

/// As Kubernetes writes a resource in an EncryptionConfiguration: `RESOURCE` or `RESOURCE.GROUP`.
fn is_resource(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"*.-".contains(&b);
    (1..=253).contains(&text.len()) && text.bytes().all(good)
}

fn words(line: &[u8]) -> Result<Vec<&str>, Bad> {
    let line = std::str::from_utf8(line).map_err(|_| Bad("no text"))?;
    Ok(line.split(' ').collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn meta() -> Meta {
        Meta {
            kind: FileKind::Regular,
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        }
    }

    fn lines(text: &str) -> Vec<&[u8]> {
        text.lines().map(str::as_bytes).collect()
    }

    #[test]
    fn a_file_is_read_strictly() {
        let sum = "ab".repeat(32);
        let good = format!("h {sum} 17\ng\nr secrets\nk secretbox key1\ni");
        let Ok(Fact::Value(Answer::Encryption(file))) = self::file(meta(), &lines(&good)) else {
            panic!("{:?}", self::file(meta(), &lines(&good)));
        };
        assert_eq!((file.written, file.groups[0].forms.len()), (17, 2));
        for bad in [
            String::new(),
            "g".into(),
            format!("h {sum}"),
            format!("h {sum} -1"),
            format!("h {} 17", &sum[1..]),
            format!("h {sum} 17\nr secrets"),
            format!("h {sum} 17\ng\nr Secrets"),
            format!("h {sum} 17\ng\nr \u{1b}[31m"),
            format!("h {sum} 17\ng\nk rot13 key1"),
            format!("h {sum} 17\ng\nk secretbox a:b"),
            format!("h {sum} 17\ng\nk secretbox {}", "n".repeat(64)),
            format!("h {sum} 17\ng\n"),
            format!("h {sum} 17\nh {sum} 17"),
        ] {
            let bad = match bad.ends_with("g\n") {
                true => bad + "\n",
                false => bad,
            };
            assert!(self::file(meta(), &lines(&bad)).is_err(), "{bad:?}");
        }
        let many = format!("h {sum} 17\ng{}", "\nr secrets".repeat(MAX_ENTRIES));
        let many = self::file(meta(), &lines(&many)).unwrap();
        assert!(matches!(many, Fact::Unreadable(_)));
    }

    #[test]
    fn a_count_must_come_to_the_whole() {
        let stored = |text: &str| self::stored(&lines(text));
        let good = "t 12\nc 3\ne secretbox key1 4\nc 2\no 0\ne secretbox key1 3";
        let Ok(Fact::Value(Answer::Stored(counts))) = stored(good) else {
            panic!("{:?}", stored(good));
        };
        let counts: Vec<u64> = counts.into_values().collect();
        assert_eq!(counts, [5, 7]);
        for short in ["", "c 3", "t 4\nc 3", "t 0\no 1"] {
            assert!(matches!(stored(short), Ok(Fact::Unreadable(_))), "{short}");
        }
        let most = u64::MAX;
        for bad in [
            "t 1\nt 1".to_owned(),
            "t x".into(),
            "t 1\nc".into(),
            "t 1\ne secretbox 1".into(),
            "t 1\nc 01".into(),
            format!("t 1\nc {most}\nc 1"),
        ] {
            assert!(stored(&bad).is_err(), "{bad:?}");
        }
    }
}
