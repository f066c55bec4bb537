#![allow(clippy::unwrap_used)]

use super::*;

fn told(texts: &[&str]) -> Told {
    Told::of(&Warnings {
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        complete: true,
    })
}

const LISTED: &str = r#"existing pods in namespace "x" violate the new PodSecurity enforce level "restricted:latest""#;

#[test]
fn a_list_of_pods_is_read_and_what_others_warn_of_is_not() {
    let told = told(&[
        "a webhook: warns of something",
        "web-0: comes before the list, and so is not of it",
        LISTED,
        "web-1: host namespaces (hostNetwork=true)",
        r#"a.b-2 (and 1 other pod): privileged (container "c" must not set it)"#,
        "c (and 12 other pods): x",
        "Deprecated (and 1 other pod): no name of a pod",
        "some other webhook warns of something",
    ]);
    let pods = [("web-1", 1), ("a.b-2", 2), ("c", 13)];
    assert_eq!(
        told.pods,
        pods.map(|(name, count)| (name.to_owned(), count))
    );
    assert_eq!(told.untold, None);
}

#[test]
fn what_hides_pods_is_told() {
    let long = format!("{} (and 4 oth", "a".repeat(245));
    let cases: &[(&[&str], usize, &str)] = &[
        (
            &["failed to list pods while checking new PodSecurity enforce level"],
            0,
            "failed to list pods",
        ),
        (
            &[
                "new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods",
            ],
            0,
            "the first 3000 of 3001",
        ),
        (
            &[
                "new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods",
                LISTED,
                "a: x",
            ],
            1,
            "the first 3000 of 3001",
        ),
        (
            &[
                r#"namespace "x" is exempt from Pod Security, and the policy (enforce=baseline:latest) will be ignored"#,
            ],
            0,
            "exempts it today",
        ),
        (&[LISTED], 0, "names are not understood"),
        (&[LISTED, "UPPER: x"], 0, "names are not understood"),
        // Words that a later version may find.
        (
            &["3 pods break the PodSecurity level baseline"],
            0,
            "3 pods break",
        ),
    ];
    for (texts, count, why) in cases {
        let told = told(texts);
        assert_eq!(told.pods.len(), *count, "{texts:?}");
        assert!(told.untold.as_ref().unwrap().contains(why), "{told:?}");
    }
    // A line that is cut within its name's count still is a pod.
    assert_eq!(told(&[LISTED, &long]).pods, [("a".repeat(245), 1)]);
    let short = Told::of(&Warnings::default());
    assert!(short.untold.is_some(), "headers that cannot be read");
}

#[test]
fn of_many_names_and_reasons_few_are_kept() {
    let mut below = PodsBelow::default();
    for n in 0..200 {
        below.add(
            &format!("n{n}"),
            Told {
                pods: vec![("a".into(), 3), ("b".into(), usize::MAX / 4)],
                untold: Some("é".repeat(5000)),
            },
        );
    }
    assert_eq!((below.asked, below.untold), (200, 200));
    assert_eq!(below.count, usize::MAX);
    assert_eq!(
        (below.names.len(), below.reasons.len()),
        (MAX_NAMED, MAX_NAMED)
    );
    assert_eq!(below.names[..3], ["n0/a", "n0/b", "n1/a"]);
    assert!(below.reasons[0].chars().count() <= MAX_REASON + 4);
}

#[test]
fn a_namespace_keeps_what_it_says_of_itself() {
    let level = |version: &str| PodLevel {
        level: "baseline".into(),
        version: version.into(),
        exempt: ["kube-system".to_owned()].into(),
    };
    let version = |wanted: &str, own: &[(&str, &str)]| {
        let own = own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels = level(wanted).labels_to_try("shop", &own.collect())?;
        assert_eq!(labels[ENFORCE_LABEL], "baseline");
        Some(labels[ENFORCE_VERSION_LABEL].clone())
    };
    // The newest one by another name, so that the server looks at the pods whatever its default is.
    assert_eq!(version("latest", &[]).unwrap(), BEYOND_LATEST);
    assert_eq!(version("v1.30", &[]).unwrap(), "v1.30");
    assert_eq!(
        version("v1.99999999999999999999", &[]).unwrap(),
        BEYOND_LATEST
    );
    assert_eq!(
        version("latest", &[(ENFORCE_VERSION_LABEL, "v1.25")]).unwrap(),
        "v1.25"
    );
    for unreadable in ["latest", "1.25", "v1.", "v1.025", "v2.1", "x"] {
        let own = [(ENFORCE_VERSION_LABEL, unreadable)];
        assert_eq!(
            version("v1.30", &own).unwrap(),
            BEYOND_LATEST,
            "{unreadable}"
        );
    }
    for own in ["privileged", "restricted", "unreadable"] {
        assert_eq!(version("latest", &[(ENFORCE_LABEL, own)]), None, "{own}");
    }
    assert_eq!(
        level("latest").labels_to_try("kube-system", &BTreeMap::new()),
        None
    );
    assert_eq!(level("latest").to_string(), "baseline");
    assert_eq!(level("v1.30").to_string(), "baseline of v1.30");
}

/// Whatever a server warns of: nothing panics, names are names, and a good answer has no list.
#[test]
fn warnings_of_any_kind_are_judged() {
    const WORDS: &[&str] = &[
        LISTED,
        "web-1",
        ": ",
        " (and ",
        "2 other pods)",
        "1 other pod)",
        "99999999999999999999",
        "new PodSecurity enforce level only checked against the first 1 of 2 existing pods",
        "failed to list pods while checking new PodSecurity enforce level",
        "is exempt from Pod Security",
        "é",
        " ",
    ];
    bolero::check!()
        .with_iterations(2000)
        .with_max_len(48)
        .for_each(|bytes: &[u8]| {
            let texts: Vec<String> = bytes
                .split(|b| *b == 0)
                .map(|line| {
                    let words = line.iter().map(|b| WORDS[usize::from(*b) % WORDS.len()]);
                    words.collect()
                })
                .collect();
            let told = Told::of(&Warnings {
                texts: texts.clone(),
                complete: true,
            });
            for (name, count) in &told.pods {
                assert!(is_dns_name(name) && *count > 0, "{name:?} {count}");
            }
            let is_list = |text: &String| text.starts_with(LISTED);
            let is_good = told.pods.is_empty() && told.untold.is_none();
            assert!(!is_good || !texts.iter().any(is_list), "{texts:?}");
        });
}
