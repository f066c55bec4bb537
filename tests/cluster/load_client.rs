//! A client that works on a cluster while something is done to it, and can tell what it noticed.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::environment::{eventually, run, single};

/// `testenv/load`, running. Ended when dropped.
pub struct LoadClient(Option<Child>);

impl LoadClient {
    /// Returns when the client's watch is open and its requests begin. `environment` is the directory
    /// that holds the topology's workspace.
    #[track_caller]
    pub fn start(topology: &str, environment: &Path, options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testenv/load");
        let mut child = Command::new(script)
            .args(options)
            .arg(topology)
            .env("HARDEN_TESTENV", environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("testenv/load");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let client = LoadClient(Some(child));
        let mut said = String::new();
        loop {
            let before = said.len();
            let read = lines.read_line(&mut said).expect("text");
            assert!(read > 0, "the load ended before it ran:\n{said}");
            if said[before..].trim() == "running" {
                break;
            }
        }
        // What it says later is nobody's, but must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        client
    }

    /// Ends the client and returns what it counted: `failures_raw`, `failures_after_retries`,
    /// `watch.missed` and the rest of `testenv/load/v1`.
    #[track_caller]
    pub fn finish(mut self) -> Value {
        let mut child = self.0.take().expect("running");
        terminate(&child);
        let mut text = String::new();
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_string(&mut text)
            .expect("text");
        let status = child.wait().expect("its end");
        assert!(status.success(), "the load could not measure: {status}");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The first signal: what is under way comes to its end, and the namespace is deleted.
fn terminate(child: &Child) {
    run(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]));
}

impl Drop for LoadClient {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else {
            return;
        };
        drop(child.stdout.take()); // nobody reads it: writing to it fails, and does not wait
        terminate(&child);
        for _ in 0..180 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
#[ignore = "needs testenv/up single"]
fn the_load_client_sees_an_idle_cluster_without_failure() {
    let cluster = single();
    let load = cluster.load();
    let spaces = || {
        let said = cluster
            .kubectl(&["get", "namespaces", "-o", "name"])
            .exits(0);
        said.stdout.matches("namespace/testenv-load-").count()
    };
    assert_eq!(spaces(), 1, "it works in a namespace of its own");
    std::thread::sleep(Duration::from_secs(5)); // work for it to count
    let seen = load.finish();
    assert_eq!(seen["schema"], "testenv/load/v1");
    assert_eq!(seen["failures_raw"], 0, "{seen:#}");
    assert_eq!(seen["failures_after_retries"], 0, "{seen:#}");
    assert_eq!(seen["watch"]["missed"], 0, "{seen:#}");
    assert_eq!(seen["watch"]["interruptions"], 0, "{seen:#}");
    for verb in ["get", "list", "create", "patch", "delete"] {
        assert!(
            seen["operations"][verb].as_u64() > Some(0),
            "no {verb}: {seen:#}"
        );
    }
    assert!(seen["watch"]["events"].as_u64() > Some(0), "{seen:#}");
    assert_eq!(spaces(), 0, "it cleans up");

    // Ended by what holds it, as when a test fails.
    drop(cluster.load());
    eventually("it cleans up", Duration::from_secs(60), || spaces() == 0);
}
