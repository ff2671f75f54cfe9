//! Typed views of the generated rows.
//!
//! Everything is an index into a static table; a view is two bytes and `Copy`. Names are slices of one text, so the
//! tables need no relocation.

use super::generated::{DEFS, FIELDS, GVKS, KEY_SETS, MESSAGES, PROTO_FIELDS, STRINGS, TEXT, TYPES};

/// The rows as the generator writes them.
pub(super) mod row {
    /// A slice of the text.
    #[derive(Clone, Copy)]
    pub struct Span(pub u16, pub u8);
    /// See [`Span`].
    pub const fn span(offset: u16, len: u8) -> Span {
        Span(offset, len)
    }

    /// What a type is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u8)]
    pub enum Kind {
        /// A string; `arg` is the Go type's name.
        String,
        /// A boolean.
        Bool,
        /// A 32-bit integer.
        Int32,
        /// A 64-bit integer.
        Int64,
        /// A float.
        Double,
        /// Base64 in JSON, bytes on the wire.
        Bytes,
        /// `resource.Quantity`.
        Quantity,
        /// `intstr.IntOrString`.
        IntOrString,
        /// `metav1.Time`.
        Time,
        /// `metav1.MicroTime`.
        MicroTime,
        /// Any JSON, JSON bytes on the wire.
        Json,
        /// `JSONSchemaPropsOrArray`.
        SchemaOrArray,
        /// `JSONSchemaPropsOrBool`.
        SchemaOrBool,
        /// `JSONSchemaPropsOrStringArray`.
        SchemaOrStrings,
        /// An embedded object of any kind.
        RawExtension,
        /// A field set.
        FieldsV1,
        /// An object without a schema.
        Object,
        /// A definition; `arg` is its index.
        Struct,
        /// A list; `arg` is the element type.
        List,
        /// A map with string keys; `arg` is the value type.
        Map,
    }

    /// A distinct type.
    pub struct Type {
        pub kind: Kind,
        pub flags: u8,
        pub arg: u16,
        pub keys: u16,
        pub merge_key: u16,
    }
    /// See [`Type`].
    pub const fn ty(kind: Kind, flags: u8, arg: u16, keys: u16, merge_key: u16) -> Type {
        Type { kind, flags, arg, keys, merge_key }
    }

    /// A field of a definition.
    pub struct Field {
        pub name: u16,
        pub ty: u16,
        pub flags: u8,
    }
    /// See [`Field`].
    pub const fn field(name: u16, ty: u16, flags: u8) -> Field {
        Field { name, ty, flags }
    }

    /// A definition.
    pub struct Def {
        pub package: u16,
        pub name: u16,
        pub first: u16,
        pub len: u8,
        pub atomic: u8,
        pub ty: u16,
        pub message: u16,
    }
    /// See [`Def`].
    pub const fn def(package: u16, name: u16, first: u16, len: u8, atomic: u8, ty: u16, message: u16) -> Def {
        Def { package, name, first, len, atomic, ty, message }
    }

    /// Tag, whether it is an inlined message, and the field or message.
    pub type ProtoField = (u8, bool, u16);
}

pub(super) use row::Kind;

const NONE: u16 = u16::MAX;

fn text(id: u16) -> &'static str {
    let span = STRINGS[usize::from(id)];
    let start = usize::from(span.0);
    &TEXT[start..start + usize::from(span.1)]
}

/// A definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Def(u16);
/// A field of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field(u16);
/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type(u16);
/// A protobuf message, seen from a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message(u16);

/// Where a wire tag leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a field.
    Field(Field),
    /// To a message whose fields are the same definition's.
    Inline(Message),
}

/// The definition of a group, version and kind.
pub(super) fn lookup(group: &str, version: &str, kind: &str) -> Option<Def> {
    let found = GVKS.binary_search_by(|row| (text(row[0]), text(row[1]), text(row[2])).cmp(&(group, version, kind)));
    found.ok().map(|position| Def(GVKS[position][3]))
}

/// Every group, version and kind with its definition.
pub(super) fn gvks() -> impl Iterator<Item = (&'static str, &'static str, &'static str, Def)> {
    GVKS.iter().map(|row| (text(row[0]), text(row[1]), text(row[2]), Def(row[3])))
}

