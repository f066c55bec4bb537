//! Manifests of static pods.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::own_flags::own_flag;
use super::{KubeadmError, RESTART_ANNOTATION, argv, yaml};
use crate::distribution::{Component, ComponentEdit, RunAs, Volume};

/// What a component's manifest says, as far as its flags and mounts go.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The command line as written: the container's `command` and `args`, program first.
    pub argv: Vec<String>,
    /// How many of the words are `command`.
    command: usize,
    /// The container's variables; `None` where only the kubelet knows the value.
    env: BTreeMap<String, Option<String>>,
    volumes: Vec<Value>,
    mounts: Vec<Value>,
    run_as: Option<RunAs>,
    probes: Vec<String>,
}

impl Manifest {
    /// Reads the manifest of a component.
    ///
    /// # Errors
    /// When the text is no YAML or has a key twice, is no Pod, or when no container of the
    /// component's name starts the component itself.
    pub fn parse(text: &str, component: Component) -> Result<Self, KubeadmError> {
        Manifest::of(&yaml::read(text)?, component)
    }

    fn of(pod: &Value, component: Component) -> Result<Self, KubeadmError> {
        if pod.is_null() {
            return Err(KubeadmError::Empty);
        }
        let kind = |field: &str| pod.get(field).and_then(Value::as_str).unwrap_or("nothing");
        if (kind("apiVersion"), kind("kind")) != ("v1", "Pod") {
            return Err(KubeadmError::Kind {
                wanted: super::POD,
                found: format!("{} {}", kind("apiVersion"), kind("kind")),
            });
        }
        let container = list(pod.pointer("/spec/containers"), "spec.containers")?
            .iter()
            .find(|c| c.get("name").and_then(Value::as_str) == Some(component.name()))
            .ok_or(KubeadmError::NoContainer(component))?;
        let mut words = strings(container.get("command"), "command")?;
        let command = words.len();
        words.extend(strings(container.get("args"), "args")?);
        let program = words.first().map(String::as_str).unwrap_or_default();
        if program.rsplit('/').next() != Some(component.name()) {
            return Err(KubeadmError::OtherProgram {
                component,
                found: program.to_owned(),
            });
        }
        let text = |value: &Value, field: &str| value.get(field)?.as_str().map(str::to_owned);
        let env = list(container.get("env"), "env")?
            .iter()
            .filter_map(|var| {
                let value = match var.get("valueFrom") {
                    Some(_) => None,
                    None => Some(text(var, "value").unwrap_or_default()),
                };
                Some((text(var, "name")?, value))
            })
            .collect();
        Ok(Manifest {
            argv: words,
            command,
            env,
            volumes: list(pod.pointer("/spec/volumes"), "spec.volumes")?.clone(),
            mounts: list(container.get("volumeMounts"), "volumeMounts")?.clone(),
            run_as: run_as(pod, container),
            probes: probes(container),
        })
    }

    /// Returns where the kubelet asks how the component is, as URLs without a path. Probes that name no
    /// host ask at the pod's address, and are left out.
    pub fn probes(&self) -> Vec<String> {
        self.probes.clone()
    }

    /// Returns as whom the component runs, where the manifest names user and group; `None` where that
    /// is left to the image.
    pub fn run_as(&self) -> Option<&RunAs> {
        self.run_as.as_ref()
    }

    /// Returns the values that a flag has, in their order.
    pub fn values(&self, name: &str) -> Vec<String> {
        argv::values(&self.argv, name)
    }

    /// Whether exactly this volume is mounted.
    pub fn mounts(&self, volume: &Volume) -> bool {
        let named = |items: &[Value]| named(items, &volume.name).cloned().collect::<Vec<_>>();
        named(&self.volumes) == [pod_volume(volume)] && named(&self.mounts) == [pod_mount(volume)]
    }

    /// Describes the volume of a name in one line; `None` when there is none.
    pub fn describe_volume(&self, name: &str) -> Option<String> {
        let volume = named(&self.volumes, name).next();
        let mount = named(&self.mounts, name).next();
        if volume.is_none() && mount.is_none() {
            return None;
        }
        let text = |item: Option<&Value>, pointer: &str| {
            item.and_then(|item| item.pointer(pointer)?.as_str())
                .map_or_else(|| "nothing".to_owned(), str::to_owned)
        };
        let read_only = mount.and_then(|m| m.get("readOnly")) == Some(&Value::Bool(true));
        Some(super::cluster_configuration::describe(
            name,
            &text(volume, "/hostPath/path"),
            &text(mount, "/mountPath"),
            read_only,
            &text(volume, "/hostPath/type"),
        ))
    }

