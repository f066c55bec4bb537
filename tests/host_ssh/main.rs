//! SSH against a real sshd: runs, limits, host keys, logins, tunnels.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harden::host::{Exit, Host, HostError, Limits, Output, Script};

mod server;

use server::{NODE, Server, host, keygen, must, write_program};

fn limits(millis: u64) -> Limits {
    Limits {
        time: Duration::from_millis(millis),
        output: 16 << 20,
    }
}

fn run(host: &mut dyn Host, text: &'static str, stdin: &[u8]) -> Result<Output, HostError> {
    host.run(Script { name: "test", text }, stdin, limits(60_000))
}

/// The server's process at the other end of this connection.
const PEER: &str = "p=$PPID
while ! grep -q '^sshd' /proc/$p/comm; do p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status); done
";

#[test]
fn a_run_brings_output_error_and_status() {
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    let text =
        "cat; printf '%s' \"$0\" 'it'\\''s $HOME' \"$LC_ALL\"; printf 'E\\033[1m!' >&2; exit 3";
    let output = run(&mut *node, text, b"in ").unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "in hardenit's $HOMEC"
    );
    assert_eq!(output.stderr, "E!");
    assert_eq!(output.exit, Exit::Code(3));
    // The same connection serves the next.
    let first = run(&mut *node, "echo again", b"").unwrap();
    assert_eq!(first.exit, Exit::Code(0));
}

#[test]
fn one_connection_serves_many_runs_until_it_is_dropped() {
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    const WHO: &str = "set -- $SSH_CONNECTION; echo $2";
    let first = run(&mut *node, WHO, b"").unwrap().stdout;
    assert_eq!(run(&mut *node, WHO, b"").unwrap().stdout, first);
    node.disconnect();
    let second = run(&mut *node, WHO, b"").unwrap().stdout;
    assert!(!second.is_empty() && second != first);
}

#[test]
fn eight_mebibytes_pass_both_ways_at_once() {
    let server = Server::start(&["ed25519"]);
    let input: Vec<u8> = (0..8u32 << 20).map(|i| (i % 251) as u8).collect();
    let mut node = server.host();
    let output = run(&mut *node, "tee /dev/stderr", &input).unwrap();
    assert!(output.stdout == input, "{} bytes", output.stdout.len());
    assert_eq!(output.exit, Exit::Code(0));
    // Reading nothing until everything has come, and the other way round.
    let late = run(&mut *node, "x=$(cat | wc -c); echo $x", &input).unwrap();
    assert_eq!(late.stdout, b"8388608\n");
    let early = run(
        &mut *node,
        "head -c 8388608 /dev/zero; cat >/dev/null",
        &input,
    )
    .unwrap();
    assert_eq!(early.stdout.len(), 8 << 20);
    let unread = run(&mut *node, "echo done", &input).unwrap();
    assert_eq!(unread.stdout, b"done\n");
}

#[test]
fn a_flood_of_errors_blocks_nothing_and_only_its_end_is_kept() {
    let server = Server::start(&["ed25519"]);
    let text = "head -c 8388608 /dev/zero | tr '\\0' x >&2; echo end >&2; echo out";
    let output = run(&mut *server.host(), text, b"").unwrap();
    assert_eq!(output.stdout, b"out\n");
    assert!(output.stderr.ends_with("xend\n") && output.stderr.len() <= 4096);
}

#[test]
fn a_signal_is_no_success() {
    let server = Server::start(&["ed25519"]);
    let output = run(&mut *server.host(), "kill -9 $$", b"").unwrap();
    // A login shell in between tells it by its own status.
    assert!(
        output.exit == Exit::Signal("KILL".into()) || output.exit == Exit::Code(137),
        "{output:?}"
    );
}

