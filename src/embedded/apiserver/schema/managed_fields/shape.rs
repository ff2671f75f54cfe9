//! What ownership asks of a type: is it one leaf, a map of fields, or a list of keyed elements
//! (`schema/elements.go`; the deduced shape of `typed/parser.go`, `DeducedParseableType`).

use serde_json::Value;

use super::super::gvk::Gvk;
use super::super::tables::{Def, Kind, Type};
use super::set::Element;

/// A type as ownership sees it.
#[derive(Clone, Copy)]
pub(super) enum Ty {
    /// The definition at the root.
    Root(Def),
    /// The type of a field or element.
    Typed(Type),
    /// Deduced from the value: maps by field, the rest leaves.
    Deduced,
}

/// How a value is owned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As a whole.
    Leaf,
    /// By field or key.
    Map,
    /// By element.
    List,
}

impl Ty {
    pub(super) fn of(gvk: Gvk<'_>) -> Self {
        gvk.def().map_or(Self::Deduced, Self::Root)
    }

    fn def(self) -> Option<Def> {
        match self {
            Self::Root(def) => Some(def),
            Self::Typed(ty) if ty.kind() == Kind::Struct => ty.def(),
            _ => None,
        }
    }

    /// How a value of this type is owned; null fits every shape.
    pub(super) fn shape(self, value: &Value) -> Shape {
        let of_type = match self {
            Self::Root(_) => Shape::Map,
            Self::Deduced => return if value.is_object() { Shape::Map } else { Shape::Leaf },
            Self::Typed(ty) => match ty.kind() {
                Kind::Struct | Kind::Map if !ty.is_atomic() => Shape::Map,
                Kind::List if ty.is_set() || ty.is_list_map() => Shape::List,
                Kind::Object | Kind::FieldsV1 => return if value.is_object() { Shape::Map } else { Shape::Leaf },
                _ => Shape::Leaf,
            },
        };
        match (of_type, value) {
            (Shape::Map, Value::Object(_) | Value::Null) | (Shape::List, Value::Array(_) | Value::Null) => of_type,
            _ => Shape::Leaf,
        }
    }

    /// Whether only the fields that it declares may be there.
    pub(super) fn is_struct(self) -> bool {
        self.def().is_some()
    }

    /// Whether it is a struct with this field (and not a map with this key).
    pub(super) fn has_field(self, name: &str) -> bool {
        self.def().is_some_and(|def| def.field(name).is_some())
    }

    /// The type of a field or key.
    pub(super) fn field(self, name: &str) -> Self {
        let ty = match (self.def(), self) {
            (Some(def), _) => def.field(name).map(|field| field.ty()),
            (None, Self::Typed(ty)) if ty.kind() == Kind::Map => ty.element(),
            _ => None,
        };
        ty.map_or(Self::Deduced, Self::Typed)
    }

    /// The type of a list's elements.
    pub(super) fn element(self) -> Self {
        match self {
            Self::Typed(ty) => ty.element().map_or(Self::Deduced, Self::Typed),
            _ => Self::Deduced,
        }
    }

    /// The path element of a list's item (`listItemToPathElement`).
    pub(super) fn item(self, item: &Value) -> Result<Element, String> {
        let Self::Typed(ty) = self else { return Err("invalid indexing of non-associative list".into()) };
        if !ty.is_list_map() {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(Element::Value(scalar.clone())),
            };
        }
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let mut keys = Vec::new();
        for key in ty.keys() {
            match map.get(key) {
                Some(value) => keys.push((key.to_owned(), value.clone())),
                // The only key with a default: `+default="TCP"` in core/v1/types.go, which the published v2
                // description leaves out.
                None if key == "protocol" => keys.push((key.to_owned(), "TCP".into())),
                None => {}
            }
        }
        if keys.is_empty() {
            let names: Vec<_> = ty.keys().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(Element::Key(keys))
    }
}
