//! How a value that others hold too is written and read: as any other. (serde's own feature for that
//! would have all that depends on serde compiled anew.)

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub(crate) fn serialize<S: Serializer>(value: &Arc<Value>, to: S) -> Result<S::Ok, S::Error> {
    Value::serialize(value, to)
}

pub(crate) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Arc<Value>, D::Error> {
    Value::deserialize(from).map(Arc::new)
}
