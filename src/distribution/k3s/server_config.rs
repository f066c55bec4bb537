//! The configuration of a server: what its file and the drop-ins beside it come to.
//!
//! The rules are those of k3s pkg/configfilearg/parser.go (`readConfigFile`, `dotDFiles`), which RKE2
//! uses too; docs.k3s.io/installation/configuration has them under "Multiple Config Files". The file
//! comes first, then the drop-ins `*.yaml` and `*.yml` in the order of their names. The last value of a
//! key counts, and drops every earlier one; a key that ends in `+` adds to them. What a component's
//! arguments come to is in k3s pkg/util/args.go (`GetArgs`): one that is given takes the place of what
//! the server gives by itself, and several with one name are all handed on, in their order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Layout;
use crate::distribution::Component;
use crate::distribution::kubeadm::{argv, read_yaml};
use crate::fact::File;

/// The port of a server, unless the configuration names another (docs.k3s.io/cli/server:
/// `https-listen-port`).
const PORT: u16 = 6443;

/// The key that names it. RKE2 has no such key.
const PORT_KEY: &str = "https-listen-port";

/// Why a configuration cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ConfigError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl ConfigError {
    /// Returns what to do about it.
    pub fn remedy(&self) -> &'static str {
        "repair it by hand: one YAML document, whose lists hold plain texts, and each key once, with or without `+`"
    }
}

/// One value as a file gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The file.
    pub path: String,
    /// Whether the file is ours.
    pub own: bool,
    /// Whether the file comes after ours.
    pub later: bool,
    /// As after the `=`; `true` for a flag without.
    pub value: String,
    /// Whether it is added to what the server gives by itself: `name+=…` and `name-=…`.
    pub adds: bool,
}

/// A key that counts, in one file.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    key: String,
    adds: bool,
    items: Vec<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq)]
struct Source {
    path: String,
    own: bool,
    later: bool,
    settings: Vec<Setting>,
}

/// The files of a server's configuration in the order in which they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    layout: &'static Layout,
    sources: Vec<Source>,
}

impl ServerConfig {
    /// Reads the files: the configuration itself under an empty name, its drop-ins under theirs. Keys
    /// that are about neither arguments nor mounts are not looked at: some hold secrets.
    ///
    /// # Errors
    /// The first file that cannot be understood.
    pub fn read(
        layout: &'static Layout,
        files: &BTreeMap<String, File>,
    ) -> Result<Self, ConfigError> {
        let own = layout.config_name();
        let mut sources = Vec::new();
        // A map of texts is in the order of their bytes, as Go's os.ReadDir is.
        for (name, file) in files {
            let path = match name.as_str() {
                "" => layout.main.to_owned(),
                name => format!("{}.d/{name}", layout.main),
            };
            sources.push(Source {
                settings: settings(layout, &path, &file.content)?,
                path,
                own: name == own,
                later: name.as_str() > own,
            });
        }
        Ok(ServerConfig { layout, sources })
    }

    /// Returns what a component is given of a flag, in the order in which it gets it. What the server
    /// gives by itself is not among it.
    pub fn given(&self, component: Component, name: &str) -> Vec<Given> {
        let mut all = Vec::new();
        if let Some(key) = self.layout.own_key(component, name) {
            // The last one; RKE2 puts it before the arguments.
            all.extend(self.merged(key).pop());
        }
        for mut given in self.merged(&Layout::args_key(component)) {
            let (flag, value, adds) = flag_of(&given.value);
            if argv::same_name(flag, name) {
                given.adds = adds;
                given.value = value.to_owned();
                all.push(given);
            }
        }
        all
    }

    /// Returns the names of all flags that a component is given.
    pub fn names(&self, component: Component) -> BTreeSet<String> {
        let own = self.layout.own_keys.iter();
        let own = own.filter(|(flag, key)| {
            self.layout.own_key(component, flag).is_some() && !self.merged(key).is_empty()
        });
        let args = self.merged(&Layout::args_key(component)).into_iter();
        let args = args.map(|given| flag_of(&given.value).0.to_owned());
        own.map(|(flag, _)| (*flag).to_owned())
            .chain(args)
            .collect()
    }

    /// Returns the values that a component has of a flag, as far as they are known: those that are given,
    /// and what the server gives by itself where it is known and not replaced.
    pub fn values(&self, component: Component, name: &str) -> Vec<String> {
        let given = self.given(component, name);
        let own = self.layout.own_flag(component, name);
        let kept = own.filter(|_| given.iter().all(|one| one.adds));
        let kept = kept.map(str::to_owned).into_iter();
        kept.chain(given.into_iter().map(|one| one.value)).collect()
    }

