//! Everything that needs no cluster: one program, since each would be linked with all of harden again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod apply_world;
mod command;
mod plan_support;

mod api_server_files;
mod apply;
mod apply_certificates;
mod apply_k3s;
mod apply_ledger;
mod apply_planes;
mod architecture;
mod audit_policy;
mod bootstrap;
mod bootstrap_command;
mod catalogue;
mod certificates;
mod etcd_data;
mod eval_command;
mod generated_docs;
mod host_docker;
mod kinds_etcd;
mod kinds_kubeadm;
mod lock_command;
mod objects;
mod options_command;
mod plan_cis;
mod plan_command;
mod plan_encryption;
mod plan_entries;
mod plan_etcd_snapshots;
mod plan_etcd_urls;
mod plan_etcd_user;
mod plan_flags;
mod plan_impact;
mod plan_k3s;
mod plan_kubelet;
mod plan_leaving;
mod plan_lists;
mod plan_members;
mod plan_objects;
mod plan_preconditions;
mod plan_prepare;
mod probe_encryption;
mod probe_script;
mod profile;
mod profile_baseline;
mod profile_checks;
mod profile_hostile;
mod profile_language;
mod profile_laws;
mod profile_lock;
mod profile_merge_laws;
mod profile_purity;
mod render_command;
mod schema;
mod sent_scripts;
mod tenant_fence;
mod tenants;
mod test_command;
mod transaction;
mod transaction_certificates;
mod transaction_keys;
mod transaction_trees;
