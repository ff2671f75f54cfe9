//! Applies and deletes single objects: one request each, server-side apply with one field manager.
//!
//! Neighbours: `provision` decides what to apply when; [`super::ledger`] remembers what was. Requests are sent raw
//! rather than through `kube::Api`, because only so the API's `Warning:` headers can be read and passed on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GetParams, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy, Resource, ValidationDirective,
};
use kube::client::Body;
use kube::core::Request;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use super::contact::{ATTEMPTS, Contact};
use super::refusal::{Refusal, in_words};
use crate::objects::SESSION;
use crate::readiness::observed::group_of;
use crate::readiness::{Expected, ObjectKey};

/// The owner of every field that envctl sets.
pub const FIELD_MANAGER: &str = "envctl";

/// How long a service account may take to be there: a new namespace's own takes its controller moments.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(10);

/// The kinds that environments consist of, known without asking the cluster: group, version, kind, plural, namespaced.
const BUILT_IN: [(&str, &str, &str, &str, bool); 20] = [
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "v1", "Pod", "pods", true),
    ("", "v1", "Secret", "secrets", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    ("apps", "v1", "DaemonSet", "daemonsets", true),
    ("apps", "v1", "Deployment", "deployments", true),
    ("apps", "v1", "ReplicaSet", "replicasets", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("batch", "v1", "CronJob", "cronjobs", true),
    ("batch", "v1", "Job", "jobs", true),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true),
];

/// Where objects of a kind are found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// CamelCase.
    pub kind: String,
    /// As in its path.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// As kube-rs wants it.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Why an object could not be applied or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API refused it, in its own words.
    #[error("{object}: {message}")]
    Refused {
        /// `Kind/name`.
        object: String,
        /// The HTTP status code.
        code: u16,
        /// The status' CamelCase reason.
        reason: String,
        /// The status' message.
        message: String,
    },
    /// Others hold fields of it.
    #[error("{object}: others hold {}", conflicts.iter().map(|conflict| conflict.field.as_str()).collect::<Vec<_>>().join(", "))]
    Conflict {
        /// `Kind/name`.
        object: String,
        /// Which fields, and who.
        conflicts: Vec<FieldConflict>,
    },
    /// The cluster has no such kind.
    #[error("the cluster has no kind {kind} in {api_version}")]
    NoSuchKind {
        /// As in the manifest.
        api_version: String,
        /// As in the manifest.
        kind: String,
    },
    /// It is outside the session's namespace, on a cluster that others use too, and was there before.
    #[error("{0} is on the cluster already and was not made by this session: it is left as it is")]
    NotOurs(String),
    /// No answer, or not one that can be understood.
    #[error("{object}: {source}")]
    Unanswered {
        /// `Kind/name`.
        object: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A field that someone else set otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldConflict {
    /// The field manager: `kubectl-edit`, a controller.
    pub manager: String,
    /// `.spec.replicas`.
    pub field: String,
}

/// An object as the cluster holds it after applying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Which.
    pub key: ObjectKey,
    /// Where such objects are.
    pub kind: Kind,
    /// Its state.
    pub expected: Expected,
    /// What the API warned of, in its own words.
    pub warnings: Vec<String>,
}

/// What became of an object that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is not there (any more), or another of the same name is, which isn't ours.
    Gone,
    /// Its finalizers or its grace hold it for now.
    Terminating,
}

/// Applies objects to one cluster. Cheap requests, any number at once.
pub struct Applier {
    contact: Arc<Contact>,
    namespace: String,
    kinds: Mutex<HashMap<(String, String), Kind>>,
    owner: OnceLock<Value>,
}

impl Applier {
    /// Objects that say no namespace are the session's.
    pub fn new(contact: Arc<Contact>, namespace: &str) -> Self {
        Self { contact, namespace: namespace.to_owned(), kinds: Mutex::default(), owner: OnceLock::new() }
    }

    /// On a cluster that others use too: what is applied outside the session's namespace is owned by that namespace and so goes
    /// with it; what is there already and isn't owned so is somebody else's.
    pub fn own(&self, namespace: &str, uid: &str) {
        let owner = json!({ "apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": uid });
        self.owner.get_or_init(|| owner);
    }

