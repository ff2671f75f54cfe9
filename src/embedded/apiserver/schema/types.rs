//! Whether each value has the JSON type that the Go field takes, in the words of Go's decoder
//! (`sigs.k8s.io/json/internal/golang/encoding/json/decode.go`, `UnmarshalTypeError`; `resource.Quantity.UnmarshalJSON`;
//! `intstr.IntOrString.UnmarshalJSON`; `metav1.Time.UnmarshalJSON`).

use base64::Engine as _;
use serde_json::Value;

use super::decode::DecodeError;
use super::gvk::Gvk;
use super::tables::{Def, Kind, Type};

/// Checks every value of a known kind; a kind without a schema passes.
///
/// # Errors
/// The first value that its field can't take, as Go's decoder reports it.
pub fn check_types(gvk: Gvk<'_>, value: &Value) -> Result<(), DecodeError> {
    match gvk.def() {
        Some(def) => Place { owner: None, path: &mut String::new() }.def(def, value, def.go_name()),
        None => Ok(()),
    }
}

/// Where the walk is: the innermost struct's name and the dotted path, as Go's `errorContext` keeps them.
struct Place<'a> {
    owner: Option<&'static str>,
    path: &'a mut String,
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

impl Place<'_> {
    fn mismatch<T>(&self, found: String, wanted: String) -> Result<T, DecodeError> {
        let place = match self.owner {
            Some(owner) => format!("struct field {owner}.{}", self.path),
            None => "value".to_owned(),
        };
        Err(DecodeError::Type { found, place, wanted })
    }

    fn def(&mut self, def: Def, value: &Value, wanted: String) -> Result<(), DecodeError> {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => return Ok(()),
            other => return self.mismatch(found(other), wanted),
        };
        let len = self.path.len();
        for (key, value) in map {
            let Some(field) = def.field(key) else { continue };
            if len > 0 {
                self.path.push('.');
            }
            self.path.push_str(key);
            Place { owner: Some(def.name()), path: self.path }.ty(field.ty(), value)?;
            self.path.truncate(len);
        }
        Ok(())
    }

    fn ty(&mut self, ty: Type, value: &Value) -> Result<(), DecodeError> {
        if value.is_null() {
            return Ok(());
        }
        match (ty.kind(), value) {
            (Kind::Struct, _) => match ty.def() {
                Some(def) => self.def(def, value, def.go_name()),
                None => Ok(()),
            },
            (Kind::String, Value::String(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Double, Value::Number(_)) => {
                Ok(())
            }
            (Kind::Int32, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
            (Kind::Int64, Value::Number(n)) if n.is_i64() => Ok(()),
            (Kind::Int32 | Kind::Int64, Value::Number(n)) => self.mismatch(format!("number {n}"), go_type(ty)),
            (Kind::Bytes, Value::String(text)) => match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(DecodeError::Format(illegal_base64(text, &error))),
            },
            (Kind::Quantity, Value::String(text)) => quantity(text),
            (Kind::Quantity, Value::Number(n)) => quantity(&n.to_string()),
            (Kind::IntOrString, Value::String(_)) => Ok(()),
            (Kind::IntOrString, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
            (Kind::IntOrString, other) => {
                let found = if let Value::Number(n) = other { format!("number {n}") } else { found(other) };
                Err(DecodeError::Type { found, place: "value".into(), wanted: "int32".into() })
            }
            (Kind::Time | Kind::MicroTime, Value::String(text)) => time(ty.kind(), text),
            (Kind::List, Value::Array(list)) => {
                let Some(element) = ty.element() else { return Ok(()) };
                list.iter().try_for_each(|value| self.ty(element, value))
            }
            (Kind::Map, Value::Object(map)) => {
                let Some(element) = ty.element() else { return Ok(()) };
                map.values().try_for_each(|value| self.ty(element, value))
            }
            (
                Kind::Json
                | Kind::SchemaOrArray
                | Kind::SchemaOrBool
                | Kind::SchemaOrStrings
                | Kind::RawExtension
                | Kind::FieldsV1,
                _,
            )
            | (Kind::Object, Value::Object(_)) => Ok(()),
            // These have their own `UnmarshalJSON`, which decodes into a plain string first and so forgets the field.
            (Kind::Time | Kind::MicroTime, other) => {
                Err(DecodeError::Type { found: found(other), place: "value".into(), wanted: "string".into() })
            }
            (Kind::Quantity, _) => Err(DecodeError::Format(QUANTITY.into())),
            (_, other) => self.mismatch(found(other), go_type(ty)),
        }
    }
}

/// The Go type as `reflect.Type.String` writes it.
fn go_type(ty: Type) -> String {
    match ty.kind() {
        Kind::String => ty.go_scalar().unwrap_or("string").to_owned(),
        Kind::Bool => "bool".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Double => "float64".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Quantity => "resource.Quantity".into(),
        Kind::IntOrString => "intstr.IntOrString".into(),
        Kind::Time => "v1.Time".into(),
        Kind::MicroTime => "v1.MicroTime".into(),
        Kind::List => ty.element().map_or_else(String::new, |element| match element.go_scalar() {
            // A named slice of strings carries its own name.
            Some(name) if name.starts_with("[]") => name.to_owned(),
            _ => format!("[]{}", go_type(element)),
        }),
        Kind::Map => format!("map[string]{}", ty.element().map_or_else(String::new, go_type)),
        _ => ty.def().map_or_else(|| "map[string]interface {}".into(), Def::go_name),
    }
}

const QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// `resource.ParseQuantity`: sign, digits with at most one point, and a known suffix.
fn quantity(text: &str) -> Result<(), DecodeError> {
    let text = text.trim();
    let bad = || Err(DecodeError::Format(QUANTITY.into()));
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits);
    if text.is_empty() || !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
        return bad();
    }
    match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => Ok(()),
        _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
            Some(Ok(_)) => Ok(()),
            _ if suffix.bytes().all(|b| b.is_ascii_alphabetic()) => {
                Err(DecodeError::Format("unable to parse quantity's suffix".into()))
            }
            _ => bad(),
        },
    }
}

