//! `ClusterConfiguration`, as ConfigMap kube-system/kubeadm-config holds it.

use serde_json::{Map, Value, json};

use super::own_flags::{CERTIFICATES_DIR, Own, own_flag};
use super::{KubeadmError, argv, yaml};
use crate::distribution::{Component, ComponentEdit, Volume};

/// What `ClusterConfiguration` says of the components' flags and mounts.
///
/// Version v1beta3 has `extraArgs` as a map, which kubeadm sorts by name; v1beta4 (written since
/// Kubernetes 1.31) as a list of name and value, in which a name may stand several times (kubernetes
/// v1.35 cmd/kubeadm/app/apis/kubeadm/v1beta3/conversion.go: `convertToArgs`; v1beta4/types.go:
/// `Arg`). A tool that knows only one of them drops flags
/// (cluster-api-runtime-extensions-nutanix#1671).
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfiguration {
    value: Value,
    form: Form,
}

/// The shape of `extraArgs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Map,
    List,
}

impl Component {
    /// Returns the component's section of `ClusterConfiguration`, outermost key first.
    fn section(self) -> &'static [&'static str] {
        match self {
            Component::KubeApiserver => &["apiServer"],
            Component::KubeControllerManager => &["controllerManager"],
            Component::KubeScheduler => &["scheduler"],
            Component::Etcd => &["etcd", "local"],
        }
    }

    /// Returns the path of a field in the component's section.
    fn path(self, field: &str) -> String {
        format!("{}.{field}", self.section().join("."))
    }
}

impl ClusterConfiguration {
    /// Reads the text under the ConfigMap's key.
    ///
    /// # Errors
    /// When it is no YAML or has a key twice, is of another kind or version, or when a field that is
    /// needed has another shape.
    pub fn parse(text: &str) -> Result<Self, KubeadmError> {
        let value = yaml::read(text)?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("nothing");
        let form = match (field("apiVersion"), field("kind")) {
            ("kubeadm.k8s.io/v1beta3", "ClusterConfiguration") => Form::Map,
            ("kubeadm.k8s.io/v1beta4", "ClusterConfiguration") => Form::List,
            (version, kind) => {
                return Err(KubeadmError::Kind {
                    wanted: "a ClusterConfiguration of kubeadm.k8s.io/v1beta3 or v1beta4",
                    found: format!("{version} {kind}"),
                });
            }
        };
        let parsed = ClusterConfiguration { value, form };
        for component in Component::ALL {
            parsed.read_args(component)?;
            parsed.read_volumes(component)?;
        }
        Ok(parsed)
    }

    /// Lists the component's extra arguments in the order in which kubeadm writes them.
    pub fn args(&self, component: Component) -> Vec<(String, String)> {
        // Read once without error in `parse`.
        self.read_args(component).unwrap_or_default()
    }

    /// Returns the values that a flag has, in their order.
    pub fn values(&self, component: Component, name: &str) -> Vec<String> {
        self.args(component)
            .into_iter()
            .filter(|(given, _)| argv::same_name(given, name))
            .map(|(_, value)| value)
            .collect()
    }

    /// Returns the values with which kubeadm will write a flag: those of the extra arguments, or
    /// else the one that it gives the flag itself.
    pub fn effective(&self, component: Component, name: &str) -> Vec<String> {
        let given = self.values(component, name);
        if !given.is_empty() {
            return given;
        }
        match own_flag(component, name) {
            Some(_) if self.leaves_out(component, name) => Vec::new(),
            Some(Own::Value(value)) => vec![value.to_owned()],
            Some(Own::File(file)) => vec![format!("{}/{file}", self.certificates_dir())],
            None => Vec::new(),
        }
    }

    /// Returns the directory in which kubeadm keeps certificates and keys (kubernetes v1.35
    /// cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go: `DefaultCertificatesDir`).
    pub fn certificates_dir(&self) -> &str {
        let dir = self.value.get("certificatesDir").and_then(Value::as_str);
        dir.filter(|dir| !dir.is_empty())
            .unwrap_or(CERTIFICATES_DIR)
            .trim_end_matches('/')
    }

    /// Returns for how long kubeadm issues certificates, in seconds, where that is said: whole hours, as
    /// kubeadm writes them, and what is beside them does not count (v1beta4/types.go:
    /// `CertificateValidityPeriod`).
    pub fn certificate_validity(&self) -> Option<i64> {
        let period = self.value.get("certificateValidityPeriod")?.as_str()?;
        let (hours, _) = period.split_once('h')?;
        hours.parse::<i64>().ok()?.checked_mul(3_600)
    }