    /// Returns the items of a list, in the order in which they come together.
    pub fn items(&self, key: &str) -> Vec<Given> {
        self.merged(key)
    }

    /// Returns the last file after ours that drops what ours says under a key.
    pub fn dropped_by(&self, key: &str) -> Option<&str> {
        let drops = |source: &&Source| {
            source.later && source.settings.iter().any(|s| s.key == key && !s.adds)
        };
        let source = self.sources.iter().rev().find(drops)?;
        Some(&source.path)
    }

    /// Returns the port on which the API server answers.
    pub fn port(&self) -> u16 {
        let named = self.merged(PORT_KEY).pop();
        named
            .and_then(|given| given.value.parse().ok())
            .unwrap_or(PORT)
    }

    /// Returns everything that counts of it, file by file.
    pub fn counted(&self) -> Value {
        let of_source = |source: &Source| -> Value {
            let settings = source.settings.iter();
            let settings: Vec<Value> = settings.map(|s| json!([s.key, s.adds, s.items])).collect();
            json!([source.path, settings])
        };
        let counted = self.sources.iter().filter(|s| !s.settings.is_empty());
        counted.map(of_source).collect()
    }

    /// What the files come to under a key.
    fn merged(&self, key: &str) -> Vec<Given> {
        let mut all = Vec::new();
        for source in &self.sources {
            for setting in source.settings.iter().filter(|s| s.key == key) {
                if !setting.adds {
                    all.clear();
                }
                all.extend(setting.items.iter().map(|value| Given {
                    path: source.path.clone(),
                    own: source.own,
                    later: source.later,
                    value: value.clone(),
                    adds: false,
                }));
            }
        }
        all
    }
}

/// Reads an argument: the flag, its value, and whether that is added to what the server gives by itself.
pub(super) fn flag_of(item: &str) -> (&str, &str, bool) {
    let word = item.strip_prefix("--").unwrap_or(item);
    let (flag, value) = word.split_once('=').unwrap_or((word, "true"));
    let plain = flag.trim_end_matches(['+', '-']);
    (plain, value, plain != flag)
}

/// Reads what counts of one file.
fn settings(layout: &Layout, path: &str, content: &[u8]) -> Result<Vec<Setting>, ConfigError> {
    let bad = |why: String| ConfigError {
        path: path.to_owned(),
        why,
    };
    let text = std::str::from_utf8(content).map_err(|_| bad("it is not UTF-8 text".into()))?;
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Vec::new());
    }
    let fields = match read_yaml(text).map_err(|error| bad(error.to_string()))? {
        Value::Object(fields) => fields,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(bad("it is not a table of keys".into())),
    };
    let mut seen = BTreeSet::new();
    let mut settings = Vec::new();
    for (written, value) in &fields {
        let key = written.strip_suffix('+').unwrap_or(written);
        if !counts(layout, key) {
            continue;
        }
        // Which of the two comes first would count.
        if !seen.insert(key) {
            return Err(bad(format!("it has both {key} and {key}+")));
        }
        let items = match value {
            Value::Array(items) => items.iter().map(text_of).collect(),
            Value::Null => Some(Vec::new()),
            scalar => text_of(scalar).map(|text| vec![text]),
        };
        settings.push(Setting {
            key: key.to_owned(),
            adds: key != written,
            items: items
                .ok_or_else(|| bad(format!("{key} is neither a text nor a list of texts")))?,
        });
    }
    Ok(settings)
}

