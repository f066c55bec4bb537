//! `harden controls` and `harden explain` as they are typed.
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value as Json;

/// What a run said, all of it.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("harden")
        .unwrap()
        .current_dir(dir)
        // Neither a workspace nor a cluster is needed.
        .env_clear()
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The same in one text.
fn told(dir: &Path, args: &[&str]) -> String {
    let (code, out, err) = run(dir, args);
    format!("exit {code}\n{out}{err}")
}

fn json(dir: &Path, args: &[&str]) -> Json {
    let (code, out, err) = run(dir, &[args, &["--format", "json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    serde_json::from_str(&out).unwrap()
}

fn nowhere() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn workspace(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("harden.toml"), text).unwrap();
    dir
}

#[test]
fn a_chapter_of_a_benchmark_in_its_order() {
    let dir = nowhere();
    let args = ["controls", "1.1", "--benchmark", "cis-1.9"];
    let (code, out, err) = run(dir.path(), &args);
    assert_eq!((code, err.as_str()), (0, ""));
    let rows: Vec<String> = out
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            words.join(" ")
        })
        .collect();
    insta::assert_snapshot!(rows.join("\n"), @r#"
cis-1.9 control
1.1.1–1.1.8 manifests-owner-only
1.1.9–1.1.10 cni-files-owner-only
1.1.11 etcd-data-owner-only
1.1.12 etcd-data-own-user
1.1.13–1.1.18 kubeconfigs-owner-only
1.1.19 pki-owned-by-root
1.1.20 pki-certificates-owner-only
1.1.21 pki-keys-owner-only
"#);
    let state = |name: &str| out.lines().find(|l| l.contains(name)).unwrap().to_owned();
    let row = state("kubeconfigs-owner-only");
    assert!(row.ends_with("  enforced  files.kubeconfigs-mode"), "{row}");
}

#[test]
fn the_same_property_under_the_number_of_each_version() {
    let dir = nowhere();
    for (benchmark, id) in [("cis-1.11", "5.2.13"), ("cis-1.12", "5.2.12")] {
        let args = ["controls", "pods-no-host-ports", "--benchmark", benchmark];
        let (code, out, _) = run(dir.path(), &args);
        assert_eq!(code, 0);
        let row = out.lines().nth(1).unwrap();
        assert!(row.starts_with(&format!("{id} ")), "{row}");
    }
}

#[test]
fn all_controls_and_how_much_of_each_benchmark_is_covered() {
    let dir = nowhere();
    let (code, out, err) = run(dir.path(), &["controls"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!out.contains('\u{1b}'), "colours without a terminal");
    assert!(out.lines().all(|line| line == line.trim_end()));
    // Those without a number of the usual benchmark come last.
    let at = |name: &str| out.find(&format!(" {name} ")).unwrap();
    assert!(at("manifests-owner-only") < at("default-namespace-unused"));
    assert!(at("default-namespace-unused") < at("apiserver-tls-modern"));
    let line = |name: &str| {
        out.lines()
            .find(|l| l.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(line("cis-1.12 ").contains("131 checks: "), "{out}");
    assert!(line("cis-1.10 ").contains("130 checks: "), "{out}");

    let (code, out, _) = run(dir.path(), &["controls", "frobnicate"]);
    assert_eq!((code, out.as_str()), (0, "No control matches.\n"));
}

#[test]
fn the_catalogue_as_json() {
    let dir = nowhere();
    let document = json(dir.path(), &["controls", "--benchmark", "pss"]);
    assert_eq!(document["schema"], "harden.dev/controls/v1");
    let controls = document["controls"].as_array().unwrap();
    assert!(controls.iter().all(|c| !c["ids"]["pss"].is_null()));
    // The counts are those of the whole benchmark, and agree with the list.
    let [benchmark] = document["benchmarks"].as_array().unwrap().as_slice() else {
        panic!("{document:#}");
    };
    for state in ["enforced", "configurable", "not-covered"] {
        let listed = controls.iter().filter(|c| c["state"] == state).count();
        assert_eq!(benchmark[state], listed, "{state}");
    }

    let document = json(dir.path(), &["controls", "scheduler-profiling-off"]);
    let control = &document["controls"][0];
    assert_eq!(control["state"], "enforced");
    assert_eq!(control["options"][0], "scheduler.profiling");
    assert_eq!(control["ids"]["cis-1.12"][0], "1.4.1");
    assert!(control["proof"][0].as_str().unwrap().contains("::"));
    assert!(control["unproven"].is_null());
    assert_eq!(document["benchmarks"].as_array().unwrap().len(), 11);
}

#[test]
fn a_benchmark_that_is_not_known() {
    let dir = nowhere();
    let args = ["controls", "--benchmark", "nist-800-53"];
    insta::assert_snapshot!(told(dir.path(), &args), @r#"
exit 1
error: there is no benchmark `nist-800-53`
hint: did you mean `nist-800-53-5`? use `cis-1.9`, `cis-1.10`, `cis-1.11`, `cis-1.12`, `cis-2.0`, `cis-2.1`, `gdpr`, `nist-800-53-5`, `nsa-cisa`, `pci-dss-4.0` or `pss`
"#);
}

#[test]
fn an_option_outside_of_a_workspace() {
    let dir = nowhere();
    insta::assert_snapshot!(told(dir.path(), &["explain", "apiserver.admission-plugins"]), @r#"
exit 0
apiserver.admission-plugins (option)
  Turn these admission plugins on, besides those that are on already.

  type       a set, each item a string that matches `[A-Z][A-Za-z]+`
  risk       restart; the same on every node, or on none
  module     apiserver: Command-line flags of kube-apiserver
  controls   apiserver-admission-plugins: The admission plugins that the profile names are on
             apiserver-node-restriction: A kubelet can change only its own node and pods
  example    apiserver.admission-plugins = ["NodeRestriction"]
"#);
    assert_eq!(
        json(dir.path(), &["explain", "apiserver.profiling"])["values"],
        Json::Null
    );
}

const WORKSPACE: &str = r#"
imports = ["builtin:baseline"]
[cluster]
name = "x"
[apiserver]
profiling = true
admission-plugins = ["AlwaysPullImages"]
[tenants.payments]
namespaces = ["payments"]
quota = { pods = "20", "requests.cpu" = "4" }
[tenants.shop]
namespaces = ["shop"]
quota = { pods = "9" }
"#;

#[test]
fn an_option_of_a_workspace_says_what_holds_and_where_it_comes_from() {
    let dir = workspace(WORKSPACE);
    let values = |name: &str| {
        let (code, out, err) = run(dir.path(), &["explain", name]);
        assert_eq!((code, err.as_str()), (0, ""));
        let (_, values) = out.split_once("\n\n").unwrap();
        values
            .lines()
            .skip_while(|l| !l.contains(" = ") || l.contains("example"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(values("apiserver.profiling"), @r#"
apiserver.profiling = true
  from: harden.toml:6
  from: builtin:baseline:6 says false, overridden
"#);
    insta::assert_snapshot!(values("apiserver.admission-plugins"), @r#"
apiserver.admission-plugins = ["AlwaysPullImages","NodeRestriction"]
  from: harden.toml:7 says ["AlwaysPullImages"]
  from: builtin:baseline:11 says ["NodeRestriction"]
"#);
    // A field of a record has a value in each of them.
    insta::assert_snapshot!(values("tenants.quota"), @r#"
tenants.payments.quota.pods = "20"
  from: harden.toml:10
tenants.payments.quota.requests.cpu = "4"
  from: harden.toml:10
tenants.shop.quota.pods = "9"
  from: harden.toml:13
"#);
    // A value's own name stands for its option, as long as there is such a value.
    insta::assert_snapshot!(values("tenants.shop.quota"), @r#"
tenants.shop.quota.pods = "9"
  from: harden.toml:13
"#);
    let name = |name: &str| json(dir.path(), &["explain", name])["name"].clone();
    assert_eq!(name("tenants.shop.quota"), "tenants.quota");
    assert_eq!(name("tenants.payments.quota.requests.cpu"), "tenants.quota");
    assert_eq!(name("tenants.shop"), "tenants");
    for unknown in [
        "tenants.sho",
        "tenants.shop.limits",
        "apiserver.profiling.x",
    ] {
        assert_eq!(run(dir.path(), &["explain", unknown]).0, 1, "{unknown}");
    }
    let (_, out, _) = run(dir.path(), &["explain", "tenants.limits"]);
    assert!(
        out.ends_with("not set here: neither changed nor judged\n"),
        "{out}"
    );

    let document = json(dir.path(), &["explain", "apiserver.profiling"]);
    assert_eq!(document["schema"], "harden.dev/explain/v1");
    assert_eq!(document["kind"], "option");
    let definitions = document["values"][0]["definitions"].clone();
    assert_eq!(
        definitions,
        serde_json::json!([
            {"file": "harden.toml", "line": 6, "value": true, "holds": true},
            {"file": "builtin:baseline", "line": 6, "value": false, "holds": false},
        ])
    );
    assert_eq!(
        json(dir.path(), &["explain", "tenants.limits"])["values"],
        serde_json::json!([])
    );
}

#[test]
fn a_control_says_who_asks_for_it_and_what_serves_it() {
    let dir = nowhere();
    insta::assert_snapshot!(told(dir.path(), &["explain", "audit-log"]), @r#"
    exit 0
    audit-log (control)
      The API server writes an audit log.

      why        Without one nobody can tell afterwards who did what, or find out how far an intruder got.
      hazard     The log needs disk; in a path that is no volume of the pod it is lost with the container.
      state      enforced: an option serves it, and a test on a real cluster proves it
      options    audit.policy: Record who did what to which object: `metadata` without bodies, `baseline` with those of changes that hold no secret, `writes` only changes and sessions.
                 audit.policy-rules: A policy of your own instead of `policy`: the rules of an audit Policy, in Kubernetes' own fields, of which the first that matches decides.
      checks     kube-apiserver --audit-log-path: value != null && value != ""
      proof      tests/cluster thin_line::over_ssh_weaken_plan_apply_plan_rollback
                 tests/cluster thin_line::over_docker_weaken_plan_apply_plan_rollback
                 tests/cluster controls::each_flag_of_the_control_plane_is_made_bad_and_mended
      level      1 of the CIS profiles
      asked by   CIS Kubernetes Benchmark 1.9, 1.10, 1.11, 1.12, 2.0, 2.1: 1.2.16
                 EU General Data Protection Regulation 2016/679: 32(1)(b)
                 NIST SP 800-53, Security and Privacy Controls Revision 5: AU-2, AU-12
                 NSA and CISA Kubernetes Hardening Guidance 1.2: audit-logging
                 PCI Data Security Standard 4.0: 10.2.1
    "#);
    insta::assert_snapshot!(told(dir.path(), &["explain", "pods-no-host-path"]), @r#"
exit 0
pods-no-host-path (control)
  No pod is admitted that mounts directories of the node.

  why        Through such a volume it reads the node's keys, or leaves files that root will run.
  hazard     Storage drivers and log collectors need it; exempt their namespaces.
  state      not covered: no option serves it
  level      1 of the CIS profiles
  asked by   CIS Kubernetes Benchmark 1.9, 1.10, 1.11: 5.2.12
             CIS Kubernetes Benchmark 1.12, 2.0, 2.1: 5.2.11
             NIST SP 800-53, Security and Privacy Controls Revision 5: AC-6, CM-7
             NSA and CISA Kubernetes Hardening Guidance 1.2: pod-security
             Kubernetes Pod Security Standards 1.35: baseline, restricted
"#);
    let (_, out, _) = run(dir.path(), &["explain", "apiserver-etcd-client-cert"]);
    let unproven = "etcd refuses an API server without it, so that there is no API to plan with.";
    assert!(
        out.contains(
            "  state      configurable: an option serves it; no test on a real cluster proves it\n"
        ) && out.contains(&format!("  unproven   {unproven}\n")),
        "{out}"
    );
    for args in [
        ["explain", "apiserver-etcd-client-cert"],
        ["controls", "1.2.23"],
    ] {
        let document = json(dir.path(), &args);
        let controls = &document["controls"][0];
        let control = if controls.is_null() {
            &document
        } else {
            controls
        };
        assert_eq!(control["unproven"], unproven, "{document:#}");
    }
    let document = json(dir.path(), &["explain", "audit-log"]);
    assert_eq!(document["kind"], "control");
    assert_eq!(document["options"][0]["name"], "audit.policy");
    assert_eq!(document["level"], 1);
}

#[test]
fn a_name_that_is_neither() {
    let dir = nowhere();
    insta::assert_snapshot!(told(dir.path(), &["explain", "apiserver.profilin"]), @r#"
exit 1
error: there is no option or control `apiserver.profilin`
hint: did you mean `apiserver.profiling`? `harden controls` lists the controls and the options that serve them
"#);
    insta::assert_snapshot!(told(dir.path(), &["explain", "audit-lgo"]), @r#"
exit 1
error: there is no option or control `audit-lgo`
hint: did you mean `audit-log`? `harden controls` lists the controls and the options that serve them
"#);
    insta::assert_snapshot!(told(dir.path(), &["explain", "1.2.5"]), @r#"
exit 1
error: there is no option or control `1.2.5`
hint: `harden controls 1.2.5` lists the controls of that number
"#);
    insta::assert_snapshot!(told(dir.path(), &["explain", "apiserver"]), @r#"
exit 1
error: there is no option or control `apiserver`
hint: it is a section: `harden options apiserver` lists what is in it
"#);
    insta::assert_snapshot!(told(dir.path(), &["explain", "frobnicate"]), @r#"
exit 1
error: there is no option or control `frobnicate`
hint: `harden controls` lists the controls and the options that serve them
"#);
}

/// Whoever mends a profile wants to read about its options first.
#[test]
fn a_broken_workspace_is_told_after_the_explanation() {
    let dir = workspace("[cluster]\nname = \"x\"\n[apiserver]\nprofilin = true\n");
    let (code, out, err) = run(dir.path(), &["explain", "apiserver.profiling"]);
    assert_eq!(code, 1);
    assert!(out.contains("Serve profiling data"), "{out}");
    assert!(
        err.contains("harden.toml:4") && err.contains("profilin"),
        "{err}"
    );
    // The catalogue does not look at it.
    assert_eq!(run(dir.path(), &["controls"]).0, 0);
}
