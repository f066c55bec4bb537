//! Tests against real clusters that `testenv/up` brought up. `testenv/test` runs them, one at a
//! time; without it they are ignored.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod admission;
mod audit;
mod bad_flags;
mod bad_input;
mod born;
mod controls;
mod copies;
mod encryption;
mod environment;
mod etcd_data;
mod etcd_urls;
mod etcd_user;
mod fence;
mod ha;
mod impact;
mod interrupted;
mod isolation;
mod joins;
mod kubelets;
mod language;
mod ledger;
mod load_client;
mod lock;
mod machine;
mod objects;
mod refused;
mod renewal;
mod serving_certificates;
mod tenants;
mod thin_line;
mod whole;
