//! Command lines as keyed sets of flags.
//!
//! The grammar is that of pflag, which every Kubernetes component uses (github.com/spf13/pflag
//! flag.go: `parseArgs`, `parseLongArg`, `parseShortArg`). etcd uses Go's own package `flag`, where a
//! name may follow one dash or two (etcd v3.6 server/etcdmain/config.go: `newConfig`).

use crate::distribution::Component;

/// One flag on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Without dashes, as written.
    pub name: String,
    /// What follows the `=`, the next word, or `true` for a bare flag.
    pub value: String,
    /// Which word it starts at.
    pub at: usize,
    /// How many words it takes: one or two.
    pub words: usize,
}

/// Whether two names are the same flag: the components take `_` for `-` (kubernetes v1.35
/// staging/src/k8s.io/component-base/cli/flag/flags.go: `WordSepNormalizeFunc`).
pub fn same_name(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(a, b)| a == b || matches!((a, b), (b'_', b'-') | (b'-', b'_')))
}

/// Returns the flag as one word of a command line.
pub fn word(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

/// Lists the flags of a command line, program first, in their order.
///
/// `--a=b`, `--a b`, bare `--a` and the short `-v=2`, `-v 2` and `-v2` are understood. Whether the
/// word after a bare flag is its value cannot be known without the component's own list of flags;
/// components take no other words, so a word that does not look like a flag is taken for the value.
pub fn flags(argv: &[String]) -> Vec<Given> {
    let mut found = Vec::new();
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let has_short = program.rsplit('/').next() != Some(Component::Etcd.name());
    let mut at = 1;
    while at < argv.len() {
        let (dashes, rest) = match argv[at].as_str() {
            // What follows is no flag any more.
            "--" => break,
            word if word.starts_with("--") => (2, &word[2..]),
            word if word.starts_with('-') && word.len() > 1 => {
                (if has_short { 1 } else { 2 }, &word[1..])
            }
            _ => {
                at += 1;
                continue;
            }
        };
        let (name, value) = if dashes == 2 {
            match rest.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (rest, None),
            }
        } else {
            let end = rest.chars().next().map_or(0, char::len_utf8);
            let (name, value) = rest.split_at(end);
            let value = value.strip_prefix('=').unwrap_or(value);
            (name, (rest.len() > end).then_some(value))
        };
        let next = argv.get(at + 1).filter(|word| is_value(word));
        let (value, words) = match (value, next) {
            (Some(value), _) => (value.to_owned(), 1),
            (None, Some(next)) => (next.clone(), 2),
            (None, None) => ("true".to_owned(), 1),
        };
        found.push(Given {
            name: name.to_owned(),
            value,
            at,
            words,
        });
        at += words;
    }
    found
}

fn is_value(word: &str) -> bool {
    match word.strip_prefix('-') {
        None => true,
        Some(rest) => rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()),
    }
}

/// Returns the values that a command line gives to a flag, in their order.
pub fn values(argv: &[String], name: &str) -> Vec<String> {
    flags(argv)
        .into_iter()
        .filter(|flag| same_name(&flag.name, name))
        .map(|flag| flag.value)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &str) -> Vec<String> {
        words.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_form_of_a_flag_is_understood() {
        let argv = argv("kube-apiserver --a=b --c d --e --f=g=h -v=2 -v 3 -v4 --log - --n -1 --z=");
        let found: Vec<(String, String)> = flags(&argv)
            .into_iter()
            .map(|f| (f.name, f.value))
            .collect();
        let pairs = [
            ("a", "b"),
            ("c", "d"),
            ("e", "true"),
            ("f", "g=h"),
            ("v", "2"),
            ("v", "3"),
            ("v", "4"),
            ("log", "-"),
            ("n", "-1"),
            ("z", ""),
        ];
        assert_eq!(
            found,
            pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec()
        );
    }

    #[test]
    fn a_flag_of_etcd_may_have_one_dash() {
        let argv = argv("/usr/local/bin/etcd -auto-tls -cert-file=a --key-file b");
        assert_eq!(values(&argv, "auto-tls"), ["true"]);
        assert_eq!(values(&argv, "cert-file"), ["a"]);
        assert_eq!(values(&argv, "key-file"), ["b"]);
    }

    #[test]
    fn underscores_are_dashes() {
        assert_eq!(
            values(&argv("p --audit_log_path=x"), "audit-log-path"),
            ["x"]
        );
        assert!(!same_name("a-b", "a-c"));
    }

    #[test]
    fn nothing_after_two_dashes_is_a_flag() {
        assert!(values(&argv("p -- --a=b"), "a").is_empty());
        assert!(flags(&[]).is_empty());
    }
}
