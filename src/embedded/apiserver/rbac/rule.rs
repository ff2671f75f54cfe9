//! Policy rules, and whether they cover a request or each other.
//!
//! Follows `pkg/apis/rbac/v1/evaluation_helpers.go` and
//! `component-helpers/auth/rbac/validation/policy_comparator.go`. Pure.

use serde::{Deserialize, Serialize};

use super::super::request::RequestInfo;
use super::super::status::quote;

/// What a role allows: `rbac/v1 PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
    /// `""` is the core group.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub api_groups: Vec<String>,
    /// With subresources as `pods/log`, `*/scale`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resources: Vec<String>,
    /// Empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, or prefixes ending in `*`.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted || item == "*")
}

impl Rule {
    /// Whether it allows a request.
    pub fn allows(&self, info: &RequestInfo) -> bool {
        if !has(&self.verbs, info.verb) {
            return false;
        }
        if !info.is_resource {
            return self.non_resource_urls.iter().any(|pattern| path_matches(pattern, &info.path));
        }
        has(&self.api_groups, &info.group)
            && self.resources.iter().any(|pattern| resource_matches(pattern, info))
            && (self.resource_names.is_empty() || self.resource_names.contains(&info.name))
    }

    /// As escalation messages show it (`CompactString`).
    fn describe(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quote_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list as Go's `%q` prints it.
pub fn quote_list(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|item| quote(item)).collect::<Vec<_>>().join(" "))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

fn resource_matches(pattern: &str, info: &RequestInfo) -> bool {
    if pattern == "*" {
        return true;
    }
    if info.subresource.is_empty() {
        return pattern == info.resource;
    }
    match pattern.split_once('/') {
        Some((resource, subresource)) => {
            subresource == info.subresource && (resource == "*" || resource == info.resource)
        }
        None => false,
    }
}

/// What of `wanted` the `held` rules don't cover, described for a message; empty if they do.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let mut uncovered: Vec<Rule> = Vec::new();
    for atom in wanted.iter().flat_map(atoms) {
        if held.iter().any(|rule| covers(rule, &atom)) {
            continue;
        }
        // Rules that differ in their verb only are shown as one (CompactRules).
        let same = |rule: &&mut Rule| {
            rule.api_groups == atom.api_groups
                && rule.resources == atom.resources
                && rule.resource_names == atom.resource_names
                && rule.non_resource_urls == atom.non_resource_urls
        };
        match uncovered.iter_mut().find(same).filter(|rule| rule.non_resource_urls.is_empty()) {
            Some(rule) if rule.verbs.contains(&atom.verbs[0]) => {}
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => uncovered.push(atom),
        }
    }
    let mut described: Vec<String> = uncovered.iter().map(Rule::describe).collect();
    described.sort();
    described.dedup();
    described
}

/// `BreakdownRule`: one rule for each combination.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let atom = |names: Vec<String>| Rule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    resource_names: names,
                    non_resource_urls: Vec::new(),
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom(Vec::new()));
                }
                atoms.extend(rule.resource_names.iter().map(|name| atom(vec![name.clone()])));
            }
        }
        atoms.extend(rule.non_resource_urls.iter().map(|url| Rule {
            verbs: vec![verb.clone()],
            non_resource_urls: vec![url.clone()],
            ..Rule::default()
        }));
    }
    atoms
}

/// `ruleCovers`, for an atom.
fn covers(rule: &Rule, atom: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| wanted.iter().all(|item| has(held, item));
    let resources = atom.resources.iter().all(|wanted| {
        has(&rule.resources, wanted)
            || wanted
                .split_once('/')
                .is_some_and(|(_, sub)| rule.resources.iter().any(|held| *held == format!("*/{sub}")))
    });
    let names = match (rule.resource_names.as_slice(), atom.resource_names.as_slice()) {
        ([], _) => true,
        (_, []) => false,
        (held, wanted) => wanted.iter().all(|name| held.contains(name)),
    };
    let urls = atom.non_resource_urls.iter().all(|wanted| {
        rule.non_resource_urls.iter().any(|held| {
            held == wanted
                || held.strip_suffix('*').is_some_and(|prefix| wanted.trim_end_matches('*').starts_with(prefix))
        })
    });
    all(&rule.verbs, &atom.verbs) && all(&rule.api_groups, &atom.api_groups) && resources && names && urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        Rule {
            verbs: owned(verbs),
            api_groups: owned(groups),
            resources: owned(resources),
            resource_names: owned(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn asks(verb: &'static str, resource: &str, subresource: &str, name: &str) -> RequestInfo {
        RequestInfo {
            is_resource: true,
            verb,
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn requests() {
        let pods = rule(&[""], &["pods"], &[], &["get"]);
        assert!(pods.allows(&asks("get", "pods", "", "a")));
        assert!(!pods.allows(&asks("get", "pods", "log", "a")));
        assert!(!pods.allows(&asks("list", "pods", "", "")));
        assert!(rule(&["*"], &["*/log"], &[], &["*"]).allows(&asks("get", "pods", "log", "a")));
        let named = rule(&[""], &["pods"], &["a"], &["get"]);
        assert!(named.allows(&asks("get", "pods", "", "a")) && !named.allows(&asks("get", "pods", "", "b")));
        let urls = Rule { verbs: vec!["get".into()], non_resource_urls: vec!["/healthz*".into()], ..Rule::default() };
        let path = |path: &str| RequestInfo { verb: "get", path: path.to_owned(), ..RequestInfo::default() };
        assert!(urls.allows(&path("/healthz/etcd")) && !urls.allows(&path("/metrics")));
    }

    #[test]
    fn escalation_is_told_by_what_is_missing() {
        let held = [rule(&[""], &["pods"], &[], &["get", "list"])];
        assert!(missing(&held, &[rule(&[""], &["pods"], &["a"], &["get"])]).is_empty());
        assert_eq!(
            missing(&held, &[rule(&[""], &["pods", "secrets"], &[], &["get", "list"])]),
            [r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#]
        );
        assert!(missing(&[rule(&["*"], &["*"], &[], &["*"])], &held).is_empty());
    }
}