    /// Returns where on the node a path in the container is; `None` where it is in no directory of the
    /// node. The innermost mount counts.
    pub fn on_node(&self, inside: &str) -> Option<String> {
        let text =
            |value: &Value, pointer: &str| Some(value.pointer(pointer)?.as_str()?.to_owned());
        let mounted = self.mounts.iter().filter_map(|mount| {
            let path = text(mount, "/mountPath")?;
            let rest = inside.strip_prefix(path.trim_end_matches('/'))?.to_owned();
            let is_below = rest.is_empty() || rest.starts_with('/');
            is_below.then_some((path.len(), mount, rest))
        });
        let (_, mount, rest) = mounted.max_by_key(|(length, _, _)| *length)?;
        let volume = named(&self.volumes, mount.get("name")?.as_str()?).next()?;
        let path = text(volume, "/hostPath/path")?;
        // A part of the volume may be mounted.
        let below = text(mount, "/subPath").map_or_else(String::new, |part| format!("/{part}"));
        Some(format!("{}{below}{rest}", path.trim_end_matches('/')))
    }

    /// Returns the port of `--secure-port`, by default 6443 (kubernetes v1.35
    /// pkg/kubeapiserver/options/serving.go: `NewSecureServingOptions`).
    pub fn secure_port(&self) -> u16 {
        self.values("secure-port")
            .last()
            .and_then(|port| port.parse().ok())
            .unwrap_or(6443)
    }

    /// Returns the command line that the process will have: `$(NAME)` resolved and `$$` turned into
    /// `$` (kubernetes v1.35 third_party/forked/golang/expansion/expand.go).
    ///
    /// # Errors
    /// When a word refers to a variable that only the kubelet can resolve.
    pub fn process(&self) -> Result<Vec<String>, KubeadmError> {
        self.argv.iter().map(|word| self.expand(word)).collect()
    }

