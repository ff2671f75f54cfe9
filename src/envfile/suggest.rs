//! "Did you mean": the nearest of what would have been right.

/// The candidate that `word` was most likely meant to be, if any is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(word.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What other tools call it, and what it is called here.
const ELSEWHERE: [(&str, &str); 14] = [
    ("environment", "env"),
    ("depends_on", "needs"),
    ("dependsOn", "needs"),
    ("healthcheck", "ready"),
    ("readinessProbe", "ready"),
    ("working_dir", "workdir"),
    ("workingDir", "workdir"),
    ("entrypoint", "command"),
    ("stop_grace_period", "grace"),
    ("terminationGracePeriodSeconds", "grace"),
    ("backoffLimit", "retries"),
    ("volumeMounts", "volumes"),
    ("expose", "ports"),
    ("target", "targetPort"),
];

/// A hint: the nearest candidate, else all of them (if they are few), introduced by `what`.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, what: &str) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    if let Some(theirs) = nearest(word, ELSEWHERE.iter().map(|(theirs, _)| *theirs))
        && let Some((_, ours)) = ELSEWHERE.iter().find(|(known, ours)| *known == theirs && candidates.contains(ours))
    {
        return Some(format!("it is called `{ours}` here"));
    }
    if candidates.is_empty() || candidates.len() > 24 {
        return None;
    }
    Some(format!("{what}: {}", list(candidates)))
}

/// `a`, `b`, `c`.
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}
