//! Persistent volumes: claims are bound to volumes that fit, and to directories made for them.
//!
//! Ports what a cluster with one node and one provisioner needs of `pkg/controller/volume/persistentvolume`; the provisioner itself
//! behaves as kind's local-path one (`WaitForFirstConsumer` is not waited for: there is only one node to choose). [`decide`]
//! matches; this file acts. A volume's directory is under the one given at start and goes with it (reclaim policy Delete).

pub mod decide;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use self::decide::{ClaimAction, VolumeAction, for_claim, for_volume};
use super::shared::cache::Key;
use super::shared::caches::Caches;
use super::shared::events::{Note, Recorder};
use super::shared::meta;
use super::shared::queue::Queue;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code};
use super::shared::written::Written;

/// The provisioner's name, in `StorageClass.provisioner`.
pub const PROVISIONER: &str = "envctl.dev/local-path";

/// The controller; its queue holds claims' keys, and volumes' (without a namespace).
pub struct Volumes {
    client: Client,
    caches: Caches,
    events: Recorder,
    written: Written,
    directory: PathBuf,
}

impl Volumes {
    /// Registers what enqueues a claim or a volume.
    pub fn new(client: Client, caches: Caches, events: Recorder, directory: PathBuf, queue: &Arc<Queue<Key>>) -> Self {
        let (on, volumes) = (queue.clone(), caches.volumes.clone());
        caches.claims.on_change(move |change| {
            let Some(claim) = change.states().last() else { return };
            on.add(Key::of(&claim.metadata));
            for volume in volumes.all() {
                if decide::claimed_by(&volume, claim) {
                    on.add(Key::of(&volume.metadata));
                }
            }
        });
        let (on, claims) = (queue.clone(), caches.claims.clone());
        caches.volumes.on_change(move |change| {
            let Some(volume) = change.states().last() else { return };
            on.add(Key::of(&volume.metadata));
            match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
                Some(claim) => on.add(Key::new(
                    claim.namespace.as_deref().unwrap_or_default(),
                    claim.name.as_deref().unwrap_or_default(),
                )),
                // It is free: whoever waits may take it.
                None => claims
                    .all()
                    .iter()
                    .filter(|claim| decide::is_pending(claim))
                    .for_each(|claim| on.add(Key::of(&claim.metadata))),
            }
        });
        let (on, claims) = (queue.clone(), caches.claims.clone());
        caches.classes.on_change(move |_| {
            claims
                .all()
                .iter()
                .filter(|claim| decide::is_pending(claim))
                .for_each(|claim| on.add(Key::of(&claim.metadata)));
        });
        Self { client, caches, events, written: Written::default(), directory }
    }

    async fn sync_claim(&self, key: &Key, claim: &PersistentVolumeClaim) -> Result<(), SyncError> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match for_claim(claim, &self.caches.volumes.all(), &self.caches.classes.all(), &self.directory) {
            ClaimAction::Nothing => {}
            ClaimAction::Note(note) => self.events.note(claim, note),
            ClaimAction::Provision(volume) => {
                if let Some(path) = path_of(&volume) {
                    make(&path).await?;
                }
                match volumes.create(&PostParams::default(), &volume).await {
                    Err(error) if code(&error) == 409 => {}
                    result => {
                        let volume = result.doing("creating a volume")?;
                        self.written.created(key, self.caches.volumes.clone(), &volume.metadata);
                        let message = format!("Successfully provisioned volume {}", meta::name(&volume.metadata));
                        self.events.note(claim, Note::normal("ProvisioningSucceeded", message));
                    }
                }
            }
            ClaimAction::Reserve(volume) => {
                let volume = volumes.replace(meta::name(&volume.metadata), &PostParams::default(), &volume).await;
                self.written.updated(key, self.caches.volumes.clone(), &volume.doing("reserving a volume")?.metadata);
            }
            ClaimAction::Bind(bound) => {
                let bound = claims.replace(&key.name, &PostParams::default(), &bound).await.doing("binding a claim")?;
                self.written.updated(key, self.caches.claims.clone(), &bound.metadata);
            }
            ClaimAction::Status(changed) => {
                let changed = claims.replace_status(&key.name, &PostParams::default(), &changed).await;
                self.written.updated(
                    key,
                    self.caches.claims.clone(),
                    &changed.doing("updating a claim's status")?.metadata,
                );
            }
        }
        Ok(())
    }

    async fn sync_volume(&self, key: &Key, volume: &PersistentVolume) -> Result<(), SyncError> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match for_volume(volume, &self.caches.claims.all()) {
            VolumeAction::Nothing => {}
            VolumeAction::Status(changed) => {
                let changed = volumes.replace_status(&key.name, &PostParams::default(), &changed).await;
                self.written.updated(
                    key,
                    self.caches.volumes.clone(),
                    &changed.doing("updating a volume's status")?.metadata,
                );
            }
            VolumeAction::Delete => {
                if let Some(path) = path_of(volume).filter(|path| path.starts_with(&self.directory)) {
                    remove(&path).await?;
                }
                match volumes.delete(&key.name, &DeleteParams::default()).await {
                    Err(error) if code(&error) != 404 => return Err(error).doing("deleting a volume"),
                    _ => self.written.deleted(key, self.caches.volumes.clone(), &volume.metadata),
                }
            }
        }
        Ok(())
    }
}

fn path_of(volume: &PersistentVolume) -> Option<PathBuf> {
    Some(PathBuf::from(&volume.spec.as_ref()?.host_path.as_ref()?.path))
}

async fn make(path: &Path) -> Result<(), SyncError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| SyncError::Directory { doing: "making a volume's directory", path: path.to_owned(), source };
    tokio::fs::create_dir_all(path).await.map_err(failed)?;
    // Whatever uid a pod runs as, the volume is its to write, as local-path's setup script has it.
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).await.map_err(failed)
}

async fn remove(path: &Path) -> Result<(), SyncError> {
    match tokio::fs::remove_dir_all(path).await {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SyncError::Directory { doing: "removing a volume's directory", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

impl Syncer for Volumes {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        if !self.written.caught_up(key) {
            return Ok(Next::OnEvent);
        }
        if key.namespace.is_empty() {
            if let Some(volume) = self.caches.volumes.get(key) {
                self.sync_volume(key, &volume).await?;
            }
        } else if let Some(claim) = self.caches.claims.get(key) {
            self.sync_claim(key, &claim).await?;
        }
        Ok(Next::OnEvent)
    }
}