    fn expand(&self, word: &str) -> Result<String, KubeadmError> {
        let mut expanded = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some((name, after)) =
                rest.strip_prefix('(').and_then(|r| r.split_once(')'))
            {
                match self.env.get(name) {
                    Some(Some(value)) => expanded.push_str(value),
                    Some(None) => return Err(KubeadmError::Variable(name.to_owned())),
                    // A reference to nothing stays as it is.
                    None => expanded.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                expanded.push('$');
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

/// The probes of a container: core/v1 HTTPGetAction, with its port by number or by the name that the
/// container gives it.
fn probes(container: &Value) -> Vec<String> {
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"];
    let asked = probes
        .iter()
        .filter_map(|probe| container.get(probe)?.get("httpGet"));
    let port = |port: &Value| match port.as_str() {
        None => port.as_u64(),
        Some(name) => {
            let ports = container.get("ports")?.as_array()?;
            let named = ports.iter().find(|port| port["name"] == name);
            named?.get("containerPort")?.as_u64()
        }
    };
    let urls = asked.filter_map(|get| {
        let scheme = get.get("scheme").and_then(Value::as_str).unwrap_or("HTTP");
        let host = get.get("host")?.as_str()?;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let port = port(get.get("port")?)?;
        Some(format!("{}://{host}:{port}", scheme.to_lowercase()))
    });
    let mut urls: Vec<String> = urls.collect();
    urls.dedup();
    urls
}

/// Edits the manifest of a component.
///
/// kubeadm writes its own flags by name and then those of `extraArgs` in their order (kubernetes
/// v1.35 cmd/kubeadm/app/util/arguments.go: `ArgumentsToCommand`), and volumes by name
/// (cmd/kubeadm/app/util/staticpod/utils.go: `VolumeMapToSlice`). Edited flags and volumes go to
/// where kubeadm would put them, so that the next upgrade finds nothing to change; `extra_args_order`
/// names the flags of `extraArgs` after the edit. What is not edited keeps its place.
///
/// # Errors
/// See [`Manifest::parse`]; also when the edited text does not read back exactly as intended.
pub fn edit_manifest(
    text: &str,
    component: Component,
    edits: &[ComponentEdit],
    extra_args_order: &[String],
) -> Result<String, KubeadmError> {
    let before = yaml::read(text)?;
    let manifest = Manifest::of(&before, component)?;
    let edits: Vec<ComponentEdit> = edits.iter().cloned().map(ComponentEdit::settled).collect();
    let edits = edits.as_slice();
    let is_volume = |edit: &ComponentEdit| matches!(edit, ComponentEdit::SetVolume(_));
    if component == Component::Etcd && edits.iter().any(is_volume) {
        return Err(KubeadmError::NoVolumes);
    }
    let mut after = before.clone();
    let mut words = Words {
        component,
        command: manifest.command,
        argv: manifest.argv,
    };
    for flag in in_order(edits, extra_args_order) {
        match flag {
            ComponentEdit::SetFlag { name, value } => words.set(name, value, extra_args_order),
            ComponentEdit::RemoveFlag { name } => words.remove(name),
            _ => {}
        }
    }
    let args = words.argv.split_off(words.command);
    let container = after
        .pointer_mut("/spec/containers")
        .and_then(Value::as_array_mut)
        .and_then(|all| {
            all.iter_mut()
                .find(|c| c.get("name").and_then(Value::as_str) == Some(component.name()))
        })
        .and_then(Value::as_object_mut)
        .ok_or(KubeadmError::NoContainer(component))?;
    put(container, "command", words.argv.into());
    put(container, "args", args.into());
    let volumes: Vec<&Volume> = edits
        .iter()
        .filter_map(|edit| match edit {
            ComponentEdit::SetVolume(volume) => Some(volume),
            _ => None,
        })
        .collect();
    let mut mounts = manifest.mounts;
    for volume in &volumes {
        insert_by_name(&mut mounts, pod_mount(volume));
    }
    put(container, "volumeMounts", mounts.into());
    let mut pod_volumes = manifest.volumes;
    for volume in &volumes {
        insert_by_name(&mut pod_volumes, pod_volume(volume));
    }
    if let Some(spec) = after.get_mut("spec").and_then(Value::as_object_mut) {
        put(spec, "volumes", pod_volumes.into());
    }
    for edit in edits {
        if let ComponentEdit::Restart(mark) = edit {
            annotate(&mut after, mark)?;
        }
        if let ComponentEdit::RunAs(user) = edit {
            set_user(&mut after, component, user)?;
        }
    }
    yaml::rewrite(text, &before, &after)
}

/// A command line in its two parts.
struct Words {
    component: Component,
    argv: Vec<String>,
    command: usize,
}

impl Words {
    fn cut(&mut self, at: usize, words: usize) {
        self.argv.drain(at..at + words);
        self.command -= self.command.min(at + words) - self.command.min(at);
    }

    fn remove(&mut self, name: &str) {
        for flag in argv::flags(&self.argv).into_iter().rev() {
            if argv::same_name(&flag.name, name) {
                self.cut(flag.at, flag.words);
            }
        }
    }

    fn set(&mut self, name: &str, value: &str, order: &[String]) {
        if argv::values(&self.argv, name) == [value] {
            return;
        }
        self.remove(name);
        let rank = |name: &str| order.iter().position(|n| argv::same_name(n, name));
        let own = rank(name);
        let is_kubeadms = own.is_none() && own_flag(self.component, name).is_some();
        // One of kubeadm's own stands by its name; any other behind all of those and the extra ones
        // listed before it.
        let at = argv::flags(&self.argv)
            .into_iter()
            .rev()
            .find(|flag| match (rank(&flag.name), own) {
                (Some(other), Some(own)) => other < own,
                (Some(_), None) if is_kubeadms => false,
                (None, None) if is_kubeadms => flag.name.as_str() < name,
                _ => true,
            })
            .map_or(1, |flag| flag.at + flag.words);
        if at < self.command || self.command == self.argv.len() {
            self.command += 1;
        }
        self.argv.insert(at, argv::word(name, value));
    }
}

/// Sorts edits by the order of `extraArgs`, those of other flags first.
fn in_order<'e>(edits: &'e [ComponentEdit], order: &[String]) -> Vec<&'e ComponentEdit> {
    let mut sorted: Vec<&ComponentEdit> = edits.iter().collect();
    sorted.sort_by_key(|edit| match edit {
        ComponentEdit::SetFlag { name, .. } => order.iter().position(|n| argv::same_name(n, name)),
        _ => None,
    });
    sorted
}

fn annotate(pod: &mut Value, mark: &str) -> Result<(), KubeadmError> {
    let shape = |field: &str| KubeadmError::Shape {
        field: field.to_owned(),
        wanted: "a mapping",
    };
    let metadata = pod
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| shape("metadata"))?;
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations
        .as_object_mut()
        .ok_or_else(|| shape("metadata.annotations"))?
        .insert(RESTART_ANNOTATION.to_owned(), mark.into());
    Ok(())
}

/// Reads as whom a container runs: what it says itself comes before what the pod says (core/v1
/// SecurityContext.runAsUser).
fn run_as(pod: &Value, container: &Value) -> Option<RunAs> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let field = |name: &str| {
        let own = container.get("securityContext").and_then(|c| c.get(name));
        let own = own.filter(|value| !value.is_null());
        number(own.or_else(|| pod.pointer("/spec/securityContext")?.get(name))?)
    };
    let groups = pod.pointer("/spec/securityContext/supplementalGroups");
    let groups = groups
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    Some(RunAs {
        user: field("runAsUser")?,
        group: field("runAsGroup")?,
        supplementary: groups.iter().filter_map(number).collect(),
    })
}

