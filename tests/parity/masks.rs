//! What differs between two runs by nature, taken out of what was seen of them.

use std::collections::BTreeMap;

use serde_json::Value;

/// What generated names are made of (`k8s.io/apimachinery/pkg/util/rand`).
const DRAWN: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Fields that are a run's own; that they are there is compared.
const OWN: [&str; 11] = [
    "created",
    "agentPid",
    "idleEndMilliseconds",
    "tookMilliseconds",
    "at",
    "ageSeconds",
    "revision",
    "session.api",
    "session.cluster",
    "_PORT",
    "TOKEN",
];

/// One user's names.
pub struct Masks(Vec<(String, &'static str)>);

impl Masks {
    /// Texts and what stands for them.
    pub fn new(mut names: Vec<(String, &'static str)>) -> Self {
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self(names)
    }

    /// The lines of a text that are compared, masked.
    ///
    /// Left out is what depends on which moments were seen: what a node did or waited for on its way to ready, and how far
    /// back-offs had come. Which states it went through is compared.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut lines: Vec<String> = lines.map(|line| self.text(line)).filter(|line| !is_passing(line)).collect();
        // A heading of what was left out.
        let heads = |lines: &[String], at: usize| {
            lines[at] == "  events" && !lines.get(at + 1).is_some_and(|line| line.starts_with("  - "))
        };
        for at in (0..lines.len()).rev() {
            if heads(&lines, at) {
                lines.remove(at);
            }
        }
        lines
    }

    /// One line or value.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, word) in &self.0 {
            text = text.replace(name, word);
        }
        // The moment of an event.
        if let Some((_, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once("s] ")) {
            text = format!("[TIME] {rest}");
        }
        let (mut masked, mut token) = (String::new(), String::new());
        for c in text.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() || ".-:+".contains(c) {
                token.push(c);
                continue;
            }
            masked.push_str(&word(&token));
            token.clear();
            masked.push(c);
        }
        masked.pop();
        // Columns are as wide as what is in them; times are in whole seconds, so a short run may cross one.
        let indent = masked.len() - masked.trim_start().len();
        let words: Vec<&str> = masked.split_whitespace().collect();
        // So does a count of what is repeated.
        let words =
            words.into_iter().map(|word| if word.starts_with('×') { word.trim_start_matches(uncounted) } else { word });
        // The API server of a kind cluster is at a port of this machine.
        let words = words.collect::<Vec<_>>().join(" ").replace(" :", ":").replace("https://ADDRESS", "https://SERVER");
        without_durations(&format!("{}{words}", &masked[..indent])).trim_end().to_owned()
    }
}

/// Without how long a program ran.
fn without_durations(line: &str) -> String {
    let mut parts = line.split(" after ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match after
            .strip_prefix(" s")
            .filter(|rest| after.len() < part.len() && !rest.starts_with(char::is_alphanumeric))
        {
            Some(rest) => line + rest,
            None => line + " after " + part,
        }
    })
}

fn uncounted(c: char) -> bool {
    c == '×' || c.is_ascii_digit()
}

fn is_passing(line: &str) -> bool {
    if let Some(event) = line.strip_prefix("[TIME] ") {
        let state = event.split_once(": ").map_or("", |(_, state)| state);
        return state.starts_with("starting") || state == "building" || state.starts_with("waiting");
    }
    // The end of the agent's own log, where it was killed.
    line.trim_start().starts_with("- Pod/") && line.contains(" BackOff") || line.starts_with("  | WHEN INFO")
}

/// A word with the punctuation that belongs to addresses and times.
fn word(token: &str) -> String {
    let core = token.trim_end_matches(['.', ':', '-', '+']);
    let rest = &token[core.len()..];
    let masked = if let Some((stem, drawn)) = core.rsplit_once('-') { generated(stem, drawn) } else { None };
    let masked = masked.or_else(|| time(core)).or_else(|| address(core)).unwrap_or_else(|| core.to_owned());
    format!("{masked}{rest}")
}

