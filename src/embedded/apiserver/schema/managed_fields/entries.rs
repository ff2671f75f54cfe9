//! `metadata.managedFields`: entries by identity, in and out
//! (`apimachinery/pkg/util/managedfields/internal/managedfields.go`).

use serde_json::{Map, Value, json};

use super::set::Set;

/// By which kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// Who: two entries of one identity are one. An applier's version isn't part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Entry {
    pub(super) fn apply(manager: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            operation: Operation::Apply,
            api_version: String::new(),
            subresource: subresource.to_owned(),
        }
    }

    pub(super) fn update(manager: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            operation: Operation::Update,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

struct Row {
    entry: Entry,
    version: String,
    set: Set,
    time: Option<String>,
}

/// The managers of one object.
#[derive(Default)]
pub(super) struct Managers {
    rows: Vec<Row>,
}

impl Managers {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn row(&mut self, entry: &Entry) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.entry == *entry)
    }

    pub(super) fn get(&self, entry: &Entry) -> Option<&Set> {
        self.rows.iter().find(|row| row.entry == *entry).map(|row| &row.set)
    }

    pub(super) fn get_mut(&mut self, entry: &Entry) -> Option<&mut Set> {
        self.row(entry).map(|row| &mut row.set)
    }

    pub(super) fn time(&self, entry: &Entry) -> Option<String> {
        self.rows.iter().find(|row| row.entry == *entry).and_then(|row| row.time.clone())
    }

    pub(super) fn touch(&mut self, entry: &Entry, now: &str) {
        if let Some(row) = self.row(entry) {
            row.time = Some(now.to_owned());
        }
    }

    pub(super) fn set_version(&mut self, entry: &Entry, version: &str) {
        if let Some(row) = self.row(entry) {
            version.clone_into(&mut row.version);
        }
    }

    pub(super) fn insert(&mut self, entry: Entry, set: Set, time: Option<String>) {
        match self.row(&entry) {
            Some(row) => (row.set, row.time) = (set, time),
            None => self.rows.push(Row { version: entry.api_version.clone(), entry, set, time }),
        }
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = (&Entry, &Set)> {
        self.rows.iter().map(|row| (&row.entry, &row.set))
    }

    /// Changes everybody's set but `entry`'s.
    pub(super) fn each_other(&mut self, entry: &Entry, f: impl Fn(&mut Set)) {
        for row in self.rows.iter_mut().filter(|row| row.entry != *entry) {
            f(&mut row.set);
        }
    }

    pub(super) fn drop_empty(&mut self) {
        self.rows.retain(|row| !row.set.is_empty());
    }

    /// The list, in upstream's order (`sortEncodedManagedFields`): appliers first, oldest first.
    pub(super) fn encode(&self) -> Value {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| {
            let key = |row: &Row| {
                (
                    row.entry.operation,
                    row.time.clone(),
                    row.entry.manager.clone(),
                    row.version.clone(),
                    row.entry.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let list = rows.into_iter().map(|row| {
            let operation = if row.entry.operation == Operation::Apply { "Apply" } else { "Update" };
            let mut map = Map::new();
            map.insert("manager".into(), json!(row.entry.manager));
            map.insert("operation".into(), json!(operation));
            map.insert("apiVersion".into(), json!(row.version));
            if let Some(time) = &row.time {
                map.insert("time".into(), json!(time));
            }
            map.insert("fieldsType".into(), json!("FieldsV1"));
            map.insert("fieldsV1".into(), row.set.encode());
            if !row.entry.subresource.is_empty() {
                map.insert("subresource".into(), json!(row.entry.subresource));
            }
            Value::Object(map)
        });
        Value::Array(list.collect())
    }
}

/// From the list; entries without an operation (`[{}]` resets ownership) are left out.
pub(super) fn decode(list: Option<&Value>) -> Managers {
    let mut managers = Managers::default();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let entry = match text("operation") {
            "Apply" => Entry::apply(text("manager"), text("subresource")),
            "Update" => Entry::update(text("manager"), text("apiVersion"), text("subresource")),
            _ => continue,
        };
        let mut set = item.get("fieldsV1").map(Set::decode).unwrap_or_default();
        if let Some(old) = managers.get(&entry) {
            set = old.union(&set);
        }
        let time = item.get("time").and_then(Value::as_str).map(str::to_owned);
        let version = text("apiVersion").to_owned();
        managers.insert(entry.clone(), set, time);
        managers.set_version(&entry, &version);
    }
    managers
}

/// Whether two lists differ in nothing but times.
pub(super) fn same_but_times(a: &Value, b: &Value) -> bool {
    let strip = |list: &Value| -> Vec<Value> {
        let mut list = list.as_array().cloned().unwrap_or_default();
        for map in list.iter_mut().filter_map(Value::as_object_mut) {
            map.remove("time");
        }
        list.sort_by_key(Value::to_string);
        list
    };
    strip(a) == strip(b)
}
