//! Text of cells: ages, labels, lists cut short.
//!
//! Ports `apimachinery/pkg/util/duration`, `labels.FormatLabels`, `metav1.FormatLabelSelector` and helpers of `printers.go`. Pure.

use jiff::Timestamp;
use serde_json::Value;

/// The object's name.
pub(super) fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"]).into()
}

/// How old the object is.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    since(&object["metadata"]["creationTimestamp"], now).into()
}

/// A string; empty if there is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A string or number as text.
pub(super) fn any_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The text, or `otherwise` if it is empty or absent.
pub(super) fn text_or(value: &Value, otherwise: &str) -> String {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(otherwise).to_owned()
}

/// A count; 0 if there is none.
pub(super) fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// A list's elements; none if it is absent.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The condition of a type.
pub(super) fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == type_)
}

/// How long ago (`translateTimestampSince`).
pub(super) fn since(at: &Value, now: Timestamp) -> String {
    match time(at) {
        Some(at) => human(now.as_second() - at.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A point in time.
pub(super) fn time(at: &Value) -> Option<Timestamp> {
    at.as_str()?.parse().ok()
}

/// `duration.HumanDuration`, of whole seconds.
pub(super) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |large: i64, large_unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(hours / 24, 'd', hours % 24, 'h'),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, 'y', (hours / 24) % 365, 'd'),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// `labels.FormatLabels`.
pub(super) fn labels(of: &Value) -> String {
    let pairs: Vec<String> =
        of.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// `metav1.FormatLabelSelector`.
pub(super) fn selector(of: &Value) -> String {
    let mut all: Vec<(String, String)> = Vec::new();
    for (key, value) in of["matchLabels"].as_object().into_iter().flatten() {
        all.push((key.clone(), format!("{key}={}", text(value))));
    }
    for expression in list(&of["matchExpressions"]) {
        let key = text(&expression["key"]);
        let mut values: Vec<String> = list(&expression["values"]).iter().map(text).collect();
        values.sort();
        let written = match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.clone(),
        };
        all.push((key, written));
    }
    all.sort();
    match (of.is_null(), all.is_empty()) {
        (true, _) | (_, true) => "<none>".to_owned(),
        _ => all.into_iter().map(|(_, written)| written).collect::<Vec<_>>().join(","),
    }
}

/// Names and images of containers (`layoutContainerCells`).
pub(super) fn containers(pod_spec: &Value) -> [Value; 2] {
    let join = |of: &str| list(&pod_spec["containers"]).iter().map(|c| text(&c[of])).collect::<Vec<_>>().join(",");
    [join("name").into(), join("image").into()]
}

/// The first `most` elements, and how many more there are (`listWithMoreString`).
pub(super) fn first(of: &[String], most: usize, separator: &str) -> String {
    if of.is_empty() {
        return "<none>".to_owned();
    }
    let shown = of[..of.len().min(most)].join(separator);
    if of.len() > most { format!("{shown} + {} more...", of.len() - most) } else { shown }
}
