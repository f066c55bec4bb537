//! Declarative hardening for self-managed Kubernetes clusters.
//!
//! The way of the data, one folder a step:
//!
//! ```text
//! harden.toml ─┐
//! profiles/*   ├─ profile ──▶ module ──▶ DESIRED ─┐
//! modules/*    ┘                                  ├─ plan ──▶ PLAN ──▶ apply ──▶ GENERATION
//! nodes ─ host ──▶ observe ──▶ FACTS ─────────────┘
//! API ─── cluster ─┘
//! ```
//!
//! [`profile`], [`module`], [`control`], [`resource`], [`distribution`], [`fact`], [`plan`] and
//! [`report`] are pure: they import none of [`host`], [`cluster`], [`observe`], [`apply`] and
//! [`generation`], which do the input and output. `tests/offline/architecture.rs` reads every `use` path and checks it.
//! Nothing in the library prints; the binary's `cli` module does.

pub mod apply;
pub mod cluster;
pub mod control;
pub mod distribution;
pub mod fact;
#[cfg(test)]
mod fuzz;
pub mod generation;
pub mod host;
pub mod module;
pub mod observe;
pub mod plan;
pub mod profile;
pub mod report;
pub mod resource;

/// The version of this program, as recorded in plans and generations.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
