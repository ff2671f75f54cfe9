//! Prepares a pod's volumes, then keeps their content current: one task per pod that has any.
//!
//! Missing objects are waited for on their watches, claims by asking again (nodes may not watch them), with a FailedMount event for each new reason. Tokens are
//! renewed when four fifths of their life are over (`pkg/kubelet/token/token_manager.go`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Volume};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::super::downward::Facts;
use super::super::events::{Kind, Recorder};
use super::super::objects::{Objects, Watched, current};
use super::payload::{Available, Content, Source, TokenWish, content, project};
use super::{atomic, host};
use crate::reading;

/// Where each volume of a pod is on the host.
pub type Prepared = HashMap<String, PathBuf>;

/// The first wait before trying again what no watch tells of (a token, the disk), and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The longest wait before a claim is asked for again that wasn't there or bound.
const CLAIM: Duration = Duration::from_secs(1);

/// What the task needs.
pub struct Keeper {
    /// For tokens.
    pub client: kube::Client,
    /// For objects by name.
    pub objects: Arc<Objects>,
    /// For FailedMount.
    pub recorder: Recorder,
    /// The pod; its labels and annotations may change.
    pub pod: watch::Receiver<Arc<Pod>>,
    /// The pod's own directory on the host.
    pub directory: PathBuf,
    /// For the downward API.
    pub facts: Facts,
}

/// Something that a volume waits on.
enum Held {
    ConfigMap(String, Watched<ConfigMap>),
    Secret(String, Watched<Secret>),
}

impl Held {
    async fn changed(&mut self) {
        let changed = match self {
            Self::ConfigMap(_, watched) => watched.changed().await,
            Self::Secret(_, watched) => watched.changed().await,
        };
        if changed.is_err() {
            // The kubelet is stopping.
            std::future::pending::<()>().await;
        }
    }
}

struct Token {
    wish: TokenWish,
    value: Option<String>,
    renew: Instant,
}

