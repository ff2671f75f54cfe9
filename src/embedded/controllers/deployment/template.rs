//! Which replica set belongs to a deployment's template, and the hash that names it.
//!
//! Ports `FindNewReplicaSet` and `EqualIgnoreHash` of `deployment_util.go` and `ComputeHash` of `controller_utils.go`. The hash
//! is FNV-1 over the template's JSON, not over Go's memory dump of it: only its form, never its value, is visible.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that tells one template's pods from another's.
pub const HASH_LABEL: &str = "pod-template-hash";

/// The alphabet of `k8s.io/apimachinery/pkg/util/rand.SafeEncodeString`: no vowels, no bad words.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template, different for each collision count.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash: u32 = 2_166_136_261;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = hash.wrapping_mul(16_777_619) ^ u32::from(*byte);
        }
    };
    // A template came from JSON, so it can be written as JSON.
    add(&serde_json::to_vec(template).unwrap_or_default());
    if let Some(collisions) = collisions {
        add(&u32::try_from(collisions).unwrap_or(0).to_le_bytes());
        add(&[0; 4]);
    }
    hash.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

/// Whether a replica set runs the deployment's template, its hash label apart.
pub fn is_of(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let ours = deployment.spec.as_ref().map(|spec| &spec.template);
    let its = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    match (ours, its) {
        (Some(ours), Some(its)) => ours.spec == its.spec && metadata(ours) == metadata(its),
        _ => false,
    }
}

fn metadata(template: &PodTemplateSpec) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    // Nothing and empty are the same to `Semantic.DeepEqual`.
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta
}

/// The oldest replica set with the deployment's template, and all others, by age.
pub fn split(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> (Option<ReplicaSet>, Vec<ReplicaSet>) {
    let mut sets: Vec<ReplicaSet> = sets.iter().map(|set| ReplicaSet::clone(set)).collect();
    sets.sort_by(by_age);
    let new = sets.iter().position(|set| is_of(deployment, set)).map(|at| sets.remove(at));
    (new, sets)
}

/// Oldest first, then by name (`ReplicaSetsByCreationTimestamp`).
pub fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    let age = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|at| at.0);
    age(a).cmp(&age(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_a_safe_name_and_differs_by_collision_count() {
        let template = PodTemplateSpec::default();
        let hashes = [hash(&template, None), hash(&template, Some(0)), hash(&template, Some(1))];
        for hash in &hashes {
            assert!(hash.bytes().all(|byte| SAFE.contains(&byte)), "{hash}");
        }
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[1], hashes[2]);
    }
}
