//! Which volume a claim gets, and what becomes of a volume whose claim is gone.
//!
//! Ports `syncUnboundClaim`, `syncBoundClaim`, `syncVolume` of `pv_controller.go` and `FindMatchingVolume` of
//! `component-helpers/storage/volume/pv_helpers.go`. Pure. The binding goes the way upstream's does, one write at a time: the volume names
//! the claim, the claim names the volume, both become Bound.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
    PersistentVolumeSpec, PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::SelectorExt;

use super::super::shared::events::Note;
use super::super::shared::meta;
use super::PROVISIONER;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// What to do about a claim.
#[derive(Debug)]
pub enum ClaimAction {
    /// It is as it should be, or someone else's turn.
    Nothing,
    /// Say why nothing happens.
    Note(Note),
    /// Make a volume for it.
    Provision(Box<PersistentVolume>),
    /// Let this volume name the claim.
    Reserve(Box<PersistentVolume>),
    /// Let the claim name its volume.
    Bind(Box<PersistentVolumeClaim>),
    /// Write its status.
    Status(Box<PersistentVolumeClaim>),
}

/// What to do about a volume.
#[derive(Debug)]
pub enum VolumeAction {
    /// It is as it should be.
    Nothing,
    /// Write its status.
    Status(Box<PersistentVolume>),
    /// Its claim is gone and it goes too.
    Delete,
}

/// Whether a claim waits for a volume.
pub fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound")
}

/// Whether a volume names this very claim.
pub fn claimed_by(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(by) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    by.namespace == claim.metadata.namespace
        && by.name == claim.metadata.name
        && by.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

/// Decides about a claim.
pub fn for_claim(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
    directory: &Path,
) -> ClaimAction {
    if claim.metadata.deletion_timestamp.is_some() {
        return ClaimAction::Nothing;
    }
    let spec = claim.spec.clone().unwrap_or_default();
    if let Some(name) = spec.volume_name.as_ref().filter(|name| !name.is_empty()) {
        return for_named(claim, volumes.iter().find(|volume| volume.metadata.name.as_ref() == Some(name)));
    }
    if let Some(volume) = best(claim, volumes) {
        if claimed_by(volume, claim) && has_uid(volume) {
            return bind(claim, volume);
        }
        return ClaimAction::Reserve(Box::new(reserved(volume, claim)));
    }
    let Some(class) = class_of(claim, classes) else {
        let message = "no persistent volumes available for this claim and no storage class is set".to_owned();
        return ClaimAction::Note(Note::normal("FailedBinding", message));
    };
    if class.provisioner != PROVISIONER {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                               administrator.",
            class.provisioner
        );
        return ClaimAction::Note(Note::normal("ExternalProvisioning", message));
    }
    ClaimAction::Provision(Box::new(provisioned(claim, class, directory)))
}

fn has_uid(volume: &PersistentVolume) -> bool {
    let by = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    by.and_then(|by| by.uid.as_deref()).is_some_and(|uid| !uid.is_empty())
}

