//! What is accepted and kept but not acted on: the words of a `Warning:` header.

use serde_json::Value;

use super::context::Context;
use super::registry::Row;

/// What to tell the creator of an object that nothing here acts on.
pub fn kind(row: &Row) -> Option<String> {
    (!row.enforced()).then(|| {
        format!("{} {}: accepted and stored, but nothing in this cluster enforces it", row.api_version(), row.kind)
    })
}

/// What to tell a person who writes a pod, or a template of pods, with fields that no node acts on
/// (upstream's place for such words is `pkg/api/pod/warnings.go`). Controllers only repeat what a person wrote.
pub fn fields(context: &Context<'_>, object: &Value, old: Option<&Value>) -> Option<String> {
    let path = match (context.row.group, context.row.plural) {
        ("", "pods") => "/spec",
        ("apps" | "batch", _) => "/spec/template/spec",
        _ => return None,
    };
    let spec = object.pointer(path)?;
    if context.user.is_part_of_the_cluster() || old.and_then(|old| old.pointer(path)) == Some(spec) {
        return None;
    }
    let fields = context.server.config.unenforced_by_nodes.of(spec);
    let path = path[1..].replace('/', ".");
    (!fields.is_empty()).then(|| format!("{path}: accepted, but not enforced by this cluster: {}", fields.join(", ")))
}
