//! What strategic merge asks of a type: strategy, key, and the types below.

use super::super::tables::{Def, Kind};
use super::{Gvk, Type};

/// A type as strategic merge sees it.
#[derive(Clone, Copy)]
pub(super) enum Schema {
    /// A definition at the root.
    Root(Def),
    /// The type of a field or element, with the field's strategies.
    Typed(Type),
    /// Nothing is known.
    Unknown,
}

impl Schema {
    /// Of a kind.
    pub(super) fn of(gvk: Gvk<'_>) -> Self {
        gvk.def().map_or(Self::Unknown, Self::Root)
    }

    fn def(self) -> Option<Def> {
        match self {
            Self::Root(def) => Some(def),
            Self::Typed(ty) if ty.kind() == Kind::Struct => ty.def(),
            _ => None,
        }
    }

    /// Of the field called `name`, or of a map's values.
    pub(super) fn field(self, name: &str) -> Self {
        let ty = match (self.def(), self) {
            (Some(def), _) => def.field(name).map(|field| field.ty()),
            (None, Self::Typed(ty)) if ty.kind() == Kind::Map => ty.element(),
            _ => None,
        };
        ty.map_or(Self::Unknown, Self::Typed)
    }

    /// Of a list's elements.
    pub(super) fn element(self) -> Self {
        match self {
            Self::Typed(ty) => ty.element().map_or(Self::Unknown, Self::Typed),
            _ => Self::Unknown,
        }
    }

    /// Whether a list merges.
    pub(super) fn merges(self) -> bool {
        matches!(self, Self::Typed(ty) if ty.patch_merge())
    }

    /// Whether a map is replaced.
    pub(super) fn replaces(self) -> bool {
        matches!(self, Self::Typed(ty) if ty.patch_replace())
    }

    /// The key that a list merges by.
    pub(super) fn merge_key(self) -> Option<&'static str> {
        match self {
            Self::Typed(ty) => ty.merge_key(),
            _ => None,
        }
    }

    /// The element's Go name, for messages.
    pub(super) fn name(self) -> String {
        self.element().def().map_or_else(String::new, |def| def.name().to_owned())
    }
}
