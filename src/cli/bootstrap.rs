//! `harden bootstrap`.

use std::convert::Infallible;
use std::path::Path;

use harden::module;
use harden::observe::Wanted;
use harden::plan::{self, Plan};
use harden::profile;
use harden::report::{self, BOOTSTRAP, Newborn};
use serde_json::json;

use super::args::{BootstrapArgs, Global, NewbornName};
use super::execute::{Execution, PATIENCE};
use super::output::Output;
use super::session::{Evaluated, Session};
use super::{Exit, Failure, tree};

/// Writes what a new cluster needs, or prepares a node for joining one.
pub(crate) fn run(args: &BootstrapArgs, global: &Global, output: &Output) -> Result<Exit, Failure> {
    match (&args.on, args.newborn, &args.dir) {
        (Some(node), ..) => prepare(node, args, global, output),
        (None, Some(name), Some(dir)) => write(name, dir, args, global, output),
        _ => Err(Failure::new(
            "neither what makes the cluster nor a node is named",
            "`harden bootstrap kubeadm DIR`, or `harden bootstrap --on NODE`",
        )),
    }
}

fn write(
    name: NewbornName,
    dir: &Path,
    args: &BootstrapArgs,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    let newborn = newborn(name, args)?;
    let evaluated = Evaluated::read(global)?;
    output.findings(&evaluated.desired.findings);
    if let Newborn::Kubeadm {
        version: Some(version),
    } = &newborn
    {
        refuse_unavailable(&evaluated, version)?;
    }
    let made = report::bootstrap(&evaluated.desired, &newborn).map_err(|error| {
        let hint = "`harden eval --format json` shows every resource and the options behind it";
        Failure::new(format!("a new cluster cannot be described: {error}"), hint)
    })?;
    tree::write(dir, &made.files, BOOTSTRAP)?;
    let names: Vec<&String> = made.files.keys().collect();
    let json = json!({
        "schema": "harden.dev/bootstrap/v1",
        "sha256": evaluated.desired.sha256(),
        "files": names,
        "after": made.after,
    });
    output.result("", &json);
    let shown = dir.display();
    output.note(&format!(
        "{} files are in {shown}; README.md there says how to use them.",
        names.len()
    ));
    if !made.after.is_empty() {
        output.note(&format!(
            "A new cluster cannot be born with everything: {} are left, see after.md.",
            counted(made.after.len())
        ));
    }
    if matches!(newborn, Newborn::K3s | Newborn::Rke2) {
        output.note(
            "Written from the documentation, not run on a real one: look at it before you use it.",
        );
    }
    Ok(Exit::Done)
}

fn counted(things: usize) -> String {
    match things {
        1 => "1 thing".to_owned(),
        n => format!("{n} things"),
    }
}

/// Reads what is to be made, and refuses options of something else.
fn newborn(name: NewbornName, args: &BootstrapArgs) -> Result<Newborn, Failure> {
    let only = |option: &str, of: &str| {
        Failure::new(
            format!("{option} is for {of} only; nothing was written"),
            format!("leave {option} out"),
        )
    };
    if args.kubernetes_version.is_some() && name != NewbornName::Kubeadm {
        return Err(only("--kubernetes-version", "kubeadm"));
    }
    for (option, given) in [
        ("--control-planes", args.control_planes),
        ("--workers", args.workers),
    ] {
        if given.is_some() && name != NewbornName::Kind {
            return Err(only(option, "kind"));
        }
    }
    Ok(match name {
        NewbornName::Kubeadm => Newborn::Kubeadm {
            version: args
                .kubernetes_version
                .as_deref()
                .map(version)
                .transpose()?,
        },
        NewbornName::Kind => Newborn::Kind {
            control_planes: args.control_planes.unwrap_or(1).into(),
            workers: args.workers.unwrap_or(0).into(),
        },
        NewbornName::K3s => Newborn::K3s,
        NewbornName::Rke2 => Newborn::Rke2,
    })
}

/// Checks a version and writes it as kubeadm does. Its labels (`stable-1.35`) mean another version
/// every month.
fn version(given: &str) -> Result<String, Failure> {
    let numbers: Vec<&str> = given.trim_start_matches('v').split('.').collect();
    let number = |text: &&str| {
        (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if numbers.len() == 3 && numbers[0] == "1" && numbers.iter().all(number) {
        return Ok(format!("v{}", numbers.join(".")));
    }
    Err(Failure::new(
        format!("{given:?} is no version of Kubernetes; nothing was written"),
        "write it whole, as in v1.35.4",
    ))
}

/// Refuses values of options that this version of Kubernetes does not have.
fn refuse_unavailable(evaluated: &Evaluated, version: &str) -> Result<(), Failure> {
    let minor = version.trim_start_matches('v').rsplit_once('.');
    let minor = minor.map_or_else(String::new, |(minor, _)| minor.to_owned());
    let refused = module::unavailable(&evaluated.workspace, &evaluated.modules, || {
        Ok::<_, Infallible>(minor)
    });
    match refused {
        Ok(refused) if refused.is_empty() => Ok(()),
        Ok(refused) => Err(profile::Failure(refused).into()),
        Err(never) => match never {},
    }
}

/// Places on a node what it needs before it joins.
fn prepare(
    node: &str,
    args: &BootstrapArgs,
    global: &Global,
    output: &Output,
) -> Result<Exit, Failure> {
    let session = Session::open_locked(global, PATIENCE)?;
    output.findings(&session.desired.findings);
    if let Some(layout) = session.desired.distribution.layout() {
        return Err(Failure::new(
            format!(
                "with {} a node that joins reads its own files, which --on does not write; nothing was changed",
                layout.name
            ),
            format!(
                "`harden bootstrap {} DIR` writes them; place them before it is started",
                layout.distribution.name()
            ),
        ));
    }
    if session.inventory.find(node).is_none() {
        let known: Vec<&str> = session
            .inventory
            .joining
            .keys()
            .map(String::as_str)
            .collect();
        let known = match known.as_slice() {
            [] => "no node is declared that is yet to join".to_owned(),
            known => format!("these are declared and yet to join: {}", known.join(", ")),
        };
        return Err(Failure::new(
            format!(
                "{:?} is neither a node of the cluster nor declared; {known}; nothing was changed",
                node
            ),
            "declare it in harden.toml: [nodes.host.NAME] with address and role = \"control-plane\" or \"worker\"; \
             NAME is what its Node object will be called",
        ));
    }
    let execution = Execution::new(&session, output, &args.consent)?;
    execution.run(|| plan_for(&session, node, output))
}

fn plan_for(session: &Session, node: &str, output: &Output) -> Result<Plan, Failure> {
    let Some(info) = session.inventory.find(node) else {
        return Err(Failure::new(format!("{node} is not known any more"), ""));
    };
    let wanted = Wanted::to_prepare(&session.desired, info);
    let mut facts = session.observe(&wanted, output);
    // A node of which nothing is wanted is not asked.
    facts
        .nodes
        .entry(node.to_owned())
        .or_insert_with(|| harden::fact::Node {
            info: info.clone(),
            facts: harden::fact::Fact::Value(Default::default()),
            remedy: String::new(),
        });
    let members = &session.inventory.nodes;
    Ok(plan::prepare(&session.desired, members, &facts, node))
}
