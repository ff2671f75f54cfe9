//! Laying trees over each other: included files side by side, a profile on top.

use super::model::EnvironmentFile;
use super::problem::Problem;
use super::tree::{Entry, Node, Value};

/// Adds a file's parts to those that are there already. A name that both define is a clash, unless they say the same;
/// `wins`: the added file's `cluster` and `name` replace what is there.
pub fn include(base: &mut Vec<Entry>, added: Vec<Entry>, wins: bool, problems: &mut Vec<Problem>) {
    for entry in added {
        let Some(known) = base.iter_mut().find(|known| known.key == entry.key) else {
            base.push(entry);
            continue;
        };
        match entry.key.as_str() {
            "name" | "cluster" if wins => *known = entry,
            "name" | "include" => {}
            "manifests" => match (&mut known.value.value, entry.value.value) {
                (Value::List(known), Value::List(added)) => known.extend(added),
                (_, added) => known.value.value = added,
            },
            "profiles" => profiles(known, entry, problems),
            key if EnvironmentFile::NAMED.contains(&key) => union(known, entry, problems),
            key if key.starts_with("x-") => {}
            _ => clash(known, &entry, problems),
        }
    }
}

fn union(known: &mut Entry, added: Entry, problems: &mut Vec<Problem>) {
    if known.value.is_null() {
        known.value = added.value;
        return;
    }
    // Whatever is not a mapping is reported when it is decoded, if it stays.
    if let (Value::Map(known), Value::Map(added)) = (&mut known.value.value, added.value.value) {
        for entry in added {
            match known.iter().find(|known| known.key == entry.key) {
                Some(known) => clash(known, &entry, problems),
                None => known.push(entry),
            }
        }
    }
}

fn profiles(known: &mut Entry, added: Entry, problems: &mut Vec<Problem>) {
    if known.value.is_null() {
        known.value = added.value;
        return;
    }
    let (Value::Map(known), Value::Map(added)) = (&mut known.value.value, added.value.value) else { return };
    for entry in added {
        match known.iter_mut().find(|known| known.key == entry.key) {
            None => known.push(entry),
            Some(profile) if profile.value.is_null() => profile.value = entry.value,
            Some(profile) => {
                if let (Value::Map(sections), Value::Map(added)) = (&mut profile.value.value, entry.value.value) {
                    include(sections, added, false, problems);
                }
            }
        }
    }
}

fn clash(known: &Entry, added: &Entry, problems: &mut Vec<Problem>) {
    if !known.value.same(&added.value) {
        problems.push(
            Problem::at(added.key_span, format!("`{}` is defined in two files, and differently", added.key))
                .related(known.key_span, "also here")
                .hint(Some("rename one of them, or change it in a profile".to_owned())),
        );
    }
}

/// Lays a profile over a file: mappings are merged deeply, `null` removes, anything else replaces.
pub fn overlay(base: &mut Node, profile: Node, problems: &mut Vec<Problem>) {
    let Node { span, value } = profile;
    match (&mut base.value, value) {
        (Value::Map(entries), Value::Map(changes)) => {
            for change in changes {
                let at = entries.iter().position(|entry| entry.key == change.key);
                match at {
                    Some(at) if change.value.is_null() => {
                        entries.remove(at);
                    }
                    None if change.value.is_null() => problems.push(
                        Problem::at(change.key_span, format!("there is no `{}` to remove", change.key))
                            .hint(Some("`null` in a profile removes what the file says".to_owned())),
                    ),
                    Some(at) => overlay(&mut entries[at].value, change.value, problems),
                    None => entries.push(change),
                }
            }
        }
        (_, value) => *base = Node { span, value },
    }
}