impl Def {
    fn row(self) -> &'static row::Def {
        &DEFS[usize::from(self.0)]
    }

    /// The Go type's name, without package.
    pub(super) fn name(self) -> &'static str {
        text(self.row().name)
    }

    /// The package (`io.k8s.api.core.v1`).
    pub(super) fn package(self) -> &'static str {
        text(self.row().package)
    }

    /// The definition's full name.
    pub(super) fn full_name(self) -> String {
        format!("{}.{}", self.package(), self.name())
    }

    /// The Go type as error messages write it (`v1.Container`).
    pub(super) fn go_name(self) -> String {
        format!("{}.{}", self.package().rsplit('.').next().unwrap_or_default(), self.name())
    }

    /// The fields, sorted by name.
    pub(super) fn fields(self) -> impl ExactSizeIterator<Item = Field> {
        let row = self.row();
        (row.first..row.first + u16::from(row.len)).map(Field)
    }

    /// The field called `name`.
    pub(super) fn field(self, name: &str) -> Option<Field> {
        let row = self.row();
        let first = usize::from(row.first);
        let rows = &FIELDS[first..first + usize::from(row.len)];
        let position = rows.binary_search_by(|field| text(field.name).cmp(name)).ok()?;
        Some(Field(row.first + u16::try_from(position).ok()?))
    }

    /// What a definition without fields really is (a quantity, a time…).
    pub(super) fn special(self) -> Option<Type> {
        let ty = self.row().ty;
        (ty != NONE).then_some(Type(ty))
    }

    /// Whether the whole value is one leaf for ownership.
    pub(super) fn is_atomic(self) -> bool {
        self.row().atomic != 0
    }

    /// Its protobuf message.
    pub(super) fn message(self) -> Option<Message> {
        let message = self.row().message;
        (message != NONE).then_some(Message(message))
    }
}

impl Field {
    fn row(self) -> &'static row::Field {
        &FIELDS[usize::from(self.0)]
    }

    /// The name in JSON.
    pub(super) fn name(self) -> &'static str {
        text(self.row().name)
    }

    /// Its type; a reference to a special definition is already followed.
    pub(super) fn ty(self) -> Type {
        Type(self.row().ty)
    }

    /// Whether the description requires it.
    pub(super) fn is_required(self) -> bool {
        self.row().flags & 1 != 0
    }

    /// Whether Go holds a pointer: present zero differs from absent.
    pub(super) fn is_pointer(self) -> bool {
        self.row().flags & 2 != 0
    }

    /// Whether Go writes it even when empty (no `omitempty`).
    pub(super) fn is_always(self) -> bool {
        self.row().flags & 4 != 0
    }

    /// Whether Go leaves the zero struct out (`omitzero`).
    pub(super) fn omits_zero(self) -> bool {
        self.row().flags & 8 != 0
    }
}

impl Type {
    fn row(self) -> &'static row::Type {
        &TYPES[usize::from(self.0)]
    }

    /// What it is. A definition without fields is what it stands for.
    pub(super) fn kind(self) -> Kind {
        match self.row().kind {
            Kind::Struct => match Def(self.row().arg) {
                def if def.row().len > 0 => Kind::Struct,
                def => def.special().map_or(Kind::Object, Type::kind),
            },
            kind => kind,
        }
    }

    /// The definition, of a struct.
    pub(super) fn def(self) -> Option<Def> {
        (self.row().kind == Kind::Struct).then(|| Def(self.row().arg))
    }

    /// The element or value type, of a list or map.
    pub(super) fn element(self) -> Option<Type> {
        matches!(self.row().kind, Kind::List | Kind::Map).then(|| Type(self.row().arg))
    }

    /// The Go name of a scalar's type, when it isn't the plain one.
    pub(super) fn go_scalar(self) -> Option<&'static str> {
        let row = self.row();
        (row.kind == Kind::String && row.arg != NONE).then(|| text(row.arg))
    }

    fn has(self, flag: u8) -> bool {
        self.row().flags & flag != 0
    }

    /// An associative list of scalars.
    pub(super) fn is_set(self) -> bool {
        self.has(1)
    }

    /// An associative list of objects with keys.
    pub(super) fn is_list_map(self) -> bool {
        self.has(2)
    }

    /// A map or struct that is one leaf for ownership.
    pub(super) fn is_atomic(self) -> bool {
        self.has(4) || self.def().is_some_and(Def::is_atomic)
    }

    /// `patchStrategy=merge`.
    pub(super) fn patch_merge(self) -> bool {
        self.has(8)
    }

    /// `patchStrategy=retainKeys`.
    pub(super) fn retain_keys(self) -> bool {
        self.has(16)
    }

    /// `patchStrategy=replace`.
    pub(super) fn patch_replace(self) -> bool {
        self.has(32)
    }

    /// `patchMergeKey`.
    pub(super) fn merge_key(self) -> Option<&'static str> {
        let key = self.row().merge_key;
        (key != NONE).then(|| text(key))
    }

    /// The keys of an associative list, sorted.
    pub(super) fn keys(self) -> impl Iterator<Item = &'static str> {
        let set = KEY_SETS.get(usize::from(self.row().keys)).copied().unwrap_or([NONE; 4]);
        set.into_iter().take_while(|id| *id != NONE).map(text)
    }
}

impl Message {
    /// Where `tag` leads.
    pub(super) fn target(self, tag: u64) -> Option<Target> {
        let (first, len) = MESSAGES[usize::from(self.0)];
        let rows = &PROTO_FIELDS[usize::from(first)..usize::from(first) + usize::from(len)];
        let position = rows.binary_search_by_key(&tag, |row| u64::from(row.0)).ok()?;
        let (_, inline, to) = rows[position];
        Some(if inline { Target::Inline(Message(to)) } else { Target::Field(Field(to)) })
    }
}