#[test]
fn time_is_bounded_and_the_next_run_works() {
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    let sleep = Script {
        name: "probe",
        text: "echo begun; sleep 60",
    };
    let begin = Instant::now();
    let error = node.run(sleep, b"", limits(1500)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(error.to_string(), "cp1: probe took longer than 1.5s");
    assert_eq!(
        run(&mut *node, "echo again", b"").unwrap().stdout,
        b"again\n"
    );
}

#[test]
fn output_is_bounded() {
    let server = Server::start(&["ed25519"]);
    let few = |output| Limits {
        time: Duration::from_secs(60),
        output,
    };
    let script = |text| Script { name: "test", text };
    let mut node = server.host();
    assert!(node.run(script("printf 1234"), b"", few(4)).is_ok());
    let error = node.run(script("yes"), b"", few(1 << 20)).unwrap_err();
    assert_eq!(error.to_string(), "cp1: test wrote more than 1048576 bytes");
}

#[test]
fn a_connection_cut_in_the_middle_is_an_error_and_the_next_run_connects_again() {
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    let text: &'static str = Box::leak(format!("{PEER}echo begun; kill -9 $p; sleep 5").into());
    let begin = Instant::now();
    let error = run(&mut *node, text, b"").unwrap_err();
    assert!(matches!(error, HostError::Broken { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(
        run(&mut *node, "echo again", b"").unwrap().stdout,
        b"again\n"
    );
}

#[test]
fn a_connection_that_died_between_two_runs_is_made_anew() {
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    let text: &'static str = Box::leak(format!("{PEER}echo $p").into());
    let peer = String::from_utf8(run(&mut *node, text, b"").unwrap().stdout).unwrap();
    must("kill", &["-9", peer.trim()]);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(
        run(&mut *node, "echo again", b"").unwrap().stdout,
        b"again\n"
    );
}

#[test]
fn nothing_listens() {
    let server = Server::start(&["ed25519"]);
    let mut config = server.config();
    drop(server);
    config.known_hosts.clear();
    let error = run(&mut *host(config.clone()), ":", b"").unwrap_err();
    assert!(matches!(error, HostError::Unreachable { .. }), "{error:?}");
    assert!(host(config).tunnel(1).is_err());
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start(&["ed25519"]);
    let mut config = server.config();
    config.port = listener.local_addr().unwrap().port();
    let begin = Instant::now();
    let script = Script {
        name: "test",
        text: ":",
    };
    let error = host(config).run(script, b"", limits(800)).unwrap_err();
    assert!(matches!(error, HostError::Unreachable { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

/// The error of a host key, which comes before any login.
fn host_key_error(server: &Server, known_hosts: &str) -> (String, String) {
    fs::write(server.at("known_hosts"), known_hosts).unwrap();
    match run(&mut *server.host(), ":", b"") {
        Err(HostError::HostKey { why, remedy, .. }) => (why, remedy),
        other => panic!("{other:?}"),
    }
}

#[test]
fn host_keys_are_judged_before_anybody_logs_in() {
    let server = Server::start(&["ed25519"]);
    let key = server.host_key("ed25519");
    let print = must(
        "ssh-keygen",
        &["-lf", server.at("host_ed25519.pub").to_str().unwrap()],
    );
    let print = print.split(' ').nth(1).unwrap();
    // The wrong login key would be told first if anybody logged in.
    fs::remove_file(server.at("user")).unwrap();

    let (why, remedy) = host_key_error(&server, "");
    assert!(why.contains(print) && why.contains("is unknown"), "{why}");
    assert!(remedy.ends_with(&format!("{NODE} {key}")), "{remedy}");
    assert!(remedy.contains("ssh_host_ed25519_key.pub"), "{remedy}");

    // An address proves nothing.
    let (why, _) = host_key_error(
        &server,
        &format!("127.0.0.1,[127.0.0.1]:{} {key}\n", server.port),
    );
    assert!(why.contains("is unknown"), "{why}");

    keygen(&server.at("other"), "ed25519", "");
    let other = fs::read_to_string(server.at("other.pub")).unwrap();
    let (why, remedy) = host_key_error(&server, &format!("# c\n{NODE} {other}"));
    assert!(
        why.contains(print) && why.contains("known_hosts:2"),
        "{why}"
    );
    assert!(remedy.contains("somebody may stand between"), "{remedy}");

    let (why, _) = host_key_error(&server, &format!("{NODE} {key}\n@revoked * {key}\n"));
    assert!(
        why.contains("is revoked in") && why.contains("known_hosts:2"),
        "{why}"
    );

    let (why, _) = host_key_error(&server, &format!("@cert-authority {NODE} {key}\n"));
    assert!(why.contains("certificates are not supported"), "{why}");

    let (why, _) = host_key_error(
        &server,
        &format!("@revoked {NODE} ssh-ed25519 ?\n{NODE} {key}\n"),
    );
    assert!(why.contains("not base64"), "{why}");

    // The line that the remedy gives is enough.
    let (_, remedy) = host_key_error(&server, "");
    let line = remedy.rsplit_once(": ").unwrap().1;
    fs::write(server.at("known_hosts"), line).unwrap();
    let error = run(&mut *server.host(), ":", b"").unwrap_err();
    assert!(matches!(error, HostError::Login { .. }), "{error:?}");
}

#[test]
fn the_known_one_of_several_host_keys_is_asked_for() {
    let kinds = ["ed25519", "ecdsa", "rsa"];
    let server = Server::start(&kinds);
    for kind in kinds {
        server.make_known(&[kind]);
        let output = run(&mut *server.host(), "echo in", b"").unwrap();
        assert_eq!(output.stdout, b"in\n", "{kind}");
    }
}

#[test]
fn a_key_of_another_type_than_the_known_one_is_unknown() {
    let server = Server::start(&["ecdsa"]);
    keygen(&server.at("other"), "ed25519", "");
    let other = fs::read_to_string(server.at("other.pub")).unwrap();
    let (why, remedy) = host_key_error(&server, &format!("{NODE} {other}"));
    assert!(why.contains("it is known by ssh-ed25519"), "{why}");
    assert!(remedy.contains("ssh_host_ecdsa_key.pub"), "{remedy}");
}

/// The error of a login.
fn login_error(node: &mut dyn Host) -> (String, String) {
    match run(node, ":", b"") {
        Err(HostError::Login { why, remedy, .. }) => (why, remedy),
        other => panic!("{other:?}"),
    }
}

#[test]
fn key_files_of_every_type_log_in() {
    let server = Server::start(&["ed25519"]);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let mut config = server.config();
        let file = server.at(&format!("of_{kind}"));
        keygen(&file, kind, "");
        fs::copy(
            server.at(&format!("of_{kind}.pub")),
            server.at("authorized_keys"),
        )
        .unwrap();
        config.identity = Some(file.clone());
        assert!(run(&mut *host(config.clone()), ":", b"").is_ok(), "{kind}");
        // The same key as PEM.
        if kind != "ed25519" {
            must(
                "ssh-keygen",
                &[
                    "-q",
                    "-p",
                    "-m",
                    "PEM",
                    "-N",
                    "",
                    "-f",
                    file.to_str().unwrap(),
                ],
            );
            assert!(run(&mut *host(config), ":", b"").is_ok(), "{kind} as PEM");
        }
    }
}

#[test]
fn logins_that_fail_say_why() {
    let server = Server::start(&["ed25519"]);
    let with = |name: &str| {
        let mut config = server.config();
        config.identity = Some(server.at(name));
        host(config)
    };
    keygen(&server.at("wrong"), "ed25519", "");
    let (why, remedy) = login_error(&mut *with("wrong"));
    assert!(why.contains("wrong was not accepted"), "{why}");
    assert!(remedy.contains("authorized_keys"), "{remedy}");

    let (why, _) = login_error(&mut *with("missing"));
    assert!(why.contains("cannot read the key"), "{why}");

    fs::write(server.at("rubbish"), "-----BEGIN RUBBISH-----\n").unwrap();
    let (why, _) = login_error(&mut *with("rubbish"));
    assert!(why.contains("rubbish"), "{why}");

    for (name, kind, format) in [
        ("locked", "ed25519", "RFC4716"),
        ("locked_pem", "rsa", "PEM"),
        ("locked_pkcs8", "rsa", "PKCS8"),
    ] {
        let file = server.at(name);
        let path = file.to_str().unwrap();
        must(
            "ssh-keygen",
            &["-q", "-t", kind, "-m", format, "-N", "secret", "-f", path],
        );
        for public in [true, false] {
            if !public {
                fs::remove_file(server.at(&format!("{name}.pub"))).unwrap();
            }
            let (why, remedy) = login_error(&mut *with(name));
            assert!(why.contains("passphrase"), "{name}: {why}");
            assert!(remedy.contains(&format!("ssh-add {path}")), "{remedy}");
        }
    }
}

/// An ssh-agent of our own.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_agent_logs_in() {
    let server = Server::start(&["ed25519"]);
    let socket = server.at("agent");
    let agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Agent(agent);
    let end = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < end, "ssh-agent does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    // The environment of this process is shared, so a process of its own asks the agent.
    let child = |identity: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "asks_the_agent", "--ignored", "--nocapture"])
            .env("SSH_AUTH_SOCK", &socket)
            .env("TEST_DIR", server.dir.path())
            .env("TEST_PORT", server.port.to_string())
            .env("TEST_IDENTITY", identity)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let add = |name: &str| {
        let output = Command::new("ssh-add")
            .arg("-q")
            .arg(server.at(name))
            .env("SSH_AUTH_SOCK", &socket)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    assert!(child("").contains("ssh-agent holds no key"));
    keygen(&server.at("wrong"), "rsa", "");
    add("wrong");
    assert!(child("").contains("none of 1 keys"));
    add("user");
    assert!(child("").contains("answer: in"), "{}", child(""));
    // A public key picks one of the agent's.
    assert!(child("user.pub").contains("answer: in"));
    assert!(child("wrong.pub").contains("none of 1 keys"));
    // So does the public half of a key whose file is locked.
    let path = server.at("user");
    must(
        "ssh-keygen",
        &[
            "-q",
            "-p",
            "-P",
            "",
            "-N",
            "secret",
            "-f",
            path.to_str().unwrap(),
        ],
    );
    assert!(child("user").contains("answer: in"));
    drop(_agent);
    assert!(child("").contains("ssh-agent does not answer"));
}

#[test]
#[ignore = "run by the_agent_logs_in"]
fn asks_the_agent() {
    let Ok(dir) = std::env::var("TEST_DIR") else {
        return;
    };
    let at = |name: &str| std::path::Path::new(&dir).join(name);
    let identity = std::env::var("TEST_IDENTITY").unwrap();
    let mut node = host(harden::host::ssh::SshConfig {
        address: "127.0.0.1".into(),
        port: std::env::var("TEST_PORT").unwrap().parse().unwrap(),
        user: must("id", &["-un"]).trim().into(),
        sudo: false,
        identity: (!identity.is_empty()).then(|| at(&identity)),
        known_hosts: vec![at("known_hosts")],
    });
    match run(&mut *node, "echo in", b"") {
        Ok(output) => println!("answer: {}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => println!("error: {error}"),
    }
}

#[test]
fn sudo_is_used_and_its_refusal_told() {
    let server = Server::start(&["ed25519"]);
    let mut config = server.config();
    config.sudo = true;
    let mut node = host(config);
    let output = run(&mut *node, "echo $SUDO; exit 1", b"").unwrap();
    assert_eq!(output.stdout, b"yes\n");
    assert_eq!(output.exit, Exit::Code(1));
    let sudo = server.at("bin/sudo");
    write_program(
        &sudo,
        "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n",
    );
    match run(&mut *node, "echo in", b"x") {
        Err(HostError::Become { why, remedy, .. }) => {
            assert_eq!(why, "sudo: a password is required");
            assert!(remedy.contains("NOPASSWD"), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
    write_program(
        &sudo,
        "#!/bin/sh\nshift\necho \"Sorry, user ops is not allowed to execute '$*' as root on n.\" >&2\nexit 1\n",
    );
    let long: &'static str = Box::leak(format!("# {}\necho in", "x".repeat(9000)).into());
    assert!(matches!(
        run(&mut *node, long, b""),
        Err(HostError::Become { .. })
    ));
}

#[test]
fn a_script_too_long_for_a_packet_is_refused_before_it_is_sent() {
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    let fits: &'static str = Box::leak(format!("#{}\necho in", "x".repeat(31 << 10)).into());
    assert_eq!(run(&mut *node, fits, b"").unwrap().stdout, b"in\n");
    let long: &'static str = Box::leak("x".repeat(33 << 10).into());
    let error = run(&mut *node, long, b"").unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

/// Serves each connection by a function, for ever.
fn serve(each: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let each = each.clone();
            thread::spawn(move || each(connection.unwrap()));
        }
    });
    port
}

#[test]
fn a_tunnel_carries_both_ways() {
    let echo = serve(|mut connection| {
        let mut to = connection.try_clone().unwrap();
        let _ = std::io::copy(&mut connection, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let server = Server::start(&["ed25519"]);
    let mut node = server.host();
    let tunnel = node.tunnel(echo).unwrap();
    let input: Vec<u8> = (0..8u32 << 20).map(|i| (i % 249) as u8).collect();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (input, address) = (input.clone(), tunnel.local);
            thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                let mut sender = client.try_clone().unwrap();
                let sent = input.clone();
                let writer = thread::spawn(move || {
                    sender.write_all(&sent).unwrap();
                    sender.shutdown(Shutdown::Write).unwrap();
                });
                let mut back = Vec::new();
                client.read_to_end(&mut back).unwrap();
                writer.join().unwrap();
                assert!(back == input, "{} bytes", back.len());
            })
        })
        .collect();
    // A run in between waits for none of them.
    let begin = Instant::now();
    assert_eq!(run(&mut *node, "echo in", b"").unwrap().stdout, b"in\n");
    assert!(begin.elapsed() < Duration::from_secs(5));
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_tunnel_lets_one_side_end_first() {
    // The answer comes only after the question has ended.
    let port = serve(|mut connection| {
        let mut question = Vec::new();
        connection.read_to_end(&mut question).unwrap();
        thread::sleep(Duration::from_millis(300));
        connection
            .write_all(format!("{} bytes", question.len()).as_bytes())
            .unwrap();
    });
    let server = Server::start(&["ed25519"]);
    let tunnel = server.host().tunnel(port).unwrap();
    let mut client = TcpStream::connect(tunnel.local).unwrap();
    client.write_all(&[7; 100_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000 bytes");
    // The server closes at once.
    let port = serve(|mut connection| connection.write_all(b"bye").unwrap());
    let tunnel = server.host().tunnel(port).unwrap();
    let mut client = TcpStream::connect(tunnel.local).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "bye");
}

#[test]
fn a_tunnel_to_nothing_closes_the_connection() {
    let server = Server::start(&["ed25519"]);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let tunnel = server.host().tunnel(free).unwrap();
    let mut client = TcpStream::connect(tunnel.local).unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_dropped_tunnel_ends_its_connections_and_its_port() {
    let port = serve(|mut connection| {
        let _ = connection.read(&mut [0; 1]);
        thread::sleep(Duration::from_secs(60));
    });
    let server = Server::start(&["ed25519"]);
    let tunnel = server.host().tunnel(port).unwrap();
    let mut client = TcpStream::connect(tunnel.local).unwrap();
    client.write_all(b"x").unwrap();
    let address = tunnel.local;
    drop(tunnel);
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    thread::sleep(Duration::from_millis(500));
    assert!(TcpStream::connect(address).is_err());
}