/// Whether a key says something about the arguments of a component, or what it mounts.
fn counts(layout: &Layout, key: &str) -> bool {
    key.ends_with("-arg")
        || key.ends_with("-extra-mount")
        || layout.own_keys.iter().any(|(_, own)| *own == key)
        || (key == PORT_KEY && !layout.mounts)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{K3S, RKE2};
    use super::*;
    use crate::fact::{FileKind, Meta};

    const API: Component = Component::KubeApiserver;

    fn config(
        layout: &'static Layout,
        files: &[(&str, &str)],
    ) -> Result<ServerConfig, ConfigError> {
        let file = |text: &str| File {
            meta: Meta {
                kind: FileKind::Regular,
                mode: 0o600,
                owner: "root".into(),
                group: "root".into(),
                size: 1,
            },
            content: text.into(),
        };
        let files = files.iter().map(|(n, t)| ((*n).to_owned(), file(t)));
        ServerConfig::read(layout, &files.collect())
    }

    fn values(config: &ServerConfig, name: &str) -> Vec<String> {
        config.values(API, name)
    }

    /// The example of docs.k3s.io/installation/configuration, with keys that are looked at here.
    #[test]
    fn the_documented_example_of_several_files() {
        let config = config(
            &K3S,
            &[
                ("", "token: boop\nkube-apiserver-arg:\n- foo=bar\n- bar=baz\n"),
                ("test1.yaml", "write-kubeconfig-mode: 600\nkubelet-arg: alice=bob\n"),
                (
                    "test2.yaml",
                    "kube-apiserver-arg:\n- other=what\n- foo=three\nkubelet-arg+:\n- charlie=delta\n",
                ),
            ],
        )
        .unwrap();
        let all = |key: &str| -> Vec<String> {
            let items = config.items(key).into_iter();
            items.map(|given| given.value).collect()
        };
        assert_eq!(all("kube-apiserver-arg"), ["other=what", "foo=three"]);
        assert_eq!(all("kubelet-arg"), ["alice=bob", "charlie=delta"]);
        assert_eq!(values(&config, "foo"), ["three"]);
        assert_eq!(values(&config, "bar"), [""; 0]);
        assert_eq!(
            config.dropped_by("kube-apiserver-arg"),
            Some("/etc/rancher/k3s/config.yaml.d/test2.yaml")
        );
        // Their names come after that of our own drop-in.
        let drops_kubelet = config.dropped_by("kubelet-arg");
        assert_eq!(
            drops_kubelet,
            Some("/etc/rancher/k3s/config.yaml.d/test1.yaml")
        );
        assert_eq!(config.dropped_by("kube-scheduler-arg"), None);
        assert!(!config.counted().to_string().contains("boop"));
    }

    #[test]
    fn what_the_server_gives_itself_is_replaced_or_added_to() {
        let plugins = "enable-admission-plugins";
        for (text, all) in [
            ("", vec!["NodeRestriction"]),
            ("kube-apiserver-arg: enable-admission-plugins=A", vec!["A"]),
            (
                "kube-apiserver-arg+: [--enable_admission_plugins=A]",
                vec!["A"],
            ),
            (
                "kube-apiserver-arg: enable-admission-plugins+=A",
                vec!["NodeRestriction", "A"],
            ),
            ("kube-apiserver-arg:\n# none\n", vec!["NodeRestriction"]),
        ] {
            let config = config(&K3S, &[("", text)]).unwrap();
            assert_eq!(values(&config, plugins), all, "{text}");
        }
        assert_eq!(values(&config(&K3S, &[]).unwrap(), "profiling"), [""; 0]);
    }

    #[test]
    fn keys_of_their_own_come_before_the_arguments() {
        let text = "audit-policy-file: /own\nkube-apiserver-arg: audit-policy-file=/arg\n";
        let rke2 = config(
            &RKE2,
            &[("", text), ("99-more.yml", "audit-policy-file: /more")],
        );
        assert_eq!(
            values(&rke2.unwrap(), "audit-policy-file"),
            ["/more", "/arg"]
        );
        let k3s = config(&K3S, &[("", text)]).unwrap();
        assert_eq!(values(&k3s, "audit-policy-file"), ["/arg"]);
    }

    #[test]
    fn the_port_of_k3s_may_be_another() {
        let text = "https-listen-port: 7443\n";
        assert_eq!(config(&K3S, &[("", text)]).unwrap().port(), 7443);
        assert_eq!(config(&RKE2, &[("", text)]).unwrap().port(), 6443);
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (text, why) in [
            ("a: [", "not one readable YAML document"),
            ("- a", "not a table"),
            ("kube-apiserver-arg: [{a: b}]", "neither a text nor a list"),
            ("kube-apiserver-arg: [a]\nkube-apiserver-arg+: [b]", "both"),
        ] {
            let error = config(&K3S, &[("50-x.yaml", text)]).unwrap_err();
            assert_eq!(error.path, "/etc/rancher/k3s/config.yaml.d/50-x.yaml");
            assert!(error.why.contains(why), "{error}");
        }
        // A key that says nothing of arguments may have any shape.
        assert!(config(&K3S, &[("", "node-label: {a: [b]}")]).is_ok());
    }
}