/// Names of pods, sets and sessions.
fn generated(stem: &str, drawn: &str) -> Option<String> {
    let is_drawn = |text: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&text.len()) && text.chars().all(|c| DRAWN.contains(c))
    };
    if let Some((name, set)) = stem.rsplit_once('-')
        && is_drawn(drawn, 5..=5)
        && is_drawn(set, 6..=10)
    {
        return Some(format!("{name}-POD"));
    }
    if drawn.len() == 8 && drawn.chars().all(|c| c.is_ascii_hexdigit()) {
        return Some(format!("{stem}-ID"));
    }
    if is_drawn(drawn, 6..=10) {
        return Some(format!("{stem}-SET"));
    }
    is_drawn(drawn, 5..=5).then(|| format!("{stem}-POD"))
}

fn time(word: &str) -> Option<String> {
    if word.parse::<jiff::Timestamp>().is_ok() {
        return Some("WHEN".to_owned());
    }
    // `1.05s`, `3m12s`
    let parts = word.strip_suffix('s')?.split(['h', 'm']);
    parts.into_iter().all(|number| number.parse::<f64>().is_ok()).then(|| "TIME".to_owned())
}

fn address(word: &str) -> Option<String> {
    let (host, port) = word.split_once(':').unwrap_or((word, ""));
    let host: std::net::Ipv4Addr = host.parse().ok()?;
    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
    match host.octets() {
        [127, 0, 0, 1] => Some(if port.is_empty() { host.to_string() } else { "ADDRESS".to_owned() }),
        [10, 244, ..] => Some(format!("POD-IP{port}")),
        [10, 96, ..] => Some(format!("SERVICE-IP{port}")),
        // A cluster of tests/cluster.
        [172, 31, 255, _] => Some("SERVER".to_owned()),
        _ => None,
    }
}

/// A document as `path` → value; elements of lists by their name, else their place.
pub fn flat(value: &Value, masks: &Masks) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    walk("", value, masks, &mut parts);
    parts
}

fn walk(path: &str, value: &Value, masks: &Masks, parts: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                walk(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, masks, parts);
            }
        }
        Value::Array(elements) => {
            for (place, element) in elements.iter().enumerate() {
                let name = element["name"].as_str().map_or_else(|| place.to_string(), str::to_owned);
                walk(&format!("{path}[{name}]"), element, masks, parts);
            }
        }
        _ if OWN.iter().any(|own| path.ends_with(own)) => {
            parts.insert(path.to_owned(), "(its own)".to_owned());
        }
        Value::String(text) => _ = parts.insert(path.to_owned(), masks.lines(text).join(" / ")),
        other => _ = parts.insert(path.to_owned(), other.to_string()),
    }
}

#[test]
fn what_is_a_runs_own_is_masked() {
    let masks = Masks::new(vec![("/tmp/x".to_owned(), "HOME")]);
    let masked = |text: &str| masks.text(text);
    assert_eq!(masked("[   0.123s] service api: ready"), "[TIME] service api: ready");
    assert_eq!(
        masked("parity is ready in 1.05s  (session parity-0a1b2c3d, ends)"),
        "parity is ready in TIME (session parity-ID, ends)"
    );
    assert_eq!(masked("  log of api-5d8f7c9b6-x2x4z/api"), "  log of api-POD/api");
    assert_eq!(masked("dial tcp 10.244.0.3:8080: connect"), "dial tcp POD-IP:8080: connect");
    assert_eq!(masked("API_URL=http://127.0.0.1:38295"), "API_URL=http://ADDRESS");
    assert_eq!(masked("error in /tmp/x/project: not ready"), "error in HOME/project: not ready");
    assert_eq!(masks.lines("[   1.1s] service api: starting (0 of 1 created)\n[   1.2s] service api: ready").len(), 1);
}