/// Sets as whom the pod runs; what else its security context says stays.
fn set_user(pod: &mut Value, component: Component, user: &RunAs) -> Result<(), KubeadmError> {
    let shape = |field: &str| KubeadmError::Shape {
        field: field.to_owned(),
        wanted: "a mapping",
    };
    let spec = pod
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| shape("spec"))?;
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        if container.get("name").and_then(Value::as_str) == Some(component.name())
            && let Some(own) = container.get_mut("securityContext")
            && let Some(own) = own.as_object_mut()
        {
            own.remove("runAsUser");
            own.remove("runAsGroup");
        }
    }
    let context = spec.entry("securityContext").or_insert(Value::Null);
    if context.is_null() {
        *context = json!({});
    }
    let context = context
        .as_object_mut()
        .ok_or_else(|| shape("spec.securityContext"))?;
    context.insert("runAsUser".into(), user.user.into());
    context.insert("runAsGroup".into(), user.group.into());
    context.insert(
        "supplementalGroups".into(),
        user.supplementary.clone().into(),
    );
    Ok(())
}

/// Sets a list, and leaves an absent one absent when there is nothing to say.
fn put(mapping: &mut Map<String, Value>, key: &str, items: Value) {
    let nothing = items.as_array().is_some_and(Vec::is_empty);
    if !nothing || mapping.get(key).is_some_and(Value::is_array) {
        mapping.insert(key.to_owned(), items);
    }
}

/// Replaces the item of that name, or puts it before the first item with a greater name.
fn insert_by_name(items: &mut Vec<Value>, item: Value) {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    let own = name(&item);
    if let Some(first) = items.iter().position(|other| name(other) == own) {
        items[first] = item;
        let mut at = 0;
        items.retain(|other| {
            at += 1;
            at - 1 <= first || name(other) != own
        });
        return;
    }
    let at = items.iter().position(|other| name(other) > own);
    items.insert(at.unwrap_or(items.len()), item);
}

fn named<'v>(items: &'v [Value], name: &str) -> impl Iterator<Item = &'v Value> {
    items
        .iter()
        .filter(move |item| item.get("name").and_then(Value::as_str) == Some(name))
}

fn pod_volume(volume: &Volume) -> Value {
    let mut host_path = json!({"path": volume.host_path.as_str()});
    // core/v1 HostPathType: the empty one is the default and is not written.
    if !volume.path_type.is_empty() {
        host_path["type"] = volume.path_type.as_str().into();
    }
    json!({"name": volume.name, "hostPath": host_path})
}

fn pod_mount(volume: &Volume) -> Value {
    let mut mount = json!({"name": volume.name, "mountPath": volume.mount_path.as_str()});
    if volume.read_only {
        mount["readOnly"] = true.into();
    }
    mount
}

fn list<'v>(value: Option<&'v Value>, field: &str) -> Result<&'v Vec<Value>, KubeadmError> {
    const NONE: &Vec<Value> = &Vec::new();
    match value {
        None | Some(Value::Null) => Ok(NONE),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(KubeadmError::Shape {
            field: field.to_owned(),
            wanted: "a list",
        }),
    }
}

fn strings(value: Option<&Value>, field: &str) -> Result<Vec<String>, KubeadmError> {
    list(value, field)?
        .iter()
        .map(|word| word.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| KubeadmError::Shape {
            field: field.to_owned(),
            wanted: "a list of strings",
        })
}
