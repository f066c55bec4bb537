//! What is typed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// What `--version` says; `-V` says the number alone.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nkubeadm, kind: plan, apply, bootstrap; tested with Kubernetes 1.35",
    "\nk3s, RKE2: bootstrap, plan, apply of what docs/k3s.md lists, from their documentation; not run on a real k3s or RKE2",
);

/// Declarative hardening for self-managed Kubernetes clusters
///
/// A workspace (a directory with harden.toml) says what the cluster should be like. `plan` shows
/// what differs, `apply` changes exactly that behind health gates, `rollback` undoes it.
#[derive(Debug, Parser)]
#[command(name = "harden", version, long_version = LONG_VERSION, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// For every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The workspace: the directory with harden.toml
    #[arg(
        short = 'C',
        long,
        value_name = "DIR",
        default_value = ".",
        global = true
    )]
    pub(crate) workspace: PathBuf,
    /// How to write the result on stdout
    #[arg(long, value_name = "FORMAT", default_value = "human", global = true)]
    pub(crate) format: Format,
    /// Insist on a harden.lock: `plan` and `apply` refuse to work without one, and none is written
    #[arg(long, global = true)]
    pub(crate) frozen: bool,
    /// Say nothing but the result and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for debugging
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Human,
    /// One JSON document with a `schema` field
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what differs from the profile; changes nothing
    ///
    /// Exit status: 0 no changes, 2 changes, 1 error or incomplete (something could not be read or
    /// cannot be done).
    Plan(PlanArgs),
    /// Make the changes of a plan, and nothing else
    ///
    /// Without PLAN, plans first and shows it. Goes one control-plane node at a time; a node whose
    /// gate fails is put back by itself. An apply that was interrupted is finished or put back first.
    ///
    /// Exit status: 0 done, 1 refused, reverted or stopped (says which).
    Apply(ApplyArgs),
    /// Undo a generation, by default the last one that left something
    ///
    /// The undoing is a plan of its own: it is shown, applied behind the same gates, and recorded as
    /// a generation that can be rolled back too.
    ///
    /// Exit status: 0 done, 1 refused, reverted or stopped (says which).
    Rollback(RollbackArgs),
    /// List the record of every apply
    Generations,
    /// Accept the workspace as it is, by writing harden.lock
    ///
    /// It holds the hash of every imported file and of what is built in, the version of harden, the
    /// cluster's id and its minor version of Kubernetes. While any of them differs, `plan` and `apply`
    /// refuse to work and say what has moved.
    ///
    /// Exit status: 0 written or up to date, 1 error; with --check 1 when something differs.
    Lock(LockArgs),
    /// List the controls, what can be done about each, and by which options
    ///
    /// `enforced`: an option serves the control, and a test on a real cluster proves it.
    /// `configurable`: an option serves it, without such a test yet. Needs neither a workspace nor a
    /// cluster.
    Controls(ControlsArgs),
    /// Explain an option or a control; in a workspace, also where an option's value comes from
    Explain(ExplainArgs),
    /// Show what the workspace evaluates to, and where each value comes from; asks no cluster
    ///
    /// Exit status: 0 done, 1 something is wrong with the workspace.
    Eval(EvalArgs),
    /// Show the options that a profile may set
    ///
    /// Those of the modules of the workspace, or without a workspace the built-in ones.
    ///
    /// Exit status: 0 done, 1 nothing was found.
    Options(OptionsArgs),
    /// Write the JSON Schema of harden.toml or of a profile, for editors
    ///
    /// With the options of the modules of the workspace, or without a workspace of the built-in
    /// ones. `plan` and `eval` check more than a schema can.
    Schema(SchemaArgs),
    /// Write the desired state as a tree of files, for review; asks no cluster
    ///
    /// Files as they will lie on the nodes, the flags, modes and volumes that are wanted, and the
    /// API objects. The same workspace gives the same bytes.
    ///
    /// Exit status: 0 written, 1 error: nothing was written.
    Render(RenderArgs),
    /// Write what a new cluster needs to be born as the profile says, or prepare a node for joining
    ///
    /// With FOR and DIR: the configuration for kubeadm, kind, k3s or RKE2, the files that must lie on
    /// the nodes with a script that puts them there, and `after.md`, which lists what a new cluster
    /// cannot be born with. Asks no cluster; the same workspace gives the same bytes.
    ///
    /// With --on: places those files on a machine that is yet to join the cluster, without which a
    /// control plane that joins from there would not start. It is declared as [nodes.host.NODE] with
    /// `role`, and recorded and undone like an apply.
    ///
    /// Exit status: 0 done, 1 error.
    Bootstrap(BootstrapArgs),
    /// See how Secrets and other objects are encrypted in etcd, and have them written anew
    #[command(subcommand)]
    Encryption(EncryptionCommand),
    /// Take, list and restore snapshots of etcd
    #[command(subcommand)]
    Etcd(EtcdCommand),
}

