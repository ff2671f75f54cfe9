//! Keys as pods see them: one Secret for all of the session's, and what restarts a pod whose key changed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::objects::{self, Context, KEYS_SECRET};
use crate::plan::{Node, NodeKind, Plan};

/// On pod templates: the digest of the keys that the pod uses.
const KEYS_DIGEST: &str = "envctl.dev/keys-digest";

/// The Secret that holds all issued keys.
pub fn secret(plan: &Plan, context: &Context, keys: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": KEYS_SECRET,
            "namespace": context.namespace,
            "labels": objects::session_labels(plan, context),
        },
        "data": keys.iter().map(|(name, value)| (name.clone(), STANDARD.encode(value))).collect::<BTreeMap<_, _>>(),
    })
}

/// The keys that a node uses, in the file's order.
pub fn uses(node: &Node) -> impl Iterator<Item = &str> {
    let keys = node.needs.iter().filter(|need| need.node.kind == NodeKind::Key && node.id.kind != NodeKind::Key);
    keys.map(|need| need.node.name.as_str())
}

/// Stamps the pod templates of `node` with a digest of the keys it uses: another key is a difference. The digest is cut
/// short and covers all keys at once, so nothing can be learned from it.
pub fn stamp(rendered: &mut [Value], node: &Node, keys: &BTreeMap<String, String>) {
    let mut hash = Sha256::new();
    let mut used = false;
    for name in uses(node) {
        used = true;
        hash.update(name.as_bytes());
        hash.update(keys.get(name).map(String::as_bytes).unwrap_or_default());
    }
    if !used {
        return;
    }
    let digest: [u8; 32] = hash.finalize().into();
    let text: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    for object in rendered {
        if let Some(metadata) = object.pointer_mut("/spec/template/metadata") {
            metadata["annotations"][KEYS_DIGEST] = text.clone().into();
        }
    }
}
