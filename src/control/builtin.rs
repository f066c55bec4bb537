//! The catalogue that is part of the program.

/// Names and texts of the files in `modules/controls/`, by name.
pub(super) const CONTROLS: &[(&str, &str)] = &[
    ("access", include_str!("../../modules/controls/access.toml")),
    (
        "api-server",
        include_str!("../../modules/controls/api-server.toml"),
    ),
    ("audit", include_str!("../../modules/controls/audit.toml")),
    (
        "benchmarks",
        include_str!("../../modules/controls/benchmarks.toml"),
    ),
    (
        "control-plane-configuration",
        include_str!("../../modules/controls/control-plane-configuration.toml"),
    ),
    (
        "control-plane-files",
        include_str!("../../modules/controls/control-plane-files.toml"),
    ),
    (
        "controller-manager",
        include_str!("../../modules/controls/controller-manager.toml"),
    ),
    ("etcd", include_str!("../../modules/controls/etcd.toml")),
    (
        "kube-proxy",
        include_str!("../../modules/controls/kube-proxy.toml"),
    ),
    (
        "kubelet",
        include_str!("../../modules/controls/kubelet.toml"),
    ),
    ("pods", include_str!("../../modules/controls/pods.toml")),
    (
        "policies",
        include_str!("../../modules/controls/policies.toml"),
    ),
    (
        "scheduler",
        include_str!("../../modules/controls/scheduler.toml"),
    ),
    (
        "tenants",
        include_str!("../../modules/controls/tenants.toml"),
    ),
    (
        "worker-files",
        include_str!("../../modules/controls/worker-files.toml"),
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_list_is_the_directory() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("modules/controls");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> = super::CONTROLS
            .iter()
            .map(|(name, _)| format!("{name}.toml"))
            .collect();
        assert_eq!(files, listed);
    }
}
