//! A value's field set, and the difference between two values (`typed/tofieldset.go`, `typed/compare.go`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::{Element, Path, Set};
use super::shape::{Shape, Ty};

/// Every path that a value sets.
pub(super) fn to_field_set(ty: Ty, value: &Value) -> Set {
    let mut set = Set::default();
    match (ty.shape(value), value) {
        (Shape::Map, Value::Object(map)) => {
            for (key, value) in map {
                let below = ty.field(key);
                let leaf = is_leaf(below, value);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let member = leaf || empty || !ty.has_field(key);
                let children = if leaf { Set::default() } else { to_field_set(below, value) };
                set.graft(Element::Field(key.clone()), member, children);
            }
        }
        (Shape::List, Value::Array(list)) => {
            let mut seen: BTreeMap<Element, Option<&Value>> = BTreeMap::new();
            for item in list {
                if let Ok(element) = ty.item(item) {
                    // A duplicate is owned as a whole.
                    seen.entry(element).and_modify(|first| *first = None).or_insert(Some(item));
                }
            }
            for (element, item) in seen {
                let children = item.map(|item| to_field_set(ty.element(), item)).unwrap_or_default();
                set.graft(element, true, children);
            }
        }
        _ => {}
    }
    set
}

fn is_leaf(ty: Ty, value: &Value) -> bool {
    ty.shape(value) == Shape::Leaf
}

/// What became of the fields from one value to another. `changed` is upstream's Modified and Added together: nothing
/// here tells them apart.
#[derive(Default)]
pub(super) struct Comparison {
    pub(super) removed: Set,
    pub(super) changed: Set,
}

impl Comparison {
    /// Without what `ignored` covers.
    pub(super) fn excluding(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            removed: self.removed.recursive_difference(ignored),
            changed: self.changed.recursive_difference(ignored),
        }
    }
}

/// The difference between two objects of a type.
pub(super) fn compare(ty: Ty, left: &Value, right: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), out: Comparison::default() };
    walk.both(ty, Some(left), Some(right));
    walk.out
}

struct Walk {
    path: Path,
    out: Comparison,
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

impl Walk {
    fn both(&mut self, ty: Ty, left: Option<&Value>, right: Option<&Value>) {
        // Equal subtrees are most of an object, and have nothing to say.
        if left == right {
            return;
        }
        let shape = |value: Option<&Value>| value.map(|value| ty.shape(value));
        let granular = match (shape(left), shape(right)) {
            (Some(Shape::Leaf), _) | (_, Some(Shape::Leaf)) | (None, None) => None,
            (Some(shape), _) | (None, Some(shape)) => Some(shape),
        };
        match granular.filter(|_| !(is_empty(left) && is_empty(right))) {
            Some(Shape::Map) => {
                let none = Map::new();
                let (l, r) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
                let (l, r) = (l.unwrap_or(&none), r.unwrap_or(&none));
                for (key, value) in l {
                    // Nobody owns who owns what.
                    if key == "managedFields" && matches!(&*self.path, [Element::Field(name)] if name == "metadata") {
                        continue;
                    }
                    self.step(Element::Field(key.clone()), ty.field(key), Some(value), r.get(key));
                }
                for (key, value) in r.iter().filter(|(key, _)| !l.contains_key(*key)) {
                    self.step(Element::Field(key.clone()), ty.field(key), None, Some(value));
                }
            }
            Some(Shape::List) => self.lists(ty, left, right),
            _ => {
                self.leaf(left, right);
                return;
            }
        }
        if left.is_none() {
            self.out.changed.insert(&self.path);
        } else if right.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) {
        if right.is_none() {
            self.out.removed.insert(&self.path);
        } else if left != right {
            self.out.changed.insert(&self.path);
        }
    }

    fn step(&mut self, element: Element, ty: Ty, left: Option<&Value>, right: Option<&Value>) {
        if left == right {
            return;
        }
        self.path.push(element);
        self.both(ty, left, right);
        self.path.pop();
    }

    fn lists(&mut self, ty: Ty, left: Option<&Value>, right: Option<&Value>) {
        let mut items: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (side, list) in [(0, left), (1, right)] {
            for item in list.and_then(Value::as_array).into_iter().flatten() {
                if let Ok(element) = ty.item(item) {
                    let entry = items.entry(element).or_default();
                    if side == 0 { entry.0.push(item) } else { entry.1.push(item) }
                }
            }
        }
        for (element, (left, right)) in items {
            match (left.as_slice(), right.as_slice()) {
                ([] | [_], [] | [_]) => {
                    self.step(element, ty.element(), left.first().copied(), right.first().copied());
                }
                // Duplicates are compared as a whole.
                ([_, _, ..], [_, _, ..]) => {
                    if left != right {
                        self.mark(element, true);
                    }
                }
                ([_, _, ..], rest) => {
                    if let Some(item) = rest.first() {
                        self.step(element.clone(), ty.element(), None, Some(item));
                    }
                    self.mark(element, false);
                }
                (rest, _) => {
                    if let Some(item) = rest.first() {
                        self.step(element.clone(), ty.element(), Some(item), None);
                    }
                    self.mark(element, true);
                }
            }
        }
    }

    fn mark(&mut self, element: Element, is_change: bool) {
        self.path.push(element);
        let set = if is_change { &mut self.out.changed } else { &mut self.out.removed };
        set.insert(&self.path);
        self.path.pop();
    }
}
