//! Who manages which field: the write pipeline's side of `metadata.managedFields`.
//!
//! The bookkeeping itself is `schema`'s; here it is called for creates, replaces and patches.

use serde_json::Value;

use super::context::WriteOptions;
use super::meta;
use super::registry::Row;
use super::schema::managed_fields;

/// Records a create. `given` is the object before defaults and admission: an applied one has its owners already.
pub fn on_create(row: &Row, object: &mut Value, given: &Value, options: &WriteOptions) {
    if given["metadata"]["managedFields"].as_array().is_some_and(|fields| !fields.is_empty()) {
        return;
    }
    let new = object.take();
    *object = managed_fields::update(row.gvk(), None, new, &options.field_manager, "", &meta::now());
}

/// Records a replace or patch.
pub fn on_update(row: &Row, new: &mut Value, old: &Value, subresource: &str, options: &WriteOptions) {
    let object = new.take();
    *new = managed_fields::update(row.gvk(), Some(old), object, &options.field_manager, subresource, &meta::now());
}
