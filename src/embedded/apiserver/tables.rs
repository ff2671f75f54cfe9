//! Printed tables: the columns that kubectl shows for each kind.

use jiff::Timestamp;
use serde_json::{Value, json};

/// A kind's column definitions.
pub fn columns(group: &str, kind: &str) -> Value {
    let _ = (group, kind);
    json!([
        {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
        {"name": "Age", "type": "string", "format": "", "description": "", "priority": 0},
    ])
}

/// An object's cells, in the order of its kind's columns.
pub fn cells(group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let _ = (group, kind, now);
    vec![object["metadata"]["name"].clone(), object["metadata"]["creationTimestamp"].clone()]
}
