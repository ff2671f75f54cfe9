//! Objects in the version that was asked for.
//!
//! One version of each resource is kept. Others differ in name only, but for events, whose two
//! groups have other words for the same things (`pkg/apis/events/v1/conversion.go`).

use bytes::Bytes;
use serde_json::Value;

use super::meta;
use super::registry::Row;
use super::store::Stored;

/// A stored object as the row's version has it, as bytes: shared where nothing differs.
pub fn bytes(row: &'static Row, stored: &Stored) -> Bytes {
    if std::ptr::eq(row, row.storage_row()) {
        return stored.bytes.clone();
    }
    Bytes::from(serde_json::to_vec(&value(row, stored)).unwrap_or_default())
}

/// A stored object as the row's version has it.
pub fn value(row: &'static Row, stored: &Stored) -> Value {
    let mut object = stored.value();
    from_storage(row, &mut object);
    object
}

/// Turns a stored object into the row's version.
pub fn from_storage(row: &'static Row, object: &mut Value) {
    if std::ptr::eq(row, row.storage_row()) {
        return;
    }
    object["apiVersion"] = Value::String(row.api_version());
    if row.plural == "events" {
        rename(object, EVENT_FIELDS.iter().copied());
    }
}

/// Turns an object of the row's version into the stored one.
pub fn to_storage(row: &'static Row, object: &mut Value) {
    if std::ptr::eq(row, row.storage_row()) {
        return;
    }
    object["apiVersion"] = Value::String(row.storage_row().api_version());
    if row.plural == "events" {
        rename(object, EVENT_FIELDS.iter().map(|&(old, new)| (new, old)));
    }
}

/// The names in the core group and in `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// Names the kind of an object that came without.
pub fn name_kind(row: &Row, object: &mut Value) {
    meta::metadata(object);
    object["kind"] = Value::String(row.kind.to_owned());
    object["apiVersion"] = Value::String(row.api_version());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::registry;
    use super::*;

    #[test]
    fn an_event_reads_the_same_from_either_group() {
        let row = registry::find("events.k8s.io", "v1", "events").expect("a row");
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"kind": "Pod"}, "reportingController": "c"});
        let mut object = new.clone();
        to_storage(row, &mut object);
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "Event", "message": "n", "involvedObject": {"kind": "Pod"}, "reportingComponent": "c"})
        );
        from_storage(row, &mut object);
        assert_eq!(object, new);
    }
}
