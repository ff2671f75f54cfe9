//! Strings and rows that are stored once.

use std::collections::HashMap;

/// Every name of the tables, in one text.
#[derive(Default)]
pub struct Strings {
    /// The text that all strings are slices of.
    pub text: String,
    /// `(offset, length)` by id.
    pub spans: Vec<(usize, usize)>,
    ids: HashMap<String, u16>,
}

impl Strings {
    /// The id of `s`, added if new.
    pub fn id(&mut self, s: &str) -> u16 {
        if let Some(&id) = self.ids.get(s) {
            return id;
        }
        let offset = self.text.find(s).unwrap_or_else(|| {
            self.text.push_str(s);
            self.text.len() - s.len()
        });
        let id = u16::try_from(self.spans.len()).expect("fewer than 65536 names");
        self.spans.push((offset, s.len()));
        self.ids.insert(s.to_owned(), id);
        id
    }
}

/// Rows stored once, by content.
pub struct Rows<T> {
    /// The rows by id.
    pub rows: Vec<T>,
    ids: HashMap<T, u16>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), ids: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Rows<T> {
    /// The id of `row`, added if new.
    pub fn id(&mut self, row: T) -> u16 {
        if let Some(&id) = self.ids.get(&row) {
            return id;
        }
        let id = u16::try_from(self.rows.len()).expect("fewer than 65536 rows");
        self.rows.push(row.clone());
        self.ids.insert(row, id);
        id
    }
}