/// What to do about etcd's data.
#[derive(Debug, Subcommand)]
pub(crate) enum EtcdCommand {
    /// Take a snapshot on a control plane, and verify it
    ///
    /// It counts as taken when its pages have been read, its revision is not older than etcd's before, and
    /// it was opened as it would be after a disaster. It stays on the node, in /var/lib/harden/etcd/snapshots,
    /// readable by root only: it holds every Secret. A program takes it away from there, or `--out`.
    ///
    /// Exit status: 0 taken, 1 not.
    Snapshot(SnapshotArgs),
    /// Put a snapshot in the place of all that etcd holds, on a cluster with one control plane
    ///
    /// Everything that was made, changed or deleted since the snapshot is undone, in every namespace. The
    /// control plane stops for about a minute; pods go on. Where it is not well afterwards, the data that
    /// was there before comes back by itself, also when this machine is gone by then; it stays beside the
    /// restored data in any case. With several control planes it is refused: docs/etcd.md has the runbook.
    ///
    /// Exit status: 0 restored, 1 not: says what is there now.
    Restore(RestoreArgs),
    /// Compact etcd and defragment its members, one after the other, the leader last
    ///
    /// Old revisions hold what objects were, in clear too, until both is done. Each member is begun only when
    /// all of them and all API servers are well; it serves nothing while it is at it, for some seconds a
    /// gigabyte. Lists that clients read page by page are begun anew. Then all files are looked through as
    /// `harden etcd scan` does.
    ///
    /// Exit status: 0 done, and nothing lies in clear that should not; 2 done, and something does; 1 not done.
    Defragment(DefragmentArgs),
    /// Find objects that lie in clear in etcd's files
    ///
    /// Of the resources that the encryption configurations name, or of Secrets where there is none: in the
    /// database of every member, its write-ahead log, the snapshots that harden made, and what is left from
    /// before a restore. Old revisions and free pages count. Only counts leave a node.
    ///
    /// Exit status: 0 none, 2 some: says where and when they go; 1 a control plane could not be asked.
    Scan,
    /// List the snapshots on all control planes
    ///
    /// Exit status: 0 listed, 1 a control plane could not be asked.
    Snapshots,
}

/// Of `etcd defragment`.
#[derive(Debug, clap::Args)]
pub(crate) struct DefragmentArgs {
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Of `etcd restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot, as `harden etcd snapshots` names it
    pub(crate) snapshot: String,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Of `etcd snapshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// On this control plane [default: the first by name]
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Delete all but the newest N snapshots that were taken by this command on that node [default: none]
    ///
    /// Those that `apply` and the schedule take have a retention of their own. Whatever else lies there stays.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) keep: Option<u32>,
    /// Also write it to this file, which must not exist yet; it gets the mode 0600. Needs --clear
    #[arg(
        long,
        value_name = "FILE",
        requires = "clear",
        conflicts_with = "command"
    )]
    pub(crate) out: Option<PathBuf>,
    /// Agree that the file holds every Secret of the cluster as etcd has it
    #[arg(long, requires = "out")]
    pub(crate) clear: bool,
    /// Also give it to this program on stdin, which encrypts it: `-- age -r age1… -o etcd.age`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What to do about encryption.
