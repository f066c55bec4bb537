//! Measures how evaluation grows with the number of tenants, on all modules: wall time, peak memory,
//! and both as ratios per tenant.
//!
//! Usage: cargo bench --bench evaluation_growth [-- SIZE…]   (10, 100 and 1000 tenants without)
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use harden::module::evaluate;
use harden::profile::{load, modules};

/// How often each size is evaluated; the median counts.
const RUNS: usize = 5;

/// How tenants are laid out in files.
const LAYOUTS: [&str; 2] = ["one file", "files of ten"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|arg| arg == "child") {
        let number = |i: usize| args[at + i].parse().unwrap();
        return child(number(1), number(2));
    }
    let mut sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10, 100, 1000];
    }
    println!(
        "{RUNS} runs each, medians; a tenant's share is what exceeds a workspace without tenants"
    );
    for (layout, name) in LAYOUTS.iter().enumerate() {
        println!("tenants in {name}:");
        table(layout, &sizes);
    }
}

fn table(layout: usize, sizes: &[usize]) {
    let (time_without, memory_without, _) = measure(layout, 0);
    println!("       0 tenants: {time_without:8.2} ms {memory_without:8.2} MiB");
    let mut first: Option<(f64, f64)> = None;
    for size in sizes {
        let (time, memory, resources) = measure(layout, *size);
        let share = |all: f64, without: f64| (all - without) / *size as f64;
        let (each_time, each_memory) = (share(time, time_without), share(memory, memory_without));
        let (one_time, one_memory) = *first.get_or_insert((each_time, each_memory));
        println!(
            "{size:8} tenants: {time:8.2} ms {memory:8.2} MiB, {resources} resources; \
             each {:.0} µs ({:.2}) and {:.1} KiB ({:.2})",
            each_time * 1000.0,
            each_time / one_time,
            each_memory * 1024.0,
            each_memory / one_memory,
        );
    }
}

/// Evaluates in a process of its own, so that its peak memory is that of one size.
fn measure(layout: usize, size: usize) -> (f64, f64, usize) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["child", &layout.to_string(), &size.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    let mut next = || -> f64 {
        let word = words.next();
        let word = word.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        word.parse().unwrap()
    };
    (next(), next(), next() as usize)
}

fn child(layout: usize, size: usize) {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path(), layout, size);
    let mut times = Vec::new();
    let mut resources = 0;
    let mut peak = 0.0;
    for run in 0..RUNS {
        let begin = Instant::now();
        let modules = modules(dir.path()).unwrap_or_else(|e| panic!("{e:#}"));
        let workspace = load(dir.path(), &modules).unwrap_or_else(|e| panic!("{e:#}"));
        let desired = evaluate(&workspace, &modules).unwrap_or_else(|e| panic!("{e:#}"));
        desired.sha256();
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        resources = desired.resources.len();
        if run == 0 {
            peak = peak_mib();
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{} {peak} {resources}", times[RUNS / 2]);
}

/// The most memory that the process has had, as Linux counts it; 0 elsewhere.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Writes a workspace that sets something of every module, with everything that a tenant can have.
fn workspace(dir: &Path, layout: usize, size: usize) {
    let root = "imports = [\"builtin:cis-level2\", \"builtin:multi-tenant\", \"tenants\"]\n\
                accept = [\"tenants\"]\n[cluster]\nname = \"growth\"\n\
                [nodes.host.n1]\nfiles.kubelet-mode = \"0400\"\n";
    std::fs::write(dir.join("harden.toml"), root).unwrap();
    std::fs::create_dir(dir.join("tenants")).unwrap();
    std::fs::write(dir.join("tenants/none.toml"), "").unwrap();
    let each = if layout == 0 { size.max(1) } else { 10 };
    for first in (0..size).step_by(each) {
        let text: String = (first..size.min(first + each)).map(tenant).collect();
        std::fs::write(dir.join(format!("tenants/{first}.toml")), text).unwrap();
    }
}

fn tenant(n: usize) -> String {
    let mut text = String::new();
    let rule = "{ ports = [{ port = 5432 }], to = [{ ipBlock = { cidr = \"10.0.0.0/24\" } }] }";
    write!(
        text,
        "[tenants.t{n}]\nnamespaces = [\"t{n}-a\", \"t{n}-b\"]\n\
         labels = {{ team = \"t{n}\" }}\n\
         quota = {{ pods = \"{}\", \"requests.memory\" = \"4Gi\" }}\n\
         limits = [{{ type = \"Container\", default = {{ cpu = \"1\" }} }}]\n\
         [network-policies.p{n}]\nnamespace = \"t{n}-a\"\npolicyTypes = [\"Ingress\", \"Egress\"]\n\
         podSelector = {{ matchLabels = {{ app = \"a\" }} }}\negress = [{rule}]\n\
         ingress = [{{ from = [{{ podSelector = {{}} }}] }}]\n",
        n + 1
    )
    .unwrap();
    text
}
