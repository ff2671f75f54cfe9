//! Writes of whole objects, of whose answers only the metadata is read.
//!
//! Neighbours: [`super::written`] wants the version that a write made; the rest of the object comes by the watches anyway, and
//! reading it here too would cost as much as the write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::core::{Request, request};
use kube::{Client, Resource};
use serde::{Deserialize, Serialize};

use crate::reading;

/// Just the metadata of an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct MetaOnly {
    /// The metadata, without `managedFields`.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

/// Creates an object.
///
/// # Errors
/// Whatever the API answers.
pub async fn create<K>(client: &Client, namespace: &str, object: &K) -> Result<MetaOnly, kube::Error>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    create_raw::<K>(client, namespace, body(object)?).await
}

/// Creates an object from bytes: many pods of one template are encoded once.
///
/// # Errors
/// Whatever the API answers.
pub async fn create_raw<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: &str,
    body: Vec<u8>,
) -> Result<MetaOnly, kube::Error> {
    send(client, at::<K>(namespace).create(&PostParams::default(), body)).await
}

/// Replaces an object but for its status.
///
/// # Errors
/// Whatever the API answers.
pub async fn replace<K>(client: &Client, namespace: &str, object: &K) -> Result<MetaOnly, kube::Error>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let name = super::meta::name(object.meta());
    send(client, at::<K>(namespace).replace(name, &PostParams::default(), body(object)?)).await
}

/// Replaces an object's status.
///
/// # Errors
/// Whatever the API answers.
pub async fn replace_status<K>(client: &Client, namespace: &str, object: &K) -> Result<MetaOnly, kube::Error>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let name = super::meta::name(object.meta());
    send(client, at::<K>(namespace).replace_subresource("status", name, &PostParams::default(), body(object)?)).await
}

fn at<K: Resource<DynamicType = ()>>(namespace: &str) -> Request {
    Request::new(K::url_path(&(), Some(namespace).filter(|namespace| !namespace.is_empty())))
}

fn body(object: &impl Serialize) -> Result<Vec<u8>, kube::Error> {
    serde_json::to_vec(object).map_err(kube::Error::SerdeError)
}

async fn send(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, request::Error>,
) -> Result<MetaOnly, kube::Error> {
    reading::request(client, request.map_err(kube::Error::BuildRequest)?).await
}