#[derive(Debug, Subcommand)]
pub(crate) enum EncryptionCommand {
    /// Show the file of each control plane, what its API server has loaded, and what lies in etcd
    ///
    /// Of each resource that the files name: which keys read it, and how many objects etcd has under
    /// each key and in clear, counted in every member. No key leaves a node.
    ///
    /// Exit status: 0 seen, 1 something could not be seen.
    Status,
    /// The same, as a check: for a timer or a pipeline
    ///
    /// Where all looks well, every API server is asked for every object that is under a key, one by one: what etcd
    /// has tells the name of a key, and another key of that name could have written it. No content comes here.
    ///
    /// Exit status: 0 every object is under the key that writes, and every API server has loaded the
    /// same file and can read everything; 2 not so; 1 something could not be seen.
    Verify(VerifyArgs),
    /// Have the API server write every object anew that is not under the key that writes
    ///
    /// After a key was put first in the files of all control planes, or encryption has begun. Nothing but
    /// the form in etcd changes, no object's content is read here, and it can be ended and begun again at
    /// any time. It is refused while an API server has not loaded its file, or could not read what
    /// another one writes.
    ///
    /// Exit status: 0 every object is under the key that writes, 1 refused or not every object is.
    Rewrite(RewriteArgs),
    /// Make a new key and bring every object under it, on clusters that encrypt already
    ///
    /// The key is backed up, added to the file of every control plane, loaded by every API server, put
    /// first, loaded again; every object is written anew, counted in every etcd member, and then the old
    /// keys are dropped. A run that ended anywhere is taken up by the next one, from any workstation.
    ///
    /// Exit status: 0 done, or done but for the old keys, which stay without --drop; 1 stopped.
    Rotate(RotateArgs),
    /// Bring every object back into clear, and start the API servers without a file
    ///
    /// `identity` is put first on every control plane and loaded, every object is written anew and counted in
    /// every etcd member; then the keys are dropped from the files, the flags are taken away in all three
    /// copies, one control plane after the other behind its gate, and the files are removed. A run that
    /// ended anywhere is taken up by the next one. Whoever has a copy of etcd can then read everything;
    /// older snapshots still need the keys.
    ///
    /// Exit status: 0 done, 1 stopped.
    Disable(DisableArgs),
}

/// Of `encryption verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// A key that writes must not be older than this, in days, as its name tells
    #[arg(long, value_name = "DAYS")]
    pub(crate) max_age: Option<u64>,
}

/// Of `encryption disable`.
#[derive(Debug, clap::Args)]
pub(crate) struct DisableArgs {
    /// Objects a second that are written anew, at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) rate: u32,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Of `encryption rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// Back the new key up in this file, which must not exist yet; it gets the mode 0600
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub(crate) backup: Option<PathBuf>,
    /// What encrypts: secretbox, or aescbc or aesgcm with their limits (docs/encryption.md) [default: that
    /// of the profile, or else secretbox]
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<ProviderName>,
    /// Also drop the old keys, without asking. It cannot be undone, and older snapshots of etcd need them
    #[arg(long)]
    pub(crate) drop: bool,
    /// Objects a second that are written anew, at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) rate: u32,
    #[command(flatten)]
    pub(crate) consent: Consent,
    /// Back the new key up by this program, which gets it on stdin: `-- age -r age1… -o key.age`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What can encrypt with a key that harden makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderName {
    /// XSalsa20 and Poly1305
    Secretbox,
    /// AES-CBC
    Aescbc,
    /// AES-GCM
    Aesgcm,
}

/// Of `encryption rewrite`.
#[derive(Debug, clap::Args)]
pub(crate) struct RewriteArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Objects a second, at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) rate: u32,
}

/// Of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Save the plan, so that `harden apply FILE` executes exactly it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// One line a change: no reasons, provenance and diffs
    #[arg(long)]
    pub(crate) short: bool,
    /// Show only whom the plan would hit, by tenant
    #[arg(long)]
    pub(crate) only_impact: bool,
    #[command(flatten)]
    pub(crate) hindered: Hindered,
}

/// Of `plan` and `apply`: what to do about objects that cannot be applied as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Hindered {
    /// Take the fields that are in the way from this field manager; may be given several times
    ///
    /// The plan shows what is taken from whom, and a saved plan takes nothing else. What another manager
    /// owns stays a conflict.
    #[arg(long, value_name = "MANAGER", value_parser = manager)]
    pub(crate) take_from: Vec<String>,
    /// Leave this object of the API as it is, so that the rest can be applied; may be given several times
    ///
    /// KIND/NAME, or KIND/NAMESPACE/NAME. The plan says what is left undone with it.
    #[arg(long, value_name = "OBJECT")]
    pub(crate) except: Vec<String>,
}

/// Reads the name of a field manager.
/// Source: apimachinery v0.35 `pkg/apis/meta/v1/validation/validation.go`, `ValidateFieldManager`.
fn manager(text: &str) -> Result<String, String> {
    match text.is_empty() || text.chars().count() > 128 || text.chars().any(char::is_control) {
        true => Err("a field manager's name has 1 to 128 printable characters".into()),
        false => Ok(text.to_owned()),
    }
}

