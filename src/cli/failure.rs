//! What a user meets when something fails: what happened, and what to do.

use harden::apply::ApplyError;
use harden::cluster::ApiError;
use harden::host::HostError;
use harden::observe::InventoryError;
use harden::profile;

/// A failed command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Faults in the workspace's files, with their places.
    Workspace(profile::Failure),
    /// Anything else.
    Other {
        /// What happened.
        what: String,
        /// What to do about it; may be empty.
        hint: String,
    },
}

impl Failure {
    /// A failure with a hint.
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Other {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl From<profile::Failure> for Failure {
    fn from(failure: profile::Failure) -> Self {
        Failure::Workspace(failure)
    }
}

/// A fault of what was typed, which has no place in a file.
impl From<Box<profile::Diagnostic>> for Failure {
    fn from(fault: Box<profile::Diagnostic>) -> Self {
        Failure::new(fault.message, fault.help.unwrap_or_default())
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Failure::new(error.to_string(), error.remedy())
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let hint = match &error {
            ApiError::Config { remedy, .. } => remedy.clone(),
            ApiError::Unreachable { .. } => {
                "`kubectl get --raw /readyz` with the same kubeconfig and context shows whether the \
                 API answers at all"
                    .into()
            }
            ApiError::Forbidden { .. } => {
                "an API server that has just started refuses everybody for some seconds: then try \
                 again; otherwise `kubectl auth can-i --list` shows what this kubeconfig's user may \
                 do, and docs/nodes.md lists what harden needs"
                    .into()
            }
            ApiError::Conflict { fields, .. } => {
                let list: Vec<String> = fields
                    .iter()
                    .map(|f| format!("{} belongs to {:?}", f.field, f.manager))
                    .collect();
                format!(
                    "{}; let one of the two manage the field: remove it there or from the profile",
                    list.join(", ")
                )
            }
            ApiError::Moved { .. } => "nothing was changed; run `harden plan` again".into(),
            ApiError::Locked { who, pid, .. } => format!(
                "wait for {who} to finish; if process {pid} is surely gone from its machine, \
                 `--take-over` takes its locks at once (the one in the API expires 15 minutes after \
                 it was taken or renewed)"
            ),
            ApiError::Foreign { .. } => ApplyError::Api(error.clone()).remedy(),
            ApiError::Ending { .. } => {
                "wait until it is gone, and run `harden plan` again".into()
            }
            ApiError::NoKind { .. } => {
                "install its CustomResourceDefinition again, and run `harden plan` again".into()
            }
            ApiError::Refused { .. } => String::new(),
        };
        Failure::new(error.to_string(), hint)
    }
}

impl From<InventoryError> for Failure {
    fn from(error: InventoryError) -> Self {
        match error {
            InventoryError::Api(api) => api.into(),
            other => Failure::new(other.to_string(), ""),
        }
    }
}
