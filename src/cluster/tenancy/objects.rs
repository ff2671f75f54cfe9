//! What a guest puts into its namespace beside the environment, as values: the lease and the dead-man switch. Pure.
//!
//! The switch is a chain of ownership that ends with the namespace; each link is removed by a part of every Kubernetes:
//!
//! ```text
//! Job ──owns──▶ Service ──has──▶ IPAddress ──owns──▶ Namespace ──owns──▶ what the session has outside of it
//! ```
//!
//! The Job never makes a pod (`parallelism: 0`); its `activeDeadlineSeconds` is pushed forward with the lease. When nobody does,
//! the job controller fails it, the TTL controller deletes it, the garbage collector the Service, the API server the
//! Service's address, and the garbage collector the namespace: its owner is gone. IPAddress (served since Kubernetes 1.33) is the
//! link because an owner of a namespace must be cluster-scoped, and the only such objects that end by time, certificate requests, take hours.

use std::time::Duration;

use serde_json::{Value, json};

/// The Lease that says that a session is alive.
pub const LEASE: &str = "envctl-session";
/// The Job and the Service of the dead-man switch.
pub const SWITCH: &str = "envctl-switch";
/// On the Lease: the UID of the namespace that the session made. A namespace with another one is somebody else's.
pub const NAMESPACE_UID: &str = "envctl.dev/namespace-uid";

/// The lease, held as of `now` (RFC 3339 with microseconds).
pub fn lease(labels: &Value, uid: &str, holder: &str, length: Duration, now: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": LEASE, "labels": labels, "annotations": { NAMESPACE_UID: uid } },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds(length),
            "acquireTime": now,
            "renewTime": now,
        },
    })
}

/// The job that ends by itself unless its deadline is pushed forward.
pub fn job(labels: &Value, length: Duration) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": SWITCH, "labels": labels },
        "spec": {
            "parallelism": 0,
            "completions": 1,
            "activeDeadlineSeconds": seconds(length),
            "ttlSecondsAfterFinished": 0,
            // Required, never run; so that no policy for pods has anything to say.
            "template": { "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "never",
                    "image": "envctl.dev/never",
                    "resources": { "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "1m", "memory": "1Mi" } },
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                }],
            } },
        },
    })
}

/// The service whose address goes with the job.
pub fn service(labels: &Value, job: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SWITCH,
            "labels": labels,
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": SWITCH, "uid": job }],
        },
        "spec": { "ports": [{ "port": 1 }] },
    })
}

/// What makes the address the owner of the namespace of this UID, and of no other.
pub fn owned_by_address(uid: &str, address: &str, address_uid: &str) -> Value {
    let owner =
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "name": address, "uid": address_uid });
    json!({ "metadata": { "uid": uid, "ownerReferences": [owner] } })
}

/// Whole seconds, at least one.
pub fn seconds(length: Duration) -> u64 {
    (length.as_secs() + u64::from(length.subsec_nanos() > 0)).max(1)
}
