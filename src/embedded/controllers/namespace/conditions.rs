//! What the deletion of a namespace still waits for, as its conditions say it.
//!
//! Ports `pkg/controller/namespace/deletion/status_condition_utils.go`. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ApiResource;

use super::super::shared::worker::SyncError;
use super::Remaining;

const ALL: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// What remains in a namespace.
#[derive(Debug, Default)]
pub struct Totals {
    resources: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Totals {
    /// Adds what became of one kind.
    pub fn add(&mut self, resource: &ApiResource, result: Result<Remaining, SyncError>) {
        let name = format!("{}.{}", resource.plural, resource.group);
        match result {
            Err(error) => self.failures.push(error.to_string()),
            Ok(remaining) if remaining.objects == 0 => {}
            Ok(remaining) => {
                self.resources.insert(name, remaining.objects);
                for (finalizer, count) in remaining.finalizers {
                    *self.finalizers.entry(finalizer).or_default() += count;
                }
            }
        }
    }

    /// Whether some objects remain.
    pub fn remain(&self) -> bool {
        !self.resources.is_empty()
    }

    /// Nothing remains and nothing failed.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.failures.is_empty()
    }

    /// What failed, if anything did.
    pub fn failure(&self) -> Option<String> {
        (!self.failures.is_empty()).then(|| self.failures.join(", "))
    }

    /// Brings the conditions up to date. True if any changed.
    pub fn update(&self, status: &mut NamespaceStatus, now: Time) -> bool {
        let mut changed = false;
        for (type_, ok_reason, ok_message) in ALL {
            let bad = self.bad(type_);
            let (value, reason, message) = match &bad {
                Some((reason, message)) => ("True", *reason, message.as_str()),
                None => ("False", ok_reason, ok_message),
            };
            let conditions = status.conditions.get_or_insert_default();
            let new = NamespaceCondition {
                type_: type_.to_owned(),
                status: value.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(now.clone()),
            };
            match conditions.iter_mut().find(|condition| condition.type_ == type_) {
                None => conditions.push(new),
                Some(old) if old.status == new.status && old.reason == new.reason && old.message == new.message => {
                    continue;
                }
                Some(old) if old.status == new.status => {
                    *old = NamespaceCondition { last_transition_time: old.last_transition_time.clone(), ..new };
                }
                Some(old) => *old = new,
            }
            changed = true;
        }
        changed
    }

    fn bad(&self, type_: &str) -> Option<(&'static str, String)> {
        let list = |of: &BTreeMap<String, usize>, join: &str| {
            let all = of.iter().map(|(name, count)| format!("{name} {join} {count} resource instances"));
            all.collect::<Vec<_>>().join(", ")
        };
        match type_ {
            "NamespaceContentRemaining" if !self.resources.is_empty() => {
                Some(("SomeResourcesRemain", format!("Some resources are remaining: {}", list(&self.resources, "has"))))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => Some((
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {}", list(&self.finalizers, "in")),
            )),
            "NamespaceDeletionContentFailure" if !self.failures.is_empty() => {
                let mut failures = self.failures.clone();
                failures.sort();
                let message = format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    failures.len(),
                    failures.join(", ")
                );
                Some(("ContentDeletionFailed", message))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_remains_and_change_only_when_it_changes() {
        let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        let mut totals = Totals::default();
        let finalizers = BTreeMap::from([("a.example/b".to_owned(), 1)]);
        totals.add(&pods, Ok(Remaining { objects: 2, finalizers, ..Remaining::default() }));
        let mut status = NamespaceStatus::default();
        let now = crate::embedded::controllers::shared::meta::now();
        assert!(totals.update(&mut status, now.clone()));
        assert!(!totals.update(&mut status, now.clone()), "nothing changed");
        let of = |status: &NamespaceStatus, at: usize| {
            let condition = &status.conditions.as_ref().expect("set")[at];
            (condition.status.clone(), condition.message.clone().unwrap_or_default())
        };
        let remain = "Some resources are remaining: pods. has 2 resource instances";
        assert_eq!(of(&status, 3), ("True".to_owned(), remain.to_owned()));
        assert!(of(&status, 4).1.ends_with("a.example/b in 1 resource instances"), "{:?}", of(&status, 4));
        assert!(Totals::default().update(&mut status, now));
        assert_eq!(of(&status, 3).0, "False");
    }
}
