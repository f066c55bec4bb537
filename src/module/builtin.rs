//! The modules that are part of the program.

/// Names and texts of the files in `modules/`, by name.
pub(super) const MODULES: &[(&str, &str)] = &[
    ("admission", include_str!("../../modules/admission.toml")),
    ("apiserver", include_str!("../../modules/apiserver.toml")),
    ("audit", include_str!("../../modules/audit.toml")),
    (
        "certificates",
        include_str!("../../modules/certificates.toml"),
    ),
    (
        "controller-manager",
        include_str!("../../modules/controller-manager.toml"),
    ),
    ("encryption", include_str!("../../modules/encryption.toml")),
    ("etcd", include_str!("../../modules/etcd.toml")),
    ("files", include_str!("../../modules/files.toml")),
    ("kube-proxy", include_str!("../../modules/kube-proxy.toml")),
    ("kubelet", include_str!("../../modules/kubelet.toml")),
    (
        "network-policies",
        include_str!("../../modules/network-policies.toml"),
    ),
    ("object", include_str!("../../modules/object.toml")),
    ("scheduler", include_str!("../../modules/scheduler.toml")),
    (
        "tenant-fence",
        include_str!("../../modules/tenant-fence.toml"),
    ),
    ("tenants", include_str!("../../modules/tenants.toml")),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_list_is_the_directory() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("modules");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // The catalogue of controls has a list of its own.
            .filter(|name| name != "controls")
            .collect();
        files.sort();
        let listed: Vec<String> = super::MODULES
            .iter()
            .map(|(name, _)| format!("{name}.toml"))
            .collect();
        assert_eq!(files, listed);
    }
}
