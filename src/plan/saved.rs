//! The plan as a file, with a digest that tells when the file was edited.

use serde_json::Value;

use super::{Plan, SCHEMA};
use crate::fact::canonical_sha256;

/// The field of a plan file that holds the digest of all others.
const DIGEST: &str = "sha256";

/// Why a text is no plan that can be executed.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It is not JSON, or not that of a plan.
    #[error("is no plan file: {0}")]
    Format(#[from] serde_json::Error),
    /// It is of another format.
    #[error("has schema {0}; this version reads {SCHEMA:?}")]
    Schema(Value),
    /// It does not hash to its own digest.
    #[error("the plan file was changed after it was made")]
    Changed,
}

/// Returns a plan as its file has it: with `sha256`, the digest of everything else.
///
/// It guards against mistakes. Who wants to deceive can write a digest that fits.
///
/// # Errors
/// When the plan holds what JSON cannot hold.
pub fn to_saved(plan: &Plan) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(plan)?;
    // Of what a reader will find: a number may be read as a neighbour of the one that was written.
    let read: Value = serde_json::from_str(&value.to_string())?;
    value[DIGEST] = canonical_sha256(&read).into();
    Ok(value)
}

/// Reads a plan from the text of its file.
///
/// # Errors
/// When it is of another format, or not what [`to_saved`] wrote.
pub fn from_saved(text: &str) -> Result<Plan, SavedError> {
    let mut value: Value = serde_json::from_str(text)?;
    let schema = &value["schema"];
    if schema.is_string() && schema != SCHEMA {
        return Err(SavedError::Schema(schema.clone()));
    }
    let digest = value.as_object_mut().and_then(|plan| plan.remove(DIGEST));
    let plan: Plan = serde_json::from_value(value.clone())?;
    if digest != Some(canonical_sha256(&value).into()) {
        return Err(SavedError::Changed);
    }
    Ok(plan)
}