/// The claim names a volume already: reserve it, or settle the status.
fn for_named(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> ClaimAction {
    let lost = |claim: &PersistentVolumeClaim| {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let was_bound = meta::annotation(&claim.metadata, BIND_COMPLETED).is_some();
        if !was_bound || phase == Some("Lost") {
            return ClaimAction::Nothing;
        }
        let mut changed = claim.clone();
        changed.status.get_or_insert_default().phase = Some("Lost".to_owned());
        ClaimAction::Status(Box::new(changed))
    };
    let Some(volume) = volume else { return lost(claim) };
    let spec = volume.spec.clone().unwrap_or_default();
    match &spec.claim_ref {
        None => ClaimAction::Reserve(Box::new(reserved(volume, claim))),
        Some(_) if !claimed_by(volume, claim) => lost(claim),
        Some(_) if !has_uid(volume) => ClaimAction::Reserve(Box::new(reserved(volume, claim))),
        Some(_) if meta::annotation(&claim.metadata, BIND_COMPLETED).is_none() => bind(claim, volume),
        Some(_) => {
            let wanted = PersistentVolumeClaimStatus {
                phase: Some("Bound".to_owned()),
                access_modes: spec.access_modes,
                capacity: spec.capacity,
                ..claim.status.clone().unwrap_or_default()
            };
            if claim.status.as_ref() == Some(&wanted) {
                return ClaimAction::Nothing;
            }
            let mut changed = claim.clone();
            changed.status = Some(wanted);
            ClaimAction::Status(Box::new(changed))
        }
    }
}

fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> ClaimAction {
    let mut bound = claim.clone();
    let spec = bound.spec.get_or_insert_default();
    let annotations = bound.metadata.annotations.get_or_insert_default();
    if spec.volume_name.as_deref().unwrap_or_default().is_empty() {
        spec.volume_name = volume.metadata.name.clone();
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
    ClaimAction::Bind(Box::new(bound))
}

fn reserved(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut volume = volume.clone();
    let spec = volume.spec.get_or_insert_default();
    if spec.claim_ref.is_none() {
        let annotations = volume.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    spec.claim_ref = Some(reference(claim));
    volume
}

fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

/// The class that a claim names, or the default one; `None` for the empty name, which asks for no provisioning.
fn class_of<'a>(claim: &PersistentVolumeClaim, classes: &'a [Arc<StorageClass>]) -> Option<&'a StorageClass> {
    let is_default = |class: &&Arc<StorageClass>| meta::annotation(&class.metadata, DEFAULT_CLASS) == Some("true");
    let class = match class_name(claim) {
        Some(name) => classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)),
        // The newest of several defaults, as admission would have chosen.
        None => classes
            .iter()
            .filter(is_default)
            .max_by_key(|class| class.metadata.creation_timestamp.as_ref().map(|at| at.0)),
    };
    class.map(|class| &**class)
}

/// The volume that names the claim, or the smallest free one that fits (`FindMatchingVolume`).
fn best<'a>(claim: &PersistentVolumeClaim, volumes: &'a [Arc<PersistentVolume>]) -> Option<&'a PersistentVolume> {
    if let Some(volume) = volumes.iter().find(|volume| claimed_by(volume, claim)) {
        return Some(volume);
    }
    let spec = claim.spec.clone().unwrap_or_default();
    let wanted =
        spec.resources.and_then(|resources| resources.requests).and_then(|requests| requests.get("storage").map(bytes));
    let selector = spec.selector.as_ref().and_then(|selector| meta::selector(selector).ok());
    let fits = |volume: &&Arc<PersistentVolume>| {
        let of = volume.spec.clone().unwrap_or_default();
        let modes = of.access_modes.unwrap_or_default();
        let none = BTreeMap::new();
        volume.metadata.deletion_timestamp.is_none()
            && of.claim_ref.is_none()
            && of.storage_class_name.as_deref().unwrap_or_default() == class_name(claim).unwrap_or_default()
            && of.volume_mode.as_deref().unwrap_or("Filesystem") == spec.volume_mode.as_deref().unwrap_or("Filesystem")
            && spec.access_modes.iter().flatten().all(|mode| modes.contains(mode))
            && selector
                .as_ref()
                .is_none_or(|selector| selector.matches(volume.metadata.labels.as_ref().unwrap_or(&none)))
            && capacity(volume) >= wanted.unwrap_or(0.0)
    };
    volumes.iter().filter(fits).min_by(|a, b| capacity(a).total_cmp(&capacity(b))).map(|volume| &**volume)
}

fn capacity(volume: &PersistentVolume) -> f64 {
    volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage")).map_or(0.0, bytes)
}

/// A quantity as a number; exact enough to compare sizes.
fn bytes(quantity: &Quantity) -> f64 {
    let text = quantity.0.as_str();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => 1.0,
    };
    number.parse::<f64>().unwrap_or(0.0) * factor
}

