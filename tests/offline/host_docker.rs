//! Containers as nodes, against an engine that runs what it is told on this machine.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harden::host::{Exit, Host, HostConfig, HostError, Limits, Output, Script, Transport, open};

/// Takes the arguments of `docker exec` apart and runs the rest here.
const ENGINE: &str = r#"#!/bin/sh
[ "$1 $2 $3 $4 $5" = "exec --interactive --user 0 cp1" ] || { echo "Error: $*" >&2; exit 125; }
shift 5
exec "$@"
"#;

fn engine(dir: &Path, text: &str) -> String {
    let path = dir.join("engine").to_str().unwrap().to_owned();
    // Another process writes it: what this one writes, a child of another test may still hold open
    // for writing, and then it cannot be started.
    let write = "rm -f \"$1\"; printf %s \"$2\" >\"$1\"; chmod 755 \"$1\"";
    let wrote = Command::new("sh")
        .args(["-c", write, "sh", &path, text])
        .status();
    assert!(wrote.unwrap().success());
    path
}

fn node(name: &str, engine: &str) -> Box<dyn Host> {
    open(HostConfig {
        name: name.into(),
        transport: Transport::Docker {
            engine: engine.into(),
        },
        connect_timeout: Duration::from_secs(20),
    })
}

fn run(host: &mut dyn Host, text: &'static str, stdin: &[u8]) -> Result<Output, HostError> {
    host.run(Script { name: "test", text }, stdin, Limits::default())
}

#[test]
fn a_script_runs_in_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node("cp1", &engine(dir.path(), ENGINE));
    let text = "cat; printf '%s' \"$0\" \"$LC_ALL\"; echo E >&2; exit 4";
    let output = run(&mut *node, text, b"in ").unwrap();
    assert_eq!(output.stdout, b"in hardenC");
    assert_eq!(output.stderr, "E\n");
    assert_eq!(output.exit, Exit::Code(4));
    // A script may use the engine's words once it runs.
    let output = run(
        &mut *node,
        "echo begun; echo 'Error: no such container' >&2; exit 1",
        b"",
    );
    assert_eq!(output.unwrap().exit, Exit::Code(1));
}

#[test]
fn names_that_could_be_options_are_refused() {
    for name in ["-it", "--privileged", "", ".x", "a b", "a/b", "a;b", "ä"] {
        let error = run(&mut *node(name, "true"), ":", b"").unwrap_err();
        assert!(
            error.to_string().contains("is no name of a container"),
            "{error}"
        );
    }
}

#[test]
fn the_engines_errors_are_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (says, status, remedy) in [
        (
            "Error response from daemon: No such container: cp1",
            1,
            "ps --all",
        ),
        ("Error: No such container: cp1", 1, "ps --all"),
        (
            "Error: no container with name or ID \\\"cp1\\\" found: no such container",
            125,
            "ps --all",
        ),
        (
            "Error response from daemon: container 0f is not running",
            1,
            "start cp1",
        ),
        (
            "Error: can only create exec sessions on running containers",
            255,
            "start cp1",
        ),
        (
            "Error response from daemon: Container 0f is paused, unpause the container before exec",
            1,
            "unpause cp1",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
            1,
            "start the",
        ),
        (
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \\\"env\\\": executable file not found in $PATH: unknown",
            126,
            "needs `sh`",
        ),
    ] {
        let text = format!("#!/bin/sh\necho \"{says}\" >&2\nexit {status}\n");
        let mut node = node("cp1", &engine(dir.path(), &text));
        match run(&mut *node, ":", b"x") {
            Err(HostError::Unreachable { remedy: got, .. }) => {
                assert!(got.contains(remedy), "{says}: {got}");
            }
            other => panic!("{says}: {other:?}"),
        }
        assert!(node.tunnel(1).is_err(), "{says}");
    }
    // Podman does not say why it does not run.
    let paused = "#!/bin/sh\n[ \"$1\" = inspect ] && { echo paused; exit; }\n\
                  echo 'Error: can only create exec sessions on running containers' >&2; exit 255\n";
    let error = run(&mut *node("cp1", &engine(dir.path(), paused)), ":", b"x").unwrap_err();
    assert!(error.remedy().contains("unpause cp1"), "{}", error.remedy());
    let error = run(&mut *node("cp1", "/nonexistent/engine"), ":", b"").unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert!(!error.remedy().is_empty());
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
fn a_tunnel_carries_both_ways_and_ends_when_the_server_does() {
    // Reads a length, then echoes that many bytes and closes.
    let port = serve(|mut connection| {
        let mut length = [0; 4];
        connection.read_exact(&mut length).unwrap();
        let mut rest = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut rest).unwrap();
        connection.write_all(&rest).unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let tunnel = node("cp1", &engine(dir.path(), ENGINE))
        .tunnel(port)
        .unwrap();
    for size in [0_u32, 1, 4 << 20] {
        let mut client = TcpStream::connect(tunnel.local).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let sent: Vec<u8> = (0..size).map(|i| (i % 247) as u8).collect();
        client.write_all(&size.to_be_bytes()).unwrap();
        client.write_all(&sent).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == sent, "{size}: {} bytes", back.len());
    }
}

#[test]
fn a_tunnel_lets_the_client_end_first() {
    let port = serve(|mut connection| {
        let mut question = Vec::new();
        connection.read_to_end(&mut question).unwrap();
        connection
            .write_all(format!("{} bytes", question.len()).as_bytes())
            .unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let tunnel = node("cp1", &engine(dir.path(), ENGINE))
        .tunnel(port)
        .unwrap();
    let mut client = TcpStream::connect(tunnel.local).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    client.write_all(&[7; 1000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    // bash holds its end open, so the answer may not come; but then the tunnel can still be closed.
    let _ = client.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer == "1000 bytes");
}

#[test]
fn a_dropped_tunnel_ends_its_connections_and_processes() {
    let port = serve(|mut connection| {
        let _ = connection.read(&mut [0; 1]);
        thread::sleep(Duration::from_secs(60));
    });
    let dir = tempfile::tempdir().unwrap();
    let tunnel = node("cp1", &engine(dir.path(), ENGINE))
        .tunnel(port)
        .unwrap();
    let mut client = TcpStream::connect(tunnel.local).unwrap();
    client.write_all(b"x").unwrap();
    thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    drop(tunnel);
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
