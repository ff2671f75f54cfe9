//! Values with several forms: a word or a mapping, a number or its long form.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::workload::{EnvSource, HttpFields, NeedCondition, PortFields};
use crate::envfile::decode::{Decode, Decoder, Map, Number, Spanned, number_schema};
use crate::envfile::names::{AnyText, Name};
use crate::envfile::problem::Problem;
use crate::envfile::record::{not_a_word, record};
use crate::envfile::template::Template;
use crate::envfile::tree::{Node, ScalarKind, Value};

/// A schema by name, for the types that have several forms.
macro_rules! schema {
    ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// Which kind of cluster.
#[derive(Debug, Clone)]
pub enum ClusterChoice {
    /// `embedded`.
    Embedded,
    /// `kind`, or `{ kind: { fresh: true } }`.
    Kind(ClusterFields),
    /// `minikube`, or `{ minikube: { fresh: true } }`.
    Minikube(ClusterFields),
    /// `{ context: NAME }`.
    Context(Name<AnyText>),
}

record! {
    /// How a cluster of kind or minikube is used.
    pub struct ClusterFields, "a cluster" {
        /// A cluster for each session, instead of one for the machine.
        fresh("fresh"): bool,
    }
}

record! {
    /// A cluster in its long form: exactly one of these.
    pub struct ClusterForms, "a cluster" {
        /// kind.
        kind("kind"): Option<ClusterFields>,
        /// minikube.
        minikube("minikube"): Option<ClusterFields>,
        /// An existing cluster, by its kubeconfig context.
        context("context"): Option<Name<AnyText>>,
    }
}

impl Decode for ClusterChoice {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            let forms = ClusterForms::decode(node, decoder)?;
            return match (forms.kind, forms.minikube, forms.context) {
                (Some(fields), None, None) => Some(Self::Kind(fields)),
                (None, Some(fields), None) => Some(Self::Minikube(fields)),
                (None, None, Some(context)) => Some(Self::Context(context)),
                _ => {
                    decoder.problem(Problem::at(
                        node.span,
                        "a cluster is exactly one of `kind`, `minikube` and `context`",
                    ));
                    None
                }
            };
        }
        let text = String::decode(node, decoder)?;
        let shared = ClusterFields { fresh: false };
        match text.as_str() {
            "embedded" => Some(Self::Embedded),
            "kind" => Some(Self::Kind(shared)),
            "minikube" => Some(Self::Minikube(shared)),
            _ => {
                not_a_word(&text, &["embedded", "kind", "minikube", "{ context: NAME }"], node, decoder);
                None
            }
        }
    }
}

schema!(ClusterChoice, "Cluster", |generator| json_schema!({
    "anyOf": [{ "enum": ["embedded", "kind", "minikube"] }, generator.subschema_for::<ClusterForms>()],
}));

/// A port's number, or its long form.
#[derive(Debug, Clone)]
pub struct PortSetting(pub PortFields);

impl Decode for PortSetting {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return PortFields::decode(node, decoder).map(Self);
        }
        if let Value::Scalar(scalar) = &node.value
            && scalar.text.contains(':')
        {
            let hint = "nothing is published: every session reaches its own services. Write the port's number, or `{ port: …, targetPort: … }`";
            decoder.problem(
                Problem::at(node.span, format!("`{}` is not a port", scalar.text)).hint(Some(hint.to_owned())),
            );
            return None;
        }
        let port = Number::decode(node, decoder)?;
        Some(Self(PortFields { port, target_port: None, protocol: None, app_protocol: None }))
    }
}

schema!(PortSetting, "Port", |generator| json_schema!({
    "anyOf": [number_schema(1, 65535), generator.subschema_for::<PortFields>()],
}));

/// A variable's value, or where it comes from.
#[derive(Debug, Clone)]
pub enum EnvSetting {
    /// A text.
    Text(Spanned<Template>),
    /// Somewhere else.
    From(Box<EnvSource>),
}

impl Decode for EnvSetting {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => EnvSource::decode(node, decoder).map(|source| Self::From(Box::new(source))),
            _ => Spanned::decode(node, decoder).map(Self::Text),
        }
    }
}

schema!(EnvSetting, "EnvValue", |generator| json_schema!({
    "anyOf": [generator.subschema_for::<Template>(), generator.subschema_for::<EnvSource>()],
}));

/// What is needed: names, or names with conditions.
#[derive(Debug, Clone, Default)]
pub struct NeedList(pub Vec<Needed>);

/// One name that is needed.
#[derive(Debug, Clone)]
pub struct Needed {
    /// The node's name.
    pub name: Spanned<String>,
    /// What it must have reached; `None`: the default of its kind.
    pub condition: Option<Spanned<NeedCondition>>,
}

