//! Definitions, fields and types.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::Input;
use crate::intern::{Rows, Strings};

/// What the tables call "none".
pub const NONE: u16 = u16::MAX;

/// A type: its kind's name, the flags, and what kind says about the rest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TypeRow {
    pub kind: &'static str,
    pub flags: u8,
    pub arg: u16,
    pub keys: u16,
    pub merge_key: u16,
}

/// Flags of a type. The names are those of `tables.rs`.
pub mod flag {
    pub const LIST_SET: u8 = 1;
    pub const LIST_MAP: u8 = 2;
    pub const ATOMIC: u8 = 4;
    pub const PATCH_MERGE: u8 = 8;
    pub const RETAIN_KEYS: u8 = 16;
    pub const PATCH_REPLACE: u8 = 32;
}

/// Flags of a field.
pub mod field_flag {
    pub const REQUIRED: u8 = 1;
    pub const POINTER: u8 = 2;
    pub const ALWAYS: u8 = 4;
    pub const OMIT_ZERO: u8 = 8;
}

pub struct FieldRow {
    pub name: u16,
    pub ty: u16,
    pub flags: u8,
}

pub struct DefRow {
    pub package: u16,
    pub name: u16,
    pub first: usize,
    pub len: usize,
    pub atomic: bool,
    pub ty: u16,
}

/// The tables as they are built.
#[derive(Default)]
pub struct Tables {
    pub strings: Strings,
    pub types: Rows<TypeRow>,
    pub key_sets: Rows<[u16; 4]>,
    pub fields: Vec<FieldRow>,
    pub defs: Vec<DefRow>,
    /// `(group, version, kind, definition)`, sorted.
    pub gvks: BTreeSet<(String, String, String, usize)>,
    /// Definition index by full name.
    pub index: BTreeMap<String, usize>,
    shapes: HashMap<String, HashMap<String, (String, String)>>,
}

fn shapes() -> HashMap<String, HashMap<String, (String, String)>> {
    include_str!("go-shapes.txt")
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let fields = words
                .map(|word| {
                    let mut parts = word.splitn(3, ':');
                    let mut next = || parts.next().unwrap_or_default().to_owned();
                    (next(), (next(), next()))
                })
                .collect();
            Some((name, fields))
        })
        .collect()
}