    /// Where objects of this kind are found; asks the cluster once per kind that isn't built in.
    ///
    /// # Errors
    /// [`ApplyError::NoSuchKind`], or no answer.
    pub async fn kind(&self, api_version: &str, kind: &str) -> Result<Kind, ApplyError> {
        let group = group_of(api_version);
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let found = BUILT_IN.iter().find(|entry| (entry.0, entry.1, entry.2) == (group, version, kind));
        if let Some(&(_, _, _, plural, namespaced)) = found {
            return Ok(Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                namespaced,
            });
        }
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(known) = self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let client = self.contact.client();
        let listed = match group {
            "" => self.contact.patiently(|| client.list_core_api_resources(version)).await,
            _ => self.contact.patiently(|| client.list_api_group_resources(api_version)).await,
        };
        let no_such_kind = || ApplyError::NoSuchKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
        let list = match listed {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => return Err(no_such_kind()),
            Err(source) => {
                return Err(ApplyError::Unanswered { object: format!("{api_version} {kind}"), source: source.into() });
            }
        };
        let entry = list
            .resources
            .into_iter()
            .find(|entry| entry.kind == kind && !entry.name.contains('/'))
            .ok_or_else(no_such_kind)?;
        let resolved = Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: entry.name,
            namespaced: entry.namespaced,
        };
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(key, resolved.clone());
        Ok(resolved)
    }

    /// Server-side apply: after it the object has exactly these fields from envctl. What others have set otherwise meanwhile is set
    /// back, since the file says what is to be; that is told in the warnings, field by field.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn apply(&self, object: &Value) -> Result<Applied, ApplyError> {
        let (kind, key) = self.place(object).await?;
        let mut owned = None;
        if let Some(owner) = self.owner.get().filter(|_| key.namespace != self.namespace) {
            self.check_ours(&kind, &key, owner).await?;
            let copy = owned.insert(object.clone());
            copy["metadata"]["ownerReferences"] = json!([owner]);
        }
        let object = owned.as_ref().unwrap_or(object);
        let mut parameters = PatchParams::apply(FIELD_MANAGER);
        parameters.field_validation = Some(ValidationDirective::Strict);
        let request = |parameters: &PatchParams| {
            let request = Request::new(self.path(&kind, &key)).patch(&key.name, parameters, &Patch::Apply(object));
            request.map_err(|source| unanswered(&key, source))
        };
        let answer = match self.send(&key, request(&parameters)?).await {
            Err(ApplyError::Conflict { conflicts, .. }) => {
                let (answer, mut warnings) = self.send(&key, request(&parameters.force())?).await?;
                warnings.extend(set_back(&key, &conflicts));
                (answer, warnings)
            }
            // A pod by itself in a namespace so new that its service account isn't there: controllers try again, and so does this.
            Err(ApplyError::Refused { message, .. })
                if Refusal::of(403, &message) == Refusal::NotYet && self.account_comes(&key, object).await =>
            {
                self.send(&key, request(&parameters)?).await?
            }
            other => other?,
        };
        Ok(applied(kind, key, answer))
    }

    /// Whether the service account that a pod runs as is there, now or soon.
    async fn account_comes(&self, key: &ObjectKey, pod: &Value) -> bool {
        let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let api: Api<ServiceAccount> = Api::namespaced(self.contact.client().clone(), &key.namespace);
        let there = await_condition(api, name, |account: Option<&ServiceAccount>| account.is_some());
        matches!(tokio::time::timeout(ACCOUNT_PATIENCE, there).await, Ok(Ok(_)))
    }

    /// Makes an object that must not be there yet: one of the same name is refused with 409, and not touched. Its name must be one that
    /// nobody else comes upon: where an answer was lost, one with the same session's label is taken for the one that was made. Where it is
    /// refused after that, it may be there all the same: only what was never made is [`ApplyError::Refused`] with a code below 500.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn create(&self, object: &Value) -> Result<Applied, ApplyError> {
        let (kind, key) = self.place(object).await?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let request = Request::new(self.path(&kind, &key))
            .create(&parameters, object.to_string().into_bytes())
            .map_err(|source| unanswered(&key, source))?;
        let (answer, attempts) = self.persist(&key, request).await;
        let answer = match answer {
            Err(error @ ApplyError::Refused { code: 409, .. }) if attempts > 1 => {
                let found = self.get(&kind, &key).await.map_err(|error| uncertain(&key, error))?;
                let label = |object: &Value| object["metadata"]["labels"][SESSION].clone();
                if label(&found.0).is_null() || label(&found.0) != label(object) {
                    return Err(error);
                }
                found
            }
            Err(error) if attempts > 1 => return Err(uncertain(&key, error)),
            other => other?,
        };
        Ok(applied(kind, key, answer))
    }

    async fn get(&self, kind: &Kind, key: &ObjectKey) -> Result<(Value, Vec<String>), ApplyError> {
        let request = Request::new(self.path(kind, key))
            .get(&key.name, &GetParams::default())
            .map_err(|source| unanswered(key, source))?;
        self.send(key, request).await
    }

    /// Whether an object outside the session's namespace may be applied: it isn't there, or is owned by that namespace.
    async fn check_ours(&self, kind: &Kind, key: &ObjectKey, owner: &Value) -> Result<(), ApplyError> {
        match self.get(kind, key).await {
            Ok((found, _)) => {
                let owners = found["metadata"]["ownerReferences"].as_array();
                let ours = owners.is_some_and(|owners| owners.iter().any(|found| found["uid"] == owner["uid"]));
                if ours { Ok(()) } else { Err(ApplyError::NotOurs(key.to_string())) }
            }
            Err(ApplyError::Refused { code: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What an object is and where it goes.
    async fn place(&self, object: &Value) -> Result<(Kind, ObjectKey), ApplyError> {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let kind = self.kind(api_version, object["kind"].as_str().unwrap_or_default()).await?;
        let mut key = ObjectKey::of(object);
        if !kind.namespaced {
            key.namespace.clear();
        } else if key.namespace.is_empty() {
            key.namespace.clone_from(&self.namespace);
        }
        Ok((kind, key))
    }

    /// Deletes an object of ours (by its UID), and what it owns by that policy.
    ///
    /// # Errors
    /// [`ApplyError`]; that it isn't there is none.
    pub async fn delete(
        &self,
        kind: &Kind,
        key: &ObjectKey,
        uid: &str,
        policy: PropagationPolicy,
    ) -> Result<Deleted, ApplyError> {
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        let request = Request::new(self.path(kind, key))
            .delete(&key.name, &parameters)
            .map_err(|source| unanswered(key, source))?;
        match self.send(key, request).await {
            Ok((answer, _)) if answer["metadata"]["deletionTimestamp"].is_null() => Ok(Deleted::Gone),
            Ok(_) => Ok(Deleted::Terminating),
            Err(ApplyError::Refused { code: 404 | 409, .. }) => Ok(Deleted::Gone),
            Err(error) => Err(error),
        }
    }

    fn path(&self, kind: &Kind, key: &ObjectKey) -> String {
        let namespace = kind.namespaced.then_some(key.namespace.as_str());
        DynamicObject::url_path(&kind.resource(), namespace)
    }

    async fn send(&self, key: &ObjectKey, request: http::Request<Vec<u8>>) -> Result<(Value, Vec<String>), ApplyError> {
        self.persist(key, request).await.0
    }

    /// Sends a request that does no harm when it is done twice, until it is answered: with the number of attempts.
    async fn persist(
        &self,
        key: &ObjectKey,
        request: http::Request<Vec<u8>>,
    ) -> (Result<(Value, Vec<String>), ApplyError>, u32) {
        let mut attempts = 1;
        loop {
            self.contact.answers().await;
            match self.once(key, request.clone()).await {
                Err(Lost(error)) if attempts < ATTEMPTS && self.contact.heard(&error) => attempts += 1,
                Err(Lost(error)) => return (Err(unanswered(key, in_words(&error).into_owned())), attempts),
                Ok(answer) => return (answer, attempts),
            }
        }
    }

    async fn once(
        &self,
        key: &ObjectKey,
        request: http::Request<Vec<u8>>,
    ) -> Result<Result<(Value, Vec<String>), ApplyError>, Lost> {
        let response = self.contact.client().send(request.map(Body::from)).await.map_err(Lost)?;
        let status = response.status();
        let headers = response.headers().get_all(http::header::WARNING).iter();
        let warnings = headers.filter_map(|value| warning_text(value.to_str().ok()?)).collect();
        let body = response.into_body().collect().await.map_err(Lost)?.to_bytes();
        if status.is_success() {
            let answer = serde_json::from_slice(&body).map_err(|source| unanswered(key, source));
            return Ok(answer.map(|answer| (answer, warnings)));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let conflicts = conflicts(&answer);
        if !conflicts.is_empty() {
            return Ok(Err(ApplyError::Conflict { object: key.to_string(), conflicts }));
        }
        let text = |field: &str| answer[field].as_str().map(str::to_owned);
        Ok(Err(ApplyError::Refused {
            object: key.to_string(),
            code: status.as_u16(),
            reason: text("reason").unwrap_or_else(|| status.canonical_reason().unwrap_or_default().to_owned()),
            message: text("message").unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned()),
        }))
    }
}

/// An error after an answer that was lost.
fn uncertain(key: &ObjectKey, error: ApplyError) -> ApplyError {
    match error {
        ApplyError::Refused { message, .. } => unanswered(key, format!("an answer was lost, and then: {message}")),
        other => other,
    }
}

/// A request that got no answer.
struct Lost(kube::Error);

fn applied(kind: Kind, key: ObjectKey, (answer, warnings): (Value, Vec<String>)) -> Applied {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let expected = Expected {
        uid: text(&answer["metadata"]["uid"]),
        generation: answer["metadata"]["generation"].as_i64().unwrap_or(0),
    };
    Applied { key, kind, expected, warnings }
}

/// The fields that others hold, by a `Status` (upstream `structured-merge-diff`'s conflicts as `apimachinery/pkg/api/errors` lists them).
fn conflicts(status: &Value) -> Vec<FieldConflict> {
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let found = causes.filter(|cause| cause["reason"] == "FieldManagerConflict").map(|cause| {
        let message = cause["message"].as_str().unwrap_or_default();
        let manager = message.split('"').nth(1).unwrap_or(message);
        FieldConflict { manager: manager.to_owned(), field: cause["field"].as_str().unwrap_or_default().to_owned() }
    });
    found.collect()
}

/// What is told of it; nothing where only envctl itself had set fields in another way (`restart`, `swap`).
fn set_back(key: &ObjectKey, conflicts: &[FieldConflict]) -> Option<String> {
    let others = conflicts.iter().filter(|conflict| conflict.manager != FIELD_MANAGER);
    let each: Vec<String> = others.map(|conflict| format!("{} by {:?}", conflict.field, conflict.manager)).collect();
    (!each.is_empty())
        .then(|| format!("{key} had been changed by others and is as the file says again: {}", each.join(", ")))
}

fn unanswered(key: &ObjectKey, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApplyError {
    ApplyError::Unanswered { object: key.to_string(), source: source.into() }
}

/// The text of a `Warning: 299 - "text"` header (RFC 7234 §5.5).
fn warning_text(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(next) = characters.next() {
        match next {
            '"' => return Some(text),
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_the_field_and_who_holds_it() {
        let status = json!({"reason": "Conflict", "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas"},
        ]}});
        let found = conflicts(&status);
        assert_eq!(found, [FieldConflict { manager: "kubectl-edit".to_owned(), field: ".spec.replicas".to_owned() }]);
        let key = ObjectKey {
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
            group: String::new(),
            namespace: String::new(),
        };
        assert_eq!(
            set_back(&key, &found).as_deref(),
            Some(
                "Deployment/web had been changed by others and is as the file says again: .spec.replicas by \"kubectl-edit\""
            )
        );
        let ours = FieldConflict { manager: FIELD_MANAGER.to_owned(), ..found[0].clone() };
        assert_eq!(set_back(&key, &[ours]), None);
        assert_eq!(conflicts(&json!({"reason": "Conflict"})), []);
    }

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(warning_text(r#"299 - "unknown field \"spec.x\"""#).as_deref(), Some(r#"unknown field "spec.x""#));
        assert_eq!(warning_text("299 - none"), None);
    }
}
