//! Sets of field paths, and their `FieldsV1` form (`fieldpath/set.go`, `fieldpath/serialize.go`).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::Ty;

/// One step of a path.
#[derive(Debug, Clone)]
pub(super) enum Element {
    /// `f:`: a field.
    Field(String),
    /// `k:`: an element of an associative list.
    Key(Vec<(String, Value)>),
    /// `v:`: an element of a set.
    Value(Value),
    /// `i:`: an element by position.
    Index(i64),
}

/// A path from the root.
pub(super) type Path = Vec<Element>;

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(_) | Value::Object(_), _) if rank(a) == rank(b) => a.to_string().cmp(&b.to_string()),
        _ => rank(a).cmp(&rank(b)),
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |element: &Self| match element {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        };
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                for ((name_a, a), (name_b, b)) in a.iter().zip(b) {
                    let next = name_a.cmp(name_b).then_with(|| order(a, b));
                    if next.is_ne() {
                        return next;
                    }
                }
                a.len().cmp(&b.len())
            }
            (Self::Value(a), Self::Value(b)) => order(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

impl Element {
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let map: Map<String, Value> = keys.iter().cloned().collect();
                format!("k:{}", Value::Object(map))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "f" => Self::Field(rest.to_owned()),
            "k" => match serde_json::from_str(rest).ok()? {
                Value::Object(map) => Self::Key(map.into_iter().collect()),
                _ => return None,
            },
            "v" => Self::Value(serde_json::from_str(rest).ok()?),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// As messages print it.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Key(keys) => {
                let parts: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", parts.join(","))
            }
            Self::Value(value) => format!("[={value}]"),
            Self::Index(index) => format!("[{index}]"),
        }
    }
}

/// A path as messages print it.
pub(super) fn show(path: &[Element]) -> String {
    path.iter().map(Element::show).collect()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    children: Set,
}

/// A set of paths: a tree whose nodes may be members themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<Element, Node>,
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds the path; the root itself can't be one.
    pub(super) fn insert(&mut self, path: &[Element]) {
        let [first, rest @ ..] = path else { return };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.children.insert(rest);
        }
    }

    /// Adds a path of fields.
    pub(super) fn insert_fields(&mut self, names: &[&str]) {
        let path: Path = names.iter().map(|&name| Element::Field(name.to_owned())).collect();
        self.insert(&path);
    }

    /// Puts `children` below `element`, which is a member if said; an empty node isn't kept.
    pub(super) fn graft(&mut self, element: Element, member: bool, children: Set) {
        if member || !children.is_empty() {
            self.nodes.insert(element, Node { member, children });
        }
    }

    pub(super) fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.nodes.get(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.nodes.get(first).is_some_and(|node| node.children.has(rest)),
        }
    }

    pub(super) fn has_element(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// What is below `element`.
    pub(super) fn below(&self, element: &Element) -> Option<&Set> {
        self.nodes.get(element).map(|node| &node.children).filter(|set| !set.is_empty())
    }

    /// Calls `f` with every member.
    pub(super) fn each(&self, f: &mut impl FnMut(&[Element])) {
        fn go(set: &Set, path: &mut Path, f: &mut impl FnMut(&[Element])) {
            for (element, node) in &set.nodes {
                path.push(element.clone());
                if node.member {
                    f(path);
                }
                go(&node.children, path, f);
                path.pop();
            }
        }
        go(self, &mut Vec::new(), f);
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.absorb(other);
        out
    }

    /// [`Self::union`] in place.
    pub(super) fn absorb(&mut self, other: &Self) {
        for (element, node) in &other.nodes {
            match self.nodes.get_mut(element) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.children.absorb(&node.children);
                }
                None => {
                    self.nodes.insert(element.clone(), node.clone());
                }
            }
        }
    }

    fn keep(&self, f: impl Fn(&Element, &Node) -> Option<Node>) -> Self {
        let nodes = self.nodes.iter().filter_map(|(element, node)| {
            let node = f(element, node)?;
            (node.member || !node.children.is_empty()).then(|| (element.clone(), node))
        });
        Self { nodes: nodes.collect() }
    }

    /// Makes nothing in `other` a member. Touches no more than what both have.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (element, theirs) in &other.nodes {
            let Some(mine) = self.nodes.get_mut(element) else { continue };
            mine.member &= !theirs.member;
            mine.children.subtract(&theirs.children);
            if !mine.member && mine.children.is_empty() {
                self.nodes.remove(element);
            }
        }
    }

    /// Members of `self` that aren't members of `other`.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.keep(|element, node| match other.nodes.get(element) {
            Some(theirs) => Some(Node {
                member: node.member && !theirs.member,
                children: node.children.difference(&theirs.children),
            }),
            None => Some(node.clone()),
        })
    }

    /// Like [`Self::difference`], and a member takes everything below it along.
    pub(super) fn recursive_difference(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.keep(|element, node| match other.nodes.get(element) {
            Some(theirs) if theirs.member => None,
            Some(theirs) => {
                Some(Node { member: node.member, children: node.children.recursive_difference(&theirs.children) })
            }
            None => Some(node.clone()),
        })
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.keep(|element, node| {
            let theirs = other.nodes.get(element)?;
            Some(Node { member: node.member && theirs.member, children: node.children.intersection(&theirs.children) })
        })
    }

    /// `EnsureNamedFieldsAreMembers`: a struct's field that has members below it is one too.
    pub(super) fn with_named_fields(&self, ty: Ty) -> Self {
        let nodes = self.nodes.iter().map(|(element, node)| {
            let (below, named) = match element {
                Element::Field(name) => (ty.field(name), ty.has_field(name)),
                _ => (ty.element(), false),
            };
            let member = node.member || (named && !node.children.is_empty());
            (element.clone(), Node { member, children: node.children.with_named_fields(below) })
        });
        Self { nodes: nodes.collect() }
    }

    /// `FieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let map = self.nodes.iter().map(|(element, node)| {
            let mut below = node.children.encode();
            if node.member
                && !node.children.is_empty()
                && let Value::Object(map) = &mut below
            {
                map.insert(".".into(), Value::Object(Map::new()));
            }
            (element.encode(), below)
        });
        Value::Object(map.collect())
    }

    /// Whether a member of this is one of `FieldsV1` as [`Self::encode`] makes it.
    pub(super) fn meets(&self, stored: &Value) -> bool {
        self.nodes.iter().any(|(element, node)| {
            stored.get(element.encode()).is_some_and(|below| {
                (node.member && is_member(below)) || (!node.children.is_empty() && node.children.meets(below))
            })
        })
    }

    /// Whether each member of this is one of `FieldsV1` as [`Self::encode`] makes it.
    pub(super) fn is_within(&self, stored: &Value) -> bool {
        self.nodes.iter().all(|(element, node)| {
            stored
                .get(element.encode())
                .is_some_and(|below| (!node.member || is_member(below)) && node.children.is_within(below))
        })
    }

    /// From `FieldsV1`; what can't be read is left out.
    pub(super) fn decode(value: &Value) -> Self {
        let Value::Object(map) = value else { return Self::default() };
        let nodes = map.iter().filter_map(|(key, below)| {
            let element = Element::decode(key)?;
            let children = Self::decode(below);
            let member = children.is_empty() || is_member(below);
            Some((element, Node { member, children }))
        });
        Self { nodes: nodes.collect() }
    }
}

/// Of what stands at an element in `FieldsV1`: whether the element is a member itself.
fn is_member(below: &Value) -> bool {
    below.as_object().is_none_or(|below| below.is_empty() || below.contains_key("."))
}