/// A hostPath volume of the asked size, reserved for the claim (`GetProvisionedVolumeNameForClaim`: `pvc-UID`).
fn provisioned(claim: &PersistentVolumeClaim, class: &StorageClass, directory: &Path) -> PersistentVolume {
    let name = format!("pvc-{}", meta::uid(&claim.metadata));
    let leaf = format!("{name}_{}_{}", meta::namespace(&claim.metadata), meta::name(&claim.metadata));
    let spec = claim.spec.clone().unwrap_or_default();
    let size =
        spec.resources.and_then(|resources| resources.requests).and_then(|requests| requests.get("storage").cloned());
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some(size.into_iter().map(|size| ("storage".to_owned(), size)).collect()),
            claim_ref: Some(reference(claim)),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some(spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned())),
            host_path: Some(HostPathVolumeSource {
                path: directory.join(leaf).to_string_lossy().into_owned(),
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// Decides about a volume.
pub fn for_volume(volume: &PersistentVolume, claims: &[Arc<PersistentVolumeClaim>]) -> VolumeAction {
    let spec = volume.spec.clone().unwrap_or_default();
    let phase = match &spec.claim_ref {
        None => "Available",
        Some(by) if by.uid.as_deref().unwrap_or_default().is_empty() => "Available",
        Some(_) => match claims.iter().find(|claim| claimed_by(volume, claim)) {
            Some(claim) => {
                let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
                if named == volume.metadata.name.as_ref() { "Bound" } else { return VolumeAction::Nothing }
            }
            None => "Released",
        },
    };
    let provisioned = meta::annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER);
    let deletes = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    if phase == "Released" && provisioned && deletes && volume.metadata.deletion_timestamp.is_none() {
        return VolumeAction::Delete;
    }
    if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
        return VolumeAction::Nothing;
    }
    let mut changed = volume.clone();
    changed.status = Some(PersistentVolumeStatus {
        phase: Some(phase.to_owned()),
        last_phase_transition_time: Some(meta::now()),
        ..PersistentVolumeStatus::default()
    });
    VolumeAction::Status(Box::new(changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("it is one")
    }

    #[test]
    fn a_claim_goes_from_pending_to_bound_and_its_volume_goes_with_it() {
        let class: StorageClass = of(serde_json::json!({
            "metadata": {"name": "standard", "annotations": {DEFAULT_CLASS: "true"}}, "provisioner": PROVISIONER
        }));
        let mut claim: PersistentVolumeClaim = of(serde_json::json!({
            "metadata": {"name": "data", "namespace": "a", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        }));
        let classes = [Arc::new(class)];
        let directory = Path::new("/v");
        let ClaimAction::Provision(volume) = for_claim(&claim, &[], &classes, directory) else {
            panic!("not provisioned")
        };
        assert_eq!(volume.metadata.name.as_deref(), Some("pvc-u"));
        assert_eq!(volume.spec.as_ref().unwrap().host_path.as_ref().unwrap().path, "/v/pvc-u_a_data");
        let mut volume = *volume;
        let step = |claim: &PersistentVolumeClaim, volume: &PersistentVolume| {
            for_claim(claim, &[Arc::new(volume.clone())], &classes, directory)
        };
        let ClaimAction::Bind(bound) = step(&claim, &volume) else { panic!("not bound") };
        claim = *bound;
        let ClaimAction::Status(status) = step(&claim, &volume) else { panic!("no status") };
        claim = *status;
        assert!(!is_pending(&claim));
        assert!(matches!(step(&claim, &volume), ClaimAction::Nothing));
        let VolumeAction::Status(status) = for_volume(&volume, &[Arc::new(claim)]) else { panic!("no status") };
        volume = *status;
        assert_eq!(volume.status.as_ref().unwrap().phase.as_deref(), Some("Bound"));
        assert!(matches!(for_volume(&volume, &[]), VolumeAction::Delete));
    }

    #[test]
    fn sizes_compare() {
        for (small, large) in [("1Gi", "1025Mi"), ("500M", "1G"), ("1k", "1Ki"), ("1", "1.5")] {
            assert!(bytes(&Quantity(small.to_owned())) < bytes(&Quantity(large.to_owned())), "{small} {large}");
        }
    }
}
