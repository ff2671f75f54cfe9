//! Printed tables: the columns that kubectl shows for each kind, and an object's cells.
//!
//! Ports `pkg/printers/internalversion/printers.go`: names, order, priorities and the cells' text are upstream's; columns'
//! descriptions are left empty. Pure. Neighbours: `read` and `watch` put rows into `meta.k8s.io/v1 Table` answers. A kind
//! without its own columns gets Name and Created At (`rest.NewDefaultTableConvertor`), a custom resource Name and Age.

mod cluster;
mod format;
mod pods;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::format::{age, name, text};

/// How an object becomes cells.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// A kind's columns, as `Name|type|priority` words, and how an object of it becomes cells.
struct Printer {
    columns: &'static [&'static str],
    cells: Cells,
}

fn printer(group: &str, kind: &str) -> Option<Printer> {
    workloads::printer(group, kind).or_else(|| cluster::printer(group, kind)).or_else(|| storage::printer(group, kind))
}

/// A kind's column definitions.
pub fn columns(group: &str, kind: &str) -> Value {
    match printer(group, kind) {
        Some(printer) => printer.columns.iter().map(|column| definition(column)).collect(),
        None if is_built_in(group) => json!([definition("Name"), definition("Created At:date")]),
        None => json!([definition("Name"), definition("Age:date")]),
    }
}

/// `Name`, `Name:integer`, `Name*` (only shown by `-o wide`).
fn definition(column: &str) -> Value {
    let (column, priority) = column.strip_suffix('*').map_or((column, 0), |column| (column, 1));
    let (name, type_) = column.split_once(':').unwrap_or((column, "string"));
    let format = if name == "Name" { "name" } else { "" };
    json!({"name": name, "type": type_, "format": format, "description": "", "priority": priority})
}

/// An object's cells, in the order of its kind's columns.
pub fn cells(group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    match printer(group, kind) {
        Some(printer) => (printer.cells)(object, now),
        None if is_built_in(group) => vec![name(object), text(&object["metadata"]["creationTimestamp"]).into()],
        None => name_and_age(object, now),
    }
}

/// Custom resources can't be in these groups without an approval that only upstream's own carry.
fn is_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// Name and age: what many kinds end with.
fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

#[cfg(test)]
mod tests;
