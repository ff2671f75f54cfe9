//! From everything that is there to what somebody left: pure.
//!
//! What an owner made goes with the owner: the pods of a leftover Deployment are part of it, those of the session's own are
//! nobody's leftovers, and what has lost its owner or is being deleted is on its way out. A namespace takes what is in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::cluster::apply::{FIELD_MANAGER, Kind};

/// An object that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, if it is in one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Seconds since 1970, by the cluster's clock.
    pub created: i64,
    /// When it was last written, as a revision.
    pub revision: Option<u64>,
    /// The UIDs of its owners.
    pub owners: Vec<String>,
    /// It is being deleted.
    pub deleting: bool,
    /// Who wrote it first, as field managers are called.
    pub manager: Option<String>,
    /// The session that it is labelled with.
    pub session: Option<String>,
}

/// What was left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// Where such objects are.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its namespace, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The account that created it, where the cluster tells (the embedded one does).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The field manager that wrote it first: by default the name of the client program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// How many objects go with it.
    pub with: usize,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.kind.kind, self.name)?;
        if let Some(namespace) = &self.namespace {
            write!(formatter, " in {namespace}")?;
        }
        match self.with {
            0 => {}
            1 => write!(formatter, " and 1 object of it")?,
            several => write!(formatter, " and {several} objects of it")?,
        }
        match (&self.account, &self.manager) {
            (Some(account), Some(manager)) => write!(formatter, ", created by {account} ({manager})"),
            (Some(account), None) => write!(formatter, ", created by {account}"),
            (None, Some(manager)) => write!(formatter, ", created by {manager}"),
            (None, None) => Ok(()),
        }
    }
}

/// Where an object belongs in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root<'a> {
    /// To something that was there, or to the session.
    Known,
    /// To something that is on its way out.
    Going,
    /// To this one, maybe itself.
    Left(&'a str),
}

/// What of `objects` was not there, by namespace, kind and name.
pub fn left(objects: &[Object], was_there: &HashSet<String>, session: &str) -> Vec<Leftover> {
    let by_uid: HashMap<&str, &Object> = objects.iter().map(|object| (object.uid.as_str(), object)).collect();
    let namespaces: HashMap<&str, &Object> = objects
        .iter()
        .filter(|object| object.kind.kind == "Namespace" && object.kind.group.is_empty())
        .map(|object| (object.name.as_str(), object))
        .collect();
    let scope = Scope { by_uid, namespaces, was_there, session };
    let mut found: BTreeMap<&str, Leftover> = BTreeMap::new();
    let mut with: HashMap<&str, usize> = HashMap::new();
    for object in objects {
        match scope.root(object) {
            Root::Left(uid) if uid == object.uid => {
                found.insert(
                    uid,
                    Leftover {
                        kind: object.kind.clone(),
                        namespace: object.namespace.clone(),
                        name: object.name.clone(),
                        uid: object.uid.clone(),
                        account: None,
                        manager: object.manager.clone(),
                        with: 0,
                    },
                );
            }
            Root::Left(uid) => *with.entry(uid).or_default() += 1,
            Root::Known | Root::Going => {}
        }
    }
    let mut found: Vec<Leftover> = found
        .into_values()
        .map(|leftover| Leftover { with: with.get(leftover.uid.as_str()).copied().unwrap_or(0), ..leftover })
        .collect();
    found.sort_by(|one, other| {
        (&one.namespace, &one.kind.kind, &one.name).cmp(&(&other.namespace, &other.kind.kind, &other.name))
    });
    found
}

struct Scope<'a> {
    by_uid: HashMap<&'a str, &'a Object>,
    namespaces: HashMap<&'a str, &'a Object>,
    was_there: &'a HashSet<String>,
    session: &'a str,
}

