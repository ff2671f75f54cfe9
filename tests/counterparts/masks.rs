//! What differs between two clusters by nature, taken out of their answers.

use std::collections::BTreeMap;

use serde_json::Value;

/// Fields whose text is the cluster's own; that they are there is compared.
const OWN: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "containerID",
    "imageID",
    "podIP",
    "hostIP",
    "ip",
    "nodeName",
    "clusterIP",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastProbeTime",
    "lastHeartbeatTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "completionTime",
    "time",
    "renewTime",
    "acquireTime",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "ca.crt",
    "volumeName",
    "path",
    "pod-template-hash",
];

/// An object as `path` → value; list elements by their name, type or place.
pub fn flat(value: &Value) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    walk("", "", value, false, &mut parts);
    parts
}

fn walk(path: &str, key: &str, value: &Value, generated: bool, parts: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            // Pods of a set: their names end in what was drawn.
            let generated = fields.contains_key("generateName")
                || fields.get("ownerReferences").is_some() && key == "metadata"
                || generated && key != "metadata";
            for (key, value) in fields {
                let joined = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&joined, key, value, generated, parts);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            let addresses = matches!(key, "podIPs" | "hostIPs" | "clusterIPs" | "addresses");
            for (place, element) in elements.iter().enumerate() {
                // Conditions come in any order; other lists' order is part of the answer.
                let name = match (key, element["type"].as_str()) {
                    ("conditions", Some(kind)) => kind.to_owned(),
                    _ => place.to_string(),
                };
                let masked = Value::from("(an address)");
                let element = if addresses && element.is_string() { &masked } else { element };
                walk(&format!("{path}[{name}]"), "", element, false, parts);
            }
        }
        Value::String(text) => {
            let text = if OWN.contains(&key) && !text.is_empty() {
                "(its own)".to_owned()
            } else if key == "name" && generated {
                "(generated)".to_owned()
            } else {
                words(text)
            };
            parts.insert(path.to_owned(), text);
        }
        other => {
            parts.insert(path.to_owned(), other.to_string());
        }
    }
}

/// A line of text without ages, addresses, generated names and the widths of columns.
pub fn masked_text(line: &str) -> String {
    words(line.trim_end_matches('\n'))
}

fn words(text: &str) -> String {
    text.lines().map(line_of).collect::<Vec<_>>().join(" / ")
}

fn line_of(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    // Dates in full, and what a runtime calls its own.
    let cut =
        line.ends_with(" +0000") || ["Container ID:", "Image ID:"].iter().any(|own| line.trim_start().starts_with(own));
    if let (true, Some((name, _))) = (cut, line.split_once(':')) {
        return format!("{name}: (its own)");
    }
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    format!("{}{}", " ".repeat(indent.min(8)), words.join(" "))
}

/// One word; its parts are masked each on its own.
fn word(word: &str) -> String {
    word.split_inclusive(|c| "/,=".contains(c)).map(part).collect()
}

/// Punctuation around it stays.
fn part(word: &str) -> String {
    let inner = word.trim_matches(|c: char| "\"'(),;:/=[]".contains(c));
    // First: one whose letters happen to be consonants only looks like a generated name, too.
    let masked = if let Some(start) = before_uid(inner) {
        format!("{start}(uid)")
    } else if let Some(start) = generated_name(inner) {
        format!("{start}*")
    } else if is_duration(inner) {
        "(age)".to_owned()
    } else if is_address(inner) {
        "(address)".to_owned()
    } else if is_time(inner) {
        "(time)".to_owned()
    } else {
        return word.to_owned();
    };
    word.replacen(inner, &masked, 1)
}

/// Names that controllers and kubelets draw: `web-5d8f7c9b6-x2x4z`, `kube-api-access-abcde`.
fn generated_name(word: &str) -> Option<&str> {
    // The last is a hash alone, as labels have it.
    for start in ["kube-api-access-", "web-", "set-", "once-", ""] {
        let Some(rest) = word.strip_prefix(start) else { continue };
        let least = if start.is_empty() { 9 } else { 5 };
        if rest.len() >= least
            && rest.chars().all(|c| c == '-' || c.is_ascii_digit() || "bcdfghjklmnpqrstvwxz".contains(c))
        {
            return Some(start);
        }
    }
    None
}

fn is_duration(word: &str) -> bool {
    let mut rest = word;
    while let Some(unit) = rest.find(|c: char| !c.is_ascii_digit()) {
        if unit == 0 || !"dhms".contains(&rest[unit..=unit]) {
            return false;
        }
        rest = &rest[unit + 1..];
    }
    rest.is_empty() && word.len() > 1 && word.ends_with(|c: char| c.is_ascii_lowercase())
}

fn is_address(word: &str) -> bool {
    let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// What stands before a uid at a word's end: nothing, or `pvc-`.
fn before_uid(word: &str) -> Option<&str> {
    let (start, uid) = word.split_at_checked(word.len().checked_sub(36)?)?;
    (uid.matches('-').count() == 4 && uid.chars().all(|c| c == '-' || c.is_ascii_hexdigit())).then_some(start)
}

fn is_time(word: &str) -> bool {
    word.parse::<jiff::Timestamp>().is_ok()
}

#[test]
fn masks() {
    assert_eq!(masked_text("web-5d8f7c9b6-x2x4z   1/1  Running  0   3m22s"), "web-* 1/1 Running 0 (age)");
    assert_eq!(masked_text("  IP:   10.244.0.3"), "  IP: (address)");
    assert_eq!(masked_text("web  ClusterIP 10.96.3.4 <none> 80/TCP 5s"), "web ClusterIP (address) <none> 80/TCP (age)");
    assert_eq!(masked_text("pod \"webs\" not found"), "pod \"webs\" not found");
    assert_eq!(masked_text("pvc-bcdf1234-5678-9bcd-bfdc-123456789bcd"), "pvc-(uid)");
    let object =
        serde_json::json!({"metadata": {"uid": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let parts = flat(&object);
    assert_eq!(parts["metadata.uid"], "(its own)");
    assert_eq!(parts["status.conditions[Ready].status"], "True");
}
