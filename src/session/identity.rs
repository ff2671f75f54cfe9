//! Who a session is: (project root, environment, `--session`), and the id that follows from it.
//!
//! The same three always give the same id, so two `up`s at once meet in one directory and under one lock.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What tells one session from another on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The project's root, absolute.
    pub root: PathBuf,
    /// The environment's name.
    pub environment: String,
    /// `--session`, by default the environment's name.
    pub session: String,
}

impl Identity {
    /// For an environment of a project; without a name, the session is called as the environment.
    pub fn new(root: &Path, environment: &str, session: Option<&str>) -> Self {
        Self {
            root: root.to_owned(),
            environment: environment.to_owned(),
            session: session.unwrap_or(environment).to_owned(),
        }
    }

    /// The session's id: a DNS label, readable, unique by its last eight digits.
    pub fn id(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.root.as_os_str().as_encoded_bytes());
        for part in [&self.environment, &self.session] {
            digest.update([0]);
            digest.update(part.as_bytes());
        }
        let mut id = slug(&self.environment);
        if self.session != self.environment {
            let _infallible = write!(id, "-{}", slug(&self.session));
        }
        id.push('-');
        for byte in &digest.finalize()[..4] {
            let _infallible = write!(id, "{byte:02x}");
        }
        id
    }

    /// The name of the session that would have this id in a project's environment; `None`: it is nobody's there.
    pub fn of_id(root: &Path, environment: &str, id: &str) -> Option<String> {
        let is_it = |name: &str| Self::new(root, environment, Some(name)).id() == id;
        let named = id.strip_prefix(&slug(environment)).and_then(|rest| rest.strip_prefix('-'));
        let named = named.and_then(|rest| rest.rsplit_once('-')).map(|(name, _digest)| name);
        [Some(environment), named].into_iter().flatten().find(|name| is_it(name)).map(str::to_owned)
    }

    /// The namespace of the session's objects: a DNS label that shows whose it is in a shared cluster.
    pub fn namespace(&self) -> String {
        format!("envctl-{}", self.id())
    }

    /// The namespace on a cluster that others use too: no two sessions ever have the same, not even one after the other (what the
    /// last left may still be going) or on machines with the same paths.
    pub fn shared_namespace(&self) -> String {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        format!("{}-{}", self.namespace(), &unique[..5])
    }
}

/// At most 20 characters of lower-case letters, digits and inner dashes.
fn slug(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(20).collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() { "session".to_owned() } else { clean.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_name() {
        let root = Path::new("/p");
        let id = |name| Identity::new(root, "platform", name).id();
        let of = |id: &str| Identity::of_id(root, "platform", id);
        assert_eq!(of(&id(None)).as_deref(), Some("platform"));
        assert_eq!(of(&id(Some("my-branch"))).as_deref(), Some("my-branch"));
        for other in ["my-branch", "platform", &Identity::new(root, "other", None).id(), "platform-00000000"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_is_stable_readable_and_a_dns_label() {
        let one = Identity::new(Path::new("/p"), "platform", None);
        assert_eq!(one.id(), Identity::new(Path::new("/p"), "platform", None).id());
        assert!(one.id().starts_with("platform-"), "{}", one.id());
        let named = Identity::new(Path::new("/p"), "platform", Some("My Branch/№1"));
        assert!(named.id().starts_with("platform-my-branch--1-"), "{}", named.id());
        let long = Identity::new(Path::new("/p"), &"x".repeat(80), Some(&"y".repeat(80)));
        assert!(long.shared_namespace().len() <= 63, "{}", long.shared_namespace());
        assert!(long.shared_namespace().starts_with(&format!("{}-", long.namespace())));
    }

    #[test]
    fn every_part_of_the_identity_counts() {
        let ids = [("/p", "a", Some("b")), ("/q", "a", Some("b")), ("/p", "b", Some("b")), ("/p", "a", Some("c"))]
            .map(|(root, environment, session)| Identity::new(Path::new(root), environment, session).id());
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[index + 1..].contains(id), "{ids:?}");
        }
    }
}
