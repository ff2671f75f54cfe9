//! Which wire tag is which field. A Go struct that is inlined in JSON is a message of its own on the wire, whose
//! fields are the outer definition's: hence messages are keyed by (message, definition).

use std::collections::HashMap;

use serde_json::Value;

use crate::Input;
use crate::types::{Tables, definition_name};

/// `(tag, is inlined, field or message index)`.
pub type Row = (u64, bool, usize);

/// The rows of every message; `by_definition[d]` is the message of definition `d`.
#[derive(Default)]
pub struct Messages {
    pub rows: Vec<Vec<Row>>,
    pub by_definition: Vec<Option<usize>>,
    ids: HashMap<(String, usize), usize>,
}

fn normal(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl Messages {
    /// Reads the message of every definition.
    pub fn build(input: &Input, tables: &Tables) -> Result<Self, String> {
        let mut messages = Self { by_definition: vec![None; tables.defs.len()], ..Self::default() };
        let Some(all) = input.protobuf.as_object() else { return Err("protobuf-fields.json is not an object".into()) };
        for name in all.keys() {
            if let Some(&definition) = tables.index.get(&definition_name(name))
                && tables.defs[definition].len > 0
            {
                let id = messages.message(input, tables, name, definition)?;
                messages.by_definition[definition] = Some(id);
            }
        }
        Ok(messages)
    }

    fn message(&mut self, input: &Input, tables: &Tables, name: &str, definition: usize) -> Result<usize, String> {
        if let Some(&id) = self.ids.get(&(name.to_owned(), definition)) {
            return Ok(id);
        }
        let id = self.rows.len();
        self.rows.push(Vec::new());
        self.ids.insert((name.to_owned(), definition), id);
        let def = &tables.defs[definition];
        let fields: HashMap<String, usize> = (def.first..def.first + def.len)
            .map(|index| {
                let (offset, len) = tables.strings.spans[usize::from(tables.fields[index].name)];
                (normal(&tables.strings.text[offset..offset + len]), index)
            })
            .collect();
        let mut rows = Vec::new();
        for row in input.protobuf[name].as_array().into_iter().flatten() {
            let tag = row[0].as_u64().unwrap_or_default();
            let field = row[1].as_str().unwrap_or_default();
            let ty = row[3].as_str().unwrap_or_default();
            if let Some(&index) = fields.get(&normal(field)) {
                rows.push((tag, false, index));
                continue;
            }
            let full = match ty.strip_prefix('.') {
                Some(full) => full.to_owned(),
                None => format!("{}.{ty}", name.rsplit_once('.').map_or("", |(package, _)| package)),
            };
            if !matches!(input.protobuf.get(&full), Some(Value::Array(_))) {
                return Err(format!("{name}.{field} ({ty}) is neither a field of the definition nor a message"));
            }
            rows.push((tag, true, self.message(input, tables, &full, definition)?));
        }
        rows.sort_unstable();
        self.rows[id] = rows;
        Ok(id)
    }
}
