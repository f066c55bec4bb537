use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fact::{File, FileKind, Meta, NodePath, Process, ProgramName, hex};

const NONCE: &str = "c0ffee";

fn path(text: &str) -> NodePath {
    NodePath::new(text).unwrap()
}

fn name(text: &str) -> ProgramName {
    ProgramName::new(text).unwrap()
}

/// A transcript around these lines.
fn framed(lines: &str, count: usize) -> Vec<u8> {
    format!("harden-probe-begin {NONCE}\n{lines}harden-probe-end {NONCE} {count}\n").into_bytes()
}

/// What one query brings when the script answers with these lines.
fn one(query: Query, lines: &str) -> Result<Fact<Answer>, ProbeError> {
    let queries = [query];
    let facts = parse(NONCE, &queries, &framed(lines, 1))?;
    Ok(facts[&queries[0]].clone())
}

fn stat(lines: &str) -> Result<Fact<Answer>, ProbeError> {
    one(Query::Stat(path("/a")), lines)
}

#[test]
fn queries_travel_as_lines() {
    let queries = [
        Query::File(path("/a b/$(c)'\"\\")),
        Query::Process(name("etcd")),
    ];
    assert_eq!(
        String::from_utf8(encode(NONCE, &queries)).unwrap(),
        "harden-probe 1 c0ffee\nfile /a b/$(c)'\"\\\nprocess etcd\nend\n"
    );
}

#[test]
fn the_three_states() {
    assert_eq!(stat("0 absent\n"), Ok(Fact::Absent));
    assert_eq!(
        stat("0 unreadable Permission \x1b[31mdenied\n"),
        Ok(Fact::Unreadable("Permission denied".into()))
    );
    assert_eq!(
        stat("0 value 89ff:12:0:7:root:UNKNOWN\n0 end 0\n"),
        Ok(Fact::Value(Answer::Stat(Meta {
            kind: FileKind::Regular,
            mode: 0o4777,
            owner: "root".into(),
            group: "7".into(),
            size: 12,
        })))
    );
}

#[test]
fn noise_before_is_skipped_and_after_is_refused() {
    let queries = [Query::Stat(path("/a"))];
    let good = framed("0 absent\n", 1);
    let noisy = [
        b"Welcome!\n\xff\xfe\nharden-probe-begin other\n\n",
        &good[..],
    ]
    .concat();
    assert!(parse(NONCE, &queries, &noisy).is_ok());
    for tail in [&b"\n"[..], b"x", b"0 absent\n"] {
        let error = parse(NONCE, &queries, &[&good[..], tail].concat()).unwrap_err();
        assert!(
            matches!(error, ProbeError::Malformed { line: 4, .. }),
            "{error}"
        );
    }
}

#[test]
fn every_cut_is_an_error() {
    let queries = [Query::File(path("/a")), Query::Stat(path("/b"))];
    let whole = framed(
        "0 value 81a4:2:0:0:root:root\n 68 69\n0 end 0\n1 absent\n",
        2,
    );
    assert!(parse(NONCE, &queries, &whole).is_ok());
    for length in 0..whole.len() {
        assert!(
            parse(NONCE, &queries, &whole[..length]).is_err(),
            "{length}"
        );
    }
}

#[test]
fn a_lie_about_the_order_is_refused() {
    for lines in [
        "1 absent\n",
        "00 absent\n",
        "0 absent\n0 absent\n",
        "0 absent\n1 absent\n",
        "0 value 81a4:2:0:0:root:root\n1 end 0\n",
        "0 value 81a4:2:0:0:root:root\n0 end -1\n",
        "0 value 81a4:2:0:0:root:root\n0 end\n",
        "0 value 81a4:2:0:0:root\n0 end 0\n",
        "0 value 81a4:2:0:0:root:root:x\n0 end 0\n",
        "0 value 81a4:+2:0:0:root:root\n0 end 0\n",
        "0 value 81a4:02:0:0:root:root\n0 end 0\n",
        "0 value +1a4:2:0:0:root:root\n0 end 0\n",
        "0 value 81a4:2:x:0:root:root\n0 end 0\n",
        "0 value 81a4:2:0:0:root:root\n 00\n0 end 0\n",
        "0 value\n0 end 0\n",
        "0 valuable\n",
        "0 \n",
        "\n0 absent\n",
    ] {
        assert!(stat(lines).is_err(), "{lines:?}");
    }
    let queries = [Query::Stat(path("/a"))];
    assert!(parse(NONCE, &queries, &framed("0 absent\n", 2)).is_err());
    assert!(parse("other", &queries, &framed("0 absent\n", 1)).is_err());
}