/// RFC 3339, in the words of Go's `time.Parse`.
fn time(kind: Kind, text: &str) -> Result<(), DecodeError> {
    if text.is_empty() && kind == Kind::Time {
        return Ok(());
    }
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(());
    }
    let layout = if kind == Kind::MicroTime { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    // Go names the first part of the layout that doesn't fit; the year is the usual one.
    Err(DecodeError::Format(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")))
}

fn illegal_base64(text: &str, error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(value: Value) -> String {
        let gvk = Gvk::of(&value);
        check_types(gvk, &value).expect_err("a wrong type").to_string()
    }

    #[test]
    fn words_of_the_decoder() {
        let deployment = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec});
        for (value, expected) in [
            (
                deployment(json!({"replicas": "3"})),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                deployment(json!({"replicas": 1.5})),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                deployment(json!({"template": {"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}})),
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
            ),
            (
                deployment(json!({"template": {"spec": {"containers": {}}}})),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                deployment(json!([])),
                "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Pod", "spec": {"restartPolicy": true}}),
                "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"resources": {"limits": {"cpu": "1x1"}}}]}}),
                QUANTITY,
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "not base64!"}}),
                "illegal base64 data at input byte 3",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"targetPort": true}]}}),
                "json: cannot unmarshal bool into Go value of type int32",
            ),
        ] {
            assert_eq!(message(value), expected);
        }
    }

    #[test]
    fn what_is_right_passes() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": null, "deletionTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"containers": [{"resources": {"limits": {"cpu": 1, "memory": "1.5Gi", "x": "1e3", "y": "-.5m"}},
                "livenessProbe": {"httpGet": {"port": "http"}}}]}});
        assert_eq!(check_types(Gvk::of(&pod), &pod), Ok(()));
        assert_eq!(check_types(Gvk::new("x.io", "v1", "Foo"), &json!({"spec": 1})), Ok(()));
    }
}
