//! The environment file's types: what stands in the file, shorthands and places included. The plan has the resolved ones.

mod choice;
mod notify;
mod parts;
mod workload;

pub use choice::{ClusterChoice, EnvSetting, NeedList, PlainText, UserSetting};
pub use notify::{EmailFile, MailTls, NotifyFile, NotifyWhen, SecretSetting};
pub use parts::{EncodingWord, ExecCall, HttpRequest, ImageFile, KeyFile, ManifestFile, MethodWord, SuiteFile};
pub use workload::{
    EntryOf, JobFile, NeedCondition, PortFields, ProtocolWord, ReadyFile, ResourcesFile, RestartWord, Rule, SchemeWord,
    ServiceFile, VolumeFile,
};

pub use super::names::{Command, Quantity};

/// An image's name as text.
pub type ImageText = Name<ImageName>;

use schemars::JsonSchema;

use super::decode::{Decode, Decoder, Map, Spanned};
use super::names::{AnyText, DnsLabel, ImageName, Name, VariableName, Word};
use super::record::record;
use super::template::Template;
use super::tree::Node;

record! {
    /// One environment: services, jobs and keys that are started together, and what tests get from them.
    pub struct EnvironmentFile, "an environment file", span {
        /// The environment's name; the file's stem unless it says so.
        name("name"): Option<Spanned<Name<DnsLabel>>>,
        /// Where it runs: `embedded` (the default), `kind`, `minikube`, or `{ context: NAME }`. `--cluster` overrides it.
        cluster("cluster"): Option<ClusterChoice>,
        /// Other files whose parts belong to this one, relative to the project root. A name must not be defined twice.
        include("include"): Vec<Name<AnyText>>,
        /// How each image's name becomes runnable, on each kind of cluster.
        images("images"): Map<ImageName, ImageFile>,
        /// What runs until the session ends.
        services("services"): Map<DnsLabel, ServiceFile>,
        /// What runs once, to success.
        jobs("jobs"): Map<DnsLabel, JobFile>,
        /// Plain Kubernetes YAML, in the same graph.
        manifests("manifests"): Vec<ManifestFile>,
        /// Credentials issued for the session.
        keys("keys"): Map<VariableName, KeyFile>,
        /// Variables handed to tests, on top of the automatic ones.
        exports("exports"): Map<VariableName, Spanned<Template>>,
        /// Test commands.
        suites("suites"): Map<Word, SuiteFile>,
        /// Who is told when `envctl test` or `envctl up` fails.
        notify("notify"): Option<NotifyFile>,
        /// Named changes to any part: `--profile NAME` lays one over the file. `null` removes what it stands for.
        profiles("profiles"): Map<Word, Overlay>,
    }
}

impl EnvironmentFile {
    /// The fields that are mappings of names: where files that are included must not clash.
    pub const NAMED: [&'static str; 6] = ["images", "services", "jobs", "keys", "exports", "suites"];

    /// What a profile may change.
    pub fn overlay_fields() -> impl Iterator<Item = &'static str> {
        Self::FIELDS.iter().copied().filter(|field| !matches!(*field, "name" | "include" | "profiles"))
    }
}

/// A profile: any part of a file; checked after it is laid over the file.
#[derive(Debug, Clone)]
pub struct Overlay;

impl Decode for Overlay {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let fields: Vec<&str> = EnvironmentFile::overlay_fields().collect();
        match &node.value {
            super::tree::Value::Map(entries) => super::record::unknown_fields(entries, &fields, "a profile", decoder),
            _ if node.is_null() => {}
            _ => return decoder.expected("a mapping", node),
        }
        Some(Self)
    }
}

impl JsonSchema for Overlay {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Overlay".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let fields: serde_json::Map<String, serde_json::Value> =
            EnvironmentFile::overlay_fields().map(|field| (field.to_owned(), true.into())).collect();
        schemars::json_schema!({
            "type": ["object", "null"],
            "properties": fields,
            "patternProperties": { "^x-": true },
            "additionalProperties": false,
        })
    }
}