    /// Whether etcd is not kubeadm's to run (v1beta4/types.go: `Etcd.External`).
    pub fn etcd_is_external(&self) -> bool {
        let external = self.value.pointer("/etcd/external");
        external.is_some_and(|external| !external.is_null())
    }

    /// Whether kubeadm does not write a flag of its own here (manifests.go:
    /// `getAPIServerCommand`).
    fn leaves_out(&self, component: Component, name: &str) -> bool {
        component == Component::KubeApiserver
            && match name {
                "authorization-mode" => !self.values(component, "authorization-config").is_empty(),
                "etcd-cafile" | "etcd-certfile" | "etcd-keyfile" => self.etcd_is_external(),
                _ => false,
            }
    }

    /// Whether exactly this volume is among the component's extra volumes.
    pub fn mounts(&self, component: Component, volume: &Volume) -> bool {
        self.named(component, &volume.name) == [volume_text(volume)]
    }

    /// Describes the extra volume of a name in one line; `None` when there is none.
    pub fn describe_volume(&self, component: Component, name: &str) -> Option<String> {
        self.named(component, name).into_iter().next()
    }

    fn named(&self, component: Component, name: &str) -> Vec<String> {
        let text = |volume: &Value, field: &str| {
            let text = volume.get(field).and_then(Value::as_str);
            text.unwrap_or("nothing").to_owned()
        };
        self.read_volumes(component)
            .unwrap_or_default()
            .iter()
            .filter(|volume| text(volume, "name") == name)
            .map(|volume| {
                describe(
                    name,
                    &text(volume, "hostPath"),
                    &text(volume, "mountPath"),
                    volume.get("readOnly") == Some(&Value::Bool(true)),
                    &text(volume, "pathType"),
                )
            })
            .collect()
    }

    fn field(&self, component: Component, field: &str) -> Option<&Value> {
        let mut section = &self.value;
        for key in component.section() {
            section = section.get(key)?;
        }
        section.get(field).filter(|value| !value.is_null())
    }

    fn read_args(&self, component: Component) -> Result<Vec<(String, String)>, KubeadmError> {
        let shape = |wanted: &'static str| KubeadmError::Shape {
            field: component.path("extraArgs"),
            wanted,
        };
        let Some(args) = self.field(component, "extraArgs") else {
            return Ok(Vec::new());
        };
        match self.form {
            Form::Map => {
                let args = args.as_object().ok_or_else(|| shape("a map"))?;
                let mut args = args
                    .iter()
                    .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| shape("a map of strings"))?;
                args.sort();
                Ok(args)
            }
            Form::List => {
                let args = args.as_array().ok_or_else(|| shape("a list"))?;
                let text = |arg: &Value, field: &str| arg.get(field)?.as_str().map(str::to_owned);
                args.iter()
                    .map(|arg| Some((text(arg, "name")?, text(arg, "value").unwrap_or_default())))
                    .collect::<Option<_>>()
                    .ok_or_else(|| shape("a list of name and value"))
            }
        }
    }

    fn read_volumes(&self, component: Component) -> Result<Vec<Value>, KubeadmError> {
        match self.field(component, "extraVolumes") {
            None => Ok(Vec::new()),
            Some(Value::Array(volumes)) => Ok(volumes.clone()),
            Some(_) => Err(KubeadmError::Shape {
                field: component.path("extraVolumes"),
                wanted: "a list",
            }),
        }
    }
}

/// Edits a component's section of `ClusterConfiguration`; version and shape stay as they are.
///
/// # Errors
/// See [`ClusterConfiguration::parse`]; also when the edited text does not read back as intended.
pub fn edit_cluster_configuration(
    text: &str,
    component: Component,
    edits: &[ComponentEdit],
) -> Result<String, KubeadmError> {
    let before = ClusterConfiguration::parse(text)?;
    if component == Component::Etcd && before.etcd_is_external() {
        return Err(KubeadmError::ExternalEtcd);
    }
    let mut after = before.value.clone();
    for edit in edits {
        match edit.clone().settled() {
            ComponentEdit::SetFlag { name, value } => {
                let args = section(&mut after, component, "extraArgs", before.form)?;
                set_arg(args, &name, Some(&value));
            }
            ComponentEdit::RemoveFlag { name } => {
                if !before.values(component, &name).is_empty() {
                    let args = section(&mut after, component, "extraArgs", before.form)?;
                    set_arg(args, &name, None);
                }
            }
            ComponentEdit::SetVolume(_) if component == Component::Etcd => {
                return Err(KubeadmError::NoVolumes);
            }
            ComponentEdit::SetVolume(volume) if !before.mounts(component, &volume) => {
                let volumes = section(&mut after, component, "extraVolumes", Form::List)?;
                set_volume(volumes, &volume);
            }
            ComponentEdit::SetVolume(_)
            | ComponentEdit::EditList { .. }
            | ComponentEdit::RunAs(_)
            | ComponentEdit::Restart(_) => {}
        }
    }
    yaml::rewrite(text, &before.value, &after)
}

