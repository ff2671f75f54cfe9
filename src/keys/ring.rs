//! What a session has of keys. The agent's, for the session's life.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::plan::{Key, Plan};
use crate::redact::{Redactor, Shared};
use crate::session::SessionError;
use crate::session::record::{KeyRecord, write_private};

/// Former values that are still kept out of what is shown, of each key.
const FORMER: usize = 16;
/// The pace at which a key is tried again that could not be issued anew, at most.
const SLOWEST_RETRY: Duration = Duration::from_secs(60);

/// A key that was issued.
#[derive(Clone, PartialEq)]
pub struct Issued {
    /// Itself.
    pub value: String,
    /// How the file had it then: by this it is revoked.
    pub definition: Key,
    /// When.
    pub at: SystemTime,
}

impl Issued {
    /// When it is to be issued anew, if ever.
    pub fn expires(&self) -> Option<SystemTime> {
        self.at.checked_add(self.definition.ttl?.duration())
    }
}

/// Why a key could not be issued anew, and when to try again.
#[derive(Clone)]
struct Problem {
    message: String,
    retry: SystemTime,
}

/// The keys of one session.
#[derive(Default)]
pub struct Keyring {
    issued: BTreeMap<String, Issued>,
    former: BTreeMap<String, Vec<String>>,
    problems: BTreeMap<String, Problem>,
    /// Replaced or no longer in the file, and still to be revoked.
    retired: Vec<(String, Issued)>,
    redactor: Shared,
    file: Option<PathBuf>,
}

impl Keyring {
    /// Without keys yet: `keys.json` is written with the first, and `redactor` knows each from when it is put in.
    pub fn new(file: PathBuf, redactor: Shared) -> Self {
        Self { file: Some(file), redactor, ..Self::default() }
    }

    /// Takes the session's keys, former ones too, out of what is shown.
    pub fn redactor(&self) -> Redactor {
        self.redactor.get()
    }

    /// One key, if it was issued.
    pub fn get(&self, name: &str) -> Option<&Issued> {
        self.issued.get(name)
    }

    /// All values, by name.
    pub fn values(&self) -> BTreeMap<String, String> {
        self.issued.iter().map(|(name, key)| (name.clone(), key.value.clone())).collect()
    }

    /// Puts in a value that was just issued; the one before is retired. Returns whether it is another one.
    ///
    /// # Errors
    /// When `keys.json` cannot be written.
    pub fn put(&mut self, name: &str, definition: &Key, value: String) -> Result<bool, SessionError> {
        self.problems.remove(name);
        let new = Issued { value, definition: definition.clone(), at: SystemTime::now() };
        let before = self.issued.insert(name.to_owned(), new);
        let changed = before.as_ref().is_none_or(|before| self.issued[name].value != before.value);
        if let Some(before) = before.filter(|_| changed) {
            self.retire(name, before);
        }
        self.changed()?;
        Ok(changed)
    }

    /// Keeps a secret that is no key out of whatever is shown.
    ///
    /// # Errors
    /// When `keys.json` cannot be written.
    pub fn hide(&mut self, name: &str, secret: &str) -> Result<(), SessionError> {
        let former = self.former.entry(name.to_owned()).or_default();
        if former.iter().any(|known| known == secret) {
            return Ok(());
        }
        former.push(secret.to_owned());
        self.changed()
    }

    /// The key stays, as the file now has it: its `ttl` counts from when it was issued, and it is revoked as the file now says.
    ///
    /// # Errors
    /// When `keys.json` cannot be written.
    pub fn keep(&mut self, name: &str, definition: &Key) -> Result<(), SessionError> {
        match self.issued.get_mut(name) {
            Some(issued) if issued.definition != *definition => {
                definition.clone_into(&mut issued.definition);
                self.changed()
            }
            _ => Ok(()),
        }
    }

    /// Retires what is not in the plan. Returns whether there was any.
    ///
    /// # Errors
    /// When `keys.json` cannot be written.
    pub fn keep_only(&mut self, plan: &Plan) -> Result<bool, SessionError> {
        let known = |name: &String| plan.nodes.iter().any(|node| super::is_key(node) && node.id.name == *name);
        let gone: Vec<String> = self.issued.keys().filter(|name| !known(name)).cloned().collect();
        for name in &gone {
            if let Some(before) = self.issued.remove(name) {
                self.problems.remove(name);
                self.retire(name, before);
            }
        }
        if !gone.is_empty() {
            self.changed()?;
        }
        Ok(!gone.is_empty())
    }

    /// What was replaced and is to be revoked; each is handed out once.
    pub fn take_retired(&mut self) -> Vec<(String, Issued)> {
        std::mem::take(&mut self.retired)
    }

    /// Everything: the session ends.
    pub fn take_all(&mut self) -> Vec<(String, Issued)> {
        let mut all = self.take_retired();
        all.extend(std::mem::take(&mut self.issued));
        all.retain(|(_, key)| key.definition.revoke.is_some());
        all
    }

    /// It could not be issued anew: told by `envctl keys`, and tried again later.
    ///
    /// # Errors
    /// When `keys.json` cannot be written.
    pub fn failed(&mut self, name: &str, message: String) -> Result<(), SessionError> {
        let Some(issued) = self.issued.get(name) else { return Ok(()) };
        let pace = issued.definition.ttl.map_or(SLOWEST_RETRY, |ttl| ttl.duration());
        let pace = pace.clamp(Duration::from_secs(1), SLOWEST_RETRY);
        self.problems.insert(name.to_owned(), Problem { message, retry: SystemTime::now() + pace });
        self.changed()
    }

