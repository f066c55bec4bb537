//! The profiles that are part of the program.

/// Names and texts of the files in `profiles/`, by name.
pub(super) const PROFILES: &[(&str, &str)] = &[
    ("baseline", include_str!("../../profiles/baseline.toml")),
    ("cis-level1", include_str!("../../profiles/cis-level1.toml")),
    ("cis-level2", include_str!("../../profiles/cis-level2.toml")),
    (
        "multi-tenant",
        include_str!("../../profiles/multi-tenant.toml"),
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_list_is_the_directory() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> = super::PROFILES
            .iter()
            .map(|(name, _)| format!("{name}.toml"))
            .collect();
        assert_eq!(files, listed);
    }
}