#[test]
fn a_dump_is_strict() {
    let file = |dump: &str| {
        one(
            Query::File(path("/a")),
            &format!("0 value 81a4:1:0:0:root:root\n{dump}0 end 0\n"),
        )
    };
    assert!(file("").is_ok());
    assert!(file(" 00 ff \n").is_ok());
    for bad in [
        "00\n",
        " 0\n",
        " 0g\n",
        " 00  ff\n",
        " FF\n",
        "x 00\n",
        " 000\n",
        "\t00\n",
    ] {
        assert!(file(bad).is_err(), "{bad:?}");
    }
    let kind = one(
        Query::File(path("/a")),
        "0 value 41ed:1:0:0:root:root\n 00\n0 end 0\n",
    );
    assert!(kind.is_err());
}

#[test]
fn a_read_that_fails_halfway_is_unreadable() {
    let fact = one(
        Query::File(path("/a")),
        "0 value 81a4:9:0:0:root:root\n 00\n0 end 1\n",
    );
    assert_eq!(
        fact,
        Ok(Fact::Unreadable("reading it failed halfway".into()))
    );
}

#[test]
fn a_file_that_outgrew_its_size_is_unreadable() {
    let line = format!("{}\n", " 00".repeat(16));
    let lines = line.repeat(MAX_FILE / 16);
    let head = "0 value 81a4:9:0:0:root:root\n";
    let query = || Query::File(path("/a"));
    let exact = one(query(), &format!("{head}{lines}0 end 0\n")).unwrap();
    assert!(matches!(exact, Fact::Value(_)));
    let over = one(query(), &format!("{head}{lines} 00\n0 end 0\n")).unwrap();
    assert!(matches!(over, Fact::Unreadable(why) if why.contains("larger")));
}