    /// When the first key is to be issued anew.
    pub fn next_due(&self) -> Option<SystemTime> {
        self.issued.iter().filter_map(|(name, key)| self.due_at(name, key)).min()
    }

    /// The keys whose time has come.
    pub fn due(&self) -> Vec<String> {
        let now = SystemTime::now();
        let due = self.issued.iter().filter(|(name, key)| self.due_at(name, key).is_some_and(|at| at <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    fn due_at(&self, name: &str, key: &Issued) -> Option<SystemTime> {
        let expires = key.expires()?;
        Some(self.problems.get(name).map_or(expires, |problem| problem.retry.max(expires)))
    }

    fn retire(&mut self, name: &str, before: Issued) {
        let former = self.former.entry(name.to_owned()).or_default();
        former.push(before.value.clone());
        let surplus = former.len().saturating_sub(FORMER);
        former.drain(..surplus);
        if before.definition.revoke.is_some() {
            self.retired.push((name.to_owned(), before));
        }
    }

    fn changed(&self) -> Result<(), SessionError> {
        let values = self.issued.iter().map(|(name, key)| (name.as_str(), key.value.as_str()));
        let former = self.former.iter().flat_map(|(name, all)| all.iter().map(|value| (name.as_str(), value.as_str())));
        self.redactor.set(Redactor::new(values.chain(former)));
        let Some(file) = &self.file else { return Ok(()) };
        // Those no longer in the file too: they may still stand in logs.
        let gone = self.former.iter().map(|(name, former)| (name, KeyRecord::gone(former.clone())));
        let here = self.issued.iter().map(|(name, key)| (name, self.record(name, key)));
        let records: BTreeMap<&String, KeyRecord> = gone.chain(here).collect();
        let mut text = serde_json::to_vec_pretty(&records)
            .map_err(|source| SessionError::Record { path: file.clone(), source })?;
        text.push(b'\n');
        write_private(file, &text)
    }

    fn record(&self, name: &str, key: &Issued) -> KeyRecord {
        KeyRecord {
            value: key.value.clone(),
            source: super::source(&key.definition),
            issued: milliseconds(key.at),
            expires: key.expires().map(milliseconds),
            problem: self.problems.get(name).map(|problem| self.redactor.get().text(&problem.message).into_owned()),
            former: self.former.get(name).cloned().unwrap_or_default(),
        }
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Encoding, KeyAction, KeySource};

    fn key(ttl: Option<&str>, revocable: bool) -> Key {
        let revoke = revocable.then(|| KeyAction::Exec { service: "api".to_owned(), command: Vec::new() });
        let source = KeySource::Generate { bytes: 32, encoding: Encoding::Hex };
        Key { source, revoke, ttl: ttl.map(|ttl| ttl.parse().expect("a time")), timeout: None }
    }

    #[test]
    fn a_replaced_key_is_revoked_once_and_never_shown_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let shared = Shared::default();
        let mut ring = Keyring::new(directory.path().join("keys.json"), shared.clone());
        assert!(ring.put("K", &key(None, true), "first-value".to_owned()).expect("written"));
        assert!(!ring.put("K", &key(None, true), "first-value".to_owned()).expect("written"));
        assert!(ring.put("K", &key(None, true), "second-value".to_owned()).expect("written"));
        assert_eq!(shared.get().text("first-value second-value"), "[redacted K] [redacted K]");
        let retired: Vec<String> = ring.take_retired().into_iter().map(|(_, key)| key.value).collect();
        assert_eq!(retired, ["first-value"]);
        assert!(ring.take_retired().is_empty());
        let written = std::fs::read_to_string(directory.path().join("keys.json")).expect("there");
        let records: BTreeMap<String, KeyRecord> = serde_json::from_str(&written).expect("JSON");
        assert_eq!(
            (records["K"].value.as_str(), records["K"].former.as_slice()),
            ("second-value", &["first-value".to_owned()][..])
        );
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(directory.path().join("keys.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_is_due_when_its_time_is_over_and_again_a_while_after_it_failed() {
        let mut ring = Keyring::default();
        ring.put("LONG", &key(Some("1h"), false), "value-1".to_owned()).expect("kept");
        ring.put("NEVER", &key(None, false), "value-2".to_owned()).expect("kept");
        assert!(ring.due().is_empty());
        ring.put("NOW", &key(Some("1ms"), false), "value-3".to_owned()).expect("kept");
        ring.issued.get_mut("NOW").expect("just put in").at -= Duration::from_secs(5);
        assert_eq!(ring.due(), ["NOW"]);
        ring.failed("NOW", "no".to_owned()).expect("kept");
        assert!(ring.due().is_empty());
        assert!(ring.next_due().is_some_and(|due| due > SystemTime::now()));
    }

    #[test]
    fn at_the_end_only_what_can_be_revoked_is() {
        let mut ring = Keyring::default();
        ring.put("A", &key(None, true), "value-1".to_owned()).expect("kept");
        ring.put("B", &key(None, false), "value-2".to_owned()).expect("kept");
        ring.put("A", &key(None, true), "value-3".to_owned()).expect("kept");
        let values: Vec<String> = ring.take_all().into_iter().map(|(_, key)| key.value).collect();
        assert_eq!(values, ["value-1", "value-3"]);
    }
}
