//! A stand-in for the service of k3s or RKE2: a real process that reads the configuration and its drop-ins by
//! the documented rules, written here once more and on its own, and comes up or ends. systemctl is one
//! too, and starts it again and again. What harden sees of it comes from the real probe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use harden::distribution::Component;
use harden::distribution::k3s::Layout;
use harden::fact::probe::{SCRIPT, encode, parse};
use harden::fact::{Answer, Fact, NodeFacts, NodePath, Process, Query};
use harden::host::Script;
use harden::plan::{Plan, Step};

use super::Sandbox;

const SYSTEMCTL: &str = r#"#!/bin/sh
run=ROOT/run
case $1 in
reset-failed) ;;
--no-block)
    [ "$#:$2:$3" = 3:restart:UNIT ] || exit 1
    old=$(cat $run/supervisor 2>/dev/null)
    [ -z "$old" ] || kill $old 2>/dev/null
    printf 'LoadState=loaded\nActiveState=activating\nMainPID=0\nNRestarts=0\n' >$run/show
    setsid sh ROOT/service.sh </dev/null >/dev/null 2>&1 &
    ;;
show) cat $run/show ;;
*) exit 1 ;;
esac
"#;

const SERVICE: &str = r#"
run=ROOT/run
config=ROOT/etc/server/config.yaml
main=
restarts=0
echo $$ >$run/supervisor
trap 'kill $main 2>/dev/null; exit 0' TERM
state() {
    [ "$(cat $run/supervisor)" = $$ ] || exit 0
    printf 'LoadState=loaded\nActiveState=%s\nMainPID=%s\nNRestarts=%s\nExecStart={ path=/k3s ; argv[]=/k3s server ; pid=1 }\n' \
        "$1" "$2" "$restarts" >$run/show.$$ && mv $run/show.$$ $run/show
}
merged() {
    set --
    for file in $config $config.d/*.yaml; do
        [ ! -f "$file" ] || set -- "$@" "$file"
        [ ! -f $run/stubborn ] || break
    done
    awk '
        /^[a-z-]+[+]?:/ {
            key = value = $0
            sub(/:.*/, "", key)
            sub(/^[^:]*: */, "", value)
            if (!sub(/[+]$/, "", key)) count[key] = 0
            if (value != "") item[key, count[key]++] = value
        }
        /^ *- / {
            value = $0
            sub(/^ *- /, "", value)
            item[key, count[key]++] = value
        }
        END {
            for (n = 0; n < count["kube-apiserver-arg"]; n++) print "--" item["kube-apiserver-arg", n]
        }' "$@"
}
while [ -d $run ]; do
    args=$(merged)
    case $args in
    *--bad-flag*)
        echo 'time="now" level=fatal msg="apiserver exited: unknown flag: --bad-flag"' >>$run/log
        restarts=$((restarts + 1))
        state activating 0
        sleep 0.1
        continue
        ;;
    esac
    printf 'kube-apiserver\n%s\n' "$args" >$run/args
    sh -c 'while [ -d "$1" ]; do sleep 0.1; done' main $run &
    main=$!
    echo 'level=info msg="it is up and running"' >>$run/log
    state active $main
    wait $main
    restarts=$((restarts + 1))
done
"#;

/// Installs both on a node.
pub fn install(mut node: Sandbox, layout: &Layout) -> Sandbox {
    let root = node.root.display().to_string();
    fs::create_dir_all(node.root.join("run")).unwrap();
    fs::create_dir_all(node.root.join("bin")).unwrap();
    let systemctl = node.root.join("bin/systemctl");
    fs::write(
        &systemctl,
        SYSTEMCTL
            .replace("ROOT", &root)
            .replace("UNIT", layout.service),
    )
    .unwrap();
    fs::set_permissions(&systemctl, PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(node.root.join("service.sh"), SERVICE.replace("ROOT", &root)).unwrap();
    node.bin = Some(node.root.join("bin"));
    node
}

/// Starts the service and waits until it is up.
pub fn start(node: &Sandbox, layout: &Layout) {
    let status = Command::new(node.root.join("bin/systemctl"))
        .args(["--no-block", "restart", layout.service])
        .status()
        .unwrap();
    assert!(status.success());
    let begun = Instant::now();
    while running(node).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", node.name);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The API server in the running service, with the arguments that it was started with.
pub fn running(node: &Sandbox) -> Option<Process> {
    let show = fs::read_to_string(node.root.join("run/show")).ok()?;
    let value = |name: &str| show.lines().find_map(|line| line.strip_prefix(name));
    let pid = value("MainPID=")?.parse().ok()?;
    if value("ActiveState=") != Some("active") || !fs::exists(format!("/proc/{pid}")).unwrap() {
        return None;
    }
    let args = fs::read_to_string(node.root.join("run/args")).ok()?;
    Some(Process {
        pid,
        start: 1,
        argv: args.lines().map(str::to_owned).collect(),
    })
}

/// Makes the service read no drop-in.
pub fn make_stubborn(node: &Sandbox) {
    fs::write(node.root.join("run/stubborn"), "").unwrap();
}

/// Where the configuration is on this node.
fn place(node: &Sandbox) -> String {
    node.root.join("etc/server").display().to_string()
}

/// Asks the real probe. The configuration is below the node's own scratch directory, and the pod that
/// RKE2 makes of it has no process of its own.
pub fn look(node: &Sandbox, layout: &Layout, queries: &[Query]) -> NodeFacts {
    const NONCE: &str = "0123456789abcdef";
    let moved = |query: &Query| match query {
        Query::Config(path) if *path == layout.main_path() => {
            Query::Config(NodePath::new(format!("{}/config.yaml", place(node))).unwrap())
        }
        other => other.clone(),
    };
    let asked: Vec<Query> = queries.iter().map(moved).collect();
    let probe = Script {
        name: "probe",
        text: SCRIPT,
    };
    let output = node.run_with(":", probe, &encode(NONCE, &asked));
    let mut facts = parse(NONCE, &asked, &output.stdout).unwrap();
    let answers = queries.iter().zip(&asked).map(|(query, asked)| {
        let answer = match query {
            Query::Process(program) if *program == Component::KubeApiserver.program() => {
                match running(node) {
                    Some(process) if layout.mounts => Fact::Value(Answer::Process(vec![process])),
                    _ => Fact::Absent,
                }
            }
            // There is no journald here.
            Query::Journal(_) => {
                let log = fs::read_to_string(node.root.join("run/log")).unwrap_or_default();
                Fact::Value(Answer::Log(log))
            }
            _ => facts.remove(asked).unwrap(),
        };
        (query.clone(), answer)
    });
    answers.collect()
}

/// The plan with the paths of the configuration where each node has them.
pub fn moved(
    plan: &Plan,
    layout: &Layout,
    nodes: &std::collections::BTreeMap<String, Sandbox>,
) -> Plan {
    let mut plan = plan.clone();
    let there = layout.main.strip_suffix("/config.yaml").unwrap();
    for stage in &mut plan.stages {
        for step in &mut stage.steps {
            let Step::Node(inner) = &step else { continue };
            let here = place(&nodes[&inner.node]);
            let text = serde_json::to_string(&step).unwrap();
            *step = serde_json::from_str(&text.replace(there, &here)).unwrap();
        }
    }
    plan
}