impl Decode for NeedList {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let needed = match &node.value {
            Value::Map(_) => Map::<AnyText, Option<Spanned<NeedCondition>>>::decode(node, decoder)?
                .entries
                .into_iter()
                .map(|(name, condition)| Needed { name, condition })
                .collect(),
            Value::List(_) => Vec::<Spanned<String>>::decode(node, decoder)?
                .into_iter()
                .map(|name| Needed { name, condition: None })
                .collect(),
            _ if node.is_null() => Vec::new(),
            _ => return decoder.expected("a list of names", node),
        };
        Some(Self(needed))
    }
    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

schema!(NeedList, "Needs", |generator| {
    let conditions = generator.subschema_for::<NeedCondition>();
    json_schema!({
        "anyOf": [
            { "type": "array", "items": { "type": "string" } },
            { "type": "object", "additionalProperties": { "anyOf": [conditions, { "type": "null" }] } },
        ],
    })
});

/// A readiness request: a path, or its long form.
#[derive(Debug, Clone)]
pub struct HttpCheck(pub HttpFields);

impl Decode for HttpCheck {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return HttpFields::decode(node, decoder).map(Self);
        }
        let path = Spanned::decode(node, decoder)?;
        Some(Self(HttpFields { span: node.span, path: Some(path), port: None, scheme: None, headers: Map::new() }))
    }
}

schema!(HttpCheck, "HttpCheck", |generator| json_schema!({
    "anyOf": [{ "type": "string" }, generator.subschema_for::<HttpFields>()],
}));

/// A port that accepts connections, by its name.
#[derive(Debug, Clone)]
pub struct TcpCheck(pub Spanned<String>);

record! {
    /// A TCP check in its long form.
    pub struct TcpFields, "a TCP check" {
        /// The port's name.
        port("port"): Spanned<String>,
    }
}

impl Decode for TcpCheck {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => TcpFields::decode(node, decoder).map(|fields| Self(fields.port)),
            _ => port_reference(node, decoder).map(Self),
        }
    }
}

/// A port's name; a number is taken too, for the check to say which name it has.
fn port_reference(node: &Node, decoder: &mut Decoder<'_>) -> Option<Spanned<String>> {
    match &node.value {
        Value::Scalar(scalar) if scalar.kind() == ScalarKind::Integer => {
            Some(Spanned { span: node.span, value: scalar.text.clone() })
        }
        _ => Spanned::decode(node, decoder),
    }
}

schema!(TcpCheck, "TcpCheck", |generator| json_schema!({
    "anyOf": [{ "type": "string" }, generator.subschema_for::<TcpFields>()],
}));

/// `uid` or `uid:gid`.
#[derive(Debug, Clone, Copy)]
pub struct UserSetting {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: Option<u32>,
}

impl Decode for UserSetting {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Scalar(scalar) if scalar.kind() == ScalarKind::Integer => scalar.text.clone(),
            _ => String::decode(node, decoder)?,
        };
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (text.as_str(), None),
        };
        // Kubernetes' own bound on runAsUser.
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
        match (number(uid), gid.map(number)) {
            (Some(uid), None) => Some(Self { uid, gid: None }),
            (Some(uid), Some(Some(gid))) => Some(Self { uid, gid: Some(gid) }),
            _ => {
                let hint =
                    "Kubernetes takes numbers: `1000`, or `\"1000:1000\"`; a process image's `user` may be a name"
                        .to_owned();
                decoder.problem(Problem::at(node.span, format!("`{text}` is not a user")).hint(Some(hint)));
                None
            }
        }
    }
}

schema!(UserSetting, "User", |_generator| json_schema!({
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }],
}));

/// A text, or a number as it is written.
#[derive(Debug, Clone)]
pub struct PlainText(pub String);

impl Decode for PlainText {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar)
                if matches!(scalar.kind(), ScalarKind::Integer | ScalarKind::Float | ScalarKind::Bool) =>
            {
                Some(Self(scalar.text.clone()))
            }
            _ => String::decode(node, decoder).map(Self),
        }
    }
}

schema!(PlainText, "PlainText", |_generator| json_schema!({ "type": ["string", "number", "boolean"] }));

/// A user's name or number on this machine.
#[derive(Debug, Clone)]
pub struct UserName(pub String);

impl Decode for UserName {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        PlainText::decode(node, decoder).map(|text| Self(text.0))
    }
}

schema!(UserName, "UserName", |_generator| json_schema!({ "type": ["string", "integer"] }));