/// The definition's name of a protobuf message.
pub fn definition_name(message: &str) -> String {
    let rest = message.strip_prefix("k8s.io.").unwrap_or(message);
    format!("io.k8s.{rest}")
        .replace("apiextensions_apiserver", "apiextensions-apiserver")
        .replace("kube_aggregator", "kube-aggregator")
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Definitions that OpenAPI leaves out, and that bodies and queries nevertheless have: made from their messages.
const FROM_MESSAGES: &[&str] = &[
    "k8s.io.apimachinery.pkg.apis.meta.v1.CreateOptions",
    "k8s.io.apimachinery.pkg.apis.meta.v1.UpdateOptions",
    "k8s.io.apimachinery.pkg.apis.meta.v1.PatchOptions",
    "k8s.io.apimachinery.pkg.apis.meta.v1.GetOptions",
    "k8s.io.apimachinery.pkg.apis.meta.v1.ListOptions",
    "k8s.io.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    "k8s.io.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    "k8s.io.api.core.v1.PodLogOptions",
    "k8s.io.api.core.v1.PodExecOptions",
    "k8s.io.api.core.v1.PodAttachOptions",
    "k8s.io.api.core.v1.PodPortForwardOptions",
];

fn property_from_message(message: &str, cardinality: &str, ty: &str) -> Value {
    let scalar = match ty {
        "string" => json!({"type": "string"}),
        "bool" => json!({"type": "boolean"}),
        "int32" => json!({"type": "integer", "format": "int32"}),
        "int64" => json!({"type": "integer", "format": "int64"}),
        other => {
            let full = match other.strip_prefix('.') {
                Some(full) => full.to_owned(),
                None => format!("{}.{other}", message.rsplit_once('.').map_or("", |(package, _)| package)),
            };
            json!({"$ref": format!("#/definitions/{}", definition_name(&full))})
        }
    };
    if cardinality == "repeated" { json!({"type": "array", "items": scalar}) } else { scalar }
}

fn all_definitions(input: &Input) -> Map<String, Value> {
    let mut all = input.definitions.as_object().cloned().unwrap_or_default();
    for message in FROM_MESSAGES {
        let mut properties = Map::new();
        for row in input.protobuf[*message].as_array().into_iter().flatten() {
            let text = |i: usize| row[i].as_str().unwrap_or_default();
            properties.insert(text(1).to_owned(), property_from_message(message, text(2), text(3)));
        }
        for name in ["apiVersion", "kind"] {
            properties.insert(name.into(), json!({"type": "string"}));
        }
        let (package, kind) = message.rsplit_once('.').unwrap_or_default();
        let mut definition = json!({"type": "object", "properties": properties});
        if package.ends_with("core.v1") {
            definition["x-kubernetes-group-version-kind"] = json!([{"group": "", "version": "v1", "kind": kind}]);
        } else {
            definition["x-kubernetes-group-version-kind"] =
                json!([{"group": "meta.k8s.io", "version": "v1", "kind": kind}]);
        }
        all.insert(definition_name(message), definition);
    }
    all
}

impl Tables {
    /// Reads every definition.
    pub fn build(input: &Input) -> Self {
        let mut tables = Self { shapes: shapes(), ..Self::default() };
        let all = all_definitions(input);
        for (position, name) in all.keys().enumerate() {
            tables.index.insert(name.clone(), position);
        }
        for (name, definition) in &all {
            tables.definition(name, definition);
        }
        tables
    }

    fn definition(&mut self, name: &str, definition: &Value) {
        let (package, short) = name.rsplit_once('.').unwrap_or(("", name));
        let position = self.defs.len();
        let required: BTreeSet<&str> =
            definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let first = self.fields.len();
        let empty = Map::new();
        let properties = definition["properties"].as_object().unwrap_or(&empty);
        for (field, schema) in properties {
            let (shape, go_type) =
                self.shapes.get(name).and_then(|fields| fields.get(field)).cloned().unwrap_or_default();
            let mut flags = 0;
            for (mark, bit) in [('*', field_flag::POINTER), ('!', field_flag::ALWAYS), ('0', field_flag::OMIT_ZERO)] {
                if shape.contains(mark) {
                    flags |= bit;
                }
            }
            if required.contains(field.as_str()) {
                flags |= field_flag::REQUIRED;
            }
            let mut schema = schema.clone();
            // `protocol` is the only list key with a default (`+default="TCP"` in core/v1/types.go); the published
            // description has lost it, see `managed_fields`.
            if field == "spec" && name.ends_with("StorageVersion") {
                schema = json!({"type": "object"});
            }
            let row = FieldRow { name: self.strings.id(field), ty: self.ty(&schema, &go_type), flags };
            self.fields.push(row);
        }
        let ty = if properties.is_empty() { self.special(name, definition) } else { NONE };
        let row = DefRow {
            package: self.strings.id(package),
            name: self.strings.id(short),
            first,
            len: properties.len(),
            atomic: definition["x-kubernetes-map-type"] == "atomic",
            ty,
        };
        self.defs.push(row);
        for gvk in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| gvk[key].as_str().unwrap_or_default().to_owned();
            let everywhere = name == format!("{META}DeleteOptions") || name == format!("{META}WatchEvent");
            if !everywhere || text("group").is_empty() {
                self.gvks.insert((text("group"), text("version"), text("kind"), position));
            }
        }
    }

    fn simple(&mut self, kind: &'static str) -> u16 {
        self.types.id(TypeRow { kind, flags: 0, arg: NONE, keys: NONE, merge_key: NONE })
    }

    /// The type of a definition without properties.
    fn special(&mut self, name: &str, definition: &Value) -> u16 {
        let short = name.rsplit('.').next().unwrap_or_default();
        let kind = match short {
            "Quantity" => "Quantity",
            "IntOrString" => "IntOrString",
            "Time" => "Time",
            "MicroTime" => "MicroTime",
            "JSON" => "Json",
            "JSONSchemaPropsOrArray" => "SchemaOrArray",
            "JSONSchemaPropsOrBool" => "SchemaOrBool",
            "JSONSchemaPropsOrStringArray" => "SchemaOrStrings",
            "RawExtension" => "RawExtension",
            "FieldsV1" => "FieldsV1",
            _ if definition["type"] == "object" => return NONE,
            _ => "Json",
        };
        self.simple(kind)
    }

    fn ty(&mut self, schema: &Value, go_type: &str) -> u16 {
        let mut flags = 0;
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => flags |= flag::LIST_SET,
            Some("map") => flags |= flag::LIST_MAP,
            _ => {}
        }
        if schema["x-kubernetes-map-type"] == "atomic" {
            flags |= flag::ATOMIC;
        }
        for strategy in schema["x-kubernetes-patch-strategy"].as_str().into_iter().flat_map(|s| s.split(',')) {
            flags |= match strategy {
                "merge" => flag::PATCH_MERGE,
                "retainKeys" => flag::RETAIN_KEYS,
                "replace" => flag::PATCH_REPLACE,
                _ => 0,
            };
        }
        let merge_key = schema["x-kubernetes-patch-merge-key"].as_str().map_or(NONE, |key| self.strings.id(key));
        let keys = match schema["x-kubernetes-list-map-keys"].as_array() {
            Some(list) => {
                let mut set = [NONE; 4];
                let mut names: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                names.sort_unstable();
                for (slot, key) in set.iter_mut().zip(names) {
                    *slot = self.strings.id(key);
                }
                self.key_sets.id(set)
            }
            None => NONE,
        };
        let (kind, arg) = self.kind(schema, go_type);
        self.types.id(TypeRow { kind, flags, arg, keys, merge_key })
    }

    fn kind(&mut self, schema: &Value, go_type: &str) -> (&'static str, u16) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.trim_start_matches("#/definitions/");
            let index = self.index.get(name).copied().unwrap_or_else(|| panic!("{name} is not defined"));
            return ("Struct", u16::try_from(index).expect("fewer than 65536 definitions"));
        }
        let go_name = |tables: &mut Self| if go_type.is_empty() { NONE } else { tables.strings.id(go_type) };
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("byte")) => ("Bytes", NONE),
            (Some("string"), _) => ("String", go_name(self)),
            (Some("boolean"), _) => ("Bool", NONE),
            (Some("integer"), Some("int64")) => ("Int64", NONE),
            (Some("integer"), _) => ("Int32", NONE),
            (Some("number"), _) => ("Double", NONE),
            (Some("array"), _) => ("List", self.ty(&schema["items"], go_type)),
            (Some("object"), _) if schema["additionalProperties"].is_object() => {
                ("Map", self.ty(&schema["additionalProperties"], go_type))
            }
            (Some("object"), _) => ("Object", NONE),
            _ => ("Json", NONE),
        }
    }
}
