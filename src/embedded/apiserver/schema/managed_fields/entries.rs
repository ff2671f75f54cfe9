//! `metadata.managedFields`: entries by identity, in and out
//! (`apimachinery/pkg/util/managedfields/internal/managedfields.go`).

use serde_json::{Map, Value};

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

/// What an entry owns. Most writes touch few of an object's entries, so each stays as it is stored until it is needed.
enum Fields {
    /// `FieldsV1`, as [`Set::encode`] makes it.
    Stored(Value),
    Read(Set),
}

impl Fields {
    fn read(&mut self) -> &mut Set {
        if let Self::Stored(stored) = self {
            *self = Self::Read(Set::decode(stored));
        }
        match self {
            Self::Read(set) => set,
            Self::Stored(_) => unreachable!("it has just been read"),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Stored(stored) => stored.as_object().is_none_or(Map::is_empty),
            Self::Read(set) => set.is_empty(),
        }
    }

    fn add(&mut self, other: &Set) {
        if !matches!(self, Self::Stored(stored) if other.is_within(stored)) {
            self.read().absorb(other);
        }
    }

    fn subtract(&mut self, other: &Set) {
        if !matches!(self, Self::Stored(stored) if !other.meets(stored)) {
            self.read().subtract(other);
        }
    }

    fn encode(self) -> Value {
        match self {
            Self::Stored(stored) => stored,
            Self::Read(set) => set.encode(),
        }
    }
}

struct Row {
    entry: Entry,
    version: String,
    fields: Fields,
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

    pub(super) fn get_mut(&mut self, entry: &Entry) -> Option<&mut Set> {
        self.row(entry).map(|row| row.fields.read())
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
        let fields = Fields::Read(set);
        match self.row(&entry) {
            Some(row) => (row.fields, row.time) = (fields, time),
            None => self.rows.push(Row { version: entry.api_version.clone(), entry, fields, time }),
        }
    }

    /// Adds to what `entry` owns, now.
    pub(super) fn add(&mut self, entry: Entry, set: Set, now: &str) {
        match self.row(&entry) {
            Some(row) => {
                row.fields.add(&set);
                row.time = Some(now.to_owned());
            }
            None => self.insert(entry, set, Some(now.to_owned())),
        }
    }

    pub(super) fn sets(&mut self) -> impl Iterator<Item = (&Entry, &Set)> {
        self.rows.iter_mut().map(|row| (&row.entry, &*row.fields.read()))
    }

    /// Takes from everybody but `entry`.
    pub(super) fn take_from_others(&mut self, entry: &Entry, set: &Set) {
        for row in self.rows.iter_mut().filter(|row| row.entry != *entry) {
            row.fields.subtract(set);
        }
    }

    /// Takes from everybody.
    pub(super) fn take(&mut self, set: &Set) {
        for row in &mut self.rows {
            row.fields.subtract(set);
        }
    }

    pub(super) fn drop_empty(&mut self) {
        self.rows.retain(|row| !row.fields.is_empty());
    }

    /// The list, in upstream's order (`sortEncodedManagedFields`): appliers first, oldest first.
    pub(super) fn encode(mut self) -> Value {
        fn key(row: &Row) -> impl Ord {
            (row.entry.operation, &row.time, &row.entry.manager, &row.version, &row.entry.subresource)
        }
        self.rows.sort_by(|a, b| key(a).cmp(&key(b)));
        let list = self.rows.into_iter().map(|row| {
            let operation = if row.entry.operation == Operation::Apply { "Apply" } else { "Update" };
            let mut map = Map::new();
            map.insert("manager".into(), row.entry.manager.into());
            map.insert("operation".into(), operation.into());
            map.insert("apiVersion".into(), row.version.into());
            if let Some(time) = row.time {
                map.insert("time".into(), time.into());
            }
            map.insert("fieldsType".into(), "FieldsV1".into());
            map.insert("fieldsV1".into(), row.fields.encode());
            if !row.entry.subresource.is_empty() {
                map.insert("subresource".into(), row.entry.subresource.into());
            }
            Value::Object(map)
        });
        Value::Array(list.collect())
    }
}

/// From the list as it is stored; entries without an operation (`[{}]` resets ownership) are left out.
pub(super) fn decode(list: Option<&Value>) -> Managers {
    let mut managers = Managers::default();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let entry = match text("operation") {
            "Apply" => Entry::apply(text("manager"), text("subresource")),
            "Update" => Entry::update(text("manager"), text("apiVersion"), text("subresource")),
            _ => continue,
        };
        let stored = item.get("fieldsV1").unwrap_or(&Value::Null);
        let time = item.get("time").and_then(Value::as_str).map(str::to_owned);
        let version = text("apiVersion").to_owned();
        match managers.row(&entry) {
            Some(row) => {
                row.fields.read().absorb(&Set::decode(stored));
                (row.time, row.version) = (time, version);
            }
            None => managers.rows.push(Row { entry, version, fields: Fields::Stored(stored.clone()), time }),
        }
    }
    managers
}

/// From a list that a client wrote: what can't be read of it is left out.
pub(super) fn decode_given(list: &Value) -> Managers {
    let mut managers = decode(Some(list));
    for row in &mut managers.rows {
        row.fields.read();
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
