//! Objects of the user's own in a profile: `[[object]]`.
use std::fs;

use harden::module::evaluate;
use harden::profile::{self, Failure, Workspace, load};
use harden::resource::{Desired, Risk};
use serde_json::json;

const HEAD: &str = "cluster.name = \"x\"\naccept = [\"object\"]\n";

const CLASS: &str = r#"
[[object]]
apiVersion = "scheduling.k8s.io/v1"
kind       = "PriorityClass"
metadata   = { name = "batch" }
value      = -10
"#;

const SETTINGS: &str = r#"
[[object]]
apiVersion = "v1"
kind       = "ConfigMap"
metadata   = { name = "settings", namespace = "shop" }
[object.data]
"app.conf" = "level = ${LEVEL}"
"#;

fn read(files: &[(&str, &str)]) -> Result<(Workspace, Desired), Failure> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let head = if *name == "harden.toml" { HEAD } else { "" };
        fs::write(dir.path().join(name), format!("{head}{text}")).unwrap();
    }
    let modules = profile::modules(dir.path())?;
    let workspace = load(dir.path(), &modules)?;
    let desired = evaluate(&workspace, &modules)?;
    Ok((workspace, desired))
}

fn names(files: &[(&str, &str)]) -> Vec<String> {
    let (_, desired) = read(files).unwrap_or_else(|e| panic!("{e:#}"));
    let resources = desired.resources.iter();
    resources.map(|r| r.kind.behaviour().name()).collect()
}

fn wrong(files: &[(&str, &str)]) -> String {
    match read(files) {
        Err(failure) => format!("{failure:#}"),
        Ok(_) => panic!("nothing is wrong with it"),
    }
}

#[test]
fn objects_are_resources_as_they_are_written() {
    let text = format!("{CLASS}{SETTINGS}");
    let (_, desired) = read(&[("harden.toml", &text)]).unwrap();
    let manifests: Vec<_> = desired
        .resources
        .iter()
        .map(|r| r.kind.behaviour().object().unwrap().clone())
        .collect();
    assert_eq!(
        manifests,
        [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"},
                "data": {"app.conf": "level = ${LEVEL}"}}),
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"},
                "value": -10}),
        ]
    );
    assert_eq!(desired.resources[1].risk, Risk::Guarded);
    let origins: Vec<String> = desired.resources[1]
        .origins
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(origins, ["object.PriorityClass/batch at harden.toml:4"]);
}

#[test]
fn the_objects_of_several_files_unite() {
    let root = format!("imports = [\"a.toml\", \"b.toml\"]\n{CLASS}");
    let files = [
        ("harden.toml", root.as_str()),
        ("a.toml", SETTINGS),
        // Both say the same of it.
        ("b.toml", SETTINGS),
    ];
    assert_eq!(
        names(&files),
        ["ConfigMap shop/settings", "PriorityClass batch"]
    );
}

#[test]
fn two_files_that_want_different_things_of_one_object_are_both_named() {
    let other = SETTINGS.replace("LEVEL", "OTHER");
    let root = "imports = [\"a.toml\", \"b.toml\"]\n";
    let files = [
        ("harden.toml", root),
        ("a.toml", SETTINGS),
        ("b.toml", &other),
    ];
    let told = wrong(&files);
    assert!(
        told.contains(
            "imports disagree on `object.ConfigMap/shop/settings`: a.toml:2 and b.toml:2"
        ),
        "{told}"
    );
    // The file that imports them settles it, or takes it back.
    let root = format!("{root}{CLASS}{}", SETTINGS.replace("LEVEL", "MINE"));
    let mut settled = files;
    settled[0].1 = &root;
    assert_eq!(
        names(&settled),
        ["ConfigMap shop/settings", "PriorityClass batch"]
    );
    let root = format!(
        "imports = [\"a.toml\", \"b.toml\"]\nunset = [\"object.ConfigMap/shop/settings\"]\n{CLASS}"
    );
    settled[0].1 = &root;
    assert_eq!(names(&settled), ["PriorityClass batch"]);
}

fn one(version: &str, kind: &str, name: &str, namespace: &str) -> String {
    let namespace = match namespace {
        "" => String::new(),
        name => format!(", namespace = \"{name}\""),
    };
    format!(
        "\n[[object]]\napiVersion = \"{version}\"\nkind = \"{kind}\"\nmetadata = {{ name = \"{name}\"{namespace} }}\n"
    )
}