/// Of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// A plan that `harden plan -o` saved
    #[arg(conflicts_with_all = ["take_from", "except"])]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hindered: Hindered,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Reads the number of a generation.
fn generation(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| "a generation has a number: `harden generations` lists them".into())
}

/// Of `rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// The generation's number, as `harden generations` lists it
    #[arg(value_parser = generation)]
    pub(crate) generation: Option<u64>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Of `lock`.
#[derive(Debug, clap::Args)]
pub(crate) struct LockArgs {
    /// Compare only, and write nothing
    #[arg(long)]
    pub(crate) check: bool,
}

/// Of `controls`.
#[derive(Debug, clap::Args)]
pub(crate) struct ControlsArgs {
    /// Only those with this in name, title or options, or with this id or chapter
    pub(crate) query: Option<String>,
    /// Only those of this benchmark, in its order: cis-1.12, nsa-cisa, nist-800-53-5, …
    #[arg(long, value_name = "NAME")]
    pub(crate) benchmark: Option<String>,
}

/// Of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// An option such as `apiserver.profiling`, or a control such as `apiserver-profiling-off`
    #[arg(value_name = "OPTION|CONTROL")]
    pub(crate) name: String,
}

/// Of `eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// Only this option, or a value inside one: every definition of it, and what became of each
    #[arg(long, value_name = "OPTION")]
    pub(crate) why: Option<String>,
    /// As this node sees it: with the values that it has of its own, and its resources only
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only the SHA-256 of the desired state
    #[arg(long, conflicts_with_all = ["why", "node"])]
    pub(crate) hash: bool,
}

/// Of `options`.
#[derive(Debug, clap::Args)]
pub(crate) struct OptionsArgs {
    /// Only those that have this in their name or text
    pub(crate) query: Option<String>,
}

/// Of `schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// Of an imported profile, which holds no settings
    #[arg(long)]
    pub(crate) profile: bool,
}

/// Of `render`.
#[derive(Debug, clap::Args)]
pub(crate) struct RenderArgs {
    /// Where to write; a former render there is replaced, anything else is refused
    pub(crate) dir: PathBuf,
}

/// Of `bootstrap`.
#[derive(Debug, clap::Args)]
pub(crate) struct BootstrapArgs {
    /// What makes the cluster
    #[arg(value_name = "FOR", required_unless_present = "on", requires = "dir")]
    pub(crate) newborn: Option<NewbornName>,
    /// Where to write; what an earlier bootstrap wrote there is replaced, anything else is refused
    pub(crate) dir: Option<PathBuf>,
    /// For kubeadm: the version to make, such as v1.35.4. Options that it does not have are refused
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes_version: Option<String>,
    /// For kind: how many control-plane nodes [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) control_planes: Option<u8>,
    /// For kind: how many other nodes [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=99))]
    pub(crate) workers: Option<u8>,
    /// Prepare this machine for joining, instead of writing anything here
    #[arg(
        long,
        value_name = "NODE",
        conflicts_with_all = ["newborn", "dir", "kubernetes_version", "control_planes", "workers"]
    )]
    pub(crate) on: Option<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// What makes a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewbornName {
    /// `kubeadm init`
    Kubeadm,
    /// `kind create cluster`
    Kind,
    /// k3s (not run on a real one)
    K3s,
    /// RKE2 (not run on a real one)
    Rke2,
}

/// Of every command that changes something.
#[derive(Debug, clap::Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Take the locks of a run on another machine, which you know to have ended
    ///
    /// The locks of a run on this machine that has ended are always taken. Two runs at once leave
    /// the cluster in a state that neither has planned.
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// Parses the command line; on a usage error the exit status is 1, since 2 means "changes".
pub(crate) fn parse() -> Result<Args, ExitCode> {
    Args::try_parse().map_err(|error| {
        let lost = match error.print() {
            Err(why) => why.kind() != std::io::ErrorKind::BrokenPipe,
            Ok(()) => false,
        };
        ExitCode::from(u8::from(error.use_stderr() || lost))
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_definition_is_consistent() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn what_is_no_generation_says_where_they_are_listed() {
        let told = |args: &[&str]| match super::Args::try_parse_from(args) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told(&["harden", "rollback", "7"]), "");
        let text = told(&["harden", "rollback", "foo"]);
        assert!(text.contains("`harden generations` lists them"), "{text}");
        // What a saved plan does is settled.
        let text = told(&["harden", "apply", "p.json", "--except", "ResourceQuota/a/b"]);
        assert!(text.contains("cannot be used with"), "{text}");
    }
}
