//! Objects as the API sends them, read into types: watches of any kind, all by one watcher, and answers.
//!
//! kube-rs' `watcher` is generic over the object, so each kind would bring a copy of its whole machinery and of the
//! kind's deserializer twice over (a watch event is an adjacently tagged enum, which serde may have to buffer). Here one watcher
//! passes objects on as text, and only that text is read into a type: a third less program. `metadata.managedFields`, often half of
//! an object and of no interest to whoever watches, is cut out of the text before it is read.
//!
//! Neighbours: controllers, kubelet, readiness and `logs`, each with a client of its own. Invariants: a watch restarts by itself, with
//! back-off, after it has reported an error; an object that can't be read is such an error, and the watch goes on after it.

use std::borrow::Cow;
use std::fmt;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource};
use kube::core::DynamicResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a watch reports: kube-rs' own events and errors.
pub type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Watches a kind that has a type, in one namespace or (`None`) everywhere.
pub fn watch<K>(client: Client, namespace: Option<&str>, config: Config) -> Events<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
{
    watch_resource(client, &ApiResource::erase::<K>(&()), namespace, config)
}

/// Watches any kind, reading of its objects what `K` has.
pub fn watch_resource<K>(client: Client, resource: &ApiResource, namespace: Option<&str>, config: Config) -> Events<K>
where
    K: DeserializeOwned + 'static,
{
    texts(client, resource, namespace, config).map(|event| event.and_then(read)).boxed()
}

/// Sends a request that is answered with one object, and reads of that what `K` has.
///
/// # Errors
/// What the API answers, or that it can't be read.
pub async fn request<K: DeserializeOwned>(client: &Client, request: http::Request<Vec<u8>>) -> Result<K, kube::Error> {
    let text: Text = client.request(request).await?;
    serde_json::from_str(&text.json).map_err(kube::Error::SerdeError)
}

fn texts(client: Client, resource: &ApiResource, namespace: Option<&str>, config: Config) -> Events<Text> {
    let api: Api<Text> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    };
    watcher(api, config).default_backoff().boxed()
}

fn read<K: DeserializeOwned>(event: Event<Text>) -> Result<Event<K>, watcher::Error> {
    let object = |text: Text| {
        let read = serde_json::from_str(&text.json);
        read.map_err(|error| watcher::Error::WatchFailed(kube::Error::SerdeError(error)))
    };
    Ok(match event {
        Event::Apply(text) => Event::Apply(object(text)?),
        Event::Delete(text) => Event::Delete(object(text)?),
        Event::Init => Event::Init,
        Event::InitApply(text) => Event::InitApply(object(text)?),
        Event::InitDone => Event::InitDone,
    })
}

/// An object as the API sent it, but for its `managedFields`.
#[derive(Debug, Clone)]
struct Text {
    json: String,
    /// No more than its `resourceVersion`, which the watcher goes on from.
    metadata: ObjectMeta,
}

impl<'de> Deserialize<'de> for Text {
    /// Works from JSON text only, and for that an event's `type` must come before its `object`, as every API server writes them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let metadata = Metadata::of(json.get()).map_err(D::Error::custom)?;
        let managed = metadata.managed_fields.map(|fields| {
            let start = fields.get().as_ptr().addr() - json.get().as_ptr().addr();
            start..start + fields.get().len()
        });
        let metadata = ObjectMeta { resource_version: metadata.resource_version, ..ObjectMeta::default() };
        let mut json = String::from(Box::<str>::from(json));
        if let Some(managed) = managed {
            json.replace_range(managed, "null");
        }
        Ok(Self { json, metadata })
    }
}

/// What the watcher itself needs of an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    resource_version: Option<String>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

impl<'a> Metadata<'a> {
    /// Reads an object's text no further than its metadata, which comes early: that the whole is JSON is known already.
    fn of(json: &'a str) -> serde_json::Result<Self> {
        struct Seek<'s, 'a>(&'s mut Option<Metadata<'a>>);
        impl<'de> Visitor<'de> for Seek<'_, 'de> {
            type Value = ();

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
                while let Some(name) = fields.next_key::<String>()? {
                    if name == "metadata" {
                        *self.0 = Some(fields.next_value()?);
                        // The one way to stop here.
                        return Err(A::Error::custom("read far enough"));
                    }
                    fields.next_value::<IgnoredAny>()?;
                }
                Err(A::Error::missing_field("metadata"))
            }
        }
        let mut found = None;
        let read = serde_json::Deserializer::from_str(json).deserialize_map(Seek(&mut found));
        found.map_or_else(|| Err(read.err().unwrap_or_else(|| serde_json::Error::missing_field("metadata"))), Ok)
    }
}

impl Resource for Text {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.kind)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.group)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.version)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.plural)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::WatchEvent;

    use super::*;

    #[test]
    fn a_watched_object_has_everything_but_its_managed_fields() {
        let event = r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"a","managedFields":[{"manager":"m",
            "fieldsV1":{"f:data":{}}}],"resourceVersion":"7"},"data":{"managedFields":"kept"}}}"#;
        let Ok(WatchEvent::Added(text)) = serde_json::from_str::<WatchEvent<Text>>(event) else { panic!("an event") };
        assert_eq!(text.meta().resource_version.as_deref(), Some("7"));
        let Ok(Event::Apply(map)) = read::<ConfigMap>(Event::Apply(text)) else { panic!("an object") };
        assert_eq!(map.metadata.name.as_deref(), Some("a"));
        assert_eq!(map.metadata.managed_fields, None);
        assert_eq!(map.data.unwrap()["managedFields"], "kept");
    }

    #[test]
    fn an_object_without_metadata_is_an_error() {
        for object in [r#"{"kind":"ConfigMap"}"#, "[]", r#"{"metadata":[]}"#, "7"] {
            assert!(serde_json::from_str::<Text>(object).is_err(), "{object}");
        }
    }

    #[test]
    fn an_object_of_the_wrong_shape_is_an_error_not_the_end() {
        let text: Text = serde_json::from_str(r#"{"metadata":{"resourceVersion":"7"},"data":[]}"#).unwrap();
        assert!(matches!(read::<ConfigMap>(Event::Apply(text)), Err(watcher::Error::WatchFailed(_))));
    }
}