/// Returns a field of a component's section, made when it is absent.
fn section<'v>(
    root: &'v mut Value,
    component: Component,
    field: &str,
    form: Form,
) -> Result<&'v mut Value, KubeadmError> {
    let shape = || KubeadmError::Shape {
        field: component.section().join("."),
        wanted: "a mapping",
    };
    let mut section = root;
    for key in component.section() {
        section = section
            .as_object_mut()
            .ok_or_else(shape)?
            .entry(*key)
            .or_insert(Value::Null);
        if section.is_null() {
            *section = json!({});
        }
    }
    let value = section
        .as_object_mut()
        .ok_or_else(shape)?
        .entry(field)
        .or_insert(Value::Null);
    if value.is_null() {
        *value = match form {
            Form::Map => json!({}),
            Form::List => json!([]),
        };
    }
    Ok(value)
}

fn set_arg(args: &mut Value, name: &str, value: Option<&str>) {
    match args {
        Value::Object(map) => set_in_map(map, name, value),
        Value::Array(list) => {
            let is_it = |arg: &Value| {
                let given = arg.get("name").and_then(Value::as_str);
                given.is_some_and(|given| argv::same_name(given, name))
            };
            let first = list.iter().position(is_it);
            let mut at = 0;
            list.retain(|arg| {
                at += 1;
                !is_it(arg) || (value.is_some() && Some(at - 1) == first)
            });
            match (value, first) {
                (Some(value), Some(first)) => {
                    list[first] = json!({"name": list[first]["name"], "value": value});
                }
                (Some(value), None) => list.push(json!({"name": name, "value": value})),
                (None, _) => {}
            }
        }
        _ => {}
    }
}

fn set_in_map(map: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    let given: Vec<String> = map
        .keys()
        .filter(|given| argv::same_name(given, name))
        .cloned()
        .collect();
    let mut kept = given.first().cloned().unwrap_or_else(|| name.to_owned());
    if given.iter().any(|given| given == name) {
        kept = name.to_owned();
    }
    for given in given {
        map.remove(&given);
    }
    if let Some(value) = value {
        map.insert(kept, value.into());
    }
}

fn set_volume(volumes: &mut Value, volume: &Volume) {
    let Some(list) = volumes.as_array_mut() else {
        return;
    };
    let mut item = json!({
        "name": volume.name,
        "hostPath": volume.host_path.as_str(),
        "mountPath": volume.mount_path.as_str(),
    });
    if volume.read_only {
        item["readOnly"] = true.into();
    }
    if !volume.path_type.is_empty() {
        item["pathType"] = volume.path_type.as_str().into();
    }
    let is_it = |item: &Value| item.get("name").and_then(Value::as_str) == Some(&volume.name);
    let first = list.iter().position(is_it);
    let mut at = 0;
    list.retain(|item| {
        at += 1;
        !is_it(item) || Some(at - 1) == first
    });
    match first {
        Some(first) => list[first] = item,
        None => list.push(item),
    }
}

/// Describes a volume in one line.
pub(super) fn describe(
    name: &str,
    host_path: &str,
    mount_path: &str,
    read_only: bool,
    path_type: &str,
) -> String {
    let access = if read_only { "read-only" } else { "writable" };
    let place = if host_path == mount_path {
        host_path.to_owned()
    } else {
        format!("{host_path} at {mount_path}")
    };
    format!("volume {name}: {place}, {access}, {path_type}")
}

/// Describes a wanted volume in one line, as [`ClusterConfiguration::describe_volume`] does.
pub fn volume_text(volume: &Volume) -> String {
    let path_type = match volume.path_type.as_str() {
        "" => "nothing",
        other => other,
    };
    describe(
        &volume.name,
        volume.host_path.as_str(),
        volume.mount_path.as_str(),
        volume.read_only,
        path_type,
    )
}
