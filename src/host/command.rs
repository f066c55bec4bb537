//! The command that runs a script, and how it fails before the script begins.

use super::{Exit, HostError, Output, Script};

/// Quotes a text for a POSIX shell: it stays one word, and nothing in it is expanded.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns a script's text as it is sent: without indentation and without lines that only comment, but
/// for the first, by which sudo's log names the script. SSH carries a command in one packet of 32 KiB.
///
/// It must do the same without them: no quoted text of it and no here-document may have such lines.
pub fn sent(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim_start_matches(' '));
    let kept = lines.enumerate().filter(|(number, line)| {
        let comment = line.starts_with('#');
        *number == 0 || !comment
    });
    let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
    kept.join("\n")
}

/// The words that run a script.
///
/// The text is a constant, so these words hold nothing that a profile or a node chose. The C locale
/// makes sudo's messages those that [`check_sudo`] knows, and bytes the characters of scripts.
pub(super) fn words(script: Script, sudo: bool) -> Vec<String> {
    let mut words = vec!["env", "LC_ALL=C"];
    if sudo {
        words.extend(["sudo", "-n"]);
    }
    let text = sent(script.text);
    words.extend(["sh", "-c", &text, "harden"]);
    words.into_iter().map(str::to_owned).collect()
}

/// The same as one line for the user's login shell at the other end.
pub(super) fn line(script: Script, sudo: bool) -> String {
    let words = words(script, sudo);
    let quoted: Vec<_> = words
        .into_iter()
        .map(|word| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=');
            if word.chars().all(plain) {
                word
            } else {
                quote(&word)
            }
        })
        .collect();
    quoted.join(" ")
}

/// Tells a refusal of sudo from a script that failed: sudo writes nothing to stdout.
pub(super) fn check_sudo(
    node: &str,
    user: &str,
    output: &Output,
    beginning: &str,
) -> Result<(), HostError> {
    if !output.stdout.is_empty() || !matches!(output.exit, Exit::Code(1 | 127)) {
        return Ok(());
    }
    // `env` names a missing program in its own words.
    let refusals = [
        "sudo: ",
        "is not in the sudoers file",
        "is not allowed to execute",
        "is not allowed to run sudo",
        "may not run sudo",
        "‘sudo’: No such file",
        "'sudo': No such file",
    ];
    let refused = |line: &&str| {
        let line = line.trim();
        line.starts_with("sudo: ") || refusals[1..].iter().any(|words| line.contains(words))
    };
    let Some(why) = beginning.lines().find(refused) else {
        return Ok(());
    };
    let missing = why.contains("No such file");
    let remedy = if missing {
        "install sudo on the node, or log in as root with `become = \"none\"` under [nodes]"
            .to_owned()
    } else {
        format!(
            "put the line `{user} ALL=(root) NOPASSWD: ALL` into /etc/sudoers.d/harden on the node \
             (with `visudo -f`), or log in as root with `become = \"none\"` under [nodes]"
        )
    };
    Err(HostError::Become {
        node: node.to_owned(),
        why: why.trim().chars().take(200).collect(),
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn output(stdout: &str, code: i32) -> Output {
        Output {
            stdout: stdout.into(),
            stderr: String::new(),
            exit: Exit::Code(code),
        }
    }

    #[test]
    fn refusals_of_sudo_are_told_from_failing_scripts() {
        for why in [
            "sudo: a password is required",
            "sudo: sorry, you must have a tty to run sudo",
            "ops is not in the sudoers file.  This incident will be reported.",
            "ops is not in the sudoers file.",
            "Sorry, user ops is not allowed to execute '/bin/sh -c # the probe",
            "Sorry, user ops may not run sudo on cp1.",
            "env: ‘sudo’: No such file or directory",
            "env: can't execute 'sudo': No such file or directory",
            "banner\nsudo: a password is required",
        ] {
            let code = if why.starts_with("env") { 127 } else { 1 };
            let error = check_sudo("cp1", "ops", &output("", code), why).unwrap_err();
            assert!(matches!(error, HostError::Become { .. }), "{why}");
        }
        for (stdout, code, why) in [
            ("", 0, "sudo: unable to resolve host cp1"),
            ("", 1, "sh: 1: x: not found"),
            ("begun", 1, "sudo: a password is required"),
            ("", 3, "sudo: a password is required"),
        ] {
            assert_eq!(check_sudo("cp1", "ops", &output(stdout, code), why), Ok(()));
        }
    }

    #[test]
    fn a_line_is_read_back_as_its_words() {
        let script = Script {
            name: "test",
            text: "printf '%s|' \"$0\" 'it''s' \\\\ \"$LC_ALL\" # $(x) `y` !",
        };
        let ran = Command::new("sh")
            .args(["-c", &line(script, false)])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), "harden|its|\\|C|");
        assert!(line(script, true).starts_with("env LC_ALL=C sudo -n sh -c '"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_quoted_text_survives_every_shell(
            text in "([^\0]|['\"\\\\$`!\n*~ ]){0,40}",
        ) {
            for shell in ["sh", "bash"] {
                let ran = Command::new(shell)
                    .args(["-c", &format!("printf %s {}", quote(&text))])
                    .output()
                    .unwrap();
                prop_assert_eq!(ran.stdout, text.as_bytes());
            }
        }
    }
}