impl<'a> Scope<'a> {
    fn root(&self, object: &'a Object) -> Root<'a> {
        let mut at = object;
        // Owners can be made to own each other: nobody's chain is longer than there are objects.
        for _ in 0..=self.by_uid.len() {
            if at.deleting {
                return Root::Going;
            }
            if self.was_there.contains(&at.uid) || self.is_sessions(at) {
                return Root::Known;
            }
            let owner = self.owner(at);
            match owner {
                Some(Some(owner)) => at = owner,
                Some(None) => return Root::Going,
                None => return Root::Left(&at.uid),
            }
        }
        Root::Left(&object.uid)
    }

    /// Applied by envctl itself.
    fn is_sessions(&self, object: &Object) -> bool {
        object.session.as_deref() == Some(self.session) && object.manager.as_deref() == Some(FIELD_MANAGER)
    }

    /// What an object goes with: `Some(None)`: with something that is gone already.
    fn owner(&self, object: &'a Object) -> Option<Option<&'a Object>> {
        if !object.owners.is_empty() {
            // Garbage is collected when the last owner has gone.
            return Some(object.owners.iter().find_map(|uid| self.by_uid.get(uid.as_str()).copied()));
        }
        // A volume that was made for a claim is named after it, and goes with it.
        if object.kind.kind == "PersistentVolume"
            && let Some(claim) = object.name.strip_prefix("pvc-").and_then(|uid| self.by_uid.get(uid))
        {
            return Some(Some(claim));
        }
        let namespace = self.namespaces.get(object.namespace.as_deref()?).copied()?;
        let is_left = namespace.deleting || !(self.was_there.contains(&namespace.uid) || self.is_sessions(namespace));
        is_left.then_some(Some(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, owners: &[&str]) -> Object {
        Object {
            kind: Kind {
                group: String::new(),
                version: "v1".to_owned(),
                kind: kind.to_owned(),
                plural: format!("{}s", kind.to_lowercase()),
                namespaced: kind != "Namespace" && kind != "PersistentVolume",
            },
            namespace: (kind != "Namespace" && kind != "PersistentVolume").then(|| "ours".to_owned()),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            created: 0,
            revision: None,
            owners: owners.iter().map(|owner| format!("uid-{owner}")).collect(),
            deleting: false,
            manager: None,
            session: None,
        }
    }

    fn names(objects: &[Object], was_there: &[&str]) -> Vec<String> {
        let was_there = was_there.iter().map(|name| format!("uid-{name}")).collect();
        left(objects, &was_there, "s").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn children_are_folded_into_what_was_left() {
        let objects = [
            object("Namespace", "ours", &[]),
            object("Deployment", "api", &[]),
            object("ReplicaSet", "api-2", &["api"]),
            object("Pod", "api-2-x", &["api-2"]),
            object("Deployment", "model", &[]),
            object("ReplicaSet", "model-1", &["model"]),
            object("Pod", "model-1-x", &["model-1"]),
            object("ConfigMap", "note", &[]),
        ];
        assert_eq!(
            names(&objects, &["ours", "api"]),
            ["ConfigMap/note in ours", "Deployment/model in ours and 2 objects of it"]
        );
    }

    #[test]
    fn what_is_on_its_way_out_is_not_left() {
        let mut going = object("Deployment", "going", &[]);
        going.deleting = true;
        let objects = [
            object("Namespace", "ours", &[]),
            going,
            object("ReplicaSet", "going-1", &["going"]),
            object("Pod", "orphan", &["gone"]),
        ];
        assert_eq!(names(&objects, &["ours"]), Vec::<String>::new());
    }

    #[test]
    fn a_namespace_takes_what_is_in_it_and_a_claim_its_volume() {
        let mut inside = object("ConfigMap", "kube-root-ca.crt", &[]);
        inside.namespace = Some("theirs".to_owned());
        let objects = [
            object("Namespace", "ours", &[]),
            object("Namespace", "theirs", &[]),
            inside,
            object("PersistentVolumeClaim", "data", &[]),
            object("PersistentVolume", "pvc-uid-data", &[]),
        ];
        assert_eq!(
            names(&objects, &["ours"]),
            ["Namespace/theirs and 1 object of it", "PersistentVolumeClaim/data in ours and 1 object of it"]
        );
        assert_eq!(names(&objects, &["ours", "theirs", "data", "kube-root-ca.crt"]), Vec::<String>::new());
    }

    #[test]
    fn what_envctl_applied_later_is_the_sessions() {
        let mut ours = object("Secret", "envctl-keys", &[]);
        ours.session = Some("s".to_owned());
        ours.manager = Some("envctl".to_owned());
        let mut copied = object("Secret", "copy", &[]);
        copied.session = Some("s".to_owned());
        copied.manager = Some("kubectl".to_owned());
        assert_eq!(
            names(&[object("Namespace", "ours", &[]), ours, copied], &["ours"]),
            ["Secret/copy in ours, created by kubectl"]
        );
    }

    #[test]
    fn owners_in_a_circle_are_left_behind_too() {
        let objects = [object("Namespace", "ours", &[]), object("A", "a", &["b"]), object("B", "b", &["a"])];
        assert_eq!(names(&objects, &["ours"]).len(), 2);
    }
}
