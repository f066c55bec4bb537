//! An API server for tests: it answers what a test says, and notes what it was asked.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::Client;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// Method and path with its query, as `GET /api/v1/namespaces?limit=500`.
    pub(super) line: String,
    /// The whole request: its head, and its body after an empty line.
    pub(super) text: String,
    /// Null where it is no JSON.
    pub(super) body: Value,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Answer {
            status: 200,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    /// A Status with these fields besides.
    pub(super) fn refused(status: u16, message: &str, more: Value) -> Self {
        let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": status});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        Answer {
            status,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    /// The answer without its last bytes, so that it is no JSON.
    pub(super) fn cut(mut self) -> Self {
        self.body.truncate(self.body.len() - 2);
        self
    }

    pub(super) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

/// Serves, a thread a connection, for as long as the tests run.
pub(super) fn serve(
    patience: Duration,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let all = Arc::new(Mutex::new(Vec::new()));
    let (answer, seen) = (Arc::new(answer), all.clone());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let (answer, seen) = (answer.clone(), seen.clone());
            std::thread::spawn(move || {
                let Some(asked) = request(&mut connection) else {
                    return;
                };
                seen.lock().unwrap().push(asked.clone());
                let told = answer(&asked);
                let mut head = format!("HTTP/1.1 {} x\r\n", told.status);
                for (name, value) in &told.headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let length = told.body.len();
                let rest = format!(
                    "content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{}",
                    told.body
                );
                let _ = connection.write_all((head + &rest).as_bytes());
            });
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}]});
    std::fs::write(&path, text.to_string()).unwrap();
    (Client::new(Some(&path), None, patience).unwrap(), all)
}

/// Reads a whole request; `None` when the other side goes away before.
fn request(connection: &mut impl Read) -> Option<Asked> {
    let mut read = Vec::new();
    let mut some = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                let line = head.lines().next()?.trim_end_matches(" HTTP/1.1");
                return Some(Asked {
                    line: line.to_owned(),
                    text: text.clone(),
                    body: serde_json::from_str(body).unwrap_or_default(),
                });
            }
        }
        match connection.read(&mut some) {
            Ok(length) if length > 0 => read.extend(&some[..length]),
            _ => return None,
        }
    }
}