#[test]
fn directory_entries() {
    let dir = |lines: &str| {
        one(
            Query::Dir(path("/d")),
            &format!("0 value\n{lines}0 end 0\n"),
        )
    };
    let meta = "81a4:0:0:0:root:root";
    let Ok(Fact::Value(Answer::Dir(entries))) = dir(&format!(
        "p a {meta}\nx 610a62 {meta}\nx ff {meta}\nx c3a4 41ed:0:0:0:domain user:root\n"
    )) else {
        panic!()
    };
    let names: Vec<_> = entries.keys().map(String::as_str).collect();
    assert_eq!(names, ["\\xff", "a", "a\nb", "ä"]);
    assert_eq!(entries["ä"].owner, "domain user");
    assert_eq!(dir(""), Ok(Fact::Value(Answer::Dir(BTreeMap::new()))));
    let alike = dir(&format!("x ff {meta}\nx 5c786666 {meta}\n"));
    assert!(matches!(alike, Ok(Fact::Unreadable(_))));
    for bad in [
        format!("q a {meta}\n"),
        format!("x 6 {meta}\n"),
        format!("x 2f {meta}\n"),
        format!("p .. {meta}\n"),
        format!("p  {meta}\n"),
        "p a\n".into(),
        "p a x\n".into(),
    ] {
        assert!(dir(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn processes_are_judged_by_their_whole_name() {
    let query = || Query::Process(name("kube-controller-manager"));
    let dump = |argv: &str| {
        argv.bytes()
            .map(|b| format!(" {b:02x}"))
            .collect::<String>()
    };
    let good = dump("/usr/bin/kube-controller-manager\0--a=b\0");
    let other = dump("kube-controller-imposter\0");
    let lines = format!("0 value\nt 9 100\n{good}\nt 7 90\n{other}\n0 end 0\n");
    assert_eq!(
        one(query(), &lines),
        Ok(Fact::Value(Answer::Process(vec![Process {
            pid: 9,
            start: 100,
            argv: vec!["/usr/bin/kube-controller-manager".into(), "--a=b".into()],
        }])))
    );
    let none = format!("0 value\nt 7 90\n{other}\n0 end 0\n");
    assert_eq!(one(query(), &none), Ok(Fact::Absent));
    for bad in [
        "t 1\n",
        "t 1 2 3\n",
        "t -1 2\n",
        " 00\n",
        "t 4294967296 1\n",
    ] {
        assert!(
            one(query(), &format!("0 value\n{bad}0 end 0\n")).is_err(),
            "{bad:?}"
        );
    }
    let twice = format!("0 value\nt 9 1\n{good}\nt 9 1\n{good}\n0 end 0\n");
    assert!(one(query(), &twice).is_err());
}

#[test]
fn a_log_loses_its_prefixes_and_escapes() {
    let log = "2026-01-02T03:04:05.6Z stderr F \x1b[31mE0102 bad flag\x1b[0m\r\n\
               2026-01-02T03:04:05.7Z stdout P half \n\
               2026-01-02T03:04:05.8Z stdout F whole\n\
               no prefix\n\
               2026-01-02T03:04:05.9Z stderr F\n";
    assert_eq!(
        container_log(log.as_bytes()),
        "E0102 bad flag\nhalf whole\nno prefix\n\n"
    );
}

#[test]
fn text_is_cleaned() {
    for (dirty, clean) in [
        ("plain ä\t\n", "plain ä\t\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]never ends\nnext", "\nnext"),
        ("\x1bPdcs\x1b\\x", "x"),
        ("\x1b(Bx\x1bcy", "xy"),
        ("\u{9b}31mx\u{9d}0;t\u{9c}y", "xy"),
        ("a\rb\0c\x08d\x7fe", "abcde"),
        ("good\u{202e}daolyap\u{2066}", "gooddaolyap"),
        ("\x1b", ""),
        ("\x1b[", ""),
        ("\x1b[\x1b[31mx", "x"),
    ] {
        assert_eq!(clean_text(dirty), clean, "{dirty:?}");
    }
}

fn any_query() -> impl Strategy<Value = Query> {
    let path = "/[a-zä $'\\\\]{1,8}".prop_map(|p| NodePath::new(p).unwrap());
    let name = "[a-z][a-z0-9-]{0,20}".prop_map(|n| ProgramName::new(n).unwrap());
    (0..7u8, path, name).prop_map(|(kind, path, name)| match kind {
        0 => Query::File(path),
        1 => Query::Stat(path),
        2 => Query::Dir(path),
        3 => Query::Process(name),
        4 => Query::Config(path),
        5 => Query::Unit(name),
        _ => Query::Log(name),
    })
}

/// Writes a file as the script would.
fn transcript_of(content: &[u8], index: usize) -> String {
    let mut lines = format!("{index} value 81a4:{}:0:0:root:root\n", content.len());
    for row in content.chunks(16) {
        for byte in row {
            lines.push_str(&format!(" {byte:02x}"));
        }
        lines.push('\n');
    }
    lines + &format!("{index} end 0\n")
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let config = |lines: &str| {
        one(
            Query::Config(path("/c.yaml")),
            &format!("0 value\n{lines}0 end 0\n"),
        )
    };
    let meta = "81a4:1:0:0:root:root";
    let good = format!("m - {meta}\n 61\nf 612e796d6c {meta}\n");
    let Ok(Fact::Value(Answer::Config(files))) = config(&good) else {
        panic!("{:?}", config(&good))
    };
    let names: Vec<(&str, usize)> = files
        .iter()
        .map(|(name, file)| (name.as_str(), file.content.len()))
        .collect();
    assert_eq!(names, [("", 1), ("a.yml", 0)]);
    assert_eq!(config(""), Ok(Fact::Absent));
    for bad in [
        format!("m x {meta}\n"),
        format!("f - {meta}\n"),
        format!("f 612f62 {meta}\n"),
        format!("x 61 {meta}\n"),
        "f 61\n".to_owned(),
        " 61\n".to_owned(),
        "m - 41ed:1:0:0:root:root\n".to_owned(),
    ] {
        assert!(config(&bad).is_err(), "{bad}");
    }
    let twice = format!("f 61 {meta}\nf 61 {meta}\n");
    assert!(matches!(config(&twice), Ok(Fact::Unreadable(_))));
    let many: String = (0..65)
        .map(|n| format!("f 61{:02x} {meta}\n", n + 48))
        .collect();
    assert!(matches!(config(&many), Ok(Fact::Unreadable(_))));
    let large = format!("m - {meta}\n{}\n", " 61".repeat(MAX_CONFIG + 1));
    assert!(matches!(config(&large), Ok(Fact::Unreadable(_))));
}

#[test]
fn a_unit_is_read_from_what_systemd_says_first() {
    let unit = |text: &str| {
        let dump: String = text.bytes().map(|byte| format!(" {byte:02x}")).collect();
        one(
            Query::Unit(name("k3s")),
            &format!("0 value\n{dump}\n0 end 0\n"),
        )
    };
    let told = |text: &str| match unit(text) {
        Ok(Fact::Value(Answer::Unit(unit))) => unit,
        other => panic!("{other:?}"),
    };
    // A variable of the environment that holds lines cannot say another state.
    let lying = "LoadState=loaded\nActiveState=failed\nMainPID=7\nMainStart=9\nK3S_CONFIG_FILE=/c\nActiveState=active\n";
    let lying = told(lying);
    assert_eq!(
        (lying.active.as_str(), lying.main),
        ("failed", Some((7, 9)))
    );
    assert_eq!(lying.config.as_deref(), Some("/c"));
    let odd = told("LoadState=masked\nMainPID=-1\nNRestarts=99999999999\nExecStart=x\n");
    assert_eq!((odd.main, odd.restarts), (None, u32::MAX));
    assert!(odd.active.is_empty() && odd.options.is_empty() && odd.config.is_none());
    assert_eq!(unit("LoadState=not-found\n"), Ok(Fact::Absent));
    assert_eq!(unit(""), Ok(Fact::Absent));
    let long = format!("LoadState=loaded\n{}", "x".repeat(MAX_UNIT));
    assert!(matches!(unit(&long), Ok(Fact::Unreadable(_))));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        queries in prop::collection::vec(any_query(), 0..4),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = parse(NONCE, &queries, &noise);
    }

    /// Lines that look right get deeper into the parser.
    #[test]
    fn likely_lines_never_panic(
        queries in prop::collection::vec(any_query(), 0..4),
        lines in prop::collection::vec(
            "([0-3] (value|absent|end 0|unreadable x|value 81a4:1:0:0:a:b))|( 0[0-9a-g]){0,3}|[fmptx] [0-9a-f-]{0,4} [0-9:a-f]{0,9}",
            0..12,
        ),
    ) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let _ = parse(NONCE, &queries, &framed(&text, queries.len()));
    }

    #[test]
    fn files_round_trip(contents in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..100), 0..5,
    )) {
        let queries: Vec<_> =
            (0..contents.len()).map(|i| Query::File(path(&format!("/f{i}")))).collect();
        let lines: String =
            contents.iter().enumerate().map(|(i, content)| transcript_of(content, i)).collect();
        let facts = parse(NONCE, &queries, &framed(&lines, queries.len())).unwrap();
        for (query, content) in queries.iter().zip(&contents) {
            let Fact::Value(Answer::File(File { content: got, .. })) = &facts[query] else {
                panic!("no file")
            };
            prop_assert_eq!(hex(got), hex(content));
        }
    }

    #[test]
    fn cleaning_leaves_nothing_to_clean(text in any::<String>(), tail in "[\x1b\\[\\]P0;m\x07\n]{0,20}") {
        let once = clean_text(&(text + &tail));
        prop_assert!(once.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        prop_assert_eq!(clean_text(&once), once);
    }
}