impl Keeper {
    /// Runs until dropped. `ready` hears once, when every volume is there.
    pub async fn keep(mut self, ready: oneshot::Sender<Prepared>) {
        let pod = Arc::clone(&self.pod.borrow_and_update());
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let volumes: Vec<Volume> = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        let contents: Vec<(String, Content)> =
            volumes.iter().filter_map(|volume| Some((volume.name.clone(), content(volume)?))).collect();
        let mut held = self.subscribe(&namespace, &contents).await;
        let mut tokens: Vec<Token> = Vec::new();
        for source in contents.iter().flat_map(|(_, content)| &content.sources) {
            if let Source::Token { wish, .. } = source
                && !tokens.iter().any(|token| token.wish == *wish)
            {
                tokens.push(Token { wish: wish.clone(), value: None, renew: Instant::now() });
            }
        }
        let watches = !contents.is_empty() || !held.is_empty();
        let mut ready = Some(ready);
        let mut reported: HashMap<String, String> = HashMap::new();
        let mut delay = RETRY.0;
        loop {
            let pod = Arc::clone(&self.pod.borrow_and_update());
            let token_problem = self.renew(&pod, &namespace, &mut tokens).await.err();
            let mut retry = token_problem.is_some();
            let mut unclaimed = false;
            let available = available(&mut held, &tokens).await;
            let mut prepared = Prepared::new();
            let mut complete = true;
            for volume in &volumes {
                let outcome = match contents.iter().find(|(name, _)| *name == volume.name) {
                    Some((name, content)) => match (project(content, &pod, &self.facts, &available), &token_problem) {
                        (Ok(payload), _) => {
                            let path = self.directory.join("volumes").join(kind(volume)).join(name);
                            let target = path.clone();
                            let written = tokio::task::spawn_blocking(move || atomic::write(&target, &payload)).await;
                            match written {
                                Ok(Ok(_)) => Ok(path),
                                Ok(Err(error)) => {
                                    retry = true;
                                    Err(error.to_string())
                                }
                                Err(_) => return,
                            }
                        }
                        (Err(super::payload::PayloadError::NoToken), Some(problem)) => {
                            Err(format!("failed to fetch token: {problem}"))
                        }
                        (Err(error), _) => Err(error.to_string()),
                    },
                    None => {
                        let found = self.local(&namespace, volume).await;
                        unclaimed |= found.is_err() && volume.persistent_volume_claim.is_some();
                        found
                    }
                };
                match outcome {
                    Ok(path) => {
                        reported.remove(&volume.name);
                        prepared.insert(volume.name.clone(), path);
                    }
                    Err(words) => {
                        complete = false;
                        // Once they are mounted, upstream too keeps the old content and retries quietly.
                        if ready.is_some() && reported.get(&volume.name) != Some(&words) {
                            let message = format!("MountVolume.SetUp failed for volume \"{}\" : {words}", volume.name);
                            self.recorder.pod(&pod, None, Kind::Warning, "FailedMount", message);
                            reported.insert(volume.name.clone(), words);
                        }
                    }
                }
            }
            if complete && let Some(ready) = ready.take() {
                let _ = ready.send(prepared);
                if !watches {
                    return;
                }
            }
            let wake = if retry || unclaimed {
                let at = Instant::now() + delay;
                delay = (delay * 2).min(if unclaimed { CLAIM } else { RETRY.1 });
                Some(at)
            } else {
                delay = RETRY.0;
                tokens.iter().map(|token| token.renew).min()
            };
            let changed = async {
                if held.is_empty() {
                    std::future::pending().await
                } else {
                    select_all(held.iter_mut().map(|held| held.changed().boxed())).await;
                }
            };
            tokio::select! {
                () = changed => {}
                changed = self.pod.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    async fn subscribe(&self, namespace: &str, contents: &[(String, Content)]) -> Vec<Held> {
        let mut held = Vec::new();
        for source in contents.iter().flat_map(|(_, content)| &content.sources) {
            match source {
                Source::ConfigMap { name, .. }
                    if !held.iter().any(|held| matches!(held, Held::ConfigMap(known, _) if known == name)) =>
                {
                    held.push(Held::ConfigMap(name.clone(), self.objects.config_map(namespace, name).await));
                }
                Source::Secret { name, .. }
                    if !held.iter().any(|held| matches!(held, Held::Secret(known, _) if known == name)) =>
                {
                    held.push(Held::Secret(name.clone(), self.objects.secret(namespace, name).await));
                }
                _ => {}
            }
        }
        held
    }

    /// A volume whose content isn't ours.
    async fn local(&self, namespace: &str, volume: &Volume) -> Result<PathBuf, String> {
        if volume.empty_dir.is_some() {
            let path = self.directory.join("volumes/kubernetes.io~empty-dir").join(&volume.name);
            return host::empty_dir(&path).map(|()| path).map_err(|error| error.to_string());
        }
        if let Some(source) = &volume.host_path {
            let path = PathBuf::from(&source.path);
            return host::prepare(&path, source.type_.as_deref().unwrap_or_default())
                .map(|()| path)
                .map_err(|error| error.to_string());
        }
        let Some(claim) = &volume.persistent_volume_claim else {
            return Err(format!("volumes of kind {} are not supported on this node", kind(volume)));
        };
        self.claimed(namespace, &claim.claim_name).await
    }

    /// Where a claim leads. Asked for anew each time, since a node may not watch claims and volumes (upstream's kubelet gets them too:
    /// `pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go`, `getPVCExtractPV`).
    async fn claimed(&self, namespace: &str, claim: &str) -> Result<PathBuf, String> {
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        let found: PersistentVolumeClaim =
            self.get(&path).await.map_err(|error| said(&error, &format!("persistentvolumeclaim \"{claim}\"")))?;
        let name = found.spec.and_then(|spec| spec.volume_name).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" is not bound to a volume"))?;
        let found: PersistentVolume = self
            .get(&format!("/api/v1/persistentvolumes/{name}"))
            .await
            .map_err(|error| said(&error, &format!("persistentvolume \"{name}\"")))?;
        let spec = found.spec.as_ref();
        let (path, kind) = if let Some(source) = spec.and_then(|spec| spec.host_path.as_ref()) {
            (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default())
        } else if let Some(source) = spec.and_then(|spec| spec.local.as_ref()) {
            (PathBuf::from(&source.path), "Directory".to_owned())
        } else {
            return Err(format!(
                "persistentvolume \"{name}\" is neither hostPath nor local: not supported on this node"
            ));
        };
        host::prepare(&path, &kind).map(|()| path).map_err(|error| error.to_string())
    }

    async fn get<K: DeserializeOwned>(&self, path: &str) -> Result<K, kube::Error> {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        reading::request(&self.client, request).await
    }

    /// Gets the tokens whose time has come. Those that are still good stay when the API server says no.
    async fn renew(&self, pod: &Pod, namespace: &str, tokens: &mut [Token]) -> Result<(), kube::Error> {
        let account =
            pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).filter(|name| !name.is_empty());
        let mut problem = Ok(());
        for token in tokens.iter_mut().filter(|token| token.renew <= Instant::now()) {
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    audiences: token.wish.audience.clone().map(|audience| vec![audience]),
                    expiration_seconds: Some(token.wish.expiration_seconds),
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".to_owned()),
                        kind: Some("Pod".to_owned()),
                        name: pod.metadata.name.clone(),
                        uid: pod.metadata.uid.clone(),
                    }),
                }),
                ..TokenRequest::default()
            };
            match self.request_token(namespace, account.unwrap_or("default"), &request).await {
                Ok(answer) => {
                    let status = answer.status.unwrap_or_default();
                    let life = status.expiration_timestamp.map_or(Duration::from_secs(3600), |expires| {
                        Duration::try_from(expires.0.duration_since(Timestamp::now())).unwrap_or_default()
                    });
                    token.value = status.token;
                    token.renew = Instant::now()
                        + life.mul_f64(0.8).clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
                }
                Err(error) => problem = Err(error),
            }
        }
        problem
    }

    async fn request_token(
        &self,
        namespace: &str,
        account: &str,
        request: &TokenRequest,
    ) -> Result<TokenRequest, kube::Error> {
        let body = serde_json::to_vec(request).map_err(kube::Error::SerdeError)?;
        let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

async fn available(held: &mut [Held], tokens: &[Token]) -> Available {
    let mut available = Available::default();
    for held in held {
        match held {
            Held::ConfigMap(name, watched) => {
                if let Some(object) = current(watched).await {
                    available.config_maps.insert(name.clone(), object);
                }
            }
            Held::Secret(name, watched) => {
                if let Some(object) = current(watched).await {
                    available.secrets.insert(name.clone(), object);
                }
            }
        }
    }
    for token in tokens {
        if let Some(value) = &token.value {
            available.tokens.insert(token.wish.clone(), value.clone());
        }
    }
    available
}

/// That something isn't there, in the kubelet's words; anything else in the API's.
fn said(error: &kube::Error, what: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => format!("{what} not found"),
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The directory's name for a kind of volume, as upstream's plugins name themselves.
fn kind(volume: &Volume) -> &'static str {
    if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else if volume.nfs.is_some() {
        "nfs"
    } else if volume.csi.is_some() {
        "csi"
    } else if volume.ephemeral.is_some() {
        "ephemeral"
    } else if volume.image.is_some() {
        "image"
    } else if volume.iscsi.is_some() {
        "iscsi"
    } else {
        "unknown"
    }
}

/// Why a `subPath` cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    /// It leads out of its volume.
    #[error("subPath {0:?} must not leave the volume")]
    Escapes(String),
    /// The kernel said no.
    #[error("failed to prepare subPath {path:?}: {source}")]
    Io {
        /// As given.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// What to mount for `subPath` of a volume; a missing one becomes a directory (`pkg/volume/util/subpath`).
pub fn sub_path(volume: &Path, sub: &str) -> Result<PathBuf, SubPathError> {
    use std::path::Component;
    let failed = |source| SubPathError::Io { path: sub.to_owned(), source };
    let relative = Path::new(sub);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(SubPathError::Escapes(sub.to_owned()));
    }
    let path = volume.join(relative);
    if std::fs::symlink_metadata(&path).is_err() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    let real = std::fs::canonicalize(&path).map_err(failed)?;
    if !real.starts_with(std::fs::canonicalize(volume).map_err(failed)?) {
        return Err(SubPathError::Escapes(sub.to_owned()));
    }
    Ok(real)
}
