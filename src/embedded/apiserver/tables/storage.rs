//! Rows of volumes, claims and storage classes.

use jiff::Timestamp;
use serde_json::Value;

use super::format::{age, any_text, list, name, text, text_or};
use super::{Cells, Printer};

const VOLUME: &[&str] = &[
    "Name",
    "Capacity",
    "Access Modes",
    "Reclaim Policy",
    "Status",
    "Claim",
    "StorageClass",
    "VolumeAttributesClass",
    "Reason",
    "Age",
    "VolumeMode*",
];
const CLAIM: &[&str] = &[
    "Name",
    "Status",
    "Volume",
    "Capacity",
    "Access Modes",
    "StorageClass",
    "VolumeAttributesClass",
    "Age",
    "VolumeMode*",
];
pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    let (columns, cells): (&'static [&'static str], Cells) = match (group, kind) {
        ("", "PersistentVolume") => (VOLUME, volume),
        ("", "PersistentVolumeClaim") => (CLAIM, claim),
        ("storage.k8s.io", "StorageClass") => (
            &["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"],
            storage_class,
        ),
        _ => return None,
    };
    Some(Printer { columns, cells })
}

/// `GetAccessModesAsString`: each mode once, in upstream's order.
fn access_modes(of: &Value) -> String {
    let modes =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| list(of).iter().any(|of| of == mode);
    modes.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

fn phase(object: &Value) -> Value {
    if object["metadata"]["deletionTimestamp"].is_string() {
        "Terminating".into()
    } else {
        text(&object["status"]["phase"]).into()
    }
}

fn class(object: &Value) -> Value {
    let annotation = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    text_or(annotation, &text(&object["spec"]["storageClassName"])).into()
}

fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let by = &spec["claimRef"];
    let by = if by.is_null() { String::new() } else { format!("{}/{}", text(&by["namespace"]), text(&by["name"])) };
    let capacity = any_text(&spec["capacity"]["storage"]);
    vec![
        name(object),
        if capacity.is_empty() { "0".to_owned() } else { capacity }.into(),
        access_modes(&spec["accessModes"]).into(),
        text(&spec["persistentVolumeReclaimPolicy"]).into(),
        phase(object),
        by.into(),
        class(object),
        text_or(&spec["volumeAttributesClassName"], "<unset>").into(),
        text(&object["status"]["reason"]).into(),
        age(object, now),
        text_or(&spec["volumeMode"], "<unset>").into(),
    ]
}

fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let bound = !text(&spec["volumeName"]).is_empty();
    let (capacity, modes) = if bound {
        let capacity = any_text(&status["capacity"]["storage"]);
        (if capacity.is_empty() { "0".to_owned() } else { capacity }, access_modes(&status["accessModes"]))
    } else {
        (String::new(), String::new())
    };
    vec![
        name(object),
        phase(object),
        text(&spec["volumeName"]).into(),
        capacity.into(),
        modes.into(),
        class(object),
        text_or(&spec["volumeAttributesClassName"], "<unset>").into(),
        age(object, now),
        text_or(&spec["volumeMode"], "<unset>").into(),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = &object["metadata"]["annotations"];
    let is_default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|key| annotations[*key] == "true");
    let suffix = if is_default { " (default)" } else { "" };
    vec![
        format!("{}{suffix}", text(&object["metadata"]["name"])).into(),
        text(&object["provisioner"]).into(),
        text_or(&object["reclaimPolicy"], "Delete").into(),
        text_or(&object["volumeBindingMode"], "Immediate").into(),
        (object["allowVolumeExpansion"] == true).into(),
        age(object, now),
    ]
}