#[test]
fn what_is_no_object_is_told_with_its_place() {
    for (text, why) in [
        (
            "\n[[object]]\napiVersion = \"v1\"\nkind = \"Secret\"\nmetadata = { name = \"a\" }\n",
            "this is no object that harden can apply: kind: a Secret does not belong in a profile",
        ),
        (
            "\n[[object]]\napiVersion = \"v1\"\nkind = \"ConfigMap\"\n",
            "it needs apiVersion, kind and metadata.name as text",
        ),
        (
            "\n[[object]]\napiVersion = \"v1\"\nkind = \"Pod\"\nmetadata = { name = \"a\" }\nstatus = {}\n",
            "status: only the server sets it",
        ),
        (
            "object = { a = 1 }\n",
            "`object` must be a list of Kubernetes objects, not a table",
        ),
        (
            "object = [1]\n",
            "it needs apiVersion, kind and metadata.name as text",
        ),
        (
            &one("scheduling.k8s.io/v1", "PriorityClass", "a", "shop"),
            "PriorityClass `a` has the namespace `shop`, and a PriorityClass is in none",
        ),
        (
            &one("v1", "ConfigMap", "a", ""),
            "ConfigMap `a` has no namespace",
        ),
        (
            &one("v1", "ConfigMap", "My_Settings", "shop"),
            "metadata.name: no object can have `My_Settings`",
        ),
        (
            &one("v1", "ConfigMap", "a\\nb", "shop"),
            "metadata.name: no object can have `a",
        ),
        (
            &one("v1", "Service", "a.b", "shop"),
            "metadata.name: no object can have `a.b`",
        ),
        (
            &one("v1", "ConfigMap", "a", "../kube-system"),
            "metadata.namespace: no object can have `../kube-system`",
        ),
        (
            &one("rbac.authorization.k8s.io/v1", "ClusterRole", "a/b", ""),
            "metadata.name: no object can have `a/b`",
        ),
        (
            &one("v1/x/y", "ConfigMap", "a", "shop"),
            "apiVersion: no object can have `v1/x/y`",
        ),
        (
            &one("v1", "Config-Map", "a", "shop"),
            "kind: no object can have `Config-Map`",
        ),
    ] {
        let told = wrong(&[("harden.toml", text)]);
        assert!(told.contains(why), "{text}: {told}");
        assert!(told.contains("harden.toml:"), "{text}: {told}");
        assert!(!told.contains("a\nb"), "{told}");
    }
    for fine in [
        one(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            "team:reader",
            "",
        ),
        one("v1", "ConfigMap", "a.b-c", "shop"),
        one("example.org/v1", "Widget", "a", "shop"),
        one("example.org/v1", "Widget", "a", ""),
    ] {
        assert_eq!(names(&[("harden.toml", &fine)]).len(), 1, "{fine}");
    }
    let twice = format!("{CLASS}{CLASS}");
    let told = wrong(&[("harden.toml", &twice)]);
    assert!(
        told.contains("`PriorityClass/batch` is here twice"),
        "{told}"
    );
    assert!(told.contains("it stands at line 4 already"), "{told}");
}

#[test]
fn what_another_module_makes_is_wanted_twice() {
    let text = "[tenants.pay]\nnamespaces = [\"pay\"]\n[[object]]\napiVersion = \"v1\"\nkind = \"Namespace\"\nmetadata = { name = \"pay\" }\n";
    let told = wrong(&[("harden.toml", text)]);
    assert!(told.contains("`Namespace pay` is wanted twice"), "{told}");
    assert!(
        told.contains("object.Namespace/pay at harden.toml:5"),
        "{told}"
    );
    assert!(
        told.contains("tenants.pay") && told.contains("harden.toml:3"),
        "{told}"
    );
}

#[test]
fn a_kind_of_somebody_else_s_api_is_told_apart_by_its_group() {
    let service = |version: &str| {
        format!(
            "[[object]]\napiVersion = \"{version}\"\nkind = \"Service\"\nmetadata = {{ name = \"web\", namespace = \"shop\" }}\n"
        )
    };
    let both = service("v1") + &service("serving.knative.dev/v1");
    // Each has a name of its own in the profile; both are resources of the same name.
    let told = wrong(&[("harden.toml", &both)]);
    assert!(
        told.contains("object.Service.serving.knative.dev/shop/web at harden.toml:7"),
        "{told}"
    );
}

#[test]
fn what_may_be_deleted_is_checked() {
    let (workspace, desired) = read(&[(
        "harden.toml",
        "[apply]\nallow-delete = [\"Namespace/old-team\", \"ConfigMap/shop/settings\"]\n",
    )])
    .unwrap();
    assert_eq!(desired.allow_delete, workspace.apply.allow_delete);
    assert_eq!(desired.allow_delete.len(), 2);
    let without = read(&[("harden.toml", "")]).unwrap().1;
    assert_ne!(without.sha256(), desired.sha256());
    for bad in [
        "old-team",
        "namespace/old-team",
        "Namespace/",
        "A/b/c/d",
        "Namespace/a b",
    ] {
        let text = format!("[apply]\nallow-delete = [{bad:?}]\n");
        let told = wrong(&[("harden.toml", &text)]);
        assert!(told.contains("names no object"), "{bad}: {told}");
        assert!(told.contains("harden.toml:4"), "{bad}: {told}");
        assert!(told.contains("Namespace/old-team"), "{bad}: {told}");
    }
}
